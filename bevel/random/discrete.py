"""Counts: Poisson, binomial, multinomial and geometric draws."""

from __future__ import annotations

from typing import Any

import numpy as np

import bevel.numpy as bnp
import bevel.ops as ops
from bevel.core import dtypes
from bevel.core.handle import wrap
from bevel.numpy.convert import broadcast_value, enter
from bevel.random.draws import (
    Shape,
    float_dtype,
    int_dtype,
    parameter,
    result_shape,
    split_words,
    uniform_between,
)
from bevel.random.generators import random_uniform
from bevel.random.keys import sampler
from bevel.random.loops import any_of, nowhere, repeat_while

# -- poisson -------------------------------------------------------------------------------------


def _poisson_small(words: Any, lam: Any, shape: Shape) -> Any:
    """Knuth's algorithm: how many uniform numbers multiply to less than exp(-lam)."""

    def going(count, words, logs):
        return any_of(ops.gt(logs, ops.neg(lam)))

    def step(count, words, logs):
        words, drawn = split_words(words)
        count = bnp.where(wrap(logs) > -wrap(lam), wrap(count) + 1, wrap(count))
        return (
            count._v,
            words,
            ops.add(logs, ops.log(uniform_between(drawn, shape, lam.dtype, 0, 1))),
        )

    init = ops.full(shape, 0, dtypes.int32), words, ops.full_like(lam, 0)
    return wrap(repeat_while(going, step, *init)[0]) - 1


def _poisson_large(words: Any, lam: Any, shape: Shape) -> Any:
    """Transformed rejection (Hoermann 1993, "... for generating Poisson random variables")."""
    rate = wrap(lam)
    log_rate = bnp.log(rate)
    b = 0.931 + 2.53 * bnp.sqrt(rate)
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    v_r = 0.9277 - 3.6224 / (b - 2)

    def going(count, accepted, words):
        return any_of(ops.not_(accepted))

    def step(count, accepted, words):
        words, first, second = split_words(words, 3)
        u = wrap(uniform_between(first, shape, lam.dtype, 0, 1)) - 0.5
        v = wrap(uniform_between(second, shape, lam.dtype, 0, 1))
        edge = 0.5 - bnp.abs(u)
        k = bnp.floor((2 * a / edge + b) * u + rate + 0.43)
        s = bnp.log(v * inverse_alpha / (a / (edge * edge) + b))
        density = -rate + k * log_rate - wrap(ops.lgamma((k + 1)._v))
        refused = (k < 0) | ((edge < 0.013) & (v > edge))
        accept = ((edge >= 0.07) & (v <= v_r)) | (~refused & (s <= density))
        return bnp.where(accept, k, wrap(count))._v, (wrap(accepted) | accept)._v, words

    init = ops.full_like(lam, -1), ops.full(shape, False, dtypes.bool_), words
    return wrap(repeat_while(going, step, *init)[0])


@sampler
def poisson(key: Any, lam: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Poisson draws: counts of events that come independently, `lam` on average.

    Args:
        key: a random key.
        lam: rate, a number or an array; not negative.
        shape: shape of the result; by default that of `lam`.
        dtype: an integer dtype; int32 by default.

    Raises:
        TypeError: another dtype.
        ValueError: `lam` does not broadcast to `shape`.

    >>> from bevel import random
    >>> float(random.poisson(random.key(0), 4.0, (4000,)).mean().round(1))
    4.0
    """
    found = int_dtype("poisson", dtype)
    rate = parameter("poisson", "lam", lam, dtypes.float32)
    size = result_shape("poisson", shape, lam=rate)
    rate = wrap(broadcast_value(rate, size))
    small = bnp.isnan(rate) | (rate < 10)
    out = bnp.zeros(size, dtypes.int32)
    if not nowhere(small._v):
        out = _poisson_small(key, bnp.where(small, rate, 0.0)._v, size)
    if not nowhere((~small)._v):
        large = _poisson_large(key, bnp.where(small, 1e5, rate)._v, size)
        out = bnp.where(small, out.astype(found), large.astype(found))
    return bnp.where(rate == 0, 0, out).astype(found)


# -- binomial ------------------------------------------------------------------------------------


def _binomial_small(words: Any, count: Any, prob: Any, shape: Shape) -> Any:
    """How many geometric waiting times fit in `count` trials."""
    n, miss = wrap(count), bnp.log1p(-wrap(prob))

    def going(number, total, words):
        return any_of(ops.le(total, count))

    def step(number, total, words):
        drawn, words = split_words(words)
        more = bnp.where(wrap(total) <= n, wrap(number) + 1, wrap(number))
        u = wrap(uniform_between(drawn, shape, prob.dtype, 0, 1))
        return more._v, (wrap(total) + bnp.ceil(bnp.log(u) / miss))._v, words

    zero = ops.full_like(prob, 0)
    return wrap(repeat_while(going, step, zero, zero, words)[0]) - 1


_STIRLING = (
    0.0810614667953272,
    0.0413406959554092,
    0.0276779256849983,
    0.02079067210376509,
    0.0166446911898211,
    0.0138761288230707,
    0.0118967099458917,
    0.0104112652619720,
    0.00925546218271273,
    0.00833056343336287,
)


def _stirling_tail(k: Any) -> Any:
    """What Stirling's formula for log(k!) leaves out."""
    whole = bnp.clip(k, 0.0, 9.0)
    square = (whole + 1) ** 2
    series = (1 / 12 - (1 / 360 - 1 / 1260 / square) / square) / (whole + 1)
    table = bnp.asarray(_STIRLING, dtype=k.dtype)
    return bnp.where(k <= 9, table[bnp.floor(whole).astype("int32")], series)


def _binomial_large(words: Any, count: Any, prob: Any, shape: Shape) -> Any:
    """Transformed rejection (Hoermann 1993, "The generation of binomial random variates")."""
    n, p = wrap(count), wrap(prob)
    deviation = bnp.sqrt(n * p * (1 - p))
    b = 1.15 + 2.53 * deviation
    a = -0.0873 + 0.0248 * b + 0.01 * p
    c = n * p + 0.5
    v_r = 0.92 - 4.2 / b
    odds = p / (1 - p)
    alpha = (2.83 + 5.1 / b) * deviation
    m = bnp.floor((n + 1) * p)

    def bound(k):
        return (
            (m + 0.5) * bnp.log((m + 1) / (odds * (n - m + 1)))
            + (n + 1) * bnp.log((n - m + 1) / (n - k + 1))
            + (k + 0.5) * bnp.log(odds * (n - k + 1) / (k + 1))
            + _stirling_tail(m)
            + _stirling_tail(n - m)
            - _stirling_tail(k)
            - _stirling_tail(n - k)
        )

    def going(number, accepted, words):
        return any_of(ops.not_(accepted))

    def step(number, accepted, words):
        words, first, second = split_words(words, 3)
        u = wrap(uniform_between(first, shape, prob.dtype, 0, 1)) - 0.5
        v = wrap(uniform_between(second, shape, prob.dtype, 0, 1))
        edge = 0.5 - bnp.abs(u)
        k = bnp.floor((2 * a / edge + b) * u + c)
        refused = (k < 0) | (k > n)
        quick = (edge >= 0.07) & (v <= v_r)
        v = bnp.log(v * alpha / (a / (edge * edge) + b))
        accept = quick | (~refused & (v <= bound(k)))
        return bnp.where(accept, k, wrap(number))._v, (wrap(accepted) | accept)._v, words

    init = ops.full_like(prob, -1), ops.full(shape, False, dtypes.bool_), words
    return wrap(repeat_while(going, step, *init)[0])


def binomial_value(words: Any, n: Any, p: Any, shape: Shape, dtype: np.dtype) -> Any:
    """Binomial draws, from the words of a key and parameters of `shape`."""
    flip = p < 0.5
    q = bnp.where(flip, p, 1.0 - p)
    no_count = bnp.isnan(n) | (n < 0.0)
    no_chance = bnp.isnan(q) | (q < 0.0)
    q = bnp.where(no_chance, 0.01, q)
    small = no_count | (n * q <= 10.0)
    endless = bnp.isinf(n)
    n = bnp.floor(n)
    out = bnp.zeros(shape, dtype)
    if not nowhere(small._v):
        out = _binomial_small(words, bnp.where(small, n, 0.0)._v, q._v, shape).astype(dtype)
    if not nowhere((~small)._v):
        count, chance = bnp.where(small, 1e4, n), bnp.where(small, 0.5, q)
        large = _binomial_large(words, count._v, chance._v, shape).astype(dtype)
        out = bnp.where(small, out, large)
    out = bnp.where(no_chance | no_count, float("nan"), out)
    out = bnp.where(endless & ~(no_chance | no_count), float("inf"), out)
    return bnp.where(flip | no_count | no_chance | endless, out, n.astype(dtype) - out)


@sampler
def binomial(key: Any, n: Any, p: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Binomial draws: how many of `n` trials succeed, each with probability `p`.

    Args:
        key: a random key.
        n: number of trials, a number or an array; not negative.
        p: probability, likewise, between 0 and 1.
        shape: shape of the result; by default that of the parameters together.
        dtype: a float dtype; float32 by default. NaN stands for parameters outside their range.

    Raises:
        ValueError: another dtype, or parameters that do not broadcast to `shape`.

    >>> from bevel import random
    >>> float(random.binomial(random.key(0), 10, 0.3, (4000,)).mean().round(1))
    3.0
    """
    found = float_dtype("binomial", dtype)
    own = enter(p).dtype if dtypes.is_float(enter(p).dtype) else dtypes.float32
    params = {k: parameter("binomial", k, v, own) for k, v in (("n", n), ("p", p))}
    size = result_shape("binomial", shape, **params)
    n, p = (wrap(broadcast_value(v, size)) for v in params.values())
    return binomial_value(key, n, p, size, found)


@sampler
def multinomial(key: Any, n: Any, p: Any, *, shape: Any = None, dtype: Any = None) -> Any:
    """Multinomial draws: how often each outcome comes in `n` trials.

    Args:
        key: a random key.
        n: number of trials, broadcasts to `p.shape[:-1]`.
        p: probabilities of the outcomes along the last axis.
        shape: shape of the result, by default that of `p`.
        dtype: dtype of the result; float32 by default.

    Returns:
        Counts that sum to `n` along the last axis.

    >>> from bevel import random
    >>> float(random.multinomial(random.key(0), 10, [0.2, 0.3, 0.5]).sum())
    10.0
    """
    found = dtypes.float32 if dtype is None else dtypes.as_dtype(dtype)
    chances = parameter("multinomial", "p", p, dtypes.float32)
    if not chances.shape:
        raise ValueError(
            "multinomial: p must have at least one axis, got a scalar; pass [p1, p2, ...]"
        )
    size = result_shape("multinomial", shape, p=chances)
    chances = wrap(broadcast_value(chances, size))
    left = wrap(broadcast_value(parameter("multinomial", "n", n, dtypes.float32), size[:-1]))
    rest = bnp.flip(bnp.cumsum(bnp.flip(chances, -1), axis=-1), -1)
    ratios = bnp.clip(chances / bnp.where(rest == 0, 1, rest), 0, 1)
    counts = []
    for i, words in enumerate(split_words(key, size[-1])):
        counts.append(binomial_value(words, left, ratios[..., i], size[:-1], dtypes.float32))
        left = left - counts[-1]
    return bnp.stack(counts, axis=-1).astype(found)


@sampler
def geometric(key: Any, p: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Geometric draws: the number of the first trial that succeeds, each with probability `p`.

    Args:
        key: a random key.
        p: probability, a number or an array.
        shape: shape of the result; by default that of `p`.
        dtype: an integer dtype; int32 by default.

    Raises:
        TypeError: another dtype.
        ValueError: `p` does not broadcast to `shape`.

    >>> from bevel import random
    >>> bool((random.geometric(random.key(0), 0.5, (9,)) >= 1).all())
    True
    """
    found = int_dtype("geometric", dtype)
    own = enter(p).dtype if dtypes.is_float(enter(p).dtype) else dtypes.float32
    chance = parameter("geometric", "p", p, own)
    size = result_shape("geometric", shape, p=chance)
    u = wrap(random_uniform(key, shape=size, dtype=own))
    trials = bnp.floor(bnp.log(bnp.where(u == 0, 1, u)) / bnp.log1p(-wrap(chance))) + 1
    return trials.astype(found)
