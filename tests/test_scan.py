"""`scan`: values, types, state, derivatives, and what is kept for them."""

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import lax, random
from tests.derivative_checks import F64, close, equations, f64, numeric


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
        match=r"(?s)scan of <lambda>.*test_scan.*carry\['a'\]: float32\[\] in, "
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
    with pytest.raises(bv.errors.TracerBoolConversionError, match=r"(?s)test_scan.*scan of"):
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
    with pytest.raises(bv.errors.Unsupported, match="(?s)while_loop .*test_scan.*scan"):
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
