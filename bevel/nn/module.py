"""`Module`: a plain Python object that holds cells.

There is nothing to declare: assign variables, other modules, lists and dicts of them, and plain
values in `__init__`. Transforms take modules as arguments, or find them closed over, and see the
cells inside.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bevel.core.ref import Cell
from bevel.nn import captures, epoch
from bevel.nn.filters import to_predicate
from bevel.nn.shown import show, show_html
from bevel.nn.states import State
from bevel.nn.structure import Path, Structure, path_text, structure_of
from bevel.nn.variable import Perturbation, Variable
from bevel.numpy.convert import is_array_like

_MISSING = object()
_SIMPLE = (bool, int, float, str, type(None))


class Module:
    """Base of everything with parameters or state.

    Subclasses assign attributes in `__init__` and compute in `__call__` (or any method). A module
    shared
    by two others is one module: its parameters count once.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> from bevel import nn
    >>> class Scale(nn.Module):
    ...     def __init__(self, n):
    ...         self.weight = nn.Param(bnp.ones(n))
    ...     def __call__(self, x):
    ...         return x * self.weight
    >>> model = Scale(2)
    >>> bv.grad(lambda m: m(bnp.array([1.0, 2.0])).sum())(model)
    State({'weight': Array([1., 2.], dtype=float32)})
    >>> model
    Scale(weight=Param(float32[2]))
    """

    __slots__ = ("__dict__", "__weakref__", "_bevel_seen", "_bevel_structure")

    def __new__(cls, *args: Any, **kwargs: Any) -> Module:
        """An object whose structure nobody has seen yet."""
        self = super().__new__(cls)
        object.__setattr__(self, "_bevel_seen", False)
        object.__setattr__(self, "_bevel_structure", None)
        return self

    # -- what transforms ask ---------------------------------------------------------------------

    def __bevel_attributes__(self) -> Mapping[str, Any]:
        return vars(self)

    def __bevel_structure__(self) -> Structure:
        return structure_of(self)

    def __bevel_chosen__(self, wanted: Any) -> list[Cell]:
        found, taken = structure_of(self), to_predicate(wanted)
        return [c for p, c in zip(found.paths, found.cells, strict=True) if taken(p, c)]

    def __bevel_place__(self, cell: Cell) -> str:
        found = structure_of(self)
        path = next(p for p, c in zip(found.paths, found.cells, strict=True) if c is cell)
        text = path_text(path)
        return text if text.startswith("[") else f".{text}"

    def __bevel_state__(self, contents: Mapping[Cell, Any]) -> State:
        found = structure_of(self)
        chosen = {
            p: contents[c] for p, c in zip(found.paths, found.cells, strict=True) if c in contents
        }
        return State.from_flat_path(chosen)

    # -- attributes ------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        attributes = vars(self)
        old = attributes.get(name, _MISSING)
        if isinstance(old, Cell) and not isinstance(value, Cell) and is_array_like(value):
            raise TypeError(
                f"{type(self).__name__}.{name} is a {type(old).__name__}, and an array is assigned "
                f"in its place.\n"
                "Why: the array would be a constant of the model: not trained, not saved.\n"
                f"Write instead: self.{name}.value = x (or self.{name}[...] = x) to change its "
                f"contents; "
                f"`del self.{name}` first to really replace it."
            )
        object.__setattr__(self, name, value)
        if self._bevel_seen and not _same(old, attributes.get(name, _MISSING)):
            epoch.advance()

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        if self._bevel_seen:
            epoch.advance()

    def __getstate__(self) -> dict[str, Any]:
        return dict(vars(self))

    # -- modes -----------------------------------------------------------------------------------

    def set_attributes(
        self, *filters: Any, raise_if_not_found: bool = True, **attributes: Any
    ) -> Module:
        """Set attributes in this module and all inside that have them; returns the module.

        Args:
            filters: which modules: classes, callables `(path, module)`; all by default.
            raise_if_not_found: raise if no module has one of the attributes.
            attributes: names and new values.

        Raises:
            ValueError: no module has such an attribute.

        >>> from bevel import nn
        >>> nn.Dropout(0.5).set_attributes(rate=0.1).rate
        0.1
        """
        predicates = [to_predicate(f) for f in filters or (...,)]
        missing = set(attributes)
        for path, module in Structure(self).modules:
            if not any(p(path, module) for p in predicates):
                continue
            for name, value in attributes.items():
                if name in vars(module) or hasattr(type(module), name):
                    setattr(module, name, value)
                    missing.discard(name)
        if missing and raise_if_not_found:
            raise ValueError(
                f"set_attributes: no module in this {type(self).__name__} has the attribute(s) "
                f"{sorted(missing)}.\n"
                "Write instead: the name of an attribute that exists, or raise_if_not_found=False."
            )
        return self

    def train(self, **attributes: Any) -> Module:
        """Training mode: dropout drops, batch norm uses the batch; returns the module."""
        return self._mode(deterministic=False, use_running_average=False, **attributes)

    def eval(self, **attributes: Any) -> Module:
        """Evaluation mode: no dropout, running averages; returns the module.

        >>> import bevel.numpy as bnp
        >>> from bevel import nn
        >>> nn.Dropout(0.5, rngs=nn.Rngs(0)).eval()(bnp.ones(3))
        Array([1., 1., 1.], dtype=float32)
        """
        return self._mode(deterministic=True, use_running_average=True, **attributes)

    def _mode(self, **attributes: Any) -> Module:
        return self.set_attributes(raise_if_not_found=False, **attributes)

    # -- showing what is inside ------------------------------------------------------------------

    def sow(
        self,
        variable_type: type[Variable],
        name: str,
        value: Any,
        reduce_fn: Callable[[Any, Any], Any] = captures.append,
        init_fn: Callable[[], Any] = tuple,
    ) -> bool:
        """Keep a value for `nn.capture`, or, outside of one, in a variable until `nn.pop`.

        Args:
            variable_type: class of the variable, such as `nn.Intermediate`.
            name: attribute under which it is found.
            value: array.
            reduce_fn: what makes the new content of the old one and the value (default: a tuple
                of all).
            init_fn: gives the content before the first value.

        Returns:
            Whether it was kept: a capture keeps only the classes it was asked for.

        >>> from bevel import nn
        >>> class Probe(nn.Module):
        ...     def __call__(self, x):
        ...         self.sow(nn.Intermediate, "seen", x)
        ...         return 2 * x
        >>> nn.capture(Probe(), nn.Intermediate)(3.0)[1].seen
        (3.0,)
        """
        here = captures.capturing(self)
        if here is not None:
            return here.sow(self, variable_type, name, value, reduce_fn, init_fn)
        captures.keep_in_module(self, variable_type, name, value, reduce_fn, init_fn)
        return True

    def perturb(self, name: str, value: Any, variable_type: type[Variable] = Perturbation) -> Any:
        """The value plus zeros of its shape, by which its gradient can be asked for.

        Under `nn.capture(model, init=perturbations)` the zeros are those given; outside of a
        capture, a variable `name` of the module.

        Args:
            name: attribute under which the zeros are found.
            value: array; use what is returned in its place.
            variable_type: class of the variable.

        >>> import bevel as bv
        >>> from bevel import nn
        >>> class Square(nn.Module):
        ...     def __call__(self, x):
        ...         return self.perturb("inside", 3 * x) ** 2
        >>> model = Square()
        >>> _, zeros = nn.capture(model, nn.Perturbation)(1.0)
        >>> float(bv.grad(lambda p: nn.capture(model, init=p)(1.0))(zeros).inside)
        6.0
        """
        here = captures.capturing(self)
        if here is not None:
            return here.perturb(self, variable_type, name, value)
        return value + captures.perturbation_of(self, variable_type, name, value)

    # -- looking inside --------------------------------------------------------------------------

    def iter_modules(self) -> Iterator[tuple[Path, Module]]:
        """Pairs of path and module: this one, then all inside, each once.

        >>> from bevel import nn
        >>> [path for path, m in nn.Sequential(nn.Dropout(0.1), nn.relu).iter_modules()]
        [(), ('layers', 0)]
        """
        return iter(Structure(self).modules)

    def iter_children(self) -> Iterator[tuple[Any, Module]]:
        """Pairs of attribute name and module, for the attributes that are modules."""
        return ((name, x) for name, x in sorted(vars(self).items()) if isinstance(x, Module))

    def __repr__(self) -> str:
        return show(self)

    def _repr_html_(self) -> str:
        return show_html(self)


def _same(old: Any, new: Any) -> bool:
    return old is new or (
        type(old) is type(new) and isinstance(old, _SIMPLE) and operator.eq(old, new)
    )
