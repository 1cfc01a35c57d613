"""The random streams inside a module: `split_rngs`, `fork_rngs`, `reseed`, `restore_rngs`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import bevel.numpy as bnp
from bevel import random
from bevel.core import dtypes
from bevel.nn.filters import to_predicate
from bevel.nn.rngs import Rngs, RngStream
from bevel.nn.structure import Path, Structure, path_text

_MISSING = object()


class Backups(list):
    """What streams held, as (stream, key, count); used in a `with`, they get it back at its end."""

    def __enter__(self) -> Backups:
        return self

    def __exit__(self, *exc: Any) -> None:
        restore_rngs(self)


def restore_rngs(backups: Iterable[tuple[RngStream, Any, Any]], /) -> None:
    """Give streams back what they held, as `split_rngs` and `fork_rngs` returned it.

    >>> from bevel import nn
    >>> rngs = nn.Rngs(0)
    >>> backups = nn.split_rngs(rngs, splits=3)
    >>> rngs.default.key.shape
    (3,)
    >>> nn.restore_rngs(backups)
    >>> rngs.default.key.shape
    ()
    """
    for stream, key, count in backups:
        stream.key.value, stream.count.value = key, count


def _streams(node: Any) -> list[tuple[Path, RngStream]]:
    return [(p, m) for p, m in Structure(node).modules if isinstance(m, RngStream)]


def _refill(
    node: Any, rules: Mapping[Any, Any], fresh: Callable[[Any, Any], Any], again: Any
) -> Any:
    """Give each stream that a rule takes a new key, made of its next one; or a decorator."""
    if node is _MISSING:

        def decorate(f: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(f)
            def wrapped(*args: Any, **kwargs: Any) -> Any:
                with again((args, kwargs)):
                    return f(*args, **kwargs)

            return wrapped

        return decorate
    predicates = [(to_predicate(f), n) for f, n in rules.items()]
    backups = Backups()
    for path, stream in _streams(node):
        for taken, n in predicates:
            if taken((*path, "key"), stream.key) and taken((*path, "count"), stream.count):
                key = fresh(stream(), n)
                backups.append((stream, stream.key.value, stream.count.value))
                stream.key.value = key
                stream.count.value = bnp.zeros(key.shape, dtypes.uint32)
                break
    return backups


def split_rngs(
    node: Any = _MISSING,
    /,
    *,
    splits: int | tuple[int, ...],
    only: Any = ...,
    squeeze: bool = False,
) -> Any:
    """Give the streams in a module arrays of keys, for `bv.vmap` or `nn.scan` over it.

    Args:
        node: a module or a pytree of modules; without it, a decorator of functions of such, whose
            arguments have the keys during the call.
        splits: the shape of the arrays.
        only: filter of the streams' variables, such as the tag "dropout".
        squeeze: with `splits=1`, one key and not an array of one.

    Returns:
        What the streams held, for `restore_rngs`, or for a `with` that does so at its end.

    Raises:
        ValueError: `squeeze` with more than one split.

    >>> from bevel import nn
    >>> model = nn.Dropout(0.5, rngs=nn.Rngs(0))
    >>> with nn.split_rngs(model, splits=4):
    ...     print(model.rngs.key.shape)
    (4,)
    """
    if squeeze and splits != 1:
        raise ValueError(f"split_rngs: squeeze=True is for splits=1, not splits={splits}")

    def fresh(key: Any, n: Any) -> Any:
        keys = random.split(key, n)
        return keys[0] if squeeze else keys

    again = functools.partial(split_rngs, splits=splits, only=only, squeeze=squeeze)
    return _refill(node, {only: splits}, fresh, again)


def fork_rngs(node: Any = _MISSING, /, *, split: Any = None) -> Any:
    """Give the streams in a module keys of their own, each made of its next one.

    Args:
        node: as for `split_rngs`.
        split: None for one key each, a shape for arrays of keys, or these by filter; streams that
            no filter takes are left alone.

    Returns:
        As `split_rngs`.

    >>> from bevel import nn
    >>> rngs = nn.Rngs(params=0, dropout=1)
    >>> with nn.fork_rngs(rngs, split={"dropout": 3}):
    ...     print(rngs.params.key.shape, rngs.dropout.key.shape)
    () (3,)
    """
    rules = split if isinstance(split, Mapping) else {...: split}
    fresh = lambda key, n: key if n is None else random.split(key, n)  # noqa: E731
    return _refill(node, rules, fresh, functools.partial(fork_rngs, split=split))


def reseed(node: Any, /, *, policy: Any = "scalars_only", **stream_keys: Any) -> None:
    """Start the streams of these names inside a module anew.

    Args:
        node: a module or a pytree of modules.
        policy: "scalars_only"; "match_shape" to split the new key for streams that hold an array
            of keys; or a callable `(path, key, shape) -> key`.
        stream_keys: seeds or keys by name of the stream.

    Raises:
        ValueError: a stream holds an array of keys, and the policy is "scalars_only".

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> drop, x = nn.Dropout(0.5, rngs=nn.Rngs(0)), bnp.ones(20)
    >>> nn.reseed(drop, default=7)
    >>> first = drop(x)
    >>> nn.reseed(drop, default=7)
    >>> bool((drop(x) == first).all())
    True
    """
    policies = {"scalars_only": _scalar_key, "match_shape": _split_key}
    make = policies.get(policy, policy) if isinstance(policy, str) else policy
    if not callable(make):
        raise ValueError(
            f"reseed: policy is 'scalars_only', 'match_shape' or a callable, not {policy!r}"
        )
    fresh = Rngs(**stream_keys)
    for path, stream in _streams(node):
        if stream.tag in stream_keys:
            key = make(path, fresh[stream.tag](), stream.key.shape)
            stream.key.value = key
            stream.count.value = bnp.zeros(key.shape, dtypes.uint32)


def _scalar_key(path: Path, key: Any, shape: tuple[int, ...]) -> Any:
    if shape:
        raise ValueError(
            f"reseed: the stream at {path_text(path)} holds keys of shape {shape}, not one.\n"
            "Write instead: policy='match_shape', to split the new key for it."
        )
    return key


def _split_key(path: Path, key: Any, shape: tuple[int, ...]) -> Any:
    return random.split(key, shape) if shape else key
