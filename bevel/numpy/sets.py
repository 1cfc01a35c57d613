"""Arrays as sets: distinct elements, membership, unions.

Everything is one pass over the sorted array. The size of a result depends on the data, so under
`jit` give `size`: the result is cut to it, or filled with `fill_value` (by default its first
element).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

import bevel.ops as ops
from bevel.core import dtypes
from bevel.core.dtypes import bool_, int32
from bevel.core.handle import wrap
from bevel.numpy.arguments import axis_of, cast, known_size, number
from bevel.numpy.convert import enter, promote
from bevel.numpy.manipulation import moveaxis
from bevel.numpy.selection import nonzero, take_value, where
from bevel.numpy.sorting import searchsorted, sort


class UniqueAll(NamedTuple):
    """Result of `unique_all`."""

    values: Any
    indices: Any
    inverse_indices: Any
    counts: Any


class UniqueCounts(NamedTuple):
    """Result of `unique_counts`."""

    values: Any
    counts: Any


class UniqueInverse(NamedTuple):
    """Result of `unique_inverse`."""

    values: Any
    inverse_indices: Any


def _column(rows: Any, j: int) -> Any:
    n = rows.shape[0]
    return ops.reshape(ops.slice(rows, start=(0, j), limit=(n, j + 1), strides=None), shape=(n,))


def _sorted_rows(rows: Any, equal_nan: bool) -> tuple[Any, Any, Any]:
    """Rows `(n, m)` in order, the permutation, and whether each row differs from the one before."""
    n, m = rows.shape
    places = ops.iota(shape=(n,), dtype=int32, axis=0)
    columns = [_column(rows, j) for j in range(m)]
    *columns, order = (
        ops.sort(*columns, places, axis=0, num_keys=m, stable=True) if m else (places,)
    )
    differs = ops.full((n - 1,), False, bool_)
    for c in columns:
        before, after = _part(c, 0, n - 1), _part(c, 1, n)
        apart = ops.ne(before, after)
        if equal_nan and dtypes.is_inexact(np.dtype(c.dtype)):
            both = ops.and_(ops.ne(before, before), ops.ne(after, after))
            apart = ops.and_(apart, ops.not_(both))
        differs = ops.or_(differs, apart)
    return (
        take_value(rows, order, 0, "clip"),
        order,
        ops.concatenate(ops.full((1,), True, bool_), differs, axis=0),
    )


def _rows_of(ar: Any, axis: int | None) -> tuple[Any, tuple[int, ...], int]:
    """The array as rows to compare, the shape of one of them, and the axis they lie along."""
    x = number("unique", ar)
    if axis is None:
        return ops.reshape(x, shape=(math.prod(x.shape), 1)), (), 0
    axis = axis_of("unique", axis, len(x.shape))
    x = moveaxis(wrap(x), axis, 0)._v
    rest = tuple(x.shape[1:])
    return ops.reshape(x, shape=(x.shape[0], math.prod(rest))), rest, axis


def unique(
    ar: Any,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    *,
    equal_nan: bool = True,
    size: int | None = None,
    fill_value: Any = None,
    sorted: bool = True,
) -> Any:
    """The distinct elements of an array in order, or its distinct slices along an axis.

    `sorted` is NumPy's hint; the result always is. On request also, as int32: the index of the
    first occurrence of each, the indices that rebuild the array, how often each occurs.

    >>> bnp.unique(bnp.array([3, 1, 3]), return_counts=True)
    (Array([1, 3], dtype=int32), Array([1, 2], dtype=int32))
    >>> bnp.unique(bnp.array([3, 1, 3]), size=3, fill_value=-1)
    Array([ 1,  3, -1], dtype=int32)
    """
    known_size("unique", ar, size)
    rows, rest, place = _rows_of(ar, axis)
    n = rows.shape[0]
    whole = tuple(number("unique", ar).shape) if axis is None else (n,)
    if n == 0:
        wanted = return_index, return_inverse, return_counts
        return _unique_of_nothing(rows, rest, place, wanted, size, whole, fill_value)
    ordered, order, new = _sorted_rows(rows, equal_nan)
    # Where each distinct row begins, and after the last one where it ends.
    bounds = nonzero(wrap(new), size=None if size is None else size + 1, fill_value=n)[0]._v
    if size is None:
        bounds = ops.concatenate(bounds, ops.full((1,), n, int32), axis=0)
    first, ends = (_part(bounds, i, bounds.shape[0] - 1 + i) for i in (0, 1))
    values = _filled_rows(ordered, first, fill_value)
    values = moveaxis(wrap(ops.reshape(values, shape=(first.shape[0], *rest))), 0, place)
    out = [values]
    if return_index:
        out.append(wrap(take_value(order, ops.min(first, ops.full_like(first, n - 1)), 0, "clip")))
        if size is not None:
            # The rest repeat the first element, as the values do.
            out[-1] = where(wrap(ops.lt(first, ops.full_like(first, n))), out[-1], out[-1][0])
    if return_inverse:
        out.append(wrap(_inverse(order, new, whole)))
    if return_counts:
        out.append(wrap(ops.sub(ends, first)))
    return tuple(out) if len(out) > 1 else out[0]


def _part(x: Any, start: int, limit: int) -> Any:
    return ops.slice(x, start=(start,), limit=(limit,), strides=None)


def _filled_rows(ordered: Any, places: Any, fill_value: Any) -> Any:
    """Rows at places; beyond the last row, the fill value or the first of those taken."""
    n = ordered.shape[0]
    if not places.shape[0]:
        return take_value(ordered, places, 0, "clip")
    taken = take_value(ordered, ops.min(places, ops.full_like(places, n - 1)), 0, "clip")
    shape = tuple(taken.shape)
    beyond = ops.broadcast_in_dim(ops.ge(places, ops.full_like(places, n)), shape=shape, dims=(0,))
    if fill_value is None:
        fill = ops.slice(taken, start=(0, 0), limit=(1, shape[1]), strides=None)
        fill = ops.broadcast_in_dim(fill, shape=shape, dims=(0, 1))
    else:
        fill = cast(number("unique", fill_value), np.dtype(taken.dtype))
        fill = ops.broadcast_in_dim(fill, shape=shape, dims=())
    return ops.select(beyond, fill, taken)


def _inverse(order: Any, new: Any, shape: tuple[int, ...]) -> Any:
    """For every element the position of its value among the distinct ones."""
    rank = ops.cumsum(cast(new, int32), axis=0, reverse=False)
    rank = ops.sub(rank, ops.full_like(rank, 1))
    n = order.shape[0]
    out = ops.scatter(
        ops.full((n,), 0, int32),
        ops.reshape(order, shape=(n, 1)),
        rank,
        dims=ops.ScatterDims((), (0,), (0,)),
        mode="promise_in_bounds",
        unique_indices=True,
        indices_are_sorted=False,
    )
    return ops.reshape(out, shape=shape)


def _unique_of_nothing(
    rows: Any,
    rest: tuple[int, ...],
    axis: int,
    wanted: tuple,
    size: int | None,
    whole: tuple[int, ...],
    fill_value: Any,
) -> Any:
    count = size or 0
    fill = wrap(np.zeros((), rows.dtype)) if fill_value is None else enter(fill_value)
    values = ops.broadcast_in_dim(
        cast(fill._v, np.dtype(rows.dtype)), shape=(count, *rest), dims=()
    )
    out = [moveaxis(wrap(values), 0, axis)]
    shapes = ((count,), whole, (count,))
    out += [wrap(np.zeros(s, int32)) for want, s in zip(wanted, shapes, strict=True) if want]
    return tuple(out) if len(out) > 1 else out[0]


def unique_values(x: Any, /, *, size: int | None = None, fill_value: Any = None) -> Any:
    """The distinct elements, every NaN for itself.

    >>> bnp.unique_values(bnp.array([2, 1, 2]))
    Array([1, 2], dtype=int32)
    """
    return unique(x, equal_nan=False, size=size, fill_value=fill_value)


def unique_counts(x: Any, /, *, size: int | None = None, fill_value: Any = None) -> UniqueCounts:
    """The distinct elements and how often each occurs.

    >>> bnp.unique_counts(bnp.array([2, 1, 2])).counts
    Array([1, 2], dtype=int32)
    """
    return UniqueCounts(
        *unique(x, return_counts=True, equal_nan=False, size=size, fill_value=fill_value)
    )


def unique_inverse(x: Any, /, *, size: int | None = None, fill_value: Any = None) -> UniqueInverse:
    """The distinct elements and the indices that rebuild the array from them.

    >>> bnp.unique_inverse(bnp.array([2, 1, 2])).inverse_indices
    Array([1, 0, 1], dtype=int32)
    """
    return UniqueInverse(
        *unique(x, return_inverse=True, equal_nan=False, size=size, fill_value=fill_value)
    )


def unique_all(x: Any, /, *, size: int | None = None, fill_value: Any = None) -> UniqueAll:
    """The distinct elements, first occurrences, the indices that rebuild the array, and counts.

    >>> bnp.unique_all(bnp.array([2, 1, 2])).indices
    Array([1, 0], dtype=int32)
    """
    return UniqueAll(
        *unique(x, True, True, True, equal_nan=False, size=size, fill_value=fill_value)
    )


def isin(
    element: Any, test_elements: Any, assume_unique: bool = False, invert: bool = False
) -> Any:
    """Whether each element occurs among others.

    >>> bnp.isin(bnp.array([1, 2, 3]), [3, 1])
    Array([ True, False,  True], dtype=bool)
    """
    number("isin", element), number("isin", test_elements)
    (x, others), _ = promote(element, test_elements)
    n = math.prod(others.shape)
    if n == 0:
        return wrap(ops.full(tuple(x.shape), invert, bool_))
    others = sort(wrap(others), None)
    index = searchsorted(others, wrap(x))._v
    found = ops.eq(take_value(others._v, ops.min(index, ops.full_like(index, n - 1)), 0, "clip"), x)
    return wrap(ops.not_(found) if invert else found)


def _flat(name: str, *arrays: Any) -> list[Any]:
    for a in arrays:
        number(name, a)
    values, _ = promote(*arrays)
    return [ops.reshape(v, shape=(math.prod(v.shape),)) for v in values]


def _distinct(x: Any, keep: Any, size: int | None, fill_value: Any) -> Any:
    """Distinct elements of a vector that `keep(values)` (a bool mask) selects, in order."""
    n = x.shape[0]
    if n == 0:
        return wrap(
            ops.full((size or 0,), 0 if fill_value is None else fill_value, np.dtype(x.dtype))
        )
    ordered, _, new = _sorted_rows(ops.reshape(x, shape=(n, 1)), True)
    vector = ops.reshape(ordered, shape=(n,))
    kept = ops.and_(new, keep(wrap(vector))._v)
    (places,) = nonzero(wrap(kept), size=size, fill_value=n)
    return wrap(
        ops.reshape(_filled_rows(ordered, places._v, fill_value), shape=(places._v.shape[0],))
    )


def union1d(ar1: Any, ar2: Any, *, size: int | None = None, fill_value: Any = None) -> Any:
    """Distinct elements of either of two arrays, in order.

    >>> bnp.union1d(bnp.array([1, 3]), bnp.array([2, 3]))
    Array([1, 2, 3], dtype=int32)
    """
    x, y = _flat("union1d", ar1, ar2)
    return unique(wrap(ops.concatenate(x, y, axis=0)), size=size, fill_value=fill_value)


def setdiff1d(
    ar1: Any,
    ar2: Any,
    assume_unique: bool = False,
    *,
    size: int | None = None,
    fill_value: Any = None,
) -> Any:
    """Distinct elements of the first array that the second lacks, in order.

    >>> bnp.setdiff1d(bnp.array([1, 2, 3]), bnp.array([2]))
    Array([1, 3], dtype=int32)
    """
    x, y = _flat("setdiff1d", ar1, ar2)
    return _distinct(x, lambda v: isin(v, wrap(y), invert=True), size, fill_value)


def setxor1d(
    ar1: Any,
    ar2: Any,
    assume_unique: bool = False,
    *,
    size: int | None = None,
    fill_value: Any = None,
) -> Any:
    """Distinct elements of exactly one of two arrays, in order.

    >>> bnp.setxor1d(bnp.array([1, 2]), bnp.array([2, 3]))
    Array([1, 3], dtype=int32)
    """
    x, y = _flat("setxor1d", ar1, ar2)

    def in_one(v: Any) -> Any:
        return wrap(ops.xor(isin(v, wrap(x))._v, isin(v, wrap(y))._v))

    return _distinct(ops.concatenate(x, y, axis=0), in_one, size, fill_value)


def intersect1d(
    ar1: Any,
    ar2: Any,
    assume_unique: bool = False,
    return_indices: bool = False,
    *,
    size: int | None = None,
    fill_value: Any = None,
) -> Any:
    """Distinct elements of both arrays, in order; on request also where each occurs first in
    either.

    >>> bnp.intersect1d(bnp.array([1, 2, 3]), bnp.array([3, 2]))
    Array([2, 3], dtype=int32)
    """
    x, y = _flat("intersect1d", ar1, ar2)
    both = _distinct(x, lambda v: isin(v, wrap(y)), size, fill_value)
    if not return_indices:
        return both
    return both, *[_first_index(v, both) for v in (x, y)]


def _first_index(x: Any, values: Any) -> Any:
    """Where each of some values occurs first in a vector."""
    order = ops.sort(
        x, ops.iota(shape=tuple(x.shape), dtype=int32, axis=0), axis=0, num_keys=1, stable=True
    )
    index = searchsorted(wrap(order[0]), values)._v
    return wrap(take_value(order[1], index, 0, "clip"))
