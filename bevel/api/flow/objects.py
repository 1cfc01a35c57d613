"""Lists, dicts and plain objects that a traced branch or loop changes in place.

What it stores in them becomes variables of the branch or loop, one for each entry that changes: an
item, a key or an attribute. The body runs on the object as it was, and afterwards its entries are
taken out and the object is put back; so it can be traced any number of times.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from bevel.api.flat import as_handle
from bevel.api.flow.values import Struct, is_array
from bevel.core import tree
from bevel.core.handle import Handle
from bevel.core.ref import Cell

Entry = tuple[int, Any]
"""The place of an object among those watched, and an index, a key or an attribute of it."""

Watched = Sequence[tuple[str, Any, bool]]
"""Of each object that may change: its text in the source, itself, and whether it is certain that
something is stored in it (and not only that a method of it is called).
"""


def _slots(x: Any) -> list[str]:
    found = [getattr(c, "__slots__", ()) for c in type(x).__mro__]
    names = [n for s in found for n in ((s,) if isinstance(s, str) else s)]
    return [n for n in names if n not in ("__dict__", "__weakref__") and hasattr(x, n)]


def _is_plain(x: Any) -> bool:
    """Whether an object's attributes are all there is to it."""
    if isinstance(x, types.SimpleNamespace):
        return True
    if isinstance(x, Handle | Cell | type | types.ModuleType) or callable(x):
        return False
    kind = type(x)
    own = kind.__setattr__ is object.__setattr__ and kind.__module__.split(".")[0] != "bevel"
    return own and (hasattr(x, "__dict__") or bool(_slots(x)))


def _contents(x: Any) -> dict[Any, Any] | None:
    """What an object holds, by entry; None if that cannot be carried."""
    if type(x) is list:
        return dict(enumerate(x))
    if type(x) is dict:
        return dict(x)
    if not _is_plain(x):
        return None
    return {**{k: getattr(x, k) for k in _slots(x)}, **getattr(x, "__dict__", {})}


def _fill(x: Any, contents: dict[Any, Any]) -> None:
    if isinstance(x, list):
        x[:] = [contents[i] for i in range(len(contents))]
        return
    own = x if isinstance(x, dict) else getattr(x, "__dict__", {})
    slots = [] if isinstance(x, dict) else _slots(x)
    own.clear()
    own.update({k: v for k, v in contents.items() if k not in slots})
    for k in slots:
        object.__setattr__(x, k, contents[k])


class Objects:
    """The objects whose entries a traced branch or loop may change."""

    def __init__(self, watched: Watched):
        self.texts: list[str] = []
        self.held: list[Any] = []
        self.before: list[dict[Any, Any]] = []
        for text, x, _ in watched:
            contents = _contents(x)
            if contents is not None and not any(x is h for h in self.held):
                self.texts.append(text)
                self.held.append(x)
                self.before.append(contents)

    def takes(self, x: Any) -> bool:
        """Whether an object is one of these."""
        return any(x is h for h in self.held)

    def name(self, entry: Entry) -> str:
        """What the source calls an entry: `state['x']`, `self.count`."""
        i, key = entry
        plain = not isinstance(self.held[i], list | dict)
        return f"{self.texts[i]}.{key}" if plain else f"{self.texts[i]}[{key!r}]"

    def run(self, body: Callable[..., Any], *args: Any) -> tuple[Any, dict[Entry, Any]]:
        """The result of a body, and the entries that it changed, which are put back."""
        try:
            found = body(*args)
            return found, self._changed()
        finally:
            self.put(self.before)

    def _changed(self) -> dict[Entry, Any]:
        changed = {}
        for i, (now, before) in enumerate(zip(self.now(), self.before, strict=True)):
            for key, value in now.items():
                if key not in before or before[key] is not value:
                    changed[i, key] = value
            for key in before:
                if key not in now:
                    changed[i, key] = GONE
        return changed

    def now(self) -> list[dict[Any, Any]]:
        """What the objects hold."""
        return [_contents(x) or {} for x in self.held]

    def put(self, contents: Sequence[dict[Any, Any]]) -> None:
        """Let them hold that again."""
        for x, then, now in zip(self.held, contents, self.now(), strict=True):
            if now.keys() != then.keys() or any(now[k] is not v for k, v in then.items()):
                _fill(x, then)

    def write(self, entries: Iterable[Entry], values: Iterable[Any]) -> None:
        """Store new values."""
        new = [dict(b) for b in self.before]
        for (i, key), value in zip(entries, values, strict=True):
            new[i][key] = value
        for x, contents in zip(self.held, new, strict=True):
            _fill(x, contents)

    def initial(self, entry: Entry) -> Any:
        """What an entry held before."""
        return self.before[entry[0]].get(entry[1], GONE)

    def type_of(self, entry: Entry) -> Any:
        """The same as `peek` gives it."""
        value = self.initial(entry)
        return (
            tree.map(lambda x: Struct(as_handle(x, "a value")), value) if is_array(value) else value
        )

    def refuse(self, entry: Entry, what: str, line: str) -> None:
        """Raise the error for an entry that only one path adds or deletes."""
        raise changed_error(self.texts[entry[0]], self.held[entry[0]], what, line)


class Watch:
    """The other objects that something is stored in, and what was in them."""

    def __init__(self, watched: Watched, objects: Objects):
        self.found = [
            (text, x, _inside(x))
            for text, x, certain in watched
            if certain and not objects.takes(x) and _inside(x) is not None
        ]

    def check(self, what: str, line: str) -> None:
        """Raise if one has changed."""
        for text, x, before in self.found:
            if _inside(x) != before:
                raise changed_error(text, x, what, line)


def _inside(x: Any) -> Any:
    """What is compared to see whether an object was changed; None if it is nothing to watch."""
    if isinstance(x, list | tuple):
        return [id(v) for v in x]
    if isinstance(x, dict):
        return {k: id(v) for k, v in x.items()}
    if isinstance(x, set):
        return set(map(id, x))
    if isinstance(x, Handle | type | types.ModuleType | types.FunctionType):
        return None
    return {k: id(v) for k, v in vars(x).items()} if hasattr(x, "__dict__") else None


GONE = object()
"""In the place of an entry that is not there."""


def changed_error(text: str, x: Any, what: str, line: str) -> TypeError:
    """The error for an object that a traced branch or loop changes in a way that has no form."""
    return TypeError(
        f"{text}, a {type(x).__name__}, is changed in the {what} at {line}, which a traced value "
        "controls.\n"
        "Why: whether and how often it runs is known only when the program runs, so it cannot "
        "decide how many entries there are; Python objects change while it is traced.\n"
        "Write instead: entries that are there before (items, keys, attributes), which may get new "
        "arrays; a bv.ref cell; or lax.scan, which stacks what each step returns."
    )
