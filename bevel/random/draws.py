"""The draws that the others are made of: bits, uniform, normal, integers, coins.

Every function takes a key first (or as `key=`), consumes it, and gives JAX's numbers for the same
key. The decorator `sampler` checks the key; the functions below get its words.
"""

from __future__ import annotations

import functools
import math
import operator
from typing import Any

import numpy as np

import bevel.numpy as bnp
import bevel.ops as ops
from bevel.core import dtypes
from bevel.core.handle import wrap
from bevel.numpy.arguments import number, size_of
from bevel.numpy.convert import broadcast_value, enter
from bevel.random.generators import random_bits, random_uniform, split_key
from bevel.random.keys import sampler

Shape = tuple[int, ...]

# -- arguments -----------------------------------------------------------------------------------


def float_dtype(name: str, dtype: Any, also_complex: bool = False) -> np.dtype:
    """The dtype of a draw of floats: float32 unless one is named."""
    if dtype is None:
        return dtypes.float32
    found = dtypes.as_dtype(dtype)
    if found not in dtypes.FLOAT and not (also_complex and dtypes.is_complex(found)):
        raise ValueError(
            f"{name}: dtype must be a float{' or complex' if also_complex else ''} dtype, got "
            f"{found.name}.\n"
            f"Write instead: random.{name}(key, ..., dtype='float32'), then .astype({found.name!r})"
        )
    return found


def int_dtype(name: str, dtype: Any) -> np.dtype:
    """The dtype of a draw of integers: int32 unless one is named."""
    found = dtypes.int32 if dtype is None else dtypes.as_dtype(dtype)
    if not dtypes.is_integer(found):
        raise TypeError(
            f"{name}: dtype must be an integer dtype, got {found.name}.\n"
            f"Write instead: random.{name}(key, ..., dtype='int32'), then .astype({found.name!r})"
        )
    return found


def parameter(name: str, what: str, x: Any, dtype: np.dtype) -> Any:
    """The value of a distribution's parameter at the draw's dtype."""
    value = number(name, x)
    if dtypes.is_complex(value.dtype):
        raise TypeError(f"{name}: {what} must be real, got {value.dtype.name}; take its .real")
    return value if value.dtype == dtype else ops.convert(value, dtype=dtype)


def result_shape(name: str, shape: Any, **parameters: Any) -> Shape:
    """The shape asked for, or that of the parameters together; they must broadcast to it."""
    given = None if shape is None else size_of(name, shape)
    shapes = {what: tuple(v.shape) for what, v in parameters.items()}
    if not any(shapes.values()):
        return given or ()
    try:
        joined = np.broadcast_shapes(*shapes.values(), *([] if given is None else [given]))
    except ValueError:
        joined = None
    if joined is None or (given is not None and joined != given):
        listed = ", ".join(f"{what} {s}" for what, s in shapes.items())
        wanted = "each other" if given is None else f"shape={given}"
        raise ValueError(
            f"{name}: the parameters have shapes {listed}, which do not broadcast to {wanted}.\n"
            f"Write instead: shape={joined or '(..., *parameter.shape)'}, the whole shape of the "
            "result."
        )
    return joined


# -- on the words of a key -----------------------------------------------------------------------


def split_words(words: Any, num: int = 2) -> list[Any]:
    """Words of `num` keys split from the words of one key, or of each key of a batch."""
    keys = split_key(words, shape=(num,))
    lead, size = tuple(keys.shape[:-2]), keys.shape[-1]
    parts = []
    for i in range(num):
        start, limit = (0,) * len(lead) + (i, 0), (*lead, i + 1, size)
        parts.append(ops.reshape(ops.slice(keys, start=start, limit=limit), shape=(*lead, size)))
    return parts


def uniform_between(words: Any, shape: Shape, dtype: np.dtype, low: float, high: float) -> Any:
    """A value of uniform floats between two numbers; with a batch of keys, `shape` for each."""
    return random_uniform(words, shape=shape, dtype=dtype, low=float(low), high=float(high))


@functools.cache
def _above_minus_one(dtype: np.dtype) -> float:
    return float(np.nextafter(dtype.type(-1), dtype.type(0)))


def standard_normal(words: Any, shape: Shape, dtype: np.dtype) -> Any:
    """A value of normal floats; with a batch of keys, `shape` for each."""
    u = uniform_between(words, shape, dtype, _above_minus_one(dtype), 1)
    return ops.mul(ops.full_like(u, math.sqrt(2)), ops.erf_inv(u))


def standard_exponential(words: Any, shape: Shape, dtype: np.dtype) -> Any:
    """A value of exponential floats; with a batch of keys, `shape` for each."""
    return ops.neg(ops.log1p(ops.neg(random_uniform(words, shape=shape, dtype=dtype))))


# -- public --------------------------------------------------------------------------------------


@sampler
def bits(key: Any, shape: Any = (), dtype: Any = None) -> Any:
    """Random bits as unsigned integers.

    Args:
        key: a random key.
        shape: shape of the result.
        dtype: uint8, uint16, uint32 (the default) or uint64.

    Raises:
        ValueError: another dtype.

    >>> from bevel import random
    >>> random.bits(random.key(0), (2,)).dtype
    dtype('uint32')
    """
    found = dtypes.uint32 if dtype is None else dtypes.as_dtype(dtype)
    if found not in dtypes.UNSIGNED:
        raise ValueError(
            f"bits: dtype must be an unsigned integer dtype, got {found.name}; try 'uint32'"
        )
    return wrap(random_bits(key, shape=size_of("bits", shape), width=8 * found.itemsize))


@sampler
def uniform(
    key: Any, shape: Any = (), dtype: Any = None, minval: Any = 0.0, maxval: Any = 1.0
) -> Any:
    """Floats distributed evenly over `[minval, maxval)`.

    Args:
        key: a random key.
        shape: shape of the result.
        dtype: a float dtype; float32 by default.
        minval: lower bound, a number or an array that broadcasts to `shape`.
        maxval: upper bound, likewise.

    Raises:
        TypeError: no key, or what is given as one is none.
        ValueError: another dtype, or bounds that do not broadcast.

    >>> from bevel import random
    >>> x = random.uniform(random.key(0), (1000,), minval=2.0, maxval=3.0)
    >>> bool((x >= 2).all()), bool((x < 3).all())
    (True, True)
    """
    found, size = float_dtype("uniform", dtype), size_of("uniform", shape)
    if type(minval) in (int, float) and type(maxval) in (int, float):
        return wrap(uniform_between(key, size, found, minval, maxval))
    low = parameter("uniform", "minval", minval, found)
    high = parameter("uniform", "maxval", maxval, found)
    result_shape("uniform", size, minval=low, maxval=high)
    return wrap(uniform_values(key, size, found, low, high))


def uniform_values(words: Any, shape: Shape, dtype: np.dtype, low: Any, high: Any) -> Any:
    """A value of uniform floats between two values that broadcast to `shape`."""
    span = ops.sub(*[broadcast_value(v, shape) for v in (high, low)])
    low = broadcast_value(low, shape)
    u = random_uniform(words, shape=shape, dtype=dtype)
    return ops.max(low, ops.add(ops.mul(u, span), low))


@sampler
def normal(key: Any, shape: Any = (), dtype: Any = None) -> Any:
    """Floats with the standard normal distribution: mean 0, standard deviation 1.

    Args:
        key: a random key.
        shape: shape of the result.
        dtype: a float dtype, float32 by default; or complex, with variance 1/2 in each part.

    Raises:
        TypeError: no key, or what is given as one is none.
        ValueError: another dtype.

    >>> from bevel import random
    >>> random.normal(random.key(0), (3,)).shape
    (3,)
    >>> random.normal(shape=(3,), key=random.key(0)).dtype
    dtype('float32')
    """
    found, size = float_dtype("normal", dtype, also_complex=True), size_of("normal", shape)
    if not dtypes.is_complex(found):
        return wrap(standard_normal(key, size, found))
    parts = [standard_normal(words, size, dtypes.real_dtype(found)) for words in split_words(key)]
    out = ops.complex(*parts)
    return wrap(ops.div(out, ops.full_like(out, math.sqrt(2))))


@sampler
def truncated_normal(key: Any, lower: Any, upper: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Standard normal floats within `(lower, upper)`.

    Args:
        key: a random key.
        lower: lower bound, a number or an array.
        upper: upper bound, likewise.
        shape: shape of the result; by default that of the bounds together.
        dtype: a float dtype; float32 by default.

    Raises:
        ValueError: another dtype, or bounds that do not broadcast to `shape`.

    >>> from bevel import random
    >>> x = random.truncated_normal(random.key(0), -1.0, 2.0, (1000,))
    >>> bool((x > -1).all()), bool((x < 2).all())
    (True, True)
    """
    found = float_dtype("truncated_normal", dtype)
    low = parameter("truncated_normal", "lower", lower, found)
    high = parameter("truncated_normal", "upper", upper, found)
    size = result_shape("truncated_normal", shape, lower=low, upper=high)
    root = math.sqrt(2)
    ends = [ops.erf(ops.div(v, ops.full_like(v, root))) for v in (low, high)]
    u = uniform_values(key, size, found, *ends)
    out = ops.mul(ops.full_like(u, root), ops.erf_inv(u))
    # Rounding may have pushed a draw onto a bound, or past it.
    inside = [
        broadcast_value(ops.nextafter(ops.stop_gradient(v), ops.full_like(v, end)), size)
        for v, end in ((low, math.inf), (high, -math.inf))
    ]
    return wrap(ops.clamp(inside[0], out, inside[1]))


@sampler
def bernoulli(key: Any, p: Any = 0.5, shape: Any = None, mode: str = "low") -> Any:
    """Booleans that are true with probability `p`.

    Args:
        key: a random key.
        p: a number or an array of probabilities.
        shape: shape of the result; by default that of `p`.
        mode: "low" takes one random number a draw, with a resolution of 1e-7 in float32; "high"
            takes two.

    Raises:
        ValueError: another mode, or `p` does not broadcast to `shape`.

    >>> from bevel import random
    >>> random.bernoulli(random.key(0), 0.3, (4,)).dtype
    dtype('bool')
    """
    if mode not in ("low", "high"):
        raise ValueError(f"bernoulli: mode must be 'low' or 'high', got {mode!r}")
    given = enter(p)
    found = given.dtype if dtypes.is_float(given.dtype) else dtypes.float32
    chance = parameter("bernoulli", "p", given, found)
    size = result_shape("bernoulli", shape, p=chance)
    chance = broadcast_value(chance, size)
    if mode == "low":
        return wrap(ops.lt(random_uniform(key, shape=size, dtype=found), chance))
    both = wrap(random_uniform(key, shape=(2, *size), dtype=found))
    return both[1] * 2.0 ** -dtypes.finfo(found).nmant < wrap(chance) - both[0]


@sampler
def rademacher(key: Any, shape: Any = (), dtype: Any = None) -> Any:
    """Numbers that are 1 or -1 with equal probability.

    Args:
        key: a random key.
        shape: shape of the result.
        dtype: an integer or float dtype; int32 by default.

    >>> from bevel import random
    >>> random.rademacher(random.key(0), (3,)).dtype
    dtype('int32')
    """
    found = dtypes.int32 if dtype is None else dtypes.as_dtype(dtype)
    u = random_uniform(key, shape=size_of("rademacher", shape), dtype=dtypes.float32)
    heads = wrap(ops.convert(ops.lt(u, ops.full_like(u, 0.5)), dtype=found))
    return 2 * heads - 1


# -- integers ------------------------------------------------------------------------------------


def _integer_bounds(low: int, high: int, dtype: np.dtype) -> tuple[int, int]:
    """The lower bound, and the number of integers modulo 2**bits, for Python integers."""
    info = np.iinfo(dtype)
    clipped = [min(max(operator.index(v), int(info.min)), int(info.max)) for v in (low, high)]
    span = clipped[1] - clipped[0]
    if span <= 0:
        return clipped[0], 1
    return clipped[0], (span + (high > info.max)) % (1 << info.bits)


def _array_bounds(
    low: Any, high: Any, shape: Shape, dtype: np.dtype, unsigned: np.dtype
) -> tuple[Any, Any]:
    """The same for arrays, as values of `shape`."""
    info = np.iinfo(dtype)
    beyond = bnp.asarray(high) > min(int(info.max), int(np.iinfo(enter(high).dtype).max))
    low, high = (wrap(broadcast_value(_clip_integer(enter(v), dtype), shape)) for v in (low, high))
    span = (high - low).astype(unsigned)
    some = high > low
    span = bnp.where(some, bnp.where(beyond & some, span + 1, span), 1)
    return low._v, span.astype(unsigned)._v


def _clip_integer(x: Any, dtype: np.dtype) -> Any:
    own, info = np.iinfo(x.dtype), np.iinfo(dtype)
    limits = max(int(own.min), int(info.min)), min(int(own.max), int(info.max))
    return ops.convert(bnp.clip(x, *limits)._v, dtype=dtype)


def integers_between(words: Any, shape: Shape, dtype: np.dtype, low: Any, high: Any) -> Any:
    """A value of integers in [low, high): remainders of twice as many bits as the dtype has."""
    width = 8 * dtype.itemsize
    unsigned = np.dtype(f"uint{width}")
    if type(low) is int and type(high) is int:
        start, span = _integer_bounds(low, high, dtype)
        half = (1 << width // 2) % span if span else 1 << width // 2
        factor = half * half % (1 << width) % (span or 1 << width)
        start = ops.full(shape, start, dtype)
        span, factor = (ops.full(shape, v, unsigned) for v in (span, factor))
    else:
        start, span = _array_bounds(low, high, shape, dtype, unsigned)
        half = ops.rem(ops.full_like(span, 1 << width // 2), span)
        factor = ops.rem(ops.mul(half, half), span)
    drawn = random_bits(split_key(words, shape=(2,)), shape=shape, width=width)
    upper, lower = (ops.rem(_row(drawn, i), span) for i in range(2))
    # (upper * 2**width + lower) % span, by parts that do not overflow.
    offset = ops.rem(ops.add(ops.mul(upper, factor), lower), span)
    return ops.add(start, ops.convert(offset, dtype=dtype) if dtype != unsigned else offset)


def _row(x: Any, i: int) -> Any:
    rest = tuple(x.shape[1:])
    row = ops.slice(x, start=(i, *[0] * len(rest)), limit=(i + 1, *rest))
    return ops.reshape(row, shape=rest)


@sampler
def randint(key: Any, shape: Any, minval: Any, maxval: Any, dtype: Any = None) -> Any:
    """Integers distributed evenly over `[minval, maxval)`.

    Args:
        key: a random key.
        shape: shape of the result.
        minval: smallest integer, a number or an array that broadcasts to `shape`.
        maxval: one more than the largest, likewise. Where it is not above `minval`, the result is
            `minval`.
        dtype: an integer dtype; int32 by default.

    Raises:
        TypeError: another dtype.
        ValueError: bounds that do not broadcast to `shape`.

    The bias is below 2**-32 for 32-bit dtypes and ranges up to 2**32.

    >>> from bevel import random
    >>> x = random.randint(random.key(0), (1000,), 3, 6)
    >>> sorted(set(x.tolist()))
    [3, 4, 5]
    """
    found, size = int_dtype("randint", dtype), size_of("randint", shape)
    drawn = found if found.itemsize >= 4 else dtypes.int32
    if type(minval) is int and type(maxval) is int:
        if drawn != found:
            info = np.iinfo(found)
            limits = int(info.min), int(info.max) + 1
            minval, maxval = (min(max(v, limits[0]), limits[1]) for v in (minval, maxval))
    else:
        minval, maxval = (_bound(v, found, drawn) for v in (minval, maxval))
        result_shape("randint", size, minval=minval, maxval=maxval)
    return wrap(ops.convert(integers_between(key, size, drawn, minval, maxval), dtype=found))


def _bound(x: Any, dtype: np.dtype, drawn: np.dtype) -> Any:
    """A bound as an array of integers, within one of what `dtype` holds if more bits are drawn."""
    handle = bnp.asarray(x, dtype="int64") if type(x) is int else enter(x)
    if not dtypes.is_integer(handle.dtype):
        handle = handle.astype(int)
    if dtype == drawn:
        return handle
    info = np.iinfo(dtype)
    return bnp.clip(handle.astype(drawn), int(info.min), int(info.max) + 1)
