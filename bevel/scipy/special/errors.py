"""Error functions and the normal distribution: erf and its relatives, Faddeeva, Owen's T."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.special

import bevel.numpy as bnp
from bevel import lax
from bevel.api.custom import custom_jvp
from bevel.core.dtypes import is_complex
from bevel.scipy.special.entry import elementwise
from bevel.scipy.special.tables import folded, lookup, unfolded

_ROOT_HALF = math.sqrt(0.5)
_TWO_OVER_ROOT_PI = 2 / math.sqrt(math.pi)
_ROOT_TWO_OVER_PI = math.sqrt(2 / math.pi)


@elementwise
def erf(x: Any) -> Any:
    """The error function, 2 / sqrt(pi) times the integral of exp(-t**2) from 0 to x.

    >>> from bevel.scipy import special
    >>> special.erf([0.0, 1.0])
    Array([0.       , 0.8427008], dtype=float32)
    """
    return lax.erf(x)


@elementwise
def erfc(x: Any) -> Any:
    """1 - erf(x), exact for large arguments.

    >>> from bevel.scipy import special
    >>> bnp.round(special.erfc([0.0, 1.0]), 4)
    Array([1.    , 0.1573], dtype=float32)
    """
    return lax.erfc(x)


@elementwise
def erfinv(x: Any) -> Any:
    """The inverse of erf; infinite at -1 and 1, NaN beyond.

    >>> from bevel.scipy import special
    >>> special.erfinv([0.0, 1.0])
    Array([ 0., inf], dtype=float32)
    """
    return lax.erf_inv(x)


# -- scaled functions ------------------------------------------------------------------------------


def _scaled_erfc(s: np.ndarray) -> np.ndarray:
    x = unfolded(s, 2.0)
    return (1 + 2 * x) * scipy.special.erfcx(x)


@custom_jvp
def _erfcx(x: Any) -> Any:
    size = bnp.abs(x)
    right = lookup(_scaled_erfc, folded(size, 2.0)) / (1 + 2 * size)
    # exp(x**2) with the square in two parts: a rounded one would cost digits.
    left = bnp.where(x < 0, bnp.maximum(x, -30), 0)
    head = bnp.round(left * 16) / 16
    grown = 2 * bnp.exp(head * head) * bnp.exp((left - head) * (left + head))
    return bnp.where(x < 0, grown - right, right)


_erfcx.defjvps(lambda t, y, x: t * (2 * x * y - _TWO_OVER_ROOT_PI))


@elementwise
def erfcx(x: Any) -> Any:
    """The scaled complementary error function, exp(x**2) erfc(x).

    >>> from bevel.scipy import special
    >>> special.erfcx([0.0, 100.0])
    Array([1.        , 0.00564161], dtype=float32)
    """
    return _erfcx(x)


def _scaled_dawson(s: np.ndarray) -> np.ndarray:
    x = unfolded(s, 2.0)
    return (1 / x + 2 * x) * scipy.special.dawsn(x)


@custom_jvp
def _dawsn(x: Any) -> Any:
    size = bnp.abs(x)
    safe = bnp.where(x == 0, 1, x)
    out = lookup(_scaled_dawson, folded(size, 2.0)) / (1 / safe + 2 * safe)
    return bnp.where(x == 0, x, out)


_dawsn.defjvps(lambda t, y, x: t * (1 - 2 * x * y))


@elementwise
def dawsn(x: Any) -> Any:
    """Dawson's integral, exp(-x**2) times the integral of exp(t**2) from 0 to x.

    >>> from bevel.scipy import special
    >>> bnp.round(special.dawsn([0.0, 1.0]), 4)
    Array([0.    , 0.5381], dtype=float32)
    """
    return _dawsn(x)


_NODES = 11
_STEP = math.sqrt(math.pi / (_NODES + 1))


def _faddeeva_quadrant(z: Any) -> Any:
    """w(z) for real and imaginary parts of at least 0, by trapezoidal rules whose error at the pole
    is subtracted (Al Azah and Chandler-Wilde, "Computation of the complex error function using
    modified trapezoidal rules", 2021).
    """
    x, y = bnp.real(z), bnp.imag(z)
    place = x / _STEP - bnp.floor(x / _STEP)
    # Of the two rules, the one whose nodes are not near x.
    shifted = (place < 0.25) | (place > 0.75) | (y >= math.pi / _STEP)
    square = z * z
    offset = bnp.where(shifted, 0.5, 1.0).astype(x.dtype)
    total = bnp.where(shifted, 0, 0.5 / bnp.where(shifted, 1, square))
    for k in range(_NODES + 1):
        node = ((k + offset) * _STEP) ** 2
        total = total + bnp.exp(-node) / (square - node)
    rule = 2j * _STEP / math.pi * z * total
    near = bnp.where(y < math.pi / _STEP, z, 0)
    turned = bnp.exp(-2j * math.pi / _STEP * near)
    pole = 2 * bnp.exp(-near * near) / bnp.where(shifted, 1 + turned, 1 - turned)
    return bnp.where(y < math.pi / _STEP, rule + pole, rule)


_FAR = 1e3


@custom_jvp
def _wofz(z: Any) -> Any:
    x, y = bnp.real(z), bnp.imag(z)
    corner = lax.complex(bnp.abs(x), bnp.abs(y))
    far = bnp.abs(corner) > _FAR
    inner = _faddeeva_quadrant(bnp.where(far, 1, corner))
    outer = 1j / math.sqrt(math.pi) / (corner - 0.5 / corner)
    upper = bnp.where(bnp.isinf(x) | bnp.isinf(y), 0, bnp.where(far, outer, inner))
    upper = bnp.where(x < 0, bnp.conj(upper), upper)
    # w(z) = 2 exp(-z**2) - w(-z), and -z has the other sign of x.
    p, q = bnp.where(y < 0, x, 0), bnp.where(y < 0, y, 0)
    size, angle = 2 * bnp.exp((q - p) * (q + p)), -2 * p * q
    sin = bnp.sin(angle)
    grown = lax.complex(size * bnp.cos(angle), bnp.where(sin == 0, 0, size * sin))
    out = bnp.where(y < 0, grown - bnp.conj(upper), upper)
    return bnp.where(bnp.isnan(x) | bnp.isnan(y), math.nan, out)


_wofz.defjvps(lambda t, y, z: t * (2j / math.sqrt(math.pi) - 2 * z * y))


@elementwise(complex=True)
def wofz(z: Any) -> Any:
    """The Faddeeva function exp(-z**2) erfc(-i z), complex also for real `z`.

    >>> from bevel.scipy import special
    >>> bnp.round(special.wofz([0.0, 1j]), 4)
    Array([1.    +0.j, 0.4276+0.j], dtype=complex64)
    """
    return _wofz(z if is_complex(z.dtype) else lax.complex(z, bnp.zeros_like(z)))


# -- the normal distribution -----------------------------------------------------------------------


@elementwise
def ndtr(x: Any) -> Any:
    """The distribution function of the standard normal.

    >>> from bevel.scipy import special
    >>> bnp.round(special.ndtr([0.0, -1.0]), 4)
    Array([0.5   , 0.1587], dtype=float32)
    """
    return 0.5 * lax.erfc(-x * _ROOT_HALF)


@custom_jvp
def _log_ndtr(x: Any) -> Any:
    low = bnp.where(x < 0, x, 0)
    tail = bnp.log(0.5 * _erfcx(-low * _ROOT_HALF)) - 0.5 * low * low
    return bnp.where(x < 0, tail, bnp.log1p(-0.5 * lax.erfc(x * _ROOT_HALF)))


_log_ndtr.defjvps(lambda t, y, x: t * (_ROOT_TWO_OVER_PI / _erfcx(-x * _ROOT_HALF)))


@elementwise
def _log_ndtr_entry(x: Any) -> Any:
    return _log_ndtr(x)


def log_ndtr(x: Any, series_order: int = 3) -> Any:
    """Logarithm of `ndtr`, exact in both tails.

    `series_order` is taken for compatibility; no asymptotic series is used.

    >>> from bevel.scipy import special
    >>> bnp.round(special.log_ndtr([0.0, -100.0]), 1)
    Array([-7.0000e-01, -5.0055e+03], dtype=float32)
    """
    return _log_ndtr_entry(x)


_CENTER, _TAIL = 0.4, 2.1


def _scaled_center(s: np.ndarray) -> np.ndarray:
    return scipy.special.ndtri(0.5 + _CENTER * s) / s


def _scaled_tail(s: np.ndarray) -> np.ndarray:
    r = _TAIL + unfolded(s, 4.0)
    return -scipy.special.ndtri_exp(-r * r / 2) / r


@custom_jvp
def _ndtri(p: Any) -> Any:
    away = p - 0.5
    s = bnp.minimum(bnp.abs(away) / _CENTER, 1)
    center = bnp.copysign(s, away) * lookup(_scaled_center, s)
    q = bnp.minimum(p, 1 - p)
    r = bnp.sqrt(-2 * bnp.log(bnp.clip(q, float(bnp.finfo(p.dtype).tiny), 0.5 - _CENTER)))
    tail = -bnp.copysign(r, -away) * lookup(_scaled_tail, folded(bnp.maximum(r - _TAIL, 0), 4.0))
    out = bnp.where(bnp.abs(away) <= _CENTER, center, tail)
    out = bnp.where(q == 0, bnp.copysign(bnp.full_like(p, math.inf), away), out)
    return bnp.where(q >= 0, out, math.nan)


_ndtri.defjvps(lambda t, y, p: t * (math.sqrt(2 * math.pi) * bnp.exp(0.5 * y * y)))


@elementwise
def ndtri(p: Any) -> Any:
    """The inverse of `ndtr`; infinite at 0 and 1, NaN beyond.

    >>> from bevel.scipy import special
    >>> bnp.round(special.ndtri([0.5, 0.975]), 4)
    Array([0.  , 1.96], dtype=float32)
    """
    return _ndtri(p)


# -- Owen's T --------------------------------------------------------------------------------------

_ABSCISSAS, _WEIGHTS = np.polynomial.legendre.leggauss(24)
_WIDTH = 8.6
"""Standard deviations after which the integrand does not count."""


def _owens_integral(h: Any, a: Any) -> Any:
    """T(h, a) for 0 <= h and 0 <= a <= 1, by Gauss-Legendre quadrature of its definition."""
    top = bnp.minimum(a, _WIDTH / bnp.maximum(h, 1))
    u = 0.5 * top[..., None] * bnp.asarray(1 + _ABSCISSAS, dtype=h.dtype)
    terms = bnp.exp(-0.5 * (h[..., None] * u) ** 2) / (1 + u * u)
    total = bnp.sum(terms * bnp.asarray(_WEIGHTS, dtype=h.dtype), axis=-1)
    return bnp.exp(-0.5 * h * h) * total * top / (4 * math.pi)


@custom_jvp
def _owens_t(h: Any, a: Any) -> Any:
    x, slope = bnp.abs(h), bnp.abs(a)
    steep = slope > 1
    y = bnp.where(steep & (slope < math.inf), slope, 1) * x
    inner = _owens_integral(
        bnp.where(steep, y, x), bnp.where(steep, 1 / bnp.where(steep, slope, 1), slope)
    )
    # Where T(h, 1 / a) is the easier: the halves of the plane by erf near 0, by erfc far out.
    near = 0.25 * (1 - lax.erf(x * _ROOT_HALF) * lax.erf(y * _ROOT_HALF))
    p, q = 0.5 * lax.erfc(x * _ROOT_HALF), 0.5 * lax.erfc(y * _ROOT_HALF)
    far = 0.5 * (p + q) - p * q
    whole = bnp.where(x < 0.67, near, far)
    # An infinite slope: half the tail beyond h.
    whole = bnp.where(slope == math.inf, 0.5 * p, whole - inner)
    out = bnp.where(steep, whole, inner)
    out = bnp.where(x == math.inf, 0, out)
    out = bnp.where(bnp.isnan(h) | bnp.isnan(a), math.nan, out)
    return bnp.where(a < 0, -out, out)


_owens_t.defjvps(
    lambda t, y, h, a: (
        t * (-0.5 / math.sqrt(2 * math.pi)) * bnp.exp(-0.5 * h * h) * lax.erf(a * h * _ROOT_HALF)
    ),
    lambda t, y, h, a: t * bnp.exp(-0.5 * h * h * (1 + a * a)) / (2 * math.pi * (1 + a * a)),
)


@elementwise
def owens_t(h: Any, a: Any) -> Any:
    """Owen's T function: how likely X > h and 0 < Y < a X are for independent standard normals.

    >>> from bevel.scipy import special
    >>> special.owens_t([0.0, 1.0], 1.0)
    Array([0.125     , 0.06674188], dtype=float32)
    """
    return _owens_t(h, a)
