"""`Module`: a dataclass whose methods make submodules, parameters and variables where they are
used.

`init` and `apply` bind a copy of the module to a `Run`; submodules that a bound module's `setup` or
compact method makes are bound at a path below it. Nothing is kept in the module itself.
"""

from __future__ import annotations

import dataclasses
import functools
import threading
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import bevel.numpy as bnp
from bevel.core import tree
from bevel.core.source import user_source, where
from bevel.linen.scope import Filter, Path, Run
from bevel.nn.captures import append
from bevel.nn.variable import variable_name_from_type

_INHERIT = object()
_RESERVED = ("parent", "name")


class _Context(threading.local):
    def __init__(self) -> None:
        self.stack: list[Any] = [None]


_context = _Context()


def compact(method: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: the method makes submodules, parameters and variables where it uses them.

    >>> import bevel.numpy as bnp
    >>> from bevel import linen, random
    >>> class Twice(linen.Module):
    ...     @linen.compact
    ...     def __call__(self, x):
    ...         x = linen.Dense(3)(x)
    ...         return linen.Dense(2)(x)
    >>> sorted(Twice().init(random.key(0), bnp.ones(4))["params"])
    ['Dense_0', 'Dense_1']
    """
    method.compact = True  # type: ignore[attr-defined]
    return method


def nowrap(method: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: the method is plain Python: it needs no variables and may be called unbound."""
    method.nowrap = True  # type: ignore[attr-defined]
    return method


def merge_param(name: str, a: Any, b: Any) -> Any:
    """The one of two that is not None: a setting given to the constructor or to the call.

    Raises:
        ValueError: both are given, or none.

    >>> from bevel import linen
    >>> linen.merge_param("deterministic", None, True)
    True
    """
    if (a is None) == (b is None):
        raise ValueError(
            f"linen: `{name}` must be given either to the constructor or to the call, and it was "
            f"given to {'neither' if a is None else 'both'}, at {where(user_source())}."
        )
    return b if a is None else a


class Variable:
    """A variable of a module: read and write its `value`."""

    __slots__ = ("_module", "collection", "name")

    def __init__(self, module: Module, collection: str, name: str):
        self._module = module
        self.collection = collection
        self.name = name

    @property
    def value(self) -> Any:
        """The contents; writing needs a mutable collection."""
        return self._module.get_variable(self.collection, self.name)

    @value.setter
    def value(self, value: Any) -> None:
        self._module.put_variable(self.collection, self.name, value)


def _bound(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method as users call it: `setup` has run, and what it makes belongs to its module."""
    makes = hasattr(method, "compact")

    @functools.wraps(method)
    def call(self: Module, *args: Any, **kwargs: Any) -> Any:
        self._set_up()
        if makes and self._run is None:
            raise RuntimeError(
                f"linen: {type(self).__name__} is called, and it has no variables, at "
                f"{where(user_source())}.\n"
                "Why: a module describes a computation; its parameters are a dict beside it.\n"
                "Write instead: variables = model.init(key, x), then model.apply(variables, x)."
            )
        _context.stack.append(self)
        vars(self)["_making"] += makes
        try:
            result = method(self, *args, **kwargs)
            run = self._run
            if run is not None and run.capture is not None and run.capture(self, method.__name__):
                self.sow("intermediates", method.__name__, result)
            return result
        finally:
            _context.stack.pop()
            vars(self)["_making"] -= makes
            if makes and not self._making:
                self._cursor.clear()
                self._run.release(self._path)  # type: ignore[union-attr]

    return call


def map_modules(fn: Callable[[Module, str], Any], x: Any, suffix: str = "") -> Any:
    """The lists, tuples and dicts of `x` with `fn(module, suffix)` in place of modules."""
    if isinstance(x, Module):
        return fn(x, suffix)
    if isinstance(x, Mapping):
        return type(x)({k: map_modules(fn, v, f"{suffix}_{k}") for k, v in x.items()})  # type: ignore[call-arg]
    if type(x) in (list, tuple):
        return type(x)(map_modules(fn, v, f"{suffix}_{i}") for i, v in enumerate(x))
    return x


@dataclasses.dataclass(repr=False, unsafe_hash=True)
class Module:
    """Base of modules in the style of flax.linen; a subclass is a dataclass.

    Its fields configure it. Submodules are made in `setup`, as attributes, or in one method with
    `@compact`; those without a name get that of their class and a number. A module given in a field
    is a submodule under the field's name.

    Args:
        name: its name in its parent, keyword only.
        parent: the module it belongs to; by default the one whose method makes it. None for none.

    >>> import bevel.numpy as bnp
    >>> from bevel import linen, random
    >>> class MLP(linen.Module):
    ...     features: int
    ...     @linen.compact
    ...     def __call__(self, x):
    ...         x = linen.relu(linen.Dense(self.features)(x))
    ...         return linen.Dense(1)(x)
    >>> model = MLP(features=8)
    >>> variables = model.init(random.key(0), bnp.ones((2, 3)))
    >>> variables["params"]["Dense_0"]["kernel"].shape
    (3, 8)
    >>> model.apply(variables, bnp.ones((5, 3))).shape
    (5, 1)
    """

    parent: Any = dataclasses.field(default=_INHERIT, kw_only=True, repr=False, compare=False)
    name: str | None = dataclasses.field(default=None, kw_only=True, compare=False)

    def __init_subclass__(cls, kw_only: bool = False, **kwargs: Any) -> None:
        """Make the subclass a dataclass, and its methods aware of where they run."""
        super().__init_subclass__(**kwargs)
        fields = vars(cls).get("__annotations__", {})
        for name, method in list(vars(cls).items()):
            special = name in fields or name == "setup" or hasattr(method, "nowrap")
            own = name == "__call__" or not name.startswith("__")
            if isinstance(method, types.FunctionType) and own and not special:
                setattr(cls, name, _bound(method))
        dataclasses.dataclass(repr=False, unsafe_hash=True, kw_only=kw_only)(cls)

    # -- binding ---------------------------------------------------------------------------------

    def __post_init__(self) -> None:
        """Take a place in the parent."""
        plain: dict[str, Any] = dict(
            _run=None, _path=(), _cursor={}, _making=0, _setting_up=False, _is_set_up=False
        )
        vars(self).update(plain)
        if self.parent is _INHERIT:
            vars(self)["parent"] = _context.stack[-1]
        parent = self.parent
        if isinstance(parent, Module) and not (parent._setting_up and self.name is None):
            if not (parent._setting_up or parent._making):
                raise RuntimeError(
                    f"linen: a {type(self).__name__} is made in a method of "
                    f"{type(parent).__name__} that is not compact, at {where(user_source())}.\n"
                    "Why: it would have a name, and variables, only sometimes.\n"
                    "Write instead: make it in setup() (self.layer = ...), or mark the method "
                    "with @linen.compact."
                )
            if self.name is None:
                kind = type(self).__name__
                number = parent._cursor.setdefault(kind, 0)
                parent._cursor[kind] += 1
                vars(self)["name"] = f"{kind}_{number}"
            self._attach(parent)
        vars(self)["_ready"] = True

    def _attach(self, parent: Module) -> None:
        """Become the submodule of a parent under the name that is set."""
        vars(self)["parent"] = parent
        parent._run.reserve(parent._path, self.name)  # type: ignore[union-attr, arg-type]
        self._bind(parent._run, (*parent._path, self.name))  # type: ignore[arg-type]

    def _bind(self, run: Run | None, path: Path) -> None:
        vars(self).update(_run=run, _path=path)
        for name, value in self._fields().items():
            vars(self)[name] = self._adopt(name, value)

    def _adopt(self, name: str, value: Any) -> Any:
        """A value of an attribute, whose modules that belong nowhere yet become submodules."""

        def one(module: Module, suffix: str) -> Module:
            if module.parent is None:  # from outside: stays as it is, and is shared if it was
                known = self._run.adopted  # type: ignore[union-attr]
                if id(module) not in known:
                    known[id(module)] = (module, module.clone(name=None))
                module = known[id(module)][1]
            if module.name is None:
                vars(module)["name"] = name + suffix
                module._attach(self)
            return module

        return map_modules(one, value)

    def _set_up(self) -> None:
        if self._run is None or self._is_set_up or self._setting_up:
            return
        vars(self)["_setting_up"] = True
        _context.stack.append(self)
        try:
            self.setup()
        finally:
            _context.stack.pop()
            vars(self)["_setting_up"] = False
        vars(self)["_is_set_up"] = True

    def setup(self) -> None:
        """Make submodules and variables as attributes: override it; it runs when they are needed.

        >>> from bevel import linen
        >>> class Pair(linen.Module):
        ...     def setup(self):
        ...         self.layers = [linen.Dense(4), linen.Dense(2)]
        ...     def __call__(self, x):
        ...         return self.layers[1](self.layers[0](x))
        """

    def clone(self, *, parent: Any = None, name: Any = _INHERIT, **updates: Any) -> Any:
        """The same module, unbound, with some fields changed."""
        name = self.name if name is _INHERIT else name
        return type(self)(**{**self._fields(), **updates}, parent=parent, name=name)

    def _fields(self) -> dict[str, Any]:
        """The fields and what they hold, without `name` and `parent`."""
        return {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)
            if f.init and f.name not in _RESERVED
        }

    # -- attributes ------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        if "_ready" not in vars(self):
            vars(self)[name] = value
            return
        if not self._setting_up or name in self.__dataclass_fields__:
            raise AttributeError(
                f"linen: {type(self).__name__}.{name} is set "
                f"{'though it is a field' if self._setting_up else 'outside of setup()'}, at "
                f"{where(user_source())}.\n"
                "Why: a module describes a computation and does not change; what changes is a "
                "variable.\n"
                "Write instead: self.variable(collection, name, init_fn) for state, "
                "module.clone(field=...) for another field."
            )
        vars(self)[name] = self._adopt(name, value)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_ready" not in vars(self):
            raise AttributeError(name)
        self._set_up()
        if name in vars(self):
            return vars(self)[name]
        unbound = "; what setup() makes is there in init and apply only" * (self._run is None)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}{unbound}")

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{f.name}={getattr(self, f.name)!r}"
            for f in dataclasses.fields(self)
            if f.repr and (f.name != "name" or self.name is not None)
        )
        return f"{type(self).__name__}({shown})"

    @property
    def path(self) -> Path:
        """The names from the outermost module to this one."""
        return self._path

    # -- variables and keys ----------------------------------------------------------------------

    def _live_run(self, what: str) -> Run:
        """The run this module is bound to.

        Raises:
            RuntimeError: there is none; the message says that `what` was asked for.
        """
        if self._run is None:
            raise RuntimeError(
                f"linen: {what} of a {type(self).__name__} without variables, at "
                f"{where(user_source())}.\n"
                "Write instead: in a method that init or apply calls, or in model.bind(variables)."
            )
        return self._run

    def _reserve(self, name: str, collection: str) -> Run:
        run = self._live_run(name)
        if not (self._making or self._setting_up):
            raise RuntimeError(
                f"linen: the variable {name!r} is made in a method of {type(self).__name__} that "
                f"is not compact, at {where(user_source())}.\n"
                "Write instead: make it in setup(), or mark the method with @linen.compact."
            )
        run.reserve(self._path, name, collection)
        return run

    def param(self, name: str, init_fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The parameter of that name; `init` makes it by `init_fn(key, *args)`.

        Raises:
            ValueError: `apply` was given no such parameter, or one of another shape than the
                first of `args`; or the name is taken.

        >>> import bevel.numpy as bnp
        >>> from bevel import linen, random
        >>> class Scale(linen.Module):
        ...     @linen.compact
        ...     def __call__(self, x):
        ...         return x * self.param("scale", linen.initializers.ones, (x.shape[-1],))
        >>> Scale().init(random.key(0), bnp.ones(2))
        {'params': {'scale': Array([1., 1.], dtype=float32)}}
        """
        run = self._reserve(name, "params")
        found = run.members("params", self._path)
        if name not in found:
            if not run.mutable("params"):
                raise run.missing("params", self._path, name)
            run.put("params", self._path, name, init_fn(self.make_rng(), *args, **kwargs))
            found = run.members("params", self._path)
        value = found[name]
        shape = args[0] if args and isinstance(args[0], tuple | list) else None
        if shape is not None and hasattr(value, "shape") and tuple(value.shape) != tuple(shape):
            raise ValueError(
                f"linen: params/{'/'.join((*self._path, name))} has the shape "
                f"{tuple(value.shape)}, and {type(self).__name__} asks for {tuple(shape)}, at "
                f"{where(user_source())}.\n"
                "Why: the parameters are those of a module or of an input of other sizes."
            )
        return value

    def variable(
        self,
        col: str,
        name: str,
        init_fn: Callable[..., Any] | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Variable:
        """The variable of that name in a collection, made by `init_fn(*args)` if it is not there.

        Raises:
            ValueError: it is not there and the collection is not mutable; or the name is taken.
        """
        run = self._reserve(name, col)
        if name not in run.members(col, self._path):
            if init_fn is None or not run.mutable(col):
                raise run.missing(col, self._path, name)
            run.put(col, self._path, name, init_fn(*args, **kwargs))
        return Variable(self, col, name)

    def has_variable(self, col: str, name: str) -> bool:
        """Whether this module has such a variable."""
        return name in self._live_run("has_variable").members(col, self._path)

    def get_variable(self, col: str, name: str, default: Any = None) -> Any:
        """The contents of a variable of this module."""
        return self._live_run("get_variable").members(col, self._path).get(name, default)

    def put_variable(self, col: str, name: str, value: Any) -> None:
        """Write a variable of this module.

        Raises:
            ValueError: the collection is not mutable.
        """
        self._live_run("put_variable").put(col, self._path, name, value)

    @property
    def variables(self) -> dict[str, Any]:
        """The part of each collection that is this module's."""
        run = self._live_run("variables")
        found = {col: run.members(col, self._path) for col in run.variables}
        return {col: dict(members) for col, members in found.items() if members}

    def is_mutable_collection(self, col: str) -> bool:
        """Whether variables of a collection may be written."""
        return self._live_run("is_mutable_collection").mutable(col)

    def is_initializing(self) -> bool:
        """Whether this is a call of `init`."""
        return self._live_run("is_initializing").initializing

    def has_rng(self, name: str) -> bool:
        """Whether there is a random stream of that name."""
        return self._live_run("has_rng").has_rng(name)

    def make_rng(self, name: str = "params") -> Any:
        """The next key of a random stream; of "params" if the stream was not given.

        Raises:
            ValueError: there is neither.
        """
        return self._live_run("make_rng").key(name, self._path)

    def sow(
        self,
        col: Any,
        name: str,
        value: Any,
        reduce_fn: Callable[[Any, Any], Any] = append,
        init_fn: Callable[[], Any] = tuple,
    ) -> bool:
        """Keep a value in a collection, if that is mutable; whether it was kept.

        Args:
            col: the collection, or a class of variables of `bevel.nn` that stands for one.
            name: the name of the variable.
            value: array.
            reduce_fn: what makes the new content of the old and the value (default: a tuple of
                all).
            init_fn: gives the content before the first value.

        >>> from bevel import linen
        >>> class Probe(linen.Module):
        ...     @linen.compact
        ...     def __call__(self, x):
        ...         self.sow("intermediates", "seen", x)
        ...         return 2 * x
        >>> Probe().apply({}, 3.0, mutable="intermediates")
        (6.0, {'intermediates': {'seen': (3.0,)}})
        """
        col = col if isinstance(col, str) else variable_name_from_type(col)
        run = self._live_run("sow")
        if not run.mutable(col):
            return False
        found = run.members(col, self._path)
        if name not in found:
            run.reserve(self._path, name, col)
        kept = found[name] if name in found else init_fn()
        run.put(col, self._path, name, reduce_fn(kept, value))
        return True

    def perturb(self, name: str, value: Any, collection: str = "perturbations") -> Any:
        """The value plus zeros of its shape, a variable by which its gradient can be asked for.

        Without that collection in `apply`, the value.
        """
        run = self._live_run("perturb")
        if run.mutable(collection) and not self.has_variable(collection, name):
            run.reserve(self._path, name, collection)
            run.put(collection, self._path, name, tree.map(bnp.zeros_like, value))
        if collection not in run.variables:
            return value
        found = run.members(collection, self._path)
        if name not in found:
            raise run.missing(collection, self._path, name)
        return tree.map(lambda x, zeros: x + zeros, value, found[name])

    # -- running ---------------------------------------------------------------------------------

    def bind(self, variables: Any, *args: Any, rngs: Any = None, mutable: Filter = False) -> Any:
        """The module with these variables, whose methods and submodules can be used at once.

        >>> import bevel.numpy as bnp
        >>> from bevel import linen, random
        >>> layer = linen.Dense(2)
        >>> layer.bind(layer.init(random.key(0), bnp.ones(3)))(bnp.ones((5, 3))).shape
        (5, 2)
        """
        return self._bound_to(Run(variables, rngs, mutable))

    def _bound_to(self, run: Run) -> Any:
        bound = self.clone()
        bound._bind(run, ())
        return bound

    def apply(
        self,
        variables: Any,
        *args: Any,
        rngs: Any = None,
        method: Callable[..., Any] | str | None = None,
        mutable: Filter = False,
        capture_intermediates: bool | Callable[[Module, str], bool] = False,
        **kwargs: Any,
    ) -> Any:
        """What the module computes with these variables.

        Args:
            variables: dict of collections: `{"params": ..., "batch_stats": ...}`.
            args: of the method.
            rngs: keys of random streams by name; a key alone is that of "params".
            method: a method or its name (default: `__call__`), or a function of the module.
            mutable: collections that may change: a name, several, True, or a predicate of the
                name.
            capture_intermediates: sow what each `__call__` returns into "intermediates", or what
                the methods return that `f(module, name)` takes.
            kwargs: of the method.

        Returns:
            The result; with `mutable` (unless False), a pair of it and the mutable collections.
        """
        capture = capture_intermediates
        if capture is True:
            capture = lambda module, name: name == "__call__"  # noqa: E731
        run = Run(variables, rngs, mutable, capture=capture or None)
        result = self._call(run, method, args, kwargs)
        return result if mutable is False else (result, run.mutated())

    def init_with_output(
        self,
        rngs: Any,
        *args: Any,
        method: Callable[..., Any] | str | None = None,
        mutable: Filter = lambda name: name != "intermediates",
        **kwargs: Any,
    ) -> tuple[Any, dict[str, Any]]:
        """The result of a first call, and the variables that it made."""
        run = Run({}, rngs, mutable, initializing=True)
        return self._call(run, method, args, kwargs), run.mutated()

    def init(self, rngs: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The variables that a first call makes: `{"params": {...}, ...}`.

        Args:
            rngs: a key for "params", or a dict of keys by stream.
            args: of the method: inputs, of which usually the shapes matter alone.
            kwargs: of the method, and `method` and `mutable` as for `apply`.

        Returns:
            Nested dicts. The same key gives the parameters of flax.linen.
        """
        return self.init_with_output(rngs, *args, **kwargs)[1]

    def _call(self, run: Run, method: Any, args: Iterable[Any], kwargs: Mapping[str, Any]) -> Any:
        bound = self._bound_to(run)
        if method is None or isinstance(method, str):
            return getattr(bound, method or "__call__")(*args, **kwargs)
        return getattr(method, "__func__", method)(bound, *args, **kwargs)
