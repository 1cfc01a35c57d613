"""MoMo: step sizes from a model of the loss, which is known to have a lower bound."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import bevel.numpy as bnp
from bevel.core import tree as _tree
from bevel.optim import tree
from bevel.optim.base import (
    GradientTransformationExtraArgs,
    ScalarOrSchedule,
    params_of,
    safe_increment,
    zero_count,
)
from bevel.optim.contrib.adaptive import at


class MomoState(NamedTuple):
    """Averages of gradients, of losses and of products with the parameters; bound; step."""

    exp_avg: Any
    barf: Any
    gamma: Any
    lb: Any
    count: Any


class MomoAdamState(NamedTuple):
    """The moments, averages of losses and of products with the parameters; bound; step."""

    exp_avg: Any
    exp_avg_sq: Any
    barf: Any
    gamma: Any
    lb: Any
    count: Any


def _average(old: Any, new: Any, decay: Any) -> Any:
    return decay * old + (1 - decay) * new


class _Model(NamedTuple):
    """What both methods share: the settings, and a step under a diagonal preconditioner."""

    name: str
    learning_rate: ScalarOrSchedule
    lower_bound: Any
    weight_decay: Any
    adapt: bool

    def start(self, params: Any) -> tuple[Any, Any, Any, Any]:
        dtype = tree.dtype(params, "lowest")
        zero = bnp.zeros((), dtype)
        return zero, zero, bnp.asarray(self.lower_bound, dtype), zero_count()

    def averages(
        self, state: Any, updates: Any, params: Any, value: Any, decay: Any
    ) -> tuple[Any, Any, Any]:
        if value is None:
            raise ValueError(
                f"{self.name} needs the loss, and `value` was None.\n"
                "Write instead: value, grads = bv.value_and_grad(loss)(params); "
                "tx.update(grads, state, params, value=value)."
            )
        mean = _tree.map(lambda m, g: _average(m, g, decay), state.exp_avg, updates)
        loss = _average(state.barf, bnp.asarray(value, state.barf.dtype), decay)
        return mean, loss, _average(state.gamma, tree.vdot(updates, params), decay)

    def step(
        self, state: Any, params: Any, found: tuple[Any, Any, Any], scales: Any, correction: Any
    ) -> tuple[Any, Any]:
        """The updates, and the next lower bound."""
        mean, loss, gamma = found
        direction = mean if scales is None else tree.div(mean, scales)
        square = tree.vdot(mean, direction)
        product = tree.vdot(mean, params)
        rate = at(self.learning_rate, state.count, mean)
        decay = rate * self.weight_decay
        bound = state.lb
        if self.adapt:
            cap = (1 + decay) * (loss - gamma) + product
            lower = bnp.maximum(cap / (2 * correction * (1 + decay)), self.lower_bound)
            bound = bnp.where(cap < (1 + decay) * correction * bound, lower, bound)
        gap = bnp.maximum((1 + decay) * (loss - correction * bound - gamma) + product, 0.0)
        flat = square <= math.ulp(1.0)
        size = bnp.where(flat, 0.0, gap / bnp.where(flat, 1.0, square))
        size = bnp.minimum(rate / correction, size)
        out = _tree.map(lambda d, p: -decay / (1 + decay) * p - size * d, direction, params)
        if not self.adapt:
            return out, state.lb
        model = (loss + product - gamma - 0.5 * size * square) / correction
        return out, bnp.maximum(model, self.lower_bound).astype(state.lb.dtype)


def _transformation(
    init: Callable[[Any], Any], name: str, update: Callable[..., tuple[Any, Any]]
) -> GradientTransformationExtraArgs:
    def checked(
        updates: Any, state: Any, params: Any = None, *, value: Any, **extra: Any
    ) -> tuple[Any, Any]:
        return update(updates, state, params_of(name, params), value)

    return GradientTransformationExtraArgs(init, checked)


def momo(
    learning_rate: ScalarOrSchedule = 1.0,
    beta: Any = 0.9,
    lower_bound: Any = 0.0,
    weight_decay: Any = 0.0,
    adapt_lower_bound: bool = False,
) -> GradientTransformationExtraArgs:
    """Momentum with Polyak's step size from a model of past losses (Schaipp et al., "MoMo: Momentum
    Models for Adaptive Learning Rates", 2023, arXiv:2305.07583).

    `update` takes the loss: `tx.update(grads, state, params, value=loss)`.

    Args:
        learning_rate: largest step size, or a schedule.
        beta: decay of the averages.
        lower_bound: that the loss cannot fall below.
        weight_decay: strength.
        adapt_lower_bound: find the bound, from this one on.

    Raises:
        ValueError: (in update) no parameters, or no loss.

    >>> from bevel.optim import contrib
    >>> tx, x = contrib.momo(), bnp.array([3.0, -4.0])
    >>> tx.update(x, tx.init(x), x, value=12.5)[0].round(3)
    Array([-1.5,  2. ], dtype=float32)
    """
    model = _Model("momo", learning_rate, lower_bound, weight_decay, adapt_lower_bound)

    def update(updates: Any, state: Any, params: Any, value: Any) -> tuple[Any, MomoState]:
        decay = bnp.where(state.count == 0, 0.0, beta)
        found = model.averages(state, updates, params, value, decay)
        out, bound = model.step(state, params, found, None, 1.0)
        return out, MomoState(*found, bound, safe_increment(state.count))

    return _transformation(
        lambda params: MomoState(tree.zeros_like(params), *model.start(params)), "momo", update
    )


def momo_adam(
    learning_rate: ScalarOrSchedule = 1e-2,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
    lower_bound: Any = 0.0,
    weight_decay: Any = 0.0,
    adapt_lower_bound: bool = False,
) -> GradientTransformationExtraArgs:
    """Adam with Polyak's step size from a model of past losses (Schaipp et al., arXiv:2305.07583).

    `update` takes the loss: `tx.update(grads, state, params, value=loss)`.

    Args:
        learning_rate: largest step size, or a schedule.
        b1: decay of the averages.
        b2: decay of the second moment.
        eps: added to the denominator.
        lower_bound: that the loss cannot fall below.
        weight_decay: strength.
        adapt_lower_bound: find the bound, from this one on.

    Raises:
        ValueError: (in update) no parameters, or no loss.

    >>> from bevel.optim import contrib
    >>> tx, x = contrib.momo_adam(), bnp.array([3.0, -4.0])
    >>> tx.update(x, tx.init(x), x, value=12.5)[0].round(3)
    Array([-0.01,  0.01], dtype=float32)
    """
    model = _Model("momo_adam", learning_rate, lower_bound, weight_decay, adapt_lower_bound)

    def init(params: Any) -> MomoAdamState:
        zeros = tree.zeros_like(params)
        return MomoAdamState(zeros, zeros, *model.start(params))

    def update(updates: Any, state: Any, params: Any, value: Any) -> tuple[Any, MomoAdamState]:
        count = safe_increment(state.count)
        mean, loss, gamma = model.averages(state, updates, params, value, b1)
        squares = tree.update_moment(updates, state.exp_avg_sq, b2, 2)
        scales = _tree.map(lambda v: eps + bnp.sqrt(v), tree.bias_correction(squares, b2, count))
        correction = bnp.asarray(1 - b1**count, loss.dtype)
        out, bound = model.step(state, params, (mean, loss, gamma), scales, correction)
        return out, MomoAdamState(mean, squares, loss, gamma, bound, count)

    return _transformation(init, "momo_adam", update)
