"""Padding: more elements at the ends of axes, made of constants or of the elements there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import bevel.ops as ops
from bevel.core import dtypes
from bevel.core.handle import Handle, logical_shape, wrap
from bevel.numpy import reductions
from bevel.numpy.arguments import cast, inexact, integer, number
from bevel.numpy.convert import astype, enter
from bevel.numpy.functional import apply_along_axis
from bevel.numpy.joining import concatenate
from bevel.numpy.manipulation import broadcast_to, expand_dims, moveaxis
from bevel.numpy.moves import cut_axis
from bevel.numpy.numerics import floor, round
from bevel.numpy.products import tensordot
from bevel.numpy.selection import take
from bevel.numpy.statistics import median

Widths = list[tuple[int, int]]

_BY_INDEX = ("edge", "reflect", "symmetric", "wrap")
_STATISTICS: dict[str, Callable] = {
    "maximum": reductions.max,
    "minimum": reductions.min,
    "mean": reductions.mean,
    "median": median,
}
_KEYWORDS = {
    "constant": ("constant_values",),
    "linear_ramp": ("end_values",),
    "reflect": ("reflect_type",),
    "symmetric": ("reflect_type",),
    **{mode: ("stat_length",) for mode in _STATISTICS},
}


def _pairs(name: str, given: Any, ndim: int) -> list[tuple[Any, Any]]:
    """(before, after) for each axis, from a number, a pair, a pair in a list, or one pair for each
    axis.
    """
    if isinstance(given, dict):
        out: list[tuple[Any, Any]] = [(0, 0)] * ndim
        for axis, pair in given.items():
            out[axis] = tuple(pair) if isinstance(pair, tuple | list) else (pair, pair)
        return out
    if isinstance(given, np.ndarray):
        given = given.tolist()
    if not isinstance(given, tuple | list):
        return [(given, given)] * ndim
    if len(given) == 2 and not any(isinstance(g, tuple | list) for g in given):
        return [tuple(given)] * ndim
    rows = [tuple(g) if isinstance(g, tuple | list) else (g,) for g in given]
    rows = [row * 2 if len(row) == 1 else row for row in rows]
    rows = rows * ndim if len(rows) == 1 else rows
    if len(rows) != ndim or any(len(row) != 2 for row in rows):
        raise ValueError(
            f"pad: {name}={given} needs one (before, after) for each of the {ndim} axes"
        )
    return rows


def _constant(x: Any, widths: Widths, values: list[tuple[Any, Any]]) -> Any:
    flat = [v for pair in values for v in pair]
    dtype = np.dtype(x._v.dtype)

    def scalar(v: Any) -> Any:
        return cast(number("pad", v), dtype)

    if all(
        v is flat[0] or (type(v) is type(flat[0]) and not isinstance(v, Handle) and v == flat[0])
        for v in flat
    ):
        value = scalar(flat[0]) if flat else np.zeros((), dtype)
        return wrap(ops.pad(x._v, value, config=tuple([(lo, hi, 0) for lo, hi in widths])))
    for axis, ((lo, hi), (before, after)) in enumerate(zip(widths, values, strict=True)):
        for config, value in (((lo, 0, 0), before), ((0, hi, 0), after)):
            rows = [(0, 0, 0)] * len(widths)
            rows[axis] = config
            x = wrap(ops.pad(x._v, scalar(value), config=tuple(rows)))
    return x


def _by_index(x: Any, widths: Widths, mode: str, reflect_type: str) -> Any:
    """Padding made of the elements themselves: NumPy pads their indices."""
    for axis, (lo, hi) in enumerate(widths):
        n = logical_shape(x)[axis]
        if not lo and not hi:
            continue
        if n == 0:
            raise ValueError(
                f"pad: axis {axis} is empty, so mode {mode!r} has nothing to pad it with"
            )
        if mode in ("reflect", "symmetric") and reflect_type == "odd":
            # Twice the edge less the mirrored element: linear in the elements, so a matrix says it.
            weights = np.pad(np.eye(n), ((lo, hi), (0, 0)), mode, reflect_type="odd")
            weights = wrap(weights.astype(np.dtype(x._v.dtype)))
            x = moveaxis(tensordot(weights, x, ((1,), (axis,)), precision="highest"), 0, axis)
        else:
            x = take(x, np.pad(np.arange(n), (lo, hi), mode), axis)
    return x


def _ramp(edge: Any, end: Any, count: int, axis: int, rising: bool) -> Any:
    """`count` steps from an end value (first) to the edge (not reached), or back."""
    dtype = np.dtype(edge._v.dtype)
    step = np.arange(count) / max(count, 1)
    step = step if rising else step[::-1]
    shape = [count if i == axis else 1 for i in range(len(logical_shape(edge)))]
    start, stop = astype(enter(end), dtype), edge
    whole = wrap(inexact(start._v))
    line = whole + (wrap(inexact(stop._v)) - whole) * wrap(step.reshape(shape).astype(np.float32))
    return astype(line if dtypes.is_inexact(dtype) else floor(line), dtype)


def _linear_ramp(x: Any, widths: Widths, ends: list[tuple[Any, Any]]) -> Any:
    for axis, ((lo, hi), (before, after)) in enumerate(zip(widths, ends, strict=True)):
        n = logical_shape(x)[axis]
        first, last = cut_axis(x, axis, 0, 1), cut_axis(x, axis, n - 1, n)
        parts = [_ramp(first, before, lo, axis, True), x, _ramp(last, after, hi, axis, False)]
        x = concatenate(parts, axis)
    return x


def _statistic(x: Any, widths: Widths, mode: str, lengths: list[tuple[Any, Any]]) -> Any:
    dtype = np.dtype(x._v.dtype)
    for axis, ((lo, hi), sizes) in enumerate(zip(widths, lengths, strict=True)):
        shape = logical_shape(x)
        n = shape[axis]
        ends = [n if s is None else min(integer("pad", "stat_length", s), n) for s in sizes]
        values = []
        for part in (cut_axis(x, axis, 0, ends[0]), cut_axis(x, axis, n - ends[1], n)):
            value = expand_dims(_STATISTICS[mode](part, axis), axis)
            values.append(value if dtypes.is_inexact(dtype) else astype(round(value), dtype))
        grown = [(*shape[:axis], k, *shape[axis + 1 :]) for k in (lo, hi)]
        x = concatenate(
            [broadcast_to(values[0], grown[0]), x, broadcast_to(values[1], grown[1])], axis
        )
    return x


def _by_function(x: Any, widths: Widths, mode: Callable, keywords: dict[str, Any]) -> Any:
    """A function of NumPy's form `mode(row, (before, after), axis, keywords)`, which returns the
    row here.
    """
    x = _constant(x, widths, [(0, 0)] * len(widths))
    for axis, pair in enumerate(widths):
        x = apply_along_axis(lambda row, p=pair, i=axis: mode(row, p, i, keywords), axis, x)
    return x


def pad(array: Any, pad_width: Any, mode: str | Callable = "constant", **kwargs: Any) -> Any:
    """Add elements before and after each axis; `pad_width` is a number, (before, after), or one
    pair an axis.

    Modes: "constant" (`constant_values`, 0), "edge", "reflect" and "symmetric" (`reflect_type`),
    "wrap", "linear_ramp" (`end_values`), "maximum", "minimum", "mean", "median" (`stat_length`),
    "empty", or a function of (row, pair, axis, keywords) that returns the row.

    >>> bnp.pad(bnp.array([1, 2]), (1, 2))
    Array([0, 1, 2, 0, 0], dtype=int32)
    >>> bnp.pad(bnp.array([1, 2, 3]), 1, mode="reflect")
    Array([2, 1, 2, 3, 2], dtype=int32)
    """
    x = enter(array)
    number("pad", x)
    ndim = len(logical_shape(x))
    widths = [
        (integer("pad", "pad_width", a), integer("pad", "pad_width", b))
        for a, b in _pairs("pad_width", pad_width, ndim)
    ]
    if any(a < 0 or b < 0 for a, b in widths):
        raise ValueError(f"pad: pad_width={pad_width} must not be negative; slices cut, as x[1:-1]")
    if callable(mode):
        return _by_function(x, widths, mode, kwargs)
    _check_keywords(mode, kwargs)
    if mode in ("constant", "empty"):
        return _constant(
            x, widths, _pairs("constant_values", kwargs.get("constant_values", 0), ndim)
        )
    if mode in _BY_INDEX:
        return _by_index(x, widths, mode, kwargs.get("reflect_type", "even"))
    if mode == "linear_ramp":
        return _linear_ramp(x, widths, _pairs("end_values", kwargs.get("end_values", 0), ndim))
    return _statistic(x, widths, mode, _pairs("stat_length", kwargs.get("stat_length"), ndim))


def _check_keywords(mode: Any, given: dict[str, Any]) -> None:
    modes = ("constant", "empty", "linear_ramp", *_BY_INDEX, *_STATISTICS)
    if mode not in modes:
        raise ValueError(f"pad: mode must be one of {', '.join(modes)} or a function, got {mode!r}")
    if unknown := set(given) - set(_KEYWORDS.get(mode, ())):
        raise ValueError(f"pad: mode {mode!r} takes no {sorted(unknown)[0]!r}")
    if given.get("reflect_type", "even") not in ("even", "odd"):
        raise ValueError(
            f"pad: reflect_type must be 'even' or 'odd', got {given['reflect_type']!r}"
        )
