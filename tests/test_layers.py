"""Initializers, activations and layers; JAX and Flax are the oracles where installed."""

import functools

import ml_dtypes
import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import nn, random
from tests.peers import peer

# -- initializers and activations ------------------------------------------------------------------

INITIALIZERS = {
    "zeros_init": ((), (3, 4)),
    "ones_init": ((), (3, 4)),
    "constant": ((2.5,), (3, 4)),
    "uniform": ((0.5,), (3, 4)),
    "normal": ((0.5,), (3, 4)),
    "truncated_normal": ((0.5,), (3, 4)),
    "lecun_normal": ((), (3, 3, 4, 5)),
    "lecun_uniform": ((), (4, 5)),
    "glorot_normal": ((), (4, 5)),
    "glorot_uniform": ((), (4, 5)),
    "he_normal": ((), (4, 5)),
    "he_uniform": ((), (4, 5)),
    "orthogonal": ((), (3, 7)),
    "delta_orthogonal": ((), (3, 3, 4, 4)),
}


@pytest.mark.parametrize("name", INITIALIZERS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_initializers_equal_jax(name, dtype):
    jax, theirs = peer("jax"), peer("flax.nnx").initializers
    args, shape = INITIALIZERS[name]
    if name.endswith("orthogonal") and dtype == "bfloat16":
        pytest.skip("qr has no bfloat16")
    got = getattr(nn.initializers, name)(*args)(random.key(3), shape, dtype)
    want = getattr(theirs, name)(*args)(jax.random.key(3), shape, jax.numpy.dtype(dtype))
    assert got.dtype.name == dtype and got.shape == shape
    tol = 2e-5 if dtype == "float32" else 2e-2
    np.testing.assert_allclose(
        np.asarray(got, np.float32), np.asarray(want, np.float32), rtol=tol, atol=tol
    )


@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg", "fan_geo_avg"])
@pytest.mark.parametrize("distribution", ["normal", "truncated_normal", "uniform"])
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_variance_scaling(mode, distribution, dtype):
    init = nn.initializers.variance_scaling(2.0, mode, distribution)
    x = np.asarray(init(random.key(0), (200, 100), dtype))
    fan = {"fan_in": 200, "fan_out": 100, "fan_avg": 150, "fan_geo_avg": 20000**0.5}[mode]
    assert x.dtype == np.dtype(dtype)
    np.testing.assert_allclose(x.var() * fan, 2.0, rtol=0.05)


def test_initializer_errors():
    init = nn.initializers
    assert init.xavier_normal is init.glorot_normal and init.kaiming_uniform is init.he_uniform
    with pytest.raises(ValueError, match="at least 2 axes"):
        init.lecun_normal()(random.key(0), (3,))
    with pytest.raises(ValueError, match="mode"):
        init.variance_scaling(1.0, "fan", "normal")(random.key(0), (3, 3))
    with pytest.raises(ValueError, match="distribution"):
        init.variance_scaling(1.0, "fan_in", "cauchy")(random.key(0), (3, 3))
    with pytest.raises(ValueError, match="2 axes"):
        init.orthogonal()(random.key(0), (3,))
    with pytest.raises(ValueError, match="more inputs"):
        init.delta_orthogonal()(random.key(0), (3, 4, 2))


ELEMENTWISE = """
celu elu gelu hard_sigmoid hard_silu hard_tanh identity leaky_relu log_sigmoid mish relu relu6 selu
sigmoid silu soft_sign softplus sparse_plus sparse_sigmoid squareplus tanh
""".split()
POINTS = np.array(
    [-1000.0, -30.0, -3.0, -1.5, -1.0, -0.3, 0.0, 0.4, 1.0, 2.5, 3.5, 30.0, 1000.0], np.float32
)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_activations_and_their_derivatives_equal_jax(name):
    jax = peer("jax")
    ours, theirs = getattr(nn, name), getattr(jax.nn, name)
    np.testing.assert_allclose(ours(POINTS), theirs(POINTS), rtol=2e-5, atol=1e-6)
    got = bv.vmap(bv.grad(ours))(POINTS)
    want = jax.vmap(jax.grad(theirs))(POINTS)
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(bv.jit(ours)(POINTS), theirs(POINTS), rtol=2e-5, atol=1e-6)
    assert ours(bnp.asarray(POINTS, bnp.bfloat16)).dtype == ml_dtypes.bfloat16
    assert np.isnan(float(ours(float("nan"))))
    assert ours(bnp.zeros((0, 2))).shape == (0, 2)


def test_activations_over_an_axis_equal_jax():
    jax = peer("jax")
    x = np.random.default_rng(0).normal(size=(3, 4, 6)).astype(np.float32) * 5
    mask = np.random.default_rng(1).random(x.shape) < 0.7
    mask[..., 0] = True
    cases = [
        *[("softmax", k) for k in ({}, {"axis": 0}, {"axis": (1, 2)}, {"where": mask})],
        *[("log_softmax", k) for k in ({}, {"axis": 1}, {"where": mask})],
        *[("logsumexp", k) for k in ({}, {"axis": 1}, {"axis": (0, 2), "keepdims": True})],
        *[("logsumexp", {"axis": 2, "where": mask}), ("logmeanexp", {"axis": 1})],
        *[("glu", {}), ("glu", {"axis": 1}), ("gelu", {"approximate": False})],
        *[("standardize", {}), ("standardize", {"axis": 1, "where": mask})],
    ]
    for name, kwargs in cases:

        def squares(f, np_, kwargs=kwargs):
            def total(x):
                y = f(x, **kwargs)
                return (np_.where(np_.isfinite(y), y, 0.0) ** 2).sum()

            return total

        ours, theirs = (
            getattr(nn, name),
            jax.jit(functools.partial(getattr(jax.nn, name), **kwargs)),
        )
        what = f"{name} {kwargs}"
        np.testing.assert_allclose(ours(x, **kwargs), theirs(x), rtol=3e-5, atol=1e-6, err_msg=what)
        got = bv.grad(squares(ours, bnp))(x)
        want = jax.jit(jax.grad(squares(getattr(jax.nn, name), jax.numpy)))(x)
        np.testing.assert_allclose(got, want, rtol=3e-4, atol=1e-5, err_msg=what)
    b = np.array([1.0, -2.0, 0.5, 0.0, 3.0, 1.0], np.float32)
    for ours, theirs in zip(
        nn.logsumexp(x, 2, b=b, return_sign=True),
        jax.nn.logsumexp(x, 2, b=b, return_sign=True),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=3e-5)
    assert float(nn.logsumexp(bnp.array([-np.inf, -np.inf]))) == -np.inf
    assert float(nn.logsumexp(bnp.array([np.inf, 1.0]))) == np.inf
    assert np.isnan(float(nn.logsumexp(bnp.array([1.0, 2.0]), b=bnp.array([1.0, -1.0]))))
    with pytest.raises(ValueError, match="odd"):
        nn.glu(bnp.ones(3))


def test_one_hot():
    np.testing.assert_array_equal(
        nn.one_hot([0, 2, 5, -1], 3), [[1, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]]
    )
    np.testing.assert_array_equal(
        nn.one_hot([[0], [1]], 2, axis=0, dtype=bool)[:, 1, 0], [False, True]
    )
    assert nn.one_hot([[0], [1]], 2, axis=1).shape == (2, 2, 1)
    assert nn.one_hot(bnp.zeros(0, int), 3).shape == (0, 3)
    with pytest.raises(TypeError, match="integers"):
        nn.one_hot([0.5], 2)


# -- layers, against Flax --------------------------------------------------------------------------


def same_weights(ours, theirs, seed=0):
    """Random values into both, by Flax's paths; fails if the parameters have other names or
    shapes.
    """
    nnx = peer("flax.nnx")
    flat = dict(nnx.to_flat_state(nnx.state(theirs, nnx.All(nnx.Variable, nnx.Not(nnx.RngState)))))
    mine = nn.state(ours, nn.Not(nn.RngState)).flat_state()
    assert {p: v[...].shape for p, v in flat.items()} == {p: v.shape for p, v in mine.items()}
    rng = np.random.default_rng(seed)
    for path, v in sorted(flat.items(), key=str):
        x = np.abs(rng.normal(size=v[...].shape)).astype(np.float32)
        v[...] = peer("jax.numpy").asarray(x)
        nn.update(ours, nn.State.from_flat_path({path: bnp.asarray(x)}))
    nnx.update(theirs, nnx.from_flat_state(list(flat.items())))


MASK = np.tril(np.ones((3, 2, 2), np.float32))
BN = {"use_running_average": False}
CIRCULAR = {"padding": "CIRCULAR"}
CIRCULAR_T = {"padding": "CIRCULAR", "transpose_kernel": True}
DILATED = {"kernel_dilation": 2, "padding": ((1, 2),), "strides": 2}
# Class, arguments, keyword arguments, shape of the input; a cell runs in an RNN with the keywords.
LAYERS = {
    "linear": ("Linear", (3, 5), {}, (4, 3)),
    "linear without bias": ("Linear", (3, 5), {"use_bias": False}, (2, 4, 3)),
    "linear general": ("LinearGeneral", ((2, 3), (4, 5)), {"axis": (1, -1)}, (6, 2, 3)),
    "linear general batched": ("LinearGeneral", (3, 5), {"batch_axis": {0: 4}}, (4, 6, 3)),
    "conv": ("Conv", (2, 4, (3, 3)), {}, (2, 6, 5, 2)),
    "conv stride": ("Conv", (2, 4, (3,), 2), {"padding": "VALID"}, (2, 9, 2)),
    "conv groups": ("Conv", (4, 6, (3,)), {"feature_group_count": 2}, (2, 9, 4)),
    "conv dilation": ("Conv", (2, 4, (3,)), {"kernel_dilation": 2}, (2, 9, 2)),
    "conv input dilation": ("Conv", (2, 4, (3,)), {"padding": 1, "input_dilation": 2}, (2, 9, 2)),
    "conv circular": ("Conv", (2, 4, (4, 3)), {"padding": "CIRCULAR"}, (2, 6, 7, 2)),
    "conv reflect": ("Conv", (2, 4, (3, 3)), {"padding": "REFLECT"}, (2, 6, 7, 2)),
    "conv causal": ("Conv", (2, 4, 3), {"padding": "CAUSAL", "kernel_dilation": 2}, (2, 8, 2)),
    "conv padding": ("Conv", (2, 4, (3, 3)), {"padding": (1, (0, 2))}, (2, 6, 7, 2)),
    "conv no batch": ("Conv", (2, 4, (3,)), {}, (9, 2)),
    "conv batches": ("Conv", (2, 4, (3,)), {}, (2, 3, 9, 2)),
    "conv mask": ("Conv", (2, 2, (3,)), {"mask": MASK}, (2, 9, 2)),
    "conv transpose": ("ConvTranspose", (2, 4, (3, 3), 2), {}, (2, 6, 5, 2)),
    "conv transpose kernel": ("ConvTranspose", (2, 4, 3), {"transpose_kernel": True}, (9, 2)),
    "conv transpose valid": ("ConvTranspose", (2, 4, (4,), 3), {"padding": "VALID"}, (2, 9, 2)),
    "conv transpose circular": ("ConvTranspose", (2, 4, (5, 3), (2, 1)), CIRCULAR, (2, 3, 4, 2)),
    "conv transpose flipped": ("ConvTranspose", (2, 4, (4,), (3,)), CIRCULAR_T, (2, 5, 2)),
    "conv transpose dilation": ("ConvTranspose", (2, 4, (3,)), DILATED, (2, 3, 9, 2)),
    "einsum": ("Einsum", ("nta,hab->nthb", (4, 3, 2), (4, 2)), {}, (5, 6, 3)),
    "einsum dots": ("Einsum", ("...ta, ab -> ...tb", (3, 2), (2,)), {}, (2, 5, 6, 3)),
    "einsum no bias": ("Einsum", ("ab,bc->ca", (3, 2)), {}, (4, 3)),
    "group norm": ("GroupNorm", (6, 3), {}, (2, 4, 5, 6)),
    "group norm size": ("GroupNorm", (6, None, 3), {"use_bias": False}, (2, 6)),
    "group norm axes": ("GroupNorm", (6, 2), {"reduction_axes": (1, 2, 3)}, (2, 4, 5, 6)),
    "instance norm": ("InstanceNorm", (5,), {}, (2, 3, 4, 5)),
    "instance norm slow": ("InstanceNorm", (5,), {"use_fast_variance": False}, (2, 3, 5)),
    "lora": ("LoRA", (3, 2, 4), {}, (6, 3)),
    "lora linear": ("LoRALinear", (3, 4), {"lora_rank": 2}, (6, 3)),
    "layer norm": ("LayerNorm", (5,), {}, (4, 5)),
    "layer norm slow": ("LayerNorm", (5,), {"use_fast_variance": False}, (2, 4, 5)),
    "layer norm axes": ("LayerNorm", (5,), {"reduction_axes": (1, 2)}, (2, 4, 5)),
    "rms norm": ("RMSNorm", (5,), {}, (4, 5)),
    "batch norm": ("BatchNorm", (5,), BN, (4, 3, 5)),
    "batch norm axis": ("BatchNorm", (4,), {**BN, "axis": 0}, (4, 3, 5)),
    "batch norm running": ("BatchNorm", (5,), {"use_running_average": True}, (4, 5)),
    "dropout": ("Dropout", (0.4,), {}, (40, 5)),
    "dropout broadcast": ("Dropout", (0.4,), {"broadcast_dims": (1,)}, (40, 5)),
    "gru": ("GRUCell", (3, 4), {}, (2, 6, 3)),
    "lstm": ("LSTMCell", (3, 4), {"time_major": True}, (6, 2, 3)),
    "optimized lstm": ("OptimizedLSTMCell", (3, 4), {"reverse": True}, (2, 6, 3)),
    "simple": ("SimpleCell", (3, 4), {"reverse": True, "keep_order": True}, (2, 6, 3)),
}


def make(lib, name):
    """The layer of a row, of Bevel or Flax, and the shape of its input."""
    cls, args, kwargs, shape = LAYERS[name]
    rngs = lib.Rngs(params=0, dropout=1)
    if cls.endswith("Cell"):
        return lib.RNN(getattr(lib, cls)(*args, rngs=rngs), **kwargs), shape
    return getattr(lib, cls)(*args, **kwargs, rngs=rngs), shape


def _with_gradient(nnx):
    """Flax's result of a layer and the gradient of its mean square, as one program."""

    def loss(m, x):
        y = m(x)
        return (y**2).mean(), y

    def run(m, x):
        grads, y = nnx.grad(loss, has_aux=True)(m, x)
        return y, grads

    return nnx.jit(run)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_equal_flax(name):
    nnx, jnp = peer("flax.nnx"), peer("jax.numpy")
    (ours, shape), (theirs, _) = make(nn, name), make(nnx, name)
    same_weights(ours, theirs)
    x = np.random.default_rng(5).normal(size=shape).astype(np.float32)
    start = nn.clone(ours)

    run = nnx.jit(lambda m, x: m(x)) if name.startswith("dropout") else _with_gradient(nnx)
    want, grads = run(theirs, jnp.asarray(x)), None
    if isinstance(want, tuple):
        want, grads = want
    np.testing.assert_allclose(ours(x), want, rtol=3e-5, atol=3e-6)
    stats = nn.state(ours, nn.BatchStat).flat_state()
    for path, v in nnx.to_flat_state(nnx.state(theirs, nnx.BatchStat)):
        np.testing.assert_allclose(stats[path], v[...], rtol=1e-5, atol=1e-6, err_msg=str(path))
    compiled = nn.clone(start)
    np.testing.assert_allclose(bv.jit(lambda m, x: m(x))(compiled, x), want, rtol=3e-5, atol=3e-6)
    if grads is None:  # the stream of dropout has moved on
        return
    got = bv.grad(lambda m: (m(x) ** 2).mean())(start).flat_state()
    for path, v in nnx.to_flat_state(grads):
        np.testing.assert_allclose(got[path], v[...], rtol=2e-3, atol=2e-5, err_msg=str(path))


def test_initial_parameters_equal_flax():
    nnx = peer("flax.nnx")
    for name in (
        *("linear", "conv", "gru", "lstm", "linear general"),
        *("conv transpose", "einsum", "lora linear"),
    ):
        want = _params(nnx, make(nnx, name)[0]).flat_state()
        for path, x in nn.state(make(nn, name)[0], nn.Param).flat_state().items():
            np.testing.assert_allclose(
                x, want[path], rtol=1e-4, atol=1e-5, err_msg=f"{name} {path}"
            )


def test_embed_equals_flax():
    nnx, jnp = peer("flax.nnx"), peer("jax.numpy")
    ours, theirs = nn.Embed(7, 4, rngs=nn.Rngs(0)), nnx.Embed(7, 4, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(ours.embedding, theirs.embedding[...], rtol=1e-5)
    ids = np.array([[0, 6, 3], [-1, 2, 9]])
    np.testing.assert_allclose(ours(ids), theirs(jnp.asarray(ids)), rtol=1e-5)
    x = np.ones((2, 4), np.float32)
    np.testing.assert_allclose(ours.attend(x), theirs.attend(jnp.asarray(x)), rtol=1e-5)
    assert nn.Embed(1, 3, rngs=nn.Rngs(0))(ids).shape == (2, 3, 3)
    with pytest.raises(ValueError, match="integers"):
        ours(x)


@pytest.mark.parametrize("time_major", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", ["GRUCell", "LSTMCell"])
def test_rnn_with_lengths_equals_flax(cell, reverse, time_major):
    nnx, jnp = peer("flax.nnx"), peer("jax.numpy")
    options = dict(return_carry=True, reverse=reverse, keep_order=True, time_major=time_major)
    ours = nn.RNN(getattr(nn, cell)(3, 4, rngs=nn.Rngs(0)), **options)
    theirs = nnx.RNN(getattr(nnx, cell)(3, 4, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(0), **options)
    nn.update(ours, _params(nnx, theirs))
    x = (
        np.random.default_rng(0)
        .normal(size=(5, 2, 3) if time_major else (2, 5, 3))
        .astype(np.float32)
    )
    lengths = np.array([3, 5])
    carry, ys = ours(x, seq_lengths=lengths)
    want_carry, want = theirs(jnp.asarray(x), seq_lengths=jnp.asarray(lengths))
    np.testing.assert_allclose(ys, want, rtol=1e-4, atol=1e-5)
    for a, b in zip(bv.tree.leaves(carry), bv.tree.leaves(want_carry), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def _params(nnx, module):
    return nn.State.from_flat_path(
        {p: np.asarray(v[...]) for p, v in nnx.to_flat_state(nnx.state(module, nnx.Param))}
    )


def test_rnn_by_hand_and_state_inside():
    class Counting(nn.GRUCell):
        def __init__(self, *args, rngs):
            super().__init__(*args, rngs=rngs)
            self.steps = nn.Variable(0)

        def __call__(self, carry, x):
            self.steps += 1
            return super().__call__(carry, x)

    cell = Counting(3, 4, rngs=nn.Rngs(0))
    x = random.normal(random.key(0), (2, 5, 3))
    carry, ys = cell.initialize_carry((2, 3)), []
    for t in range(5):
        carry, y = cell(carry, x[:, t])
        ys.append(y)
    np.testing.assert_allclose(nn.RNN(cell)(x), bnp.stack(ys, 1), rtol=1e-5, atol=1e-6)
    assert int(cell.steps) == 10
    last, _ = nn.RNN(cell, return_carry=True)(x)
    np.testing.assert_allclose(last, carry, rtol=1e-5, atol=1e-6)
    start = cell.initialize_carry((2, 3), nn.Rngs(carry=1), nn.initializers.normal(1.0))
    assert float(abs(start).max()) > 0
    with pytest.raises(ValueError, match="random stream"):
        cell.initialize_carry((2, 3), carry_init=nn.initializers.normal(1.0))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_layers_compute_in_the_dtype_asked_for(dtype):
    x = bnp.ones((2, 4))
    rngs = nn.Rngs(0)
    for layer in (
        nn.Linear(4, 3, dtype=dtype, rngs=rngs),
        nn.LayerNorm(4, dtype=dtype, rngs=rngs),
        nn.RMSNorm(4, dtype=dtype, rngs=rngs),
        nn.BatchNorm(4, dtype=dtype, use_running_average=False, rngs=rngs),
    ):
        assert layer(x).dtype.name == dtype
        assert all(p.dtype == np.float32 for p in bv.tree.leaves(nn.state(layer)))
    assert nn.Linear(4, 3, param_dtype=dtype, rngs=rngs).kernel.dtype.name == dtype
    assert nn.Linear(4, 3, rngs=rngs)(bnp.ones((2, 4), int)).dtype == np.float32
    with pytest.raises(ValueError, match="floating"):
        nn.Linear(4, 3, dtype=int, rngs=rngs)(x)


def test_layers_of_empty_batches():
    rngs = nn.Rngs(0)
    assert nn.Linear(3, 2, rngs=rngs)(bnp.ones((0, 3))).shape == (0, 2)
    assert nn.Conv(1, 2, (3,), rngs=rngs)(bnp.ones((0, 5, 1))).shape == (0, 5, 2)
    assert nn.LayerNorm(3, rngs=rngs)(bnp.ones((0, 3))).shape == (0, 3)
    assert nn.Dropout(0.5, rngs=rngs)(bnp.ones((0, 3))).shape == (0, 3)


def test_layer_errors_name_the_layer_and_the_fix():
    rngs = nn.Rngs(0)
    with pytest.raises(
        ValueError, match=r"Linear: .*float32\[2,5\](?s:.*)test_layers(?s:.*)3 features"
    ):
        nn.Linear(3, 4, rngs=rngs)(bnp.ones((2, 5)))
    with pytest.raises(ValueError, match="LayerNorm"):
        nn.LayerNorm(3, rngs=rngs)(bnp.ones((2, 5)))
    with pytest.raises(ValueError, match=r"Conv: (?s:.*)3 features"):
        nn.Conv(3, 4, (3,), rngs=rngs)(bnp.ones((2, 5, 2)))
    with pytest.raises(ValueError, match="padding"):
        nn.Conv(3, 4, (3, 3), padding=[1], rngs=rngs)(bnp.ones((2, 5, 5, 3)))
    with pytest.raises(ValueError, match="use_running_average(?s:.*)model.train"):
        nn.BatchNorm(3, rngs=rngs)(bnp.ones((2, 3)))
    with pytest.raises(ValueError, match="`deterministic` was never set"):
        nn.Dropout(0.5, deterministic=None, rngs=rngs)(bnp.ones(3))
    with pytest.raises(ValueError, match="no random stream(?s:.*)rngs="):
        nn.Dropout(0.5)(bnp.ones(3))
    with pytest.raises(ValueError, match="between 0 and 1"):
        nn.Dropout(1.5)
    with pytest.raises(ValueError, match="groups"):
        nn.Conv(3, 4, (3,), feature_group_count=2, rngs=rngs)
    with pytest.raises(ValueError, match=r"mask of shape \(2, 2\)"):
        nn.Conv(3, 4, (3,), mask=np.ones((2, 2)), rngs=rngs)
    with pytest.raises(TypeError, match="item 1 is a int"):
        nn.Sequential(nn.relu, 3)


def test_dropout_edges():
    x = bnp.ones((2, 3), bnp.bfloat16)
    assert nn.Dropout(0.5, rngs=nn.Rngs(0))(x).dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(nn.Dropout(1.0)(bnp.ones(3)), [0, 0, 0])
    np.testing.assert_array_equal(nn.Dropout(0.0)(bnp.ones(3)), [1, 1, 1])
    drop = nn.Dropout(0.5, deterministic=True)
    np.testing.assert_array_equal(drop(bnp.ones(3)), [1, 1, 1])
    a = drop(bnp.ones(50), deterministic=False, rngs=random.key(0))
    b = drop(bnp.ones(50), deterministic=False, rngs=nn.Rngs(dropout=random.key(0)))
    assert not np.array_equal(a, b) and set(a.tolist()) == {0.0, 2.0}


def test_sequential_passes_tuples_and_dicts():
    model = nn.Sequential(lambda x: (x, 2.0), lambda x, y: {"a": x * y}, lambda a: a + 1)
    assert float(model(3.0)) == 7
    assert nn.Sequential()(5) == 5 and nn.Sequential()() is None
