"""Samples of dot_general."""

import numpy as np

from bevel.core import dtypes
from bevel.ops import dot_general
from bevel.ops.algorithms import DotAlgorithm
from tests.samples.base import Sample, normal

MATMUL = ((1,), (0,))
NONE = ((), ())


def dot(x, y, contract=MATMUL, batch=NONE, name="", grad=(), tol=None, **params):
    return Sample(
        dot_general,
        (x, y),
        dict(contract=contract, batch=batch, **params),
        grad=grad,
        tol=tol,
        name=name,
    )


def both(shape_x, shape_y, dtype="float32"):
    return normal(shape_x, dtype), normal(shape_y, dtype, 1)


def preferred(dtype, out, tol=None):
    return dot(
        *both((3, 4), (4, 2), dtype),
        preferred=np.dtype(dtypes.as_dtype(out)),
        name=f"to-{out}",
        tol=tol,
    )


SAMPLES = [
    *[dot(*both((3, 4), (4, 2), d)) for d in dtypes.ALL],
    dot(*both((3, 4), (4, 2)), grad=(0, 1), name="matmul"),
    dot(*both((4,), (4,)), ((0,), (0,)), grad=(0, 1), name="inner"),
    dot(*both((3,), (2,)), NONE, grad=(0, 1), name="outer"),
    dot(*both((), (2, 3)), NONE, grad=(0, 1), name="scalar"),
    dot(*both((3, 4), (4,)), grad=(0, 1), name="vector"),
    dot(*both((2, 3, 4), (2, 4, 5)), ((2,), (1,)), ((0,), (0,)), grad=(0, 1), name="stacked"),
    dot(
        *both((3, 2, 4), (4, 5, 2)), ((2,), (0,)), ((1,), (2,)), grad=(0, 1), name="stacked-inside"
    ),
    dot(*both((2, 3, 4), (4, 2, 3)), ((1, 2), (2, 0)), ((0,), (1,)), grad=(0, 1), name="two-axes"),
    dot(*both((2, 3, 4, 2), (3, 5, 4)), ((2, 1), (2, 0)), NONE, grad=(0, 1), name="crossed"),
    dot(*both((2, 3, 4), (3, 2, 5)), NONE, ((0, 1), (1, 0)), grad=(0, 1), name="batch-only"),
    dot(*both((3, 4), (4, 2), "complex64"), grad=(0, 1), name="complex"),
    dot(*both((3, 1, 1), (1, 3, 1)), ((2, 1), (0, 2)), NONE, grad=(0, 1), name="ones"),
    dot(*both((0, 4), (4, 2)), grad=(0, 1), name="no-rows"),
    dot(*both((3, 0), (0, 2)), grad=(0, 1), name="no-terms"),
    dot(*both((0, 2, 3), (0, 3, 2)), ((2,), (1,)), ((0,), (0,)), name="no-stack"),
    dot(normal((4, 3)).T, normal((2, 4)).T, name="views"),
    dot(normal((6, 8))[::2, ::2], normal((4, 6))[:, ::2], name="strided"),
    dot(np.full((2, 3), 100, np.int8), np.full((3, 2), 100, np.int8), name="overflow"),
    dot(np.full((1, 3), 2**30, np.int32), np.full((3, 1), 3, np.int32), name="overflow"),
    dot(normal((64, 64), "int32"), normal((64, 64), "int32", 1), name="large"),
    dot(np.full((64, 64), 2**30, np.int32), normal((64, 64), "int32", 1), name="large-overflow"),
    dot(normal((40, 40), "uint8"), normal((40, 40), "uint8", 1), name="large"),
    dot(np.array([[np.inf, 1], [np.nan, 1]], np.float32), np.ones((2, 2), np.float32), name="nan"),
    preferred("int8", "int32"),
    preferred("uint8", "uint32"),
    preferred("bfloat16", "float32", 2e-5),
    preferred("float16", "float32", 2e-5),
    preferred("float32", "float64", 1e-6),
    preferred("int8", "float32"),
    dot(*both((3, 4), (4, 2)), precision="highest", grad=(0, 1), name="highest"),
    dot(*both((3, 4), (4, 2)), precision=("high", "float32"), grad=(0, 1), name="pair"),
    dot(
        *both((3, 4), (4, 2), "bfloat16"),
        preferred=dtypes.float32,
        grad=(0, 1),
        name="mixed",
        tol=3e-2,
    ),
    *[
        dot(*both((3, 4), (4, 2)), precision=algorithm, grad=grad, name=f"algorithm-{i}", tol=tol)
        for i, (algorithm, grad, tol) in enumerate(
            [
                (DotAlgorithm("float64", "float64", "float64"), (0, 1), None),
                (DotAlgorithm("bfloat16", "bfloat16", "float32", 3, 3, 6), (), None),
                (DotAlgorithm("float16", "bfloat16", "float32"), (), 1e-2),
            ]
        )
    ],
]
