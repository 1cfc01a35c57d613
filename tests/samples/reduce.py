"""Samples of reduce.py."""

from __future__ import annotations

import numpy as np

from bevel import ops
from bevel.core import dtypes
from bevel.core.aval import Aval
from bevel.core.dtypes import BOOL, COMPLEX, FLOAT, INT, NUMBER
from bevel.core.graph import Graph, trace
from tests.samples.base import Sample, between, distinct, normal, special_floats, special_ints

S = (2, 3, 4)
AXES = ((), (0,), (1,), (0, 2), (0, 1, 2))
HALF_TOL = {dtypes.float16: 1e-2, dtypes.bfloat16: 6e-2}


def body(fn, *dtype_names) -> Graph:
    """The graph of a function of accumulators and elements."""
    avals = [Aval((), dtypes.as_dtype(d)) for d in dtype_names]
    graph, captured = trace(fn, avals * 2, "test")
    assert not captured
    return graph


def _sums():
    for op in (ops.reduce_sum, ops.reduce_prod):
        for axes in AXES:
            yield Sample(
                op, (between(0.5, 1.5, S),), {"axes": axes}, grad=(0,), tol=1e-4, name=str(axes)
            )
        for dtype in NUMBER:
            grad = (0,) if dtype in COMPLEX else ()
            tol = HALF_TOL.get(dtype, 1e-4)
            yield Sample(op, (normal((3, 5), dtype),), {"axes": (1,)}, grad=grad, tol=tol)
        yield Sample(op, (np.zeros((0, 3), np.float32),), {"axes": (0,)}, grad=(0,), name="empty")
        yield Sample(op, (np.zeros((2, 0), np.int8),), {"axes": (0,)}, name="empty")
        yield Sample(op, (normal(()),), {"axes": ()}, grad=(0,), name="0-d")
        yield Sample(
            op, (special_floats("float32").reshape(1, -1),), {"axes": (0,)}, name="special"
        )
        yield Sample(op, (special_ints("int32"),), {"axes": (0,)}, name="wraps")
    long = np.full((4096,), 1.001, np.float32)
    yield Sample(
        ops.reduce_sum,
        (long.astype(dtypes.bfloat16),),
        {"axes": (0,)},
        tol=1e-2,
        name="wide accumulator",
    )
    yield Sample(
        ops.reduce_sum,
        (long.astype(np.float16),),
        {"axes": (0,)},
        tol=1e-3,
        name="wide accumulator",
    )
    zeros = np.array([[0, 2, 3], [0, 0, 4], [1, 2, 3]], np.float32)
    yield Sample(ops.reduce_prod, (zeros,), {"axes": (1,)}, grad=(0,), name="zeros")


def _extremes():
    for op in (ops.reduce_max, ops.reduce_min):
        for axes in AXES:
            yield Sample(op, (distinct(S),), {"axes": axes}, grad=(0,), name=str(axes))
        for dtype in BOOL + INT + FLOAT:
            yield Sample(op, (normal((3, 5), dtype),), {"axes": (1,)})
            yield Sample(op, (np.zeros((0, 2), dtype),), {"axes": (0,)}, name="empty")
        for dtype in INT:
            yield Sample(op, (special_ints(dtype),), {"axes": (0,)}, name="limits")
        for dtype in FLOAT:
            x = special_floats(dtype)
            yield Sample(op, (x,), {"axes": (0,)}, name="nan")
            yield Sample(op, (x[1:],), {"axes": (0,)}, name="special")
            yield Sample(
                op, (np.full(3, -np.inf).astype(dtype),), {"axes": (0,)}, name="all infinite"
            )


def _bits():
    for op in (ops.reduce_and, ops.reduce_or, ops.reduce_xor):
        for axes in AXES:
            yield Sample(op, (normal(S, "bool"),), {"axes": axes}, name=str(axes))
        for dtype in INT:
            yield Sample(op, (special_ints(dtype).reshape(2, 4),), {"axes": (0,)})
        yield Sample(op, (np.zeros((0, 2), bool),), {"axes": (0,)}, name="empty")
        yield Sample(op, (np.zeros((0, 2), np.uint8),), {"axes": (0,)}, name="empty")


def _positions():
    for op in (ops.argmax, ops.argmin):
        for dtype in BOOL + INT + FLOAT:
            params = {"axis": 1, "index_dtype": dtypes.int32}
            yield Sample(op, (normal((3, 5), dtype),), params)
        for dtype in FLOAT:
            x = special_floats(dtype)
            for name, v in (("nan", x), ("late nan", x[::-1].copy()), ("special", x[1:])):
                yield Sample(op, (v,), {"axis": 0, "index_dtype": dtypes.int64}, name=name)
            nothing = np.full((2, 3), np.inf if op is ops.argmin else -np.inf).astype(dtype)
            yield Sample(
                op, (nothing,), {"axis": 1, "index_dtype": dtypes.int32}, name="all infinite"
            )
        yield Sample(
            op,
            (np.array([[2, 7, 7, 2]], np.int32),),
            {"axis": 1, "index_dtype": dtypes.uint8},
            name="ties",
        )
        yield Sample(
            op,
            (np.zeros((0, 2), np.float32),),
            {"axis": 1, "index_dtype": dtypes.int32},
            name="empty",
        )


def _cumulative():
    table = {
        ops.cumsum: NUMBER,
        ops.cumprod: NUMBER,
        ops.cummax: BOOL + INT + FLOAT,
        ops.cummin: BOOL + INT + FLOAT,
        ops.cumlogsumexp: FLOAT,
    }
    for op, allowed in table.items():
        for reverse in (False, True):
            for axis in (0, 1):
                params = {"axis": axis, "reverse": reverse}
                yield Sample(
                    op,
                    (distinct((4, 3)) / 8,),
                    params,
                    grad=(0,),
                    tol=1e-4,
                    name=f"{axis}{reverse}",
                )
        for dtype in allowed:
            tol = HALF_TOL.get(dtype, 1e-4)
            yield Sample(
                op, (normal((2, 5), dtype),), {"axis": 1, "reverse": dtype == dtypes.int8}, tol=tol
            )
        for n in (17, 64, 70, 300):
            x = between(0.95, 1.06, (2, n, 2)).astype(np.float32)
            yield Sample(op, (x,), {"axis": 1, "reverse": n == 70}, tol=1e-4, name="blocked")
        yield Sample(
            op, (np.zeros((2, 0), np.float32),), {"axis": 1, "reverse": False}, name="empty"
        )
        if op is not ops.cumprod:
            special = np.array([1, -np.inf, -np.inf, 2, np.inf, 3, np.nan, 0], np.float32)
            yield Sample(op, (special,), {"axis": 0, "reverse": False}, name="special")
    zeros = np.array([1, 0, 3, 0, 2], np.float32)
    yield Sample(ops.cumprod, (zeros,), {"axis": 0, "reverse": False}, grad=(0,), name="zeros")
    half = np.full((1, 600), 1.001).astype(dtypes.bfloat16)
    yield Sample(
        ops.cumsum, (half,), {"axis": 1, "reverse": False}, tol=2e-2, name="wide accumulator"
    )


def _generic():
    add = body(lambda a, x: [ops.add(a, x)], "float32")
    first = body(
        lambda a, x: [ops.select(ops.eq(a, np.int32(-1) * np.ones((), np.int32)), x, a)], "int32"
    )

    def best(value, index, x, i):
        wins = ops.gt(x, value)
        return [ops.select(wins, x, value), ops.select(wins, i, index)]

    pair = body(best, "float32", "int32")
    zero, none, low = (
        np.zeros((), np.float32),
        np.array(-1, np.int32),
        np.array(-np.inf, np.float32),
    )
    places = np.arange(24, dtype=np.int32).reshape(S)
    for axes in AXES:
        yield Sample(
            ops.reduce,
            (normal(S), zero),
            {"body": add, "axes": axes},
            tol=1e-5,
            name=str(axes),
            unbatched=(1,),
        )
    yield Sample(
        ops.reduce,
        (distinct(S), places, low, none),
        {"body": pair, "axes": (1, 2)},
        unbatched=(2, 3),
        name="pair",
    )
    yield Sample(
        ops.reduce,
        (places, none),
        {"body": first, "axes": (2,)},
        unbatched=(1,),
        name="not commutative",
    )
    yield Sample(
        ops.reduce,
        (np.zeros((0, 2), np.float32), zero),
        {"body": add, "axes": (0,)},
        unbatched=(1,),
    )


SAMPLES = [*_sums(), *_extremes(), *_bits(), *_positions(), *_cumulative(), *_generic()]
