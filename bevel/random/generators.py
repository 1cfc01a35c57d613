"""The generator in force: that of the key whose draw is being made.

The functions that make draws see the words of a key only; these know what the words are for.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

import bevel.ops as ops

DEFAULT = "threefry2x32"

Shape = tuple[int, ...]


class _InForce(threading.local):
    impl = DEFAULT


in_force = _InForce()
"""`impl` is the generator's name; `sampler` sets it for the time of a draw."""


def _params() -> dict[str, Any]:
    impl = in_force.impl
    return {} if impl == DEFAULT else {"impl": impl}


def random_bits(words: Any, *, shape: Shape, width: int) -> Any:
    """A value of unsigned integers of `width` bits; with a batch of keys, `shape` for each."""
    return ops.random_bits(words, shape=shape, width=width, **_params())


def random_uniform(words: Any, *, shape: Shape, dtype: np.dtype, **bounds: float) -> Any:
    """A value of floats in [0, 1), or [low, high); with a batch of keys, `shape` for each."""
    return ops.random_uniform(words, shape=shape, dtype=dtype, **bounds, **_params())


def split_key(words: Any, *, shape: Shape) -> Any:
    """The words of new keys; with a batch of keys, `shape` for each."""
    return ops.split_key(words, shape=shape, **_params())


def fold_in_key(words: Any, data: Any) -> Any:
    """The words of a new key from the words of one and a uint32 value."""
    return ops.fold_in_key(words, data, **_params())
