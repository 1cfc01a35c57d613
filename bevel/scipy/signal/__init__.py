"""Convolutions and spectra of sampled signals."""

from bevel.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "bevel.scipy.signal.convolutions": [
            "convolve",
            "convolve2d",
            "correlate",
            "correlate2d",
            "fftconvolve",
        ],
        "bevel.scipy.signal.spectra": ["csd", "istft", "stft", "welch"],
        "bevel.scipy.signal.trends": ["detrend"],
    },
)
