"""Noise added to gradients."""

from __future__ import annotations

from typing import Any, NamedTuple

import bevel.numpy as bnp
from bevel import random
from bevel.optim import tree
from bevel.optim.base import (
    GradientTransformation,
    GradientTransformationExtraArgs,
    ScalarOrSchedule,
    chain,
    safe_increment,
    zero_count,
)
from bevel.optim.scaling import scale_by_learning_rate


class AddNoiseState(NamedTuple):
    """A count of steps, and the key of the next noise."""

    count: Any
    rng_key: Any


def key_from(name: str, key: Any, seed: Any) -> Any:
    """A random key from a key, or from a seed under either name; of the seed 0 without both.

    Raises:
        ValueError: both were given.
    """
    if key is not None and seed is not None:
        raise ValueError(
            f"{name}: key and seed are two names for one thing; give key=random.key(0)"
        )
    key = (0 if seed is None else seed) if key is None else key
    return key if random.is_key(key) else random.key(key)


def add_noise(
    eta: Any, gamma: Any, key: Any = None, *, seed: int | None = None
) -> GradientTransformation:
    """Adds normal noise of variance eta / step**gamma (Neelakantan et al., "Adding Gradient Noise
    Improves Learning for Very Deep Networks", 2015, arXiv:1511.06807).

    Args:
        eta: variance at the first step.
        gamma: how fast it falls.
        key: random key, or a seed (0).
        seed: another name for a `key` that is a number.

    Raises:
        ValueError: both key and seed.

    >>> from bevel import optim
    >>> tx = optim.add_noise(0.01, 0.55, key=0)
    >>> tx.update(bnp.ones(2), tx.init(bnp.zeros(2)))[0].shape
    (2,)
    """
    first = key_from("add_noise", key, seed)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, AddNoiseState]:
        count = safe_increment(state.count)
        rng_key, now = random.split(state.rng_key)
        deviation = bnp.sqrt(eta / count**gamma)
        noise = tree.random_like(now, updates)
        return tree.add_scale(updates, deviation, noise), AddNoiseState(count, rng_key)

    return GradientTransformation(
        lambda params: AddNoiseState(zero_count(), random.clone(first)), update
    )


def noisy_sgd(
    learning_rate: ScalarOrSchedule,
    eta: Any = 0.01,
    gamma: Any = 0.55,
    key: Any = None,
    *,
    seed: int | None = None,
) -> GradientTransformationExtraArgs:
    """Gradient descent with noise (arXiv:1511.06807); arguments as for `add_noise`.

    >>> from bevel import optim
    >>> tx = optim.noisy_sgd(0.1, key=0)
    >>> tx.update(bnp.ones(2), tx.init(bnp.zeros(2)))[0].shape
    (2,)
    """
    return chain(add_noise(eta, gamma, key, seed=seed), scale_by_learning_rate(learning_rate))
