"""Packages whose parts load when they are first used (PEP 562).

A package's `__init__` lists which module has which names; nothing of it is imported before
somebody asks.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bevel.core import forks

_lock = threading.RLock()
"""Held while a part loads. Threads that import overlapping modules in different orders otherwise
see half of one: Python breaks the deadlock of their import locks that way, and NumPy fails.
"""

forks.renew(globals(), _lock=threading.RLock)

_PATIENCE = 10.0
"""Seconds to wait for another thread, which may wait for an `import` statement of this one."""


def _loaded(module: str) -> Any:
    held = _lock.acquire(timeout=_PATIENCE)
    try:
        return importlib.import_module(module)
    finally:
        if held:
            _lock.release()


def attach(
    package: str,
    parts: Mapping[str, Sequence[str]],
    modules: Mapping[str, str] | None = None,
    instead: Mapping[str, str] | None = None,
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """The `__getattr__`, `__dir__` and `__all__` of a package.

    Args:
        package: its name.
        parts: for each module, the names it gives to the package ("x as y": under another name).
        modules: names in the package that stand for whole modules.
        instead: what to write for names that other libraries have and this package does not.

    >>> get, _, names = attach("bevel.core", {"bevel.core.dtypes": ["promote_types"]})
    >>> names, get("promote_types").__name__
    (['promote_types'], 'promote_types')
    """
    where = {}
    for module, names in parts.items():
        for entry in names:
            original, _, alias = entry.partition(" as ")
            where[alias or original] = (module, original)
    whole = dict(modules or {})
    every = sorted([*where, *whole])

    def __getattr__(name: str) -> Any:
        if name in where:
            module, original = where[name]
            found = getattr(_loaded(module), original)
        elif name in whole:
            found = _loaded(whole[name])
        else:
            write = (instead or {}).get(name)
            hint = f".\nWrite instead: {write}." if write else _similar(name, every)
            raise AttributeError(f"module {package!r} has no attribute {name!r}{hint}")
        setattr(sys.modules[package], name, found)
        return found

    return __getattr__, lambda: every, every


def _similar(name: str, known: Sequence[str]) -> str:
    if name.startswith("__"):
        return ""
    import difflib

    close = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {close[0]!r}?" if close else ""
