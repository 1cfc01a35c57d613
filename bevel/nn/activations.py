"""Activation functions: elementwise unless an `axis` is given; names and numbers are those of
`jax.nn`.

Integer inputs of smooth functions become float32; other dtypes are kept.
"""

from __future__ import annotations

import math
from typing import Any

import bevel.numpy as bnp
from bevel import lax
from bevel.core import dtypes
from bevel.core.dtypes import is_inexact, is_integer
from bevel.numpy.convert import enter
from bevel.scipy.special.sums import logsumexp as logsumexp
from bevel.scipy.special.sums import normalized_exp

_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


def _inexact(x: Any) -> Any:
    x = enter(x)
    return x if is_inexact(x.dtype) else x.astype(dtypes.float32)


def identity(x: Any) -> Any:
    """The argument itself, as an array.

    >>> from bevel import nn
    >>> nn.identity([1.0, 2.0])
    Array([1., 2.], dtype=float32)
    """
    return enter(x)


def relu(x: Any) -> Any:
    """max(x, 0), with derivative 0 at 0.

    >>> from bevel import nn
    >>> nn.relu([-1.0, 0.0, 2.0])
    Array([0., 0., 2.], dtype=float32)
    """
    x = enter(x)
    return bnp.where(x <= 0, 0, x)


def relu6(x: Any) -> Any:
    """min(max(x, 0), 6), with derivative 0 at both ends.

    >>> from bevel import nn
    >>> nn.relu6([-1.0, 7.0])
    Array([0., 6.], dtype=float32)
    """
    x = _inexact(x)
    return bnp.where(x <= 0, 0, bnp.where(x >= 6, 6, x))


def leaky_relu(x: Any, negative_slope: Any = 0.01) -> Any:
    """X where x >= 0, `negative_slope * x` elsewhere.

    >>> from bevel import nn
    >>> nn.leaky_relu([-1.0, 2.0], 0.5)
    Array([-0.5,  2. ], dtype=float32)
    """
    x = _inexact(x)
    return bnp.where(x >= 0, x, negative_slope * x)


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)).

    >>> from bevel import nn
    >>> float(nn.sigmoid(0.0))
    0.5
    """
    return lax.logistic(_inexact(x))


def hard_sigmoid(x: Any) -> Any:
    """relu6(x + 3) / 6.

    >>> from bevel import nn
    >>> nn.hard_sigmoid([-3.0, 0.0, 3.0])
    Array([0. , 0.5, 1. ], dtype=float32)
    """
    return relu6(_inexact(x) + 3) / 6


def silu(x: Any) -> Any:
    """X * sigmoid(x), also called swish.

    >>> from bevel import nn
    >>> float(nn.silu(0.0))
    0.0
    """
    x = _inexact(x)
    return x * lax.logistic(x)


def hard_silu(x: Any) -> Any:
    """X * hard_sigmoid(x), also called hard swish.

    >>> from bevel import nn
    >>> nn.hard_silu([-3.0, 3.0])
    Array([-0.,  3.], dtype=float32)
    """
    x = _inexact(x)
    return x * hard_sigmoid(x)


swish = silu
hard_swish = hard_silu


def tanh(x: Any) -> Any:
    """Hyperbolic tangent.

    >>> from bevel import nn
    >>> nn.tanh([0.0, 100.0])
    Array([0., 1.], dtype=float32)
    """
    return bnp.tanh(enter(x))


def hard_tanh(x: Any) -> Any:
    """X cut at -1 and 1.

    >>> from bevel import nn
    >>> nn.hard_tanh([-2.0, 0.5, 2.0])
    Array([-1. ,  0.5,  1. ], dtype=float32)
    """
    x = enter(x)
    return bnp.where(x > 1, 1, bnp.where(x < -1, -1, x))


def soft_sign(x: Any) -> Any:
    """X / (1 + abs(x)).

    >>> from bevel import nn
    >>> nn.soft_sign([-1.0, 3.0])
    Array([-0.5 ,  0.75], dtype=float32)
    """
    x = _inexact(x)
    return x / (1 + abs(x))


def softplus(x: Any) -> Any:
    """log(1 + exp(x)), without overflow.

    >>> from bevel import nn
    >>> nn.softplus([-1000.0, 1000.0])
    Array([   0., 1000.], dtype=float32)
    """
    return bnp.logaddexp(_inexact(x), 0.0)


def squareplus(x: Any, b: Any = 4) -> Any:
    """(x + sqrt(x**2 + b)) / 2.

    >>> from bevel import nn
    >>> float(nn.squareplus(0.0))
    1.0
    """
    x = _inexact(x)
    return (x + bnp.sqrt(x * x + b)) / 2


def mish(x: Any) -> Any:
    """X * tanh(softplus(x)) (Misra, arXiv:1908.08681).

    >>> from bevel import nn
    >>> float(nn.mish(0.0))
    0.0
    """
    x = _inexact(x)
    return x * bnp.tanh(softplus(x))


def log_sigmoid(x: Any) -> Any:
    """log(sigmoid(x)), without overflow.

    >>> from bevel import nn
    >>> float(nn.log_sigmoid(-100.0))
    -100.0
    """
    return -softplus(-_inexact(x))


def elu(x: Any, alpha: Any = 1.0) -> Any:
    """X where x > 0, `alpha * (exp(x) - 1)` elsewhere (Clevert et al., arXiv:1511.07289).

    >>> from bevel import nn
    >>> nn.elu([-1000.0, 2.0])
    Array([-1.,  2.], dtype=float32)
    """
    x = _inexact(x)
    return bnp.where(x > 0, x, alpha * bnp.expm1(bnp.where(x > 0, 0.0, x)))


def selu(x: Any) -> Any:
    """`elu` with the scale and alpha that keep mean 0 and variance 1 (Klambauer et al.,
    arXiv:1706.02515).

    >>> from bevel import nn
    >>> nn.selu([-1000.0, 1.0]).round(3)
    Array([-1.758,  1.051], dtype=float32)
    """
    return _SELU_SCALE * elu(x, _SELU_ALPHA)


def celu(x: Any, alpha: Any = 1.0) -> Any:
    """max(x, 0) + alpha * (exp(min(x, 0) / alpha) - 1) (Barron, arXiv:1704.07483).

    >>> from bevel import nn
    >>> nn.celu([-1000.0, 2.0], 0.5)
    Array([-0.5,  2. ], dtype=float32)
    """
    x = _inexact(x)
    return bnp.maximum(x, 0.0) + alpha * bnp.expm1(bnp.minimum(x, 0.0) / alpha)


def gelu(x: Any, approximate: bool = True) -> Any:
    """X times the normal distribution function at x, by erfc, or by the usual tanh formula if
    `approximate`.

    Hendrycks and Gimpel, arXiv:1606.08415.

    >>> from bevel import nn
    >>> round(float(nn.gelu(1.0)), 4), round(float(nn.gelu(1.0, approximate=False)), 4)
    (0.8412, 0.8413)
    """
    x = _inexact(x)
    if approximate:
        return x * (0.5 * (1 + bnp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))
    return 0.5 * x * lax.erfc(-x * math.sqrt(0.5))


def glu(x: Any, axis: int = -1) -> Any:
    """The first half along an axis, times the sigmoid of the second (Dauphin et al.,
    arXiv:1612.08083).

    Raises:
        ValueError: the axis has odd length.

    >>> from bevel import nn
    >>> nn.glu([4.0, 0.0])
    Array([2.], dtype=float32)
    """
    x = _inexact(x)
    if x.shape[axis] % 2:
        raise ValueError(
            f"glu: axis {axis} of an array of shape {x.shape} has odd length, so it has no halves"
        )
    a, b = bnp.split(x, 2, axis)
    return a * sigmoid(b)


def sparse_plus(x: Any) -> Any:
    """0 for x <= -1, x for x >= 1, (x + 1)**2 / 4 between.

    >>> from bevel import nn
    >>> nn.sparse_plus([-2.0, 0.0, 2.0])
    Array([0.  , 0.25, 2.  ], dtype=float32)
    """
    x = _inexact(x)
    return bnp.where(x <= -1, 0.0, bnp.where(x >= 1, x, (x + 1) ** 2 / 4))


def sparse_sigmoid(x: Any) -> Any:
    """The derivative of `sparse_plus`: a line from 0 at -1 to 1 at 1.

    >>> from bevel import nn
    >>> nn.sparse_sigmoid([-2.0, 0.0, 2.0])
    Array([0. , 0.5, 1. ], dtype=float32)
    """
    return 0.5 * bnp.clip(_inexact(x) + 1, 0.0, 2.0)


def log1mexp(x: Any) -> Any:
    """log(1 - exp(-x)) for x > 0, accurate near 0.

    >>> from bevel import nn
    >>> round(float(nn.log1mexp(1e-6)), 3)
    -13.816
    """
    x = _inexact(x)
    return bnp.where(x < math.log(2), bnp.log(-bnp.expm1(-x)), bnp.log1p(-bnp.exp(-x)))


# -- over an axis ----------------------------------------------------------------------------------


def logmeanexp(x: Any, axis: Any = None, where: Any = None, keepdims: bool = False) -> Any:
    """log(mean(exp(x))) over axes, without overflow.

    >>> from bevel import nn
    >>> float(nn.logmeanexp([5.0, 5.0]))
    5.0
    """
    x = _inexact(x)
    total = logsumexp(x, axis, keepdims=keepdims, where=where)
    terms = (
        bnp.ones(x.shape, total.dtype)
        if where is None
        else bnp.broadcast_to(where, x.shape).astype(total.dtype)
    )
    return total - bnp.log(bnp.sum(terms, axis=axis, keepdims=keepdims))


def softmax(x: Any, axis: Any = -1, where: Any = None) -> Any:
    """exp(x) over its sum along an axis (or axes); entries outside `where` count and become 0.

    >>> from bevel import nn
    >>> nn.softmax([1.0, 1.0])
    Array([0.5, 0.5], dtype=float32)
    """
    x = _inexact(x)
    if where is None:
        return normalized_exp(x, axis)
    largest = lax.stop_gradient(bnp.max(x, axis, keepdims=True, where=where, initial=-math.inf))
    terms = bnp.where(where, bnp.exp(bnp.where(where, x, -math.inf) - largest), 0)
    return terms / bnp.sum(terms, axis, keepdims=True)


def log_softmax(x: Any, axis: Any = -1, where: Any = None) -> Any:
    """log(softmax(x)), without overflow; entries outside `where` become -inf.

    >>> from bevel import nn
    >>> bool((nn.log_softmax([1000.0, 0.0]) == bnp.array([0.0, -1000.0])).all())
    True
    """
    x = _inexact(x)
    if where is not None:
        x = bnp.where(where, x, -math.inf)
    shifted = x - lax.stop_gradient(bnp.max(x, axis, keepdims=True))
    result = shifted - bnp.log(bnp.sum(bnp.exp(shifted), axis, keepdims=True))
    return result if where is None else bnp.where(where, result, -math.inf)


def standardize(
    x: Any,
    axis: Any = -1,
    mean: Any = None,
    variance: Any = None,
    epsilon: Any = 1e-5,
    where: Any = None,
    *,
    algorithm: str = "fast",
) -> Any:
    """(x - mean) / sqrt(variance + epsilon), with the mean and variance along an axis where none
    are given.

    `algorithm` says how the variance is found: "fast" as E[x²] - E[x]² in one pass, "stable" as
    E[(x - E[x])²].

    Raises:
        ValueError: another algorithm.

    >>> from bevel import nn
    >>> nn.standardize([1.0, 3.0], epsilon=0.0)
    Array([-1.,  1.], dtype=float32)
    """
    if algorithm not in ("fast", "stable"):
        raise ValueError(f"standardize: algorithm is 'fast' or 'stable', not {algorithm!r}")
    x = _inexact(x)
    if mean is None:
        mean = bnp.mean(x, axis, keepdims=True, where=where)
    if variance is None and algorithm == "stable":
        variance = bnp.mean(bnp.square(x - mean), axis, keepdims=True, where=where)
    elif variance is None:
        square = bnp.mean(x * x, axis, keepdims=True, where=where)
        variance = bnp.clip(square - bnp.square(mean), 0)
    return (x - mean) * lax.rsqrt(enter(variance) + epsilon)


def one_hot(x: Any, num_classes: int, *, dtype: Any = dtypes.float32, axis: int = -1) -> Any:
    """1 at the index, 0 elsewhere, along a new axis; all 0 for an index out of range.

    Args:
        x: integers.
        num_classes: length of the new axis.
        dtype: of the result.
        axis: where the new axis goes.

    Raises:
        TypeError: `x` is not of integers.

    >>> from bevel import nn
    >>> nn.one_hot([0, 2], 3)
    Array([[1., 0., 0.],
           [0., 0., 1.]], dtype=float32)
    """
    x = enter(x)
    if not is_integer(x.dtype):
        raise TypeError(
            f"one_hot: indices are integers, and x is {x.dtype}. Write instead: x.astype(int)"
        )
    axis = axis % (x.ndim + 1)
    classes = bnp.arange(num_classes, dtype=x.dtype).reshape(
        (num_classes,) + (1,) * (x.ndim - axis)
    )
    return (bnp.expand_dims(x, axis) == classes).astype(dtype)
