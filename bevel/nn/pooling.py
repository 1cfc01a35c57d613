"""Pooling over windows: `pool`, `avg_pool`, `max_pool`, `min_pool`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import bevel.numpy as bnp
from bevel import lax
from bevel.numpy.convert import enter

Padding = str | Sequence[tuple[int, int]]


def pool(
    inputs: Any,
    init: Any,
    reduce_fn: Callable[[Any, Any], Any],
    window_shape: Sequence[int],
    strides: Sequence[int] | None,
    padding: Padding,
) -> Any:
    """Reduce windows over the spatial axes of (batch..., spatial..., features).

    Args:
        inputs: array; no batch axis, or several, are allowed.
        init: the initial value of the reduction.
        reduce_fn: such as `lax.add`.
        window_shape: length of the window along each spatial axis.
        strides: step of the window along each (default: 1).
        padding: "SAME", "VALID", or (low, high) for each.

    Raises:
        ValueError: window, strides, padding and input differ in their number of axes.

    >>> import bevel.numpy as bnp
    >>> from bevel import lax, nn
    >>> nn.pool(bnp.arange(4.0)[:, None], 0.0, lax.add, (2,), (2,), "VALID")[:, 0]
    Array([1., 5.], dtype=float32)
    """
    inputs = enter(inputs)
    window = tuple(window_shape)
    steps = (1,) * len(window) if strides is None else tuple(strides)
    batch = inputs.ndim - len(window) - 1
    pads = padding if isinstance(padding, str) else [tuple(p) for p in padding]
    if batch < 0 or len(steps) != len(window) or (pads is not padding and len(pads) != len(window)):
        raise ValueError(
            f"pool: a window {window}, strides {strides} and padding {padding!r} do not fit the "
            f"input of shape {inputs.shape}.\n"
            "Why: the input is (batch..., spatial..., features), and each spatial axis has one "
            "window length, stride and pair of padding."
        )
    whole = (1,) * batch
    if not isinstance(pads, str):
        pads = [(0, 0)] * batch + pads + [(0, 0)]
    return lax.reduce_window(
        inputs, init, reduce_fn, (*whole, *window, 1), (*whole, *steps, 1), pads
    )


def avg_pool(
    inputs: Any,
    window_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: Padding = "VALID",
    count_include_pad: bool = True,
) -> Any:
    """The mean of each window; arguments as for `pool`.

    With `count_include_pad=False`, padding does not count in the means.

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> nn.avg_pool(bnp.arange(4.0)[:, None], (2,), (2,))[:, 0]
    Array([0.5, 2.5], dtype=float32)
    """
    inputs = enter(inputs)
    total = pool(inputs, 0.0, lax.add, window_shape, strides, padding)
    if count_include_pad:
        return total / math.prod(window_shape)
    ones = bnp.ones((*inputs.shape[-len(window_shape) - 1 : -1], 1))
    return total / pool(ones, 0.0, lax.add, window_shape, strides, padding)


def max_pool(
    inputs: Any,
    window_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: Padding = "VALID",
) -> Any:
    """The maximum of each window; arguments as for `pool`.

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> nn.max_pool(bnp.arange(4.0)[:, None], (2,), (2,))[:, 0]
    Array([1., 3.], dtype=float32)
    """
    return pool(inputs, -math.inf, lax.max, window_shape, strides, padding)


def min_pool(
    inputs: Any,
    window_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: Padding = "VALID",
) -> Any:
    """The minimum of each window; arguments as for `pool`.

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> nn.min_pool(bnp.arange(4.0)[:, None], (2,), (2,))[:, 0]
    Array([0., 2.], dtype=float32)
    """
    return pool(inputs, math.inf, lax.min, window_shape, strides, padding)
