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

    A subclass has the fields that its class body declares besides; it is a frozen dataclass and a
    pytree without being marked. Fields made by `bv.tree.static()` are part of the structure.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> from bevel import nn, optim
    >>> class TrainState(nn.TrainState):
    ...     batch_stats: dict
    >>> params = {"w": bnp.ones(())}
    >>> s = TrainState.create(
    ...     apply_fn=lambda p, x: p["w"] * x, params=params, tx=optim.sgd(0.5), batch_stats={}
    ... )
    >>> s = s.apply_gradients(grads={"w": bnp.ones(())})
    >>> s.params, int(s.step)
    ({'w': Array(0.5, dtype=float32)}, 1)
    """

    step: Any
    apply_fn: Callable[..., Any] | None = tree.static()
    params: Any
    tx: Any = tree.static()
    opt_state: Any

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Make the subclass a frozen dataclass and a pytree."""
        super().__init_subclass__(**kwargs)
        tree.register_dataclass(dataclasses.dataclass(frozen=True)(cls))

    @classmethod
    def create(
        cls, *, apply_fn: Callable[..., Any] | None = None, params: Any, tx: Any, **kwargs: Any
    ) -> Any:
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

    def apply_gradients(self, *, grads: Any, **kwargs: Any) -> Any:
        """The state after one step with these gradients; `kwargs` replace other fields."""
        updates, opt_state = self.tx.update(grads, self.opt_state, self.params)
        params = apply_updates(self.params, updates)
        return self.replace(step=self.step + 1, params=params, opt_state=opt_state, **kwargs)

    def replace(self, **fields: Any) -> Any:
        """The same state with some fields changed."""
        return dataclasses.replace(self, **fields)


tree.register_dataclass(TrainState)
