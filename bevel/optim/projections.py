"""Projections of trees, as one vector, onto convex sets: the nearest point of the set."""

from __future__ import annotations

from typing import Any

import bevel.numpy as bnp
from bevel import lax
from bevel.core import tree as _tree
from bevel.nn.activations import relu
from bevel.numpy.convert import enter
from bevel.optim import tree as _math


def projection_non_negative(tree: Any) -> Any:
    """Onto the trees without negative elements.

    >>> from bevel.optim import projections
    >>> projections.projection_non_negative(bnp.array([-1.0, 2.0]))
    Array([0., 2.], dtype=float32)
    """
    return _tree.map(relu, tree)


def _like(bound: Any, tree: Any) -> Any:
    """A bound for each array: a number is one for all."""
    return (
        bound
        if _tree.structure(bound) == _tree.structure(tree)
        else _tree.map(lambda _: bound, tree)
    )


def projection_box(tree: Any, lower: Any, upper: Any) -> Any:
    """Onto the trees between two bounds: trees of the same structure, or one number for all.

    >>> from bevel.optim import projections
    >>> projections.projection_box(bnp.array([-3.0, 0.5, 3.0]), -1.0, 1.0)
    Array([-1. ,  0.5,  1. ], dtype=float32)
    """
    return _tree.map(bnp.clip, tree, _like(lower, tree), _like(upper, tree))


def projection_hypercube(tree: Any, scale: Any = 1) -> Any:
    """Onto the trees of elements between 0 and `scale`.

    >>> from bevel.optim import projections
    >>> projections.projection_hypercube(bnp.array([-3.0, 0.5, 3.0]))
    Array([0. , 0.5, 1. ], dtype=float32)
    """
    return projection_box(tree, 0, scale)


def projection_simplex(tree: Any, scale: Any = 1) -> Any:
    """Onto the trees of elements that are not negative and sum to `scale` (Held et al., 1974,
    doi:10.1007/BF01580223).

    >>> from bevel.optim import projections
    >>> projections.projection_simplex(bnp.array([0.5, 1.5, -1.0]))
    Array([0., 1., 0.], dtype=float32)
    """
    values, unravel = _math.ravel(tree)
    fixed = lax.stop_gradient(values / scale)
    falling = bnp.sort(fixed)[::-1]
    excess = bnp.cumsum(falling) - 1
    count = bnp.sum(falling * bnp.arange(1, fixed.size + 1) > excess)
    inside = fixed > excess[count - 1] / count
    kept = bnp.where(inside, values, 0)
    shift = (bnp.sum(kept) - scale) / bnp.sum(inside)
    return unravel(bnp.where(inside, values - shift, 0))


def projection_l1_sphere(tree: Any, scale: Any = 1) -> Any:
    """Onto the trees whose elements' absolute values sum to `scale`.

    >>> from bevel.optim import projections
    >>> projections.projection_l1_sphere(bnp.array([2.0, -3.0]))
    Array([ 0., -1.], dtype=float32)
    """
    size = projection_simplex(_tree.map(abs, tree), scale)
    return _math.mul(_tree.map(bnp.sign, tree), size)


def projection_l1_ball(tree: Any, scale: Any = 1) -> Any:
    """Onto the trees whose elements' absolute values sum to at most `scale` (Duchi et al., 2008,
    doi:10.1145/1390156.1390191).

    >>> from bevel.optim import projections
    >>> projections.projection_l1_ball(bnp.array([0.2, -0.3]))
    Array([ 0.2, -0.3], dtype=float32)
    """
    return lax.cond(
        _math.norm(tree, 1) <= scale, lambda t: t, lambda t: projection_l1_sphere(t, scale), tree
    )


def projection_l2_sphere(tree: Any, scale: Any = 1) -> Any:
    """Onto the trees of norm `scale`.

    >>> from bevel.optim import projections
    >>> projections.projection_l2_sphere(bnp.array([3.0, 4.0])).round(3)
    Array([0.6, 0.8], dtype=float32)
    """
    return _math.scale(scale / _math.norm(tree), tree)


def projection_l2_ball(tree: Any, scale: Any = 1) -> Any:
    """Onto the trees of norm `scale` at most.

    >>> from bevel.optim import projections
    >>> projections.projection_l2_ball(bnp.array([0.3, 0.4])).round(3)
    Array([0.3, 0.4], dtype=float32)
    """
    square = _math.norm(tree, squared=True)
    return _math.scale(scale / bnp.sqrt(bnp.maximum(square, scale**2)), tree)


def projection_linf_ball(tree: Any, scale: Any = 1) -> Any:
    """Onto the trees of elements between -scale and scale.

    >>> from bevel.optim import projections
    >>> projections.projection_linf_ball(bnp.array([-3.0, 0.5]))
    Array([-1. ,  0.5], dtype=float32)
    """
    return projection_box(tree, -scale, scale)


def projection_vector(x: Any, a: Any) -> Any:
    """Onto the multiples of the tree `a`.

    >>> from bevel.optim import projections
    >>> projections.projection_vector(bnp.array([3.0, 4.0]), bnp.array([2.0, 0.0]))
    Array([3., 0.], dtype=float32)
    """
    return _math.scale(_math.vdot(x, a) / _math.vdot(a, a), a)


def projection_hyperplane(x: Any, a: Any, b: Any) -> Any:
    """Onto the trees whose inner product with `a` is `b`.

    >>> from bevel.optim import projections
    >>> projections.projection_hyperplane(bnp.array([3.0, 4.0]), bnp.array([1.0, 0.0]), 1.0)
    Array([1., 4.], dtype=float32)
    """
    return _math.add_scale(x, (b - _math.vdot(x, a)) / _math.vdot(a, a), a)


def projection_halfspace(x: Any, a: Any, b: Any) -> Any:
    """Onto the trees whose inner product with `a` is at most `b`.

    >>> from bevel.optim import projections
    >>> projections.projection_halfspace(bnp.array([3.0, 4.0]), bnp.array([1.0, 0.0]), 5.0)
    Array([3., 4.], dtype=float32)
    """
    step = bnp.minimum(enter((b - _math.vdot(x, a)) / _math.vdot(a, a)), 0)
    return _math.add_scale(x, step, a)
