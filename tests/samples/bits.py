"""Samples of bits.py and draws.py. Known answers and JAX's bits are in test_random.py."""

import numpy as np

from bevel.core import dtypes
from bevel.ops import (
    fold_in_key,
    random_bits,
    random_uniform,
    rng_bit_generator,
    split_key,
    threefry2x32,
)
from tests.samples.base import Sample, rng


def words(*shape, seed=0):
    return np.asarray(rng(seed).integers(0, 2**32, shape, dtype=np.uint32))


def counters(*shape):
    return words(seed=1), words(seed=2), words(*shape, seed=3), words(*shape, seed=4)


STATE = np.array([0x0123456789ABCDEF, 0xFFFFFFFFFFFFFFFE], np.uint64)

SAMPLES = [
    *[Sample(threefry2x32, counters(*shape)) for shape in ((), (3,), (0,), (2, 200), (20000,))],
    Sample(threefry2x32, tuple(words(2, 3, seed=i) for i in range(4)), name="keys"),
    *[
        Sample(random_bits, (words(2),), dict(shape=shape, width=width))
        for width in (8, 16, 32, 64)
        for shape in ((), (5,), (0, 2), (2, 150))
    ],
    Sample(random_bits, (words(2, 3, 2),), dict(shape=(2, 2), width=32), name="batch"),
    Sample(random_bits, (words(0, 2),), dict(shape=(2,), width=32), name="no-keys"),
    *[
        Sample(
            random_uniform,
            (words(2),),
            dict(shape=shape, dtype=dtype),
            name=f"{dtype}{list(shape)}",
        )
        for dtype in dtypes.FLOAT
        for shape in ((), (2, 3), (0,), (300,))
    ],
    Sample(random_uniform, (words(3, 2),), dict(shape=(2,), dtype=dtypes.float32), name="batch"),
    *[Sample(split_key, (words(2),), dict(shape=shape)) for shape in ((2,), (), (2, 3), (0,))],
    Sample(split_key, (words(3, 2),), dict(shape=(4,)), name="batch"),
    Sample(fold_in_key, (words(2), words(seed=1))),
    Sample(fold_in_key, (words(4, 2), words(4, seed=1)), name="batch"),
    *[
        sample
        for impl, size in (("rbg", 4), ("unsafe_rbg", 4), ("philox", 2))
        for batch in ((), (2, 2), (9,))
        for sample in (
            *[
                Sample(
                    random_bits,
                    (words(*batch, size),),
                    dict(shape=shape, width=width, impl=impl),
                    name=f"{impl}-{batch}-{width}-{shape}",
                )
                for width, shape in ((8, (5,)), (32, (2, 3)), (64, (3,)), (32, (0,)))
            ],
            Sample(
                random_uniform,
                (words(*batch, size),),
                dict(shape=(3,), dtype=dtypes.float32, impl=impl),
                name=f"{impl}-{batch}",
            ),
            *[
                Sample(
                    split_key,
                    (words(*batch, size),),
                    dict(shape=shape, impl=impl),
                    name=f"{impl}-{batch}-{shape}",
                )
                for shape in ((), (2, 3))
            ],
            Sample(
                fold_in_key,
                (words(*batch, size), words(*batch, seed=1)),
                dict(impl=impl),
                name=f"{impl}-{batch}",
            ),
        )
    ],
    *[
        Sample(
            rng_bit_generator,
            (state,),
            dict(shape=shape, dtype=np.dtype(dtype), algorithm=algorithm),
            name=f"{algorithm}-{dtype}{list(shape)}",
        )
        for algorithm in ("default", "philox", "three_fry")
        for dtype in ("uint8", "uint16", "uint32", "uint64")
        for state, shape in ((STATE, (3, 5)), (STATE.view(np.uint32), (7,)))
    ],
    Sample(rng_bit_generator, (STATE,), dict(shape=(0,), dtype=np.dtype("uint32")), name="none"),
    Sample(
        rng_bit_generator,
        (np.stack([STATE, STATE + np.uint64(7)]),),
        dict(shape=(3,), dtype=np.dtype("uint32")),
        name="batch",
    ),
]
