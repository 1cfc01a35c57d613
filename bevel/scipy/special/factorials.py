"""The gamma function and what is made of it: logarithms, derivatives, beta functions, zeta."""

from __future__ import annotations

import fractions
import math
from typing import Any

import numpy as np
import scipy.special

import bevel.numpy as bnp
from bevel import lax
from bevel.api.custom import custom_jvp
from bevel.api.derivatives import jvp
from bevel.core.dtypes import float32, float64, is_complex
from bevel.numpy.arguments import integer
from bevel.scipy.special.entry import elementwise
from bevel.scipy.special.tables import lookup

_LARGE = 10.0
_HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)
# B(2k) / (2k (2k - 1)), the series of Stirling's formula in odd powers of 1 / x.
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)


def stirling_remainder(x: Any) -> Any:
    """What Stirling's formula leaves of the logarithm of gamma, from `_LARGE` on."""
    w = 1 / x
    total = bnp.zeros_like(x)
    for c in reversed(_STIRLING):
        total = total * (w * w) + c
    return total * w


def _from_two_to_three(s: np.ndarray) -> np.ndarray:
    return scipy.special.gamma(2 + s)


def _positive_gamma(x: Any) -> Any:
    """gamma(x) for x > 0: shifted to [2, 3] below `_LARGE`, by Stirling's formula from there."""
    y, product = bnp.where(x < _LARGE, x, 2.5), bnp.ones_like(x)
    for _ in range(2):
        low = y < 2
        product, y = bnp.where(low, product / y, product), bnp.where(low, y + 1, y)
    for _ in range(7):
        high = y >= 3
        y = bnp.where(high, y - 1, y)
        product = bnp.where(high, product * y, product)
    # From the upper limit on, the result overflows; its factors still do not give inf * 0.
    far = bnp.clip(x, _LARGE, 180.0 if x.dtype == float64 else 40.0)
    # The power is taken in two halves, which overflow later than the whole.
    root = far ** (far / 2 - 0.25)
    stirling = (
        math.sqrt(2 * math.pi) * root * (root * bnp.exp(-far)) * bnp.exp(stirling_remainder(far))
    )
    return bnp.where(x < _LARGE, product * lookup(_from_two_to_three, y - 2), stirling)


def _sin_pi(x: Any) -> Any:
    """sin(pi x), exactly 0 at whole numbers."""
    r = x - 2 * bnp.round(x / 2)
    return bnp.sin(math.pi * bnp.where(r > 0.5, 1 - r, bnp.where(r < -0.5, -1 - r, r)))


@custom_jvp
def _gamma(x: Any) -> Any:
    size = bnp.abs(x)
    found = _positive_gamma(bnp.where(size == 0, 1, size))
    whole = x == bnp.floor(x)
    mirrored = math.pi / (size * bnp.where(whole, 1, _sin_pi(x))) / found
    out = bnp.where(x > 0, found, bnp.where(whole, math.nan, mirrored))
    out = bnp.where(x == 0, bnp.copysign(bnp.full_like(x, math.inf), x), out)
    return bnp.where(bnp.isnan(x), x, out)


_gamma.defjvps(lambda t, y, x: t * y * lax.digamma(x))


@elementwise(complex=True)
def gamma(x: Any) -> Any:
    """The gamma function, of floats or complex numbers; NaN at negative whole numbers.

    >>> from bevel.scipy import special
    >>> bnp.round(special.gamma([0.5, 5.0]), 4)
    Array([ 1.7725, 24.    ], dtype=float32)
    """
    return bnp.exp(_complex_loggamma(x)) if is_complex(x.dtype) else _gamma(x)


@elementwise
def gammaln(x: Any) -> Any:
    """Logarithm of the absolute value of the gamma function.

    >>> from bevel.scipy import special
    >>> special.gammaln([1.0, 3.0])
    Array([0.       , 0.6931472], dtype=float32)
    """
    return lax.lgamma(x)


@elementwise
def gammasgn(x: Any) -> Any:
    """The sign of the gamma function; at 0 it is that of the zero, at negative whole numbers NaN.

    >>> from bevel.scipy import special
    >>> special.gammasgn([2.5, -0.5])
    Array([ 1., -1.], dtype=float32)
    """
    whole = bnp.floor(x)
    sign = bnp.where(whole % 2 == 0, 1, -1).astype(x.dtype)
    out = bnp.where(x < 0, bnp.where(x == whole, math.nan, sign), 1)
    out = bnp.where(x == 0, bnp.copysign(bnp.ones_like(x), x), out)
    return bnp.where(bnp.isnan(x), x, out)


_SHIFT = 8


@custom_jvp
def _complex_loggamma(z: Any) -> Any:
    # The principal branch is analytic off the negative axis: for Re z < 0 a shift by whole steps
    # keeps it, the sum of principal logarithms making up for the difference.
    left = bnp.real(z) < 0
    w = bnp.where(left, 1 - z, z)
    total = bnp.zeros_like(w)
    for k in range(_SHIFT + 2):
        total = total + bnp.log(w + k)
    far = w + (_SHIFT + 2)
    found = (far - 0.5) * bnp.log(far) - far + _HALF_LOG_TAU + stirling_remainder(far) - total
    # Reflection, with log(sin(pi z)) continued analytically in each half plane.
    up = bnp.where(bnp.imag(z) < 0, bnp.conj(z), z)
    turn = up - bnp.round(bnp.real(up))
    log_sin = -1j * math.pi * (up - 0.5) - math.log(2) + bnp.log(-bnp.expm1(2j * math.pi * turn))
    log_sin = bnp.where(bnp.imag(z) < 0, bnp.conj(log_sin), log_sin)
    out = bnp.where(left, math.log(math.pi) - log_sin - found, found)
    pole = (bnp.imag(z) == 0) & (bnp.real(z) <= 0) & (bnp.real(z) == bnp.floor(bnp.real(z)))
    return bnp.where(pole, complex(math.nan, math.nan), out)


def _complex_digamma(z: Any) -> Any:
    left = bnp.real(z) < 0
    w = bnp.where(left, 1 - z, z)
    total = bnp.zeros_like(w)
    for k in range(_SHIFT + 2):
        total = total + 1 / (w + k)
    far = w + (_SHIFT + 2)
    u = 1 / (far * far)
    series = bnp.zeros_like(w)
    for k, c in reversed(list(enumerate(_STIRLING))):
        series = series * u + (2 * k + 1) * c
    found = bnp.log(far) - 0.5 / far - series * u - total
    return bnp.where(left, found - math.pi / bnp.tan(math.pi * z), found)


_complex_loggamma.defjvps(lambda t, y, z: t * _complex_digamma(z))


@elementwise(complex=True)
def loggamma(x: Any) -> Any:
    """The principal branch of the logarithm of the gamma function; of negative floats NaN.

    >>> from bevel.scipy import special
    >>> special.loggamma([3.0, -0.5])
    Array([0.6931472,       nan], dtype=float32)
    """
    if is_complex(x.dtype):
        return _complex_loggamma(x)
    return bnp.where(x < 0, math.nan, lax.lgamma(bnp.where(x < 0, 1, x)))


@elementwise
def digamma(x: Any) -> Any:
    """Derivative of `gammaln`.

    >>> from bevel.scipy import special
    >>> bnp.round(special.digamma([1.0]), 4)
    Array([-0.5772], dtype=float32)
    """
    return lax.digamma(x)


@elementwise
def polygamma(n: Any, x: Any) -> Any:
    """Derivative of order n of `digamma`, for whole numbers n; differentiable with respect to `x`.

    >>> from bevel.scipy import special
    >>> special.polygamma(1, [1.0])
    Array([1.644934], dtype=float32)
    """
    return lax.polygamma(n, x)


# -- zeta ------------------------------------------------------------------------------------------


_SUMMED, _CORRECTIONS = 12, (1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160)
"""B(2k) / (2k)!"""


def _euler_maclaurin(x: Any, q: Any) -> Any:
    """The Hurwitz zeta function by the Euler-Maclaurin formula, which also continues it below 1.

    It is what derivatives with respect to `x` come from (Johansson, "Rigorous high-precision
    computation of the Hurwitz zeta function and its derivatives", 2015, formula 5).
    """
    total = sum([(q + n) ** -x for n in range(_SUMMED)])
    far = q + _SUMMED
    tail = far / (x - 1) + 0.5
    term = x / far
    for k, c in enumerate(_CORRECTIONS):
        tail = tail + c * term
        term = term * ((x + 2 * k + 1) / far) * ((x + 2 * k + 2) / far)
    return total + far**-x * tail


@custom_jvp
def _hurwitz(x: Any, q: Any) -> Any:
    return lax.zeta(x, q)


_hurwitz.defjvps(
    lambda t, y, x, q: t * jvp(lambda x: _euler_maclaurin(x, q), (x,), (bnp.ones_like(x),))[1],
    lambda t, y, x, q: t * (-x * _hurwitz(x + 1, q)),
)


def _scaled_zeta(s: np.ndarray) -> np.ndarray:
    x = 2 * s - 1
    return (x - 1) * scipy.special.zeta(x)


@custom_jvp
def _middle_zeta(x: Any) -> Any:
    """The Riemann zeta function from -1 to 1."""
    return lookup(_scaled_zeta, (bnp.clip(x, -1, 1) + 1) / 2) / (x - 1)


_middle_zeta.defjvps(
    lambda t, y, x: (
        t * jvp(lambda x: _euler_maclaurin(x, bnp.ones_like(x)), (x,), (bnp.ones_like(x),))[1]
    )
)


def _riemann(x: Any) -> Any:
    left = x < -1
    y = bnp.where(left, 1 - x, x)
    far = _hurwitz(bnp.where(y > 1, y, 2), bnp.ones_like(y))
    middle = bnp.where((y < 1) & ~left, y, 0)
    right = bnp.where(y > 1, far, bnp.where(y == 1, math.inf, _middle_zeta(middle)))
    # The functional equation; gamma overflows before its product with the power does.
    safe = bnp.where(left, x, -2)
    power = safe * math.log(2 * math.pi)
    early = bnp.exp(power) * _gamma(bnp.where(safe > -30, 1 - safe, 1))
    late = bnp.exp(power + lax.lgamma(1 - safe))
    wave = _sin_pi(safe / 2)
    mirror = bnp.where(wave == 0, 0, wave * bnp.where(safe > -30, early, late)) / math.pi
    out = bnp.where(left, mirror * bnp.where(left, right, 1), right)
    return bnp.where(bnp.isnan(x), x, bnp.where(x == math.inf, 1, out))


@elementwise
def _zeta_of_one(x: Any) -> Any:
    return _riemann(x)


@elementwise
def _zeta_of_two(x: Any, q: Any) -> Any:
    return _hurwitz(x, q)


def zeta(x: Any, q: Any = None) -> Any:
    """The Hurwitz zeta function, the sum of (n + q)**-x; without `q` the Riemann zeta function.

    The Riemann function is continued below x = 1, the other one is NaN there.

    >>> from bevel.scipy import special
    >>> bnp.round(special.zeta([2.0, 3.0], 1.0), 4)
    Array([1.6449, 1.2021], dtype=float32)
    """
    return _zeta_of_one(x) if q is None else _zeta_of_two(x, q)


# -- incomplete gamma and beta functions -----------------------------------------------------------


@elementwise
def gammainc(a: Any, x: Any) -> Any:
    """The regularized lower incomplete gamma function.

    >>> from bevel.scipy import special
    >>> special.gammainc(1.0, [0.0, 1.0])
    Array([0.        , 0.63212055], dtype=float32)
    """
    return lax.igamma(a, x)


@elementwise
def gammaincc(a: Any, x: Any) -> Any:
    """The regularized upper incomplete gamma function.

    >>> from bevel.scipy import special
    >>> special.gammaincc(1.0, [0.0, 1.0])
    Array([1.        , 0.36787945], dtype=float32)
    """
    return lax.igammac(a, x)


def _at_poles(a: Any, b: Any) -> tuple[Any, Any, Any, Any]:
    """Where `a` or `b` is a pole; where the beta function is finite there nevertheless; and the two
    arguments that give its size, the first of them positive if it is finite.
    """
    first = (a <= 0) & (a == bnp.floor(a))
    second = (b <= 0) & (b == bnp.floor(b))
    n, other = bnp.where(first, a, b), bnp.where(first, b, a)
    finite = (first | second) & (other == bnp.floor(other)) & (other > 0) & (1 - n - other > 0)
    finite = finite & (n > -math.inf)
    return first | second, finite, bnp.where(finite, 1 - n - other, n), other


def _log_beta(a: Any, b: Any) -> Any:
    """`betaln` of float arrays of one dtype and shape.

    Where an argument is large the logarithms of gamma nearly cancel, so that only what Stirling's
    formula leaves of their difference is computed (DiDonato and Morris, "Algorithm 708", 1992).
    """
    p, q = bnp.minimum(a, b), bnp.maximum(a, b)
    wide = (q >= _LARGE) & (p > 0) & bnp.isfinite(q)
    small, large = bnp.where(wide, p, 1), bnp.where(wide, q, _LARGE)
    both = small + large
    shared = (
        -(large - 0.5) * bnp.log1p(small / large)
        + stirling_remainder(large)
        - stirling_remainder(both)
    )
    one = shared - small * bnp.log(both) + small + lax.lgamma(small)
    far = bnp.where(small >= _LARGE, small, _LARGE)
    two = shared + (far - 0.5) * -bnp.log1p(large / far) - 0.5 * bnp.log(both)
    two = two + _HALF_LOG_TAU + stirling_remainder(far)
    near_p, near_q = bnp.where(wide, 1, p), bnp.where(wide, 1, q)
    plain = lax.lgamma(near_p) + lax.lgamma(near_q) - lax.lgamma(near_p + near_q)
    ends = bnp.where(p == math.inf, math.nan, bnp.where(p > 0, -q, q))
    plain = bnp.where(q == math.inf, ends, plain)
    return bnp.where(wide, bnp.where(small >= _LARGE, two, one), plain)


@custom_jvp
def _betaln(a: Any, b: Any) -> Any:
    pole, finite, n, other = _at_poles(a, b)
    return bnp.where(pole & ~finite, math.inf, _log_beta(n, other))


_betaln.defjvps(
    lambda t, y, a, b: t * (lax.digamma(a) - lax.digamma(a + b)),
    lambda t, y, a, b: t * (lax.digamma(b) - lax.digamma(a + b)),
)


@elementwise
def betaln(a: Any, b: Any) -> Any:
    """Logarithm of the absolute value of the beta function.

    >>> from bevel.scipy import special
    >>> special.betaln(2.0, [2.0])
    Array([-1.7917595], dtype=float32)
    """
    return _betaln(a, b)


@elementwise
def beta(a: Any, b: Any) -> Any:
    """The beta function, gamma(a) gamma(b) / gamma(a + b).

    >>> from bevel.scipy import special
    >>> special.beta(2.0, [2.0])
    Array([0.16666667], dtype=float32)
    """
    pole, finite, _, other = _at_poles(a, b)
    sign = gammasgn(a) * gammasgn(b) * gammasgn(a + b)
    sign = bnp.where(finite, 1 - 2 * (other % 2), bnp.where(pole, 1, sign))
    total = a + b
    vanishes = ~pole & (total <= 0) & (total == bnp.floor(total))
    return bnp.where(vanishes, 0, sign * bnp.exp(_betaln(a, b)))


@elementwise
def betainc(a: Any, b: Any, x: Any) -> Any:
    """The regularized incomplete beta function; differentiable with respect to `x`.

    >>> from bevel.scipy import special
    >>> special.betainc(1.0, 2.0, [0.5])
    Array([0.75], dtype=float32)
    """
    return lax.betainc(a, b, x)


def multigammaln(a: Any, d: Any) -> Any:
    """Logarithm of the multivariate gamma function of dimension `d`, an int known in Python.

    >>> from bevel.scipy import special
    >>> special.multigammaln([1.0], 1)
    Array([0.], dtype=float32)
    """
    d = integer("multigammaln", "d", d)
    if d < 1:
        raise ValueError(f"multigammaln: d must be at least 1, got {d}")

    @elementwise
    def total(a: Any) -> Any:
        terms = sum([lax.lgamma(a - j / 2) for j in range(1, d)], lax.lgamma(a))
        return terms + d * (d - 1) / 4 * math.log(math.pi)

    return total(a)


# -- factorials ------------------------------------------------------------------------------------


def _rounded_where(whole: Any, x: Any) -> Any:
    """`x`, rounded where `whole` holds and the dtype can tell neighbours apart; derivative of x."""
    return x + lax.stop_gradient(bnp.where(whole & (bnp.abs(x) < 1e6), bnp.round(x) - x, 0))


@elementwise
def _factorial(n: Any) -> Any:
    return bnp.where(n < 0, 0, _gamma(bnp.where(n < 0, 1, n + 1)))


def factorial(n: Any, exact: bool = False) -> Any:
    """gamma(n + 1), and 0 for negative n.

    Raises:
        NotImplementedError: `exact` integers are asked for.

    >>> from bevel.scipy import special
    >>> bnp.round(special.factorial([0, 5]), 4)
    Array([  1., 120.], dtype=float32)
    """
    if exact:
        raise NotImplementedError(
            "factorial: exact=True needs integers of any size, which arrays have not.\n"
            "Write instead: math.factorial(n) for an int."
        )
    return _factorial(n)


@elementwise
def _comb(N: Any, k: Any) -> Any:
    inside = (k >= 0) & (N >= 0) & (k <= N)
    n, m = bnp.where(inside, N, 1), bnp.where(inside, k, 1)
    found = bnp.exp(-_betaln(n - m + 1, m + 1)) / (n + 1)
    found = _rounded_where((n == bnp.floor(n)) & (m == bnp.floor(m)), found)
    return bnp.where(inside, found, 0)


def comb(N: Any, k: Any, *, repetition: bool = False) -> Any:
    """How many ways there are to choose `k` of `N` things, with repetition if that is asked for.

    It is 0 unless 0 <= k <= N; between whole numbers it is the generalized binomial coefficient.

    >>> from bevel.scipy import special
    >>> special.comb([5, 6], 2), float(special.comb(3, 2, repetition=True))
    (Array([10., 15.], dtype=float32), 6.0)
    """
    if not repetition:
        return _comb(N, k)
    N, k = bnp.asarray(N), bnp.asarray(k)
    return bnp.where(k == 0, 1.0, _comb(N + k - 1, k))


_PRODUCT = 20


@custom_jvp
def _poch(z: Any, m: Any) -> Any:
    whole = m == bnp.floor(m)
    short = whole & (bnp.abs(m) <= _PRODUCT)
    product = bnp.ones_like(z)
    for k in range(_PRODUCT):
        product = product * bnp.where(k < m, z + k, 1) / bnp.where(k < -m, z - k - 1, 1)
    top = z + m
    pole, top_pole = (z <= 0) & (z == bnp.floor(z)), (top <= 0) & (top == bnp.floor(top))
    small = (bnp.abs(z) < 30) & (bnp.abs(top) < 30)
    ratio = _gamma(bnp.where(small & ~top_pole, top, 1)) / _gamma(bnp.where(small & ~pole, z, 1))
    size = bnp.exp(lax.lgamma(top) - lax.lgamma(z)) * gammasgn(top) * gammasgn(z)
    size = bnp.where(small, ratio, size)
    # Both at a pole, or both nearly: reflected, it is the ratio of the residues.
    mirrored = whole & (z < 1) & ((m < 0) | top_pole)
    residues = bnp.exp(lax.lgamma(1 - z) - lax.lgamma(1 - top)) * bnp.where(m % 2 == 0, 1, -1)
    size = bnp.where(pole, 0, bnp.where(top_pole, math.inf, size))
    size = bnp.where(mirrored, residues, size)
    return bnp.where(short, bnp.where(bnp.isinf(product), math.inf, product), size)


_poch.defjvps(
    lambda t, y, z, m: t * y * (lax.digamma(z + m) - lax.digamma(z)),
    lambda t, y, z, m: t * y * lax.digamma(z + m),
)


@elementwise
def poch(z: Any, m: Any) -> Any:
    """The rising factorial, gamma(z + m) / gamma(z).

    >>> from bevel.scipy import special
    >>> special.poch(2.0, [0.0, 3.0])
    Array([ 1., 24.], dtype=float32)
    """
    return _poch(z, m)


def bernoulli(n: int) -> Any:
    """The Bernoulli numbers B(0) to B(n) as float32, for an int `n` known in Python.

    They are computed as fractions, and rounded once; beyond B(62) their size exceeds float32.

    >>> from bevel.scipy import special
    >>> special.bernoulli(2)
    Array([ 1.        , -0.5       ,  0.16666667], dtype=float32)
    """
    n = integer("bernoulli", "n", n)
    if n < 0:
        raise ValueError(f"bernoulli: n must not be negative, got {n}")
    found, row = [], []
    for m in range(n + 1):
        row.append(fractions.Fraction(1, m + 1))
        for j in range(m, 0, -1):
            row[j - 1] = j * (row[j - 1] - row[j])
        found.append(_as_float(row[0] if m != 1 else -row[0]))
    with np.errstate(over="ignore"):
        return bnp.asarray(np.asarray(found).astype(float32))


def _as_float(x: fractions.Fraction) -> float:
    try:
        return float(x)
    except OverflowError:
        return math.copysign(math.inf, x.numerator)
