"""Batches of any size in a few programs: `jit(vmap(f), batch_buckets=...)` pads rows and cuts the
results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bevel.api.flat import as_handle, cells_of, described
from bevel.api.vmap import Mapping, prefix_leaves
from bevel.core import tree
from bevel.core.handle import Handle, logical_shape

Buckets = str | Sequence[int]


def bucket_of(n: int, buckets: Buckets) -> int:
    """The smallest bucket that holds `n` rows; beyond the largest, a multiple of it."""
    if n == 0:
        return 0
    if isinstance(buckets, str):  # "pow2"
        return 1 << (n - 1).bit_length()
    largest = max(buckets)
    return min([b for b in buckets if b >= n], default=-(-n // largest) * largest)


def check(fun: Callable[..., Any], buckets: Buckets) -> Mapping:
    """What `vmap` was told, of a function that may be padded.

    Raises:
        TypeError: the function is no `vmap`, or the buckets are none.
        ValueError: its rows can know of each other.
    """
    if buckets != "pow2" and not (
        isinstance(buckets, list | tuple)
        and buckets
        and all(isinstance(b, int) and b > 0 for b in buckets)
    ):
        raise TypeError(
            f"jit: batch_buckets must be 'pow2' or a list of positive sizes, got {buckets!r}"
        )
    what = described("jit", fun)
    mapping = getattr(fun, "__bevel_mapping__", None)
    if mapping is None:
        raise TypeError(
            f"{what}: batch_buckets needs a function that vmap made.\n"
            "Why: rows that are added must not change the others, which only vmap makes sure of.\n"
            "Write instead: bv.jit(bv.vmap(f), batch_buckets=...), with f for one row."
        )
    if mapping.axis_name is not None:
        raise ValueError(
            f"{what}: batch_buckets does not go with axis_name={mapping.axis_name!r}.\n"
            "Why: collectives over that axis (lax.psum, ...) would count the rows that padding "
            "adds.\n"
            "Write instead: no axis_name, and reduce the results outside; or no batch_buckets."
        )
    return mapping


class Padding:
    """The arguments of one call with rows added, and how to cut the results."""

    def __init__(self, mapping: Mapping, buckets: Buckets, args: tuple, kwargs: dict[str, Any]):
        self.mapping = mapping
        leaves, treedef = tree.flatten((args, kwargs))
        axes = prefix_leaves(mapping.in_axes, args, "vmap: in_axes")
        axes += [0] * len(tree.leaves(kwargs))
        sizes = set()
        for i, (leaf, axis) in enumerate(zip(leaves, axes, strict=True)):
            if axis is None:
                continue
            if not isinstance(leaf, Handle) and cells_of(leaf) is not None:
                raise TypeError(
                    "jit: batch_buckets pads arrays, and a module is mapped over its variables.\n"
                    "Write instead: in_axes=None for the module, or no batch_buckets."
                )
            handle = leaves[i] = as_handle(leaf, "an argument of jit")
            shape = logical_shape(handle)
            if -len(shape) <= axis < len(shape):
                sizes.add(shape[axis])
        # Sizes that differ are reported by vmap, where the arguments are named.
        self.rows = sizes.pop() if len(sizes) == 1 else 0
        self.size = bucket_of(self.rows, buckets)
        if self.size != self.rows:
            index = np.minimum(np.arange(self.size, dtype=np.int32), self.rows - 1)
            leaves = [
                x if a is None else _take(x, a, index) for x, a in zip(leaves, axes, strict=True)
            ]
        self.args, self.kwargs = tree.unflatten(treedef, leaves)

    def cut(self, result: Any) -> Any:
        """The rows of the call, of a result with those that were added."""
        if self.size == self.rows:
            return result
        leaves, treedef = tree.flatten(result)
        axes = prefix_leaves(self.mapping.out_axes, result, "vmap: out_axes")
        rows = slice(0, self.rows)
        return tree.unflatten(
            treedef,
            [x if a is None else _take(x, a, rows) for x, a in zip(leaves, axes, strict=True)],
        )


def _take(x: Any, axis: int, index: Any) -> Any:
    axis %= len(logical_shape(x))
    return x[(slice(None),) * axis + (index,)]
