"""Shapes and places: functions that move elements and compute nothing.

All of them take random keys too, and work under every transform; under `jit` shapes, axes and
counts are static.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bevel.core.errors import ShapeError
from bevel.core.handle import logical_shape
from bevel.core.misfit import Fix, broadcastable, mend_broadcast_to, misfit
from bevel.numpy.arguments import (
    axes_of,
    axis_of,
    resolve_shape,
    shape_of,
    size_of,
)
from bevel.numpy.convert import enter, no_broadcast
from bevel.numpy.moves import permute, reshape_to, spread

# -- one array, another shape --------------------------------------------------------------------


def reshape(a: Any, shape: Any, order: str = "C", *, copy: bool | None = None) -> Any:
    """The same elements in another shape; one entry may be -1.

    `order="F"` reads and writes with the first axis changing fastest. `copy` is accepted as in
    NumPy; arrays are immutable, so it changes nothing.

    Raises:
        ShapeError: the number of elements differs.

    >>> bnp.reshape(bnp.arange(6), (2, -1))
    Array([[0, 1, 2],
           [3, 4, 5]], dtype=int32)
    """
    x = enter(a)
    old = logical_shape(x)
    new = resolve_shape("reshape", x, old, shape_of("reshape", shape))
    if order == "F":
        return permute(reshape_to(permute(x, _backwards(old)), new[::-1]), _backwards(new))
    if order not in ("C", "A", "K"):
        raise ValueError(f"reshape: order must be 'C' or 'F', got {order!r}")
    return reshape_to(x, new)


def _backwards(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(range(len(shape)))[::-1]


def ravel(a: Any, order: str = "C") -> Any:
    """All elements on one axis.

    >>> bnp.ravel(bnp.ones((2, 3))).shape
    (6,)
    """
    x = enter(a)
    return reshape(x, (math.prod(logical_shape(x)),), order)


def transpose(a: Any, axes: Any = None) -> Any:
    """Reorder the axes: axis i of the result is axis `axes[i]` of `a`; None reverses them.

    >>> bnp.transpose(bnp.ones((2, 3, 4)), (0, 2, 1)).shape
    (2, 4, 3)
    """
    x = enter(a)
    ndim = len(logical_shape(x))
    if axes is None:
        return permute(x, tuple(range(ndim))[::-1])
    order = axes_of("transpose", tuple(axes) if not isinstance(axes, int) else axes, ndim)
    if len(order) != ndim:
        raise ValueError(
            f"transpose: axes={tuple(axes)} must name each of the {ndim} axes of "
            f"{logical_shape(x)} once"
        )
    return permute(x, order)


permute_dims = transpose


def matrix_transpose(x: Any, /) -> Any:
    """Swap the last two axes.

    >>> bnp.matrix_transpose(bnp.ones((5, 2, 3))).shape
    (5, 3, 2)
    """
    x = enter(x)
    if len(logical_shape(x)) < 2:
        raise misfit(
            "matrix_transpose",
            [x],
            "a matrix has at least 2 axes",
            [Fix(whole="_0[:, None]")] if logical_shape(x) else [],
            "a matrix",
            words=["the array"],
        )
    return swapaxes(x, -1, -2)


def swapaxes(a: Any, axis1: int, axis2: int) -> Any:
    """Exchange two axes.

    >>> bnp.swapaxes(bnp.ones((2, 3, 4)), 0, 2).shape
    (4, 3, 2)
    """
    x = enter(a)
    order = list(range(len(logical_shape(x))))
    i, j = axis_of("swapaxes", axis1, len(order)), axis_of("swapaxes", axis2, len(order))
    order[i], order[j] = j, i
    return permute(x, tuple(order))


def moveaxis(a: Any, source: Any, destination: Any) -> Any:
    """Move axes to other places; the rest keep their order.

    >>> bnp.moveaxis(bnp.ones((2, 3, 4)), 0, -1).shape
    (3, 4, 2)
    """
    x = enter(a)
    ndim = len(logical_shape(x))
    old, new = axes_of("moveaxis", source, ndim), axes_of("moveaxis", destination, ndim)
    if len(old) != len(new):
        raise ValueError(
            f"moveaxis: {len(old)} source axes {source} and {len(new)} destinations {destination}"
        )
    rest = iter([i for i in range(ndim) if i not in old])
    places = dict(zip(new, old, strict=True))
    return permute(x, tuple([places[i] if i in places else next(rest) for i in range(ndim)]))


def rollaxis(a: Any, axis: int, start: int = 0) -> Any:
    """Move `axis` until it lies before position `start`; `moveaxis` says the same more clearly.

    >>> bnp.rollaxis(bnp.ones((2, 3, 4)), 2).shape
    (4, 2, 3)
    """
    ndim = len(logical_shape(enter(a)))
    axis = axis_of("rollaxis", axis, ndim)
    start = ndim if start == ndim else axis_of("rollaxis", start, ndim)
    return moveaxis(a, axis, start - (axis < start))


def expand_dims(a: Any, axis: Any) -> Any:
    """Insert axes of size 1; `axis` names their places in the result.

    >>> bnp.expand_dims(bnp.ones(3), (0, 2)).shape
    (1, 3, 1)
    """
    x = enter(a)
    old = logical_shape(x)
    count = len(axis) if isinstance(axis, tuple | list) else 1
    places = axes_of("expand_dims", axis, len(old) + count)
    rest = iter(old)
    return reshape_to(x, tuple([1 if i in places else next(rest) for i in range(len(old) + count)]))


def squeeze(a: Any, axis: Any = None) -> Any:
    """Drop axes of size 1: all of them, or those named.

    Raises:
        ShapeError: a named axis has another size.

    >>> bnp.squeeze(bnp.ones((1, 3, 1)), 0).shape
    (3, 1)
    """
    x = enter(a)
    old = logical_shape(x)
    axes = (
        tuple([i for i, n in enumerate(old) if n == 1])
        if axis is None
        else axes_of("squeeze", axis, len(old))
    )
    for i in axes:
        if old[i] != 1:
            ones = [str(k) for k, n in enumerate(old) if n == 1]
            fix = (
                Fix(f"Axis {ones[0]} has size 1", settings={"axis": (1, ones[0])}) if ones else None
            )
            raise misfit(
                "squeeze",
                [x],
                f"axis {i} of {{0}} has size {old[i]}, and only size 1 can be dropped",
                [fix] if fix is not None and len(ones) == 1 else [],
                "an axis of size 1; x[:, 0] takes one place of another",
                words=["the array"],
            )
    return reshape_to(x, tuple([n for i, n in enumerate(old) if i not in axes]))


def _at_least(name: str, ndim: int, arrays: tuple, places) -> Any:
    out = []
    for a in arrays:
        x = enter(a)
        shape = logical_shape(x)
        out.append(x if len(shape) >= ndim else reshape_to(x, places(shape)))
    return out[0] if len(out) == 1 else out


def atleast_1d(*arrays: Any) -> Any:
    """Each array with at least one axis (a list of them if there are several).

    >>> bnp.atleast_1d(2.0).shape
    (1,)
    """
    return _at_least("atleast_1d", 1, arrays, lambda s: (1,))


def atleast_2d(*arrays: Any) -> Any:
    """Each array with at least two axes, new ones in front.

    >>> bnp.atleast_2d(bnp.ones(3)).shape
    (1, 3)
    """
    return _at_least("atleast_2d", 2, arrays, lambda s: (*(1,) * (2 - len(s)), *s))


def atleast_3d(*arrays: Any) -> Any:
    """Each array with at least three axes; a vector becomes (1, n, 1), a matrix (m, n, 1).

    >>> bnp.atleast_3d(bnp.ones((2, 3))).shape
    (2, 3, 1)
    """
    return _at_least(
        "atleast_3d", 3, arrays, lambda s: {0: (1, 1, 1), 1: (1, *s, 1), 2: (*s, 1)}[len(s)]
    )


# -- broadcasting --------------------------------------------------------------------------------


def broadcast_shapes(*shapes: Any) -> tuple[int, ...]:
    """The shape that shapes broadcast to.

    Raises:
        ShapeError: they do not.

    >>> bnp.broadcast_shapes((3, 1), (4,))
    (3, 4)
    """
    sizes = [size_of("broadcast_shapes", s) for s in shapes]
    try:
        return np.broadcast_shapes(*sizes)
    except ValueError:
        raise ShapeError(
            f"broadcast_shapes: {' and '.join(map(str, sizes))} do not broadcast.\n"
            "Why: from the right, axes must be equal or 1."
        ) from None


def broadcast_to(array: Any, shape: Any) -> Any:
    """Repeat an array along new axes in front and along axes of size 1, up to `shape`.

    Raises:
        ShapeError: the shapes do not allow it.

    >>> bnp.broadcast_to(bnp.arange(3), (2, 3))
    Array([[0, 1, 2],
           [0, 1, 2]], dtype=int32)
    """
    x = enter(array)
    old, new = logical_shape(x), size_of("broadcast_to", shape)
    if old == new:
        return x
    lead = len(new) - len(old)
    if lead < 0 or any(n not in (1, m) for n, m in zip(old, new[lead:], strict=True)):
        raise misfit(
            "broadcast_to",
            [x],
            f"from the right, its axes must be 1 or equal to those of {new}",
            mend_broadcast_to(old, new),
            "an array whose axes are 1 or those of the shape: reshape or transpose it first",
            words=["the array"],
        )
    keep = tuple([i for i, n in enumerate(old) if n == new[lead + i]])
    x = reshape_to(x, tuple([old[i] for i in keep]))
    return spread(x, new, tuple([lead + i for i in keep]))


def broadcast_arrays(*args: Any) -> list[Any]:
    """All arrays at the shape they broadcast to.

    >>> [x.shape for x in bnp.broadcast_arrays(bnp.ones(3), bnp.ones((2, 1)))]
    [(2, 3), (2, 3)]
    """
    arrays = [enter(a) for a in args]
    shapes = [logical_shape(x) for x in arrays]
    if not broadcastable([(), *shapes]):
        raise no_broadcast("broadcast_arrays", arrays)
    shape = np.broadcast_shapes(*shapes)
    return [broadcast_to(x, shape) for x in arrays]
