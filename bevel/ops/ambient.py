"""What depends on where and when a program runs, not on operands alone: the platform's number,
XLA's own stateful draws, and marks that keep a value computed.
"""

from __future__ import annotations

import functools

import numpy as np

from bevel.core import dtypes
from bevel.core.aval import Aval
from bevel.core.errors import Unsupported as UnsupportedError
from bevel.core.op import Op, Unsupported, zero_tangent
from bevel.ops.base import check_dtype

_INT32 = np.dtype(np.int32)

# -- platform_index ------------------------------------------------------------------------------

Platforms = tuple[tuple[str, ...], ...]
_SAME = {"gpu": "cuda"}


def _place(platform: str, platforms: Platforms) -> int:
    name = _SAME.get(platform, platform)
    for i, names in enumerate(platforms):
        if name in names or not names:
            return i
    known = ", ".join([n for names in platforms for n in names])
    raise UnsupportedError(
        f"platform_dependent: there is no branch for {name}, only for {known}.\n"
        f"Write instead: platform_dependent(..., {name}=f), or default=f."
    )


platform_index = Op(
    "platform_index",
    abstract=lambda *, platforms: Aval((), _INT32),
    reference=lambda *, platforms: np.asarray(_place("cpu", platforms), _INT32),
    lower=lambda b, *, platforms: b.constant(_place(b.platform, platforms), _INT32),
    jvp=zero_tangent,
    transpose=Unsupported("a platform's number has no derivative"),
    batch=Unsupported("it has no operands to batch"),
)
"""Where the platform's name stands in `platforms`, tuples of names; an empty one fits any."""

# -- rng_uniform ---------------------------------------------------------------------------------

_DRAWN = (dtypes.float32, dtypes.float64, dtypes.int32, dtypes.int64)
_HIDDEN = "its draws come from hidden state: use random.uniform, whose key decides them"


@functools.cache
def _generator() -> np.random.Generator:
    return np.random.default_rng()


def _uniform_abstract(low: Aval, high: Aval, *, shape: tuple[int, ...]) -> Aval:
    if low.shape or high != low:
        raise TypeError(
            f"rng_uniform: the bounds are {low} and {high}; they must be scalars of one dtype"
        )
    check_dtype("rng_uniform", "the bounds'", low, _DRAWN)
    return Aval(tuple(shape), low.dtype)


def _uniform_reference(low, high, *, shape):
    if dtypes.is_integer(low.dtype):
        return _generator().integers(low, high, shape, low.dtype)
    drawn = low + (high - low) * _generator().random(shape, low.dtype)
    return np.minimum(drawn, np.nextafter(high, low)).astype(low.dtype)


def _uniform_lower(b, low, high, *, shape):
    sizes = b.constant(np.asarray(shape, np.int64))
    attrs = "rng_distribution = #stablehlo<rng_distribution UNIFORM>"
    return b.op("rng", low, high, sizes, attrs=attrs, out=b.out)


rng_uniform = Op(
    "rng_uniform",
    abstract=_uniform_abstract,
    reference=_uniform_reference,
    lower=_uniform_lower,
    jvp=Unsupported(_HIDDEN),
    transpose=Unsupported(_HIDDEN),
    batch=Unsupported(_HIDDEN),
)
"""Uniform draws in [low, high) that differ at every call, which no key decides."""

# -- dce_sink ------------------------------------------------------------------------------------

dce_sink: Op = Op(
    "dce_sink",
    multiple=True,
    effect=True,
    abstract=lambda x: (),
    reference=lambda x: (),
    lower=lambda b, x: (),
    jvp=lambda ctx, primals, tangents: (dce_sink(*primals), ()),
    transpose=Unsupported("it has no results whose cotangents could come back"),
    batch=lambda size, x, batched: (dce_sink(*x), ()),
)
"""Counts as a use of its operand, which so stays in the graph."""
