"""Who waits for a device, and what crosses to or from it: for `bv.debug.host_syncs` and
`bv.transfer_guard`.

`client` asks `on` and nothing else while neither is in use.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from bevel.core import config, forks
from bevel.core.source import Source, is_internal, where

_NUMPY = os.path.dirname(np.__file__) + os.sep

on = False
"""Whether some thread guards transfers or records waits."""

_lock = threading.Lock()
forks.renew(globals(), _lock=threading.Lock)
_users: set[Any] = set()

LEVELS = {
    "host_to_device": "transfer_guard_host_to_device",
    "device_to_host": "transfer_guard_device_to_host",
    "device_to_device": "transfer_guard_device_to_device",
}
_INSTEAD = {
    "host_to_device": "bv.device_put(x) where the data is made, before the loop",
    "device_to_host": "bv.device_get(x) where the value is needed, or keep it on the device",
    "device_to_device": "bv.device_put(x, device)",
}
_SPELLED = {
    "__float__": "float(x)",
    "__int__": "int(x)",
    "__index__": "use of x as an index",
    "__bool__": "bool(x)",
    "__complex__": "complex(x)",
    "__array__": "np.asarray(x)",
    "__buffer__": "memoryview(x)",
    "__dlpack__": "from_dlpack(x)",
    "__repr__": "print(x)",
    "__str__": "print(x)",
    "__format__": "print(x)",
    "__iter__": "iteration over x",
    "__reduce__": "pickling x",
    "item": "x.item()",
    "tolist": "x.tolist()",
    "tobytes": "x.tobytes()",
    "device_get": "device_get(x)",
}
"""What a user wrote, by the function of Bevel that was entered: ways from a device to the host."""


class _Local(threading.local):
    """The open records of a thread, and how deep it is in what a user asked for by name."""

    def __init__(self):
        self.records: tuple[list[Sync], ...] = ()
        self.explicit = 0


_local = _Local()


def _use(user: Any, used: bool) -> None:
    global on
    with _lock:
        (_users.add if used else _users.discard)(user)
        on = bool(_users)


class explicit:
    """A block in which transfers are what the user asked for."""

    __slots__ = ()

    def __enter__(self) -> None:
        _local.explicit += 1

    def __exit__(self, *exc: object) -> None:
        _local.explicit -= 1


def _entered() -> tuple[str, str]:
    """The function of Bevel that was entered, and the user's line that led there, maybe through
    NumPy.
    """
    frame: Any = sys._getframe(1)
    name = ""
    while frame is not None:
        code = frame.f_code
        if is_internal(code.co_filename):
            name = code.co_name
        elif not code.co_filename.startswith(_NUMPY):
            return name, str(Source(code.co_filename, frame.f_lineno, code.co_name))
        frame = frame.f_back
    return name, where(None)


# -- waits -----------------------------------------------------------------------------------------


class Sync:
    """A wait of the host for a device: `where` (the user's line), `what` they wrote, the `aval` of
    what was waited for (None: several), and for how many `seconds`.
    """

    __slots__ = ("aval", "seconds", "what", "where")

    def __init__(self, where: str, what: str, aval: Any):
        self.where = where
        self.what = what
        self.aval = aval
        self.seconds = 0.0

    def __repr__(self) -> str:
        return f"{self.what} of {self.aval or 'arrays'} at {self.where}: {self.seconds:.6f} s"


class wait:
    """A block that waits for buffers, and reads those of `platform` on the host if it is given."""

    __slots__ = ("start", "sync")

    def __init__(self, buffers: Sequence[Any], platform: str | None = None):
        entered, place = _entered()
        what = _SPELLED.get(entered, entered)
        aval = buffers[0].aval if len(buffers) == 1 else None
        if platform is not None and (platform != "cpu" or entered in _SPELLED):
            guard("device_to_host", aval, what)
        self.sync = Sync(place, what, aval)

    def __enter__(self) -> None:
        self.start = time.perf_counter()

    def __exit__(self, *exc: object) -> None:
        self.sync.seconds = time.perf_counter() - self.start
        for record in _local.records:
            record.append(self.sync)


class recording:
    """A block that keeps this thread's waits in a list."""

    def __init__(self) -> None:
        self.found: list[Sync] = []

    def __enter__(self) -> list[Sync]:
        _local.records = (*_local.records, self.found)
        _use(self, True)
        return self.found

    def __exit__(self, *exc: object) -> None:
        _local.records = tuple([r for r in _local.records if r is not self.found])
        _use(self, False)


# -- guards ----------------------------------------------------------------------------------------


def level(direction: str) -> str:
    """What happens on a transfer, in this thread."""
    return config.get(LEVELS[direction]) or config.get("transfer_guard")


def guard(direction: str, aval: Any, what: str) -> None:
    """Report a transfer, or refuse it.

    Raises:
        RuntimeError: it is not allowed.
    """
    found = level(direction)
    if found == "allow" or (_local.explicit and not found.endswith("_explicit")):
        return
    kind = "explicit" if _local.explicit else "implicit"
    text = f"{kind} {direction.replace('_', '-')} transfer of {aval} by {what}"
    if found.startswith("log"):
        import logging  # here, since it is slow to load and seldom wanted

        logging.getLogger("bevel.transfers").warning("%s at %s", text, _entered()[1])
        return
    raise RuntimeError(
        f"{text}, at {_entered()[1]}.\n"
        f"Why: {LEVELS[direction]} is {found!r} here (bv.transfer_guard).\n"
        f"Write instead: {_INSTEAD[direction]}; or with bv.{LEVELS[direction]}('allow'): around "
        "this line."
    )


def host_data(x: Any) -> None:
    """Called with NumPy's and Python's data among the arguments of a compiled program."""
    shape, dtype = getattr(x, "shape", ()), getattr(x, "dtype", type(x).__name__)
    guard("host_to_device", f"{dtype}[{','.join(map(str, shape))}]", "a call of a jitted function")


def _guarded() -> bool:
    return any(level(direction) != "allow" for direction in LEVELS)


def _changed() -> None:
    _use(("guard", threading.get_ident()), _guarded())


config.on_change(("transfer_guard", *LEVELS.values()), _changed)
_changed()
