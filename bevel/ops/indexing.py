"""The geometry of gather and scatter: their dimension numbers, checks and NumPy meaning.

Both move *windows* of `sizes` between an array and a batch of them. The last axis of `indices`
holds the start of a window; its other axes are the batch. Scatter is gather with the copy turned
round, so one description serves both: `ScatterDims(*gather_dims)` scatters to where `gather_dims`
gathers from.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from bevel.core import dtypes
from bevel.core.aval import Aval
from bevel.core.op import Misuse
from bevel.ops.base import (
    broadcast_in_dim,
    full_like,
    reduce_sum,
    reshape,
    transpose,
    zeros_like,
)
from bevel.ops.logic import convert, eq, gt, lt, or_, select
from bevel.ops.reductions import reduce_min
from bevel.ops.shape import concatenate, iota

Axes = tuple[int, ...]

MODES = ("clip", "fill", "promise_in_bounds")


class GatherDims(NamedTuple):
    """How a gather maps axes.

    - `offset_dims`: axes of the result that run over a window (the others are the batch);
    - `collapsed_slice_dims`: axes of the operand of window size 1 that the result does not have;
    - `start_index_map`: the axis of the operand that each entry of an index vector means;
    - `operand_batching_dims`, `start_indices_batching_dims`: axes of the operand and of the indices
      that run together.
    """

    offset_dims: Axes
    collapsed_slice_dims: Axes
    start_index_map: Axes
    operand_batching_dims: Axes = ()
    start_indices_batching_dims: Axes = ()


class ScatterDims(NamedTuple):
    """How a scatter maps axes: the fields of `GatherDims`, with the updates as its result."""

    update_window_dims: Axes
    inserted_window_dims: Axes
    scatter_dims_to_operand_dims: Axes
    operand_batching_dims: Axes = ()
    scatter_indices_batching_dims: Axes = ()


def window_axes(ndim: int, dims: GatherDims | ScatterDims) -> Axes:
    """Axes of the operand that the result has as window axes."""
    gone = (*dims[1], *dims[3])
    return tuple([d for d in range(ndim) if d not in gone])


def window_sizes(x_shape: Axes, updates_shape: Axes, dims: ScatterDims) -> Axes:
    """Window size along each axis of a scatter's operand."""
    sizes = [min(1, n) if d in dims[3] else 1 for d, n in enumerate(x_shape)]
    for axis, place in zip(window_axes(len(x_shape), dims), dims[0], strict=True):
        sizes[axis] = updates_shape[place]
    return tuple(sizes)


def result_shape(batch: Axes, dims: GatherDims, sizes: Axes) -> Axes:
    """Shape of a gather's result (of a scatter's updates)."""
    windows = iter([sizes[d] for d in window_axes(len(sizes), dims)])
    rest = iter(batch)
    n = len(batch) + len(dims[0])
    return tuple([next(windows) if i in dims[0] else next(rest) for i in range(n)])


# -- checks --------------------------------------------------------------------------------------


def _check_axes(
    name: str, field: str, axes: Axes, ndim: int, of: str, ordered: bool = True
) -> None:
    if len(set(axes)) != len(axes) or any(not 0 <= a < ndim for a in axes):
        raise ValueError(
            f"{name}: {field}={axes} must be different axes in 0..{ndim - 1} of the {of}"
        )
    if ordered and list(axes) != sorted(axes):
        raise ValueError(f"{name}: {field}={axes} must be in ascending order")


def check_dims(name: str, x: Aval, indices: Aval, dims: Any, result_ndim: int) -> None:
    """Raise for dimension numbers that do not fit the operand and the indices."""
    if not dtypes.is_integer(indices.dtype):
        raise TypeError(
            f"{name}: the indices are {indices}; they must be integers: write "
            "indices.astype('int32')"
        )
    if indices.ndim < 1:
        raise ValueError(
            f"{name}: the indices are 0-d; their last axis holds index vectors: reshape them to "
            "(1,)"
        )
    fields = dims._fields
    _check_axes(name, fields[0], dims[0], result_ndim, "result" if name == "gather" else "updates")
    _check_axes(name, fields[1], dims[1], x.ndim, f"operand {x}")
    _check_axes(name, fields[2], dims[2], x.ndim, f"operand {x}", ordered=False)
    _check_axes(name, fields[3], dims[3], x.ndim, f"operand {x}")
    _check_axes(
        name,
        fields[4],
        dims[4],
        indices.ndim - 1,
        f"batch axes of the indices {indices}",
        ordered=False,
    )
    if set(dims[3]) & {*dims[1], *dims[2]}:
        raise ValueError(
            f"{name}: {fields[3]}={dims[3]} must share no axis with {fields[1]}={dims[1]} and "
            f"{fields[2]}={dims[2]}"
        )
    if len(dims[2]) != indices.shape[-1]:
        raise ValueError(
            f"{name}: {fields[2]}={dims[2]} names {len(dims[2])} axes and the index vectors of "
            f"{indices} "
            f"have {indices.shape[-1]} entries; the two must agree"
        )
    paired = [x.shape[d] for d in dims[3]], [indices.shape[d] for d in dims[4]]
    if paired[0] != paired[1]:
        raise ValueError(
            f"{name}: {fields[3]}={dims[3]} of {x} have sizes {paired[0]} and "
            f"{fields[4]}={dims[4]} of {indices} "
            f"have sizes {paired[1]}; the two must agree"
        )
    if len(dims[0]) + len(dims[1]) + len(dims[3]) != x.ndim:
        raise ValueError(
            f"{name}: {fields[0]}, {fields[1]} and {fields[3]} name {len(dims[0])} + "
            f"{len(dims[1])} + {len(dims[3])} "
            f"axes; together they must name all {x.ndim} axes of {x}"
        )


def check_sizes(name: str, x: Aval, dims: Any, sizes: Axes, empty: bool) -> None:
    """Raise for windows that do not fit; with `empty`, dropped axes may have size 0."""
    if len(sizes) != x.ndim:
        raise ValueError(
            f"{name}: sizes={sizes} needs one window size for each of the {x.ndim} axes of {x}"
        )
    for axis, (s, n) in enumerate(zip(sizes, x.shape, strict=True)):
        if (axis in dims[1] and s != 1) or (axis in dims[3] and s > 1):
            raise ValueError(
                f"{name}: axis {axis} of {x} is dropped from windows, so its size must be 1, not "
                f"{s}"
            )
        if not 0 <= s <= n and not (empty and axis in dims[1]):
            raise ValueError(
                f"{name}: the window size {s} along axis {axis} does not fit into {x}: use 0..{n}"
            )


def check_mode(name: str, mode: str) -> None:
    """Raise for an unknown out-of-bounds mode."""
    if mode not in MODES:
        raise ValueError(
            f"{name}: mode {mode!r} is not known; it is one of {', '.join(map(repr, MODES))}"
        )


# -- NumPy ---------------------------------------------------------------------------------------


class _Plan:
    """What a gather or scatter does that depends on shapes alone.

    `axes` are the operand's axes along which windows start somewhere, `windows` those the result
    has.
    """

    __slots__ = (
        "axes",
        "cut",
        "from_batch",
        "limits",
        "offsets",
        "out_shape",
        "row_order",
        "rows",
        "sizes",
        "steps",
        "takes",
        "to_batch",
        "windows",
    )

    def __init__(self, shape: Axes, batch: Axes, dims: GatherDims, sizes: Axes):
        self.sizes = sizes
        self.out_shape = result_shape(batch, dims, sizes)
        self.windows = window_axes(len(shape), dims)
        self.axes = tuple(sorted({*dims[1], *dims[2], *dims[3]}))
        self.limits = {d: shape[d] - sizes[d] for d in self.axes}
        self.to_batch = (*[i for i in range(len(self.out_shape)) if i not in dims[0]], *dims[0])
        self.from_batch = _inverse(self.to_batch)
        # Windows of one element along adjacent axes are rows of a reshaped operand, which `take`
        # copies.
        first, k = (self.axes[0] if self.axes else 0), len(self.axes)
        self.takes = (
            k > 0
            and self.axes == tuple(range(first, first + k))
            and all(sizes[d] == 1 for d in self.axes)
        )
        self.rows = (*sizes[:first], math.prod(shape[first : first + k]), *sizes[first + k :])
        whole = all(
            d in self.axes or s == n for d, (s, n) in enumerate(zip(sizes, shape, strict=True))
        )
        self.cut = (
            None
            if whole
            else tuple([slice(None if d in self.axes else s) for d, s in enumerate(sizes)])
        )
        self.row_order = self._row_order(len(batch), first)
        self.steps = [math.prod(shape[d + 1 :]) for d in range(len(shape))]
        small = math.prod([sizes[d] for d in self.windows]) <= 1024
        self.offsets = self.window_offsets() if small else None

    def _row_order(self, n_batch: int, before: int) -> Axes | None:
        """Permutation from (axes before, batch, axes after) to the result without its `axes`."""
        moved = [d for d in self.windows if d not in self.axes]
        current = {d: i if d < before else i + n_batch for i, d in enumerate(moved)}
        order = []
        for source in self.from_batch:
            if source < n_batch:
                order.append(sum(d < before for d in moved) + source)
            elif self.windows[source - n_batch] in current:
                order.append(current[self.windows[source - n_batch]])
        return None if order == sorted(order) else tuple(order)

    def window_offsets(self) -> np.ndarray:
        """Distance of each element of a window from its first, in a contiguous operand."""
        out = np.zeros([self.sizes[d] for d in self.windows], np.int64)
        for i, d in enumerate(self.windows):
            line = np.arange(self.sizes[d]) * self.steps[d]
            out += line.reshape([-1 if j == i else 1 for j in range(out.ndim)])
        return out


def _inverse(order: Axes) -> Axes:
    return tuple(sorted(range(len(order)), key=order.__getitem__))


_plan = functools.lru_cache(maxsize=2048)(_Plan)


@functools.lru_cache(maxsize=2048)
def _scatter_plan(shape: Axes, updates: Axes, batch: Axes, dims: ScatterDims) -> _Plan:
    return _Plan(shape, batch, GatherDims(*dims), window_sizes(shape, updates, dims))


def _starts(
    indices: np.ndarray, dims: Any, plan: _Plan, check: bool
) -> tuple[list, np.ndarray | None]:
    """Start of every window along each of `plan.axes`, moved into bounds, and whether it was there
    already.

    The starts broadcast over the batch. The second is None without `check`, or if all were in
    bounds.
    """
    if indices.dtype == np.uint64:
        indices = np.minimum(indices, np.uint64(np.iinfo(np.int64).max))
    indices = indices.astype(np.int64, copy=False)
    starts: dict[int, Any] = {d: 0 for d in plan.axes}
    inside = None
    for j, d in enumerate(dims[2]):
        wanted = indices[..., j]
        starts[d] = np.minimum(np.maximum(wanted, 0), plan.limits[d])
        if check:
            same = wanted == starts[d]
            inside = same if inside is None else inside & same
    for d, place in zip(dims[3], dims[4], strict=True):
        n = indices.shape[place]
        starts[d] = np.arange(n).reshape([n if i == place else 1 for i in range(indices.ndim - 1)])
    return list(starts.values()), None if inside is None or inside.all() else inside


def _spread(start, batch: Axes) -> np.ndarray:
    start = np.asarray(start)
    return start if start.shape == batch else np.broadcast_to(start, batch)


def _strided(x: np.ndarray, plan: _Plan) -> np.ndarray:
    """All windows of `x`: starts along the indexed axes first, then the window axes."""
    shape = [plan.limits[d] + 1 for d in plan.axes] + [plan.sizes[d] for d in plan.windows]
    strides = [x.strides[d] for d in plan.axes] + [x.strides[d] for d in plan.windows]
    if x.dtype.isbuiltin == 1:
        return np.lib.stride_tricks.as_strided(x, shape, strides)
    # as_strided does not know the float8 dtypes.
    return np.lib.stride_tricks.as_strided(x.view(f"u{x.itemsize}"), shape, strides).view(x.dtype)


def _take(x: np.ndarray, rows: np.ndarray, plan: _Plan, mode: Literal["raise", "clip"]):
    if plan.cut is not None:
        x = x[plan.cut]
    axis = plan.axes[0]
    if len(plan.axes) > 1:
        x = x.reshape(plan.rows)
    out = x.take(rows, axis=axis, mode=mode)
    if plan.row_order is not None:
        out = out.transpose(plan.row_order)
    return out if out.shape == plan.out_shape else out.reshape(plan.out_shape)


def gather_reference(
    x,
    indices,
    *,
    dims,
    sizes,
    mode,
    fill_value=None,
    unique_indices=False,
    indices_are_sorted=False,
):
    """The meaning of gather, in NumPy."""
    batch = indices.shape[:-1]
    plan = _plan(x.shape, batch, dims, sizes)
    if 0 in plan.out_shape:
        return np.empty(plan.out_shape, x.dtype)
    if (
        mode != "fill"
        and plan.takes
        and len(plan.axes) == len(dims[2]) == 1
        and indices.dtype != np.uint64
    ):
        return _take(x, indices[..., 0], plan, "clip")
    starts, inside = _starts(indices, dims, plan, mode == "fill")
    if plan.takes:
        row: Any = 0
        for d, start in zip(plan.axes, starts, strict=True):
            row = row * x.shape[d] + start
        out = _take(x, _spread(row, batch), plan, "raise")
    else:
        out = _strided(x, plan)[tuple([_spread(s, batch) for s in starts])]
        if not starts:
            out = np.broadcast_to(out, (*batch, *out.shape))
        out = out.transpose(plan.from_batch)
    if inside is None:
        return out
    inside = inside.reshape([n if i not in dims[0] else 1 for i, n in enumerate(plan.out_shape)])
    return np.where(inside, out, fill_number(x.dtype, fill_value))


def fill_number(dtype: np.dtype, fill_value) -> np.ndarray:
    """What a gather gives out of bounds: by default NaN, True, lowest int or highest uint."""
    if fill_value is None:
        kind = dtypes.kind(dtype)
        fill_value = {"b": True, "f": np.nan, "c": np.nan}.get(kind)
        if fill_value is None:
            fill_value = dtypes.iinfo(dtype).min if kind == "i" else dtypes.iinfo(dtype).max
    return np.asarray(fill_value).astype(dtype)


_AT = {"add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum}


def scatter_reference(
    how: str, x, indices, updates, *, dims, mode, unique_indices=False, indices_are_sorted=False
):
    """The meaning of scatter, in NumPy: windows combine one by one, in row-major order."""
    out = x.copy()
    batch = indices.shape[:-1]
    plan = _scatter_plan(x.shape, updates.shape, batch, dims)
    if updates.size == 0 or any(n < 0 for n in plan.limits.values()):
        return out
    starts, inside = _starts(indices, dims, plan, mode != "clip")
    starts = [_spread(s, batch).reshape(-1) for s in starts]
    updates = updates.transpose(plan.to_batch).reshape((-1, *[plan.sizes[d] for d in plan.windows]))
    if inside is not None:
        inside = inside.reshape(-1)
        starts, updates = [s[inside] for s in starts], updates[inside]
    if how != "set" and not unique_indices:
        _combine_at(_AT[how], out, starts, plan, updates)
        return out
    view = _strided(out, plan)
    at, new = (tuple(starts), updates) if starts else (..., updates[-1])
    if how == "set":
        view[at] = new
    else:
        view[at] = _AT[how](view[at], new)
    return out


def _combine_at(
    ufunc, out: np.ndarray, starts: list[np.ndarray], plan: _Plan, updates: np.ndarray
) -> None:
    """Combine element by element: `ufunc.at` is four times quicker on a flat axis than on rows."""
    first = np.zeros(len(updates), np.int64)
    for d, start in zip(plan.axes, starts, strict=True):
        first += start * plan.steps[d]
    offsets = plan.window_offsets() if plan.offsets is None else plan.offsets
    place = first.reshape([-1] + [1] * offsets.ndim) + offsets
    ufunc.at(out.reshape(-1), place.reshape(-1), updates.reshape(-1))


# -- out of bounds -------------------------------------------------------------------------------


class Unasked(str):
    """A mode that the user did not ask for: then an index out of bounds is a mistake, which
    `bv.debug.checked` and `checkify` report.
    """

    __slots__ = ()


CLIP, FILL = Unasked("clip"), Unasked("fill")


def _find_outside(indices: Any, shape: Axes, axes: Axes, sizes: Axes) -> Any:
    """Whether a window is out of bounds; and of the first that is, along the first axis that has
    one: its start, its place among the starts axis by axis, and how many there are along each.
    """
    count = math.prod(indices.shape[:-1])
    if not count * len(axes):
        return None
    top = np.iinfo(indices.dtype).max
    last = np.array([min(max(shape[d] - sizes[d], 0), top) for d in axes], indices.dtype)
    last_axis = indices.ndim - 1
    limits = broadcast_in_dim(last, shape=tuple(indices.shape), dims=(last_axis,))
    wrong = or_(lt(indices, zeros_like(indices)), gt(indices, limits))
    if count * len(axes) == 1:
        one = np.ones(1, np.int32)
        return reshape(wrong, shape=()), [reshape(indices, shape=()), np.zeros((), np.int32), one]
    by_axis = (last_axis, *range(last_axis))

    def flat(x: Any) -> Any:
        return reshape(transpose(x, permutation=by_axis), shape=(len(axes) * count,))

    places = iota(shape=(len(axes) * count,), dtype=dtypes.int32, axis=0)
    first = reduce_min(select(flat(wrong), places, full_like(places, len(axes) * count)), axes=(0,))
    here = eq(places, broadcast_in_dim(first, shape=tuple(places.shape), dims=()))
    start = reduce_sum(select(here, flat(indices), zeros_like(flat(indices))), axes=(0,))
    counts = reduce_sum(convert(wrong, dtype=dtypes.int32), axes=tuple(range(last_axis)))
    return lt(first, full_like(first, len(axes) * count)), [start, first, counts]


def instead(n: int) -> str:
    """What to write for an index that an axis of size `n` does not have."""
    if not n:
        return "nothing: the axis is empty"
    return (
        f"an index from {-n} to {n - 1}; x.at[i].get(mode='clip') takes the nearest one, "
        "mode='fill' NaN or zero"
    )


def _outside(facts: Any, shape: Axes, axes: Axes, sizes: Axes, count: int) -> tuple[str, str]:
    """A negative index of a user counts from the end, so here it has the axis' size added."""
    index, which = int(facts[0]), int(facts[1]) // count
    axis, found = axes[which], int(facts[2][which])
    n = shape[axis]
    given = f"{index}" if index >= 0 else f"{index - n} ({index} once counted from the end)"
    what = f"a slice of {sizes[axis]} elements that starts at {index}"
    what = f"index {given}" if sizes[axis] == 1 else what
    more = f" ({found} of them are)" if found > 1 else ""
    what += f" is out of bounds for axis {axis} with size {n}, of an array of shape {shape}{more}"
    return what, instead(n) if sizes[axis] == 1 else f"a start from 0 to {n - sizes[axis]}"


def window_misuse(sizes_of: Callable[[Sequence[Aval], dict[str, Any]], Axes]) -> Misuse:
    """Windows of a gather or scatter that are out of bounds, unless the user said what is then."""

    def find(values: Sequence[Any], avals: Sequence[Aval], params: dict[str, Any]) -> Any:
        if params["mode"] in ("clip", "fill") and type(params["mode"]) is not Unasked:
            return None
        axes = params["dims"][2]
        return _find_outside(values[0], avals[0].shape, axes, sizes_of(avals, params))

    def text(facts: Any, avals: Sequence[Aval], params: dict[str, Any]) -> tuple[str, str]:
        count = math.prod(avals[1].shape[:-1])
        axes = params["dims"][2]
        return _outside(facts, avals[0].shape, axes, sizes_of(avals, params), count)

    return Misuse(IndexError, slice(1, 2), find, text)


def block_misuse(first: int, sizes_of: Callable[[Sequence[Aval], dict[str, Any]], Axes]) -> Misuse:
    """A dynamic slice that is out of bounds; the operands from `first` on are its starts."""

    def find(values: Sequence[Any], avals: Sequence[Aval], params: dict[str, Any]) -> Any:
        if not values:
            return None
        starts = concatenate(*[reshape(v, shape=(1,)) for v in values], axis=0)
        axes = tuple(range(len(values)))
        return _find_outside(starts, avals[0].shape, axes, sizes_of(avals, params))

    def text(facts: Any, avals: Sequence[Aval], params: dict[str, Any]) -> tuple[str, str]:
        axes = tuple(range(avals[0].ndim))
        return _outside(facts, avals[0].shape, axes, sizes_of(avals, params), 1)

    return Misuse(IndexError, slice(first, None), find, text)
