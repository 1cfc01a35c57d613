"""Layers around layers, pooling, adapters; Flax is the oracle where installed."""

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import nn
from tests.peers import peer


def _params(nnx, module):
    return nn.State.from_flat_path(
        {p: np.asarray(v[...]) for p, v in nnx.to_flat_state(nnx.state(module, nnx.Param))}
    )


def test_bidirectional_equals_flax():
    nnx, jnp = peer("flax.nnx"), peer("jax.numpy")

    def both(lib):
        rngs = lib.Rngs(0)
        cells = [lib.GRUCell(3, 4, rngs=rngs), lib.LSTMCell(3, 5, rngs=rngs)]
        return lib.Bidirectional(*map(lib.RNN, cells), return_carry=True)

    ours, theirs = both(nn), both(nnx)
    nn.update(ours, _params(nnx, theirs))
    x = np.random.default_rng(0).normal(size=(2, 6, 3)).astype(np.float32)
    lengths = np.array([4, 6])
    carries, got = ours(x, seq_lengths=lengths)
    want_carries, want = theirs(jnp.asarray(x), seq_lengths=jnp.asarray(lengths))
    assert got.shape == (2, 6, 9)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    for a, b in zip(bv.tree.leaves(carries), bv.tree.leaves(want_carries), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert ours(x, return_carry=False).shape == (2, 6, 9)
    with pytest.raises(ValueError, match="one object"):
        nn.Bidirectional(ours.forward_rnn, ours.forward_rnn)


def test_prelu_equals_flax():
    nnx, jnp = peer("flax.nnx"), peer("jax.numpy")
    x = np.array([-2.0, -0.0, 3.0], np.float32)
    np.testing.assert_allclose(nn.PReLU(0.3)(x), nnx.PReLU(0.3)(jnp.asarray(x)), rtol=1e-6)
    assert nn.PReLU()(bnp.ones(3, bnp.bfloat16)).dtype == bnp.bfloat16
    grads = bv.grad(lambda m: m(x).sum())(nn.PReLU())
    assert float(grads.negative_slope) == -2.0


def test_weight_norm_equals_flax_and_is_trained():
    nnx, jnp = peer("flax.nnx"), peer("jax.numpy")
    ours = nn.WeightNorm(nn.Linear(5, 3, rngs=nn.Rngs(0)), rngs=nn.Rngs(1))
    theirs = nnx.WeightNorm(nnx.Linear(5, 3, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(1))
    x = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    kernel = np.asarray(ours.layer_instance.kernel.value)
    want = theirs(jnp.asarray(x))
    np.testing.assert_allclose(ours(x), want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(bv.jit(lambda m: m(x))(ours), want, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(ours.layer_instance.kernel, kernel)  # it stays what it was
    grads = bv.grad(lambda m: (m(x) ** 2).sum())(ours)
    g = grads.layer_instance.kernel
    np.testing.assert_allclose((g * kernel).sum(0), 0, atol=1e-4)  # the length does not matter
    assert grads.scales["kernel"].shape == (3,) and float(abs(grads.scales["kernel"]).min()) > 0
    whole = nn.WeightNorm(nn.Linear(5, 3, rngs=nn.Rngs(0)), feature_axes=None, rngs=nn.Rngs(1))
    got = whole(np.eye(5)) - whole.layer_instance.bias
    np.testing.assert_allclose((got**2).sum(), 1, rtol=1e-5)
    assert not nn.WeightNorm(nn.Linear(5, 3, rngs=nn.Rngs(0)), use_scale=False, rngs=None).scales


def test_spectral_norm_equals_flax_over_calls():
    nnx, jnp = peer("flax.nnx"), peer("jax.numpy")
    ours = nn.SpectralNorm(nn.Conv(2, 3, (3,), rngs=nn.Rngs(0)), rngs=nn.Rngs(1))
    theirs = nnx.SpectralNorm(nnx.Conv(2, 3, (3,), rngs=nnx.Rngs(0)), rngs=nnx.Rngs(1))
    x = np.random.default_rng(0).normal(size=(4, 7, 2)).astype(np.float32)
    kernel = theirs.layer_instance.kernel[...]
    for _ in range(3):
        theirs.layer_instance.kernel[...] = kernel  # a call of Flax's writes into it
        want = theirs(jnp.asarray(x))
        np.testing.assert_allclose(bv.jit(lambda m: m(x))(ours), want, rtol=1e-4, atol=1e-5)
    stats = ours.batch_stats["kernel"]
    theirs_u = theirs.batch_stats[("kernel", "u")][...]
    np.testing.assert_allclose(stats["u"], theirs_u, rtol=1e-4, atol=1e-5)
    before = nn.state(ours, nn.BatchStat)
    ours.eval()(x)
    ours.train()(x, update_stats=False)
    np.testing.assert_array_equal(before.batch_stats.kernel.u, stats["u"])
    assert set(bv.grad(lambda m: m(x).sum())(ours).flat_state()) == {
        ("layer_instance", "bias"),
        ("layer_instance", "kernel"),
    }
    with pytest.raises(ValueError, match="no matrix"):
        layer = nn.Conv(2, 3, (3,), rngs=nn.Rngs(0))
        nn.SpectralNorm(layer, error_on_non_matrix=True, rngs=nn.Rngs(0))


POOLS = {
    "max": ("max_pool", ((2, 3),), {}),
    "max strides": ("max_pool", ((2, 3), (2, 1), "SAME"), {}),
    "min": ("min_pool", ((2, 2),), {"padding": ((1, 0), (0, 2))}),
    "avg": ("avg_pool", ((2, 2), (2, 2)), {"padding": "SAME"}),
    "avg uncounted": ("avg_pool", ((3, 2), (2, 2), "SAME"), {"count_include_pad": False}),
}


def test_pooling_equals_flax():
    nnx, jax = peer("flax.nnx"), peer("jax")
    x = np.random.default_rng(0).normal(size=(2, 6, 5, 3)).astype(np.float32)
    for name, args, kwargs in POOLS.values():
        for inputs in (x, x[0]):
            options = dict(zip(("strides", "padding"), args[1:], strict=False)) | kwargs
            ours = lambda v, name=name, a=args[0], o=options: getattr(nn, name)(v, a, **o)  # noqa: E731
            theirs = lambda v, name=name, a=args[0], o=options: getattr(nnx, name)(v, a, **o)  # noqa: E731
            np.testing.assert_allclose(ours(inputs), theirs(inputs), rtol=1e-5, atol=1e-6)
        got = bv.jit(bv.grad(lambda v, f=ours: (f(v) ** 2).sum()))(x[0])
        want = jax.grad(lambda v, f=theirs: (f(v) ** 2).sum())(x[0])
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5, err_msg=name)
    assert nn.max_pool(bnp.ones((2, 3, 4, 4, 1)), (2, 2)).shape == (2, 3, 3, 3, 1)
    with pytest.raises(ValueError, match="do not fit"):
        nn.max_pool(x, (2, 2), (1,))
    with pytest.raises(ValueError, match="do not fit"):
        nn.pool(x[0, 0], 0.0, bv.lax.add, (2, 2), None, "VALID")


def test_errors_of_more_layers():
    rngs = nn.Rngs(0)
    with pytest.raises(ValueError, match="two operands"):
        nn.Einsum("ab,bc", (2, 3), rngs=rngs)
    with pytest.raises(ValueError, match="no equation"):
        nn.Einsum(None, (2, 3), rngs=rngs)(bnp.ones((4, 2)))
    assert nn.Einsum(None, (2, 3), rngs=rngs)(bnp.ones((4, 2)), "ab,bc->ac").shape == (4, 3)
    with pytest.raises(ValueError, match="does not divide"):
        nn.GroupNorm(8, 3, rngs=rngs)
    with pytest.raises(ValueError, match="either num_groups or group_size"):
        nn.GroupNorm(8, group_size=2, rngs=rngs)
    with pytest.raises(ValueError, match="first axis"):
        nn.InstanceNorm(3, feature_axes=(0, -1), rngs=rngs)(bnp.ones((3, 4, 3)))
    with pytest.raises(ValueError, match="cannot be called"):
        nn.LoRA(3, 2, 4, base_module=3, rngs=rngs)
    with pytest.raises(ValueError, match="ConvTranspose: (?s:.*)3 features"):
        nn.ConvTranspose(3, 4, (3,), rngs=rngs)(bnp.ones((2, 5, 2)))
    with pytest.raises(ValueError, match="ConvTranspose: \\(1, 2\\) does not fit"):
        nn.ConvTranspose(3, 4, (3,), (1, 2), rngs=rngs)(bnp.ones((2, 5, 3)))


def test_scaled_matmul():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 8)), rng.normal(size=(2, 5, 8))
    a_scales, b_scales = rng.uniform(1, 2, (2, 3, 4)), rng.uniform(1, 2, (2, 5, 2))
    low = [bnp.asarray(x, bnp.float8_e4m3fn) for x in (a, b)]
    wide = [np.asarray(x.astype("float32")) for x in low]
    want = np.einsum(
        "bmk,bnk->bmn", wide[0] * np.repeat(a_scales, 2, 2), wide[1] * np.repeat(b_scales, 4, 2)
    )
    np.testing.assert_allclose(
        nn.scaled_matmul(*low, a_scales, b_scales), want, rtol=1e-5, atol=1e-5
    )
    assert nn.scaled_matmul(*low, a_scales, b_scales, "bfloat16").dtype == bnp.bfloat16
    with pytest.raises(ValueError, match="do not fit"):
        nn.scaled_matmul(a, b, a_scales[:, :, :3], b_scales)
    with pytest.raises(ValueError, match="three axes"):
        nn.scaled_matmul(a[0], b, a_scales, b_scales)


def test_a_stable_standardize():
    jax = peer("jax")
    x = np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32) + 300
    got = nn.standardize(x, algorithm="stable")
    np.testing.assert_allclose(got, jax.nn.standardize(x, algorithm="stable"), rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="'fast' or 'stable'"):
        nn.standardize(x, algorithm="other")


def test_sequential_hands_on_streams():
    drop = nn.Sequential(nn.Dropout(0.5), lambda x: x * 2, nn.Dropout(0.0))
    ys = [drop(bnp.ones(40), rngs=nn.Rngs(dropout=i)) for i in (0, 0, 1)]
    np.testing.assert_array_equal(ys[0], ys[1])
    assert set(ys[0].tolist()) == {0.0, 4.0} and not np.array_equal(ys[0], ys[2])
