"""What the tests of optimizers share: a problem, random arrays, and JAX's programs on disk."""

import importlib.util
import os
import tempfile

import numpy as np
import pytest

from tests.peers import peer

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 7, 5)).astype(np.float32)


def problem(seed=0):
    """Parameters and gradients of a few steps, some of them zero, small or large."""
    rng = np.random.default_rng(seed)
    shapes = {"w": (3, 4), "b": (4,), "s": ()}
    draw = lambda scale: {
        k: np.asarray(scale * rng.normal(size=s), np.float32) for k, s in shapes.items()
    }
    params, grads = draw(1.0), [draw(scale) for scale in (1.0, 0.01, 30.0, 1.0)]
    grads[1]["b"][0] = 0.0
    return params, grads


@pytest.fixture(scope="module", autouse=True)
def kept_programs():
    """JAX keeps the programs of this file on disk, as Bevel does: half of the time is theirs."""
    if importlib.util.find_spec("jax") is None:
        yield
        return
    jax = peer("jax")
    settings = {
        "jax_compilation_cache_dir": os.path.join(tempfile.gettempdir(), "bevel-test-cache-jax"),
        "jax_persistent_cache_min_compile_time_secs": 0.1,
    }
    before = {k: getattr(jax.config, k) for k in settings}
    for k, v in settings.items():
        jax.config.update(k, v)
    yield
    for k, v in before.items():
        jax.config.update(k, v)
