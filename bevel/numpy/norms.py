"""Norms of vectors and matrices."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import bevel.ops as ops
from bevel.core import dtypes
from bevel.core.dtypes import float32
from bevel.core.errors import ShapeError
from bevel.core.handle import wrap
from bevel.numpy.arguments import axes_of, cast, number
from bevel.numpy.elementwise import absolute, power, sqrt
from bevel.numpy.manipulation import moveaxis, reshape
from bevel.numpy.reductions import max, min, sum


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """Norm of a vector or matrix, or of the vectors along an axis, or the matrices along two.

    Vectors: `ord` None or 2, any other number p (`sum(abs(x)**p)**(1/p)`), inf, -inf, 0 (how many
    are nonzero). Matrices: None or "fro", "nuc", 1, -1, 2, -2, inf, -inf. With neither `ord` nor
    `axis`, of all elements.

    >>> bnp.linalg.norm(bnp.array([3.0, 4.0]))
    Array(5., dtype=float32)
    """
    v = number("norm", x)
    v = v if dtypes.is_inexact(np.dtype(v.dtype)) else cast(v, float32)
    ndim = len(v.shape)
    if axis is None:
        if ord is None:
            return _euclidean(v, tuple(range(ndim)), keepdims)
        if ndim not in (1, 2):
            raise ShapeError(
                f"norm: ord={ord!r} of shape {tuple(v.shape)} needs axis=, one for vectors, two "
                "for matrices"
            )
    axes = axes_of("norm", axis, ndim)
    if len(axes) == 1:
        return _vector_norm(wrap(v), ord, axes, keepdims)
    if len(axes) != 2:
        raise ValueError(f"norm: axis must name one or two axes, got {axis}")
    return _matrix_norm(wrap(v), ord, axes, keepdims)


def _euclidean(v: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    size = ops.abs(v) if dtypes.is_complex(np.dtype(v.dtype)) else v
    return sqrt(sum(wrap(ops.square(size)), axes, keepdims=keepdims))


def _vector_norm(x: Any, ord: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    if ord is None or ord == 2:
        return _euclidean(x._v, axes, keepdims)
    if isinstance(ord, str):
        raise ValueError(f"norm: ord={ord!r} is for matrices; a vector takes a number, inf or -inf")
    size = absolute(x)
    if ord in (math.inf, -math.inf):
        return (_largest if ord > 0 else min)(size, axes, keepdims=keepdims)
    if ord == 0:
        return sum(size != 0, axes, keepdims=keepdims).astype(np.dtype(size._v.dtype))
    if ord == 1:
        return sum(size, axes, keepdims=keepdims)
    return power(sum(power(size, ord), axes, keepdims=keepdims), 1 / ord)


def _largest(x: Any, axis: Any, keepdims: bool = False) -> Any:
    """The largest size, and 0 of none."""
    axes = axis if isinstance(axis, tuple) else (axis,)
    empty = any([x.shape[i] == 0 for i in axes])
    return max(x, axis, keepdims=keepdims, initial=0 if empty else None)


def _by_singular_values(reduce: Callable) -> Callable:
    def run(x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
        value = moveaxis(x, axes, (-2, -1))._v
        dtype = np.dtype(value.dtype)
        (s,) = ops.svd(
            cast(value, float32 if dtype.itemsize == 2 else dtype),
            full_matrices=False,
            compute_uv=False,
        )
        out = wrap(cast(reduce(wrap(s), -1)._v, dtypes.real_dtype(dtype)))
        if not keepdims:
            return out
        return reshape(out, tuple([1 if i in axes else n for i, n in enumerate(x._v.shape)]))

    return run


def _by_sums(reduce: Callable, along: int) -> Callable:
    def run(x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
        sums = sum(absolute(x), axes[along], keepdims=True)
        out = reduce(sums, axes[1 - along], keepdims=True)
        return (
            out
            if keepdims
            else reshape(out, tuple([n for i, n in enumerate(x._v.shape) if i not in axes]))
        )

    return run


def _frobenius(x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    return _euclidean(x._v, axes, keepdims)


_MATRIX_NORMS: dict[Any, Callable] = {
    None: _frobenius,
    "fro": _frobenius,
    "nuc": _by_singular_values(sum),
    1: _by_sums(_largest, 0),
    -1: _by_sums(min, 0),
    2: _by_singular_values(_largest),
    -2: _by_singular_values(min),
    math.inf: _by_sums(_largest, 1),
    -math.inf: _by_sums(min, 1),
}


def _matrix_norm(x: Any, ord: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    if ord not in _MATRIX_NORMS:
        raise ValueError(
            f"norm: ord={ord!r} is no norm of a matrix; use one of {list(_MATRIX_NORMS)}"
        )
    return _MATRIX_NORMS[ord](x, axes, keepdims)


def vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Any:
    """Norm of the vectors along axes taken as one (None: of all elements).

    >>> bnp.linalg.vector_norm(bnp.array([[3.0], [4.0]]))
    Array(5., dtype=float32)
    """
    v = number("vector_norm", x)
    v = v if dtypes.is_inexact(np.dtype(v.dtype)) else cast(v, float32)
    return _vector_norm(wrap(v), ord, axes_of("vector_norm", axis, len(v.shape)), keepdims)


def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Any:
    """Norm of the matrices on the last two axes.

    >>> bnp.linalg.matrix_norm(bnp.ones((5, 2, 2))).shape
    (5,)
    """
    return norm(x, ord, (-2, -1), keepdims)
