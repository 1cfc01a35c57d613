"""Products whose rows form groups of different sizes, and products of scaled blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import bevel.ops as ops
from bevel.core import dtypes
from bevel.core.dtypes import as_dtype
from bevel.core.errors import ShapeError, Unsupported
from bevel.core.handle import wrap
from bevel.lax.operands import one_dtype, require
from bevel.lax.products import dot_general
from bevel.numpy.arguments import cast, number

Axes = tuple[int, ...]


def _axes(values: Sequence[int]) -> Axes:
    return tuple([int(v) for v in values])


@dataclass(frozen=True, init=False)
class RaggedDotDimensionNumbers:
    """How `ragged_dot_general` pairs axes: those of `dot_general`, the axis of `lhs` that is cut
    into groups, and the axis of `rhs` that counts the groups (none where it is contracted).
    """

    dot_dimension_numbers: Any
    lhs_ragged_dimensions: Axes
    rhs_group_dimensions: Axes

    def __init__(
        self,
        dot_dimension_numbers: Any,
        lhs_ragged_dimensions: Sequence[int],
        rhs_group_dimensions: Sequence[int],
    ):
        pairs = tuple([tuple([_axes(side) for side in pair]) for pair in dot_dimension_numbers])
        object.__setattr__(self, "dot_dimension_numbers", pairs)
        object.__setattr__(self, "lhs_ragged_dimensions", _axes(lhs_ragged_dimensions))
        object.__setattr__(self, "rhs_group_dimensions", _axes(rhs_group_dimensions))


def ragged_dot(
    lhs: Any,
    rhs: Any,
    group_sizes: Any,
    precision: Any = None,
    preferred_element_type: Any = None,
    group_offset: Any = None,
) -> Any:
    """Each row of `lhs` (m, k) times the matrix of its group in `rhs` (g, k, n), as (m, n).

    `group_sizes` (g,) are numbers of consecutive rows; rows beyond their sum give zeros.

    >>> x, w = bnp.ones((3, 1)), bnp.array([[[2.0]], [[5.0]]])
    >>> lax.ragged_dot(x, w, bnp.array([1, 2])).ravel()
    Array([2., 5., 5.], dtype=float32)
    """
    numbers = RaggedDotDimensionNumbers((((1,), (1,)), ((), ())), (0,), (0,))
    return ragged_dot_general(
        lhs, rhs, group_sizes, numbers, precision, preferred_element_type, group_offset
    )


def ragged_dot_general(
    lhs: Any,
    rhs: Any,
    group_sizes: Any,
    ragged_dot_dimension_numbers: RaggedDotDimensionNumbers,
    precision: Any = None,
    preferred_element_type: Any = None,
    group_offset: Any = None,
) -> Any:
    """`dot_general` of an `lhs` of which one axis is cut into groups of consecutive entries.

    If the axis is kept, each entry meets the part of `rhs` that belongs to its group; if it is
    contracted, each group gives a result of its own, along a new first axis; a batch axis is not
    cut. `group_sizes` is (g,), or has axes of `lhs` in front: its batch axes, and those before the
    ragged one among the kept (the contracted) axes. Groups are made by zeros, so that the work
    is that of all groups for all entries.

    Raises:
        Unsupported: `group_offset` is given.

    >>> x = bnp.array([[1.0, 2.0, 3.0]])
    >>> dims = lax.RaggedDotDimensionNumbers((((1,), (1,)), ((), ())), (1,), ())
    >>> lax.ragged_dot_general(x, x, bnp.array([1, 2]), dims).ravel()
    Array([ 1., 13.], dtype=float32)
    """
    name, dims = "ragged_dot_general", ragged_dot_dimension_numbers
    if group_offset is not None:
        raise Unsupported(
            "lax.ragged_dot: group_offset is not available.\nWhy: no platform computes it.\n"
            "Write instead: the groups that count, group_sizes[start:] and rhs[start:]."
        )
    (x, y), _ = one_dtype(name, (lhs, rhs))
    sizes = number(name, group_sizes)
    require(name, sizes, "iu", "integer group_sizes")
    (contract, batch), lead, groups = _checked(name, x, y, sizes, dims)
    if groups is None:
        return dot_general(lhs, rhs, (contract, batch), precision, preferred_element_type)
    (axis,) = dims.lhs_ragged_dimensions
    wide = _cut(x, sizes, axis, lead[0])
    contract_x, batch_x = (tuple([a + 1 for a in pair[0]]) for pair in (contract, batch))
    if axis in contract[0]:
        other = contract[1][contract[0].index(axis)]
        wide_y = _cut(y, sizes, other, lead[1])
        contract_y, batch_y = (tuple([a + 1 for a in pair[1]]) for pair in (contract, batch))
        numbers: Any = ((contract_x, contract_y), ((0, *batch_x), (0, *batch_y)))
        return dot_general(wrap(wide), wrap(wide_y), numbers, precision, preferred_element_type)
    numbers = (((*contract_x, 0), (*contract[1], *dims.rhs_group_dimensions)), (batch_x, batch[1]))
    return dot_general(wrap(wide), wrap(y), numbers, precision, preferred_element_type)


def _checked(name: str, x: Any, y: Any, sizes: Any, dims: RaggedDotDimensionNumbers) -> Any:
    """The pairs of axes, the axes in front of the ragged one on both sides, the number of groups
    (None if a batch axis is ragged).
    """
    contract, batch = dims.dot_dimension_numbers
    ndim = len(x.shape)
    if len(dims.lhs_ragged_dimensions) != 1 or not 0 <= dims.lhs_ragged_dimensions[0] < ndim:
        raise ValueError(
            f"lax.{name}: lhs_ragged_dimensions={dims.lhs_ragged_dimensions} must name one of the "
            f"{ndim} axes of lhs"
        )
    (axis,) = dims.lhs_ragged_dimensions
    kept = axis not in contract[0] and axis not in batch[0]
    if len(dims.rhs_group_dimensions) != kept:
        raise ValueError(
            f"lax.{name}: rhs_group_dimensions={dims.rhs_group_dimensions} must name one axis if "
            "the ragged axis of lhs is kept, and none if it is contracted or a batch axis"
        )
    if axis in batch[0]:
        lead: Any = (batch[0][: batch[0].index(axis)],) * 2
    elif kept:
        free = [i for i in range(ndim) if i not in contract[0] and i not in batch[0]]
        lead = ((*batch[0], *free[: free.index(axis)]), ())
    else:
        before = contract[0].index(axis)
        lead = tuple([(*batch[side], *contract[side][:before]) for side in (0, 1)])
    expected = tuple([x.shape[i] for i in lead[0]])
    if not sizes.shape or tuple(sizes.shape[:-1]) not in ((), expected):
        raise ShapeError(
            f"lax.{name}: group_sizes has shape {tuple(sizes.shape)}; it must be (g,)"
            + (f" or {(*expected, 'g')}" if expected else "")
        )
    groups = int(sizes.shape[-1])
    if kept and y.shape[dims.rhs_group_dimensions[0]] != groups:
        raise ShapeError(
            f"lax.{name}: rhs {tuple(y.shape)} has {y.shape[dims.rhs_group_dimensions[0]]} groups "
            f"along axis {dims.rhs_group_dimensions[0]}, and group_sizes {groups}"
        )
    return (contract, batch), lead, None if axis in batch[0] else groups


def _cut(x: Any, sizes: Any, axis: int, lead: Axes) -> Any:
    """`x` once for each group, along a new first axis, with zeros outside the group.

    `lead` are the axes of `x` that the axes of `sizes` before its last stand for, if it has any.
    """
    sizes = cast(sizes, dtypes.int32)
    last = len(sizes.shape) - 1
    ends = ops.cumsum(sizes, axis=last, reverse=False)
    starts = ops.sub(ends, sizes)
    shape = (int(sizes.shape[-1]), *x.shape)
    places = ops.iota(shape=shape, dtype=dtypes.int32, axis=axis + 1)
    order = sorted(range(last), key=lambda i: lead[i])
    bounds = [
        ops.broadcast_in_dim(
            ops.transpose(v, permutation=(last, *order)),
            shape=shape,
            dims=(0, *[lead[i] + 1 for i in order]),
        )
        for v in (starts, ends)
    ]
    inside = ops.and_(ops.ge(places, bounds[0]), ops.lt(places, bounds[1]))
    wide = ops.broadcast_in_dim(x, shape=shape, dims=tuple(range(1, len(shape))))
    return ops.select(inside, wide, ops.zeros_like(wide))


# -- products of scaled blocks -------------------------------------------------------------------


def _scaled(side: str, x: Any, scale: Any, contracted: Axes, dtype: Any) -> Any:
    """`x` times its scale, of which each entry along a contracted axis counts for a block."""
    value = cast(x, dtype)
    if scale is None:
        return value
    factor = number("scaled_dot", scale)
    if len(factor.shape) != len(x.shape):
        raise ShapeError(
            f"lax.scaled_dot: {side} has shape {tuple(x.shape)} and its scale "
            f"{tuple(factor.shape)}; they need as many axes"
        )
    factor = cast(factor, dtype)
    for i, n in enumerate(x.shape):
        m = factor.shape[i]
        block = n // m if m and n % m == 0 else 0
        if block < 1 or (block == 1) == (i in contracted):
            raise ShapeError(
                f"lax.scaled_dot: axis {i} of {side} has size {n} and its scale {m}; "
                + (
                    "it must be a multiple, at least twice"
                    if i in contracted
                    else "they must be equal"
                )
            )
        if block > 1:
            shape = tuple(factor.shape)
            spread = ops.broadcast_in_dim(
                factor,
                shape=(*shape[: i + 1], block, *shape[i + 1 :]),
                dims=(*range(i + 1), *range(i + 2, len(shape) + 1)),
            )
            factor = ops.reshape(spread, shape=(*shape[:i], n, *shape[i + 1 :]))
    return ops.mul(value, factor)


def scaled_dot(
    lhs: Any,
    rhs: Any,
    *,
    lhs_scale: Any = None,
    rhs_scale: Any = None,
    dimension_numbers: Any = None,
    preferred_element_type: Any = None,
) -> Any:
    """`dot_general` of `lhs * lhs_scale` and `rhs * rhs_scale` in `preferred_element_type`, by
    default bfloat16.

    Scales have the shapes of the operands, but for contracted axes: there one number stands for a
    block of two or more entries. Without `dimension_numbers` it is `matmul` of equal stacks.

    >>> x, s = bnp.ones((1, 4)), bnp.array([[2.0, 3.0]])
    >>> lax.scaled_dot(x, x.T, lhs_scale=s, preferred_element_type=bnp.float32)
    Array([[10.]], dtype=float32)
    """
    x, y = number("scaled_dot", lhs), number("scaled_dot", rhs)
    n = len(x.shape)
    if dimension_numbers is None:
        if n < 2 or len(y.shape) != n:
            raise ShapeError(
                f"lax.scaled_dot: shapes {tuple(x.shape)} and {tuple(y.shape)} must have as many "
                "axes, at least 2; or give dimension_numbers"
            )
        lead = tuple(range(n - 2))
        dimension_numbers = (((n - 1,), (n - 2,)), (lead, lead))
    contract = dimension_numbers[0]
    preferred = (
        dtypes.bfloat16 if preferred_element_type is None else as_dtype(preferred_element_type)
    )
    a = _scaled("lhs", x, lhs_scale, _axes(contract[0]), preferred)
    b = _scaled("rhs", y, rhs_scale, _axes(contract[1]), preferred)
    return dot_general(wrap(a), wrap(b), dimension_numbers)
