"""Functions with derivative rules of the user's own, and rematerialization."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bevel.api.body import Body, refuse_writes
from bevel.api.closures import Closure
from bevel.api.differentiated import Wrt, contents
from bevel.api.flat import (
    Output,
    as_handle,
    as_tuple,
    cells_of,
    described,
    is_stateful,
    name_of,
)
from bevel.control.custom import custom_jvp_call, custom_vjp_call
from bevel.core import tree
from bevel.core.aval import Aval, aval_of
from bevel.core.dtypes import is_complex, is_inexact
from bevel.core.graph import evaluate
from bevel.core.handle import Handle, fresh_tag, wrap
from bevel.core.interpreter import state
from bevel.core.ref import Scope
from bevel.numpy.convert import value_at
from bevel.ops import convert, zeros


class _Signature:
    """Brings the arguments of a call into the positions of a function's parameters."""

    def __init__(self, fun: Callable[..., Any]):
        self.name = name_of(fun)
        try:
            self.signature = inspect.signature(fun)
        except (TypeError, ValueError):
            self.signature = None

    def positional(self, args: tuple, kwargs: dict[str, Any]) -> tuple:
        """All arguments by position, defaults filled in (rules get them so).

        Raises:
            TypeError: an argument can only be passed by keyword.
        """
        if self.signature is None:
            if kwargs:
                raise TypeError(
                    f"{self.name}: pass arguments by position; its signature is not known"
                )
            return args
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        if bound.kwargs:
            raise TypeError(
                f"{self.name}: its parameters {sorted(bound.kwargs)} can only be passed by "
                "keyword, "
                "and rules get arguments by position.\n"
                "Write instead: no * before them in its definition, or functools.partial."
            )
        return bound.args


def _stand_in(aval: Aval) -> np.ndarray:
    """A value of this type that takes no memory."""
    return np.broadcast_to(np.zeros((), aval.dtype), aval.shape)


class _Arguments(Wrt):
    """Arguments cut into those the rules differentiate and those they get as they are."""

    def __init__(self, what: str, fun: Callable[..., Any], args: tuple, nondiff: Sequence[int]):
        outside = [n for n in nondiff if not -len(args) <= n < len(args)]
        if outside:
            raise ValueError(
                f"{what}: nondiff_argnums={outside} are out of range for {len(args)} arguments"
            )
        self.nondiff = {n % len(args) for n in nondiff}
        self.static = [a for i, a in enumerate(args) if i in self.nondiff]
        numbers = [i for i in range(len(args)) if i not in self.nondiff]
        args = tuple([a if i in self.nondiff else contents(a) for i, a in enumerate(args)])
        super().__init__(what, fun, args, numbers)
        self.given = self.primals()

    def dynamic(self, args: Sequence[Any]) -> tuple:
        """Those of the arguments that the rules differentiate."""
        return tuple([args[n] for n in self.argnums])

    def forget(self) -> None:
        """Keep the types of what was given, not the values, which the program outlives."""
        given = [wrap(_stand_in(aval_of(h._v)), fresh_tag(h._tag)) for h in self.given]
        self.given, self.handles = given, given[: len(self.handles)]
        self.args = tuple([None if i in self.argnums else a for i, a in enumerate(self.args)])

    def tangents(self, values: Sequence[Any]) -> tuple:
        """Their tangents, zeros for None."""
        full = [
            wrap(zeros(aval_of(h._v)) if t is None else t)
            for h, t in zip(self.given, values, strict=True)
        ]
        return tuple(self.collect(full))


class _Residuals(Output):
    """What `fwd` leaves for `bwd`; modules in it come with what they held in `fwd`."""

    __slots__ = ("contents",)

    def flatten_all(self, residuals: Any, what: str) -> list[Any]:
        """Values of the residuals, then of what modules among them hold."""
        values = self.flatten(residuals, what, passed=is_stateful)
        cells = dict.fromkeys([c for m in self.others.values() for c in cells_of(m) or ()])
        held = {c: c._read() for c in cells}
        self.contents = {c: h for c, h in held.items() if isinstance(h, Handle)}
        return [*values, *[h._v for h in self.contents.values()]]

    def run(self, rule: Callable[..., Any], values: Sequence[Any], what: str) -> Any:
        """What the rule gives for these residuals."""
        n = len(self.tags)
        with Scope(what) as scope:
            for (cell, h), v in zip(self.contents.items(), values[n:], strict=True):
                scope.show(cell, wrap(v, fresh_tag(h._tag)))
            found = rule(self.unflatten(values[:n]))
        refuse_writes(what, scope.changed())
        return found


def _call_eagerly(what: str, fun: Callable[..., Any], arguments: _Arguments) -> Any:
    output = Output()
    found = arguments.run_pure(fun, [h._v for h in arguments.given])
    return output.unflatten(output.flatten(found, what))


def _same_result(what: str, rule: str, body: Body, result: Any) -> list[Any]:
    """Values of the result that a rule returned, which must be of the function's own type."""
    leaves, treedef = tree.flatten(result)
    if treedef != body.output.treedef:
        raise TypeError(
            f"{what}: {rule} returns the structure {treedef} as the result, but the function "
            "returns "
            f"{body.output.treedef}; they must be equal"
        )
    values = []
    for leaf, aval in zip(leaves, body.out_avals, strict=True):
        value = as_handle(leaf, f"{what}: the result that {rule} returns")._v
        if tuple(value.shape) != aval.shape:
            raise TypeError(
                f"{what}: {rule} returns {aval_of(value)} as the result, but the function "
                f"returns {aval}; "
                "they must be equal"
            )
        values.append(value if value.dtype == aval.dtype else convert(value, dtype=aval.dtype))
    return values


def _match(what: str, name: str, avals: Sequence[Aval], found: Sequence[Any]) -> list[Any]:
    """Tangents or cotangents at the types of their values; None for those without derivative."""
    out = []
    values = [None if x is None else as_handle(x, f"{what}: a {name}")._v for x in found]
    for aval, t in zip(avals, values, strict=True):
        got = None if t is None else aval_of(t)
        if not is_inexact(aval.dtype) or got is None:
            out.append(None)
        elif got.shape != aval.shape or (is_complex(got.dtype) and not is_complex(aval.dtype)):
            raise TypeError(
                f"{what}: its rule gave the {name} {got} for a value {aval}; they must be equal"
            )
        else:
            out.append(t if got.dtype == aval.dtype else convert(t, dtype=aval.dtype))
    return out


class custom_jvp:
    """A function with its own forward-mode rule, which reverse mode uses too.

    Args:
        fun: over pytrees of arrays, and modules; it must not write variables.
        nondiff_argnums: arguments that are Python values and come first in the rule.
        constant_closure: values that `fun` closes over are taken as constants; without it, it is an
            error to differentiate them.

    The rule is `jvp(*nondiff, primals, tangents) -> (result, tangent of result)`; `defjvps` takes
    one rule per argument, `rule(tangent, result, *args) -> tangent of result`, or None for zero.
    Rules get a module itself, and as its tangent an `nn.State` of its `Param`s.

    The function and its rules may close over traced values.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> @bv.custom_jvp
    ... def f(x): return bnp.sin(x)
    >>> f.defjvps(lambda t, y, x: 10.0 * t)
    >>> float(bv.grad(f)(0.0))
    10.0
    """

    def __init__(
        self,
        fun: Callable[..., Any],
        nondiff_argnums: int | Sequence[int] = (),
        *,
        constant_closure: bool = False,
    ):
        functools.update_wrapper(self, fun)
        self.fun = fun
        self.nondiff_argnums = as_tuple(nondiff_argnums)
        self.constant_closure = constant_closure
        self.jvp: Callable[..., Any] | None = None
        self._signature = _Signature(fun)

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
            if len(jvps) != len(primals):
                raise TypeError(
                    f"custom_jvp function {name_of(self.fun)}: defjvps got {len(jvps)} rules for "
                    f"{len(primals)} "
                    "differentiable arguments; give one each, or None for zero"
                )
            out = self(*_interleaved(self.nondiff_argnums, static, primals))
            total = None
            for rule, t in zip(jvps, tangents, strict=True):
                if rule is not None:
                    part = rule(t, out, *primals)
                    total = part if total is None else tree.map(lambda a, b: a + b, total, part)
            if total is None:
                total = tree.map(lambda y: wrap(zeros(aval_of(as_handle(y, "a result")._v))), out)
            return out, total

        self.jvp = jvp

    def _arguments(self, what: str, args: tuple, kwargs: dict[str, Any]) -> _Arguments:
        given = self._signature.positional(args, kwargs)
        return _Arguments(what, self.fun, given, self.nondiff_argnums)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        what = f"custom_jvp function {name_of(self.fun)}"
        if self.jvp is None:
            raise AttributeError(
                f"{what} has no rule yet; write {name_of(self.fun)}.defjvp(rule) after its "
                "definition"
            )
        jvp = self.jvp
        arguments = self._arguments(what, args, kwargs)
        if state.current.outer is None:
            return _call_eagerly(what, self.fun, arguments)
        closure = Closure(what, self.fun, arguments, [jvp, *arguments.static])
        body = closure.body

        def rule(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[list[Any], list[Any]]:
            n = closure.n

            def run() -> tuple[list[Any], list[Any]]:
                moved = arguments.tangents(tangents[n:])
                return arguments.run_pure(functools.partial(ruled, moved), primals[n:])

            def ruled(moved: tuple, *args: Any) -> tuple[list[Any], list[Any]]:
                result = jvp(*arguments.static, arguments.dynamic(args), moved)
                if not (isinstance(result, tuple | list) and len(result) == 2):
                    raise TypeError(
                        f"{what}: the jvp rule must return (result, tangent of the result), not "
                        f"{type(result).__name__}"
                    )
                values = _same_result(what, "the jvp rule", body, result[0])
                return values, _values_like(
                    what, "tangent", body.output.treedef, body.out_avals, result[1]
                )

            outs, touts = closure.run(range(n), primals[:n], run)
            return outs, touts

        values = custom_jvp_call(
            *closure.values,
            *[h._v for h in arguments.given],
            graph=closure.graph,
            rule=rule,
            closed=None if self.constant_closure else closure.closed,
        )
        arguments.forget()
        return body.output.unflatten(values)


def _interleaved(places: Sequence[int], static: Sequence[Any], dynamic: Sequence[Any]) -> list[Any]:
    """All arguments in their order, from those at `places` and the others."""
    n = len(static) + len(dynamic)
    at, first, second = {p % n for p in places}, iter(static), iter(dynamic)
    return [next(first) if i in at else next(second) for i in range(n)]


def _values_like(
    what: str, name: str, treedef: Any, avals: Sequence[Aval], found: Any
) -> list[Any]:
    """Values of the tangents or cotangents that a rule gave; None stands for the zeros of what is
    there.
    """
    if found is None:
        return [None] * len(avals)
    try:
        leaves = treedef.flatten_up_to(found)
    except ValueError:
        raise TypeError(
            f"{what}: its rule gave the {name} structure {tree.structure(found)} for values of "
            "structure "
            f"{treedef}; they must be equal"
        ) from None
    return _match(what, name, avals, leaves)


class custom_vjp:
    """A function with its own reverse-mode rule.

    Args:
        fun: over pytrees of arrays, and modules; it must not write variables.
        nondiff_argnums: arguments that are Python values; `bwd` gets them first.

    `defvjp(fwd, bwd)`: `fwd(*args) -> (result, residuals)`, `bwd(*nondiff, residuals, ct) -> tuple`
    with a cotangent per differentiable argument (None: zero); that of a module is an `nn.State` of
    its `Param`s, as `bv.grad` gives. A module among the residuals comes with what it held in `fwd`.

    The function and its rules may close over traced values, but not over those that are being
    differentiated.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> @bv.custom_vjp
    ... def clip_gradient(x): return x
    >>> clip_gradient.defvjp(lambda x: (x, None), lambda _, g: (bnp.clip(g, -1, 1),))
    >>> float(bv.grad(lambda x: 100 * clip_gradient(x))(2.0))
    1.0
    """

    def __init__(self, fun: Callable[..., Any], nondiff_argnums: int | Sequence[int] = ()):
        functools.update_wrapper(self, fun)
        self.fun = fun
        self.nondiff_argnums = as_tuple(nondiff_argnums)
        self.fwd: Callable[..., Any] | None = None
        self.bwd: Callable[..., Any] | None = None
        self._signature = _Signature(fun)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[..., Any]) -> None:
        """Set the rules."""
        self.fwd = fwd
        self.bwd = bwd

    _arguments = custom_jvp._arguments

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        what = f"custom_vjp function {name_of(self.fun)}"
        if self.fwd is None or self.bwd is None:
            raise AttributeError(
                f"{what} has no rules yet.\nWrite instead: {name_of(self.fun)}.defvjp(fwd, bwd) "
                "after its definition."
            )
        arguments = self._arguments(what, args, kwargs)
        if state.current.outer is None:
            return _call_eagerly(what, self.fun, arguments)
        rules = [self.fwd, self.bwd, *arguments.static]
        closure = Closure(what, self.fun, arguments, rules)
        fwd, bwd = self._flat_rules(what, arguments, closure)
        values = custom_vjp_call(
            *closure.values,
            *[h._v for h in arguments.given],
            graph=closure.graph,
            fwd=fwd,
            bwd=bwd,
            closed=closure.closed,
        )
        arguments.forget()
        return closure.body.output.unflatten(values)

    def _flat_rules(self, what: str, arguments: _Arguments, closure: Closure):
        user_fwd, user_bwd = self.fwd, self.bwd
        body, kept, n = closure.body, _Residuals(), closure.n
        later = closure.places(user_bwd, *arguments.static)

        def fwd(*values: Any) -> tuple[list[Any], list[Any]]:
            def ruled(*args: Any) -> tuple[list[Any], list[Any]]:
                result = user_fwd(*args)
                if not (isinstance(result, tuple | list) and len(result) == 2):
                    raise TypeError(
                        f"{what}: fwd must return (result, residuals), not {type(result).__name__}"
                    )
                return _same_result(what, "fwd", body, result[0]), kept.flatten_all(result[1], what)

            run = functools.partial(arguments.run_pure, ruled, values[n:])
            outs, residuals = closure.run(range(n), values[:n], run)
            return outs, [*[values[i] for i in later], *residuals]

        def bwd(residuals: Sequence[Any], cts: Sequence[Any]) -> list[Any]:
            def ruled(held: Any) -> tuple[list[Any]]:
                ct = body.output.unflatten(cts)
                return (_cotangents(what, arguments, user_bwd(*arguments.static, held, ct)),)

            run = functools.partial(kept.run, ruled, residuals[len(later) :], what)
            (found,) = closure.run(later, residuals[: len(later)], run)
            return [None] * n + found

        return fwd, bwd


def _cotangents(what: str, arguments: _Arguments, found: Any) -> list[Any]:
    """Values of the cotangents that a user's rule gave, one tree per differentiable argument."""
    if not isinstance(found, tuple | list):
        raise TypeError(
            f"{what}: bwd must return a tuple with a cotangent per differentiable argument, not "
            f"{type(found).__name__}; for one argument write `return (ct,)`"
        )
    if len(found) != len(arguments.trees):
        raise TypeError(
            f"{what}: bwd gave {len(found)} cotangents for {len(arguments.trees)} differentiable "
            "arguments.\nWrite instead: return a tuple with one for each, None for zero."
        )
    avals = [aval_of(h._v) for h in arguments.given]
    return _match(what, "cotangent", avals, arguments.spread("cotangent", found))


def custom_gradient(fun: Callable[..., Any]) -> Callable[..., Any]:
    """A function that returns `(result, gradient function)`, differentiated by that function.

    The gradient function maps a cotangent of the result to a tuple with one per argument (for a
    single argument, the cotangent itself will do); that of a module is an `nn.State`.

    >>> import bevel as bv
    >>> f = bv.custom_gradient(lambda x: (x**2, lambda g: (g * 100.0,)))
    >>> float(f(3.0)), float(bv.grad(f)(3.0))
    (9.0, 100.0)
    """

    @functools.wraps(fun)
    def call(*args: Any, **kwargs: Any) -> Any:
        converted: list[Callable[..., Any]] = []

        def primal(*xs: Any) -> Any:
            return fun(*xs, **kwargs)[0]

        def fwd(*xs: Any) -> Any:
            result, gradient = fun(*xs, **kwargs)
            backward, captured = closure_convert(gradient, result)
            converted[:] = [backward]
            return result, captured

        def bwd(captured: Any, ct: Any) -> tuple:
            found = converted[0](ct, *captured)
            return tuple(found) if isinstance(found, tuple | list) else (found,)

        primal.__name__ = name_of(fun)
        whole = custom_vjp(primal)
        whole.defvjp(fwd, bwd)
        return whole(*args)

    return call


def closure_convert(
    fun: Callable[..., Any], *example_args: Any
) -> tuple[Callable[..., Any], list[Any]]:
    """`(converted, captured)`: the arrays a function closes over become trailing arguments.

    `converted(*args, *captured)` equals `fun(*args)`, for use where a rule must not close over
    traced values.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> w = bnp.arange(100.0)
    >>> f, captured = bv.closure_convert(lambda x: (x * w).sum(), 1.0)
    >>> len(captured), float(f(2.0, *captured))
    (1, 9900.0)
    """
    what = described("closure_convert", fun)
    leaves, treedef = tree.flatten(example_args)
    handles = [as_handle(x, f"{what}: an example argument") for x in leaves]
    body = Body(what, lambda *hs: fun(*tree.unflatten(treedef, hs)), handles)
    body.refuse_writes()
    n = len(body.consts)

    def converted(*args: Any) -> Any:
        given, structure = tree.flatten(args[: len(args) - n])
        if structure != treedef:
            raise TypeError(
                f"{what}: it was converted for the arguments {treedef}, and called with "
                f"{structure} and "
                f"{n} captured arrays"
            )
        captured = [as_handle(c, f"{what}: a captured array") for c in args[len(args) - n :]]
        values = [
            value_at(as_handle(x, f"{what}: an argument"), aval.dtype)
            for x, aval in zip([*captured, *given], body.graph.in_avals, strict=True)
        ]
        return body.output.unflatten(evaluate(body.graph, values))

    return converted, [wrap(c) for c in body.consts]
