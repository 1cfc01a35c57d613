"""Matrices with a structure: from a few vectors (Toeplitz, companion, ...) or from a size alone
(Hilbert, Pascal, ...).

The entries of the latter are exact integers or fractions, rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import bevel.numpy as bnp
from bevel.core import dtypes
from bevel.core.dtypes import as_dtype, complex64
from bevel.core.errors import ShapeError
from bevel.core.handle import wrap
from bevel.numpy.arguments import inexact, integer, number
from bevel.numpy.convert import promote

# -- from vectors --------------------------------------------------------------------------------


def _vector(name: str, what: str, x: Any, least: int = 0) -> Any:
    """An array with at least one axis, the last of some length."""
    x = bnp.atleast_1d(wrap(number(name, x)))
    if x.shape[-1] < least:
        raise ShapeError(f"{name}: {what} needs at least {least} elements, got shape {x.shape}")
    return x


def _pick(x: Any, places: np.ndarray) -> Any:
    """Matrices of the elements of the last axis at these places."""
    return bnp.take(x, places.astype(np.int32), axis=-1)


def _joined(c: Any, r: Any) -> Any:
    """Two vectors end to end, their leading axes broadcast."""
    lead = np.broadcast_shapes(c.shape[:-1], r.shape[:-1])
    parts = [bnp.broadcast_to(x, (*lead, x.shape[-1])) for x in (c, r)]
    return bnp.concatenate(parts, axis=-1)


def _grid(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(rows)[:, None], np.arange(columns)[None, :]


def toeplitz(c: Any, r: Any = None) -> Any:
    """Matrices with constant diagonals: first column `c`, first row `r` (None: conj(c)), whose
    first element is not used.

    >>> from bevel.scipy.linalg import toeplitz
    >>> toeplitz(bnp.array([1, 2, 3]), bnp.array([0, 5]))
    Array([[1, 5],
           [2, 1],
           [3, 2]], dtype=int32)
    """
    c = _vector("toeplitz", "c", c)
    r = bnp.conj(c) if r is None else _vector("toeplitz", "r", r)
    m, n = c.shape[-1], r.shape[-1]
    i, j = _grid(m, n)
    return _pick(_joined(c[..., ::-1], r[..., 1:]), m - 1 - i + j)


def hankel(c: Any, r: Any = None) -> Any:
    """Matrices with constant anti-diagonals: first column `c`, last row `r` (None: zeros), whose
    first element is not used.

    >>> from bevel.scipy.linalg import hankel
    >>> hankel(bnp.array([1, 2]), bnp.array([0, 3, 4]))
    Array([[1, 2, 3],
           [2, 3, 4]], dtype=int32)
    """
    c = _vector("hankel", "c", c)
    r = bnp.zeros_like(c) if r is None else _vector("hankel", "r", r)
    i, j = _grid(c.shape[-1], r.shape[-1])
    return _pick(_joined(c, r[..., 1:]), i + j)


def circulant(c: Any) -> Any:
    """Square matrices whose columns are `c` turned by one more place each.

    >>> from bevel.scipy.linalg import circulant
    >>> circulant(bnp.array([1, 2, 3]))
    Array([[1, 3, 2],
           [2, 1, 3],
           [3, 2, 1]], dtype=int32)
    """
    c = _vector("circulant", "c", c)
    i, j = _grid(c.shape[-1], c.shape[-1])
    return _pick(c, (i - j) % max(1, c.shape[-1]))


def _row_and_subdiagonal(first: Any, below: Any) -> Any:
    """Square matrices of a first row and the diagonal under the main one."""
    lead = np.broadcast_shapes(first.shape[:-1], below.shape[:-1])
    n = first.shape[-1]
    spread = bnp.broadcast_to(below[..., :, None], (*lead, n - 1, n))
    rest = bnp.where(np.eye(n - 1, n, dtype=bool), spread, bnp.zeros_like(spread))
    return bnp.concatenate([bnp.broadcast_to(first[..., None, :], (*lead, 1, n)), rest], axis=-2)


def leslie(f: Any, s: Any) -> Any:
    """Leslie matrices of a population: fecundities `f` in the first row, survival rates `s` below
    the diagonal.

    Raises:
        ShapeError: `f` has fewer than 2 elements, or `s` not one less than `f`.

    >>> from bevel.scipy.linalg import leslie
    >>> leslie(bnp.array([0.1, 2.0]), bnp.array([0.5]))
    Array([[0.1, 2. ],
           [0.5, 0. ]], dtype=float32)
    """
    f, s = _vector("leslie", "f", f, 2), _vector("leslie", "s", s)
    if s.shape[-1] != f.shape[-1] - 1:
        raise ShapeError(
            f"leslie: s must have one element less than f; got shapes {s.shape} and {f.shape}"
        )
    (first, below), _ = promote(f, s)
    return _row_and_subdiagonal(wrap(first), wrap(below))


def _monic(name: str, a: Any, least: int) -> Any:
    """Coefficients of polynomials divided by the first."""
    a = wrap(inexact(_vector(name, "a", a, least)._v))
    return a[..., 1:] / a[..., :1]


def companion(a: Any) -> Any:
    """Companion matrices of polynomials with coefficients `a`, the highest power first.

    >>> from bevel.scipy.linalg import companion
    >>> companion(bnp.array([1.0, -3.0, 2.0]))
    Array([[ 3., -2.],
           [ 1.,  0.]], dtype=float32)
    """
    first = -_monic("companion", a, 2)
    return _row_and_subdiagonal(first, bnp.ones_like(first[..., 1:]))


def fiedler(a: Any) -> Any:
    """Symmetric matrices of the distances between elements, `abs(a[i] - a[j])`.

    >>> from bevel.scipy.linalg import fiedler
    >>> fiedler(bnp.array([1, 4]))
    Array([[0, 3],
           [3, 0]], dtype=int32)
    """
    a = _vector("fiedler", "a", a)
    return bnp.abs(a[..., :, None] - a[..., None, :])


def fiedler_companion(a: Any) -> Any:
    """Pentadiagonal companion matrices of polynomials with coefficients `a`, the highest power
    first (M. Fiedler, Linear Algebra Appl. 372, 2003).

    >>> from bevel.scipy.linalg import fiedler_companion
    >>> fiedler_companion(bnp.array([1.0, -3.0, 2.0]))
    Array([[ 3., -2.],
           [ 1.,  0.]], dtype=float32)
    """
    a = _monic("fiedler_companion", a, 1)
    n = a.shape[-1]
    places = np.zeros((n, n), np.int32)  # 0: zero, 1: one, 1 + k: minus the k-th coefficient
    places[range(2, n, 2), range(1, n - 1, 2)] = range(4, n + 2, 2)
    places[range(0, n - 1, 2), range(1, n, 2)] = range(3, n + 2, 2)
    places[range(3, n, 2), range(1, n - 2, 2)] = 1
    places[range(0, n - 2, 2), range(2, n, 2)] = 1
    places[1:2, :1] = 1
    places[:1, :1] = 2
    constants = bnp.broadcast_to(bnp.array([0, 1], dtype=a.dtype), (*a.shape[:-1], 2))
    return _pick(bnp.concatenate([constants, -a], axis=-1), places)


def convolution_matrix(a: Any, n: int, mode: str = "full") -> Any:
    """Matrices whose product with a vector of `n` elements is its convolution with `a`.

    `mode` is that of `bnp.convolve`: "full", "valid" or "same".

    >>> from bevel.scipy.linalg import convolution_matrix
    >>> convolution_matrix(bnp.array([1, 2]), 2)
    Array([[1, 0],
           [2, 1],
           [0, 2]], dtype=int32)
    """
    n = integer("convolution_matrix", "n", n)
    if n <= 0:
        raise ValueError(f"convolution_matrix: n must be positive, got {n}")
    if mode not in ("full", "valid", "same"):
        raise ValueError(f"convolution_matrix: mode must be full, valid or same, got {mode!r}")
    a = _vector("convolution_matrix", "a", a, 1)
    m = a.shape[-1]
    cut = {"full": 0, "valid": 2 * (min(m, n) - 1), "same": min(m, n) - 1}[mode]
    i, j = _grid(m + n - 1 - cut, n)
    padded = bnp.pad(a, [(0, 0)] * (a.ndim - 1) + [(n - 1, n - 1)])
    return _pick(padded, i + cut // 2 - j + n - 1)


def block_diag(*arrs: Any) -> Any:
    """A matrix with the given ones (vectors are rows) along its diagonal, zeros elsewhere.

    >>> from bevel.scipy.linalg import block_diag
    >>> block_diag(bnp.array([[1], [2]]), bnp.array([3, 4]))
    Array([[1, 0, 0],
           [2, 0, 0],
           [0, 3, 4]], dtype=int32)
    """
    if not arrs:
        return bnp.zeros((1, 0))
    for k, a in enumerate(arrs):
        if len(number("block_diag", a).shape) > 2:
            raise ShapeError(
                f"block_diag: argument {k} has shape {number('block_diag', a).shape}; it takes "
                "matrices, vectors and numbers"
            )
    blocks = [bnp.atleast_2d(wrap(v)) for v in promote(*arrs)[0]]
    ends = np.cumsum([b.shape[1] for b in blocks]).tolist()
    rows = [
        bnp.pad(b, ((0, 0), (end - b.shape[1], ends[-1] - end)))
        for b, end in zip(blocks, ends, strict=True)
    ]
    return bnp.concatenate(rows, axis=0)


# -- from a size ---------------------------------------------------------------------------------


def _size(name: str, n: Any, least: int = 0) -> int:
    n = integer(name, "n", n)
    if n < least:
        raise ValueError(f"{name}: n must be at least {least}, got {n}")
    return n


def _float(entry: int | float) -> float:
    try:
        return float(entry)
    except OverflowError:
        return math.copysign(math.inf, entry)


def _entries(n: int, entry: Callable[[int, int], int | float]) -> Any:
    """A float32 matrix of exact entries; what is too large is inf."""
    exact = np.array([[_float(entry(i, j)) for j in range(n)] for i in range(n)], np.float64)
    with np.errstate(over="ignore"):
        return wrap(exact.reshape(n, n).astype(np.float32))


def hilbert(n: int) -> Any:
    """The Hilbert matrix `1 / (i + j + 1)`, as float32.

    >>> from bevel.scipy.linalg import hilbert
    >>> hilbert(2)
    Array([[1.        , 0.5       ],
           [0.5       , 0.33333334]], dtype=float32)
    """
    return _entries(_size("hilbert", n), lambda i, j: 1 / (i + j + 1))


def invhilbert(n: int) -> Any:
    """The inverse of the Hilbert matrix, whose entries are integers, as float32.

    >>> from bevel.scipy.linalg import invhilbert
    >>> invhilbert(2)
    Array([[ 4., -6.],
           [-6., 12.]], dtype=float32)
    """
    n, c = _size("invhilbert", n), math.comb
    return _entries(
        n,
        lambda i, j: (
            (-1) ** (i + j)
            * (i + j + 1)
            * c(n + i, n - j - 1)
            * c(n + j, n - i - 1)
            * c(i + j, i) ** 2
        ),
    )


def _triangle(name: str, n: int, kind: str | None, sign: int) -> Any:
    """Binomials as a lower triangle, its transpose, or (by the signs) one of their products."""
    n = _size(name, n)

    def lower(i: int, j: int) -> int:
        return sign ** (i + j) * math.comb(i, j)

    def product(i: int, j: int) -> int:
        if sign == 1:
            return math.comb(i + j, i)
        return sum(lower(k, i) * lower(k, j) for k in range(max(i, j), n))

    kinds = {"symmetric": product, "lower": lower, "upper": lambda i, j: lower(j, i)}
    if (kind or "symmetric") not in kinds:
        raise ValueError(f"{name}: kind must be one of {list(kinds)}, got {kind!r}")
    return _entries(n, kinds[kind or "symmetric"])


def pascal(n: int, kind: str | None = None) -> Any:
    """Binomial coefficients as a "symmetric" (the default), "lower" or "upper" matrix, float32.

    >>> from bevel.scipy.linalg import pascal
    >>> pascal(3)
    Array([[1., 1., 1.],
           [1., 2., 3.],
           [1., 3., 6.]], dtype=float32)
    """
    return _triangle("pascal", n, kind, 1)


def invpascal(n: int, kind: str | None = None) -> Any:
    """The inverse of `pascal(n, kind)`, float32.

    >>> from bevel.scipy.linalg import invpascal
    >>> invpascal(2)
    Array([[ 2., -1.],
           [-1.,  1.]], dtype=float32)
    """
    return _triangle("invpascal", n, kind, -1)


def helmert(n: int, full: bool = False) -> Any:
    """The Helmert matrix: n - 1 orthonormal contrasts of n values, and their mean first if `full`.

    >>> from bevel.scipy.linalg import helmert
    >>> helmert(3).shape, helmert(3, full=True).shape
    ((2, 3), (3, 3))
    """
    n = _size("helmert", n, 1)
    i, j = _grid(n, n)
    lead = np.maximum(i, 1)
    rows = np.where(j < i, 1.0, np.where(j == i, -i, 0)) / np.sqrt(lead * (lead + 1.0))
    rows[0] = 1 / math.sqrt(n)
    return wrap(rows[0 if full else 1 :].astype(np.float32))


def hadamard(n: int, dtype: Any = int) -> Any:
    """A Hadamard matrix of size `n`, a power of two: 1 and -1 in orthogonal rows (Sylvester's).

    >>> from bevel.scipy.linalg import hadamard
    >>> hadamard(2)
    Array([[ 1,  1],
           [ 1, -1]], dtype=int32)
    """
    n = _size("hadamard", n, 1)
    if n & (n - 1):
        raise ValueError(f"hadamard: n must be a power of 2, got {n}")
    matrix = np.ones((1, 1))
    while len(matrix) < n:
        matrix = np.kron([[1, 1], [1, -1]], matrix)
    dtype = dtypes.default_dtype(np.dtype(int)) if dtype is int else as_dtype(dtype)
    return wrap(matrix.astype(dtype))


def dft(n: int, scale: str | None = None, *, dtype: Any = None) -> Any:
    """The matrix whose product with a vector is its discrete Fourier transform.

    `scale` None, "sqrtn" (which makes it unitary) or "n"; `dtype` complex, complex64 by default.

    >>> from bevel.scipy.linalg import dft
    >>> bnp.round(dft(2).real)
    Array([[ 1.,  1.],
           [ 1., -1.]], dtype=float32)
    """
    n = _size("dft", n)
    if scale not in (None, "sqrtn", "n"):
        raise ValueError(f"dft: scale must be None, 'sqrtn' or 'n', got {scale!r}")
    dtype = complex64 if dtype is None else as_dtype(dtype)
    if not dtypes.is_complex(dtype):
        raise ValueError(f"dft: dtype must be complex, got {dtype}")
    i, j = _grid(n, n)
    turns = np.exp(-2j * np.pi * (i * j % max(n, 1)) / max(n, 1))
    return wrap((turns / {None: 1.0, "sqrtn": math.sqrt(n), "n": n}[scale]).astype(dtype))
