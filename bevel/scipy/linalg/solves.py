"""Systems of equations, from matrices or from their factors; inverses and determinants."""

from __future__ import annotations

from typing import Any

import numpy as np

import bevel.numpy as bnp
import bevel.ops as ops
from bevel.core.errors import ShapeError
from bevel.core.handle import wrap
from bevel.lax import linalg as lax_linalg
from bevel.scipy.linalg.factors import cholesky
from bevel.scipy.linalg.operands import back, check_square, computable, matrix

_TRANS = {0: 0, "N": 0, 1: 1, "T": 1, 2: 2, "C": 2}


def _trans(name: str, trans: Any) -> int:
    if trans not in _TRANS:
        raise ValueError(
            f"{name}: trans must be 0 or 'N', 1 or 'T' (transposed), 2 or 'C' (adjoint); got "
            f"{trans!r}"
        )
    return _TRANS[trans]


def _system(name: str, a: Any, b: Any) -> tuple[Any, Any, Any]:
    """Square matrices and right-hand sides with common leading axes, and what takes the solution
    back to the shape of `b`.
    """
    check_square(name, "the matrix", a)
    vector = b.ndim == 1
    b = b[:, None] if vector else b
    n = a.shape[-1]
    if b.ndim < 2 or b.shape[-2] != n:
        raise ShapeError(
            f"{name}: the matrix has shape {a.shape} and b {b.shape[:-1] if vector else b.shape}.\n"
            f"Why: a vector b needs size {n}, a matrix b needs {n} rows.\n"
            "Write instead: b[..., None] for a stack of vectors."
        )
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    b = bnp.broadcast_to(b, (*lead, *b.shape[-2:]))
    return bnp.broadcast_to(a, (*lead, n, n)), b, lambda x: x[..., 0] if vector else x


def _triangular(a: Any, b: Any, trans: int = 0, **options: bool) -> Any:
    return lax_linalg.triangular_solve(
        a, b, left_side=True, transpose_a=trans > 0, conjugate_a=trans == 2, **options
    )


def solve_triangular(
    a: Any,
    b: Any,
    trans: int | str = 0,
    lower: bool = False,
    unit_diagonal: bool = False,
    overwrite_b: bool = False,
    debug: Any = None,
    check_finite: bool = True,
) -> Any:
    """The `x` with `a @ x = b` for a triangular `a`, of which only the triangle is read.

    `trans` 1 ("T") takes the transpose, 2 ("C") the adjoint of `a`; `b` is a vector, or matrices
    whose columns are solved for.

    >>> from bevel.scipy.linalg import solve_triangular
    >>> solve_triangular(bnp.array([[2.0, 0.0], [1.0, 1.0]]), bnp.array([2.0, 3.0]), lower=True)
    Array([1., 2.], dtype=float32)
    """
    (a, b), dtype = computable("solve_triangular", a, b)
    a, b, shaped = _system("solve_triangular", a, b)
    trans = _trans("solve_triangular", trans)
    return back(shaped(_triangular(a, b, trans, lower=lower, unit_diagonal=unit_diagonal)), dtype)


def cho_factor(
    a: Any, lower: bool = False, overwrite_a: bool = False, check_finite: bool = True
) -> tuple[Any, bool]:
    """The Cholesky factor of `a` and whether it is the lower one, for `cho_solve`.

    >>> from bevel.scipy.linalg import cho_factor
    >>> cho_factor(bnp.diag(bnp.array([4.0, 9.0])), lower=True)[0].diagonal()
    Array([2., 3.], dtype=float32)
    """
    return cholesky(a, lower=lower), lower


def cho_solve(
    c_and_lower: tuple[Any, bool], b: Any, overwrite_b: bool = False, check_finite: bool = True
) -> Any:
    """The `x` with `a @ x = b`, from `cho_factor(a)`.

    >>> from bevel.scipy.linalg import cho_factor, cho_solve
    >>> cho_solve(cho_factor(bnp.diag(bnp.array([4.0, 16.0]))), bnp.array([4.0, 32.0]))
    Array([1., 2.], dtype=float32)
    """
    c, lower = c_and_lower
    (c, b), dtype = computable("cho_solve", c, b)
    c, b, shaped = _system("cho_solve", c, b)
    b = _triangular(c, b, 0 if lower else 2, lower=lower)
    return back(shaped(_triangular(c, b, 2 if lower else 0, lower=lower)), dtype)


def lu_factor(a: Any, overwrite_a: bool = False, check_finite: bool = True) -> tuple[Any, Any]:
    """LU factors in one matrix, and the row exchanged with at each step (int32), for `lu_solve`.

    >>> from bevel.scipy.linalg import lu_factor
    >>> lu_factor(bnp.array([[0.0, 1.0], [2.0, 3.0]]))[1]
    Array([1, 1], dtype=int32)
    """
    a, dtype = matrix("lu_factor", a)
    factors, pivots, _ = lax_linalg.lu(a)
    return back(factors, dtype), pivots


def lu_solve(
    lu_and_piv: tuple[Any, Any],
    b: Any,
    trans: int = 0,
    overwrite_b: bool = False,
    check_finite: bool = True,
) -> Any:
    """The `x` with `a @ x = b`, from `lu_factor(a)`; `trans` 1 takes the transpose, 2 the adjoint
    of `a`.

    >>> from bevel.scipy.linalg import lu_factor, lu_solve
    >>> lu_solve(lu_factor(bnp.array([[0.0, 1.0], [2.0, 0.0]])), bnp.array([1.0, 4.0]))
    Array([2., 1.], dtype=float32)
    """
    factors, pivots = lu_and_piv
    (factors, b), dtype = computable("lu_solve", factors, b)
    trans = _trans("lu_solve", trans)
    factors, b, shaped = _system("lu_solve", factors, b)
    n = factors.shape[-1]
    order = lax_linalg.lu_pivots_to_permutation(pivots, n)
    order = bnp.broadcast_to(order, (*factors.shape[:-2], n))
    if trans == 0:
        return back(shaped(wrap(ops.lu_solve(factors._v, order._v, b._v))), dtype)
    b = _triangular(factors, b, trans, lower=False)
    b = _triangular(factors, b, trans, lower=True, unit_diagonal=True)
    return back(shaped(bnp.take_along_axis(b, bnp.argsort(order, -1)[..., None], -2)), dtype)


def solve(
    a: Any,
    b: Any,
    lower: bool = False,
    overwrite_a: bool = False,
    overwrite_b: bool = False,
    debug: bool = False,
    check_finite: bool = True,
    assume_a: str = "gen",
) -> Any:
    """The `x` with `a @ x = b`; `b` is a vector, or matrices whose columns are solved for.

    `assume_a="pos"` says that `a` is Hermitian and positive definite, and reads one triangle of it;
    "sym" and "her" are solved as "gen" is.

    Raises:
        ValueError: another `assume_a`.
        ShapeError: shapes that do not fit.

    >>> from bevel.scipy.linalg import solve
    >>> solve(bnp.array([[4.0, 0.0], [0.0, 16.0]]), bnp.array([4.0, 8.0]), assume_a="pos")
    Array([1. , 0.5], dtype=float32)
    """
    if assume_a not in ("gen", "sym", "her", "pos"):
        raise ValueError(f"solve: assume_a must be 'gen', 'sym', 'her' or 'pos', got {assume_a!r}")
    return cho_solve(cho_factor(a, lower), b) if assume_a == "pos" else bnp.linalg.solve(a, b)


def inv(a: Any, overwrite_a: bool = False, check_finite: bool = True) -> Any:
    """Inverses; inf or NaN where a matrix is singular.

    >>> from bevel.scipy.linalg import inv
    >>> inv(bnp.diag(bnp.array([2.0, 4.0]))).diagonal()
    Array([0.5 , 0.25], dtype=float32)
    """
    return bnp.linalg.inv(a)


def det(a: Any, overwrite_a: bool = False, check_finite: bool = True) -> Any:
    """Determinants.

    >>> from bevel.scipy.linalg import det
    >>> det(bnp.array([[1.0, 2.0], [3.0, 4.0]]))
    Array(-2., dtype=float32)
    """
    return bnp.linalg.det(a)
