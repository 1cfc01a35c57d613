"""Line searches: how far to go along updates, from the values of the function there.

They come last in a chain, and their `update` takes the function and what is known of it:
`tx.update(grads, state, params, value=value, grad=grads, value_fn=f)`. The state keeps the value
and the gradient found at the new parameters, which `value_and_grad_from_state` uses.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import bevel.numpy as bnp
from bevel import debug, lax
from bevel.api.derivatives import value_and_grad
from bevel.core import dtypes
from bevel.core import tree as _tree
from bevel.numpy.convert import enter
from bevel.optim import tree
from bevel.optim.base import GradientTransformationExtraArgs, params_of, safe_increment


class BacktrackingLinesearchInfo(NamedTuple):
    """How many steps were tried, and by how much the last one failed to decrease the value."""

    num_linesearch_steps: Any
    decrease_error: Any


class ScaleByBacktrackingLinesearchState(NamedTuple):
    """The last step size, and the value and gradient (if stored) it led to."""

    learning_rate: Any
    value: Any
    grad: Any
    info: BacktrackingLinesearchInfo


class ZoomLinesearchInfo(NamedTuple):
    """How many steps were tried, and by how much the last one failed each of Wolfe's conditions."""

    num_linesearch_steps: Any
    decrease_error: Any
    curvature_error: Any


class ScaleByZoomLinesearchState(NamedTuple):
    """The last step size, and the value and gradient it led to."""

    learning_rate: Any
    value: Any
    grad: Any
    info: ZoomLinesearchInfo


def _function_of(name: str, value_fn: Callable[..., Any], extra: dict[str, Any]) -> Any:
    """The function of the parameters alone; it takes all extra arguments, or the call is wrong."""
    unknown = sorted(set(extra) - set(inspect.signature(value_fn).parameters))
    if unknown:
        raise TypeError(
            f"{name}: update got {', '.join(unknown)}, which value_fn does not take.\n"
            "Write instead: value_fn=lambda params, batch: loss(params, batch), and batch=batch."
        )
    return lambda params: value_fn(params, **extra)


def _real_dtype(params: Any) -> Any:
    return bnp.real(bnp.zeros((), enter(_tree.leaves(params)[0]).dtype)).dtype


def wide_dtype(params: Any) -> Any:
    """That of numbers computed from parameters: theirs, real, and at least float32."""
    return dtypes.promote_types(_real_dtype(params), dtypes.float32)


def _error(x: Any) -> Any:
    """How far above zero; infinite if it is not a number."""
    return bnp.where(bnp.isnan(x), bnp.inf, bnp.maximum(x, 0.0))


def _slope(grad: Any, updates: Any) -> Any:
    return bnp.real(enter(tree.vdot(tree.conj(grad), updates)))


# -- backtracking ----------------------------------------------------------------------------------


class _Backtracking(NamedTuple):
    learning_rate: Any
    value: Any
    decrease_error: Any
    count: Any


def scale_by_backtracking_linesearch(
    max_backtracking_steps: int,
    slope_rtol: Any = 1e-4,
    decrease_factor: Any = 0.8,
    increase_factor: Any = 1.5,
    max_learning_rate: Any = 1.0,
    atol: Any = 0.0,
    rtol: Any = 0.0,
    store_grad: bool = False,
    verbose: bool = False,
) -> GradientTransformationExtraArgs:
    """Shrinks the step until the value decreases enough (Armijo, 1966; Vaswani et al., "Painless
    Stochastic Gradient", 2019, arXiv:1905.09997).

    `update` takes `value`, `grad` and `value_fn`, and what else `value_fn` takes.

    Args:
        max_backtracking_steps: how often to shrink.
        slope_rtol: least decrease, relative to what the slope promises.
        decrease_factor: factor of a shrink.
        increase_factor: of the first try, over the step size before.
        max_learning_rate: largest step size.
        atol: by how much the decrease may be missed.
        rtol: by how much the value may rise, relative to itself.
        store_grad: keep the gradient at the new parameters.
        verbose: print a line if no step size was found.

    Raises:
        TypeError: (in update) `value_fn` does not take an extra argument.

    >>> from bevel import optim
    >>> f = lambda x: (x**2).sum()
    >>> tx = optim.chain(optim.sgd(1.0), optim.scale_by_backtracking_linesearch(15))
    >>> x = bnp.array([1.0, 2.0])
    >>> value, grad = bv.value_and_grad(f)(x)
    >>> u, state = tx.update(grad, tx.init(x), x, value=value, grad=grad, value_fn=f)
    >>> f(x + u) < value
    Array(True, dtype=bool)
    """

    def init(params: Any) -> ScaleByBacktrackingLinesearchState:
        dtype = _real_dtype(params)
        inf = bnp.array(bnp.inf, dtype)
        return ScaleByBacktrackingLinesearchState(
            bnp.ones((), dtype),
            inf,
            tree.zeros_like(params) if store_grad else None,
            BacktrackingLinesearchInfo(bnp.zeros((), int), inf),
        )

    def update(
        updates: Any,
        state: Any,
        params: Any = None,
        *,
        value: Any,
        grad: Any,
        value_fn: Callable[..., Any],
        **extra: Any,
    ) -> tuple[Any, ScaleByBacktrackingLinesearchState]:
        params = params_of("scale_by_backtracking_linesearch", params)
        f = _function_of("scale_by_backtracking_linesearch", value_fn, extra)
        slope = _slope(grad, updates)

        def going(s: _Backtracking) -> Any:
            return ~(s.decrease_error <= atol) & (s.count <= max_backtracking_steps)

        def shrink(s: _Backtracking) -> _Backtracking:
            rate = bnp.where(s.count > 0, decrease_factor, 1.0) * s.learning_rate
            new = f(tree.add_scale(params, rate, updates))
            missed = new - (1.0 + rtol) * value - rate * slope_rtol * slope
            return tree.cast_like(_Backtracking(rate, new, _error(missed), s.count + 1), s)

        dtype = state.value.dtype
        first = _Backtracking(
            bnp.minimum(increase_factor * state.learning_rate, max_learning_rate).astype(dtype),
            enter(value).astype(dtype),
            bnp.array(bnp.inf, dtype),
            bnp.zeros((), int),
        )
        last = lax.while_loop(going, shrink, first)
        new_grad = None
        if store_grad:
            new_grad = value_and_grad(f)(tree.add_scale(params, last.learning_rate, updates))[1]
        rate = bnp.where(bnp.isinf(last.decrease_error), 0.0, last.learning_rate)
        if verbose:
            _report("scale_by_backtracking_linesearch", last.decrease_error > atol, rate, slope)
        new = ScaleByBacktrackingLinesearchState(
            rate,
            last.value,
            new_grad,
            BacktrackingLinesearchInfo(last.count, last.decrease_error),
        )
        return tree.scale(rate, updates), tree.cast_like(new, state)

    return GradientTransformationExtraArgs(init, update)


def _report(name: str, failed: Any, rate: Any, slope: Any) -> None:
    """A line if the search failed."""

    def show(bad: Any, rate: Any, slope: Any) -> None:
        if bad:
            print(
                f"{name}: no step size decreases the value enough; took {float(rate):.3g} along a "
                f"slope of {float(slope):.3g}" + (" (it should be negative)" if slope >= 0 else "")
            )

    debug.callback(show, failed, rate, slope)


# -- zoom ------------------------------------------------------------------------------------------


class _Point(NamedTuple):
    """A step size, and the value and slope there."""

    step: Any
    value: Any
    slope: Any


class _Safe(NamedTuple):
    """The best step so far that decreases the value enough."""

    step: Any
    value: Any
    grad: Any


class _Search(NamedTuple):
    count: Any
    trial: _Point
    grad: Any
    low: _Point
    high: _Point
    reference: _Point
    safe: _Safe
    decrease_error: Any
    curvature_error: Any
    found: Any
    done: Any
    failed: Any


def _cubic_minimum(a: _Point, b: _Point, c: _Point) -> Any:
    """Of the cubic through a, b and c with the slope of a."""
    db, dc = b.step - a.step, c.step - a.step
    fb, fc = b.value - a.value - a.slope * db, c.value - a.value - a.slope * dc
    scale = (db * dc) ** 2 * (db - dc)
    cube = (dc**2 * fb - db**2 * fc) / scale
    square = (db**3 * fc - dc**3 * fb) / scale
    return a.step + (bnp.sqrt(square**2 - 3.0 * cube * a.slope) - square) / (3.0 * cube)


def _quadratic_minimum(a: _Point, b: _Point) -> Any:
    """Of the parabola through a and b with the slope of a."""
    d = b.step - a.step
    square = (b.value - a.value - a.slope * d) / d**2
    return a.step - a.slope / (2.0 * square)


def _between(low: _Point, high: _Point, reference: _Point) -> Any:
    """The minimum of a cubic, else of a parabola, else the middle: what lies well inside."""
    width = abs(high.step - low.step)
    left, right = bnp.minimum(high.step, low.step), bnp.maximum(high.step, low.step)

    def inside(x: Any, margin: float) -> Any:
        return (x > left + margin * width) & (x < right - margin * width)

    cubic, parabola = _cubic_minimum(low, high, reference), _quadratic_minimum(low, high)
    other = bnp.where(inside(parabola, 0.1), parabola, (low.step + high.step) / 2)
    return bnp.where(inside(cubic, 0.2), cubic, other)


@dataclasses.dataclass(frozen=True)
class _Wolfe:
    """The search for a step that satisfies Wolfe's conditions; see `scale_by_zoom_linesearch`."""

    max_linesearch_steps: int
    max_learning_rate: Any
    tol: Any
    increase_factor: Any
    slope_rtol: Any
    curv_rtol: Any
    approx_dec_rtol: Any
    stepsize_precision: Any

    def errors(self, new: _Point, start: _Point) -> tuple[Any, Any]:
        missed = new.value - start.value - self.slope_rtol * new.step * start.slope
        if self.approx_dec_rtol is not None:
            flat = new.slope - (2 * self.slope_rtol - 1.0) * start.slope
            rise = new.value - start.value - self.approx_dec_rtol * abs(start.value)
            missed = bnp.minimum(bnp.maximum(flat, rise), missed)
        return _error(missed), _error(abs(new.slope) - self.curv_rtol * abs(start.slope))

    def widen(self, s: _Search, guess: Any, at: Callable[[Any], Any], start: _Point) -> _Search:
        """Tries larger steps until the minimum lies between two of them."""
        step = bnp.where(s.count == 0, guess, self.increase_factor * s.trial.step)
        at_end: Any = False
        if self.max_learning_rate is not None:
            at_end, step = step >= self.max_learning_rate, bnp.minimum(step, self.max_learning_rate)
        new, grad = at(step)
        decrease, curvature = self.errors(new, start)
        good = bnp.maximum(decrease, curvature) <= self.tol
        above = (decrease > 0) | ((new.value >= s.trial.value) & (s.count > 0))
        past = (new.slope >= 0) & ~above
        found = above | past | good
        done = good | (at_end & ~found)
        low = tree.where(past, new, s.trial)
        return _Search(
            count=safe_increment(s.count),
            trial=new,
            grad=grad,
            low=low,
            high=tree.where(past, s.trial, new),
            reference=low,
            safe=tree.where(decrease <= self.tol, _Safe(new.step, new.value, grad), s.safe),
            decrease_error=decrease,
            curvature_error=curvature,
            found=found,
            done=done,
            failed=(s.count + 1 >= self.max_linesearch_steps) & ~done,
        )

    def narrow(self, s: _Search, at: Callable[[Any], Any], start: _Point) -> _Search:
        """Tries a step inside of the interval, which then ends there."""
        low, high = s.low, s.high
        new, grad = at(_between(low, high, s.reference))
        decrease, curvature = self.errors(new, start)
        done = bnp.maximum(decrease, curvature) <= self.tol
        better = (decrease <= self.tol) & (new.value < s.safe.value)
        safe = tree.where(better, _Safe(new.step, new.value, grad), s.safe)
        above = (decrease > 0) | (new.value >= low.value)
        turned = (new.slope * (high.step - low.step) >= 0) & ~above
        short = (abs(high.step - low.step) <= self.stepsize_precision) & (safe.step > 0)
        return _Search(
            count=safe_increment(s.count),
            trial=new,
            grad=grad,
            low=tree.where(above, low, new),
            high=tree.where(above, new, tree.where(turned, low, high)),
            reference=tree.where(above | turned, high, low),
            safe=safe,
            decrease_error=decrease,
            curvature_error=curvature,
            found=s.found,
            done=done,
            failed=((s.count + 1 >= self.max_linesearch_steps) | short) & ~done,
        )

    def search(
        self, f: Any, params: Any, updates: Any, value: Any, grad: Any, guess: Any
    ) -> _Search:
        def at(step: Any) -> tuple[_Point, Any]:
            value, grad = value_and_grad(f)(tree.add_scale(params, step, updates))
            return _Point(step, value, _slope(grad, updates)), grad

        wide = wide_dtype(params)
        zero, inf = bnp.zeros((), wide), bnp.array(bnp.inf, wide)
        slope = bnp.real(enter(tree.vdot(updates, grad)))
        start = _Point(bnp.zeros((), slope.dtype), enter(value).astype(slope.dtype), slope)
        no = bnp.array(False)
        first = _Search(
            count=bnp.zeros((), int),
            trial=start,
            grad=grad,
            low=start,
            high=start,
            reference=start,
            safe=_Safe(zero, start.value, grad),
            decrease_error=inf,
            curvature_error=inf,
            found=no,
            done=no,
            failed=no,
        )

        def step(s: _Search) -> _Search:
            return tree.cast_like(
                lax.cond(
                    s.found,
                    lambda s: tree.cast_like(self.narrow(s, at, start), s),
                    lambda s: tree.cast_like(self.widen(s, guess, at, start), s),
                    s,
                ),
                s,
            )

        return lax.while_loop(lambda s: ~(s.done | s.failed), step, first)


def scale_by_zoom_linesearch(
    max_linesearch_steps: int,
    max_learning_rate: Any = None,
    tol: Any = 0.0,
    increase_factor: Any = 2.0,
    slope_rtol: Any = 1e-4,
    curv_rtol: Any = 0.9,
    approx_dec_rtol: Any = 1e-6,
    stepsize_precision: Any = 1e-5,
    initial_guess_strategy: str = "keep",
    verbose: bool = False,
) -> GradientTransformationExtraArgs:
    """Looks for a step that satisfies Wolfe's strong conditions (Nocedal and Wright, "Numerical
    Optimization", 2006, algorithms 3.5 and 3.6; approximate decrease by Hager and Zhang, 2006,
    doi:10.1145/1132973.1132979).

    `update` takes `value`, `grad` and `value_fn`, and what else `value_fn` takes.

    Args:
        max_linesearch_steps: how many steps to try.
        max_learning_rate: largest step size, or None.
        tol: by how much the conditions may be missed.
        increase_factor: of the step while no interval is found.
        slope_rtol: least decrease, relative to what the slope promises.
        curv_rtol: largest slope at the end, relative to that at the start.
        approx_dec_rtol: how much the value may rise, relative to itself, if the slope shows a
            decrease; None to not allow it.
        stepsize_precision: stop at intervals that are shorter, if some step decreases the value.
        initial_guess_strategy: the first try: "keep" the last step size, or "one".
        verbose: print a line if no step size was found.

    Raises:
        ValueError: no such strategy.
        TypeError: (in update) `value_fn` does not take an extra argument.

    >>> from bevel import optim
    >>> f = lambda x: (x**2).sum()
    >>> tx = optim.chain(optim.sgd(1.0), optim.scale_by_zoom_linesearch(15))
    >>> x = bnp.array([1.0, 2.0])
    >>> value, grad = bv.value_and_grad(f)(x)
    >>> u, state = tx.update(grad, tx.init(x), x, value=value, grad=grad, value_fn=f)
    >>> (x + u).round(3)
    Array([0., 0.], dtype=float32)
    """
    if initial_guess_strategy not in ("one", "keep"):
        raise ValueError(
            "scale_by_zoom_linesearch: initial_guess_strategy is 'one' or 'keep', not "
            f"{initial_guess_strategy!r}"
        )
    wolfe = _Wolfe(
        max_linesearch_steps,
        max_learning_rate,
        tol,
        increase_factor,
        slope_rtol,
        curv_rtol,
        approx_dec_rtol,
        stepsize_precision,
    )

    def init(params: Any) -> ScaleByZoomLinesearchState:
        dtype, inf = _real_dtype(params), bnp.array(bnp.inf, wide_dtype(params))
        return ScaleByZoomLinesearchState(
            bnp.ones((), dtype),
            bnp.array(bnp.inf, dtype),
            tree.zeros_like(params),
            ZoomLinesearchInfo(bnp.zeros((), int), inf, inf),
        )

    def update(
        updates: Any,
        state: Any,
        params: Any = None,
        *,
        value: Any,
        grad: Any,
        value_fn: Callable[..., Any],
        **extra: Any,
    ) -> tuple[Any, ScaleByZoomLinesearchState]:
        params = params_of("scale_by_zoom_linesearch", params)
        f = _function_of("scale_by_zoom_linesearch", value_fn, extra)
        guess = 1.0 if initial_guess_strategy == "one" else state.learning_rate
        grad = tree.cast_like(grad, state.grad)
        last = wolfe.search(f, params, updates, value, grad, guess)
        fall_back = last.failed & ((last.safe.step > 0) | bnp.isinf(last.decrease_error))
        rate, new_value, new_grad = tree.where(
            fall_back, last.safe, _Safe(last.trial.step, last.trial.value, last.grad)
        )
        if verbose:
            _report("scale_by_zoom_linesearch", last.failed, rate, _slope(grad, updates))
        new = ScaleByZoomLinesearchState(
            rate,
            new_value,
            new_grad,
            ZoomLinesearchInfo(last.count, last.decrease_error, last.curvature_error),
        )
        return tree.scale(rate, updates), tree.cast_like(new, state)

    return GradientTransformationExtraArgs(init, update)


def value_and_grad_from_state(value_fn: Callable[..., Any]) -> Callable[..., tuple[Any, Any]]:
    """`bv.value_and_grad`, without computing what a line search left in the optimizer's state.

    The function returned takes the arguments of `value_fn`, and `state`.

    Raises:
        ValueError: (when called) the state holds no value or no gradient.

    >>> from bevel import optim
    >>> f = lambda x: (x**2).sum()
    >>> tx, x = optim.lbfgs(), bnp.array([1.0, 2.0])
    >>> value, grad = optim.value_and_grad_from_state(f)(x, state=tx.init(x))
    >>> value, grad
    (Array(5., dtype=float32), Array([2., 4.], dtype=float32))
    """

    def from_state(params: Any, *args: Any, state: Any, **kwargs: Any) -> tuple[Any, Any]:
        value, grad = tree.get(state, "value"), tree.get(state, "grad")
        if value is None or grad is None:
            raise ValueError(
                "value_and_grad_from_state: the state holds no value and gradient.\n"
                "Write instead: a chain that ends in scale_by_zoom_linesearch(20), or in "
                "scale_by_backtracking_linesearch(20, store_grad=True)."
            )
        return lax.cond(
            bnp.isfinite(value),
            lambda: (value, grad),
            lambda: value_and_grad(value_fn)(params, *args, **kwargs),
        )

    return from_state
