"""Gradient transformations, schedules and losses; Optax is the oracle where it is installed."""

import warnings

import ml_dtypes
import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import optim
from tests.peers import peer


def problem(seed=0):
    """Parameters and a list of gradients, some of them zero, tiny or large."""
    rng = np.random.default_rng(seed)
    shapes = {"w": (3, 4), "b": (4,), "s": ()}
    params = {k: np.asarray(rng.normal(size=s), np.float32) for k, s in shapes.items()}
    grads = []
    for scale in (1.0, 0.1, 100.0, 1e-4, 1.0, 0.0, 2.0, 1.0):
        step = {k: np.asarray(scale * rng.normal(size=s), np.float32) for k, s in shapes.items()}
        step["b"][0] = 0.0
        grads.append(step)
    return params, grads


def decayed(lib):
    return lib.linear_schedule(0.1, 0.01, 5)


def only_matrices(params):
    """A mask by shape, for trees of either library."""
    return {k: np.ndim(v) > 1 for k, v in params.items()}


TRANSFORMS = {
    "sgd": lambda o: o.sgd(0.1),
    "sgd momentum": lambda o: o.sgd(0.1, momentum=0.9),
    "sgd nesterov": lambda o: o.sgd(decayed(o), momentum=0.9, nesterov=True),
    "sgd accumulator": lambda o: o.sgd(0.1, momentum=0.9, accumulator_dtype="bfloat16"),
    "adam": lambda o: o.adam(0.1),
    "adam options": lambda o: o.adam(decayed(o), 0.8, 0.9, 1e-6, 1e-6, "bfloat16"),
    "nadam": lambda o: o.nadam(0.1),
    "adamw": lambda o: o.adamw(0.1, weight_decay=0.3),
    "adamw masked": lambda o: o.adamw(0.1, weight_decay=0.3, mask=only_matrices),
    "adamw decay schedule": lambda o: o.adamw(0.1, weight_decay=decayed(o)),
    "nadamw": lambda o: o.nadamw(0.1),
    "adamax": lambda o: o.adamax(0.1),
    "adamaxw": lambda o: o.adamaxw(0.1, weight_decay=0.1),
    "amsgrad": lambda o: o.amsgrad(0.1),
    "amsgrad original": lambda o: o.amsgrad(
        0.1, bias_correction_mu=False, bias_correction_nu=False
    ),
    "adabelief": lambda o: o.adabelief(0.1, eps=1e-8),
    "adabelief nesterov": lambda o: o.adabelief(0.1, eps=1e-8, nesterov=True),
    "radam": lambda o: o.radam(0.1, b2=0.9),
    "radam nesterov": lambda o: o.radam(0.1, nesterov=True),
    "yogi": lambda o: o.yogi(0.1),
    "adan": lambda o: o.adan(0.1, weight_decay=0.1),
    "lamb": lambda o: o.lamb(0.1, weight_decay=0.1),
    "lars": lambda o: o.lars(0.1, weight_decay=0.1, weight_decay_mask=only_matrices),
    "lion": lambda o: o.lion(0.1),
    "lion smooth": lambda o: o.scale_by_lion(mode="smooth", smooth_beta=2.0),
    "lion refined": lambda o: o.scale_by_lion(mode="refined", mu_dtype="bfloat16"),
    "adagrad": lambda o: o.adagrad(0.1),
    "adadelta": lambda o: o.adadelta(0.1, weight_decay=0.1),
    "rmsprop": lambda o: o.rmsprop(0.1),
    "rmsprop centered": lambda o: o.rmsprop(0.1, eps=1e-3, centered=True, momentum=0.9),
    "rmsprop options": lambda o: o.rmsprop(
        0.1, eps_in_sqrt=False, bias_correction=True, initial_scale=0.1, momentum=0.9, nesterov=True
    ),
    "rmsprop centered corrected": lambda o: o.rmsprop(
        0.1, eps=1e-2, centered=True, bias_correction=True
    ),
    "rprop": lambda o: o.rprop(0.1),
    "sign_sgd": lambda o: o.sign_sgd(0.1),
    "signum": lambda o: o.signum(0.1),
    "fromage": lambda o: o.fromage(0.1),
    "fromage schedule": lambda o: o.fromage(decayed(o)),
    "optimistic": lambda o: o.optimistic_gradient_descent(0.1, 1.5, 0.5),
    "clip": lambda o: o.clip(0.5),
    "clip_by_global_norm": lambda o: o.clip_by_global_norm(1.0),
    "clip_by_block_rms": lambda o: o.clip_by_block_rms(0.5),
    "adaptive_grad_clip": lambda o: o.adaptive_grad_clip(0.1),
    "centralize": lambda o: o.centralize(),
    "ema": lambda o: o.ema(0.9),
    "ema biased": lambda o: o.ema(0.9, debias=False, accumulator_dtype="bfloat16"),
    "trace": lambda o: o.trace(0.9),
    "param_block_norm": lambda o: o.scale_by_param_block_norm(),
    "param_block_rms": lambda o: o.scale_by_param_block_rms(),
    "trust_ratio": lambda o: o.scale_by_trust_ratio(0.01, 0.5, 1e-3),
    "schedule": lambda o: o.scale_by_schedule(decayed(o)),
    "no learning rate": lambda o: o.scale_by_learning_rate(None),
    "uphill": lambda o: o.scale_by_learning_rate(0.1, flip_sign=False),
    "chain": lambda o: o.chain(o.clip_by_global_norm(1.0), o.adamw(decayed(o)), o.scale(0.5)),
    "named_chain": lambda o: o.named_chain(("c", o.clip(1.0)), ("a", o.adam(0.1))),
    "masked": lambda o: o.masked(o.adam(0.1), {"w": True, "b": False, "s": True}),
    "partition": lambda o: o.partition(
        {"a": o.adam(0.1), "b": o.set_to_zero()}, {"w": "a", "b": "b", "s": "a"}
    ),
    "stateless": lambda o: o.stateless(lambda u, p: {k: 2 * u[k] - p[k] for k in u}),
    "stateless_with_tree_map": lambda o: o.stateless_with_tree_map(lambda u, p: u * p),
    "identity": lambda o: o.identity(),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_equal_optax_step_for_step(name):
    optax, jax = peer("optax"), peer("jax")
    make = TRANSFORMS[name]
    ours, theirs = make(optim), make(optax)
    params, grads = problem()
    p, q = params, params
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optax's own deprecations
        s, t = ours.init(p), theirs.init(q)
        # XLA keeps fused bfloat16 values in float32; op by op, Optax rounds where it says so.
        rounded = any(x.dtype == ml_dtypes.bfloat16 for x in jax.tree.leaves(t))
        step = theirs.update if rounded else jax.jit(theirs.update)
        for i, g in enumerate(grads):
            u, s = ours.update(bv.tree.map(bnp.asarray, g), s, p)
            v, t = step(g, t, q)
            p, q = optim.apply_updates(p, u), optax.apply_updates(q, v)
            for k in params:
                np.testing.assert_allclose(
                    p[k], q[k], rtol=2e-4, atol=2e-6, err_msg=f"{k} after step {i}"
                )
    mine = [np.asarray(x) for x in bv.tree.leaves(s)]
    assert sorted(x.dtype.name for x in mine) == sorted(
        np.asarray(x).dtype.name for x in jax.tree.leaves(t)
    )


@pytest.mark.parametrize("name", ["adamw masked", "rmsprop options", "lamb", "partition", "rprop"])
def test_updates_compile_once_and_equal_eager_ones(name):
    tx = TRANSFORMS[name](optim)
    params, grads = problem()
    step = bv.jit(lambda g, s, p: tx.update(g, s, p))
    s = t = tx.init(params)
    for g in grads:
        u, s = tx.update(bv.tree.map(bnp.asarray, g), s, params)
        v, t = step(g, t, params)
        for k in params:
            np.testing.assert_allclose(u[k], v[k], rtol=2e-5, atol=1e-6)
    assert step._cache_size() == 1


def test_complex_parameters():
    optax, jax = peer("optax"), peer("jax")
    rng = np.random.default_rng(0)
    p = q = (rng.normal(size=3) + 1j * rng.normal(size=3)).astype(np.complex64)
    ours, theirs = optim.adam(0.1), optax.adam(0.1)
    s, t = ours.init(p), theirs.init(q)
    for _ in range(3):
        g = (rng.normal(size=3) + 1j * rng.normal(size=3)).astype(np.complex64)
        u, s = ours.update(bnp.asarray(g), s, p)
        v, t = jax.jit(theirs.update)(g, t, q)
        p, q = optim.apply_updates(p, u), optax.apply_updates(q, v)
        np.testing.assert_allclose(p, q, rtol=1e-4)


def test_low_precision_parameters_stay_so():
    params = {"w": bnp.ones(3, bnp.bfloat16)}
    for tx in (optim.adamw(0.1), optim.lion(0.1), optim.rmsprop(0.1), optim.lamb(0.1)):
        state = tx.init(params)
        updates, new = tx.update({"w": bnp.ones(3, bnp.bfloat16)}, state, params)
        assert optim.apply_updates(params, updates)["w"].dtype == ml_dtypes.bfloat16
        for a, b in zip(bv.tree.leaves(state), bv.tree.leaves(new), strict=True):
            assert a.dtype == b.dtype


def test_extra_arguments_go_through_a_chain():
    optax = peer("optax")
    params, grads = problem()
    ours = optim.chain(optim.clip(1.0), optim.polyak_sgd(0.5, variant="sps+"))
    theirs = optax.chain(optax.clip(1.0), optax.polyak_sgd(0.5, variant="sps+"))
    u, _ = ours.update(bv.tree.map(bnp.asarray, grads[0]), ours.init(params), params, value=0.3)
    v, _ = theirs.update(grads[0], theirs.init(params), params, value=0.3)
    np.testing.assert_allclose(u["w"], v["w"], rtol=1e-5)
    zero = bv.tree.map(bnp.zeros_like, params)
    assert float(abs(ours.update(zero, ours.init(params), params, value=0.3)[0]["w"]).max()) == 0
    supported = optim.with_extra_args_support(optim.scale(2.0))
    assert float(supported.update(bnp.ones(()), (), None, anything=1)[0]) == 2


def test_errors_of_transformations():
    params = {"w": bnp.ones(2)}
    with pytest.raises(
        ValueError, match=r"add_decayed_weights needs.*params(?s:.*)tx.update\(grads"
    ):
        tx = optim.adamw(0.1)
        tx.update(params, tx.init(params))
    with pytest.raises(TypeError, match="no gradient transformation"):
        optim.chain(optim.adam)
    with pytest.raises(ValueError, match="1 parts for 2"):
        optim.chain(optim.clip(1.0), optim.clip(1.0)).update(params, ((),))
    with pytest.raises(ValueError, match="must differ"):
        optim.named_chain(("a", optim.clip(1.0)), ("a", optim.clip(1.0)))
    with pytest.raises(ValueError, match="no transformation for the labels"):
        optim.partition({"a": optim.sgd(0.1)}, {"w": "z"}).init(params)
    with pytest.raises(ValueError, match="mode"):
        optim.scale_by_lion(mode="soft")
    with pytest.raises(ValueError, match="variant"):
        optim.scale_by_polyak(variant="x")
    with pytest.raises(ValueError, match="same structure"):
        optim.apply_updates(params, {"v": bnp.ones(2)})


def test_counts_do_not_overflow():
    assert int(optim.safe_increment(bnp.int32(2**31 - 1))) == 2**31 - 1
    assert float(optim.safe_increment(bnp.float32(1.0))) == 2
    with pytest.raises(TypeError, match="count"):
        optim.safe_increment(bnp.ones((), bool))


def test_moving_copies_of_parameters():
    new, old = {"w": bnp.ones(2)}, {"w": bnp.zeros(2)}
    np.testing.assert_array_equal(optim.incremental_update(new, old, 0.25)["w"], [0.25, 0.25])
    for step, expected in ((4, 1), (5, 0)):
        got = bv.jit(lambda n, o, s: optim.periodic_update(n, o, s, 4))(new, old, step)
        np.testing.assert_array_equal(got["w"], [expected] * 2)


def test_tree_arithmetic():
    a, b = {"x": bnp.array([3.0, -4.0])}, {"x": bnp.array([1.0, 2.0])}
    tree = optim.tree
    assert float(tree.norm(a)) == 5 and float(tree.norm(a, squared=True)) == 25
    assert float(tree.norm(a, 1)) == 7 and float(tree.norm(a, np.inf)) == 4
    assert float(tree.norm({})) == 0 and float(optim.global_norm(a)) == 5
    assert float(tree.vdot(a, b)) == -5 and float(tree.sum(a)) == -1
    np.testing.assert_array_equal(tree.sub(a, b)["x"], [2, -6])
    np.testing.assert_array_equal(tree.div(a, b)["x"], [3, -2])
    np.testing.assert_array_equal(tree.add(a, b, b)["x"], [5, 0])
    np.testing.assert_array_equal(tree.clip(a, -1, 1)["x"], [1, -1])
    np.testing.assert_array_equal(tree.ones_like(a)["x"], [1, 1])
    np.testing.assert_array_equal(tree.where(True, a, b)["x"], a["x"])
    assert tree.cast(a, "float16")["x"].dtype == np.float16
    with pytest.raises(ValueError, match="ord"):
        tree.norm(a, 3)


def test_gradients_flow_through_an_optimizer():
    tx = optim.adam(0.1, eps_root=1e-8)

    def meta(scale):
        params = {"w": bnp.array([1.0, -2.0])}
        state = tx.init(params)
        for _ in range(2):
            grads = bv.grad(lambda p: (scale * p["w"] ** 2).sum())(params)
            updates, state = tx.update(grads, state, params)
            params = optim.apply_updates(params, updates)
        return (params["w"] ** 2).sum()

    eps = 1e-2
    slope = (float(meta(1.0 + eps)) - float(meta(1.0 - eps))) / (2 * eps)
    np.testing.assert_allclose(bv.grad(meta)(1.0), slope, atol=1e-3)


# -- schedules -------------------------------------------------------------------------------------

CYCLE = {
    "init_value": 0.0,
    "peak_value": 1.0,
    "warmup_steps": 3,
    "decay_steps": 8,
    "end_value": 0.1,
}
SCHEDULES = {
    "constant": lambda o: o.constant_schedule(0.3),
    "linear": lambda o: o.linear_schedule(1.0, 0.1, 6, 2),
    "polynomial": lambda o: o.polynomial_schedule(1.0, 0.1, 2.0, 6, 2),
    "polynomial without steps": lambda o: o.polynomial_schedule(1.0, 0.1, 2.0, 0),
    "cosine": lambda o: o.cosine_decay_schedule(2.0, 6, 0.1, 1.5),
    "exponential": lambda o: o.exponential_decay(1.0, 3, 0.5, 2),
    "exponential stairs": lambda o: o.exponential_decay(1.0, 3, 0.5, 1, True, 0.2),
    "exponential growth": lambda o: o.exponential_decay(1.0, 3, 2.0, end_value=5.0),
    "exponential none": lambda o: o.exponential_decay(1.0, 0, 0.5),
    "piecewise constant": lambda o: o.piecewise_constant_schedule(1.0, {3: 0.5, 7: 0.1}),
    "piecewise none": lambda o: o.piecewise_constant_schedule(1.0),
    "piecewise linear": lambda o: o.piecewise_interpolate_schedule("linear", 1.0, {3: 0.5, 7: 0.1}),
    "piecewise cosine": lambda o: o.piecewise_interpolate_schedule("cosine", 1.0, {3: 0.5, 7: 0.1}),
    "linear onecycle": lambda o: o.linear_onecycle_schedule(10, 1.0),
    "cosine onecycle": lambda o: o.cosine_onecycle_schedule(10, 1.0),
    "warmup constant": lambda o: o.warmup_constant_schedule(0.0, 1.0, 4),
    "warmup cosine": lambda o: o.warmup_cosine_decay_schedule(**CYCLE),
    "warmup exponential": lambda o: o.warmup_exponential_decay_schedule(0.0, 1.0, 3, 4, 0.5),
    "sgdr": lambda o: o.sgdr_schedule([CYCLE, {**CYCLE, "decay_steps": 5}]),
    "join": lambda o: o.join_schedules(
        [o.constant_schedule(1.0), o.linear_schedule(1.0, 0.0, 3), o.constant_schedule(0.2)], [2, 6]
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_equal_optax(name):
    optax, jax = peer("optax"), peer("jax")
    ours, theirs = SCHEDULES[name](optim), SCHEDULES[name](optax)
    steps = np.arange(15)
    want = jax.jit(jax.vmap(lambda c: jax.numpy.asarray(theirs(c), "float32")))(steps)
    np.testing.assert_allclose([float(ours(int(i))) for i in steps], want, rtol=1e-5, atol=1e-6)
    compiled = bv.jit(lambda c: bnp.asarray(ours(c)))
    np.testing.assert_allclose(
        [float(compiled(i)) for i in steps[:9]], want[:9], rtol=1e-5, atol=1e-6
    )


def test_errors_of_schedules():
    with pytest.raises(ValueError, match="decay_steps"):
        optim.cosine_decay_schedule(1.0, 0)
    with pytest.raises(ValueError, match="transition_steps"):
        optim.linear_onecycle_schedule(0, 1.0)
    with pytest.raises(ValueError, match="negative"):
        optim.piecewise_constant_schedule(1.0, {3: -1.0})
    with pytest.raises(ValueError, match="interpolate_type"):
        optim.piecewise_interpolate_schedule("cubic", 1.0)
    with pytest.raises(ValueError, match="2 schedules need 1"):
        optim.join_schedules([optim.constant_schedule(1.0)] * 2, [1, 2])


# -- losses ----------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 4, 5)).astype(np.float32) * 4
Y = RNG.normal(size=(3, 4, 5)).astype(np.float32)
P = np.exp(Y) / np.exp(Y).sum(-1, keepdims=True)
IDS = RNG.integers(0, 5, size=(3, 4))
BITS = RNG.integers(0, 2, size=X.shape).astype(np.float32)
SIGNS = 2 * BITS - 1
MASK = RNG.random(X.shape) < 0.7
MASK[..., 1] = True
ONE_HOT = np.zeros_like(P)
np.put_along_axis(ONE_HOT, IDS[..., None], 1.0, -1)
INTEGER = "softmax_cross_entropy_with_integer_labels"
LOSSES = [
    ("squared_error", (X, Y), {}),
    ("squared_error", (X,), {}),
    ("l2_loss", (X, Y), {}),
    ("huber_loss", (X, Y), {}),
    ("huber_loss", (X,), {"delta": 0.3}),
    ("log_cosh", (X * 30, Y), {}),
    ("cosine_similarity", (X, Y), {"epsilon": 1e-3}),
    ("cosine_distance", (X, Y), {"axis": (0, 2), "where": MASK}),
    ("sigmoid_binary_cross_entropy", (X * 30, BITS), {}),
    ("sigmoid_focal_loss", (X, BITS), {}),
    ("sigmoid_focal_loss", (X, BITS), {"alpha": 0.3, "gamma": 1.5}),
    ("softmax_cross_entropy", (X, P), {}),
    ("softmax_cross_entropy", (X, P), {"axis": (1, 2)}),
    ("softmax_cross_entropy", (X, P * MASK), {"where": MASK}),
    (INTEGER, (X, IDS), {}),
    (INTEGER, (X, RNG.integers(0, 3, size=(4, 5))), {"axis": 0}),
    (INTEGER, (X, np.array([19, 0, 7])), {"axis": (1, 2)}),
    (INTEGER, (X, IDS), {"where": MASK}),
    ("poly_loss_cross_entropy", (X, P), {"epsilon": 1.0}),
    ("hinge_loss", (X, SIGNS), {}),
    ("perceptron_loss", (X, SIGNS), {}),
    ("sparsemax_loss", (X, BITS), {}),
    ("multiclass_hinge_loss", (X, IDS), {}),
    ("multiclass_perceptron_loss", (X, IDS), {}),
    ("kl_divergence", (np.log(P), ONE_HOT), {}),
    ("kl_divergence", (np.log(P), P[::-1].copy()), {"axis": 0, "where": MASK}),
    ("kl_divergence_with_log_targets", (np.log(P), np.log(P[::-1])), {}),
    ("generalized_kl_divergence", (Y, P), {}),
    ("smooth_labels", (P, 0.1), {}),
    ("smooth_labels", (P, 0.1), {"where": MASK}),
    ("triplet_margin_loss", (X, Y, P), {}),
]


@pytest.mark.parametrize(
    "case", range(len(LOSSES)), ids=[f"{i} {c[0]}" for i, c in enumerate(LOSSES)]
)
def test_losses_and_their_gradients_equal_optax(case):
    optax, jax = peer("optax"), peer("jax")
    name, args, kwargs = LOSSES[case]
    ours, theirs = getattr(optim, name), getattr(optax.losses, name)
    reference = jax.jit(lambda *args: theirs(*args, **kwargs))
    got = ours(*args, **kwargs)
    np.testing.assert_allclose(got, reference(*args), rtol=3e-5, atol=2e-6)
    slope = bv.grad(lambda *args: (ours(*args, **kwargs) * 1.5).sum())(*args)
    want = jax.jit(jax.grad(lambda *args: (reference(*args) * 1.5).sum()))(*args)
    np.testing.assert_allclose(slope, want, rtol=2e-4, atol=2e-5)


def test_losses_without_a_class_that_counts():
    x, where = bnp.ones((2, 3)), bnp.array([[True, False, True], [False, False, False]])
    loss = optim.softmax_cross_entropy_with_integer_labels(x, bnp.array([0, 0]), where=where)
    np.testing.assert_allclose(loss, [np.log(2), 0], rtol=1e-6)


def test_errors_of_losses():
    with pytest.raises(
        TypeError, match=r"logits must be floating, and is int32(?s:.*)logits.astype"
    ):
        optim.softmax_cross_entropy_with_integer_labels(bnp.ones((2, 3), int), bnp.array([0, 1]))
    with pytest.raises(TypeError, match="class numbers"):
        optim.softmax_cross_entropy_with_integer_labels(bnp.ones((2, 3)), bnp.ones(2))
    with pytest.raises(ValueError, match=r"int32\[2,1\](?s:.*)labels of shape \(2,\)"):
        optim.softmax_cross_entropy_with_integer_labels(bnp.ones((2, 3)), bnp.ones((2, 1), int))
    with pytest.raises(ValueError, match=r"float32\[3,1\] and .*float32\[3\](?s:.*)test_optim"):
        optim.squared_error(bnp.ones((3, 1)), bnp.ones(3))
    with pytest.raises(TypeError, match="predictions"):
        optim.huber_loss(bnp.arange(3))
