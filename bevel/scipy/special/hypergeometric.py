"""The hypergeometric functions 1F1 and 2F1 of real arguments, computed in float64.

Series are summed where their terms do not cancel: transformations bring the other arguments there
(Pearson, Olver and Porter, "Numerical methods for the computation of the confluent and Gauss
hypergeometric functions", 2014). Derivatives with respect to parameters are those of the sums.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import bevel.numpy as bnp
from bevel import lax
from bevel.api.custom import custom_jvp
from bevel.api.derivatives import jvp
from bevel.scipy.special.entry import elementwise
from bevel.scipy.special.factorials import gammasgn

_FEWEST, _MOST = 64, 20_000
"""Terms of a series: derivatives with respect to parameters may need more than the sum itself."""


def _series(ratio: Callable, active: Any, fewest: Any = _FEWEST) -> Any:
    """1 + r0 + r0 r1 + ..., where `ratio(k)` is the next term over term k, for `active` entries."""

    def more(state: Any) -> Any:
        k, term, total = state
        unfinished = active & (bnp.abs(term) > 1e-17 * bnp.abs(total)) & bnp.isfinite(total)
        return (k < fewest) | ((k < _MOST) & bnp.any(unfinished))

    def step(state: Any) -> Any:
        k, term, total = state
        term = term * ratio(k)
        return k + 1, term, total + term

    one = bnp.where(active, 1.0, bnp.ones_like(ratio(0.0)))
    return lax.while_loop(more, step, (bnp.zeros((), dtype=one.dtype), one, one))[2]


def _is_minus_whole(x: Any) -> Any:
    return (x <= 0) & (x == bnp.floor(x))


def _gamma_ratio(over: tuple, under: tuple) -> Any:
    """Products of gamma functions, one over the other; 0 if a pole is in the lower one only."""
    log = sum(map(lax.lgamma, over)) - sum(map(lax.lgamma, under))
    signs = [gammasgn(bnp.where(_is_minus_whole(x), 1, x)) for x in (*over, *under)]
    zero = functools.reduce(lambda p, q: p | q, map(_is_minus_whole, under))
    return bnp.where(zero, 0, math.prod(signs, start=1) * bnp.exp(bnp.where(zero, 0, log)))


def _by_parameters(raw: Callable, count: int) -> list[Callable]:
    """The rules of the first `count` arguments: derivatives of `raw` in that direction."""

    def rule(i: int, t: Any, y: Any, *args: Any) -> Any:
        def along(x: Any) -> Any:
            return raw(*args[:i], x, *args[i + 1 :])

        return t * jvp(along, (args[i],), (bnp.ones_like(args[i]),))[1]

    return [functools.partial(rule, i) for i in range(count)]


# -- the confluent function ------------------------------------------------------------------------

_ASYMPTOTIC = 600.0
_ASYMPTOTIC_TERMS = 60


def _confluent(a: Any, b: Any, x: Any, smooth: bool = False) -> Any:
    """The function; with `smooth` also good to differentiate with respect to `a` where it is a
    polynomial.
    """
    # At a pole, polynomials are finite that end before their denominator does.
    blocked = _is_minus_whole(b) & ~(_is_minus_whole(a) & (a >= b) & (a < 0))
    # Kummer's transformation: a negative x becomes a positive one.
    left = (x < 0) if smooth else (x < 0) & ~_is_minus_whole(a)
    a, x = bnp.where(left, b - a, a), bnp.where(left, -x, x)
    finite, size = _is_minus_whole(a), bnp.abs(x)
    far = (size > _ASYMPTOTIC) & ~finite
    s, c = bnp.where(far | blocked, 1, x), bnp.where(blocked, 1, b)

    def ratio(k: Any) -> Any:
        over, under = a + k, c + k
        # Where the denominator ends, the polynomial has ended before.
        return over / bnp.where(under == 0, 1, under) * s / (k + 1)

    # The derivatives of a polynomial are none: their terms go on.
    active = ~far & ~blocked & ~bnp.isnan(s)
    largest = bnp.max(bnp.where(active, bnp.clip(bnp.abs(s), 0, 1e3), 0), initial=0)
    fewest = _FEWEST + 4 * largest if smooth else _FEWEST
    near = _series(ratio, active, fewest)
    near = bnp.where(left, bnp.exp(-s) * near, near)
    # Its asymptotic series, cut where terms no longer fall.
    big = bnp.clip(bnp.where(far, size, _ASYMPTOTIC), None, 1e300)

    def step(k: Any, state: tuple) -> tuple:
        term, total, falling = state
        k = bnp.asarray(k, dtype=big.dtype)
        following = term * (c - a + k) * (1 - a + k) / ((k + 1) * big)
        falling = falling & (bnp.abs(following) < bnp.abs(term))
        term = bnp.where(falling, following, 0)
        return term, total + term, falling

    one = bnp.ones_like(big)
    _, total, _ = lax.fori_loop(0, _ASYMPTOTIC_TERMS, step, (one, one, big > 0))
    power = _gamma_ratio((c,), (bnp.where(far, a, 1),)) * total
    power = power * bnp.exp(bnp.where(left, 0, big) + (a - c) * bnp.log(big))
    out = bnp.where(far, power, near)
    out = bnp.where(blocked, math.inf, out)
    return bnp.where(bnp.isnan(a + b + x), math.nan, out)


@custom_jvp
def _hyp1f1(a: Any, b: Any, x: Any) -> Any:
    return _confluent(a, b, x)


_hyp1f1.defjvps(
    *_by_parameters(functools.partial(_confluent, smooth=True), 2),
    lambda t, y, a, b, x: t * (a / b * _hyp1f1(a + 1, b + 1, x)),
)


@elementwise(wide=True)
def hyp1f1(a: Any, b: Any, x: Any) -> Any:
    """The confluent hypergeometric function 1F1, the sum of (a)_k / (b)_k x**k / k!.

    Digits are lost where `a` is far below 0 or above `b` and `x` is large.

    >>> from bevel.scipy import special
    >>> special.hyp1f1(1.0, 2.0, [0.0, 1.0])
    Array([1.       , 1.7182819], dtype=float32)
    """
    return _hyp1f1(a, b, x)


# -- Gauss's function ------------------------------------------------------------------------------

_STEP_TERMS = 64


def _taylor_step(a: Any, b: Any, c: Any, state: tuple, t: Any) -> tuple:
    """From the function and its derivative at 1 - s to those at 1 - s + t, by the differential
    equation's power series about the first point.
    """
    s, value, slope = state
    z = 1 - s
    scale = t / (z * s)

    def step(k: Any, carry: Any) -> Any:
        # Term k of the function, and coefficient k + 1 times t**k.
        term, lead, value, slope = carry
        k = bnp.asarray(k, dtype=s.dtype)
        new = (k + a) * (k + b) * term - (k + 1) * (k * (2 * s - 1) + c - (a + b + 1) * z) * lead
        new = new * scale / ((k + 1) * (k + 2))
        return lead * t, new, value + lead * t, slope + (k + 2) * new

    _, _, value, slope = lax.fori_loop(0, _STEP_TERMS, step, (value, slope, value, slope))
    return s - t, value, slope


def _towards_one(a: Any, b: Any, c: Any, s: Any) -> Any:
    """F(a, b; c; 1 - s) for 0 < s < 1: by its series up to 1/2, then in steps that each go half of
    the way to the singular point.
    """
    first = bnp.maximum(s, 0.5)

    def ratio(k: Any) -> Any:
        return (a + k) * (b + k) / ((c + k) * (k + 1)) * (1 - first)

    def ratio_of_slope(k: Any) -> Any:
        return (a + 1 + k) * (b + 1 + k) / ((c + 1 + k) * (k + 1)) * (1 - first)

    active = bnp.isfinite(s)
    start = first, _series(ratio, active), a * b / c * _series(ratio_of_slope, active)

    def more(state: tuple) -> Any:
        return bnp.any(state[0] > s)

    def step(state: tuple) -> Any:
        t = bnp.clip(state[0] - s, 0, state[0] / 2)
        new = _taylor_step(a, b, c, state, t)
        # Entries that have arrived stay as they are, and exactly at their goal.
        arrived = state[0] - s <= state[0] / 2
        return (bnp.where(arrived, s, new[0]), *new[1:])

    return lax.while_loop(more, step, start)[1]


def _polynomial(a: Any, b: Any, c: Any, x: Any) -> Any:
    """The sum where `a` is a whole number of at most 0; further terms are 0."""

    def ratio(k: Any) -> Any:
        under = (c + k) * (k + 1)
        return (a + k) * (b + k) / bnp.where(under == 0, 1, under) * x

    return _series(ratio, bnp.isfinite(x))


def _at_one(a: Any, b: Any, c: Any) -> Any:
    """Gauss's theorem."""
    converges = c - a - b > 0
    d = bnp.where(converges, c - a - b, 1)
    found = _gamma_ratio((c, d), (c - a, c - b))
    return bnp.where(converges, found, math.inf)


def _ended(a: Any, b: Any, c: Any, x: Any, where: Any) -> Any:
    """The polynomial in `x` that the sum is, where it is one."""
    first, second = bnp.maximum(a, b), bnp.minimum(a, b)
    ends = _is_minus_whole(first) & ~(_is_minus_whole(c) & (first < c))
    first, second = bnp.where(ends, first, second), bnp.where(ends, second, first)
    return _polynomial(
        *[bnp.where(where, v, w) for v, w in ((first, 0), (second, 0), (c, 1), (x, 0))]
    )


def _ends(a: Any, b: Any, c: Any) -> Any:
    """Whether the sum ends, before its denominator does."""
    pole = _is_minus_whole(c)
    return (_is_minus_whole(a) & ~(pole & (a < c))) | (_is_minus_whole(b) & ~(pole & (b < c)))


def _gauss(a: Any, b: Any, c: Any, x: Any, smooth: bool = False) -> Any:
    """The function; with `smooth` also good to differentiate with respect to parameters where it is
    a polynomial.
    """
    pole, power, whole = _is_minus_whole(c), c - a - b, (c - a - b) == bnp.floor(c - a - b)
    # Euler's transformation, where it leads to a polynomial.
    euler = (x < 1) | (whole & (x > 1))
    # At a pole that one of `a` and `b` shares there are two limits: SciPy's choice.
    alone = (a == c) | ((b == c) & ~pole)
    euler = euler & (alone | (_ends(c - a, c - b, c) & ~_ends(a, b, c)))
    finite = _ends(a, b, c) & ~euler
    if smooth:
        euler, finite = euler & ((x > 1) | pole), finite & ((x > 1) | pole)
    inside = (x < 1) & bnp.isfinite(x) & ~finite & ~euler & ~pole
    edge = (x == 1) & ~finite & ~pole
    poly = _ended(a, b, c, x, finite)
    shifted = _ended(c - a, c - b, c, x, euler & ~alone)
    shifted = shifted * bnp.where(euler, 1 - x, 1) ** bnp.where(euler, power, 1)
    # Pfaff's transformation: a negative x goes between 0 and 1. Euler's takes a pole at 1 away.
    left, steep = inside & (x < 0), inside & (x >= 0) & (power < 0)
    c_safe, s = bnp.where(inside, c, 1), 1 - bnp.where(inside, x, 0)
    p = bnp.where(left, bnp.minimum(a, b), bnp.where(steep, c - a, a))
    q = bnp.where(left, c - bnp.maximum(a, b), bnp.where(steep, c - b, b))
    p, q = bnp.where(inside, p, 0), bnp.where(inside, q, 0)
    found = _towards_one(p, q, c_safe, bnp.where(left, 1 / s, s))
    found = found * bnp.exp(bnp.where(left, -p, bnp.where(steep, power, 0)) * bnp.log(s))
    one = _at_one(*[bnp.where(edge, v, w) for v, w in ((a, 0), (b, 0), (c, 1))])
    out = bnp.where(inside, found, bnp.where(edge, one, math.inf))
    out = bnp.where(finite, poly, bnp.where(euler, shifted, out))
    out = bnp.where((x == 0) & ~bnp.isnan(a + b + c), 1, out)
    return bnp.where(bnp.isnan(a + b + c + x) | (x == -math.inf), math.nan, out)


@custom_jvp
def _hyp2f1(a: Any, b: Any, c: Any, x: Any) -> Any:
    return _gauss(a, b, c, x)


_hyp2f1.defjvps(
    *_by_parameters(functools.partial(_gauss, smooth=True), 3),
    lambda t, y, a, b, c, x: t * (a * b / c * _hyp2f1(a + 1, b + 1, c + 1, x)),
)


@elementwise(wide=True)
def hyp2f1(a: Any, b: Any, c: Any, x: Any) -> Any:
    """The hypergeometric function 2F1, the sum of (a)_k (b)_k / (c)_k x**k / k! and its
    continuation to x < -1.

    Beyond x = 1 it is infinite, unless `a` or `b` is a whole number of at most 0 and it is a
    polynomial.

    >>> from bevel.scipy import special
    >>> special.hyp2f1(1.0, 1.0, 2.0, [-1.0, 0.5])
    Array([0.6931472, 1.3862944], dtype=float32)
    """
    return _hyp2f1(a, b, c, x)
