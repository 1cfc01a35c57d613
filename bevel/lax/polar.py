"""The polar decomposition by dynamically weighted Halley iterations.

Nakatsukasa, Bai and Gygi 2010, "Optimizing Halley's iteration for computing the matrix polar
decomposition"; Nakatsukasa and Higham 2013 for the choice between QR and Cholesky steps.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import bevel.ops as ops
from bevel.core import dtypes
from bevel.core.errors import ShapeError
from bevel.core.handle import wrap
from bevel.lax.loops import while_loop
from bevel.numpy.arguments import number
from bevel.ops import matrix
from bevel.ops.linalg import block

_CHOLESKY_BELOW = 100.0
"""Weights under which the cheaper step by a Cholesky factor is accurate."""


def _weights(eps: float, max_iterations: int) -> list[tuple[float, float, float]]:
    """The weights (a, b, c) of each step, from a lower bound `eps` on the singular values."""
    low, found = eps, []
    while low + 5 * eps < 1 and len(found) < max_iterations:
        square = low * low
        root = (4 * (1 / square - 1) / square) ** (1 / 3)
        outer = (1 + root) ** 0.5
        a = outer + (2 - root + 2 * (2 - square) / (square * outer)) ** 0.5
        b = (a - 1) ** 2 / 4
        c = a + b - 1
        low = low * (a + b * square) / (1 + c * square)
        found.append((a, b, c))
    return found


def _step(u: Any, a: float, b: float, c: float) -> Any:
    """`u @ (a + b * g) @ inv(1 + c * g)` with `g = adjoint(u) @ u`."""
    m, n = u.shape
    ratio = b / c
    if c > _CHOLESKY_BELOW:
        tall = ops.concatenate(
            matrix.scale(u, c**0.5), matrix.eye_like(block(u, (0, n), (0, n))), axis=0
        )
        q, _ = ops.qr(tall, full_matrices=False)
        top, bottom = block(q, (0, m), (0, n)), block(q, (m, m + n), (0, n))
        moved = matrix.scale(matrix.matmul(top, matrix.adjoint(bottom)), (a - ratio) / c**0.5)
    else:
        gram = matrix.scale(matrix.matmul(matrix.adjoint(u), u), c)
        factor = ops.cholesky(ops.add(gram, matrix.eye_like(gram)))
        flags = dict(left_side=False, lower=True)
        half = ops.triangular_solve(factor, u, transpose_a=True, conjugate_a=True, **flags)
        moved = matrix.scale(ops.triangular_solve(factor, half, **flags), a - ratio)
    return ops.add(matrix.scale(u, ratio), moved)


def _size(x: Any) -> Any:
    """The Frobenius norm."""
    size = ops.abs(x)
    return ops.sqrt(ops.reduce_sum(ops.mul(size, size), axes=(0, 1)))


def _scaled(x: Any) -> Any:
    """`x` over an upper bound on its largest singular value."""
    size = ops.abs(x)
    ones = [ops.reduce_max(ops.reduce_sum(size, axes=(i,)), axes=(0,)) for i in (0, 1)]
    inverse = ops.mul(*[ops.rsqrt(n) for n in ones])
    none = ops.eq(ones[0], ops.zeros_like(ones[0]))
    inverse = ops.select(none, ops.full_like(inverse, 1), inverse)
    return ops.mul(
        x, ops.broadcast_in_dim(ops.convert(inverse, dtype=x.dtype), shape=tuple(x.shape), dims=())
    )


def _inside(x: Any, dynamic_shape: tuple[Any, Any]) -> Any:
    """Zero outside the first m rows and n columns."""
    for axis, limit in enumerate(dynamic_shape):
        places = ops.iota(shape=tuple(x.shape), dtype=dtypes.int32, axis=axis)
        bound = ops.convert(number("qdwh", limit), dtype=dtypes.int32)
        bound = ops.broadcast_in_dim(bound, shape=tuple(x.shape), dims=())
        x = ops.select(ops.lt(places, bound), x, ops.zeros_like(x))
    return x


def qdwh(
    x: Any,
    *,
    is_hermitian: bool = False,
    max_iterations: int | None = None,
    eps: float | None = None,
    dynamic_shape: tuple[Any, Any] | None = None,
) -> tuple[Any, Any, Any, Any]:
    """The polar decomposition `x = u @ h` of one matrix (m, n) of full rank with m >= n.

    u has orthonormal columns, h is Hermitian and positive. Returns (u, h, number of iterations,
    whether they converged within `max_iterations`, by default 10). `is_hermitian` changes nothing;
    `dynamic_shape` says how many of the rows and columns count, the others being padding.

    >>> u, h, _, converged = lax.linalg.qdwh(bnp.array([[0.0, 2.0], [3.0, 0.0]]))
    >>> bnp.abs(bnp.round(u, 4)), bool(converged)
    (Array([[0., 1.],
           [1., 0.]], dtype=float32), True)
    """
    value = number("qdwh", x)
    if len(value.shape) != 2 or value.shape[0] < value.shape[1]:
        raise ShapeError(
            f"lax.linalg.qdwh: x has shape {tuple(value.shape)}; it must be one matrix with at "
            "least as many rows as columns.\nWrite instead: qdwh(x.T), with u and h transposed, "
            "or vmap for a stack."
        )
    if dynamic_shape is not None:
        value = _inside(value, dynamic_shape)
    limit = 10 if max_iterations is None else int(max_iterations)
    eps = float(dtypes.finfo(value.dtype).eps) if eps is None else float(eps)
    close = (5 * eps) ** (1 / 3)
    u, moving = _scaled(value), np.asarray(True)
    weights = _weights(eps, limit)
    for a, b, c in weights:
        before, u = u, _step(u, a, b, c)
        if c <= _CHOLESKY_BELOW:
            change = _size(ops.sub(u, before))
            moving = ops.gt(change, ops.full_like(change, close))

    def going(state):
        count, _, moving = state
        return (count < limit) & moving

    def step(state):
        count, u, _ = state
        new = _step(u._v, 3.0, 1.0, 3.0)
        change = _size(ops.sub(new, u._v))
        return count + 1, wrap(new), wrap(ops.gt(change, ops.full_like(change, close)))

    start = (np.int32(len(weights)), wrap(u), wrap(moving))
    count, u, moving = while_loop(going, step, start)
    u = u._v
    # One step of Newton and Schulz takes out what the iterations left of rounding.
    gram = matrix.matmul(matrix.adjoint(u), u)
    u = ops.sub(matrix.scale(u, 1.5), matrix.scale(matrix.matmul(u, gram), 0.5))
    h = matrix.matmul(matrix.adjoint(u), value)
    h = matrix.scale(ops.add(h, matrix.adjoint(h)), 0.5)
    return wrap(u), wrap(h), count, ~moving
