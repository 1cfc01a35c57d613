"""XLA's own random generators, below `bevel.random`: what they draw differs between platforms."""

from __future__ import annotations

import enum
from typing import Any

import bevel.ops as ops
from bevel.core.dtypes import as_dtype, kind
from bevel.core.handle import wrap
from bevel.lax.operands import one_dtype
from bevel.numpy.arguments import number, size_of


class RandomAlgorithm(enum.Enum):
    """The generator behind `rng_bit_generator`; the default is Philox."""

    RNG_DEFAULT = "default"
    RNG_THREE_FRY = "three_fry"
    RNG_PHILOX = "philox"


def rng_bit_generator(
    key: Any,
    shape: Any,
    dtype: Any = "uint32",
    algorithm: RandomAlgorithm = RandomAlgorithm.RNG_DEFAULT,
) -> tuple[Any, Any]:
    """The next state of a generator, and random bits as unsigned integers of a shape.

    `key`, the state, is uint32 (4,) or uint64 (2,). `bevel.random` draws from keys that can be
    split.

    >>> state, bits = lax.rng_bit_generator(bnp.zeros(4, bnp.uint32), (3,))
    >>> state.shape, bits.shape, bits.dtype.name
    ((4,), (3,), 'uint32')
    """
    name, dtype = "rng_bit_generator", as_dtype(dtype)
    if kind(dtype) != "u":
        raise TypeError(
            f"lax.{name}: dtype must be an unsigned integer, got {dtype.name}.\n"
            "Write instead: lax.bitcast_convert_type of the bits."
        )
    outs = ops.rng_bit_generator(
        number(name, key),
        shape=size_of(name, shape),
        dtype=dtype,
        algorithm=RandomAlgorithm(algorithm).value,
    )
    return wrap(outs[0]), wrap(outs[1])


def rng_uniform(a: Any, b: Any, shape: Any) -> Any:
    """Uniform draws from [a, b) that no key decides: every call gives others.

    The bounds are scalars of one dtype: float32, float64, int32 or int64. It cannot be repeated,
    batched or differentiated: prefer `bevel.random.uniform`.

    >>> lax.rng_uniform(3, 4, (2,))
    Array([3, 3], dtype=int32)
    """
    (low, high), _ = one_dtype("rng_uniform", (a, b))
    return wrap(ops.rng_uniform(low, high, shape=size_of("rng_uniform", shape)))
