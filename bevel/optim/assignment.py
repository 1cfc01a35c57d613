"""The assignment problem: pairs of rows and columns of least total cost."""

from __future__ import annotations

from typing import Any

import bevel.numpy as bnp
from bevel import lax
from bevel.core import dtypes
from bevel.numpy.convert import enter


def _columns(cost: Any) -> Any:
    """The column of each row, for a matrix with no more rows than columns.

    Rows join one by one, each along the shortest augmenting path under potentials u and v that
    keep reduced costs from becoming negative. Column m stands for "none yet".
    """
    n, m = cost.shape

    def join(r: Any, carry: Any) -> Any:
        u, v, match = carry
        match = match.at[m].set(r)

        def grow(s: Any) -> Any:
            u, v, least, before, used, col = s
            used = used.at[col].set(True)
            row = match[col]
            reduced = cost[row] - u[row] - v[:m]
            closer = ~used[:m] & (reduced < least)
            least, before = bnp.where(closer, reduced, least), bnp.where(closer, col, before)
            candidates = bnp.where(used[:m], bnp.inf, least)
            col = bnp.argmin(candidates).astype(dtypes.int32)
            delta = candidates[col]
            u = u.at[bnp.where(used, match, n)].add(delta)
            v = bnp.where(used, v - delta, v)
            return u, v, bnp.where(used[:m], least, least - delta), before, used, col

        def back(s: Any) -> Any:
            match, col = s
            earlier = before[col]
            return match.at[col].set(match[earlier]), earlier

        far = bnp.full(m, bnp.inf, cost.dtype)
        none = bnp.array(m, dtypes.int32)
        start = (u, v, far, bnp.full(m, none), bnp.zeros(m + 1, bool), none)
        u, v, _, before, _, col = lax.while_loop(lambda s: match[s[-1]] >= 0, grow, start)
        return u, v, lax.while_loop(lambda s: s[1] != m, back, (match, col))[0].at[m].set(-1)

    start = (bnp.zeros(n + 1, cost.dtype), bnp.zeros(m + 1, cost.dtype), bnp.full(m + 1, -1))
    match = lax.fori_loop(0, n, join, start)[2][:m]
    return bnp.zeros(n + 1, int).at[bnp.where(match < 0, n, match)].set(bnp.arange(m))[:n]


def _solved(name: str, cost_matrix: Any) -> tuple[Any, bool]:
    """The column of each row (or the row of each column, if there are fewer), and which it is."""
    cost = enter(cost_matrix)
    if cost.ndim != 2:
        raise ValueError(f"{name}: cost_matrix is (rows, columns), got the shape {cost.shape}")
    cost = cost if dtypes.is_float(cost.dtype) else cost.astype(dtypes.float32)
    flip = cost.shape[0] > cost.shape[1]
    if 0 in cost.shape:
        return bnp.zeros(0, int), flip
    return _columns(cost.T if flip else cost), flip


def base_hungarian_algorithm(cost_matrix: Any) -> tuple[Any, Any]:
    """Pairs of rows and columns, at most one of each, of least total cost; ordered by row.

    Shortest augmenting paths (Crouse, "On Implementing 2D Rectangular Assignment Algorithms", 2016,
    doi:10.1109/TAES.2016.140952).

    Args:
        cost_matrix: (rows, columns) of finite numbers.

    Raises:
        ValueError: not a matrix.

    >>> from bevel.optim import assignment
    >>> cost = bnp.array([[4.0, 1.0, 3.0], [2.0, 0.0, 5.0], [3.0, 2.0, 2.0]])
    >>> i, j = assignment.base_hungarian_algorithm(cost)
    >>> i, j, cost[i, j].sum()
    (Array([0, 1, 2], dtype=int32), Array([1, 0, 2], dtype=int32), Array(5., dtype=float32))
    """
    found, flip = _solved("base_hungarian_algorithm", cost_matrix)
    if flip:
        order = bnp.argsort(found)
        return found[order], order
    return bnp.arange(found.size), found


def hungarian_algorithm(cost_matrix: Any) -> tuple[Any, Any]:
    """`base_hungarian_algorithm` in another order: by column for a square matrix, else from the
    last row (or column) to the first.

    >>> from bevel.optim import assignment
    >>> cost = bnp.array([[4.0, 1.0, 3.0], [2.0, 0.0, 5.0], [3.0, 2.0, 2.0]])
    >>> assignment.hungarian_algorithm(cost)
    (Array([1, 0, 2], dtype=int32), Array([0, 1, 2], dtype=int32))
    """
    found, flip = _solved("hungarian_algorithm", cost_matrix)
    if enter(cost_matrix).shape == (found.size, found.size):
        return bnp.argsort(found), bnp.arange(found.size)
    each = bnp.arange(found.size)[::-1]
    return (found[each], each) if flip else (each, found[each])
