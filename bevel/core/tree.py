"""Pytrees: nested containers of leaves. A thin layer over `optree`, in a namespace of our own.

dict, list, tuple, namedtuple, deque, OrderedDict, defaultdict and None are containers (None has no
leaves); classes join by `register_pytree_node`, `register_pytree_node_class` or
`register_dataclass`. Anything else is a leaf.
"""

from __future__ import annotations

import builtins
import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import optree
from optree import PyTreeSpec as PyTreeDef

NAMESPACE = "bevel"

_MISSING = object()

_flatten = functools.partial(optree.tree_flatten, namespace=NAMESPACE)


def flatten(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> tuple[list[Any], PyTreeDef]:
    """The leaves of a tree, and its structure.

    >>> leaves, structure = flatten({"b": 2, "a": (1, None)})
    >>> leaves
    [1, 2]
    >>> unflatten(structure, [10, 20])
    {'b': 20, 'a': (10, None)}
    """
    return _flatten(tree, is_leaf)


def unflatten(treedef: PyTreeDef, leaves: Iterable[Any]) -> Any:
    """The tree of that structure with these leaves.

    Raises:
        ValueError: the number of leaves is wrong.
    """
    return optree.tree_unflatten(treedef, leaves)


def leaves(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> list[Any]:
    """The leaves of a tree, in order (dict keys sorted).

    >>> leaves([1, (2, {"x": 3})])
    [1, 2, 3]
    """
    return optree.tree_leaves(tree, is_leaf, namespace=NAMESPACE)


def structure(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> PyTreeDef:
    """The structure of a tree without its leaves; two of the same shape are equal.

    >>> structure((1, 2)) == structure((3, 4))
    True
    """
    return optree.tree_structure(tree, is_leaf, namespace=NAMESPACE)


def map(  # noqa: A001 (the field's name)
    f: Callable[..., Any], tree: Any, *rest: Any, is_leaf: Callable[[Any], bool] | None = None
) -> Any:
    """Apply `f` to the leaves of `tree` (and to what stands there in `rest`); a tree of the
    results.

    >>> map(lambda a, b: a + b, {"x": 1}, {"x": 2})
    {'x': 3}

    Raises:
        ValueError: a tree in `rest` has another structure; the message shows where.
    """
    items, treedef = _flatten(tree, is_leaf)
    try:
        others = [treedef.flatten_up_to(r) for r in rest]
    except ValueError as e:
        raise ValueError(
            f"tree.map: the trees do not have the same structure: {e}\n"
            "Write instead: trees built in the same way: lists against lists, the same keys, None "
            "in the same places."
        ) from None
    return optree.tree_unflatten(treedef, [f(*xs) for xs in zip(items, *others, strict=True)])


def reduce(function: Callable[[Any, Any], Any], tree: Any, *initializer: Any, is_leaf=None) -> Any:
    """Combine the leaves from left to right.

    >>> reduce(lambda a, b: a + b, {"x": 1, "y": 2}, 10)
    13
    """
    return functools.reduce(function, leaves(tree, is_leaf), *initializer)


def all(tree: Any, *, is_leaf=None) -> bool:  # noqa: A001 (the field's name)
    """Whether every leaf is true.

    >>> all({"a": True, "b": 0})
    False
    """
    return builtins.all(leaves(tree, is_leaf))


def reduce_associative(
    operation: Callable[[Any, Any], Any], tree: Any, *, identity: Any = _MISSING, is_leaf=None
) -> Any:
    """Combine the results of the two halves of the leaves: log2(n) steps deep.

    `identity` is the result for a tree without leaves.

    Raises:
        TypeError: no leaves and no identity.

    >>> reduce_associative(lambda a, b: a + b, {"x": 1, "y": [2, 3]})
    6
    """
    items = leaves(tree, is_leaf)
    if not items and identity is _MISSING:
        raise TypeError(
            "tree.reduce_associative: a tree without leaves has no result; give identity=..."
        )
    return _halves(operation, items) if items else identity


def _halves(operation: Callable[[Any, Any], Any], items: list[Any]) -> Any:
    if len(items) == 1:
        return items[0]
    middle = len(items) // 2
    return operation(_halves(operation, items[:middle]), _halves(operation, items[middle:]))


def broadcast(prefix_tree: Any, full_tree: Any, is_leaf=None) -> Any:
    """A tree with the structure of `full_tree` whose leaves are those of `prefix_tree`, repeated.

    Raises:
        ValueError: `prefix_tree` is no prefix of `full_tree`.

    >>> broadcast({"a": 1, "b": 2}, {"a": [0, 0], "b": 0})
    {'a': [1, 1], 'b': 2}
    """
    return optree.tree_broadcast_prefix(prefix_tree, full_tree, is_leaf, namespace=NAMESPACE)


def all_leaves(iterable: Iterable[Any], is_leaf=None) -> bool:
    """Whether every element is a leaf.

    >>> all_leaves([1, 2]), all_leaves([1, (2,)])
    (True, False)
    """
    return optree.all_leaves(iterable, is_leaf, namespace=NAMESPACE)


def transpose(
    outer_treedef: PyTreeDef, inner_treedef: PyTreeDef | None, pytree_to_transpose: Any
) -> Any:
    """Turn a tree of trees inside out.

    >>> transpose(structure([0, 0]), structure({"a": 0}), [{"a": 1}, {"a": 2}])
    {'a': [1, 2]}
    """
    if inner_treedef is None:
        inner_treedef = structure(outer_treedef.flatten_up_to(pytree_to_transpose)[0])
    return optree.tree_transpose(outer_treedef, inner_treedef, pytree_to_transpose)


# -- one level -----------------------------------------------------------------------------------


def is_tree_node(typ: type) -> bool:
    """Whether a class is a container: a built-in one, a namedtuple, or a registered class.

    >>> is_tree_node(dict), is_tree_node(float)
    (True, False)
    """
    return optree.register_pytree_node.get(typ, namespace=NAMESPACE) is not None


def flatten_one_level(tree: Any) -> tuple[list[Any], PyTreeDef]:
    """The children of a container, and its structure with them as leaves.

    Raises:
        ValueError: `tree` is a leaf.

    >>> flatten_one_level({"a": [1, 2], "b": 3})[0]
    [[1, 2], 3]
    """
    return flatten(_container(tree), lambda x: x is not tree)


def flatten_one_level_with_keys(
    tree: Any,
) -> tuple[list[tuple[KeyEntry, Any]], PyTreeDef]:
    """Pairs of key and child of a container, and its structure with the children as leaves.

    Raises:
        ValueError: `tree` is a leaf.

    >>> flatten_one_level_with_keys({"a": [1, 2]})[0]
    [(DictKey(key='a'), [1, 2])]
    """
    pairs, treedef = flatten_with_path(_container(tree), lambda x: x is not tree)
    return [(path[0], child) for path, child in pairs], treedef


def _container(tree: Any) -> Any:
    if not is_tree_node(type(tree)):
        raise ValueError(
            f"flatten_one_level: a {type(tree).__name__} is a leaf, not a container; register its "
            "class with register_pytree_node"
        )
    return tree


def treedef_children(treedef: PyTreeDef) -> list[PyTreeDef]:
    """The structures of the children of a structure.

    >>> treedef_children(structure([0, (0, 0)])) == [structure(0), structure((0, 0))]
    True
    """
    return treedef.children()


def treedef_is_leaf(treedef: PyTreeDef) -> bool:
    """Whether a structure is that of a leaf.

    >>> treedef_is_leaf(structure(0)), treedef_is_leaf(structure([0]))
    (True, False)
    """
    return treedef.is_leaf()


def treedef_tuple(treedefs: Iterable[PyTreeDef]) -> PyTreeDef:
    """The structure of a tuple of trees with these structures.

    >>> treedef_tuple([structure(0), structure([0])]) == structure((0, [0]))
    True
    """
    return optree.treespec_tuple(treedefs, namespace=NAMESPACE)


# -- key paths -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class DictKey:
    """A step into a mapping."""

    key: Any

    def __str__(self) -> str:
        return f"[{self.key!r}]"


@dataclasses.dataclass(frozen=True)
class SequenceKey:
    """A step into a list or tuple."""

    idx: int

    def __str__(self) -> str:
        return f"[{self.idx}]"


@dataclasses.dataclass(frozen=True)
class GetAttrKey:
    """A step into an object's attribute."""

    name: str

    def __str__(self) -> str:
        return f".{self.name}"


@dataclasses.dataclass(frozen=True)
class FlattenedIndexKey:
    """A step into a registered class that gave no names."""

    key: int

    def __str__(self) -> str:
        return f"[<flat index {self.key}>]"


KeyEntry = DictKey | SequenceKey | GetAttrKey | FlattenedIndexKey
KeyPath = tuple[KeyEntry, ...]


def _key(accessor) -> KeyEntry:
    entry = accessor.entry
    if isinstance(accessor, optree.MappingEntry):
        return DictKey(entry)
    if isinstance(accessor, optree.NamedTupleEntry):
        return GetAttrKey(accessor.field)
    if isinstance(accessor, optree.SequenceEntry):
        return SequenceKey(entry)
    if isinstance(accessor, optree.GetAttrEntry) or isinstance(entry, str):
        return GetAttrKey(entry)
    return FlattenedIndexKey(entry)


def flatten_with_path(
    tree: Any, is_leaf=None
) -> tuple[list[tuple[tuple[KeyEntry, ...], Any]], PyTreeDef]:
    """Pairs of key path and leaf, and the structure.

    >>> [(keystr(p), v) for p, v in flatten_with_path({"a": [1, 2]})[0]]
    [("['a'][0]", 1), ("['a'][1]", 2)]
    """
    accessors, items, treedef = optree.tree_flatten_with_accessor(
        tree, is_leaf, namespace=NAMESPACE
    )
    return [(tuple(_key(k) for k in a), v) for a, v in zip(accessors, items, strict=True)], treedef


def leaves_with_path(tree: Any, is_leaf=None) -> list[tuple[tuple[KeyEntry, ...], Any]]:
    """Pairs of key path and leaf.

    >>> leaves_with_path((7,))
    [((SequenceKey(idx=0),), 7)]
    """
    return flatten_with_path(tree, is_leaf)[0]


def map_with_path(f: Callable[..., Any], tree: Any, *rest: Any, is_leaf=None) -> Any:
    """`map` with the key path as first argument of `f`.

    >>> map_with_path(lambda path, x: keystr(path) + "=" + str(x), {"a": 1})
    {'a': "['a']=1"}
    """
    pairs, treedef = flatten_with_path(tree, is_leaf)
    others = [treedef.flatten_up_to(r) for r in rest]
    return optree.tree_unflatten(
        treedef, [f(p, x, *xs) for (p, x), *xs in zip(pairs, *others, strict=True)]
    )


def keystr(path: Sequence[KeyEntry], *, simple: bool = False, separator: str = "") -> str:
    """A key path as text.

    >>> keystr((DictKey("w"), SequenceKey(0)))
    "['w'][0]"
    >>> keystr((DictKey("w"), SequenceKey(0)), simple=True, separator="/")
    'w/0'
    """
    if not simple:
        return separator.join(str(k) for k in path)
    return separator.join(str(next(iter(vars(k).values()))) for k in path)


# -- registration ----------------------------------------------------------------------------------


def register_pytree_node(
    nodetype: type,
    flatten_func: Callable[[Any], tuple[Iterable[Any], Any]],
    unflatten_func: Callable[[Any, Iterable[Any]], Any],
) -> None:
    """Make a class a container: `flatten_func(x) -> (children, aux)`, `unflatten_func(aux,
    children) -> x`.

    `aux` must be hashable and comparable.

    >>> class Pair:
    ...     def __init__(self, a, b): self.a, self.b = a, b
    >>> register_pytree_node(Pair, lambda p: ((p.a, p.b), None), lambda _, c: Pair(*c))
    >>> leaves(Pair(1, 2))
    [1, 2]

    Raises:
        ValueError: the class is registered already.
    """
    optree.register_pytree_node(nodetype, flatten_func, unflatten_func, namespace=NAMESPACE)


def register_pytree_with_keys(
    nodetype: type, flatten_with_keys, unflatten_func, flatten_func=None, *, mapping: bool = False
) -> None:
    """`register_pytree_node` whose children come as (key, child) pairs, which key paths show.

    `mapping` says that users reach the children as `x[key]`, so that paths show every key so.
    """

    def with_entries(x):
        pairs, aux = flatten_with_keys(x)
        keys, children = zip(*pairs, strict=True) if pairs else ((), ())
        entries = tuple(getattr(k, "name", getattr(k, "key", getattr(k, "idx", k))) for k in keys)
        return children, aux, entries

    entry = optree.MappingEntry if mapping else optree.AutoEntry
    optree.register_pytree_node(
        nodetype, with_entries, unflatten_func, path_entry_type=entry, namespace=NAMESPACE
    )


def register_pytree_with_keys_class(cls: Any) -> Any:
    """Class decorator: the class has `tree_flatten_with_keys(self)` and `tree_unflatten(cls, aux,
    children)`.

    >>> @register_pytree_with_keys_class
    ... class Named:
    ...     def __init__(self, x): self.x = x
    ...     def tree_flatten_with_keys(self): return [(GetAttrKey("x"), self.x)], None
    ...     @classmethod
    ...     def tree_unflatten(cls, aux, children): return cls(*children)
    >>> keystr(leaves_with_path(Named(4))[0][0])
    '.x'
    """
    register_pytree_with_keys(cls, lambda x: x.tree_flatten_with_keys(), cls.tree_unflatten)
    return cls


def register_pytree_node_class(cls: Any) -> Any:
    """Class decorator: the class has `tree_flatten(self)` and `tree_unflatten(cls, aux, children)`.

    >>> @register_pytree_node_class
    ... class Box:
    ...     def __init__(self, x): self.x = x
    ...     def tree_flatten(self): return (self.x,), None
    ...     @classmethod
    ...     def tree_unflatten(cls, aux, children): return cls(*children)
    >>> map(lambda x: x * 2, Box(4)).x
    8
    """
    register_pytree_node(cls, lambda x: x.tree_flatten(), cls.tree_unflatten)
    return cls


def register_dataclass(
    nodetype: Any,
    data_fields: Sequence[str] | None = None,
    meta_fields: Sequence[str] | None = None,
    drop_fields: Sequence[str] = (),
) -> Any:
    """Make a dataclass a container: `data_fields` are children, `meta_fields` part of the
    structure.

    By default fields whose metadata has `static=True` are meta, all other `init` fields are data.

    >>> @register_dataclass
    ... @dataclasses.dataclass
    ... class Point:
    ...     x: float
    ...     name: str = dataclasses.field(metadata={"static": True})
    >>> map(lambda v: v + 1, Point(1.0, "p"))
    Point(x=2.0, name='p')

    Raises:
        TypeError: not a dataclass, or the fields named are not its `init` fields.
    """
    cls: Any = nodetype
    if not dataclasses.is_dataclass(nodetype):
        raise TypeError(
            f"register_dataclass: {cls.__name__} is not a dataclass; decorate it with @dataclass "
            "first"
        )
    fields = {
        f.name: f for f in dataclasses.fields(nodetype) if f.init and f.name not in drop_fields
    }
    if meta_fields is None:
        meta_fields = [
            n
            for n, f in fields.items()
            if (n not in data_fields if data_fields else f.metadata.get("static"))
        ]
    if data_fields is None:
        data_fields = [n for n in fields if n not in meta_fields]
    if set(data_fields) | set(meta_fields) != set(fields):
        raise TypeError(
            f"register_dataclass: {cls.__name__} has the init fields {sorted(fields)}, but "
            "data_fields "
            f"{list(data_fields)} and meta_fields {list(meta_fields)} are not all of them"
        )
    data, meta = tuple(data_fields), tuple(meta_fields)

    def to_children(x):
        return tuple(getattr(x, n) for n in data), tuple(getattr(x, n) for n in meta), data

    def from_children(aux, children):
        return cls(**dict(zip(data, children, strict=True)), **dict(zip(meta, aux, strict=True)))

    optree.register_pytree_node(cls, to_children, from_children, namespace=NAMESPACE)
    return cls


def static(**options: Any) -> Any:
    """A dataclass field that is part of the structure: `dataclasses.field` marked for
    `register_dataclass`.

    >>> static(default=3).metadata["static"]
    True
    """
    metadata = {**(options.pop("metadata", None) or {}), "static": True}
    return dataclasses.field(metadata=metadata, **options)


def register_static(cls: type) -> type:
    """Class decorator: instances are part of the structure and have no leaves (they must be
    hashable).
    """
    register_pytree_node(cls, lambda x: ((), x), lambda x, _: x)
    return cls


class _Opaque:
    """A `functools.partial` that a `Partial` holds as its function, without taking it apart."""

    __slots__ = ("fn",)

    def __init__(self, fn: functools.partial):
        self.fn = fn

    def __call__(self, *args: Any, **kw: Any) -> Any:
        return self.fn(*args, **kw)

    def __eq__(self, other: object) -> bool:
        return type(other) is _Opaque and self.fn is other.fn

    def __hash__(self) -> int:
        return id(self.fn)


class Partial(functools.partial):
    """`functools.partial` as a container: its arguments are children, the function is structure.

    So a function with arrays bound to it can be passed through `jit`, `grad` and `vmap`.

    >>> scaled = Partial(lambda a, x: a * x, 3)
    >>> leaves(scaled), map(lambda a: a + 1, scaled)(10)
    ([3], 40)
    """

    def __new__(cls, func: Callable[..., Any], /, *args: Any, **kw: Any) -> Partial:
        """Bind arguments to a function."""
        if type(func) is functools.partial:
            func = _Opaque(func)
        return super().__new__(cls, func, *args, **kw)


register_pytree_with_keys(
    Partial,
    lambda p: ([(GetAttrKey("args"), p.args), (GetAttrKey("keywords"), p.keywords)], p.func),
    lambda func, children: Partial(func, *children[0], **children[1]),
)
