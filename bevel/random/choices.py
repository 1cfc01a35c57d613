"""Draws among given elements: permutations, choices, categories."""

from __future__ import annotations

import math
from typing import Any

import bevel.numpy as bnp
import bevel.ops as ops
from bevel.core import dtypes
from bevel.core.handle import is_weak, wrap
from bevel.numpy.arguments import axis_of, integer, size_of
from bevel.numpy.convert import enter
from bevel.random.continuous import gumbel_value
from bevel.random.draws import (
    Shape,
    integers_between,
    result_shape,
    split_words,
    uniform_between,
)
from bevel.random.generators import random_bits
from bevel.random.keys import sampler

# -- orders --------------------------------------------------------------------------------------


def shuffled(words: Any, x: Any, axis: int) -> Any:
    """A value whose vectors along `axis` are permuted, each on its own.

    Sorts by random 32-bit keys, as often as it takes that two elements never had equal keys
    throughout.
    """
    rounds = math.ceil(3 * math.log(max(1, x.size)) / math.log(2**32 - 1))
    for _ in range(rounds):
        words, drawn = split_words(words)
        sort_keys = random_bits(drawn, shape=tuple(x.shape), width=32)
        _, x = ops.sort(sort_keys, x, axis=axis, num_keys=1, stable=True)
    return x


def _range(n: int) -> Any:
    return ops.iota(shape=(n,), dtype=dtypes.int32, axis=0)


def permuted(name: str, words: Any, x: Any, axis: int, independent: bool) -> Any:
    """A permutation of an array's elements along an axis, or of `range(x)`."""
    handle = enter(x)
    if handle.ndim == 0:
        if not dtypes.is_integer(handle.dtype):
            raise TypeError(
                f"{name}: x must be an integer or have at least one axis, got a "
                f"{handle.dtype.name} scalar.\n"
                f"Write instead: random.{name}(key, n) for a permutation of range(n)."
            )
        return wrap(shuffled(words, _range(integer(name, "x", x)), axis_of(name, axis, 1)))
    axis = axis_of(name, axis, handle.ndim)
    if independent or handle.ndim == 1:
        return wrap(shuffled(words, handle._v, axis), handle._tag)
    order = shuffled(words, _range(handle.shape[axis]), 0)
    return bnp.take(handle, wrap(order), axis=axis)


@sampler
def permutation(key: Any, x: Any, axis: int = 0, independent: bool = False) -> Any:
    """The elements of an array in random order, or the integers below a number.

    Args:
        key: a random key.
        x: an array, or a Python integer n for `arange(n)`.
        axis: the axis along which to permute.
        independent: whether each vector along the axis gets an order of its own; otherwise slices
            are moved whole.

    Returns:
        An array of the shape and dtype of `x`.

    Raises:
        TypeError: `x` is a scalar that is no integer.
        numpy.exceptions.AxisError: no such axis.

    >>> from bevel import random
    >>> sorted(random.permutation(random.key(0), 5).tolist())
    [0, 1, 2, 3, 4]
    """
    return permuted("permutation", key, x, axis, independent)


@sampler
def shuffle(key: Any, x: Any, axis: int = 0) -> Any:
    """The elements of an array in random order, each vector along the axis in its own.

    Args:
        key: a random key.
        x: an array.
        axis: the axis along which to shuffle.

    Returns:
        A new array of the shape and dtype of `x`.

    >>> from bevel import random
    >>> sorted(random.shuffle(random.key(0), bnp.arange(4)).tolist())
    [0, 1, 2, 3]
    """
    return permuted("shuffle", key, x, axis, True)


# -- choices -------------------------------------------------------------------------------------


def _choose_indices(words: Any, n: int, size: Shape, replace: bool, p: Any, mode: Any) -> Any:
    """Indices below `n`; the `count` of them is that of `size`."""
    if p is None:
        if replace:
            return wrap(integers_between(words, size, dtypes.int32, 0, n))
        return wrap(shuffled(words, _range(n), 0))[: math.prod(size)]
    chances = bnp.asarray(p)
    if not dtypes.is_float(chances.dtype):
        chances = chances.astype(dtypes.float32)
    if chances.shape != (n,):
        raise ValueError(
            f"choice: p must have one probability per element, shape ({n},), got {chances.shape}"
        )
    if replace:
        total = bnp.cumsum(chances)
        u = wrap(uniform_between(words, size, total.dtype, 0, 1))
        return bnp.searchsorted(total, total[-1] * (1 - u)).astype(dtypes.int32)
    scores = gumbel_value(words, (n,), chances.dtype, mode) + bnp.log(chances)
    return wrap(ops.top_k(scores._v, k=math.prod(size))[1])


@sampler
def choice(
    key: Any,
    a: Any,
    shape: Any = (),
    replace: bool = True,
    p: Any = None,
    axis: int = 0,
    mode: str | None = None,
) -> Any:
    """Elements chosen at random from an array, or integers below a number.

    Args:
        key: a random key.
        a: an array, or a Python integer n for `arange(n)`.
        shape: shape of the choice.
        replace: whether an element may be chosen again.
        p: probabilities of the elements, shape `(n,)`; even by default.
        axis: the axis of `a` whose slices are chosen.
        mode: "low" or "high": resolution of the random numbers if `p` is given and `replace` is
            false.

    Returns:
        An array of shape `a.shape[:axis] + shape + a.shape[axis + 1:]`.

    Raises:
        ValueError: more elements than there are without replacement, nothing to choose from, or a
            wrong shape of `p`.

    >>> from bevel import random
    >>> sorted(random.choice(random.key(0), 3, (3,), replace=False).tolist())
    [0, 1, 2]
    """
    size, array = size_of("choice", shape), enter(a)
    scalar = array.ndim == 0
    axis = 0 if scalar else axis_of("choice", axis, array.ndim)
    n = integer("choice", "a", a) if scalar else array.shape[axis]
    count = math.prod(size)
    full = size if scalar else (*array.shape[:axis], *size, *array.shape[axis + 1 :])
    if count == 0:
        return bnp.zeros(full, dtypes.int32 if is_weak(array._tag) else array.dtype)
    if n <= 0:
        raise ValueError(f"choice: there is nothing to choose from: a has {n} elements")
    if not replace and count > n:
        raise ValueError(
            f"choice: {count} elements cannot be chosen from {n} without replacement.\n"
            f"Write instead: a shape of at most {n} elements, or replace=True."
        )
    if p is None and not replace and not scalar:
        # JAX permutes the array itself here, which draws other bits than permuting its indices.
        taken = permuted("choice", key, array, axis, False)
        return taken[(slice(None),) * axis + (slice(count),)].reshape(full)
    indices = _choose_indices(key, n, size, replace, p, mode)
    return (indices if scalar else bnp.take(array, indices, axis=axis)).reshape(full)


@sampler
def categorical(
    key: Any,
    logits: Any,
    axis: int = -1,
    shape: Any = None,
    replace: bool = True,
    mode: str | None = None,
) -> Any:
    """Categories drawn with probabilities `softmax(logits, axis)`.

    Args:
        key: a random key.
        logits: unnormalized log probabilities; the categories are along `axis`.
        axis: the axis of the categories.
        shape: shape of the result, ending in that of `logits` without the axis, which is the
            default.
        replace: whether the draws along the leading axes of `shape` may repeat.
        mode: "low" or "high": resolution of the random numbers (see `gumbel`).

    Returns:
        An int32 array of shape `shape`.

    Raises:
        ValueError: `shape` does not fit, or more draws than categories without replacement.

    Source: Kool, van Hoof and Welling 2019, "Stochastic beams and where to find them".

    >>> from bevel import random
    >>> random.categorical(random.key(0), bnp.zeros((2, 5)), shape=(4, 2)).shape
    (4, 2)
    """
    scores = enter(logits)
    if not dtypes.is_float(scores.dtype):
        scores = scores.astype(dtypes.float32)
    axis = axis_of("categorical", axis, scores.ndim)
    batch = (*scores.shape[:axis], *scores.shape[axis + 1 :])
    size = result_shape("categorical", shape, logits=bnp.zeros(batch, bool))
    lead = size[: len(size) - len(batch)]
    if replace:
        rest = list(size[len(lead) :])
        rest.insert(axis, scores.shape[axis])
        noise = gumbel_value(key, (*lead, *rest), scores.dtype, mode)
        return bnp.argmax(noise + scores, axis=axis - scores.ndim)
    count = math.prod(lead)
    if count > scores.shape[axis]:
        raise ValueError(
            f"categorical: {count} categories cannot be drawn from {scores.shape[axis]} without "
            "replacement; use replace=True, or a smaller shape"
        )
    noisy = bnp.moveaxis(scores + gumbel_value(key, scores.shape, scores.dtype, mode), axis, -1)
    _, indices = ops.top_k(noisy._v, k=count)
    return bnp.moveaxis(wrap(indices), -1, 0).reshape(size)
