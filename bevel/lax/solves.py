"""Solutions of equations, differentiated by the implicit function theorem."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from bevel.api.body import Body, unify_captured
from bevel.api.custom import custom_jvp
from bevel.api.derivatives import jvp, linear_transpose, linearize
from bevel.api.flat import as_handle, name_of
from bevel.control.solve import linear_solve
from bevel.core import tree
from bevel.core.aval import aval_of
from bevel.core.graph import evaluate
from bevel.core.handle import Handle, wrap


def _named(like: Callable[..., Any], fun: Callable[..., Any]) -> Callable[..., Any]:
    """A function under the name of another, for messages."""
    fun.__name__ = name_of(like)
    return fun


def _alike(a: Handle, b: Handle) -> bool:
    return aval_of(a._v) == aval_of(b._v)


def custom_linear_solve(
    matvec: Callable[[Any], Any],
    b: Any,
    solve: Callable[[Callable[[Any], Any], Any], Any],
    transpose_solve: Callable[[Callable[[Any], Any], Any], Any] | None = None,
    symmetric: bool = False,
) -> Any:
    """`x` with `matvec(x) = b`, found by `solve(matvec, b)` and differentiated implicitly.

    Args:
        matvec: a linear function of a pytree of arrays.
        b: the right-hand side, of the structure and types that `matvec` returns.
        solve: finds x; it is never differentiated.
        transpose_solve: `transpose_solve(vecmat, b)` solves with the transpose; reverse mode needs
            it.
        symmetric: `matvec` is its own transpose, and `solve` serves for both.

    Raises:
        TypeError: the solution has another structure than `b`, or reverse mode without
            `transpose_solve`.

    >>> import bevel as bv
    >>> def f(a, b):
    ...     return custom_linear_solve(lambda x: a * x, b, lambda mv, b: b / a, symmetric=True)
    >>> float(f(2.0, 6.0)), float(bv.grad(f)(2.0, 6.0))
    (3.0, -1.5)
    """
    leaves, treedef = tree.flatten(b)
    handles = [as_handle(x, "custom_linear_solve: b") for x in leaves]

    def flat(fun: Callable[[Any], Any]) -> Callable[..., Any]:
        def run(*vectors: Any) -> list[Any]:
            out, structure = tree.flatten(fun(tree.unflatten(treedef, vectors)))
            if structure != treedef:
                raise TypeError(
                    f"custom_linear_solve: {name_of(fun)} returned the structure {structure}, b "
                    f"has {treedef}; "
                    "they must be equal"
                )
            found = [as_handle(x, f"custom_linear_solve: a result of {name_of(fun)}") for x in out]
            wrong = [(f, h) for f, h in zip(found, handles, strict=True) if not _alike(f, h)]
            if wrong:
                got, wanted = (aval_of(h._v) for h in wrong[0])
                raise TypeError(
                    f"custom_linear_solve: {name_of(fun)} returned {got} where b has {wanted}; "
                    "they must be equal.\nWrite instead: .astype or reshape it."
                )
            return found

        return run

    def vecmat(x: Any) -> Any:
        return linear_transpose(matvec, tree.unflatten(treedef, handles))(x)[0]

    back = solve if symmetric else transpose_solve
    functions = [matvec, _named(solve, lambda v: solve(matvec, v))]
    if back is not None:
        functions += [_named(back, lambda v: back(vecmat, v)), vecmat]
    bodies = [Body("custom_linear_solve", flat(f), handles) for f in functions]
    for body in bodies:
        body.refuse_writes()
    consts, graphs = unify_captured(bodies)
    graphs += [None] * (4 - len(graphs))
    outs = linear_solve(
        *consts,
        *[h._v for h in handles],
        matvec=graphs[0],
        solve=graphs[1],
        transpose_solve=graphs[2],
        vecmat=graphs[3],
        n_consts=len(consts),
    )
    return tree.unflatten(treedef, [wrap(o) for o in outs])


def custom_root(
    f: Callable[[Any], Any],
    initial_guess: Any,
    solve: Callable[[Callable[[Any], Any], Any], Any],
    tangent_solve: Callable[[Callable[[Any], Any], Any], Any],
) -> Any:
    """A root of `f`, found by `solve(f, initial_guess)` and differentiated implicitly.

    Args:
        f: its root is wanted; its derivatives are in what it closes over.
        initial_guess: where `solve` starts; the root does not depend on it.
        solve: finds the root; it is never differentiated.
        tangent_solve: `tangent_solve(g, y)` solves the linear equation g(x) = y.

    >>> import bevel as bv
    >>> newton = lambda f, x0: x0 - f(x0) / 2.0
    >>> def double(a):
    ...     return custom_root(lambda x: 2.0 * x - a, 0.0, newton, lambda g, y: y / g(1.0))
    >>> float(double(3.0)), float(bv.grad(double)(3.0))
    (1.5, 0.5)
    """
    leaves, treedef = tree.flatten(initial_guess)
    handles = [as_handle(x, "custom_root: initial_guess") for x in leaves]

    def flat_f(*x: Any) -> list[Any]:
        return tree.leaves(f(tree.unflatten(treedef, x)))

    body = Body("custom_root", flat_f, handles)
    body.refuse_writes()
    captured = [wrap(c) for c in body.consts]

    def f_at(consts: tuple, x: list[Any]) -> list[Any]:
        return [wrap(v) for v in _evaluate(body, consts, x)]

    @functools.partial(custom_jvp, constant_closure=True)
    def root(consts: tuple, guess: list[Any]) -> list[Any]:
        def closed(x: Any) -> Any:
            return tree.unflatten(treedef, f_at(consts, tree.leaves(x)))

        return tree.leaves(solve(closed, tree.unflatten(treedef, guess)))

    @root.defjvp
    def root_jvp(primals: tuple, tangents: tuple) -> tuple:
        consts, guess = primals
        x = root(consts, guess)
        _, moved = jvp(lambda c: f_at(c, x), (consts,), (tangents[0],))
        _, f_lin = linearize(lambda v: f_at(consts, v), x)

        def linear(v: Any) -> Any:
            return tree.unflatten(treedef, f_lin(tree.leaves(v)))

        rhs = tree.unflatten(treedef, [-m for m in moved])
        return x, tree.leaves(tangent_solve(linear, rhs))

    return tree.unflatten(treedef, root(tuple(captured), handles))


def _evaluate(body: Body, consts: tuple, x: list[Any]) -> list[Any]:
    from_handles = [as_handle(v, "custom_root: a value")._v for v in (*consts, *x)]
    return evaluate(body.graph, from_handles)
