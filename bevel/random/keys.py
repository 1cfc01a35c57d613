"""Random keys: made, split, folded, and watched so that none is consumed twice by mistake.

A key is a typed array of uint32 words for one generator: Threefry-2x32 by default, Philox-4x32, or
XLA's own (`rbg`). Drawing and `split` consume it; `fold_in` does not,
since it exists to derive many keys from one. Two draws from one key are equal or correlated, and
nothing in the numbers shows it, so a second consumption is reported with both lines (setting
`key_reuse`).
"""

from __future__ import annotations

import functools
import operator
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import bevel.ops as ops
from bevel.core import config, dtypes, forks
from bevel.core.errors import KeyReuseError, KeyReuseWarning
from bevel.core.handle import KEY_WORDS, Handle, KeyTag, wrap
from bevel.core.interpreter import Tracer, state
from bevel.core.source import Spot, source_of, user_spot, where
from bevel.core.watch import Watch
from bevel.numpy.arguments import size_of
from bevel.numpy.convert import enter
from bevel.numpy.scalars import KeyDtype
from bevel.random.generators import DEFAULT, fold_in_key, in_force, split_key

_UINT32 = dtypes.uint32


def _tag_of(name: str, impl: Any) -> KeyTag:
    """The tag of keys for a generator, given by name or by the dtype of its keys."""
    impl = impl.impl if isinstance(impl, KeyDtype) else DEFAULT if impl is None else impl
    if impl not in KEY_WORDS:
        raise ValueError(
            f"{name}: unknown generator {impl!r}; known: {', '.join(KEY_WORDS)}.\n"
            f"Write instead: random.{name}(...) without impl."
        )
    return KeyTag(impl)


# -- watching ------------------------------------------------------------------------------------


def key_value(name: str, key: Any, single: bool = True) -> Any:
    """The words of a key, or an error that says what to write."""
    if isinstance(key, Handle) and type(key._tag) is KeyTag:
        if single and len(key._v.shape) != 1:
            raise ValueError(
                f"{name}: takes one key, got an array of keys of shape "
                f"{tuple(key._v.shape[:-1])}.\n"
                f"Write instead: bv.vmap(lambda key: random.{name}(key, ...))(keys), or keys[0]."
            )
        return key._v
    raise _not_a_key(name, key)


def _not_a_key(name: str, key: Any) -> TypeError:
    what = (
        f"{type(key).__name__} {key!r}"
        if isinstance(key, int | tuple | list)
        else type(key).__name__
    )
    if isinstance(key, Handle | np.ndarray):
        what = f"an array {enter(key)._v.dtype.name}{list(key.shape)}"
    instead = f"random.{name}(random.key(0), ...)"
    if isinstance(key, int):
        instead = f"random.{name}(random.key({key}), ...)"
    elif isinstance(key, tuple | list):
        instead = f"random.{name}(random.key(0), {key!r})"
    elif isinstance(key, Handle | np.ndarray) and tuple(key.shape)[-1:] == (2,):
        instead = f"random.{name}(random.wrap_key_data(words), ...)"
    return TypeError(
        f"{name}: key must be a random key, got {what}.\n"
        "Why: there is no hidden generator; every draw says which key it consumes.\n"
        f"Write instead: {instead}"
    )


_lock = threading.Lock()
forks.renew(globals(), _lock=threading.Lock)


def consume(name: str, key: Handle, above: int = 0) -> None:
    """Note that a key is consumed here, by a draw or by a program; report it if it was before. So
    many callers are Bevel's for certain.
    """
    if config.get("key_reuse") == "allow":
        return
    here, tag = user_spot(above), key._tag
    with _lock:
        before, tag.used = tag.used, here
    if _notes.open is not None:
        _notes.open.append((tag, before, here, name))
    if before is None:
        return
    # A function that is traced again consumes the keys it closes over again, at the same line.
    retraced = before == here and state.current.outer is not None and not isinstance(key._v, Tracer)
    if not retraced:
        _report(
            f"a random key is consumed a second time, by {name} at {where(source_of(here))}; the "
            f"first was at {where(source_of(before))}",
            "key, subkey = random.split(key), and give each draw a key of its own",
            here,
        )


def was_consumed(key: Handle) -> bool:
    """Whether a handle is a key that has been consumed."""
    return type(key._tag) is KeyTag and key._tag.used is not None


class _Notes(threading.local):
    open: list[Any] | None = None


_notes = _Notes()


class Consumed:
    """The keys that are consumed in a block, which may be traced again, or be one of several of
    which one runs: after it they count as before, until `keep`.

    >>> k = key(0)
    >>> with Consumed() as seen:
    ...     a = split(k)
    >>> b = split(k)  # no report
    """

    __slots__ = ("_notes", "_outer", "_start")

    def __enter__(self) -> Consumed:
        self._notes: list[Any] = []
        self._outer, _notes.open = _notes.open, self._notes
        self._start = KeyTag().serial
        return self

    def __exit__(self, *exc: Any) -> None:
        _notes.open = self._outer
        for tag, before, _, _ in reversed(self._notes):
            tag.used = before

    def keep(
        self, every_step_of: str = "", every_row_of: str = "", shared: Sequence[Any] = ()
    ) -> None:
        """They are consumed after all; by every step of a loop, or for every row of a `vmap`, if
        it is named, which is reported for keys from outside of it and those whose tags are
        `shared`.
        """
        for tag, before, here, name in self._notes:
            if _notes.open is not None:
                _notes.open.append((tag, before, here, name))
            tag.used = here
            if tag.serial >= self._start and tag not in shared:
                continue
            if every_step_of:
                _report(
                    f"a random key from outside {every_step_of} is consumed by every step of it, "
                    f"by {name} at {where(source_of(here))}",
                    "keys = random.split(key, n), and loop over the keys; or "
                    "random.fold_in(key, i) in step i",
                    here,
                )
            if every_row_of:
                _report(
                    f"a random key is shared by all rows of {every_row_of}, which draw the same "
                    f"numbers from it, by {name} at {where(source_of(here))}",
                    "keys = random.split(key, n), and map over the keys too",
                    here,
                )


def sampler(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The public form of a draw: takes a key and consumes it; `fn` gets the key's words."""
    name = fn.__name__

    @functools.wraps(fn)
    def draw(*args, **kwargs):
        if "key" in kwargs:
            key = kwargs.pop("key")
        elif args:
            key, *args = args
        else:
            raise TypeError(
                f"{name}: the key is missing.\n"
                "Why: there is no hidden generator; every draw says which key it consumes.\n"
                f"Write instead: random.{name}(random.key(0), ...), or key=random.key(0)"
            )
        words = key_value(name, key)
        if "device" in kwargs:
            raise TypeError(
                f"{name}: there is no argument `device`.\n"
                "Why: a draw is placed where every new array is.\n"
                f"Write instead: with bv.default_device(device): random.{name}(...), or "
                "bv.device_put(x, device)"
            )
        before, in_force.impl = in_force.impl, key._tag.impl
        try:
            if type(state.current) is Watch:
                out = state.current.as_one(name, fn, words, *args, **kwargs)
            else:
                out = fn(words, *args, **kwargs)
        finally:
            in_force.impl = before
        consume(name, key, 1)
        return out

    return draw


_reported: dict[Any, Any] = {}
"""What `warnings` has shown, so that a loop is reported once."""


def _report(what: str, instead: str, here: Spot | None) -> None:
    message = (
        f"{what}.\n"
        "Why: draws from one key are the same numbers, or correlated ones.\n"
        f"Write instead: {instead}. "
        "If the repetition is meant, random.clone(key), or `with random.allow_key_reuse():`."
    )
    if config.get("key_reuse") == "allow":
        return
    if config.get("key_reuse") == "error":
        raise KeyReuseError(message)
    source = source_of(here)
    file, line = (source.file, source.line) if source else ("<unknown>", 0)
    warnings.warn_explicit(message, KeyReuseWarning, file, line, registry=_reported)


def allow_key_reuse() -> config.config:
    """A block in which keys may be consumed more than once.

    >>> with allow_key_reuse():
    ...     k = key(0)
    ...     bool((key_data(split(k)) == key_data(split(k))).all())
    True
    """
    return config.config(key_reuse="allow")


# -- making --------------------------------------------------------------------------------------


def _seed_words(seed: Any) -> Any:
    """High and low word of a seed, as a uint32 array with a last axis of size 2."""
    if isinstance(seed, int | np.integer):
        seed = operator.index(seed)
        if not -(2**63) <= seed < 2**64:
            raise OverflowError(
                f"key: the seed {seed} does not fit in 64 bits; take it modulo 2**64"
            )
        # A seed of 32 bits is padded with zeros, as JAX pads it, whatever its sign.
        high = 0 if -(2**31) <= seed < 0 else (seed >> 32) & 0xFFFFFFFF
        return np.array([high, seed & 0xFFFFFFFF], _UINT32)
    handle = enter(seed)
    value = handle._v
    if type(handle._tag) is KeyTag or not dtypes.is_integer(value.dtype):
        raise TypeError(
            f"key: the seed must be an integer, got {type(seed).__name__} of dtype "
            f"{handle.dtype}.\n"
            "Write instead: random.key(0)"
        )
    if len(value.shape):
        raise TypeError(
            f"key: takes one seed, got an array of shape {tuple(value.shape)}.\n"
            "Write instead: bv.vmap(random.key)(seeds)"
        )
    low = ops.convert(value, dtype=_UINT32)
    high = ops.full((), 0, _UINT32)
    if value.dtype.itemsize == 8:
        high = ops.convert(ops.shift_right_logical(value, ops.full_like(value, 32)), dtype=_UINT32)
    return ops.concatenate(*[ops.reshape(w, shape=(1,)) for w in (high, low)], axis=0)


def key(seed: Any, *, impl: str | None = None, dtype: Any = None) -> Any:
    """A random key from an integer seed of 32 or 64 bits.

    Args:
        seed: a Python integer, or an integer array of shape (); may be traced.
        impl: name of the generator: "threefry2x32" (the default), whose draws do not depend on how
            they are laid out over devices; "philox", Philox-4x32-10 of Salmon et al. 2011; "rbg"
            and "unsafe_rbg", XLA's generator, the quickest to compile and on accelerators.
        dtype: the same by `key_dtype(name)`.

    Returns:
        A key array of shape ().

    Raises:
        TypeError: the seed is no integer or not a scalar.
        OverflowError: the seed has more than 64 bits.

    >>> key(42)
    Array(words=[ 0, 42], shape=(), dtype=key<threefry2x32>)
    """
    if impl is not None and dtype is not None:
        raise TypeError("key: impl= and dtype= say the same; give one")
    tag = _tag_of("key", impl if dtype is None else dtype)
    words = _seed_words(seed)
    if tag.words == 4:  # the same pair twice, as in JAX
        words = ops.concatenate(words, words, axis=0)
    return wrap(words, tag)


def key_dtype(impl_spec: str | None = None) -> KeyDtype:
    """The dtype of the keys of a generator.

    >>> key_dtype("rbg") == key(0, impl="rbg").dtype
    True
    """
    return KeyDtype(_tag_of("key_dtype", impl_spec).impl)


def PRNGKey(seed: Any, *, impl: str | None = None) -> Any:
    """A random key from an integer seed: the same as `key`, under JAX's older name.

    >>> is_key(PRNGKey(0))
    True
    """
    return key(seed, impl=impl)


def is_key(x: Any) -> bool:
    """Whether `x` is a random key or an array of them.

    >>> is_key(key(0)), is_key(0)
    (True, False)
    """
    return isinstance(x, Handle) and type(x._tag) is KeyTag


def key_impl(keys: Any) -> str:
    """Name of the generator that the keys are for.

    >>> key_impl(key(0))
    'threefry2x32'
    """
    key_value("key_impl", keys, single=False)
    return keys._tag.impl


def key_data(keys: Any) -> Any:
    """The words of keys: a uint32 array with one more axis, of size 2 (4 for `rbg`).

    >>> key_data(key(42))
    Array([ 0, 42], dtype=uint32)
    """
    return wrap(key_value("key_data", keys, single=False))


def wrap_key_data(key_bits_array: Any, *, impl: str | None = None) -> Any:
    """Keys from their words, the inverse of `key_data`.

    Args:
        key_bits_array: a uint32 array whose last axis has the size of the generator's keys.
        impl: name of the generator; "threefry2x32" by default.

    Raises:
        TypeError: the array is not of that kind.

    >>> is_key(wrap_key_data(key_data(key(1))))
    True
    """
    tag = _tag_of("wrap_key_data", impl)
    handle = enter(key_bits_array)
    value = handle._v
    if (
        type(handle._tag) is KeyTag
        or value.dtype != _UINT32
        or tuple(value.shape)[-1:] != (tag.words,)
    ):
        raise TypeError(
            f"wrap_key_data: the words of keys are a uint32 array whose last axis has size "
            f"{tag.words}, got {handle.dtype} of shape {handle.shape}.\n"
            "Write instead: random.wrap_key_data(random.key_data(key)), or random.key(seed)."
        )
    return wrap(value, tag)


def clone(key: Any) -> Any:
    """The same key as a new one, whose consumption is watched afresh.

    >>> k = key(0)
    >>> bool((key_data(clone(k)) == key_data(k)).all())
    True
    """
    return wrap(key_value("clone", key, single=False), key._tag.fresh())


# -- deriving ------------------------------------------------------------------------------------


@sampler
def split(key: Any, num: int | tuple[int, ...] = 2) -> Any:
    """New keys from a key, which is consumed.

    Args:
        key: one random key.
        num: how many, or the shape of the array of keys.

    Returns:
        A key array of shape `(num,)` or `num`; unpack it.

    Raises:
        TypeError: `key` is no key.
        KeyReuseError: it was consumed before, and the setting `key_reuse` is "error".

    >>> first, second = split(key(0))
    >>> split(first, (2, 3)).shape
    (2, 3)
    """
    return wrap(split_key(key, shape=size_of("split", num)), KeyTag(in_force.impl))


def fold_in(key: Any, data: Any) -> Any:
    """A new key from a key and an integer; the key is not consumed.

    Args:
        key: one random key.
        data: an integer of at most 32 bits, or an integer array of shape ().

    Returns:
        A key. The same data gives the same key.

    Raises:
        TypeError: `key` is no key, or `data` no integer or not a scalar.

    >>> bool((key_data(fold_in(key(0), 1)) == key_data(fold_in(key(0), 1))).all())
    True
    """
    words = key_value("fold_in", key)
    if isinstance(data, int) and not -(2**31) <= data < 2**32:
        raise OverflowError(
            f"fold_in: {data} does not fit in 32 bits; fold in its halves, one after the other"
        )
    if isinstance(data, int | np.integer):
        number = np.array(operator.index(data) & 0xFFFFFFFF, _UINT32)
    else:
        number = _folded("fold_in", data)
    before, in_force.impl = in_force.impl, key._tag.impl
    try:
        return wrap(fold_in_key(words, number), key._tag.fresh())
    finally:
        in_force.impl = before


def _folded(name: str, data: Any) -> Any:
    handle = enter(data)
    value = handle._v
    if type(handle._tag) is KeyTag or not (
        dtypes.is_integer(value.dtype) or value.dtype == dtypes.bool_
    ):
        raise TypeError(
            f"{name}: data must be an integer, got {type(data).__name__} of dtype {handle.dtype}.\n"
            "Write instead: random.fold_in(key, step), with an integer step."
        )
    if len(value.shape):
        raise TypeError(
            f"{name}: data must be a scalar, got shape {tuple(value.shape)}.\n"
            "Write instead: bv.vmap(random.fold_in, (None, 0))(key, data)"
        )
    return ops.convert(value, dtype=_UINT32)


def threefry_2x32(keypair: Any, count: Any) -> Any:
    """The Threefry-2x32 hash of an array of counters.

    Args:
        keypair: two uint32 words, or a random key.
        count: a uint32 array; the first half of its elements are high words, the second half low
            words.

    Returns:
        A uint32 array of the shape of `count`.

    Raises:
        TypeError: another dtype.

    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".

    >>> threefry_2x32(np.zeros(2, np.uint32), np.zeros(2, np.uint32))
    Array([1797259609, 2579123966], dtype=uint32)
    """
    pair = enter(keypair)._v
    counters = enter(count)._v
    if pair.dtype != _UINT32 or counters.dtype != _UINT32 or tuple(pair.shape) != (2,):
        raise TypeError(
            f"threefry_2x32: takes two uint32 words and uint32 counters, got {pair.dtype.name}"
            f"{list(pair.shape)} and {counters.dtype.name}{list(counters.shape)}; use "
            ".astype('uint32')"
        )
    shape = tuple(counters.shape)
    flat = ops.reshape(counters, shape=(counters.size,))
    if counters.size % 2:
        flat = ops.concatenate(flat, ops.full((1,), 0, _UINT32), axis=0)
    half = flat.shape[0] // 2
    words = [ops.reshape(ops.slice(pair, start=(i,), limit=(i + 1,)), shape=()) for i in range(2)]
    halves = [ops.slice(flat, start=(i * half,), limit=((i + 1) * half,)) for i in range(2)]
    hashed = ops.concatenate(*ops.threefry2x32(*words, *halves), axis=0)
    return wrap(ops.reshape(ops.slice(hashed, start=(0,), limit=(counters.size,)), shape=shape))
