"""`cond`: run one of several graphs, chosen by an int32 index (clamped to the branches there
are).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bevel.control.call import drop, indices, linear_part, merge, pick, prune
from bevel.control.scan import scan
from bevel.core.aval import Aval, aval_of
from bevel.core.graph import Graph, evaluate, trace_closed
from bevel.core.interpreter import run_under
from bevel.core.op import Op, is_undefined
from bevel.ops import broadcast_in_dim, eq, lt, select, zeros
from bevel.transforms.jvp import jvp_graph
from bevel.transforms.linearize import PartialBuilder, partial_eval_graph
from bevel.transforms.transpose import backward
from bevel.transforms.vmap import batch_graph, with_batch_axis


def _union(masks) -> tuple[bool, ...]:
    return tuple(any(flags) for flags in zip(*masks, strict=True))


def _abstract(index, *avals, branches):
    return tuple(branches[0].out_avals)


def _reference(index, *args, branches):
    return tuple(evaluate(branches[int(np.clip(index, 0, len(branches) - 1))], args))


def _lower(b, index, *vals, branches):
    known = b.known(index)
    if known is not None:
        return tuple(b.lower(branches[int(np.clip(known, 0, len(branches) - 1))], vals))
    # XLA takes the last branch for any index out of range, also a negative one.
    first, last = (b.constant(np.asarray(i, np.int32)) for i in (0, len(branches) - 1))
    fns = [lambda b2, g=g: tuple(b2.lower(g, vals)) for g in branches]
    return tuple(b.case(b.clamp(first, index, last), fns))


def _jvp(ctx, primals, tangents, *, branches):
    nonzero = tuple(t is not None for t in tangents[1:])
    n = len(branches[0].outputs)
    mask = _union(jvp_graph(g, nonzero)[1] for g in branches)
    graphs = tuple(jvp_graph(g, nonzero, mask)[0] for g in branches)
    outs = cond(*primals, *pick(nonzero, tangents[1:]), branches=graphs)
    return outs[:n], merge(mask, outs[n:], [None] * (n - sum(mask)))


def _batch(axis, args, batched, *, branches):
    index, *operands = args
    flags = tuple(batched[1:])
    if batched[0]:
        return _batch_all(axis, index, operands, flags, branches)
    mask = _union(batch_graph(g, axis, flags)[1] for g in branches)
    graphs = tuple(batch_graph(g, axis, flags, mask)[0] for g in branches)
    return cond(index, *operands, branches=graphs), mask


def _batch_all(axis, index, operands, flags, branches):
    """Rows choose different branches: run all of them and select; but branches with effects are
    run row by row, so that a row has those of its own branch only.
    """
    force = (True,) * len(branches[0].outputs)
    names = frozenset().union(*[g.axis_names for g in branches])
    if any(g.effect for g in branches) and axis.name not in names:
        return _row_by_row(axis, index, operands, flags, branches), force
    results = [evaluate(batch_graph(g, axis, flags, force)[0], operands) for g in branches]
    outs = results[-1]
    for i in reversed(range(len(branches) - 1)):
        chosen = eq(index, with_batch_axis(np.asarray(i, np.int32), axis))
        if i == 0:
            negative = select(chosen, chosen, _is_negative(index, axis))
            chosen = negative
        outs = [
            select(broadcast_in_dim(chosen, shape=tuple(r.shape), dims=(0,)), r, o)
            for r, o in zip(results[i], outs, strict=True)
        ]
    return tuple(outs), force


def _row_by_row(axis, index, operands, flags, branches):
    fixed, rows = drop(flags, operands), pick(flags, operands)

    def body(*xs):
        n = len(fixed)
        return list(cond(xs[n], *merge(flags, xs[n + 1 :], xs[:n]), branches=branches))

    each = [Aval(tuple(r.shape)[1:], r.dtype) for r in (index, *rows)]
    graph = trace_closed(body, [*map(aval_of, fixed), *each], "vmap")
    return scan(
        *fixed,
        index,
        *rows,
        body=graph,
        length=int(axis),
        reverse=False,
        unroll=1,
        n_consts=len(fixed),
        n_carry=0,
    )


def _is_negative(index: Any, axis: int) -> Any:
    return lt(index, with_batch_axis(np.asarray(0, np.int32), axis))


def _partial(builder: PartialBuilder, args, unknown, params):
    """Each branch is cut; the known halves return every branch's residuals, zeros for those not
    taken.
    """
    branches = params["branches"]
    index, *operands = args
    flags = tuple(unknown[1:])
    mask = _union(partial_eval_graph(g, flags).out_unknown for g in branches)
    splits = [partial_eval_graph(g, flags, mask) for g in branches]
    known_args = drop(flags, operands)
    n_known = mask.count(False)
    avals = [[v.aval for v in s.linear.inputs[: len(s.forwarded)]] for s in splits]

    def with_residuals(which: int) -> Graph:
        split = splits[which]

        def fn(*xs):
            outs, residuals = split.residuals(xs, evaluate(split.known, xs))
            for i, group in enumerate(avals):
                outs += residuals if i == which else [zeros(a) for a in group]
            return outs

        return trace_closed(fn, split.known.in_avals, "partial evaluation")

    def linear_only(which: int) -> Graph:
        total = sum(map(len, avals))
        start = sum(map(len, avals[:which]))

        def fn(*xs):
            return evaluate(
                splits[which].linear, [*xs[start : start + len(avals[which])], *xs[total:]]
            )

        every = [a for group in avals for a in group]
        lin_avals = [a for a, u in zip(branches[0].in_avals, flags, strict=True) if u]
        return trace_closed(fn, every + lin_avals, "partial evaluation")

    def make():
        n = range(len(branches))
        return tuple(map(with_residuals, n)), tuple(map(linear_only, n))

    known, linear = branches[0].cached(("cond partial", branches, flags), make)
    outs = run_under(builder.outer, cond, (index, *known_args), {"branches": known})
    rest = builder.record(
        cond, [index, *outs[n_known:], *pick(flags, operands)], {"branches": linear}
    )
    return tuple(merge(mask, rest, outs[:n_known]))


def _transpose(cts, index, *args, branches):
    known = tuple(not is_undefined(a) for a in args)
    nonzero = tuple(c is not None for c in cts)
    linear_avals = [a.aval for a in args if is_undefined(a)]

    def back(g: Graph) -> Graph:
        def fn(*xs):
            n = sum(known)
            graph, residuals = linear_part(g, known)(xs[:n])
            full = merge(nonzero, xs[n:], [None] * nonzero.count(False))
            found = backward(graph, residuals, full)
            return [zeros(a) if c is None else c for c, a in zip(found, linear_avals, strict=True)]

        avals = [a for a, k in zip(g.in_avals, known, strict=True) if k]
        avals += [a for a, z in zip(g.out_avals, nonzero, strict=True) if z]
        return trace_closed(fn, avals, "transposition")

    key = ("cond transpose", branches, known, nonzero)
    graphs = branches[0].cached(key, lambda: tuple(map(back, branches)))
    outs = cond(index, *pick(known, args), *pick(nonzero, cts), branches=graphs)
    return [None, *merge(known, [None] * sum(known), outs)]


def _dce(params, used):
    """Drop unused results from every branch, and the operands that then no branch needs."""
    branches = params["branches"]
    pruned = [prune(g, used) for g in branches]
    keep = sorted({i for _, kept in pruned for i in kept})
    graphs = tuple(
        Graph([g.inputs[i] for i in keep], small.eqns, small.outputs)
        for g, (small, _) in zip(branches, pruned, strict=True)
    )
    return {"branches": graphs}, [0, *[i + 1 for i in keep]], indices(used)


def _check(checks, args, params):
    index, *operands = args
    inner = [checks.graph(g, operands) for g in params["branches"]]
    if not any(inner):
        return checks.plain(cond, args, params)
    width = max([g.width for g in inner if g is not None])
    graphs = [checks.graph(g, operands, width) for g in params["branches"]]
    clean = [all(flags) for flags in zip(*[g.clean for g in graphs], strict=True)]
    outs = cond(index, *operands, branches=tuple([g.graph for g in graphs]))
    return checks.take(outs, width, clean)


cond = Op(
    "cond",
    check=_check,
    abstract=_abstract,
    reference=_reference,
    lower=_lower,
    jvp=_jvp,
    transpose=_transpose,
    batch=_batch,
    partial=_partial,
    dce=_dce,
    multiple=True,
    compile_above=-1,
)
"""Operands: the int32 index, then those of the branches. Params: `branches`, a tuple of Graphs of
one type.
"""
