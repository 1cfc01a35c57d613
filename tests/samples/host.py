"""Samples of the ops of host.py. What needs a count of calls is in test_host.py."""

import numpy as np

from bevel.core.aval import Aval
from bevel.ops import callback, effect_callback, optimization_barrier
from tests.samples.base import Sample, normal

ROW = Aval((3,), np.dtype(np.float32))
SUM = Aval((), np.dtype(np.float32))


def sum_and_double(x):
    return x.sum(dtype=x.dtype), 2 * x


def scaled_sum(x, y):
    return (x * y.sum(axis=-1, keepdims=True)).astype(np.float32)


def nothing(x):
    return ()


X = normal((3,))

SAMPLES = [
    Sample(callback, (X,), dict(fn=sum_and_double, out_avals=(SUM, ROW), vectorized="sequential")),
    *[
        Sample(
            callback,
            (X, normal((3,), seed=1)),
            dict(fn=scaled_sum, out_avals=(ROW,), vectorized=how),
        )
        for how in ("sequential", "expand_dims", "broadcast_all")
    ],
    Sample(
        callback,
        (normal((0,)),),
        dict(fn=lambda x: x, out_avals=(ROW.replace(shape=(0,)),), vectorized="sequential"),
        name="empty",
    ),
    Sample(
        effect_callback,
        (X,),
        dict(fn=sum_and_double, out_avals=(SUM, ROW), vectorized="sequential"),
    ),
    Sample(
        effect_callback, (X,), dict(fn=nothing, out_avals=(), vectorized="sequential"), name="none"
    ),
    Sample(optimization_barrier, (X,), grad=(0,)),
    Sample(optimization_barrier, (X, normal((), "int32"), normal((2, 0))), grad=(0, 2)),
]
