"""Filters: which variables of a module are meant.

A filter is a class of variables, `...` or True (all), None or False (none), a tag (str, the `tag`
of a variable's metadata), a callable `(path, variable) -> bool`, a list or tuple of filters (any of
them), or
one of the classes here.
"""

from __future__ import annotations

import builtins
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any as Object

Predicate = Callable[[tuple[Object, ...], Object], bool]


@dataclasses.dataclass(frozen=True)
class OfType:
    """Variables of a class.

    >>> from bevel import nn
    >>> nn.OfType(nn.Param)(("w",), nn.Param(1.0))
    True
    """

    type: builtins.type

    def __call__(self, path: tuple[Object, ...], x: Object) -> bool:
        """Whether it takes the variable at the path."""
        return isinstance(x, self.type)


@dataclasses.dataclass(frozen=True)
class WithTag:
    """Variables whose metadata has `tag=` this.

    >>> from bevel import nn
    >>> nn.WithTag("x")(("w",), nn.Param(1.0, tag="x"))
    True
    """

    tag: str

    def __call__(self, path: tuple[Object, ...], x: Object) -> bool:
        """Whether it takes the variable at the path."""
        return getattr(x, "_metadata", {}).get("tag") == self.tag


@dataclasses.dataclass(frozen=True)
class PathContains:
    """Variables with a step in their path, or, not `exact`, with a step that contains the text.

    >>> from bevel import nn
    >>> nn.PathContains("head")(("head", "kernel"), None)
    True
    >>> nn.PathContains("he", exact=False)(("head",), None)
    True
    """

    key: Object
    exact: bool = True

    def __call__(self, path: tuple[Object, ...], x: Object) -> bool:
        """Whether it takes the variable at the path."""
        return (
            self.key in path
            if self.exact
            else builtins.any(str(self.key) in str(part) for part in path)
        )


class PathIn:
    """Variables at these paths.

    >>> from bevel import nn
    >>> nn.PathIn(("a", "kernel"))(("a", "kernel"), None)
    True
    """

    def __init__(self, *paths: tuple[Object, ...]):
        self.paths = frozenset(paths)

    def __call__(self, path: tuple[Object, ...], x: Object) -> bool:
        """Whether it takes the variable at the path."""
        return path in self.paths

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PathIn) and self.paths == other.paths

    def __hash__(self) -> int:
        return hash(self.paths)


class _Combined:
    """A filter made of others."""

    def __init__(self, *filters: Object):
        self.predicates = tuple(to_predicate(f) for f in filters)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.predicates == other.predicates

    def __hash__(self) -> int:
        return hash((type(self), self.predicates))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.predicates))})"


class Any(_Combined):
    """Variables that one of the filters takes.

    >>> from bevel import nn
    >>> nn.Any(nn.Param, nn.BatchStat)(("w",), nn.Param(1.0))
    True
    """

    def __call__(self, path: tuple[Object, ...], x: Object) -> bool:
        """Whether it takes the variable at the path."""
        return builtins.any(p(path, x) for p in self.predicates)


class All(_Combined):
    """Variables that all filters take.

    >>> from bevel import nn
    >>> nn.All(nn.Param, nn.Not(nn.PathContains("head")))(("body", "w"), nn.Param(1.0))
    True
    """

    def __call__(self, path: tuple[Object, ...], x: Object) -> bool:
        """Whether it takes the variable at the path."""
        return builtins.all(p(path, x) for p in self.predicates)


class Not(_Combined):
    """Variables that the filter does not take.

    >>> from bevel import nn
    >>> nn.Not(nn.Param)(("w",), nn.Param(1.0))
    False
    """

    def __init__(self, collection_filter: Object, /):
        super().__init__(collection_filter)

    def __call__(self, path: tuple[Object, ...], x: Object) -> bool:
        """Whether it takes the variable at the path."""
        return not self.predicates[0](path, x)


class Everything(_Combined):
    """All variables; `...` is short for it."""

    def __call__(self, path: tuple[Object, ...], x: Object) -> bool:
        """Whether it takes the variable at the path."""
        return True


class Nothing(_Combined):
    """No variable."""

    def __call__(self, path: tuple[Object, ...], x: Object) -> bool:
        """Whether it takes the variable at the path."""
        return False


def to_predicate(f: Object) -> Predicate:
    """The predicate `(path, variable) -> bool` that a filter stands for.

    Raises:
        TypeError: it is no filter.
    """
    if f is Ellipsis or f is True:
        return Everything()
    if f is None or f is False:
        return Nothing()
    if isinstance(f, type):
        return OfType(f)
    if isinstance(f, str):
        return WithTag(f)
    if isinstance(f, list | tuple):
        return Any(*f)
    if callable(f):
        return f
    raise TypeError(
        f"{f!r} is no filter.\nWrite instead: a class of variables (nn.Param), ... for all, a "
        f"callable "
        "(path, variable) -> bool, or nn.All / nn.Any / nn.Not / nn.PathContains."
    )


def to_predicates(filters: Sequence[Object]) -> list[Predicate]:
    """One predicate a filter.

    Raises:
        ValueError: a filter follows `...`, and would get nothing.
    """
    for i, f in enumerate(filters[:-1]):
        if f is Ellipsis or f is True:
            raise ValueError(
                f"filter {i} is `...`, which takes all variables, so that {filters[i + 1]!r} after "
                f"it gets none.\n"
                "Write instead: `...` as the last filter."
            )
    return [to_predicate(f) for f in filters]
