"""More elements or fewer: repeating, padding, inserting, deleting."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import bevel.ops as ops
from bevel.core.dtypes import bool_, int32
from bevel.core.handle import Handle, logical_shape, wrap
from bevel.core.interpreter import is_concrete
from bevel.numpy.arguments import axes_of, axis_of, contents, number, size_of
from bevel.numpy.convert import astype, broadcast_value, enter
from bevel.numpy.joining import concatenate
from bevel.numpy.manipulation import atleast_1d, broadcast_to, moveaxis, ravel
from bevel.numpy.moves import cut_axis, reshape_to, spread
from bevel.numpy.selection import (
    SIZE_DEPENDS,
    check_bounds,
    require_integer,
    resolve_indices,
    take,
)


def repeat(
    a: Any, repeats: Any, axis: int | None = None, *, total_repeat_length: int | None = None
) -> Any:
    """Each element (or slice along an axis) several times over; `repeats` may hold a count for
    each.

    Traced counts need `total_repeat_length`, the size of the result: it is cut, or its last element
    repeats.

    >>> bnp.repeat(bnp.array([1, 2]), bnp.array([2, 1]))
    Array([1, 1, 2], dtype=int32)
    """
    x = enter(a)
    if axis is None:
        x, axis = ravel(x), 0
    shape = logical_shape(x)
    if not shape:
        x, shape = reshape_to(x, (1,)), (1,)
    axis = axis_of("repeat", axis, len(shape))
    n = shape[axis]
    if isinstance(repeats, int) and total_repeat_length is None:
        if repeats < 0:
            raise ValueError(f"repeat: repeats must not be negative, got {repeats}")
        wide = (*shape[: axis + 1], repeats, *shape[axis + 1 :])
        out = spread(x, wide, tuple([i for i in range(len(wide)) if i != axis + 1]))
        return reshape_to(out, (*shape[:axis], n * repeats, *shape[axis + 1 :]))
    counts = atleast_1d(repeats)
    require_integer("repeat", counts._v)
    counts = broadcast_to(counts, (n,))
    if is_concrete(counts._v) or total_repeat_length is None:
        why = "the size of the result is their sum, and a compiled program has fixed shapes"
        found = contents("repeat", counts._v, why, "bnp.repeat(x, counts, total_repeat_length=n)")
        if found.size and found.min() < 0:
            raise ValueError(f"repeat: counts must not be negative, got {found.min()}")
        places = np.repeat(np.arange(n), found)
        if total_repeat_length is not None:
            pad = max(0, total_repeat_length - places.size)
            places = np.pad(places, (0, pad), constant_values=max(n - 1, 0))[:total_repeat_length]
        return take(x, places, axis)
    return take(x, _repeat_places(counts._v, n, total_repeat_length), axis, mode="clip")


def _repeat_places(counts: Any, n: int, total: int) -> Any:
    """Which element is at each place: one mark where each of them ends, summed up."""
    ends = ops.cumsum(ops.convert(counts, dtype=int32), axis=0, reverse=False)
    marks = ops.scatter_add(
        ops.full((total,), 0, int32),
        ops.reshape(ends, shape=(n, 1)),
        ops.full((n,), 1, int32),
        dims=ops.ScatterDims((), (0,), (0,)),
        mode="fill",
        unique_indices=False,
        indices_are_sorted=True,
    )
    return wrap(ops.cumsum(marks, axis=0, reverse=False))


def resize(a: Any, new_shape: Any) -> Any:
    """An array of another size, its elements repeated from the start as often as needed.

    >>> bnp.resize(bnp.array([1, 2]), (3,))
    Array([1, 2, 1], dtype=int32)
    """
    x, shape = ravel(a), size_of("resize", new_shape)
    n, m = logical_shape(x)[0], math.prod(shape)
    if n == 0:
        return broadcast_to(wrap(np.zeros((), x._v.dtype)), shape)
    whole = concatenate([x] * max(1, -(-m // n)))
    return reshape_to(cut_axis(whole, 0, 0, m), shape)


def _static_places(name: str, obj: Any, n: int) -> np.ndarray:
    """What `obj` (an int, a slice, indices, a mask) names along an axis of size `n`, as an index
    array.
    """
    if isinstance(obj, slice):
        return np.arange(n)[obj]
    value = number(name, obj) if not isinstance(obj, list) or obj else np.zeros(0, int32)
    found = contents(
        name, value, "the size of the result depends on it", f"{name} with indices known in Python"
    )
    if found.dtype == bool_:
        if found.shape != (n,):
            raise IndexError(f"{name}: a mask of shape {found.shape} for an axis of size {n}")
        return found.nonzero()[0]
    require_integer(name, found)
    return found


def delete(arr: Any, obj: Any, axis: int | None = None) -> Any:
    """An array without the slices that `obj` (an int, a slice, indices, a mask) names along an
    axis.

    An int may be traced.

    >>> bnp.delete(bnp.arange(4), 1)
    Array([0, 2, 3], dtype=int32)
    """
    x = enter(arr)
    if axis is None:
        x, axis = ravel(x), 0
    axis = axis_of("delete", axis, len(logical_shape(x)))
    n = logical_shape(x)[axis]
    if isinstance(obj, Handle) and not is_concrete(obj._v) and logical_shape(obj) == ():
        gone, _ = resolve_indices("delete", obj._v, n, axis, None)
        kept = ops.iota(shape=(n - 1,), dtype=np.dtype(gone.dtype), axis=0)
        after = ops.convert(ops.ge(kept, broadcast_value(gone, (n - 1,))), dtype=kept.dtype)
        return take(x, wrap(ops.add(kept, after)), axis, mode="clip")
    gone = _static_places("delete", obj, n)
    if gone.size:
        check_bounds("delete", gone, -n, n, f"axis {axis}")
    keep = np.ones(n, bool)
    keep[gone] = False
    return take(x, keep.nonzero()[0], axis)


def insert(arr: Any, obj: Any, values: Any, axis: int | None = None) -> Any:
    """An array with values inserted before the positions that `obj` names along an axis.

    >>> bnp.insert(bnp.array([1, 2, 3]), 1, 9)
    Array([1, 9, 2, 3], dtype=int32)
    """
    x, new = enter(arr), enter(values)
    if axis is None:
        x, axis = ravel(x), 0
    shape = logical_shape(x)
    axis = axis_of("insert", axis, len(shape))
    new = astype(new, np.dtype(x._v.dtype))
    n = shape[axis]
    places = _static_places("insert", obj, n)
    if places.size:
        check_bounds("insert", places, -n, n + 1, f"axis {axis}")
    if places.ndim == 0 and len(logical_shape(new)):
        grown = (*(1,) * (len(shape) - len(logical_shape(new))), *logical_shape(new))
        new = moveaxis(reshape_to(new, grown), 0, axis)
    flat = np.atleast_1d(np.where(places < 0, places + n, places))
    count = (
        logical_shape(new)[axis]
        if flat.size == 1 and len(logical_shape(new)) == len(shape)
        else flat.size
    )
    flat = np.repeat(flat, count) if flat.size == 1 else flat
    new = broadcast_to(new, (*shape[:axis], count, *shape[axis + 1 :]))
    order = np.argsort(flat, kind="stable")
    target = np.empty(count, np.int64)
    target[order] = flat[order] + np.arange(count)
    source = np.empty(n + count, np.int64)
    old = np.ones(n + count, bool)
    old[target] = False
    source[target] = n + np.arange(count)
    source[old] = np.arange(n)
    return take(concatenate([x, new], axis), source, axis)


def trim_zeros(filt: Any, trim: str = "fb", axis: Any = None) -> Any:
    """An array without its leading (`"f"`) and trailing (`"b"`) zeros; only outside `jit`.

    Along axes (None: all) it is cut to the smallest box that holds every element that is not zero.

    >>> bnp.trim_zeros(bnp.array([0, 1, 0, 2, 0]))
    Array([1, 0, 2], dtype=int32)
    """
    x = enter(filt)
    shape = logical_shape(x)
    axes = axes_of("trim_zeros", axis, len(shape))
    found = contents(
        "trim_zeros", x._v, SIZE_DEPENDS, "bnp.where(x != 0, x, 0), which keeps the shape"
    )
    places = np.atleast_1d(found).nonzero()
    some = bool(places[0].size)
    for i in axes:
        start = int(places[i].min()) if some and "f" in trim.lower() else 0
        stop = int(places[i].max()) + 1 if some else 0
        x = cut_axis(x, i, start, stop if "b" in trim.lower() or not some else shape[i])
    return x
