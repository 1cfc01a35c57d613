"""Adding an optimizer's updates to parameters."""

from __future__ import annotations

from typing import Any

from bevel.core import tree
from bevel.numpy.convert import enter


def apply_updates(params: Any, updates: Any) -> Any:
    """`params + updates`, each result at the dtype of its parameter.

    Raises:
        ValueError: the trees differ in structure.

    >>> import bevel.numpy as bnp
    >>> from bevel import optim
    >>> optim.apply_updates({"w": bnp.ones(2)}, {"w": bnp.array([0.5, -1.0])})
    {'w': Array([1.5, 0. ], dtype=float32)}
    """

    def add(p: Any, u: Any) -> Any:
        p = enter(p)
        return (p + u).astype(p.dtype)

    return tree.map(add, params, updates)
