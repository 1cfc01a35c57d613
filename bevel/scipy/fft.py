"""Discrete cosine transforms, each by one real or complex Fourier transform of twice the length.

Type 2 is "the" cosine transform and type 3 its inverse; 1 and 4 are their own, up to a factor.
`n` or `s` cut the transformed axes to a size, or fill them with zeros. `norm` says which direction
is divided by twice the number of points: "backward" (None), "forward", or "ortho", which makes the
transform an orthogonal matrix. Real and imaginary parts of complex data are transformed alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import bevel.numpy as bnp
from bevel.core import dtypes
from bevel.core.errors import ShapeError
from bevel.core.handle import wrap
from bevel.lax.elementwise import complex
from bevel.numpy.arguments import axes_of, axis_of, inexact, integer, number
from bevel.scipy.operands import one_of


def _turns(like: Any, numerators: np.ndarray, denominator: int) -> Any:
    """`exp(-i pi a / b)` in the complex dtype that goes with an array."""
    dtype = dtypes.complex_dtype(np.dtype(like.dtype))
    return bnp.array(np.exp(-1j * np.pi * numerators / denominator), dtype=dtype)


def _dct1(x: Any, n: int) -> Any:
    return bnp.fft.rfft(bnp.concatenate([x, x[..., -2:0:-1]], axis=-1)).real


def _dct2(x: Any, n: int) -> Any:
    return 2 * (bnp.fft.rfft(x, 2 * n)[..., :n] * _turns(x, np.arange(n), 2 * n)).real


def _dct3(x: Any, n: int) -> Any:
    return 2 * n * bnp.fft.irfft(x * _turns(x, -np.arange(n), 2 * n), 2 * n)[..., :n]


def _dct4(x: Any, n: int) -> Any:
    spectrum = bnp.fft.fft(x * _turns(x, np.arange(n), 2 * n), 2 * n)[..., :n]
    return 2 * (spectrum * _turns(x, 2 * np.arange(n) + 1, 4 * n)).real


_TYPES = {1: _dct1, 2: _dct2, 3: _dct3, 4: _dct4}
_INVERSE = {1: 1, 2: 3, 3: 2, 4: 4}
_NORMS = (None, "backward", "ortho", "forward")


def _ends(n: int, first: float, last: float = 1.0) -> np.ndarray:
    """Ones with other ends."""
    factors = np.ones(n)
    factors[0] *= first
    factors[-1] *= last
    return factors


def _scaled(x: Any, factors: np.ndarray) -> Any:
    return x * bnp.array(factors, dtype=x.dtype)


def _along_last(x: Any, type: int, norm: str | None, inverse: bool) -> Any:
    n = x.shape[-1]
    points = 2 * (n - 1) if type == 1 else 2 * n
    if norm != "ortho":
        out = _TYPES[type](x, n)
        return out / points if inverse == (norm != "forward") else out
    root = math.sqrt(2)
    before = {1: _ends(n, root, root), 3: _ends(n, root)}.get(type)
    after = {1: _ends(n, 1 / root, 1 / root), 2: _ends(n, 1 / root)}.get(type, np.ones(n))
    out = _TYPES[type](x if before is None else _scaled(x, before), n)
    return _scaled(out, after / math.sqrt(points))


def _transform(
    name: str, x: Any, type: int, n: int | None, axis: int, norm: str | None, inverse: bool
) -> Any:
    x = wrap(inexact(number(name, x)))
    one_of(name, "type", type, _TYPES)
    one_of(name, "norm", norm, _NORMS)
    if dtypes.is_complex(np.dtype(x.dtype)):
        parts = [_transform(name, p, type, n, axis, norm, inverse) for p in (x.real, x.imag)]
        return complex(*parts)
    axis = axis_of(name, axis, x.ndim)
    x = bnp.moveaxis(x, axis, -1)
    n = x.shape[-1] if n is None else integer(name, "n", n)
    least = 2 if type == 1 else 1
    if n < least:
        raise ShapeError(f"{name}: type {type} needs at least {least} points along axis {axis}")
    x = x[..., :n]
    x = bnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, n - x.shape[-1])])
    out = _along_last(x, _INVERSE[type] if inverse else type, norm, inverse)
    return bnp.moveaxis(out.astype(x.dtype), -1, axis)


def _transform_axes(
    name: str,
    x: Any,
    type: int,
    s: Sequence[int] | int | None,
    axes: Sequence[int] | int | None,
    norm: str | None,
    inverse: bool,
) -> Any:
    x = wrap(inexact(number(name, x)))
    sizes = [s] if isinstance(s, int) else s
    if axes is None and sizes is not None:
        axes = range(x.ndim - len(sizes), x.ndim)
    axes = axes_of(name, axes, x.ndim)
    sizes = [None] * len(axes) if sizes is None else sizes
    if len(sizes) != len(axes):
        raise ValueError(f"{name}: {len(sizes)} sizes for {len(axes)} axes; give one for each")
    for n, axis in zip(sizes, axes, strict=True):
        x = _transform(name, x, type, n, axis, norm, inverse)
    return x


def dct(
    x: Any, type: int = 2, n: int | None = None, axis: int = -1, norm: str | None = None
) -> Any:
    """Cosine transform of an axis.

    Raises:
        ShapeError: an axis without points, or a single one for type 1.

    >>> from bevel.scipy.fft import dct
    >>> bnp.round(dct(bnp.array([1.0, 1.0])))
    Array([4., 0.], dtype=float32)
    """
    return _transform("dct", x, type, n, axis, norm, False)


def idct(
    x: Any, type: int = 2, n: int | None = None, axis: int = -1, norm: str | None = None
) -> Any:
    """Inverse of `dct`.

    >>> from bevel.scipy.fft import dct, idct
    >>> bnp.round(idct(dct(bnp.array([1.0, 5.0]))))
    Array([1., 5.], dtype=float32)
    """
    return _transform("idct", x, type, n, axis, norm, True)


def dctn(
    x: Any,
    type: int = 2,
    s: Sequence[int] | int | None = None,
    axes: Sequence[int] | int | None = None,
    norm: str | None = None,
) -> Any:
    """Cosine transform of several axes (None: all, or the last `len(s)`).

    >>> from bevel.scipy.fft import dctn
    >>> bnp.round(dctn(bnp.ones((2, 2))))
    Array([[16.,  0.],
           [ 0.,  0.]], dtype=float32)
    """
    return _transform_axes("dctn", x, type, s, axes, norm, False)


def idctn(
    x: Any,
    type: int = 2,
    s: Sequence[int] | int | None = None,
    axes: Sequence[int] | int | None = None,
    norm: str | None = None,
) -> Any:
    """Inverse of `dctn`.

    >>> from bevel.scipy.fft import idctn
    >>> idctn(bnp.array([[16.0, 0.0], [0.0, 0.0]]))
    Array([[1., 1.],
           [1., 1.]], dtype=float32)
    """
    return _transform_axes("idctn", x, type, s, axes, norm, True)
