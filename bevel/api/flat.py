"""Arguments and results of user functions as flat lists of handles, cells and values."""

from __future__ import annotations

import copy
import functools
import inspect
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from bevel.core import handle, tree
from bevel.core.aval import Aval, aval_of
from bevel.core.dtypes import as_dtype
from bevel.core.handle import Handle, KeyTag, fresh_tag, wrap
from bevel.core.ref import Cell
from bevel.core.source import user_source, where
from bevel.numpy.convert import enter
from bevel.numpy.scalars import KeyDtype
from bevel.xla import client


def name_of(fun: Callable[..., Any]) -> str:
    """The name messages call a function by."""
    if isinstance(fun, functools.partial):
        return name_of(fun.func)
    return getattr(fun, "__name__", None) or type(fun).__name__


def place_of(fun: Callable[..., Any]) -> str:
    """The line where a function is defined, as far as that is known."""
    while isinstance(fun, functools.partial) or hasattr(fun, "__wrapped__"):
        fun = getattr(fun, "__wrapped__", None) or fun.func
    code = getattr(fun, "__code__", None)
    return "an unknown place" if code is None else f"{code.co_filename}:{code.co_firstlineno}"


def check_arguments(fun: Callable[..., Any], **options: Any) -> None:
    """Raise where an option numbers or names arguments that a function does not have.

    Raises:
        ValueError: it does; functions with `*args` and `**kwargs` may have any.
    """
    try:
        parameters = inspect.signature(fun).parameters
    except (TypeError, ValueError):
        return
    kinds = [p.kind for p in parameters.values()]
    places = [k for k in kinds if k in (k.POSITIONAL_ONLY, k.POSITIONAL_OR_KEYWORD)]
    named = [n for n, p in parameters.items() if p.kind is not p.POSITIONAL_ONLY]
    for option, given in options.items():
        if given is None:
            continue
        if option.endswith("nums"):
            n = len(places)
            wrong = [i for i in as_tuple(given) if not -n <= i < n]
            free = inspect.Parameter.VAR_POSITIONAL in kinds
        else:
            wrong = [x for x in ((given,) if isinstance(given, str) else given) if x not in named]
            free = inspect.Parameter.VAR_KEYWORD in kinds
        if wrong and not free:
            raise ValueError(
                f"{option}={given!r}: {name_of(fun)} has no argument {wrong[0]!r}; it has "
                f"{', '.join(parameters) or 'none'}.\n"
                "Write instead: names (static_argnames='n') or places, from 0, of arguments that "
                "the function has."
            )


def described(transform: str, fun: Any) -> str:
    """What messages call a transformed function.

    Raises:
        TypeError: it is no function.
    """
    if not callable(fun):
        raise TypeError(
            f"{transform}: expected a function, got {type(fun).__name__}.\n"
            f"Write instead: {transform}(f, ...), with the function itself and not its result f(x)."
        )
    return f"{transform} of {name_of(fun)}"


def cells_of(leaf: Any) -> Sequence[Cell] | None:
    """The state cells in a leaf of an argument: a cell itself, or an object that holds some."""
    if isinstance(leaf, Cell):
        return (leaf,)
    own = getattr(leaf, "__bevel_structure__", None)
    return None if own is None else own().cells


def is_stateful(leaf: Any) -> bool:
    """Whether a leaf is an object that holds cells (and not a cell, which stands for its array)."""
    return hasattr(leaf, "__bevel_structure__")


def axes_of(leaf: Any, axes: Any, what: str) -> dict[Cell, Any]:
    """The axis of each cell in a stateful leaf: one for all, or what `nn.StateAxes` says."""
    if not hasattr(axes, "__bevel_axes__"):
        return dict.fromkeys(cells_of(leaf) or (), axes)
    if not is_stateful(leaf):
        raise TypeError(
            f"{what}: {axes!r} stands for {type(leaf).__name__}, which holds no variables.\n"
            "Write instead: an int or None for an array, and nn.StateAxes for a module."
        )
    return axes.__bevel_axes__(leaf)


def structure_key(leaf: Any) -> Any:
    """What of a stateful leaf a trace depends on, besides its cells' contents."""
    own = getattr(leaf, "__bevel_structure__", None)
    return type(leaf) if own is None else own().graphdef


def is_array_like(leaf: Any) -> bool:
    """Tell whether a leaf is an array, a number, or converts to one."""
    return isinstance(
        leaf, Handle | np.ndarray | np.generic | bool | int | float | complex
    ) or hasattr(leaf, "__array__")


def as_handle(leaf: Any, what: str) -> Handle:
    """A handle on a leaf; the error says which argument or result it is."""
    if isinstance(leaf, Handle):
        return leaf
    if is_array_like(leaf) or hasattr(leaf, "__bevel_array__"):
        return enter(leaf)
    if is_stateful(leaf):
        raise TypeError(
            f"{what} is a {type(leaf).__name__}, which holds state, at {where(user_source())}.\n"
            "Why: a module is no value to pass on: what a function writes into it is in it after "
            "the call.\n"
            "Write instead: use the module in the function, as its argument or from around it, "
            "and return arrays, or nn.state(model)."
        )
    if what.startswith("a result"):
        raise TypeError(
            f"{what} is a {type(leaf).__name__}, which is not an array, at "
            f"{where(user_source())}.\n"
            "Why: a transformed function returns arrays, numbers, and pytrees of them (dict, list, "
            "tuple, registered classes), since its program knows nothing else.\n"
            "Write instead: return the arrays in it (bnp.stack(list(rows)) for a generator), and "
            "make the object of them outside; or has_aux=True where the transform takes it."
        )
    raise TypeError(
        f"{what} is a {type(leaf).__name__}, which is not an array, at "
        f"{where(user_source())}.\n"
        "Why: transformed functions take and return arrays, numbers, and pytrees of them "
        "(dict, list, tuple, registered classes), and modules with state as arguments.\n"
        "Write instead: mark the argument static (static_argnums / static_argnames of bv.jit), "
        "close over "
        "it, or convert it with bnp.asarray."
    )


def flatten_handles(value: Any, what: str) -> tuple[list[Handle], Any]:
    """Handles on the leaves of a tree, and its structure."""
    leaves, treedef = tree.flatten(value)
    return [as_handle(x, what) for x in leaves], treedef


def type_text(aval: Aval, tag: Any) -> str:
    """Dtype and shape as users see them: `float32[3]`, `key<threefry2x32>[]`."""
    if type(tag) is not KeyTag:
        return str(aval)
    return f"{KeyDtype(tag.impl).name}[{','.join(map(str, aval.shape[:-1]))}]"


class _Word(str):
    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def tree_text(treedef: Any, types: Sequence[str]) -> str:
    """A structure with the types of its leaves: `{'a': float32[3], 'b': None}`."""
    return repr(tree.unflatten(treedef, list(map(_Word, types))))


def type_name(h: Handle) -> str:
    """Dtype and shape of an array as users see them."""
    return type_text(aval_of(h._v), h._tag)


class ShapeDtypeStruct:
    """The shape and dtype of an array that does not exist.

    Args:
        shape: of the array.
        dtype: anything that names a dtype, or the dtype of an array of random keys.

    >>> ShapeDtypeStruct((2, 3), "float32")
    ShapeDtypeStruct(shape=(2, 3), dtype=float32)
    """

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: Sequence[int], dtype: Any):
        self.shape = tuple(shape)
        self.dtype = dtype if isinstance(dtype, KeyDtype) else as_dtype(dtype)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ShapeDtypeStruct) and (self.shape, self.dtype) == (
            other.shape,
            other.dtype,
        )

    def __hash__(self) -> int:
        return hash((self.shape, self.dtype))

    def __repr__(self) -> str:
        return f"ShapeDtypeStruct(shape={self.shape}, dtype={self.dtype.name})"


def like(leaf: Any, what: str) -> Handle:
    """A handle with the type of a leaf, which may be a `ShapeDtypeStruct`; its contents are never
    read.
    """
    if not isinstance(leaf, ShapeDtypeStruct):
        return as_handle(leaf, what)
    if isinstance(leaf.dtype, KeyDtype):
        tag = KeyTag(leaf.dtype.impl)
        words = np.broadcast_to(np.zeros((), np.uint32), (*leaf.shape, tag.words))
        return wrap(words, tag)
    return wrap(np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape))


def struct_of(aval: Aval, tag: Any) -> ShapeDtypeStruct:
    """The shape and dtype users see of a value with a tag."""
    if type(tag) is KeyTag:
        return ShapeDtypeStruct(aval.shape[:-1], KeyDtype(tag.impl))
    return ShapeDtypeStruct(aval.shape, aval.dtype)


def signature(h: Handle) -> tuple[Any, ...]:
    """Shape, dtype and kind of key: what every trace depends on."""
    v, impl = h._v, h._tag.impl if type(h._tag) is KeyTag else None
    if type(v) is np.ndarray:
        return v.shape, v.dtype, impl
    aval = v.aval
    return aval.shape, aval.dtype, impl


def rewrap(values: Iterable[Any], tags: Iterable[Any]) -> list[Any]:
    """Handles on values, each with a tag of the given kind."""
    return [wrap(v, fresh_tag(t)) for v, t in zip(values, tags, strict=True)]


def parameter_names(fun: Any) -> list[str]:
    """Names of a function's parameters, as far as they can be known."""
    try:
        return list(inspect.signature(fun).parameters)
    except (TypeError, ValueError):
        return []


def argument_name(fun: Callable[..., Any], position: int) -> str:
    """`argument 1 (x)` for messages."""
    names = parameter_names(fun)
    shown = f" ({names[position]})" if position < len(names) else ""
    return f"argument {position}{shown}"


class Output:
    """Flat results of a user function, and how to build the user's result from them again."""

    __slots__ = ("others", "tags", "treedef")

    def __init__(self):
        self.treedef: Any = None
        self.tags: list[Any] = []
        self.others: dict[int, Any] = {}

    def flatten(
        self,
        result: Any,
        what: str,
        arrays_only: bool = True,
        passed: Callable[[Any], bool] | None = None,
    ) -> list[Any]:
        """Values of a result's leaves; remembers the structure and the tags.

        Unless `arrays_only`, leaves that are no arrays are remembered as they are, and so are those
        that `passed` takes.
        """
        leaves, self.treedef = tree.flatten(result)
        if not arrays_only or passed is not None:
            kept = passed or (lambda x: not is_array_like(x))
            self.others = {i: x for i, x in enumerate(leaves) if kept(x)}
            leaves = [x for i, x in enumerate(leaves) if i not in self.others]
        handles = [as_handle(x, f"a result of {what}") for x in leaves]
        self.tags = [h._tag for h in handles]
        return [h._v for h in handles]

    def with_tags(self, tags: list[Any]) -> Output:
        """The same, with other tags."""
        other = copy.copy(self)
        other.tags = tags
        return other

    def unflatten(self, values: Sequence[Any]) -> Any:
        """The user's result."""
        leaves = rewrap(values, self.tags)
        for i, x in self.others.items():  # in increasing order
            leaves.insert(i, x)
        return tree.unflatten(self.treedef, leaves)


def as_tuple(numbers: Any) -> tuple[int, ...]:
    """One number or several, of any integer type, as a tuple of ints."""
    try:
        return (operator.index(numbers),)
    except TypeError:
        return tuple([operator.index(n) for n in numbers])


def is_single(numbers: Any) -> bool:
    """Whether it is one number, not several."""
    return hasattr(numbers, "__index__")


def normalize_argnums(argnums: Sequence[int], n: int, what: str) -> tuple[int, ...]:
    """Argument numbers as non-negative ints.

    Raises:
        ValueError: one is out of range for a call with `n` positional arguments.
    """
    found = []
    for i in argnums:
        if not -n <= i < n:
            raise ValueError(
                f"{what}: argument number {i} is out of range for a call with {n} positional "
                "arguments.\n"
                "Write instead: pass that argument by position, or correct argnums."
            )
        found.append(i % n)
    return tuple(found)


def array_leaves(x: Any) -> list[Any] | None:
    """The leaves of `x` if it is made of arrays in plain containers, at a quarter of the cost of
    `tree.leaves`.
    """
    found = container_flatten(x)
    if found is None or any(not issubclass(t, Handle) for t in set(map(type, found[0]))):
        return None
    return found[0]


def container_flatten(x: Any) -> tuple[list[Any], Any] | None:
    """Leaves and hashable structure, by jaxlib's code, which knows tuples, lists, dicts and None
    only; None if jaxlib is not loaded or the keys of a dict cannot be sorted.
    """
    if handle.raw_type is None:
        return None
    try:
        return client.container_flatten()(x)
    except (TypeError, ValueError):
        return None
