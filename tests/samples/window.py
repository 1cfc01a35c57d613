"""Samples of window.py."""

from __future__ import annotations

import numpy as np

from bevel import ops
from bevel.core.dtypes import BOOL, FLOAT, INT, NUMBER
from tests.samples.base import Sample, distinct, normal, special_floats
from tests.samples.reduce import HALF_TOL, body


def geometry(window, strides=None, padding=None, base_dilation=None, window_dilation=None):
    ones = (1,) * len(window)
    return {
        "window": window,
        "strides": strides or ones,
        "padding": padding or ((0, 0),) * len(window),
        "base_dilation": base_dilation or ones,
        "window_dilation": window_dilation or ones,
    }


CASES = {
    "pool": ((1, 4, 6, 2), geometry((1, 2, 2, 1), (1, 2, 2, 1))),
    "overlap": ((5, 6), geometry((3, 2), (2, 1))),
    "padded": ((4, 5), geometry((3, 3), (2, 2), ((1, 1), (0, 2)))),
    "cut": ((6,), geometry((2,), (1,), ((-1, -2),))),
    "dilated": ((7, 3), geometry((2, 2), (1, 1), ((0, 1), (1, 0)), (2, 1), (3, 2))),
    "strided dilated": ((6,), geometry((3,), (2,), ((2, 1),), (2,), (2,))),
    "too small": ((3,), geometry((5,))),
    "empty": ((0, 4), geometry((1, 2))),
    "point": ((), geometry(())),
    "whole": ((3, 4), geometry((3, 4))),
}
EXTREMES = ((ops.reduce_window_max, "max"), (ops.reduce_window_min, "min"))


def _ops():
    for name, (shape, params) in CASES.items():
        grad = (0,) if name not in ("too small", "empty") else ()
        yield Sample(
            ops.reduce_window_sum, (normal(shape),), params, grad=grad, tol=1e-5, name=name
        )
        for op, select in EXTREMES:
            covered = name not in ("dilated", "strided dilated")
            yield Sample(op, (distinct(shape),), params, grad=grad if covered else (), name=name)
            chosen = {**params, "select": select}
            x = distinct(shape)
            yield Sample(
                ops.select_and_gather_add,
                (normal(shape), x),
                chosen,
                grad=grad,
                name=f"{select} {name}",
            )
            places = op(x, **params)
            ct = normal(places.shape, seed=1)
            grad = () if 0 in (*shape, *places.shape) else (0,)
            yield Sample(
                ops.select_and_scatter_add,
                (ct, x),
                chosen,
                grad=grad,
                tol=1e-5,
                name=f"{select} {name}",
            )


def _dtypes():
    params = geometry((2, 3), (1, 2), ((1, 0), (0, 1)))
    for dtype in NUMBER:
        x = normal((4, 5), dtype)
        yield Sample(ops.reduce_window_sum, (x,), params, tol=HALF_TOL.get(dtype, 1e-5))
    for op, select in EXTREMES:
        for dtype in BOOL + INT + FLOAT:
            yield Sample(op, (normal((4, 5), dtype),), params)
        for dtype in FLOAT:
            t, x = normal((4, 5), dtype), distinct((4, 5), dtype)
            yield Sample(ops.select_and_gather_add, (t, x), {**params, "select": select})
            ct = normal(op(x, **params).shape, dtype)
            tol = HALF_TOL.get(dtype, 1e-5)
            yield Sample(ops.select_and_scatter_add, (ct, x), {**params, "select": select}, tol=tol)
        line = geometry((3,), (1,), ((1, 1),))
        x = special_floats("float32")
        yield Sample(op, (x,), line, name="special")
        ties = np.array([2, 2, 1, 1, 2, 1, 1, 1], np.float32)
        yield Sample(
            ops.select_and_gather_add, (normal((8,)), ties), {**line, "select": select}, name="ties"
        )
        yield Sample(
            ops.select_and_gather_add,
            (normal(x.shape), x),
            {**line, "select": select},
            name="special",
        )
        yield Sample(
            ops.select_and_scatter_add,
            (normal((8,)), ties),
            {**line, "select": select},
            name="ties",
        )


def _generic():
    add = body(lambda a, x: [ops.add(a, x)], "float32")

    def best(value, index, x, i):
        wins = ops.gt(x, value)
        return [ops.select(wins, x, value), ops.select(wins, i, index)]

    pair = body(best, "float32", "int32")
    zero, low, none = (
        np.zeros((), np.float32),
        np.array(-np.inf, np.float32),
        np.array(-1, np.int32),
    )
    for name, (shape, params) in CASES.items():
        args = (normal(shape), zero)
        yield Sample(
            ops.reduce_window, args, {**params, "body": add}, tol=1e-5, unbatched=(1,), name=name
        )
    shape, params = CASES["padded"]
    places = np.arange(20, dtype=np.int32).reshape(shape)
    args = (distinct(shape), places, low, none)
    yield Sample(ops.reduce_window, args, {**params, "body": pair}, unbatched=(2, 3), name="pair")


SAMPLES = [*_ops(), *_dtypes(), *_generic()]
