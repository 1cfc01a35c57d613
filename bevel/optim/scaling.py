"""Gradient transformations that scale and decay, and momentum, as in Optax."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import bevel.numpy as bnp
from bevel.core import tree as _tree
from bevel.nn.activations import relu
from bevel.numpy.convert import enter
from bevel.optim import tree
from bevel.optim.base import (
    EmptyState,
    GradientTransformation,
    GradientTransformationExtraArgs,
    ScalarOrSchedule,
    Schedule,
    each,
    each_with_param,
    identity,
    init_empty_state,
    masked,
    params_of,
    safe_increment,
    zero_count,
)
from bevel.optim.numerics import safe_norm, safe_root_mean_squares


class ScaleByScheduleState(NamedTuple):
    """A count of steps."""

    count: Any


class TraceState(NamedTuple):
    """A decaying sum of updates."""

    trace: Any


class EmaState(NamedTuple):
    """A moving average of updates."""

    count: Any
    ema: Any


# -- without state ---------------------------------------------------------------------------------


def scale(step_size: Any) -> GradientTransformation:
    """Multiplies updates by a number.

    >>> import bevel.numpy as bnp
    >>> from bevel import optim
    >>> optim.scale(-0.5).update(bnp.ones(2), ())[0]
    Array([-0.5, -0.5], dtype=float32)
    """
    return each(lambda g: step_size * g)


def scale_by_sign() -> GradientTransformation:
    """Keeps only the sign of updates.

    >>> from bevel import optim
    >>> tx, x = optim.scale_by_sign(), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([ 1., -1.], dtype=float32)
    """
    return each(bnp.sign)


def centralize() -> GradientTransformation:
    """Subtracts from each row of updates its mean (Yong et al., arXiv:2004.01461).

    >>> from bevel import optim
    >>> tx, x = optim.centralize(), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([ 1., -2.], dtype=float32)
    """
    return each(lambda g: g - g.mean(tuple(range(1, g.ndim)), keepdims=True) if g.ndim > 1 else g)


def scale_by_param_block_norm(min_scale: Any = 1e-3) -> GradientTransformation:
    """Multiplies each array of updates by the norm of its parameters, at least `min_scale`.

    >>> from bevel import optim
    >>> tx, x = optim.scale_by_param_block_norm(), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([ 2.236, -4.472], dtype=float32)
    """
    return each_with_param("scale_by_param_block_norm", lambda u, p: u * safe_norm(p, min_scale))


def scale_by_param_block_rms(min_scale: Any = 1e-3) -> GradientTransformation:
    """Multiplies each array of updates by the root mean square of its parameters, at least
    `min_scale`.

    >>> from bevel import optim
    >>> tx, x = optim.scale_by_param_block_rms(), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([ 1.581, -3.162], dtype=float32)
    """
    return each_with_param(
        "scale_by_param_block_rms",
        lambda u, p: u * safe_root_mean_squares(p, min_scale),
    )


def scale_by_trust_ratio(
    min_norm: Any = 0.0, trust_coefficient: Any = 1.0, eps: Any = 0.0
) -> GradientTransformation:
    """Scales each array of updates to the norm of its parameters (You et al., arXiv:1904.00962).

    >>> from bevel import optim
    >>> tx, x = optim.scale_by_trust_ratio(), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([ 1., -2.], dtype=float32)
    """

    def scale_one(u: Any, p: Any) -> Any:
        p_norm, u_norm = safe_norm(p, min_norm), safe_norm(u, min_norm)
        zero = (p_norm == 0) | (u_norm == 0)
        ratio = trust_coefficient * p_norm / (bnp.where(zero, 1.0, u_norm) + eps)
        return u * bnp.where(zero, 1.0, ratio).astype(p.dtype)

    return each_with_param("scale_by_trust_ratio", scale_one)


def scale_by_polyak(
    f_min: Any = 0.0, max_learning_rate: Any = 1.0, eps: Any = 0.0, variant: str = "sps"
) -> GradientTransformationExtraArgs:
    """Polyak's step size, from the loss: `tx.update(grads, state, params, value=loss)` (Loizou et
    al., arXiv:2002.10542).

    Raises:
        ValueError: `variant` is not "sps" or "sps+".

    >>> from bevel import optim
    >>> tx, x = optim.scale_by_polyak(), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x, value=1.0)[0].round(3)
    Array([ 0.2, -0.4], dtype=float32)
    """
    if variant not in ("sps", "sps+"):
        raise ValueError(f"scale_by_polyak: variant is 'sps' or 'sps+', not {variant!r}")

    def update(
        updates: Any, state: Any, params: Any = None, *, value: Any, **extra: Any
    ) -> tuple[Any, Any]:
        square = tree.norm(updates, squared=True)
        gap = enter(value - f_min).astype(square.dtype)
        gap = relu(gap) if variant == "sps+" else gap
        tiny = square + eps <= math.ulp(1.0)
        size = bnp.where(
            tiny, 0.0, bnp.minimum(gap / bnp.where(tiny, 1.0, square + eps), max_learning_rate)
        )
        return tree.scale(size, updates), state

    return GradientTransformationExtraArgs(init_empty_state, update)


# -- learning rates and weight decay ---------------------------------------------------------------


def scale_by_schedule(step_size_fn: Schedule) -> GradientTransformation:
    """Multiplies updates by a function of the step.

    >>> import bevel.numpy as bnp
    >>> from bevel import optim
    >>> tx = optim.scale_by_schedule(lambda step: 1.0 / (step + 1))
    >>> state = tx.init(None)
    >>> _, state = tx.update(bnp.ones(1), state)
    >>> tx.update(bnp.ones(1), state)[0]
    Array([0.5], dtype=float32)
    """

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        size = enter(step_size_fn(state.count))
        return _tree.map(lambda g: size.astype(g.dtype) * g, updates), ScaleByScheduleState(
            safe_increment(state.count)
        )

    return GradientTransformation(lambda params: ScaleByScheduleState(zero_count()), update)


def scale_by_learning_rate(
    learning_rate: ScalarOrSchedule = None, *, flip_sign: bool = True
) -> GradientTransformation:
    """Multiplies updates by minus the learning rate (a number or a schedule); None does nothing.

    >>> from bevel import optim
    >>> tx, x = optim.scale_by_learning_rate(0.1), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.1,  0.2], dtype=float32)
    """
    if learning_rate is None:
        return identity()
    sign = -1 if flip_sign else 1
    if isinstance(learning_rate, str | list | tuple | dict):
        raise TypeError(
            f"learning_rate must be a number or a schedule, got {learning_rate!r}.\n"
            "Write instead: float(text), optim.warmup_cosine_decay_schedule(...) or any function "
            "of the step."
        )
    if callable(learning_rate):
        return scale_by_schedule(lambda count: sign * learning_rate(count))
    return scale(sign * learning_rate)


def add_decayed_weights(
    weight_decay: ScalarOrSchedule = 0.0, mask: Any = None
) -> GradientTransformation:
    """Adds `weight_decay` (a number or a schedule) times the parameters to updates.

    Args:
        weight_decay: strength.
        mask: which parameters decay: a tree of booleans, or a function from parameters to one.

    >>> import bevel.numpy as bnp
    >>> from bevel import optim
    >>> optim.add_decayed_weights(0.5).update(bnp.zeros(1), (), bnp.ones(1))[0]
    Array([0.5], dtype=float32)
    """
    scheduled = callable(weight_decay)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        params = params_of("add_decayed_weights", params)
        strength = weight_decay(state.count) if scheduled else weight_decay
        new = ScaleByScheduleState(safe_increment(state.count)) if scheduled else state
        if isinstance(strength, int | float) and strength == 0:
            return updates, new
        return _tree.map(lambda g, p: g + strength * p, updates, params), new

    tx = GradientTransformation(
        lambda params: ScaleByScheduleState(zero_count()) if scheduled else EmptyState(), update
    )
    return tx if mask is None else masked(tx, mask)


# -- momentum --------------------------------------------------------------------------------------


def trace(
    decay: Any, nesterov: bool = False, accumulator_dtype: Any = None
) -> GradientTransformation:
    """A decaying sum of updates: momentum, Nesterov's if asked for (Sutskever et al., 2013).

    >>> import bevel.numpy as bnp
    >>> from bevel import optim
    >>> tx = optim.trace(0.5)
    >>> _, state = tx.update(bnp.ones(1), tx.init(bnp.zeros(1)))
    >>> tx.update(bnp.ones(1), state)[0]
    Array([1.5], dtype=float32)
    """

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        new = tree.add_scale(updates, decay, state.trace)
        updates = tree.add_scale(updates, decay, new) if nesterov else new
        return updates, TraceState(tree.cast(new, accumulator_dtype))

    return GradientTransformation(
        lambda params: TraceState(tree.zeros_like(params, accumulator_dtype)), update
    )


def ema(decay: Any, debias: bool = True, accumulator_dtype: Any = None) -> GradientTransformation:
    """A moving average of updates, by default without the pull of its start at zero.

    >>> from bevel import optim
    >>> tx, x = optim.ema(0.9), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([ 1., -2.], dtype=float32)
    """

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        new = tree.update_moment(updates, state.ema, decay, 1)
        count = safe_increment(state.count)
        updates = tree.bias_correction(new, decay, count) if debias else new
        return updates, EmaState(count, tree.cast(new, accumulator_dtype))

    return GradientTransformation(
        lambda params: EmaState(zero_count(), tree.zeros_like(params, accumulator_dtype)), update
    )
