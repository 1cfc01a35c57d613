"""Ops that move elements and compute nothing: reshape, transpose, slice, pad, concatenate,
split, rev, iota.

Axes, shapes, starts and limits are tuples of non-negative ints; negative indices and ellipses are
resolved above. References return views where NumPy can: values are never written in place.
"""

from __future__ import annotations

import builtins

import numpy as np

from bevel.core import dtypes
from bevel.core.aval import Aval
from bevel.core.op import Op, Unsupported, is_undefined, linear, zero_tangent
from bevel.ops.base import (
    batch_broadcast,
    broadcast_in_dim,
    full,
    full_like,
    reduce_sum,
    reshape,
    transpose,
)
from bevel.ops.logic import select

Shape = tuple[int, ...]


def expand_dims(x, axes: Shape):
    """Insert axes of size 1: `axes` are their places in the result.

    >>> expand_dims(np.zeros((2, 3)), (0, 2)).shape
    (1, 2, 1, 3)
    """
    shape = iter(x.shape)
    return reshape(
        x, shape=tuple([1 if i in axes else next(shape) for i in range(len(x.shape) + len(axes))])
    )


def squeeze(x, axes: Shape):
    """Drop axes of size 1.

    >>> squeeze(np.zeros((1, 3, 1)), (0,)).shape
    (3, 1)
    """
    for a in axes:
        if x.shape[a] != 1:
            raise ValueError(
                f"squeeze: axis {a} of shape {x.shape} has size {x.shape[a]}; only size 1 can be "
                "dropped"
            )
    return reshape(x, shape=tuple([n for i, n in enumerate(x.shape) if i not in axes]))


def moveaxis(x, source: int, target: int):
    """Move one axis to another place, keeping the order of the rest.

    >>> moveaxis(np.zeros((2, 3, 4)), 0, 2).shape
    (3, 4, 2)
    """
    if source == target:
        return x
    order = [i for i in range(len(x.shape)) if i != source]
    order.insert(target, source)
    return transpose(x, permutation=tuple(order))


# -- slice ---------------------------------------------------------------------------------------


def _slice_abstract(x, *, start, limit, strides=None):
    strides = (1,) * x.ndim if strides is None else strides
    if not len(start) == len(limit) == len(strides) == x.ndim:
        raise TypeError(
            f"slice: start={start}, limit={limit} and strides={strides} need one entry for each of "
            "the "
            f"{x.ndim} axes of {x}"
        )
    for axis, (s, e, t, n) in enumerate(zip(start, limit, strides, x.shape, strict=True)):
        if not 0 <= s <= e <= n or t < 1:
            raise ValueError(
                f"slice: axis {axis} of {x} has size {n}, and {s}:{e}:{t} does not fit it: it "
                "needs "
                f"0 <= start <= limit <= {n} and a stride of at least 1"
            )
    return Aval(
        tuple([-(-(e - s) // t) for s, e, t in zip(start, limit, strides, strict=True)]), x.dtype
    )


def _slice_reference(x, *, start, limit, strides=None):
    return x[tuple(map(builtins.slice, start, limit, strides or (1,) * len(start)))]


def _slice_transpose(ct, x, *, start, limit, strides=None):
    strides = (1,) * len(start) if strides is None else strides
    config = []
    for n, s, t, m in zip(x.shape, start, strides, ct.shape, strict=True):
        reach = 0 if m == 0 else (m - 1) * t + 1
        config.append((s, n - s - reach, t - 1))
    return pad(ct, np.zeros((), ct.dtype), config=tuple(config))


def _slice_batch(size, x, batched, *, start, limit, strides=None):
    strides = None if strides is None else (1, *strides)
    return slice(x[0], start=(0, *start), limit=(int(size), *limit), strides=strides), True


slice = Op(
    "slice",
    abstract=_slice_abstract,
    reference=_slice_reference,
    lower=lambda b, x, *, start, limit, strides=None: b.slice(x, start, limit, strides),
    jvp=linear,
    transpose=_slice_transpose,
    batch=_slice_batch,
)


# -- pad -----------------------------------------------------------------------------------------


def _padded(n: int, lo: int, hi: int, interior: int) -> int:
    return lo + hi + n + max(0, n - 1) * interior


def _pad_abstract(x, value, *, config):
    if value.shape != () or value.dtype != x.dtype:
        raise TypeError(
            f"pad: the padding value is {value} and must be a 0-d {x.dtype.name}, the dtype of the "
            f"operand {x}: "
            f"write value.astype({x.dtype.name!r})"
        )
    if len(config) != x.ndim:
        raise TypeError(
            f"pad: config={config} needs one (low, high, interior) for each of the {x.ndim} axes "
            f"of {x}"
        )
    shape = tuple([_padded(n, *c) for n, c in zip(x.shape, config, strict=True)])
    if any(n < 0 for n in shape) or any(c[2] < 0 for c in config):
        raise ValueError(
            f"pad: config={config} of {x} gives shape {shape}: sizes cannot be negative (cut less) "
            "and the interior padding must be at least 0"
        )
    return Aval(shape, x.dtype)


def pad_reference(x, value, *, config):
    """The meaning of pad, in NumPy."""
    shape = [_padded(n, *c) for n, c in zip(x.shape, config, strict=True)]
    out = np.full(shape, value, x.dtype)
    target, source = [], []
    for n, m, (lo, _, interior) in zip(x.shape, shape, config, strict=True):
        step = interior + 1
        first = -(min(lo, 0) // step)
        last = max(first, min(n, (m - 1 - lo) // step + 1))
        source.append(builtins.slice(first, last))
        begin = lo + first * step
        target.append(
            builtins.slice(
                begin,
                begin + max(0, (last - first - 1) * step + 1) if last > first else begin,
                step,
            )
        )
    out[tuple(target)] = x[tuple(source)]
    return out


def _pad_transpose(ct, x, value, *, config):
    ct_x = ct_value = None
    if is_undefined(x):
        cut = pad(ct, np.zeros((), ct.dtype), config=tuple([(-lo, -hi, 0) for lo, hi, _ in config]))
        strides = tuple([c[2] + 1 for c in config])
        ct_x = slice(cut, start=(0,) * cut.ndim, limit=cut.shape, strides=strides)
    if is_undefined(value):
        kept = select(_pad_mask(x.shape, config), full_like(ct, 0), ct)
        ct_value = reduce_sum(kept, axes=tuple(range(kept.ndim)))
    return ct_x, ct_value


def _pad_mask(shape: Shape, config):
    """True where a padded array of `shape` holds its operand, False where it holds padding."""
    return pad(full(shape, True, dtypes.bool_), np.zeros((), bool), config=config)


def _pad_batch(size, args, batched, *, config):
    x, value = args
    config = ((0, 0, 0), *config)
    if not batched[1]:
        return pad(x, value, config=config), True
    x = batch_broadcast(size, x, batched[0])
    padded = pad(x, np.zeros((), x.dtype), config=config)
    values = broadcast_in_dim(value, shape=padded.shape, dims=(0,))
    return select(_pad_mask(x.shape, config), padded, values), True


def _pad_lower(b, x, value, *, config):
    lo, hi, interior = zip(*config, strict=True) if config else ((), (), ())
    return b.pad(x, value, lo, hi, interior)


pad = Op(
    "pad",
    abstract=_pad_abstract,
    reference=pad_reference,
    lower=_pad_lower,
    jvp=linear,
    transpose=_pad_transpose,
    batch=_pad_batch,
)


# -- concatenate ---------------------------------------------------------------------------------


def _concatenate_abstract(*xs, axis):
    if not xs:
        raise ValueError("concatenate: needs at least one array")
    first = xs[0]
    if not 0 <= axis < first.ndim:
        raise ValueError(
            f"concatenate: axis {axis} is out of range for {first}, which has {first.ndim} axes"
        )
    rest = first.shape[:axis] + first.shape[axis + 1 :]
    for i, x in enumerate(xs):
        if (
            x.dtype != first.dtype
            or x.ndim != first.ndim
            or x.shape[:axis] + x.shape[axis + 1 :] != rest
        ):
            raise TypeError(
                f"concatenate: operand {i} is {x} and operand 0 is {first}: dtypes must be equal, "
                "and shapes too "
                f"except along axis {axis}"
            )
    shape = list(first.shape)
    shape[axis] = sum([x.shape[axis] for x in xs])
    return Aval(tuple(shape), first.dtype)


def _concatenate_transpose(ct, *xs, axis):
    parts = split(ct, sizes=tuple([x.shape[axis] for x in xs]), axis=axis)
    return tuple([p if is_undefined(x) else None for p, x in zip(parts, xs, strict=True)])


def _concatenate_batch(size, xs, batched, *, axis):
    xs = [batch_broadcast(size, x, b) for x, b in zip(xs, batched, strict=True)]
    return concatenate(*xs, axis=axis + 1), True


concatenate = Op(
    "concatenate",
    abstract=_concatenate_abstract,
    reference=lambda *xs, axis: np.concatenate(xs, axis),
    lower=lambda b, *xs, axis: b.concatenate(xs, axis),
    jvp=linear,
    transpose=_concatenate_transpose,
    batch=_concatenate_batch,
)


# -- split ---------------------------------------------------------------------------------------
# One op, and not a slice for each part, so that the cotangent is one concatenation, and not a sum
# of padded parts.


def _split_abstract(x, *, sizes, axis):
    if not 0 <= axis < x.ndim or sum(sizes) != x.shape[axis] or any(n < 0 for n in sizes):
        raise ValueError(f"split: sizes {sizes} do not add up to axis {axis} of {x}")
    return tuple([x.replace(shape=(*x.shape[:axis], n, *x.shape[axis + 1 :])) for n in sizes])


def _parts(shape: Shape, sizes: Shape, axis: int):
    """Start and limit of each part."""
    ends = np.cumsum([0, *sizes]).tolist()
    for start, limit in zip(ends, ends[1:], strict=False):
        yield (
            tuple([start if i == axis else 0 for i in range(len(shape))]),
            tuple([limit if i == axis else n for i, n in enumerate(shape)]),
        )


def _split_transpose(cts, x, *, sizes, axis):
    shapes = [(*x.shape[:axis], n, *x.shape[axis + 1 :]) for n in sizes]
    parts = [full(s, 0, x.dtype) if c is None else c for c, s in zip(cts, shapes, strict=True)]
    return concatenate(*parts, axis=axis)


def _split_batch(size, xs, batched, *, sizes, axis):
    return split(*xs, sizes=sizes, axis=axis + 1), (True,) * len(sizes)


split = Op(
    "split",
    multiple=True,
    abstract=_split_abstract,
    reference=lambda x, *, sizes, axis: tuple(np.split(x, np.cumsum(sizes[:-1]), axis)),
    lower=lambda b, x, *, sizes, axis: tuple(
        [b.slice(x, *part) for part in _parts(x.aval.shape, sizes, axis)]
    ),
    jvp=linear,
    transpose=_split_transpose,
    batch=_split_batch,
)


# -- rev and iota --------------------------------------------------------------------------------


def _rev_abstract(x, *, axes):
    if len(set(axes)) != len(axes) or any(not 0 <= a < x.ndim for a in axes):
        raise ValueError(f"rev: axes={axes} must be different and lie in 0..{x.ndim - 1} for {x}")
    return x


_BACKWARDS, _ALL = builtins.slice(None, None, -1), builtins.slice(None)

rev: Op = Op(
    "rev",
    abstract=_rev_abstract,
    reference=lambda x, *, axes: x[
        tuple([_BACKWARDS if i in axes else _ALL for i in range(x.ndim)])
    ],
    lower=lambda b, x, *, axes: b.reverse(x, axes),
    jvp=linear,
    transpose=lambda ct, x, *, axes: rev(ct, axes=axes),
    batch=lambda size, x, batched, *, axes: (rev(x[0], axes=tuple([a + 1 for a in axes])), True),
)


def _iota_abstract(*, shape, dtype, axis):
    if dtypes.kind(dtype) == "b":
        raise TypeError("iota: bool has no numbering; make int32 and convert it")
    if not 0 <= axis < len(shape):
        raise ValueError(
            f"iota: axis {axis} is out of range for shape {shape}, which has {len(shape)} axes"
        )
    return Aval(tuple(shape), np.dtype(dtype))


def _iota_reference(*, shape, dtype, axis):
    n = shape[axis]
    line = np.arange(n).astype(dtype).reshape([n if i == axis else 1 for i in range(len(shape))])
    return line if line.shape == shape else np.broadcast_to(line, shape)


iota: Op = Op(
    "iota",
    abstract=_iota_abstract,
    reference=_iota_reference,
    lower=lambda b, *, shape, dtype, axis: b.iota(b.out, axis),
    jvp=zero_tangent,
    transpose=Unsupported("iota has no operands to be linear in"),
    batch=lambda size, x, batched, **params: (iota(**params), False),
)
