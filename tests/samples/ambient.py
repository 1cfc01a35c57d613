"""Samples of the ops of ambient.py. What is random or chosen by platform is in test_lax_more.py."""

import numpy as np

from bevel.ops import dce_sink, platform_index, rng_uniform
from tests.samples.base import Sample, normal

SAMPLES = [
    *[
        Sample(rng_uniform, (np.array(3, d), np.array(4, d)), dict(shape=s))
        for d in ("int32", "int64")
        for s in ((2, 3), (0,), ())
    ],
    *[
        Sample(platform_index, (), dict(platforms=names))
        for names in ((("cpu",), ("cuda",)), (("tpu",), ("cuda", "cpu")), (("tpu",), ()))
    ],
    *[Sample(dce_sink, (normal((2, 3), d),)) for d in ("float32", "int8")],
]
