"""Loops without a fixed length, branches and solvers: values, types, state and derivatives."""

import math

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import lax, random
from tests.derivative_checks import F64, close, f64, numeric

# -- while_loop, fori_loop -------------------------------------------------------------------------


def test_while_loops():
    assert int(lax.while_loop(lambda v: v < 100, lambda v: v * 3, 1)) == 243
    v = lax.while_loop(
        lambda v: v["i"] < 3,
        lambda v: {"i": v["i"] + 1, "x": v["x"] * 2},
        {"i": 0, "x": bnp.ones(2)},
    )
    assert v["x"].tolist() == [8, 8]
    assert float(lax.while_loop(lambda v: False, lambda v: v * 2, 5.0)) == 5
    assert (
        float(
            bv.jit(lambda n: lax.while_loop(lambda v: v < n, lambda v: v * 2, 1.0))(bnp.float32(9))
        )
        == 16
    )
    with pytest.raises(TypeError, match=r"(?s)must return one boolean scalar.*int32\[\].*v < 10"):
        lax.while_loop(lambda v: v, lambda v: v, 1)
    with pytest.raises(TypeError, match=r"(?s)boolean scalar.*bool\[2\].*any"):
        lax.while_loop(lambda v: v < 3, lambda v: v, bnp.ones(2))
    with pytest.raises(TypeError, match="boolean scalar"):
        lax.while_loop(lambda v: (v < 3, v < 3), lambda v: v, 1.0)


def test_forward_derivatives_of_while_loops():
    def f(x, limit=30.0):
        return lax.while_loop(
            lambda s: s[1] < limit, lambda s: (s[0] + 1, s[1] * x + s[0]), (0, x)
        )[1]

    x = f64(1.7)
    y, t = bv.jvp(f, (x,), (f64(1.0),))
    close(t, numeric(f, 1.7), 1e-5)
    close(bv.jacfwd(f)(x), t)
    close(bv.jit(bv.jacfwd(f))(x), t)
    close(bv.jacfwd(bv.jacfwd(f))(x), numeric(lambda x: bv.jacfwd(f)(x), 1.7), 1e-4)
    close(bv.linearize(f, x)[1](f64(2.0)), 2 * np.asarray(t))
    # A tangent that enters the carry only through another part of it.
    g = lambda x: lax.while_loop(
        lambda s: s[0] < 3, lambda s: (s[0] + 1, s[2] * 2, s[3], s[3] * x), (0, x * 0, f64(1.0), x)
    )[1]
    close(bv.jvp(g, (x,), (f64(1.0),))[1], numeric(g, 1.7), 1e-5)
    for way in (bv.grad(f), bv.jit(bv.grad(f)), bv.grad(bv.jit(f)), bv.jacrev(f)):
        with pytest.raises(
            bv.errors.Unsupported,
            match=r"(?s)while_loop \(written at .*test_control.*lax\.scan.*Python integers",
        ):
            way(x)


def test_fori_loops():
    assert float(lax.fori_loop(0, 5, lambda i, v: v + i, 0.0)) == 10
    assert int(lax.fori_loop(3, 3, lambda i, v: v + 1, 7)) == 7
    assert int(lax.fori_loop(5, 2, lambda i, v: v + 1, 7)) == 7
    assert int(lax.fori_loop(-2, 3, lambda i, v: v + i, 0)) == 0
    assert int(lax.fori_loop(bnp.int32(1), np.int64(4), lambda i, v: v * i, 1)) == 6
    assert int(bv.jit(lambda n: lax.fori_loop(1, n, lambda i, v: v * i, 1))(6)) == 120
    assert int(bv.jit(lambda n: lax.fori_loop(n, 2, lambda i, v: v + 1, 0))(6)) == 0
    x = bnp.arange(4.0)
    assert lax.fori_loop(0, 4, lambda i, v: v.at[i].mul(2), x).tolist() == [0, 2, 4, 6]
    assert float(lax.fori_loop(0, 7, lambda i, v: v + x[i % 4], 0.0, unroll=3)) == 6 + 3
    close(
        bv.grad(lambda x: lax.fori_loop(0, 4, lambda i, v: bnp.sin(v) * x, x))(f64(0.8)),
        numeric(lambda x: lax.fori_loop(0, 4, lambda i, v: bnp.sin(v) * x, x), 0.8),
    )
    with pytest.raises(bv.errors.Unsupported, match="Python integers"):
        bv.jit(bv.grad(lambda x, n: lax.fori_loop(0, n, lambda i, v: v * x, x)))(0.8, 3)
    with pytest.raises(TypeError, match="upper must be an integer scalar"):
        lax.fori_loop(0, 2.5, lambda i, v: v, 1)
    with pytest.raises(TypeError, match="lower must be an integer scalar"):
        lax.fori_loop(bnp.arange(2), 3, lambda i, v: v, 1)
    with pytest.raises(TypeError, match="must be an integer scalar"):
        lax.fori_loop(False, 3, lambda i, v: v, 1)
    with pytest.raises(ValueError, match="unroll needs bounds that are Python integers"):
        bv.jit(lambda n: lax.fori_loop(0, n, lambda i, v: v, 1, unroll=2))(3)


# -- cond, switch ----------------------------------------------------------------------------------


def test_branches():
    f = lambda p, x, y: lax.cond(p, lambda x, y: {"o": x + y}, lambda x, y: {"o": x - y}, x, y)
    for way in (f, bv.jit(f)):
        assert float(way(True, 3.0, 1.0)["o"]) == 4 and float(way(False, 3.0, 1.0)["o"]) == 2
        assert float(way(2, 3.0, 1.0)["o"]) == 4 and float(way(0.0, 3.0, 1.0)["o"]) == 2
        assert float(way(bnp.array(True), 3.0, 1.0)["o"]) == 4
    assert float(lax.cond(True, lambda x: x, lambda x: -x, operand=2.0)) == 2
    assert lax.cond(False, lambda: None, lambda: ()) == ()
    assert np.isnan(float(bv.jit(lambda p: lax.cond(p, lambda: np.nan, lambda: 1.0))(np.nan)))
    s = lambda i, x: lax.switch(i, [lambda x: x, lambda x: x * 10, lambda x: x * 100], x)
    for way in (s, bv.jit(s)):
        assert [float(way(i, 1.0)) for i in (-7, -1, 0, 1, 2, 3, 99)] == [
            1,
            1,
            1,
            10,
            100,
            100,
            100,
        ]
    for dtype, index in (("uint32", 2**32 - 1), ("int8", -100), ("int64", 2**40), ("uint8", 1)):
        i = bnp.asarray(index, dtype=dtype)
        assert float(bv.jit(s)(i, 1.0)) == float(s(i, 1.0))
    assert float(bv.jit(lambda i: lax.switch(i, [lambda: 3.0]))(5)) == 3
    assert random.is_key(
        bv.jit(lambda p, k: lax.cond(p, lambda k: random.fold_in(k, 1), lambda k: k, k))(
            True, random.key(0)
        )
    )


def test_only_the_chosen_branch_runs():
    seen = []

    def note(name):
        def f(x):
            bv.debug.callback(lambda v: seen.append(name), x)
            return x

        return f

    bv.jit(lambda p, x: lax.cond(p, note("a"), note("b"), x))(False, 1.0)
    bv.effects_barrier()
    assert seen == ["b"]
    calls = []
    lax.cond(True, lambda: calls.append(1), lambda: calls.append(2))
    assert calls == [1]


def test_weak_results_of_branches():
    assert (
        bv.jit(lambda p: lax.cond(p, lambda: bnp.float16(1), lambda: 0.5))(False).dtype
        == bnp.float16
    )
    out = bv.jit(lambda p: lax.cond(p, lambda: 1, lambda: 2.5))(False)
    assert float(out) == 2.5
    assert bv.jit(lambda p: lax.cond(p, lambda: 1.0, lambda: 2.0))(True).weak_type
    assert not bv.jit(lambda p: lax.cond(p, lambda: 1.0, lambda: bnp.float32(2.0)))(True).weak_type
    with pytest.raises(TypeError, match="different types"):  # 2.5 would be cut
        bv.jit(lambda p: lax.cond(p, lambda: bnp.int32(1), lambda: 2.5))(True)


def test_branches_that_do_not_fit_are_refused():
    jc = lambda f, g: bv.jit(lambda p, x: lax.cond(p, f, g, x))(True, bnp.ones(2))
    with pytest.raises(
        TypeError,
        match=r"(?s)different types at .*test_control.*result 1 is float32\[\] from .* and "
        r"float32\[2\] from",
    ):
        jc(lambda x: (x, x), lambda x: (x, x.sum()))
    with pytest.raises(TypeError, match="(?s)different structures.*same structure"):
        jc(lambda x: (x, x), lambda x: x)
    with pytest.raises(TypeError, match="(?s)result 0 is .*int32.*astype"):
        jc(lambda x: x, lambda x: x.astype(int))
    with pytest.raises(TypeError, match=r"is uint32\[2\] from .* and key<threefry2x32>\[\] from"):
        words = lambda k: random.key_data(k)
        bv.jit(lambda p, k: lax.cond(p, lambda k: k, words, k))(True, random.key(0))
    with pytest.raises(TypeError, match=r"(?s)must be a scalar, got float32\[2\].*bnp\.where"):
        lax.cond(bnp.ones(2), lambda: 1, lambda: 2)
    with pytest.raises(TypeError, match="both must be functions"):
        lax.cond(True, 1.0, lambda x: x, 2.0)
    with pytest.raises(TypeError, match="unexpected keyword arguments"):
        lax.cond(True, lambda x: x, lambda x: x, x=1.0)
    with pytest.raises(ValueError, match="at least one branch"):
        lax.switch(0, [])
    with pytest.raises(TypeError, match=r"integer scalar, got float32\[\]"):
        lax.switch(1.0, [lambda: 1])
    with pytest.raises(TypeError, match="(?s)predicate is a str"):
        lax.cond("yes", lambda: 1, lambda: 2)


def test_gradients_of_branches():
    def f(p, x, y):
        a, b = lax.cond(p, lambda x: (bnp.sin(x) * y, 2.0 * y), lambda x: (x + 0 * y, x * x), x)
        return a * b + lax.switch(p.astype(int), [lambda: x**3, lambda: y**2])

    def plain(p, x, y):
        a, b = (bnp.sin(x) * y, 2.0 * y) if p else (x + 0 * y, x * x)
        return a * b + (y**2 if p else x**3)

    for p in (True, False):
        args = (f64(0.4), f64(1.3))
        p_ = bnp.array(p)
        wanted = bv.grad(plain, (1, 2))(p, *args)
        close(bv.jit(bv.grad(f, (1, 2)))(p_, *args), wanted)
        close(bv.grad(bv.jit(f), (1, 2))(p_, *args), wanted)
        close(bv.jit(bv.jacfwd(f, (1, 2)))(p_, *args), wanted)
        close(bv.jit(bv.hessian(f, (1, 2)))(p_, *args), bv.hessian(plain, (1, 2))(p, *args))
        close(
            bv.jit(lambda p, x, y: bv.jvp(lambda x: f(p, x, y), (x,), (x,))[1])(p_, *args),
            np.asarray(wanted[0]) * 0.4,
        )


def test_a_branch_without_a_derivative_gives_zero():
    f = bv.jit(lambda p, x: lax.cond(p, lambda x: x**2, lambda x: bnp.round(x) * 0 + 1.0, x))
    assert float(bv.grad(f, 1)(True, 3.0)) == 6 and float(bv.grad(f, 1)(False, 3.0)) == 0
    # The branch not taken has an infinite derivative, which must not reach the other.
    g = bv.jit(lambda p, x: lax.cond(p, lambda x: bnp.sqrt(x), lambda x: x, x))
    assert float(bv.grad(g, 1)(False, 0.0)) == 1


# -- map, associative_scan -------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [None, 1, 2, 3, 7, 100])
@pytest.mark.parametrize("n", [0, 1, 6, 7])
def test_map(n, batch_size):
    xs = {"a": np.arange(float(n)), "b": np.ones((n, 2), np.float32)}
    f = lambda xs: lax.map(lambda x: (x["a"] * x["b"], x["a"] > 2), xs, batch_size=batch_size)
    close(f(xs), (xs["a"][:, None] * xs["b"], xs["a"] > 2))
    close(bv.jit(f)(xs), (xs["a"][:, None] * xs["b"], xs["a"] > 2))
    g = bv.grad(lambda a: lax.map(bnp.sin, a, batch_size=batch_size).sum())
    close(g(bnp.asarray(xs["a"])), np.cos(xs["a"]).astype(np.float32))


def test_map_arguments():
    keys = random.split(random.key(0), 5)
    out = lax.map(random.uniform, keys, batch_size=2)
    close(out, bv.vmap(random.uniform)(random.split(random.key(0), 5)))
    folded = lax.map(lambda k: random.fold_in(k, 1), random.split(random.key(0), 5), batch_size=2)
    assert random.is_key(folded) and folded.shape == (5,)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        lax.map(lambda x: x, np.ones(3), batch_size=0)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 7, 8, 13, 16])
@pytest.mark.parametrize("reverse", [False, True])
def test_associative_scan(n, reverse):
    rng = np.random.default_rng(n)
    x = rng.normal(size=(2, n))
    turn = (lambda a: a[:, ::-1]) if reverse else (lambda a: a)
    wanted = turn(np.cumsum(turn(x), axis=1))
    for axis in (1, -1):
        close(lax.associative_scan(bnp.add, f64(x), reverse=reverse, axis=axis), wanted)
    close(bv.jit(lambda x: lax.associative_scan(lambda a, b: a + b, x, reverse, 1))(f64(x)), wanted)
    wanted = turn(np.maximum.accumulate(turn(x), axis=1)) if n else x
    close(lax.associative_scan(bnp.maximum, f64(x).T, reverse=reverse), wanted.T)
    # The affine maps y -> a y + b, whose composition does not commute.
    a, b = rng.normal(size=n), rng.normal(size=n)
    compose = lambda p, q: {"a": p["a"] * q["a"], "b": p["b"] * q["a"] + q["b"]}
    y, ys = 0.0, []
    for i in range(n)[::-1] if reverse else range(n):
        y = a[i] * y + b[i]
        ys.append(y)
    out = lax.associative_scan(compose, {"a": f64(a), "b": f64(b)}, reverse=reverse)
    close(out["b"], np.array(ys[::-1] if reverse else ys).reshape(n))
    loss = lambda a: (
        lax.associative_scan(compose, {"a": a, "b": f64(b)}, reverse=reverse)["b"] ** 2
    ).sum()
    close(bv.grad(loss)(f64(a)), numeric(loss, a), 1e-5)


def test_associative_scan_takes_matrices_and_checks_types():
    m = np.random.default_rng(0).normal(size=(5, 2, 2))
    out = lax.associative_scan(lambda a, b: a @ b, f64(m))
    wanted = [m[0]]
    for x in m[1:]:
        wanted.append(wanted[-1] @ x)
    close(out, np.stack(wanted))
    assert lax.associative_scan(bnp.logical_or, bnp.array([False, True, False])).tolist() == [
        False,
        True,
        True,
    ]
    assert lax.associative_scan(bnp.add, np.array([1, 2, 3])).dtype == bnp.int32
    calls = []
    lax.associative_scan(lambda a, b: (calls.append(a.shape), a + b)[1], bnp.ones(64))
    assert len(calls) <= 2 * math.log2(64) and all(s[0] for s in calls)
    with pytest.raises(ValueError, match=r"different lengths \[2, 3\]"):
        lax.associative_scan(bnp.add, (np.ones(2), np.ones(3)))
    with pytest.raises(ValueError, match=r"axis 0 is out of range.*\(\)"):
        lax.associative_scan(bnp.add, 1.0)
    with pytest.raises(ValueError, match="axis 2 is out of range"):
        lax.associative_scan(bnp.add, np.ones((2, 2)), axis=2)
    with pytest.raises(TypeError, match=r"(?s)must keep structure, shapes and dtypes"):
        lax.associative_scan(lambda a, b: (a, b), np.ones(3))
    with pytest.raises(TypeError, match=r"(?s)float32\[1\].*must keep"):
        lax.associative_scan(lambda a, b: (a + b).sum(), np.ones(3))


# -- solvers ---------------------------------------------------------------------------------------


def newton(f, x0):
    return lax.fori_loop(0, 30, lambda i, x: x - f(x) / bv.grad(f)(x), x0)


def test_custom_root():
    def root(a, b):
        return lax.custom_root(
            lambda x: x**3 - a * x - b, f64(2.0), newton, lambda g, y: y / g(f64(1.0))
        )

    a, b = f64(1.5), f64(2.0)
    x = float(root(a, b))
    assert abs(x**3 - 1.5 * x - 2) < 1e-12
    wanted = (x / (3 * x * x - 1.5), 1 / (3 * x * x - 1.5))
    for way in (
        bv.grad(root, (0, 1)),
        bv.jit(bv.grad(root, (0, 1))),
        bv.grad(bv.jit(root), (0, 1)),
        bv.jacfwd(root, (0, 1)),
    ):
        close(way(a, b), wanted)
    close(bv.hessian(root)(a, b), numeric(lambda a: bv.grad(root)(a, b), 1.5), 1e-5)
    loop = lambda a: lax.scan(lambda c, _: (root(a, c), None), b, None, length=3)[0]
    close(bv.grad(loop)(a), numeric(loop, 1.5), 1e-5)


def test_custom_root_of_trees_with_everything_closed_over():
    def root(p, start):
        f = lambda s: {"x": s["x"] ** 2 - p, "y": s["y"] - 3.0 * p}
        solve = lambda f, s: {"x": bnp.sqrt(p), "y": 3.0 * p + 0 * start}
        tangent = lambda g, y: {"x": y["x"] / g({"x": 1.0, "y": 0.0})["x"], "y": y["y"]}
        s = lax.custom_root(f, {"x": start, "y": start}, solve, tangent)
        return s["x"] * s["y"]

    close(bv.grad(root, (0, 1))(4.0, 1.0), (3 * 1.5 * 2.0, 0.0))
    close(bv.grad(bv.jit(root), (0, 1))(4.0, 1.0), (9.0, 0.0))


def test_custom_linear_solve():
    m = np.array([[4.0, 1.0, 0.2], [0.3, 3.0, 0.5], [0.1, -0.4, 5.0]])
    b = np.array([1.0, -2.0, 0.5])
    seen = []

    def solve(m, b):
        def dense(matvec, b):
            seen.append(1)
            a = bv.vmap(matvec, out_axes=1)(bnp.eye(3, dtype=F64))
            return bnp.linalg.solve(a, b)

        return lax.custom_linear_solve(lambda x: m @ x, b, dense, dense)

    plain = lambda m, b: bnp.linalg.solve(m, b)
    close(solve(f64(m), f64(b)), np.linalg.solve(m, b))
    loss = lambda f: lambda m, b: (f(m, b) ** 3).sum()
    wanted = bv.grad(loss(plain), (0, 1))(f64(m), f64(b))
    close(bv.grad(loss(solve), (0, 1))(f64(m), f64(b)), wanted)
    close(bv.jit(bv.grad(loss(solve), (0, 1)))(f64(m), f64(b)), wanted)
    close(bv.jacfwd(solve)(f64(m), f64(b)), bv.jacfwd(plain)(f64(m), f64(b)))
    h = bv.hessian(loss(solve), 1)(f64(m), f64(b))
    close(h, bv.hessian(loss(plain), 1)(f64(m), f64(b)))
    close(
        bv.grad(
            lambda m: lax.scan(lambda c, _: (solve(m, c), None), f64(b), None, length=2)[0].sum()
        )(f64(m)),
        bv.grad(lambda m: plain(m, plain(m, f64(b))).sum())(f64(m)),
    )


def test_custom_linear_solve_of_trees_and_errors():
    matvec = lambda a: lambda v: {"x": 2 * v["x"], "y": a * v["y"] + v["x"]}
    solve = lambda a: lambda mv, b: {"x": b["x"] / 2, "y": (b["y"] - b["x"] / 2) / a}

    def f(a, transpose=None):
        out = lax.custom_linear_solve(matvec(a), {"x": 6.0, "y": 5.0}, solve(a), transpose)
        return out["y"]

    assert float(f(4.0)) == 0.5
    close(bv.jvp(f, (4.0,), (1.0,))[1], -0.125)
    with pytest.raises(TypeError, match="(?s)needs transpose_solve.*symmetric=True"):
        bv.grad(f)(4.0)
    back = lambda a: lambda vm, b: {"x": (b["x"] - b["y"] / a) / 2, "y": b["y"] / a}
    close(bv.grad(lambda a: f(a, back(a)))(4.0), -0.125)
    with pytest.raises(TypeError, match="(?s)<lambda> returned the structure"):
        lax.custom_linear_solve(lambda x: x, 1.0, lambda mv, b: (b, b))
    with pytest.raises(TypeError, match=r"<lambda> returned float32\[2\], .* float32\[\]"):
        lax.custom_linear_solve(lambda x: x, 1.0, lambda mv, b: bnp.ones(2))
    with pytest.raises(
        TypeError, match=r"custom_root: newton returned float64\[\], .* float32\[\]"
    ):
        lax.custom_root(lambda x: x * 2, 1.0, newton64, lambda g, y: y)
    for solver in (lambda f, b: b, lambda f, b: (b, b, b)):
        with pytest.raises(TypeError, match=r"has_aux=True, solve returns a pair \(x, auxiliary"):
            lax.custom_linear_solve(lambda x: x, 1.0, solver, has_aux=True)


def newton64(f, x0):
    return f64(2.0)


newton64.__name__ = "newton"


def test_solvers_with_auxiliary_results():
    def root(a):
        solve = lambda f, x0: (newton(f, x0), {"steps": 30, "residual": f(x0)})
        x, aux = lax.custom_root(
            lambda x: x**2 - a, f64(1.0), solve, lambda g, y: y / g(f64(1.0)), has_aux=True
        )
        return x * aux["steps"], aux["residual"]

    close(root(f64(4.0)), (60.0, -3.0))
    g, residual = bv.grad(root, has_aux=True)(f64(4.0))
    close((g, residual), (30 / 4, -3.0))
    close(
        bv.vmap(bv.grad(root, has_aux=True))(f64([4.0, 9.0])),
        (np.array([30 / 4, 30 / 6]), np.array([-3.0, -8.0])),
    )

    def solve(a, b):
        inner = lambda mv, b: (b / a, {"n": b * 100})
        x, aux = lax.custom_linear_solve(lambda x: a * x, b, inner, symmetric=True, has_aux=True)
        return x, aux["n"]

    close(solve(2.0, 6.0), (3.0, 600.0))
    close(bv.grad(solve, (0, 1), has_aux=True)(2.0, 6.0), ((-1.5, 0.5), 600.0))
    close(bv.jit(bv.grad(solve, (0, 1), has_aux=True))(2.0, 6.0), ((-1.5, 0.5), 600.0))
    close(
        bv.vmap(solve, in_axes=(None, 0))(2.0, bnp.array([6.0, 8.0])),
        (np.float32([3, 4]), np.float32([600, 800])),
    )
    close(bv.hessian(lambda a: solve(a, 6.0)[0])(2.0), 1.5)


# -- against JAX -----------------------------------------------------------------------------------


def test_loops_as_in_jax():
    jax = pytest.importorskip("jax")
    import jax.numpy as jnp

    def model(np_, lax_):
        def f(w, xs):
            def step(c, x):
                h = np_.tanh(x @ w + c)
                h = lax_.cond(h.sum() > 0, lambda h: h * 2, lambda h: np_.sin(h), h)
                return lax_.fori_loop(0, 2, lambda i, v: v * 0.5 + i, h), h.sum()

            c, ys = lax_.scan(step, np_.zeros(3), xs, reverse=True, unroll=2)
            pre = lax_.associative_scan(np_.multiply, ys, reverse=True)
            return c.sum() + (ys * pre).sum()

        return f

    rng = np.random.default_rng(0)
    w, xs = rng.normal(size=(3, 3)).astype(np.float32), rng.normal(size=(5, 3)).astype(np.float32)
    wanted = jax.jit(jax.value_and_grad(model(jnp, jax.lax), (0, 1)))(w, xs)
    close(
        bv.jit(bv.value_and_grad(model(bnp, lax), (0, 1)))(w, xs),
        jax.tree.map(np.asarray, wanted),
        1e-4,
    )
    dtypes = lambda lax_, init, x: str(lax_.scan(lambda c, x: (c * x, c), init, x)[0].dtype)
    for init in (0, 0.5, np.float32(1), np.int32(1)):
        for dtype in ("int8", "float16", "bfloat16", "float32"):
            x = np.ones(2)
            try:
                wanted = dtypes(jax.lax, init, jnp.asarray(x, dtype))
            except TypeError:
                with pytest.raises(TypeError, match="the carry must keep its type"):
                    dtypes(lax, init, bnp.asarray(x, dtype=dtype))
                continue
            assert dtypes(lax, init, bnp.asarray(x, dtype=dtype)) == wanted
