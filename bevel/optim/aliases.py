"""Optimizers by name: chains of the transformations, with Optax's arguments, defaults and numbers.

Everywhere `learning_rate` is a number or a schedule (a function of the step), and `mask` says which
parameters decay: a tree of booleans, or a function from parameters to one.
"""

from __future__ import annotations

import functools
from typing import Any

from bevel.optim import moments as m
from bevel.optim import scaling as t
from bevel.optim.base import (
    GradientTransformationExtraArgs,
    ScalarOrSchedule,
    chain,
    identity,
    masked,
)

Optimizer = GradientTransformationExtraArgs


def sgd(
    learning_rate: ScalarOrSchedule,
    momentum: Any = None,
    nesterov: bool = False,
    accumulator_dtype: Any = None,
) -> Optimizer:
    """Gradient descent, with momentum if given.

    >>> import bevel.numpy as bnp
    >>> from bevel import optim
    >>> tx = optim.sgd(0.1)
    >>> tx.update(bnp.array([1.0]), tx.init(bnp.zeros(1)))[0]
    Array([-0.1], dtype=float32)
    """
    first = identity() if momentum is None else t.trace(momentum, nesterov, accumulator_dtype)
    return chain(first, t.scale_by_learning_rate(learning_rate))


def adam(
    learning_rate: ScalarOrSchedule,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
    eps_root: Any = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
) -> Optimizer:
    """Adam (Kingma and Ba, arXiv:1412.6980); arguments as for `scale_by_adam`.

    >>> import bevel.numpy as bnp
    >>> from bevel import optim
    >>> tx = optim.adam(0.1)
    >>> tx.update(bnp.array([7.0]), tx.init(bnp.zeros(1)))[0].round(3)
    Array([-0.1], dtype=float32)
    """
    return chain(
        m.scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        t.scale_by_learning_rate(learning_rate),
    )


def adamw(
    learning_rate: ScalarOrSchedule,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
    eps_root: Any = 0.0,
    mu_dtype: Any = None,
    weight_decay: ScalarOrSchedule = 1e-4,
    mask: Any = None,
    *,
    nesterov: bool = False,
) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter, arXiv:1711.05101).

    The decay is multiplied by the learning rate. Other arguments as for `scale_by_adam`.

    >>> import bevel.numpy as bnp
    >>> from bevel import optim
    >>> tx, params = optim.adamw(0.1, weight_decay=0.5), bnp.array([2.0])
    >>> tx.update(bnp.array([7.0]), tx.init(params), params)[0].round(3)
    Array([-0.2], dtype=float32)
    """
    return chain(
        m.scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        t.add_decayed_weights(weight_decay, mask),
        t.scale_by_learning_rate(learning_rate),
    )


nadam = functools.partial(adam, nesterov=True)
nadamw = functools.partial(adamw, nesterov=True)


def adamax(
    learning_rate: ScalarOrSchedule, b1: Any = 0.9, b2: Any = 0.999, eps: Any = 1e-8
) -> Optimizer:
    """Adam with a decaying maximum in place of the second moment (arXiv:1412.6980).

    >>> from bevel import optim
    >>> tx, x = optim.adamax(0.1), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.1,  0.1], dtype=float32)
    """
    return chain(m.scale_by_adamax(b1, b2, eps), t.scale_by_learning_rate(learning_rate))


def adamaxw(
    learning_rate: ScalarOrSchedule,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
    weight_decay: ScalarOrSchedule = 1e-4,
    mask: Any = None,
) -> Optimizer:
    """`adamax` with decoupled weight decay.

    >>> from bevel import optim
    >>> tx, x = optim.adamaxw(0.1), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.1,  0.1], dtype=float32)
    """
    return chain(
        m.scale_by_adamax(b1, b2, eps),
        t.add_decayed_weights(weight_decay, mask),
        t.scale_by_learning_rate(learning_rate),
    )


def amsgrad(
    learning_rate: ScalarOrSchedule,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
    eps_root: Any = 0.0,
    mu_dtype: Any = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
) -> Optimizer:
    """Adam with the largest second moment so far (Reddi et al., 2018).

    >>> from bevel import optim
    >>> tx, x = optim.amsgrad(0.1), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.1,  0.1], dtype=float32)
    """
    return chain(
        m.scale_by_amsgrad(b1, b2, eps, eps_root, mu_dtype, bias_correction_mu, bias_correction_nu),
        t.scale_by_learning_rate(learning_rate),
    )


def adabelief(
    learning_rate: ScalarOrSchedule,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-16,
    eps_root: Any = 1e-16,
    *,
    nesterov: bool = False,
) -> Optimizer:
    """Adam with the variance of the prediction error (Zhuang et al., arXiv:2010.07468).

    >>> from bevel import optim
    >>> tx, x = optim.adabelief(0.1), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.111,  0.111], dtype=float32)
    """
    return chain(
        m.scale_by_belief(b1, b2, eps, eps_root, nesterov=nesterov),
        t.scale_by_learning_rate(learning_rate),
    )


def radam(
    learning_rate: ScalarOrSchedule,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
    eps_root: Any = 0.0,
    threshold: Any = 5.0,
    *,
    nesterov: bool = False,
) -> Optimizer:
    """Adam with its variance rectified (Liu et al., arXiv:1908.03265).

    >>> from bevel import optim
    >>> tx, x = optim.radam(0.1), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.1,  0.2], dtype=float32)
    """
    return chain(
        m.scale_by_radam(b1, b2, eps, eps_root, threshold, nesterov=nesterov),
        t.scale_by_learning_rate(learning_rate),
    )


def yogi(
    learning_rate: ScalarOrSchedule, b1: Any = 0.9, b2: Any = 0.999, eps: Any = 1e-3
) -> Optimizer:
    """Adam with an additive second moment (Zaheer et al., 2018).

    >>> from bevel import optim
    >>> tx, x = optim.yogi(0.1), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.1,  0.1], dtype=float32)
    """
    return chain(m.scale_by_yogi(b1, b2, eps), t.scale_by_learning_rate(learning_rate))


def adan(
    learning_rate: ScalarOrSchedule,
    b1: Any = 0.98,
    b2: Any = 0.92,
    b3: Any = 0.99,
    eps: Any = 1e-8,
    eps_root: Any = 1e-8,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: Any = None,
) -> Optimizer:
    """Adam with Nesterov's momentum by gradient differences (Xie et al., arXiv:2208.06677).

    >>> from bevel import optim
    >>> tx, x = optim.adan(0.1), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.1,  0.1], dtype=float32)
    """
    return chain(
        m.scale_by_adan(b1, b2, b3, eps, eps_root),
        t.add_decayed_weights(weight_decay, mask),
        t.scale_by_learning_rate(learning_rate),
    )


def lamb(
    learning_rate: ScalarOrSchedule,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-6,
    eps_root: Any = 0.0,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: Any = None,
) -> Optimizer:
    """Adam scaled to the norm of each parameter, for large batches (arXiv:1904.00962).

    >>> from bevel import optim
    >>> tx, x = optim.lamb(0.1), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.158,  0.158], dtype=float32)
    """
    return chain(
        m.scale_by_adam(b1, b2, eps, eps_root),
        t.add_decayed_weights(weight_decay, mask),
        t.scale_by_trust_ratio(),
        t.scale_by_learning_rate(learning_rate),
    )


def lars(
    learning_rate: ScalarOrSchedule,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Any = True,
    trust_coefficient: Any = 0.001,
    eps: Any = 0.0,
    trust_ratio_mask: Any = True,
    momentum: Any = 0.9,
    nesterov: bool = False,
) -> Optimizer:
    """Momentum scaled to the norm of each parameter, for large batches (You et al.,
    arXiv:1708.03888).

    >>> from bevel import optim
    >>> tx, x = optim.lars(0.1), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.,  0.], dtype=float32)
    """
    return chain(
        t.add_decayed_weights(weight_decay, weight_decay_mask),
        masked(
            t.scale_by_trust_ratio(trust_coefficient=trust_coefficient, eps=eps), trust_ratio_mask
        ),
        t.scale_by_learning_rate(learning_rate),
        t.trace(momentum, nesterov),
    )


def lion(
    learning_rate: ScalarOrSchedule,
    b1: Any = 0.9,
    b2: Any = 0.99,
    mu_dtype: Any = None,
    weight_decay: ScalarOrSchedule = 1e-3,
    mask: Any = None,
) -> Optimizer:
    """The sign of a mix of gradient and moment (Chen et al., arXiv:2302.06675).

    >>> from bevel import optim
    >>> tx, x = optim.lion(0.1), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.1,  0.1], dtype=float32)
    """
    return chain(
        m.scale_by_lion(b1, b2, mu_dtype),
        t.add_decayed_weights(weight_decay, mask),
        t.scale_by_learning_rate(learning_rate),
    )


def adagrad(
    learning_rate: ScalarOrSchedule, initial_accumulator_value: Any = 0.1, eps: Any = 1e-7
) -> Optimizer:
    """Gradients over the root of the sum of their squares (Duchi et al., 2011).

    >>> from bevel import optim
    >>> tx, x = optim.adagrad(0.1), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.095,  0.099], dtype=float32)
    """
    return chain(
        m.scale_by_rss(initial_accumulator_value, eps), t.scale_by_learning_rate(learning_rate)
    )


def adadelta(
    learning_rate: ScalarOrSchedule = None,
    rho: Any = 0.9,
    eps: Any = 1e-6,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Any = None,
) -> Optimizer:
    """Updates at the scale of past updates over that of gradients (Zeiler, arXiv:1212.5701).

    >>> from bevel import optim
    >>> tx, x = optim.adadelta(0.1), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.,  0.], dtype=float32)
    """
    return chain(
        t.add_decayed_weights(weight_decay, weight_decay_mask),
        m.scale_by_adadelta(rho, eps),
        t.scale_by_learning_rate(learning_rate),
    )


def rmsprop(
    learning_rate: ScalarOrSchedule,
    decay: Any = 0.9,
    eps: Any = 1e-8,
    initial_scale: Any = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: Any = None,
    nesterov: bool = False,
    bias_correction: bool = False,
) -> Optimizer:
    """Gradients over the root of the moving average of their squares (Hinton, 2012).

    Args:
        learning_rate: a number or a schedule.
        decay: of the moving average.
        eps: added to the denominator, inside the root if `eps_in_sqrt`.
        initial_scale: what the moving average starts from.
        eps_in_sqrt: where `eps` goes.
        centered: over the standard deviation instead.
        momentum: decay of the sum of updates; None is no momentum.
        nesterov: Nesterov's momentum.
        bias_correction: remove the pull of the start.

    >>> from bevel import optim
    >>> tx, x = optim.rmsprop(0.1), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.316,  0.316], dtype=float32)
    """
    scaling = m.scale_by_stddev if centered else m.scale_by_rms
    return chain(
        scaling(decay, eps, initial_scale, eps_in_sqrt, bias_correction),
        t.scale_by_learning_rate(learning_rate),
        identity() if momentum is None else t.trace(momentum, nesterov),
    )


def rprop(
    learning_rate: Any,
    eta_minus: Any = 0.5,
    eta_plus: Any = 1.2,
    min_step_size: Any = 1e-6,
    max_step_size: Any = 50.0,
) -> Optimizer:
    """A step size for each element, by whether its gradient keeps its sign (Riedmiller and Braun,
    1993).

    >>> from bevel import optim
    >>> tx, x = optim.rprop(0.1), bnp.array([1.0, -2.0])
    >>> _, state = tx.update(x, tx.init(x))
    >>> tx.update(x, state)[0].round(3)
    Array([-0.1,  0.1], dtype=float32)
    """
    return chain(
        m.scale_by_rprop(learning_rate, eta_minus, eta_plus, min_step_size, max_step_size),
        t.scale(-1.0),
    )


def sign_sgd(learning_rate: ScalarOrSchedule) -> Optimizer:
    """The sign of the gradient (Bernstein et al., arXiv:1802.04434).

    >>> from bevel import optim
    >>> tx, x = optim.sign_sgd(0.1), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.1,  0.1], dtype=float32)
    """
    return chain(t.scale_by_sign(), t.scale_by_learning_rate(learning_rate))


def signum(
    learning_rate: ScalarOrSchedule, beta: Any = 0.9, accumulator_dtype: Any = None
) -> Optimizer:
    """The sign of a moving average of the gradient (Bernstein et al., arXiv:1802.04434).

    >>> from bevel import optim
    >>> tx, x = optim.signum(0.1), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.1,  0.1], dtype=float32)
    """
    return chain(
        t.ema(beta, debias=False, accumulator_dtype=accumulator_dtype),
        t.scale_by_sign(),
        t.scale_by_learning_rate(learning_rate),
    )


def fromage(learning_rate: ScalarOrSchedule, min_norm: Any = 1e-6) -> Optimizer:
    """Steps relative to the size of the parameters (Bernstein et al., arXiv:2002.03432).

    >>> from bevel import optim
    >>> tx, x = optim.fromage(0.1), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.104,  0.209], dtype=float32)
    """

    def shrink(rate: Any) -> Any:
        return 1 / (1 + rate**2) ** 0.5

    rate: ScalarOrSchedule
    decay: ScalarOrSchedule
    if callable(learning_rate):
        schedule = learning_rate
        rate, decay = lambda c: schedule(c) * shrink(schedule(c)), lambda c: shrink(schedule(c)) - 1
    else:
        rate, decay = learning_rate * shrink(learning_rate), shrink(learning_rate) - 1
    return chain(
        t.scale_by_trust_ratio(min_norm),
        t.scale_by_learning_rate(rate),
        t.add_decayed_weights(decay),
    )


def optimistic_gradient_descent(
    learning_rate: ScalarOrSchedule, alpha: Any = 1.0, beta: Any = 1.0
) -> Optimizer:
    """Gradient descent that looks ahead, for games (Mokhtari et al., arXiv:1901.08511).

    >>> from bevel import optim
    >>> tx, x = optim.optimistic_gradient_descent(0.1), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.1,  0.2], dtype=float32)
    """
    return chain(
        m.scale_by_optimistic_gradient(alpha, beta), t.scale_by_learning_rate(learning_rate)
    )


def optimistic_adam_v2(
    learning_rate: ScalarOrSchedule,
    *,
    alpha: Any = 1.0,
    beta: Any = 1.0,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
    eps_root: Any = 0.0,
    mu_dtype: Any = None,
    nesterov: bool = True,
) -> Optimizer:
    """Adam that looks ahead, for games (Daskalakis et al., "Training GANs with Optimism", 2017,
    arXiv:1711.00141).

    `alpha` and `beta` as for `scale_by_optimistic_gradient`, the others as for `scale_by_adam`.

    >>> from bevel import optim
    >>> tx, x = optim.optimistic_adam_v2(0.1), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.147,  0.147], dtype=float32)
    """
    return chain(
        m.scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        m.scale_by_optimistic_gradient(alpha, beta),
        t.scale_by_learning_rate(learning_rate),
    )


def optimistic_adam(
    learning_rate: Any,
    optimism: Any = None,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
    eps_root: Any = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = True,
) -> Optimizer:
    """`optimistic_adam_v2` with a fixed learning rate, and an `optimism` (by default the same) that
    is not multiplied by it.

    Raises:
        ValueError: the learning rate is a schedule.

    >>> from bevel import optim
    >>> tx, x = optim.optimistic_adam(0.1), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.147,  0.147], dtype=float32)
    """
    if callable(learning_rate):
        raise ValueError(
            "optimistic_adam: the learning rate is a number.\n"
            "Write instead: optimistic_adam_v2(schedule)."
        )
    return optimistic_adam_v2(
        1.0,
        alpha=learning_rate,
        beta=learning_rate if optimism is None else optimism,
        b1=b1,
        b2=b2,
        eps=eps,
        eps_root=eps_root,
        mu_dtype=mu_dtype,
        nesterov=nesterov,
    )


def polyak_sgd(
    max_learning_rate: Any = 1.0,
    scaling: ScalarOrSchedule = 1.0,
    f_min: Any = 0.0,
    eps: Any = 0.0,
    variant: str = "sps",
) -> Optimizer:
    """Gradient descent with Polyak's step size; `update` needs `value=loss` (Loizou et al.,
    arXiv:2002.10542).

    >>> import bevel.numpy as bnp
    >>> from bevel import optim
    >>> tx = optim.polyak_sgd()
    >>> tx.update(bnp.array([2.0]), tx.init(bnp.zeros(1)), value=1.0)[0]
    Array([-0.5], dtype=float32)
    """
    return chain(sgd(scaling), t.scale_by_polyak(f_min, max_learning_rate, eps, variant))
