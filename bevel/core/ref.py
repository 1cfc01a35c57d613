"""State cells, and the scopes through which transforms see them.

A `Ref` holds one array. A transform that traces or differentiates a function opens a `Scope`; the
first time a cell is read or written inside, the scope takes note of it and may show another handle
in its place (a traced one). A scope and what it shows belong to one thread; the cells keep what
they hold. When it closes, the transform learns what the function left in them. No graph of objects
is copied.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, final

from bevel.core import forks
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


lock = threading.RLock()
"""Held while contents move between cells and stores, or a program is given those of stores."""

forks.renew(globals(), lock=threading.RLock)


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

    def _seen(self) -> Any:
        """The content as the current scope shows it; a `Slot` if it is in a store."""
        scope = _state.scope
        return self._content if scope is None or self._scope is scope else scope.view(self)

    def _read(self) -> Any:
        scope = _state.scope
        content = self._content if scope is None or self._scope is scope else scope.view(self)
        return content.store.read(content.index) if type(content) is Slot else content

    def _write(self, content: Any) -> None:
        scope = _state.scope
        if scope is not None:
            scope.capture(self)
            if scope.guard is not None:
                scope.guard(self)
            if self._scope is not scope:
                scope.now[self] = content
                return
        with lock:
            old, self._content = self._content, content
            if type(old) is Slot:
                self._home = old
                old.store.departed.append(self)


_NOTHING: Any = object()


class Scope:
    """The cells that a function under a transform has touched.

    `lift(cell, content) -> content` says what a touched cell shows inside; `guard(cell)` may
    refuse a write. What is shown and written inside is in the scope, not in the cells, so that
    other threads see nothing of it.
    """

    __slots__ = ("cells", "guard", "lift", "lifted", "now", "parent", "what")

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
        self.cells: dict[Cell, None] = {}  # in the order in which they were touched
        self.lifted: dict[Cell, Any] = {}
        self.now: dict[Cell, Any] = {}

    def capture(self, cell: Cell) -> None:
        """Take note of a cell from outside."""
        if cell in self.cells or cell._scope is self:
            return
        if self.parent is not None:
            self.parent.capture(cell)
        self.cells[cell] = None
        content = self._around(cell)
        if self.lift is not None:
            if type(content) is Slot:
                content = content.store.read(content.index)
            shown = self.lift(cell, content)
            if shown is not content:
                self.now[cell] = shown
            content = shown
        self.lifted[cell] = content

    def _around(self, cell: Cell) -> Any:
        parent = self.parent
        return cell._content if parent is None or cell._scope is parent else parent.view(cell)

    def view(self, cell: Cell) -> Any:
        """What a cell from outside shows inside."""
        content = self.now.get(cell, _NOTHING)
        if content is _NOTHING:
            self.capture(cell)
            content = self.now.get(cell, _NOTHING)
            if content is _NOTHING:
                content = self._around(cell)
        return content

    def show(self, cell: Cell, content: Any) -> None:
        """Let a cell hold this content inside, which does not count as a write."""
        self.capture(cell)
        self.now[cell] = self.lifted[cell] = content

    def __enter__(self) -> Scope:
        _state.scope = self
        return self

    def __exit__(self, *exc) -> None:
        _state.scope = self.parent

    def changed(self) -> dict[Cell, Any]:
        """After the scope has closed: the cells that were written, and their new contents."""
        found = {c: self.now[c] for c in self.cells if c in self.now}
        return {c: new for c, new in found.items() if new is not self.lifted[c]}


def write_back(contents: dict[Cell, Any]) -> None:
    """Write new contents into cells, in the scope around."""
    for cell, content in contents.items():
        cell._write(content)
