"""Systems of three diagonals, and factors after a change of rank one."""

from __future__ import annotations

import numpy as np

from bevel.core import dtypes
from bevel.core.aval import Aval, aval_of
from bevel.core.errors import Unsupported as UnsupportedError
from bevel.core.op import Op, is_undefined
from bevel.ops.base import batch_broadcast, reshape
from bevel.ops.elementwise import add, mul, neg
from bevel.ops.lapack import (
    INT32,
    NOT_LINEAR,
    each_of,
    info_aval,
    leading_batch,
    native,
    same_stack,
    target,
    triangle,
    unless_failed,
)
from bevel.ops.linalg import triangular_solve
from bevel.ops.logic import select
from bevel.ops.matrix import along_columns, along_rows, diagonal_mask, flip, matmul, scale, triu
from bevel.ops.shape import moveaxis, pad
from bevel.ops.shape import slice as cut

# -- tridiagonal_solve ---------------------------------------------------------------------------


def _solve_abstract(dl: Aval, d: Aval, du: Aval, b: Aval, *, perturb_singular=False) -> Aval:
    same_stack("tridiagonal_solve", {"dl": dl, "d": d, "du": du, "b": b}, (1, 1, 1, 2))
    if not dl.shape == d.shape == du.shape == b.shape[:-1]:
        raise ValueError(
            f"tridiagonal_solve: got dl {dl}, d {d}, du {du} and b {b}: the diagonals must all "
            "have one entry for each row of b (dl[0] and du[-1] are not read)"
        )
    return b


def _solve_one(dl, d, du, b):
    from scipy.linalg.lapack import get_lapack_funcs

    if len(d) == 1:
        if d[0] == 0:
            raise np.linalg.LinAlgError("singular")
        return (b / d[0],)
    *_, x, info = get_lapack_funcs(("gtsv",), dtype=b.dtype)[0](dl[1:], d, du[:-1], b)
    if info:
        raise np.linalg.LinAlgError("singular")
    return (x,)


def _perturbed_one(dl, d, du, b):
    """The same by the LU factors of LAPACK's xLAGTF, with the pivots of xLAGTS."""
    n, x = len(d), b.copy()
    u = np.zeros((n, 3), b.dtype)
    u[0, :2] = d[0], du[0] if n > 1 else 0
    largest = np.abs(u[0]).max()
    size = np.abs(u[0]).sum()
    for k in range(n - 1):
        low, middle, up = dl[k + 1], d[k + 1], du[k + 1] if k < n - 2 else b.dtype.type(0)
        new = abs(low) + abs(middle) + abs(up)
        if low == 0 or (u[k, 0] != 0 and abs(low) / new <= abs(u[k, 0]) / size):
            factor = low / u[k, 0] if low != 0 else low
            u[k + 1, :2] = middle - factor * u[k, 1], up
            x[k + 1] -= factor * x[k]
            size = new
        else:
            factor, above = u[k, 0] / low, u[k, 1]
            u[k] = low, middle, up
            u[k + 1, :2] = above - factor * middle, -factor * up
            x[k], x[k + 1] = x[k + 1].copy(), x[k] - factor * x[k + 1]
            size = np.abs(u[k + 1]).sum()
        if k < n - 2:
            largest = max(largest, np.abs(u[k]).max())
    largest = max(largest, abs(u[-1, 0]))
    nudge = np.finfo(b.dtype).eps * largest
    for k in reversed(range(n)):
        row = x[k] - sum([u[k, i] * x[k + i] for i in (1, 2) if k + i < n])
        pivot, row = _pivot(u[k, 0], row, nudge)
        x[k] = row / pivot
    return (x,)


def _pivot(pivot, row, nudge):
    """A pivot by which a row can be divided without overflow: moved away from zero by `nudge`,
    twice that and so on.
    """
    tiny = np.finfo(row.dtype).tiny
    big, top = 1 / tiny, np.abs(row).max()
    nudge = np.copysign(max(nudge, tiny), pivot.real)
    while abs(pivot) < 1:
        size = abs(pivot)
        if size == 0 or (top * tiny > size if size < tiny else top > size * big):
            pivot = pivot + nudge
            nudge = nudge * 2
        else:
            return (pivot * big, row * big) if size < tiny else (pivot, row)
    return pivot, row


def _solve_reference(dl, d, du, b, *, perturb_singular=False):
    out = _solve_abstract(aval_of(dl), aval_of(d), aval_of(du), aval_of(b))
    if not b.size:
        return b
    one = _perturbed_one if perturb_singular else _solve_one
    with np.errstate(all="ignore"):
        return each_of(one, (dl, d, du, b), (1, 1, 1, 2), (out,))[0]


def _solve_lower(b, dl, d, du, y, *, perturb_singular=False):
    if not y.aval.size:
        return y
    n = y.aval.shape[-2]
    if perturb_singular:
        name = "tridiagonal_solve_perturbed"
        name = f"{name}_ffi" if b.platform == "cpu" else f"cu_{name}"
        return native(b, name, [dl, d, du, y], [y.aval], {})[0]
    if b.platform == "cpu":
        name = target(b, "gtsv", "", y.aval.dtype)
        outs = [dl.aval, d.aval, du.aval, y.aval, info_aval(y)]
        *_, x, info = native(b, name, [dl, d, du, y], outs, {0: 0, 1: 1, 2: 2, 3: 3})
        return unless_failed(b, info, [x])[0]
    if n > 2:
        return native(b, "cusparse_gtsv2_ffi", [dl, d, du, y], [y.aval], {0: 3})[0]
    return _solve_small(b, dl, d, du, y)


def _solve_small(b, dl, d, du, y):
    """One or two rows by Cramer's rule: cuSPARSE takes three or more."""
    axis = y.aval.ndim - 2

    def entry(v, i):
        shape = v.aval.shape[:-1]
        one = b.slice(v, (0,) * axis + (i,), (*shape, i + 1))
        return b.broadcast_in_dim(one, (*shape, 1, y.aval.shape[-1]), range(axis + 1))

    def row(i):
        shape = y.aval.shape
        return b.slice(y, (0,) * axis + (i, 0), (*shape[:-2], i + 1, shape[-1]))

    if y.aval.shape[-2] == 1:
        return b.divide(y, entry(d, 0))
    d0, d1, up, down = entry(d, 0), entry(d, 1), entry(du, 0), entry(dl, 1)
    det = b.subtract(b.multiply(d0, d1), b.multiply(up, down))
    first = b.subtract(b.multiply(d1, row(0)), b.multiply(up, row(1)))
    second = b.subtract(b.multiply(d0, row(1)), b.multiply(down, row(0)))
    return b.concatenate([b.divide(first, det), b.divide(second, det)], axis)


def _shift(x, axis: int, by: int):
    """Move entries along an axis by one, with zero where none comes from."""
    n = x.shape[axis]
    start, limit = [0] * len(x.shape), list(x.shape)
    if by > 0:
        limit[axis] = n - 1
    else:
        start[axis] = 1
    config = [(0, 0, 0)] * len(x.shape)
    config[axis] = (1, 0, 0) if by > 0 else (0, 1, 0)
    kept = cut(x, start=tuple(start), limit=tuple(limit))
    return pad(kept, np.zeros((), x.dtype), config=tuple(config))


def _product(diagonals, x):
    """The product with a matrix of three diagonals, any of which may be None for zero."""
    axis, total = len(x.shape) - 2, None
    for v, by in zip(diagonals, (1, 0, -1), strict=True):
        if v is None:
            continue
        moved = _shift(x, axis, by) if by else x
        part = mul(along_columns(v, x.shape), moved)
        total = part if total is None else add(total, part)
    return total


def _solve_jvp(ctx, primals, tangents, **params):
    *diagonals, b = primals
    out = tridiagonal_solve(*diagonals, b, **params)
    moved = _product(tangents[:3], out)
    rhs = tangents[3]
    if moved is not None:
        rhs = neg(moved) if rhs is None else add(rhs, neg(moved))
    return out, tridiagonal_solve(*diagonals, rhs, **params)


def _solve_transpose(ct, dl, d, du, b, **params):
    if any(map(is_undefined, (dl, d, du))):
        raise UnsupportedError(
            "tridiagonal_solve is linear in its right-hand side alone, not in the diagonals"
        )
    axis = len(d.shape) - 1
    flipped = _shift(du, axis, 1), d, _shift(dl, axis, -1)
    return None, None, None, tridiagonal_solve(*flipped, ct, **params)


def _solve_batch(size, x, batched, **params):
    *diagonals, b = x
    if any(batched[:3]):
        full = [batch_broadcast(size, v, f) for v, f in zip(x, batched, strict=True)]
        return tridiagonal_solve(*full, **params), True
    # One matrix for all: the batch becomes more right-hand sides.
    b = moveaxis(b, 0, len(b.shape) - 1)
    *lead, p, q, r = b.shape
    out = tridiagonal_solve(*diagonals, reshape(b, shape=(*lead, p, q * r)), **params)
    return moveaxis(reshape(out, shape=tuple(b.shape)), len(b.shape) - 1, 0), True


tridiagonal_solve: Op = Op(
    "tridiagonal_solve",
    abstract=_solve_abstract,
    reference=_solve_reference,
    lower=_solve_lower,
    jvp=_solve_jvp,
    transpose=_solve_transpose,
    batch=_solve_batch,
)

# -- cholesky_update -----------------------------------------------------------------------------


def _update_abstract(r: Aval, w: Aval) -> Aval:
    same_stack("cholesky_update", {"r": r, "w": w}, (2, 1))
    if r.shape[:-1] != w.shape or r.shape[-1] != r.shape[-2] or dtypes.is_complex(r.dtype):
        raise ValueError(
            f"cholesky_update: got r {r} and w {w}: r must be square and real, and w have one "
            "entry for each of its rows"
        )
    return r


def _update_reference(r, w):
    """Givens rotations bring `w` into the factor row by row (Golub and Van Loan, 6.5.4)."""
    _update_abstract(aval_of(r), aval_of(w))
    r, w = np.triu(r), w.copy()
    for k in range(r.shape[-1]):
        x, y, row = r[..., k, k].copy(), w[..., k].copy(), r[..., k, :].copy()
        still = y == 0
        size = np.where(still, 1, np.hypot(x, y)).astype(r.dtype)
        cos, sin = np.where(still, 1, x / size)[..., None], np.where(still, 0, y / size)[..., None]
        r[..., k, :], w = cos * row + sin * w, cos * w - sin * row
    return r


def _update_lower(b, r, w):
    if not r.aval.size:
        return r
    *lead, n, _ = r.aval.shape
    axis, step, scalar = len(lead), Aval((), INT32), Aval(tuple(lead), r.aval.dtype)

    def spread(f, v):
        return f.broadcast_in_dim(v, w.aval.shape, range(axis))

    def body(f, i, factor, w):
        starts = [f.full(0, step)] * axis + [i]
        place = [*starts, f.full(0, step)]
        row = f.reshape(f.dynamic_slice(factor, place, (*lead, 1, n)), w.aval.shape)
        x, y = (f.reshape(f.dynamic_slice(v, starts, (*lead, 1)), lead) for v in (row, w))
        one, zero = f.full(1, scalar), f.full(0, scalar)
        still = f.compare(y, zero, "EQ")
        top = f.select(still, one, f.maximum(f.abs(x), f.abs(y)))
        x, y = f.divide(x, top), f.divide(y, top)
        size = f.sqrt(f.add(f.multiply(x, x), f.multiply(y, y)))
        cos = spread(f, f.select(still, one, f.divide(x, size)))
        sin = spread(f, f.select(still, zero, f.divide(y, size)))
        new = f.add(f.multiply(cos, row), f.multiply(sin, w))
        rest = f.subtract(f.multiply(cos, w), f.multiply(sin, row))
        factor = f.dynamic_update_slice(factor, f.reshape(new, (*lead, 1, n)), place)
        return f.add(i, f.full(1, step)), factor, rest

    def going(f, i, factor, w):
        return f.compare(i, f.full(n, step), "LT")

    return b.while_([b.full(0, step), triangle(b, r, "LE"), w], going, body)[1]


def _update_jvp(ctx, primals, tangents):
    """Of `new^T new = r^T r + w w^T`, as the Cholesky factorization's (Murray 2016)."""
    r, w = primals
    out = cholesky_update(r, w)
    change = None
    if tangents[0] is not None:
        change = matmul(flip(triu(r)), triu(tangents[0]))
    if tangents[1] is not None:
        part = mul(along_columns(w, r.shape), along_rows(tangents[1], r.shape))
        change = part if change is None else add(change, part)
    change = add(change, flip(change))
    flags = dict(left_side=False, lower=False)
    left = flip(triangular_solve(out, flip(change), **flags))
    both = triangular_solve(out, left, **flags)
    halved = select(diagonal_mask(both), scale(both, 0.5), triu(both))
    return out, matmul(halved, out)


cholesky_update: Op = Op(
    "cholesky_update",
    abstract=_update_abstract,
    reference=_update_reference,
    lower=_update_lower,
    jvp=_update_jvp,
    transpose=NOT_LINEAR,
    batch=leading_batch(lambda: cholesky_update),
)
