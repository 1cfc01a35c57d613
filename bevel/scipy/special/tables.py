"""Smooth functions on [0, 1] by tables of short polynomials.

The interval is cut into equal pieces, and on each a polynomial interpolates a reference, SciPy's
function times or divided by factors that leave it smooth, at Chebyshev points. The tables are
computed when first used, in float64; shorter polynomials serve float32.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

import bevel.numpy as bnp
from bevel.core.dtypes import float64

PIECES = 32
_DEGREE = {float64: 10}
_DEGREE_SINGLE = 4


@functools.cache
def _coefficients(fn: Callable, dtype: np.dtype) -> np.ndarray:
    """Row `i` holds the polynomial in y from -1 to 1 on piece `i`, lowest power first."""
    degree = _DEGREE.get(dtype, _DEGREE_SINGLE)
    chebyshev = np.polynomial.chebyshev
    points = chebyshev.chebpts1(degree + 1)
    rows = []
    for i in range(PIECES):
        found = chebyshev.chebfit(points, fn((i + (points + 1) / 2) / PIECES), degree)
        rows.append(chebyshev.cheb2poly(found))
    return np.asarray(rows, dtype)


def lookup(fn: Callable[[np.ndarray], np.ndarray], s: Any) -> Any:
    """`fn(s)` for float `s` in [0, 1], to the precision of its dtype; NaN stays NaN.

    `fn` maps float64 NumPy arrays inside of (0, 1), is smooth there up to the ends, and is one
    object for all calls.
    """
    dtype = np.dtype(s.dtype)
    table = bnp.asarray(_coefficients(fn, dtype), dtype=dtype)
    place = s * PIECES
    piece = bnp.clip(bnp.floor(bnp.where(bnp.isnan(s), 0, place)), 0, PIECES - 1)
    rows = table[piece.astype("int32")]
    y = 2 * (place - piece) - 1
    out = rows[..., -1]
    for k in range(table.shape[1] - 2, -1, -1):
        out = out * y + rows[..., k]
    return out


def folded(x: Any, k: float) -> Any:
    """The quotient x / (x + k): the half line from 0 onto [0, 1]."""
    return 1 - k / (x + k)


def unfolded(s: np.ndarray, k: float) -> np.ndarray:
    """The inverse of `folded`."""
    return k * s / (1 - s)
