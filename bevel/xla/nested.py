"""How deep a thread is in callbacks: programs that a callback runs use threads of their own.

XLA's CPU client has a fixed number of threads, and a callback blocks one until it returns. If the
callback ran another program on the same threads and waited for it, a few such callbacks at once
would wait for ever. So programs that a callback runs go to a second client with its own threads,
those of their callbacks to a third, and so on: who waits, waits for a deeper one, and the deepest
is free. See docs/decisions/threads-and-fork.md.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from bevel.core import forks
from bevel.xla import bindings


class _Thread(threading.local):
    depth = 0


_thread = _Thread()

active: list[None] = []
"""An item for each callback that is running, in any thread: while it is empty nobody looks on."""


def depth() -> int:
    """In how many callbacks this thread is; 0 outside of any."""
    return _thread.depth


class Callback:
    """A callback of a program that runs at some depth. XLA's threads call it, which do not know."""

    __slots__ = ("depth", "fn")

    def __init__(self, fn: Callable[..., Any], depth: int):
        self.fn = fn
        self.depth = depth

    def __call__(self, *args: Any) -> Any:
        """Call the function, one deeper."""
        before, _thread.depth = _thread.depth, self.depth + 1
        active.append(None)
        try:
            return self.fn(*args)
        finally:
            active.pop()
            _thread.depth = before


def at_depth(callbacks: Sequence[Callable[..., Any]], depth: int) -> list[Callback]:
    """The callbacks of a program that runs at this depth."""
    return [Callback(fn, depth) for fn in callbacks]


clients: dict[int, Any] = {}
_lock = threading.Lock()
forks.renew(globals(), _lock=threading.Lock)


def client(depth: int, num_threads: int) -> Any:
    """The CPU client of a depth, made at the first call."""
    with _lock:
        if depth not in clients:
            clients[depth] = bindings.cpu_client(1, num_threads, asynchronous=False)
        return clients[depth]
