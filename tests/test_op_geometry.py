"""Ops with axes, windows and index vectors: what they refuse, and random geometries against jax."""

from __future__ import annotations

import numpy as np
import pytest

from bevel import ops
from bevel.core import dtypes
from bevel.core.aval import Aval
from bevel.core.graph import trace
from bevel.ops import ConvDims, GatherDims, ScatterDims

F = Aval((2, 3), dtypes.float32)
N = Aval((2, 3), dtypes.int32)
V = Aval((3,), dtypes.float32)
S = Aval((), dtypes.float32)
I = Aval((), dtypes.int32)  # noqa: E741
ROWS = dict(dims=GatherDims((1,), (0,), (0,)), sizes=(1, 3), mode="clip")
PUT = dict(dims=ScatterDims((1,), (0,), (0,)), mode="clip")
INDICES = Aval((4, 1), dtypes.int32)
UPDATES = Aval((4, 3), dtypes.float32)
IMAGE, KERNEL = Aval((2, 4, 5), dtypes.float32), Aval((6, 4, 3), dtypes.float32)
LINE = dict(
    strides=(1,),
    padding=((0, 0),),
    lhs_dilation=(1,),
    rhs_dilation=(1,),
    dims=ConvDims((0, 1, 2), (0, 1, 2), (0, 1, 2)),
)
MATMUL = dict(contract=((1,), (0,)))
DIMS = ROWS["dims"]

BAD = [
    (ops.slice, (F,), dict(start=(0,), limit=(2,)), TypeError, "one entry for each of the 2 axes"),
    (ops.slice, (F,), dict(start=(0, 2), limit=(2, 4)), ValueError, "axis 1 .* size 3, and 2:4:1"),
    (
        ops.slice,
        (F,),
        dict(start=(0, 0), limit=(2, 3), strides=(1, 0)),
        ValueError,
        "stride of at least 1",
    ),
    (ops.pad, (F, I), dict(config=((0, 0, 0),) * 2), TypeError, r"astype\('float32'\)"),
    (ops.pad, (F, S), dict(config=((0, 0, 0),)), TypeError, "each of the 2 axes"),
    (ops.pad, (V, S), dict(config=((-2, -2, 0),)), ValueError, r"gives shape \(-1,\)"),
    (ops.concatenate, (), dict(axis=0), ValueError, "at least one array"),
    (ops.concatenate, (F, V), dict(axis=0), TypeError, r"operand 1 is float32\[3\]"),
    (ops.concatenate, (F, N), dict(axis=0), TypeError, "dtypes must be equal"),
    (ops.concatenate, (F,), dict(axis=2), ValueError, "axis 2 is out of range"),
    (ops.rev, (F,), dict(axes=(0, 0)), ValueError, "must be different"),
    (
        ops.iota,
        (),
        dict(shape=(3,), dtype=dtypes.bool_, axis=0),
        TypeError,
        "bool has no numbering",
    ),
    (ops.iota, (), dict(shape=(3,), dtype=dtypes.int32, axis=1), ValueError, "out of range"),
    (ops.dot_general, (F, N), MATMUL, TypeError, "convert one"),
    (ops.dot_general, (F, F), MATMUL, TypeError, r"size 3\) with axis 0 .* \(size 2\)"),
    (ops.dot_general, (F, F), dict(contract=((1,), ())), ValueError, "counts differ"),
    (ops.dot_general, (F, F), dict(contract=((2,), (0,))), ValueError, "does not have: use 0..1"),
    (
        ops.dot_general,
        (F, F),
        dict(contract=((1, 1), (1, 1))),
        ValueError,
        "named twice",
    ),
    (ops.dot_general, (F, V), dict(MATMUL, precision="huge"), ValueError, "'huge' is not known"),
    (
        ops.dot_general,
        (F, V),
        dict(MATMUL, preferred=dtypes.int32),
        TypeError,
        "cannot give the preferred int32",
    ),
    (ops.dynamic_slice, (F, I), dict(sizes=(1, 1)), TypeError, "1 starts .* each of its 2 axes"),
    (ops.dynamic_slice, (F, I, S), dict(sizes=(1, 1)), TypeError, r"start 1 is float32\[\]"),
    (ops.dynamic_slice, (F, I, I), dict(sizes=(1, 4)), ValueError, "does not fit into"),
    (ops.dynamic_update_slice, (F, N, I, I), {}, TypeError, r"update.astype\('float32'\)"),
    (ops.gather, (F, F), ROWS, TypeError, r"indices.astype\('int32'\)"),
    (ops.gather, (F, I), ROWS, ValueError, "last axis holds index vectors"),
    (ops.gather, (F, N), ROWS, ValueError, "names 1 axes .* have 3 entries"),
    (ops.gather, (F, INDICES), dict(ROWS, mode="wrap"), ValueError, "'wrap' is not known"),
    (ops.gather, (F, INDICES), dict(ROWS, sizes=(1, 4)), ValueError, "size 4 along axis 1"),
    (ops.gather, (F, INDICES), dict(ROWS, sizes=(2, 3)), ValueError, "must be 1, not 2"),
    (ops.gather, (F, INDICES), dict(ROWS, sizes=(1,)), ValueError, "each of the 2 axes"),
    (
        ops.gather,
        (F, INDICES),
        dict(ROWS, dims=DIMS._replace(offset_dims=())),
        ValueError,
        "must name all 2 axes",
    ),
    (
        ops.gather,
        (F, INDICES),
        dict(ROWS, dims=DIMS._replace(start_index_map=(2,))),
        ValueError,
        r"start_index_map=\(2,\) must be different axes in 0..1",
    ),
    (
        ops.gather,
        (F, INDICES),
        dict(ROWS, dims=GatherDims((1,), (), (0,), (0,), (0,))),
        ValueError,
        "must share no axis",
    ),
    (
        ops.gather,
        (F, INDICES),
        dict(ROWS, dims=GatherDims((1,), (), (1,), (0,), (0,))),
        ValueError,
        r"have sizes \[2\] and .* have sizes \[4\]",
    ),
    (ops.scatter, (F, INDICES, N), PUT, TypeError, r"updates.astype\('float32'\)"),
    (ops.scatter_add, (F, INDICES, F), PUT, ValueError, r"windows of shape \(4, 3\)"),
    (
        ops.scatter_max,
        (F.replace(dtype=np.complex64), INDICES, UPDATES.replace(dtype=np.complex64)),
        PUT,
        TypeError,
        "scatter_max: the operand is complex64",
    ),
    (ops.conv_general_dilated, (IMAGE, F), LINE, TypeError, "the same number of axes"),
    (
        ops.conv_general_dilated,
        (IMAGE, KERNEL.replace(dtype=np.int32)),
        LINE,
        TypeError,
        r"k.astype\('float32'\)",
    ),
    (
        ops.conv_general_dilated,
        (IMAGE, KERNEL),
        dict(LINE, feature_group_count=2),
        ValueError,
        "4 x 2 must be 4",
    ),
    (
        ops.conv_general_dilated,
        (IMAGE, KERNEL),
        dict(LINE, batch_group_count=4),
        ValueError,
        "batch of 2",
    ),
    (
        ops.conv_general_dilated,
        (IMAGE, KERNEL),
        dict(LINE, strides=(0,)),
        ValueError,
        r"strides=\(0,\) must be at least 1",
    ),
    (
        ops.conv_general_dilated,
        (IMAGE, KERNEL),
        dict(LINE, padding=((-3, -3),)),
        ValueError,
        "length -1 after padding",
    ),
    (
        ops.conv_general_dilated,
        (IMAGE, KERNEL),
        dict(LINE, dims=LINE["dims"]._replace(rhs_spec=(0, 1, 1))),
        ValueError,
        r"\(0, 1, 1\) must name each axis of the kernel",
    ),
]


@pytest.mark.parametrize(
    "op, avals, params, error, message",
    BAD,
    ids=[f"{c[0]}-{c[3].__name__}-{i}" for i, c in enumerate(BAD)],
)
def test_abstract_refuses(op, avals, params, error, message):
    with pytest.raises(error, match=message):
        trace(lambda *xs: [op(*xs, **params)], avals, "test")


def test_last_of_repeated_updates_wins():
    x = np.zeros(3, np.float32)
    new = np.arange(6, dtype=np.float32)
    indices = np.array([[1], [0], [1], [0], [1], [0]], np.int32)
    dims = ScatterDims((), (0,), (0,))
    out = ops.scatter(x, indices, new, dims=dims, mode="clip")
    np.testing.assert_array_equal(out, [5, 4, 0])


def test_references_do_not_write_into_their_operands():
    x = np.zeros((3, 2), np.float32)
    x.setflags(write=False)
    indices, new = np.array([[1], [1]], np.int32), np.ones((2, 2), np.float32)
    for op in (ops.scatter, ops.scatter_add, ops.scatter_mul, ops.scatter_min, ops.scatter_max):
        assert op(x, indices, new, **PUT) is not x
    ops.dynamic_update_slice(x, new[:1], np.int32(0)[()].reshape(()), np.zeros((), np.int32))
    np.testing.assert_array_equal(x, 0)


# -- random geometries against jax ---------------------------------------------------------------


def random_gather(g):
    """Operand shape, indices (some out of bounds), dimension numbers and window sizes."""
    ndim = int(g.integers(0, 5))
    shape = tuple(g.integers(1, 5, ndim).tolist())
    axes = g.permutation(ndim).tolist()
    n_batch = int(g.integers(0, min(ndim, 2) + 1)) if g.random() < 0.5 else 0
    batch, rest = sorted(axes[:n_batch]), axes[n_batch:]
    start_map = rest[: int(g.integers(min(1, len(rest)), len(rest) + 1))]
    dropped = sorted(a for a in rest if g.random() < 0.5)
    batch_shape = g.integers(1, 4, n_batch + int(g.integers(0, 3))).tolist()
    places = g.permutation(len(batch_shape)).tolist()[:n_batch]
    for axis, place in zip(batch, places, strict=True):
        batch_shape[place] = shape[axis]
    gone = {*dropped, *batch}
    sizes = tuple(1 if d in gone else int(g.integers(1, n + 1)) for d, n in enumerate(shape))
    n_out = len(batch_shape) + ndim - len(gone)
    offset = sorted(g.permutation(n_out)[: ndim - len(gone)].tolist())
    indices = g.integers(-3, 7, (*batch_shape, len(start_map))).astype(np.int32)
    dims = GatherDims(*map(tuple, (offset, dropped, start_map, batch, places)))
    return shape, indices, dims, sizes


@pytest.mark.parametrize("seed", range(30))
def test_gather_and_scatter_equal_jax(seed):
    lax = pytest.importorskip("jax").lax
    g = np.random.default_rng(seed)
    shape, indices, dims, sizes = random_gather(g)
    mode = ("clip", "fill")[seed % 2]
    x = g.normal(size=shape).astype(np.float32)
    batching = dict(operand_batching_dims=dims[3], start_indices_batching_dims=dims[4])
    theirs = lax.GatherDimensionNumbers(*dims[:3], **batching)
    expected = np.asarray(lax.gather(x, indices, theirs, sizes, mode=mode))
    found = ops.gather(x, indices, dims=dims, sizes=sizes, mode=mode)
    np.testing.assert_array_equal(found, expected)
    if not dims.start_index_map:
        return  # XLA 0.10 applies only one of several updates whose index vectors are empty
    new = g.normal(size=expected.shape).astype(np.float32)
    batching = dict(operand_batching_dims=dims[3], scatter_indices_batching_dims=dims[4])
    theirs = lax.ScatterDimensionNumbers(*dims[:3], **batching)
    name = ("scatter", "scatter_add", "scatter_mul", "scatter_min", "scatter_max")[seed % 5]
    expected = getattr(lax, name)(x, indices, new, theirs, mode=mode)
    found = getattr(ops, name)(x, indices, new, dims=ScatterDims(*dims), mode=mode)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", range(12))
def test_convolution_equals_jax(seed):
    lax = pytest.importorskip("jax").lax
    g = np.random.default_rng(seed)
    n, groups = seed % 4, int(g.integers(1, 4))
    features, batches = ((groups, 1), (1, groups), (1, 1))[seed % 3]
    every = [g.permutation(n + 2).tolist() for _ in range(3)]
    x_shape, k_shape = [0] * (n + 2), [0] * (n + 2)
    sizes = [2 * batches, 2 * features, *g.integers(1, 7, n)], [2 * groups, 2, *g.integers(1, 4, n)]
    for spec, size, shape in zip(every, sizes, (x_shape, k_shape), strict=False):
        for place, m in zip(spec, size, strict=True):
            shape[place] = int(m)
    x, k = g.normal(size=x_shape).astype("float32"), g.normal(size=k_shape).astype("float32")
    strides, lhs, rhs = (tuple(g.integers(1, 3, n).tolist()) for _ in range(3))
    pads = tuple(map(tuple, g.integers(0, 4, (n, 2)).tolist()))
    specs = [tuple(s) for s in every]
    theirs = lax.ConvDimensionNumbers(*specs)
    expected = lax.conv_general_dilated(x, k, strides, pads, lhs, rhs, theirs, features, batches)
    found = ops.conv_general_dilated(
        x,
        k,
        strides=strides,
        padding=pads,
        lhs_dilation=lhs,
        rhs_dilation=rhs,
        dims=ConvDims(*specs),
        feature_group_count=features,
        batch_group_count=batches,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
