"""Optax's tree functions and utilities, each against Optax (and SciPy)."""

import warnings

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import optim, random
from bevel.core import tree
from tests.optim_cases import X, kept_programs, problem
from tests.peers import peer

__all__ = ["kept_programs"]  # a fixture that applies by itself

# -- trees -----------------------------------------------------------------------------------------

A = {"x": X[0], "y": (X[1, 0], np.float32(2.0))}
B = {"x": X[1], "y": (X[2, 0], np.float32(-1.5))}
Z = {"z": (X[0] + 1j * X[1]).astype(np.complex64)}
COUNT = np.int32(3)
TREES = [
    ("add", (A, B, A)),
    ("add_scale", (A, np.float32(0.3), B)),
    ("allclose", (A, B)),
    ("allclose", (A, A)),
    ("batch_shape", (A, (2, 3))),
    ("bias_correction", (A, 0.9, COUNT)),
    ("cast", (A, "float16")),
    ("cast", (A, None)),
    ("cast_like", (A, B)),
    ("clip", (A, -0.5, 0.5)),
    ("conj", (Z,)),
    ("div", (A, B)),
    ("full_like", (A, 7.0)),
    ("max", (A,)),
    ("min", (A,)),
    ("max", ({"empty": np.zeros((0, 2), np.float32)},)),
    ("mul", (A, B)),
    ("norm", (A,)),
    ("norm", (Z,)),
    ("norm", (A, 1, True)),
    ("norm", (A, "inf")),
    ("ones_like", (A,)),
    ("real", (Z,)),
    ("scale", (0.5, A)),
    ("size", (A,)),
    ("sub", (A, B)),
    ("sum", (A,)),
    ("update_infinity_moment", (A, B, 0.9, 1e-3)),
    ("update_moment", (A, B, 0.9, 2)),
    ("update_moment_per_elem_norm", (Z, {"z": X[2]}, 0.9, 2)),
    ("vdot", (A, B)),
    ("vdot", (Z, Z)),
    ("where", (True, A, B)),
    ("zeros_like", (A, "float16")),
]


@pytest.mark.parametrize("i", range(len(TREES)), ids=[f"{i} {x[0]}" for i, x in enumerate(TREES)])
def test_tree_functions_equal_optax(i):
    optax, jax = peer("optax"), peer("jax")
    name, args = TREES[i]
    got = getattr(optim.tree, name)(*args)
    same = getattr(optim.tree_utils, f"tree_{name}")(*args)
    arrays = [jax.tree.map(jax.numpy.asarray, a) if isinstance(a, dict) else a for a in args]
    want = getattr(optax.tree, name)(*arrays)
    for x, y, z in zip(*map(tree.leaves, (got, same)), jax.tree.leaves(want), strict=True):
        np.testing.assert_array_equal(x, y)
        assert np.asarray(x).dtype == np.asarray(z).dtype or name in ("size", "allclose")
        np.testing.assert_allclose(x, z, rtol=2e-5, atol=1e-6)


def test_random_trees_equal_optax():
    optax, jax = peer("optax"), peer("jax")
    got = optim.tree.random_like(random.key(3), A, random.uniform)
    want = optax.tree.random_like(
        jax.random.key(3), jax.tree.map(jax.numpy.asarray, A), jax.random.uniform
    )
    for x, y in zip(tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_array_equal(x, y)
    words = optim.tree.unwrap_random_key_data(optim.tree.split_key_like(random.key(3), A))
    keys = optax.tree.unwrap_random_key_data(optax.tree.split_key_like(jax.random.key(3), A))
    np.testing.assert_array_equal(words["x"], keys["x"])


def test_dtypes_of_trees():
    t = {"a": bnp.ones(2, "float16"), "b": bnp.ones(2), "c": bnp.ones(2, "bfloat16")}
    half = {"a": t["a"], "b": t["b"]}
    assert optim.tree.dtype(half, "lowest") == np.float16
    assert optim.tree.dtype(half, "highest") == np.float32
    assert optim.tree.dtype(t, "promote") == np.float32
    assert optim.tree.dtype(None) == np.float32
    with pytest.raises(ValueError, match="Write instead: dtype"):
        optim.tree.dtype(half)
    with pytest.raises(ValueError, match="neither of"):
        optim.tree.dtype({"a": t["a"], "c": t["c"]}, "lowest")
    with pytest.raises(ValueError, match="mixed_dtype_handler"):
        optim.tree.dtype(half, "best")


def test_trees_as_vectors():
    t = {"a": bnp.arange(3), "b": bnp.ones((2, 2), "float16")}
    flat, unravel = optim.tree.ravel(t)
    assert flat.shape == (7,)
    back = unravel(flat)
    assert back["a"].dtype == np.int32 and back["b"].shape == (2, 2)
    assert optim.tree.ravel({})[0].shape == (0,)


def test_states_are_searched_as_in_optax():
    optax = peer("optax")
    params = {"w": np.ones(2, np.float32)}

    def made(o):
        return o.chain(
            o.named_chain(("first", o.adam(0.1)), ("second", o.trace(0.5))),
            o.masked(o.inject_hyperparams(o.sgd)(0.3), {"w": True}),
        ).init(params)

    ours, want = made(optim), made(optax)
    keys = ["count", "mu", "learning_rate", "ScaleByAdamState", "trace", "TraceState", "w", "none"]
    for key in keys:
        a, b = (o.tree.get_all_with_path(s, key) for o, s in ((optim, ours), (optax, want)))
        texts = [[" ".join(str(k) for k in path) for path, _ in found] for found in (a, b)]
        assert sorted(texts[0]) == sorted(texts[1]), key
    in_adam = lambda path, value: any(
        getattr(k, "tuple_name", "") == "ScaleByAdamState" for k in path
    )
    new = optim.tree.set(ours, in_adam, count=bnp.int32(7))
    assert int(optim.tree.get(new, "count", filtering=in_adam)) == 7
    counts = [int(v) for _, v in optim.tree.get_all_with_path(new, "count")]
    assert sorted(counts) == [0, 7]
    assert optim.tree.get(ours, "nothing", default=5) == 5
    with pytest.raises(KeyError, match="2 values are called 'count'"):
        optim.tree.get(ours, "count")
    with pytest.raises(KeyError, match="nothing in the tree"):
        optim.tree.set(ours, nothing=1)
    tx = optim.chain(optim.masked(optim.adam(0.1), {"w": True}), optim.ema(0.9))
    doubled = optim.tree.map_params(
        tx, lambda m: m + 1, tx.init(params), transform_non_params=lambda c: c - 1
    )
    assert float(optim.tree.get(doubled, "mu")["w"][0]) == 1
    assert int(optim.tree.get(doubled, "EmaState").count) == -1


# -- utilities -------------------------------------------------------------------------------------


def test_safe_norms_equal_optax_with_gradients():
    optax, jax = peer("optax"), peer("jax")
    for x in (X[0], X[0] * 0, X[0] * 1e-3):
        for kwargs in ({}, {"ord": 1, "axis": 0}, {"axis": -1, "keepdims": True}):
            f = lambda o, x, kwargs=kwargs: o.safe_norm(x, 0.01, **kwargs)
            np.testing.assert_allclose(f(optim, x), f(optax, x), rtol=1e-6)
        g = bv.grad(lambda x: optim.safe_norm(x, 0.01))(x)
        h = jax.grad(lambda x: optax.safe_norm(x, 0.01))(x)
        np.testing.assert_allclose(g, h, rtol=1e-5)
        r = bv.value_and_grad(lambda x: optim.safe_root_mean_squares(x, 0.01))(x)
        q = jax.value_and_grad(lambda x: optax.safe_root_mean_squares(x, 0.01))(x)
        np.testing.assert_allclose(r[0], q[0], rtol=1e-6)
        np.testing.assert_allclose(r[1], q[1], rtol=1e-5, atol=1e-8)


def test_scaled_gradients():
    for scale in (0.0, 0.3, 1.0, bnp.float32(2.0)):
        f = lambda x, scale=scale: (optim.scale_gradient({"a": x}, scale)["a"] ** 2).sum()
        np.testing.assert_allclose(f(X[0]), (X[0] ** 2).sum(), rtol=1e-6)
        np.testing.assert_allclose(bv.grad(f)(X[0]), 2 * X[0] * float(scale), rtol=1e-6)


def test_multi_normal_equals_optax():
    optax, jax = peer("optax"), peer("jax")
    ours, want = (o.multi_normal(X[0, 0], X[0, 1] * 0.1) for o in (optim, optax))
    np.testing.assert_allclose(ours.log_prob(X[1]), want.log_prob(X[1]), rtol=1e-5)
    a, b = ours.sample((3,), random.key(0)), want.sample((3,), jax.random.key(0))
    np.testing.assert_allclose(a, b, rtol=1e-6)
    np.testing.assert_array_equal(ours.params[1], ours.log_scale)


def test_matrix_functions():
    optax = peer("optax")
    m = (X[0].T @ X[0]).astype(np.float32)
    ours, want = (o.power_iteration(m) for o in (optim, optax))
    np.testing.assert_allclose(ours[0], want[0], rtol=1e-5)
    np.testing.assert_allclose(ours[1], want[1], rtol=1e-3, atol=1e-4)
    found = optim.power_iteration(lambda v: {"v": m @ v["v"]}, v0={"v": bnp.ones(5)})
    np.testing.assert_allclose(found[0], want[0], rtol=1e-5)
    with pytest.raises(ValueError, match="v0"):
        optim.power_iteration(lambda v: v)
    for p in (1, 2, 4):
        ours, want = (o.matrix_inverse_pth_root(m, p) for o in (optim, optax))
        np.testing.assert_allclose(ours[0], want[0], rtol=2e-2, atol=2e-3)
    value, vector = np.linalg.eigh(m.astype(np.float64))
    third = vector * value ** (-1 / 3) @ vector.T
    root, error = bv.jit(lambda m: optim.matrix_inverse_pth_root(m, 3, ridge_epsilon=0.0))(m)
    np.testing.assert_allclose(root, third, rtol=1e-2, atol=2e-3)
    assert float(error) < 1e-3
    one, _ = optim.matrix_inverse_pth_root(bnp.full((1, 1), 16.0), 4)
    np.testing.assert_allclose(one, [[0.5]], rtol=1e-5)


def test_nonnegative_least_squares():
    from scipy.optimize import nnls

    a, b = np.abs(X[0]) + 0.1, X[1, :, :2]
    ours = optim.nnls(a, b, 3000)
    for k in range(2):
        np.testing.assert_allclose(ours[:, k], nnls(a, b[:, k])[0], atol=2e-3)
    np.testing.assert_allclose(
        optim.nnls(a, b[:, 0], 50), peer("optax").nnls(a, b[:, 0], 50), atol=1e-4
    )
    with pytest.raises(ValueError, match="nnls: A is"):
        optim.nnls(a, b.T, 3)


def test_gradients_of_examples_are_cut_as_in_optax():
    optax, jax = peer("optax"), peer("jax")
    grads = {"w": X[:, :3] * 2, "b": X[:, 0], "zero": X[:, 0] * 0}
    for o in ("per_example_global_norm_clip", "per_example_layer_norm_clip"):
        for kwargs in ({},) if "global" in o else ({}, {"uniform": False}):
            ours = getattr(optim, o)(grads, 1.5, **kwargs)
            want = getattr(optax, o)(jax.tree.map(jax.numpy.asarray, grads), 1.5, **kwargs)
            for a, b in zip(tree.leaves(ours), jax.tree.leaves(want), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="first axis of every gradient"):
        optim.per_example_global_norm_clip({"w": X, "b": X[:2]}, 1.0)


# -- projections, perturbations, curvature, assignment ---------------------------------------------

PROJECTIONS = [
    ("projection_non_negative", ()),
    ("projection_box", (-0.5, 0.7)),
    ("projection_hypercube", (0.6,)),
    ("projection_simplex", ()),
    ("projection_simplex", (2.5,)),
    ("projection_l1_sphere", (1.5,)),
    ("projection_l1_ball", (1.5,)),
    ("projection_l1_ball", (1500.0,)),
    ("projection_l2_sphere", (2.0,)),
    ("projection_l2_ball", (2.0,)),
    ("projection_l2_ball", (2000.0,)),
    ("projection_linf_ball", (0.5,)),
    ("projection_vector", (B,)),
    ("projection_hyperplane", (B, 0.3)),
    ("projection_halfspace", (B, 0.3)),
    ("projection_halfspace", (B, -300.0)),
]


@pytest.fixture(scope="module")
def their_projections():
    optax, jax = peer("optax"), peer("jax")

    def run(a):
        def one(name, args):
            project = getattr(optax.projections, name)
            if name == "projection_hypercube":  # which takes arrays only in Optax
                array = project
                project = lambda x, *args: jax.tree.map(lambda leaf: array(leaf, *args), x)
            if name == "projection_box":
                args = [jax.tree.map(lambda _, b=b: b, a) for b in args]
            total = lambda x: optax.tree.vdot(project(x, *args), B)
            return project(a, *args), jax.grad(total)(a)

        return [one(*row) for row in PROJECTIONS]

    return jax.jit(run)(jax.tree.map(jax.numpy.asarray, A))


@pytest.mark.parametrize(
    "i", range(len(PROJECTIONS)), ids=[f"{i} {x[0]}" for i, x in enumerate(PROJECTIONS)]
)
def test_projections_and_their_gradients_equal_optax(i, their_projections):
    jax = peer("jax")
    name, args = PROJECTIONS[i]
    project = getattr(optim.projections, name)
    got = project(A, *args)
    slope = bv.grad(lambda x: optim.tree.vdot(project(x, *args), B))(A)
    for x, y in zip(tree.leaves((got, slope)), jax.tree.leaves(their_projections[i]), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


def test_perturbed_functions_equal_optax():
    optax, jax = peer("optax"), peer("jax")
    x = {"a": X[0, 0]}
    for noise, baseline in (("Gumbel", True), ("Normal", False)):

        def value(lib, o, grad, key, noise=noise, baseline=baseline):
            f = lambda t: {"out": (t["a"] == t["a"].max()).astype("float32")}
            soft = o.perturbations.make_perturbed_fun(
                f, 50, 0.5, getattr(o.perturbations, noise)(), baseline
            )
            weights = np.arange(5, dtype=np.float32)
            return grad(lambda x: (soft(key, x)["out"] * weights).sum())(x)

        v, g = value(bv, optim, bv.value_and_grad, random.key(1))
        u, h = jax.jit(lambda key: value(jax, optax, jax.value_and_grad, key))(jax.random.key(1))
        np.testing.assert_allclose(v, u, rtol=1e-5)
        np.testing.assert_allclose(g["a"], h["a"], rtol=1e-3, atol=1e-4)


def test_curvature_equals_optax():
    optax, jax = peer("optax"), peer("jax")
    params = {"w": X[0], "b": X[0, :, 0]}
    loss = lambda p, x, y: ((p["w"] @ x) ** 3 + p["b"] * y).sum() ** 2 * 0.01
    v = np.arange(42, dtype=np.float32) / 42
    args = (params, X[1, 0], X[1, :, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = jax.jit(
            lambda: (
                optax.second_order.hvp(loss, v, *args)["w"],
                optax.second_order.hessian_diag(loss, *args),
                optax.second_order.fisher_diag(loss, *args),
            )
        )()
    so = optim.second_order
    ours = so.hvp(loss, v, *args)["w"], so.hessian_diag(loss, *args), so.fisher_diag(loss, *args)
    for a, b in zip(ours, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * float(abs(b).max()))


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4), (1, 3), (0, 2)])
def test_assignments_are_optimal(shape):
    optax = peer("optax")
    from scipy.optimize import linear_sum_assignment

    cost = np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)
    i, j = linear_sum_assignment(cost)
    a, b = optim.assignment.base_hungarian_algorithm(cost)
    np.testing.assert_array_equal(a, i)
    np.testing.assert_array_equal(b, j)
    a, b = optim.assignment.hungarian_algorithm(cost)
    c, d = optax.assignment.hungarian_algorithm(peer("jax").numpy.asarray(cost))
    np.testing.assert_array_equal(a, c)
    np.testing.assert_array_equal(b, d)


def test_assignments_of_integers_compile():
    from scipy.optimize import linear_sum_assignment

    costs = np.random.default_rng(0).integers(0, 9, size=(5, 5, 7))
    total = bv.jit(bv.vmap(lambda c: c[optim.assignment.base_hungarian_algorithm(c)].sum()))(costs)
    want = [c[linear_sum_assignment(c)].sum() for c in costs]
    np.testing.assert_array_equal(total, want)
    with pytest.raises(ValueError, match="rows, columns"):
        optim.assignment.hungarian_algorithm(bnp.ones(3))


# -- microbatches, loss scaling --------------------------------------------------------------------


def test_microbatches_equal_optax():
    optax, jax = peer("optax"), peer("jax")
    data = {"x": np.moveaxis(X[:, :6], 0, 1), "y": np.arange(6, dtype=np.float32)}

    def f(w, batch, scale=1.0):
        out = (batch["x"] * w).sum((1, 2)) * scale * batch["y"]
        return out.sum(), out, {"mean": out.mean(), "last": out.mean()}

    def run(o, asarray):
        kind = o.microbatching.AccumulationType
        kinds = (kind.SUM, kind.CONCAT, {"mean": kind.MEAN, "last": kind.RUNNING_MEAN})
        parts = o.microbatch(f, 1, 2, kinds)
        some = o.microbatch(f, 1, 2, kind.RUNNING_MEAN, num_real_microbatches=2)
        batch = {k: asarray(v) for k, v in data.items()}
        return parts(asarray(X[0, 0]), batch, scale=2.0), some(asarray(X[0, 0]), batch)

    ours = run(optim, bnp.asarray)
    want = jax.jit(lambda: run(optax, jax.numpy.asarray))()
    for a, b in zip(tree.leaves(ours), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ours[0][1], f(X[0, 0], data, 2.0)[1], rtol=1e-5, atol=1e-5)
    assert optim.microbatch(f, 1, None) is f
    with pytest.raises(ValueError, match="multiple of microbatch_size"):
        optim.microbatch(f, 1, 4)(X[0, 0], data)
    with pytest.raises(ValueError, match="mean needs floating"):
        optim.microbatch(lambda x: x.sum(), 0, 2, optim.microbatching.AccumulationType.MEAN)(
            bnp.arange(4)
        )


def test_gradients_of_examples_in_microbatches_equal_optax():
    optax, jax = peer("optax"), peer("jax")

    def run(o, asarray, size, **kwargs):
        loss = lambda w, x: ((x @ w) ** 2).sum()
        grad = o.microbatching.micro_grad(
            loss,
            microbatch_size=size,
            transform_fn=lambda g: g / 2,
            metrics_fn=lambda g: (g**2).sum(),
            **kwargs,
        )
        return grad(asarray(X[0, 0]), asarray(X[0, :6]))

    for size, kwargs in ((2, {}), (None, {"keep_batch_dim": False})):
        ours = run(optim, bnp.asarray, size, **kwargs)
        want = jax.jit(lambda s=size, k=kwargs: run(optax, jax.numpy.asarray, s, **k))()
        for a, b in zip(tree.leaves(ours), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    with pytest.raises(NotImplementedError, match="out_axes=1"):
        optim.microbatching.micro_vmap(lambda x: x, out_axes=1)


def test_loss_scales():
    static = optim.StaticLossScale(8.0)
    grads = {"w": bnp.ones(2, "float16")}
    assert static.scale(grads)["w"].dtype == np.float16
    np.testing.assert_array_equal(static.unscale(static.scale(grads))["w"], [1, 1])
    assert static.adjust(False) is static

    @bv.jit
    def step(scaling, finite):
        return scaling.adjust(finite)

    dynamic = optim.DynamicLossScale(bnp.float32(8.0), period=2, min_loss_scale=2.0)
    seen = []
    for finite in (True, True, True, False, False, False, True, True):
        dynamic = step(dynamic, finite)
        seen.append((float(dynamic.loss_scale), int(dynamic.counter)))
    assert seen == [(8, 1), (16, 0), (16, 1), (8, 0), (4, 0), (2, 0), (2, 1), (4, 0)]
    largest = optim.DynamicLossScale(bnp.float32(3e38), period=1).adjust(True)
    assert np.isfinite(float(largest.loss_scale))
    assert bool(optim.all_finite({"a": bnp.ones(2), "n": bnp.arange(2)}))
    assert not bool(optim.all_finite({"a": bnp.array([1.0, bnp.nan])}))
    assert bool(optim.all_finite({"n": bnp.arange(2)}))
    with pytest.raises(ValueError, match="pred is one boolean"):
        optim.select_tree(bnp.ones(2), grads, grads)


def test_errors_of_more_transformations():
    params = {"w": bnp.ones((2, 2))}
    for tx in (optim.adafactor(0.1), optim.novograd(0.1), optim.lbfgs(), optim.contrib.prodigy()):
        with pytest.raises(ValueError, match=r"needs the current parameters(?s:.*)tx.update"):
            extra = {"value": 1.0, "grad": params, "value_fn": None}
            tx.update(params, tx.init(params), **extra)
    with pytest.raises(ValueError, match="memory_size"):
        optim.scale_by_lbfgs(0)
    with pytest.raises(ValueError, match="complex"):
        optim.sm3(0.1).init({"w": bnp.ones(2, "complex64")})
    with pytest.raises(ValueError, match="key and seed"):
        optim.noisy_sgd(0.1, key=1, seed=2)
    with pytest.raises(ValueError, match="number"):
        optim.optimistic_adam(optim.constant_schedule(0.1))
    with pytest.raises(ValueError, match="init_step"):
        optim.contrib.dog(init_step=("guess", 1.0))
    with pytest.raises(ValueError, match="factor"):
        optim.contrib.reduce_on_plateau(1.5)
    with pytest.raises(ValueError, match="rtol"):
        optim.contrib.reduce_on_plateau(0.5, rtol=0.0)
    with pytest.raises(ValueError, match="ns_coeffs"):
        optim.contrib.muon(0.1, "none")
    with pytest.raises(ValueError, match="n up to ns_steps"):
        optim.contrib.muon(0.1, "dion", ns_steps=2).init(params)
    with pytest.raises(ValueError, match="preconditioning"):
        tx = optim.contrib.scale_by_muon(preconditioning="none")
        tx.update(params, tx.init(params))
    with pytest.raises(ValueError, match="has no matrix"):
        tx = optim.contrib.scale_by_muon()
        tx.update(bnp.ones(3), tx.init(bnp.ones(3)))
    with pytest.raises(TypeError, match="rank"):
        optim.contrib.galore(0.1, rank=1.5)
    with pytest.raises(ValueError, match="leaves axes"):
        optim.contrib.galore(
            0.1, weight_dimension_numbers=optim.contrib.GaLoreDimensionNumbers()
        ).init(bnp.ones((2, 2, 2)))
    with pytest.raises(ValueError, match="value=value"):
        tx = optim.contrib.momo()
        tx.update(params, tx.init(params), params, value=None)
    with pytest.raises(ValueError, match="grad_fn"):
        tx = optim.contrib.sam(optim.sgd(0.1), optim.sgd(0.1), opaque_mode=True)
        tx.update(params, tx.init(params), params)
    with pytest.raises(ValueError, match="obj_fn"):
        tx = optim.contrib.sophia(0.1)
        tx.update(params, tx.init(params), params)
    with pytest.raises(ValueError, match="ScheduleFreeState"):
        optim.contrib.schedule_free_eval_params(optim.EmptyState(), params)


def test_complex_parameters_are_split_as_in_optax():
    optax = peer("optax")
    p = (X[0] + 1j * X[1]).astype(np.complex64)
    ours, want = (o.contrib.split_real_and_imaginary(o.adam(0.1)) for o in (optim, optax))
    u, s = ours.update(bnp.asarray(p), ours.init(p), p)
    v, t = want.update(p, want.init(p), p)
    np.testing.assert_allclose(u, v, rtol=1e-5)
    np.testing.assert_allclose(
        s.inner_state[0].mu.imaginary, t.inner_state[0].mu.imaginary, rtol=1e-5
    )


def test_schedule_free_parameters_for_evaluation():
    optax = peer("optax")
    params, grads = problem()
    ours, want = (o.contrib.schedule_free_sgd(0.1) for o in (optim, optax))
    (u, s), (_, t) = (tx.update(grads[0], tx.init(params), params) for tx in (ours, want))
    p = optim.apply_updates(params, u)
    a = optim.contrib.schedule_free_eval_params(s, p)
    b = optax.contrib.schedule_free_eval_params(t, {k: np.asarray(v) for k, v in p.items()})
    np.testing.assert_allclose(a["w"], b["w"], rtol=1e-5)


# -- experimental ----------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2])
def test_aggregation_of_examples_equals_optax(steps):
    optax, jax = peer("optax"), peer("jax")

    def make(o):
        a = o.experimental.aggregating
        mean = a.average_incrementally_updates(0, steps)
        return a.add_mean_variance_to_opt(o.sgd(0.1), 0.8, 0, steps), a.process(
            o.clip(1.0), mean, o.adam(0.1)
        )

    params = {"w": X[0]}
    for ours, want in zip(make(optim), make(optax), strict=True):
        s, t = ours.init(params), want.init(params)
        step = jax.jit(want.update)
        for i in range(4):
            grads = {"w": np.stack([X[1] + i, X[2] * i, X[0]])}
            u, s = ours.update(bv.tree.map(bnp.asarray, grads), s, params)
            v, t = step(grads, t, params)
            for a, b in zip(tree.leaves((u, s)), jax.tree.leaves((v, t)), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
        if i and tree.leaves(s) and optim.tree.get(s, "variance_grads_ema"):
            a = optim.experimental.aggregating.get_unbiased_mean_and_variance_ema(s)
            b = optax.experimental.aggregating.get_unbiased_mean_and_variance_ema(t)
            np.testing.assert_allclose(a[1]["w"], b[1]["w"], rtol=1e-4)
    with pytest.raises(ValueError, match="at least 1"):
        optim.experimental.aggregating.accumulate_avg_updates(0)
