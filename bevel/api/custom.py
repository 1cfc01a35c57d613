"""Functions with derivative rules of the user's own, and rematerialization."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from bevel.api.body import Body, body_with_state
from bevel.api.flat import Output, as_handle, name_of, rewrap
from bevel.control.call import remat as remat_op
from bevel.control.custom import custom_jvp_call, custom_vjp_call
from bevel.core import tree
from bevel.core.aval import aval_of
from bevel.core.dtypes import is_inexact
from bevel.core.graph import evaluate
from bevel.core.handle import Handle, fresh_tag, wrap
from bevel.ops import convert, name as name_op, zeros


def _bind_positional(fun: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> tuple:
    """All arguments by position, defaults filled in (rules get them so)."""
    if not kwargs:
        return args
    try:
        bound = inspect.signature(fun).bind(*args, **kwargs)
    except ValueError:
        raise TypeError(f"{name_of(fun)}: pass arguments by position; its signature is not known") from None
    bound.apply_defaults()
    if bound.kwargs:
        raise TypeError(
            f"{name_of(fun)}: a function with custom derivatives has no keyword-only arguments; pass them by position"
        )
    return bound.args


class _Arguments:
    """Arguments cut into those the rules differentiate and those they get as they are."""

    def __init__(self, what: str, args: tuple, nondiff: Sequence[int]):
        self.nondiff = {n % len(args) for n in nondiff} if args else set()
        self.static = [a for i, a in enumerate(args) if i in self.nondiff]
        dynamic = tuple([a for i, a in enumerate(args) if i not in self.nondiff])
        leaves, self.treedef = tree.flatten(dynamic)
        self.handles = [as_handle(x, f"an argument of {what}") for x in leaves]
        self.tags = [h._tag for h in self.handles]
        self.n = len(args)

    def full(self, handles: Sequence[Any]) -> tuple:
        """The user's arguments with these leaves."""
        dynamic, static = iter(tree.unflatten(self.treedef, handles)), iter(self.static)
        return tuple([next(static) if i in self.nondiff else next(dynamic) for i in range(self.n)])

    def dynamic(self, values: Sequence[Any]) -> tuple:
        return tree.unflatten(self.treedef, rewrap(values, self.tags))


class custom_jvp:
    """A function with its own forward-mode rule, which reverse mode uses too.

    Args:
        fun: over pytrees of arrays.
        nondiff_argnums: arguments that are Python values and come first in the rule.

    The rule is `jvp(*nondiff, primals, tangents) -> (result, tangent of result)`; `defjvps` takes one
    rule per argument, `rule(tangent, result, *args) -> tangent of result`, or None for zero.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> @bv.custom_jvp
    ... def f(x): return bnp.sin(x)
    >>> f.defjvps(lambda t, y, x: 10.0 * t)
    >>> float(bv.grad(f)(0.0))
    10.0
    """

    def __init__(self, fun: Callable[..., Any], nondiff_argnums: Sequence[int] = ()):
        functools.update_wrapper(self, fun)
        self.fun = fun
        self.nondiff_argnums = tuple(nondiff_argnums)
        self.jvp: Callable[..., Any] | None = None

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def defjvp(self, jvp: Callable[..., Any], symbolic_zeros: bool = False) -> Callable[..., Any]:
        """Set the rule; usable as a decorator."""
        self.jvp = jvp
        return jvp

    def defjvps(self, *jvps: Callable[..., Any] | None) -> None:
        """Set one rule per differentiable argument."""

        def jvp(*args: Any) -> Any:
            *static, primals, tangents = args
            out = self(*static, *primals)
            total = None
            for rule, t in zip(jvps, tangents, strict=True):
                if rule is not None:
                    part = rule(t, out, *primals)
                    total = part if total is None else tree.map(lambda a, b: a + b, total, part)
            if total is None:
                total = tree.map(lambda y: wrap(zeros(aval_of(as_handle(y, "a result")._v))), out)
            return out, total

        self.jvp = jvp

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        what = f"custom_jvp function {name_of(self.fun)}"
        if self.jvp is None:
            raise AttributeError(f"{what} has no rule yet; write {name_of(self.fun)}.defjvp(rule) after its definition")
        jvp = self.jvp
        arguments = _Arguments(what, _bind_positional(self.fun, args, kwargs), self.nondiff_argnums)
        body = Body(what, lambda *hs: self.fun(*arguments.full(hs)), arguments.handles)
        captured = [wrap(c) for c in body.consts]

        def rule(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[list[Any], list[Any]]:
            own, ts = primals[len(captured) :], tangents[len(captured) :]
            full = [zeros(aval_of(p)) if t is None else t for p, t in zip(own, ts, strict=True)]
            t_handles = [wrap(t) for t in full]
            result = jvp(*arguments.static, arguments.dynamic(own), tree.unflatten(arguments.treedef, t_handles))
            if not (isinstance(result, tuple) and len(result) == 2):
                raise TypeError(f"{what}: the jvp rule must return (result, tangent), not {type(result).__name__}")
            out, out_t = Output(), Output()
            outs, touts = out.flatten(result[0], what), out_t.flatten(result[1], what)
            return outs, _match(what, "tangent", outs, touts)

        values = custom_jvp_call(*body.consts, *[h._v for h in arguments.handles], graph=body.graph, rule=rule)
        return body.output.unflatten(values)


def _match(what: str, name: str, values: Sequence[Any], found: Sequence[Any]) -> list[Any]:
    """Tangents or cotangents at the types of their values; None for those without derivative."""
    if len(values) != len(found):
        raise TypeError(f"{what}: its rule gave {len(found)} {name}s for {len(values)} values")
    out = []
    for v, t in zip(values, found, strict=True):
        aval, got = aval_of(v), None if t is None else aval_of(t)
        if not is_inexact(aval.dtype) or got is None:
            out.append(None)
        elif got.shape != aval.shape:
            raise TypeError(
                f"{what}: its rule gave a {name} of shape {got.shape} for a value of shape {aval.shape}; they must be equal"
            )
        else:
            out.append(t if got.dtype == aval.dtype else convert(t, dtype=aval.dtype))
    return out


class custom_vjp:
    """A function with its own reverse-mode rule.

    Args:
        fun: over pytrees of arrays.
        nondiff_argnums: arguments that are Python values; `bwd` gets them first.

    `defvjp(fwd, bwd)`: `fwd(*args) -> (result, residuals)`, `bwd(*nondiff, residuals, ct) -> tuple` with
    a cotangent per differentiable argument (None: zero).

    >>> import bevel as bv, bevel.numpy as bnp
    >>> @bv.custom_vjp
    ... def clip_gradient(x): return x
    >>> clip_gradient.defvjp(lambda x: (x, None), lambda _, g: (bnp.clip(g, -1, 1),))
    >>> float(bv.grad(lambda x: 100 * clip_gradient(x))(2.0))
    1.0
    """

    def __init__(self, fun: Callable[..., Any], nondiff_argnums: Sequence[int] = ()):
        functools.update_wrapper(self, fun)
        self.fun = fun
        self.nondiff_argnums = tuple(nondiff_argnums)
        self.fwd: Callable[..., Any] | None = None
        self.bwd: Callable[..., Any] | None = None

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[..., Any]) -> None:
        """Set the rules."""
        self.fwd = fwd
        self.bwd = bwd

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        what = f"custom_vjp function {name_of(self.fun)}"
        if self.fwd is None or self.bwd is None:
            raise AttributeError(f"{what} has no rules yet; write {name_of(self.fun)}.defvjp(fwd, bwd) after its definition")
        arguments = _Arguments(what, _bind_positional(self.fun, args, kwargs), self.nondiff_argnums)
        body = Body(what, lambda *hs: self.fun(*arguments.full(hs)), arguments.handles)
        fwd, bwd = self._flat_rules(what, arguments, len(body.consts))
        values = custom_vjp_call(*body.consts, *[h._v for h in arguments.handles], graph=body.graph, fwd=fwd, bwd=bwd)
        return body.output.unflatten(values)

    def _flat_rules(self, what: str, arguments: _Arguments, n_captured: int):
        user_fwd, user_bwd = self.fwd, self.bwd
        out, kept = Output(), Output()

        def fwd(*values: Any) -> tuple[list[Any], list[Any]]:
            own = rewrap(values[n_captured:], arguments.tags)
            result = user_fwd(*arguments.full(own))
            if not (isinstance(result, tuple) and len(result) == 2):
                raise TypeError(f"{what}: fwd must return (result, residuals), not {type(result).__name__}")
            return out.flatten(result[0], what), kept.flatten(result[1], what)

        def bwd(residuals: Sequence[Any], cts: Sequence[Any]) -> list[Any]:
            found = user_bwd(*arguments.static, kept.unflatten(residuals), out.unflatten(cts))
            if not isinstance(found, tuple | list):
                raise TypeError(
                    f"{what}: bwd must return a tuple with a cotangent per differentiable argument, not "
                    f"{type(found).__name__}; for one argument write `return (ct,)`"
                )
            return [None] * n_captured + _cotangents(what, arguments, tuple(found))

        return fwd, bwd


def _cotangents(what: str, arguments: _Arguments, found: tuple) -> list[Any]:
    """Values of the cotangents that a user's rule gave, a None standing for a whole argument's zeros."""
    subtrees = arguments.treedef.children()
    if len(found) != len(subtrees):
        raise TypeError(f"{what}: bwd gave {len(found)} cotangents for {len(subtrees)} differentiable arguments")
    out: list[Any] = []
    for ct, sub in zip(found, subtrees, strict=True):
        if ct is None:
            out += [None] * sub.num_leaves
            continue
        leaves = tree.leaves(ct, is_leaf=lambda x: x is None)
        if len(leaves) != sub.num_leaves:
            raise TypeError(f"{what}: bwd gave the structure {tree.structure(ct)} for an argument of structure {sub}")
        out += [None if x is None else as_handle(x, f"{what}: a cotangent")._v for x in leaves]
    return _match(what, "cotangent", [h._v for h in arguments.handles], out)


def custom_gradient(fun: Callable[..., Any]) -> Callable[..., Any]:
    """A function that returns `(result, gradient function)`, differentiated by that function.

    >>> import bevel as bv
    >>> f = bv.custom_gradient(lambda x: (x**2, lambda g: (g * 100.0,)))
    >>> float(f(3.0)), float(bv.grad(f)(3.0))
    (9.0, 100.0)
    """

    @functools.wraps(fun)
    def call(*args: Any, **kwargs: Any) -> Any:
        backward: list[Callable[..., Any]] = []
        whole = custom_vjp(lambda *xs: fun(*xs, **kwargs)[0])

        def fwd(*xs: Any) -> Any:
            result, gradient = fun(*xs, **kwargs)
            backward[:] = [gradient]
            return result, None

        def bwd(_: Any, ct: Any) -> tuple:
            found = backward[0](ct)
            return tuple(found) if isinstance(found, tuple | list) else (found,)

        whole.defvjp(fwd, bwd)
        return whole(*args)

    return call


def closure_convert(fun: Callable[..., Any], *example_args: Any) -> tuple[Callable[..., Any], list[Any]]:
    """`(converted, captured)`: the arrays a function closes over become trailing arguments.

    `converted(*args, *captured)` equals `fun(*args)`, for use where a rule must not close over traced values.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> w = bnp.arange(100.0)
    >>> f, captured = bv.closure_convert(lambda x: (x * w).sum(), 1.0)
    >>> len(captured), float(f(2.0, *captured))
    (1, 9900.0)
    """
    from_tree, treedef = tree.flatten(example_args)
    handles = [as_handle(x, "closure_convert: an example argument") for x in from_tree]
    body = Body("closure_convert", lambda *hs: fun(*tree.unflatten(treedef, hs)), handles)
    from_graph = body.graph

    def converted(*args: Any) -> Any:
        n = len(args) - len(body.consts)
        leaves = [as_handle(x, "an argument") for x in tree.leaves(tuple(args[:n]))]
        values = evaluate(from_graph, [*[as_handle(c, "a captured array")._v for c in args[n:]], *[h._v for h in leaves]])
        return body.output.unflatten(values)

    return converted, [wrap(c) for c in body.consts]


# -- remat -----------------------------------------------------------------------------------------


class checkpoint_policies:
    """Which results `remat` keeps for the backward pass: `policy(op, *avals, **params) -> bool`."""

    @staticmethod
    def everything_saveable(op: Any, *avals: Any, **params: Any) -> bool:
        """Keep all: as without checkpoint."""
        return True

    @staticmethod
    def nothing_saveable(op: Any, *avals: Any, **params: Any) -> bool:
        """Keep nothing: recompute all (the default)."""
        return False

    @staticmethod
    def dots_saveable(op: Any, *avals: Any, **params: Any) -> bool:
        """Keep the results of matrix products and convolutions."""
        return op.name in ("dot_general", "conv_general_dilated")

    @staticmethod
    def dots_with_no_batch_dims_saveable(op: Any, *avals: Any, **params: Any) -> bool:
        """Keep the results of products without batch axes (those with weights)."""
        return op.name == "dot_general" and not params["batch"][0]

    @staticmethod
    def save_only_these_names(*names: str) -> Callable[..., bool]:
        """Keep values marked with `checkpoint_name(x, name)`."""
        wanted = frozenset(names)
        return lambda op, *avals, **params: op.name == "name" and params["name"] in wanted

    @staticmethod
    def save_any_names_but_these(*names: str) -> Callable[..., bool]:
        """Keep marked values with other names."""
        unwanted = frozenset(names)
        return lambda op, *avals, **params: op.name == "name" and params["name"] not in unwanted

    @staticmethod
    def save_from_both_policies(first: Callable[..., bool], second: Callable[..., bool]) -> Callable[..., bool]:
        """Keep what either policy keeps."""
        return lambda op, *avals, **params: first(op, *avals, **params) or second(op, *avals, **params)

    checkpoint_dots = dots_saveable
    checkpoint_dots_with_no_batch_dims = dots_with_no_batch_dims_saveable


def checkpoint_name(x: Any, name: str) -> Any:
    """Mark values so that a `remat` policy can keep them by name.

    >>> import bevel as bv
    >>> float(bv.checkpoint_name(2.0, "hidden"))
    2.0
    """
    leaves, treedef = tree.flatten(x)
    handles = [as_handle(v, "checkpoint_name: a value") for v in leaves]
    return tree.unflatten(treedef, [wrap(name_op(h._v, name=name), fresh_tag(h._tag)) for h in handles])


def remat(
    fun: Callable[..., Any] | None = None,
    *,
    policy: Callable[..., bool] | None = None,
    prevent_cse: bool = True,
    static_argnums: int | Sequence[int] = (),
) -> Any:
    """A function whose intermediate values are not kept for the backward pass, but computed again there.

    `bv.checkpoint(f)` is the same function under its other name.

    Source: Griewank and Walther, "Revolve", 2000; Chen et al., "Training deep nets with sublinear memory
    cost", 2016.

    Args:
        fun: over pytrees of arrays.
        policy: which intermediate results to keep all the same; see `checkpoint_policies`.
        prevent_cse: keep XLA from merging the recomputation with the first computation.
        static_argnums: arguments that are Python values.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> float(bv.grad(bv.remat(lambda x: bnp.sin(bnp.sin(x))))(0.0))
    1.0
    """
    if fun is None:
        return lambda f: remat(f, policy=policy, prevent_cse=prevent_cse, static_argnums=static_argnums)
    if policy is checkpoint_policies.nothing_saveable:
        policy = None
    nondiff = (static_argnums,) if isinstance(static_argnums, int) else tuple(static_argnums)
    what = f"remat of {name_of(fun)}"

    @functools.wraps(fun)
    def rematerialized(*args: Any, **kwargs: Any) -> Any:
        if policy is checkpoint_policies.everything_saveable:
            return fun(*args, **kwargs)
        leaves, treedef = tree.flatten((tuple(a for i, a in enumerate(args) if i not in nondiff), kwargs))
        plain = [isinstance(x, Handle) or hasattr(x, "__array__") or isinstance(x, int | float | complex) for x in leaves]
        handles = [as_handle(x, f"an argument of {what}") for x, p in zip(leaves, plain, strict=True) if p]

        def flat(*hs: Any) -> Any:
            given = iter(hs)
            mixed = [next(given) if p else x for x, p in zip(leaves, plain, strict=True)]
            dynamic, kw = tree.unflatten(treedef, mixed)
            rest = iter(dynamic)
            return fun(*[a if i in nondiff else next(rest) for i, a in enumerate(args)], **kw)

        body = body_with_state(what, flat, handles)
        cells = [c._read() for c in body.carried]
        values = remat_op(*body.consts, *[h._v for h in (*handles, *cells)], graph=body.graph, policy=policy)
        n = len(body.output.tags)
        for cell, value, tag in zip(body.carried, values[n:], body.forced_tags, strict=True):
            cell._write(wrap(value, fresh_tag(tag)))
        return body.output.unflatten(values[:n])

    return rematerialized
