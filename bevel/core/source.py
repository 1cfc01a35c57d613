"""Where in the user's own code something happened."""

from __future__ import annotations

import itertools
import os
import sys
import threading
from types import CodeType, FrameType
from typing import Any, NamedTuple

import numpy as np

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_NUMPY = os.path.dirname(np.__file__) + os.sep
_internal: dict[str, bool] = {}


class _Scopes(threading.local):
    """The open named scopes; and the source of the equation that is being run again, if one is."""

    def __init__(self):
        self.names: tuple[str, ...] = ()
        self.replayed: Source | None = None


_scopes = _Scopes()


class replay:
    """A block that runs equations again: set `replayed` on what it gives to the source of each.

    So an op that a transform makes from one in a loop or a jitted function keeps that one's line.
    In a block that sets nothing, lines are those of the running code: for rules that users write.
    """

    __slots__ = ("saved",)

    def __enter__(self) -> _Scopes:
        self.saved = _scopes.replayed
        _scopes.replayed = None
        return _scopes

    def __exit__(self, *exc: object) -> None:
        _scopes.replayed = self.saved


def push_scope(name: str) -> None:
    """Open a named scope (`bv.named_scope`)."""
    _scopes.names = (*_scopes.names, name)


def pop_scope() -> None:
    """Close the innermost named scope."""
    _scopes.names = _scopes.names[:-1]


class Source(NamedTuple):
    """A line of the user's code, and the named scopes it ran in ("outer/inner")."""

    file: str
    line: int
    function: str
    scope: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line} ({self.function})"


class Argument(NamedTuple):
    """Where a traced value comes from that is an argument: its name, and of which function."""

    name: str
    what: str
    place: str

    def __str__(self) -> str:
        return f"argument {self.name} of {self.what} at {self.place}"


def origin(of: Any) -> str:
    """Where a traced value comes from, to stand behind its type: `, made at ...,`; or nothing."""
    if of is None:
        return ""
    return f", {of}," if isinstance(of, Argument) else f", made at {of},"


def is_internal(filename: str) -> bool:
    """Tell whether a file is part of Bevel, or of what it calls users through."""
    known = _internal.get(filename)
    if known is None:
        third_party = f"{os.sep}optree{os.sep}" in filename or filename.endswith("functools.py")
        third_party |= filename.startswith(_NUMPY)
        known = _internal[filename] = (
            filename.startswith(_ROOT) or filename.startswith("<frozen") or third_party
        )
    return known


def user_frame():
    """The innermost frame outside Bevel, or None."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and is_internal(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def user_source() -> Source | None:
    """The user's line that is running now."""
    if _scopes.replayed is not None:
        return _scopes.replayed
    frame = user_frame()
    if frame is None:
        return None
    return Source(
        frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name, "/".join(_scopes.names)
    )


def is_replaying() -> bool:
    """Whether an equation is being run again, whose line is not the one that is running."""
    return _scopes.replayed is not None


Spot = tuple[CodeType, int]
"""An instruction of the user's: quick to note, for what may never be reported (`source_of`)."""


Span = tuple[int | None, int | None, int | None, int | None]


def user_spot(above: int = 0) -> Spot | None:
    """The user's instruction that is running now: not in the caller, nor in so many above it."""
    try:
        frame: FrameType | None = sys._getframe(2 + above)
    except ValueError:  # called by no Python code, as at the exit of the interpreter
        return None
    while frame is not None:
        code = frame.f_code
        known = _internal.get(code.co_filename)
        if not (is_internal(code.co_filename) if known is None else known):
            return code, frame.f_lasti
        frame = frame.f_back
    return None


def source_of(spot: Spot | None) -> Source | None:
    """The line of an instruction."""
    if spot is None:
        return None
    code, at = spot
    line = position(code, at)[0] or code.co_firstlineno
    return Source(code.co_filename, line, code.co_name)


def position(code: CodeType, at: int) -> Span:
    """First and last line, first and last column of an instruction; None for what is not known."""
    return next(itertools.islice(code.co_positions(), at // 2, None), (None,) * 4)


def where(source: Source | None) -> str:
    """A source for messages."""
    return "an unknown place" if source is None else str(source)
