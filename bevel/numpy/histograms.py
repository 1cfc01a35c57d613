"""Histograms: how many elements fall between edges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from bevel.core.dtypes import float32
from bevel.core.errors import ShapeError
from bevel.core.handle import Handle, logical_shape, wrap
from bevel.core.misfit import misfit
from bevel.numpy import reductions
from bevel.numpy.arguments import cast, contents, inexact, integer, known, number
from bevel.numpy.convert import enter
from bevel.numpy.manipulation import ravel, reshape
from bevel.numpy.selection import where
from bevel.numpy.sorting import bincount, searchsorted

Range = tuple[Any, Any] | None


def _limits(x: Any, range: Range) -> tuple[Any, Any]:
    """The ends of the bins: what is asked for, or the smallest and largest element; apart in any
    case.
    """
    if range is not None:
        low, high = (wrap(cast(number("histogram", v), np.dtype(x.dtype))) for v in range)
    elif math.prod(x.shape) == 0:
        low, high = (wrap(np.asarray(v, float32)) for v in (0, 1))
    else:
        low, high = reductions.min(x), reductions.max(x)
    ends = known(low._v), known(high._v)
    if (
        ends[0] is not None
        and ends[1] is not None
        and not (np.isfinite(ends).all() and ends[0] <= ends[1])
    ):
        raise ValueError(
            f"histogram: bins cannot reach from {ends[0]} to {ends[1]}.\n"
            "Write instead: range=(low, high) with finite numbers, low first, or x[bnp.isfinite(x)]"
        )
    same = low == high
    return where(same, low - 0.5, low), where(same, high + 0.5, high)


def histogram_bin_edges(a: Any, bins: Any = 10, range: Range = None, weights: Any = None) -> Any:
    """The edges of equal bins between the smallest and largest element, or over a range.

    `bins` is their number, the name of one of NumPy's rules (outside `jit` only), or the edges
    themselves.

    >>> bnp.histogram_bin_edges(bnp.array([0.0, 4.0]), bins=2)
    Array([0., 2., 4.], dtype=float32)
    """
    x = wrap(inexact(number("histogram_bin_edges", a)))
    if isinstance(bins, str):
        why = f"how many bins the rule {bins!r} makes depends on the data"
        found = contents("histogram_bin_edges", x._v, why, "a number of bins, or their edges")
        limits = None if range is None else tuple([float(v) for v in range])
        return enter(
            np.histogram_bin_edges(found.astype(np.float64), bins, limits), np.dtype(x.dtype)
        )
    if isinstance(bins, Handle | np.ndarray | Sequence) and len(logical_shape(enter(bins))) == 1:
        return wrap(inexact(number("histogram_bin_edges", bins)))
    count = integer("histogram_bin_edges", "bins", bins)
    if count < 1:
        raise ValueError(f"histogram_bin_edges: bins must be at least 1, got {count}")
    low, high = _limits(x, range)
    step = np.linspace(0, 1, count + 1).astype(np.dtype(low.dtype))
    return low * wrap(1 - step) + high * wrap(step)


def _slots(x: Any, edges: Any) -> tuple[Any, Any]:
    """The bin of every element, and whether it has one; the last bin holds its upper edge."""
    n, found = edges.shape[0] - 1, known(edges._v)
    if found is not None and (np.diff(found) < 0).any():
        raise ValueError(f"histogram: the edges of the bins must not fall, got {found.tolist()}")
    slot = searchsorted(edges, x, "right") - 1
    slot = where(x == edges[-1], n - 1, slot)
    return slot, (x >= edges[0]) & (x <= edges[-1])


def _counted(slot: Any, inside: Any, weights: Any, length: int) -> Any:
    """How many elements, or how much weight, each slot has."""
    beyond = where(inside, slot, length)
    weights = None if weights is None else wrap(number("histogram", weights))
    return bincount(beyond, weights, length=length)


def histogram(
    a: Any, bins: Any = 10, range: Range = None, weights: Any = None, density: bool | None = None
) -> tuple[Any, Any]:
    """How many elements (or how much weight) fall into each bin, and the edges of the bins.

    A bin holds its lower edge; the last one its upper edge too. Counts are int32; `density` divides
    them so that the area is 1.

    Raises:
        ValueError: edges that fall, or a range (by default that of the data) that is not finite.

    >>> counts, edges = bnp.histogram(bnp.array([0.0, 1.0, 1.5, 4.0]), bins=2)
    >>> counts
    Array([3, 1], dtype=int32)
    """
    x = ravel(wrap(inexact(number("histogram", a))))
    edges = histogram_bin_edges(x, bins, range, weights)
    if weights is not None and logical_shape(enter(weights)) != logical_shape(enter(a)):
        raise misfit(
            "histogram",
            [enter(a), enter(weights)],
            "{1}, the weights, must be one for each element of {0}",
            otherwise="weights of the array's shape",
            params=("a", "weights"),
        )
    slot, inside = _slots(x, edges)
    counts = _counted(slot, inside, None if weights is None else ravel(weights), edges.shape[0] - 1)
    if density:
        counts = counts / (edges[1:] - edges[:-1]) / reductions.sum(counts)
    return counts, edges


def histogramdd(
    sample: Any, bins: Any = 10, range: Any = None, weights: Any = None, density: bool | None = None
) -> tuple[Any, list[Any]]:
    """Histogram in several dimensions, of points that are the rows of `(n, d)`; counts and a list
    of edges.

    `bins` and `range` are as in `histogram`, for all dimensions, or a sequence with one for each.

    >>> counts, edges = bnp.histogramdd(bnp.array([[0.0, 0.0], [1.0, 1.0]]), bins=2)
    >>> counts
    Array([[1, 0],
           [0, 1]], dtype=int32)
    """
    columns = list(sample) if isinstance(sample, tuple | list) else None
    if columns is None:
        points = wrap(inexact(number("histogramdd", sample)))
        if len(points.shape) != 2:
            raise ShapeError(
                f"histogramdd: points are the rows of a matrix, got shape {points.shape}"
            )
        columns = [points[:, i] for i in np.arange(points.shape[1]).tolist()]
    columns = [ravel(wrap(inexact(number("histogramdd", c)))) for c in columns]
    d = len(columns)
    each = list(bins) if isinstance(bins, tuple | list) else [bins] * d
    spans = [None] * d if range is None else list(range)
    if len(each) != d or len(spans) != d:
        raise ValueError(
            f"histogramdd: {len(each)} bins and {len(spans)} ranges for {d} dimensions"
        )
    edges = [histogram_bin_edges(c, b, r) for c, b, r in zip(columns, each, spans, strict=True)]
    shape = tuple([e.shape[0] - 1 for e in edges])
    slot, inside = wrap(np.zeros((), np.int32)), wrap(np.asarray(True))
    for column, edge, size in zip(columns, edges, shape, strict=True):
        one, within = _slots(column, edge)
        slot, inside = slot * size + one, inside & within
    counts = reshape(_counted(slot, inside, weights, math.prod(shape)), shape)
    if density:
        counts = counts / reductions.sum(counts)
        for i, edge in enumerate(edges):
            width = reshape(
                edge[1:] - edge[:-1], tuple([-1 if i == j else 1 for j in np.arange(d).tolist()])
            )
            counts = counts / width
    return counts, edges


def histogram2d(
    x: Any,
    y: Any,
    bins: Any = 10,
    range: Any = None,
    weights: Any = None,
    density: bool | None = None,
) -> tuple[Any, Any, Any]:
    """Histogram of points in the plane: counts, edges along x, edges along y.

    >>> counts, *_ = bnp.histogram2d(bnp.array([0.0, 1.0]), bnp.array([0.0, 1.0]), bins=2)
    >>> counts.shape
    (2, 2)
    """
    if not isinstance(bins, tuple | list) and len(logical_shape(enter(bins))) == 1:
        bins = [bins, bins]
    counts, edges = histogramdd([x, y], bins, range, weights, density)
    return counts, edges[0], edges[1]
