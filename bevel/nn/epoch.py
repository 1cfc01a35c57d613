"""A count of the changes to the structure of modules that a transform has seen.

What is remembered of a module's structure is good for one epoch. Creating modules does not advance
it; changing one that was already traversed does.
"""

from __future__ import annotations

_epoch = 0


def current() -> int:
    """The epoch now."""
    return _epoch


def advance() -> None:
    """Forget what is known of all structures."""
    global _epoch
    _epoch += 1
