"""Random keys and draws: JAX's numbers on every path, no key consumed twice in silence."""

from __future__ import annotations

import inspect
import subprocess
import sys
import warnings

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import lax, nn, random
from bevel.core.source import source_of

LAM = np.array([0.0, 0.3, 5.0, 30.0, 1e4, np.nan], np.float32)
COV = np.array([[2.0, 0.5], [0.5, 1.0]], np.float32)
MEAN = np.array([1.0, -1.0], np.float32)

# Name, arguments after the key, tolerance (None: exact), mean and standard deviation of many draws.
DRAWS = [
    ("bits", ((7,),), None, None),
    ("bits", ((7,), "uint8"), None, None),
    ("bits", ((7,), "uint16"), None, None),
    ("bits", ((3, 200),), None, None),
    ("uniform", ((20000,),), None, (0.5, 12**-0.5)),
    ("uniform", ((0, 3),), None, None),
    ("uniform", (), None, None),
    ("uniform", ((3, 4), "float16"), None, None),
    ("uniform", ((3, 400), "bfloat16"), None, None),
    ("uniform", ((3, 4), None, -2.0, 5.0), 2e-6, None),
    ("uniform", ((2, 3), None, np.arange(3.0), np.arange(3.0) + 2), 2e-6, None),
    ("normal", ((20000,),), 5e-6, (0, 1)),
    ("normal", ((), "float16"), 5e-3, None),
    ("normal", ((300,), "bfloat16"), 5e-2, None),
    ("normal", ((5,), "complex64"), 5e-6, None),
    ("truncated_normal", (-1.0, np.array([0.5, 3.0]), (4, 2)), 1e-5, None),
    ("truncated_normal", (-2.0, 2.0, (20000,)), 1e-5, (0, 0.8796)),
    ("bernoulli", (0.3, (20000,)), None, (0.3, 0.21**0.5)),
    ("bernoulli", (np.array([0.1, 0.9]), (5, 2), "high"), None, None),
    ("bernoulli", (), None, None),
    ("rademacher", ((20000,),), None, (0, 1)),
    ("rademacher", ((5,), "float32"), None, None),
    ("randint", ((20000,), 3, 9), None, (5.5, (35 / 12) ** 0.5)),
    ("randint", ((50,), -(2**31), 2**31 - 1), None, None),
    ("randint", ((50,), 7, 3), None, None),
    ("randint", ((50,), 0, 256, "uint8"), None, None),
    ("randint", ((50,), -128, 128, "int8"), None, None),
    ("randint", ((50,), 0, 60000, "uint16"), None, None),
    ("randint", ((50,), 0, 2**31 - 1, "uint32"), None, None),
    ("randint", ((4, 2), np.array([0, 3], np.int32), np.array([9, 300], np.int32)), None, None),
    ("randint", ((4, 2), np.array([0, 3], np.int32), 2**31 - 1), None, None),
    ("exponential", ((20000,),), 5e-6, (1, 1)),
    ("cauchy", ((20,),), 1e-4, None),
    ("laplace", ((20000,),), 1e-5, (0, 2**0.5)),
    ("logistic", ((20000,),), 1e-5, (0, np.pi / 3**0.5)),
    ("gumbel", ((20000,),), 1e-5, (0.5772, np.pi / 6**0.5)),
    ("gumbel", ((20,), None, "high"), 1e-5, None),
    ("maxwell", ((20000,),), 1e-5, (1.5958, 0.6734)),
    ("double_sided_maxwell", (1.0, 2.0, (5,)), 1e-5, None),
    ("weibull_min", (2.0, 3.0, (20000,)), 1e-5, (1.7860, 0.6491)),
    ("pareto", (np.array([2.0, 5.0]), (3, 2)), 1e-5, None),
    ("rayleigh", (np.array([2.0, 1.0], np.float32), (3, 2)), 1e-5, None),
    ("wald", (np.array([2.0, 1.0], np.float32), (3, 2)), 1e-4, None),
    ("lognormal", (0.5, (5,)), 1e-5, None),
    ("triangular", (0.0, 1.0, 3.0, (20000,)), 1e-5, (4 / 3, 0.6236)),
    ("gamma", (np.array([0.01, 0.5, 1.0, 3.0, 100.0], np.float32), (40, 5)), 1e-4, None),
    ("gamma", (3.0, (4000,)), 1e-4, (3, 3**0.5)),
    ("loggamma", (np.array([0.001, 0.5, 3.0], np.float32), (40, 3)), 1e-4, None),
    ("beta", (2.0, 3.0, (4000,)), 1e-4, (0.4, 0.2)),
    ("dirichlet", (np.array([0.2, 1.0, 3.0], np.float32), (5,)), 1e-4, None),
    ("chisquare", (np.array([1.0, 4.0], np.float32), (5, 2)), 1e-4, None),
    ("t", (3.0, (20,)), 1e-4, None),
    ("f", (3.0, 5.0, (20,)), 1e-4, None),
    ("generalized_normal", (1.5, (20,)), 1e-4, None),
    ("ball", (3, 2, (20,)), 1e-4, None),
    ("poisson", (LAM, (40, 6)), None, None),
    ("poisson", (4.0, (4000,)), None, (4, 2)),
    ("poisson", (50.0, (4000,)), None, (50, 50**0.5)),
    ("binomial", (10.0, 0.3, (4000,)), None, (3, 2.1**0.5)),
    ("binomial", (np.array([1000.0, np.inf, 20.0], np.float32), 0.7, (40, 3)), None, None),
    ("binomial", (20.0, np.array([0.0, 0.01, 0.99, -1.0, np.nan], np.float32)), None, None),
    ("multinomial", (20.0, np.array([0.2, 0.3, 0.5], np.float32)), None, None),
    ("geometric", (0.3, (4000,)), None, (1 / 0.3, 0.7**0.5 / 0.3)),
    ("multivariate_normal", (MEAN, COV, (5,)), 1e-5, None),
    ("multivariate_normal", (MEAN, COV), 1e-5, None),
    ("orthogonal", (3, (2,)), 1e-4, None),
    ("orthogonal", (2, (), None, 4), 1e-4, None),
    ("orthogonal", (3, (), "complex64"), 1e-4, None),
    ("permutation", (10,), None, None),
    ("permutation", (np.arange(12, dtype=np.float32).reshape(4, 3),), None, None),
    ("permutation", (np.arange(12).reshape(4, 3), 1, True), None, None),
    ("choice", (10, (4, 2)), None, None),
    ("choice", (np.arange(10), (4,), False), None, None),
    ("choice", (np.arange(12).reshape(3, 4), (2,), False, None, 1), None, None),
    ("choice", (4, (20,), True, np.array([0.1, 0.2, 0.3, 0.4], np.float32)), None, None),
    ("choice", (4, (3,), False, np.array([0.1, 0.2, 0.3, 0.4], np.float32)), None, None),
    ("choice", (4, (0,)), None, None),
    ("categorical", (np.array([[0.0, 1.0, 2.0], [2.0, 0.0, 0.0]], np.float32),), None, None),
    ("categorical", (np.arange(6, dtype=np.float32).reshape(2, 3), 0, (5, 3)), None, None),
    ("categorical", (np.arange(6, dtype=np.float32).reshape(2, 3), -1, (3, 2), False), None, None),
]
IDS = [f"{name}-{i}" for i, (name, *_) in enumerate(DRAWS)]
ONCE = [i for i, row in enumerate(DRAWS) if row[0] not in {r[0] for r in DRAWS[:i]}]
"""The first row of each sampler: for what costs a compile each and does not depend on the row."""

SAMPLERS = [
    n
    for n in random.__all__
    if inspect.isfunction(getattr(random, n))
    and "key" in inspect.signature(getattr(random, n)).parameters
    and n not in ("fold_in", "clone", "split")
]


def draw(name, args, key):
    return getattr(random, name)(key, *args)


def close(found, expected, tol):
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape and found.dtype == expected.dtype
    if tol is None:
        np.testing.assert_array_equal(found, expected)
    else:
        wide = np.complex128 if found.dtype.kind == "c" else np.float64
        np.testing.assert_allclose(found.astype(wide), expected.astype(wide), rtol=tol, atol=tol)


def test_every_sampler_is_in_the_table():
    assert set(SAMPLERS) - {"shuffle"} == {name for name, *_ in DRAWS}


@pytest.mark.parametrize("name, args, tol, moments", DRAWS, ids=IDS)
def test_draws_equal_jax(name, args, tol, moments):
    jax = pytest.importorskip("jax")
    if args and args[0] is LAM:
        args = (LAM[:5], (40, 5))  # JAX's loop does not end for NaN
    ours = draw(name, args, random.key(7))
    if name == "multinomial":
        theirs = jax.random.multinomial(jax.random.key(7), *args)
    else:
        theirs = getattr(jax.random, name)(jax.random.key(7), *args)
    if name == "poisson" and args[0] is not LAM and np.ndim(args[0]):
        # A rejected proposal hangs on the last bit of a logarithm: few differ.
        assert np.mean(np.asarray(ours) != np.asarray(theirs)) < 0.02
        return
    close(ours, theirs, tol)


@pytest.mark.parametrize("row", ONCE, ids=[IDS[i] for i in ONCE])
def test_jit_gives_the_eager_draws(row):
    name, args, tol, _ = DRAWS[row]
    eager = draw(name, args, random.key(11))
    compiled = bv.jit(lambda key: draw(name, args, key))(random.key(11))
    if tol is None and name in ("poisson", "binomial", "multinomial"):
        np.testing.assert_array_equal(np.isnan(eager), np.isnan(compiled))
        assert np.mean(~np.isclose(eager, compiled, equal_nan=True)) < 0.02
        return
    close(compiled, eager, None if tol is None else max(tol, 1e-5))


@pytest.mark.parametrize("row", ONCE, ids=[IDS[i] for i in ONCE])
def test_vmap_over_keys_is_a_loop(row):
    name, args, tol, _ = DRAWS[row]
    if name == "uniform" and args and args[0] == (20000,):
        args = ((20,),)
    keys = random.split(random.key(13), 3)
    mapped = bv.vmap(lambda key: draw(name, args, key))(keys)
    rows = [draw(name, args, random.clone(keys[i])) for i in range(3)]
    for i, row in enumerate(rows):
        if name in ("poisson", "binomial", "multinomial"):
            assert np.mean(~np.isclose(mapped[i], row, equal_nan=True)) < 0.02
        else:
            close(mapped[i], row, None if tol is None else max(tol, 1e-5))


@pytest.mark.parametrize(
    "name, args, moments",
    [(n, a, m) for n, a, _, m in DRAWS if m],
    ids=[n for n, _, _, m in DRAWS if m],
)
def test_moments(name, args, moments):
    x = np.asarray(draw(name, args, random.key(17)), np.float64)
    mean, deviation = moments
    assert abs(x.mean() - mean) < 5 * deviation / np.sqrt(x.size)
    assert abs(x.std() / deviation - 1) < 0.12


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_draws_of_64_bits(dtype):
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        for name, args in [
            ("uniform", ((7,), dtype)),
            ("normal", ((7,), dtype)),
            ("gamma", (2.0, (7,), dtype)),
            ("randint", ((7,), -(2**60), 2**61, "int64")),
            ("randint", ((7,), 0, 2**64 - 1, "uint64")),
            ("bits", ((7,), "uint64")),
        ]:
            theirs = getattr(jax.random, name)(
                jax.random.key(3), *[np.uint64(a) if a == 2**64 - 1 else a for a in args]
            )
            close(draw(name, args, random.key(3)), theirs, 1e-6 if dtype == "float32" else 1e-12)


# -- keys ----------------------------------------------------------------------------------------


def test_known_answers_of_threefry():
    # Random123's kat_vectors: threefry2x32, 20 rounds.
    ones, pi = 0xFFFFFFFF, (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
    for counter, key, answer in [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((ones, ones), (ones, ones), (0x1CB996FC, 0xBB002BE7)),
        (pi[:2], pi[2:], (0xC4923A9C, 0x483DF7A0)),
    ]:
        found = random.threefry_2x32(np.array(key, np.uint32), np.array(counter, np.uint32))
        assert found.tolist() == list(answer)


def test_odd_number_of_counters():
    pair = np.array([1, 2], np.uint32)
    even = random.threefry_2x32(pair, np.array([[1, 2], [3, 0]], np.uint32))
    odd = random.threefry_2x32(pair, np.array([1, 2, 3], np.uint32))
    assert even.shape == (2, 2) and odd.tolist() == even.reshape(-1).tolist()[:3]


@pytest.mark.parametrize(
    "seed", [0, 1, -1, 2**31 - 1, 2**31, 2**32 - 1, -(2**31), 2**32 + 5, 2**63 + 1, -(2**40)]
)
def test_seeds(seed):
    high = 0 if -(2**31) <= seed < 0 else (seed >> 32) & 0xFFFFFFFF
    assert random.key_data(random.key(seed)).tolist() == [high, seed & 0xFFFFFFFF]


def test_seed_may_be_an_array_or_traced():
    words = random.key_data(random.key(-7)).tolist()
    assert random.key_data(random.key(np.int32(-7))).tolist() == words
    assert random.key_data(random.key(bnp.asarray(-7))).tolist() == words
    assert bv.jit(lambda s: random.key_data(random.key(s)))(-7).tolist() == words
    wide = bnp.asarray(2**40 + 3, dtype="int64")
    assert random.key_data(random.key(wide)).tolist() == [256, 3]
    many = bv.vmap(random.key)(bnp.arange(3))
    assert many.shape == (3,) and random.key_data(many).tolist() == [[0, 0], [0, 1], [0, 2]]


@pytest.mark.parametrize("bad", [1.5, "0", None, np.zeros(2, np.int32), 2**64])
def test_bad_seeds(bad):
    with pytest.raises((TypeError, OverflowError), match="seed|number"):
        random.key(bad)
    with pytest.raises(TypeError):
        random.key(random.key(0))


def test_split_and_fold_in_equal_jax():
    jax = pytest.importorskip("jax")
    for num in (2, 5, (2, 3), ()):
        theirs = jax.random.key_data(jax.random.split(jax.random.key(9), num))
        close(random.key_data(random.split(random.key(9), num)), theirs, None)
    for data in (0, 1, -1, 2**31 + 5):
        theirs = jax.random.key_data(jax.random.fold_in(jax.random.key(9), np.uint32(data % 2**32)))
        close(random.key_data(random.fold_in(random.key(9), data)), theirs, None)


def test_fold_in_of_arrays_and_traced_steps():
    key = random.key(1)
    words = random.key_data(random.fold_in(key, 5)).tolist()
    assert random.key_data(random.fold_in(key, np.int64(5))).tolist() == words
    assert random.key_data(bv.jit(random.fold_in)(key, 5)).tolist() == words
    mapped = bv.vmap(random.fold_in, (None, 0))(key, bnp.arange(4, 7))
    assert random.key_data(mapped)[1].tolist() == words
    with pytest.raises(TypeError, match="integer"):
        random.fold_in(key, 1.5)
    with pytest.raises(TypeError, match="scalar"):
        random.fold_in(key, bnp.arange(2))
    with pytest.raises(OverflowError, match="32 bits"):
        random.fold_in(key, 2**32)


def test_what_a_key_is():
    keys = random.split(random.key(0), (2, 3))
    assert random.is_key(keys) and random.key_impl(keys) == "threefry2x32" and keys.shape == (2, 3)
    again = random.wrap_key_data(random.key_data(keys))
    assert random.key_data(again).tolist() == random.key_data(keys).tolist()
    assert not random.is_key(bnp.zeros(2)) and not random.is_key(3)
    for wrong in (np.zeros(2, np.int32), np.zeros(3, np.uint32), keys):
        with pytest.raises(TypeError, match="uint32 array whose last axis"):
            random.wrap_key_data(wrong)
    with pytest.raises(ValueError, match="threefry2x32"):
        random.key(0, impl="mt19937")


# -- consumption ---------------------------------------------------------------------------------


def line_here() -> int:
    return inspect.currentframe().f_back.f_lineno


def test_reuse_names_both_lines():
    key = random.key(0)
    random.normal(key, (2,))
    first = line_here() - 1
    with pytest.warns(random.KeyReuseWarning) as caught:
        random.uniform(key)
    second = line_here() - 1
    text = str(caught[0].message)
    assert f"test_random.py:{first}" in text and f"test_random.py:{second}" in text
    assert "uniform" in text and "split" in text
    assert caught[0].filename == __file__ and caught[0].lineno == second


@pytest.mark.parametrize(
    "again", [random.split, random.bits, random.normal, lambda k: random.poisson(k, 2.0)]
)
def test_split_and_draws_consume(again):
    key = random.key(0)
    random.split(key)
    with bv.config(key_reuse="error"), pytest.raises(bv.errors.KeyReuseError, match="second time"):
        again(key)


def test_what_does_not_consume():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        key = random.key(0)
        random.fold_in(key, 1), random.fold_in(key, 2), random.key_data(key), random.clone(key)
        random.normal(key)
        random.normal(random.clone(key))
        with random.allow_key_reuse():
            random.normal(key)
        first, second = random.split(random.key(1))
        random.normal(first), random.normal(second)


def test_parts_of_a_key_array_are_watched():
    keys = random.split(random.key(0), 3)
    random.normal(keys[0])
    random.normal(keys[1])
    with pytest.warns(random.KeyReuseWarning):
        random.normal(keys[0])


def test_a_failed_draw_does_not_consume():
    key = random.key(0)
    with pytest.raises(ValueError, match="dtype"):
        random.normal(key, (2,), "int32")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        random.normal(key, (2,))


def test_reuse_inside_jit_is_reported_while_tracing():
    @bv.jit
    def twice(key):
        return random.normal(key) + random.uniform(key)

    with pytest.warns(random.KeyReuseWarning):
        twice(random.key(0))


def test_a_loop_that_draws_from_one_key_is_reported():
    key = random.key(0)
    steps = {
        "scan": lambda k: lax.scan(lambda c, _: (c + random.normal(k), None), 0.0, length=3)[0],
        "while_loop": lambda k: lax.while_loop(
            lambda c: c < 9, lambda c: c + random.uniform(k), 0.0
        ),
        "fori_loop": lambda k: lax.fori_loop(0, 3, lambda i, c: c + random.normal(k), 0.0),
    }
    for name, f in steps.items():
        for run in (f, bv.jit(f)):
            with (
                bv.config(key_reuse="error"),
                pytest.raises(random.KeyReuseError, match=rf"(?s){name}.*every step.*test_random"),
            ):
                run(random.clone(key))
        with warnings.catch_warnings(), random.allow_key_reuse():
            warnings.simplefilter("error")
            f(random.clone(key))


def test_loops_over_keys_and_branches_that_share_one_are_no_reuse():
    def fold(k):
        return lax.fori_loop(0, 3, lambda i, c: c + random.normal(random.fold_in(k, i)), 0.0)

    def carried(k):
        def step(c, _):
            k, total = c
            k, sub = random.split(k)
            return (k, total + random.normal(sub)), None

        return lax.scan(step, (k, 0.0), length=3)[0][1]

    def rows(k):
        return lax.scan(lambda c, k: (c + random.normal(k), None), 0.0, random.split(k, 3))[0]

    def branches(k):
        x = lax.cond(k.ndim == 0, lambda: random.normal(k), lambda: random.uniform(k))
        return x + 0

    def traced_branches(k):
        sub, other = random.split(k)
        positive = random.normal(other) > 0
        return lax.cond(positive, lambda: random.normal(sub), lambda: random.uniform(sub))

    with bv.config(key_reuse="error"):
        for f in (fold, carried, rows, branches, traced_branches):
            f(random.key(1)), bv.jit(f)(random.key(1))
        with pytest.raises(random.KeyReuseError, match="second time"):
            bv.jit(lambda k: traced_branches(k) + random.normal(k))(random.key(1))


def test_a_failed_trace_gives_its_keys_back():
    key = random.key(3)

    @bv.jit
    def f(x):
        y = random.normal(key)
        return x + y + bnp.ones(x.shape[0] - 2) @ x

    with bv.config(key_reuse="error"):
        with pytest.raises(TypeError):
            f(bnp.ones(4))
        random.normal(key)


def test_tracing_a_closure_again_is_no_reuse():
    key = random.key(0)
    noisy = bv.jit(lambda x: x + random.normal(key, x.shape))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        noisy(bnp.zeros(2)), noisy(bnp.zeros(3))


def test_source_is_the_users_line():
    key = random.key(0)
    random.normal(key)
    used = source_of(key._tag.used)
    line = test_source_is_the_users_line.__code__.co_firstlineno + 2
    assert (used.file, used.line) == (__file__, line)


def test_a_draw_that_no_python_code_calls():
    code = "import atexit; from bevel import random; atexit.register(random.normal, random.key(0))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


SHARED = {
    "closed over": lambda key: bv.vmap(lambda x: x + random.normal(key))(bnp.ones(3)),
    "passed whole": lambda key: bv.vmap(lambda k, x: x + random.normal(k), (None, 0))(
        key, bnp.ones(3)
    ),
    "split": lambda key: bv.vmap(lambda x: random.split(key))(bnp.ones(3)),
    "jitted": lambda key: bv.jit(bv.vmap(lambda x: x + random.normal(key)))(bnp.ones(3)),
    "of an outer row": lambda key: bv.vmap(
        lambda k: bv.vmap(lambda x: x + random.normal(k))(bnp.ones(3))
    )(random.split(key)),
    "under grad": lambda key: bv.grad(lambda v: bv.vmap(lambda x: x * random.normal(key))(v).sum())(
        bnp.ones(3)
    ),
}


@pytest.mark.parametrize("name", SHARED)
def test_a_key_that_all_rows_share_is_reported(name):
    with pytest.warns(random.KeyReuseWarning, match="shared by all rows of vmap of <lambda>") as w:
        SHARED[name](random.key(0))
    [message] = [str(one.message) for one in w]
    assert f"{'split' if name == 'split' else 'normal'} at {__file__}" in message
    assert "random.split(key, n), and map over the keys" in message


def test_rows_may_have_keys_of_their_own_or_share_on_purpose():
    key = random.key(0)
    keys, x = random.split(random.key(1), 3), bnp.ones(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own = bv.vmap(lambda k, x: x + random.normal(k))(keys, x)
        folded = bv.vmap(lambda i: random.normal(random.fold_in(key, i)))(bnp.arange(3))
        same = bv.vmap(lambda x: x + random.normal(random.clone(key)))(x)
        bv.vmap(lambda x: x + random.normal(random.key(3)))(x[:1])
        model = nn.Dropout(0.5, rngs=nn.Rngs(0))
        bv.vmap(model)(bnp.ones((3, 4)))
        random.normal(key)  # none of these has consumed it
    assert len(set(own.tolist())) == len(set(folded.tolist())) == 3 and len(set(same.tolist())) == 1


# -- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLERS)
def test_errors_about_the_key(name):
    fn = getattr(random, name)
    with pytest.raises(TypeError, match=rf"key is missing(.|\n)*random.{name}\(random.key"):
        fn()
    for wrong in (0, (3,), None, np.zeros(2, np.uint32), np.zeros(3)):
        with pytest.raises(TypeError, match="key must be a random key"):
            fn(wrong)
    with pytest.raises(TypeError, match="default_device"):
        fn(random.key(0), device=None)
    with pytest.raises(ValueError, match="vmap"):
        fn(random.split(random.key(0)))


def test_keys_by_keyword():
    a = random.normal(shape=(3,), key=random.key(0))
    b = random.normal((3,), key=random.key(0))
    assert a.tolist() == b.tolist() == random.normal(random.key(0), (3,)).tolist()


@pytest.mark.parametrize(
    "call, match",
    [
        (lambda k: random.uniform(k, (3,), "int32"), "float dtype"),
        (lambda k: random.randint(k, (3,), 0, 5, "float32"), "integer dtype"),
        (lambda k: random.bits(k, (3,), "int32"), "unsigned"),
        (lambda k: random.normal(k, (-1,)), "negative"),
        (lambda k: random.uniform(k, (3,), minval=bnp.zeros(2)), "broadcast"),
        (lambda k: random.gamma(k, bnp.ones(2), (3,)), "broadcast"),
        (lambda k: random.gamma(k, bnp.ones((2, 3)), (3,)), "broadcast"),
        (lambda k: random.gamma(k, 1j), "real"),
        (lambda k: random.bernoulli(k, 0.5, (), "middle"), "mode"),
        (lambda k: random.gumbel(k, (), None, "middle"), "mode"),
        (lambda k: random.choice(k, 3, (4,), replace=False), "without replacement"),
        (lambda k: random.choice(k, 0, (1,)), "nothing to choose"),
        (lambda k: random.choice(k, 3, (1,), p=bnp.ones(2)), "one probability"),
        (lambda k: random.permutation(k, 1.5), "integer"),
        (lambda k: random.permutation(k, bnp.zeros(3), 1), "axis"),
        (
            lambda k: random.categorical(k, bnp.zeros(3), shape=(5,), replace=False),
            "without replacement",
        ),
        (lambda k: random.dirichlet(k, 1.0), "axis"),
        (lambda k: random.multivariate_normal(k, bnp.zeros(2), bnp.eye(3)), "cov"),
        (lambda k: random.multivariate_normal(k, bnp.zeros(2), bnp.eye(2), method="qr"), "method"),
    ],
)
def test_errors_about_arguments(call, match):
    with pytest.raises((TypeError, ValueError), match=match):
        call(random.key(0))


# -- derivatives, programs -----------------------------------------------------------------------


@pytest.mark.parametrize("log_space", [False, True])
def test_gamma_is_differentiable(log_space):
    fn = random.loggamma if log_space else random.gamma
    a = np.array([0.3, 1.0, 2.5, 40.0], np.float64)

    def total(a):
        return fn(random.key(3), a, dtype="float64").sum()

    alpha = bnp.asarray(a, dtype="float64")
    slope = bv.grad(total)(alpha)
    forward = bv.jvp(total, (alpha,), (bnp.ones_like(alpha),))[1]
    np.testing.assert_allclose(float(forward), float(slope.sum()), rtol=1e-6)
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        theirs = jax.random.loggamma if log_space else jax.random.gamma
        expected = jax.grad(lambda a: theirs(jax.random.key(3), a, dtype="float64").sum())(a)
    np.testing.assert_allclose(slope, expected, rtol=1e-5)


def test_draws_are_differentiable_in_their_parameters():
    def shifted(low, scale):
        key, other = random.split(random.key(0))
        u = random.uniform(key, (3,), minval=low, maxval=low + 1)
        return (u + scale * random.normal(other, (3,))).sum()

    low, scale = bv.grad(shifted, (0, 1))(0.5, 2.0)
    assert abs(float(low) - 3) < 1e-5
    other = random.split(random.key(0))[1]
    assert abs(float(scale) - float(random.normal(other, (3,)).sum())) < 1e-5


def test_keys_go_through_scan_and_cond():
    def step(key, _):
        key, drawn = random.split(key)
        return key, random.normal(drawn, (2,))

    _, rows = bv.lax.scan(step, random.key(4), None, length=3)
    key, expected = random.key(4), []
    for _ in range(3):
        key, drawn = random.split(key)
        expected.append(random.normal(drawn, (2,)))
    np.testing.assert_allclose(rows, bnp.stack(expected), rtol=1e-5)
    chosen = bv.jit(lambda p, k: bv.lax.cond(p, random.normal, random.uniform, k))(
        True, random.key(1)
    )
    np.testing.assert_allclose(chosen, random.normal(random.key(1)), rtol=1e-5)


def test_a_traced_draw_is_a_small_program():
    text = bv.jit(
        lambda k: random.uniform(k, (4096,)) + random.uniform(random.fold_in(k, 1), (4096,))
    )
    assert (
        text.lower(random.key(0)).as_text().count("@random_uniform") == 3
    )  # one function, called twice


def test_shuffle_moves_every_vector_by_itself():
    x = bnp.tile(bnp.arange(50), (4, 1))
    y = np.asarray(random.shuffle(random.key(0), x, axis=1))
    assert (np.sort(y, 1) == np.arange(50)).all() and (y[0] != y[1]).any()


def test_permutations_are_fair():
    keys = random.split(random.key(0), 6000)
    orders = np.asarray(bv.vmap(lambda k: random.permutation(k, 3))(keys))
    _, counts = np.unique(orders @ [9, 3, 1], return_counts=True)
    assert len(counts) == 6 and abs(counts - 1000).max() < 5 * 1000**0.5


def test_a_compiled_function_consumes_its_key_at_every_call():
    """Also when the program is known, inside another trace, and in a loop; once per key."""

    @bv.jit
    def noise(key, x):
        return x + random.normal(key, x.shape)

    @bv.jit
    def folded(key, x):
        return x + random.uniform(random.fold_in(key, 1), x.shape)

    x = bnp.ones(2)
    for key in random.split(random.key(0), 3):
        noise(key, x)
        with pytest.warns(random.KeyReuseWarning, match=r"by noise at .*test_random") as caught:
            noise(key, x)
        assert str(caught[0].message).count("test_random.py") == 2
    key = random.key(1)
    for _ in range(3):
        folded(key, x)  # fold_in does not consume
    with pytest.warns(random.KeyReuseWarning):
        bv.jit(lambda k: noise(k, x) + noise(k, x))(random.key(2))
    with bv.config(key_reuse="error"), pytest.raises(random.KeyReuseError):
        noise(key, x)
        random.normal(key)
