"""The user's handle on a value, as far as the lower floors need it.

A handle has a *value* (NumPy array, device buffer or tracer) and a *tag*: None, `WEAK` (the value
came from Python scalars and takes the dtype of what it meets), `WeakIf` (that depends on arguments
of a trace) or a `KeyTag` (the value is a random key). The class users see, `bevel.Array`, adds
operators and methods in `bevel/numpy/array.py`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np

from bevel.core.buffer import Buffer
from bevel.core.source import Spot


class _Weak:
    __slots__ = ()

    def __repr__(self) -> str:
        return "WEAK"

    def __reduce__(self):
        return "WEAK"


WEAK = _Weak()


class Weakness:
    """Whether an argument of a trace is weak, and whether the traced program depends on it."""

    __slots__ = ("matters", "weak")

    def __init__(self, weak: bool):
        self.weak = weak
        self.matters = False


class WeakIf:
    """The tag of a traced value that is weak if all of the `given` arguments are.

    As long as nobody asks (`is_weak`), the program is the same for weak and other arguments.
    """

    __slots__ = ("given",)

    def __init__(self, given: Iterable[Weakness]):
        self.given = frozenset(given)


def weak_now(tag: Any) -> bool:
    """Whether a value is weak, for who makes no difference of it."""
    return all([w.weak for w in tag.given]) if type(tag) is WeakIf else tag is WEAK


def is_weak(tag: Any) -> bool:
    """Whether a value takes the dtype of what it meets, for who makes a difference of it."""
    if type(tag) is WeakIf:
        for w in tag.given:
            w.matters = True
    return weak_now(tag)


def weak_together(tags: Iterable[Any]) -> Any:
    """The tag of a value that is weak if all these are."""
    given: frozenset[Weakness] = frozenset()
    for tag in tags:
        if type(tag) is WeakIf:
            given |= tag.given
        elif tag is not WEAK:
            return None
    return WeakIf(given) if given else WEAK


KEY_WORDS = {"threefry2x32": 2, "rbg": 4, "unsafe_rbg": 4, "philox": 2}
"""How many uint32 words a key of each generator has."""


_serials = itertools.count()


class KeyTag:
    """Marks a random key: which generator it is for, where it was consumed, and its parts. `serial`
    tells which of two tags is older.

    The value of a key array has one more trailing axis, of `words` uint32, than the user sees.
    """

    __slots__ = ("children", "impl", "serial", "used")

    def __init__(self, impl: str = "threefry2x32"):
        self.impl = impl
        self.used: Spot | None = None
        self.serial = next(_serials)
        self.children: dict[Any, Handle] = {}

    @property
    def words(self) -> int:
        return KEY_WORDS[self.impl]

    def fresh(self) -> KeyTag:
        """The tag of another key of the same kind, not consumed yet."""
        return KeyTag(self.impl)


class Handle:
    """A value and its tag; immutable for users."""

    __slots__ = ("__weakref__", "_held", "_tag")

    def __init__(self, held: Any, tag: Any = None):
        self._held = held
        self._tag = tag

    @property
    def _v(self) -> Any:
        """The value: a NumPy array, a `Buffer` or a tracer."""
        held = self._held
        if type(held) is raw_type:
            held = self._held = Buffer(held)
        return held


raw_type: type | None = None
"""The class of the runtime's arrays, once it is loaded."""


def set_raw_type(cls: type) -> None:
    """Install the class of the runtime's arrays, which handles may hold until they are looked at.

    So that a chain of compiled calls never makes a `Buffer`.
    """
    global raw_type
    raw_type = cls


_handle_type: type = Handle


def set_handle_type(cls: type) -> None:
    """Install the class users see; called once, by the module that defines it."""
    global _handle_type
    _handle_type = cls


def wrap(value: Any, tag: Any = None) -> Any:
    """A user's handle on a value."""
    return _handle_type(value, tag)


def fresh_tag(tag: Any) -> Any:
    """A tag for another value of the same kind."""
    return tag.fresh() if type(tag) is KeyTag else tag


def tag_key(tag: Any) -> Any:
    """What tells tags of one kind from others."""
    return tag.impl if type(tag) is KeyTag else tag


def logical_shape(handle: Handle) -> tuple[int, ...]:
    """The shape users see."""
    shape = tuple(handle._v.shape)
    return shape[:-1] if type(handle._tag) is KeyTag else shape


def read_only(array: np.ndarray) -> np.ndarray:
    """A view that cannot be written."""
    if not array.flags.writeable:
        return array
    view = array.view()
    view.flags.writeable = False
    return view
