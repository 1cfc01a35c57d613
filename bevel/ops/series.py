"""Series and continued fractions for special functions, written once for NumPy and for programs.

A function takes a namespace, `Numpy` or `Program`, the relative tolerance to stop at, and values
with the usual operators: NumPy arrays, or an `Expression` that writes StableHLO. The methods are
those of Cephes (Moshier, "Methods and Programs for Mathematical Functions", 1989); derivatives with
respect to the shape of a gamma distribution follow TensorFlow's igamma, which carries them through
the same recurrences.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

from bevel.core import dtypes

MAX_TERMS = 10_000
_RESCALE = 2.0**52


def tolerance(dtype: np.dtype) -> float:
    """Relative size of the last term: below what the result's dtype can tell."""
    return 1e-16 if dtype == dtypes.float64 else 1e-10


class Numpy:
    """The namespace for arrays."""

    where = staticmethod(np.where)
    exp, log, log1p, abs, sqrt = np.exp, np.log, np.log1p, np.abs, np.sqrt

    @staticmethod
    def lgamma(x):
        """Logarithm of the gamma function."""
        import scipy.special

        return scipy.special.gammaln(x)

    @staticmethod
    def digamma(x):
        """Derivative of lgamma."""
        import scipy.special

        return scipy.special.psi(x)

    @staticmethod
    def loop(more: Callable, step: Callable, state: Sequence) -> list:
        """While `more(*state)` holds anywhere, ``state = step(*state)``."""
        state = list(state)
        while np.any(more(*state)):
            state = list(step(*state))
        return state


class Expression:
    """A value of a program with operators."""

    __slots__ = ("b", "val")

    def __init__(self, b, val):
        self.b = b
        self.val = val

    def lift(self, other) -> Expression:
        """An operand as an expression; a number takes this one's shape and dtype."""
        return (
            other
            if type(other) is Expression
            else Expression(self.b, self.b.full(other, self.val.aval))
        )

    def apply(self, method: str, *others) -> Expression:
        """Call a method of the builder."""
        return Expression(
            self.b, getattr(self.b, method)(self.val, *[self.lift(o).val for o in others])
        )

    def compare(self, other, direction: str) -> Expression:
        """Compare with a direction of `Builder.compare`."""
        return Expression(self.b, self.b.compare(self.val, self.lift(other).val, direction))

    def __add__(self, other):
        return self.apply("add", other)

    def __sub__(self, other):
        return self.apply("subtract", other)

    def __mul__(self, other):
        return self.apply("multiply", other)

    def __truediv__(self, other):
        return self.apply("divide", other)

    def __radd__(self, other):
        return self.lift(other) + self

    def __rsub__(self, other):
        return self.lift(other) - self

    def __rmul__(self, other):
        return self.lift(other) * self

    def __rtruediv__(self, other):
        return self.lift(other) / self

    def __neg__(self):
        return self.apply("negate")

    def __and__(self, other):
        return self.apply("and_", other)

    def __or__(self, other):
        return self.apply("or_", other)

    def __invert__(self):
        return self.apply("not_")

    def __lt__(self, other):
        return self.compare(other, "LT")

    def __le__(self, other):
        return self.compare(other, "LE")

    def __gt__(self, other):
        return self.compare(other, "GT")

    def __ge__(self, other):
        return self.compare(other, "GE")

    def __eq__(self, other):
        return self.compare(other, "EQ")

    def __ne__(self, other):
        return self.compare(other, "NE")

    __hash__ = None  # type: ignore[assignment]


class Program:
    """The namespace for expressions."""

    @staticmethod
    def where(pred: Expression, x, y) -> Expression:
        """`x` where `pred`, else `y`; one of the two may be a number."""
        like = x if type(x) is Expression else y
        return Expression(pred.b, pred.b.select(pred.val, like.lift(x).val, like.lift(y).val))

    exp = staticmethod(lambda x: x.apply("exponential"))
    log = staticmethod(lambda x: x.apply("log"))
    log1p = staticmethod(lambda x: x.apply("log_plus_one"))
    abs = staticmethod(lambda x: x.apply("abs"))
    sqrt = staticmethod(lambda x: x.apply("sqrt"))
    lgamma = staticmethod(lambda x: x.apply("lgamma"))
    digamma = staticmethod(lambda x: x.apply("digamma"))

    @staticmethod
    def loop(more: Callable, step: Callable, state: Sequence[Expression]) -> list[Expression]:
        """While `more(*state)` holds anywhere, ``state = step(*state)``."""
        b = state[0].b

        def cond(inner, *vals):
            found = more(*[Expression(inner, v) for v in vals]).val
            return inner.reduce(found, "or", tuple(range(len(found.aval.shape))))

        def body(inner, *vals):
            return tuple([e.val for e in step(*[Expression(inner, v) for v in vals])])

        return [Expression(b, v) for v in b.while_([e.val for e in state], cond, body)]


# -- the incomplete gamma function ----------------------------------------------------------------


def _gamma_series(xp, eps: float, a, x, slope: bool):
    """Sum of x**n / ((a+1)...(a+n)) and, if `slope`, its derivative in `a`.

    igamma is the sum times x**a exp(-x) / gamma(a+1).
    """

    def more(a, x, r, c, ans, dc=None, dans=None):
        unfinished = c > ans * eps
        if slope:
            unfinished = unfinished | (xp.abs(dc) > xp.abs(dans) * eps)
        return unfinished & (r < a + MAX_TERMS)

    def step(a, x, r, c, ans, dc=None, dans=None):
        r = r + 1.0
        ratio = x / r
        new = c * ratio
        if not slope:
            return a, x, r, new, ans + new
        dc = dc * ratio - new / r
        return a, x, r, new, ans + new, dc, dans + dc

    one, zero = a * 0.0 + 1.0, a * 0.0
    out = xp.loop(more, step, [a, x, a, one, one, *([zero, zero] if slope else [])])
    return out[4], out[-1]


def _gamma_fraction(xp, eps: float, a, x, slope: bool):
    """The continued fraction of igammac and, if `slope`, its derivative in `a`.

    Times x**a exp(-x) / gamma(a) it is igammac.
    """

    def more(a, n, z, ans, change, *rest):
        return (change > eps) & (n < MAX_TERMS)

    def step(a, n, z, ans, change, p1, q1, p2, q2, *slopes):
        n, z = n + 1.0, z + 2.0
        y = n * (n + 1.0 - a)
        p, q = p1 * z - p2 * y, q1 * z - q2 * y
        valid = q != 0.0
        safe = xp.where(valid, q, 1.0)
        new = xp.where(valid, p / safe, ans)
        change = xp.abs((ans - new) / new)
        shrink = xp.where(xp.abs(p) > _RESCALE, 1.0 / _RESCALE, p * 0.0 + 1.0)
        after = [v * shrink for v in (p, q, p1, q1)]
        if slope:
            dans, dp1, dq1, dp2, dq2 = slopes
            dp = dp1 * z - p1 - dp2 * y + p2 * n
            dq = dq1 * z - q1 - dq2 * y + q2 * n
            dnew = xp.where(valid, (dp - new * dq) / safe, dans)
            change = change + xp.abs(dnew - dans) / (1.0 + xp.abs(dnew))
            after += [dnew, *[v * shrink for v in (dp, dq, dp1, dq1)]]
        return (a, n, z, new, xp.where(valid, change, 1.0), *after)

    one, zero = a * 0.0 + 1.0, a * 0.0
    z = x - a + 2.0
    p1, q1 = x + 1.0, z * x
    ans = p1 / q1
    # At the start the derivatives of p1 and q1 are 0 and -x.
    slopes = [ans * x / q1, zero, -x, zero, zero] if slope else []
    out = xp.loop(more, step, [a, zero, z, ans, one, p1, q1, one, x, *slopes])
    return out[3], out[9] if slope else None


def _gamma_parts(xp, eps: float, a, x, slope: bool):
    """(Where the fraction applies, log of x**a exp(-x) / gamma(a), the series, the fraction)."""
    fraction = (x > 1.0) & (x > a)
    inside = (a > 0.0) & (x > 0.0) & (x < math.inf) & (a < math.inf)
    by_series, by_fraction = inside & ~fraction, inside & fraction
    log_scale = a * xp.log(x) - x - xp.lgamma(a)
    series = _gamma_series(xp, eps, xp.where(by_series, a, 1.0), xp.where(by_series, x, 0.5), slope)
    fractions = _gamma_fraction(
        xp, eps, xp.where(by_fraction, a, 1.0), xp.where(by_fraction, x, 2.0), slope
    )
    return by_fraction, log_scale, series, fractions


def _igamma_either(xp, eps: float, a, x, upper: bool):
    by_fraction, log_scale, (low, _), (high, _) = _gamma_parts(xp, eps, a, x, slope=False)
    scale = xp.exp(log_scale)
    low, high = scale * low / a, scale * high
    out = xp.where(by_fraction, high if upper else 1.0 - high, 1.0 - low if upper else low)
    none, all_ = (1.0, 0.0) if upper else (0.0, 1.0)
    out = xp.where((a == 0.0) | (x == math.inf), a * 0.0 + all_, out)
    out = xp.where((x == 0.0) | (a == math.inf), x * 0.0 + none, out)
    undefined = (x < 0.0) | (a < 0.0) | (x != x) | (a != a)
    undefined = undefined | ((a == x) & ((a == 0.0) | (a == math.inf)))
    return xp.where(undefined, math.nan, out)


def igamma(xp, eps: float, a, x):
    """The regularized lower incomplete gamma function."""
    return _igamma_either(xp, eps, a, x, upper=False)


def igammac(xp, eps: float, a, x):
    """The regularized upper incomplete gamma function."""
    return _igamma_either(xp, eps, a, x, upper=True)


def random_gamma_grad(xp, eps: float, a, x):
    """How a sample `x` of a gamma distribution moves with the shape `a` at fixed probability."""
    by_fraction, _, (low, dlow), (high, dhigh) = _gamma_parts(xp, eps, a, x, slope=True)
    log_x = xp.log(x)
    series = -(dlow + low * (log_x - xp.digamma(a + 1.0))) * x / a
    fraction = (dhigh + high * (log_x - xp.digamma(a))) * x
    out = xp.where(by_fraction, fraction, series)
    out = xp.where(x == 0.0, x * 0.0, out)
    undefined = (x < 0.0) | (a <= 0.0) | (x != x) | (a != a) | (x == math.inf) | (a == math.inf)
    return xp.where(undefined, math.nan, out)


# -- the incomplete beta function -----------------------------------------------------------------


def betainc(xp, eps: float, a, b, x):
    """The regularized incomplete beta function, by Lentz's method on its continued fraction."""
    inside = (a > 0.0) & (b > 0.0) & (x > 0.0) & (x < 1.0) & (a < math.inf) & (b < math.inf)
    p, q, y = xp.where(inside, a, 1.0), xp.where(inside, b, 1.0), xp.where(inside, x, 0.5)
    direct = y < (p + 1.0) / (p + q + 2.0)
    p, q, y = xp.where(direct, p, q), xp.where(direct, q, p), xp.where(direct, y, 1.0 - y)

    def away(v):
        return xp.where(xp.abs(v) < 1e-300, 1e-300, v)

    def more(p, q, y, n, c, d, h, change):
        return (change > eps) & (n < MAX_TERMS)

    def step(p, q, y, n, c, d, h, change):
        even = n * (q - n) * y / ((p + 2.0 * n - 1.0) * (p + 2.0 * n))
        d = 1.0 / away(1.0 + even * d)
        c = away(1.0 + even / c)
        h = h * (c * d)
        odd = -(p + n) * (p + q + n) * y / ((p + 2.0 * n) * (p + 2.0 * n + 1.0))
        d = 1.0 / away(1.0 + odd * d)
        c = away(1.0 + odd / c)
        return p, q, y, n + 1.0, c, d, h * (c * d), xp.abs(c * d - 1.0)

    one = p * 0.0 + 1.0
    d = 1.0 / away(1.0 - (p + q) * y / (p + 1.0))
    h = xp.loop(more, step, [p, q, y, one, one, d, d, one])[6]
    log_scale = p * xp.log(y) + q * xp.log1p(-y) - xp.lgamma(p) - xp.lgamma(q) + xp.lgamma(p + q)
    out = xp.exp(log_scale) * h / p
    out = xp.where(direct, out, 1.0 - out)
    zero = x * 0.0
    out = xp.where(b == 0.0, zero, out)
    out = xp.where(x == 0.0, zero, xp.where((x == 1.0) | (a == 0.0), zero + 1.0, out))
    undefined = (a < 0.0) | (b < 0.0) | (x < 0.0) | (x > 1.0) | (x != x) | (a != a) | (b != b)
    return xp.where(undefined | ((a == 0.0) & (b == 0.0)), math.nan, out)


# -- Bessel functions -----------------------------------------------------------------------------


@functools.cache
def _chebyshev(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Chebyshev coefficients of a scaled Bessel function to 8, and beyond of sqrt(x) times it."""
    import scipy.special

    fn = getattr(scipy.special, name)
    near = np.polynomial.chebyshev.chebinterpolate(lambda y: fn(4 * (y + 1)), 30)
    far = np.polynomial.chebyshev.chebinterpolate(
        lambda y: fn(16 / (y + 1)) * np.sqrt(16 / (y + 1)), 25
    )
    return tuple(near.tolist()), tuple(far.tolist())


def _clenshaw(coefficients: Sequence[float], y):
    """Sum of a Chebyshev series."""
    b1 = b2 = y * 0.0
    for c in reversed(coefficients[1:]):
        b1, b2 = 2.0 * y * b1 - b2 + c, b1
    return y * b1 - b2 + coefficients[0]


def bessel_i0e(xp, eps: float, x):
    """The modified Bessel function of order 0, times exp(-abs(x))."""
    near, far = _chebyshev("i0e")
    x = xp.abs(x)
    far_x = xp.where(x > 8.0, x, 8.0)
    small = _clenshaw(near, xp.where(x > 8.0, 8.0, x) * 0.25 - 1.0)
    return xp.where(x > 8.0, _clenshaw(far, 16.0 / far_x - 1.0) / xp.sqrt(far_x), small)
