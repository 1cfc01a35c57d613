"""Transformations that constrain parameters, freeze some of them, or see them as one vector."""

from __future__ import annotations

from typing import Any, NamedTuple

import bevel.numpy as bnp
from bevel.core import tree as _tree
from bevel.optim import tree
from bevel.optim.base import (
    GradientTransformation,
    GradientTransformationExtraArgs,
    each_with_param,
    masked,
    partition,
    set_to_zero,
    with_extra_args_support,
)


class ZeroNansState(NamedTuple):
    """Which updates had a value that is not a number."""

    found_nan: Any


def keep_params_nonnegative() -> GradientTransformation:
    """Cuts updates so that no parameter becomes negative.

    >>> from bevel import optim
    >>> tx, params = optim.keep_params_nonnegative(), bnp.array([1.0, 1.0])
    >>> tx.update(bnp.array([-3.0, -0.5]), tx.init(params), params)[0]
    Array([-1. , -0.5], dtype=float32)
    """
    return each_with_param("keep_params_nonnegative", lambda u, p: bnp.where(p + u < 0.0, -p, u))


def zero_nans() -> GradientTransformation:
    """Replaces values that are not a number by 0; the state says where there were any.

    >>> from bevel import optim
    >>> tx = optim.zero_nans()
    >>> tx.update(bnp.array([bnp.nan, 2.0]), tx.init(bnp.zeros(2)))
    (Array([0., 2.], dtype=float32), ZeroNansState(found_nan=Array(True, dtype=bool)))
    """

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, ZeroNansState]:
        found = _tree.map(lambda g: bnp.any(bnp.isnan(g)), updates)
        return _tree.map(lambda g: bnp.where(bnp.isnan(g), 0, g), updates), ZeroNansState(found)

    return GradientTransformation(
        lambda params: ZeroNansState(_tree.map(lambda _: bnp.array(False), params)), update
    )


def freeze(mask: Any) -> GradientTransformation:
    """Makes updates zero where the mask (a tree of booleans) is true.

    >>> from bevel import optim
    >>> tx = optim.freeze({"w": True, "b": False})
    >>> updates = {"w": bnp.ones(1), "b": bnp.ones(1)}
    >>> tx.update(updates, tx.init(updates))[0]
    {'w': Array([0.], dtype=float32), 'b': Array([1.], dtype=float32)}
    """
    return masked(set_to_zero(), mask)


def selective_transform(
    optimizer: GradientTransformation, *, freeze_mask: Any
) -> GradientTransformationExtraArgs:
    """An optimizer that sees only the parameters where the mask is false; the others stay.

    >>> from bevel import optim
    >>> tx = optim.selective_transform(optim.sgd(1.0), freeze_mask={"w": True, "b": False})
    >>> updates = {"w": bnp.ones(1), "b": bnp.ones(1)}
    >>> tx.update(updates, tx.init(updates))[0]
    {'w': Array([0.], dtype=float32), 'b': Array([-1.], dtype=float32)}
    """
    labels = _tree.map(lambda frozen: "freeze" if frozen else "train", freeze_mask)
    return partition({"train": optimizer, "freeze": set_to_zero()}, labels)


def flatten(inner: GradientTransformation) -> GradientTransformationExtraArgs:
    """A transformation that sees all parameters as one vector, which can be faster if they are many
    and small.

    >>> from bevel import optim
    >>> tx = optim.flatten(optim.adam(0.1))
    >>> tx.init({"w": bnp.ones((2, 3)), "b": bnp.ones(3)})[0].mu.shape
    (9,)
    """
    inner = with_extra_args_support(inner)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        flat, unravel = tree.ravel(updates)
        params = None if params is None else tree.ravel(params)[0]
        flat, state = inner.update(flat, state, params, **extra)
        return unravel(flat), state

    return GradientTransformationExtraArgs(lambda params: inner.init(tree.ravel(params)[0]), update)
