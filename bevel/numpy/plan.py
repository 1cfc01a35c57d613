"""From the index in the brackets to what is done: one static slice, then at most one gather."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

import bevel.ops as ops
from bevel.core import dtypes, errors, source
from bevel.core.dtypes import bool_, int32
from bevel.core.handle import Handle, KeyTag, logical_shape
from bevel.core.interpreter import Tracer, to_numpy
from bevel.core.misfit import Fix, misfit
from bevel.numpy.convert import broadcast_value, enter
from bevel.ops.indexing import instead

Shape = tuple[int, ...]
EVERYTHING = slice(None)

# -- what stands in the brackets -------------------------------------------------------------------


def _refuse(item: Any, why: str, instead: str) -> IndexError:
    kind = f"{np.dtype(item.dtype).name} array" if hasattr(item, "dtype") else type(item).__name__
    return IndexError(
        f"an index cannot be a {kind}, at {source.where(source.user_source())}: {why}.\nWrite "
        f"instead: {instead}."
    )


def _known_or_traced(value: Any) -> Any:
    """The value as NumPy array if it is known, else the tracer."""
    return value if isinstance(value, Tracer) else to_numpy(value)


def _bound(bound: Any) -> int | None:
    """A static bound of a slice."""
    if bound is None or type(bound) is int:
        return bound
    if isinstance(bound, Handle) and isinstance(bound._v, Tracer):
        raise errors.ConcretizationTypeError(
            f"a traced {bound._v.aval} is a bound of a slice at "
            f"{source.where(source.user_source())}.\n"
            "Why: it would decide a shape, and shapes are part of the program.\n"
            "Write instead: lax.dynamic_slice_in_dim(x, start, size, axis), whose size is static, "
            "or a mask: "
            "bnp.where(bnp.arange(n) < stop, x, 0)."
        )
    return operator.index(bound)


def index_item(item: Any) -> Any:
    """One entry of an index: an int, slice, None or Ellipsis, or ints or bools not in a handle."""
    if item is None or item is Ellipsis or type(item) is int:
        return item
    if type(item) is slice:
        return slice(_bound(item.start), _bound(item.stop), _bound(item.step))
    return _number_item(item)


def _number_item(item: Any) -> Any:
    if isinstance(item, bool | np.bool_):
        return np.asarray(item)
    if isinstance(item, list | tuple):
        item = enter(item) if len(item) else np.zeros(0, int32)
    elif hasattr(item, "__bevel_array__"):
        item = enter(item)
    if isinstance(item, Handle):
        if type(item._tag) is KeyTag:
            raise _refuse(
                item._v, "it is a random key", "an integer; random.randint(key, (), 0, n) draws one"
            )
        item = _known_or_traced(item._v)
    if not isinstance(item, np.ndarray | Tracer):
        try:
            return operator.index(item)
        except TypeError:
            raise _refuse(
                item,
                "it must be an integer, a slice, None, ..., or an array of integers or bools",
                "x[int(i)]",
            ) from None
    if item.dtype.kind not in "iub":
        raise _refuse(item, "indices are integers or bools", "x[i.astype(int)]")
    if type(item) is np.ndarray and item.ndim == 0 and item.dtype.kind in "iu":
        return int(item)
    return item


def entries(index: Any, x: Handle) -> list[Any]:
    """The entries of an index of a handle, one or more per axis: `...` and missing ones are
    written out as slices.

    Raises:
        IndexError: too many indices.
    """
    items = [index_item(i) for i in (index if type(index) is tuple else (index,))]
    used, shape = sum([axes_taken(i) for i in items]), logical_shape(x)
    dots = [i for i, item in enumerate(items) if item is Ellipsis]
    if used > len(shape) or len(dots) > 1:
        what = f"{used} are indexed" if used > len(shape) else "'...' is there more than once"
        raise misfit(
            "x[...]",
            [x],
            f"too many indices: {{0}} has {len(shape)} axes, and {what}",
            otherwise=f"at most {len(shape)} indices, and '...' once",
            words=["the array"],
            error=IndexError,
        )
    rest = [EVERYTHING] * (len(shape) - used)
    if not dots:
        return items + rest
    # Where it stands for no axis it stays: it still parts the index arrays around it, as in NumPy.
    return items[: dots[0]] + (rest or [Ellipsis]) + items[dots[0] + 1 :]


def axes_taken(item: Any) -> int:
    """How many axes an entry takes."""
    if item is None or item is Ellipsis:
        return 0
    if isinstance(item, np.ndarray | Tracer) and item.dtype == bool_:
        return item.ndim
    return 1


def out_of_bounds(index: int, axis: int, n: int) -> IndexError:
    """The error for an index that an axis of size `n` does not have."""
    return IndexError(
        f"index {index} is out of bounds for axis {axis} with size {n}, at "
        f"{source.where(source.user_source())}.\nWrite instead: {instead(n)}."
    )


# -- the plan --------------------------------------------------------------------------------------


class Plan:
    """How an index reads or writes an array of `shape`.

    First a static slice of every axis (`start`, `limit`, `strides`, then `flipped` axes are
    reversed), which gives `sliced`; then the axes in `axes` are indexed by `indices` (ints, arrays
    or tracers, one per axis); the indices' common shape `batch` comes at axis `place` of the
    result. Last, axes of size 1 are put in: the result has shape `out`.
    """

    __slots__ = (
        "axes",
        "batch",
        "flipped",
        "indices",
        "limit",
        "out",
        "place",
        "plain",
        "shape",
        "start",
        "strides",
    )

    def __init__(self, shape: Shape, items: list[Any], check: bool):
        self.shape = shape
        self.start, self.limit, self.strides = [0] * len(shape), list(shape), [1] * len(shape)
        self.flipped: list[int] = []
        self.axes: list[int] = []
        self.indices: list[Any] = []
        items, owners = _without_masks(items, shape)
        arrays = any([self._needs_gather(i, a, check) for i, a in zip(items, owners, strict=True)])
        kept: list[int] = []  # sizes of the result's axes that do not come from indices
        layout: list[int] = []
        at = None  # where the indexed axes come in the result
        last = None
        split = False
        for i, (item, axis) in enumerate(zip(items, owners, strict=True)):
            if item is Ellipsis:
                continue
            if item is None:
                layout.append(1)
            elif type(item) is slice:
                kept.append(self._slice(axis, item))
                layout.append(kept[-1])
            elif arrays:
                self._index(axis, item, check)
                split = split or (last is not None and last != i - 1)
                at, last = len(layout) if at is None else at, i
            else:
                self._fix(axis, item)
        self.batch = self._broadcast()
        at = 0 if split or at is None else at
        self.place = sum([1 for i in items[: last or 0] if type(i) is slice]) if at else 0
        self.out = (*layout[:at], *self.batch, *layout[at:])
        self.plain = (*kept[: self.place], *self.batch, *kept[self.place :])

    def _needs_gather(self, item: Any, axis: int, check: bool) -> bool:
        """Whether an entry is no part of a static slice: an array, or a number whose mode must
        be heeded.
        """
        if type(item) is int:
            return not check and not -self.shape[axis] <= item < self.shape[axis]
        return isinstance(item, np.ndarray | Tracer)

    def _slice(self, axis: int, item: slice) -> int:
        start, stop, step = item.indices(self.shape[axis])
        n = len(range(start, stop, step))
        if step < 0:
            start, step = start + (n - 1) * step, -step
            self.flipped.append(axis)
        if n == 0:
            start = 0
        self.start[axis], self.strides[axis] = start, step if n > 1 else 1
        self.limit[axis] = start + (n - 1) * step + 1 if n else start
        return n

    def _fix(self, axis: int, index: int) -> None:
        n = self.shape[axis]
        if not -n <= index < n:
            raise out_of_bounds(index, axis, n)
        index += n if index < 0 else 0
        self.start[axis], self.limit[axis] = index, index + 1

    def _index(self, axis: int, item: Any, check: bool) -> None:
        n = self.shape[axis]
        if check and not isinstance(item, Tracer):
            array = np.asarray(item)
            wrong = (array < -n) | (array >= n)
            if wrong.any():
                raise out_of_bounds(int(array[wrong].flat[0]), axis, n)
        self.axes.append(axis)
        self.indices.append(item)

    def _broadcast(self) -> Shape:
        shapes = [np.shape(i) if isinstance(i, int) else tuple(i.shape) for i in self.indices]
        try:
            return np.broadcast_shapes(*shapes)
        except ValueError:
            raise IndexError(
                f"the index arrays have shapes {', '.join(map(str, shapes))}, which do not "
                "broadcast together, at "
                f"{source.where(source.user_source())}.\nWrite instead: x[bnp.ix_(i, j)] for all "
                "combinations."
            ) from None

    # -- pieces of reading and writing

    @property
    def whole(self) -> bool:
        """Whether the static slice takes everything."""
        return (
            not any(self.start)
            and tuple(self.limit) == self.shape
            and not self.flipped
            and max(self.strides, default=1) == 1
        )

    @property
    def sliced(self) -> Shape:
        """The shape after the static slice."""
        return tuple(
            [-(-(e - s) // t) for s, e, t in zip(self.start, self.limit, self.strides, strict=True)]
        )

    def cut(self, x: Any) -> Any:
        """The static slice of a value."""
        if self.whole:
            return x
        strides = None if max(self.strides, default=1) == 1 else tuple(self.strides)
        x = ops.slice(x, start=tuple(self.start), limit=tuple(self.limit), strides=strides)
        return ops.rev(x, axes=tuple(self.flipped)) if self.flipped else x

    def paste(self, x: Any, block: Any) -> Any:
        """The value with its static slice replaced by `block`, which has the shape `sliced`."""
        if self.whole:
            return block
        if 0 in block.shape:
            return x
        if self.flipped:
            block = ops.rev(block, axes=tuple(self.flipped))
        if max(self.strides, default=1) == 1:
            return ops.dynamic_update_slice(x, block, *[np.asarray(s, int32) for s in self.start])
        config = tuple(
            [
                (s, n - e, t - 1)
                for s, e, t, n in zip(self.start, self.limit, self.strides, self.shape, strict=True)
            ]
        )
        zero, no = np.zeros((), x.dtype), np.zeros((), bool_)
        inside = ops.pad(ops.full(block.shape, True, bool_), no, config=config)
        return ops.select(inside, ops.pad(block, zero, config=config), x)

    def starts(self, wrap_negative: bool) -> list[Any]:
        """One int32 value per indexed axis, negative ones counted from the end."""
        return [
            normalized(i, self.shape[a], wrap_negative)
            for a, i in zip(self.axes, self.indices, strict=True)
        ]

    def vectors(self, wrap_negative: bool) -> Any:
        """The index vectors: `batch` axes, then one axis with an entry per indexed axis."""
        columns = [broadcast_value(i, self.batch) for i in self.starts(wrap_negative)]
        shape = (*self.batch, 1)
        return ops.concatenate(
            *[ops.reshape(c, shape=shape) for c in columns], axis=len(self.batch)
        )

    def window(self) -> tuple[Shape, Shape]:
        """Sizes of the gathered windows, and the axes of the result that run over them."""
        sizes = tuple([1 if a in self.axes else n for a, n in enumerate(self.sliced)])
        n_batch, n_kept = len(self.batch), len(self.shape) - len(self.axes)
        offsets = tuple([i if i < self.place else i + n_batch for i in range(n_kept)])
        return sizes, offsets


def normalized(index: Any, n: int, wrap_negative: bool = True) -> Any:
    """An index along an axis of size `n` as int32 value, negative ones counted from the end."""
    if isinstance(index, int):
        return np.asarray(index + n if wrap_negative and index < 0 else index, int32)
    dtype = np.dtype(index.dtype)
    if not isinstance(index, Tracer):
        if wrap_negative:
            index = np.where(index < 0, index + n, index)
        return (
            np.clip(index, -1, min(n, 2**31 - 1)).astype(int32)
            if dtype.itemsize >= 4
            else index.astype(int32)
        )
    if dtype.itemsize == 8 or dtype == dtypes.uint32:
        low, high = (0 if dtypes.kind(dtype) == "u" else -n - 1), n
        index = ops.min(ops.max(index, ops.full_like(index, low)), ops.full_like(index, high))
    if dtype != int32:
        index = ops.convert(index, dtype=int32)
    if not wrap_negative or dtypes.kind(dtype) == "u":
        return index
    return ops.select(
        ops.lt(index, ops.full_like(index, 0)), ops.add(index, ops.full_like(index, n)), index
    )


def _without_masks(items: list[Any], shape: Shape) -> tuple[list[Any], list[int]]:
    """The entries with masks replaced by the indices where they hold, and the axis each entry is
    for.
    """
    out: list[Any] = []
    owners: list[int] = []
    axis = 0
    for item in items:
        if isinstance(item, np.ndarray | Tracer) and item.dtype == bool_:
            places = _places(item)
            out += places
            owners += range(axis, axis + len(places))
        else:
            out.append(item)
            owners.append(axis)
        axis += axes_taken(item)
    return out, owners


def check_masks(x: Handle, index: Any, items: list[Any]) -> None:
    """Refuse a mask among the entries of an index whose shape is not that of its axes.

    Raises:
        IndexError: there is one.
    """
    axis, shape = 0, logical_shape(x)
    for item in items:
        mask = isinstance(item, np.ndarray | Tracer) and item.dtype == bool_
        if mask and tuple(item.shape) != shape[axis : axis + item.ndim]:
            raise _mask_misfit(x, item, axis, type(index) is not tuple)
        axis += axes_taken(item)


def _mask_misfit(x: Handle, mask: Any, axis: int, alone: bool) -> Exception:
    shape, wanted = logical_shape(x), tuple(mask.shape)
    n = len(wanted)
    fixes = [
        Fix("It fits other axes", {1: f"[{':, ' * i}_]"})
        for i in range(len(shape) - n + 1)
        if alone and shape[i : i + n] == wanted
    ]
    why = f"boolean index did not match: it stands for axes of shape {shape[axis : axis + n]}"
    return misfit(
        "x[...]",
        [x, mask] if alone else [x],
        why if alone else f"{why}, and has shape {wanted}",
        fixes[:1],
        "a mask made from the array itself, such as x > 0",
        words=["the array", "the index"],
        error=IndexError,
    )


def _places(mask: Any) -> list[np.ndarray]:
    if isinstance(mask, Tracer):
        raise errors.ConcretizationTypeError(
            f"a traced {mask.aval} is an index at {source.where(source.user_source())}.\n"
            "Why: the number of elements that it picks would decide a shape, and shapes are part "
            "of the program.\n"
            "Write instead: bnp.where(mask, x, 0) to keep the shape, x.sum(where=mask) to reduce, "
            "x[bnp.nonzero(mask, size=n)] to pick at most n; x.at[mask].set(number) works as it is."
        )
    return list(np.nonzero(mask))
