"""Products of arrays: matmul, dot and their relatives, all of them one `dot_general`.

float32 products run at `precision`, or at the setting `default_matmul_precision`; the result has
the promoted dtype of the operands unless `preferred_element_type` names another to accumulate in.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

import bevel.ops as ops
from bevel.core import config
from bevel.core.dtypes import as_dtype
from bevel.core.errors import ShapeError
from bevel.core.handle import wrap
from bevel.core.misfit import (
    Change,
    Fix,
    Shape,
    broadcastable,
    change_of,
    mend,
    misfit,
    transposed,
    with_axis,
)
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


def _mismatch(
    name: str, given: Sequence[Any], why: str, instead: str, fixes: Iterable[Fix] = ()
) -> Exception:
    handles = [enter(x) for x in given]
    return misfit(name, handles, why, fixes, instead, params=("a", "b"))


def _shape(x: Any) -> Shape:
    return tuple(enter(x)._v.shape)


def _multiplies(shapes: Sequence[Shape]) -> bool:
    """Whether matmul takes these shapes."""
    x, y = shapes
    if not x or not y or x[-1] != y[-2 if len(y) > 1 else -1]:
        return False
    return broadcastable([(), x[:-2], y[:-2]])


def _mend_matmul(name: str, x: Shape, y: Shape) -> list[Fix]:
    def fits(shapes: list[Shape]) -> bool:
        if name == "matmul":
            return _multiplies(shapes)
        left, right = shapes
        return bool(left and right) and left[-1] == right[-2 if len(right) > 1 else -1]

    def stacked(i: int, shape: Shape) -> Iterator[Change]:
        """An axis of size 1 more among those before the last two."""
        if 1 < len(shape) < max(len(x), len(y)):
            yield from (c for c in with_axis(shape) if c.shape[-2:] == shape[-2:])

    def vectors(i: int, shape: Shape) -> Iterator[Change]:
        """A stack of vectors, one for each matrix: as rows on the left, as columns on the right."""
        if len(shape) > 1 and shape[:-1] == (x, y)[1 - i][:-2]:
            code, new = ("_[..., None]", (*shape, 1)) if i else ("_[..., None, :]", None)
            yield Change(code, new or (*shape[:-1], 1, shape[-1]), "is a stack of vectors")

    makers = [vectors, lambda i, s: transposed(s), stacked]
    found = mend([x, y], fits, makers if name == "matmul" else makers[1:2])
    if found is None and fits([y, x]):
        found = Fix("They fit the other way round", swap=True, plain="the two exchanged")
    return [] if found is None else [found]


def _check_matmul(name: str, x: Any, y: Any, given: Sequence[Any]) -> None:
    if not x.shape or not y.shape:
        why = f"{{{0 if not x.shape else 1}}} has no axis to sum over"
        raise _mismatch(name, given, why, "x * y", [Fix(whole="_0 * _1")])
    k, m = x.shape[-1], y.shape[-2 if len(y.shape) > 1 else -1]
    if k != m:
        place = "second-to-last" if len(y.shape) > 1 else "last"
        why = f"the last axis of {{0}} ({k}) must equal the {place} axis of {{1}} ({m})"
        fixes = _mend_matmul(name, tuple(x.shape), tuple(y.shape))
        instead = "operands whose summed axes are equal: transpose (x.T, x.mT) or reshape one"
        raise _mismatch(name, given, why, instead, fixes)


def matmul(a: Any, b: Any, *, precision: Any = None, preferred_element_type: Any = None) -> Any:
    """Matrix product, `a @ b`: over the last two axes, with the axes before them broadcast.

    A vector is a row on the left and a column on the right, and its axis is gone from the result.

    Raises:
        ShapeError: (a TypeError and a ValueError) the shapes do not fit.

    >>> bnp.matmul(bnp.ones((2, 3)), bnp.ones((3, 4))).shape
    (2, 4)
    """
    x, y, tag = _operands("matmul", a, b)
    _check_matmul("matmul", x, y, (a, b))
    how = precision_of(precision), preferred_of(preferred_element_type)
    nx, ny = len(x.shape), len(y.shape)
    if ny <= 2:
        contracted = ((nx - 1,), (0,))
        out = ops.dot_general(
            x, y, contract=contracted, batch=((), ()), precision=how[0], preferred=how[1]
        )
        return wrap(out, tag)
    return wrap(_matmul_stacked(x, y, *how, (a, b)), tag)


def _matmul_stacked(x: Any, y: Any, precision: Any, preferred: Any, given: Sequence[Any]) -> Any:
    """Matrix product of two stacks; an axis of size 1 is dropped rather than repeated."""
    lead_x, lead_y = tuple(x.shape[:-2]), tuple(y.shape[:-2])
    try:
        lead = np.broadcast_shapes(lead_x, lead_y)
    except ValueError:
        why = (
            f"the axes before the last two, {lead_x} of {{0}} and {lead_y} of {{1}}, must broadcast"
        )
        fixes = _mend_matmul("matmul", tuple(x.shape), tuple(y.shape))
        raise _mismatch("matmul", given, why, "bnp.einsum, which names every axis", fixes) from None
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
    _check_matmul("dot", x, y, (a, b))
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
        why = f"{{0}} has {math.prod(x.shape)} elements and {{1}} {math.prod(y.shape)}"
        raise _mismatch("vdot", (a, b), why, "bnp.dot or bnp.tensordot, which sum over some axes")
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
        k, m, left, right = x._v.shape[-1], y._v.shape[-1], _shape(x1), _shape(x2)
        why = f"the summed axis is {k} long in {{0}} and {m} in {{1}}"
        fixes = [
            Fix(f"Both have {n} along axis {i}", settings={"axis": (None, str(i))})
            for i, (n, o) in enumerate(zip(left, right, strict=False))
            if n == o and broadcastable([(*s[:i], *s[i + 1 :]) for s in (left, right)])
        ]
        raise _mismatch("vecdot", (x1, x2), why, "axis=i for an axis that both have", fixes[:1])
    row = wrap(ops.expand_dims(x._v, (len(x._v.shape) - 1,)))
    column = wrap(ops.expand_dims(y._v, (len(y._v.shape),)))
    out = matmul(row, column, precision=precision, preferred_element_type=preferred_element_type)
    return wrap(ops.squeeze(out._v, (len(out._v.shape) - 2, len(out._v.shape) - 1)))


def _with_vector(name: str, x: Any, y: Any, matrix: int, given: Sequence[Any]) -> Any:
    """The product of matrices and vectors, of which operand `matrix` are the matrices."""
    try:
        return matmul(x, y)._v
    except ShapeError:
        shape, vector = _shape(given[matrix]), _shape(given[1 - matrix])
        axis = -1 if matrix == 0 else -2
        turned = [
            c
            for c in transposed(shape)
            if c.shape[axis] in vector[-1:] and broadcastable([shape[:-2], vector[:-1]])
        ]
        why = f"{{{matrix}}} needs vectors as long as its axis {axis}, in stacks that broadcast"
        instead = "a matrix and a vector of one length"
        fixes = [change_of(matrix, c) for c in turned]
        raise _mismatch(name, given, why, instead, fixes) from None


def matvec(x1: Any, x2: Any, /) -> Any:
    """Product of matrices and vectors, `x1[..., m, n]` and `x2[..., n]`, stacks broadcast.

    >>> bnp.matvec(bnp.ones((5, 2, 3)), bnp.ones(3)).shape
    (5, 2)
    """
    column = number("matvec", x2)
    column = wrap(ops.expand_dims(column, (len(column.shape),)))
    out = _with_vector("matvec", x1, column, 0, (x1, x2))
    return wrap(ops.squeeze(out, (len(out.shape) - 1,)))


def vecmat(x1: Any, x2: Any, /) -> Any:
    """Product of vectors and matrices, `x1[..., n]` conjugated and `x2[..., n, m]`, stacks
    broadcast.

    >>> bnp.vecmat(bnp.ones(3), bnp.ones((5, 3, 2))).shape
    (5, 2)
    """
    row = conjugate(number("vecmat", x1))
    if not row.shape:
        raise _mismatch("vecmat", (x1, x2), "{0} has no axis to sum over", "a vector")
    row = wrap(ops.expand_dims(row, (len(row.shape) - 1,)))
    out = _with_vector("vecmat", row, x2, 1, (x1, x2))
    return wrap(ops.squeeze(out, (len(out.shape) - 2,)))


def inner(a: Any, b: Any, *, precision: Any = None, preferred_element_type: Any = None) -> Any:
    """Sum over the last axes of both operands.

    >>> bnp.inner(bnp.ones((2, 3)), bnp.ones((4, 3))).shape
    (2, 4)
    """
    x, y = enter(a), enter(b)
    if not x._v.shape or not y._v.shape:
        return multiply_values("inner", x, y)
    if (k := x._v.shape[-1]) != (m := y._v.shape[-1]):
        why = f"the last axes are summed over, and are {k} in {{0}} and {m} in {{1}}"
        shapes = [_shape(a), _shape(b)]
        found = mend(shapes, lambda s: s[0][-1] == s[1][-1], [lambda i, s: transposed(s)])
        instead = "operands whose last axes are equal"
        raise _mismatch("inner", (a, b), why, instead, [] if found is None else [found])
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


def _mend_tensordot(x: Shape, y: Shape, count: int) -> list[Fix]:
    """As many pairs of axes of equal sizes, if there is one such choice."""
    pairs = [(i, j) for i, n in enumerate(x) for j, m in enumerate(y) if n == m]
    if len(pairs) != count or len({i for i, _ in pairs}) != count:
        return []
    axes = tuple([list(side) for side in zip(*pairs, strict=True)])
    if len(set(axes[1])) != count:
        return []
    return [Fix(f"Axes {axes[0]} and {axes[1]} are equal", settings={"axes": (2, f"{axes}")})]


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
            instead = "a smaller number, or axes=0 for an outer product"
            raise _mismatch("tensordot", (a, b), why, instead)
        left, right = tuple(range(len(x.shape) - count, len(x.shape))), tuple(range(count))
    if [x.shape[i] for i in left] != [y.shape[i] for i in right]:
        sizes = [tuple([v.shape[i] for i in axes]) for v, axes in ((x, left), (y, right))]
        why = (
            f"axes {left} of {{0}} have the sizes {sizes[0]}, and axes {right} of {{1}} the sizes "
            f"{sizes[1]}"
        )
        fixes = _mend_tensordot(tuple(x.shape), tuple(y.shape), len(left))
        instead = "axes=([...], [...]) that pair equal sizes"
        raise _mismatch("tensordot", (a, b), why, instead, fixes)
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
        pairs = enumerate(zip(_shape(a), _shape(b), strict=False))
        axes = [str(i) for i, (n, m) in pairs if {n, m} <= {2, 3}]
        alone = len(axes) == 1 and len(_shape(a)) == len(_shape(b))
        fixes = [Fix(f"Axis {i} has such a size", settings={"axis": (5, i)}) for i in axes if alone]
        raise _mismatch("cross", (a, b), why, "axis=i for the axis that holds x, y, z", fixes)
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
