"""Loss scaling for float16: gradients too small for its range are computed larger, then divided.

>>> import bevel as bv, bevel.numpy as bnp
>>> from bevel import optim
>>> scaling = optim.DynamicLossScale(2.0**15)
>>> w, x = bnp.array([1.0], bnp.float16), bnp.array([1e-4], bnp.float16)
>>> grads = bv.grad(lambda w: scaling.scale((w * x).sum() * bnp.float16(1e-3)))(w)
>>> grads = scaling.unscale(bv.tree.map(lambda g: g.astype(bnp.float32), grads))
>>> finite = optim.all_finite(grads)
>>> scaling = scaling.adjust(finite)
>>> w = optim.select_tree(finite, w - 0.1 * grads, w)
"""

from __future__ import annotations

import dataclasses
from typing import Any

import bevel.numpy as bnp
from bevel.core import dtypes
from bevel.core import tree as _tree
from bevel.numpy.convert import enter
from bevel.optim import tree as _math


def all_finite(tree: Any) -> Any:
    """Whether no floating element is infinite or not a number.

    >>> from bevel import optim
    >>> bool(optim.all_finite({"w": bnp.array([1.0, bnp.inf])}))
    False
    """
    arrays = [enter(x) for x in _tree.leaves(tree)]
    checks = [bnp.all(bnp.isfinite(x)) for x in arrays if not dtypes.is_integer(x.dtype)]
    return bnp.all(bnp.stack(checks)) if checks else bnp.array(True)


def select_tree(pred: Any, a: Any, b: Any) -> Any:
    """The tree a where the scalar `pred` is true, else b.

    Raises:
        ValueError: `pred` is not one boolean.

    >>> from bevel import optim
    >>> optim.select_tree(bnp.array(False), {"w": bnp.ones(1)}, {"w": bnp.zeros(1)})
    {'w': Array([0.], dtype=float32)}
    """
    pred = enter(pred)
    if pred.shape != () or pred.dtype != bool:
        raise ValueError(f"select_tree: pred is one boolean, got {pred.dtype}{list(pred.shape)}")
    return _math.where(pred, a, b)


def _scaled(tree: Any, factor: Any) -> Any:
    return _tree.map(lambda x: x * factor.astype(enter(x).dtype), tree)


@_tree.register_dataclass
@dataclasses.dataclass(frozen=True)
class StaticLossScale:
    """A factor that stays (Micikevicius et al., "Mixed Precision Training", 2017,
    arXiv:1710.03740).

    Args:
        loss_scale: the factor.

    >>> from bevel import optim
    >>> optim.StaticLossScale(8.0).unscale(bnp.array([16.0]))
    Array([2.], dtype=float32)
    """

    loss_scale: Any

    def scale(self, tree: Any) -> Any:
        """Every array times the factor."""
        return _scaled(tree, enter(self.loss_scale))

    def unscale(self, tree: Any) -> Any:
        """Every array divided by the factor."""
        return _scaled(tree, 1 / enter(self.loss_scale))

    def adjust(self, grads_finite: Any) -> StaticLossScale:
        """The same."""
        return self


@_tree.register_dataclass
@dataclasses.dataclass(frozen=True)
class DynamicLossScale:
    """A factor that grows while gradients are finite, and shrinks when they are not
    (arXiv:1710.03740).

    Args:
        loss_scale: the factor.
        counter: steps with finite gradients since it changed.
        period: after how many it grows.
        factor: by how much it grows and shrinks.
        min_loss_scale: least factor.

    >>> from bevel import optim
    >>> optim.DynamicLossScale(8.0).adjust(False).loss_scale
    Array(4., dtype=float32)
    """

    loss_scale: Any
    counter: Any = 0
    period: int = dataclasses.field(default=2000, metadata={"static": True})
    factor: int = dataclasses.field(default=2, metadata={"static": True})
    min_loss_scale: Any = 1.0

    def scale(self, tree: Any) -> Any:
        """Every array times the factor."""
        return _scaled(tree, enter(self.loss_scale))

    def unscale(self, tree: Any) -> Any:
        """Every array divided by the factor."""
        return _scaled(tree, 1 / enter(self.loss_scale))

    def adjust(self, grads_finite: Any) -> DynamicLossScale:
        """The next factor: smaller if gradients were not finite, larger at the end of a period."""
        now = bnp.asarray(self.loss_scale, dtypes.float32)
        due = enter(self.counter) == self.period - 1
        larger = now * self.factor
        grown = bnp.where(due & bnp.isfinite(larger), larger, now)
        smaller = bnp.maximum(self.min_loss_scale, now / self.factor)
        return dataclasses.replace(
            self,
            loss_scale=bnp.where(grads_finite, grown, smaller),
            counter=bnp.where(grads_finite, (enter(self.counter) + 1) % self.period, 0),
        )
