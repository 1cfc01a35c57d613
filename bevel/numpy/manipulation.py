"""Shapes and places: functions that move elements and compute nothing.

All of them take random keys too, and work under every transform; under `jit` shapes, axes and
counts are static.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bevel.core.dtypes import as_dtype, int32
from bevel.core.errors import ShapeError
from bevel.core.handle import Handle, KeyTag, fresh_tag, logical_shape, wrap
from bevel.core.interpreter import is_concrete
from bevel.numpy.arguments import (
    axes_of,
    axis_of,
    integer,
    number,
    resolve_shape,
    shape_of,
    size_of,
)
from bevel.numpy.convert import astype, enter, promote
from bevel.numpy.moves import cut_axis, join, permute, reshape_to, reverse, spread
from bevel.ops import convert, dynamic_slice, rem, sub

# -- one array, another shape --------------------------------------------------------------------


def reshape(a: Any, shape: Any, order: str = "C", *, copy: bool | None = None) -> Any:
    """The same elements in another shape; one entry may be -1.

    `order="F"` reads and writes with the first axis changing fastest. `copy` is accepted as in
    NumPy; arrays are immutable, so it changes nothing.

    Raises:
        ShapeError: the number of elements differs.

    >>> bnp.reshape(bnp.arange(6), (2, -1))
    Array([[0, 1, 2],
           [3, 4, 5]], dtype=int32)
    """
    x = enter(a)
    old = logical_shape(x)
    new = resolve_shape("reshape", old, shape_of("reshape", shape))
    if order == "F":
        return permute(reshape_to(permute(x, _backwards(old)), new[::-1]), _backwards(new))
    if order not in ("C", "A", "K"):
        raise ValueError(f"reshape: order must be 'C' or 'F', got {order!r}")
    return reshape_to(x, new)


def _backwards(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(range(len(shape)))[::-1]


def ravel(a: Any, order: str = "C") -> Any:
    """All elements on one axis.

    >>> bnp.ravel(bnp.ones((2, 3))).shape
    (6,)
    """
    x = enter(a)
    return reshape(x, (math.prod(logical_shape(x)),), order)


def transpose(a: Any, axes: Any = None) -> Any:
    """Reorder the axes: axis i of the result is axis `axes[i]` of `a`; None reverses them.

    >>> bnp.transpose(bnp.ones((2, 3, 4)), (0, 2, 1)).shape
    (2, 4, 3)
    """
    x = enter(a)
    ndim = len(logical_shape(x))
    if axes is None:
        return permute(x, tuple(range(ndim))[::-1])
    order = axes_of("transpose", tuple(axes) if not isinstance(axes, int) else axes, ndim)
    if len(order) != ndim:
        raise ValueError(
            f"transpose: axes={tuple(axes)} must name each of the {ndim} axes of "
            f"{logical_shape(x)} once"
        )
    return permute(x, order)


permute_dims = transpose


def matrix_transpose(x: Any, /) -> Any:
    """Swap the last two axes.

    >>> bnp.matrix_transpose(bnp.ones((5, 2, 3))).shape
    (5, 3, 2)
    """
    x = enter(x)
    if len(logical_shape(x)) < 2:
        raise ShapeError(
            f"matrix_transpose: needs at least 2 axes, got shape {logical_shape(x)}; use x[:, None]"
        )
    return swapaxes(x, -1, -2)


def swapaxes(a: Any, axis1: int, axis2: int) -> Any:
    """Exchange two axes.

    >>> bnp.swapaxes(bnp.ones((2, 3, 4)), 0, 2).shape
    (4, 3, 2)
    """
    x = enter(a)
    order = list(range(len(logical_shape(x))))
    i, j = axis_of("swapaxes", axis1, len(order)), axis_of("swapaxes", axis2, len(order))
    order[i], order[j] = j, i
    return permute(x, tuple(order))


def moveaxis(a: Any, source: Any, destination: Any) -> Any:
    """Move axes to other places; the rest keep their order.

    >>> bnp.moveaxis(bnp.ones((2, 3, 4)), 0, -1).shape
    (3, 4, 2)
    """
    x = enter(a)
    ndim = len(logical_shape(x))
    old, new = axes_of("moveaxis", source, ndim), axes_of("moveaxis", destination, ndim)
    if len(old) != len(new):
        raise ValueError(
            f"moveaxis: {len(old)} source axes {source} and {len(new)} destinations {destination}"
        )
    rest = iter([i for i in range(ndim) if i not in old])
    places = dict(zip(new, old, strict=True))
    return permute(x, tuple([places[i] if i in places else next(rest) for i in range(ndim)]))


def rollaxis(a: Any, axis: int, start: int = 0) -> Any:
    """Move `axis` until it lies before position `start`; `moveaxis` says the same more clearly.

    >>> bnp.rollaxis(bnp.ones((2, 3, 4)), 2).shape
    (4, 2, 3)
    """
    ndim = len(logical_shape(enter(a)))
    axis = axis_of("rollaxis", axis, ndim)
    start = ndim if start == ndim else axis_of("rollaxis", start, ndim)
    return moveaxis(a, axis, start - (axis < start))


def expand_dims(a: Any, axis: Any) -> Any:
    """Insert axes of size 1; `axis` names their places in the result.

    >>> bnp.expand_dims(bnp.ones(3), (0, 2)).shape
    (1, 3, 1)
    """
    x = enter(a)
    old = logical_shape(x)
    count = len(axis) if isinstance(axis, tuple | list) else 1
    places = axes_of("expand_dims", axis, len(old) + count)
    rest = iter(old)
    return reshape_to(x, tuple([1 if i in places else next(rest) for i in range(len(old) + count)]))


def squeeze(a: Any, axis: Any = None) -> Any:
    """Drop axes of size 1: all of them, or those named.

    Raises:
        ShapeError: a named axis has another size.

    >>> bnp.squeeze(bnp.ones((1, 3, 1)), 0).shape
    (3, 1)
    """
    x = enter(a)
    old = logical_shape(x)
    axes = (
        tuple([i for i, n in enumerate(old) if n == 1])
        if axis is None
        else axes_of("squeeze", axis, len(old))
    )
    for i in axes:
        if old[i] != 1:
            raise ShapeError(
                f"squeeze: axis {i} of shape {old} has size {old[i]}; only size 1 can be dropped"
            )
    return reshape_to(x, tuple([n for i, n in enumerate(old) if i not in axes]))


def _at_least(name: str, ndim: int, arrays: tuple, places) -> Any:
    out = []
    for a in arrays:
        x = enter(a)
        shape = logical_shape(x)
        out.append(x if len(shape) >= ndim else reshape_to(x, places(shape)))
    return out[0] if len(out) == 1 else out


def atleast_1d(*arrays: Any) -> Any:
    """Each array with at least one axis (a list of them if there are several).

    >>> bnp.atleast_1d(2.0).shape
    (1,)
    """
    return _at_least("atleast_1d", 1, arrays, lambda s: (1,))


def atleast_2d(*arrays: Any) -> Any:
    """Each array with at least two axes, new ones in front.

    >>> bnp.atleast_2d(bnp.ones(3)).shape
    (1, 3)
    """
    return _at_least("atleast_2d", 2, arrays, lambda s: (*(1,) * (2 - len(s)), *s))


def atleast_3d(*arrays: Any) -> Any:
    """Each array with at least three axes; a vector becomes (1, n, 1), a matrix (m, n, 1).

    >>> bnp.atleast_3d(bnp.ones((2, 3))).shape
    (2, 3, 1)
    """
    return _at_least(
        "atleast_3d", 3, arrays, lambda s: {0: (1, 1, 1), 1: (1, *s, 1), 2: (*s, 1)}[len(s)]
    )


# -- broadcasting --------------------------------------------------------------------------------


def broadcast_shapes(*shapes: Any) -> tuple[int, ...]:
    """The shape that shapes broadcast to.

    Raises:
        ShapeError: they do not.

    >>> bnp.broadcast_shapes((3, 1), (4,))
    (3, 4)
    """
    sizes = [size_of("broadcast_shapes", s) for s in shapes]
    try:
        return np.broadcast_shapes(*sizes)
    except ValueError:
        raise ShapeError(
            f"broadcast_shapes: {' and '.join(map(str, sizes))} do not broadcast.\n"
            "Why: from the right, axes must be equal or 1."
        ) from None


def broadcast_to(array: Any, shape: Any) -> Any:
    """Repeat an array along new axes in front and along axes of size 1, up to `shape`.

    Raises:
        ShapeError: the shapes do not allow it.

    >>> bnp.broadcast_to(bnp.arange(3), (2, 3))
    Array([[0, 1, 2],
           [0, 1, 2]], dtype=int32)
    """
    x = enter(array)
    old, new = logical_shape(x), size_of("broadcast_to", shape)
    if old == new:
        return x
    lead = len(new) - len(old)
    if lead < 0 or any(n not in (1, m) for n, m in zip(old, new[lead:], strict=True)):
        raise ShapeError(
            f"broadcast_to: an array of shape {old} does not broadcast to {new}.\n"
            "Why: from the right, each of its axes must be 1 or equal.\n"
            "Write instead: add an axis with x[:, None], or reshape it first."
        )
    keep = tuple([i for i, n in enumerate(old) if n == new[lead + i]])
    x = reshape_to(x, tuple([old[i] for i in keep]))
    return spread(x, new, tuple([lead + i for i in keep]))


def broadcast_arrays(*args: Any) -> list[Any]:
    """All arrays at the shape they broadcast to.

    >>> [x.shape for x in bnp.broadcast_arrays(bnp.ones(3), bnp.ones((2, 1)))]
    [(2, 3), (2, 3)]
    """
    arrays = [enter(a) for a in args]
    shape = broadcast_shapes(*[logical_shape(x) for x in arrays])
    return [broadcast_to(x, shape) for x in arrays]


# -- several arrays, one array -------------------------------------------------------------------


def _sequence(name: str, arrays: Any) -> list[Any]:
    if isinstance(arrays, tuple | list):
        items = list(arrays)
    elif isinstance(arrays, Handle | np.ndarray):
        items = unstack(arrays)
    else:
        raise TypeError(
            f"{name}: takes a list or tuple of arrays, got {type(arrays).__name__}; write "
            f"{name}([a, b, ...])"
        )
    if not items:
        raise ValueError(f"{name}: needs at least one array")
    return items


def _joined(name: str, arrays: list[Any], axis: int, dtype: Any) -> Any:
    """Concatenate handles of one rank along a non-negative axis."""
    values, tag = promote(*arrays)
    words = 1 if type(tag) is KeyTag else 0
    shapes = [tuple(v.shape[: len(v.shape) - words]) for v in values]
    first = shapes[0]
    for i, s in enumerate(shapes):
        if len(s) != len(first) or s[:axis] + s[axis + 1 :] != first[:axis] + first[axis + 1 :]:
            raise ShapeError(
                f"{name}: array 0 has shape {first} and array {i} has shape {s}.\n"
                f"Why: joined along axis {axis}, all other axes must be equal.\n"
                "Write instead: bring them to one shape with reshape, pad or expand_dims."
            )
    out = join(values, tag, axis)
    return out if dtype is None else astype(out, as_dtype(dtype))


def concatenate(arrays: Any, axis: int | None = 0, dtype: Any = None) -> Any:
    """Join arrays along an existing axis; `axis=None` flattens them first.

    Raises:
        ShapeError: another axis differs.

    >>> bnp.concatenate([bnp.ones(2), bnp.zeros(1)])
    Array([1., 1., 0.], dtype=float32)
    """
    items = [enter(a) for a in _sequence("concatenate", arrays)]
    if axis is None:
        return _joined("concatenate", [ravel(x) for x in items], 0, dtype)
    ndim = len(logical_shape(items[0]))
    if ndim == 0:
        raise ShapeError("concatenate: 0-d arrays have no axis to join along; use bnp.stack")
    return _joined("concatenate", items, axis_of("concatenate", axis, ndim), dtype)


concat = concatenate


def stack(arrays: Any, axis: int = 0, dtype: Any = None) -> Any:
    """Join arrays of one shape along a new axis.

    Raises:
        ShapeError: the shapes differ.

    >>> bnp.stack([bnp.ones(3), bnp.zeros(3)], axis=1).shape
    (3, 2)
    """
    items = [enter(a) for a in _sequence("stack", arrays)]
    shape = logical_shape(items[0])
    for i, x in enumerate(items):
        if logical_shape(x) != shape:
            raise ShapeError(
                f"stack: array 0 has shape {shape} and array {i} has shape {logical_shape(x)}; "
                "all must be equal.\n"
                "Write instead: pad them to one shape, or bnp.concatenate along an axis they "
                "may differ in."
            )
    axis = axis_of("stack", axis, len(shape) + 1)
    grown = (*shape[:axis], 1, *shape[axis:])
    return _joined("stack", [reshape_to(x, grown) for x in items], axis, dtype)


def unstack(x: Any, /, *, axis: int = 0) -> tuple[Any, ...]:
    """The slices of an array along an axis.

    >>> [float(row.sum()) for row in bnp.unstack(bnp.ones((2, 3)))]
    [3.0, 3.0]
    """
    x = enter(x)
    shape = logical_shape(x)
    if not shape:
        raise ShapeError("unstack: a 0-d array has no axis to take apart")
    axis = axis_of("unstack", axis, len(shape))
    rest = shape[:axis] + shape[axis + 1 :]
    return tuple([reshape_to(cut_axis(x, axis, i, i + 1), rest) for i in range(shape[axis])])


def vstack(tup: Any, dtype: Any = None) -> Any:
    """Join arrays along axis 0, vectors as rows.

    >>> bnp.vstack([bnp.ones(3), bnp.ones((2, 3))]).shape
    (3, 3)
    """
    return concatenate([atleast_2d(a) for a in _sequence("vstack", tup)], 0, dtype)


def hstack(tup: Any, dtype: Any = None) -> Any:
    """Join arrays along axis 1, vectors along axis 0.

    >>> bnp.hstack([bnp.ones(3), bnp.ones(2)]).shape
    (5,)
    """
    items = [atleast_1d(a) for a in _sequence("hstack", tup)]
    return concatenate(items, 0 if len(logical_shape(items[0])) == 1 else 1, dtype)


def dstack(tup: Any, dtype: Any = None) -> Any:
    """Join arrays along axis 2, with `atleast_3d` first.

    >>> bnp.dstack([bnp.ones(3), bnp.ones(3)]).shape
    (1, 3, 2)
    """
    return concatenate([atleast_3d(a) for a in _sequence("dstack", tup)], 2, dtype)


def column_stack(tup: Any) -> Any:
    """Join vectors as columns of a matrix; matrices are taken as they are.

    >>> bnp.column_stack([bnp.ones(3), bnp.ones((3, 2))]).shape
    (3, 3)
    """
    items = [enter(a) for a in _sequence("column_stack", tup)]
    return concatenate(
        [transpose(atleast_2d(x)) if len(logical_shape(x)) < 2 else x for x in items], 1
    )


def block(arrays: Any) -> Any:
    """Put an array together from nested lists of blocks: the innermost lists join along the last
    axis.

    >>> bnp.block([[bnp.ones((1, 1)), bnp.zeros((1, 2))], [bnp.zeros((2, 1)), bnp.ones((2, 2))]]).shape
    (3, 3)
    """
    depth, rank = _block_depth(arrays), _block_rank(arrays)
    return _block(arrays, depth, max(depth, rank))


def _block_depth(x: Any) -> int:
    if not isinstance(x, list):
        return 0
    if not x:
        raise ValueError("block: a list of blocks is empty")
    depths = {_block_depth(item) for item in x}
    if len(depths) > 1:
        raise ValueError(
            "block: the lists are nested to different depths; every block needs the same depth"
        )
    return 1 + depths.pop()


def _block_rank(x: Any) -> int:
    return max(map(_block_rank, x)) if isinstance(x, list) else len(logical_shape(enter(x)))


def _block(x: Any, depth: int, rank: int) -> Any:
    if isinstance(x, list):
        return concatenate([_block(item, depth - 1, rank) for item in x], -depth)
    x = enter(x)
    return reshape_to(x, (*(1,) * (rank - len(logical_shape(x))), *logical_shape(x)))


def append(arr: Any, values: Any, axis: int | None = None) -> Any:
    """`concatenate([arr, values], axis)`; without an axis both are flattened.

    >>> bnp.append(bnp.arange(2), 7)
    Array([0, 1, 7], dtype=int32)
    """
    return concatenate([arr, values], axis)


# -- one array, several arrays -------------------------------------------------------------------


def _sections(name: str, n: int, where: Any, equal: bool) -> list[tuple[int, int]]:
    """Start and end of every part."""
    if isinstance(where, tuple | list | np.ndarray | Handle) and np.ndim(np.asarray(where)) == 1:
        edges = [integer(name, "every index", i) for i in np.asarray(where).tolist()]
        edges = [min(max(i + n if i < 0 else i, 0), n) for i in edges]
        return list(zip([0, *edges], [*edges, n], strict=True))
    count = integer(name, "the number of sections", where)
    if count <= 0:
        raise ValueError(f"{name}: the number of sections must be positive, got {count}")
    small, extra = divmod(n, count)
    if equal and extra:
        raise ShapeError(
            f"{name}: {n} elements do not divide into {count} equal parts; "
            f"use bnp.array_split for parts of {small} and {small + 1}, or give the indices to "
            "split at"
        )
    ends = np.cumsum([small + 1] * extra + [small] * (count - extra)).tolist()
    return list(zip([0, *ends[:-1]], ends, strict=True))


def _split(name: str, ary: Any, where: Any, axis: int, equal: bool) -> list[Any]:
    x = enter(ary)
    shape = logical_shape(x)
    axis = axis_of(name, axis, len(shape))
    return [cut_axis(x, axis, i, j) for i, j in _sections(name, shape[axis], where, equal)]


def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    """Cut an array into equal parts, or at the given indices.

    Raises:
        ShapeError: the axis does not divide equally (`array_split` allows that).

    >>> [part.shape for part in bnp.split(bnp.ones((6, 2)), 3)]
    [(2, 2), (2, 2), (2, 2)]
    >>> [part.shape for part in bnp.split(bnp.ones(6), [1, 4])]
    [(1,), (3,), (2,)]
    """
    return _split("split", ary, indices_or_sections, axis, True)


def array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    """Cut an array into parts whose sizes differ by at most one.

    >>> [part.shape for part in bnp.array_split(bnp.ones(5), 2)]
    [(3,), (2,)]
    """
    return _split("array_split", ary, indices_or_sections, axis, False)


def vsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    """`split` along axis 0.

    >>> len(bnp.vsplit(bnp.ones((4, 2)), 2))
    2
    """
    return _split("vsplit", ary, indices_or_sections, 0, True)


def hsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    """`split` along axis 1, or axis 0 of a vector.

    >>> [part.shape for part in bnp.hsplit(bnp.ones((4, 2)), 2)]
    [(4, 1), (4, 1)]
    """
    x = enter(ary)
    return _split("hsplit", x, indices_or_sections, 0 if len(logical_shape(x)) == 1 else 1, True)


def dsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    """`split` along axis 2.

    >>> [part.shape for part in bnp.dsplit(bnp.ones((4, 2, 2)), 2)]
    [(4, 2, 1), (4, 2, 1)]
    """
    return _split("dsplit", ary, indices_or_sections, 2, True)


# -- repeating and turning -----------------------------------------------------------------------


def tile(A: Any, reps: Any) -> Any:
    """Lay copies of an array side by side, `reps[i]` of them along axis i.

    >>> bnp.tile(bnp.arange(2), (2, 2))
    Array([[0, 1, 0, 1],
           [0, 1, 0, 1]], dtype=int32)
    """
    x = enter(A)
    reps = size_of("tile", reps)
    shape = logical_shape(x)
    ndim = max(len(reps), len(shape))
    shape = (*(1,) * (ndim - len(shape)), *shape)
    reps = (*(1,) * (ndim - len(reps)), *reps)
    wide = tuple([n for pair in zip(reps, shape, strict=True) for n in pair])
    x = spread(reshape_to(x, shape), wide, tuple(range(1, 2 * ndim, 2)))
    return reshape_to(x, tuple([r * n for r, n in zip(reps, shape, strict=True)]))


def flip(m: Any, axis: Any = None) -> Any:
    """Reverse the order of elements along the axes (None: all).

    >>> bnp.flip(bnp.arange(3))
    Array([2, 1, 0], dtype=int32)
    """
    x = enter(m)
    return reverse(x, axes_of("flip", axis, len(logical_shape(x))))


def flipud(m: Any) -> Any:
    """`flip` along axis 0.

    >>> bnp.flipud(bnp.arange(2))
    Array([1, 0], dtype=int32)
    """
    return flip(m, 0)


def fliplr(m: Any) -> Any:
    """`flip` along axis 1.

    >>> bnp.fliplr(bnp.array([[1, 2]]))
    Array([[2, 1]], dtype=int32)
    """
    return flip(m, 1)


def rot90(m: Any, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Any:
    """Turn by `k` quarter turns in the plane of two axes, from the first towards the second.

    >>> bnp.rot90(bnp.array([[1, 2], [3, 4]]))
    Array([[2, 4],
           [1, 3]], dtype=int32)
    """
    x = enter(m)
    plane = axes_of("rot90", tuple(axes), len(logical_shape(x)))
    if len(plane) != 2:
        raise ValueError(f"rot90: axes must name two axes, got {axes}")
    k = integer("rot90", "k", k) % 4
    if k == 0:
        return x
    if k == 2:
        return flip(x, plane)
    if k == 1:
        return swapaxes(flip(x, plane[1]), *plane)
    return flip(swapaxes(x, *plane), plane[1])


def roll(a: Any, shift: Any, axis: Any = None) -> Any:
    """Move elements along axes by `shift` places; those that fall off one end come back at the
    other.

    `shift` may be traced. Without an axis the array is rolled as if it were flat.

    >>> bnp.roll(bnp.arange(4), 1)
    Array([3, 0, 1, 2], dtype=int32)
    """
    x = enter(a)
    shape = logical_shape(x)
    if axis is None:
        return reshape_to(roll(ravel(x), shift, 0), shape)
    axes = [
        axis_of("roll", i, len(shape))
        for i in (axis if isinstance(axis, tuple | list) else (axis,))
    ]
    several = isinstance(shift, tuple | list) or (
        isinstance(shift, Handle | np.ndarray) and _ndim(shift) == 1
    )
    shifts = (
        list(unstack(shift) if isinstance(shift, Handle | np.ndarray) else shift)
        if several
        else [shift]
    )
    count = max(len(axes), len(shifts))
    if len(axes) not in (1, count) or len(shifts) not in (1, count):
        raise ValueError(
            f"roll: {len(shifts)} shifts {shift} for {len(axes)} axes {axis}; give one for each"
        )
    for s, i in zip(shifts * (count // len(shifts)), axes * (count // len(axes)), strict=True):
        x = _roll_axis(x, s, i, shape[i])
    return x


def _ndim(x: Any) -> int:
    return len(logical_shape(x)) if isinstance(x, Handle) else np.ndim(x)


def _roll_axis(x: Any, shift: Any, axis: int, n: int) -> Any:
    if n == 0:
        return x
    if isinstance(shift, Handle) and not is_concrete(shift._v):
        return _roll_traced(x, shift, axis, n)
    k = integer("roll", "shift", shift) % n
    if k == 0:
        return x
    return concatenate([cut_axis(x, axis, n - k, n), cut_axis(x, axis, 0, n - k)], axis)


def _roll_traced(x: Any, shift: Any, axis: int, n: int) -> Any:
    size = np.asarray(n, int32)
    # A remainder has the sign of what is divided: rem(n - rem(shift, n), n) lies in [0, n) for any shift.
    start = rem(sub(size, rem(convert(number("roll", shift), dtype=int32), size)), size)
    zero = np.zeros((), int32)
    starts = [start if i == axis else zero for i in range(len(x._v.shape))]
    twice = concatenate([x, x], axis)
    return wrap(dynamic_slice(twice._v, *starts, sizes=tuple(x._v.shape)), fresh_tag(x._tag))
