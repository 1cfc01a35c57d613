"""Samples of the ops that hold graphs. Their bodies are traced in float64, for finite
differences.
"""

from __future__ import annotations

import numpy as np

from bevel import ops
from bevel.control.bounded_while import bounded_while
from bevel.control.call import call, remat, remat_backward
from bevel.control.composite import composite
from bevel.control.cond import cond
from bevel.control.custom import custom_jvp_call, custom_vjp_call
from bevel.control.scan import scan
from bevel.control.solve import linear_solve
from bevel.control.while_loop import while_loop
from bevel.core.aval import Aval
from bevel.core.dtypes import float64, int32
from bevel.core.graph import Graph, trace
from tests.samples.base import Sample, between, normal

ROW = Aval((3,), float64)
SCALAR = Aval((), float64)
INT = Aval((), int32)


def graph(fn, *avals) -> Graph:
    made, captured = trace(lambda *xs: list(fn(*xs)), avals, "a sample")
    assert not captured
    return made


def full(c, shape=(3,)):
    return np.full(shape, c)


def row(seed=0):
    return between(0.2, 0.9, (3,), "float64", seed)


def scalar(x, dtype="float64"):
    return np.asarray(x, dtype)


F = graph(lambda x, y: (ops.mul(ops.sin(x), y), ops.exp(y), ops.sin(x)), ROW, ROW)
UNUSED = graph(lambda x, y: (ops.tanh(x), x, full(2.0)), ROW, ROW)
CALLS = [
    Sample(op, (row(0), row(1)), {"graph": g, **extra}, grad=(0, 1), name=name)
    for op, extra in (
        (call, {"name": "f"}),
        (remat, {"policy": None, "prevent_cse": True}),
        (remat_backward, {}),
        (composite, {"name": "my.op", "version": 1, "attributes": (("k", 3), ("how", "x"))}),
    )
    for name, g in (("f", F), ("unused", UNUSED))
]
KEEP_SIN = Sample(
    remat,
    (row(0), row(1)),
    {"graph": F, "policy": lambda op, *a, **p: op.name == "sin", "prevent_cse": False},
    grad=(0, 1),
    name="policy",
)

# -- scan: (constant, carry, rows) -> (carry, rows)

STEP = graph(
    lambda w, c, x: (ops.mul(ops.sin(c), ops.add(w, x)), ops.mul(c, x)), SCALAR, SCALAR, SCALAR
)
COUNT = graph(
    lambda i, c: (ops.add(i, scalar(1, "int32")), ops.mul(c, ops.convert(i, dtype=float64)), c),
    INT,
    SCALAR,
)
LATE = graph(lambda c, d, x: (d, ops.add(ops.sin(d), x)), SCALAR, SCALAR, SCALAR)


def scan_sample(body, args, n_consts, n_carry, length=4, grad=(), reverse=False, unroll=1, name=""):
    params = dict(
        body=body, length=length, reverse=reverse, unroll=unroll, n_consts=n_consts, n_carry=n_carry
    )
    return Sample(scan, args, params, grad=grad, name=name)


XS = between(0.2, 0.9, (4,), "float64", 3)
BASE = (scalar(0.7), scalar(0.4), XS)
SCANS = [
    scan_sample(STEP, BASE, 1, 1, grad=(0, 1, 2)),
    scan_sample(STEP, BASE, 1, 1, grad=(0, 1, 2), reverse=True, name="reverse"),
    scan_sample(STEP, BASE, 1, 1, grad=(0,), unroll=3, name="unroll"),
    scan_sample(STEP, BASE, 1, 1, grad=(1,), unroll=4, name="unroll-all"),
    scan_sample(STEP, (scalar(0.7), scalar(0.4), XS[:0]), 1, 1, length=0, name="empty"),
    scan_sample(STEP, (scalar(0.7), scalar(0.4), XS[:1]), 1, 1, length=1, grad=(2,), name="one"),
    scan_sample(COUNT, (scalar(1, "int32"), scalar(0.4)), 0, 2, grad=(1,), name="counter"),
    scan_sample(LATE, (scalar(0.1), scalar(0.2), XS), 0, 2, grad=(2,), name="late-tangent"),
]

# -- while_loop

BELOW = graph(lambda limit, i, c: (ops.lt(i, limit),), INT, INT, SCALAR)
GROW = graph(
    lambda w, i, c: (ops.add(i, scalar(1, "int32")), ops.mul(ops.sin(c), w)), SCALAR, INT, SCALAR
)
SMALL = graph(lambda c: (ops.lt(c, scalar(10.0)),), SCALAR)
DOUBLE = graph(lambda c: (ops.add(c, c),), SCALAR)
WHILES = [
    Sample(
        while_loop,
        (scalar(3, "int32"), scalar(0.8), scalar(0, "int32"), scalar(0.5)),
        dict(cond=BELOW, body=GROW, n_cond=1, n_body=1),
        grad=(1, 3),
        name="counted",
        reverse=False,
    ),
    Sample(
        while_loop, (scalar(0.3),), dict(cond=SMALL, body=DOUBLE, n_cond=0, n_body=0), name="until"
    ),
    Sample(
        while_loop, (scalar(30.0),), dict(cond=SMALL, body=DOUBLE, n_cond=0, n_body=0), name="never"
    ),
]


def bounded(limit, levels, start=0.5, **kwargs):
    """The counted loop; levels say after how many steps it stops in any case."""
    return Sample(
        bounded_while,
        (scalar(limit, "int32"), scalar(0.8), scalar(0, "int32"), scalar(start)),
        dict(cond=BELOW, body=GROW, n_cond=1, n_body=1, levels=levels),
        grad=(1, 3),
        **kwargs,
    )


BOUNDED = [
    bounded(3, (2, 2), name="ends-in-a-chunk"),
    bounded(2, (2, 3), name="one-chunk", second_order=False),
    bounded(9, (2, 2), name="cut-off", second_order=False),
    bounded(0, (2, 2), name="no-step", second_order=False),
    bounded(9, (1, 1), name="one-step", second_order=False),
    bounded(3, (4,), name="chunk", second_order=False),
    bounded(3, (), name="step"),
    Sample(
        bounded_while,
        (scalar(0.3),),
        dict(cond=SMALL, body=DOUBLE, n_cond=0, n_body=0, levels=(3, 3)),
        grad=(0,),
        name="until",
        second_order=False,
    ),
]

# -- cond

BRANCHES = (
    graph(lambda x, y: (ops.sin(x), ops.mul(x, y)), ROW, ROW),
    graph(lambda x, y: (y, full(2.0)), ROW, ROW),
    graph(lambda x, y: (ops.exp(y), ops.mul(ops.cos(x), ops.cos(x))), ROW, ROW),
)
CONDS = [
    Sample(
        cond,
        (scalar(i, "int32"), row(4), row(5)),
        dict(branches=BRANCHES),
        grad=(1, 2),
        name=f"index{i}",
    )
    for i in (0, 1, 2, -1, 7)
]

# -- custom derivatives: the rules are the true ones, so finite differences agree

SIN = graph(lambda x: (ops.sin(x),), ROW)


def sin_jvp(primals, tangents):
    (x,), (t,) = primals, tangents
    return [ops.sin(x)], [ops.mul(t, ops.cos(x))]


CUSTOM = [
    Sample(custom_jvp_call, (row(6),), dict(graph=SIN, rule=sin_jvp), grad=(0,)),
    Sample(
        custom_vjp_call,
        (row(6),),
        dict(
            graph=SIN,
            fwd=lambda x: ([ops.sin(x)], [x]),
            bwd=lambda residuals, cts: [ops.mul(cts[0], ops.cos(residuals[0]))],
        ),
        name="not-forward",
    ),
]

# -- linear_solve: a diagonal system

TIMES = graph(lambda d, x: (ops.mul(d, x),), ROW, ROW)
DIVIDE = graph(lambda d, b: (ops.div(b, d),), ROW, ROW)
SOLVE = Sample(
    linear_solve,
    (row(7), normal((3,), "float64", 8)),
    dict(matvec=TIMES, solve=DIVIDE, transpose_solve=DIVIDE, vecmat=TIMES, n_consts=1),
    grad=(0, 1),
)

SAMPLES = [*CALLS, KEEP_SIN, *SCANS, *WHILES, *BOUNDED, *CONDS, *CUSTOM, SOLVE]
