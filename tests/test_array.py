"""The class `Array`: what it says about itself, conversions, operators, methods, errors, speed of
the short cut.
"""

import copy
import pickle
import subprocess
import sys
import warnings

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import bevel as bv
import bevel.numpy as bnp
from bevel import random

DTYPES = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
DTYPES += ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]


to_buffer = bv.jit(lambda x: x)


@pytest.fixture(params=["numpy", "buffer"])
def make(request):
    """Arrays backed by NumPy, and by a device buffer."""
    if request.param == "numpy":
        return bnp.asarray
    return lambda x, dtype=None: to_buffer(bnp.asarray(x, dtype))


# -- what it is ------------------------------------------------------------------------------------


def test_attributes(make):
    x = make(np.arange(6.0).reshape(2, 3))
    assert (x.shape, x.ndim, x.size, x.itemsize, x.nbytes) == ((2, 3), 2, 6, 4, 24)
    assert (
        x.dtype == np.float32 == bnp.float32
        and x.dtype == "float32"
        and isinstance(x.dtype, np.dtype)
    )
    assert (
        x.T.shape == (3, 2)
        and x.mT.shape == (3, 2)
        and make(np.zeros((2, 3, 4))).mT.shape == (2, 4, 3)
    )
    assert isinstance(x, bv.Array) and bv.Array is bnp.ndarray
    assert not x.weak_type and bnp.asarray(1.0).weak_type and (bnp.asarray(1.0) * 2).weak_type
    assert repr(x.aval) == "float32[2,3]" and len(x) == 2
    z = make(np.array([1 + 2j]))
    assert z.real.tolist() == [1] and z.imag.tolist() == [2] and z.conj().tolist() == [1 - 2j]
    assert x.devices() == {bv.devices()[0]} and x.device == bv.devices()[0]
    assert x.sharding.device_set == {x.device}
    assert not x.is_deleted() and x.block_until_ready() is x
    assert x.to_device(x.device).tolist() == x.tolist()


def test_attributes_under_jit():
    seen = {}

    @bv.jit
    def f(x, k):
        seen.update(
            shape=x.shape,
            dtype=x.dtype,
            size=x.T.size,
            len=len(x),
            key=(k.shape, str(k.dtype)),
            rows=len(list(x)),
        )
        with pytest.raises(bv.errors.ConcretizationTypeError):
            x.devices()
        assert x.block_until_ready() is x and x.copy() is x and not x.is_deleted()
        return x

    f(bnp.ones((2, 3)), random.key(0))
    assert seen == dict(
        shape=(2, 3), dtype=np.float32, size=6, len=2, key=((), "key<threefry2x32>"), rows=2
    )


# -- to NumPy and Python ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_to_numpy_is_shared_and_read_only(make, dtype):
    x = make(np.array([0, 1, 1]), dtype)
    a = np.asarray(x)
    assert a.dtype == bnp.dtype(dtype) == x.dtype and a.tolist() == [0, 1, 1]
    assert np.shares_memory(a, np.asarray(x)) and not a.flags.writeable
    with pytest.raises(ValueError):
        a[0] = 1
    own = np.array(x)
    own[0] = 1
    assert np.asarray(x)[0] == 0
    np.testing.assert_array_equal(np.asarray(x, np.complex128), [0, 1, 1])
    with pytest.raises(ValueError, match="copying"):
        np.asarray(x, "S4" if dtype == "complex128" else np.complex128, copy=False)


def test_the_data_given_is_not_shared():
    data = np.arange(3, dtype=np.float32)
    arrays = [
        bnp.asarray(data),
        bnp.array(data),
        bnp.from_dlpack(data),
        bnp.asarray(memoryview(data)),
        bnp.frombuffer(data, "float32"),
    ]
    data[:] = 9
    for x in arrays:
        assert x.tolist() == [0, 1, 2]


def test_dlpack_and_buffer():
    x = bnp.arange(3.0)
    shared = np.from_dlpack(x, copy=False)
    assert np.shares_memory(shared, np.asarray(x)) and not shared.flags.writeable
    assert np.from_dlpack(x).tolist() == [0, 1, 2]
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        t = torch.from_dlpack(x)
        t += 1
    assert x.tolist() == [0, 1, 2] and t.tolist() == [1, 2, 3]
    assert bnp.asarray(torch.ones(2)).tolist() == [1, 1] and bnp.from_dlpack(
        torch.ones(2)
    ).tolist() == [1, 1]
    if sys.version_info >= (3, 12):
        view = memoryview(x)
        assert view.readonly and view.tolist() == [0, 1, 2]


@pytest.mark.parametrize("dtype", DTYPES)
def test_python_numbers(make, dtype):
    x = make(np.array(1), dtype)
    assert complex(x) == 1 and bool(x) is True
    if x.dtype.kind == "c":
        for f in (int, float):
            with pytest.raises(TypeError, match=r"x\.real"):
                f(x)
    else:
        assert int(x) == 1 and float(x) == 1.0
    assert type(x.item()) in (bool, int, float, complex) and x.tolist() == 1
    if x.dtype.kind in "iu":
        assert [10, 20][x] == 20 and range(3)[x] == 1
    else:
        with pytest.raises(TypeError, match="integer"):
            [10, 20][x]


def test_conversions_that_make_no_sense():
    x = bnp.arange(3)
    for f, error, match in [
        (bool, ValueError, r"x\.any\(\)"),
        (int, TypeError, r"x\.tolist"),
        (float, TypeError, "0-d"),
        (range(3).__getitem__, TypeError, "int32"),
        (hash, TypeError, "unhashable"),
        (lambda x: {x: 1}, TypeError, "tobytes"),
        (lambda x: x.item(), ValueError, "3 elements"),
        (lambda x: bool(x[:0]), ValueError, "0 elements"),
        (lambda x: float(x[:1]), TypeError, r"x\.item\(\)"),
        (lambda x: len(x[0]), TypeError, "0-d"),
        (lambda x: list(x[0]), TypeError, "0-d"),
        (lambda x: f"{x:.2f}", TypeError, "one number"),
        (lambda x: x.__delitem__(0), TypeError, "bnp.delete"),
    ]:
        with pytest.raises(error, match=match):
            f(x)
    assert bool(x[1:2]) and x[1:2].item() == 1 and bnp.ones((2, 2)).item(3) == 1.0


CONVERSIONS = [
    (lambda x: {True: 1}[bool(x)], bv.errors.TracerBoolConversionError, r"lax\.cond"),
    (int, bv.errors.ConcretizationTypeError, "astype"),
    (float, bv.errors.ConcretizationTypeError, "debug.print"),
    (complex, bv.errors.ConcretizationTypeError, "complex"),
    (np.asarray, bv.errors.TracerArrayConversionError, "pure_callback"),
    (np.sin, bv.errors.TracerArrayConversionError, "bevel.numpy"),
    (lambda x: x.item(), bv.errors.ConcretizationTypeError, "return it"),
    (lambda x: x.tolist(), bv.errors.ConcretizationTypeError, "return it"),
    (pickle.dumps, bv.errors.ConcretizationTypeError, "return it"),
    (lambda x: range(3)[x.astype(int)], bv.errors.TracerIntegerConversionError, "static_argnames"),
]


@pytest.mark.parametrize("f, error, match", CONVERSIONS)
def test_a_traced_value_names_the_line_the_reason_and_the_code(f, error, match):
    @bv.jit
    def g(x):
        y = x * 2
        return f(y)

    with pytest.raises(error, match=rf"(?s)test_array.py.*Why.*{match}"):
        g(bnp.float32(1))


def test_branches_on_values_are_fine_under_grad():
    def f(x):
        return x * 2 if x > 0 and x else -x

    assert float(bv.grad(f)(3.0)) == 2 and float(bv.grad(f)(-3.0)) == -1
    with pytest.raises(bv.errors.TracerConversionError):
        bv.grad(lambda x: float(x) * x)(3.0)


# -- copies and text -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [*DTYPES, "float8_e4m3fn"])
def test_pickle_and_copy(make, dtype):
    x = make(np.array([[0, 1]]), dtype)
    for y in (pickle.loads(pickle.dumps(x)), copy.copy(x), copy.deepcopy(x), x.copy()):
        assert type(y) is bv.Array and y.dtype == x.dtype and y.tolist() == x.tolist()
        assert not np.shares_memory(np.asarray(y), np.asarray(x))
    assert pickle.loads(pickle.dumps(bnp.asarray(2.0))).weak_type
    k = random.split(random.key(3), 4)
    again = pickle.loads(pickle.dumps(k))
    assert again.dtype == k.dtype and bool((again == k).all())


def test_repr_and_str(make):
    for x, text in [
        (np.array([1.0, 2.0]), "Array([1., 2.], dtype=float32)"),
        (np.array([[1, 2], [3, 4]]), "Array([[1, 2],\n       [3, 4]], dtype=int32)"),
        (np.array(3.5), "Array(3.5, dtype=float32)"),
        (np.zeros(0), "Array([], dtype=float32)"),
        (np.zeros((0, 3)), "Array([], shape=(0, 3), dtype=float32)"),
        (np.array([True]), "Array([ True], dtype=bool)"),
        (np.array([np.nan, np.inf]), "Array([nan, inf], dtype=float32)"),
    ]:
        assert repr(make(x)) == text and str(make(x)) == str(np.asarray(make(x)))
    assert repr(bnp.ones(2, "bfloat16")) == "Array([1, 1], dtype=bfloat16)"
    assert repr(bnp.asarray(2.0)) == "Array(2., dtype=float32, weak_type=True)"
    assert repr(bnp.arange(15) + 100000).endswith(",\n      dtype=int32)")
    long = repr(make(np.arange(8) + 10**7))
    assert all(len(line) <= 75 for line in long.splitlines()) and long.endswith("dtype=int32)")
    assert f"{bnp.float32(3.14159):.2f} {bnp.int32(7):03d} {bnp.ones(2)}" == "3.14 007 [1. 1.]"
    assert "key<threefry2x32>" in repr(random.key(0)) and "shape=(2,)" in repr(
        random.split(random.key(0))
    )


def test_printing_a_traced_value_says_where_it_was_made():
    texts = []

    @bv.jit
    def f(x):
        y = x + 1
        texts.extend([repr(y), str(y), f"{y}", f"{y:.2f}"])
        return y

    f(bnp.ones(3))
    for text in texts:
        assert (
            text.startswith("Traced<float32[3]>, made at")
            and "test_array.py" in text
            and "bv.debug.print" in text
        )


def test_a_deleted_array_can_be_printed():
    x = bv.jit(lambda x: x + 1)(bnp.ones(1000))
    bv.jit(lambda x: x * 2, donate_argnums=0)(x).block_until_ready()
    if x.is_deleted():
        assert "deleted" in repr(x) and "deleted" in str(x)
        with pytest.raises(bv.errors.DonatedBufferError):
            np.asarray(x)


# -- operators -------------------------------------------------------------------------------------

import operator as py  # noqa: E402

BINARY = [py.add, py.sub, py.mul, py.truediv, py.floordiv, py.mod, py.pow, divmod]
BITS = [py.and_, py.or_, py.xor, py.lshift, py.rshift]
COMPARE = [py.eq, py.ne, py.lt, py.le, py.gt, py.ge]


@pytest.mark.parametrize("op", BINARY + COMPARE)
def test_operators_with_everything_on_the_other_side(make, op):
    a = np.array([1.5, 2.0, 3.0], np.float32)
    x = make(a)
    for other in (
        x,
        a,
        2,
        2.0,
        np.float32(2),
        np.int32(2),
        [1.0, 2.0, 3.0],
        (1, 2, 3),
        bnp.asarray(2),
    ):
        b = np.asarray(other)
        for got, want in ((op(x, other), op(a, b)), (op(other, x), op(b, a))):
            for g, w in zip(got, want, strict=True) if op is divmod else [(got, want)]:
                assert isinstance(g, bv.Array)
                np.testing.assert_allclose(g, w, rtol=1e-6)


@pytest.mark.parametrize("op", BITS)
def test_bit_operators(make, op):
    a = np.array([6, 3, 1], np.int32)
    for other in (make(np.array([1, 2, 3])), 2, np.int32(2)):
        np.testing.assert_array_equal(op(make(a), other), op(a, np.asarray(other)))
        np.testing.assert_array_equal(op(other, make(a)), op(np.asarray(other), a))
    with pytest.raises(TypeError, match="bits" if op in BITS[:3] else "shift"):
        op(bnp.ones(2), 1)


def test_unary_operators():
    x = bnp.array([1.5, -2.5])
    assert (
        (-x).tolist() == [-1.5, 2.5]
        and (+x).tolist() == [1.5, -2.5]
        and abs(x).tolist() == [1.5, 2.5]
    )
    assert (~bnp.array([True, False])).tolist() == [False, True] and (~bnp.arange(2)).tolist() == [
        -1,
        -2,
    ]
    assert round(x).tolist() == [2, -2] and round(x, 1).tolist() == [1.5, -2.5]
    assert 1.5 in x and 7 not in x


def test_in_place_operators_bind_a_new_array():
    x = y = bnp.zeros(2)
    x += 1
    x *= 3
    x @= bnp.eye(2)
    assert x.tolist() == [3, 3] and y.tolist() == [0, 0]
    a = np.zeros(2, np.float32)
    b = a + bnp.ones(2)
    assert isinstance(b, bv.Array)


def test_other_classes_get_their_turn():
    class Other:
        def __radd__(self, other):
            return "radd"

        def __eq__(self, other):
            return "eq"

        def __matmul__(self, other):
            return "matmul"

    x = bnp.ones(2)
    assert x + Other() == "radd" and (x == Other()) == "eq" and Other() @ x == "matmul"
    assert (x == None) is False and (x != "a") is True  # noqa: E711
    for bad in (None, "a", {}, object()):
        with pytest.raises(TypeError, match="unsupported operand"):
            x + bad


def test_broadcast_errors_name_shapes_and_line():
    for run in (
        lambda f: f(bnp.ones((2, 3)), bnp.ones(4)),
        lambda f: bv.jit(f)(bnp.ones((2, 3)), bnp.ones(4)),
    ):
        for f in (py.add, py.lt, py.pow, bnp.hypot, bnp.arctan2):
            with pytest.raises(
                bv.errors.ShapeError,
                match=r"(?s)float32\[2,3\] and .*float32\[4\].*(operator|test_array)",
            ):
                run(lambda x, y, f=f: f(x, y))


def test_python_numbers_take_the_dtype_they_meet():
    assert (bnp.ones(2, "float16") * 2.5).dtype == "float16" and (
        bnp.ones(2, "int8") + 1
    ).dtype == "int8"
    assert (bnp.ones(2, "int8") * 2.5).dtype == "float32" and (
        bnp.ones(2, bool) + 1
    ).dtype == "int32"
    assert (bnp.uint32(5) & 0xFFFFFFFF).item() == 5 and (
        bnp.asarray(2, bnp.int64) + 2**40
    ).item() == 2**40 + 2
    assert (bnp.ones(2) * 10**10).tolist() == [1e10, 1e10]
    for f in (
        lambda: bnp.uint8(3) + 300,
        lambda: bnp.uint32(3) * -1,
        lambda: bnp.int32(1) + 2**31,
        lambda: bnp.asarray(2**31),
    ):
        with pytest.raises(OverflowError, match=r"(?s)does not fit.*test_array.*Write instead"):
            f()
    assert bool(bnp.uint8(3) < 300) and bool(bnp.uint8(3) > -1) and not bool(bnp.int32(3) == 2**40)
    assert bool(bv.jit(lambda x: x < 300)(bnp.uint8(3)))


def test_mixing_float64_warns_once_and_names_the_line():
    x = bnp.asarray([1.0], dtype=bnp.float64)
    with pytest.warns(bv.errors.Float64PromotionWarning, match="test_array.py") as caught:
        for _ in range(3):
            y = x + bnp.ones(1)
    assert y.dtype == "float64" and len(caught) == 1
    with bv.config(numpy_dtype_promotion="strict"), pytest.raises(TypeError, match="strict"):
        bnp.ones(1) + bnp.arange(1)


small = st.builds(
    lambda a, dtype: a.astype(dtype),
    hnp.arrays(
        np.int8,
        hnp.broadcastable_shapes((2, 3), max_dims=3, max_side=3),
        elements=st.integers(0, 5),
    ),
    st.sampled_from([np.float32, np.int32, np.uint8, np.bool_, np.complex64]),
)


@given(small, small, st.sampled_from([py.add, py.mul, py.eq, py.le, bnp.maximum]))
def test_the_short_cut_gives_what_the_slow_path_gives(a, b, op):
    """Eagerly many cases skip promotion and broadcasting: shape, dtype, weakness and values must
    not show it.
    """

    def run(f):
        try:
            return f()
        except (TypeError, OverflowError) as e:
            return type(e)

    for x, y in [
        (bnp.asarray(a), bnp.asarray(b)),
        (bnp.asarray(a), 2),
        (bnp.asarray(a), 0.5),
        (2, bnp.asarray(a)),
    ]:
        quick = run(lambda x=x, y=y: op(x, y))
        slow = run(lambda x=x, y=y: bv.eval_shape(lambda: op(x, y)))
        if isinstance(quick, type):
            assert quick is slow
        else:
            assert (quick.shape, quick.dtype) == (slow.shape, slow.dtype)


# -- methods ---------------------------------------------------------------------------------------

METHODS = [
    lambda x: x.sum(),
    lambda x: x.sum(axis=0),
    lambda x: x.sum(0, keepdims=True),
    lambda x: x.prod(axis=-1),
    lambda x: x.mean(1),
    lambda x: x.var(ddof=1),
    lambda x: x.std(axis=0),
    lambda x: x.max(),
    lambda x: x.min(0),
    lambda x: x.argmax(),
    lambda x: x.argmin(axis=1),
    lambda x: (x > 2).all(),
    lambda x: (x > 2).any(axis=0),
    lambda x: x.cumsum(),
    lambda x: x.cumprod(axis=1),
    lambda x: x.clip(1, 3),
    lambda x: x.clip(max=2),
    lambda x: x.round(1),
    lambda x: x.dot(x.T),
    lambda x: x.take(np.array([0, 2]), axis=1),
    lambda x: x.repeat(2, axis=0),
    lambda x: x.reshape(3, 2),
    lambda x: x.reshape((-1,)),
    lambda x: x.reshape(3, -1),
    lambda x: x.ravel(),
    lambda x: x.flatten(),
    lambda x: x.transpose(),
    lambda x: x.transpose(1, 0),
    lambda x: x.transpose((0, 1)),
    lambda x: x.swapaxes(0, 1),
    lambda x: x[None].squeeze(0),
    lambda x: x.diagonal(),
    lambda x: x.trace(),
    lambda x: x.astype(int),
    lambda x: x.astype("float16"),
    lambda x: x.conj(),
    lambda x: x.T,
    lambda x: x @ x.T,
    lambda x: x.nonzero()[0],
    lambda x: x[0].searchsorted(np.float32(2.5)),
    lambda x: x.argsort(axis=0),
]


@pytest.mark.parametrize("f", METHODS)
def test_methods_equal_numpys(make, f):
    a = np.array([[0.5, 1.25, 2.0], [3.0, 4.0, 5.5]], np.float32)
    got, want = f(make(a)), f(a)
    assert isinstance(got, bv.Array) and got.shape == np.shape(want)
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_methods_of_their_own():
    x = bnp.array([3.0, 1.0, 2.0])
    assert (
        x.sort().tolist() == [1, 2, 3]
        and x.tolist() == [3, 1, 2]
        and x.argsort().tolist() == [1, 2, 0]
    )
    assert x.ptp().item() == 2 and bnp.float32(1).view(bnp.int32).item() == 0x3F800000
    assert x.tobytes() == np.array([3, 1, 2], np.float32).tobytes()
    assert bnp.array([1.9, -1.9, 3e9, np.nan]).astype(int).tolist() == [1, -1, 2**31 - 1, 0]


# -- random keys -----------------------------------------------------------------------------------


def test_keys_are_arrays_of_keys():
    k = random.split(random.key(0), (2, 3))
    assert (k.shape, k.ndim, k.size, str(k.dtype)) == ((2, 3), 2, 6, "key<threefry2x32>")
    assert bnp.issubdtype(k.dtype, bnp.prng_key) and not bnp.issubdtype(bnp.float32, bnp.prng_key)
    assert (
        k.reshape(6).shape == (6,)
        and k[0].shape == (3,)
        and k[..., 0].shape == (2,)
        and k[None].shape == (1, 2, 3)
    )
    assert (
        k.T.shape == (3, 2)
        and bnp.stack([k[0], k[1]]).shape == (2, 3)
        and bnp.concatenate([k, k]).shape == (4, 3)
    )
    assert (k == k).shape == (2, 3) and bool((k == k).all()) and not bool(k[0, 0] == k[0, 1])
    assert k[np.array([1, 0]), 1].shape == (2,) and k[:, k[0, :].size - 1].shape == (2,)
    assert [x.shape for x in k] == [(3,), (3,)]
    moved = k.at[0, 0].set(random.key(9))
    assert bool(moved[0, 0] == random.key(9)) and bool(moved[1, 2] == k[1, 2])
    got = bv.jit(lambda k, i: random.key_data(k[i, 1]))(k, 1)
    np.testing.assert_array_equal(got, random.key_data(k)[1, 1])


def test_keys_are_no_numbers():
    k = random.key(0)
    for f in (
        lambda: k + 1,
        lambda: k + k,
        lambda: -k,
        lambda: bnp.sin(k),
        lambda: k < k,
        lambda: k == 1,
        lambda: float(k),
    ):
        with pytest.raises(TypeError, match="(?s)key.*random"):
            f()
    for f in (
        lambda: np.asarray(k),
        lambda: k.astype(float),
        lambda: bnp.zeros(3).at[0].set(k),
        lambda: bnp.zeros(3)[k],
    ):
        with pytest.raises((TypeError, IndexError), match="random"):
            f()


def test_the_same_part_of_a_key_array_is_the_same_key():
    k = random.split(random.key(0))
    assert k[0] is k[0] and k[0] is not k[1] and list(k)[1] is k[1]
    with pytest.warns(random.KeyReuseWarning):
        random.normal(k[0])
        random.normal(k[0])

    @bv.jit
    def f():
        return random.key_data(k[1])

    f()
    np.testing.assert_array_equal(random.key_data(k[1]), random.key_data(k)[1])


# -- import ----------------------------------------------------------------------------------------


def test_importing_and_eager_work_load_no_jaxlib():
    code = (
        "import sys, bevel.numpy as bnp; x = bnp.tanh(bnp.arange(3.0) * 2 + 1); x[1], "
        "x.at[0].set(1), x.sum(), print(x);"
        "assert not [m for m in sys.modules if m.split('.')[0] in ('jax', 'jaxlib', 'scipy', "
        "'opt_einsum', 'torch')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_entry_of_other_data():
    import enum

    class Color(enum.IntEnum):
        RED = 3

    assert bnp.asarray(Color.RED).item() == 3 and bnp.asarray(range(3)).tolist() == [0, 1, 2]
    assert bnp.asarray([Color.RED, 1]).tolist() == [3, 1]
    assert (
        bnp.asarray([bnp.ones(2), [1, 2]]).dtype == "float32"
        and bnp.asarray([np.float16(1), 2.0]).dtype == "float16"
    )
    assert (
        bnp.asarray([1, 2.5]).dtype == "float32"
        and bnp.asarray([True, 2]).dtype == "int32"
        and bnp.asarray([]).dtype == "float32"
    )
    assert bnp.asarray([[True], [False]]).dtype == "bool" and bnp.asarray([1j]).dtype == "complex64"
    assert bnp.asarray(np.arange(3, dtype=">f4")).tolist() == [0, 1, 2]
    assert bnp.asarray(ml_dtypes.bfloat16(2)).dtype == "bfloat16"
    got = bv.jit(lambda x: bnp.asarray([x, 2 * x, [1.0, 2.0][0]]))(3.0)
    assert got.tolist() == [3, 6, 1]
    for bad, error, match in [
        ("text", TypeError, "str"),
        ([[1], [1, 2]], ValueError, "different lengths"),
        ({"a": 1}, TypeError, "bv.tree.map"),
        (None, TypeError, "NoneType"),
        (["a"], TypeError, "numbers"),
        (object(), TypeError, "object"),
        (np.array(["a"]), TypeError, "numbers"),
        ([2**40], OverflowError, "int64"),
        (np.array([2**40]), OverflowError, "int64"),
        ([2**70], TypeError, "64 bits"),
    ]:
        with pytest.raises(error, match=match):
            bnp.asarray(bad)
