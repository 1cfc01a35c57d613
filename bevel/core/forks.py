"""What a forked child needs: locks nobody holds, and to know that devices stayed with its parent.

Of a process's threads only the one that forks lives on in the child. A lock that another one held
would stay locked there, and XLA's clients, which are threads, are gone. See
docs/decisions/threads-and-fork.md.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

stale = False
"""Whether this process was forked from one whose devices were in use."""


PATIENCE = 5.0
"""Seconds that a fork waits for other threads, at most."""

_hooks: dict[str, list[Callable[[], Any]]] = {
    "before": [],
    "after_in_parent": [],
    "after_in_child": [],
}


def at_fork(**hooks: Callable[[], Any]) -> None:
    """As `os.register_at_fork`, but those `before` run in the order in which they are given."""
    for when, hook in hooks.items():
        _hooks[when].append(hook)


def _run(when: str) -> None:
    for hook in _hooks[when]:
        hook()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(**{when: functools.partial(_run, when) for when in _hooks})


def renew(module: dict[str, Any], **locks: Callable[[], Any]) -> None:
    """Give these globals of a module new locks in forked children."""
    at_fork(after_in_child=lambda: module.update({name: new() for name, new in locks.items()}))


def lost_devices() -> None:
    """Note, in a child, that the devices of its parent are of no use here."""
    global stale
    stale = True


def check(what: str) -> None:
    """Raise if this process was forked from one whose devices were in use.

    Raises:
        RuntimeError: it was; `what` is what cannot be done.
    """
    if stale:
        raise RuntimeError(
            f"{what} in a forked process (os.fork, or multiprocessing's start method 'fork'), "
            "whose parent had used a device before.\n"
            "Why: XLA's threads and locks are not copied with a process, so its devices work in "
            "the parent only; eager code on NumPy's arrays works here, and arrays can be read.\n"
            "Write instead: multiprocessing.get_context('spawn') or 'forkserver' (for PyTorch's "
            "DataLoader, multiprocessing_context='spawn'); or fork before the first use of a "
            "device; or run it op by op: with bv.disable_jit(): ..."
        )
