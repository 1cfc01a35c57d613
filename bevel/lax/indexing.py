"""The general gather and scatter, with the names of `jax.lax`; indices are not negative.

`x[...]`, `x.at[...]` and `bnp.take` say the usual cases more clearly and are lowered to these.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

import bevel.ops as ops
from bevel.core import dtypes
from bevel.core.handle import wrap
from bevel.lax.operands import checked, one_dtype, require
from bevel.numpy.arguments import cast, integer, number
from bevel.numpy.convert import enter
from bevel.ops.indexing import Unasked


class GatherDimensionNumbers(NamedTuple):
    """How `gather` maps axes; the field names are those of XLA's gather."""

    offset_dims: Sequence[int]
    collapsed_slice_dims: Sequence[int]
    start_index_map: Sequence[int]
    operand_batching_dims: Sequence[int] = ()
    start_indices_batching_dims: Sequence[int] = ()


class ScatterDimensionNumbers(NamedTuple):
    """How a scatter maps axes; the field names are those of XLA's scatter."""

    update_window_dims: Sequence[int]
    inserted_window_dims: Sequence[int]
    scatter_dims_to_operand_dims: Sequence[int]
    operand_batching_dims: Sequence[int] = ()
    scatter_indices_batching_dims: Sequence[int] = ()


class GatherScatterMode(enum.Enum):
    """What an index out of range does: is clipped, is dropped (a gather gives the fill value),
    cannot happen.
    """

    CLIP = "clip"
    FILL_OR_DROP = "fill"
    PROMISE_IN_BOUNDS = "promise_in_bounds"


def _mode(name: str, mode: Any, default: str = "fill") -> str:
    if mode is None:
        return Unasked(default)
    if isinstance(mode, GatherScatterMode):
        return mode.value
    known = {
        "clip": "clip",
        "fill": "fill",
        "drop": "fill",
        "promise_in_bounds": "promise_in_bounds",
    }
    if mode not in known:
        raise ValueError(f"lax.{name}: mode must be one of {', '.join(known)}, got {mode!r}")
    return known[mode]


def _indices(name: str, indices: Any) -> Any:
    value = number(name, indices)
    require(name, value, "iu", "integer indices")
    return value if value.dtype in (dtypes.int32, dtypes.int64) else cast(value, dtypes.int32)


def _axes(numbers: Any, kind: type) -> Any:
    return kind(
        *[tuple([integer(kind.__name__, "every axis", a) for a in field]) for field in numbers]
    )


def gather(
    operand: Any,
    start_indices: Any,
    dimension_numbers: GatherDimensionNumbers,
    slice_sizes: Sequence[int],
    *,
    unique_indices: bool = False,
    indices_are_sorted: bool = False,
    mode: GatherScatterMode | str | None = None,
    fill_value: Any = None,
) -> Any:
    """Windows of an array at computed places: the last axis of `start_indices` is one place.

    A window that does not fit is moved until it does (`mode` None or "clip"), or is `fill_value`
    (with "fill": NaN, or the smallest integer, unless it is given).

    >>> dims = lax.GatherDimensionNumbers((), (0,), (0,))
    >>> lax.gather(bnp.array([5, 6, 7]), bnp.array([[2], [0]]), dims, (1,))
    Array([7, 5], dtype=int32)
    """
    out = checked(
        ops.gather,
        number("gather", operand),
        _indices("gather", start_indices),
        dims=_axes(dimension_numbers, ops.GatherDims),
        sizes=tuple([integer("gather", "every slice size", n) for n in slice_sizes]),
        mode=_mode("gather", mode, "clip"),
        fill_value=fill_value,
        unique_indices=unique_indices,
        indices_are_sorted=indices_are_sorted,
    )
    return wrap(out)


def index_take(src: Any, idxs: Sequence[Any], axes: Sequence[int]) -> Any:
    """The slices of `src` at places along `axes` that equally long index vectors name.

    Indices count modulo the size of their axis. The new axis comes first.

    >>> lax.index_take(bnp.array([[1, 2], [3, 4]]), (bnp.array([0, -1]),), (1,))
    Array([[1, 3],
           [2, 4]], dtype=int32)
    """
    x = number("index_take", src)
    axes = tuple([integer("index_take", "every axis", a) for a in axes])
    columns = []
    for i, axis in zip(idxs, axes, strict=True):
        index = _indices("index_take", i)
        size = ops.full_like(index, x.shape[axis])
        inside = ops.rem(ops.add(ops.rem(index, size), size), size)
        columns.append(ops.expand_dims(inside, (1,)))
    sizes = [1 if i in axes else n for i, n in enumerate(x.shape)]
    offsets = tuple(range(1, len(x.shape) - len(axes) + 1))
    dims = GatherDimensionNumbers(offsets, axes, axes)
    return gather(wrap(x), wrap(ops.concatenate(*columns, axis=1)), dims, sizes)


def _scatter(
    name: str, op: Any, doc: str, result: str, prepare: Callable | None = None
) -> Callable:
    """One of the scatters; they differ in what is done with an element and its update."""

    def scatter(
        operand: Any,
        scatter_indices: Any,
        updates: Any,
        dimension_numbers: ScatterDimensionNumbers,
        *,
        indices_are_sorted: bool = False,
        unique_indices: bool = False,
        mode: GatherScatterMode | str | None = None,
    ) -> Any:
        (x, new), tag = one_dtype(name, (operand, updates))
        out = checked(
            op,
            x,
            _indices(name, scatter_indices),
            new if prepare is None else prepare(new),
            dims=_axes(dimension_numbers, ops.ScatterDims),
            mode=_mode(name, mode),
            unique_indices=unique_indices,
            indices_are_sorted=indices_are_sorted,
        )
        return wrap(out, tag)

    scatter.__name__ = scatter.__qualname__ = name
    scatter.__doc__ = f"""{doc}

    Windows of `updates` go to computed places: the last axis of `scatter_indices` is one place.
    With `mode` None or "drop" a window that does not fit is left out.

    >>> dims = lax.ScatterDimensionNumbers((), (0,), (0,))
    >>> lax.{name}(bnp.array([1, 2, 3]), bnp.array([[1]]), bnp.array([5]), dims)
    {result}
    """
    return scatter


scatter = _scatter(
    "scatter", ops.scatter, "A copy with elements replaced.", "Array([1, 5, 3], dtype=int32)"
)
scatter_add = _scatter(
    "scatter_add", ops.scatter_add, "A copy with updates added.", "Array([1, 7, 3], dtype=int32)"
)
scatter_sub = _scatter(
    "scatter_sub",
    ops.scatter_add,
    "A copy with updates subtracted.",
    "Array([ 1, -3,  3], dtype=int32)",
    ops.neg,
)
scatter_mul = _scatter(
    "scatter_mul",
    ops.scatter_mul,
    "A copy with elements multiplied by updates.",
    "Array([ 1, 10,  3], dtype=int32)",
)
scatter_min = _scatter(
    "scatter_min",
    ops.scatter_min,
    "A copy with the smaller of both.",
    "Array([1, 2, 3], dtype=int32)",
)
scatter_max = _scatter(
    "scatter_max",
    ops.scatter_max,
    "A copy with the larger of both.",
    "Array([1, 5, 3], dtype=int32)",
)


def scatter_apply(
    operand: Any,
    scatter_indices: Any,
    func: Callable[[Any], Any],
    dimension_numbers: ScatterDimensionNumbers,
    *,
    update_shape: tuple[int, ...] = (),
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    mode: GatherScatterMode | str | None = None,
) -> Any:
    """A copy with an elementwise function applied once to every element that a scatter would reach.

    `update_shape` is the shape that updates would have.

    >>> dims = lax.ScatterDimensionNumbers((), (0,), (0,))
    >>> lax.scatter_apply(bnp.array([1, 2]), bnp.array([[1]]), lax.neg, dims, update_shape=(1,))
    Array([ 1, -2], dtype=int32)
    """
    x = number("scatter_apply", operand)
    reached = scatter(
        wrap(ops.full_like(x, False, np.dtype(bool))),
        scatter_indices,
        wrap(ops.full(tuple(update_shape), True, np.dtype(bool))),
        dimension_numbers,
        indices_are_sorted=indices_are_sorted,
        unique_indices=unique_indices,
        mode=mode,
    )
    return wrap(ops.select(reached._v, enter(func(wrap(x)))._v, x))
