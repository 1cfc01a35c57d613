"""`composite`: a graph under a name that a compiler may know."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from bevel.control.call import call, merge, pick, transpose_call
from bevel.core.graph import evaluate
from bevel.core.op import Op
from bevel.transforms.jvp import jvp_graph
from bevel.transforms.vmap import batch_graph


def _attribute(value: Any) -> str:
    """A Python value in MLIR's syntax."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value} : i64"
    if isinstance(value, float):
        return f"{np.float32(value):.9e} : f32"
    if isinstance(value, tuple):
        return f"[{', '.join([_attribute(v) for v in value])}]"
    return json.dumps(value)


def _lower(b, *vals, graph, name, version, attributes):
    def body(inner, *xs):
        return tuple(inner.lower(graph, xs))

    avals = [v.aval for v in vals]
    outs = list(b.outs)
    fn = b.function(("composite", id(graph), *avals), avals, outs, body, prefix="composite")
    pairs = ", ".join([f"{key} = {_attribute(v)}" for key, v in attributes])
    attrs = (
        f"name = {json.dumps(name)}, decomposition = @{fn}, version = {version} : i32, "
        f"composite_attributes = {{{pairs}}}"
    )
    return b.op("composite", *vals, attrs=attrs, out=outs)


def _jvp(ctx, primals, tangents, *, graph, name, **params):
    """The derivative has no name of its own: it is that of the graph."""
    nonzero = tuple(t is not None for t in tangents)
    g, mask = jvp_graph(graph, nonzero)
    outs = call(*primals, *pick(nonzero, tangents), graph=g, name=name)
    n = len(graph.outputs)
    return outs[:n], merge(mask, outs[n:], [None] * (n - sum(mask)))


def _batch(axis, args, batched, *, graph, name, **params):
    g, mask = batch_graph(graph, axis, tuple(batched))
    return call(*args, graph=g, name=name), mask


def _transpose(cts, *args, graph, name, **params):
    return transpose_call(call, cts, args, graph, {"name": name})


def _check(checks, args, params):
    """A graph with more results is not what the name stands for."""
    inner = checks.graph(params["graph"], args)
    if inner is None:
        return checks.plain(composite, args, params)
    outs = call(*args, graph=inner.graph, name=params["name"])
    return checks.take(outs, inner.width, inner.clean)


composite = Op(
    "composite",
    check=_check,
    abstract=lambda *avals, graph, **params: tuple(graph.out_avals),
    reference=lambda *xs, graph, **params: tuple(evaluate(graph, xs)),
    lower=_lower,
    jvp=_jvp,
    transpose=_transpose,
    batch=_batch,
    multiple=True,
    compile_above=-1,
)
"""Run `graph` on the operands, as StableHLO's composite of this name, version and attributes: pairs
of a name and a number, string or tuple of them.
"""
