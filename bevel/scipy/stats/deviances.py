"""Logarithms of Poisson and binomial probabilities, of real counts, which keep their digits where
counts are large.

There the logarithms of gamma functions and of powers nearly cancel. What is left of them is a
deviance and the remainders of Stirling's formula (Loader, "Fast and accurate computation of
binomial probabilities", 2000). Densities of gamma and beta distributions are made of the same.
"""

from __future__ import annotations

import math
from typing import Any

import bevel.numpy as bnp
from bevel.api.custom import custom_jvp
from bevel.scipy.special.elementary import xlog1py, xlogy
from bevel.scipy.special.factorials import betaln, digamma, gammaln, stirling_remainder

_LARGE = 10.0


def _deviance(k: Any, away: Any) -> Any:
    """The difference k log(k / m) + m - k, where the expected count m is k + `away`."""
    d = away / k
    return k * (d - bnp.log1p(d))


@custom_jvp
def log_poisson(k: Any, mu: Any) -> Any:
    """The logarithm k log(mu) - mu - log(gamma(k + 1))."""
    large = (k >= _LARGE) & (mu > 0)
    j = bnp.where(large, k, _LARGE)
    far = -_deviance(j, bnp.where(large, mu, _LARGE) - j) - 0.5 * bnp.log(2 * math.pi * j)
    near = xlogy(k, mu) - gammaln(k + 1) - mu
    return bnp.where(large, far - stirling_remainder(j), near)


log_poisson.defjvps(
    lambda t, y, k, mu: t * (bnp.log(mu) - digamma(k + 1)),
    lambda t, y, k, mu: t * (k / mu - 1),
)


@custom_jvp
def log_binomial(k: Any, n: Any, p: Any) -> Any:
    """The sum of k log(p) + (n - k) log(1 - p), and the logarithm of the binomial coefficient."""
    large = (k >= _LARGE) & (n - k >= _LARGE) & (p > 0) & (p < 1)
    i, j = bnp.where(large, k, _LARGE), bnp.where(large, n - k, _LARGE)
    away = bnp.where(large, n * p - k, 0)
    far = stirling_remainder(i + j) - stirling_remainder(i) - stirling_remainder(j)
    far = far + 0.5 * bnp.log((i + j) / (2 * math.pi * i) / j)
    far = far - _deviance(i, away) - _deviance(j, -away)
    near = xlogy(k, p) + xlog1py(n - k, -p) - betaln(n - k + 1, k + 1) - bnp.log(n + 1)
    return bnp.where(large, far, near)


log_binomial.defjvps(
    lambda t, y, k, n, p: t * (bnp.log(p) - bnp.log1p(-p) + digamma(n - k + 1) - digamma(k + 1)),
    lambda t, y, k, n, p: t * (digamma(n + 1) - digamma(n - k + 1) + bnp.log1p(-p)),
    lambda t, y, k, n, p: t * (k / p - (n - k) / (1 - p)),
)
