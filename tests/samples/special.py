"""Samples of special.py."""

from __future__ import annotations

import numpy as np

from bevel import ops
from bevel.core.dtypes import FLOAT, bfloat16, float32, float64
from tests.samples.base import Sample, between, pairs, special_floats

S = (2, 3)
TOL = 3e-4


def _one_operand():
    for op, low, high in (
        (ops.erf, -2, 2),
        (ops.erfc, -2, 2),
        (ops.erf_inv, -0.9, 0.9),
        (ops.lgamma, 0.3, 5),
        (ops.digamma, 0.5, 5),
        (ops.bessel_i0e, 0.1, 20),
        (ops.bessel_i1e, 0.1, 20),
    ):
        for dtype in FLOAT:
            tol = 3e-2 if dtype.itemsize == 2 else TOL if dtype == float32 else 1e-10
            yield Sample(
                op,
                (between(low, high, S, dtype),),
                grad=(0,) if dtype.itemsize > 2 else (),
                tol=tol,
            )
        x = special_floats("float32")
        yield Sample(op, (np.where(np.abs(x) > 1e38, np.float32(30), x),), tol=TOL, name="special")
        yield Sample(op, (np.zeros((0,), np.float32),), name="empty")
    yield Sample(
        ops.bessel_i1e, (np.zeros((), np.float32),), grad=(0,), second_order=False, name="zero"
    )
    poles = np.array(
        [-1, -2, -0.5, -1.5, -3.7, 0, -0.0, -np.inf, np.inf, np.nan, 1e-30, -1e-30], np.float32
    )
    yield Sample(ops.lgamma, (poles,), tol=TOL, name="poles")
    yield Sample(ops.digamma, (poles,), tol=TOL, name="poles")


def _more_operands():
    for dtype in (bfloat16, float32, float64):
        wide = dtype == float32  # derivatives are taken in float64 anyway
        tol = {bfloat16: 3e-2, float32: TOL, float64: 1e-10}[dtype]
        a, x = between(0.5, 9, S, dtype), between(0.5, 9, S, dtype, 1)
        for op in (ops.igamma, ops.igammac):
            yield Sample(op, (a, x), grad=(0, 1) if wide else (), tol=tol, second_order=False)
        yield Sample(ops.random_gamma_grad, (a, x), tol=tol)
        b, y = between(0.5, 5, S, dtype, 2), between(0.1, 0.9, S, dtype, 3)
        yield Sample(ops.regularized_incomplete_beta, (a, b, y), grad=(2,) if wide else (), tol=tol)
        yield Sample(ops.zeta, (between(1.5, 4, S, dtype), a), grad=(1,) if wide else (), tol=tol)
        order = np.array([[0, 1, 2], [3, 1, 0]]).astype(dtype)
        yield Sample(
            ops.polygamma,
            (order, a),
            grad=(1,) if wide else (),
            tol=5e-2 if dtype == bfloat16 else tol,
        )
    edge = np.array([0, 1, -1, np.nan, np.inf, 2.5], np.float32)
    for op in (ops.igamma, ops.igammac, ops.random_gamma_grad):
        yield Sample(op, pairs(edge), tol=TOL, name="special")
        far = np.array([1e-3, 0.5, 10, 100, 1e4], np.float32)
        yield Sample(op, pairs(far), tol=TOL, name="far")
    corners = np.meshgrid(*[np.array([0, 1, -1, 0.5, 2, np.nan], np.float32)] * 3)
    yield Sample(
        ops.regularized_incomplete_beta,
        tuple(c.reshape(-1) for c in corners),
        tol=TOL,
        name="special",
    )
    large = (np.float32([1e3, 1e-2, 50]), np.float32([2e3, 5, 1e-2]), np.float32([0.3, 0.01, 0.99]))
    yield Sample(ops.regularized_incomplete_beta, large, tol=TOL, name="far")


SAMPLES = [*_one_operand(), *_more_operands()]
