"""`Optimizer`: a gradient transformation with its state, for one model."""

from __future__ import annotations

from typing import Any

import bevel.numpy as bnp
from bevel.core import dtypes, tree
from bevel.nn.module import Module
from bevel.nn.states import State, state, update
from bevel.nn.structure import path_text
from bevel.nn.updates import apply_updates
from bevel.nn.variable import OptState, Param

_OTHERS = (
    "Why: the gradients are for another model, or for other variables than the optimizer's `wrt`.\n"
    "Write instead: grads = bv.grad(loss_fn)(model) for the optimizer's model."
)
_ROWS = (
    "Why: it has an axis in front, as bv.vmap of bv.grad gives: a gradient for each example.\n"
    "Write instead: optimizer.update(bv.tree.map(lambda g: g.mean(0), grads)), or bv.grad of the "
    "mean loss over the batch."
)


class Optimizer(Module):
    """Updates a model's parameters from gradients.

    Its state lives in `OptState` variables: pass the optimizer to a jitted step, or close over it,
    and it is advanced by the call; save it with the model, `nn.state((model, optimizer))`.

    Args:
        model: the module to train.
        tx: from `bevel.optim`, such as `optim.adamw(1e-3)`.
        wrt: filter of the variables to update; gradients must be for them.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> from bevel import nn, optim
    >>> model = nn.Linear(2, 1, rngs=nn.Rngs(0))
    >>> optimizer = nn.Optimizer(model, optim.sgd(0.1))
    >>> @bv.jit
    ... def step(model, optimizer, x):
    ...     loss, grads = bv.value_and_grad(lambda m: (m(x) ** 2).mean())(model)
    ...     optimizer.update(grads)
    ...     return loss
    >>> losses = [float(step(model, optimizer, bnp.ones((4, 2)))) for _ in range(9)]
    >>> losses[-1] < losses[0], int(optimizer.step)
    (True, 9)
    """

    def __init__(self, model: Any, tx: Any, *, wrt: Any = Param):
        if not (hasattr(tx, "init") and hasattr(tx, "update")):
            raise TypeError(
                f"Optimizer: tx is of type {type(tx).__name__}, which is no gradient "
                "transformation (it has no init and update).\n"
                "Write instead: nn.Optimizer(model, optim.adam(1e-3)), the model first."
            )
        self.model = model
        self.tx = tx
        self.wrt = wrt
        self.step = OptState(bnp.zeros((), dtypes.uint32))
        self.opt_state = tree.map(OptState, tx.init(state(model, wrt)))

    def update(self, *args: Any, **kwargs: Any) -> Any:
        """`update(grads)` or `update(model, grads)`: one step; returns the change that was added.

        Args:
            args: the gradients (what `bv.grad` gave), before them optionally the model, if it
                is not the one the optimizer was made for but another of the same structure.
            kwargs: extra arguments of the transformation, such as `value=loss`.

        Raises:
            TypeError: other arguments.
            ValueError: a parameter has no gradient, or one of another shape; the message names it.
        """
        if not 1 <= len(args) <= 2:
            raise TypeError("Optimizer.update takes (grads) or (model, grads)")
        model, grads = args if len(args) == 2 else (self.model, args[0])
        params = state(model, self.wrt)
        grads = self._matching(grads, params)
        old = tree.map(lambda v: v.value, self.opt_state)
        updates, new = self.tx.update(grads, old, params, **kwargs)
        if tree.structure(new) != tree.structure(old):
            raise TypeError(
                "Optimizer.update: the transformation returned a state of another structure than "
                "its init:\n"
                f"  init:   {tree.structure(old)}\n  update: {tree.structure(new)}"
            )
        update(model, apply_updates(params, updates))
        for variable, value in zip(tree.leaves(self.opt_state), tree.leaves(new), strict=True):
            variable.value = value
        self.step[...] += 1
        return updates

    def _matching(self, grads: Any, params: State) -> State:
        """The gradients of just these parameters, in their structure."""
        if not isinstance(grads, State):
            raise TypeError(
                f"Optimizer.update: the gradients are a {type(grads).__name__}, not an nn.State.\n"
                "Write instead: loss, grads = bv.value_and_grad(loss_fn)(model), with the model as "
                "the differentiated "
                "argument; optimizer.update(grads)."
            )
        found, wanted = grads.flat_state(), params.flat_state()
        for path, p in wanted.items():
            if path not in found or found[path].shape != p.shape:
                got = found[path].shape if path in found else None
                raise ValueError(
                    f"Optimizer.update: the parameter {path_text(path)} of shape {p.shape} has "
                    f"{'none' if got is None else f'one of shape {got}'} among the gradients.\n"
                    + (_ROWS if got and got[1:] == p.shape else _OTHERS)
                )
        return State.from_flat_path({path: found[path] for path in wanted})
