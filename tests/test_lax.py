"""bevel.lax against jax.lax: values, shapes, dtypes, eager, compiled, derivatives; strictness."""

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import errors, lax, random

jax = pytest.importorskip("jax")

RNG = np.random.default_rng(0)


def F(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def INT(*shape, low=-5, high=6):
    return RNG.integers(low, high, shape).astype(np.int32)


POSITIVE, UNIT, X, Y, Z = (
    np.abs(F(3, 4)) + 0.5,
    RNG.uniform(-0.9, 0.9, (3, 4)).astype(np.float32),
    F(3, 4),
    F(3, 4),
    F(4),
)
K, J, C = INT(3, 4), INT(3, 4, low=1), (F(3) + 1j * F(3)).astype(np.complex64)

UNARY = {
    "abs acos asin asinh atan atanh bessel_i0e bessel_i1e cbrt ceil cos cosh erf erfc": UNIT,
    "erf_inv exp exp2 expm1 floor": UNIT,
    "logistic neg sign sin sinh square tan tanh": X,
    "acosh digamma lgamma log log1p rsqrt sqrt reciprocal": POSITIVE + 1,
    "bitwise_not clz population_count": J,
    "conj imag real": C,
    "is_finite": np.array([1, np.nan, np.inf], np.float32),
}
BINARY = {
    "add sub mul max min atan2 nextafter complex eq ne lt le gt ge": (X, Y),
    "div rem": (X, POSITIVE),
    "bitwise_and bitwise_or bitwise_xor": (K, J),
    "shift_left shift_right_arithmetic shift_right_logical": (K, np.abs(J)),
    "igamma igammac zeta": (POSITIVE + 1, POSITIVE),
}
TABLE = [
    (n, lambda m, x, n=n: getattr(m, n)(x), (x,)) for ns, x in UNARY.items() for n in ns.split()
]
TABLE += [
    (n, lambda m, x, y, n=n: getattr(m, n)(x, y), xy)
    for ns, xy in BINARY.items()
    for n in ns.split()
]


def gather_dims(m, *args):
    return m.GatherDimensionNumbers(*args)


def scatter_dims(m, *args):
    return m.ScatterDimensionNumbers(*args)


IMAGE, KERNEL = F(2, 3, 8, 7), F(6, 3, 3, 2)
PLACES = np.array([[1], [7], [0]], np.int32)

TABLE += [
    ("div-int", lambda m, x, y: m.div(x, y), (K, J)),
    ("rem-int", lambda m, x, y: m.rem(x, y), (K, J)),
    ("add-scalar", lambda m, x: m.add(x, 1.0), (X,)),
    ("polygamma", lambda m, x: m.polygamma(np.float32(1), x), (POSITIVE,)),
    ("betainc", lambda m, x, a: m.betainc(a, a, x), (np.abs(UNIT), POSITIVE)),
    ("pow", lambda m, x, y: m.pow(x, y), (POSITIVE, Y)),
    ("pow-int", lambda m, x: m.pow(x, 3), (X,)),
    ("pow-ints", lambda m, x, y: m.pow(x, y), (X, K)),
    ("integer_pow", lambda m, x: m.integer_pow(x, -2), (X,)),
    ("round", lambda m, x: m.round(x), (np.array([0.5, 1.5, -2.5, 2.4], np.float32),)),
    ("round-even", lambda m, x: m.round(x, m.RoundingMethod.TO_NEAREST_EVEN), (X * 2,)),
    ("clamp", lambda m, x: m.clamp(-0.5, x, 0.5), (X,)),
    ("clamp-arrays", lambda m, x, y: m.clamp(x, y, y), (X, Y)),
    ("select", lambda m, x, y: m.select(x > y, x, y), (X, Y)),
    ("select-one", lambda m, x, y: m.select(True, x, y), (X, Y)),
    ("select_n", lambda m, x, y: m.select_n(np.array([0, 2, 1], np.int32), x, y, x), (F(3), F(3))),
    ("convert", lambda m, x: m.convert_element_type(x, np.int32), (X * 9,)),
    ("bitcast", lambda m, x: m.bitcast_convert_type(x, np.uint32), (X,)),
    ("bitcast-narrow", lambda m, x: m.bitcast_convert_type(x, np.uint16), (X,)),
    ("reduce_precision", lambda m, x: m.reduce_precision(x, 5, 10), (X,)),
    ("full", lambda m: m.full((2, 3), 7, np.float32), ()),
    ("full_like", lambda m, x: m.full_like(x, 2), (K,)),
    ("iota", lambda m: m.iota(np.float32, 4), ()),
    ("broadcasted_iota", lambda m: m.broadcasted_iota(np.int32, (2, 3), 1), ()),
    ("broadcast", lambda m, x: m.broadcast(x, (2, 1)), (X,)),
    ("broadcast_in_dim", lambda m, x: m.broadcast_in_dim(x, (3, 2, 4), (0, 2)), (X,)),
    ("broadcast_to_rank", lambda m, x: m.broadcast_to_rank(x, 3), (X,)),
    ("reshape", lambda m, x: m.reshape(x, (2, 6)), (X,)),
    ("reshape-dimensions", lambda m, x: m.reshape(x, (12,), (1, 0)), (X,)),
    ("transpose", lambda m, x: m.transpose(x, (1, 0)), (X,)),
    ("expand_dims", lambda m, x: m.expand_dims(x, (0, 2)), (X,)),
    ("squeeze", lambda m, x: m.squeeze(x, (0, 2)), (F(1, 3, 1),)),
    ("collapse", lambda m, x: m.collapse(x, 1, 3), (F(2, 3, 4, 5),)),
    ("concatenate", lambda m, x, y: m.concatenate([x, y], 1), (X, Y)),
    ("split", lambda m, x: m.split(x, (1, 3), 1), (X,)),
    ("slice", lambda m, x: m.slice(x, (0, 1), (3, 4), (2, 1)), (X,)),
    ("slice_in_dim", lambda m, x: m.slice_in_dim(x, 1, -1, 1, 1), (X,)),
    ("index_in_dim", lambda m, x: m.index_in_dim(x, -1, 1, keepdims=False), (X,)),
    ("dynamic_slice", lambda m, x, i: m.dynamic_slice(x, (i, 1), (2, 2)), (X, np.int32(2))),
    (
        "dynamic_slice-negative",
        lambda m, x, i: m.dynamic_slice(x, (i, i), (2, 2)),
        (X, np.int32(-2)),
    ),
    (
        "dynamic_slice-vector",
        lambda m, x, i: m.dynamic_slice(x, i, (1, 2)),
        (X, np.array([1, 9], np.int32)),
    ),
    ("dynamic_slice_in_dim", lambda m, x, i: m.dynamic_slice_in_dim(x, i, 2, 1), (X, np.int32(1))),
    (
        "dynamic_index_in_dim",
        lambda m, x, i: m.dynamic_index_in_dim(x, i, 1, False),
        (X, np.int32(-1)),
    ),
    (
        "dynamic_update_slice",
        lambda m, x, u, i: m.dynamic_update_slice(x, u, (i, 0)),
        (X, F(2, 2), np.int32(9)),
    ),
    (
        "dynamic_update_slice_in_dim",
        lambda m, x, u: m.dynamic_update_slice_in_dim(x, u, 1, 1),
        (X, F(3, 2)),
    ),
    (
        "dynamic_update_index_in_dim",
        lambda m, x, u: m.dynamic_update_index_in_dim(x, u, 2, 1),
        (X, F(3)),
    ),
    ("rev", lambda m, x: m.rev(x, (1,)), (X,)),
    ("pad", lambda m, x: m.pad(x, 2.0, [(1, -1, 0), (0, 2, 1)]), (X,)),
    (
        "gather",
        lambda m, x, i: m.gather(x, i, gather_dims(m, (1,), (0,), (0,)), (1, 4)),
        (X, PLACES),
    ),
    (
        "gather-fill",
        lambda m, x, i: m.gather(x, i, gather_dims(m, (1,), (0,), (0,)), (1, 4), mode="fill"),
        (X, PLACES),
    ),
    (
        "gather-batched",
        lambda m, x, i: m.gather(
            x, i, gather_dims(m, (), (1,), (1,), (0,), (0,)), (1, 1), mode="clip"
        ),
        (X, PLACES),
    ),
    *[
        (
            f"scatter{kind}",
            lambda m, x, i, u, kind=kind: getattr(m, f"scatter{kind}")(
                x, i, u, scatter_dims(m, (1,), (0,), (0,))
            ),
            (X, PLACES, F(3, 4)),
        )
        for kind in ("", "_add", "_sub", "_mul", "_min", "_max")
    ],
    (
        "scatter_apply",
        lambda m, x, i: m.scatter_apply(
            x, i, m.sin, scatter_dims(m, (1,), (0,), (0,)), update_shape=(3, 4)
        ),
        (X, PLACES),
    ),
    *[
        (f"reduce_{n}", lambda m, x, n=n: getattr(m, f"reduce_{n}")(x, (1,)), (X,))
        for n in ("sum", "prod", "max", "min")
    ],
    *[
        (f"reduce_{n}", lambda m, x, n=n: getattr(m, f"reduce_{n}")(x, (0, 1)), (J,))
        for n in ("and", "or", "xor")
    ],
    ("argmax", lambda m, x: m.argmax(x, 1, np.int32), (X,)),
    ("argmin", lambda m, x: m.argmin(x, 0, np.uint8), (X,)),
    *[
        (f"{n}", lambda m, x, n=n: getattr(m, n)(x, axis=1, reverse=True), (X,))
        for n in ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
    ],
    ("reduce", lambda m, x: m.reduce(x, np.float32(1), m.add, (0,)), (X,)),
    ("reduce-max", lambda m, x: m.reduce(x, -np.float32(np.inf), m.max, (0, 1)), (X,)),
    ("reduce-bool", lambda m, x: m.reduce(x > 0, False, m.bitwise_or, (1,)), (X,)),
    (
        "reduce-own",
        lambda m, x: m.reduce(
            x, np.float32(0), lambda a, b: m.add(a, m.mul(b, np.float32(1))), (1,)
        ),
        (X,),
    ),
    (
        "reduce-tree",
        lambda m, x, i: m.reduce(
            (x, i),
            (np.float32(-np.inf), np.int32(0)),
            lambda a, b: (m.max(a[0], b[0]), m.select(m.ge(a[0], b[0]), a[1], b[1])),
            (1,),
        ),
        (X, np.broadcast_to(np.arange(4, dtype=np.int32), (3, 4)).copy()),
    ),
    (
        "reduce_window",
        lambda m, x: m.reduce_window(x, np.float32(0), m.add, (2, 2), (1, 2), "SAME"),
        (X,),
    ),
    (
        "reduce_window-max",
        lambda m, x: m.reduce_window(
            x, -np.float32(np.inf), m.max, (2, 2), (1, 1), [(1, 0), (0, 1)], (1, 2), (1, 1)
        ),
        (X,),
    ),
    (
        "reduce_window-int",
        lambda m, x: m.reduce_window(x, np.int32(2), m.max, (1, 3), (1, 1)),
        (K,),
    ),
    ("reduce_window-prod", lambda m, x: m.reduce_window(x, np.float32(1), m.mul, (2, 1)), (X,)),
    ("sort", lambda m, x: m.sort(x, dimension=0), (X,)),
    ("sort-keys", lambda m, x, y, z: m.sort((x, y, z), num_keys=2), (K, J, X)),
    ("sort_key_val", lambda m, x, y: m.sort_key_val(x, y), (K, X)),
    ("top_k", lambda m, x: m.top_k(x, 2), (K,)),
    ("top_k-axis", lambda m, x: m.top_k(x, 2, axis=0), (X,)),
    ("dot", lambda m, x, y: m.dot(x, y), (X, Z)),
    ("dot-matrices", lambda m, x, y: m.dot(x, y), (X, F(4, 2))),
    (
        "dot_general",
        lambda m, x, y: m.dot_general(x, y, (((2,), (1,)), ((0,), (0,)))),
        (F(2, 3, 4), F(2, 4, 5)),
    ),
    (
        "dot_general-preferred",
        lambda m, x, y: m.dot_general(
            x, y, (((1,), (1,)), ((), ())), preferred_element_type=np.int32
        ),
        (K.astype(np.int8), J.astype(np.int8)),
    ),
    ("batch_matmul", lambda m, x, y: m.batch_matmul(x, y), (F(2, 3, 4), F(2, 4, 5))),
    ("conv", lambda m, x, k: m.conv(x, k, (2, 1), "SAME"), (IMAGE, KERNEL)),
    (
        "conv_general_dilated",
        lambda m, x, k: m.conv_general_dilated(
            x, k, (1, 2), [(1, 2), (0, 1)], (2, 1), (1, 2), feature_group_count=3
        ),
        (IMAGE, F(6, 1, 3, 2)),
    ),
    (
        "conv-layouts",
        lambda m, x, k: m.conv_general_dilated(
            x, k, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NWHC")
        ),
        (F(2, 8, 7, 3), F(3, 2, 3, 4)),
    ),
    (
        "conv-lower",
        lambda m, x, k: m.conv_general_dilated(x, k, (2, 2), "SAME_LOWER"),
        (IMAGE, KERNEL),
    ),
    (
        "conv_with_general_padding",
        lambda m, x, k: m.conv_with_general_padding(x, k, (1, 1), [(0, 0), (2, 2)], (1, 1), (2, 1)),
        (IMAGE, KERNEL),
    ),
    *[
        (
            f"conv_transpose-{padding}-{stride}",
            lambda m, x, k, p=padding, s=stride: m.conv_transpose(x, k, (s, s), p),
            (F(1, 4, 5, 3), F(3, 2, 3, 4)),
        )
        for padding in ("SAME", "VALID")
        for stride in (1, 2, 4)
    ],
    (
        "conv_transpose-kernel",
        lambda m, x, k: m.conv_transpose(x, k, (2,), "SAME", transpose_kernel=True),
        (F(1, 4, 3), F(3, 4, 3)),
    ),
    (
        "conv_general_dilated_patches",
        lambda m, x: m.conv_general_dilated_patches(x, (3, 2), (2, 1), "SAME"),
        (IMAGE,),
    ),
    (
        "conv_general_dilated_patches-NHWC",
        lambda m, x: m.conv_general_dilated_patches(
            x, (3, 2), (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        ),
        (F(1, 5, 4, 2),),
    ),
    ("fft", lambda m, x: m.fft(x, "fft", (3,)), (C,)),
    ("fft-rfft", lambda m, x: m.fft(x, m.FftType.RFFT, (3, 4)), (X,)),
    ("fft-irfft", lambda m, x: m.fft(x, "irfft", (4,)), (C,)),
    (
        "linalg.cholesky",
        lambda m, x: m.linalg.cholesky(m.dot(x, m.transpose(x, (1, 0)))),
        (F(3, 5),),
    ),
    ("linalg.lu", lambda m, x: m.linalg.lu(x), (F(2, 4, 4),)),
    ("linalg.eigh", lambda m, x: m.linalg.eigh(x)[1], (F(4, 4),)),
    ("linalg.svd", lambda m, x: m.linalg.svd(x, compute_uv=False), (F(4, 3),)),
    (
        "linalg.triangular_solve",
        lambda m, a, b: m.linalg.triangular_solve(
            a, b, left_side=True, lower=True, transpose_a=True
        ),
        (np.tril(F(3, 3)) + 2 * np.eye(3, dtype=np.float32), F(3, 2)),
    ),
    (
        "linalg.triangular_solve-right",
        lambda m, a, b: m.linalg.triangular_solve(a, b),
        (np.triu(F(3, 3)) + 2 * np.eye(3, dtype=np.float32), F(2, 3)),
    ),
]
BY_NAME = {name: (fn, arrays) for name, fn, arrays in TABLE}


def leaves(x):
    return [leaf for item in x for leaf in leaves(item)] if isinstance(x, tuple | list) else [x]


def check(got, want):
    got, want = leaves(got), leaves(want)
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        assert (g.shape, str(g.dtype)) == (w.shape, str(w.dtype))
        np.testing.assert_allclose(np.asarray(g), np.asarray(w), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", BY_NAME)
def test_eager_and_compiled_equal_jax(name):
    fn, arrays = BY_NAME[name]
    want = fn(jax.lax, *[jax.numpy.asarray(a) for a in arrays])
    check(fn(lax, *[bnp.asarray(a) for a in arrays]), want)
    check(bv.jit(lambda *xs: fn(lax, *xs))(*arrays), want)


DIFFERENTIATED = [
    "abs", "erf", "lgamma", "logistic", "div", "pow", "pow-ints", "atan2", "clamp", "select",
    "broadcast_in_dim", "pad", "dynamic_slice", "dynamic_update_slice", "gather-fill",
    "scatter", "scatter_add", "scatter_sub", "scatter_max", "reduce", "reduce_prod",
    "reduce_max", "reduce_window", "reduce_window-max", "cumsum", "cumlogsumexp", "sort",
    "top_k-axis", "dot_general", "conv_general_dilated", "conv-layouts",
    "conv_transpose-SAME-2", "conv_general_dilated_patches", "linalg.cholesky",
]  # fmt: skip


@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_gradients_equal_jax(name):
    fn, arrays = BY_NAME[name]
    places = tuple(i for i, a in enumerate(arrays) if a.dtype.kind == "f")

    def loss(m, sin):
        def run(*xs):
            outs = [o for o in leaves(fn(m, *xs)) if np.dtype(o.dtype).kind == "f"]
            return sum(sin(o).sum() for o in outs)

        return run

    got = bv.grad(loss(lax, bnp.sin), argnums=places)(*arrays)
    want = jax.grad(loss(jax.lax, jax.numpy.sin), argnums=places)(
        *[jax.numpy.asarray(a) for a in arrays]
    )
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(np.asarray(g), np.asarray(w), rtol=2e-3, atol=2e-4)


REFUSED = {
    "dtypes": (
        lambda: lax.add(X, K),
        TypeError,
        r"(?s)lax.add: dtypes float32, int32 differ .*test_lax.py.*bevel.numpy",
    ),
    "scalar": (lambda: lax.add(X, 1), TypeError, "never promotes"),
    "shapes": (
        lambda: lax.add(X, Z),
        errors.ShapeError,
        r"(?s)X is float32\[3,4\] and Z is float32\[4\].*bnp.add\(X, Z\)",
    ),
    "exp": (lambda: bv.jit(lax.exp)(1), TypeError, "float32"),
    "select": (lambda: lax.select(K, X, Y), TypeError, "bool pred"),
    "cases": (lambda: lax.select(X > 0, X, 0.0), errors.ShapeError, "bnp.where"),
    "starts": (lambda: lax.dynamic_slice(X, (0,), (1, 1)), errors.ShapeError, "one for each axis"),
    "reshape": (lambda: lax.reshape(X, (5,)), errors.ShapeError, "12 elements against 5"),
    "concatenate": (lambda: lax.concatenate([X, K], 0), TypeError, "never promotes"),
    "padding": (lambda: lax.conv(IMAGE, KERNEL, (1, 1), "FULL"), ValueError, "'SAME_LOWER'"),
    "layout": (
        lambda: lax.conv_general_dilated(
            IMAGE, KERNEL, (1, 1), "SAME", dimension_numbers=("NCHW", "OIHH", "NCHW")
        ),
        ValueError,
        "OIHH",
    ),
    "key": (lambda: lax.add(random.key(0), 1), TypeError, "random key"),
    "index": (lambda: lax.index_in_dim(X, 3), IndexError, "index 3 .* axis 0 of size 3"),
    "rounding": (lambda: lax.round(X, "up"), ValueError, "up"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_strictness_is_explained(name):
    run, kind, message = REFUSED[name]
    with pytest.raises(kind, match=message):
        run()


def test_reducing_with_a_function_that_captures_a_traced_value_is_refused():
    def f(x, s):
        return lax.reduce(x, np.float32(0), lambda a, b: a + b * s, (0,))

    with pytest.raises(errors.Unsupported, match="one more operand"):
        bv.jit(f)(Z, 2.0)


def test_python_numbers_take_the_dtype_they_meet():
    x = bnp.ones(2, bnp.bfloat16)
    assert lax.mul(x, 2.0).dtype == bnp.bfloat16
    assert lax.max(1, bnp.ones(2, bnp.int8)).dtype == bnp.int8


def test_stop_gradient_and_barrier_take_trees():
    f = bv.grad(lambda x: (x * lax.stop_gradient({"a": x, "n": 3})["a"]).sum())
    np.testing.assert_array_equal(f(bnp.array([2.0, 3.0])), [2, 3])
    out = bv.jit(lambda t: lax.optimization_barrier(t))({"a": X, "b": (K,)})
    np.testing.assert_array_equal(out["b"][0], K)


def test_moves_take_random_keys():
    keys = random.split(random.key(0), 4)
    words = np.asarray(random.key_data(keys))
    with random.allow_key_reuse():
        got = [
            lax.reshape(keys, (2, 2)),
            lax.dynamic_slice(keys, (bnp.int32(1),), (2,)),
            lax.concatenate([keys, keys], 0),
            lax.rev(keys, (0,)),
            lax.dynamic_update_slice(keys, keys[:1], (3,)),
        ]
        want = [
            words.reshape(2, 2, 2),
            words[1:3],
            np.concatenate([words, words]),
            words[::-1],
            words[[0, 1, 2, 0]],
        ]
        for g, w in zip(got, want, strict=True):
            np.testing.assert_array_equal(random.key_data(g), w)


def test_every_public_name_says_what_it_does():
    for name in dir(lax):
        thing = getattr(lax, name)
        if not name.startswith("_") and callable(thing):
            assert thing.__doc__, name
