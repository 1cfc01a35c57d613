"""Matrix factorizations over any leading axes, with the names of `jax.lax.linalg`; nothing is
promoted.
"""

from __future__ import annotations

from typing import Any

import bevel.ops as ops
from bevel.core.handle import wrap
from bevel.lax.operands import one_dtype
from bevel.numpy.arguments import number
from bevel.numpy.manipulation import matrix_transpose
from bevel.numpy.products import conjugate


def _hermitian(x: Any) -> Any:
    adjoint = matrix_transpose(wrap(conjugate(x)))._v
    total = ops.add(x, adjoint)
    return ops.mul(total, ops.full_like(total, 0.5))


def cholesky(a: Any, *, symmetrize_input: bool = True) -> Any:
    """Lower triangular `l` with `a = l @ adjoint(l)`; NaN where there is none.

    >>> lax.linalg.cholesky(bnp.array([[4.0, 2.0], [2.0, 5.0]]))
    Array([[2., 0.],
           [1., 2.]], dtype=float32)
    """
    x = number("cholesky", a)
    return wrap(ops.cholesky(_hermitian(x) if symmetrize_input else x))


def lu(x: Any) -> tuple[Any, Any, Any]:
    """LU factors in one matrix, the row exchanged with at each step, and the permutation that
    results.

    >>> factors, pivots, permutation = lax.linalg.lu(bnp.array([[0.0, 1.0], [2.0, 3.0]]))
    >>> permutation
    Array([1, 0], dtype=int32)
    """
    return tuple([wrap(v) for v in ops.lu(number("lu", x))])


def qr(x: Any, *, full_matrices: bool = True) -> tuple[Any, Any]:
    """`x = q @ r` with orthonormal columns in q, and r upper triangular.

    >>> [m.shape for m in lax.linalg.qr(bnp.ones((3, 2)), full_matrices=False)]
    [(3, 2), (2, 2)]
    """
    return tuple([wrap(v) for v in ops.qr(number("qr", x), full_matrices=full_matrices)])


def svd(x: Any, *, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    """`x = u @ diag(s) @ vh`, as (u, s, vh), or s alone.

    >>> lax.linalg.svd(bnp.diag(bnp.array([3.0, 4.0])), compute_uv=False)
    Array([4., 3.], dtype=float32)
    """
    outs = ops.svd(
        number("svd", x), full_matrices=full_matrices and compute_uv, compute_uv=compute_uv
    )
    return tuple([wrap(v) for v in outs]) if compute_uv else wrap(outs[0])


def eigh(
    x: Any, *, lower: bool = True, symmetrize_input: bool = True, sort_eigenvalues: bool = True
) -> tuple[Any, Any]:
    """Eigenvectors (the columns) and eigenvalues of Hermitian matrices, ascending; in this order,
    as in JAX.

    >>> v, w = lax.linalg.eigh(bnp.diag(bnp.array([2.0, 1.0])))
    >>> w
    Array([1., 2.], dtype=float32)
    """
    value = number("eigh", x)
    w, v = ops.eigh(_hermitian(value) if symmetrize_input else value, lower=lower)
    return wrap(v), wrap(w)


def eig(
    x: Any, *, compute_left_eigenvectors: bool = True, compute_right_eigenvectors: bool = True
) -> list[Any]:
    """Complex eigenvalues, then left and right eigenvectors as asked for; on the CPU only.

    >>> len(lax.linalg.eig(bnp.eye(2), compute_left_eigenvectors=False))
    2
    """
    left, right = compute_left_eigenvectors, compute_right_eigenvectors
    return [wrap(v) for v in ops.eig(number("eig", x), left=left, right=right)]


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
    out = ops.triangular_solve(
        x,
        y,
        left_side=left_side,
        lower=lower,
        transpose_a=transpose_a,
        conjugate_a=conjugate_a,
        unit_diagonal=unit_diagonal,
    )
    return wrap(ops.squeeze(out, (len(out.shape) - (1 if left_side else 2),)) if vector else out)
