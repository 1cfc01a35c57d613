"""`while_loop`: repeat a body while a condition holds.

Operands: constants of the condition, constants of the body, then the carry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bevel.control.call import drop, indices, merge, pick, prune
from bevel.core.aval import aval_of
from bevel.core.errors import Unsupported as UnsupportedError
from bevel.core.graph import Graph, evaluate, live_equations, trace_closed
from bevel.core.interpreter import run_under, to_numpy
from bevel.core.op import Op, Unsupported
from bevel.ops import broadcast_in_dim, reduce_or, select
from bevel.transforms.jvp import instantiate, jvp_graph
from bevel.transforms.linearize import PartialBuilder, partial_eval_graph
from bevel.transforms.vmap import batch_graph, with_batch_axis

_ROWS = "rows that have stopped go through it, too"


def fixpoint(flags: tuple[bool, ...], step) -> tuple[bool, ...]:
    """Grow flags until `step(flags)` adds none."""
    while True:
        grown = tuple(a or b for a, b in zip(flags, step(flags), strict=True))
        if grown == flags:
            return flags
        flags = grown


def split(args: Sequence[Any], n_cond: int, n_body: int) -> tuple[list, list, list]:
    """Operands as constants of the condition, constants of the body and the carry."""
    return list(args[:n_cond]), list(args[n_cond : n_cond + n_body]), list(args[n_cond + n_body :])


def _reference(*args, cond, body, n_cond, n_body):
    cond_consts, body_consts, carry = split(args, n_cond, n_body)
    while to_numpy(evaluate(cond, [*cond_consts, *carry])[0]):
        carry = evaluate(body, [*body_consts, *carry])
    return tuple(carry)


def lower_while(b, *vals, cond, body, n_cond, n_body) -> tuple:
    """The loop as XLA's."""
    cond_consts, body_consts, carry = split(vals, n_cond, n_body)
    return tuple(
        b.while_(
            carry,
            lambda b2, *c: b2.lower(cond, [*cond_consts, *c])[0],
            lambda b2, *c: tuple(b2.lower(body, [*body_consts, *c])),
        )
    )


# -- rules: also those of `bounded_while`, which has a parameter more ------------------------------


def loop_jvp(op: Op, ctx, primals, tangents, *, cond, body, n_cond, n_body, **more):
    """The loop whose carry has the tangents, too."""
    _, consts_t, carry_t = split(tangents, n_cond, n_body)
    cond_consts, consts, carry = split(primals, n_cond, n_body)
    consts_nz = tuple(t is not None for t in consts_t)
    carry_nz = fixpoint(
        tuple(t is not None for t in carry_t),
        lambda f: jvp_graph(body, consts_nz + f, (False,) * len(carry))[1],
    )
    g, _ = jvp_graph(body, consts_nz + carry_nz, carry_nz)
    n, nb = len(carry), n_body

    def make():
        # jvp order (consts, carry, consts', carry') becomes (consts, consts', carry, carry').
        i = g.inputs
        nt = sum(consts_nz)
        inputs = i[:nb] + i[nb + n : nb + n + nt] + i[nb : nb + n] + i[nb + n + nt :]
        wider = Graph(
            cond.inputs + [type(v)(v.aval) for v in i[nb + n + nt :]], cond.eqns, cond.outputs
        )
        return Graph(inputs, g.eqns, g.outputs), wider

    new_body, new_cond = g.cached(("while jvp", cond), make)
    outs = op(
        *cond_consts,
        *consts,
        *pick(consts_nz, consts_t),
        *carry,
        *[instantiate(t, p) for t, p, z in zip(carry_t, carry, carry_nz, strict=True) if z],
        cond=new_cond,
        body=new_body,
        n_cond=n_cond,
        n_body=n_body + sum(consts_nz),
        **more,
    )
    return outs[:n], merge(carry_nz, outs[n:], [None] * (n - sum(carry_nz)))


def _as_they_are(keep: Any, values: Sequence[Any], batched: Sequence[bool]) -> Sequence[Any]:
    return values


def loop_batch(
    op: Op,
    axis,
    args,
    batched,
    *,
    cond,
    body,
    n_cond,
    n_body,
    feed: Callable[..., Sequence[Any]] = _as_they_are,
    **more,
):
    """The loop over whole batches. Where rows stop at different steps, `feed(rows that go on,
    constants and carry, which are batched)` gives what the body is run on.
    """
    cond_b, body_b, carry_b = (tuple(x) for x in split(batched, n_cond, n_body))
    cond_consts, consts, carry = split(args, n_cond, n_body)

    def grow(flags):
        return batch_graph(body, axis, body_b + flags)[1]

    flags = fixpoint(carry_b, grow)
    cond_g, (pred_batched,) = batch_graph(cond, axis, cond_b + flags)
    if pred_batched:
        # Rows stop at different steps: all of the carry is batched, and finished rows keep theirs.
        flags = (True,) * len(carry)
        cond_g, _ = batch_graph(cond, axis, cond_b + flags, (True,))
    body_g, _ = batch_graph(body, axis, body_b + flags, flags)
    carry = [
        with_batch_axis(c, axis) if f and not b else c
        for c, b, f in zip(carry, carry_b, flags, strict=True)
    ]
    if pred_batched:
        row_pred, step, n_all = cond_g, body_g, n_cond + n_body

        def masked(*xs):
            old = xs[n_all:]
            keep = evaluate(row_pred, [*xs[:n_cond], *old])[0]
            new = evaluate(step, feed(keep, xs[n_cond:], body_b + flags))
            return [
                select(broadcast_in_dim(keep, shape=tuple(n.shape), dims=(0,)), n, o)
                for n, o in zip(new, old, strict=True)
            ]

        def any_row(*xs):
            return [reduce_or(evaluate(row_pred, xs)[0], axes=(0,))]

        avals = cond_g.in_avals[:n_cond] + body_g.in_avals
        key = ("masked", row_pred, feed)
        body_g = step.cached(key, lambda: trace_closed(masked, avals, "vmap"))
        body_g.cached(_ROWS, lambda: feed is _as_they_are)
        cond_g = row_pred.cached("any", lambda: trace_closed(any_row, row_pred.in_avals, "vmap"))
        consts, n_body = [*cond_consts, *consts], n_all
    graphs = {"cond": cond_g, "body": body_g}
    outs = op(*cond_consts, *consts, *carry, n_cond=n_cond, n_body=n_body, **graphs, **more)
    return outs, flags


def loop_partial(op: Op, builder: PartialBuilder, args, unknown, params):
    """Known parts of the carry come from a loop of their own; the recorded loop runs everything
    again, but for what it prints.
    """
    cond, body, n_cond, n_body = (params[k] for k in ("cond", "body", "n_cond", "n_body"))
    cond_u, body_u, carry_u = (tuple(x) for x in split(unknown, n_cond, n_body))
    flags = fixpoint(carry_u, lambda f: partial_eval_graph(body, body_u + f).out_unknown)
    cond_known = not any(cond_u) and not partial_eval_graph(cond, cond_u + flags).out_unknown[0]
    again = {**params, "cond": silent(cond), "body": silent(body)}
    recorded = builder.record(op, args, again if cond_known else params)
    if not cond_known:
        return recorded
    known = partial_eval_graph(body, body_u + flags, flags).known
    known_body = Graph(known.inputs, known.eqns, known.outputs[: flags.count(False)])
    cond_split = partial_eval_graph(cond, cond_u + flags).known
    cond_consts, consts, carry = split(args, n_cond, n_body)
    operands = [*cond_consts, *drop(body_u, consts), *drop(flags, carry)]
    known_params = {
        **params,
        "cond": Graph(cond_split.inputs, cond_split.eqns, cond_split.outputs[:1]),
        "body": known_body,
        "n_body": body_u.count(False),
    }
    outs = run_under(builder.outer, op, tuple(operands), known_params)
    return tuple(merge(flags, pick(flags, recorded), outs))


def silent(graph: Graph) -> Graph:
    """The graph without effects that give no result, such as printing, also in graphs it holds."""

    def without(param: Any) -> Any:
        if isinstance(param, tuple):
            return tuple(map(without, param))
        return silent(param) if isinstance(param, Graph) else param

    def make() -> Graph:
        kept = [e for e in graph.eqns if e.outputs or not e.op.effect]
        eqns = [e.replace(params={k: without(v) for k, v in e.params.items()}) for e in kept]
        return Graph(graph.inputs, live_equations(eqns, graph.outputs), graph.outputs)

    return graph.cached("silent", make) if graph.effect else graph


def loop_dce(params, used):
    """Drop the parts of the carry that neither what is used nor the condition needs."""
    cond, body, n_cond, n_body = (params[k] for k in ("cond", "body", "n_cond", "n_body"))
    smaller_cond, cond_keep = prune(cond, (True,))
    for_cond = [n_cond + i in cond_keep for i in range(len(used))]

    def grow(wanted):
        keep = prune(body, wanted)[1]
        return tuple([c or n_body + i in keep for i, c in enumerate(for_cond)])

    wanted = fixpoint(tuple(used), grow)
    carried = indices(wanted)
    smaller, body_keep = prune(body, wanted)
    cond_consts = [i for i in cond_keep if i < n_cond]
    consts = [i for i in body_keep if i < n_body]

    def make():
        return (
            _with_inputs(smaller_cond, cond, [*cond_consts, *[n_cond + i for i in carried]]),
            _with_inputs(smaller, body, [*consts, *[n_body + i for i in carried]]),
        )

    new_cond, new_body = body.cached(("while dce", cond, wanted), make)
    sizes = {"n_cond": len(cond_consts), "n_body": len(consts)}
    kept = [*cond_consts, *[n_cond + i for i in consts], *[n_cond + n_body + i for i in carried]]
    return {**params, "cond": new_cond, "body": new_body, **sizes}, kept, carried


def _with_inputs(smaller: Graph, graph: Graph, inputs: Sequence[int]) -> Graph:
    return Graph([graph.inputs[i] for i in inputs], smaller.eqns, smaller.outputs)


def loop_check(op: Op, checks: Any, args: Sequence[Any], params: dict[str, Any]) -> Sequence[Any]:
    """The loop with the errors in it as one more part of the carry. A condition that can fail is
    one, too: it is evaluated before the loop and after each step.
    """
    cond, body, n_cond, n_body = (params[k] for k in ("cond", "body", "n_cond", "n_body"))
    cond_consts, body_consts, carry = split(args, n_cond, n_body)
    both = [(cond, [*cond_consts, *carry]), (body, [*body_consts, *carry])]
    found = [checks.graph(*g) for g in both]
    if not any(found):
        return checks.plain(op, args, params)
    if body.cached(_ROWS, lambda: False):
        raise UnsupportedError(
            "checkify of a vmapped loop whose rows stop at different steps.\n"
            "Why: rows that have stopped go through the steps of the others, and what fails there "
            "does not count.\n"
            "Write instead: bv.vmap(checkify.checkify(f)), which gives an error for each row."
        )
    width = max([g.width for g in found if g is not None])
    tests = found[0] is not None
    test, step = (checks.graph(*g, width) for g in both)
    n, n_consts = len(carry), n_cond + n_body

    def tested(consts, values, error):
        outs = evaluate(test.graph, [*consts, *values])
        return [*values, outs[0], *checks.first(error, outs[1:])]

    def looped(*flat):
        consts, values = flat[n_cond:n_consts], flat[n_consts : n_consts + n]
        outs = evaluate(step.graph, [*consts, *values])
        error = checks.first(flat[n_consts + n + tests :], outs[n:])
        return tested(flat[:n_cond], outs[:n], error) if tests else [*outs[:n], *error]

    def goes_on(*flat):
        return [flat[n_cond + n]] if tests else evaluate(cond, flat[: n_cond + n])

    none = checks.nothing(width)
    carried = tested(cond_consts, carry, none) if tests else [*carry, *none]
    avals = list(map(aval_of, carried))

    def make():
        return {
            "body": trace_closed(looped, [*map(aval_of, args[:n_consts]), *avals], "while_loop"),
            "cond": trace_closed(goes_on, [*map(aval_of, cond_consts), *avals], "while_loop"),
        }

    graphs = step.graph.cached(("while check", test.graph, n_cond, n_body), make)
    operands = [*cond_consts, *args[:n_consts], *carried]
    outs = op(*operands, **{**params, **graphs, "n_body": n_consts})
    return checks.take([*outs[:n], *outs[n + tests :]], width, step.clean)


while_loop: Op = Op(
    "while_loop",
    check=lambda *args: loop_check(while_loop, *args),
    abstract=lambda *avals, cond, body, n_cond, n_body: tuple(avals[n_cond + n_body :]),
    reference=_reference,
    lower=lower_while,
    jvp=lambda *args, **params: loop_jvp(while_loop, *args, **params),
    transpose=Unsupported(
        "it may run any number of steps, and reverse mode needs the states it went through.\n"
        "Write instead: lax.while_loop(cond_fun, body_fun, init_val, max_steps=n), which makes at "
        "most n steps and keeps about 2 sqrt(n) states.\n"
        "A Python `while`, and a `range` or lax.fori_loop up to a traced number, are written that "
        "way, too.\n"
        "Where the number of steps is known: lax.scan, or lax.fori_loop with Python integers as "
        "bounds."
    ),
    batch=lambda *args, **params: loop_batch(while_loop, *args, **params),
    partial=lambda *args: loop_partial(while_loop, *args),
    dce=loop_dce,
    multiple=True,
    compile_above=-1,
)
"""Params: `cond`, `body` (Graphs), `n_cond`, `n_body` (how many operands are constants of each)."""
