"""The backward pass over a linear graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bevel.core.errors import Unsupported
from bevel.core.graph import Eqn, Graph, Var, trace_closed
from bevel.core.interpreter import NotLinear
from bevel.core.op import Undefined, rule
from bevel.core.source import replay, where
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

    def operand(atom: Any) -> Any:
        return Undefined(atom.aval) if type(atom) is Var else atom.value

    for out, ct in zip(graph.outputs, cotangents, strict=True):
        give(out, ct)
    with replay() as source:
        for eqn in reversed(graph.eqns):
            out_cts = [cts.pop(o, None) for o in eqn.outputs]
            if all(c is None for c in out_cts):
                continue
            source.replayed = eqn.source
            args = [known[i] if i in known else operand(i) for i in eqn.inputs]
            found = _transposed(eqn, out_cts, args)
            for i, a, c in zip(eqn.inputs, args, found, strict=True):
                if type(a) is Undefined:
                    give(i, c)
    return [cts.get(v) for v in graph.inputs[len(residuals) :]]


def _transposed(eqn: Eqn, cts: Sequence[Any], args: Sequence[Any]) -> Sequence[Any]:
    """Cotangents of the operands of one equation."""
    transpose = rule(eqn.op, "transpose", eqn.source)
    try:
        found = transpose(tuple(cts) if eqn.op.multiple else cts[0], *args, **eqn.params)
    except NotLinear:
        raise Unsupported(
            f"{eqn.op.name} (written at {where(eqn.source)}) is not linear in its operands here, "
            "so it has no transpose.\nWrite instead: for the derivative of a function that is not "
            "linear, bv.vjp(f, x)."
        ) from None
    return found if len(args) > 1 or type(found) in (tuple, list) else (found,)


def transpose_graph(
    graph: Graph, known: tuple[bool, ...], nonzero: tuple[bool, ...], linearize_first
) -> tuple[Graph, tuple[bool, ...]]:
    """The graph (known inputs, nonzero cotangents of results) -> nonzero cotangents of unknown
    inputs.

    Also returns which unknown inputs have one. `linearize_first(known_values) -> (graph,
    residuals)` gives the linear part of `graph` at known values: some equations may be computed
    from known inputs alone.
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
        return trace_closed(fn, avals, "transposition"), tuple(mask)

    return graph.cached(("transpose", known, nonzero), make)
