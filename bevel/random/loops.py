"""Rejection sampling: loops over whole arrays that end when every element is accepted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import bevel.ops as ops
from bevel.control.while_loop import while_loop
from bevel.core import interpreter
from bevel.core.aval import aval_of
from bevel.core.graph import trace
from bevel.core.interpreter import EAGER, Tracer, state, to_numpy
from bevel.numpy.arguments import known

LARGE = 1 << 14
"""From this many elements on, compiling the loop takes less time than running it in NumPy."""


def repeat_while(
    going: Callable[..., Any], step: Callable[..., Sequence[Any]], *init: Any
) -> Sequence[Any]:
    """`carry = step(*carry)` while `going(*carry)`, functions of values that may capture others.

    Small loops outside every transform run at once, in NumPy; others are a `while_loop`.
    """
    quick = state.current is EAGER and not any(isinstance(v, Tracer) for v in init)
    if quick and not interpreter.backend.accelerator and max(v.size for v in init) <= LARGE:
        carry = [to_numpy(v) for v in init]
        while bool(to_numpy(going(*carry))):
            carry = list(step(*carry))
        return carry
    avals = [aval_of(v) for v in init]
    cond, cond_consts = trace(lambda *c: [going(*c)], avals, "a random draw")
    body, body_consts = trace(lambda *c: list(step(*c)), avals, "a random draw")
    operands = (*cond_consts, *body_consts, *init)
    return while_loop(
        *operands, cond=cond, body=body, n_cond=len(cond_consts), n_body=len(body_consts)
    )


def any_of(mask: Any) -> Any:
    """Whether any element of a value is true, as a value of shape ()."""
    return ops.reduce_or(mask, axes=tuple(range(len(mask.shape))))


def pick(mask: Any, new: Any, old: Any) -> Any:
    """`new` where `mask`, which may lack the last axes of the others, and `old` elsewhere."""
    if len(mask.shape) < len(new.shape):
        mask = ops.broadcast_in_dim(
            mask, shape=tuple(new.shape), dims=tuple(range(len(mask.shape)))
        )
    return ops.select(mask, new, old)


def nowhere(mask: Any) -> bool:
    """Whether `mask` is at hand and false everywhere, so that what it selects need not be drawn."""
    found = known(mask) if state.current is EAGER else None
    return found is not None and not np.any(found)
