"""Gradients gathered over several steps before they are applied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import bevel.numpy as bnp
from bevel import lax
from bevel.api.graphs import eval_shape
from bevel.core import dtypes
from bevel.core import tree as _tree
from bevel.numpy.convert import enter
from bevel.optim import tree
from bevel.optim.base import (
    GradientTransformation,
    GradientTransformationExtraArgs,
    safe_increment,
    widened,
    with_extra_args_support,
    zero_count,
)


class ApplyEvery(NamedTuple):
    """Steps since updates were let through, and their sum."""

    count: Any
    grad_acc: Any


class MultiStepsState(NamedTuple):
    """Counts of small and of whole steps, the optimizer's state, and what was gathered."""

    mini_step: Any
    gradient_step: Any
    inner_opt_state: Any
    acc_grads: Any
    skip_state: Any = ()


class ShouldSkipUpdateFunction(Protocol):
    """Whether gradients are to be thrown away."""

    def __call__(self, updates: Any, gradient_step: Any, params: Any) -> tuple[Any, Any]:
        """A boolean scalar, and a tree for `MultiStepsState.skip_state`."""


def apply_every(k: Any = 1) -> GradientTransformation:
    """Adds updates up, and lets their sum through at every k-th step; zero in between.

    >>> from bevel import optim
    >>> tx = optim.apply_every(2)
    >>> first, state = tx.update(bnp.ones(1), tx.init(bnp.zeros(1)))
    >>> first, tx.update(bnp.ones(1), state)[0]
    (Array([0.], dtype=float32), Array([2.], dtype=float32))
    """

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, ApplyEvery]:
        step = state.count % k
        total = _tree.map(lambda g, a: bnp.where(step == 0, g, a + g), updates, state.grad_acc)
        out = tree.where(step == k - 1, total, tree.zeros_like(total))
        return out, ApplyEvery(safe_increment(state.count) % k, total)

    return GradientTransformation(
        lambda params: ApplyEvery(zero_count(), tree.zeros_like(params)), update
    )


def skip_not_finite(updates: Any, gradient_step: Any, params: Any) -> tuple[Any, Any]:
    """Whether any gradient is infinite or not a number; for `MultiSteps`.

    >>> from bevel import optim
    >>> bool(optim.skip_not_finite({"w": bnp.array([1.0, bnp.nan])}, 0, None)[0])
    True
    """
    bad = tree.sum(_tree.map(lambda g: ~bnp.isfinite(g), updates))
    return bad > 0, {"should_skip": bad > 0, "num_not_finite": bad}


def skip_large_updates(
    updates: Any, gradient_step: Any, params: Any, max_squared_norm: Any
) -> tuple[Any, Any]:
    """Whether the squared norm of the gradients is at least a bound, or not a number; for
    `MultiSteps`.

    >>> from bevel import optim
    >>> bool(optim.skip_large_updates({"w": bnp.ones(3)}, 0, None, 2.0)[0])
    True
    """
    square = tree.norm(updates, squared=True)
    skip = ~(square < max_squared_norm)
    return skip, {"should_skip": skip, "norm_squared": square}


class MultiSteps:
    """An optimizer that steps on the mean (or sum) of the gradients of k calls.

    In between updates are zero. It has `init` and `update` as a transformation has.

    Args:
        opt: the optimizer.
        every_k_schedule: k, or a function from the number of whole steps to it.
        use_grad_mean: the mean, else the sum.
        should_skip_update_fn: which gradients to leave out, such as `skip_not_finite`.
        accumulator_dtype: at which gradients are gathered.

    >>> from bevel import optim
    >>> tx = optim.MultiSteps(optim.sgd(1.0), every_k_schedule=2)
    >>> first, state = tx.update(bnp.array([1.0]), tx.init(bnp.zeros(1)))
    >>> first, tx.update(bnp.array([3.0]), state)[0]
    (Array([0.], dtype=float32), Array([-2.], dtype=float32))
    """

    def __init__(
        self,
        opt: GradientTransformation,
        every_k_schedule: int | Callable[[Any], Any],
        use_grad_mean: bool = True,
        should_skip_update_fn: ShouldSkipUpdateFunction | None = None,
        accumulator_dtype: Any = dtypes.float32,
    ):
        self._opt = with_extra_args_support(opt)
        self._every = every_k_schedule if callable(every_k_schedule) else lambda _: every_k_schedule
        self._mean = use_grad_mean
        self._skip = should_skip_update_fn
        self._dtype = accumulator_dtype

    @property
    def inner_opt(self) -> GradientTransformationExtraArgs:
        """The optimizer."""
        return self._opt

    def _skipped(self, updates: Any, step: Any, params: Any) -> tuple[Any, Any]:
        if self._skip is None:
            return enter(False), ()
        skip, state = self._skip(updates, step, params)
        if (bnp.shape(skip), enter(skip).dtype) != ((), bool):
            raise ValueError(
                "MultiSteps: should_skip_update_fn gives a boolean scalar and a tree, but its "
                f"first result has shape {bnp.shape(skip)} and dtype {enter(skip).dtype}.\n"
                "Write instead: return bnp.any(...), {}."
            )
        return skip, state

    def init(self, params: Any) -> MultiStepsState:
        """The state for these parameters."""
        step = zero_count()
        return MultiStepsState(
            mini_step=zero_count(),
            gradient_step=step,
            inner_opt_state=self._opt.init(params),
            acc_grads=tree.zeros_like(params, self._dtype),
            skip_state=self._skipped(tree.zeros_like(params), step, params)[1],
        )

    def update(
        self, updates: Any, state: MultiStepsState, params: Any = None, **extra_args: Any
    ) -> tuple[Any, MultiStepsState]:
        """Gathers gradients; zero updates but at the last of k calls.

        Raises:
            ValueError: `should_skip_update_fn` gives no boolean scalar.
        """
        k = self._every(state.gradient_step)
        skip, skip_state = self._skipped(updates, state.gradient_step, params)
        n = state.mini_step + 1

        def gather(g: Any, a: Any) -> Any:
            return a + (g - a) / n if self._mean else a + g

        gathered = _tree.map(
            lambda g, a: gather(g, widened(a, enter(g).dtype)), updates, state.acc_grads
        )
        emit = (n == k) & ~skip

        def whole_step() -> tuple[Any, Any]:
            out, inner = self._opt.update(
                tree.cast_like(gathered, updates), state.inner_opt_state, params, **extra_args
            )
            return out, tree.cast_like(inner, state.inner_opt_state)

        out, inner = lax.cond(
            emit,
            whole_step,
            lambda: (
                _tree.map(lambda s: bnp.zeros(s.shape, s.dtype), eval_shape(whole_step)[0]),
                state.inner_opt_state,
            ),
        )
        kept = tree.where(skip, state.acc_grads, tree.cast(gathered, self._dtype))
        return out, MultiStepsState(
            mini_step=bnp.where(skip, state.mini_step, n % k),
            gradient_step=bnp.where(emit, safe_increment(state.gradient_step), state.gradient_step),
            inner_opt_state=inner,
            acc_grads=tree.where(emit, tree.zeros_like(kept), kept),
            skip_state=skip_state,
        )

    def has_updated(self, state: MultiStepsState) -> Any:
        """Whether the last call was the last of k."""
        return (state.mini_step == 0) & (state.gradient_step > 0)

    def gradient_transformation(self) -> GradientTransformation:
        """The pair of `init` and `update`."""
        return GradientTransformationExtraArgs(self.init, self.update)
