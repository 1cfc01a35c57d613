"""Matrix factorizations and eigenvalues of stacks of matrices; public in `bevel.numpy.linalg`."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import bevel.ops as ops
from bevel.core import dtypes
from bevel.core.dtypes import bfloat16, float16, float32, int32
from bevel.core.handle import wrap
from bevel.core.misfit import Fix, misfit
from bevel.numpy import products
from bevel.numpy.arguments import cast, number
from bevel.numpy.convert import broadcast_value
from bevel.numpy.manipulation import matrix_transpose

_HALF = (float16, bfloat16)


class EighResult(NamedTuple):
    """Result of `eigh`."""

    eigenvalues: Any
    eigenvectors: Any


class EigResult(NamedTuple):
    """Result of `eig`."""

    eigenvalues: Any
    eigenvectors: Any


class QRResult(NamedTuple):
    """Result of `qr`."""

    Q: Any
    R: Any


class SVDResult(NamedTuple):
    """Result of `svd`."""

    U: Any
    S: Any
    Vh: Any


def checked_matrix(name: str, a: Any, square: bool = False) -> tuple[Any, np.dtype]:
    """A value that LAPACK takes, and the dtype that results should have."""
    x = number(name, a)
    shape = tuple(x.shape)
    if len(shape) < 2 or (square and shape[-1] != shape[-2]):
        kind = "square matrices" if square else "matrices"
        column = Fix(changes={0: "_[:, None]"})
        fix = column if shape and not square else Fix(callee="pinv") if name == "inv" else None
        raise misfit(
            name,
            [wrap(x)],
            f"it needs {kind} on the last two axes",
            [fix] if fix is not None and (len(shape) > 1 or not square) else [],
            "bnp.linalg.lstsq or pinv for other matrices" if square else "x[:, None] for a vector",
            words=["the matrix"],
        )
    dtype = np.dtype(x.dtype)
    dtype = dtype if dtypes.is_inexact(dtype) else float32
    return cast(x, float32 if dtype in _HALF else dtype), dtype


def at_dtype(x: Any, dtype: np.dtype) -> Any:
    """A result at the dtype of the argument, real results at its real part's."""
    real = not dtypes.is_complex(np.dtype(x.dtype))
    return wrap(cast(x, dtypes.real_dtype(dtype) if real else dtype))


def adjoint(x: Any) -> Any:
    """The conjugate transpose of matrices."""
    return matrix_transpose(wrap(products.conjugate(x._v)))


def eye_like(like: Any, n: int) -> Any:
    """Identity matrices of the dtype and stack of a value."""
    lead = tuple(like.shape[:-2])
    rows, columns = (ops.iota(shape=(n, n), dtype=int32, axis=i) for i in (0, 1))
    return broadcast_value(cast(ops.eq(rows, columns), np.dtype(like.dtype)), (*lead, n, n))


def _symmetrized(x: Any) -> Any:
    return ((wrap(x) + adjoint(wrap(x))) / 2)._v


def cholesky(a: Any, *, upper: bool = False, symmetrize_input: bool = True) -> Any:
    """Lower triangular `l` with `a = l @ adjoint(l)` (or upper, `adjoint(u) @ u`), NaN where there
    is none.

    `a` is Hermitian and positive definite; it is taken as the mean of itself and its adjoint unless
    `symmetrize_input` is off, when only the lower triangle is read.

    >>> bnp.linalg.cholesky(bnp.array([[4.0, 2.0], [2.0, 5.0]]))
    Array([[2., 0.],
           [1., 2.]], dtype=float32)
    """
    x, dtype = checked_matrix("cholesky", a, square=True)
    out = ops.cholesky(_symmetrized(x) if symmetrize_input else x)
    return at_dtype((adjoint(wrap(out)) if upper else wrap(out))._v, dtype)


def qr(a: Any, mode: str = "reduced") -> Any:
    """`a = Q @ R` with orthonormal columns in Q and R upper triangular.

    `mode="complete"` gives a square Q; `"r"` gives R alone.

    >>> q, r = bnp.linalg.qr(bnp.ones((3, 2)))
    >>> q.shape, r.shape
    ((3, 2), (2, 2))
    """
    if mode not in ("reduced", "complete", "r"):
        raise ValueError(f"qr: mode must be 'reduced', 'complete' or 'r', got {mode!r}")
    x, dtype = checked_matrix("qr", a)
    q, r = ops.qr(x, full_matrices=mode == "complete")
    return at_dtype(r, dtype) if mode == "r" else QRResult(at_dtype(q, dtype), at_dtype(r, dtype))


def svd(
    a: Any, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False
) -> Any:
    """`a = U @ diag(S) @ Vh` with S real, not negative and descending; S alone without
    `compute_uv`.

    `hermitian` says that the matrices are, and takes their eigenvalues instead.

    >>> bnp.linalg.svd(bnp.diag(bnp.array([3.0, 4.0])), compute_uv=False)
    Array([4., 3.], dtype=float32)
    """
    x, dtype = checked_matrix("svd", a, square=hermitian)
    if hermitian:
        return _svd_hermitian(x, dtype, compute_uv)
    if not compute_uv:
        return at_dtype(ops.svd(x, full_matrices=False, compute_uv=False)[0], dtype)
    return SVDResult(
        *[at_dtype(v, dtype) for v in ops.svd(x, full_matrices=full_matrices, compute_uv=True)]
    )


def _svd_hermitian(x: Any, dtype: np.dtype, compute_uv: bool) -> Any:
    w, v = ops.eigh(x, lower=True)
    size, places = ops.abs(w), ops.iota(shape=tuple(w.shape), dtype=int32, axis=len(w.shape) - 1)
    negated, order = ops.sort(ops.neg(size), places, axis=len(w.shape) - 1, num_keys=1, stable=True)
    if not compute_uv:
        return at_dtype(ops.neg(negated), dtype)
    from_columns = broadcast_value(ops.expand_dims(order, (len(order.shape) - 1,)), tuple(v.shape))
    u = _take_last(v, from_columns)
    signs = _take_last(ops.sign(w), order)
    rows = cast(ops.expand_dims(signs, (len(signs.shape) - 1,)), np.dtype(u.dtype))
    vh = adjoint(wrap(u) * wrap(rows))
    return SVDResult(at_dtype(u, dtype), at_dtype(ops.neg(negated), dtype), at_dtype(vh._v, dtype))


def _take_last(x: Any, index: Any) -> Any:
    return ops.take_along(x, index, len(x.shape) - 1)


def svdvals(x: Any, /) -> Any:
    """Singular values, descending.

    >>> bnp.linalg.svdvals(bnp.diag(bnp.array([3.0, 4.0])))
    Array([4., 3.], dtype=float32)
    """
    return svd(x, compute_uv=False)


def eigh(a: Any, UPLO: str | None = None, symmetrize_input: bool = True) -> EighResult:
    """Eigenvalues, real and ascending, and orthonormal eigenvectors (the columns) of Hermitian
    matrices.

    `a` is taken as the mean of itself and its adjoint; without `symmetrize_input` only the triangle
    `UPLO` ("L" or "U") is read.

    >>> w, v = bnp.linalg.eigh(bnp.array([[2.0, 0.0], [0.0, 1.0]]))
    >>> w
    Array([1., 2.], dtype=float32)
    """
    if UPLO not in (None, "L", "U"):
        raise ValueError(f"eigh: UPLO must be 'L' or 'U', got {UPLO!r}")
    x, dtype = checked_matrix("eigh", a, square=True)
    x = _symmetrized(x) if symmetrize_input and UPLO is None else x
    w, v = ops.eigh(x, lower=UPLO != "U")
    return EighResult(at_dtype(w, dtype), at_dtype(v, dtype))


def eigvalsh(a: Any, UPLO: str | None = "L", *, symmetrize_input: bool = True) -> Any:
    """Eigenvalues of Hermitian matrices, ascending.

    >>> bnp.linalg.eigvalsh(bnp.array([[2.0, 0.0], [0.0, 1.0]]))
    Array([1., 2.], dtype=float32)
    """
    return eigh(a, UPLO, symmetrize_input)[0]


def eig(a: Any) -> EigResult:
    """Complex eigenvalues and eigenvectors (the columns, of length 1) of square matrices; on the
    CPU only.

    >>> w, v = bnp.linalg.eig(bnp.array([[0.0, 1.0], [-1.0, 0.0]]))
    >>> bnp.sort(w.imag)
    Array([-1.,  1.], dtype=float32)
    """
    x, _ = checked_matrix("eig", a, square=True)
    w, v = ops.eig(x, left=False, right=True)
    return EigResult(wrap(w), wrap(v))


def eigvals(a: Any) -> Any:
    """Complex eigenvalues of square matrices; on the CPU only.

    >>> bnp.linalg.eigvals(bnp.eye(2)).dtype
    dtype('complex64')
    """
    x, _ = checked_matrix("eigvals", a, square=True)
    return wrap(ops.eig(x, left=False, right=False)[0])
