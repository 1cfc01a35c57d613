"""Reductions that leave NaN out: each is its plain namesake on what remains."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import bevel.ops as ops
from bevel.core import dtypes
from bevel.core.handle import wrap
from bevel.numpy.arguments import known, number, truth
from bevel.numpy.convert import broadcast_value, broadcast_values
from bevel.numpy.reductions import (
    Axis,
    any,
    argmax,
    argmin,
    cumprod,
    cumsum,
    max,
    mean,
    min,
    prod,
    std,
    sum,
    var,
)


def is_nan(x: Any) -> Any:
    """NaN mask of a value, or None for dtypes that have no NaN."""
    return ops.ne(x, x) if dtypes.is_inexact(np.dtype(x.dtype)) else None


def _without_nan(name: str, a: Any, fill: Any) -> tuple[Any, Any]:
    """The array with NaN replaced, and the mask of what was kept (None: everything)."""
    x = number(name, a)
    nan = is_nan(x)
    if nan is None:
        return wrap(x), None
    replaced = ops.select(nan, ops.full_like(x, fill), x)
    return wrap(replaced), wrap(ops.not_(nan))


def nansum(
    a: Any,
    axis: Axis = None,
    dtype: Any = None,
    out: None = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = None,
) -> Any:
    """`sum`, with NaN as 0.

    >>> bnp.nansum(bnp.array([1.0, bnp.nan]))
    Array(1., dtype=float32)
    """
    return sum(_without_nan("nansum", a, 0)[0], axis, dtype, out, keepdims, initial, where)


def nanprod(
    a: Any,
    axis: Axis = None,
    dtype: Any = None,
    out: None = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = None,
) -> Any:
    """`prod`, with NaN as 1.

    >>> bnp.nanprod(bnp.array([2.0, bnp.nan]))
    Array(2., dtype=float32)
    """
    return prod(_without_nan("nanprod", a, 1)[0], axis, dtype, out, keepdims, initial, where)


def _nan_where_none(result: Any, kept: Any, axis: Axis, keepdims: bool, where: Any) -> Any:
    """NaN where a slice held nothing but NaN."""
    if kept is None:
        return result
    some = any(kept, axis, None, keepdims, where=where)._v
    return wrap(ops.select(some, result._v, ops.full_like(result._v, math.nan)))


def nanmax(
    a: Any,
    axis: Axis = None,
    out: None = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = None,
) -> Any:
    """`max` of the elements that are not NaN; NaN where all are.

    >>> bnp.nanmax(bnp.array([1.0, bnp.nan]))
    Array(1., dtype=float32)
    """
    x, kept = _without_nan("nanmax", a, -math.inf)
    result = max(x, axis, out, keepdims, initial, where)
    return result if initial is not None else _nan_where_none(result, kept, axis, keepdims, where)


def nanmin(
    a: Any,
    axis: Axis = None,
    out: None = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = None,
) -> Any:
    """`min` of the elements that are not NaN; NaN where all are.

    >>> bnp.nanmin(bnp.array([1.0, bnp.nan]))
    Array(1., dtype=float32)
    """
    x, kept = _without_nan("nanmin", a, math.inf)
    result = min(x, axis, out, keepdims, initial, where)
    return result if initial is not None else _nan_where_none(result, kept, axis, keepdims, where)


def _kept_where(name: str, kept: Any, where: Any) -> Any:
    """The mask of what was kept, and of what the caller selected."""
    if kept is None or where is None:
        return where if kept is None else kept
    return wrap(ops.and_(*broadcast_values(name, [kept._v, truth(number(name, where))])))


def nanmean(
    a: Any,
    axis: Axis = None,
    dtype: Any = None,
    out: None = None,
    keepdims: bool = False,
    where: Any = None,
) -> Any:
    """`mean` of the elements that are not NaN.

    >>> bnp.nanmean(bnp.array([1.0, bnp.nan, 3.0]))
    Array(2., dtype=float32)
    """
    x, kept = _without_nan("nanmean", a, 0)
    return mean(x, axis, dtype, out, keepdims, where=_kept_where("nanmean", kept, where))


def nanvar(
    a: Any,
    axis: Axis = None,
    dtype: Any = None,
    out: None = None,
    ddof: float = 0,
    keepdims: bool = False,
    where: Any = None,
    *,
    mean: Any = None,
    correction: float | None = None,
) -> Any:
    """`var` of the elements that are not NaN.

    >>> bnp.nanvar(bnp.array([1.0, bnp.nan, 3.0]))
    Array(1., dtype=float32)
    """
    x, kept = _without_nan("nanvar", a, 0)
    mask = _kept_where("nanvar", kept, where)
    more: dict[str, Any] = {"mean": mean, "correction": correction}
    return var(x, axis, dtype, out, ddof, keepdims, where=mask, **more)


def nanstd(
    a: Any,
    axis: Axis = None,
    dtype: Any = None,
    out: None = None,
    ddof: float = 0,
    keepdims: bool = False,
    where: Any = None,
    *,
    mean: Any = None,
    correction: float | None = None,
) -> Any:
    """`std` of the elements that are not NaN.

    >>> bnp.nanstd(bnp.array([1.0, bnp.nan, 3.0]))
    Array(1., dtype=float32)
    """
    x, kept = _without_nan("nanstd", a, 0)
    mask = _kept_where("nanstd", kept, where)
    more: dict[str, Any] = {"mean": mean, "correction": correction}
    return std(x, axis, dtype, out, ddof, keepdims, where=mask, **more)


def _nan_position(name, find, extreme, edge, a, axis, out, keepdims) -> Any:
    x, kept = _without_nan(name, a, edge)
    if kept is None:
        return find(x, axis, out, keepdims)
    # Among what was kept: an infinity in the data must not lose to one put in place of NaN.
    best = extreme(x, axis, None, True)._v
    hit = ops.and_(kept._v, ops.eq(x._v, broadcast_value(best, tuple(x._v.shape))))
    result = argmax(wrap(hit), axis, out, keepdims)
    some = any(kept, axis, None, keepdims)._v
    found = known(some)
    if found is not None and not found.all():
        raise ValueError(f"{name}: there is a slice with nothing but NaN along axis {axis}")
    return wrap(ops.select(some, result._v, ops.full_like(result._v, -1)))


def nanargmax(a: Any, axis: int | None = None, out: None = None, keepdims: bool = False) -> Any:
    """`argmax` of the elements that are not NaN; where all are, ValueError, or -1 if traced.

    >>> bnp.nanargmax(bnp.array([bnp.nan, 2.0, 1.0]))
    Array(1, dtype=int32)
    """
    return _nan_position("nanargmax", argmax, max, -math.inf, a, axis, out, keepdims)


def nanargmin(a: Any, axis: int | None = None, out: None = None, keepdims: bool = False) -> Any:
    """`argmin` of the elements that are not NaN; where all are, ValueError, or -1 if traced.

    >>> bnp.nanargmin(bnp.array([bnp.nan, 2.0, 1.0]))
    Array(2, dtype=int32)
    """
    return _nan_position("nanargmin", argmin, min, math.inf, a, axis, out, keepdims)


def nancumsum(a: Any, axis: int | None = None, dtype: Any = None, out: None = None) -> Any:
    """`cumsum`, with NaN as 0.

    >>> bnp.nancumsum(bnp.array([1.0, bnp.nan, 3.0]))
    Array([1., 1., 4.], dtype=float32)
    """
    return cumsum(_without_nan("nancumsum", a, 0)[0], axis, dtype, out)


def nancumprod(a: Any, axis: int | None = None, dtype: Any = None, out: None = None) -> Any:
    """`cumprod`, with NaN as 1.

    >>> bnp.nancumprod(bnp.array([2.0, bnp.nan, 3.0]))
    Array([2., 2., 6.], dtype=float32)
    """
    return cumprod(_without_nan("nancumprod", a, 1)[0], axis, dtype, out)
