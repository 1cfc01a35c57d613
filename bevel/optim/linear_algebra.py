"""Matrix functions that some optimizers are made of."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import bevel.numpy as bnp
from bevel import lax, random
from bevel.core import dtypes
from bevel.numpy.convert import enter
from bevel.optim import tree

_EXACT = lax.Precision.HIGHEST


def _unit(x: Any) -> Any:
    return tree.scale(1.0 / tree.norm(x), x)


def power_iteration(
    matrix: Any,
    *,
    v0: Any = None,
    num_iters: Any = 100,
    error_tolerance: Any = 1e-6,
    precision: Any = _EXACT,
    key: Any = None,
) -> tuple[Any, Any]:
    """The eigenvalue of largest modulus and its vector (von Mises and Pollaczek-Geiringer, 1929).

    Args:
        matrix: square matrix, or a function that multiplies a tree with one.
        v0: where to start; needed if the matrix is a function.
        num_iters: how many products at most.
        error_tolerance: largest relative error of the eigenvector's equation.
        precision: of the products with an array.
        key: of the random start without `v0`.

    Raises:
        ValueError: a function, without `v0`.

    >>> from bevel import optim
    >>> value, vector = optim.power_iteration(bnp.array([[2.0, 0.0], [0.0, 1.0]]))
    >>> value.round(3)
    Array(2., dtype=float32)
    """
    multiply: Callable[[Any], Any]
    if callable(matrix):
        multiply = matrix
        if v0 is None:
            raise ValueError("power_iteration: a function for `matrix` needs a tree `v0` to start")
    else:
        matrix = enter(matrix)

        def multiply(v: Any) -> Any:
            return bnp.matmul(matrix, v, precision=precision)

        if v0 is None:
            key = random.key(0) if key is None else key
            v0 = random.uniform(key, matrix.shape[-1:], matrix.dtype, -1.0, 1.0)

    def going(s: Any) -> Any:
        vector, product, value, count = s
        error = tree.norm(tree.sub(product, tree.scale(value, vector)))
        return ~(abs(error / value) < error_tolerance) & (count < num_iters)

    def step(s: Any) -> Any:
        vector = _unit(s[1])
        product = multiply(vector)
        return vector, product, enter(tree.vdot(vector, product)).astype(s[2].dtype), s[3] + 1

    v0 = _unit(v0)
    product = multiply(v0)
    first = bnp.zeros((), enter(tree.vdot(v0, product)).dtype)
    _, product, value, _ = lax.while_loop(going, step, (v0, product, first, bnp.zeros((), int)))
    return value, _unit(product)


def matrix_inverse_pth_root(
    matrix: Any,
    p: int,
    num_iters: Any = 100,
    ridge_epsilon: Any = 1e-6,
    error_tolerance: Any = 1e-6,
    precision: Any = _EXACT,
) -> tuple[Any, Any]:
    """matrix**(-1/p) of a symmetric positive matrix, by a coupled Newton iteration (Guo and Higham,
    2006, doi:10.1137/050643374; as in Anil et al., arXiv:2002.09018).

    Args:
        matrix: (n, n).
        p: whole number.
        num_iters: how many steps at most.
        ridge_epsilon: what is added to the diagonal, over the largest eigenvalue.
        error_tolerance: largest error that ends the iteration.
        precision: of the products.

    Returns:
        The root, and the largest error of an element of matrix @ root**p.

    >>> from bevel import optim
    >>> root, error = optim.matrix_inverse_pth_root(bnp.array([[4.0, 0.0], [0.0, 16.0]]), 2)
    >>> root.round(3)
    Array([[0.5 , 0.  ],
           [0.  , 0.25]], dtype=float32)
    """
    matrix, p = enter(matrix), operator.index(p)
    n, power = matrix.shape[0], -1.0 / p
    one = bnp.eye(n, dtype=dtypes.float32)
    largest = power_iteration(matrix, precision=precision)[0]
    ridge = ridge_epsilon * bnp.maximum(largest, 1e-16)
    if n == 1:
        return (matrix + ridge) ** power, bnp.zeros((), dtypes.float32)

    def times(a: Any, b: Any) -> Any:
        return bnp.matmul(a, b, precision=precision)

    def raised(m: Any) -> Any:
        out, square, left = None, m, p
        while left:
            if left & 1:
                out = square if out is None else times(out, square)
            left >>= 1
            square = times(square, square) if left else square
        return out

    def error_of(m: Any) -> Any:
        return bnp.max(abs(m - one))

    def going(s: Any) -> Any:
        count, _, _, _, error, closer = s
        return (count < num_iters) & (error > error_tolerance) & closer

    def step(s: Any) -> Any:
        count, m, root, _, error, _ = s
        factor = (1 - power) * one + power * m
        m = times(raised(factor), m)
        return count + 1, m, times(root, factor), root, error_of(m), error_of(m) < 1.2 * error

    damped = (matrix + ridge * one).astype(dtypes.float32)
    z = (1 + p) / (2 * bnp.linalg.norm(damped))
    start = damped * z
    root = one * z ** (1.0 / p)
    first = (bnp.zeros((), int), start, root, root, error_of(start), bnp.array(True))
    _, m, root, before, _, closer = lax.while_loop(going, step, first)
    return bnp.where(closer, root, before).astype(matrix.dtype), error_of(m)


def nnls(A: Any, b: Any, iters: int, unroll: int | bool = 1, L: Any = None) -> Any:
    """The x without negative elements that makes norm(A @ x - b) least, by accelerated projected
    gradients (Beck and Teboulle, "A Fast Iterative Shrinkage-Thresholding Algorithm", 2009,
    doi:10.1137/080716542).

    Args:
        A: (m, n).
        b: (m,) or (m, k).
        iters: how many steps.
        unroll: as in `lax.scan`.
        L: bound of the largest eigenvalue of A.T @ A; by default from its norms.

    Raises:
        ValueError: the shapes do not fit.

    >>> from bevel import optim
    >>> optim.nnls(bnp.eye(2), bnp.array([1.0, -1.0]), 10)
    Array([1., 0.], dtype=float32)
    """
    A, b = enter(A), enter(b)
    if A.ndim != 2 or b.ndim not in (1, 2) or A.shape[0] != b.shape[0]:
        raise ValueError(f"nnls: A is (m, n) and b (m,) or (m, k), got {A.shape} and {b.shape}")
    square, right = A.T @ A, A.T @ b
    if L is None:
        norms = [bnp.linalg.norm(square), bnp.linalg.norm(square, 1) if square.size else 0]
        L = bnp.minimum(*norms)
    L = bnp.where(L == 0, 1, L)

    def step(carry: Any, _: Any) -> tuple[Any, None]:
        x, ahead, c = carry
        larger = (1 + bnp.sqrt(1 + 4 * c**2)) / 2
        new = bnp.maximum(ahead - (square @ ahead - right) / L, 0)
        return (new, new + (c - 1) / larger * (new - x), larger), None

    x = bnp.zeros((A.shape[1], *b.shape[1:]), b.dtype)
    return lax.scan(step, (x, x, bnp.zeros(())), length=iters, unroll=unroll)[0][0]
