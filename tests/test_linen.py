"""`bevel.linen`: the same code under flax.linen gives the same variables and results."""

import functools

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import checkpoint, lax, linen, nn, optim, random

X = np.random.default_rng(0).normal(size=(2, 5, 6)).astype(np.float32)
IMAGE = np.random.default_rng(1).normal(size=(2, 8, 7, 4)).astype(np.float32)
INTS = np.array([[1, 2, 3], [0, 4, 9]], np.int32)
LENGTHS = np.array([3, 5], np.int32)


# -- models, written once for both -----------------------------------------------------------------


def stateless_models(linen):
    """Models with parameters alone, as users write them."""

    class MLP(linen.Module):
        features: tuple
        act: object = linen.relu

        @linen.compact
        def __call__(self, x):
            for n in self.features[:-1]:
                x = self.act(linen.Dense(n)(x))
            return linen.Dense(self.features[-1], name="last")(x)

    class Setup(linen.Module):
        width: int = 4

        def setup(self):
            self.first = linen.Dense(self.width)
            self.blocks = [MLP((self.width, self.width)) for _ in range(2)]
            self.by_name = {"a": linen.Dense(3), "b": linen.Dense(2)}
            self.scale = self.param("scale", linen.initializers.ones, (self.width,))

        def encode(self, x):
            return self.first(x) * self.scale

        def __call__(self, x):
            x = self.encode(x)
            for block in self.blocks:
                x = x + block(x)
            return self.by_name["b"](self.by_name["a"](x))

    class Shared(linen.Module):
        @linen.compact
        def __call__(self, x):
            layer = linen.Dense(x.shape[-1])
            return layer(layer(x)) + linen.Dense(1)(x)

    class Wrapper(linen.Module):
        inner: object
        others: object

        @linen.compact
        def __call__(self, x):
            x = self.inner(linen.Dense(5)(x))
            for layer in self.others:
                x = layer(x)
            return x

    shared = linen.Dense(5)
    return dict(
        mlp=MLP((8, 4, 3)),
        mlp_act=MLP((8, 3), linen.gelu),
        setup=Setup(),
        shared=Shared(),
        wrapper=Wrapper(MLP((4, 5)), (shared, linen.relu, shared, linen.Dense(2))),
        sequential=linen.Sequential([linen.Dense(4), linen.relu, MLP((3, 2))]),
    )


def other_models(linen):
    """Models with other variables, or that draw."""

    class Counter(linen.Module):
        @linen.compact
        def __call__(self, x):
            started = self.has_variable("counts", "n")
            n = self.variable("counts", "n", lambda: np.float32(0.0) + x[0, 0, 0] * 0)
            if started:
                n.value = n.value + 1.0
            self.sow("intermediates", "x", x)
            self.sow("intermediates", "x", x + 1)
            return x + n.value

    class Noisy(linen.Module):
        @linen.compact
        def __call__(self, x, deterministic=False):
            x = linen.Dense(4)(x)
            x = linen.Dropout(0.5)(x, deterministic=deterministic)
            return linen.Dropout(0.25, broadcast_dims=(1,))(x, deterministic=deterministic)

    class Norms(linen.Module):
        train: bool = True

        @linen.compact
        def __call__(self, x):
            x = linen.BatchNorm(use_running_average=not self.train, momentum=0.8)(x)
            return linen.Sequential([linen.Dense(4), linen.LayerNorm(), linen.tanh])(x)

    class Perturbed(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(2)(self.perturb("before", linen.Dense(3)(x)))

    return dict(
        counter=Counter(),
        noisy=Noisy(),
        norms=Norms(),
        norms_eval=Norms(train=False),
        perturbed=Perturbed(),
    )


def lifted_models(linen):
    """Models with transforms of classes."""

    class Block(linen.Module):
        width: int = 6
        rate: float = 0.3

        @linen.compact
        def __call__(self, x, scale, train):
            y = linen.Dense(self.width)(x)
            y = linen.BatchNorm(use_running_average=not train, momentum=0.9)(y) * scale
            self.sow("intermediates", "y", y)
            return x + linen.Dropout(self.rate, deterministic=not train)(y), y.mean()

    class Deep(linen.Module):
        rate: float = 0.0

        def setup(self):
            self.blocks = linen.scan(
                Block,
                variable_axes={"params": 0, "batch_stats": 0, "intermediates": 0},
                split_rngs={"params": True, "dropout": True},
                in_axes=(linen.broadcast, linen.broadcast),
                length=3,
            )(rate=self.rate)

        def __call__(self, x):
            return self.blocks(x, 2.0, True)

    class Again(linen.Module):
        @linen.compact
        def __call__(self, x):
            block = linen.remat(Block, static_argnums=(3,))
            return block()(x, 0.5, True)

    class Members(linen.Module):
        @linen.compact
        def __call__(self, x):
            own = linen.vmap(
                linen.Dense, variable_axes={"params": 1}, split_rngs={"params": True}, out_axes=1
            )
            same = linen.vmap(
                linen.Dense, variable_axes={"params": None}, split_rngs={"params": False}
            )
            return own(4)(x), same(4, name="same")(x)

    class Recurrent(linen.Module):
        @linen.compact
        def __call__(self, x):
            cell = linen.scan(
                linen.GRUCell,
                variable_broadcast="params",
                split_rngs={"params": False},
                in_axes=1,
                out_axes=1,
            )
            return cell(3)(x[:, 0, :3], x)

    return dict(deep=Deep(), again=Again(), members=Members(), recurrent=Recurrent())


def user_models(linen):
    return {**stateless_models(linen), **other_models(linen), **lifted_models(linen)}


def layers(linen):
    """Layers, and the inputs they are tried on."""
    lstm = functools.partial(linen.RNN, linen.LSTMCell(3))
    attention = linen.MultiHeadDotProductAttention
    return dict(
        dense=(linen.Dense(3, use_bias=False, kernel_init=linen.initializers.he_normal()), X),
        general=(linen.DenseGeneral((3, 2), axis=(-2, -1)), X),
        general_batch=(linen.DenseGeneral((3,), axis=-1, batch_dims=(0,)), X),
        einsum=(linen.Einsum((6, 4, 3), "bte,ehf->bhtf"), X),
        einsum_batch=(linen.Einsum((5, 6, 4), "bte,tef->btf", use_bias=False), X),
        conv=(linen.Conv(3, (3, 2), strides=2), IMAGE),
        conv_groups=(linen.Conv(4, (3, 3), padding="VALID", feature_group_count=2), IMAGE),
        conv_circular=(linen.Conv(2, (3,), padding="CIRCULAR", kernel_dilation=2), X),
        transpose=(linen.ConvTranspose(3, (3, 3), strides=(2, 2)), IMAGE),
        transpose_kernel=(linen.ConvTranspose(3, (2, 2), transpose_kernel=True), IMAGE),
        embed=(linen.Embed(10, 4), INTS),
        layer_norm=(linen.LayerNorm(epsilon=1e-3), X),
        layer_norm_axes=(linen.LayerNorm(reduction_axes=(1, 2), feature_axes=(1, 2)), X),
        rms_norm=(linen.RMSNorm(), X),
        group_norm=(linen.GroupNorm(num_groups=2), IMAGE),
        instance_norm=(linen.InstanceNorm(), IMAGE),
        batch_norm=(linen.BatchNorm(use_running_average=True), IMAGE),
        batch_norm_axis=(linen.BatchNorm(use_running_average=False, axis=1), IMAGE),
        prelu=(linen.PReLU(), X),
        attention=(attention(num_heads=2, qkv_features=8, out_features=3), X),
        attention_norm=(attention(num_heads=3, normalize_qk=True, use_bias=False), X),
        attention_name=(linen.MultiHeadAttention(num_heads=2), X),
        lstm=(lstm(), X),
        optimized_lstm=(linen.RNN(linen.OptimizedLSTMCell(3), reverse=True, keep_order=True), X),
        gru=(linen.RNN(linen.GRUCell(3), time_major=True, return_carry=True), X),
        simple=(linen.RNN(linen.SimpleCell(3), return_carry=True), X),
        both=(linen.Bidirectional(lstm(), linen.RNN(linen.GRUCell(2))), X),
    )


# -- the comparison --------------------------------------------------------------------------------

MUTABLE = ["batch_stats", "intermediates", "counts"]


def every(package):
    """All of them, with their inputs."""
    return {**{k: (m, X) for k, m in user_models(package).items()}, **layers(package)}


@functools.cache
def wanted():
    """By flax.linen in one program: the variables that `init` makes, and what `apply` gives."""
    jax = pytest.importorskip("jax")
    models = every(pytest.importorskip("flax.linen"))
    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}

    def run(inputs):
        made = {k: m.init(rngs, inputs[k]) for k, (m, _) in models.items()}
        call = lambda k, m: m.apply(made[k], inputs[k], rngs=rngs, mutable=MUTABLE)
        return made, {k: call(k, m) for k, (m, _) in models.items()}

    inputs = {k: x for k, (_, x) in models.items()}
    quick = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    return jax.tree.map(np.asarray, jax.jit(run).lower(inputs).compile(quick)(inputs))


def flat(tree):
    pairs = bv.tree.leaves_with_path(tree)
    return {bv.tree_util.keystr(path): np.asarray(leaf) for path, leaf in pairs}


def same(ours, theirs, tolerance=2e-5):
    ours, theirs = flat(ours), flat(theirs)
    assert {k: (v.shape, v.dtype) for k, v in ours.items()} == {
        k: (v.shape, v.dtype) for k, v in theirs.items()
    }
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, tolerance, tolerance, err_msg=name)


@pytest.mark.parametrize("name", list(every(linen)))
def test_variables_and_results_are_those_of_flax(name):
    made, results = wanted()
    model, x = every(linen)[name]
    rngs = {"params": random.key(0), "dropout": random.key(1)}
    same(model.init(rngs, x), made[name])
    given = bv.tree.map(bnp.asarray, made[name])
    same(model.apply(given, x, rngs=rngs, mutable=MUTABLE), results[name])


def test_recurrence_with_lengths():
    flax_linen = pytest.importorskip("flax.linen")
    theirs, ours = (p.RNN(p.GRUCell(3), return_carry=True) for p in (flax_linen, linen))
    variables = ours.init(random.key(0), X)
    raw = bv.tree.map(np.asarray, variables)
    options = dict(seq_lengths=LENGTHS, reverse=True)
    wanted = theirs.apply(raw, X, **options)
    # Of the steps that do not count, the outputs are anything.
    (carry, out), (their_carry, their_out) = ours.apply(variables, X, **options), wanted
    np.testing.assert_allclose(carry, their_carry, 1e-5, 1e-5)
    for i, n in enumerate(LENGTHS):
        np.testing.assert_allclose(out[i, :n], their_out[i, :n], 1e-5, 1e-5)


def test_decoding_step_by_step():
    ours = linen.MultiHeadDotProductAttention(2, decode=True, qkv_features=4)
    variables = ours.init(random.key(0), X)
    whole = linen.MultiHeadDotProductAttention(2, qkv_features=4).apply(
        {"params": variables["params"]}, X, mask=nn.make_causal_mask(bnp.ones(X.shape[:2]))
    )
    cache, steps = variables["cache"], []
    assert cache["cached_key"].shape == (2, 5, 2, 2)
    for i in range(X.shape[1]):
        y, changed = ours.apply(
            {"params": variables["params"], "cache": cache}, X[:, i : i + 1], mutable="cache"
        )
        cache = changed["cache"]
        steps.append(y)
    np.testing.assert_allclose(bnp.concatenate(steps, 1), whole, 1e-5, 1e-5)
    assert int(cache["cache_index"]) == 5
    full = {"params": variables["params"], "cache": cache}
    call = lambda v: ours.apply(v, X[:, :1], mutable="cache")[0]  # noqa: E731
    with pytest.raises(
        ValueError, match="cache of 5 positions is full(?s:.*)a new cache, from init"
    ):
        call(full)
    assert np.isnan(bv.jit(call)(full)).all()


# -- methods, rngs, mutability ---------------------------------------------------------------------


def test_methods():
    model = user_models(linen)["setup"]
    variables = model.init(random.key(0), X)
    wanted = (X @ variables["params"]["first"]["kernel"]) * variables["params"]["scale"]
    kind = type(model)
    for method in ("encode", kind.encode, model.encode, lambda m, x: m.first(x) * m.scale):
        np.testing.assert_allclose(model.apply(variables, X, method=method), wanted, 1e-5, 1e-5)
    only = model.init(random.key(0), X, method="encode")
    assert sorted(only["params"]) == ["first", "scale"]
    bound = model.bind(variables)
    np.testing.assert_allclose(bound.encode(X), wanted, 1e-5, 1e-5)
    assert bound.blocks[1].path == ("blocks_1",) and sorted(bound.first.variables) == ["params"]


def test_random_streams():
    model = user_models(linen)["noisy"]
    variables = model.init(random.key(0), X)
    draw = lambda seed: model.apply(variables, X, rngs={"dropout": random.key(seed)})
    np.testing.assert_array_equal(draw(0), draw(0))
    assert (draw(0) != draw(1)).any()
    with pytest.raises(ValueError, match=r'rngs=\{"dropout": random.key\(0\)\}'):
        model.apply(variables, X)
    model.apply(variables, X, deterministic=True)
    with pytest.raises(TypeError, match="starts from a key, not from int"):
        model.init(0, X)


def test_mutable():
    model = user_models(linen)["counter"]
    _, variables = model.init_with_output(random.key(0), X)
    assert sorted(variables) == ["counts"]
    with pytest.raises(ValueError, match="counts/n is written.*not mutable"):
        model.apply(variables, X)
    y, changed = model.apply(variables, X, mutable=True)
    assert float(changed["counts"]["n"]) == 1 and float(variables["counts"]["n"]) == 0
    assert len(changed["intermediates"]["x"]) == 2
    np.testing.assert_array_equal(y, X + 1)
    y, changed = model.apply({}, X, mutable=lambda name: name == "counts")
    assert sorted(changed) == ["counts"]


def test_capture_intermediates():
    model = user_models(linen)["mlp"]
    variables = model.init(random.key(0), X)
    y, kept = model.apply(variables, X, capture_intermediates=True, mutable="intermediates")
    kept = kept["intermediates"]
    assert kept["__call__"][0] is y and sorted(kept) == ["Dense_0", "Dense_1", "__call__", "last"]
    _, some = model.apply(
        variables,
        X,
        capture_intermediates=lambda m, name: m.name == "last",
        mutable="intermediates",
    )
    assert sorted(some["intermediates"]) == ["last"]


def test_initializing_and_fields():
    class Probe(linen.Module):
        width: int = 2
        seen: tuple = ()

        @linen.compact
        def __call__(self, x):
            return self.is_initializing(), self.width

    assert Probe().init_with_output(random.key(0), X) == ((True, 2), {})
    assert Probe(3).apply({}, X) == (False, 3)
    assert Probe().clone(width=7).width == 7
    assert Probe(1) == Probe(1) != Probe(2) and hash(Probe(1)) == hash(Probe(1))
    assert repr(Probe(1, name="p")) == "Probe(name='p', width=1, seen=())"


# -- transforms and training -----------------------------------------------------------------------


def test_training_under_jit(tmp_path):
    model = user_models(linen)["norms"]
    variables = bv.jit(model.init)(random.key(0), X)
    state = nn.TrainState.create(
        apply_fn=model.apply, params=variables["params"], tx=optim.adam(3e-2)
    )

    @bv.jit
    def step(state, stats, x):
        def loss(params):
            y, changed = state.apply_fn(
                {"params": params, "batch_stats": stats}, x, mutable=["batch_stats"]
            )
            return ((y - 0.5) ** 2).mean(), changed["batch_stats"]

        (value, stats), grads = bv.value_and_grad(loss, has_aux=True)(state.params)
        return state.apply_gradients(grads=grads), stats, value

    stats, losses = variables["batch_stats"], []
    for _ in range(30):
        state, stats, value = step(state, stats, X)
        losses.append(float(value))
    assert losses[-1] < 0.5 * losses[0]
    assert not np.allclose(stats["BatchNorm_0"]["mean"], 0)
    checkpoint.save(tmp_path / "a", state.params)
    same(checkpoint.restore(tmp_path / "a"), state.params)


def test_vmap_over_members():
    model = user_models(linen)["mlp"]
    members = bv.vmap(model.init, (0, None))(random.split(random.key(0), 3), X)
    ys = bv.vmap(model.apply, (0, None))(members, X)
    assert ys.shape == (3, 2, 5, 3)
    one = bv.tree.map(lambda v: v[1], members)
    np.testing.assert_allclose(ys[1], model.apply(one, X), 1e-5, 1e-5)


def test_gradient_by_perturbation():
    model = user_models(linen)["perturbed"]
    variables = model.init(random.key(0), X)
    grads = bv.grad(lambda v: (model.apply(v, X) ** 2).sum())(variables)
    y = model.apply(variables, X)
    wanted = 2 * y @ variables["params"]["Dense_0"]["kernel"].T
    np.testing.assert_allclose(grads["perturbations"]["before"], wanted, 1e-4, 1e-4)
    np.testing.assert_array_equal(model.apply({"params": variables["params"]}, X), y)


def test_scan_over_a_module():
    cell = linen.GRUCell(3)
    carry = cell.initialize_carry(random.key(0), X[:, 0].shape)
    variables = cell.init(random.key(0), carry, X[:, 0])
    step = lambda c, x: cell.apply(variables, c, x)
    _, ys = lax.scan(step, carry, bnp.moveaxis(X, 1, 0))
    rnn = linen.RNN(cell).apply({"params": {"cell": variables["params"]}}, X)
    np.testing.assert_allclose(bnp.moveaxis(ys, 0, 1), rnn, 1e-5, 1e-5)


def test_gradients_through_lifted_classes():
    params = lambda m: m.init(random.key(0), X)
    model = user_models(linen)["deep"]
    variables = params(model)
    rest = {k: v for k, v in variables.items() if k != "params"}

    def loss(p, apply):
        (y, means), _ = apply({"params": p, **rest}, X)
        return (y**2).sum() + means.sum()

    rngs = {"dropout": random.key(3)}
    scanned = functools.partial(model.apply, rngs=rngs, mutable=MUTABLE)
    found = bv.jit(bv.grad(lambda p: loss(p, scanned)))(variables["params"])
    eager = bv.grad(lambda p: loss(p, scanned))(variables["params"])
    same(found, eager, 1e-4)
    draw = lambda seed: model.clone(rate=0.5).apply(
        variables, X, rngs={"dropout": random.key(seed)}, mutable=MUTABLE
    )[0][0]
    assert (draw(0) == draw(0)).all() and (draw(0) != draw(1)).any()
    kernel = found["blocks"]["Dense_0"]["kernel"]
    assert kernel.shape == (3, 6, 6) and (np.abs(kernel).max((1, 2)) > 0).all()


def test_lifted_methods_and_what_cannot_be_lifted():
    class Two(linen.Module):
        def setup(self):
            self.dense = linen.Dense(3)

        def encode(self, x, flip=False):
            return self.dense(-x if flip else x)

        def __call__(self, x):
            return self.encode(x)

    model = linen.remat(Two, methods=["encode"])()
    variables = model.init(random.key(0), X)
    wanted = Two().apply(variables, X)
    np.testing.assert_allclose(model.apply(variables, X), wanted, 1e-6, 1e-6)
    flipped = model.apply(variables, X, flip=True, method="encode")
    np.testing.assert_allclose(flipped, Two().apply(variables, -X), 1e-6, 1e-6)
    with pytest.raises(TypeError, match="takes a class of modules"):
        linen.remat(Two())
    with pytest.raises(ValueError, match="no argument is mapped"):
        linen.scan(linen.Dense)(2).init(random.key(0), X)


# -- errors ----------------------------------------------------------------------------------------


def module(call, **members):
    """A module with this compact `__call__`."""
    body = {"__call__": linen.compact(call), "__annotations__": {}, **members}
    return type("Made", (linen.Module,), body)()


def test_unbound():
    with pytest.raises(RuntimeError, match=r"model.apply\(variables, x\)"):
        linen.Dense(2)(X)
    with pytest.raises(AttributeError, match="is there in init and apply only"):
        user_models(linen)["setup"].first  # noqa: B018


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda s, x: (s.param("a", lambda k: 1), s.param("a", lambda k: 2)), "'a' is used twice"),
        (lambda s, x: (linen.Dense(1, name="a")(x), linen.Dense(1, name="a")(x)), "used twice"),
        (lambda s, x: (s.param("a", lambda k: 1), linen.Dense(1, name="a")(x)), "used twice"),
    ],
)
def test_names_taken(call, text):
    with pytest.raises(ValueError, match=text):
        module(call).init(random.key(0), X)


def test_what_apply_was_not_given():
    model = user_models(linen)["mlp"]
    params = model.init(random.key(0), X)["params"]
    with pytest.raises(ValueError, match=r'model.apply\(\{"params": params\}, x\)'):
        model.apply(params, X)
    with pytest.raises(ValueError, match="there is no params/last/kernel; params/last has nothing"):
        model.apply({"params": {k: v for k, v in params.items() if k != "last"}}, X)
    with pytest.raises(ValueError, match=r"kernel has the shape \(6, 8\), and Dense asks for \(5"):
        model.apply({"params": params}, X[..., :5])
    with pytest.raises(TypeError, match="a dict of collections"):
        model.apply(params["last"], X)


def test_what_may_not_be_done():
    def sets(self, x):
        self.y = x

    with pytest.raises(AttributeError, match=r"set outside of setup\(\)"):
        module(sets).init(random.key(0), X)
    made = module(lambda s, x: x, helper=lambda self, x: linen.Dense(2)(x))
    with pytest.raises(RuntimeError, match="a Dense is made in a method of Made"):
        made.init(random.key(0), X, method="helper")
    made = module(lambda s, x: x, helper=lambda self, x: self.param("a", lambda k: 1))
    with pytest.raises(RuntimeError, match="the variable 'a' is made in a method of Made"):
        made.init(random.key(0), X, method="helper")
    with pytest.raises(ValueError, match="given to both"):
        linen.merge_param("train", True, False)
