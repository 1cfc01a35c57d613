"""Samples of the ops of sort.py."""

import numpy as np

from bevel.core import dtypes
from bevel.ops import sort, top_k
from tests.samples.base import Sample, distinct, normal, special_floats, special_ints

TIES = np.array([3, 1, 3, 2, 1, 1], np.int32)
NANS = np.array([1, np.nan, -np.nan, 0.0, -0.0, np.inf, -np.inf, 1, np.nan], np.float32)
PLACES = np.arange(9, dtype=np.int32)
COMPLEX = np.array(
    [1 + 2j, complex(1, np.nan), 2, complex(np.nan, 1), 1 - 1j, 1 + 2j], np.complex64
)


def one(x, axis=0, **params):
    return Sample(sort, (x,), dict(axis=axis, num_keys=1, stable=True), **params)


SAMPLES = [
    *[one(normal((3, 7), d), 1) for d in dtypes.ALL],
    *[one(special_floats(d)) for d in dtypes.FLOAT],
    *[one(special_ints(d)) for d in dtypes.INT],
    *[one(normal((4, 3), "float32"), axis) for axis in (0, 1)],
    one(np.zeros((2, 0), np.float32), 1, name="empty"),
    one(np.zeros((0, 2), np.float32), 1, name="no-rows"),
    one(COMPLEX, name="nan"),
    one(distinct((3, 5)), 1, grad=(0,), name="grad"),
    one(distinct((3, 5)), 0, grad=(0,), name="grad0"),
    Sample(
        sort,
        (TIES, np.arange(6, dtype=np.int32)),
        dict(axis=0, num_keys=1, stable=True),
        name="ties",
    ),
    Sample(sort, (NANS, PLACES), dict(axis=0, num_keys=1, stable=True), name="nan-order"),
    Sample(
        sort,
        (NANS.astype(dtypes.bfloat16), PLACES),
        dict(axis=0, num_keys=1, stable=True),
        name="nan-order",
    ),
    Sample(
        sort, (COMPLEX, PLACES[:6]), dict(axis=0, num_keys=1, stable=True), name="complex-order"
    ),
    Sample(
        sort,
        (TIES, NANS[:6], np.arange(6, dtype=np.int32)),
        dict(axis=0, num_keys=2, stable=True),
        name="two-keys",
    ),
    Sample(
        sort,
        (distinct((2, 4)), distinct((2, 4), seed=1)),
        dict(axis=1, num_keys=1, stable=False),
        grad=(0, 1),
        name="carried",
    ),
    *[
        Sample(top_k, (normal((2, 6), d),), dict(k=3))
        for d in dtypes.BOOL + dtypes.INT + dtypes.FLOAT
    ],
    Sample(top_k, (NANS,), dict(k=9), name="nan"),
    Sample(top_k, (TIES,), dict(k=4), name="ties"),
    Sample(top_k, (distinct((2, 3, 4)),), dict(k=2), grad=(0,), name="grad"),
    Sample(top_k, (normal((3, 4)),), dict(k=0), name="none"),
    Sample(top_k, (np.zeros((0, 4), np.float32),), dict(k=2), name="empty"),
]
