"""What layers show of their insides: `sow` and `perturb`, and `capture`, which collects it.

Inside `nn.capture(model, nn.Intermediate)(x)`, a value that a layer sows is kept by the call and
returned with its result, and the model is not touched: so it works under every transform.
"""

from __future__ import annotations

import copy
import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import bevel.numpy as bnp
from bevel.core import tree
from bevel.core.source import user_source, where
from bevel.nn.states import State
from bevel.nn.structure import Path, Structure, is_module
from bevel.nn.variable import Variable

NOTHING: Mapping[Any, Any] = MappingProxyType({})


class _Active(threading.local):
    capture: Capturing | None = None


_active = _Active()


def capturing(module: Any) -> Capturing | None:
    """The innermost capture under way that knows the module."""
    found = _active.capture
    while found is not None and id(module) not in found.paths:
        found = found.outer
    return found


class Capturing:
    """One call under `capture`: what it has collected, by class of variable and path."""

    def __init__(self, module: Any, types: tuple[type, ...], init: Mapping[Any, Any]):
        self.paths: dict[int, Path] = {id(m): p for p, m in Structure(module).modules}
        self.module = module
        self.types = types
        self.given = State(init).flat_state()
        self.kept: dict[type, dict[Path, Any]] = {t: {} for t in types}
        self.outer = _active.capture

    def __enter__(self) -> Capturing:
        _active.capture = self
        return self

    def __exit__(self, *exc: Any) -> None:
        _active.capture = self.outer

    def sow(self, module: Any, kind: type, name: str, value: Any, reduce_fn: Any, init_fn: Any):
        """Keep a value; whether its class is asked for."""
        if kind not in self.kept:
            return False
        kept, path = self.kept[kind], (*self.paths[id(module)], name)
        kept[path] = reduce_fn(kept[path] if path in kept else init_fn(), value)
        return True

    def perturb(self, module: Any, kind: type, name: str, value: Any) -> Any:
        """The value plus the perturbation at its place."""
        path = (*self.paths[id(module)], name)
        if path in self.given:
            return value + self.given[path]
        if kind in self.kept:
            self.kept[kind].setdefault(path, bnp.zeros_like(value))
        return value

    def within(self, given: Mapping[Path, Any] = NOTHING) -> Capturing:
        """A capture of the same modules, for what runs inside another trace."""
        inner = copy.copy(self)
        inner.given = {**self.given, **given}
        inner.kept = {t: {} for t in self.types}
        inner.outer = _active.capture
        return inner

    def collected(self) -> tuple[list[tuple[type, Path]], list[Any]]:
        """Classes and paths of what was sown, and the values."""
        pairs = [((t, p), v) for t, kept in self.kept.items() for p, v in kept.items()]
        return [place for place, _ in pairs], [v for _, v in pairs]

    def deliver(self, places: list[tuple[type, Path]], values: list[Any]) -> None:
        """Keep what a capture within has collected."""
        for (kind, path), value in zip(places, values, strict=True):
            old = self.kept[kind].get(path)
            joined = isinstance(old, tuple) and isinstance(value, tuple)
            self.kept[kind][path] = (*old, *value) if joined else value

    def given_inside(self, modules: Sequence[Any]) -> dict[Path, Any]:
        """The perturbations that belong to modules or what is in them."""
        prefixes = [self.paths[id(m)] for m in modules if id(m) in self.paths]
        return {p: v for p, v in self.given.items() if any(p[: len(q)] == q for q in prefixes)}

    def states(self) -> tuple[State, ...]:
        """One state for each class."""
        return tuple(State.from_flat_path(self.kept[t]) for t in self.types)


def current() -> Capturing | None:
    """The capture under way."""
    return _active.capture


def through(transform: Callable[..., Any], f: Callable[..., Any]) -> Callable[..., Any]:
    """`transform(f)`, whose results are those of a trace of its own, with what is sown inside."""

    def run(*args: Any) -> Any:
        outer, places = current(), []
        if outer is None:
            return transform(f)(*args)

        def inner(*args: Any) -> Any:
            with outer.within() as here:
                out = f(*args)
            places[:], values = here.collected()
            return out, values

        out, values = transform(inner)(*args)
        outer.deliver(places, values)
        return out

    return run


def capture(
    fn: Any, *var_types: type[Variable], init: Mapping[Any, Any] | None = None
) -> Callable[..., Any]:
    """A function that returns `(result, state, ...)`: what layers sowed, one state for each class.

    A state has the values by path, as tuples in the order they were sown. Without classes, the
    function returns the result alone; without a function (`nn.capture(nn.Intermediate)`), it is
    a decorator.

    Args:
        fn: a module, a method of one, or a function whose first argument is one.
        var_types: classes of variables, such as `nn.Intermediate` or `nn.Perturbation`.
        init: values for `Module.perturb`, by path: what a capture of `nn.Perturbation` gave.

    Raises:
        TypeError: there is no module to watch.

    >>> import bevel as bv
    >>> from bevel import nn
    >>> class Square(nn.Module):
    ...     def __call__(self, x):
    ...         self.sow(nn.Intermediate, "before", x)
    ...         return self.perturb("inside", x) ** 2
    >>> model = Square()
    >>> nn.capture(model, nn.Intermediate)(3.0)
    (9.0, State({'before': (3.0,)}))
    >>> _, zeros = nn.capture(model, nn.Perturbation)(3.0)
    >>> float(bv.grad(lambda p: nn.capture(model, init=p)(3.0))(zeros).inside)
    6.0
    """
    if isinstance(fn, type) and issubclass(fn, Variable):
        return lambda f: capture(f, fn, *var_types, init=init)
    owner = fn if is_module(fn) else getattr(fn, "__self__", None)
    owner = owner if is_module(owner) else None

    @functools.wraps(fn, updated=())
    def captured(*args: Any, **kwargs: Any) -> Any:
        module = owner if owner is not None else next(iter(args), None)
        if not is_module(module):
            raise TypeError(
                f"capture: there is no module to watch, at {where(user_source())}.\n"
                "Why: what layers sow is known by its path in a module.\n"
                "Write instead: nn.capture(model, nn.Intermediate)(x), or "
                "nn.capture(lambda model, x: ..., nn.Intermediate)(model, x)."
            )
        with Capturing(module, var_types, init or {}) as here:
            result = fn(*args, **kwargs)
        return (result, *here.states()) if var_types else result

    return captured


def append(sown: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    """How values that are sown under one name are kept by default: as a tuple."""
    return (*sown, value)


def keep_in_module(
    module: Any, kind: type, name: str, value: Any, reduce_fn: Any, init_fn: Any
) -> None:
    """Sow without a capture: the values stay in variables of the module, until `nn.pop`."""
    old = vars(module).get(name)
    if old is None:
        contents = init_fn()
    elif isinstance(old, list | tuple):
        contents = tuple(v.value for v in old)
    elif type(old) is kind:
        contents = old.value
    else:
        raise ValueError(
            f"sow: {type(module).__name__}.{name} is a {type(old).__name__}, and a "
            f"{kind.__name__} is to be kept there.\nWrite instead: another name."
        )
    contents = reduce_fn(contents, value)
    if isinstance(contents, tuple):
        kept = list(old or ()) if isinstance(old, list | tuple) else []
        for variable, x in zip(kept, contents, strict=False):
            variable.value = x
        setattr(module, name, kept + [kind(x) for x in contents[len(kept) :]])
    elif old is None:
        setattr(module, name, kind(contents))
    else:
        old.value = contents


def perturbation_of(module: Any, kind: type, name: str, value: Any) -> Any:
    """The variable of zeros that `perturb` adds without a capture."""
    if name not in vars(module):
        setattr(module, name, kind(tree.map(bnp.zeros_like, value)))
    return getattr(module, name)
