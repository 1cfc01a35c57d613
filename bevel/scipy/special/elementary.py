"""Logarithms that are safe at their ends: entropies, products with a logarithm, Box-Cox, logit."""

from __future__ import annotations

import math
from typing import Any

import bevel.numpy as bnp
from bevel import lax
from bevel.api.custom import custom_jvp
from bevel.core.dtypes import is_complex
from bevel.scipy.special.entry import elementwise


@custom_jvp
def _xlogy(x: Any, y: Any) -> Any:
    zero = (x == 0) & ~bnp.isnan(y)
    return bnp.where(zero, 0, x * bnp.log(bnp.where(zero, 1, y)))


_xlogy.defjvps(lambda t, out, x, y: t * bnp.log(y), lambda t, out, x, y: t * (x / y))


@elementwise(complex=True)
def xlogy(x: Any, y: Any) -> Any:
    """The product x log(y), and 0 where `x` is 0 and `y` is not NaN.

    >>> from bevel.scipy import special
    >>> special.xlogy([0.0, 2.0], [0.0, 1.0])
    Array([0., 0.], dtype=float32)
    """
    return _xlogy(x, y)


@custom_jvp
def _xlog1py(x: Any, y: Any) -> Any:
    zero = (x == 0) & ~bnp.isnan(y)
    return bnp.where(zero, 0, x * bnp.log1p(bnp.where(zero, 1, y)))


_xlog1py.defjvps(lambda t, out, x, y: t * bnp.log1p(y), lambda t, out, x, y: t * (x / (1 + y)))


@elementwise(complex=True)
def xlog1py(x: Any, y: Any) -> Any:
    """The product x log(1 + y), and 0 where `x` is 0 and `y` is not NaN.

    >>> from bevel.scipy import special
    >>> special.xlog1py([0.0, 2.0], [-1.0, 0.0])
    Array([0., 0.], dtype=float32)
    """
    return _xlog1py(x, y)


@custom_jvp
def _xlogx(x: Any) -> Any:
    return _xlogy(x, x)


_xlogx.defjvps(lambda t, out, x: t * (bnp.log(x) + 1))


@elementwise
def entr(x: Any) -> Any:
    """The entropy -x log(x), 0 at 0 and -inf below.

    >>> from bevel.scipy import special
    >>> bnp.round(special.entr([-1.0, 0.0, 0.5]), 4)
    Array([  -inf, 0.    , 0.3466], dtype=float32)
    """
    # 0 minus it: the negative of 0 would be -0.
    return bnp.where(x < 0, -math.inf, 0 - _xlogx(bnp.where(x < 0, 1, x)))


def _relative(p: Any, q: Any) -> Any:
    inside, edge = (p > 0) & (q > 0), (p == 0) & (q >= 0)
    x, y = bnp.where(inside, p, 1), bnp.where(inside, q, 1)
    found = bnp.where(inside, x * (bnp.log(x) - bnp.log(y)), bnp.where(edge, 0, math.inf))
    return bnp.where(bnp.isnan(p) | bnp.isnan(q), math.nan, found)


@elementwise
def rel_entr(p: Any, q: Any) -> Any:
    """The relative entropy p log(p / q), 0 where `p` is 0 and infinite for negative arguments.

    >>> from bevel.scipy import special
    >>> special.rel_entr([0.0, 1.0, 1.0], [0.0, 1.0, 0.0])
    Array([ 0.,  0., inf], dtype=float32)
    """
    return _relative(p, q)


@elementwise
def kl_div(p: Any, q: Any) -> Any:
    """The divergence p log(p / q) - p + q, convex in both; infinite for negative arguments.

    >>> from bevel.scipy import special
    >>> special.kl_div([0.0, 1.0, 1.0], [2.0, 1.0, 0.0])
    Array([ 2.,  0., inf], dtype=float32)
    """
    found = _relative(p, q)
    return bnp.where((found == math.inf) & ~((p > 0) & (q > 0)), found, found - p + q)


def _power(log: Any, lmbda: Any) -> Any:
    zero = lmbda == 0
    safe = bnp.where(zero, 1, lmbda)
    # The power may overflow where its quotient does not.
    large = safe * log > math.log(bnp.finfo(log.dtype).max) - 1
    plain = bnp.expm1(bnp.where(large, 0, safe * log)) / safe
    late = bnp.sign(safe) * bnp.exp(bnp.where(large, safe * log - bnp.log(bnp.abs(safe)), 0))
    return bnp.where(zero, log, bnp.where(large, late, plain))


@elementwise
def boxcox(x: Any, lmbda: Any) -> Any:
    """The Box-Cox transform (x**lmbda - 1) / lmbda, which is log(x) where `lmbda` is 0.

    >>> from bevel.scipy import special
    >>> special.boxcox([1.0, 3.0], [0.0, 2.0])
    Array([0., 4.], dtype=float32)
    """
    return _power(bnp.log(x), lmbda)


@elementwise
def boxcox1p(x: Any, lmbda: Any) -> Any:
    """The Box-Cox transform of 1 + x.

    >>> from bevel.scipy import special
    >>> special.boxcox1p([0.0, 2.0], [0.0, 2.0])
    Array([0., 4.], dtype=float32)
    """
    return _power(bnp.log1p(x), lmbda)


@custom_jvp
def _logit(x: Any) -> Any:
    # Near 1/2 the logarithm of a ratio near 1 would lose digits.
    near = (x > 0.3) & (x < 0.65)
    s = bnp.where(near, 2 * x - 1, 0)
    return bnp.where(near, bnp.log1p(s) - bnp.log1p(-s), bnp.log(x / (1 - x)))


_logit.defjvps(lambda t, out, x: t / (x * (1 - x)))


@elementwise
def logit(x: Any) -> Any:
    """log(x / (1 - x)), the inverse of `expit`; infinite at 0 and 1, NaN beyond.

    >>> from bevel.scipy import special
    >>> special.logit([0.0, 0.5, 1.0])
    Array([-inf,   0.,  inf], dtype=float32)
    """
    return _logit(x)


@elementwise(complex=True)
def expit(x: Any) -> Any:
    """The logistic sigmoid, 1 / (1 + exp(-x)).

    >>> from bevel.scipy import special
    >>> special.expit([0.0])
    Array([0.5], dtype=float32)
    """
    return 1 / (1 + bnp.exp(-x)) if is_complex(x.dtype) else lax.logistic(x)
