"""What users call a state cell in messages: the variable, attribute and item it is found under."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

from bevel.api.flat import cells_of, is_stateful, parameter_names
from bevel.core import tree
from bevel.core.ref import Cell


def cell_name(cell: Cell, fun: Any = None, args: Sequence[Any] = ()) -> str:
    """`Param model.layers[0].kernel`: the kind of a cell and, if it is found, its place.

    It is looked for in the arguments of a call and in what the function closes over; this takes
    its time, and is for messages.
    """
    kind = type(cell).__name__
    seen: set[int] = set()
    for name, root in [*_named(fun, args), *_closed_over(fun, seen)]:
        for path, leaf in tree.leaves_with_path(root):
            place = _place(leaf, cell)
            if place is not None:
                return f"{kind} {name}{tree.keystr(path)}{place}"
    return kind


def _named(fun: Any, args: Sequence[Any]) -> list[tuple[str, Any]]:
    names = parameter_names(fun)
    return [(names[i] if i < len(names) else f"argument {i}", a) for i, a in enumerate(args)]


def _closed_over(fun: Any, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Names and values of the variables around a function, and around functions among them."""
    if id(fun) in seen:
        return
    seen.add(id(fun))
    if isinstance(fun, functools.partial):
        yield from [(f"argument {i}", a) for i, a in enumerate(fun.args)]
        yield from fun.keywords.items()
        yield from _closed_over(fun.func, seen)
    owner = getattr(fun, "__self__", None)
    if is_stateful(owner):
        yield "self", owner
    code = getattr(fun, "__code__", None)
    found = []
    for name, box in zip(
        getattr(code, "co_freevars", ()), getattr(fun, "__closure__", None) or (), strict=True
    ):
        try:
            found.append((name, box.cell_contents))
        except ValueError:  # a variable without a value yet
            continue
    outside = getattr(fun, "__globals__", {})
    found += [(n, outside[n]) for n in getattr(code, "co_names", ()) if n in outside]
    for name, value in found:
        if is_stateful(value) or isinstance(value, Cell | list | tuple | dict):
            yield name, value
        elif callable(value) and hasattr(value, "__closure__"):
            yield from _closed_over(value, seen)


def _place(leaf: Any, cell: Cell) -> str | None:
    """Where in a leaf the cell is; None if it is not there."""
    if leaf is cell:
        return ""
    if not is_stateful(leaf) or not any(c is cell for c in cells_of(leaf) or ()):
        return None
    return leaf.__bevel_place__(cell)
