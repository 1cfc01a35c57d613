"""Functions of each element: arithmetic, powers, exponentials, larger and smaller, signs.

Each row names an op, or a rule written with ops. NumPy's argument names and values; dtypes follow
the promotion lattice, where Python numbers are weak and nothing becomes 64-bit by itself.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import bevel.ops as ops
from bevel.core import dtypes
from bevel.core.dtypes import INT, UNSIGNED, bool_, float32
from bevel.core.handle import Handle, wrap
from bevel.numpy.convert import enter, numbers
from bevel.numpy.families import FAST_FLOAT, FAST_NUMBER, binary, named, quick_unary, unary


def const(x: Any, value: Any) -> Any:
    """A constant with the shape and dtype of a value."""
    return ops.full_like(x, value)


def is_int(x: Any) -> bool:
    """Whether a value holds integers."""
    return dtypes.is_integer(x.dtype)


def _is_negative(x: Any) -> Any:
    return ops.lt(x, const(x, 0))


def _is_nan(x: Any) -> Any:
    return ops.ne(x, x)


# -- arithmetic ------------------------------------------------------------------------------------


def _add(x, y):
    return ops.or_(x, y) if x.dtype == bool_ else ops.add(x, y)


def _multiply(x, y):
    return ops.and_(x, y) if x.dtype == bool_ else ops.mul(x, y)


def _subtract(x, y):
    if x.dtype == bool_:
        raise TypeError(
            "subtract: bools have no difference.\n"
            "Write instead: x ^ y for exclusive or, or x.astype(int) - y."
        )
    return ops.sub(x, y)


def _unless_zero(y, out):
    """NumPy's rule for integers: division by zero gives 0."""
    return ops.select(ops.eq(y, const(y, 0)), const(y, 0), out)


def as_number(x):
    """Bools as integers."""
    return ops.convert(x, dtype=dtypes.int32) if x.dtype == bool_ else x


def _signs_differ(r, y):
    """Where a truncated remainder is not zero and has not the divisor's sign."""
    return ops.and_(ops.ne(r, const(r, 0)), ops.ne(_is_negative(r), _is_negative(y)))


def _floor_divide(x, y):
    x, y = as_number(x), as_number(y)
    if x.dtype in UNSIGNED:
        return _unless_zero(y, ops.div(x, y))
    r = ops.rem(x, y)
    if is_int(x):
        q = ops.div(x, y)
        return _unless_zero(y, ops.select(_signs_differ(r, y), ops.sub(q, const(q, 1)), q))
    q = ops.div(ops.sub(x, r), y)
    q = ops.round(ops.select(_signs_differ(r, y), ops.sub(q, const(q, 1)), q), method="even")
    apart = ops.ne(sign_bit(x), sign_bit(y))
    zero = ops.select(apart, const(q, -0.0), const(q, 0.0))
    q = ops.select(ops.eq(q, const(q, 0)), zero, q)
    return ops.select(ops.eq(y, const(y, 0)), ops.div(x, y), q)


def _remainder(x, y):
    x, y = as_number(x), as_number(y)
    r = ops.rem(x, y)
    if x.dtype not in UNSIGNED:
        r = ops.select(_signs_differ(r, y), ops.add(r, y), r)
    if is_int(x):
        return _unless_zero(y, r)
    zero = ops.select(sign_bit(y), const(r, -0.0), const(r, 0.0))
    return ops.select(ops.eq(r, const(r, 0)), zero, r)


def _fmod(x, y):
    x, y = as_number(x), as_number(y)
    return _unless_zero(y, ops.rem(x, y)) if is_int(x) else ops.rem(x, y)


add = binary(
    "add",
    _add,
    "Sum of two arrays; bools are joined by *or*.",
    ">>> bnp.add(bnp.ones(3), bnp.arange(3))\nArray([1., 2., 3.], dtype=float32)",
    quick=ops.add,
)
subtract = binary(
    "subtract",
    _subtract,
    "Difference of two arrays.",
    ">>> bnp.subtract(5, bnp.arange(3))\nArray([5, 4, 3], dtype=int32)",
    quick=ops.sub,
)
multiply = binary(
    "multiply",
    _multiply,
    "Product of two arrays; bools are joined by *and*.",
    ">>> bnp.multiply(bnp.arange(3), bnp.array([[1], [2]]))\nArray([[0, 1, 2],\n       [0, 2, "
    "4]], dtype=int32)",
    quick=ops.mul,
)
divide = binary(
    "divide",
    ops.div,
    "Quotient of two arrays, floating also for integers; x / 0 is an infinity or NaN.",
    ">>> bnp.divide(bnp.array([1, 2]), 4)\nArray([0.25, 0.5 ], dtype=float32)",
    inexact=True,
    quick=ops.div,
    fast=FAST_FLOAT,
    reference=np.true_divide,
)
true_divide = divide
floor_divide = binary(
    "floor_divide",
    _floor_divide,
    "Quotient rounded towards minus infinity; integers divided by zero give 0.",
    ">>> bnp.floor_divide(bnp.array([7, -7]), 2)\nArray([ 3, -4], dtype=int32)",
)
remainder = binary(
    "remainder",
    _remainder,
    "Remainder of `floor_divide`, with the divisor's sign; integers divided by zero give 0.",
    ">>> bnp.remainder(bnp.array([7, -7]), 3)\nArray([1, 2], dtype=int32)",
)
mod = remainder
fmod = binary(
    "fmod",
    _fmod,
    "Remainder of the division rounded towards zero, with the dividend's sign.",
    ">>> bnp.fmod(bnp.array([7, -7]), 3)\nArray([ 1, -1], dtype=int32)",
)


def divmod(x1: Any, x2: Any, /) -> tuple[Any, Any]:
    """`(floor_divide(x1, x2), remainder(x1, x2))`.

    >>> bnp.divmod(bnp.array([7, -7]), 2)
    (Array([ 3, -4], dtype=int32), Array([1, 1], dtype=int32))
    """
    return floor_divide(x1, x2), remainder(x1, x2)


def modf(x: Any, /) -> tuple[Any, Any]:
    """Fractional and whole part, both with the sign of `x`.

    >>> bnp.modf(-2.5)
    (Array(-0.5, dtype=float32, weak_type=True), Array(-2., dtype=float32, weak_type=True))
    """
    (v,), tag = numbers("modf", (x,), inexact=True)
    whole = ops.trunc(v)
    finite = ops.is_finite(v)
    fraction = ops.select(finite, ops.sub(v, whole), ops.select(_is_nan(v), v, const(v, 0)))
    return wrap(fraction, tag), wrap(whole, tag)


negative = unary(
    "negative",
    ops.neg,
    "The number with the other sign; unsigned integers wrap around.",
    ">>> bnp.negative(bnp.array([1, -2]))\nArray([-1,  2], dtype=int32)",
    inexact=False,
    fast=FAST_NUMBER,
)


def positive(x: Any, /) -> Any:
    """The array itself: what `+x` means.

    >>> bnp.positive(bnp.array([1, -2]))
    Array([ 1, -2], dtype=int32)
    """
    (v,), tag = numbers("positive", (x,))
    return wrap(v, tag)


_abs_of_numbers = unary("absolute", ops.abs, "", "", inexact=False, fast=(*INT, *FAST_FLOAT))


def absolute(x: Any, /) -> Any:
    """Absolute value; of complex numbers the modulus, which is real. Bools are kept.

    >>> bnp.absolute(bnp.array([-1.5, 2.0]))
    Array([1.5, 2. ], dtype=float32)
    >>> bnp.absolute(3 + 4j)
    Array(5., dtype=float32, weak_type=True)
    """
    if dtype_of(x) == bool_:
        return positive(x)
    return _abs_of_numbers(x)


abs = absolute


def dtype_of(x: Any) -> np.dtype:
    """The dtype an argument enters at."""
    if not isinstance(x, Handle):
        x = enter(x)
    return np.dtype(x._v.dtype)


def fabs(x: Any, /) -> Any:
    """Absolute value in a floating dtype.

    >>> bnp.fabs(bnp.array([-1, 2]))
    Array([1., 2.], dtype=float32)
    """
    (v,), tag = numbers("fabs", (x,), inexact=True)
    if dtypes.is_complex(v.dtype):
        raise TypeError("fabs: complex numbers are not taken.\nWrite instead: bnp.abs(x).")
    return wrap(ops.abs(v), tag)


sign = unary(
    "sign",
    ops.sign,
    "-1, 0 or 1; of complex numbers x / abs(x). NaN stays NaN.",
    ">>> bnp.sign(bnp.array([-2.0, 0.0, 3.0]))\nArray([-1.,  0.,  1.], dtype=float32)",
    inexact=False,
)


def _square(x):
    (v,), tag = numbers("square", (x,))
    return wrap(ops.square(as_number(v)), tag)


square = named(
    quick_unary(_square, ops.square, FAST_NUMBER),
    "square",
    "The number times itself.\n\n`x`: an array of numbers of any shape. Bools count as int32.\n\n"
    ">>> bnp.square(bnp.array([1, -2]))\nArray([1, 4], dtype=int32)\n",
)


def reciprocal(x: Any, /) -> Any:
    """1 / x, floating also for integers.

    >>> bnp.reciprocal(bnp.array([2, 4]))
    Array([0.5 , 0.25], dtype=float32)
    """
    return divide(1, x)


# -- powers, exponentials and logarithms -----------------------------------------------------------

_MULTIPLIED_OUT = 16
"""A whole float exponent up to this size is multiplied out: quicker than `pow`, and exact for
squares.
"""


def _whole_exponent(y: Any) -> int | None:
    """The exponent as a Python int, where the power can be multiplied out."""
    if type(y) is int:
        return y
    if type(y) is float and y.is_integer() and -_MULTIPLIED_OUT <= y <= _MULTIPLIED_OUT:
        return int(y)
    return None


def power(x1: Any, x2: Any, /) -> Any:
    """`x1` to the power `x2`, broadcast together and promoted.

    A Python integer as exponent is multiplied out and keeps the dtype of `x1`.

    Raises:
        TypeError: integers to a negative Python integer, whose result is not an integer.

    >>> bnp.power(bnp.array([1.0, 2.0, 3.0]), 2)
    Array([1., 4., 9.], dtype=float32)
    >>> bnp.power(2.0, bnp.arange(3))
    Array([1., 2., 4.], dtype=float32, weak_type=True)
    """
    exponent = _whole_exponent(x2)
    if exponent is not None:
        (v,), tag = numbers("power", (x1,))
        v = as_number(v)
        if type(x2) is float and is_int(v):
            v, tag = ops.convert(v, dtype=float32), tag
        if exponent < 0 and is_int(v):
            raise TypeError(
                f"power: an integer array to the power {exponent} is not an integer.\n"
                f"Write instead: x.astype(float) ** {exponent}, or x ** {float(exponent)}."
            )
        return wrap(ops.integer_pow(v, y=exponent), tag)
    (a, b), tag = numbers("power", (x1, x2))
    return wrap(ops.pow(as_number(a), as_number(b)), tag)


pow = power

float_power = binary(
    "float_power",
    ops.pow,
    "`x1` to the power `x2` in a floating dtype.",
    ">>> bnp.float_power(bnp.array([2, 4]), -1)\nArray([0.5 , 0.25], dtype=float32)",
    inexact=True,
)
exp = unary(
    "exp",
    ops.exp,
    "The exponential function.",
    ">>> bnp.exp(bnp.array([0.0, -bnp.inf]))\nArray([1., 0.], dtype=float32)",
)
exp2 = unary(
    "exp2",
    ops.exp2,
    "2 to the power x.",
    ">>> bnp.exp2(bnp.array([1, 3]))\nArray([2., 8.], dtype=float32)",
)
expm1 = unary(
    "expm1",
    ops.expm1,
    "exp(x) - 1, exact also for small x.",
    ">>> bnp.expm1(bnp.array([0.0, 1e-8]))\nArray([0.e+00, 1.e-08], dtype=float32)",
)
log = unary(
    "log",
    ops.log,
    "Natural logarithm; of 0 it is -inf, of negative numbers NaN.",
    ">>> bnp.log(bnp.array([1.0, 0.0]))\nArray([  0., -inf], dtype=float32)",
)
log1p = unary(
    "log1p",
    ops.log1p,
    "log(1 + x), exact also for small x.",
    ">>> bnp.log1p(bnp.array([0.0, 1e-8]))\nArray([0.e+00, 1.e-08], dtype=float32)",
)


def _log_base(name: str, base: int) -> Any:
    def log_base(x, /):
        (v,), tag = numbers(name, (x,), inexact=True)
        out = ops.log(v)
        if not dtypes.is_complex(v.dtype):
            return wrap(ops.mul(out, const(out, 1 / math.log(base))), tag)
        # Part by part: a complex product of an infinity has NaN beside it.
        parts = (ops.real(out), ops.imag(out))
        return wrap(ops.complex(*[ops.mul(p, const(p, 1 / math.log(base))) for p in parts]), tag)

    doc = (
        f"Logarithm to base {base}.\n\n`x`: an array of numbers of any shape. Integers and bools "
        "are computed in "
        f"float32.\n\n>>> bnp.{name}(bnp.array([1.0, {base}.0]))\nArray([0., 1.], dtype=float32)\n"
    )
    return named(log_base, name, doc)


log2 = _log_base("log2", 2)
log10 = _log_base("log10", 10)
sqrt = unary(
    "sqrt",
    ops.sqrt,
    "Square root; of negative real numbers NaN.",
    ">>> bnp.sqrt(bnp.array([4, 9]))\nArray([2., 3.], dtype=float32)",
)
cbrt = unary(
    "cbrt",
    ops.cbrt,
    "Cube root.",
    ">>> bnp.cbrt(bnp.array([8.0, -1.0]))\nArray([ 2., -1.], dtype=float32)",
)


def _logaddexp(x, y):
    gap = ops.sub(x, y)
    undefined = _is_nan(gap)  # equal infinities, or a NaN: the sum is right
    gap = ops.select(undefined, const(gap, 0), gap)
    larger = ops.add(ops.max(x, y), ops.log1p(ops.exp(ops.neg(ops.abs(gap)))))
    return ops.select(undefined, ops.add(x, y), larger)


def _logaddexp2(x, y):
    ln2 = const(x, math.log(2))
    return ops.div(_logaddexp(ops.mul(x, ln2), ops.mul(y, ln2)), ln2)


logaddexp = binary(
    "logaddexp",
    _logaddexp,
    "log(exp(x1) + exp(x2)) without overflow.",
    ">>> bnp.logaddexp(bnp.array([0.0, 1000.0]), bnp.array([-bnp.inf, 0.0]))\nArray([   0., "
    "1000.], dtype=float32)",
    inexact=True,
)
logaddexp2 = binary(
    "logaddexp2",
    _logaddexp2,
    "log2(2**x1 + 2**x2) without overflow.",
    ">>> bnp.logaddexp2(bnp.array([1.0]), 1.0)\nArray([2.], dtype=float32)",
    inexact=True,
)

# -- larger and smaller, signs and steps -----------------------------------------------------------

maximum = binary(
    "maximum",
    ops.max,
    "The larger of two numbers; NaN if either is NaN.",
    ">>> bnp.maximum(bnp.array([1, 5]), 3)\nArray([3, 5], dtype=int32)",
    quick=ops.max,
)
minimum = binary(
    "minimum",
    ops.min,
    "The smaller of two numbers; NaN if either is NaN.",
    ">>> bnp.minimum(bnp.array([1, 5]), 3)\nArray([1, 3], dtype=int32)",
    quick=ops.min,
)


def _skipping_nan(op: Any) -> Any:
    def rule(x, y):
        return ops.select(_is_nan(x), y, ops.select(_is_nan(y), x, op(x, y)))

    return rule


fmax = binary(
    "fmax",
    _skipping_nan(ops.max),
    "The larger of two numbers; a number beside NaN wins.",
    ">>> bnp.fmax(bnp.array([1.0, bnp.nan]), 3.0)\nArray([3., 3.], dtype=float32)",
)
fmin = binary(
    "fmin",
    _skipping_nan(ops.min),
    "The smaller of two numbers; a number beside NaN wins.",
    ">>> bnp.fmin(bnp.array([1.0, bnp.nan]), 3.0)\nArray([1., 3.], dtype=float32)",
)


def sign_bit(x: Any) -> Any:
    """Whether the sign bit of a value is set."""
    if dtypes.is_float(x.dtype):
        x = ops.bitcast(x, dtype=np.dtype(f"int{8 * x.dtype.itemsize}"))
    return ops.full_like(x, False, bool_) if x.dtype in (*UNSIGNED, bool_) else _is_negative(x)


def _copysign(x, y):
    return ops.select(ops.ne(sign_bit(x), sign_bit(y)), ops.neg(x), x)


def _heaviside(x, y):
    step = ops.select(
        _is_negative(x), const(x, 0), ops.select(ops.eq(x, const(x, 0)), y, const(x, 1))
    )
    return ops.select(_is_nan(x), x, step)


copysign = binary(
    "copysign",
    _copysign,
    "`x1` with the sign of `x2`.",
    ">>> bnp.copysign(bnp.array([1.0, -2.0]), -1.0)\nArray([-1., -2.], dtype=float32)",
    inexact=True,
)
nextafter = binary(
    "nextafter",
    ops.nextafter,
    "The next float after `x1` towards `x2`.",
    ">>> float(bnp.nextafter(bnp.float32(1), 2) - 1)\n1.1920928955078125e-07",
    inexact=True,
)
heaviside = binary(
    "heaviside",
    _heaviside,
    "0 for negative `x1`, 1 for positive, `x2` at 0.",
    ">>> bnp.heaviside(bnp.array([-1.0, 0.0, 2.0]), 0.5)\nArray([0. , 0.5, 1. ], dtype=float32)",
    inexact=True,
)


def signbit(x: Any, /) -> Any:
    """Whether the sign bit is set: for negative numbers and -0.0.

    >>> bnp.signbit(bnp.array([-0.0, 0.0, -3.0]))
    Array([ True, False,  True], dtype=bool)
    """
    (v,), _ = numbers("signbit", (x,))
    if dtypes.is_complex(v.dtype):
        raise TypeError(
            "signbit: complex numbers have no sign.\nWrite instead: bnp.signbit(x.real)."
        )
    return wrap(sign_bit(v))
