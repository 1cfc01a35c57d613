"""Forward-mode differentiation: an interpreter over pairs of a primal and a tangent.

A tangent is a value of the primal's shape and dtype; None stands for zero, so that work on zeros is
never done. Integers and booleans have no tangents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bevel.core.aval import aval_of
from bevel.core.dtypes import is_inexact
from bevel.core.graph import Graph, evaluate, trace_closed
from bevel.core.interpreter import Interpreter, Tracer, run_under, state
from bevel.core.op import linear, multilinear, rule, zero_tangent
from bevel.ops import add, zeros


class JVPTracer(Tracer):
    """A primal with a tangent that is not known to be zero."""

    __slots__ = ("primal", "tangent")

    def __init__(self, interp: Interpreter, primal: Any, tangent: Any):
        self.interp = interp
        self.aval = aval_of(primal)
        self.primal = primal
        self.tangent = tangent

    @property
    def source(self):
        return getattr(self.primal, "source", None)


class JVPContext:
    """What a per-operand jvp rule may look at besides its operands."""

    __slots__ = ("out",)

    def __init__(self, out: Any):
        self.out = out


def add_tangents(a: Any, b: Any) -> Any:
    """Sum of two tangents or cotangents; None is zero."""
    if a is None or b is None:
        return b if a is None else a
    return add(a, b)


def instantiate(tangent: Any, primal: Any) -> Any:
    """A tangent as a value: zeros where it is symbolically zero."""
    return zeros(aval_of(primal)) if tangent is None else tangent


def apply_jvp(op, primals: Sequence[Any], tangents: Sequence[Any], params: dict[str, Any]):
    """Primal result(s) and tangent(s) of one op under the current interpreter."""
    jvp = rule(op, "jvp")
    if jvp is zero_tangent:
        out = op(*primals, **params)
        return out, (None,) * len(out) if op.multiple else None
    if jvp is linear:
        full = [instantiate(t, p) for t, p in zip(tangents, primals, strict=True)]
        return op(*primals, **params), op(*full, **params)
    if callable(jvp):
        return jvp(JVPContext(None), primals, tangents, **params)
    ctx = JVPContext(op(*primals, **params))
    total = None
    for i, t in enumerate(tangents):
        if t is None:
            continue
        if jvp is multilinear:
            part = op(*primals[:i], t, *primals[i + 1 :], **params)
        else:
            one = jvp[i] if len(jvp) == len(primals) else jvp[0]
            part = None if one is None else one(ctx, t, *primals, **params)
        total = add_tangents(total, part)
    return ctx.out, total


class JVP(Interpreter):
    """Evaluates every op on primals and tangents at once."""

    __slots__ = ()

    def run(self, op, args, params):
        primals, tangents, mine = [], [], False
        for a in args:
            if type(a) is JVPTracer and a.interp is self:
                primals.append(a.primal)
                tangents.append(a.tangent)
                mine = True
            else:
                primals.append(a)
                tangents.append(None)
        if not mine:
            return run_under(self.outer, op, args, params)
        saved = state.current
        state.current = self.outer
        try:
            outs, touts = apply_jvp(op, primals, tangents, params)
        finally:
            state.current = saved
        if not op.multiple:
            return self.pair(outs, touts)
        return tuple([self.pair(p, t) for p, t in zip(outs, touts, strict=True)])

    def pair(self, primal: Any, tangent: Any) -> Any:
        return primal if tangent is None else JVPTracer(self, primal, tangent)

    def split(self, value: Any) -> tuple[Any, Any]:
        """The primal and the tangent of a value."""
        if type(value) is JVPTracer and value.interp is self:
            return value.primal, value.tangent
        return value, None


def jvp(
    fn: Callable[..., Sequence[Any]],
    primals: Sequence[Any],
    tangents: Sequence[Any],
    what: str = "jvp",
):
    """Results of `fn(*primals)` and their tangents (None: zero).

    `fn` maps values to a list of values; a None tangent is zero.
    """
    interp = JVP(state.current, what)
    with interp:
        outs = fn(*[interp.pair(p, t) for p, t in zip(primals, tangents, strict=True)])
    pairs = [interp.split(o) for o in outs]
    return [p for p, _ in pairs], [t for _, t in pairs]


def jvp_graph(
    graph: Graph, nonzero: tuple[bool, ...], force: tuple[bool, ...] | None = None
) -> tuple[Graph, tuple[bool, ...]]:
    """The graph of the jvp: (primals, nonzero tangents) -> (results, nonzero tangents of results).

    `force` marks results whose tangent is wanted even when it is zero. Also returns which have one.
    """

    def make():
        mask: list[bool] = []

        def fn(*args):
            primals = args[: len(graph.inputs)]
            rest = iter(args[len(graph.inputs) :])
            outs, touts = jvp(
                lambda *xs: evaluate(graph, xs),
                primals,
                [next(rest) if n else None for n in nonzero],
            )
            if force is not None:
                touts = [
                    instantiate(t, p) if f and is_inexact(p.dtype) else t
                    for t, p, f in zip(touts, outs, force, strict=True)
                ]
            mask[:] = [t is not None for t in touts]
            return outs + [t for t in touts if t is not None]

        avals = graph.in_avals
        avals += [a for a, n in zip(avals, nonzero, strict=True) if n]
        return trace_closed(fn, avals, "jvp"), tuple(mask)

    return graph.cached(("jvp", nonzero, force), make)
