"""Functions of matrices on the last two axes: what derivatives of factorizations are made of."""

from __future__ import annotations

import numpy as np

from bevel.core import dtypes
from bevel.ops.base import (
    broadcast_in_dim,
    full_like,
    reduce_sum,
    transpose,
    zeros_like,
)
from bevel.ops.dot import dot_general
from bevel.ops.elementwise import add, complex, conj, div, imag, mul, real, sub
from bevel.ops.logic import convert, eq, ge, select
from bevel.ops.shape import iota

_INT32 = np.dtype(np.int32)


def matmul(x, y):
    """Matrix products over equal leading axes, at the highest precision.

    >>> matmul(np.eye(2, dtype="f4"), np.ones((2, 1), "f4")).shape
    (2, 1)
    """
    n = len(x.shape)
    batch = tuple(range(n - 2))
    return dot_general(
        x, y, contract=((n - 1,), (n - 2,)), batch=(batch, batch), precision="highest"
    )


def flip(x):
    """The transposes.

    >>> flip(np.zeros((4, 2, 3))).shape
    (4, 3, 2)
    """
    n = len(x.shape)
    return transpose(x, permutation=(*range(n - 2), n - 1, n - 2))


def adjoint(x):
    """The conjugate transposes."""
    return flip(conj(x)) if dtypes.is_complex(x.dtype) else flip(x)


def _place(shape, axis: int):
    return iota(shape=tuple(shape), dtype=_INT32, axis=axis)


def _lower_mask(x, k: int):
    """Where column <= row + k."""
    n = len(x.shape)
    rows, columns = (_place(x.shape, axis) for axis in (n - 2, n - 1))
    return ge(add(rows, full_like(rows, k)) if k else rows, columns)


def tril(x, k: int = 0):
    """Zero above diagonal `k`.

    >>> tril(np.ones((2, 2), "f4")).tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """
    return select(_lower_mask(x, k), x, zeros_like(x))


def triu(x, k: int = 0):
    """Zero below diagonal `k`."""
    return select(_lower_mask(x, k - 1), zeros_like(x), x)


def diagonal_mask(x):
    """Where row equals column, in the shape of `x`."""
    n = len(x.shape)
    return eq(_place(x.shape, n - 2), _place(x.shape, n - 1))


def eye_like(x):
    """Identity matrices with the shape and dtype of `x`."""
    return convert(diagonal_mask(x), dtype=x.dtype)


def diagonal(x):
    """The diagonals of square matrices.

    >>> diagonal(np.array([[1, 2], [3, 4]], "f4")).tolist()
    [1.0, 4.0]
    """
    return reduce_sum(select(diagonal_mask(x), x, zeros_like(x)), axes=(len(x.shape) - 2,))


def along_rows(v, shape):
    """Vectors as the rows of matrices of `shape`: entry (i, j) is `v[j]`."""
    n = len(shape)
    return broadcast_in_dim(v, shape=tuple(shape), dims=(*range(n - 2), n - 1))


def along_columns(v, shape):
    """Vectors as the columns of matrices of `shape`: entry (i, j) is `v[i]`."""
    return broadcast_in_dim(v, shape=tuple(shape), dims=tuple(range(len(shape) - 1)))


def scale(x, c):
    """`x` times one number."""
    return mul(x, full_like(x, c))


def from_triangle(x, lower: bool):
    """The Hermitian matrices that a factorization of one triangle sees: that one mirrored."""
    part = tril(x, -1) if lower else triu(x, 1)
    middle = convert(real(x), dtype=x.dtype) if dtypes.is_complex(x.dtype) else x
    return add(add(part, adjoint(part)), select(diagonal_mask(x), middle, zeros_like(x)))


def imaginary_diagonal(x):
    """The matrices with only `i * imag(diagonal)`, which is zero for real dtypes."""
    part = imag(x)
    return select(diagonal_mask(x), complex(zeros_like(part), part), zeros_like(x))


def reciprocal_gaps(v, dtype):
    """`1 / (v[j] - v[i])` off the diagonal, zero on it; infinite where two of them are equal."""
    shape = (*v.shape, v.shape[-1])
    gaps = sub(along_rows(v, shape), along_columns(v, shape))
    one = eye_like(gaps)
    return convert(sub(reciprocal(add(gaps, one)), one), dtype=dtype)


def reciprocal(x):
    """`1 / x`."""
    return div(full_like(x, 1), x)
