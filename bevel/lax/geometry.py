"""Shapes that convolutions and windows give, and convolution with a kernel for every place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bevel.core.errors import ShapeError
from bevel.core.handle import logical_shape
from bevel.lax.products import (
    ConvDimensionNumbers,
    conv_dimension_numbers,
    conv_general_dilated_patches,
    dot_general,
    transposed_padding,
)
from bevel.lax.reductions import padtype_to_pads
from bevel.numpy.convert import enter
from bevel.numpy.manipulation import moveaxis
from bevel.ops.conv import dilated

ConvGeneralDilatedDimensionNumbers = tuple[str, str, str] | ConvDimensionNumbers | None
"""What `conv_general_dilated` takes as its `dimension_numbers`."""

Shape = tuple[int, ...]


def _strided(n: int, window: int, stride: int) -> int:
    """How many windows fit into `n` places."""
    return max(0, (n - window) // stride + 1)


def conv_general_permutations(dimension_numbers: Sequence[str]) -> tuple[Shape, Shape, Shape]:
    """Where (batch, feature, *space) lie in three layouts; the kernel's order of space counts.

    >>> lax.conv_general_permutations(("NHWC", "HWIO", "NHWC"))
    ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))
    """
    shape = (1,) * len(dimension_numbers[0])
    return tuple(conv_dimension_numbers(shape, shape, tuple(dimension_numbers)))


def conv_shape_tuple(
    lhs_shape: Sequence[int],
    rhs_shape: Sequence[int],
    strides: Sequence[int],
    pads: str | Sequence[tuple[int, int]],
    batch_group_count: int = 1,
) -> Shape:
    """Shape of a convolution in the layouts NCHW and OIHW.

    >>> lax.conv_shape_tuple((1, 3, 8, 8), (16, 3, 3, 3), (2, 2), "SAME")
    (1, 16, 4, 4)
    """
    space, window = tuple(lhs_shape[2:]), tuple(rhs_shape[2:])
    if isinstance(pads, str):
        pads = padtype_to_pads(space, window, strides, pads)
    if len(pads) != len(space):
        raise ShapeError(
            f"lax.conv_shape_tuple: {len(pads)} pairs of padding for {len(space)} space axes"
        )
    room = [n + low + high for n, (low, high) in zip(space, pads, strict=True)]
    if any(n < 0 for n in room) or lhs_shape[0] % batch_group_count:
        raise ShapeError(
            f"lax.conv_shape_tuple: padding {tuple(pads)} cuts more than {space}, or "
            f"batch_group_count={batch_group_count} does not divide the batch of {lhs_shape[0]}"
        )
    out = [_strided(n, w, s) for n, w, s in zip(room, window, strides, strict=True)]
    return (lhs_shape[0] // batch_group_count, rhs_shape[0], *out)


def _in_layout(shape: Sequence[int], places: Sequence[int]) -> Shape:
    out = [0] * len(shape)
    for n, place in zip(shape, places, strict=True):
        out[place] = int(n)
    return tuple(out)


def conv_general_shape_tuple(
    lhs_shape: Sequence[int],
    rhs_shape: Sequence[int],
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    dimension_numbers: Any,
) -> Shape:
    """Shape of a convolution in any layouts.

    >>> layouts = ("NHWC", "HWIO", "NHWC")
    >>> lax.conv_general_shape_tuple((1, 8, 8, 3), (3, 3, 3, 16), (2, 2), "VALID", layouts)
    (1, 3, 3, 16)
    """
    dims = conv_dimension_numbers(lhs_shape, rhs_shape, dimension_numbers)
    x, k = ([s[i] for i in spec] for s, spec in ((lhs_shape, dims[0]), (rhs_shape, dims[1])))
    return _in_layout(conv_shape_tuple(x, k, window_strides, padding), dims[2])


def conv_transpose_shape_tuple(
    lhs_shape: Sequence[int],
    rhs_shape: Sequence[int],
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    dimension_numbers: Any,
) -> Shape:
    """Shape of a `conv_transpose` in any layouts.

    >>> layouts = ("NHWC", "HWIO", "NHWC")
    >>> lax.conv_transpose_shape_tuple((1, 4, 4, 3), (3, 3, 3, 8), (2, 2), "SAME", layouts)
    (1, 8, 8, 8)
    """
    dims = conv_dimension_numbers(lhs_shape, rhs_shape, dimension_numbers)
    x, k = ([s[i] for i in spec] for s, spec in ((lhs_shape, dims[0]), (rhs_shape, dims[1])))
    if isinstance(padding, str):
        pairs = zip(k[2:], window_strides, strict=True)
        padding = [transposed_padding(w, s, padding.upper()) for w, s in pairs]
    rows = zip(x[2:], k[2:], window_strides, padding, strict=True)
    space = [(n - 1) * s - w + 2 + sum(pads) for n, w, s, pads in rows]
    return _in_layout((x[0], k[0], *space), dims[2])


def reduce_window_shape_tuple(
    operand_shape: Sequence[int],
    window_dimensions: Sequence[int],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    base_dilation: Sequence[int] | None = None,
    window_dilation: Sequence[int] | None = None,
) -> Shape:
    """Shape of a `reduce_window`.

    >>> lax.reduce_window_shape_tuple((5, 4), (3, 2), (2, 1), [(1, 1), (0, 0)])
    (3, 3)
    """
    ones = (1,) * len(operand_shape)
    rows = zip(
        operand_shape,
        window_dimensions,
        window_strides,
        padding,
        base_dilation or ones,
        window_dilation or ones,
        strict=True,
    )
    return tuple(
        [_strided(dilated(n, b) + sum(pads), dilated(w, d), s) for n, w, s, pads, b, d in rows]
    )


def conv_general_dilated_local(
    lhs: Any,
    rhs: Any,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    filter_shape: Sequence[int],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    precision: Any = None,
) -> Any:
    """Convolution with a kernel of its own at every place of the result.

    The space axes of `rhs` are those of the result; its input axis holds what a kernel sees, the
    features outermost and `filter_shape` within, as `conv_general_dilated_patches` gives it.

    >>> x, k = bnp.ones((1, 1, 4)), bnp.arange(6.0).reshape(1, 2, 3)
    >>> lax.conv_general_dilated_local(x, k, (1,), "VALID", (2,))
    Array([[[3., 5., 7.]]], dtype=float32)
    """
    shape = logical_shape(enter(lhs))
    fake = (1,) * len(shape)
    dims = conv_dimension_numbers(shape, fake, dimension_numbers)
    first = precision[0] if isinstance(precision, tuple) else precision
    patches = conv_general_dilated_patches(
        lhs, filter_shape, window_strides, padding, lhs_dilation, rhs_dilation, dims, first
    )
    order = sorted(range(len(shape) - 2), key=lambda i: dims.out_spec[2:][i])
    places = tuple([dims.out_spec[2:][i] for i in order])
    kernel_places = tuple([dims.rhs_spec[2:][i] for i in order])
    numbers = (((dims.out_spec[1],), (dims.rhs_spec[1],)), (places, kernel_places))
    out = dot_general(patches, rhs, numbers, precision)
    return moveaxis(out, (-2, -1), tuple(dims.out_spec[:2]))
