"""Exponential, sine, cosine and Fresnel integrals, and the dilogarithm."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.special

import bevel.numpy as bnp
from bevel import lax
from bevel.api.custom import custom_jvp
from bevel.scipy.special.entry import elementwise
from bevel.scipy.special.tables import folded, lookup, unfolded

_EULER = float(np.euler_gamma)

# -- exponential integrals -------------------------------------------------------------------------

_E1_FOLD, _EI_FOLD = 2.0, 8.0
_ASYMPTOTIC = 500.0


def _asymptotic(x: np.ndarray, sign: float) -> np.ndarray:
    """The product x exp(x) E1(x), or with sign 1 x exp(-x) Ei(x), beyond `_ASYMPTOTIC`."""
    total = np.ones_like(x)
    for k in range(9, 0, -1):
        total = 1 + sign * k / x * total
    return total


def _scaled_e1(s: np.ndarray) -> np.ndarray:
    x = 1 + unfolded(s, _E1_FOLD)
    y = np.minimum(x, _ASYMPTOTIC)
    near = y * np.exp(y) * scipy.special.exp1(y)
    return np.where(x < _ASYMPTOTIC, near, _asymptotic(x, -1.0))


def _scaled_ei(s: np.ndarray) -> np.ndarray:
    x = 1 + unfolded(s, _EI_FOLD)
    y = np.minimum(x, _ASYMPTOTIC)
    near = y * np.exp(-y) * scipy.special.expi(y)
    return np.where(x < _ASYMPTOTIC, near, _asymptotic(x, 1.0))


def _entire(x: np.ndarray) -> np.ndarray:
    """The sum of x**(k - 1) / (k k!), the part of Ei that is a power series, divided by x."""
    total = np.zeros_like(x)
    for k in range(25, 0, -1):
        total = total * x + 1 / (k * math.factorial(k))
    return total


def _entire_signed(s: np.ndarray) -> np.ndarray:
    return _entire(2 * s - 1)


@custom_jvp
def _exp1(x: Any) -> Any:
    low = bnp.clip(x, 0, 1)
    near = low * lookup(_entire_signed, (1 - low) / 2) - _EULER - bnp.log(low)
    high = bnp.maximum(x, 1)
    far = lookup(_scaled_e1, folded(high - 1, _E1_FOLD)) * bnp.exp(-high) / high
    return bnp.where(x < 0, math.nan, bnp.where(x < 1, near, far))


_exp1.defjvps(lambda t, y, x: t * (-bnp.exp(-x) / x))


@elementwise
def exp1(x: Any) -> Any:
    """The exponential integral E1, of exp(-t) / t from x to infinity; NaN below 0.

    >>> from bevel.scipy import special
    >>> bnp.round(special.exp1([0.0, 1.0]), 4)
    Array([   inf, 0.2194], dtype=float32)
    """
    return _exp1(x)


@custom_jvp
def _expi(x: Any) -> Any:
    low = bnp.clip(x, 0, 1)
    near = low * lookup(_entire_signed, (1 + low) / 2) + _EULER + bnp.log(low)
    high = bnp.maximum(x, 1)
    half = bnp.exp(high / 2)
    far = lookup(_scaled_ei, folded(high - 1, _EI_FOLD)) / high * half * half
    far = bnp.where(x == math.inf, x, far)
    right = bnp.where(x < 1, near, far)
    return bnp.where(x < 0, -_exp1(bnp.where(x < 0, -x, 1)), right)


_expi.defjvps(lambda t, y, x: t * (bnp.exp(x) / x))


@elementwise
def expi(x: Any) -> Any:
    """The exponential integral Ei, of exp(t) / t from minus infinity to x, a principal value.

    >>> from bevel.scipy import special
    >>> bnp.round(special.expi([-1.0, 0.0, 1.0]), 4)
    Array([-0.2194,    -inf,  1.8951], dtype=float32)
    """
    return _expi(x)


_TERMS, _LEVELS = 24, 90


def _expn_series(n: Any, x: Any) -> Any:
    """E_n(x) for 0 < x <= 1 and n > 0."""
    term, total = bnp.ones_like(x), bnp.zeros_like(x)
    for k in range(_TERMS):
        gap = n - 1 - k
        total = total + bnp.where(gap == 0, 0, term / bnp.where(gap == 0, 1, gap))
        term = term * (-x / (k + 1))
    small = bnp.minimum(n, 2.0 * _TERMS)
    power = bnp.exp((small - 1) * bnp.log(x) - lax.lgamma(small))
    power = power * bnp.where(small % 2 == 1, 1, -1) * (lax.digamma(small) - bnp.log(x))
    return total + bnp.where(n < 2 * _TERMS, power, 0)


def _expn_fraction(n: Any, x: Any) -> Any:
    """E_n(x) for x >= 1 by its continued fraction, from the innermost level outwards."""

    def level(i: Any, tail: Any) -> Any:
        k = (_LEVELS - i).astype(x.dtype)
        return k * (n + k - 1) / (x + n + 2 * k - tail)

    tail = lax.fori_loop(0, _LEVELS, level, bnp.zeros_like(x))
    return bnp.exp(-x) / (x + n - tail)


@custom_jvp
def _expn(n: Any, x: Any) -> Any:
    order, low = bnp.maximum(n, 1), (x > 0) & (x <= 1)
    near = _expn_series(order, bnp.where(low, x, 1))
    far = _expn_fraction(order, bnp.clip(x, 1, 1e4))
    out = bnp.where(low, near, bnp.where(x > 1e4, 0, far))
    out = bnp.where(x == 0, bnp.where(n > 1, 1 / bnp.where(n > 1, n - 1, 1), math.inf), out)
    out = bnp.where(n == 0, bnp.exp(-x) / x, out)
    return bnp.where((n < 0) | (x < 0) | bnp.isnan(x), math.nan, out)


_expn.defjvps(
    None, lambda t, y, n, x: -t * bnp.where(n == 0, bnp.exp(-x) * (1 / x + 1 / x**2), _down(n, x))
)


def _down(n: Any, x: Any) -> Any:
    return _expn(bnp.maximum(n - 1, 0), x)


@elementwise
def expn(n: Any, x: Any) -> Any:
    """The exponential integral of order n, of exp(-x t) / t**n from 1 to infinity.

    `n` is a whole number of at least 0, and no variable to differentiate by; NaN for negative x.

    >>> from bevel.scipy import special
    >>> bnp.round(special.expn([0, 2], 1.0), 4)
    Array([0.3679, 0.1485], dtype=float32)
    """
    return _expn(n, x)


# -- sine and cosine integrals ---------------------------------------------------------------------

_SWITCH, _FOLD = 4.0, 4.0


def _scaled_si(s: np.ndarray) -> np.ndarray:
    return scipy.special.sici(_SWITCH * s)[0] / s


def _scaled_cin(s: np.ndarray) -> np.ndarray:
    x = _SWITCH * s
    total = np.zeros_like(x)
    for k in range(20, 0, -1):
        total = total * -(x * x) + 1 / (2 * k * math.factorial(2 * k))
    return total


def _auxiliary(s: np.ndarray) -> np.ndarray:
    """The sum x f(x) + i x**2 g(x), where sici(x) is made of f and g times sine and cosine."""
    x = _SWITCH + unfolded(s, _FOLD)
    near = np.minimum(x, 100.0)
    found = np.exp(1j * near) * scipy.special.exp1(1j * near)
    f, g = -found.imag * near, found.real * near**2
    # From 100 on, their asymptotic series.
    w = 1 / x**2
    far_f = 1 - 2 * w * (1 - 12 * w * (1 - 30 * w * (1 - 56 * w)))
    far_g = 1 - 6 * w * (1 - 20 * w * (1 - 42 * w * (1 - 72 * w)))
    return np.where(x < 100, f, far_f) + 1j * np.where(x < 100, g, far_g)


def _sici_f(s: np.ndarray) -> np.ndarray:
    return _auxiliary(s).real


def _sici_g(s: np.ndarray) -> np.ndarray:
    return _auxiliary(s).imag


@custom_jvp
def _sici(x: Any) -> Any:
    size = bnp.abs(x)
    low = bnp.minimum(size, _SWITCH)
    near_si = low / _SWITCH * lookup(_scaled_si, low / _SWITCH)
    near_ci = _EULER + bnp.log(low) - low * low * lookup(_scaled_cin, low / _SWITCH)
    high = bnp.maximum(size, _SWITCH)
    s = folded(high - _SWITCH, _FOLD)
    f, g = lookup(_sici_f, s) / high, lookup(_sici_g, s) / high / high
    angle = bnp.where(bnp.isinf(high), 0, high)
    sin, cos = bnp.sin(angle), bnp.cos(angle)
    si = bnp.where(size < _SWITCH, near_si, math.pi / 2 - f * cos - g * sin)
    ci = bnp.where(size < _SWITCH, near_ci, f * sin - g * cos)
    ci = bnp.where(x == -math.inf, math.nan, ci)
    return bnp.copysign(si, x), ci


def _sici_jvp(primals: Any, tangents: Any) -> Any:
    (x,), (t,) = primals, tangents
    safe = bnp.where(x == 0, 1, x)
    slope = bnp.where(x == 0, 1, bnp.sin(x) / safe)
    return _sici(x), (t * slope, t * (bnp.cos(x) / x))


_sici.defjvp(_sici_jvp)


@elementwise
def sici(x: Any) -> tuple[Any, Any]:
    """The sine and the cosine integral; below 0 the second is the real part, that of -x.

    >>> from bevel.scipy import special
    >>> [bnp.round(y, 4) for y in special.sici([1.0])]
    [Array([0.9461], dtype=float32), Array([0.3374], dtype=float32)]
    """
    return _sici(x)


# -- Fresnel integrals -----------------------------------------------------------------------------

_FRESNEL_SWITCH, _FRESNEL_FOLD = 1.5, 1.5


def _fresnel_series(s: np.ndarray, first: int) -> np.ndarray:
    """The power series of S / x**3 (first is 1) or C / x (first is 0) in x**4."""
    u = (math.pi / 2 * (_FRESNEL_SWITCH * s) ** 2) ** 2
    total = np.zeros_like(u)
    for k in range(20, -1, -1):
        order = 2 * k + first
        total = total * -u + 1 / (math.factorial(order) * (2 * order + 1))
    return total * (math.pi / 2) ** first


def _scaled_s(s: np.ndarray) -> np.ndarray:
    return _fresnel_series(s, 1)


def _scaled_c(s: np.ndarray) -> np.ndarray:
    return _fresnel_series(s, 0)


def _fresnel_auxiliary(s: np.ndarray) -> np.ndarray:
    """pi**2 x**3 g(x) + i pi x f(x), where fresnel(x) is made of f and g times sine and cosine."""
    x = _FRESNEL_SWITCH + unfolded(s, _FRESNEL_FOLD)
    near = np.minimum(x, 50.0)
    found = (1 + 1j) / 2 * scipy.special.wofz(math.sqrt(math.pi) / 2 * (1 + 1j) * near)
    f, g = found.imag * math.pi * near, found.real * math.pi**2 * near**3
    w = 1 / (math.pi * x * x) ** 2
    far_f = 1 - 3 * w * (1 - 35 * w * (1 - 99 * w))
    far_g = 1 - 15 * w * (1 - 63 * w * (1 - 143 * w))
    return np.where(x < 50, g, far_g) + 1j * np.where(x < 50, f, far_f)


def _fresnel_f(s: np.ndarray) -> np.ndarray:
    return _fresnel_auxiliary(s).imag


def _fresnel_g(s: np.ndarray) -> np.ndarray:
    return _fresnel_auxiliary(s).real


def _quarter_turns(x: Any) -> tuple[Any, Any]:
    """Sine and cosine of pi / 2 x**2, the square taken modulo 4 before it is rounded."""
    even = 2 * bnp.round(x / 2)
    rest = x - even
    turns = rest * rest + 4 * ((even / 2 * rest) % 1)
    return bnp.sin(math.pi / 2 * turns), bnp.cos(math.pi / 2 * turns)


@custom_jvp
def _fresnel(x: Any) -> Any:
    size = bnp.abs(x)
    low = bnp.minimum(size, _FRESNEL_SWITCH)
    s = low / _FRESNEL_SWITCH
    near_s, near_c = low**3 * lookup(_scaled_s, s), low * lookup(_scaled_c, s)
    high = bnp.maximum(size, _FRESNEL_SWITCH)
    s = folded(high - _FRESNEL_SWITCH, _FRESNEL_FOLD)
    f = lookup(_fresnel_f, s) / (math.pi * high)
    g = lookup(_fresnel_g, s) / (math.pi * high) / (math.pi * high) / high
    sin, cos = _quarter_turns(bnp.where(bnp.isinf(high), 0, high))
    far_s, far_c = 0.5 - f * cos - g * sin, 0.5 + f * sin - g * cos
    inside = size < _FRESNEL_SWITCH
    out = bnp.where(inside, near_s, far_s), bnp.where(inside, near_c, far_c)
    return bnp.copysign(out[0], x), bnp.copysign(out[1], x)


def _fresnel_jvp(primals: Any, tangents: Any) -> Any:
    (x,), (t,) = primals, tangents
    sin, cos = _quarter_turns(x)
    return _fresnel(x), (t * sin, t * cos)


_fresnel.defjvp(_fresnel_jvp)


@elementwise
def fresnel(x: Any) -> tuple[Any, Any]:
    """The Fresnel integrals S and C: of the sine and the cosine of pi / 2 t**2 from 0 to x.

    >>> from bevel.scipy import special
    >>> [bnp.round(y, 4) for y in special.fresnel([1.0])]
    [Array([0.4383], dtype=float32), Array([0.7799], dtype=float32)]
    """
    return _fresnel(x)


# -- the dilogarithm -------------------------------------------------------------------------------


def _scaled_spence(s: np.ndarray) -> np.ndarray:
    x = 0.5 + 1.5 * s
    return scipy.special.spence(x) / (1 - x)


@custom_jvp
def _spence(x: Any) -> Any:
    large = x > 2
    y = bnp.where(large, 1 / bnp.where(large, x, 1), x)
    small = y < 0.5
    z = bnp.where(small, 1 - y, y)
    core = (1 - z) * lookup(_scaled_spence, (z - 0.5) / 1.5)
    safe = bnp.where(small & (y > 0), y, 0.5)
    product = bnp.where(y == 0, 0, bnp.log(safe) * bnp.log1p(-safe))
    out = bnp.where(small, math.pi**2 / 6 - product - core, core)
    log = bnp.log(bnp.where(large, x, 1))
    out = bnp.where(large, -0.5 * log * log - out, out)
    # The limit at infinity would be -inf; SciPy has NaN.
    return bnp.where((x < 0) | (x == math.inf), math.nan, out)


def _spence_slope(x: Any) -> Any:
    near = bnp.abs(x - 1) < 1e-3
    safe = bnp.where(near, 2, x)
    d = bnp.where(near, x - 1, 0)
    return bnp.where(near, -1 + d / 2 - d * d / 3 + d**3 / 4, bnp.log(safe) / (1 - safe))


_spence.defjvps(lambda t, y, x: t * _spence_slope(x))


@elementwise
def spence(x: Any) -> Any:
    """Spence's function, the dilogarithm of 1 - x; NaN below 0.

    >>> from bevel.scipy import special
    >>> bnp.round(special.spence([0.0, 1.0, 2.0]), 4)
    Array([ 1.6449,  0.    , -0.8225], dtype=float32)
    """
    return _spence(x)
