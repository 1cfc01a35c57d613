"""Donated arguments: after the call they are gone, on every device, and know who took them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bevel.api.calls import STALE
from bevel.api.flat import argument_name
from bevel.core import tree
from bevel.core.aval import aval_of
from bevel.core.handle import Handle
from bevel.core.source import user_source, where
from bevel.core.variables import held_by, name_of_array
from bevel.xla import client
from bevel.xla.donation import Given, given_twice


def donated_leaves(
    fun: Any,
    leaves: Sequence[Any],
    treedef: Any,
    static: Sequence[int],
    numbers: Sequence[int],
    names: Sequence[str],
) -> dict[int, str]:
    """Which of a call's handles are donated, and the part of the arguments that each is.

    Args:
        fun: the function called.
        leaves: of the arguments (and keyword arguments) that are not static.
        treedef: their structure.
        static: positions of those that are.
        numbers: positions of donated arguments.
        names: names of donated keyword arguments.
    """
    if not numbers and not names:
        return {}
    args, kwargs = tree.unflatten(treedef, list(range(len(leaves))))
    total = len(args) + len(static)
    taken = {i % total for i in static if -total <= i < total}
    positions = [i for i in range(total) if i not in taken]
    chosen = {i % total for i in numbers if -total <= i < total}
    given = [
        (argument_name(fun, i).rsplit("(", 1)[-1].rstrip(")"), arg)
        for i, arg in zip(positions, args, strict=False)
        if i in chosen
    ]
    given += [(k, arg) for k, arg in kwargs.items() if k in names]
    found = {
        i: name + tree.keystr(path) for name, arg in given for path, i in tree.leaves_with_path(arg)
    }
    handles = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Handle)]
    return {n: found[i] for n, i in enumerate(handles) if i in found}


class Donating:
    """A call (`Direct` or `Bound`) that takes arguments: they are given up once it has run."""

    __slots__ = ("by", "call", "places")

    def __init__(self, call: Any, by: str, places: dict[int, str]):
        self.call = call
        self.by = by
        self.places = places

    def run(self, handles: Sequence[Handle], raws: list[Any] | None, owners: Sequence[Any]) -> Any:
        """Call, as `Direct.run` and `Bound.run`."""
        check(self.by, self.places, handles)
        result = self.call.run(handles, raws, owners)
        if result is not STALE:
            take(self.by, self.places, handles)
        return result


def taking(call: Any, by: str, places: dict[int, str]) -> Any:
    """The call as it is, or one that takes these arguments."""
    return Donating(call, by, places) if places else call


def check(by: str, places: dict[int, str], handles: Sequence[Handle]) -> None:
    """Refuse an array that is donated and also another argument.

    Raises:
        errors.DonatedBufferError: names both arguments.
    """
    if not places or len({id(h._held) for h in handles}) == len(handles):
        return
    first: dict[int, int] = {}
    for i, h in enumerate(handles):
        # NumPy's array under two handles is moved to the device twice.
        j = first.setdefault(id(h) if type(h._held) is np.ndarray else id(h._held), i)
        both = [f"`{places[n]}`" for n in (j, i) if n in places]
        if j != i and both:
            name = name_of_array(held_by(h))
            what = f"`{name}`, {aval_of(h._v)}," if name else f"a {aval_of(h._v)}"
            how = f"twice, as its arguments {' and '.join(both)}"
            if len(both) == 1:
                how = f"as its argument {both[0]}, and is also another argument of this call"
            raise given_twice(f"{what} is donated to {by} {how}, at {where(user_source())}.")


def take(by: str, places: dict[int, str], handles: Sequence[Handle]) -> None:
    """Give the donated arguments up."""
    if not places:
        return
    given = Given(by)
    for i, argument in places.items():
        client.give_up(handles[i], given, argument)
