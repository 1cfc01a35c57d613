"""`Sequential`: callables in a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bevel.nn.module import Module


class Sequential(Module):
    """Applies callables one after the other; a tuple is passed on as arguments, a dict as keywords.

    Args:
        fns: modules and functions; they are kept in the list `layers`.

    Raises:
        TypeError: one cannot be called.

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> rngs = nn.Rngs(0)
    >>> model = nn.Sequential(nn.Linear(2, 8, rngs=rngs), nn.relu, nn.Linear(8, 1, rngs=rngs))
    >>> model(bnp.ones((5, 2))).shape
    (5, 1)
    """

    def __init__(self, *fns: Callable[..., Any]):
        for i, f in enumerate(fns):
            if not callable(f):
                raise TypeError(
                    f"Sequential: item {i} is a {type(f).__name__}, which cannot be called.\n"
                    "Write instead: nn.Sequential(layer, nn.relu, layer), not a list, and "
                    "functions without ()."
                )
        self.layers = list(fns)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the last callable returns."""
        if not self.layers:
            return args[0] if len(args) == 1 else args or kwargs or None
        output = self.layers[0](*args, **kwargs)
        for f in self.layers[1:]:
            if isinstance(output, tuple):
                output = f(*output)
            elif isinstance(output, dict):
                output = f(**output)
            else:
                output = f(output)
        return output
