"""Blocks that change how code inside them is traced: `disable_jit`, `named_scope`."""

from __future__ import annotations

from types import TracebackType

from bevel.core import config
from bevel.core.source import pop_scope, push_scope


def disable_jit(disable: bool = True) -> config.config:
    """Run jitted functions, loops and branches op by op, as plain Python, for a block.

    >>> import bevel as bv
    >>> with bv.disable_jit():
    ...     bv.jit(lambda x: print(float(x)))(2.0)
    2.0
    """
    return config.config(disable_jit=disable)


class named_scope:
    """Name the ops of a block in graphs, compiled programs and profiles.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> def f(x):
    ...     with bv.named_scope("norm"):
    ...         return bnp.sqrt(x)
    >>> bv.make_graph(f)(1.0).eqns[0].source.scope
    'norm'
    """

    def __init__(self, name: str):
        if not isinstance(name, str):
            raise TypeError(f"named_scope: the name must be a string, got {type(name).__name__}")
        self.name = name

    def __enter__(self) -> named_scope:
        push_scope(self.name)
        return self

    def __exit__(
        self, kind: type | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        pop_scope()
