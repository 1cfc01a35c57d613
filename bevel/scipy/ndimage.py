"""Images of any number of axes, sampled between their elements."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

import bevel.numpy as bnp
from bevel.core import dtypes
from bevel.core.errors import ShapeError
from bevel.core.handle import wrap
from bevel.numpy.arguments import number
from bevel.scipy.operands import at_least_single, one_of


def _mirror(index: Any, size: int) -> Any:
    """Reflected at the middle of the first and the last element: d c b a b c d."""
    last = size - 1
    return last - abs(index % max(2 * last, 1) - last)


def _reflect(index: Any, size: int) -> Any:
    """Reflected at the edge behind the first and the last element: c b a a b c."""
    return (_mirror(2 * index + 1, 2 * size + 1) - 1) // 2


_MODES = {
    "constant": lambda index, size: bnp.clip(index, 0, size - 1),
    "nearest": lambda index, size: bnp.clip(index, 0, size - 1),
    "wrap": lambda index, size: index % size,
    "mirror": _mirror,
    "reflect": _reflect,
}


def _away_from_zero(x: Any) -> Any:
    """The nearest integer, as a float; halves are rounded away from zero."""
    return bnp.sign(x) * bnp.floor(abs(x) + 0.5)


def _nodes(coordinate: Any, order: int) -> list[tuple[Any, Any]]:
    """Indices (int32) of the elements around a coordinate, and their weights (None: 1)."""
    if dtypes.is_integer(np.dtype(coordinate.dtype)):
        return [(coordinate.astype(np.int32), None)]
    if order == 0:
        return [(_away_from_zero(coordinate).astype(np.int32), None)]
    lower = bnp.floor(coordinate)
    index, weight = lower.astype(np.int32), coordinate - lower
    return [(index, 1 - weight), (index + 1, weight)]


def map_coordinates(
    input: Any, coordinates: Sequence[Any], order: int, mode: str = "constant", cval: Any = 0.0
) -> Any:
    """Values of an array at places between its elements.

    Args:
        input: the array, of n axes.
        coordinates: n arrays of one shape, which the result has: the places along each axis.
        order: 0 for the nearest element, 1 for linear interpolation.
        mode: what lies outside: "constant" (`cval`), "nearest" (the element at the edge), "wrap"
            (the array again), "mirror" (reflected about the middle of the last element) or
            "reflect" (about its outer edge). As in JAX, "constant" and "wrap" are SciPy's
            "grid-constant" and "grid-wrap".
        cval: the constant.

    Returns:
        Values of the dtype of `input`, rounded if that is an integer. Differentiable in `input`
        and, for order 1, in `coordinates`.

    Raises:
        NotImplementedError: another `order`.
        ShapeError: not one coordinate array for each axis.

    >>> from bevel.scipy.ndimage import map_coordinates
    >>> map_coordinates(bnp.array([0.0, 10.0, 20.0]), [bnp.array([0.5, 3.0])], order=1)
    Array([5., 0.], dtype=float32)
    """
    name = "map_coordinates"
    x = wrap(number(name, input))
    places = [wrap(number(name, c)) for c in coordinates]
    one_of(name, "mode", mode, _MODES)
    if order not in (0, 1):
        raise NotImplementedError(
            f"{name}: order={order!r} is not available.\n"
            "Why: splines of higher order need a filter of the whole array first.\n"
            "Write instead: order=1, on a finer grid."
        )
    if len(places) != x.ndim:
        raise ShapeError(
            f"{name}: {len(places)} coordinate arrays for an input of shape {x.shape}; give one "
            "for each axis"
        )
    wide = at_least_single(x.dtype)
    real = dtypes.real_dtype(wide)  # in which weights are multiplied
    axes = []
    for coordinate, size in zip(places, x.shape, strict=True):
        found = _nodes(coordinate, order)
        axes.append([(_MODES[mode](i, size), (i >= 0) & (i < size), weight) for i, weight in found])
    total: Any = None
    for corner in itertools.product(*axes):
        indices, inside, weights = zip(*corner, strict=True) if corner else ((), (), ())
        value = x[tuple(indices)]
        if mode == "constant" and inside:
            value = bnp.where(functools.reduce(operator.and_, inside), value, cval)
        for weight in weights:
            value = value if weight is None else weight.astype(real) * value.astype(wide)
        total = value if total is None else total + value
    if dtypes.is_integer(np.dtype(x.dtype)):
        total = total if dtypes.is_integer(np.dtype(total.dtype)) else _away_from_zero(total)
    return total.astype(x.dtype)
