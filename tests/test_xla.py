"""The StableHLO builder, clients, executables and caches, on hand-written programs."""

import os
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

from bevel.core import config
from bevel.core.aval import Aval
from bevel.core.errors import DonatedBufferError
from bevel.core.graph import Eqn, Graph, Lit, Var
from bevel.xla import attributes, bindings, cache, client, lower, types
from bevel.xla.builder import Builder, Module, function_text

F32, I32, BOOL = np.dtype(np.float32), np.dtype(np.int32), np.dtype(bool)
rng = np.random.default_rng(0)


class FakeOp:
    """What the lowering needs of an op."""

    def __init__(self, name, rule):
        self.name = name
        self.lower = rule
        self.effect = False


def f32(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def aval(x):
    return Aval(np.shape(x), np.asarray(x).dtype)


def program(body, ins, outs, platform="cpu"):
    """A lowered program from ``body(builder, *vals)``."""
    module = Module(platform)
    main = function_text(module, "main", ins, outs, body, True)
    n = len(ins)
    return lower.Lowered(
        module.text("test", main),
        platform,
        tuple(ins),
        tuple(outs),
        tuple(range(n)),
        (),
        tuple(module.host_callbacks),
    )


def run(body, *arrays, outs=None):
    """Results of ``body(builder, *vals)``; their avals are recorded by a first pass unless given."""
    ins = [aval(a) for a in arrays]
    if outs is None:
        b = Builder(Module())
        results = body(b, *[b.constant(a) for a in arrays])
        outs = [r.aval for r in (results if isinstance(results, (tuple, list)) else [results])]
    with config.config(compilation_cache_dir=""):
        exe = cache.compile_lowered(program(body, ins, outs))
    return [client.to_numpy(r) for r in exe.run([client.put(np.asarray(a)) for a in arrays])]


@pytest.fixture
def folder(tmp_path):
    """An empty compilation cache, and nothing remembered in memory."""
    cache.clear_memory()
    with config.config(compilation_cache_dir=str(tmp_path)):
        yield tmp_path
    cache.clear_memory()


# -- versions and laziness


@pytest.mark.parametrize(
    "version", ["0.10.2", "0.11.0", "0.12.0.1", "0.12.5.dev20260101+selfbuilt"]
)
def test_supported_versions(version):
    assert bindings.check_version(version) >= (0, 10, 2)


@pytest.mark.parametrize("version", ["0.4.38", "0.9.0", "0.10.1", "0.13.0", "1.0"])
def test_other_versions_say_what_to_install(version):
    with pytest.raises(
        ImportError, match=rf"(?s)jaxlib {version}.*pip install 'jaxlib>=0.10.2,<0.13'"
    ):
        bindings.check_version(version)


def test_importing_loads_no_jaxlib():
    code = "import sys, bevel.xla.cache; assert not any(m.split('.')[0] in ('jaxlib', 'jax') for m in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_only_bindings_imports_jaxlib():
    root = os.path.dirname(types.__file__)
    for name in os.listdir(root):
        if name.endswith(".py") and name != "bindings.py":
            with open(os.path.join(root, name)) as f:
                assert "jaxlib import" not in f.read(), name


@pytest.mark.parametrize("first", ["jax", "bevel.xla.cache"])
def test_lives_beside_jax(first):
    pytest.importorskip("jax")
    code = f"""
    import {first}
    import jax, numpy as np
    from bevel.xla import client
    b = client.put(np.ones(3, np.float32))
    client.devices("cpu")
    assert client.to_numpy(b).sum() == 3 and client.device_of(b).platform == "cpu"
    assert float(jax.jit(lambda x: x.sum())(jax.numpy.ones(3))) == 3
    assert float(jax.numpy.linalg.cholesky(4 * jax.numpy.eye(2))[0, 0]) == 2
    """
    env = {**os.environ, "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, env=env)


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
    "abs": np.abs, "cbrt": np.cbrt, "ceil": np.ceil, "cosine": np.cos, "exponential": np.exp, "floor": np.floor,
    "exponential_minus_one": np.expm1, "negate": np.negative, "sign": np.sign, "sine": np.sin, "tan": np.tan,
    "tanh": np.tanh, "round_nearest_even": np.round, "logistic": lambda x: 1 / (1 + np.exp(-x)), "sinh": np.sinh,
    "cosh": np.cosh, "atan": np.arctan, "asinh": np.arcsinh, "square": np.square, "is_finite": np.isfinite,
}  # fmt: skip
POSITIVE = {
    "log": np.log,
    "log_plus_one": np.log1p,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "sqrt": np.sqrt,
}
BINARY = {
    "add": np.add, "atan2": np.arctan2, "divide": np.divide, "maximum": np.maximum, "minimum": np.minimum,
    "multiply": np.multiply, "remainder": np.fmod, "subtract": np.subtract,
}  # fmt: skip
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
            b.transpose(x, (2, 0, 1)), b.reshape(x, (6, 4)), b.reverse(x, (1,)), b.slice(x, (0, 1, 0), (2, 3, 4), (1, 2, 3)),
            b.broadcast_in_dim(x, (5, 2, 3, 4), (1, 2, 3)), b.concatenate([x, x], 1),
            b.pad(x, b.constant(np.float32(9)), (1, -1, 0), (0, 0, 2), (1, 0, 0)), b.iota(Aval((2, 3), I32), 1), b.full(2.5, Aval((2, 0), F32)),
        ),
        x,
    )  # fmt: skip
    padded = np.full((4, 3, 6), 9, np.float32)
    padded[1::2, :, :4] = x
    want = [
        x.transpose(2, 0, 1), x.reshape(6, 4), x[:, ::-1], x[:, 1:3:2, ::3], np.broadcast_to(x, (5, 2, 3, 4)),
        np.concatenate([x, x], 1), padded[:, 1:], np.tile(np.arange(3), (2, 1)), np.zeros((2, 0)),
    ]  # fmt: skip
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
            lambda b, x, i: (b.dynamic_slice(x, [i], (2,)), b.dynamic_update_slice(x, b.constant(np.array([7, 8], np.int32)), [i])),
            x, np.int32(start),
        )  # fmt: skip
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
        x, y,
    )  # fmt: skip
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
        lambda b, x, w: b.convolution(x, w, dims=last, out_aval=Aval((2, 4, 4), F32), strides=(2,), padding=((1, 1),)),
        x.transpose(0, 2, 1), w.transpose(2, 1, 0),
    )  # fmt: skip
    np.testing.assert_allclose(got.transpose(0, 2, 1), want, rtol=1e-4, atol=1e-5)


def test_gather_and_scatter():
    x, at = f32(5, 3), np.array([[4], [0], [4]], np.int32)
    [rows] = run(
        lambda b, x, i: b.gather(
            x, i, offset_dims=(1,), collapsed_slice_dims=(0,), start_index_map=(0,), index_vector_dim=1, slice_sizes=(1, 3), out_aval=Aval((3, 3), F32)
        ),
        x, at,
    )  # fmt: skip
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
            b.scatter(x, b.slice(i, (0, 0), (2, 1)), b.slice(u, (0, 0), (2, 3)), "set", unique=True, **dims),
            b.scatter([x], i, [u], lambda b, old, new: b.maximum(old, new), **dims)[0],
        ),
        x, at, u,
    )  # fmt: skip
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


# -- foreign functions


def test_lapack_with_column_major_layouts():
    a = np.array([[4, 2], [2, 5]], np.float32)
    out = [Aval((2, 2), F32), Aval((), I32)]

    def body(b, a):
        return b.custom_call(
            "lapack_spotrf_ffi", [a], out, {"uplo": np.uint8(ord("L"))}, operand_layouts=[(0, 1)], result_layouts=[(0, 1), ()],
            output_operand_aliases={0: 0},
        )  # fmt: skip

    factor, info = run(body, a)
    assert info == 0
    np.testing.assert_allclose(np.tril(factor), np.linalg.cholesky(a), rtol=1e-5)


def test_callback_results_and_copies():
    kept = []

    def fn(x):
        kept.append(x)
        return x * 2, x.sum(keepdims=True)

    x = f32(3)
    double, total = run(
        lambda b, x: b.host_callback(fn, [x], [Aval((3,), F32), Aval((1,), F32)]), x
    )
    np.testing.assert_array_equal(double, 2 * x)
    np.testing.assert_allclose(total, [x.sum()], rtol=1e-6)
    assert kept[0].flags.owndata and kept[0].flags.writeable


@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (3,)])
@pytest.mark.parametrize("dtype", ["float32", "bool", "int8", "complex64", "bfloat16", "float64"])
def test_callback_shapes_and_dtypes(shape, dtype):
    dtype = next(d for d in types.DTYPE_NAMES if d.name == dtype)
    x = np.ones(shape, dtype)
    [got] = run(lambda b, x: b.host_callback(lambda a: a, [x], [aval(np.ones(shape, dtype))]), x)
    assert got.dtype == dtype and got.shape == shape and (got == x).all()


class Boom(Exception):
    pass


def test_an_exception_in_a_callback_is_the_users():
    def fn(x):
        raise Boom("from the user")

    with pytest.raises(Boom, match="from the user"):
        run(lambda b, x: b.host_callback(fn, [x], [x.aval]), f32(3))


@pytest.mark.parametrize(
    "fn, match",
    [
        (lambda x: x[:2], r"float32\[2\].*float32\[3\] was declared"),
        (lambda x: x.astype(np.float64), r"float64\[3\].*np\.float32"),
        (lambda x: (x, x), "returned 2 arrays, but 1"),
        (lambda x: None, "object"),
    ],
)
def test_wrong_callback_results_are_refused(fn, match):
    with pytest.raises((ValueError, TypeError), match=f"(?s){match}"):
        run(lambda b, x: b.host_callback(fn, [x], [Aval((3,), F32)]), f32(3))


def test_effects_run_in_program_order():
    seen = []

    def say(b, tag, *vals):
        b.host_callback(
            lambda *a: seen.append((tag, *map(int, a))) or (), list(vals), [], has_side_effect=True
        )

    def body(b, n):
        say(b, "start")

        def step(b, i):
            say(b, "step", i)
            b.case(i, [lambda b: (say(b, "zero"), i)[1], lambda b: i])
            name = b.function("f", [i.aval], [i.aval], lambda b, i: (say(b, "call", i), i)[1])
            b.call(name, [i], [i.aval])
            return b.add(i, b.constant(np.int32(1)))

        (m,) = b.while_([b.constant(np.int32(0))], lambda b, i: b.compare(i, n, "LT"), step)
        say(b, "end", m)
        for i in range(5):
            say(b, i)
        return m

    run(body, np.int32(2), outs=[Aval((), I32)])
    client.effects_barrier()
    steps = [("step", 0), ("zero",), ("call", 0), ("step", 1), ("call", 1)]
    assert seen == [("start",), *steps, ("end", 2), *[(i,) for i in range(5)]]


def test_the_process_waits_for_its_effects():
    code = """
    import numpy as np, time
    from tests.test_xla import *
    def slow(x):
        time.sleep(0.2)
        print("done", flush=True)
        return ()
    exe = cache.compile_lowered(program(lambda b, x: (b.host_callback(slow, [x], [], has_side_effect=True), x)[1], [Aval((3,), F32)], [Aval((3,), F32)]))
    exe.run([client.put(np.ones(3, np.float32))])
    """
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    out = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout == "done\n"


# -- devices and buffers


def test_devices():
    assert client.devices("cpu")[0] == client.default_device()
    assert client.local_devices()[0].platform == "cpu" and client.is_initialized("cpu")
    with pytest.raises(RuntimeError, match=r"tpu.*cpu"), config.config(platforms="tpu"):
        client.devices()
    with pytest.raises(RuntimeError, match="BEVEL_PLATFORMS"), config.config(platforms="cpu"):
        client.devices("cuda")
    with config.config(default_device="cpu"):
        assert client.default_device().platform == "cpu"


def test_a_missing_gpu_says_what_to_install():
    if bindings.find_cuda_plugin():
        pytest.skip("a CUDA plugin is installed")
    with (
        pytest.raises(RuntimeError, match=r"(?s)cuda.*pip install.*BEVEL_PLATFORMS=cpu"),
        config.config(platforms="cuda"),
    ):
        client.devices()


def test_several_cpu_devices():
    code = """
    import numpy as np
    from tests.test_xla import *
    a, c = client.devices()[:3:2]
    assert len(client.devices()) == 3
    b = client.put(np.arange(3, dtype=np.float32), c)
    assert client.device_of(b) == c
    moved = client.copy_to(b, a)
    assert client.device_of(moved) == a and client.to_numpy(moved).tolist() == [0, 1, 2]
    with config.config(compilation_cache_dir=""):
        exe = cache.compile_lowered(program(lambda b, x: b.add(x, x), [aval(np.ones(3, np.float32))], [aval(np.ones(3, np.float32))]), [c])
    [out] = exe.run([b])
    assert client.device_of(out) == c and client.to_numpy(out).tolist() == [0, 2, 4]
    """
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=root,
        check=True,
        env={**os.environ, "BEVEL_NUM_CPU_DEVICES": "3"},
    )


@pytest.mark.parametrize("size", [3, 16, 4096])
def test_put_copies_and_results_are_read_only(size):
    x = np.ones(size, np.float32)
    b = client.put(x)
    x[:] = 5
    y = client.to_numpy(b)
    assert y.sum() == size and not y.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        y[0] = 1
    assert (
        client.aval_of_buffer(b) == Aval((size,), F32)
        and client.is_buffer(b)
        and not client.is_buffer(x)
    )


def test_owned_memory_is_shared_and_kept_alive():
    x = np.arange(10**6, dtype=np.float32)
    b = client.put(x, owned=True)
    del x
    np.testing.assert_array_equal(
        client.to_numpy(b)[::1000], np.arange(0, 10**6, 1000, dtype=np.float32)
    )


@pytest.mark.parametrize("dtype", list(types.DTYPE_NAMES), ids=str)
def test_every_dtype_goes_there_and_back(dtype):
    for shape in ((), (0,), (3, 2)):
        x = np.ones(shape, dtype)
        got = client.to_numpy(client.put(x))
        assert got.dtype == dtype and got.shape == shape and got.tobytes() == x.tobytes()


def test_strided_and_byte_swapped_arrays():
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    for y in (x.T, x[::-1, ::2], x.astype(">f4"), np.broadcast_to(x[0], (5, 4))):
        np.testing.assert_array_equal(client.to_numpy(client.put(y)), y)


def test_use_after_donation_is_explained():
    a = Aval((3,), F32)
    exe = cache.compile_lowered(program(lambda b, x: b.sine(x), [a], [a]))
    b = client.put(f32(3))
    b.delete()
    with pytest.raises(DonatedBufferError, match="argument 0.*donate_argnums"):
        exe.run([b])
    with pytest.raises(DonatedBufferError, match="donated"):
        client.to_numpy(b)


# -- whole programs


def graph_of(n=8):
    x, y, z = (Var(Aval((n,), F32)) for _ in range(3))
    eqns = [
        Eqn(
            FakeOp("mul", lambda b, x, y: b.multiply(x, y)),
            [x, Lit(np.full(n, 2, np.float32))],
            [y],
            {},
            None,
        ),
        Eqn(FakeOp("sin", lambda b, x: b.sine(x)), [y], [z], {}, None),
    ]
    return Graph([x, Var(Aval((5,), I32))], eqns, [z, y])


def test_donated_and_dropped_arguments(folder):
    lowered = lower.lower_module(graph_of(), name="my <function>", donated=(0, 1), kept=(0,))
    assert (
        lowered.in_avals == (Aval((8,), F32),)
        and lowered.donated == (0,)
        and "@my__function_" in lowered.text
    )
    exe = cache.compile_lowered(lowered)
    x = f32(8)
    b = client.put(x)
    z, y = exe.run([b])
    np.testing.assert_allclose(client.to_numpy(z), np.sin(2 * x), rtol=1e-5)
    assert b.is_deleted() and exe.memory_analysis().alias_size_in_bytes == 32
    unmatched = lower.lower_module(graph_of(), donated=(1,))
    assert "jax.buffer_donor" in unmatched.text and "tf.aliasing_output" not in unmatched.text
    kept = client.put(x)
    cache.compile_lowered(unmatched).run([kept, client.put(np.zeros(5, np.int32))])
    assert not kept.is_deleted()


def test_executables_describe_themselves(folder):
    a, o = Aval((8, 8), F32), Aval((8, 8), F32)
    exe = cache.compile_lowered(program(lambda b, x: b.dot_general(x, x, ((1,), (0,))), [a], [o]))
    assert exe.cost_analysis()["flops"] >= 2 * 8**3 * 0.9
    memory = exe.memory_analysis()
    assert memory.output_size_in_bytes == 256 and memory.argument_size_in_bytes == 256
    assert (
        "HloModule" in exe.text()
        and "stablehlo.dot_general" in exe.stablehlo()
        and "output_size" in repr(memory)
    )
    again = client.load(
        "cpu",
        exe.serialize(),
        exe.stablehlo(),
        [o],
        exe.devices,
        bindings.compile_options(device_ids=[0]),
    )
    x = f32(8, 8)
    np.testing.assert_allclose(
        client.to_numpy(again.run([client.put(x)])[0]), x @ x, rtol=1e-4, atol=1e-5
    )


def residual(depth, size=2048):
    """x += sin(x) . W, repeated, with each x also squared and summed along rows."""
    op = {n: FakeOp(n, r) for n, r in {
        "add": lambda b, x, y: b.add(x, y), "sin": lambda b, x: b.sine(x),
        "dot_general": lambda b, x, y: b.dot_general(x, y, ((1,), (0,))), "mul": lambda b, x, y: b.multiply(x, y),
    }.items()}  # fmt: skip
    rows = size // 32
    x, w = Var(Aval((rows, 32), F32)), Var(Aval((32, 32), F32))
    eqns, v = [], x

    def emit(name, *args):
        out = Var(Aval((rows, 32), F32))
        eqns.append(Eqn(op[name], list(args), [out], {}, None))
        return out

    for _ in range(depth):
        v = emit("add", v, emit("dot_general", emit("sin", v), w))
    return Graph([x, w], eqns, [v])


def test_residual_streams_are_cut_on_the_cpu_only(folder):
    graph = residual(4)
    lowered = lower.lower_module(graph)
    assert (
        lowered.text.count("func.call @cut") == 3 and lowered.text.count("func.func private") == 1
    )
    assert "@cut" not in lower.lower_module(graph, platform="cuda").text
    assert "@cut" not in lower.lower_module(residual(4, 512)).text
    exe = cache.compile_lowered(lowered)
    assert "call(" in exe.text()
    x, w = f32(64, 32), f32(32, 32) / 10
    want = x
    for _ in range(4):
        want = want + np.sin(want) @ w
    [got] = exe.run([client.put(x), client.put(w)])
    np.testing.assert_allclose(client.to_numpy(got), want, rtol=1e-4, atol=1e-4)


def test_elementwise_programs_are_not_cut():
    a = Aval((4096,), F32)
    x, y, z, s = Var(a), Var(a), Var(a), Var(Aval((), F32))
    add, mul = (
        FakeOp("add", lambda b, x, y: b.add(x, y)),
        FakeOp("mul", lambda b, x, y: b.multiply(x, y)),
    )
    total = FakeOp("reduce_sum", lambda b, x: b.reduce(x, "add", (0,)))
    graph = Graph(
        [x],
        [
            Eqn(add, [x, x], [y], {}, None),
            Eqn(mul, [y, y], [z], {}, None),
            Eqn(total, [z], [s], {}, None),
        ],
        [s],
    )
    assert lower.wants_cut(graph) == set()


# -- caches


def sample(k=1.0):
    a = Aval((4,), F32)
    return program(lambda b, x: b.add(x, b.full(k, a)), [a], [a])


def entries(folder):
    return sorted(p for p in folder.iterdir() if p.name.endswith(cache.SUFFIX))


def check(exe, k=1.0):
    np.testing.assert_array_equal(
        client.to_numpy(exe.run([client.put(np.zeros(4, np.float32))])[0]), np.full(4, k)
    )


def test_memory_then_disk(folder):
    first = cache.compile_lowered(sample())
    assert (
        not first.from_cache
        and cache.compile_lowered(sample()) is first
        and len(entries(folder)) == 1
    )
    cache.clear_memory()
    second = cache.compile_lowered(sample())
    assert second.from_cache and second is not first
    check(second)
    assert not cache.compile_lowered(sample(2.0)).from_cache
    assert not cache.compile_lowered(
        sample(), options={"xla_cpu_enable_fast_math": True}
    ).from_cache
    assert len(entries(folder)) == 3


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "foreign"])
def test_damaged_entries_are_rewritten(folder, damage):
    cache.compile_lowered(sample())
    [path] = entries(folder)
    whole = path.read_bytes()
    if damage == "flip":
        path.write_bytes(whole[:-3] + bytes([whole[-3] ^ 255]) + whole[-2:])
    elif damage == "foreign":  # undamaged, but not an executable
        cache.write_entry(path, b"not an executable", 10**6)
    else:
        path.write_bytes(whole[: len(whole) // 2] if damage == "truncate" else b"")
    cache.clear_memory()
    exe = cache.compile_lowered(sample())
    assert not exe.from_cache
    check(exe)
    cache.clear_memory()
    assert cache.compile_lowered(sample()).from_cache


def test_the_least_recently_used_go(tmp_path):
    paths = [tmp_path / f"{i}{cache.SUFFIX}" for i in range(4)]
    for i, p in enumerate(paths[:3]):
        cache.write_entry(p, bytes(1000), 3500)
        os.utime(p, (i, i))
    stale = tmp_path / "x.tmp"
    stale.write_bytes(b"x")
    os.utime(stale, (0, 0))
    assert cache.read_entry(paths[0]) == bytes(1000)  # used: now the newest
    cache.write_entry(paths[3], bytes(1000), 3500)
    assert [p.exists() for p in paths] == [True, False, True, True] and not stale.exists()
    cache.write_entry(tmp_path / f"huge{cache.SUFFIX}", bytes(5000), 3500)
    assert not (tmp_path / f"huge{cache.SUFFIX}").exists()


def test_a_bad_folder_is_no_error(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    cache.clear_memory()
    for bad in (blocked, blocked / "below", "/proc/nowhere"):
        with config.config(compilation_cache_dir=str(bad)):
            check(cache.compile_lowered(sample(float(len(str(bad))))), float(len(str(bad))))


def test_slow_compiles_only(folder):
    with config.config(compilation_cache_min_compile_secs=1000.0):
        cache.compile_lowered(sample())
    assert entries(folder) == []


def test_programs_with_callbacks_are_never_kept(folder):
    a = Aval((4,), F32)

    def make(k):
        return program(
            lambda b, x: b.host_callback(lambda x: x + np.float32(k), [x], [a]), [a], [a]
        )

    one, two = cache.compile_lowered(make(1)), cache.compile_lowered(make(2))
    check(one, 1)
    check(two, 2)
    assert entries(folder) == []
    with pytest.raises(ValueError, match="cannot be saved"):
        one.serialize()


def test_writers_at_once(folder):
    path = folder / f"same{cache.SUFFIX}"
    contents = [bytes([i]) * 200_000 for i in range(4)]
    seen, stop = [], time.monotonic() + 1.0

    def write(data):
        while time.monotonic() < stop:
            cache.write_entry(path, data, 10**9)

    threads = [threading.Thread(target=write, args=(c,)) for c in contents]
    for t in threads:
        t.start()
    while time.monotonic() < stop:
        data = cache.read_entry(path)
        if data is not None:
            seen.append(data)
    for t in threads:
        t.join()
    assert seen and all(s in contents for s in seen) and not list(folder.glob("*.tmp"))


def test_a_second_process_starts_warm(tmp_path):
    code = "from tests.test_xla import *; print(cache.compile_lowered(sample(3.0)).from_cache)"
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    env = {**os.environ, "BEVEL_COMPILATION_CACHE_DIR": str(tmp_path)}
    outs = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=root,
            env=env,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for _ in range(2)
    ]
    assert outs == ["False", "True"]
