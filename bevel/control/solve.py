"""`linear_solve`: x with matvec(x) = b, differentiated as such and not through the solver's steps.

Operands: captured values of all graphs, then b. The graphs map (captured values, vectors) to
vectors; those that solve may give more results, which have no derivative.
Source: the implicit function theorem; Blondel et al., "Efficient and modular implicit
differentiation", 2022.
"""

from __future__ import annotations

from typing import Any

from bevel.control.call import check_graph
from bevel.core.aval import aval_of
from bevel.core.graph import Graph, evaluate
from bevel.core.op import Op, is_undefined
from bevel.ops import neg, zeros
from bevel.transforms.jvp import add_tangents, jvp
from bevel.transforms.vmap import batch_graph, with_batch_axis


def _reference(*args, matvec, solve, transpose_solve, vecmat, n_consts):
    return tuple(evaluate(solve, args))


def _jvp(ctx, primals, tangents, *, matvec, n_consts, **graphs):
    outs = linear_solve(*primals, matvec=matvec, n_consts=n_consts, **graphs)
    n = len(primals) - n_consts
    xs, others = outs[:n], (None,) * (len(outs) - n)
    consts, const_ts = primals[:n_consts], tangents[:n_consts]
    rhs = list(tangents[n_consts:])
    if any(t is not None for t in const_ts):
        _, moved = jvp(lambda *c: evaluate(matvec, [*c, *xs]), consts, const_ts)
        rhs = [
            add_tangents(t, None if m is None else neg(m)) for t, m in zip(rhs, moved, strict=True)
        ]
    if all(t is None for t in rhs):
        return outs, (None,) * n + others
    full = [zeros(v.aval) if t is None else t for t, v in zip(rhs, matvec.outputs, strict=True)]
    moved = linear_solve(*consts, *full, matvec=matvec, n_consts=n_consts, **graphs)
    return outs, moved[:n] + others


def _transpose(cts, *args, matvec, solve, transpose_solve, vecmat, n_consts):
    if transpose_solve is None:
        raise TypeError(
            "reverse mode through custom_linear_solve needs transpose_solve (or symmetric=True): "
            "pass a function that solves with the transposed matrix"
        )
    consts, bs = args[:n_consts], args[n_consts:]
    full = [zeros(aval_of(b)) if c is None else c for c, b in zip(cts, bs, strict=False)]
    found = linear_solve(
        *consts,
        *full,
        matvec=vecmat,
        solve=transpose_solve,
        transpose_solve=solve,
        vecmat=matvec,
        n_consts=n_consts,
    )
    return [
        *[None] * n_consts,
        *[c if is_undefined(b) else None for c, b in zip(found, bs, strict=False)],
    ]


def _batch(axis, args, batched, *, matvec, solve, transpose_solve, vecmat, n_consts):
    """Solutions differ from row to row if anything does: batch all vectors."""
    n = len(args) - n_consts
    flags = (*batched[:n_consts], *(True,) * n)
    vectors = [
        a if b else with_batch_axis(a, axis)
        for a, b in zip(args[n_consts:], batched[n_consts:], strict=True)
    ]

    def mapped(g: Graph | None) -> Any:
        return None if g is None else batch_graph(g, axis, flags, (True,) * len(g.outputs))[0]

    outs = linear_solve(
        *args[:n_consts],
        *vectors,
        matvec=mapped(matvec),
        solve=mapped(solve),
        transpose_solve=mapped(transpose_solve),
        vecmat=mapped(vecmat),
        n_consts=n_consts,
    )
    return outs, (True,) * len(outs)


linear_solve: Op = Op(
    "linear_solve",
    check=check_graph(lambda: linear_solve, "solve"),
    abstract=lambda *avals, solve, **params: tuple(solve.out_avals),
    reference=_reference,
    lower=lambda b, *vals, solve, **params: tuple(b.lower(solve, vals)),
    jvp=_jvp,
    transpose=_transpose,
    batch=_batch,
    multiple=True,
    compile_above=-1,
)
"""Params: `matvec`, `solve`, `transpose_solve` and `vecmat` (Graphs, the last two None without),
`n_consts`.
"""
