"""Quasi-Newton methods: steps from the gradient and an estimate of the inverse Hessian."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

import bevel.numpy as bnp
from bevel.api.derivatives import value_and_grad
from bevel.core import dtypes
from bevel.core.errors import ShapeError
from bevel.lax.elementwise import complex
from bevel.lax.loops import fori_loop, while_loop
from bevel.scipy.operands import inexacts
from bevel.scipy.optimize.wolfe import line_search

_product = functools.partial(bnp.matmul, precision="highest")


class OptimizeResults(NamedTuple):
    """Where a minimization ended; a pytree.

    Attributes:
        x: the place, of the shape and dtype of `x0`.
        success: bool, whether the gradient is small enough.
        status: int32, 0 if so. For "BFGS": 1 for `maxiter`, 3 if no step along the line is good
            enough, 5 if the line search went on too long. For "l-bfgs": 1 for `maxiter`, 2 for
            `maxfun`, 3 for `maxgrad`, 4 if the function hardly falls (`ftol`), 5 if the line search
            failed.
        fun: the function there.
        jac: its gradient.
        hess_inv: the estimate of the inverse Hessian, for "BFGS"; otherwise None.
        nfev: evaluations of the function.
        njev: evaluations of the gradient.
        nit: steps.

    >>> from bevel.scipy.optimize import OptimizeResults
    >>> OptimizeResults._fields[:4]
    ('x', 'success', 'status', 'fun')
    """

    x: Any
    success: Any
    status: Any
    fun: Any
    jac: Any
    hess_inv: Any
    nfev: Any
    njev: Any
    nit: Any


class _Method(NamedTuple):
    """What a quasi-Newton method remembers, and how it is used and brought up to date."""

    memory: Any
    direction: Callable[[Any, Any, Any], Any]
    update: Callable[[Any, Any, Any, Any], Any]
    status: Callable[..., Any]


class _State(NamedTuple):
    x: Any
    value: Any
    grad: Any
    memory: Any
    count: Any
    calls: Any
    converged: Any
    status: Any


def _curvature(s: Any, y: Any) -> tuple[Any, Any, Any]:
    """The products y.s and y.y, and whether there is a curvature to learn from."""
    ys, yy = (y * s).sum(), (y * y).sum()
    good = (ys > 0) & bnp.isfinite(yy)
    return bnp.where(good, ys, 1), bnp.where(good, yy, 1), good


# -- BFGS ----------------------------------------------------------------------------------------


def _bfgs_update(inverse: Any, s: Any, y: Any, count: Any) -> Any:
    ys, yy, good = _curvature(s, y)
    scaled = inverse * bnp.where(count == 0, ys / yy, 1)  # the first estimate is the identity
    turn = bnp.eye(s.shape[0], dtype=s.dtype) - s[:, None] * (y / ys)
    new = _product(_product(turn, scaled), turn.T) + s[:, None] * (s / ys)
    return bnp.where(good, new, inverse)


def _bfgs(n: int, dtype: Any, maxiter: Any) -> _Method:
    def status(search: Any, count: Any, **_: Any) -> Any:
        return bnp.where(search > 0, 2 + search, bnp.where(count >= maxiter, 1, 0))

    eye = bnp.eye(n, dtype=dtype)
    return _Method(eye, lambda h, g, _: -_product(h, g), _bfgs_update, status)


# -- L-BFGS --------------------------------------------------------------------------------------


class _Pairs(NamedTuple):
    """The last steps s and changes of the gradient y, the newest last; 1 / y.s is 0 for none."""

    s: Any
    y: Any
    inverse: Any
    scale: Any


def _two_loops(pairs: _Pairs, grad: Any, count: Any) -> Any:
    """Minus the estimated inverse Hessian times the gradient (Nocedal and Wright, algorithm 7.4).

    A pair that is not there has the weight 0.
    """
    size = pairs.inverse.shape[0]

    def back(i: Any, state: tuple[Any, Any]) -> tuple[Any, Any]:
        q, weights = state
        j = size - 1 - i
        weight = pairs.inverse[j] * (pairs.s[j] * q).sum()
        return q - weight * pairs.y[j], weights.at[j].set(weight)

    def forth(j: Any, q: Any) -> Any:
        weight = pairs.inverse[j] * (pairs.y[j] * q).sum()
        return q + (weights[j] - weight) * pairs.s[j]

    q, weights = fori_loop(0, size, back, (-grad, bnp.zeros_like(pairs.inverse)))
    return fori_loop(0, size, forth, pairs.scale * q)


def _remember(pairs: _Pairs, s: Any, y: Any, count: Any) -> _Pairs:
    ys, yy, good = _curvature(s, y)

    def pushed(old: Any, new: Any) -> Any:
        return bnp.where(good, bnp.concatenate([old[1:], new[None]]), old)

    return _Pairs(
        pushed(pairs.s, s),
        pushed(pairs.y, y),
        pushed(pairs.inverse, 1 / ys),
        bnp.where(good, ys / yy, pairs.scale),
    )


def _lbfgs(
    n: int, dtype: Any, maxiter: Any, maxcor: int, ftol: Any, maxfun: Any, maxgrad: Any
) -> _Method:
    def status(search: Any, count: Any, calls: Any, fall: Any) -> Any:
        reasons = [search > 0, count >= maxiter, calls >= maxfun, calls >= maxgrad, fall < ftol]
        return bnp.select(reasons, [5, 1, 2, 3, 4], 0)

    zeros = bnp.zeros((maxcor, n), dtype=dtype)
    pairs = _Pairs(zeros, zeros, zeros[:, 0], bnp.ones((), dtype=dtype))
    return _Method(pairs, _two_loops, _remember, status)


# -- the loop of both ----------------------------------------------------------------------------


def _descend(
    evaluate: Callable[[Any], tuple[Any, Any]],
    x: Any,
    method: _Method,
    norm: Any,
    gtol: Any,
    most_steps: int,
) -> _State:
    def small(grad: Any) -> Any:
        return bnp.linalg.norm(grad, norm) < gtol

    def go_on(s: _State) -> Any:
        return ~s.converged & (s.status == 0)

    def step(s: _State) -> _State:
        direction = method.direction(s.memory, s.grad, s.count)
        short = bnp.minimum(1.0, 1 / bnp.linalg.norm(s.grad))
        first = bnp.where(s.count == 0, short, 1.0).astype(s.value.dtype)
        point, search, calls = line_search(
            evaluate, s.x, direction, s.value, s.grad, first, most_steps
        )
        moved, calls = point.step * direction, s.calls + calls
        converged = small(point.grad)
        why = method.status(
            search=search, count=s.count + 1, calls=calls, fall=s.value - point.value
        )
        return _State(
            x=s.x + moved,
            value=point.value,
            grad=point.grad,
            memory=method.update(s.memory, moved, point.grad - s.grad, s.count),
            count=s.count + 1,
            calls=calls,
            converged=converged,
            status=bnp.where(converged, 0, why).astype(np.int32),
        )

    value, grad = evaluate(x)
    zero = bnp.zeros((), dtype=np.int32)
    start = _State(x, value, grad, method.memory, zero, zero + 1, small(grad), zero)
    return while_loop(go_on, step, start)


def _options(tol: Any, given: Mapping[str, Any] | None, known: dict[str, Any]) -> dict[str, Any]:
    """The options of a method: its defaults, `tol` for its tolerances, then those given."""
    given = dict(given or {})
    unknown = [name for name in given if name not in known]
    if unknown:
        raise TypeError(f"minimize: unknown options {unknown}; there are {sorted(known)}")
    if tol is not None:
        known = {k: tol if k in ("gtol", "ftol") else v for k, v in known.items()}
    return known | given


def _minimize_bfgs(evaluate: Callable, x: Any, tol: Any, options: Any) -> tuple[_State, Any]:
    n = x.shape[0]
    known = dict(maxiter=None, norm=math.inf, gtol=1e-5, line_search_maxiter=10)
    o = _options(tol, options, known)
    method = _bfgs(n, x.dtype, 200 * n if o["maxiter"] is None else o["maxiter"])
    found = _descend(evaluate, x, method, o["norm"], o["gtol"], o["line_search_maxiter"])
    return found, found.memory


def _minimize_lbfgs(evaluate: Callable, x: Any, tol: Any, options: Any) -> tuple[_State, Any]:
    n = x.shape[0]
    limits = dict(maxiter=None, maxfun=None, maxgrad=None)
    known = dict(norm=math.inf, maxcor=10, ftol=2.220446049250313e-09, gtol=1e-5, maxls=20)
    o = _options(tol, options, limits | known)
    if all(o[k] is None for k in limits):
        o["maxiter"] = 200 * n
    maxiter, maxfun, maxgrad = (math.inf if o[k] is None else o[k] for k in limits)
    method = _lbfgs(n, x.dtype, maxiter, o["maxcor"], o["ftol"], maxfun, maxgrad)
    return _descend(evaluate, x, method, o["norm"], o["gtol"], o["maxls"]), None


_METHODS = {
    "bfgs": _minimize_bfgs,
    "l-bfgs": _minimize_lbfgs,
    "l-bfgs-experimental-do-not-rely-on-this": _minimize_lbfgs,  # JAX's name for it
}


def minimize(
    fun: Callable[..., Any],
    x0: Any,
    args: tuple = (),
    *,
    method: str,
    tol: float | None = None,
    options: Mapping[str, Any] | None = None,
) -> OptimizeResults:
    """A local minimum of a function of a vector, by its gradient, which is derived here.

    J. Nocedal and S. Wright, "Numerical Optimization", algorithms 6.1 and 7.5, with a line search
    for the strong Wolfe conditions. Compiles inside `jit` and maps under `vmap`; not
    differentiable (differentiate the condition that the gradient is zero, with `lax.custom_root`).

    Args:
        fun: `fun(x, *args)` gives a real number.
        x0: where to start, shape (n,); for "l-bfgs" it may be complex.
        args: further arguments of `fun`.
        method: "BFGS", or "l-bfgs", which remembers `maxcor` steps in place of an n by n matrix.
        tol: sets `gtol`, and `ftol` for "l-bfgs".
        options: `maxiter` (200 n), `gtol` (1e-5: the norm of the gradient to end at) and `norm`
            (inf); for "BFGS" also `line_search_maxiter` (10); for "l-bfgs" `maxcor` (10), `ftol`
            (the least fall of the function to go on), `maxfun`, `maxgrad` and `maxls` (20).

    Raises:
        ShapeError: `x0` is no vector.
        TypeError: `args` is no tuple, or an unknown option.
        ValueError: another method.

    >>> from bevel.scipy.optimize import minimize
    >>> found = minimize(lambda x, a: ((x - a) ** 2).sum(), bnp.zeros(2), (3.0,), method="BFGS")
    >>> bnp.round(found.x), bool(found.success)
    (Array([3., 3.], dtype=float32), True)
    """
    if not isinstance(args, tuple):
        raise TypeError(f"minimize: args must be a tuple, got {args!r}; write args=(a,)")
    run = _METHODS.get(method.lower())
    if run is None:
        raise ValueError(f"minimize: method must be 'BFGS' or 'l-bfgs', got {method!r}")
    (x,) = inexacts("minimize", x0)
    if x.ndim != 1:
        raise ShapeError(
            f"minimize: x0 has shape {x.shape}, and it must be a vector.\n"
            "Write instead: minimize(lambda x: fun(x.reshape(shape)), x0.reshape(-1), ...)"
        )
    dtype, n = np.dtype(x.dtype), x.shape[0]
    is_complex = dtypes.is_complex(dtype)
    if is_complex and run is _minimize_bfgs:
        raise TypeError("minimize: 'BFGS' takes a real x0; write method='l-bfgs' for complex ones")

    def whole(x: Any) -> Any:
        return complex(x[:n], x[n:]) if is_complex else x

    def value(x: Any) -> Any:
        return fun(whole(x), *args)

    def evaluate(x: Any) -> tuple[Any, Any]:
        found, grad = value_and_grad(value)(x)
        return found.astype(grad.dtype), grad

    start = bnp.concatenate([x.real, x.imag]) if is_complex else x
    found, inverse = run(evaluate, start, tol, options)
    grad = whole(found.grad)
    return OptimizeResults(
        x=whole(found.x),
        success=found.converged,
        status=found.status,
        fun=found.value,
        jac=grad.conj() if is_complex else grad,
        hess_inv=inverse,
        nfev=found.calls,
        njev=found.calls,
        nit=found.count,
    )
