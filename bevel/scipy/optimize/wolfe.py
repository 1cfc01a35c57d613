"""A line search for the strong Wolfe conditions: a step that lowers the function enough and leaves
a slope that is flat enough.

J. Nocedal and S. Wright, "Numerical Optimization", algorithms 3.5 and 3.6, in one loop that
evaluates the function at one place. Where the decrease drowns in rounding, the slope decides (W.
Hager and H. Zhang, SIAM J. Optim. 16, 2005, the approximate Wolfe conditions).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import bevel.numpy as bnp
from bevel.core import dtypes, tree
from bevel.lax.loops import while_loop

_DECREASE, _CURVATURE = 1e-4, 0.9
_MOST_CUTS = 30
ZOOM_FAILED, TOO_MANY_STEPS = 1, 3


class Point(NamedTuple):
    """A step, the function there, its slope along the line, and its gradient."""

    step: Any
    value: Any
    slope: Any
    grad: Any


class _Search(NamedTuple):
    low: Point
    high: Point
    zooming: Any
    done: Any
    count: Any
    cuts: Any


def _choose(test: Any, yes: Any, no: Any) -> Any:
    return tree.map(lambda a, b: bnp.where(test, a, b), yes, no)


def _between(low: Point, high: Point) -> Any:
    """The minimum of the cubic through both points, or the middle where it lies at an end."""
    width = high.step - low.step
    mean = low.slope + high.slope - 3 * (high.value - low.value) / width
    root = bnp.sqrt(bnp.maximum(mean * mean - low.slope * high.slope, 0)) * bnp.sign(width)
    share = 1 - (high.slope + root - mean) / (high.slope - low.slope + 2 * root)
    return low.step + bnp.where((share > 0.1) & (share < 0.9), share, 0.5) * width


def line_search(
    evaluate: Callable[[Any], tuple[Any, Any]],
    x: Any,
    direction: Any,
    value: Any,
    grad: Any,
    first: Any,
    maxiter: int,
) -> tuple[Point, Any, Any]:
    """A step along a direction, from `value` and `grad` at `x`, and with `first` tried first.

    Returns the point found (the best one where none satisfies the conditions), 0 or why there is
    none (`ZOOM_FAILED`, `TOO_MANY_STEPS`), and the number of evaluations.
    """
    start = Point(bnp.zeros_like(value), value, (grad * direction).sum(), grad)
    eps = float(dtypes.finfo(np.dtype(value.dtype)).eps)
    slack = 2 * eps * abs(value)

    def go_on(s: _Search) -> Any:
        least = eps * bnp.maximum(s.high.step, s.low.step)
        narrow = s.zooming & (abs(s.high.step - s.low.step) <= least)
        more = (s.count < maxiter) | s.zooming
        return ~s.done & more & (s.cuts < _MOST_CUTS) & ~narrow

    def step(s: _Search) -> _Search:
        longer = bnp.where(s.count == 0, first, 2 * s.low.step)
        a = bnp.where(s.zooming, _between(s.low, s.high), longer)
        found, g = evaluate(x + a * direction)
        here = Point(a, found, (g * direction).sum(), g)
        level = (found <= value + slack) & (here.slope <= (2 * _DECREASE - 1) * start.slope)
        lower = found <= value + _DECREASE * a * start.slope
        beyond = (found >= s.low.value) & (s.zooming | (s.count > 0))
        bad = ~level & (~lower | beyond)
        flat = abs(here.slope) <= -_CURVATURE * start.slope
        ahead = bnp.where(s.zooming, s.high.step - s.low.step, 1)
        passed = here.slope * ahead >= 0
        high = _choose(bad, here, _choose(passed, s.low, s.high))
        return _Search(
            low=_choose(bad, s.low, here),
            high=high,
            zooming=s.zooming | bad | passed,
            done=~bad & flat,
            count=s.count + ~s.zooming,
            cuts=s.cuts + s.zooming,
        )

    no = bnp.array(False)
    zero = bnp.zeros((), dtype=np.int32)
    found = while_loop(go_on, step, _Search(start, start, no, no, zero, zero))
    why = bnp.where(found.zooming, ZOOM_FAILED, TOO_MANY_STEPS)
    return found.low, bnp.where(found.done, 0, why), found.count + found.cuts
