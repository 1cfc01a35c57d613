"""What bevel.numpy refuses and says; random keys, sets, files, sizes that depend on data."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bevel as bv
import bevel.numpy as bnp
from bevel import errors, random

X = bnp.arange(12.0).reshape(3, 4)


# -- errors --------------------------------------------------------------------------------------

REFUSED = {
    "axis": (
        lambda: bnp.sum(X, axis=2),
        np.exceptions.AxisError,
        r"sum: axis 2 .* 2 axes; use -2\.\.1",
    ),
    "axis-twice": (lambda: bnp.sum(X, axis=(0, -2)), ValueError, "names an axis twice"),
    "axis-float": (lambda: bnp.sum(X, axis=1.0), TypeError, "axis must be an integer, got 1.0"),
    "reshape": (
        lambda: bnp.reshape(X, (5, -1)),
        errors.ShapeError,
        r"X is float32\[3,4\](?s:.*)12 elements do not divide into 5.*\(5, -1\)",
    ),
    "reshape-holes": (
        lambda: bnp.reshape(X, (-1, -1)),
        errors.ShapeError,
        r"only one entry of \(-1, -1\) can be -1",
    ),
    "squeeze": (lambda: bnp.squeeze(X, 0), errors.ShapeError, "axis 0 .* has size 3"),
    "broadcast": (
        lambda: bnp.broadcast_to(X, (3, 5)),
        errors.ShapeError,
        r"X is float32\[3,4\](?s:.*)equal to those of \(3, 5\)",
    ),
    "concatenate": (
        lambda: bnp.concatenate([X, X[:2]], 1),
        errors.ShapeError,
        r"X\[:2\] is float32\[2,4\](?s:.*)axis 0 is 3 in X and 2 in X\[:2\]",
    ),
    "concatenate-0d": (lambda: bnp.concatenate([1.0, 2.0]), errors.ShapeError, r"bnp\.stack"),
    "concatenate-none": (lambda: bnp.concatenate([]), ValueError, "at least one array"),
    "stack": (
        lambda: bnp.stack([X, X.T]),
        errors.ShapeError,
        r"X is float32\[3,4\] and X.T is float32\[4,3\]",
    ),
    "split": (lambda: bnp.split(X, 5), errors.ShapeError, r"bnp\.array_split"),
    "matmul": (
        lambda: bnp.matmul(X, X),
        TypeError,
        r"(?s)X is float32\[3,4\].*test_numpy_errors.py.*\(4\).*matmul\(X, X\.T\)",
    ),
    "matmul-scalar": (lambda: bnp.matmul(X, 2.0), errors.ShapeError, r"X \* 2\.0"),
    "matmul-stacks": (
        lambda: bnp.matmul(bnp.ones((2, 3, 4)), bnp.ones((3, 4, 2))),
        TypeError,
        "must broadcast",
    ),
    "tensordot": (
        lambda: bnp.tensordot(X, X, 1),
        errors.ShapeError,
        r"axes \(1,\) of X have the sizes \(4,\)",
    ),
    "einsum-label": (
        lambda: bnp.einsum("ij,jk", X, X),
        errors.ShapeError,
        "'j' stands for axis 1 of X, of size 4, and for axis 0 of X, of size 3",
    ),
    "einsum-count": (
        lambda: bnp.einsum("ij,jk", X),
        errors.ShapeError,
        "names 2 operands, and 1 were given",
    ),
    "einsum-result": (lambda: bnp.einsum("ij->k", X), errors.ShapeError, "'k' is in no operand"),
    "max-empty": (lambda: bnp.max(bnp.ones((0, 2)), 0), ValueError, "initial="),
    "max-where": (lambda: bnp.max(X, where=X > 0), ValueError, "where= needs initial="),
    "argmax-empty": (lambda: bnp.argmax(bnp.ones(0)), ValueError, "no elements"),
    "nanargmax": (lambda: bnp.nanargmax(bnp.array([np.nan])), ValueError, "nothing but NaN"),
    "out": (lambda: bnp.sum(X, out=X), TypeError, "immutable"),
    "take": (
        lambda: bnp.take(X, [0, 4], axis=1),
        IndexError,
        r"index 4 .* axis 1 of size 4; use -4\.\.3",
    ),
    "take-float": (lambda: bnp.take(X, 1.0), TypeError, r"indices\.astype"),
    "take-empty": (lambda: bnp.take(bnp.ones(0), 0), IndexError, "empty"),
    "choose": (lambda: bnp.choose(2, [1, 2]), IndexError, "index 2"),
    "where-one": (lambda: bnp.where(X, 1), ValueError, "both x and y"),
    "pad": (lambda: bnp.pad(X, 1, mode="edges"), ValueError, "mode must be one of constant"),
    "pad-keyword": (lambda: bnp.pad(X, 1, end_values=1), ValueError, "takes no 'end_values'"),
    "pad-negative": (lambda: bnp.pad(X, -1), ValueError, "negative"),
    "inv": (lambda: bnp.linalg.inv(X), errors.ShapeError, "square matrices"),
    "solve": (lambda: bnp.linalg.solve(bnp.eye(3), bnp.ones(4)), errors.ShapeError, "must have 3"),
    "norm": (lambda: bnp.linalg.norm(X, "frob"), ValueError, "no norm of a matrix"),
    "fft": (lambda: bnp.fft.rfft(X + 1j), TypeError, "real numbers"),
    "fft-norm": (lambda: bnp.fft.fft(X, norm="unit"), ValueError, "'ortho'"),
    "quantile": (lambda: bnp.quantile(X, 1.5), ValueError, "between 0 and 1"),
    "quantile-method": (lambda: bnp.quantile(X, 0.5, method="best"), ValueError, "median_unbiased"),
    "searchsorted": (lambda: bnp.searchsorted(X, 1), errors.ShapeError, "vector"),
    "interp": (lambda: bnp.interp(1.0, bnp.ones(2), bnp.ones(3)), errors.ShapeError, "one size"),
    "gradient": (lambda: bnp.gradient(bnp.ones(1)), errors.ShapeError, "needs 2"),
    "bincount": (lambda: bnp.bincount(bnp.array([-1])), ValueError, "negative"),
    "average": (
        lambda: bnp.average(X, weights=bnp.zeros((3, 4))),
        ZeroDivisionError,
        "sum to zero",
    ),
    "repeat": (lambda: bnp.repeat(X, -1), ValueError, "negative"),
    "vectorize": (
        lambda: bnp.vectorize(lambda x: x, signature="n->n")(X),
        ValueError,
        r"\(m,n\),\(n\)->\(m\)",
    ),
    "ragged": (
        lambda: bnp.vectorize(lambda x, y: x, signature="(n),(n)->(n)")(X, X.T),
        ValueError,
        "size 4, and 3",
    ),
    "save": (lambda: bnp.save(io.BytesIO(), {"a": X}), TypeError, r"bv\.checkpoint\.save"),
    "save-key": (lambda: bnp.save(io.BytesIO(), random.key(0)), TypeError, r"random\.key_data"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_say_what_and_what_instead(name):
    run, kind, message = REFUSED[name]
    with pytest.raises(kind, match=message):
        run()


def test_shape_errors_are_value_errors_and_type_errors():
    assert issubclass(errors.ShapeError, ValueError) and issubclass(errors.ShapeError, TypeError)


SIZED_BY_DATA = {
    "nonzero": lambda x: bnp.nonzero(x),
    "unique": lambda x: bnp.unique(x),
    "compress": lambda x: bnp.compress(x > 0, x),
    "repeat": lambda x: bnp.repeat(x, x.astype(int)),
    "bincount": lambda x: bnp.bincount(x.astype(int)),
    "trim_zeros": lambda x: bnp.trim_zeros(x),
    "roots": lambda x: bnp.roots(x),
}


@pytest.mark.parametrize("name", SIZED_BY_DATA)
def test_sizes_that_depend_on_traced_data_name_the_line(name):
    with pytest.raises(
        errors.ConcretizationTypeError, match=r"(?s)test_numpy_errors.py.*Write instead"
    ):
        bv.jit(SIZED_BY_DATA[name])(bnp.arange(4.0))


def test_a_traced_axis_is_refused():
    with pytest.raises(errors.TracerConversionError, match="static"):
        bv.jit(lambda x, axis: bnp.sum(x, axis))(X, 0)


# -- sizes given -----------------------------------------------------------------------------------


def test_nonzero_with_size_is_cut_and_filled():
    x = bnp.array([[0, 3], [4, 0]])
    f = bv.jit(lambda x, n: bnp.nonzero(x, size=n, fill_value=-1), static_argnums=1)
    for n in (0, 1, 2, 4):
        want = np.nonzero(np.asarray(x))
        for got, w in zip(f(x, n), want, strict=True):
            np.testing.assert_array_equal(got, np.concatenate([w, [-1] * n])[:n])


@pytest.mark.parametrize("size", [1, 3, 6])
def test_unique_with_size_equals_jnp(size):
    jnp = pytest.importorskip("jax.numpy")
    x = np.array([3.0, 1, np.nan, 3, np.nan, 0], np.float32)
    options = dict(return_index=True, return_inverse=True, return_counts=True, size=size)
    got = bv.jit(lambda x: bnp.unique(x, **options))(x)
    for g, w in zip(got, jnp.unique(x, **options), strict=True):
        np.testing.assert_array_equal(g, w)


@pytest.mark.parametrize("name", ["union1d", "setdiff1d", "setxor1d", "intersect1d", "isin"])
@given(st.lists(st.integers(-4, 4), max_size=8), st.lists(st.integers(-4, 4), max_size=8))
def test_sets_equal_numpy(name, a, b):
    x, y = np.array(a, np.int32), np.array(b, np.int32)
    want = getattr(np, name)(x, y)
    np.testing.assert_array_equal(getattr(bnp, name)(x, y), want)
    if name != "isin":
        padded = getattr(bnp, name)(x, y, size=12, fill_value=9)
        np.testing.assert_array_equal(padded, np.concatenate([want, [9] * 12])[:12])


@given(
    st.lists(st.floats(width=32), max_size=9),
    st.sampled_from([(), ("return_index",), ("return_inverse", "return_counts")]),
)
def test_unique_equals_numpy(values, options):
    x = np.array(values, np.float32)
    x[x == 0] = 0  # -0 and 0 are one value; which of them is kept is not promised
    wanted = dict.fromkeys(options, True)
    got, want = bnp.unique(x, **wanted), np.unique(x, **wanted)
    for g, w in zip(got if options else [got], want if options else [want], strict=True):
        np.testing.assert_array_equal(g, w)


def test_unique_along_an_axis():
    x = np.array([[2, 1], [0, 1], [2, 1]], np.int32)
    for axis in (0, 1):
        got = bnp.unique(x, return_inverse=True, return_counts=True, axis=axis)
        for g, w in zip(
            got, np.unique(x, return_inverse=True, return_counts=True, axis=axis), strict=True
        ):
            np.testing.assert_array_equal(g, w)


def test_repeat_bincount_and_compress_compile_with_a_size():
    counts = bnp.array([2, 0, 3])
    f = bv.jit(lambda x, n: bnp.repeat(x, n, total_repeat_length=7))
    np.testing.assert_array_equal(f(bnp.array([1, 2, 3]), counts), [1, 1, 3, 3, 3, 3, 3])
    np.testing.assert_array_equal(
        bv.jit(lambda x: bnp.bincount(x, length=3))(bnp.array([0, 2, 9])), [1, 0, 1]
    )
    f = bv.jit(lambda c, x: bnp.compress(c, x, size=3, fill_value=-1))
    np.testing.assert_array_equal(f(bnp.array([True, False, True]), bnp.arange(3)), [0, 2, -1])


def test_traced_indices_and_shifts():
    x = bnp.arange(5.0)
    np.testing.assert_array_equal(bv.jit(bnp.roll)(x, -7), np.roll(np.arange(5.0), -7))
    np.testing.assert_array_equal(bv.jit(lambda x, i: bnp.delete(x, i))(x, -2), [0, 1, 2, 4])
    got = bv.jit(lambda x, i: bnp.take(x, i))(x, bnp.array([-1, 9]))
    np.testing.assert_array_equal(got, [4, np.nan])
    np.testing.assert_array_equal(
        bv.jit(bnp.put_along_axis)(x, bnp.array([1]), 9.0), [0, 9, 2, 3, 4]
    )


# -- random keys -----------------------------------------------------------------------------------


def test_keys_pass_through_moves():
    keys = random.split(random.key(0), 6)
    words = np.asarray(random.key_data(keys))
    same = {
        "reshape": (lambda k: bnp.reshape(k, (2, 3)), lambda w: w.reshape(2, 3, 2)),
        "transpose": (lambda k: k.reshape(2, 3).T, lambda w: w.reshape(2, 3, 2).transpose(1, 0, 2)),
        "stack": (lambda k: bnp.stack([k, k], 1), lambda w: np.stack([w, w], 1)),
        "concatenate": (lambda k: bnp.concatenate([k, k]), lambda w: np.concatenate([w, w])),
        "expand": (lambda k: bnp.squeeze(bnp.expand_dims(k, 0)), lambda w: w),
        "broadcast": (
            lambda k: bnp.broadcast_to(k, (2, 6)),
            lambda w: np.broadcast_to(w, (2, 6, 2)),
        ),
        "flip": (lambda k: bnp.flip(k), lambda w: w[::-1]),
        "roll": (lambda k: bnp.roll(k, 2), lambda w: np.roll(w, 2, 0)),
        "take": (lambda k: bnp.take(k, bnp.array([5, 0])), lambda w: w[[5, 0]]),
        "repeat": (lambda k: bnp.repeat(k, 2), lambda w: np.repeat(w, 2, 0)),
        "where": (
            lambda k: bnp.where(bnp.arange(6) < 3, k, k[::-1]),
            lambda w: np.concatenate([w[:3], w[2::-1]]),
        ),
        "split": (lambda k: bnp.split(k, 2)[1], lambda w: w[3:]),
    }
    with random.allow_key_reuse():
        for name, (move, want) in same.items():
            for run in (move, bv.jit(move)):
                got = run(keys)
                assert str(got.dtype) == "key<threefry2x32>", name
                np.testing.assert_array_equal(random.key_data(got), want(words), err_msg=name)


@pytest.mark.parametrize(
    "name", ["sum", "mean", "sort", "cumsum", "argmax", "unique", "linalg.inv", "fft.fft", "median"]
)
def test_keys_are_no_numbers(name):
    fn = bnp
    for part in name.split("."):
        fn = getattr(fn, part)
    with pytest.raises(TypeError, match="random key"):
        fn(random.split(random.key(0), 2))


# -- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "int64", "uint16", "float16", "float64", "complex64"]
)
def test_save_and_load_keep_dtype_and_contents(tmp_path, dtype):
    x = bnp.asarray(np.array([[1, 0], [2, 3]]), dtype=dtype)
    bnp.save(tmp_path / "x", x)
    y = bnp.load(tmp_path / "x.npy")
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(x, y)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), np.asarray(x))


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn"])
def test_extension_dtypes_survive_savez(tmp_path, dtype):
    x = bnp.asarray([1.0, 2.0], dtype=dtype)
    with pytest.raises(TypeError, match="savez"):
        bnp.save(tmp_path / "x.npy", x)
    bnp.savez(tmp_path / "x.npz", bnp.arange(2), w=x)
    with bnp.load(tmp_path / "x.npz") as found:
        assert sorted(found) == ["arr_0", "w"] and len(found) == 2
        assert found["w"].dtype == x.dtype
        np.testing.assert_array_equal(np.asarray(found["w"], np.float32), [1, 2])
        with pytest.raises(KeyError, match="arr_0, w"):
            found["v"]


def test_saving_inside_a_compiled_function_is_refused(tmp_path):
    with pytest.raises(errors.TracerConversionError, match="outside"):
        bv.jit(lambda x: bnp.save(tmp_path / "x.npy", x))(X)


# -- odds and ends ---------------------------------------------------------------------------------


def test_half_precision_means_do_not_overflow():
    x = bnp.full(4, 60000.0, dtype=bnp.float16)
    assert float(bnp.mean(x)) == 60000 and float(bnp.std(x)) == 0
    assert bnp.mean(x).dtype == bnp.var(x).dtype == bnp.float16


def test_quantiles_of_infinities_are_infinities():
    x = bnp.array([1.0, np.inf, np.inf])
    assert float(bnp.quantile(x, 0.75)) == np.inf
    assert float(bnp.median(bnp.array([-np.inf, -np.inf, 1.0]))) == -np.inf


def test_descending_sorts_are_stable():
    x = np.array([1, 3, 3, 2, 1], np.int32)
    np.testing.assert_array_equal(bnp.argsort(x, descending=True), [1, 2, 3, 0, 4])
    np.testing.assert_array_equal(bnp.sort(x, descending=True), [3, 3, 2, 1, 1])


def test_in_place_functions_return_copies():
    x = bnp.zeros((2, 2))
    np.testing.assert_array_equal(bnp.fill_diagonal(x, 1), np.eye(2))
    np.testing.assert_array_equal(bnp.put(x, [0, 3], [1, 2]), [[1, 0], [0, 2]])
    np.testing.assert_array_equal(bnp.place(x, np.eye(2, dtype=bool), [5]), 5 * np.eye(2))
    np.testing.assert_array_equal(x, np.zeros((2, 2)))
    for fn in (bnp.fill_diagonal, bnp.put_along_axis):
        with pytest.raises(ValueError, match="inplace=False"):
            fn(x, 1, *([1] if fn is bnp.put_along_axis else []), inplace=True)


def test_matmul_precision_comes_from_the_setting():
    def text():
        return bv.jit(lambda x: x @ x.T).lower(X).as_text()

    assert "HIGHEST" not in text()
    with bv.config(default_matmul_precision="highest"):
        assert "HIGHEST" in text()


def test_einsum_of_many_operands_takes_the_cheap_order():
    a, b, c = bnp.ones((64, 2)), bnp.ones((2, 64)), bnp.ones((64, 2))
    text = bv.jit(lambda *xs: bnp.einsum("ij,jk,kl->il", *xs)).lower(a, b, c).as_text()
    assert "tensor<64x64x" not in text


@given(st.integers(0, 3), st.lists(st.integers(0, 4), min_size=1, max_size=3), st.integers(-5, 5))
def test_roll_and_split_equal_numpy(axis, shape, shift):
    axis %= len(shape)
    x = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    np.testing.assert_array_equal(bnp.roll(x, shift, axis), np.roll(x, shift, axis))
    for got, want in zip(bnp.array_split(x, 3, axis), np.array_split(x, 3, axis), strict=True):
        np.testing.assert_array_equal(got, want)
