"""Cholesky and LU factorizations and triangular systems, over any leading axes.

LAPACK on the CPU, cuSOLVER on CUDA. Derivatives: Giles 2008, "An extended collection of matrix
derivative results"; Murray 2016, "Differentiation of the Cholesky decomposition"; De Hoog,
Anderssen and Lukas 2011 (LU).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from bevel.core import dtypes
from bevel.core.aval import Aval, aval_of
from bevel.core.errors import Unsupported as UnsupportedError
from bevel.core.op import Op, is_undefined, zero_tangent
from bevel.ops.base import batch_broadcast, full_like, reshape
from bevel.ops.elementwise import add, conj, neg, sub
from bevel.ops.lapack import (
    INT32,
    NOT_LINEAR,
    char,
    check_matrix,
    each,
    info_aval,
    leading_batch,
    native,
    rows,
    stacked,
    target,
    triangle,
    unless_failed,
)
from bevel.ops.logic import select
from bevel.ops.matrix import (
    along_columns,
    diagonal_mask,
    eye_like,
    flip,
    from_triangle,
    matmul,
    scale,
    tril,
    triu,
)
from bevel.ops.shape import iota, moveaxis, pad
from bevel.ops.shape import slice as cut
from bevel.ops.sorting import sort, take_along

# -- cholesky ------------------------------------------------------------------------------------


def _cholesky_abstract(x: Aval) -> Aval:
    check_matrix("cholesky", x)
    return x


def _cholesky_lower(b, x):
    if not x.aval.size:
        return x
    if b.platform != "cpu":
        return triangle(b, b.cholesky(x), "GE")
    name = target(b, "potrf", "potrf", x.aval.dtype)
    factor, info = native(b, name, [x], [x.aval, info_aval(x)], {0: 0}, uplo=char("L"))
    return unless_failed(b, info, [triangle(b, factor, "GE")])[0]


def _cholesky_jvp(ctx, t, x):
    factor = ctx.out
    t = from_triangle(t, lower=True)
    left = triangular_solve(factor, t, left_side=True, lower=True)
    both = triangular_solve(
        factor, left, left_side=False, lower=True, transpose_a=True, conjugate_a=True
    )
    halved = select(diagonal_mask(both), scale(both, 0.5), tril(both))
    return matmul(factor, halved)


cholesky: Op = Op(
    "cholesky",
    abstract=_cholesky_abstract,
    reference=lambda x: stacked(lambda m: (np.linalg.cholesky(m),), x, (Aval(x.shape, x.dtype),))[
        0
    ],
    lower=_cholesky_lower,
    jvp=(_cholesky_jvp,),
    transpose=NOT_LINEAR,
    batch=leading_batch(lambda: cholesky),
)

# -- triangular_solve ----------------------------------------------------------------------------


def _solve_abstract(
    a: Aval,
    b: Aval,
    *,
    left_side=True,
    lower=True,
    transpose_a=False,
    conjugate_a=False,
    unit_diagonal=False,
) -> Aval:
    check_matrix("triangular_solve", a)
    common = -2 if left_side else -1
    if (
        a.dtype != b.dtype
        or a.ndim != b.ndim
        or a.shape[:-2] != b.shape[:-2]
        or a.shape[-1] != b.shape[common]
    ):
        equation = "op(a) @ x = b" if left_side else "x @ op(a) = b"
        raise ValueError(
            f"triangular_solve: {equation} with a {a} and b {b}: dtypes and leading axes must be "
            "equal, and "
            f"{'rows' if left_side else 'columns'} of b must be as many as a has"
        )
    return b


@functools.cache
def _trsm(dtype: np.dtype) -> Callable:
    from scipy.linalg.blas import get_blas_funcs

    return get_blas_funcs("trsm", dtype=dtype)


def _solve_reference(
    a, b, *, left_side=True, lower=True, transpose_a=False, conjugate_a=False, unit_diagonal=False
):
    if not b.size:
        return b
    if conjugate_a and not transpose_a:
        a = np.conj(a)
    how = (2 if conjugate_a else 1) if transpose_a else 0
    solve = _trsm(b.dtype)
    out = np.empty(b.shape, b.dtype)
    flags = dict(side=not left_side, lower=lower, trans_a=how, diag=unit_diagonal)
    for x, y, z in zip(rows(a), rows(b), rows(out), strict=True):
        z[:] = solve(1.0, x, y, **flags)
    return out


def _solve_lower(
    b,
    a,
    y,
    *,
    left_side=True,
    lower=True,
    transpose_a=False,
    conjugate_a=False,
    unit_diagonal=False,
):
    if not y.aval.size:
        return y
    if not dtypes.is_complex(a.aval.dtype):
        conjugate_a = False
    if conjugate_a and not transpose_a:
        a = b.complex(b.real(a), b.negate(b.imag(a)))
    if b.platform != "cpu":
        how = ("ADJOINT" if conjugate_a else "TRANSPOSE") if transpose_a else "NO_TRANSPOSE"
        return b.triangular_solve(
            a, y, left_side=left_side, lower=lower, unit_diagonal=unit_diagonal, transpose=how
        )
    flags = dict(
        side=char("L" if left_side else "R"),
        uplo=char("L" if lower else "U"),
        trans_x=char(("C" if conjugate_a else "T") if transpose_a else "N"),
        diag=char("U" if unit_diagonal else "N"),
    )
    return native(b, target(b, "trsm", "trsm", a.aval.dtype), [a, y], [y.aval], {0: 1}, **flags)[0]


def _solve_jvp_a(
    ctx,
    t,
    a,
    b,
    *,
    left_side=True,
    lower=True,
    transpose_a=False,
    conjugate_a=False,
    unit_diagonal=False,
):
    inset = 1 if unit_diagonal else 0
    t = neg(tril(t, -inset) if lower else triu(t, inset))
    t = flip(t) if transpose_a else t
    t = conj(t) if conjugate_a and dtypes.is_complex(t.dtype) else t
    m, n = b.shape[-2:]

    def inverse(rhs):
        return triangular_solve(
            a,
            rhs,
            left_side=left_side,
            lower=lower,
            transpose_a=transpose_a,
            conjugate_a=conjugate_a,
            unit_diagonal=unit_diagonal,
        )

    # A solve costs as much as a product: the cheaper order has the smaller right-hand side.
    if left_side:
        return inverse(matmul(t, ctx.out)) if m > n else matmul(inverse(t), ctx.out)
    return inverse(matmul(ctx.out, t)) if m < n else matmul(ctx.out, inverse(t))


def _solve_transpose(ct, a, b, *, transpose_a=False, **params):
    if is_undefined(a):
        raise UnsupportedError(
            "triangular_solve is linear in its right-hand side alone, not in the matrix"
        )
    return None, triangular_solve(a, ct, transpose_a=not transpose_a, **params)


def _solve_batch(size, x, batched, *, left_side=True, **params):
    a, b = x
    if batched[0]:
        b = batch_broadcast(size, b, batched[1])
        return triangular_solve(a, b, left_side=left_side, **params), True
    # One matrix for all: the batch becomes more right-hand sides.
    ndim = len(b.shape)
    b = moveaxis(b, 0, ndim - 1 if left_side else ndim - 2)
    *lead, p, q, r = b.shape
    folded = reshape(b, shape=(*lead, p, q * r) if left_side else (*lead, p * q, r))
    out = reshape(triangular_solve(a, folded, left_side=left_side, **params), shape=tuple(b.shape))
    return moveaxis(out, ndim - 1 if left_side else ndim - 2, 0), True


triangular_solve: Op = Op(
    "triangular_solve",
    abstract=_solve_abstract,
    reference=_solve_reference,
    lower=_solve_lower,
    jvp=(_solve_jvp_a, lambda ctx, t, a, b, **params: triangular_solve(a, t, **params)),
    transpose=_solve_transpose,
    batch=_solve_batch,
)

# -- lu ------------------------------------------------------------------------------------------


def _lu_abstract(x: Aval) -> tuple[Aval, Aval, Aval]:
    check_matrix("lu", x, square=False)
    *lead, m, n = x.shape
    return x, Aval((*lead, min(m, n)), INT32), Aval((*lead, m), INT32)


def _permutation(pivots: np.ndarray, m: int) -> np.ndarray:
    order = np.arange(m, dtype=INT32)
    for i, j in enumerate(pivots):
        order[i], order[j] = order[j], order[i]
    return order


def _lu_reference(x):
    from scipy.linalg.lapack import get_lapack_funcs

    outs = _lu_abstract(Aval(x.shape, x.dtype))
    if not x.size:
        return (
            x,
            np.zeros(outs[1].shape, INT32),
            np.broadcast_to(np.arange(x.shape[-2], dtype=INT32), outs[2].shape),
        )
    (getrf,) = get_lapack_funcs(("getrf",), dtype=x.dtype)

    def factor(matrix):
        factors, pivots, _ = getrf(matrix)
        return factors, pivots, _permutation(pivots, matrix.shape[0])

    return each(factor, x, outs)


def _lower_permutation(b, pivots, out: Aval):
    """Carry out the row swaps, one by one, on the numbers 0 to m - 1."""
    *lead, count = pivots.aval.shape
    axis, column, step = len(lead), Aval((*lead, 1), INT32), Aval((), INT32)
    places = b.iota(out, axis)

    def spread(f, v):
        return f.broadcast_in_dim(v, out.shape, range(axis + 1))

    def body(f, i, order):
        zero = f.constant(np.zeros((), INT32))
        starts = [zero] * axis + [i]
        j = spread(f, f.dynamic_slice(pivots, starts, column.shape))
        old = spread(f, f.dynamic_slice(order, starts, column.shape))
        at_j = f.compare(places, j, "EQ")
        picked = f.reduce(f.select(at_j, order, f.full(0, out)), "add", (axis,))
        new = f.broadcast_in_dim(picked, out.shape, range(axis))
        at_i = f.compare(places, f.broadcast_in_dim(i, out.shape, ()), "EQ")
        return f.add(i, f.full(1, step)), f.select(at_i, new, f.select(at_j, old, order))

    def going(f, i, order):
        return f.compare(i, f.full(count, step), "LT")

    return b.while_([b.full(0, step), places], going, body)[1]


def _lu_lower(b, x):
    outs = b.outs
    if not x.aval.size:
        return x, b.full(0, outs[1]), b.iota(outs[2], outs[2].ndim - 1)
    name = target(b, "getrf", "getrf", x.aval.dtype)
    factors, pivots, info = native(b, name, [x], [x.aval, outs[1], info_aval(x)], {0: 0})
    pivots = b.subtract(pivots, b.full(1, outs[1]))
    (factors,) = unless_failed(b, info, [factors], "GE")
    return factors, pivots, _lower_permutation(b, pivots, outs[2])


def _order_abstract(pivots: Aval, *, permutation_size: int) -> Aval:
    if pivots.dtype != INT32 or not pivots.ndim or permutation_size < pivots.shape[-1]:
        raise ValueError(
            f"lu_pivots_to_permutation: the pivots are {pivots}: they must be int32, and "
            f"permutation_size={permutation_size} at least their number"
        )
    return Aval((*pivots.shape[:-1], permutation_size), INT32)


def _order_reference(pivots, *, permutation_size: int):
    checked = _order_abstract(aval_of(pivots), permutation_size=permutation_size)
    out = np.empty(checked.shape, INT32)
    for i in np.ndindex(pivots.shape[:-1]):
        out[i] = _permutation(pivots[i], permutation_size)
    return out


lu_pivots_to_permutation: Op = Op(
    "lu_pivots_to_permutation",
    abstract=_order_abstract,
    reference=_order_reference,
    lower=lambda b, pivots, *, permutation_size: (
        _lower_permutation(b, pivots, b.out) if pivots.aval.size else b.iota(b.out, b.out.ndim - 1)
    ),
    jvp=zero_tangent,
    transpose=NOT_LINEAR,
    batch=leading_batch(lambda: lu_pivots_to_permutation),
)


def grow(x, rows: int, columns: int):
    """Pad matrices with zeros below and to the right."""
    config = ((0, 0, 0),) * (len(x.shape) - 2) + ((0, rows, 0), (0, columns, 0))
    return pad(x, np.zeros((), x.dtype), config=config) if rows or columns else x


def block(x, rows: tuple[int, int], columns: tuple[int, int]):
    """`x[..., rows[0]:rows[1], columns[0]:columns[1]]`."""
    lead = x.shape[:-2]
    start, limit = (0,) * len(lead) + (rows[0], columns[0]), (*lead, rows[1], columns[1])
    return cut(x, start=start, limit=limit)


def _lu_jvp(ctx, primals, tangents):
    (x,), (t,) = primals, tangents
    factors, pivots, order = lu(x)
    m, n = x.shape[-2:]
    k = min(m, n)
    lower = grow(tril(block(factors, (0, m), (0, k)), -1), 0, m - k)
    lower = add(lower, eye_like(lower))
    upper = grow(triu(block(factors, (0, k), (0, n))), n - k, 0)
    if n > k:
        rest = grow(full_like(block(upper, (0, k), (0, n)), 0), n - k, 0)
        upper = add(
            upper, sub(eye_like(rest), grow(eye_like(block(upper, (0, k), (0, k))), n - k, n - k))
        )
    moved = take_along(t, along_columns(order, t.shape), len(t.shape) - 2)
    inner = triangular_solve(lower, moved, left_side=True, lower=True, unit_diagonal=True)
    inner = triangular_solve(upper, inner, left_side=False, lower=False)
    tangent = add(matmul(lower, tril(inner, -1)), matmul(triu(inner), upper))
    return (factors, pivots, order), (tangent, None, None)


lu: Op = Op(
    "lu",
    multiple=True,
    abstract=_lu_abstract,
    reference=_lu_reference,
    lower=_lu_lower,
    jvp=_lu_jvp,
    transpose=NOT_LINEAR,
    batch=leading_batch(lambda: lu),
)


def lu_solve(factors, order, b, *, adjoint_a: bool = False):
    """Solve `a @ x = b` (or `adjoint(a) @ x = b`) from the first and third result of `lu(a)`.

    >>> a = np.array([[0.0, 2.0], [1.0, 0.0]], np.float32)
    >>> factors, _, order = lu(a)
    >>> lu_solve(factors, order, np.array([[2.0], [3.0]], np.float32)).tolist()
    [[3.0], [1.0]]
    """
    axis = len(b.shape) - 2
    if not adjoint_a:
        b = take_along(b, along_columns(order, b.shape), axis)
        b = triangular_solve(factors, b, left_side=True, lower=True, unit_diagonal=True)
        return triangular_solve(factors, b, left_side=True, lower=False)
    b = triangular_solve(
        factors, b, left_side=True, lower=False, transpose_a=True, conjugate_a=True
    )
    b = triangular_solve(
        factors,
        b,
        left_side=True,
        lower=True,
        transpose_a=True,
        conjugate_a=True,
        unit_diagonal=True,
    )
    # Sorting a permutation with the places beside it inverts it.
    places = iota(shape=tuple(order.shape), dtype=INT32, axis=len(order.shape) - 1)
    _, inverse = sort(order, places, axis=len(order.shape) - 1)
    return take_along(b, along_columns(inverse, b.shape), axis)
