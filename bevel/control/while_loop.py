"""`while_loop`: repeat a body while a condition holds.

Operands: constants of the condition, constants of the body, then the carry.
"""

from __future__ import annotations

from bevel.control.call import drop, merge, pick
from bevel.core.graph import Graph, evaluate, trace_closed
from bevel.core.interpreter import run_under
from bevel.core.op import Op, Unsupported
from bevel.ops import broadcast_in_dim, reduce_or, select
from bevel.transforms.jvp import instantiate, jvp_graph
from bevel.transforms.linearize import PartialBuilder, partial_eval_graph
from bevel.transforms.vmap import batch_graph, with_batch_axis


def fixpoint(flags: tuple[bool, ...], step) -> tuple[bool, ...]:
    """Grow flags until `step(flags)` adds none."""
    while True:
        grown = tuple(a or b for a, b in zip(flags, step(flags), strict=True))
        if grown == flags:
            return flags
        flags = grown


def _split(args, n_cond, n_body):
    return list(args[:n_cond]), list(args[n_cond : n_cond + n_body]), list(args[n_cond + n_body :])


def _reference(*args, cond, body, n_cond, n_body):
    cond_consts, body_consts, carry = _split(args, n_cond, n_body)
    while evaluate(cond, [*cond_consts, *carry])[0]:
        carry = evaluate(body, [*body_consts, *carry])
    return tuple(carry)


def _lower(b, *vals, cond, body, n_cond, n_body):
    cond_consts, body_consts, carry = _split(vals, n_cond, n_body)
    return tuple(
        b.while_(
            carry,
            lambda b2, *c: b2.lower(cond, [*cond_consts, *c])[0],
            lambda b2, *c: tuple(b2.lower(body, [*body_consts, *c])),
        )
    )


def _jvp(ctx, primals, tangents, *, cond, body, n_cond, n_body):
    _, consts_t, carry_t = _split(tangents, n_cond, n_body)
    cond_consts, consts, carry = _split(primals, n_cond, n_body)
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
    outs = while_loop(
        *cond_consts,
        *consts,
        *pick(consts_nz, consts_t),
        *carry,
        *[instantiate(t, p) for t, p, z in zip(carry_t, carry, carry_nz, strict=True) if z],
        cond=new_cond,
        body=new_body,
        n_cond=n_cond,
        n_body=n_body + sum(consts_nz),
    )
    return outs[:n], merge(carry_nz, outs[n:], [None] * (n - sum(carry_nz)))


def _batch(axis, args, batched, *, cond, body, n_cond, n_body):
    cond_b, body_b, carry_b = (tuple(x) for x in _split(batched, n_cond, n_body))
    cond_consts, consts, carry = _split(args, n_cond, n_body)

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
            new = evaluate(step, [*xs[n_cond:n_all], *old])
            return [
                select(broadcast_in_dim(keep, shape=tuple(n.shape), dims=(0,)), n, o)
                for n, o in zip(new, old, strict=True)
            ]

        def any_row(*xs):
            return [reduce_or(evaluate(row_pred, xs)[0], axes=(0,))]

        avals = cond_g.in_avals[:n_cond] + body_g.in_avals
        key = ("masked", row_pred)
        body_g = step.cached(key, lambda: trace_closed(masked, avals, "vmap"))
        cond_g = row_pred.cached("any", lambda: trace_closed(any_row, row_pred.in_avals, "vmap"))
        consts, n_body = [*cond_consts, *consts], n_all
    outs = while_loop(
        *cond_consts, *consts, *carry, cond=cond_g, body=body_g, n_cond=n_cond, n_body=n_body
    )
    return outs, flags


def _partial(builder: PartialBuilder, args, unknown, params):
    """Known parts of the carry come from a loop of their own; the recorded loop runs everything
    again.
    """
    cond, body, n_cond, n_body = (params[k] for k in ("cond", "body", "n_cond", "n_body"))
    cond_u, body_u, carry_u = (tuple(x) for x in _split(unknown, n_cond, n_body))
    flags = fixpoint(carry_u, lambda f: partial_eval_graph(body, body_u + f).out_unknown)
    cond_known = not any(cond_u) and not partial_eval_graph(cond, cond_u + flags).out_unknown[0]
    recorded = builder.record(while_loop, args, params)
    if not cond_known:
        return recorded
    split = partial_eval_graph(body, body_u + flags, flags)
    known_body = Graph(
        split.known.inputs, split.known.eqns, split.known.outputs[: flags.count(False)]
    )
    cond_split = partial_eval_graph(cond, cond_u + flags).known
    cond_consts, consts, carry = _split(args, n_cond, n_body)
    operands = [*cond_consts, *drop(body_u, consts), *drop(flags, carry)]
    known_params = dict(
        cond=Graph(cond_split.inputs, cond_split.eqns, cond_split.outputs[:1]),
        body=known_body,
        n_cond=n_cond,
        n_body=body_u.count(False),
    )
    outs = run_under(builder.outer, while_loop, tuple(operands), known_params)
    return tuple(merge(flags, pick(flags, recorded), outs))


while_loop = Op(
    "while_loop",
    abstract=lambda *avals, cond, body, n_cond, n_body: tuple(avals[n_cond + n_body :]),
    reference=_reference,
    lower=_lower,
    jvp=_jvp,
    transpose=Unsupported(
        "a loop whose number of steps is not known keeps no residuals; use lax.scan, or "
        "lax.fori_loop with "
        "Python integers as bounds, which reverse mode can run backwards"
    ),
    batch=_batch,
    partial=_partial,
    multiple=True,
    compile_above=-1,
)
"""Params: `cond`, `body` (Graphs), `n_cond`, `n_body` (how many operands are constants of each)."""
