"""Reductions over axes, positions of extremes, cumulative ops, and the generic reduction.

Sums and products of 16-bit floats accumulate in float32, on the eager path and in programs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from bevel.core import dtypes
from bevel.core.aval import Aval
from bevel.core.dtypes import BOOL, FLOAT, INT, NUMBER
from bevel.core.errors import Unsupported as UnsupportedError
from bevel.core.graph import Graph, Lit
from bevel.core.op import Op, Unsupported, linear, rule, zero_tangent
from bevel.ops.base import (
    HALF,
    batch_broadcast,
    check_dtype,
    drop_axes,
    reduce_sum,
    reduction,
    reshape,
    restore_axes,
    transpose,
    zeros_like,
)
from bevel.ops.elementwise import add, div, exp, extremum_weight, is_finite, log, max, min, mul, sub
from bevel.ops.families import via_float32
from bevel.ops.logic import convert, eq, select
from bevel.ops.shape import concatenate, pad, rev, slice

ORDERED = BOOL + INT + FLOAT
_BITS = Unsupported("booleans and integers carry no derivative")


def least(dtype: np.dtype):
    """The least value of an ordered dtype: where a maximum starts."""
    return _limit(dtype, -1)


def greatest(dtype: np.dtype):
    """The greatest value of an ordered dtype: where a minimum starts."""
    return _limit(dtype, 1)


def _limit(dtype: np.dtype, side: int):
    if dtypes.is_float(dtype):
        return side * math.inf
    if dtypes.kind(dtype) == "b":
        return side > 0
    info = dtypes.iinfo(dtype)
    return info.max if side > 0 else info.min


# -- reductions -----------------------------------------------------------------------------------


def _extremum_jvp(ctx, t, x, *, axes):
    """The mean tangent of the elements that equal the extreme one."""
    chosen = eq(x, restore_axes(ctx.out, x.shape, axes))
    weight = convert(chosen, dtype=x.dtype)
    count = reduce_sum(weight, axes=axes)
    return div(reduce_sum(select(chosen, t, zeros_like(t)), axes=axes), count)


def _extremum(name: str, ufunc: np.ufunc, start: Callable) -> Op:
    return reduction(
        f"reduce_{name}",
        lambda x, *, axes: ufunc.reduce(x, axes, initial=np.asarray(start(x.dtype), x.dtype)[()]),
        name,
        (_extremum_jvp,),
        dtypes=ORDERED,
    )


reduce_max = _extremum("max", np.maximum, least)
reduce_min = _extremum("min", np.minimum, greatest)


def _prod_lower(b, x, *, axes):
    if x.aval.dtype in HALF:
        return b.convert(b.reduce(b.convert(x, dtypes.float32), "mul", axes), x.aval.dtype)
    return b.reduce(x, "mul", axes)


def _prod_jvp(ctx, t, x, *, axes):
    """Fold (product, tangent) pairs by halves: exact where elements are zero, and differentiable
    again.
    """
    kept = tuple([i for i in range(len(x.shape)) if i not in axes])
    order, n = (*axes, *kept), math.prod([x.shape[a] for a in axes])
    shape = tuple([x.shape[i] for i in kept])
    y, dy = (reshape(transpose(v, permutation=order), shape=(n, *shape)) for v in (x, t))
    if n == 0:
        return zeros_like(ctx.out)
    while n > 1:
        half = n // 2
        (a, b, rest), (da, db, drest) = _halves(y, half), _halves(dy, half)
        y, dy = mul(a, b), add(mul(da, b), mul(a, db))
        if rest is not None:
            y, dy = concatenate(y, rest, axis=0), concatenate(dy, drest, axis=0)
        n -= half
    return reshape(dy, shape=shape)


def _halves(x, half: int):
    """The first two blocks of `half` rows, and what remains (or None)."""
    n = x.shape[0]
    a, b = _rows(x, 0, half), _rows(x, half, 2 * half)
    return a, b, _rows(x, 2 * half, n) if 2 * half < n else None


def _rows(x, start: int, stop: int, axis: int = 0):
    starts = tuple([start if i == axis else 0 for i in range(len(x.shape))])
    stops = tuple([stop if i == axis else n for i, n in enumerate(x.shape)])
    return slice(x, start=starts, limit=stops, strides=None)


reduce_prod = reduction(
    "reduce_prod",
    via_float32(lambda x, *, axes: np.multiply.reduce(x, axes, x.dtype)),
    _prod_lower,
    (_prod_jvp,),
)


def _bitwise(name: str, ufunc: np.ufunc) -> Op:
    return reduction(
        f"reduce_{name}",
        lambda x, *, axes: ufunc.reduce(x, axes, x.dtype),
        name,
        zero_tangent,
        dtypes=BOOL + INT,
        transpose=_BITS,
    )


reduce_and = _bitwise("and", np.bitwise_and)
reduce_or = _bitwise("or", np.bitwise_or)
reduce_xor = _bitwise("xor", np.bitwise_xor)


# -- positions of extremes ------------------------------------------------------------------------


def _position(name: str, find: Callable, how: str) -> Op:
    def abstract(x, *, axis, index_dtype):
        check_dtype(name, "the operand", x, ORDERED)
        if not 0 <= axis < x.ndim:
            raise ValueError(
                f"{name}: axis {axis} is out of range for {x}, which has {x.ndim} axes"
            )
        if x.shape[axis] == 0:
            raise ValueError(
                f"{name}: axis {axis} of {x} is empty, so there is no element to point at"
            )
        if not dtypes.is_integer(index_dtype):
            raise TypeError(
                f"{name}: index_dtype is {index_dtype} and must be an integer dtype such as int32"
            )
        return Aval(drop_axes(x.shape, (axis,)), index_dtype)

    def lower(b, x, *, axis, index_dtype):
        # Two plain reductions: XLA's CPU backend vectorizes them, and not one over pairs.
        best = b.broadcast_in_dim(
            b.reduce(x, how, (axis,)), x.aval.shape, [i for i in range(x.aval.ndim) if i != axis]
        )
        found = b.or_(b.compare(x, best, "EQ"), b.compare(x, x, "NE"))
        places = b.iota(Aval(x.aval.shape, dtypes.int64), axis)
        first = b.reduce(
            b.select(found, places, b.full(x.aval.shape[axis], places.aval)), "min", (axis,)
        )
        return b.convert(first, index_dtype)

    op = Op(
        name,
        abstract=abstract,
        reference=lambda x, *, axis, index_dtype: find(x, axis).astype(index_dtype),
        lower=lower,
        jvp=zero_tangent,
        transpose=_BITS,
        batch=lambda size, x, batched, *, axis, index_dtype: (
            op(x[0], axis=axis + 1, index_dtype=index_dtype),
            True,
        ),
    )
    return op


argmax = _position("argmax", np.argmax, "max")
argmin = _position("argmin", np.argmin, "min")

# -- cumulative ops -------------------------------------------------------------------------------

_BLOCK = 8


def scan_windows(b, x, start, fn: Callable, axis: int):
    """Prefix results along an axis, in a program.

    One window over everything costs n**2 on the CPU. Windows within blocks of eight, then the same
    for the blocks' totals, cost 8 n, and compile in one step a level (measured in
    docs/decisions/cumulative.md).
    """
    shape = x.aval.shape
    n = shape[axis]
    if n <= 2 * _BLOCK or b.platform != "cpu":
        window = [n if i == axis else 1 for i in range(len(shape))]
        padding = [(n - 1 if i == axis else 0, 0) for i in range(len(shape))]
        return b.reduce_window(x, start, fn, window, padding=padding)
    count = -(-n // _BLOCK)

    def edges(lo: int, hi: int) -> list[list[int]]:
        return [[v if i == axis else 0 for i in range(len(shape))] for v in (lo, hi)]

    def pick(v, starts: dict[int, int], stops: dict[int, int]):
        sizes = v.aval.shape
        return b.slice(
            v,
            [starts.get(i, 0) for i in range(len(sizes))],
            [stops.get(i, m) for i, m in enumerate(sizes)],
        )

    blocks = b.reshape(
        b.pad(x, start, *edges(0, count * _BLOCK - n)),
        (*shape[:axis], count, _BLOCK, *shape[axis + 1 :]),
    )
    within = b.reduce_window(
        blocks,
        start,
        fn,
        [_BLOCK if i == axis + 1 else 1 for i in range(len(shape) + 1)],
        padding=[(_BLOCK - 1 if i == axis + 1 else 0, 0) for i in range(len(shape) + 1)],
    )
    totals = b.reshape(
        pick(within, {axis + 1: _BLOCK - 1}, {}), (*shape[:axis], count, *shape[axis + 1 :])
    )
    before = b.pad(
        pick(scan_windows(b, totals, start, fn, axis), {}, {axis: count - 1}), start, *edges(1, 0)
    )
    dims = [i for i in range(len(shape) + 1) if i != axis + 1]
    whole = fn(b, b.broadcast_in_dim(before, within.aval.shape, dims), within)
    return pick(
        b.reshape(whole, (*shape[:axis], count * _BLOCK, *shape[axis + 1 :])), {}, {axis: n}
    )


def _cumulative(
    name: str,
    accumulate: Callable,
    fn: Callable,
    start: Callable,
    jvp,
    allowed: Sequence[np.dtype],
    transpose=None,
) -> Op:
    """An op along `axis`, from the end if `reverse`; `fn(b, x, y)` combines, `start(dtype)` is its
    identity.
    """

    def abstract(x, *, axis, reverse):
        check_dtype(name, "the operand", x, allowed)
        if not 0 <= axis < x.ndim:
            raise ValueError(
                f"{name}: axis {axis} is out of range for {x}, which has {x.ndim} axes"
            )
        return x

    def reference(x, *, axis, reverse):
        if x.shape[axis] == 0:
            return x
        wide = x.astype(np.float32) if x.dtype in HALF else x
        out = (
            np.flip(accumulate(np.flip(wide, axis), axis), axis)
            if reverse
            else accumulate(wide, axis)
        )
        return out.astype(x.dtype, copy=False)

    def lower(b, x, *, axis, reverse):
        if x.aval.size == 0:
            return x
        dtype = x.aval.dtype
        wide = b.convert(x, dtypes.float32) if dtype in HALF else x
        wide = b.reverse(wide, (axis,)) if reverse else wide
        first = b.constant(np.asarray(start(wide.aval.dtype), wide.aval.dtype))
        out = scan_windows(b, wide, first, fn, axis)
        return b.convert(b.reverse(out, (axis,)) if reverse else out, dtype)

    op = Op(
        name,
        abstract=abstract,
        reference=reference,
        lower=lower,
        jvp=jvp,
        transpose=transpose or Unsupported(f"{name} is not linear"),
        batch=lambda size, x, batched, *, axis, reverse: (
            op(x[0], axis=axis + 1, reverse=reverse),
            True,
        ),
    )
    return op


def _pair_scan_jvp(combine: Callable, weights: Callable, start: Callable):
    """Tangent of a cumulative op, by doubling over (value, tangent) pairs.

    `weights(x, y, out)` are the derivatives of ``out = combine(x, y)``.
    """

    def jvp(ctx, t, x, *, axis, reverse):
        if reverse:
            x, t = rev(x, axes=(axis,)), rev(t, axes=(axis,))
        step, n = 1, x.shape[axis]
        while step < n:
            before, t_before = _shifted(x, step, axis, start(x.dtype)), _shifted(t, step, axis, 0)
            out = combine(before, x)
            w_before, w = weights(before, x, out)
            x, t = out, add(mul(t_before, w_before), mul(t, w))
            step *= 2
        return rev(t, axes=(axis,)) if reverse else t

    return (jvp,)


def _shifted(x, step: int, axis: int, fill):
    config = tuple([(step, -step, 0) if i == axis else (0, 0, 0) for i in range(len(x.shape))])
    return pad(x, np.asarray(fill, x.dtype), config=config)


def _finite_or_zero(x):
    return select(is_finite(x), x, zeros_like(x))


def _logaddexp(x, y):
    top = _finite_or_zero(max(x, y))
    return add(top, log(add(exp(sub(x, top)), exp(sub(y, top)))))


def _logaddexp_weights(x, y, out):
    out = _finite_or_zero(out)
    return exp(sub(x, out)), exp(sub(y, out))


def _logaddexp_lower(b, x, y):
    top = b.maximum(x, y)
    top = b.select(b.is_finite(top), top, b.full(0, top.aval))
    return b.add(
        top, b.log(b.add(b.exponential(b.subtract(x, top)), b.exponential(b.subtract(y, top))))
    )


def _extremum_weights(x, y, out):
    return extremum_weight(x, y, out), extremum_weight(y, x, out)


cumsum: Op = _cumulative(
    "cumsum",
    lambda x, axis: np.cumsum(x, axis, x.dtype),
    lambda b, x, y: b.add(x, y),
    lambda dtype: 0,
    linear,
    NUMBER,
    lambda ct, x, *, axis, reverse: cumsum(ct, axis=axis, reverse=not reverse),
)
cumprod = _cumulative(
    "cumprod",
    lambda x, axis: np.cumprod(x, axis, x.dtype),
    lambda b, x, y: b.multiply(x, y),
    lambda dtype: 1,
    _pair_scan_jvp(mul, lambda x, y, out: (y, x), lambda dtype: 1),
    NUMBER,
)
cummax = _cumulative(
    "cummax",
    np.maximum.accumulate,
    lambda b, x, y: b.maximum(x, y),
    least,
    _pair_scan_jvp(max, _extremum_weights, least),
    ORDERED,
)
cummin = _cumulative(
    "cummin",
    np.minimum.accumulate,
    lambda b, x, y: b.minimum(x, y),
    greatest,
    _pair_scan_jvp(min, _extremum_weights, greatest),
    ORDERED,
)
cumlogsumexp = _cumulative(
    "cumlogsumexp",
    np.logaddexp.accumulate,
    _logaddexp_lower,
    lambda dtype: -math.inf,
    _pair_scan_jvp(_logaddexp, _logaddexp_weights, lambda dtype: -math.inf),
    FLOAT,
)

# -- the generic reduction ------------------------------------------------------------------------


def check_body(name: str, xs: Sequence[Aval], inits: Sequence[Aval], body: Graph) -> None:
    """Raise TypeError unless `body` maps accumulators and elements, all 0-d, to accumulators."""
    scalars = [Aval((), x.dtype) for x in xs]
    if not xs or list(inits) != scalars:
        raise TypeError(
            f"{name}: the operands are {list(xs)} and the initial values {list(inits)}: each "
            f"operand needs one 0-d "
            "initial value of its dtype"
        )
    if any(x.shape != xs[0].shape for x in xs):
        raise TypeError(f"{name}: the operands {list(xs)} must have one shape")
    if body.in_avals != scalars * 2 or body.out_avals != scalars:
        raise TypeError(
            f"{name}: the function to reduce with maps {body.in_avals} to {body.out_avals}; for "
            f"these operands it "
            f"must map {scalars * 2} (accumulators, then elements) to {scalars}"
        )


def map_graph(graph: Graph, size: int, args: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Evaluate a graph of scalars on whole vectors, through the batch rules of its ops."""
    env = {v: (a, True) for v, a in zip(graph.inputs, args, strict=True)}

    def read(atom):
        return (atom.value, False) if type(atom) is Lit else env[atom]

    for eqn in graph.eqns:
        vals, batched = zip(*[read(a) for a in eqn.inputs], strict=True)
        if any(batched):
            outs, flags = rule(eqn.op, "batch")(size, vals, batched, **eqn.params)
        else:
            outs, flags = (
                eqn.op(*vals, **eqn.params),
                (False,) * len(eqn.outputs) if eqn.op.multiple else False,
            )
        if not eqn.op.multiple:
            outs, flags = (outs,), (flags,)
        env.update(zip(eqn.outputs, zip(outs, flags, strict=True), strict=True))
    return [batch_broadcast(size, *read(o)) for o in graph.outputs]


def fold(body: Graph, xs: Sequence[np.ndarray], inits: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Reduce axis 0 of arrays of shape (n, m) to vectors of size m, by halves and in order."""
    n, m = xs[0].shape
    acc = [np.broadcast_to(i, (m,)) for i in inits]
    xs = list(xs)
    while n > 1:
        pairs = n // 2
        merged = map_graph(
            body, pairs * m, [x[i : 2 * pairs : 2].reshape(-1) for i in (0, 1) for x in xs]
        )
        merged = [v.reshape(pairs, m) for v in merged]
        xs = [np.concatenate([v, x[2 * pairs :]]) for v, x in zip(merged, xs, strict=True)]
        n -= pairs
    return map_graph(body, m, [*acc, *[x[0] for x in xs]]) if n else [a.copy() for a in acc]


def _reduce_abstract(*args, body, axes):
    half = len(args) // 2
    xs, inits = args[:half], args[half:]
    check_body("reduce", xs, inits, body)
    if list(axes) != sorted(set(axes)) or (axes and not 0 <= axes[0] <= axes[-1] < xs[0].ndim):
        raise ValueError(f"reduce: axes={axes} must be different, sorted and in range for {xs[0]}")
    return tuple([Aval(drop_axes(x.shape, axes), x.dtype) for x in xs])


def _reduce_reference(*args, body, axes):
    half = len(args) // 2
    kept = [i for i in range(args[0].ndim) if i not in axes]
    shape = [args[0].shape[i] for i in kept]
    rows = math.prod([args[0].shape[i] for i in axes])
    flat = [x.transpose(*axes, *kept).reshape(rows, math.prod(shape)) for x in args[:half]]
    return tuple([v.reshape(shape) for v in fold(body, flat, args[half:])])


def _reduce_lower(b, *args, body, axes):
    half = len(args) // 2
    return b.reduce_multi(
        args[:half], args[half:], axes, lambda inner, *vals: tuple(inner.lower(body, vals))
    )


def _reduce_batch(size, args, batched, *, body, axes):
    half = len(args) // 2
    if any(batched[half:]):
        raise UnsupportedError(
            "reduce: the initial value differs along a vmapped axis. An initial value must be "
            "the identity of the "
            "function to reduce with, a constant; combine other values with the result instead"
        )
    xs = [batch_broadcast(size, x, f) for x, f in zip(args[:half], batched[:half], strict=True)]
    return reduce(*xs, *args[half:], body=body, axes=tuple([a + 1 for a in axes])), (True,) * half


NO_BODY_JVP = Unsupported(
    "the derivative of a reduction with one's own function is not defined here; use sum, prod, "
    "max, min or "
    "logsumexp, or write it with lax.associative_scan, which has one"
)

reduce = Op(
    "reduce",
    abstract=_reduce_abstract,
    reference=_reduce_reference,
    lower=_reduce_lower,
    jvp=NO_BODY_JVP,
    transpose=NO_BODY_JVP,
    batch=_reduce_batch,
    multiple=True,
    compile_above=1 << 16,
)
