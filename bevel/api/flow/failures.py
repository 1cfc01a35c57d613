"""`raise` and `assert` that a traced value decides about: they happen when the program runs."""

from __future__ import annotations

import threading
import types
from collections.abc import Callable
from typing import Any

import bevel.numpy as bnp
from bevel.api.callbacks import io_callback
from bevel.api.flow.values import is_array, is_traced, truth, value
from bevel.core import errors, tree
from bevel.core.handle import Handle, KeyTag


class _Trying(threading.local):
    """Where the `try` statements with an `except` stand that are being traced, outermost first."""

    def __init__(self):
        self.places: list[str] = []


_trying = _Trying()


class Trying:
    """The block of a `try` statement with an `except`."""

    def __init__(self, place: str):
        self.place = place

    def __enter__(self) -> None:
        _trying.places.append(self.place)

    def __exit__(self, *exc: object) -> None:
        _trying.places.pop()


class _Loops(threading.local):
    """What tells whether a loop goes on, of the traced loops whose body is being traced."""

    def __init__(self):
        self.going: list[Callable[[], Any]] = []


_loops = _Loops()


class Step:
    """The block of a step of a traced loop, which goes on while `going()`.

    Under `vmap` the body is run on rows that have stopped, too: what it raises is not theirs.
    """

    def __init__(self, going: Callable[[], Any]):
        self.going = going

    def __enter__(self) -> None:
        _loops.going.append(self.going)

    def __exit__(self, *exc: object) -> None:
        _loops.going.pop()


class Raise:
    """A user's `raise`: what makes its error, where it stands, and in which `try`."""

    __slots__ = ("make", "place", "trying")

    def __init__(self, make: Callable[[], Any], place: str):
        self.make = make
        self.place = place
        self.trying = _trying.places[-1] if _trying.places else None


def raised(make: Callable[[], Any], place: str) -> Any:
    """What `raise` gets: the user's error, marked as such."""
    try:
        error = make()
    except errors.TracerConversionError as e:
        error = e  # its text wants values, which only the program has
    if isinstance(error, type) and issubclass(error, Exception):
        error = error()
    if isinstance(error, Exception):
        vars(error)["__bevel_raise__"] = Raise(make, place)
    return error


def raise_of(error: Exception) -> Raise | None:
    """The `raise` statement that an error comes from, if it is one in a rewritten function."""
    return getattr(error, "__bevel_raise__", None)


def refuse_caught(found: Raise, line: str) -> None:
    """Raise if the error of a traced branch is to be caught while the function is traced."""
    if found.trying is None:
        return
    error = errors.TracerBoolConversionError(
        f"the `if` at {line} has a traced condition, one of its branches raises at {found.place}, "
        f"and an `except` of the `try` at {found.trying} may catch that.\n"
        "Why: whether it is raised is known only when the program runs; then nothing is caught.\n"
        "Write instead: bnp.where(pred, a, b), or a branch that binds what the `except` block does."
    )
    errors.unanswered.final = error
    raise error


def fail(make: Callable[[], Any], place: str, ok: Any = False) -> None:
    """Raise what `make` gives (an error, or the text of an AssertionError) when the program gets
    here and `ok` is false; `make` runs then, with the values of the variables it reads.
    """
    code, scope = make.__code__, make.__globals__
    cells, traced = {}, {}  # the variables it reads: those known now, and the others
    for name, cell in zip(code.co_freevars, make.__closure__ or (), strict=True):
        content = value(lambda cell=cell: cell.cell_contents, name)
        if _is_known_later(content):
            traced[name] = content
        else:
            cells[name] = cell if not _holds_traced(content) else types.CellType(repr(content))

    def go(good: Any, values: dict[str, Any]) -> None:
        if good:
            return
        known = {k: types.CellType(tree.map(bnp.asarray, v)) for k, v in values.items()}
        closure = tuple([(known | cells)[name] for name in code.co_freevars])
        error = types.FunctionType(code, scope, code.co_name, None, closure)()
        if isinstance(error, type):
            error = error()
        if not isinstance(error, BaseException):
            error = AssertionError(error)
        error.add_note(f"Raised at {place}, by a compiled program.")
        raise error

    for going in _loops.going:
        ok = bnp.logical_or(ok, bnp.logical_not(going()))
    io_callback(go, None, ok, traced)


def _holds_traced(x: Any) -> bool:
    return any(map(is_traced, tree.leaves(x)))


def _is_known_later(x: Any) -> bool:
    """Whether a variable holds arrays, some of them traced, that a callback can be given."""
    keys = any(isinstance(v, Handle) and type(v._tag) is KeyTag for v in tree.leaves(x))
    return _holds_traced(x) and is_array(x) and not keys


def _no_message() -> AssertionError:
    return AssertionError()


def check(test: Any, message: Callable[[], Any] | None, place: str) -> None:
    """`assert test, message`; a traced one is checked when the program runs."""
    if is_traced(test):
        fail(message or _no_message, place, truth(test))
    elif not test:
        raise AssertionError if message is None else AssertionError(message())
