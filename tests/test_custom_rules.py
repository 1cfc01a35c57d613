"""Functions with derivative rules of their own: `custom_jvp`, `custom_vjp`, `custom_gradient`."""

import functools

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import lax
from tests.derivative_checks import F64, X, close, f64

# -- custom_jvp ------------------------------------------------------------------------------------


def tripled():
    """sin, whose rule gives three times the derivative."""

    @bv.custom_jvp
    def f(x):
        return bnp.sin(x)

    @f.defjvp
    def rule(primals, tangents):
        (x,), (t,) = primals, tangents
        return f(x), 3 * bnp.cos(x) * t

    return f


UNDER = {
    "plain": lambda f: f,
    "jit": bv.jit,
    "vmap": bv.vmap,
    "scan": lambda f: lambda xs: lax.scan(lambda c, x: (c, f(x)), 0.0, xs)[1],
    "map": lambda f: lambda xs: lax.map(f, xs),
    "remat": bv.remat,
    "cond": lambda f: bv.jit(lambda x: lax.cond(x.sum() > -9, f, bnp.cos, x)),
    "jit of vmap": lambda f: bv.jit(bv.vmap(f)),
    "vmap of jit": lambda f: bv.vmap(bv.jit(f)),
    "vmap of remat": lambda f: bv.vmap(bv.remat(f)),
    "vmap of cond": lambda f: bv.vmap(lambda x: lax.cond(x > -9, f, bnp.cos, x)),
    "scan of vmap": lambda f: (
        lambda xs: lax.scan(lambda c, x: (c, bv.vmap(f)(x)), 0.0, xs[None])[1][0]
    ),
    "loop": lambda f: lambda xs: lax.fori_loop(0, 1, lambda i, x: f(x), xs),
}


@pytest.mark.parametrize("how", UNDER)
def test_custom_jvp_everywhere(how):
    f = UNDER[how](tripled())
    close(f(f64(X)), np.sin(X))
    close(bv.jvp(f, (f64(X),), (f64(X),))[1], 3 * np.cos(X) * X)
    g = lambda x: bv.grad(lambda v: f(v).sum())(x)
    close(g(f64(X)), 3 * np.cos(X))
    close(bv.jit(g)(f64(X)), 3 * np.cos(X))
    second = lambda x: bv.grad(lambda v: g(v).sum())(x)
    close(second(f64(X)), -3 * np.sin(X))
    close(bv.vmap(bv.vmap(tripled()))(f64(X)[None]), np.sin(X)[None])


def test_custom_jvp_of_pytrees_with_static_and_default_arguments():
    @functools.partial(bv.custom_jvp, nondiff_argnums=(0, -1))
    def f(mode, p, q=2.0, n=3):
        return {"out": p["a"] * q * n} if mode == "mul" else {"out": p["a"]}

    calls = []

    @f.defjvp
    def rule(mode, n, primals, tangents):
        calls.append((mode, n, len(primals)))
        (p, q), (tp, tq) = primals, tangents
        return f(mode, p, q, n), {"out": 100 * tp["a"] + tq}

    assert float(f("mul", {"a": 2.0, "b": None})["out"]) == 12
    g = bv.grad(lambda p, q: f("mul", p, q=q, n=5)["out"], (0, 1))({"a": 2.0, "b": None}, 7.0)
    close(g, ({"a": 100.0, "b": None}, 1.0))
    g = bv.grad(lambda p: f("mul", p)["out"])({"a": 2.0, "b": None})
    close(g, {"a": 100.0, "b": None})
    assert calls == [("mul", 5, 2), ("mul", 3, 2)]
    g = bv.custom_jvp(lambda x: x, nondiff_argnums=(3,))
    g.defjvps(None)
    with pytest.raises(ValueError, match=r"nondiff_argnums=\[3\] are out of range for 1"):
        g(1.0)


def test_defjvps():
    @bv.custom_jvp
    def f(x, y, z):
        return x * y, z

    f.defjvps(lambda t, out, x, y, z: (10 * t, 0 * t), None, lambda t, out, x, y, z: (0 * t, t))
    close(
        bv.grad(lambda x, y, z: f(x, y, z)[0] + f(x, y, z)[1], (0, 1, 2))(2.0, 3.0, 4.0),
        (10.0, 0.0, 1.0),
    )
    h = bv.custom_jvp(lambda x: x)
    h.defjvps(None)
    assert float(bv.grad(h)(1.0)) == 0
    h.defjvps(None, None)
    with pytest.raises(TypeError, match="2 rules for 1 differentiable"):
        bv.grad(h)(1.0)
    k = bv.custom_jvp(lambda n, x: x * n, nondiff_argnums=0)
    k.defjvps(lambda t, out, x: 7 * t)
    assert float(bv.grad(lambda x: k(2, x))(1.0)) == 7


def test_custom_jvp_with_integers_and_no_tangent():
    @bv.custom_jvp
    def f(x, n):
        return x * n, n

    f.defjvp(lambda p, t: (f(*p), (t[0] * 50, None)))
    close(bv.grad(lambda x: f(x, 3)[0])(2.0), 50.0)
    y, t = bv.jvp(f, (2.0, 3), (1.0, 0))
    assert float(t[0]) == 50 and t[1].dtype == bnp.int32 and int(t[1]) == 0
    g = bv.custom_jvp(lambda x: x)
    g.defjvp(lambda p, t: (p[0], None))
    assert float(bv.grad(g)(2.0)) == 0


def test_rules_of_custom_jvp_are_checked():
    def with_rule(rule):
        f = bv.custom_jvp(lambda x: (x, x))
        f.defjvp(rule)
        return lambda: bv.jvp(f, (bnp.ones(2),), (bnp.ones(2),))

    with pytest.raises(AttributeError, match=r"no rule yet.*defjvp"):
        bv.custom_jvp(bnp.sin)(1.0)
    with pytest.raises(
        TypeError, match=r"must return \(result, tangent of the result\), not Array"
    ):
        with_rule(lambda p, t: p[0])()
    with pytest.raises(TypeError, match="(?s)jvp rule returns the structure.*as the result"):
        with_rule(lambda p, t: (p[0], t[0]))()
    with pytest.raises(TypeError, match="(?s)gave the tangent structure"):
        with_rule(lambda p, t: ((p[0], p[0]), t[0]))()
    with pytest.raises(TypeError, match=r"tangent float32\[\] for a value float32\[2\]"):
        with_rule(lambda p, t: ((p[0], p[0]), (t[0], 1.0)))()
    with pytest.raises(
        TypeError,
        match=r"returns float32\[3\] as the result, but the function returns float32\[2\]",
    ):
        with_rule(lambda p, t: ((bnp.ones(3), p[0]), (t[0], t[0])))()
    with pytest.raises(TypeError, match="only be passed by keyword"):
        g = bv.custom_jvp(lambda x, *, k=1: x)
        g.defjvps(None)
        g(1.0)


def test_custom_rules_on_methods():
    class Scale:
        def __init__(self, k):
            self.k = k

        @functools.partial(bv.custom_jvp, nondiff_argnums=(0,))
        def f(self, x):
            return x * self.k

        @f.defjvp
        def rule(self, primals, tangents):
            return self.f(primals[0]), tangents[0] * 1000

    assert float(Scale(3.0).f(2.0)) == 6
    assert float(bv.grad(Scale(3.0).f)(2.0)) == 1000


# -- custom_vjp ------------------------------------------------------------------------------------


def own_vjp():
    @bv.custom_vjp
    def f(x):
        return bnp.sin(x)

    f.defvjp(lambda x: (bnp.sin(x), (x, 3)), lambda res, g: (res[1] * bnp.cos(res[0]) * g,))
    return f


@pytest.mark.parametrize("how", UNDER)
def test_custom_vjp_everywhere(how):
    f = UNDER[how](own_vjp())
    close(f(f64(X)), np.sin(X))
    g = lambda x: bv.grad(lambda v: f(v).sum())(x)
    close(g(f64(X)), 3 * np.cos(X))
    close(bv.jit(g)(f64(X)), 3 * np.cos(X))
    close(bv.grad(lambda v: g(v).sum())(f64(X)), -3 * np.sin(X))
    close(bv.jacfwd(g)(f64(X)), np.diag(-3 * np.sin(X)))
    close(bv.jacrev(f)(f64(X)), np.diag(3 * np.cos(X)))


def test_custom_vjp_under_vmap_with_every_choice_of_axes():
    @bv.custom_vjp
    def f(x, y):
        return x * y, y

    f.defvjp(
        lambda x, y: (f(x, y), (x, y)),
        lambda res, g: (10 * g[0] * res[1], 100 * g[0] * res[0] + g[1]),
    )
    xs, ys = f64(X), f64(X + 2)
    for axes in ((0, 0), (0, None), (None, 0)):
        a, b = xs if axes[0] == 0 else xs[0], ys if axes[1] == 0 else ys[0]

        def total(a, b, axes=axes):
            u, v = bv.vmap(f, in_axes=axes)(a, b)
            return u.sum() + v.sum()

        ga, gb = bv.grad(total, (0, 1))(a, b)
        full_a, full_b = np.broadcast_to(a, 3), np.broadcast_to(b, 3)
        wa, wb = 10 * full_b, 100 * full_a + 1
        close((ga, gb), (wa if axes[0] == 0 else wa.sum(), wb if axes[1] == 0 else wb.sum()))
        per_row = bv.vmap(bv.grad(lambda a, b: f(a, b)[0], (0, 1)), in_axes=axes)(a, b)
        close(per_row, (10 * full_b, 100 * full_a))


def test_custom_vjp_cotangents():
    @bv.custom_vjp
    def f(p, n, q=4.0):
        return p["a"] * n * q

    f.defvjp(
        lambda p, n, q: (f(p, n, q), p),
        lambda p, g: ({"a": g * 7, "b": None, "c": None}, None, None),
    )
    p = {"a": 2.0, "b": 3.0, "c": None}
    close(bv.grad(lambda p, q: f(p, 3, q), (0, 1))(p, 5.0), ({"a": 7.0, "b": 0.0, "c": None}, 0.0))
    close(bv.grad(lambda p: f(p, 3))(p), {"a": 7.0, "b": 0.0, "c": None})
    half = bv.custom_vjp(lambda x: x)
    half.defvjp(lambda x: (x, None), lambda _, g: (g.astype(bnp.float32) * 2,))
    assert bv.grad(lambda x: half(x).sum())(bnp.ones(2, dtype="float16")).dtype == bnp.float16


def test_rules_of_custom_vjp_are_checked():
    def with_rules(fwd, bwd):
        f = bv.custom_vjp(lambda x, y: x * y)
        f.defvjp(fwd, bwd)
        return lambda: bv.grad(f)(1.0, 2.0)

    good = lambda x, y: (x * y, None)
    with pytest.raises(AttributeError, match=r"(?s)no rules yet.*defvjp"):
        bv.custom_vjp(bnp.sin)(1.0)
    with pytest.raises(TypeError, match=r"fwd must return \(result, residuals\)"):
        with_rules(lambda x, y: x, lambda r, g: (g, g))()
    with pytest.raises(TypeError, match="(?s)fwd returns the structure.*must be equal"):
        with_rules(lambda x, y: ((x, y), None), lambda r, g: (g, g))()
    with pytest.raises(TypeError, match=r"(?s)bwd must return a tuple.*return \(ct,\)"):
        with_rules(good, lambda r, g: g)()
    with pytest.raises(TypeError, match="1 cotangents for 2 differentiable arguments"):
        with_rules(good, lambda r, g: (g,))()
    with pytest.raises(TypeError, match=r"cotangent float32\[2\] for a value float32\[\]"):
        with_rules(good, lambda r, g: (bnp.ones(2), g))()
    with pytest.raises(TypeError, match="complex64"):
        with_rules(good, lambda r, g: (g * 1j, g))()
    with pytest.raises(TypeError, match="cotangent of argument 0 has the structure"):
        f = bv.custom_vjp(lambda p: p[0])
        f.defvjp(lambda p: (p[0], None), lambda r, g: (g,))
        bv.grad(f)((1.0, 2.0))


def test_forward_mode_through_custom_vjp_is_refused():
    f = own_vjp()
    for g in (f, bv.jit(f), lambda x: lax.scan(lambda c, _: (f(c), None), x, None, length=2)[0]):
        with pytest.raises(TypeError, match=r"(?s)custom_vjp.*bv\.custom_jvp"):
            bv.jvp(g, (1.0,), (1.0,))


def test_residuals_of_custom_vjp_may_be_anything():
    f = bv.custom_vjp(lambda x: x**2)
    f.defvjp(lambda x: (x**2, {"x": x, "k": [2, None]}), lambda r, g: (g * r["x"] * r["k"][0],))
    close(bv.grad(f)(3.0), 6.0)
    close(
        bv.grad(lambda x: lax.scan(lambda c, _: (f(c), None), x, None, length=2)[0])(3.0), 4 * 27.0
    )


# -- closures of custom rules ----------------------------------------------------------------------


def scaled(kind, w, in_function):
    """x * w whose rule gives ten times the derivative; only the rule closes over w if not
    `in_function`.
    """
    if kind == "jvp":
        f = bv.custom_jvp(lambda x: (x * w).sum() if in_function else x.sum())
        f.defjvp(
            lambda p, t: ((p[0] * w).sum() if in_function else p[0].sum(), (t[0] * w * 10).sum())
        )
    else:
        f = bv.custom_vjp(lambda x: (x * w).sum() if in_function else x.sum())
        f.defvjp(
            lambda x: ((x * w).sum() if in_function else x.sum(), None), lambda _, g: (g * w * 10,)
        )
    return f


W = np.array([1.0, 2.0, 3.0])


def closure_cases(make):
    """Gradients in x, which are all 10 w, with the function made in different places."""
    grad = lambda w: bv.grad(lambda x: make(w)(x))
    f = lambda x, w: make(w)(x)
    two = f64(np.stack([W, W]))
    yield "eager", lambda x, w: grad(w)(x)
    yield "jit of grad", bv.jit(lambda x, w: grad(w)(x))
    yield "grad of jit", bv.grad(bv.jit(f))
    yield "vmap of grad", lambda x, w: bv.vmap(lambda w: grad(w)(x))(two)[0]
    mapped = lambda x: bv.vmap(lambda w: f(x, w))(two).sum() / 2
    yield "grad of vmap", lambda x, w: bv.grad(mapped)(x)
    yield "grad of remat", bv.grad(bv.remat(f))
    yield (
        "grad of scan",
        bv.grad(lambda x, w: lax.scan(lambda c, v: (c + f(x, v), None), 0.0, two)[0] / 2),
    )
    yield (
        "grad of scan, w from outside",
        bv.grad(
            lambda x, w: lax.scan(lambda c, _: (c + f(x, w), None), 0.0, None, length=2)[0] / 2
        ),
    )
    yield (
        "jit of grad of cond",
        bv.jit(bv.grad(lambda x, w: lax.cond(x[0] > -9, lambda w: f(x, w), lambda w: x.sum(), w))),
    )
    yield (
        "vmap of grad of jit",
        lambda x, w: bv.vmap(bv.grad(bv.jit(f)), in_axes=(None, 0))(x, two)[1],
    )
    yield (
        "grad of jit of vmap",
        bv.grad(bv.jit(lambda x, w: bv.vmap(lambda v: bv.jit(f)(x, v))(two).sum() / 2)),
    )


CLOSURES = [n for n, _ in closure_cases(lambda w: None)]


@pytest.mark.parametrize("in_function", [True, False])
@pytest.mark.parametrize("kind", ["jvp", "vjp"])
@pytest.mark.parametrize("name", CLOSURES)
def test_rules_close_over_traced_values(name, kind, in_function):
    f = dict(closure_cases(lambda w: scaled(kind, w, in_function)))[name]
    close(f(f64(X), f64(W)), 10 * W)


def test_closing_over_what_is_differentiated():
    for kind in ("jvp", "vjp"):
        with pytest.raises(TypeError, match=r"(?s)closes over a value.*stop_gradient"):
            bv.grad(lambda w, kind=kind: scaled(kind, w, True)(f64(X)))(f64(W))
        with pytest.raises(
            TypeError, match=r"(?s)closes over a value.*pass the value as an argument"
        ):
            bv.grad(bv.jit(lambda w, kind=kind: scaled(kind, w, True)(f64(X))))(f64(W))
        held = lambda w, kind=kind: scaled(kind, lax.stop_gradient(w), True)(f64(X) * w)
        close(bv.grad(held)(f64(W)), 10 * W * X)
        # The rule's own scale may depend on w: to first order it is a constant.
        rule_only = lambda w, kind=kind: scaled(kind, w, False)(w)
        close(bv.grad(rule_only)(f64(W)), 10 * W)
        once = bv.grad(rule_only)
        close(bv.grad(lambda w, g=once: g(w).sum())(f64(W)), np.full(3, 10.0))


def test_second_order_through_a_closure():
    f = bv.jit(lambda x, w: scaled("vjp", w, True)(x))
    inner = lambda w: bv.grad(lambda x: f(x, w))(f64(X)).sum()
    close(bv.grad(inner)(f64(W)), np.full(3, 10.0))


def test_rules_may_use_control_flow_on_closed_values():
    def f(x, w):
        g = bv.custom_vjp(lambda x: x * w)

        def bwd(_, ct):
            return (lax.scan(lambda c, _: (c * w, None), ct, None, length=2)[0],)

        g.defvjp(lambda x: (x * w, None), bwd)
        return g(x)

    close(bv.grad(bv.jit(f))(2.0, 3.0), 9.0)
    close(
        bv.grad(lambda x: lax.scan(lambda c, w: (f(c, w), None), x, f64([2.0, 3.0]))[0])(f64(1.0)),
        36.0,
    )


BIG = bnp.asarray(np.linspace(0.5, 2.0, 100), dtype=F64)


def over_large_array(kind, where):
    """x * big with the gradient 3 * big, whose rules find `big` in different places."""
    big = BIG + 0
    array = {"closure": lambda: big, "module": lambda: BIG, "numpy": lambda: np.asarray(BIG)}[where]
    times = lambda x, k: (x * bnp.asarray(array(), dtype=F64) * k).sum()
    if where == "module":
        times = lambda x, k: (x * BIG * k).sum()
    if kind == "jvp":
        f = bv.custom_jvp(lambda x: times(x, 1))
        f.defjvp(lambda p, t: (times(p[0], 1), times(t[0], 3)))
    else:
        f = bv.custom_vjp(lambda x: times(x, 1))
        f.defvjp(
            lambda x: (times(x, 1), None), lambda _, g: (bv.grad(lambda x: times(x, 3))(BIG) * g,)
        )
    return f


@pytest.mark.parametrize("where", ["closure", "module", "numpy"])
@pytest.mark.parametrize("kind", ["jvp", "vjp"])
def test_rules_use_large_arrays(kind, where):
    f = over_large_array(kind, where)
    x, two = BIG * 2, lambda g: lambda x: bv.vmap(g)(bnp.stack([x, x])).sum() / 2
    ways = {
        "eager": f,
        "jit": bv.jit(f),
        "remat": bv.remat(f),
        "scan": lambda x: lax.scan(lambda c, _: (c + f(x), None), f64(0.0), None, length=2)[0] / 2,
        "cond": bv.jit(lambda x: lax.cond(x[0] > -9, f, lambda x: x.sum(), x)),
        "vmap": two(f),
        "vmap of jit": two(bv.jit(f)),
        "jit of vmap": bv.jit(two(f)),
    }
    for name, g in ways.items():
        np.testing.assert_allclose(bv.grad(g)(x), 3 * BIG, err_msg=name)
        np.testing.assert_allclose(bv.jit(bv.grad(g))(x), 3 * BIG, err_msg=name)
    text = bv.make_graph(bv.grad(bv.jit(f)))(x)
    assert ("[...]" in repr(text)) == (where == "numpy"), "only data Bevel cannot see is a literal"


@pytest.mark.filterwarnings("ignore::bevel.core.errors.TracerLeakWarning")  # it does leak
def test_a_rule_that_hides_a_traced_value():
    held = {}

    class Holder:
        def scale(self, g):
            return g * held["w"]

    def loss(x, w):
        f = bv.custom_vjp(lambda x: x)
        held["w"] = w
        f.defvjp(lambda x: (x, None), lambda _, g: (Holder().scale(g),))
        return f(x)

    assert float(bv.jit(bv.grad(loss))(1.0, 5.0)) == 5
    with pytest.raises(bv.errors.UnexpectedTracerError, match="(?s)as an argument|belongs to"):
        bv.grad(bv.jit(loss))(1.0, 5.0)


def test_custom_functions_do_not_write_state():
    cell = bv.ref(0.0)

    def f(x):
        cell[...] = cell[...] + 1
        return x

    for g in (bv.custom_jvp(f), bv.custom_vjp(f)):
        (
            g.defjvps(None)
            if isinstance(g, bv.custom_jvp)
            else g.defvjp(lambda x: (x, None), lambda r, g: (g,))
        )
        for call in (g, bv.jit(g), bv.grad(g)):
            with pytest.raises(
                bv.errors.StateError, match="(?s)writes a state cell.*test_custom_rules"
            ):
                call(1.0)
    assert float(cell[...]) == 0


def test_eager_calls_run_plain_python():
    seen = []

    @bv.custom_vjp
    def f(x):
        seen.append(float(x))
        return x

    f.defvjp(lambda x: (x, None), lambda r, g: (g,))
    assert float(f(2)) == 2.0 and seen == [2.0]


# -- custom_gradient, closure_convert --------------------------------------------------------------


@pytest.mark.parametrize("how", UNDER)
def test_custom_gradient_everywhere(how):
    @bv.custom_gradient
    def f(x):
        c = bnp.cos(x)
        return bnp.sin(x), lambda g: 3 * g * c

    g = UNDER[how](f)
    close(g(f64(X)), np.sin(X))
    close(bv.grad(lambda x: g(x).sum())(f64(X)), 3 * np.cos(X))
    close(bv.jit(bv.grad(lambda x: g(x).sum()))(f64(X)), 3 * np.cos(X))


def test_custom_gradient_of_several():
    @bv.custom_gradient
    def f(p, y, *, k=2):
        return {"o": p["a"] * y}, lambda g: ({"a": g["o"] * k}, g["o"] * 100)

    close(bv.grad(lambda p, y: f(p, y, k=5)["o"], (0, 1))({"a": 2.0}, 3.0), ({"a": 5.0}, 100.0))
    assert f.__name__ == "f"


def test_closure_convert():
    def f(x):
        converted, captured = bv.closure_convert(lambda y: {"o": (y * x).sum()}, bnp.ones(3))
        assert len(captured) == 1
        return converted(bnp.ones(3), *captured)["o"], bv.grad(
            lambda c: converted(bnp.ones(3), c)["o"]
        )(*captured)

    y, g = bv.jit(f)(bnp.arange(3.0))
    assert float(y) == 3 and g.tolist() == [1, 1, 1]
    converted, captured = bv.closure_convert(lambda p: p[0] + p[1], (1.0, 2.0))
    assert captured == [] and float(converted((3, 4.0))) == 7
    with pytest.raises(TypeError, match="closure_convert of <lambda>.*converted for"):
        converted(1.0, 2.0)
