"""Questions about arrays and array-likes: shape, size, text; and their bits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import bevel.ops as ops
from bevel.core import dtypes
from bevel.core.dtypes import uint8
from bevel.core.handle import logical_shape, wrap
from bevel.numpy import conversion
from bevel.numpy.arguments import axes_of, axis_of, cast, integer, number
from bevel.numpy.convert import astype as at_dtype
from bevel.numpy.convert import enter
from bevel.numpy.manipulation import moveaxis
from bevel.numpy.placing import placed


def shape(a: Any) -> tuple[int, ...]:
    """The sizes of the axes.

    >>> bnp.shape([[1, 2, 3]])
    (1, 3)
    """
    return logical_shape(enter(a))


def ndim(a: Any) -> int:
    """How many axes there are.

    >>> bnp.ndim([[1, 2, 3]])
    2
    """
    return len(shape(a))


def size(a: Any, axis: Any = None) -> int:
    """How many elements there are, in all or along axes.

    >>> bnp.size(bnp.ones((2, 3))), bnp.size(bnp.ones((2, 3)), 1)
    (6, 3)
    """
    sizes = shape(a)
    return math.prod([sizes[i] for i in axes_of("size", axis, len(sizes))])


def iterable(y: Any) -> bool:
    """Whether one can iterate over an object.

    >>> bnp.iterable(bnp.ones(2)), bnp.iterable(bnp.ones(()))
    (True, False)
    """
    return np.iterable(y)


def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Any:
    """The array at another dtype; arrays are immutable, so `copy` changes nothing.

    >>> bnp.astype(bnp.array([1.5]), bnp.int32)
    Array([1], dtype=int32)
    """
    return placed(at_dtype(enter(x), dtypes.as_dtype(dtype)), device)


def array_repr(
    arr: Any,
    max_line_width: int | None = None,
    precision: int | None = None,
    suppress_small: bool | None = None,
) -> str:
    """The text that `repr` gives, with NumPy's options for it.

    >>> bnp.array_repr(bnp.arange(2))
    'Array([0, 1], dtype=int32)'
    """
    with _printing(max_line_width, precision, suppress_small):
        return conversion.repr_of(enter(arr))


def _printing(width: int | None, precision: int | None, suppress: bool | None) -> Any:
    options = {"linewidth": width, "precision": precision, "suppress": suppress}
    return np.printoptions(**{k: v for k, v in options.items() if v is not None})


def array_str(
    a: Any,
    max_line_width: int | None = None,
    precision: int | None = None,
    suppress_small: bool | None = None,
) -> str:
    """The text that `str` gives, with NumPy's options for it.

    >>> bnp.array_str(bnp.arange(2))
    '[0 1]'
    """
    with _printing(max_line_width, precision, suppress_small):
        return conversion.text_of(enter(a))


# -- bits ----------------------------------------------------------------------------------------


def _shifts(name: str, bitorder: str) -> np.ndarray:
    """How far each of eight bits on the last axis lies from the lowest."""
    if bitorder not in ("big", "little"):
        raise ValueError(f"{name}: bitorder must be 'big' or 'little', got {bitorder!r}")
    order = np.arange(8, dtype=np.uint8)
    return (order[::-1] if bitorder == "big" else order).copy()


def packbits(a: Any, axis: int | None = None, bitorder: str = "big") -> Any:
    """Eight elements along an axis (None: flattened), zero or not, as one uint8; zeros at the end.

    >>> bnp.packbits(bnp.array([1, 0, 0, 0, 0, 0, 1, 1]))
    Array([131], dtype=uint8)
    """
    x = number("packbits", a)
    if dtypes.is_inexact(np.dtype(x.dtype)):
        raise TypeError(f"packbits: takes bool or integers, got {x.dtype}; write x != 0")
    if axis is None:
        x, axis = ops.reshape(x, shape=(math.prod(x.shape),)), 0
    axis = axis_of("packbits", axis, len(x.shape))
    bits = ops.ne(x, ops.zeros_like(x)) if x.dtype != np.bool_ else x
    bits = moveaxis(wrap(cast(bits, uint8)), axis, -1)._v
    n, lead = bits.shape[-1], tuple(bits.shape[:-1])
    config = ((0, 0, 0),) * len(lead) + ((0, -n % 8, 0),)
    bits = ops.reshape(
        ops.pad(bits, np.zeros((), uint8), config=config), shape=(*lead, -(-n // 8), 8)
    )
    shifts = _shifts("packbits", bitorder)
    shifts = ops.broadcast_in_dim(shifts, shape=tuple(bits.shape), dims=(len(bits.shape) - 1,))
    packed = ops.reduce_sum(ops.shift_left(bits, shifts), axes=(len(bits.shape) - 1,))
    return moveaxis(wrap(packed), -1, axis)


def unpackbits(
    a: Any, axis: int | None = None, count: int | None = None, bitorder: str = "big"
) -> Any:
    """The bits of uint8 numbers as 0 and 1, along an axis (None: flattened).

    `count` bits are kept: the first ones, or all but the last ones if it is negative.

    >>> bnp.unpackbits(bnp.array([131], dtype=bnp.uint8))
    Array([1, 0, 0, 0, 0, 0, 1, 1], dtype=uint8)
    """
    x = number("unpackbits", a)
    if x.dtype != uint8:
        raise TypeError(f"unpackbits: takes uint8, got {x.dtype}; write x.astype(bnp.uint8)")
    if axis is None:
        x, axis = ops.reshape(x, shape=(math.prod(x.shape),)), 0
    axis = axis_of("unpackbits", axis, len(x.shape))
    x = moveaxis(wrap(x), axis, -1)._v
    lead, n = tuple(x.shape[:-1]), x.shape[-1]
    whole = (*lead, n, 8)
    wide = ops.broadcast_in_dim(x, shape=whole, dims=tuple(range(len(whole) - 1)))
    shifts = _shifts("unpackbits", bitorder)
    shifts = ops.broadcast_in_dim(shifts, shape=whole, dims=(len(whole) - 1,))
    one = ops.full_like(wide, 1)
    bits = ops.reshape(ops.and_(ops.shift_right_logical(wide, shifts), one), shape=(*lead, n * 8))
    if count is not None:
        k = integer("unpackbits", "count", count)
        extra = (k if k >= 0 else max(n * 8 + k, 0)) - n * 8
        config = ((0, 0, 0),) * len(lead) + ((0, extra, 0),)
        bits = ops.pad(bits, np.zeros((), uint8), config=config)
    return moveaxis(wrap(bits), -1, axis)
