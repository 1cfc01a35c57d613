"""Samples of the ops of shape.py."""

import numpy as np

from bevel.core import dtypes
from bevel.ops import concatenate, iota, pad, rev, slice, split
from tests.samples.base import Sample, normal

EVERY = dtypes.ALL + dtypes.FLOAT8


def cut(x, start, limit, strides=None, **options):
    return Sample(slice, (x,), dict(start=start, limit=limit, strides=strides), **options)


def padded(x, config, value=1, **options):
    return Sample(pad, (x, np.asarray(value).astype(x.dtype)), dict(config=config), **options)


def joined(*xs, axis, **options):
    return Sample(concatenate, xs, dict(axis=axis), **options)


def counting(shape, dtype, axis):
    return Sample(
        iota, (), dict(shape=shape, dtype=np.dtype(dtype), axis=axis), name=f"{dtype}{shape}-{axis}"
    )


SLICES = [
    *[cut(normal((4, 6), d), (1, 0), (4, 5), (2, 3)) for d in EVERY],
    cut(normal((5, 4)), (1, 2), (4, 4), grad=(0,), name="unit"),
    cut(normal((7, 4)), (1, 0), (7, 4), (3, 2), grad=(0,), name="strided"),
    cut(normal((7,), "complex64"), (0,), (7,), (7,), grad=(0,), name="one"),
    cut(normal((5, 4)), (2, 0), (2, 4), grad=(0,), name="nothing"),
    cut(normal(()), (), (), grad=(0,), name="scalar"),
    cut(normal((0, 3)), (0, 1), (0, 3), name="empty"),
    cut(normal((5, 4)).T, (1, 1), (4, 5), (1, 2), name="view"),
]

PADS = [
    *[padded(normal((3, 2), d), ((1, 0, 1), (0, 2, 0))) for d in EVERY],
    padded(np.array([np.nan, -np.inf, -0.0], np.float32), ((2, 1, 2),), np.nan, name="nan"),
    padded(normal((3, 4)), ((1, 2, 1), (0, 1, 2)), grad=(0, 1), name="interior"),
    padded(normal((3, 4)), ((-1, 2, 0), (2, -3, 0)), grad=(0, 1), name="cut"),
    padded(normal((4, 3)), ((-2, -3, 2), (1, -1, 1)), grad=(0, 1), name="cut-interior"),
    padded(normal((3,)), ((-2, -1, 0),), grad=(0, 1), name="nothing-left"),
    padded(normal((3,)), ((-5, 4, 0),), grad=(0, 1), name="only-padding"),
    padded(normal((0, 2)), ((2, 1, 3), (0, 0, 0)), grad=(0, 1), name="empty"),
    padded(normal((2,), "complex64"), ((1, 1, 1),), 2 - 1j, grad=(0, 1), name="complex"),
    padded(normal(()), (), grad=(0,), name="scalar"),
    padded(normal((3, 4)).T, ((1, 0, 0), (0, 1, 1)), name="view"),
]

CONCATENATES = [
    *[joined(normal((2, 3), d), normal((2, 1), d, 1), axis=1) for d in EVERY],
    joined(
        normal((2, 3)),
        normal((1, 3), seed=1),
        normal((3, 3), seed=2),
        axis=0,
        grad=(0, 1, 2),
        name="three",
    ),
    joined(
        normal((2, 3)),
        normal((2, 0)),
        normal((2, 2), seed=2),
        axis=1,
        grad=(0, 1, 2),
        name="empty-part",
    ),
    joined(normal((4,)), axis=0, grad=(0,), name="single"),
    joined(normal((0,)), normal((0,)), axis=0, name="empty"),
    joined(
        normal((3,), "complex64"), normal((2,), "complex64", 1), axis=0, grad=(1,), name="complex"
    ),
]


def parted(x, sizes, axis, **options):
    return Sample(split, (x,), dict(sizes=sizes, axis=axis), **options)


SPLITS = [
    *[parted(normal((2, 4), d), (1, 3), 1) for d in EVERY],
    parted(normal((6, 2, 2)), (1, 0, 3, 2), 0, grad=(0,), name="empty-part"),
    parted(normal((4, 3)).T, (2, 2), 1, grad=(0,), name="view"),
    parted(normal((3,), "complex64"), (3,), 0, grad=(0,), name="one"),
    parted(normal((0, 2)), (0, 0), 0, name="empty"),
]

REVS = [
    *[Sample(rev, (normal((3, 4), d),), dict(axes=(1,))) for d in EVERY],
    Sample(rev, (normal((3, 4, 2)),), dict(axes=(0, 2)), grad=(0,), name="two"),
    Sample(rev, (normal((3,)),), dict(axes=()), grad=(0,), name="none"),
    Sample(rev, (normal((0, 3)),), dict(axes=(0, 1)), name="empty"),
    Sample(rev, (normal(()),), dict(axes=()), name="scalar"),
]

IOTAS = [
    *[counting((2, 5), d.name, 1) for d in dtypes.NUMBER],
    counting((300,), "int8", 0),
    counting((300,), "uint8", 0),
    counting((260,), "bfloat16", 0),
    counting((3, 1, 2), "int32", 0),
    counting((0, 3), "float32", 1),
    counting((2, 0, 3), "int32", 1),
]

SAMPLES = [*SLICES, *PADS, *CONCATENATES, *SPLITS, *REVS, *IOTAS]
