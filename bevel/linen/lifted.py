"""`remat`, `vmap` and `scan` of module classes: a transform that also sees variables and keys.

Each gives a subclass whose method runs as a pure function of the module's variables, its random
keys and the arguments, under the transform of `bevel`; what the function made or changed is
written back.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import bevel.numpy as bnp
from bevel import lax, random
from bevel.api.remat import remat as _remat
from bevel.api.vmap import vmap as _vmap
from bevel.core import tree
from bevel.core.handle import Handle
from bevel.linen.module import Module, map_modules
from bevel.linen.scope import Run

broadcast = None
"""In `in_axes` of `scan`: the argument is the same in every step."""

Axes = Mapping[str, int | None]
Variables = dict[str, Any]


class _Inside:
    """A method of a bound module as a pure function: of variables, keys and arguments, to its
    result and the variables then.
    """

    def __init__(self, module: Module, cls: type[Module], method: str):
        self.module = module
        self.cls = cls
        self.method = method
        self.run = module._live_run(method)
        self.counts = dict(self.run.counts)
        self.variables = module.variables

    def __call__(
        self, variables: Variables, rngs: Variables, args: Any, kwargs: Any
    ) -> tuple[Any, Variables]:
        run, path = self.run, self.module._path
        nested = variables
        for name in reversed(path):
            nested = {col: {name: members} for col, members in nested.items()}
        inner = Run(nested, rngs, run.mutable, initializing=run.initializing, capture=run.capture)
        inner.counts = dict(self.counts)
        bound = _orphan(self.module, self.cls, self.module.name)
        bound._bind(inner, path)
        result = getattr(self.cls, self.method)(bound, *args, **kwargs)
        run.counts.update(inner.counts)
        return result, {col: dict(inner.members(col, path)) for col in inner.mutated()}

    def publish(self, changed: Variables) -> None:
        """Write what the function made or changed."""
        for col, members in changed.items():
            for name, value in members.items():
                self.module.put_variable(col, name, value)


def _orphan(module: Module, cls: type[Module], name: str | None = None) -> Any:
    """A module like a bound one that is bound nowhere yet."""

    def one(inner: Module, _: str) -> Module:
        return _orphan(inner, type(inner)) if inner.parent is module else inner

    fields = {k: map_modules(one, v) for k, v in module._fields().items()}
    return cls(**fields, parent=None, name=name)


def _lifted(prefix: str, target: Any, methods: Any, transform: Callable[..., Any]) -> Any:
    """The class whose methods are `transform(inside, args, kwargs)`."""
    if not (isinstance(target, type) and issubclass(target, Module)):
        raise TypeError(
            f"linen.{prefix.lower()}: takes a class of modules, got {type(target).__name__}.\n"
            f"Write instead: linen.{prefix.lower()}(Block, ...)(features=8)(x), with a class."
        )
    names = [methods] if isinstance(methods, str) else list(methods or ["__call__"])

    def lift(name: str) -> Callable[..., Any]:
        @functools.wraps(getattr(target, name))
        def method(self: Module, *args: Any, **kwargs: Any) -> Any:
            inside = _Inside(self, target, name)
            result, changed = transform(inside, args, kwargs)
            inside.publish(changed)
            return result

        method.nowrap = True  # type: ignore[attr-defined]
        return method

    return type(prefix + target.__name__, (target,), {name: lift(name) for name in names})


def _is_array(x: Any) -> bool:
    return isinstance(x, Handle | np.ndarray)


def remat(
    target: Any,
    *,
    policy: Callable[..., bool] | None = None,
    prevent_cse: bool = True,
    static_argnums: Any = (),
    methods: Sequence[str] | str | None = None,
) -> Any:
    """A class of modules whose inner values are computed again in the backward pass: `bv.remat`.

    Arguments that are no arrays (flags, None) are static.

    Args:
        target: class.
        policy: which values are kept, as for `bv.remat`.
        prevent_cse: as for `bv.remat`.
        static_argnums: for code that says it; it changes nothing.
        methods: which methods (default: `__call__`).

    >>> import bevel.numpy as bnp
    >>> from bevel import linen, random
    >>> layer = linen.remat(linen.Dense)(2)
    >>> layer.apply(layer.init(random.key(0), bnp.ones(3)), bnp.ones(3)).shape
    (2,)
    """

    def transform(inside: _Inside, args: Any, kwargs: Any) -> Any:
        leaves, treedef = tree.flatten((args, kwargs))

        def pure(variables: Variables, rngs: Variables, arrays: list[Any]) -> Any:
            given = iter(arrays)
            whole = [next(given) if _is_array(x) else x for x in leaves]
            return inside(variables, rngs, *tree.unflatten(treedef, whole))

        again = _remat(pure, policy=policy, prevent_cse=prevent_cse)
        return again(inside.variables, inside.run.rngs, [x for x in leaves if _is_array(x)])

    return _lifted("Checkpoint", target, methods, transform)


def _axes_of(axes: Any, args: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(axes) if isinstance(axes, tuple | list) else (axes,) * len(args)


def _size(what: str, args: Sequence[Any], axes: Sequence[Any], given: int | None) -> int:
    if given is not None:
        return given
    for arg, axis in zip(args, axes, strict=True):
        for leaf in tree.leaves(arg) if isinstance(axis, int) else ():
            return np.shape(leaf)[axis]
    raise ValueError(f"linen.{what}: no argument is mapped, so say how many there are")


def _split(rngs: Variables, wanted: Mapping[str, bool], n: int) -> tuple[Variables, Variables]:
    """The streams of which each of `n` gets a key of its own, and those that all share."""
    each = {s: random.split(random.clone(k), n) for s, k in rngs.items() if wanted.get(s)}
    return each, {s: k for s, k in rngs.items() if s in wanted and s not in each}


def vmap(
    target: Any,
    *,
    variable_axes: Axes,
    split_rngs: Mapping[str, bool],
    in_axes: Any = 0,
    out_axes: Any = 0,
    axis_size: int | None = None,
    axis_name: Any = None,
    methods: Sequence[str] | str | None = None,
) -> Any:
    """A class of modules that is mapped over axes of its arguments and variables: `bv.vmap`.

    Args:
        target: class.
        variable_axes: for each collection the axis along which members have variables of their
            own, or None if they share them. Other collections are not there.
        split_rngs: for each random stream, whether members draw differently. Others are not there.
        in_axes: as for `bv.vmap`, of the positional arguments; keywords are passed whole.
        out_axes: likewise.
        axis_size: the number of members, if no argument says it.
        axis_name: likewise.
        methods: which methods (default: `__call__`).

    >>> import bevel.numpy as bnp
    >>> from bevel import linen, random
    >>> ensemble = linen.vmap(
    ...     linen.Dense, variable_axes={"params": 0}, split_rngs={"params": True},
    ...     in_axes=None, axis_size=5,
    ... )
    >>> ensemble(2).init(random.key(0), bnp.ones(3))["params"]["kernel"].shape
    (5, 3, 2)
    """

    def transform(inside: _Inside, args: Any, kwargs: Any) -> Any:
        axes = _axes_of(in_axes, args)
        size = _size("vmap", args, axes, axis_size)
        each, shared = _split(inside.run.rngs, split_rngs, size)

        def one(variables: Variables, keys: Variables, *args: Any) -> Any:
            result, changed = inside(variables, {**shared, **keys}, args, kwargs)
            return result, {col: changed.get(col, {}) for col in variable_axes}

        have = {c: v for c, v in inside.variables.items() if c in variable_axes}
        mapped = _vmap(
            one,
            ({c: variable_axes[c] for c in have}, 0, *axes),
            (out_axes, dict(variable_axes)),
            axis_name=axis_name,
            axis_size=size,
        )
        return mapped(have, each, *args)

    return _lifted("Vmap", target, methods, transform)


def _move(x: Any, source: int, destination: int) -> Any:
    return tree.map(lambda leaf: bnp.moveaxis(leaf, source, destination), x)


def _at(x: Any, i: int) -> Any:
    return tree.map(lambda leaf: leaf[i], x)


def scan(
    target: Any,
    *,
    variable_axes: Axes = {},  # noqa: B006 (never written)
    variable_broadcast: str | Sequence[str] | bool = (),
    split_rngs: Mapping[str, bool] = {},  # noqa: B006
    in_axes: Any = 0,
    out_axes: int = 0,
    length: int | None = None,
    reverse: bool = False,
    unroll: int = 1,
    methods: Sequence[str] | str | None = None,
) -> Any:
    """A class of modules that is applied again and again: `carry, ys = module(carry, *xs)`.

    One loop (`lax.scan`) over steps, which have variables of their own, such as the layers of a
    network, or share them, such as a recurrent cell.

    Args:
        target: class, whose method takes `(carry, *xs)` and returns `(carry, y)`.
        variable_axes: for each collection of which each step has its own variables, the axis of
            the steps.
        variable_broadcast: collections that all steps share; they do not change.
        split_rngs: for each random stream, whether steps draw differently. Others are not there.
        in_axes: axes of `xs` that are looped over: an int for all, or a tuple with one for each,
            `linen.broadcast` for an argument that is the same in every step.
        out_axes: axis of the steps in the results.
        length: number of steps, if no argument says it.
        reverse: from the last to the first.
        unroll: as for `lax.scan`.
        methods: which methods (default: `__call__`).

    >>> import bevel.numpy as bnp
    >>> from bevel import linen, random
    >>> class Block(linen.Module):
    ...     @linen.compact
    ...     def __call__(self, x):
    ...         return x + linen.Dense(x.shape[-1])(x), None
    >>> Blocks = linen.scan(
    ...     Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=4
    ... )
    >>> Blocks().init(random.key(0), bnp.ones(3))["params"]["Dense_0"]["kernel"].shape
    (4, 3, 3)
    """
    shared_by_all = (
        [variable_broadcast] if isinstance(variable_broadcast, str) else (variable_broadcast or ())
    )

    def transform(inside: _Inside, args: Any, kwargs: Any) -> Any:
        carry, *xs = args
        axes = _axes_of(in_axes, xs)
        looped = [i for i, axis in enumerate(axes) if axis is not None]
        size = _size("scan", xs, axes, length)
        each, same = _split(inside.run.rngs, split_rngs, size)
        own = {
            c: _move(v, variable_axes[c], 0)
            for c, v in inside.variables.items()
            if c in variable_axes
        }
        rows = (own, each, [_move(xs[i], axes[i], 0) for i in looped])

        def step(carry: Any, row: Any, shared: Variables) -> Any:
            variables, keys, new = row
            now = list(xs)
            for i, x in zip(looped, new, strict=True):
                now[i] = x
            return inside({**shared, **variables}, {**same, **keys}, (carry, *now), kwargs)

        shared = {c: v for c, v in inside.variables.items() if c in shared_by_all}
        made: Variables = {}
        if inside.run.initializing:
            _, made = step(carry, _at(rows, 0), shared)
            made = {c: v for c, v in made.items() if c in shared_by_all}
            shared = {**shared, **made}
            inside.counts = dict(inside.run.counts)  # flax.linen draws after a first step, too

        def body(carry: Any, row: Any) -> Any:
            (carry, y), changed = step(carry, row, shared)
            return carry, (y, {c: changed.get(c, {}) for c in variable_axes})

        carry, (ys, changed) = lax.scan(
            body, carry, rows, length=size, reverse=reverse, unroll=unroll
        )
        changed = {c: _move(v, 0, variable_axes[c] or 0) for c, v in changed.items()}
        return (carry, _move(ys, 0, out_axes)), {**changed, **made}

    return _lifted("Scan", target, methods, transform)
