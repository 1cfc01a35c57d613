"""Gradient transformations: the parts that optimizers are chained from. Names and numbers are those
of Optax.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import bevel.numpy as bnp
from bevel import lax
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
    identity,
    init_empty_state,
    masked,
    params_of,
    safe_increment,
    stateless,
    zero_count,
)


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


class ScaleByAdamState(NamedTuple):
    """Step, first and second moments."""

    count: Any
    mu: Any
    nu: Any


class ScaleByAmsgradState(NamedTuple):
    """Step, moments, and the largest second moment so far."""

    count: Any
    mu: Any
    nu: Any
    nu_max: Any


class ScaleByLionState(NamedTuple):
    """Step and first moment."""

    count: Any
    mu: Any


class ScaleByRssState(NamedTuple):
    """Sum of squares."""

    sum_of_squares: Any


class ScaleByRmsState(NamedTuple):
    """Second moment."""

    nu: Any


class ScaleByRmsWithCountState(NamedTuple):
    """Step and second moment."""

    count: Any
    nu: Any


class ScaleByRStdDevState(NamedTuple):
    """First and second moments."""

    mu: Any
    nu: Any


class ScaleByAdaDeltaState(NamedTuple):
    """Moving averages of squared gradients and of squared updates."""

    e_g: Any
    e_x: Any


class ScaleByAdanState(NamedTuple):
    """The moments of Adan, and the gradient before."""

    m: Any
    v: Any
    n: Any
    g: Any
    t: Any


class ScaleByRpropState(NamedTuple):
    """Step sizes, and the updates before."""

    step_sizes: Any
    prev_updates: Any


class ScaleByOptimisticGradientState(NamedTuple):
    """Whether no step was taken yet, and the gradient before."""

    is_initial_step: Any
    previous_gradient: Any


# -- without state ---------------------------------------------------------------------------------


def _each(f: Callable[[Any], Any]) -> GradientTransformation:
    return stateless(lambda updates, params: _tree.map(f, updates))


def _each_with_param(name: str, f: Callable[[Any, Any], Any]) -> GradientTransformation:
    return stateless(lambda updates, params: _tree.map(f, updates, params_of(name, params)))


def scale(step_size: Any) -> GradientTransformation:
    """Multiplies updates by a number.

    >>> import bevel.numpy as bnp
    >>> from bevel import optim
    >>> optim.scale(-0.5).update(bnp.ones(2), ())[0]
    Array([-0.5, -0.5], dtype=float32)
    """
    return _each(lambda g: step_size * g)


def scale_by_sign() -> GradientTransformation:
    """Keeps only the sign of updates."""
    return _each(bnp.sign)


def clip(max_delta: Any) -> GradientTransformation:
    """Cuts every element of updates at -max_delta and max_delta.

    >>> import bevel.numpy as bnp
    >>> from bevel import optim
    >>> optim.clip(1.0).update(bnp.array([-3.0, 0.5]), ())[0]
    Array([-1. ,  0.5], dtype=float32)
    """
    return _each(lambda g: bnp.clip(g, -max_delta, max_delta))


def clip_by_block_rms(threshold: Any) -> GradientTransformation:
    """Scales each array down whose root mean square exceeds the threshold."""
    return _each(lambda u: u / bnp.maximum(1.0, bnp.sqrt(bnp.mean(tree.abs_sq(u))) / threshold))


def clip_by_global_norm(max_norm: Any) -> GradientTransformation:
    """Scales all updates down if their norm, as one vector, is `max_norm` or more (Pascanu et al.,
    arXiv:1211.5063).

    >>> import bevel.numpy as bnp
    >>> from bevel import optim
    >>> optim.clip_by_global_norm(1.0).update(bnp.array([3.0, 4.0]), ())[0]
    Array([0.6, 0.8], dtype=float32)
    """

    def clip_all(updates: Any, params: Any) -> Any:
        norm = tree.norm(updates)
        small = norm < max_norm
        return _tree.map(
            lambda t: bnp.where(small, t, t / norm.astype(t.dtype) * max_norm), updates
        )

    return stateless(clip_all)


def _unitwise_norm(x: Any, axis: Any) -> Any:
    square = tree.abs_sq(x)
    if axis is None:
        if sum(n > 1 for n in square.shape) <= 1:
            axis = tuple(range(square.ndim))
        else:
            axis = 0 if square.ndim <= 3 else tuple(range(square.ndim - 1))
    return bnp.broadcast_to(bnp.sqrt(bnp.sum(square, axis=axis, keepdims=True)), square.shape)


def adaptive_grad_clip(clipping: Any, eps: Any = 1e-3, axis: Any = None) -> GradientTransformation:
    """Cuts updates whose norm exceeds `clipping` times that of the parameters, unit by unit (Brock
    et al., arXiv:2102.06171).

    `axis` are the axes of one unit; by default the inputs of a layer's kernel.
    """

    def clip_one(g: Any, p: Any) -> Any:
        g_norm = _unitwise_norm(g, axis)
        largest = clipping * bnp.maximum(_unitwise_norm(p, axis), eps)
        return bnp.where(g_norm < largest, g, g * (largest / bnp.maximum(g_norm, 1e-6)))

    return _each_with_param("adaptive_grad_clip", clip_one)


def centralize() -> GradientTransformation:
    """Subtracts from each row of updates its mean (Yong et al., arXiv:2004.01461)."""
    return _each(lambda g: g - g.mean(tuple(range(1, g.ndim)), keepdims=True) if g.ndim > 1 else g)


def _safe(size: Any, minimum: Any) -> Any:
    return bnp.where(size <= minimum, minimum, size)


def _norm(x: Any) -> Any:
    """The norm of an array, with derivative 0 where it is 0."""
    square = bnp.sum(tree.abs_sq(x))
    return bnp.where(square == 0, 0.0, bnp.sqrt(bnp.where(square == 0, 1.0, square)))


def scale_by_param_block_norm(min_scale: Any = 1e-3) -> GradientTransformation:
    """Multiplies each array of updates by the norm of its parameters, at least `min_scale`."""
    return _each_with_param(
        "scale_by_param_block_norm", lambda u, p: u * _safe(_norm(p), min_scale)
    )


def scale_by_param_block_rms(min_scale: Any = 1e-3) -> GradientTransformation:
    """Multiplies each array of updates by the root mean square of its parameters, at least
    `min_scale`.
    """
    return _each_with_param(
        "scale_by_param_block_rms",
        lambda u, p: u * _safe(bnp.sqrt(bnp.mean(tree.abs_sq(p))), min_scale),
    )


def scale_by_trust_ratio(
    min_norm: Any = 0.0, trust_coefficient: Any = 1.0, eps: Any = 0.0
) -> GradientTransformation:
    """Scales each array of updates to the norm of its parameters (You et al., arXiv:1904.00962)."""

    def scale_one(u: Any, p: Any) -> Any:
        p_norm, u_norm = _safe(_norm(p), min_norm), _safe(_norm(u), min_norm)
        zero = (p_norm == 0) | (u_norm == 0)
        ratio = trust_coefficient * p_norm / (bnp.where(zero, 1.0, u_norm) + eps)
        return u * bnp.where(zero, 1.0, ratio).astype(p.dtype)

    return _each_with_param("scale_by_trust_ratio", scale_one)


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
    """Multiplies updates by minus the learning rate (a number or a schedule); None does nothing."""
    if learning_rate is None:
        return identity()
    sign = -1 if flip_sign else 1
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
    """A moving average of updates, by default without the pull of its start at zero."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        new = tree.update_moment(updates, state.ema, decay, 1)
        count = safe_increment(state.count)
        updates = tree.bias_correction(new, decay, count) if debias else new
        return updates, EmaState(count, tree.cast(new, accumulator_dtype))

    return GradientTransformation(
        lambda params: EmaState(zero_count(), tree.zeros_like(params, accumulator_dtype)), update
    )


# -- by moments ------------------------------------------------------------------------------------


def _by_moments(
    step: Callable[[Any, Any, Any, Any], tuple[Any, Any, Any]], mu_dtype: Any = None, start: Any = 0
) -> GradientTransformation:
    """From `step(updates, mu, nu, count) -> (updates, mu, nu)`, with count that of this step."""

    def init(params: Any) -> ScaleByAdamState:
        return ScaleByAdamState(
            zero_count(), tree.full_like(params, start, mu_dtype), tree.full_like(params, start)
        )

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, ScaleByAdamState]:
        count = safe_increment(state.count)
        updates, mu, nu = step(updates, state.mu, state.nu, count)
        return updates, ScaleByAdamState(
            count, tree.cast(mu, mu_dtype), tree.cast_like(nu, state.nu)
        )

    return GradientTransformation(init, update)


def _mean(updates: Any, mu: Any, b1: Any, count: Any, nesterov: bool) -> Any:
    """The first moment without the pull of its start, one step ahead if `nesterov`."""
    if not nesterov:
        return tree.bias_correction(mu, b1, count)
    ahead = tree.bias_correction(mu, b1, safe_increment(count))
    now = tree.bias_correction(updates, b1, count)
    return _tree.map(lambda m, g: b1 * m + (1 - b1) * g, ahead, now)


def _over_root(mu: Any, nu: Any, eps: Any, eps_root: Any) -> Any:
    return _tree.map(lambda m, v: m / (bnp.sqrt(v + eps_root) + eps), mu, nu)


def scale_by_adam(
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
    eps_root: Any = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
) -> GradientTransformation:
    """First moment over the root of the second (Kingma and Ba, arXiv:1412.6980).

    Args:
        b1: decay of the first moment.
        b2: decay of the second moment.
        eps: added to the denominator.
        eps_root: added inside the root.
        mu_dtype: dtype the first moment is kept at.
        nesterov: Nesterov's momentum (Dozat, 2016).

    >>> import bevel.numpy as bnp
    >>> from bevel import optim
    >>> tx = optim.scale_by_adam()
    >>> tx.update(bnp.array([0.1, -20.0]), tx.init(bnp.zeros(2)))[0].round(3)
    Array([ 1., -1.], dtype=float32)
    """

    def step(updates: Any, mu: Any, nu: Any, count: Any) -> tuple[Any, Any, Any]:
        mu = tree.update_moment(updates, mu, b1, 1)
        nu = tree.update_moment_per_elem_norm(updates, nu, b2, 2)
        mu_hat = _mean(updates, mu, b1, count, nesterov)
        return _over_root(mu_hat, tree.bias_correction(nu, b2, count), eps, eps_root), mu, nu

    return _by_moments(step, mu_dtype)


def scale_by_belief(
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-16,
    eps_root: Any = 1e-16,
    *,
    nesterov: bool = False,
) -> GradientTransformation:
    """Adam with the variance of the prediction error (Zhuang et al., arXiv:2010.07468)."""

    def step(updates: Any, mu: Any, nu: Any, count: Any) -> tuple[Any, Any, Any]:
        mu = tree.update_moment(updates, mu, b1, 1)
        nu = tree.update_moment_per_elem_norm(tree.sub(updates, mu), nu, b2, 2)
        nu = _tree.map(lambda v: v + eps_root, nu)
        mu_hat = _mean(updates, mu, b1, count, nesterov)
        return _over_root(mu_hat, tree.bias_correction(nu, b2, count), eps, 0), mu, nu

    return _by_moments(step)


def scale_by_yogi(
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-3,
    eps_root: Any = 0.0,
    initial_accumulator_value: Any = 1e-6,
) -> GradientTransformation:
    """Adam with an additive second moment (Zaheer et al., 2018)."""

    def step(updates: Any, mu: Any, nu: Any, count: Any) -> tuple[Any, Any, Any]:
        def moved(g: Any, v: Any) -> Any:
            square = tree.abs_sq(g)
            return v - (1 - b2) * bnp.sign(v - square) * square

        mu = tree.update_moment(updates, mu, b1, 1)
        nu = _tree.map(moved, updates, nu)
        mu_hat, nu_hat = tree.bias_correction(mu, b1, count), tree.bias_correction(nu, b2, count)
        return _over_root(mu_hat, nu_hat, eps, eps_root), mu, nu

    return _by_moments(step, start=initial_accumulator_value)


def scale_by_radam(
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
    eps_root: Any = 0.0,
    threshold: Any = 5.0,
    *,
    nesterov: bool = False,
) -> GradientTransformation:
    """Adam with its variance rectified (Liu et al., arXiv:1908.03265)."""
    ro_inf = 2 / (1 - b2) - 1

    def step(updates: Any, mu: Any, nu: Any, count: Any) -> tuple[Any, Any, Any]:
        mu = tree.update_moment(updates, mu, b1, 1)
        nu = tree.update_moment_per_elem_norm(updates, nu, b2, 2)
        b2t = b2**count
        ro = ro_inf - 2 * count * b2t / (1 - b2t)
        square = (ro - 4) * (ro - 2) * ro_inf / ((ro_inf - 4) * (ro_inf - 2) * ro)
        r = bnp.sqrt(bnp.where(ro >= threshold, square, 1.0))
        mu_hat = _mean(updates, mu, b1, count, nesterov)
        rectified = _over_root(mu_hat, tree.bias_correction(nu, b2, count), eps, eps_root)
        chosen = _tree.map(
            lambda t, m: bnp.where(ro >= threshold, r.astype(m.dtype) * t, m), rectified, mu_hat
        )
        return chosen, mu, nu

    return _by_moments(step)


def scale_by_adamax(b1: Any = 0.9, b2: Any = 0.999, eps: Any = 1e-8) -> GradientTransformation:
    """Adam with a decaying maximum in place of the second moment (arXiv:1412.6980)."""

    def step(updates: Any, mu: Any, nu: Any, count: Any) -> tuple[Any, Any, Any]:
        mu = tree.update_moment(updates, mu, b1, 1)
        nu = tree.update_infinity_moment(updates, nu, b2, eps)
        return tree.div(tree.bias_correction(mu, b1, count), nu), mu, nu

    return _by_moments(step)


def scale_by_amsgrad(
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
    eps_root: Any = 0.0,
    mu_dtype: Any = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
) -> GradientTransformation:
    """Adam with the largest second moment so far (Reddi et al., 2018)."""

    def init(params: Any) -> ScaleByAmsgradState:
        zeros = tree.zeros_like(params)
        return ScaleByAmsgradState(zero_count(), tree.zeros_like(params, mu_dtype), zeros, zeros)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, ScaleByAmsgradState]:
        count = safe_increment(state.count)
        mu = tree.update_moment(updates, state.mu, b1, 1)
        nu = tree.update_moment_per_elem_norm(updates, state.nu, b2, 2)
        mu_hat = tree.bias_correction(mu, b1, count) if bias_correction_mu else mu
        nu_hat = tree.bias_correction(nu, b2, count) if bias_correction_nu else nu
        nu_max = _tree.map(bnp.maximum, state.nu_max, nu_hat)
        updates = _over_root(mu_hat, nu_max, eps, eps_root)
        return updates, ScaleByAmsgradState(count, tree.cast(mu, mu_dtype), nu, nu_max)

    return GradientTransformation(init, update)


_LION_MODES: dict[str, Callable[[Any, Any], Any]] = {
    "hard": lambda x, beta: bnp.sign(x),
    "smooth": lambda x, beta: bnp.tanh(beta * x),
    "refined": lambda x, beta: bnp.where(abs(x) < 1, x, bnp.sign(x)),
}


def scale_by_lion(
    b1: Any = 0.9,
    b2: Any = 0.99,
    mu_dtype: Any = None,
    *,
    mode: str = "hard",
    smooth_beta: float = 1.0,
) -> GradientTransformation:
    """The sign of a mix of gradient and moment (Chen et al., arXiv:2302.06675).

    Raises:
        ValueError: `mode` is not "hard", "smooth" or "refined".
    """
    if mode not in _LION_MODES:
        raise ValueError(f"scale_by_lion: mode is one of {', '.join(_LION_MODES)}, not {mode!r}")

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, ScaleByLionState]:
        new = _tree.map(
            lambda g, m: _LION_MODES[mode]((1 - b1) * g + b1 * m, smooth_beta).astype(g.dtype),
            updates,
            state.mu,
        )
        mu = tree.cast(tree.update_moment(updates, state.mu, b2, 1), mu_dtype)
        return new, ScaleByLionState(safe_increment(state.count), mu)

    return GradientTransformation(
        lambda params: ScaleByLionState(zero_count(), tree.zeros_like(params, mu_dtype)), update
    )


def scale_by_rss(initial_accumulator_value: Any = 0.1, eps: Any = 1e-7) -> GradientTransformation:
    """Updates over the root of the sum of all squared gradients (Duchi et al., 2011)."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, ScaleByRssState]:
        total = _tree.map(lambda g, t: tree.abs_sq(g) + t, updates, state.sum_of_squares)
        new = _tree.map(lambda g, t: bnp.where(t > 0, lax.rsqrt(t + eps), 0.0) * g, updates, total)
        return new, ScaleByRssState(total)

    return GradientTransformation(
        lambda params: ScaleByRssState(tree.full_like(params, initial_accumulator_value)), update
    )


def _inverse_root(v: Any, eps: Any, eps_in_sqrt: bool) -> Any:
    return lax.rsqrt(v + eps) if eps_in_sqrt else 1 / (bnp.sqrt(v) + eps)


def scale_by_rms(
    decay: Any = 0.9,
    eps: Any = 1e-8,
    initial_scale: Any = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
) -> GradientTransformation:
    """Updates over the root of the moving average of their squares (Hinton, RMSProp).

    Args:
        decay: of the moving average.
        eps: added to the denominator, inside the root if `eps_in_sqrt`.
        initial_scale: what the moving average starts from.
        eps_in_sqrt: where `eps` goes.
        bias_correction: remove the pull of the start.
    """

    def init(params: Any) -> Any:
        nu = tree.full_like(params, initial_scale)
        return (
            ScaleByRmsWithCountState(zero_count(), nu) if bias_correction else ScaleByRmsState(nu)
        )

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        nu = nu_hat = tree.update_moment_per_elem_norm(updates, state.nu, decay, 2)
        new: Any = ScaleByRmsState(nu)
        if bias_correction:
            count = safe_increment(state.count)
            nu_hat, new = (
                tree.bias_correction(nu, decay, count),
                ScaleByRmsWithCountState(count, nu),
            )
        return _tree.map(lambda g, v: _inverse_root(v, eps, eps_in_sqrt) * g, updates, nu_hat), new

    return GradientTransformation(init, update)


def scale_by_stddev(
    decay: Any = 0.9,
    eps: Any = 1e-8,
    initial_scale: Any = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
) -> GradientTransformation:
    """Updates over the moving standard deviation of gradients: centred RMSProp; arguments as
    `scale_by_rms`.
    """

    def init(params: Any) -> Any:
        mu, nu = tree.zeros_like(params), tree.full_like(params, initial_scale)
        return (
            ScaleByAdamState(zero_count(), mu, nu)
            if bias_correction
            else ScaleByRStdDevState(mu, nu)
        )

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        mu = mu_hat = tree.update_moment(updates, state.mu, decay, 1)
        nu = nu_hat = tree.update_moment_per_elem_norm(updates, state.nu, decay, 2)
        new: Any = ScaleByRStdDevState(mu, nu)
        if bias_correction:
            count = safe_increment(state.count)
            mu_hat, nu_hat = (tree.bias_correction(x, decay, count) for x in (mu, nu))
            new = ScaleByAdamState(count, mu, nu)
        scaled = _tree.map(
            lambda g, m, v: _inverse_root(v - tree.abs_sq(m), eps, eps_in_sqrt) * g,
            updates,
            mu_hat,
            nu_hat,
        )
        return scaled, new

    return GradientTransformation(init, update)


def scale_by_adadelta(rho: Any = 0.9, eps: Any = 1e-6) -> GradientTransformation:
    """Updates at the scale of past updates over that of gradients (Zeiler, arXiv:1212.5701)."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, ScaleByAdaDeltaState]:
        e_g = tree.update_moment(updates, state.e_g, rho, 2)
        updates = _tree.map(
            lambda g, v, x: bnp.sqrt(x + eps) / bnp.sqrt(v + eps) * g, updates, e_g, state.e_x
        )
        return updates, ScaleByAdaDeltaState(e_g, tree.update_moment(updates, state.e_x, rho, 2))

    return GradientTransformation(
        lambda params: ScaleByAdaDeltaState(tree.zeros_like(params), tree.zeros_like(params)),
        update,
    )


def scale_by_adan(
    b1: Any = 0.98, b2: Any = 0.92, b3: Any = 0.99, eps: Any = 1e-8, eps_root: Any = 0.0
) -> GradientTransformation:
    """Adam with Nesterov's momentum by gradient differences (Xie et al., arXiv:2208.06677)."""

    def init(params: Any) -> ScaleByAdanState:
        return ScaleByAdanState(*[tree.zeros_like(params) for _ in range(4)], zero_count())

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, ScaleByAdanState]:
        g = updates
        difference = tree.where(state.t == 0, tree.zeros_like(g), tree.sub(g, state.g))
        m = tree.update_moment(g, state.m, b1, 1)
        v = tree.update_moment(difference, state.v, b2, 1)
        n = tree.update_moment_per_elem_norm(tree.add_scale(g, 1 - b2, difference), state.n, b3, 2)
        t = safe_increment(state.t)
        m_hat, v_hat, n_hat = (
            tree.bias_correction(x, b, t) for x, b in ((m, b1), (v, b2), (n, b3))
        )
        ahead = tree.add_scale(m_hat, 1 - b2, v_hat)
        return _over_root(ahead, n_hat, eps, eps_root), ScaleByAdanState(m, v, n, g, t)

    return GradientTransformation(init, update)


def scale_by_rprop(
    learning_rate: Any,
    eta_minus: Any = 0.5,
    eta_plus: Any = 1.2,
    min_step_size: Any = 1e-6,
    max_step_size: Any = 50.0,
) -> GradientTransformation:
    """A step size for each element, by whether its gradient keeps its sign (Riedmiller and Braun,
    1993).
    """

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, ScaleByRpropState]:
        def resized(s: Any, size: Any) -> Any:
            factor = bnp.where(s > 0, eta_plus, eta_minus)
            return bnp.where(s == 0, size, bnp.clip(size * factor, min_step_size, max_step_size))

        sign = tree.mul(updates, state.prev_updates)
        sizes = _tree.map(resized, sign, state.step_sizes)
        new = _tree.map(
            lambda s, g, size: bnp.where(s < 0, 0.0, size * bnp.sign(g)), sign, updates, sizes
        )
        chosen = _tree.map(lambda s, prev: bnp.where(s < 0, 0.0, prev), sign, new)
        return chosen, ScaleByRpropState(sizes, new)

    return GradientTransformation(
        lambda params: ScaleByRpropState(
            tree.full_like(params, learning_rate), tree.zeros_like(params)
        ),
        update,
    )


def scale_by_optimistic_gradient(alpha: Any = 1.0, beta: Any = 1.0) -> GradientTransformation:
    """(alpha + beta) * gradient - beta * the gradient before (arXiv:1901.08511)."""

    def update(
        updates: Any, state: Any, params: Any = None
    ) -> tuple[Any, ScaleByOptimisticGradientState]:
        before = tree.where(state.is_initial_step, updates, state.previous_gradient)
        new = _tree.map(lambda g, b: (alpha + beta) * g - beta * b, updates, before)
        return new, ScaleByOptimisticGradientState(bnp.asarray(False), updates)

    return GradientTransformation(
        lambda params: ScaleByOptimisticGradientState(bnp.asarray(True), tree.zeros_like(params)),
        update,
    )


def scale_by_polyak(
    f_min: Any = 0.0, max_learning_rate: Any = 1.0, eps: Any = 0.0, variant: str = "sps"
) -> GradientTransformationExtraArgs:
    """Polyak's step size, from the loss: `tx.update(grads, state, params, value=loss)` (Loizou et
    al., arXiv:2002.10542).

    Raises:
        ValueError: `variant` is not "sps" or "sps+".
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
