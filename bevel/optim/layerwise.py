"""Transformations whose statistics are of a whole array, of its rows, or of all arrays."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import bevel.numpy as bnp
from bevel import lax
from bevel.core import dtypes
from bevel.core import tree as _tree
from bevel.numpy.convert import enter
from bevel.optim import tree
from bevel.optim.base import (
    GradientTransformation,
    GradientTransformationExtraArgs,
    ScalarOrSchedule,
    chain,
    params_of,
    safe_increment,
    stateless,
    widened,
    zero_count,
)
from bevel.optim.scaling import scale, scale_by_learning_rate


class ScaleBySM3State(NamedTuple):
    """Maxima along each axis, and the first moment."""

    mu: Any
    nu: Any


class ScaleByNovogradState(NamedTuple):
    """Step, first moment, and the second moment of each array's norm."""

    count: Any
    mu: Any
    nu: Any


class ScaleByDistanceOverGradientsState(NamedTuple):
    """Largest distances from the start, sums of squared gradients, and the start."""

    max_dist: Any
    grad_sum_of_squares: Any
    init_params: Any


def _other_axes(x: Any, axis: int) -> tuple[int, ...]:
    return tuple(i for i in range(x.ndim) if i != axis)


def scale_by_sm3(b1: Any = 0.9, b2: Any = 1.0, eps: Any = 1e-8) -> GradientTransformation:
    """Adagrad with maxima along each axis in place of a sum for each element (Anil et al.,
    "Memory-Efficient Adaptive Optimization", 2019, arXiv:1901.11150).

    Args:
        b1: decay of the first moment.
        b2: decay of the squares; 1 adds them up.
        eps: added to the denominator.

    Raises:
        ValueError: (in init) complex parameters.

    >>> from bevel import optim
    >>> tx, x = optim.scale_by_sm3(), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([ 0.1, -0.1], dtype=float32)
    """
    share = 1.0 if b2 == 1.0 else 1.0 - b2

    def init(params: Any) -> ScaleBySM3State:
        if any(dtypes.is_complex(enter(p).dtype) for p in _tree.leaves(params)):
            raise ValueError("scale_by_sm3: maxima have no meaning for complex parameters")
        maxima = _tree.map(lambda p: [bnp.zeros(n, enter(p).dtype) for n in p.shape], params)
        return ScaleBySM3State(maxima, tree.zeros_like(params))

    def squares(g: Any, maxima: list[Any]) -> Any:
        spread = [bnp.expand_dims(m, _other_axes(g, i)) for i, m in enumerate(maxima)]
        return share * g**2 + b2 * functools.reduce(bnp.minimum, spread)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, ScaleBySM3State]:
        v = _tree.map(squares, updates, state.mu)
        scaled = _tree.map(lambda g, s: g * bnp.where(s > 0, lax.rsqrt(s + eps), 0.0), updates, v)
        nu = tree.update_moment(scaled, state.nu, b1, 1)
        mu = _tree.map(lambda s: [bnp.max(s, axis=_other_axes(s, i)) for i in range(s.ndim)], v)
        return nu, ScaleBySM3State(mu, nu)

    return GradientTransformation(init, update)


def sm3(learning_rate: Any, momentum: Any = 0.9) -> GradientTransformationExtraArgs:
    """SM3 (Anil et al., arXiv:1901.11150), with little memory for large matrices.

    >>> from bevel import optim
    >>> tx, x = optim.sm3(0.1), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.01,  0.01], dtype=float32)
    """
    return chain(scale_by_sm3(momentum), scale(-learning_rate))


def scale_by_novograd(
    b1: Any = 0.9,
    b2: Any = 0.25,
    eps: Any = 1e-8,
    eps_root: Any = 0.0,
    weight_decay: Any = 0.0,
    mu_dtype: Any = None,
) -> GradientTransformation:
    """Momentum of gradients over the norm of their array (Ginsburg et al., "Stochastic Gradient
    Methods with Layer-wise Adaptive Moments", 2019, arXiv:1905.11286).

    Args:
        b1: decay of the momentum.
        b2: decay of the squared norms.
        eps: added to the denominator.
        eps_root: added inside the root.
        weight_decay: strength.
        mu_dtype: dtype the momentum is kept at.

    >>> from bevel import optim
    >>> tx, x = optim.scale_by_novograd(), bnp.array([3.0, -4.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([ 0.6, -0.8], dtype=float32)
    """

    def init(params: Any) -> ScaleByNovogradState:
        norms = _tree.map(lambda p: bnp.zeros((), enter(p).dtype), params)
        return ScaleByNovogradState(zero_count(), tree.zeros_like(params, mu_dtype), norms)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, ScaleByNovogradState]:
        params = params_of("scale_by_novograd", params)
        first = state.count == 0
        squares = _tree.map(lambda g: bnp.sum(tree.abs_sq(g)), updates)
        nu = tree.cast_like(
            tree.where(first, squares, tree.update_moment(squares, state.nu, b2, 1)), state.nu
        )
        mu = _tree.map(
            lambda g, p, v, m: (
                bnp.where(first, 0.0, b1 * m)
                + g / (bnp.sqrt(v + eps_root) + eps)
                + weight_decay * p
            ),
            updates,
            params,
            nu,
            state.mu,
        )
        mu = tree.cast(mu, mu_dtype)
        return mu, ScaleByNovogradState(safe_increment(state.count), mu, nu)

    return GradientTransformation(init, update)


def novograd(
    learning_rate: ScalarOrSchedule,
    b1: Any = 0.9,
    b2: Any = 0.25,
    eps: Any = 1e-6,
    eps_root: Any = 0.0,
    weight_decay: Any = 0.0,
) -> GradientTransformationExtraArgs:
    """NovoGrad (Ginsburg et al., arXiv:1905.11286); arguments as for `scale_by_novograd`.

    >>> from bevel import optim
    >>> tx, x = optim.novograd(0.1), bnp.array([3.0, -4.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.06,  0.08], dtype=float32)
    """
    return chain(
        scale_by_novograd(b1, b2, eps, eps_root, weight_decay),
        scale_by_learning_rate(learning_rate),
    )


def scale_by_distance_over_gradients(
    reps_rel: Any = 1e-6,
    eps: Any = 1e-8,
    param_dtype: Any = dtypes.float32,
    global_scale: Any = 1.0,
) -> GradientTransformation:
    """Steps of each array by its distance from the start over the norm of all its gradients (Ivgi
    et al., "DoG is SGD's Best Friend", 2023, arXiv:2302.12022, with one step size an array).

    Args:
        reps_rel: first distance, relative to 1 + the norm of the parameters.
        eps: added to the sum of squares.
        param_dtype: dtype the start is kept at.
        global_scale: factor of all steps.

    >>> from bevel import optim
    >>> tx, x = optim.scale_by_distance_over_gradients(0.1), bnp.array([3.0, -4.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([ 0.36, -0.48], dtype=float32)
    """

    def distance(x: Any, y: Any = 0.0) -> Any:
        return bnp.sqrt(bnp.sum((x - y) ** 2))

    def init(params: Any) -> ScaleByDistanceOverGradientsState:
        return ScaleByDistanceOverGradientsState(
            _tree.map(lambda x: reps_rel * (1 + distance(x)), params),
            _tree.map(lambda x: widened(bnp.zeros(1), enter(x).dtype), params),
            tree.cast(params, param_dtype),
        )

    def update(
        updates: Any, state: Any, params: Any = None
    ) -> tuple[Any, ScaleByDistanceOverGradientsState]:
        params = params_of("scale_by_distance_over_gradients", params)
        far = _tree.map(
            lambda d, x, y: bnp.maximum(d, distance(x, widened(y, enter(x).dtype))),
            state.max_dist,
            params,
            state.init_params,
        )
        squares = _tree.map(lambda s, g: s + bnp.sum(g**2), state.grad_sum_of_squares, updates)
        out = _tree.map(
            lambda g, d, s: (global_scale * (d / bnp.sqrt(s + eps)))[0] * g, updates, far, squares
        )
        far, squares = tree.cast_like((far, squares), (state.max_dist, state.grad_sum_of_squares))
        return out, ScaleByDistanceOverGradientsState(far, squares, state.init_params)

    return GradientTransformation(init, update)


def normalize_by_update_norm(scale_factor: Any = 1.0, eps: Any = 1e-6) -> GradientTransformation:
    """Divides updates by their norm as one vector, times `scale_factor`.

    >>> from bevel import optim
    >>> tx, x = optim.normalize_by_update_norm(), bnp.array([3.0, -4.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([ 0.6, -0.8], dtype=float32)
    """

    def divided(updates: Any, params: Any) -> Any:
        norm = (tree.norm(updates) + eps) / scale_factor
        return _tree.map(lambda g: g / norm, updates)

    return stateless(divided)
