"""`TrainState`: parameters and optimizer state as one value, for code in functional style."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import bevel.numpy as bnp
from bevel.core import dtypes, tree
from bevel.nn.updates import apply_updates


@dataclasses.dataclass(frozen=True)
class TrainState:
    """Parameters, optimizer state and step; a pytree.

    Subclass it as a frozen dataclass with `bv.tree_util.register_dataclass` for more fields; fields
    with the metadata `static=True` are part of the structure.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> from bevel import nn, optim
    >>> params = {"w": bnp.ones(())}
    >>> s = nn.TrainState.create(apply_fn=lambda p, x: p["w"] * x, params=params, tx=optim.sgd(0.5))
    >>> s = s.apply_gradients(grads={"w": bnp.ones(())})
    >>> s.params, int(s.step)
    ({'w': Array(0.5, dtype=float32)}, 1)
    """

    step: Any
    params: Any
    opt_state: Any
    apply_fn: Callable[..., Any] | None = dataclasses.field(default=None, metadata={"static": True})
    tx: Any = dataclasses.field(default=None, metadata={"static": True})

    @classmethod
    def create(
        cls, *, apply_fn: Callable[..., Any] | None = None, params: Any, tx: Any, **kwargs: Any
    ) -> TrainState:
        """The state before the first step.

        Args:
            apply_fn: the model as a function of parameters and inputs.
            params: a pytree of arrays.
            tx: from `bevel.optim`.
            kwargs: fields of a subclass.
        """
        step = bnp.zeros((), dtypes.int32)
        return cls(
            step=step, apply_fn=apply_fn, params=params, tx=tx, opt_state=tx.init(params), **kwargs
        )

    def apply_gradients(self, *, grads: Any, **kwargs: Any) -> TrainState:
        """The state after one step with these gradients; `kwargs` replace other fields."""
        updates, opt_state = self.tx.update(grads, self.opt_state, self.params)
        params = apply_updates(self.params, updates)
        return self.replace(step=self.step + 1, params=params, opt_state=opt_state, **kwargs)

    def replace(self, **fields: Any) -> TrainState:
        """The same state with some fields changed."""
        return dataclasses.replace(self, **fields)


tree.register_dataclass(TrainState)
