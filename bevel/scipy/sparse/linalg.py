"""Iterative solvers for `A(x) = b`, from products with A alone.

A is a square matrix, a linear function, or anything with `@`; for a function, `b` and `x` may be
pytrees. Derivatives are those of the solution, by the implicit function theorem, and not of the
iterations: each is one more solve of the same kind, or with the transpose of A, and is as accurate
as that one.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

import bevel.numpy as bnp
from bevel.api.derivatives import linear_transpose
from bevel.core import dtypes, tree
from bevel.core.errors import ShapeError, Unsupported
from bevel.core.handle import wrap
from bevel.lax import linalg as lax_linalg
from bevel.lax.loops import while_loop
from bevel.lax.solves import custom_linear_solve
from bevel.numpy.arguments import inexact, number
from bevel.scipy.operands import at_least_single, inexacts, one_of

_product = functools.partial(bnp.matmul, precision="highest")


def _square(x: Any) -> Any:
    """The squared length of a vector, real."""
    return (x.real * x.real).sum() + ((x.imag * x.imag).sum() if bnp.iscomplexobj(x) else 0)


def _inner(x: Any, y: Any) -> Any:
    return _product(x.conj(), y)


class _Vectors:
    """Pytrees of the structure and shapes of one of them, as vectors of one dtype, and back."""

    def __init__(self, like: Any) -> None:
        leaves, self.treedef = tree.flatten(like)
        self.shapes = [v.shape for v in leaves]
        self.dtypes = [np.dtype(v.dtype) for v in leaves]
        self.ends = np.cumsum([math.prod(s) for s in self.shapes]).tolist()
        self.size = self.ends[-1] if leaves else 0
        self.dtype = at_least_single(bnp.result_type(*self.dtypes))

    def ravel(self, x: Any) -> Any:
        leaves = [v.reshape(-1).astype(self.dtype) for v in tree.leaves(x)]
        return leaves[0] if len(leaves) == 1 else bnp.concatenate(leaves)

    def unravel(self, x: Any) -> Any:
        parts = bnp.split(x, self.ends[:-1]) if len(self.ends) > 1 else [x]
        return tree.unflatten(
            self.treedef,
            [
                p.reshape(shape).astype(dtype)
                for p, shape, dtype in zip(parts, self.shapes, self.dtypes, strict=True)
            ],
        )

    def function(self, fn: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
        """A function of pytrees as one of vectors; None is the identity."""
        return (lambda x: x) if fn is None else lambda x: self.ravel(fn(self.unravel(x)))


def _operator(name: str, what: str, fn: Any) -> Callable[[Any], Any]:
    """The function of vectors that a matrix stands for."""
    if callable(fn):
        return fn
    if not hasattr(fn, "__matmul__"):
        raise TypeError(f"{name}: {what} must be a matrix or a function, got {type(fn).__name__}")
    shape = tuple(getattr(fn, "shape", ()))
    if shape and (len(shape) != 2 or shape[0] != shape[1]):
        raise ShapeError(f"{name}: {what} has shape {shape}, and it must be a square matrix")
    is_array = isinstance(fn, np.ndarray | bnp.Array)
    return functools.partial(_product if is_array else operator.matmul, fn)


def _transposed(fn: Callable[[Any], Any] | None, like: Any) -> Callable[[Any], Any] | None:
    """The transpose of a preconditioner; itself where it has none, which only costs iterations."""
    if fn is None:
        return None
    try:
        back = linear_transpose(fn, like)
        back(like)
    except Unsupported:
        return fn
    return lambda x: back(x)[0]


def _solved(
    name: str, method: Callable, A: Any, b: Any, x0: Any, tol: Any, atol: Any, maxiter: Any, M: Any
) -> tuple[Any, Any]:
    """Solve with `method(A, b, x0, M, limit, most)`, where A and M are functions of vectors, which
    gives x, the squared length of the residual, and the number of iterations.
    """
    if isinstance(A, np.ndarray | bnp.Array):
        A, b = inexacts(name, A, b)
    b = tree.map(lambda v: wrap(inexact(number(name, v))), b)
    x0 = tree.map(bnp.zeros_like, b) if x0 is None else x0
    vectors = _Vectors(b)
    if tree.structure(x0) != tree.structure(b):
        raise TypeError(
            f"{name}: x0 has the structure {tree.structure(x0)}, and b {tree.structure(b)}"
        )
    shapes = [bnp.shape(v) for v in tree.leaves(x0)]
    if shapes != vectors.shapes:
        raise ShapeError(f"{name}: the arrays of x0 have shapes {shapes}, and b {vectors.shapes}")
    A, M = _operator(name, "A", A), None if M is None else _operator(name, "M", M)
    most = 10 * vectors.size if maxiter is None else maxiter

    def solver(start: Any, M: Any) -> Callable[[Callable, Any], tuple[Any, Any]]:
        start = vectors.ravel(tree.map(lambda v: bnp.asarray(v), start))

        def solve(A: Callable, b: Any) -> tuple[Any, Any]:
            b = vectors.ravel(b)
            limit = bnp.maximum(tol * bnp.sqrt(_square(b)), atol)
            x, left, count = method(vectors.function(A), b, start, vectors.function(M), limit, most)
            failed = bnp.where(bnp.isnan(left), -1, bnp.maximum(count, 1))
            info = bnp.where(left <= limit * limit, 0, failed).astype(np.int32)
            return vectors.unravel(x), info

        return solve

    zeros = tree.map(bnp.zeros_like, b)
    back = solver(zeros, _transposed(M, zeros))
    return custom_linear_solve(A, b, solver(x0, M), back, has_aux=True)


def _cg(A: Callable, b: Any, x: Any, M: Callable, limit: Any, most: Any) -> tuple[Any, ...]:
    def go_on(state: Any) -> Any:
        _, r, *_, k = state
        return (_square(r) > limit * limit) & (k < most)

    def step(state: Any) -> Any:
        x, r, p, gamma, k = state
        ap = A(p)
        alpha = gamma / _inner(p, ap).real
        x, r = x + alpha * p, r - alpha * ap
        z = M(r)
        after = _inner(r, z).real
        return x, r, z + (after / gamma) * p, after, k + 1

    r = b - A(x)
    z = M(r)
    x, r, _, _, k = while_loop(go_on, step, (x, r, z, _inner(r, z).real, 0))
    return x, _square(r), k


def cg(
    A: Any,
    b: Any,
    x0: Any = None,
    *,
    tol: Any = 1e-5,
    atol: Any = 0.0,
    maxiter: Any = None,
    M: Any = None,
) -> tuple[Any, Any]:
    """Solve `A(x) = b` by conjugate gradients (M. Hestenes and E. Stiefel, J. Res. Nat. Bur. Stand.
    49, 1952), for a Hermitian, positive definite A.

    Args:
        A: a square matrix, or a linear function of pytrees like `b`.
        b: an array, or a pytree of arrays.
        x0: a first guess, like `b` (None: zeros).
        tol: iterate until the residual is at most `tol * norm(b)`,
        atol: or at most this.
        maxiter: iterations at most (None: 10 times the size of `b`).
        M: a matrix or function like A that is near its inverse.

    Returns:
        x, and int32 `info`: 0 if it converged, otherwise the number of iterations, -1 for NaN.

    Raises:
        ShapeError: a matrix is not square, or `x0` has not the shapes of `b`.
        TypeError: A is neither a matrix nor a function.

    >>> from bevel.scipy.sparse.linalg import cg
    >>> x, info = cg(bnp.array([[2.0, 0.0], [0.0, 4.0]]), bnp.array([2.0, 8.0]))
    >>> bnp.round(x), int(info)
    (Array([1., 2.], dtype=float32), 0)
    """
    return _solved("cg", _cg, A, b, x0, tol, atol, maxiter, M)


def _bicgstab(A: Callable, b: Any, x: Any, M: Callable, limit: Any, most: Any) -> tuple[Any, ...]:
    def go_on(state: Any) -> Any:
        _, r, *_, broken, k = state
        return (_square(r) > limit * limit) & (k < most) & ~broken

    def step(state: Any) -> Any:
        x, r, p, v, rho, alpha, omega, _, k = state
        before, rho = rho, _inner(shadow, r)
        p = r + (rho / before) * (alpha / omega) * (p - omega * v)
        p_hat = M(p)
        v = A(p_hat)
        alpha = rho / _inner(shadow, v)
        s = r - alpha * v
        early = _square(s) <= limit * limit
        s_hat = M(s)
        t = A(s_hat)
        omega = bnp.where(early, 0, _inner(t, s) / _inner(t, t))
        x, r = x + alpha * p_hat + omega * s_hat, s - omega * t
        return x, r, p, v, rho, alpha, omega, (rho == 0) | (omega == 0) | (alpha == 0), k + 1

    shadow = r = b - A(x)
    one, zero = bnp.ones((), dtype=b.dtype), bnp.zeros_like(b)
    x, r, *_, k = while_loop(go_on, step, (x, r, zero, zero, one, one, one, False, 0))
    return x, _square(r), k


def bicgstab(
    A: Any,
    b: Any,
    x0: Any = None,
    *,
    tol: Any = 1e-5,
    atol: Any = 0.0,
    maxiter: Any = None,
    M: Any = None,
) -> tuple[Any, Any]:
    """Solve `A(x) = b` by stabilized biconjugate gradients (H. van der Vorst, SIAM J. Sci. Stat.
    Comput. 13, 1992), for any A.

    Arguments and results are those of `cg`.

    >>> from bevel.scipy.sparse.linalg import bicgstab
    >>> x, info = bicgstab(lambda v: 2 * v, bnp.array([2.0, 8.0]))
    >>> bnp.round(x), int(info)
    (Array([1., 4.], dtype=float32), 0)
    """
    return _solved("bicgstab", _bicgstab, A, b, x0, tol, atol, maxiter, M)


# -- GMRES ---------------------------------------------------------------------------------------


def _orthogonal_part(basis: Any, w: Any) -> tuple[Any, Any]:
    """What of a vector is orthogonal to all rows of a basis, and its products with them; done
    twice, which is enough.
    """
    products = 0
    for _ in range(2):
        found = _product(basis.conj(), w)
        w, products = w - _product(found, basis), products + found
    return w, products


def _rotation(a: Any, b: Any) -> Any:
    """A unitary matrix that takes the vector (a, b), with a real b, to (r, 0)."""
    r = bnp.sqrt((a * a.conj()).real + b * b)
    r = bnp.where(r == 0, 1, r)
    b = b.astype(a.dtype)
    rows = bnp.stack([bnp.stack([a.conj(), b]), bnp.stack([-b, a])]) / r
    return bnp.where((a == 0) & (b == 0), bnp.eye(2, dtype=a.dtype), rows)


def _cycle(matvec: Callable, residual: Any, restart: int, limit: Any, incremental: bool) -> Any:
    """The combination of Krylov vectors with the least residual.

    Row k of `columns` is column k of the Hessenberg matrix, turned by `turns` into a triangular
    one if `incremental`, which tells after each product what residual is left.
    """
    dtype, eps = residual.dtype, float(dtypes.finfo(np.dtype(residual.dtype)).eps)
    length = bnp.sqrt(_square(residual))

    def go_on(state: Any) -> Any:
        *_, left, k = state
        return (k < restart) & (left > limit)

    def step(state: Any) -> Any:
        basis, columns, turns, _, k = state
        w = matvec(basis[k])
        whole = bnp.sqrt(_square(w))
        w, column = _orthogonal_part(basis, w)
        rest = bnp.sqrt(_square(w))
        ended = ~(rest > eps * whole)
        rest = bnp.where(ended, 0, rest)
        basis = basis.at[k + 1].set(bnp.where(ended, 0, w / bnp.where(ended, 1, rest)))
        column = column.at[k + 1].set(rest.astype(dtype))
        left = bnp.where(ended, 0, bnp.full_like(length, math.inf))
        if incremental:
            column = _product(turns, column)
            pair = bnp.stack([k, k + 1])
            rotation = _rotation(column[k], rest)
            column = column.at[pair].set(_product(rotation, column[pair]))
            turns = turns.at[pair].set(_product(rotation, turns[pair]))
            left = length * abs(turns[k + 1, 0])
        return basis, columns.at[k].set(column), turns, left, k + 1

    unit = residual / bnp.where(length == 0, 1, length)
    basis = bnp.zeros((restart + 1, unit.shape[0]), dtype=dtype).at[0].set(unit)
    columns = bnp.eye(restart, restart + 1, dtype=dtype)  # not singular after an early end
    start = (basis, columns, bnp.eye(restart + 1, dtype=dtype), length, 0)
    basis, columns, turns, _, k = while_loop(go_on, step, start)
    hessenberg, right = columns.mT, turns[:, :1] * length
    if not incremental:
        q, hessenberg = lax_linalg.qr(hessenberg, full_matrices=False)
        right = q[:1].conj().mT * length
    right = bnp.where(np.arange(restart)[:, None] < k, right[:restart], 0)
    y = lax_linalg.triangular_solve(hessenberg[:restart], right, left_side=True)
    return _product(y[:, 0], basis[:restart])


def gmres(
    A: Any,
    b: Any,
    x0: Any = None,
    *,
    tol: Any = 1e-5,
    atol: Any = 0.0,
    restart: int = 20,
    maxiter: Any = None,
    M: Any = None,
    solve_method: str = "batched",
) -> tuple[Any, Any]:
    """Solve `A(x) = b` for any A by generalized minimal residuals (Y. Saad and M. Schultz, SIAM J.
    Sci. Stat. Comput. 7, 1986).

    Args:
        A: a square matrix, or a linear function of pytrees like `b`.
        b: an array, or a pytree of arrays.
        x0: a first guess, like `b` (None: zeros).
        tol: iterate until the residual is at most `tol * norm(b)`,
        atol: or at most this.
        restart: products with A before the solution is brought up to date; as many vectors of the
            size of `b` are held.
        maxiter: restarts at most (None: 10 times the size of `b`).
        M: a matrix or function like A that is near its inverse.
        solve_method: "batched" looks at the residual at restarts only, "incremental" after each
            product.

    Returns:
        x, and int32 `info`: 0 if it converged, otherwise the number of restarts, -1 for NaN.

    >>> from bevel.scipy.sparse.linalg import gmres
    >>> x, info = gmres(bnp.array([[0.0, 2.0], [1.0, 0.0]]), bnp.array([2.0, 3.0]))
    >>> bnp.round(x), int(info)
    (Array([3., 1.], dtype=float32), 0)
    """
    one_of("gmres", "solve_method", solve_method, ("batched", "incremental"))

    def method(A: Callable, b: Any, x: Any, M: Callable, limit: Any, most: Any) -> tuple[Any, ...]:
        size = bnp.sqrt(_square(b))
        share = bnp.minimum(1.0, limit / bnp.where(size == 0, 1, size))
        inner = bnp.sqrt(_square(M(b))) * share  # the limit for what M makes of the residual

        def go_on(state: Any) -> Any:
            _, r, k = state
            return (_square(r) > limit * limit) & (k < most)

        def step(state: Any) -> Any:
            x, r, k = state
            steps = min(restart, b.shape[0])
            moved = _cycle(lambda v: M(A(v)), M(r), steps, inner, solve_method == "incremental")
            x = x + moved
            return x, b - A(x), k + 1

        x, r, k = while_loop(go_on, step, (x, b - A(x), 0))
        return x, _square(r), k

    return _solved("gmres", method, A, b, x0, tol, atol, maxiter, M)
