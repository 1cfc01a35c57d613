"""Creation of arrays against NumPy, and dtypes as users write them."""

import pickle

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel.core import dtypes

# -- creation --------------------------------------------------------------------------------------


def same(got, want, dtype=None):
    want = np.asarray(want)
    assert got.shape == want.shape and got.dtype == (dtype or dtypes.default_dtype(want.dtype)), (
        got,
        want,
    )
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "args",
    [
        (5,),
        (0,),
        (-3,),
        (2, 7),
        (7, 2),
        (7, 2, -2),
        (1, 2, 0.25),
        (5.0,),
        (0, 1, 0.3),
        (2.5, -1, -0.5),
        (np.int8(3),),
        (3, 3),
    ],
)
def test_arange(args):
    same(
        bnp.arange(*args),
        np.arange(*args) if not isinstance(args[0], np.int8) else np.arange(3, dtype=np.int8),
    )
    same(bv.jit(lambda: bnp.arange(*args))(), bnp.arange(*args))
    for dtype in ("float16", "int8", "uint8", "float64", "bfloat16"):
        if min(np.arange(*args), default=0) >= 0 or dtype != "uint8":
            assert (
                bnp.arange(*args, dtype=dtype).tolist()
                == np.arange(*args).astype(dtypes.as_dtype(dtype)).tolist()
            )


def test_arange_errors():
    with pytest.raises(bv.errors.ConcretizationTypeError, match=r"(?s)test_creation.*mask"):
        bv.jit(bnp.arange)(3)
    with pytest.raises(OverflowError, match="int64"):
        bnp.arange(2**31, 2**31 + 2)
    assert bnp.arange(2**40, 2**40 + 2, dtype=bnp.int64).tolist() == [2**40, 2**40 + 1]
    with pytest.raises(ValueError, match="step"):
        bnp.arange(0, 3, 0)
    with pytest.raises(TypeError):
        bnp.arange("a")
    assert "iota" in str(bv.make_graph(lambda: bnp.arange(10**6) * 2)())


@pytest.mark.parametrize(
    "args, kwargs",
    [
        ((0, 1, 5), {}),
        ((2, 3), {}),
        ((0, 1, 1), {}),
        ((0, 1, 0), {}),
        ((0, 10, 5), dict(dtype=int)),
        ((-3, 3, 4), dict(endpoint=False)),
        ((1j, 2, 3), {}),
        (([0.0, 1.0], [5.0, 9.0], 4), {}),
        (([0.0, 1.0], 9.0, 4), dict(axis=1)),
    ],
)
def test_linspace(args, kwargs):
    want = np.linspace(*args, **kwargs)
    same(bnp.linspace(*args, **kwargs), want)
    a, b = (bnp.asarray(np.asarray(x)) for x in args[:2])
    same(bv.jit(lambda a, b: bnp.linspace(a, b, *args[2:], **kwargs))(a, b), want)
    x, step = bnp.linspace(*args, retstep=True, **kwargs)
    np.testing.assert_allclose(step, np.linspace(*args, retstep=True, **kwargs)[1], rtol=1e-6)


def test_ranges():
    same(bnp.logspace(0, 2, 5), np.logspace(0, 2, 5))
    same(bnp.logspace(0, 3, 4, base=2), np.logspace(0, 3, 4, base=2))
    same(bv.jit(lambda a: bnp.logspace(a, 2, 5))(0.0), np.logspace(0, 2, 5))
    same(bnp.geomspace(1, 1000, 4), np.geomspace(1, 1000, 4))
    same(bnp.geomspace(-8, -1, 4), np.geomspace(-8, -1, 4))
    same(bv.jit(lambda a: bnp.geomspace(a, 8.0, 4))(1.0), np.geomspace(1, 8, 4))
    assert float(bv.grad(lambda b: bnp.linspace(0.0, b, 3).sum())(2.0)) == 1.5


@pytest.mark.parametrize("run", [lambda f: f(), lambda f: bv.jit(f)()], ids=["eager", "compiled"])
def test_filled(run):
    u8 = bnp.arange(6, dtype="uint8").reshape(2, 3)
    for name, value in (("zeros", 0), ("ones", 1), ("empty", 0)):
        for shape in ((), 3, (2, 3), [2, 1], np.array([1, 2]), (0, 2)):
            got = run(lambda n=name, s=shape: getattr(bnp, n)(s))
            same(
                got,
                np.full(
                    tuple(np.atleast_1d(shape)) if not isinstance(shape, tuple) else shape,
                    value,
                    np.float32,
                ),
            )
        assert run(lambda n=name: getattr(bnp, n)(2, "int8")).dtype == "int8"
        same(run(lambda n=name: getattr(bnp, n + "_like")(u8)), np.full((2, 3), value, np.uint8))
        same(
            run(lambda n=name: getattr(bnp, n + "_like")(u8, dtype=float, shape=4)),
            np.full(4, value, np.float32),
        )
    same(run(lambda: bnp.full((2, 2), 7)), np.full((2, 2), 7))
    same(run(lambda: bnp.full((2, 2), np.array([1.0, 2.0]))), np.full((2, 2), np.array([1.0, 2.0])))
    same(
        run(lambda: bnp.full_like(np.arange(3), 2.7)),
        np.full_like(np.arange(3, dtype=np.int32), 2.7),
    )
    assert bnp.full(2, 1.0).weak_type and not bnp.full(2, 1.0, float).weak_type
    for bad in (lambda: bnp.zeros(-1), lambda: bnp.full(3, np.ones(2))):
        with pytest.raises(ValueError):
            bad()
    with pytest.raises(TypeError, match="integer"):
        bnp.zeros(2.5)


@pytest.mark.parametrize("k", [-2, -1, 0, 1, 3])
def test_matrices(k):
    x = np.arange(1.0, 13.0, dtype=np.float32).reshape(3, 4)
    same(bnp.eye(3, 4, k), np.eye(3, 4, k))
    same(bnp.tri(3, 4, k), np.tri(3, 4, k))
    for name in ("tril", "triu"):
        same(getattr(bnp, name)(x, k), getattr(np, name)(x, k))
        same(
            getattr(bnp, name)(np.stack([x, x]) > 3, k), getattr(np, name)(np.stack([x, x]) > 3, k)
        )
        same(bv.jit(lambda x, n=name: getattr(bnp, n)(x, k))(x), getattr(np, name)(x, k))
    same(bnp.diag(x[0], k), np.diag(x[0], k))
    same(bnp.diag(x, k), np.diag(x, k))
    same(bnp.diagflat(x[:2], k), np.diagflat(x[:2], k))
    same(bv.grad(lambda v: (bnp.diag(v, k) * 2).sum())(bnp.ones(3)), np.full(3, 2.0), np.float32)


def test_more_creation():
    same(bnp.identity(3, int), np.identity(3, int))
    same(bnp.vander(np.array([1, 2, 3])), np.vander(np.array([1, 2, 3])))
    same(bnp.vander([2.0, 3.0], 4, increasing=True), np.vander([2.0, 3.0], 4, increasing=True))
    same(bnp.indices((2, 3)), np.indices((2, 3)))
    for a, b in zip(bnp.indices((2, 3), sparse=True), np.indices((2, 3), sparse=True), strict=True):
        same(a, b)
    for kwargs in ({}, dict(indexing="ij"), dict(sparse=True), dict(indexing="ij", sparse=True)):
        xs = (np.arange(2), np.arange(3.0), np.arange(4))
        for n in (1, 2, 3):
            for a, b in zip(
                bnp.meshgrid(*xs[:n], **kwargs), np.meshgrid(*xs[:n], **kwargs), strict=True
            ):
                same(a, b)
    same(bnp.fromfunction(lambda i, j: i * j, (2, 3)), np.fromfunction(lambda i, j: i * j, (2, 3)))
    same(bnp.frombuffer(b"\x01\x00\x02\x00", np.int16), np.array([1, 2], np.int16))
    same(bnp.fromiter(range(3), int), np.arange(3))
    same(bnp.array([1, 2], ndmin=3), np.array([1, 2], ndmin=3))
    same(bnp.array(5.0, dtype="float16"), np.array(5.0, np.float16))
    x = bnp.ones(2)
    assert bnp.asarray(x) is x and bnp.copy(x) is not x and bnp.ascontiguousarray(1.0).shape == (1,)
    with pytest.raises(bv.errors.ShapeError):
        bnp.diag(np.ones((2, 2, 2)))


# -- dtypes as names -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [d.name for d in dtypes.ALL + dtypes.FLOAT8])
def test_scalar_types(name):
    t = getattr(bnp, "bool_" if name == "bool" else name)
    x = t(1)
    assert (
        isinstance(x, bv.Array)
        and x.dtype == t == dtypes.as_dtype(name)
        and x.shape == ()
        and not x.weak_type
    )
    assert (
        np.dtype(t) == x.dtype
        and bnp.zeros(2, t).dtype == t
        and np.zeros(2, t).dtype == t
        and {t: 1}[x.dtype] == 1
    )
    assert (
        t([0, 1]).dtype == t
        and x.astype(t).dtype == t
        and t != "object"
        and bnp.dtype(t) == x.dtype
    )
    assert pickle.loads(pickle.dumps(t)) == t
    assert (
        bnp.can_cast(t, t)
        and bnp.promote_types(t, t) == t
        and bnp.issubdtype(t, t)
        and bnp.issubdtype(t, bnp.generic)
    )


def test_questions_about_dtypes():
    assert bnp.issubdtype(bnp.bfloat16, bnp.floating) and bnp.issubdtype("float8_e5m2", bnp.inexact)
    assert (
        not bnp.issubdtype(bnp.float32, bnp.integer)
        and bnp.issubdtype(np.integer, np.number)
        and not bnp.issubdtype(bool, bnp.number)
    )
    assert (
        bnp.issubdtype(np.int8, np.signedinteger)
        and bnp.issubdtype(complex, bnp.complexfloating)
        and bnp.issubdtype(float, "float32")
    )
    assert (
        bnp.isdtype("bfloat16", "real floating")
        and bnp.isdtype(bnp.int8, ("integral", "bool"))
        and not bnp.isdtype(bool, "numeric")
    )
    with pytest.raises(ValueError, match="signed integer"):
        bnp.isdtype(bool, "nothing")
    assert (
        bnp.result_type(1, 2.0) == "float32"
        and bnp.result_type(bnp.int8(1), 3) == "int8"
        and bnp.result_type("int8", "uint8") == "int16"
    )
    assert (
        bnp.result_type(np.float64(1)) == "float32"
        and bnp.result_type(bnp.float16, 1.0) == "float16"
    )
    with pytest.raises(TypeError):
        bnp.result_type()
    with pytest.raises(TypeError, match="float8"):
        bnp.promote_types("float8_e5m2", "float8_e4m3")
    assert (
        bnp.finfo("bfloat16").bits == 16
        and bnp.iinfo(bnp.int8).max == 127
        and bnp.finfo(bnp.ones(2)).bits == 32
    )
    assert (
        bnp.can_cast("int8", "float16")
        and not bnp.can_cast("float64", "float32")
        and bnp.can_cast("float64", "float32", "same_kind")
    )
    with pytest.raises(TypeError, match="can_cast"):
        bnp.can_cast(1, "int8")
    assert (
        bnp.pi == np.pi
        and bnp.newaxis is None
        and np.isnan(bnp.nan)
        and bnp.inf == np.inf
        and bnp.e == np.e
    )
