"""Transforms of modules by kinds of variables: DiffState, StateAxes, scan, Stack, new modules."""

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import lax, nn, random
from tests.peers import peer

RNG = np.random.default_rng(0)


class Block(nn.Module):
    """A layer with all kinds of variables: parameters, statistics, a counter and a stream."""

    def __init__(self, n, rngs, rate=0.0):
        self.linear = nn.Linear(n, n, rngs=rngs)
        self.norm = nn.BatchNorm(n, use_running_average=False, rngs=rngs)
        self.drop = nn.Dropout(rate, rngs=rngs)
        self.calls = nn.Variable(0)

    def __call__(self, x):
        self.calls += 1
        return x + self.drop(bnp.tanh(self.norm(self.linear(x))))


# -- DiffState and wrt -----------------------------------------------------------------------------


def test_derivatives_in_some_variables():
    model = nn.LoRALinear(3, 2, lora_rank=2, rngs=nn.Rngs(0))
    x = RNG.normal(size=(4, 3)).astype(np.float32)
    loss = lambda m, x: (m(x) ** 2).sum()  # noqa: E731
    everything = bv.grad(loss)(model, x).flat_state()
    adapter = {p for p in everything if p[0] == "lora"}
    assert len(everything) == 4 and len(adapter) == 2
    ways = [
        bv.grad(loss, argnums=nn.DiffState(0, nn.LoRAParam)),
        bv.grad(loss, wrt=nn.LoRAParam),
        bv.grad(argnums=nn.DiffState(0, nn.PathContains("lora")))(loss),
        lambda *a: bv.value_and_grad(loss, argnums=nn.DiffState(0, nn.LoRAParam))(*a)[1],
        lambda *a: bv.value_and_grad(wrt=nn.LoRAParam)(loss)(*a)[1],
        bv.jit(bv.grad(loss, wrt=nn.LoRAParam)),
        lambda *a: bv.grad(loss, argnums=(nn.DiffState(0, nn.LoRAParam), 1))(*a)[0],
    ]
    for grad in ways:
        got = grad(model, x).flat_state()
        assert set(got) == adapter
        for path, g in got.items():
            np.testing.assert_allclose(g, everything[path], rtol=1e-5, atol=1e-6)
    by_model, by_x = bv.grad(loss, argnums=(nn.DiffState(0, "none"), 1))(model, x)
    assert not by_model and by_x.shape == x.shape
    count = Block(3, nn.Rngs(0))
    with pytest.raises(TypeError, match="int32"):
        bv.grad(loss, wrt=nn.Variable)(count, x)


def test_an_optimizer_of_some_variables():
    from bevel import optim

    model = nn.LoRALinear(3, 2, lora_rank=2, rngs=nn.Rngs(0))
    optimizer = nn.Optimizer(model, optim.sgd(0.1), wrt=nn.LoRAParam)
    kernel, b = np.asarray(model.kernel.value), np.asarray(model.lora.lora_b.value)
    grads = bv.grad(lambda m: m(bnp.ones((4, 3))).sum(), wrt=nn.LoRAParam)(model)
    optimizer.update(grads)
    np.testing.assert_array_equal(model.kernel, kernel)
    assert np.abs(model.lora.lora_b - b).max() > 0


def test_gradients_of_perturbations():
    class Net(nn.Module):
        def __init__(self):
            self.linear = nn.Linear(3, 3, rngs=nn.Rngs(0))

        def __call__(self, x):
            return self.perturb("hidden", self.linear(x)) ** 2

    model, x = Net(), bnp.ones(3)
    want = 2 * model.linear(x)
    model(x)  # makes the variable
    found = bv.grad(lambda m: m(x).sum(), wrt=nn.Perturbation)(model)
    np.testing.assert_allclose(found.hidden, want, rtol=1e-5)
    _, zeros = nn.capture(Net(), nn.Perturbation)(x)
    fresh = Net()
    total = lambda p: nn.capture(fresh, init=p)(x).sum()  # noqa: E731
    np.testing.assert_allclose(bv.jit(bv.grad(total))(zeros).hidden, want, rtol=1e-5)
    assert "hidden" not in vars(fresh)


# -- StateAxes -------------------------------------------------------------------------------------


def test_axes_by_kind():
    axes = nn.StateAxes({nn.Param: 0, nn.BatchStat: 1, ...: None})
    assert axes[nn.Param] == 0 and len(axes) == 3 and axes == nn.StateAxes(list(axes.items()))
    assert hash(axes) == hash(nn.StateAxes(dict(axes))) and axes.axes == (0, 1, None)
    model = Block(3, nn.Rngs(0))
    graphdef, params, stats, rest = nn.split(model, nn.Param, nn.BatchStat, ...)
    parts = [nn.merge(graphdef, params.map(lambda _, p, i=i: i * p), stats, rest) for i in (1, 2)]
    params = params.map(lambda _, p: bnp.stack([p, 2 * p]))
    model = nn.merge(graphdef, params, stats.map(lambda _, p: bnp.stack([p, p], 1)), rest)
    x = RNG.normal(size=(4, 3)).astype(np.float32)
    got = bv.jit(bv.vmap(lambda m, x: m(x), in_axes=(axes, None)))(model, x)
    for i, part in enumerate(parts):
        np.testing.assert_allclose(got[i], part(x), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(model.norm.mean[:, i], part.norm.mean, rtol=1e-5, atol=1e-6)
    assert model.norm.mean.shape == (3, 2) and int(model.calls) == 1
    with pytest.raises(ValueError, match="no axis for calls, a Variable"):
        bv.vmap(lambda m: m(x), in_axes=nn.StateAxes({nn.Param: 0, nn.BatchStat: 0}))(model)
    with pytest.raises(TypeError, match="stands for Array(?s:.*)holds no variables"):
        bv.vmap(lambda m: m, in_axes=axes)(bnp.ones(3))


def test_modules_made_under_vmap():
    rngs = nn.Rngs(0)
    keys = rngs.split(3)
    model = bv.vmap(lambda r: Block(2, r))(keys)
    assert model.linear.kernel.shape == (3, 2, 2) and model.calls.shape == (3,)
    assert type(model.linear.kernel) is nn.Param
    assert len({float(k[0, 0]) for k in model.linear.kernel.value}) == 3
    x = RNG.normal(size=(4, 2)).astype(np.float32)
    ys = bv.vmap(lambda m, x: m(x), in_axes=(0, None))(model, x)
    assert ys.shape == (3, 4, 2)
    np.testing.assert_array_equal(model.calls, [1, 1, 1])
    axes = nn.StateAxes({nn.Param: 1, nn.RngState: 0, ...: 0})
    made, rest = bv.vmap(lambda k: (Block(2, nn.Rngs(k)), bnp.sum(1.0)), out_axes=(axes, 0))(
        random.split(random.key(0), 3)
    )
    assert made.linear.kernel.shape == (2, 3, 2) and made.norm.mean.shape == (3, 2)
    assert rest.shape == (3,) and made.drop.rngs.key.shape == (3,)
    inside = bv.jit(lambda k: bv.vmap(lambda k: nn.Linear(2, 2, rngs=nn.Rngs(k)))(k)(bnp.ones(2)))
    with pytest.raises(
        TypeError, match="dot_general"
    ):  # stacked weights are no weights of one layer
        inside(random.split(random.key(0), 3))
    with pytest.raises(ValueError, match="out_axes=None differs"):
        bv.vmap(lambda k: Block(2, nn.Rngs(k)), out_axes=None)(random.split(random.key(0), 2))


def test_the_shape_of_a_model_that_was_not_made():
    abstract = bv.eval_shape(lambda: Block(3, nn.Rngs(0)))
    assert isinstance(abstract, Block)
    kernel = nn.state(abstract).linear.kernel
    assert kernel == bv.ShapeDtypeStruct((3, 3), "float32")
    key = abstract.drop.rngs.key.value
    assert key.shape == () and "key" in key.dtype.name
    real = Block(3, nn.Rngs(1))
    nn.update(abstract, nn.state(real))
    x = bnp.ones((2, 3))
    np.testing.assert_allclose(abstract(x), real(x), rtol=1e-6)
    pair = bv.eval_shape(lambda x: (x, nn.Linear(2, 3, rngs=nn.Rngs(0)), x + 1), x)
    assert pair[0].shape == (2, 3) and pair[1].bias.value.shape == (3,) and pair[2].shape == (2, 3)


# -- scan and Stack --------------------------------------------------------------------------------


def test_scan_over_layers_equals_a_loop_and_flax():
    nnx, jnp = peer("flax.nnx"), peer("jax.numpy")
    layers = bv.vmap(lambda r: Block(3, r))(nn.Rngs(0).split(4))
    x = RNG.normal(size=(5, 3)).astype(np.float32)
    graphdef, state = nn.split(layers)
    single = [nn.merge(graphdef, state.map(lambda _, v, i=i: v[i])) for i in range(4)]
    want, ys = x, []
    for layer in single:
        want = layer(want)
        ys.append(want.sum(0))

    def step(layer, x):
        y = layer(x)
        return y, y.sum(0)

    run = bv.jit(nn.scan(step, in_axes=(0, nn.Carry), out_axes=(nn.Carry, 1)))
    start = nn.clone(layers)
    got, sums = run(layers, x)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(sums, np.stack(ys, 1), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(layers.calls, [1, 1, 1, 1])
    for i, layer in enumerate(single):
        np.testing.assert_allclose(layers.norm.mean[i], layer.norm.mean, rtol=1e-4, atol=1e-6)
    grads = bv.jit(bv.grad(lambda m: (run(m, x)[0] ** 2).sum()))(start)

    theirs = nnx.vmap(lambda k: nnx.Linear(3, 3, rngs=nnx.Rngs(k)))(
        peer("jax").random.split(peer("jax").random.key(0), 4)
    )
    theirs.kernel[...] = jnp.asarray(layers.linear.kernel.value)
    oracle = nnx.scan(lambda m, x: jnp.tanh(m(x)), in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
    ours = nn.scan(in_axes=(0, nn.Carry), out_axes=nn.Carry)(lambda m, x: bnp.tanh(m.linear(x)))
    np.testing.assert_allclose(
        ours(layers, x), oracle(theirs, jnp.asarray(x)), rtol=1e-4, atol=1e-5
    )

    def by_hand(kernel):
        h = x
        for i in range(4):
            h = step(with_kernel(start, i, kernel), h)[0]
        return (h**2).sum()

    def with_kernel(m, i, kernel):
        graphdef, state = nn.split(m)
        part = nn.merge(graphdef, state.map(lambda _, v: v[i]))
        part.linear.kernel.value = kernel[i]
        return part

    want = bv.jit(bv.grad(by_hand))(start.linear.kernel.value)
    np.testing.assert_allclose(grads.linear.kernel, want, rtol=1e-3, atol=1e-4)


def test_scan_with_shared_and_carried_variables():
    model = Block(3, nn.Rngs(0))
    xs = RNG.normal(size=(4, 2, 3)).astype(np.float32)
    by_hand = nn.clone(model)
    want = bnp.stack([by_hand(x) for x in xs])
    for axes in (None, nn.Carry, nn.StateAxes({...: None})):
        m = nn.clone(model)
        got = nn.scan(lambda m, x: m(x), in_axes=(axes, 0), out_axes=0)(m, xs)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
        assert int(m.calls) == 4
        np.testing.assert_allclose(m.norm.mean, by_hand.norm.mean, rtol=1e-4, atol=1e-6)
    m = nn.clone(model)
    m.calls.value = bnp.arange(4)
    axes = nn.StateAxes({nn.OfType(nn.Param): None, nn.PathContains("calls"): 0, ...: None})
    nn.scan(lambda m, x: m(x), in_axes=(axes, 0), out_axes=0, reverse=True)(m, xs)
    np.testing.assert_array_equal(m.calls, [1, 2, 3, 4])
    total = nn.scan(lambda c, d: c + d["x"] * d["k"], in_axes=(nn.Carry, {"x": 1, "k": None}),
                    out_axes=nn.Carry)  # fmt: skip
    xs = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    np.testing.assert_allclose(total(bnp.zeros(2), {"x": xs, "k": 2.0}), 2 * xs.sum(1))
    with pytest.raises(ValueError, match="all Carry"):
        nn.scan(lambda a, b: a, in_axes=nn.Carry)(1.0, 2.0)
    with pytest.raises(TypeError, match="out_axes(?s:.*)returned"):
        nn.scan(lambda c, x: c)(0.0, bnp.ones(3))
    with pytest.raises(ValueError, match="one each"):
        nn.scan(lambda c, x: (c, x), in_axes=(nn.Carry,))(0.0, bnp.ones(3))


@pytest.mark.parametrize("remat", [False, True])
def test_stack_equals_its_layers(remat):
    model = nn.Stack(Block, 3, 4, rngs=nn.Rngs(0, dropout=1), rate=0.3, remat=remat)
    assert len(model) == 3 and model and model.layer.linear.kernel.shape == (3, 4, 4)
    x = RNG.normal(size=(5, 4)).astype(np.float32)
    layers = [model[i] for i in range(3)]
    start = nn.clone(model)
    want = x
    for layer in layers:
        want = layer(want)
    run = bv.jit(lambda m, x: m(x))
    np.testing.assert_allclose(run(model, x), want, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(model.layer.calls, [1, 1, 1])
    run(start_over := nn.clone(start), x)
    run(start_over, x)
    assert run._cache_size() == 1
    assert len(set(map(int, model.layer.drop.rngs.count.value))) == 1
    for i, layer in enumerate(layers):
        np.testing.assert_allclose(model.layer.norm.var[i], layer.norm.var, rtol=1e-4, atol=1e-6)
    grads = bv.jit(bv.grad(lambda m: (m(x) ** 2).sum()))(nn.clone(start))

    def by_hand(kernels):
        h = x
        for i in range(3):
            layer = start[i]
            layer.linear.kernel.value = kernels[i]
            h = layer(h)
        return (h**2).sum()

    want = bv.jit(bv.grad(by_hand))(start.layer.linear.kernel.value)
    np.testing.assert_allclose(grads.layer.linear.kernel, want, rtol=1e-3, atol=1e-4)


def test_a_stack_is_traced_once_whatever_its_depth():
    calls = []

    class Noisy(nn.Linear):
        def __call__(self, x):
            calls.append(1)
            return super().__call__(x)

    for n in (2, 50):
        calls.clear()
        model = nn.Stack(Noisy, n, 3, 3, rngs=nn.Rngs(0))
        graph = bv.make_graph(model)(bnp.ones(3))
        assert len(calls) <= 2 and len(graph.eqns) < 20
    with pytest.raises(ValueError, match="positive"):
        nn.Stack(nn.Linear, 0, 3, 3, rngs=nn.Rngs(0))
    with pytest.raises(TypeError, match="carry"):
        nn.Stack(nn.Linear, 2, 3, 4, rngs=nn.Rngs(0))(bnp.ones(3))


def test_names_of_flax_are_bevels_own():
    for name in "jit grad value_and_grad vmap jvp vjp custom_vjp remat eval_shape".split():
        assert getattr(nn, name) is getattr(bv, name)
    for name in "cond switch while_loop fori_loop".split():
        assert getattr(nn, name) is getattr(lax, name)
