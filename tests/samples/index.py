"""Samples of dynamic_slice, dynamic_update_slice, gather and the scatters."""

import numpy as np

from bevel.core import dtypes
from bevel.ops import (
    GatherDims,
    ScatterDims,
    dynamic_slice,
    dynamic_update_slice,
    gather,
    scatter,
    scatter_add,
    scatter_max,
    scatter_min,
    scatter_mul,
)
from bevel.ops.indexing import result_shape
from tests.samples.base import Sample, between, distinct, normal

EVERY = dtypes.ALL + dtypes.FLOAT8


def starts(*values, dtype="int32"):
    return [np.asarray(v, dtype) for v in values]


def block(x, at, sizes, **options):
    return Sample(dynamic_slice, (x, *at), dict(sizes=sizes), **options)


def update(x, new, at, **options):
    return Sample(dynamic_update_slice, (x, new, *at), **options)


DYNAMIC = [
    *[block(normal((4, 5), d), starts(1, 2), (2, 3)) for d in EVERY],
    *[block(normal((4, 5)), starts(1, 2, dtype=d.name), (2, 3), name=d.name) for d in dtypes.INT],
    block(normal((4, 5)), starts(1, 2), (2, 3), grad=(0,), name="inside"),
    block(normal((4, 5)), starts(-3, 9), (2, 3), grad=(0,), name="clamped"),
    block(normal((4, 5)), starts(0, 0), (4, 5), grad=(0,), name="all"),
    block(normal((4, 5)), starts(1, 2), (0, 3), grad=(0,), name="nothing"),
    block(normal(()), [], (), grad=(0,), name="scalar"),
    block(normal((6,)), starts(250, dtype="uint8"), (2,), name="wide-start"),
    *[update(normal((4, 5), d), normal((2, 3), d, 1), starts(1, 2)) for d in EVERY],
    update(normal((4, 5)), normal((2, 3), seed=1), starts(1, 2), grad=(0, 1), name="inside"),
    update(normal((4, 5)), normal((2, 3), seed=1), starts(7, -2), grad=(0, 1), name="clamped"),
    update(normal((4, 5)), normal((0, 3), seed=1), starts(1, 2), grad=(0, 1), name="nothing"),
    update(normal(()), normal((), seed=1), [], grad=(0, 1), name="scalar"),
    update(normal((4, 3)).T, normal((2, 2), seed=1), starts(1, 1), name="view"),
]

# Geometries: (operand shape, indices, dims, window sizes).
ROWS = ((5, 3), np.array([[2], [0], [2], [4]], np.int32), GatherDims((1,), (0,), (0,)), (1, 3))
TAKE = (
    (4, 5),
    np.array([[1, 3], [0, 1]], np.int32)[..., None],
    GatherDims((0,), (1,), (1,)),
    (4, 1),
)
POINTS = (
    (4, 5),
    np.array([[1, 3], [0, 0], [1, 3]], np.int32),
    GatherDims((), (0, 1), (0, 1)),
    (1, 1),
)
SWAPPED = ((4, 4), np.array([[1, 3], [0, 2]], np.int32), GatherDims((), (0, 1), (1, 0)), (1, 1))
APART = (
    (3, 2, 4),
    np.array([[1, 3], [2, 0]], np.int32),
    GatherDims((0,), (0, 2), (0, 2)),
    (1, 2, 1),
)
WINDOWS = (
    (6, 4),
    np.array([[1, 0], [2, 1], [4, 2]], np.int32),
    GatherDims((0, 2), (), (0, 1)),
    (2, 2),
)
KEPT = ((5, 3), np.array([[2], [0]], np.int32), GatherDims((1, 2), (), (0,)), (1, 2))
BATCHED = (
    (3, 4, 2),
    np.array([[1, 0, 3], [2, 2, 1]], np.int32)[..., None],
    GatherDims((2,), (1,), (1,), (0,), (1,)),
    (1, 1, 2),
)
UNINDEXED = ((3, 2), np.zeros((2, 0), np.int32), GatherDims((1, 2), (), ()), (2, 2))
SCALAR = ((), np.zeros((3, 0), np.int32), GatherDims((), (), ()), ())
EMPTY = ((5, 3), np.zeros((0, 1), np.int32), GatherDims((1,), (0,), (0,)), (1, 3))
NOWHERE = ((0, 3), np.zeros((0, 1), np.int32), GatherDims((1,), (0,), (0,)), (1, 3))
OUTSIDE = ((5, 3), np.array([[2], [-1], [5], [4]], np.int32), GatherDims((1,), (0,), (0,)), (1, 3))
FAR = (
    (6, 4),
    np.array([[1, 3], [-1, 0], [5, 1], [4, 2]], np.int32),
    GatherDims((1, 2), (), (0, 1)),
    (2, 2),
)
SINGLE = ((5, 3), np.array([3], np.int32), GatherDims((0,), (0,), (0,)), (1, 3))
UNIQUE = ((5, 3), np.array([[3], [0], [4]], np.int32), GatherDims((1,), (0,), (0,)), (1, 3))

INSIDE = dict(
    rows=ROWS,
    take=TAKE,
    points=POINTS,
    swapped=SWAPPED,
    apart=APART,
    windows=WINDOWS,
    kept=KEPT,
    batched=BATCHED,
    unindexed=UNINDEXED,
    scalar=SCALAR,
    empty=EMPTY,
    nowhere=NOWHERE,
)


def taken(geometry, dtype="float32", mode="clip", grad=(), name="", indices=None, **params):
    shape, idx, dims, sizes = geometry
    idx = idx if indices is None else idx.astype(indices)
    params = dict(dims=dims, sizes=sizes, mode=mode, **params)
    return Sample(gather, (normal(shape, dtype), idx), params, grad=grad, name=f"{name}-{mode}")


def put(
    op,
    geometry,
    dtype="float32",
    mode="clip",
    grad=(),
    name="",
    make=normal,
    indices=None,
    second=True,
    **params,
):
    shape, idx, dims, sizes = geometry
    batch = idx.shape[:-1]
    idx = idx if indices is None else idx.astype(indices)
    updates = make(result_shape(batch, dims, sizes), dtype, seed=1)
    x = make(shape, dtype)
    if make is distinct:
        updates = updates + np.asarray(0.2, updates.dtype)  # no ties with the operand
    params = dict(dims=ScatterDims(*dims), mode=mode, **params)
    return Sample(
        op, (x, idx, updates), params, grad=grad, name=f"{name}-{mode}", second_order=second
    )


GATHERS = [
    *[taken(ROWS, d) for d in EVERY],
    *[taken(OUTSIDE, d, "fill", name="outside") for d in dtypes.ALL],
    *[taken(g, mode=m, grad=(0,), name=n) for n, g in INSIDE.items() for m in ("clip", "fill")],
    *[
        taken(g, mode="promise_in_bounds", grad=(0,), name=n)
        for n, g in INSIDE.items()
        if n in ("take", "windows")
    ],
    *[
        taken(g, mode=m, grad=(0,), name=n, fill_value=3)
        for n, g in dict(out=OUTSIDE, far=FAR).items()
        for m in ("clip", "fill")
    ],
    *[
        taken(ROWS, mode=m, indices=d.name, name=d.name)
        for d in dtypes.INT
        for m in ("clip", "fill")
    ],
    taken(((300, 2), np.array([[-1], [100]], np.int8), *ROWS[2:3], (1, 2)), name="narrow"),
    taken(
        ((2, 2), np.array([[2**64 - 1], [1]], np.uint64), *ROWS[2:3], (1, 2)),
        mode="fill",
        name="huge",
    ),
    taken(OUTSIDE, "int32", "fill", fill_value=-7, name="value"),
    taken(OUTSIDE, mode="fill", fill_value=2.5, grad=(0,), name="value"),
    taken(UNIQUE, grad=(0,), unique_indices=True, name="unique"),
    taken(ROWS, "complex64", grad=(0,), name="complex"),
]

SETS = [
    *[put(scatter, ROWS, d) for d in EVERY],
    *[put(scatter, g, grad=(0, 2), name=n) for n, g in INSIDE.items()],
    *[
        put(scatter, g, mode=m, grad=(0, 2), name=n)
        for n, g in dict(out=OUTSIDE, far=FAR).items()
        for m in ("clip", "fill")
    ],
    put(scatter, UNIQUE, grad=(0, 2), unique_indices=True, name="unique"),
    put(scatter, ROWS, mode="promise_in_bounds", grad=(0, 2), name="promise"),
    put(scatter, SINGLE, mode="fill", grad=(0, 2), name="single"),
    put(scatter, ROWS, "complex64", grad=(0, 2), name="complex"),
]

ADDS = [
    *[put(scatter_add, ROWS, d) for d in dtypes.ALL],
    *[
        put(scatter_add, g, mode=m, grad=(0, 2), name=n)
        for n, g in INSIDE.items()
        for m in ("clip", "fill")
    ],
    *[
        put(scatter_add, g, mode=m, grad=(0, 2), name=n)
        for n, g in dict(out=OUTSIDE, far=FAR).items()
        for m in ("clip", "fill")
    ],
    *[
        put(scatter_add, ROWS, mode=m, indices=d.name, name=d.name)
        for d in dtypes.INT
        for m in ("clip", "fill")
    ],
    put(scatter_add, UNIQUE, grad=(0, 2), unique_indices=True, name="unique"),
    put(scatter_add, ROWS, mode="promise_in_bounds", grad=(0, 2), name="promise"),
    put(scatter_add, ROWS, "complex64", grad=(0, 2), name="complex"),
]

MULS = [
    *[put(scatter_mul, ROWS, d) for d in dtypes.ALL],
    *[
        put(scatter_mul, g, mode="fill", grad=(0, 2), name=n, make=away)
        for away in [lambda *a, **k: between(0.5, 2, *a, **k)]
        for n, g in dict(INSIDE, out=OUTSIDE, far=FAR).items()
    ],
    put(scatter_mul, UNIQUE, grad=(0, 2), unique_indices=True, name="unique"),
    put(scatter_mul, SINGLE, mode="fill", grad=(0, 2), name="single"),
    Sample(
        scatter_mul,
        (
            np.array([2.0, 3.0], np.float32),
            np.zeros((3, 1), np.int32),
            np.array([0.0, 5.0, 4.0], np.float32),
        ),
        dict(dims=ScatterDims((), (0,), (0,)), mode="clip"),
        grad=(0, 2),
        second_order=False,  # a zero among several factors has an exact first derivative only
        name="one-zero",
    ),
    Sample(
        scatter_mul,
        (
            np.array([2.0, 3.0], np.float32),
            np.zeros((4, 1), np.int32),
            np.array([0.0, 5.0, 0.0, 4.0], np.float32),
        ),
        dict(dims=ScatterDims((), (0,), (0,)), mode="clip"),
        grad=(0, 2),
        name="two-zeros",
    ),
]

EXTREMA = [
    sample
    for op in (scatter_max, scatter_min)
    for sample in (
        *[put(op, ROWS, d) for d in dtypes.BOOL + dtypes.INT + dtypes.FLOAT],
        *[
            put(op, g, mode="fill", grad=(0, 2), name=n, make=distinct)
            for n, g in dict(INSIDE, out=OUTSIDE, far=FAR).items()
        ],
        put(op, OUTSIDE, grad=(0, 2), make=distinct, name="clamped"),
        Sample(
            op,
            (
                np.array([1.0, np.nan, 1.0], np.float32),
                np.array([[0], [1], [2]], np.int32),
                np.array([np.nan, 1.0, np.inf], np.float32),
            ),
            dict(dims=ScatterDims((), (0,), (0,)), mode="clip"),
            name="nan",
        ),
    )
]

SAMPLES = [*DYNAMIC, *GATHERS, *SETS, *ADDS, *MULS, *EXTREMA]
