"""Functions made differentiable by random perturbations of what they are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bevel.numpy as bnp
from bevel import lax, random
from bevel.api.vmap import vmap
from bevel.core import dtypes
from bevel.core import tree as _tree
from bevel.optim import tree


class Normal:
    """Normal noise.

    >>> from bevel.optim import perturbations
    >>> perturbations.Normal().log_prob(bnp.array([2.0]))
    Array([-2.], dtype=float32)
    """

    def sample(
        self, key: Any, sample_shape: tuple[int, ...] = (), dtype: Any = dtypes.float32
    ) -> Any:
        """Draws of this shape."""
        return random.normal(key, sample_shape, dtype)

    def log_prob(self, inputs: Any) -> Any:
        """The logarithm of the density, up to a constant."""
        return -0.5 * inputs**2


class Gumbel:
    """Gumbel noise, of which the argmax follows a softmax.

    >>> from bevel.optim import perturbations
    >>> perturbations.Gumbel().log_prob(bnp.array([0.0]))
    Array([-1.], dtype=float32)
    """

    def sample(
        self, key: Any, sample_shape: tuple[int, ...] = (), dtype: Any = dtypes.float32
    ) -> Any:
        """Draws of this shape."""
        return random.gumbel(key, sample_shape, dtype)

    def log_prob(self, inputs: Any) -> Any:
        """The logarithm of the density."""
        return -inputs - bnp.exp(-inputs)


_GUMBEL = Gumbel()


def make_perturbed_fun(
    fun: Callable[[Any], Any],
    num_samples: int = 1000,
    sigma: Any = 0.1,
    noise: Any = _GUMBEL,
    use_baseline: bool = True,
) -> Callable[[Any, Any], Any]:
    """The mean of a function over random perturbations of its argument, which is differentiable
    whatever the function (Berthet et al., "Learning with Differentiable Perturbed Optimizers",
    2020, arXiv:2002.08676; estimator by Foerster et al., arXiv:1802.05098).

    Args:
        fun: from a tree to a tree.
        num_samples: how many perturbations.
        sigma: their size.
        noise: with `sample(key, shape, dtype)` and `log_prob(x)`.
        use_baseline: subtract the unperturbed value in the gradient, which lowers its variance.

    Returns:
        A function of a random key and the argument.

    >>> from bevel import random
    >>> from bevel.optim import perturbations
    >>> soft = perturbations.make_perturbed_fun(lambda x: (x > 0).astype(bnp.float32))
    >>> 0 < float(bv.grad(lambda x: soft(random.key(0), x))(0.05))
    True
    """

    def one(key: Any, x: Any, baseline: Any) -> Any:
        draw = tree.random_like(key, x, noise.sample)
        moved = lax.stop_gradient(tree.add_scale(x, sigma, draw))
        log_prob = tree.sum(_tree.map(lambda a, b: noise.log_prob((b - a) / sigma), x, moved))
        weight = bnp.exp(log_prob - lax.stop_gradient(log_prob))  # 1, with the score as slope
        out = tree.scale(weight, fun(moved))
        return tree.add_scale(out, 1 - weight, baseline) if use_baseline else out

    def estimate(key: Any, x: Any) -> Any:
        x = _tree.map(bnp.asarray, x)
        baseline = fun(lax.stop_gradient(x)) if use_baseline else None
        outs = vmap(one, (0, None, None))(random.split(key, num_samples), x, baseline)
        return _tree.map(lambda o: bnp.mean(o, axis=0), outs)

    return estimate
