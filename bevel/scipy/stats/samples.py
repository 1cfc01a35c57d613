"""Statistics of samples along an axis: the mode, ranks, the standard error."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import bevel.numpy as bnp
from bevel import lax
from bevel.core.dtypes import float32, int32
from bevel.core.handle import wrap
from bevel.numpy.arguments import axis_of, inexact, number


class ModeResult(NamedTuple):
    """The most frequent values, and how often each was found."""

    mode: Any
    count: Any


def _policy(name: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        listed = " or ".join(map(repr, known))
        raise ValueError(
            f"{name}: nan_policy={given!r} is not supported, only {listed}.\n"
            "Why: whether there are NaNs is not known while tracing, and arrays do not shrink.\n"
            "Write instead: x[~bnp.isnan(x)] in eager code."
        )


def _runs(ordered: Any) -> tuple[Any, Any]:
    """For sorted numbers on the last axis: the places of the first and last of their equals."""
    n = ordered.shape[-1]
    place = bnp.broadcast_to(bnp.arange(n, dtype=int32), ordered.shape)
    before, after = ordered[..., :-1], ordered[..., 1:]
    change = (before != after) & ~((before != before) & (after != after))
    edge = bnp.ones((*ordered.shape[:-1], 1), dtype=bool)
    axis = ordered.ndim - 1
    first = lax.cummax(bnp.where(bnp.concatenate([edge, change], -1), place, 0), axis=axis)
    last = bnp.where(bnp.concatenate([change, edge], -1), place, n - 1)
    return first, lax.cummin(last, axis=axis, reverse=True)


def mode(
    a: Any, axis: int | None = 0, nan_policy: str = "propagate", keepdims: bool = False
) -> ModeResult:
    """The most frequent value along an axis, the smallest of several, and its count.

    Args:
        a: numbers of any dtype; NaNs count as equal, and as larger than numbers.
        axis: None takes all elements.
        nan_policy: only "propagate".
        keepdims: keep the reduced axes with length 1.

    >>> from bevel.scipy import stats
    >>> stats.mode([2, 4, 1, 1, 4, 4])
    ModeResult(mode=Array(4, dtype=int32), count=Array(3, dtype=int32))
    """
    _policy("mode", nan_policy, ("propagate",))
    x = bnp.atleast_1d(wrap(number("mode", a)))
    if axis is None:
        kept = (1,) * x.ndim if keepdims else ()
        x = x.reshape(-1)
    else:
        axis = axis_of("mode", axis, x.ndim)
        x = bnp.moveaxis(x, axis, -1)
        kept = x.shape[:-1]
        kept = (*kept[:axis], 1, *kept[axis:]) if keepdims else kept
    if x.shape[-1] == 0:
        return ModeResult(bnp.full(kept, math.nan), bnp.zeros(kept))
    ordered = bnp.sort(x, axis=-1)
    first, last = _runs(ordered)
    longest = bnp.argmax(last - first, axis=-1, keepdims=True)
    value, count = [
        bnp.take_along_axis(y, longest, axis=-1).reshape(kept) for y in (ordered, last - first + 1)
    ]
    return ModeResult(value, count)


_RANKS = {
    "average": lambda first, last: 0.5 * (first + last).astype(float32) + 1,
    "min": lambda first, last: first + 1,
    "max": lambda first, last: last + 1,
    "dense": lambda first, last: bnp.cumsum(first == bnp.arange(first.shape[-1]), axis=-1),
    "ordinal": lambda first, last: bnp.broadcast_to(bnp.arange(first.shape[-1]) + 1, first.shape),
}


def rankdata(
    a: Any, method: str = "average", *, axis: int | None = None, nan_policy: str = "propagate"
) -> Any:
    """Ranks from 1 along an axis, or of all elements in one row, as float32.

    Args:
        a: real numbers; where there is a NaN among them, all ranks are NaN.
        method: what equal numbers get: the "average", "min" or "max" of their ranks; "dense" leaves
            no ranks out; "ordinal" gives different ranks, in order of appearance.
        axis: None flattens the array.
        nan_policy: only "propagate".

    >>> from bevel.scipy import stats
    >>> stats.rankdata([1, 3, 2, 3])
    Array([1. , 3.5, 2. , 3.5], dtype=float32)
    """
    _policy("rankdata", nan_policy, ("propagate",))
    if method not in _RANKS:
        raise ValueError(f"rankdata: method={method!r} is unknown; it is one of {sorted(_RANKS)}")
    x = wrap(number("rankdata", a))
    x = x.reshape(-1) if axis is None else x
    axis = axis_of("rankdata", -1 if axis is None else axis, x.ndim)
    x = bnp.moveaxis(x, axis, -1)
    if x.size == 0:
        return bnp.moveaxis(bnp.zeros(x.shape), -1, axis)
    order = bnp.argsort(x, axis=-1)
    ordered = bnp.take_along_axis(x, order, axis=-1)
    ranks = _RANKS[method](*_runs(ordered)).astype(float32)
    ranks = bnp.take_along_axis(ranks, bnp.argsort(order, axis=-1), axis=-1)
    # A NaN is sorted to the end.
    ranks = bnp.where(bnp.isnan(ordered[..., -1:]), math.nan, ranks)
    return bnp.moveaxis(ranks, -1, axis)


def sem(
    a: Any,
    axis: int | None = 0,
    ddof: int = 1,
    nan_policy: str = "propagate",
    *,
    keepdims: bool = False,
) -> Any:
    """The standard error of the mean along an axis: the standard deviation over the root of the
    number of elements.

    Args:
        a: numbers.
        axis: None takes all elements.
        ddof: what is subtracted from the number of elements in the standard deviation.
        nan_policy: "propagate", or "omit" to leave NaNs out.
        keepdims: keep the reduced axes with length 1.

    >>> from bevel.scipy import stats
    >>> stats.sem([1.0, 2.0, 3.0, 4.0, 5.0]).round(4)
    Array(0.7071, dtype=float32)
    """
    _policy("sem", nan_policy, ("propagate", "omit"))
    x = wrap(inexact(number("sem", a)))
    if nan_policy == "omit":
        count = bnp.sum(~bnp.isnan(x), axis=axis, keepdims=keepdims).astype(x.dtype)
        return bnp.nanstd(x, axis=axis, ddof=ddof, keepdims=keepdims) / bnp.sqrt(count)
    count = x.size if axis is None else x.shape[axis_of("sem", axis, x.ndim)]
    return bnp.std(x, axis=axis, ddof=ddof, keepdims=keepdims) / math.sqrt(count)
