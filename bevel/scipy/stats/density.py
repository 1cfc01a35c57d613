"""Kernel density estimation with Gaussian kernels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import bevel.numpy as bnp
from bevel import lax, random
from bevel.core import tree
from bevel.core.errors import ShapeError
from bevel.core.handle import Handle, wrap
from bevel.numpy.arguments import inexact
from bevel.numpy.convert import promote
from bevel.scipy.special.errors import ndtr
from bevel.scipy.special.sums import logsumexp
from bevel.scipy.stats.joint import multivariate_normal


def _real(what: str, *xs: Any) -> list[Any]:
    values, _ = promote(*xs)
    found = [wrap(inexact(v)) for v in values]
    if bnp.iscomplexobj(found[0]):
        raise TypeError(f"gaussian_kde: {what} must be real, got {found[0].dtype.name}")
    return found


def _factor(bw_method: Any, kde: gaussian_kde) -> Any:
    if bw_method is None or isinstance(bw_method, str):
        name = bw_method or "scott"
        if name not in ("scott", "silverman"):
            raise ValueError(
                f"gaussian_kde: bw_method={bw_method!r} is not known.\n"
                "Write instead: 'scott', 'silverman', a number, or a function of the estimator."
            )
        scale = (kde.d + 2) / 4 if name == "silverman" else 1
        return (kde.neff * scale) ** (-1 / (kde.d + 4))
    if callable(bw_method) and not isinstance(bw_method, Handle):
        return bw_method(kde)
    if bnp.ndim(bw_method) != 0:
        raise ValueError(
            f"gaussian_kde: bw_method must be one number, got shape {bnp.shape(bw_method)}"
        )
    return bw_method


@tree.register_pytree_node_class
class gaussian_kde:
    """A density estimated by a Gaussian kernel on each point of a data set.

    Args:
        dataset: points as columns, shape `(d, n)`, or `(n,)` for numbers.
        bw_method: what the standard deviation of the data is multiplied by for the kernels:
            "scott" (the default, `n**(-1 / (d + 4))`), "silverman", a number, or a function of the
            estimator.
        weights: of the points, shape `(n,)`; equal by default.

    Raises:
        ValueError: there is one point only, or `weights` do not fit.

    >>> from bevel.scipy import stats
    >>> kde = stats.gaussian_kde([-1.0, 0.0, 1.0])
    >>> bnp.round(kde([0.0, 3.0]), 3)
    Array([0.318, 0.008], dtype=float32)
    """

    def __init__(
        self,
        dataset: Any,
        bw_method: None | str | float | Callable[[gaussian_kde], Any] = None,
        weights: Any = None,
    ):
        given = [dataset] if weights is None else [dataset, weights]
        found = _real("dataset", *given)
        self.dataset = bnp.atleast_2d(found[0])
        if self.dataset.ndim != 2 or self.dataset.size < 2:
            raise ValueError(
                f"gaussian_kde: dataset has shape {bnp.shape(dataset)}.\n"
                "Why: several points are needed, as columns of shape (d, n), or (n,) for numbers."
            )
        if weights is None:
            self.weights = bnp.full(self.n, 1 / self.n, dtype=self.dataset.dtype)
        elif bnp.shape(weights) != (self.n,):
            raise ValueError(
                f"gaussian_kde: weights have shape {bnp.shape(weights)}, but the dataset has "
                f"{self.n} points, so that they need ({self.n},)"
            )
        else:
            self.weights = found[1] / bnp.sum(found[1])
        self.neff = 1 / bnp.sum(self.weights**2)
        factor = _factor(bw_method, self)
        spread = bnp.atleast_2d(bnp.cov(self.dataset, bias=False, aweights=self.weights))
        self.covariance = spread * factor**2
        self.inv_cov = bnp.linalg.inv(spread) / factor**2

    def tree_flatten(self) -> tuple[tuple, None]:
        """Its arrays, for transforms."""
        return (self.neff, self.dataset, self.weights, self.covariance, self.inv_cov), None

    @classmethod
    def tree_unflatten(cls, _: None, children: tuple) -> gaussian_kde:
        """The estimator with these arrays."""
        new = object.__new__(cls)
        new.neff, new.dataset, new.weights, new.covariance, new.inv_cov = children
        return new

    @property
    def d(self) -> int:
        """The number of dimensions."""
        return self.dataset.shape[0]

    @property
    def n(self) -> int:
        """The number of points."""
        return self.dataset.shape[1]

    def evaluate(self, points: Any) -> Any:
        """The density at points, columns of shape `(d, m)`, or `(m,)` in one dimension."""
        return bnp.sum(self.weights * bnp.exp(self._log_kernels(points)), axis=-1)

    __call__ = pdf = evaluate

    def logpdf(self, x: Any) -> Any:
        """Logarithm of the density at points."""
        return logsumexp(self._log_kernels(x), axis=-1, b=self.weights)

    def _log_kernels(self, points: Any) -> Any:
        """Logarithm of the kernel of each data point (last axis) at each given point."""
        (points,) = _real("points", points)
        points = bnp.atleast_2d(points)
        if points.shape == (1, self.d):
            points = points.T
        if points.shape[0] != self.d:
            raise ShapeError(
                f"gaussian_kde: points have shape {points.shape}, but the dataset has {self.d} "
                "dimensions.\n"
                "Write instead: points.T, if they are rows."
            )
        root = lax.linalg.cholesky(self.inv_cov)
        ours, theirs = root.T @ self.dataset, root.T @ points
        square = sum([(theirs[i][:, None] - ours[i]) ** 2 for i in range(self.d)])
        norm = bnp.sum(bnp.log(bnp.diagonal(root))) - 0.5 * self.d * math.log(2 * math.pi)
        return norm - 0.5 * square

    def integrate_gaussian(self, mean: Any, cov: Any) -> Any:
        """The integral of the density times a Gaussian with this mean and covariance.

        Raises:
            ShapeError: they have another number of dimensions.
        """
        mean, cov = _real("mean", bnp.atleast_1d(bnp.squeeze(mean)), bnp.atleast_2d(cov))
        if mean.shape != (self.d,) or cov.shape != (self.d, self.d):
            raise ShapeError(
                f"gaussian_kde: mean and cov have shapes {mean.shape} and {cov.shape}, but the "
                f"dataset has {self.d} dimensions"
            )
        kernels = multivariate_normal.pdf(self.dataset.T, mean, self.covariance + cov)
        return bnp.sum(kernels * self.weights)

    def integrate_box_1d(self, low: Any, high: Any) -> Any:
        """The probability of an interval, for data of one dimension.

        Raises:
            ValueError: the data have several dimensions, or the limits are no numbers.
        """
        if self.d != 1:
            raise ValueError(f"gaussian_kde: integrate_box_1d is for 1 dimension, not {self.d}")
        if bnp.ndim(low) != 0 or bnp.ndim(high) != 0:
            raise ValueError(
                "gaussian_kde: the limits of integrate_box_1d are two numbers.\n"
                "Write instead: bv.vmap(kde.integrate_box_1d)(low, high)."
            )
        scale = bnp.sqrt(self.covariance[0, 0])
        above, below = [ndtr((limit - self.dataset[0]) / scale) for limit in (high, low)]
        return bnp.sum(self.weights * (above - below))

    def integrate_box(self, low_bounds: Any, high_bounds: Any, maxpts: int | None = None) -> Any:
        """The probability of a box: of an interval, as there is no integral in more dimensions.

        Raises:
            NotImplementedError: the data have several dimensions.
        """
        if self.d == 1:
            limits = [bnp.asarray(b).reshape(()) for b in (low_bounds, high_bounds)]
            return self.integrate_box_1d(*limits)
        raise NotImplementedError(
            f"gaussian_kde: integrate_box is for 1 dimension, not {self.d}.\n"
            "Why: the normal probability of a box has no closed form.\n"
            "Write instead: the share of kde.resample(key, (100_000,)) that is inside."
        )

    def integrate_kde(self, other: gaussian_kde) -> Any:
        """The integral of the product of two estimated densities.

        Raises:
            ValueError: they have different numbers of dimensions.
        """
        if other.d != self.d:
            raise ValueError(f"gaussian_kde: the estimators have {self.d} and {other.d} dimensions")
        pairs = multivariate_normal.pdf(
            self.dataset.T[:, None] - other.dataset.T,
            bnp.zeros(self.d, dtype=self.dataset.dtype),
            self.covariance + other.covariance,
        )
        return bnp.sum(self.weights[:, None] * pairs * other.weights)

    def resample(self, key: Any, shape: tuple[int, ...] = ()) -> Any:
        """Points drawn from the estimated density, as columns: shape `(d, *shape)`."""
        chosen, moved = random.split(key)
        index = random.choice(chosen, self.n, shape=shape, p=self.weights)
        zero = bnp.zeros(self.d, dtype=self.covariance.dtype)
        noise = random.multivariate_normal(
            moved, zero, self.covariance, shape=shape, dtype=self.dataset.dtype
        )
        return self.dataset[:, index] + bnp.moveaxis(noise, -1, 0)

    def set_bandwidth(self, bw_method: Any = None) -> None:
        """Not supported: estimators do not change.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "gaussian_kde: set_bandwidth would change the estimator in place.\n"
            "Why: what a compiled function was given must not change.\n"
            "Write instead: gaussian_kde(dataset, bw_method=...)."
        )
