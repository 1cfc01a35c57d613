"""Norms with safe derivatives, gradients scaled on their way back, and a normal distribution."""

from __future__ import annotations

from typing import Any

import bevel.numpy as bnp
from bevel import lax, random
from bevel.api.custom import custom_vjp
from bevel.core import tree as _tree
from bevel.numpy.convert import enter
from bevel.optim import tree


def safe_norm(
    x: Any, min_norm: Any, ord: Any = None, axis: Any = None, keepdims: bool = False
) -> Any:
    """max(norm(x), min_norm), with derivative 0 where the norm is `min_norm` or less.

    Args:
        x: array.
        min_norm: least value.
        ord: as in `bnp.linalg.norm`.
        axis: as in `bnp.linalg.norm`; None takes all axes.
        keepdims: keep reduced axes, with length 1.

    >>> from bevel import optim
    >>> bv.grad(lambda x: optim.safe_norm(x, 0.1))(bnp.zeros(2))
    Array([0., 0.], dtype=float32)
    """
    x = enter(x)
    small = bnp.linalg.norm(x, ord=ord, axis=axis, keepdims=True) <= min_norm
    norm = bnp.linalg.norm(bnp.where(small, 1, x), ord=ord, axis=axis, keepdims=keepdims)
    return bnp.where(small if keepdims else bnp.squeeze(small, axis=axis), min_norm, norm)


def safe_root_mean_squares(x: Any, min_rms: Any) -> Any:
    """The root of the mean square, at least `min_rms`, with derivative 0 where it is that.

    >>> from bevel import optim
    >>> float(optim.safe_root_mean_squares(bnp.zeros(3), 1e-3))
    0.0010000000474974513
    """
    x = enter(x)
    small = bnp.sqrt(bnp.mean(tree.abs_sq(x))) <= min_rms
    return bnp.where(small, min_rms, bnp.sqrt(bnp.mean(tree.abs_sq(bnp.where(small, 1, x)))))


@custom_vjp
def _scaled(inputs: Any, scale: Any) -> Any:
    return inputs


_scaled.defvjp(
    lambda inputs, scale: (inputs, scale),
    lambda scale, g: (_tree.map(lambda t: t * scale, g), None),
)


def scale_gradient(inputs: Any, scale: Any) -> Any:
    """The tree itself, whose gradient is multiplied by a number on its way back.

    >>> from bevel import optim
    >>> float(bv.grad(lambda x: optim.scale_gradient(x, 0.5) ** 2)(3.0))
    3.0
    """
    if isinstance(scale, int | float) and scale in (0, 1):
        return inputs if scale == 1 else _tree.map(lax.stop_gradient, inputs)
    return _scaled(inputs, scale)


class MultiNormalDiagFromLogScale:
    """Independent normal variables, by mean and logarithm of the standard deviation.

    >>> from bevel import optim
    >>> noise = optim.multi_normal(bnp.zeros(2), bnp.zeros(2))
    >>> noise.log_prob(bnp.zeros(2)).round(4)
    Array(-1.8379, dtype=float32)
    """

    def __init__(self, loc: Any, log_scale: Any):
        self._mean, self._log_scale = enter(loc), enter(log_scale)
        self._scale = bnp.exp(self._log_scale)
        self._shape = bnp.broadcast_shapes(self._mean.shape, self._scale.shape)

    def sample(self, shape: tuple[int, ...], key: Any) -> Any:
        """Draws of the shape (*shape, *parameters' shape)."""
        return random.normal(key, (*shape, *self._shape)) * self._scale + self._mean

    def log_prob(self, x: Any) -> Any:
        """The logarithm of the density, summed over the axes of the parameters."""
        each = (
            -0.5 * ((enter(x) - self._mean) / self._scale) ** 2
            - self._log_scale
            - 0.5 * bnp.log(2 * bnp.pi)
        )
        return bnp.sum(each, axis=tuple(range(-len(self._shape), 0)))

    @property
    def log_scale(self) -> Any:
        """The logarithm of the standard deviation."""
        return self._log_scale

    @property
    def params(self) -> list[Any]:
        """Mean and logarithm of the standard deviation."""
        return [self._mean, self._log_scale]


def multi_normal(loc: Any, log_scale: Any) -> MultiNormalDiagFromLogScale:
    """Independent normal variables with mean `loc` and standard deviation exp(log_scale).

    >>> from bevel import optim, random
    >>> optim.multi_normal(bnp.zeros(2), bnp.zeros(2)).sample((5,), random.key(0)).shape
    (5, 2)
    """
    return MultiNormalDiagFromLogScale(loc, log_scale)
