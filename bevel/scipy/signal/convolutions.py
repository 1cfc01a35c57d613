"""Convolutions and correlations of arrays of any number of axes.

`mode` is "full" (wherever the arrays overlap), "same" (the middle of that, of the size of the first
array) or "valid" (where one lies within the other). Integers are computed as float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import bevel.numpy as bnp
from bevel.core.errors import ShapeError
from bevel.lax.products import conv_general_dilated
from bevel.numpy.arguments import axes_of
from bevel.scipy.operands import inexacts, one_of

_MODES = ("full", "same", "valid")
_BOUNDARIES = {"fill": "constant", "wrap": "wrap", "symm": "symmetric"}


def _within(small: Sequence[int], large: Sequence[int]) -> bool:
    return all(a <= b for a, b in zip(small, large, strict=True))


def _arrays(name: str, in1: Any, in2: Any, mode: str, ndim: int | None = None) -> list[Any]:
    x, y = inexacts(name, in1, in2)
    one_of(name, "mode", mode, _MODES)
    if x.ndim != y.ndim or ndim not in (None, x.ndim):
        wanted = "as many axes" if ndim is None else f"{ndim} axes each"
        raise ShapeError(f"{name}: shapes {x.shape} and {y.shape}; the arrays must have {wanted}")
    if 0 in x.shape or 0 in y.shape:
        raise ShapeError(f"{name}: shapes {x.shape} and {y.shape}; an array is empty")
    return [x, y]


def _ordered(name: str, x: Any, y: Any, axes: Sequence[int]) -> tuple[Any, Any]:
    """The larger and the smaller array, for "valid"."""
    sizes = [[a.shape[i] for i in axes] for a in (x, y)]
    if _within(sizes[1], sizes[0]):
        return x, y
    if _within(sizes[0], sizes[1]):
        return y, x
    raise ShapeError(
        f"{name}: shapes {x.shape} and {y.shape}; with mode='valid' one must be at least as large "
        "as the other along every axis"
    )


def _direct(
    name: str,
    x: Any,
    y: Any,
    mode: str,
    precision: Any,
    pad: dict[str, Any] | None = None,
    late: bool = False,
) -> Any:
    """Convolution, with `pad` around x (None: zeros); `late` takes for "same" the later middle."""
    x, y = _ordered(name, x, y, range(x.ndim)) if mode == "valid" else (x, y)
    widths = []
    for n in y.shape:
        cut = {"full": 0, "same": (n - 1) // 2, "valid": n - 1}[mode]
        after = {"full": 0, "same": n - 1 - cut, "valid": n - 1}[mode]
        widths.append((n - 1 - after, n - 1 - cut) if late else (n - 1 - cut, n - 1 - after))
    if pad is not None:
        x, widths = bnp.pad(x, widths, **pad), [(0, 0)] * x.ndim
    return conv_general_dilated(
        x[None, None], bnp.flip(y)[None, None], (1,) * x.ndim, widths, precision=precision
    )[0, 0]


def fftconvolve(
    in1: Any, in2: Any, mode: str = "full", axes: Sequence[int] | int | None = None
) -> Any:
    """Convolution along `axes` (None: all) by Fourier transforms, fast for two large arrays; along
    the other axes the arrays are broadcast.

    Raises:
        ShapeError: shapes that do not fit, or no elements.

    >>> from bevel.scipy.signal import fftconvolve
    >>> bnp.round(fftconvolve(bnp.array([1.0, 2.0]), bnp.array([1.0, 1.0])))
    Array([1., 3., 2.], dtype=float32)
    """
    name = "fftconvolve"
    x, y = _arrays(name, in1, in2, mode)
    places = axes_of(name, axes, x.ndim)
    rest = [i for i in range(x.ndim) if i not in places]
    if any(1 not in (x.shape[i], y.shape[i]) and x.shape[i] != y.shape[i] for i in rest):
        raise ShapeError(
            f"{name}: shapes {x.shape} and {y.shape} do not broadcast along the axes {rest}, which "
            f"are not among axes={axes}"
        )
    if mode == "valid":
        x, y = _ordered(name, x, y, places)
    full = [x.shape[i] + y.shape[i] - 1 for i in places]
    # Along an axis of one element there is nothing to transform.
    long = [i for i in places if 1 not in (x.shape[i], y.shape[i])]
    sizes = [x.shape[i] + y.shape[i] - 1 for i in long]
    if not long:
        out = x * y
    elif bnp.iscomplexobj(x):
        spectrum = bnp.fft.fftn(x, sizes, long) * bnp.fft.fftn(y, sizes, long)
        out = bnp.fft.ifftn(spectrum, sizes, long)
    else:
        spectrum = bnp.fft.rfftn(x, sizes, long) * bnp.fft.rfftn(y, sizes, long)
        out = bnp.fft.irfftn(spectrum, sizes, long).astype(x.dtype)
    cut = [slice(None)] * x.ndim
    for i, n in zip(places, full, strict=True):
        size = {"full": n, "same": x.shape[i], "valid": x.shape[i] - y.shape[i] + 1}[mode]
        cut[i] = slice((n - size) // 2, (n - size) // 2 + size)
    return out[tuple(cut)]


def convolve(
    in1: Any, in2: Any, mode: str = "full", method: str = "auto", precision: Any = None
) -> Any:
    """Convolution of arrays with the same number of axes.

    `method` is "direct", which "auto" always means, or "fft" (`fftconvolve`).

    >>> from bevel.scipy.signal import convolve
    >>> convolve(bnp.array([1.0, 2.0, 3.0]), bnp.array([1.0, 1.0]), mode="same")
    Array([1., 3., 5.], dtype=float32)
    """
    one_of("convolve", "method", method, ("auto", "direct", "fft"))
    if method == "fft":
        return fftconvolve(in1, in2, mode)
    x, y = _arrays("convolve", in1, in2, mode)
    return _direct("convolve", x, y, mode, precision)


def correlate(
    in1: Any, in2: Any, mode: str = "full", method: str = "auto", precision: Any = None
) -> Any:
    """Cross-correlation: the convolution with the second array reversed and conjugated.

    >>> from bevel.scipy.signal import correlate
    >>> correlate(bnp.array([1.0, 2.0, 3.0]), bnp.array([0.0, 1.0]), mode="valid")
    Array([2., 3.], dtype=float32)
    """
    x, y = _arrays("correlate", in1, in2, mode)
    return convolve(x, bnp.flip(y.conj()), mode, method, precision)


def _pad(name: str, boundary: str, fillvalue: Any) -> dict[str, Any] | None:
    one_of(name, "boundary", boundary, _BOUNDARIES)
    if boundary != "fill":
        return dict(mode=_BOUNDARIES[boundary])
    plain = isinstance(fillvalue, int | float) and fillvalue == 0
    return None if plain else dict(mode="constant", constant_values=fillvalue)


def convolve2d(
    in1: Any,
    in2: Any,
    mode: str = "full",
    boundary: str = "fill",
    fillvalue: Any = 0,
    precision: Any = None,
) -> Any:
    """Convolution of matrices, with a choice of what lies around the first.

    `boundary` is "fill" (`fillvalue`), "wrap" (the matrix again) or "symm" (its mirror image).

    >>> from bevel.scipy.signal import convolve2d
    >>> convolve2d(bnp.eye(2), bnp.ones((1, 2)), mode="same", boundary="wrap")
    Array([[1., 1.],
           [1., 1.]], dtype=float32)
    """
    x, y = _arrays("convolve2d", in1, in2, mode, 2)
    return _direct("convolve2d", x, y, mode, precision, _pad("convolve2d", boundary, fillvalue))


def correlate2d(
    in1: Any,
    in2: Any,
    mode: str = "full",
    boundary: str = "fill",
    fillvalue: Any = 0,
    precision: Any = None,
) -> Any:
    """Cross-correlation of matrices, the second conjugated; arguments as in `convolve2d`.

    >>> from bevel.scipy.signal import correlate2d
    >>> correlate2d(bnp.eye(2), bnp.eye(2), mode="valid")
    Array([[2.]], dtype=float32)
    """
    x, y = _arrays("correlate2d", in1, in2, mode, 2)
    pad = _pad("correlate2d", boundary, fillvalue)
    out = _direct("correlate2d", x, bnp.flip(y.conj()), mode, precision, pad, late=True)
    # As in SciPy, the smaller of the two is the one that is conjugated.
    return out if mode != "valid" or _within(y.shape, x.shape) else out.conj()
