"""`Conv` and `ConvTranspose`: convolution over any number of spatial axes, channels last."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import bevel.numpy as bnp
from bevel import lax
from bevel.core import dtypes
from bevel.nn import initializers
from bevel.nn.checks import features_of
from bevel.nn.dtypes import promote_dtype
from bevel.nn.linear import NO_METADATA, as_tuple, default_kernel_init
from bevel.nn.module import Module
from bevel.nn.rngs import Rngs, param_key
from bevel.nn.variable import Param
from bevel.numpy.convert import enter

_EDGE_MODES = {"CIRCULAR": "wrap", "REFLECT": "reflect"}


def _pairs(layer: str, padding: Any, rank: int) -> str | list[tuple[int, int]]:
    """Padding as `lax` takes it."""
    if isinstance(padding, str):
        return padding
    if isinstance(padding, int):
        return [(padding, padding)] * rank
    pairs = [(p, p) if isinstance(p, int) else tuple(p) for p in padding]
    if len(pairs) != rank or any(len(p) != 2 for p in pairs):
        raise ValueError(
            f"{layer}: padding {padding!r} does not fit {rank} spatial axes.\n"
            "Write instead: 'SAME', 'VALID', 'CIRCULAR', 'REFLECT', 'CAUSAL', an int, or one int "
            "or (low, high) an axis."
        )
    return pairs


def _each(layer: str, x: int | Sequence[int] | None, rank: int) -> tuple[int, ...]:
    """One value a spatial axis."""
    found = (1,) * rank if x is None else (x,) * rank if isinstance(x, int) else tuple(x)
    if len(found) != rank:
        raise ValueError(f"{layer}: {x!r} does not fit the {rank} spatial axes of its kernel_size")
    return found


def _check_mask(layer: str, mask: Any, shape: tuple[int, ...]) -> None:
    if mask is not None and bnp.shape(mask) != shape:
        raise ValueError(
            f"{layer}: a mask of shape {bnp.shape(mask)} does not fit the kernel of shape {shape}"
        )


class Conv(Module):
    """Convolution of (batch..., spatial..., in_features), channels last.

    Args:
        in_features, out_features: channels before and after.
        kernel_size: length of the kernel along each spatial axis (an int means one axis).
        strides: step of the window, an int or one each.
        padding: "SAME", "VALID", "CIRCULAR", "REFLECT", "CAUSAL" (one axis), an int, or one int
            or (low, high) each.
        input_dilation, kernel_dilation: spacing of the input's or the kernel's elements.
        feature_group_count: number of groups the channels are divided into.
        use_bias: add a bias.
        mask: array of the kernel's shape that multiplies it.
        dtype, param_dtype, precision, kernel_init, bias_init, promote_dtype,
        preferred_element_type, rngs,
            kernel_metadata, bias_metadata: as for `Linear`.
        conv_general_dilated: the convolution.

    Parameters: `kernel` (*kernel_size, in_features / groups, out_features), `bias` (out_features,).

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> nn.Conv(1, 4, kernel_size=(3, 3), rngs=nn.Rngs(0))(bnp.ones((2, 8, 8, 1))).shape
    (2, 8, 8, 4)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] | None = 1,
        *,
        padding: Any = "SAME",
        input_dilation: int | Sequence[int] | None = 1,
        kernel_dilation: int | Sequence[int] | None = 1,
        feature_group_count: int = 1,
        use_bias: bool = True,
        mask: Any = None,
        dtype: Any = None,
        param_dtype: Any = dtypes.float32,
        precision: Any = None,
        kernel_init: initializers.Initializer = default_kernel_init,
        bias_init: initializers.Initializer = initializers.zeros,
        conv_general_dilated: Callable[..., Any] = lax.conv_general_dilated,
        promote_dtype: Callable[..., Any] = promote_dtype,
        preferred_element_type: Any = None,
        rngs: Rngs,
        kernel_metadata: Mapping[str, Any] = NO_METADATA,
        bias_metadata: Mapping[str, Any] = NO_METADATA,
    ):
        self.kernel_size = as_tuple(kernel_size)
        if in_features % feature_group_count or out_features % feature_group_count:
            raise ValueError(
                f"Conv: {in_features} input and {out_features} output features cannot be divided "
                f"into "
                f"{feature_group_count} groups"
            )
        self.kernel_shape = (*self.kernel_size, in_features // feature_group_count, out_features)
        _check_mask("Conv", mask, self.kernel_shape)
        self.kernel = Param(
            kernel_init(param_key(rngs), self.kernel_shape, param_dtype), **kernel_metadata
        )
        self.bias = (
            Param(bias_init(param_key(rngs), (out_features,), param_dtype), **bias_metadata)
            if use_bias
            else None
        )
        self.in_features = in_features
        self.out_features = out_features
        self.strides = strides
        self.padding = padding
        self.input_dilation = input_dilation
        self.kernel_dilation = kernel_dilation
        self.feature_group_count = feature_group_count
        self.use_bias = use_bias
        self.mask = mask
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.precision = precision
        self.conv_general_dilated = conv_general_dilated
        self.promote_dtype = promote_dtype
        self.preferred_element_type = preferred_element_type

    def _padded(self, inputs: Any) -> tuple[Any, Any]:
        """The input padded as far as `lax` cannot, and the padding left to do."""
        padding = _pairs("Conv", self.padding, len(self.kernel_size))
        dilation = _each("Conv", self.kernel_dilation, len(self.kernel_size))
        spans = [(k - 1) * d for k, d in zip(self.kernel_size, dilation, strict=True)]
        if isinstance(padding, str) and padding in _EDGE_MODES:
            pads = [(0, 0), *[(s // 2, (s + 1) // 2) for s in spans], (0, 0)]
            return bnp.pad(inputs, pads, mode=_EDGE_MODES[padding]), "VALID"
        if padding == "CAUSAL":
            if len(spans) != 1:
                raise ValueError(f"Conv: causal padding is for one spatial axis, not {len(spans)}")
            return inputs, [(spans[0], 0)]
        return inputs, padding

    def __call__(self, inputs: Any) -> Any:
        """(batch..., spatial..., in_features) to (batch..., spatial'..., out_features).

        No batch axis, or several, are allowed.
        """
        rank = len(self.kernel_size)
        inputs = features_of("Conv", inputs, self.in_features, rank=rank)
        batch = inputs.shape[: inputs.ndim - rank - 1]
        inputs = inputs.reshape(math.prod(batch), *inputs.shape[len(batch) :])
        inputs, padding = self._padded(inputs)
        kernel = self.kernel.value if self.mask is None else self.kernel.value * enter(self.mask)
        bias = None if self.bias is None else self.bias.value
        inputs, kernel, bias = self.promote_dtype((inputs, kernel, bias), dtype=self.dtype)
        spatial = tuple(range(1, rank + 1))
        data, weights = (0, rank + 1, *spatial), (rank + 1, rank, *range(rank))
        y = self.conv_general_dilated(
            inputs,
            kernel,
            _each("Conv", self.strides, rank),
            padding,
            lhs_dilation=_each("Conv", self.input_dilation, rank),
            rhs_dilation=_each("Conv", self.kernel_dilation, rank),
            dimension_numbers=lax.ConvDimensionNumbers(data, weights, data),
            feature_group_count=self.feature_group_count,
            precision=self.precision,
            preferred_element_type=self.preferred_element_type,
        )
        y = y if bias is None else y + bias
        return y.reshape(*batch, *y.shape[1:])


class ConvTranspose(Module):
    """The transpose of a convolution (fractional strides) of (batch..., spatial..., in_features).

    Args:
        in_features, out_features: channels before and after.
        kernel_size: length of the kernel along each spatial axis (an int means one axis).
        strides: how many results an element of the input makes, an int or one each.
        padding: "SAME" (the result is `strides` times as long), "VALID", "CIRCULAR", an int, or
            one int or (low, high) each; of the input with its strides put in.
        kernel_dilation: spacing of the kernel's elements.
        use_bias, mask, dtype, param_dtype, precision, kernel_init, bias_init, promote_dtype,
        preferred_element_type, rngs, kernel_metadata, bias_metadata: as for `Conv`.
        transpose_kernel: flip the kernel's spatial axes and swap its channels: the gradient of a
            `Conv` with this kernel.

    Parameters: `kernel` (*kernel_size, in_features, out_features), or (*kernel_size, out_features,
    in_features) if `transpose_kernel`, and `bias` (out_features,).

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> nn.ConvTranspose(3, 4, (3, 3), strides=2, rngs=nn.Rngs(0))(bnp.ones((1, 8, 8, 3))).shape
    (1, 16, 16, 4)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] | None = None,
        *,
        padding: Any = "SAME",
        kernel_dilation: int | Sequence[int] | None = None,
        use_bias: bool = True,
        mask: Any = None,
        dtype: Any = None,
        param_dtype: Any = dtypes.float32,
        precision: Any = None,
        kernel_init: initializers.Initializer = default_kernel_init,
        bias_init: initializers.Initializer = initializers.zeros,
        transpose_kernel: bool = False,
        promote_dtype: Callable[..., Any] = promote_dtype,
        preferred_element_type: Any = None,
        rngs: Rngs,
        kernel_metadata: Mapping[str, Any] = NO_METADATA,
        bias_metadata: Mapping[str, Any] = NO_METADATA,
    ):
        self.kernel_size = as_tuple(kernel_size)
        channels = (in_features, out_features)
        self.kernel_shape = (*self.kernel_size, *(channels[::-1] if transpose_kernel else channels))
        _check_mask("ConvTranspose", mask, self.kernel_shape)
        self.kernel = Param(
            kernel_init(param_key(rngs), self.kernel_shape, param_dtype), **kernel_metadata
        )
        self.bias = (
            Param(bias_init(param_key(rngs), (out_features,), param_dtype), **bias_metadata)
            if use_bias
            else None
        )
        self.in_features = in_features
        self.out_features = out_features
        self.strides = strides
        self.padding = padding
        self.kernel_dilation = kernel_dilation
        self.use_bias = use_bias
        self.mask = mask
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.precision = precision
        self.transpose_kernel = transpose_kernel
        self.promote_dtype = promote_dtype
        self.preferred_element_type = preferred_element_type

    def __call__(self, inputs: Any) -> Any:
        """(batch..., spatial..., in_features) to (batch..., spatial'..., out_features).

        No batch axis, or several, are allowed.
        """
        layer, rank = "ConvTranspose", len(self.kernel_size)
        inputs = features_of(layer, inputs, self.in_features, rank=rank)
        batch = inputs.shape[: inputs.ndim - rank - 1]
        inputs = inputs.reshape(math.prod(batch), *inputs.shape[len(batch) :])
        strides = _each(layer, self.strides, rank)
        padding = _pairs(layer, self.padding, rank)
        kernel = self.kernel.value if self.mask is None else self.kernel.value * enter(self.mask)
        bias = None if self.bias is None else self.bias.value
        inputs, kernel, bias = self.promote_dtype((inputs, kernel, bias), dtype=self.dtype)
        y = lax.conv_transpose(
            inputs,
            kernel,
            strides,
            "VALID" if padding == "CIRCULAR" else padding,
            rhs_dilation=_each(layer, self.kernel_dilation, rank),
            transpose_kernel=self.transpose_kernel,
            precision=self.precision,
            preferred_element_type=self.preferred_element_type,
        )
        if padding == "CIRCULAR":
            lengths = [n * s for n, s in zip(inputs.shape[1:-1], strides, strict=True)]
            y = _wrapped(y, lengths, self.transpose_kernel)
        y = y if bias is None else y + bias
        return y.reshape(*batch, *y.shape[1:])


def _wrapped(y: Any, lengths: Sequence[int], flipped: bool) -> Any:
    """(batch, spatial..., features) folded around each spatial axis onto these lengths.

    What sticks out is added at the other side, with the middle of the surplus where a layer of
    `padding="CIRCULAR"` has it.
    """
    for axis, n in enumerate(lengths, start=1):
        surplus = -(y.shape[axis] - n) % (2 * n)
        pads = [(0, 0)] * y.ndim
        pads[axis] = (
            (surplus // 2, (surplus + 1) // 2) if flipped else ((surplus + 1) // 2, surplus // 2)
        )
        y = bnp.pad(y, pads)
        y = y.reshape(*y.shape[:axis], -1, n, *y.shape[axis + 1 :]).sum(axis=axis)
    return y
