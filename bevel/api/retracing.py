"""Why a jitted function is traced again: said in a warning, an error, or to who asks."""

from __future__ import annotations

import inspect
import sys
import threading
import types
import warnings
from collections.abc import Sequence
from typing import Any

from bevel.api.flat import argument_name, cells_of, structure_key, type_text
from bevel.core import forks, tree
from bevel.core.aval import aval_of
from bevel.core.errors import RetraceError, RetraceWarning
from bevel.core.handle import Handle, KeyTag, weak_now
from bevel.core.source import user_source, where

WARN_FROM = 6
"""The trace of one function that is warned about first; the next ones are its double and so on."""

NEW_FUNCTIONS = 10
"""So many jitted functions of one piece of code, with one signature, are one made at every call."""

Parts = dict[str, tuple[str, Any]]
"""What a trace depends on: by name, of which kind it is and its value."""


class explain_retraces(list):
    """A block in which each retrace is printed with its cause, and kept in this list.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> f = bv.jit(lambda x: x + 1)
    >>> with bv.debug.explain_retraces() as seen:
    ...     y = f(bnp.ones(2)), f(bnp.ones(3))
    >>> len(seen), "the shape of x: float32[2], then float32[3]" in seen[0]
    (1, True)
    """

    def __enter__(self) -> explain_retraces:
        _listening.append(self)
        return self

    def __exit__(self, *exc: Any) -> None:
        _listening.remove(self)


_listening: list[explain_retraces] = []
_lock = threading.Lock()
forks.renew(globals(), _lock=threading.Lock)


def parts_of(
    fun: Any,
    args: tuple,
    kwargs: dict[str, Any],
    leaves: Sequence[Any],
    static: Sequence[tuple[Any, Any]],
    settings: Any,
) -> Parts:
    """What a call's trace depends on.

    Args:
        fun: the user's function.
        args: positional arguments that are not static.
        kwargs: keyword arguments that are not static.
        leaves: their leaves, as handles and stateful objects.
        static: positions or names of static arguments, and their values.
        settings: anything else, such as settings and axes.
    """
    parts: Parts = {}
    for where_, value in static:
        name = argument_name(fun, where_) if isinstance(where_, int) else where_
        parts[_plain(name)] = ("static", value)
    taken = {w for w, _ in static if isinstance(w, int)}
    places = [i for i in range(len(args) + len(taken)) if i not in taken]
    paths, _ = tree.flatten_with_path((args, kwargs))
    for (path, _), leaf in zip(paths, leaves, strict=True):
        head, *rest = path[1:]
        named = path[0].idx == 1
        name = str(head.key) if named else _plain(argument_name(fun, places[head.idx]))
        name += tree.keystr(tuple(rest))
        if isinstance(leaf, Handle):
            parts[name] = ("array", (aval_of(leaf._v), leaf._tag))
            continue
        parts[name] = ("object", structure_key(leaf))
        for i, cell in enumerate(cells_of(leaf) or ()):
            content = cell._read()
            kind = (aval_of(content._v), None) if isinstance(content, Handle) else content
            parts[f"{name}, {type(cell).__name__} {i}"] = ("state", kind)
    parts["settings"] = ("settings", settings)
    return parts


def _plain(name: str) -> str:
    """`x` of `argument 0 (x)`."""
    return name.rsplit("(", 1)[1].rstrip(")") if name.endswith(")") else name


def _text(kind: str, value: Any) -> str:
    if kind in ("array", "state") and isinstance(value, tuple):
        aval, tag = value
        return type_text(aval, tag) + (" from a Python number" if weak_now(tag) else "")
    text = repr(value)
    return text if len(text) < 60 else type(value).__name__


def _value(x: Any) -> str:
    """The value of a variable that a function reads from around it."""
    return repr(x[1])[:60] if isinstance(x, tuple) else f"a {type(x.held).__name__}"


def _difference(name: str, old: tuple[str, Any], new: tuple[str, Any]) -> str | None:
    kind, a, b = new[0], old[1], new[1]
    then = f"{_text(old[0], a)}, then {_text(kind, b)}"
    if old[0] != kind:
        return f"what {name} is: {then}"
    if kind == "array":
        if a[0] is b[0]:
            tags = [t.impl if type(t) is KeyTag else weak_now(t) for t in (a[1], b[1])]
            return None if tags[0] == tags[1] else f"the weak type of {name}: {then}"
        what = "shape" if a[0].dtype == b[0].dtype else "dtype"
        return f"the {what} of {name}: {then}"
    if kind == "object":
        return None if a is b else f"the structure of {name}: an attribute or a layer has changed"
    if a is b or (type(a) is type(b) and a == b):
        return None
    if kind == "outside":
        return f"the variable {name}: {_value(a)}, then {_value(b)}"
    if kind == "static":
        if isinstance(a, types.FunctionType) and a.__code__ is getattr(b, "__code__", None):
            return f"the static argument {name}: a new function at every call, with the same code"
        return f"the value of the static argument {name}: {then}"
    return f"the state in {name}: {then}" if kind == "state" else "settings or axis names"


def differences(old: Parts, new: Parts) -> list[str]:
    """In words, what of `new` is not as in `old`."""
    if old.keys() != new.keys():
        gone = [n for n in old if n not in new]
        more = [n for n in new if n not in old]
        text = ", ".join([*[f"{n} is gone" for n in gone[:3]], *[f"{n} is new" for n in more[:3]]])
        return [f"the structure of the arguments: {text}"]
    found = [d for n in new if (d := _difference(n, old[n], new[n])) is not None]
    # A weak type seldom matters: it is the cause if there is no other.
    return [d for d in found if not d.startswith("the weak type")] or found


_FIXES = {
    "shape": "pad to a few sizes, or bv.jit(bv.vmap(f), batch_buckets='pow2') for batches of rows",
    "dtype": "one dtype, such as x.astype('float32') where the data enters",
    "weak": "an array in both calls: bnp.float32(x)",
    "variable": "an argument for what changes from call to call",
    "value": "an array instead of a static value, if the program does not depend on it",
    "static": "define the function once, outside of the loop",
    "state": "keep shapes and dtypes of state cells as they are",
    "structure": "one structure, and modules that are built once",
}


def _fix(causes: Sequence[str]) -> str:
    for cause in causes:
        for word, fix in _FIXES.items():
            if cause.startswith(f"the {word}"):
                return fix
    return "the same kinds of arguments in each call"


def note(
    what: str, seen: list[Parts], new: Parts, max_traces: int | None, warns: bool = True
) -> None:
    """A function that was traced for `seen` has been traced for `new`; say so if it asks for it.

    Raises:
        RetraceError: that is more often than `max_traces` allows.
    """
    seen.append(new)
    if len(seen) == 1:
        return
    causes = min((differences(old, new) for old in reversed(seen[:-1])), key=len)
    here = user_source()
    text = (
        f"{what} is traced again at {where(here)}, for the {_ordinal(len(seen))} time. What is "
        f"new is {'; '.join(causes) or 'what it closes over'}.\n"
        "Why: a program is compiled for exact shapes, dtypes, structures and static values.\n"
        f"Write instead: {_fix(causes)}."
    )
    for listener in tuple(_listening):  # another thread may end its block
        listener.append(text)
        print(text, file=sys.stderr)
    if max_traces is not None and len(seen) > max_traces:
        seen.pop()
        raise RetraceError(f"{text}\njit was given max_traces={max_traces}.")
    warn = WARN_FROM
    while warn < len(seen):
        warn *= 2
    if warns and warn == len(seen) and max_traces is None:
        _warn(text, here)


def _ordinal(n: int) -> str:
    special = {1: "st", 2: "nd", 3: "rd"}
    return f"{n}{'th' if n % 100 in (11, 12, 13) else special.get(n % 10, 'th')}"


def _warn(text: str, here: Any) -> None:
    file, line = (here.file, here.line) if here else ("<unknown>", 0)
    warnings.warn_explicit(text, RetraceWarning, file, line)


_SIMPLE = (bool, int, float, complex, str, bytes, type(None))


def _made_of(x: Any, depth: int = 4) -> Any:
    """What tells one function of some code from another: what it closes over, but for arrays."""
    if isinstance(x, types.FunctionType) and depth:
        inside = [*inspect.getclosurevars(x).nonlocals.values(), *(x.__defaults__ or ())]
        return x.__code__, tuple([_made_of(v, depth - 1) for v in inside])
    if isinstance(x, Handle):
        return aval_of(x._v)
    if isinstance(x, tuple) and depth:
        return tuple([_made_of(v, depth - 1) for v in x])
    return (type(x), x) if isinstance(x, _SIMPLE) else id(x)


_made: dict[types.CodeType, tuple[Any, int]] = {}
"""Of each code that was jitted, what the last function of it was made of, and how often it was."""


def note_new(what: str, fun: Any, key: Any) -> None:
    """A function is jitted and traced for the first time; warn if one that only closes over other
    arrays was, again and again, for the same signature.
    """
    if not isinstance(fun, types.FunctionType):
        return
    signature = hash((_made_of(fun), key))
    with _lock:
        known, count = _made.get(fun.__code__, (signature, 0))
        count = count + 1 if known == signature else 1
        _made[fun.__code__] = (signature, count)
    if count == NEW_FUNCTIONS:
        here = user_source()
        _warn(
            f"{what} is a new function at every call: {count} of the same code were traced, each "
            f"for the same arguments, the last at {where(here)}.\n"
            "Why: a jitted function keeps its programs; a new one has none and compiles again.\n"
            "Write instead: define and jit it once, outside of the loop, and pass what changes as "
            "an argument.",
            here,
        )
