"""`Ref`: a mutable array, the state cell that users hold.

An `Array` never changes. What does change from call to call (parameters, moments, counters) lives
in a `Ref`, which every transform sees: `bv.jit` makes what a function writes into it an extra
result, `bv.vmap`
and `lax.scan` carry it along. Arithmetic on a ref is arithmetic on its contents.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import bevel.numpy as bnp
from bevel.core import dtypes
from bevel.core.handle import Handle, KeyTag, is_weak
from bevel.core.ref import Cell
from bevel.core.source import user_source, where
from bevel.numpy.convert import astype, enter, is_array_like


def content_of(value: Any, old: Any = None) -> Any:
    """What a cell keeps of a value: an array with a dtype of its own, or a hashable Python object.

    A Python number takes the dtype of the content it replaces.

    Raises:
        TypeError: the value is neither an array nor hashable.
    """
    if isinstance(value, Handle) or is_array_like(value):
        handle = enter(value)
        if handle._tag is None or type(handle._tag) is KeyTag:
            return handle
        dtype = handle._v.dtype
        if (
            isinstance(old, Handle)
            and type(old._tag) is not KeyTag
            and old._v.dtype != dtype
            and is_weak(handle._tag)
            and _holds(old._v.dtype, dtype)
        ):
            dtype = old._v.dtype
        return _at(value, handle, dtype)
    try:
        hash(value)
    except TypeError:
        raise TypeError(
            f"a state cell holds one array, not a {type(value).__name__}, at "
            f"{where(user_source())}.\n"
            "Why: transforms carry the contents of cells as arrays.\n"
            "Write instead: one cell for each array, bv.tree.map(bv.ref, value); in a module, a "
            "dict or list of "
            "nn.Variable."
        ) from None
    return value


def _at(value: Any, handle: Handle, dtype: Any) -> Handle:
    """The value at a dtype; a Python integer that does not fit raises."""
    return (
        enter(value, dtype) if isinstance(value, int | float | complex) else astype(handle, dtype)
    )


_RANK = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}


def _holds(target: Any, source: Any) -> bool:
    """Whether numbers of the one kind go into the other without loss of kind."""
    return _RANK[dtypes.kind(target)] >= _RANK[dtypes.kind(source)]


def _restore(cls: type[Ref], content: Any, fields: dict[str, Any]) -> Ref:
    ref = cls.__new__(cls)
    Cell.__init__(ref, content)
    for name, value in fields.items():
        object.__setattr__(ref, name, value)
    return ref


class Ref(Cell):
    """A mutable array.

    `ref[...]` (or `ref.value`) reads it, `ref[...] = x` writes into it, keeping shape and dtype,
    `ref[index] = x` writes a part, `ref += x` adds to it, `ref.value = x` puts another array in its
    place. Attributes of the array (`shape`, `dtype`, `sum()`, ...) are there too.

    Args:
        value: anything an array can be made from, or a hashable Python object.

    Raises:
        TypeError: the value is neither.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> total = bv.ref(bnp.zeros(2))
    >>> @bv.jit
    ... def add(x):
    ...     total[...] += x
    >>> add(1.0), add(2.0)
    (None, None)
    >>> total[...]
    Array([3., 3.], dtype=float32)
    """

    __slots__ = ()
    __array_priority__ = 200
    __hash__ = Cell.__hash__

    def __init__(self, value: Any):
        super().__init__(content_of(value))

    @property
    def value(self) -> Any:
        """The contents."""
        return self._read()

    @value.setter
    def value(self, new: Any) -> None:
        self._write(content_of(new, self._read()))

    def __getitem__(self, index: Any) -> Any:
        content = self._read()
        return content if index is Ellipsis else content[index]

    def __setitem__(self, index: Any, new: Any) -> None:
        old = self._read()
        if not isinstance(old, Handle):
            if index is not Ellipsis:
                raise TypeError(
                    f"the cell holds {old!r}, which has no elements to write.\nWrite instead: "
                    f"cell[...] = x."
                )
            self._write(content_of(new))
        elif index is Ellipsis:
            self._write(self._fitted(old, new))
        else:
            if type(old._tag) is not KeyTag:
                self._check_kind(old, enter(new))
            self._write(old.at[index].set(new))

    def _fitted(self, old: Any, new: Any) -> Any:
        """`new` at the shape and dtype of `old`."""
        given, new = new, enter(new)
        if type(old._tag) is not KeyTag:
            self._check_kind(old, new)
            new = _at(given, new, old._v.dtype)
        elif type(new._tag) is not KeyTag:
            raise TypeError(
                "the cell holds a random key, and only a key goes in its place: random.key(0)"
            )
        if new.shape == old.shape:
            return new
        try:
            return bnp.broadcast_to(new, old.shape)
        except (TypeError, ValueError):
            raise ValueError(
                f"an array of shape {new.shape} does not fit into the {type(self).__name__} of "
                f"shape {old.shape}, "
                f"at {where(user_source())}.\n"
                "Why: `cell[...] = x` writes into the array that is there.\n"
                "Write instead: cell.value = x to replace it by an array of another shape."
            ) from None

    def _check_kind(self, old: Any, new: Any) -> None:
        if type(new._tag) is KeyTag or not _holds(old._v.dtype, new._v.dtype):
            raise TypeError(
                f"{new.dtype} numbers are written into the {type(self).__name__} of dtype "
                f"{old.dtype}, which cannot "
                f"hold them, at {where(user_source())}.\n"
                f"Write instead: x.astype({old._v.dtype.name!r}) if they may be cut, or cell.value "
                f"= x to replace "
                "the array."
            )

    def __bevel_array__(self) -> Any:
        return self._read()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return self._read().__array__(dtype, copy)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._read(), name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._read()!r})"

    def _fields(self) -> dict[str, Any]:
        """What a copy has besides the contents."""
        return dict(getattr(self, "__dict__", {}))

    def __reduce__(self) -> Any:
        return _restore, (type(self), self._read(), self._fields())

    def __copy__(self) -> Ref:
        return _restore(type(self), self._read(), self._fields())


def _forward(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *args: function(self._read(), *args)


def _reflected(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    return lambda self, other: function(other, self._read())


def _in_place(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def update(self: Ref, other: Any) -> Ref:
        self[...] = function(self._read(), other)
        return self

    return update


_BINARY = "add sub mul truediv floordiv mod pow matmul lshift rshift and_ or_ xor".split()
_FORWARDED = {
    **{
        f"__{n}__": getattr(operator, n)
        for n in "lt le gt ge eq ne neg pos abs invert index".split()
    },
    "__divmod__": divmod,
    "__round__": round,
    "__bool__": bool,
    "__int__": int,
    "__float__": float,
    "__complex__": complex,
    "__len__": len,
    "__iter__": iter,
    "__contains__": operator.contains,
    "__format__": format,
}
for _name in _BINARY:
    _function, _plain = getattr(operator, _name), _name.strip("_")
    setattr(Ref, f"__{_plain}__", _forward(_function))
    setattr(Ref, f"__r{_plain}__", _reflected(_function))
    setattr(Ref, f"__i{_plain}__", _in_place(_function))
for _name, _function in _FORWARDED.items():
    setattr(Ref, _name, _forward(_function))


def ref(value: Any) -> Ref:
    """A mutable array that starts with a value.

    >>> import bevel as bv
    >>> count = bv.ref(0)
    >>> count += 1
    >>> int(count)
    1

    Raises:
        TypeError: the value is no array (a dict, a module, ...).
    """
    return Ref(value)
