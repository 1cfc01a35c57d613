"""Fourier transforms over the last axes.

`lengths` are the sizes of the transformed axes on the *real* side: of the operand for fft, ifft and
rfft, of the result for irfft. Forward transforms are not scaled, inverse ones by 1/n.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from bevel.core import dtypes
from bevel.core.aval import Aval
from bevel.core.op import Op, linear
from bevel.ops.base import broadcast_in_dim
from bevel.ops.elementwise import conj, mul
from bevel.ops.shape import concatenate

KINDS = ("fft", "ifft", "rfft", "irfft")
_NUMPY: dict[str, Callable] = {
    "fft": np.fft.fftn,
    "ifft": np.fft.ifftn,
    "rfft": np.fft.rfftn,
    "irfft": np.fft.irfftn,
}


def _abstract(x: Aval, *, kind, lengths) -> Aval:
    if kind not in KINDS:
        raise ValueError(f"fft: kind must be one of {', '.join(KINDS)}, got {kind!r}")
    n = len(lengths)
    if not 1 <= n <= 3 or n > x.ndim:
        raise ValueError(
            f"fft: one to three of the operand's axes can be transformed, got lengths {lengths} "
            f"for shape {x.shape}"
        )
    wanted = (dtypes.float32, dtypes.float64) if kind == "rfft" else dtypes.COMPLEX
    if x.dtype not in wanted:
        names = " or ".join(d.name for d in wanted)
        raise TypeError(
            f"fft: {kind} takes {names}, got {x}; convert it with .astype({wanted[0].name!r})"
        )
    last = lengths[-1] // 2 + 1 if kind == "irfft" else lengths[-1]
    if x.shape[-n:] != (*lengths[:-1], last):
        raise ValueError(
            f"fft: {kind} with lengths {lengths} takes last axes {(*lengths[:-1], last)}, got "
            f"shape {x.shape}; "
            "pad or slice the operand first"
        )
    if min(lengths) < 1:
        raise ValueError(f"fft: {kind} of an axis of size 0 has no meaning, got lengths {lengths}")
    if kind == "rfft":
        return Aval((*x.shape[:-1], lengths[-1] // 2 + 1), dtypes.complex_dtype(x.dtype))
    return Aval(
        (*x.shape[:-1], lengths[-1]), dtypes.real_dtype(x.dtype) if kind == "irfft" else x.dtype
    )


def _reference(x, *, kind, lengths):
    axes = tuple(range(-len(lengths), 0))
    out = _abstract(Aval(x.shape, x.dtype), kind=kind, lengths=lengths)
    if x.size == 0:
        return np.zeros(out.shape, out.dtype)
    return _NUMPY[kind](x, s=lengths, axes=axes).astype(out.dtype, copy=False)


def _weigh(x, n: int, doubled: float, single: float):
    """Multiply the columns of a half spectrum of `n` that stand for two, and those that do not."""
    columns = x.shape[-1]
    last = 1 - n % 2 if columns > 1 else 0
    parts = [(1, single), (columns - 1 - last, doubled), (last, single)]
    weights = [
        broadcast_in_dim(np.asarray(w, x.dtype), shape=(count,), dims=())
        for count, w in parts
        if count
    ]
    row = concatenate(*weights, axis=0) if len(weights) > 1 else weights[0]
    return mul(x, broadcast_in_dim(row, shape=tuple(x.shape), dims=(len(x.shape) - 1,)))


def _rfft_transpose(ct, *, lengths):
    total = math.prod(lengths)
    return fft(_weigh(conj(ct), lengths[-1], total / 2, total), kind="irfft", lengths=lengths)


def _irfft_transpose(ct, *, lengths):
    total = math.prod(lengths)
    spectrum = fft(ct, kind="rfft", lengths=lengths)
    # JAX's convention: the cotangent of a complex operand is not conjugated.
    return conj(_weigh(spectrum, lengths[-1], 2 / total, 1 / total))


def _transpose(ct, x, *, kind, lengths):
    if kind == "rfft":
        return _rfft_transpose(ct, lengths=lengths)
    if kind == "irfft":
        return _irfft_transpose(ct, lengths=lengths)
    return fft(ct, kind=kind, lengths=lengths)


fft: Op = Op(
    "fft",
    abstract=_abstract,
    reference=_reference,
    lower=lambda b, x, *, kind, lengths: (
        b.fft(x, kind.upper(), lengths) if x.aval.size else b.full(0, b.out)
    ),
    jvp=linear,
    transpose=_transpose,
    batch=lambda size, x, batched, **params: (fft(*x, **params), True),
)
