"""How a module is shown: as the calls that would make it, with shapes in place of arrays."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from bevel.core import tree
from bevel.core.ref import Cell
from bevel.nn.structure import Path, is_module, path_text, step_of

_WIDTH = 100


def show(module: Any) -> str:
    """A module with what it holds: variables, modules, numbers and names; one line if it fits."""
    return _show(module, "", 0, {}, ())


def _show(x: Any, label: str, indent: int, shown: dict[int, str], path: Path) -> str:
    if isinstance(x, Cell):
        return label + (x.summary() if hasattr(x, "summary") else repr(x))
    if not _holds_cells(x):
        return label + (getattr(x, "__name__", None) or repr(x))
    if id(x) in shown:
        return f"{label}<{shown[id(x)]}>"
    if is_module(x):
        shown[id(x)] = path_text(path)
        items = [(f"{k}=", k, v) for k, v in vars(x).items() if _worth_showing(k, v)]
        return _layout(f"{label}{type(x).__name__}(", ")", items, indent, shown, path)
    pairs, _ = tree.flatten_with_path(x, is_leaf=lambda y: y is not x)
    opening, closing, name = _brackets(x)
    items = [(name(step_of(p[0])), step_of(p[0]), v) for p, v in pairs]
    return _layout(label + opening, closing, items, indent, shown, path)


def _brackets(x: Any) -> tuple[str, str, Any]:
    """What goes around the items of a container, and before each."""
    if isinstance(x, Mapping):
        return "{", "}", lambda key: f"{key!r}: "
    if isinstance(x, list | tuple) and not hasattr(x, "_fields"):
        return ("[", "]", lambda key: "") if isinstance(x, list) else ("(", ")", lambda key: "")
    return f"{type(x).__name__}(", ")", lambda key: f"{key}="


def _holds_cells(x: Any) -> bool:
    return is_module(x) or any(is_module(y) or isinstance(y, Cell) for y in tree.leaves(x))


def _worth_showing(name: str, x: Any) -> bool:
    """Options that are flags, functions or dtypes are left out."""
    if name.startswith("_"):
        return False
    if isinstance(x, tuple) and x and all(type(v) in (int, float, str) for v in x):
        return True
    return type(x) in (int, float, str) or _holds_cells(x)


def _layout(
    opening: str, closing: str, items: list, indent: int, shown: dict[int, str], path: Path
) -> str:
    parts = [_show(v, label, indent + 2, shown, (*path, key)) for label, key, v in items]
    line = opening + ", ".join(parts) + closing
    if len(line) + indent < _WIDTH and "\n" not in line:
        return line
    pad = " " * (indent + 2)
    return opening + "\n" + "".join(f"{pad}{p},\n" for p in parts) + " " * indent + closing


def show_html(module: Any) -> str:
    """A module for a notebook: parts that fold out, with shapes in place of arrays."""
    return f"<div style='font-family: monospace'>{_fold('', module, {}, ())}</div>"


def _fold(label: str, x: Any, shown: dict[int, str], path: Path) -> str:
    head = f"<b>{html.escape(label)}</b>"
    if isinstance(x, Cell) or not _holds_cells(x) or id(x) in shown:
        return (
            f"<div style='margin-left: 2em'>{head}{html.escape(_show(x, '', 0, shown, path))}</div>"
        )
    if is_module(x):
        shown[id(x)] = path_text(path)
        parts = [(k, v) for k, v in vars(x).items() if _worth_showing(k, v)]
    else:
        pairs, _ = tree.flatten_with_path(x, is_leaf=lambda y: y is not x)
        parts = [(step_of(p[0]), v) for p, v in pairs]
    inner = "".join(_fold(f"{k}: ", v, shown, (*path, k)) for k, v in parts)
    name = html.escape(f"{type(x).__name__} ({len(parts)})")
    opening = "<details style='margin-left: 2em'" + (">" if path else " open>")
    return f"{opening}<summary>{head}{name}</summary>{inner}</details>"
