"""The rest of Optax's surface: every transformation step for step, state by state, with Optax as
the oracle, all of it in one compiled program; losses, line searches, utilities; and the names.
"""

import functools
import inspect
import operator
import pathlib
import re
import types
import warnings

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import optim, random
from bevel.core import tree
from tests.optim_cases import kept_programs, problem
from tests.peers import peer

__all__ = ["kept_programs"]  # a fixture that applies by itself


def values(leaves):
    return [np.asarray(random.key_data(x) if random.is_key(x) else x) for x in leaves]


def decayed(o):
    return o.linear_schedule(0.1, 0.01, 5)


def every_other(step, **extra):
    return step % 2 == 0


MASK = {"w": True, "b": False, "s": True}
TRANSFORMS = {
    "adafactor": lambda o: o.adafactor(0.1),
    "adafactor factored": lambda o: o.adafactor(
        decayed(o),
        min_dim_size_to_factor=2,
        momentum=0.9,
        weight_decay_rate=0.01,
        clipping_threshold=0.7,
    ),
    "adafactor plain": lambda o: o.adafactor(
        None, factored=False, clipping_threshold=None, multiply_by_parameter_scale=False
    ),
    "noisy_sgd": lambda o: o.noisy_sgd(0.1, key=3),
    "novograd": lambda o: o.novograd(0.1, weight_decay=0.1),
    "sm3": lambda o: o.masked(o.sm3(0.1), {"w": True, "b": True, "s": False}),
    "scale_by_sm3": lambda o: o.masked(
        o.scale_by_sm3(0.8, 0.9), {"w": True, "b": True, "s": False}
    ),
    "optimistic_adam": lambda o: o.optimistic_adam(0.1, 0.05),
    "optimistic_adam_v2": lambda o: o.optimistic_adam_v2(decayed(o), alpha=0.9, beta=0.5),
    "distance over gradients": lambda o: o.masked(
        o.scale_by_distance_over_gradients(0.1), {"w": True, "b": True, "s": False}
    ),  # Optax gives scalars an axis
    "normalize_by_update_norm": lambda o: o.normalize_by_update_norm(2.0),
    "apply_every": lambda o: o.apply_every(2),
    "multi_steps": lambda o: o.MultiSteps(o.adam(0.1), 2).gradient_transformation(),
    "multi_steps sum": lambda o: o.MultiSteps(
        o.sgd(0.1),
        lambda n: 1 + n,
        use_grad_mean=False,
        should_skip_update_fn=functools.partial(o.skip_large_updates, max_squared_norm=100.0),
    ).gradient_transformation(),
    "multi_steps skip": lambda o: o.MultiSteps(
        o.adam(0.1), 2, should_skip_update_fn=o.skip_not_finite
    ).gradient_transformation(),
    "conditionally_transform": lambda o: o.conditionally_transform(o.adam(0.1), every_other),
    "conditionally_mask": lambda o: o.conditionally_mask(
        o.adam(0.1), lambda step, value: value > 0.5, forward_extra_args=True
    ),
    "apply_if_finite": lambda o: o.apply_if_finite(o.trace(0.9), 2),
    "keep_params_nonnegative": lambda o: o.chain(o.sgd(1.0), o.keep_params_nonnegative()),
    "zero_nans": lambda o: o.zero_nans(),
    "freeze": lambda o: o.freeze(MASK),
    "selective_transform": lambda o: o.selective_transform(o.adam(0.1), freeze_mask=MASK),
    "flatten": lambda o: o.flatten(o.adam(0.1)),
    "multi_transform": lambda o: o.multi_transform(
        {True: o.adam(0.1), False: o.sgd(0.1)}, lambda params: MASK
    ),
    "snapshot": lambda o: o.chain(o.snapshot("norm", o.tree.norm), o.sgd(0.1)),
    "inject_hyperparams": lambda o: o.inject_hyperparams(o.adamw)(decayed(o), b1=0.8, mask=MASK),
    "inject static": lambda o: o.inject_hyperparams(
        o.adafactor, ["min_dim_size_to_factor", "dtype_momentum"]
    )(0.1, min_dim_size_to_factor=2),
    "lbfgs": lambda o: o.lbfgs(0.1, memory_size=2, linesearch=None),
    "lbfgs unscaled": lambda o: o.lbfgs(
        decayed(o), memory_size=3, scale_init_precond=False, linesearch=None
    ),
    "belief": lambda o: o.scale_by_belief(eps=1e-8),
    "acprop": lambda o: o.contrib.acprop(0.1, eps=1e-8, weight_decay=0.1),
    "ademamix": lambda o: o.contrib.ademamix(0.1, b3=decayed(o), alpha=lambda n: 3.0 + n),
    "simplified_ademamix": lambda o: o.contrib.simplified_ademamix(decayed(o), alpha=0.5),
    "adopt": lambda o: o.contrib.adopt(0.1),
    "adopt options": lambda o: o.contrib.adopt(0.1, nesterov=True, use_clipping=False),
    "madgrad": lambda o: o.contrib.madgrad(decayed(o), weight_decay=0.1),
    "cocob": lambda o: o.contrib.cocob(weight_decay=0.1),
    "dog": lambda o: o.contrib.dog(weight_decay=0.1),
    "dog rate": lambda o: o.contrib.dog(init_step=("learning_rate", 0.1)),
    "dog distance": lambda o: o.contrib.dog(decayed(o), init_step=("distance", 0.1)),
    "dowg": lambda o: o.contrib.dowg(init_estim_sq_dist=0.1),
    "dadapt_adamw": lambda o: o.contrib.dadapt_adamw(estim_lr0=0.1, weight_decay=0.1),
    "prodigy": lambda o: o.contrib.prodigy(estim_lr0=0.1, weight_decay=0.1),
    "prodigy options": lambda o: o.contrib.prodigy(
        decayed(o), beta3=0.9, estim_lr0=0.1, safeguard_warmup=True, estim_lr_coef=2.0
    ),
    "mechanize": lambda o: o.contrib.mechanize(o.adam(0.1), s_init=0.1),
    "momo": lambda o: o.contrib.momo(0.5, weight_decay=0.1),
    "momo adapt": lambda o: o.contrib.momo(decayed(o), lower_bound=0.9, adapt_lower_bound=True),
    "momo_adam": lambda o: o.contrib.momo_adam(0.5),
    "momo_adam adapt": lambda o: o.contrib.momo_adam(
        0.5, lower_bound=0.9, weight_decay=0.1, adapt_lower_bound=True
    ),
    "muon": lambda o: o.contrib.muon(0.1, weight_decay=0.1),
    "muon options": lambda o: o.contrib.muon(
        decayed(o),
        "dion",
        nesterov=False,
        adaptive=True,
        preconditioning="aol",
        adam_learning_rate=0.01,
        consistent_rms=0.2,
    ),
    "muon numbers": lambda o: o.contrib.muon(
        0.1,
        preconditioning="schatten",
        muon_weight_dimension_numbers={
            "w": o.contrib.MuonDimensionNumbers(1, 0),
            "b": None,
            "s": None,
        },
    ),
    "muon spectral": lambda o: o.contrib.muon(0.1, ns_steps=2, preconditioning="spectral"),
    "galore": lambda o: o.contrib.galore(0.1, rank=2, update_proj_gap=2, weight_decay=0.1),
    "galore wide": lambda o: o.contrib.galore(
        0.1,
        rank=1,
        scale=0.5,
        weight_dimension_numbers={
            "w": o.contrib.GaLoreDimensionNumbers(1, 0),
            "b": None,
            "s": None,
        },
    ),
    "schedule_free": lambda o: o.contrib.schedule_free(o.sgd(decayed(o)), decayed(o), 0.8),
    "schedule_free_sgd": lambda o: o.contrib.schedule_free_sgd(0.1, 3, weight_decay=0.1),
    "schedule_free_adamw": lambda o: o.contrib.schedule_free_adamw(0.1, weight_decay=0.1),
    "reduce_on_plateau": lambda o: o.contrib.reduce_on_plateau(0.5, patience=1, cooldown=1),
    "reduce_on_plateau mean": lambda o: o.contrib.reduce_on_plateau(
        0.5, patience=1, accumulation_size=2, atol=0.1, min_scale=0.6
    ),
    "normalize": lambda o: o.contrib.normalize(),
    "sam": lambda o: o.contrib.sam(o.adam(0.1), o.chain(o.contrib.normalize(), o.sgd(0.05))),
    "sam opaque": lambda o: o.contrib.sam(
        o.sgd(0.1), o.adam(0.05), sync_period=3, opaque_mode=True, reset_state=False
    ),
    "sophia": lambda o: o.contrib.sophia(0.1, update_interval=2),
    "dpsgd": lambda o: o.masked(
        o.contrib.dpsgd(0.1, 1.0, 0.1, seed=3, momentum=0.9), {"w": True, "b": False, "s": False}
    ),
}
LOOSE = {"lbfgs": 3e-3, "lbfgs unscaled": 3e-3}
UNSIGNED = {"galore", "galore wide"}  # singular vectors, and what is projected onto them


def objective(params):
    """A function of trees of either library."""
    return sum((v**4).sum() + (v**2).sum() for v in params.values())


def slope(params, i):
    return {k: 4 * v**3 + 2 * v for k, v in params.items()}


EXTRA = {"sam": {}, "sam opaque": {"grad_fn": slope}, "sophia": {"obj_fn": objective}}


@pytest.fixture(scope="module")
def theirs():
    """What Optax makes of every row: parameters and states after each step."""
    optax, jax = peer("optax"), peer("jax")
    params, grads = problem()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        txs = {k: optax.with_extra_args_support(make(optax)) for k, make in TRANSFORMS.items()}
        states = {k: tx.init(params) for k, tx in txs.items()}

        @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
        def step(g, value, states, ps):
            out = {
                k: tx.update(g, states[k], ps[k], **EXTRA.get(k, {"value": value}))
                for k, tx in txs.items()
            }
            return (
                {k: optax.apply_updates(ps[k], u) for k, (u, _) in out.items()},
                {k: s for k, (_, s) in out.items()},
            )

        def settled(part):  # without weak types, which would compile a second program
            is_key = lambda x: jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
            return jax.tree.map(lambda x: x if is_key(x) else np.asarray(x), part)

        ps, states, history = {k: params for k in txs}, settled(states), []
        for i, g in enumerate(grads):
            ps, states = settled(step(g, np.float32(VALUES[i]), states, ps))
            history.append((ps, states))
    return history


VALUES = [1.0, 0.8, 0.3, 0.9]


def raw(x):
    """A JAX array as a NumPy one; a key as its words."""
    jax = peer("jax")
    key = hasattr(x, "dtype") and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(x) if key else x)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_equal_optax_step_for_step(name, theirs):
    jax = peer("jax")
    tx = optim.with_extra_args_support(TRANSFORMS[name](optim))
    params, grads = problem()
    state, tol = tx.init(params), LOOSE.get(name, 2e-4)
    close = functools.partial(np.testing.assert_allclose, rtol=tol, atol=tol / 50)
    for i, g in enumerate(grads):
        u, state = tx.update(
            bv.tree.map(bnp.asarray, g), state, params, value=VALUES[i], **EXTRA.get(name, {})
        )
        params = optim.apply_updates(params, u)
        p, s = (part[name] for part in theirs[i])
        for k in params:
            close(params[k], p[k], err_msg=f"{k} after step {i}")
        mine = tree.leaves_with_path(state)
        want = jax.tree_util.tree_leaves_with_path(s)
        assert [tree.keystr(a) for a, _ in mine] == [jax.tree_util.keystr(a) for a, _ in want]
        for (path, a), (_, b) in zip(mine, want, strict=True):
            a, b = values([a])[0], raw(b)
            assert (a.shape, a.dtype) == (b.shape, b.dtype), tree.keystr(path)
            a, b = (abs(a), abs(b)) if name in UNSIGNED else (a, b)
            close(a, b, err_msg=f"{tree.keystr(path)} after step {i}")


def test_updates_compile_once_and_equal_eager_ones():
    names = ["adafactor factored", "multi_steps skip", "flatten", "inject_hyperparams", "muon"]
    names += ["schedule_free", "reduce_on_plateau", "prodigy", "noisy_sgd", "sam"]
    txs = {k: optim.with_extra_args_support(TRANSFORMS[k](optim)) for k in names}
    params, grads = problem()

    def step(g, value, states):
        return {
            k: tx.update(g, states[k], params, **EXTRA.get(k, {"value": value}))
            for k, tx in txs.items()
        }

    compiled = bv.jit(step)
    eager = fast = {k: tx.init(params) for k, tx in txs.items()}
    for g in grads:
        g = bv.tree.map(bnp.asarray, g)
        with random.allow_key_reuse():
            a, b = step(g, bnp.float32(0.5), eager), compiled(g, bnp.float32(0.5), fast)
        for k in names:
            for x, y in zip(tree.leaves(a[k]), tree.leaves(b[k]), strict=True):
                x, y = values([x, y])
                np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5, err_msg=k)
        eager, fast = ({k: s for k, (_, s) in out.items()} for out in (a, b))
    assert compiled._cache_size() <= 2  # weakly typed numbers of the first state


DTYPES = [(n, d) for n in TRANSFORMS for d in ("bfloat16", "float64")]
DTYPES.remove(("adafactor factored", "float64"))  # its momentum is float32, and mixing them warns


@pytest.mark.parametrize("name,dtype", DTYPES)
def test_states_and_updates_keep_their_dtypes(name, dtype):
    params, grads = problem()
    cast = lambda t: bv.tree.map(lambda x: bnp.asarray(x, dtype), t)
    params, grads, value = cast(params), cast(grads[0]), bnp.asarray(1.0, dtype)
    tx = optim.with_extra_args_support(TRANSFORMS[name](optim))
    state = tx.init(params)
    u, new = tx.update(grads, state, params, **EXTRA.get(name, {"value": value}))
    for (path, a), b in zip(tree.leaves_with_path(state), tree.leaves(new), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype), tree.keystr(path)
    for k in params:
        assert optim.apply_updates(params, u)[k].dtype == params[k].dtype
        assert u[k].dtype == dtype or dtype == "bfloat16"


def test_monitor_measures_as_optax_does():
    optax = peer("optax")
    params, grads = problem()
    make = lambda o: o.monitor({"max": o.tree.max, "ema": o.measure_with_ema(o.tree.norm, 0.9)})
    ours, want = make(optim), make(optax)
    s, t = ours.init(params), want.init(params)
    for g in grads[:2]:
        u, s = ours.update(bv.tree.map(bnp.asarray, g), s, params)
        _, t = want.update(g, t, params)
        np.testing.assert_array_equal(u["w"], g["w"])
        for k in ("max", "ema"):
            np.testing.assert_allclose(s.measurements[k], t.measurements[k], rtol=1e-5)


def test_lookahead_equals_optax():
    optax, jax = peer("optax"), peer("jax")
    params, grads = problem()
    for reset in (False, True):
        make = lambda o, reset=reset: o.lookahead(o.sgd(0.1, momentum=0.9), 2, 0.4, reset)
        ours, want = make(optim), make(optax)
        p, q = (o.LookaheadParams.init_synced(params) for o in (optim, optax))
        s, t = ours.init(p), want.init(q)
        for g in grads:
            u, s = ours.update(bv.tree.map(bnp.asarray, g), s, p)
            v, t = want.update(g, t, q)
            p, q = optim.apply_updates(p, u), optax.apply_updates(q, v)
            for a, b in zip(tree.leaves((p, s)), jax.tree.leaves((q, t)), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="sync_period"):
        optim.lookahead(optim.sgd(0.1), 0, 0.5)


def test_injected_hyperparameters_follow_the_state():
    tx = optim.inject_hyperparams(optim.sgd)(optim.linear_schedule(0.1, 0.0, 2), momentum=0.5)
    params = bnp.zeros(2)
    state = tx.init(params)
    assert sorted(state.hyperparams) == ["learning_rate", "momentum"]
    state = optim.tree.set(state, momentum=bnp.float32(0.0))
    for rate in (0.1, 0.05):
        u, state = tx.update(bnp.ones(2), state, params)
        np.testing.assert_allclose(u, [-rate] * 2, rtol=1e-6)
        np.testing.assert_allclose(state.hyperparams["learning_rate"], rate, rtol=1e-6)

    class Halving:
        """A schedule that looks at the loss."""

        def init(self):
            return bnp.float32(1.0)

        def update(self, state, *, loss, **extra):
            return bnp.where(loss > 1, state / 2, state)

        def __call__(self, state, **extra):
            return state

    tx = optim.inject_hyperparams(optim.sgd)(Halving())
    state = tx.init(params)
    for loss, rate in ((2.0, 1.0), (0.5, 0.5), (0.5, 0.5)):
        u, state = tx.update(bnp.ones(2), state, params, loss=loss)
        np.testing.assert_allclose(u, [-rate] * 2)
    with pytest.raises(ValueError, match="static_args names"):
        optim.inject_hyperparams(optim.sgd, "nothing")


def test_multi_steps_reports_and_skips():
    tx = optim.MultiSteps(optim.sgd(1.0), 2, should_skip_update_fn=optim.skip_not_finite)
    state = tx.init(bnp.zeros(1))
    seen = []
    for g in (1.0, np.nan, 3.0):
        u, state = tx.update(bnp.array([g]), state)
        seen.append((float(u[0]), bool(tx.has_updated(state)), int(state.gradient_step)))
    assert seen == [(0.0, False, 0), (0.0, False, 0), (-2.0, True, 1)]
    chained = optim.chain(optim.MultiSteps(optim.polyak_sgd(0.5), 1), optim.scale(2.0))
    u, _ = chained.update(bnp.ones(1), chained.init(bnp.zeros(1)), None, value=0.1)
    np.testing.assert_allclose(u, [-0.2], rtol=1e-6)
    bad = optim.MultiSteps(
        optim.sgd(1.0), 2, should_skip_update_fn=lambda u, n, p: (bnp.ones(2), {})
    )
    with pytest.raises(ValueError, match="boolean scalar"):
        bad.init(bnp.zeros(1))


# -- line searches ---------------------------------------------------------------------------------


def curved(p):
    x = p["x"]
    return (100 * (x[1:] - x[:-1] ** 2) ** 2).sum() + ((1 - x[:-1]) ** 2).sum()


def double_well(p):
    x = p["x"]
    return (x**4).sum() - 3 * (x**2).sum() + x.sum()


SEARCHES = {
    "zoom": (lambda o: o.chain(o.sgd(1.0), o.scale_by_zoom_linesearch(15)), curved),
    "zoom options": (
        lambda o: o.chain(
            o.sgd(0.3),
            o.scale_by_zoom_linesearch(
                15,
                max_learning_rate=0.5,
                curv_rtol=0.1,
                approx_dec_rtol=None,
                increase_factor=3.0,
            ),
        ),
        double_well,
    ),
    "zoom that fails": (
        lambda o: o.chain(o.sgd(4.0), o.scale_by_zoom_linesearch(2, initial_guess_strategy="one")),
        double_well,
    ),
    "backtracking": (
        lambda o: o.chain(o.sgd(1.0), o.scale_by_backtracking_linesearch(20, store_grad=True)),
        curved,
    ),
    "backtracking that fails": (
        lambda o: o.chain(
            o.sgd(2.0),
            o.scale_by_backtracking_linesearch(2, decrease_factor=0.5, max_learning_rate=2.0),
        ),
        double_well,
    ),
    "lbfgs": (lambda o: o.lbfgs(), curved),
    "lbfgs backtracking": (
        lambda o: o.lbfgs(
            memory_size=3, linesearch=o.scale_by_backtracking_linesearch(20, store_grad=True)
        ),
        double_well,
    ),
}
START = {"x": np.array([-1.2, 1.0, 0.5, -0.3], np.float32)}


@pytest.fixture(scope="module")
def their_searches():
    optax, jax = peer("optax"), peer("jax")
    txs = {k: (make(optax), f) for k, (make, f) in SEARCHES.items()}

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def step(ps, states):
        out = {}
        for k, (tx, f) in txs.items():
            value, grad = jax.value_and_grad(f)(ps[k])
            u, s = tx.update(grad, states[k], ps[k], value=value, grad=grad, value_fn=f)
            out[k] = optax.apply_updates(ps[k], u), s
        return {k: p for k, (p, _) in out.items()}, {k: s for k, (_, s) in out.items()}

    ps, history = {k: START for k in txs}, []
    states = jax.tree.map(np.asarray, {k: tx.init(START) for k, (tx, _) in txs.items()})
    for _ in range(3):
        ps, states = jax.tree.map(np.asarray, step(ps, states))
        history.append((ps, states))
    return history


@pytest.mark.parametrize("name", SEARCHES)
def test_line_searches_equal_optax(name, their_searches):
    jax = peer("jax")
    make, f = SEARCHES[name]
    tx, params = make(optim), START
    state = tx.init(params)

    def step(params, state):
        value, grad = bv.value_and_grad(f)(params)
        u, state = tx.update(grad, state, params, value=value, grad=grad, value_fn=f)
        return optim.apply_updates(params, u), state

    step = bv.jit(step) if name == "zoom" else step
    for i in range(3):
        params, state = step(params, state)
        p, s = (part[name] for part in their_searches[i])
        np.testing.assert_allclose(params["x"], p["x"], rtol=1e-4, atol=1e-5)
        mine, want = tree.leaves_with_path(state[-1]), jax.tree_util.tree_leaves_with_path(s[-1])
        for (path, a), (other, b) in zip(mine, want, strict=True):
            assert tree.keystr(path) == jax.tree_util.keystr(other)
            assert (a.shape, a.dtype) == (b.shape, b.dtype), path
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3, err_msg=tree.keystr(path))


def test_line_searches_reuse_and_report(capsys):
    calls = []

    def f(x, y):
        calls.append(1)
        return ((x - y) ** 2).sum()

    tx, x = optim.lbfgs(), bnp.zeros(2)
    value_and_grad = optim.value_and_grad_from_state(f)
    state = tx.init(x)
    for _ in range(2):
        value, grad = value_and_grad(x, y=bnp.ones(2), state=state)
        u, state = tx.update(grad, state, x, value=value, grad=grad, value_fn=f, y=bnp.ones(2))
        x = optim.apply_updates(x, u)
    np.testing.assert_allclose(x, [1, 1], rtol=1e-5)
    before = len(calls)
    value_and_grad(x, y=bnp.ones(2), state=state)
    assert len(calls) == before
    with pytest.raises(TypeError, match="update got z, which value_fn does not take"):
        tx.update(grad, state, x, value=value, grad=grad, value_fn=f, y=0.0, z=1)
    with pytest.raises(ValueError, match="the state holds no value"):
        value_and_grad(x, 1.0, state=optim.adam(0.1).init(x))
    with pytest.raises(ValueError, match="'one' or 'keep'"):
        optim.scale_by_zoom_linesearch(3, initial_guess_strategy="two")
    up = optim.scale_by_zoom_linesearch(3, verbose=True)
    g = lambda x: (x**2).sum()
    up.update(bnp.ones(2), up.init(x), x, value=g(x), grad=2 * x, value_fn=g)
    bv.effects_barrier()
    assert "it should be negative" in capsys.readouterr().out


# -- names -----------------------------------------------------------------------------------------

MISSING = pathlib.Path(__file__).parent.parent / "docs" / "missing-optim.md"
SPACES = [
    "",
    "assignment",
    "contrib",
    "experimental",
    "losses",
    "microbatching",
    "perturbations",
    "projections",
    "schedules",
    "second_order",
    "transforms",
    "tree",
    "tree_utils",
]


def listed():
    """Pairs of module and name from the table of what is missing."""
    return re.findall(r"^\| `optax\.?([\w.]*?)\.?(\w+)` \| \S", MISSING.read_text(), re.M)


def both(space):
    """A module of Optax, and ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        find = operator.attrgetter(space) if space else lambda module: module
        return find(peer("optax")), find(optim)


@pytest.mark.parametrize("space", SPACES)
def test_every_public_name_of_optax_is_here_or_listed(space):
    wanted, ours = both(space)
    known = {name for where, name in listed() if where == space}
    assert not [name for name in known if hasattr(ours, name)], "listed as missing, and here"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in {n for n in dir(wanted) if not n.startswith("_")} - known:
            assert hasattr(ours, name), name
            is_module = isinstance(getattr(wanted, name), types.ModuleType)
            assert is_module == isinstance(getattr(ours, name), types.ModuleType), name


OTHERWISE = {"global_norm": "optim.tree.norm itself"}


def described(x):
    """The arguments of a function, or the fields of a named tuple."""
    if isinstance(x, type) and issubclass(x, tuple):
        return x._fields
    given = inspect.signature(x).parameters.values()
    plain = (int, float, str, bool, tuple, type(None))
    return [(p.name, p.kind, p.default if type(p.default) in plain else "?") for p in given]


@pytest.mark.parametrize("space", [*SPACES, "experimental.aggregating"])
def test_arguments_defaults_and_fields_are_those_of_optax(space):
    if peer("optax").__version__ != "0.2.8":
        pytest.skip("arguments are those of Optax 0.2.8")
    wanted, ours = both(space)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in set(dir(wanted)) & set(dir(ours)) - set(OTHERWISE):
            x = getattr(wanted, name)
            kinds = (type, types.FunctionType, functools.partial)
            if not name.startswith("_") and isinstance(x, kinds):
                if not getattr(x, "_is_protocol", False):
                    assert described(x) == described(getattr(ours, name)), name
