"""`vmap` over pytrees and modules."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from bevel.api.flat import (
    Output,
    argument_name,
    as_handle,
    axes_of,
    cells_of,
    described,
    is_stateful,
    name_of,
)
from bevel.api.naming import cell_name
from bevel.core import tree
from bevel.core.aval import aval_of
from bevel.core.errors import StateError
from bevel.core.handle import Handle, KeyTag, fresh_tag, logical_shape, wrap
from bevel.core.interpreter import state
from bevel.core.ref import Cell, Scope, write_back
from bevel.core.source import user_source, where
from bevel.ops import transpose
from bevel.random.keys import Consumed, consume, was_consumed
from bevel.transforms.vmap import Axis, Batch, BatchTracer, with_batch_axis


def _is_axis(x: Any) -> bool:
    return x is None or isinstance(x, int | np.integer) or hasattr(x, "__bevel_axes__")


def prefix_leaves(prefix: Any, full: Any, what: str) -> list[Any]:
    """The axis for each leaf of `full`, from a tree of axes that is a prefix of its structure.

    Raises:
        ValueError: it is no prefix.
    """
    if _is_axis(prefix):
        return [prefix] * len(tree.leaves(full))
    if isinstance(prefix, list) and isinstance(full, tuple):
        prefix = tuple(prefix)
    leaves, treedef = tree.flatten(prefix, is_leaf=_is_axis)
    try:
        subtrees = treedef.flatten_up_to(full)
    except ValueError as e:
        raise ValueError(
            f"{what} {prefix!r} does not fit the structure it stands for: {e}.\n"
            "Write instead: one int or None for everything, or a tuple with an entry per argument."
        ) from None
    for axis in leaves:
        if not _is_axis(axis):
            raise TypeError(f"{what}: an axis is an int or None, not {axis!r}")
    return [a for a, sub in zip(leaves, subtrees, strict=True) for _ in tree.leaves(sub)]


def move_axis(value: Any, source: int, target: int) -> Any:
    """A value with one axis moved."""
    n = len(value.shape)
    if source == target:
        return value
    rest = [i for i in range(n) if i != source]
    rest.insert(target, source)
    return transpose(value, permutation=tuple(rest))


def _normalize(axis: int, ndim: int, what: str, shape: Any, fix: str) -> int:
    if not -ndim <= axis < ndim:
        raise ValueError(
            f"vmap: axis {axis} is out of range for {what} of shape {shape}, which has {ndim} "
            "axes.\n"
            f"Write instead: {fix}."
        )
    return axis % ndim


class _Mapped:
    """The arguments of one vmapped call: values with the mapped axis in front, and cells with
    theirs.
    """

    def __init__(self, fun: Callable[..., Any], args: tuple, kwargs: dict, in_axes: Any):
        self.leaves, self.treedef = tree.flatten((args, kwargs))
        axes = [*prefix_leaves(in_axes, args, "vmap: in_axes"), *[0] * len(tree.leaves(kwargs))]
        self.values: list[Any] = []
        self.batched: list[bool] = []
        self.tags: list[Any] = []
        self.cells: dict[Cell, int | None] = {}
        self.sizes: dict[str, int] = {}
        names = [argument_name(fun, i) for i, a in enumerate(args) for _ in tree.leaves(a)]
        names += [f"keyword argument {k}" for k in sorted(kwargs) for _ in tree.leaves(kwargs[k])]
        for i, (leaf, axis, name) in enumerate(zip(self.leaves, axes, names, strict=True)):
            inside = None if isinstance(leaf, Handle) else cells_of(leaf)
            if inside is None:
                handle = as_handle(leaf, f"vmap of {name_of(fun)}: {name}")
                self.leaves[i] = handle
                self.add(handle, axis, name)
            else:
                self.cells.update(axes_of(leaf, axis, f"vmap: in_axes of {name}"))

    def add(self, handle: Handle, axis: Any, name: str) -> None:
        if not (axis is None or isinstance(axis, int | np.integer)):
            axes_of(handle, axis, f"vmap: in_axes of {name}")
        value, _ = self.front(handle, axis, name)
        self.values.append(value)
        self.batched.append(axis is not None)
        self.tags.append(handle._tag)

    def front(self, handle: Handle, axis: int | None, name: str) -> tuple[Any, bool]:
        """The value with its mapped axis in front."""
        if axis is None:
            return handle._v, False
        shape = logical_shape(handle)
        axis = _normalize(
            axis, len(shape), name, shape, "another axis, or in_axes=None to pass it whole"
        )
        self.sizes[f"{name} of shape {shape}, axis {axis}"] = shape[axis]
        return move_axis(handle._v, axis, 0), True

    def axis_size(self, axis_size: int | None, what: str) -> int:
        """The common size of the mapped axes."""
        if axis_size is not None and axis_size < 0:
            raise ValueError(f"{what}: axis_size must not be negative, got {axis_size}")
        sizes = set(self.sizes.values()) | ({axis_size} if axis_size is not None else set())
        if not sizes:
            raise ValueError(
                f"{what}: nothing is mapped: every in_axes is None and no axis_size is given.\n"
                "Write instead: in_axes=0 for the arguments to map over, or axis_size=n."
            )
        if len(sizes) > 1:
            listed = "\n".join(f"  {name}: {size}" for name, size in self.sizes.items())
            given = f"\n  axis_size: {axis_size}" if axis_size is not None else ""
            raise ValueError(
                f"{what}: the mapped axes have different sizes:\n{listed}{given}\n"
                "Write instead: arrays of one length, or in_axes=None for those to pass whole "
                "(in_axes=(None, 0) for a model and a batch)."
            )
        return sizes.pop()


class Mapping(NamedTuple):
    """What `vmap` was told; its result has it as `__bevel_mapping__`."""

    in_axes: Any
    out_axes: Any
    axis_name: Any


def vmap(
    fun: Callable[..., Any] | None = None,
    in_axes: Any = 0,
    out_axes: Any = 0,
    axis_name: Any = None,
    axis_size: int | None = None,
    spmd_axis_name: Any = None,
) -> Callable[..., Any]:
    """Map a function over axes of its arguments: one program for the whole batch, no Python loop.

    Args:
        fun: over pytrees of arrays, and modules.
        in_axes: the axis of each positional argument that is mapped (int), or None to pass it
            whole; one int for all, or a tuple, whose entries may be pytrees of axes. Keyword
            arguments are mapped over axis 0. For a module it says whether its variables carry the
            axis; `nn.StateAxes` says so for each kind of them.
        out_axes: where the axis goes in the results; None for results that are the same for all
            rows. A module that `fun` makes and returns gets the axis in its variables.
        axis_name: the name by which collectives (`lax.psum`, ...) know the axis.
        axis_size: its size, needed only when nothing is mapped.
        spmd_axis_name: the mesh axis the mapped axis is spread over (used when sharding).

    Raises:
        ValueError: sizes differ, or `in_axes` does not fit; the message lists the arguments.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> bv.vmap(lambda x, y: x + y, in_axes=(0, None))(bnp.arange(3), 10)
    Array([10, 11, 12], dtype=int32)
    """
    if fun is None:
        return functools.partial(
            vmap,
            in_axes=in_axes,
            out_axes=out_axes,
            axis_name=axis_name,
            axis_size=axis_size,
            spmd_axis_name=spmd_axis_name,
        )
    if isinstance(in_axes, list):
        in_axes = tuple(in_axes)
    what = described("vmap", fun)

    @functools.wraps(fun)
    def mapped(*args: Any, **kwargs: Any) -> Any:
        if isinstance(in_axes, tuple) and len(in_axes) != len(args):
            raise ValueError(
                f"{what}: in_axes has {len(in_axes)} entries for {len(args)} positional "
                "arguments.\n"
                "Write instead: one entry for each, an int or None, or one int for all of them."
            )
        call = _Mapped(fun, args, kwargs, in_axes)
        contents = {}
        for cell, axis in call.cells.items():
            content = cell._read()
            if axis is not None and isinstance(content, Handle):
                name = f"the {cell_name(cell, fun, args)}"
                contents[cell] = call.front(content, axis, name)[0]
        axis = Axis(call.axis_size(axis_size, what), axis_name)
        return _run(fun, call, contents, axis, out_axes, what)

    vars(mapped)["__bevel_mapping__"] = Mapping(in_axes, out_axes, axis_name)
    return mapped


def _run(
    fun, call: _Mapped, contents: dict[Cell, Any], axis: Axis, out_axes: Any, what: str
) -> Any:
    interp = Batch(state.current, axis, what)

    def lift(cell: Cell, content: Any) -> Any:
        if cell not in contents:
            return content
        return wrap(BatchTracer(interp, contents[cell]), fresh_tag(content._tag))

    output = Output()
    with Consumed() as consumed, interp, Scope(what, lift) as scope:
        inner = [
            wrap(BatchTracer(interp, v) if b else v, fresh_tag(t))
            for v, b, t in zip(call.values, call.batched, call.tags, strict=True)
        ]
        values = iter(inner)
        leaves = [next(values) if isinstance(leaf, Handle) else leaf for leaf in call.leaves]
        args, kwargs = tree.unflatten(call.treedef, leaves)
        result = fun(*args, **kwargs)
        flat = output.flatten(result, what, passed=is_stateful)
        axes = prefix_leaves(out_axes, result, "vmap: out_axes")
        made = {
            cell: a
            for i, module in output.others.items()
            for cell, a in axes_of(module, axes[i], "vmap: out_axes").items()
            if cell not in scope.cells
        }
    whole = [h._tag for h, b in zip(inner, call.batched, strict=True) if not b]
    consumed.keep(every_row_of=what if axis > 1 else "", shared=whole)
    given = [leaf for leaf in call.leaves if isinstance(leaf, Handle)]
    for outer, h in zip(given, inner, strict=True):
        if was_consumed(h):
            consume(what, outer)
    axes = [a for i, a in enumerate(axes) if i not in output.others]
    pairs = [interp.split(v) for v in flat]
    outs = [
        _place(v, b, a, t, axis, what)
        for (v, b), a, t in zip(pairs, axes, output.tags, strict=True)
    ]
    for cell, a in made.items():
        if isinstance(cell._content, Handle):
            tag = cell._content._tag
            placed = _place(*interp.split(cell._content._v), a, tag, axis, what)
            Cell.__init__(cell, wrap(placed, fresh_tag(tag)))

    def name(cell: Cell) -> str:
        return cell_name(cell, fun, tree.unflatten(call.treedef, call.leaves)[0])

    new = {
        c: _written(interp, c, h, call.cells.get(c), axis, what, name)
        for c, h in scope.changed().items()
    }
    write_back(new)
    return output.unflatten(outs)


def _place(value: Any, batched: bool, axis: int | None, tag: Any, size: Axis, what: str) -> Any:
    if axis is None:
        if batched:
            raise ValueError(
                f"{what}: a result with out_axes=None differs from row to row.\n"
                "Write instead: out_axes=0, or reduce it over the rows (lax.pmean with axis_name)."
            )
        return value
    if not batched:
        value = with_batch_axis(value, size)
    ndim = len(value.shape) - (type(tag) is KeyTag)
    row = tuple(value.shape[1:ndim])
    fix = f"out_axes between {-ndim} and {ndim - 1}"
    return move_axis(
        value,
        0,
        _normalize(
            axis, ndim, f"a result with rows of shape {row}", tuple(value.shape[:ndim]), fix
        ),
    )


def _written(
    interp: Batch,
    cell: Cell,
    content: Any,
    axis: int | None,
    size: Axis,
    what: str,
    name: Callable[[Cell], str],
) -> Any:
    handle = as_handle(content, "the content of a cell")
    value, batched = interp.split(handle._v)
    if axis is not None:
        return wrap(_place(value, batched, axis, handle._tag, size, what), fresh_tag(handle._tag))
    if batched:
        raise StateError(
            f"{what}: the function wrote a value that differs from row to row ({aval_of(value)} "
            f"in all) into the {name(cell)}, which all rows share, at {where(user_source())}.\n"
            "Write instead: reduce it over the rows first (lax.pmean(x, axis_name)), return it "
            "from the function, "
            "or pass the module with in_axes=0 so that every row has its own variables."
        )
    return wrap(value, fresh_tag(handle._tag))
