"""Arithmetic on pytrees of arrays: what gradient transformations are written in.

Public as `bevel.optim.tree`; the names are those of `optax.tree`.
"""

from __future__ import annotations

import functools
import operator
from typing import Any

import bevel.numpy as bnp
from bevel.core import dtypes
from bevel.core import tree as _tree
from bevel.numpy.convert import enter


def add(tree_x: Any, tree_y: Any, *other_trees: Any) -> Any:
    """Elementwise sum of trees.

    >>> from bevel import optim
    >>> optim.tree.add({"a": 1}, {"a": 2}, {"a": 3})
    {'a': 6}
    """
    return _tree.map(lambda *xs: functools.reduce(operator.add, xs), tree_x, tree_y, *other_trees)


def sub(tree_x: Any, tree_y: Any) -> Any:
    """Elementwise difference of two trees.

    >>> from bevel import optim
    >>> a, b = {"x": 6.0}, {"x": 2.0}
    >>> optim.tree.sub(a, b)
    {'x': 4.0}
    """
    return _tree.map(operator.sub, tree_x, tree_y)


def mul(tree_x: Any, tree_y: Any) -> Any:
    """Elementwise product of two trees.

    >>> from bevel import optim
    >>> a, b = {"x": 6.0}, {"x": 2.0}
    >>> optim.tree.mul(a, b)
    {'x': 12.0}
    """
    return _tree.map(operator.mul, tree_x, tree_y)


def div(tree_x: Any, tree_y: Any) -> Any:
    """Elementwise quotient of two trees.

    >>> from bevel import optim
    >>> a, b = {"x": 6.0}, {"x": 2.0}
    >>> optim.tree.div(a, b)
    {'x': 3.0}
    """
    return _tree.map(operator.truediv, tree_x, tree_y)


def scale(scalar: Any, tree: Any) -> Any:
    """Every array times a number.

    >>> from bevel import optim
    >>> optim.tree.scale(2, {"a": 3})
    {'a': 6}
    """
    return _tree.map(lambda x: scalar * x, tree)


def add_scale(tree_x: Any, scalar: Any, tree_y: Any) -> Any:
    """X + scalar * y, elementwise.

    >>> from bevel import optim
    >>> a, b = {"x": 6.0}, {"x": 2.0}
    >>> optim.tree.add_scale(a, 0.5, b)
    {'x': 7.0}
    """
    return _tree.map(lambda x, y: x + scalar * y, tree_x, tree_y)


def where(condition: Any, tree_x: Any, tree_y: Any) -> Any:
    """X where the condition (one for all) holds, else y.

    >>> from bevel import optim
    >>> optim.tree.where(True, {"x": 1.0}, {"x": 2.0})
    {'x': Array(1., dtype=float32, weak_type=True)}
    """
    return _tree.map(lambda x, y: bnp.where(condition, x, y), tree_x, tree_y)


def sum(tree: Any) -> Any:  # noqa: A001 (the field's name)
    """The sum of all elements of all arrays.

    >>> from bevel import optim
    >>> optim.tree.sum({"x": bnp.ones(3), "y": bnp.ones(2)})
    Array(5., dtype=float32)
    """
    return _tree.reduce(operator.add, _tree.map(bnp.sum, tree), 0)


def vdot(tree_x: Any, tree_y: Any) -> Any:
    """The inner product of two trees.

    >>> import bevel.numpy as bnp
    >>> from bevel import optim
    >>> float(optim.tree.vdot({"a": bnp.ones(2)}, {"a": bnp.array([1.0, 2.0])}))
    3.0
    """
    return _tree.reduce(
        operator.add, _tree.map(lambda x, y: bnp.vdot(enter(x), enter(y)), tree_x, tree_y), 0
    )


def abs_sq(x: Any) -> Any:
    """The squared modulus of each element, real.

    >>> from bevel import optim
    >>> optim.tree.abs_sq(bnp.array([3 + 4j]))
    Array([25.], dtype=float32)
    """
    x = enter(x)
    return x.real**2 + x.imag**2 if dtypes.is_complex(x.dtype) else x * x


def norm(tree: Any, ord: Any = None, squared: bool = False) -> Any:
    """A norm of the tree as one vector.

    Args:
        tree: pytree of arrays.
        ord: 2 (default), 1 or inf.
        squared: return its square.

    Raises:
        ValueError: another `ord`.

    >>> import bevel.numpy as bnp
    >>> from bevel import optim
    >>> float(optim.tree.norm({"a": bnp.array([3.0]), "b": bnp.array([4.0])}))
    5.0
    """
    if ord is None or ord == 2:
        square = enter(sum(_tree.map(abs_sq, tree)))
        return square if squared else bnp.sqrt(square)
    if ord == 1:
        found = enter(sum(_tree.map(abs, tree)))
    elif ord in (float("inf"), "inf", "infinity"):
        found = _tree.reduce(
            bnp.maximum, [bnp.max(abs(enter(x))) for x in _tree.leaves(tree) if bnp.size(x)], 0.0
        )
    else:
        raise ValueError(f"norm: ord is 1, 2 or inf, not {ord!r}")
    return found * found if squared else found


def full_like(tree: Any, fill_value: Any, dtype: Any = None) -> Any:
    """A tree of the same shapes, filled with a number.

    >>> from bevel import optim
    >>> optim.tree.full_like({"x": bnp.ones(2)}, 7)
    {'x': Array([7., 7.], dtype=float32)}
    """
    return _tree.map(lambda x: bnp.full_like(x, fill_value, dtype=dtype), tree)


def zeros_like(tree: Any, dtype: Any = None) -> Any:
    """A tree of the same shapes, of zeros.

    >>> import bevel.numpy as bnp
    >>> from bevel import optim
    >>> optim.tree.zeros_like({"a": bnp.ones(2)})
    {'a': Array([0., 0.], dtype=float32)}
    """
    return full_like(tree, 0, dtype)


def ones_like(tree: Any, dtype: Any = None) -> Any:
    """A tree of the same shapes, of ones.

    >>> from bevel import optim
    >>> optim.tree.ones_like({"x": bnp.zeros(2)})
    {'x': Array([1., 1.], dtype=float32)}
    """
    return full_like(tree, 1, dtype)


def cast(tree: Any, dtype: Any) -> Any:
    """Every array at a dtype; None changes nothing.

    >>> from bevel import optim
    >>> optim.tree.cast({"x": bnp.ones(2)}, "float16")
    {'x': Array([1., 1.], dtype=float16)}
    """
    return tree if dtype is None else _tree.map(lambda x: enter(x).astype(dtype), tree)


def cast_like(tree: Any, other_tree: Any) -> Any:
    """Every array at the dtype of its counterpart.

    >>> from bevel import optim
    >>> optim.tree.cast_like({"x": 1}, {"x": bnp.ones((), "float16")})
    {'x': Array(1., dtype=float16)}
    """
    return _tree.map(lambda x, y: enter(x).astype(enter(y).dtype), tree, other_tree)


def clip(tree: Any, min_value: Any = None, max_value: Any = None) -> Any:
    """Every element cut at the bounds.

    >>> from bevel import optim
    >>> optim.tree.clip({"x": bnp.array([-3.0, 0.5])}, -1, 1)
    {'x': Array([-1. ,  0.5], dtype=float32)}
    """
    return _tree.map(lambda x: bnp.clip(x, min_value, max_value), tree)


def update_moment(updates: Any, moments: Any, decay: Any, order: int) -> Any:
    """(1 - decay) * updates**order + decay * moments.

    >>> from bevel import optim
    >>> a, b = {"x": 6.0}, {"x": 2.0}
    >>> optim.tree.update_moment(a, b, 0.5, 2)
    {'x': 19.0}
    """
    return _tree.map(lambda g, t: (1 - decay) * (g**order) + decay * t, updates, moments)


def update_moment_per_elem_norm(updates: Any, moments: Any, decay: Any, order: int) -> Any:
    """(1 - decay) * abs(updates)**order + decay * moments, real for complex updates too.

    >>> from bevel import optim
    >>> optim.tree.update_moment_per_elem_norm({"x": 3.0}, {"x": 1.0}, 0.5, 2)
    {'x': 5.0}
    """

    def power(g: Any) -> Any:
        return abs_sq(g) ** (order // 2) if dtypes.is_complex(enter(g).dtype) else g**order

    return _tree.map(lambda g, t: (1 - decay) * power(g) + decay * t, updates, moments)


def update_infinity_moment(updates: Any, moments: Any, decay: Any, eps: Any) -> Any:
    """max(abs(updates) + eps, decay * moments).

    >>> from bevel import optim
    >>> optim.tree.update_infinity_moment({"x": -3.0}, {"x": 1.0}, 0.5, 0.0)
    {'x': Array(3., dtype=float32, weak_type=True)}
    """
    return _tree.map(lambda g, t: bnp.maximum(abs(g) + eps, decay * t), updates, moments)


def bias_correction(moment: Any, decay: Any, count: Any) -> Any:
    """The moment after `count` steps without the pull of its start at zero: moment / (1 -
    decay**count).

    >>> from bevel import optim
    >>> optim.tree.bias_correction({"x": bnp.ones(())}, 0.5, 1)
    {'x': Array(2., dtype=float32)}
    """
    correction = enter(1 - decay**count)
    return _tree.map(lambda t: t / correction.astype(t.dtype), moment)
