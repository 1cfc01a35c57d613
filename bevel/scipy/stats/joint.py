"""Distributions of several numbers at once."""

from __future__ import annotations

import math
from typing import Any

import bevel.numpy as bnp
from bevel import lax
from bevel.core.dtypes import is_integer
from bevel.core.errors import ShapeError
from bevel.core.handle import wrap
from bevel.numpy.arguments import inexact, number
from bevel.numpy.convert import promote
from bevel.scipy.special.elementary import xlogy
from bevel.scipy.special.factorials import gammaln
from bevel.scipy.stats.families import Distribution


def _floats(*xs: Any) -> list[Any]:
    values, tag = promote(*xs)
    return [wrap(inexact(v), tag) for v in values]


# -- the Dirichlet distribution --------------------------------------------------------------------

_ON_SIMPLEX = 1e-5
"""How far from 1 the sum of a point may be, in float32; SciPy has 1e-9 in float64."""


def _dirichlet_logpdf(x: Any, alpha: Any) -> Any:
    """Logarithm of the Dirichlet density.

    Args:
        x: points of the simplex, their components on the first axis; the last component may be
            left out.
        alpha: parameters, one per component.

    Raises:
        ShapeError: `alpha` is no vector, or `x` has another number of components.
    """
    x, alpha = _floats(x, alpha)
    if alpha.ndim != 1 or x.ndim < 1 or x.shape[0] not in (len(alpha), len(alpha) - 1):
        raise ShapeError(
            f"dirichlet: x has shape {x.shape} and alpha {alpha.shape}.\n"
            "Why: alpha is one vector, and the first axis of x has its length, or one less.\n"
            "Write instead: x.T if its points are rows; bv.vmap over several alphas."
        )
    if x.shape[0] != len(alpha):
        x = bnp.concatenate([x, 1 - bnp.sum(x, axis=0, keepdims=True)])
    column = alpha.reshape(-1, *[1] * (x.ndim - 1))
    inside = bnp.all(x >= 0, axis=0) & (bnp.abs(bnp.sum(x, axis=0) - 1) < _ON_SIMPLEX)
    safe = bnp.where(inside, x, 1 / len(alpha))
    norm = bnp.sum(gammaln(alpha)) - gammaln(bnp.sum(alpha))
    out = bnp.where(inside, bnp.sum(xlogy(column - 1, safe), axis=0) - norm, -math.inf)
    unknown = bnp.any(bnp.isnan(x), axis=0) | ~bnp.all(alpha > 0)
    return bnp.where(unknown, math.nan, out)


def _dirichlet_pdf(x: Any, alpha: Any) -> Any:
    """The Dirichlet density; arguments are those of `dirichlet.logpdf`."""
    return bnp.exp(_dirichlet_logpdf(x, alpha))


dirichlet = Distribution("dirichlet", {"logpdf": _dirichlet_logpdf, "pdf": _dirichlet_pdf})

# -- the multinomial distribution ------------------------------------------------------------------


def _multinomial_logpmf(x: Any, n: Any, p: Any) -> Any:
    """Logarithm of the multinomial probability.

    Args:
        x: integers, counts on the last axis.
        n: integers, numbers of trials; broadcast against `x` without its last axis.
        p: probabilities on the last axis, which sum to 1.

    Raises:
        TypeError: `x` or `n` are no integers.
    """
    for what, value in (("x", x), ("n", n)):
        found = number("multinomial", value).dtype
        if not is_integer(found):
            raise TypeError(
                f"multinomial: {what} must be integers, got {found.name}.\n"
                "Why: they are counts.\n"
                f"Write instead: {what}.astype(bnp.int32)."
            )
    (p,) = _floats(p)
    x, n = bnp.asarray(x).astype(p.dtype), bnp.asarray(n).astype(p.dtype)
    inside = bnp.all(x >= 0, axis=-1) & (bnp.sum(x, axis=-1) == n)
    safe = bnp.where(x >= 0, x, 0)
    out = gammaln(n + 1) + bnp.sum(xlogy(safe, p) - gammaln(safe + 1), axis=-1)
    out = bnp.where(inside, out, -math.inf)
    return bnp.where(bnp.all((p >= 0) & (p <= 1), axis=-1) & (n >= 0), out, math.nan)


def _multinomial_pmf(x: Any, n: Any, p: Any) -> Any:
    """The multinomial probability; arguments are those of `multinomial.logpmf`."""
    return bnp.exp(_multinomial_logpmf(x, n, p))


multinomial = Distribution("multinomial", {"logpmf": _multinomial_logpmf, "pmf": _multinomial_pmf})

# -- the multivariate normal distribution ----------------------------------------------------------


def _normal_logpdf(x: Any, mean: Any = 0, cov: Any = 1, allow_singular: Any = None) -> Any:
    """Logarithm of the density of normal vectors.

    Args:
        x: vectors on the last axis; numbers where the mean is one.
        mean: vector, or stacks of them, or a number.
        cov: matrix, or stacks of them, symmetric and positive definite (else the result is NaN), or
            a number: that times the identity.
        allow_singular: not supported.

    Raises:
        ShapeError: the shapes of `mean` and `cov` do not fit.
        NotImplementedError: `allow_singular` is asked for.
    """
    if allow_singular:
        raise NotImplementedError(
            "multivariate_normal: allow_singular=True is not supported.\n"
            "Why: the rank of a matrix is not differentiable, and is not known while tracing.\n"
            "Write instead: cov + 1e-6 * bnp.eye(n)."
        )
    x, mean, cov = _floats(x, mean, cov)
    if mean.ndim == 0:
        if cov.ndim > 1 or x.ndim and cov.ndim:
            raise ShapeError(
                f"multivariate_normal: cov has shape {cov.shape}, but the mean is a number.\n"
                "Write instead: bnp.full(n, mean)."
            )
        return -0.5 * ((x - mean) ** 2 / cov + bnp.log(2 * math.pi * cov))
    n, away = mean.shape[-1], x - mean
    if cov.ndim == 0:
        square = bnp.sum(away * away, axis=-1) / cov
        return -0.5 * (square + n * bnp.log(2 * math.pi * cov))
    if cov.ndim < 2 or cov.shape[-2:] != (n, n) or away.shape[-1] != n:
        raise ShapeError(
            f"multivariate_normal: x, mean and cov have shapes {x.shape}, {mean.shape}, "
            f"{cov.shape}.\n"
            f"Why: for vectors of {n} numbers the last axes of cov are ({n}, {n}).\n"
            "Write instead: bnp.diag(variances), if they are what you have."
        )
    factor = lax.linalg.cholesky(cov)
    batch = lax.broadcast_shapes(away.shape[:-1], cov.shape[:-2])
    if cov.ndim == 2:
        rows = bnp.broadcast_to(away, (*batch, n)).reshape(-1, n)
        white = lax.linalg.triangular_solve(factor, rows.T, left_side=True, lower=True)
        square = bnp.sum(white * white, axis=0).reshape(batch)
    else:
        factor = bnp.broadcast_to(factor, (*batch, n, n))
        column = bnp.broadcast_to(away, (*batch, n))[..., None]
        white = lax.linalg.triangular_solve(factor, column, left_side=True, lower=True)
        square = bnp.sum(white * white, axis=(-2, -1))
    logs = bnp.sum(bnp.log(bnp.diagonal(factor, axis1=-2, axis2=-1)), axis=-1)
    return -0.5 * (square + n * math.log(2 * math.pi)) - logs


def _normal_pdf(x: Any, mean: Any = 0, cov: Any = 1, allow_singular: Any = None) -> Any:
    """The density of normal vectors; arguments are those of `multivariate_normal.logpdf`."""
    return bnp.exp(_normal_logpdf(x, mean, cov, allow_singular))


multivariate_normal = Distribution(
    "multivariate_normal", {"logpdf": _normal_logpdf, "pdf": _normal_pdf}
)
