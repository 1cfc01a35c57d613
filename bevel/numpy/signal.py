"""Differences, integrals, interpolation and convolution of sampled functions; windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import bevel.ops as ops
from bevel.core import dtypes
from bevel.core.dtypes import bool_, float32
from bevel.core.errors import ShapeError
from bevel.core.handle import logical_shape, wrap
from bevel.core.misfit import misfit
from bevel.numpy import reductions
from bevel.numpy.arguments import axes_of, axis_of, cast, inexact, integer, number
from bevel.numpy.convert import enter, promote
from bevel.numpy.elementwise import absolute, mod
from bevel.numpy.joining import concatenate
from bevel.numpy.logic import not_equal
from bevel.numpy.manipulation import broadcast_to, ravel, reshape
from bevel.numpy.moves import cut_axis
from bevel.numpy.numerics import clip
from bevel.numpy.products import conjugate, precision_of, preferred_of
from bevel.numpy.selection import take, where
from bevel.numpy.sorting import argsort, searchsorted

# -- differences and integrals -------------------------------------------------------------------


def _joined(name: str, x: Any, extra: Any, axis: int, before: bool) -> Any:
    if extra is None:
        return x
    extra = enter(extra)
    shape = logical_shape(x)
    if logical_shape(extra) == ():
        extra = broadcast_to(extra, (*shape[:axis], 1, *shape[axis + 1 :]))
    return concatenate([extra, x] if before else [x, extra], axis)


def diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Any:
    """Differences between neighbours along an axis, taken `n` times; of bool, whether they differ.

    >>> bnp.diff(bnp.array([1, 4, 9]))
    Array([3, 5], dtype=int32)
    """
    x = wrap(number("diff", a))
    n = integer("diff", "n", n)
    if n < 0:
        raise ValueError(f"diff: n must not be negative, got {n}")
    if n == 0:
        return x
    axis = axis_of("diff", axis, len(x.shape))
    x = _joined("diff", x, prepend, axis, True)
    x = _joined("diff", x, append, axis, False)
    for _ in range(n):
        size = x.shape[axis]
        after, before = (
            cut_axis(x, axis, min(1, size), size),
            cut_axis(x, axis, 0, max(size - 1, 0)),
        )
        x = not_equal(after, before) if x.dtype == np.bool_ else after - before
    return x


def ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    """Differences between neighbours of the flattened array, with more elements at either end.

    >>> bnp.ediff1d(bnp.array([1, 4, 9]), to_begin=0)
    Array([0, 3, 5], dtype=int32)
    """
    parts = [None if p is None else ravel(p) for p in (to_begin, to_end)]
    x = ravel(ary)
    if x.dtype == bool_:
        raise TypeError("ediff1d: bools have no difference.\nWrite instead: x.astype(int).")
    out = diff(x)
    whole = [p for p in (parts[0], out, parts[1]) if p is not None]
    return concatenate([p.astype(out.dtype) for p in whole])


def trapezoid(y: Any, x: Any = None, dx: float = 1.0, axis: int = -1) -> Any:
    """Integral along an axis by the trapezoidal rule, over the places `x`, or places `dx` apart.

    >>> bnp.trapezoid(bnp.array([1.0, 2.0, 3.0]))
    Array(4., dtype=float32)
    """
    values = wrap(inexact(number("trapezoid", y)))
    axis = axis_of("trapezoid", axis, len(values.shape))
    n = values.shape[axis]
    width: Any = dx
    if x is not None:
        places = enter(x)
        width = diff(places, axis=axis if len(logical_shape(places)) > 1 else 0)
        if len(width.shape) == 1:
            width = reshape(
                width, tuple([-1 if i == axis else 1 for i in range(len(values.shape))])
            )
    means = (cut_axis(values, axis, min(1, n), n) + cut_axis(values, axis, 0, max(n - 1, 0))) / 2
    return reductions.sum(means * width, axis)


def _weights(h: Any, axis: int, ndim: int) -> Callable:
    """Steps before and after inner points, broadcast along an axis."""

    def pick(start: int, stop: int) -> Any:
        return reshape(h[start:stop], tuple([-1 if i == axis else 1 for i in range(ndim)]))

    return pick


def _gradient(f: Any, h: Any, axis: int, edge_order: int) -> Any:
    """Second-order differences inside, one-sided ones at the ends; `h` is a step, or one step for
    each interval.
    """
    n, ndim = f.shape[axis], len(f.shape)

    def at(start: int, stop: int) -> Any:
        return cut_axis(f, axis, start, stop)

    even = not logical_shape(h)
    step = _weights(broadcast_to(h, (n - 1,)) if even else h, axis, ndim)
    if even:  # the middle sample does not count, also where it is NaN
        inner = (at(2, n) - at(0, n - 2)) / (2 * h)
    else:
        a, b = step(0, n - 2), step(1, n - 1)
        inner = (
            -b / (a * (a + b)) * at(0, n - 2)
            + (b - a) / (a * b) * at(1, n - 1)
            + a / (b * (a + b)) * at(2, n)
        )
    if edge_order == 1:
        first = (at(1, 2) - at(0, 1)) / step(0, 1)
        last = (at(n - 1, n) - at(n - 2, n - 1)) / step(n - 2, n - 1)
    else:
        a, b = step(0, 1), step(1, 2)
        first = (
            -(2 * a + b) / (a * (a + b)) * at(0, 1)
            + (a + b) / (a * b) * at(1, 2)
            - a / (b * (a + b)) * at(2, 3)
        )
        a, b = step(n - 3, n - 2), step(n - 2, n - 1)
        last = (
            b / (a * (a + b)) * at(n - 3, n - 2)
            - (a + b) / (a * b) * at(n - 2, n - 1)
            + (2 * b + a) / (b * (a + b)) * at(n - 1, n)
        )
    return concatenate([first, inner, last], axis)


def gradient(f: Any, *varargs: Any, axis: Any = None, edge_order: int = 1) -> Any:
    """Slopes of a sampled function along axes (None: a list with one for each): central differences
    inside.

    Spacing: one number, one for each axis, or the places of the samples along each. At the ends
    differences are one-sided, of order `edge_order` (1 or 2).

    >>> bnp.gradient(bnp.array([1.0, 2.0, 4.0]))
    Array([1. , 1.5, 2. ], dtype=float32)
    """
    values = wrap(inexact(number("gradient", f)))
    axes = axes_of("gradient", axis, len(values.shape))
    if edge_order not in (1, 2):
        raise ValueError(f"gradient: edge_order must be 1 or 2, got {edge_order}")
    spacing: Sequence[Any] = varargs or (1.0,) * len(axes)
    if len(spacing) == 1 and len(axes) > 1 and logical_shape(enter(spacing[0])) == ():
        spacing = spacing * len(axes)
    if len(spacing) != len(axes):
        raise TypeError(
            f"gradient: {len(spacing)} spacings for {len(axes)} axes; give none, one number, or "
            "one each"
        )
    out = []
    for i, h in zip(axes, spacing, strict=True):
        n = values.shape[i]
        if n <= edge_order:
            raise ShapeError(
                f"gradient: axis {i} has {n} samples; edge_order={edge_order} needs "
                f"{edge_order + 1}"
            )
        step = wrap(cast(number("gradient", h), np.dtype(values.dtype)))
        if len(step.shape) == 1 and step.shape != (n,):
            raise ShapeError(f"gradient: {step.shape[0]} places for the {n} samples of axis {i}")
        out.append(_gradient(values, diff(step) if step.shape else step, i, edge_order))
    return out[0] if len(out) == 1 else out


def unwrap(p: Any, discont: Any = None, axis: int = -1, period: Any = 2 * math.pi) -> Any:
    """Angles along an axis, turned by whole periods so that no step is larger than half of one.

    Only steps of at least `discont` are changed.

    >>> bnp.unwrap(bnp.array([0, 2, 4, 0]), period=6)
    Array([0, 2, 4, 6], dtype=int32)
    """
    x = wrap(number("unwrap", p))
    whole = dtypes.is_integer(np.dtype(x.dtype)) and isinstance(period, int)
    x = x if whole else wrap(inexact(x._v))
    axis = axis_of("unwrap", axis, len(x.shape))
    steps = diff(x, axis=axis)
    low = -(period // 2) if whole else -period / 2
    moved = mod(steps - low, period) + low
    # A step of exactly half a period keeps its direction.
    tie = (moved == low) & (steps > 0) if not whole or period % 2 == 0 else steps != steps
    moved = where(tie, -low, moved)
    change = where(absolute(steps) < (period / 2 if discont is None else discont), 0, moved - steps)
    n = x.shape[axis]
    turned = cut_axis(x, axis, min(1, n), n) + reductions.cumsum(change, axis).astype(x.dtype)
    return concatenate([cut_axis(x, axis, 0, min(1, n)), turned], axis)


# -- interpolation and convolution ---------------------------------------------------------------


def interp(
    x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: float | None = None
) -> Any:
    """Piecewise linear interpolation at `x` of the values `fp` at the ascending places `xp`.

    Outside them the result is `left` and `right` (the end values unless given); with `period`
    places are taken modulo it, in any order. Differentiable in all arrays.

    >>> bnp.interp(2.5, bnp.array([1.0, 2.0, 3.0]), bnp.array([3.0, 2.0, 0.0]))
    Array(1., dtype=float32)
    """
    for v in (xp, fp):
        if len(logical_shape(enter(v))) != 1 or logical_shape(enter(v)) != logical_shape(enter(xp)):
            raise misfit(
                "interp",
                [enter(x), enter(xp), enter(fp)],
                "{1} and {2} must be vectors of one size",
                otherwise="as many values as places; bv.vmap for several sets of them",
                params=("x", "xp", "fp"),
                shown=(1, 2),
            )
    at, places, values = (wrap(inexact(number("interp", v))) for v in (x, xp, fp))
    n = places.shape[0]
    if n == 0:
        raise ShapeError("interp: xp is empty, there is nothing to interpolate")
    if period is not None:
        if period == 0:
            raise ValueError("interp: period must not be 0")
        period = abs(period)
        at, places = mod(at, period), mod(places, period)
        order = argsort(places)
        places, values = take(places, order), take(values, order)
        places = concatenate([places[-1:] - period, places, places[:1] + period])
        values = concatenate([values[-1:], values, values[:1]])
        n += 2
    if n == 1:
        inside = broadcast_to(values[0], at.shape)
        return _ends(at, places, values, inside, left, right)
    i = clip(searchsorted(places, at, "right"), 1, n - 1)
    x0, x1, f0, f1 = (take(v, j, mode="clip") for v in (places, values) for j in (i - 1, i))
    flat = x1 == x0
    inside = f0 + where(flat, 0, (at - x0) / where(flat, 1, x1 - x0)) * (f1 - f0)
    return inside if period is not None else _ends(at, places, values, inside, left, right)


def _ends(at: Any, places: Any, values: Any, inside: Any, left: Any, right: Any) -> Any:
    left = values[0] if left is None else left
    right = values[-1] if right is None else right
    return where(at < places[0], left, where(at > places[-1], right, inside))


_MODES = ("full", "same", "valid")


def _slide(
    name: str, a: Any, v: Any, mode: str, flipped: bool, precision: Any, preferred_element_type: Any
) -> Any:
    """Both vectors slid over each other: convolution, or correlation with the second conjugated."""
    if mode not in _MODES:
        raise ValueError(f"{name}: mode must be one of {', '.join(_MODES)}, got {mode!r}")
    number(name, a), number(name, v)
    (x, y), _ = promote(a, v)
    if len(x.shape) != 1 or len(y.shape) != 1 or not x.shape[0] or not y.shape[0]:
        raise misfit(
            name,
            [wrap(x), wrap(y)],
            "it takes two vectors with elements",
            otherwise="bevel.scipy.signal.convolve for more axes, bv.vmap for stacks",
            params=("a", "v"),
        )
    dtype = np.dtype(x.dtype)
    if dtype == np.bool_:
        x, y = cast(x, dtypes.int32), cast(y, dtypes.int32)
    y = y if flipped else conjugate(y)
    turned = x.shape[0] < y.shape[0]
    x, y = (y, x) if turned else (x, y)
    n = y.shape[0]
    low, high = {"full": (n - 1, n - 1), "same": (n // 2, n - 1 - n // 2), "valid": (0, 0)}[mode]
    out = ops.conv_general_dilated(
        ops.reshape(x, shape=(1, 1, x.shape[0])),
        ops.reshape(ops.rev(y, axes=(0,)) if flipped else y, shape=(1, 1, n)),
        strides=(1,),
        padding=((low, high),),
        lhs_dilation=(1,),
        rhs_dilation=(1,),
        dims=ops.ConvDims((0, 1, 2), (0, 1, 2), (0, 1, 2)),
        precision=precision_of(precision),
        preferred=preferred_of(preferred_element_type),
    )
    out = ops.reshape(out, shape=(out.shape[2],))
    out = cast(out, dtype) if dtype == np.bool_ else out
    # A correlation the other way round is itself, read backwards.
    return wrap(ops.rev(out, axes=(0,)) if turned and not flipped else out)


def convolve(
    a: Any, v: Any, mode: str = "full", *, precision: Any = None, preferred_element_type: Any = None
) -> Any:
    """Convolution of two vectors: all places ("full"), as many as the longer ("same"), full overlap
    ("valid").

    >>> bnp.convolve(bnp.array([1.0, 2.0]), bnp.array([1.0, 1.0]))
    Array([1., 3., 2.], dtype=float32)
    """
    return _slide("convolve", a, v, mode, True, precision, preferred_element_type)


def correlate(
    a: Any,
    v: Any,
    mode: str = "valid",
    *,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Any:
    """Cross-correlation of two vectors, the second conjugated; modes as in `convolve`.

    >>> bnp.correlate(bnp.array([1.0, 2.0, 3.0]), bnp.array([0.0, 1.0]))
    Array([2., 3.], dtype=float32)
    """
    return _slide("correlate", a, v, mode, False, precision, preferred_element_type)


# -- windows -------------------------------------------------------------------------------------


def _window(name: str, M: Any, *args: Any) -> Any:
    count = integer(name, "M", M)
    return enter(getattr(np, name)(count, *args), float32)


def bartlett(M: int) -> Any:
    """Triangular window of `M` points that ends in zeros.

    >>> bnp.bartlett(3)
    Array([0., 1., 0.], dtype=float32)
    """
    return _window("bartlett", M)


def blackman(M: int) -> Any:
    """Blackman window: three cosine terms, for little leakage.

    >>> bnp.blackman(1)
    Array([1.], dtype=float32)
    """
    return _window("blackman", M)


def hamming(M: int) -> Any:
    """Hamming window: a raised cosine on a pedestal.

    >>> bnp.hamming(1)
    Array([1.], dtype=float32)
    """
    return _window("hamming", M)


def hanning(M: int) -> Any:
    """Hann window: a raised cosine that ends in zeros.

    >>> bnp.hanning(3)
    Array([0., 1., 0.], dtype=float32)
    """
    return _window("hanning", M)


def kaiser(M: int, beta: float) -> Any:
    """Kaiser window: a Bessel function, narrower for larger `beta`.

    >>> bnp.kaiser(3, 0.0)
    Array([1., 1., 1.], dtype=float32)
    """
    return _window("kaiser", M, float(beta))
