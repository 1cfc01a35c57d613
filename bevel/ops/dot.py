"""The general contraction: every matrix product, einsum and dense layer is one `dot_general`.

The result has the batch axes first, then the free axes of `x`, then those of `y`.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from bevel.core import dtypes
from bevel.core.aval import Aval
from bevel.core.graph import trace_closed
from bevel.core.interpreter import to_numpy
from bevel.core.op import Op, is_undefined, multilinear
from bevel.ops.base import transpose
from bevel.ops.logic import convert
from bevel.ops.shape import moveaxis

Axes = tuple[int, ...]
Pair = tuple[Axes, Axes]

PRECISIONS = {
    None: None,
    "default": "DEFAULT",
    "bfloat16": "DEFAULT",
    "fastest": "DEFAULT",
    "high": "HIGH",
    "bfloat16_3x": "HIGH",
    "tensorfloat32": "HIGH",
    "highest": "HIGHEST",
    "float32": "HIGHEST",
}


class Algorithm:
    """A precision that writes the contraction itself, by other ones; it must be hashable."""

    def contract(self, x, y, axes: dict[str, Pair], out: np.dtype):
        """`dot_general` of two values over `axes`, with results at the dtype `out`."""
        raise NotImplementedError(type(self).__name__)


def check_precision(name: str, precision) -> None:
    """`precision` is None, a name of `PRECISIONS` or a pair of them (one for each operand)."""
    pair = precision if isinstance(precision, tuple) else (precision, precision)
    if len(pair) != 2 or any(p not in PRECISIONS for p in pair):
        raise ValueError(
            f"{name}: precision {precision!r} is not known; it is one of "
            f"{', '.join(str(k) for k in PRECISIONS)}, or a pair of them, one for each operand"
        )


def xla_precision(precision):
    """The spelling that StableHLO has for a precision."""
    if isinstance(precision, tuple):
        return tuple([PRECISIONS[p] or "DEFAULT" for p in precision])
    return PRECISIONS[precision]


def _free(ndim: int, contract: Axes, batch: Axes) -> Axes:
    return tuple([i for i in range(ndim) if i not in contract and i not in batch])


# -- shapes --------------------------------------------------------------------------------------


def _abstract(x, y, *, contract: Pair, batch: Pair = ((), ()), precision=None, preferred=None):
    if not isinstance(precision, Algorithm):
        check_precision("dot_general", precision)
    if x.dtype != y.dtype:
        raise TypeError(
            f"dot_general: the operands are {x} and {y}: convert one to the other's dtype"
        )
    for axes, what in ((contract, "contracts"), (batch, "batches")):
        _check_pairs(x, y, axes, what)
    for a, side in ((x, 0), (y, 1)):
        used = (*contract[side], *batch[side])
        if len(set(used)) != len(used):
            raise ValueError(
                f"dot_general: an axis of {a} is named twice in contract={contract[side]} and "
                f"batch={batch[side]}"
            )
    shape = [x.shape[i] for i in batch[0]]
    shape += [x.shape[i] for i in _free(x.ndim, contract[0], batch[0])]
    shape += [y.shape[i] for i in _free(y.ndim, contract[1], batch[1])]
    return Aval(tuple(shape), result_dtype("dot_general", x.dtype, preferred))


def _check_pairs(x, y, axes: Pair, what: str) -> None:
    if len(axes[0]) != len(axes[1]):
        raise ValueError(
            f"dot_general: {what} {len(axes[0])} axes of {x} with {len(axes[1])} of {y}; the "
            "counts differ"
        )
    for i, j in zip(*axes, strict=True):
        for a, axis in ((x, i), (y, j)):
            if not 0 <= axis < a.ndim:
                raise ValueError(
                    f"dot_general: {what} axis {axis}, which {a} does not have: use 0..{a.ndim - 1}"
                )
        if x.shape[i] != y.shape[j]:
            raise TypeError(
                f"dot_general: {what} axis {i} of {x} (size {x.shape[i]}) with axis {j} of {y} "
                f"(size {y.shape[j]}); the sizes must be equal"
            )


def result_dtype(name: str, dtype: np.dtype, preferred) -> np.dtype:
    """Dtype of a contraction: the operands', or the preferred one if they can give it."""
    if preferred is None:
        return dtype
    preferred = np.dtype(preferred)
    if dtypes.kind(preferred) in "fc" and dtypes.kind(dtype) in "iub":
        return preferred
    if dtypes.kind(dtype) != dtypes.kind(preferred) and {
        dtypes.kind(dtype),
        dtypes.kind(preferred),
    } != {"i", "u"}:
        raise TypeError(
            f"{name}: operands of {dtype.name} cannot give the preferred {preferred.name}: "
            "use a dtype of the same kind"
        )
    return preferred


# -- reference -----------------------------------------------------------------------------------


@functools.lru_cache(maxsize=4096)
def _plan(x_shape: Axes, y_shape: Axes, contract: Pair, batch: Pair):
    """Permutations and shapes that turn a contraction into one (stacked) matrix product."""
    nx, ny = len(x_shape), len(y_shape)
    fx, fy = _free(nx, contract[0], batch[0]), _free(ny, contract[1], batch[1])
    px, py = (*batch[0], *fx, *contract[0]), (*batch[1], *contract[1], *fy)
    stack, free_x = [x_shape[i] for i in batch[0]], [x_shape[i] for i in fx]
    free_y = [y_shape[i] for i in fy]
    k = math.prod([x_shape[i] for i in contract[0]])
    sx, sy = (*stack, math.prod(free_x), k), (*stack, k, math.prod(free_y))
    return (
        None if px == tuple(range(nx)) else px,
        None if sx == tuple([x_shape[i] for i in px]) else sx,
        None if py == tuple(range(ny)) else py,
        None if sy == tuple([y_shape[i] for i in py]) else sy,
        (*stack, *free_x, *free_y),
    )


@functools.lru_cache(maxsize=256)
def compute_dtype(dtype: np.dtype, out: np.dtype) -> np.dtype:
    """Half precisions and float8 are multiplied and summed in float32, as XLA does."""
    if dtypes.is_inexact(out):
        double = dtypes.float64 in (dtypes.real_dtype(dtype), dtypes.real_dtype(out))
        wide = dtypes.float64 if double else dtypes.float32
        return dtypes.complex_dtype(wide) if dtypes.is_complex(out) else wide
    return out


_WIDE = 1 << 15
"""Integer products with more terms go through float64 BLAS where it is exact: 30 times faster."""


def _integer_matmul(x, y):
    k = x.shape[-1]
    if k * x.size * y.shape[-1] < _WIDE * max(k, 1):
        return np.matmul(x, y)
    bound = k * max(abs(int(x.max(initial=0))), abs(int(x.min(initial=0))), 1)
    bound *= max(abs(int(y.max(initial=0))), abs(int(y.min(initial=0))), 1)
    if bound >= 1 << 53:
        return np.matmul(x, y)
    return np.matmul(x.astype(np.float64), y.astype(np.float64)).astype(np.int64).astype(x.dtype)


def _reference(x, y, *, contract: Pair, batch: Pair = ((), ()), precision=None, preferred=None):
    if isinstance(precision, Algorithm):
        out = x.dtype if preferred is None else np.dtype(preferred)
        return to_numpy(precision.contract(x, y, dict(contract=contract, batch=batch), out))
    px, sx, py, sy, shape = _plan(x.shape, y.shape, contract, batch)
    out_dtype = x.dtype if preferred is None else np.dtype(preferred)
    compute = compute_dtype(x.dtype, out_dtype)
    if x.dtype != compute:
        x, y = x.astype(compute), y.astype(compute)
    if px is not None:
        x = x.transpose(px)
    if sx is not None:
        x = x.reshape(sx)
    if py is not None:
        y = y.transpose(py)
    if sy is not None:
        y = y.reshape(sy)
    out = _integer_matmul(x, y) if compute.kind in "iu" else np.matmul(x, y)
    if compute != out_dtype:
        out = out.astype(out_dtype)
    return out if out.shape == shape else out.reshape(shape)


# -- derivatives and batching --------------------------------------------------------------------


def _cotangent(ct, other, aval, side: int, contract: Pair, batch: Pair, precision):
    """Cotangent of operand `side`: the result's, contracted with the other's free axes."""
    mine, theirs = contract[side], contract[1 - side]
    nb = len(batch[0])
    kept = _free(aval.ndim, mine, batch[side])
    kept_other = _free(other.ndim, theirs, batch[1 - side])
    first = nb + (len(kept) if side == 0 else 0)
    if other.dtype != ct.dtype:
        other = convert(other, dtype=ct.dtype)
    axes = tuple(range(first, first + len(kept_other))), kept_other
    batches = tuple(range(nb)), batch[1 - side]
    contracted = [mine[i] for i in sorted(range(len(theirs)), key=lambda i: theirs[i])]
    # The operands keep their sides, so that a matrix product's cotangents need no transposing.
    if side == 0:
        out = dot_general(ct, other, contract=axes, batch=batches, precision=precision)
        places = (*batch[side], *kept, *contracted)
    else:
        out = dot_general(other, ct, contract=axes[::-1], batch=batches[::-1], precision=precision)
        places = (*batch[side], *contracted, *kept)
    permutation = tuple(sorted(range(aval.ndim), key=lambda i: places[i]))
    out = out if permutation == tuple(range(aval.ndim)) else transpose(out, permutation=permutation)
    return out if out.dtype == aval.dtype else convert(out, dtype=aval.dtype)


def _transpose(ct, x, y, *, contract: Pair, batch: Pair = ((), ()), precision=None, preferred=None):
    if is_undefined(x):
        return _cotangent(ct, y, x, 0, contract, batch, precision), None
    return None, _cotangent(ct, x, y, 1, contract, batch, precision)


def _shift(axes: Axes) -> Axes:
    return tuple([a + 1 for a in axes])


def _batch(size, args, batched, *, contract: Pair, batch: Pair = ((), ()), **params):
    x, y = args
    cx, cy = (_shift(c) if b else c for c, b in zip(contract, batched, strict=True))
    bx, by = (_shift(c) if b else c for c, b in zip(batch, batched, strict=True))
    if all(batched):
        return dot_general(x, y, contract=(cx, cy), batch=((0, *bx), (0, *by)), **params), True
    out = dot_general(x, y, contract=(cx, cy), batch=(bx, by), **params)
    at = len(bx) if batched[0] else len(bx) + len(_free(x.ndim, cx, bx))
    return moveaxis(out, at, 0), True


@functools.lru_cache(maxsize=256)
def _written_out(x: Aval, y: Aval, precision: Algorithm, contract: Pair, batch: Pair, out):
    axes = dict(contract=contract, batch=batch)
    return trace_closed(lambda x, y: [precision.contract(x, y, axes, out)], [x, y], "dot_general")


def _lower(b, x, y, *, contract: Pair, batch: Pair = ((), ()), precision=None, preferred=None):
    if isinstance(precision, Algorithm):
        graph = _written_out(x.aval, y.aval, precision, contract, batch, b.out.dtype)
        return b.lower(graph, (x, y))[0]
    return b.dot_general(x, y, contract, batch, b.out, xla_precision(precision))


dot_general = Op(
    "dot_general",
    abstract=_abstract,
    reference=_reference,
    lower=_lower,
    jvp=multilinear,
    transpose=_transpose,
    batch=_batch,
)
