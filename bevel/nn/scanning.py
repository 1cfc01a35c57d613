"""`scan` for functions of modules: each step sees its own slice of their variables."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping
from typing import Any

import bevel.numpy as bnp
from bevel import lax
from bevel.api.flat import axes_of, described, is_stateful
from bevel.core import tree
from bevel.core.handle import Handle
from bevel.core.ref import Cell, Scope, write_back
from bevel.nn import captures
from bevel.nn.axes import Carry
from bevel.numpy.convert import enter


def _is_axis(x: Any) -> bool:
    return x is None or x is Carry or isinstance(x, int) or hasattr(x, "__bevel_axes__")


def _prefix(what: str, axes: Any, value: Any) -> list[tuple[Any, Any]]:
    """Pairs of a leaf of the value and its axis."""
    leaves, treedef = tree.flatten(axes, is_leaf=_is_axis)
    try:
        parts = treedef.flatten_up_to(value)
    except ValueError as e:
        raise ValueError(
            f"{what}: {axes!r} does not fit the structure it stands for: {e}"
        ) from None
    return [(x, a) for a, part in zip(leaves, parts, strict=True) for x in tree.leaves(part)]


class _Arguments:
    """The arguments of one call: what is sliced, what is carried, and the rest."""

    def __init__(self, what: str, args: tuple, in_axes: Any):
        axes = in_axes if isinstance(in_axes, tuple | list) else (in_axes,) * len(args)
        if len(axes) != len(args):
            raise ValueError(
                f"{what}: in_axes has {len(axes)} entries for {len(args)} arguments; give one each"
            )
        self.args = args
        carried = [i for i, a in enumerate(axes) if a is Carry and not _is_module(args[i])]
        if len(carried) > 1:
            raise ValueError(
                f"{what}: the arguments {carried} are all Carry.\n"
                "Write instead: one tuple or dict of them as the carry."
            )
        self.carry = carried[0] if carried else None
        self.cells: dict[Cell, int] = {}
        self.modules: list[Any] = []
        self.sliced: dict[tuple[int, int], tuple[Any, int]] = {}
        for i, (arg, a) in enumerate(zip(args, axes, strict=True)):
            if i == self.carry:
                continue
            for j, (leaf, axis) in enumerate(_prefix(f"{what}: in_axes", a, arg)):
                axis = None if axis is Carry else axis
                if is_stateful(leaf) or isinstance(leaf, Cell):
                    found = axes_of(leaf, axis, f"{what}: in_axes")
                    self.modules += [leaf] if any(k is not None for k in found.values()) else []
                    self.cells |= {c: k for c, k in found.items() if _is_sliced(c, k)}
                elif axis is not None:
                    self.sliced[i, j] = enter(leaf), axis

    def rows(self) -> tuple[list[Any], list[Any]]:
        """What is sliced, with its axis in front: arrays, and contents of cells."""
        arrays = [bnp.moveaxis(x, axis, 0) for x, axis in self.sliced.values()]
        return arrays, [bnp.moveaxis(c._read(), axis, 0) for c, axis in self.cells.items()]

    def at_step(self, carry: Any, arrays: list[Any]) -> tuple:
        """The arguments of one step."""
        args = list(self.args)
        if self.carry is not None:
            args[self.carry] = carry
        rows = dict(zip(self.sliced, arrays, strict=True))
        for i in {i for i, _ in rows}:
            leaves, treedef = tree.flatten(args[i])
            leaves = [rows.get((i, j), leaf) for j, leaf in enumerate(leaves)]
            args[i] = tree.unflatten(treedef, leaves)
        return tuple(args)


def _is_module(arg: Any) -> bool:
    """Whether an argument is made of modules only: a carry of such is one that is shared."""
    leaves = tree.leaves(arg)
    return bool(leaves) and all(map(is_stateful, leaves))


def _is_sliced(cell: Cell, axis: int | None) -> bool:
    return axis is not None and isinstance(cell._read(), Handle)


class _Results:
    """What one step returns, as carry and rows, and back."""

    def __init__(self, what: str, out_axes: Any):
        self.what = what
        self.axes = out_axes
        self.single = not isinstance(out_axes, tuple | list)

    def split(self, out: Any) -> tuple[Any, list[Any]]:
        """The carry (None without one), and the rest."""
        axes = (self.axes,) if self.single else self.axes
        parts = (out,) if self.single else out
        if not isinstance(parts, tuple | list) or len(parts) != len(axes):
            raise TypeError(
                f"{self.what}: out_axes={self.axes!r} is for {len(axes)} results, and the function "
                f"returned {type(out).__name__}.\n"
                "Write instead: `return carry, y` for out_axes=(nn.Carry, 0), or another out_axes."
            )
        carries = [p for p, a in zip(parts, axes, strict=True) if a is Carry]
        if len(carries) > 1:
            raise ValueError(f"{self.what}: out_axes has Carry twice: {self.axes!r}")
        return (carries or [None])[0], [
            p for p, a in zip(parts, axes, strict=True) if a is not Carry
        ]

    def join(self, carry: Any, ys: list[Any]) -> Any:
        """The results of the whole loop."""
        rows, out = iter(ys), []
        for axis in (self.axes,) if self.single else self.axes:
            if axis is Carry:
                out.append(carry)
                continue
            y = next(rows)
            moved = [bnp.moveaxis(x, 0, a) for x, a in _prefix(f"{self.what}: out_axes", axis, y)]
            out.append(tree.unflatten(tree.structure(y), moved))
        return out[0] if self.single else tuple(out)


def scan(
    f: Callable[..., Any] | None = None,
    *,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
    in_axes: Any = (Carry, 0),
    out_axes: Any = (Carry, 0),
) -> Callable[..., Any]:
    """A function that runs `f` step by step over axes of its arguments, as one compiled loop.

    `lax.scan` is the same loop for arrays; cells that `f` writes are carried in both. Here, a step
    sees a slice of a module's variables as well, and what it writes there is stacked: layers that
    are alike, with their parameters stacked, are one traced layer (`nn.Stack`).

    Args:
        f: takes and returns what `in_axes` and `out_axes` say.
        length: the number of steps, needed when nothing is sliced.
        reverse: go from the last slice to the first.
        unroll: steps per iteration of the compiled loop; True unrolls all.
        in_axes: for each argument `nn.Carry` (what the last step returned), an axis to slice, or
            None to pass it whole; entries may be pytrees of axes, and `nn.StateAxes` for a module.
        out_axes: for each result `nn.Carry`, or the axis along which it is stacked.

    Raises:
        TypeError: the function returns other results than `out_axes` says, or the carry changes
            its type.
        ValueError: lengths differ, or more than one argument is the carry.

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> layers = nn.Linear(3, 3, rngs=nn.Rngs(0))
    >>> layers.kernel.value, layers.bias.value = bnp.stack([bnp.eye(3)] * 4), bnp.ones((4, 3))
    >>> run = nn.scan(lambda m, x: m(x), in_axes=(0, nn.Carry), out_axes=nn.Carry)
    >>> run(layers, bnp.zeros(3))
    Array([4., 4., 4.], dtype=float32)
    """
    if f is None:
        options = dict(length=length, reverse=reverse, unroll=unroll)
        return functools.partial(scan, in_axes=in_axes, out_axes=out_axes, **options)
    what = described("scan", f)

    @functools.wraps(f, updated=())
    def scanned(*args: Any, **kwargs: Any) -> Any:
        given = _Arguments(what, args, in_axes)
        results = _Results(what, out_axes)
        cells = list(given.cells)
        written: list[Cell] = []
        capture, places = captures.current(), []
        perturbations = capture.given_inside(given.modules) if capture else {}

        def step(carry: Any, rows: Any) -> Any:
            (arrays, contents), zeros = rows
            shown = dict(zip(cells, contents, strict=True))
            here = capture and capture.within(dict(zip(perturbations, zeros, strict=True)))
            with here or contextlib.nullcontext():
                out, changed = _show(what, shown, f, given.at_step(carry, arrays), kwargs)
            carry, ys = results.split(out)
            written[:] = [c for c in cells if c in changed]
            places[:], sown = here.collected() if here else ([], [])
            return carry, (ys, [changed[c] for c in written], sown)

        start = None if given.carry is None else args[given.carry]
        xs = given.rows(), list(perturbations.values())
        carry, (ys, contents, sown) = lax.scan(step, start, xs, length, reverse, unroll)
        if capture:
            capture.deliver(places, sown)
        write_back(
            {c: bnp.moveaxis(x, 0, given.cells[c]) for c, x in zip(written, contents, strict=True)}
        )
        return results.join(carry, ys)

    return scanned


def _show(
    what: str, shown: Mapping[Cell, Any], f: Callable[..., Any], args: tuple, kwargs: dict[str, Any]
) -> tuple[Any, dict[Cell, Any]]:
    """The function's result when these cells show these contents, and what it wrote into them."""
    with Scope(what, lambda cell, content: shown.get(cell, content)) as scope:
        out = f(*args, **kwargs)
    changed = scope.changed()
    write_back({c: x for c, x in changed.items() if c not in shown})
    return out, {c: x for c, x in changed.items() if c in shown}
