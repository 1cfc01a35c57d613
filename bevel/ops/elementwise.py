"""Elementwise arithmetic and the elementary functions.

References are NumPy and mean what XLA means: integers wrap around, division by zero and casts out
of range give XLA's values, and no dtype is ever widened.
"""

from __future__ import annotations

import math

import numpy as np

from bevel.core import dtypes
from bevel.core.dtypes import ALL, COMPLEX, FLOAT, INT, NUMBER
from bevel.core.op import Misuse, Op, Unsupported, is_undefined, linear, multilinear, zero_tangent
from bevel.ops.base import HALF, check_dtype, full_like, reduce_sum, zeros_like
from bevel.ops.families import binary, unary, via_float32
from bevel.ops.logic import convert, eq, gt, lt, select

INEXACT = FLOAT + COMPLEX


def _is_complex(x) -> bool:
    return x.dtype in COMPLEX


# -- arithmetic -----------------------------------------------------------------------------------


def _if_undefined(x, ct):
    return ct if is_undefined(x) else None


def _mul_transpose(ct, x, y):
    return (mul(ct, y), None) if is_undefined(x) else (None, mul(x, ct))


def _div_reference(x, y):
    kind = dtypes.kind(x.dtype)
    if kind not in "iu":
        return np.divide(x, y)
    zero = y == 0
    if kind == "i":
        # INT_MIN / -1 wraps around; NumPy would warn and, on some machines, trap.
        minus = y == -1
        safe = np.where(zero | minus, 1, y).astype(x.dtype)
        quotient = (x - np.fmod(x, safe)) // safe
        quotient = np.where(minus, np.negative(x), quotient)
    else:
        quotient = x // np.where(zero, 1, y).astype(x.dtype)
    return np.where(zero, np.asarray(-1).astype(x.dtype), quotient).astype(x.dtype)


def _rem_reference(x, y):
    kind = dtypes.kind(x.dtype)
    if kind not in "iu":
        return np.fmod(x, y)
    zero = y == 0
    one = zero if kind == "u" else zero | (y == -1)
    return np.where(zero, x, np.fmod(x, np.where(one, 1, y).astype(x.dtype))).astype(x.dtype)


add = binary(
    "add",
    np.add,
    "add",
    (lambda ctx, t, x, y: t, lambda ctx, t, x, y: t),
    transpose=lambda ct, x, y: (_if_undefined(x, ct), _if_undefined(y, ct)),
)
neg: Op = unary("neg", np.negative, "negate", linear, NUMBER, transpose=lambda ct, x: neg(ct))
sub = binary(
    "sub",
    np.subtract,
    "subtract",
    (lambda ctx, t, x, y: t, lambda ctx, t, x, y: neg(t)),
    transpose=lambda ct, x, y: (_if_undefined(x, ct), neg(ct) if is_undefined(y) else None),
)
mul = binary("mul", np.multiply, "multiply", multilinear, transpose=_mul_transpose)
div: Op = binary(
    "div",
    _div_reference,
    "divide",
    (lambda ctx, t, x, y: div(t, y), lambda ctx, t, x, y: neg(div(mul(t, ctx.out), y))),
    transpose=lambda ct, x, y: (div(ct, y), None),
)
rem = binary(
    "rem",
    _rem_reference,
    "remainder",
    (lambda ctx, t, x, y: t, lambda ctx, t, x, y: neg(mul(t, trunc(div(x, y))))),
    INT + FLOAT,
)


def _find_zeros(values, avals, params):
    count = reduce_sum(
        convert(eq(values[0], zeros_like(values[0])), dtype=dtypes.int32),
        axes=tuple(range(avals[1].ndim)),
    )
    return gt(count, zeros_like(count)), [count]


def _zeros_text(facts, avals, params):
    what = f"{avals[0].dtype.name} numbers are divided by zero ({int(facts[0])} of them)"
    return what, "x / bnp.where(y == 0, 1, y), and what the result is to be there"


div.misuse = Misuse(ZeroDivisionError, slice(1, 2), _find_zeros, _zeros_text)
rem.misuse = div.misuse

square = unary(
    "square", np.square, lambda b, x: b.multiply(x, x), lambda ctx, t, x: mul(t, add(x, x)), NUMBER
)


def trunc(x):
    """Round towards zero."""
    return select(lt(x, zeros_like(x)), ceil(x), floor(x))


def extremum_weight(x, y, out):
    """Share of the tangent that `x` gets in max or min: one, zero, or half where both are equal."""
    won, tied = full_like(out, 1), full_like(out, 0.5)
    return select(eq(x, out), select(eq(y, out), tied, won), zeros_like(out))


def _extremum(name: str, ufunc: np.ufunc, direction: str) -> Op:
    def lower(b, x, y):
        if x.aval.dtype not in COMPLEX:
            return b.op(f"{name}imum", x, y, out=x.aval)
        # Complex numbers compare by real part, then by imaginary part; NaN wins, as in NumPy.
        real_equal = b.compare(b.real(x), b.real(y), "EQ")
        first = b.select(
            real_equal,
            b.compare(b.imag(x), b.imag(y), direction),
            b.compare(b.real(x), b.real(y), direction),
        )
        first = b.and_(first, b.compare(y, y, "EQ"))
        return b.select(b.or_(first, b.compare(x, x, "NE")), x, y)

    jvp = (
        lambda ctx, t, x, y: mul(t, extremum_weight(x, y, ctx.out)),
        lambda ctx, t, x, y: mul(t, extremum_weight(y, x, ctx.out)),
    )
    return binary(name, ufunc, lower, jvp, ALL)


max = _extremum("max", np.maximum, "GT")
min = _extremum("min", np.minimum, "LT")


# -- signs, rounding, parts of numbers ------------------------------------------------------------


def _sign_reference(x):
    if dtypes.kind(x.dtype) == "f":
        return np.where((x == 0) | (x != x), x, np.sign(x)).astype(x.dtype)  # keeps -0, as XLA does
    return np.sign(x)


def _abs_jvp(ctx, t, x):
    if not _is_complex(x):
        return mul(t, sign(x))
    size = select(eq(ctx.out, zeros_like(ctx.out)), full_like(ctx.out, 1), ctx.out)
    return div(add(mul(real(t), real(x)), mul(imag(t), imag(x))), size)


abs = unary(
    "abs",
    np.absolute,
    lambda b, x: (
        b.complex_abs(x)
        if x.aval.dtype in COMPLEX
        else x
        if x.aval.dtype in dtypes.UNSIGNED
        else b.abs(x)
    ),
    _abs_jvp,
    NUMBER,
    out=dtypes.real_dtype,
)


def _sign_jvp(ctx, t, x):
    if not _is_complex(x):
        return None
    # Only the turning part of the tangent changes x / |x|: i s Im(t conj(s)) / |x|.
    size = abs(x)
    size = select(eq(size, zeros_like(size)), full_like(size, 1), size)
    turn = div(imag(mul(t, conj(ctx.out))), size)
    return mul(ctx.out, complex(zeros_like(turn), turn))


sign = unary(
    "sign",
    _sign_reference,
    lambda b, x: (
        b.op("sign", x)
        if x.aval.dtype not in dtypes.UNSIGNED
        else b.convert(b.compare(x, b.full(0, x.aval), "NE"), x.aval.dtype)
    ),
    _sign_jvp,
    NUMBER,
)
floor = unary("floor", np.floor, "floor", zero_tangent, FLOAT)
ceil = unary("ceil", np.ceil, "ceil", zero_tangent, FLOAT)
is_finite = unary(
    "is_finite", np.isfinite, "is_finite", zero_tangent, FLOAT, out=lambda d: np.dtype(bool)
)


def _round_reference(x, *, method="even"):
    if method == "even":
        return np.rint(x)
    whole = np.trunc(x)
    away = np.abs(x - whole) >= np.asarray(0.5, x.dtype)
    return np.where(
        away, whole + np.copysign(np.asarray(1, x.dtype), x), np.copysign(whole, x)
    ).astype(x.dtype)


def _round_lower(b, x, *, method="even"):
    return b.round_nearest_even(x) if method == "even" else b.round_nearest_afz(x)


round = unary("round", _round_reference, _round_lower, zero_tangent, FLOAT)

real = unary(
    "real",
    np.real,
    "real",
    linear,
    COMPLEX,
    out=dtypes.real_dtype,
    transpose=lambda ct, x: complex(ct, zeros_like(ct)),
)
imag = unary(
    "imag",
    np.imag,
    "imag",
    linear,
    COMPLEX,
    out=dtypes.real_dtype,
    transpose=lambda ct, x: complex(zeros_like(ct), neg(ct)),
)
conj: Op = unary(
    "conj",
    np.conjugate,
    lambda b, x: b.complex(b.real(x), b.negate(b.imag(x))),
    linear,
    COMPLEX,
    transpose=lambda ct, x: conj(ct),
)


def _complex_reference(x, y):
    out = np.empty(x.shape, dtypes.complex_dtype(x.dtype))
    out.real, out.imag = x, y
    return out


complex: Op = binary(
    "complex",
    _complex_reference,
    "complex",
    linear,
    (dtypes.float32, dtypes.float64),
    out=dtypes.complex_dtype,
    transpose=lambda ct, x, y: (
        real(ct) if is_undefined(x) else None,
        neg(imag(ct)) if is_undefined(y) else None,
    ),
)

# -- exponentials, powers -------------------------------------------------------------------------


def _logistic_reference(x):
    one = np.ones((), x.dtype)
    return one / (one + np.exp(-x))


def _pow_reference(x, y):
    if dtypes.kind(x.dtype) not in "iu":
        return np.power(x, y)
    return _integer_power(x, y)


def _integer_power(x, y):
    """Wrapping powers of integers; with a negative exponent 0, unless the base is 1 or -1."""
    negative = y < 0
    out, base, left = np.ones_like(x), x, np.where(negative, y & 1, y).astype(x.dtype)
    while left.any():
        out = np.where(left & 1, out * base, out).astype(x.dtype)
        base, left = base * base, left >> 1
    return np.where(
        negative & (x != 1) & (x != -1 if dtypes.kind(x.dtype) == "i" else True), 0, out
    ).astype(x.dtype)


def _on_one_side(ufunc: np.ufunc):
    """A reference that, as XLA, takes branch cuts from one side whatever the sign of a zero."""
    return lambda x: ufunc(x + 0) if x.dtype.kind == "c" else ufunc(x)


exp = unary("exp", np.exp, "exponential", lambda ctx, t, x: mul(t, ctx.out))


def _exp2_lower(b, x):
    if x.aval.dtype in HALF:  # the product rounded to 16 bits would be far from the power
        return b.convert(_exp2_lower(b, b.convert(x, dtypes.float32)), x.aval.dtype)
    return b.exponential(b.multiply(x, b.full(math.log(2), x.aval)))


exp2 = unary(
    "exp2",
    np.exp2,
    _exp2_lower,
    lambda ctx, t, x: mul(t, mul(ctx.out, full_like(x, math.log(2)))),
)
log = unary("log", np.log, "log", lambda ctx, t, x: div(t, x))
expm1 = unary(
    "expm1",
    np.expm1,
    "exponential_minus_one",
    lambda ctx, t, x: mul(t, add(ctx.out, full_like(x, 1))),
)
log1p = unary("log1p", np.log1p, "log_plus_one", lambda ctx, t, x: div(t, add(x, full_like(x, 1))))
sqrt = unary(
    "sqrt", _on_one_side(np.sqrt), "sqrt", lambda ctx, t, x: div(mul(t, full_like(x, 0.5)), ctx.out)
)
rsqrt = unary(
    "rsqrt",
    via_float32(lambda x: np.ones((), x.dtype) / np.sqrt(x)),
    "rsqrt",
    lambda ctx, t, x: mul(t, mul(full_like(x, -0.5), div(ctx.out, x))),
)
cbrt = unary(
    "cbrt", np.cbrt, "cbrt", lambda ctx, t, x: div(mul(t, ctx.out), mul(x, full_like(x, 3))), FLOAT
)
logistic = unary(
    "logistic",
    via_float32(_logistic_reference),
    "logistic",
    lambda ctx, t, x: mul(t, mul(ctx.out, sub(full_like(x, 1), ctx.out))),
)


def _pow_jvp_x(ctx, t, x, y):
    # Not y * out / x, which is NaN at x = 0; and d(x**0) is zero everywhere.
    exponent = select(eq(y, zeros_like(y)), full_like(y, 1), sub(y, full_like(y, 1)))
    return mul(t, mul(y, pow(x, exponent)))


def _pow_jvp_y(ctx, t, x, y):
    # At x = 0 the limit of log(x) x**y is 0 for y > 0.
    zero = eq(x, zeros_like(x))
    base = select(zero, full_like(x, 1), x)
    return mul(t, mul(log(base), ctx.out))


pow = binary("pow", _pow_reference, "power", (_pow_jvp_x, _pow_jvp_y))


def _repeated(x, y: int, times, invert):
    """`x` to the integer power `y` by squaring; None for the power zero."""
    out, left = None, -y if y < 0 else y
    while left:
        if left & 1:
            out = x if out is None else times(out, x)
        left >>= 1
        if left:
            x = times(x, x)
    return invert(out) if y < 0 else out


def _integer_pow_abstract(x, *, y):
    check_dtype("integer_pow", "x", x, NUMBER)
    if y < 0 and dtypes.is_integer(x.dtype):
        raise TypeError(
            f"integer_pow: {x} to the power {y} is not an integer; convert first, for example "
            f"x.astype('float32') ** {y}"
        )
    return x


def _integer_pow_reference(x, *, y):
    if y == 0:
        return np.ones_like(x)
    return _repeated(x, y, np.multiply, lambda v: np.ones((), x.dtype) / v)


def _integer_pow_lower(b, x, *, y):
    if y == 0:
        return b.full(1, x.aval)
    return _repeated(x, y, b.multiply, lambda v: b.divide(b.full(1, x.aval), v))


def _integer_pow_jvp(ctx, t, x, *, y):
    if y == 0:
        return None
    return mul(t, mul(full_like(x, y), integer_pow(x, y=y - 1)))


integer_pow: Op = Op(
    "integer_pow",
    abstract=_integer_pow_abstract,
    reference=_integer_pow_reference,
    lower=_integer_pow_lower,
    jvp=(_integer_pow_jvp,),
    transpose=Unsupported("integer_pow is not linear"),
    batch=lambda size, x, batched, *, y: (integer_pow(x[0], y=y), True),
)

# -- trigonometric and hyperbolic -----------------------------------------------------------------


def _one_minus_square(x):
    return sub(full_like(x, 1), square(x))


def _one_plus_square(x):
    return add(full_like(x, 1), square(x))


sin = unary("sin", np.sin, "sine", lambda ctx, t, x: mul(t, cos(x)))
cos: Op = unary("cos", np.cos, "cosine", lambda ctx, t, x: neg(mul(t, sin(x))))
tan = unary("tan", np.tan, "tan", lambda ctx, t, x: mul(t, _one_plus_square(ctx.out)))
asin = unary(
    "asin", _on_one_side(np.arcsin), "asin", lambda ctx, t, x: mul(t, rsqrt(_one_minus_square(x)))
)
acos = unary(
    "acos",
    _on_one_side(np.arccos),
    "acos",
    lambda ctx, t, x: neg(mul(t, rsqrt(_one_minus_square(x)))),
)
atan = unary("atan", np.arctan, "atan", lambda ctx, t, x: div(t, _one_plus_square(x)))
sinh = unary("sinh", np.sinh, "sinh", lambda ctx, t, x: mul(t, cosh(x)))
cosh: Op = unary("cosh", np.cosh, "cosh", lambda ctx, t, x: mul(t, sinh(x)))
tanh = unary("tanh", np.tanh, "tanh", lambda ctx, t, x: mul(t, _one_minus_square(ctx.out)))
asinh = unary(
    "asinh", _on_one_side(np.arcsinh), "asinh", lambda ctx, t, x: mul(t, rsqrt(_one_plus_square(x)))
)
acosh = unary(
    "acosh",
    _on_one_side(np.arccosh),
    "acosh",
    lambda ctx, t, x: mul(t, mul(rsqrt(sub(x, full_like(x, 1))), rsqrt(add(x, full_like(x, 1))))),
)
atanh = unary("atanh", np.arctanh, "atanh", lambda ctx, t, x: div(t, _one_minus_square(x)))
atan2 = binary(
    "atan2",
    np.arctan2,
    "atan2",
    (
        lambda ctx, t, x, y: mul(t, div(y, add(square(x), square(y)))),
        lambda ctx, t, x, y: mul(t, div(neg(x), add(square(x), square(y)))),
    ),
    FLOAT,
)
nextafter = binary("nextafter", np.nextafter, "next_after", zero_tangent, FLOAT)
