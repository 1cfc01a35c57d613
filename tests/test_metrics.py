"""Metrics and averages of models; Flax is the oracle where installed."""

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import nn
from tests.peers import peer

RNG = np.random.default_rng(0)
BATCHES = [RNG.normal(size=(4, 3)).astype(np.float32) for _ in range(3)]
LOGITS = [RNG.normal(size=(6, 5)).astype(np.float32) for _ in range(2)]
LABELS = [RNG.integers(0, 5, 6) for _ in range(2)]


def test_average_and_welford_equal_flax_and_numpy():
    theirs, jnp = peer("flax.nnx").metrics, peer("jax.numpy")
    ours = nn.MultiMetric(average=nn.metrics.Average(), spread=nn.metrics.Welford())
    oracle = {"average": theirs.Average(), "spread": theirs.Welford()}
    assert np.isnan(float(ours.average.compute()))
    update = bv.jit(lambda m, values: m.update(values=values))
    for i, batch in enumerate(BATCHES):
        update(ours, batch)
        for metric in oracle.values():
            metric.update(values=jnp.asarray(batch))
        seen = np.concatenate(BATCHES[: i + 1])
        got = ours.compute()
        np.testing.assert_allclose(got["average"], seen.mean(), rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(got["spread"].standard_deviation, seen.std(), rtol=1e-5)
        want = oracle["spread"].compute()
        for name in ("mean", "standard_error_of_mean", "standard_deviation"):
            a, b = getattr(got["spread"], name), getattr(want, name)
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert update._cache_size() == 1
    ours.update(values=2.0)
    assert int(ours.spread.count) == 37
    ours.reset()
    assert np.isnan(float(ours.average.compute())) and float(ours.spread.compute().mean) == 0
    with pytest.raises(TypeError, match="'loss' is missing"):
        nn.metrics.Average("loss").update(values=1.0)


def test_masks():
    mask = np.array([True, False, True])
    ours = nn.metrics.Average()
    ours.update(values=BATCHES[0], mask=mask)
    np.testing.assert_allclose(ours.compute(), BATCHES[0][:, mask].mean(), rtol=1e-5)
    bad = np.where(mask, BATCHES[1], np.nan)
    ours.update(values=bad, mask=mask)  # a value that does not count may be anything
    assert np.isfinite(float(ours.compute()))
    both = nn.MultiMetric(a=nn.metrics.Average(), b=nn.metrics.Average())
    both.update(values=BATCHES[0], mask={"a": mask})
    np.testing.assert_allclose(both.compute()["b"], BATCHES[0].mean(), rtol=1e-5)
    np.testing.assert_allclose(both.compute()["a"], BATCHES[0][:, mask].mean(), rtol=1e-5)


def test_accuracy_equals_flax():
    theirs, jnp = peer("flax.nnx").metrics, peer("jax.numpy")
    ours, oracle = nn.metrics.Accuracy(), theirs.Accuracy()
    for logits, labels in zip(LOGITS, LABELS, strict=True):
        ours.update(logits=logits, labels=labels, unused=1)
        oracle.update(logits=jnp.asarray(logits), labels=jnp.asarray(labels))
        np.testing.assert_allclose(ours.compute(), oracle.compute(), rtol=1e-6)
    binary = nn.metrics.Accuracy(threshold=0.5)
    binary.update(logits=bnp.array([0.6, 0.4, 0.5, 0.1]), labels=bnp.array([1, 1, 0, 0]))
    assert float(binary.compute()) == 0.5
    with pytest.raises(ValueError, match="one of classes"):
        ours.update(logits=LABELS[0], labels=LABELS[0])
    with pytest.raises(ValueError, match="labels' axes"):
        binary.update(logits=LOGITS[0], labels=LABELS[0])
    with pytest.raises(ValueError, match="integers"):
        ours.update(logits=LOGITS[0], labels=LABELS[0].astype(np.float32))
    with pytest.raises(TypeError, match="float"):
        nn.metrics.Accuracy(1)


def test_own_metrics_and_bad_names():
    class Largest(nn.Metric):
        def __init__(self):
            self.seen = nn.metrics.MetricState(bnp.float32(-np.inf))

        def update(self, *, values, **_):
            self.seen[...] = bnp.maximum(self.seen, values.max())

        def compute(self):
            return self.seen.value

    m = nn.MultiMetric(largest=Largest(), mean=nn.metrics.Average())
    m.update(values=bnp.array([1.0, 5.0]))
    assert {k: float(v) for k, v in m.compute().items()} == {"largest": 5.0, "mean": 3.0}
    with pytest.raises(NotImplementedError, match="Largest needs a method reset"):
        m.reset()
    with pytest.raises(ValueError, match=r"\['update'\] are methods"):
        nn.MultiMetric(update=nn.metrics.Average())
    graphdef, state = m.mean.split()
    assert float(nn.merge(graphdef, state).compute()) == 3.0


def test_ema_equals_flax():
    nnx, jnp = peer("flax.nnx"), peer("jax.numpy")
    ours, theirs = nn.Linear(3, 2, rngs=nn.Rngs(0)), nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    mean, want = nn.EMA(ours, 0.8), nnx.EMA(theirs, 0.8)
    step = bv.jit(lambda ema, model: ema.update(model))
    for i in range(3):
        kernel = RNG.normal(size=(3, 2)).astype(np.float32)
        ours.kernel.value, theirs.kernel[...] = kernel, jnp.asarray(kernel)
        step(mean, ours)
        want.update(theirs)
        averaged = mean.apply_to(ours)
        np.testing.assert_allclose(
            averaged.kernel, want.apply_to(theirs).kernel[...], rtol=1e-4, err_msg=str(i)
        )
    assert averaged.kernel is mean.params.kernel and type(averaged.kernel) is nn.Param
    np.testing.assert_array_equal(ours.kernel, kernel)


def test_ema_of_some_variables():
    rngs = nn.Rngs(0)
    model = nn.Sequential(
        nn.Linear(2, 2, rngs=rngs), nn.BatchNorm(2, rngs=rngs), nn.Dropout(0.5, rngs=rngs)
    )
    mean = nn.EMA(model, 0.5, only=nn.Param)
    assert set(nn.state(mean.params).flat_state()) == set(nn.state(model, nn.Param).flat_state())
    view = mean.apply_to(model)
    assert view.layers[1].mean is model.layers[1].mean
    assert view.layers[0].kernel is not model.layers[0].kernel
    everything = nn.EMA(model, 0.5)
    model.layers[2](bnp.ones(3))
    everything.update(model)
    assert int(everything.params.layers[2].rngs.count) == 1
    with pytest.raises(KeyError, match=r"layers\[0\].bias"):
        mean.update(nn.Linear(2, 2, rngs=rngs))
