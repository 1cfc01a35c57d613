"""Metrics: numbers gathered over batches, in variables, so that a jitted step can update them.

>>> import bevel as bv, bevel.numpy as bnp
>>> from bevel import nn
>>> metrics = nn.MultiMetric(accuracy=nn.metrics.Accuracy(), loss=nn.metrics.Average("loss"))
>>> step = bv.jit(lambda m, logits, labels: m.update(logits=logits, labels=labels, loss=0.5))
>>> step(metrics, bnp.eye(3), bnp.array([0, 1, 1]))
>>> {name: round(float(x), 3) for name, x in metrics.compute().items()}
{'accuracy': 0.667, 'loss': 0.5}
"""

from __future__ import annotations

from typing import Any, NamedTuple

import bevel.numpy as bnp
from bevel.core import dtypes
from bevel.nn.module import Module
from bevel.nn.states import split
from bevel.nn.variable import Variable
from bevel.numpy.convert import enter


class MetricState(Variable):
    """What a metric has gathered."""

    __slots__ = ()


class Metric(Module):
    """Base of metrics: a subclass has `reset()`, `update(**kwargs)` and `compute()`."""

    def __init__(self) -> None:
        raise NotImplementedError(f"{type(self).__name__} needs an __init__ of its own")

    def reset(self) -> None:
        """Forget what was gathered."""
        raise NotImplementedError(f"{type(self).__name__} needs a method reset(self)")

    def update(self, **kwargs: Any) -> None:
        """Take another batch into account."""
        raise NotImplementedError(f"{type(self).__name__} needs a method update(self, **kwargs)")

    def compute(self) -> Any:
        """The value over all batches since the last reset."""
        raise NotImplementedError(f"{type(self).__name__} needs a method compute(self)")

    def split(self, *filters: Any) -> tuple[Any, ...]:
        """`nn.split` of the metric."""
        return split(self, *filters)


def _zero(dtype: Any) -> MetricState:
    return MetricState(bnp.zeros((), dtype))


def _argument(metric: Any, kwargs: dict[str, Any]) -> Any:
    if metric.argname not in kwargs:
        raise TypeError(
            f"{type(metric).__name__}.update: the keyword argument {metric.argname!r} is missing; "
            f"there are {sorted(kwargs)}.\n"
            f"Write instead: metric.update({metric.argname}=values), or "
            f"{type(metric).__name__}('name') for values under another name."
        )
    return enter(kwargs[metric.argname])


class Average(Metric):
    """The mean of all values; NaN before the first.

    Args:
        argname: name under which `update` gets the values.

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> mean = nn.metrics.Average()
    >>> mean.update(values=bnp.array([1.0, 2.0, 3.0, 4.0]))
    >>> mean.update(values=6.5)
    >>> float(mean.compute())
    3.299999952316284
    """

    def __init__(self, argname: str = "values"):
        self.argname = argname
        self.total = _zero(dtypes.float32)
        self.count = _zero(dtypes.int32)

    def reset(self) -> None:
        """Forget all values."""
        self.total[...] = 0
        self.count[...] = 0

    def update(self, mask: Any = None, **kwargs: Any) -> None:
        """Take values into account.

        Args:
            mask: which values count; broadcasts against them.
            kwargs: has the values under the metric's `argname`; others are not looked at.

        Raises:
            TypeError: there are no values.
        """
        values = _argument(self, kwargs)
        if mask is None:
            self.total[...] += values.sum().astype(dtypes.float32)
            self.count[...] += values.size
            return
        mask = bnp.broadcast_to(enter(mask).astype(bool), values.shape)
        self.total[...] += bnp.where(mask, values, 0).sum().astype(dtypes.float32)
        self.count[...] += mask.sum().astype(dtypes.int32)

    def compute(self) -> Any:
        """The mean, a float32 scalar."""
        return self.total.value / self.count.value


class Statistics(NamedTuple):
    """What `Welford` computes."""

    mean: Any
    standard_error_of_mean: Any
    standard_deviation: Any


class Welford(Metric):
    """Mean and deviation of all values (Welford, Technometrics 1962; Chan et al., 1983).

    Args:
        argname: name under which `update` gets the values.

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> spread = nn.metrics.Welford()
    >>> spread.update(values=bnp.array([1.0, 2.0, 3.0, 4.0]))
    >>> spread.update(values=bnp.array([3.0, 2.0, 1.0, 0.0]))
    >>> [round(float(x), 4) for x in spread.compute()]
    [2.0, 0.433, 1.2247]
    """

    def __init__(self, argname: str = "values"):
        self.argname = argname
        self.count = _zero(dtypes.int32)
        self.mean = _zero(dtypes.float32)
        self.m2 = _zero(dtypes.float32)

    def reset(self) -> None:
        """Forget all values."""
        for variable in (self.count, self.mean, self.m2):
            variable[...] = 0

    def update(self, **kwargs: Any) -> None:
        """Take values into account: `kwargs` has them under the metric's `argname`.

        Raises:
            TypeError: there are no values.
        """
        values = _argument(self, kwargs).astype(dtypes.float32)
        n, before = values.size, self.count.value
        self.count[...] += n
        share = n / self.count.value
        delta = values.mean() - self.mean.value
        self.mean[...] += delta * share
        self.m2[...] += values.var() * n + delta * delta * before * share

    def compute(self) -> Statistics:
        """Mean, standard error of the mean and standard deviation, float32 scalars."""
        count = self.count.value
        deviation = bnp.sqrt(self.m2.value / count)
        return Statistics(self.mean.value, deviation / bnp.sqrt(count), deviation)


class Accuracy(Average):
    """The share of right predictions.

    Args:
        threshold: for two classes: the logit from which on a prediction is positive. Otherwise
            the prediction is the largest of the logits.
        argname: not used by `update`, which takes `logits` and `labels`.

    Raises:
        TypeError: the threshold is no float.

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> right = nn.metrics.Accuracy()
    >>> right.update(logits=bnp.eye(4), labels=bnp.array([0, 1, 2, 0]))
    >>> float(right.compute())
    0.75
    """

    def __init__(self, threshold: float | None = None, argname: str = "values"):
        if threshold is not None and not isinstance(threshold, float):
            raise TypeError(f"Accuracy: threshold is a float, not {threshold!r}; write 0.5")
        super().__init__(argname)
        self.threshold = threshold

    def update(self, *, logits: Any, labels: Any, mask: Any = None, **_: Any) -> None:
        """Take predictions into account.

        Args:
            logits: (..., classes), or (...) with a threshold.
            labels: (...) integers.
            mask: which of them count; broadcasts against the labels.

        Raises:
            ValueError: logits and labels do not fit, or labels are no integers.
        """
        logits, labels = enter(logits), enter(labels)
        binary = self.threshold is not None
        if logits.ndim != labels.ndim + (not binary):
            raise ValueError(
                f"Accuracy: logits of shape {logits.shape} and labels of shape {labels.shape}.\n"
                "Why: "
                + ("with a threshold" if binary else "without a threshold")
                + " logits have "
                + ("the labels' axes." if binary else "the labels' axes and one of classes.")
            )
        if not dtypes.is_integer(labels.dtype):
            raise ValueError(f"Accuracy: labels are integers, not {labels.dtype}")
        if binary:
            right = (logits >= self.threshold) == (labels > 0)
        else:
            right = logits.argmax(axis=-1) == labels
        super().update(mask, **{self.argname: right})


class MultiMetric(Metric):
    """Several metrics that are reset, updated and computed together.

    Args:
        metrics: metrics by name; each is an attribute.

    Raises:
        ValueError: a metric has the name of a method.

    >>> from bevel import nn
    >>> both = nn.MultiMetric(loss=nn.metrics.Average("loss"), norm=nn.metrics.Average("norm"))
    >>> both.update(loss=1.0, norm=3.0)
    >>> both.compute()
    {'loss': Array(1., dtype=float32), 'norm': Array(3., dtype=float32)}
    """

    def __init__(self, **metrics: Metric):
        taken = sorted(name for name in metrics if hasattr(type(self), name))
        if taken:
            raise ValueError(f"MultiMetric: {taken} are methods; give the metrics other names")
        self._metric_names = tuple(metrics)
        for name, metric in metrics.items():
            setattr(self, name, metric)

    def _each(self) -> list[tuple[str, Any]]:
        return [(name, getattr(self, name)) for name in self._metric_names]

    def reset(self) -> None:
        """Reset all."""
        for _, metric in self._each():
            metric.reset()

    def update(self, **updates: Any) -> None:
        """Update all with the same keyword arguments; `mask` is one for all or a dict by name."""
        mask = updates.pop("mask", None)
        for name, metric in self._each():
            own = mask.get(name) if isinstance(mask, dict) else mask
            metric.update(**updates, **({} if own is None else {"mask": own}))

    def compute(self) -> dict[str, Any]:
        """The value of each by name."""
        return {name: metric.compute() for name, metric in self._each()}
