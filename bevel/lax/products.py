"""Contractions, convolutions and Fourier transforms, with the names and argument orders of
`jax.lax`.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import bevel.ops as ops
from bevel.core import dtypes
from bevel.core.errors import ShapeError
from bevel.core.handle import wrap
from bevel.core.misfit import Change, Fix, Shape, change_of, literal, mend, misfit, transposed
from bevel.core.spelling import operands
from bevel.lax.algorithms import DotAlgorithm, DotAlgorithmPreset, checked_precision
from bevel.lax.operands import checked, one_dtype
from bevel.lax.reductions import padtype_to_pads
from bevel.numpy.arguments import cast, integer, number
from bevel.numpy.convert import enter
from bevel.numpy.products import precision_of, preferred_of
from bevel.ops.dot import check_precision


class Precision(enum.Enum):
    """How exactly float32 products are computed where the device has a choice."""

    DEFAULT = "default"
    HIGH = "high"
    HIGHEST = "highest"


PrecisionLike = (
    None
    | str
    | Precision
    | DotAlgorithm
    | DotAlgorithmPreset
    | tuple[str, str]
    | tuple[Precision, Precision]
)
"""What products take as their `precision`."""

DotDimensionNumbers = tuple[
    tuple[Sequence[int], Sequence[int]], tuple[Sequence[int], Sequence[int]]
]
"""Pairs of contracted and of batch axes: `((lhs, rhs), (lhs batch, rhs batch))`."""


class FftType(enum.Enum):
    """Kinds of Fourier transform; `fft` takes their lower-case names as well."""

    FFT = "fft"
    IFFT = "ifft"
    RFFT = "rfft"
    IRFFT = "irfft"


class ConvDimensionNumbers(NamedTuple):
    """Places of (batch, feature, *space) in the input and the result, and of (out, in, *space) in
    the kernel.
    """

    lhs_spec: Sequence[int]
    rhs_spec: Sequence[int]
    out_spec: Sequence[int]


# -- contractions --------------------------------------------------------------------------------


def _ints(name: str, axes: Sequence[int]) -> tuple[int, ...]:
    return tuple([integer(name, "every axis", a) for a in axes])


def dot_general(
    lhs: Any,
    rhs: Any,
    dimension_numbers: Any,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Any:
    """Sum of products over pairs of axes: `((lhs axes, rhs axes), (lhs batch axes, rhs batch
    axes))`.

    The result has the batch axes first, then the other axes of `lhs`, then those of `rhs`.
    `precision` is a `Precision`, one for each operand, or a `DotAlgorithm`.

    >>> lax.dot_general(bnp.ones((2, 3)), bnp.ones((4, 3)), (((1,), (1,)), ((), ()))).shape
    (2, 4)
    """
    (x, y), tag = one_dtype("dot_general", (lhs, rhs))
    contract, batch = (
        tuple([_ints("dot_general", side) for side in pair]) for pair in dimension_numbers
    )
    precision = checked_precision("dot_general", precision, np.dtype(x.dtype))
    try:
        out = checked(
            ops.dot_general,
            x,
            y,
            contract=contract,
            batch=batch,
            precision=precision_of(precision),
            preferred=preferred_of(preferred_element_type),
        )
    except (TypeError, ValueError) as e:
        raise _no_pairs((lhs, rhs), tuple(x.shape), tuple(y.shape), contract, batch) or e from None
    return wrap(out, tag)


def _no_pairs(
    given: tuple[Any, Any], x: Shape, y: Shape, contract: Any, batch: Any
) -> Exception | None:
    """The error of a pair of axes whose sizes differ, if there is one."""
    if not all([len(p) == 2 and len(p[0]) == len(p[1]) for p in (contract, batch)]):
        return None
    for what, pairs in (("contracted", contract), ("batch", batch)):
        for i, j in zip(*pairs, strict=True):
            if not (0 <= i < len(x) and 0 <= j < len(y)) or x[i] == y[j]:
                continue
            others = [
                (a, b)
                for a, n in enumerate(x)
                for b, m in enumerate(y)
                if n == m and a not in batch[0] and b not in batch[1]
            ]
            fixes = []
            if len(contract[0]) == 1 and len(others) == 1 and what == "contracted":
                (a, b) = others[0]
                numbers = f"((({a},), ({b},)), {batch})"
                cause = f"Axis {a} of {{0}} and axis {b} of {{1}} are equal"
                fixes = [Fix(cause, settings={"dimension_numbers": (2, numbers)})]
            return misfit(
                "lax.dot_general",
                [enter(v) for v in given],
                f"{what} axes must be equal, and axis {i} of {{0}} is {x[i]} and axis {j} of {{1}} "
                f"{y[j]}",
                fixes,
                "dimension_numbers that pair axes of equal sizes",
                params=("lhs", "rhs"),
            )
    return None


def dot(
    lhs: Any,
    rhs: Any,
    precision: Any = None,
    preferred_element_type: Any = None,
    *,
    dimension_numbers: Any = None,
) -> Any:
    """Product of vectors and matrices; with `dimension_numbers`, `dot_general`.

    >>> lax.dot(bnp.ones((2, 3)), bnp.ones(3))
    Array([3., 3.], dtype=float32)
    """
    (x, y), _ = one_dtype("dot", (lhs, rhs))
    if dimension_numbers is None:
        ranks = len(x.shape), len(y.shape)
        if not {*ranks} <= {1, 2} or x.shape[-1] != y.shape[0]:
            found = mend(
                [tuple(x.shape), tuple(y.shape)],
                lambda new: {*map(len, new)} <= {1, 2} and new[0][-1] == new[1][0],
                [lambda i, shape: transposed(shape)],
            )
            raise misfit(
                "lax.dot",
                [enter(lhs), enter(rhs)],
                "it takes vectors and matrices, the last axis of {0} as long as the first of {1}",
                [] if found is None else [found],
                "lax.dot_general, or bnp.matmul for stacks",
                params=("lhs", "rhs"),
            )
        dimension_numbers = (((ranks[0] - 1,), (0,)), ((), ()))
    return dot_general(lhs, rhs, dimension_numbers, precision, preferred_element_type)


def batch_matmul(lhs: Any, rhs: Any, precision: Any = None) -> Any:
    """Matrix products of two stacks of the same shape.

    >>> lax.batch_matmul(bnp.ones((5, 2, 3)), bnp.ones((5, 3, 4))).shape
    (5, 2, 4)
    """
    n = len(number("batch_matmul", lhs).shape)
    if n < 2 or len(number("batch_matmul", rhs).shape) != n:
        raise ShapeError("lax.batch_matmul: both stacks need the same number of axes, at least 2")
    lead = tuple(range(n - 2))
    try:
        return dot_general(lhs, rhs, (((n - 1,), (n - 2,)), (lead, lead)), precision)
    except ShapeError:
        found = mend(
            [tuple(enter(v).shape) for v in (lhs, rhs)],
            lambda new: (*new[0][:-2], new[0][-1]) == new[1][:-1],
            [lambda i, shape: transposed(shape)],
        )
        raise misfit(
            "lax.batch_matmul",
            [enter(lhs), enter(rhs)],
            "the axes before the last two must be equal, and the last axis of {0} as long as the "
            "second-to-last of {1}",
            [] if found is None else [found],
            "bnp.matmul, which broadcasts the axes before the last two",
            params=("lhs", "rhs"),
        ) from None


# -- convolutions --------------------------------------------------------------------------------


def _spec(name: str, text: Any, letters: str, ndim: int) -> tuple[int, ...]:
    """The axes (batch, feature, *space) or (out, in, *space) that a layout such as "NHWC" names."""
    if not isinstance(text, str):
        return _ints(name, text)
    space = [c for c in text if c not in letters]
    if len(text) != ndim or len(set(text)) != ndim or any(c not in text for c in letters):
        raise ValueError(
            f"{name}: layout {text!r} must name {letters[0]}, {letters[1]} and {ndim - 2} space "
            "axes once"
        )
    return (text.index(letters[0]), text.index(letters[1]), *[text.index(c) for c in space])


def conv_dimension_numbers(
    lhs_shape: Sequence[int], rhs_shape: Sequence[int], dimension_numbers: Any
) -> Any:
    """Layouts as a `ConvDimensionNumbers`: from None (batch or out first, then features), or three
    strings.

    >>> lax.conv_dimension_numbers((1, 8, 8, 3), (3, 3, 3, 16), ("NHWC", "HWIO", "NHWC")).lhs_spec
    (0, 3, 1, 2)
    """
    name, n = "conv_dimension_numbers", len(lhs_shape)
    if len(rhs_shape) != n or n < 2:
        raise ShapeError(
            f"{name}: input {tuple(lhs_shape)} and kernel {tuple(rhs_shape)} need as many axes, "
            "at least 2"
        )
    if dimension_numbers is None:
        return ConvDimensionNumbers(*[tuple(range(n))] * 3)
    lhs, rhs, out = dimension_numbers
    x, k, y = _spec(name, lhs, "NC", n), _spec(name, rhs, "OI", n), _spec(name, out, "NC", n)
    if isinstance(lhs, str) and isinstance(rhs, str) and isinstance(out, str):
        # Space axes are known by their letters; the order of the kernel's counts, as in JAX.
        space = [c for c in rhs if c not in "OI"]
        if set(space) != set(lhs) - set("NC") or set(space) != set(out) - set("NC"):
            raise ValueError(
                f"{name}: layouts {lhs!r}, {rhs!r}, {out!r} must name the same space axes"
            )
        x = (*x[:2], *[lhs.index(c) for c in space])
        y = (*y[:2], *[out.index(c) for c in space])
    return ConvDimensionNumbers(x, k, y)


def _each(name: str, what: str, values: Any, n: int) -> tuple[int, ...]:
    given = (1,) * n if values is None else _ints(name, values)
    if len(given) != n:
        raise ValueError(
            f"lax.{name}: {what}={given} needs one entry for each of the {n} space axes"
        )
    return given


def conv_general_dilated(
    lhs: Any,
    rhs: Any,
    window_strides: Sequence[int] | None,
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Any:
    """Convolution (the kernel is not flipped) in any layout, with strides, padding, dilation and
    groups.

    `padding` is "SAME", "SAME_LOWER", "VALID" or (low, high) for every space axis.

    >>> x, k = bnp.ones((1, 8, 8, 3)), bnp.ones((3, 3, 3, 16))
    >>> layouts = ("NHWC", "HWIO", "NHWC")
    >>> lax.conv_general_dilated(x, k, (2, 2), "SAME", dimension_numbers=layouts).shape
    (1, 4, 4, 16)
    """
    name, precision = "conv_general_dilated", precision_of(precision)
    check_precision(name, precision)
    (x, k), tag = one_dtype(name, (lhs, rhs))
    if len(x.shape) != len(k.shape) or len(x.shape) < 2:
        raise _no_conv((lhs, rhs), dimension_numbers, feature_group_count)
    dims = conv_dimension_numbers(tuple(x.shape), tuple(k.shape), dimension_numbers)
    n = len(x.shape) - 2
    strides = _each(name, "window_strides", window_strides, n)
    lhs_dilation = _each(name, "lhs_dilation", lhs_dilation, n)
    rhs_dilation = _each(name, "rhs_dilation", rhs_dilation, n)
    if isinstance(padding, str):
        sizes = [
            _reach(x.shape[i], d) for i, d in zip(dims.lhs_spec[2:], lhs_dilation, strict=True)
        ]
        window = [
            _reach(k.shape[i], d) for i, d in zip(dims.rhs_spec[2:], rhs_dilation, strict=True)
        ]
        padding = padtype_to_pads(sizes, window, strides, padding)
    try:
        out = checked(
            ops.conv_general_dilated,
            x,
            k,
            strides=strides,
            padding=tuple([_ints(name, p) for p in padding]),
            lhs_dilation=lhs_dilation,
            rhs_dilation=rhs_dilation,
            dims=ops.ConvDims(*[_ints(name, spec) for spec in dims]),
            feature_group_count=feature_group_count,
            batch_group_count=batch_group_count,
            precision=precision,
            preferred=preferred_of(preferred_element_type),
        )
    except (TypeError, ValueError):
        if feature_group_count < 1 or _convolves(x.shape, k.shape, dims, feature_group_count):
            raise
        raise _no_conv((lhs, rhs), dimension_numbers, feature_group_count) from None
    return wrap(out, tag)


def _convolves(x: Shape, k: Shape, dimension_numbers: Any, groups: int) -> bool:
    """Whether an input and a kernel have as many axes, and features that fit."""
    if len(x) != len(k) or len(x) < 2:
        return False
    try:
        dims = conv_dimension_numbers(x, k, dimension_numbers)
    except ValueError:  # a layout of another number of axes
        return False
    if max(*dims.lhs_spec, *dims.rhs_spec) >= len(x):
        return True  # that is what is wrong
    return x[dims.lhs_spec[1]] == k[dims.rhs_spec[1]] * groups


_CONVS = ("conv_general_dilated", "conv", "conv_with_general_padding")
_LAYOUTS = ("N{}C {}IO", "NC{} OI{}", "N{}C {}OI", "N{}C OI{}", "NC{} {}IO", "NC{} {}OI")


def _no_conv(given: tuple[Any, Any], dimension_numbers: Any, groups: int) -> Exception:
    """The error of an input and a kernel that do not fit: the usual layouts are tried."""
    x, k = (enter(v) for v in given)
    shapes = tuple(x.shape), tuple(k.shape)
    fixes: list[Fix] = []
    if len(x.shape) == len(k.shape) > 2:
        dims = conv_dimension_numbers(*shapes, dimension_numbers)
        i, o = dims.lhs_spec[1], dims.rhs_spec[1]
        per = f" in each of {groups} groups" if groups > 1 else ""
        why = (
            f"by dimension_numbers={literal(dimension_numbers)}, axis {i} of {{0}} holds its "
            f"features, {x.shape[i]}, and axis {o} of {{1}} those that it takes{per}, {k.shape[o]}"
        )
        for layout in _LAYOUTS:
            data, kernel = layout.format(*["DHW"[5 - x.ndim :]] * 2).split()
            numbers = (data, kernel, data)
            if x.ndim < 6 and _convolves(*shapes, numbers, groups):
                setting = {"dimension_numbers": (6, repr(numbers))}
                cause = f"With {numbers} they fit"
                fixes = [Fix(cause, callee="conv_general_dilated", settings=setting)]
                break
    else:
        why = f"both need the same number of axes, and have {x.ndim} and {k.ndim}"
        one = (1, *shapes[0])
        if _convolves(one, shapes[1], dimension_numbers, groups):
            fixes = [change_of(0, Change("_[None]", one, "lacks the batch axis"))]
    names = [c for c in _CONVS if operands(c, shapes, params=("lhs", "rhs"))]
    return misfit(
        f"lax.{names[0] if names else _CONVS[0]}",
        [x, k],
        why,
        fixes,
        "an input and a kernel with the same number of features, and dimension_numbers for them",
        params=("lhs", "rhs"),
        words=["the input", "the kernel"],
    )


def _reach(n: int, dilation: int) -> int:
    return 0 if n == 0 else (n - 1) * dilation + 1


def conv(
    lhs: Any,
    rhs: Any,
    window_strides: Sequence[int],
    padding: str,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Any:
    """Convolution in the layouts NCHW and OIHW.

    >>> lax.conv(bnp.ones((1, 1, 4)), bnp.ones((1, 1, 3)), (1,), "VALID")
    Array([[[3., 3.]]], dtype=float32)
    """
    return conv_general_dilated(
        lhs,
        rhs,
        window_strides,
        padding,
        precision=precision,
        preferred_element_type=preferred_element_type,
    )


def conv_with_general_padding(
    lhs: Any,
    rhs: Any,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None,
    rhs_dilation: Sequence[int] | None,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Any:
    """Convolution in the layouts NCHW and OIHW, with padding and dilation.

    >>> lax.conv_with_general_padding(
    ...     bnp.ones((1, 1, 2)), bnp.ones((1, 1, 2)), (1,), [(1, 1)], (1,), (1,))
    Array([[[1., 2., 1.]]], dtype=float32)
    """
    return conv_general_dilated(
        lhs,
        rhs,
        window_strides,
        padding,
        lhs_dilation,
        rhs_dilation,
        precision=precision,
        preferred_element_type=preferred_element_type,
    )


def transposed_padding(k: int, stride: int, padding: str) -> tuple[int, int]:
    """Padding under which a strided convolution's transpose has the size that was convolved."""
    if padding == "SAME":
        total = k + stride - 2
        before = k - 1 if stride > k - 1 else math.ceil(total / 2)
    elif padding == "VALID":
        total, before = k + stride - 2 + max(k - stride, 0), k - 1
    else:
        raise ValueError(
            f"lax.conv_transpose: padding must be 'SAME', 'VALID' or pairs, got {padding!r}"
        )
    return before, total - before


def conv_transpose(
    lhs: Any,
    rhs: Any,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    transpose_kernel: bool = False,
    precision: Any = None,
    preferred_element_type: Any = None,
    use_consistent_padding: bool = False,
) -> Any:
    """The convolution that enlarges: the derivative of a strided one, as a layer of its own.

    Layouts are NHWC and HWIO (NWC, WIO; NDHWC, DHWIO) unless given. `transpose_kernel` flips the
    kernel and exchanges its feature axes, for the exact transpose of `conv_general_dilated`.
    Pairs in `padding` are those of this convolution, or with `use_consistent_padding` those of the
    one it transposes, as names always are.

    >>> lax.conv_transpose(bnp.ones((1, 4, 3)), bnp.ones((2, 3, 5)), (2,), "SAME").shape
    (1, 8, 5)
    """
    (x, k), _ = one_dtype("conv_transpose", (lhs, rhs))
    n = len(x.shape) - 2
    if dimension_numbers is None:
        layouts = {0: ("NC", "IO", "NC"), 1: ("NHC", "HIO", "NHC"), 2: ("NHWC", "HWIO", "NHWC")}
        dimension_numbers = layouts.get(n, ("NHWDC", "HWDIO", "NHWDC"))
    dims = conv_dimension_numbers(tuple(x.shape), tuple(k.shape), dimension_numbers)
    dilation = _each("conv_transpose", "rhs_dilation", rhs_dilation, n)
    reach = [_reach(k.shape[i], d) for i, d in zip(dims.rhs_spec[2:], dilation, strict=True)]
    if isinstance(padding, str):
        pairs = zip(reach, strides, strict=True)
        padding = [transposed_padding(r, s, padding.upper()) for r, s in pairs]
    elif use_consistent_padding:
        rows = zip(reach, padding, strict=True)
        padding = [(r - low - 1, r - high - 1) for r, (low, high) in rows]
    if transpose_kernel:
        k = ops.rev(k, axes=tuple(sorted(dims.rhs_spec[2:])))
        order = list(range(n + 2))
        o, i = dims.rhs_spec[:2]
        order[o], order[i] = order[i], order[o]
        k = ops.transpose(k, permutation=tuple(order))
    return conv_general_dilated(
        lhs,
        wrap(k),
        (1,) * n,
        padding,
        tuple(strides),
        dilation,
        dims,
        precision=precision,
        preferred_element_type=preferred_element_type,
    )


def conv_general_dilated_patches(
    lhs: Any,
    filter_shape: Sequence[int],
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Any:
    """The patches a convolution would see, as features: for each input feature, the window in
    row-major order.

    >>> lax.conv_general_dilated_patches(bnp.arange(4.0).reshape(1, 1, 4), (2,), (1,), "VALID")[0]
    Array([[0., 1., 2.],
           [1., 2., 3.]], dtype=float32)
    """
    x = number("conv_general_dilated_patches", lhs)
    filter_shape = _ints("conv_general_dilated_patches", filter_shape)
    window = math.prod(filter_shape)
    n = len(filter_shape)
    if dimension_numbers is None:
        layouts: tuple[Any, Any, Any] = (tuple(range(n + 2)),) * 3
    else:
        layouts = dimension_numbers
    fake = (1,) * (n + 2)
    dims = conv_dimension_numbers(tuple(x.shape), fake, layouts)
    features = x.shape[dims.lhs_spec[1]]
    taps = np.eye(window, dtype=np.float32).reshape(window, 1, *filter_shape)
    taps = np.tile(taps, (features, *(1,) * (n + 1)))
    kernel = np.moveaxis(taps, range(n + 2), dims.rhs_spec)
    kernel = wrap(np.ascontiguousarray(kernel).astype(np.dtype(x.dtype)))
    return conv_general_dilated(
        lhs,
        kernel,
        window_strides,
        padding,
        lhs_dilation,
        rhs_dilation,
        dims,
        feature_group_count=features,
        precision=precision,
        preferred_element_type=preferred_element_type,
    )


# -- Fourier -------------------------------------------------------------------------------------


def fft(x: Any, fft_type: FftType | str, fft_lengths: Sequence[int]) -> Any:
    """Fourier transform over the last `len(fft_lengths)` axes, at most three; inverse ones are
    divided by their size.

    For "irfft" the lengths are those of the result.

    >>> lax.fft(bnp.ones(2, bnp.complex64), "fft", (2,))
    Array([2.+0.j, 0.+0.j], dtype=complex64)
    """
    kind = fft_type.value if isinstance(fft_type, FftType) else str(fft_type).lower()
    value = number("fft", x)
    dtype = np.dtype(value.dtype)
    if not dtypes.is_inexact(dtype):
        dtype = np.dtype(dtypes.float32)
    if kind != "rfft" and dtypes.is_float(dtype):
        dtype = dtypes.complex_dtype(dtype)
    value = cast(value, dtype)
    return wrap(checked(ops.fft, value, kind=kind, lengths=_ints("fft", fft_lengths)))
