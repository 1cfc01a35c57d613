"""Samples of elementwise.py and of what base.py holds."""

from __future__ import annotations

import numpy as np

from bevel import ops
from bevel.core import dtypes
from bevel.core.dtypes import ALL, BOOL, COMPLEX, FLOAT, FLOAT8, INT, NUMBER
from bevel.core.op import Op
from tests.samples.base import Sample, between, normal, pairs, special_floats, special_ints

S = (2, 3)
INEXACT = FLOAT + COMPLEX
# Domain in which each function is smooth, for derivatives.
SMOOTH: dict[Op, tuple[float, float]] = {
    ops.exp: (-2, 2),
    ops.exp2: (-2, 2),
    ops.log: (0.3, 3),
    ops.expm1: (-1, 1),
    ops.log1p: (-0.5, 2),
    ops.sqrt: (0.3, 3),
    ops.rsqrt: (0.3, 3),
    ops.logistic: (-3, 3),
    ops.sin: (-3, 3),
    ops.cos: (-3, 3),
    ops.tan: (-1, 1),
    ops.asin: (-0.8, 0.8),
    ops.acos: (-0.8, 0.8),
    ops.atan: (-0.7, 0.7),
    ops.sinh: (-2, 2),
    ops.cosh: (-2, 2),
    ops.tanh: (-1, 1),
    ops.asinh: (-0.8, 0.8),
    ops.acosh: (1.3, 3),
    ops.atanh: (-0.8, 0.8),
}
# On and beside the branch cuts; where a zero part has a sign, either sign.
CUTS = np.array(
    [complex(a, b) for a in (0.0, -0.0, 0.5, -0.5, 2.0, -2.0) for b in (0.0, -0.0, 0.5, -2.0)],
    np.complex64,
)


def _smooth():
    for op, (low, high) in SMOOTH.items():
        for dtype in INEXACT:
            tol = 3e-4 if dtype in COMPLEX else None
            grad = (0,) if dtype in (dtypes.float32, dtypes.float64, dtypes.complex64) else ()
            yield Sample(op, (between(low, high, S, dtype),), grad=grad, tol=tol)
        for dtype in (dtypes.float32, dtypes.bfloat16):
            yield Sample(
                op,
                (special_floats(dtype),),
                tol=2e-3 if dtype == dtypes.bfloat16 else None,
                name="special",
            )
        yield Sample(op, (CUTS,), tol=3e-4, name="branch cuts")
        yield Sample(op, (np.zeros((0, 2), np.float32),), name="empty")
        yield Sample(op, (between(low, high, (), "float32"),), grad=(0,), name="0-d")


def _unary():
    for op in (ops.neg, ops.square, ops.abs, ops.sign):
        for dtype in NUMBER:
            grad = (0,) if dtype in (dtypes.float32, dtypes.complex64) else ()
            yield Sample(op, (normal(S, dtype),), grad=grad)
        yield Sample(op, (special_floats("float32"),), name="special")
        yield Sample(op, (np.zeros(3, np.complex64),), name="zero")
        for dtype in INT:
            yield Sample(op, (special_ints(dtype),), name="limits")
    for op in (ops.floor, ops.ceil, ops.is_finite):
        for dtype in FLOAT:
            yield Sample(op, (special_floats(dtype),), grad=())
    for dtype in FLOAT:
        x = np.concatenate(
            [
                special_floats(dtype),
                np.array([0.49999997, 8388609.0 if dtype != dtypes.float16 else 2049, -0.2]).astype(
                    dtype
                ),
            ]
        )
        yield Sample(ops.round, (x,), {"method": "even"})
        yield Sample(ops.round, (x,), {"method": "away"})
        yield Sample(ops.cbrt, (between(0.5, 9, S, dtype),), grad=(0,))
    yield Sample(ops.cbrt, (special_floats("float32"),))
    for dtype in COMPLEX:
        for op in (ops.real, ops.imag, ops.conj):
            yield Sample(op, (normal(S, dtype),), grad=(0,))
    for dtype in (dtypes.float32, dtypes.float64):
        yield Sample(ops.complex, (normal(S, dtype), normal(S, dtype, 1)), grad=(0, 1))
    for dtype in ALL + FLOAT8:
        yield Sample(ops.stop_gradient, (normal(S, "float32").astype(dtype),))


def _binary():
    for op in (ops.add, ops.sub, ops.mul):
        for dtype in NUMBER:
            grad = (0, 1) if dtypes.is_inexact(dtype) and dtype != dtypes.complex128 else ()
            yield Sample(op, (normal(S, dtype), normal(S, dtype, 1)), grad=grad)
        yield Sample(op, pairs(special_floats("float32")), name="special")
        for dtype in INT:
            yield Sample(op, pairs(special_ints(dtype)), name="limits")
        yield Sample(op, (normal((), "float32"), normal((), "float32", 1)), grad=(0, 1), name="0-d")
        yield Sample(op, (normal((0, 3), "int8"), normal((0, 3), "int8")), name="empty")
    for dtype in INEXACT:
        grad = (0, 1) if dtype in (dtypes.float32, dtypes.complex64) else ()
        yield Sample(ops.div, (normal(S, dtype), between(0.5, 2, S, dtype)), grad=grad)
        tol = 5e-2 if dtype == dtypes.bfloat16 else 1e-3 if dtype == dtypes.complex64 else None
        yield Sample(
            ops.pow, (between(0.5, 2, S, dtype), between(-2, 2, S, dtype, 1)), grad=grad, tol=tol
        )
    for op in (ops.div, ops.rem):
        for dtype in INT:
            yield Sample(op, pairs(special_ints(dtype)), name="limits")
            yield Sample(op, (normal(S, dtype), normal(S, dtype, 1)), name="small")
        yield Sample(op, pairs(special_floats("float32")), name="special")
    for dtype in FLOAT:
        grad = (0, 1) if dtype == dtypes.float32 else ()
        yield Sample(ops.rem, (between(-9, 9, S, dtype), between(2.5, 3.5, S, dtype, 1)), grad=grad)
        yield Sample(ops.atan2, (normal(S, dtype), normal(S, dtype, 1)), grad=(0, 1))
        yield Sample(ops.nextafter, pairs(special_floats(dtype)))
        yield Sample(ops.max, (normal(S, dtype), normal(S, dtype, 1)), grad=(0, 1))
        yield Sample(ops.min, (normal(S, dtype), normal(S, dtype, 1)), grad=(0, 1))
    zeros = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan], np.float32)
    yield Sample(ops.atan2, pairs(zeros), name="special")
    yield Sample(
        ops.pow, pairs(np.array([*zeros, 2.0, -2.0, 3.0, -3.0, 0.5], np.float32)), name="special"
    )
    for dtype in INT:
        base = np.array([0, 1, 2, 3, 7, np.iinfo(dtype).max], dtype)
        yield Sample(ops.pow, pairs(base[:5]), name="small")
        yield Sample(ops.pow, (base, np.full(6, 5, dtype)), name="wraps")
    yield Sample(ops.pow, pairs(np.array([-3, -2, -1, 0, 1, 2, 3], np.int32)), name="negative")
    for op in (ops.max, ops.min):
        for dtype in BOOL + INT + COMPLEX:
            yield Sample(op, (normal(S, dtype), normal(S, dtype, 1)))
        yield Sample(op, pairs(special_floats("float32")), name="special")
        c = np.array(
            [1 + 1j, 1 - 1j, 2 - 3j, complex(np.nan, 0), complex(0, np.nan), 0], np.complex64
        )
        yield Sample(op, pairs(c), name="special")


def _integer_pow():
    for y in (-3, -1, 0, 1, 2, 3, 7):
        for dtype in (dtypes.float32, dtypes.bfloat16, dtypes.complex64):
            tol = 6e-2 if dtype == dtypes.bfloat16 else 2e-4
            grad = (0,) if dtype != dtypes.bfloat16 and y else ()
            yield Sample(
                ops.integer_pow,
                (between(0.5, 1.5, S, dtype),),
                {"y": y},
                grad=grad,
                tol=tol,
                name=str(y),
            )
        if y >= 0:
            yield Sample(ops.integer_pow, (normal(S, "int8"),), {"y": y}, name=str(y))
            yield Sample(ops.integer_pow, (normal(S, "uint16"),), {"y": y}, name=str(y))
    yield Sample(ops.integer_pow, (special_floats("float32"),), {"y": 2}, name="special")
    yield Sample(ops.integer_pow, (special_floats("float32"),), {"y": -1}, name="special")


def _compare():
    for op in (ops.eq, ops.ne, ops.lt, ops.le, ops.gt, ops.ge):
        for dtype in BOOL + INT + FLOAT:
            yield Sample(op, (normal((4, 4), dtype), normal((4, 4), dtype, 1)))
        for dtype in FLOAT:
            yield Sample(op, pairs(special_floats(dtype)), name="special")
    for op in (ops.eq, ops.ne):
        for dtype in COMPLEX:
            x = normal(S, dtype)
            yield Sample(op, (x, np.where(normal(S, "bool"), x, x.conj())))
        for dtype in FLOAT8:
            yield Sample(op, pairs(np.array([1, 2, 4]).astype(dtype)))


def _select():
    pred = normal(S, "bool")
    for dtype in ALL + FLOAT8:
        grad = (1, 2) if dtype in FLOAT + COMPLEX else ()
        x, y = normal(S, "float32").astype(dtype), normal(S, "float32", 1).astype(dtype)
        yield Sample(ops.select, (pred, x, y), grad=grad)
    yield Sample(ops.select, (np.array(True), normal(()), normal((), seed=1)), grad=(1, 2))
    yield Sample(ops.select_n, (pred, normal(S), normal(S, seed=1)), grad=(1, 2))
    which = np.array([[0, 1, 2], [2, 1, 0]], np.int32)
    yield Sample(
        ops.select_n, (which, normal(S), normal(S, seed=1), normal(S, seed=2)), grad=(1, 2, 3)
    )
    yield Sample(ops.select_n, (np.zeros(S, np.int32), normal(S, "int8")))
    yield Sample(
        ops.select_n,
        (np.array([[-1, 5, 9], [0, 1, 2]], np.int32), normal(S), normal(S, seed=1)),
        name="out",
    )
    for dtype in INT + FLOAT:
        low, high = np.full(S, 0).astype(dtype), np.full(S, 1).astype(dtype)
        grad = (0, 1, 2) if dtype == dtypes.float32 else ()
        yield Sample(ops.clamp, (low, normal(S, dtype, 3), high), grad=grad)
    triples = np.meshgrid(*[np.array([0, 1, -1, np.nan, np.inf], np.float32)] * 3)
    yield Sample(ops.clamp, tuple(t.reshape(-1) for t in triples), name="special")


def _bits():
    for op in (ops.and_, ops.or_, ops.xor):
        yield Sample(op, (normal((8,), "bool"), normal((8,), "bool", 1)))
        for dtype in INT:
            yield Sample(op, pairs(special_ints(dtype)))
    yield Sample(ops.not_, (normal((8,), "bool"),))
    for dtype in INT:
        values = special_ints(dtype)
        for op in (ops.not_, ops.population_count, ops.clz):
            yield Sample(op, (values,))
        width = 8 * dtype.itemsize
        by = np.array(
            [0, 1, 2, width - 1, width, width + 1, -1 if dtype in dtypes.SIGNED else 200], dtype
        )
        x, y = (g.reshape(-1) for g in np.meshgrid(values, by))
        for op in (ops.shift_left, ops.shift_right_arithmetic, ops.shift_right_logical):
            yield Sample(op, (x, y))


def _casts():
    for source in ALL:
        for target in ALL:
            inexact = dtypes.is_inexact(source) and dtypes.is_inexact(target)
            grad = (0,) if inexact and dtypes.float16 not in (source, target) else ()
            yield Sample(
                ops.convert, (normal(S, source),), {"dtype": target}, grad=grad, second_order=False
            )
    for source in FLOAT:
        for target in BOOL + INT + FLOAT:
            large = np.array(
                [
                    255.9,
                    -128.5,
                    65000,
                    *([] if source == dtypes.float16 else [3e9, -3e9, 9.3e18, 1.9e19]),
                ]
            )
            x = np.concatenate([special_floats(source), large.astype(source)])
            yield Sample(ops.convert, (x,), {"dtype": target}, name="special")
    for source in INT:
        for target in INT + FLOAT:
            yield Sample(ops.convert, (special_ints(source),), {"dtype": target}, name="limits")
    for dtype in FLOAT8:
        yield Sample(ops.convert, (np.abs(normal(S)),), {"dtype": dtype}, tol=1e-6)
        yield Sample(ops.convert, (np.abs(normal(S)).astype(dtype),), {"dtype": dtypes.float32})
    for source, target in (
        ("float32", "int32"),
        ("int64", "float64"),
        ("bfloat16", "uint16"),
        ("float16", "int16"),
    ):
        yield Sample(ops.bitcast, (normal(S, source),), {"dtype": dtypes.as_dtype(target)})
    for source, target, shape in (
        ("float32", "uint8", S),
        ("uint8", "uint32", (3, 4)),
        ("uint16", "float64", (2, 4)),
        ("int64", "int16", ()),
        ("float8_e4m3fn", "uint8", S),
    ):
        x = normal(shape, "int32").astype(dtypes.as_dtype(source))
        yield Sample(ops.bitcast, (x,), {"dtype": dtypes.as_dtype(target)}, name=target)
    for bits in ((8, 7), (5, 10), (4, 3), (8, 23), (2, 1), (11, 52)):
        params = dict(zip(("exponent_bits", "mantissa_bits"), bits, strict=True))
        for dtype in FLOAT:
            x = np.concatenate([special_floats(dtype), normal((20,), dtype)])
            yield Sample(ops.reduce_precision, (x,), params, name="{}-{}".format(*bits))
    # Keeping all bits of float64, it is the identity, which finite differences can follow.
    params = {"exponent_bits": 11, "mantissa_bits": 52}
    yield Sample(ops.reduce_precision, (normal(S),), params, grad=(0,))


def _base():
    for dtype in ALL + FLOAT8:
        grad = (0,) if dtype in (dtypes.float32, dtypes.complex64) else ()
        x = normal(S, "float32").astype(dtype)
        yield Sample(ops.broadcast_in_dim, (x,), {"shape": (2, 4, 3), "dims": (0, 2)}, grad=grad)
        yield Sample(ops.reshape, (x,), {"shape": (3, 1, 2)}, grad=grad)
        yield Sample(ops.transpose, (x,), {"permutation": (1, 0)}, grad=grad)
    for shape, out, dims in (
        ((), (2, 3), ()),
        ((), (), ()),
        ((1, 3), (4, 3), (0, 1)),
        ((2, 1), (2, 5, 3), (0, 2)),
        ((1, 1), (2, 0), (0, 1)),
        ((0,), (2, 0), (1,)),
    ):
        grad = (0,) if 0 not in out else ()
        yield Sample(
            ops.broadcast_in_dim,
            (normal(shape),),
            {"shape": out, "dims": dims},
            grad=grad,
            name=str(dims),
        )
    yield Sample(
        ops.broadcast_in_dim, (normal((3, 2)).T,), {"shape": (2, 2, 3), "dims": (1, 2)}, name="view"
    )
    yield Sample(ops.reshape, (normal((0, 3)),), {"shape": (3, 5, 0)}, name="empty")
    yield Sample(ops.reshape, (normal((3, 2)).T,), {"shape": (6,)}, grad=(0,), name="view")
    yield Sample(ops.reshape, (normal((1, 1)),), {"shape": ()}, grad=(0,))
    yield Sample(ops.transpose, (normal((2, 3, 4)),), {"permutation": (2, 0, 1)}, grad=(0,))
    yield Sample(ops.transpose, (normal(()),), {"permutation": ()}, grad=(0,))


SAMPLES = [
    *_smooth(),
    *_unary(),
    *_binary(),
    *_integer_pow(),
    *_compare(),
    *_select(),
    *_bits(),
    *_casts(),
    *_base(),
]
