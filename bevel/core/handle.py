"""The user's handle on a value, as far as the lower floors need it.

A handle has a *value* (NumPy array, device buffer or tracer) and a *tag*: None, `WEAK` (the value
came from Python scalars and takes the dtype of what it meets) or a `KeyTag` (the value is a random
key). The class users see, `bevel.Array`, adds operators and methods in `bevel/numpy/array.py`.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from bevel.core.buffer import Buffer
from bevel.core.source import Source


class _Weak:
    __slots__ = ()

    def __repr__(self) -> str:
        return "WEAK"

    def __reduce__(self):
        return "WEAK"


WEAK = _Weak()


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
        self.used: Source | None = None
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
    """What of a tag a trace depends on."""
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
