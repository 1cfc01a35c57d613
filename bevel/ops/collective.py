"""Communication between the rows of a mapped axis, and marks on values.

Under `vmap` a collective is plain arithmetic over the batch axis: its `collective` rule. Its
results over several devices are the business of sharding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bevel.core.aval import Aval, aval_of
from bevel.core.op import Op, Unsupported, linear, zero_tangent
from bevel.ops.base import batch_broadcast, full_like, reduce_sum, transpose, zeros
from bevel.ops.elementwise import mul
from bevel.ops.reductions import reduce_max, reduce_min
from bevel.ops.shape import concatenate, iota
from bevel.ops.shape import slice as slice_

_OUTSIDE = Unsupported("the axis name is not bound here; call it inside vmap(..., axis_name=...)")


def _unbound(*args: Any, axis_name: Any, **params: Any):
    raise NameError(
        f"unbound axis name {axis_name!r}: a collective runs inside bv.vmap(f, "
        f"axis_name={axis_name!r})"
    )


def _collective(
    name: str,
    rule: Callable,
    *,
    abstract: Callable | None = None,
    jvp: Any = linear,
    transpose: Any,
) -> Op:
    def batch(size, xs, batched, **params):
        return op(*xs, **params), batched[0]

    op = Op(
        name,
        abstract=abstract or (lambda x, **params: x),
        reference=_unbound,
        lower=_OUTSIDE,
        jvp=jvp,
        transpose=transpose,
        batch=batch,
        collective=rule,
    )
    return op


def _psum_rule(axis, xs, batched, *, axis_name):
    (x,) = xs
    if batched[0]:
        return reduce_sum(x, axes=(0,)), False
    return mul(x, full_like(x, int(axis))), False


psum: Op = _collective(
    "psum", _psum_rule, transpose=lambda ct, x, *, axis_name: psum(ct, axis_name=axis_name)
)


def _extremum(reduce_op: Op) -> Callable:
    def rule(axis, xs, batched, *, axis_name):
        return (reduce_op(xs[0], axes=(0,)) if batched[0] else xs[0]), False

    return rule


_PICK = Unsupported(
    "the row that attains it is not known; write lax.all_gather(x, name) and .max(0) or .min(0)"
)
pmax = _collective("pmax", _extremum(reduce_max), jvp=_PICK, transpose=_PICK)
pmin = _collective("pmin", _extremum(reduce_min), jvp=_PICK, transpose=_PICK)


def _gather_rule(axis, xs, batched, *, axis_name, axis_size):
    return batch_broadcast(axis, xs[0], batched[0]), False


def _gather_batch(size, xs, batched, *, axis_name, axis_size):
    """The new axis comes first and the other batch axis second: exchange them."""
    out = all_gather(xs[0], axis_name=axis_name, axis_size=axis_size)
    return _swap(out), True


def _swap(x: Any) -> Any:
    return transpose(x, permutation=(1, 0, *range(2, len(x.shape))))


all_gather = Op(
    "all_gather",
    abstract=lambda x, *, axis_name, axis_size: Aval((axis_size, *x.shape), x.dtype),
    reference=_unbound,
    lower=_OUTSIDE,
    jvp=linear,
    transpose=lambda ct, x, *, axis_name, axis_size: psum_scatter(
        ct, axis_name=axis_name, axis_size=axis_size
    ),
    batch=_gather_batch,
    collective=_gather_rule,
)
"""Every row's value, stacked along a new axis 0."""


def _scatter_rule(axis, xs, batched, *, axis_name, axis_size):
    x = xs[0]
    return (reduce_sum(x, axes=(0,)) if batched[0] else mul(x, full_like(x, int(axis)))), True


psum_scatter: Op = Op(
    "psum_scatter",
    abstract=lambda x, *, axis_name, axis_size: Aval(x.shape[1:], x.dtype),
    reference=_unbound,
    lower=_OUTSIDE,
    jvp=linear,
    transpose=lambda ct, x, *, axis_name, axis_size: all_gather(
        ct, axis_name=axis_name, axis_size=axis_size
    ),
    batch=lambda size, xs, batched, **params: (psum_scatter(_swap(xs[0]), **params), True),
    collective=_scatter_rule,
)
"""Row i gets the sum over rows of their i-th slice."""

axis_index = Op(
    "axis_index",
    abstract=lambda *, axis_name: Aval((), np.dtype(np.int32)),
    reference=_unbound,
    lower=_OUTSIDE,
    jvp=zero_tangent,
    transpose=Unsupported("an index has no derivative"),
    batch=Unsupported("it has no operands to batch"),
    collective=lambda axis, xs, batched, *, axis_name: (
        iota(shape=(int(axis),), dtype=np.dtype(np.int32), axis=0),
        True,
    ),
)


def _permute_rule(axis, xs, batched, *, axis_name, perm):
    x = batch_broadcast(axis, xs[0], batched[0])
    source = {dst: src for src, dst in perm}
    row = Aval((1, *x.shape[1:]), aval_of(x).dtype)
    rest = [0] * (len(x.shape) - 1)
    parts = [
        slice_(x, start=(source[i], *rest), limit=(source[i] + 1, *x.shape[1:]), strides=None)
        if i in source
        else zeros(row)
        for i in range(int(axis))
    ]
    return concatenate(*parts, axis=0), True


ppermute: Op = _collective(
    "ppermute",
    _permute_rule,
    transpose=lambda ct, x, *, axis_name, perm: ppermute(
        ct, axis_name=axis_name, perm=tuple((dst, src) for src, dst in perm)
    ),
)
"""Row dst gets the value of row src for each (src, dst) in `perm`; rows that get none have
zeros.
"""


def _exchange_rule(axis, xs, batched, *, axis_name, axis_size):
    return _swap(batch_broadcast(axis, xs[0], batched[0])), True


def _exchange_batch(size, xs, batched, **params):
    return _swap(all_to_all(_swap(xs[0]), **params)), True


all_to_all: Op = Op(
    "all_to_all",
    abstract=lambda x, *, axis_name, axis_size: x,
    reference=_unbound,
    lower=_OUTSIDE,
    jvp=linear,
    transpose=lambda ct, x, *, axis_name, axis_size: all_to_all(
        ct, axis_name=axis_name, axis_size=axis_size
    ),
    batch=_exchange_batch,
    collective=_exchange_rule,
)
"""Slice j of row i goes to slice i of row j (axis 0 of the operand has the size of the axis)."""


def _name_batch(size, xs, batched, **params):
    return name(*xs, **params), batched[0]


name = Op(
    "name",
    abstract=lambda x, *, name: x,
    reference=lambda x, *, name: x,
    lower=lambda b, x, *, name: x,
    jvp=linear,
    transpose=lambda ct, x, *, name: ct,
    batch=_name_batch,
)
"""The identity; a `checkpoint` policy can refer to the value by its name."""
