"""Walking over a module: what it holds by path, and copies of it with parts changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from bevel.core import tree
from bevel.core.ref import Cell
from bevel.nn.filters import to_predicate
from bevel.nn.module import Module
from bevel.nn.states import State, split
from bevel.nn.structure import (
    GraphDef,
    Path,
    Structure,
    build,
    is_module,
    path_text,
    step_of,
    structure_of,
)
from bevel.nn.variable import Variable


def _parts(x: Any) -> tuple[list[tuple[Any, Any]], Any] | None:
    """Steps and parts of a module or container and what puts them together; None for a leaf."""
    if isinstance(x, Cell):
        return None
    if is_module(x):
        return sorted(x.__bevel_attributes__().items()), None
    pairs, treedef = tree.flatten_with_path(x, is_leaf=lambda y: y is not x)
    if len(pairs) == 1 and pairs[0][1] is x:
        return None
    return [(step_of(p[0]), part) for p, part in pairs], treedef


def iter_graph(node: Any, /) -> Iterator[tuple[Path, Any]]:
    """Pairs of path and object: modules, containers, variables and other attributes, parts first.

    What is shared comes once, at its first path.

    >>> from bevel import nn
    >>> [path for path, x in nn.iter_graph([nn.Dropout(0.5)]) if isinstance(x, nn.Module | float)]
    [(0, 'rate'), (0,)]
    """
    yield from _walk(node, (), set())


def _walk(x: Any, path: Path, seen: set[int]) -> Iterator[tuple[Path, Any]]:
    shared = isinstance(x, Cell) or is_module(x)
    if shared and id(x) in seen:
        return
    if shared:
        seen.add(id(x))
    found = _parts(x)
    for step, part in found[0] if found else ():
        yield from _walk(part, (*path, step), seen)
    yield path, x


def iter_modules(module: Any, /) -> Iterator[tuple[Path, Any]]:
    """Pairs of path and module, inner ones first, each once.

    >>> from bevel import nn
    >>> [path for path, m in nn.iter_modules(nn.Sequential(nn.Dropout(0.1), nn.relu))]
    [('layers', 0), ()]
    """
    return ((path, x) for path, x in iter_graph(module) if is_module(x))


def iter_children(node: Any, /) -> Iterator[tuple[Any, Any]]:
    """Pairs of name and module or variable, of the attributes (or items) of the node itself.

    >>> from bevel import nn
    >>> [name for name, x in nn.iter_children(nn.Linear(2, 1, rngs=nn.Rngs(0)))]
    ['bias', 'kernel']
    """
    found = _parts(node)
    return ((k, x) for k, x in (found[0] if found else ()) if is_module(x) or isinstance(x, Cell))


def iter_module_children(node: Any, /) -> Iterator[tuple[Any, Any]]:
    """Pairs of name and module, of the attributes (or items) of the node itself.

    >>> from bevel import nn
    >>> [name for name, x in nn.iter_module_children([nn.Dropout(0.1), nn.relu])]
    [0]
    """
    return ((k, x) for k, x in iter_children(node) if is_module(x))


def find_duplicates(node: Any, /, *, only: Any = ...) -> list[list[Path]]:
    """The paths of each module or variable that has several.

    >>> from bevel import nn
    >>> layer = nn.Dropout(0.1)
    >>> nn.find_duplicates({"a": layer, "b": [layer]})
    [[('a',), ('b', 0)]]
    """
    wanted = to_predicate(only)
    paths: dict[int, list[Path]] = {}

    def visit(x: Any, path: Path) -> None:
        if (isinstance(x, Cell) or is_module(x)) and wanted(path, x):
            paths.setdefault(id(x), []).append(path)
            if len(paths[id(x)]) > 1:
                return
        found = _parts(x)
        for step, part in found[0] if found else ():
            visit(part, (*path, step))

    structure_of(node)  # refuses cycles
    visit(node, ())
    return [found for found in paths.values() if len(found) > 1]


def recursive_map(f: Callable[[Path, Any], Any], node: Any, /) -> Any:
    """A copy of a module in which `f(path, x)` stands for each part x, inner ones first.

    Variables that `f` returns as they are, the copy shares with the module.

    >>> from bevel import nn
    >>> model = nn.Sequential(nn.Dropout(0.1), nn.relu)
    >>> quiet = lambda path, x: nn.identity if isinstance(x, nn.Dropout) else x
    >>> nn.recursive_map(quiet, model).layers[0].__name__
    'identity'
    """
    made: dict[int, Any] = {}

    def visit(x: Any, path: Path) -> Any:
        if id(x) in made and (isinstance(x, Cell) or is_module(x)):
            return made[id(x)]
        found = _parts(x)
        copy = x
        if found is not None:
            parts = [(step, visit(part, (*path, step))) for step, part in found[0]]
            copy = _together(x, parts, found[1])
        made[id(x)] = f(path, copy)
        return made[id(x)]

    structure_of(node)  # refuses cycles
    return visit(node, ())


def _together(x: Any, parts: list[tuple[Any, Any]], treedef: Any) -> Any:
    if treedef is not None:
        return tree.unflatten(treedef, [part for _, part in parts])
    copy = type(x).__new__(type(x))
    vars(copy).update(parts)
    return copy


def map_variables(f: Callable[[Path, Any], Any], node: Any, /) -> Any:
    """A copy of a module with variables of its own, that hold what `f(path, variable)` returns.

    `nn.map` is this function.

    Args:
        f: returns an array, or a variable to take itself.
        node: a module or a pytree of modules.

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> layer = nn.Linear(2, 1, rngs=nn.Rngs(0))
    >>> nn.map(lambda path, v: bnp.zeros_like(v), layer).kernel.value.sum()
    Array(0., dtype=float32)
    """
    found = structure_of(node)
    contents = {p: f(p, c) for p, c in zip(found.paths, found.cells, strict=True)}
    return build(found.graphdef, contents)[0]


def graphdef(node: Any, /) -> GraphDef:
    """The structure of a module: the first of what `nn.split` returns.

    >>> from bevel import nn
    >>> a, b = (nn.Linear(2, 1, rngs=nn.Rngs(i)) for i in range(2))
    >>> nn.graphdef(a) == nn.graphdef(b) == nn.split(a)[0]
    True
    """
    return split(node)[0]


def variables(node: Any, /, *filters: Any) -> Any:
    """The variables of a module by path, as `nn.state` gives their contents.

    >>> from bevel import nn
    >>> layer = nn.Linear(2, 1, rngs=nn.Rngs(0))
    >>> nn.variables(layer).kernel is layer.kernel
    True
    """
    found = structure_of(node)
    cells = dict(zip(found.paths, found.cells, strict=True))
    parts: list[dict[Path, Any]] = []
    for taken in map(to_predicate, filters or (...,)):
        parts.append({p: c for p, c in cells.items() if taken(p, c)})
        cells = {p: c for p, c in cells.items() if p not in parts[-1]}
    states = tuple(map(State.from_flat_path, parts))
    return states[0] if len(states) == 1 else states


def set_metadata(node: Any, /, *, only: Any = Variable, **metadata: Any) -> None:
    """Set metadata of the variables that a filter takes.

    >>> from bevel import nn
    >>> layer = nn.Linear(2, 1, rngs=nn.Rngs(0))
    >>> nn.set_metadata(layer, only=nn.PathContains("kernel"), axes=("in", "out"))
    >>> layer.kernel.axes
    ('in', 'out')
    """
    taken, found = to_predicate(only), structure_of(node)
    for path, cell in zip(found.paths, found.cells, strict=True):
        if isinstance(cell, Variable) and taken(path, cell):
            cell.set_metadata(**metadata)


def with_attributes(
    node: Any, /, *, only: Any = ..., raise_if_not_found: bool = True, **attributes: Any
) -> Any:
    """A copy of a module with attributes changed, that shares all variables with it.

    Args:
        node: a module; it keeps its attributes.
        only: filter of the modules inside.
        raise_if_not_found: raise if no module has one of the attributes.
        attributes: names and new values.

    Raises:
        ValueError: no module has such an attribute.

    >>> from bevel import nn
    >>> model = nn.Sequential(nn.Linear(2, 2, rngs=nn.Rngs(0)), nn.Dropout(0.5))
    >>> quiet = nn.with_attributes(model, deterministic=True)
    >>> quiet.layers[0].kernel is model.layers[0].kernel, model.layers[1].deterministic
    (True, False)
    """
    copy = recursive_map(lambda _, x: x, node)
    modules = Structure(copy).modules
    taken, missing = to_predicate(only), set(attributes)
    for path, module in modules:
        if isinstance(module, Module) and taken(path, module):
            module.set_attributes(
                lambda _, m, here=module: m is here, raise_if_not_found=False, **attributes
            )
            missing -= {name for name in attributes if hasattr(module, name)}
    if missing and raise_if_not_found:
        raise ValueError(
            f"with_attributes: no module of {[path_text(p) for p, _ in modules][:8]} has the "
            f"attribute(s) {sorted(missing)}"
        )
    return copy
