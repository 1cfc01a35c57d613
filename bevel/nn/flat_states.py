"""States as plain data: flat pairs, nested dicts, parts by filter, under the names of Flax NNX.

Most are methods of `State`, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from bevel.nn.states import State
from bevel.nn.structure import Path, path_text


def _state(mapping: Mapping[Any, Any]) -> State:
    return mapping if isinstance(mapping, State) else State(mapping)


def map_state(f: Callable[[Path, Any], Any], state: Mapping[Any, Any]) -> State:
    """The state of `f(path, array)`.

    >>> from bevel import nn
    >>> nn.map_state(lambda path, x: 2 * x, nn.State({"a": {"b": 3}}))
    State({'a': {'b': 6}})
    """
    return _state(state).map(f)


def to_flat_state(state: Mapping[Any, Any]) -> list[tuple[Path, Any]]:
    """Pairs of path and array, sorted by path.

    >>> from bevel import nn
    >>> nn.to_flat_state(nn.State({"b": 1, "a": {"c": 2}}))
    [(('a', 'c'), 2), (('b',), 1)]
    """
    return list(_state(state).flat_state().items())


def from_flat_state(flat_state: Mapping[Path, Any] | Iterable[tuple[Path, Any]]) -> State:
    """The state with these arrays at these paths, from a mapping or pairs.

    >>> from bevel import nn
    >>> nn.from_flat_state([(("a", "c"), 2)])
    State({'a': {'c': 2}})
    """
    return State.from_flat_path(dict(flat_state))


def filter_state(state: Mapping[Any, Any], first: Any, /, *filters: Any) -> Any:
    """The arrays that a filter (by path) takes; a tuple of states if several filters are given.

    >>> from bevel import nn
    >>> nn.filter_state(nn.State({"a": 1, "b": 2}), nn.PathContains("a"))
    State({'a': 1})
    """
    return _state(state).filter(first, *filters)


def split_state(state: Mapping[Any, Any], first: Any, /, *filters: Any) -> Any:
    """One state a filter (by path): each array goes to the first filter that takes it.

    Raises:
        ValueError: an array is taken by no filter.

    >>> from bevel import nn
    >>> nn.split_state(nn.State({"a": 1, "b": 2}), nn.PathContains("a"), ...)
    (State({'a': 1}), State({'b': 2}))
    """
    parts = _state(state).split(first, *filters)
    return parts[0] if len(parts) == 1 else parts


def merge_state(state: Mapping[Any, Any], /, *states: Mapping[Any, Any]) -> State:
    """One state with the arrays of all; later ones win.

    >>> from bevel import nn
    >>> nn.merge_state({"a": 1}, {"b": {"c": 2}})
    State({'a': 1, 'b': {'c': 2}})
    """
    return State.merge(state, *states)


def to_pure_dict(
    state: Mapping[Any, Any], extract_fn: Callable[[Any], Any] | None = None
) -> dict[Any, Any]:
    """The state as nested plain dicts, of what `extract_fn` makes of each array if it is given.

    >>> from bevel import nn
    >>> nn.to_pure_dict(nn.State({"a": {"b": 3}}))
    {'a': {'b': 3}}
    """
    found = _state(state)
    return (found if extract_fn is None else found.map(lambda _, x: extract_fn(x))).to_pure_dict()


def replace_by_pure_dict(
    state: State,
    pure_dict: Mapping[Any, Any],
    replace_fn: Callable[[Any, Any], Any] | None = None,
) -> None:
    """Put the values of a nested dict in their places in a state.

    Args:
        state: is changed.
        pure_dict: may have part of the paths; numbers in them may be written as strings.
        replace_fn: what makes the new value of the old one and that of the dict.

    Raises:
        ValueError: the state has no such path.

    >>> from bevel import nn
    >>> s = nn.State({"layers": {0: 1.0, 1: 2.0}})
    >>> nn.replace_by_pure_dict(s, {"layers": {"1": 5.0}})
    >>> s
    State({'layers': {0: 1.0, 1: 5.0}})
    """
    flat = state.flat_state()
    for path, value in State(pure_dict).flat_state().items():
        place = path if path in flat else tuple(map(_as_int, path))
        if place not in flat:
            raise ValueError(
                f"replace_by_pure_dict: the state has nothing at {path_text(path)}; it has "
                f"{', '.join(map(path_text, list(flat)[:8])) or 'nothing'}"
            )
        flat[place] = value if replace_fn is None else replace_fn(flat[place], value)
    for key, value in State.from_flat_path(flat).items():
        state[key] = value


def _as_int(key: Any) -> Any:
    try:
        return int(key)
    except ValueError:
        return key


def restore_int_paths(pure_dict: Mapping[Any, Any]) -> dict[Any, Any]:
    """A nested dict with the keys that are numbers in writing as numbers.

    Files keep the keys of a dict as strings; the state of a list has integers.

    >>> from bevel import nn
    >>> nn.restore_int_paths({"layers": {"0": {"kernel": 1}}})
    {'layers': {0: {'kernel': 1}}}
    """
    flat = State(pure_dict).flat_state()
    return State.from_flat_path({tuple(map(_as_int, p)): x for p, x in flat.items()}).to_pure_dict()
