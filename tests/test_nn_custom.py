"""Custom derivative rules of functions of modules; Jacobians in modules; forward mode in them."""

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import errors, lax, nn

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2,)).astype(np.float32)
XS = RNG.normal(size=(3, 2)).astype(np.float32)


class Net(nn.Module):
    """Two parameters, a statistic that is a factor of one, and an integer."""

    def __init__(self):
        self.w = nn.Param(bnp.array([1.0, -2.0]))
        self.b = nn.Param(3.0)
        self.scale = nn.BatchStat(10.0)
        self.calls = nn.Variable(0)

    def __call__(self, x):
        return (self.w * x).sum() + self.b * self.scale


def transforms(f, argnums):
    """The gradient function of `f` under the ways to compile it."""
    grad = lambda f: bv.grad(f, argnums)  # noqa: E731
    return [grad(f), bv.jit(grad(f)), grad(bv.jit(f)), bv.jit(grad(bv.jit(f)))]


def rule_of_vjp(model, factor=100.0):
    """`model(x)` with 100 times the gradient in w, seven times that in b, and the right one in x.

    `bwd` gets the module itself among the residuals.
    """

    @bv.custom_vjp
    def f(m, x):
        return m(x)

    def fwd(m, x):
        assert m is model
        return m(x), {"m": m, "x": x}

    def bwd(kept, g):
        m = kept["m"]
        assert m is model
        return nn.State({"w": factor * g * kept["x"], "b": 7 * g * m.scale}), g * m.w

    f.defvjp(fwd, bwd)
    return f


def rule_of_jvp(model):
    """The same rule for forward mode."""

    @bv.custom_jvp
    def f(m, x):
        return m(x)

    @f.defjvp
    def _(primals, tangents):
        (m, x), (tm, tx) = primals, tangents
        assert m is model and isinstance(tm, nn.State)
        return m(x), 100 * (tm.w * x).sum() + 7 * tm.b * m.scale + (m.w * tx).sum()

    return f


def rule_of_gradient(model):
    """The same rule as a pair."""

    @bv.custom_gradient
    def f(m, x):
        assert m is model
        state = lambda g: nn.State({"w": 100 * g * x, "b": 7 * g * m.scale})  # noqa: E731
        return m(x), lambda g: (state(g), g * m.w)

    return f


@pytest.mark.parametrize("make", [rule_of_vjp, rule_of_jvp, rule_of_gradient])
def test_rules_get_the_module(make):
    model = Net()
    f = make(model)
    np.testing.assert_allclose([f(model, X), bv.jit(f)(model, X)], [model(X)] * 2, rtol=1e-5)
    for grad in transforms(f, (0, 1)):
        for scale in (10.0, 20.0):  # what a compiled call reads of a statistic is that of the call
            model.scale.value = scale
            by_model, by_x = grad(model, X)
            assert list(by_model.flat_state()) == [("b",), ("w",)]
            np.testing.assert_allclose(by_model.w, 100 * X, rtol=1e-6)
            np.testing.assert_allclose(by_model.b, 7 * scale)
            np.testing.assert_allclose(by_x, model.w, rtol=1e-6)
        model.b.value = model.b + 1
    np.testing.assert_allclose(bv.vmap(f, (None, 0))(model, XS), [model(x) for x in XS], rtol=1e-5)
    total = lambda m, x: bv.vmap(f, in_axes=(None, 0))(m, x).sum()  # noqa: E731
    rows = bv.jit(bv.vmap(bv.grad(f), in_axes=(None, 0)))(model, XS)
    np.testing.assert_allclose(rows.w, 100 * XS, rtol=1e-6)
    np.testing.assert_allclose(bv.grad(total)(model, XS).w, 100 * XS.sum(0), rtol=1e-5)
    axes = nn.StateAxes({nn.Param: 0, ...: None})
    many = bv.vmap(lambda _: Net(), out_axes=axes)(bnp.arange(3))
    each = bv.vmap(bv.grad(make(many)), in_axes=(axes, None))(many, X)
    np.testing.assert_allclose(each.w, np.stack([100 * X] * 3), rtol=1e-6)
    assert each.b.shape == (3,)
    carried = bv.grad(lambda m: lax.scan(lambda c, x: (c + f(m, x), None), 0.0, XS)[0])(model)
    np.testing.assert_allclose(carried.w, 100 * XS.sum(0), rtol=1e-5)


def test_cotangents_of_modules():
    model, pair = Net(), {"net": Net(), "x": X}

    def with_cotangent(ct, f=lambda m: m["net"](m["x"])):
        g = bv.custom_vjp(f)
        g.defvjp(lambda m: (f(m), None), lambda _, g: ct)
        return bv.grad(g)

    none = with_cotangent((None,))(pair)
    assert set(none) == {"net", "x"} and not np.any(none["net"].w) and not np.any(none["x"])
    part = with_cotangent(({"net": None, "x": X},))(pair)
    assert not np.any(part["net"].w)
    np.testing.assert_array_equal(part["x"], X)
    some = with_cotangent(({"net": nn.State({"w": X, "b": None}), "x": None},))(pair)
    assert float(some["net"].b) == 0
    np.testing.assert_array_equal(some["net"].w, X)
    call = lambda m: m(X)  # noqa: E731
    with pytest.raises(TypeError, match=r"cotangent of argument 0(?s:.*)\('w',\)(?s:.*)'b', 'w'"):
        with_cotangent((nn.State({"w": X}),), call)(model)
    with pytest.raises(TypeError, match=r"cotangent float32\[3\] for a value float32\[2\]"):
        with_cotangent((nn.State({"w": np.ones(3, np.float32), "b": 0.0}),), call)(model)
    two = bv.custom_vjp(lambda m, n: m(X) + n(X))
    state = lambda: nn.State({"w": bnp.ones(2), "b": 1.0})  # noqa: E731
    two.defvjp(lambda m, n: (m(X), None), lambda _, g: (state(), state()))
    with pytest.raises(TypeError, match=r"share the Param(?s:.*)one argument that holds both"):
        bv.grad(lambda m: two(m, m))(model)
    shared = state()
    two.defvjp(lambda m, n: (m(X), None), lambda _, g: (shared, shared))
    np.testing.assert_array_equal(bv.grad(lambda m: two(m, m))(model).w, [1, 1])


def test_a_parameter_as_an_argument_or_result_is_its_array():
    model = Net()
    f = bv.custom_vjp(lambda w, x: (w * x).sum())
    f.defvjp(lambda w, x: (f(w, x), (w, x)), lambda r, g: (5 * g * r[1], g * r[0]))
    for grad in transforms(lambda m: f(m.w, X), 0):
        np.testing.assert_allclose(grad(model).w, 5 * X, rtol=1e-6)
    # what is returned is read before the parameters get back what they held
    assert float(bv.grad(lambda m: m.b)(model).b) == 1
    b = bv.custom_jvp(lambda m: m.b)
    b.defjvp(lambda p, t: (p[0].b, 3 * t[0].b))
    assert float(bv.grad(b)(model).b) == 3
    b = bv.custom_vjp(lambda m: m.b)
    b.defvjp(lambda m: (m.b, m.w), lambda w, g: (nn.State({"w": w, "b": 4 * g}),))
    (state,) = bv.vjp(b, model)[1](bnp.float32(1.0))
    assert float(state.b) == 4
    np.testing.assert_array_equal(state.w, model.w)


def test_what_rules_close_over_is_that_of_the_call():
    model, count = Net(), nn.Variable(2.0)
    f = bv.custom_vjp(lambda x: x * count + model.scale)
    f.defvjp(lambda x: (f(x), count.value), lambda c, g: (g * c * count * model.scale,))
    h = bv.custom_jvp(lambda x: x * count)
    h.defjvp(lambda p, t: (h(*p), t[0] * count**2 * model.scale))
    for rule in (f, h):
        for grad in transforms(rule, 0):
            for value in (2.0, 5.0):
                count.value, model.scale.value = value, 10 * value
                np.testing.assert_allclose(grad(3.0), 10 * value**3)
    _, pull = bv.vjp(bv.jit(f), 3.0)
    count.value = 7.0
    np.testing.assert_allclose(pull(1.0)[0], 10 * 5.0**3)
    w = bv.custom_vjp(lambda x: (model.w * x).sum())
    w.defvjp(lambda x: (w(x), None), lambda _, g: (g * X,))
    with pytest.raises(TypeError, match="closes over a value that is being differentiated"):
        bv.grad(lambda m, x: w(x) * m.b)(model, X)


def test_rules_must_not_write():
    model = Net()

    def counted(m, x):
        m.calls += 1
        return m(x)

    f = bv.custom_vjp(counted)
    f.defvjp(lambda m, x: (m(x), None), lambda _, g: (None, None))
    for call in (f, bv.jit(f), bv.grad(f)):
        with pytest.raises(errors.StateError, match=r"Variable m.calls(?s:.*)return the new"):
            call(model, X)
    quiet = bv.custom_vjp(lambda m, x: m(x))
    quiet.defvjp(lambda m, x: (counted(m, x), None), lambda _, g: (None, None))
    with pytest.raises(errors.StateError, match="Variable"):
        bv.grad(quiet)(model, X)

    def writing(m, g):
        m.calls += 1
        return None, None

    quiet.defvjp(lambda m, x: (m(x), m), writing)
    with pytest.raises(errors.StateError, match="Variable"):
        bv.grad(quiet)(model, X)
    assert int(model.calls) == 0


def test_forward_mode_in_modules():
    model = Net()
    t = nn.State({"w": X, "b": 2.0})
    want = (X * X).sum() + 2 * 10
    push = lambda m, t: bv.jvp(lambda m: m(X), (m,), (t,))  # noqa: E731
    for call in (push, bv.jit(push)):
        y, moved = call(model, t)
        np.testing.assert_allclose([y, moved], [model(X), want], rtol=1e-5)
    y, lin = bv.linearize(lambda m, x: m["a"](x), {"a": model}, X)
    np.testing.assert_allclose(lin({"a": t}, 0 * X), want, rtol=1e-6)
    np.testing.assert_allclose(lin({"a": t}, X), want + (model.w * X).sum(), rtol=1e-5)
    with pytest.raises(TypeError, match=r"tangents have the structure(?s:.*)'b', 'w'"):
        bv.jvp(lambda m: m(X), (model,), (nn.State({"w": X}),))
    with pytest.raises(TypeError, match=r"a tangent is float32\[3\], but its value is"):
        bv.jvp(lambda m: m(X), (model,), (nn.State({"w": bnp.ones(3), "b": 1.0}),))


def test_jacobians_in_modules():
    model = nn.Sequential(nn.Linear(2, 3, rngs=nn.Rngs(0)), bnp.tanh)
    w, b = model.layers[0].kernel.value, model.layers[0].bias.value
    plain = lambda w, b, x: bnp.tanh(x @ w + b)  # noqa: E731
    call = lambda m, x: m(x)  # noqa: E731
    want = bv.jit(bv.jacrev(plain, (0, 1, 2)))(w, b, X)
    for jacobian in (bv.jacrev, bv.jacfwd):
        for wrapped in (lambda f: f, bv.jit):
            found = wrapped(jacobian(call))(model, X)
            assert isinstance(found, nn.State)
            np.testing.assert_allclose(found.layers[0].kernel, want[0], rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(found.layers[0].bias, want[1], rtol=1e-5, atol=1e-6)
        (by_model, by_x), aux = jacobian(lambda m, x: (m(x), m), (0, 1), has_aux=True)(model, X)
        np.testing.assert_allclose(by_model.layers[0].kernel, want[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(by_x, want[2], rtol=1e-5, atol=1e-6)
        assert aux is model
        tree = jacobian(lambda ms, x: {"y": ms["m"](x)})({"m": model}, X)
        np.testing.assert_allclose(tree["y"]["m"].layers[0].bias, want[1], rtol=1e-5, atol=1e-6)
    total = lambda w, b, x: plain(w, b, x).sum()  # noqa: E731
    (ww, wb), (bw, bb) = bv.jit(bv.hessian(total, (0, 1)))(w, b, X)
    found = bv.jit(bv.hessian(lambda m, x: m(x).sum()))(model, X).layers[0]
    for got, expected in (
        (found.kernel.layers[0].kernel, ww),
        (found.kernel.layers[0].bias, wb),
        (found.bias.layers[0].kernel, bw),
        (found.bias.layers[0].bias, bb),
    ):
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


class Smooth(Net):
    """All second derivatives of it differ."""

    def __call__(self, x):
        return bnp.sin(self.w * x).sum() + self.b * self.scale * (x**2).sum()


def call(m, x):
    return m(x)


def true_rules():
    """The true derivative of `Smooth` in the three forms of rules."""

    def bwd(kept, g):
        m, x = kept
        c = bnp.cos(m.w * x) * g
        state = nn.State({"w": c * x, "b": g * m.scale * (x**2).sum()})
        return state, c * m.w + 2 * x * m.b * m.scale * g

    vjp, jvp = bv.custom_vjp(call), bv.custom_jvp(call)
    vjp.defvjp(lambda m, x: (m(x), (m, x)), bwd)
    jvp.defjvp(lambda primals, tangents: bv.jvp(call, primals, tangents))
    return vjp, jvp, bv.custom_gradient(lambda m, x: (m(x), lambda g: bwd((m, x), g)))


def in_a_scan(f, carried=True):
    """A sum over steps that change the statistic; the module is carried, or around the loop."""

    def run(m):
        def step(c, x):
            y = f(m, x)
            m.scale.value = 0.5 * m.scale + x.sum()
            return (m if carried else c), y

        return lax.scan(step, m if carried else 0.0, XS)[1].sum()

    return run


def mapped(f):
    return bv.vmap(f, in_axes=(None, 0))


PROGRAMS = {
    "scan": lambda f: bv.jit(bv.grad(in_a_scan(f))),
    "scan of jit": lambda f: bv.grad(bv.jit(in_a_scan(f, carried=False))),
    "remat": lambda f: bv.jit(bv.grad(bv.remat(lambda m: f(m, X) ** 2))),
    "cond": lambda f: bv.jit(
        bv.grad(lambda m: lax.cond(m.b > 0, f, lambda m, x: bnp.float32(0.0), m, X))
    ),
    "vmap": lambda f: bv.grad(lambda m: bv.jit(mapped(f))(m, XS).sum()),
    "vmap of vmap": lambda f: bv.grad(lambda m: mapped(mapped(f))(m, XS[None] + 1).sum()),
    "vmap of grad": lambda f: lambda m: mapped(bv.grad(f))(m, XS),
    "grad of grad": lambda f: bv.jit(
        bv.grad(lambda m: (bv.grad(bv.jit(f))(m, X).w ** 2).sum() + bv.grad(f, 1)(m, X).sum())
    ),
    "jacrev of grad": lambda f: bv.jit(bv.jacrev(lambda m: bv.grad(f)(m, X))),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_true_rules_change_nothing(name):
    want = PROGRAMS[name](call)(Smooth()).flat_state()
    for f in true_rules():
        got = PROGRAMS[name](f)(Smooth()).flat_state()
        assert got.keys() == want.keys()
        for path, g in got.items():
            np.testing.assert_allclose(g, want[path], rtol=1e-4, atol=1e-5)


def test_other_variables_are_constants():
    for f in (rule_of_vjp(model := Net()), rule_of_jvp(model)):
        with pytest.raises(TypeError, match="closes over a value that is being differentiated"):
            bv.grad(f, wrt=nn.BatchStat)(model, X)
    rule_only = bv.custom_jvp(lambda m, x: (m.w * x).sum())
    rule_only.defjvp(lambda p, t: (rule_only(*p), (t[0].w * p[1]).sum() * p[0].scale))
    by_w = bv.grad(rule_only)(model, X).w
    np.testing.assert_allclose(by_w, 10 * X, rtol=1e-6)
    assert float(bv.grad(rule_only, wrt=nn.BatchStat)(model, X).scale) == 0
