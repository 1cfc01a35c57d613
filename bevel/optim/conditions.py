"""Transformations that apply only when something holds."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import bevel.numpy as bnp
from bevel import lax
from bevel.optim import tree
from bevel.optim.base import (
    GradientTransformation,
    GradientTransformationExtraArgs,
    safe_increment,
    with_extra_args_support,
    zero_count,
)
from bevel.optim.loss_scale import all_finite


class ConditionallyTransformState(NamedTuple):
    """The inner state, and a count of steps."""

    inner_state: Any
    step: Any


class ConditionallyMaskState(NamedTuple):
    """A count of steps, and the inner state."""

    step: Any
    inner_state: Any


class ApplyIfFiniteState(NamedTuple):
    """Bad steps in a row, whether the last was good, bad steps in all, and the inner state."""

    notfinite_count: Any
    last_finite: Any
    total_notfinite: Any
    inner_state: Any


class ConditionFn(Protocol):
    """Whether to transform the updates of a step."""

    def __call__(self, step: Any, **extra_args: Any) -> Any:
        """A boolean scalar."""


def _gated(
    inner: GradientTransformation,
    condition: ConditionFn,
    forward: bool,
    state_class: Any,
    otherwise: Any,
) -> GradientTransformationExtraArgs:
    """`inner` where the condition holds; elsewhere `otherwise(updates)`, and the state stays."""
    inner = with_extra_args_support(inner)

    def init(params: Any) -> Any:
        return state_class(step=zero_count(), inner_state=inner.init(params))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        updates, new = lax.cond(
            condition(state.step, **(extra if forward else {})),
            lambda: inner.update(updates, state.inner_state, params, **extra),
            lambda: (otherwise(updates), state.inner_state),
        )
        return updates, state_class(step=safe_increment(state.step), inner_state=new)

    return GradientTransformationExtraArgs(init, update)


def conditionally_transform(
    inner: GradientTransformation,
    should_transform_fn: ConditionFn,
    forward_extra_args: bool = False,
) -> GradientTransformationExtraArgs:
    """Applies a transformation at some steps; at others updates pass unchanged.

    Args:
        inner: the transformation.
        should_transform_fn: from the step to a boolean.
        forward_extra_args: whether it gets the extra arguments of `update` too.

    >>> from bevel import optim
    >>> tx = optim.conditionally_transform(optim.scale(0.0), lambda step: step > 0)
    >>> updates, state = tx.update(bnp.ones(1), tx.init(bnp.zeros(1)))
    >>> updates, tx.update(bnp.ones(1), state)[0]
    (Array([1.], dtype=float32), Array([0.], dtype=float32))
    """
    return _gated(
        inner,
        should_transform_fn,
        forward_extra_args,
        ConditionallyTransformState,
        lambda updates: updates,
    )


def conditionally_mask(
    inner: GradientTransformation,
    should_transform_fn: ConditionFn,
    forward_extra_args: bool = False,
) -> GradientTransformationExtraArgs:
    """Applies a transformation at some steps; at others updates are zero.

    Arguments as for `conditionally_transform`.

    >>> from bevel import optim
    >>> tx = optim.conditionally_mask(optim.scale(2.0), lambda step: step % 2 == 0)
    >>> updates, state = tx.update(bnp.ones(1), tx.init(bnp.zeros(1)))
    >>> updates, tx.update(bnp.ones(1), state)[0]
    (Array([2.], dtype=float32), Array([0.], dtype=float32))
    """
    return _gated(
        inner, should_transform_fn, forward_extra_args, ConditionallyMaskState, tree.zeros_like
    )


def apply_if_finite(
    inner: GradientTransformation, max_consecutive_errors: int
) -> GradientTransformationExtraArgs:
    """Leaves out steps whose gradients are infinite or not a number.

    Args:
        inner: the optimizer.
        max_consecutive_errors: how many such steps in a row to leave out; the next is applied.

    >>> from bevel import optim
    >>> tx = optim.apply_if_finite(optim.sgd(1.0), 5)
    >>> updates, state = tx.update(bnp.array([bnp.nan]), tx.init(bnp.zeros(1)))
    >>> updates, state.total_notfinite
    (Array([0.], dtype=float32), Array(1, dtype=int32))
    """
    inner = with_extra_args_support(inner)

    def init(params: Any) -> ApplyIfFiniteState:
        return ApplyIfFiniteState(zero_count(), bnp.array(True), zero_count(), inner.init(params))

    def update(
        updates: Any, state: Any, params: Any = None, **extra: Any
    ) -> tuple[Any, ApplyIfFiniteState]:
        good = all_finite(updates)
        in_a_row = bnp.where(good, 0, safe_increment(state.notfinite_count))
        total = state.total_notfinite
        updates, new = lax.cond(
            good | (in_a_row > max_consecutive_errors),
            lambda: inner.update(updates, state.inner_state, params, **extra),
            lambda: (tree.zeros_like(updates), state.inner_state),
        )
        return updates, ApplyIfFiniteState(
            in_a_row, good, bnp.where(good, total, safe_increment(total)), new
        )

    return GradientTransformationExtraArgs(init, update)
