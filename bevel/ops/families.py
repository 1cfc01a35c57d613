"""What elementwise ops have in common: shapes, dtypes, batching, error messages."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bevel.core import dtypes
from bevel.core.aval import Aval
from bevel.core.op import Op, Unsupported, zero_tangent
from bevel.ops.base import HALF, batch_broadcast, check_dtype


def via_float32(reference: Callable) -> Callable:
    """A reference that computes 16-bit floats in float32 and rounds once, as XLA does."""

    @functools.wraps(reference)
    def run(*args, **params):
        dtype = args[0].dtype
        if dtype not in HALF:
            return reference(*args, **params)
        return reference(*[a.astype(np.float32) for a in args], **params).astype(dtype)

    return run


def _lowering(lower: str | Callable | Unsupported) -> Callable | Unsupported:
    """The rule that a name of a builder's method stands for."""
    if not isinstance(lower, str):
        return lower
    return lambda b, *xs: getattr(b, lower)(*xs)


def check_equal(name: str, operands: Sequence[str], avals: Sequence[Aval]) -> None:
    """Raise TypeError unless all operands have the shape and dtype of the first."""
    first = avals[0]
    for what, x in zip(operands, avals, strict=True):
        if x.shape != first.shape:
            raise TypeError(
                f"{name}: {operands[0]} is {first} and {what} is {x}: ops do not broadcast, so "
                f"the shapes must be "
                f"equal; broadcast first, for example with bnp.broadcast_to(y, {first.shape}), "
                f"or use bevel.numpy"
            )
        if x.dtype != first.dtype:
            raise TypeError(
                f"{name}: {operands[0]} is {first} and {what} is {x}: ops do not promote, so "
                f"the dtypes must be "
                f"equal; convert one, for example y.astype({first.dtype.name!r}), or use "
                f"bevel.numpy"
            )


ELEMENTWISE: set[Op] = set()
"""The ops that `elementwise` made."""


def elementwise(
    name: str,
    operands: Sequence[str],
    *,
    reference: Callable,
    lower: str | Callable | Unsupported,
    jvp: Any,
    allowed: Sequence[np.dtype],
    out: Callable[[np.dtype], np.dtype] | None = None,
    transpose: Callable | Unsupported | None = None,
    compile_above: int | None = None,
) -> Op:
    """An op on operands of one shape and dtype; `out` maps the dtype to the result's."""
    known = frozenset(allowed)

    def abstract(*avals, **params):
        first = avals[0]
        for x in avals[1:]:
            if x.shape != first.shape or x.dtype != first.dtype:
                check_equal(name, operands, avals)
        if first.dtype not in known:
            check_dtype(name, operands[0], first, allowed)
        return first if out is None else Aval(first.shape, out(first.dtype))

    def batch(size, xs, batched, **params):
        return op(
            *[batch_broadcast(size, x, b) for x, b in zip(xs, batched, strict=True)], **params
        ), True

    op = Op(
        name,
        abstract=abstract,
        reference=reference,
        lower=_lowering(lower),
        jvp=jvp,
        transpose=transpose or Unsupported(f"{name} is not linear"),
        batch=batch,
        compile_above=compile_above,
    )
    ELEMENTWISE.add(op)
    return op


def unary(
    name: str,
    reference: Callable,
    lower: str | Callable | Unsupported,
    jvp: Any,
    dtypes: Sequence[np.dtype] = dtypes.FLOAT + dtypes.COMPLEX,
    **options: Any,
) -> Op:
    """An elementwise op of one operand; `jvp` is a marker, or a rule ``(ctx, t, x) -> tangent``."""
    jvp = (jvp,) if callable(jvp) else jvp
    return elementwise(
        name, ("x",), reference=reference, lower=lower, jvp=jvp, allowed=dtypes, **options
    )


def binary(
    name: str,
    reference: Callable,
    lower: str | Callable | Unsupported,
    jvp: Any,
    dtypes: Sequence[np.dtype] = dtypes.NUMBER,
    **options: Any,
) -> Op:
    """An elementwise op of two operands. `jvp` is a marker, or a pair of rules ``(ctx, t, x, y) ->
    tangent``.
    """
    return elementwise(
        name, ("x", "y"), reference=reference, lower=lower, jvp=jvp, allowed=dtypes, **options
    )


def compare(name: str, reference: Callable, dtypes: Sequence[np.dtype]) -> Op:
    """A comparison: two operands of one dtype, a bool result. Comparing with NaN gives False, but
    for `ne`.
    """
    direction = name.upper()
    return elementwise(
        name,
        ("x", "y"),
        reference=reference,
        lower=lambda b, x, y: b.compare(x, y, direction),
        jvp=zero_tangent,
        allowed=dtypes,
        out=lambda dtype: np.dtype(bool),
        transpose=Unsupported("booleans carry no derivative"),
    )
