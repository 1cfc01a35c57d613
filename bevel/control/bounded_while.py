"""`bounded_while`: a `while_loop` of so many steps at most, which reverse mode can run backwards.

It keeps a few states, the checkpoints, and runs the steps between two of them again. All of it is
made of ops there are: a loop of `m * k` steps is a `scan` over m loops of k steps, and what a scan
keeps of each of its steps is the state that it starts from.

Source: Griewank and Walther, "Revolve", 2000 (checkpoints); Chen et al., "Training deep nets with
sublinear memory cost", 2016 (sqrt(n) of them).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from bevel.control.call import drop, merge, pick
from bevel.control.scan import scan
from bevel.control.while_loop import (
    fixpoint,
    loop_batch,
    loop_check,
    loop_dce,
    loop_jvp,
    loop_partial,
    lower_while,
    split,
)
from bevel.core.aval import Aval, aval_of
from bevel.core.dtypes import bool_, int32
from bevel.core.graph import Graph, evaluate, trace_closed
from bevel.core.interpreter import to_numpy
from bevel.core.op import Op, is_undefined
from bevel.ops import (
    add,
    and_,
    argmax,
    broadcast_in_dim,
    convert,
    dynamic_slice,
    lt,
    select,
    stop_gradient,
    zeros,
)
from bevel.transforms.linearize import partial_eval_graph, record_linear
from bevel.transforms.transpose import backward


def chunks(steps: int) -> tuple[int, int]:
    """(m, k): how many chunks of how many steps to cut a loop into; m * k is at least `steps`.

    >>> chunks(100), chunks(101)
    ((10, 10), (11, 10))
    """
    m = math.isqrt(steps - 1) + 1
    return m, -(-steps // m)


def limited(cond: Graph, body: Graph, n_cond: int, n_body: int, steps: int) -> tuple[Graph, Graph]:
    """The condition and the body of the loop that stops after so many steps: the first part of its
    carry is a counter, an int32 that starts at 0.
    """

    def going(*xs):
        i = xs[n_cond]
        found = evaluate(cond, [*xs[:n_cond], *xs[n_cond + 1 :]])[0]
        return [and_(lt(i, np.asarray(steps, np.int32)), found)]

    def step(*xs):
        i = xs[n_body]
        new = evaluate(body, [*xs[:n_body], *xs[n_body + 1 :]])
        return [add(i, np.asarray(1, np.int32)), *new]

    def counted(graph: Graph, n: int) -> list[Aval]:
        avals = graph.in_avals
        return [*avals[:n], Aval((), int32), *avals[n:]]

    def make():
        return (
            trace_closed(going, counted(cond, n_cond), "while_loop"),
            trace_closed(step, counted(body, n_body), "while_loop"),
        )

    return body.cached(("limited", cond, n_cond, n_body, steps), make)


def _reference(*args, cond, body, n_cond, n_body, levels):
    cond_consts, consts, carry = split(args, n_cond, n_body)
    for _ in range(math.prod(levels)):
        if not to_numpy(evaluate(cond, [*cond_consts, *carry])[0]):
            break
        carry = evaluate(body, [*consts, *carry])
    return tuple(carry)


def _lower(b, *vals, cond, body, n_cond, n_body, levels):
    cond_consts, consts, carry = split(vals, n_cond, n_body)
    if levels:
        steps = min(math.prod(levels), np.iinfo(np.int32).max)
        cond, body = limited(cond, body, n_cond, n_body, steps)
        start = b.constant(np.asarray(0, np.int32))
        graphs = {"cond": cond, "body": body}
        operands = (*cond_consts, *consts, start, *carry)
        return lower_while(b, *operands, **graphs, n_cond=n_cond, n_body=n_body)[1:]
    going = b.convert(b.lower(cond, [*cond_consts, *carry])[0], int32)
    branches = [
        lambda b2: tuple(carry),
        lambda b2: tuple(b2.lower(body, [*consts, *carry])),
    ]
    return tuple(b.case(going, branches))


def _rows_that_go_on(keep: Any, values: Sequence[Any], batched: Sequence[bool]) -> list[Any]:
    """The values, with one of the rows that go on in the place of those that have ended.

    What the body makes of rows that have ended is thrown away. But at the end of an iteration its
    derivative is often infinite (that of the norm of a difference, at 0), and 0 * inf, NaN, would
    get into the gradient.
    """
    if keep.shape[0] < 2:
        return list(values)
    first = argmax(convert(keep, dtype=int32), axis=0, index_dtype=int32)

    def replaced(x: Any) -> Any:
        shape = tuple(x.shape)
        at = (first, *[np.asarray(0, np.int32)] * (len(shape) - 1))
        row = dynamic_slice(stop_gradient(x), *at, sizes=(1, *shape[1:]))
        every = broadcast_in_dim(row, shape=shape, dims=tuple(range(len(shape))))
        return select(broadcast_in_dim(keep, shape=shape, dims=(0,)), x, every)

    return [replaced(x) if b else x for x, b in zip(values, batched, strict=True)]


def _batch(axis, args, batched, **params):
    # Rows that a collective brings together must be what they are.
    own = axis.name is None or axis.name not in params["body"].axis_names
    feed = {"feed": _rows_that_go_on} if own else {}
    return loop_batch(bounded_while, axis, args, batched, **params, **feed)


def _as_scan(cond: Graph, body: Graph, n_cond: int, n_body: int, levels: tuple[int, ...]):
    """The parameters of the same loop as a `scan` over its chunks, on the same operands."""

    def chunk(*xs):
        graphs = {"cond": cond, "body": body, "levels": levels[1:]}
        return bounded_while(*xs, n_cond=n_cond, n_body=n_body, **graphs)

    def make():
        return trace_closed(chunk, [*cond.in_avals[:n_cond], *body.in_avals], "while_loop")

    return {
        "body": body.cached(("chunk", cond, n_cond, n_body, levels), make),
        "length": levels[0],
        "reverse": False,
        "unroll": 1,
        "n_consts": n_cond + n_body,
        "n_carry": len(body.outputs),
    }


def _partial(builder, args, unknown, params):
    """The outer loop becomes a scan, which keeps the state at the start of each chunk. A chunk
    keeps no more: the recorded one starts again from there.
    """
    if len(params["levels"]) < 2:
        return loop_partial(bounded_while, builder, args, unknown, params)
    return scan.partial(builder, args, unknown, _as_scan(**params))


def _transpose(cts, *args, cond, body, n_cond, n_body, levels):
    """If the loop makes a step at all (else the cotangents pass): a chunk as a scan over single
    steps, which keeps all their states and runs backwards; of a single step, the body's transpose.
    """
    undefined = [is_undefined(a) for a in args]
    _, consts_l, given_l = (tuple(x) for x in split(undefined, n_cond, n_body))
    cond_consts, consts, carry = split(args, n_cond, n_body)
    carry_l = fixpoint(given_l, lambda f: partial_eval_graph(body, consts_l + f).out_unknown)
    known = [*cond_consts, *drop(consts_l, consts), *drop(carry_l, carry)]
    const_avals = [a.aval for a in pick(consts_l, consts)]
    carry_avals = [aval_of(a) for a in pick(carry_l, carry)]
    n_known, n_lc = len(known), len(const_avals)

    def run(*xs):
        if levels:
            return scan(*xs, **_as_scan(cond, body, n_cond, n_body, levels))
        return evaluate(body, xs[n_cond:])

    def back(*flat):
        given = iter(flat)
        k_cond, k_consts, k_carry, ct_consts, ct_carry = (
            list(itertools.islice(given, n))
            for n in (n_cond, consts_l.count(False), carry_l.count(False), n_lc, len(carry_avals))
        )

        def forward(*linear):
            all_consts = merge(consts_l, linear[:n_lc], k_consts)
            return pick(carry_l, run(*k_cond, *all_consts, *merge(carry_l, linear[n_lc:], k_carry)))

        graph, residuals = record_linear(forward, const_avals + carry_avals)
        found = backward(graph, residuals, ct_carry)
        summed = [
            c if f is None else add(c, f) for c, f in zip(ct_consts, found[:n_lc], strict=True)
        ]
        rest = zip(found[n_lc:], carry_avals, strict=True)
        return [*summed, *[zeros(a) if f is None else f for f, a in rest]]

    def make():
        ct_avals = const_avals + carry_avals
        return (
            trace_closed(lambda going, *_: [going], [Aval((), bool_), *ct_avals], "transposition"),
            trace_closed(back, [*map(aval_of, known), *ct_avals], "transposition"),
        )

    key = ("while transpose", cond, n_cond, n_body, levels, consts_l, carry_l)
    going, graph = body.cached(key, make)
    wanted = pick(carry_l, cts)
    outs = bounded_while(
        evaluate(cond, [*cond_consts, *carry])[0],
        *known,
        *[zeros(a) for a in const_avals],
        *[zeros(a) if c is None else c for c, a in zip(wanted, carry_avals, strict=True)],
        cond=going,
        body=graph,
        n_cond=1,
        n_body=n_known,
        levels=(),
    )
    found = merge(carry_l, outs[n_lc:], [None] * carry_l.count(False))
    return [
        *[None] * n_cond,
        *merge(consts_l, outs[:n_lc], [None] * consts_l.count(False)),
        *[c if given else None for c, given in zip(found, given_l, strict=True)],
    ]


bounded_while: Op = Op(
    "bounded_while",
    check=lambda *args: loop_check(bounded_while, *args),
    abstract=lambda *avals, cond, body, n_cond, n_body, levels: tuple(avals[n_cond + n_body :]),
    reference=_reference,
    lower=_lower,
    jvp=lambda *args, **params: loop_jvp(bounded_while, *args, **params),
    transpose=_transpose,
    batch=_batch,
    partial=_partial,
    dce=loop_dce,
    multiple=True,
    compile_above=-1,
)
"""Params: those of `while_loop`, and `levels`: (m, k) for a loop of at most m * k steps in m
chunks, (k,) for a chunk, () for a single step. In a batch whose rows stop at different steps, steps
are made until the last one has.
"""
