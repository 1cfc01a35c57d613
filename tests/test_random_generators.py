"""Generators beside Threefry: `philox` by its published answers, `rbg` by JAX's bits."""

import pickle

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import random
from bevel.ops.bits import philox_rounds

OTHERS = ["philox", "rbg", "unsafe_rbg"]
ALL = ["threefry2x32", *OTHERS]


def words_of(*words):
    return [np.uint64(w) for w in words]


def block(counter, key):
    return [int(w) for w in philox_rounds(words_of(*counter), words_of(*key))]


def test_known_answers_of_philox():
    # Random123's kat_vectors: philox4x32, 10 rounds (Salmon et al. 2011).
    ones = 0xFFFFFFFF
    pi = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0)
    for counter, key, answer in [
        ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ones,) * 4, (ones,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (pi[:4], pi[4:], (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
    ]:
        assert block(counter, key) == list(answer)


def test_philox_draws_are_blocks():
    words = (0x9ABCDEF0, 0x12345678)
    key = random.wrap_key_data(np.array(words, np.uint32), impl="philox")
    with random.allow_key_reuse():
        drawn = random.bits(key, (3, 3)).reshape(-1).tolist()
        assert drawn == [w for i in range(3) for w in block((i, 0, 0, 0), words)][:9]
        wide = random.bits(key, (3,), "uint64").tolist()
        assert wide == [a | b << 32 for a, b in zip(drawn[:6:2], drawn[1:6:2], strict=True)]
        assert random.bits(key, (5,), "uint8").tolist() == [w & 255 for w in drawn[:5]]
        children = random.key_data(random.split(key, 3)).tolist()
        assert children == [block((i, 0, 0, 1), words)[:2] for i in range(3)]
    assert random.key_data(random.fold_in(key, 7)).tolist() == block((7, 0, 0, 2), words)[:2]
    zero = random.wrap_key_data(np.zeros(2, np.uint32), impl="philox")
    assert random.bits(zero, (4,)).tolist() == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
def test_rbg_is_jaxs(impl):
    jax = pytest.importorskip("jax")
    for seed in (0, 42, -5, 2**31 - 1):
        key, theirs = random.key(seed, impl=impl), jax.random.key(seed, impl=impl)
        assert random.key_data(key).tolist() == jax.random.key_data(theirs).tolist()

    def draws(r, k, data):
        return (
            data(r.split(k, 3)),
            data(r.split(k, (2, 2))),
            data(r.fold_in(k, 7)),
            *[r.bits(k, (3, 5), d) for d in ("uint8", "uint16", "uint32")],
            r.uniform(k, (7,)),
            r.randint(k, (5,), -3, 100),
            r.permutation(k, 9),
            r.bernoulli(k, 0.3, (9,)),
            r.normal(k, (4, 2)),
            r.gamma(k, 2.0, (3,)),
        )

    def compare(found, wanted):
        for a, b in zip(found, wanted, strict=True):
            assert a.shape == b.shape and a.dtype == b.dtype
            if a.dtype == np.float32:
                np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=2e-5, atol=1e-6)
            else:
                np.testing.assert_array_equal(np.asarray(a), np.asarray(b))

    wanted = draws(jax.random, theirs, jax.random.key_data)
    with random.allow_key_reuse():
        compare(draws(random, key, random.key_data), wanted)
        compare(bv.jit(lambda k: draws(random, k, random.key_data))(key), wanted)


@pytest.mark.parametrize("impl", OTHERS)
def test_eager_compiled_and_mapped_agree(impl):
    def one(key):
        a, b = random.split(key)
        c = random.fold_in(a, 5)
        return random.bits(b, (3,)), random.uniform(c, (2,)), random.key_data(c)

    n = 11 if impl == "rbg" else 3
    keys = random.split(random.key(3, impl=impl), n)
    assert keys.shape == (n,) and random.key_impl(keys) == impl
    with random.allow_key_reuse():
        loop = [bnp.stack(v) for v in zip(*[one(k) for k in keys], strict=True)]
        mapped, compiled = bv.vmap(one)(keys), bv.jit(bv.vmap(one))(keys)
    for a, b, c in zip(loop, mapped, compiled, strict=True):
        assert a.tolist() == b.tolist() == c.tolist()


@pytest.mark.parametrize("impl", OTHERS)
def test_draws_have_their_moments(impl):
    a, b, c = random.split(random.key(1, impl=impl), 3)
    x = np.asarray(random.normal(a, (20000,)))
    assert abs(x.mean()) < 0.04 and abs(x.std() - 1) < 0.03
    n = np.asarray(random.poisson(b, 4.0, (2000,)))
    assert abs(n.mean() - 4) < 0.3
    assert len(set(random.permutation(c, 50).tolist())) == 50


def test_keys_keep_their_generator():
    for impl in ALL:
        key = random.key(7, impl=impl)
        assert key.dtype == random.key_dtype(impl) and str(key.dtype) == f"key<{impl}>"
        assert key.dtype.itemsize == random.key_data(key).nbytes
        assert random.key_impl(random.split(key, 2)[1]) == impl
        assert random.key_impl(random.fold_in(key, 3)) == impl
        assert random.key_impl(random.key(0, dtype=key.dtype)) == impl
        assert random.key_impl(bv.jit(lambda k: random.fold_in(k, 1))(key)) == impl
        again = random.wrap_key_data(random.key_data(key), impl=impl)
        assert bool(again == key) and bool(pickle.loads(pickle.dumps(key)) == key)
        stacked = bnp.stack([key, again]).reshape(2, 1).T
        assert stacked.shape == (1, 2) and random.key_impl(bnp.broadcast_to(key, (3,))) == impl
        assert bv.eval_shape(lambda k: random.normal(k, (3,)), key).shape == (3,)
    # The generator in force is the key's, also after a draw inside which another one was used.
    first = random.uniform(random.key(0), (2,)).tolist()
    random.normal(random.key(0, impl="rbg"), (2,))
    assert random.uniform(random.key(0), (2,)).tolist() == first


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="threefry2x32, rbg, unsafe_rbg, philox"):
        random.key(0, impl="mt19937")
    with pytest.raises(TypeError, match="size 4"):
        random.wrap_key_data(np.zeros(2, np.uint32), impl="rbg")
    with pytest.raises(TypeError, match="give one"):
        random.key(0, impl="rbg", dtype=random.key_dtype("rbg"))
    with pytest.raises(TypeError, match="different generators"):
        bnp.stack([random.key(0), random.key(0, impl="philox")])


def test_float_bounds_are_cut():
    jax = pytest.importorskip("jax")
    for low, high in [(0.5, 3.2), (np.float32(-2.7), 9), (np.array([1.5, 2.0], np.float32), 7.9)]:
        want = jax.random.randint(jax.random.key(1), (3, 2), low, high)
        assert random.randint(random.key(1), (3, 2), low, high).tolist() == want.tolist()
