"""Numbers, arrays and functions that a jitted function reads from around it, whose change is seen.

A trace takes them as they are. So they belong to what a program is made for: when a global variable
or one of an enclosing function gets another value, the function is traced again. Contents of lists,
dicts and objects are not looked at, nor are variables of installed packages.
"""

from __future__ import annotations

import dis
import functools
import operator
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from bevel.api.flow.calls import is_users
from bevel.core.handle import Handle
from bevel.core.interpreter import Tracer

_NUMBERS = (bool, int, float, complex, str, bytes, np.generic, type(None))
_GONE = object()
_is = operator.is_


class _Names(NamedTuple):
    """Names that a piece of code, with the functions in it, takes from outside."""

    read: frozenset[str]
    written: frozenset[str]


@functools.lru_cache(maxsize=4096)
def _names(code: types.CodeType) -> _Names:
    read, written = set(), set()
    for i in dis.get_instructions(code):
        if i.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_FROM_DICT_OR_DEREF"):
            read.add(i.argval)
        elif i.opname in ("STORE_GLOBAL", "STORE_DEREF", "DELETE_GLOBAL"):
            written.add(i.argval)
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            inner = _names(const)
            read |= inner.read
            written |= inner.written
    return _Names(frozenset(read), frozenset(written))


class _Same:
    """An object as a key: equal only to itself."""

    __slots__ = ("held",)

    def __init__(self, held: Any):
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.held is self.held

    def __hash__(self) -> int:
        return id(self.held)


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _GONE


def _is_watched(x: Any) -> bool:
    if isinstance(x, Handle):
        return not isinstance(x._v, Tracer)
    return isinstance(x, _NUMBERS) or type(x) is np.ndarray


class Outside:
    """The variables that a function reads from around it, and what they held when last read."""

    __slots__ = ("_held", "_read", "cells", "globals")

    def __init__(self, fun: Any):
        self.globals: list[tuple[dict[str, Any], list[str], Callable[..., Any]]] = []
        self.cells: list[tuple[types.CellType, str]] = []
        found: dict[int, tuple[dict[str, Any], list[str]]] = {}
        self._add(fun, found, set(), 3)
        for scope, names in found.values():
            # With two names at least it gives a tuple.
            self.globals.append((scope, names, operator.itemgetter(*names, names[0])))
        self._held: list[tuple[types.CellType, Any]] = []
        self._read: list[tuple[Callable[..., Any], dict[str, Any], tuple[Any, ...]]] = []
        self.read()

    def _add(self, fun: Any, found: dict, seen: set[Any], depth: int) -> None:
        while not isinstance(fun, types.FunctionType | type):
            # A partial, a method, a jitted function.
            below = [getattr(fun, a, None) for a in ("func", "__func__", "__wrapped__")]
            fun = next((b for b in below if b is not None), None)
            if fun is None:
                return
        if not isinstance(fun, types.FunctionType) or fun in seen:
            return
        seen.add(fun)
        code, inner = fun.__code__, []
        names = _names(code)
        cells = dict(zip(code.co_freevars, fun.__closure__ or (), strict=True))
        for name, cell in cells.items():
            inner.append(_content(cell))
            known = any(cell is c for c, _ in self.cells)
            if _is_watched(inner[-1]) and name not in names.written and not known:
                self.cells.append((cell, name))
        if is_users(fun):
            watched = found.setdefault(id(fun.__globals__), (fun.__globals__, []))[1]
            for name in sorted(names.read - names.written - cells.keys()):
                if name not in fun.__globals__:
                    continue
                x = fun.__globals__[name]
                if (_is_watched(x) or is_users(x)) and name not in watched:
                    watched.append(name)
                inner.append(x)
            if not watched:
                del found[id(fun.__globals__)]
        for x in inner if depth else ():
            self._add(x, found, seen, depth - 1)

    def changed(self) -> bool:
        """Whether one of them is another object than when last read. Part of every call."""
        try:
            for get, scope, then in self._read:
                if False in map(_is, get(scope), then):
                    return True
            for cell, held in self._held:
                if cell.cell_contents is not held:
                    return True
        except (KeyError, ValueError):  # a variable is gone
            return True
        return False

    def read(self) -> dict[str, Any]:
        """What they hold now, as what keys are made of."""
        try:
            self._read = [(get, scope, get(scope)) for scope, _, get in self.globals]
        except KeyError:
            return {}  # one was deleted: the function itself will say so
        self._held = [(cell, _content(cell)) for cell, _ in self.cells]
        pairs = [(name, "", x) for (_, name), (_, x) in zip(self.cells, self._held, strict=True)]
        for (scope, names, _), (_, _, then) in zip(self.globals, self._read, strict=True):
            module = scope.get("__name__")
            pairs += [(name, f" of {module}", x) for name, x in zip(names, then, strict=False)]
        found: dict[str, Any] = {}
        for name, of, x in pairs:
            while name in found:
                name += of or "'"
            found[name] = (type(x), x) if isinstance(x, _NUMBERS) else _Same(x)
        return found


def outside_of(fun: Any) -> Outside | bool:
    """The variables that a function reads from around it; False if there are none."""
    found = Outside(fun)
    return found if found.globals or found.cells else False
