"""Sorting several arrays together, and the k largest.

The order is NumPy's: ascending, -0 equal to 0, NaN after everything; complex numbers by real, then
by imaginary part, each with NaN last (JAX's order).
"""

from __future__ import annotations

import math

import numpy as np

from bevel.core import dtypes
from bevel.core.aval import Aval
from bevel.core.op import Op, Unsupported
from bevel.ops.base import batch_broadcast
from bevel.ops.index import GatherDims, gather
from bevel.ops.shape import expand_dims, iota

_INT32 = np.dtype(np.int32)
_NATIVE = (dtypes.float16, dtypes.float32, dtypes.float64)
_NOT_LINEAR = Unsupported(
    "the order depends on the values, so it is not linear; its derivative gathers in that order"
)


def take_along(x, indices, axis: int):
    """Elements of `x` at int32 `indices` along one axis; the other axes run together.

    >>> x = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    >>> take_along(x, np.array([[1], [0]], np.int32), 1).tolist()
    [[2.0], [3.0]]
    """
    others = tuple([i for i in range(len(x.shape)) if i != axis])
    dims = GatherDims((), (axis,), (axis,), others, others)
    return gather(
        x,
        expand_dims(indices, (len(x.shape),)),
        dims=dims,
        sizes=(1,) * len(x.shape),
        mode="promise_in_bounds",
        fill_value=None,
        unique_indices=True,
        indices_are_sorted=False,
    )


# -- sort ----------------------------------------------------------------------------------------


def _sort_abstract(*xs: Aval, axis, num_keys=1, stable=True):
    if not xs:
        raise TypeError("sort: at least one array is needed")
    for i, x in enumerate(xs):
        if x.shape != xs[0].shape:
            raise ValueError(
                f"sort: arrays sorted together must have one shape, got {xs[0].shape} and, as "
                f"array {i}, {x.shape}"
            )
    if not 0 <= axis < xs[0].ndim:
        raise ValueError(f"sort: axis {axis} does not exist in shape {xs[0].shape}")
    if not 1 <= num_keys <= len(xs):
        raise ValueError(
            f"sort: num_keys must be between 1 and the number of arrays, {len(xs)}, got {num_keys}"
        )
    return xs


def _key_parts(x: np.ndarray) -> list[np.ndarray]:
    if x.dtype.kind == "c":
        return [x.real, x.imag]
    # NumPy does not know where NaN belongs among the extension types.
    return [x.astype(np.float32) if dtypes.is_float(x.dtype) and x.dtype not in _NATIVE else x]


def _sort_reference(*xs, axis, num_keys=1, stable=True):
    keys = [part for x in xs[:num_keys] for part in _key_parts(x)]
    if len(xs) == 1 and len(keys) == 1:
        # Equal elements look alike (but for the sign of zero): the quicker, unstable sort will do.
        return (np.sort(keys[0], axis=axis).astype(xs[0].dtype, copy=False),)
    if len(keys) == 1:
        order = np.argsort(keys[0], axis=axis, kind="stable")
    else:
        order = np.lexsort(keys[::-1], axis=axis)
    return tuple([np.take_along_axis(x, order, axis) for x in xs])


def _canonical(b, x):
    """Make all zeros and all NaNs compare alike in total order."""
    if not dtypes.is_float(x.aval.dtype):
        return x
    zero, nan = b.full(0, x.aval), b.full(np.nan, x.aval)
    x = b.select(b.compare(x, zero, "EQ"), zero, x)
    return b.select(b.compare(x, x, "NE"), nan, x)


def _comes_first(num_keys: int):
    def comparator(b, *pairs):
        keys = []
        for x, y in zip(pairs[: 2 * num_keys : 2], pairs[1 : 2 * num_keys : 2], strict=True):
            if dtypes.is_complex(x.aval.dtype):
                keys += [(b.real(x), b.real(y)), (b.imag(x), b.imag(y))]
            else:
                keys.append((x, y))
        first = None
        for x, y in reversed([(_canonical(b, x), _canonical(b, y)) for x, y in keys]):
            less = b.compare(x, y, "LT", total=True)
            first = (
                less
                if first is None
                else b.or_(less, b.and_(b.compare(x, y, "EQ", total=True), first))
            )
        return first

    return comparator


def _sort_lower(b, *xs, axis, num_keys=1, stable=True):
    return b.sort(xs, axis, stable, _comes_first(num_keys))


def _sort_jvp(ctx, primals, tangents, *, axis, num_keys=1, stable=True):
    places = iota(shape=tuple(primals[0].shape), dtype=_INT32, axis=axis)
    *outs, order = sort(*primals, places, axis=axis, num_keys=num_keys, stable=stable)
    return tuple(outs), tuple([None if t is None else take_along(t, order, axis) for t in tangents])


def _sort_batch(size, xs, batched, *, axis, num_keys=1, stable=True):
    spread = [batch_broadcast(size, x, bat) for x, bat in zip(xs, batched, strict=True)]
    return sort(*spread, axis=axis + 1, num_keys=num_keys, stable=stable), (True,) * len(xs)


sort = Op(
    "sort",
    multiple=True,
    abstract=_sort_abstract,
    reference=_sort_reference,
    lower=_sort_lower,
    jvp=_sort_jvp,
    transpose=_NOT_LINEAR,
    batch=_sort_batch,
)

# -- top_k ---------------------------------------------------------------------------------------


def _top_k_abstract(x: Aval, *, k):
    if not x.shape:
        raise ValueError("top_k: the operand must have at least one axis, got a scalar")
    if dtypes.is_complex(x.dtype):
        raise TypeError(
            f"top_k: {x} has no order; take the k largest of abs(x) or of its real part"
        )
    if not 0 <= k <= x.shape[-1]:
        raise ValueError(
            f"top_k: k must be between 0 and the size of the last axis, {x.shape[-1]}, got {k}"
        )
    shape = (*x.shape[:-1], k)
    return Aval(shape, x.dtype), Aval(shape, _INT32)


def _top_k_reference(x, *, k):
    n = x.shape[-1]
    # Sorting the reversed row and reading it backwards leaves equal elements in their order.
    (key,) = _key_parts(x)
    order = (n - 1 - np.argsort(key[..., ::-1], axis=-1, kind="stable"))[..., ::-1][..., :k]
    return np.take_along_axis(x, order, -1), order.astype(_INT32)


def _top_k_lower(b, x, *, k):
    values, indices = b.outs
    if math.prod(values.shape) == 0:
        return b.full(0, values), b.full(0, indices)
    # The CPU orders NaN by its sign, and what x86 computes for 0/0 has the sign set.
    x = _canonical(b, x)
    return b.op("chlo.top_k", x, attrs=f"k = {k} : i64", out=(values, indices))


def _top_k_jvp(ctx, primals, tangents, *, k):
    values, indices = top_k(*primals, k=k)
    return (values, indices), (take_along(tangents[0], indices, len(values.shape) - 1), None)


top_k: Op = Op(
    "top_k",
    multiple=True,
    abstract=_top_k_abstract,
    reference=_top_k_reference,
    lower=_top_k_lower,
    jvp=_top_k_jvp,
    transpose=_NOT_LINEAR,
    batch=lambda size, x, batched, *, k: (top_k(*x, k=k), (True, True)),
)
