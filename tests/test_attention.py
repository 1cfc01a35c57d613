"""Attention: the function, its masks, and the layer with its cache; JAX and Flax are oracles."""

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import lax, nn, random
from tests.peers import peer

RNG = np.random.default_rng(0)
B, T, S, N, K, H = 2, 5, 7, 6, 2, 4
Q = RNG.normal(size=(B, T, N, H)).astype(np.float32)
KEY, VALUE = RNG.normal(size=(2, B, S, K, H)).astype(np.float32)
BIAS = RNG.normal(size=(B, N, T, S)).astype(np.float32)
MASK = RNG.random((B, 1, T, S)) < 0.7
LENGTHS = np.array([3, 5], np.int32), np.array([7, 2], np.int32)

CASES = {
    "plain": {},
    "bias": {"bias": BIAS},
    "bias of one head": {"bias": BIAS[:1, :1]},
    "mask": {"mask": MASK},
    "mask of heads": {"mask": np.broadcast_to(MASK, BIAS.shape)},
    "causal": {"is_causal": True, "scale": 0.3},
    "lengths": dict(zip(("query_seq_lengths", "key_value_seq_lengths"), LENGTHS, strict=True)),
    "window": {"local_window_size": 1},
    "uneven window": {"local_window_size": (2, 0), "is_causal": True, "mask": MASK},
    "residual": {"return_residual": True, "bias": BIAS},
}


@pytest.mark.parametrize("name", CASES)
def test_equals_jax(name):
    jax = peer("jax")
    options = CASES[name]

    def total(f):
        def loss(q, k, v):
            out = f(q, k, v, **options)
            out = out[0] if name == "residual" else out
            return (out**2).sum()

        return loss

    got = nn.dot_product_attention(Q, KEY, VALUE, **options)
    theirs = jax.nn.dot_product_attention
    want = theirs(Q, KEY, VALUE, **options)
    for a, b in zip(bv.tree.leaves(got), bv.tree.leaves(want), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    got = bv.jit(bv.grad(total(nn.dot_product_attention), (0, 1, 2)))(Q, KEY, VALUE)
    want = jax.jit(jax.grad(total(theirs), (0, 1, 2)))(Q, KEY, VALUE)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_shapes_dtypes_and_vmap():
    whole = nn.dot_product_attention(Q, KEY, VALUE, mask=MASK)
    one = nn.dot_product_attention(Q[0], KEY[0], VALUE[0], mask=MASK[0])
    np.testing.assert_allclose(one, whole[0], rtol=1e-5, atol=1e-6)
    rows = bv.vmap(lambda q, k, v, m: nn.dot_product_attention(q, k, v, mask=m))
    np.testing.assert_allclose(rows(Q, KEY, VALUE, MASK), whole, rtol=1e-5, atol=1e-6)
    more = nn.dot_product_attention(Q[None], KEY[None], VALUE[None])
    assert more.shape == (1, B, T, N, H)
    assert nn.dot_product_attention(Q, KEY, np.ones((B, S, K, 9))).shape == (B, T, N, 9)
    low = [bnp.asarray(x, bnp.bfloat16) for x in (Q, KEY, VALUE)]
    got = nn.dot_product_attention(*low)
    assert got.dtype == bnp.bfloat16
    exact = nn.dot_product_attention(Q, KEY, VALUE)
    np.testing.assert_allclose(got.astype(bnp.float32), exact, atol=0.05)
    assert nn.dot_product_attention(Q, KEY, VALUE, dtype="float16").dtype == np.float16
    numbers = nn.dot_product_attention(Q, KEY, VALUE, mask=MASK.astype(np.float32))
    np.testing.assert_allclose(numbers, whole, rtol=1e-6)
    nothing = nn.dot_product_attention(Q, KEY, VALUE, mask=np.zeros((1, 1, T, S), bool))
    np.testing.assert_allclose(nothing[0, 0, 0], VALUE[0, :, 0].mean(0), rtol=1e-4, atol=1e-5)


def test_dropout_and_weights_equal_flax():
    nnx, jax = peer("flax.nnx"), peer("jax")
    k, v = KEY[:, :, [0] * N], VALUE[:, :, [1] * N]
    for broadcast in (True, False):
        options = {"dropout_rate": 0.4, "broadcast_dropout": broadcast}
        got = nn.dot_product_attention(Q, k, v, dropout_rng=random.key(3), **options)
        want = nnx.dot_product_attention(
            *map(jax.numpy.asarray, (Q, k, v)), dropout_rng=jax.random.key(3), **options
        )
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    same = nn.dot_product_attention(Q, k, v, None, None, True, None, 0.4, True)
    np.testing.assert_allclose(same, nn.dot_product_attention(Q, k, v), rtol=1e-6)
    with pytest.raises(ValueError, match="without a random key"):
        nn.dot_product_attention(Q, k, v, dropout_rate=0.4)


def test_errors():
    with pytest.raises(ValueError, match="do not fit"):
        nn.dot_product_attention(Q, KEY[:, :, [0, 1, 1, 0]], VALUE[:, :, [0, 1, 1, 0]])
    with pytest.raises(ValueError, match="do not fit"):
        nn.dot_product_attention(Q, KEY[:1], VALUE)
    with pytest.raises(ValueError, match="None or 'xla'"):
        nn.dot_product_attention(Q, KEY, VALUE, implementation="cudnn")
    with pytest.raises(ValueError, match="one number of axes"):
        nn.combine_masks(MASK, MASK[0])


def test_masks_equal_flax():
    nnx, jnp = peer("flax.nnx"), peer("jax.numpy")
    a, b = np.array([[1, 1, 0], [1, 0, 0]]), np.array([[1, 0, 1, 0], [0, 1, 1, 1]])
    ja, jb = jnp.asarray(a), jnp.asarray(b)
    pairs = [
        (nn.make_attention_mask(a, b), nnx.make_attention_mask(ja, jb)),
        (
            nn.make_attention_mask(a, b, bnp.equal, 2, bool),
            nnx.make_attention_mask(ja, jb, jnp.equal, 2, bool),
        ),
        (nn.make_causal_mask(a, 1), nnx.make_causal_mask(ja, 1)),
        (nn.combine_masks(a, None, a[::-1]), nnx.combine_masks(ja, None, ja[::-1])),
    ]
    for got, want in pairs:
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)
    assert nn.combine_masks(None) is None


# -- the layer -------------------------------------------------------------------------------------

LAYERS = {
    "self": ((3, 6), {}),
    "sizes": ((2, 6, 8, 5), {"in_kv_features": 4, "use_bias": False}),
    "grouped": ((4, 6, 8), {"num_kv_heads": 2, "normalize_qk": True}),
}


def both(name, **more):
    nnx = peer("flax.nnx")
    args, kwargs = LAYERS[name]
    make = lambda lib: lib.MultiHeadAttention(  # noqa: E731
        *args, **{"decode": False} | kwargs | more, rngs=lib.Rngs(0, dropout=1)
    )
    ours, theirs = make(nn), make(nnx)
    flat = nnx.to_flat_state(nnx.state(theirs, nnx.Param))
    mine = nn.state(ours, nn.Param).flat_state()
    assert {p: v[...].shape for p, v in flat} == {p: v.shape for p, v in mine.items()}
    for path, v in flat:
        np.testing.assert_allclose(mine[path], v[...], rtol=1e-4, atol=1e-5, err_msg=str(path))
    return ours, theirs


@pytest.mark.parametrize("name", LAYERS)
def test_layer_equals_flax(name):
    jnp = peer("jax.numpy")
    ours, theirs = both(name)
    q = RNG.normal(size=(2, 5, 6)).astype(np.float32)
    kv = RNG.normal(size=(2, 7, ours.in_kv_features)).astype(np.float32)
    mask = RNG.random((2, 1, 5, 7)) < 0.7
    want = theirs(jnp.asarray(q), jnp.asarray(kv), mask=jnp.asarray(mask))
    np.testing.assert_allclose(ours(q, kv, mask=mask), want, rtol=1e-4, atol=1e-5)
    got = bv.jit(lambda m, q, kv: m(q, kv, mask=mask))(ours, q, kv)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    if ours.in_kv_features == 6:
        want = theirs(jnp.asarray(q), is_causal=True)
        np.testing.assert_allclose(ours(q, is_causal=True), want, rtol=1e-3, atol=1e-4)


def test_dropout_of_the_layer_equals_flax():
    jnp = peer("jax.numpy")
    ours, theirs = both("self", dropout_rate=0.5, deterministic=False)
    x = RNG.normal(size=(2, 5, 6)).astype(np.float32)
    for _ in range(2):
        np.testing.assert_allclose(ours(x), theirs(jnp.asarray(x)), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(ours.eval()(x), ours(x))
    with pytest.raises(ValueError, match="deterministic` was never set"):
        both("self", dropout_rate=0.5)[0](x)
    with pytest.raises(ValueError, match="no random stream"):
        both("self", dropout_rate=0.5, keep_rngs=False, deterministic=False)[0](x)


def test_decoding_step_by_step_equals_flax_and_the_whole_at_once():
    jnp = peer("jax.numpy")
    ours, theirs = both("grouped", decode=True)
    x = RNG.normal(size=(2, 4, 6)).astype(np.float32)
    whole = ours(x, decode=False, is_causal=True)
    with pytest.raises(ValueError, match="without a cache"):
        ours(x[:, :1])
    ours.init_cache(x.shape)
    theirs.init_cache(x.shape)
    step = bv.jit(lambda m, x: m(x))
    for i in range(4):
        got = step(ours, x[:, i : i + 1])
        want = theirs(jnp.asarray(x[:, i : i + 1]))
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(got[:, 0], whole[:, i], rtol=1e-4, atol=1e-5)
    assert step._cache_size() == 1 and int(ours.cache_index) == 4
    assert set(nn.state(ours, nn.Cache)) == {"cached_key", "cached_value", "cache_index"}
    with pytest.raises(ValueError, match="one position"):
        ours(x)
    with pytest.raises(ValueError, match="cache of 4 positions is full"):
        ours(x[:, :1])
    assert np.isnan(step(ours, x[:, :1])).all()  # which a compiled call cannot know beforehand
    ours.init_cache(x.shape)
    assert np.isfinite(step(ours, x[:, :1])).all() and step._cache_size() == 1
    more = bnp.concatenate([x, x[:, :2]], 1).transpose(1, 0, 2)[:, :, None]
    ours.init_cache(x.shape)
    rows = bv.jit(lambda m, xs: lax.scan(lambda m, x: (m, m(x)), m, xs)[1])(ours, more)
    np.testing.assert_array_equal(np.isnan(rows).any((1, 2, 3)), [False] * 4 + [True] * 2)
    np.testing.assert_allclose(rows[:4, :, 0].transpose(1, 0, 2), whole, rtol=1e-4, atol=1e-5)


def test_the_weights_are_shown():
    layer = nn.MultiHeadAttention(3, 6, rngs=nn.Rngs(0))
    x = RNG.normal(size=(2, 5, 6)).astype(np.float32)
    f = bv.jit(lambda m, x: nn.capture(lambda m: m(x, sow_weights=True), nn.Intermediate)(m))
    _, seen = f(layer, x)
    (weights,) = seen["attention_weights"]
    assert weights.shape == (2, 3, 5, 5)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
    with pytest.raises(ValueError, match="inputs_v is given"):
        layer(x, None, x)
    with pytest.raises(ValueError, match="num_heads=4 must divide"):
        nn.MultiHeadAttention(4, 6, rngs=nn.Rngs(0))
