"""Order statistics, averages, covariances and histograms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import bevel.ops as ops
from bevel.core import dtypes
from bevel.core.dtypes import bfloat16, float16, float32, int32
from bevel.core.errors import ShapeError
from bevel.core.handle import logical_shape, wrap
from bevel.core.misfit import Fix, misfit
from bevel.numpy import elementwise, reductions
from bevel.numpy.arguments import (
    axes_of,
    cast,
    inexact,
    known,
    no_out,
    number,
)
from bevel.numpy.joining import concatenate
from bevel.numpy.manipulation import broadcast_to, moveaxis, reshape
from bevel.numpy.nan_reductions import is_nan
from bevel.numpy.numerics import ceil, clip, floor
from bevel.numpy.products import matmul
from bevel.numpy.selection import take_along_axis, where

Axis = int | tuple[int, ...] | None


# -- quantiles -----------------------------------------------------------------------------------


class _Array(NamedTuple):
    """The functions that a quantile rule needs, for NumPy or for handles."""

    floor: Callable
    ceil: Callable
    where: Callable


_NUMPY = _Array(np.floor, np.ceil, np.where)
_HANDLES = _Array(floor, ceil, where)


def _continuous(alpha: float, beta: float) -> Callable:
    """Hyndman and Fan's rules 4 to 9: interpolate at `alpha + q * (n + 1 - alpha - beta)`, counted
    from 1.
    """

    def rule(n: Any, q: Any, xp: _Array) -> tuple[Any, Any]:
        place = n * q + (alpha + q * (1 - alpha - beta)) - 1
        low = xp.floor(place)
        return low, place - low

    return rule


def _at(pick: Callable) -> Callable:
    """Rules that take an element near `q * (n - 1)`."""

    def rule(n: Any, q: Any, xp: _Array) -> tuple[Any, Any]:
        place = (n - 1) * q
        return pick(place, xp), 0 * place

    return rule


def _nearest(place: Any, xp: _Array) -> Any:
    low = xp.floor(place)
    rest = place - low
    even = xp.floor(low / 2) * 2 == low
    return xp.where((rest > 0.5) | ((rest == 0.5) & ~even), low + 1, low)


def _midpoint(n: Any, q: Any, xp: _Array) -> tuple[Any, Any]:
    place = (n - 1) * q
    low = xp.floor(place)
    return low, xp.where(place == low, 0.0, 0.5)


def _step(tie: float, shift: float) -> Callable:
    """Rules without interpolation: the element after `n * q - 1 - shift`, and between two `tie` of
    it.
    """

    def rule(n: Any, q: Any, xp: _Array) -> tuple[Any, Any]:
        place = n * q - 1 - shift
        low = xp.floor(place)
        return low, xp.where(place == low, tie, 1.0)

    return rule


def _closest(n: Any, q: Any, xp: _Array) -> tuple[Any, Any]:
    place = n * q - 1.5
    low = xp.floor(place)
    # Between two elements the even one counted from 1, which is the odd one from 0.
    odd = xp.floor(low / 2) * 2 != low
    return low, xp.where((place == low) & odd, 0.0, 1.0)


_HALF = np.asarray(0.5)

METHODS: dict[str, Callable] = {
    "linear": _continuous(1, 1),
    "lower": _at(lambda place, xp: xp.floor(place)),
    "higher": _at(lambda place, xp: xp.ceil(place)),
    "nearest": _at(_nearest),
    "midpoint": _midpoint,
    "inverted_cdf": _step(0.0, 0),
    "averaged_inverted_cdf": _step(0.5, 0),
    "closest_observation": _closest,
    "interpolated_inverted_cdf": _continuous(0, 1),
    "hazen": _continuous(0.5, 0.5),
    "weibull": _continuous(0, 0),
    "median_unbiased": _continuous(1 / 3, 1 / 3),
    "normal_unbiased": _continuous(3 / 8, 3 / 8),
}


def _probability(name: str, q: Any, top: int) -> Any:
    """A value between 0 and 1, in double precision where it is known; `q` counts up to `top`.

    Raises:
        ValueError: it lies outside.
    """
    plain = [q] if isinstance(q, int | float) else q
    if isinstance(q, np.ndarray) or (
        isinstance(plain, list | tuple) and all(isinstance(v, int | float) for v in plain)
    ):
        found: np.ndarray | None = np.asarray(q)
    else:
        found = known(number(name, q))
    if found is None:
        value = inexact(number(name, q))
        return ops.div(value, ops.full_like(value, top))
    if not np.all((found >= 0) & (found <= top)):
        raise ValueError(f"{name}: q must lie between 0 and {top}, got {found.tolist()}")
    return np.asarray(found.astype(np.float64) / top)


def _places(q: Any, count: Any, n: int, method: str, dtype: np.dtype) -> tuple[Any, Any, Any]:
    """Positions below and above each quantile in a sorted row, and the weight of the upper one."""
    if count is None and type(q) is np.ndarray:
        # In double precision, so that whole positions come out whole.
        low, weight = METHODS[method](n, q, _NUMPY)
        low, weight = np.asarray(low), np.asarray(weight)
        high = np.clip(low + 1, 0, n - 1)
        low = np.clip(low, 0, n - 1)
        return wrap(low.astype(int32)), wrap(high.astype(int32)), wrap(weight.astype(dtype))
    n = wrap(ops.full((), n, dtype)) if count is None else count
    low, weight = METHODS[method](n, wrap(cast(q, dtype)), _HANDLES)
    high = elementwise.maximum(elementwise.minimum(low + 1, n - 1), 0)
    low = elementwise.maximum(elementwise.minimum(low, n - 1), 0)
    return low.astype(int32), high.astype(int32), weight


def _quantile(
    name: str,
    a: Any,
    q: Any,
    axis: Axis,
    keepdims: bool,
    method: str,
    skip_nan: bool,
    weights: Any = None,
) -> Any:
    if method not in METHODS:
        raise ValueError(f"{name}: method must be one of {', '.join(METHODS)}, got {method!r}")
    if weights is not None and method != "inverted_cdf":
        raise ValueError(
            f"{name}: weights need method='inverted_cdf', got {method!r}: the others lie between "
            "elements, where a weight says nothing"
        )
    x = inexact(number(name, a))
    dtype = np.dtype(x.dtype)
    if dtypes.is_complex(dtype):
        raise TypeError(
            f"{name}: complex numbers have no order; take the {name} of x.real or of bnp.abs(x)"
        )
    x = cast(x, float32) if dtype in (float16, bfloat16) else x
    wide, shape = np.dtype(x.dtype), tuple(x.shape)
    axes = axes_of(name, axis, len(shape))
    rows = reductions.as_rows(x, axes)
    n = rows.shape[-1]
    kept = (
        tuple([1 if i in axes else m for i, m in enumerate(shape)])
        if keepdims
        else tuple(rows.shape[:-1])
    )
    if n == 0:
        return wrap(ops.full((*q.shape, *kept), math.nan, dtype))
    last = len(rows.shape) - 1
    flat = ops.reshape(q, shape=(math.prod(q.shape),))
    if weights is not None:
        w = _weight_rows(name, weights, shape, axes, wide)
        w = ops.select(is_nan(rows), ops.zeros_like(w), w) if skip_nan else w
        rows, w = ops.sort(rows, w, axis=last, num_keys=1, stable=True)
        out = _weighted(wrap(rows), wrap(w), wrap(cast(flat, wide)))
    else:
        (rows,) = ops.sort(rows, axis=last, num_keys=1, stable=False)
    count = reductions.sum(wrap(ops.not_(is_nan(rows))), -1, keepdims=True)
    if weights is None:
        counted = count.astype(wide) if skip_nan else None
        out = _between(wrap(rows), *_places(flat, counted, n, method, wide))
    bad = count == 0 if skip_nan else count < n
    out = where(bad, math.nan, out)
    out = moveaxis(out, -1, 0)
    return reshape(out, (*q.shape, *kept)).astype(dtype)


def _weight_rows(name: str, weights: Any, shape: Any, axes: Any, dtype: np.dtype) -> Any:
    """Weights of the array's shape, or of its one axis, as rows along the axes."""
    w = cast(number(name, weights), dtype)
    if tuple(w.shape) != shape:
        if len(axes) != 1 or tuple(w.shape) != (shape[axes[0]],):
            raise ShapeError(
                f"{name}: weights of shape {tuple(w.shape)} are neither of the array's shape "
                f"{shape} nor one for each place of a single axis"
            )
        w = ops.broadcast_in_dim(w, shape=shape, dims=axes)
    return reductions.as_rows(w, axes)


def _weighted(rows: Any, w: Any, q: Any) -> Any:
    """The first element of each sorted row at which the weights so far reach `q` of their sum."""
    so_far = reductions.cumsum(w, -1)[..., None]
    short = (so_far < q * so_far[..., -1:, :]) | (so_far == 0)
    places = clip(reductions.sum(short, -2), 0, rows.shape[-1] - 1)
    return take_along_axis(rows, places, -1)


def _between(rows: Any, low: Any, high: Any, weight: Any) -> Any:
    """Elements between two positions of each row; the last axis of the positions is that of the
    quantiles.
    """
    lead = (1,) * (len(rows.shape) - len(low.shape))
    a, b = (
        take_along_axis(rows, reshape(i, (*lead, *i.shape)), -1, mode="clip") for i in (low, high)
    )
    # Equal elements, and infinities, must come out as they are.
    return where((weight == 0) | (a == b), a, where(weight == 1, b, a + (b - a) * weight))


def quantile(
    a: Any,
    q: Any,
    axis: Axis = None,
    out: None = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: Any = None,
) -> Any:
    """Quantiles along axes (None: of all elements): the axes of `q`, between 0 and 1, come first in
    the result.

    `method` is one of NumPy's thirteen. A slice that holds NaN gives NaN. `weights`, of the shape
    of `a` or of its one axis, say how much each element counts (method "inverted_cdf" only).

    >>> bnp.quantile(bnp.array([1.0, 2.0, 4.0]), bnp.array([0.5, 0.75]))
    Array([2., 3.], dtype=float32)
    """
    no_out("quantile", out)
    q = _probability("quantile", q, 1)
    return _quantile("quantile", a, q, axis, keepdims, method, False, weights)


def percentile(
    a: Any,
    q: Any,
    axis: Axis = None,
    out: None = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: Any = None,
) -> Any:
    """`quantile` with `q` from 0 to 100.

    >>> bnp.percentile(bnp.array([1.0, 2.0, 4.0]), 50)
    Array(2., dtype=float32)
    """
    no_out("percentile", out)
    q = _probability("percentile", q, 100)
    return _quantile("percentile", a, q, axis, keepdims, method, False, weights)


def median(
    a: Any,
    axis: Axis = None,
    out: None = None,
    overwrite_input: bool = False,
    keepdims: bool = False,
) -> Any:
    """Median along axes (None: of all elements); NaN if there is one.

    >>> bnp.median(bnp.array([3, 1, 2, 10]))
    Array(2.5, dtype=float32)
    """
    no_out("median", out)
    return _quantile("median", a, _HALF, axis, keepdims, "linear", False)


def nanquantile(
    a: Any,
    q: Any,
    axis: Axis = None,
    out: None = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: Any = None,
) -> Any:
    """`quantile` of the elements that are not NaN.

    >>> bnp.nanquantile(bnp.array([1.0, bnp.nan, 3.0]), 0.5)
    Array(2., dtype=float32)
    """
    no_out("nanquantile", out)
    q = _probability("nanquantile", q, 1)
    return _quantile("nanquantile", a, q, axis, keepdims, method, True, weights)


def nanpercentile(
    a: Any,
    q: Any,
    axis: Axis = None,
    out: None = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: Any = None,
) -> Any:
    """`percentile` of the elements that are not NaN.

    >>> bnp.nanpercentile(bnp.array([1.0, bnp.nan, 3.0]), 50)
    Array(2., dtype=float32)
    """
    no_out("nanpercentile", out)
    q = _probability("nanpercentile", q, 100)
    return _quantile("nanpercentile", a, q, axis, keepdims, method, True, weights)


def nanmedian(
    a: Any,
    axis: Axis = None,
    out: None = None,
    overwrite_input: bool = False,
    keepdims: bool = False,
) -> Any:
    """`median` of the elements that are not NaN.

    >>> bnp.nanmedian(bnp.array([1.0, bnp.nan, 3.0]))
    Array(2., dtype=float32)
    """
    no_out("nanmedian", out)
    return _quantile("nanmedian", a, _HALF, axis, keepdims, "linear", True)


# -- averages and covariances --------------------------------------------------------------------


def average(
    a: Any, axis: Axis = None, weights: Any = None, returned: bool = False, keepdims: bool = False
) -> Any:
    """Weighted mean along axes; `returned` gives the sum of the weights too.

    `weights` have the shape of `a`, or of the axes averaged over.

    >>> bnp.average(bnp.array([1.0, 2.0]), weights=bnp.array([3.0, 1.0]))
    Array(1.25, dtype=float32)
    """
    x = wrap(inexact(number("average", a)))
    shape = logical_shape(x)
    axes = axes_of("average", axis, len(shape))
    if weights is None:
        out = reductions.mean(x, axes, keepdims=keepdims)
        total = broadcast_to(
            wrap(np.asarray(math.prod([shape[i] for i in axes]), out.dtype)), out.shape
        )
    else:
        w = _aligned_weights(weights, x, axes)
        total = reductions.sum(w, axes, keepdims=keepdims)
        found = known(total._v)
        if found is not None and np.any(found == 0):
            raise ZeroDivisionError(
                "average: the weights sum to zero, so they cannot be normalized"
            )
        out = reductions.sum(x * w, axes, keepdims=keepdims) / total
        total = total.astype(out.dtype)
    return (out, total) if returned else out


def _aligned_weights(weights: Any, x: Any, axes: tuple[int, ...]) -> Any:
    w, shape = wrap(number("average", weights)), logical_shape(x)
    if logical_shape(w) == shape:
        return w
    sizes = tuple([shape[i] for i in axes])
    if logical_shape(w) != sizes:
        fitting = [i for i, n in enumerate(shape) if (n,) == logical_shape(w)]
        fixes = [Fix(f"They fit axis {i}", settings={"axis": (1, str(i))}) for i in fitting]
        raise misfit(
            "average",
            [x, w],
            f"weights of shape {logical_shape(w)} fit neither {shape} nor axes {axes}: {sizes}",
            fixes if len(fixes) == 1 else [],
            "weights of the array's shape, or of that of the axes",
            params=("a", "weights"),
            words=["the array", "the array of weights"],
        )
    order = sorted(range(len(axes)), key=lambda i: axes[i])
    w = wrap(ops.transpose(w._v, permutation=tuple(order)))
    w = reshape(w, tuple([n if i in axes else 1 for i, n in enumerate(shape)]))
    return broadcast_to(w, shape)


def cov(
    m: Any,
    y: Any = None,
    rowvar: bool = True,
    bias: bool = False,
    ddof: float | None = None,
    fweights: Any = None,
    aweights: Any = None,
    *,
    dtype: Any = None,
) -> Any:
    """Covariance matrix of variables, which are the rows (or, without `rowvar`, the columns).

    Divided by `n - 1`, by `n` with `bias`, or by `n - ddof`. `fweights` say how often each
    observation counts, `aweights` how much.

    >>> bnp.cov(bnp.array([[0.0, 2.0], [0.0, 4.0]]))
    Array([[2., 4.],
           [4., 8.]], dtype=float32)
    """
    x = _variables(m, rowvar)
    if y is not None:
        x = concatenate([x, _variables(y, rowvar)], 0)
    if dtype is not None:
        x = x.astype(dtype)
    if ddof is None:
        ddof = 0 if bias else 1
    n = x.shape[1]
    w = None
    for name, given in (("fweights", fweights), ("aweights", aweights)):
        if given is not None:
            one = wrap(number("cov", given))
            if one.shape != (n,):
                raise ShapeError(
                    f"cov: {name} must be a vector of {n} elements, got shape {one.shape}"
                )
            w = one if w is None else w * one
    if w is None:
        total, factor = float(n), max(n - ddof, 0)
        center = reductions.mean(x, 1, keepdims=True)
    else:
        total = reductions.sum(w)
        center = reductions.sum(x * w, 1, keepdims=True) / total
        lost = total if aweights is None else reductions.sum(w * wrap(number("cov", aweights)))
        factor = total - (ddof if aweights is None else ddof * lost / total)
    apart = x - center
    other = apart if w is None else apart * w
    conjugate = wrap(ops.conj(other._v)) if dtypes.is_complex(np.dtype(other.dtype)) else other
    out = matmul(apart, conjugate.T, precision="highest") / factor
    return out[0, 0] if out.shape == (1, 1) else out


def _variables(m: Any, rowvar: bool) -> Any:
    x = wrap(inexact(number("cov", m)))
    if len(x.shape) > 2:
        raise ShapeError(f"cov: takes a vector or a matrix, got shape {x.shape}")
    if len(x.shape) < 2:
        return reshape(x, (1, -1) if math.prod(x.shape) else (1, 0))
    return x if rowvar or x.shape[0] == 1 else x.T


def corrcoef(x: Any, y: Any = None, rowvar: bool = True, *, dtype: Any = None) -> Any:
    """Correlation coefficients of variables, which are the rows (or, without `rowvar`, the
    columns).

    >>> bnp.corrcoef(bnp.array([[0.0, 2.0], [4.0, 0.0]]))[0, 1]
    Array(-1., dtype=float32)
    """
    c = cov(x, y, rowvar, dtype=dtype)
    if not c.shape:
        return c / c
    spread = elementwise.sqrt(_real(c.diagonal()))
    out = c / spread[:, None] / spread[None, :]
    if dtypes.is_complex(np.dtype(out.dtype)):
        return wrap(ops.complex(clip(_real(out), -1, 1)._v, clip(wrap(ops.imag(out._v)), -1, 1)._v))
    return clip(out, -1, 1)


def _real(x: Any) -> Any:
    return wrap(ops.real(x._v)) if dtypes.is_complex(np.dtype(x.dtype)) else x
