"""Generators of random bits: what a key's words are, how bits, new keys and folded keys follow.

`threefry2x32`: element i of a draw is the hash of its row-major index, so the bits do not depend on
how the draw is laid out over devices (the scheme JAX calls partitionable). `philox`: every hash
gives four words in a row. `rbg` and `unsafe_rbg`: XLA's own generator draws, as fast as the device
can; the first derives keys by Threefry, the second by the generator itself.

A key is a `uint32` array whose last axis is its words; leading axes are a batch of keys.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from bevel.core.aval import Aval
from bevel.ops.bits import (
    PACKED_SIZE,
    WIDTHS,
    generate,
    hash_counters,
    lower_generate,
    lower_hash,
    lower_philox_rounds,
    philox_rounds,
)

_UINT32 = np.dtype(np.uint32)
_UINT64 = np.dtype(np.uint64)
_WORD64 = np.uint64(0xFFFFFFFF)

Shape = tuple[int, ...]


class Generator(NamedTuple):
    """What a generator does with keys, in NumPy and (`lower_...`) in StableHLO.

    `bits(key, shape, width)`, `split(key, shape)` and `fold(key, data)` take a batch of keys.
    """

    bits: Callable[..., Any]
    lower_bits: Callable[..., Any]
    split: Callable[..., Any]
    lower_split: Callable[..., Any]
    fold: Callable[..., Any]
    lower_fold: Callable[..., Any]


# -- threefry2x32 --------------------------------------------------------------------------------


def _index_words(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """High and low words of the row-major indices of `shape`."""
    size = math.prod(shape)
    if size <= 1 << 32:
        return np.zeros(shape, _UINT32), np.arange(size, dtype=_UINT32).reshape(shape)
    index = np.arange(size, dtype=_UINT64).reshape(shape)
    return (index >> 32).astype(_UINT32), index.astype(_UINT32)


def _hash_indices(key: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    high, low = _index_words(shape)
    if key.ndim == 1:
        return hash_counters(key[0, ...], key[1, ...], high, low)
    batch = key.shape[:-1]
    full = (*batch, *shape)
    if math.prod(full) <= PACKED_SIZE:
        places = (*batch, *[1] * len(shape))
        k1, k2 = (np.broadcast_to(key[..., i].reshape(places), full) for i in range(2))
        return hash_counters(k1, k2, np.broadcast_to(high, full), np.broadcast_to(low, full))
    words = [np.empty(full, _UINT32) for _ in range(2)]
    for i in np.ndindex(batch):
        words[0][i], words[1][i] = hash_counters(key[(*i, 0, ...)], key[(*i, 1, ...)], high, low)
    return words[0], words[1]


def _lower_hash_indices(b, key, shape: tuple[int, ...]):
    """Write `_hash_indices` with iotas, so that each device of a sharded draw makes its part."""
    batch = key.aval.shape[:-1]
    full = Aval((*batch, *shape), _UINT32)
    wide = full if math.prod(shape) <= 1 << 32 else full.replace(dtype=_UINT64)
    index, stride = b.full(0, wide), 1
    for axis in range(len(full.shape) - 1, len(batch) - 1, -1):
        index = b.add(index, b.multiply(b.iota(wide, axis), b.full(stride % (1 << 32), wide)))
        stride *= full.shape[axis]
    high = (
        b.full(0, full)
        if wide is full
        else b.convert(b.shift_right_logical(index, b.full(32, wide)), _UINT32)
    )
    k1, k2 = (
        b.broadcast_in_dim(w, full.shape, range(len(batch))) for w in _lower_words(b, key, batch)
    )
    return lower_hash(b, k1, k2, high, b.convert(index, _UINT32))


def _lower_words(b, key, batch: tuple[int, ...]) -> list:
    """Both words of keys."""
    start = (0,) * len(batch)
    return [b.reshape(b.slice(key, (*start, i), (*batch, i + 1)), batch) for i in range(2)]


def _pair_up(b, xs) -> Any:
    """Values side by side along a new last axis."""
    shape = (*xs[0].aval.shape, 1)
    return b.concatenate([b.reshape(x, shape) for x in xs], len(shape) - 1)


def _threefry_bits(key, shape, width):
    high, low = _hash_indices(key, shape)
    if width == 64:
        return high.astype(_UINT64) << 32 | low
    return np.bitwise_xor(high, low).astype(WIDTHS[width], copy=False)


def _lower_threefry_bits(b, key, shape, width):
    high, low = _lower_hash_indices(b, key, shape)
    if width == 64:
        wide = high.aval.replace(dtype=_UINT64)
        high = b.shift_left(b.convert(high, _UINT64), b.full(32, wide))
        return b.or_(high, b.convert(low, _UINT64))
    return b.convert(b.xor(high, low), WIDTHS[width])


def _threefry_split(key, shape):
    return np.stack(_hash_indices(key, shape), axis=-1)


def _lower_threefry_split(b, key, shape):
    return _pair_up(b, _lower_hash_indices(b, key, shape))


def _threefry_fold(key, data):
    pair = hash_counters(key[..., 0], key[..., 1], np.zeros_like(data), data)
    return np.stack(pair, axis=-1)


def _lower_threefry_fold(b, key, data):
    k1, k2 = _lower_words(b, key, data.aval.shape)
    return _pair_up(b, lower_hash(b, k1, k2, b.full(0, data.aval), data))


# -- philox --------------------------------------------------------------------------------------
# Counter: index of the block (two words), 0, and what the block is for.

_DRAW, _SPLIT, _FOLD = range(3)


def _philox_blocks(key, index, purpose):
    """The four words of the blocks at `index`, under each key of a batch: a last axis of 4."""
    places = (*key.shape[:-1], *[1] * index.ndim)
    words = [key[..., i].astype(_UINT64).reshape(places) for i in range(2)]
    zero = np.zeros_like(index)
    counter = [index & _WORD64, index >> np.uint64(32), zero, zero + np.uint64(purpose)]
    return np.stack(np.broadcast_arrays(*philox_rounds(counter, words)), -1).astype(_UINT32)


def _lower_philox_blocks(b, key, index, purpose):
    """Write `_philox_blocks`; `index` has the batch axes of `key` already."""
    aval, batch = index.aval, key.aval.shape[:-1]
    words = [
        b.broadcast_in_dim(b.convert(w, _UINT64), aval.shape, range(len(batch)))
        for w in _lower_words(b, key, batch)
    ]
    low = b.and_(index, b.full(int(_WORD64), aval))
    high = b.shift_right_logical(index, b.full(32, aval))
    counter = [low, high, b.full(0, aval), b.full(purpose, aval)]
    return _pair_up(b, [b.convert(w, _UINT32) for w in lower_philox_rounds(b, counter, words)])


def _philox_count(shape, width):
    words = math.prod(shape) * (2 if width == 64 else 1)
    return words, -(-words // 4)


def _philox_bits(key, shape, width):
    words, blocks = _philox_count(shape, width)
    drawn = _philox_blocks(key, np.arange(blocks, dtype=_UINT64), _DRAW)
    full = (*key.shape[:-1], *shape)
    drawn = np.ascontiguousarray(drawn.reshape(*key.shape[:-1], 4 * blocks)[..., :words])
    if width == 64:
        return drawn.view(_UINT64).reshape(full)
    return drawn.astype(WIDTHS[width], copy=False).reshape(full)


def _lower_philox_bits(b, key, shape, width):
    batch, (words, blocks) = key.aval.shape[:-1], _philox_count(shape, width)
    index = b.iota(Aval((*batch, blocks), _UINT64), len(batch))
    drawn = b.reshape(_lower_philox_blocks(b, key, index, _DRAW), (*batch, 4 * blocks))
    drawn = b.slice(drawn, (0,) * (len(batch) + 1), (*batch, words))
    full = (*batch, *shape)
    if width == 64:
        return b.bitcast(b.reshape(drawn, (*full, 2)), Aval(full, _UINT64))
    return b.convert(b.reshape(drawn, full), WIDTHS[width])


def _philox_split(key, shape):
    index = np.arange(math.prod(shape), dtype=_UINT64).reshape(shape)
    return np.ascontiguousarray(_philox_blocks(key, index, _SPLIT)[..., :2])


def _first_two(b, x):
    return b.slice(x, (0,) * len(x.aval.shape), (*x.aval.shape[:-1], 2))


def _lower_philox_split(b, key, shape):
    batch = key.aval.shape[:-1]
    index = b.iota(Aval((*batch, math.prod(shape)), _UINT64), len(batch))
    index = b.reshape(index, (*batch, *shape))
    return _first_two(b, _lower_philox_blocks(b, key, index, _SPLIT))


def _philox_fold(key, data):
    words = [key[..., i].astype(_UINT64) for i in range(2)]
    zero = np.zeros(data.shape, _UINT64)
    counter = [data.astype(_UINT64), zero, zero, zero + np.uint64(_FOLD)]
    return np.stack(philox_rounds(counter, words)[:2], -1).astype(_UINT32)


def _lower_philox_fold(b, key, data):
    return _first_two(b, _lower_philox_blocks(b, key, b.convert(data, _UINT64), _FOLD))


# -- rbg: XLA's generator draws ------------------------------------------------------------------


def _rbg_bits(key, shape, width):
    return generate(key, shape=shape, dtype=WIDTHS[width])[1]


def _lower_rbg_bits(b, key, shape, width):
    batch, dtype = key.aval.shape[:-1], WIDTHS[width]
    full = (*batch, *shape)
    if 0 in full:
        return b.full(0, Aval(full, dtype))
    rows, draws = b.reshape(key, (math.prod(batch), 4)), []
    if rows.aval.shape[0] > _UNROLLED:
        return b.reshape(_lower_rbg_loop(b, rows, shape, dtype), full)
    for i in range(rows.aval.shape[0]):
        row = b.reshape(b.slice(rows, (i, 0), (i + 1, 4)), (4,))
        draws.append(b.reshape(lower_generate(b, row, shape, dtype, "default")[1], (1, *shape)))
    return b.reshape(b.concatenate(draws, 0), full)


_UNROLLED = 8
"""Draws from more keys than this are a loop in the program."""


def _lower_rbg_loop(b, rows, shape, dtype):
    """The draws from each row of keys, one after the other."""
    n = rows.aval.shape[0]
    index = Aval((), np.dtype(np.int32))

    def step(b, i, rows, draws):
        zero = b.full(0, index)
        key = b.reshape(b.dynamic_slice(rows, (i, zero), (1, 4)), (4,))
        drawn = b.reshape(lower_generate(b, key, shape, dtype, "default")[1], (1, *shape))
        draws = b.dynamic_update_slice(draws, drawn, (i, *[zero] * len(shape)))
        return b.add(i, b.full(1, index)), rows, draws

    first = (b.full(0, index), rows, b.full(0, Aval((n, *shape), dtype)))
    return b.while_(first, lambda b, i, *_: b.compare(i, b.full(n, index), "LT"), step)[2]


def _halves_last(n_batch: int, n: int) -> Shape:
    """The order of axes in which the halves of a key, at axis `n_batch`, come before its words."""
    order = [i for i in range(n) if i != n_batch]
    return (*order[:-1], n_batch, order[-1])


def _rbg_split(key, shape):
    batch = key.shape[:-1]
    halves = _threefry_split(key.reshape(*batch, 2, 2), shape)
    halves = halves.transpose(_halves_last(len(batch), halves.ndim))
    return np.ascontiguousarray(halves).reshape(*batch, *shape, 4)


def _lower_rbg_split(b, key, shape):
    batch = key.aval.shape[:-1]
    halves = _lower_threefry_split(b, b.reshape(key, (*batch, 2, 2)), shape)
    halves = b.transpose(halves, _halves_last(len(batch), len(halves.aval.shape)))
    return b.reshape(halves, (*batch, *shape, 4))


def _rbg_fold(key, data):
    batch = key.shape[:-1]
    both = np.stack([data, data], axis=-1)
    return _threefry_fold(key.reshape(*batch, 2, 2), both).reshape(*batch, 4)


def _lower_rbg_fold(b, key, data):
    batch = key.aval.shape[:-1]
    halves = b.reshape(key, (*batch, 2, 2))
    return b.reshape(_lower_threefry_fold(b, halves, _pair_up(b, [data, data])), (*batch, 4))


# -- unsafe_rbg: XLA's generator makes the keys too ----------------------------------------------

_STEPS = 10
"""The tenth draw of four words counts as a hash."""


def _unsafe_split(key, shape):
    batch, n = key.shape[:-1], math.prod(shape)
    drawn = _rbg_bits(key, (_STEPS * n, 4), 32)[..., ::_STEPS, :]
    return np.ascontiguousarray(drawn).reshape(*batch, *shape, 4)


def _lower_unsafe_split(b, key, shape):
    batch, n = key.aval.shape[:-1], math.prod(shape)
    drawn = _lower_rbg_bits(b, key, (_STEPS * n, 4), 32)
    start, strides = (0,) * (len(batch) + 2), (*[1] * len(batch), _STEPS, 1)
    drawn = b.slice(drawn, start, drawn.aval.shape, strides)
    return b.reshape(drawn, (*batch, *shape, 4))


def _unsafe_fold(key, data):
    zero = np.zeros_like(data)
    seeded = np.stack([zero, data, zero, data], axis=-1)
    return key ^ _rbg_bits(seeded, (_STEPS, 4), 32)[..., -1, :]


def _lower_unsafe_fold(b, key, data):
    zero, batch = b.full(0, data.aval), data.aval.shape
    drawn = _lower_rbg_bits(b, _pair_up(b, [zero, data, zero, data]), (_STEPS, 4), 32)
    last = b.slice(drawn, (*[0] * len(batch), _STEPS - 1, 0), drawn.aval.shape)
    return b.xor(key, b.reshape(last, (*batch, 4)))


DEFAULT = "threefry2x32"
GENERATORS: dict[str, Generator] = {
    "threefry2x32": Generator(
        _threefry_bits,
        _lower_threefry_bits,
        _threefry_split,
        _lower_threefry_split,
        _threefry_fold,
        _lower_threefry_fold,
    ),
    "rbg": Generator(
        _rbg_bits, _lower_rbg_bits, _rbg_split, _lower_rbg_split, _rbg_fold, _lower_rbg_fold
    ),
    "unsafe_rbg": Generator(
        _rbg_bits,
        _lower_rbg_bits,
        _unsafe_split,
        _lower_unsafe_split,
        _unsafe_fold,
        _lower_unsafe_fold,
    ),
    "philox": Generator(
        _philox_bits,
        _lower_philox_bits,
        _philox_split,
        _lower_philox_split,
        _philox_fold,
        _lower_philox_fold,
    ),
}
