"""`vmap`: axes, structures, collectives, and control flow with every choice of batched operands."""

import itertools

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import lax, random

F64 = bnp.float64


def f64(x):
    return bnp.asarray(x, dtype=F64)


def close(found, wanted, tol=1e-6):
    assert bv.tree.structure(found) == bv.tree.structure(wanted), (found, wanted)
    for a, b in zip(bv.tree.leaves(found), bv.tree.leaves(wanted), strict=True):
        assert np.shape(a) == np.shape(b)
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=tol, atol=tol)


A = np.arange(6.0, dtype=np.float32).reshape(2, 3)


# -- axes ------------------------------------------------------------------------------------------


def test_in_and_out_axes():
    for i, o in itertools.product((0, 1, -1, -2), (0, 1, -1, -2)):
        rows = np.moveaxis(A, i, 0)
        wanted = np.moveaxis(np.stack([np.sin(r) for r in rows]), 0, o)
        close(bv.vmap(bnp.sin, in_axes=i, out_axes=o)(A), wanted)
        close(bv.jit(bv.vmap(bnp.sin, in_axes=(np.int64(i),), out_axes=np.int32(o)))(A), wanted)
    x = np.zeros((2, 3, 4))
    for o in range(-3, 3):
        assert bv.vmap(lambda v: v, in_axes=2, out_axes=o)(x).shape == np.moveaxis(x, 2, o).shape
    assert bv.vmap(lambda v: 1.0, out_axes=0)(A).shape == (2,)
    assert bv.vmap(lambda v: bnp.ones(3), out_axes=1)(A).shape == (3, 2)


def test_trees_of_axes():
    def f(p, q, r):
        return {"s": p["a"] + p["b"][0], "t": (q.sum(), r)}

    args = ({"a": A, "b": [A.T, "unused"][:1]}, A, 5.0)
    axes = ({"a": 0, "b": 1}, None, None)
    out = bv.vmap(f, in_axes=axes, out_axes={"s": 1, "t": (None, None)})(*args)
    close(out, {"s": (A + A).T, "t": (A.sum(), 5.0)})
    out = bv.vmap(f, in_axes=[{"a": 0, "b": [1]}, None, None], out_axes=0)(*args)
    assert out["t"][0].shape == out["t"][1].shape == (2,)
    close(bv.vmap(lambda p, q: p["x"] * q, in_axes=(None, 0))({"x": 2.0}, A), A * 2)
    close(bv.vmap(lambda p: p[0] * p[1], in_axes=((0, None),))((A, 3.0)), A * 3)
    close(bv.vmap(lambda x, *, k: x * k)(A, k=np.array([1.0, 10.0], np.float32)), A * [[1], [10]])
    close(bv.vmap(lambda p: p)((A, None)), (A, None))
    close(bv.vmap(lambda x, y: (x, y), in_axes=0, out_axes=(0, 1))(A, A), (A, A.T))


def test_axis_size():
    out = bv.vmap(lambda: lax.axis_index("i"), axis_name="i", axis_size=3)()
    assert out.tolist() == [0, 1, 2]
    out = bv.vmap(lambda x: x, in_axes=None, axis_size=2)(5.0)
    assert out.tolist() == [5, 5]
    assert bv.vmap(lambda x: x * 2)(bnp.ones((0, 3))).shape == (0, 3)
    assert bv.vmap(lambda x: x.sum(), axis_name="i")(bnp.ones((0, 3))).shape == (0,)


def test_nested_maps():
    f = lambda x, y: x * 10 + y
    x, y = np.arange(3.0), np.arange(4.0)
    outer = bv.vmap(bv.vmap(f, in_axes=(None, 0)), in_axes=(0, None))
    close(outer(x, y), x[:, None] * 10 + y)
    close(bv.vmap(bv.vmap(f, (None, 0)), (0, None), out_axes=1)(x, y), (x[:, None] * 10 + y).T)
    close(bv.vmap(bv.vmap(bv.vmap(bnp.sum)))(np.ones((2, 3, 4, 5))), np.full((2, 3, 4), 5.0))
    close(
        bv.vmap(lambda m: m @ m.T)(A[:, None, :]), np.einsum("bij,bkj->bik", A[:, None], A[:, None])
    )


def test_dtypes_and_values_of_every_kind():
    for dtype in ("bool", "int8", "uint32", "float16", "bfloat16", "float64", "complex64"):
        x = bnp.asarray([[0, 1], [1, 1]], dtype=dtype)
        out = bv.vmap(lambda v: (v.sum(), v[::-1], v * 1))(x)
        assert out[1].dtype == dtype and out[2].dtype == (x[0] * 1).dtype
        np.testing.assert_array_equal(out[1], np.asarray(x)[:, ::-1])
    x = bnp.array([np.nan, np.inf, -np.inf])
    np.testing.assert_array_equal(bv.vmap(lambda v: v * 0)(x), [np.nan] * 3)
    assert bv.vmap(lambda v: v)(bnp.asarray([1, 2])).dtype == bnp.int32


def test_weak_results_and_scalars():
    out = bv.vmap(lambda x: 2.0)(bnp.ones(2))
    assert (out * bnp.ones(2, dtype="bfloat16")).dtype == bnp.bfloat16
    assert bv.vmap(lambda x: x)(np.float32([1, 2])).dtype == bnp.float32


def test_keys_are_mapped():
    keys = random.split(random.key(0), 3)
    out = bv.vmap(random.uniform)(keys)
    wanted = [float(random.uniform(k)) for k in random.split(random.key(0), 3)]
    close(out, np.float32(wanted))
    made = bv.vmap(random.split)(random.split(random.key(0), 3))
    assert random.is_key(made) and made.shape == (3, 2)
    moved = bv.vmap(lambda k: random.split(k, 4), out_axes=1)(random.split(random.key(0), 3))
    assert moved.shape == (4, 3)
    again = bv.vmap(bv.vmap(random.bits), in_axes=1, out_axes=1)(moved)
    np.testing.assert_array_equal(again, bv.vmap(bv.vmap(random.bits))(random.clone(moved)))
    with random.allow_key_reuse():
        same = bv.vmap(lambda key, x: random.uniform(key) * x, in_axes=(None, 0))(
            random.key(1), bnp.ones(3)
        )
    assert len(set(np.asarray(same).tolist())) == 1
    drawn = bv.vmap(lambda i: random.uniform(random.fold_in(random.key(0), i)))(bnp.arange(3))
    close(
        drawn,
        np.float32([float(random.uniform(random.fold_in(random.key(0), i))) for i in range(3)]),
    )


# -- errors ----------------------------------------------------------------------------------------


def test_errors_name_the_arguments():
    f = lambda x, y: x + y
    with pytest.raises(
        ValueError,
        match=r"(?s)argument 0 \(x\) of shape \(3,\), axis 0: 3.*argument 1 \(y\).*: 4"
        r".*in_axes=None",
    ):
        bv.vmap(f)(bnp.ones(3), bnp.ones(4))
    with pytest.raises(
        ValueError,
        match=r"(?s)keyword argument k of shape \(4,\).*different sizes|different sizes"
        r".*keyword argument k",
    ):
        bv.vmap(lambda x, k: x)(bnp.ones(3), k=bnp.ones(4))
    with pytest.raises(ValueError, match=r"(?s)different sizes.*axis_size: 5"):
        bv.vmap(lambda x: x, axis_size=5)(bnp.ones(3))
    with pytest.raises(
        ValueError,
        match=r"(?s)axis 0 is out of range for argument 1 \(y\) of shape \(\).*in_axes=None",
    ):
        bv.vmap(f)(bnp.ones(3), 1.0)
    with pytest.raises(ValueError, match=r"axis 2 is out of range for argument 0 \(x\)"):
        bv.vmap(f, in_axes=(2, None))(A, 1.0)
    with pytest.raises(ValueError, match="in_axes has 1 entries for 2"):
        bv.vmap(f, in_axes=(0,))(A, A)
    with pytest.raises(ValueError, match="(?s)nothing is mapped.*axis_size=n"):
        bv.vmap(f, in_axes=None)(1.0, 2.0)
    with pytest.raises(ValueError, match="(?s)in_axes .* does not fit the structure"):
        bv.vmap(lambda p: p, in_axes=({"a": 0},))({"b": A})
    with pytest.raises(ValueError, match="(?s)out_axes .* does not fit the structure"):
        bv.vmap(lambda x: (x, x), out_axes=(0, 0, 0))(A)
    with pytest.raises(
        ValueError,
        match=r"(?s)axis 3 .* a result with rows of shape \(3,\).*out_axes between -2 and 1",
    ):
        bv.vmap(lambda x: x, out_axes=3)(A)
    with pytest.raises(ValueError, match="(?s)out_axes=None differs from row to row.*pmean"):
        bv.vmap(lambda x: x, out_axes=None)(A)
    with pytest.raises(TypeError, match=r"(?s)argument 0 \(x\) is a str"):
        bv.vmap(lambda x: x)("abc")
    with pytest.raises(TypeError, match="in_axes: an axis is an int or None, not 'a'"):
        bv.vmap(lambda x: x, in_axes="a")(A)
    with pytest.raises(TypeError, match="out_axes: an axis is an int or None, not 1.5"):
        bv.vmap(lambda x: x, out_axes=1.5)(A)
    with pytest.raises(ValueError, match="axis_size must not be negative"):
        bv.vmap(lambda: 1.0, axis_size=-1)()
    with pytest.raises(TypeError, match="vmap: expected a function, got Array"):
        bv.vmap(bnp.sin(A))
    with pytest.raises(TypeError, match="(?s)result of vmap of.*object"):
        bv.vmap(lambda x: object())(A)
    with pytest.raises(bv.errors.TracerBoolConversionError, match=r"(?s)test_vmap.*vmap of"):
        bv.vmap(lambda x: 1 if x > 0 else 2)(bnp.ones(2))


def test_a_row_that_leaks_is_named():
    kept = []
    bv.vmap(lambda x: kept.append(x * 2))(bnp.ones(2))
    with pytest.raises(bv.errors.UnexpectedTracerError, match="vmap of"):
        kept[0] + 1


# -- cells -----------------------------------------------------------------------------------------


def test_mapped_and_shared_cells():
    rows, shared = bv.ref(bnp.zeros((3, 2))), bv.ref(bnp.float32(10))

    def f(cell, x):
        cell[...] = cell[...] + x * shared[...]
        return cell[...].sum()

    out = bv.vmap(f)(rows, bnp.arange(3.0))
    assert out.tolist() == [0, 20, 40] and rows[...].tolist() == [[0, 0], [10, 10], [20, 20]]
    columns = bv.ref(bnp.zeros((2, 3)))
    bv.vmap(f, in_axes=(1, 0))(columns, bnp.arange(3.0))
    assert columns[...].tolist() == [[0, 10, 20], [0, 10, 20]]

    def total(x):
        shared[...] = shared[...] + lax.psum(x, "i")

    bv.vmap(total, axis_name="i")(bnp.arange(3.0))
    assert float(shared[...]) == 13
    with pytest.raises(bv.errors.StateError, match="(?s)row.*pmean.*in_axes=0"):
        bv.vmap(lambda x: shared.__setitem__(..., x))(bnp.arange(3.0))
    assert float(shared[...]) == 13
    with pytest.raises(ValueError, match="different sizes"):
        bv.vmap(f)(rows, bnp.arange(4.0))


# -- collectives -----------------------------------------------------------------------------------

SIZE = 3
X = np.arange(SIZE * 6.0, dtype=np.float64).reshape(SIZE, 6) / 7 + 0.1


def spread(x):
    return np.broadcast_to(x, (SIZE, *np.shape(x)))


def dealt(x):
    """Row i gets part i of six."""
    return np.stack([x.sum(0)[2 * i : 2 * i + 2] for i in range(SIZE)])


COLLECTIVES = {
    "psum": (lambda x: lax.psum(x, "i"), lambda x: spread(x.sum(0))),
    "pmean": (lambda x: lax.pmean(x, "i"), lambda x: spread(x.mean(0))),
    "pmax": (lambda x: lax.pmax(x, "i"), lambda x: spread(x.max(0))),
    "pmin": (lambda x: lax.pmin(x, "i"), lambda x: spread(x.min(0))),
    "all_gather": (lambda x: lax.all_gather(x, "i"), spread),
    "all_gather axis": (lambda x: lax.all_gather(x, "i", axis=-1), lambda x: spread(x.T)),
    "all_gather tiled": (
        lambda x: lax.all_gather(x, "i", tiled=True),
        lambda x: spread(x.reshape(-1)),
    ),
    "psum_scatter": (lambda x: lax.psum_scatter(x.reshape(3, 2), "i"), dealt),
    "psum_scatter axis": (
        lambda x: lax.psum_scatter(x.reshape(3, 2).T, "i", scatter_dimension=1),
        dealt,
    ),
    "psum_scatter tiled": (lambda x: lax.psum_scatter(x, "i", tiled=True), dealt),
    "ppermute": (
        lambda x: lax.ppermute(x, "i", [(0, 2), (1, 0)]),
        lambda x: np.stack([x[1], 0 * x[0], x[0]]),
    ),
    "pshuffle": (lambda x: lax.pshuffle(x, "i", [2, 0, 1]), lambda x: x[[2, 0, 1]]),
    "all_to_all": (
        lambda x: lax.all_to_all(x.reshape(3, 2), "i", 0, 0),
        lambda x: x.reshape(3, 3, 2).swapaxes(0, 1),
    ),
    "all_to_all axes": (
        lambda x: lax.all_to_all(x.reshape(3, 2), "i", 0, 1),
        lambda x: x.reshape(3, 3, 2).transpose(1, 2, 0),
    ),
    "all_to_all tiled": (
        lambda x: lax.all_to_all(x, "i", 0, 0, tiled=True),
        lambda x: x.reshape(3, 3, 2).swapaxes(0, 1).reshape(3, 6),
    ),
    "pswapaxes": (
        lambda x: lax.pswapaxes(x.reshape(3, 2), "i", 0),
        lambda x: x.reshape(3, 3, 2).swapaxes(0, 1),
    ),
    "axis_index": (lambda x: x * lax.axis_index("i"), lambda x: x * np.arange(SIZE)[:, None]),
    "axis_size": (lambda x: x * lax.axis_size("i"), lambda x: x * SIZE),
}
HOW = {
    "plain": lambda f: f,
    "jit": bv.jit,
    "remat": bv.remat,
    "scan": lambda f: lambda x: lax.scan(lambda c, r: (c, f(r)), 0.0, x[None])[1][0],
    "cond": lambda f: lambda x: lax.cond(True, f, f, x),
    "traced cond": lambda f: (
        lambda x: lax.cond(lax.psum(x, "i").sum() > -9, f, lambda y: f(y) * 0, x)
    ),
    "while": lambda f: (
        lambda x: lax.while_loop(
            lambda c: c[0] < 1, lambda c: (c[0] + 1, x, f(c[1])), (0, x, f(x) * 0)
        )[2]
    ),
    "vmap": lambda f: lambda x: bv.vmap(f, axis_name="j")(bnp.stack([x, x]))[1],
}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", COLLECTIVES)
def test_collectives(name, how):
    f, wanted = COLLECTIVES[name]
    mapped = bv.vmap(HOW[how](f), axis_name="i")
    close(mapped(f64(X)), wanted(X))
    if how in ("plain", "scan"):
        close(bv.jit(mapped)(f64(X)), wanted(X))


@pytest.mark.parametrize("name", COLLECTIVES)
def test_derivatives_of_collectives(name):
    f, wanted = COLLECTIVES[name]
    w = np.cos(np.arange(wanted(X).size)).reshape(wanted(X).shape)

    def total(x):
        return (bv.vmap(f, axis_name="i")(x) * f64(w)).sum()

    g, h = bv.grad(total)(f64(X)), 1e-6
    rng = np.random.default_rng(0)
    step = rng.normal(size=X.shape)
    slope = ((wanted(X + h * step) - wanted(X - h * step)) / (2 * h) * w).sum()
    np.testing.assert_allclose((np.asarray(g) * step).sum(), slope, rtol=1e-6)
    np.testing.assert_allclose(bv.jvp(total, (f64(X),), (f64(step),))[1], slope, rtol=1e-6)
    close(bv.jit(bv.grad(total))(f64(X)), g)
    if name in ("pmax", "pmin"):
        with pytest.raises(bv.errors.Unsupported, match="all_gather"):
            bv.vmap(bv.grad(lambda x: f(x).sum()), axis_name="i")(f64(X))
        return
    # Inside the map, the pullback of a collective is its transpose over the rows.
    inside = bv.vmap(lambda x, c: bv.vjp(f, x)[1](c)[0], axis_name="i")(f64(X), f64(w))
    close(inside, g)
    for how in ("jit", "scan", "remat", "traced cond"):
        again = bv.vmap(lambda x, c, how=how: bv.vjp(HOW[how](f), x)[1](c)[0], axis_name="i")
        close(again(f64(X), f64(w)), g)


def test_gradients_inside_a_map_as_in_jax():
    jax = pytest.importorskip("jax")
    x = np.float32([1.0, 2.0, 3.0])
    cases = (
        lambda lax: lambda v: lax.psum(v**2, "i"),
        lambda lax: lambda v: lax.psum(v * v, "i") * v,
        lambda lax: lambda v: lax.pmean(v**3, "i"),
        lambda lax: lambda v: (lax.all_gather(v, "i") ** 2).sum() * v,
        lambda lax: lambda v: lax.ppermute(v**2, "i", [(0, 1), (1, 2), (2, 0)]) * v,
        lambda lax: lambda v: v * lax.axis_index("i"),
    )
    for case in cases:
        wanted = jax.vmap(jax.grad(case(jax.lax)), axis_name="i")(x)
        close(bv.vmap(bv.grad(case(lax)), axis_name="i")(x), np.asarray(wanted))


def test_collectives_of_what_all_rows_share():
    """A value that no row changes: the batch axis appears in the collective alone."""
    fs = {
        "index": (lambda: lax.axis_index("i"), [0, 1, 2]),
        "psum": (lambda: lax.psum(bnp.float32(2), "i"), [6, 6, 6]),
        "python": (lambda: lax.psum(1, "i"), [3, 3, 3]),
        "gather": (lambda: lax.all_gather(bnp.float32(2), "i").sum(), [6, 6, 6]),
        "permute": (lambda: lax.ppermute(bnp.float32(2), "i", [(0, 1)]), [0, 2, 0]),
    }
    for f, wanted in fs.values():
        ways = (
            f,
            bv.jit(f),
            bv.jit(bv.jit(f)),
            bv.remat(f),
            lambda f=f: lax.scan(lambda c, _: (c, f()), 0, None, length=2)[1][1],
            lambda f=f: lax.fori_loop(0, 1, lambda i, v: f() * 1, f() * 0),
            lambda f=f: bv.jit(lambda p: lax.cond(p, f, lambda: f() * 0))(True),
        )
        for way in ways:
            out = bv.vmap(way, axis_name="i", axis_size=3)()
            assert np.asarray(out).tolist() == wanted
            out = bv.vmap(lambda x, way=way: way(), axis_name="i")(bnp.ones(3))
            assert np.asarray(out).tolist() == wanted


def test_several_axes():
    x = np.arange(6.0).reshape(2, 3)
    both = lambda f: bv.vmap(bv.vmap(f, axis_name="j"), axis_name="i")(f64(x))
    close(both(lambda v: lax.psum(v, "i")), np.broadcast_to(x.sum(0), (2, 3)))
    close(both(lambda v: lax.psum(v, "j")), np.broadcast_to(x.sum(1)[:, None], (2, 3)))
    close(both(lambda v: lax.psum(v, ("i", "j"))), np.full((2, 3), x.sum()))
    close(both(lambda v: lax.pmean(v, ("i", "j"))), np.full((2, 3), x.mean()))
    close(both(lambda v: lax.pmax(v, ("j", "i"))), np.full((2, 3), 5.0))
    assert both(lambda v: lax.axis_index(("i", "j"))).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert both(lambda v: lax.axis_index("j") * 10 + lax.axis_index("i")).tolist() == [
        [0, 10, 20],
        [1, 11, 21],
    ]
    assert both(lambda v: v * 0 + lax.axis_size(("i", "j"))).tolist() == [[6] * 3] * 2
    close(
        both(lambda v: lax.all_gather(lax.all_gather(v, "j"), "i")),
        np.broadcast_to(x, (2, 3, 2, 3)),
    )
    close(
        both(bv.jit(lambda v: lax.psum(v, "i") * lax.axis_index("j"))),
        np.broadcast_to(x.sum(0) * [0, 1, 2], (2, 3)),
    )
    inner = bv.vmap(lambda r: bv.vmap(lambda v: lax.psum(v, "i"), axis_name="i")(r), axis_name="i")
    close(inner(f64(x)), np.broadcast_to(x.sum(1)[:, None], (2, 3)))


def test_collectives_take_trees_and_all_dtypes():
    out = bv.vmap(lambda p: lax.psum(p, "i"), axis_name="i")(
        {"a": A, "b": (np.array([True, True]),)}
    )
    assert out["a"].tolist() == [[3, 5, 7]] * 2 and out["b"][0].tolist() == [2, 2]
    out = bv.vmap(lambda v: lax.pmean(v, "i"), axis_name="i")(np.array([1, 2]))
    assert out.dtype == bnp.float32 and out.tolist() == [1.5, 1.5]
    for dtype in ("int8", "uint32", "float16", "bfloat16", "complex64"):
        x = bnp.asarray([1, 2], dtype=dtype)
        assert bv.vmap(lambda v: lax.psum(v, "i"), axis_name="i")(x).dtype == dtype
    keys = random.split(random.key(0), 3)
    gathered = bv.vmap(lambda k: lax.all_gather(k, "i"), axis_name="i")(keys)
    assert random.is_key(gathered) and gathered.shape == (3, 3)
    assert bv.vmap(lambda x: lax.psum(x, "i"), axis_name="i")(np.float32([np.nan, 1]))[1] != 0


def test_collective_errors():
    x = bnp.ones((3, 4))
    over = lambda f: bv.vmap(f, axis_name="i")(x)
    with pytest.raises(NameError, match="(?s)unbound axis name 'k' at .*test_vmap.*axis_name='k'"):
        over(lambda v: lax.psum(v, "k"))
    with pytest.raises(NameError, match="unbound axis name 'i'"):
        lax.pmean(x, "i")
    with pytest.raises(NameError, match="unbound axis name 'i'"):
        bv.jit(lambda v: lax.axis_index("i"))(1.0)
    with pytest.raises(TypeError, match="(?s)axis_index_groups.*nest vmap"):
        over(lambda v: lax.psum(v, "i", axis_index_groups=[[0], [1, 2]]))
    with pytest.raises(TypeError, match="(?s)all_gather: axis_name must name one axis"):
        bv.vmap(bv.vmap(lambda v: lax.all_gather(v, ("i", "j")), axis_name="j"), axis_name="i")(x)
    with pytest.raises(ValueError, match="a destination appears twice"):
        over(lambda v: lax.ppermute(v, "i", [(0, 1), (2, 1)]))
    with pytest.raises(ValueError, match="must name every row once"):
        over(lambda v: lax.pshuffle(v, "i", [0, 0, 1]))
    with pytest.raises(
        ValueError, match=r"psum_scatter: axis 0 .* has size 4, and the mapped axis has 3"
    ):
        over(lambda v: lax.psum_scatter(v, "i"))
    with pytest.raises(ValueError, match="it must be a multiple"):
        over(lambda v: lax.all_to_all(v, "i", 0, 0, tiled=True))
    for f in (
        lambda v: lax.all_gather(v, "i", axis=5),
        lambda v: lax.psum_scatter(v, "i", scatter_dimension=3, tiled=True),
        lambda v: lax.all_to_all(v[:3], "i", 2, 0),
        lambda v: lax.all_to_all(v[:3], "i", 0, 2),
    ):
        with pytest.raises(ValueError, match="out of range"):
            over(f)
    with pytest.raises(ValueError, match=r"\(0, 3\) in perm=.* of the 3 rows"):
        over(lambda v: lax.ppermute(v, "i", [(0, 3)]))


def test_batch_statistics():
    """What a batch norm does: statistics over the rows of a nested map, and their gradient."""

    def normalize(v):
        mean = lax.pmean(v, "batch")
        return (v - mean) / bnp.sqrt(lax.pmean((v - mean) ** 2, "batch") + 1e-5)

    def plain(x):
        return (x - x.mean(0)) / bnp.sqrt(((x - x.mean(0)) ** 2).mean(0) + 1e-5)

    w = f64(np.cos(np.arange(X.size)).reshape(X.shape))
    mapped = bv.vmap(normalize, axis_name="batch")
    close(mapped(f64(X)), plain(f64(X)))
    close(
        bv.grad(lambda x: (mapped(x) * w).sum())(f64(X)),
        bv.grad(lambda x: (plain(x) * w).sum())(f64(X)),
    )
    close(
        bv.hessian(lambda x: (mapped(x) * w).sum())(f64(X)),
        bv.hessian(lambda x: (plain(x) * w).sum())(f64(X)),
    )


# -- control flow, with every choice of batched operands


def subsets(n):
    return [s for s in itertools.product((0, None), repeat=n) if any(a == 0 for a in s)]


def by_loop(f, axes, args):
    rows = [
        f(*[x if a is None else x[i] for x, a in zip(args, axes, strict=True)]) for i in range(3)
    ]
    return bv.tree.map(lambda *ys: np.stack([np.asarray(y) for y in ys]), *rows)


def loop_scan(c, w, xs):
    def step(c, x):
        return bnp.sin(c) * w + x, (c * x, w)

    return lax.scan(step, c, xs)


def late_scan(c, d, xs):
    """The batch axis reaches the first carry one step later than the second."""
    return lax.scan(lambda s, x: ((s[1], s[1] + x), s[0]), (c, d), xs)


FLOW = {
    "scan": (loop_scan, (np.float64(0.3), np.float64(0.7), np.array([0.1, 0.2, 0.4]))),
    "scan, reverse": (
        lambda c, xs: lax.scan(lambda c, x: (c * x, c), c, xs, reverse=True, unroll=2),
        (np.float64(0.3), np.array([0.1, 0.2, 0.4])),
    ),
    "scan, late": (late_scan, (np.float64(0.3), np.float64(0.7), np.array([0.1, 0.2, 0.4]))),
    "fori": (
        lambda v, w: lax.fori_loop(0, 3, lambda i, v: v * w + i, v),
        (np.float64(0.3), np.float64(0.7)),
    ),
    "fori, traced bound": (
        lambda n, v: lax.fori_loop(0, n, lambda i, v: v * 1.5 + i, v),
        (np.int32(2), np.float64(0.3)),
    ),
    "while, same steps": (
        lambda v, w: lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] * w), (0, v)),
        (np.float64(0.3), np.float64(0.7)),
    ),
    "while, own steps": (
        lambda v, limit: lax.while_loop(lambda v: v < limit, lambda v: v * 2 + 0.1, v),
        (np.float64(0.3), np.float64(5.0)),
    ),
    "cond": (
        lambda p, x, y: lax.cond(
            p > 0.5, lambda x, y: (x * y, y), lambda x, y: (bnp.sin(x), x), x, y
        ),
        (np.float64(0.6), np.float64(0.7), np.float64(2.0)),
    ),
    "switch": (
        lambda i, x, y: lax.switch(
            i, [lambda x, y: x * y, lambda x, y: x, lambda x, y: y * 2], x, y
        ),
        (np.int32(1), np.float64(0.7), np.float64(2.0)),
    ),
    "associative_scan": (
        lambda a, b: lax.associative_scan(lambda p, q: (p[0] * q[0], p[1] * q[0] + q[1]), (a, b)),
        (np.array([0.1, 0.2, 0.4, 2.0, 3.0]), np.array([1.0, 0.5, -1.0, 2.0, 0.1])),
    ),
    "map": (
        lambda a, b: lax.map(lambda x: x * b, a, batch_size=2),
        (np.array([0.1, 0.2, 0.4]), np.float64(2.0)),
    ),
}


@pytest.mark.parametrize("name", FLOW)
def test_control_flow(name):
    f, args = FLOW[name]
    to = lambda x: bnp.asarray(x, dtype=np.asarray(x).dtype)
    for axes in subsets(len(args)):
        stacks = []
        for x, a in zip(args, axes, strict=True):
            step = 1 if np.issubdtype(x.dtype, np.integer) else 0.21
            stacks.append(to(x) if a is None else to(np.stack([x - step, x, x + step])))
        wanted = by_loop(f, axes, stacks)
        close(bv.vmap(f, in_axes=axes)(*stacks), wanted)
        close(bv.jit(bv.vmap(f, in_axes=axes))(*stacks), wanted)
        close(bv.vmap(bv.jit(f), in_axes=axes)(*stacks), wanted)
        if "while" in name or "traced" in name:
            continue
        floats = tuple([i for i, x in enumerate(args) if np.issubdtype(x.dtype, np.floating)])
        total = lambda *xs: sum(bnp.sum(bnp.cos(y)) for y in bv.tree.leaves(f(*xs)))
        found = bv.vmap(bv.grad(total, floats), in_axes=axes)(*stacks)
        close(found, by_loop(bv.grad(total, floats), axes, stacks))
        whole = lambda *xs, axes=axes, total=total: bv.vmap(total, in_axes=axes)(*xs).sum()
        for i, g in zip(floats, bv.grad(whole, floats)(*stacks), strict=True):
            per_row = found[floats.index(i)]
            close(g, np.asarray(per_row) if axes[i] == 0 else np.asarray(per_row).sum(0))


def test_clamped_indices_of_switch_are_clamped_in_every_row():
    branches = [lambda x: x, lambda x: x * 10, lambda x: x * 100]
    i, x = bnp.array([-5, 0, 1, 2, 9]), bnp.float32(1)
    out = bv.vmap(lambda i: lax.switch(i, branches, x))(i)
    assert out.tolist() == [1, 1, 10, 100, 100]
    assert (
        bv.jit(lambda i: bv.vmap(lambda i: lax.switch(i, branches, x))(i))(i).tolist()
        == out.tolist()
    )
    out = bv.vmap(lambda i: lax.switch(i, branches, x))(
        bnp.asarray([2**32 - 1, 0, 1], dtype="uint32")
    )
    assert out.tolist() == [100, 1, 10]


def test_a_batched_predicate_does_not_poison_gradients():
    """Per row, the branch that is not taken has no say, even where its derivative is infinite."""
    f = lambda x: lax.cond(x > 0, lambda x: bnp.sqrt(x), lambda x: 0.0 * x, x)
    g = bv.vmap(bv.grad(f))(bnp.array([4.0, 0.0, -1.0]))
    assert g.tolist() == [0.25, 0, 0]


def test_rows_of_a_while_loop_stop_on_their_own():
    steps = bv.vmap(
        lambda x: lax.while_loop(lambda s: s[1] < 10, lambda s: (s[0] + 1, s[1] * 2), (0, x))
    )
    counts, values = steps(bnp.array([1.0, 20.0, 5.0]))
    assert counts.tolist() == [4, 0, 1] and values.tolist() == [16, 20, 10]
    # A finished row is not computed into a NaN or an infinite loop by the others' steps.
    f = lambda x: lax.while_loop(lambda v: v > 1, lambda v: bnp.sqrt(v - 1), x)
    assert not np.isnan(np.asarray(bv.vmap(f)(bnp.array([0.5, 100.0])))).any()
    _, t = bv.jvp(
        bv.vmap(lambda x: lax.while_loop(lambda v: v < 10, lambda v: v * 2, x)),
        (bnp.array([1.0, 20.0]),),
        (bnp.ones(2),),
    )
    assert t.tolist() == [16, 1]


def test_maps_of_solvers():
    def solve(a, b):
        return lax.custom_linear_solve(lambda x: a * x, b, lambda mv, b: b / a, symmetric=True)

    a, b = f64([2.0, 4.0, 5.0]), f64([6.0, 8.0, 10.0])
    for axes in subsets(2):
        args = [x if ax == 0 else x[0] for x, ax in zip((a, b), axes, strict=True)]
        close(bv.vmap(solve, in_axes=axes)(*args), by_loop(solve, axes, args))
        g = bv.grad(solve, (0, 1))
        close(bv.vmap(g, in_axes=axes)(*args), by_loop(g, axes, args))
    root = lambda a: lax.custom_root(
        lambda x: x * x - a,
        1.0,
        lambda f, x0: lax.fori_loop(0, 20, lambda i, x: x - f(x) / (2 * x), x0),
        lambda g, y: y / g(1.0),
    )
    close(bv.vmap(root)(bnp.array([4.0, 9.0])), np.float32([2, 3]))
    close(bv.vmap(bv.grad(root))(bnp.array([4.0, 9.0])), np.float32([1 / 4, 1 / 6]))
