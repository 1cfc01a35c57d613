"""What user functions close over, so that a rule can run after the traces around it have ended."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from bevel.api.body import Body, refuse_writes
from bevel.api.differentiated import Wrt
from bevel.api.flat import cells_of, is_stateful
from bevel.core import tree
from bevel.core.aval import aval_of
from bevel.core.graph import INLINE_SIZE, Graph, Var
from bevel.core.handle import Handle, fresh_tag, wrap
from bevel.core.interpreter import Rebind, Tracer, state
from bevel.core.ref import Cell, Scope
from bevel.core.source import replay


def _lasts(value: Any) -> bool:
    """Whether a closed-over value is an operand: a traced one, or one too large for a literal."""
    if isinstance(value, Tracer):
        return value.interp.alive
    return aval_of(value).size > INLINE_SIZE


def closed_over(*functions: Any) -> tuple[list[Any], list[Cell]]:
    """The traced values and large arrays that functions refer to, and the state cells (those of
    modules among them), as far as one can see.
    """
    found: dict[int, Any] = {}
    cells: dict[Cell, None] = {}
    seen: set[int] = set()

    def look(x: Any) -> None:
        for leaf in tree.leaves(x):
            inside = None if isinstance(leaf, Handle) else cells_of(leaf)
            if isinstance(leaf, Handle):
                if _lasts(leaf._v):
                    found[id(leaf._v)] = leaf._v
            elif inside is not None:
                cells.update(dict.fromkeys(inside))
            elif callable(leaf) and id(leaf) not in seen:
                seen.add(id(leaf))
                look_inside(leaf)

    def look_inside(fn: Any) -> None:
        if isinstance(fn, functools.partial):
            look((fn.func, fn.args, fn.keywords))
        look([getattr(fn, "__wrapped__", None), getattr(fn, "__self__", None)])
        module = getattr(fn, "__globals__", {})
        names = fn.__code__.co_names if hasattr(fn, "__code__") else ()
        look([module[n] for n in names if _is_state(module.get(n))])
        for cell in getattr(fn, "__closure__", None) or ():
            try:
                look(cell.cell_contents)
            except ValueError:  # a variable without a value yet
                continue

    look(list(functions))
    return list(found.values()), list(cells)


def _is_state(x: Any) -> bool:
    return isinstance(x, Handle | Cell) or is_stateful(x)


class Closure:
    """A custom function as a graph, and what it and its rules close over.

    A rule may run long after the call, when the traces around the call have ended, other values
    stand in for the traced ones it closes over, and state cells hold something else. So these are
    operands of the op, and `run` puts the operands of the time in their places.

    Args:
        what: the function, for messages.
        fun: over the arguments.
        arguments: of the function; its rules get modules among them with the contents of now, too.
        rules: functions that are run later.
    """

    def __init__(
        self,
        what: str,
        fun: Callable[..., Any],
        arguments: Wrt,
        rules: Sequence[Any],
    ):
        touched: list[Cell] = []

        def watched(*hs: Any) -> Any:
            with Scope(what) as scope:
                result = arguments.run_pure(fun, [h._v for h in hs])
            touched.extend(scope.cells)
            return result

        self.body = body = Body(what, watched, arguments.primals())
        body.consumed.keep()
        values, closed_cells = closed_over(*rules)
        cells = dict.fromkeys([*arguments.constant, *touched, *closed_cells])
        contents = {c: c._read() for c in cells.keys() - set(arguments.cells)}
        self.contents = {c: h for c, h in contents.items() if isinstance(h, Handle)}
        values += [h._v for h in self.contents.values() if _lasts(h._v)]
        own = {id(c) for c in body.consts}
        others = list({id(v): v for v in values if id(v) not in own}.values())
        inputs = [Var(aval_of(v)) for v in others]
        self.graph = Graph(inputs + body.graph.inputs, body.graph.eqns, body.graph.outputs)
        self.values = [*others, *body.consts]
        self.n = len(self.values)
        self.closed = (what, len(others), self.n)

    def places(self, *functions: Any) -> list[int]:
        """Which of the values these functions close over."""
        values, cells = closed_over(*functions)
        used = {id(v) for v in values}
        used |= {id(self.contents[c]._v) for c in cells if c in self.contents}
        return [i for i, v in enumerate(self.values) if id(v) in used]

    def run(
        self, places: Sequence[int], new: Sequence[Any], fn: Callable[..., Any]
    ) -> list[list[Any]]:
        """The lists of values that `fn()` returns, with `new` in place of the values there."""
        old = [self.values[i] for i in places]
        now = dict(zip(map(id, old), new, strict=True))
        with replay(), Rebind(state.current, old, new) as here:
            with Scope(self.body.what) as scope:
                for cell, h in self.contents.items():
                    scope.show(cell, wrap(now.get(id(h._v), h._v), fresh_tag(h._tag)))
                found = fn()
        refuse_writes(self.body.what, scope.changed())
        resolve = lambda v: here.resolve(v) if isinstance(v, Tracer) else v  # noqa: E731 (None passes)
        return [[resolve(v) for v in values] for values in found]
