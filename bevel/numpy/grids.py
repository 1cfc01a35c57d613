"""Grids of indices, and indices of grids: meshgrid, mgrid, ix_, r_, unravel_index and the like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import bevel.ops as ops
from bevel.core import errors
from bevel.core.dtypes import as_dtype, int32
from bevel.core.handle import Handle, logical_shape, wrap
from bevel.core.interpreter import Tracer
from bevel.numpy.arguments import integer, number, size_of
from bevel.numpy.convert import broadcast_value, enter
from bevel.numpy.creation import arange, linspace
from bevel.numpy.elementwise import const
from bevel.numpy.joining import concatenate
from bevel.numpy.selection import nonzero

Shape = tuple[int, ...]


def indices(dimensions: Any, dtype: Any = int, sparse: bool = False) -> Any:
    """The index of every place of a shape: one array per axis, stacked, or (`sparse`) a tuple that
    broadcasts.

    >>> bnp.indices((2, 2))
    Array([[[0, 0],
            [1, 1]],
    <BLANKLINE>
           [[0, 1],
            [0, 1]]], dtype=int32)
    """
    shape, dtype = size_of("indices", dimensions), as_dtype(dtype)
    if sparse:
        return tuple(
            [
                wrap(
                    ops.reshape(
                        ops.iota(shape=(n,), dtype=dtype, axis=0), shape=_line(len(shape), i, n)
                    )
                )
                for i, n in enumerate(shape)
            ]
        )
    grids = [ops.iota(shape=(1, *shape), dtype=dtype, axis=i + 1) for i in range(len(shape))]
    return wrap(ops.concatenate(*grids, axis=0) if grids else np.zeros((0,), dtype))


def _line(ndim: int, axis: int, n: int) -> Shape:
    return tuple([n if i == axis else 1 for i in range(ndim)])


def fromfunction(
    function: Callable[..., Any], shape: Any, *, dtype: Any = float, **kwargs: Any
) -> Any:
    """What `function(i, j, ...)` gives for the index arrays of a shape.

    >>> bnp.fromfunction(lambda i, j: i + j, (2, 2), dtype=int)
    Array([[0, 1],
           [1, 2]], dtype=int32)
    """
    shape, dtype = size_of("fromfunction", shape), as_dtype(dtype)
    return function(
        *[wrap(ops.iota(shape=shape, dtype=dtype, axis=i)) for i in range(len(shape))], **kwargs
    )


def meshgrid(*xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> list[Any]:
    """Coordinate arrays of a grid from the coordinates along each axis.

    `indexing`: "xy" puts the first argument along axis 1 and the second along axis 0, as plots want
    it; "ij" keeps the order. `sparse` gives axes of size 1 that broadcast.

    >>> x, y = bnp.meshgrid(bnp.arange(2), bnp.arange(3))
    >>> x.shape, x[0]
    ((3, 2), Array([0, 1], dtype=int32))
    """
    if indexing not in ("xy", "ij"):
        raise ValueError(f"meshgrid: indexing must be 'xy' or 'ij', got {indexing!r}")
    values = [number("meshgrid", x) for x in xi]
    lines = [ops.reshape(v, shape=(1,)) if len(v.shape) == 0 else v for v in values]
    for v in lines:
        if len(v.shape) != 1:
            raise errors.ShapeError(
                f"meshgrid: each argument needs at most 1 axis, got shape {tuple(v.shape)}"
            )
    axes = list(range(len(lines)))
    if indexing == "xy" and len(axes) > 1:
        axes[:2] = [1, 0]
    shape = [0] * len(axes)
    for v, a in zip(lines, axes, strict=True):
        shape[a] = v.shape[0]
    if sparse:
        return [
            wrap(ops.reshape(v, shape=_line(len(axes), a, v.shape[0])))
            for v, a in zip(lines, axes, strict=True)
        ]
    return [
        wrap(ops.broadcast_in_dim(v, shape=tuple(shape), dims=(a,)))
        for v, a in zip(lines, axes, strict=True)
    ]


def ix_(*args: Any) -> tuple[Any, ...]:
    """Index arrays that pick all combinations: `x[bnp.ix_(rows, columns)]`. Bool arguments are
    masks.

    >>> bnp.arange(6).reshape(2, 3)[bnp.ix_([0, 1], [0, 2])]
    Array([[0, 2],
           [3, 5]], dtype=int32)
    """
    out = []
    for i, arg in enumerate(args):
        x = enter(arg if not isinstance(arg, list | tuple) or len(arg) else np.zeros(0, np.int32))
        if len(logical_shape(x)) != 1:
            raise errors.ShapeError(
                f"ix_: each argument needs 1 axis, got shape {logical_shape(x)}"
            )
        if x._v.dtype == bool:
            (x,) = nonzero(x)
        out.append(wrap(ops.reshape(x._v, shape=_line(len(args), i, x._v.shape[0]))))
    return tuple(out)


class _Grid:
    """`mgrid[...]` and `ogrid[...]`: the slices are ranges; an imaginary step is a number of
    points.
    """

    def __init__(self, sparse: bool):
        self._sparse = sparse

    def __getitem__(self, index: Any) -> Any:
        single = not isinstance(index, tuple)
        lines = [_ranged(s) for s in ((index,) if single else index)]
        if single:
            return lines[0]
        grids = meshgrid(*lines, sparse=self._sparse, indexing="ij")
        if self._sparse:
            return tuple(grids)
        dtype = lines[0]._v.dtype
        for line in lines:
            dtype = np.promote_types(dtype, line._v.dtype)
        dtype = as_dtype("float32") if dtype == np.float64 else dtype  # int32 with float32
        rows = [ops.reshape(enter(g, dtype)._v, shape=(1, *g._v.shape)) for g in grids]
        return wrap(ops.concatenate(*rows, axis=0))


def _ranged(s: Any) -> Any:
    start = 0 if s.start is None else s.start
    if isinstance(s.step, complex):
        return linspace(start, s.stop, int(abs(s.step)))
    return arange(start, s.stop, s.step)


mgrid = _Grid(sparse=False)
"""A dense grid: `bnp.mgrid[0:2, 0:3]` has shape (2, 2, 3)."""

ogrid = _Grid(sparse=True)
"""A grid of arrays that broadcast: `bnp.ogrid[0:2, 0:3]` has shapes (2, 1) and (1, 3)."""


class _Joined:
    """`r_[...]` and `c_[...]`: slices become ranges, and everything is joined."""

    def __init__(self, columns: bool):
        self._columns = columns

    def __getitem__(self, index: Any) -> Any:
        parts = [
            _ranged(p) if isinstance(p, slice) else p
            for p in (index if isinstance(index, tuple) else (index,))
        ]
        if any([isinstance(p, str) for p in parts]):
            raise TypeError(
                "r_ and c_: text directives are not taken; write bnp.concatenate or bnp.stack "
                "with an axis"
            )
        arrays = [enter(p) for p in parts]
        least = 2 if self._columns else 1
        return concatenate([_at_least(a, least) for a in arrays], axis=-1)


def _at_least(x: Handle, ndim: int) -> Any:
    """At least `ndim` axes; a line becomes a column."""
    shape = logical_shape(x)
    wanted = shape if len(shape) >= ndim else (shape or (1,)) + (1,) * (ndim - max(len(shape), 1))
    return x if wanted == shape else wrap(ops.reshape(x._v, shape=wanted), x._tag)


r_ = _Joined(columns=False)
"""Numbers, arrays and ranges joined along the last axis: `bnp.r_[0:3, 7]`."""

c_ = _Joined(columns=True)
"""Lines as the columns of a matrix: `bnp.c_[x, y]`."""

s_ = np.s_
"""An index as an object: `bnp.s_[1:3, ...]`."""

index_exp = np.index_exp
"""As `s_`, always a tuple."""


# -- places as one number --------------------------------------------------------------------------


def unravel_index(indices: Any, shape: Any) -> tuple[Any, ...]:
    """The index along each axis of places counted in row-major order; out of bounds, the nearest
    place.

    Raises:
        IndexError: eagerly, a place is out of bounds.

    >>> bnp.unravel_index(bnp.array([1, 5]), (2, 3))
    (Array([0, 1], dtype=int32), Array([1, 2], dtype=int32))
    """
    shape = size_of("unravel_index", shape)
    v = _integers("unravel_index", indices)
    total = int(np.prod(shape, dtype=np.int64))
    if not isinstance(v, Tracer):
        known = np.asarray(v)
        wrong = known[(known < -total) | (known >= total)]
        if wrong.size:
            raise IndexError(
                f"unravel_index: index {wrong.flat[0]} is out of bounds for shape {shape}, of "
                f"size {total}"
            )
    v = ops.select(ops.lt(v, const(v, 0)), ops.add(v, const(v, total)), v)
    v = ops.min(ops.max(v, const(v, 0)), const(v, max(total - 1, 0)))
    out = []
    for n in reversed(shape):
        n = max(n, 1)
        out.append(wrap(ops.rem(v, const(v, n))))
        v = ops.div(v, const(v, n))
    return tuple(reversed(out))


def _integers(name: str, x: Any) -> Any:
    v = number(name, x)
    if np.dtype(v.dtype).kind not in "iu":
        raise TypeError(f"{name}: indices are integers, got {v.dtype}; write i.astype(int)")
    return v


def ravel_multi_index(multi_index: Any, dims: Any, mode: str = "raise", order: str = "C") -> Any:
    """The place in row-major order (`order="F"`: column-major) of an index along each axis.

    `mode`: "raise" (eagerly only), "clip" or "wrap", for indices out of bounds.

    >>> bnp.ravel_multi_index((bnp.array([0, 1]), bnp.array([1, 2])), (2, 3))
    Array([1, 5], dtype=int32)
    """
    dims = size_of("ravel_multi_index", dims)
    values = [_integers("ravel_multi_index", i) for i in multi_index]
    if len(values) != len(dims):
        raise ValueError(f"ravel_multi_index: {len(values)} index arrays for {len(dims)} axes")
    values = [_in_range(v, n, mode) for v, n in zip(values, dims, strict=True)]
    pairs = list(zip(values, dims, strict=True))
    place = None
    for v, n in pairs if order == "C" else reversed(pairs):
        v = enter(wrap(v), int32)
        place = v if place is None else _sum(_times(place, n), v)
    return place


def _times(x: Handle, n: int) -> Handle:
    return wrap(ops.mul(x._v, const(x._v, n)))


def _sum(x: Handle, y: Handle) -> Handle:
    from_values = np.broadcast_shapes(x._v.shape, y._v.shape)
    return wrap(ops.add(broadcast_value(x._v, from_values), broadcast_value(y._v, from_values)))


def _in_range(v: Any, n: int, mode: str) -> Any:
    if mode == "clip":
        return ops.min(ops.max(v, const(v, 0)), const(v, n - 1))
    if mode == "wrap":
        r = ops.rem(v, const(v, n))
        return ops.select(ops.lt(r, const(r, 0)), ops.add(r, const(r, n)), r)
    if mode != "raise":
        raise ValueError(f"ravel_multi_index: mode must be 'raise', 'clip' or 'wrap', got {mode!r}")
    if isinstance(v, Tracer):
        raise errors.ConcretizationTypeError(
            "ravel_multi_index: a traced index cannot raise.\nWrite instead: mode='clip' or "
            "mode='wrap'."
        )
    known = np.asarray(v)
    if ((known < 0) | (known >= n)).any():
        raise IndexError(f"ravel_multi_index: an index is out of bounds for an axis of size {n}")
    return v


def _constant(places: tuple[np.ndarray, ...]) -> tuple[Any, ...]:
    return tuple([wrap(p.astype(np.int32)) for p in places])


def diag_indices(n: int, ndim: int = 2) -> tuple[Any, ...]:
    """The indices of the diagonal of an array with `ndim` axes of size `n`.

    >>> bnp.diag_indices(2)
    (Array([0, 1], dtype=int32), Array([0, 1], dtype=int32))
    """
    return (arange(integer("diag_indices", "n", n)),) * ndim


def diag_indices_from(arr: Any) -> tuple[Any, ...]:
    """The indices of the diagonal of an array whose axes have one length.

    >>> bnp.diag_indices_from(bnp.ones((2, 2)))
    (Array([0, 1], dtype=int32), Array([0, 1], dtype=int32))
    """
    shape = logical_shape(enter(arr))
    if len(shape) < 2 or len(set(shape)) != 1:
        raise errors.ShapeError(
            f"diag_indices_from: needs at least 2 axes of one length, not {shape}"
        )
    return diag_indices(shape[0], len(shape))


def tril_indices(n: int, k: int = 0, m: int | None = None) -> tuple[Any, Any]:
    """The indices of the lower triangle of an n x m matrix.

    >>> bnp.tril_indices(2)
    (Array([0, 1, 1], dtype=int32), Array([0, 0, 1], dtype=int32))
    """
    return _constant(np.tril_indices(n, k, m))


def triu_indices(n: int, k: int = 0, m: int | None = None) -> tuple[Any, Any]:
    """The indices of the upper triangle of an n x m matrix.

    >>> bnp.triu_indices(2)
    (Array([0, 0, 1], dtype=int32), Array([0, 1, 1], dtype=int32))
    """
    return _constant(np.triu_indices(n, k, m))


def tril_indices_from(arr: Any, k: int = 0) -> tuple[Any, Any]:
    """`tril_indices` for the shape of a matrix.

    >>> len(bnp.tril_indices_from(bnp.ones((3, 3)))[0])
    6
    """
    n, m = _matrix_shape("tril_indices_from", arr)
    return tril_indices(n, k, m)


def triu_indices_from(arr: Any, k: int = 0) -> tuple[Any, Any]:
    """`triu_indices` for the shape of a matrix.

    >>> len(bnp.triu_indices_from(bnp.ones((3, 3)), 1)[0])
    3
    """
    n, m = _matrix_shape("triu_indices_from", arr)
    return triu_indices(n, k, m)


def _matrix_shape(name: str, arr: Any) -> Shape:
    shape = logical_shape(enter(arr))
    if len(shape) != 2:
        raise errors.ShapeError(f"{name}: needs 2 axes, got shape {shape}")
    return shape


def mask_indices(
    n: int, mask_func: Callable[..., Any], k: int = 0, *, size: int | None = None
) -> tuple[Any, Any]:
    """The indices where `mask_func(ones((n, n)), k)` is not zero; under `jit`, `size` of them.

    >>> bnp.mask_indices(2, bnp.triu)
    (Array([0, 0, 1], dtype=int32), Array([0, 1, 1], dtype=int32))
    """
    return nonzero(mask_func(wrap(ops.full((n, n), 1, int32)), k), size=size)
