"""Random bits: the Threefry-2x32 and Philox-4x32 hashes, and XLA's own generator.

Threefry with 20 rounds and Philox with 10 (Salmon et al. 2011, "Parallel random numbers: as easy as
1, 2, 3") hash a counter under a 64-bit key. What keys are for is in `generators.py` and `draws.py`.
"""

from __future__ import annotations

import math

import numpy as np

from bevel.core.aval import Aval
from bevel.core.op import Op, Unsupported, zero_tangent
from bevel.ops.base import batch_broadcast, broadcast_in_dim

_UINT32 = np.dtype(np.uint32)
_UINT64 = np.dtype(np.uint64)
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
_WORD = 0xFFFFFFFF
NOT_LINEAR = Unsupported("random bits are integers, which no cotangent reaches")

WIDTHS: dict[int, np.dtype] = {
    8: np.dtype(np.uint8),
    16: np.dtype(np.uint16),
    32: _UINT32,
    64: _UINT64,
}

# -- the hash, three ways: Python integers, NumPy, StableHLO -------------------------------------

PACKED_SIZE = 256
_BLOCK_SIZE = 1 << 14
_SHIFTS = {r: (np.array(r, _UINT32), np.array(32 - r, _UINT32)) for rs in _ROTATIONS for r in rs}


def _pack(x: np.ndarray) -> int:
    return int.from_bytes(x.astype("<u8").tobytes(), "little")


def _hash_packed(
    k1: np.ndarray, k2: np.ndarray, x1: np.ndarray, x2: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Hash few counters in one Python integer each, a 64-bit lane per counter.

    A NumPy call costs as much as a thousand additions, and the hash is a hundred calls: below a few
    hundred counters this is up to six times faster.
    """
    ones = int.from_bytes(b"\1\0\0\0\0\0\0\0" * x1.size, "little")
    mask = ones * _WORD
    first, second = (_pack(k) if k.ndim else int(k) * ones for k in (k1, k2))
    keys = (first, second, first ^ second ^ _PARITY * ones)
    x = (_pack(x1) + first) & mask
    y = (_pack(x2) + second) & mask
    for i in range(5):
        for r in _ROTATIONS[i & 1]:
            x = (x + y) & mask
            y = ((y << r | y >> (32 - r)) & mask) ^ x
        x = (x + keys[(i + 1) % 3]) & mask
        y = (y + keys[(i + 2) % 3] + (i + 1) * ones) & mask
    halves = [np.frombuffer(v.to_bytes(8 * x1.size, "little"), "<u8") for v in (x, y)]
    a, b = (h.astype(_UINT32).reshape(x1.shape) for h in halves)
    return a, b


def _hash_block(keys: tuple, x: np.ndarray, y: np.ndarray, spare: np.ndarray) -> None:
    """Hash the counters `(x, y)` in place; `keys`, the three key words, may be scalars."""
    add, or_, xor, left, right = (
        np.add,
        np.bitwise_or,
        np.bitwise_xor,
        np.left_shift,
        np.right_shift,
    )
    add(x, keys[0], out=x)
    add(y, keys[1], out=y)
    for i in range(5):
        for r in _ROTATIONS[i & 1]:
            forth, back = _SHIFTS[r]
            add(x, y, out=x)
            left(y, forth, out=spare)
            right(y, back, out=y)
            or_(y, spare, out=y)
            xor(y, x, out=y)
        add(x, keys[(i + 1) % 3], out=x)
        add(y, keys[(i + 2) % 3], out=y)
        add(y, _UINT32.type(i + 1), out=y)


def hash_counters(
    k1: np.ndarray, k2: np.ndarray, x1: np.ndarray, x2: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Hash counters under one key (0-d `k1`, `k2`) or a key each, a cache-sized block at a time."""
    if x1.size <= PACKED_SIZE:
        return _hash_packed(k1, k2, x1, x2)
    shape = x1.shape
    x, y = x1.ravel().copy(), x2.ravel().copy()
    words = [k.ravel() if k.ndim else k for k in (k1, k2)]
    spare = np.empty(min(x.size, _BLOCK_SIZE), _UINT32)
    for start in range(0, x.size, _BLOCK_SIZE):
        part = slice(start, start + _BLOCK_SIZE)
        a, b = (w[part] if w.ndim else w for w in words)
        _hash_block((a, b, a ^ b ^ _UINT32.type(_PARITY)), x[part], y[part], spare[: x[part].size])
    return x.reshape(shape), y.reshape(shape)


def lower_hash(b, k1, k2, x, y):
    """Write the hash of operands of one shape. Unrolled: a loop compiles and runs slower."""
    aval = x.aval

    def word(value: int):
        return b.full(value, aval)

    keys = (k1, k2, b.xor(b.xor(k1, k2), word(_PARITY)))
    x, y = b.add(x, k1), b.add(y, k2)
    for i in range(5):
        for r in _ROTATIONS[i & 1]:
            x = b.add(x, y)
            y = b.or_(b.shift_left(y, word(r)), b.shift_right_logical(y, word(32 - r)))
            y = b.xor(y, x)
        x = b.add(x, keys[(i + 1) % 3])
        y = b.add(y, b.add(keys[(i + 2) % 3], word(i + 1)))
    return x, y


# -- threefry2x32 --------------------------------------------------------------------------------


def _threefry_abstract(k1: Aval, k2: Aval, x1: Aval, x2: Aval) -> tuple[Aval, Aval]:
    for name, a in (("k1", k1), ("k2", k2), ("x1", x1), ("x2", x2)):
        if a.dtype != _UINT32:
            raise TypeError(
                f"threefry2x32: {name} must be uint32, got {a}; convert it with .astype('uint32')"
            )
    if x1.shape != x2.shape:
        raise ValueError(
            f"threefry2x32: x1 and x2 must have one shape, got {x1.shape} and {x2.shape}"
        )
    if k1.shape != k2.shape or k1.shape not in ((), x1.shape):
        raise ValueError(
            f"threefry2x32: k1 and k2 must both be 0-d or both of the counters' shape {x1.shape}, "
            f"got {k1.shape} and {k2.shape}; broadcast them first"
        )
    return x1, x1


def _threefry_lower(b, k1, k2, x1, x2):
    aval = x1.aval

    def body(f, *words):
        return lower_hash(
            f, *[f.broadcast_in_dim(w, aval.shape, ()) if not w.aval.shape else w for w in words]
        )

    avals = [v.aval for v in (k1, k2, x1, x2)]
    name = b.function(("threefry2x32", *avals), avals, [aval, aval], body, prefix="threefry2x32")
    return b.call(name, (k1, k2, x1, x2), [aval, aval])


def _threefry_batch(size, x, batched):
    shape = x[2].shape[1:] if batched[2] else x[2].shape
    one_key = not any(batched[:2]) and not x[0].shape

    def spread(v, bat):
        if len(v.shape) - bat == len(shape):
            return batch_broadcast(size, v, bat)
        return broadcast_in_dim(v, shape=(int(size), *shape), dims=(0,) if bat else ())

    words = [spread(v, bat) for v, bat in zip(x, batched, strict=True)]
    return threefry2x32(*(x[:2] if one_key else words[:2]), *words[2:]), (True, True)


threefry2x32 = Op(
    "threefry2x32",
    multiple=True,
    abstract=_threefry_abstract,
    reference=hash_counters,
    lower=_threefry_lower,
    jvp=zero_tangent,
    transpose=NOT_LINEAR,
    batch=_threefry_batch,
)

# -- XLA's own generator: fast on accelerators, not split by keys --------------------------------

_ALGORITHMS = {"default": "PHILOX", "philox": "PHILOX", "three_fry": "THREE_FRY"}
_PHILOX_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
PHILOX_STEPS = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
_WORD64 = np.uint64(_WORD)


def philox_rounds(counter: list, key: list) -> list:
    """Philox-4x32 with 10 rounds: four words from four counter words and two key words.

    All are uint64 arrays of values below 2**32, which broadcast.
    """
    c, k = list(counter), list(key)
    for _ in range(10):
        p, q = c[0] * _PHILOX_MULTIPLIERS[0], c[2] * _PHILOX_MULTIPLIERS[1]
        c = [(q >> 32) ^ c[1] ^ k[0], q & _WORD64, (p >> 32) ^ c[3] ^ k[1], p & _WORD64]
        k = [(w + step) & _WORD64 for w, step in zip(k, PHILOX_STEPS, strict=True)]
    return c


def lower_philox_rounds(b, counter: list, key: list) -> list:
    """Write `philox_rounds` for operands of one uint64 type."""
    aval = counter[0].aval
    mask, half = b.full(_WORD, aval), b.full(32, aval)
    c, k = list(counter), list(key)
    for _ in range(10):
        p, q = (
            b.multiply(c[2 * i], b.full(int(m), aval)) for i, m in enumerate(_PHILOX_MULTIPLIERS)
        )
        high_p, high_q = (b.shift_right_logical(v, half) for v in (p, q))
        c = [
            b.xor(b.xor(high_q, c[1]), k[0]),
            b.and_(q, mask),
            b.xor(b.xor(high_p, c[3]), k[1]),
            b.and_(p, mask),
        ]
        k = [
            b.and_(b.add(w, b.full(int(step), aval)), mask)
            for w, step in zip(k, PHILOX_STEPS, strict=True)
        ]
    return c


def _philox(key: int, counter: int, blocks: int) -> np.ndarray:
    """Philox-4x32 with 10 rounds: `blocks` consecutive 128-bit counters, four words each."""
    low, high = counter & (2**64 - 1), counter >> 64
    index = np.arange(blocks, dtype=_UINT64) + _UINT64.type(low)
    carry = _UINT64.type(high) + (index < _UINT64.type(low)).astype(_UINT64)
    c = [index & _WORD64, index >> 32, carry & _WORD64, carry >> 32]
    c = philox_rounds(c, [_UINT64.type(key & _WORD), _UINT64.type(key >> 32)])
    return np.stack(c, axis=1).astype(_UINT32).ravel()


def _generator_words(
    state: np.ndarray, words: int, algorithm: str
) -> tuple[np.ndarray, np.ndarray]:
    """Next state of a `uint64[2]` generator, and its next 32-bit words."""
    key, count = int(state[0]), int(state[1])
    if _ALGORITHMS[algorithm] == "PHILOX":
        blocks = -(-words // 4)
        drawn = _philox(key, key << 64 | count, blocks)
    else:
        blocks = -(-words // 2)
        index = np.arange(blocks, dtype=_UINT64) + _UINT64.type(count)
        k1, k2 = (np.array(k, _UINT32) for k in (key & _WORD, key >> 32))
        pair = hash_counters(k1, k2, index.astype(_UINT32), (index >> 32).astype(_UINT32))
        drawn = np.stack(pair, axis=1).ravel()
    return np.array([key, (count + blocks) % 2**64], _UINT64), drawn[:words]


def _generator_abstract(state: Aval, *, shape, dtype, algorithm="default"):
    if algorithm not in _ALGORITHMS:
        raise ValueError(
            f"rng_bit_generator: algorithm must be one of {', '.join(_ALGORITHMS)}, got "
            f"{algorithm!r}"
        )
    if (state.dtype, state.shape[-1:]) not in ((_UINT32, (4,)), (_UINT64, (2,))):
        raise TypeError(f"rng_bit_generator: the state must be uint32[4] or uint64[2], got {state}")
    if dtype not in WIDTHS.values():
        raise TypeError(
            f"rng_bit_generator: dtype must be an unsigned integer, got {dtype}; bitcast the result"
        )
    return state, Aval((*state.shape[:-1], *shape), dtype)


def generate(state, *, shape, dtype, algorithm="default"):
    """Next states and draws of each state of a batch, as XLA's generator makes them."""
    batch = state.shape[:-1]
    states, bits = np.empty(state.shape, state.dtype), np.empty((*batch, *shape), dtype)
    words = math.prod(shape) * (2 if dtype.itemsize == 8 else 1)
    for i in np.ndindex(batch):
        new, drawn = _generator_words(
            np.ascontiguousarray(state[i]).view(_UINT64), words, algorithm
        )
        states[i] = new.view(state.dtype)
        bits[i] = (
            drawn.view(_UINT64) if dtype == _UINT64 else drawn.astype(dtype, copy=False)
        ).reshape(shape)
    return states, bits


def lower_generate(b, state, shape, dtype, algorithm):
    """Write the next state and draw of one state."""
    narrow = state.aval.dtype == _UINT32
    if narrow:
        state = b.bitcast(b.reshape(state, (2, 2)), Aval((2,), _UINT64))
    drawn = Aval((math.prod(shape),), _UINT64 if dtype == _UINT64 else _UINT32)
    state, bits = b.rng_bit_generator(state, drawn, _ALGORITHMS[algorithm])
    if narrow:
        state = b.reshape(b.bitcast(state, Aval((2, 2), _UINT32)), (4,))
    return state, b.convert(b.reshape(bits, shape), dtype)


def _generator_lower(b, state, *, shape, dtype, algorithm="default"):
    outs = b.outs
    batch, words = state.aval.shape[:-1], state.aval.shape[-1]
    if not batch:
        return lower_generate(b, state, shape, dtype, algorithm)
    rows = b.reshape(state, (math.prod(batch), words))
    if not rows.aval.shape[0]:
        return state, b.full(0, outs[1])
    states, draws = [], []
    for i in range(rows.aval.shape[0]):
        row = b.reshape(b.slice(rows, (i, 0), (i + 1, words)), (words,))
        new, bits = lower_generate(b, row, shape, dtype, algorithm)
        states.append(b.reshape(new, (1, words)))
        draws.append(b.reshape(bits, (1, *shape)))
    return b.reshape(b.concatenate(states, 0), outs[0].shape), b.reshape(
        b.concatenate(draws, 0), outs[1].shape
    )


rng_bit_generator: Op = Op(
    "rng_bit_generator",
    multiple=True,
    abstract=_generator_abstract,
    reference=generate,
    lower=_generator_lower,
    jvp=zero_tangent,
    transpose=NOT_LINEAR,
    batch=lambda size, x, batched, **params: (rng_bit_generator(*x, **params), (True, True)),
)
