"""Loops, branches and solvers: values, types, state, derivatives and what is kept for them."""

import math

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
        assert np.shape(a) == np.shape(b), (np.shape(a), np.shape(b))
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=tol, atol=tol)


def numeric(f, x, h=1e-6):
    """The gradient of a scalar function of one float64 array, by central differences."""
    x = np.asarray(x, np.float64)
    out = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[i] = h
        out[i] = (float(f(f64(x + step))) - float(f(f64(x - step)))) / (2 * h)
    return out


def equations(graph, name):
    """All equations of an op in a graph and in the graphs it holds."""
    found = [e for e in graph.eqns if e.op.name == name]
    for e in graph.eqns:
        for p in e.params.values():
            for g in p if isinstance(p, tuple) else (p,):
                if hasattr(g, "eqns"):
                    found += equations(g, name)
    return found


def stacked(f, *args):
    """Shapes of what the scans of a function stack."""
    graph = bv.make_graph(f)(*args)
    return sorted(
        o.aval.shape for e in equations(graph, "scan") for o in e.outputs[e.params["n_carry"] :]
    )


XS = np.array([0.3, -0.7, 1.1, 0.2])


# -- scan: values ----------------------------------------------------------------------------------


def test_trees_and_order():
    def f(c, x):
        return {"n": c["n"] + 1, "s": c["s"] * 2 + x["a"]}, (c["s"], {"b": x["b"] * c["n"]}, None)

    xs = {"a": np.arange(3.0), "b": np.ones((3, 2), np.float32)}
    carry, (s, d, none) = lax.scan(f, {"n": 0, "s": 1.0}, xs)
    assert int(carry["n"]) == 3 and float(carry["s"]) == 8 * 1 + 0 * 4 + 1 * 2 + 2
    assert s.tolist() == [1, 2, 5] and d["b"].tolist() == [[0, 0], [1, 1], [2, 2]] and none is None
    carry, (s, d, _) = lax.scan(f, {"n": 0, "s": 1.0}, xs, reverse=True)
    assert float(carry["s"]) == 18 and s.tolist() == [9, 4, 1]
    assert lax.scan(lambda c, x: [c, x], 1.0, np.arange(2))[1].tolist() == [0, 1]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [0, 1, 5])
@pytest.mark.parametrize("unroll", [False, 2, 10, True])
def test_unrolling_and_length(unroll, length, reverse):
    xs = np.linspace(0.1, 0.9, length)

    def f(xs):
        return lax.scan(
            lambda c, x: (c * 1.5 + x, c - x), f64(1.0), xs, reverse=reverse, unroll=unroll
        )

    c, ys = 1.0, []
    for x in xs[::-1] if reverse else xs:
        ys.append(c - x)
        c = c * 1.5 + x
    wanted = (c, np.array(ys[::-1] if reverse else ys))
    close(f(f64(xs)), wanted)
    close(bv.jit(f)(f64(xs)), wanted)
    total = lambda xs: f(xs)[0] ** 2 + (f(xs)[1] ** 3).sum()
    close(bv.grad(total)(f64(xs)), numeric(total, xs), 1e-5)


def test_length_without_rows():
    assert float(lax.scan(lambda c, x: (c * 2, x), 1.0, None, length=4)[0]) == 16
    carry, ys = lax.scan(lambda c, x: (c, c), 1.0, length=np.int64(2))
    assert ys.tolist() == [1, 1]
    carry, ys = lax.scan(lambda c, x: (c + 1, (c, x)), 7, (None, {}), length=0)
    assert int(carry) == 7 and ys[0].shape == (0,) and ys[0].dtype == bnp.int32
    with pytest.raises(ValueError, match="give xs, or length="):
        lax.scan(lambda c, x: (c, x), 1.0, None)
    with pytest.raises(ValueError, match=r"leading lengths of xs \[3\] and length=2 differ"):
        lax.scan(lambda c, x: (c, x), 1.0, np.ones(3), length=2)
    with pytest.raises(ValueError, match=r"\[3, 4\]"):
        lax.scan(lambda c, x: (c, x), 1.0, (np.ones(3), np.ones(4)))
    with pytest.raises(ValueError, match="scalar leaf"):
        lax.scan(lambda c, x: (c, x), 1.0, 3.0)


def test_carries_of_every_kind():
    for dtype in ("bool", "int8", "uint32", "float16", "bfloat16", "float64", "complex64"):
        c, ys = lax.scan(lambda c, x: (x, c), bnp.zeros((), dtype=dtype), bnp.ones(3, dtype=dtype))
        assert c.dtype == ys.dtype == dtype and ys.tolist() == [0, 1, 1]

    def draw(key, _):
        key, own = random.split(key)
        return key, random.uniform(own)

    key, draws = lax.scan(draw, random.key(0), None, 3)
    assert random.is_key(key) and len(set(np.asarray(draws).tolist())) == 3
    _, keys = lax.scan(lambda c, k: (c, random.fold_in(k, 1)), 0, random.split(random.key(0), 3))
    assert random.is_key(keys) and keys.shape == (3,)
    c, _ = lax.scan(lambda c, x: (c, None), None, np.ones(3))
    assert c is None
    c, ys = lax.scan(lambda c, x: (c + x, c), bnp.zeros((0, 2)), np.ones((3, 0, 2)))
    assert c.shape == (0, 2) and ys.shape == (3, 0, 2)
    c, _ = lax.scan(lambda c, x: (c * x, None), np.nan, bnp.array([0.0, np.inf]))
    assert np.isnan(float(c))


def test_weak_carries_take_the_dtype_of_the_body():
    bf = bnp.ones(3, dtype="bfloat16")
    assert lax.scan(lambda c, x: (c + x, c), 0.0, bf)[0].dtype == bnp.bfloat16
    assert lax.scan(lambda c, x: (c + x, c), 0.0, bf)[1].dtype == bnp.bfloat16
    assert lax.scan(lambda c, x: (c + x, c), 0, np.ones(3))[0].dtype == bnp.float32
    assert lax.scan(lambda c, x: (c + x, c), 0, bnp.ones(3, dtype="int8"))[0].dtype == bnp.int8
    assert lax.while_loop(lambda v: v < 3, lambda v: v + bnp.float16(1), 0.0).dtype == bnp.float16
    assert lax.fori_loop(0, 2, lambda i, v: v + 0.5, 1).dtype == bnp.float32
    out = lax.scan(lambda c, _: (c * 2, None), 1.0, None, length=2)[0]
    assert (out * bf).dtype == bnp.bfloat16


def test_carries_that_change_are_refused():
    with pytest.raises(
        TypeError,
        match=r"(?s)scan of <lambda>.*test_control.*carry\['a'\]: float32\[\] in, "
        r"float32\[2\] out.*astype",
    ):
        lax.scan(lambda c, x: ({"a": c["a"] * bnp.ones(2)}, x), {"a": 1.0}, np.ones(3))
    with pytest.raises(TypeError, match=r"int32\[\] in, float32\[\] out"):
        lax.scan(lambda c, x: (c * 0.5, x), bnp.int32(1), np.ones(3))
    with pytest.raises(TypeError, match=r"(?s)structures differ.*in:.*out:"):
        lax.scan(lambda c, x: ((c, c), x), 1.0, np.ones(3))
    with pytest.raises(
        TypeError, match=r"(?s)must return a pair \(carry, y\).*Array.*return carry, None"
    ):
        lax.scan(lambda c, x: c, 1.0, np.ones(3))
    with pytest.raises(TypeError, match=r"must return a pair"):
        lax.scan(lambda c, x: (c, c, c), 1.0, np.ones(3))
    with pytest.raises(TypeError, match=r"carry: key<threefry2x32>\[\] in, uint32\[2\] out"):
        lax.scan(lambda k, _: (random.key_data(k), None), random.key(0), None, length=2)
    with pytest.raises(TypeError, match="(?s)initial carry is a str"):
        lax.scan(lambda c, x: (c, x), "a", np.ones(3))
    with pytest.raises(TypeError, match=r"(?s)while_loop.*float32\[\] in, float32\[1\] out"):
        lax.while_loop(lambda v: v.sum() < 3, lambda v: v[None], 1.0)
    with pytest.raises(bv.errors.TracerBoolConversionError, match=r"(?s)test_control.*scan of"):
        lax.scan(lambda c, x: (c if x > 0 else -c, x), 1.0, np.ones(3))


def test_arguments_of_loops_are_checked():
    same = lambda c, x: (c, x)
    for unroll in (0, -1, 1.5, "2"):
        with pytest.raises(ValueError, match="unroll must be a bool or a positive integer"):
            lax.scan(same, 0, np.ones(3), unroll=unroll)
    for length in (-1, 2.5, "3"):
        with pytest.raises(ValueError, match="length must be a number of steps"):
            lax.scan(same, 0, None, length=length)
    for call in (
        lambda: lax.scan(3, 0, np.ones(3)),
        lambda: lax.while_loop(3, lambda v: v, 0),
        lambda: lax.while_loop(lambda v: v, 3, 0),
        lambda: lax.fori_loop(0, 3, 3, 0),
        lambda: lax.map(3, np.ones(3)),
        lambda: lax.associative_scan(3, np.ones(3)),
    ):
        with pytest.raises(TypeError, match="expected a function, got int"):
            call()
    with pytest.raises(
        TypeError, match=r"branches must be a list of functions; write switch\(i, \["
    ):
        lax.switch(0, lambda: 1, 2)
    with pytest.raises(
        TypeError,
        match=r"(?s)fori_loop of grow: the value .*value\['a'\]: float32\[\] in, float32\[1\] out",
    ):
        lax.fori_loop(0, 3, grow, {"a": 1.0})
    with pytest.raises(
        TypeError,
        match=r"(?s)fori_loop of grow: the value .*value\['a'\]: float32\[\] in, float32\[1\] out",
    ):
        bv.jit(lambda n: lax.fori_loop(0, n, grow, {"a": 1.0}))(3)
    with pytest.raises(
        TypeError,
        match=r"(?s)fori_loop of <lambda>: the value .*structures differ.*return the value",
    ):
        lax.fori_loop(0, 3, lambda i, v: None, 1.0)


def grow(i, v):
    return {"a": v["a"][None]}


def test_eager_loops_equal_python_loops():
    def f(w):
        c, ys = lax.scan(lambda c, x: (bnp.tanh(c @ w) + x, c.sum()), bnp.ones(2), bnp.ones((3, 2)))
        k = lax.fori_loop(1, 4, lambda i, v: v * i, 1)
        n = lax.while_loop(lambda v: v[0] < 5, lambda v: (v[0] + 2, v[1] * 2), (0, 1.0))
        m = lax.map(lambda x: x * 2, bnp.arange(3))
        s = lax.switch(1, [lambda: 1.0, lambda: 2.0])
        return c, ys, k, n, m, s, lax.cond(True, lambda: 1.0, lambda: 2.0)

    w = bnp.asarray([[0.1, 0.2], [-0.3, 0.4]])
    with bv.disable_jit():
        wanted = f(w)
    close(f(w), wanted)
    close(bv.jit(f)(w), wanted)
    with bv.disable_jit(), pytest.raises(ValueError, match="length 0"):
        lax.scan(lambda c, x: (c, x), 1.0, np.ones(0))


# -- scan: state and closures ----------------------------------------------------------------------


def test_cells_in_bodies():
    count, seen = bv.ref(0), bv.ref(bnp.zeros(2))

    def f(c, x):
        count[...] = count[...] + 1
        seen[...] = seen[...] * 0.5 + x
        return c, count[...] * 1

    for run in (
        lambda: lax.scan(f, 0, bnp.ones((3, 2))),
        bv.jit(lambda: lax.scan(f, 0, bnp.ones((3, 2)))),
    ):
        count[...], seen[...] = 0, bnp.zeros(2)
        assert run()[1].tolist() == [1, 2, 3]
        assert int(count[...]) == 3 and seen[...].tolist() == [1.75, 1.75]
    with bv.disable_jit():
        lax.scan(f, 0, bnp.ones((2, 2)))
    assert int(count[...]) == 5
    lax.fori_loop(0, 3, lambda i, v: (count.__setitem__(..., count[...] + i), v)[1], 0)
    assert int(count[...]) == 8
    lax.map(lambda x: count.__setitem__(..., count[...] + 1), bnp.ones(2))
    assert int(count[...]) == 10

    def twice(p):
        def add(k):
            def branch():
                count[...] = count[...] + k
                return k

            return branch

        return lax.cond(p, add(100), add(1000)), lax.switch(
            bnp.where(p, 2, 0), [lambda: 0, add(5), add(7)]
        )

    a, b = bv.jit(twice)(True)
    assert (int(a), int(b), int(count[...])) == (100, 7, 117)
    bv.jit(twice)(False)
    assert int(count[...]) == 1117
    with pytest.raises(TypeError, match="the condition writes a state cell"):
        lax.while_loop(lambda v: (count.__setitem__(..., 1), v < 3)[1], lambda v: v + 1, 0)


def test_a_condition_reads_what_the_body_writes():
    left = bv.ref(3)

    def body(v):
        left[...] = left[...] - 1
        return v * 2

    assert float(lax.while_loop(lambda v: left[...] > 0, body, 1.0)) == 8 and int(left[...]) == 0


def test_gradients_flow_through_cells():
    cell = bv.ref(f64(0.0))

    def f(x):
        cell[...] = x

        def step(c, _):
            cell[...] = bnp.sin(cell[...]) * x
            return c + cell[...], None

        return lax.scan(step, f64(0.0), None, length=3)[0]

    def plain(x):
        total, c = 0.0, x
        for _ in range(3):
            c = bnp.sin(c) * x
            total = total + c
        return total

    close(bv.grad(f)(f64(0.8)), bv.grad(plain)(f64(0.8)))
    close(bv.jit(bv.grad(f))(f64(0.8)), bv.grad(plain)(f64(0.8)))


def test_bodies_close_over_traced_values():
    def f(w, xs):
        inner = lambda x: lax.scan(lambda c, v: (c * w + v * x, None), w, xs)[0]
        return lax.map(inner, xs).sum() * lax.cond(w > 0, lambda: w, lambda: xs[0])

    def plain(w, xs):
        total = 0.0
        for x in xs:
            c = w
            for v in xs:
                c = c * w + v * x
            total = total + c
        return total * w

    w = f64(0.7)
    for g in (f, bv.jit(f), bv.vmap(f, in_axes=(None, 0))):
        args = (w, f64(XS)[None]) if g not in (f,) and not hasattr(g, "lower") else (w, f64(XS))
        close(bnp.sum(g(*args)), plain(w, f64(XS)))
        close(
            bv.grad(lambda w, g=g, args=args: bnp.sum(g(w, args[1])))(w), bv.grad(plain)(w, f64(XS))
        )


# -- scan: derivatives -----------------------------------------------------------------------------


def rnn(w, c0, xs, **how):
    def step(c, x):
        c = bnp.tanh(c * w + x)
        return c, c * x

    c, ys = lax.scan(step, c0, xs, **how)
    return c.sum() + (ys**2).sum()


def rnn_plain(w, c, xs):
    total = 0.0
    for x in xs:
        c = bnp.tanh(c * w + x)
        total = total + ((c * x) ** 2).sum()
    return c.sum() + total


@pytest.mark.parametrize("how", [{}, {"unroll": 3}, {"unroll": True}])
def test_gradients_of_constants_carry_and_rows(how):
    w, c0, xs = f64([0.5, -0.2]), f64([0.1, 0.3]), f64(np.outer(XS, [1, -0.5]))
    wanted = bv.grad(rnn_plain, (0, 1, 2))(w, c0, xs)
    f = lambda *args: rnn(*args, **how)
    close(bv.grad(f, (0, 1, 2))(w, c0, xs), wanted)
    close(bv.jit(bv.grad(f, (0, 1, 2)))(w, c0, xs), wanted)
    for i in range(3):
        close(bv.grad(f, i)(w, c0, xs), wanted[i])
        close(bv.jacfwd(f, i)(w, c0, xs), wanted[i])
    h = bv.hessian(f, (0, 1))(w, c0, xs)
    close(h, bv.hessian(rnn_plain, (0, 1))(w, c0, xs))
    third = lambda f: lambda t: bv.grad(bv.grad(bv.grad(lambda t: f(w * t, c0, xs * t))))(t)
    close(third(f)(f64(0.9)), third(rnn_plain)(f64(0.9)), 1e-5)


def test_nested_loops_differentiate():
    def f(x):
        def outer(c, r):
            def inner(d, s):
                return bnp.sin(d) * r + s, d * c

            d, ys = lax.scan(inner, c, x)
            k = lax.cond(r > 0, lambda v: v * r, lambda v: bnp.cos(v), d)
            return k + lax.fori_loop(0, 2, lambda i, v: v * 0.5 + i, c), ys.sum()

        c, ys = lax.scan(outer, x[0], x)
        return c + (ys**2).sum()

    close(bv.grad(f)(f64(XS)), numeric(f, XS), 1e-5)
    close(bv.jit(bv.grad(f))(f64(XS)), bv.grad(f)(f64(XS)))
    h = bv.hessian(f)(f64(XS))
    close(h, np.stack([numeric(lambda x, i=i: bv.grad(f)(x)[i], XS) for i in range(4)]), 1e-4)
    g = bv.vmap(bv.grad(f))(f64(np.stack([XS, -XS])))
    close(g, np.stack([bv.grad(f)(f64(XS)), bv.grad(f)(f64(-XS))]))


def test_a_while_loop_in_a_scan_moves_forward():
    def f(x):
        def step(c, r):
            return lax.while_loop(lambda v: v < 2, lambda v: v * 1.7 + 0.1, c * r + 1), None

        return lax.scan(step, x, f64([0.5, 0.9]))[0]

    _, t = bv.jvp(f, (f64(0.4),), (f64(1.0),))
    close(t, numeric(f, 0.4))
    with pytest.raises(bv.errors.Unsupported, match="(?s)while_loop .*test_control.*scan"):
        bv.grad(f)(f64(0.4))


def test_a_loop_that_nothing_differentiable_passes_is_no_obstacle():
    """Reverse mode runs around a while loop of unknown length whose result does not depend on x."""

    def f(x, n):
        k = lax.while_loop(lambda k: k * k < n, lambda k: k + 1, 0)
        return x**2 * k

    assert float(bv.grad(f)(3.0, 20)) == 30
    g = lambda x: (
        lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] * 2.0), (0, 1.0))[1] * x
    )
    assert float(bv.grad(g)(2.0)) == 8


def test_integer_parts_of_a_carry():
    def f(x):
        def step(c, i):
            n, v, flag = c
            return (n + i, bnp.where(flag, v * n, v + x), ~flag), n

        (n, v, _), ns = lax.scan(step, (1, x, True), bnp.arange(4))
        return v * ns.sum()

    def plain(x):
        n, v, flag, ns = 1, x, True, []
        for i in range(4):
            ns.append(n)
            n, v, flag = n + i, (v * n if flag else v + x), not flag
        return v * sum(ns)

    close(f(0.3), plain(0.3))
    close(bv.grad(f)(0.3), bv.grad(plain)(0.3))


def test_random_numbers_in_a_differentiated_loop():
    def f(x, key):
        def step(c, k):
            a, b = random.split(k)
            return bnp.sin(c * x) + random.normal(a, dtype=F64), random.bernoulli(b, 0.5) * c

        c, ys = lax.scan(step, x, random.split(key, 3))
        return c + ys.sum()

    g = bv.grad(lambda x: f(x, random.key(0)))(f64(0.5))
    close(g, numeric(lambda x: f(x, random.key(0)), 0.5), 1e-5)


def test_a_tangent_that_enters_the_carry_late():
    f = lambda x: lax.scan(
        lambda c, v: ((c[1], c[2], c[2] * v), c[0]), (f64(0.0), f64(1.0), x), f64(XS)
    )[1].sum()
    close(bv.grad(f)(f64(0.5)), numeric(f, 0.5))
    close(bv.jvp(f, (f64(0.5),), (f64(1.0),))[1], numeric(f, 0.5))


# -- scan: what is kept ----------------------------------------------------------------------------


def test_residuals_are_what_the_backward_pass_needs():
    n, x = 5, f64(np.ones(3))
    loop = lambda body: (
        lambda c, w=None: lax.scan(lambda c, _: (body(c, w), None), c, None, length=n)[0].sum()
    )
    assert stacked(bv.grad(loop(lambda c, w: c * 2 + 1)), x) == []
    assert stacked(bv.grad(loop(lambda c, w: bnp.sin(c))), x) == [(5, 3)]
    assert stacked(bv.grad(loop(lambda c, w: bnp.exp(c))), x) == [(5, 3)]
    assert stacked(bv.grad(loop(lambda c, w: bnp.tanh(c) + bnp.cumsum(c))), x) == [(5, 3)]
    # A constant is handed over as it is; what is computed from constants alone, once.
    w = f64(np.full((3, 3), 0.1))
    for body in (
        lambda c, w: c @ w,
        lambda c, w: c @ bnp.sin(w.T).astype("float64"),
        lambda c, w: c @ w.astype("float32").astype("float64"),
        lambda c, w: c * (w @ w).sum() + bnp.ones((3, 3), dtype=F64) @ c,
    ):
        assert stacked(bv.grad(loop(body)), x, w) == []
        f = lambda c, body=body: loop(body)(c, w)
        close(bv.grad(f)(x), numeric(f, np.ones(3)), 1e-5)
    # Its own gradient needs the carry of each step, once, and the derivative at the constant, once.
    assert stacked(bv.grad(loop(lambda c, w: c @ w), 1), x, w) == [(5, 3)]
    assert stacked(bv.grad(loop(lambda c, w: c @ bnp.sin(w)), 1), x, w) == [(5, 3)]


def test_rows_and_results_are_not_kept_twice():
    c, xs = f64(np.ones(3)), f64(np.ones((5, 3)))

    def f(c, xs):
        c, ys = lax.scan(lambda c, x: (c * x, c), c, xs)
        return c.sum() + ys.sum()

    # ys is the carry of each step, which the rows' gradient needs; the rows are there.
    assert stacked(bv.value_and_grad(f, 1), c, xs) == [(5, 3), (5, 3)]
    assert stacked(bv.value_and_grad(f, 0), c, xs) == [(5, 3)]
    close(bv.grad(f, (0, 1))(c, xs), bv.grad(lambda c, xs: f(c, xs), (0, 1))(c, xs))


def test_what_every_step_hands_on_is_a_constant():
    w, c = f64(np.full((3, 3), 0.2)), f64(np.ones(3))

    def f(w, c):
        (w, c), _ = lax.scan(
            lambda s, _: ((s[0], bnp.sin(s[1] @ s[0])), None), (w, c), None, length=5
        )
        return c.sum() + w.sum()

    (loop,) = equations(bv.make_graph(f)(w, c), "scan")
    assert loop.params["n_carry"] == 1
    assert (5, 3, 3) not in stacked(bv.grad(f), w, c)
    close(bv.grad(f)(w, c), numeric(lambda w: f(w, c), np.full((3, 3), 0.2)), 1e-5)
    out = lax.scan(lambda c, x: (c, x), (1, 2.0), np.ones(2))[0]
    assert (int(out[0]), float(out[1])) == (1, 2)
    cell = bv.ref(bnp.ones(2))
    lax.scan(lambda c, x: (cell.__setitem__(..., cell[...]), (c, x))[1], 1.0, np.ones(3))
    assert cell[...].tolist() == [1, 1]


def test_unused_results_and_carries_are_not_computed():
    def f(x):
        def step(c, v):
            a, b, d = c
            return (a + v, bnp.sin(b), bnp.cos(d) * a), (a * 2, bnp.exp(b), v)

        (a, b, d), ys = lax.scan(step, (x, x, x), f64(XS))
        return ys[0]

    (loop,) = equations(bv.make_graph(f)(f64(0.5)), "scan")
    body = loop.params["body"]
    assert loop.params["n_carry"] == 1 and len(loop.outputs) == 2
    assert {e.op.name for e in body.eqns} <= {"add", "mul"}
    close(f(f64(0.5)), 2 * (0.5 + np.concatenate([[0], np.cumsum(XS)[:-1]])))
    # Only the last carry is used: nothing is stacked.
    assert stacked(lambda x: lax.scan(lambda c, v: (c * v, c), x, f64(XS))[0], f64(0.5)) == []
    # Unused branches' results and calls' results go, too.
    g = bv.make_graph(
        lambda p, x: lax.cond(p, lambda: (bnp.sin(x), x), lambda: (x, bnp.cos(x)))[1]
    )(True, 1.0)
    assert not equations(g, "sin") and equations(g, "cos")
    g = bv.make_graph(lambda x: bv.jit(lambda x: (bnp.sin(x), bnp.cos(x)))(x)[1])(1.0)
    assert not equations(g, "sin") and equations(g, "cos")


def test_gradient_of_a_loop_needs_no_forward_results():
    """The value is not asked for: the forward loop only makes residuals."""
    f = lambda x: lax.scan(lambda c, v: (c + bnp.sin(x * v), c), f64(0.0), f64(XS))[0]
    close(bv.grad(f)(f64(0.5)), (np.cos(0.5 * XS) * XS).sum())
    assert stacked(bv.grad(f), f64(0.5)) == [(4,)]


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
    with pytest.raises(TypeError, match="second and third are functions"):
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


# -- products moved out of loops -------------------------------------------------------------------

STEPS = {
    "row @ w": lambda c, x, w: (bnp.tanh(c @ w + x @ w), None),
    "w @ row": lambda c, x, w: (bnp.tanh(c + w @ x.T).T @ w, c),
    "result @ w": lambda c, x, w: (bnp.sin(c + x), (c * x) @ w),
    "w @ result, and the result": lambda c, x, w: (bnp.sin(c + x), (w @ c, c)),
    "result stacked and used": lambda c, x, w: ((y := c @ w) + x, y),
    "total": lambda c, x, w: (c + x.T @ bnp.cos(x), x.sum()),
    "total of the carry": lambda c, x, w: (bnp.sin(c) + x.T @ x, None),
    "total, turned": lambda c, x, w: (c + (x @ w).T.reshape(3, 3), None),
    "one operand twice": lambda c, x, w: (c + x @ x, x @ x),
    "constants only": lambda c, x, w: (c + w @ w, w @ w),
    "batched": lambda c, x, w: (c + bnp.einsum("ij,ij->i", x, x), bnp.einsum("ij,ij->i", c, w)),
    "batched rows": lambda c, x, w: (bnp.sin(c) + bnp.einsum("ij,ij->i", w, x), None),
    "rows summed": lambda c, x, w: (c + x.sum(axis=0), bnp.einsum("ij,jk->ki", x, w)),
}


@pytest.mark.parametrize("length", [0, 1, 2, 5])
@pytest.mark.parametrize("name", STEPS)
def test_products_leave_loops(name, length):
    """Compiled scans, forwards and back, equal those done step by step."""
    rng = np.random.default_rng(0)
    w, c = f64(rng.normal(size=(3, 3))), f64(rng.normal(size=(3, 3)))
    xs = f64(rng.normal(size=(length, 3, 3)))

    def loss(w, c, xs, options):
        c, ys = lax.scan(lambda c, x: STEPS[name](c, x, w), c, xs, **options)
        return sum((bnp.cos(v) * 0.1).sum() for v in (c, *bv.tree.leaves(ys)))

    for options in {}, {"reverse": True}, {"unroll": 2}:
        g = lambda w, c, xs, options=options: loss(w, c, xs, options)
        gradient = bv.grad(g, (0, 1, 2))
        batched = bv.vmap(bv.grad(g, (0, 2)), (None, 0, None))
        for run, start in (g, c), (gradient, c), (batched, bnp.stack([c, c + 1])):
            close(bv.jit(run)(w, start, xs), run(w, start, xs), 1e-9)


def loop_products(f, *args):
    """How many products the loops of a compiled function do at each step."""
    text = bv.jit(f).lower(*args).as_text()
    return text[text.index("stablehlo.while") :].split("}) : (")[0].count("dot_general")


def test_which_products_stay():
    x, w = bnp.ones((8, 4, 4)), bnp.ones((4, 4))

    def rnn(w, x):
        return lax.scan(lambda c, x: ((c := bnp.tanh(c @ w[0] + x @ w[1])), c @ w[2]), x[0], x)

    ws = [w, w, w]
    assert loop_products(rnn, ws, x) == 1
    gradient = bv.grad(lambda ws, x: rnn(ws, x)[1].sum())
    text = bv.jit(gradient).lower(ws, x).as_text()
    loops = [t.split("}) : (")[0] for t in text.split('"stablehlo.while"')[1:]]
    assert [t.count("dot_general") for t in loops] == [1, 1]

    def microbatches(w, tokens):
        """Accumulated to save memory: its large intermediate values are not stacked."""
        add = lambda g, t: (g + (h := bnp.ones((64, 4)) * t).T @ bnp.sin(h), None)
        return lax.scan(add, w, tokens)[0]

    assert loop_products(microbatches, w, bnp.ones(8)) == 1


def test_cheap_residuals_are_computed_again():
    """Of tanh and logistic only the results are kept, not their derivatives."""

    def loss(w, x):
        gate = lambda c, x: (bnp.tanh(c * w) * bv.nn.sigmoid(c + x), None)
        return lax.scan(gate, x[0], x)[0].sum()

    rows = stacked(bv.grad(loss), bnp.float32(1.5), bnp.ones((6, 3)))
    assert rows.count((6, 3)) <= 3
