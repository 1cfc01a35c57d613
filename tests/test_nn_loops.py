"""Modules as operands of branches and in the carry of loops."""

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import errors, lax, nn, optim

RNG = np.random.default_rng(0)
XS = RNG.normal(size=(4, 3)).astype(np.float32)


class Cell(nn.Module):
    """A recurrent step whose statistic is part of the result, so that state carries gradients."""

    def __init__(self, seed=0):
        self.linear = nn.Linear(3, 3, rngs=nn.Rngs(seed))
        self.mean = nn.BatchStat(bnp.zeros(3))
        self.calls = nn.Variable(0)

    def __call__(self, x):
        self.calls += 1
        self.mean.value = 0.9 * self.mean + 0.1 * x
        return bnp.tanh(self.linear(x) + self.mean)


def step(carry, x):
    model, h = carry["model"], carry["h"]
    h = model(h + x)
    return {"model": model, "h": h}, h.sum()


def by_scan(model, xs):
    carry, ys = lax.scan(step, {"model": model, "h": bnp.zeros(3)}, xs)
    assert carry["model"] is model
    return carry["h"], ys


def by_fori(model, xs):
    xs = bnp.asarray(xs)
    first = (model, bnp.zeros(3), bnp.zeros(len(xs)))

    def body(i, v):
        out, y = step({"model": v[0], "h": v[1]}, xs[i])
        return v[0], out["h"], v[2].at[i].set(y)

    model_out, h, ys = lax.fori_loop(0, len(xs), body, first)
    assert model_out is model
    return h, ys


def by_while(model, xs):
    xs = bnp.asarray(xs)

    def body(v):
        i, m, h, ys = v
        out, y = step({"model": m, "h": h}, xs[i])
        return i + 1, m, out["h"], ys.at[i].set(y)

    first = (0, model, bnp.zeros(3), bnp.zeros(len(xs)))
    test = lambda v: v[1].calls < len(xs)  # noqa: E731 (the condition reads the module)
    return lax.while_loop(test, body, first)[2:]


def by_hand(model, xs):
    h, ys = bnp.zeros(3), []
    for x in xs:
        h = model(h + x)
        ys.append(h.sum())
    return h, bnp.stack(ys)


@pytest.mark.parametrize("loop", [by_scan, by_fori, by_while])
def test_a_module_in_the_carry(loop):
    want = Cell()
    h, ys = by_hand(want, XS)
    for run in (loop, bv.jit(loop)):
        model = Cell()
        got = run(model, XS)
        np.testing.assert_allclose(got[0], h, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(got[1], ys, rtol=1e-5, atol=1e-6)
        assert int(model.calls) == 4
        np.testing.assert_allclose(model.mean, want.mean, rtol=1e-5, atol=1e-6)
    if loop is not by_while:
        loss = lambda run: lambda m: run(m, XS)[1].sum()  # noqa: E731
        expected = bv.grad(loss(by_hand))(Cell())
        for grad in (bv.grad(loss(loop)), bv.jit(bv.grad(loss(loop))), bv.grad(bv.jit(loss(loop)))):
            found = grad(model := Cell())
            np.testing.assert_allclose(found.linear.kernel, expected.linear.kernel, rtol=1e-4)
            assert int(model.calls) == 4
    tangent = bv.tree.map(bnp.ones_like, nn.state(Cell(), nn.Param))
    _, along = bv.jvp(lambda m: loop(m, XS)[0], (Cell(),), (tangent,))
    _, expected = bv.jvp(lambda m: by_hand(m, XS)[0], (Cell(),), (tangent,))
    np.testing.assert_allclose(along, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loop", [by_scan, by_fori])
def test_a_mapped_module_in_the_carry(loop):
    models = bv.vmap(Cell)(bnp.arange(2))
    run = bv.jit(bv.vmap(loop, in_axes=(0, None)))
    h, _ = run(models, XS)
    for i in range(2):
        single = Cell(i)
        np.testing.assert_allclose(h[i], by_hand(single, XS)[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(models.mean[i], single.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(models.calls, [4, 4])
    with pytest.raises(errors.StateError, match="BatchStat .*mean(?s:.*)every row has its own"):
        bv.vmap(loop, in_axes=(None, 0))(Cell(), bnp.stack([XS, 2 * XS]))


def test_shared_modules_in_the_carry():
    def twice(carry, x):
        a, b = carry
        assert a is b.inner
        return carry, b(a(x)).sum()

    def make():
        inner = Cell()
        outer = nn.Sequential(bnp.tanh)
        outer.inner = inner
        outer.layers = [inner, bnp.tanh]
        return inner, outer

    expected, (a, b) = [], make()
    for x in XS:
        expected.append(float(b(a(x)).sum()))
    for run in (lambda c: lax.scan(twice, c, XS)[1], bv.jit(lambda c: lax.scan(twice, c, XS)[1])):
        inner, outer = make()
        np.testing.assert_allclose(run((inner, outer)), expected, rtol=1e-5)
        assert int(inner.calls) == 8
    loss = lambda c: lax.scan(twice, c, XS)[1].sum()  # noqa: E731
    grads = bv.jit(bv.grad(loss))(make())
    wanted = bv.grad(lambda c: sum(c[1](c[0](x)).sum() for x in XS))(make())
    np.testing.assert_allclose(grads[0].linear.kernel, wanted[0].linear.kernel, rtol=1e-4)


def test_training_in_a_scan():
    def make():
        model = nn.Linear(3, 1, rngs=nn.Rngs(0))
        return model, nn.Optimizer(model, optim.adam(0.1))

    def train(carry, x):
        model, optimizer = carry
        loss, grads = bv.value_and_grad(lambda m: ((m(x) - 1) ** 2).mean())(model)
        optimizer.update(grads)
        return carry, loss

    model, optimizer = make()
    expected = [float(train((model, optimizer), x)[1]) for x in XS]
    again, other = make()
    losses = bv.jit(lambda c, xs: lax.scan(train, c, xs)[1])((again, other), XS)
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    np.testing.assert_allclose(again.kernel, model.kernel, rtol=1e-4)
    assert int(other.step) == len(XS)


def test_modules_as_operands_of_branches():
    expected = Cell()
    once = expected(XS[0])
    twice = expected(once)
    branches = [lambda m, x: x, lambda m, x: m(x), lambda m, x: m(m(x))]
    choose = lambda i, m, x: lax.switch(i, branches, m, x)  # noqa: E731
    decide = lambda p, m, x: lax.cond(p, branches[1], branches[0], m, x)  # noqa: E731
    for run, index, want, calls in (
        (choose, 0, XS[0], 0),
        (choose, 1, once, 1),
        (choose, 2, twice, 2),
        (decide, False, XS[0], 0),
        (decide, True, once, 1),
    ):
        for wrapped in (run, bv.jit(run)):
            model = Cell()
            np.testing.assert_allclose(wrapped(index, model, XS[0]), want, rtol=1e-5, atol=1e-6)
            assert int(model.calls) == calls
            assert np.any(model.mean) == (calls > 0)
    slope = bv.jit(lambda i, m: bv.grad(lambda m: choose(i, m, XS[0]).sum())(m))
    plain = bv.grad(lambda m: m(m(XS[0])).sum())(Cell())
    model = Cell()
    np.testing.assert_allclose(slope(2, model).linear.kernel, plain.linear.kernel, rtol=1e-4)
    assert int(model.calls) == 2
    assert not np.any(slope(0, model).linear.kernel)
    rows = bv.jit(bv.vmap(choose, in_axes=(0, 0, None)))
    models = bv.vmap(Cell)(bnp.zeros(3, int))
    got = rows(bnp.array([0, 1, 2]), models, XS[0])
    np.testing.assert_allclose(got, np.stack([XS[0], once, twice]), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(models.calls, [0, 1, 2])


def test_branches_return_modules_they_were_given():
    def both(p, pair, x):
        a, b = pair
        done = lax.cond(p, lambda a, b, x: (a, b(x)), lambda a, b, x: (a, a(x)), a, b, x)
        assert done[0] is a
        return done[1]

    expected = Cell(0)(XS[0]), Cell(1)(XS[0])
    for wrapped in (both, bv.jit(both)):
        for p in (False, True):
            pair = Cell(0), Cell(1)
            np.testing.assert_allclose(wrapped(p, pair, XS[0]), expected[p], rtol=1e-5, atol=1e-6)
            assert int(pair[p].calls) == 1 and int(pair[not p].calls) == 0
    model, other = Cell(), Cell()
    swap = lambda p: lax.cond(p, lambda a, b: (a, b), lambda a, b: (b, a), model, other)  # noqa: E731
    with pytest.raises(TypeError, match="return different modules(?s:.*)the same module, or none"):
        bv.jit(lambda p: swap(p)[0](XS[0]))(True)
    for made in (lambda a: Cell(), lambda a: other):
        with pytest.raises(TypeError, match="a result of cond is a Cell"):
            bv.jit(lambda p, made=made: lax.cond(p, made, lambda a: a, model)(XS[0]))(True)


def test_another_module_in_the_carry_is_refused():
    model = Cell()
    run = lambda f, c=model: lax.scan(lambda c, x: (f(c), None), c, XS)  # noqa: E731
    with pytest.raises(
        TypeError, match="the Cell it was given comes back as another one(?s:.*)at "
    ):
        run(lambda m: Cell())
    with pytest.raises(TypeError, match="comes back as Array(?s:.*)return the module"):
        run(lambda m: m(XS[0]))
    with pytest.raises(TypeError, match="comes back as Linear"):
        lax.fori_loop(0, 2, lambda i, m: m.linear, model)
    with pytest.raises(TypeError, match="comes back as another one"):
        lax.while_loop(lambda m: m.calls < 3, lambda m: nn.clone(m), model)
    with pytest.raises(TypeError, match="another one"):  # two that changed places
        run(lambda pair: pair[::-1], (Cell(), Cell()))
    with pytest.raises(TypeError, match="carry must keep its type, but the structures differ"):
        run(lambda c: {"m": c["m"]}, {"m": model, "x": 1.0})
    with pytest.raises(TypeError, match=r"carry\['x'\]: float32\[\] in, int32\[\] out"):
        run(lambda c: {"m": c["m"], "x": 1}, {"m": model, "x": bnp.float32(1.0)})
    with pytest.raises(TypeError, match="xs holds a module(?s:.*)nn.scan"):
        lax.scan(lambda c, m: (m(c), None), bnp.ones(3), model)
    with pytest.raises(errors.ParamMutationError, match="Param .*kernel is written"):

        def writes(m):
            m.linear.kernel.value = 2 * m.linear.kernel
            return m

        bv.grad(lambda m: run(writes, m)[0].linear.kernel.sum())(model)
