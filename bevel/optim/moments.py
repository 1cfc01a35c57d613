"""Gradient transformations by moments of past gradients: Adam and its family, RMSProp, and others.

Names and numbers are Optax's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import bevel.numpy as bnp
from bevel import lax
from bevel.core import tree as _tree
from bevel.optim import tree
from bevel.optim.base import (
    GradientTransformation,
    safe_increment,
    zero_count,
)


class ScaleByAdamState(NamedTuple):
    """Step, first and second moments."""

    count: Any
    mu: Any
    nu: Any


class ScaleByBeliefState(NamedTuple):
    """Step, first moment, and second moment of the prediction error."""

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


def _by_moments(
    step: Callable[[Any, Any, Any, Any], tuple[Any, Any, Any]],
    mu_dtype: Any = None,
    start: Any = 0,
    state_class: Any = ScaleByAdamState,
) -> GradientTransformation:
    """From `step(updates, mu, nu, count) -> (updates, mu, nu)`, with count that of this step."""

    def init(params: Any) -> Any:
        return state_class(
            zero_count(), tree.full_like(params, start, mu_dtype), tree.full_like(params, start)
        )

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        count = safe_increment(state.count)
        updates, mu, nu = step(updates, state.mu, state.nu, count)
        return updates, state_class(count, tree.cast(mu, mu_dtype), tree.cast_like(nu, state.nu))

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
    """Adam with the variance of the prediction error (Zhuang et al., arXiv:2010.07468).

    >>> from bevel import optim
    >>> tx, x = optim.scale_by_belief(), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([ 1.111, -1.111], dtype=float32)
    """

    def step(updates: Any, mu: Any, nu: Any, count: Any) -> tuple[Any, Any, Any]:
        mu = tree.update_moment(updates, mu, b1, 1)
        nu = tree.update_moment_per_elem_norm(tree.sub(updates, mu), nu, b2, 2)
        nu = _tree.map(lambda v: v + eps_root, nu)
        mu_hat = _mean(updates, mu, b1, count, nesterov)
        return _over_root(mu_hat, tree.bias_correction(nu, b2, count), eps, 0), mu, nu

    return _by_moments(step, state_class=ScaleByBeliefState)


def scale_by_yogi(
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-3,
    eps_root: Any = 0.0,
    initial_accumulator_value: Any = 1e-6,
) -> GradientTransformation:
    """Adam with an additive second moment (Zaheer et al., 2018).

    >>> from bevel import optim
    >>> tx, x = optim.scale_by_yogi(), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([ 0.999, -0.999], dtype=float32)
    """

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
    """Adam with its variance rectified (Liu et al., arXiv:1908.03265).

    >>> from bevel import optim
    >>> tx, x = optim.scale_by_radam(), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([ 1., -2.], dtype=float32)
    """
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
    """Adam with a decaying maximum in place of the second moment (arXiv:1412.6980).

    >>> from bevel import optim
    >>> tx, x = optim.scale_by_adamax(), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([ 1., -1.], dtype=float32)
    """

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
    """Adam with the largest second moment so far (Reddi et al., 2018).

    >>> from bevel import optim
    >>> tx, x = optim.scale_by_amsgrad(), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([ 1., -1.], dtype=float32)
    """

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

    >>> from bevel import optim
    >>> tx, x = optim.scale_by_lion(), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([ 1., -1.], dtype=float32)
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
    """Updates over the root of the sum of all squared gradients (Duchi et al., 2011).

    >>> from bevel import optim
    >>> tx, x = optim.scale_by_rss(), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([ 0.953, -0.988], dtype=float32)
    """

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

    >>> from bevel import optim
    >>> tx, x = optim.scale_by_rms(), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([ 3.162, -3.162], dtype=float32)
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

    >>> from bevel import optim
    >>> tx, x = optim.scale_by_stddev(), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([ 3.333, -3.333], dtype=float32)
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
    """Updates at the scale of past updates over that of gradients (Zeiler, arXiv:1212.5701).

    >>> from bevel import optim
    >>> tx, x = optim.scale_by_adadelta(), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([ 0.003, -0.003], dtype=float32)
    """

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
    """Adam with Nesterov's momentum by gradient differences (Xie et al., arXiv:2208.06677).

    >>> from bevel import optim
    >>> tx, x = optim.scale_by_adan(), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([ 1., -1.], dtype=float32)
    """

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
    1993). As in Optax, what comes out is the step computed one call before.

    >>> from bevel import optim
    >>> tx, x = optim.scale_by_rprop(0.1), bnp.array([1.0, -2.0])
    >>> _, state = tx.update(x, tx.init(x))
    >>> tx.update(x, state)[0].round(3)
    Array([ 0.1, -0.1], dtype=float32)
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
        chosen = _tree.map(lambda s, prev: bnp.where(s < 0, 0.0, prev), sign, state.prev_updates)
        return chosen, ScaleByRpropState(sizes, new)

    return GradientTransformation(
        lambda params: ScaleByRpropState(
            tree.full_like(params, learning_rate), tree.zeros_like(params)
        ),
        update,
    )


def scale_by_optimistic_gradient(alpha: Any = 1.0, beta: Any = 1.0) -> GradientTransformation:
    """(alpha + beta) * gradient - beta * the gradient before (arXiv:1901.08511).

    >>> from bevel import optim
    >>> tx, x = optim.scale_by_optimistic_gradient(), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([ 1., -2.], dtype=float32)
    """

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
