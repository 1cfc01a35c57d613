"""Lookahead: slow parameters that follow the fast ones of an optimizer every few steps."""

from __future__ import annotations

from typing import Any, NamedTuple

from bevel.core import tree as _tree
from bevel.optim import tree
from bevel.optim.base import GradientTransformation, params_of, zero_count


class LookaheadState(NamedTuple):
    """The fast optimizer's state, and steps since the parameters met."""

    fast_state: Any
    steps_since_sync: Any


class LookaheadParams(NamedTuple):
    """Fast and slow parameters; differentiate with respect to the fast ones."""

    fast: Any
    slow: Any

    @classmethod
    def init_synced(cls, params: Any) -> LookaheadParams:
        """Both the same."""
        return cls(fast=params, slow=params)


def lookahead(
    fast_optimizer: GradientTransformation,
    sync_period: int,
    slow_step_size: Any,
    reset_state: bool = False,
) -> GradientTransformation:
    """Slow parameters that move a part of the way to the fast ones every few steps, where the fast
    ones start again (Zhang et al., "Lookahead Optimizer", 2019, arXiv:1907.08610).

    Parameters and updates are `LookaheadParams`; gradients are of the fast parameters.

    Args:
        fast_optimizer: of the fast parameters.
        sync_period: after how many steps they meet.
        slow_step_size: which part of the way the slow ones go.
        reset_state: whether the fast optimizer then starts afresh.

    Raises:
        ValueError: the period is below 1.

    >>> from bevel import optim
    >>> tx = optim.lookahead(optim.sgd(1.0), 1, 0.5)
    >>> params = optim.LookaheadParams.init_synced(bnp.zeros(1))
    >>> updates, _ = tx.update(bnp.array([2.0]), tx.init(params), params)
    >>> optim.apply_updates(params, updates)
    LookaheadParams(fast=Array([-1.], dtype=float32), slow=Array([-1.], dtype=float32))
    """
    if sync_period < 1:
        raise ValueError(f"lookahead: sync_period is a number of steps, got {sync_period!r}")

    def init(params: Any) -> LookaheadState:
        return LookaheadState(fast_optimizer.init(getattr(params, "fast", params)), zero_count())

    def update(
        updates: Any, state: Any, params: Any = None
    ) -> tuple[LookaheadParams, LookaheadState]:
        params = params_of("lookahead", params)
        updates, fast_state = fast_optimizer.update(updates, state.fast_state, params.fast)
        meet = state.steps_since_sync == sync_period - 1
        ahead = _tree.map(lambda f, u, s: f + u - s, params.fast, updates, params.slow)
        slow = _tree.map(lambda d: slow_step_size * meet * d, ahead)
        fast = _tree.map(lambda u, d: u - meet * (1 - slow_step_size) * d, updates, ahead)
        if reset_state:
            fast_state = tree.where(meet, fast_optimizer.init(params.fast), fast_state)
        count = (state.steps_since_sync + 1) % sync_period
        return LookaheadParams(fast, slow), LookaheadState(fast_state, count)

    return GradientTransformation(init, update)
