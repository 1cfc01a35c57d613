"""Samples of the op of fft.py."""

from bevel.ops import fft
from tests.samples.base import Sample, normal

SHAPES = ((6,), (5,), (1,), (2, 4), (2, 3, 5), (2, 3, 4, 2))


def samples():
    for shape in SHAPES:
        for lengths in {shape[-1:], shape[-2:], shape[-3:]}:
            for kind, dtype in (("fft", "complex64"), ("ifft", "complex64"), ("rfft", "float32")):
                params = dict(kind=kind, lengths=lengths)
                yield Sample(
                    fft, (normal(shape, dtype),), params, grad=(0,), name=f"{kind}{list(lengths)}"
                )
            half = (*shape[:-1], shape[-1] // 2 + 1)
            params = dict(kind="irfft", lengths=lengths)
            yield Sample(
                fft, (normal(half, "complex64"),), params, grad=(0,), name=f"irfft{list(lengths)}"
            )


SAMPLES = [
    *samples(),
    Sample(fft, (normal((2, 4), "complex128"),), dict(kind="fft", lengths=(4,))),
    Sample(fft, (normal((2, 4), "float64"),), dict(kind="rfft", lengths=(4,))),
    Sample(fft, (normal((2, 3), "complex128"),), dict(kind="irfft", lengths=(4,))),
    Sample(fft, (normal((0, 4), "float32"),), dict(kind="rfft", lengths=(4,)), name="empty"),
]
