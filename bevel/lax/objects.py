"""Modules among operands and in the carry of loops: functions get them as they are, and what they
write into them is in them afterwards, as with modules from around a function.
"""

from __future__ import annotations

from typing import Any

from bevel.api.flat import is_stateful
from bevel.core import tree
from bevel.core.source import user_source, where


class Objects:
    """The modules in a value, whose other leaves are arrays."""

    def __init__(self, leaves: list[Any], treedef: Any, what: str):
        self.found = [x if is_stateful(x) else None for x in leaves]
        self.treedef = treedef
        self.what = what

    def fill(self, arrays: Any) -> Any:
        """The value with the modules in place, from one with None in their places."""
        leaves = self.treedef.flatten_up_to(arrays)
        filled = [x if m is None else m for x, m in zip(leaves, self.found, strict=True)]
        return tree.unflatten(self.treedef, filled)

    def has_all_of(self, other: Objects | None) -> bool:
        """Whether these are all the modules of the other."""
        mine = set(map(id, self.found))
        return other is None or all(m is None or id(m) in mine for m in other.found)

    def same(self, other: Objects | None) -> bool:
        """Whether the other has the same modules in the same places of the same structure."""
        return (
            other is not None
            and self.treedef == other.treedef
            and all(a is b for a, b in zip(self.found, other.found, strict=True))
        )

    def strip(self, value: Any) -> Any:
        """The new value with None in the places of the modules, which must be the same ones.

        Raises:
            TypeError: one is not.
        """
        try:
            leaves = self.treedef.flatten_up_to(value)
        except ValueError:  # the caller compares structures, and says which
            return apart(value, self.what)[0]
        for x, m in zip(leaves, self.found, strict=True):
            if m is not None and x is not m:
                raise TypeError(
                    f"{self.what}: the {type(m).__name__} it was given comes back as "
                    f"{'another one' if type(x) is type(m) else type(x).__name__}, at "
                    f"{where(user_source())}.\n"
                    "Why: the state of a module is carried on in the module itself.\n"
                    "Write instead: return the module that was given, and write into its variables."
                )
        arrays = [x if m is None else None for x, m in zip(leaves, self.found, strict=True)]
        return tree.unflatten(self.treedef, arrays)


def apart(value: Any, what: str) -> tuple[Any, Objects | None]:
    """A value with None in the places of its modules, and the modules; None if there are none."""
    leaves, treedef = tree.flatten(value)
    if not any(map(is_stateful, leaves)):
        return value, None
    arrays = [None if is_stateful(x) else x for x in leaves]
    return tree.unflatten(treedef, arrays), Objects(leaves, treedef, what)
