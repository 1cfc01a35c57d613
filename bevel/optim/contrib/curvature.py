"""Sophia: momentum over an estimate of the Hessian's diagonal."""

from __future__ import annotations

from typing import Any, NamedTuple

import bevel.numpy as bnp
from bevel import debug, lax, random
from bevel.api.derivatives import grad, jvp
from bevel.core import dtypes
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
    with_extra_args_support,
    zero_count,
)
from bevel.optim.scaling import add_decayed_weights, scale_by_learning_rate


class HutchinsonState(NamedTuple):
    """The key of the next estimate."""

    key: Any


class SophiaState(NamedTuple):
    """Step, first moment, the Hessian's diagonal, and the state of its estimator."""

    count: Any
    mu: Any
    nu: Any
    hessian_fn_state: Any


def hutchinson_estimator_diag_hessian(
    random_seed: Any = None,
) -> GradientTransformationExtraArgs:
    """The Hessian's diagonal from one product with random signs, in place of updates (Hutchinson,
    1989, doi:10.1080/03610918908812806).

    `update` takes the loss as a function of the parameters alone, `obj_fn`.

    Args:
        random_seed: random key, or a seed (0).

    Raises:
        ValueError: (in update) no parameters, or no `obj_fn`.

    >>> from bevel.optim import contrib
    >>> tx, x = contrib.hutchinson_estimator_diag_hessian(), bnp.array([1.0, 2.0])
    >>> tx.update(x, tx.init(x), x, obj_fn=lambda x: (x**3).sum())[0]
    Array([ 6., 12.], dtype=float32)
    """
    first = 0 if random_seed is None else random_seed
    first = random.key(first) if isinstance(first, int) else first

    def update(
        updates: Any, state: Any, params: Any = None, obj_fn: Any = None, **extra: Any
    ) -> tuple[Any, HutchinsonState]:
        params = params_of("hutchinson_estimator_diag_hessian", params)
        if obj_fn is None:
            raise ValueError(
                "hutchinson_estimator_diag_hessian needs the loss.\n"
                "Write instead: tx.update(grads, state, params, obj_fn=lambda p: loss(p, batch))."
            )
        key, now = random.split(state.key)
        signs = tree.random_like(now, params, random.rademacher, dtypes.float32)
        signs = tree.cast(signs, tree.dtype(params, "lowest"))
        product = jvp(grad(obj_fn), (params,), (signs,))[1]
        return tree.mul(product, signs), HutchinsonState(key)

    return GradientTransformationExtraArgs(
        lambda params: HutchinsonState(random.clone(first)), update
    )


_HUTCHINSON = hutchinson_estimator_diag_hessian()


def scale_by_sophia(
    b1: Any = 0.965,
    b2: Any = 0.99,
    eps: Any = 1e-8,
    gamma: Any = 0.01,
    clip_threshold: Any = 1.0,
    update_interval: Any = 10,
    hessian_diagonal_fn: GradientTransformation = _HUTCHINSON,
    mu_dtype: Any = None,
    verbose: bool = False,
    print_win_rate_every_n_steps: Any = 0,
) -> GradientTransformationExtraArgs:
    """Momentum over the Hessian's diagonal, cut (Liu et al., "Sophia: A Scalable Stochastic
    Second-order Optimizer", 2023, arXiv:2305.14342).

    `update` takes what `hessian_diagonal_fn` does: by default `obj_fn`, the loss as a function of
    the parameters.

    Args:
        b1: decay of the momentum.
        b2: decay of the diagonal.
        eps: least denominator.
        gamma: factor of the diagonal.
        clip_threshold: largest update of an element, or None.
        update_interval: after how many steps the diagonal is estimated.
        hessian_diagonal_fn: estimates it.
        mu_dtype: dtype the momentum is kept at.
        verbose: print which part of the updates was not cut.
        print_win_rate_every_n_steps: how often.

    >>> from bevel.optim.contrib.curvature import scale_by_sophia
    >>> tx, x = scale_by_sophia(), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x, obj_fn=lambda x: (x**2).sum())[0]
    Array([ 1., -1.], dtype=float32)
    """
    estimator = with_extra_args_support(hessian_diagonal_fn)

    def init(params: Any) -> SophiaState:
        return SophiaState(
            zero_count(),
            tree.zeros_like(params, mu_dtype),
            tree.zeros_like(params),
            estimator.init(params),
        )

    def report(count: Any, share: Any) -> None:
        if count % print_win_rate_every_n_steps == 0:
            print(f"scale_by_sophia: {float(share):.3f} of the updates were not cut")

    def update(
        updates: Any, state: Any, params: Any = None, **extra: Any
    ) -> tuple[Any, SophiaState]:
        params, count = params_of("scale_by_sophia", params), safe_increment(state.count)
        mu = tree.update_moment(updates, state.mu, b1, 1)
        out = _tree.map(
            lambda m, h: m / bnp.maximum(gamma * h, eps),
            tree.bias_correction(mu, b1, count),
            state.nu,
        )
        if clip_threshold is not None:
            if verbose:
                inside = tree.sum(_tree.map(lambda u: abs(u) < clip_threshold, out))
                debug.callback(report, count, inside / tree.size(out))
            out = tree.clip(out, -clip_threshold, clip_threshold)

        def estimated() -> tuple[Any, Any]:
            diagonal, new = estimator.update(updates, state.hessian_fn_state, params, **extra)
            return tree.update_moment(diagonal, state.nu, b2, 1), new

        nu, new = lax.cond(
            state.count % update_interval == 0,
            estimated,
            lambda: (state.nu, state.hessian_fn_state),
        )
        return out, SophiaState(count, tree.cast(mu, mu_dtype), nu, new)

    return GradientTransformationExtraArgs(init, update)


def sophia(
    learning_rate: ScalarOrSchedule,
    b1: Any = 0.965,
    b2: Any = 0.99,
    eps: Any = 1e-8,
    weight_decay: Any = 1e-4,
    weight_decay_mask: MaskOrFn = None,
    gamma: Any = 0.01,
    clip_threshold: Any = 1.0,
    update_interval: Any = 10,
    hessian_diagonal_fn: GradientTransformation = _HUTCHINSON,
    mu_dtype: Any = None,
    verbose: bool = False,
    print_win_rate_every_n_steps: Any = 0,
) -> GradientTransformationExtraArgs:
    """Sophia (Liu et al., 2023, arXiv:2305.14342): momentum over the Hessian's diagonal, cut.

    `update` takes what `hessian_diagonal_fn` does: by default `obj_fn`, the loss as a function of
    the parameters.

    Args:
        learning_rate: number or schedule.
        b1: decay of the momentum.
        b2: decay of the diagonal.
        eps: least denominator.
        weight_decay: strength.
        weight_decay_mask: which parameters decay.
        gamma: factor of the diagonal.
        clip_threshold: largest update of an element, or None.
        update_interval: after how many steps the diagonal is estimated.
        hessian_diagonal_fn: estimates it.
        mu_dtype: dtype the momentum is kept at.
        verbose: print which part of the updates was not cut.
        print_win_rate_every_n_steps: how often.

    >>> from bevel.optim import contrib
    >>> tx, x = contrib.sophia(0.1), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x, obj_fn=lambda x: (x**2).sum())[0].round(3)
    Array([-0.1,  0.1], dtype=float32)
    """
    tx = scale_by_sophia(
        b1,
        b2,
        eps,
        gamma,
        clip_threshold,
        update_interval,
        hessian_diagonal_fn,
        mu_dtype,
        verbose,
        print_win_rate_every_n_steps,
    )
    return chain(
        tx,
        add_decayed_weights(weight_decay, weight_decay_mask),
        scale_by_learning_rate(learning_rate),
    )
