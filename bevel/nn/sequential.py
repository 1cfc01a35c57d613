"""`Sequential`: callables in a row."""

from __future__ import annotations

import inspect
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

    def __call__(self, *args: Any, rngs: Any = None, **kwargs: Any) -> Any:
        """What the last callable returns; `rngs` goes to each that has such an argument."""
        if not self.layers:
            return args[0] if len(args) == 1 else args or kwargs or None
        output: Any = None
        for i, f in enumerate(self.layers):
            if i and isinstance(output, tuple):
                args, kwargs = output, {}
            elif i and isinstance(output, dict):
                args, kwargs = (), output
            elif i:
                args, kwargs = (output,), {}
            extra = {"rngs": rngs} if rngs is not None and _takes_rngs(f) else {}
            output = f(*args, **kwargs, **extra)
        return output


def _takes_rngs(f: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(p.name == "rngs" for p in parameters)
