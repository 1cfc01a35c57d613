"""Arithmetic on pytrees of arrays: what gradient transformations are written in.

Public as `bevel.optim.tree`; the names are those of `optax.tree`.
"""

from __future__ import annotations

import builtins
import functools
import itertools
import math
import operator
from typing import Any

import bevel.numpy as bnp
from bevel import random
from bevel.core import dtypes
from bevel.core import tree as _tree
from bevel.numpy.convert import enter
from bevel.optim.state_search import (
    NamedTupleKey as NamedTupleKey,
)
from bevel.optim.state_search import (
    get as get,
)
from bevel.optim.state_search import (
    get_all_with_path as get_all_with_path,
)
from bevel.optim.state_search import (
    map_params as map_params,
)
from bevel.optim.state_search import (
    set as set,
)


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


def sum(tree: Any, associative_reduction: bool = False) -> Any:  # noqa: A001 (the field's name)
    """The sum of all elements of all arrays.

    Args:
        tree: pytree of arrays.
        associative_reduction: add the arrays' sums in pairs, then those, and so on.

    >>> from bevel import optim
    >>> optim.tree.sum({"x": bnp.ones(3), "y": bnp.ones(2)})
    Array(5., dtype=float32)
    """
    parts = [bnp.sum(x) for x in _tree.leaves(tree)]
    while associative_reduction and len(parts) > 1:
        pairs = itertools.zip_longest(parts[::2], parts[1::2], fillvalue=0)
        parts = [a + b for a, b in pairs]
    return functools.reduce(operator.add, parts, 0)


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


def _extreme(choose: Any, reduce: Any, start: float, tree: Any) -> Any:
    """An extreme of all elements; arrays without elements do not count."""
    parts = [reduce(enter(x)) for x in _tree.leaves(tree) if bnp.size(x)]
    return functools.reduce(choose, parts, start)


def max(tree: Any) -> Any:  # noqa: A001 (the field's name)
    """The largest element of all arrays, -inf if there is none.

    >>> from bevel import optim
    >>> optim.tree.max({"x": bnp.array([1.0, 5.0]), "y": bnp.array([3.0])})
    Array(5., dtype=float32)
    """
    return _extreme(bnp.maximum, bnp.max, -float("inf"), tree)


def min(tree: Any) -> Any:  # noqa: A001 (the field's name)
    """The smallest element of all arrays, inf if there is none.

    >>> from bevel import optim
    >>> optim.tree.min({"x": bnp.array([1.0, 5.0]), "y": bnp.array([3.0])})
    Array(1., dtype=float32)
    """
    return _extreme(bnp.minimum, bnp.min, float("inf"), tree)


def size(tree: Any) -> int:
    """How many elements all arrays have.

    >>> from bevel import optim
    >>> optim.tree.size({"x": bnp.ones((2, 3)), "y": 1.0})
    7
    """
    return builtins.sum(math.prod(bnp.shape(x)) for x in _tree.leaves(tree))


def conj(tree: Any) -> Any:
    """The complex conjugate of every array.

    >>> from bevel import optim
    >>> optim.tree.conj({"x": bnp.array([1 + 2j])})
    {'x': Array([1.-2.j], dtype=complex64)}
    """
    return _tree.map(bnp.conj, tree)


def real(tree: Any) -> Any:
    """The real part of every array.

    >>> from bevel import optim
    >>> optim.tree.real({"x": bnp.array([1 + 2j])})
    {'x': Array([1.], dtype=float32)}
    """
    return _tree.map(bnp.real, tree)


def batch_shape(tree: Any, shape: tuple[int, ...] = ()) -> Any:
    """Every array repeated along new leading axes of this shape.

    >>> from bevel import optim
    >>> optim.tree.batch_shape({"x": bnp.ones(3)}, (2,))["x"].shape
    (2, 3)
    """
    return _tree.map(lambda x: bnp.broadcast_to(x, (*shape, *bnp.shape(x))), tree)


def allclose(a: Any, b: Any, rtol: Any = 1e-5, atol: Any = 1e-8, equal_nan: bool = False) -> Any:
    """Whether all elements of two trees are nearly equal.

    >>> from bevel import optim
    >>> bool(optim.tree.allclose({"x": bnp.ones(2)}, {"x": bnp.ones(2) + 1e-7}))
    True
    """
    near = _tree.map(lambda x, y: bnp.allclose(x, y, rtol, atol, equal_nan), a, b)
    return functools.reduce(operator.and_, _tree.leaves(near), True)


def _higher(a: Any, b: Any) -> Any:
    both = dtypes.promote_types(a, b)
    if both not in (a, b):
        raise ValueError(
            f"dtype: neither of {a} and {b} holds the other.\n"
            "Write instead: dtype(tree, 'promote'), which gives the dtype that holds both."
        )
    return both


_DTYPE_HANDLERS = {
    "promote": dtypes.promote_types,
    "highest": _higher,
    "lowest": lambda a, b: b if _higher(a, b) == a else a,
}


def dtype(tree: Any, mixed_dtype_handler: str | None = None) -> Any:
    """The dtype of a tree's arrays; float32 for a tree without any.

    Args:
        tree: pytree of arrays.
        mixed_dtype_handler: what to do if they differ: "promote" (the dtype that holds all),
            "highest" or "lowest" of them; None refuses.

    Raises:
        ValueError: the dtypes differ and the handler is None, do not compare, or no such handler.

    >>> from bevel import optim
    >>> optim.tree.dtype({"x": bnp.ones(2), "y": bnp.ones(2, bnp.float16)}, "lowest")
    dtype('float16')
    """
    found = [enter(x).dtype for x in _tree.leaves(tree)] or [dtypes.float32]
    if mixed_dtype_handler is None:
        if any(d != found[0] for d in found):
            raise ValueError(
                f"dtype: the arrays have the dtypes {sorted({str(d) for d in found})}.\n"
                "Write instead: dtype(tree, 'promote'), 'highest' or 'lowest'."
            )
        return found[0]
    if mixed_dtype_handler not in _DTYPE_HANDLERS:
        raise ValueError(
            f"dtype: mixed_dtype_handler is None or one of {', '.join(_DTYPE_HANDLERS)}, not "
            f"{mixed_dtype_handler!r}"
        )
    return functools.reduce(_DTYPE_HANDLERS[mixed_dtype_handler], found)


def ravel(tree: Any) -> tuple[Any, Any]:
    """All arrays as one vector, and the function that takes such a vector apart again.

    >>> from bevel import optim
    >>> flat, unravel = optim.tree.ravel({"x": bnp.ones((2, 2)), "y": bnp.zeros(1)})
    >>> flat.shape, unravel(2 * flat)["x"].shape
    ((5,), (2, 2))
    """
    leaves, treedef = _tree.flatten(tree)
    arrays = [enter(x) for x in leaves]
    ends = list(itertools.accumulate((x.size for x in arrays), initial=0))
    flat = bnp.concatenate([x.reshape(-1) for x in arrays]) if arrays else bnp.zeros(0)

    def unravel(vector: Any) -> Any:
        parts = zip(arrays, itertools.pairwise(ends), strict=True)
        return _tree.unflatten(
            treedef, [vector[i:j].reshape(x.shape).astype(x.dtype) for x, (i, j) in parts]
        )

    return flat, unravel


def split_key_like(rng_key: Any, target_tree: Any) -> Any:
    """A tree with a random key of its own at each leaf.

    >>> from bevel import optim, random
    >>> keys = optim.tree.split_key_like(random.key(0), {"x": 1.0, "y": 2.0})
    >>> random.is_key(keys["x"])
    True
    """
    treedef = _tree.structure(target_tree)
    return _tree.unflatten(treedef, list(random.split(rng_key, treedef.num_leaves)))


def random_like(
    rng_key: Any, target_tree: Any, sampler: Any = random.normal, dtype: Any = None
) -> Any:
    """A tree of random arrays of the same shapes and dtypes.

    Args:
        rng_key: a key; every leaf draws with its own part of it.
        target_tree: tree of arrays.
        sampler: `sampler(key, shape, dtype)`.
        dtype: of the results, instead of those of the tree.

    >>> from bevel import optim, random
    >>> optim.tree.random_like(random.key(0), {"x": bnp.ones((2, 3))})["x"].shape
    (2, 3)
    """
    keys = split_key_like(rng_key, target_tree)
    return _tree.map(
        lambda x, key: sampler(key, bnp.shape(x), dtype or enter(x).dtype), target_tree, keys
    )


def unwrap_random_key_data(input_tree: Any) -> Any:
    """The tree with its random keys as the integers they hold.

    >>> from bevel import optim, random
    >>> optim.tree.unwrap_random_key_data({"key": random.key(7)})
    {'key': Array([0, 7], dtype=uint32)}
    """
    return _tree.map(lambda x: random.key_data(x) if random.is_key(x) else x, input_tree)
