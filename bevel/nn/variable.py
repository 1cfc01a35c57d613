"""`Variable` and its kinds: the cells of a module, told apart by class.

The class says what a cell is for: `grad` differentiates in `Param`, `BatchNorm` keeps `BatchStat`,
a random stream keeps `RngKey` and `RngCount`. Filters (`nn.state(model, nn.Param)`) choose by it;
subclass
`Variable` for a kind of your own.
"""

from __future__ import annotations

import types
from typing import Any

from bevel.api.refs import Ref
from bevel.core.handle import Handle
from bevel.nn import epoch


class Variable(Ref):
    """A mutable array in a module.

    `v.value` or `v[...]` reads it, `v.value = x` replaces it, `v[...] = x`, `v[i] = x`, `v += x`
    write into it. Arithmetic and attributes are those of its array. An array that is stored in a
    module directly, not
    in a variable, is a constant of the traced program: put what changes, is trained or is saved
    here.

    Args:
        value: an array or what one is made from; also a hashable Python object (`None` for "not
            yet").
        metadata: anything to remember with it, as keywords: `nn.Param(x, sharding=("data",
            None))`, read as `v.sharding` or `v.get_metadata("sharding")`.

    >>> from bevel import nn
    >>> count = nn.Variable(0, unit="steps")
    >>> count += 2
    >>> count.value * 10, count.unit
    (Array(20, dtype=int32), 'steps')
    """

    __slots__ = ("_metadata",)

    def __init__(self, value: Any, **metadata: Any):
        super().__init__(value)
        self._metadata = metadata

    def get_value(self) -> Any:
        """The contents, as `.value`."""
        return self._read()

    def set_value(self, value: Any) -> None:
        """Replace the contents, as `.value = x`."""
        self.value = value

    def get_metadata(self, name: str | None = None, default: Any = None) -> Any:
        """One entry of the metadata, or a dict of all.

        >>> from bevel import nn
        >>> nn.Param(1.0, axes=("in",)).get_metadata("axes")
        ('in',)
        """
        return dict(self._metadata) if name is None else self._metadata.get(name, default)

    def has_metadata(self, name: str) -> bool:
        """Whether there is such an entry."""
        return name in self._metadata

    def set_metadata(self, *args: Any, **metadata: Any) -> None:
        """Set entries of the metadata; a transform that saw the variable traces again.

        Args:
            args: a name and a value, or a dict that takes the place of all entries.
            metadata: names and values.

        Raises:
            TypeError: other arguments.

        >>> from bevel import nn
        >>> v = nn.Param(1.0, unit="m")
        >>> v.set_metadata("axes", (0,))
        >>> v.get_metadata()
        {'unit': 'm', 'axes': (0,)}
        """
        if len(args) == 1 and isinstance(args[0], dict) and not metadata:
            self._metadata = dict(args[0])
        elif len(args) == 2 and not metadata:
            self._metadata[args[0]] = args[1]
        elif args:
            raise TypeError("set_metadata takes name=value, (name, value), or one dict")
        self._metadata.update(metadata)
        epoch.advance()

    def del_metadata(self, name: str) -> None:
        """Remove an entry of the metadata.

        Raises:
            KeyError: there is none.
        """
        del self._metadata[name]
        epoch.advance()

    def __class_getitem__(cls, item: Any) -> types.GenericAlias:
        """`nn.Param[bv.Array]`, for annotations."""
        return types.GenericAlias(cls, item)

    def replace(self, value: Any, **metadata: Any) -> Variable:
        """Another variable of the same kind and metadata, with this value."""
        other = self.__copy__()
        other._metadata = {**self._metadata, **metadata}
        other.value = value
        return other

    def copy(self) -> Variable:
        """Another variable with the same contents."""
        return self.__copy__()

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and name in self._metadata:
            return self._metadata[name]
        return super().__getattr__(name)

    def _fields(self) -> dict[str, Any]:
        return {**super()._fields(), "_metadata": dict(self._metadata)}

    def __repr__(self) -> str:
        shown = "".join(f", {k}={v!r}" for k, v in self._metadata.items())
        return f"{type(self).__name__}({self._read()!r}{shown})"

    def summary(self) -> str:
        """One line: kind, shape and dtype."""
        content = self._read()
        shown = (
            f"{content.dtype}{list(content.shape)}"
            if isinstance(content, Handle)
            else repr(content)
        )
        return f"{type(self).__name__}({shown})"


class Param(Variable):
    """A parameter: what `bv.grad` of a function of a module differentiates in, and optimizers
    change.

    >>> from bevel import nn
    >>> nn.Param(bnp.ones(2)) * 3
    Array([3., 3.], dtype=float32)
    """

    __slots__ = ()
    differentiable = True


class BatchStat(Variable):
    """A running statistic of a normalization layer."""

    __slots__ = ()


class Cache(Variable):
    """What a layer remembers between calls of a decoding loop."""

    __slots__ = ()


class Intermediate(Variable):
    """A value kept for looking at."""

    __slots__ = ()


class Perturbation(Variable):
    """Zeros that are added to a value, so that its gradient can be asked for (`Module.perturb`)."""

    __slots__ = ()


class RngState(Variable):
    """What a random stream keeps."""

    __slots__ = ()


class RngKey(RngState):
    """The key of a random stream."""

    __slots__ = ()


class RngCount(RngState):
    """How many keys a random stream has given."""

    __slots__ = ()


class OptState(Variable):
    """What an optimizer keeps."""

    __slots__ = ()


_types: dict[str, type[Variable]] = {}


def register_variable_name(
    name: str, typ: type[Variable] | None = None, *, overwrite: bool = False
) -> Any:
    """Give a class of variables a name; without a class, a decorator.

    Raises:
        ValueError: the name is taken.

    >>> from bevel import nn
    >>> @nn.register_variable_name("slow_weights")
    ... class Slow(nn.Variable):
    ...     pass
    >>> nn.variable_type_from_name("slow_weights") is Slow
    True
    """
    if typ is None:
        return lambda t: register_variable_name(name, t, overwrite=overwrite)
    if name in _types and not overwrite and _types[name] is not typ:
        raise ValueError(f"the name {name!r} is that of {_types[name]}; or say overwrite=True")
    _types[name] = typ
    return typ


def variable_type_from_name(
    name: str, /, *, base: type[Variable] = Variable, allow_register: bool = False
) -> type[Variable]:
    """The class with a name, such as "params"; with `allow_register`, a new one if there is none.

    Raises:
        ValueError: there is none.

    >>> from bevel import nn
    >>> nn.variable_type_from_name("params")
    <class 'bevel.nn.variable.Param'>
    """
    if name not in _types:
        if not allow_register:
            raise ValueError(
                f"no class of variables has the name {name!r}; there are {sorted(_types)}.\n"
                "Write instead: nn.register_variable_name(name, cls)."
            )
        return register_variable_name(name, type(name, (base,), {"__slots__": ()}))
    return _types[name]


def variable_name_from_type(typ: type[Variable], /, *, allow_register: bool = False) -> str:
    """The name of a class; with `allow_register`, a class without one gets its own name in small
    letters.

    Raises:
        ValueError: it has none.

    >>> from bevel import nn
    >>> nn.variable_name_from_type(nn.BatchStat)
    'batch_stats'
    """
    for name, known in _types.items():
        if known is typ:
            return name
    if not allow_register:
        raise ValueError(
            f"{typ} has no name; write nn.register_variable_name(name, {typ.__name__})"
        )
    register_variable_name(typ.__name__.lower(), typ)
    return typ.__name__.lower()


for _name, _type in {
    "params": Param,
    "batch_stats": BatchStat,
    "cache": Cache,
    "intermediates": Intermediate,
    "perturbations": Perturbation,
}.items():
    register_variable_name(_name, _type)
