"""Optimizers that find their learning rate: COCOB, DoG, DoWG, D-Adaptation, Prodigy, Mechanic."""

from __future__ import annotations

from typing import Any, NamedTuple

import bevel.numpy as bnp
from bevel.core import tree as _tree
from bevel.numpy.convert import enter
from bevel.optim import tree
from bevel.optim.base import (
    GradientTransformation,
    GradientTransformationExtraArgs,
    MaskOrFn,
    ScalarOrSchedule,
    chain,
    identity,
    params_of,
    safe_increment,
    with_extra_args_support,
    zero_count,
)
from bevel.optim.contrib.adaptive import at
from bevel.optim.scaling import add_decayed_weights, scale_by_learning_rate


class COCOBState(NamedTuple):
    """The start, and for each element: gradients, their scale, their sizes, and the reward."""

    init_particles: Any
    cumulative_gradients: Any
    scale: Any
    subgradients: Any
    reward: Any


class DoGState(NamedTuple):
    """Whether no step was taken, the start, the largest distance from it, and squared gradients."""

    is_init_step: Any
    init_params: Any
    max_dist: Any
    sum_sq_norm_grads: Any


class DoWGState(NamedTuple):
    """The start, weighted squared gradients, and the largest squared distance from the start."""

    init_params: Any
    weighted_sq_norm_grads: Any
    estim_sq_dist: Any


class DAdaptAdamWState(NamedTuple):
    """Moments, sum of gradients, the estimate, its numerator, and step."""

    exp_avg: Any
    exp_avg_sq: Any
    grad_sum: Any
    estim_lr: Any
    numerator_weighted: Any
    count: Any


class ProdigyState(NamedTuple):
    """Moments, sum of gradients, the start, the estimate, its numerator, and step."""

    exp_avg: Any
    exp_avg_sq: Any
    grad_sum: Any
    params0: Any
    estim_lr: Any
    numerator_weighted: Any
    count: Any


class MechanicState(NamedTuple):
    """The inner state, step, for each decay: reward, largest and squared products, and scale; and
    the start.
    """

    base_optimizer_state: Any
    count: Any
    r: Any
    m: Any
    v: Any
    s: Any
    x0: Any


# -- COCOB -----------------------------------------------------------------------------------------


def scale_by_cocob(alpha: Any = 100.0, eps: Any = 1e-8) -> GradientTransformation:
    """Coin betting on each element (Orabona and Tommasi, "Training Deep Networks without Learning
    Rates Through Coin Betting", 2017, arXiv:1705.07795).

    Args:
        alpha: bounds the first bets.
        eps: first scale of gradients.

    >>> from bevel.optim import contrib
    >>> tx, x = contrib.scale_by_cocob(), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.01,  0.01], dtype=float32)
    """

    def init(params: Any) -> COCOBState:
        zeros = tree.zeros_like(params)
        return COCOBState(params, zeros, tree.full_like(params, eps), zeros, zeros)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, COCOBState]:
        params = params_of("scale_by_cocob", params)
        start = state.init_particles
        scale = _tree.map(lambda s, g: bnp.maximum(s, abs(g)), state.scale, updates)
        sizes = _tree.map(lambda s, g: s + abs(g), state.subgradients, updates)
        reward = _tree.map(
            lambda r, g, p, p0: bnp.maximum(r - g * (p - p0), 0),
            state.reward,
            updates,
            params,
            start,
        )
        total = tree.sub(state.cumulative_gradients, updates)

        def bet(p: Any, p0: Any, c: Any, s: Any, n: Any, r: Any) -> Any:
            return p0 - p + c / (s * bnp.maximum(n + s, alpha * s)) * (s + r)

        out = _tree.map(bet, params, start, total, scale, sizes, reward)
        return out, COCOBState(start, total, scale, sizes, reward)

    return GradientTransformation(init, update)


def cocob(
    learning_rate: ScalarOrSchedule = 1.0,
    alpha: Any = 100.0,
    eps: Any = 1e-8,
    weight_decay: Any = 0.0,
    mask: MaskOrFn = None,
) -> GradientTransformationExtraArgs:
    """COCOB (Orabona and Tommasi, arXiv:1705.07795); `learning_rate` scales gradients before.

    >>> from bevel.optim import contrib
    >>> tx, x = contrib.cocob(), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.01,  0.01], dtype=float32)
    """
    return chain(
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate, flip_sign=False),
        scale_by_cocob(alpha, eps),
    )


# -- DoG, DoWG -------------------------------------------------------------------------------------

_FIRST_STEPS = ("distance", "learning_rate", "heuristic")


def scale_by_dog(init_step: tuple[str, Any], eps: Any = 1e-8) -> GradientTransformation:
    """Steps of the largest distance from the start over the norm of all gradients (Ivgi et al.,
    "DoG is SGD's Best Friend", 2023, arXiv:2302.12022).

    Args:
        init_step: what the first step is, and how much: ("distance", d), ("learning_rate", rate)
            or ("heuristic", share of 1 + the norm of the parameters).
        eps: added to the sum of squared gradients.

    Raises:
        ValueError: no such kind of first step.

    >>> from bevel.optim.contrib.parameter_free import scale_by_dog
    >>> tx, x = scale_by_dog(("distance", 0.1)), bnp.array([3.0, -4.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([ 0.06, -0.08], dtype=float32)
    """
    kind, amount = init_step
    if kind not in _FIRST_STEPS:
        raise ValueError(f"scale_by_dog: init_step is of {', '.join(_FIRST_STEPS)}, not {kind!r}")

    def init(params: Any) -> DoGState:
        dtype = tree.dtype(params, "lowest")
        first = {
            "distance": lambda: amount,
            "learning_rate": lambda: 0.0,
            "heuristic": lambda: amount * (1 + tree.norm(params)),
        }[kind]()
        return DoGState(bnp.array(True), params, bnp.asarray(first, dtype), bnp.zeros((), dtype))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, DoGState]:
        params = params_of("scale_by_dog", params)
        far = bnp.maximum(state.max_dist, tree.norm(tree.sub(state.init_params, params)))
        squares = state.sum_sq_norm_grads + tree.norm(updates, squared=True)
        rate = far / bnp.sqrt(squares + eps)
        if kind == "learning_rate":
            rate = bnp.where(state.is_init_step, amount, rate)
        return tree.scale(rate, updates), DoGState(
            bnp.array(False), state.init_params, far, squares
        )

    return GradientTransformation(init, update)


def _decayed_first(
    tx: GradientTransformation, weight_decay: Any, mask: MaskOrFn, learning_rate: ScalarOrSchedule
) -> GradientTransformationExtraArgs:
    return chain(
        identity() if weight_decay is None else add_decayed_weights(weight_decay, mask),
        tx,
        scale_by_learning_rate(learning_rate),
    )


def dog(
    learning_rate: ScalarOrSchedule = 1.0,
    init_step: tuple[str, Any] = ("heuristic", 1e-6),
    eps: Any = 1e-8,
    weight_decay: Any = None,
    mask: MaskOrFn = None,
) -> GradientTransformationExtraArgs:
    """DoG (Ivgi et al., arXiv:2302.12022): distance over gradients.

    Args:
        learning_rate: factor of all steps.
        init_step: what the first step is, and how much: ("distance", d), ("learning_rate", rate)
            or ("heuristic", share of 1 + the norm of the parameters).
        eps: added to the sum of squared gradients.
        weight_decay: strength, or None.
        mask: which parameters decay.

    Raises:
        ValueError: no such kind of first step.

    >>> from bevel.optim import contrib
    >>> tx, x = contrib.dog(init_step=("distance", 0.1)), bnp.array([3.0, -4.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.06,  0.08], dtype=float32)
    """
    return _decayed_first(scale_by_dog(init_step, eps), weight_decay, mask, learning_rate)


def scale_by_dowg(init_estim_sq_dist: Any = None, eps: Any = 1e-4) -> GradientTransformation:
    """`scale_by_dog` with gradients weighted by the distance (Khaled et al., "DoWG Unleashed",
    2023, arXiv:2305.16284).

    Args:
        init_estim_sq_dist: first squared distance; `eps` if None.
        eps: added to the denominator.

    >>> from bevel.optim.contrib.parameter_free import scale_by_dowg
    >>> tx, x = scale_by_dowg(0.01), bnp.array([3.0, -4.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([ 0.06, -0.08], dtype=float32)
    """

    def init(params: Any) -> DoWGState:
        dtype = tree.dtype(params, "lowest")
        first = eps if init_estim_sq_dist is None else init_estim_sq_dist
        return DoWGState(params, bnp.zeros((), dtype), bnp.asarray(first, dtype))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, DoWGState]:
        params = params_of("scale_by_dowg", params)
        moved = tree.norm(tree.sub(state.init_params, params), squared=True)
        far = bnp.maximum(state.estim_sq_dist, moved)
        squares = far * tree.norm(updates, squared=True) + state.weighted_sq_norm_grads
        rate = far / (bnp.sqrt(squares) + eps)
        return tree.scale(rate, updates), DoWGState(state.init_params, squares, far)

    return GradientTransformation(init, update)


def dowg(
    learning_rate: ScalarOrSchedule = 1.0,
    init_estim_sq_dist: Any = None,
    eps: Any = 1e-4,
    weight_decay: Any = None,
    mask: MaskOrFn = None,
) -> GradientTransformationExtraArgs:
    """DoWG (Khaled et al., arXiv:2305.16284): distance over weighted gradients.

    Args:
        learning_rate: factor of all steps.
        init_estim_sq_dist: first squared distance; `eps` if None.
        eps: added to the denominator.
        weight_decay: strength, or None.
        mask: which parameters decay.

    >>> from bevel.optim import contrib
    >>> tx, x = contrib.dowg(init_estim_sq_dist=0.01), bnp.array([3.0, -4.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.06,  0.08], dtype=float32)
    """
    return _decayed_first(scale_by_dowg(init_estim_sq_dist, eps), weight_decay, mask, learning_rate)


# -- D-Adaptation, Prodigy -------------------------------------------------------------------------


def _l1(t: Any) -> Any:
    return tree.sum(_tree.map(abs, t))


def dadapt_adamw(
    learning_rate: ScalarOrSchedule = 1.0,
    betas: tuple[Any, Any] = (0.9, 0.999),
    eps: Any = 1e-8,
    estim_lr0: Any = 1e-6,
    weight_decay: Any = 0.0,
) -> GradientTransformationExtraArgs:
    """AdamW with a learning rate from an estimated distance to the solution (Defazio and
    Mishchenko, "Learning-Rate-Free Learning by D-Adaptation", 2023, arXiv:2301.07733).

    Args:
        learning_rate: factor of all steps, or a schedule.
        betas: decays of the first and second moments.
        eps: added to the denominator.
        estim_lr0: first estimate, an underestimate.
        weight_decay: strength.

    >>> from bevel.optim import contrib
    >>> tx, x = contrib.dadapt_adamw(estim_lr0=0.1), bnp.array([3.0, -4.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.1,  0.1], dtype=float32)
    """
    b1, b2 = betas
    root = b2**0.5

    def init(params: Any) -> DAdaptAdamWState:
        dtype, zeros = tree.dtype(params, "lowest"), tree.zeros_like(params)
        first = bnp.asarray(estim_lr0, dtype)
        return DAdaptAdamWState(zeros, zeros, zeros, first, bnp.zeros((), dtype), zero_count())

    def update(
        updates: Any, state: Any, params: Any = None, **extra: Any
    ) -> tuple[Any, DAdaptAdamWState]:
        params, count = params_of("dadapt_adamw", params), safe_increment(state.count)
        corrected = (1 - b2**count) ** 0.5 / (1 - b1**count)
        rate = state.estim_lr * at(learning_rate, state.count, updates) * corrected
        rate = rate.astype(state.numerator_weighted.dtype)
        scaled = _tree.map(lambda s, v: s / (bnp.sqrt(v) + eps), state.grad_sum, state.exp_avg_sq)
        mu = _tree.map(lambda m, g: b1 * m + (1 - b1) * rate * g, state.exp_avg, updates)
        nu = _tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.exp_avg_sq, updates)
        total = _tree.map(lambda s, g: root * s + (1 - root) * rate * g, state.grad_sum, updates)
        numerator = root * state.numerator_weighted + (1 - root) * rate * tree.vdot(updates, scaled)
        estimate = bnp.maximum(state.estim_lr, numerator / ((1 - root) * _l1(total)))
        out = _tree.map(
            lambda m, v, p: -weight_decay * rate * p - m / (bnp.sqrt(v) + eps), mu, nu, params
        )
        return out, DAdaptAdamWState(mu, nu, total, estimate, numerator, count)

    return GradientTransformationExtraArgs(init, update)


def prodigy(
    learning_rate: ScalarOrSchedule = 1.0,
    betas: tuple[Any, Any] = (0.9, 0.999),
    beta3: Any = None,
    eps: Any = 1e-8,
    estim_lr0: Any = 1e-6,
    estim_lr_coef: Any = 1.0,
    weight_decay: Any = 0.0,
    safeguard_warmup: bool = False,
) -> GradientTransformationExtraArgs:
    """AdamW with a learning rate from an estimated distance to the solution, faster than
    `dadapt_adamw` (Mishchenko and Defazio, "Prodigy", 2023, arXiv:2306.06101).

    Args:
        learning_rate: factor of all steps, or a schedule.
        betas: decays of the first and second moments.
        beta3: decay of the estimate's sums; the root of the second if None.
        eps: added to the denominator.
        estim_lr0: first estimate, an underestimate.
        estim_lr_coef: factor of the estimate.
        weight_decay: strength.
        safeguard_warmup: leave a schedule that starts near zero out of the denominator.

    >>> from bevel.optim import contrib
    >>> tx, x = contrib.prodigy(estim_lr0=0.1), bnp.array([3.0, -4.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.1,  0.1], dtype=float32)
    """
    b1, b2 = betas
    b3 = b2**0.5 if beta3 is None else beta3

    def init(params: Any) -> ProdigyState:
        dtype, zeros = tree.dtype(params, "lowest"), tree.zeros_like(params)
        first = bnp.asarray(estim_lr0, dtype)
        return ProdigyState(zeros, zeros, zeros, params, first, bnp.zeros((), dtype), zero_count())

    def update(
        updates: Any, state: Any, params: Any = None, **extra: Any
    ) -> tuple[Any, ProdigyState]:
        params, count = params_of("prodigy", params), safe_increment(state.count)
        known = state.estim_lr
        corrected = (1 - b2**count) ** 0.5 / (1 - b1**count)
        rate = bnp.asarray(known * at(learning_rate, state.count, updates) * corrected, known.dtype)
        grads = tree.scale(known, updates)
        mu = tree.update_moment(grads, state.exp_avg, b1, 1)
        nu = tree.update_moment(grads, state.exp_avg_sq, b2, 2)
        share = (known if safeguard_warmup else rate) / estim_lr0
        total = _tree.map(lambda s, g: b3 * s + share * g, state.grad_sum, grads)
        moved = tree.vdot(updates, tree.sub(state.params0, params))
        numerator = b3 * state.numerator_weighted + known / estim_lr0 * rate * moved
        estimate = bnp.maximum(known, estim_lr_coef * numerator / _l1(total))
        out = _tree.map(
            lambda m, v, p: -weight_decay * rate * p - rate * m / (bnp.sqrt(v) + estimate * eps),
            mu,
            nu,
            params,
        )
        return out, ProdigyState(mu, nu, total, state.params0, estimate, numerator, count)

    return GradientTransformationExtraArgs(init, update)


# -- Mechanic --------------------------------------------------------------------------------------


def mechanize(
    base_optimizer: GradientTransformation,
    weight_decay: Any = 1e-2,
    eps: Any = 1e-8,
    s_init: Any = 1e-6,
    num_betas: int = 6,
) -> GradientTransformationExtraArgs:
    """Finds the scale of an optimizer's updates while it runs (Cutkosky et al., "Mechanic: A
    Learning Rate Tuner", 2023, arXiv:2306.00144).

    Args:
        base_optimizer: with a learning rate of about 1, or a schedule of that height.
        weight_decay: strength, relative to gradients.
        eps: added to denominators.
        s_init: first scale.
        num_betas: how many decays are tried at once.

    >>> from bevel import optim
    >>> tx, x = optim.contrib.mechanize(optim.sgd(1.0), s_init=0.1), bnp.array([3.0, -4.0])
    >>> tx.update(x, tx.init(x), x)[0].shape
    (2,)
    """
    inner = with_extra_args_support(base_optimizer)

    def init(params: Any) -> MechanicState:
        dtype = tree.dtype(params, "lowest")
        zeros = bnp.zeros(num_betas, dtype)
        return MechanicState(
            inner.init(params), zero_count(), zeros, zeros, zeros, zeros + s_init, params
        )

    def update(
        updates: Any, state: Any, params: Any = None, **extra: Any
    ) -> tuple[Any, MechanicState]:
        params = params_of("mechanize", params)
        steps, inner_state = inner.update(updates, state.base_optimizer_state, params, **extra)
        start = tree.where(state.count == 0, params, state.x0)
        scale = bnp.sum(state.s)
        decay = weight_decay * scale * tree.norm(updates) / (tree.norm(params) + eps)
        moved = _tree.map(lambda p, p0: (p0 - p) / (scale + eps), params, start)
        product = enter(tree.vdot(tree.add_scale(updates, decay, params), moved))
        betas = (1.0 - 0.1 ** bnp.arange(1, num_betas + 1)).astype(state.s.dtype)
        m = bnp.maximum(betas * state.m, abs(product) + eps)
        v = betas**2 * state.v + product**2
        r = betas * state.r + bnp.clip(product, -state.m, state.m) * state.s
        s = (s_init / num_betas * m + bnp.maximum(0.0, r)) / (bnp.sqrt(v) + eps)
        out = _tree.map(
            lambda p0, p, d, u: p0 - bnp.sum(s) * (d - u) - p, start, params, moved, steps
        )
        return out, MechanicState(inner_state, safe_increment(state.count), r, m, v, s, start)

    return GradientTransformationExtraArgs(init, update)
