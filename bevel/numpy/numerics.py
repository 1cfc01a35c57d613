"""Elementwise functions with more to them than one op: rounding, tests, parts of complex numbers,
clipping, closeness, and the integer parts of floats.
"""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

import bevel.ops as ops
from bevel.control.while_loop import while_loop
from bevel.core import dtypes
from bevel.core.aval import aval_of
from bevel.core.dtypes import UNSIGNED, bool_, float32, int32
from bevel.core.graph import trace
from bevel.core.handle import Handle, KeyTag, logical_shape, wrap
from bevel.core.interpreter import EAGER, state
from bevel.numpy.arguments import cast, known
from bevel.numpy.convert import enter, numbers, promote
from bevel.numpy.elementwise import const, dtype_of, is_int, sign_bit
from bevel.numpy.families import named

# -- rounding --------------------------------------------------------------------------------------


def _whole(name: str, op: Any, doc: str, example: str) -> Any:
    def whole(x, /):
        (v,), tag = numbers(name, (x,))
        return wrap(v if is_int(v) or v.dtype == bool_ else op(v), tag)

    text = f"{doc}\n\n`x`: real numbers of any shape; integers and bools are returned as they are."
    return named(whole, name, f"{text}\n\n>>> bnp.{name}(bnp.array([-1.5, 1.5]))\n{example}\n")


floor = _whole(
    "floor", ops.floor, "The largest whole number not above x.", "Array([-2.,  1.], dtype=float32)"
)
ceil = _whole(
    "ceil", ops.ceil, "The smallest whole number not below x.", "Array([-1.,  2.], dtype=float32)"
)
trunc = _whole(
    "trunc", ops.trunc, "The whole part, rounded towards zero.", "Array([-1.,  1.], dtype=float32)"
)
fix = trunc


def rint(x: Any, /) -> Any:
    """The nearest whole number, halves to the even one; integers become float32.

    >>> bnp.rint(bnp.array([0.5, 1.5, -0.7]))
    Array([ 0.,  2., -1.], dtype=float32)
    """
    (v,), tag = numbers("rint", (x,), inexact=True)
    return wrap(_rounded(v), tag)


def _rounded(v: Any) -> Any:
    if dtypes.is_complex(v.dtype):
        return ops.complex(_rounded(ops.real(v)), _rounded(ops.imag(v)))
    return ops.round(v, method="even")


def round(a: Any, decimals: int = 0, out: None = None) -> Any:
    """`a` rounded to a number of decimals, halves to the even digit; negative `decimals` round to
    tens and so on.

    The dtype is kept.

    >>> bnp.round(bnp.array([1.234, 2.5]), 1), bnp.round(bnp.array([15, 25]), -1)
    (Array([1.2, 2.5], dtype=float32), Array([20, 20], dtype=int32))
    """
    (v,), tag = numbers("round", (a,))
    if is_int(v) or v.dtype == bool_:
        return wrap(
            v if decimals >= 0 or v.dtype == bool_ else _rounded_integer(v, 10**-decimals), tag
        )
    return wrap(_rounded(v) if decimals == 0 else _rounded_decimal(v, decimals), tag)


# XLA multiplies by the inverse of a constant, which can miss the nearest decimal; twice the digits
# hide it.
_TWICE = {
    dtypes.float16: float32,
    dtypes.bfloat16: float32,
    float32: dtypes.float64,
    dtypes.float64: dtypes.float64,
}


def _rounded_decimal(v: Any, decimals: int) -> Any:
    if dtypes.is_complex(v.dtype):
        return ops.complex(
            _rounded_decimal(ops.real(v), decimals), _rounded_decimal(ops.imag(v), decimals)
        )
    unit = 10.0 ** builtins.abs(decimals)
    scaled = ops.mul(v, const(v, unit)) if decimals > 0 else ops.div(v, const(v, unit))
    whole = cast(_rounded(scaled), _TWICE[v.dtype])
    back = (
        ops.div(whole, const(whole, unit)) if decimals > 0 else ops.mul(whole, const(whole, unit))
    )
    return ops.select(ops.is_finite(scaled), cast(back, v.dtype), v)


around = round


def _rounded_integer(v: Any, unit: int) -> Any:
    if unit > 2 * np.iinfo(v.dtype).max:
        return const(v, 0)
    if unit > np.iinfo(v.dtype).max:  # half of it may still fit
        wide = dtypes.int64 if v.dtype.itemsize < 8 else v.dtype
        if wide == v.dtype:
            return const(v, 0)
        return ops.convert(_rounded_integer(ops.convert(v, dtype=wide), unit), dtype=v.dtype)
    u = const(v, unit)
    rest = ops.rem(v, u)
    if v.dtype not in UNSIGNED:
        rest = ops.select(ops.lt(rest, const(v, 0)), ops.add(rest, u), rest)
    low = ops.sub(v, rest)
    half = ops.sub(u, rest)  # compares with rest without overflow
    odd = ops.eq(ops.and_(ops.div(low, u), const(v, 1)), const(v, 1))
    up = ops.or_(ops.gt(rest, half), ops.and_(ops.eq(rest, half), odd))
    return ops.select(up, ops.add(low, u), low)


# -- tests -----------------------------------------------------------------------------------------


def _test(name: str, on_float: Any, on_others: bool, doc: str, example: str) -> Any:
    def test(x, /):
        (v,), _ = numbers(name, (x,))
        if dtypes.is_complex(v.dtype):
            join = ops.and_ if on_others else ops.or_
            return wrap(join(on_float(ops.real(v)), on_float(ops.imag(v))))
        return wrap(on_float(v) if dtypes.is_float(v.dtype) else ops.full_like(v, on_others, bool_))

    text = f"{doc}\n\n`x`: numbers of any shape; the result is bool."
    call = f">>> bnp.{name}(bnp.array([1.0, bnp.nan, -bnp.inf]))"
    return named(test, name, f"{text}\n\n{call}\n{example}\n")


def _is_infinite(v: Any, sign: int) -> Any:
    return ops.eq(v, const(v, sign * math.inf))


isnan = _test(
    "isnan",
    lambda v: ops.ne(v, v),
    False,
    "Whether it is NaN.",
    "Array([False,  True, False], dtype=bool)",
)
isfinite = _test(
    "isfinite",
    ops.is_finite,
    True,
    "Whether it is neither infinite nor NaN.",
    "Array([ True, False, False], dtype=bool)",
)
isinf = _test(
    "isinf",
    lambda v: _is_infinite(ops.abs(v), 1),
    False,
    "Whether it is an infinity.",
    "Array([False, False,  True], dtype=bool)",
)
isposinf = _test(
    "isposinf",
    lambda v: _is_infinite(v, 1),
    False,
    "Whether it is +inf.",
    "Array([False, False, False], dtype=bool)",
)
isneginf = _test(
    "isneginf",
    lambda v: _is_infinite(v, -1),
    False,
    "Whether it is -inf.",
    "Array([False, False,  True], dtype=bool)",
)


def iscomplex(x: Any, /) -> Any:
    """Whether the imaginary part is not zero.

    >>> bnp.iscomplex(bnp.array([1 + 1j, 2]))
    Array([ True, False], dtype=bool)
    """
    v = imag(x)._v
    return wrap(ops.ne(v, const(v, 0)))


def isreal(x: Any, /) -> Any:
    """Whether the imaginary part is zero.

    >>> bnp.isreal(bnp.array([1 + 1j, 2]))
    Array([False,  True], dtype=bool)
    """
    v = imag(x)._v
    return wrap(ops.eq(v, const(v, 0)))


def iscomplexobj(x: Any) -> bool:
    """Whether the dtype is complex.

    >>> bnp.iscomplexobj(bnp.ones(2)), bnp.iscomplexobj(1j)
    (False, True)
    """
    return x is not None and dtypes.is_complex(dtype_of(x))


def isrealobj(x: Any) -> bool:
    """Whether the dtype is not complex.

    >>> bnp.isrealobj(bnp.ones(2))
    True
    """
    return not iscomplexobj(x)


def isscalar(element: Any) -> bool:
    """Whether it is a number: a Python one, or a 0-d array.

    >>> bnp.isscalar(3.0), bnp.isscalar(bnp.float32(3)), bnp.isscalar([3.0])
    (True, True, False)
    """
    if isinstance(element, Handle):
        return logical_shape(element) == ()
    return np.isscalar(element) or (isinstance(element, np.ndarray) and element.ndim == 0)


# -- complex numbers -------------------------------------------------------------------------------


def real(val: Any, /) -> Any:
    """Real part; real numbers are returned as they are.

    >>> bnp.real(bnp.array([1 + 2j]))
    Array([1.], dtype=float32)
    """
    (v,), tag = numbers("real", (val,))
    return wrap(ops.real(v) if dtypes.is_complex(v.dtype) else v, tag)


def imag(val: Any, /) -> Any:
    """Imaginary part; zero for real numbers.

    >>> bnp.imag(bnp.array([1 + 2j]))
    Array([2.], dtype=float32)
    """
    (v,), tag = numbers("imag", (val,))
    return wrap(ops.imag(v) if dtypes.is_complex(v.dtype) else const(v, 0), tag)


def conj(x: Any, /) -> Any:
    """Complex conjugate; real numbers are returned as they are.

    >>> bnp.conj(bnp.array([1 + 2j]))
    Array([1.-2.j], dtype=complex64)
    """
    (v,), tag = numbers("conj", (x,))
    return wrap(ops.conj(v) if dtypes.is_complex(v.dtype) else v, tag)


conjugate = conj


def angle(z: Any, deg: bool = False) -> Any:
    """Argument of a complex number, in radians (or degrees) between -pi and pi.

    >>> bnp.angle(bnp.array([1j, -1.0]))
    Array([1.5707964, 3.1415927], dtype=float32)
    """
    (v,), tag = numbers("angle", (z,), inexact=True)
    if dtypes.is_complex(v.dtype):
        out = ops.atan2(ops.imag(v), ops.real(v))
    else:
        out = ops.select(sign_bit(v), const(v, math.pi), const(v, 0))
        out = ops.select(ops.ne(v, v), v, out)
    return wrap(ops.mul(out, const(out, 180 / math.pi)) if deg else out, tag)


# -- limits ----------------------------------------------------------------------------------------


def _bound(x: Any, bound: Any) -> Any:
    """A bound of `clip`; a Python integer beyond the array's integer dtype is moved to its
    limit.
    """
    dtype = dtype_of(x)
    if type(bound) is int and dtypes.is_integer(dtype):
        info = np.iinfo(dtype)
        return builtins.min(builtins.max(bound, int(info.min)), int(info.max))
    return bound


def clip(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:
    """`a` limited to the range from `a_min` to `a_max` (or `min`, `max`); None is no limit.

    Operands are broadcast together and promoted. NaN stays NaN; where the lower limit is above the
    upper one, the upper one is the result.

    >>> bnp.clip(bnp.arange(5), 1, 3)
    Array([1, 1, 2, 3, 3], dtype=int32)
    """
    low, high = (a_min if min is None else min), (a_max if max is None else max)
    if low is None and high is None:
        (v,), tag = numbers("clip", (a,))
        return wrap(v, tag)
    if low is not None and high is not None:
        (x, lo, hi), tag = numbers("clip", (a, _bound(a, low), _bound(a, high)))
        return wrap(ops.min(ops.max(x, lo), hi), tag)
    op, bound = (ops.max, low) if high is None else (ops.min, high)
    (x, b), tag = numbers("clip", (a, _bound(a, bound)))
    return wrap(op(x, b), tag)


def nan_to_num(
    x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None
) -> Any:
    """NaN replaced by `nan`, infinities by the largest and lowest finite numbers or what is given.

    >>> bnp.nan_to_num(bnp.array([bnp.nan, bnp.inf]), posinf=9.0)
    Array([0., 9.], dtype=float32)
    """
    (v,), tag = numbers("nan_to_num", (x,))
    if not dtypes.is_inexact(v.dtype):
        return wrap(v, tag)
    if dtypes.is_complex(v.dtype):
        parts = [
            nan_to_num(wrap(p), copy, nan, posinf, neginf)._v for p in (ops.real(v), ops.imag(v))
        ]
        return wrap(ops.complex(*parts), tag)
    info = dtypes.finfo(v.dtype)
    shape = tuple(v.shape)
    for where, number, default in (
        (ops.ne(v, v), nan, 0.0),
        (_is_infinite(v, 1), posinf, info.max),
        (_is_infinite(v, -1), neginf, info.min),
    ):
        number = enter(default if number is None else number, v.dtype)
        (wide, _), _ = numbers("nan_to_num", (number, wrap(v)))
        if tuple(wide.shape) != shape:
            raise ValueError(
                f"nan_to_num: a replacement of shape {logical_shape(number)} does not fit into "
                f"{shape}"
            )
        v = ops.select(where, wide, v)
    return wrap(v, tag)


# -- closeness -------------------------------------------------------------------------------------


def isclose(a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: bool = False) -> Any:
    """Whether |a - b| <= atol + rtol * |b|; infinities are close to themselves only, NaN to nothing
    by default.

    Operands are broadcast together and promoted; the result is bool.

    >>> bnp.isclose(bnp.array([1.0, 2.0]), bnp.array([1.0 + 1e-6, 2.1]))
    Array([ True, False], dtype=bool)
    """
    (x, y), _ = numbers("isclose", (a, b))
    if not dtypes.is_inexact(x.dtype):
        (x, y), _ = numbers("isclose", (a, b), inexact=True)
    gap, size = ops.abs(ops.sub(x, y)), ops.abs(y)
    (_, r, t), _ = numbers(
        "isclose", (wrap(size), enter(rtol, size.dtype), enter(atol, size.dtype))
    )
    close = ops.le(gap, ops.add(t, ops.mul(r, size)))
    close = ops.and_(close, ops.and_(_finite(x), _finite(y)))
    close = ops.or_(close, ops.eq(x, y))
    if equal_nan:
        close = ops.or_(close, ops.and_(ops.ne(x, x), ops.ne(y, y)))
    return wrap(close)


def _finite(v: Any) -> Any:
    return isfinite(wrap(v))._v


def _all(v: Any) -> Any:
    return wrap(ops.reduce_and(v, axes=tuple(range(len(v.shape)))))


def allclose(a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: bool = False) -> Any:
    """Whether all elements are close, as `isclose` says; a 0-d bool array.

    >>> bool(bnp.allclose(bnp.ones(3), 1.0))
    True
    """
    return _all(isclose(a, b, rtol, atol, equal_nan)._v)


def _equal_nan(x: Any, y: Any) -> Any:
    same = ops.eq(x, y)
    return (
        ops.or_(same, ops.and_(ops.ne(x, x), ops.ne(y, y))) if dtypes.is_inexact(x.dtype) else same
    )


def array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> Any:
    """Whether two arrays have the same shape and elements; a 0-d bool array. Random keys are taken
    too.

    >>> bool(bnp.array_equal(bnp.arange(3), bnp.array([0, 1, 2])))
    True
    """
    one, other = enter(a1), enter(a2)
    if logical_shape(one) != logical_shape(other) or (type(one._tag) is KeyTag) != (
        type(other._tag) is KeyTag
    ):
        return wrap(np.asarray(False))
    (x, y), _ = promote(one, other)
    return _all(_equal_nan(x, y) if equal_nan else ops.eq(x, y))


def array_equiv(a1: Any, a2: Any) -> Any:
    """Whether two arrays are equal after broadcasting; a 0-d bool array.

    >>> bool(bnp.array_equiv(bnp.ones((2, 3)), 1.0))
    True
    """
    try:
        np.broadcast_shapes(logical_shape(enter(a1)), logical_shape(enter(a2)))
    except ValueError:
        return wrap(np.asarray(False))
    (x, y), _ = numbers("array_equiv", (a1, a2))
    return _all(ops.eq(x, y))


# -- integers and the parts of floats --------------------------------------------------------------


def _euclid(x: Any, y: Any) -> Any:
    """Greatest common divisors of non-negative values."""
    if state.current is EAGER:
        one, other = known(x), known(y)
        if one is not None and other is not None:
            return np.asarray(np.gcd(one, other))

    def step(c, d):
        done = ops.eq(d, const(d, 0))
        return ops.select(done, c, d), ops.select(
            done, d, ops.rem(c, ops.select(done, const(d, 1), d))
        )

    def going(c, d):
        return [ops.reduce_or(ops.ne(d, const(d, 0)), axes=tuple(range(len(d.shape))))]

    avals = [aval_of(x), aval_of(y)]
    cond, body = trace(going, avals, "gcd")[0], trace(step, avals, "gcd")[0]
    return while_loop(x, y, cond=cond, body=body, n_cond=0, n_body=0)[0]


def _magnitudes(name: str, x1: Any, x2: Any) -> tuple[Any, Any, Any]:
    (x, y), tag = numbers(name, (x1, x2))
    if not is_int(x):
        raise TypeError(
            f"{name}: it takes integers, got {x.dtype.name}.\nWrite instead: x.astype(int)."
        )
    return ops.abs(x), ops.abs(y), tag


def gcd(x1: Any, x2: Any, /) -> Any:
    """Greatest common divisor of integers, not negative; that of 0 and 0 is 0.

    >>> bnp.gcd(bnp.array([12, 7, 0]), 18)
    Array([ 6,  1, 18], dtype=int32)
    """
    a, b, tag = _magnitudes("gcd", x1, x2)
    return wrap(_euclid(a, b), tag)


def lcm(x1: Any, x2: Any, /) -> Any:
    """Least common multiple of integers, not negative; 0 if either is 0.

    >>> bnp.lcm(bnp.array([4, 0]), 6)
    Array([12,  0], dtype=int32)
    """
    a, b, tag = _magnitudes("lcm", x1, x2)
    found = _euclid(a, b)
    nothing = ops.eq(found, const(found, 0))
    out = ops.mul(ops.div(a, ops.select(nothing, const(a, 1), found)), b)
    return wrap(ops.select(nothing, const(a, 0), out), tag)


# Of each floating dtype: bits of the fraction, and the bias of the exponent.
_LAYOUT = {dtypes.float32: (23, 127), dtypes.float64: (52, 1023)}


def _integer_like(v: Any) -> np.dtype:
    return np.dtype(f"int{8 * v.dtype.itemsize}")


def _power_of_two(exponent: Any, dtype: np.dtype) -> Any:
    """2 to an integer power within the normal range, exactly."""
    bits, bias = _LAYOUT[dtype]
    shifted = ops.shift_left(ops.add(exponent, const(exponent, bias)), const(exponent, bits))
    return ops.bitcast(shifted, dtype=dtype)


def _times_power_of_two(v: Any, n: Any) -> Any:
    """`v * 2**n` for integers `n` of the width of `v`, in three exact factors so that no step
    overflows early.
    """
    bits, bias = _LAYOUT[v.dtype]
    reach = 2 * (bias + bits)
    n = ops.min(ops.max(n, const(n, -reach)), const(n, reach))
    third = ops.div(n, const(n, 3))
    rest = ops.sub(n, ops.add(third, third))
    for factor in (third, third, rest):
        v = ops.mul(v, _power_of_two(factor, v.dtype))
    return v


def _computed_wide(v: Any) -> Any:
    return v if v.dtype in _LAYOUT else ops.convert(v, dtype=float32)


def ldexp(x1: Any, x2: Any, /) -> Any:
    """Each `x1` times 2 to the power `x2`, an integer.

    >>> bnp.ldexp(bnp.array([0.5, 3.0]), bnp.array([4, -1]))
    Array([8. , 1.5], dtype=float32)
    """
    if not dtypes.is_integer(dtype_of(x2)):
        raise TypeError(
            f"ldexp: x2 must be integers, got {dtype_of(x2).name}.\nWrite instead: x1 * 2.0**x2."
        )
    (v,), _ = numbers("ldexp", (x1,), inexact=True)
    n = enter(x2)._v
    (shaped, _), _ = numbers("ldexp", (wrap(v), wrap(ops.full_like(n, 0, v.dtype))))
    (_, count), _ = numbers("ldexp", (wrap(ops.full_like(v, 0, n.dtype)), wrap(n)))
    wide = _computed_wide(shaped)
    out = _times_power_of_two(wide, ops.convert(count, dtype=_integer_like(wide)))
    return wrap(ops.convert(out, dtype=v.dtype) if out.dtype != v.dtype else out)


def frexp(x: Any, /) -> tuple[Any, Any]:
    """Mantissa in [0.5, 1) and int32 exponent: `x == mantissa * 2**exponent`; 0, infinities and NaN
    have exponent 0.

    >>> bnp.frexp(bnp.array([8.0, -0.75]))
    (Array([ 0.5 , -0.75], dtype=float32), Array([4, 0], dtype=int32))
    """
    (v,), tag = numbers("frexp", (x,), inexact=True)
    if dtypes.is_complex(v.dtype):
        raise TypeError(
            "frexp: complex numbers are not taken.\nWrite instead: bnp.frexp of x.real and x.imag."
        )
    wide = _computed_wide(v)
    bits, bias = _LAYOUT[wide.dtype]
    whole = _integer_like(wide)
    tiny = ops.lt(
        ops.abs(wide), const(wide, 2.0 ** (1 - bias))
    )  # subnormal: scaled into the normal range first
    normal = ops.select(tiny, ops.mul(wide, const(wide, 2.0**bits)), wide)
    pattern = ops.bitcast(normal, dtype=whole)
    field = ops.and_(
        ops.shift_right_arithmetic(pattern, const(pattern, bits)), const(pattern, 2 * bias + 1)
    )
    exponent = ops.sub(
        field, ops.select(tiny, const(field, bias - 1 + bits), const(field, bias - 1))
    )
    plain = ops.and_(ops.is_finite(wide), ops.ne(wide, const(wide, 0)))
    exponent = ops.select(plain, exponent, const(exponent, 0))
    mantissa = _times_power_of_two(wide, ops.neg(exponent))
    if mantissa.dtype != v.dtype:
        mantissa = ops.convert(mantissa, dtype=v.dtype)
    return wrap(mantissa, tag), wrap(
        ops.convert(exponent, dtype=int32) if whole != int32 else exponent
    )


def spacing(x: Any, /) -> Any:
    """Distance to the next float away from zero.

    >>> float(bnp.spacing(bnp.float32(1)))
    1.1920928955078125e-07
    """
    (v,), tag = numbers("spacing", (x,), inexact=True)
    away = ops.select(sign_bit(v), const(v, -math.inf), const(v, math.inf))
    return wrap(ops.sub(ops.nextafter(v, away), v), tag)


def i0(x: Any) -> Any:
    """Modified Bessel function of the first kind, order 0.

    >>> bnp.i0(bnp.array([0.0]))
    Array([1.], dtype=float32)
    """
    (v,), tag = numbers("i0", (x,), inexact=True)
    return wrap(ops.mul(ops.exp(ops.abs(v)), ops.bessel_i0e(v)), tag)
