"""Collectives over the axes that `vmap(..., axis_name=...)` maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bevel.api.flat import as_handle
from bevel.api.vmap import move_axis
from bevel.core import tree
from bevel.core.dtypes import int32, is_inexact
from bevel.core.errors import ShapeError, Unsupported
from bevel.core.handle import fresh_tag, logical_shape, wrap
from bevel.core.op import Op
from bevel.core.source import user_source, where
from bevel.lax.operands import one_dtype, require
from bevel.numpy.arguments import cast, number
from bevel.numpy.convert import astype
from bevel.numpy.reductions import argmax
from bevel.numpy.selection import where as where_
from bevel.ops import all_gather as gather_op
from bevel.ops import all_to_all as exchange_op
from bevel.ops import axis_index as index_op
from bevel.ops import convert, div, full_like, iota, reshape
from bevel.ops import pmax as pmax_op
from bevel.ops import pmin as pmin_op
from bevel.ops import ppermute as permute_op
from bevel.ops import psum as psum_op
from bevel.ops import psum_scatter as scatter_op
from bevel.transforms.vmap import find_axis

AxisName = Any


def _names(axis_name: AxisName) -> tuple[Any, ...]:
    return tuple(axis_name) if isinstance(axis_name, tuple | list) else (axis_name,)


def _one_name(what: str, axis_name: AxisName) -> Any:
    names = _names(axis_name)
    if len(names) != 1:
        raise TypeError(
            f"{what}: axis_name must name one axis, got {names}.\n"
            f"Write instead: one {what} after the other, the innermost axis first."
        )
    return names[0]


def axis_size(axis_name: AxisName) -> int:
    """The size of a mapped axis, or the product of several; a Python int.

    Raises:
        NameError: no axis of that name is mapped here.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> bv.vmap(lambda x: x * axis_size("i"), axis_name="i")(bnp.ones(3)).tolist()
    [3.0, 3.0, 3.0]
    """
    total = 1
    for name in _names(axis_name):
        axis = find_axis(name)
        if axis is None:
            raise NameError(
                f"unbound axis name {name!r} at {where(user_source())}.\n"
                "Why: collectives work between the rows of a mapped axis, and none of this name "
                "is mapped here.\n"
                f"Write instead: bv.vmap(f, axis_name={name!r})(x)."
            )
        total *= int(axis)
    return total


def _one_group(what: str, groups: Any) -> None:
    if groups is not None:
        raise TypeError(
            f"{what}: axis_index_groups cuts an axis into parts; map over two axes instead: "
            "reshape the axis to (groups, size) and nest vmap"
        )


def _axis(what: str, axis: int, ndim: int) -> int:
    """An axis of an operand as a non-negative number."""
    if not -ndim <= axis < ndim:
        raise ValueError(
            f"{what}: axis {axis} is out of range for an operand with {ndim} axes in each row "
            "(the mapped axis is none of them)"
        )
    return axis % ndim


def _map_leaves(op: Op, x: Any, axis_name: AxisName, what: str, groups: Any) -> Any:
    _one_group(what, groups)
    axis_size(axis_name)

    def one(leaf: Any) -> Any:
        h = as_handle(leaf, f"{what}: an operand")
        if h._v.dtype == bool and op is psum_op:
            h = astype(h, np.dtype(np.int32))
        v = h._v
        for name in _names(axis_name):
            v = op(v, axis_name=name)
        return wrap(v, fresh_tag(h._tag))

    return tree.map(one, x)


def psum(x: Any, axis_name: AxisName, *, axis_index_groups: Any = None) -> Any:
    """Sum over the rows of a mapped axis (of pytrees of arrays); every row gets it.

    Raises:
        NameError: no axis of that name is mapped here.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> bv.vmap(lambda x: psum(x, "i"), axis_name="i")(bnp.arange(3.0)).tolist()
    [3.0, 3.0, 3.0]
    """
    if isinstance(x, int | float):
        return x * axis_size(axis_name)
    return _map_leaves(psum_op, x, axis_name, "psum", axis_index_groups)


def pmax(x: Any, axis_name: AxisName, *, axis_index_groups: Any = None) -> Any:
    """Largest over the rows of a mapped axis, element by element.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> bv.vmap(lambda x: pmax(x, "i"), axis_name="i")(bnp.arange(3)).tolist()
    [2, 2, 2]
    """
    return _map_leaves(pmax_op, x, axis_name, "pmax", axis_index_groups)


def pmin(x: Any, axis_name: AxisName, *, axis_index_groups: Any = None) -> Any:
    """Smallest over the rows of a mapped axis, element by element.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> bv.vmap(lambda x: pmin(x, "i"), axis_name="i")(bnp.arange(3)).tolist()
    [0, 0, 0]
    """
    return _map_leaves(pmin_op, x, axis_name, "pmin", axis_index_groups)


def pmean(x: Any, axis_name: AxisName, *, axis_index_groups: Any = None) -> Any:
    """Mean over the rows of a mapped axis; integers become float32.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> bv.vmap(lambda x: pmean(x, "i"), axis_name="i")(bnp.arange(3.0)).tolist()
    [1.0, 1.0, 1.0]
    """
    n = axis_size(axis_name)

    def mean(leaf: Any) -> Any:
        v = leaf._v
        v = v if is_inexact(np.dtype(v.dtype)) else convert(v, dtype=np.dtype(np.float32))
        return wrap(div(v, full_like(v, n)), leaf._tag)

    handles = tree.map(lambda leaf: as_handle(leaf, "pmean: an operand"), x)
    return tree.map(mean, psum(handles, axis_name, axis_index_groups=axis_index_groups))


def axis_index(axis_name: AxisName) -> Any:
    """The position of the row along a mapped axis (several: row-major), an int32 scalar.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> bv.vmap(lambda x: axis_index("i"), axis_name="i")(bnp.ones(3)).tolist()
    [0, 1, 2]
    """
    total: Any = None
    for name in _names(axis_name):
        size = axis_size(name)
        i = wrap(index_op(axis_name=name))
        total = i if total is None else total * size + i
    return total


def all_gather(
    x: Any,
    axis_name: AxisName,
    *,
    axis_index_groups: Any = None,
    axis: int = 0,
    tiled: bool = False,
) -> Any:
    """Every row's value, stacked along a new axis `axis` (with `tiled`: joined along an existing
    one).

    >>> import bevel as bv, bevel.numpy as bnp
    >>> bv.vmap(lambda x: all_gather(x, "i"), axis_name="i")(bnp.arange(2)).tolist()
    [[0, 1], [0, 1]]
    """
    _one_group("all_gather", axis_index_groups)
    name = _one_name("all_gather", axis_name)
    size = axis_size(name)

    def one(leaf: Any) -> Any:
        h = as_handle(leaf, "all_gather: an operand")
        n = len(logical_shape(h)) + (not tiled)
        at = _axis("all_gather", axis, n)
        v = move_axis(gather_op(h._v, axis_name=name, axis_size=size), 0, at)
        if tiled:
            v = reshape(v, shape=(*v.shape[:at], size * v.shape[at + 1], *v.shape[at + 2 :]))
        return wrap(v, fresh_tag(h._tag))

    return tree.map(one, x)


def _cut(v: Any, at: int, size: int, what: str, tiled: bool) -> Any:
    """The axis that is dealt out, in front, with one slice a row."""
    n = v.shape[at]
    if n % size or (not tiled and n != size):
        raise ValueError(
            f"{what}: axis {at} of shape {tuple(v.shape)} has size {n}, and the mapped axis has "
            f"{size}; "
            + (
                "it must be a multiple."
                if tiled
                else "they must be equal (or tiled=True and a multiple)."
            )
        )
    if tiled:
        v = reshape(v, shape=(*v.shape[:at], size, n // size, *v.shape[at + 1 :]))
    return move_axis(v, at, 0)


def psum_scatter(
    x: Any,
    axis_name: AxisName,
    *,
    scatter_dimension: int = 0,
    axis_index_groups: Any = None,
    tiled: bool = False,
) -> Any:
    """Sum over the rows, of which row i keeps slice i of axis `scatter_dimension`.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> bv.vmap(lambda x: psum_scatter(x, "i"), axis_name="i")(bnp.ones((2, 2))).tolist()
    [2.0, 2.0]
    """
    _one_group("psum_scatter", axis_index_groups)
    name = _one_name("psum_scatter", axis_name)
    size = axis_size(name)

    def one(leaf: Any) -> Any:
        h = as_handle(leaf, "psum_scatter: an operand")
        at = _axis("psum_scatter", scatter_dimension, len(h._v.shape))
        v = _cut(h._v, at, size, "psum_scatter", tiled)
        return wrap(scatter_op(v, axis_name=name, axis_size=size), h._tag)

    return tree.map(one, x)


def all_to_all(
    x: Any,
    axis_name: AxisName,
    split_axis: int,
    concat_axis: int,
    *,
    axis_index_groups: Any = None,
    tiled: bool = False,
) -> Any:
    """Deal slices of `split_axis` out to the rows and put those received along `concat_axis`.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> f = bv.vmap(lambda x: all_to_all(x, "i", 0, 0), axis_name="i")
    >>> f(bnp.array([[1, 2], [3, 4]])).tolist()
    [[1, 3], [2, 4]]
    """
    _one_group("all_to_all", axis_index_groups)
    name = _one_name("all_to_all", axis_name)
    size = axis_size(name)

    def one(leaf: Any) -> Any:
        h = as_handle(leaf, "all_to_all: an operand")
        ndim = len(h._v.shape)
        start, at = (_axis("all_to_all", a, ndim) for a in (split_axis, concat_axis))
        parts = _cut(h._v, start, size, "all_to_all", tiled)
        v = move_axis(exchange_op(parts, axis_name=name, axis_size=size), 0, at)
        if tiled:
            v = reshape(v, shape=(*v.shape[:at], v.shape[at] * v.shape[at + 1], *v.shape[at + 2 :]))
        return wrap(v, fresh_tag(h._tag))

    return tree.map(one, x)


def ppermute(x: Any, axis_name: AxisName, perm: Sequence[tuple[int, int]]) -> Any:
    """Send values between rows: row `dst` gets that of row `src` for each `(src, dst)`; others get
    zeros.

    Raises:
        ValueError: a source or a destination appears twice.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> bv.vmap(lambda x: ppermute(x, "i", [(0, 1), (1, 0)]), axis_name="i")(bnp.arange(2)).tolist()
    [1, 0]
    """
    name = _one_name("ppermute", axis_name)
    size = axis_size(name)
    for pair in perm:
        ends = tuple(pair) if isinstance(pair, tuple | list) else ()
        if len(ends) != 2 or not all(-size <= i < size for i in ends):
            raise ValueError(
                f"ppermute: {pair} in perm={list(perm)} is no pair (source, destination) of the "
                f"{size} rows"
            )
    pairs = tuple((int(s) % size, int(d) % size) for s, d in perm)
    for side, which in (("source", 0), ("destination", 1)):
        ends = [p[which] for p in pairs]
        if len(set(ends)) != len(ends):
            raise ValueError(
                f"ppermute: a {side} appears twice in perm={list(perm)}; each row sends and "
                "receives once"
            )

    def one(leaf: Any) -> Any:
        h = as_handle(leaf, "ppermute: an operand")
        return wrap(permute_op(h._v, axis_name=name, perm=pairs), fresh_tag(h._tag))

    return tree.map(one, x)


def pshuffle(x: Any, axis_name: AxisName, perm: Sequence[int]) -> Any:
    """Row i gets the value of row `perm[i]`.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> bv.vmap(lambda x: pshuffle(x, "i", [1, 2, 0]), axis_name="i")(bnp.arange(3)).tolist()
    [1, 2, 0]
    """
    if sorted(perm) != list(range(axis_size(axis_name))):
        raise ValueError(f"pshuffle: perm={list(perm)} must name every row once")
    return ppermute(x, axis_name, [(int(src), dst) for dst, src in enumerate(perm)])


def pswapaxes(x: Any, axis_name: AxisName, axis: int, *, axis_index_groups: Any = None) -> Any:
    """Exchange a mapped axis with an axis of the operand.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> bv.vmap(lambda x: pswapaxes(x, "i", 0), axis_name="i")(bnp.array([[1, 2], [3, 4]])).tolist()
    [[1, 3], [2, 4]]
    """
    return all_to_all(x, axis_name, axis, axis, axis_index_groups=axis_index_groups)


def pbroadcast(x: Any, axis_name: AxisName, source: int) -> Any:
    """Every row gets the value of row `source`.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> bv.vmap(lambda x: pbroadcast(x, "i", 1), axis_name="i")(bnp.arange(3)).tolist()
    [1, 1, 1]
    """
    size = axis_size(_one_name("pbroadcast", axis_name))
    if not 0 <= source < size:
        raise ValueError(f"pbroadcast: source={source} is none of the {size} rows")
    return tree.map(lambda leaf: leaf[source], all_gather(x, axis_name))


def pcast(x: Any, axis_name: AxisName, *, to: str) -> Any:
    """`x` itself: whether a value differs between rows is no part of its type in Bevel, so that
    values need no cast to "varying".

    Raises:
        Unsupported: `to` is "reduced" or "unreduced", sums that devices have yet to make.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> bv.vmap(lambda x: pcast(x, "i", to="varying"), axis_name="i")(bnp.arange(2)).tolist()
    [0, 1]
    """
    axis_size(axis_name)
    if to in ("reduced", "unreduced"):
        raise Unsupported(
            f"pcast: to={to!r} is not available.\nWhy: no value of Bevel is a sum that is not made "
            "yet.\nWrite instead: psum(x, axis_name)."
        )
    if to != "varying":
        raise ValueError(f"pcast: to must be 'varying', got {to!r}")
    return x


def ragged_all_to_all(
    operand: Any,
    output: Any,
    input_offsets: Any,
    send_sizes: Any,
    output_offsets: Any,
    recv_sizes: Any,
    *,
    axis_name: AxisName,
    axis_index_groups: Any = None,
) -> Any:
    """Send slices of the first axis to other rows, which get a copy of `output` with them in place.

    Slice i of a row is `operand[input_offsets[i]:][:send_sizes[i]]`; it goes to row
    `i // (n // axis size)`, where it starts at `output_offsets[i]`. The four vectors have one
    length n, a multiple of the axis size. `recv_sizes` must be what is sent to this row.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> send = lambda x, to: ragged_all_to_all(
    ...     x, x * 0, bnp.array([0, 1]), bnp.array([1, 1]), to, bnp.array([1, 1]), axis_name="i")
    >>> x, to = bnp.array([[1, 2], [3, 4]]), bnp.array([[0, 0], [1, 1]])
    >>> bv.vmap(send, axis_name="i")(x, to).tolist()
    [[1, 3], [2, 4]]
    """
    what = "ragged_all_to_all"
    _one_group(what, axis_index_groups)
    name = _one_name(what, axis_name)
    size = axis_size(name)
    (x, out), _ = one_dtype(what, (operand, output))
    vectors = []
    for v in (input_offsets, send_sizes, output_offsets, recv_sizes):
        value = number(what, v)
        require(what, value, "iu", "integer offsets and sizes")
        vectors.append(wrap(cast(value, np.dtype(int32))))
    (n, *rest), each = vectors[0].shape or (0, 0), x.shape[1:]
    if rest or n % size or any(v.shape != (n,) for v in vectors) or out.shape[1:] != each:
        raise ShapeError(
            f"{what}: the operand is {tuple(x.shape)}, the output {tuple(out.shape)}, the offsets "
            f"and sizes {', '.join([str(v.shape) for v in vectors])}: after the first axis the "
            f"two must be equal, and the four have one axis of a multiple of {size}"
        )
    per = n // size
    if not n or not out.shape[0] or not x.shape[0]:
        return wrap(out)
    starts, sizes, places = (
        all_to_all(v.reshape(size, per), name, 0, 0).reshape(n) for v in vectors[:3]
    )
    rows = wrap(iota(shape=(out.shape[0],), dtype=np.dtype(int32), axis=0))
    inside = (rows >= places[:, None]) & (rows < (places + sizes)[:, None])
    # Where slices overlap, the last one counts.
    slot = n - 1 - argmax(inside[::-1], axis=0)
    everything = all_gather(wrap(x), name)
    received = everything[slot // per, starts[slot] + rows - places[slot]]
    some = inside.any(axis=0).reshape(-1, *[1] * len(each))
    return where_(some, received, wrap(out))
