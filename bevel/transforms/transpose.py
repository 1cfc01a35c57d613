"""The backward pass over a linear graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bevel.core.graph import Graph, Var, trace
from bevel.core.op import Undefined, rule
from bevel.transforms.jvp import add_tangents


def backward(graph: Graph, residuals: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
    """Cotangents (None: zero) of the linear inputs of a graph.

    The first inputs are the residuals, known values; every equation is linear in the others.
    """
    known: dict[Var, Any] = dict(zip(graph.inputs, residuals, strict=False))
    cts: dict[Var, Any] = {}

    def give(atom: Any, ct: Any) -> None:
        if ct is not None and type(atom) is Var:
            cts[atom] = add_tangents(cts.get(atom), ct)

    for out, ct in zip(graph.outputs, cotangents, strict=True):
        give(out, ct)
    for eqn in reversed(graph.eqns):
        out_cts = [cts.pop(o, None) for o in eqn.outputs]
        if all(c is None for c in out_cts):
            continue
        args: list[Any] = []
        for i in eqn.inputs:
            if type(i) is not Var:
                args.append(i.value)
            else:
                args.append(known[i] if i in known else Undefined(i.aval))
        found = rule(eqn.op, "transpose", eqn.source)(
            tuple(out_cts) if eqn.op.multiple else out_cts[0], *args, **eqn.params
        )
        if len(args) == 1 and type(found) not in (tuple, list):
            found = (found,)
        for i, a, c in zip(eqn.inputs, args, found, strict=True):
            if type(a) is Undefined:
                give(i, c)
    return [cts.get(v) for v in graph.inputs[len(residuals) :]]


def transpose_graph(
    graph: Graph, known: tuple[bool, ...], nonzero: tuple[bool, ...], linearize_first
) -> tuple[Graph, tuple[bool, ...]]:
    """The graph (known inputs, nonzero cotangents of results) -> nonzero cotangents of unknown inputs.

    Also returns which unknown inputs have one. `linearize_first(known_values) -> (graph, residuals)` gives
    the linear part of `graph` at known values: some equations may be computed from known inputs alone.
    """

    def make():
        mask: list[bool] = []

        def fn(*args):
            n = sum(known)
            linear, residuals = linearize_first(args[:n])
            rest = iter(args[n:])
            found = backward(linear, residuals, [next(rest) if z else None for z in nonzero])
            mask[:] = [c is not None for c in found]
            return [c for c in found if c is not None]

        avals = [a for a, k in zip(graph.in_avals, known, strict=True) if k]
        avals += [a for a, z in zip(graph.out_avals, nonzero, strict=True) if z]
        out, captured = trace(fn, avals, "transposition")
        assert not captured
        return out, tuple(mask)

    return graph.cached(("transpose", known, nonzero), make)
