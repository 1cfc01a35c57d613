"""What user functions close over, so that a rule can run after the traces around it have ended."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from bevel.api.body import Body
from bevel.core import tree
from bevel.core.aval import aval_of
from bevel.core.graph import INLINE_SIZE, Graph, Var
from bevel.core.handle import Handle
from bevel.core.interpreter import Rebind, Tracer, state
from bevel.core.source import replay


def _lasts(value: Any) -> bool:
    """Whether a closed-over value is an operand: a traced one, or one too large for a literal."""
    if isinstance(value, Tracer):
        return value.interp.alive
    return aval_of(value).size > INLINE_SIZE


def closed_over(*functions: Any) -> list[Any]:
    """The traced values and large arrays that functions refer to, as far as one can see."""
    found: dict[int, Any] = {}
    seen: set[int] = set()

    def look(x: Any) -> None:
        for leaf in tree.leaves(x):
            if isinstance(leaf, Handle):
                if _lasts(leaf._v):
                    found[id(leaf._v)] = leaf._v
            elif callable(leaf) and id(leaf) not in seen:
                seen.add(id(leaf))
                inside(leaf)

    def inside(fn: Any) -> None:
        if isinstance(fn, functools.partial):
            look((fn.func, fn.args, fn.keywords))
        look(getattr(fn, "__wrapped__", None))
        module = getattr(fn, "__globals__", {})
        names = fn.__code__.co_names if hasattr(fn, "__code__") else ()
        look([module[n] for n in names if isinstance(module.get(n), Handle)])
        for cell in getattr(fn, "__closure__", None) or ():
            try:
                look(cell.cell_contents)
            except ValueError:  # a variable without a value yet
                continue

    look(list(functions))
    return list(found.values())


class Closure:
    """A custom function as a graph, and what it and its rules close over.

    A rule may run long after the call, when the traces around the call have ended and other values
    stand in for the traced ones it closes over. So these are operands of the op, and `run` puts the
    operands of the time in their places.
    """

    def __init__(
        self, what: str, fun: Callable[..., Any], handles: Sequence[Handle], rules: Sequence[Any]
    ):
        self.body = body = Body(what, fun, handles)
        body.refuse_writes()
        body.consumed.keep()
        own = {id(c) for c in body.consts}
        others = [v for v in closed_over(*rules) if id(v) not in own]
        inputs = [Var(aval_of(v)) for v in others]
        self.graph = Graph(inputs + body.graph.inputs, body.graph.eqns, body.graph.outputs)
        self.values = [*others, *body.consts]
        self.n = len(self.values)
        self.closed = (what, len(others), self.n)

    def places(self, *functions: Any) -> list[int]:
        """Which of the values these functions close over."""
        used = {id(v) for v in closed_over(*functions)}
        return [i for i, v in enumerate(self.values) if id(v) in used]

    def run(
        self, places: Sequence[int], new: Sequence[Any], fn: Callable[..., Any]
    ) -> list[list[Any]]:
        """The lists of values that `fn()` returns, with `new` in place of the values there."""
        old = [self.values[i] for i in places]
        with replay(), Rebind(state.current, old, new) as here:
            found = fn()
        resolve = lambda v: here.resolve(v) if isinstance(v, Tracer) else v  # noqa: E731 (None passes)
        return [[resolve(v) for v in values] for values in found]
