"""Elementwise functions and creation: NumPy is the oracle for values, jax.numpy for dtypes."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import bevel as bv
import bevel.numpy as bnp
from bevel.core import dtypes

INT = ["int8", "int32", "uint8", "uint32", "int64", "uint64"]
FLOAT = ["float16", "bfloat16", "float32", "float64"]
COMPLEX = ["complex64", "complex128"]
REAL = INT + FLOAT

# Every elementwise function of one array: which dtypes it takes, and which values make sense in
# them.
UNARY = {
    "abs": REAL + COMPLEX + ["bool"],
    "absolute": FLOAT,
    "fabs": INT + FLOAT,
    "negative": REAL + COMPLEX,
    "positive": REAL + COMPLEX,
    "sign": REAL + COMPLEX,
    "square": REAL + COMPLEX,
    "reciprocal": FLOAT + COMPLEX,
    "exp": REAL + COMPLEX + ["bool"],
    "exp2": REAL,
    "expm1": REAL,
    "log": REAL + COMPLEX,
    "log1p": REAL,
    "log2": REAL,
    "log10": REAL + COMPLEX,
    "sqrt": REAL + COMPLEX,
    "cbrt": REAL,
    "sin": REAL + COMPLEX,
    "cos": REAL + COMPLEX,
    "tan": REAL + COMPLEX,
    "arcsin": FLOAT,
    "arccos": FLOAT,
    "arctan": FLOAT,
    "sinh": FLOAT + COMPLEX,
    "cosh": FLOAT + COMPLEX,
    "tanh": REAL + COMPLEX,
    "arcsinh": FLOAT,
    "arccosh": FLOAT,
    "arctanh": FLOAT,
    "deg2rad": REAL,
    "rad2deg": REAL,
    "degrees": FLOAT,
    "radians": FLOAT,
    "sinc": FLOAT,
    "floor": REAL,
    "ceil": REAL,
    "trunc": REAL,
    "fix": FLOAT,
    "rint": REAL + COMPLEX,
    "round": REAL + COMPLEX,
    "isnan": REAL + COMPLEX,
    "isinf": REAL + COMPLEX,
    "isfinite": REAL + COMPLEX,
    "isposinf": FLOAT,
    "isneginf": FLOAT,
    "iscomplex": REAL + COMPLEX,
    "isreal": REAL + COMPLEX,
    "signbit": REAL,
    "logical_not": REAL + COMPLEX + ["bool"],
    "invert": INT + ["bool"],
    "bitwise_not": INT,
    "bitwise_count": INT,
    "real": REAL + COMPLEX,
    "imag": REAL + COMPLEX,
    "conj": REAL + COMPLEX,
    "conjugate": COMPLEX,
    "angle": FLOAT + COMPLEX,
    "nan_to_num": REAL + COMPLEX,
    "spacing": ["float32", "float64"],
    "i0": ["float32"],
}

BINARY = {
    "add": REAL + COMPLEX + ["bool"],
    "subtract": REAL + COMPLEX,
    "multiply": REAL + COMPLEX + ["bool"],
    "divide": REAL + COMPLEX,
    "true_divide": FLOAT,
    "floor_divide": REAL,
    "remainder": REAL,
    "mod": INT,
    "fmod": REAL,
    "power": FLOAT + COMPLEX,
    "float_power": ["float32"],
    "arctan2": REAL,
    "hypot": REAL,
    "maximum": REAL + COMPLEX,
    "minimum": REAL + COMPLEX + ["bool"],
    "fmax": REAL,
    "fmin": REAL,
    "logaddexp": FLOAT,
    "logaddexp2": FLOAT,
    "copysign": REAL,
    "nextafter": ["float32", "float64"],
    "heaviside": FLOAT,
    "gcd": INT,
    "lcm": ["int32", "uint32", "int64"],
    "bitwise_and": INT + ["bool"],
    "bitwise_or": INT + ["bool"],
    "bitwise_xor": INT + ["bool"],
    "left_shift": INT,
    "right_shift": INT,
    "logical_and": REAL + COMPLEX + ["bool"],
    "logical_or": REAL + ["bool"],
    "logical_xor": REAL + ["bool"],
    "equal": REAL + COMPLEX + ["bool"],
    "not_equal": REAL + COMPLEX + ["bool"],
    "less": REAL + COMPLEX + ["bool"],
    "less_equal": REAL + COMPLEX,
    "greater": REAL + COMPLEX,
    "greater_equal": REAL + COMPLEX,
    "isclose": REAL + COMPLEX,
}

_EDGES = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    1.5,
    2.5,
    -2.5,
    3.0,
    -7.0,
    0.1,
    100.0,
    np.nan,
    np.inf,
    -np.inf,
]
TOL = {
    "float16": 4e-3,
    "bfloat16": 4e-2,
    "float32": 3e-6,
    "float64": 1e-13,
    "complex64": 1e-5,
    "complex128": 1e-12,
}


def sample(dtype, other=False):
    """Values of a dtype with its edges."""
    kind = dtypes.kind(dtypes.as_dtype(dtype))
    if kind == "b":
        values = [True, False, True] if other else [True, True, False]
    elif kind in "iu":
        info = np.iinfo(dtype)
        values = [0, 1, 2, 3, 5, 7, 11, info.max, info.min, info.max // 2] + (
            [-1, -2, -7, 6] if kind == "i" else []
        )
    elif kind == "f":
        values = _EDGES
    else:
        values = [0, 1, -1, 1j, -1j, 1 + 2j, -2.5 + 0.5j, 0.1 - 3j, 2]
    a = np.array(values).astype(dtypes.as_dtype(dtype))
    return np.roll(a[::-1], 3) if other else a


@pytest.fixture(autouse=True)
def _numpy_is_quiet():
    with np.errstate(all="ignore"):
        yield


INEXACT = [
    "exp",
    "exp2",
    "expm1",
    "log",
    "log1p",
    "log2",
    "log10",
    "sqrt",
    "cbrt",
    "sin",
    "cos",
    "tan",
    "tanh",
    "rint",
]
INEXACT += ["deg2rad", "rad2deg", "fabs", "divide", "arctan2", "hypot", "copysign"]


NATIVE = ["nan_to_num", "nextafter", "spacing"]


def oracle(name, *args):
    """NumPy's answer, computed at double precision for narrow floats, and for functions that give
    floats.
    """

    def wide(a):
        if dtypes.is_float(a.dtype) and a.dtype.itemsize <= 4 and name not in NATIVE:
            return a.astype(np.float64)
        return (
            a.astype(np.float32).astype(np.float64)
            if name in INEXACT and a.dtype.kind in "iub"
            else a
        )

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(np, name)(*map(wide, args))


def expected_dtype(name, args):
    """jax.numpy's result dtype with 64-bit types allowed, but its default float."""
    jnp = pytest.importorskip("jax.numpy")
    import jax

    if any(np.asarray(a).dtype in (np.int64, np.uint64, np.float64, np.complex128) for a in args):
        return None  # which jax does not have by default
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        avals = [jax.ShapeDtypeStruct(np.shape(a), np.asarray(a).dtype) for a in args]
        return jax.eval_shape(getattr(jnp, {"fix": "trunc"}.get(name, name)), *avals).dtype


def close(got, want, dtype, err=""):
    tol = TOL.get(str(dtype), 0)
    got = np.asarray(got)
    if dtypes.is_float(got.dtype):
        with np.errstate(all="ignore"):
            want = (
                np.asarray(want, np.float64).astype(got.dtype).astype(np.float64)
            )  # overflows as the dtype does
        got = got.astype(np.float64)
    np.testing.assert_allclose(got, want, rtol=tol, atol=tol * 1e-3, err_msg=err)


@pytest.mark.parametrize("name, dtype", [(n, d) for n, ds in UNARY.items() for d in ds])
def test_unary(name, dtype):
    x = sample(dtype)
    if name in ("log", "sqrt", "log10", "tanh", "tan") and dtype in COMPLEX:
        x = x[1:]
    f = getattr(bnp, name)
    got = f(bnp.asarray(x, dtype))
    want = oracle(name, x)
    if (theirs := expected_dtype(name, [x])) is not None:
        assert got.dtype == theirs
    if name == "nan_to_num" and dtype == "bfloat16":
        want = np.where(np.isnan(x), 0, np.clip(x.astype(np.float64), -3.3895314e38, 3.3895314e38))
    if name == "sinc":  # the sine near its zeros is as good as the angle
        np.testing.assert_allclose(
            np.asarray(got, np.float64), want, rtol=3 * TOL[dtype], atol=TOL[dtype]
        )
    else:
        close(got, want, dtype if dtype in TOL else got.dtype, name)
    if dtype in ("float32", "int32", "complex64", "bool", "bfloat16"):
        close(bv.jit(f)(bnp.asarray(x, dtype)), np.asarray(got), got.dtype, f"{name} compiled")


@pytest.mark.parametrize("name, dtype", [(n, d) for n, ds in BINARY.items() for d in ds])
def test_binary(name, dtype):
    x, y = sample(dtype), sample(dtype, other=True)
    if name in ("left_shift", "right_shift"):
        y = np.arange(len(x)).astype(y.dtype) % 9
    if name in ("gcd", "lcm"):
        x, y = x % 97, y % 97
    if name == "power" and dtype in COMPLEX:
        x, y = x[1:], np.full(len(x) - 1, 1.5, x.dtype)
    if name == "divide" and dtype in COMPLEX:
        x, y = x[(y != 0)], y[y != 0]
    f = getattr(bnp, name)
    got = f(bnp.asarray(x, dtype), bnp.asarray(y, dtype))
    if (theirs := expected_dtype(name, [x, y])) is not None:
        assert got.dtype == theirs
    want = oracle(name, x, y)
    if name in ("floor_divide", "remainder", "fmod") and dtype in FLOAT:  # one rounding decides
        z, w = (x, y) if dtype == "float64" else (x.astype(np.float32), y.astype(np.float32))
        want = getattr(np, name)(z, w)
    close(got, want, dtype if dtype in TOL else got.dtype, name)
    if dtype in ("float32", "int32", "complex64", "bool", "uint8"):
        close(
            bv.jit(f)(bnp.asarray(x, dtype), bnp.asarray(y, dtype)),
            np.asarray(got),
            got.dtype,
            f"{name} compiled",
        )


floats = hnp.arrays(
    np.float32, hnp.array_shapes(max_dims=2, max_side=4), elements=st.floats(-50, 50, width=32)
)


@given(
    floats,
    st.sampled_from(
        ["remainder", "fmod", "floor_divide", "hypot", "arctan2", "logaddexp", "maximum"]
    ),
)
def test_binary_on_random_floats(x, name):
    y = np.roll(x.ravel(), 1).reshape(x.shape) + np.float32(0.25)
    with np.errstate(all="ignore"):
        want = getattr(np, name)(x, y)
    np.testing.assert_allclose(getattr(bnp, name)(x, y), want, rtol=1e-5, atol=1e-5)


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1), st.integers(-(2**31), 2**31 - 1))
def test_integer_division_wraps_and_never_traps(xs, d):
    x = np.array(xs, np.int32)
    with np.errstate(all="ignore"):
        for name in ("floor_divide", "remainder", "fmod"):
            for div in (d, 0, -1):
                want = getattr(np, name)(x, np.int32(div))
                np.testing.assert_array_equal(getattr(bnp, name)(x, np.int32(div)), want)


# -- dtype rules -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "add",
        "multiply",
        "divide",
        "power",
        "maximum",
        "less",
        "floor_divide",
        "arctan2",
        "bitwise_and",
    ],
)
def test_promotion_is_that_of_jax(name):
    jnp = pytest.importorskip("jax.numpy")
    import jax

    kinds = [
        "bool",
        "int8",
        "int32",
        "uint8",
        "uint32",
        "float16",
        "bfloat16",
        "float32",
        "complex64",
    ]
    scalars = [2, 2.5, 1j]
    for a in kinds:
        for b in [*kinds, *scalars]:
            x, y = (
                np.ones(2, dtypes.as_dtype(a)),
                np.ones(2, dtypes.as_dtype(b)) if isinstance(b, str) else b,
            )
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    want = jax.eval_shape(lambda x, y=y: getattr(jnp, name)(x, y), x)
            except Exception:
                continue
            if name == "bitwise_and" and (dtypes.is_inexact(want.dtype) or not isinstance(b, str)):
                continue
            if name == "arctan2" and "complex" in str(want.dtype):
                continue
            try:
                got = getattr(bnp, name)(bnp.asarray(x), y)
            except TypeError:
                assert (
                    name in ("floor_divide", "less", "maximum", "arctan2")
                    and "complex" in (a, str(b), str(want.dtype))
                    or isinstance(b, complex)
                    or "complex" in str(b)
                    or "complex" in a
                )
                continue
            assert (got.dtype, got.weak_type) == (
                want.dtype,
                want.weak_type and got.dtype != bool,
            ), (name, a, b)


def test_powers():
    x = bnp.array([-2.0, 0.0, 3.0])
    for y in (0, 1, 2, 3, -1, 7, 2.0, -2.0, 0.5, 17.0):
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(x**y, np.asarray(x) ** np.float32(y), rtol=1e-6)
            np.testing.assert_allclose(
                bv.jit(lambda x, y=y: x**y)(x), np.asarray(x) ** np.float32(y), rtol=1e-6
            )
    assert (bnp.arange(3) ** 2).dtype == "int32" and (bnp.arange(3) ** 2.0).dtype == "float32"
    assert (2 ** bnp.arange(4)).tolist() == [1, 2, 4, 8] and (
        bnp.array([3]) ** bnp.array([3])
    ).tolist() == [27]
    with pytest.raises(TypeError, match=r"astype\(float\)"):
        bnp.arange(3) ** -1
    np.testing.assert_allclose(bv.grad(lambda x: (x**3).sum())(x), 3 * np.asarray(x) ** 2)
    np.testing.assert_allclose(bv.grad(lambda x: (x**2.0).sum())(x), 2 * np.asarray(x))
    assert float(bv.grad(lambda x: x**0)(2.0)) == 0 and float(bv.grad(lambda x: x**2)(0.0)) == 0


GRADS = [
    ("sinc", [0.0, 0.3, -1.2]),
    ("logaddexp", [0.5, -1.0]),
    ("logaddexp2", [0.5, -1.0]),
    ("hypot", [3.0, -4.0]),
    ("log2", [0.5, 3.0]),
    ("log10", [0.5, 3.0]),
    ("deg2rad", [1.0]),
    ("remainder", [2.5, -3.7]),
    ("copysign", [2.0, -3.0]),
    ("clip", [-0.9, 0.3, 2.0]),
    ("fmax", [1.0, -2.0]),
    ("nan_to_num", [1.0]),
    ("abs", [1.0, -2.0]),
    ("arctan2", [1.0, -2.0]),
    ("float_power", [1.0, 2.0]),
    ("reciprocal", [2.0]),
    ("square", [3.0]),
    ("modf", [1.5]),
    ("ldexp", [1.5]),
    ("frexp", [1.5, 5.0]),
    ("i0", [0.5, 2.0]),
]


@pytest.mark.parametrize("name, x", GRADS)
def test_gradients_equal_finite_differences(name, x):
    f = getattr(bnp, name)
    call = {
        "clip": lambda v: f(v, -1, 1),
        "modf": lambda v: f(v)[0],
        "ldexp": lambda v: f(v, 3),
        "frexp": lambda v: f(v)[0],
    }.get(name, lambda v: f(v, bnp.full_like(v, 1.7)) if name in BINARY else f(v))
    x = np.asarray(x)
    at = bnp.asarray(x, bnp.float64)
    step = 1e-5
    want = (np.asarray(call(at + step)) - np.asarray(call(at - step))) / (2 * step)
    np.testing.assert_allclose(bv.grad(lambda v: call(v).sum())(at), want, rtol=1e-6, atol=1e-8)


def test_gradients_at_the_awkward_places_are_finite():
    for f in (
        lambda x: bnp.hypot(x, 0.0 * x),
        lambda x: bnp.logaddexp(x, -bnp.inf),
        lambda x: bnp.sinc(x),
        lambda x: bnp.abs(x + 0j),
        lambda x: bnp.logaddexp(x, x),
        lambda x: bnp.where(x > 0, bnp.log(x + 1), 0.0),
    ):
        assert np.isfinite(float(bv.grad(lambda x, f=f: f(x).real.sum())(0.0)))
    np.testing.assert_allclose(float(bv.grad(bv.grad(bnp.sinc))(0.0)), -(np.pi**2) / 3, rtol=1e-5)


# -- rounding, limits, closeness, parts ------------------------------------------------------------


@pytest.mark.parametrize("decimals", [0, 1, 3, -1, -2])
def test_round(decimals):
    for x in (
        np.array([1.2345, -2.5, 0.5, 1.5, 155.0, -250.0, np.nan, np.inf], np.float32),
        np.array([15, 25, -15, 149, 150, 2**31 - 1]),
        np.array([5, 15, 255], np.uint8),
        np.array([1.26 + 2.34j], np.complex64),
        np.array([True]),
    ):
        got = bnp.round(x, decimals)
        assert got.dtype == dtypes.default_dtype(x.dtype)
        if x.dtype.kind == "b":
            continue
        if x.dtype.kind in "iu" and decimals < 0:
            unit = 10**-decimals
            want = []
            for n in x.tolist():
                q, r = divmod(n, unit)
                want.append((q + (2 * r > unit or (2 * r == unit and q % 2))) * unit)
            fits = np.array(want) <= np.iinfo(got.dtype).max
            want = np.where(fits, want, np.asarray(got))
        else:
            want = np.round(x, decimals)
        np.testing.assert_allclose(got, want, rtol=1e-6)
        np.testing.assert_array_equal(bv.jit(lambda x: bnp.round(x, decimals))(x), got)


def test_clip():
    x = np.array([-1.0, np.nan, 0.5, 3.0], np.float32)
    for args in (
        (0, 1),
        (None, 1),
        (0, None),
        (1, 0),
        (np.float32(0), np.array([1, 1, 0, 5], np.float32)),
    ):
        np.testing.assert_array_equal(bnp.clip(x, *args), np.clip(x, *args))
    np.testing.assert_array_equal(bnp.clip(x, min=0, max=1), np.clip(x, 0, 1))
    assert bnp.clip(x).shape == (4,)
    u = bnp.arange(5, dtype="uint8")
    assert bnp.clip(u, -5, 300).tolist() == u.tolist() and bnp.clip(u, -5, 3).dtype == "uint8"
    assert bnp.clip(bnp.arange(3), 0, 1.5).dtype == "float32"


def test_nan_to_num_and_closeness():
    x = np.array([np.nan, np.inf, -np.inf, 1.0], np.float32)
    np.testing.assert_array_equal(bnp.nan_to_num(x), np.nan_to_num(x))
    np.testing.assert_array_equal(
        bnp.nan_to_num(x, nan=1, posinf=2, neginf=3), np.nan_to_num(x, nan=1, posinf=2, neginf=3)
    )
    assert bnp.nan_to_num(bnp.array([np.nan], "float16"), posinf=1).dtype == "float16"
    y = np.array([np.nan, np.inf, np.inf, 1.0 + 1e-6], np.float32)
    for equal_nan in (False, True):
        np.testing.assert_array_equal(
            bnp.isclose(x, y, equal_nan=equal_nan), np.isclose(x, y, equal_nan=equal_nan)
        )
    assert (
        bool(bnp.allclose(1, 1))
        and not bool(bnp.allclose(x, x))
        and bool(bnp.allclose(x, x, equal_nan=True))
    )
    assert bool(bnp.isclose(100, 101, rtol=0, atol=1)) and not bool(bnp.isclose(0, 1e-7))
    assert (
        bool(bnp.array_equal(x, x, equal_nan=True))
        and not bool(bnp.array_equal(x, x))
        and not bool(bnp.array_equal(x, x[:2]))
    )
    assert bool(bnp.array_equiv(np.ones((2, 2)), 1)) and not bool(
        bnp.array_equiv(np.ones(2), np.ones(3))
    )
    assert bool(bnp.array_equal(np.zeros(0), np.zeros(0)))


@pytest.mark.parametrize("dtype", FLOAT)
def test_frexp_and_ldexp(dtype):
    info = dtypes.finfo(dtype)
    x = np.array(
        [
            0.0,
            -0.0,
            1.0,
            -3.7,
            1e-3,
            float(info.max),
            float(info.tiny),
            np.inf,
            -np.inf,
            np.nan,
            float(info.smallest_subnormal),
        ]
    )
    x = x.astype(dtypes.as_dtype(dtype))
    own = bnp.asarray(x, dtype)
    m, e = bnp.frexp(own)
    with np.errstate(all="ignore"):
        wm, we = np.frexp(x.astype(np.float64))
    finite = np.isfinite(wm)
    np.testing.assert_array_equal(np.asarray(e)[finite], we[finite])
    np.testing.assert_array_equal(np.asarray(m, np.float64), wm)
    assert e.dtype == "int32" and m.dtype == bnp.dtype(dtypes.as_dtype(dtype))
    np.testing.assert_array_equal(np.asarray(bnp.ldexp(m, e), np.float64), x.astype(np.float64))
    f, i = bnp.modf(own)
    with np.errstate(all="ignore"):
        wf, wi = np.modf(x.astype(np.float32) if dtype != "float64" else x)
    np.testing.assert_array_equal(np.asarray(f, np.float64), wf)
    np.testing.assert_array_equal(np.asarray(i, np.float64), wi)
    assert (
        bnp.ldexp(bnp.float32(1), 200).item() == np.inf
        and bnp.ldexp(bnp.float32(1), -149).item() > 0
    )
    with pytest.raises(TypeError, match="integers"):
        bnp.ldexp(1.0, 2.0)


def test_divmod_gcd_and_questions():
    q, r = bnp.divmod(np.array([7, -7]), 2)
    assert q.tolist() == [3, -4] and r.tolist() == [1, 1]
    np.testing.assert_array_equal(
        bv.jit(bnp.gcd)(np.array([12, -18, 0]), np.array([18, 12, 0])), [6, 6, 0]
    )
    np.testing.assert_array_equal(bv.vmap(bnp.lcm)(np.array([4, 6]), np.array([6, 0])), [12, 0])
    with pytest.raises(TypeError, match="integers"):
        bnp.gcd(1.5, 2)
    assert (
        bnp.isscalar(1.0)
        and not bnp.isscalar(bnp.ones(1))
        and bnp.iscomplexobj(1j)
        and bnp.isrealobj(np.ones(1))
    )
    for f, x, match in [
        (bnp.subtract, True, "bools"),
        (bnp.bitwise_and, 1.5, "bits"),
        (bnp.hypot, 1j, "abs"),
        (bnp.sin, "a", "str"),
    ]:
        with pytest.raises(TypeError, match=match):
            f(x, x) if f is not bnp.sin else f(x)
    with pytest.raises(TypeError, match="abs"):
        bnp.fabs(1j)


def test_every_name_of_ours_is_tested():
    """A new elementwise function without a row above fails here."""
    import inspect

    from bevel.numpy import elementwise, logic, numerics

    elsewhere = {
        "divmod",
        "modf",
        "frexp",
        "ldexp",
        "clip",
        "allclose",
        "array_equal",
        "array_equiv",
        "iscomplexobj",
        "isrealobj",
        "isscalar",
        "power",
    }
    for module in (elementwise, logic, numerics):
        for name, f in vars(module).items():
            if (
                inspect.isfunction(f)
                and f.__module__ == module.__name__
                and not name.startswith("_")
                and hasattr(bnp, name)
            ):
                assert f.__name__ in {*UNARY, *BINARY, *elsewhere}, name
                assert f.__doc__ and ">>>" in f.__doc__, name
