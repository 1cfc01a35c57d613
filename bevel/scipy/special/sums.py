"""Sums of exponentials over axes: logsumexp, softmax and its logarithm."""

from __future__ import annotations

import functools
import math
from typing import Any

import bevel.numpy as bnp
from bevel import lax
from bevel.api.custom import custom_jvp
from bevel.core.dtypes import is_float
from bevel.core.handle import wrap
from bevel.numpy.arguments import axes_of, inexact, number
from bevel.numpy.convert import enter


def _numbers(name: str, x: Any) -> Any:
    """A floating or complex array; integers become float32."""
    return wrap(inexact(number(name, x)))


def logsumexp(
    a: Any,
    axis: Any = None,
    b: Any = None,
    keepdims: bool = False,
    return_sign: bool = False,
    where: Any = None,
) -> Any:
    """log(sum(b * exp(a))) over axes, without overflow.

    Args:
        a: array.
        axis: axis or axes; all by default.
        b: factors of the terms; where their sum is negative the result is NaN, or its sign
            comes with it.
        keepdims: keep the reduced axes with length 1.
        return_sign: return `(log(abs(sum)), sign)`.
        where: mask of the terms to sum.

    >>> from bevel.scipy import special
    >>> round(float(special.logsumexp([1000.0, 1000.0])), 3)
    1000.693
    """
    a = _numbers("logsumexp", a)
    if where is not None:
        a = bnp.where(where, a, -math.inf)
    if b is not None:
        b = enter(b)
        a = bnp.where(b != 0, a, -math.inf)
    largest = bnp.max(bnp.real(a), axis=axis, keepdims=True, initial=-math.inf)
    largest = lax.stop_gradient(bnp.where(bnp.isfinite(largest), largest, 0))
    terms = bnp.exp(a - largest)
    total = bnp.sum(terms if b is None else terms * b, axis=axis, keepdims=keepdims)
    shift = largest if keepdims else bnp.squeeze(largest, axes_of("logsumexp", axis, a.ndim))
    sign = bnp.sign(total)
    if return_sign or is_float(total.dtype):
        total = abs(total)
    out = bnp.log(total) + shift
    if return_sign:
        return out, sign
    return bnp.where(sign < 0, math.nan, out) if b is not None and is_float(out.dtype) else out


@functools.partial(custom_jvp, nondiff_argnums=(1,))
def normalized_exp(x: Any, axis: Any) -> Any:
    """exp(x) over its sum along axes, of a floating array."""
    terms = bnp.exp(x - bnp.max(x, axis, keepdims=True))
    return terms / bnp.sum(terms, axis, keepdims=True)


@normalized_exp.defjvp
def _normalized_exp_jvp(axis: Any, primals: tuple, tangents: tuple) -> tuple:
    (x,), (t,) = primals, tangents
    y = normalized_exp(x, axis)
    return y, y * (t - bnp.sum(y * t, axis, keepdims=True))


def softmax(x: Any, /, *, axis: Any = None) -> Any:
    """exp(x) over its sum along an axis or axes; all of them by default.

    >>> from bevel.scipy import special
    >>> special.softmax([1.0, 1.0])
    Array([0.5, 0.5], dtype=float32)
    """
    return normalized_exp(_numbers("softmax", x), axis)


def log_softmax(x: Any, /, *, axis: Any = None) -> Any:
    """log(softmax(x)) along an axis or axes, without overflow; all of them by default.

    >>> from bevel.scipy import special
    >>> bool((special.log_softmax([1000.0, 0.0]) == bnp.array([0.0, -1000.0])).all())
    True
    """
    x = _numbers("log_softmax", x)
    shifted = x - lax.stop_gradient(bnp.max(x, axis, keepdims=True))
    return shifted - bnp.log(bnp.sum(bnp.exp(shifted), axis, keepdims=True))
