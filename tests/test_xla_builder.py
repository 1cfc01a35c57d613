"""The StableHLO builder, compiled and run on hand-written programs."""

import numpy as np
import pytest

from bevel.core.aval import Aval
from bevel.core.graph import Eqn, Graph, Var
from bevel.xla import attributes, lower, types
from bevel.xla.builder import Builder, Module
from tests.xla_programs import F32, I32, FakeOp, f32, rng, run

# -- text


@pytest.mark.parametrize("dtype", list(types.DTYPE_NAMES), ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (5,), (0, 3), (3, 2)], ids=str)
def test_constants_keep_their_bits(dtype, shape):
    size = int(np.prod(shape))
    raw = np.frombuffer(rng.bytes(size * dtype.itemsize), np.uint8).copy()
    what = types.kind(dtype)
    if what in ("i1", "i", "ui") and types.storage_dtype(dtype) is not None:
        array = (raw % 2).astype(dtype).reshape(shape)
    elif dtype.name == "float4_e2m1fn":
        array = (raw % 4).astype(np.float32).astype(dtype).reshape(shape)
    else:
        array = raw.view(dtype).reshape(shape)
        if what in ("f", "complex"):  # a NaN's payload may be changed by moving it
            array = np.where(np.isnan(array), np.ones((), dtype), array)
    [got] = run(lambda b: b.constant(array))
    assert got.dtype == dtype and got.shape == shape
    assert got.tobytes() == array.tobytes()


@pytest.mark.parametrize("dtype", [d for d in types.DTYPE_NAMES if types.kind(d) == "f"], ids=str)
def test_special_floats(dtype):
    values = [v for v in (0.0, -0.0, 1.0, -1.5, 0.1, np.inf, -np.inf, np.nan)]
    with np.errstate(all="ignore"):
        each = [np.asarray(v, np.float32).astype(dtype) for v in values]
    for x in each:
        if dtype.name == "float8_e8m0fnu" and not np.asarray(x, np.float32) > 0:
            continue  # it has no sign and no zero
        [got] = run(lambda b, x=x: b.constant(x))
        if np.isnan(x.astype(np.float32)):
            assert np.isnan(got.astype(np.float32))
        else:
            assert got.tobytes() == x.tobytes(), x


def test_extreme_floats_are_exact():
    for dtype in (np.float16, np.float32, np.float64):
        info = np.finfo(dtype)
        x = np.array(
            [info.max, info.min, info.tiny, info.smallest_subnormal, info.eps, 1 / 3], dtype
        )
        for array in (x, *x):
            [got] = run(lambda b, array=array: b.constant(array))
            assert got.tobytes() == np.asarray(array).tobytes()


def test_unknown_dtype_is_refused():
    with pytest.raises(TypeError, match="XLA has no dtype"):
        types.dtype_name(np.dtype("U3"))


def test_equal_constants_are_written_once():
    b = Builder(Module())
    assert b.constant(np.float32(2)) is b.constant(np.float32(2))
    assert b.constant(np.float32(0.0)) is not b.constant(np.float32(-0.0))
    assert b.constant(np.float32(2)) is not b.constant(np.int32(2))
    assert len(b.lines) == 4


# -- elementwise

UNARY = {
    "abs": np.abs,
    "cbrt": np.cbrt,
    "ceil": np.ceil,
    "cosine": np.cos,
    "exponential": np.exp,
    "floor": np.floor,
    "exponential_minus_one": np.expm1,
    "negate": np.negative,
    "sign": np.sign,
    "sine": np.sin,
    "tan": np.tan,
    "tanh": np.tanh,
    "round_nearest_even": np.round,
    "logistic": lambda x: 1 / (1 + np.exp(-x)),
    "sinh": np.sinh,
    "cosh": np.cosh,
    "atan": np.arctan,
    "asinh": np.arcsinh,
    "square": np.square,
    "is_finite": np.isfinite,
}
POSITIVE = {
    "log": np.log,
    "log_plus_one": np.log1p,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "sqrt": np.sqrt,
}
BINARY = {
    "add": np.add,
    "atan2": np.arctan2,
    "divide": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "multiply": np.multiply,
    "remainder": np.fmod,
    "subtract": np.subtract,
}
BITS = {
    "and_": np.bitwise_and,
    "or_": np.bitwise_or,
    "xor": np.bitwise_xor,
    "shift_left": np.left_shift,
    "shift_right_arithmetic": np.right_shift,
}


def test_elementwise_floats():
    x, y = f32(5), f32(5)
    z = np.abs(x) + 0.5
    got = run(lambda b, x, y: tuple(getattr(b, n)(x) for n in UNARY), x, y)
    for (name, fn), g in zip(UNARY.items(), got, strict=True):
        np.testing.assert_allclose(g, fn(x), rtol=2e-5, atol=1e-6, err_msg=name)
    got = run(lambda b, x, y: tuple(getattr(b, n)(x, y) for n in BINARY), x, y)
    for (name, fn), g in zip(BINARY.items(), got, strict=True):
        np.testing.assert_allclose(g, fn(x, y), rtol=2e-5, atol=1e-6, err_msg=name)
    got = run(lambda b, x: tuple(getattr(b, n)(x) for n in POSITIVE), z)
    for (name, fn), g in zip(POSITIVE.items(), got, strict=True):
        np.testing.assert_allclose(g, fn(z), rtol=2e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint16, np.int64])
def test_elementwise_integers(dtype):
    x, y = np.array([1, 7, 100], dtype), np.array([3, 2, 1], dtype)
    for name, fn in BITS.items():
        if name == "shift_right_arithmetic" and np.dtype(dtype).kind == "u":
            continue
        [got] = run(lambda b, x, y, name=name: getattr(b, name)(x, y), x, y)
        np.testing.assert_array_equal(got, fn(x, y), err_msg=name)
    [inverted] = run(lambda b, x: b.not_(x), x)
    np.testing.assert_array_equal(inverted, ~x)


def test_special_functions():
    scipy = pytest.importorskip("scipy.special")
    x = np.array([0.3, 1.7, 2.5], np.float32)
    ours = ["erf", "erfc", "lgamma", "digamma", "bessel_i1e"]
    theirs = [scipy.erf, scipy.erfc, scipy.gammaln, scipy.digamma, scipy.i1e]
    for got, fn in zip(
        run(lambda b, x: tuple(getattr(b, n)(x) for n in ours), x), theirs, strict=True
    ):
        np.testing.assert_allclose(got, fn(x), rtol=1e-4)


@pytest.mark.parametrize(
    "direction, fn",
    [("EQ", np.equal), ("NE", np.not_equal), ("LT", np.less), ("GE", np.greater_equal)],
)
@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.uint8, bool])
def test_compare(direction, fn, dtype):
    x, y = np.array([0, 1, 1, 0], dtype), np.array([0, 0, 1, 1], dtype)
    np.testing.assert_array_equal(
        run(lambda b, x, y: b.compare(x, y, direction), x, y)[0], fn(x, y)
    )


def test_compare_complex():
    x = np.array([1, 1j, 1 + 1j], np.complex64)
    same, other = run(
        lambda b, x: (
            b.compare(x, b.full(1j, x.aval), "EQ"),
            b.compare(x, b.full(1j, x.aval), "NE"),
        ),
        x,
    )
    assert same.tolist() == [False, True, False] and other.tolist() == [True, False, True]


def test_total_order_and_nan():
    x = np.array([np.nan, -0.0, 0.0], np.float32)
    [lt] = run(lambda b, x: b.compare(x, b.full(0, x.aval), "LT"), x)
    [total] = run(lambda b, x: b.compare(x, b.full(0, x.aval), "LT", total=True), x)
    assert lt.tolist() == [False, False, False] and total.tolist() == [False, True, False]


def test_complex_parts_select_clamp_convert_bitcast():
    x, y = f32(4), f32(4)
    z, re, im, mag, same, zero = run(
        lambda b, x, y: (
            z := b.complex(x, y),
            b.real(z),
            b.imag(z),
            b.complex_abs(z),
            b.real(x),
            b.imag(x),
        ),
        x,
        y,
    )
    np.testing.assert_allclose(z, x + 1j * y)
    np.testing.assert_allclose(mag, np.hypot(x, y), rtol=1e-5)
    assert (
        re.tolist() == x.tolist() == same.tolist()
        and im.tolist() == y.tolist()
        and zero.tolist() == [0] * 4
    )
    s, c = run(
        lambda b, x, y: (
            b.select(b.compare(x, y, "LT"), x, y),
            b.clamp(b.constant(np.float32(-0.5)), x, b.constant(np.float32(0.5))),
        ),
        x,
        y,
    )
    np.testing.assert_array_equal(s, np.minimum(x, y))
    np.testing.assert_array_equal(c, np.clip(x, -0.5, 0.5))
    i, bits = run(
        lambda b, x: (b.convert(x, np.int32), b.bitcast(x, Aval((4,), np.dtype(np.uint32)))), x
    )
    np.testing.assert_array_equal(i, x.astype(np.int32))
    np.testing.assert_array_equal(bits, x.view(np.uint32))
    [rounded] = run(lambda b, x: b.reduce_precision(x, 8, 7), x)
    np.testing.assert_allclose(rounded, x, rtol=1e-2)


# -- structured


def test_shapes():
    x = f32(2, 3, 4)
    got = run(
        lambda b, x: (
            b.transpose(x, (2, 0, 1)),
            b.reshape(x, (6, 4)),
            b.reverse(x, (1,)),
            b.slice(x, (0, 1, 0), (2, 3, 4), (1, 2, 3)),
            b.broadcast_in_dim(x, (5, 2, 3, 4), (1, 2, 3)),
            b.concatenate([x, x], 1),
            b.pad(x, b.constant(np.float32(9)), (1, -1, 0), (0, 0, 2), (1, 0, 0)),
            b.iota(Aval((2, 3), I32), 1),
            b.full(2.5, Aval((2, 0), F32)),
        ),
        x,
    )
    padded = np.full((4, 3, 6), 9, np.float32)
    padded[1::2, :, :4] = x
    want = [
        x.transpose(2, 0, 1),
        x.reshape(6, 4),
        x[:, ::-1],
        x[:, 1:3:2, ::3],
        np.broadcast_to(x, (5, 2, 3, 4)),
        np.concatenate([x, x], 1),
        padded[:, 1:],
        np.tile(np.arange(3), (2, 1)),
        np.zeros((2, 0)),
    ]
    for g, w in zip(got, want, strict=True):
        np.testing.assert_array_equal(g, w)


def test_no_op_shape_ops_write_nothing():
    b = Builder(Module())
    x = b.constant(f32(2, 3))
    n = len(b.lines)
    assert (
        b.reshape(x, (2, 3)) is x
        and b.convert(x, np.float32) is x
        and b.broadcast_in_dim(x, (2, 3), (0, 1)) is x
    )
    assert len(b.lines) == n


def test_dynamic_slices_clamp():
    x = np.arange(5, dtype=np.int32)
    for start in (-3, 1, 9):
        s, u = run(
            lambda b, x, i: (
                b.dynamic_slice(x, [i], (2,)),
                b.dynamic_update_slice(x, b.constant(np.array([7, 8], np.int32)), [i]),
            ),
            x,
            np.int32(start),
        )
        k = min(max(start, 0), 3)
        want = x.copy()
        want[k : k + 2] = 7, 8
        assert s.tolist() == x[k : k + 2].tolist() and u.tolist() == want.tolist()


REDUCERS = {
    "add": np.sum,
    "mul": np.prod,
    "max": np.max,
    "min": np.min,
    "and": np.all,
    "or": np.any,
}


@pytest.mark.parametrize(
    "how, dtype",
    [(h, d) for h in ("add", "mul", "max", "min") for d in ("f4", "i1", "u4")]
    + [("and", "?"), ("or", "?"), ("max", "?")],
)
def test_reduce(how, dtype):
    x = rng.integers(0, 3, (3, 4)).astype(dtype)
    for axes in ((0,), (1,), (0, 1), ()):
        [got] = run(lambda b, x, axes=axes: b.reduce(x, how, axes), x)
        np.testing.assert_array_equal(got, REDUCERS[how](x, axis=axes).astype(dtype))


@pytest.mark.parametrize(
    "dtype",
    [
        d
        for d in types.DTYPE_NAMES
        if types.kind(d) not in ("complex",) and types.storage_dtype(d) is None
    ],
    ids=str,
)
def test_reducing_nothing_gives_the_identity(dtype):
    kinds = ("max", "min") if dtype.name == "float8_e8m0fnu" else ("add", "mul", "max", "min")
    for how in kinds:
        [got] = run(lambda b, x, how=how: b.reduce(x, how, (0,)), np.zeros((0, 2), dtype))
        want = np.asarray(attributes.identity(how, dtype)).astype(dtype)
        assert got.tobytes() == np.array([want, want]).tobytes()


def test_max_propagates_nan():
    x = np.array([[1, np.nan, 2], [1, 3, 2]], np.float32)
    big, small = run(lambda b, x: (b.reduce(x, "max", (1,)), b.reduce(x, "min", (1,))), x)
    np.testing.assert_array_equal(big, [np.nan, 3])
    np.testing.assert_array_equal(small, [np.nan, 1])


def test_reduce_several_together():
    x = f32(3, 5)

    def body(b, x):
        i = b.iota(Aval((3, 5), I32), 1)

        def larger(b, v0, i0, v1, i1):
            take = b.compare(v1, v0, "GT")
            return b.select(take, v1, v0), b.select(take, i1, i0)

        return b.reduce_multi(
            [x, i], [b.constant(np.float32(-np.inf)), b.constant(np.int32(0))], (1,), larger
        )

    values, places = run(body, x)
    np.testing.assert_array_equal(values, x.max(1))
    np.testing.assert_array_equal(places, x.argmax(1))


def test_windows():
    x = np.arange(8, dtype=np.float32)
    pooled, strided, dilated = run(
        lambda b, x: (
            b.reduce_window(x, b.constant(np.float32(-np.inf)), "max", (3,), padding=((1, 1),)),
            b.reduce_window(x, b.constant(np.float32(0)), "add", (2,), strides=(3,)),
            b.reduce_window(
                x,
                b.constant(np.float32(0)),
                lambda b, p, q: b.add(p, q),
                (2,),
                window_dilation=(3,),
            ),
        ),
        x,
    )
    np.testing.assert_array_equal(pooled, [1, 2, 3, 4, 5, 6, 7, 7])
    np.testing.assert_array_equal(strided, [1, 7, 13])
    np.testing.assert_array_equal(dilated, x[:-3] + x[3:])
    [back] = run(
        lambda b, x, s: b.select_and_scatter(
            x, s, b.constant(np.float32(0)), "GE", "add", (2,), (2,)
        ),
        x,
        np.ones(4, np.float32),
    )
    np.testing.assert_array_equal(back, [0, 1] * 4)


def test_contractions():
    x, y = f32(2, 3, 4), f32(2, 4, 5)
    batched, full = run(
        lambda b, x, y: (
            b.dot_general(x, y, ((2,), (1,)), ((0,), (0,)), precision="HIGHEST"),
            b.dot_general(x, y, ((0, 2), (0, 1)), out_aval=Aval((3, 5), np.dtype(np.float32))),
        ),
        x,
        y,
    )
    np.testing.assert_allclose(batched, x @ y, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(full, np.einsum("aib,abj->ij", x, y), rtol=1e-5, atol=1e-6)
    [scalar] = run(lambda b, x: b.dot_general(x, x, ((0,), (0,))), f32(0))
    assert scalar == 0 and scalar.shape == ()


def test_convolution():
    x, w = f32(2, 3, 7), f32(4, 3, 3)
    dims = ((0, 1, 2), (0, 1, 2), (0, 1, 2))
    [got] = run(
        lambda b, x, w: b.convolution(
            x, w, dims=dims, out_aval=Aval((2, 4, 4), F32), strides=(2,), padding=((1, 1),)
        ),
        x,
        w,
    )
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1)))
    want = np.stack(
        [np.einsum("bik,oik->bo", padded[:, :, 2 * j : 2 * j + 3], w) for j in range(4)], -1
    )
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    last = ((0, 2, 1), (2, 1, 0), (0, 2, 1))  # NWC and WIO
    [got] = run(
        lambda b, x, w: b.convolution(
            x, w, dims=last, out_aval=Aval((2, 4, 4), F32), strides=(2,), padding=((1, 1),)
        ),
        x.transpose(0, 2, 1),
        w.transpose(2, 1, 0),
    )
    np.testing.assert_allclose(got.transpose(0, 2, 1), want, rtol=1e-4, atol=1e-5)


def test_gather_and_scatter():
    x, at = f32(5, 3), np.array([[4], [0], [4]], np.int32)
    [rows] = run(
        lambda b, x, i: b.gather(
            x,
            i,
            offset_dims=(1,),
            collapsed_slice_dims=(0,),
            start_index_map=(0,),
            index_vector_dim=1,
            slice_sizes=(1, 3),
            out_aval=Aval((3, 3), F32),
        ),
        x,
        at,
    )
    np.testing.assert_array_equal(rows, x[[4, 0, 4]])
    dims = dict(
        update_window_dims=(1,),
        inserted_window_dims=(0,),
        scatter_dims_to_operand_dims=(0,),
        index_vector_dim=1,
    )
    u = f32(3, 3)
    added, placed, custom = run(
        lambda b, x, i, u: (
            b.scatter(x, i, u, "add", **dims),
            b.scatter(
                x,
                b.slice(i, (0, 0), (2, 1)),
                b.slice(u, (0, 0), (2, 3)),
                "set",
                unique=True,
                **dims,
            ),
            b.scatter([x], i, [u], lambda b, old, new: b.maximum(old, new), **dims)[0],
        ),
        x,
        at,
        u,
    )
    want = x.copy()
    np.add.at(want, [4, 0, 4], u)
    np.testing.assert_allclose(added, want, rtol=1e-6)
    want = x.copy()
    want[[4, 0]] = u[:2]
    np.testing.assert_array_equal(placed, want)
    want = x.copy()
    np.maximum.at(want, [4, 0, 4], u)
    np.testing.assert_array_equal(custom, want)


def test_sort_is_stable_and_takes_companions():
    keys = np.array([3, 1, 2, 1, 3], np.int32)
    values = np.arange(5, dtype=np.int32)
    k, v = run(lambda b, k, v: b.sort([k, v], 0), keys, values)
    order = np.argsort(keys, kind="stable")
    assert k.tolist() == keys[order].tolist() and v.tolist() == order.tolist()
    [down] = run(lambda b, k: b.sort([k], 0, True, lambda b, x, y: b.compare(x, y, "GT")), keys)
    assert down.tolist() == sorted(keys.tolist(), reverse=True)


def test_linear_algebra_and_fft():
    a = f32(3, 3)
    a = a @ a.T + 3 * np.eye(3, dtype=np.float32)
    chol, solved = run(
        lambda b, a, y: (b.cholesky(a), b.triangular_solve(b.cholesky(a), y)), a, f32(3, 2)
    )
    np.testing.assert_allclose(np.tril(chol), np.linalg.cholesky(a), rtol=1e-4, atol=1e-5)
    assert solved.shape == (3, 2)
    x = f32(2, 8)
    spectrum, back = run(lambda b, x: (f := b.fft(x, "RFFT", (8,)), b.fft(f, "IRFFT", (8,))), x)
    np.testing.assert_allclose(spectrum, np.fft.rfft(x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(back, x, rtol=1e-4, atol=1e-5)


def test_random_bits_and_barrier():
    state = np.array([1, 2], np.uint64)
    new, bits = run(
        lambda b, s: b.rng_bit_generator(s, Aval((100,), np.dtype(np.uint32)), "THREE_FRY"), state
    )
    assert new.shape == (2,) and len(set(bits.tolist())) > 95
    x, y = run(lambda b, x: b.optimization_barrier([x, b.negate(x)]), f32(3))
    np.testing.assert_array_equal(x, -y)


# -- control and functions


def test_while_captures_outer_values():
    x = f32(3)

    def body(b, x):
        y = b.sine(x)
        zero, n = b.constant(np.int32(0)), b.constant(np.int32(4))
        return b.while_(
            [zero, x],
            lambda b, i, c: b.compare(i, n, "LT"),
            lambda b, i, c: (b.add(i, b.constant(np.int32(1))), b.add(c, y)),
        )

    i, c = run(body, x)
    assert i == 4
    np.testing.assert_allclose(c, x + 4 * np.sin(x), rtol=1e-5)


@pytest.mark.parametrize("index", [-1, 0, 1, 2, 7])
def test_case_takes_the_last_branch_when_out_of_range(index):
    x = f32(3)
    [got] = run(
        lambda b, i, x: b.case(
            i, [lambda b: b.negate(x), lambda b: (b.add(x, x),), lambda b: b.tanh(x)]
        ),
        np.int32(index),
        x,
    )
    want = [-x, 2 * x, np.tanh(x)][index if 0 <= index < 3 else 2]
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_functions_are_written_once():
    a = Aval((3,), F32)
    module = Module()
    b = Builder(module, [a])
    x = b.constant(f32(3))
    names = {b.function("twice", [a], [a], lambda b, x: b.add(x, x)) for _ in range(3)}
    assert len(names) == 1 and len(module.functions) == 1
    b.call(names.pop(), [x], [a], inlineable=False)
    assert 'inlineable = "false"' in b.lines[-1]
    with pytest.raises(TypeError, match="was declared"):
        b.function("wrong", [a], [Aval((4,), F32)], lambda b, x: x)


def test_lowering_checks_the_rule_against_the_shape_rule():
    x, y = Var(Aval((3,), F32)), Var(Aval((4,), F32))
    graph = Graph([x], [Eqn(FakeOp("liar", lambda b, x: x), [x], [y], {}, None)], [y])
    with pytest.raises(TypeError, match=r"liar.*float32\[4\]"):
        lower.lower_module(graph)
