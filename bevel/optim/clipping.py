"""Gradient transformations that bound updates: by element, by array, by norm, by example."""

from __future__ import annotations

from typing import Any

import bevel.numpy as bnp
from bevel.core import tree as _tree
from bevel.numpy.convert import enter
from bevel.optim import tree
from bevel.optim.base import GradientTransformation, each, each_with_param, stateless


def clip(max_delta: Any) -> GradientTransformation:
    """Cuts every element of updates at -max_delta and max_delta.

    >>> import bevel.numpy as bnp
    >>> from bevel import optim
    >>> optim.clip(1.0).update(bnp.array([-3.0, 0.5]), ())[0]
    Array([-1. ,  0.5], dtype=float32)
    """
    return each(lambda g: bnp.clip(g, -max_delta, max_delta))


def clip_by_block_rms(threshold: Any) -> GradientTransformation:
    """Scales each array down whose root mean square exceeds the threshold.

    >>> from bevel import optim
    >>> tx, x = optim.clip_by_block_rms(1.0), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([ 0.632, -1.265], dtype=float32)
    """
    return each(lambda u: u / bnp.maximum(1.0, bnp.sqrt(bnp.mean(tree.abs_sq(u))) / threshold))


def clip_by_global_norm(max_norm: Any) -> GradientTransformation:
    """Scales all updates down if their norm, as one vector, is `max_norm` or more (Pascanu et al.,
    arXiv:1211.5063).

    >>> import bevel.numpy as bnp
    >>> from bevel import optim
    >>> optim.clip_by_global_norm(1.0).update(bnp.array([3.0, 4.0]), ())[0]
    Array([0.6, 0.8], dtype=float32)
    """

    def clip_all(updates: Any, params: Any) -> Any:
        norm = tree.norm(updates)
        small = norm < max_norm
        by = bnp.where(small, 1, norm)
        return _tree.map(lambda t: bnp.where(small, t, t / by.astype(t.dtype) * max_norm), updates)

    return stateless(clip_all)


def unitwise_norm(x: Any, axis: Any = None) -> Any:
    """The norm of each unit of a layer's weights, repeated to the weights' shape.

    Args:
        x: array; vectors are one unit, kernels have a unit for each output.
        axis: axes of one unit, by default those of a layer's inputs.

    >>> from bevel.optim import transforms
    >>> transforms.unitwise_norm(bnp.array([[3.0, 1.0], [4.0, 0.0]]))
    Array([[5., 1.],
           [5., 1.]], dtype=float32)
    """
    square = tree.abs_sq(x)
    if axis is None:
        if sum(n > 1 for n in square.shape) <= 1:
            axis = tuple(range(square.ndim))
        else:
            axis = 0 if square.ndim <= 3 else tuple(range(square.ndim - 1))
    return bnp.broadcast_to(bnp.sqrt(bnp.sum(square, axis=axis, keepdims=True)), square.shape)


def unitwise_clip(g_norm: Any, max_norm: Any, grad: Any, div_eps: Any = 1e-6) -> Any:
    """The gradient, scaled to `max_norm` where `g_norm` is that or more.

    >>> from bevel.optim import transforms
    >>> transforms.unitwise_clip(bnp.full(2, 5.0), bnp.ones(2), bnp.array([3.0, 4.0]))
    Array([0.6, 0.8], dtype=float32)
    """
    return bnp.where(g_norm < max_norm, grad, grad * (max_norm / bnp.maximum(g_norm, div_eps)))


def adaptive_grad_clip(clipping: Any, eps: Any = 1e-3, axis: Any = None) -> GradientTransformation:
    """Cuts updates whose norm exceeds `clipping` times that of the parameters, unit by unit (Brock
    et al., arXiv:2102.06171).

    `axis` are the axes of one unit; by default the inputs of a layer's kernel.

    >>> from bevel import optim
    >>> tx, x = optim.adaptive_grad_clip(0.1), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([ 0.1, -0.2], dtype=float32)
    """

    def clip_one(g: Any, p: Any) -> Any:
        largest = clipping * bnp.maximum(unitwise_norm(p, axis), eps)
        return unitwise_clip(unitwise_norm(g, axis), largest, g)

    return each_with_param("adaptive_grad_clip", clip_one)


def _check_examples(name: str, grads: Any) -> None:
    shapes = [bnp.shape(g) for g in _tree.leaves(grads)]
    if len({shape[:1] for shape in shapes}) > 1 or not all(shapes):
        raise ValueError(
            f"{name}: the first axis of every gradient is that of the examples, but the shapes are "
            f"{shapes}.\nWrite instead: grads = bv.vmap(bv.grad(loss), (None, 0))(params, batch)."
        )


def per_example_global_norm_clip(grads: Any, l2_norm_clip: Any) -> tuple[Any, Any]:
    """The sum over examples of gradients cut to a norm (Abadi et al., arXiv:1607.00133).

    Args:
        grads: tree of arrays (examples, ...).
        l2_norm_clip: largest norm of one example's gradients, as one vector.

    Returns:
        The sum, and how many examples were cut.

    Raises:
        ValueError: the first axes differ.

    >>> from bevel import optim
    >>> optim.per_example_global_norm_clip([bnp.array([[3.0, 4.0], [0.0, 0.5]])], 1.0)
    ([Array([0.6, 1.3], dtype=float32)], Array(1, dtype=int32))
    """
    _check_examples("per_example_global_norm_clip", grads)
    norms = bnp.sqrt(
        sum(bnp.sum(tree.abs_sq(g), axis=tuple(range(1, bnp.ndim(g)))) for g in _tree.leaves(grads))
    )
    factors = bnp.where(norms == 0, 1.0, bnp.minimum(l2_norm_clip / norms, 1.0))
    total = _tree.map(lambda g: bnp.tensordot(factors, g, axes=1), grads)
    return total, bnp.sum(factors < 1.0)


def per_example_layer_norm_clip(
    grads: Any, global_l2_norm_clip: Any, uniform: bool = True
) -> tuple[Any, Any]:
    """`per_example_global_norm_clip` of each array by itself (McMahan et al., arXiv:1812.06210).

    Args:
        grads: tree of arrays (examples, ...).
        global_l2_norm_clip: largest norm of one example's gradients as one vector.
        uniform: whether each array gets the same share of it, or one by its size.

    Returns:
        Trees of sums, and of how many examples were cut.

    Raises:
        ValueError: the first axes differ.

    >>> from bevel import optim
    >>> sums, counts = optim.per_example_layer_norm_clip([bnp.ones((2, 3)), bnp.ones((2, 1))], 1.0)
    >>> counts
    [Array(2, dtype=int32), Array(2, dtype=int32)]
    """
    _check_examples("per_example_layer_norm_clip", grads)
    leaves, treedef = _tree.flatten(grads)
    sizes = [enter(g)[0].size for g in leaves]
    shares = [1 / len(sizes) if uniform else n / sum(sizes) for n in sizes]
    pairs = [
        per_example_global_norm_clip(g, global_l2_norm_clip * share**0.5)
        for g, share in zip(leaves, shares, strict=True)
    ]
    sums, counts = zip(*pairs, strict=True)
    return _tree.unflatten(treedef, sums), _tree.unflatten(treedef, counts)
