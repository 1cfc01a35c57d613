"""`x[...]` and `x.at[...]`, with NumPy's meaning of every index.

Eagerly, on data and indices that NumPy holds, NumPy itself does the work. In a program an index becomes at
most one static slice, then one gather or dynamic slice: a `Plan` says which. An index known when the
program is written is checked then; a traced one out of bounds is clamped when reading and dropped when
writing, unless `mode=` says otherwise.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

import bevel.ops as ops
from bevel.core import dtypes, errors, source
from bevel.core.dtypes import bool_, int32
from bevel.core.errors import ShapeError
from bevel.core.handle import Handle, KeyTag, fresh_tag, logical_shape, wrap
from bevel.core.interpreter import EAGER, Tracer, state, to_numpy
from bevel.numpy.arguments import known
from bevel.numpy.convert import SCALARS, broadcast_value, enter, quietly, value_at
from bevel.ops import GatherDims, ScatterDims

Shape = tuple[int, ...]
_EVERYTHING = slice(None)
_new = Handle.__new__

MODES = {
    "clip": "clip",
    "fill": "fill",
    "drop": "fill",
    "promise_in_bounds": "promise_in_bounds",
}


def mode_of(mode: Any) -> str | None:
    """The ops' name of an out-of-bounds mode."""
    if mode is None:
        return None
    if mode not in MODES:
        raise ValueError(f"unknown mode {mode!r}: use {', '.join(map(repr, MODES))} or None")
    return MODES[mode]


# -- what stands in the brackets -----------------------------------------------------------------


def _refuse(item: Any, why: str, instead: str) -> IndexError:
    kind = f"{np.dtype(item.dtype).name} array" if hasattr(item, "dtype") else type(item).__name__
    return IndexError(
        f"an index cannot be a {kind}, at {source.where(source.user_source())}: {why}.\nWrite instead: {instead}."
    )


def _contents(value: Any) -> Any:
    """The value as NumPy array if it is known, else the tracer."""
    return value if isinstance(value, Tracer) else to_numpy(value)


def _bound(bound: Any) -> int | None:
    """A static bound of a slice."""
    if bound is None or type(bound) is int:
        return bound
    if isinstance(bound, Handle) and isinstance(bound._v, Tracer):
        raise errors.ConcretizationTypeError(
            f"a traced {bound._v.aval} is a bound of a slice at {source.where(source.user_source())}.\n"
            "Why: it would decide a shape, and shapes are part of the program.\n"
            "Write instead: lax.dynamic_slice_in_dim(x, start, size, axis), whose size is static, or a mask: "
            "bnp.where(bnp.arange(n) < stop, x, 0)."
        )
    return operator.index(bound)


def _item(item: Any) -> Any:
    """One entry of an index as int, slice, None, Ellipsis, an ndarray or a tracer of ints or bools."""
    if item is None or item is Ellipsis or type(item) is int:
        return item
    if type(item) is slice:
        return slice(_bound(item.start), _bound(item.stop), _bound(item.step))
    if isinstance(item, bool | np.bool_):
        return np.asarray(item)
    if isinstance(item, np.integer):
        return int(item)
    if isinstance(item, list | tuple):
        item = enter(item) if len(item) else np.zeros(0, int32)
    elif hasattr(item, "__bevel_array__"):
        item = enter(item)
    if isinstance(item, Handle):
        if type(item._tag) is KeyTag:
            raise _refuse(item._v, "it is a random key", "an integer; random.randint(key, (), 0, n) draws one")
        item = _contents(item._v)
    if not isinstance(item, np.ndarray | Tracer):
        try:
            return operator.index(item)
        except TypeError:
            raise _refuse(
                item, "it must be an integer, a slice, None, ..., or an array of integers or bools", "x[int(i)]"
            ) from None
    if item.dtype.kind not in "iub":
        raise _refuse(item, "indices are integers or bools", "x[i.astype(int)]")
    if type(item) is np.ndarray and item.ndim == 0 and item.dtype.kind in "iu":
        return int(item)
    return item


def entries(index: Any, shape: Shape) -> list[Any]:
    """The entries of an index, one or more per axis: `...` and missing ones are written out as slices.

    Raises:
        IndexError: too many indices.
    """
    items = [_item(i) for i in (index if type(index) is tuple else (index,))]
    used = sum([_consumed(i) for i in items])
    dots = [i for i, item in enumerate(items) if item is Ellipsis]
    if used > len(shape) or len(dots) > 1:
        what = f"{used} axes are indexed" if used > len(shape) else "'...' is there more than once"
        raise IndexError(
            f"too many indices: an array of shape {shape} has {len(shape)} axes, and {what}, at "
            f"{source.where(source.user_source())}"
        )
    rest = [_EVERYTHING] * (len(shape) - used)
    at = dots[0] if dots else len(items)
    return items[:at] + rest + items[at + 1 :]


def _consumed(item: Any) -> int:
    """How many axes an entry takes."""
    if item is None or item is Ellipsis:
        return 0
    if isinstance(item, np.ndarray | Tracer) and item.dtype == bool_:
        return item.ndim
    return 1


def _out_of_bounds(index: int, axis: int, n: int) -> IndexError:
    allowed = f"use {-n}..{n - 1}" if n else "the axis is empty"
    return IndexError(
        f"index {index} is out of bounds for axis {axis} with size {n}, at {source.where(source.user_source())}: "
        f"{allowed}"
    )


# -- the plan ------------------------------------------------------------------------------------


class Plan:
    """How an index reads or writes an array of `shape`.

    First a static slice of every axis (`start`, `limit`, `strides`, then `flipped` axes are reversed), which
    gives `sliced`; then the axes in `axes` are indexed by `indices` (ints, arrays or tracers, one per axis);
    the indices' common shape `batch` comes at axis `place` of the result. Last, axes of size 1 are put in:
    the result has shape `out`.
    """

    __slots__ = ("axes", "batch", "flipped", "indices", "limit", "out", "place", "plain", "shape", "start", "strides")

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
        """Whether an entry is no part of a static slice: an array, or a number whose mode must be heeded."""
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
            raise _out_of_bounds(index, axis, n)
        index += n if index < 0 else 0
        self.start[axis], self.limit[axis] = index, index + 1

    def _index(self, axis: int, item: Any, check: bool) -> None:
        n = self.shape[axis]
        if check and not isinstance(item, Tracer):
            array = np.asarray(item)
            wrong = (array < -n) | (array >= n)
            if wrong.any():
                raise _out_of_bounds(int(array[wrong].flat[0]), axis, n)
        self.axes.append(axis)
        self.indices.append(item)

    def _broadcast(self) -> Shape:
        shapes = [np.shape(i) if isinstance(i, int) else tuple(i.shape) for i in self.indices]
        try:
            return np.broadcast_shapes(*shapes)
        except ValueError:
            raise IndexError(
                f"the index arrays have shapes {', '.join(map(str, shapes))}, which do not broadcast together, at "
                f"{source.where(source.user_source())}.\nWrite instead: x[bnp.ix_(i, j)] for all combinations."
            ) from None

    # -- pieces of reading and writing

    @property
    def whole(self) -> bool:
        """Whether the static slice takes everything."""
        return (
            not any(self.start) and tuple(self.limit) == self.shape and not self.flipped and max(self.strides, default=1) == 1
        )

    @property
    def sliced(self) -> Shape:
        """The shape after the static slice."""
        return tuple([-(-(e - s) // t) for s, e, t in zip(self.start, self.limit, self.strides, strict=True)])

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
            [(s, n - e, t - 1) for s, e, t, n in zip(self.start, self.limit, self.strides, self.shape, strict=True)]
        )
        zero, no = np.zeros((), x.dtype), np.zeros((), bool_)
        inside = ops.pad(ops.full(block.shape, True, bool_), no, config=config)
        return ops.select(inside, ops.pad(block, zero, config=config), x)

    def starts(self, wrap_negative: bool) -> list[Any]:
        """One int32 value per indexed axis, negative ones counted from the end."""
        return [
            normalized(i, self.shape[a], wrap_negative) for a, i in zip(self.axes, self.indices, strict=True)
        ]

    def vectors(self, wrap_negative: bool) -> Any:
        """The index vectors: `batch` axes, then one axis with an entry per indexed axis."""
        columns = [broadcast_value(i, self.batch) for i in self.starts(wrap_negative)]
        shape = (*self.batch, 1)
        return ops.concatenate(*[ops.reshape(c, shape=shape) for c in columns], axis=len(self.batch))

    def window(self) -> tuple[Shape, Shape]:
        """Sizes of the gathered windows, and the axes of the result that run over them."""
        sizes = tuple([1 if a in self.axes else n for a, n in enumerate(self.sliced)])
        n_batch, n_kept = len(self.batch), len(self.shape) - len(self.axes)
        offsets = tuple([i if i < self.place else i + n_batch for i in range(n_kept)])
        return sizes, offsets

    def kept_axes(self) -> list[int]:
        return [a for a in range(len(self.shape)) if a not in self.axes]


def normalized(index: Any, n: int, wrap_negative: bool = True) -> Any:
    """An index along an axis of size `n` as int32 value, negative ones counted from the end."""
    if isinstance(index, int):
        return np.asarray(index + n if wrap_negative and index < 0 else index, int32)
    dtype = np.dtype(index.dtype)
    if not isinstance(index, Tracer):
        if wrap_negative:
            index = np.where(index < 0, index + n, index)
        return np.clip(index, -1, min(n, 2**31 - 1)).astype(int32) if dtype.itemsize >= 4 else index.astype(int32)
    if dtype.itemsize == 8 or dtype == dtypes.uint32:
        low, high = (0 if dtypes.kind(dtype) == "u" else -n - 1), n
        index = ops.min(ops.max(index, ops.full_like(index, low)), ops.full_like(index, high))
    if dtype != int32:
        index = ops.convert(index, dtype=int32)
    if not wrap_negative or dtypes.kind(dtype) == "u":
        return index
    return ops.select(ops.lt(index, ops.full_like(index, 0)), ops.add(index, ops.full_like(index, n)), index)


def _without_masks(items: list[Any], shape: Shape) -> tuple[list[Any], list[int]]:
    """The entries with masks replaced by the indices where they hold, and the axis each entry is for."""
    out: list[Any] = []
    owners: list[int] = []
    axis = 0
    for item in items:
        if isinstance(item, np.ndarray | Tracer) and item.dtype == bool_:
            places = _places(item, axis, shape)
            out += places
            owners += range(axis, axis + len(places))
        else:
            out.append(item)
            owners.append(axis)
        axis += _consumed(item)
    return out, owners


def _places(mask: Any, axis: int, shape: Shape) -> list[np.ndarray]:
    covered = shape[axis : axis + mask.ndim]
    if tuple(mask.shape) != covered:
        raise IndexError(
            f"a bool index of shape {tuple(mask.shape)} stands for axes of shape {covered}, at "
            f"{source.where(source.user_source())}: the shapes must be equal.\n"
            "Write instead: a mask made from the array itself, such as x > 0."
        )
    if isinstance(mask, Tracer):
        raise errors.ConcretizationTypeError(
            f"a traced {mask.aval} is an index at {source.where(source.user_source())}.\n"
            "Why: the number of elements that it picks would decide a shape, and shapes are part of the program.\n"
            "Write instead: bnp.where(mask, x, 0) to keep the shape, x.sum(where=mask) to reduce, "
            "x[bnp.nonzero(mask, size=n)] to pick at most n; x.at[mask].set(number) works as it is."
        )
    return list(np.nonzero(mask))


# -- reading -------------------------------------------------------------------------------------


def getitem(x: Handle, index: Any) -> Any:
    """`x[index]`."""
    tag = x._tag
    if type(tag) is KeyTag:
        return _key_item(x, index)
    if state.current is EAGER:
        value = x._v if type(x._v) is np.ndarray else known(x._v)
        if value is not None:
            kind = type(index)
            if kind is not int and kind is not slice:
                index = _numpy_index(index)
            if index is not _NOT_KNOWN:
                try:
                    out = value[index]
                except (IndexError, TypeError) as e:
                    raise _explained(e) from None
                result = _new(type(x))
                result._held = out if type(out) is np.ndarray else np.asarray(out)
                result._tag = tag
                return result
    return wrap(_read(x._v, logical_entries(x, index)), x._tag)


_NOT_KNOWN = object()


def _numpy_index(index: Any) -> Any:
    """The index in NumPy's terms, or `_NOT_KNOWN` if a part of it is not on the host."""
    items = []
    for item in index if type(index) is tuple else (index,):
        if isinstance(item, Handle) and type(item._tag) is not KeyTag:
            item = known(item._v)
            if item is None:
                return _NOT_KNOWN
        elif not isinstance(item, int | slice | np.ndarray) and item is not None and item is not Ellipsis:
            item = _item(item)
        items.append(item)
    return tuple(items)


def _explained(error: Exception) -> IndexError:
    text = str(error)
    if "only integers, slices" in text or "arrays used as indices" in text:
        text += "\nWrite instead: x[i.astype(int)] for an array of numbers, x[int(i)] for one"
    elif "boolean index did not match" in text:
        text += "\nWrite instead: a mask of the array's own shape, such as x > 0"
    return IndexError(f"{text}, at {source.where(source.user_source())}")


def logical_entries(x: Handle, index: Any) -> list[Any]:
    """The entries of an index of a handle, with one for the words of random keys."""
    items = entries(index, logical_shape(x))
    return [*items, _EVERYTHING] if type(x._tag) is KeyTag else items


def _scalar_masks(value: Any, items: list[Any]) -> tuple[Any, list[Any]]:
    """`x[True]` and `x[False]`: a new axis, indexed by one place or by none."""
    if not any([isinstance(i, np.ndarray) and i.ndim == 0 and i.dtype == bool_ for i in items]):
        return value, items
    shape, out, axis = list(value.shape), [], 0
    for item in items:
        if isinstance(item, np.ndarray) and item.ndim == 0 and item.dtype == bool_:
            shape.insert(axis, 1)
            item = np.zeros(int(item), int32)
        axis += _consumed(item)
        out.append(item)
    return ops.reshape(value, shape=tuple(shape)), out


def _empty_axis(plan: Plan) -> bool:
    """Whether an indexed axis has size 0, so that only an empty index fits it."""
    empty = [a for a in plan.axes if plan.shape[a] == 0]
    if empty and 0 not in plan.batch:
        raise _out_of_bounds(0, empty[0], 0)
    return bool(empty)


def _read(
    value: Any,
    items: list[Any],
    mode: str | None = None,
    fill_value: Any = None,
    wrap_negative: bool = True,
    **promises: bool,
) -> Any:
    value, items = _scalar_masks(value, items)
    plan = Plan(tuple(value.shape), items, check=mode is None)
    out = plan.cut(value)
    if not plan.axes:
        pass
    elif _empty_axis(plan):
        out = ops.full(plan.out, 0, value.dtype)
    elif plan.batch == () and mode != "fill":
        out = ops.dynamic_slice(out, *_all_starts(plan, wrap_negative), sizes=plan.window()[0])
    else:
        sizes, offsets = plan.window()
        dims = GatherDims(offsets, tuple(plan.axes), tuple(plan.axes))
        out = ops.gather(
            out, plan.vectors(wrap_negative), dims=dims, sizes=sizes, mode=mode or "clip", fill_value=fill_value, **promises
        )
    return out if out.shape == plan.out else ops.reshape(out, shape=plan.out)


def _all_starts(plan: Plan, wrap_negative: bool) -> list[Any]:
    """The start of a dynamic slice along every axis."""
    starts = [np.zeros((), int32)] * len(plan.shape)
    for axis, start in zip(plan.axes, plan.starts(wrap_negative), strict=True):
        starts[axis] = start
    return starts


def _key_item(x: Handle, index: Any) -> Any:
    """Keys out of an array of keys; the same static index gives the same handle, so that reuse is seen."""
    items = logical_entries(x, index)
    name = _static_name(items)
    found = x._tag.children.get(name)
    if found is not None:
        return found
    value = known(x._v)
    if value is not None and not any([isinstance(i, Tracer) for i in items]):
        child = wrap(value[tuple(items)], x._tag.fresh())
    else:
        child = wrap(_read(x._v, items), x._tag.fresh())
    stays = not isinstance(child._v, Tracer) or (isinstance(x._v, Tracer) and child._v.interp is x._v.interp)
    if name is not None and stays:
        x._tag.children[name] = child
    return child


def _static_name(items: list[Any]) -> Any:
    """A hashable form of an index without arrays."""
    if any([isinstance(i, np.ndarray | Tracer) for i in items]):
        return None
    return tuple([(i.start, i.stop, i.step) if type(i) is slice else i for i in items])


# -- writing -------------------------------------------------------------------------------------

_COMBINE: dict[str, Callable[[Any, Any], Any]] = {
    "set": lambda x, v: v,
    "add": lambda x, v: ops.or_(x, v) if x.dtype == bool_ else ops.add(x, v),
    "multiply": lambda x, v: ops.and_(x, v) if x.dtype == bool_ else ops.mul(x, v),
    "min": ops.min,
    "max": ops.max,
}
_SCATTER = {
    "set": ops.scatter,
    "add": ops.scatter_add,
    "multiply": ops.scatter_mul,
    "min": ops.scatter_min,
    "max": ops.scatter_max,
}
_UFUNC = {"add": np.add, "multiply": np.multiply, "min": np.minimum, "max": np.maximum}
_RANK = "biufc"


def _update_values(x: Handle, values: Any, method: str) -> Any:
    """The values of an update at the dtype of the array.

    Raises:
        TypeError: they would lose their fraction or imaginary part.
    """
    is_key = type(x._tag) is KeyTag
    handle = values if isinstance(values, Handle) else None
    if handle is None and (is_key or type(values) not in SCALARS):
        handle = enter(values)
    if is_key or (handle is not None and type(handle._tag) is KeyTag):
        if not is_key or handle is None or type(handle._tag) is not KeyTag or method != "set":
            raise TypeError(
                f"x.at[...].{method}: random keys can only be set into an array of keys, and it takes only keys.\n"
                "Write instead: keys.at[i].set(key)."
            )
        return handle._v
    dtype = np.dtype(x._v.dtype)
    found = np.dtype(handle._v.dtype) if handle is not None else dtypes.as_dtype(type(values))
    if _RANK.index(dtypes.kind(found)) > max(_RANK.index(dtypes.kind(dtype)), _RANK.index("u")):
        raise TypeError(
            f"x.at[...].{method}: {found.name} values do not fit into a {dtype.name} array, at "
            f"{source.where(source.user_source())}.\n"
            f"Why: the result has the array's dtype, and nothing is cut silently.\n"
            f"Write instead: x.astype(bnp.{found.name}).at[...].{method}(v), or v.astype(bnp.{dtype.name})."
        )
    return value_at(handle if handle is not None else values, dtype)


def _fit(values: Any, shape: Shape, method: str) -> Any:
    try:
        return broadcast_value(values, shape) if np.broadcast_shapes(values.shape, shape) == shape else None
    except ValueError:
        return None


def _fitted(values: Any, shape: Shape, method: str) -> Any:
    """The values broadcast to the shape of the indexed part; leading axes of size 1 may be too many."""
    while len(values.shape) > len(shape) and values.shape[0] == 1:
        values = ops.reshape(values, shape=tuple(values.shape[1:]))
    fitted = _fit(values, shape, method)
    if fitted is None:
        raise ShapeError(
            f"x.at[...].{method}: values of shape {tuple(values.shape)} do not broadcast to {shape}, the shape of "
            f"x[...], at {source.where(source.user_source())}"
        )
    return fitted


def _numpy_update(x: Handle, index: Any, values: Any, method: str) -> Any:
    """The update done by NumPy, or None where it cannot be."""
    value, values = known(x._v), known(values)
    if value is None or values is None or type(x._tag) is KeyTag:
        return None
    index = _numpy_index(index)
    if index is _NOT_KNOWN:
        return None
    basic = not any([isinstance(i, np.ndarray) for i in index])
    out = value.copy()
    try:
        part = out[index]
        values = _fitted(values, part.shape, method)
        if method == "set":
            out[index] = values
        elif basic:
            out[index] = quietly(_UFUNC[method], part, values)
        else:
            quietly(_UFUNC[method].at, out, index, values)
    except IndexError as e:
        raise _explained(e) from None
    return out


def _masked_update(value: Any, items: list[Any], values: Any, method: str) -> Any:
    """An update by one number under a traced mask, which keeps the shape; None where it is something else."""
    masks = [i for i in items if isinstance(i, Tracer) and i.dtype == bool_]
    others = [i for i in items if i is not _EVERYTHING and i != _EVERYTHING] if len(masks) == 1 else []
    if len(masks) != 1 or len(others) != 1 or tuple(values.shape) != ():
        return None
    mask, first = masks[0], items.index(masks[0])
    shape = tuple(value.shape)
    if tuple(mask.shape) != shape[first : first + mask.ndim]:
        return None
    mask = ops.broadcast_in_dim(mask, shape=shape, dims=tuple(range(first, first + mask.ndim)))
    return ops.select(mask, _COMBINE[method](value, broadcast_value(values, shape)), value)


def _updated(
    value: Any, items: list[Any], values: Any, method: str, mode: str | None, wrap_negative: bool, **promises: bool
) -> Any:
    """The value with an indexed part combined with `values`."""
    masked = _masked_update(value, items, values, method)
    if masked is not None:
        return masked
    shape = tuple(value.shape)
    value, items = _scalar_masks(value, items)
    plan = Plan(tuple(value.shape), items, check=mode is None)
    values = ops.reshape(_fitted(values, plan.out, method), shape=plan.plain)
    block = plan.cut(value)
    if not plan.axes:
        block = _COMBINE[method](block, ops.reshape(values, shape=plan.sliced))
    elif _empty_axis(plan):
        pass
    elif plan.batch == ():
        block = _updated_window(plan, block, values, method, mode, wrap_negative)
    else:
        dims = ScatterDims(plan.window()[1], tuple(plan.axes), tuple(plan.axes))
        block = _SCATTER[method](
            block, plan.vectors(wrap_negative), values, dims=dims, mode=mode or "fill", **promises
        )
    out = plan.paste(value, block)
    return out if out.shape == shape else ops.reshape(out, shape=shape)


def _updated_window(plan: Plan, block: Any, values: Any, method: str, mode: str | None, wrap_negative: bool) -> Any:
    """One window at a traced place: read, combine, write back; out of bounds, what was read."""
    sizes, starts = plan.window()[0], _all_starts(plan, wrap_negative)
    values = ops.reshape(values, shape=sizes)
    if method != "set" or mode in (None, "fill"):
        old = ops.dynamic_slice(block, *starts, sizes=sizes)
        values = _COMBINE[method](old, values)
        if mode in (None, "fill"):
            inside = [
                test
                for a in plan.axes
                for test in (
                    ops.ge(starts[a], ops.full_like(starts[a], 0)),
                    ops.lt(starts[a], ops.full_like(starts[a], plan.sliced[a])),
                )
            ]
            inside = functools.reduce(ops.and_, inside)
            values = ops.select(ops.broadcast_in_dim(inside, shape=sizes, dims=()), values, old)
    return ops.dynamic_update_slice(block, values, *starts)


class At:
    """`x.at`: wants an index."""

    __slots__ = ("_x",)

    def __init__(self, x: Handle):
        self._x = x

    def __getitem__(self, index: Any) -> AtIndex:
        return AtIndex(self._x, index)

    def __repr__(self) -> str:
        return f"At({self._x!r})"


class AtIndex:
    """`x.at[index]`: copies of `x` with the indexed part changed. The array itself is never changed.

    `values` broadcast to the shape of `x[index]` and take the dtype of `x`. Where an index occurs more than
    once, `add`, `multiply`, `min` and `max` use every value; `set` uses one of them.

    `mode` says what happens out of bounds: "drop" (or "fill") leaves such updates out, "clip" moves the index
    to the edge, "promise_in_bounds" promises that there are none. By default an index that is known when
    the program is written raises IndexError, and a traced one is dropped. `unique_indices` and
    `indices_are_sorted` are promises that can make it quicker.
    """

    __slots__ = ("_index", "_x")

    def __init__(self, x: Handle, index: Any):
        self._x = x
        self._index = index

    def __repr__(self) -> str:
        return f"{self._x!r}.at[{self._index!r}]"

    def _update(
        self,
        method: str,
        values: Any,
        *,
        indices_are_sorted: bool = False,
        unique_indices: bool = False,
        mode: str | None = None,
        wrap_negative_indices: bool = True,
    ) -> Any:
        x, mode = self._x, mode_of(mode)
        values = _update_values(x, values, method)
        if mode is None and state.current is EAGER:
            out = _numpy_update(x, self._index, values, method)
            if out is not None:
                return wrap(out)
        items = logical_entries(x, self._index)
        promises = dict(indices_are_sorted=indices_are_sorted, unique_indices=unique_indices)
        out = _updated(x._v, items, values, method, mode, wrap_negative_indices, **promises)
        return wrap(out, x._tag.fresh() if type(x._tag) is KeyTag else None)

    def set(self, values: Any, **options: Any) -> Any:
        """`x` with `x[index] = values`.

        >>> bnp.zeros(3).at[1].set(2.0)
        Array([0., 2., 0.], dtype=float32)
        """
        return self._update("set", values, **options)

    def add(self, values: Any, **options: Any) -> Any:
        """`x` with `x[index] += values`.

        >>> bnp.zeros(3).at[bnp.array([1, 1])].add(2.0)
        Array([0., 4., 0.], dtype=float32)
        """
        return self._update("add", values, **options)

    def subtract(self, values: Any, **options: Any) -> Any:
        """`x` with `x[index] -= values`.

        >>> bnp.zeros(3).at[:2].subtract(2.0)
        Array([-2., -2.,  0.], dtype=float32)
        """
        values = _update_values(self._x, values, "subtract")
        return self._update("add", wrap(ops.neg(values)), **options)

    def multiply(self, values: Any, **options: Any) -> Any:
        """`x` with `x[index] *= values`.

        >>> bnp.ones(3).at[-1].multiply(5.0)
        Array([1., 1., 5.], dtype=float32)
        """
        return self._update("multiply", values, **options)

    mul = multiply

    def _factors(self, method: str, values: Any, options: dict[str, Any]) -> Any:
        """For each element of `x`, the product of the values that are meant for it."""
        if not dtypes.is_inexact(np.dtype(self._x._v.dtype)):
            raise TypeError(
                f"x.at[...].{method}: {self._x._v.dtype} results would not be integers.\n"
                f"Write instead: x.astype(float).at[...].{method}(v)."
            )
        ones = wrap(ops.full_like(self._x._v, 1))
        return AtIndex(ones, self._index)._update("multiply", values, **options)._v

    def divide(self, values: Any, **options: Any) -> Any:
        """`x` with `x[index] /= values`; for floating arrays.

        >>> bnp.ones(3).at[0].divide(4.0)
        Array([0.25, 1.  , 1.  ], dtype=float32)
        """
        return wrap(ops.div(self._x._v, self._factors("divide", values, options)))

    def power(self, values: Any, **options: Any) -> Any:
        """`x` with `x[index] **= values`; for floating arrays.

        >>> bnp.full(3, 2.0).at[0].power(3.0)
        Array([8., 2., 2.], dtype=float32)
        """
        return wrap(ops.pow(self._x._v, self._factors("power", values, options)))

    def min(self, values: Any, **options: Any) -> Any:
        """`x` with `x[index] = minimum(x[index], values)`.

        >>> bnp.arange(3).at[1:].min(1)
        Array([0, 1, 1], dtype=int32)
        """
        return self._update("min", values, **options)

    def max(self, values: Any, **options: Any) -> Any:
        """`x` with `x[index] = maximum(x[index], values)`.

        >>> bnp.arange(3).at[:2].max(1)
        Array([1, 1, 2], dtype=int32)
        """
        return self._update("max", values, **options)

    def apply(self, func: Callable[[Any], Any], **options: Any) -> Any:
        """`x` with `x[index] = func(x[index])`; once per element, however often its index occurs.

        >>> bnp.arange(3.0).at[1:].apply(bnp.exp2)
        Array([0., 2., 4.], dtype=float32)
        """
        mode = "clip" if options.get("mode") is not None else None
        return self._update("set", func(self.get(mode=mode)), **options)

    def get(
        self,
        *,
        indices_are_sorted: bool = False,
        unique_indices: bool = False,
        mode: str | None = None,
        fill_value: Any = None,
        wrap_negative_indices: bool = True,
    ) -> Any:
        """`x[index]`, with a choice of what is read out of bounds.

        `mode="fill"` (or "drop") gives `fill_value`: by default NaN, for integers the lowest value, for unsigned
        ones the highest, for bools True. "clip" moves the index to the edge.

        >>> bnp.arange(3.0).at[5].get(mode="fill", fill_value=-1.0)
        Array(-1., dtype=float32)
        """
        x, mode = self._x, mode_of(mode if fill_value is None else mode or "fill")
        if mode is None and wrap_negative_indices:
            return getitem(x, self._index)
        fill = None if fill_value is None else np.asarray(fill_value).item()
        out = _read(
            x._v,
            logical_entries(x, self._index),
            mode,
            fill,
            wrap_negative_indices,
            indices_are_sorted=indices_are_sorted,
            unique_indices=unique_indices,
        )
        return wrap(out, fresh_tag(x._tag))
