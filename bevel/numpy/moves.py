"""Moves of elements on handles, by the shape users see.

A random key's axis of words is added here, so every function built from these takes keys too. Axes
are non-negative and bounds in range.
"""

from __future__ import annotations

from typing import Any

from bevel.core.handle import Handle, KeyTag, fresh_tag, logical_shape, wrap
from bevel.ops import broadcast_in_dim, concatenate, reshape, rev, slice, split, transpose

Shape = tuple[int, ...]


def reshape_to(x: Handle, shape: Shape) -> Any:
    """The same elements in another shape of the same size."""
    if type(x._tag) is KeyTag:
        shape = (*shape, x._tag.words)
    if x._v.shape == shape:
        return x
    return wrap(reshape(x._v, shape=shape), fresh_tag(x._tag))


def permute(x: Handle, order: Shape) -> Any:
    """Axis i of the result is axis `order[i]`."""
    if order == tuple(range(len(order))):
        return x
    if type(x._tag) is KeyTag:
        order = (*order, len(order))
    return wrap(transpose(x._v, permutation=order), fresh_tag(x._tag))


def spread(x: Handle, shape: Shape, dims: Shape) -> Any:
    """Put axis i of `x` at axis `dims[i]` of `shape`, repeating along the others."""
    if type(x._tag) is KeyTag:
        shape, dims = (*shape, x._tag.words), (*dims, len(shape))
    return wrap(broadcast_in_dim(x._v, shape=shape, dims=dims), fresh_tag(x._tag))


def cut(x: Handle, start: Shape, limit: Shape, strides: Shape | None = None) -> Any:
    """The elements from `start` up to `limit` along every axis, in steps of `strides`."""
    if type(x._tag) is KeyTag:
        start, limit = (*start, 0), (*limit, x._tag.words)
        strides = None if strides is None else (*strides, 1)
    return wrap(slice(x._v, start=start, limit=limit, strides=strides), fresh_tag(x._tag))


def cut_axis(x: Handle, axis: int, start: int, limit: int, stride: int = 1) -> Any:
    """`x[..., start:limit:stride, ...]` at one axis; the bounds are already in range."""
    shape = logical_shape(x)
    if start == 0 and limit == shape[axis] and stride == 1:
        return x
    starts, limits, strides = [0] * len(shape), list(shape), [1] * len(shape)
    starts[axis], limits[axis], strides[axis] = start, max(start, limit), stride
    return cut(x, tuple(starts), tuple(limits), None if stride == 1 else tuple(strides))


def cut_parts(x: Handle, axis: int, sections: list[tuple[int, int]]) -> list[Any]:
    """`x` between the bounds of each section along an axis."""
    ends = [0, *[end for _, end in sections]]
    whole = [i for i, _ in sections] == ends[:-1] == sorted(ends[:-1])
    if len(sections) < 2 or not whole or not ends[-2] <= ends[-1] == x._v.shape[axis]:
        return [cut_axis(x, axis, i, j) for i, j in sections]
    parts = split(x._v, sizes=tuple([j - i for i, j in sections]), axis=axis)
    return [wrap(part, fresh_tag(x._tag)) for part in parts]


def join(values: list[Any], tag: Any, axis: int) -> Any:
    """Concatenate values of one dtype along a non-negative axis."""
    return wrap(values[0] if len(values) == 1 else concatenate(*values, axis=axis), tag)


def reverse(x: Handle, axes: Shape) -> Any:
    """The elements in reverse order along axes."""
    return wrap(rev(x._v, axes=axes), fresh_tag(x._tag)) if axes else x
