"""Making and moving elements, with the names and argument orders of `jax.lax`."""

from __future__ import annotations

import builtins
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import bevel.ops as ops
from bevel.core import dtypes, tree
from bevel.core.dtypes import as_dtype, int32
from bevel.core.errors import ShapeError
from bevel.core.handle import Handle, KeyTag, fresh_tag, logical_shape, wrap
from bevel.core.interpreter import is_concrete, to_numpy
from bevel.core.misfit import Fix, misfit
from bevel.lax.operands import checked, one_dtype, scalar_index
from bevel.numpy import joining, manipulation, turning
from bevel.numpy.arguments import axes_of, axis_of, cast, integer, resolve_shape, size_of
from bevel.numpy.convert import astype, enter, promote
from bevel.numpy.moves import cut, cut_axis, cut_parts, join, permute, reshape_to, reverse, spread

broadcast_shapes = manipulation.broadcast_shapes


def dtype(x: Any) -> np.dtype:
    """The dtype of an array, or the one that a number or NumPy array takes here.

    >>> lax.dtype(1.0)
    dtype('float32')
    """
    return np.dtype(enter(x)._v.dtype)


# -- making --------------------------------------------------------------------------------------


def full(shape: Any, fill_value: Any, dtype: Any = None) -> Any:
    """An array of one number.

    >>> lax.full((2,), 3.0)
    Array([3., 3.], dtype=float32, weak_type=True)
    """
    x = enter(fill_value)
    if logical_shape(x) != ():
        raise ShapeError(f"lax.full: fill_value must have no axes, got shape {logical_shape(x)}")
    x = x if dtype is None else astype(x, as_dtype(dtype))
    return spread(x, size_of("full", shape), ())


def full_like(x: Any, fill_value: Any, dtype: Any = None, shape: Any = None) -> Any:
    """An array of one number with the shape and dtype of another, unless they are given.

    >>> lax.full_like(bnp.arange(2), 7)
    Array([7, 7], dtype=int32)
    """
    like = enter(x)
    if type(like._tag) is KeyTag:
        return full(logical_shape(like) if shape is None else shape, fill_value)
    dtype = np.dtype(like._v.dtype) if dtype is None else dtype
    return full(logical_shape(like) if shape is None else shape, fill_value, dtype)


def empty(shape: Any, dtype: Any) -> Any:
    """An array whose contents do not matter (zeros).

    >>> lax.empty((2,), bnp.float32).shape
    (2,)
    """
    return full(shape, 0, dtype)


def iota(dtype: Any, size: int) -> Any:
    """0, 1, 2, ... up to `size - 1`.

    >>> lax.iota(bnp.int32, 3)
    Array([0, 1, 2], dtype=int32)
    """
    return broadcasted_iota(dtype, (size,), 0)


def broadcasted_iota(dtype: Any, shape: Any, dimension: int) -> Any:
    """The index along one axis, at every place.

    >>> lax.broadcasted_iota(bnp.int32, (2, 2), 1)
    Array([[0, 1],
           [0, 1]], dtype=int32)
    """
    shape = size_of("broadcasted_iota", shape)
    axis = axis_of("broadcasted_iota", dimension, len(shape))
    return wrap(ops.iota(shape=shape, dtype=as_dtype(dtype), axis=axis))


# -- reshaping and repeating ---------------------------------------------------------------------


def reshape(operand: Any, new_sizes: Any, dimensions: Sequence[int] | None = None) -> Any:
    """The same elements in another shape, read with the axes in the order `dimensions` if it is
    given.

    >>> lax.reshape(bnp.arange(4), (2, 2)).shape
    (2, 2)
    """
    x = enter(operand)
    if dimensions is not None:
        x = permute(x, axes_of("reshape", tuple(dimensions), len(logical_shape(x))))
    new = size_of("reshape", new_sizes)
    return reshape_to(x, resolve_shape("lax.reshape", x, logical_shape(x), new))


def transpose(operand: Any, permutation: Sequence[int]) -> Any:
    """Axis i of the result is axis `permutation[i]` of the operand.

    >>> lax.transpose(bnp.ones((2, 3)), (1, 0)).shape
    (3, 2)
    """
    return manipulation.transpose(operand, tuple(permutation))


def expand_dims(array: Any, dimensions: Sequence[int]) -> Any:
    """Insert axes of size 1 at places of the result.

    >>> lax.expand_dims(bnp.ones(3), (0,)).shape
    (1, 3)
    """
    return manipulation.expand_dims(array, tuple(dimensions))


def squeeze(array: Any, dimensions: Sequence[int]) -> Any:
    """Drop axes of size 1.

    >>> lax.squeeze(bnp.ones((1, 3)), (0,)).shape
    (3,)
    """
    return manipulation.squeeze(array, tuple(dimensions))


def collapse(operand: Any, start_dimension: int, stop_dimension: int | None = None) -> Any:
    """Merge the axes from `start_dimension` up to (not with) `stop_dimension` into one.

    >>> lax.collapse(bnp.ones((2, 3, 4)), 1).shape
    (2, 12)
    """
    x = enter(operand)
    shape = logical_shape(x)
    start, stop, _ = builtins.slice(start_dimension, stop_dimension).indices(len(shape))
    if start >= stop:
        raise ValueError(
            f"lax.collapse: there is no axis from {start_dimension} to {stop_dimension} in {shape}"
        )
    return reshape_to(x, (*shape[:start], math.prod(shape[start:stop]), *shape[stop:]))


def broadcast(operand: Any, sizes: Sequence[int]) -> Any:
    """Repeat along new axes in front.

    >>> lax.broadcast(bnp.ones(3), (2,)).shape
    (2, 3)
    """
    x = enter(operand)
    lead, shape = size_of("broadcast", sizes), logical_shape(x)
    return spread(x, (*lead, *shape), tuple(range(len(lead), len(lead) + len(shape))))


def broadcast_in_dim(operand: Any, shape: Any, broadcast_dimensions: Sequence[int]) -> Any:
    """Put axis i of the operand at axis `broadcast_dimensions[i]` of `shape`, and repeat along the
    others.

    An axis of size 1 may become larger. The places are in ascending order.

    >>> lax.broadcast_in_dim(bnp.arange(2), (2, 2), (0,))
    Array([[0, 0],
           [1, 1]], dtype=int32)
    """
    new = size_of("broadcast_in_dim", shape)
    dims = axes_of("broadcast_in_dim", tuple(broadcast_dimensions), len(new))
    x = enter(operand)
    try:
        return spread(x, new, dims)
    except ValueError as e:
        raise _no_places(x, new, dims) or e from None


def _no_places(x: Any, new: tuple[int, ...], dims: tuple[int, ...]) -> Exception | None:
    """The error of an axis whose size is not that of its place, if there is one."""
    old = logical_shape(x)
    wrong = [i for i, (n, d) in enumerate(zip(old, dims, strict=False)) if n not in (1, new[d])]
    if not wrong:
        return None
    i = wrong[0]
    ways = itertools.combinations(range(len(new)), len(old))
    fits = [
        places
        for places in itertools.islice(ways, 1000)
        if all([n in (1, new[d]) for n, d in zip(old, places, strict=True)])
    ]
    fixes = [
        Fix(f"It fits the axes {places}", settings={"broadcast_dimensions": (2, str(places))})
        for places in fits
    ]
    return misfit(
        "lax.broadcast_in_dim",
        [x],
        f"axis {i} of {{0}} has size {old[i]}, and axis {dims[i]} of {new} size {new[dims[i]]}",
        fixes if len(fixes) == 1 else [],
        "broadcast_dimensions that name axes of equal sizes",
        words=["the array"],
    )


def broadcast_like(arr: Any, like_arr: Any) -> Any:
    """Repeat an array to the shape of another, axes aligned at the end.

    >>> lax.broadcast_like(bnp.arange(2), bnp.zeros((2, 2)))
    Array([[0, 1],
           [0, 1]], dtype=int32)
    """
    return manipulation.broadcast_to(arr, logical_shape(enter(like_arr)))


def shape_as_value(shape: Sequence[int]) -> Any:
    """A shape as an int32 vector.

    >>> lax.shape_as_value((2, 3))
    Array([2, 3], dtype=int32)
    """
    return wrap(np.asarray(size_of("shape_as_value", tuple(shape)), int32))


def broadcast_to_rank(x: Any, rank: int) -> Any:
    """Axes of size 1 in front, up to `rank` axes.

    >>> lax.broadcast_to_rank(bnp.ones(3), 3).shape
    (1, 1, 3)
    """
    x = enter(x)
    shape = logical_shape(x)
    if rank < len(shape):
        raise ValueError(f"lax.broadcast_to_rank: shape {shape} has more than {rank} axes")
    return reshape_to(x, (*(1,) * (rank - len(shape)), *shape))


def rev(operand: Any, dimensions: Sequence[int]) -> Any:
    """Reverse the order along axes.

    >>> lax.rev(bnp.arange(3), (0,))
    Array([2, 1, 0], dtype=int32)
    """
    x = enter(operand)
    return reverse(x, axes_of("rev", tuple(dimensions), len(logical_shape(x))))


def pad(operand: Any, padding_value: Any, padding_config: Sequence[tuple[int, int, int]]) -> Any:
    """Add elements before, after and between those along each axis: `(low, high, interior)`.

    A negative low or high cuts elements off.

    >>> lax.pad(bnp.array([1.0, 2.0]), 0.0, [(1, 0, 1)])
    Array([0., 1., 0., 2.], dtype=float32)
    """
    (x, value), tag = one_dtype("pad", (operand, padding_value))
    config = tuple([tuple([integer("pad", "every entry", n) for n in c]) for c in padding_config])
    return wrap(checked(ops.pad, x, value, config=config), tag)


# -- joining and taking apart --------------------------------------------------------------------


def concatenate(operands: Sequence[Any], dimension: int) -> Any:
    """Join arrays of one dtype along an axis.

    >>> lax.concatenate([bnp.ones(2), bnp.zeros(1)], 0)
    Array([1., 1., 0.], dtype=float32)
    """
    handles = [enter(x) for x in operands]
    if not handles:
        raise ValueError("lax.concatenate: needs at least one array")
    keys = [h for h in handles if type(h._tag) is KeyTag]
    values, tag = promote(*handles) if keys else one_dtype("concatenate", tuple(handles))
    axis = axis_of("concatenate", dimension, len(logical_shape(handles[0])))
    joining.check_joined("lax.concatenate", handles, axis, "dimension")
    return join(values, tag, axis)


def stack(operands: Sequence[Any], axis: int = 0) -> Any:
    """Join arrays of one shape and dtype along a new axis.

    >>> lax.stack([bnp.ones(2), bnp.zeros(2)]).shape
    (2, 2)
    """
    handles = [enter(x) for x in operands]
    if len({np.dtype(h._v.dtype) for h in handles}) > 1:
        one_dtype("stack", tuple(handles))
    return joining.stack(handles, axis=axis)


def tile(operand: Any, reps: Sequence[int]) -> Any:
    """Repeat an array along each of its axes.

    >>> lax.tile(bnp.arange(2), (2,))
    Array([0, 1, 0, 1], dtype=int32)
    """
    x, reps = enter(operand), size_of("tile", tuple(reps))
    if len(reps) != len(logical_shape(x)):
        raise ShapeError(
            f"lax.tile: reps={reps} needs one entry for each axis of shape {logical_shape(x)}"
        )
    return turning.tile(x, reps)


def split(operand: Any, sizes: Sequence[int], axis: int = 0) -> list[Any]:
    """Cut an array into parts of the given sizes.

    >>> [x.shape for x in lax.split(bnp.ones(5), (2, 3))]
    [(2,), (3,)]
    """
    x = enter(operand)
    axis = axis_of("split", axis, len(logical_shape(x)))
    ends = np.cumsum([0, *size_of("split", tuple(sizes))]).tolist()
    if ends[-1] != logical_shape(x)[axis]:
        raise misfit(
            "lax.split",
            [x],
            f"the sizes {tuple(sizes)} add up to {ends[-1]}, and axis {axis} has "
            f"{logical_shape(x)[axis]}",
            otherwise=f"sizes that add up to {logical_shape(x)[axis]}",
            words=["the array"],
        )
    return cut_parts(x, axis, list(zip(ends, ends[1:], strict=False)))


def unstack(x: Any, axis: int = 0) -> tuple[Any, ...]:
    """The slices of an array along an axis.

    >>> len(lax.unstack(bnp.ones((2, 3))))
    2
    """
    return joining.unstack(x, axis=axis)


def slice(
    operand: Any,
    start_indices: Sequence[int],
    limit_indices: Sequence[int],
    strides: Sequence[int] | None = None,
) -> Any:
    """`operand[start:limit:stride]` along every axis; bounds are in range.

    >>> lax.slice(bnp.arange(6), (1,), (6,), (2,))
    Array([1, 3, 5], dtype=int32)
    """
    bounds = [
        None if b is None else tuple([integer("slice", "every bound", n) for n in b])
        for b in (start_indices, limit_indices, strides)
    ]
    return cut(enter(operand), bounds[0], bounds[1], bounds[2])


def slice_in_dim(
    operand: Any, start_index: int | None, limit_index: int | None, stride: int = 1, axis: int = 0
) -> Any:
    """`slice` along one axis; None is its start or end, and negative bounds count from its end.

    >>> lax.slice_in_dim(bnp.arange(6), -2, None)
    Array([4, 5], dtype=int32)
    """
    x = enter(operand)
    shape = logical_shape(x)
    axis = axis_of("slice_in_dim", axis, len(shape))
    n = shape[axis]
    start = 0 if start_index is None else integer("slice_in_dim", "start_index", start_index)
    limit = n if limit_index is None else integer("slice_in_dim", "limit_index", limit_index)
    start, limit = (i + n if i < 0 else i for i in (start, limit))
    return cut_axis(x, axis, start, limit, integer("slice_in_dim", "stride", stride))


def index_in_dim(operand: Any, index: int, axis: int = 0, keepdims: bool = True) -> Any:
    """One slice along an axis; `keepdims` keeps the axis, with size 1.

    >>> lax.index_in_dim(bnp.arange(3), -1)
    Array([2], dtype=int32)
    """
    x = enter(operand)
    shape = logical_shape(x)
    axis = axis_of("index_in_dim", axis, len(shape))
    i, n = integer("index_in_dim", "index", index), shape[axis]
    if not -n <= i < n:
        raise IndexError(f"lax.index_in_dim: index {i} is out of range for axis {axis} of size {n}")
    i = i + n if i < 0 else i
    out = cut_axis(x, axis, i, i + 1)
    return out if keepdims else reshape_to(out, shape[:axis] + shape[axis + 1 :])


# -- slices at computed places -------------------------------------------------------------------


def _starts(name: str, indices: Any, shape: tuple[int, ...], negative: bool) -> list[Any]:
    """One 0-d start for each axis; negative ones count from the end."""
    if isinstance(indices, Handle | np.ndarray):
        indices = joining.unstack(indices)
    if len(indices) != len(shape):
        raise ShapeError(
            f"lax.{name}: {len(indices)} start indices for shape {shape}; give one for each axis"
        )
    return [_start(name, i, n, negative) for i, n in zip(indices, shape, strict=True)]


def _start(name: str, index: Any, n: int, negative: bool) -> Any:
    value = scalar_index(name, index)
    if is_concrete(value):
        i = int(to_numpy(value))
        return np.asarray(i + n if i < 0 and negative else i, value.dtype)
    if not negative:
        return value
    zero, size = np.zeros((), value.dtype), np.asarray(n, value.dtype)
    return ops.select(ops.lt(value, zero), ops.add(value, size), value)


def _words(x: Handle) -> tuple[int, ...]:
    return (x._tag.words,) if type(x._tag) is KeyTag else ()


def _with_words(x: Handle, starts: list[Any]) -> list[Any]:
    """Starts of one dtype, with one for the words of keys."""
    wide = dtypes.int64 if any(s.dtype == dtypes.int64 for s in starts) else int32
    return [*[cast(s, wide) for s in starts], *[np.zeros((), wide)] * len(_words(x))]


def dynamic_slice(
    operand: Any,
    start_indices: Any,
    slice_sizes: Sequence[int],
    *,
    allow_negative_indices: bool = True,
) -> Any:
    """A slice of fixed size at a computed place, moved so that it lies within the array.

    `start_indices` is one integer for each axis, or a vector of them.

    >>> lax.dynamic_slice(bnp.arange(5), (3,), (2,))
    Array([3, 4], dtype=int32)
    """
    x = enter(operand)
    starts = _starts("dynamic_slice", start_indices, logical_shape(x), allow_negative_indices)
    sizes = (*size_of("dynamic_slice", tuple(slice_sizes)), *_words(x))
    return wrap(
        checked(ops.dynamic_slice, x._v, *_with_words(x, starts), sizes=sizes), fresh_tag(x._tag)
    )


def dynamic_update_slice(
    operand: Any, update: Any, start_indices: Any, *, allow_negative_indices: bool = True
) -> Any:
    """A copy with `update` written at a computed place, moved so that it lies within the array.

    >>> lax.dynamic_update_slice(bnp.zeros(4), bnp.ones(2), (1,))
    Array([0., 1., 1., 0.], dtype=float32)
    """
    x, new = enter(operand), enter(update)
    starts = _starts(
        "dynamic_update_slice", start_indices, logical_shape(x), allow_negative_indices
    )
    if type(x._tag) is KeyTag or type(new._tag) is KeyTag:
        values, tag = promote(x, new)
    else:
        values, tag = one_dtype("dynamic_update_slice", (x, new))
    return wrap(checked(ops.dynamic_update_slice, *values, *_with_words(x, starts)), tag)


def _at_axis(x: Handle, index: Any, axis: int) -> list[Any]:
    return [index if i == axis else 0 for i in range(len(logical_shape(x)))]


def dynamic_slice_in_dim(
    operand: Any,
    start_index: Any,
    slice_size: int,
    axis: int = 0,
    *,
    allow_negative_indices: bool = True,
) -> Any:
    """`dynamic_slice` along one axis.

    >>> lax.dynamic_slice_in_dim(bnp.arange(5), 1, 2)
    Array([1, 2], dtype=int32)
    """
    x = enter(operand)
    shape = logical_shape(x)
    axis = axis_of("dynamic_slice_in_dim", axis, len(shape))
    sizes = (*shape[:axis], slice_size, *shape[axis + 1 :])
    starts = _at_axis(x, start_index, axis)
    return dynamic_slice(x, starts, sizes, allow_negative_indices=allow_negative_indices)


def dynamic_index_in_dim(
    operand: Any,
    index: Any,
    axis: int = 0,
    keepdims: bool = True,
    *,
    allow_negative_indices: bool = True,
) -> Any:
    """One slice at a computed place along an axis; `keepdims` keeps the axis, with size 1.

    >>> lax.dynamic_index_in_dim(bnp.arange(5), 3, keepdims=False)
    Array(3, dtype=int32)
    """
    x = enter(operand)
    axis = axis_of("dynamic_index_in_dim", axis, len(logical_shape(x)))
    out = dynamic_slice_in_dim(x, index, 1, axis, allow_negative_indices=allow_negative_indices)
    return out if keepdims else squeeze(out, (axis,))


def dynamic_update_slice_in_dim(
    operand: Any, update: Any, start_index: Any, axis: int, *, allow_negative_indices: bool = True
) -> Any:
    """`dynamic_update_slice` along one axis.

    >>> lax.dynamic_update_slice_in_dim(bnp.zeros(3), bnp.ones(1), 2, 0)
    Array([0., 0., 1.], dtype=float32)
    """
    x = enter(operand)
    starts = _at_axis(
        x, start_index, axis_of("dynamic_update_slice_in_dim", axis, len(logical_shape(x)))
    )
    return dynamic_update_slice(x, update, starts, allow_negative_indices=allow_negative_indices)


def dynamic_update_index_in_dim(
    operand: Any, update: Any, index: Any, axis: int, *, allow_negative_indices: bool = True
) -> Any:
    """A copy with one slice along an axis replaced; the update may lack that axis.

    >>> lax.dynamic_update_index_in_dim(bnp.zeros(3), 5.0, 1, 0)
    Array([0., 5., 0.], dtype=float32)
    """
    x, new = enter(operand), enter(update)
    axis = axis_of("dynamic_update_index_in_dim", axis, len(logical_shape(x)))
    if len(logical_shape(new)) != len(logical_shape(x)):
        new = expand_dims(new, (axis,))
    return dynamic_update_slice_in_dim(
        x, new, index, axis, allow_negative_indices=allow_negative_indices
    )


# -- what only the compiler sees -----------------------------------------------------------------


def stop_gradient(x: Any) -> Any:
    """Every array of a tree as it is, but a constant to differentiation.

    >>> bv.grad(lambda x: x * lax.stop_gradient(x))(3.0)
    Array(3., dtype=float32, weak_type=True)
    """

    def stop(leaf: Any) -> Any:
        h = enter(leaf)
        inexact = type(h._tag) is not KeyTag and dtypes.is_inexact(np.dtype(h._v.dtype))
        return wrap(ops.stop_gradient(h._v), h._tag) if inexact else h

    return tree.map(stop, x)


def optimization_barrier(operand: Any, /) -> Any:
    """Every array of a tree as it is; the compiler moves no work across, and merges nothing with
    what is before.

    >>> lax.optimization_barrier((1.0, 2.0))[1]
    Array(2., dtype=float32, weak_type=True)
    """
    leaves, structure = tree.flatten(operand)
    handles = [enter(leaf) for leaf in leaves]
    if not handles:
        return operand
    outs = ops.optimization_barrier(*[h._v for h in handles])
    return tree.unflatten(structure, [wrap(o, h._tag) for o, h in zip(outs, handles, strict=True)])
