"""Mixed precision: policies, loss scaling, and the states that training code carries."""

import ml_dtypes
import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import lax, nn, optim, random

RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 5)).astype(np.float32)
Y = np.tanh(X[:, :1] - X[:, 1:2])
F16 = nn.Policy("float32", "float16", "float32")


# -- Policy ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("params=float32,compute=bfloat16,output=float32", ("float32", "bfloat16", "float32")),
        ("p=f32, c=f16, o=f32", ("float32", "float16", "float32")),
        ("c=f16", ("float32", "float16", "float16")),
        ("p=bf16", ("bfloat16", "bfloat16", "bfloat16")),
        ("p=f16,c=bf16", ("float16", "bfloat16", "bfloat16")),
        ("half", ("float16",) * 3),
        ("full", ("float32",) * 3),
        ("float64", ("float64",) * 3),
    ],
)
def test_parse(text, wanted):
    policy = nn.Policy.parse(text)
    names = (policy.param_dtype.name, policy.compute_dtype.name, policy.output_dtype.name)
    assert names == wanted
    assert nn.Policy.parse(str(policy)) == policy and hash(policy) == hash(nn.Policy(*wanted))


def test_what_is_no_policy():
    with pytest.raises(ValueError, match="'weights' in 'weights=f16' is not params"):
        nn.Policy.parse("weights=f16")
    with pytest.raises(ValueError, match="compute_dtype is a floating dtype, not int32"):
        nn.Policy("float32", "int32", "float32")
    with pytest.raises(TypeError):
        nn.Policy.parse("nothing")


def test_casts_of_a_pytree():
    tree = {
        "f": bnp.array([1.5, 1e6]),
        "n": np.arange(3),
        "b": [bnp.array(True), 2.5, None],
        "numpy": np.float64(0.1),
        "bf": bnp.ones(2, bnp.bfloat16),
        "key": random.key(0),
    }
    half = F16.cast_to_compute(tree)
    assert half["f"].dtype == half["numpy"].dtype == half["bf"].dtype == bnp.float16
    assert np.isinf(half["f"][1]) and half["n"] is tree["n"] and half["key"] is tree["key"]
    assert half["b"][0] is tree["b"][0] and half["b"][1:] == [2.5, None]
    assert F16.cast_to_output(half)["f"].dtype == F16.cast_to_param(half)["f"].dtype == bnp.float32
    assert F16.with_output_dtype("bf16").output_dtype == ml_dtypes.bfloat16


class Net(nn.Module):
    """Every kind of variable that a training step may change."""

    def __init__(self, rngs):
        self.layers = [nn.Linear(5, 8, rngs=rngs), nn.Linear(8, 8, rngs=rngs)]
        self.tied = self.layers[1]
        self.norm = nn.BatchNorm(8, use_running_average=False, rngs=rngs)
        self.drop = nn.Dropout(0.5, rngs=rngs)
        self.steps = nn.Variable(0)

    def __call__(self, x):
        self.steps += 1
        for layer in self.layers:
            x = layer(x)
        return self.drop(self.norm(self.tied(x)))


def test_casts_of_a_module():
    model = Net(nn.Rngs(0))
    half = F16.cast_to_compute(model)
    assert type(half) is Net and half.tied is half.layers[1] and half.norm.mean is model.norm.mean
    assert {p.dtype.name for p in bv.tree.leaves(nn.state(half, nn.Param))} == {"float16"}
    assert {p.dtype.name for p in bv.tree.leaves(nn.state(model, nn.Param))} == {"float32"}
    assert half.layers[0](F16.cast_to_compute(X)).dtype == bnp.float16
    before = np.asarray(model.norm.mean)

    @bv.jit
    def grads(model, x):
        def loss(model):
            half, inputs = F16.cast_to_compute((model, x))
            return (F16.cast_to_output(half(inputs)) ** 2).mean()

        return bv.grad(loss)(model)

    found = grads(model, X)
    assert {g.dtype.name for g in bv.tree.leaves(found)} == {"float32"}
    assert all(np.isfinite(g).all() for g in bv.tree.leaves(found))
    # What the cast module wrote is the module's.
    assert int(model.steps) == 1 and int(model.drop.rngs.count) == 1
    assert (np.asarray(model.norm.mean) != before).all()


def test_gradients_of_a_cast_module_are_those_of_the_model():
    model = nn.Linear(5, 2, rngs=nn.Rngs(0))
    bf16 = nn.Policy.parse("c=bf16,o=f32")
    loss = lambda m, x: (bf16.cast_to_output(m(x)) ** 2).sum()
    mixed = bv.grad(lambda m: loss(*bf16.cast_to_compute((m, X))))(model)
    wanted = bv.grad(lambda m: loss(m, X))(model)
    for a, b in zip(bv.tree.leaves(mixed), bv.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=0.1, atol=0.3)


# -- loss scaling ----------------------------------------------------------------------------------


def mlp():
    rngs = nn.Rngs(0)
    return nn.Sequential(nn.Linear(5, 16, rngs=rngs), nn.tanh, nn.Linear(16, 1, rngs=rngs))


def half_loss(model, x, y):
    model, inputs = F16.cast_to_compute((model, x))
    return ((F16.cast_to_output(model(inputs)) - y) ** 2).mean()


def test_scaling_saves_what_underflows():
    model = mlp()
    tiny = lambda m: half_loss(m, X, Y) * 1e-7
    wanted = bv.grad(lambda m: half_loss(m, X, Y))(model)
    lost = bv.grad(tiny)(model)
    assert all((np.asarray(g) == 0).all() for g in bv.tree.leaves(lost))
    scaler = nn.LossScaler(optim.StaticLossScale(1e7))
    saved = bv.grad(lambda m: scaler.scale(tiny(m)))(model)
    for a, b in zip(bv.tree.leaves(saved), bv.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-3)


def test_a_number_is_no_loss_scale():
    with pytest.raises(TypeError, match=r"optim.DynamicLossScale\(2.0\*\*15\)"):
        nn.LossScaler(2.0**15)


def test_a_float16_model_trains_with_state_in_cells():
    model = mlp()
    optimizer = nn.Optimizer(model, optim.adam(2e-2))
    scaler = nn.LossScaler(optim.DynamicLossScale(2.0**24, period=10))
    traces = []

    @bv.jit
    def step(model, optimizer, scaler, x, y):
        traces.append(1)

        def loss(model):
            value = half_loss(model, x, y)
            return scaler.scale(value), value

        grads, value = bv.grad(loss, has_aux=True)(model)
        return value, scaler.step(optimizer, grads)

    start = np.asarray(model.layers[0].kernel)
    value, finite = step(model, optimizer, scaler, X, Y)
    assert not finite and int(optimizer.step) == 0
    np.testing.assert_array_equal(model.layers[0].kernel, start)
    assert float(scaler.loss_scale.loss_scale) == 2.0**23
    losses, good = [float(value)], 0
    for _ in range(80):
        value, finite = step(model, optimizer, scaler, X, Y)
        losses.append(float(value))
        good += bool(finite)
    assert len(traces) == 1
    assert good == int(optimizer.step) and 50 < good < 80
    assert losses[-1] < 0.1 * losses[0] and np.isfinite(losses).all()
    assert 2.0**8 < float(scaler.loss_scale.loss_scale) < 2.0**23
    assert model.layers[0].kernel.dtype == bnp.float32


def test_a_float16_model_trains_functionally():
    graph, params = nn.split(mlp())
    scale = bv.tree.map(bnp.asarray, optim.DynamicLossScale(bnp.float32(2.0**24), period=10))
    state = nn.TrainState.create(
        apply_fn=lambda p, x: nn.merge(graph, p)(x), params=params, tx=optim.adam(2e-2)
    )

    @bv.jit
    def step(state, scale, x, y):
        def loss(params):
            half, inputs = F16.cast_to_compute((params, x))
            out = F16.cast_to_output(state.apply_fn(half, inputs))
            value = ((out - y) ** 2).mean()
            return scale.scale(value), value

        grads, value = bv.grad(loss, has_aux=True)(state.params)
        grads = scale.unscale(grads)
        finite = optim.all_finite(grads)
        new = state.apply_gradients(grads=grads)
        return optim.select_tree(finite, new, state), scale.adjust(finite), value

    losses = []
    for _ in range(80):
        state, scale, value = step(state, scale, X, Y)
        losses.append(float(value))
    assert losses[-1] < 0.1 * losses[0] and np.isfinite(losses).all()
    assert 50 < int(state.step) < 80 and 2.0**8 < float(scale.loss_scale) < 2.0**23


def test_eager_steps_are_the_jitted_ones():
    def run(wrap):
        model = mlp()
        optimizer = nn.Optimizer(model, optim.sgd(0.1))
        scaler = nn.LossScaler(optim.DynamicLossScale(2.0**18))

        def step(model, optimizer, scaler):
            grads = bv.grad(lambda m: scaler.scale(half_loss(m, X, Y)))(model)
            return scaler.step(optimizer, grads)

        step = wrap(step)
        finite = [bool(step(model, optimizer, scaler)) for _ in range(6)]
        return finite, nn.state((model, scaler))

    (eager, first), (jitted, second) = run(lambda f: f), run(bv.jit)
    assert eager == jitted and len(set(eager)) == 2
    for a, b in zip(bv.tree.leaves(first), bv.tree.leaves(second), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-3)


def test_a_branch_may_write_several_matrices():
    """A cell compares as an array, so lists of cells must not be searched."""
    cells = [bv.ref(bnp.zeros((2, 3))) for _ in range(3)]

    @bv.jit
    def step(pred):
        def write():
            for i, cell in enumerate(cells):
                cell[...] += i + 1

        lax.cond(pred, write, lambda: None)
        lax.fori_loop(0, 2, lambda i, c: (write(), c)[1], 0)

    for pred, wanted in ((False, [2, 4, 6]), (True, [5, 10, 15])):
        step(pred)
        assert [float(c[0, 0]) for c in cells] == wanted


# -- EarlyStopping ---------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"patience": 2}, {"min_delta": 0.5, "patience": 1}])
def test_early_stopping_is_that_of_flax(options):
    theirs = pytest.importorskip("flax.training.early_stopping").EarlyStopping(**options)
    ours, jitted = nn.EarlyStopping(**options), nn.EarlyStopping(**options)
    update = bv.jit(lambda s, m: s.update(m))
    for metric in (4.0, 3.0, 3.0, 3.4, 2.0, 2.0, 1.9, 2.1, 2.0, 0.5, 0.6):
        theirs, ours, jitted = theirs.update(metric), ours.update(metric), update(jitted, metric)
        for name in ("best_metric", "patience_count", "should_stop", "has_improved"):
            wanted = np.float32(getattr(theirs, name))
            assert wanted == getattr(ours, name) == getattr(jitted, name), name
    fresh = ours.reset()
    assert (fresh.patience, fresh.best_metric, fresh.should_stop) == (ours.patience, np.inf, False)


def test_early_stopping_passes_over_nan():
    stop = nn.EarlyStopping(patience=1)
    for metric, improved in ((np.nan, False), (2.0, True), (np.nan, False), (1.0, True)):
        stop = stop.update(metric)
        assert bool(stop.has_improved) == improved and not stop.should_stop
    assert float(stop.best_metric) == 1


# -- TrainState ------------------------------------------------------------------------------------


def test_train_state_is_that_of_flax():
    theirs_state = pytest.importorskip("flax.training.train_state").TrainState
    import jax.numpy as jnp
    import optax

    params = {"w": X[:4], "b": {"c": X[0]}}
    ours = nn.TrainState.create(
        apply_fn=len, params=bv.tree.map(bnp.asarray, params), tx=optim.adam(0.1)
    )
    theirs = theirs_state.create(apply_fn=len, params=params, tx=optax.adam(0.1))
    for i in range(3):
        grads = {"w": X[:4] * i, "b": {"c": X[1]}}
        ours = ours.apply_gradients(grads=bv.tree.map(bnp.asarray, grads))
        theirs = theirs.apply_gradients(grads=bv.tree.map(jnp.asarray, grads))
    assert int(ours.step) == theirs.step == 3
    for a, b in (
        (ours.params["w"], theirs.params["w"]),
        (ours.params["b"]["c"], theirs.params["b"]["c"]),
    ):
        np.testing.assert_allclose(a, b, 1e-5, 1e-6)


def test_a_train_state_with_more_fields():
    class State(nn.TrainState):
        batch_stats: dict
        name: str = bv.tree.static(default="run")

    state = State.create(
        apply_fn=len, params={"w": bnp.ones(2)}, tx=optim.sgd(1.0), batch_stats={"m": bnp.zeros(1)}
    )
    step = bv.jit(
        lambda s: s.apply_gradients(
            grads={"w": bnp.ones(2)}, batch_stats={"m": s.batch_stats["m"] + 1}
        )
    )
    after = step(step(state))
    assert type(after) is State and after.name == "run" and after.apply_fn is len
    assert float(after.params["w"][0]) == -1 and float(after.batch_stats["m"][0]) == 2
    with pytest.raises(TypeError, match="batch_stats"):
        State.create(apply_fn=len, params={"w": bnp.ones(2)}, tx=optim.sgd(1.0))
