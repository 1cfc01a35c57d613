"""Functions from their values on a grid."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

import bevel.numpy as bnp
from bevel.core import tree
from bevel.core.errors import ShapeError
from bevel.core.handle import wrap
from bevel.numpy.arguments import known, number
from bevel.scipy.operands import inexacts, one_of

_METHODS = ("linear", "nearest")


def _axis(points: Any, size: int, position: int) -> tuple[Any, bool]:
    """Ascending places along an axis, and whether they were given in descending order."""
    name = "RegularGridInterpolator"
    places = wrap(number(name, points))
    if places.shape != (size,) or size < 2:
        raise ShapeError(
            f"{name}: points[{position}] has shape {places.shape} and values {size} elements along "
            "that axis; it must be a vector of as many elements, at least 2"
        )
    at_hand = known(places._v)
    if at_hand is None:
        return places, False
    steps = np.diff(at_hand)
    if not (np.all(steps > 0) or np.all(steps < 0)):
        raise ValueError(
            f"{name}: points[{position}] must only ascend or only descend.\n"
            "Write instead: bnp.unique(points), and the values in that order."
        )
    return (places[::-1], True) if steps[0] < 0 else (places, False)


@tree.register_pytree_node_class
class RegularGridInterpolator:
    """A function of n variables from its values on a grid: linear between them, or the nearest.

    A pytree of `grid`, `values` and `fill_value`; differentiable in these and in the places.

    Args:
        points: n vectors, the places of the grid along each axis. Inside a transform they must
            ascend; elsewhere they may descend.
        values: shape (m1, ..., mn, ...), the values there.
        method: "linear" or "nearest".
        bounds_error: must be False.
        fill_value: what is given outside the grid; None extrapolates.

    Raises:
        NotImplementedError: `bounds_error` is true.
        ShapeError: a vector that does not fit the values.
        ValueError: another method, or places that are not in order.

    >>> from bevel.scipy.interpolate import RegularGridInterpolator
    >>> f = RegularGridInterpolator([bnp.array([0.0, 1.0, 3.0])], bnp.array([0.0, 10.0, 20.0]))
    >>> f(bnp.array([[0.5], [2.0], [4.0]]))
    Array([ 5., 15., nan], dtype=float32)
    """

    def __init__(
        self,
        points: Sequence[Any],
        values: Any,
        method: str = "linear",
        bounds_error: bool = False,
        fill_value: Any = np.nan,
    ) -> None:
        name = "RegularGridInterpolator"
        one_of(name, "method", method, _METHODS)
        if bounds_error:
            raise NotImplementedError(
                f"{name}: bounds_error=True is not available.\n"
                "Why: compiled code cannot raise.\n"
                "Write instead: fill_value=bnp.nan, and look for NaN in the result."
            )
        (values,) = inexacts(name, values)
        if not 0 < len(points) <= values.ndim:
            raise ShapeError(
                f"{name}: {len(points)} vectors of points for values of shape {values.shape}"
            )
        axes = [_axis(p, values.shape[i], i) for i, p in enumerate(points)]
        turned = tuple([i for i, (_, descends) in enumerate(axes) if descends])
        self.grid = tuple([places for places, _ in axes])
        self.values = bnp.flip(values, turned) if turned else values
        self.method = method
        self.bounds_error = False
        self.fill_value = fill_value if fill_value is None else bnp.asarray(fill_value)

    def tree_flatten(self) -> tuple[tuple[Any, ...], str]:
        """The arrays, and the method."""
        return (self.grid, self.values, self.fill_value), self.method

    @classmethod
    def tree_unflatten(cls, method: str, children: tuple[Any, ...]) -> RegularGridInterpolator:
        """The interpolator with other arrays, which are not looked at."""
        self = object.__new__(cls)
        self.grid, self.values, self.fill_value = children
        self.method, self.bounds_error = method, False
        return self

    def __call__(self, xi: Any, method: str | None = None) -> Any:
        """Values at places of shape (..., n), or at a tuple of n arrays that broadcast."""
        name, n = "RegularGridInterpolator", len(self.grid)
        method = self.method if method is None else method
        one_of(name, "method", method, _METHODS)
        at = self._places(xi)
        if at.shape[-1] != n:
            raise ShapeError(
                f"{name}: xi has shape {at.shape}, and its last axis must hold the {n} variables"
            )
        lead = at.shape[:-1]
        cells = [self._cell(at[..., i].reshape(-1), g) for i, g in enumerate(self.grid)]
        value = self._linear(cells) if method == "linear" else self._nearest(cells)
        extra = (-1, *(1,) * (self.values.ndim - n))
        outside = functools.reduce(operator.or_, [o for _, _, o in cells])
        if self.fill_value is not None:
            value = bnp.where(outside.reshape(extra), self.fill_value.astype(value.dtype), value)
        unknown = bnp.isnan(at).any(-1).reshape(extra)
        return bnp.where(unknown, bnp.nan, value).reshape(*lead, *self.values.shape[n:])

    def _places(self, xi: Any) -> Any:
        if isinstance(xi, tuple):
            columns = bnp.broadcast_arrays(*inexacts("RegularGridInterpolator", *xi))
            return bnp.stack(columns, axis=-1)
        (at,) = inexacts("RegularGridInterpolator", xi)
        return at.reshape(-1, len(self.grid)) if at.ndim <= 1 else at

    @staticmethod
    def _cell(x: Any, places: Any) -> tuple[Any, Any, Any]:
        """The interval that places lie in, how far along it, and whether they are outside."""
        i = bnp.clip(bnp.searchsorted(places, x) - 1, 0, places.shape[0] - 2)
        low, high = places[i], places[i + 1]
        return i, (x - low) / (high - low), (x < places[0]) | (x > places[-1])

    def _linear(self, cells: list[tuple[Any, Any, Any]]) -> Any:
        extra = (-1, *(1,) * (self.values.ndim - len(cells)))
        corners = [[(i, 1 - part), (i + 1, part)] for i, part, _ in cells]
        total: Any = 0.0
        for corner in itertools.product(*corners):
            value = self.values[tuple([i for i, _ in corner])]
            for _, weight in corner:
                value = value * weight.reshape(extra)
            total = total + value
        return total

    def _nearest(self, cells: list[tuple[Any, Any, Any]]) -> Any:
        return self.values[tuple([bnp.where(part <= 0.5, i, i + 1) for i, part, _ in cells])]
