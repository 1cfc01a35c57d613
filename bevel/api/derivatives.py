"""`grad` and its family: forward and reverse derivatives of functions over pytrees and modules."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bevel.api.differentiated import Wrt, numbers_and_filters
from bevel.api.flat import (
    Output,
    as_handle,
    described,
    like,
    normalize_argnums,
    rewrap,
    type_name,
)
from bevel.api.naming import cell_name
from bevel.core import dtypes, tree
from bevel.core.aval import aval_of
from bevel.core.errors import ParamMutationError
from bevel.core.handle import Handle, KeyTag, fresh_tag, is_weak, wrap
from bevel.core.ref import Cell, Scope, write_back
from bevel.core.source import user_source, where
from bevel.numpy.convert import enter
from bevel.ops import zeros
from bevel.transforms import jvp as flat_jvp
from bevel.transforms import linearize as flat


def _guard(
    cells: set[Cell], what: str, fun: Callable[..., Any], args: tuple
) -> Callable[[Cell], None]:
    def guard(cell: Cell) -> None:
        if cell in cells:
            raise ParamMutationError(
                f"the {cell_name(cell, fun, args)} is written while {what} differentiates it, at "
                f"{where(user_source())}.\n"
                "Why: the derivative would be that of the value before the write, and the update "
                "would be "
                "applied inside the differentiated function.\n"
                "Write instead: loss, grads = bv.value_and_grad(loss_fn)(model), then "
                "optimizer.update(grads) "
                "with optimizer = nn.Optimizer(model, optim.adam(1e-3))."
            )

    return guard


class Flat:
    """A user function over the differentiated values, with its effect on cells as extra results."""

    def __init__(self, what: str, fun, args, kwargs, argnums, has_aux: bool, filters=()):
        self.what = what
        self.fun = fun
        self.kwargs = kwargs
        self.has_aux = has_aux
        self.wrt = Wrt(what, fun, args, argnums, filters)
        self.out = Output()
        self.aux = Output()
        self.changed: dict[Cell, Any] = {}

    def __call__(self, *values: Any) -> list[Any]:
        """Values of the result, the auxiliary data and the written cells."""
        guard = _guard(set(self.wrt.cells), self.what, self.fun, self.wrt.args)
        scope = Scope(self.what, guard=guard)
        result = self.wrt.run(self.fun, values, self.kwargs, scope)
        aux: Any = None
        if self.has_aux:
            if not (isinstance(result, tuple) and len(result) == 2):
                raise TypeError(
                    f"{self.what}: with has_aux=True the function returns a pair (result, "
                    "auxiliary data), "
                    f"but it returned {type(result).__name__}.\nWrite instead: `return loss, aux`."
                )
            result, aux = result
        outs = self.out.flatten(result, self.what)
        aux_outs = self.aux.flatten(aux, self.what, arrays_only=False)
        self.changed = scope.changed()
        contents = [as_handle(c, "the content of a cell")._v for c in self.changed.values()]
        return [*outs, *aux_outs, *contents]

    def finish(self, values: Sequence[Any]) -> tuple[Any, Any, list[Any]]:
        """Write cells; the result, the auxiliary data, and the values of the result."""
        n, m = len(self.out.tags), len(self.aux.tags)
        rest = values[n + m :]
        write_back(
            {
                c: wrap(v, fresh_tag(h._tag))
                for (c, h), v in zip(self.changed.items(), rest, strict=True)
            }
        )
        return (
            self.out.unflatten(values[:n]),
            self.aux.unflatten(values[n : n + m]),
            list(values[:n]),
        )


def check_inputs(wrt: Wrt, what: str, holomorphic: bool, allow_int: bool = False) -> None:
    """Raise unless inputs of these types have derivatives."""
    for i, h in enumerate(wrt.primals()):
        dtype = aval_of(h._v).dtype
        if holomorphic and not dtypes.is_complex(dtype):
            raise TypeError(
                f"{what}: holomorphic=True needs complex inputs, got {dtype.name}; convert them "
                "first"
            )
        if type(h._tag) is KeyTag and not allow_int:
            raise TypeError(
                f"{what}: {wrt.name(i)} is a random key, which has no derivative.\n"
                "Write instead: choose other argnums, so that the key is a plain argument."
            )
        if not dtypes.is_inexact(dtype) and not allow_int:
            raise TypeError(
                f"{what}: {wrt.name(i)} is {type_name(h)}, and only floating and complex "
                "numbers have derivatives.\n"
                "Write instead: pass a float (x.astype(bnp.float32), 1.0 for 1), choose other "
                "argnums, "
                "or allow_int=True to get zeros."
            )


def _check_scalar(values: Sequence[Any], what: str, holomorphic: bool) -> None:
    if len(values) != 1 or values[0].ndim != 0:
        shapes = [tuple(v.shape) for v in values]
        raise TypeError(
            f"{what}: the function must return one scalar, but its results have the shapes "
            f"{shapes}.\n"
            "Why: the gradient is the derivative of a number.\n"
            "Write instead: return loss.sum() or loss.mean(), `return loss, aux` with "
            "has_aux=True, or use bv.jacrev."
        )
    check_outputs(values, what, holomorphic)


def check_outputs(values: Sequence[Any], what: str, holomorphic: bool) -> None:
    """Raise unless reverse mode gives derivatives of results of these types."""
    for v in values:
        dtype = aval_of(v).dtype
        if holomorphic and not dtypes.is_complex(dtype):
            raise TypeError(
                f"{what}: holomorphic=True needs complex results, got {dtype.name}; leave it out"
            )
        if dtypes.is_complex(dtype) and not holomorphic:
            raise TypeError(
                f"{what}: the function returned {dtype.name}, and the derivative of a complex "
                "result is one "
                "number only if the function is complex-analytic.\n"
                "Write instead: holomorphic=True if it is; return a real part, or abs(); or use "
                "bv.vjp."
            )
        if not dtypes.is_inexact(dtype):
            raise TypeError(
                f"{what}: the function returned {dtype.name}, which has no derivative.\n"
                "Write instead: return a float (x.astype(bnp.float32)), or has_aux=True for what "
                "is no result."
            )


def _grads(flat_fn: Flat, primals: Sequence[Handle], found: Sequence[Any]) -> list[Any]:
    """Handles on gradients; zero where there is none (float0-like int zeros for integers)."""
    out = []
    for h, g in zip(primals, found, strict=True):
        aval = aval_of(h._v)
        out.append(
            wrap(zeros(aval) if g is None else g, h._tag if dtypes.is_inexact(aval.dtype) else None)
        )
    return out


def value_and_grad(
    fun: Callable[..., Any] | None = None,
    argnums: Any = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    wrt: Any = None,
) -> Callable[..., Any]:
    """A function that returns `(fun(...), gradient)`.

    Args:
        fun: returns a scalar, or `(scalar, aux)` with `has_aux`.
        argnums: number(s) of the argument(s) to differentiate: pytrees of floating arrays, or
            modules, for which the gradient is in their `Param`s and comes as a state
            (`nn.State`); `nn.DiffState(0, filter)` for other variables of argument 0.
        has_aux: `fun` returns auxiliary data besides; then the first result is `(value, aux)`.
        holomorphic: `fun` is complex-analytic.
        allow_int: integer inputs are allowed and have zero gradients.
        wrt: filter of the variables of modules to differentiate in (default: `nn.Param`).

    Raises:
        TypeError: the result is no scalar, or an input has no derivative.
        errors.ParamMutationError: a differentiated parameter is written inside.

    >>> import bevel as bv
    >>> value, slope = bv.value_and_grad(lambda x: x**2)(3.0)
    >>> float(value), float(slope)
    (9.0, 6.0)
    """
    if fun is None:
        return functools.partial(
            value_and_grad,
            argnums=argnums,
            has_aux=has_aux,
            holomorphic=holomorphic,
            allow_int=allow_int,
            wrt=wrt,
        )
    what = described("grad", fun)
    single, argnums, filters = numbers_and_filters(argnums, wrt)

    @functools.wraps(fun)
    def value_and_grad_of(*args: Any, **kwargs: Any) -> Any:
        numbers = normalize_argnums(argnums, len(args), what)
        flat_fn = Flat(what, fun, args, kwargs, numbers, has_aux, filters)
        primals = flat_fn.wrt.primals()
        check_inputs(flat_fn.wrt, what, holomorphic, allow_int)
        values, lin = flat.linearize(flat_fn, [h._v for h in primals], what=what)
        result, aux, outs = flat_fn.finish(values)
        _check_scalar(outs, what, holomorphic)
        one = np.ones((), aval_of(outs[0]).dtype)
        found = lin.transpose([one] + [None] * (len(values) - 1))
        trees = flat_fn.wrt.collect(_grads(flat_fn, primals, found))
        grads = trees[0] if single else tuple(trees)
        return ((result, aux), grads) if has_aux else (result, grads)

    return value_and_grad_of


def grad(
    fun: Callable[..., Any] | None = None,
    argnums: Any = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    wrt: Any = None,
) -> Callable[..., Any]:
    """A function that returns the gradient of `fun`; arguments as for `value_and_grad`.

    With `has_aux` it returns `(gradient, aux)`.

    >>> import bevel as bv
    >>> float(bv.grad(bv.grad(lambda x: x**3))(2.0))
    12.0
    """
    options = dict(holomorphic=holomorphic, allow_int=allow_int, wrt=wrt)
    if fun is None:
        return functools.partial(grad, argnums=argnums, has_aux=has_aux, **options)
    both = value_and_grad(fun, argnums, has_aux, **options)

    @functools.wraps(fun)
    def grad_of(*args: Any, **kwargs: Any) -> Any:
        value, grads = both(*args, **kwargs)
        return (grads, value[1]) if has_aux else grads

    return grad_of


def _check_like(
    what: str, name: str, given: Any, treedef: Any, primals: Sequence[Handle]
) -> list[Any]:
    """Values of tangents or cotangents after a check of structure, shapes and dtypes."""
    leaves, structure = tree.flatten(given)
    if structure != treedef:
        raise TypeError(
            f"{what}: the {name}s have the structure {structure}, but it must be that of the "
            f"values, {treedef}"
        )
    return _check_types(what, name, leaves, primals)


def _check_tangents(wrt: Wrt, given: tuple, primals: Sequence[Handle]) -> list[Any]:
    """Values of tangents, those of a module in an `nn.State`, after the same checks."""
    if not wrt.cells:
        return _check_like(wrt.what, "tangent", given, tree.structure(wrt.args), primals)
    treedef = tree.structure(tuple(wrt.collect(range(len(primals)))))
    if tree.structure(given) != treedef:
        return _check_like(wrt.what, "tangent", given, treedef, primals)
    return _check_types(wrt.what, "tangent", wrt.spread("tangent", given), primals)


def _check_types(
    what: str, name: str, leaves: Sequence[Any], primals: Sequence[Handle]
) -> list[Any]:
    out = []
    for leaf, p in zip(leaves, primals, strict=True):
        aval = aval_of(p._v)
        if not dtypes.is_inexact(aval.dtype):
            out.append(None)
            continue
        h = _tangent_handle(leaf, aval.dtype, f"{what}: a {name}")
        found = aval_of(h._v)
        if found != aval:
            raise TypeError(
                f"{what}: a {name} is {found}, but its value is {aval}.\n"
                f"Why: a {name} has the shape and dtype of the value it belongs to.\n"
                f"Write instead: bnp.full_like(x, {name}), or bnp.broadcast_to({name}, x.shape)."
            )
        out.append(h._v)
    return out


def _tangent_handle(leaf: Any, dtype: np.dtype, what: str) -> Handle:
    """A handle on a leaf; numbers and NumPy data come at the dtype of their value, if it can hold
    them.
    """
    h = as_handle(leaf, what)
    if isinstance(leaf, Handle) and (h._v.dtype == dtype or not is_weak(h._tag)):
        return h
    fits = dtypes.is_complex(dtype) or not dtypes.is_complex(h._v.dtype)
    return enter(leaf, dtype) if fits and h._v.dtype != dtype else h


def _check_tuple(what: str, name: str, value: Any) -> None:
    if not isinstance(value, tuple | list):
        raise TypeError(
            f"{what}: {name} must be a tuple with one entry per argument, got "
            f"{type(value).__name__}; write ({name[:-1]},)"
        )


def _tangent_handles(primals: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
    return [zeros(aval_of(p)) if t is None else t for p, t in zip(primals, tangents, strict=True)]


def jvp(
    fun: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False
) -> Any:
    """`(fun(*primals), its derivative along tangents)`: forward mode.

    Args:
        fun: over pytrees of arrays.
        primals: a tuple with an entry per argument.
        tangents: a tuple of the same structure, shapes and dtypes; for a module, an `nn.State` of
            its `Param`s, as `bv.grad` gives.
        has_aux: `fun` returns `(result, aux)`; aux is returned third.

    Raises:
        TypeError: tangents do not match the primals.

    >>> import bevel as bv
    >>> y, t = bv.jvp(lambda x: x**2, (3.0,), (1.0,))
    >>> float(t)
    6.0
    """
    what = described("jvp", fun)
    _check_tuple(what, "primals", primals)
    _check_tuple(what, "tangents", tangents)
    flat_fn = Flat(what, fun, tuple(primals), {}, tuple(range(len(primals))), has_aux)
    handles = flat_fn.wrt.primals()
    ts = _check_tangents(flat_fn.wrt, tuple(tangents), handles)
    outs, touts = flat_jvp.jvp(flat_fn, [h._v for h in handles], ts, what)
    result, aux, values = flat_fn.finish(outs)
    out_t = flat_fn.out.unflatten(_tangent_handles(values, touts[: len(values)]))
    return (result, out_t, aux) if has_aux else (result, out_t)


def linearize(fun: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """`(fun(*primals), map)`, where `map(*tangents)` is the derivative there; `fun` runs once.

    >>> import bevel as bv
    >>> y, f_lin = bv.linearize(lambda x: x**2, 3.0)
    >>> float(f_lin(1.0)), float(f_lin(2.0))
    (6.0, 12.0)
    """
    what = described("linearize", fun)
    flat_fn = Flat(what, fun, primals, {}, tuple(range(len(primals))), has_aux)
    handles = flat_fn.wrt.primals()
    outs, lin = flat.linearize(flat_fn, [h._v for h in handles], what=what)
    result, aux, values = flat_fn.finish(outs)
    treedef, tags = flat_fn.out.treedef, flat_fn.out.tags

    def f_lin(*tangents: Any) -> Any:
        ts = _check_tangents(flat_fn.wrt, tangents, handles)
        ts = [zeros(aval_of(h._v)) if t is None else t for t, h in zip(ts, handles, strict=True)]
        touts = lin.forward(ts)[: len(values)]
        return tree.unflatten(treedef, rewrap(_tangent_handles(values, touts), tags))

    return (result, f_lin, aux) if has_aux else (result, f_lin)


def vjp(fun: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """`(fun(*primals), pullback)`, where `pullback(ct)` is a tuple of cotangents, one per argument.

    With `has_aux`, `fun` returns `(result, aux)` and aux is returned third.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> y, pull = bv.vjp(bnp.sin, 0.0)
    >>> float(pull(2.0)[0])
    2.0
    """
    what = described("vjp", fun)
    flat_fn = Flat(what, fun, primals, {}, tuple(range(len(primals))), has_aux)
    handles = flat_fn.wrt.primals()
    outs, lin = flat.linearize(flat_fn, [h._v for h in handles], what=what)
    result, aux, values = flat_fn.finish(outs)
    treedef = flat_fn.out.treedef
    out_handles = [wrap(v) for v in values]

    def pullback(ct: Any) -> tuple:
        cts = _check_like(what, "cotangent", ct, treedef, out_handles)
        found = lin.transpose([*cts, *[None] * (len(outs) - len(cts))])
        return tuple(flat_fn.wrt.collect(_grads(flat_fn, handles, found)))

    return (result, pullback, aux) if has_aux else (result, pullback)


def linear_transpose(fun: Callable[..., Any], *primals: Any) -> Callable[[Any], tuple]:
    """The transpose of a function that is linear in all its arguments.

    `primals` give shapes and dtypes only (arrays or `ShapeDtypeStruct`s).

    >>> import bevel as bv, bevel.numpy as bnp
    >>> t = bv.linear_transpose(lambda x: 3 * x, bnp.float32(0))
    >>> float(t(2.0)[0])
    6.0
    """
    what = described("linear_transpose", fun)
    leaves, treedef = tree.flatten(primals)
    avals = [aval_of(like(x, f"{what}: an argument")._v) for x in leaves]
    out = Output()

    def fn(*values: Any) -> list[Any]:
        args = tree.unflatten(treedef, [wrap(v) for v in values])
        return out.flatten(fun(*args), what)

    graph, residuals = flat.record_linear(fn, avals)
    out_handles = [wrap(zeros(v.aval)) for v in graph.outputs]

    def transposed(ct: Any) -> tuple:
        cts = _check_like(what, "cotangent", ct, out.treedef, out_handles)
        found = flat.backward(graph, residuals, cts)
        return tree.unflatten(
            treedef, [wrap(zeros(a) if c is None else c) for c, a in zip(found, avals, strict=True)]
        )

    return transposed
