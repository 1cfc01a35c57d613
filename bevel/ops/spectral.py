"""QR, singular values and eigenvalues, over any leading axes.

Derivatives: Giles 2008, "An extended collection of matrix derivative results"; Townsend's notes
"Differentiating the singular value decomposition" and "Differentiating the QR decomposition". They
are infinite where two of the singular values or eigenvalues that a vector depends on are equal.

The signs of vectors depend on rounding, so references call the LAPACK that compiled programs on the
CPU call, which is SciPy's; NumPy has another.
"""

from __future__ import annotations

import numpy as np

from bevel.core import dtypes
from bevel.core.aval import Aval
from bevel.core.errors import Unsupported as UnsupportedError
from bevel.core.op import Op
from bevel.ops.base import reduce_sum, zeros_like
from bevel.ops.elementwise import abs, add, complex, conj, div, imag, mul, neg, real, sub
from bevel.ops.lapack import (
    NOT_LINEAR,
    char,
    check_matrix,
    each,
    identity,
    info_aval,
    leading_batch,
    native,
    stacked,
    target,
    triangle,
    unless_failed,
)
from bevel.ops.linalg import block, grow, lu, lu_solve, triangular_solve
from bevel.ops.logic import convert, eq, select
from bevel.ops.matrix import (
    adjoint,
    along_columns,
    along_rows,
    diagonal,
    diagonal_mask,
    eye_like,
    flip,
    from_triangle,
    imaginary_diagonal,
    matmul,
    reciprocal,
    reciprocal_gaps,
    scale,
    tril,
)
from bevel.ops.reductions import argmax
from bevel.ops.shape import concatenate, iota

# -- qr ------------------------------------------------------------------------------------------


def _qr_abstract(x: Aval, *, full_matrices=True) -> tuple[Aval, Aval]:
    check_matrix("qr", x, square=False)
    *lead, m, n = x.shape
    k = m if full_matrices else min(m, n)
    return Aval((*lead, m, k), x.dtype), Aval((*lead, k, n), x.dtype)


def _qr_reference(x, *, full_matrices=True):
    outs = _qr_abstract(Aval(x.shape, x.dtype), full_matrices=full_matrices)
    if not x.size:
        q = np.broadcast_to(np.eye(*outs[0].shape[-2:], dtype=x.dtype), outs[0].shape)
        return q, np.zeros(outs[1].shape, x.dtype)
    return stacked(lambda m: np.linalg.qr(m, "complete" if full_matrices else "reduced"), x, outs)


def _qr_lower(b, x, *, full_matrices=True):
    q_out, r_out = b.outs
    if not x.aval.size:
        return b.convert(identity(b, q_out), q_out.dtype), b.full(0, r_out)
    *lead, m, n = x.aval.shape
    k, dtype = min(m, n), x.aval.dtype
    packed, taus = native(
        b, target(b, "geqrf", "geqrf", dtype), [x], [x.aval, Aval((*lead, k), dtype)], {0: 0}
    )
    zero = (0,) * (len(lead) + 1)
    q = packed
    if m < n:
        q = b.slice(q, (*zero, 0), (*lead, m, m))
    elif q_out.shape[-1] > n:
        q = b.pad(q, b.full(0, Aval((), dtype)), (*zero, 0), (*zero, m - n))
    product = "ungqr" if dtypes.is_complex(dtype) else "orgqr"
    (q,) = native(b, target(b, product, "orgqr", dtype), [q, taus], [q_out], {0: 0})
    r = b.slice(packed, (*zero, 0), (*lead, r_out.shape[-2], n))
    return q, triangle(b, r, "LE")


def _thin_qr_jvp(q, r, t):
    """Tangents of q (m x n) and r (n x n), for m >= n."""
    t_rinv = triangular_solve(r, t, left_side=False, lower=False)
    inner = matmul(adjoint(q), t_rinv)
    below = tril(inner, -1)
    turn = sub(below, adjoint(below))
    if dtypes.is_complex(inner.dtype):
        turn = add(turn, imaginary_diagonal(inner))
    return add(matmul(q, sub(turn, inner)), t_rinv), matmul(sub(inner, turn), r)


def _full_qr_jvp(q, dq, r, dr, m: int, n: int):
    """Complete the tangents of the first n columns of q (arXiv:2409.13374, eq. 32 and 33)."""
    q_n, q_rest = block(q, (0, m), (0, n)), block(q, (0, m), (n, m))
    top, bottom = block(q_n, (0, n), (0, n)), block(q_n, (n, m), (0, n))
    dtop, dbottom = block(dq, (0, n), (0, n)), block(dq, (n, m), (0, n))
    factors, _, order = lu(sub(top, eye_like(top)))
    z_adjoint = lu_solve(factors, order, adjoint(bottom), adjoint_a=True)
    z = adjoint(z_adjoint)
    moved = adjoint(sub(dbottom, matmul(z, dtop)))
    rest = sub(matmul(dq, z_adjoint), matmul(add(q_n, matmul(q_rest, z)), moved))
    return concatenate(dq, rest, axis=len(q.shape) - 1), grow(dr, m - n, 0)


def _qr_jvp(ctx, primals, tangents, *, full_matrices=True):
    (x,), (t,) = primals, tangents
    q, r = qr(x, full_matrices=full_matrices)
    m, n = x.shape[-2:]
    if m < n:
        dq, dr = _thin_qr_jvp(q, block(r, (0, m), (0, m)), block(t, (0, m), (0, m)))
        rest = add(
            matmul(adjoint(dq), block(x, (0, m), (m, n))),
            matmul(adjoint(q), block(t, (0, m), (m, n))),
        )
        return (q, r), (dq, concatenate(dr, rest, axis=len(r.shape) - 1))
    dq, dr = _thin_qr_jvp(block(q, (0, m), (0, n)), block(r, (0, n), (0, n)), t)
    if full_matrices and m > n:
        dq, dr = _full_qr_jvp(q, dq, r, dr, m, n)
    return (q, r), (dq, dr)


qr: Op = Op(
    "qr",
    multiple=True,
    abstract=_qr_abstract,
    reference=_qr_reference,
    lower=_qr_lower,
    jvp=_qr_jvp,
    transpose=NOT_LINEAR,
    batch=leading_batch(lambda: qr),
)

# -- svd -----------------------------------------------------------------------------------------


def _svd_abstract(x: Aval, *, full_matrices=True, compute_uv=True) -> tuple[Aval, ...]:
    check_matrix("svd", x, square=False)
    *lead, m, n = x.shape
    k = min(m, n)
    s = Aval((*lead, k), dtypes.real_dtype(x.dtype))
    if not compute_uv:
        return (s,)
    u, v = ((m, m), (n, n)) if full_matrices else ((m, k), (k, n))
    return Aval((*lead, *u), x.dtype), s, Aval((*lead, *v), x.dtype)


def _svd_reference(x, *, full_matrices=True, compute_uv=True):
    outs = _svd_abstract(Aval(x.shape, x.dtype), full_matrices=full_matrices, compute_uv=compute_uv)
    if not x.size and compute_uv:
        u, s, v = outs
        eyes = [np.broadcast_to(np.eye(*a.shape[-2:], dtype=a.dtype), a.shape) for a in (u, v)]
        return eyes[0], np.zeros(s.shape, s.dtype), eyes[1]

    if not x.size:
        return (np.zeros(outs[0].shape, outs[0].dtype),)
    from scipy.linalg import svd as decompose

    def parts(m):
        found = decompose(m, full_matrices, compute_uv, check_finite=False)
        return found if compute_uv else (found,)

    return each(parts, x, outs)


def _svd_lower(b, x, *, full_matrices=True, compute_uv=True):
    outs = b.outs
    if not x.aval.size:
        return (
            [b.full(0, outs[0])]
            if not compute_uv
            else [identity(b, outs[0]), b.full(0, outs[1]), identity(b, outs[2])]
        )
    u, s, v = _svd_abstract(x.aval, full_matrices=full_matrices, compute_uv=True)
    if b.platform == "cpu":
        mode = char(("A" if full_matrices else "S") if compute_uv else "N")
        parts = native(
            b,
            target(b, "gesdd", "", x.aval.dtype),
            [x],
            [x.aval, s, u, v, info_aval(x)],
            {0: 0},
            mode=mode,
        )
        _, s, u, v, info = parts
    else:
        s, u, v, info = _svd_lower_cuda(b, x, full_matrices, compute_uv)
    return unless_failed(b, info, [u, s, v] if compute_uv else [s])


def _svd_lower_cuda(b, x, full_matrices: bool, compute_uv: bool):
    """By gesvd, which wants at least as many rows as columns: a wide matrix goes transposed."""
    *lead, m, n = x.aval.shape
    u, s, v = _svd_abstract(x.aval, full_matrices=full_matrices, compute_uv=True)
    flags = dict(full_matrices=full_matrices, compute_uv=compute_uv)
    if not compute_uv:
        u = v = Aval((), x.aval.dtype)
    if m >= n:
        outs = [x.aval, s, u, v, info_aval(x)]
        _, s, u, v, info = native(
            b, "cusolver_gesvd_ffi", [x], outs, {0: 0}, transposed=False, **flags
        )
    else:
        outs = [x.aval, s, v, u, info_aval(x)]
        attrs = dict(transposed=True, **flags)
        _, s, v, u, info = b.custom_call(
            "cusolver_gesvd_ffi", [x], outs, attrs, output_operand_aliases={0: 0}
        )
    return s, u, v, info


def _svd_jvp(ctx, primals, tangents, *, full_matrices=True, compute_uv=True):
    (x,), (t,) = primals, tangents
    m, n = x.shape[-2:]
    if compute_uv and full_matrices and m != n:
        raise UnsupportedError(
            "svd has no derivative with full_matrices=True of a matrix that is not square: the "
            "extra vectors are not "
            "determined by it.\nWrite instead: svd(x, full_matrices=False)"
        )
    u, s, vh = svd(x, full_matrices=False, compute_uv=True)
    uh, v = adjoint(u), adjoint(vh)
    inner = matmul(matmul(uh, t), v)
    ds = diagonal(real(inner) if dtypes.is_complex(x.dtype) else inner)
    if not compute_uv:
        return (s,), (ds,)
    gaps = convert(_squared_gaps(s), dtype=x.dtype)
    columns = convert(along_rows(s, inner.shape), dtype=x.dtype)
    lines = convert(along_columns(s, inner.shape), dtype=x.dtype)
    right, left = mul(columns, inner), mul(lines, inner)
    no_s = convert(eq(s, zeros_like(s)), dtype=s.dtype)
    s_inverse = sub(reciprocal(add(s, no_s)), no_s)
    turn = scale(sub(inner, adjoint(inner)), 0.5)
    turn = mul(turn, convert(along_columns(s_inverse, inner.shape), dtype=x.dtype))
    turn = select(diagonal_mask(turn), turn, zeros_like(turn))
    du = matmul(u, add(mul(gaps, add(right, adjoint(right))), turn))
    dv = matmul(v, mul(gaps, add(left, adjoint(left))))
    if m > n:
        moved = matmul(t, v)
        rest = sub(moved, matmul(u, matmul(uh, moved)))
        du = add(du, div(rest, convert(along_rows(s, rest.shape), dtype=x.dtype)))
    if n > m:
        moved = matmul(adjoint(t), u)
        rest = sub(moved, matmul(v, matmul(vh, moved)))
        dv = add(dv, div(rest, convert(along_rows(s, rest.shape), dtype=x.dtype)))
    return (u, s, vh), (du, ds, adjoint(dv))


def _squared_gaps(s):
    """`1 / (s[j]**2 - s[i]**2)` off the diagonal, zero on it; products do not cancel."""
    shape = (*s.shape, s.shape[-1])
    columns, lines = along_rows(s, shape), along_columns(s, shape)
    gaps = mul(add(columns, lines), sub(columns, lines))
    one = eye_like(gaps)
    return sub(reciprocal(add(gaps, one)), one)


svd: Op = Op(
    "svd",
    multiple=True,
    abstract=_svd_abstract,
    reference=_svd_reference,
    lower=_svd_lower,
    jvp=_svd_jvp,
    transpose=NOT_LINEAR,
    batch=leading_batch(lambda: svd),
)

# -- eigh ----------------------------------------------------------------------------------------


def _eigh_abstract(x: Aval, *, lower=True) -> tuple[Aval, Aval]:
    check_matrix("eigh", x)
    return Aval(x.shape[:-1], dtypes.real_dtype(x.dtype)), x


def _eigh_reference(x, *, lower=True):
    outs = _eigh_abstract(Aval(x.shape, x.dtype))
    if not x.size:
        return tuple([np.zeros(o.shape, o.dtype) for o in outs])
    from scipy.linalg import eigh as decompose

    return each(lambda m: decompose(m, lower=lower, driver="evd", check_finite=False), x, outs)


def _eigh_lower(b, x, *, lower=True):
    values, vectors = b.outs
    if not x.aval.size:
        return b.full(0, values), x
    if b.platform == "cpu":
        attrs = dict(mode=char("V"), uplo=char("L" if lower else "U"))
    else:
        attrs = dict(lower=lower, algorithm=np.uint8(0))
    solver = "heevd" if dtypes.is_complex(x.aval.dtype) else "syevd"
    name = target(b, solver, "syevd", x.aval.dtype)
    v, w, info = native(b, name, [x], [vectors, values, info_aval(x)], {0: 0}, **attrs)
    return unless_failed(b, info, [w, v])


def _eigh_jvp(ctx, primals, tangents, *, lower=True):
    (x,), (t,) = primals, tangents
    w, v = eigh(x, lower=lower)
    inner = matmul(matmul(adjoint(v), from_triangle(t, lower)), v)
    dw = diagonal(real(inner) if dtypes.is_complex(x.dtype) else inner)
    return (w, v), (dw, matmul(v, mul(reciprocal_gaps(w, x.dtype), inner)))


eigh: Op = Op(
    "eigh",
    multiple=True,
    abstract=_eigh_abstract,
    reference=_eigh_reference,
    lower=_eigh_lower,
    jvp=_eigh_jvp,
    transpose=NOT_LINEAR,
    batch=leading_batch(lambda: eigh),
)

# -- eig -----------------------------------------------------------------------------------------


def _eig_abstract(
    x: Aval, *, left=False, right=True, enable_eigvec_derivs=False
) -> tuple[Aval, ...]:
    check_matrix("eig", x)
    dtype = dtypes.complex_dtype(x.dtype)
    return Aval(x.shape[:-1], dtype), *[Aval(x.shape, dtype)] * (left + right)


def _eig_reference(x, *, left=False, right=True, enable_eigvec_derivs=False):
    outs = _eig_abstract(Aval(x.shape, x.dtype), left=left, right=right)
    if not x.size:
        return tuple([np.zeros(o.shape, o.dtype) for o in outs])
    from scipy.linalg import eig as decompose

    def parts(m):
        found = decompose(m, left=left, right=right)
        return found if left or right else (found,)

    return each(parts, x, outs)


def _eig_lower(b, x, *, left=False, right=True, enable_eigvec_derivs=False):
    outs = b.outs
    if b.platform != "cpu":
        raise UnsupportedError(
            "eig cannot be compiled for a GPU: cuSOLVER has it only in its newest "
            "versions.\nWrite instead: compute it on "
            "the CPU, with jit(f, backend='cpu'), or use eigh if the matrix is symmetric"
        )
    if not x.aval.size:
        return [b.full(0, o) for o in outs]
    vectors = Aval(x.aval.shape, outs[0].dtype)
    values = Aval(x.aval.shape[:-1], x.aval.dtype)
    parts = 1 if dtypes.is_complex(x.aval.dtype) else 2
    found = native(
        b,
        target(b, "geev", "", x.aval.dtype),
        [x],
        [*[values] * parts, vectors, vectors, info_aval(x)],
        compute_left=char("V" if left else "N"),
        compute_right=char("V" if right else "N"),
    )
    *w, vl, vr, info = found
    w = b.complex(*w) if parts == 2 else w[0]
    return unless_failed(b, info, [w, *[vl] * left, *[vr] * right])


def _solve(a, b):
    factors, _, order = lu(a)
    return lu_solve(factors, order, b)


def _vectors_jvp(w, v, t):
    """Tangents of eigenvalues and vectors, through LAPACK's choice of each vector's complex factor.

    Its norm is 1 and its largest component is real.
    """
    inner = matmul(_solve(v, t), v)
    free = matmul(v, mul(reciprocal_gaps(w, w.dtype), inner))
    rows = len(v.shape) - 2
    largest = argmax(abs(v), axis=rows, index_dtype=dtypes.int32)
    places = iota(shape=tuple(v.shape), dtype=dtypes.int32, axis=rows)
    at_largest = eq(places, along_rows(largest, v.shape))

    def largest_of(x):
        return reduce_sum(select(at_largest, x, zeros_like(x)), axes=(rows,))

    shrink = neg(real(reduce_sum(mul(conj(v), free), axes=(rows,))))
    turn = neg(div(imag(largest_of(free)), real(largest_of(v))))
    factor = along_rows(complex(shrink, turn), v.shape)
    return diagonal(inner), add(free, mul(v, factor))


def _eig_jvp(ctx, primals, tangents, *, left=False, right=True, enable_eigvec_derivs=False):
    if (left or right) and not enable_eigvec_derivs:
        raise UnsupportedError(
            "the eigenvectors of a general matrix are fixed only up to a complex factor, and "
            "LAPACK's "
            "choice of it is smooth only while their largest component stays the same one.\n"
            "Write instead: eigvals(x), or eigh(x) if the matrix is symmetric, or accept that with "
            "enable_eigvec_derivs=True"
        )
    (x,), (t,) = primals, tangents
    found = eig(x, left=left, right=True, enable_eigvec_derivs=True)
    w, v = found[0], found[-1]
    t = convert(t, dtype=v.dtype)
    if not (left or right):
        return (w,), (reduce_sum(mul(_solve(v, t), flip(v)), axes=(len(v.shape) - 1,)),)
    dw, dv = _vectors_jvp(w, v, t)
    outs, touts = [w], [dw]
    if left:
        outs.append(found[1])
        touts.append(_vectors_jvp(conj(w), found[1], adjoint(t))[1])
    if right:
        outs.append(v)
        touts.append(dv)
    return tuple(outs), tuple(touts)


eig: Op = Op(
    "eig",
    multiple=True,
    abstract=_eig_abstract,
    reference=_eig_reference,
    lower=_eig_lower,
    jvp=_eig_jvp,
    transpose=NOT_LINEAR,
    batch=leading_batch(lambda: eig),
)
