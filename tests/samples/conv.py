"""Samples of conv_general_dilated."""

import numpy as np

from bevel.core import dtypes
from bevel.ops import ConvDims, conv_general_dilated
from tests.samples.base import Sample, normal


def conv(x, k, dtype="float32", spec=None, grad=(), tol=None, name="", **params):
    n = len(x) - 2
    every = tuple(range(n + 2))
    defaults = dict(
        strides=(1,) * n, padding=((0, 0),) * n, lhs_dilation=(1,) * n, rhs_dilation=(1,) * n
    )
    params = {**defaults, "dims": spec or ConvDims(every, every, every), **params}
    args = normal(x, dtype), normal(k, dtype, 1)
    return Sample(conv_general_dilated, args, params, grad=grad, tol=tol, name=name)


BOTH = (0, 1)
NHWC = ConvDims((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))
MIXED = ConvDims((2, 0, 3, 1), (1, 3, 2, 0), (3, 1, 0, 2))

SAMPLES = [
    *[conv((2, 3, 5, 4), (2, 3, 2, 3), d) for d in dtypes.INT + dtypes.FLOAT + dtypes.COMPLEX],
    conv((2, 3), (4, 3), grad=BOTH, name="no-space"),
    conv((2, 3, 7), (4, 3, 3), grad=BOTH, name="line"),
    conv((1, 2, 4, 3, 3), (2, 2, 2, 2, 1), grad=BOTH, name="volume"),
    conv((2, 5, 4, 3), (2, 3, 3, 2), spec=NHWC, padding=((1, 1), (0, 2)), grad=BOTH, name="nhwc"),
    conv(
        (3, 4, 2, 5),
        (2, 4, 2, 3),
        spec=MIXED,
        strides=(2, 1),
        padding=((1, 0), (0, 1)),
        grad=BOTH,
        name="layouts",
    ),
    conv(
        (1, 2, 7, 6),
        (2, 2, 3, 2),
        strides=(2, 3),
        padding=((1, 2), (0, 1)),
        grad=BOTH,
        name="strides",
    ),
    conv(
        (1, 2, 7, 6),
        (2, 2, 3, 2),
        rhs_dilation=(2, 3),
        padding=((1, 2), (2, 1)),
        grad=BOTH,
        name="atrous",
    ),
    conv(
        (1, 2, 3, 4),
        (2, 2, 3, 2),
        lhs_dilation=(2, 3),
        padding=((2, 1), (0, 1)),
        grad=BOTH,
        name="fractional",
    ),
    conv(
        (1, 1, 6),
        (1, 1, 2),
        strides=(2,),
        lhs_dilation=(3,),
        rhs_dilation=(2,),
        padding=((-1, 2),),
        grad=BOTH,
        name="all",
    ),
    conv((1, 2, 6), (1, 2, 2), padding=((-2, -1),), grad=BOTH, name="cut"),
    conv((2, 4, 5), (6, 2, 2), feature_group_count=2, strides=(2,), grad=BOTH, name="groups"),
    conv((2, 3, 5), (6, 1, 2), feature_group_count=3, grad=BOTH, name="depthwise"),
    conv(
        (4, 2, 5), (6, 2, 2), batch_group_count=2, padding=((1, 0),), grad=BOTH, name="batch-groups"
    ),
    conv((6, 2, 5), (3, 2, 2), batch_group_count=3, grad=BOTH, name="batch-depthwise"),
    conv(
        (1, 2, 4),
        (2, 2, 3),
        "complex64",
        strides=(2,),
        padding=((1, 1),),
        grad=BOTH,
        name="complex",
    ),
    conv((1, 2, 2), (1, 2, 5), grad=BOTH, name="kernel-too-long"),
    conv((0, 2, 4), (3, 2, 2), grad=BOTH, name="no-batch"),
    conv((2, 0, 4), (3, 0, 2), grad=BOTH, name="no-features"),
    conv((2, 2, 4), (0, 2, 2), grad=BOTH, name="no-outputs"),
    conv((1, 2, 0), (1, 2, 2), padding=((2, 2),), grad=BOTH, name="only-padding"),
    conv((1, 2, 4), (1, 2, 2), "int8", preferred=dtypes.int32, name="to-int32"),
    conv((1, 2, 4), (1, 2, 2), "bfloat16", preferred=dtypes.float32, tol=2e-5, name="to-float32"),
    conv((1, 2, 4), (1, 2, 2), precision="highest", grad=BOTH, name="highest"),
    Sample(
        conv_general_dilated,
        (np.full((1, 1, 3), 100, np.int8), np.full((1, 1, 2), 3, np.int8)),
        dict(
            strides=(1,),
            padding=((0, 0),),
            lhs_dilation=(1,),
            rhs_dilation=(1,),
            dims=ConvDims(*[(0, 1, 2)] * 3),
        ),
        name="overflow",
    ),
]
