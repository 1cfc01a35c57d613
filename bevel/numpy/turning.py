"""Repeating, reversing and rolling whole arrays. Random keys are taken too."""

from __future__ import annotations

from typing import Any

import numpy as np

from bevel.core.dtypes import int32
from bevel.core.handle import Handle, fresh_tag, logical_shape, wrap
from bevel.core.interpreter import is_concrete
from bevel.numpy.arguments import axes_of, axis_of, integer, number, size_of
from bevel.numpy.convert import enter
from bevel.numpy.joining import concatenate, unstack
from bevel.numpy.manipulation import ravel, swapaxes
from bevel.numpy.moves import cut_axis, reshape_to, reverse, spread
from bevel.ops import convert, dynamic_slice, rem, sub


def tile(A: Any, reps: Any) -> Any:
    """Lay copies of an array side by side, `reps[i]` of them along axis i.

    >>> bnp.tile(bnp.arange(2), (2, 2))
    Array([[0, 1, 0, 1],
           [0, 1, 0, 1]], dtype=int32)
    """
    x = enter(A)
    reps = size_of("tile", reps)
    shape = logical_shape(x)
    ndim = max(len(reps), len(shape))
    shape = (*(1,) * (ndim - len(shape)), *shape)
    reps = (*(1,) * (ndim - len(reps)), *reps)
    wide = tuple([n for pair in zip(reps, shape, strict=True) for n in pair])
    x = spread(reshape_to(x, shape), wide, tuple(range(1, 2 * ndim, 2)))
    return reshape_to(x, tuple([r * n for r, n in zip(reps, shape, strict=True)]))


def flip(m: Any, axis: Any = None) -> Any:
    """Reverse the order of elements along the axes (None: all).

    >>> bnp.flip(bnp.arange(3))
    Array([2, 1, 0], dtype=int32)
    """
    x = enter(m)
    return reverse(x, axes_of("flip", axis, len(logical_shape(x))))


def flipud(m: Any) -> Any:
    """`flip` along axis 0.

    >>> bnp.flipud(bnp.arange(2))
    Array([1, 0], dtype=int32)
    """
    return flip(m, 0)


def fliplr(m: Any) -> Any:
    """`flip` along axis 1.

    >>> bnp.fliplr(bnp.array([[1, 2]]))
    Array([[2, 1]], dtype=int32)
    """
    return flip(m, 1)


def rot90(m: Any, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Any:
    """Turn by `k` quarter turns in the plane of two axes, from the first towards the second.

    >>> bnp.rot90(bnp.array([[1, 2], [3, 4]]))
    Array([[2, 4],
           [1, 3]], dtype=int32)
    """
    x = enter(m)
    plane = axes_of("rot90", tuple(axes), len(logical_shape(x)))
    if len(plane) != 2:
        raise ValueError(f"rot90: axes must name two axes, got {axes}")
    k = integer("rot90", "k", k) % 4
    if k == 0:
        return x
    if k == 2:
        return flip(x, plane)
    if k == 1:
        return swapaxes(flip(x, plane[1]), *plane)
    return flip(swapaxes(x, *plane), plane[1])


def roll(a: Any, shift: Any, axis: Any = None) -> Any:
    """Move elements along axes by `shift` places; those that fall off one end come back at the
    other.

    `shift` may be traced. Without an axis the array is rolled as if it were flat.

    >>> bnp.roll(bnp.arange(4), 1)
    Array([3, 0, 1, 2], dtype=int32)
    """
    x = enter(a)
    shape = logical_shape(x)
    if axis is None:
        return reshape_to(roll(ravel(x), shift, 0), shape)
    axes = [
        axis_of("roll", i, len(shape))
        for i in (axis if isinstance(axis, tuple | list) else (axis,))
    ]
    several = isinstance(shift, tuple | list) or (
        isinstance(shift, Handle | np.ndarray) and _ndim(shift) == 1
    )
    shifts = (
        list(unstack(shift) if isinstance(shift, Handle | np.ndarray) else shift)
        if several
        else [shift]
    )
    count = max(len(axes), len(shifts))
    if len(axes) not in (1, count) or len(shifts) not in (1, count):
        raise ValueError(
            f"roll: {len(shifts)} shifts {shift} for {len(axes)} axes {axis}; give one for each"
        )
    for s, i in zip(shifts * (count // len(shifts)), axes * (count // len(axes)), strict=True):
        x = _roll_axis(x, s, i, shape[i])
    return x


def _ndim(x: Any) -> int:
    return len(logical_shape(x)) if isinstance(x, Handle) else np.ndim(x)


def _roll_axis(x: Any, shift: Any, axis: int, n: int) -> Any:
    if n == 0:
        return x
    if isinstance(shift, Handle) and not is_concrete(shift._v):
        return _roll_traced(x, shift, axis, n)
    k = integer("roll", "shift", shift) % n
    if k == 0:
        return x
    return concatenate([cut_axis(x, axis, n - k, n), cut_axis(x, axis, 0, n - k)], axis)


def _roll_traced(x: Any, shift: Any, axis: int, n: int) -> Any:
    size = np.asarray(n, int32)
    # A remainder has the sign of what is divided: rem(n - rem(shift, n), n) lies in [0, n).
    start = rem(sub(size, rem(convert(number("roll", shift), dtype=int32), size)), size)
    zero = np.zeros((), int32)
    starts = [start if i == axis else zero for i in range(len(x._v.shape))]
    twice = concatenate([x, x], axis)
    return wrap(dynamic_slice(twice._v, *starts, sizes=tuple(x._v.shape)), fresh_tag(x._tag))
