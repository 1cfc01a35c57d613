"""Choosing elements: by condition, by index along an axis, by position.

Functions whose result has a size that depends on the data (`nonzero`, `compress`, ...) take `size=`
under `jit`: the result is cut to it, or filled with `fill_value`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import bevel.ops as ops
from bevel.core import dtypes
from bevel.core.dtypes import bool_, int32
from bevel.core.errors import ShapeError
from bevel.core.handle import Handle, KeyTag, fresh_tag, logical_shape, wrap
from bevel.core.misfit import Change, Fix, broadcastable, change_of, misfit, new_axes
from bevel.numpy.arguments import (
    axes_of,
    axis_of,
    contents,
    integer,
    known,
    no_out,
    number,
    truth,
)
from bevel.numpy.convert import (
    astype,
    broadcast_value,
    broadcast_values,
    enter,
    no_broadcast,
    promote,
)
from bevel.numpy.joining import concatenate
from bevel.numpy.manipulation import atleast_1d, broadcast_shapes, broadcast_to, moveaxis, ravel
from bevel.numpy.moves import cut_axis, reshape_to, spread
from bevel.ops.indexing import FILL

# -- by condition --------------------------------------------------------------------------------


def where(
    condition: Any,
    x: Any = None,
    y: Any = None,
    /,
    *,
    size: int | None = None,
    fill_value: Any = None,
) -> Any:
    """`x` where the condition holds and `y` elsewhere, broadcast together and promoted.

    With the condition alone, the indices where it holds: `nonzero(condition, size=...,
    fill_value=...)`.

    >>> bnp.where(bnp.arange(3) > 0, 1.0, -1.0)
    Array([-1.,  1.,  1.], dtype=float32, weak_type=True)
    """
    if x is None and y is None:
        return nonzero(condition, size=size, fill_value=fill_value)
    if x is None or y is None:
        raise ValueError("where: give both x and y, or neither")
    if size is not None or fill_value is not None:
        raise ValueError(
            "where: size and fill_value go with the condition alone; here the result has its shape"
        )
    mask = truth(number("where", condition))
    (a, b), tag = promote(x, y)
    if type(tag) is KeyTag:
        mask = ops.reshape(mask, shape=(*mask.shape, 1))
    given = (condition, x, y)
    return wrap(ops.select(*broadcast_values("where", [mask, a, b], given)), tag)


def select(condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    """For every element the choice whose condition is the first that holds, or `default`.

    >>> x = bnp.arange(4)
    >>> bnp.select([x < 1, x > 2], [x - 10, x * 10])
    Array([-10,   0,   0,  30], dtype=int32)
    """
    if len(condlist) != len(choicelist) or not len(condlist):
        raise ValueError(
            f"select: {len(condlist)} conditions and {len(choicelist)} choices; give one each, "
            "at least 1"
        )
    values, tag = promote(*choicelist, default)
    given = [enter(x) for x in (*condlist, *choicelist, default)]
    if not broadcastable([logical_shape(x) for x in given]):
        kinds = [f"{kind} {i}" for kind in ("condition", "choice") for i in range(len(condlist))]
        raise no_broadcast("select", given, [*kinds, "the default"])
    out = wrap(values[-1], tag)
    for condition, value in zip(reversed(list(condlist)), reversed(values[:-1]), strict=True):
        if np.dtype(enter(condition)._v.dtype) != bool_:
            raise TypeError("select: conditions must be bool arrays; write x != 0")
        out = where(condition, wrap(value, tag), out)
    return out


def choose(a: Any, choices: Any, out: None = None, mode: str = "raise") -> Any:
    """Element i of the result comes from array `choices[a[i]]`, all broadcast together.

    An index out of range raises (`mode="raise"`; under `jit` it is clipped), is clipped (`"clip"`)
    or taken modulo the number of choices (`"wrap"`).

    >>> bnp.choose(bnp.array([1, 0]), [bnp.array([1, 2]), bnp.array([3, 4])])
    Array([3, 2], dtype=int32)
    """
    no_out("choose", out)
    values, tag = promote(*choices)
    which = number("choose", a)
    require_integer("choose", which)
    which = _bounded("choose", ops.convert(which, dtype=int32), len(values), mode)
    which, *cases = broadcast_values("choose", [which, *values], (enter(a), *choices))
    return wrap(ops.select_n(which, *cases) if len(cases) > 1 else cases[0], tag)


def _bounded(name: str, index: Any, n: int, mode: str) -> Any:
    """Indices within 0..n-1 by one of NumPy's modes; negative ones count from the end only in
    `raise`.
    """
    if mode == "wrap":
        size = ops.full_like(index, n)
        return ops.rem(ops.add(ops.rem(index, size), size), size)
    if mode not in ("raise", "clip"):
        raise ValueError(f"{name}: mode must be 'raise', 'clip' or 'wrap', got {mode!r}")
    if mode == "raise" and (found := known(index)) is not None and found.size:
        check_bounds(name, found, 0, n, "choices")
    low, high = ops.full_like(index, 0), ops.full_like(index, n - 1)
    return ops.select(ops.lt(index, low), low, ops.select(ops.ge(index, high), high, index))


def compress(
    condition: Any,
    a: Any,
    axis: int | None = None,
    *,
    size: int | None = None,
    fill_value: Any = 0,
    out: None = None,
) -> Any:
    """The slices along an axis (the flattened array by default) at which a condition holds.

    >>> bnp.compress([True, False, True], bnp.arange(3))
    Array([0, 2], dtype=int32)
    """
    no_out("compress", out)
    x, mask = enter(a), enter(condition)
    if axis is None:
        x, axis = ravel(x), 0
    axis = axis_of("compress", axis, len(logical_shape(x)))
    n, m = logical_shape(x)[axis], math.prod(logical_shape(mask))
    if len(logical_shape(mask)) != 1:
        raise misfit(
            "compress",
            [mask, x],
            "{0}, the condition, must have one axis",
            [Fix(whole="_1[_0]")] if logical_shape(mask) == logical_shape(x) else [],
            "a condition for the places of one axis",
            params=("condition", "a"),
        )
    if m > n:
        if (found := known(mask._v)) is not None and found[n:].any():
            raise IndexError(
                f"compress: the condition holds at {m - 1}, beyond axis {axis} of size {n}"
            )
        mask = cut_axis(mask, 0, 0, n)
    (places,) = nonzero(mask, size=size, fill_value=n)
    if size is None:
        return take(x, places, axis)
    return take(x, places, axis, mode="fill", fill_value=fill_value)


def extract(condition: Any, arr: Any, *, size: int | None = None, fill_value: Any = 0) -> Any:
    """The elements at which a condition holds, flattened.

    >>> bnp.extract(bnp.array([True, False]), bnp.array([4, 5]))
    Array([4], dtype=int32)
    """
    return compress(ravel(condition), arr, size=size, fill_value=fill_value)


# -- positions of nonzero elements ---------------------------------------------------------------

SIZE_DEPENDS = "the size of the result depends on the data, and a compiled program has fixed shapes"


def nonzero(a: Any, *, size: int | None = None, fill_value: Any = None) -> tuple[Any, ...]:
    """Indices of the nonzero elements, one int32 array per axis.

    With `size` there are exactly that many: cut, or filled with `fill_value` (0 by default; a tuple
    gives one for each axis). Under `jit` it must be given.

    >>> bnp.nonzero(bnp.array([3, 0, 4]))
    (Array([0, 2], dtype=int32),)
    >>> bnp.nonzero(bnp.array([3, 0, 4]), size=3, fill_value=-1)
    (Array([ 0,  2, -1], dtype=int32),)
    """
    value = number("nonzero", a)
    shape = tuple(value.shape)
    if not shape:
        raise ShapeError(
            "nonzero: a 0-d array has no indices; use bnp.atleast_1d, or bnp.where(x, a, b)"
        )
    if size is None:
        found = contents(
            "nonzero", value, SIZE_DEPENDS, "bnp.nonzero(x, size=n), or bnp.where(condition, a, b)"
        )
        return tuple([wrap(i.astype(int32)) for i in found.nonzero()])
    size = integer("nonzero", "size", size)
    fill = fill_value if isinstance(fill_value, tuple) else (fill_value or 0,) * len(shape)
    if len(fill) != len(shape):
        raise ValueError(
            f"nonzero: fill_value={fill} needs one entry for each of the {len(shape)} axes"
        )
    flat, count = _first_places(truth(value), math.prod(shape), size)
    out = []
    for axis, other in enumerate(fill):
        below, n = math.prod(shape[axis + 1 :]), max(shape[axis], 1)
        index = ops.rem(ops.div(flat, ops.full_like(flat, max(below, 1))), ops.full_like(flat, n))
        empty = ops.ge(ops.iota(shape=(size,), dtype=int32, axis=0), count)
        out.append(where(wrap(empty), astype(enter(other), int32), wrap(index)))
    return tuple(out)


def _first_places(mask: Any, n: int, size: int) -> tuple[Any, Any]:
    """Flat positions of the first `size` true elements (0 beyond), and how many there are, as
    `(size,)`.
    """
    zeros = ops.broadcast_in_dim(np.zeros((), int32), shape=(size,), dims=())
    if n == 0 or size == 0:
        return zeros, zeros
    mask = ops.reshape(mask, shape=(n,))
    rank = ops.cumsum(ops.convert(mask, dtype=int32), axis=0, reverse=False)
    count = cut_axis(wrap(rank), 0, n - 1, n)._v
    target = ops.select(mask, ops.sub(rank, ops.full_like(rank, 1)), ops.full_like(rank, size))
    places = ops.scatter(
        zeros,
        ops.reshape(target, shape=(n, 1)),
        ops.iota(shape=(n,), dtype=int32, axis=0),
        dims=ops.ScatterDims((), (0,), (0,)),
        mode="fill",
        unique_indices=False,
        indices_are_sorted=False,
    )
    return places, broadcast_value(count, (size,))


def flatnonzero(a: Any, *, size: int | None = None, fill_value: Any = None) -> Any:
    """Indices of the nonzero elements of the flattened array.

    >>> bnp.flatnonzero(bnp.array([[0, 1], [1, 0]]))
    Array([1, 2], dtype=int32)
    """
    return nonzero(ravel(a), size=size, fill_value=fill_value)[0]


def argwhere(a: Any, *, size: int | None = None, fill_value: Any = None) -> Any:
    """Indices of the nonzero elements as rows of an `(n, ndim)` array.

    >>> bnp.argwhere(bnp.array([[0, 1], [1, 0]]))
    Array([[0, 1],
           [1, 0]], dtype=int32)
    """
    x = enter(a)
    if not logical_shape(x):
        (places,) = nonzero(atleast_1d(x), size=size, fill_value=fill_value)
        return wrap(np.zeros((len(places), 0), int32))
    columns = nonzero(x, size=size, fill_value=fill_value)
    return concatenate([reshape_to(c, (*logical_shape(c), 1)) for c in columns], 1)


# -- by index along an axis ----------------------------------------------------------------------


def require_integer(name: str, index: Any) -> None:
    """Raise TypeError unless indices are integers."""
    if not dtypes.is_integer(np.dtype(index.dtype)):
        raise TypeError(
            f"{name}: indices must be integers, got {np.dtype(index.dtype).name}; "
            "write indices.astype(bnp.int32), or x[mask] for a bool mask"
        )


def check_bounds(name: str, index: np.ndarray, low: int, n: int, what: str) -> None:
    """Raise IndexError for an index outside `low..n-1`."""
    worst = index.max() if index.max() >= n else index.min()
    if not low <= worst < n:
        raise IndexError(
            f"{name}: index {worst} is out of range for {what} of size {n}; use {low}..{n - 1}"
        )


TAKE_MODES = (None, "raise", "fill", "clip", "wrap", "promise_in_bounds")


def resolve_indices(
    name: str, indices: Any, n: int, axis: int, mode: str | None
) -> tuple[Any, str]:
    """Non-negative int32 indices for a gather or scatter along an axis of size `n`, and mode."""
    if mode not in TAKE_MODES:
        raise ValueError(
            f"{name}: mode must be one of {', '.join(map(repr, TAKE_MODES[1:]))}, got {mode!r}"
        )
    require_integer(name, indices)
    size = math.prod(indices.shape)
    if n == 0 and size:
        raise IndexError(
            f"{name}: axis {axis} is empty, there is nothing to take {size} elements from"
        )
    index = indices if indices.dtype in (int32, dtypes.int64) else ops.convert(indices, dtype=int32)
    if mode == "wrap":
        limit = ops.full_like(index, n)
        return ops.rem(ops.add(ops.rem(index, limit), limit), limit), "promise_in_bounds"
    if mode == "clip":
        return index, "clip"
    found = known(index) if mode in (None, "raise") else None
    if found is not None:
        low, high = (found.min(), found.max()) if size else (0, -1)
        if low < -n or high >= n:
            check_bounds(name, found, -n, n, f"axis {axis}")
        if low >= 0:
            return index, "promise_in_bounds"
    zero = ops.full_like(index, 0)
    return ops.select(
        ops.lt(index, zero), ops.add(index, ops.full_like(index, n)), index
    ), FILL if mode in (None, "raise") else mode


def take_value(
    x: Any, index: Any, axis: int, mode: str, fill_value: Any = None, **promises: bool
) -> Any:
    """Slices of a value along an axis, at non-negative indices of any shape."""
    shape, lead = tuple(x.shape), len(index.shape)
    if shape[axis] == 0:
        return ops.broadcast_in_dim(
            np.zeros((), x.dtype), shape=(*shape[:axis], *index.shape, *shape[axis + 1 :]), dims=()
        )
    dims = ops.GatherDims(
        (*range(axis), *range(axis + lead, len(shape) + lead - 1)), (axis,), (axis,)
    )
    return ops.gather(
        x,
        ops.reshape(index, shape=(*index.shape, 1)),
        dims=dims,
        sizes=(*shape[:axis], 1, *shape[axis + 1 :]),
        mode=mode,
        fill_value=fill_value,
        unique_indices=promises.get("unique_indices", False),
        indices_are_sorted=promises.get("indices_are_sorted", False),
    )


def take(
    a: Any,
    indices: Any,
    axis: int | None = None,
    out: None = None,
    mode: str | None = None,
    unique_indices: bool = False,
    indices_are_sorted: bool = False,
    fill_value: Any = None,
) -> Any:
    """Slices of an array along an axis (of the flattened array by default); negative indices count
    from the end.

    An index out of range raises IndexError; where it is traced, its element is `fill_value` (NaN,
    or the smallest integer). `mode="clip"` takes the nearest element (and 0 for negative indices,
    as NumPy), `"wrap"` counts round and round, `"fill"` fills in any case.

    >>> bnp.take(bnp.array([5, 6, 7]), bnp.array([2, 0]))
    Array([7, 5], dtype=int32)
    """
    no_out("take", out)
    x = enter(a)
    if axis is None:
        x, axis = ravel(x), 0
    shape = logical_shape(x)
    axis = axis_of("take", axis, len(shape))
    index, mode = resolve_indices("take", number("take", indices), shape[axis], axis, mode)
    taken = take_value(
        x._v,
        index,
        axis,
        mode if fill_value is None else str(mode),
        fill_value,
        unique_indices=unique_indices,
        indices_are_sorted=indices_are_sorted,
    )
    return wrap(taken, fresh_tag(x._tag))


def _aligned(name: str, x: Handle, index: Handle, axis: int) -> tuple[Any, Any]:
    """Operand and indices broadcast against each other on every axis but one."""
    old, places = logical_shape(x), logical_shape(index)
    if len(old) != len(places):
        new = (*places[:axis], 1, *places[axis:])
        change = Change(f"_{new_axes(places, [axis])}", new, "lacks an axis")
        fits = len(new) == len(old) and broadcastable([old[:axis] + old[axis + 1 :], places])
        raise misfit(
            name,
            [x, index],
            f"they need as many axes, and {{0}} has {len(old)} and {{1}} {len(places)}",
            [change_of(1, change)] if fits else [],
            "indices with as many axes as the array; bnp.take for one vector of indices",
            params=("arr", "indices"),
        )
    rest = broadcast_shapes(old[:axis] + old[axis + 1 :], places[:axis] + places[axis + 1 :])
    grown = [(*rest[:axis], n, *rest[axis:]) for n in (old[axis], places[axis])]
    return broadcast_to(x, grown[0]), broadcast_to(index, grown[1])


def take_along_axis(
    arr: Any, indices: Any, axis: int | None = -1, mode: str | None = None, fill_value: Any = None
):
    """Elements of an array at an index for each position: what `argsort` and `argmax` give,
    applied.

    `indices` has as many axes as `arr` and broadcasts against it on all but `axis`. Modes are those
    of `take`.

    >>> x = bnp.array([[3, 1, 2]])
    >>> bnp.take_along_axis(x, bnp.argsort(x), axis=1)
    Array([[1, 2, 3]], dtype=int32)
    """
    x, index = enter(arr), enter(indices)
    if axis is None:
        x, axis = ravel(x), 0
    axis = axis_of("take_along_axis", axis, len(logical_shape(x)))
    require_integer("take_along_axis", index._v)
    x, index = _aligned("take_along_axis", x, index, axis)
    shape = logical_shape(index)
    where_, mode = resolve_indices("take_along_axis", index._v, logical_shape(x)[axis], axis, mode)
    if 0 in shape:
        return spread(wrap(np.zeros((), x._v.dtype)), shape, ())
    others = tuple([i for i in range(len(shape)) if i != axis])
    words = tuple(x._v.shape[len(shape) :])
    out = ops.gather(
        x._v,
        ops.reshape(where_, shape=(*shape, 1)),
        dims=ops.GatherDims(
            tuple(range(len(shape), len(shape) + len(words))), (axis,), (axis,), others, others
        ),
        sizes=(*(1,) * len(shape), *words),
        mode=mode if fill_value is None else str(mode),
        fill_value=fill_value,
        unique_indices=False,
        indices_are_sorted=False,
    )
    return wrap(out, fresh_tag(x._tag))


def put_along_axis(
    arr: Any,
    indices: Any,
    values: Any,
    axis: int | None = -1,
    inplace: bool = False,
    mode: str | None = None,
) -> Any:
    """A copy of an array with values at the places that `take_along_axis` would read.

    NumPy writes into `arr`; here arrays are immutable and the result is returned (`inplace` must
    stay False).

    >>> bnp.put_along_axis(bnp.zeros((2, 2)), bnp.array([[0], [1]]), 9, axis=1)
    Array([[9., 0.],
           [0., 9.]], dtype=float32)
    """
    if inplace:
        raise ValueError(
            "put_along_axis: arrays are immutable; write x = bnp.put_along_axis(x, ..., "
            "inplace=False)"
        )
    x, index = enter(arr), enter(indices)
    if axis is None:
        return reshape_to(put_along_axis(ravel(x), index, values, 0, mode=mode), logical_shape(x))
    shape = logical_shape(x)
    axis = axis_of("put_along_axis", axis, len(shape))
    require_integer("put_along_axis", index._v)
    x, index = _aligned("put_along_axis", x, index, axis)
    places, mode = resolve_indices("put_along_axis", index._v, logical_shape(x)[axis], axis, mode)
    spread_shape = tuple(places.shape)
    new = broadcast_to(astype(enter(values), np.dtype(x._v.dtype)), spread_shape)
    others = tuple([i for i in range(len(spread_shape)) if i != axis])
    out = ops.scatter(
        x._v,
        ops.reshape(places, shape=(*spread_shape, 1)),
        new._v,
        dims=ops.ScatterDims((), (axis,), (axis,), others, others),
        mode=mode,
        unique_indices=False,
        indices_are_sorted=False,
    )
    return wrap(out)


def put(a: Any, ind: Any, v: Any, mode: str | None = None, *, inplace: bool = False) -> Any:
    """A copy of an array with values at indices of its flattened form; `v` repeats as often as
    needed.

    >>> bnp.put(bnp.zeros(3), bnp.array([0, 2]), 5)
    Array([5., 0., 5.], dtype=float32)
    """
    index, new = ravel(ind), ravel(v)
    n, m = logical_shape(index)[0], logical_shape(new)[0]
    if n == 0 or m == 0:
        return enter(a)
    new = take(new, np.arange(n) % m) if m not in (1, n) else new
    return put_along_axis(a, index, new, None, inplace, mode)


def place(arr: Any, mask: Any, vals: Any, *, inplace: bool = False) -> Any:
    """A copy of an array with the first values of `vals`, repeated, where a mask holds.

    >>> bnp.place(bnp.arange(4), bnp.array([True, False, True, False]), [7, 8])
    Array([7, 1, 8, 3], dtype=int32)
    """
    if inplace:
        raise ValueError(
            "place: arrays are immutable; write x = bnp.place(x, mask, vals, inplace=False)"
        )
    x, hold, new = enter(arr), truth(number("place", mask)), ravel(vals)
    n, m = math.prod(logical_shape(x)), logical_shape(new)[0]
    if math.prod(hold.shape) != n:
        raise ShapeError(
            f"place: the mask has shape {tuple(hold.shape)} and the array {logical_shape(x)}"
        )
    if not n:
        return x
    if not m:
        raise ValueError("place: vals is empty")
    rank = ops.cumsum(
        ops.convert(ops.reshape(hold, shape=(n,)), dtype=int32), axis=0, reverse=False
    )
    which = ops.sub(rank, ops.full_like(rank, 1))
    new = take(astype(new, np.dtype(x._v.dtype)), wrap(which), mode="wrap")
    return where(wrap(hold), reshape_to(new, tuple(hold.shape)), reshape_to(x, tuple(hold.shape)))


def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """Elements of the diagonal of each matrix in the plane of two axes, as the last axis of the
    result.

    >>> bnp.diagonal(bnp.array([[1, 2], [3, 4]]))
    Array([1, 4], dtype=int32)
    """
    x = enter(a)
    ndim = len(logical_shape(x))
    if ndim < 2:
        fix = Fix("With diag a vector becomes a matrix", callee="diag")
        raise misfit("diagonal", [x], "it needs 2 axes", [fix] if ndim else [], "a matrix")
    plane = axes_of("diagonal", (axis1, axis2), ndim)
    x = moveaxis(x, plane, (-2, -1))
    *lead, m, n = logical_shape(x)
    k = integer("diagonal", "offset", offset)
    first = k if k >= 0 else -k * n
    count = max(0, min(m, n - k) if k >= 0 else min(m + k, n))
    flat = reshape_to(x, (*lead, m * n))
    if count == 0:
        return cut_axis(flat, len(lead), 0, 0)
    return cut_axis(flat, len(lead), first, first + (count - 1) * (n + 1) + 1, n + 1)


def fill_diagonal(a: Any, val: Any, wrap: bool = False, *, inplace: bool = False) -> Any:
    """A copy of an array with its main diagonal replaced; `wrap` starts it again below in tall
    matrices.

    >>> bnp.fill_diagonal(bnp.zeros((2, 2)), 1)
    Array([[1., 0.],
           [0., 1.]], dtype=float32)
    """
    if inplace:
        raise ValueError(
            "fill_diagonal: arrays are immutable; write x = bnp.fill_diagonal(x, val, "
            "inplace=False)"
        )
    x = enter(a)
    shape = logical_shape(x)
    if len(shape) < 2 or (len(shape) > 2 and len(set(shape)) > 1):
        raise ShapeError(
            f"fill_diagonal: needs a matrix, or more axes of one size, got shape {shape}"
        )
    step = (
        shape[1] + 1
        if len(shape) == 2
        else sum(math.prod(shape[i + 1 :]) for i in range(len(shape)))
    )
    stop = (
        math.prod(shape) if wrap or len(shape) > 2 else min(math.prod(shape), shape[1] * shape[1])
    )
    return put(x, np.arange(0, stop, step), val)
