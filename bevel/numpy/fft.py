"""Discrete Fourier transforms, as `numpy.fft`, in single precision unless the data is double.

`n` or `s` cut the transformed axes to a size, or fill them with zeros. `norm` says which direction
is divided by the number of points: "backward" (None), "forward", or "ortho" for its root in both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import bevel.ops as ops
from bevel.core import dtypes
from bevel.core.errors import ShapeError
from bevel.core.handle import logical_shape, wrap
from bevel.numpy.arguments import axes_of, axis_of, cast, inexact, integer, number
from bevel.numpy.convert import enter
from bevel.numpy.manipulation import moveaxis
from bevel.numpy.placing import placed
from bevel.numpy.turning import roll

Axes = Sequence[int] | None
Sizes = Sequence[int] | None

_MOST = 3
"""Axes that one op transforms."""

_INVERSE = frozenset(("ifft", "irfft"))


def _scale(name: str, kind: str, norm: str | None, points: int) -> float:
    """What a transform must be multiplied by; the op's inverse is already divided by the points."""
    if norm not in (None, "backward", "ortho", "forward"):
        raise ValueError(f"{name}: norm must be 'backward', 'ortho' or 'forward', got {norm!r}")
    power = {None: 0.0, "backward": 0.0, "ortho": 0.5, "forward": 1.0}[norm]
    return points ** (power if kind in _INVERSE else -power)


def _resized(x: Any, sizes: Sequence[int]) -> Any:
    """The last axes cut, or filled with zeros at the end."""
    lead = len(x.shape) - len(sizes)
    cut = (*x.shape[:lead], *[min(n, m) for n, m in zip(x.shape[lead:], sizes, strict=True)])
    if cut != tuple(x.shape):
        x = ops.slice(x, start=(0,) * len(cut), limit=cut, strides=None)
    config = [(0, m - n, 0) for n, m in zip(x.shape[lead:], sizes, strict=True)]
    if not any(c[1] for c in config):
        return x
    return ops.pad(x, np.zeros((), x.dtype), config=((0, 0, 0),) * lead + tuple(config))


def _operand(name: str, a: Any, real: bool) -> Any:
    x = inexact(number(name, a))
    if dtypes.is_complex(np.dtype(x.dtype)):
        if real:
            raise TypeError(
                f"{name}: takes real numbers, got {x.dtype}; use x.real, or fft for complex ones"
            )
        return x
    dtype = dtypes.float64 if x.dtype == dtypes.float64 else dtypes.float32
    return cast(x, dtype) if real else cast(cast(x, dtype), dtypes.complex_dtype(dtype))


def _sizes(name: str, kind: str, shape: Sequence[int], s: Sizes) -> list[int]:
    """Lengths of the transform on its real side."""
    if s is not None:
        lengths = [integer(name, "every size", n) for n in s]
    else:
        lengths = [*shape[:-1], 2 * (shape[-1] - 1) if kind == "irfft" else shape[-1]]
    if min(lengths) < 1:
        raise ShapeError(
            f"{name}: an axis of {min(lengths)} points cannot be transformed; lengths are {lengths}"
        )
    return lengths


def _transform(name: str, kind: str, a: Any, s: Sizes, axes: Any, norm: str | None) -> Any:
    x = _operand(name, a, kind == "rfft")
    ndim = len(x.shape)
    if axes is None:
        axes = range(ndim) if s is None else range(ndim - len(s), ndim)
    axes = axes_of(name, tuple(axes), ndim)
    if s is not None and len(s) != len(axes):
        raise ValueError(
            f"{name}: {len(s)} sizes {tuple(s)} for {len(axes)} axes {axes}; give one for each"
        )
    if not axes:
        return wrap(x)
    ends = tuple(range(ndim - len(axes), ndim))
    x = moveaxis(wrap(x), axes, ends)._v
    lengths = _sizes(name, kind, x.shape[ndim - len(axes) :], s)
    half = [*lengths[:-1], lengths[-1] // 2 + 1] if kind == "irfft" else lengths
    out = _grouped(_resized(x, half), kind, lengths)
    factor = _scale(name, kind, norm, math.prod(lengths))
    if factor != 1:
        out = ops.mul(out, ops.full_like(out, factor))
    return moveaxis(wrap(out), ends, axes)


def _grouped(x: Any, kind: str, lengths: list[int]) -> Any:
    """Transform the last axes, as many at once as an op takes; the half-sided axis is in the last
    group.
    """
    first, last = lengths[:-_MOST], lengths[-_MOST:]
    if first and kind == "irfft":
        x = _leading(x, "ifft", first, len(last))
    x = ops.fft(x, kind=kind, lengths=tuple(last))
    if first and kind != "irfft":
        x = _leading(x, "ifft" if kind == "ifft" else "fft", first, len(last))
    return x


def _leading(x: Any, kind: str, lengths: list[int], after: int) -> Any:
    """Transform the axes that lie before the last `after`."""
    ndim = len(x.shape)
    places = tuple(range(ndim - after - len(lengths), ndim - after))
    ends = tuple(range(ndim - len(lengths), ndim))
    moved = moveaxis(wrap(x), places, ends)._v
    return moveaxis(wrap(_grouped(moved, kind, lengths)), ends, places)._v


def _one(name: str, kind: str, a: Any, n: int | None, axis: int, norm: str | None) -> Any:
    axis = axis_of(name, axis, len(logical_shape(enter(a))))
    return _transform(name, kind, a, None if n is None else (n,), (axis,), norm)


def fft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """Transform of an axis.

    >>> bnp.fft.fft(bnp.array([1.0, 0.0]))
    Array([1.+0.j, 1.+0.j], dtype=complex64)
    """
    return _one("fft", "fft", a, n, axis, norm)


def ifft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """Inverse of `fft`.

    >>> bnp.fft.ifft(bnp.array([2.0, 0.0]))
    Array([1.+0.j, 1.+0.j], dtype=complex64)
    """
    return _one("ifft", "ifft", a, n, axis, norm)


def rfft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """Transform of an axis of real numbers: the `n // 2 + 1` frequencies that are not negative.

    >>> bnp.fft.rfft(bnp.ones(4)).shape
    (3,)
    """
    return _one("rfft", "rfft", a, n, axis, norm)


def irfft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """Inverse of `rfft`: `n` real numbers, `2 * (m - 1)` from m frequencies unless it is given.

    >>> bnp.fft.irfft(bnp.array([4.0, 0.0, 0.0]))
    Array([1., 1., 1., 1.], dtype=float32)
    """
    return _one("irfft", "irfft", a, n, axis, norm)


_OPPOSITE = {None: "forward", "backward": "forward", "ortho": "ortho", "forward": "backward"}


def _opposite(name: str, norm: str | None) -> str:
    _scale(name, "fft", norm, 1)
    return _OPPOSITE[norm]


def hfft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """Transform of half of a signal whose other half is its conjugate: real numbers.

    >>> bnp.fft.hfft(bnp.array([1.0, 0.0]))
    Array([1., 1.], dtype=float32)
    """
    x = wrap(ops.conj(_operand("hfft", a, False)))
    return _one("hfft", "irfft", x, n, axis, _opposite("hfft", norm))


def ihfft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """Inverse of `hfft`.

    >>> bnp.fft.ihfft(bnp.ones(4)).shape
    (3,)
    """
    return wrap(ops.conj(_one("ihfft", "rfft", a, n, axis, _opposite("ihfft", norm))._v))


def fftn(a: Any, s: Sizes = None, axes: Axes = None, norm: str | None = None) -> Any:
    """Transform of several axes (None: all, or the last `len(s)`).

    >>> bnp.fft.fftn(bnp.ones((2, 2)))[0, 0]
    Array(4.+0.j, dtype=complex64)
    """
    return _transform("fftn", "fft", a, s, axes, norm)


def ifftn(a: Any, s: Sizes = None, axes: Axes = None, norm: str | None = None) -> Any:
    """Inverse of `fftn`.

    >>> bnp.fft.ifftn(bnp.ones((2, 2)))[0, 0]
    Array(1.+0.j, dtype=complex64)
    """
    return _transform("ifftn", "ifft", a, s, axes, norm)


def rfftn(a: Any, s: Sizes = None, axes: Axes = None, norm: str | None = None) -> Any:
    """Transform of several axes of real numbers; the last of them keeps its non-negative
    frequencies.

    >>> bnp.fft.rfftn(bnp.ones((4, 4))).shape
    (4, 3)
    """
    return _transform("rfftn", "rfft", a, s, axes, norm)


def irfftn(a: Any, s: Sizes = None, axes: Axes = None, norm: str | None = None) -> Any:
    """Inverse of `rfftn`.

    >>> bnp.fft.irfftn(bnp.ones((4, 3))).shape
    (4, 4)
    """
    return _transform("irfftn", "irfft", a, s, axes, norm)


def fft2(a: Any, s: Sizes = None, axes: Axes = (-2, -1), norm: str | None = None) -> Any:
    """Transform of two axes.

    >>> bnp.fft.fft2(bnp.ones((3, 2, 2))).shape
    (3, 2, 2)
    """
    return _transform("fft2", "fft", a, s, axes, norm)


def ifft2(a: Any, s: Sizes = None, axes: Axes = (-2, -1), norm: str | None = None) -> Any:
    """Inverse of `fft2`.

    >>> bnp.fft.ifft2(bnp.ones((3, 2, 2))).shape
    (3, 2, 2)
    """
    return _transform("ifft2", "ifft", a, s, axes, norm)


def rfft2(a: Any, s: Sizes = None, axes: Axes = (-2, -1), norm: str | None = None) -> Any:
    """Transform of two axes of real numbers.

    >>> bnp.fft.rfft2(bnp.ones((4, 4))).shape
    (4, 3)
    """
    return _transform("rfft2", "rfft", a, s, axes, norm)


def irfft2(a: Any, s: Sizes = None, axes: Axes = (-2, -1), norm: str | None = None) -> Any:
    """Inverse of `rfft2`.

    >>> bnp.fft.irfft2(bnp.ones((4, 3))).shape
    (4, 4)
    """
    return _transform("irfft2", "irfft", a, s, axes, norm)


def fftfreq(n: int, d: float = 1.0, *, dtype: Any = None, device: Any = None) -> Any:
    """Frequencies of `fft`, in cycles per unit of the spacing `d`: first those that are not
    negative.

    >>> bnp.fft.fftfreq(4)
    Array([ 0.  ,  0.25, -0.5 , -0.25], dtype=float32)
    """
    n = integer("fftfreq", "n", n)
    found = dtypes.float32 if dtype is None else dtypes.as_dtype(dtype)
    return placed(enter(np.fft.fftfreq(n, d), found), device)


def rfftfreq(n: int, d: float = 1.0, *, dtype: Any = None, device: Any = None) -> Any:
    """Frequencies of `rfft`, in cycles per unit of the spacing `d`.

    >>> bnp.fft.rfftfreq(4)
    Array([0.  , 0.25, 0.5 ], dtype=float32)
    """
    n = integer("rfftfreq", "n", n)
    found = dtypes.float32 if dtype is None else dtypes.as_dtype(dtype)
    return placed(enter(np.fft.rfftfreq(n, d), found), device)


def _shift(name: str, x: Any, axes: Any, sign: int) -> Any:
    shape = logical_shape(enter(x))
    places = axes_of(name, axes, len(shape))
    return roll(x, [sign * (shape[i] // 2) for i in places], list(places)) if places else enter(x)


def fftshift(x: Any, axes: Any = None) -> Any:
    """Move the frequency zero to the middle of axes (None: all).

    >>> bnp.fft.fftshift(bnp.fft.fftfreq(4))
    Array([-0.5 , -0.25,  0.  ,  0.25], dtype=float32)
    """
    return _shift("fftshift", x, axes, 1)


def ifftshift(x: Any, axes: Any = None) -> Any:
    """Inverse of `fftshift`.

    >>> bnp.fft.ifftshift(bnp.array([-1, 0, 1]))
    Array([ 0,  1, -1], dtype=int32)
    """
    return _shift("ifftshift", x, axes, -1)
