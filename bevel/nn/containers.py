"""Names of Flax NNX for what needs no name here: plain lists and dicts hold modules as they are."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

from bevel.core.errors import MissingKeyError
from bevel.nn.module import Module

List = list


class Dict(Module, MutableMapping):
    """A module whose attributes are items of a mapping; a plain dict of modules works as well.

    Args:
        args: a mapping or pairs.
        kwargs: items.

    >>> from bevel import nn
    >>> layers = nn.Dict(drop=nn.Dropout(0.1), act=nn.relu)
    >>> layers.drop is layers["drop"], list(layers), len(layers)
    (True, ['drop', 'act'], 2)
    """

    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def __init__(self, *args: Any, **kwargs: Any):
        for name, value in dict(*args, **kwargs).items():
            self[name] = value

    def __getitem__(self, key: str) -> Any:
        return vars(self)[key]

    def __setitem__(self, key: str, value: Any) -> None:
        if not isinstance(key, str) or hasattr(type(self), key):
            raise MissingKeyError(f"nn.Dict: {key!r} cannot be an attribute; use a plain dict")
        setattr(self, key, value)

    def __delitem__(self, key: str) -> None:
        if key not in vars(self):
            raise KeyError(key)
        delattr(self, key)

    def __iter__(self) -> Iterator[str]:
        return iter(vars(self))

    def __len__(self) -> int:
        return len(vars(self))


def data(value: Any, /) -> Any:
    """The value itself: Flax must be told which attributes hold arrays, Bevel sees it.

    >>> from bevel import nn
    >>> nn.data([1, 2])
    [1, 2]
    """
    return value


def static(value: Any, /) -> Any:
    """The value itself: an attribute that holds no variables is part of the structure.

    >>> from bevel import nn
    >>> nn.static("mean")
    'mean'
    """
    return value
