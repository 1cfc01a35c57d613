"""Linearization and reverse mode: jvp into a recorder that keeps only what depends on the tangents.

The recorder evaluates known operations at once under its outer interpreter and records the linear
rest. Known values the linear graph uses are its residuals. Reverse mode transposes that graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bevel.core.aval import aval_of
from bevel.core.dtypes import is_inexact
from bevel.core.graph import Graph, GraphBuilder, GraphTracer, evaluate
from bevel.core.interpreter import run_under, state
from bevel.transforms.jvp import JVP
from bevel.transforms.transpose import backward


class PartialBuilder(GraphBuilder):
    """Records the ops that depend on its inputs and runs the others under the outer interpreter."""

    __slots__ = ()

    def run(self, op, args, params):
        unknown = [type(a) is GraphTracer and a.interp is self for a in args]
        if not any(unknown):
            return run_under(self.outer, op, args, params)
        if op.partial is not None and not all(unknown):
            return op.partial(self, args, tuple(unknown), params)
        return self.record(op, args, params)


class Linearized:
    """A linear map as a graph with its residuals.

    `nonzero_in`: the inputs it depends on; `nonzero_out`: the results that are not zero.
    """

    __slots__ = ("graph", "nonzero_in", "nonzero_out", "residuals")

    def __init__(
        self, graph: Graph, residuals: list[Any], nonzero_in: list[bool], nonzero_out: list[bool]
    ):
        self.graph = graph
        self.residuals = residuals
        self.nonzero_in = nonzero_in
        self.nonzero_out = nonzero_out

    def forward(self, tangents: Sequence[Any]) -> list[Any]:
        """Tangents of the results (None: zero) for those of the inputs."""
        args = [t for t, n in zip(tangents, self.nonzero_in, strict=True) if n]
        outs = iter(evaluate(self.graph, [*self.residuals, *args]))
        return [next(outs) if n else None for n in self.nonzero_out]

    def transpose(self, cotangents: Sequence[Any]) -> list[Any]:
        """Cotangents of the inputs (None: zero) for those of the results."""
        cts = [c for c, n in zip(cotangents, self.nonzero_out, strict=True) if n]
        outs = iter(backward(self.graph, self.residuals, cts))
        return [next(outs) if n else None for n in self.nonzero_in]


def linearize(
    fn: Callable[..., Sequence[Any]],
    primals: Sequence[Any],
    wrt: Sequence[bool] | None = None,
    what: str = "linearize",
) -> tuple[list[Any], Linearized]:
    """Results of `fn(*primals)` and its derivative there as a linear map.

    `wrt` marks the inputs to differentiate; those of integer or boolean dtype never are.
    """
    builder = PartialBuilder(state.current, what)
    wanted = [is_inexact(aval_of(p).dtype) for p in primals]
    if wrt is not None:
        wanted = [a and b for a, b in zip(wanted, wrt, strict=True)]
    with builder:
        tangents = [
            builder.input(aval_of(p)) if w else None for p, w in zip(primals, wanted, strict=True)
        ]
        interp = JVP(builder, what)
        with interp:
            outs = fn(*[interp.pair(p, t) for p, t in zip(primals, tangents, strict=True)])
        pairs = [interp.split(o) for o in outs]
        graph, residuals = builder.finish(
            [t for t in tangents if t is not None], [t for _, t in pairs if t is not None]
        )
    return [p for p, _ in pairs], Linearized(
        graph, residuals, wanted, [t is not None for _, t in pairs]
    )


def vjp(
    fn: Callable[..., Sequence[Any]],
    primals: Sequence[Any],
    wrt: Sequence[bool] | None = None,
    what="vjp",
):
    """Results of `fn(*primals)` and the pullback: cotangents of results -> cotangents of inputs
    (None: zero).
    """
    outs, lin = linearize(fn, primals, wrt, what)
    return outs, lin.transpose


def record_linear(
    fn: Callable[..., Sequence[Any]], avals: Sequence[Any]
) -> tuple[Graph, list[Any]]:
    """The graph of a linear function of values; what it computes from known values runs first."""
    builder = PartialBuilder(state.current, "transposition")
    with builder:
        inputs = [builder.input(a) for a in avals]
        return builder.finish(inputs, fn(*inputs))


class Split:
    """A graph cut in two by which inputs are known: see `partial_eval_graph`."""

    __slots__ = ("forwarded", "known", "linear", "out_unknown")

    def __init__(
        self,
        known: Graph,
        linear: Graph,
        out_unknown: tuple[bool, ...],
        forwarded: list[int | None],
    ):
        self.known = known
        self.linear = linear
        self.out_unknown = out_unknown
        self.forwarded = forwarded

    def residuals(self, args: Sequence[Any], outs: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """The known results and the residuals, from the inputs and all results of `known`."""
        n = sum(not u for u in self.out_unknown)
        pool = [*args, *outs[:n]]
        computed = iter(outs[n:])
        return list(outs[:n]), [next(computed) if f is None else pool[f] for f in self.forwarded]


def partial_eval_graph(
    graph: Graph, unknown: tuple[bool, ...], force: tuple[bool, ...] | None = None
) -> Split:
    """Cut a graph: `known(known inputs) -> known results + residuals`, `linear(residuals + unknown
    inputs) -> unknown results`.

    A residual that is an input or a result of `known` is not returned by it again: `forwarded`
    gives, per residual, its index in `known inputs + known results`, or None if `known` returns it
    after its results. `force` marks results to treat as unknown.
    """

    def make():
        outer = GraphBuilder(state.current, "partial evaluation")
        with outer:
            inner = PartialBuilder(outer, "partial evaluation")
            known_in: list[Any] = []
            linear_in: list[Any] = []
            args: list[Any] = []
            for v, u in zip(graph.inputs, unknown, strict=True):
                (linear_in if u else known_in).append((inner if u else outer).input(v.aval))
                args.append((linear_in if u else known_in)[-1])
            with inner:
                outs = evaluate(graph, args)
                mask = [type(o) is GraphTracer and o.interp is inner for o in outs]
                if force is not None:
                    mask = [m or f for m, f in zip(mask, force, strict=True)]
                linear, residuals = inner.finish(
                    linear_in, [o for o, m in zip(outs, mask, strict=True) if m]
                )
            known_out = [o for o, m in zip(outs, mask, strict=True) if not m]
            position: dict[Any, int] = {}
            for i, t in enumerate(known_in + known_out):
                if type(t) is GraphTracer:
                    position.setdefault(t.var, i)
            forwarded = [position.get(getattr(r, "var", None)) for r in residuals]
            computed = [r for r, f in zip(residuals, forwarded, strict=True) if f is None]
            known = outer.finish_closed(known_in, known_out + computed)
        return Split(known, linear, tuple(mask), forwarded)

    return graph.cached(("partial", unknown, force), make)
