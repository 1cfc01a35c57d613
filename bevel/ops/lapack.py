"""What the records of all factorizations share: checks, references over stacks, native calls.

A factorization that fails (a matrix that is not positive definite, an iteration that does not
converge, NaN in the input) gives NaN for that matrix and does not raise, since a compiled program
could not.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bevel.core import dtypes
from bevel.core.aval import Aval
from bevel.core.op import Op, Unsupported
from bevel.ops.base import check_dtype

FLOATS = (dtypes.float32, dtypes.float64, dtypes.complex64, dtypes.complex128)
INT32 = np.dtype(np.int32)
NOT_LINEAR = Unsupported(
    "a factorization is not linear; its derivative is a jvp rule of products and solves"
)
_PREFIX = dict(zip(FLOATS, "sdcz", strict=True))


def check_matrix(name: str, x: Aval, square: bool = True) -> None:
    """Raise unless `x` holds matrices of a dtype that LAPACK has."""
    check_dtype(name, "the operand", x, FLOATS, "convert it, for example x.astype('float32')")
    if x.ndim < 2 or (square and x.shape[-1] != x.shape[-2]):
        what = "square matrices on the last two axes" if square else "matrices on the last two axes"
        raise ValueError(f"{name}: the operand must hold {what}, got shape {x.shape}")


def rows(x: np.ndarray) -> np.ndarray:
    """Return the matrices of a stack, in order."""
    return x.reshape(-1, *x.shape[-2:])


def _nan(dtype: np.dtype):
    if dtypes.is_complex(dtype):
        return complex(np.nan, np.nan)
    return np.nan if dtypes.is_float(dtype) else 0


def each(fn: Callable, x: np.ndarray, outs: tuple[Aval, ...]) -> tuple[np.ndarray, ...]:
    """Apply a function of one matrix to each; NaN where it raises LinAlgError."""
    results = [np.empty(o.shape, o.dtype) for o in outs]
    tails = [o.ndim - x.ndim + 2 for o in outs]
    flat = [r.reshape(-1, *r.shape[r.ndim - t :]) for r, t in zip(results, tails, strict=True)]
    for i, matrix in enumerate(rows(x)):
        try:
            parts = fn(matrix)
        except (np.linalg.LinAlgError, ValueError):
            parts = [_nan(o.dtype) for o in outs]
        for f, part in zip(flat, parts, strict=True):
            f[i] = part
    return tuple(results)


def stacked(fn: Callable, x: np.ndarray, outs: tuple[Aval, ...]) -> tuple[np.ndarray, ...]:
    """Apply NumPy's function of a stack of matrices; if it gives up on one, go one by one."""
    if not x.size:
        return tuple([np.zeros(o.shape, o.dtype) for o in outs])
    try:
        return tuple(
            [np.asarray(r).astype(o.dtype, copy=False) for r, o in zip(fn(x), outs, strict=True)]
        )
    except np.linalg.LinAlgError:
        return each(fn, x, outs)


def leading_batch(op: Callable[[], Op]):
    """Batch rule of an op of one operand that works over leading axes."""

    def batch(size, x, batched, **params):
        out = op()(*x, **params)
        return out, (True,) * len(out) if op().multiple else True

    return batch


def _column_major(avals, matrix_ndim: int):
    order = (matrix_ndim - 2, matrix_ndim - 1, *range(matrix_ndim - 3, -1, -1))
    return [order if a.ndim == matrix_ndim else None for a in avals]


def native(b, name: str, operands, outs, aliases=None, **attrs):
    """Call a solver of the platform on column-major matrices."""
    ndim = max(v.aval.ndim for v in operands)
    return b.custom_call(
        name,
        operands,
        outs,
        attrs,
        operand_layouts=_column_major([v.aval for v in operands], ndim),
        result_layouts=_column_major(outs, ndim),
        output_operand_aliases=aliases,
    )


def target(b, lapack: str, cusolver: str, dtype: np.dtype) -> str:
    """Return the name of the routine on the platform that the program is for."""
    return (
        f"lapack_{_PREFIX[dtype]}{lapack}_ffi"
        if b.platform == "cpu"
        else f"cusolver_{cusolver}_ffi"
    )


def char(letter: str) -> np.uint8:
    """Return a LAPACK option."""
    return np.uint8(ord(letter))


def info_aval(x) -> Aval:
    """Return the type of LAPACK's verdicts, one per matrix."""
    return Aval(x.aval.shape[:-2], INT32)


def unless_failed(b, info, values, direction: str = "EQ"):
    """NaN in place of each result whose `info` does not compare with 0 as it should."""
    ok = b.compare(info, b.full(0, info.aval), direction)
    kept = []
    for v in values:
        mask = b.broadcast_in_dim(ok, v.aval.shape, range(ok.aval.ndim))
        kept.append(b.select(mask, v, b.full(_nan(v.aval.dtype), v.aval)))
    return kept


def index_mask(b, aval: Aval, direction: str):
    """Where row compares so with column."""
    places = aval.replace(dtype=INT32)
    return b.compare(b.iota(places, aval.ndim - 2), b.iota(places, aval.ndim - 1), direction)


def triangle(b, x, direction: str):
    """Write zeros where row does not compare so with column."""
    return b.select(index_mask(b, x.aval, direction), x, b.full(0, x.aval))


def identity(b, aval: Aval):
    """Write identity matrices."""
    return b.convert(index_mask(b, aval, "EQ"), aval.dtype)
