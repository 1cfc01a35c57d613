"""Products of arrays: matmul, dot and their relatives, all of them one `dot_general`.

float32 products run at `precision`, or at the setting `default_matmul_precision`; the result has
the promoted dtype of the operands unless `preferred_element_type` names another to accumulate in.
"""

from __future__ import annotations

import enum
import math
from typing import Any

import numpy as np

import bevel.ops as ops
from bevel.core import config, source
from bevel.core.dtypes import as_dtype
from bevel.core.errors import ShapeError
from bevel.core.handle import wrap
from bevel.numpy.arguments import axes_of, axis_of, integer, number
from bevel.numpy.convert import enter, numbers, promote
from bevel.numpy.manipulation import moveaxis
from bevel.numpy.reductions import sum
from bevel.numpy.selection import diagonal

Labels = tuple[Any, ...]


def precision_of(precision: Any) -> Any:
    """The precision an op takes: the argument as strings, or the setting where it is None."""
    if precision is None:
        return config.get("default_matmul_precision")
    if isinstance(precision, enum.Enum):
        return precision.value
    if isinstance(precision, tuple | list):
        return tuple([precision_of(p) for p in precision])
    return precision


def preferred_of(preferred_element_type: Any) -> np.dtype | None:
    """The dtype to accumulate in, if one is given."""
    return None if preferred_element_type is None else as_dtype(preferred_element_type)


def _operands(name: str, a: Any, b: Any) -> tuple[Any, Any, Any]:
    """Two values of one dtype, and the tag of the result."""
    x, y = enter(a), enter(b)
    number(name, x), number(name, y)
    (u, v), tag = promote(x, y)
    return u, v, tag


def contract(
    x: Any, xl: Labels, y: Any, yl: Labels, out: Labels, precision: Any, preferred: Any
) -> Any:
    """Product of two values with labelled axes, summed over the labels that `out` lacks.

    A label that `out` lacks is in both operands, and no operand has a label twice.
    """
    shared = [label for label in xl if label in yl]
    batch = [label for label in shared if label in out]
    summed = [label for label in shared if label not in out]
    places = [
        tuple([tuple([ls.index(k) for k in some]) for ls in (xl, yl)]) for some in (summed, batch)
    ]
    product = ops.dot_general(
        x, y, contract=places[0], batch=places[1], precision=precision, preferred=preferred
    )
    free = [*[k for k in xl if k not in shared], *[k for k in yl if k not in shared]]
    order = tuple([[*batch, *free].index(label) for label in out])
    return (
        product if order == tuple(range(len(order))) else ops.transpose(product, permutation=order)
    )


def _mismatch(name: str, x: Any, y: Any, why: str, instead: str) -> ShapeError:
    return ShapeError(
        f"{name}: shapes {tuple(x.shape)} and {tuple(y.shape)} do not fit "
        f"at {source.where(source.user_source())}.\n"
        f"Why: {why}.\n"
        f"Write instead: {instead}."
    )


def _check_matmul(name: str, x: Any, y: Any) -> None:
    if not x.shape or not y.shape:
        raise _mismatch(name, x, y, "a 0-d operand has no axis to sum over", "x * y")
    k, m = x.shape[-1], y.shape[-2 if len(y.shape) > 1 else -1]
    if k != m:
        place = "second-to-last" if len(y.shape) > 1 else "last"
        why = f"the last axis of the first ({k}) must equal the {place} axis of the second ({m})"
        raise _mismatch(name, x, y, why, "transpose one operand (x.T, x.mT), or reshape it")


def matmul(a: Any, b: Any, *, precision: Any = None, preferred_element_type: Any = None) -> Any:
    """Matrix product, `a @ b`: over the last two axes, with the axes before them broadcast.

    A vector is a row on the left and a column on the right, and its axis is gone from the result.

    Raises:
        ShapeError: (a TypeError and a ValueError) the shapes do not fit.

    >>> bnp.matmul(bnp.ones((2, 3)), bnp.ones((3, 4))).shape
    (2, 4)
    """
    x, y, tag = _operands("matmul", a, b)
    _check_matmul("matmul", x, y)
    how = precision_of(precision), preferred_of(preferred_element_type)
    nx, ny = len(x.shape), len(y.shape)
    if ny <= 2:
        contracted = ((nx - 1,), (0,))
        out = ops.dot_general(
            x, y, contract=contracted, batch=((), ()), precision=how[0], preferred=how[1]
        )
        return wrap(out, tag)
    return wrap(_matmul_stacked(x, y, *how), tag)


def _matmul_stacked(x: Any, y: Any, precision: Any, preferred: Any) -> Any:
    """Matrix product of two stacks; an axis of size 1 is dropped rather than repeated."""
    lead_x, lead_y = tuple(x.shape[:-2]), tuple(y.shape[:-2])
    try:
        lead = np.broadcast_shapes(lead_x, lead_y)
    except ValueError:
        why = f"the axes before the last two, {lead_x} and {lead_y}, must broadcast"
        raise _mismatch("matmul", x, y, why, "bnp.einsum, which names every axis") from None
    n = len(lead)
    labels = []
    for mine, other in ((lead_x, lead_y), (lead_y, lead_x)):
        axes, padded = [], (1,) * (n - len(other)) + other
        for i, size in enumerate(mine, n - len(mine)):
            axes.append(None if size == 1 and padded[i] != 1 else i)
        labels.append(axes)
    x = ops.squeeze(x, tuple([i for i, k in enumerate(labels[0]) if k is None]))
    y = ops.squeeze(y, tuple([i for i, k in enumerate(labels[1]) if k is None]))
    xl = (*[k for k in labels[0] if k is not None], *(("m",) if len(x.shape) > 1 else ()), "k")
    yl = (*[k for k in labels[1] if k is not None], "k", "n")
    xl = xl if len(xl) == len(x.shape) else tuple([k for k in xl if k != "m"])
    out = tuple([k for k in (*range(n), "m", "n") if k in xl or k in yl])
    return contract(x, xl, y, yl, out, precision, preferred)


def dot(a: Any, b: Any, *, precision: Any = None, preferred_element_type: Any = None) -> Any:
    """Sum over the last axis of `a` and the second-to-last of `b` (its last if it is a vector).

    With a 0-d operand it multiplies; the other axes stay in order, `a`'s first.

    Raises:
        ShapeError: the summed axes differ.

    >>> bnp.dot(bnp.array([1.0, 2.0]), bnp.array([3.0, 4.0]))
    Array(11., dtype=float32)
    """
    x, y, tag = _operands("dot", a, b)
    if not x.shape or not y.shape:
        return multiply_values("dot", wrap(x, tag), wrap(y, tag))
    _check_matmul("dot", x, y)
    summed = ((len(x.shape) - 1,), (max(len(y.shape) - 2, 0),))
    out = ops.dot_general(
        x,
        y,
        contract=summed,
        batch=((), ()),
        precision=precision_of(precision),
        preferred=preferred_of(preferred_element_type),
    )
    return wrap(out, tag)


def multiply_values(name: str, a: Any, b: Any) -> Any:
    """Elementwise product of two operands, broadcast; `and` for bool."""
    (x, y), tag = numbers(name, (a, b))
    return wrap(ops.and_(x, y) if x.dtype == np.bool_ else ops.mul(x, y), tag)


def conjugate(x: Any) -> Any:
    """The complex conjugate of a value; real ones as they are."""
    return ops.conj(x) if np.dtype(x.dtype).kind == "c" else x


def vdot(a: Any, b: Any, *, precision: Any = None, preferred_element_type: Any = None) -> Any:
    """Dot product of two flattened arrays, the first one conjugated.

    >>> bnp.vdot(bnp.ones((2, 2)), bnp.ones((2, 2)))
    Array(4., dtype=float32)
    """
    x, y = number("vdot", a), number("vdot", b)
    if math.prod(x.shape) != math.prod(y.shape):
        raise _mismatch(
            "vdot", x, y, "both need the same number of elements", "bnp.dot or bnp.tensordot"
        )
    x, y = (ops.reshape(v, shape=(math.prod(v.shape),)) for v in (conjugate(x), y))
    return dot(wrap(x), wrap(y), precision=precision, preferred_element_type=preferred_element_type)


def vecdot(
    x1: Any,
    x2: Any,
    /,
    *,
    axis: int = -1,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Any:
    """Dot product along one axis, the first operand conjugated; the others broadcast.

    >>> bnp.vecdot(bnp.ones((5, 3)), bnp.ones(3)).shape
    (5,)
    """
    x, y = number("vecdot", x1), number("vecdot", x2)
    x = moveaxis(wrap(conjugate(x)), axis_of("vecdot", axis, len(x.shape)), -1)
    y = moveaxis(wrap(y), axis_of("vecdot", axis, len(y.shape)), -1)
    if x._v.shape[-1] != y._v.shape[-1]:
        raise _mismatch(
            "vecdot", x._v, y._v, "the summed axis must have one size", "bnp.sum(x * y, axis)"
        )
    row = wrap(ops.expand_dims(x._v, (len(x._v.shape) - 1,)))
    column = wrap(ops.expand_dims(y._v, (len(y._v.shape),)))
    out = matmul(row, column, precision=precision, preferred_element_type=preferred_element_type)
    return wrap(ops.squeeze(out._v, (len(out._v.shape) - 2, len(out._v.shape) - 1)))


def matvec(x1: Any, x2: Any, /) -> Any:
    """Product of matrices and vectors, `x1[..., m, n]` and `x2[..., n]`, stacks broadcast.

    >>> bnp.matvec(bnp.ones((5, 2, 3)), bnp.ones(3)).shape
    (5, 2)
    """
    column = number("matvec", x2)
    column = wrap(ops.expand_dims(column, (len(column.shape),)))
    out = matmul(x1, column)._v
    return wrap(ops.squeeze(out, (len(out.shape) - 1,)))


def vecmat(x1: Any, x2: Any, /) -> Any:
    """Product of vectors and matrices, `x1[..., n]` conjugated and `x2[..., n, m]`, stacks
    broadcast.

    >>> bnp.vecmat(bnp.ones(3), bnp.ones((5, 3, 2))).shape
    (5, 2)
    """
    row = conjugate(number("vecmat", x1))
    row = wrap(ops.expand_dims(row, (len(row.shape) - 1,)))
    out = matmul(row, x2)._v
    return wrap(ops.squeeze(out, (len(out.shape) - 2,)))


def inner(a: Any, b: Any, *, precision: Any = None, preferred_element_type: Any = None) -> Any:
    """Sum over the last axes of both operands.

    >>> bnp.inner(bnp.ones((2, 3)), bnp.ones((4, 3))).shape
    (2, 4)
    """
    x, y = enter(a), enter(b)
    if not x._v.shape or not y._v.shape:
        return multiply_values("inner", x, y)
    return tensordot(
        x, y, ((-1,), (-1,)), precision=precision, preferred_element_type=preferred_element_type
    )


def outer(a: Any, b: Any, out: None = None) -> Any:
    """All products of an element of `a` and an element of `b`, both flattened.

    >>> bnp.outer(bnp.array([1, 2]), bnp.array([3, 4]))
    Array([[3, 4],
           [6, 8]], dtype=int32)
    """
    if out is not None:
        raise TypeError(
            "outer: arrays are immutable, so there is no `out`; write y = bnp.outer(a, b)"
        )
    x, y = number("outer", a), number("outer", b)
    x = wrap(ops.reshape(x, shape=(math.prod(x.shape), 1)))
    y = wrap(ops.reshape(y, shape=(1, math.prod(y.shape))))
    return multiply_values("outer", x, y)


def tensordot(
    a: Any, b: Any, axes: Any = 2, *, precision: Any = None, preferred_element_type: Any = None
) -> Any:
    """Sum over several axes: the last `axes` of `a` with the first of `b`, or a pair of lists of
    axes.

    Raises:
        ShapeError: two axes to be summed together differ.

    >>> bnp.tensordot(bnp.ones((2, 3, 4)), bnp.ones((4, 3)), ([1, 2], [1, 0])).shape
    (2,)
    """
    x, y, tag = _operands("tensordot", a, b)
    if isinstance(axes, tuple | list):
        if len(axes) != 2:
            raise ValueError(
                f"tensordot: axes must be an int or a pair (axes of a, axes of b), got {axes}"
            )
        left, right = (
            axes_of("tensordot", tuple(s) if isinstance(s, tuple | list) else s, len(v.shape))
            for s, v in zip(axes, (x, y), strict=True)
        )
    else:
        count = integer("tensordot", "axes", axes)
        if not 0 <= count <= min(len(x.shape), len(y.shape)):
            why = f"axes={count} asks for that many axes of each"
            raise _mismatch(
                "tensordot", x, y, why, "a smaller number, or axes=0 for an outer product"
            )
        left, right = tuple(range(len(x.shape) - count, len(x.shape))), tuple(range(count))
    if [x.shape[i] for i in left] != [y.shape[i] for i in right]:
        why = f"axes {left} of the first and {right} of the second must have the same sizes"
        raise _mismatch("tensordot", x, y, why, "axes=([...], [...]) that pair equal sizes")
    out = ops.dot_general(
        x,
        y,
        contract=(left, right),
        batch=((), ()),
        precision=precision_of(precision),
        preferred=preferred_of(preferred_element_type),
    )
    return wrap(out, tag)


def kron(a: Any, b: Any) -> Any:
    """Kronecker product: `b` scaled by every element of `a`, as blocks.

    >>> bnp.kron(bnp.array([1, 10]), bnp.array([1, 2]))
    Array([ 1,  2, 10, 20], dtype=int32)
    """
    x, y = number("kron", a), number("kron", b)
    n = max(len(x.shape), len(y.shape))
    left, right = ((1,) * (n - len(v.shape)) + tuple(v.shape) for v in (x, y))
    x = wrap(ops.reshape(x, shape=tuple([k for m in left for k in (m, 1)])))
    y = wrap(ops.reshape(y, shape=tuple([k for m in right for k in (1, m)])))
    whole = multiply_values("kron", x, y)._v
    return wrap(ops.reshape(whole, shape=tuple([p * q for p, q in zip(left, right, strict=True)])))


def trace(
    a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: None = None
) -> Any:
    """Sum of the diagonal of each matrix in the plane of two axes.

    >>> bnp.trace(bnp.array([[1, 2], [3, 4]]))
    Array(5, dtype=int32)
    """
    return sum(diagonal(a, offset, axis1, axis2), -1, dtype, out)


def cross(
    a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None
) -> Any:
    """Vector product of vectors of size 3 (a size of 2 has a third component of 0).

    Two vectors of size 2 give the third component alone, without its axis.

    >>> bnp.cross(bnp.array([1, 0, 0]), bnp.array([0, 1, 0]))
    Array([0, 0, 1], dtype=int32)
    """
    if axis is not None:
        axisa = axisb = axisc = axis
    x, y = enter(a), enter(b)
    x = moveaxis(x, axis_of("cross", axisa, len(x._v.shape)), -1)
    y = moveaxis(y, axis_of("cross", axisb, len(y._v.shape)), -1)
    sizes = x._v.shape[-1], y._v.shape[-1]
    if not set(sizes) <= {2, 3}:
        why = "the axis of components must have size 2 or 3"
        raise _mismatch("cross", x._v, y._v, why, "axis=i for the axis that holds x, y, z")
    u, v = _components(x), _components(y)
    if sizes == (2, 2):
        return u[0] * v[1] - u[1] * v[0]
    parts = [_determinant(u, v, i, j) for i, j in ((1, 2), (2, 0), (0, 1))]
    shape = np.broadcast_shapes(*[p._v.shape for p in parts])
    whole = [
        ops.broadcast_in_dim(p._v, shape=(*shape, 1), dims=tuple(range(len(shape)))) for p in parts
    ]
    return moveaxis(wrap(ops.concatenate(*whole, axis=len(shape))), -1, axisc)


def _components(x: Any) -> list[Any]:
    n = len(x._v.shape) - 1
    shape = tuple(x._v.shape[:-1])
    parts = []
    for i in range(x._v.shape[-1]):
        part = ops.slice(x._v, start=(*(0,) * n, i), limit=(*shape, i + 1), strides=None)
        parts.append(wrap(ops.squeeze(part, (n,))))
    return parts if len(parts) == 3 else [*parts, wrap(ops.zeros_like(parts[0]._v))]


def _determinant(u: list[Any], v: list[Any], i: int, j: int) -> Any:
    return u[i] * v[j] - u[j] * v[i]
