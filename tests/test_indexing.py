"""`x[...]` and `x.at[...]` against NumPy: eagerly, in a traced program, and compiled."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bevel as bv
import bevel.numpy as bnp
from bevel.core.aval import aval_of
from bevel.core.graph import evaluate, trace
from bevel.core.handle import Handle, wrap


def traced(fn, *args):
    """`fn` traced to a graph whose ops then run one by one: the program path without a
    compilation.
    """
    values = [np.asarray(a) for a in args]
    graph, consts = trace(lambda *vs: [fn(*map(wrap, vs))._v], [aval_of(v) for v in values], "test")
    return evaluate(graph, [*consts, *values])[0]


def numbers(shape, dtype=np.float32):
    return np.arange(1, 1 + int(np.prod(shape)), dtype=dtype).reshape(shape)


# -- random indices --------------------------------------------------------------------------------

shapes = st.lists(st.integers(1, 4), min_size=0, max_size=4).map(tuple)


@st.composite
def slices(draw, n):
    bound = st.none() | st.integers(-n - 2, n + 2)
    step = draw(st.sampled_from([None, 1, 2, 3, -1, -2]))
    return slice(draw(bound), draw(bound), step)


@st.composite
def indices(draw, shape, arrays=True, unique=False):
    """A valid index of an array, with every kind of entry."""
    batch = draw(st.sampled_from([(), (3,), (2, 1), (1, 3), (2, 3)])) if arrays else ()
    items, axis = [], 0
    while axis < len(shape):
        n = shape[axis]
        kind = draw(st.sampled_from(["int", "slice", "new", "stop", "array", "array", "mask"]))
        if kind == "stop":
            break
        if kind == "new":
            items.append(None)
            continue
        if kind == "int":
            items.append(draw(st.integers(-n, n - 1)))
        elif kind == "slice" or not arrays:
            items.append(draw(slices(n)))
        elif kind == "mask":
            if batch != (3,):
                items.append(draw(slices(n)))
            else:  # with as many places as the other index arrays, where there are enough
                mask = np.zeros(n, bool)
                mask[: min(3, n)] = True
                items.append(mask if n >= 3 else draw(st.integers(-n, n - 1)))
        else:
            keep = draw(st.integers(0, len(batch)))
            size = batch[keep:]
            count = int(np.prod(size))
            flat = draw(st.lists(st.integers(-n, n - 1), min_size=count, max_size=count))
            items.append(
                np.array(flat, draw(st.sampled_from([np.int32, np.int8, np.int64]))).reshape(size)
            )
        axis += 1
    if draw(st.booleans()):
        at = draw(st.integers(0, len(items))) if axis == len(shape) else len(items)
        items = items[:at] + [Ellipsis] + items[at:]
    return items[0] if len(items) == 1 and draw(st.booleans()) else tuple(items)


cases = shapes.flatmap(lambda s: st.tuples(st.just(s), indices(s)))


def with_dynamic(index):
    """The integers and integer arrays of an index, and a function that puts others in their
    place.
    """
    items = index if isinstance(index, tuple) else (index,)
    dynamic = [i for i in items if _is_number(i)]

    def rebuild(values):
        rest = iter(values)
        new = tuple(next(rest) if _is_number(i) else i for i in items)
        return new if isinstance(index, tuple) else new[0]

    return [np.asarray(d) for d in dynamic], rebuild


def _is_number(item):
    return type(item) is int or (isinstance(item, np.ndarray) and item.dtype != bool)


@settings(max_examples=300)
@given(cases)
def test_reading_equals_numpy(case):
    shape, index = case
    x = numbers(shape)
    want = x[index]
    got = bnp.asarray(x)[index]
    assert isinstance(got, Handle) and got.shape == want.shape and got.dtype == x.dtype
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(traced(lambda x: x[index], x), want)
    values, rebuild = with_dynamic(index)
    if values:
        np.testing.assert_array_equal(traced(lambda x, *i: x[rebuild(i)], x, *values), want)


UFUNC = {"add": np.add, "multiply": np.multiply, "min": np.minimum, "max": np.maximum}


@settings(max_examples=300)
@given(cases, st.sampled_from(["set", *UFUNC]), st.booleans())
def test_writing_equals_numpy(case, method, scalar):
    shape, index = case
    x = numbers(shape)
    part = x[index]
    values = np.float32(2.5) if scalar else (100 + numbers(part.shape) * 0.5).astype(np.float32)
    want = x.copy()
    if method == "set":
        values = (
            values if scalar else np.full(part.shape, 7, np.float32)
        )  # equal, as indices may repeat
        want[index] = values
    else:
        UFUNC[method].at(want, index, values)

    def update(x, v):
        return getattr(x.at[index], method)(v)

    np.testing.assert_allclose(update(bnp.asarray(x), values), want, rtol=1e-6)
    np.testing.assert_allclose(traced(update, x, values), want, rtol=1e-6)
    dynamic, rebuild = with_dynamic(index)
    if dynamic:
        out = traced(lambda x, v, *i: getattr(x.at[rebuild(i)], method)(v), x, values, *dynamic)
        np.testing.assert_allclose(out, want, rtol=1e-6)


# -- the same, compiled, and differentiated --------------------------------------------------------

I = np.array([2, 0, -1])  # noqa: E741
FIXED = [
    ((4, 5), (slice(1, 3), slice(None, None, 2))),
    ((4, 5), (slice(None, None, -1), 2)),
    ((4, 5), (1, -1)),
    ((4, 5), (None, Ellipsis, 3)),
    ((4, 5), (I, slice(1, 4))),
    ((4, 5), (slice(1, 4), I)),
    ((4, 5, 3), (I, slice(None), I)),
    ((4, 5, 3), (slice(None), I[:, None], I)),
    ((4, 5, 3), (0, slice(None), I)),
    ((4,), np.array([True, False, True, True])),
    ((4, 5), (np.array([True, False, True, True]), 1)),
]


@pytest.mark.parametrize("shape, index", FIXED, ids=str)
def test_compiled_reading_writing_and_gradients(shape, index):
    x = numbers(shape)
    values, rebuild = with_dynamic(index)
    want = x[index]
    np.testing.assert_array_equal(bv.jit(lambda x, i: x[rebuild(i)])(x, values), want)
    added = x.copy()
    np.add.at(added, index, want)
    np.testing.assert_array_equal(
        bv.jit(lambda x, i, v: x.at[rebuild(i)].add(v))(x, values, want), added
    )
    w = np.cos(want)
    weights = np.zeros_like(x)
    np.add.at(weights, index, w)
    np.testing.assert_allclose(
        bv.grad(lambda x: (x[index] * w).sum())(bnp.asarray(x)), weights, rtol=1e-6
    )
    gx, gv = bv.grad(lambda x, v: (x.at[index].set(v) ** 2).sum(), argnums=(0, 1))(
        bnp.asarray(x), bnp.asarray(w)
    )
    kept = np.ones_like(x)
    kept[index] = 0
    np.testing.assert_allclose(gx, 2 * x * kept, rtol=1e-6)
    if np.unique(np.arange(x.size).reshape(shape)[index]).size == want.size:
        np.testing.assert_allclose(gv, 2 * w, rtol=1e-6)


def test_a_simple_index_is_a_slice_and_no_gather():
    def ops_of(f, *args):
        return str(bv.make_graph(f)(*args))

    x = bnp.ones((6, 5))
    text = ops_of(lambda x: x[1:5:2, 3, None], x)
    assert "slice" in text and "gather" not in text
    text = ops_of(lambda x, i: x[i], x, 2)
    assert "dynamic_slice" in text and "gather" not in text
    text = ops_of(lambda x: x.at[1:3].set(0.0), x)
    assert "dynamic_update_slice" in text and "scatter" not in text


def test_vmap_over_the_index():
    x = numbers((5, 3))
    i = np.array([4, 0, -2])
    np.testing.assert_array_equal(bv.vmap(lambda i: bnp.asarray(x)[i])(i), x[i])
    np.testing.assert_array_equal(
        bv.vmap(lambda r, i: r.at[i].set(0.0))(x[:3], np.array([0, 2, 1])),
        x[:3] * (1 - np.eye(3)[[0, 2, 1]]),
    )


# -- out of bounds ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "index, axis, size", [((7,), 0, 3), ((-4,), 0, 3), ((0, 9), 1, 4), ((np.array([0, 5]),), 0, 3)]
)
@pytest.mark.parametrize("where", ["eager", "compiled"])
def test_a_known_index_out_of_bounds_is_an_error(index, axis, size, where):
    x = bnp.ones((3, 4))
    run = (lambda f, x: f(x)) if where == "eager" else (lambda f, x: bv.jit(f)(x))
    for f in (lambda x: x[index], lambda x: x.at[index].set(1.0), lambda x: x.at[index].add(1.0)):
        with pytest.raises(
            IndexError,
            match=rf"(?s)out of bounds for axis {axis} with size {size}.*test_indexing.py",
        ):
            run(f, x)


def test_a_traced_index_out_of_bounds_is_clamped_or_dropped():
    x = numbers((5,))
    i = np.array([7, -7, -1])
    np.testing.assert_array_equal(bv.jit(lambda x, i: x[i])(x, i), [5, 1, 5])
    assert (
        float(bv.jit(lambda x, i: x[i])(x, 9)) == 5 and float(bv.jit(lambda x, i: x[i])(x, -9)) == 1
    )
    np.testing.assert_array_equal(bv.jit(lambda x, i: x.at[i].set(0.0))(x, i), [1, 2, 3, 4, 0])
    for n in (9, -9):
        np.testing.assert_array_equal(bv.jit(lambda x, i: x.at[i].set(0.0))(x, n), x)
        np.testing.assert_array_equal(bv.jit(lambda x, i: x.at[i].add(1.0))(x, n), x)


@pytest.mark.parametrize("index", [np.array([7, -7, 1]), 7, -9])
@pytest.mark.parametrize(
    "run", [lambda f, *a: f(*a), lambda f, *a: bv.jit(f)(*a)], ids=["eager", "compiled"]
)
def test_modes(run, index):
    x = np.arange(5, dtype=np.int32)
    bad = (np.asarray(index) >= 5) | (np.asarray(index) < -5)
    clipped = np.clip(np.where(np.asarray(index) < 0, np.asarray(index) + 5, index), 0, 4)
    got = run(lambda x, i: x.at[i].get(mode="fill"), bnp.asarray(x), index)
    np.testing.assert_array_equal(got, np.where(bad, np.iinfo(np.int32).min, x[clipped]))
    got = run(lambda x, i: x.at[i].get(mode="fill", fill_value=-5), bnp.asarray(x), index)
    np.testing.assert_array_equal(got, np.where(bad, -5, x[clipped]))
    got = run(lambda x, i: x.at[i].get(mode="clip"), bnp.asarray(x), index)
    np.testing.assert_array_equal(got, x[clipped])
    want = x.copy()
    want[clipped] = 9
    np.testing.assert_array_equal(
        run(lambda x, i: x.at[i].set(9, mode="clip"), bnp.asarray(x), index), want
    )
    want = x.copy()
    want[np.asarray(index)[~bad] if np.ndim(index) else ([] if bad else index)] = 9
    np.testing.assert_array_equal(
        run(lambda x, i: x.at[i].set(9, mode="drop"), bnp.asarray(x), index), want
    )


def test_fill_values_by_dtype():
    for dtype, want in [
        ("float32", np.nan),
        ("uint8", 255),
        ("int8", -128),
        ("bool", True),
        ("complex64", np.nan),
    ]:
        got = bnp.zeros(2, dtype).at[5].get(mode="fill")
        np.testing.assert_array_equal(np.asarray(got), np.asarray(want, dtype))
    with pytest.raises(ValueError, match="'clip'"):
        bnp.zeros(2).at[0].get(mode="wrap!")


# -- masks, empties, scalars -----------------------------------------------------------------------


def test_traced_masks():
    x = numbers((2, 3))
    f = bv.jit(lambda x: x[x > 2])
    with pytest.raises(
        bv.errors.ConcretizationTypeError, match=r"(?s)test_indexing.py.*bnp\.where"
    ):
        f(x)
    got = bv.jit(lambda x: x.at[x > 2].set(0.0))(x)
    np.testing.assert_array_equal(got, np.where(x > 2, 0, x))
    got = bv.jit(lambda x: x.at[x[:, 0] > 2].multiply(10.0))(x)
    np.testing.assert_array_equal(got, np.where(x[:, :1] > 2, 10 * x, x))
    got = bv.jit(lambda x: x.at[:, x[0] > 1].add(1.0))(x)
    np.testing.assert_array_equal(got, x + (x[0] > 1))


def test_masks_and_scalar_bools():
    x = numbers((2, 3))
    b = bnp.asarray(x)
    for index in [
        x > 2,
        (x > 2, None),
        True,
        False,
        (True, 1),
        (slice(None), True),
        (False, 0),
        np.bool_(True),
    ]:
        np.testing.assert_array_equal(b[index], x[index])
        np.testing.assert_array_equal(traced(lambda x, i=index: x[i], x), x[index])
    np.testing.assert_array_equal(b.at[True].add(1.0), x + 1)
    np.testing.assert_array_equal(traced(lambda x: x.at[False].add(1.0), x), x)
    with pytest.raises(IndexError, match="bool"):
        b[np.array([True, False, True])]
    with pytest.raises(IndexError, match=r"bool\[3\]"):
        traced(lambda x: x[np.array([True, False, True])], x)


def test_empty_arrays_and_indices():
    x = np.zeros((0, 3), np.float32)
    for index in [[], (slice(None), [0, 1]), np.zeros((2, 0), int), slice(3, 1), (None, [])]:
        np.testing.assert_array_equal(bnp.asarray(x)[index], x[index])
        np.testing.assert_array_equal(traced(lambda x, i=index: x[i], x), x[index])
        assert bnp.asarray(x).at[index].set(1.0).shape == x.shape
        assert traced(lambda x, i=index: x.at[i].add(1.0), x).shape == x.shape
    with pytest.raises(IndexError, match="empty"):
        bv.jit(lambda x, i: x[i])(x, 0)
    y = numbers((3,))
    np.testing.assert_array_equal(bnp.asarray(y)[[]], y[[]])
    np.testing.assert_array_equal(bnp.asarray(y).at[[]].set(1.0), y)


def test_index_types():
    x = bnp.arange(5)
    for one in (np.int64(2), np.uint8(2), bnp.int32(2), bnp.uint8(2), np.array(2), bnp.asarray(2)):
        assert int(x[one]) == 2
        assert int(bv.jit(lambda x, i=one: x[i])(x)) == 2
    assert int(bv.jit(lambda x, i: x[i])(x, np.uint32(2**32 - 1))) == 4  # far out of bounds, not -1
    assert int(bv.jit(lambda x, i: x[i])(x, bnp.asarray(2**40, dtype=bnp.int64))) == 4
    np.testing.assert_array_equal(x[[1, 2]], [1, 2])
    np.testing.assert_array_equal(x[bnp.array([1, 2]), None], [[1], [2]])
    np.testing.assert_array_equal(x[bnp.int32(1) : bnp.int32(3)], [1, 2])
    for bad in (1.0, "a", bnp.float32(1), np.array([1.0]), object()):
        with pytest.raises(IndexError, match="Write instead"):
            x[bad]
        with pytest.raises(IndexError, match="Write instead"):
            bv.jit(lambda x, i=bad: x[i])(x)
    with pytest.raises(IndexError, match="too many indices"):
        x[0, 0]
    with pytest.raises(IndexError, match="too many indices"):
        bv.jit(lambda x: x[0, 0])(x)
    with pytest.raises(
        bv.errors.ConcretizationTypeError, match=r"(?s)test_indexing.*dynamic_slice_in_dim"
    ):
        bv.jit(lambda x, i: x[:i])(x, 2)


def test_every_dtype_goes_through():
    for dtype in [
        "bool",
        "int8",
        "uint64",
        "float16",
        "bfloat16",
        "float64",
        "complex64",
        "float8_e4m3fn",
    ]:
        x = bnp.arange(4).astype(dtype)
        assert x[1:3].dtype == x.dtype and x[[0, 1]].dtype == x.dtype
        assert bv.jit(lambda x, i: x[i])(x, np.array([1, 2])).dtype == x.dtype
        assert x.at[0].set(1).dtype == x.dtype
        if dtype != "float8_e4m3fn":
            got = x.at[[0, 0, 1]].add(x[1:])
            assert got.dtype == x.dtype
            np.testing.assert_array_equal(
                got, bv.jit(lambda x, i: x.at[i].add(x[1:]))(x, np.array([0, 0, 1]))
            )


# -- values ----------------------------------------------------------------------------------------


def test_update_values_keep_the_arrays_dtype():
    x = bnp.zeros(3, dtype=int)
    for bad in (1.5, bnp.ones(3), np.float64(2)):
        with pytest.raises(TypeError, match=r"(?s)float.*int32.*Write instead"):
            x.at[0].set(bad) if np.ndim(bad) == 0 else x.at[:].set(bad)
    with pytest.raises(TypeError, match="complex"):
        bnp.zeros(3).at[0].set(1j)
    with pytest.raises(OverflowError, match="300"):
        bnp.zeros(3, bnp.uint8).at[0].set(300)
    assert bnp.zeros(3, bool).at[0].set(1).tolist() == [True, False, False]
    assert bnp.zeros(3, bnp.float16).at[0].add(np.float32(2)).dtype == np.float16
    with pytest.raises(TypeError, match="float"):
        x.at[0].divide(2)
    np.testing.assert_allclose(bnp.full(3, 8.0).at[[0, 0, 2]].divide(2.0), [2, 8, 4])
    np.testing.assert_allclose(bnp.full(3, 8.0).at[1].power(2.0), [8, 64, 8])
    np.testing.assert_array_equal(bnp.arange(4, dtype="uint8").at[2:].subtract(3), [0, 1, 255, 0])


def test_update_values_that_do_not_fit_name_both_shapes():
    for f in (lambda x: x.at[1:3].set(np.ones(4)), lambda x: x.at[[0, 1]].add(np.ones((2, 3)))):
        for run in (lambda f, x: f(x), lambda f, x: bv.jit(f)(x)):
            with pytest.raises(
                bv.errors.ShapeError,
                match=r"(?s)float32\[(4|2,3)\].*test_indexing.*\(2,\), the shape",
            ):
                run(f, bnp.zeros(5))
    np.testing.assert_array_equal(bnp.zeros(2).at[:].set(np.ones((1, 2))), [1, 1])


def test_apply_and_the_original_is_untouched():
    x = bnp.arange(4.0)
    np.testing.assert_allclose(x.at[1:3].apply(lambda v: v * 10), [0, 10, 20, 3])
    np.testing.assert_allclose(
        bv.jit(lambda x, i: x.at[i].apply(bnp.negative))(x, 2), [0, 1, -2, 3]
    )
    x.at[0].set(9.0), x.at[[0, 1]].add(9.0), x[1:].at[0].set(5.0)
    assert x.tolist() == [0, 1, 2, 3]
    with pytest.raises(TypeError, match=r"x\.at\[index\]\.set"):
        x[0] = 1.0


def test_grid_indices():
    a = numbers((3, 4))
    x = bnp.asarray(a)
    np.testing.assert_array_equal(x[bnp.ix_([0, 2], [1, 3])], a[np.ix_([0, 2], [1, 3])])
    np.testing.assert_array_equal(
        x[bnp.ix_([True, False, True], [1, 3])], a[np.ix_([True, False, True], [1, 3])]
    )
    for ours, theirs in zip(
        bnp.unravel_index(np.array([0, 7, 11]), (3, 4)),
        np.unravel_index([0, 7, 11], (3, 4)),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(bnp.ravel_multi_index(([0, 2], [3, 1]), (3, 4)), [3, 9])
    np.testing.assert_array_equal(bnp.ravel_multi_index(([5], [-1]), (3, 4), mode="clip"), [8])
    np.testing.assert_array_equal(bnp.ravel_multi_index(([5], [-1]), (3, 4), mode="wrap"), [11])
    with pytest.raises(IndexError):
        bnp.unravel_index(12, (3, 4))
    with pytest.raises(IndexError):
        bnp.ravel_multi_index(([3], [0]), (3, 4))
    np.testing.assert_array_equal(bnp.mgrid[0:2, 0:3], np.mgrid[0:2, 0:3])
    np.testing.assert_allclose(bnp.mgrid[0:1:5j], np.mgrid[0:1:5j])
    for ours, theirs in zip(bnp.ogrid[0:2, 0:1:0.5], np.ogrid[0:2, 0:1:0.5], strict=True):
        np.testing.assert_allclose(ours, theirs)
    np.testing.assert_array_equal(bnp.r_[0:3, 7, [8, 9]], np.r_[0:3, 7, [8, 9]])
    np.testing.assert_array_equal(bnp.c_[np.arange(3), np.ones(3)], np.c_[np.arange(3), np.ones(3)])
    for f in ("tril_indices", "triu_indices"):
        for ours, theirs in zip(getattr(bnp, f)(3, 1, 4), getattr(np, f)(3, 1, 4), strict=True):
            np.testing.assert_array_equal(ours, theirs)
