"""Joining arrays and taking them apart. Random keys are taken too; sizes are static."""

from __future__ import annotations

from typing import Any

import numpy as np

from bevel.core.dtypes import as_dtype
from bevel.core.errors import ShapeError
from bevel.core.handle import Handle, KeyTag, logical_shape
from bevel.numpy.arguments import axis_of, integer, no_out
from bevel.numpy.convert import astype, enter, promote
from bevel.numpy.manipulation import atleast_1d, atleast_2d, atleast_3d, ravel, transpose
from bevel.numpy.moves import cut_axis, cut_parts, join, reshape_to

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


def stack(arrays: Any, axis: int = 0, out: None = None, dtype: Any = None) -> Any:
    """Join arrays of one shape along a new axis.

    Raises:
        ShapeError: the shapes differ.

    >>> bnp.stack([bnp.ones(3), bnp.zeros(3)], axis=1).shape
    (3, 2)
    """
    no_out("stack", out)
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

    >>> bnp.block([[bnp.eye(1), bnp.zeros((1, 2))], [bnp.zeros((2, 1)), bnp.eye(2)]]).shape
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
    return cut_parts(x, axis, _sections(name, shape[axis], where, equal))


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
