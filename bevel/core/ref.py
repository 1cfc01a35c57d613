"""State cells, and the scopes through which transforms see them.

A `Ref` holds one array. A transform that traces or differentiates a function opens a `Scope`; the
first time a cell is read or written inside, the scope takes note of it and may put another handle
in it (a traced one). When the scope closes, every cell gets back what it held, and the transform
learns what the function left in it. No graph of objects is copied.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, final

from bevel.core.aval import Aval


class _State(threading.local):
    scope: Scope | None = None


_state = _State()


@final
class Slot:
    """A place in a store (`bevel/api/stores.py`), where a cell's content lies beside those of other
    cells until somebody asks for it.
    """

    __slots__ = ("aval", "index", "store")

    def __init__(self, store: Any, index: int, aval: Aval):
        self.store = store
        self.index = index
        self.aval = aval


class Cell:
    """What every state cell has in common: one content, read and written through the current scope.

    `differentiable` cells are those of a module that `grad` differentiates by default. A cell whose
    content was taken out of a store remembers its place there (`_home`).
    """

    __slots__ = ("__weakref__", "_content", "_home", "_scope")

    differentiable = False

    def __init__(self, content: Any):
        self._content = content
        self._home: Slot | None = None
        self._scope = _state.scope

    def _read(self) -> Any:
        scope = _state.scope
        if self._scope is not scope and scope is not None:
            scope.capture(self)
        content = self._content
        return content.store.read(content.index) if type(content) is Slot else content

    def _write(self, content: Any) -> None:
        scope = _state.scope
        if self._scope is not scope and scope is not None:
            scope.capture(self)
        if scope is not None and scope.guard is not None:
            scope.guard(self)
        old = self._content
        if type(old) is Slot:
            self._home = old
            old.store.departed.append(self)
        self._content = content


class Scope:
    """The cells that a function under a transform has touched.

    `lift(cell, content) -> content` says what a touched cell shows inside; `guard(cell)` may
    refuse a write.
    """

    __slots__ = ("cells", "guard", "lift", "lifted", "parent", "what")

    def __init__(
        self,
        what: str,
        lift: Callable[[Cell, Any], Any] | None = None,
        guard: Callable[[Cell], None] | None = None,
    ):
        self.what = what
        self.lift = lift
        self.guard = guard
        self.parent = _state.scope
        self.cells: dict[Cell, Any] = {}
        self.lifted: dict[Cell, Any] = {}

    def capture(self, cell: Cell) -> None:
        """Take note of a cell from outside."""
        if cell._scope is self:
            return
        if self.parent is not None:
            self.parent.capture(cell)
        self.cells[cell] = content = cell._content
        if self.lift is not None:
            if type(content) is Slot:
                content = content.store.read(content.index)
            cell._content = self.lift(cell, content)
        self.lifted[cell] = cell._content
        cell._scope = self

    def show(self, cell: Cell, content: Any) -> None:
        """Let a cell hold this content inside, which does not count as a write."""
        self.capture(cell)
        cell._content = self.lifted[cell] = content

    def __enter__(self) -> Scope:
        _state.scope = self
        return self

    def __exit__(self, *exc) -> None:
        _state.scope = self.parent
        for cell, content in self.cells.items():
            if exc[0] is None:
                self.cells[cell] = cell._content
            cell._content = content
            cell._scope = self.parent

    def changed(self) -> dict[Cell, Any]:
        """After the scope has closed: the cells that were written, and their new contents."""
        return {c: new for c, new in self.cells.items() if new is not self.lifted[c]}


def write_back(contents: dict[Cell, Any]) -> None:
    """Write new contents into cells, in the scope around."""
    for cell, content in contents.items():
        cell._write(content)
