"""What one trace of a jitted function leaves: a graph, its program, and how calls map to them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

from bevel.api.calls import Call, StateChanged, calls_back, cell_signature
from bevel.api.flat import Output, as_handle, rewrap
from bevel.api.stores import Layout, stored_graph
from bevel.core import dtypes, tree
from bevel.core.aval import aval_of
from bevel.core.graph import Graph, GraphBuilder, subgraphs
from bevel.core.handle import (
    Handle,
    KeyTag,
    WeakIf,
    Weakness,
    fresh_tag,
    is_weak,
    weak_now,
    weak_together,
    wrap,
)
from bevel.core.interpreter import state
from bevel.core.ref import Cell, Scope
from bevel.core.source import Argument, Source, user_source
from bevel.transforms.compile import Program


class Traced:
    """One traced signature: the graph, its program, and how arguments and results map to it.

    The graph's inputs are captured constants, then the handles among the arguments, then cells;
    its outputs the results, then the contents of written cells.
    """

    __slots__ = (
        "_stored",
        "builder",
        "calls_back",
        "captured",
        "captured_key",
        "cells",
        "consts",
        "consumed",
        "donated",
        "given",
        "graph",
        "make_program",
        "output",
        "program",
        "weaknesses",
        "written",
        "written_tags",
    )

    def __init__(
        self,
        jitted: Any,
        what: str,
        arguments: Call,
        rebuild: Callable[..., Any],
        names: Sequence[str],
    ):
        builder = GraphBuilder(state.current, what)
        self.builder = weakref.ref(builder)
        sources = [Argument(name, what, jitted.place) for name in names]
        inputs = [
            builder.input(aval_of(h._v), s) for h, s in zip(arguments.handles, sources, strict=True)
        ]
        self.weaknesses = [_weakness(h) for h in arguments.handles]
        tags = [
            h._tag if w is None else WeakIf([w])
            for h, w in zip(arguments.handles, self.weaknesses, strict=True)
        ]
        handles = rewrap(inputs, tags)
        traced = iter(handles)
        leaves = [next(traced) if isinstance(leaf, Handle) else leaf for leaf in arguments.leaves]
        cell_inputs: dict[Cell, Any] = {}
        known = dict(zip(arguments.cells, arguments.cell_keys, strict=True))
        self.captured: list[Cell] = []
        self.captured_key: list[Any] = []

        def lift(cell: Cell, content: Any) -> Any:
            found = cell_signature(cell, content)
            if cell not in known:
                self.captured.append(cell)
                self.captured_key.append(found)
            elif found != known[cell]:
                raise StateChanged(f"{what}: a cell has changed its type")
            if not isinstance(content, Handle):
                return content
            tracer = cell_inputs[cell] = builder.input(aval_of(content._v))
            return wrap(tracer, fresh_tag(content._tag))

        self.output = Output()
        with builder, Scope(what, lift) as scope:
            for cell in arguments.cells:
                scope.capture(cell)
            args, kwargs = tree.unflatten(arguments.treedef, leaves)
            outs = self.output.flatten(rebuild(args, kwargs), what)
        # Keys among the arguments that every call consumes.
        self.consumed = [i for i, h in enumerate(handles) if getattr(h._tag, "used", None)]
        changed = scope.changed()
        contents = [
            as_handle(c, f"the content of a cell written in {what}") for c in changed.values()
        ]
        self.cells = [c for c in (*arguments.cells, *self.captured) if c in cell_inputs]
        self.graph, self.consts = builder.finish(
            [*inputs, *[cell_inputs[c] for c in self.cells]], [*outs, *[h._v for h in contents]]
        )
        _forget_caller(self.graph, user_source())
        position = {c: i for i, c in enumerate(arguments.cells)}
        self.written = [position.get(c, c) for c in changed]
        self.written_tags = [h._tag for h in contents]
        # Which of the argument's cells are inputs, by position, so that other objects of the same
        # structure fit.
        self.cells = [position.get(c, c) for c in self.cells]
        self.given = jitted.donated_leaves(arguments)
        self.donated = [len(self.consts) + i for i in self.given]
        self.program = jitted.program(self.graph, self.donated)
        self.make_program = jitted.program
        self.calls_back = calls_back(self.graph)
        self._stored: dict[Any, Program] = {}

    def fits_cells(self, arguments: Call) -> bool:
        """Whether all cells, those of a call too, have contents of the traced types now."""
        cells = zip(arguments.cells, arguments.cell_keys, strict=True)
        captured = zip(self.captured, self.captured_key, strict=True)
        return all(cell_signature(c, c._seen()) == k for c, k in (*cells, *captured))

    def fits(self, arguments: Call) -> bool:
        """Whether the captured cells still have contents of the traced types, and arguments are
        weak where that made a difference and they were.
        """
        return all(
            cell_signature(c, c._seen()) == k
            for c, k in zip(self.captured, self.captured_key, strict=True)
        ) and all(
            w is None or not w.matters or is_weak(h._tag) == w.weak
            for w, h in zip(self.weaknesses, arguments.handles, strict=True)
        )

    def output_for(self, arguments: Call) -> Output:
        """How to build the result: weak where it follows from what arguments are."""
        if not any(type(t) is WeakIf for t in self.output.tags):
            return self.output
        tags = {
            w: h._tag
            for w, h in zip(self.weaknesses, arguments.handles, strict=True)
            if w is not None
        }
        return self.output.with_tags(
            [
                weak_together([tags.get(w, WeakIf([w])) for w in t.given])
                if type(t) is WeakIf
                else t
                for t in self.output.tags
            ]
        )

    def stateful(self, arguments: Call) -> bool:
        """Whether the function has anything to do with cells."""
        return bool(arguments.cells or self.captured or self.written)

    def input_cells(self, arguments: Call) -> list[Cell]:
        """The cells whose contents are inputs."""
        return [arguments.cells[c] if type(c) is int else c for c in self.cells]

    def written_cells(self, arguments: Call) -> list[Cell]:
        """The cells whose new contents are outputs."""
        return [arguments.cells[c] if type(c) is int else c for c in self.written]

    def inputs(self, arguments: Call) -> list[Handle]:
        """The handles the program takes after its constants."""
        return [*arguments.handles, *[c._read() for c in self.input_cells(arguments)]]

    def stored(self, layout: Layout, results: dict[int, int]) -> Program:
        """The program that takes and returns buffers of stores (see `stored_graph`)."""
        if not layout.avals:
            return self.program
        key = (layout, tuple(results.items()))
        if key not in self._stored:
            first = len(self.graph.inputs) - len(self.cells)
            graph = stored_graph(self.graph, layout, first, results)
            start = len(graph.inputs) - len(layout.avals)
            owned = [] if self.calls_back else [start + b for b in layout.written]
            self._stored[key] = self.make_program(graph, [*self.donated, *owned])
        return self._stored[key]

    def finish(self, values: Sequence[Any], arguments: Call) -> Any:
        """Write the cells and build the user's result."""
        n = len(self.output.tags)
        cells = self.written_cells(arguments)
        for cell, value, tag in zip(cells, values[n:], self.written_tags, strict=True):
            cell._write(wrap(value, fresh_tag(tag)))
        return self.output_for(arguments).unflatten(values[:n])


def _forget_caller(graph: Graph, caller: Source | None) -> None:
    """Ops of a function of Bevel's own (`jit(bnp.log)`) have the line of whoever calls it, which is
    another one next time.
    """
    for e in graph.eqns:
        if e.source == caller:
            e.source = None
        for inner in subgraphs(e.params):
            _forget_caller(inner, caller)


_WEAK_DTYPES = (dtypes.int32, dtypes.float32, dtypes.complex64)


def _weakness(h: Handle) -> Weakness | None:
    """What a trace may ask of an argument that is weak or might be in another call."""
    if type(h._tag) is KeyTag or (h._tag is None and h._v.dtype not in _WEAK_DTYPES):
        return None
    return Weakness(weak_now(h._tag))
