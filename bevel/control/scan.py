"""`scan`: a loop of known length that carries state, reads rows of arrays and stacks results.

Operands of `scan`: constants, then the carry, then arrays with a leading axis of `length`. The body
maps (constants, carry, one row of each array) to (carry, one row of each result).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from bevel.control import products
from bevel.control.call import drop, indices, merge, pick, prune
from bevel.control.while_loop import while_loop
from bevel.core.aval import Aval, aval_of
from bevel.core.graph import Graph, Lit, evaluate, live_equations, trace_closed
from bevel.core.interpreter import under
from bevel.core.op import Op, is_undefined
from bevel.ops import (
    add,
    broadcast_in_dim,
    dynamic_slice,
    dynamic_update_slice,
    eq,
    ge,
    gt,
    integer_pow,
    le,
    lt,
    mul,
    ne,
    neg,
    reshape,
    select,
    square,
    sub,
    transpose,
    zeros,
)
from bevel.transforms.jvp import instantiate, jvp_graph
from bevel.transforms.linearize import (
    PartialBuilder,
    Split,
    partial_eval_graph,
    record_linear,
)
from bevel.transforms.transpose import backward
from bevel.transforms.vmap import batch_graph, with_batch_axis


def _int32(n: int) -> np.ndarray:
    return np.asarray(n, np.int32)


def _row(aval: Aval) -> Aval:
    return Aval(aval.shape[1:], aval.dtype)


def _rows(aval: Aval, length: int) -> Aval:
    return Aval((length, *aval.shape), aval.dtype)


# -- scan: meaning and lowering --------------------------------------------------------------------


def _scan_abstract(*avals, body, length, reverse, unroll, n_consts, n_carry):
    outs = body.out_avals
    return tuple(outs[:n_carry]) + tuple(_rows(a, length) for a in outs[n_carry:])


def _scan_reference(*args, body, length, reverse, unroll, n_consts, n_carry):
    consts, carry = args[:n_consts], list(args[n_consts : n_consts + n_carry])
    xs = args[n_consts + n_carry :]
    rows: list[list[np.ndarray]] = [[] for _ in body.outputs[n_carry:]]
    order = range(length - 1, -1, -1) if reverse else range(length)
    for i in order:
        outs = evaluate(
            body, [*consts, *carry, *[x[i] if x.ndim > 1 else np.asarray(x[i]) for x in xs]]
        )
        carry = outs[:n_carry]
        for r, o in zip(rows, outs[n_carry:], strict=True):
            r.append(o)
    ys = []
    for r, v in zip(rows, body.outputs[n_carry:], strict=True):
        stacked = (
            np.stack(r[::-1] if reverse else r) if r else np.zeros((0, *v.aval.shape), v.aval.dtype)
        )
        ys.append(stacked)
    return (*carry, *ys)


def _scan_lowered(*args, body: Graph, length, reverse, unroll, n_consts, n_carry):
    """The same scan for lowering: the products of all steps at once, where they can be, and a
    `while_loop` for the rest.
    """
    p = products.plan(body, length, n_consts, n_carry)
    shared = {"length": length, "reverse": reverse, "unroll": unroll, "n_consts": n_consts}
    if p.empty:
        return _scan_as_while(*args, body=body, n_carry=n_carry, **shared)
    consts, carry, xs = _split(args, n_consts, n_carry)
    kept = [carry[i] for i in p.carried]
    rows = [*xs, *p.before(consts, xs)]
    outs = _scan_as_while(*consts, *kept, *rows, body=p.body, n_carry=len(kept), **shared)
    return p.after(consts, carry, xs, outs)


def _scan_as_while(*args, body: Graph, length, reverse, unroll, n_consts, n_carry):
    """The same loop written with `while_loop`."""
    consts, carry = args[:n_consts], args[n_consts : n_consts + n_carry]
    xs = args[n_consts + n_carry :]
    y_avals = [v.aval for v in body.outputs[n_carry:]]
    unroll = max(1, min(unroll, length))

    def step(i, carry, ys, xs, consts):
        at = sub(_int32(length - 1), i) if reverse else i
        rows = []
        for x in xs:
            starts = (at, *[_int32(0)] * (len(x.shape) - 1))
            rows.append(
                reshape(
                    dynamic_slice(x, *starts, sizes=(1, *x.shape[1:])), shape=tuple(x.shape[1:])
                )
            )
        outs = evaluate(body, [*consts, *carry, *rows])
        new_ys = []
        for y, o in zip(ys, outs[n_carry:], strict=True):
            starts = (at, *[_int32(0)] * len(o.shape))
            new_ys.append(dynamic_update_slice(y, reshape(o, shape=(1, *o.shape)), *starts))
        return add(i, _int32(1)), outs[:n_carry], new_ys

    def loop(count: int, i, carry, ys):
        n_xs = len(xs)

        def body_fn(*flat):
            consts, xs = flat[:n_consts], flat[n_consts : n_consts + n_xs]
            i, *state = flat[n_consts + n_xs :]
            carry, ys = state[:n_carry], state[n_carry:]
            for _ in range(count):
                i, carry, ys = step(i, carry, ys, xs, consts)
            return [i, *carry, *ys]

        stop = length // unroll * unroll if count > 1 or unroll == 1 else length
        avals = [aval_of(v) for v in (*consts, *xs, i, *carry, *ys)]
        inner = trace_closed(body_fn, avals, "scan")
        below = lambda i, *rest: [lt(i, _int32(stop))]  # noqa: E731 (a graph, too)
        cond = trace_closed(below, avals[n_consts + n_xs :], "scan")
        out = while_loop(
            *consts, *xs, i, *carry, *ys, cond=cond, body=inner, n_cond=0, n_body=n_consts + n_xs
        )
        return out[0], out[1 : 1 + n_carry], out[1 + n_carry :]

    ys = [zeros(_rows(a, length)) for a in y_avals]
    i: Any = _int32(0)
    if length >= unroll:
        i, carry, ys = loop(unroll, i, carry, ys)
    if length % unroll:
        i, carry, ys = loop(1, i, carry, ys)
    return [*carry, *ys]


def _scan_lower(b, *vals, **params):
    def make():
        fn = lambda *xs: _scan_lowered(*xs, **params)  # noqa: E731 (a graph of this very loop)
        return trace_closed(fn, [v.aval for v in vals], "scan")

    key = (
        "while",
        tuple(v.aval for v in vals),
        *[params[k] for k in ("length", "reverse", "unroll", "n_consts")],
    )
    return tuple(b.lower(params["body"].cached(key, make), vals))


# -- scan: rules -----------------------------------------------------------------------------------


def _split(args: Sequence[Any], n_consts: int, n_carry: int):
    return (
        list(args[:n_consts]),
        list(args[n_consts : n_consts + n_carry]),
        list(args[n_consts + n_carry :]),
    )


def _interleave(
    graph: Graph, nonzero: Sequence[bool], sizes: Sequence[int], outs: tuple[list[int], list[int]]
):
    """Reorder a jvp graph's inputs (primals, tangents) and results group by group."""
    n = len(nonzero)
    tangent_at = iter(range(n, len(graph.inputs)))
    where = [next(tangent_at) if z else None for z in nonzero]
    order, start = [], 0
    for size in sizes:
        group = range(start, start + size)
        order += [*group, *[where[i] for i in group if where[i] is not None]]
        start += size
    return Graph(
        [graph.inputs[i] for i in order], graph.eqns, [graph.outputs[i] for i in outs[0] + outs[1]]
    )


def _carry_fixpoint(n_consts: int, n_carry: int, flags: list[bool], step):
    """Grow the flags of the carry until `step(flags) -> flags of the carry results` adds none."""
    while True:
        out = step(tuple(flags))
        carry = flags[n_consts : n_consts + n_carry]
        grown = [a or b for a, b in zip(carry, out[:n_carry], strict=True)]
        if grown == carry:
            return tuple(flags)
        flags[n_consts : n_consts + n_carry] = grown


def _scan_jvp(ctx, primals, tangents, *, body, length, reverse, unroll, n_consts, n_carry):
    flags = [t is not None for t in tangents]
    force_none = (False,) * len(body.outputs)

    def carry_flags(flags):
        return jvp_graph(body, flags, force_none)[1]

    nonzero = _carry_fixpoint(n_consts, n_carry, flags, carry_flags)
    carry_nz = nonzero[n_consts : n_consts + n_carry]
    force = tuple(carry_nz) + (False,) * (len(body.outputs) - n_carry)
    plain, mask = jvp_graph(body, nonzero, force)
    n_out = len(body.outputs)
    tangent_of = dict(
        zip([i for i, m in enumerate(mask) if m], range(n_out, len(plain.outputs)), strict=True)
    )
    carry_out = [*range(n_carry), *[tangent_of[i] for i in range(n_carry) if carry_nz[i]]]
    ys_out = [*range(n_carry, n_out), *[tangent_of[i] for i in range(n_carry, n_out) if mask[i]]]
    sizes = (n_consts, n_carry, len(body.inputs) - n_consts - n_carry)
    key = ("scan jvp", nonzero, mask, n_consts, n_carry)
    g = body.cached(key, lambda: _interleave(plain, nonzero, sizes, (carry_out, ys_out)))
    full = [
        instantiate(t, p) if z else None for t, p, z in zip(tangents, primals, nonzero, strict=True)
    ]
    groups = zip(
        _split(primals, n_consts, n_carry),
        _split(full, n_consts, n_carry),
        _split(nonzero, n_consts, n_carry),
        strict=True,
    )
    args = [a for ps, ts, nz in groups for a in (*ps, *pick(nz, ts))]
    outs = scan(
        *args,
        body=g,
        length=length,
        reverse=reverse,
        unroll=unroll,
        n_consts=n_consts + sum(nonzero[:n_consts]),
        n_carry=n_carry + sum(carry_nz),
    )
    carry, carry_t = outs[:n_carry], outs[n_carry : n_carry + sum(carry_nz)]
    rest = outs[n_carry + sum(carry_nz) :]
    ys, ys_t = rest[: n_out - n_carry], rest[n_out - n_carry :]
    return (*carry, *ys), (
        *merge(carry_nz, carry_t, [None] * (n_carry - sum(carry_nz))),
        *merge(mask[n_carry:], ys_t, [None] * (n_out - n_carry - sum(mask[n_carry:]))),
    )


def _scan_batch(axis, args, batched, *, body, length, reverse, unroll, n_consts, n_carry):
    sizes = (n_consts, n_carry)
    flags = _carry_fixpoint(
        n_consts, n_carry, list(batched), lambda f: batch_graph(body, axis, f)[1]
    )
    force = tuple(flags[n_consts : n_consts + n_carry]) + (False,) * (len(body.outputs) - n_carry)
    g, mask = batch_graph(body, axis, flags, force)
    consts, carry, xs = _split(args, *sizes)
    carry_in = _split(batched, *sizes)[1]
    carry_out = mask[:n_carry]
    carry = [
        with_batch_axis(c, axis) if out and not was else c
        for c, was, out in zip(carry, carry_in, carry_out, strict=True)
    ]
    xs_in = batched[n_consts + n_carry :]
    xs = [swap_leading(x) if b else x for x, b in zip(xs, xs_in, strict=True)]
    outs = scan(
        *consts,
        *carry,
        *xs,
        body=g,
        length=length,
        reverse=reverse,
        unroll=unroll,
        n_consts=n_consts,
        n_carry=n_carry,
    )
    ys = [swap_leading(y) if m else y for y, m in zip(outs[n_carry:], mask[n_carry:], strict=True)]
    return (*outs[:n_carry], *ys), mask


def swap_leading(x: Any) -> Any:
    """A value with its first two axes exchanged."""
    from_shape = range(2, len(x.shape))
    return transpose(x, permutation=(1, 0, *from_shape))


def _varying(graph: Graph, n_consts: int) -> set:
    """The variables of a body that may change from step to step."""
    found = set(graph.inputs[n_consts:])
    for e in graph.eqns:
        if e.effect or any(i in found for i in e.inputs):
            found.update(e.outputs)
    return found


CHEAP = frozenset(
    [add, sub, mul, neg, square, integer_pow, select, eq, ne, lt, le, gt, ge, broadcast_in_dim]
)
"""Elementwise ops that cost less than to store their result and read it back."""


class _Residuals:
    """Where each residual of a body comes from.

    A row of an operand or of a known result is taken from there; what does not change from step to
    step is computed `once`, by `first`; what a few cheap ops make of other residuals is computed
    `again` from those; the rest is `stacked`, as further results of `body`, the known scan's.
    """

    def __init__(self, split: Split, n_consts: int, n_carry: int):
        graph = split.known
        n_out = split.out_unknown.count(False)
        computed = iter(graph.outputs[n_out:])
        pool = graph.inputs + graph.outputs[:n_out]
        atoms = [next(computed) if f is None else pool[f] for f in split.forwarded]
        consts = graph.inputs[:n_consts]
        rows = graph.inputs[n_consts + n_carry :] + graph.outputs[n_carry:n_out]
        varying = _varying(graph, n_consts)
        again = _again(graph, {a for a in atoms if a in varying}, rows)
        self.linear = split.linear
        if again.outputs:
            given = [a for a in atoms if a not in again.outputs]
            given += [a for a in again.inputs if a not in given]
            self.linear = _computing_again(again, atoms, given, split.linear)
            atoms = given
        self.once = [a for a in dict.fromkeys(atoms) if a not in varying and a not in consts]
        self.stacked = [a for a in dict.fromkeys(atoms) if a in varying and a not in rows]
        self.fixed = [a not in varying for a in atoms]
        self.atoms = atoms
        self.sources = [*rows, *self.stacked, *self.once, *consts]  # one in two places: the last
        outputs = graph.outputs[:n_out] + self.stacked
        self.body = Graph(graph.inputs, live_equations(graph.eqns, outputs), outputs)
        fixed = [e for e in graph.eqns if not any(o in varying for o in e.outputs) and not e.effect]
        self.first = Graph(consts, live_equations(fixed, self.once), self.once)
        self.n_out = n_out

    def values(self, consts: Sequence[Any], xs: Sequence[Any], ys: Sequence[Any]) -> list[Any]:
        """The residuals that are not derived, from the operands and the stacked results of the
        known scan.
        """
        found = [*xs, *ys, *evaluate(self.first, consts), *consts]
        at = dict(zip(self.sources, found, strict=True))
        return [at[a] for a in self.atoms]


def _again(graph: Graph, wanted: set, rows: Sequence[Any]) -> Graph:
    """Those of the wanted values that at most four cheap ops make of rows and of the other wanted
    ones, as a graph from these.
    """
    made = {o: e for e in graph.eqns for o in e.outputs}
    base, found, work = set(rows), [], {}

    def needed(a: Any) -> dict[Any, None] | None:
        """The equations that make a value, in order; None if one of them is not cheap."""
        if type(a) is Lit or a in base:
            return {}
        e = made.get(a)
        if e is None or e.op not in CHEAP:
            return None
        before = [needed(i) for i in e.inputs]
        if any(b is None for b in before):
            return None
        return {**{k: None for b in before for k in b}, e: None}

    for a in [o for o in made if o in wanted and o not in base]:
        eqns = needed(a)
        if eqns is None or len(eqns) > 4:
            base.add(a)
        else:
            found.append(a)
            work.update(eqns)
    eqns = [e for e in graph.eqns if e in work]
    inputs = dict.fromkeys(i for e in eqns for i in e.inputs if i in base)
    return Graph(list(inputs), eqns, found)


def _computing_again(again: Graph, atoms: list, given: list, linear: Graph) -> Graph:
    """`linear` with the residuals `given` instead of `atoms`, which computes the others first."""

    def fn(*flat):
        at = dict(zip(given, flat, strict=False))
        made = evaluate(again, [at[v] for v in again.inputs])
        at.update(zip(again.outputs, made, strict=True))
        return evaluate(linear, [*[at[a] for a in atoms], *flat[len(given) :]])

    avals = [a.aval for a in given] + [v.aval for v in linear.inputs[len(atoms) :]]
    return trace_closed(fn, avals, "scan")


def _rows_last(linear: Graph, fixed: Sequence[bool], n_middle: int) -> Graph:
    """From (residuals, constants and carry, rows) to the order of a scan's body."""
    n, i = len(fixed), linear.inputs
    inputs = pick(fixed, i[:n]) + i[n : n + n_middle] + drop(fixed, i[:n]) + i[n + n_middle :]
    return Graph(inputs, linear.eqns, linear.outputs)


def _scan_partial(builder: PartialBuilder, args, unknown, params):
    """Known results and residuals come from one scan, the rest from a second, recorded one."""
    body, n_consts, n_carry = params["body"], params["n_consts"], params["n_carry"]
    flags = _carry_fixpoint(
        n_consts, n_carry, list(unknown), lambda f: partial_eval_graph(body, f).out_unknown
    )
    consts_u, carry_u, xs_u = _split(flags, n_consts, n_carry)
    force = tuple(carry_u) + (False,) * (len(body.outputs) - n_carry)
    split = partial_eval_graph(body, flags, force)
    consts, carry, xs = _split(args, n_consts, n_carry)
    known_consts, known_carry, known_xs = (
        drop(consts_u, consts),
        drop(carry_u, carry),
        drop(xs_u, xs),
    )
    n_known = len(known_carry)
    residuals = split.known.cached(
        "scan residuals", lambda: _Residuals(split, len(known_consts), n_known)
    )
    shared = {k: params[k] for k in ("length", "reverse", "unroll")}
    with under(builder.outer):
        outs = scan(
            *known_consts,
            *known_carry,
            *known_xs,
            body=residuals.body,
            n_consts=len(known_consts),
            n_carry=n_known,
            **shared,
        )
        values = residuals.values(known_consts, known_xs, outs[n_known:])
    fixed = residuals.fixed
    linear_body = split.linear.cached(
        "scan linear", lambda: _rows_last(residuals.linear, fixed, sum(consts_u) + sum(carry_u))
    )
    operands = pick(fixed, values) + pick(consts_u, consts) + pick(carry_u, carry)
    operands += drop(fixed, values) + pick(xs_u, xs)
    n_linear_consts = sum(fixed) + sum(consts_u)
    more = {"body": linear_body, "n_consts": n_linear_consts, "n_carry": sum(carry_u)}
    linear = builder.record(scan, operands, {**shared, **more})
    return tuple(merge(split.out_unknown, linear, outs[: residuals.n_out]))


def _scan_transpose(cts, *args, body, length, reverse, unroll, n_consts, n_carry):
    """Run backwards: the carry is (cotangents of linear constants, cotangents of the carry)."""
    lin = [is_undefined(a) for a in args]
    consts_l, carry_l, xs_l = _split(lin, n_consts, n_carry)
    consts, carry, xs = _split(args, n_consts, n_carry)
    known = drop(consts_l, consts) + drop(xs_l, xs)
    n_known_consts, n_known_xs = consts_l.count(False), xs_l.count(False)
    lin_const_avals = [a.aval for a in pick(consts_l, consts)]
    lin_x_avals = [_row(a.aval) for a in pick(xs_l, xs)]
    carry_avals = [aval_of(a) for a in carry]
    y_nonzero = [c is not None for c in cts[n_carry:]]
    y_cts = [c for c in cts[n_carry:] if c is not None]
    n_lc, n_y = len(lin_const_avals), len(y_cts)

    def make():
        def back(*flat):
            groups = iter(flat)
            k_consts, ct_consts, ct_carry, ct_ys, k_xs = (
                list(itertools.islice(groups, n))
                for n in (n_known_consts, n_lc, n_carry, n_y, n_known_xs)
            )
            ct_ys = merge(y_nonzero, ct_ys, [None] * (len(y_nonzero) - n_y))

            def forward(*linear):
                c, s, x = _split(linear, n_lc, n_carry)
                return evaluate(body, [*merge(consts_l, c, k_consts), *s, *merge(xs_l, x, k_xs)])

            graph, residuals = record_linear(forward, lin_const_avals + carry_avals + lin_x_avals)
            found = backward(graph, residuals, [*ct_carry, *ct_ys])
            new_consts = [
                c if f is None else add(c, f) for c, f in zip(ct_consts, found[:n_lc], strict=True)
            ]
            rest = [
                zeros(a) if f is None else f
                for f, a in zip(found[n_lc:], carry_avals + lin_x_avals, strict=True)
            ]
            return [*new_consts, *rest]

        avals = [aval_of(v) for v in known[:n_known_consts]] + lin_const_avals + carry_avals
        avals += [_row(aval_of(c)) for c in y_cts] + [
            _row(aval_of(v)) for v in known[n_known_consts:]
        ]
        return trace_closed(back, avals, "scan")

    key = ("scan transpose", tuple(lin), tuple(y_nonzero), n_consts, n_carry)
    graph = body.cached(key, make)
    ct_carry = [
        zeros(a) if c is None else c for c, a in zip(cts[:n_carry], carry_avals, strict=True)
    ]
    outs = scan(
        *known[:n_known_consts],
        *[zeros(a) for a in lin_const_avals],
        *ct_carry,
        *y_cts,
        *known[n_known_consts:],
        body=graph,
        length=length,
        reverse=not reverse,
        unroll=unroll,
        n_consts=n_known_consts,
        n_carry=n_lc + n_carry,
    )
    ct_consts, ct_carry, ct_xs = outs[:n_lc], outs[n_lc : n_lc + n_carry], outs[n_lc + n_carry :]
    return [
        *merge(consts_l, ct_consts, [None] * n_known_consts),
        *[c if u else None for c, u in zip(ct_carry, carry_l, strict=True)],
        *merge(xs_l, ct_xs, [None] * n_known_xs),
    ]


def _scan_dce(params, used):
    """Drop stacked results that are not used, and carries that then nothing needs."""
    body, n_consts, n_carry = params["body"], params["n_consts"], params["n_carry"]
    wanted = tuple(used)
    while True:
        smaller, keep = prune(body, wanted)
        grown = tuple([u or n_consts + i in keep for i, u in enumerate(wanted[:n_carry])])
        if grown == wanted[:n_carry]:
            break
        wanted = grown + wanted[n_carry:]
    keep = sorted({*keep, *[n_consts + i for i in indices(grown)]})
    body = body.cached(
        ("scan dce", wanted),
        lambda: Graph([body.inputs[i] for i in keep], smaller.eqns, smaller.outputs),
    )
    kept_consts = sum(i < n_consts for i in keep)
    params = {**params, "body": body, "n_consts": kept_consts, "n_carry": sum(grown)}
    return params, keep, indices(wanted)


def _scan_check(checks, args, params):
    """The error is one more carry."""
    body, n_consts, n_carry = params["body"], params["n_consts"], params["n_carry"]
    inner = checks.graph(body, args)
    if inner is None:
        return checks.plain(scan, args, params)
    none = checks.nothing(inner.width)
    k, n_out = len(none), len(body.outputs)

    def step(*flat):
        consts, carry, rest = _split(flat, n_consts, n_carry)
        outs = evaluate(inner.graph, [*consts, *carry, *rest[k:]])
        error = checks.first(rest[:k], outs[n_out:])
        return [*outs[:n_carry], *error, *outs[n_carry:n_out]]

    avals = body.in_avals
    avals[n_consts + n_carry : n_consts + n_carry] = map(aval_of, none)
    graph = inner.graph.cached(
        ("scan check", n_consts, n_carry), lambda: trace_closed(step, avals, "scan")
    )
    consts, carry, xs = _split(args, n_consts, n_carry)
    new = {**params, "body": graph, "n_carry": n_carry + k}
    outs = scan(*consts, *carry, *none, *xs, **new)
    outs = [*outs[:n_carry], *outs[n_carry + k :], *outs[n_carry : n_carry + k]]
    return checks.take(outs, inner.width, inner.clean)


scan = Op(
    "scan",
    check=_scan_check,
    abstract=_scan_abstract,
    reference=_scan_reference,
    lower=_scan_lower,
    jvp=_scan_jvp,
    transpose=_scan_transpose,
    batch=_scan_batch,
    partial=_scan_partial,
    dce=_scan_dce,
    multiple=True,
    compile_above=-1,
)
"""Params: `body` (Graph), `length`, `reverse`, `unroll`, `n_consts`, `n_carry`."""
