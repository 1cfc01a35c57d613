"""`EMA`: a moving average of a model's variables."""

from __future__ import annotations

from typing import Any

from bevel.core import dtypes
from bevel.core.errors import MissingKeyError
from bevel.core.handle import Handle
from bevel.nn.filters import to_predicate
from bevel.nn.module import Module
from bevel.nn.states import State
from bevel.nn.structure import build, path_text, structure_of


class EMA(Module):
    """An exponential moving average of variables: average = decay * average + (1 - decay) * new.

    Args:
        params: the model, or a pytree of modules or variables.
        decay: share that an update keeps.
        only: filter of the variables. Of those without fractions (counts, keys), the average is
            the newest value.

    Variables: `params`, a state of variables of the classes and at the paths of the model's.

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> model = nn.Linear(2, 1, rngs=nn.Rngs(0))
    >>> average = nn.EMA(model, decay=0.9)
    >>> model.bias.value = [10.0]
    >>> average.update(model)
    >>> average.apply_to(model).bias.value.round(3)
    Array([1.], dtype=float32)
    """

    def __init__(self, params: Any, decay: float, *, only: Any = ...):
        self.decay = decay
        self.only = to_predicate(only)
        self.params = State.from_flat_path({p: c.copy() for p, c in self._tracked(params).items()})

    def _tracked(self, node: Any) -> dict[Any, Any]:
        found = structure_of(node)
        pairs = zip(found.paths, found.cells, strict=True)
        return {path: cell for path, cell in pairs if self.only(path, cell)}

    def update(self, updates: Any) -> None:
        """Take the variables of a model of the same structure into account.

        Raises:
            KeyError: it lacks a variable; the message names it.
        """
        new = self._tracked(updates)
        for path, average in self.params.flat_state().items():
            if path not in new:
                raise MissingKeyError(
                    f"EMA.update: there is no variable at {path_text(path)} in the "
                    f"{type(updates).__name__}.\n"
                    "Write instead: ema.update(model), with a model of the structure that the EMA "
                    "was made for."
                )
            value = new[path].value
            if isinstance(value, Handle) and dtypes.is_inexact(value.dtype):
                value = (self.decay * average.value + (1 - self.decay) * value).astype(value.dtype)
            average.value = value

    def apply_to(self, model: Any) -> Any:
        """A model of the same structure with the averages in place of the variables.

        It shares its variables with the average and, those that are not averaged, with the model,
        so it follows further updates.
        """
        found = structure_of(model)
        cells = dict(zip(found.paths, found.cells, strict=True))
        return build(found.graphdef, cells | self.params.flat_state())[0]
