"""The inverse error function in single precision, which every eager normal draw needs.

Giles 2012, "Approximating the erfinv function", as XLA computes it: a polynomial in the middle and
one in the tails. In NumPy it is quicker than SciPy's function, and needs no import.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

_MIDDLE: tuple[float, ...] = (
    2.81022636e-08,
    3.43273939e-07,
    -3.5233877e-06,
    -4.39150654e-06,
    0.00021858087,
    -0.00125372503,
    -0.00417768164,
    0.246640727,
    1.50140941,
)
_TAIL: tuple[float, ...] = (
    -0.000200214257,
    0.000100950558,
    0.00134934322,
    -0.00367342844,
    0.00573950773,
    -0.0076224613,
    0.00943887047,
    1.00167406,
    2.83297682,
)
_CONSTANTS = {cs: [np.array(c, np.float32) for c in cs] for cs in (_MIDDLE, _TAIL)}
_SMALL, _BLOCK = 24, 1 << 14
_ONE, _SHIFT, _FAR, _INFINITE = (np.array(v, np.float32) for v in (1, 2.5, 5, np.inf))


@functools.cache
def _normal_quantile() -> Callable[[float], float]:
    from statistics import NormalDist

    return NormalDist(0, math.sqrt(0.5)).inv_cdf


def _one(x: float) -> float:
    if -1e-3 < x < 1e-3:
        return x * (0.8862269254527580 + 0.2320136665346544 * x * x)
    if -1 < x < 1:
        return _normal_quantile()((x + 1) / 2)
    return math.copysign(math.inf, x) if abs(x) == 1 else math.nan


def _polynomial(coefficients: tuple[float, ...], w: np.ndarray) -> np.ndarray:
    first, *rest = _CONSTANTS[coefficients]
    p = np.full_like(w, first)
    for c in rest:
        np.multiply(p, w, out=p)
        np.add(p, c, out=p)
    return p


def _block(x: np.ndarray) -> np.ndarray:
    w = np.log1p(-x * x)
    np.negative(w, out=w)
    far = w >= _FAR
    out = _polynomial(_MIDDLE, w - _SHIFT)
    if far.any():
        out[far] = _polynomial(_TAIL, np.sqrt(w[far]) - np.float32(3))
        out[np.abs(x) == _ONE] = _INFINITE
    return out * x


def erf_inv(x: np.ndarray) -> np.ndarray:
    """The number whose error function is `x`, float32; infinite at -1 and 1, NaN outside.

    >>> erf_inv(np.array([0.0, 0.5], np.float32))
    array([0.        , 0.47693628], dtype=float32)
    """
    flat = x.reshape(-1)
    if flat.size <= _SMALL:
        # For few numbers, Python's own quantile takes less time than forty calls of NumPy.
        return np.array([_one(v) for v in flat.tolist()], np.float32).reshape(x.shape)
    out = np.empty(flat.size, np.float32)
    for start in range(0, flat.size, _BLOCK):
        part = slice(start, start + _BLOCK)
        out[part] = _block(flat[part])
    return out.reshape(x.shape)
