"""Indexing ops: dynamic_slice, dynamic_update_slice, gather and the scatters.

Indices are plain numbers here: negative ones have been normalised above, and one that is out of
bounds is clamped (mode "clip"), filled or dropped ("fill"), or a broken promise
("promise_in_bounds").
"""

from __future__ import annotations

import functools
import math

import numpy as np

from bevel.core import dtypes
from bevel.core.aval import Aval, aval_of
from bevel.core.op import Op, Unsupported, is_undefined
from bevel.ops.base import batch_broadcast, broadcast_in_dim, full_like, reshape, zeros, zeros_like
from bevel.ops.elementwise import add, div, mul, sub
from bevel.ops.indexing import (
    CLIP,
    GatherDims,
    ScatterDims,
    block_misuse,
    check_dims,
    check_mode,
    check_sizes,
    fill_number,
    gather_reference,
    result_shape,
    scatter_reference,
    window_misuse,
    window_sizes,
)
from bevel.ops.logic import convert, eq, select
from bevel.ops.shape import concatenate, iota

Axes = tuple[int, ...]


def _shift(axes: Axes) -> Axes:
    return tuple([a + 1 for a in axes])


def _or_zeros(tangent, primal):
    return zeros(aval_of(primal)) if tangent is None else tangent


# -- dynamic_slice and dynamic_update_slice ------------------------------------------------------


def _check_block(name: str, x, starts, sizes: Axes) -> None:
    if not len(starts) == len(sizes) == x.ndim:
        raise TypeError(
            f"{name}: {len(starts)} starts and a block of shape {tuple(sizes)} for {x}; both need "
            "one entry for each "
            f"of its {x.ndim} axes"
        )
    for i, s in enumerate(starts):
        if s.shape != () or not dtypes.is_integer(s.dtype) or s.dtype != starts[0].dtype:
            raise TypeError(
                f"{name}: start {i} is {s}; all starts must be 0-d integers of one dtype: write "
                "start.astype('int32')"
            )
    if any(not 0 <= k <= n for k, n in zip(sizes, x.shape, strict=True)):
        raise ValueError(
            f"{name}: a block of shape {tuple(sizes)} does not fit into {x}: each size must be "
            "0..its axis"
        )


def _block(shape: Axes, starts, sizes: Axes) -> tuple[slice, ...]:
    """The slices of a block, moved into bounds."""
    at = [min(max(int(s), 0), n - k) for n, s, k in zip(shape, starts, sizes, strict=True)]
    return tuple([slice(s, s + k) for s, k in zip(at, sizes, strict=True)])


def _index_vectors(size: int, starts, batched):
    """The starts of each row's block as one array of index vectors, `(size, len(starts))`."""
    columns = [
        reshape(batch_broadcast(size, s, b), shape=(int(size), 1))
        for s, b in zip(starts, batched, strict=True)
    ]
    return concatenate(*columns, axis=1)


def _dynamic_slice_abstract(x, *starts, sizes):
    _check_block("dynamic_slice", x, starts, sizes)
    return Aval(tuple(sizes), x.dtype)


def _dynamic_slice_jvp(ctx, primals, tangents, *, sizes):
    x, *starts = primals
    t = tangents[0]
    return dynamic_slice(x, *starts, sizes=sizes), None if t is None else dynamic_slice(
        t, *starts, sizes=sizes
    )


def _dynamic_slice_transpose(ct, x, *starts, sizes):
    return dynamic_update_slice(zeros(x.aval), ct, *starts), *[None] * len(starts)


def _dynamic_slice_batch(size, args, batched, *, sizes):
    x, *starts = args
    if not any(batched[1:]):
        first = np.zeros((), starts[0].dtype) if starts else np.zeros((), np.int32)
        return dynamic_slice(x, first, *starts, sizes=(int(size), *sizes)), True
    every = tuple(range(len(sizes)))
    vectors = _index_vectors(size, starts, batched[1:])
    params = dict(dims=GatherDims(every, (), every), sizes=tuple(sizes), mode=CLIP)
    return _gather_batch(size, (x, vectors), (batched[0], True), **params)


dynamic_slice = Op(
    "dynamic_slice",
    abstract=_dynamic_slice_abstract,
    reference=lambda x, *starts, sizes: x[_block(x.shape, starts, sizes)],
    lower=lambda b, x, *starts, sizes: b.dynamic_slice(x, starts, sizes),
    misuse=block_misuse(1, lambda avals, params: params["sizes"]),
    jvp=_dynamic_slice_jvp,
    transpose=_dynamic_slice_transpose,
    batch=_dynamic_slice_batch,
)


def _update_abstract(x, update, *starts):
    if update.dtype != x.dtype:
        raise TypeError(
            f"dynamic_update_slice: the update is {update} and the operand {x}: write "
            f"update.astype({x.dtype.name!r})"
        )
    _check_block("dynamic_update_slice", x, starts, update.shape)
    return x


def _update_reference(x, update, *starts):
    out = x.copy()
    out[_block(x.shape, starts, update.shape)] = update
    return out


def _update_jvp(ctx, primals, tangents):
    x, update, *starts = primals
    tx, tu = tangents[:2]
    out = dynamic_update_slice(x, update, *starts)
    if tx is None and tu is None:
        return out, None
    return out, dynamic_update_slice(_or_zeros(tx, x), _or_zeros(tu, update), *starts)


def _update_transpose(ct, x, update, *starts):
    ct_x = ct_update = None
    if is_undefined(x):
        ct_x = dynamic_update_slice(ct, zeros(aval_of(update)), *starts)
    if is_undefined(update):
        ct_update = dynamic_slice(ct, *starts, sizes=update.shape)
    return ct_x, ct_update, *[None] * len(starts)


def _update_batch(size, args, batched):
    x, update, *starts = args
    x, update = batch_broadcast(size, x, batched[0]), batch_broadcast(size, update, batched[1])
    if not any(batched[2:]):
        first = np.zeros((), starts[0].dtype) if starts else np.zeros((), np.int32)
        return dynamic_update_slice(x, update, first, *starts), True
    every = tuple(range(len(starts)))
    vectors = _index_vectors(size, starts, batched[2:])
    params = dict(dims=ScatterDims(every, (), every), mode=CLIP, unique_indices=True)
    return _batch_scatter(scatter, size, (x, vectors, update), (True, True, True), **params)


dynamic_update_slice = Op(
    "dynamic_update_slice",
    abstract=_update_abstract,
    reference=_update_reference,
    lower=lambda b, x, update, *starts: b.dynamic_update_slice(x, update, starts),
    misuse=block_misuse(2, lambda avals, params: avals[1].shape),
    jvp=_update_jvp,
    transpose=_update_transpose,
    batch=_update_batch,
)


# -- gather --------------------------------------------------------------------------------------


def _gather_abstract(
    x,
    indices,
    *,
    dims,
    sizes,
    mode,
    fill_value=None,
    unique_indices=False,
    indices_are_sorted=False,
):
    check_mode("gather", mode)
    check_dims("gather", x, indices, dims, indices.ndim - 1 + len(dims.offset_dims))
    check_sizes("gather", x, dims, sizes, empty=0 in indices.shape[:-1])
    return Aval(result_shape(indices.shape[:-1], dims, sizes), x.dtype)


def _wide_indices(b, indices):
    """Indices in a signed dtype that holds every size: comparisons and clamps cannot wrap."""
    dtype = indices.aval.dtype
    if dtype in (dtypes.int32, dtypes.int64):
        return indices
    if dtype == dtypes.uint64:
        indices = b.minimum(indices, b.full(np.iinfo(np.int64).max, indices.aval))
    return b.convert(
        indices, dtypes.int64 if dtype in (dtypes.uint32, dtypes.uint64) else dtypes.int32
    )


def _last_starts(b, indices, x_shape: Axes, dims, sizes: Axes):
    """The largest start in bounds of each entry of the index vectors, in the shape of `indices`."""
    top = np.iinfo(indices.aval.dtype).max
    limits = np.array([min(x_shape[d] - sizes[d], top) for d in dims[2]], indices.aval.dtype)
    return b.broadcast_in_dim(b.constant(limits), indices.aval.shape, (indices.aval.ndim - 1,))


def _gather_lower(
    b,
    x,
    indices,
    *,
    dims,
    sizes,
    mode,
    fill_value=None,
    unique_indices=False,
    indices_are_sorted=False,
):
    out = b.out
    if out.size == 0:
        return b.full(0, out)
    indices = _wide_indices(b, indices)
    last = indices.aval.ndim - 1
    found = b.gather(
        x,
        indices,
        **dims._asdict(),
        index_vector_dim=last,
        slice_sizes=sizes,
        sorted=indices_are_sorted,
        out_aval=out,
    )
    if mode != "fill" or not dims.start_index_map:
        return found
    inside = b.and_(
        b.compare(indices, b.full(0, indices.aval), "GE"),
        b.compare(indices, _last_starts(b, indices, x.aval.shape, dims, sizes), "LE"),
    )
    places = [i for i in range(out.ndim) if i not in dims.offset_dims]
    inside = b.broadcast_in_dim(b.reduce(inside, "and", (last,)), out.shape, places)
    return b.select(inside, found, b.full(fill_number(out.dtype, fill_value), out))


def _gather_transpose(ct, x, indices, *, dims, sizes, fill_value=None, **how):
    return scatter_add(zeros(x.aval), indices, ct, dims=ScatterDims(*dims), **how), None


def _gather_batch(
    size, args, batched, *, dims, sizes, unique_indices=False, indices_are_sorted=False, **how
):
    x, indices = args
    offset, collapsed, start_map, x_batch, i_batch = dims
    offset = _shift(offset)
    if batched[0]:
        collapsed, start_map, x_batch = _shift(collapsed), _shift(start_map), _shift(x_batch)
    if batched[1]:
        i_batch = _shift(i_batch)
    if all(batched):
        x_batch, i_batch, sizes = (0, *x_batch), (0, *i_batch), (min(1, int(size)), *sizes)
    elif batched[0]:
        offset, sizes = (0, *offset), (int(size), *sizes)
    else:
        unique_indices = False
    dims = GatherDims(offset, collapsed, start_map, x_batch, i_batch)
    in_order = indices_are_sorted and not batched[1]
    return gather(
        x,
        indices,
        dims=dims,
        sizes=sizes,
        unique_indices=unique_indices,
        indices_are_sorted=in_order,
        **how,
    ), True


gather: Op = Op(
    "gather",
    abstract=_gather_abstract,
    reference=gather_reference,
    lower=_gather_lower,
    jvp=(
        lambda ctx, t, x, indices, **params: gather(t, indices, **{**params, "fill_value": 0}),
        None,
    ),
    transpose=_gather_transpose,
    batch=_gather_batch,
    misuse=window_misuse(lambda avals, params: params["sizes"]),
)


# -- scatter -------------------------------------------------------------------------------------


def _back(values, indices, updates_shape: Axes, dims: ScatterDims, **how):
    """What such a scatter would touch, in the shape of its updates (0 where it drops them)."""
    sizes = window_sizes(values.shape, updates_shape, dims)
    return gather(values, indices, dims=GatherDims(*dims), sizes=sizes, fill_value=0, **how)


def _scatter_abstract(
    name: str,
    allowed,
    x,
    indices,
    updates,
    *,
    dims,
    mode,
    unique_indices=False,
    indices_are_sorted=False,
):
    check_mode(name, mode)
    if x.dtype not in allowed:
        raise TypeError(
            f"{name}: the operand is {x}; its dtype must be one of "
            f"{', '.join(d.name for d in allowed)}"
        )
    if updates.dtype != x.dtype:
        raise TypeError(
            f"{name}: the updates are {updates} and the operand {x}: write "
            f"updates.astype({x.dtype.name!r})"
        )
    check_dims(name, x, indices, dims, updates.ndim)
    sizes = window_sizes(x.shape, updates.shape, dims)
    check_sizes(name, x, dims, sizes, empty=True)
    expected = result_shape(indices.shape[:-1], dims, sizes)
    if updates.shape != expected:
        raise ValueError(
            f"{name}: the updates are {updates}, and the indices {indices} with {dims} address a "
            "batch of windows of "
            f"shape {expected}: broadcast or reshape the updates to it"
        )
    return x


def _scatter_lower(
    kind: str, b, x, indices, updates, *, dims, mode, unique_indices=False, indices_are_sorted=False
):
    if updates.aval.size == 0:
        return x
    if not dims.scatter_dims_to_operand_dims:
        # XLA applies only one of many updates whose index vectors are empty: let them index a new
        # axis of size 1.
        window, inserted, _, x_batch, i_batch = dims
        dims = ScatterDims(window, (0, *_shift(inserted)), (0,), _shift(x_batch), i_batch)
        zero = b.full(0, Aval((*indices.aval.shape[:-1], 1), dtypes.int32))
        longer = b.reshape(x, (1, *x.aval.shape))
        out = _scatter_lower(
            kind, b, longer, zero, updates, dims=dims, mode=mode, unique_indices=unique_indices
        )
        return b.reshape(out, x.aval.shape)
    indices = _wide_indices(b, indices)
    if mode == "clip":
        limits = _last_starts(
            b, indices, x.aval.shape, dims, window_sizes(x.aval.shape, updates.aval.shape, dims)
        )
        indices = b.clamp(b.full(0, indices.aval), indices, limits)

    def write(x, updates):
        return b.scatter(
            x,
            indices,
            updates,
            kind,
            update_window_dims=dims.update_window_dims,
            inserted_window_dims=dims.inserted_window_dims,
            scatter_dims_to_operand_dims=dims.scatter_dims_to_operand_dims,
            index_vector_dim=indices.aval.ndim - 1,
            input_batching_dims=dims.operand_batching_dims,
            scatter_indices_batching_dims=dims.scatter_indices_batching_dims,
            sorted=indices_are_sorted,
            unique=unique_indices,
        )

    if b.platform == "cuda" and kind == "add" and x.aval.dtype == dtypes.complex128:
        # A GPU has no atomic addition of 16 bytes.
        return b.complex(write(b.real(x), b.real(updates)), write(b.imag(x), b.imag(updates)))
    return write(x, updates)


def _batch_scatter(op: Op, size, args, batched, *, dims, indices_are_sorted=False, **how):
    x, updates = (
        batch_broadcast(size, args[0], batched[0]),
        batch_broadcast(size, args[2], batched[2]),
    )
    window, inserted, to_operand, x_batch, i_batch = dims
    window, inserted, to_operand, x_batch = (
        _shift(window),
        _shift(inserted),
        _shift(to_operand),
        _shift(x_batch),
    )
    if batched[1]:
        x_batch, i_batch = (0, *x_batch), (0, *_shift(i_batch))
    else:
        window = (0, *window)
    dims = ScatterDims(window, inserted, to_operand, x_batch, i_batch)
    in_order = indices_are_sorted and not batched[1]
    return op(x, args[1], updates, dims=dims, indices_are_sorted=in_order, **how), True


_SCATTER_MISUSE = window_misuse(
    lambda avals, params: window_sizes(avals[0].shape, avals[2].shape, params["dims"])
)


def _scatter_op(name: str, kind: str, jvp, transpose, allowed=dtypes.ALL) -> Op:
    op = Op(
        name,
        abstract=functools.partial(_scatter_abstract, name, allowed),
        reference=functools.partial(scatter_reference, kind),
        lower=functools.partial(_scatter_lower, kind),
        jvp=jvp,
        transpose=transpose,
        batch=lambda size, args, batched, **params: _batch_scatter(
            op, size, args, batched, **params
        ),
        misuse=_SCATTER_MISUSE,
    )
    return op


def _distinct(indices, how) -> bool:
    """Whether no two windows can meet: promised, or there is only one, as in ``x.at[i].set(y)``."""
    return how.get("unique_indices", False) or math.prod(indices.shape[:-1]) <= 1


def _winners(x_shape: Axes, indices, updates_shape: Axes, dims: ScatterDims, **how):
    """Which places of the operand no window touches, and which elements of the updates end up in
    it.

    Each window writes its number; where it reads its own number back, it was the last to write.
    """
    places = [i for i in range(len(updates_shape)) if i not in dims.update_window_dims]
    batch = tuple([updates_shape[i] for i in places])
    numbers = iota(shape=(math.prod(batch),), dtype=dtypes.uint32, axis=0)
    numbers = add(numbers, full_like(numbers, 1))
    ids = broadcast_in_dim(
        reshape(numbers, shape=batch), shape=tuple(updates_shape), dims=tuple(places)
    )
    written = scatter(zeros(Aval(tuple(x_shape), dtypes.uint32)), indices, ids, dims=dims, **how)
    won = eq(ids, _back(written, indices, updates_shape, dims, **how))
    return eq(written, zeros_like(written)), won


def _scatter_jvp(ctx, primals, tangents, *, dims, **how):
    x, indices, updates = primals
    tx, _, tu = tangents
    out = scatter(x, indices, updates, dims=dims, **how)
    if tx is None and tu is None:
        return out, None
    tx, tu = _or_zeros(tx, x), _or_zeros(tu, updates)
    if _distinct(indices, how):
        return out, scatter(tx, indices, tu, dims=dims, **how)
    untouched, won = _winners(x.shape, indices, updates.shape, dims, **how)
    tx, tu = select(untouched, tx, zeros_like(tx)), select(won, tu, zeros_like(tu))
    return out, scatter_add(tx, indices, tu, dims=dims, **how)


def _scatter_transpose(ct, x, indices, updates, *, dims, **how):
    ct_x = ct_updates = None
    if is_undefined(x):
        ct_x = scatter(ct, indices, zeros(aval_of(updates)), dims=dims, **how)
    if is_undefined(updates):
        ct_updates = _back(ct, indices, updates.shape, dims, **how)
        if not _distinct(indices, how):
            _, won = _winners(x.shape, indices, updates.shape, dims, **how)
            ct_updates = select(won, ct_updates, zeros_like(ct_updates))
    return ct_x, None, ct_updates


scatter = _scatter_op(
    "scatter", "set", _scatter_jvp, _scatter_transpose, dtypes.ALL + dtypes.STORAGE
)


def _scatter_add_jvp(ctx, primals, tangents, **params):
    x, indices, updates = primals
    tx, _, tu = tangents
    out = scatter_add(x, indices, updates, **params)
    return out, tx if tu is None else scatter_add(_or_zeros(tx, x), indices, tu, **params)


def _scatter_add_transpose(ct, x, indices, updates, *, dims, **how):
    ct_updates = _back(ct, indices, updates.shape, dims, **how) if is_undefined(updates) else None
    return ct if is_undefined(x) else None, None, ct_updates


scatter_add = _scatter_op("scatter_add", "add", _scatter_add_jvp, _scatter_add_transpose)


def _product_of_others(x, indices, updates, *, dims, **how):
    """For each update, the operand times all other updates of its place.

    That is the whole product divided by the update, but for zeros, which are left out of the
    product: with one zero among the others their product is that zero times the rest, with more it
    is 0. Written so, gradients and Hessians are exact; third derivatives at two zeros of one place
    are not.
    """

    def back(values):
        return _back(values, indices, updates.shape, dims, **how)

    nothing = zeros_like(updates)
    zero = eq(updates, nothing)
    divisor = select(zero, full_like(updates, 1), updates)
    rest = div(back(scatter_mul(x, indices, divisor, dims=dims, **how)), divisor)
    vanishing = select(zero, updates, nothing)
    others = sub(back(scatter_add(zeros_like(x), indices, vanishing, dims=dims, **how)), vanishing)
    one = convert(zero, dtype=dtypes.int32)
    count = sub(
        back(scatter_add(zeros(Aval(x.shape, dtypes.int32)), indices, one, dims=dims, **how)), one
    )
    some = select(eq(count, full_like(count, 1)), mul(rest, others), nothing)
    return select(eq(count, zeros_like(count)), rest, some)


def _scatter_mul_jvp_updates(ctx, t, x, indices, updates, *, dims, **how):
    if _distinct(indices, how):
        others = _back(x, indices, updates.shape, dims, **how)
    else:
        others = _product_of_others(x, indices, updates, dims=dims, **how)
    return scatter_add(zeros_like(x), indices, mul(t, others), dims=dims, **how)


def _scatter_mul_transpose(ct, x, indices, updates, *, dims, **how):
    if is_undefined(x):
        return scatter_mul(ct, indices, updates, dims=dims, **how), None, None
    return None, None, _back(mul(ct, x), indices, updates.shape, dims, **how)


scatter_mul: Op = _scatter_op(
    "scatter_mul",
    "mul",
    (
        lambda ctx, t, x, indices, updates, **params: scatter_mul(t, indices, updates, **params),
        None,
        _scatter_mul_jvp_updates,
    ),
    _scatter_mul_transpose,
)


def _extremal_jvp(op: Op, ctx, primals, tangents, *, dims, **how):
    """Tangents of the values that won each place; those that tie share it equally."""
    x, indices, updates = primals
    tx, _, tu = tangents
    out = op(x, indices, updates, dims=dims, **how)
    if tx is None and tu is None:
        return out, None
    kept = eq(x, out)
    won = eq(updates, _back(out, indices, updates.shape, dims, **how))
    ties = scatter_add(
        convert(kept, dtype=x.dtype), indices, convert(won, dtype=x.dtype), dims=dims, **how
    )
    ties = select(eq(ties, zeros_like(ties)), full_like(ties, 1), ties)
    tangent = zeros_like(x) if tx is None else select(kept, tx, zeros_like(tx))
    if tu is not None:
        tangent = scatter_add(tangent, indices, select(won, tu, zeros_like(tu)), dims=dims, **how)
    return out, div(tangent, ties)


def _extremal(name: str, kind: str) -> Op:
    op: Op = _scatter_op(
        name,
        kind,
        lambda ctx, primals, tangents, **params: _extremal_jvp(
            op, ctx, primals, tangents, **params
        ),
        Unsupported(f"{name} is not linear"),
        dtypes.BOOL + dtypes.INT + dtypes.FLOAT,
    )
    return op


scatter_max = _extremal("scatter_max", "max")
scatter_min = _extremal("scatter_min", "min")
