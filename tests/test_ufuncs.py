"""Universal functions: NumPy's are the oracle for every method of theirs."""

import inspect

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp

REAL = ["add", "multiply", "subtract", "maximum", "minimum", "logaddexp", "logaddexp2"]
LOGIC = ["logical_and", "logical_or", "logical_xor"]
BITS = ["bitwise_and", "bitwise_or", "bitwise_xor"]
BINARY = REAL + LOGIC + BITS


def operand(name, shape=(5, 4)):
    rng = np.random.default_rng(len(name))
    if name in BITS:
        return rng.integers(-50, 50, shape).astype(np.int32)
    x = rng.normal(size=shape).astype(np.float32)
    return np.where(rng.random(shape) < 0.3, 0, x).astype(np.float32) if name in LOGIC else x


def check(found, want):
    want = np.asarray(want)
    assert found.shape == want.shape
    np.testing.assert_allclose(np.asarray(found), want, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", BINARY)
def test_every_method_is_numpys(name):
    ours, theirs, x = getattr(bnp, name), getattr(np, name), operand(name)
    for axis in (0, 1, -1):
        check(ours.reduce(x, axis), theirs.reduce(x, axis))
        check(ours.reduce(x, axis=axis, keepdims=True), theirs.reduce(x, axis, keepdims=True))
        check(ours.accumulate(x, axis), theirs.accumulate(x, axis))
        for at in ([0, 3], [2, 0, 3, 3], [1]):
            check(ours.reduceat(x, at, axis), theirs.reduceat(x, at, axis))
    assert ours.reduce(x[:1]).shape == (4,)
    check(ours.outer(x, x[0]), theirs.outer(x, x[0]))
    b = operand(name, (3, 4))
    for index in (1, [0, 2, 0], (slice(None), [1, 1]), ([0, 0], [1, 1]), np.s_[::2]):
        values = np.broadcast_to(b[0, 0], np.shape(x[index]))
        if name in LOGIC:  # NumPy writes bools into floats here, as we do
            values = values.astype(np.float32)
        want = x.copy()
        theirs.at(want, index, values)
        check(ours.at(x, index, values, inplace=False), want)


@pytest.mark.parametrize("name", BINARY)
def test_compiled_is_the_same(name):
    f, x = getattr(bnp, name), operand(name, (70, 2))
    index = np.array([0, 3, 0])

    def every(x):
        pieces = f.reduceat(x, np.array([0, 40]))
        return f.reduce(x), f.accumulate(x), pieces, f.at(x, index, x[:3], inplace=False)

    for compiled, eager in zip(bv.jit(every)(x), every(x), strict=True):
        check(compiled, eager)
    check(every(x)[0], getattr(np, name).reduce(x))


def test_where_initial_and_no_elements():
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    mask = x % 3 == 0
    for name in ("add", "multiply", "logical_and", "logical_or", "logical_xor"):
        f, g = getattr(bnp, name), getattr(np, name)
        check(f.reduce(x, 1, where=mask), g.reduce(x, 1, where=mask))
        check(f.reduce(np.zeros((0, 2))), g.reduce(np.zeros((0, 2), np.float32)))
        check(f.reduce(x, initial=2), g.reduce(x, initial=2))
    check(
        bnp.maximum.reduce(x, 1, initial=5, where=mask),
        np.maximum.reduce(x, 1, initial=5, where=mask),
    )
    for name in ("logaddexp", "logaddexp2", "subtract"):
        f, g = getattr(bnp, name), getattr(np, name)
        check(f.reduce(x, 1, initial=2), g.reduce(x, 1, initial=np.float32(2)))
        check(f.reduce(x, 1, initial=0, where=mask), g.reduce(x, 1, initial=0, where=mask))
    check(bnp.bitwise_and.reduce(x[1].astype(np.uint8), where=mask[1]), np.uint8(6))
    check(bnp.bitwise_xor.reduce(bnp.array([[1, 2], [4, 7]]), axis=None), 0)
    check(bnp.logical_xor.reduce(bnp.ones((3, 3)), axis=(0, 1)), True)
    for name in ("maximum", "subtract"):
        with pytest.raises(ValueError, match="initial="):
            getattr(bnp, name).reduce(bnp.zeros((0,)))
    with pytest.raises(ValueError, match="initial="):
        bnp.subtract.reduce(bnp.ones(3), where=bnp.array([True, False, True]))
    assert bnp.add.accumulate(bnp.zeros((0, 2))).shape == (0, 2)
    assert bnp.add.reduce(bnp.array([True, True])).dtype == np.int32


def test_dtypes():
    x = bnp.array([200, 100], "uint8")
    assert bnp.add.reduce(x, dtype="uint8") == 44
    assert bnp.maximum.reduce(x, dtype="float32").dtype == np.float32
    assert bnp.subtract.accumulate(x).dtype == np.uint8
    assert bnp.logaddexp.reduce(bnp.array([1, 2])).dtype == np.float32
    assert bnp.logical_xor.accumulate(x).dtype == np.bool_


def test_derivatives():
    x = np.random.default_rng(0).normal(size=6).astype(np.float32)
    check(bv.grad(lambda v: bnp.logaddexp.reduce(v))(x), np.exp(x) / np.exp(x).sum())
    check(bv.grad(lambda v: bnp.subtract.reduce(v))(x), [1, -1, -1, -1, -1, -1])
    check(bv.grad(lambda v: bnp.subtract.accumulate(v).sum())(x), [6, -5, -4, -3, -2, -1])
    rows = bnp.stack([x, 2 * x])
    check(bv.vmap(bnp.subtract.reduce)(rows), np.subtract.reduce(np.asarray(rows), axis=1))


def test_one_operand():
    x = np.array([1.0, 2.0, 3.0], np.float32)
    want = x.copy()
    np.negative.at(want, [0, 0, 1])
    check(bnp.negative.at(x, [0, 0, 1], inplace=False), want)
    assert (bnp.negative.nin, bnp.negative.nout, bnp.negative.nargs) == (1, 1, 2)
    with pytest.raises(ValueError, match="two arguments"):
        bnp.negative.reduce(x)


def test_they_are_functions_with_attributes():
    for name in [*BINARY, "negative"]:
        f, g = getattr(bnp, name), getattr(np, name)
        assert isinstance(f, bnp.ufunc) and inspect.isfunction(f)
        assert (f.nin, f.nout, f.nargs) == (g.nin, g.nout, g.nargs)
        assert (
            f.identity == g.identity and f.__doc__ and len(inspect.signature(f).parameters) == f.nin
        )
    assert not isinstance(bnp.sin, bnp.ufunc) and not isinstance(3, bnp.ufunc)


def test_frompyfunc():
    f = bnp.frompyfunc(lambda x, y: x * y + 1, 2, 1)
    g = np.frompyfunc(lambda x, y: x * y + 1, 2, 1)
    x = np.arange(4)
    for method in ("reduce", "accumulate"):
        assert getattr(f, method)(x).tolist() == list(np.atleast_1d(getattr(g, method)(x))) or (
            method == "reduce" and int(f.reduce(x)) == g.reduce(x)
        )
    assert f.outer(x, x).shape == (4, 4) and isinstance(f, bnp.ufunc) and f.identity is None
    two = bnp.frompyfunc(lambda x: (x, -x), 1, 2)
    assert [v.tolist() for v in two(bnp.array([1, 2]))] == [[1, 2], [-1, -2]] and two.nargs == 3
    assert bnp.frompyfunc(lambda x, y: x, 2, 1, identity=7).reduce(bnp.zeros((0,), int)) == 7
    with pytest.raises(TypeError, match="takes 2 arguments, got 1"):
        f(1)
    with pytest.raises(ValueError, match="returned 2 results, not 1"):
        bnp.frompyfunc(lambda x: (x, x), 1, 1)(1.0)


def test_errors_say_what_to_write():
    x = bnp.ones(3)
    with pytest.raises(TypeError, match=r"bnp.add.at\(a, indices, ..., inplace=False\)"):
        bnp.add.at(x, 0, 1)
    with pytest.raises(TypeError, match="values are missing"):
        bnp.subtract.at(x, 0, inplace=False)
    with pytest.raises(bv.errors.ShapeError, match="do not broadcast"):
        bnp.logaddexp.at(x, [0, 1], bnp.ones(3), inplace=False)
    with pytest.raises(TypeError, match="one-dimensional array of integers"):
        bnp.add.reduceat(x, bnp.array([0.5]))
    with pytest.raises(IndexError):
        bnp.add.reduce(x, axis=1)
