"""Distributions of real numbers."""

from __future__ import annotations

import math
from typing import Any

import bevel.numpy as bnp
from bevel.scipy.special.bessel import i0e
from bevel.scipy.special.elementary import expit, logit, xlog1py, xlogy
from bevel.scipy.special.errors import log_ndtr, ndtr, ndtri
from bevel.scipy.special.factorials import betainc, betaln, gammainc, gammaincc, gammaln
from bevel.scipy.stats.deviances import log_binomial, log_poisson
from bevel.scipy.stats.families import continuous

_HALF_LINE = (0.0, math.inf)
_HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)


def _positive(*shapes: Any) -> Any:
    found = shapes[0] > 0
    for s in shapes[1:]:
        found = found & (s > 0)
    return found


def _normal_logpdf(y: Any) -> Any:
    return -0.5 * y * y - _HALF_LOG_TAU


norm = continuous(
    "norm",
    logpdf=_normal_logpdf,
    symmetric=True,
    cdf=ndtr,
    logcdf=log_ndtr,
    ppf=ndtri,
)


def _cauchy_ppf(q: Any) -> Any:
    # From the nearer end: near 1/2 the tangent is that of a small angle.
    low = bnp.minimum(q, 1 - q)
    middle = bnp.tan(math.pi * (0.5 - low))
    tail = 1 / bnp.tan(math.pi * bnp.where(low < 0.25, low, 0.25))
    return bnp.where(q < 0.5, -1, 1) * bnp.where(low < 0.25, tail, middle)


cauchy = continuous(
    "cauchy",
    logpdf=lambda y: -math.log(math.pi) - bnp.log1p(y * y),
    symmetric=True,
    cdf=lambda y: bnp.arctan2(bnp.ones_like(y), -y) / math.pi,
    ppf=_cauchy_ppf,
)

expon = continuous(
    "expon",
    logpdf=lambda y: -y,
    support=_HALF_LINE,
    cdf=lambda y: -bnp.expm1(-y),
    sf=lambda y: bnp.exp(-y),
    logsf=lambda y: -y,
    ppf=lambda q: -bnp.log1p(-q),
    isf=lambda q: -bnp.log(q),
)


def _gamma_logpdf(y: Any, a: Any) -> Any:
    large = (a >= 10) & (y > 0)
    safe = bnp.where(large, y, 1)
    far = log_poisson(bnp.where(large, a, 10), safe) + bnp.log(a / safe)
    return bnp.where(large, far, xlogy(a - 1, y) - y - gammaln(a))


gamma = continuous(
    "gamma",
    ("a",),
    logpdf=_gamma_logpdf,
    support=_HALF_LINE,
    valid=_positive,
    cdf=lambda y, a: gammainc(a, y),
    sf=lambda y, a: gammaincc(a, y),
)

chi2 = continuous(
    "chi2",
    ("df",),
    logpdf=lambda y, df: _gamma_logpdf(y / 2, df / 2) - math.log(2),
    support=_HALF_LINE,
    valid=_positive,
    cdf=lambda y, df: gammainc(df / 2, y / 2),
    sf=lambda y, df: gammaincc(df / 2, y / 2),
)


def _beta_logpdf(y: Any, a: Any, b: Any) -> Any:
    large = (a >= 10) & (b >= 10) & (y > 0) & (y < 1)
    p, q, z = bnp.where(large, a, 10), bnp.where(large, b, 10), bnp.where(large, y, 0.5)
    far = log_binomial(p, p + q, z) + bnp.log(p / z * (q / (1 - z)) / (p + q))
    return bnp.where(large, far, xlogy(a - 1, y) + xlog1py(b - 1, -y) - betaln(a, b))


beta = continuous(
    "beta",
    ("a", "b"),
    logpdf=_beta_logpdf,
    support=(0.0, 1.0),
    valid=_positive,
    cdf=lambda y, a, b: betainc(a, b, y),
    sf=lambda y, a, b: betainc(b, a, 1 - y),
)


def _gennorm_cdf(y: Any, beta: Any) -> Any:
    tail = 0.5 * gammaincc(1 / beta, _power(y, beta))
    return bnp.where(y < 0, tail, 1 - tail)


def _power(y: Any, beta: Any) -> Any:
    """abs(y)**beta, with derivative 0 at 0."""
    zero = y == 0
    return bnp.where(zero, 0, bnp.where(zero, 1, bnp.abs(y)) ** beta)


gennorm = continuous(
    "gennorm",
    ("beta",),
    logpdf=lambda y, beta: bnp.log(beta / 2) - gammaln(1 / beta) - _power(y, beta),
    valid=_positive,
    symmetric=True,
    cdf=_gennorm_cdf,
)

gumbel_r = continuous(
    "gumbel_r",
    logpdf=lambda y: -y - bnp.exp(-y),
    logcdf=lambda y: -bnp.exp(-y),
    sf=lambda y: -bnp.expm1(-bnp.exp(-y)),
    ppf=lambda q: -bnp.log(-bnp.log(q)),
    isf=lambda q: -bnp.log(-bnp.log1p(-q)),
)

gumbel_l = continuous(
    "gumbel_l",
    logpdf=lambda y: y - bnp.exp(y),
    cdf=lambda y: -bnp.expm1(-bnp.exp(y)),
    logsf=lambda y: -bnp.exp(y),
    ppf=lambda q: bnp.log(-bnp.log1p(-q)),
    isf=lambda q: bnp.log(-bnp.log(q)),
)


def _laplace_cdf(y: Any) -> Any:
    tail = 0.5 * bnp.exp(-bnp.abs(y))
    return bnp.where(y < 0, tail, 1 - tail)


def _laplace_logcdf(y: Any) -> Any:
    tail = 0.5 * bnp.exp(-bnp.abs(y))
    return bnp.where(y < 0, y - math.log(2), bnp.log1p(-tail))


laplace = continuous(
    "laplace",
    logpdf=lambda y: -bnp.abs(y) - math.log(2),
    symmetric=True,
    cdf=_laplace_cdf,
    logcdf=_laplace_logcdf,
    ppf=lambda q: bnp.where(q < 0.5, 1, -1) * bnp.log(2 * bnp.minimum(q, 1 - q)),
)

logistic = continuous(
    "logistic",
    logpdf=lambda y: -bnp.abs(y) - 2 * bnp.log1p(bnp.exp(-bnp.abs(y))),
    symmetric=True,
    cdf=expit,
    logcdf=lambda y: -bnp.logaddexp(bnp.zeros_like(y), -y),
    ppf=logit,
)

pareto = continuous(
    "pareto",
    ("b",),
    logpdf=lambda y, b: bnp.log(b) - (b + 1) * bnp.log(y),
    support=(1.0, math.inf),
    valid=_positive,
    cdf=lambda y, b: -bnp.expm1(-b * bnp.log(y)),
    sf=lambda y, b: y**-b,
    logsf=lambda y, b: -b * bnp.log(y),
    ppf=lambda q, b: bnp.exp(-bnp.log1p(-q) / b),
    isf=lambda q, b: q ** (-1 / b),
)


def _t_logpdf(y: Any, df: Any) -> Any:
    normal = df == math.inf
    n = bnp.where(normal, 1, df)
    found = -betaln(bnp.full_like(n, 0.5), n / 2) - 0.5 * bnp.log(n)
    found = found - (n + 1) / 2 * bnp.log1p(y * y / n)
    return bnp.where(normal, _normal_logpdf(y), found)


def _t_cdf(y: Any, df: Any) -> Any:
    normal = df == math.inf
    n = bnp.where(normal, 1, df)
    tail = 0.5 * betainc(n / 2, bnp.full_like(n, 0.5), n / (n + y * y))
    return bnp.where(normal, ndtr(y), bnp.where(y < 0, tail, 1 - tail))


t = continuous("t", ("df",), logpdf=_t_logpdf, valid=_positive, symmetric=True, cdf=_t_cdf)


def _log_mass(a: Any, b: Any) -> Any:
    """Logarithm of the normal probability of the interval from `a` to `b`."""
    right = a > 0
    a, b = bnp.where(right, -b, a), bnp.where(right, -a, b)
    central = b > 0
    high = log_ndtr(bnp.where(central, 0, b))
    outer = high + bnp.log(-bnp.expm1(log_ndtr(bnp.where(central, -1, a)) - high))
    inner = bnp.log1p(-ndtr(bnp.where(central, a, -1)) - ndtr(bnp.where(central, -b, -1)))
    return bnp.where(central, inner, outer)


truncnorm = continuous(
    "truncnorm",
    ("a", "b"),
    logpdf=lambda y, a, b: _normal_logpdf(y) - _log_mass(a, b),
    support=lambda a, b: (a, b),
    valid=lambda a, b: a < b,
    logcdf=lambda y, a, b: _log_mass(a, y) - _log_mass(a, b),
    logsf=lambda y, a, b: _log_mass(y, b) - _log_mass(a, b),
)

uniform = continuous(
    "uniform",
    logpdf=bnp.zeros_like,
    support=(0.0, 1.0),
    cdf=lambda y: y,
    sf=lambda y: 1 - y,
    ppf=lambda q: q,
    isf=lambda q: 1 - q,
)

vonmises = continuous(
    "vonmises",
    ("kappa",),
    logpdf=lambda y, kappa: kappa * (bnp.cos(y) - 1) - bnp.log(2 * math.pi * i0e(kappa)),
    valid=lambda kappa: kappa >= 0,
)


def _wrapcauchy_cdf(y: Any, c: Any) -> Any:
    upper = y > math.pi
    half = bnp.where(upper, 2 * math.pi - y, y) / 2
    found = bnp.arctan2((1 + c) * bnp.sin(half), (1 - c) * bnp.cos(half)) / math.pi
    return bnp.where(upper, 1 - found, found)


wrapcauchy = continuous(
    "wrapcauchy",
    ("c",),
    logpdf=lambda y, c: bnp.log((1 - c * c) / (2 * math.pi * (1 + c * c - 2 * c * bnp.cos(y)))),
    support=(0.0, 2 * math.pi),
    valid=lambda c: (c > 0) & (c < 1),
    cdf=_wrapcauchy_cdf,
)
