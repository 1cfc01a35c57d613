"""Convolution with strides, padding, dilation and groups, in any layout.

`x` is the input (batch, features, space...) and `k` the kernel (output features, input features of
one group, space...), in the order that `ConvDims` gives. As in XLA the kernel is not flipped.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bevel.core import dtypes
from bevel.core.aval import Aval
from bevel.core.op import Op, is_undefined, multilinear
from bevel.ops.base import full, inverse_permutation, reshape, zeros
from bevel.ops.dot import check_precision, compute_dtype, result_dtype, xla_precision
from bevel.ops.logic import convert
from bevel.ops.shape import moveaxis, pad_reference, rev

Axes = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]


class ConvDims(NamedTuple):
    """Where axes lie: (batch, feature, *space) of input and result, (out, in, *space) of kernel."""

    lhs_spec: Axes
    rhs_spec: Axes
    out_spec: Axes


def dilated(n: int, dilation: int) -> int:
    """Length of an axis with `dilation - 1` holes between its elements."""
    return 0 if n == 0 else (n - 1) * dilation + 1


# -- shapes --------------------------------------------------------------------------------------


def _abstract(
    x,
    k,
    *,
    strides,
    padding,
    lhs_dilation,
    rhs_dilation,
    dims,
    feature_group_count=1,
    batch_group_count=1,
    precision=None,
    preferred=None,
):
    check_precision("conv_general_dilated", precision)
    _check(x, k, dims, strides, padding, lhs_dilation, rhs_dilation)
    _check_groups(x, k, dims, feature_group_count, batch_group_count)
    lhs, rhs, out = dims
    shape = [0] * x.ndim
    shape[out[0]] = x.shape[lhs[0]] // batch_group_count
    shape[out[1]] = k.shape[rhs[0]]
    for i, (stride, (lo, hi), ld, rd) in enumerate(
        zip(strides, padding, lhs_dilation, rhs_dilation, strict=True), 2
    ):
        room = lo + hi + dilated(x.shape[lhs[i]], ld)
        reach = dilated(k.shape[rhs[i]], rd)
        if room < 0 or reach == 0:
            raise ValueError(
                f"conv_general_dilated: space axis {i - 2} of the input {x} has length {room} "
                f"after padding {(lo, hi)} "
                f"and that of the kernel {k} has {reach}; they need at least 0 and 1: cut less, or "
                "use a larger kernel"
            )
        shape[out[i]] = max(0, (room - reach) // stride + 1)
    return Aval(tuple(shape), result_dtype("conv_general_dilated", x.dtype, preferred))


def _check(x, k, dims, strides, padding, lhs_dilation, rhs_dilation) -> None:
    name = "conv_general_dilated"
    if x.dtype != k.dtype or dtypes.kind(x.dtype) == "b":
        raise TypeError(
            f"{name}: the input is {x} and the kernel {k}: their dtypes must be equal numbers; "
            "write "
            f"k.astype({x.dtype.name!r})"
        )
    n = x.ndim - 2
    if x.ndim != k.ndim or n < 0:
        raise TypeError(
            f"{name}: the input is {x} and the kernel {k}: both need the same number of axes, at "
            "least 2"
        )
    for spec, of in zip(dims, ("input", "kernel", "result"), strict=True):
        if sorted(spec) != list(range(x.ndim)):
            raise ValueError(
                f"{name}: {spec} must name each axis of the {of}, 0 to {x.ndim - 1}, exactly once"
            )
    fields = dict(
        strides=strides, padding=padding, lhs_dilation=lhs_dilation, rhs_dilation=rhs_dilation
    )
    for field, values in fields.items():
        if len(values) != n:
            raise ValueError(
                f"{name}: {field}={values} needs one entry for each of the {n} space axes of {x}"
            )
        if field != "padding" and any(v < 1 for v in values):
            raise ValueError(f"{name}: {field}={values} must be at least 1 along every axis")


def _check_groups(x, k, dims, features: int, batches: int) -> None:
    name = "conv_general_dilated"
    n_batch, n_in = (x.shape[d] for d in dims.lhs_spec[:2])
    n_out, per_group = (k.shape[d] for d in dims.rhs_spec[:2])
    if features < 1 or batches < 1 or (features > 1 and batches > 1):
        raise ValueError(
            f"{name}: feature_group_count={features} and batch_group_count={batches} must be at "
            "least 1, and one of them 1"
        )
    if n_in != per_group * features:
        raise ValueError(
            f"{name}: the input {x} has {n_in} features and the kernel {k} takes {per_group} in "
            f"each of {features} "
            f"groups; {per_group} x {features} must be {n_in}"
        )
    if n_out % features or n_out % batches or n_batch % batches:
        raise ValueError(
            f"{name}: the kernel's {n_out} output features must be a multiple of the group count, "
            "and the batch of "
            f"{n_batch} of batch_group_count={batches} (feature_group_count={features})"
        )


# -- reference -----------------------------------------------------------------------------------

CHUNK = 1 << 24
"""Elements of unrolled windows that the reference holds at once."""


def _windows(x: np.ndarray, reach: Axes, out: Axes, strides, rhs_dilation) -> np.ndarray:
    """Windows of `x` (batch, features, *space) as a view (batch, *out, features, *kernel)."""
    n, c = x.shape[:2]
    steps = x.strides
    moving = [s * t for s, t in zip(steps[2:], strides, strict=True)]
    inside = [s * d for s, d in zip(steps[2:], rhs_dilation, strict=True)]
    return np.lib.stride_tricks.as_strided(
        x, (n, *out, c, *reach), (steps[0], *moving, steps[1], *inside)
    )


def _reference(
    x,
    k,
    *,
    strides,
    padding,
    lhs_dilation,
    rhs_dilation,
    dims,
    feature_group_count=1,
    batch_group_count=1,
    precision=None,
    preferred=None,
):
    out_dtype = x.dtype if preferred is None else np.dtype(preferred)
    compute = compute_dtype(x.dtype, out_dtype)
    x = x.astype(compute, copy=False).transpose(dims.lhs_spec)
    k = k.astype(compute, copy=False).transpose(dims.rhs_spec)
    config = (
        (0, 0, 0),
        (0, 0, 0),
        *[(lo, hi, d - 1) for (lo, hi), d in zip(padding, lhs_dilation, strict=True)],
    )
    if any(c != (0, 0, 0) for c in config):
        x = pad_reference(x, np.zeros((), compute), config=config)
    kernel = k.shape[2:]
    space = tuple(
        [
            max(0, (n - dilated(m, d)) // s + 1)
            for n, m, d, s in zip(x.shape[2:], kernel, rhs_dilation, strides, strict=True)
        ]
    )
    groups, o, c = feature_group_count * batch_group_count, k.shape[0], k.shape[1]
    n = x.shape[0] // batch_group_count
    out = np.zeros((n, *space, o), compute)
    if out.size and x.size:
        windows, per = _windows(x, kernel, space, strides, rhs_dilation), o // groups
        weights = k.reshape(groups, per, -1).transpose(0, 2, 1)
        rows = max(1, CHUNK // max(1, math.prod(space) * math.prod(k.shape[1:])))
        for g in range(groups):
            mine = windows[g * n : (g + 1) * n] if batch_group_count > 1 else windows
            if feature_group_count > 1:
                mine = mine[(slice(None),) * (1 + len(space)) + (slice(g * c, (g + 1) * c),)]
            for at in range(0, n, rows):
                block = mine[at : at + rows].reshape(-1, weights.shape[1])
                part = np.matmul(block, weights[g])
                out[at : at + rows, ..., g * per : (g + 1) * per] = part.reshape(-1, *space, per)
    order = (0, x.ndim - 1, *range(1, x.ndim - 1))
    out = out.transpose([order[i] for i in inverse_permutation(dims.out_spec)])
    return out if compute == out_dtype else out.astype(out_dtype)


# -- lowering ------------------------------------------------------------------------------------


def _groups_as_features(b, x, spec: Axes, groups: int):
    """Move the groups of the batch into the features, outermost."""
    shape, (batch, feature) = list(x.aval.shape), spec[:2]
    split = [*shape[:batch], groups, shape[batch] // groups, *shape[batch + 1 :]]
    order = [i for i in range(len(split)) if i != batch]
    order.insert(feature, batch)
    shape[batch] //= groups
    shape[feature] *= groups
    return b.reshape(b.transpose(b.reshape(x, split), order), shape)


def _lower(
    b,
    x,
    k,
    *,
    strides,
    padding,
    lhs_dilation,
    rhs_dilation,
    dims,
    feature_group_count=1,
    batch_group_count=1,
    precision=None,
    preferred=None,
):
    out = b.out
    if 0 in (out.size, x.aval.size, k.aval.size):
        return b.full(0, out)
    if batch_group_count > 1 and b.platform == "cpu":
        # XLA:CPU runs groups of the batch in a loop, 20 times slower than groups of features.
        x = _groups_as_features(b, x, dims.lhs_spec, batch_group_count)
        feature_group_count, batch_group_count = batch_group_count, 1

    def convolve(x, k, out):
        return b.convolution(
            x,
            k,
            dims=dims,
            out_aval=out,
            strides=strides,
            padding=padding,
            lhs_dilation=lhs_dilation,
            rhs_dilation=rhs_dilation,
            feature_groups=feature_group_count,
            batch_groups=batch_group_count,
            precision=xla_precision(precision),
        )

    if not dtypes.is_complex(x.aval.dtype):
        return convolve(x, k, out)
    # XLA has complex convolution on neither CPU (a slow loop) nor GPU.
    part = out.replace(dtype=dtypes.real_dtype(out.dtype))
    (xr, xi), (kr, ki) = ((b.real(v), b.imag(v)) for v in (x, k))
    re = b.subtract(convolve(xr, kr, part), convolve(xi, ki, part))
    im = b.add(convolve(xr, ki, part), convolve(xi, kr, part))
    return b.complex(re, im)


# -- derivatives ---------------------------------------------------------------------------------


def _fold(x, source: int, target: int):
    """Merge axis `source` into `target` (counted once `source` is gone), as the outer part."""
    x = moveaxis(x, source, target)
    shape = x.shape
    return reshape(
        x, shape=(*shape[:target], shape[target] * shape[target + 1], *shape[target + 2 :])
    )


def _unfold(x, axis: int, first: int):
    """Split an axis in two, the first of length `first`."""
    shape = x.shape
    return reshape(x, shape=(*shape[:axis], first, shape[axis] // first, *shape[axis + 1 :]))


def _swap(spec: Axes) -> Axes:
    return (spec[1], spec[0], *spec[2:])


def _space(spec: Axes, shape: Axes) -> list[int]:
    return [shape[d] for d in spec[2:]]


def _input_cotangent(ct, x, k, how, dims: ConvDims, groups: int, by_batch: bool, precision):
    """Convolve the cotangent with the flipped kernel, its input and output features exchanged."""
    lhs, rhs, out = dims
    before, after = [], []
    spans = zip(_space(lhs, x.shape), _space(rhs, k.shape), _space(out, ct.shape), strict=True)
    for i, (n, m, p) in enumerate(spans):
        reach = dilated(m, how["rhs_dilation"][i])
        before.append(reach - how["padding"][i][0] - 1)
        whole = dilated(n, how["lhs_dilation"][i]) + reach - 1
        after.append(whole - dilated(p, how["strides"][i]) - before[-1])
    if groups > 1:
        k = _fold(_unfold(k, rhs[0], groups), rhs[0], rhs[1])
    found = conv_general_dilated(
        ct,
        _as(rev(k, axes=rhs[2:]), ct.dtype),
        strides=how["lhs_dilation"],
        padding=tuple(zip(before, after, strict=True)),
        lhs_dilation=how["strides"],
        rhs_dilation=how["rhs_dilation"],
        dims=ConvDims(out, _swap(rhs), lhs),
        feature_group_count=groups,
        precision=precision,
    )
    if by_batch:
        found = _fold(_unfold(found, lhs[1], groups), lhs[1], lhs[0])
    return _as(found, x.dtype)


def _kernel_cotangent(ct, x, k, how, dims: ConvDims, groups: int, by_batch: bool, precision):
    """Convolve the input with the cotangent, batch and features exchanged."""
    lhs, rhs, out = dims
    pads = []
    spans = zip(_space(lhs, x.shape), _space(rhs, k.shape), _space(out, ct.shape), strict=True)
    for i, (n, m, p) in enumerate(spans):
        lo = how["padding"][i][0]
        reach = dilated(m, how["rhs_dilation"][i])
        pads.append(
            (
                lo,
                dilated(p, how["strides"][i]) - dilated(n, how["lhs_dilation"][i]) + reach - lo - 1,
            )
        )
    found = conv_general_dilated(
        _as(x, ct.dtype),
        ct,
        strides=how["rhs_dilation"],
        padding=tuple(pads),
        lhs_dilation=how["lhs_dilation"],
        rhs_dilation=how["strides"],
        dims=ConvDims(_swap(lhs), _swap(out), _swap(rhs)),
        feature_group_count=groups if by_batch else 1,
        batch_group_count=1 if by_batch else groups,
        precision=precision,
    )
    return _as(found, k.dtype)


def _as(x, dtype):
    return x if x.dtype == dtype else convert(x, dtype=dtype)


def _transpose(
    ct,
    x,
    k,
    *,
    dims,
    feature_group_count=1,
    batch_group_count=1,
    precision=None,
    preferred=None,
    **how,
):
    rule, undefined, at = (_input_cotangent, x, 0) if is_undefined(x) else (_kernel_cotangent, k, 1)
    if 0 in ct.shape or 0 in x.shape or 0 in k.shape:
        found = zeros(undefined.aval)
    else:
        groups, by_batch = feature_group_count * batch_group_count, batch_group_count > 1
        found = rule(ct, x, k, how, dims, groups, by_batch, precision)
    return (found, None) if at == 0 else (None, found)


# -- batching ------------------------------------------------------------------------------------


def _batch(size, args, batched, **params):
    x, k = args
    size, dims = int(size), params["dims"]
    lhs, rhs, out = dims
    if size == 0:
        row = [
            Aval(tuple(a.shape[1:] if b else a.shape), a.dtype)
            for a, b in zip(args, batched, strict=True)
        ]
        aval = _abstract(*row, **params)
        return full((0, *aval.shape), 0, aval.dtype), True
    features, batches = params.pop("feature_group_count", 1), params.pop("batch_group_count", 1)
    groups = features * batches
    how = dict(params, feature_group_count=features, batch_group_count=batches)
    if all(batched):
        # Each row becomes a group of its own.
        grown = "batch_group_count" if batches > 1 else "feature_group_count"
        x = _fold(x, 0, lhs[0] if batches > 1 else lhs[1])
        found = conv_general_dilated(x, _fold(k, 0, rhs[0]), **{**how, grown: groups * size})
        return moveaxis(_unfold(found, out[1], size), out[1], 0), True
    if batched[0]:
        found = conv_general_dilated(_fold_inside(x, lhs[0], batches), k, **how)
        return moveaxis(_unfold(found, out[0], size), out[0], 0), True
    found = conv_general_dilated(x, _fold_inside(k, rhs[0], groups), **how)
    if groups == 1:
        return moveaxis(_unfold(found, out[1], size), out[1], 0), True
    parts = moveaxis(_unfold(_unfold(found, out[1], groups), out[1] + 1, size), out[1] + 1, 0)
    at = out[1] + 1
    shape = parts.shape
    return reshape(parts, shape=(*shape[:at], shape[at] * shape[at + 1], *shape[at + 2 :])), True


def _fold_inside(x, axis: int, groups: int):
    """Merge the batch axis into `axis` (counted without it), inside its groups."""
    if groups == 1:
        return _fold(x, 0, axis)
    x = _fold(_unfold(x, axis + 1, groups), 0, axis + 1)
    shape = x.shape
    return reshape(x, shape=(*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :]))


conv_general_dilated = Op(
    "conv_general_dilated",
    abstract=_abstract,
    reference=_reference,
    lower=_lower,
    jvp=multilinear,
    transpose=_transpose,
    batch=_batch,
    compile_above=1
    << 14,  # from there XLA's convolution is 3 to 15 times quicker than the reference
)
