"""Solutions of equations, differentiated by the implicit function theorem."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from bevel.api.body import Body, unify_captured
from bevel.api.custom import custom_jvp
from bevel.api.derivatives import jvp, linear_transpose, linearize
from bevel.api.flat import Output, flatten_handles, name_of, type_name
from bevel.control.solve import linear_solve
from bevel.core import tree
from bevel.core.aval import aval_of
from bevel.core.graph import evaluate
from bevel.core.handle import Handle, wrap


def _named(like: Callable[..., Any], fun: Callable[..., Any]) -> Callable[..., Any]:
    """A function under the name of another, for messages."""
    fun.__name__ = name_of(like)
    return fun


def _result(what: str, fun: Callable[..., Any], found: Any, like: Sequence[Handle], treedef: Any):
    """Handles on the leaves of what a function returned, which must be of a type."""
    name = f"{what}: {name_of(fun)}"
    handles, structure = flatten_handles(found, f"{name}: a result")
    if structure != treedef:
        raise TypeError(
            f"{name} returned the structure {structure}, and it must be that of the vector it is "
            f"for, {treedef}"
        )
    for h, wanted in zip(handles, like, strict=True):
        if aval_of(h._v) != aval_of(wanted._v):
            raise TypeError(
                f"{name} returned {type_name(h)}, and it must be of the type of the vector it is "
                f"for, {type_name(wanted)}.\nWrite instead: .astype or reshape one of them."
            )
    return handles


def _pair(what: str, found: Any) -> tuple[Any, Any]:
    if not (isinstance(found, tuple | list) and len(found) == 2):
        raise TypeError(
            f"{what}: with has_aux=True, solve returns a pair (x, auxiliary data), not "
            f"{type(found).__name__}"
        )
    return found[0], found[1]


def custom_linear_solve(
    matvec: Callable[[Any], Any],
    b: Any,
    solve: Callable[[Callable[[Any], Any], Any], Any],
    transpose_solve: Callable[[Callable[[Any], Any], Any], Any] | None = None,
    symmetric: bool = False,
    has_aux: bool = False,
) -> Any:
    """`x` with `matvec(x) = b`, found by `solve(matvec, b)` and differentiated implicitly.

    Args:
        matvec: a linear function of a pytree of arrays.
        b: the right-hand side, of the structure and types that `matvec` takes and returns.
        solve: finds x; it is never differentiated.
        transpose_solve: `transpose_solve(vecmat, b)` solves with the transpose; reverse mode needs
            it.
        symmetric: `matvec` is its own transpose, and `solve` serves for both.
        has_aux: `solve` and `transpose_solve` return `(x, aux)`, and so does this function.

    Raises:
        TypeError: the solution has another type than `b`, or reverse mode without
            `transpose_solve`.

    >>> import bevel as bv
    >>> def f(a, b):
    ...     return custom_linear_solve(lambda x: a * x, b, lambda mv, b: b / a, symmetric=True)
    >>> float(f(2.0, 6.0)), float(bv.grad(f)(2.0, 6.0))
    (3.0, -1.5)
    """
    what = "custom_linear_solve"
    handles, treedef = flatten_handles(b, f"{what}: b")
    aux = Output()

    def flat(fun: Callable[[Any], Any], solves: bool) -> Callable[..., Any]:
        def run(*vectors: Any) -> list[Any]:
            found, others = fun(tree.unflatten(treedef, vectors)), []
            if solves and has_aux:
                found, extra = _pair(what, found)
                others = [wrap(v) for v in aux.flatten(extra, what)]
            return [*_result(what, fun, found, handles, treedef), *others]

        return run

    def vecmat(x: Any) -> Any:
        return linear_transpose(matvec, tree.unflatten(treedef, handles))(x)[0]

    back = solve if symmetric else transpose_solve
    functions = [matvec, _named(solve, lambda v: solve(matvec, v))]
    if back is not None:
        functions += [vecmat, _named(back, lambda v: back(vecmat, v))]
    bodies = [Body(what, flat(f, i % 2 == 1), handles) for i, f in enumerate(functions)]
    for body in bodies:
        body.refuse_writes()
    consts, graphs = unify_captured(bodies)
    graphs += [None] * (4 - len(graphs))
    outs = linear_solve(
        *consts,
        *[h._v for h in handles],
        matvec=graphs[0],
        solve=graphs[1],
        vecmat=graphs[2],
        transpose_solve=graphs[3],
        n_consts=len(consts),
    )
    x = tree.unflatten(treedef, [wrap(o) for o in outs[: len(handles)]])
    return (x, aux.unflatten(outs[len(handles) :])) if has_aux else x


def custom_root(
    f: Callable[[Any], Any],
    initial_guess: Any,
    solve: Callable[[Callable[[Any], Any], Any], Any],
    tangent_solve: Callable[[Callable[[Any], Any], Any], Any],
    has_aux: bool = False,
) -> Any:
    """A root of `f`, found by `solve(f, initial_guess)` and differentiated implicitly.

    Args:
        f: its root is wanted; its derivatives are in what it closes over.
        initial_guess: where `solve` starts; the root does not depend on it.
        solve: finds the root, of the types of the guess; it is never differentiated.
        tangent_solve: `tangent_solve(g, y)` solves the linear equation g(x) = y.
        has_aux: `solve` returns `(root, aux)`, and so does this function.

    Raises:
        TypeError: the root, or a tangent, has another type than the guess.

    >>> import bevel as bv
    >>> newton = lambda f, x0: x0 - f(x0) / 2.0
    >>> def double(a):
    ...     return custom_root(lambda x: 2.0 * x - a, 0.0, newton, lambda g, y: y / g(1.0))
    >>> float(double(3.0)), float(bv.grad(double)(3.0))
    (1.5, 0.5)
    """
    what = "custom_root"
    handles, treedef = flatten_handles(initial_guess, f"{what}: initial_guess")
    aux = Output()

    def flat_f(*x: Any) -> list[Any]:
        return _result(what, f, f(tree.unflatten(treedef, x)), handles, treedef)

    body = Body(what, flat_f, handles)
    body.refuse_writes()

    def f_at(consts: Sequence[Any], x: Any) -> list[Any]:
        """The residuals of f, at values of what it closes over."""
        found = _result(what, solve, x, handles, treedef)
        return [wrap(v) for v in evaluate(body.graph, [h._v for h in (*consts, *found)])]

    @functools.partial(custom_jvp, constant_closure=True)
    def root(consts: Sequence[Any], guess: Any) -> Any:
        found, others = solve(lambda x: tree.unflatten(treedef, f_at(consts, x)), guess), []
        if has_aux:
            found, extra = _pair(what, found)
            others = [wrap(v) for v in aux.flatten(extra, what)]
        return tree.unflatten(treedef, _result(what, solve, found, handles, treedef)), others

    @root.defjvp
    def root_jvp(primals: Any, tangents: Any) -> Any:
        consts, guess = primals
        x, others = root(consts, guess)
        _, moved = jvp(lambda c: f_at(c, x), (consts,), (tangents[0],))
        _, f_lin = linearize(lambda v: tree.unflatten(treedef, f_at(consts, v)), x)
        rhs = tree.unflatten(treedef, [-m for m in moved])
        found = _result(what, tangent_solve, tangent_solve(f_lin, rhs), handles, treedef)
        return (x, others), (tree.unflatten(treedef, found), [None] * len(others))

    x, others = root([wrap(c) for c in body.consts], tree.unflatten(treedef, handles))
    return (x, aux.unflatten([h._v for h in others])) if has_aux else x
