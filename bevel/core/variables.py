"""Which of the user's variables hold an array: for messages, since looking takes its time."""

from __future__ import annotations

from collections.abc import Iterator
from types import FrameType, FunctionType, ModuleType
from typing import Any

import numpy as np

from bevel.core import handle, tree
from bevel.core.buffer import Buffer
from bevel.core.handle import Handle
from bevel.core.ref import Cell, Slot
from bevel.core.source import is_internal, user_frame

FRAMES = 8
"""So many of the user's frames are looked into, the innermost first."""

_LONG = 10_000
_NO_ARRAYS = ModuleType, FunctionType, type, str, bytes


def named_arrays(frames: int = FRAMES) -> Iterator[tuple[str, str, Any]]:
    """The arrays that variables of the running functions and of their modules hold: how they are
    reached (`state['w']`), the function or module, and NumPy's or the runtime's array itself.
    """
    frame: FrameType | None = user_frame()
    seen: set[int] = set()
    while frame is not None and frames > 0:
        if not is_internal(frame.f_code.co_filename):
            frames -= 1
            where = str(frame.f_globals.get("__name__"))
            scopes = [(where, frame.f_globals)] if id(frame.f_globals) not in seen else []
            seen.add(id(frame.f_globals))
            if frame.f_code.co_name != "<module>":
                scopes.insert(0, (frame.f_code.co_name, frame.f_locals))
            for owner, scope in scopes:
                for name, value in list(scope.items()):
                    for path, held in _arrays_in(value):
                        yield name + path, owner, held
        frame = frame.f_back


def name_of_array(held: Any) -> str | None:
    """What the running function calls an array (NumPy's or the runtime's)."""
    return next((name for name, _, found in named_arrays(1) if found is held), None)


def _arrays_in(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, _NO_ARRAYS):
        return
    if isinstance(value, Handle):
        yield "", held_by(value)
        return
    if isinstance(value, list | tuple | dict) and len(value) > _LONG:
        return
    try:
        found = tree.leaves_with_path(value)
    except Exception:  # a user's container that does not flatten has no part in this error
        return
    for path, leaf in found:
        place = tree.keystr(path)
        if isinstance(leaf, Handle):
            yield place, held_by(leaf)
        elif isinstance(leaf, Cell):
            yield place, _content(leaf)
        elif hasattr(leaf, "__bevel_structure__") and not isinstance(leaf, type):
            for cell in leaf.__bevel_structure__().cells:
                yield place + leaf.__bevel_place__(cell), _content(cell)


def held_by(h: Handle) -> Any:
    """NumPy's or the runtime's array in a handle (or a tracer)."""
    held = h._held
    return held.raw if type(held) is Buffer else held


def _content(cell: Cell) -> Any:
    content = cell._content
    if type(content) is Slot:  # in a buffer of its own, or beside others, which have no name then
        buffer, start = content.store.places[content.index]
        return content.store.buffers[buffer] if start is None else None
    return held_by(content) if isinstance(content, Handle) else None


def is_array(held: Any) -> bool:
    """Whether this is NumPy's array or the runtime's, and not a tracer."""
    return type(held) is np.ndarray or (
        handle.raw_type is not None and type(held) is handle.raw_type
    )
