"""`call`: run a graph. What `jit` becomes inside other transforms, and `remat`, which recomputes
it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bevel.core.graph import Graph, evaluate, live_equations, trace_closed
from bevel.core.interpreter import Interpreter, run_under, state
from bevel.core.op import Op, is_undefined
from bevel.transforms.jvp import jvp_graph
from bevel.transforms.linearize import PartialBuilder, partial_eval_graph
from bevel.transforms.transpose import transpose_graph
from bevel.transforms.vmap import batch_graph


def merge(mask: Sequence[bool], yes: Sequence[Any], no: Sequence[Any]) -> list[Any]:
    """Interleave two lists: from `yes` where the mask is true."""
    a, b = iter(yes), iter(no)
    return [next(a) if m else next(b) for m in mask]


def pick(mask: Sequence[bool], values: Sequence[Any]) -> list[Any]:
    """The values where the mask is true."""
    return [v for m, v in zip(mask, values, strict=True) if m]


def drop(mask: Sequence[bool], values: Sequence[Any]) -> list[Any]:
    """The values where the mask is false."""
    return [v for m, v in zip(mask, values, strict=True) if not m]


def indices(mask: Sequence[bool]) -> list[int]:
    """Where the mask is true."""
    return [i for i, m in enumerate(mask) if m]


def prune(graph: Graph, used: Sequence[bool]) -> tuple[Graph, list[int]]:
    """A graph with only some results, and the indices of the inputs it still needs."""

    def make():
        outputs = pick(used, graph.outputs)
        eqns = live_equations(graph.eqns, outputs)
        needed = {v for e in eqns for v in e.inputs} | set(outputs)
        keep = [i for i, v in enumerate(graph.inputs) if v in needed]
        return Graph([graph.inputs[i] for i in keep], eqns, outputs), keep

    return graph.cached(("prune", tuple(used)), make)


def linear_part(
    graph: Graph, known: tuple[bool, ...]
) -> Callable[[Sequence[Any]], tuple[Graph, list[Any]]]:
    """For `transpose_graph`: evaluate what known inputs determine, record the rest."""
    from_unknown = tuple(not k for k in known)

    def at(values: Sequence[Any]) -> tuple[Graph, list[Any]]:
        split = partial_eval_graph(graph, from_unknown, (True,) * len(graph.outputs))
        outs = evaluate(split.known, values)
        _, residuals = split.residuals(values, outs)
        return split.linear, residuals

    return at


def _abstract(*avals, graph, name):
    return tuple(graph.out_avals)


def _lower(b, *vals, graph, name):
    return tuple(b.lower(graph, vals))


def _jvp(ctx, primals, tangents, *, graph, name):
    nonzero = tuple(t is not None for t in tangents)
    g, mask = jvp_graph(graph, nonzero)
    outs = call(*primals, *pick(nonzero, tangents), graph=g, name=name)
    n = len(graph.outputs)
    return outs[:n], merge(mask, outs[n:], [None] * (n - sum(mask)))


def _partial(builder: PartialBuilder, args, unknown, params):
    split = partial_eval_graph(params["graph"], unknown)
    known_args = drop(unknown, args)
    outs = run_under(builder.outer, call, tuple(known_args), {**params, "graph": split.known})
    known_outs, residuals = split.residuals(known_args, outs)
    linear = builder.record(
        call, [*residuals, *pick(unknown, args)], {**params, "graph": split.linear}
    )
    return tuple(merge(split.out_unknown, linear, known_outs))


def transpose_call(op: Op, cts, args, graph: Graph, params: dict[str, Any]) -> list[Any]:
    """Cotangents of the operands of an op that holds one graph."""
    known = tuple(not is_undefined(a) for a in args)
    nonzero = tuple(c is not None for c in cts)
    g, mask = transpose_graph(graph, known, nonzero, linear_part(graph, known))
    outs = op(*pick(known, args), *pick(nonzero, cts), graph=g, **params)
    found = merge(mask, outs, [None] * (len(mask) - sum(mask)))
    return merge(known, [None] * sum(known), found)


def _transpose(cts, *args, graph, name):
    return transpose_call(call, cts, args, graph, {"name": name})


def _batch(axis, args, batched, *, graph, name):
    g, mask = batch_graph(graph, axis, tuple(batched))
    return call(*args, graph=g, name=name), mask


def check_graph(op: Callable[[], Op], field: str = "graph") -> Callable[..., Sequence[Any]]:
    """The `check` rule of an op that evaluates one graph on its operands once."""
    return lambda checks, args, params: checks.through(op(), args, params, field)


def _dce(params, used):
    graph, keep = prune(params["graph"], used)
    return {**params, "graph": graph}, keep, indices(used)


call: Op = Op(
    "call",
    check=check_graph(lambda: call),
    abstract=_abstract,
    reference=lambda *xs, graph, name: tuple(evaluate(graph, xs)),
    lower=_lower,
    jvp=_jvp,
    transpose=_transpose,
    batch=_batch,
    partial=_partial,
    dce=_dce,
    multiple=True,
    compile_above=-1,
)
"""Run `graph` (a closed `Graph`) on the operands; `name` is what profiles and printouts show."""


# -- remat ---------------------------------------------------------------------------------------


def _remat_jvp(ctx, primals, tangents, *, graph, **params):
    nonzero = tuple(t is not None for t in tangents)
    g, mask = jvp_graph(graph, nonzero)
    outs = remat(*primals, *pick(nonzero, tangents), graph=g, **params)
    n = len(graph.outputs)
    return outs[:n], merge(mask, outs[n:], [None] * (n - sum(mask)))


def _remat_partial(builder: PartialBuilder, args, unknown, params):
    """Known results are computed now; the recorded part starts again from the inputs.

    With a policy, values it says to save are computed now and handed over as well.
    """
    graph, policy = params["graph"], params["policy"]
    recorded = {"policy": None, "prevent_cse": params["prevent_cse"]}
    split = partial_eval_graph(graph, unknown)
    known_args = drop(unknown, args)
    saved = saveable_graph(graph, unknown, policy) if policy is not None else None
    if saved is None:
        n = sum(not u for u in split.out_unknown)
        known_only, needed = prune(split.known, [i < n for i in range(len(split.known.outputs))])
        outs = run_under(
            builder.outer,
            call,
            tuple(known_args[i] for i in needed),
            {"graph": known_only, "name": "remat"},
        )
        rest, kept = prune(graph, split.out_unknown)
        inputs = [args[i] for i in kept]
        linear = builder.record(remat, inputs, {"graph": rest, **recorded})
        return tuple(merge(split.out_unknown, linear, outs))
    first, second, out_unknown = saved
    n_known = len(out_unknown) - sum(out_unknown)
    outs = run_under(builder.outer, call, tuple(known_args), {"graph": first, "name": "remat"})
    rest, kept = prune(second, (True,) * len(second.outputs))
    inputs = [*outs[n_known:], *args]
    linear = builder.record(remat, [inputs[i] for i in kept], {"graph": rest, **recorded})
    return tuple(merge(out_unknown, linear, outs[:n_known]))


class _Inline(Interpreter):
    """Runs the ops of jitted functions one by one."""

    __slots__ = ()

    def run(self, op, args, params):
        if op is call:
            return tuple(evaluate(params["graph"], args))
        return run_under(self.outer, op, args, params)


def inlined(graph: Graph) -> Graph:
    """The graph with the calls in it replaced by what they call."""
    if not any(e.op is call for e in graph.eqns):
        return graph

    def fn(*args):
        with _Inline(state.current, "remat"):
            return evaluate(graph, args)

    return trace_closed(fn, graph.in_avals, "remat")


def saveable_graph(whole: Graph, unknown: tuple[bool, ...], policy):
    """Split for a policy: (known inputs -> known results + saved values), (saved + inputs ->
    unknown results).

    Walks the equations once: those that depend on unknown inputs stay; of the known ones the
    policy says
    which results are saved, also inside jitted functions. Also returns which results are unknown;
    None
    when it saves nothing.
    """

    def make():
        graph = inlined(whole)
        dependent = {v for v, u in zip(graph.inputs, unknown, strict=True) if u}
        known_eqns, saved = [], []
        for eqn in graph.eqns:
            if any(i in dependent for i in eqn.inputs):
                dependent.update(eqn.outputs)
            else:
                known_eqns.append(eqn)
                if policy(eqn.op, *[i.aval for i in eqn.inputs], **eqn.params):
                    saved += eqn.outputs
        if not saved:
            return None
        results = [o for o in graph.outputs if o not in dependent]
        known_in = [v for v, u in zip(graph.inputs, unknown, strict=True) if not u]
        first = Graph(known_in, live_equations(known_eqns, results + saved), results + saved)
        given = set(saved)
        rest = [e for e in graph.eqns if not all(o in given for o in e.outputs)]
        targets = [o for o in graph.outputs if o in dependent]
        second = Graph(saved + graph.inputs, live_equations(rest, targets), targets)
        return first, second, tuple(o in dependent for o in graph.outputs)

    return whole.cached(("saveable", unknown, policy), make)


def _remat_transpose(cts, *args, graph, policy, prevent_cse):
    if prevent_cse:
        return transpose_call(remat_backward, cts, args, graph, {})
    return transpose_call(call, cts, args, graph, {"name": "remat"})


def _remat_batch(axis, args, batched, *, graph, **params):
    g, mask = batch_graph(graph, axis, tuple(batched))
    return remat(*args, graph=g, **params), mask


def _barrier_lower(b, *vals, graph):
    """Inputs pass a barrier, or XLA would merge the recomputation with the first computation."""
    return tuple(b.lower(graph, b.optimization_barrier(vals)))


remat: Op = Op(
    "remat",
    check=check_graph(lambda: remat),
    abstract=lambda *avals, graph, policy, prevent_cse: tuple(graph.out_avals),
    reference=lambda *xs, graph, policy, prevent_cse: tuple(evaluate(graph, xs)),
    lower=lambda b, *vals, graph, policy, prevent_cse: tuple(b.lower(graph, vals)),
    jvp=_remat_jvp,
    transpose=_remat_transpose,
    batch=_remat_batch,
    partial=_remat_partial,
    dce=_dce,
    multiple=True,
    compile_above=-1,
)
"""`call` whose intermediate values are not kept for the backward pass but computed again there.

`policy(op, *avals, **params) -> bool` says which results to keep all the same; None keeps none.
`prevent_cse` keeps XLA from merging the recomputation with the first computation.
"""

remat_backward: Op = Op(
    "remat_backward",
    check=check_graph(lambda: remat_backward),
    abstract=lambda *avals, graph: tuple(graph.out_avals),
    reference=lambda *xs, graph: tuple(evaluate(graph, xs)),
    lower=_barrier_lower,
    jvp=lambda ctx, primals, tangents, *, graph: _jvp(
        ctx, primals, tangents, graph=graph, name="remat"
    ),
    transpose=lambda cts, *args, graph: transpose_call(remat_backward, cts, args, graph, {}),
    batch=lambda axis, args, batched, *, graph: _batch(
        axis, args, batched, graph=graph, name="remat"
    ),
    partial=lambda builder, args, unknown, params: _partial(
        builder, args, unknown, {"graph": params["graph"], "name": "remat"}
    ),
    dce=_dce,
    multiple=True,
    compile_above=-1,
)
"""The backward pass of `remat`: recomputes, then transposes."""
