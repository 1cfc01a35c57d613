"""Functions of bevel.lax beyond the common ones, against JAX: eager and in one compiled program."""

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import errors, lax
from bevel.core.aval import Aval
from bevel.core.graph import trace
from bevel.core.handle import wrap
from bevel.transforms.compile import Program
from tests.peers import peer
from tests.test_lax_more import C, F, both

I32 = np.random.default_rng(3).integers(-(2**31), 2**31, (2, 50), dtype=np.int64).astype(np.int32)
I8 = I32.astype(np.int8)
U16 = I32.astype(np.uint16)
GROUPS = np.array([1, 0, 3], np.int32)


def ragged(lax, contract, batch, axis, group):
    return lax.RaggedDotDimensionNumbers((contract, batch), [axis], group)


ROWS = [
    ("broadcast_like", lambda m, x, y: m.broadcast_like(x, y), (F(3), F(2, 3))),
    ("mulhi-32", lambda m, x, y: m.mulhi(x, y), tuple(I32)),
    ("mulhi-8", lambda m, x, y: m.mulhi(x, y), tuple(I8)),
    ("mulhi-u16", lambda m, x, y: m.mulhi(x, y), tuple(U16)),
    (
        "index_take",
        lambda m, x, i, j: m.index_take(x, (i, j), (0, 2)),
        (F(3, 4, 2), np.array([0, -1, 5], np.int32), np.array([1, 3, -2], np.int32)),
    ),
    (
        "local",
        lambda m, x, k: m.conv_general_dilated_local(x, k, (2, 1), "VALID", (2, 3)),
        (F(2, 3, 5, 6), F(4, 18, 2, 4)),
    ),
    (
        "local-layout",
        lambda m, x, k: m.conv_general_dilated_local(
            x,
            k,
            (1, 2),
            "SAME",
            (2, 3),
            rhs_dilation=(2, 1),
            dimension_numbers=("NHWC", "WHIO", "NWHC"),
        ),
        (F(2, 5, 6, 3), F(6, 3, 18, 4)),
    ),
    (
        "conv-order",
        lambda m, x, k: m.conv_general_dilated(
            x, k, (2, 1), "SAME", dimension_numbers=("NHWC", "WHIO", "NHWC")
        ),
        (F(1, 5, 6, 2), F(3, 2, 2, 3)),
    ),
    (
        "transpose-consistent",
        lambda m, x, k: m.conv_transpose(
            x, k, (2,), [(1, 0)], rhs_dilation=(2,), use_consistent_padding=True
        ),
        (F(1, 5, 2), F(3, 2, 4)),
    ),
    ("approx_max_k", lambda m, x: m.approx_max_k(x, 3, reduction_dimension=0), (F(7, 2),)),
    ("approx_min_k", lambda m, x: m.approx_min_k(x, 2), (F(3, 6),)),
    ("igamma_grad_a", lambda m, a, x: m.igamma_grad_a(a, x), (np.exp(F(30)), np.exp(F(30)))),
    ("ragged_dot", lambda m, x, y, g: m.ragged_dot(x, y, g), (F(6, 4), F(3, 4, 5), GROUPS)),
    (
        "ragged-batch",
        lambda m, x, y, g: m.ragged_dot_general(
            x, y, g, ragged(m, ((2,), (2,)), ((0,), (1,)), 1, [0])
        ),
        (F(2, 6, 4), F(3, 2, 4, 5), np.array([[1, 2, 3], [4, 0, 1]], np.int32)),
    ),
    (
        "ragged-kept-inner",
        lambda m, x, y, g: m.ragged_dot_general(x, y, g, ragged(m, ((0,), (1,)), ((), ()), 2, [2])),
        (F(4, 2, 6), F(5, 4, 3), np.array([[1, 2, 3], [4, 0, 1]], np.int32)),
    ),
    (
        "ragged-contracted",
        lambda m, x, y, g: m.ragged_dot_general(
            x, y, g, ragged(m, ((0, 2), (2, 1)), ((1,), (0,)), 2, [])
        ),
        (F(2, 3, 6), F(3, 6, 2, 5), GROUPS),
    ),
    (
        "ragged-contracted-sizes",
        lambda m, x, y, g: m.ragged_dot_general(
            x, y, g, ragged(m, ((2,), (1,)), ((0,), (0,)), 2, [])
        ),
        (F(2, 3, 6), F(2, 6, 5), np.array([[1, 2, 3], [4, 0, 1]], np.int32)),
    ),
    (
        "ragged-of-batch",
        lambda m, x, y, g: m.ragged_dot_general(
            x, y, g, ragged(m, ((2,), (1,)), ((0,), (0,)), 0, [])
        ),
        (F(4, 3, 6), F(4, 6, 5), GROUPS),
    ),
    ("F32_F32_F32", lambda m, x, y: m.dot(x, y, precision="F32_F32_F32"), (F(4, 9), F(9, 3))),
    (
        "DEFAULT",
        lambda m, x, y: m.dot(x, y, precision=m.DotAlgorithmPreset.DEFAULT),
        (F(4, 9), F(9, 3)),
    ),
    (
        "BF16_X6",
        lambda m, x, y: m.dot(x, y, precision=m.DotAlgorithmPreset.BF16_BF16_F32_X6),
        (F(4, 9), F(9, 3)),
    ),
    ("exp", lambda m, x: m.exp(x, accuracy=m.AccuracyMode.HIGHEST), (F(3),)),
    ("sin", lambda m, x: m.sin(x, accuracy=m.Tolerance(atol=1e-3, rtol=1e-3)), (F(3),)),
    ("stage", lambda m, x: m.stage(x), (F(2),)),
    ("shape_as_value", lambda m: m.shape_as_value((2, 3)), ()),
    (
        "composite",
        lambda m, x: m.composite(lambda x, *, k: m.sin(x) * k, "my.sine")(x, k=2.0),
        (F(3),),
    ),
    (
        "platform",
        lambda m, x: m.platform_dependent(x, cpu=m.sin, cuda=m.cos, default=m.tan),
        (F(3),),
    ),
    ("barrier", lambda m, x: m.optimization_barrier((x, m.create_token()))[0], (F(3),)),
]


def test_functions_equal_jax():
    both(ROWS[:-1], lax, peer("jax.lax"))


def test_scaled_dot_equals_jax():
    """JAX's eager scaled_dot rounds in bfloat16, so these operands are exact in it."""
    jlax = peer("jax.lax")
    g = np.random.default_rng(0)
    x, y, s, t = (
        (2.0 ** g.integers(-3, 4, shape)).astype(np.float32)
        for shape in ((2, 3, 8), (2, 8, 4), (2, 3, 2), (2, 4, 4))
    )
    for preferred in (np.float32, None):
        flags = dict(lhs_scale=s, rhs_scale=t, preferred_element_type=preferred)
        want = jlax.scaled_dot(x, y, **flags)
        got = lax.scaled_dot(bnp.asarray(x), bnp.asarray(y), **flags)
        assert got.dtype == want.dtype and got.shape == want.shape
        np.testing.assert_allclose(
            np.asarray(got, np.float32), np.asarray(want, np.float32), rtol=1e-2
        )
    one = lax.scaled_dot(bnp.asarray(x), bnp.asarray(y), preferred_element_type=np.float32)
    np.testing.assert_allclose(one, x @ y, rtol=1e-6)
    for bad in (s[:, :2], t):
        with pytest.raises(errors.ShapeError):
            lax.scaled_dot(bnp.asarray(x), bnp.asarray(y), lhs_scale=bad)


def test_shapes_equal_jax():
    jlax = peer("jax.lax")
    layouts = ("NHWC", "WHIO", "NWHC")
    calls = [
        lambda m: m.conv_general_permutations(layouts),
        lambda m: tuple(m.conv_dimension_numbers((1, 2, 3, 4), (1, 2, 4, 5), layouts)),
        lambda m: m.conv_shape_tuple((4, 3, 9, 8), (6, 3, 3, 2), (2, 1), "SAME", 2),
        lambda m: m.conv_shape_tuple((4, 3, 9), (6, 3, 3), (2,), [(1, 2)]),
        lambda m: m.conv_general_shape_tuple((2, 9, 8, 3), (3, 2, 3, 5), (2, 1), "SAME", layouts),
        lambda m: m.conv_transpose_shape_tuple((2, 9, 8, 3), (3, 2, 3, 5), (2, 1), "SAME", layouts),
        lambda m: m.conv_transpose_shape_tuple(
            (2, 9, 8, 3), (3, 2, 3, 5), (2, 3), [(1, 0), (2, 1)], layouts
        ),
        lambda m: m.reduce_window_shape_tuple((9, 8), (3, 2), (2, 3), ((0, 1), (1, 1))),
        lambda m: m.reduce_window_shape_tuple(
            (9, 8), (3, 2), (2, 3), ((0, 1), (1, 1)), (2, 1), (1, 3)
        ),
        lambda m: m.dtype(np.zeros(2, np.int8)),
    ]
    for i, call in enumerate(calls):
        assert call(lax) == call(jlax), i
    assert lax.dtype(1) == np.int32
    wrong = [
        lambda: lax.conv_shape_tuple((4, 3, 9), (6, 3, 3), (2,), [(1, 2), (0, 0)]),
        lambda: lax.conv_shape_tuple((4, 3, 2), (6, 3, 3), (2,), [(-9, 2)]),
        lambda: lax.broadcast_like(bnp.ones(3), bnp.ones(2)),
    ]
    for call in wrong:
        with pytest.raises(ValueError):
            call()


def test_mulhi_of_64_bits():
    edge = np.array([-(2**63), 2**63 - 1, -1, 0, 1, 123456789123456789, -987654321987654321])
    for dtype in (np.int64, np.uint64):
        values = edge.astype(dtype)
        x, y = (v.ravel() for v in np.meshgrid(values, values))
        want = [(int(a) * int(b)) >> 64 for a, b in zip(x, y, strict=True)]
        args = bnp.asarray(x, dtype), bnp.asarray(y, dtype)
        for out in (lax.mulhi(*args), bv.jit(lax.mulhi)(*args)):
            assert out.dtype == dtype and np.asarray(out).tolist() == want
    with pytest.raises(TypeError):
        lax.mulhi(1.0, 2.0)


# -- algorithms ----------------------------------------------------------------------------------

ERRORS = {
    "F16_F16_F16": 2e-2,
    "F16_F16_F32": 5e-3,
    "BF16_BF16_BF16": 1e-1,
    "BF16_BF16_F32": 3e-2,
    "BF16_BF16_F32_X3": 2e-4,
    "BF16_BF16_F32_X6": 2e-6,
    "BF16_BF16_F32_X9": 2e-6,
    "TF32_TF32_F32": 5e-3,
    "TF32_TF32_F32_X3": 2e-6,
    "F32_F32_F32": 2e-6,
    "F64_F64_F64": 1e-7,
}


def test_dot_algorithms():
    """Every preset has the error that its roundings explain, and no more; the same compiled."""
    x, y = F(8, 64), F(64, 8)
    exact = x.astype(np.float64) @ y.astype(np.float64)
    scale = np.abs(x) @ np.abs(y)
    names = [n for n in lax.DotAlgorithmPreset.__members__ if n in ERRORS]
    assert len(names) == len(ERRORS)

    def run(x, y):
        return [lax.dot(x, y, precision=n) for n in names]

    args = bnp.asarray(x), bnp.asarray(y)
    for out, compiled, name in zip(run(*args), bv.jit(run)(*args), names, strict=True):
        assert out.dtype == compiled.dtype == np.float32
        error = float((np.abs(np.asarray(out) - exact) / scale).max())
        assert error < ERRORS[name] / 4, name
        if ERRORS[name] > 1e-5:
            assert error > ERRORS[name] / 400, name
        np.testing.assert_allclose(out / scale, compiled / scale, atol=ERRORS[name] / 4)
    wide = lax.dot(*args, precision="F64_F64_F64", preferred_element_type=np.float64)
    np.testing.assert_allclose(wide, exact, rtol=1e-12)


def test_dot_algorithms_of_float8():
    x = F(3, 4).astype(lax.dtype(bnp.zeros((), "float8_e4m3fn")))
    a = bnp.asarray(x)

    def run(a):
        return [
            lax.dot(a, a.T, precision="ANY_F8_ANY_F8_F32", preferred_element_type=np.float32),
            lax.dot(a, a.T, precision="ANY_F8_ANY_F8_ANY", preferred_element_type=bnp.bfloat16),
        ]

    want = x.astype(np.float32) @ x.astype(np.float32).T
    for outs in (run(a), bv.jit(run)(a)):
        np.testing.assert_allclose(outs[0], want, rtol=1e-6)
        np.testing.assert_allclose(outs[1].astype(np.float32), want, rtol=2e-2)
    with pytest.raises(TypeError, match="8 bits"):
        lax.dot(bnp.ones(3), bnp.ones(3), precision="ANY_F8_ANY_F8_F32")
    with pytest.raises(TypeError, match="for floats"):
        lax.dot(bnp.arange(3), bnp.arange(3), precision="F32_F32_F32")
    with pytest.raises(ValueError, match="precision"):
        lax.dot(bnp.ones(3), bnp.ones(3), precision="F12")


def test_dot_algorithms_have_derivatives():
    x, y = bnp.asarray(F(2, 3)), bnp.asarray(F(3, 4))
    f = lambda p: bv.grad(lambda x: lax.dot(x, y, precision=p).sum())(x)  # noqa: E731
    plain = f(None)
    for p in ("BF16_BF16_F32_X6", lax.DotAlgorithm("float16", "float32", "float32")):
        np.testing.assert_allclose(f(p), plain, rtol=1e-3)
    half = lax.DotAlgorithmPreset.F16_F16_F32
    np.testing.assert_allclose(bnp.matmul(x, y, precision=half), x @ y, rtol=5e-3, atol=5e-3)
    rows = bv.vmap(lambda x: lax.dot(x, y, precision="BF16_BF16_F32_X6"))(x)
    np.testing.assert_allclose(rows, x @ y, rtol=1e-5)
    for bad in (half, "BF16_BF16_F32"):
        with pytest.raises(ValueError, match="precision"):
            lax.conv(bnp.ones((1, 1, 4)), bnp.ones((1, 1, 2)), (1,), "VALID", precision=bad)
    inf = lax.dot(bnp.array([bnp.inf, 1.0]), bnp.ones(2), precision="BF16_BF16_F32_X3")
    assert float(inf) == np.inf


def test_accuracy():
    """What a Tolerance may ask for is true: 64 units in the last place of normal results."""
    g = np.random.default_rng(0)
    size = 4000
    grids = dict(
        near=np.concatenate([g.normal(size=size) * s for s in (1e-3, 1, 10, 1e4)]),
        exp=g.uniform(-80, 80, size),
        positive=10.0 ** g.uniform(-30, 30, size),
    )
    where = dict(cos="near", exp="exp", exp2="exp", expm1="exp", log="positive", cbrt="positive")
    where |= dict(log1p="positive", rsqrt="positive", sqrt="positive", sin="near", tan="near")
    where |= dict(tanh="near", logistic="exp")
    reference = dict(logistic=lambda x: 1 / (1 + np.exp(-x)), rsqrt=lambda x: 1 / np.sqrt(x))
    for dtype in (np.float32, np.float64):
        given = {k: v.astype(dtype) for k, v in grids.items()}
        ask = lax.Tolerance(ulps=64)
        run = lambda args, ask=ask: [  # noqa: E731
            getattr(lax, n)(args[k], accuracy=ask) for n, k in where.items()
        ]
        args = {k: bnp.asarray(v, dtype) for k, v in given.items()}
        for outs in (run(args), bv.jit(run)(args)):
            for (name, k), out in zip(where.items(), outs, strict=True):
                exact = given[k].astype(np.longdouble)
                want = reference.get(name, getattr(np, name, None))(exact)
                unit = np.spacing(np.abs(want).astype(dtype)).astype(np.longdouble)
                assert np.max(np.abs(np.asarray(out) - want) / unit) < 64, (name, dtype)
    with pytest.raises(errors.Unsupported, match="promised"):
        lax.exp(1.0, accuracy=lax.Tolerance(ulps=1))
    with pytest.raises(errors.Unsupported, match="promised"):
        lax.exp(1.0, accuracy=lax.Tolerance(atol=1.0))
    with pytest.raises(TypeError):
        lax.exp(1.0, accuracy=1e-3)
    for bad in (dict(), dict(atol=-1.0)):
        with pytest.raises(ValueError):
            lax.Tolerance(**bad)


# -- generators ----------------------------------------------------------------------------------


def test_rng_bit_generator_equals_jax():
    jlax = peer("jax.lax")
    state = np.array([1, 2, 3, 4], np.uint32)
    for name, shape in (("RNG_THREE_FRY", (6,)), ("RNG_PHILOX", (5, 3)), ("RNG_DEFAULT", (5, 3))):
        want = jlax.rng_bit_generator(state, shape, algorithm=jlax.RandomAlgorithm[name])
        flags = dict(algorithm=lax.RandomAlgorithm[name])
        got = lax.rng_bit_generator(bnp.asarray(state), shape, **flags)
        for a, b in zip(want, got, strict=True):
            np.testing.assert_array_equal(a, b)
    with pytest.raises(TypeError):
        lax.rng_bit_generator(bnp.asarray(state), (3,), np.int32)


def test_rng_uniform_draws_anew():
    def run():
        return [
            lax.rng_uniform(*[bnp.asarray(v, d) for v in (1, 5)], (4000,))
            for d in (np.float32, np.float64, np.int32)
        ]

    compiled = bv.jit(run)
    for go in (run, compiled):
        for first, second in zip(go(), go(), strict=True):
            x = np.asarray(first)
            assert x.dtype == second.dtype and not np.array_equal(x, second)
            middle = 2.5 if x.dtype == np.int32 else 3.0
            assert x.min() >= 1 and x.max() < 5 and abs(x.mean() - middle) < 0.15
    with pytest.raises(errors.Unsupported):
        bv.grad(lambda a: lax.rng_uniform(a, 2.0, ()))(1.0)
    with pytest.raises(TypeError):
        lax.rng_uniform(1.0, 2, ())


# -- programs ------------------------------------------------------------------------------------


def test_platform_dependent_keeps_the_others_out_of_the_program():
    def f(x):
        return lax.platform_dependent(
            x, cpu=lambda x: (x * 2, x), tpu=lambda x: (lax.sin(x), x), default=lambda x: (x, x)
        )

    x = bnp.asarray(F(3))
    np.testing.assert_allclose(bv.jit(f)(x)[0], 2 * np.asarray(x))
    text = bv.jit(f).lower(x).as_text()
    assert "multiply" in text and "sine" not in text and "case" not in text
    np.testing.assert_allclose(bv.jit(bv.grad(lambda x: f(x)[0].sum()))(x), [2, 2, 2])
    np.testing.assert_allclose(bv.jit(bv.vmap(f))(x)[0], 2 * np.asarray(x))
    looped = bv.jit(lambda x: lax.fori_loop(0, 3, lambda i, x: f(x)[0], x))
    np.testing.assert_allclose(looped(x), 8 * np.asarray(x), rtol=1e-6)
    # Nor do the others enter where derivatives cut a program in two.
    steps = lambda x: lax.scan(lambda c, _: (f(c)[0], f(c)[0]), x, None, length=3)[1].sum()  # noqa: E731
    for g in (bv.grad(steps), bv.hessian(lambda x: f(x)[0].sum()), bv.grad(bv.remat(steps))):
        text = bv.jit(g).lower(x).as_text()
        assert "sine" not in text and "cosine" not in text and "case" not in text
    only_here = lambda x: lax.platform_dependent(x, cpu=lambda x: x, tpu=lambda x: x)  # noqa: E731
    assert only_here(1.0) == 1.0
    for call in (lambda x: lax.platform_dependent(x, cuda=lambda x: x),):
        for go in (call, bv.jit(call)):
            with pytest.raises(errors.Unsupported, match="cpu=f"):
                go(x)
    with pytest.raises(ValueError, match="platform"):
        lax.platform_dependent(x, gpu=lambda x: x)
    with pytest.raises(TypeError):
        lax.platform_dependent(x)
    with pytest.raises(TypeError, match="different"):
        bv.jit(lambda x: lax.platform_dependent(x, cpu=lambda x: x, cuda=lambda x: x[0]))(x)


def test_platform_dependent_writes_programs_for_platforms_that_are_not_here():
    def f(x):
        return lax.platform_dependent(wrap(x), cpu=lax.sin, cuda=lax.cos, tpu=lax.tan)._v

    graph, _ = trace(lambda x: [f(x)], [Aval((3,), np.dtype(np.float32))], "test")
    for platform, op in dict(cpu="sine", gpu="cosine", cuda="cosine", tpu="tan").items():
        text = Program(graph).lowered(platform).text
        found = [n for n in ("sine", "cosine", "tan") if f"stablehlo.{n}" in text]
        assert found == [op], platform
    with pytest.raises(errors.Unsupported, match="rocm"):
        Program(graph).lowered("rocm")


def test_composite():
    scale = bnp.asarray(F(3))

    def rms(x, /, *, eps, mode=None, tags=("a", 1)):
        return {"out": x * lax.rsqrt((x * x).mean() + eps) * scale}

    f = lax.composite(rms, "my.rms", version=2)
    x = bnp.asarray(F(3))
    want = rms(x, eps=1e-5)["out"]
    run = lambda x: f(x, eps=1e-5, mode=None, tags=("a", 1))["out"]  # noqa: E731
    np.testing.assert_allclose(run(x), want, rtol=1e-6)
    np.testing.assert_allclose(bv.jit(run)(x), want, rtol=1e-5)
    text = bv.jit(run).lower(x).as_text()
    assert "stablehlo.composite" in text and 'name = "my.rms"' in text
    assert "version = 2" in text and "mode" not in text
    grad = bv.grad(lambda x: rms(x, eps=1e-5)["out"].sum())(x)
    for g in (bv.grad(lambda x: run(x).sum()), bv.jit(bv.grad(lambda x: run(x).sum()))):
        np.testing.assert_allclose(g(x), grad, atol=1e-5)
    rows = bnp.asarray(F(2, 3))
    np.testing.assert_allclose(bv.vmap(run)(rows)[1], rms(rows[1], eps=1e-5)["out"], rtol=1e-5)
    with pytest.raises(TypeError, match="attribute"):
        f(x, eps=x)


def test_stage_makes_traced_values():
    assert bool(lax.stage(True))
    assert "stage" in str(bv.make_graph(lambda x: lax.stage(2.0))(1.0))
    g = bv.jit(bv.grad(lambda x: lax.stage(x) * lax.stage(2.0)))(bnp.asarray(3.0))
    assert float(g) == 2.0 and lax.stage(1.0).weak_type


def test_sinks_and_tokens():
    def f(x):
        token = lax.after_all(lax.create_token(), lax.create_token())
        lax.dce_sink({"a": lax.sin(x)})
        lax.dce_sink(lax.cos(x), prevent_mlir_dce=True)
        return lax.optimization_barrier((x, token))[0]

    x = bnp.asarray(F(3))
    graph = str(bv.make_graph(f)(x))
    assert "sin" in graph and "dce_sink" in graph
    np.testing.assert_array_equal(bv.jit(f)(x), x)
    np.testing.assert_array_equal(bv.grad(lambda x: f(x).sum())(x), np.ones(3))
    np.testing.assert_array_equal(bv.jit(bv.vmap(f))(x), x)
    with pytest.raises(TypeError, match="tokens"):
        lax.after_all(x)


# -- collectives ---------------------------------------------------------------------------------


def test_ragged_all_to_all_sends_slices():
    """Against a loop over senders; sizes and offsets are random, and the results differentiable."""
    g = np.random.default_rng(0)
    size, per, length, room = 3, 2, 12, 20
    n = size * per
    x, out = F(size, length, 2), F(size, room, 2)
    sizes = g.integers(0, 3, (size, n)).astype(np.int32)
    starts = g.integers(0, length - 3, (size, n)).astype(np.int32)
    places = np.zeros((size, n), np.int32)
    received = np.zeros((size, n), np.int32)
    want = out.copy()
    for to in range(size):
        at = 0
        for source in range(size):
            for j in range(per):
                slot = to * per + j
                k = sizes[source, slot]
                places[source, slot], received[to, source * per + j] = at, k
                want[to, at : at + k] = x[source, starts[source, slot] :][:k]
                at += k
    f = bv.vmap(lambda *args: lax.ragged_all_to_all(*args, axis_name="i"), axis_name="i")
    args = [bnp.asarray(v) for v in (x, out, starts, sizes, places, received)]
    for got in (f(*args), bv.jit(f)(*args)):
        np.testing.assert_array_equal(got, want)
    weights = bnp.asarray(F(size, room, 2))
    dx, dout = bv.grad(lambda x, o: (f(x, o, *args[2:]) * weights).sum(), argnums=(0, 1))(*args[:2])
    total = float((dx * args[0]).sum() + (dout * args[1]).sum())
    np.testing.assert_allclose(total, float((want * np.asarray(weights)).sum()), rtol=1e-4)
    with pytest.raises(errors.ShapeError, match="multiple"):
        f(*args[:2], *[v[:, :4] for v in args[2:]])


def test_pbroadcast_and_pcast():
    x = {"a": bnp.asarray(F(3, 2)), "b": bnp.arange(3) > 1}
    got = bv.vmap(lambda x: lax.pbroadcast(x, "i", 1), axis_name="i")(x)
    np.testing.assert_array_equal(got["a"], np.broadcast_to(np.asarray(x["a"])[1], (3, 2)))
    assert got["b"].dtype == bool
    same = bv.vmap(lambda x: lax.pcast(x, ("i",), to="varying"), axis_name="i")(x["a"])
    np.testing.assert_array_equal(same, x["a"])
    inside = lambda f: bv.vmap(f, axis_name="i")(x["a"])  # noqa: E731
    with pytest.raises(ValueError, match="rows"):
        inside(lambda x: lax.pbroadcast(x, "i", 3))
    with pytest.raises(NameError):
        inside(lambda x: lax.pcast(x, "j", to="varying"))
    with pytest.raises(errors.Unsupported):
        inside(lambda x: lax.pcast(x, "i", to="unreduced"))


def test_ragged_dot_is_differentiable_and_batched():
    x, w = F(2, 6, 4), F(3, 4, 5)
    groups = np.array([[1, 2, 3], [2, 0, 1]], np.int32)

    def loop(x, w, g):
        out, at = np.zeros((6, 5), np.float32), 0
        for k, size in enumerate(g):
            out[at : at + size] = x[at : at + size] @ w[k]
            at += size
        return out

    f = bv.vmap(lax.ragged_dot, in_axes=(0, None, 0))
    args = [bnp.asarray(v) for v in (x, w, groups)]
    want = np.stack([loop(a, w, g) for a, g in zip(x, groups, strict=True)])
    np.testing.assert_allclose(f(*args), want, rtol=1e-4, atol=1e-5)
    c = F(2, 6, 5)
    dw = bv.jit(bv.grad(lambda w: (f(args[0], w, args[2]) * bnp.asarray(c)).sum()))(args[1])
    np.testing.assert_allclose(float((dw * args[1]).sum()), (want * c).sum(), rtol=1e-3)
    wrong = [
        lambda: lax.ragged_dot(args[0][0], args[1], args[2]),
        lambda: lax.ragged_dot(args[0][0], args[1][:2], args[2][0]),
        lambda: lax.ragged_dot_general(
            args[0][0], args[1], args[2][0], ragged(lax, ((1,), (1,)), ((), ()), 1, [0])
        ),
    ]
    for call in wrong:
        with pytest.raises(ValueError):
            call()
    with pytest.raises(errors.Unsupported, match="group_offset"):
        lax.ragged_dot(args[0][0], args[1], args[2][0], group_offset=bnp.array([1]))


def test_complex_operands_are_refused_where_they_must():
    for call in (
        lambda x: lax.approx_max_k(x, 1),
        lambda x: lax.dot(x, x, precision="BF16_BF16_F32"),
    ):
        with pytest.raises(TypeError):
            call(bnp.asarray(C(3)))
