"""Reductions and running reductions, with NumPy's arguments and JAX's result dtypes.

Integers narrower than 32 bits and booleans add up in int32 (uint32 for unsigned ones); means of
integers are float32; float16 and bfloat16 are summed in float32 and rounded once. `where` masks
elements out, `initial` joins the reduction as one more element, `keepdims` leaves reduced axes with
size 1.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any

import numpy as np

import bevel.ops as ops
from bevel.core import dtypes
from bevel.core.dtypes import as_dtype, bool_, float32, int32, uint32
from bevel.core.handle import wrap
from bevel.numpy.arguments import axes_of, axis_of, cast, inexact, no_out, number, truth
from bevel.numpy.convert import broadcast_value, broadcast_values

Axis = int | tuple[int, ...] | None

_NARROW = {
    bool_: int32,
    dtypes.int8: int32,
    dtypes.int16: int32,
    dtypes.uint8: uint32,
    dtypes.uint16: uint32,
}


MASKED = ("the mask `where`", "the array")
INITIAL = ("`initial`", "the result")


def _masked(name: str, x: Any, where: Any, fill: Any) -> Any:
    mask, x = broadcast_values(name, [truth(number(name, where)), x], MASKED)
    return ops.select(mask, x, ops.full_like(x, fill))


def kept_shape(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """A shape with size 1 along the reduced axes."""
    return tuple([1 if i in axes else n for i, n in enumerate(shape)])


def reduce_value(op: Any, x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    """Apply a reduction op over axes in any order."""
    shape = x.shape
    out = op(x, axes=tuple(sorted(axes))) if axes else x
    return ops.reshape(out, shape=kept_shape(shape, axes)) if keepdims and axes else out


# -- sums, products, extremes --------------------------------------------------------------------


def _accumulated(name, op, join, unit, a, axis, dtype, out, keepdims, initial, where, promote):
    """Both `sum` and `prod`."""
    no_out(name, out)
    x = number(name, a)
    if dtype is None:
        dtype = _NARROW.get(np.dtype(x.dtype), x.dtype) if promote else x.dtype
    x = cast(x, as_dtype(dtype))
    if where is not None:
        x = _masked(name, x, where, unit)
    if x.dtype == bool_:
        join, op = (ops.or_, ops.reduce_or) if unit == 0 else (ops.and_, ops.reduce_and)
    result = reduce_value(op, x, axes_of(name, axis, len(x.shape)), keepdims)
    return wrap(_with_initial(name, join, result, initial))


def _with_initial(name: str, join: Any, result: Any, initial: Any) -> Any:
    if initial is None:
        return result
    return join(
        *broadcast_values(name, [cast(number(name, initial), result.dtype), result], INITIAL)
    )


def sum(
    a: Any,
    axis: Axis = None,
    dtype: Any = None,
    out: None = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = None,
    promote_integers: bool = True,
) -> Any:
    """Sum of the elements along axes (None: all of them).

    >>> bnp.sum(bnp.array([[1, 2], [3, 4]]), axis=0)
    Array([4, 6], dtype=int32)
    """
    given = (a, axis, dtype, out, keepdims, initial, where, promote_integers)
    return _accumulated("sum", ops.reduce_sum, ops.add, 0, *given)


def prod(
    a: Any,
    axis: Axis = None,
    dtype: Any = None,
    out: None = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = None,
    promote_integers: bool = True,
) -> Any:
    """Product of the elements along axes (None: all of them).

    >>> bnp.prod(bnp.array([2.0, 3.0]))
    Array(6., dtype=float32)
    """
    given = (a, axis, dtype, out, keepdims, initial, where, promote_integers)
    return _accumulated("prod", ops.reduce_prod, ops.mul, 1, *given)


def lowest(dtype: np.dtype) -> Any:
    """The value no element is below."""
    k = dtypes.kind(dtype)
    return False if k == "b" else -math.inf if k in "fc" else dtypes.iinfo(dtype).min


def highest(dtype: np.dtype) -> Any:
    """The value no element is above."""
    k = dtypes.kind(dtype)
    return True if k == "b" else math.inf if k in "fc" else dtypes.iinfo(dtype).max


def _extreme(name, op, bool_op, join, edge, a, axis, out, keepdims, initial, where):
    """Both `max` and `min`."""
    no_out(name, out)
    x = number(name, a)
    axes = axes_of(name, axis, len(x.shape))
    if where is not None:
        if initial is None:
            raise ValueError(
                f"{name}: where= needs initial=, the result where nothing is selected; "
                f"for example initial={edge(np.dtype(x.dtype))}"
            )
        x = _masked(name, x, where, edge(np.dtype(x.dtype)))
    if initial is None and 0 in [x.shape[i] for i in axes]:
        raise ValueError(
            f"{name}: an array of shape {tuple(x.shape)} has no elements along axis {axis}, so "
            f"no {name}.\n"
            f"Write instead: bnp.{name}(x, initial=...), the result for empty input."
        )
    if dtypes.is_complex(np.dtype(x.dtype)):
        # NumPy orders complex numbers as no reduction does: the ends of the sorted elements.
        op, join = _COMPLEX[name], _first_or_last(name)
    if x.dtype == bool_:
        op, join = bool_op
    result = reduce_value(op, x, axes, keepdims)
    return wrap(_with_initial(name, join, result, initial))


def as_rows(x: Any, axes: tuple[int, ...]) -> Any:
    """A value with the axes as one, the last."""
    rest = [i for i in range(len(x.shape)) if i not in axes]
    order = (*rest, *axes)
    x = x if order == tuple(range(len(order))) else ops.transpose(x, permutation=order)
    size = math.prod(x.shape[len(rest) :])
    return ops.reshape(x, shape=(*x.shape[: len(rest)], size))


def _end_of_sorted(name: str) -> Callable:
    def reduce(x: Any, axes: tuple[int, ...]) -> Any:
        rows = as_rows(x, axes)
        lead, n = tuple(rows.shape[:-1]), rows.shape[-1]
        (rows,) = ops.sort(rows, axis=len(lead), num_keys=1, stable=False)

        def at(i: int) -> Any:
            start, limit = (*(0,) * len(lead), i), (*lead, i + 1)
            return ops.reshape(ops.slice(rows, start=start, limit=limit, strides=None), shape=lead)

        last = at(n - 1)
        return last if name == "max" else ops.select(ops.ne(last, last), last, at(0))

    return reduce


def _first_or_last(name: str) -> Callable:
    def join(x: Any, y: Any) -> Any:
        both = [ops.expand_dims(v, (0,)) for v in (x, y)]
        return _COMPLEX[name](ops.concatenate(*both, axis=0), (0,))

    return join


_COMPLEX = {name: _end_of_sorted(name) for name in ("max", "min")}


def max(
    a: Any,
    axis: Axis = None,
    out: None = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = None,
) -> Any:
    """Largest element along axes (None: all); NaN if there is one.

    Raises:
        ValueError: nothing to choose from and no `initial`, or `where` without `initial`.

    >>> bnp.max(bnp.array([[1, 5], [3, 4]]), axis=1)
    Array([5, 4], dtype=int32)
    """
    bools = (ops.reduce_or, ops.or_)
    given = (a, axis, out, keepdims, initial, where)
    return _extreme("max", ops.reduce_max, bools, ops.max, lowest, *given)


def min(
    a: Any,
    axis: Axis = None,
    out: None = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = None,
) -> Any:
    """Smallest element along axes (None: all); NaN if there is one.

    Raises:
        ValueError: nothing to choose from and no `initial`, or `where` without `initial`.

    >>> bnp.min(bnp.array([[1, 5], [3, 4]]), axis=0)
    Array([1, 4], dtype=int32)
    """
    bools = (ops.reduce_and, ops.and_)
    given = (a, axis, out, keepdims, initial, where)
    return _extreme("min", ops.reduce_min, bools, ops.min, highest, *given)


amax = max
amin = min


def ptp(a: Any, axis: Axis = None, out: None = None, keepdims: bool = False) -> Any:
    """Largest less smallest element along axes.

    >>> bnp.ptp(bnp.array([3, 9, 4]))
    Array(6, dtype=int32)
    """
    no_out("ptp", out)
    high, low = max(a, axis, None, keepdims), min(a, axis, None, keepdims)
    return wrap(ops.sub(high._v, low._v))


def _logical(name, op, join, unit, a, axis, out, keepdims, where):
    no_out(name, out)
    x = truth(number(name, a))
    if where is not None:
        x = _masked(name, x, where, unit)
    return wrap(reduce_value(op, x, axes_of(name, axis, len(x.shape)), keepdims))


def any(
    a: Any, axis: Axis = None, out: None = None, keepdims: bool = False, *, where: Any = None
) -> Any:
    """Whether some element along axes is nonzero; False for none.

    >>> bnp.any(bnp.array([[True, False], [False, False]]), axis=1)
    Array([ True, False], dtype=bool)
    """
    return _logical("any", ops.reduce_or, ops.or_, False, a, axis, out, keepdims, where)


def all(
    a: Any, axis: Axis = None, out: None = None, keepdims: bool = False, *, where: Any = None
) -> Any:
    """Whether every element along axes is nonzero; True for none.

    >>> bnp.all(bnp.array([1, 2, 0]))
    Array(False, dtype=bool)
    """
    return _logical("all", ops.reduce_and, ops.and_, True, a, axis, out, keepdims, where)


def count_nonzero(a: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """How many elements along axes are nonzero, as int32.

    >>> bnp.count_nonzero(bnp.array([0, 3, 4]))
    Array(2, dtype=int32)
    """
    return sum(wrap(truth(number("count_nonzero", a))), axis, keepdims=keepdims)


# -- positions of extremes -----------------------------------------------------------------------


def _position(name, op, a, axis, out, keepdims):
    no_out(name, out)
    x = number(name, a)
    shape = tuple(x.shape)
    if axis is None:
        x, where = ops.reshape(x, shape=(math.prod(shape),)), 0
    else:
        where = axis_of(name, axis, len(shape))
    if x.shape[where] == 0:
        raise ValueError(
            f"{name}: an array of shape {shape} has no elements along axis {axis}, so no {name}"
        )
    if x.dtype == bool_:
        x = cast(x, dtypes.uint8)
    if dtypes.is_complex(np.dtype(x.dtype)):
        x, op = _is_extreme(name, x, where), ops.argmax
    result = op(x, axis=where, index_dtype=int32)
    if keepdims:
        kept = range(len(shape)) if axis is None else (where,)
        result = ops.reshape(result, shape=kept_shape(shape, tuple(kept)))
    return wrap(result)


def _is_extreme(name: str, x: Any, axis: int) -> Any:
    """Where complex numbers equal the extreme one along an axis, as uint8."""
    best = reduce_value(_COMPLEX[name[3:]], x, (axis,), True)
    best = broadcast_value(best, tuple(x.shape))
    both_nan = ops.and_(ops.ne(x, x), ops.ne(best, best))
    return cast(ops.or_(ops.eq(x, best), both_nan), dtypes.uint8)


def argmax(a: Any, axis: int | None = None, out: None = None, keepdims: bool = False) -> Any:
    """Position of the first largest element (NaN counts as largest) along an axis, or in the flat
    array.

    >>> bnp.argmax(bnp.array([[1, 5], [3, 4]]), axis=1)
    Array([1, 1], dtype=int32)
    """
    return _position("argmax", ops.argmax, a, axis, out, keepdims)


def argmin(a: Any, axis: int | None = None, out: None = None, keepdims: bool = False) -> Any:
    """Position of the first smallest element (NaN counts as smallest) along an axis, or in the flat
    array.

    >>> bnp.argmin(bnp.array([3, 1, 1]))
    Array(1, dtype=int32)
    """
    return _position("argmin", ops.argmin, a, axis, out, keepdims)


# -- means and spreads ---------------------------------------------------------------------------


def _mean_value(name, x, axes, keepdims, where) -> Any:
    """Mean of an inexact value; float16 and bfloat16 are divided before they are rounded."""
    dtype = np.dtype(x.dtype)
    wide = cast(x, float32) if dtype in (dtypes.float16, dtypes.bfloat16) else x
    if where is None:
        total = reduce_value(ops.reduce_sum, wide, axes, keepdims)
        count = ops.full_like(total, math.prod([x.shape[i] for i in axes]))
    else:
        mask, wide = broadcast_values(name, [truth(number(name, where)), wide], MASKED)
        kept = ops.select(mask, wide, ops.zeros_like(wide))
        total = reduce_value(ops.reduce_sum, kept, axes, keepdims)
        count = reduce_value(ops.reduce_sum, cast(mask, wide.dtype), axes, keepdims)
    return cast(ops.div(total, count), dtype)


def mean(
    a: Any,
    axis: Axis = None,
    dtype: Any = None,
    out: None = None,
    keepdims: bool = False,
    *,
    where: Any = None,
) -> Any:
    """Arithmetic mean along axes (None: all); NaN for no elements.

    >>> bnp.mean(bnp.array([1, 2, 4, 5]))
    Array(3., dtype=float32)
    """
    no_out("mean", out)
    x = number("mean", a)
    if dtype is not None and not dtypes.is_inexact(as_dtype(dtype)):
        return wrap(cast(mean(a, axis, None, None, keepdims, where=where)._v, as_dtype(dtype)))
    x = inexact(x, dtype)
    return wrap(_mean_value("mean", x, axes_of("mean", axis, len(x.shape)), keepdims, where))


def _variance(name, a, axis, dtype, out, ddof, keepdims, where, mean, correction) -> Any:
    """Variance, as a value at float32 at least, and the dtype the result should have."""
    no_out(name, out)
    if correction is not None:
        if ddof:
            raise ValueError(
                f"{name}: ddof={ddof} and correction={correction} mean the same; give one"
            )
        ddof = correction
    x = inexact(number(name, a), dtype)
    result_dtype = np.dtype(x.dtype) if dtype is not None else dtypes.real_dtype(x.dtype)
    if result_dtype in (dtypes.float16, dtypes.bfloat16):
        x = cast(x, float32)
    axes = axes_of(name, axis, len(x.shape))
    center = (
        _mean_value(name, x, axes, True, where)
        if mean is None
        else cast(number(name, mean), x.dtype)
    )
    apart = ops.sub(*broadcast_values(name, [x, center]))
    squares = (
        ops.square(apart) if not dtypes.is_complex(np.dtype(x.dtype)) else _norm_squared(apart)
    )
    if where is None:
        count = math.prod([x.shape[i] for i in axes])
        total = reduce_value(ops.reduce_sum, squares, axes, keepdims)
        return ops.div(total, ops.full_like(total, builtins.max(count - ddof, 0))), result_dtype
    mask, squares = broadcast_values(name, [truth(number(name, where)), squares], MASKED)
    kept = ops.select(mask, squares, ops.zeros_like(squares))
    total = reduce_value(ops.reduce_sum, kept, axes, keepdims)
    count = reduce_value(ops.reduce_sum, cast(mask, squares.dtype), axes, keepdims)
    left = ops.max(ops.sub(count, ops.full_like(count, ddof)), ops.zeros_like(count))
    return ops.div(total, left), result_dtype


def _norm_squared(x: Any) -> Any:
    return ops.add(ops.square(ops.real(x)), ops.square(ops.imag(x)))


def var(
    a: Any,
    axis: Axis = None,
    dtype: Any = None,
    out: None = None,
    ddof: float = 0,
    keepdims: bool = False,
    *,
    where: Any = None,
    mean: Any = None,
    correction: float | None = None,
) -> Any:
    """Variance along axes: the mean squared distance from the mean, divided by `n - ddof`.

    `correction` is the array API's name for `ddof`. A `mean` taken before (with `keepdims=True`)
    saves a pass.

    >>> bnp.var(bnp.array([1.0, 3.0]))
    Array(1., dtype=float32)
    """
    x, dtype_ = _variance("var", a, axis, dtype, out, ddof, keepdims, where, mean, correction)
    return wrap(cast(x, dtype_))


def std(
    a: Any,
    axis: Axis = None,
    dtype: Any = None,
    out: None = None,
    ddof: float = 0,
    keepdims: bool = False,
    *,
    where: Any = None,
    mean: Any = None,
    correction: float | None = None,
) -> Any:
    """Standard deviation along axes: the square root of `var`.

    >>> bnp.std(bnp.array([1.0, 3.0]), ddof=1)
    Array(1.4142135, dtype=float32)
    """
    x, dtype_ = _variance("std", a, axis, dtype, out, ddof, keepdims, where, mean, correction)
    return wrap(cast(ops.sqrt(x), dtype_))


# -- running reductions --------------------------------------------------------------------------


def _running(name, op, a, axis, dtype, out) -> Any:
    no_out(name, out)
    x = number(name, a)
    if axis is None:
        x, axis = ops.reshape(x, shape=(math.prod(x.shape),)), 0
    axis = axis_of(name, axis, len(x.shape))
    default = int32 if x.dtype == bool_ else np.dtype(x.dtype)
    x = cast(x, default if dtype is None else as_dtype(dtype))
    if x.dtype == bool_:
        return cast(op(cast(x, int32), axis=axis, reverse=False), bool_)
    return op(x, axis=axis, reverse=False)


def cumsum(a: Any, axis: int | None = None, dtype: Any = None, out: None = None) -> Any:
    """Running sum along an axis, or of the flattened array.

    >>> bnp.cumsum(bnp.array([1, 2, 3]))
    Array([1, 3, 6], dtype=int32)
    """
    return wrap(_running("cumsum", ops.cumsum, a, axis, dtype, out))


def cumprod(a: Any, axis: int | None = None, dtype: Any = None, out: None = None) -> Any:
    """Running product along an axis, or of the flattened array.

    >>> bnp.cumprod(bnp.array([1, 2, 3]))
    Array([1, 2, 6], dtype=int32)
    """
    return wrap(_running("cumprod", ops.cumprod, a, axis, dtype, out))


def _cumulative(name, op, unit, x, axis, dtype, include_initial) -> Any:
    value = number(name, x)
    ndim = len(value.shape)
    dtype = _NARROW.get(np.dtype(value.dtype)) if dtype is None else dtype
    if axis is None and ndim != 1:
        raise ValueError(f"{name}: an array with {ndim} axes needs axis=")
    result = _running(name, op, wrap(value), 0 if axis is None else axis, dtype, None)
    if include_initial:
        axis = axis_of(name, 0 if axis is None else axis, ndim)
        first = ops.full(kept_shape(result.shape, (axis,)), unit, np.dtype(result.dtype))
        result = ops.concatenate(first, result, axis=axis)
    return wrap(result)


def cumulative_sum(
    x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Any:
    """`cumsum` as the array API has it; `include_initial` puts a 0 in front.

    >>> bnp.cumulative_sum(bnp.array([1, 2]), include_initial=True)
    Array([0, 1, 3], dtype=int32)
    """
    return _cumulative("cumulative_sum", ops.cumsum, 0, x, axis, dtype, include_initial)


def cumulative_prod(
    x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Any:
    """`cumprod` as the array API has it; `include_initial` puts a 1 in front.

    >>> bnp.cumulative_prod(bnp.array([2, 3]), include_initial=True)
    Array([1, 2, 6], dtype=int32)
    """
    return _cumulative("cumulative_prod", ops.cumprod, 1, x, axis, dtype, include_initial)
