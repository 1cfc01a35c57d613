"""Factorizations of matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

import bevel.numpy as bnp
from bevel.core import dtypes
from bevel.core.errors import ShapeError
from bevel.lax import linalg as lax_linalg
from bevel.lax.loops import fori_loop
from bevel.scipy.linalg.operands import adjoint, back, check_square, computable, matrix


def cholesky(
    a: Any, lower: bool = False, overwrite_a: bool = False, check_finite: bool = True
) -> Any:
    """Upper triangular `u` with `a = adjoint(u) @ u`, or lower `l` with `a = l @ adjoint(l)`.

    Only that triangle of the Hermitian, positive definite `a` is read; NaN where there is no
    factor.

    >>> from bevel.scipy.linalg import cholesky
    >>> cholesky(bnp.array([[4.0, 2.0], [2.0, 5.0]]))
    Array([[2., 1.],
           [0., 2.]], dtype=float32)
    """
    a, dtype = matrix("cholesky", a, square=True)
    factor = lax_linalg.cholesky(a if lower else adjoint(a), symmetrize_input=False)
    return back(factor if lower else adjoint(factor), dtype)


def svd(
    a: Any,
    full_matrices: bool = True,
    compute_uv: bool = True,
    overwrite_a: bool = False,
    check_finite: bool = True,
    lapack_driver: str = "gesdd",
) -> Any:
    """`a = U @ diag(s) @ Vh` with s descending, as (U, s, Vh); s alone without `compute_uv`.

    >>> from bevel.scipy.linalg import svd
    >>> svd(bnp.diag(bnp.array([3.0, 4.0])), compute_uv=False)
    Array([4., 3.], dtype=float32)
    """
    found = bnp.linalg.svd(a, full_matrices=full_matrices, compute_uv=compute_uv)
    return tuple(found) if compute_uv else found


def eigh(
    a: Any,
    b: Any = None,
    lower: bool = True,
    eigvals_only: bool = False,
    overwrite_a: bool = False,
    overwrite_b: bool = False,
    turbo: bool = True,
    eigvals: None = None,
    type: int = 1,
    check_finite: bool = True,
) -> Any:
    """Eigenvalues, ascending, and eigenvectors (the columns) of Hermitian matrices, taken as the
    mean of themselves and their adjoints.

    With a positive definite `b`, those of `a v = w b v` (`type` 1), `a b v = w v` (2) or
    `b a v = w v` (3), with vectors of `adjoint(v) b v = 1` (`inv(b)` for type 3).

    Raises:
        NotImplementedError: `eigvals` asks for a part of them; cut the result instead.

    >>> from bevel.scipy.linalg import eigh
    >>> eigh(bnp.diag(bnp.array([2.0, 1.0])), eigvals_only=True)
    Array([1., 2.], dtype=float32)
    """
    if eigvals is not None:
        raise NotImplementedError(
            "eigh: eigvals= is not taken; write eigh(a)[0][low:high + 1] for a part of them"
        )
    if type not in (1, 2, 3):
        raise ValueError(f"eigh: type must be 1, 2 or 3, got {type!r}")
    if b is None:
        a, dtype = matrix("eigh", a, square=True)
        v, w = lax_linalg.eigh(a, lower=lower)
        return back(w, dtype) if eigvals_only else (back(w, dtype), back(v, dtype))
    (a, b), dtype = computable("eigh", a, b)
    check_square("eigh", "a", a)
    check_square("eigh", "b", b)
    factor = lax_linalg.cholesky(b)

    def divide(x: Any, adjoint_factor: bool = False) -> Any:
        return lax_linalg.triangular_solve(
            factor,
            x,
            left_side=True,
            lower=True,
            transpose_a=adjoint_factor,
            conjugate_a=adjoint_factor,
        )

    alone = adjoint(divide(adjoint(divide(a)))) if type == 1 else adjoint(factor) @ a @ factor
    v, w = lax_linalg.eigh(alone)
    v = factor @ v if type == 3 else divide(v, True)
    return back(w, dtype) if eigvals_only else (back(w, dtype), back(v, dtype))


def eigh_tridiagonal(
    d: Any,
    e: Any,
    *,
    eigvals_only: bool = False,
    select: str = "a",
    select_range: tuple[int, int] | None = None,
    tol: float | None = None,
    key: Any = None,
) -> Any:
    """Eigenvalues, ascending, and eigenvectors (the columns) of a tridiagonal Hermitian matrix.

    Computed by `eigh` of the whole matrix, and so differentiable, with its cost: `tol` and `key`,
    which JAX's iterations need, change nothing.

    Args:
        d: the diagonal, shape (n,).
        e: the diagonal above it, shape (n - 1,); under it are the conjugates.
        eigvals_only: give no vectors.
        select: "a" for all, "i" for those numbered `select_range[0]` to `select_range[1]`.
        select_range: first and last, both included.
        tol: not used.
        key: not used.

    Raises:
        NotImplementedError: `select="v"`, whose number of results depends on the data.

    >>> from bevel.scipy.linalg import eigh_tridiagonal
    >>> bnp.round(eigh_tridiagonal(bnp.zeros(2), bnp.ones(1), eigvals_only=True))
    Array([-1.,  1.], dtype=float32)
    """
    (d, e), dtype = computable("eigh_tridiagonal", d, e)
    if d.ndim != 1 or e.shape != (max(0, d.shape[0] - 1),):
        raise ShapeError(
            f"eigh_tridiagonal: d and e have shapes {d.shape} and {e.shape}; they must be (n,) and "
            "(n - 1,)"
        )
    first, last = _selected(select, select_range, d.shape[0])
    diagonal = d.real if dtypes.is_complex(np.dtype(d.dtype)) else d
    v, w = lax_linalg.eigh(
        bnp.diag(diagonal.astype(d.dtype)) + bnp.diag(e, 1) + bnp.diag(e.conj(), -1),
        symmetrize_input=False,
    )
    w, v = back(w[first:last], dtype), back(v[:, first:last], dtype)
    return w if eigvals_only else (w, v)


def _selected(select: str, select_range: Any, n: int) -> tuple[int, int]:
    if select == "a":
        return 0, n
    if select == "v":
        raise NotImplementedError(
            "eigh_tridiagonal: select='v' gives as many values as lie in a range, and the shape of "
            "a result cannot depend on the data.\nWrite instead: w = eigh_tridiagonal(d, e, "
            "eigvals_only=True), and a mask"
        )
    if select != "i":
        raise ValueError(f"eigh_tridiagonal: select must be 'a', 'i' or 'v', got {select!r}")
    if select_range is None or not 0 <= select_range[0] <= select_range[1] < n:
        raise ValueError(
            f"eigh_tridiagonal: select='i' needs select_range=(first, last) within 0..{n - 1}, got "
            f"{select_range}"
        )
    return int(select_range[0]), int(select_range[1]) + 1


def lu(
    a: Any, permute_l: bool = False, overwrite_a: bool = False, check_finite: bool = True
) -> tuple[Any, ...]:
    """`a = P @ L @ U` with a permutation, a lower triangle with ones on its diagonal, and an upper
    one; (P @ L, U) if `permute_l`.

    >>> from bevel.scipy.linalg import lu
    >>> p, l, u = lu(bnp.array([[0.0, 1.0], [2.0, 3.0]]))
    >>> u
    Array([[2., 3.],
           [0., 1.]], dtype=float32)
    """
    a, dtype = matrix("lu", a)
    factors, _, order = lax_linalg.lu(a)
    m, n = a.shape[-2:]
    k = min(m, n)
    below = bnp.tril(factors[..., :k], -1) + bnp.eye(m, k, dtype=a.dtype)
    above = back(bnp.triu(factors[..., :k, :]), dtype)
    if permute_l:
        places = bnp.argsort(order, -1)[..., None]
        return back(bnp.take_along_axis(below, places, -2), dtype), above
    permutation = order[..., None, :] == np.arange(m)[:, None]
    real = dtypes.real_dtype(dtype)
    return permutation.astype(real), back(below, dtype), above


# -- QR ------------------------------------------------------------------------------------------


def qr(
    a: Any,
    overwrite_a: bool = False,
    lwork: Any = None,
    mode: str = "full",
    pivoting: bool = False,
    check_finite: bool = True,
) -> tuple[Any, ...]:
    """`a = Q @ R` with orthonormal columns in Q and R upper triangular, as (Q, R).

    Args:
        a: shape (..., m, n).
        overwrite_a: not used.
        lwork: not used.
        mode: "full" (Q is square), "economic", or "r", which gives (R,).
        pivoting: also give the order of columns P (int32) with `a[:, P] = Q @ R`, which makes the
            diagonal of R fall; on the CPU only.
        check_finite: not used.

    >>> from bevel.scipy.linalg import qr
    >>> [x.shape for x in qr(bnp.ones((3, 2)), mode="economic", pivoting=True)]
    [(3, 2), (2, 2), (2,)]
    """
    if mode not in ("full", "economic", "r"):
        raise ValueError(f"qr: mode must be 'full', 'economic' or 'r', got {mode!r}")
    a, dtype = matrix("qr", a)
    q, r, *order = lax_linalg.qr(a, pivoting=pivoting, full_matrices=mode != "economic")
    return (back(r, dtype), *order) if mode == "r" else (back(q, dtype), back(r, dtype), *order)


def qr_multiply(
    a: Any,
    c: Any,
    mode: str = "right",
    pivoting: bool = False,
    conjugate: bool = False,
    overwrite_a: bool = False,
    overwrite_c: bool = False,
) -> tuple[Any, ...]:
    """`c @ Q` (`mode="right"`) or `Q @ c` ("left") for the economic Q of `qr(a)`, and R; with the
    order of columns if `pivoting`.

    `conjugate` takes conj(Q). A vector `c` gives a vector.

    >>> from bevel.scipy.linalg import qr_multiply
    >>> [x.shape for x in qr_multiply(bnp.ones((3, 2)), bnp.ones(3))]
    [(2,), (2, 2)]
    """
    if mode not in ("right", "left"):
        raise ValueError(f"qr_multiply: mode must be 'right' or 'left', got {mode!r}")
    (a, c), dtype = computable("qr_multiply", a, c)
    q, r, *order = lax_linalg.qr(a, pivoting=pivoting, full_matrices=False)
    q = q.conj() if conjugate else q
    right = mode == "right"
    wanted, given = (q.shape[-2], c.shape[-1]) if right else (q.shape[-1], c.shape[-min(c.ndim, 2)])
    if given != wanted:
        raise ShapeError(
            f"qr_multiply: Q has shape {q.shape} and c {c.shape}; "
            f"{'c @ Q needs size' if right else 'Q @ c needs rows'} {wanted} in c, got {given}"
        )
    product = c @ q if right else q @ c
    return (back(product, dtype), back(r, dtype), *order)


def polar(
    a: Any,
    side: str = "right",
    *,
    method: str = "qdwh",
    eps: float | None = None,
    max_iterations: int | None = None,
) -> tuple[Any, Any]:
    """`a = U @ P` (`side="right"`) or `P @ U` ("left") with orthonormal columns or rows in U, and P
    Hermitian with no negative eigenvalue.

    The factors come from the singular value decomposition whatever `method` ("qdwh" or "svd") JAX
    would use, for every shape; `eps` and `max_iterations` change nothing.

    >>> from bevel.scipy.linalg import polar
    >>> u, p = polar(bnp.array([[0.0, 2.0], [-3.0, 0.0]]))
    >>> bnp.round(p)
    Array([[3., 0.],
           [0., 2.]], dtype=float32)
    """
    if side not in ("right", "left"):
        raise ValueError(f"polar: side must be 'right' or 'left', got {side!r}")
    if method not in ("qdwh", "svd"):
        raise ValueError(f"polar: method must be 'qdwh' or 'svd', got {method!r}")
    a, dtype = matrix("polar", a)
    u, s, vh = lax_linalg.svd(a, full_matrices=False)
    s = s.astype(u.dtype)
    if side == "right":
        positive = adjoint(vh) @ (s[..., :, None] * vh)
    else:
        positive = (u * s[..., None, :]) @ adjoint(u)
    return back(u @ vh, dtype), back(positive, dtype)


# -- Hessenberg and Schur forms ------------------------------------------------------------------


def hessenberg(
    a: Any, *, calc_q: bool = False, overwrite_a: bool = False, check_finite: bool = True
) -> Any:
    """`a = Q @ H @ adjoint(Q)` with H zero under its first subdiagonal: H, or (H, Q) with `calc_q`.

    >>> from bevel.scipy.linalg import hessenberg
    >>> h, q = hessenberg(bnp.arange(9.0).reshape(3, 3), calc_q=True)
    >>> float(h[2, 0])
    0.0
    """
    a, dtype = matrix("hessenberg", a, square=True)
    n = a.shape[-1]
    if n == 0:
        return (back(a, dtype), back(a, dtype)) if calc_q else back(a, dtype)
    packed, taus = lax_linalg.hessenberg(a)
    h = back(bnp.triu(packed, -1), dtype)
    if not calc_q:
        return h
    inner = lax_linalg.householder_product(packed[..., 1:, :-1], taus)
    grown = bnp.pad(inner, [(0, 0)] * (a.ndim - 2) + [(1, 0), (1, 0)])
    corner = np.zeros((n, n), np.float32)
    corner[0, 0] = 1
    return h, back(grown + bnp.array(corner, dtype=a.dtype), dtype)


def schur(a: Any, output: str = "real") -> tuple[Any, Any]:
    """`a = Z @ T @ adjoint(Z)`, as (T, Z): Z unitary, T upper triangular, with 2 by 2 blocks on its
    diagonal for the complex eigenvalues of a real `a` unless `output="complex"`.

    >>> from bevel.scipy.linalg import schur
    >>> t, z = schur(bnp.array([[1.0, 2.0], [0.0, 3.0]]))
    >>> t
    Array([[1., 2.],
           [0., 3.]], dtype=float32)
    """
    if output not in ("real", "complex"):
        raise ValueError(f"schur: output must be 'real' or 'complex', got {output!r}")
    a, dtype = matrix("schur", a, square=True)
    if output == "complex":
        dtype = dtypes.complex_dtype(np.dtype(a.dtype))
        a = a.astype(dtype)
    t, z = lax_linalg.schur(a)
    return back(t, dtype), back(z, dtype)


def rsf2csf(T: Any, Z: Any, check_finite: bool = True) -> tuple[Any, Any]:
    """The complex Schur form (T, Z) from the real one: each 2 by 2 block is made triangular by a
    rotation.

    >>> from bevel.scipy.linalg import rsf2csf, schur
    >>> t, z = rsf2csf(*schur(bnp.array([[0.0, 1.0], [-1.0, 0.0]])))
    >>> complex(t[1, 0])
    0j
    """
    (t, z), dtype = computable("rsf2csf", T, Z)
    check_square("rsf2csf", "T", t)
    check_square("rsf2csf", "Z", z)
    if t.shape[-1] != z.shape[-1]:
        raise ShapeError(f"rsf2csf: T and Z have shapes {t.shape} and {z.shape}")
    dtype = dtypes.complex_dtype(np.dtype(t.dtype))
    n, eps = t.shape[-1], float(dtypes.finfo(dtype).eps)
    t, z = t.astype(dtype), z.astype(dtype)
    if n < 2:
        return t, z

    def step(i: Any, state: tuple[Any, Any]) -> tuple[Any, Any]:
        t, z = state
        m = n - 1 - i
        pair = bnp.stack([m - 1, m])
        a, b = (t[..., m - 1, k] for k in (m - 1, m))
        c, d = (t[..., m, k] for k in (m - 1, m))
        half = (a - d) / 2
        mu = half + bnp.sqrt(half * half + b * c)  # an eigenvalue, less d
        r = bnp.sqrt(bnp.abs(mu) ** 2 + bnp.abs(c) ** 2).astype(dtype)
        turn = bnp.abs(c) > eps * (bnp.abs(a) + bnp.abs(d))
        cos = bnp.where(turn, mu / bnp.where(turn, r, 1), 1)
        sin = bnp.where(turn, c / bnp.where(turn, r, 1), 0)
        rows = [bnp.stack([cos.conj(), sin], -1), bnp.stack([-sin, cos], -1)]
        g = bnp.stack(rows, -2)
        t = t.at[..., pair, :].set(g @ t[..., pair, :])
        t = t.at[..., :, pair].set(t[..., :, pair] @ adjoint(g))
        z = z.at[..., :, pair].set(z[..., :, pair] @ adjoint(g))
        return t.at[..., m, m - 1].set(0), z

    return fori_loop(0, n - 1, step, (t, z))
