"""Linear algebra on the last two axes, as `numpy.linalg`; the axes before them are a stack of
matrices.

Integers are computed in float32; float16 and bfloat16 in float32 and rounded once. A matrix that
has no result (one that is singular, or not positive definite) gives NaN or inf, as compiled code
cannot raise.
"""

from __future__ import annotations

import builtins
import math
import string
from typing import Any, NamedTuple

import numpy as np

import bevel.ops as ops
from bevel.core import dtypes
from bevel.core.dtypes import int32
from bevel.core.errors import ShapeError
from bevel.core.handle import wrap
from bevel.core.misfit import Change, Fix, Shape, broadcastable, mend, misfit, transposed
from bevel.numpy import products
from bevel.numpy.arguments import axes_of, cast, integer, number
from bevel.numpy.contraction import einsum
from bevel.numpy.convert import broadcast_value, enter, promote
from bevel.numpy.elementwise import absolute
from bevel.numpy.factorizations import (
    EighResult,
    EigResult,
    QRResult,
    SVDResult,
    adjoint,
    at_dtype,
    checked_matrix,
    cholesky,
    eig,
    eigh,
    eigvals,
    eigvalsh,
    eye_like,
    qr,
    svd,
    svdvals,
)
from bevel.numpy.manipulation import matrix_transpose, moveaxis, reshape
from bevel.numpy.norms import matrix_norm, norm, vector_norm
from bevel.numpy.products import matmul, tensordot, vecdot
from bevel.numpy.reductions import max, prod, sum
from bevel.numpy.selection import diagonal as diagonal_of
from bevel.numpy.selection import where

LinAlgError = np.linalg.LinAlgError

__all__ = [
    "EigResult",
    "EighResult",
    "LinAlgError",
    "QRResult",
    "SVDResult",
    "SlogdetResult",
    "cholesky",
    "cond",
    "cross",
    "det",
    "diagonal",
    "eig",
    "eigh",
    "eigvals",
    "eigvalsh",
    "inv",
    "lstsq",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "matrix_transpose",
    "multi_dot",
    "norm",
    "outer",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "svd",
    "svdvals",
    "tensordot",
    "tensorinv",
    "tensorsolve",
    "trace",
    "vecdot",
    "vector_norm",
]


class SlogdetResult(NamedTuple):
    """Result of `slogdet`."""

    sign: Any
    logabsdet: Any


# -- determinants, inverses, systems -------------------------------------------------------------


def _lu_sign(factors: Any, pivots: Any) -> tuple[Any, Any]:
    """Diagonal of the LU factors, and -1 or 1 for the row exchanges."""
    diagonal = diagonal_of(wrap(factors), 0, -2, -1)
    k = pivots.shape[-1]
    places = ops.iota(shape=tuple(pivots.shape), dtype=int32, axis=len(pivots.shape) - 1)
    moved = (
        sum(wrap(ops.ne(pivots, places)), -1)
        if k
        else wrap(ops.full(tuple(pivots.shape[:-1]), 0, int32))
    )
    return diagonal, 1 - 2 * (moved % 2)


def det(a: Any) -> Any:
    """Determinants.

    >>> bnp.linalg.det(bnp.array([[1.0, 2.0], [3.0, 4.0]]))
    Array(-2., dtype=float32)
    """
    x, dtype = checked_matrix("det", a, square=True)
    n = x.shape[-1]
    if n in (2, 3):
        return at_dtype(_small_det(wrap(x), n)._v, dtype)
    factors, pivots, _ = ops.lu(x)
    diagonal, sign = _lu_sign(factors, pivots)
    return at_dtype((prod(diagonal, -1) * sign.astype(np.dtype(x.dtype)))._v, dtype)


def _small_det(x: Any, n: int) -> Any:
    """Determinant written out: also its derivatives hold for singular matrices."""
    e = [[x[..., i, j] for j in range(n)] for i in range(n)]
    if n == 2:
        return e[0][0] * e[1][1] - e[0][1] * e[1][0]
    minors = [e[1][j] * e[2][k] - e[1][k] * e[2][j] for j, k in ((1, 2), (0, 2), (0, 1))]
    return e[0][0] * minors[0] - e[0][1] * minors[1] + e[0][2] * minors[2]


def slogdet(a: Any, *, method: str | None = None) -> SlogdetResult:
    """Sign and logarithm of the absolute value of determinants, which do not overflow.

    `method` is JAX's hint; there is one way here, LU.

    >>> bnp.linalg.slogdet(bnp.diag(bnp.array([-1.0, 1.0])))
    SlogdetResult(sign=Array(-1., dtype=float32), logabsdet=Array(0., dtype=float32))
    """
    if method not in (None, "lu"):
        raise ValueError(f"slogdet: method must be 'lu', got {method!r}")
    x, dtype = checked_matrix("slogdet", a, square=True)
    factors, pivots, _ = ops.lu(x)
    diagonal, sign = _lu_sign(factors, pivots)
    signs = wrap(ops.sign(diagonal._v))
    log_size = sum(wrap(ops.log(ops.abs(diagonal._v))), -1)
    whole = prod(signs, -1) * sign.astype(np.dtype(x.dtype))
    return SlogdetResult(at_dtype(whole._v, dtype), at_dtype(log_size._v, dtype))


def _check_system(x: Shape, y: Shape, given: tuple[Any, Any]) -> None:
    """Refuse matrices and right sides that are no systems of equations."""

    def fits(shapes: list[Shape]) -> bool:
        left, right = shapes
        if len(left) < 2 or left[-1] != left[-2] or not right:
            return False
        rows = right[-1 if len(right) == 1 else -2]
        return rows == left[-1] and broadcastable([(), left[:-2], right[:-2]])

    if fits([x, y]):
        return
    square = len(x) > 1 and x[-1] == x[-2]
    found = None
    if square:
        why = f"{{1}} must have {x[-1]} elements if it is a vector, or {x[-1]} rows"

        def column(i: int, shape: Shape) -> list[Change]:
            stack = i == 1 and len(shape) == len(x) - 1
            return [Change("_[..., None]", (*shape, 1), "is a stack of vectors")] if stack else []

        found = mend([x, y], fits, [column, lambda i, s: transposed(s) if i == 1 else ()])
        if y and y[-1 if len(y) == 1 else -2] == x[-1]:
            why = f"the axes before the last two, {x[:-2]} of {{0}} and {y[:-2]} of {{1}}, differ"
    else:
        why = "{0} must hold square matrices on its last two axes"
        if len(x) == 2 and len(y) in (1, 2) and x[0] == y[0]:
            found = Fix(
                "With lstsq the squared error is least", whole="bnp.linalg.lstsq(_0, _1)[0]"
            )
    instead = "a system of as many equations as unknowns"
    fixes = [] if found is None else [found]
    raise misfit("solve", [enter(v) for v in given], why, fixes, instead, params=("a", "b"))


def solve(a: Any, b: Any) -> Any:
    """The `x` with `a @ x = b`; `b` is a vector, or matrices whose columns are solved for.

    >>> bnp.linalg.solve(bnp.array([[2.0, 0.0], [0.0, 4.0]]), bnp.array([2.0, 2.0]))
    Array([1. , 0.5], dtype=float32)
    """
    number("solve", a), number("solve", b)
    (x, y), _ = promote(a, b)
    vector = len(y.shape) == 1
    _check_system(tuple(x.shape), tuple(y.shape), (a, b))
    x, dtype = checked_matrix("solve", wrap(x), square=True)
    y, n = cast(y, np.dtype(x.dtype)), x.shape[-1]
    y = ops.expand_dims(y, (1,)) if vector else y
    lead = np.broadcast_shapes(tuple(x.shape[:-2]), tuple(y.shape[:-2]))
    factors, _, order = ops.lu(x)
    factors = broadcast_value(factors, (*lead, n, n))
    y = broadcast_value(y, (*lead, n, y.shape[-1]))
    # Without elements there is nothing to solve, and no pivot to look up.
    out = ops.lu_solve(factors, broadcast_value(order, (*lead, n)), y) if y.size else y
    return at_dtype(ops.squeeze(out, (len(out.shape) - 1,)) if vector else out, dtype)


def inv(a: Any) -> Any:
    """Inverses; inf or NaN where a matrix is singular.

    >>> bnp.linalg.inv(bnp.array([[2.0, 0.0], [0.0, 4.0]]))
    Array([[0.5 , 0.  ],
           [0.  , 0.25]], dtype=float32)
    """
    x, dtype = checked_matrix("inv", a, square=True)
    return at_dtype(solve(wrap(x), wrap(eye_like(x, x.shape[-1])))._v, dtype)


def _cutoff(s: Any, rtol: Any, size: int, dtype: np.dtype) -> Any:
    """Singular values up to here count as zero: `rtol` times the largest."""
    if rtol is None:
        rtol = size * float(dtypes.finfo(dtypes.real_dtype(dtype)).eps)
    rtol = wrap(cast(number("rtol", rtol), np.dtype(s._v.dtype)))
    top = max(s, -1, keepdims=True, initial=0)
    return rtol[..., None] * top if rtol._v.shape else rtol * top


def pinv(a: Any, rtol: Any = None, hermitian: bool = False, *, rcond: Any = None) -> Any:
    """Pseudo-inverses: singular values up to `rtol` times the largest count as zero.

    >>> bnp.linalg.pinv(bnp.array([[2.0], [0.0]]))
    Array([[0.5, 0. ]], dtype=float32)
    """
    x, dtype = checked_matrix("pinv", a)
    u, s, vh = svd(wrap(x), full_matrices=False, hermitian=hermitian)
    rtol = rcond if rtol is None else rtol
    if rtol is None:
        rtol = 10 * builtins.max(x.shape[-2:]) * float(dtypes.finfo(dtypes.real_dtype(dtype)).eps)
    keep = s > _cutoff(s, rtol, 1, dtype)
    inverse = where(keep, 1 / where(keep, s, 1), 0).astype(np.dtype(x.dtype))
    return at_dtype((adjoint(vh) @ (inverse[..., None] * adjoint(u)))._v, dtype)


def matrix_rank(M: Any, rtol: Any = None, *, hermitian: bool = False, tol: Any = None) -> Any:
    """How many singular values are larger than `rtol` times the largest, or than `tol`, as int32.

    `hermitian` promises that the matrices are, which is quicker.

    >>> bnp.linalg.matrix_rank(bnp.ones((2, 2)))
    Array(1, dtype=int32)
    """
    x = number("matrix_rank", M)
    if len(x.shape) < 2:
        return wrap(
            cast(ops.reduce_or(cast(x, np.dtype(bool)), axes=tuple(range(len(x.shape)))), int32)
        )
    value, dtype = checked_matrix("matrix_rank", M)
    s = absolute(eigvalsh(wrap(value))) if hermitian else svdvals(wrap(value))
    limit = (
        _cutoff(s, rtol, builtins.max(value.shape[-2:]), dtype)
        if tol is None
        else wrap(number("tol", tol))[..., None]
    )
    return sum(s > limit, -1)


def cond(x: Any, p: Any = None) -> Any:
    """Condition numbers: the norm `p` of a matrix times that of its inverse.

    For None and 2, the largest singular value divided by the smallest; for -2, the other way round.

    >>> bnp.linalg.cond(bnp.diag(bnp.array([4.0, 2.0])))
    Array(2., dtype=float32)
    """
    if p in (None, 2, -2):
        s = svdvals(x)
        return s[..., -1] / s[..., 0] if p == -2 else s[..., 0] / s[..., -1]
    return norm(x, p, (-2, -1)) * norm(inv(x), p, (-2, -1))


def lstsq(
    a: Any, b: Any, rcond: Any = None, *, numpy_resid: bool = False
) -> tuple[Any, Any, Any, Any]:
    """The `x` that makes `norm(b - a @ x)` least, the squared residuals, the rank, and the singular
    values.

    Singular values up to `rcond` times the largest count as zero (None: machine precision times the
    larger size). Residuals are those of every column, for any rank, unless `numpy_resid` asks for
    NumPy's rule.

    >>> x, *_ = bnp.linalg.lstsq(bnp.array([[1.0], [1.0]]), bnp.array([1.0, 3.0]))
    >>> bool(bnp.allclose(x, bnp.array([2.0])))
    True
    """
    number("lstsq", a), number("lstsq", b)
    (x, y), _ = promote(a, b)
    x, dtype = checked_matrix("lstsq", wrap(x))
    y = cast(y, np.dtype(x.dtype))
    if len(x.shape) != 2 or len(y.shape) not in (1, 2) or y.shape[0] != x.shape[0]:
        raise misfit(
            "lstsq",
            [wrap(x), wrap(y)],
            "{0} must be a matrix and {1} a vector or a matrix with as many rows",
            otherwise="arrays of as many rows; bv.vmap for stacks",
            params=("a", "b"),
        )
    columns = wrap(y if len(y.shape) == 2 else ops.expand_dims(y, (1,)))
    m, n = x.shape
    u, s, vh = svd(wrap(x), full_matrices=False)
    rcond = None if rcond is None or (isinstance(rcond, int | float) and rcond < 0) else rcond
    keep = s > _cutoff(s, rcond, builtins.max((m, n)), dtype) if s._v.shape[0] else s > 0
    inverse = where(keep, 1 / where(keep, s, 1), 0).astype(np.dtype(x.dtype))
    out = adjoint(vh) @ (inverse[:, None] * (adjoint(u) @ columns))
    rank = sum(keep)
    apart = columns - wrap(x) @ out
    residual = sum(wrap(ops.square(ops.abs(apart._v))), 0)
    if numpy_resid and (m <= n or int(rank) < n):
        residual = residual[:0]
    if len(y.shape) == 1:
        out = reshape(out, (n,))
    return at_dtype(out._v, dtype), at_dtype(residual._v, dtype), rank, at_dtype(s._v, dtype)


def matrix_power(a: Any, n: int) -> Any:
    """A square matrix multiplied by itself `n` times; a negative `n` inverts it first.

    >>> bnp.linalg.matrix_power(bnp.array([[1, 1], [0, 1]]), 3)
    Array([[1, 3],
           [0, 1]], dtype=int32)
    """
    n = integer("matrix_power", "n", n)
    value = number("matrix_power", a)
    checked_matrix("matrix_power", a, square=True)
    if n == 0:
        return wrap(eye_like(value, value.shape[-1]))
    base, out = inv(a) if n < 0 else wrap(value), None
    n = abs(n)
    while n:
        if n & 1:
            out = base if out is None else out @ base
        n >>= 1
        base = base @ base if n else base
    return out


def multi_dot(arrays: Any, *, precision: Any = None) -> Any:
    """Product of several matrices in the order that costs least; the first and last may be vectors.

    >>> bnp.linalg.multi_dot([bnp.ones((2, 3)), bnp.ones((3, 4)), bnp.ones(4)])
    Array([12., 12.], dtype=float32)
    """
    arrays = list(arrays)
    if len(arrays) < 2:
        raise ValueError(f"multi_dot: needs at least two arrays, got {len(arrays)}")
    ranks = [len(number("multi_dot", a).shape) for a in arrays]
    if any(r != 2 for r in ranks[1:-1]) or ranks[0] not in (1, 2) or ranks[-1] not in (1, 2):
        raise ShapeError(f"multi_dot: takes matrices, and vectors at the ends; got {ranks} axes")
    shapes = [tuple(enter(a)._v.shape) for a in arrays]
    for i, (s, t) in enumerate(zip(shapes, shapes[1:], strict=False)):
        if s[-1] != t[0] and 1 not in (s[-1], t[0]):
            raise _no_chain(arrays, shapes, i)
    letters = string.ascii_letters[: len(arrays) + 1]
    terms = [letters[i : i + 2] for i in range(len(arrays))]
    terms[0] = terms[0][1:] if ranks[0] == 1 else terms[0]
    terms[-1] = terms[-1][:1] if ranks[-1] == 1 else terms[-1]
    result = ("" if ranks[0] == 1 else letters[0]) + ("" if ranks[-1] == 1 else letters[-1])
    kind = "optimal" if len(arrays) < 8 else "auto"
    return einsum(f"{','.join(terms)}->{result}", *arrays, optimize=kind, precision=precision)


def _no_chain(arrays: Any, shapes: list[Shape], i: int) -> Exception:
    """The error of a product of matrices, of which number `i` does not fit the next."""

    def fits(shapes: list[Shape]) -> bool:
        return all([s[-1] == t[0] for s, t in zip(shapes, shapes[1:], strict=False)])

    found = mend(shapes, fits, [lambda _, s: transposed(s)])
    s, t = shapes[i : i + 2]
    return misfit(
        "multi_dot",
        [enter(a) for a in arrays],
        f"the last axis of {{{i}}} ({s[-1]}) must equal the first of {{{i + 1}}} ({t[0]})",
        [] if found is None else [found],
        "matrices each of which has as many rows as the one before has columns",
        listed=True,
        words=[f"array {k}" for k in range(len(shapes))],
    )


def tensorinv(a: Any, ind: int = 2) -> Any:
    """The inverse of the linear map from the last axes of an array to its first `ind`.

    >>> bnp.linalg.tensorinv(bnp.eye(6).reshape(2, 3, 6), ind=2).shape
    (6, 2, 3)
    """
    x = number("tensorinv", a)
    ind = integer("tensorinv", "ind", ind)
    if ind < 1 or math.prod(x.shape[:ind]) != math.prod(x.shape[ind:]):
        raise ShapeError(
            f"tensorinv: the first {ind} axes of {tuple(x.shape)} do not balance the others"
        )
    n = math.prod(x.shape[:ind])
    flat = inv(wrap(ops.reshape(x, shape=(n, n))))
    return reshape(flat, (*x.shape[ind:], *x.shape[:ind]))


def tensorsolve(a: Any, b: Any, axes: Any = None) -> Any:
    """The `x` with `tensordot(a, x, x.ndim) = b`; the axes in `axes` are moved to the end of `a`
    first.

    >>> bnp.linalg.tensorsolve(bnp.eye(6).reshape(2, 3, 2, 3), bnp.ones((2, 3))).shape
    (2, 3)
    """
    x, y = number("tensorsolve", a), number("tensorsolve", b)
    if axes is not None:
        gone = axes_of("tensorsolve", tuple(axes), len(x.shape))
        x = moveaxis(wrap(x), gone, range(len(x.shape) - len(gone), len(x.shape)))._v
    shape = tuple(x.shape[len(y.shape) :])
    n = math.prod(shape)
    if math.prod(x.shape) != n * n or math.prod(y.shape) != n:
        raise ShapeError(
            f"tensorsolve: shapes {tuple(x.shape)} and {tuple(y.shape)} are not a square system"
        )
    flat = solve(wrap(ops.reshape(x, shape=(n, n))), wrap(ops.reshape(y, shape=(n,))))
    return reshape(flat, shape)


# -- products by their array API names -----------------------------------------------------------


def cross(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    """Vector product of vectors of size 3 along an axis.

    >>> bnp.linalg.cross(bnp.array([1, 0, 0]), bnp.array([0, 1, 0]))
    Array([0, 0, 1], dtype=int32)
    """
    return products.cross(x1, x2, axis=axis)


def outer(x1: Any, x2: Any, /) -> Any:
    """All products of an element of one vector and an element of another.

    >>> bnp.linalg.outer(bnp.array([1, 2]), bnp.array([3, 4])).shape
    (2, 2)
    """
    shapes = [tuple(number("outer", x).shape) for x in (x1, x2)]
    if any(len(s) != 1 for s in shapes):
        raise ShapeError(
            f"linalg.outer: takes two vectors, got shapes {shapes[0]} and {shapes[1]}; use "
            "bnp.outer"
        )
    return products.outer(x1, x2)


def diagonal(x: Any, /, *, offset: int = 0) -> Any:
    """Diagonals of the matrices on the last two axes.

    >>> bnp.linalg.diagonal(bnp.ones((5, 2, 2))).shape
    (5, 2)
    """
    return diagonal_of(x, offset, -2, -1)


def trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Any:
    """Sums of the diagonals of the matrices on the last two axes.

    >>> bnp.linalg.trace(bnp.ones((5, 2, 2))).shape
    (5,)
    """
    return products.trace(x, offset, -2, -1, dtype)
