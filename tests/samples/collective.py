"""Samples of collective.py: `name` as an op, and the collectives as functions of whole batches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bevel import ops
from bevel.core.op import Op
from tests.samples.base import Sample, normal

SAMPLES = [
    Sample(ops.name, (normal((2, 3), d),), {"name": "x"}, grad=g)
    for d, g in (("float32", (0,)), ("int8", ()))
]


@dataclass(frozen=True)
class Collective:
    """An op over a mapped axis of size 4: `expected` maps the stacked operands to the stacked
    results.
    """

    op: Op
    expected: Any
    row: tuple[int, ...] = (4, 3)
    params: dict[str, Any] = field(default_factory=dict)
    differentiable: bool = True


def _rows(fn):
    return lambda x: np.broadcast_to(fn(x), x.shape)


def _permuted(x):
    out = np.zeros_like(x)
    out[[2, 0, 1]] = x[[0, 1, 3]]
    return out


SIZE = 4
COLLECTIVES = [
    Collective(ops.psum, _rows(lambda x: x.sum(0))),
    Collective(ops.pmax, _rows(lambda x: x.max(0)), differentiable=False),
    Collective(ops.pmin, _rows(lambda x: x.min(0)), differentiable=False),
    Collective(ops.all_gather, lambda x: np.stack([x] * SIZE), params={"axis_size": SIZE}),
    Collective(ops.psum_scatter, lambda x: x.sum(0), params={"axis_size": SIZE}),
    Collective(ops.all_to_all, lambda x: x.swapaxes(0, 1), params={"axis_size": SIZE}),
    Collective(ops.ppermute, _permuted, params={"perm": ((0, 2), (1, 0), (3, 1))}),
]
