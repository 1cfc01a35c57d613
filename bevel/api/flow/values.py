"""Values in converted control flow: variables that may be unbound, and what can be carried."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

import bevel.numpy as bnp
from bevel.api.body import Body
from bevel.api.flat import as_handle, flatten_handles, type_name
from bevel.core import tree
from bevel.core.handle import Handle, is_weak, logical_shape
from bevel.core.interpreter import Tracer
from bevel.core.source import user_source, where


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
    except (NameError, ValueError):
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


def same(a: Any, b: Any) -> bool:
    """Whether two Python objects are equal, and of one type."""
    try:
        return type(a) is type(b) and bool(a == b)
    except Exception:
        return False


def short(x: Any) -> str:
    """A value in a message."""
    if isinstance(x, types.FunctionType | type):
        return f"{'a function' if isinstance(x, types.FunctionType) else 'a class'} ({x.__name__})"
    if isinstance(x, Undefined):
        return "not bound"
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


def blank(struct: Any) -> Any:
    """Zeros of the types in a tree of `Struct`s."""

    def zeros(s: Struct) -> Any:
        if s.weak and s.shape == ():
            return np.zeros((), s.dtype).item()
        return bnp.zeros(s.shape, s.dtype)

    return tree.map(zeros, struct)


def peek(run: Callable[..., Any], *given: Any) -> list[Any]:
    """The results of a traced body: a `Struct` for each number or array, others as they are.

    The body gets the trees of arrays that are `given`, traced.
    """
    seen: list[Any] = []
    handles, treedef = flatten_handles(given, "a variable")

    def look(*traced: Handle) -> list[Any]:
        for r in run(*tree.unflatten(treedef, traced)):
            if is_array(r):
                seen.append(tree.map(lambda x: Struct(as_handle(x, "a value")), r))
            else:
                seen.append(r)
        return []

    Body("a branch", look, handles)
    return seen


def truth(x: Any) -> Any:
    """What `bool` says of a traced value."""
    if x.ndim and x.size != 1:
        raise ValueError(
            f"the truth value of {type_name(x)} is ambiguous, at {where(user_source())}: it has "
            f"{x.size} elements.\n"
            "Write instead: x.any() or x.all(); bnp.where(x, a, b) to choose element by element."
        )
    x = x.reshape(())
    return x if x.dtype == bool else x != 0
