"""Functions of square matrices, and the equation that their derivatives satisfy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import bevel.numpy as bnp
from bevel.api.custom import custom_jvp
from bevel.api.derivatives import jvp
from bevel.core import dtypes
from bevel.core.errors import ShapeError
from bevel.lax import linalg as lax_linalg
from bevel.lax.loops import fori_loop
from bevel.lax.shapes import stop_gradient
from bevel.lax.solves import custom_linear_solve
from bevel.numpy.arguments import known
from bevel.scipy.linalg.factors import rsf2csf, schur
from bevel.scipy.linalg.operands import adjoint, back, check_square, computable, matrix
from bevel.scipy.linalg.solves import solve, solve_triangular

# -- the exponential -----------------------------------------------------------------------------

_PADE = {4: (7, 3.92572478313866), 8: (13, 5.371920351148152)}
"""By the size of a real element: the degree, and the 1-norm up to which it is exact to rounding."""


def _pade(a: Any, degree: int) -> tuple[Any, Any]:
    """Even and odd parts of the numerator of the exponential's diagonal Pade approximant."""
    f = math.factorial
    b = [f(2 * degree - k) // (f(k) * f(degree - k)) for k in range(degree + 1)]
    one = bnp.eye(a.shape[-1], dtype=a.dtype)
    powers = [one, a @ a]
    powers += [powers[1] @ powers[1]]
    powers += [powers[2] @ powers[1]]

    def part(first: int) -> Any:
        low = [float(c) * p for c, p in zip(b[first:8:2], powers, strict=True)]
        high = [float(c) * p for c, p in zip(b[8 + first :: 2], powers[1:], strict=False)]
        return sum(low[1:], low[0]) + (powers[3] @ sum(high[1:], high[0]) if high else 0)

    return part(0), a @ part(1)


def expm(A: Any, *, upper_triangular: bool = False, max_squarings: int = 16) -> Any:
    """The exponential of square matrices, by scaling, a Pade approximant and squaring (N. J.
    Higham, SIAM J. Matrix Anal. Appl. 26, 2005).

    `upper_triangular` says that the matrices are, and solves for less. A matrix that would need
    more than `max_squarings` gives NaN.

    >>> from bevel.scipy.linalg import expm
    >>> expm(bnp.array([[0.0, 1.0], [0.0, 0.0]]))
    Array([[1., 1.],
           [0., 1.]], dtype=float32)
    """
    a, dtype = matrix("expm", A, square=True)
    if a.shape[-1] == 0:
        return back(a, dtype)
    real = dtypes.real_dtype(np.dtype(a.dtype))
    degree, most = _PADE[real.itemsize]
    size = stop_gradient(bnp.abs(a).sum(-2).max(-1))
    times = bnp.ceil(bnp.log2(bnp.maximum(size / most, 1.0)))
    even, odd = _pade(a * (2.0**-times).astype(real)[..., None, None], degree)
    divide = solve_triangular if upper_triangular else solve
    result = divide(even - odd, even + odd)
    times = bnp.where(bnp.isnan(size), 0, times)[..., None, None]

    def square(i: Any, x: Any) -> Any:
        wanted = i < times
        base = bnp.where(wanted, x, 0)
        return bnp.where(wanted, base @ base, x)

    at_hand = known(times._v)
    if at_hand is None:
        result = fori_loop(0, max_squarings, square, result)
    else:
        for i in range(int(min(max_squarings, at_hand.max(initial=0)))):
            result = square(i, result)
    return back(bnp.where(times > max_squarings, math.nan, result), dtype)


def expm_frechet(A: Any, E: Any, *, method: str | None = None, compute_expm: bool = True) -> Any:
    """`expm(A)` and its derivative at `A` in the direction `E`; the derivative alone without
    `compute_expm`.

    >>> from bevel.scipy.linalg import expm_frechet
    >>> expm_frechet(bnp.zeros((2, 2)), bnp.eye(2), compute_expm=False)
    Array([[1., 0.],
           [0., 1.]], dtype=float32)
    """
    (a, e), dtype = computable("expm_frechet", A, E)
    check_square("expm_frechet", "A", a)
    if a.shape != e.shape:
        raise ShapeError(f"expm_frechet: A and E must have one shape, got {a.shape} and {e.shape}")
    found = tuple([back(x, dtype) for x in jvp(expm, (a,), (e,))])
    return found if compute_expm else found[1]


# -- triangular recurrences ----------------------------------------------------------------------


def _diagonal(x: Any) -> Any:
    return bnp.diagonal(x, 0, -2, -1)


def _embed(d: Any) -> Any:
    """Diagonal matrices."""
    return d[..., None] * bnp.eye(d.shape[-1], dtype=d.dtype)


def _column(x: Any, j: Any) -> Any:
    return x[..., :, j][..., None]


def _by_columns(like: Any, start: Any, equation: Callable, reverse: bool = False) -> Any:
    """Fill the columns of `start` in order, each the solution of a triangular system.

    `equation(j, found)` gives the upper triangular matrix and the right-hand side (..., n, 1).
    """
    count = start.shape[-1]

    def step(i: Any, found: Any) -> Any:
        j = count - 1 - i if reverse else i
        a, b = equation(j, found)
        return bnp.where(np.arange(count) == j, found + _divided(a, b), found)

    return fori_loop(0, count, step, start)


def _divided(a: Any, b: Any) -> Any:
    """Solutions of triangular systems; where the diagonal is 0, NaN unless the result is too."""
    d = _diagonal(a)[..., None]
    none = d == 0
    on_diagonal = np.eye(a.shape[-1], dtype=bool)
    x = lax_linalg.triangular_solve(bnp.where(on_diagonal & none, 1, a), b, left_side=True)
    return bnp.where(none & (x != 0), math.nan, x)


def _leading(j: Any, n: int, a: Any) -> Any:
    """A matrix with its rows and columns from j on replaced by those of the identity."""
    inside = np.arange(n) < j
    return bnp.where(inside[:, None] & inside, a, bnp.eye(n, dtype=a.dtype))


def _triangular_form(a: Any) -> tuple[Any, Any]:
    """The complex Schur form, with exactly real eigenvalues where those of a real matrix are."""
    t, z = schur(a)
    return (t, z) if dtypes.is_complex(np.dtype(t.dtype)) else rsf2csf(t, z)


def _sqrt_of_triangle(t: Any) -> Any:
    n = t.shape[-1]
    root = bnp.sqrt(_diagonal(t))

    def equation(j: Any, found: Any) -> tuple[Any, Any]:
        a = found + root[..., j][..., None, None] * bnp.eye(n, dtype=t.dtype)
        rows = (np.arange(n) < j)[:, None]
        return _leading(j, n, a), bnp.where(rows, _column(t, j), 0)

    return _by_columns(t, _embed(root), equation)


@custom_jvp
def _sqrtm(a: Any) -> Any:
    t, z = _triangular_form(a)
    return z @ _sqrt_of_triangle(t) @ adjoint(z)


@_sqrtm.defjvp
def _sqrtm_jvp(primals: Any, tangents: Any) -> Any:
    root = _sqrtm(primals[0])
    return root, solve_sylvester(root, root, tangents[0].astype(root.dtype))


def sqrtm(A: Any, blocksize: int = 1) -> Any:
    """Principal square roots of square matrices, complex, by the Schur form (A. Bjorck and S.
    Hammarling, Linear Algebra Appl. 52, 1983); NaN where there is none.

    Differentiable where no two eigenvalues of the root add up to 0. On the CPU only.

    >>> from bevel.scipy.linalg import sqrtm
    >>> sqrtm(bnp.diag(bnp.array([4.0, 9.0]))).real
    Array([[2., 0.],
           [0., 3.]], dtype=float32)
    """
    if blocksize > 1:
        raise NotImplementedError(
            f"sqrtm: there is no blocked method; leave blocksize={blocksize} out"
        )
    a, dtype = matrix("sqrtm", A, square=True)
    return back(_sqrtm(a), dtypes.complex_dtype(dtype))


def funm(A: Any, func: Callable[[Any], Any], disp: bool = True) -> Any:
    """A function of square matrices, from one of their eigenvalues (complex arrays), by Parlett's
    recurrence on the Schur form (Linear Algebra Appl. 14, 1976). On the CPU only, without
    derivatives.

    Inaccurate where eigenvalues are close; with `disp=False` also an estimate of the relative
    error.

    >>> from bevel.scipy.linalg import funm
    >>> bnp.round(funm(bnp.array([[1.0, 2.0], [0.0, 3.0]]), bnp.square).real)
    Array([[1., 8.],
           [0., 9.]], dtype=float32)
    """
    a, dtype = matrix("funm", A, square=True)
    dtype = dtypes.complex_dtype(dtype)
    n = a.shape[-1]
    t, z = _triangular_form(a)
    values = func(_diagonal(t)).astype(t.dtype)
    eigenvalues = _diagonal(t)

    def equation(j: Any, found: Any) -> tuple[Any, Any]:
        inside = (np.arange(n) < j)[:, None]
        column = bnp.where(inside, _column(t, j), 0)
        shifted = t - eigenvalues[..., j][..., None, None] * bnp.eye(n, dtype=t.dtype)
        known_part = found @ column - values[..., j][..., None, None] * column
        return _leading(j, n, shifted), bnp.where(inside, known_part, 0)

    f = _by_columns(t, _embed(values), equation)
    result = back(z @ f @ adjoint(z), dtype)
    if disp:
        return result
    eps = float(dtypes.finfo(np.dtype(t.dtype)).eps)
    gaps = bnp.abs(eigenvalues[..., :, None] - eigenvalues[..., None, :])
    least = bnp.where(np.eye(n, dtype=bool), math.inf, gaps).min((-2, -1), initial=math.inf)
    least = bnp.where(least == 0, eps, least)
    spread = bnp.linalg.norm(bnp.triu(t, 1), 1, (-2, -1))
    error = bnp.clip(eps / least * spread, eps, 1)
    return result, bnp.where(bnp.isinf(result).any((-2, -1)), math.inf, error)


# -- Sylvester's equation ------------------------------------------------------------------------


def _by_schur(a: Any, b: Any, c: Any, tol: float) -> Any:
    r, u = schur(a, "complex")
    s, v = schur(adjoint(b), "complex")
    right = adjoint(s)  # b = v @ right @ adjoint(v), lower triangular
    f = adjoint(u) @ c.astype(r.dtype) @ v

    def equation(j: Any, found: Any) -> tuple[Any, Any]:
        shift = _diagonal(right)[..., j][..., None, None]
        return (
            r + shift * bnp.eye(r.shape[-1], dtype=r.dtype),
            _column(f, j) - found @ _column(right, j),
        )

    x = u @ _by_columns(r, bnp.zeros_like(f), equation, reverse=True) @ adjoint(v)
    return _unless_singular(x, _diagonal(r), _diagonal(right), c, tol)


def _by_eigenvectors(a: Any, b: Any, c: Any, tol: float) -> Any:
    (wa, va), (wb, vb) = bnp.linalg.eig(a), bnp.linalg.eig(b)
    f = solve(va, c.astype(va.dtype) @ vb)
    y = f / (wa[..., :, None] + wb[..., None, :])
    return _unless_singular(va @ solve(vb.mT, y.mT).mT, wa, wb, c, tol)


def _unless_singular(x: Any, wa: Any, wb: Any, c: Any, tol: float) -> Any:
    singular = (bnp.abs(wa[..., :, None] + wb[..., None, :]) < tol).any((-2, -1), keepdims=True)
    x = x if dtypes.is_complex(np.dtype(c.dtype)) else x.real
    return bnp.where(singular, math.nan, x).astype(c.dtype)


_SYLVESTER = {"schur": _by_schur, "eigen": _by_eigenvectors}


def solve_sylvester(A: Any, B: Any, C: Any, *, method: str = "schur", tol: float = 1e-8) -> Any:
    """The `X` with `A @ X + X @ B = C`, for (..., m, m), (..., n, n) and (..., m, n).

    By Schur forms (R. H. Bartels and G. W. Stewart, Comm. ACM 15, 1972) or, with
    `method="eigen"`, by eigenvectors. NaN where an eigenvalue of A and one of B add up to less
    than `tol`. Differentiable in all three; on the CPU only.

    Raises:
        ShapeError: shapes that do not fit.

    >>> from bevel.scipy.linalg import solve_sylvester
    >>> solve_sylvester(bnp.eye(2), bnp.eye(2), 2 * bnp.eye(2))
    Array([[1., 0.],
           [0., 1.]], dtype=float32)
    """
    if method not in _SYLVESTER:
        raise ValueError(f"solve_sylvester: method must be 'schur' or 'eigen', got {method!r}")
    (a, b, c), dtype = computable("solve_sylvester", A, B, C)
    check_square("solve_sylvester", "A", a)
    check_square("solve_sylvester", "B", b)
    if c.shape[-2:] != (a.shape[-1], b.shape[-1]):
        raise ShapeError(
            f"solve_sylvester: A {a.shape} and B {b.shape} need a C of shape "
            f"(..., {a.shape[-1]}, {b.shape[-1]}), got {c.shape}"
        )
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2], c.shape[:-2])
    c = bnp.broadcast_to(c, (*lead, *c.shape[-2:]))
    if c.size == 0:
        return back(c, dtype)
    x = custom_linear_solve(
        lambda x: a @ x + x @ b,
        c,
        lambda _, c: _SYLVESTER[method](a, b, c, tol),
        lambda _, c: _SYLVESTER[method](a.mT, b.mT, c, tol),
    )
    return back(x, dtype)
