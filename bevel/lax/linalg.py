"""Matrix factorizations over any leading axes, with the names of `jax.lax.linalg`; nothing is
promoted.
"""

from __future__ import annotations

import enum
from typing import Any

import bevel.ops as ops
from bevel.core.dtypes import int32
from bevel.core.errors import Unsupported
from bevel.core.handle import wrap
from bevel.lax.operands import checked, one_dtype
from bevel.lax.polar import qdwh as qdwh
from bevel.numpy.arguments import cast, integer, number
from bevel.numpy.manipulation import matrix_transpose
from bevel.numpy.products import conjugate
from bevel.ops import matrix


class EigImplementation(enum.Enum):
    """Who computes `eig`; on the CPU it is LAPACK."""

    CUSOLVER = "cusolver"
    MAGMA = "magma"
    LAPACK = "lapack"


class EighImplementation(enum.Enum):
    """How `eigh` works; on the CPU and CUDA it is by QR iterations or divide and conquer."""

    QR = "qr"
    JACOBI = "jacobi"
    QDWH = "qdwh"


class SvdAlgorithm(enum.Enum):
    """How `svd` works; on the CPU it is by divide and conquer, on CUDA by QR iterations."""

    DEFAULT = "default"
    QR = "QR"
    JACOBI = "Jacobi"
    POLAR = "polar"
    DIVIDE_AND_CONQUER = "divide_and_conquer"


def _only(name: str, option: str, value: enum.Enum | None, known: tuple[enum.Enum, ...]) -> None:
    """Refuse an algorithm that the libraries behind an op do not have."""
    if value is not None and value not in known:
        has = ", ".join([str(k) for k in known])
        raise Unsupported(
            f"lax.linalg.{name}: {option}={value} is not available.\n"
            "Why: the solver of the platform is used, LAPACK or cuSOLVER, and no other is linked.\n"
            f"Write instead: {option}=None, or one of {has}."
        )


def _hermitian(x: Any) -> Any:
    adjoint = matrix_transpose(wrap(conjugate(x)))._v
    total = ops.add(x, adjoint)
    return ops.mul(total, ops.full_like(total, 0.5))


def cholesky(x: Any, *, symmetrize_input: bool = True) -> Any:
    """Lower triangular `l` with `x = l @ adjoint(l)`; NaN where there is none.

    >>> lax.linalg.cholesky(bnp.array([[4.0, 2.0], [2.0, 5.0]]))
    Array([[2., 0.],
           [1., 2.]], dtype=float32)
    """
    value = number("cholesky", x)
    return wrap(checked(ops.cholesky, _hermitian(value) if symmetrize_input else value))


def lu(x: Any) -> tuple[Any, Any, Any]:
    """LU factors in one matrix, the row exchanged with at each step, and the permutation that
    results.

    >>> factors, pivots, permutation = lax.linalg.lu(bnp.array([[0.0, 1.0], [2.0, 3.0]]))
    >>> permutation
    Array([1, 0], dtype=int32)
    """
    return tuple([wrap(v) for v in checked(ops.lu, number("lu", x))])


def lu_pivots_to_permutation(pivots: Any, permutation_size: int) -> Any:
    """The permutation of `permutation_size` rows that a series of row exchanges makes.

    >>> lax.linalg.lu_pivots_to_permutation(bnp.array([2, 2]), 3)
    Array([2, 0, 1], dtype=int32)
    """
    value = cast(number("lu_pivots_to_permutation", pivots), int32)
    return wrap(
        checked(ops.lu_pivots_to_permutation, value, permutation_size=int(permutation_size))
    )


def qr(
    x: Any, *, pivoting: bool = False, full_matrices: bool = True, use_magma: bool | None = None
) -> tuple[Any, ...]:
    """`x = q @ r` with orthonormal columns in q, and r upper triangular.

    With `pivoting` (on the CPU only) it is `x[:, p] = q @ r`, as (q, r, p), where the diagonal of r
    descends. `use_magma` must not ask for it: MAGMA is not linked.

    >>> [m.shape for m in lax.linalg.qr(bnp.ones((3, 2)), full_matrices=False)]
    [(3, 2), (2, 2)]
    """
    if use_magma:
        _only("qr", "use_magma", EigImplementation.MAGMA, (EigImplementation.LAPACK,))
    decompose = ops.pivoted_qr if pivoting else ops.qr
    return tuple(
        [wrap(v) for v in checked(decompose, number("qr", x), full_matrices=full_matrices)]
    )


def svd(
    x: Any,
    *,
    full_matrices: bool = True,
    compute_uv: bool = True,
    subset_by_index: tuple[int, int] | None = None,
    algorithm: SvdAlgorithm | None = None,
) -> Any:
    """`x = u @ diag(s) @ vh`, as (u, s, vh), or s alone.

    `subset_by_index=(i, j)` keeps the singular values i to j - 1 and their vectors.

    Raises:
        Unsupported: the platform's library does not have the `algorithm`.

    >>> lax.linalg.svd(bnp.diag(bnp.array([3.0, 4.0])), compute_uv=False)
    Array([4., 3.], dtype=float32)
    """
    known = (SvdAlgorithm.DEFAULT, SvdAlgorithm.DIVIDE_AND_CONQUER)
    _only("svd", "algorithm", algorithm, known)
    full = full_matrices and compute_uv and subset_by_index is None
    outs = [
        wrap(v)
        for v in checked(ops.svd, number("svd", x), full_matrices=full, compute_uv=compute_uv)
    ]
    if subset_by_index is not None:
        kept = slice(*_subset("svd", subset_by_index, outs[-2 if compute_uv else 0].shape[-1]))
        if not compute_uv:
            return outs[0][..., kept]
        u, s, vh = outs
        return u[..., kept], s[..., kept], vh[..., kept, :]
    return tuple(outs) if compute_uv else outs[0]


def _subset(name: str, subset: tuple[int, int], count: int) -> tuple[int, int]:
    start, stop = (integer(name, "every end of subset_by_index", i) for i in subset)
    if not 0 <= start < stop <= count:
        raise ValueError(
            f"lax.linalg.{name}: subset_by_index={subset} must be (i, j) with 0 <= i < j <= {count}"
        )
    return start, stop


def eigh(
    x: Any,
    *,
    lower: bool = True,
    symmetrize_input: bool = True,
    sort_eigenvalues: bool = True,
    subset_by_index: tuple[int, int] | None = None,
    implementation: EighImplementation | None = None,
) -> tuple[Any, Any]:
    """Eigenvectors (the columns) and eigenvalues of Hermitian matrices, ascending; in this order,
    as in JAX.

    `subset_by_index=(i, j)` keeps the eigenvalues i to j - 1 and their vectors.

    Raises:
        Unsupported: the platform's library does not have the `implementation`.

    >>> v, w = lax.linalg.eigh(bnp.diag(bnp.array([2.0, 1.0])))
    >>> w
    Array([1., 2.], dtype=float32)
    """
    _only("eigh", "implementation", implementation, (EighImplementation.QR,))
    value = number("eigh", x)
    w, v = checked(ops.eigh, _hermitian(value) if symmetrize_input else value, lower=lower)
    w, v = wrap(w), wrap(v)
    if subset_by_index is None:
        return v, w
    kept = slice(*_subset("eigh", subset_by_index, w.shape[-1]))
    return v[..., kept], w[..., kept]


def eig(
    x: Any,
    *,
    compute_left_eigenvectors: bool = True,
    compute_right_eigenvectors: bool = True,
    enable_eigvec_derivs: bool = False,
    use_magma: bool | None = None,
    implementation: EigImplementation | None = None,
) -> list[Any]:
    """Complex eigenvalues, then left and right eigenvectors as asked for; on the CPU only.

    The vectors have derivatives only with `enable_eigvec_derivs`: they hold while the largest
    component of each, which LAPACK makes real, stays the same one.

    Raises:
        Unsupported: the `implementation` is not LAPACK.

    >>> len(lax.linalg.eig(bnp.eye(2), compute_left_eigenvectors=False))
    2
    """
    asked = EigImplementation.MAGMA if use_magma else implementation
    _only("eig", "implementation", asked, (EigImplementation.LAPACK,))
    flags = dict(left=compute_left_eigenvectors, right=compute_right_eigenvectors)
    flags["enable_eigvec_derivs"] = enable_eigvec_derivs
    return [wrap(v) for v in checked(ops.eig, number("eig", x), **flags)]


def triangular_solve(
    a: Any,
    b: Any,
    *,
    left_side: bool = False,
    lower: bool = False,
    transpose_a: bool = False,
    conjugate_a: bool = False,
    unit_diagonal: bool = False,
) -> Any:
    """The `x` with `a @ x = b` (or `x @ a = b`, unless `left_side`), for a triangular `a`.

    >>> lax.linalg.triangular_solve(bnp.eye(2) * 2, bnp.ones((2, 1)), left_side=True)
    Array([[0.5],
           [0.5]], dtype=float32)
    """
    (x, y), _ = one_dtype("triangular_solve", (a, b))
    vector = len(y.shape) == len(x.shape) - 1
    if vector:
        y = ops.expand_dims(y, (len(y.shape) if left_side else len(y.shape) - 1,))
    out = checked(
        ops.triangular_solve,
        x,
        y,
        left_side=left_side,
        lower=lower,
        transpose_a=transpose_a,
        conjugate_a=conjugate_a,
        unit_diagonal=unit_diagonal,
    )
    return wrap(ops.squeeze(out, (len(out.shape) - (1 if left_side else 2),)) if vector else out)


# -- reflectors, and reductions to simpler matrices ----------------------------------------------


def hessenberg(a: Any) -> tuple[Any, Any]:
    """Reduce square matrices to upper Hessenberg form; on the CPU only.

    Returns (packed, taus): the form in the upper triangle and the first diagonal below it, and
    under that the Householder reflectors, with their factors `taus` (..., n - 1).

    >>> packed, taus = lax.linalg.hessenberg(bnp.array([[1.0, 2.0], [3.0, 4.0]]))
    >>> packed
    Array([[1., 2.],
           [3., 4.]], dtype=float32)
    """
    return tuple([wrap(v) for v in checked(ops.hessenberg, number("hessenberg", a))])


def tridiagonal(a: Any, *, lower: bool = True) -> tuple[Any, Any, Any, Any]:
    """Reduce Hermitian matrices to tridiagonal form, reading one triangle.

    Returns (packed, d, e, taus): the diagonal `d` (..., n) and the diagonal beside it `e`
    (..., n - 1), both real, and the Householder reflectors in `packed` with their factors `taus`.

    >>> _, d, e, _ = lax.linalg.tridiagonal(bnp.array([[1.0, 2.0], [2.0, 4.0]]))
    >>> d, e
    (Array([1., 4.], dtype=float32), Array([2.], dtype=float32))
    """
    return tuple(
        [wrap(v) for v in checked(ops.tridiagonal, number("tridiagonal", a), lower=bool(lower))]
    )


def schur(
    x: Any,
    *,
    compute_schur_vectors: bool = True,
    sort_eig_vals: bool = False,
    select_callable: Any = None,
) -> tuple[Any, ...]:
    """`x = q @ t @ adjoint(q)` with q unitary and t upper triangular, as (t, q) or (t,); on the CPU
    only.

    Of a real matrix t is real, with a block of two rows for each pair of complex eigenvalues.

    Raises:
        Unsupported: `sort_eig_vals` or `select_callable` is given; no platform sorts them.

    >>> t, q = lax.linalg.schur(bnp.array([[1.0, 2.0], [0.0, 3.0]]))
    >>> t
    Array([[1., 2.],
           [0., 3.]], dtype=float32)
    """
    if sort_eig_vals or select_callable is not None:
        raise Unsupported(
            "lax.linalg.schur: the eigenvalues cannot be sorted.\n"
            "Why: compiled LAPACK calls cannot call back into Python to select them.\n"
            "Write instead: schur(x), and sort the results of eig(x) where only the order counts."
        )
    outs = checked(ops.schur, number("schur", x), compute_schur_vectors=bool(compute_schur_vectors))
    return tuple([wrap(v) for v in outs])


def householder_product(a: Any, taus: Any) -> Any:
    """The first columns of the product of Householder reflectors: `q` of a packed QR factorization.

    `a`: (..., m, n) with m >= n and the reflectors below its diagonal; `taus`: (..., k), k <= n.

    >>> lax.linalg.householder_product(bnp.eye(2), bnp.array([2.0]))
    Array([[-1.,  0.],
           [-0.,  1.]], dtype=float32)
    """
    (x, t), _ = one_dtype("householder_product", (a, taus))
    return wrap(checked(ops.householder_product, x, t))


def ormqr(a: Any, taus: Any, c: Any, *, left: bool = True, transpose: bool = False) -> Any:
    """`q @ c` (or `c @ q`, unless `left`) without making q, which `householder_product` would.

    With `transpose` it is the adjoint of q. q is square, with as many rows as `a`.

    >>> lax.linalg.ormqr(bnp.eye(2), bnp.array([2.0]), bnp.ones((2, 1)))
    Array([[-1.],
           [ 1.]], dtype=float32)
    """
    (x, t, y), _ = one_dtype("ormqr", (a, taus, c))
    return wrap(checked(ops.ormqr, x, t, y, left=bool(left), transpose=bool(transpose)))


def tridiagonal_solve(dl: Any, d: Any, du: Any, b: Any, *, perturb_singular: bool = False) -> Any:
    """The `x` with `A @ x = b`, for matrices A of three diagonals; NaN where A is singular.

    `dl`, `d` and `du` (..., m) hold `A[i, i - 1]`, `A[i, i]` and `A[i, i + 1]`, so that `dl[0]` and
    `du[m - 1]` are not read; `b` is (..., m, k). With `perturb_singular`, pivots so small that a
    result would overflow are moved by the size of rounding errors, as LAPACK's xLAGTS does: for
    inverse iteration.

    >>> ones = bnp.ones(3)
    >>> lax.linalg.tridiagonal_solve(0 * ones, 2 * ones, ones, bnp.array([[4.0], [6.0], [8.0]]))
    Array([[1.5],
           [1. ],
           [4. ]], dtype=float32)
    """
    values, _ = one_dtype("tridiagonal_solve", (dl, d, du, b))
    return wrap(checked(ops.tridiagonal_solve, *values, perturb_singular=bool(perturb_singular)))


# -- updates and products ------------------------------------------------------------------------


def cholesky_update(r_matrix: Any, w_vector: Any) -> Any:
    """The upper triangular factor of `r^T @ r + w @ w^T`, in a number of steps quadratic in its
    size.

    Golub and Van Loan, "Matrix Computations", section 6.5.4. Real dtypes only.

    >>> lax.linalg.cholesky_update(3 * bnp.eye(1), bnp.array([4.0]))
    Array([[5.]], dtype=float32)
    """
    (r, w), _ = one_dtype("cholesky_update", (r_matrix, w_vector))
    return wrap(checked(ops.cholesky_update, r, w))


def symmetric_product(
    a_matrix: Any,
    c_matrix: Any,
    *,
    alpha: float = 1.0,
    beta: float = 0.0,
    symmetrize_output: bool = False,
) -> Any:
    """`alpha * a @ a^T + beta * c`, for a symmetric `c`.

    With `symmetrize_output` the upper triangle is the lower one's mirror image, whatever `c` holds.

    >>> lax.linalg.symmetric_product(bnp.ones((2, 3)), bnp.eye(2), beta=2.0)
    Array([[5., 3.],
           [3., 5.]], dtype=float32)
    """
    (a, c), _ = one_dtype("symmetric_product", (a_matrix, c_matrix))
    product = matrix.matmul(a, matrix.flip(a))
    out = ops.add(matrix.scale(product, alpha), matrix.scale(c, beta))
    if symmetrize_output:
        low = matrix.tril(out, -1)
        out = ops.add(matrix.tril(out), matrix.flip(low))
    return wrap(out)
