"""`Run`: what one `init` or `apply` knows: variables, random keys, and which names are taken.

Variables are nested dicts, `{collection: {module: {name: array}}}`. A module is a path in them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bevel import random
from bevel.core.source import user_source, where

Path = tuple[str, ...]
Filter = bool | str | Sequence[str] | Callable[[str], bool]


def to_predicate(wanted: Filter) -> Callable[[str], bool]:
    """Which collections a filter takes: all or none (bool), one (str), some, or those of a
    predicate.
    """
    if callable(wanted):
        return wanted
    if isinstance(wanted, bool):
        return lambda name: wanted
    names = {wanted} if isinstance(wanted, str) else set(wanted)
    return names.__contains__


def _copied(tree: Any) -> Any:
    return {k: _copied(v) for k, v in tree.items()} if isinstance(tree, Mapping) else tree


def _checked_variables(variables: Any) -> Mapping[str, Any]:
    if isinstance(variables, Mapping) and all(
        isinstance(k, str) and isinstance(v, Mapping) for k, v in variables.items()
    ):
        return variables
    raise TypeError(
        "linen: variables are a dict of collections, which are dicts, such as "
        f'{{"params": {{...}}}}, got {type(variables).__name__} at {where(user_source())}.\n'
        'Write instead: model.apply({"params": params}, x).'
    )


def _checked_rngs(rngs: Any) -> dict[str, Any]:
    streams = {} if rngs is None else dict(rngs) if isinstance(rngs, Mapping) else {"params": rngs}
    for name, key in streams.items():
        if not random.is_key(key):
            raise TypeError(
                f"linen: the random stream {name!r} starts from a key, not from "
                f"{type(key).__name__}, at {where(user_source())}.\n"
                f'Write instead: {{"{name}": random.key(0)}}, or one key for "params".'
            )
    return streams


class Run:
    """One `init` or `apply`. Collections that are mutable are copied before they are changed."""

    def __init__(
        self,
        variables: Any,
        rngs: Any = None,
        mutable: Filter = False,
        *,
        initializing: bool = False,
        capture: Callable[[Any, str], bool] | None = None,
    ):
        self.mutable = to_predicate(mutable)
        self.variables = {
            k: _copied(v) if self.mutable(k) else v
            for k, v in _checked_variables(variables).items()
        }
        self.rngs = _checked_rngs(rngs)
        self.initializing = initializing
        self.capture = capture
        self.counts: dict[tuple[Path, str], int] = {}
        self.names: dict[Path, dict[str, set[str | None]]] = {}
        self.adopted: dict[int, Any] = {}

    def mutated(self) -> dict[str, Any]:
        """The collections that are mutable, as they are now."""
        return {k: v for k, v in self.variables.items() if self.mutable(k)}

    # -- variables -------------------------------------------------------------------------------

    def members(self, collection: str, path: Path) -> Mapping[str, Any]:
        """What a collection has of a module."""
        found: Any = self.variables.get(collection, {})
        for step in path:
            found = found.get(step, {}) if isinstance(found, Mapping) else {}
        return found if isinstance(found, Mapping) else {}

    def put(self, collection: str, path: Path, name: str, value: Any) -> None:
        """Write a variable.

        Raises:
            ValueError: the collection is not mutable.
        """
        if not self.mutable(collection):
            raise ValueError(
                f"linen: {'/'.join((collection, *path, name))} is written, and the collection "
                f"{collection!r} is not mutable here, at {where(user_source())}.\n"
                "Why: what changes in a call is returned by it.\n"
                f'Write instead: y, changed = model.apply(variables, x, mutable=["{collection}"]).'
            )
        place: Any = self.variables.setdefault(collection, {})
        for step in path:
            place = place.setdefault(step, {})
        place[name] = value

    def missing(self, collection: str, path: Path, name: str) -> ValueError:
        """The error for a variable that is not there."""
        has = ", ".join(self.members(collection, path)) or "nothing"
        return ValueError(
            f"linen: there is no {'/'.join((collection, *path, name))}; "
            f"{'/'.join((collection, *path))} has {has}; at {where(user_source())}.\n"
            "Why: `apply` takes the variables that `init` made for the same module.\n"
            "Write instead: variables = model.init(key, x), then model.apply(variables, x); "
            'for parameters alone, model.apply({"params": params}, x).'
        )

    # -- random keys -----------------------------------------------------------------------------

    def has_rng(self, stream: str) -> bool:
        """Whether a stream was given."""
        return stream in self.rngs

    def key(self, stream: str, path: Path) -> Any:
        """The next key of a stream for a module, or of "params" if there is no such stream.

        It is the key that flax.linen draws, so that a seed gives the same parameters.

        Raises:
            ValueError: there is neither.
        """
        if stream not in self.rngs and "params" not in self.rngs:
            raise ValueError(
                f"linen: there is no random stream {stream!r}, at {where(user_source())}.\n"
                f'Write instead: model.apply(variables, x, rngs={{"{stream}": random.key(0)}}).'
            )
        stream = stream if stream in self.rngs else "params"
        count = self.counts[path, stream] = self.counts.get((path, stream), 0) + 1
        number = count.to_bytes((count.bit_length() + 7) // 8, "big")
        digest = hashlib.sha1("".join(path).encode() + number).digest()
        return random.fold_in(self.rngs[stream], int.from_bytes(digest[:4], "big"))

    # -- names -----------------------------------------------------------------------------------

    def reserve(self, path: Path, name: str, collection: str | None = None) -> None:
        """Note that a module uses a name for a variable, or (without a collection) a submodule.

        Raises:
            ValueError: it does so already.
        """
        used = self.names.setdefault(path, {}).setdefault(name, set())
        if used and (collection is None or None in used or collection in used):
            raise ValueError(
                f"linen: the name {name!r} is used twice in {'/'.join(path) or 'the module'}, at "
                f"{where(user_source())}.\n"
                "Why: two parts of one name would share their variables.\n"
                "Write instead: another name, or call one submodule twice to share on purpose."
            )
        used.add(collection)

    def release(self, path: Path) -> None:
        """Forget the names that a module uses: a compact method has ended."""
        self.names.pop(path, None)
