"""The functional view of a module: `State`, and `state`, `update`, `split`, `merge`, `clone`,
`pop`.

Transforms do not need any of this: they see modules as they are. It is for saving, for inspecting,
and for code that passes parameters around as values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

from bevel.core import tree
from bevel.core.errors import MissingKeyError
from bevel.core.ref import Cell
from bevel.core.source import user_source, where
from bevel.nn import epoch
from bevel.nn.filters import Predicate, to_predicates
from bevel.nn.structure import GraphDef, Path, Structure, build, is_module, path_text, structure_of
from bevel.numpy.convert import enter, is_array_like


def _order(key: Any) -> tuple[str, Any]:
    return ("" if isinstance(key, str) else type(key).__name__, key)


class State(MutableMapping):
    """Arrays by path: a nested mapping, and a pytree whose leaves are the arrays.

    `state["conv"]["kernel"]` and `state.conv.kernel` are the same. What `nn.state`, `bv.grad` of a
    function of a module, and `nn.split` return.

    Args:
        mapping: a nested mapping, or pairs.

    >>> from bevel import nn
    >>> s = nn.State({"conv": {"kernel": 1}, "head": {"bias": 2}})
    >>> s.conv.kernel, s["head"]["bias"]
    (1, 2)
    >>> s.flat_state()
    {('conv', 'kernel'): 1, ('head', 'bias'): 2}
    """

    __slots__ = ("_bevel_seen", "_mapping")

    def __init__(self, mapping: Any = ()):
        pairs = dict(mapping).items()
        self._bevel_seen = False
        self._mapping: dict[Any, Any] = {k: _as_state(v) for k, v in pairs}

    def __getitem__(self, key: Any) -> Any:
        try:
            return self._mapping[key]
        except KeyError:
            raise MissingKeyError(
                f"the state has no {key!r}; it has "
                f"{', '.join(map(repr, self._mapping)) or 'nothing'}"
            ) from None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in State.__slots__ or name not in self._mapping:
            raise AttributeError(f"the state has no {name!r}")
        return self._mapping[name]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._mapping[key] = _as_state(value)
        if self._bevel_seen:
            epoch.advance()

    def __delitem__(self, key: Any) -> None:
        del self._mapping[key]
        if self._bevel_seen:
            epoch.advance()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._mapping)

    def __len__(self) -> int:
        return len(self._mapping)

    def __contains__(self, key: object) -> bool:
        return key in self._mapping

    def __reduce__(self) -> Any:
        return State, (self.to_pure_dict(),)

    def __or__(self, other: Mapping[Any, Any]) -> State:
        return State.merge(self, other)

    # A mapping would compare its contents, and `==` of arrays is no single truth value.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def flat_state(self) -> dict[Path, Any]:
        """A dict from path (tuple) to array, sorted."""
        return dict(_flat(self, ()))

    @classmethod
    def from_flat_path(cls, flat: Mapping[Path, Any]) -> State:
        """The state with these arrays at these paths.

        >>> from bevel import nn
        >>> nn.State.from_flat_path({("a", 0): 1, ("a", 1): 2})
        State({'a': {0: 1, 1: 2}})
        """
        nested: dict[Any, Any] = {}
        for path, value in flat.items():
            inner = nested
            for key in path[:-1]:
                inner = inner.setdefault(key, {})
            inner[path[-1]] = value
        return cls(nested)

    @classmethod
    def merge(cls, *states: Mapping[Any, Any]) -> State:
        """One state with the arrays of all; later ones win.

        >>> from bevel import nn
        >>> nn.State.merge({"a": {"w": 1}}, {"a": {"b": 2}})
        State({'a': {'b': 2, 'w': 1}})
        """
        flat: dict[Path, Any] = {}
        for s in states:
            flat |= _flat(s, ())
        return cls.from_flat_path(flat)

    def split(self, *filters: Any) -> tuple[State, ...]:
        """One state a filter: each array goes to the first filter that takes it.

        A state holds arrays, not variables, so filters are by path: `nn.PathContains`, callables,
        `...`.

        Raises:
            TypeError: a filter is a class of variables, and the state holds arrays.
            ValueError: an array is taken by no filter.
        """
        *parts, rest = _distribute(_flat(self, ()), _by_path(self, filters))
        _check_exhausted("State.split", rest)
        return tuple(map(State.from_flat_path, parts))

    def filter(self, *filters: Any) -> Any:
        """The arrays that the filter takes; a tuple of states if several filters are given.

        >>> from bevel import nn
        >>> nn.State({"a": 1, "b": 2}).filter(nn.PathContains("a"))
        State({'a': 1})
        """
        parts = _distribute(_flat(self, ()), _by_path(self, filters))[:-1]
        states = tuple(map(State.from_flat_path, parts))
        return states[0] if len(states) == 1 else states

    def map(self, f: Callable[[Path, Any], Any]) -> State:
        """The state of `f(path, array)`."""
        return State.from_flat_path({p: f(p, v) for p, v in _flat(self, ())})

    def to_pure_dict(self) -> dict[Any, Any]:
        """The same as nested plain dicts."""
        return {
            k: v.to_pure_dict() if isinstance(v, State) else v for k, v in self._mapping.items()
        }

    def __repr__(self) -> str:
        return f"State({_show(self, 6)})"


def _by_path(state: State, filters: Any) -> list[Predicate]:
    """The predicates of filters that can tell arrays apart."""
    for f in filters:
        if isinstance(f, type) and issubclass(f, Cell) and not _holds_cells(state):
            raise TypeError(
                f"a State holds arrays, which {f.__name__} does not tell apart.\n"
                f"Write instead: nn.state(model, nn.{f.__name__}), which chooses variables of the "
                "model; or a filter by path."
            )
    return to_predicates(filters)


def _holds_cells(state: State) -> bool:
    return any(isinstance(x, Cell) for x in state.flat_state().values())


def _as_state(value: Any) -> Any:
    return State(value) if isinstance(value, Mapping) and not isinstance(value, State) else value


def _sorted_keys(s: State) -> tuple[Any, ...]:
    return tuple(sorted(s._mapping, key=_order))


def _with_keys(s: State) -> tuple[list[tuple[tree.DictKey, Any]], tuple[Any, ...]]:
    keys = _sorted_keys(s)
    return [(tree.DictKey(k), s._mapping[k]) for k in keys], keys


def _from_children(keys: tuple[Any, ...], children: Any) -> State:
    made = State()
    made._mapping = dict(zip(keys, children, strict=True))
    return made


tree.register_pytree_with_keys(State, _with_keys, _from_children, mapping=True)


def _show(s: State, indent: int) -> str:
    items = [(f"{k!r}: ", s[k]) for k in _sorted_keys(s)]
    parts = [
        label + (_show(v, indent + 2) if isinstance(v, State) else repr(v)) for label, v in items
    ]
    line = "{" + ", ".join(parts) + "}"
    if "\n" not in line and len(line) + indent <= 100:
        return line
    pad = " " * (indent - 4)
    return (
        "{\n"
        + "".join(f"{pad}{p.replace(chr(10), chr(10) + '  ')},\n" for p in parts)
        + pad[2:]
        + "}"
    )


def _flat(s: Mapping[Any, Any], path: Path) -> Iterator[tuple[Path, Any]]:
    for key in sorted(s, key=_order):
        value = s[key]
        if isinstance(value, Mapping):
            yield from _flat(value, (*path, key))
        else:
            yield (*path, key), value


def _distribute(pairs: Any, predicates: list[Predicate]) -> list[dict[Path, Any]]:
    """The pairs that each predicate takes first, and last those that none takes."""
    parts: list[dict[Path, Any]] = [{} for _ in range(len(predicates) + 1)]
    for path, x in pairs:
        place = next((i for i, p in enumerate(predicates) if p(path, x)), len(predicates))
        parts[place][path] = x
    return parts


def _check_exhausted(what: str, rest: Mapping[Path, Any]) -> None:
    if rest:
        listed = "\n".join(
            f"  {path_text(p)}: {type(x).__name__}" for p, x in list(rest.items())[:10]
        )
        raise ValueError(
            f"{what}: {len(rest)} variable(s) are taken by no filter:\n{listed}\n"
            "Write instead: `...` as the last filter, which takes all that is left."
        )


def state(node: Any, *filters: Any) -> Any:
    """The contents of a module's variables, by path.

    Args:
        node: a module, a variable, or a tuple, list or dict of them. What they share appears
            once, under the first path.
        filters: which variables (`nn.Param`, a callable `(path, variable) -> bool`, ...); all
            by default. With several filters, a tuple of states, each variable going to the first
            filter that takes it.

    Raises:
        ValueError: a module contains itself.

    >>> from bevel import nn
    >>> layer = nn.Linear(2, 3, rngs=nn.Rngs(0))
    >>> nn.state(layer, nn.PathContains("bias"))
    State({'bias': Array([0., 0., 0.], dtype=float32)})
    """
    found = structure_of(node)
    parts = _distribute(
        zip(found.paths, found.cells, strict=True), to_predicates(filters or (...,))
    )[:-1]
    states = tuple(_read(part) for part in parts)
    return states[0] if len(states) == 1 else states


def _read(cells: Mapping[Path, Cell]) -> Any:
    if list(cells) == [()]:
        return cells[()]._read()
    return State.from_flat_path({p: c._read() for p, c in cells.items()})


def update(node: Any, *states: Any) -> None:
    """Put the arrays of states into a module's variables.

    Args:
        node: as for `nn.state`.
        states: states or nested mappings; they may have part of the paths.

    Raises:
        KeyError: there is no variable at a path; the message lists those there are.
        ValueError: an array has another shape than the one in its place; nothing is changed then.

    >>> from bevel import nn
    >>> layer = nn.Linear(2, 1, rngs=nn.Rngs(0))
    >>> nn.update(layer, {"bias": [7.0]})
    >>> layer.bias.value
    Array([7.], dtype=float32)
    """
    by_path = structure_of(node).by_path
    new: dict[Path, Any] = {}
    for s in states:
        new |= _flat(s, ()) if isinstance(s, Mapping) else {(): s}
    for path in new:
        if path not in by_path:
            some = ", ".join(path_text(p) for p in list(by_path)[:8]) or "none"
            more = f" and {len(by_path) - 8} more" if len(by_path) > 8 else ""
            raise MissingKeyError(
                f"update: there is no variable at {path_text(path)} in the {type(node).__name__}; "
                f"it has {some}{more}.\n"
                "Write instead: a state of a module of the same structure, nn.state(other)."
            )
    for path, value in new.items():
        _check_shape(path, by_path[path]._read(), value, type(node).__name__)
    for path, value in new.items():
        cell = by_path[path]
        if hasattr(cell, "value"):
            cell.value = value
        else:
            cell._write(value)


def _check_shape(path: Path, old: Any, new: Any, owner: str) -> None:
    """Raise if an array would take the place of one of another shape."""
    here = getattr(old, "shape", None)
    there = enter(new).shape if is_array_like(new) else getattr(new, "shape", None)
    if here is not None and there is not None and here != there:
        raise ValueError(
            f"update: the array for {path_text(path)} has the shape {there}, and the "
            f"{owner}'s has {here}, at {where(user_source())}.\n"
            "Why: a state of another model would make this one compute something else.\n"
            "Write instead: the state of a model of these shapes; "
            "nn.merge(nn.split(model)[0], state) for a model with other shapes; or "
            "variable.value = x for one variable."
        )


def split(node: Any, *filters: Any) -> tuple[Any, ...]:
    """`(graphdef, state, ...)`: a module's structure, and the contents of its variables, one state
    a filter.

    Raises:
        ValueError: a variable is taken by no filter; end with `...`.

    >>> from bevel import nn
    >>> graphdef, params, rest = nn.split(nn.Linear(2, 1, rngs=nn.Rngs(0)), nn.Param, ...)
    >>> nn.merge(graphdef, params, rest)
    Linear(bias=Param(float32[1]), in_features=2, kernel=Param(float32[2, 1]), out_features=1)
    """
    found = structure_of(node)
    *parts, rest = _distribute(
        zip(found.paths, found.cells, strict=True), to_predicates(filters or (...,))
    )
    _check_exhausted("split", rest)
    return (found.graphdef, *map(_read, parts))


def merge(graphdef: GraphDef, *states: Any) -> Any:
    """A new module of that structure with the arrays of the states; what `nn.split` took apart.

    Raises:
        ValueError: an array is missing, or has no place; the message names its path.

    >>> from bevel import nn
    >>> graphdef, state = nn.split(nn.Linear(2, 1, rngs=nn.Rngs(0)))
    >>> nn.merge(graphdef, state)(bnp.zeros(2))
    Array([0.], dtype=float32)
    """
    contents: dict[Path, Any] = {}
    for s in states:
        contents |= _flat(s, ()) if isinstance(s, Mapping) else {(): s}
    node, used = build(graphdef, contents)
    extra = [p for p in contents if p not in used]
    if extra:
        raise ValueError(
            f"merge: the structure has no variable at {', '.join(map(path_text, extra[:8]))}.\n"
            "Write instead: the states that nn.split gave with this graphdef."
        )
    return node


def clone(node: Any) -> Any:
    """A copy of a module (or a pytree of modules) with variables of its own.

    >>> from bevel import nn
    >>> a = nn.Linear(2, 1, rngs=nn.Rngs(0))
    >>> b = nn.clone(a)
    >>> b.bias.value = [9.0]
    >>> float(a.bias.value[0])
    0.0
    """
    return merge(*split(node))


def pop(node: Any, *filters: Any) -> Any:
    """Take the variables that a filter takes out of a module, and return their contents as by
    `nn.state`.

    Raises:
        ValueError: no filter is given, or a variable stands in a tuple.

    >>> import bevel as bv
    >>> from bevel import nn
    >>> class Probe(nn.Module):
    ...     def __call__(self, x):
    ...         self.seen = nn.Intermediate(x)
    ...         return x * 2
    >>> m = Probe()
    >>> y = m(3.0)
    >>> nn.pop(m, nn.Intermediate)
    State({'seen': Array(3., dtype=float32)})
    >>> nn.state(m)
    State({})
    """
    if not filters:
        raise ValueError("pop: say which variables, for example nn.pop(model, nn.Intermediate)")
    found = Structure(node)
    parts = _distribute(zip(found.paths, found.cells, strict=True), to_predicates(filters))[:-1]
    states = tuple(_read(part) for part in parts)
    gone = {id(c) for part in parts for c in part.values()}
    for path, cell in reversed(found.by_path.items()):  # so that places in a list stay right
        if id(cell) in gone and path in found.owners:
            _remove(found.owners[path], path)
    return states[0] if len(states) == 1 else states


def _remove(owner: Any, path: Path) -> None:
    if is_module(owner):
        delattr(owner, path[-1])
    elif isinstance(owner, MutableMapping | list):
        del owner[path[-1]]
    else:
        raise ValueError(
            f"pop: the variable at {path_text(path)} stands in a {type(owner).__name__}, which "
            f"cannot lose an item.\n"
            "Write instead: keep such variables as attributes or in a dict."
        )
