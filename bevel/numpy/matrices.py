"""Matrices made from a rule: identities, triangles, diagonals, powers of a vector."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

import bevel.ops as ops
from bevel.core import errors
from bevel.core.dtypes import as_dtype, float32, int32
from bevel.core.handle import wrap
from bevel.numpy.arguments import integer, number, size_of
from bevel.numpy.placing import placed
from bevel.numpy.selection import diagonal

Shape = tuple[int, ...]
DType = Any


def _float_unless(dtype: DType) -> np.dtype:
    return float32 if dtype is None else as_dtype(dtype)


def _band(shape: Shape, k: int, test: Any) -> Any:
    """A bool value of a matrix's shape: where `test` holds between column - k and row."""
    last = len(shape) - 1
    row, column = (ops.iota(shape=shape, dtype=int32, axis=a) for a in (last - 1, last))
    return test(column, ops.add(row, ops.full_like(row, k)))


def eye(
    N: int, M: int | None = None, k: int = 0, dtype: DType = None, *, device: Any = None
) -> Any:
    """A matrix of zeros with ones on the k-th diagonal.

    >>> bnp.eye(2, 3, k=1)
    Array([[0., 1., 0.],
           [0., 0., 1.]], dtype=float32)
    """
    (shape, k) = size_of("eye", (N, N if M is None else M)), integer("eye", "k", k)
    band = wrap(ops.convert(_band(shape, k, ops.eq), dtype=_float_unless(dtype)))
    return placed(band, device)


def identity(n: int, dtype: DType = None) -> Any:
    """The identity matrix.

    >>> bnp.identity(2)
    Array([[1., 0.],
           [0., 1.]], dtype=float32)
    """
    return eye(n, dtype=dtype)


def tri(N: int, M: int | None = None, k: int = 0, dtype: DType = None) -> Any:
    """A matrix with ones on and below the k-th diagonal, zeros elsewhere.

    >>> bnp.tri(2, 3)
    Array([[1., 0., 0.],
           [1., 1., 0.]], dtype=float32)
    """
    shape, k = size_of("tri", (N, N if M is None else M)), integer("tri", "k", k)
    return wrap(ops.convert(_band(shape, k, ops.le), dtype=_float_unless(dtype)))


def _triangle(name: str, m: Any, k: int, test: Any) -> Any:
    x = number(name, m)
    if len(x.shape) < 2:
        raise errors.ShapeError(
            f"{name}: needs at least 2 axes, got shape {tuple(x.shape)}; write {name}(x[None])"
        )
    return wrap(
        ops.select(_band(tuple(x.shape), integer(name, "k", k), test), x, ops.full_like(x, 0))
    )


def tril(m: Any, k: int = 0) -> Any:
    """The lower triangle of the last two axes; what is above the k-th diagonal becomes 0.

    >>> bnp.tril(bnp.ones((2, 2)))
    Array([[1., 0.],
           [1., 1.]], dtype=float32)
    """
    return _triangle("tril", m, k, ops.le)


def triu(m: Any, k: int = 0) -> Any:
    """The upper triangle of the last two axes; what is below the k-th diagonal becomes 0.

    >>> bnp.triu(bnp.ones((2, 2)))
    Array([[1., 1.],
           [0., 1.]], dtype=float32)
    """
    return _triangle("triu", m, k, ops.ge)


def diag(v: Any, k: int = 0) -> Any:
    """A matrix with `v` on its k-th diagonal; of a matrix, its k-th diagonal.

    >>> bnp.diag(bnp.array([1, 2]))
    Array([[1, 0],
           [0, 2]], dtype=int32)
    >>> bnp.diag(bnp.array([[1, 2], [3, 4]]), 1)
    Array([2], dtype=int32)
    """
    x, k = number("diag", v), integer("diag", "k", k)
    if len(x.shape) == 2:
        return diagonal(v, k)
    if len(x.shape) != 1:
        raise errors.ShapeError(
            f"diag: needs 1 or 2 axes, got shape {tuple(x.shape)}; write bnp.diagflat(v)"
        )
    pad = builtins.abs(k)
    n = x.shape[0] + pad
    config = ((0, pad, 0),) if k <= 0 else ((pad, 0, 0),)
    columns = ops.broadcast_in_dim(
        ops.pad(x, np.zeros((), x.dtype), config=config), shape=(n, n), dims=(1,)
    )
    return wrap(ops.select(_band((n, n), k, ops.eq), columns, ops.full_like(columns, 0)))


def diagflat(v: Any, k: int = 0) -> Any:
    """A matrix with all elements of `v` on its k-th diagonal.

    >>> bnp.diagflat(bnp.array([[1], [2]]))
    Array([[1, 0],
           [0, 2]], dtype=int32)
    """
    x = number("diagflat", v)
    return diag(wrap(ops.reshape(x, shape=(math.prod(x.shape),))), k)


def vander(x: Any, N: int | None = None, increasing: bool = False) -> Any:
    """The matrix whose columns are powers of `x`, falling from N - 1 to 0 unless `increasing`.

    >>> bnp.vander(bnp.array([2, 3]), 3)
    Array([[4, 2, 1],
           [9, 3, 1]], dtype=int32)
    """
    v = number("vander", x)
    if len(v.shape) != 1:
        raise errors.ShapeError(f"vander: needs 1 axis, got shape {tuple(v.shape)}")
    n = v.shape[0] if N is None else integer("vander", "N", N)
    powers = range(n) if increasing else range(n - 1, -1, -1)
    columns = [ops.reshape(ops.integer_pow(v, y=p), shape=(v.shape[0], 1)) for p in powers]
    return wrap(
        ops.concatenate(*columns, axis=1) if columns else ops.full((v.shape[0], 0), 0, v.dtype)
    )
