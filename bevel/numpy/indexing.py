"""`x[...]` and `x.at[...]`, with NumPy's meaning of every index.

Eagerly, on data and indices that NumPy holds, NumPy itself does the work. In a program an index
becomes at most one static slice, then one gather or dynamic slice: a `Plan` says which. An index
known when the program is written is checked then; a traced one out of bounds is clamped when
reading and dropped when writing, unless `mode=` says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

import bevel.ops as ops
from bevel.core import dtypes, source
from bevel.core.dtypes import bool_, int32
from bevel.core.handle import Handle, KeyTag, fresh_tag, wrap
from bevel.core.interpreter import EAGER, Tracer, state
from bevel.core.misfit import mend_broadcast_to, misfit
from bevel.numpy.arguments import known
from bevel.numpy.convert import SCALARS, broadcast_value, enter, quietly, value_at
from bevel.numpy.plan import (
    EVERYTHING,
    Plan,
    axes_taken,
    check_masks,
    entries,
    index_item,
    out_of_bounds,
)
from bevel.ops import GatherDims, ScatterDims
from bevel.ops.indexing import CLIP, FILL

Shape = tuple[int, ...]
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


# -- reading ---------------------------------------------------------------------------------------


def getitem(x: Handle, index: Any) -> Any:
    """`x[index]`."""
    tag = x._tag
    if type(tag) is KeyTag:
        return _key_item(x, index)
    if state.current is EAGER:
        value = x._v if type(x._v) is np.ndarray else known(x._v)
        if value is not None:
            kind, place = type(index), index
            if kind is not int and kind is not slice:
                place = _numpy_index(index)
            if place is not _NOT_KNOWN:
                try:
                    out = value[place]
                except (IndexError, TypeError) as e:
                    raise _explained(e, x, index) from None
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
        elif (
            not isinstance(item, int | slice | np.ndarray)
            and item is not None
            and item is not Ellipsis
        ):
            item = index_item(item)
        items.append(item)
    return tuple(items)


def _explained(error: Exception, x: Handle, index: Any) -> IndexError:
    text = str(error)
    outside = re.match(r"index (-?\d+) is out of bounds for axis (\d+) with size (\d+)", text)
    if outside:
        return out_of_bounds(*map(int, outside.groups()))
    if "only integers, slices" in text or "arrays used as indices" in text:
        text += "\nWrite instead: x[i.astype(int)] for an array of numbers, x[int(i)] for one"
    else:
        logical_entries(x, index)  # says more about shapes that do not fit
    return IndexError(f"{text}, at {source.where(source.user_source())}")


def logical_entries(x: Handle, index: Any) -> list[Any]:
    """The entries of an index of a handle, with one for the words of random keys."""
    items = entries(index, x)
    check_masks(x, index, items)
    return [*items, EVERYTHING] if type(x._tag) is KeyTag else items


def _scalar_masks(value: Any, items: list[Any]) -> tuple[Any, list[Any]]:
    """`x[True]` and `x[False]`: a new axis, indexed by one place or by none."""
    if not any([isinstance(i, np.ndarray) and i.ndim == 0 and i.dtype == bool_ for i in items]):
        return value, items
    shape, out, axis = list(value.shape), [], 0
    for item in items:
        if isinstance(item, np.ndarray) and item.ndim == 0 and item.dtype == bool_:
            shape.insert(axis, 1)
            item = np.zeros(int(item), int32)
        axis += axes_taken(item)
        out.append(item)
    return ops.reshape(value, shape=tuple(shape)), out


def _empty_axis(plan: Plan) -> bool:
    """Whether an indexed axis has size 0, so that only an empty index fits it."""
    empty = [a for a in plan.axes if plan.shape[a] == 0]
    if empty and 0 not in plan.batch:
        raise out_of_bounds(0, empty[0], 0)
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
    elif plan.batch == () and mode in (None, "promise_in_bounds"):
        out = ops.dynamic_slice(out, *_all_starts(plan, wrap_negative), sizes=plan.window()[0])
    else:
        sizes, offsets = plan.window()
        dims = GatherDims(offsets, tuple(plan.axes), tuple(plan.axes))
        out = ops.gather(
            out,
            plan.vectors(wrap_negative),
            dims=dims,
            sizes=sizes,
            mode=mode or CLIP,
            fill_value=fill_value,
            **promises,
        )
    return out if out.shape == plan.out else ops.reshape(out, shape=plan.out)


def _all_starts(plan: Plan, wrap_negative: bool) -> list[Any]:
    """The start of a dynamic slice along every axis."""
    starts = [np.zeros((), int32)] * len(plan.shape)
    for axis, start in zip(plan.axes, plan.starts(wrap_negative), strict=True):
        starts[axis] = start
    return starts


def _key_item(x: Handle, index: Any) -> Any:
    """Keys out of an array of keys; the same static index gives the same handle, so that reuse is
    seen.
    """
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
    stays = not isinstance(child._v, Tracer) or (
        isinstance(x._v, Tracer) and child._v.interp is x._v.interp
    )
    if name is not None and stays:
        x._tag.children[name] = child
    return child


def _static_name(items: list[Any]) -> Any:
    """A hashable form of an index without arrays."""
    if any([isinstance(i, np.ndarray | Tracer) for i in items]):
        return None
    return tuple([(i.start, i.stop, i.step) if type(i) is slice else i for i in items])


# -- writing ---------------------------------------------------------------------------------------

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
                f"x.at[...].{method}: random keys can only be set into an array of keys, and it "
                "takes only keys.\n"
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
            f"Write instead: x.astype(bnp.{found.name}).at[...].{method}(v), or "
            f"v.astype(bnp.{dtype.name})."
        )
    return value_at(handle if handle is not None else values, dtype)


def _fit(values: Any, shape: Shape, method: str) -> Any:
    try:
        return (
            broadcast_value(values, shape)
            if np.broadcast_shapes(values.shape, shape) == shape
            else None
        )
    except ValueError:
        return None


def _fitted(values: Any, shape: Shape, method: str) -> Any:
    """The values broadcast to the shape of the indexed part; leading axes of size 1 may be too
    many.
    """
    while len(values.shape) > len(shape) and values.shape[0] == 1:
        values = ops.reshape(values, shape=tuple(values.shape[1:]))
    fitted = _fit(values, shape, method)
    if fitted is None:
        raise misfit(
            f"x.at[...].{method}",
            [values],
            f"from the right, axes must be 1 or those of {shape}, the shape of what is indexed",
            mend_broadcast_to(tuple(values.shape), shape),
            "values of the shape of what is indexed, or that broadcast to it",
            words=["the array of values"],
        )
    return fitted


def _numpy_update(x: Handle, index: Any, values: Any, method: str) -> Any:
    """The update done by NumPy, or None where it cannot be."""
    value, values = known(x._v), known(values)
    if value is None or values is None or type(x._tag) is KeyTag:
        return None
    place = _numpy_index(index)
    if place is _NOT_KNOWN:
        return None
    basic = not any([isinstance(i, np.ndarray) for i in place])
    out = value.copy()
    try:
        part = out[place]
        values = _fitted(values, part.shape, method)
        if method == "set":
            out[place] = values
        elif basic:
            out[place] = quietly(_UFUNC[method], part, values)
        else:
            quietly(_UFUNC[method].at, out, place, values)
    except IndexError as e:
        raise _explained(e, x, index) from None
    return out


def _masked_update(value: Any, items: list[Any], values: Any, method: str) -> Any:
    """An update by one number under a traced mask; None where it is something else."""
    masks = [i for i in items if isinstance(i, Tracer) and i.dtype == bool_]
    if len(masks) != 1 or tuple(values.shape) != ():
        return None
    mask = masks[0]
    at = [item is mask for item in items].index(True)
    for i in items:
        if not (i is mask or i is Ellipsis or (type(i) is slice and i == EVERYTHING)):
            return None
    first = sum([axes_taken(i) for i in items[:at]])
    shape = tuple(value.shape)
    if tuple(mask.shape) != shape[first : first + mask.ndim]:
        return None
    mask = ops.broadcast_in_dim(mask, shape=shape, dims=tuple(range(first, first + mask.ndim)))
    return ops.select(mask, _COMBINE[method](value, broadcast_value(values, shape)), value)


def _updated(
    value: Any,
    items: list[Any],
    values: Any,
    method: str,
    mode: str | None,
    wrap_negative: bool,
    **promises: bool,
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
    else:
        dims = ScatterDims(plan.window()[1], tuple(plan.axes), tuple(plan.axes))
        block = _SCATTER[method](
            block, plan.vectors(wrap_negative), values, dims=dims, mode=mode or FILL, **promises
        )
    out = plan.paste(value, block)
    return out if out.shape == shape else ops.reshape(out, shape=shape)


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
    """`x.at[index]`: copies of `x` with the indexed part changed. The array itself is never
    changed.

    `values` broadcast to the shape of `x[index]` and take the dtype of `x`. Where an index occurs
    more than once, `add`, `multiply`, `min` and `max` use every value; `set` uses one of them.

    `mode` says what happens out of bounds: "drop" (or "fill") leaves such updates out, "clip" moves
    the index to the edge, "promise_in_bounds" promises that there are none. By default an index
    that is known when the program is written raises IndexError, and a traced one is dropped.
    `unique_indices` and `indices_are_sorted` are promises that can make it quicker.
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

        `mode="fill"` (or "drop") gives `fill_value`: by default NaN, for integers the lowest value,
        for unsigned ones the highest, for bools True. "clip" moves the index to the edge.

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
