"""Polynomials as vectors of coefficients, the highest power first."""

from __future__ import annotations

from typing import Any

import numpy as np

from bevel.core import dtypes
from bevel.core.errors import ShapeError
from bevel.core.handle import logical_shape, wrap
from bevel.numpy import linalg, reductions
from bevel.numpy.arguments import cast, contents, inexact, integer, number
from bevel.numpy.convert import enter, promote
from bevel.numpy.creation import zeros
from bevel.numpy.elementwise import sqrt
from bevel.numpy.joining import concatenate
from bevel.numpy.manipulation import atleast_1d, broadcast_shapes, broadcast_to
from bevel.numpy.matrices import diag, vander
from bevel.numpy.resizing import trim_zeros
from bevel.numpy.signal import convolve


def _vector(name: str, p: Any) -> Any:
    x = atleast_1d(wrap(number(name, p)))
    if len(x.shape) != 1:
        raise ShapeError(f"{name}: coefficients are a vector, got shape {x.shape}")
    return x


def polyval(p: Any, x: Any, *, unroll: int = 16) -> Any:
    """Value of a polynomial at places, by Horner's rule. `unroll` is JAX's hint; all steps are
    unrolled.

    >>> bnp.polyval(bnp.array([1, 0, 2]), 3)
    Array(11, dtype=int32)
    """
    coefficients = atleast_1d(wrap(number("polyval", p)))
    (values, at), tag = promote(coefficients, x)
    at, values = wrap(at, tag), wrap(values)
    shape = broadcast_shapes(values.shape[1:], logical_shape(at))
    out = broadcast_to(wrap(np.zeros((), np.dtype(values.dtype))), shape)
    for i in range(values.shape[0]):
        out = out * at + values[i]
    return out


def _aligned(name: str, a1: Any, a2: Any) -> tuple[Any, Any]:
    """Two vectors of one length: zeros in front of the shorter."""
    x, y = _vector(name, a1), _vector(name, a2)
    n = max(x.shape[0], y.shape[0])
    return tuple([concatenate([zeros(n - v.shape[0], v.dtype), v]) for v in (x, y)])


def polyadd(a1: Any, a2: Any) -> Any:
    """Sum of two polynomials.

    >>> bnp.polyadd(bnp.array([1, 2]), bnp.array([3]))
    Array([1, 5], dtype=int32)
    """
    x, y = _aligned("polyadd", a1, a2)
    return x + y


def polysub(a1: Any, a2: Any) -> Any:
    """Difference of two polynomials.

    >>> bnp.polysub(bnp.array([1, 2]), bnp.array([3]))
    Array([ 1, -1], dtype=int32)
    """
    x, y = _aligned("polysub", a1, a2)
    return x - y


def polymul(a1: Any, a2: Any, *, trim_leading_zeros: bool = False) -> Any:
    """Product of two polynomials; `trim_leading_zeros` works outside `jit` only.

    >>> bnp.polymul(bnp.array([1.0, 1.0]), bnp.array([1.0, -1.0]))
    Array([ 1.,  0., -1.], dtype=float32)
    """
    x, y = _vector("polymul", a1), _vector("polymul", a2)
    if trim_leading_zeros:
        x, y = trim_zeros(x, "f"), trim_zeros(y, "f")
    x, y = (v if v.shape[0] else zeros(1, v.dtype) for v in (x, y))
    return convolve(x, y, precision="highest")


def polydiv(u: Any, v: Any, *, trim_leading_zeros: bool = False) -> tuple[Any, Any]:
    """Quotient and remainder of two polynomials; the divisor's first coefficient is not 0.

    The remainder keeps leading zeros unless `trim_leading_zeros`, which works outside `jit` only.

    >>> q, r = bnp.polydiv(bnp.array([1.0, 0.0, -1.0]), bnp.array([1.0, 1.0]))
    >>> q
    Array([ 1., -1.], dtype=float32)
    """
    (x, y), _ = promote(_vector("polydiv", u), _vector("polydiv", v))
    rest, divisor = wrap(inexact(x)), wrap(inexact(y))
    m, n = rest.shape[0], divisor.shape[0]
    steps = max(m - n + 1, 1)
    quotient = zeros(steps, rest.dtype)
    for i in range(m - n + 1):
        factor = rest[i] / divisor[0]
        quotient = quotient.at[i].set(factor)
        rest = rest.at[i : i + n].add(-factor * divisor)
    return quotient, trim_zeros(rest, "f") if trim_leading_zeros else rest


def polyder(p: Any, m: int = 1) -> Any:
    """Derivative of order `m`.

    >>> bnp.polyder(bnp.array([3, 2, 1]))
    Array([6, 2], dtype=int32)
    """
    x = _vector("polyder", p)
    m = integer("polyder", "m", m)
    if m < 0:
        raise ValueError(f"polyder: m must not be negative, got {m}")
    for _ in range(m):
        n = x.shape[0]
        x = x[: max(n - 1, 0)] * wrap(
            cast(np.arange(n - 1, 0, -1, dtype=np.int32), np.dtype(x.dtype))
        )
    return x


def polyint(p: Any, m: int = 1, k: Any = None) -> Any:
    """Integral of order `m`, with `k` as constants of integration (0), the last one first.

    >>> bnp.polyint(bnp.array([6.0, 2.0]))
    Array([3., 2., 0.], dtype=float32)
    """
    x = wrap(inexact(number("polyint", _vector("polyint", p))))
    m = integer("polyint", "m", m)
    if m < 0:
        raise ValueError(f"polyint: m must not be negative, got {m}")
    constants = zeros(m, x.dtype) if k is None else atleast_1d(k).astype(x.dtype)
    constants = broadcast_to(constants, (m,)) if constants.shape == (1,) else constants
    if constants.shape != (m,):
        raise ShapeError(
            f"polyint: k needs one constant for each of the {m} integrations, got {constants.shape}"
        )
    for i in range(m):
        powers = wrap(np.arange(x.shape[0], 0, -1).astype(np.dtype(x.dtype)))
        x = concatenate([x / powers, constants[i : i + 1]])
    return x


def poly(seq_of_zeros: Any) -> Any:
    """The polynomial with given roots, or the characteristic polynomial of a square matrix.

    >>> bnp.poly(bnp.array([1.0, -1.0]))
    Array([ 1.,  0., -1.], dtype=float32)
    """
    x = atleast_1d(wrap(inexact(number("poly", seq_of_zeros))))
    if len(x.shape) == 2 and x.shape[0] == x.shape[1]:
        x = linalg.eigvals(x)
    if len(x.shape) != 1:
        raise ShapeError(f"poly: takes a vector of roots or a square matrix, got shape {x.shape}")
    out = broadcast_to(wrap(np.ones((), np.dtype(x.dtype))), (1,))
    for i in range(x.shape[0]):
        out = convolve(out, concatenate([out[:1] * 0 + 1, -x[i : i + 1]]), precision="highest")
    return out


def roots(p: Any, *, strip_zeros: bool = True) -> Any:
    """Roots of a polynomial, complex, as eigenvalues of its companion matrix; on the CPU only.

    Leading and trailing zeros are taken off first, outside `jit`; with `strip_zeros=False` the
    polynomial is taken as it is.

    >>> bnp.sort(bnp.roots(bnp.array([1.0, -3.0, 2.0])).real)
    Array([1., 2.], dtype=float32)
    """
    x = wrap(inexact(number("roots", _vector("roots", p))))
    zero_roots = 0
    if strip_zeros:
        why = "how many roots there are depends on its zeros"
        found = contents("roots", x._v, why, "bnp.roots(p, strip_zeros=False)").nonzero()[0]
        if not found.size:
            return zeros(0, dtypes.complex_dtype(np.dtype(x.dtype)))
        zero_roots = x.shape[0] - 1 - int(found[-1])
        x = x[int(found[0]) : int(found[-1]) + 1]
    n = x.shape[0]
    dtype = dtypes.complex_dtype(np.dtype(x.dtype))
    if n < 2:
        return zeros(zero_roots, dtype)
    companion = (
        diag(wrap(np.ones(n - 2, np.dtype(x.dtype))), -1) if n > 2 else zeros((1, 1), x.dtype)
    )
    companion = companion.at[0, :].set(-x[1:] / x[0])
    return concatenate([linalg.eigvals(companion), zeros(zero_roots, dtype)])


def polyfit(
    x: Any,
    y: Any,
    deg: int,
    rcond: float | None = None,
    full: bool = False,
    w: Any = None,
    cov: bool | str = False,
) -> Any:
    """The polynomial of degree `deg` nearest to points, by least squares weighted with `w`.

    `y` may have several columns. `full` gives the residuals, rank, singular values and `rcond` too;
    `cov` the covariance of the coefficients ("unscaled": without the size of the residuals).

    >>> bnp.polyfit(bnp.array([0.0, 1.0, 2.0]), bnp.array([1.0, 3.0, 5.0]), 1).round(3)
    Array([2., 1.], dtype=float32)
    """
    at, values = wrap(inexact(number("polyfit", x))), wrap(inexact(number("polyfit", y)))
    count = integer("polyfit", "deg", deg) + 1
    if count < 1:
        raise ValueError(f"polyfit: deg must not be negative, got {deg}")
    if (
        len(at.shape) != 1
        or len(values.shape) not in (1, 2)
        or at.shape[0] != values.shape[0]
        or not at.shape[0]
    ):
        raise ShapeError(
            f"polyfit: x must be a vector and y have as many rows, got {at.shape} and "
            f"{values.shape}"
        )
    rcond = at.shape[0] * float(dtypes.finfo(np.dtype(at.dtype)).eps) if rcond is None else rcond
    left = vander(at, count)
    if w is not None:
        weights = enter(w)
        left = left * weights[:, None]
        values = values * (weights[:, None] if len(values.shape) == 2 else weights)
    # Columns of one length keep the problem well conditioned.
    scale = sqrt(reductions.sum(left * left, 0))
    out, residuals, rank, s = linalg.lstsq(left / scale, values, rcond)
    out = out / (scale[:, None] if len(values.shape) == 2 else scale)
    if full:
        return out, residuals, rank, s, rcond
    if not cov:
        return out
    base = linalg.inv(left.T @ left)
    if cov != "unscaled":
        if at.shape[0] <= count:
            raise ValueError(
                f"polyfit: {at.shape[0]} points say nothing of the spread of {count} coefficients"
            )
        factor = residuals / (at.shape[0] - count)
        base = base[:, :, None] * factor if len(values.shape) == 2 else base * factor
    return out, base
