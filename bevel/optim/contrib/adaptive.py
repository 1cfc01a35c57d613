"""Optimizers of Adam's family: AdEMAMix, ADOPT, ACProp and MADGRAD."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import bevel.numpy as bnp
from bevel.core import tree as _tree
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
from bevel.optim.moments import ScaleByAdamState, ScaleByBeliefState
from bevel.optim.scaling import add_decayed_weights, scale_by_learning_rate


class ScaleByAdemamixState(NamedTuple):
    """Steps, a fast and a slow first moment, and the second moment."""

    count: Any
    count_m2: Any
    m1: Any
    m2: Any
    nu: Any


class ScaleBySimplifiedAdEMAMixState(NamedTuple):
    """Step, sum of gradients, and second moment."""

    t: Any
    m: Any
    n: Any


class MadgradState(NamedTuple):
    """Step, weighted sums of squared gradients and of gradients, and the start."""

    count: Any
    grad_sum_sq: Any
    s: Any
    x0: Any


def at(value: ScalarOrSchedule, count: Any, beside: Any) -> Any:
    """A number, or the value of a schedule at a step; wide enough to stand beside a tree."""
    return widened(value(count), tree.dtype(beside, "promote")) if callable(value) else value


def _with_decay(
    tx: GradientTransformation, weight_decay: Any, mask: MaskOrFn, learning_rate: ScalarOrSchedule
) -> GradientTransformationExtraArgs:
    return chain(tx, add_decayed_weights(weight_decay, mask), scale_by_learning_rate(learning_rate))


# -- AdEMAMix --------------------------------------------------------------------------------------


def scale_by_ademamix(
    b1: Any = 0.9,
    b2: Any = 0.999,
    b3: ScalarOrSchedule = 0.9999,
    alpha: ScalarOrSchedule = 6.0,
    eps: Any = 1e-8,
    eps_root: Any = 0.0,
    mu_dtype: Any = None,
) -> GradientTransformation:
    """Adam with a second, slow moving average of gradients (Pagliardini et al., "The AdEMAMix
    Optimizer", 2024, arXiv:2409.03137).

    Args:
        b1: decay of the fast average.
        b2: decay of the second moment.
        b3: decay of the slow average, or a schedule.
        alpha: weight of the slow average, or a schedule.
        eps: added to the denominator.
        eps_root: added inside the root.
        mu_dtype: dtype the moments start at.

    >>> from bevel.optim import contrib
    >>> tx, x = contrib.scale_by_ademamix(), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([ 1.001, -1.001], dtype=float32)
    """

    def init(params: Any) -> ScaleByAdemamixState:
        zeros = tree.zeros_like(params, mu_dtype)
        return ScaleByAdemamixState(zero_count(), zero_count(), zeros, zeros, zeros)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, ScaleByAdemamixState]:
        weight = at(alpha, state.count_m2, updates)
        m1 = tree.update_moment(updates, state.m1, b1, 1)
        m2 = tree.update_moment(updates, state.m2, at(b3, state.count_m2, updates), 1)
        nu = tree.update_moment_per_elem_norm(updates, state.nu, b2, 2)
        count = safe_increment(state.count)
        out = _tree.map(
            lambda fast, slow, v: (fast + weight * slow) / (bnp.sqrt(v + eps_root) + eps),
            tree.bias_correction(m1, b1, count),
            m2,
            tree.bias_correction(nu, b2, count),
        )
        moments = tree.cast_like((m1, m2, nu), (state.m1, state.m2, state.nu))
        return out, ScaleByAdemamixState(count, safe_increment(state.count_m2), *moments)

    return GradientTransformation(init, update)


def ademamix(
    learning_rate: ScalarOrSchedule,
    b1: Any = 0.9,
    b2: Any = 0.999,
    b3: ScalarOrSchedule = 0.9999,
    alpha: ScalarOrSchedule = 5.0,
    eps: Any = 1e-8,
    eps_root: Any = 0.0,
    mu_dtype: Any = None,
    weight_decay: Any = 0.0,
    mask: MaskOrFn = None,
) -> GradientTransformationExtraArgs:
    """AdEMAMix (Pagliardini et al., arXiv:2409.03137); arguments as for `scale_by_ademamix`.

    >>> from bevel.optim import contrib
    >>> tx, x = contrib.ademamix(0.1), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.1,  0.1], dtype=float32)
    """
    tx = scale_by_ademamix(b1, b2, b3, alpha, eps, eps_root, mu_dtype)
    return _with_decay(tx, weight_decay, mask, learning_rate)


def scale_by_simplified_ademamix(
    b1: Any = 0.99,
    b2: Any = 0.95,
    alpha: ScalarOrSchedule = 0.0,
    eps: Any = 1e-8,
    eps_root: Any = 0.0,
) -> GradientTransformation:
    """AdEMAMix with one sum of gradients, to which the newest is added once more (Morwani et al.,
    "Connections between Schedule-Free Optimizers, AdEMAMix, and Accelerated SGD Variants", 2025,
    arXiv:2502.02431).

    Args:
        b1: decay of the sum.
        b2: decay of the second moment.
        alpha: weight of the newest gradient, or a schedule.
        eps: added to the denominator.
        eps_root: added inside the root.

    >>> from bevel.optim import contrib
    >>> tx, x = contrib.scale_by_simplified_ademamix(), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([ 1., -1.], dtype=float32)
    """

    def init(params: Any) -> ScaleBySimplifiedAdEMAMixState:
        zeros = tree.zeros_like(params)
        return ScaleBySimplifiedAdEMAMixState(zero_count(), zeros, zeros)

    def update(
        updates: Any, state: Any, params: Any = None
    ) -> tuple[Any, ScaleBySimplifiedAdEMAMixState]:
        m = tree.add_scale(updates, b1, state.m)
        n = tree.update_moment(updates, state.n, b2, 2)
        t = safe_increment(state.t)
        out = _tree.map(
            lambda m, g, v: (m + at(alpha, state.t, updates) * g) / (bnp.sqrt(v + eps_root) + eps),
            m,
            updates,
            tree.bias_correction(n, b2, t),
        )
        return out, ScaleBySimplifiedAdEMAMixState(t, m, n)

    return GradientTransformation(init, update)


def simplified_ademamix(
    learning_rate: ScalarOrSchedule,
    b1: Any = 0.99,
    b2: Any = 0.95,
    alpha: ScalarOrSchedule = 0.0,
    eps: Any = 1e-8,
    eps_root: Any = 0.0,
    weight_decay: Any = 0.0,
    mask: MaskOrFn = None,
) -> GradientTransformationExtraArgs:
    """Simplified AdEMAMix (Morwani et al., arXiv:2502.02431); arguments as for
    `scale_by_simplified_ademamix`.

    >>> from bevel.optim import contrib
    >>> tx, x = contrib.simplified_ademamix(0.1), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.1,  0.1], dtype=float32)
    """
    tx = scale_by_simplified_ademamix(b1, b2, alpha, eps, eps_root)
    return _with_decay(tx, weight_decay, mask, learning_rate)


# -- ADOPT, ACProp ---------------------------------------------------------------------------------


def _fourth_root(count: Any) -> Any:
    return count**0.25


def scale_by_adopt(
    b1: Any = 0.9,
    b2: Any = 0.9999,
    eps: Any = 1e-6,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
    use_clipping: bool = True,
    clip_value_fn: Callable[[Any], Any] = _fourth_root,
) -> GradientTransformation:
    """Adam whose gradients are divided by the second moment before them, which converges for any
    b2 (Taniguchi et al., "ADOPT", 2024, arXiv:2411.02853).

    Args:
        b1: decay of the first moment.
        b2: decay of the second moment.
        eps: least denominator.
        mu_dtype: dtype the first moment is kept at.
        nesterov: Nesterov's momentum.
        use_clipping: bound the scaled gradients.
        clip_value_fn: from the step to the bound.

    >>> from bevel.optim import contrib
    >>> tx, x = contrib.scale_by_adopt(), bnp.array([1.0, -2.0])
    >>> _, state = tx.update(x, tx.init(x), x)
    >>> tx.update(x, state, x)[0].round(3)
    Array([ 0.1, -0.1], dtype=float32)
    """

    def init(params: Any) -> ScaleByAdamState:
        return ScaleByAdamState(
            zero_count(), tree.zeros_like(params, mu_dtype), tree.zeros_like(params)
        )

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, ScaleByAdamState]:
        started = state.count > 0  # the first step only measures the second moment
        nu = tree.update_moment_per_elem_norm(updates, state.nu, bnp.where(started, b2, 0), 2)
        scaled = _tree.map(lambda g, v: g / bnp.maximum(bnp.sqrt(v), eps), updates, state.nu)
        if use_clipping:
            bound = clip_value_fn(state.count)
            scaled = tree.clip(scaled, -bound, bound)
        decay = bnp.where(started, b1, 1)
        mu = tree.update_moment(scaled, state.mu, decay, 1)
        out = tree.update_moment(scaled, mu, decay, 1) if nesterov else mu
        return out, ScaleByAdamState(safe_increment(state.count), tree.cast(mu, mu_dtype), nu)

    return GradientTransformation(init, update)


def adopt(
    learning_rate: ScalarOrSchedule,
    b1: Any = 0.9,
    b2: Any = 0.9999,
    eps: Any = 1e-6,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
    use_clipping: bool = True,
    clip_value_fn: Callable[[Any], Any] = _fourth_root,
) -> GradientTransformationExtraArgs:
    """ADOPT (Taniguchi et al., arXiv:2411.02853); arguments as for `scale_by_adopt`.

    >>> from bevel.optim import contrib
    >>> tx, x = contrib.adopt(0.1), bnp.array([1.0, -2.0])
    >>> _, state = tx.update(x, tx.init(x), x)
    >>> tx.update(x, state, x)[0].round(3)
    Array([-0.01,  0.01], dtype=float32)
    """
    tx = scale_by_adopt(
        b1,
        b2,
        eps,
        mu_dtype,
        nesterov=nesterov,
        use_clipping=use_clipping,
        clip_value_fn=clip_value_fn,
    )
    return chain(tx, scale_by_learning_rate(learning_rate))


def scale_by_acprop(
    b1: Any = 0.9, b2: Any = 0.999, eps: Any = 1e-16, eps_root: Any = 1e-16
) -> GradientTransformation:
    """Gradients over the root of their variance as it was before them (Zhuang et al., "Momentum
    Centering and Asynchronous Update", 2021, arXiv:2110.05454).

    Args:
        b1: decay of the mean.
        b2: decay of the variance.
        eps: added to the denominator.
        eps_root: added to the variance.

    >>> from bevel.optim import contrib
    >>> tx, x = contrib.scale_by_acprop(), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([ 1., -2.], dtype=float32)
    """

    def init(params: Any) -> ScaleByBeliefState:
        zeros = tree.zeros_like(params)
        return ScaleByBeliefState(zero_count(), zeros, zeros)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, ScaleByBeliefState]:
        first = state.count == 0
        errors = tree.sub(updates, state.mu)
        nu = tree.update_moment_per_elem_norm(errors, state.nu, b2, 2)
        before = tree.bias_correction(state.nu, b2, bnp.where(first, 1, state.count))
        out = _tree.map(lambda g, v: g / (bnp.sqrt(bnp.where(first, 1, v)) + eps), updates, before)
        return out, ScaleByBeliefState(
            safe_increment(state.count),
            tree.update_moment(updates, state.mu, b1, 1),
            _tree.map(lambda v: v + eps_root, nu),
        )

    return GradientTransformation(init, update)


def acprop(
    learning_rate: ScalarOrSchedule,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-16,
    eps_root: Any = 1e-16,
    weight_decay: Any = 0.0,
    mask: MaskOrFn = None,
) -> GradientTransformationExtraArgs:
    """ACProp (Zhuang et al., arXiv:2110.05454); arguments as for `scale_by_acprop`.

    >>> from bevel.optim import contrib
    >>> tx, x = contrib.acprop(0.1), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.1,  0.2], dtype=float32)
    """
    return _with_decay(scale_by_acprop(b1, b2, eps, eps_root), weight_decay, mask, learning_rate)


# -- MADGRAD ---------------------------------------------------------------------------------------


def scale_by_madgrad(
    learning_rate: ScalarOrSchedule, momentum: Any = 0.9, eps: Any = 1e-6
) -> GradientTransformation:
    """Dual averaging from the parameters at the start, over the cube root of squared gradients
    (Defazio and Jelassi, "Adaptivity without Compromise", 2021, arXiv:2101.11075).

    The result is the whole change of the parameters: no learning rate comes after it.

    Args:
        learning_rate: number or schedule.
        momentum: how much of the parameters stays.
        eps: added to the learning rate and to the denominator.

    >>> from bevel.optim import contrib
    >>> tx, x = contrib.scale_by_madgrad(0.1), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.022,  0.027], dtype=float32)
    """

    def init(params: Any) -> MadgradState:
        zeros = tree.zeros_like(params)
        return MadgradState(zero_count(), zeros, zeros, params)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, MadgradState]:
        params = params_of("scale_by_madgrad", params)
        root = widened(bnp.sqrt(state.count + 1), tree.dtype(updates, "promote"))
        weight = (at(learning_rate, state.count, updates) + eps) * root
        squares = _tree.map(
            lambda v, g: v + (weight * g**2).astype(g.dtype), state.grad_sum_sq, updates
        )
        total = _tree.map(lambda s, g: s + (weight * g).astype(g.dtype), state.s, updates)
        out = _tree.map(
            lambda x0, s, v, p: (1 - momentum) * (x0 - s / (bnp.cbrt(v) + eps)) + momentum * p - p,
            state.x0,
            total,
            squares,
            params,
        )
        return out, MadgradState(safe_increment(state.count), squares, total, state.x0)

    return GradientTransformation(init, update)


def madgrad(
    learning_rate: ScalarOrSchedule,
    momentum: Any = 0.9,
    weight_decay: Any = 0.0,
    eps: Any = 1e-6,
) -> GradientTransformationExtraArgs:
    """MADGRAD (Defazio and Jelassi, arXiv:2101.11075); arguments as for `scale_by_madgrad`.

    >>> from bevel.optim import contrib
    >>> tx, x = contrib.madgrad(0.1), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.022,  0.027], dtype=float32)
    """
    return chain(add_decayed_weights(weight_decay), scale_by_madgrad(learning_rate, momentum, eps))
