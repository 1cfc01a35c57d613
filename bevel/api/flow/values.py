"""Values in converted control flow: variables that may be unbound, and what can be carried."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from bevel.api.body import Body
from bevel.api.flat import as_handle, type_name
from bevel.core import tree
from bevel.core.handle import Handle, is_weak, logical_shape
from bevel.core.interpreter import Tracer


def is_traced(x: Any) -> bool:
    """Whether only the program will know the value."""
    return isinstance(x, Handle) and isinstance(x._v, Tracer)


class Undefined:
    """Stands for a variable that has no value on some path; using it is an error that says so."""

    def __init__(self, name: str, why: str = "it is not bound"):
        self.__dict__["name"] = name
        self.__dict__["_what"] = f"variable {name!r} is used, but {why}"

    def used(self, *args: Any, **kwargs: Any) -> Any:
        """Raise the error."""
        raise UnboundLocalError(self._what)

    __getattr__ = __setattr__ = __call__ = __bool__ = __len__ = __iter__ = __getitem__ = used
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = used
    __rtruediv__ = __matmul__ = __rmatmul__ = __pow__ = __rpow__ = __neg__ = __abs__ = used
    __lt__ = __le__ = __gt__ = __ge__ = __mod__ = __floordiv__ = __index__ = __float__ = used


def value(get: Callable[[], Any], name: str) -> Any:
    """A variable's value, or `Undefined`."""
    try:
        return get()
    except NameError:
        return Undefined(name)


def is_hidden(name: str) -> bool:
    """Whether a variable is the rewriter's own: a guard keeps it from being read unbound."""
    return name.startswith("__bevel_")


def is_array(x: Any) -> bool:
    """Whether a value (a pytree) can be carried: numbers and arrays, at least one of them."""
    leaves = tree.leaves(x)
    number = Handle | np.ndarray | np.generic | bool | int | float | complex
    return bool(leaves) and all(isinstance(leaf, number) for leaf in leaves)


class Fixed:
    """Values that a traced branch or loop hands on as they are."""

    def __init__(self, values: Sequence[Any], dynamic: list[bool] | None = None):
        self.values = list(values)
        self.dynamic = [is_array(v) for v in values] if dynamic is None else dynamic

    def arrays(self) -> list[Any]:
        """Those that are carried."""
        return [v for v, d in zip(self.values, self.dynamic, strict=True) if d]

    def merge(self, arrays: Iterable[Any]) -> list[Any]:
        """All values, with new arrays in place of those that are carried."""
        found = iter(arrays)
        return [next(found) if d else v for v, d in zip(self.values, self.dynamic, strict=True)]


class Watch:
    """The objects that a traced branch or loop may change in place, and what was in them."""

    def __init__(self, watched: Sequence[tuple[str, Any]]):
        self.found = [(text, x, _inside(x)) for text, x in watched if _inside(x) is not None]

    def check(self, what: str, line: str) -> None:
        """Raise if one has changed."""
        for text, x, before in self.found:
            if _inside(x) != before:
                raise TypeError(
                    f"{text}, a {type(x).__name__}, is changed in the {what} at {line}, which a "
                    "traced value controls.\n"
                    "Why: whether and how often it runs is known only when the program runs, but "
                    "Python objects change while it is traced.\n"
                    "Write instead: bind arrays to variables (or write bv.ref cells), or lax.scan, "
                    "which stacks what each step returns."
                )


def _inside(x: Any) -> Any:
    """What is compared to see whether an object was changed; None if it is nothing to watch."""
    if isinstance(x, list):
        return [id(v) for v in x]
    if isinstance(x, dict):
        return {k: id(v) for k, v in x.items()}
    if isinstance(x, set):
        return set(map(id, x))
    if isinstance(x, Handle | type | types.ModuleType | types.FunctionType):
        return None
    return {k: id(v) for k, v in vars(x).items()} if hasattr(x, "__dict__") else None


def same(a: Any, b: Any) -> bool:
    """Whether two Python objects are equal, and of one type."""
    try:
        return type(a) is type(b) and bool(a == b)
    except Exception:
        return False


def short(x: Any) -> str:
    """A value in a message."""
    text = repr(x)
    return text if len(text) < 60 else type(x).__name__


class Struct:
    """Shape and dtype of a leaf."""

    def __init__(self, handle: Handle):
        self.shape, self.dtype = logical_shape(handle), handle._v.dtype
        self._tag = handle._tag
        self.text = type_name(handle)

    @property
    def weak(self) -> bool:
        """Whether it takes the dtype of what it meets."""
        return is_weak(self._tag)

    def __repr__(self) -> str:
        return self.text


def is_struct(x: Any) -> bool:
    """Whether a value is a tree of `Struct`s."""
    leaves = tree.leaves(x)
    return bool(leaves) and all(isinstance(leaf, Struct) for leaf in leaves)


def peek(run: Callable[[], Any]) -> list[Any]:
    """The results of a traced body: a `Struct` for each number or array, others as they are."""
    seen: list[Any] = []

    def look() -> list[Any]:
        for r in run():
            if is_array(r):
                seen.append(tree.map(lambda x: Struct(as_handle(x, "a value")), r))
            else:
                seen.append(r)
        return []

    Body("a branch", look, [])
    return seen


def truth(x: Any) -> Any:
    """What `bool` says of a traced value."""
    if x.ndim and x.size != 1:
        raise ValueError(
            f"the truth value of an array of shape {tuple(x.shape)} is ambiguous; write .any() or "
            ".all()"
        )
    x = x.reshape(())
    return x if x.dtype == bool else x != 0
