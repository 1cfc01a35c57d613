"""Eager bevel.lax refuses the operands that a program refuses, for every dtype."""

import functools

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import lax

DTYPES = ["float16", "bfloat16", "float32", "float64", "int32", "uint8", "complex64", "bool"]
POINT = lax.ScatterDimensionNumbers((), (0,), (0,))
UNARY = """abs acos acosh asin asinh atan atanh bessel_i0e bessel_i1e bitwise_not cbrt ceil clz conj
    cos cosh digamma erf erf_inv erfc exp exp2 expm1 floor imag is_finite lgamma log log1p logistic
    neg population_count real reciprocal round rsqrt sign sin sinh sqrt square tan tanh""".split()
BINARY = """add sub mul div rem max min atan2 nextafter complex bitwise_and bitwise_or bitwise_xor
    shift_left shift_right_arithmetic shift_right_logical igamma igammac polygamma zeta
    random_gamma_grad igamma_grad_a eq ne lt le gt ge pow mulhi""".split()
REDUCTIONS = "sum prod max min and or xor".split()
RUNNING = "cumsum cumprod cummax cummin cumlogsumexp".split()


def named(names, call):
    """`call(function, x)` for functions by their names."""
    return {n: functools.partial(call, getattr(lax, n)) for n in names}


CALLS = {
    **named(UNARY, lambda f, x: f(x)),
    **named(BINARY, lambda f, x: f(x, x)),
    **named([f"reduce_{n}" for n in REDUCTIONS], lambda f, x: f(x, (0,))),
    **named(RUNNING, lambda f, x: f(x, 0)),
    "argmax": lambda x: lax.argmax(x, 0, np.int32),
    "argmin": lambda x: lax.argmin(x, 0, np.int32),
    "reduce": lambda x: lax.reduce(x, bnp.zeros((), x.dtype), lax.max, (0,)),
    "reduce_window": lambda x: lax.reduce_window(x, bnp.zeros((), x.dtype), lax.max, (2, 2)),
    "sort": lax.sort,
    "top_k": lambda x: lax.top_k(x, 2),
    "approx_min_k": lambda x: lax.approx_min_k(x, 2),
    "dot": lambda x: lax.dot(x, x.T),
    "ragged_dot": lambda x: lax.ragged_dot(x, x[:, :, None], bnp.array([1, 1])),
    "scaled_dot": lambda x: lax.scaled_dot(x, x.T),
    "conv": lambda x: lax.conv(x[:, None], x[:1, None, :2], (1,), "VALID"),
    "fft": lambda x: lax.fft(x, "fft", (3,)),
    "rfft": lambda x: lax.fft(x, "rfft", (3,)),
    "irfft": lambda x: lax.fft(x, "irfft", (4,)),
    "reduce_precision": lambda x: lax.reduce_precision(x, 5, 3),
    "clamp": lambda x: lax.clamp(x, x, x),
    "betainc": lambda x: lax.betainc(x, x, x),
    "integer_pow": lambda x: lax.integer_pow(x, 3),
    "integer_pow-negative": lambda x: lax.integer_pow(x, -3),
    "bitcast": lambda x: lax.bitcast_convert_type(x, np.int32),
    "scatter_add": lambda x: lax.scatter_add(x[0], bnp.array([[1]]), x[0, :1], POINT),
    "scatter_max": lambda x: lax.scatter_max(x[0], bnp.array([[1]]), x[0, :1], POINT),
    "qr": lax.linalg.qr,
    "svd": lax.linalg.svd,
    "lu": lax.linalg.lu,
    "cholesky": lambda x: lax.linalg.cholesky(x[:, :2]),
    "eigh": lambda x: lax.linalg.eigh(x[:, :2]),
    "eig": lambda x: lax.linalg.eig(x[:, :2]),
    "schur": lambda x: lax.linalg.schur(x[:, :2]),
    "hessenberg": lambda x: lax.linalg.hessenberg(x[:, :2]),
    "tridiagonal": lambda x: lax.linalg.tridiagonal(x[:, :2]),
    "householder_product": lambda x: lax.linalg.householder_product(x.T, x[:, 0]),
    "triangular_solve": lambda x: lax.linalg.triangular_solve(x[:, :2], x[:, :2]),
    "tridiagonal_solve": lambda x: lax.linalg.tridiagonal_solve(x[0], x[0], x[0], x.T),
    "cholesky_update": lambda x: lax.linalg.cholesky_update(x[:, :2], x[:, 0]),
}


def outcome(run, x):
    """Dtypes and shapes of results, or the kind of the error."""
    try:
        out = run(x)
    except (TypeError, ValueError, bv.errors.Unsupported) as e:
        return type(e).__name__
    return [(y.dtype, y.shape) for y in (out if isinstance(out, tuple | list) else [out])]


@pytest.mark.parametrize("dtype", DTYPES)
def test_eager_and_traced_take_the_same(dtype):
    x = bnp.array([[3, 1, 2], [0, 1, 5]], dtype)
    for name, call in CALLS.items():
        eager = outcome(call, x)
        traced = outcome(lambda x, call=call: bv.eval_shape(call, x), x)
        assert eager == traced, name
