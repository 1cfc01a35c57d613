"""Adafactor: second moments of matrices kept as a row and a column."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import bevel.numpy as bnp
from bevel.core import dtypes
from bevel.core import tree as _tree
from bevel.numpy.convert import enter
from bevel.optim import tree
from bevel.optim.base import (
    GradientTransformation,
    GradientTransformationExtraArgs,
    MaskOrFn,
    ScalarOrSchedule,
    chain,
    params_of,
    safe_increment,
    widened,
    zero_count,
)
from bevel.optim.clipping import clip_by_block_rms
from bevel.optim.scaling import (
    add_decayed_weights,
    ema,
    scale,
    scale_by_learning_rate,
    scale_by_param_block_rms,
)


class FactoredState(NamedTuple):
    """Step, and second moments: of rows and columns, or whole; those not used have one element."""

    count: Any
    v_row: Any
    v_col: Any
    v: Any


def _power_decay(step: Any, exponent: Any) -> Any:
    exponent = enter(exponent)
    return 1.0 - widened((enter(step) + 1).astype(dtypes.float32), exponent.dtype) ** -exponent


def scale_by_factored_rms(
    factored: bool = True,
    decay_rate: Any = 0.8,
    step_offset: Any = 0,
    min_dim_size_to_factor: int = 128,
    epsilon: Any = 1e-30,
    decay_rate_fn: Callable[[Any, Any], Any] = _power_decay,
) -> GradientTransformation:
    """Gradients over the root of their second moment, which for large matrices is kept as the
    product of a row and a column (Shazeer and Stern, "Adafactor", 2018, arXiv:1804.04235).

    Args:
        factored: False keeps all moments whole.
        decay_rate: argument of `decay_rate_fn`.
        step_offset: subtracted from the step, for a run that goes on from another.
        min_dim_size_to_factor: least size of both axes of a moment that is kept as a product.
        epsilon: added to squared gradients.
        decay_rate_fn: from the step and `decay_rate` to the decay; 1 - (step + 1)**-rate.

    >>> from bevel import optim
    >>> tx, x = optim.scale_by_factored_rms(), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([ 1., -1.], dtype=float32)
    """

    def axes(shape: tuple[int, ...]) -> tuple[int, int] | None:
        """The axes of the second largest and the largest size, if the moment is a product."""
        if not factored or len(shape) < 2:
            return None
        order = [int(i) for i in np.argsort(shape)]
        return (order[-2], order[-1]) if shape[order[-2]] >= min_dim_size_to_factor else None

    def split(params: Any, triples: list[tuple[Any, ...]], count: Any) -> FactoredState:
        treedef = _tree.structure(params)
        return FactoredState(
            count, *(_tree.unflatten(treedef, [t[i] for t in triples]) for i in range(3))
        )

    def start(p: Any) -> tuple[Any, Any, Any]:
        p = enter(p)
        unused, pair = bnp.zeros((1,), p.dtype), axes(p.shape)
        if pair is None:
            return unused, unused, bnp.zeros_like(p)
        without = [tuple(n for i, n in enumerate(p.shape) if i != axis) for axis in pair]
        return bnp.zeros(without[1], p.dtype), bnp.zeros(without[0], p.dtype), unused

    def step_one(g: Any, row: Any, col: Any, v: Any, p: Any, decay: Any) -> tuple[Any, ...]:
        decay = widened(decay, p.dtype)

        def moved(old: Any, new: Any) -> Any:
            return (decay * old + (1.0 - decay) * new).astype(p.dtype)

        square, pair = tree.abs_sq(g) + epsilon, axes(p.shape)
        if pair is None:
            v = moved(v, square)
            return g * v**-0.5, row, col, v
        d1, d0 = pair
        row, col = moved(row, bnp.mean(square, axis=d0)), moved(col, bnp.mean(square, axis=d1))
        mean = bnp.mean(row, axis=d1 - (d1 > d0), keepdims=True)
        out = g * bnp.expand_dims((row / mean) ** -0.5, d0) * bnp.expand_dims(col**-0.5, d1)
        return out, row, col, v

    def init(params: Any) -> FactoredState:
        return split(params, [start(p) for p in _tree.leaves(params)], zero_count())

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, FactoredState]:
        params = params_of("scale_by_factored_rms", params)
        decay = decay_rate_fn(state.count - step_offset, decay_rate)
        trees = (updates, state.v_row, state.v_col, state.v, params)
        found = [step_one(*leaf, decay) for leaf in zip(*map(_tree.leaves, trees), strict=True)]
        out = _tree.unflatten(_tree.structure(updates), [f[0] for f in found])
        return out, split(updates, [f[1:] for f in found], safe_increment(state.count))

    return GradientTransformation(init, update)


def adafactor(
    learning_rate: ScalarOrSchedule = None,
    min_dim_size_to_factor: int = 128,
    decay_rate: Any = 0.8,
    decay_offset: Any = 0,
    multiply_by_parameter_scale: bool = True,
    clipping_threshold: Any = 1.0,
    momentum: Any = None,
    dtype_momentum: Any = dtypes.float32,
    weight_decay_rate: ScalarOrSchedule = None,
    eps: Any = 1e-30,
    factored: bool = True,
    weight_decay_mask: MaskOrFn = None,
) -> GradientTransformationExtraArgs:
    """Adafactor (Shazeer and Stern, 2018, arXiv:1804.04235): Adam with little memory.

    Args:
        learning_rate: number, schedule or None.
        min_dim_size_to_factor: as for `scale_by_factored_rms`.
        decay_rate: as for `scale_by_factored_rms`.
        decay_offset: its `step_offset`.
        multiply_by_parameter_scale: steps relative to the size of the parameters.
        clipping_threshold: largest root mean square of an array of updates, or None.
        momentum: decay of the first moment, or None.
        dtype_momentum: dtype it is kept at.
        weight_decay_rate: strength, or None; not multiplied by the learning rate.
        eps: added to squared gradients.
        factored: False keeps all moments whole.
        weight_decay_mask: which parameters decay.

    >>> from bevel import optim
    >>> tx, x = optim.adafactor(0.1), bnp.array([3.0, -4.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.354,  0.354], dtype=float32)
    """
    parts = [scale_by_factored_rms(factored, decay_rate, decay_offset, min_dim_size_to_factor, eps)]
    if clipping_threshold is not None:
        parts.append(clip_by_block_rms(clipping_threshold))
    if learning_rate is not None:
        parts.append(scale_by_learning_rate(learning_rate, flip_sign=False))
    if multiply_by_parameter_scale:
        parts.append(scale_by_param_block_rms())
    if momentum is not None:
        parts.append(ema(momentum, debias=False, accumulator_dtype=dtype_momentum))
    if weight_decay_rate is not None:
        parts.append(add_decayed_weights(weight_decay_rate, mask=weight_decay_mask))
    return chain(*parts, scale(-1))
