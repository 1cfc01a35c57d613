"""Optimizers of gradients of each example: some steps before the mean is taken, some after.

>>> import bevel as bv, bevel.numpy as bnp
>>> from bevel import optim
>>> from bevel.optim.experimental import aggregating
>>> tx = aggregating.process(
...     optim.identity(), aggregating.average_per_element_updates(), optim.sgd(1.0)
... )
>>> w, x = bnp.zeros(2), bnp.array([[1.0, 2.0], [3.0, 4.0]])
>>> grads = bv.vmap(bv.grad(lambda w, x: ((w - x) ** 2).sum() / 2), (None, 0))(w, x)
>>> tx.update(grads, tx.init(w), w)[0]
Array([2., 3.], dtype=float32)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import bevel.numpy as bnp
from bevel import lax
from bevel.core import tree as _tree
from bevel.optim import tree
from bevel.optim.base import (
    GradientTransformation,
    GradientTransformationExtraArgs,
    chain,
    identity,
    init_empty_state,
    safe_increment,
    with_extra_args_support,
    zero_count,
)

PerElementUpdates = AggregatedUpdates = Any
MaybeAxis = int | Sequence[int] | None


class AggregatorUpdateFn(Protocol):
    """The `update` of an aggregator."""

    def __call__(
        self, per_elt_updates: Any, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[Any, Any]:
        """One direction from many updates, and the next state."""


class Aggregator(GradientTransformationExtraArgs):
    """A transformation from updates of each example, (examples, ...), to one update."""


class AccumulateAvgUpdatesState(NamedTuple):
    """Calls since the last whole step, whether this call is one, and the mean so far."""

    micro_step: Any
    ready: Any
    avg_grad: Any


class PerElementMeanAndSumSqDiffGradsState(NamedTuple):
    """Calls since the last whole step, whether this call is one, and the statistics so far."""

    micro_step: Any
    ready: Any
    mean_grads: Any
    sum_sq_diff_grads: Any


class PerElementMeanAndVarianceEMAState(NamedTuple):
    """Step, decay, and the moving averages of mean and variance."""

    count: Any
    ema_decay: Any
    mean_grads_ema: Any
    variance_grads_ema: Any


def process(
    preprocessor: GradientTransformation,
    aggregator: GradientTransformation,
    postprocessor: GradientTransformation,
    aggregator_has_aux: bool = False,
) -> GradientTransformationExtraArgs:
    """A transformation of each example's updates, then their aggregation, then an optimizer.

    The optimizer steps only when the aggregator's state says that it is `ready`; else updates are
    zero.

    Args:
        preprocessor: of each example's updates.
        aggregator: makes one update of them.
        postprocessor: of that.
        aggregator_has_aux: whether the aggregator gives a dict of extra arguments for the
            postprocessor, too.

    >>> from bevel import optim
    >>> from bevel.optim.experimental import aggregating as a
    >>> tx = a.process(optim.clip(1.0), a.average_per_element_updates(), optim.sgd(1.0))
    >>> tx.update(bnp.array([[5.0], [0.0]]), tx.init(bnp.zeros(1)))[0]
    Array([-0.5], dtype=float32)
    """
    before, middle, after = map(with_extra_args_support, (preprocessor, aggregator, postprocessor))

    def init(params: Any) -> tuple[Any, Any, Any]:
        return before.init(params), middle.init(params), after.init(params)

    def update(
        updates: Any, state: Any, params: Any = None, **extra: Any
    ) -> tuple[Any, tuple[Any, Any, Any]]:
        updates, first = before.update(updates, state[0], params, **extra)
        updates, second = middle.update(updates, state[1], params, **extra)
        if aggregator_has_aux:
            updates, aux = updates
            extra = extra | aux
        out, third = lax.cond(
            tree.get(second, "ready", True),
            lambda: after.update(updates, state[2], params, **extra),
            lambda: (tree.zeros_like(updates), state[2]),
        )
        return out, (first, second, third)

    kind = Aggregator if isinstance(aggregator, Aggregator) else GradientTransformationExtraArgs
    return kind(init, update)


def average_per_element_updates(per_elt_axis: int | Sequence[int] = 0) -> Aggregator:
    """The mean over examples.

    >>> from bevel.optim.experimental import aggregating as a
    >>> a.average_per_element_updates().update(bnp.array([[5.0], [0.0]]), ())[0]
    Array([2.5], dtype=float32)
    """

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        return _tree.map(lambda x: bnp.mean(x, axis=_axes(per_elt_axis)), updates), state

    return Aggregator(init_empty_state, update)


def _axes(axis: int | Sequence[int]) -> tuple[int, ...]:
    return (axis,) if isinstance(axis, int) else tuple(axis)


def _steps(name: str, accumulation_steps: int) -> int:
    if accumulation_steps < 1:
        raise ValueError(f"{name}: accumulation_steps is at least 1, got {accumulation_steps}")
    return accumulation_steps


def _emitted(state: Any, steps: int, out: Any) -> tuple[Any, Any]:
    """The result and a fresh state at the last of so many calls; zeros and this state before."""
    due = state.micro_step == steps
    return tree.where(
        due,
        (out, tree.zeros_like(state)._replace(ready=bnp.array(True))),
        (tree.zeros_like(out), state),
    )


def accumulate_avg_updates(accumulation_steps: int) -> GradientTransformation:
    """The mean of so many calls at the last of them; zero before. The state says if it is `ready`.

    Raises:
        ValueError: fewer than 1.

    >>> from bevel.optim.experimental import aggregating as a
    >>> tx = a.accumulate_avg_updates(2)
    >>> first, state = tx.update(bnp.array([1.0]), tx.init(bnp.zeros(1)))
    >>> first, tx.update(bnp.array([3.0]), state)[0]
    (Array([0.], dtype=float32), Array([2.], dtype=float32))
    """
    if _steps("accumulate_avg_updates", accumulation_steps) == 1:
        return identity()

    def init(params: Any) -> AccumulateAvgUpdatesState:
        return AccumulateAvgUpdatesState(zero_count(), bnp.array(False), tree.zeros_like(params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        n = state.micro_step + 1
        mean = _tree.map(lambda u, m: m + (u - m) / n, updates, state.avg_grad)
        new = AccumulateAvgUpdatesState(n, bnp.array(False), mean)
        return _emitted(new, accumulation_steps, mean)

    return GradientTransformation(init, update)


def average_incrementally_updates(
    per_elt_axis: MaybeAxis, accumulation_steps: int
) -> GradientTransformation:
    """The mean over examples (if they have an axis) and over calls.

    >>> from bevel.optim.experimental import aggregating as a
    >>> tx = a.average_incrementally_updates(0, 2)
    >>> x = bnp.array([[1.0], [3.0]])
    >>> _, state = tx.update(x, tx.init(bnp.zeros(1)))
    >>> tx.update(x, state)[0]
    Array([2.], dtype=float32)
    """
    over_calls = accumulate_avg_updates(accumulation_steps)
    if per_elt_axis is None:
        return over_calls
    return Aggregator(*chain(average_per_element_updates(per_elt_axis), over_calls))


def get_batch_size_from_per_elt_updates(
    per_elt_updates: Any, per_elt_axis: int | Sequence[int]
) -> int:
    """How many examples there are.

    Raises:
        ValueError: the arrays do not agree.

    >>> from bevel.optim.experimental import aggregating as a
    >>> a.get_batch_size_from_per_elt_updates({"w": bnp.ones((4, 2))}, 0)
    4
    """
    sizes = {
        math.prod(bnp.shape(u)[a] for a in _axes(per_elt_axis))
        for u in _tree.leaves(per_elt_updates)
    }
    if len(sizes) != 1:
        raise ValueError(
            f"aggregating: all arrays have the same number of examples along axis {per_elt_axis}, "
            f"but they have {sorted(sizes)}"
        )
    return sizes.pop()


def _mean_and_squares(updates: Any, axis: int | Sequence[int]) -> tuple[Any, Any, int]:
    """The mean over examples, the sums of squared differences from it, and how many there are."""
    axes = _axes(axis)
    mean = _tree.map(lambda x: bnp.mean(x, axis=axes), updates)
    squares = _tree.map(
        lambda x, m: bnp.sum((x - bnp.expand_dims(m, axes)) ** 2, axis=axes), updates, mean
    )
    return mean, squares, get_batch_size_from_per_elt_updates(updates, axis)


def get_per_element_mean_and_sum_sq_diff_grads(
    per_elt_axis: int | Sequence[int] = 0, accumulation_steps: int = 1
) -> Aggregator:
    """The mean over examples, and the sums of squared differences from it (Chan et al., "Algorithms
    for Computing the Sample Variance", 1983, doi:10.1080/00031305.1983.10483115).

    The updates are a pair of the mean and a dict with `sum_sq_diff_grads` and `sample_size`.

    Args:
        per_elt_axis: of the examples.
        accumulation_steps: over how many calls.

    Raises:
        ValueError: fewer than 1.

    >>> from bevel.optim.experimental import aggregating as a
    >>> tx = a.get_per_element_mean_and_sum_sq_diff_grads()
    >>> mean, aux = tx.update(bnp.array([[1.0], [3.0]]), tx.init(bnp.zeros(1)))[0]
    >>> mean, aux["sum_sq_diff_grads"]
    (Array([2.], dtype=float32), Array([2.], dtype=float32))
    """

    def at_once(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        mean, squares, size = _mean_and_squares(updates, per_elt_axis)
        return (mean, {"sum_sq_diff_grads": squares, "sample_size": size}), state

    name = "get_per_element_mean_and_sum_sq_diff_grads"
    if _steps(name, accumulation_steps) == 1:
        return Aggregator(init_empty_state, at_once)

    def init(params: Any) -> PerElementMeanAndSumSqDiffGradsState:
        zeros = tree.zeros_like(params)
        return PerElementMeanAndSumSqDiffGradsState(zero_count(), bnp.array(False), zeros, zeros)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        now, squares, size = _mean_and_squares(updates, per_elt_axis)
        n = state.micro_step + 1
        apart = tree.sub(now, state.mean_grads)
        mean = _tree.map(lambda m, d: m + d / n, state.mean_grads, apart)
        between = state.micro_step * size / n
        squares = _tree.map(
            lambda a, b, d: a + b + d**2 * between, state.sum_sq_diff_grads, squares, apart
        )
        new = PerElementMeanAndSumSqDiffGradsState(n, bnp.array(False), mean, squares)
        out = mean, {"sum_sq_diff_grads": squares, "sample_size": size * n}
        return _emitted(new, accumulation_steps, out)

    return Aggregator(init, update)


def track_per_element_mean_and_variance_with_ema(
    ema_decay: Any = 0.9,
) -> GradientTransformationExtraArgs:
    """Keeps moving averages of the mean and the variance of examples' gradients in its state.

    `update` takes `sum_sq_diff_grads` and `sample_size`, from
    `get_per_element_mean_and_sum_sq_diff_grads`.

    >>> from bevel.optim.experimental import aggregating as a
    >>> tx = a.track_per_element_mean_and_variance_with_ema(0.5)
    >>> aux = {"sum_sq_diff_grads": bnp.array([2.0]), "sample_size": 2}
    >>> tx.update(bnp.array([2.0]), tx.init(bnp.zeros(1)), **aux)[1].variance_grads_ema
    Array([1.], dtype=float32)
    """

    def init(params: Any) -> PerElementMeanAndVarianceEMAState:
        zeros = tree.zeros_like(params)
        return PerElementMeanAndVarianceEMAState(
            zero_count(), bnp.asarray(ema_decay, bnp.float32), zeros, zeros
        )

    def update(
        updates: Any,
        state: Any,
        params: Any = None,
        *,
        sum_sq_diff_grads: Any,
        sample_size: Any,
        **extra: Any,
    ) -> tuple[Any, PerElementMeanAndVarianceEMAState]:
        variance = tree.scale(1 / (sample_size - 1), sum_sq_diff_grads)
        return updates, PerElementMeanAndVarianceEMAState(
            safe_increment(state.count),
            state.ema_decay,
            tree.update_moment(updates, state.mean_grads_ema, ema_decay, 1),
            tree.update_moment(variance, state.variance_grads_ema, ema_decay, 1),
        )

    return GradientTransformationExtraArgs(init, update)


def get_unbiased_mean_and_variance_ema(state: Any) -> tuple[Any, Any]:
    """The moving averages in an optimizer's state, without the pull of their start at zero.

    Raises:
        ValueError: the state holds none.

    >>> from bevel import optim
    >>> from bevel.optim.experimental import aggregating as a
    >>> tx = a.add_mean_variance_to_opt(optim.sgd(0.1))
    >>> _, state = tx.update(bnp.array([[1.0], [3.0]]), tx.init(bnp.zeros(1)))
    >>> mean, variance = a.get_unbiased_mean_and_variance_ema(state)
    >>> mean.round(3), variance.round(3)
    (Array([2.], dtype=float32), Array([2.], dtype=float32))
    """
    found = tree.get(state, "PerElementMeanAndVarianceEMAState")
    if found is None:
        raise ValueError(
            "get_unbiased_mean_and_variance_ema: the state holds no moving averages.\n"
            "Write instead: tx = add_mean_variance_to_opt(optim.adam(1e-3))."
        )
    averages = found.mean_grads_ema, found.variance_grads_ema
    return tree.bias_correction(averages, found.ema_decay, found.count)


def add_mean_variance_to_opt(
    opt: GradientTransformation,
    ema_decay: Any = 0.9,
    per_elt_axis: int | Sequence[int] = 0,
    accumulation_steps: int = 1,
) -> GradientTransformationExtraArgs:
    """An optimizer of examples' gradients that keeps track of their mean and variance; read them by
    `get_unbiased_mean_and_variance_ema`.

    >>> from bevel import optim
    >>> from bevel.optim.experimental import aggregating as a
    >>> tx = a.add_mean_variance_to_opt(optim.sgd(0.1))
    >>> tx.update(bnp.array([[1.0], [3.0]]), tx.init(bnp.zeros(1)))[0]
    Array([-0.2], dtype=float32)
    """
    return process(
        identity(),
        get_per_element_mean_and_sum_sq_diff_grads(per_elt_axis, accumulation_steps),
        chain(track_per_element_mean_and_variance_with_ema(ema_decay), opt),
        aggregator_has_aux=True,
    )
