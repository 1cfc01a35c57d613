"""Gamma draws, and those made of them: beta, Dirichlet, chi-square, Student's t, F, balls."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

import bevel.numpy as bnp
import bevel.ops as ops
from bevel.control.custom import custom_jvp_call
from bevel.core import dtypes
from bevel.core.aval import aval_of
from bevel.core.graph import trace
from bevel.core.handle import wrap
from bevel.core.interpreter import EAGER, state
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
from bevel.random.generators import random_uniform, split_key
from bevel.random.keys import sampler
from bevel.random.loops import any_of, pick, repeat_while

# -- one key per element -------------------------------------------------------------------------


def _positive_cube_root(keys: Any, c: Any, dtype: np.dtype) -> tuple[Any, Any]:
    """Normal draws x with 1 + c x > 0, and that."""

    def going(key, x, v):
        return any_of(ops.le(v, ops.full_like(v, 0)))

    def step(key, x, v):
        again = ops.le(v, ops.full_like(v, 0))
        next_key, words = split_words(key)
        new_x = standard_normal(words, (), dtype)
        new_v = ops.add(ops.full_like(v, 1), ops.mul(new_x, c))
        return pick(again, next_key, key), pick(again, new_x, x), pick(again, new_v, v)

    _, x, v = repeat_while(going, step, keys, ops.full_like(c, 0), ops.full_like(c, -1))
    return x, v


def _refused(x: Any, v: Any, u: Any, d: Any) -> Any:
    """Where the proposal with square x, cube v and uniform number u is not accepted."""
    x, v, u, d = (wrap(a) for a in (x, v, u, d))
    quick = u >= 1 - 0.0331 * (x * x)
    return (quick & (bnp.log(u) >= x * 0.5 + d * ((1 - v) + bnp.log(v))))._v


def _draw(keys: Any, alpha: Any, log_space: bool) -> Any:
    """Marsaglia and Tsang 2000, "A simple method for generating gamma variables"."""
    dtype, a = alpha.dtype, wrap(alpha)
    large = a >= 1
    d = bnp.where(large, a, a + 1) - 1 / 3
    c = (1 / 3 / bnp.sqrt(d))._v
    keys, boost_keys = split_words(keys)

    def going(key, x, v, u):
        return any_of(_refused(x, v, u, d._v))

    def step(key, x, v, u):
        again = _refused(x, v, u, d._v)
        next_key, x_key, u_key = split_words(key, 3)
        new_x, new_v = _positive_cube_root(x_key, c, dtype)
        new = (
            next_key,
            ops.mul(new_x, new_x),
            ops.mul(ops.mul(new_v, new_v), new_v),
            uniform_between(u_key, (), dtype, 0, 1),
        )
        return [pick(again, n, o) for n, o in zip(new, (key, x, v, u), strict=True)]

    init = [ops.full_like(alpha, n) for n in (0, 1, 2)]
    v = wrap(repeat_while(going, step, keys, *init)[2])
    # A shape below 1 is drawn as one above it, times a power of a uniform number.
    if log_space:
        logs = wrap(ops.neg(standard_exponential(boost_keys, (), dtype)))
        boost = bnp.where(large | (logs == 0), 0, logs * (1 / a))
        return (bnp.log(d) + bnp.log(v) + boost)._v
    powers = (1 - wrap(uniform_between(boost_keys, (), dtype, 0, 1))) ** (1 / a)
    return (d * v * bnp.where(large, 1, powers))._v


def _derivative(alpha: Any, out: Any, log_space: bool) -> Any:
    """How a draw moves with its shape parameter, at the same probability."""
    if not log_space:
        return ops.random_gamma_grad(alpha, out)
    tiny = ops.full_like(out, float(dtypes.finfo(out.dtype).tiny))
    sample = ops.max(ops.exp(out), tiny)
    return ops.div(ops.random_gamma_grad(alpha, sample), sample)


def gamma_value(words: Any, alpha: Any, shape: Shape, log_space: bool) -> Any:
    """A value of gamma draws, or their logarithms, from one key; differentiable in `alpha`."""
    alpha = broadcast_value(alpha, shape)
    keys = split_key(words, shape=(alpha.size,))
    flat = ops.reshape(alpha, shape=(alpha.size,))

    def rule(primals, tangents):
        out = _draw(*primals, log_space)
        moved = None
        if tangents[1] is not None:
            moved = ops.mul(tangents[1], _derivative(primals[1], out, log_space))
        return [out], [moved]

    if state.current is EAGER:
        out = _draw(keys, flat, log_space)
    else:
        avals = [aval_of(keys), aval_of(flat)]
        graph, _ = trace(lambda k, a: [_draw(k, a, log_space)], avals, "a gamma draw")
        (out,) = custom_jvp_call(keys, flat, graph=graph, rule=rule)
    return ops.reshape(out, shape=shape)


def _gamma(name: str, words: Any, a: Any, shape: Any, dtype: Any, log_space: bool) -> Any:
    alpha = parameter(name, "a", a, float_dtype(name, dtype))
    return gamma_value(words, alpha, result_shape(name, shape, a=alpha), log_space)


# -- public --------------------------------------------------------------------------------------


@sampler
def gamma(key: Any, a: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Gamma draws with density proportional to `x**(a - 1) * exp(-x)`; differentiable in `a`.

    Args:
        key: a random key.
        a: positive shape parameter, a number or an array.
        shape: shape of the result; by default that of `a`.
        dtype: a float dtype; float32 by default.

    Raises:
        ValueError: another dtype, or `a` does not broadcast to `shape`.

    >>> from bevel import random
    >>> float(random.gamma(random.key(0), 3.0, (4000,)).mean().round(1))
    3.0
    """
    return wrap(_gamma("gamma", key, a, shape, dtype, False))


@sampler
def loggamma(key: Any, a: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Logarithms of gamma draws, precise where `a` is small and the draws are almost zero.

    Args and errors are those of `gamma`.

    >>> from bevel import random
    >>> bool((random.loggamma(random.key(0), 1e-3, (100,)) < -1).any())
    True
    """
    return wrap(_gamma("loggamma", key, a, shape, dtype, True))


@sampler
def beta(key: Any, a: Any, b: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Beta draws with density proportional to `x**(a - 1) * (1 - x)**(b - 1)` on [0, 1].

    Args:
        key: a random key.
        a: positive parameter, a number or an array.
        b: positive parameter, likewise.
        shape: shape of the result; by default that of the parameters together.
        dtype: a float dtype; float32 by default.

    Raises:
        ValueError: another dtype, or parameters that do not broadcast to `shape`.

    >>> from bevel import random
    >>> random.beta(random.key(0), 2.0, 3.0, (5,)).shape
    (5,)
    """
    found = float_dtype("beta", dtype)
    params = {k: parameter("beta", k, v, found) for k, v in (("a", a), ("b", b))}
    size = result_shape("beta", shape, **params)
    logs = [
        wrap(gamma_value(words, p, size, True))
        for words, p in zip(split_words(key), params.values(), strict=True)
    ]
    highest = bnp.maximum(*logs)
    first, second = (bnp.exp(x - highest) for x in logs)
    return first / (first + second)


@sampler
def dirichlet(key: Any, alpha: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Dirichlet draws: non-negative vectors that sum to 1.

    Args:
        key: a random key.
        alpha: positive concentrations, shape `(..., n)`.
        shape: shape of the result without its last axis; by default `alpha.shape[:-1]`.
        dtype: a float dtype; float32 by default.

    Returns:
        An array of shape `(*shape, n)`.

    Raises:
        ValueError: `alpha` is a scalar, or does not broadcast to `shape`.

    >>> from bevel import random
    >>> random.dirichlet(random.key(0), [1.0, 2.0, 3.0], (4,)).shape
    (4, 3)
    """
    value = parameter("dirichlet", "alpha", alpha, float_dtype("dirichlet", dtype))
    if not value.shape:
        raise ValueError(
            "dirichlet: alpha must have at least one axis, got a scalar; pass [a1, a2, ...]"
        )
    batch = value.shape[:-1] if shape is None else size_of("dirichlet", shape)
    size = result_shape("dirichlet", (*batch, value.shape[-1]), alpha=value)
    logs = wrap(gamma_value(key, value, size, True))
    powers = bnp.exp(logs - logs.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@sampler
def chisquare(key: Any, df: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Chi-square draws with `df` degrees of freedom.

    Args:
        key: a random key.
        df: positive degrees of freedom, a number or an array.
        shape: shape of the result; by default that of `df`.
        dtype: a float dtype; float32 by default.

    Raises:
        ValueError: another dtype, or `df` does not broadcast to `shape`.

    >>> from bevel import random
    >>> bool((random.chisquare(random.key(0), 2.0, (9,)) > 0).all())
    True
    """
    half = parameter("chisquare", "df", df, float_dtype("chisquare", dtype))
    return _chisquare(key, half, result_shape("chisquare", shape, df=half))


def _chisquare(words: Any, df: Any, shape: Shape) -> Any:
    return bnp.exp(wrap(gamma_value(words, (wrap(df) / 2)._v, shape, True))) * 2


@sampler
def t(key: Any, df: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Draws from Student's t distribution with `df` degrees of freedom.

    Args and errors are those of `chisquare`.

    >>> from bevel import random
    >>> random.t(random.key(0), 3.0, (2, 2)).shape
    (2, 2)
    """
    found = float_dtype("t", dtype)
    value = parameter("t", "df", df, found)
    size = result_shape("t", shape, df=value)
    normal_key, gamma_key = split_words(key)
    half = wrap(value) / 2
    g = wrap(gamma_value(gamma_key, half._v, size, False))
    return wrap(standard_normal(normal_key, size, found)) * bnp.sqrt(half / g)


@sampler
def f(key: Any, dfnum: Any, dfden: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Draws from the F distribution: ratios of chi-square draws over their degrees of freedom.

    Args:
        key: a random key.
        dfnum: degrees of freedom of the numerator, a number or an array.
        dfden: degrees of freedom of the denominator, likewise.
        shape: shape of the result; by default that of the parameters together.
        dtype: a float dtype; float32 by default.

    Raises:
        ValueError: another dtype, or parameters that do not broadcast to `shape`.

    >>> from bevel import random
    >>> random.f(random.key(0), 3.0, 5.0, (2,)).shape
    (2,)
    """
    found = float_dtype("f", dtype)
    num, den = (parameter("f", k, v, found) for k, v in (("dfnum", dfnum), ("dfden", dfden)))
    size = result_shape("f", shape, dfnum=num, dfden=den)
    den_key, num_key = split_words(key)
    return (_chisquare(num_key, num, size) / wrap(num)) / (
        _chisquare(den_key, den, size) / wrap(den)
    )


@sampler
def generalized_normal(key: Any, p: float, shape: Any = (), dtype: Any = None) -> Any:
    """Draws with density proportional to `exp(-abs(x)**p)`.

    Args:
        key: a random key.
        p: positive power.
        shape: shape of the result.
        dtype: a float dtype; float32 by default.

    >>> from bevel import random
    >>> random.generalized_normal(random.key(0), 1.5, (3,)).shape
    (3,)
    """
    found, size = float_dtype("generalized_normal", dtype), size_of("generalized_normal", shape)
    return _generalized_normal(key, p, size, found)


def _generalized_normal(words: Any, p: float, shape: Shape, dtype: np.dtype) -> Any:
    gamma_key, sign_key = split_words(words)
    alpha = parameter("generalized_normal", "p", 1 / p, dtype)
    g = wrap(gamma_value(gamma_key, alpha, shape, False))
    u = wrap(random_uniform(sign_key, shape=shape, dtype=dtypes.float32))
    return bnp.where(u < 0.5, 1, -1).astype(dtype) * g ** (1 / p)


@sampler
def ball(key: Any, d: int, p: float = 2, shape: Any = (), dtype: Any = None) -> Any:
    """Points distributed evenly in the ball of radius 1 of the p-norm in `d` dimensions.

    Args:
        key: a random key.
        d: number of dimensions.
        p: power of the norm.
        shape: shape of the result without its last axis.
        dtype: a float dtype; float32 by default.

    Returns:
        An array of shape `(*shape, d)`.

    Source: Barthe, Guedon, Mendelson and Naor 2005, arXiv:math/0503650.

    >>> from bevel import random
    >>> random.ball(random.key(0), 3, shape=(5,)).shape
    (5, 3)
    """
    found, size = float_dtype("ball", dtype), size_of("ball", shape)
    point_key, radius_key = split_words(key)
    g = _generalized_normal(point_key, p, (*size, operator.index(d)), found)
    e = wrap(standard_exponential(radius_key, size, found))
    return g / ((((bnp.abs(g) ** p).sum(-1) + e) ** (1 / p))[..., None])
