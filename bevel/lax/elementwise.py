"""Elementwise functions with the names and argument orders of `jax.lax`: one op each, nothing
promoted.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import numpy as np

import bevel.ops as ops
from bevel.core import dtypes
from bevel.core.dtypes import bool_
from bevel.core.handle import KeyTag, wrap
from bevel.core.op import Op
from bevel.lax.accuracy import AccuracyMode, Tolerance, check_accuracy
from bevel.lax.operands import checked, handle_value, no_select, one_dtype, require, strict
from bevel.numpy.arguments import cast, integer, number
from bevel.numpy.convert import enter, promote


class RoundingMethod(enum.Enum):
    """How `round` decides between two integers that are equally near."""

    AWAY_FROM_ZERO = "away"
    TO_NEAREST_EVEN = "even"


def _named(fn: Callable, name: str, doc: str, example: str) -> Callable:
    call, result = example.split(" -> ")
    fn.__name__ = fn.__qualname__ = name
    fn.__doc__ = f"{doc}\n\n>>> lax.{name}({call})\n{result}\n"
    return fn


def _unary(name: str, op: Any, doc: str, example: str) -> Callable:
    """A function of one array; the op says which dtypes it takes."""

    def unary(x: Any) -> Any:
        (v,), tag = strict(name, x)
        out = checked(op, v) if isinstance(op, Op) else op(v)
        return wrap(out, tag if out.dtype != bool_ else None)

    return _named(unary, name, f"{doc}, elementwise.", example)


def _measured(name: str, op: Any, doc: str, example: str) -> Callable:
    """A function of one array that can be asked how exact it is."""
    plain = _unary(name, op, doc, example)

    def measured(x: Any, *, accuracy: Tolerance | AccuracyMode | None = None) -> Any:
        out = plain(x)
        if accuracy is not None:
            check_accuracy(name, accuracy, np.dtype(out.dtype))
        return out

    rule = "Raises Unsupported if an `accuracy` is asked for that it does not have."
    return _named(measured, name, f"{doc}, elementwise.\n\n{rule}", example)


def _binary(name: str, op: Any, doc: str, example: str) -> Callable:
    """A function of two arrays of one dtype, and of one shape unless one of them has no axes."""

    def binary(x: Any, y: Any) -> Any:
        values, tag = strict(name, x, y)
        out = checked(op, *values) if isinstance(op, Op) else op(*values)
        return wrap(out, tag if out.dtype != bool_ else None)

    rule = "The arrays have one dtype, and one shape unless one of them has no axes."
    return _named(binary, name, f"{doc}, elementwise.\n\n{rule}", example)


def _of_shape(name: str, op: Any, doc: str, example: str) -> Callable:
    """A function of the shape `a` of a gamma distribution and a place `x`."""
    plain = _binary(name, op, doc, example)

    def of_shape(a: Any, x: Any) -> Any:
        return plain(a, x)

    return _named(of_shape, name, str(plain.__doc__).split("\n\n>>>")[0], example)


abs = _unary(
    "abs",
    ops.abs,
    "Absolute value; real for complex numbers",
    "-1.5 -> Array(1.5, dtype=float32, weak_type=True)",
)
acos = _unary("acos", ops.acos, "Inverse cosine", "1.0 -> Array(0., dtype=float32, weak_type=True)")
acosh = _unary(
    "acosh",
    ops.acosh,
    "Inverse hyperbolic cosine",
    "1.0 -> Array(0., dtype=float32, weak_type=True)",
)
asin = _unary("asin", ops.asin, "Inverse sine", "0.0 -> Array(0., dtype=float32, weak_type=True)")
asinh = _unary(
    "asinh", ops.asinh, "Inverse hyperbolic sine", "0.0 -> Array(0., dtype=float32, weak_type=True)"
)
atan = _unary(
    "atan", ops.atan, "Inverse tangent", "0.0 -> Array(0., dtype=float32, weak_type=True)"
)
atanh = _unary(
    "atanh",
    ops.atanh,
    "Inverse hyperbolic tangent",
    "0.0 -> Array(0., dtype=float32, weak_type=True)",
)
bessel_i0e = _unary(
    "bessel_i0e",
    ops.bessel_i0e,
    "Modified Bessel function of order 0, times `exp(-abs(x))`",
    "0.0 -> Array(1., dtype=float32, weak_type=True)",
)
bessel_i1e = _unary(
    "bessel_i1e",
    ops.bessel_i1e,
    "Modified Bessel function of order 1, times `exp(-abs(x))`",
    "0.0 -> Array(0., dtype=float32, weak_type=True)",
)
bitwise_not = _unary(
    "bitwise_not",
    ops.not_,
    "All bits flipped, or `not` of bool",
    "5 -> Array(-6, dtype=int32, weak_type=True)",
)
cbrt = _measured("cbrt", ops.cbrt, "Cube root", "8.0 -> Array(2., dtype=float32, weak_type=True)")
ceil = _unary(
    "ceil",
    ops.ceil,
    "Smallest integer not below",
    "1.5 -> Array(2., dtype=float32, weak_type=True)",
)
clz = _unary(
    "clz", ops.clz, "How many leading bits are zero", "1 -> Array(31, dtype=int32, weak_type=True)"
)


def conj(x: Any) -> Any:
    """Complex conjugate, elementwise; of a real number too it is a complex one.

    >>> lax.conj(1j)
    Array(0.-1.j, dtype=complex64, weak_type=True)
    """
    (v,), tag = strict("conj", x)
    require("conj", v, "fc", "floats or complex numbers")
    if dtypes.is_complex(np.dtype(v.dtype)):
        return wrap(ops.conj(v), tag)
    return wrap(ops.convert(v, dtype=dtypes.complex_dtype(np.dtype(v.dtype))), tag)


cos = _measured("cos", ops.cos, "Cosine", "0.0 -> Array(1., dtype=float32, weak_type=True)")
cosh = _unary(
    "cosh", ops.cosh, "Hyperbolic cosine", "0.0 -> Array(1., dtype=float32, weak_type=True)"
)
digamma = _unary(
    "digamma",
    ops.digamma,
    "Derivative of `lgamma`",
    "1.0 -> Array(-0.5772157, dtype=float32, weak_type=True)",
)
erf = _unary("erf", ops.erf, "Error function", "0.0 -> Array(0., dtype=float32, weak_type=True)")
erfc = _unary(
    "erfc",
    ops.erfc,
    "1 - `erf`, exact for large arguments",
    "0.0 -> Array(1., dtype=float32, weak_type=True)",
)
erf_inv = _unary(
    "erf_inv", ops.erf_inv, "Inverse of `erf`", "0.0 -> Array(0., dtype=float32, weak_type=True)"
)
exp = _measured("exp", ops.exp, "Exponential", "0.0 -> Array(1., dtype=float32, weak_type=True)")
exp2 = _measured(
    "exp2", ops.exp2, "2 to the power", "3.0 -> Array(8., dtype=float32, weak_type=True)"
)
expm1 = _measured(
    "expm1",
    ops.expm1,
    "`exp(x) - 1`, exact near 0",
    "0.0 -> Array(0., dtype=float32, weak_type=True)",
)
floor = _unary(
    "floor",
    ops.floor,
    "Largest integer not above",
    "1.5 -> Array(1., dtype=float32, weak_type=True)",
)
imag = _unary("imag", ops.imag, "Imaginary part", "1j -> Array(1., dtype=float32, weak_type=True)")
is_finite = _unary(
    "is_finite",
    ops.is_finite,
    "Neither infinite nor NaN, as bool",
    "1.0 -> Array(True, dtype=bool)",
)
lgamma = _unary(
    "lgamma",
    ops.lgamma,
    "Logarithm of the absolute gamma function",
    "1.0 -> Array(0., dtype=float32, weak_type=True)",
)
log = _measured(
    "log", ops.log, "Natural logarithm", "1.0 -> Array(0., dtype=float32, weak_type=True)"
)
log1p = _measured(
    "log1p",
    ops.log1p,
    "`log(1 + x)`, exact near 0",
    "0.0 -> Array(0., dtype=float32, weak_type=True)",
)
logistic = _measured(
    "logistic",
    ops.logistic,
    "1 / (1 + exp(-x))",
    "0.0 -> Array(0.5, dtype=float32, weak_type=True)",
)
neg = _unary("neg", ops.neg, "Negative", "1.5 -> Array(-1.5, dtype=float32, weak_type=True)")
population_count = _unary(
    "population_count",
    ops.population_count,
    "How many bits are set",
    "5 -> Array(2, dtype=int32, weak_type=True)",
)
real = _unary("real", ops.real, "Real part", "1j -> Array(0., dtype=float32, weak_type=True)")
rsqrt = _measured(
    "rsqrt", ops.rsqrt, "1 / sqrt(x)", "4.0 -> Array(0.5, dtype=float32, weak_type=True)"
)
sign = _unary(
    "sign",
    ops.sign,
    "-1, 0 or 1; `x / abs(x)` for complex numbers",
    "-2.5 -> Array(-1., dtype=float32, weak_type=True)",
)
sin = _measured("sin", ops.sin, "Sine", "0.0 -> Array(0., dtype=float32, weak_type=True)")
sinh = _unary(
    "sinh", ops.sinh, "Hyperbolic sine", "0.0 -> Array(0., dtype=float32, weak_type=True)"
)
sqrt = _measured("sqrt", ops.sqrt, "Square root", "4.0 -> Array(2., dtype=float32, weak_type=True)")
square = _unary("square", ops.square, "x * x", "3.0 -> Array(9., dtype=float32, weak_type=True)")
tan = _measured("tan", ops.tan, "Tangent", "0.0 -> Array(0., dtype=float32, weak_type=True)")
tanh = _measured(
    "tanh", ops.tanh, "Hyperbolic tangent", "0.0 -> Array(0., dtype=float32, weak_type=True)"
)

add = _binary("add", ops.add, "Sum", "1.0, 2.0 -> Array(3., dtype=float32, weak_type=True)")
sub = _binary("sub", ops.sub, "Difference", "1.0, 2.0 -> Array(-1., dtype=float32, weak_type=True)")


def mul(x: Any, y: Any, *, out_dtype: Any = None) -> Any:
    """Product, elementwise; at `out_dtype` if it is given.

    The arrays have one dtype, and one shape unless one of them has no axes.

    >>> lax.mul(3.0, 2.0)
    Array(6., dtype=float32, weak_type=True)
    """
    values, tag = strict("mul", x, y)
    if out_dtype is not None:
        values, tag = [cast(v, dtypes.as_dtype(out_dtype)) for v in values], None
    return wrap(checked(ops.mul, *values), tag)


div = _binary(
    "div",
    ops.div,
    "Quotient; of integers, rounded towards 0",
    "7, 2 -> Array(3, dtype=int32, weak_type=True)",
)
rem = _binary(
    "rem",
    ops.rem,
    "Remainder, with the sign of x",
    "-7, 2 -> Array(-1, dtype=int32, weak_type=True)",
)
max = _binary("max", ops.max, "The larger", "1.0, 2.0 -> Array(2., dtype=float32, weak_type=True)")
min = _binary("min", ops.min, "The smaller", "1.0, 2.0 -> Array(1., dtype=float32, weak_type=True)")
atan2 = _binary(
    "atan2",
    ops.atan2,
    "Angle of the point (y, x), from -pi to pi; x here is its y",
    "0.0, 1.0 -> Array(0., dtype=float32, weak_type=True)",
)


def nextafter(x1: Any, x2: Any) -> Any:
    """The next number after `x1` towards `x2`, elementwise.

    >>> lax.nextafter(0.0, 0.0)
    Array(0., dtype=float32, weak_type=True)
    """
    values, tag = strict("nextafter", x1, x2)
    return wrap(checked(ops.nextafter, *values), tag)


complex = _binary(
    "complex",
    ops.complex,
    "x + 1j * y",
    "1.0, 2.0 -> Array(1.+2.j, dtype=complex64, weak_type=True)",
)
bitwise_and = _binary(
    "bitwise_and", ops.and_, "Bits set in both", "6, 3 -> Array(2, dtype=int32, weak_type=True)"
)
bitwise_or = _binary(
    "bitwise_or", ops.or_, "Bits set in either", "6, 3 -> Array(7, dtype=int32, weak_type=True)"
)
bitwise_xor = _binary(
    "bitwise_xor",
    ops.xor,
    "Bits set in exactly one",
    "6, 3 -> Array(5, dtype=int32, weak_type=True)",
)
shift_left = _binary(
    "shift_left",
    ops.shift_left,
    "x shifted left by y bits; 0 from the width on",
    "1, 3 -> Array(8, dtype=int32, weak_type=True)",
)
shift_right_arithmetic = _binary(
    "shift_right_arithmetic",
    ops.shift_right_arithmetic,
    "x shifted right by y bits, the sign kept",
    "-8, 1 -> Array(-4, dtype=int32, weak_type=True)",
)
shift_right_logical = _binary(
    "shift_right_logical",
    ops.shift_right_logical,
    "x shifted right by y bits, zeros coming in",
    "8, 1 -> Array(4, dtype=int32, weak_type=True)",
)
igamma = _of_shape(
    "igamma",
    ops.igamma,
    "Regularized lower incomplete gamma function P(a, x)",
    "1.0, 0.0 -> Array(0., dtype=float32, weak_type=True)",
)
igammac = _of_shape(
    "igammac",
    ops.igammac,
    "Regularized upper incomplete gamma function Q(a, x)",
    "1.0, 0.0 -> Array(1., dtype=float32, weak_type=True)",
)


def polygamma(m: Any, x: Any) -> Any:
    """Derivative of order m of `digamma` at x, elementwise.

    >>> lax.polygamma(0.0, 1.0)
    Array(-0.5772157, dtype=float32, weak_type=True)
    """
    values, tag = strict("polygamma", m, x)
    return wrap(checked(ops.polygamma, *values), tag)


def zeta(x: Any, q: Any) -> Any:
    """Hurwitz zeta function, elementwise: the sum of `(k + q) ** -x` over k from 0.

    >>> lax.zeta(2.0, 1.0)
    Array(1.644934, dtype=float32, weak_type=True)
    """
    values, tag = strict("zeta", x, q)
    return wrap(checked(ops.zeta, *values), tag)


random_gamma_grad = _of_shape(
    "random_gamma_grad",
    ops.random_gamma_grad,
    "Derivative of a gamma draw x by its shape a",
    "1.0, 1.0 -> Array(1.173563, dtype=float32, weak_type=True)",
)


def _igamma_grad_a(a: Any, x: Any) -> Any:
    """Minus how a draw `x` moves with `a`, times the density there."""
    require("igamma_grad_a", a, "f", "floats")
    moved = ops.random_gamma_grad(a, x)
    log_density = ops.sub(ops.mul(ops.sub(a, ops.full_like(a, 1)), ops.log(x)), x)
    slope = ops.neg(ops.mul(moved, ops.exp(ops.sub(log_density, ops.lgamma(a)))))
    still = ops.eq(x, ops.zeros_like(x))
    return ops.select(still, ops.mul(x, a), slope)


igamma_grad_a = _of_shape(
    "igamma_grad_a",
    _igamma_grad_a,
    "Derivative of `igamma` by a",
    "1.0, 1.0 -> Array(-0.43172967, dtype=float32, weak_type=True)",
)


def _high_words(x: Any, y: Any) -> Any:
    """The upper 64 bits of products of uint64, from those of their halves."""
    low, half = ops.full_like(x, (1 << 32) - 1), ops.full_like(x, 32)
    (xl, yl), (xh, yh) = (
        (ops.and_(x, low), ops.and_(y, low)),
        (ops.shift_right_logical(x, half), ops.shift_right_logical(y, half)),
    )
    carry = ops.shift_right_logical(ops.mul(xl, yl), half)
    middle = ops.add(ops.mul(xh, yl), carry)
    other = ops.add(ops.mul(xl, yh), ops.and_(middle, low))
    tops = [ops.shift_right_logical(v, half) for v in (middle, other)]
    return ops.add(ops.add(ops.mul(xh, yh), tops[0]), tops[1])


def _mulhi(x: Any, y: Any) -> Any:
    dtype = np.dtype(x.dtype)
    require("mulhi", x, "iu", "integers")
    if dtype.itemsize < 8:
        wide = dtypes.int64 if dtypes.kind(dtype) == "i" else dtypes.uint64
        product = ops.mul(cast(x, wide), cast(y, wide))
        bits = ops.full_like(product, 8 * dtype.itemsize)
        return cast(ops.shift_right_arithmetic(product, bits), dtype)
    if dtype == dtypes.uint64:
        return _high_words(x, y)
    # As unsigned numbers, negative ones are too large by 2^64.
    high = cast(_high_words(cast(x, dtypes.uint64), cast(y, dtypes.uint64)), dtype)
    zero = ops.zeros_like(x)
    for a, b in ((x, y), (y, x)):
        high = ops.sub(high, ops.select(ops.lt(a, zero), b, zero))
    return high


mulhi = _binary(
    "mulhi",
    _mulhi,
    "The upper half of the bits of the product of integers",
    "1 << 20, 1 << 20 -> Array(256, dtype=int32, weak_type=True)",
)
eq = _binary("eq", ops.eq, "x == y", "1, 1 -> Array(True, dtype=bool)")
ne = _binary("ne", ops.ne, "x != y", "1, 1 -> Array(False, dtype=bool)")
lt = _binary("lt", ops.lt, "x < y", "1, 2 -> Array(True, dtype=bool)")
le = _binary("le", ops.le, "x <= y", "1, 2 -> Array(True, dtype=bool)")
gt = _binary("gt", ops.gt, "x > y", "1, 2 -> Array(False, dtype=bool)")
ge = _binary("ge", ops.ge, "x >= y", "1, 2 -> Array(False, dtype=bool)")


def reciprocal(x: Any) -> Any:
    """1 / x, elementwise.

    >>> lax.reciprocal(4.0)
    Array(0.25, dtype=float32, weak_type=True)
    """
    (v,), tag = strict("reciprocal", x)
    require("reciprocal", v, "fc", "floats or complex numbers")
    return wrap(ops.div(ops.full_like(v, 1), v), tag)


def round(x: Any, rounding_method: RoundingMethod | str = RoundingMethod.AWAY_FROM_ZERO) -> Any:
    """The nearest integer, elementwise; halves go away from zero, or to the even one.

    >>> lax.round(2.5, lax.RoundingMethod.TO_NEAREST_EVEN)
    Array(2., dtype=float32, weak_type=True)
    """
    (v,), tag = strict("round", x)
    return wrap(checked(ops.round, v, method=RoundingMethod(rounding_method).value), tag)


def pow(x: Any, y: Any) -> Any:
    """The power of x by y, elementwise; y has the dtype of x, or is an integer.

    >>> lax.pow(3.0, 2)
    Array(9., dtype=float32, weak_type=True)
    """
    if type(y) is int:
        return integer_pow(x, y)
    (v,), _ = strict("pow", x)
    exponent = number("pow", y)
    if dtypes.is_inexact(np.dtype(v.dtype)) and dtypes.is_integer(np.dtype(exponent.dtype)):
        y = wrap(cast(exponent, np.dtype(v.dtype)))
    values, tag = strict("pow", x, y)
    return wrap(checked(ops.pow, *values), tag)


def integer_pow(x: Any, y: int) -> Any:
    """The power of x by an int known in Python, by repeated products.

    >>> lax.integer_pow(2.0, 3)
    Array(8., dtype=float32, weak_type=True)
    """
    (v,), tag = strict("integer_pow", x)
    return wrap(checked(ops.integer_pow, v, y=integer("integer_pow", "y", y)), tag)


def betainc(a: Any, b: Any, x: Any) -> Any:
    """Regularized incomplete beta function, elementwise.

    >>> lax.betainc(1.0, 1.0, 0.5)
    Array(0.5, dtype=float32, weak_type=True)
    """
    values, tag = strict("betainc", a, b, x)
    return wrap(checked(ops.regularized_incomplete_beta, *values), tag)


regularized_incomplete_beta = betainc


def clamp(min: Any, x: Any, max: Any) -> Any:
    """x, but at least `min` and at most `max`, elementwise; NaN stays.

    >>> lax.clamp(0.0, 1.5, 1.0)
    Array(1., dtype=float32, weak_type=True)
    """
    values, tag = strict("clamp", min, x, max)
    return wrap(checked(ops.clamp, *values), tag)


def select(pred: Any, on_true: Any, on_false: Any) -> Any:
    """`on_true` where `pred` holds, `on_false` elsewhere; the three have one shape, or `pred` has
    no axes.

    >>> lax.select(True, 1.0, 2.0)
    Array(1., dtype=float32, weak_type=True)
    """
    mask = number("select", pred)
    require("select", mask, "b", "a bool pred")
    return select_n(wrap(mask), on_false, on_true)


def select_n(which: Any, *cases: Any) -> Any:
    """Case `which` of several, elementwise: `which` is bool (two cases) or int32.

    The cases have one dtype and shape; `which` has their shape, or no axes.

    >>> lax.select_n(2, 1.0, 2.0, 3.0)
    Array(3., dtype=float32, weak_type=True)
    """
    index = number("select_n", which)
    require("select_n", index, "bi", "a bool or int32 which")
    if not cases:
        raise ValueError("lax.select_n: needs at least one case")
    keys = [h for h in [handle_value(c)[0] for c in cases] if type(h._tag) is KeyTag]
    values, tag = promote(*cases) if keys else one_dtype("select_n", cases)
    shapes = {tuple(v.shape) for v in values}
    if len(shapes) > 1 or tuple(index.shape) not in (
        (),
        tuple(values[0].shape[: len(index.shape)]),
    ):
        raise no_select([wrap(index), *map(enter, cases)])
    shape = tuple(values[0].shape)
    if tuple(index.shape) != shape:
        index = ops.broadcast_in_dim(index, shape=shape, dims=tuple(range(len(index.shape))))
    if len(values) == 1:
        return wrap(values[0], tag)
    if index.dtype == bool_:
        return wrap(ops.select(index, values[1], values[0]), tag)
    return wrap(ops.select_n(cast(index, dtypes.int32), *values), tag)


def convert_element_type(operand: Any, new_dtype: Any) -> Any:
    """The numbers at another dtype.

    >>> lax.convert_element_type(1.5, bnp.int32)
    Array(1, dtype=int32)
    """
    return wrap(cast(number("convert_element_type", operand), dtypes.as_dtype(new_dtype)))


def bitcast_convert_type(operand: Any, new_dtype: Any) -> Any:
    """The same bits as another dtype; between widths the last axis appears or disappears.

    >>> lax.bitcast_convert_type(1.0, bnp.int32)
    Array(1065353216, dtype=int32)
    """
    return wrap(
        checked(
            ops.bitcast, number("bitcast_convert_type", operand), dtype=dtypes.as_dtype(new_dtype)
        )
    )


def reduce_precision(operand: Any, exponent_bits: int, mantissa_bits: int) -> Any:
    """Round to a float of fewer bits, and back.

    >>> lax.reduce_precision(1.01, 8, 7)
    Array(1.0078125, dtype=float32)
    """
    x = number("reduce_precision", operand)
    return wrap(
        checked(ops.reduce_precision, x, exponent_bits=exponent_bits, mantissa_bits=mantissa_bits)
    )
