"""Finding and replacing what an optimizer's state holds, by the name of a field.

Public through `bevel.optim.tree`: a state is a tree of named tuples, dicts and plain tuples, and
what one wants of it (a count, a learning rate, a moment) lies at a depth that depends on how the
optimizer was put together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from bevel.core import tree as _tree
from bevel.core.errors import MissingKeyError

Filter = Callable[[tuple[Any, ...], Any], bool]


@dataclasses.dataclass(frozen=True)
class NamedTupleKey:
    """A step of a path through a field of a named tuple.

    >>> from bevel import optim
    >>> str(optim.tree.NamedTupleKey("ScaleByAdamState", "mu"))
    'ScaleByAdamState.mu'
    """

    tuple_name: str
    name: str

    def __str__(self) -> str:
        return f"{self.tuple_name}.{self.name}"


def _is_named_tuple(x: Any) -> bool:
    return isinstance(x, tuple) and hasattr(x, "_fields")


def _children(node: Any) -> tuple[list[tuple[Any, Any]], Any]:
    """Pairs of key and child one level below a node, and how to rebuild it from children."""
    if _is_named_tuple(node):
        name = type(node).__name__
        keys = [NamedTupleKey(name, field) for field in node._fields]
        return list(zip(keys, node, strict=True)), lambda parts: type(node)(*parts)
    pairs, treedef = _tree.flatten_with_path(node, is_leaf=lambda x: x is not node)
    if any(not path for path, _ in pairs):  # a leaf
        return [], lambda parts: node
    return [(path[0], child) for path, child in pairs], lambda parts: _tree.unflatten(
        treedef, parts
    )


def _name(key: Any) -> Any:
    """What a key is called: the field of a tuple or the key of a dict; None for a position."""
    return key.name if hasattr(key, "name") else getattr(key, "key", None)


def _matches(key: Any, child: Any, wanted: Any) -> bool:
    return (_name(key) is not None and _name(key) == wanted) or _is_a(child, wanted)


def _is_a(node: Any, wanted: Any) -> bool:
    return _is_named_tuple(node) and type(node).__name__ == wanted


def _found(node: Any, wanted: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    for key, child in _children(node)[0]:
        here = (*path, key)
        if _matches(key, child, wanted):
            yield here, child
        yield from _found(child, wanted, here)


def get_all_with_path(
    tree: Any, key: Any, filtering: Filter | None = None
) -> list[tuple[tuple[Any, ...], Any]]:
    """Pairs of path and value for everything in a tree that has this name.

    Args:
        tree: a state.
        key: name of a field, key of a dict, or name of a named tuple's class.
        filtering: `filtering(path, value)` says which of them count.

    >>> import bevel.numpy as bnp
    >>> from bevel import optim
    >>> state = optim.chain(optim.adam(0.1), optim.ema(0.9)).init(bnp.zeros(2))
    >>> [str(path[-1]) for path, _ in optim.tree.get_all_with_path(state, "count")]
    ['ScaleByAdamState.count', 'EmaState.count']
    """
    found = [((), tree)] if _is_a(tree, key) else []
    found += _found(tree, key, ())
    return [pair for pair in found if filtering is None or filtering(*pair)]


def get(tree: Any, key: Any, default: Any = None, filtering: Filter | None = None) -> Any:
    """The one value in a tree that has this name; arguments as for `get_all_with_path`.

    Raises:
        KeyError: several have it; say which by `filtering`.

    >>> import bevel.numpy as bnp
    >>> from bevel import optim
    >>> optim.tree.get(optim.adam(0.1).init(bnp.zeros(2)), "count")
    Array(0, dtype=int32)
    """
    found = get_all_with_path(tree, key, filtering)
    if len(found) > 1:
        places = ", ".join(".".join(map(str, path)) for path, _ in found)
        raise MissingKeyError(
            f"get: {len(found)} values are called {key!r}: {places}. "
            "Write instead: get(tree, key, filtering=lambda path, value: ...)"
        )
    return found[0][1] if found else default


def set(tree: Any, filtering: Filter | None = None, /, **kwargs: Any) -> Any:  # noqa: A001
    """The tree with everything of these names replaced.

    Args:
        tree: a state.
        filtering: `filtering(path, value)` says which count.
        kwargs: new value by name, as for `get_all_with_path`.

    Raises:
        KeyError: nothing has such a name.

    >>> import bevel.numpy as bnp
    >>> from bevel import optim
    >>> state = optim.tree.set(optim.adam(0.1).init(bnp.zeros(2)), count=bnp.int32(7))
    >>> int(optim.tree.get(state, "count"))
    7
    """
    for key in kwargs:
        if not get_all_with_path(tree, key, filtering):
            raise MissingKeyError(
                f"set: nothing in the tree is called {key!r}, or it was filtered out"
            )

    def replaced(node: Any, path: tuple[Any, ...]) -> Any:
        pairs, rebuild = _children(node)
        parts = []
        for key, child in pairs:
            here = (*path, key)
            hits = [k for k in kwargs if _matches(key, child, k)]
            if hits and (filtering is None or filtering(here, child)):
                parts.append(kwargs[hits[0]])
            else:
                parts.append(replaced(child, here))
        return rebuild(parts)

    for key, value in kwargs.items():
        if _is_a(tree, key) and (filtering is None or filtering((), tree)):
            return value
    return replaced(tree, ())


@_tree.register_pytree_node_class
class ParamsPlaceholder:
    """Stands for the parameters where an optimizer's state has their structure; no leaves."""

    def tree_flatten(self) -> tuple[tuple[()], None]:
        """No children."""
        return (), None

    @classmethod
    def tree_unflatten(cls, aux: Any, children: Any) -> ParamsPlaceholder:
        """Another one."""
        return cls()


def map_params(
    initable: Any,
    f: Callable[..., Any],
    state: Any,
    /,
    *rest: Any,
    transform_non_params: Callable[[Any], Any] | None = None,
    is_leaf: Callable[[Any], bool] | None = None,
) -> Any:
    """Applies a function to the parts of a state that are shaped like the parameters.

    Args:
        initable: the transformation, or its `init`.
        f: of a leaf of those parts, and the leaf of each tree in `rest`.
        state: of that transformation.
        rest: trees of the parameters' structure.
        transform_non_params: of the other leaves; by default they stay.
        is_leaf: as in `bv.tree.map`.

    >>> import bevel.numpy as bnp
    >>> from bevel import optim
    >>> tx, params = optim.adam(0.1), {"w": bnp.zeros(2)}
    >>> state = optim.tree.map_params(tx, lambda m: m + 1, tx.init(params))
    >>> state[0].mu, state[0].count
    ({'w': Array([1., 1.], dtype=float32)}, Array(0, dtype=int32))
    """
    init = getattr(initable, "init", initable)

    def mapped(place: Any, value: Any) -> Any:
        if isinstance(place, ParamsPlaceholder):
            return _tree.map(f, value, *rest, is_leaf=is_leaf)
        return value if transform_non_params is None else transform_non_params(value)

    return _tree.map(
        mapped, init(ParamsPlaceholder()), state, is_leaf=lambda x: isinstance(x, ParamsPlaceholder)
    )
