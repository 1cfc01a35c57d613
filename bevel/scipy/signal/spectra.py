"""Spectra of signals that change: the signal is cut into overlapping segments, each is multiplied
by a window and transformed.

`window` is a name or tuple that `scipy.signal.get_window` knows, or the values themselves. Sizes
and window names are part of the program; samples, window values and `fs` may be traced.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import bevel.numpy as bnp
from bevel.core import dtypes
from bevel.core.errors import ShapeError
from bevel.core.handle import wrap
from bevel.lax.elementwise import complex
from bevel.numpy.arguments import axis_of, integer, number
from bevel.scipy.operands import at_least_single, inexacts, one_of
from bevel.scipy.signal.trends import detrend as remove_trend

_EXTENSIONS: dict[str | None, dict[str, Any]] = {
    "even": dict(mode="reflect"),
    "odd": dict(mode="reflect", reflect_type="odd"),
    "constant": dict(mode="edge"),
    "zeros": dict(mode="constant"),
    None: {},
}


class _Segments(NamedTuple):
    """How a signal is cut: samples in a segment, from one to the next, and of the transform."""

    window: Any
    size: int
    step: int
    points: int


def _named_window(window: Any, size: int) -> np.ndarray:
    if window == "hann":
        return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / max(size, 1)) if size > 1 else [1.0]
    from scipy.signal import get_window

    return get_window(window, size)


def _window(name: str, window: Any, size: int | None, length: int | None, dtype: Any) -> Any:
    """The values of a window, of `size` samples or 256, at most the `length` of a signal."""
    if isinstance(window, str | tuple):
        wanted = 256 if size is None else size
        most = wanted if length is None else min(wanted, length)
        if size is not None and most < size:
            warnings.warn(
                f"{name}: nperseg={size} is more than the {length} samples; using {length}",
                stacklevel=4,
            )
        return bnp.array(_named_window(window, most), dtype=dtype)
    values = wrap(number(name, window))
    if values.ndim != 1 or size not in (None, values.shape[0]):
        raise ShapeError(
            f"{name}: window has shape {values.shape}, and it must be a vector"
            + (f" of nperseg={size} values" if size is not None else "")
        )
    if length is not None and length < values.shape[0]:
        raise ShapeError(f"{name}: a window of {values.shape[0]} values for {length} samples")
    return values.astype(dtype)


def _at_least(name: str, what: str, value: Any, least: int) -> int:
    value = integer(name, what, value)
    if value < least:
        raise ValueError(f"{name}: {what} must be at least {least}, got {value}")
    return value


def _segments(name: str, window: Any, noverlap: Any, nfft: Any) -> _Segments:
    size = window.shape[0]
    overlap = size // 2 if noverlap is None else _at_least(name, "noverlap", noverlap, 0)
    if overlap >= size:
        raise ValueError(f"{name}: noverlap={overlap} must be less than nperseg={size}")
    points = size if nfft is None else _at_least(name, "nfft", nfft, size)
    return _Segments(window, size, size - overlap, points)


def _places(count: int, cut: _Segments) -> np.ndarray:
    """The samples of each segment."""
    return (np.arange(count)[:, None] * cut.step + np.arange(cut.size)).astype(np.int32)


def _detrender(name: str, how: Any, axis: int, ndim: int) -> Callable[[Any], Any]:
    if isinstance(how, str):
        return lambda d: remove_trend(d, type=how)
    if callable(how):
        if axis == ndim - 1:
            return how
        return lambda d: bnp.moveaxis(how(bnp.moveaxis(d, -1, axis)), axis, -1)
    if how:
        raise ValueError(f"{name}: detrend must be False, a type or a function, got {how!r}")
    return lambda d: d


def _transformed(x: Any, cut: _Segments, detrend: Callable, onesided: bool) -> Any:
    """Spectra of the segments of the last axis, (..., segments, frequencies)."""
    count = max(0, (x.shape[-1] - cut.size) // cut.step + 1)
    parts = detrend(bnp.take(x, _places(count, cut), axis=-1)) * cut.window
    return (bnp.fft.rfft if onesided else bnp.fft.fft)(parts, cut.points)


def _same_length(x: Any, y: Any) -> list[Any]:
    """Zeros after the shorter of two signals."""
    n = max(x.shape[-1], y.shape[-1])
    return [bnp.pad(v, [(0, 0)] * (v.ndim - 1) + [(0, n - v.shape[-1])]) for v in (x, y)]


def _extended(signals: list[Any], cut: _Segments, boundary: str | None, padded: bool) -> list[Any]:
    def at_ends(x: Any, before: int, after: int, **how: Any) -> Any:
        return bnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(before, after)], **how)

    if boundary is not None:
        half = cut.size // 2
        signals = [at_ends(x, half, half, **_EXTENSIONS[boundary]) for x in signals]
    if padded:
        missing = (-(signals[0].shape[-1] - cut.size) % cut.step) % cut.size
        signals = [at_ends(x, 0, missing) for x in signals]
    return signals


def _spectra(
    name: str,
    x: Any,
    y: Any,
    fs: Any,
    window: Any,
    nperseg: Any,
    noverlap: Any,
    nfft: Any,
    detrend: Any,
    return_onesided: bool,
    scaling: str,
    axis: int,
    squared: bool,
    boundary: str | None = None,
    padded: bool = False,
) -> tuple[Any, Any, Any]:
    """Frequencies, times, and the spectra with the frequencies at `axis` and the segments last."""
    one_of(name, "scaling", scaling, ("density", "spectrum"))
    one_of(name, "boundary", boundary, _EXTENSIONS)
    signals = inexacts(name, *([x] if y is None else [x, y]))
    dtype = at_least_single(signals[0].dtype)
    signals = [s.astype(dtype) for s in signals]
    real = dtypes.real_dtype(dtype)
    ndim = max(s.ndim for s in signals)
    signals = [bnp.moveaxis(s, axis_of(name, axis, s.ndim), -1) for s in signals]
    axis = axis_of(name, axis, ndim)
    signals = signals if y is None else _same_length(*signals)
    if 0 in signals[0].shape or 0 in signals[-1].shape:
        raise ShapeError(f"{name}: a signal of shape {bnp.shape(x)} has no samples")
    nperseg = None if nperseg is None else _at_least(name, "nperseg", nperseg, 1)
    values = _window(name, window, nperseg, signals[0].shape[-1], real)
    cut = _segments(name, values, noverlap, nfft)
    signals = _extended(signals, cut, boundary, padded)
    onesided = return_onesided and not dtypes.is_complex(dtype)
    if return_onesided and not onesided:
        warnings.warn(
            f"{name}: a complex signal has a two-sided spectrum; write return_onesided=False",
            stacklevel=3,
        )
    trend = _detrender(name, detrend, axis, ndim)
    found = [_transformed(s, cut, trend, onesided) for s in signals]
    scale = 1 / values.sum() ** 2
    if scaling == "density":
        scale = 1 / (fs * (values * values).sum())
    if squared:
        result = found[0].conj() * found[-1] * scale
        result = result if y is not None else result.real
        if onesided:  # the other half has as much
            weights = np.full(result.shape[-1], 2)
            weights[[0] if cut.points % 2 else [0, -1]] = 1
            result = result * weights
    else:
        result = found[0] * bnp.sqrt(scale)
    frequencies = (bnp.fft.rfftfreq if onesided else bnp.fft.fftfreq)(cut.points, dtype=real) * fs
    times = cut.step * np.arange(result.shape[-2]) + (cut.size / 2 if boundary is None else 0)
    times = bnp.array(times, dtype=real) / fs
    return frequencies, times, bnp.moveaxis(result, -1, axis)


def stft(
    x: Any,
    fs: Any = 1.0,
    window: Any = "hann",
    nperseg: int = 256,
    noverlap: int | None = None,
    nfft: int | None = None,
    detrend: Any = False,
    return_onesided: bool = True,
    boundary: str | None = "zeros",
    padded: bool = True,
    axis: int = -1,
) -> tuple[Any, Any, Any]:
    """Short-time Fourier transform: the spectrum of each of a series of overlapping segments.

    Args:
        x: the signal along `axis`.
        fs: samples per unit of time.
        window: see above; values set `nperseg`.
        nperseg: samples in a segment.
        noverlap: samples that a segment shares with the next (None: half of them).
        nfft: points of each transform, `nperseg` or more; zeros are added.
        detrend: what is taken off each segment: "constant" (its mean), "linear", a function of the
            segments, or nothing.
        return_onesided: of a real signal give only the frequencies that are not negative.
        boundary: what is put at both ends, half a segment each: "zeros", "even", "odd" (mirrored
            about the end), "constant" or None.
        padded: add zeros at the end for a whole number of segments.
        axis: the axis of the samples.

    Returns:
        Frequencies, times of the middles of the segments, and the complex spectra, with the
        frequencies at `axis` and the times last.

    Raises:
        ShapeError: no samples, or a window that does not fit.
        ValueError: `noverlap`, `nperseg` or `nfft` out of range.

    >>> from bevel.scipy.signal import stft
    >>> frequencies, times, spectra = stft(bnp.ones(16), nperseg=4)
    >>> frequencies, spectra.shape
    (Array([0.  , 0.25, 0.5 ], dtype=float32), (3, 9))
    """
    return _spectra(
        "stft",
        x,
        None,
        fs,
        window,
        nperseg,
        noverlap,
        nfft,
        detrend,
        return_onesided,
        "spectrum",
        axis,
        False,
        boundary,
        padded,
    )


def _median_bias(n: int) -> float:
    """The median of n periodograms over their mean (B. Allen et al., Phys. Rev. D 85, 2012)."""
    even = np.arange(2.0, n, 2)
    return 1 + float((1 / (even + 1) - 1 / even).sum())


def csd(
    x: Any,
    y: Any,
    fs: Any = 1.0,
    window: Any = "hann",
    nperseg: int | None = None,
    noverlap: int | None = None,
    nfft: int | None = None,
    detrend: Any = "constant",
    return_onesided: bool = True,
    scaling: str = "density",
    axis: int = -1,
    average: str = "mean",
) -> tuple[Any, Any]:
    """Cross power spectral density of two signals by Welch's method: the mean over segments.

    Arguments are those of `stft`; zeros follow the shorter signal.

    Args:
        x: a signal.
        y: another one; None for that of x with itself, which is real.
        fs: samples per unit of time.
        window: as in `stft`.
        nperseg: samples in a segment (None: 256, or all if there are fewer).
        noverlap: samples that a segment shares with the next.
        nfft: points of each transform.
        detrend: what is taken off each segment.
        return_onesided: of real signals give only the frequencies that are not negative.
        scaling: "density" (per unit of frequency) or "spectrum".
        axis: the axis of the samples.
        average: "mean", or "median" for signals with bursts.

    Returns:
        Frequencies, and the densities, with the frequencies at `axis`.

    >>> from bevel.scipy.signal import csd
    >>> frequencies, density = csd(bnp.ones(8), bnp.ones(8), nperseg=4)
    >>> density.dtype, density.shape
    (dtype('complex64'), (3,))
    """
    one_of("csd", "average", average, ("mean", "median"))
    frequencies, _, found = _spectra(
        "csd",
        x,
        y,
        fs,
        window,
        nperseg,
        noverlap,
        nfft,
        detrend,
        return_onesided,
        scaling,
        axis,
        True,
    )
    if average == "mean":
        return frequencies, found.mean(-1)
    bias = _median_bias(found.shape[-1])
    if bnp.iscomplexobj(found):
        parts = [bnp.median(p, axis=-1) / bias for p in (found.real, found.imag)]
        return frequencies, complex(*parts)
    return frequencies, bnp.median(found, axis=-1) / bias


def welch(
    x: Any,
    fs: Any = 1.0,
    window: Any = "hann",
    nperseg: int | None = None,
    noverlap: int | None = None,
    nfft: int | None = None,
    detrend: Any = "constant",
    return_onesided: bool = True,
    scaling: str = "density",
    axis: int = -1,
    average: str = "mean",
) -> tuple[Any, Any]:
    """Power spectral density of a signal: the mean over overlapping segments (P. Welch, IEEE Trans.
    Audio 15, 1967).

    Arguments and results are those of `csd`.

    >>> from bevel.scipy.signal import welch
    >>> frequencies, density = welch(bnp.array([1.0, -1.0] * 8), nperseg=4)
    >>> int(bnp.argmax(density))
    2
    """
    return csd(
        x,
        None,
        fs,
        window,
        nperseg,
        noverlap,
        nfft,
        detrend,
        return_onesided,
        scaling,
        axis,
        average,
    )


def istft(
    Zxx: Any,
    fs: Any = 1.0,
    window: Any = "hann",
    nperseg: int | None = None,
    noverlap: int | None = None,
    nfft: int | None = None,
    input_onesided: bool = True,
    boundary: bool = True,
    time_axis: int = -1,
    freq_axis: int = -2,
) -> tuple[Any, Any]:
    """The signal of a short-time Fourier transform: the segments, windowed again and added.

    Args:
        Zxx: what `stft` gave, perhaps changed.
        fs: samples per unit of time.
        window: as it was for `stft`.
        nperseg: samples in a segment (None: from the number of frequencies).
        noverlap: as it was for `stft`.
        nfft: points of each transform (None: from the number of frequencies).
        input_onesided: there are only frequencies that are not negative; the signal is real.
        boundary: `stft` had put something at both ends, which is cut off.
        time_axis: the axis of segments.
        freq_axis: the axis of frequencies.

    Returns:
        Times, and the signal, along the axis where the times were.

    Raises:
        ShapeError: fewer than two axes, or a window that does not fit.
        ValueError: the axes are the same, or sizes out of range.

    >>> from bevel.scipy.signal import istft, stft
    >>> _, _, spectra = stft(bnp.arange(8.0), nperseg=4)
    >>> bnp.round(istft(spectra)[1])
    Array([0., 1., 2., 3., 4., 5., 6., 7.], dtype=float32)
    """
    name = "istft"
    z = wrap(number(name, Zxx))
    if z.ndim < 2:
        raise ShapeError(f"{name}: Zxx has shape {z.shape}; it needs axes of frequencies and times")
    time, frequency = axis_of(name, time_axis, z.ndim), axis_of(name, freq_axis, z.ndim)
    if time == frequency:
        raise ValueError(f"{name}: time_axis and freq_axis are the same axis {time}")
    z = bnp.moveaxis(z, (time, frequency), (-2, -1))
    count, n = z.shape[-2:]
    z = z.astype(dtypes.complex_dtype(np.dtype(z.dtype)))
    points = 2 * (n - 1) if input_onesided else n
    size = points if nperseg is None else _at_least(name, "nperseg", nperseg, 1)
    if nfft is None and input_onesided and size == points + 1:
        points += 1  # an odd number of points has as many frequencies
    real = dtypes.real_dtype(np.dtype(z.dtype))
    cut = _segments(
        name, _window(name, window, size, None, real), noverlap, points if nfft is None else nfft
    )
    parts = (bnp.fft.irfft if input_onesided else bnp.fft.ifft)(z, cut.points)[..., : cut.size]
    places, length = _places(count, cut), cut.step * (count - 1) + cut.size

    def added(parts: Any) -> Any:
        zeros = bnp.zeros((*parts.shape[:-2], length), dtype=parts.dtype)
        return zeros.at[..., places].add(parts)

    x = added(parts * (cut.window * cut.window.sum()))
    weight = added(bnp.broadcast_to(cut.window * cut.window, (count, cut.size)))
    kept = slice(cut.size // 2, length - cut.size // 2) if boundary else slice(None)
    x = x[..., kept] / bnp.where(weight > 1e-10, weight, 1)[kept]
    times = bnp.arange(x.shape[-1], dtype=real) / fs
    return times, bnp.moveaxis(x, -1, time - (frequency < time))
