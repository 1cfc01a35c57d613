"""`Conv`: convolution over any number of spatial axes, channels last."""

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
from bevel.nn.rngs import Rngs
from bevel.nn.variables import Param
from bevel.numpy.convert import enter

_EDGE_MODES = {"CIRCULAR": "wrap", "REFLECT": "reflect"}


def _pairs(padding: Any, rank: int) -> str | list[tuple[int, int]]:
    """Padding as `lax` takes it."""
    if isinstance(padding, str):
        return padding
    if isinstance(padding, int):
        return [(padding, padding)] * rank
    pairs = [(p, p) if isinstance(p, int) else tuple(p) for p in padding]
    if len(pairs) != rank or any(len(p) != 2 for p in pairs):
        raise ValueError(
            f"Conv: padding {padding!r} does not fit {rank} spatial axes.\n"
            "Write instead: 'SAME', 'VALID', 'CIRCULAR', 'REFLECT', 'CAUSAL', an int, or one int "
            "or (low, high) an axis."
        )
    return pairs


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
        if mask is not None and bnp.shape(mask) != self.kernel_shape:
            raise ValueError(
                f"Conv: a mask of shape {bnp.shape(mask)} does not fit the kernel of shape "
                f"{self.kernel_shape}"
            )
        self.kernel = Param(
            kernel_init(rngs.params(), self.kernel_shape, param_dtype), **kernel_metadata
        )
        self.bias = (
            Param(bias_init(rngs.params(), (out_features,), param_dtype), **bias_metadata)
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

    def _each(self, x: int | Sequence[int] | None) -> tuple[int, ...]:
        """One value a spatial axis."""
        rank = len(self.kernel_size)
        found = (1,) * rank if x is None else (x,) * rank if isinstance(x, int) else tuple(x)
        if len(found) != rank:
            raise ValueError(
                f"Conv: {x!r} does not fit the {rank} spatial axes of kernel_size "
                f"{self.kernel_size}"
            )
        return found

    def _padded(self, inputs: Any) -> tuple[Any, Any]:
        """The input padded as far as `lax` cannot, and the padding left to do."""
        padding = _pairs(self.padding, len(self.kernel_size))
        spans = [
            (k - 1) * d
            for k, d in zip(self.kernel_size, self._each(self.kernel_dilation), strict=True)
        ]
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
        inputs = features_of("Conv", enter(inputs), self.in_features)
        rank = len(self.kernel_size)
        batch = inputs.shape[: inputs.ndim - rank - 1]
        if inputs.ndim < rank + 1:
            raise ValueError(
                f"Conv: the input of shape {inputs.shape} should have {rank} spatial axes and the "
                f"features last"
            )
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
            self._each(self.strides),
            padding,
            lhs_dilation=self._each(self.input_dilation),
            rhs_dilation=self._each(self.kernel_dilation),
            dimension_numbers=lax.ConvDimensionNumbers(data, weights, data),
            feature_group_count=self.feature_group_count,
            precision=self.precision,
            preferred_element_type=self.preferred_element_type,
        )
        y = y if bias is None else y + bias
        return y.reshape(*batch, *y.shape[1:])
