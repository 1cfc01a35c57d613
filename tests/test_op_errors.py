"""Operands that do not fit: the error names the op, the operand and what to write."""

from __future__ import annotations

import numpy as np
import pytest

from bevel import ops
from bevel.core import dtypes
from bevel.core.aval import Aval
from bevel.core.errors import Unsupported
from bevel.core.graph import trace
from bevel.transforms.jvp import jvp
from bevel.transforms.linearize import vjp

F = Aval((2, 3), dtypes.float32)
N = Aval((2, 3), dtypes.int32)
B = Aval((2, 3), dtypes.bool_)
C = Aval((2, 3), dtypes.complex64)
V = Aval((3,), dtypes.float32)
F8 = Aval((2, 3), dtypes.FLOAT8[3])
WINDOW = dict(
    window=(2, 2),
    strides=(1, 1),
    padding=((0, 0),) * 2,
    base_dilation=(1, 1),
    window_dilation=(1, 1),
)
ADD, _ = trace(lambda a, x: [ops.add(a, x)], [Aval((), dtypes.float32)] * 2, "test")

BAD = [
    (
        ops.add,
        (F, V),
        {},
        TypeError,
        r"add: x is float32\[2,3\] and y is float32\[3\].*broadcast_to",
    ),
    (
        ops.add,
        (F, N),
        {},
        TypeError,
        r"add: x is float32\[2,3\] and y is int32\[2,3\].*astype\('float32'\)",
    ),
    (ops.add, (B, B), {}, TypeError, r"add: x is bool\[2,3\]; its dtype must be one of .*astype"),
    (ops.mul, (F8, F8), {}, TypeError, r"mul: x is float8_e4m3fn"),
    (ops.exp, (N,), {}, TypeError, r"exp: x is int32\[2,3\]; its dtype must be one of float16"),
    (ops.floor, (C,), {}, TypeError, r"floor: x is complex64"),
    (ops.lt, (C, C), {}, TypeError, r"lt: x is complex64"),
    (ops.and_, (F, F), {}, TypeError, r"and: x is float32"),
    (
        ops.select,
        (F, F, F),
        {},
        TypeError,
        r"select: pred is float32\[2,3\] and must be bool\[2, 3\].*bnp.where",
    ),
    (ops.select, (Aval((), dtypes.bool_), F, F), {}, TypeError, r"select: pred is bool\[\]"),
    (ops.select, (B, F, N), {}, TypeError, r"select: on_true is float32.* and on_false is int32"),
    (ops.select_n, (N,), {}, ValueError, "at least one case"),
    (ops.select_n, (B, F, F, F), {}, TypeError, "a bool picks one of two cases, and there are 3"),
    (ops.select_n, (F, F, F), {}, TypeError, "which is float32.* must be int32 or bool"),
    (ops.clamp, (V, F, F), {}, TypeError, r"clamp: x is float32\[2,3\] and low is float32\[3\]"),
    (
        ops.integer_pow,
        (N,),
        {"y": -2},
        TypeError,
        r"int32\[2,3\] to the power -2 .*astype\('float32'\) \*\* -2",
    ),
    (ops.convert, (F,), {"dtype": np.dtype("U3")}, TypeError, "not an array dtype"),
    (ops.bitcast, (F,), {"dtype": dtypes.bool_}, TypeError, r"bitcast: float32\[2,3\] to bool"),
    (
        ops.bitcast,
        (F,),
        {"dtype": dtypes.float64},
        ValueError,
        r"last axis must have size 2.*reshape\(-1, 2\)",
    ),
    (
        ops.reduce_precision,
        (F,),
        {"exponent_bits": 0, "mantissa_bits": 3},
        ValueError,
        "exponent_bits=0",
    ),
    (
        ops.broadcast_in_dim,
        (F,),
        {"shape": (4, 3), "dims": (0, 1)},
        ValueError,
        r"axis 0 of float32\[2,3\] has size 2",
    ),
    (ops.broadcast_in_dim, (F,), {"shape": (2, 3), "dims": (1, 0)}, ValueError, "increasing order"),
    (
        ops.reshape,
        (F,),
        {"shape": (5,)},
        ValueError,
        r"float32\[2,3\] has 6 elements and shape=\(5,\) has 5",
    ),
    (
        ops.transpose,
        (F,),
        {"permutation": (0, 0)},
        ValueError,
        r"permutation=\(0, 0\) must hold each axis",
    ),
    (ops.reduce_sum, (F,), {"axes": (2,)}, ValueError, r"axes=\(2,\).*between 0 and 1"),
    (ops.reduce_sum, (B,), {"axes": (0,)}, TypeError, r"reduce_sum: the operand is bool\[2,3\]"),
    (ops.reduce_max, (C,), {"axes": (0,)}, TypeError, "reduce_max: the operand is complex64"),
    (
        ops.argmax,
        (F,),
        {"axis": 2, "index_dtype": dtypes.int32},
        ValueError,
        "axis 2 is out of range",
    ),
    (
        ops.argmax,
        (Aval((0,), dtypes.float32),),
        {"axis": 0, "index_dtype": dtypes.int32},
        ValueError,
        "is empty",
    ),
    (
        ops.argmax,
        (F,),
        {"axis": 0, "index_dtype": dtypes.float32},
        TypeError,
        "index_dtype is float32",
    ),
    (ops.cumsum, (F,), {"axis": -1, "reverse": False}, ValueError, "axis -1 is out of range"),
    (
        ops.cummax,
        (C,),
        {"axis": 0, "reverse": False},
        TypeError,
        "cummax: the operand is complex64",
    ),
    (
        ops.reduce,
        (F, V),
        {"body": ADD, "axes": (0,)},
        TypeError,
        "each operand needs one 0-d initial value",
    ),
    (
        ops.reduce,
        (N, Aval((), dtypes.int32)),
        {"body": ADD, "axes": (0,)},
        TypeError,
        "the function to reduce with",
    ),
    (
        ops.reduce_window_sum,
        (V,),
        WINDOW,
        ValueError,
        r"window=\(2, 2\) needs one entry for each of the 1 axes",
    ),
    (
        ops.reduce_window_max,
        (F,),
        {**WINDOW, "strides": (0, 1)},
        ValueError,
        r"strides=\(0, 1\) must be at least 1",
    ),
    (
        ops.select_and_gather_add,
        (V, F),
        {**WINDOW, "select": "max"},
        TypeError,
        r"shape must be \(2, 3\)",
    ),
    (
        ops.select_and_scatter_add,
        (F, F),
        {**WINDOW, "select": "max"},
        TypeError,
        r"shape must be \(1, 2\)",
    ),
    (ops.select_and_scatter_add, (F, F), {**WINDOW, "select": "sum"}, ValueError, "select='sum'"),
]


@pytest.mark.parametrize(
    "op, avals, params, error, message",
    BAD,
    ids=[f"{c[0]}-{c[3].__name__}-{i}" for i, c in enumerate(BAD)],
)
def test_abstract_refuses(op, avals, params, error, message):
    with pytest.raises(error, match=message):
        trace(lambda *xs: [op(*xs, **params)], avals, "test")


def test_derivative_in_an_operand_without_one():
    a, x = np.float32([1.5]), np.float32([0.5])
    with pytest.raises(
        Unsupported, match="zeta has no derivative with respect to x.*stop_gradient"
    ):
        jvp(lambda a: [ops.zeta(a, x)], [a + 1], [a])
    with pytest.raises(Unsupported, match="betainc has no derivative with respect to a"):
        jvp(lambda a: [ops.regularized_incomplete_beta(a, x, x)], [a], [a])


def test_generic_reduction_has_no_derivative_and_says_what_has():
    x, zero = np.ones(3, np.float32), np.zeros((), np.float32)
    with pytest.raises(Unsupported, match="associative_scan"):
        vjp(lambda x: list(ops.reduce(x, zero, body=ADD, axes=(0,))), [x])
