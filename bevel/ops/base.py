"""The ops that every family needs: broadcast_in_dim, reshape, transpose, reduce_sum, and constants
made of them.

The rest of the package is ordered after this file: families, elementwise, shape, reduce, and so on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from bevel.core import dtypes
from bevel.core.aval import Aval
from bevel.core.op import Op, Unsupported, linear

HALF = frozenset((dtypes.float16, dtypes.bfloat16))
"""Floats narrow enough that sums, and functions NumPy lacks for them, are computed in float32."""


def check_dtype(
    name: str, operand: str, x: Aval, allowed: Sequence[np.dtype], fix: str = ""
) -> None:
    """Raise TypeError unless the dtype of `x` is one of `allowed`."""
    if x.dtype not in allowed:
        names = ", ".join([d.name for d in allowed])
        fix = fix or f"convert it first, for example x.astype({allowed[-1].name!r})"
        raise TypeError(f"{name}: {operand} is {x}; its dtype must be one of {names}: {fix}")


# -- broadcast_in_dim -----------------------------------------------------------------------------


def _broadcast_abstract(x, *, shape, dims):
    if (
        len(dims) != x.ndim
        or any(not 0 <= d < len(shape) for d in dims)
        or list(dims) != sorted(set(dims))
    ):
        raise ValueError(
            f"broadcast_in_dim: dims={dims} must name, in increasing order, the place of each "
            f"of the {x.ndim} axes "
            f"of {x} in the {len(shape)} axes of shape={shape}"
        )
    for i, (n, d) in enumerate(zip(x.shape, dims, strict=True)):
        if n != shape[d] and n != 1:
            raise ValueError(
                f"broadcast_in_dim: axis {i} of {x} has size {n} and cannot become axis {d} "
                f"of {shape}, of size {shape[d]}: the sizes must be equal, or the operand's 1"
            )
    return Aval(tuple(shape), x.dtype)


def _broadcast_reference(x, *, shape, dims):
    if not x.flags.c_contiguous or 0 in shape:
        places = [1] * len(shape)
        for d, n in zip(dims, x.shape, strict=True):
            places[d] = n
        return np.broadcast_to(x.reshape(places), shape)
    strides = [0] * len(shape)
    for d, n, s in zip(dims, x.shape, x.strides, strict=True):
        if n != 1:
            strides[d] = s
    # Eight times quicker than np.broadcast_to, which every scalar of an eager expression would pay.
    return np.ndarray(shape, x.dtype, x, 0, strides)


def _broadcast_transpose(ct, x, *, shape, dims):
    widened = {d for d, n in zip(dims, x.shape, strict=True) if n == 1 != shape[d]}
    axes = tuple([i for i in range(len(shape)) if i not in dims or i in widened])
    summed = reduce_sum(ct, axes=axes) if axes else ct
    return reshape(summed, shape=x.shape) if widened else summed


broadcast_in_dim: Op = Op(
    "broadcast_in_dim",
    abstract=_broadcast_abstract,
    reference=_broadcast_reference,
    lower=lambda b, x, *, shape, dims: b.broadcast_in_dim(x, shape, dims),
    jvp=linear,
    transpose=_broadcast_transpose,
    batch=lambda size, x, batched, *, shape, dims: (
        broadcast_in_dim(x[0], shape=(int(size), *shape), dims=(0, *[d + 1 for d in dims])),
        True,
    ),
)


def full(shape: tuple[int, ...], value, dtype: np.dtype):
    """A value of one number everywhere; in a program it is a scalar literal, never a large
    constant.

    >>> full((2,), 3, np.dtype("float32"))
    array([3., 3.], dtype=float32)
    """
    number = np.asarray(value, dtype)
    return broadcast_in_dim(number, shape=tuple(shape), dims=()) if shape else number


def full_like(x, value, dtype: np.dtype | None = None):
    """`full` with the shape of `x` and, unless one is given, its dtype."""
    return full(x.shape, value, x.dtype if dtype is None else dtype)


def zeros(aval: Aval):
    """Zeros of an aval."""
    return full(aval.shape, 0, aval.dtype)


def zeros_like(x):
    """Zeros with the shape and dtype of `x`."""
    return full(x.shape, 0, x.dtype)


def batch_broadcast(size: int, x, batched: bool):
    """Give an unbatched operand the batch axis."""
    if batched:
        return x
    ndim = len(x.shape)
    return broadcast_in_dim(x, shape=(int(size), *x.shape), dims=tuple(range(1, ndim + 1)))


# -- reshape and transpose ------------------------------------------------------------------------


def _reshape_abstract(x, *, shape):
    if math.prod(shape) != x.size or any(n < 0 for n in shape):
        raise ValueError(
            f"reshape: {x} has {x.size} elements and shape={shape} has {math.prod(shape)}: the "
            f"counts must be equal"
        )
    return Aval(tuple(shape), x.dtype)


reshape: Op = Op(
    "reshape",
    abstract=_reshape_abstract,
    reference=lambda x, *, shape: x.reshape(shape),
    lower=lambda b, x, *, shape: b.reshape(x, shape),
    jvp=linear,
    transpose=lambda ct, x, *, shape: reshape(ct, shape=x.shape),
    batch=lambda size, x, batched, *, shape: (reshape(x[0], shape=(int(size), *shape)), True),
)


def _transpose_abstract(x, *, permutation):
    if sorted(permutation) != list(range(x.ndim)):
        raise ValueError(
            f"transpose: permutation={permutation} must hold each axis of {x}, 0 to "
            f"{x.ndim - 1}, exactly once"
        )
    return Aval(tuple([x.shape[p] for p in permutation]), x.dtype)


def inverse_permutation(permutation: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes another.

    >>> inverse_permutation((2, 0, 1))
    (1, 2, 0)
    """
    out = [0] * len(permutation)
    for i, p in enumerate(permutation):
        out[p] = i
    return tuple(out)


transpose: Op = Op(
    "transpose",
    abstract=_transpose_abstract,
    reference=lambda x, *, permutation: x.transpose(permutation),
    lower=lambda b, x, *, permutation: b.transpose(x, permutation),
    jvp=linear,
    transpose=lambda ct, x, *, permutation: transpose(
        ct, permutation=inverse_permutation(permutation)
    ),
    batch=lambda size, x, batched, *, permutation: (
        transpose(x[0], permutation=(0, *[p + 1 for p in permutation])),
        True,
    ),
)


# -- reductions -----------------------------------------------------------------------------------


def drop_axes(shape: tuple[int, ...], axes: Sequence[int]) -> tuple[int, ...]:
    """A shape without some axes."""
    return tuple([n for i, n in enumerate(shape) if i not in axes])


def restore_axes(x, shape: tuple[int, ...], axes: Sequence[int]):
    """Repeat `x` along `axes`, which a reduction of `shape` has dropped."""
    return broadcast_in_dim(
        x, shape=tuple(shape), dims=tuple([i for i in range(len(shape)) if i not in axes])
    )


def reduction(
    name: str,
    reference: Callable,
    lower: str | Callable,
    jvp,
    *,
    dtypes: Sequence[np.dtype] = dtypes.NUMBER,
    transpose: Callable | Unsupported | None = None,
) -> Op:
    """An op that reduces over `axes`, a sorted tuple of non-negative ints.

    `lower` is a rule, or one of the kinds of `Builder.reduce`.
    """
    allowed = frozenset(dtypes)

    def abstract(x, *, axes):
        if x.dtype not in allowed:
            check_dtype(name, "the operand", x, dtypes)
        if list(axes) != sorted(set(axes)) or (axes and not 0 <= axes[0] <= axes[-1] < x.ndim):
            raise ValueError(
                f"{name}: axes={axes} must be different, sorted and between 0 and {x.ndim - 1} "
                f"for {x}"
            )
        return Aval(drop_axes(x.shape, axes), x.dtype)

    def batch(size, x, batched, *, axes):
        return op(x[0], axes=tuple([a + 1 for a in axes])), True

    op = Op(
        name,
        abstract=abstract,
        reference=reference,
        lower=lower if callable(lower) else lambda b, x, *, axes: b.reduce(x, lower, axes),
        jvp=jvp,
        transpose=transpose or Unsupported(f"{name} is not linear"),
        batch=batch,
    )
    return op


def _sum_reference(x, *, axes):
    if x.dtype in HALF:
        return np.add.reduce(x.astype(np.float32), axes).astype(x.dtype)
    return np.add.reduce(x, axes, x.dtype)


def _sum_lower(b, x, *, axes):
    if x.aval.dtype in HALF:
        return b.convert(b.reduce(b.convert(x, dtypes.float32), "add", axes), x.aval.dtype)
    return b.reduce(x, "add", axes)


reduce_sum = reduction(
    "reduce_sum",
    _sum_reference,
    _sum_lower,
    linear,
    transpose=lambda ct, x, *, axes: restore_axes(ct, x.shape, axes),
)
