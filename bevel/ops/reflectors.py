"""Householder reflectors, and the reductions that LAPACK keeps in them: to triangular (QR, with
pivots too), Hessenberg and tridiagonal form; and the Schur form, which starts from Hessenberg's.

Reflector i is `I - tau[i] * v @ adjoint(v)`, where v is 1 at row i, 0 above it, and below it the
column i of the matrix. Golub and Van Loan, "Matrix Computations", chapters 5, 7 and 8.
"""

from __future__ import annotations

import numpy as np

from bevel.core import dtypes
from bevel.core.aval import Aval, aval_of
from bevel.core.errors import Unsupported as UnsupportedError
from bevel.core.op import Op, Unsupported, is_undefined
from bevel.ops.base import zeros_like
from bevel.ops.elementwise import add, conj, mul, neg
from bevel.ops.lapack import (
    INT32,
    NOT_LINEAR,
    char,
    check_matrix,
    cpu_only,
    each,
    each_of,
    identity,
    info_aval,
    leading_batch,
    native,
    same_stack,
    target,
    triangle,
    unless_failed,
)
from bevel.ops.linalg import block, triangular_solve
from bevel.ops.matrix import adjoint, along_columns, along_rows, eye_like, matmul, tril, triu
from bevel.ops.sorting import take_along
from bevel.ops.spectral import qr

_PACKED = Unsupported(
    "reflectors are packed as LAPACK chooses them, and no rule for their derivative is published; "
    "differentiate qr, eigh or a product with the matrix instead"
)


def _routine(name: str, dtype: np.dtype):
    from scipy.linalg.lapack import get_lapack_funcs

    return get_lapack_funcs((name,), dtype=dtype)[0]


def _unitary(orthogonal: str, unitary: str, dtype: np.dtype) -> str:
    return unitary if dtypes.is_complex(dtype) else orthogonal


def _empty(outs):
    return tuple([np.zeros(o.shape, o.dtype) for o in outs])


# -- packed QR -----------------------------------------------------------------------------------


def _geqrf_abstract(x: Aval) -> tuple[Aval, Aval]:
    check_matrix("geqrf", x, square=False)
    return x, Aval((*x.shape[:-2], min(x.shape[-2:])), x.dtype)


def _geqrf_reference(x):
    outs = _geqrf_abstract(Aval(x.shape, x.dtype))
    if not x.size:
        return _empty(outs)
    return each(lambda m: _routine("geqrf", x.dtype)(m)[:2], x, outs)


def _geqrf_lower(b, x):
    if not x.aval.size:
        return x, b.full(0, b.outs[1])
    return native(b, target(b, "geqrf", "geqrf", x.aval.dtype), [x], b.outs, {0: 0})


geqrf: Op = Op(
    "geqrf",
    multiple=True,
    abstract=_geqrf_abstract,
    reference=_geqrf_reference,
    lower=_geqrf_lower,
    jvp=_PACKED,
    transpose=NOT_LINEAR,
    batch=leading_batch(lambda: geqrf),
)

# -- QR with column pivots -----------------------------------------------------------------------


def _pivoted_abstract(x: Aval, *, full_matrices=True) -> tuple[Aval, Aval, Aval]:
    check_matrix("pivoted_qr", x, square=False)
    *lead, m, n = x.shape
    k = m if full_matrices else min(m, n)
    q, r = Aval((*lead, m, k), x.dtype), Aval((*lead, k, n), x.dtype)
    return q, r, Aval((*lead, n), INT32)


def _pivoted_reference(x, *, full_matrices=True):
    outs = _pivoted_abstract(Aval(x.shape, x.dtype), full_matrices=full_matrices)
    if not x.size:
        q = np.broadcast_to(np.eye(*outs[0].shape[-2:], dtype=x.dtype), outs[0].shape)
        places = np.broadcast_to(np.arange(x.shape[-1], dtype=INT32), outs[2].shape)
        return q, np.zeros(outs[1].shape, x.dtype), places
    from scipy.linalg import qr as decompose

    mode = "full" if full_matrices else "economic"
    return each(lambda m: decompose(m, mode=mode, pivoting=True, check_finite=False), x, outs)


def _pivoted_lower(b, x, *, full_matrices=True):
    cpu_only(b, "pivoted_qr", ", or use qr without pivoting")
    q_out, r_out, p_out = b.outs
    if not x.aval.size:
        places = b.iota(p_out, p_out.ndim - 1)
        return b.convert(identity(b, q_out), q_out.dtype), b.full(0, r_out), places
    *lead, m, n = x.aval.shape
    dtype = x.aval.dtype
    taus_out = Aval((*lead, min(m, n)), dtype)
    packed, order, taus = native(
        b,
        target(b, "geqp3", "", dtype),
        [x, b.full(0, p_out)],
        [x.aval, p_out, taus_out],
        {0: 0, 1: 1},
    )
    zero = (0,) * (len(lead) + 1)
    q = packed
    if m < n:
        q = b.slice(q, (*zero, 0), (*lead, m, m))
    elif q_out.shape[-1] > n:
        q = b.pad(q, b.full(0, Aval((), dtype)), (*zero, 0), (*zero, m - n))
    name = target(b, _unitary("orgqr", "ungqr", dtype), "orgqr", dtype)
    (q,) = native(b, name, [q, taus], [q_out], {0: 0})
    r = b.slice(packed, (*zero, 0), (*lead, r_out.shape[-2], n))
    return q, triangle(b, r, "LE"), b.subtract(order, b.full(1, p_out))


def _pivoted_jvp(ctx, primals, tangents, *, full_matrices=True):
    """The order is locally constant: it is the QR of the columns in that order."""
    (x,), (t,) = primals, tangents
    order = pivoted_qr(x, full_matrices=full_matrices)[2]
    axis = len(x.shape) - 1
    x, t = (take_along(v, along_rows(order, v.shape), axis) for v in (x, t))
    outs, touts = qr.jvp(ctx, (x,), (t,), full_matrices=full_matrices)
    return (*outs, order), (*touts, None)


pivoted_qr: Op = Op(
    "pivoted_qr",
    multiple=True,
    abstract=_pivoted_abstract,
    reference=_pivoted_reference,
    lower=_pivoted_lower,
    jvp=_pivoted_jvp,
    transpose=NOT_LINEAR,
    batch=leading_batch(lambda: pivoted_qr),
)

# -- products of reflectors ----------------------------------------------------------------------


def _sum(*parts):
    """The sum of what is not None."""
    total = None
    for part in parts:
        if part is not None:
            total = part if total is None else add(total, part)
    return total


def _each(fn, *xs):
    """`fn` of operands, None if one of them is: the derivative of a product by a constant."""
    return None if any(x is None for x in xs) else fn(*xs)


def _rows(v, x):
    """Every row of matrices times its number."""
    return mul(along_columns(v, x.shape), x)


def _moved(a, taus, c, tangents, transpose: bool):
    """Tangent of `q @ c`, or of `adjoint(q) @ c`, where q is the product of reflectors.

    Derived from the compact form `q = I - v @ inv(I + d @ u) @ d @ adjoint(v)`, where v holds the
    reflectors, d is the diagonal matrix of taus and u the part of `adjoint(v) @ v` above the
    diagonal (Schreiber and Van Loan 1989, "A storage-efficient WY representation for products of
    Householder transformations"; the inverse is that of Puglisi 1992, without dividing by taus).
    """
    da, dt, dc = tangents
    m, k = a.shape[-2], taus.shape[-1]
    if not k:
        return zeros_like(c) if dc is None else dc

    def columns(x):
        return tril(block(x, (0, m), (0, k)), -1)

    v, dv = columns(a), _each(columns, da)
    v = add(v, eye_like(v))
    vh, dvh = adjoint(v), _each(adjoint, dv)
    u = triu(matmul(vh, v), 1)
    du = _each(lambda x, xh: triu(add(matmul(xh, v), matmul(vh, x)), 1), dv, dvh)
    inner = _rows(taus, u)
    b = add(inner, eye_like(inner))
    db = _sum(_each(_rows, dt, u), _each(_rows, taus, du))
    seen = matmul(vh, c)
    dseen = _sum(_each(matmul, dvh, c), _each(matmul, vh, dc))
    flags = dict(left_side=True, lower=False, transpose_a=transpose, conjugate_a=transpose)

    def solve(y):
        return triangular_solve(b, y, unit_diagonal=True, **flags)

    if transpose:
        ct, dct = conj(taus) if dtypes.is_complex(taus.dtype) else taus, dt
        if dt is not None and dtypes.is_complex(dt.dtype):
            dct = conj(dt)
        inside = solve(seen)
        lost = _each(lambda x: neg(matmul(adjoint(x), inside)), db)
        dinside = _each(solve, _sum(dseen, lost))
        w = _rows(ct, inside)
        dw = _sum(_each(_rows, dct, inside), _each(_rows, ct, dinside))
    else:
        w = solve(_rows(taus, seen))
        lost = _each(lambda x: neg(matmul(x, w)), db)
        dw = _each(solve, _sum(_each(_rows, dt, seen), _each(_rows, taus, dseen), lost))
    out = _sum(dc, _each(lambda x: neg(matmul(x, w)), dv), _each(lambda x: neg(matmul(v, x)), dw))
    return zeros_like(c) if out is None else out


def _product_abstract(a: Aval, taus: Aval) -> Aval:
    same_stack("householder_product", {"a": a, "taus": taus}, (2, 1))
    if not a.shape[-2] >= a.shape[-1] >= taus.shape[-1]:
        raise ValueError(
            f"householder_product: got a {a} and taus {taus}: a must have at least as many rows as "
            "columns, and at least as many columns as there are taus"
        )
    return a


def _product_reference(a, taus):
    out = _product_abstract(aval_of(a), aval_of(taus))
    if not a.size or not taus.size:
        return np.broadcast_to(np.eye(*a.shape[-2:], dtype=a.dtype), a.shape)
    product = _routine(_unitary("orgqr", "ungqr", a.dtype), a.dtype)
    return each_of(lambda m, t: product(m, t)[:1], (a, taus), (2, 1), (out,))[0]


def _product_lower(b, a, taus):
    if not a.aval.size or not taus.aval.size:
        return b.convert(identity(b, a.aval), a.aval.dtype)
    name = target(b, _unitary("orgqr", "ungqr", a.aval.dtype), "orgqr", a.aval.dtype)
    return native(b, name, [a, taus], [a.aval], {0: 0})[0]


def _product_jvp(ctx, primals, tangents):
    a, taus = primals
    return householder_product(a, taus), _moved(a, taus, eye_like(a), (*tangents, None), False)


householder_product: Op = Op(
    "householder_product",
    abstract=_product_abstract,
    reference=_product_reference,
    lower=_product_lower,
    jvp=_product_jvp,
    transpose=NOT_LINEAR,
    batch=leading_batch(lambda: householder_product),
)


def _ormqr_abstract(a: Aval, taus: Aval, c: Aval, *, left=True, transpose=False) -> Aval:
    same_stack("ormqr", {"a": a, "taus": taus, "c": c}, (2, 1, 2))
    m = a.shape[-2]
    if c.shape[-2 if left else -1] != m or taus.shape[-1] > min(a.shape[-2:]):
        raise ValueError(
            f"ormqr: got a {a}, taus {taus} and c {c}: c must have {m} "
            f"{'rows' if left else 'columns'}, as a has rows, and a at least as many rows and "
            "columns as there are taus"
        )
    return c


def _ormqr_reference(a, taus, c, *, left=True, transpose=False):
    out = _ormqr_abstract(aval_of(a), aval_of(taus), aval_of(c), left=left)
    if not c.size or not taus.size:
        return c
    apply = _routine(_unitary("ormqr", "unmqr", a.dtype), a.dtype)
    side = "L" if left else "R"
    trans = _unitary("T", "C", a.dtype) if transpose else "N"
    lwork = 64 * max(c.shape[-2:])
    k = taus.shape[-1]

    def product(m, t, x):
        return apply(side, trans, np.asfortranarray(m[:, :k]), t, x, lwork)[:1]

    return each_of(product, (a, taus, c), (2, 1, 2), (out,))[0]


def _ormqr_lower(b, a, taus, c, *, left=True, transpose=False):
    if not c.aval.size or not taus.aval.size:
        return c
    *lead, m, n = a.aval.shape
    k = taus.aval.shape[-1]
    if k < n:
        a = b.slice(a, (0,) * a.aval.ndim, (*lead, m, k))
    name = target(b, _unitary("ormqr", "unmqr", a.aval.dtype), "ormqr", a.aval.dtype)
    flags = dict(left=bool(left), transpose=bool(transpose))
    return native(b, name, [a, taus, c], [c.aval], {0: 2}, **flags)[0]


def _ormqr_jvp(ctx, primals, tangents, *, left=True, transpose=False):
    a, taus, c = primals
    flags = dict(left=left, transpose=transpose)
    out = ormqr(a, taus, c, **flags)
    if tangents[0] is None and tangents[1] is None:
        return out, ormqr(a, taus, tangents[2], **flags)
    if left:
        return out, _moved(a, taus, c, tangents, transpose)
    *ts, dc = tangents
    ts = [*ts, None if dc is None else adjoint(dc)]
    return out, adjoint(_moved(a, taus, adjoint(c), ts, not transpose))


def _ormqr_transpose(ct, a, taus, c, *, left=True, transpose=False):
    """The transpose of Q is the conjugate of its adjoint."""
    if is_undefined(a) or is_undefined(taus):
        raise UnsupportedError("ormqr is linear in c alone, not in the reflectors")
    if not dtypes.is_complex(ct.dtype):
        return None, None, ormqr(a, taus, ct, left=left, transpose=not transpose)
    return None, None, conj(ormqr(a, taus, conj(ct), left=left, transpose=not transpose))


ormqr: Op = Op(
    "ormqr",
    abstract=_ormqr_abstract,
    reference=_ormqr_reference,
    lower=_ormqr_lower,
    jvp=_ormqr_jvp,
    transpose=_ormqr_transpose,
    batch=leading_batch(lambda: ormqr),
)

# -- hessenberg and schur ------------------------------------------------------------------------


def _hessenberg_abstract(x: Aval) -> tuple[Aval, Aval]:
    check_matrix("hessenberg", x)
    return x, Aval((*x.shape[:-2], max(x.shape[-1] - 1, 0)), x.dtype)


def _hessenberg_reference(x):
    outs = _hessenberg_abstract(Aval(x.shape, x.dtype))
    if x.shape[-1] < 2 or not x.size:
        return x, np.zeros(outs[1].shape, x.dtype)
    return each(lambda m: _routine("gehrd", x.dtype)(m)[:2], x, outs)


def _hessenberg_lower(b, x):
    cpu_only(b, "hessenberg", "")
    packed, taus = b.outs
    if x.aval.shape[-1] < 2 or not x.aval.size:
        return x, b.full(0, taus)
    *found, info = native(
        b,
        target(b, "gehrd", "", x.aval.dtype),
        [x],
        [packed, taus, info_aval(x)],
        {0: 0},
        low=np.int32(1),
        high=np.int32(x.aval.shape[-1]),
    )
    return unless_failed(b, info, found)


hessenberg: Op = Op(
    "hessenberg",
    multiple=True,
    abstract=_hessenberg_abstract,
    reference=_hessenberg_reference,
    lower=_hessenberg_lower,
    jvp=_PACKED,
    transpose=NOT_LINEAR,
    batch=leading_batch(lambda: hessenberg),
)


def _schur_abstract(x: Aval, *, compute_schur_vectors=True) -> tuple[Aval, ...]:
    check_matrix("schur", x)
    return (x, x) if compute_schur_vectors else (x,)


def _schur_reference(x, *, compute_schur_vectors=True):
    outs = _schur_abstract(Aval(x.shape, x.dtype), compute_schur_vectors=compute_schur_vectors)
    if not x.size:
        return _empty(outs)
    decompose = _routine("gees", x.dtype)

    def parts(m):
        t, *_, vectors, _, info = decompose(lambda *_: False, m, compute_v=compute_schur_vectors)
        if info:
            raise np.linalg.LinAlgError("the QR iteration did not converge")
        return (t, vectors) if compute_schur_vectors else (t,)

    return each(parts, x, outs)


def _schur_lower(b, x, *, compute_schur_vectors=True):
    cpu_only(b, "schur", "")
    if not x.aval.size:
        return [b.full(0, o) for o in b.outs]
    values = Aval(x.aval.shape[:-1], x.aval.dtype)
    parts = 1 if dtypes.is_complex(x.aval.dtype) else 2
    t, vectors, *_, info = native(
        b,
        target(b, "gees", "", x.aval.dtype),
        [x],
        [x.aval, x.aval, *[values] * parts, info_aval(x), info_aval(x)],
        {0: 0},
        mode=char("V" if compute_schur_vectors else "N"),
        sort=char("N"),
    )
    return unless_failed(b, info, [t, vectors] if compute_schur_vectors else [t])


schur: Op = Op(
    "schur",
    multiple=True,
    abstract=_schur_abstract,
    reference=_schur_reference,
    lower=_schur_lower,
    jvp=Unsupported(
        "the Schur form of a matrix with repeated or complex pairs of eigenvalues is not unique, "
        "and no rule is published for the others; differentiate eigvals or eigh instead"
    ),
    transpose=NOT_LINEAR,
    batch=leading_batch(lambda: schur),
)

# -- tridiagonal ---------------------------------------------------------------------------------


def _tridiagonal_abstract(x: Aval, *, lower=True) -> tuple[Aval, Aval, Aval, Aval]:
    check_matrix("tridiagonal", x)
    *lead, n, _ = x.shape
    real, short = dtypes.real_dtype(x.dtype), (*lead, max(n - 1, 0))
    return x, Aval((*lead, n), real), Aval(short, real), Aval(short, x.dtype)


def _tridiagonal_reference(x, *, lower=True):
    outs = _tridiagonal_abstract(Aval(x.shape, x.dtype))
    if not x.size:
        return _empty(outs)
    reduce = _routine(_unitary("sytrd", "hetrd", x.dtype), x.dtype)
    return each(lambda m: reduce(m, lower=lower)[:4], x, outs)


def _tridiagonal_lower(b, x, *, lower=True):
    if not x.aval.size:
        return [x, *[b.full(0, o) for o in b.outs[1:]]]
    flags = dict(uplo=char("L" if lower else "U")) if b.platform == "cpu" else dict(lower=lower)
    name = target(b, _unitary("sytrd", "hetrd", x.aval.dtype), "sytrd", x.aval.dtype)
    *found, info = native(b, name, [x], [*b.outs, info_aval(x)], {0: 0}, **flags)
    return unless_failed(b, info, found)


tridiagonal: Op = Op(
    "tridiagonal",
    multiple=True,
    abstract=_tridiagonal_abstract,
    reference=_tridiagonal_reference,
    lower=_tridiagonal_lower,
    jvp=_PACKED,
    transpose=NOT_LINEAR,
    batch=leading_batch(lambda: tridiagonal),
)
