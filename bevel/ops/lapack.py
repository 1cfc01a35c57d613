"""What the records of all factorizations share: checks, references over stacks, native calls.

A factorization that fails (a matrix that is not positive definite, an iteration that does not
converge, NaN in the input) gives NaN for that matrix and does not raise, since a compiled program
could not.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from bevel.core import dtypes
from bevel.core.aval import Aval
from bevel.core.errors import Unsupported as UnsupportedError
from bevel.core.op import Op, Unsupported
from bevel.ops.base import batch_broadcast, check_dtype

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
    return each_of(fn, (x,), (2,), outs)


def each_of(
    fn: Callable, xs: tuple[np.ndarray, ...], tails: tuple[int, ...], outs: tuple[Aval, ...]
) -> tuple[np.ndarray, ...]:
    """`each` for operands that have matrices or vectors on the last `tails` axes, and equal others
    before them.
    """
    lead = xs[0].shape[: xs[0].ndim - tails[0]]
    results = [np.empty(o.shape, o.dtype) for o in outs]
    count = math.prod(lead)
    flat = [r.reshape(count, *r.shape[len(lead) :]) for r in results]
    stacks = [x.reshape(count, *x.shape[len(lead) :]) for x in xs]
    for i, parts_in in enumerate(zip(*stacks, strict=True)):
        try:
            parts = fn(*parts_in)
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
    """Batch rule of an op whose operands all work over leading axes."""

    def batch(size, x, batched, **params):
        full = [batch_broadcast(size, v, b) for v, b in zip(x, batched, strict=True)]
        out = op()(*full, **params)
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


def cpu_only(b, name: str, instead: str) -> None:
    """Raise unless the program is for a CPU, where alone the library has this factorization."""
    if b.platform != "cpu":
        raise UnsupportedError(
            f"{name} cannot be compiled for a GPU: cuSOLVER does not have it.\nWrite instead: "
            f"compute it on the CPU, with jit(f, backend='cpu'){instead}"
        )


def same_stack(name: str, operands: dict[str, Aval], tails: tuple[int, ...]) -> None:
    """Raise unless operands have one LAPACK dtype and equal axes before their last `tails`."""
    first = next(iter(operands.values()))
    for (what, x), tail in zip(operands.items(), tails, strict=True):
        check_dtype(name, what, x, FLOATS, "convert it, for example x.astype('float32')")
        lead = x.shape[: x.ndim - tail] if x.ndim >= tail else None
        if x.dtype != first.dtype or lead != first.shape[: first.ndim - tails[0]]:
            found = ", ".join([f"{w} {v}" for w, v in operands.items()])
            raise ValueError(
                f"{name}: got {found}: the dtypes must be equal, and all axes before the last "
                f"{' and '.join([str(t) for t in tails])}"
            )


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
