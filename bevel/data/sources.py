"""Where examples come from: arrays with a common leading axis, or anything with items by index.

A source has a length, and gathers the examples at an array of indices into one pytree of NumPy
arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bevel.core import tree
from bevel.core.handle import Handle


class Arrays:
    """A pytree of arrays whose leading axis is that of the examples."""

    def __init__(self, arrays: Any):
        pairs, self.treedef = tree.flatten_with_path(arrays)
        sizes = {}
        for path, leaf in pairs:
            shape = getattr(leaf, "shape", ())
            if not shape:
                raise TypeError(
                    f"Loader: source{tree.keystr(path)} is a {type(leaf).__name__} without a "
                    "leading axis.\n"
                    "Why: an array source has one array or several, with one row an example.\n"
                    "Write instead: np.asarray(x) for the numbers of a list; a list of examples, "
                    "or an object with __len__ and __getitem__, for examples one by one."
                )
            sizes[f"source{tree.keystr(path)}"] = shape[0]
        if len(set(sizes.values())) != 1:
            raise ValueError(
                f"Loader: the arrays have different numbers of rows: {sizes or 'there are none'}.\n"
                "Why: row i of each belongs to example i."
            )
        self.size = next(iter(sizes.values()))
        self.leaves = [np.asarray(x) if isinstance(x, Handle) else x for _, x in pairs]

    def __len__(self) -> int:
        return self.size

    def gather(self, indices: np.ndarray) -> Any:
        """The rows at the indices."""
        return tree.unflatten(self.treedef, [leaf[indices] for leaf in self.leaves])


class Items:
    """An object with `__len__` and `__getitem__`, whose items are pytrees of one structure."""

    def __init__(self, items: Any):
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def gather(self, indices: np.ndarray) -> Any:
        """The items at the indices, stacked leaf by leaf."""
        first, *rest = [self.items[i] for i in indices.tolist()]
        pairs, treedef = tree.flatten_with_path(first)
        columns = zip(*[treedef.flatten_up_to(item) for item in (first, *rest)], strict=True)
        return tree.unflatten(
            treedef,
            [_stack(path, column) for (path, _), column in zip(pairs, columns, strict=True)],
        )


def _stack(path: Any, column: tuple[Any, ...]) -> np.ndarray:
    arrays = [np.asarray(x) for x in column]
    shapes = sorted({a.shape for a in arrays})
    if len(shapes) > 1:
        raise ValueError(
            f"Loader: example{tree.keystr(path)} has different shapes in one batch: {shapes}.\n"
            "Write instead: pad or crop to one shape in the source's __getitem__."
        )
    return np.stack(arrays)


def source_of(source: Any) -> Arrays | Items:
    """The source that a user's object is: a list, or a leaf that is no array, has items."""
    if isinstance(source, list) or (
        tree.structure(source) == tree.structure(0) and not hasattr(source, "shape")
    ):
        if not (hasattr(source, "__len__") and hasattr(source, "__getitem__")):
            raise TypeError(
                f"Loader: a {type(source).__name__} is no source of examples.\n"
                "Why: examples are taken by index, so that an order can be drawn and resumed.\n"
                "Write instead: an array, a dict or tuple of arrays with one row an example, a "
                "list of examples, or an object with __len__ and __getitem__."
            )
        return Items(source)
    return Arrays(source)
