"""Distributions of whole numbers."""

from __future__ import annotations

import math
from typing import Any

import bevel.numpy as bnp
from bevel import lax
from bevel.scipy.special.elementary import xlog1py, xlogy
from bevel.scipy.special.entry import elementwise
from bevel.scipy.special.factorials import betainc, gammainc, gammaincc
from bevel.scipy.stats.deviances import log_binomial, log_poisson
from bevel.scipy.stats.families import discrete

_COUNTS = (0.0, math.inf)


def _probability(p: Any) -> Any:
    return (p >= 0) & (p <= 1)


def _count(n: Any) -> Any:
    return (n >= 0) & (n == bnp.floor(n))


bernoulli = discrete(
    "bernoulli",
    ("p",),
    logpmf=lambda k, p: xlogy(k, p) + xlog1py(1 - k, -p),
    support=(0.0, 1.0),
    valid=_probability,
    cdf=lambda k, p: 1 - p,
    sf=lambda k, p: p,
    ppf=lambda q, p: bnp.where(q <= 1 - p, 0, 1),
)

binom = discrete(
    "binom",
    ("n", "p"),
    logpmf=log_binomial,
    support=lambda n, p: (0.0, n),
    valid=lambda n, p: _count(n) & _probability(p),
    cdf=lambda k, n, p: betainc(bnp.maximum(n - k, 1), k + 1, 1 - p),
    sf=lambda k, n, p: betainc(k + 1, bnp.maximum(n - k, 1), p),
)


def _betabinom_logpmf(k: Any, n: Any, a: Any, b: Any) -> Any:
    # Three binomial probabilities, whose powers cancel, at any p.
    p = lax.stop_gradient(a / (a + b))
    found = log_binomial(k, n, p) + log_binomial(a, a + b, p) - log_binomial(a + k, a + b + n, p)
    return found + bnp.log(a / (a + k) * (b / (n - k + b)) * ((n + a + b) / (a + b)))


betabinom = discrete(
    "betabinom",
    ("n", "a", "b"),
    logpmf=_betabinom_logpmf,
    support=lambda n, a, b: (0.0, n),
    valid=lambda n, a, b: _count(n) & (a > 0) & (b > 0),
)


def _geom_ppf(q: Any, p: Any) -> Any:
    found = bnp.ceil(bnp.log1p(-q) / bnp.log1p(-p))
    # One less where rounding went past the answer.
    fewer = -bnp.expm1((found - 1) * bnp.log1p(-p)) >= q
    return bnp.maximum(bnp.where(fewer, found - 1, found), 1)


geom = discrete(
    "geom",
    ("p",),
    logpmf=lambda k, p: xlog1py(k - 1, -p) + bnp.log(p),
    support=(1.0, math.inf),
    valid=lambda p: (p > 0) & (p <= 1),
    cdf=lambda k, p: -bnp.expm1(xlog1py(k, -p)),
    logsf=lambda k, p: xlog1py(k, -p),
    ppf=_geom_ppf,
)

nbinom = discrete(
    "nbinom",
    ("n", "p"),
    logpmf=lambda k, n, p: log_binomial(n, n + k, p) + bnp.log(n / (n + k)),
    support=_COUNTS,
    valid=lambda n, p: (n > 0) & (p > 0) & (p <= 1),
    cdf=lambda k, n, p: betainc(n, k + 1, p),
    sf=lambda k, n, p: betainc(k + 1, n, 1 - p),
)


_LARGE_MU, _TERMS = 40.0, 110


@elementwise
def _poisson_entropy(mu: Any, loc: Any) -> Any:
    small = bnp.where((mu > 0) & (mu < _LARGE_MU), mu, 1)
    k = bnp.arange(_TERMS, dtype=mu.dtype).reshape(_TERMS, *[1] * mu.ndim)
    logs = log_poisson(*bnp.broadcast_arrays(k, small))
    near = bnp.where(mu == 0, 0, -bnp.sum(bnp.exp(logs) * logs, axis=0))
    w = 1 / bnp.where(mu > _LARGE_MU, mu, _LARGE_MU)
    far = 0.5 * (math.log(2 * math.pi) + 1 - bnp.log(w))
    far = far - w * (1 / 12 + w * (1 / 24 + w * (19 / 360 + w * (9 / 80))))
    out = bnp.where(mu < _LARGE_MU, near, far)
    return bnp.where((mu >= 0) & ~bnp.isnan(loc), out, math.nan)


def _entropy(mu: Any, loc: Any = 0) -> Any:
    """The entropy of the Poisson distribution, in nats; `loc` does not change it.

    The probabilities are summed for small `mu`; an asymptotic series is taken for large ones
    (Evans and Boersma, "The entropy of a Poisson distribution", 1988).
    """
    return _poisson_entropy(mu, loc)


poisson = discrete(
    "poisson",
    ("mu",),
    logpmf=log_poisson,
    support=_COUNTS,
    valid=lambda mu: mu >= 0,
    cdf=lambda k, mu: gammaincc(k + 1, mu),
    sf=lambda k, mu: gammainc(k + 1, mu),
    extra={"entropy": _entropy},
)
