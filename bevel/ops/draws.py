"""Draws from keys: random bits, uniform floats, new keys, folded keys.

A key is a `uint32` array whose last axis holds the words of its generator (`impl`, one of
`generators.py`); leading axes are a batch of keys.
"""

from __future__ import annotations

import numpy as np

from bevel.core import dtypes
from bevel.core.aval import Aval
from bevel.core.handle import KEY_WORDS
from bevel.core.op import Op, zero_tangent
from bevel.ops.base import batch_broadcast
from bevel.ops.bits import NOT_LINEAR, WIDTHS
from bevel.ops.generators import DEFAULT, GENERATORS

_UINT32 = np.dtype(np.uint32)


def _check_key(name: str, key: Aval, impl: str) -> tuple[int, ...]:
    words = KEY_WORDS[impl]
    if key.dtype != _UINT32 or not key.shape or key.shape[-1] != words:
        raise TypeError(
            f"{name}: a key is a uint32 array whose last axis has size {words}, got {key}"
        )
    return key.shape[:-1]


def _as_function(kind: str, body):
    """Lower as a private function per type, called but never inlined.

    XLA would otherwise repeat the whole hash in every consumer of its result: the mask of a dropout
    layer is read forward and backward.
    """

    def lower(b, *operands, **params):
        out, avals = b.out, [v.aval for v in operands]
        key = (kind, *avals, *sorted(params.items()))
        name = b.function(
            key, avals, [out], lambda f, *vals: body(f, *vals, out=out, **params), prefix=kind
        )
        return b.call(name, operands, [out], inlineable=b.platform != "cpu")[0]

    return lower


def _bits_abstract(key: Aval, *, shape, width, impl=DEFAULT) -> Aval:
    if width not in WIDTHS:
        raise ValueError(
            f"random_bits: width must be one of {', '.join(map(str, WIDTHS))}, got {width}"
        )
    return Aval((*_check_key("random_bits", key, impl), *shape), WIDTHS[width])


def _bits_reference(key, *, shape, width, impl=DEFAULT):
    return GENERATORS[impl].bits(key, shape, width)


def _bits_body(b, key, *, out, shape, width, impl=DEFAULT):
    return GENERATORS[impl].lower_bits(b, key, shape, width)


random_bits: Op = Op(
    "random_bits",
    abstract=_bits_abstract,
    reference=_bits_reference,
    lower=_as_function("random_bits", _bits_body),
    jvp=zero_tangent,
    transpose=NOT_LINEAR,
    batch=lambda size, x, batched, **params: (random_bits(*x, **params), True),
)


def _uniform_parts(dtype: np.dtype) -> tuple[int, int, np.dtype, int]:
    """Random bits per number, bits of the mantissa, unsigned dtype of its width, bits of 1.0."""
    mantissa = dtypes.finfo(dtype).nmant
    width = 8 * dtype.itemsize
    unsigned = WIDTHS[width]
    one = int(np.ones((), dtype).view(unsigned))
    return (8 if mantissa < 8 else width), mantissa, unsigned, one


def _uniform_abstract(key: Aval, *, shape, dtype, low=0.0, high=1.0, impl=DEFAULT) -> Aval:
    if dtype not in dtypes.FLOAT:
        raise TypeError(f"random_uniform: dtype must be a float of 16 to 64 bits, got {dtype}")
    return Aval((*_check_key("random_uniform", key, impl), *shape), dtype)


def _uniform_reference(key, *, shape, dtype, low=0.0, high=1.0, impl=DEFAULT):
    drawn, mantissa, unsigned, one = _uniform_parts(dtype)
    bits = np.asarray(_bits_reference(key, shape=shape, width=drawn, impl=impl), unsigned)
    u = np.asarray(bits >> (drawn - mantissa) | unsigned.type(one)).view(dtype) - dtype.type(1)
    if low == 0 and high == 1:
        return u
    low, high = dtype.type(low), dtype.type(high)
    return np.maximum(u * (high - low) + low, low)


def _uniform_body(b, key, *, out, shape, dtype, low=0.0, high=1.0, impl=DEFAULT):
    drawn, mantissa, unsigned, one = _uniform_parts(dtype)
    bits = out.replace(dtype=unsigned)
    words = GENERATORS[impl].lower_bits(b, key, shape, drawn)
    words = b.shift_right_logical(b.convert(words, unsigned), b.full(drawn - mantissa, bits))
    u = b.subtract(b.bitcast(b.or_(words, b.full(one, bits)), out), b.full(1, out))
    if low == 0 and high == 1:
        return u
    low, high = dtype.type(low), dtype.type(high)
    scaled = b.add(b.multiply(u, b.full(high - low, out)), b.full(low, out))
    return b.maximum(scaled, b.full(low, out))


random_uniform: Op = Op(
    "random_uniform",
    abstract=_uniform_abstract,
    reference=_uniform_reference,
    lower=_as_function("random_uniform", _uniform_body),
    jvp=zero_tangent,
    transpose=NOT_LINEAR,
    batch=lambda size, x, batched, **params: (random_uniform(*x, **params), True),
)
"""Floats in [low, high): random bits as the mantissa of a number in [1, 2), less one, scaled."""


def _split_abstract(key: Aval, *, shape, impl=DEFAULT) -> Aval:
    batch = _check_key("split_key", key, impl)
    return Aval((*batch, *shape, KEY_WORDS[impl]), _UINT32)


split_key: Op = Op(
    "split_key",
    abstract=_split_abstract,
    reference=lambda key, *, shape, impl=DEFAULT: GENERATORS[impl].split(key, shape),
    lower=_as_function(
        "split_key",
        lambda b, key, *, out, shape, impl=DEFAULT: GENERATORS[impl].lower_split(b, key, shape),
    ),
    jvp=zero_tangent,
    transpose=NOT_LINEAR,
    batch=lambda size, x, batched, **params: (split_key(*x, **params), True),
)


def _fold_in_abstract(key: Aval, data: Aval, *, impl=DEFAULT) -> Aval:
    batch = _check_key("fold_in_key", key, impl)
    if data.dtype != _UINT32 or data.shape != batch:
        raise TypeError(
            f"fold_in_key: data must be one uint32 per key, that is {Aval(batch, _UINT32)}, got "
            f"{data}"
        )
    return key


def _fold_in_batch(size, x, batched, **params):
    spread = [batch_broadcast(size, v, bat) for v, bat in zip(x, batched, strict=True)]
    return fold_in_key(*spread, **params), True


fold_in_key: Op = Op(
    "fold_in_key",
    abstract=_fold_in_abstract,
    reference=lambda key, data, *, impl=DEFAULT: GENERATORS[impl].fold(key, data),
    lower=_as_function(
        "fold_in_key",
        lambda b, key, data, *, out, impl=DEFAULT: GENERATORS[impl].lower_fold(b, key, data),
    ),
    jvp=zero_tangent,
    transpose=NOT_LINEAR,
    batch=_fold_in_batch,
)
