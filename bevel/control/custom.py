"""Functions with derivative rules of the user's own.

`custom_jvp_call` and `custom_vjp_call` hold the graph of the function and the rules as functions of
flat values. Differentiation replaces them by the rules; every other transform passes through to the
graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bevel.control.call import call, merge, pick, transpose_call
from bevel.core.aval import Aval, aval_of
from bevel.core.dtypes import is_inexact
from bevel.core.graph import evaluate
from bevel.core.op import Op, Unsupported
from bevel.ops import reduce_sum, zeros
from bevel.transforms.vmap import batch_graph, vmap, with_batch_axis


def _refuse_closed(closed: tuple[str, int, int] | None, tangents: Sequence[Any]) -> None:
    """Raise if a value that the function closes over is being differentiated."""
    if closed is not None and any(t is not None for t in tangents[closed[1] : closed[2]]):
        raise TypeError(
            f"{closed[0]} closes over a value that is being differentiated.\n"
            "Why: its rule says how the result changes with its arguments, and nothing about that "
            "value.\n"
            "Write instead: pass the value as an argument, or close over lax.stop_gradient(value)."
        )


# -- custom_jvp ------------------------------------------------------------------------------------


def _jvp_rule(ctx, primals, tangents, *, graph, rule, closed=None):
    _refuse_closed(closed, tangents)
    return rule(primals, tangents)


def _jvp_batch(axis, args, batched, *, graph, rule, closed=None):
    g, mask = batch_graph(graph, axis, tuple(batched), (True,) * len(graph.outputs))

    def batched_rule(primals, tangents):
        flags = [*batched, *[b for b, t in zip(batched, tangents, strict=True) if t is not None]]
        has = [t is not None for t in tangents]
        out_has: list[bool] = []

        def one(*flat):
            rest = iter(flat[len(primals) :])
            given = [next(rest) if h else None for h in has]
            outs, touts = rule(flat[: len(primals)], given)
            out_has[:] = [t is not None for t in touts]
            return [*outs, *[t for t in touts if t is not None]]

        outs = _all_batched(one, axis, [*primals, *pick(has, tangents)], flags)
        n = len(out_has)
        return outs[:n], merge(out_has, outs[n:], [None] * (n - sum(out_has)))

    return custom_jvp_call(*args, graph=g, rule=batched_rule, closed=closed), mask


def _jvp_check(checks, args, params):
    """The rule is the user's; the error is that of the function."""
    inner, n = checks.graph(params["graph"], args), len(params["graph"].outputs)
    if inner is None:
        return checks.plain(custom_jvp_call, args, params)

    def rule(primals, tangents):
        outs, touts = params["rule"](primals, tangents)
        error = evaluate(inner.graph, primals)[n:]
        return [*outs, *error], [*touts, *[None] * len(error)]

    outs = custom_jvp_call(*args, **{**params, "graph": inner.graph, "rule": rule})
    return checks.take(outs, inner.width, inner.clean)


custom_jvp_call = Op(
    "custom_jvp_call",
    check=_jvp_check,
    abstract=lambda *avals, graph, rule, closed=None: tuple(graph.out_avals),
    reference=lambda *xs, graph, rule, closed=None: tuple(evaluate(graph, xs)),
    lower=lambda b, *vals, graph, rule, closed=None: tuple(b.lower(graph, vals)),
    jvp=_jvp_rule,
    transpose=lambda cts, *args, graph, rule, closed=None: transpose_call(
        call, cts, args, graph, {"name": "custom_jvp"}
    ),
    batch=_jvp_batch,
    multiple=True,
    compile_above=None,
)
"""Params: `graph`, and `rule(primals, tangents) -> (outs, out_tangents)` over values; None is zero.

`closed = (name, start, stop)`: those operands are closed-over values without a derivative.
"""


# -- custom_vjp ------------------------------------------------------------------------------------


def _vjp_rule(ctx, primals, tangents, *, graph, fwd, bwd, closed=None):
    _refuse_closed(closed, tangents)
    outs, residuals = fwd(*primals)
    moving = tuple(t is not None for t in tangents)
    avals = tuple(aval_of(o) for o in outs)
    touts = custom_vjp_linear(
        *residuals,
        *pick(moving, tangents),
        bwd=bwd,
        out_avals=avals,
        n_residuals=len(residuals),
        moving=moving,
    )
    return outs, [t if is_inexact(a.dtype) else None for t, a in zip(touts, avals, strict=True)]


def _all_batched(fn, axis, args, batched):
    outs, flags = vmap(fn, axis, args, batched)
    return [o if f else with_batch_axis(o, axis) for o, f in zip(outs, flags, strict=True)]


def _vjp_batch(axis, args, batched, *, graph, fwd, bwd, closed=None):
    g, mask = batch_graph(graph, axis, tuple(batched), (True,) * len(graph.outputs))
    n_out = len(graph.outputs)

    def batched_fwd(*primals):
        flat = _all_batched(
            lambda *xs: [v for part in fwd(*xs) for v in part], axis, primals, batched
        )
        return flat[:n_out], flat[n_out:]

    def batched_bwd(residuals, cts):
        found = batch_backward(bwd, axis, residuals, cts)
        return [
            c if c is None or b else reduce_sum(c, axes=(0,))
            for c, b in zip(found, batched, strict=True)
        ]

    return custom_vjp_call(*args, graph=g, fwd=batched_fwd, bwd=batched_bwd, closed=closed), mask


def batch_backward(
    bwd: Callable, axis: int, residuals: Sequence[Any], cts: Sequence[Any]
) -> list[Any]:
    """Cotangents of a backward rule mapped over the rows of residuals and cotangents."""
    has: list[bool] = []
    n = len(residuals)

    def one(*flat):
        found = bwd(flat[:n], flat[n:])
        has[:] = [c is not None for c in found]
        return [c for c in found if c is not None]

    args = [*residuals, *cts]
    outs = _all_batched(one, axis, args, [True] * len(args))
    return merge(has, outs, [None] * (len(has) - sum(has)))


def _vjp_check(checks, args, params):
    """The rules are the user's; the error is that of the function."""
    inner, n = checks.graph(params["graph"], args), len(params["graph"].outputs)
    if inner is None:
        return checks.plain(custom_vjp_call, args, params)

    def fwd(*primals):
        outs, residuals = params["fwd"](*primals)
        return [*outs, *evaluate(inner.graph, primals)[n:]], residuals

    def bwd(residuals, cts):
        return params["bwd"](residuals, cts[:n])

    new = {**params, "graph": inner.graph, "fwd": fwd, "bwd": bwd}
    return checks.take(custom_vjp_call(*args, **new), inner.width, inner.clean)


custom_vjp_call = Op(
    "custom_vjp_call",
    check=_vjp_check,
    abstract=lambda *avals, graph, fwd, bwd, closed=None: tuple(graph.out_avals),
    reference=lambda *xs, graph, fwd, bwd, closed=None: tuple(evaluate(graph, xs)),
    lower=lambda b, *vals, graph, fwd, bwd, closed=None: tuple(b.lower(graph, vals)),
    jvp=_vjp_rule,
    transpose=lambda cts, *args, graph, fwd, bwd, closed=None: transpose_call(
        call, cts, args, graph, {"name": "custom_vjp"}
    ),
    batch=_vjp_batch,
    multiple=True,
    compile_above=None,
)
"""Params: `graph`; `fwd(*values) -> (outs, residuals)`; `bwd(residuals, cts) -> cotangents` (None:
zero).

`closed` as for `custom_jvp_call`.
"""


def _linear_transpose(cts, *args, bwd, out_avals, n_residuals, moving):
    full = [instantiate_aval(c, a) for c, a in zip(cts, out_avals, strict=True)]
    found = bwd(args[:n_residuals], full)
    return [*[None] * n_residuals, *pick(moving, found)]


def instantiate_aval(ct: Any, aval: Aval) -> Any:
    """A cotangent as a value: zeros where it is symbolically zero."""
    return zeros(aval) if ct is None else ct


def _linear_batch(axis, args, batched, *, bwd, out_avals, n_residuals, moving):
    args = [a if b else with_batch_axis(a, axis) for a, b in zip(args, batched, strict=True)]
    outs = custom_vjp_linear(
        *args,
        bwd=lambda residuals, cts: batch_backward(bwd, axis, residuals, cts),
        out_avals=tuple(Aval((int(axis), *a.shape), a.dtype) for a in out_avals),
        n_residuals=n_residuals,
        moving=moving,
    )
    return outs, (True,) * len(outs)


def _forward_mode(*args, **params):
    raise TypeError(_NO_FORWARD)


_NO_FORWARD = (
    "forward-mode differentiation (bv.jvp, bv.jacfwd, bv.linearize's map) of a function that has "
    "a custom_vjp.\n"
    "Why: its rule says how cotangents go backwards, not how tangents go forwards.\n"
    "Write instead: bv.grad, bv.vjp or bv.jacrev; or define it with bv.custom_jvp, which serves "
    "both modes."
)

custom_vjp_linear = Op(
    "custom_vjp_linear",
    abstract=lambda *avals, bwd, out_avals, n_residuals, moving: out_avals,
    reference=_forward_mode,
    lower=_forward_mode,
    jvp=Unsupported(
        "it is the derivative of a custom_vjp function, which only reverse mode may use"
    ),
    transpose=_linear_transpose,
    batch=_linear_batch,
    multiple=True,
)
"""The linear map whose transpose is a custom backward rule. Operands: residuals, then tangents."""
