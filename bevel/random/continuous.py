"""Distributions over the reals that one transformation of uniform or normal numbers gives."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

import bevel.numpy as bnp
import bevel.ops as ops
from bevel.core import dtypes
from bevel.core.handle import wrap
from bevel.numpy.arguments import size_of
from bevel.numpy.convert import broadcast_value
from bevel.random.draws import (
    Shape,
    float_dtype,
    parameter,
    result_shape,
    split_words,
    standard_exponential,
    standard_normal,
    uniform_between,
)
from bevel.random.generators import random_uniform
from bevel.random.keys import sampler


def _start(name: str, shape: Any, dtype: Any) -> tuple[Shape, np.dtype]:
    return size_of(name, shape), float_dtype(name, dtype)


# -- without parameters --------------------------------------------------------------------------


@sampler
def exponential(key: Any, shape: Any = (), dtype: Any = None) -> Any:
    """Draws with density `exp(-x)` for x >= 0.

    Args:
        key: a random key.
        shape: shape of the result.
        dtype: a float dtype; float32 by default.

    Raises:
        ValueError: another dtype.

    >>> from bevel import random
    >>> bool((random.exponential(random.key(0), (9,)) >= 0).all())
    True
    """
    return wrap(standard_exponential(key, *_start("exponential", shape, dtype)))


@sampler
def cauchy(key: Any, shape: Any = (), dtype: Any = None) -> Any:
    """Draws with density proportional to `1 / (1 + x**2)`.

    Args and errors are those of `exponential`.

    >>> from bevel import random
    >>> random.cauchy(random.key(0), (2,)).shape
    (2,)
    """
    size, found = _start("cauchy", shape, dtype)
    u = wrap(uniform_between(key, size, found, float(dtypes.finfo(found).eps), 1))
    return bnp.tan(math.pi * (u - 0.5))


@sampler
def laplace(key: Any, shape: Any = (), dtype: Any = None) -> Any:
    """Draws with density `exp(-abs(x)) / 2`.

    Args and errors are those of `exponential`.

    >>> from bevel import random
    >>> random.laplace(random.key(0), (2,)).shape
    (2,)
    """
    size, found = _start("laplace", shape, dtype)
    low = -1 + float(dtypes.finfo(found).epsneg)
    u = wrap(uniform_between(key, size, found, low, 1))
    return bnp.sign(u) * bnp.log1p(-bnp.abs(u))


@sampler
def logistic(key: Any, shape: Any = (), dtype: Any = None) -> Any:
    """Draws with density `exp(-x) / (1 + exp(-x))**2`.

    Args and errors are those of `exponential`.

    >>> from bevel import random
    >>> random.logistic(random.key(0), (2,)).shape
    (2,)
    """
    size, found = _start("logistic", shape, dtype)
    u = wrap(uniform_between(key, size, found, float(dtypes.finfo(found).tiny), 1))
    return bnp.log(u) - bnp.log1p(-u)


@sampler
def gumbel(key: Any, shape: Any = (), dtype: Any = None, mode: str | None = None) -> Any:
    """Draws with density `exp(-(x + exp(-x)))`.

    Args:
        key: a random key.
        shape: shape of the result.
        dtype: a float dtype; float32 by default.
        mode: "low" (the default) takes one random number a draw and in float32 ends at 16; "high"
            takes two and ends at 32.

    Raises:
        ValueError: another dtype or mode.

    >>> from bevel import random
    >>> random.gumbel(random.key(0), (2,)).shape
    (2,)
    """
    return gumbel_value(key, *_start("gumbel", shape, dtype), mode)


def gumbel_value(words: Any, shape: Shape, dtype: np.dtype, mode: str | None) -> Any:
    """Gumbel draws from the words of a key."""
    if mode not in (None, "low", "high"):
        raise ValueError(f"gumbel: mode must be 'low' or 'high', got {mode!r}")
    info = dtypes.finfo(dtype)
    if mode != "high":
        u = wrap(uniform_between(words, shape, dtype, float(info.tiny), 1))
        return -bnp.log(-bnp.log(u))
    both = wrap(uniform_between(words, (2, *shape), dtype, 0, 1))
    fine = both[0] + 2.0**-info.nmant * both[1] + float(info.tiny)
    return -bnp.log(-bnp.log1p(-bnp.where(both[0] >= 0.5, both[0], fine)))


@sampler
def maxwell(key: Any, shape: Any = (), dtype: Any = None) -> Any:
    """Draws with density proportional to `x**2 * exp(-x**2 / 2)` for x >= 0.

    Args and errors are those of `exponential`.

    >>> from bevel import random
    >>> bool((random.maxwell(random.key(0), (9,)) >= 0).all())
    True
    """
    size, found = _start("maxwell", shape, dtype)
    return _maxwell(key, size, found)


def _maxwell(words: Any, shape: Shape, dtype: np.dtype) -> Any:
    return bnp.linalg.norm(wrap(standard_normal(words, (*shape, 3), dtype)), axis=-1)


# -- with parameters -----------------------------------------------------------------------------


@sampler
def double_sided_maxwell(key: Any, loc: Any, scale: Any, shape: Any = (), dtype: Any = None) -> Any:
    """Maxwell draws with a random sign, times `scale`, plus `loc`.

    Args:
        key: a random key.
        loc: location, a number or an array.
        scale: scale, likewise.
        shape: shape in front of that of the parameters together.
        dtype: a float dtype; float32 by default.

    >>> from bevel import random
    >>> random.double_sided_maxwell(random.key(0), 0.0, 1.0, (4,)).shape
    (4,)
    """
    size, found = _start("double_sided_maxwell", shape, dtype)
    loc, scale = (
        parameter("double_sided_maxwell", k, v, found) for k, v in (("loc", loc), ("scale", scale))
    )
    inner = result_shape("double_sided_maxwell", None, loc=loc, scale=scale)
    size = (*(size or inner), *inner)
    draw_key, sign_key = split_words(key)
    u = wrap(random_uniform(sign_key, shape=size, dtype=dtypes.float32))
    signs = bnp.where(u < 0.5, 1, -1).astype(found)
    return signs * _maxwell(draw_key, size, found) * wrap(scale) + wrap(loc)


@sampler
def weibull_min(
    key: Any, scale: Any, concentration: Any, shape: Any = (), dtype: Any = None
) -> Any:
    """Draws with density proportional to `x**(c - 1) * exp(-(x / scale)**c)` for x > 0.

    Args:
        key: a random key.
        scale: positive scale, a number or an array.
        concentration: positive `c`, likewise.
        shape: shape of the result; the parameters broadcast with it.
        dtype: a float dtype; float32 by default.

    >>> from bevel import random
    >>> random.weibull_min(random.key(0), 1.0, 2.0, (4,)).shape
    (4,)
    """
    size, found = _start("weibull_min", shape, dtype)
    scale = wrap(parameter("weibull_min", "scale", scale, found))
    power = 1.0 / wrap(parameter("weibull_min", "concentration", concentration, found))
    return wrap(standard_exponential(key, size, found)) ** power * scale


@sampler
def pareto(key: Any, b: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Draws with density `b / x**(b + 1)` for x >= 1.

    Args:
        key: a random key.
        b: positive parameter, a number or an array.
        shape: shape of the result; by default that of the parameter.
        dtype: a float dtype; float32 by default.

    Raises:
        ValueError: another dtype, or the parameter does not broadcast to `shape`.

    >>> from bevel import random
    >>> bool((random.pareto(random.key(0), 2.0, (9,)) >= 1).all())
    True
    """
    found = float_dtype("pareto", dtype)
    b = parameter("pareto", "b", b, found)
    size = result_shape("pareto", shape, b=b)
    return bnp.exp(wrap(standard_exponential(key, size, found)) / wrap(b))


@sampler
def rayleigh(key: Any, scale: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Draws with density proportional to `x * exp(-x**2 / (2 * scale**2))` for x >= 0.

    Args and errors are those of `pareto`, with `scale` as the parameter.

    >>> from bevel import random
    >>> random.rayleigh(random.key(0), 2.0, (3,)).shape
    (3,)
    """
    found = float_dtype("rayleigh", dtype)
    scale = parameter("rayleigh", "scale", scale, found)
    size = result_shape("rayleigh", shape, scale=scale)
    u = wrap(random_uniform(key, shape=size, dtype=found))
    return wrap(scale) * bnp.sqrt(bnp.log(u) * -2)


@sampler
def wald(key: Any, mean: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Draws from the inverse Gaussian distribution of that mean, with scale 1.

    Args and errors are those of `pareto`, with `mean` as the parameter.

    >>> from bevel import random
    >>> random.wald(random.key(0), 2.0, (3,)).shape
    (3,)
    """
    found = float_dtype("wald", dtype)
    mean = parameter("wald", "mean", mean, found)
    size = result_shape("wald", shape, mean=mean)
    m = wrap(broadcast_value(mean, size))
    normal_key, uniform_key = split_words(key)
    y = wrap(standard_normal(normal_key, size, found)) ** 2
    x = m + m**2 * y / 2 - m / 2 * bnp.sqrt(4 * m * y + m**2 * y**2)
    z = wrap(random_uniform(uniform_key, shape=size, dtype=found))
    return bnp.where(z <= m / (m + x), x, m**2 / x)


@sampler
def lognormal(key: Any, sigma: Any = 1.0, shape: Any = None, dtype: Any = None) -> Any:
    """Exponentials of normal draws with standard deviation `sigma`.

    Args and errors are those of `pareto`, with `sigma` as the parameter.

    >>> from bevel import random
    >>> random.lognormal(random.key(0), 0.5, (3,)).shape
    (3,)
    """
    found = float_dtype("lognormal", dtype)
    sigma = parameter("lognormal", "sigma", sigma, found)
    size = result_shape("lognormal", shape, sigma=sigma)
    return bnp.exp(wrap(standard_normal(key, size, found)) * wrap(sigma))


@sampler
def triangular(
    key: Any, left: Any, mode: Any, right: Any, shape: Any = None, dtype: Any = None
) -> Any:
    """Draws whose density rises linearly from `left` to `mode` and falls to `right`.

    Args:
        key: a random key.
        left: lower end, a number or an array.
        mode: place of the peak, between the ends.
        right: upper end.
        shape: shape of the result; by default that of the parameters together.
        dtype: a float dtype; float32 by default.

    Raises:
        ValueError: another dtype, or parameters that do not broadcast to `shape`.

    >>> from bevel import random
    >>> random.triangular(random.key(0), 0.0, 1.0, 3.0, (3,)).shape
    (3,)
    """
    found = float_dtype("triangular", dtype)
    given = (("left", left), ("mode", mode), ("right", right))
    params = {k: parameter("triangular", k, v, found) for k, v in given}
    size = result_shape("triangular", shape, **params)
    left, mode, right = (wrap(broadcast_value(v, size)) for v in params.values())
    u = wrap(random_uniform(key, shape=size, dtype=found))
    rising = left + bnp.sqrt(u * (right - left) * (mode - left))
    falling = right - bnp.sqrt((1 - u) * (right - left) * (right - mode))
    return bnp.where(u < (mode - left) / (right - left), rising, falling)


# -- vectors and matrices ------------------------------------------------------------------------


@sampler
def multivariate_normal(
    key: Any, mean: Any, cov: Any, shape: Any = None, dtype: Any = None, method: str = "cholesky"
) -> Any:
    """Normal vectors with a mean and a covariance matrix.

    Args:
        key: a random key.
        mean: shape `(..., n)`.
        cov: symmetric and positive definite, shape `(..., n, n)`.
        shape: shape of the result without its last axis; by default that of the leading axes
            together.
        dtype: a float dtype; by default that of the parameters.
        method: how the covariance is factored: "cholesky", or "eigh" or "svd" where it may be
            singular.

    Returns:
        An array of shape `(*shape, n)`.

    Raises:
        ValueError: another method or dtype, or shapes that do not fit.

    >>> from bevel import random
    >>> random.multivariate_normal(random.key(0), bnp.zeros(2), bnp.eye(2), (5,)).shape
    (5, 2)
    """
    if method not in ("cholesky", "eigh", "svd"):
        raise ValueError(
            f"multivariate_normal: method must be 'cholesky', 'eigh' or 'svd', got {method!r}"
        )
    mean, cov = bnp.asarray(mean), bnp.asarray(cov)
    joined = dtypes.promote_types(mean.dtype, cov.dtype)
    own = joined if dtypes.is_float(joined) else dtypes.float32
    found = float_dtype("multivariate_normal", own if dtype is None else dtype)
    mean, cov = mean.astype(own), cov.astype(own)
    if mean.ndim < 1 or cov.ndim < 2 or cov.shape[-2:] != 2 * mean.shape[-1:]:
        raise ValueError(
            "multivariate_normal: mean must have shape (..., n) and cov (..., n, n), got "
            f"{mean.shape} "
            f"and {cov.shape}"
        )
    batch = {"mean": mean[..., 0], "cov": cov[..., 0, 0]}
    size = result_shape("multivariate_normal", shape, **batch)
    if method == "cholesky":
        factor = bnp.linalg.cholesky(cov)
    elif method == "eigh":
        w, v = bnp.linalg.eigh(cov)
        factor = v * bnp.sqrt(w[..., None, :])
    else:
        u, s, _ = bnp.linalg.svd(cov)
        factor = u * bnp.sqrt(s[..., None, :])
    z = wrap(standard_normal(key, (*size, mean.shape[-1]), found))
    return mean + bnp.einsum("...ij,...j->...i", factor, z)


@sampler
def orthogonal(key: Any, n: int, shape: Any = (), dtype: Any = None, m: int | None = None) -> Any:
    """Orthogonal matrices (unitary ones for complex dtypes), evenly distributed.

    Args:
        key: a random key.
        n: number of rows.
        shape: shape of the result without its last two axes.
        dtype: a float or complex dtype; float32 by default.
        m: number of columns, by default `n`; the shorter side is orthonormal.

    Returns:
        An array of shape `(*shape, n, m)`.

    >>> from bevel import random
    >>> q = random.orthogonal(random.key(0), 3)
    >>> bool(bnp.allclose(q @ q.T, bnp.eye(3), atol=1e-5))
    True
    """
    size, found = size_of("orthogonal", shape), float_dtype("orthogonal", dtype, also_complex=True)
    n = operator.index(n)
    m = n if m is None else operator.index(m)
    full = (*size, max(n, m), min(n, m))
    if dtypes.is_complex(found):
        parts = [standard_normal(w, full, dtypes.real_dtype(found)) for w in split_words(key)]
        z = wrap(ops.complex(*parts)) / math.sqrt(2)
    else:
        z = wrap(standard_normal(key, full, found))
    q, r = bnp.linalg.qr(z)
    x = q * bnp.sign(bnp.diagonal(r, axis1=-2, axis2=-1))[..., None, :]
    return x.mT if n < m else x
