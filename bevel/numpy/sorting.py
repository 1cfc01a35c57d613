"""Sorting and searching. The order is NumPy's: NaN last, -0 equal to 0, complex by real then
imaginary part.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import bevel.ops as ops
from bevel.core import dtypes
from bevel.core.dtypes import int32
from bevel.core.errors import ShapeError
from bevel.core.handle import wrap
from bevel.core.misfit import Fix, misfit
from bevel.numpy.arguments import axis_of, cast, contents, integer, known, number
from bevel.numpy.convert import broadcast_values, enter, promote
from bevel.numpy.joining import stack
from bevel.numpy.selection import require_integer, take, take_value

KINDS = (None, "quicksort", "mergesort", "heapsort", "stable")


def _no_fields(name: str, kind: Any, order: Any) -> None:
    if order is not None:
        raise TypeError(
            f"{name}: order= names fields of structured arrays, which do not exist here"
        )
    if kind not in KINDS:
        raise ValueError(
            f"{name}: kind must be one of {', '.join(map(repr, KINDS[1:]))}, got {kind!r}"
        )


def _on_axis(name: str, a: Any, axis: int | None) -> tuple[Any, int]:
    """A value with at least one axis, and the axis to work along (None: flattened)."""
    x = number(name, a)
    if axis is None:
        return ops.reshape(x, shape=(math.prod(x.shape),)), 0
    return x, axis_of(name, axis, len(x.shape))


def sort(
    a: Any,
    axis: int | None = -1,
    kind: str | None = None,
    order: None = None,
    *,
    stable: bool = True,
    descending: bool = False,
) -> Any:
    """Elements in ascending order along an axis (None: flattened).

    >>> bnp.sort(bnp.array([3, 1, 2]))
    Array([1, 2, 3], dtype=int32)
    >>> bnp.sort(bnp.array([3, 1, 2]), descending=True)
    Array([3, 2, 1], dtype=int32)
    """
    _no_fields("sort", kind, order)
    x, axis = _on_axis("sort", a, axis)
    (out,) = ops.sort(x, axis=axis, num_keys=1, stable=stable)
    return wrap(ops.rev(out, axes=(axis,)) if descending else out)


def argsort(
    a: Any,
    axis: int | None = -1,
    kind: str | None = None,
    order: None = None,
    *,
    stable: bool = True,
    descending: bool = False,
) -> Any:
    """int32 indices that sort an array along an axis; equal elements keep their order.

    >>> bnp.argsort(bnp.array([3, 1, 2]))
    Array([1, 2, 0], dtype=int32)
    """
    _no_fields("argsort", kind, order)
    x, axis = _on_axis("argsort", a, axis)
    n = x.shape[axis]
    places = ops.iota(shape=tuple(x.shape), dtype=int32, axis=axis)
    if descending:
        # Read backwards twice, so that equal elements still come in their order.
        x, places = (ops.rev(v, axes=(axis,)) for v in (x, places))
    found = ops.sort(x, places, axis=axis, num_keys=1, stable=stable)[1] if n else places
    return wrap(ops.rev(found, axes=(axis,)) if descending else found)


def sort_complex(a: Any) -> Any:
    """A complex array sorted along its last axis, by real then imaginary part.

    >>> bnp.sort_complex(bnp.array([2, 1]))
    Array([1.+0.j, 2.+0.j], dtype=complex64)
    """
    x = number("sort_complex", a)
    return sort(wrap(cast(x, dtypes.complex_dtype(np.dtype(x.dtype)))))


def partition(a: Any, kth: int, axis: int | None = -1) -> Any:
    """An array in which element `kth` is where sorting would put it, smaller ones before it and
    larger after.

    >>> float(bnp.partition(bnp.array([3.0, 1.0, 2.0]), 1)[1])
    2.0
    """
    x, axis = _on_axis("partition", a, axis)
    _check_kth("partition", kth, x.shape[axis])
    return sort(wrap(x), axis)


def argpartition(a: Any, kth: int, axis: int | None = -1) -> Any:
    """int32 indices that `partition` an array.

    >>> int(bnp.argpartition(bnp.array([3.0, 1.0, 2.0]), 1)[1])
    2
    """
    x, axis = _on_axis("argpartition", a, axis)
    _check_kth("argpartition", kth, x.shape[axis])
    return argsort(wrap(x), axis)


def _check_kth(name: str, kth: Any, n: int) -> None:
    k = integer(name, "kth", kth)
    if not -n <= k < n:
        raise ValueError(
            f"{name}: kth={k} is out of range for an axis of size {n}; use {-n}..{n - 1}"
        )


def lexsort(keys: Any, axis: int = -1) -> Any:
    """int32 indices that sort by several keys, the last one first in importance.

    >>> bnp.lexsort((bnp.array([1, 2, 0]), bnp.array([5, 4, 4])))
    Array([2, 1, 0], dtype=int32)
    """
    values = [
        number("lexsort", k) for k in (keys if isinstance(keys, tuple | list) else stack(keys))
    ]
    if not values:
        raise ValueError("lexsort: needs at least one key")
    shape = tuple(values[0].shape)
    for i, v in enumerate(values):
        if tuple(v.shape) != shape:
            raise ShapeError(
                f"lexsort: key 0 has shape {shape} and key {i} has shape {tuple(v.shape)}"
            )
    if not shape:
        return wrap(np.zeros((), int32))
    axis = axis_of("lexsort", axis, len(shape))
    places = ops.iota(shape=shape, dtype=int32, axis=axis)
    return wrap(ops.sort(*values[::-1], places, axis=axis, num_keys=len(values), stable=True)[-1])


# -- searching -----------------------------------------------------------------------------------


def _before(x: Any, y: Any, equal: bool) -> Any:
    """Whether x sorts before y, or with `equal` not after it; NaN sorts last."""
    less = (ops.le if equal else ops.lt)(x, y)
    if not dtypes.is_float(np.dtype(x.dtype)):
        return less
    x_nan, y_nan = ops.ne(x, x), ops.ne(y, y)
    return ops.or_(less, y_nan if equal else ops.and_(y_nan, ops.not_(x_nan)))


def _search(a: Any, v: Any, side: str) -> Any:
    """Binary search of every element of `v`, unrolled: one gather a step."""
    n = a.shape[0]
    low, high = ops.full(tuple(v.shape), 0, int32), ops.full(tuple(v.shape), n, int32)
    one = ops.full_like(low, 1)
    for _ in range(n.bit_length()):
        middle = ops.shift_right_arithmetic(ops.add(low, high), one)
        found = take_value(a, middle, 0, "clip")
        go_on = ops.and_(_before(found, v, side == "right"), ops.lt(low, high))
        low, high = ops.select(go_on, ops.add(middle, one), low), ops.select(go_on, high, middle)
    return low


def searchsorted(
    a: Any, v: Any, side: str = "left", sorter: Any = None, *, method: str = "default"
) -> Any:
    """Where in a sorted vector to insert elements so that it stays sorted, as int32.

    `side="left"` gives the first such place, `"right"` the last. `sorter` are indices that sort
    `a`. `method="compare_all"` compares every pair, which is quick for short `a` on accelerators;
    all else is a binary search.

    >>> bnp.searchsorted(bnp.array([1, 3, 5]), bnp.array([3, 4]))
    Array([1, 2], dtype=int32)
    """
    if side not in ("left", "right"):
        raise ValueError(f"searchsorted: side must be 'left' or 'right', got {side!r}")
    if sorter is not None:
        a = take(a, sorter)
    number("searchsorted", a), number("searchsorted", v)
    (x, y), _ = promote(a, v)
    if len(x.shape) != 1:
        raise misfit(
            "searchsorted",
            [wrap(x), wrap(y)],
            "{0}, the sorted array, must be a vector",
            [Fix("They fit the other way round", swap=True)] if len(y.shape) == 1 else [],
            "bv.vmap(bnp.searchsorted) for arrays of several rows",
            params=("a", "v"),
        )
    if x.dtype == np.bool_:
        x, y = cast(x, int32), cast(y, int32)
    xs, ys = known(x), known(y)
    if xs is not None and ys is not None and x.dtype.kind in "iuf":
        return wrap(np.asarray(np.searchsorted(xs, ys, side)).astype(int32))
    if method != "compare_all":
        return wrap(_search(x, y, side))
    pairs = (*y.shape, x.shape[0])
    left = ops.broadcast_in_dim(x, shape=pairs, dims=(len(pairs) - 1,))
    right = ops.broadcast_in_dim(y, shape=pairs, dims=tuple(range(len(pairs) - 1)))
    return wrap(
        ops.reduce_sum(cast(_before(left, right, side == "right"), int32), axes=(len(pairs) - 1,))
    )


def digitize(x: Any, bins: Any, right: bool = False, *, method: str = "default") -> Any:
    """The bin that each element falls into: the i with `bins[i-1] <= x < bins[i]`, as int32.

    `bins` is a vector in ascending or descending order (then `bins[i-1] > x >= bins[i]`); with
    `right` the upper edge belongs to a bin instead of the lower.

    Raises:
        ValueError: `bins` neither rise nor fall throughout.

    >>> bnp.digitize(bnp.array([0.5, 2.5]), bnp.array([0.0, 1.0, 2.0]))
    Array([1, 3], dtype=int32)
    """
    edges = number("digitize", bins)
    if len(edges.shape) != 1:
        raise misfit(
            "digitize",
            [enter(x), wrap(edges)],
            "{1}, the bins, must be a vector",
            [Fix("They fit the other way round", swap=True)] if len(enter(x).shape) == 1 else [],
            "a vector of bins",
            params=("x", "bins"),
        )
    n = edges.shape[0]
    side = "left" if right else "right"
    if n < 2:
        return searchsorted(wrap(edges), x, side, method=method)
    found = known(edges)
    steps = np.zeros(1) if found is None else np.diff(found)
    if (steps < 0).any() and (steps > 0).any():
        raise ValueError(f"digitize: bins must rise or fall throughout, got {found}")
    ends = [
        ops.reshape(ops.slice(edges, start=(i,), limit=(i + 1,), strides=None), shape=())
        for i in (0, n - 1)
    ]
    down = ops.gt(*ends)
    upwards = searchsorted(wrap(edges), x, side, method=method)._v
    reverse = searchsorted(wrap(ops.rev(edges, axes=(0,))), x, side, method=method)._v
    downwards = ops.sub(ops.full_like(reverse, n), reverse)
    return wrap(ops.select(*broadcast_values("digitize", [down, downwards, upwards])))


def bincount(x: Any, weights: Any = None, minlength: int = 0, *, length: int | None = None) -> Any:
    """How often each of 0, 1, 2, ... occurs in an array of integers, or the sum of its weights.

    The result has `max(x) + 1` elements, at least `minlength`; under `jit` give its `length`
    (elements beyond it are not counted). Negative elements count as 0 under `jit` and raise
    otherwise.

    >>> bnp.bincount(bnp.array([0, 2, 2]))
    Array([1, 0, 2], dtype=int32)
    """
    value = number("bincount", x)
    if len(value.shape) != 1:
        fix = Fix(changes={0: "bnp.ravel(_)"})
        raise misfit("bincount", [wrap(value)], "it takes a vector", [fix], words=["the array"])
    if value.dtype == np.bool_:
        value = cast(value, int32)
    require_integer("bincount", value)
    value = cast(value, int32)
    found = known(value)
    if found is not None and found.size and found.min() < 0:
        raise ValueError(f"bincount: x must not be negative, got {found.min()}")
    if length is None:
        length = max(_count_range(value), integer("bincount", "minlength", minlength))
    each = ops.full_like(value, 1) if weights is None else number("bincount", weights)
    if tuple(each.shape) != tuple(value.shape):
        raise misfit(
            "bincount",
            [wrap(value), wrap(each)],
            "{1}, the weights, must be one for each element of {0}",
            otherwise="weights of the array's shape",
            params=("x", "weights"),
        )
    out = ops.scatter_add(
        ops.full((length,), 0, np.dtype(each.dtype)),
        ops.reshape(ops.max(value, ops.full_like(value, 0)), shape=(*value.shape, 1)),
        each,
        dims=ops.ScatterDims((), (0,), (0,)),
        mode="fill",
        unique_indices=False,
        indices_are_sorted=False,
    )
    return wrap(out)


def _count_range(value: Any) -> int:
    why = "the size of the result is its largest element"
    found = contents("bincount", value, why, "bnp.bincount(x, length=n)")
    return int(found.max()) + 1 if found.size else 0
