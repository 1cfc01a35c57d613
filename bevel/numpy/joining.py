"""Joining arrays and taking them apart. Random keys are taken too; sizes are static."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bevel.core.dtypes import as_dtype
from bevel.core.errors import ShapeError
from bevel.core.handle import Handle, KeyTag, logical_shape
from bevel.core.misfit import (
    Change,
    Fix,
    Shape,
    axes_text,
    mend,
    misfit,
    new_axes,
    transposed,
    with_axis,
)
from bevel.numpy.arguments import axis_of, integer, no_out
from bevel.numpy.convert import astype, enter, promote
from bevel.numpy.manipulation import atleast_1d, atleast_2d, atleast_3d, ravel, transpose
from bevel.numpy.moves import cut_axis, cut_parts, join, reshape_to

# -- several arrays, one array -------------------------------------------------------------------


def _sequence(name: str, arrays: Any) -> list[Any]:
    if isinstance(arrays, tuple | list):
        items = list(arrays)
    elif isinstance(arrays, Handle | np.ndarray):
        items = unstack(arrays)
    else:
        raise TypeError(
            f"{name}: takes a list or tuple of arrays, got {type(arrays).__name__}; write "
            f"{name}([a, b, ...])"
        )
    if not items:
        raise ValueError(f"{name}: needs at least one array")
    return items


def _fits(shapes: Sequence[Shape], axis: int) -> bool:
    """Whether shapes can be joined along a non-negative axis."""
    first = shapes[0]
    return len(first) > axis and all(
        [
            len(s) == len(first) and s[:axis] + s[axis + 1 :] == first[:axis] + first[axis + 1 :]
            for s in shapes
        ]
    )


def _joined(
    name: str, arrays: list[Any], axis: int, dtype: Any, given: Sequence[Any] | None = None
) -> Any:
    """Concatenate handles of one rank along a non-negative axis; `given` is what users call so."""
    values, tag = promote(*arrays)
    words = 1 if type(tag) is KeyTag else 0
    shapes = [tuple(v.shape[: len(v.shape) - words]) for v in values]
    if not _fits(shapes, axis):
        raise _no_join(name, shapes, axis, arrays if given is None else given)
    out = join(values, tag, axis)
    return out if dtype is None else astype(out, as_dtype(dtype))


def check_joined(name: str, given: Sequence[Any], axis: int, parameter: str = "axis") -> None:
    """Refuse handles that cannot be joined along a non-negative axis.

    `parameter` is what the function calls the axis.
    """
    shapes = [logical_shape(x) for x in given]
    if not _fits(shapes, axis):
        raise _no_join(name, shapes, axis, given, parameter)


def _no_join(
    name: str, joined: Sequence[Shape], axis: int, given: Sequence[Any], parameter: str = "axis"
) -> Exception:
    """The error of arrays, and the shapes they are brought to, that do not fit along an axis."""
    handles = [enter(x) for x in given]
    shapes = [logical_shape(x) for x in handles]
    others = [(len(s), *s[:axis], *s[axis + 1 :]) for s in joined]
    kept = others.index(Counter(others).most_common(1)[0][0])
    odd = next(i for i, rest in enumerate(others) if rest != others[kept])
    x, y = joined[kept], joined[odd]
    if len(x) != len(y):
        why = f"{{{kept}}} has {axes_text(len(x))} and {{{odd}}} {axes_text(len(y))}"
    else:
        i = next(i for i, (n, m) in enumerate(zip(x, y, strict=True)) if n != m and i != axis)
        rule = (
            f"joined along axis {axis}, all other axes must be equal"
            if axis < len(x)
            else "all shapes must be equal"
        )
        why = f"{rule}, and axis {i} is {x[i]} in {{{kept}}} and {y[i]} in {{{odd}}}"
    listed = name != "append"
    return misfit(
        name,
        handles,
        why,
        _mend_stack(shapes) if name == "stack" else _mend_join(name, shapes, axis, parameter),
        "arrays of one shape but for the joined axis: reshape, pad or cut them",
        listed=listed,
        params=() if listed else ("arr", "values"),
        words=[f"array {i}" for i in range(len(given))],
        shown=None if len(given) < 4 else sorted([kept, odd]),
    )


def _mend_join(name: str, shapes: list[Shape], axis: int, parameter: str) -> list[Fix]:
    """Axes put in, another axis to join along, an array transposed."""
    ndim = max(map(len, shapes))
    place = 2 if name == "append" else 1
    others = [i for i in range(ndim) if i != axis]
    if name in ("vstack", "hstack", "dstack", "column_stack"):
        return [
            Fix(f"With {other} they fit", callee=other, plain=f"bnp.{other}")
            for other, taken in _STACKS.items()
            if other != name and _fits(*taken(shapes))
        ][:1]
    for i in [axis, *others]:
        grown = [s if len(s) == ndim else (*s[:i], 1, *s[i:]) for s in shapes]
        if i < ndim and _fits(grown, i):
            low = {k: f"_{new_axes(s, [i])}" for k, s in enumerate(shapes) if len(s) < ndim}
            causes = [
                f"{{{k}}} lacks an axis: {{{k}:{c}}} has shape {grown[k]}" for k, c in low.items()
            ]
            if not causes:
                causes = [f"Along axis {i} they fit"]
            same = i == axis and len(shapes[0]) == ndim  # a negative axis may mean another now
            settings = None if same else {parameter: (place, str(i))}
            return [Fix(causes[0], low, settings=settings)]
    found = mend(shapes, lambda new: _fits(new, axis), [lambda i, s: transposed(s)])
    return [] if found is None else [found]


def _mend_stack(shapes: list[Shape]) -> list[Fix]:
    """`concatenate` where an axis may differ, or an axis put in."""
    for i in range(len(shapes[0])):
        if _fits(shapes, i):
            settings = {"axis": (1, str(i))}
            return [
                Fix(
                    f"Along axis {i} they can be concatenated",
                    callee="concatenate",
                    settings=settings,
                    plain=f"bnp.concatenate along axis {i}",
                )
            ]
    ndim = max(map(len, shapes))

    def missing(i: int, shape: Shape) -> Iterator[Change]:
        return with_axis(shape) if len(shape) < ndim else iter(())

    found = mend(shapes, lambda new: len(set(new)) == 1, [missing, lambda i, s: transposed(s)])
    return [] if found is None else [found]


def _rows(shapes: list[Shape]) -> tuple[list[Shape], int]:
    return [(1,) * (2 - len(s)) + s for s in shapes], 0


def _in_a_row(shapes: list[Shape]) -> tuple[list[Shape], int]:
    return [s or (1,) for s in shapes], 0 if len(shapes[0]) < 2 else 1


def _columns(shapes: list[Shape]) -> tuple[list[Shape], int]:
    return [s if len(s) > 1 else (*(s or (1,)), 1) for s in shapes], 1


_STACKS = {"vstack": _rows, "hstack": _in_a_row, "column_stack": _columns}
"""The shapes that each function brings its arrays to, and the axis it joins them along."""


def concatenate(arrays: Any, axis: int | None = 0, dtype: Any = None) -> Any:
    """Join arrays along an existing axis; `axis=None` flattens them first.

    Raises:
        ShapeError: another axis differs.

    >>> bnp.concatenate([bnp.ones(2), bnp.zeros(1)])
    Array([1., 1., 0.], dtype=float32)
    """
    return _concatenate("concatenate", _sequence("concatenate", arrays), axis, dtype)


def _concatenate(
    name: str,
    arrays: Sequence[Any],
    axis: int | None,
    dtype: Any,
    given: Sequence[Any] | None = None,
) -> Any:
    items = [enter(a) for a in arrays]
    if axis is None:
        return _joined(name, [ravel(x) for x in items], 0, dtype)
    ndim = len(logical_shape(items[0]))
    if ndim == 0:
        fix = Fix(callee="stack", settings={"axis": (1, "0")}, plain="bnp.stack")
        fix = Fix(whole="bnp.stack([_0, _1])") if name == "append" else fix
        raise misfit(
            name,
            items,
            "arrays without axes have no axis to join along",
            [fix] if all([logical_shape(x) == () for x in items]) else [],
            "bnp.stack",
            listed=name != "append",
            words=[f"array {i}" for i in range(len(items))],
        )
    return _joined(name, items, axis_of(name, axis, ndim), dtype, given)


concat = concatenate


def stack(arrays: Any, axis: int = 0, out: None = None, dtype: Any = None) -> Any:
    """Join arrays of one shape along a new axis.

    Raises:
        ShapeError: the shapes differ.

    >>> bnp.stack([bnp.ones(3), bnp.zeros(3)], axis=1).shape
    (3, 2)
    """
    no_out("stack", out)
    items = [enter(a) for a in _sequence("stack", arrays)]
    shapes = [logical_shape(x) for x in items]
    shape = shapes[0]
    if shapes.count(shape) != len(shapes):
        raise _no_join("stack", shapes, len(shape), items)
    axis = axis_of("stack", axis, len(shape) + 1)
    grown = (*shape[:axis], 1, *shape[axis:])
    return _joined("stack", [reshape_to(x, grown) for x in items], axis, dtype)


def unstack(x: Any, /, *, axis: int = 0) -> tuple[Any, ...]:
    """The slices of an array along an axis.

    >>> [float(row.sum()) for row in bnp.unstack(bnp.ones((2, 3)))]
    [3.0, 3.0]
    """
    x = enter(x)
    shape = logical_shape(x)
    if not shape:
        raise ShapeError("unstack: a 0-d array has no axis to take apart")
    axis = axis_of("unstack", axis, len(shape))
    rest = shape[:axis] + shape[axis + 1 :]
    return tuple([reshape_to(cut_axis(x, axis, i, i + 1), rest) for i in range(shape[axis])])


def vstack(tup: Any, dtype: Any = None) -> Any:
    """Join arrays along axis 0, vectors as rows.

    >>> bnp.vstack([bnp.ones(3), bnp.ones((2, 3))]).shape
    (3, 3)
    """
    given = _sequence("vstack", tup)
    return _concatenate("vstack", [atleast_2d(a) for a in given], 0, dtype, given)


def hstack(tup: Any, dtype: Any = None) -> Any:
    """Join arrays along axis 1, vectors along axis 0.

    >>> bnp.hstack([bnp.ones(3), bnp.ones(2)]).shape
    (5,)
    """
    given = _sequence("hstack", tup)
    items = [atleast_1d(a) for a in given]
    axis = 0 if len(logical_shape(items[0])) == 1 else 1
    return _concatenate("hstack", items, axis, dtype, given)


def dstack(tup: Any, dtype: Any = None) -> Any:
    """Join arrays along axis 2, with `atleast_3d` first.

    >>> bnp.dstack([bnp.ones(3), bnp.ones(3)]).shape
    (1, 3, 2)
    """
    given = _sequence("dstack", tup)
    return _concatenate("dstack", [atleast_3d(a) for a in given], 2, dtype, given)


def column_stack(tup: Any) -> Any:
    """Join vectors as columns of a matrix; matrices are taken as they are.

    >>> bnp.column_stack([bnp.ones(3), bnp.ones((3, 2))]).shape
    (3, 3)
    """
    items = [enter(a) for a in _sequence("column_stack", tup)]
    columns = [transpose(atleast_2d(x)) if len(logical_shape(x)) < 2 else x for x in items]
    return _concatenate("column_stack", columns, 1, None, items)


def block(arrays: Any) -> Any:
    """Put an array together from nested lists of blocks: the innermost lists join along the last
    axis.

    >>> bnp.block([[bnp.eye(1), bnp.zeros((1, 2))], [bnp.zeros((2, 1)), bnp.eye(2)]]).shape
    (3, 3)
    """
    depth, rank = _block_depth(arrays), _block_rank(arrays)
    return _block(arrays, depth, max(depth, rank))


def _block_depth(x: Any) -> int:
    if not isinstance(x, list):
        return 0
    if not x:
        raise ValueError("block: a list of blocks is empty")
    depths = {_block_depth(item) for item in x}
    if len(depths) > 1:
        raise ValueError(
            "block: the lists are nested to different depths; every block needs the same depth"
        )
    return 1 + depths.pop()


def _block_rank(x: Any) -> int:
    return max(map(_block_rank, x)) if isinstance(x, list) else len(logical_shape(enter(x)))


def _block(x: Any, depth: int, rank: int) -> Any:
    if isinstance(x, list):
        return concatenate([_block(item, depth - 1, rank) for item in x], -depth)
    x = enter(x)
    return reshape_to(x, (*(1,) * (rank - len(logical_shape(x))), *logical_shape(x)))


def append(arr: Any, values: Any, axis: int | None = None) -> Any:
    """`concatenate([arr, values], axis)`; without an axis both are flattened.

    >>> bnp.append(bnp.arange(2), 7)
    Array([0, 1, 7], dtype=int32)
    """
    return _concatenate("append", [arr, values], axis, None)


# -- one array, several arrays -------------------------------------------------------------------


def _sections(name: str, x: Handle, axis: int, where: Any, equal: bool) -> list[tuple[int, int]]:
    """Start and end of every part of an axis."""
    n = logical_shape(x)[axis]
    if isinstance(where, tuple | list | np.ndarray | Handle) and np.ndim(np.asarray(where)) == 1:
        edges = [integer(name, "every index", i) for i in np.asarray(where).tolist()]
        edges = [min(max(i + n if i < 0 else i, 0), n) for i in edges]
        return list(zip([0, *edges], [*edges, n], strict=True))
    count = integer(name, "the number of sections", where)
    if count <= 0:
        raise ValueError(f"{name}: the number of sections must be positive, got {count}")
    small, extra = divmod(n, count)
    if equal and extra:
        raise misfit(
            name,
            [x],
            f"{n} elements along axis {axis} do not divide into {count} equal parts",
            [_array_split(name, axis, f"With array_split the parts have {small + 1} and {small}")],
            "bnp.array_split, or give the indices to split at",
            words=["the array"],
        )
    ends = np.cumsum([small + 1] * extra + [small] * (count - extra)).tolist()
    return list(zip([0, *ends[:-1]], ends, strict=True))


def _array_split(name: str, axis: int, cause: str) -> Fix:
    settings = None if name == "split" else {"axis": (2, str(axis))}
    return Fix(cause, callee="array_split", settings=settings, plain="bnp.array_split")


def _split(name: str, ary: Any, where: Any, axis: int, equal: bool) -> list[Any]:
    x = enter(ary)
    axis = axis_of(name, axis, len(logical_shape(x)))
    return cut_parts(x, axis, _sections(name, x, axis, where, equal))


def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    """Cut an array into equal parts, or at the given indices.

    Raises:
        ShapeError: the axis does not divide equally (`array_split` allows that).

    >>> [part.shape for part in bnp.split(bnp.ones((6, 2)), 3)]
    [(2, 2), (2, 2), (2, 2)]
    >>> [part.shape for part in bnp.split(bnp.ones(6), [1, 4])]
    [(1,), (3,), (2,)]
    """
    return _split("split", ary, indices_or_sections, axis, True)


def array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    """Cut an array into parts whose sizes differ by at most one.

    >>> [part.shape for part in bnp.array_split(bnp.ones(5), 2)]
    [(3,), (2,)]
    """
    return _split("array_split", ary, indices_or_sections, axis, False)


def vsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    """`split` along axis 0.

    >>> len(bnp.vsplit(bnp.ones((4, 2)), 2))
    2
    """
    return _split("vsplit", ary, indices_or_sections, 0, True)


def hsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    """`split` along axis 1, or axis 0 of a vector.

    >>> [part.shape for part in bnp.hsplit(bnp.ones((4, 2)), 2)]
    [(4, 1), (4, 1)]
    """
    x = enter(ary)
    return _split("hsplit", x, indices_or_sections, 0 if len(logical_shape(x)) == 1 else 1, True)


def dsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    """`split` along axis 2.

    >>> [part.shape for part in bnp.dsplit(bnp.ones((4, 2, 2)), 2)]
    [(4, 2, 1), (4, 2, 1)]
    """
    return _split("dsplit", ary, indices_or_sections, 2, True)
