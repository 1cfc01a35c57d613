"""What a module is made of: its cells with their paths, and the rest as one hashable `GraphDef`.

A node is a module, a cell, or a pytree container of such (list, dict, namedtuple, ...); everything
else is static and part of the structure by value, or by identity where it has no hash (arrays,
sets). The structure of a module is found once and remembered until the epoch ends or a list or dict
in it changes, so that a call of a jitted function only compares a number and a few identities.
"""

from __future__ import annotations

import operator
import weakref
from collections.abc import Mapping
from typing import Any, NamedTuple

from bevel.core import tree
from bevel.core.errors import UnexpectedTracerError
from bevel.core.handle import Handle
from bevel.core.interpreter import Tracer
from bevel.core.ref import Cell
from bevel.core.source import origin
from bevel.nn import epoch

Path = tuple[Any, ...]


class Static:
    """A value that is part of the structure: compared by value, or by identity if it has no hash.

    Arrays are compared by identity: as attributes of a module they are constants of the trace.
    """

    __slots__ = ("_hash", "value")

    def __init__(self, value: Any):
        self.value = value
        try:
            self._hash = None if isinstance(value, Handle) else hash((type(value), value))
        except TypeError:
            self._hash = None

    def __hash__(self) -> int:
        return id(self.value) if self._hash is None else self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Static):
            return NotImplemented
        if self.value is other.value:
            return True
        same = (
            self._hash is not None
            and self._hash == other._hash
            and type(self.value) is type(other.value)
        )
        return same and bool(self.value == other.value)


class ModuleNode(NamedTuple):
    """A module: its class and attributes."""

    index: int
    cls: type
    attributes: tuple[tuple[str, Any], ...]


class CellNode(NamedTuple):
    """A cell: its class and metadata."""

    index: int
    cls: type
    fields: tuple[tuple[str, Static], ...]


class TreeNode(NamedTuple):
    """A pytree container: its kind, and its children with the step of the path to each."""

    treedef: Any
    keys: tuple[Any, ...]
    children: tuple[Any, ...]


class Again(NamedTuple):
    """A module or cell that has been met before."""

    index: int


class GraphDef:
    """The structure of a module or of a pytree of modules, without the contents of its cells.

    Two equal structures are the same object. `nn.merge(graphdef, state)` makes a module from it.
    """

    __slots__ = ("__weakref__", "root")

    _known: weakref.WeakValueDictionary = weakref.WeakValueDictionary()

    def __new__(cls, root: Any) -> GraphDef:
        """The one structure with this root."""
        found = cls._known.get(root)
        if found is None:
            found = super().__new__(cls)
            found.root = root
            cls._known[root] = found
        return found

    def __reduce__(self) -> Any:
        return GraphDef, (self.root,)

    def __repr__(self) -> str:
        return f"GraphDef({_outline(self.root)})"


tree.register_static(GraphDef)


def _outline(node: Any) -> str:
    if isinstance(node, ModuleNode):
        inner = ", ".join(f"{k}={_outline(v)}" for k, v in node.attributes)
        return f"{node.cls.__name__}({inner})"
    if isinstance(node, CellNode):
        return node.cls.__name__
    if isinstance(node, TreeNode):
        return (
            "{"
            + ", ".join(
                f"{k!r}: {_outline(c)}" for k, c in zip(node.keys, node.children, strict=True)
            )
            + "}"
        )
    return f"<shared {node.index}>" if isinstance(node, Again) else repr(node.value)


def is_module(x: Any) -> bool:
    """Whether a value is a module: it shows its attributes."""
    return hasattr(type(x), "__bevel_attributes__")


def step_of(key: Any) -> Any:
    """A step of a key path as users write it: name, index or dict key."""
    return next(iter(vars(key).values()))


def path_text(path: Path) -> str:
    """A path as Python would write it.

    >>> path_text(("layers", 0, "kernel"))
    'layers[0].kernel'
    """
    parts = [f".{k}" if isinstance(k, str) and k.isidentifier() else f"[{k!r}]" for k in path]
    return "".join(parts).removeprefix(".") or "the object itself"


def _children(container: Any) -> Any:
    """What of a mutable container is compared to see whether it has changed."""
    if type(container) is list:
        return container
    if type(container) is dict:
        return [*container, *container.values()]
    return tree.leaves(container, is_leaf=lambda x: x is not container)


def _check_alive(cell: Cell, path: Path) -> None:
    """Refuse a variable that a function left in a module when its trace ended."""
    value = cell._content._v if isinstance(cell._content, Handle) else None
    if not isinstance(value, Tracer) or value.interp.alive:
        return
    kind = type(cell).__name__
    made = origin(value.source)
    raise UnexpectedTracerError(
        f"the {kind} {path_text(path)} holds a traced {value.aval}{made} of {value.interp.what}, "
        "which has ended.\n"
        "Why: the variable was made inside that function, and a compiled function changes the "
        "variables there are, but adds none to a module.\n"
        f"Write instead: make it in __init__ and write into it, self.{path[-1] if path else 'x'}"
        f"[...] = x; or self.sow(nn.{kind}, name, x), and nn.capture(model, nn.{kind}) to get it."
    )


class Structure:
    """What was found in a module or a pytree of modules.

    `modules`, `owners` (of each path to a cell) and `watched` (what tells of its changes) are there
    only just after a traversal.
    """

    __slots__ = (
        "__weakref__",
        "by_path",
        "cells",
        "containers",
        "epoch",
        "graphdef",
        "modules",
        "owners",
        "paths",
        "watched",
    )

    def __init__(self, root: Any):
        self.epoch = epoch.current()
        self.cells: list[Cell] = []
        self.paths: list[Path] = []
        self.by_path: dict[Path, Cell] = {}
        self.owners: dict[Path, Any] = {}
        self.modules: list[tuple[Path, Any]] = []
        self.containers: list[tuple[Any, list[Any]]] = []
        self.watched: list[Any] = []
        self.graphdef = GraphDef(_Traversal(self).visit(root, ()))

    def current(self) -> bool:
        """Whether it is still so."""
        if self.epoch != epoch.current():
            return False
        for container, known in self.containers:
            now = _children(container)
            if len(now) != len(known) or not all(map(operator.is_, now, known)):
                return False
        return True


class _Traversal:
    """One walk over a module: numbers what it meets, so that shared parts are seen once."""

    def __init__(self, found: Structure):
        self.found = found
        self.seen: dict[int, int] = {}
        self.keep: list[Any] = []
        self.open: dict[int, Path] = {}
        self.inside: dict[int, list[tuple[Path, Cell]]] = {}

    def visit(self, x: Any, path: Path) -> Any:
        if isinstance(x, Cell):
            return self._cell(x, path)
        if is_module(x):
            return self._shared(x, path)
        if isinstance(x, _PLAIN):
            return Static(x)
        pairs, treedef = tree.flatten_with_path(x, is_leaf=lambda y: y is not x)
        if len(pairs) == 1 and pairs[0][1] is x:
            return Static(x)
        return self._container(x, path, pairs, treedef)

    def _number(self, x: Any) -> int:
        self.keep.append(x)
        return self.seen.setdefault(id(x), len(self.seen))

    def _cell(self, cell: Cell, path: Path) -> Any:
        self.found.by_path[path] = cell
        if id(cell) in self.seen:
            return Again(self.seen[id(cell)])
        _check_alive(cell, path)
        self.found.cells.append(cell)
        self.found.paths.append(path)
        metadata = getattr(cell, "_metadata", {})
        return CellNode(
            self._number(cell),
            type(cell),
            tuple((k, Static(v)) for k, v in sorted(metadata.items())),
        )

    def _shared(self, module: Any, path: Path) -> Any:
        if id(module) in self.open:
            above = self.open[id(module)]
            raise ValueError(
                f"a cycle: {path_text(path)} is {path_text(above)}, which contains it.\n"
                "Why: the state of a module is a tree of paths, and this one would have no end.\n"
                "Write instead: do not keep the parent in the child; pass what the child needs "
                "when calling it."
            )
        by_path = self.found.by_path
        if id(module) in self.seen:
            by_path.update({path + rest: cell for rest, cell in self.inside[id(module)]})
            return Again(self.seen[id(module)])
        self.open[id(module)] = path
        start = len(by_path)
        node = self._module(module, path, self._number(module))
        del self.open[id(module)]
        self.inside[id(module)] = [
            (p[len(path) :], cell) for p, cell in list(by_path.items())[start:]
        ]
        return node

    def _module(self, module: Any, path: Path, index: int) -> Any:
        self.found.modules.append((path, module))
        self.found.watched.append(module)
        attributes = []
        for name, value in sorted(module.__bevel_attributes__().items()):
            if isinstance(value, Cell):
                self.found.owners[(*path, name)] = module
            attributes.append((name, self.visit(value, (*path, name))))
        return ModuleNode(index, type(module), tuple(attributes))

    def _container(self, x: Any, path: Path, pairs: Any, treedef: Any) -> Any:
        if hasattr(x, "_bevel_seen"):
            self.found.watched.append(x)
        elif not isinstance(x, tuple):
            self.found.containers.append((x, list(_children(x))))
        keys = tuple(step_of(p[0]) for p, _ in pairs)
        children = []
        for key, (_, child) in zip(keys, pairs, strict=True):
            if isinstance(child, Cell):
                self.found.owners[(*path, key)] = x
            children.append(self.visit(child, (*path, key)))
        return TreeNode(treedef, keys, tuple(children))


_PLAIN = (str, int, float, bool, type(None), Handle, type)


def structure_of(x: Any) -> Structure:
    """The structure of a module (remembered) or of a pytree of modules.

    Raises:
        ValueError: a module contains itself; the message shows the path.
    """
    if not is_module(x):
        return Structure(x)
    remembered = x._bevel_structure
    if remembered is not None and remembered.current():
        return remembered
    found = Structure(x)
    for announces_changes in found.watched:
        object.__setattr__(announces_changes, "_bevel_seen", True)
    # A module that refers to itself would be freed late, with all its arrays.
    found.modules, found.owners, found.watched = [], {}, []
    object.__setattr__(x, "_bevel_structure", found)
    return found


def build(graphdef: GraphDef, contents: Mapping[Path, Any]) -> tuple[Any, set[Path]]:
    """A new object of that structure whose cells have these contents, and the paths that were used.

    A content that is a cell is taken itself.

    Raises:
        ValueError: a path is missing; the message names it.
    """
    made: dict[int, Any] = {}
    used: set[Path] = set()

    def cell_at(node: CellNode, path: Path) -> Cell:
        if path not in contents:
            some = ", ".join(path_text(p) for p in list(contents)[:8]) or "nothing"
            raise ValueError(
                f"merge: there is no value for the {node.cls.__name__} at {path_text(path)}; the "
                f"states have {some}.\n"
                "Write instead: nn.merge(graphdef, *states) with all the states that nn.split gave."
            )
        used.add(path)
        if isinstance(contents[path], Cell):
            return contents[path]
        cell = node.cls.__new__(node.cls)
        Cell.__init__(cell, contents[path])
        if hasattr(node.cls, "_metadata"):
            cell._metadata = {k: v.value for k, v in node.fields}
        return cell

    def make(node: Any, path: Path) -> Any:
        if isinstance(node, Static):
            return node.value
        if isinstance(node, Again):
            return made[node.index]
        if isinstance(node, CellNode):
            made[node.index] = cell_at(node, path)
        elif isinstance(node, TreeNode):
            children = [make(c, (*path, k)) for k, c in zip(node.keys, node.children, strict=True)]
            return tree.unflatten(node.treedef, children)
        else:
            module = made[node.index] = node.cls.__new__(node.cls)
            for name, child in node.attributes:
                vars(module)[name] = make(child, (*path, name))
        return made[node.index]

    return make(graphdef.root, ()), used
