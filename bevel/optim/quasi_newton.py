"""L-BFGS: gradients preconditioned by the last few steps."""

from __future__ import annotations

from typing import Any, NamedTuple

import bevel.numpy as bnp
from bevel import lax
from bevel.core import tree as _tree
from bevel.numpy.convert import enter
from bevel.optim import tree
from bevel.optim.base import (
    GradientTransformation,
    GradientTransformationExtraArgs,
    ScalarOrSchedule,
    chain,
    identity,
    params_of,
    safe_increment,
    zero_count,
)
from bevel.optim.linesearch import scale_by_zoom_linesearch, wide_dtype
from bevel.optim.scaling import scale, scale_by_learning_rate


class ScaleByLBFGSState(NamedTuple):
    """Step, the parameters and gradients before, and the memory of their differences."""

    count: Any
    params: Any
    updates: Any
    diff_params_memory: Any
    diff_updates_memory: Any
    weights_memory: Any


def _inner(x: Any, y: Any) -> Any:
    return bnp.real(enter(tree.vdot(x, y)))


def _two_loops(vector: Any, steps: Any, grads: Any, weights: Any, scale: Any) -> Any:
    """The inverse Hessian times a vector; the memory is ordered from old to new."""

    def back(v: Any, memory: Any) -> tuple[Any, Any]:
        step, grad, weight = memory
        a = weight * _inner(step, v)
        return tree.cast_like(tree.add_scale(v, -a, grad), v), a

    def forth(v: Any, memory: Any) -> tuple[Any, None]:
        step, grad, weight, a = memory
        return tree.cast_like(tree.add_scale(v, a - weight * _inner(grad, v), step), v), None

    vector, a = lax.scan(back, vector, (steps, grads, weights), reverse=True)
    vector = tree.cast_like(tree.scale(scale, vector), vector)
    return lax.scan(forth, vector, (steps, grads, weights, a))[0]


def scale_by_lbfgs(
    memory_size: int = 10, scale_init_precond: bool = True
) -> GradientTransformation:
    """Multiplies gradients by an estimate of the inverse Hessian from the last steps (Liu and
    Nocedal, "On the Limited Memory BFGS Method", 1989, doi:10.1007/BF01589116).

    Args:
        memory_size: how many steps are kept.
        scale_init_precond: start the estimate from the last step's curvature, not from 1; then the
            first step has at most length 1.

    Raises:
        ValueError: the memory's size is below 1.

    >>> from bevel import optim
    >>> tx, x = optim.scale_by_lbfgs(), bnp.array([0.3, 0.4])
    >>> tx.update(x, tx.init(x), x)[0]
    Array([0.3, 0.4], dtype=float32)
    """
    if memory_size < 1:
        raise ValueError(f"scale_by_lbfgs: memory_size is at least 1, got {memory_size!r}")

    def init(params: Any) -> ScaleByLBFGSState:
        memory = tree.zeros_like(tree.batch_shape(params, (memory_size,)))
        zeros = tree.zeros_like(params)
        return ScaleByLBFGSState(
            zero_count(), zeros, zeros, memory, memory, bnp.zeros(memory_size, wide_dtype(params))
        )

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, ScaleByLBFGSState]:
        params = params_of("scale_by_lbfgs", params)
        started = state.count > 0
        step, grad = tree.where(
            started,
            (tree.sub(params, state.params), tree.sub(updates, state.updates)),
            tree.zeros_like((params, updates)),
        )
        curvature = _inner(grad, step)
        flat = curvature == 0
        weight = bnp.where(flat, 0.0, 1.0 / bnp.where(flat, 1.0, curvature))
        last = (state.count - 1) % memory_size
        memory = _tree.map(
            lambda m, new: m.at[last].set(new.astype(m.dtype)),
            (state.diff_params_memory, state.diff_updates_memory, state.weights_memory),
            (step, grad, weight),
        )
        scale: Any = 1.0
        if scale_init_precond:
            square = tree.norm(grad, squared=True)
            known = bnp.where(square > 0, curvature / bnp.where(square > 0, square, 1.0), 1.0)
            short = bnp.minimum(1.0, 1.0 / tree.norm(_tree.map(lax.stop_gradient, updates)))
            scale = bnp.where(started, known, short)
        order = (state.count + bnp.arange(memory_size)) % memory_size
        out = _two_loops(updates, *_tree.map(lambda m: m[order], memory), scale)
        return out, ScaleByLBFGSState(safe_increment(state.count), params, updates, *memory)

    return GradientTransformation(init, update)


_SEARCH = scale_by_zoom_linesearch(max_linesearch_steps=20, initial_guess_strategy="one")


def lbfgs(
    learning_rate: ScalarOrSchedule = None,
    memory_size: int = 10,
    scale_init_precond: bool = True,
    linesearch: GradientTransformation | None = _SEARCH,
) -> GradientTransformationExtraArgs:
    """L-BFGS (Liu and Nocedal, 1989, doi:10.1007/BF01589116) with a line search.

    `update` takes `value`, `grad` and `value_fn`, as the line search does.

    Args:
        learning_rate: number, schedule or None (1).
        memory_size: how many steps are kept.
        scale_init_precond: as for `scale_by_lbfgs`.
        linesearch: such as `scale_by_backtracking_linesearch(20)`; None for fixed steps.

    >>> from bevel import optim
    >>> f = lambda x: ((x - 1.0) ** 4).sum() + (x**2).sum()
    >>> tx, x = optim.lbfgs(), bnp.array([3.0, -2.0])
    >>> state, both = tx.init(x), optim.value_and_grad_from_state(f)
    >>> for _ in range(10):
    ...     value, grad = both(x, state=state)
    ...     u, state = tx.update(grad, state, x, value=value, grad=grad, value_fn=f)
    ...     x = optim.apply_updates(x, u)
    >>> x.round(2)
    Array([0.41, 0.41], dtype=float32)
    """
    return chain(
        scale_by_lbfgs(memory_size, scale_init_precond),
        scale(-1.0) if learning_rate is None else scale_by_learning_rate(learning_rate),
        identity() if linesearch is None else linesearch,
    )
