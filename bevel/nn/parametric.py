"""Activations with parameters: `PReLU`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import bevel.numpy as bnp
from bevel.core import dtypes
from bevel.nn.dtypes import promote_dtype
from bevel.nn.linear import NO_METADATA
from bevel.nn.module import Module
from bevel.nn.variable import Param
from bevel.numpy.convert import enter


class PReLU(Module):
    """x where it is positive, else a learned slope times x (He et al., arXiv:1502.01852).

    Args:
        negative_slope_init: the slope to start from.
        dtype: of the computation (default: that of the input).
        param_dtype: of the slope.
        promote_dtype: brings `(inputs, negative_slope)` to one dtype, if `dtype` is given.
        negative_slope_metadata: metadata of the parameter.

    Parameters: `negative_slope` ().

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> nn.PReLU(0.5)(bnp.array([-2.0, 3.0]))
    Array([-1.,  3.], dtype=float32)
    """

    def __init__(
        self,
        negative_slope_init: float = 0.01,
        *,
        dtype: Any = None,
        param_dtype: Any = dtypes.float32,
        promote_dtype: Callable[..., Any] = promote_dtype,
        negative_slope_metadata: Mapping[str, Any] = NO_METADATA,
    ):
        self.negative_slope = Param(
            bnp.asarray(negative_slope_init, param_dtype), **negative_slope_metadata
        )
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.promote_dtype = promote_dtype

    def __call__(self, inputs: Any) -> Any:
        """An array of the same shape."""
        inputs, slope = enter(inputs), self.negative_slope.value
        if self.dtype is None:
            slope = slope.astype(inputs.dtype)
        else:
            inputs, slope = self.promote_dtype((inputs, slope), dtype=self.dtype)
        return bnp.where(inputs >= 0, inputs, slope * inputs)
