"""Functions of angles, of each element: circular and hyperbolic functions and their inverses."""

from __future__ import annotations

import math
from typing import Any

import bevel.ops as ops
from bevel.core import dtypes
from bevel.core.handle import wrap
from bevel.numpy.convert import numbers
from bevel.numpy.elementwise import const
from bevel.numpy.families import FAST_FLOAT, binary, named, unary

_ZERO = "(bnp.array([0.0]))\nArray([{}], dtype=float32)"


def _circular(name: str, op: Any, doc: str, at_zero: str = "0.") -> Any:
    return unary(name, op, doc, f">>> bnp.{name}{_ZERO.format(at_zero)}")


sin = _circular("sin", ops.sin, "Sine of an angle in radians.")
cos = _circular("cos", ops.cos, "Cosine of an angle in radians.", "1.")
tan = _circular("tan", ops.tan, "Tangent of an angle in radians.")
arcsin = _circular("arcsin", ops.asin, "Inverse sine, between -pi/2 and pi/2; NaN outside [-1, 1].")
arccos = _circular(
    "arccos", ops.acos, "Inverse cosine, between 0 and pi; NaN outside [-1, 1].", "1.5707964"
)
arctan = _circular("arctan", ops.atan, "Inverse tangent, between -pi/2 and pi/2.")
sinh = _circular("sinh", ops.sinh, "Hyperbolic sine.")
cosh = _circular("cosh", ops.cosh, "Hyperbolic cosine.", "1.")
tanh = _circular("tanh", ops.tanh, "Hyperbolic tangent.")
arcsinh = _circular("arcsinh", ops.asinh, "Inverse hyperbolic sine.")
arccosh = _circular("arccosh", ops.acosh, "Inverse hyperbolic cosine; NaN below 1.", "nan")
arctanh = _circular("arctanh", ops.atanh, "Inverse hyperbolic tangent; NaN outside [-1, 1].")
asin, acos, atan = arcsin, arccos, arctan
asinh, acosh, atanh = arcsinh, arccosh, arctanh
arctan2 = binary(
    "arctan2",
    ops.atan2,
    "Angle of the point (x2, x1) in radians, between -pi and pi.",
    ">>> bnp.arctan2(bnp.array([1.0, 0.0]), bnp.array([0.0, -1.0]))\nArray([1.5707964, "
    "3.1415927], dtype=float32)",
    inexact=True,
    quick=ops.atan2,
    fast=FAST_FLOAT,
)
atan2 = arctan2


def _hypot(x, y):
    if dtypes.is_complex(x.dtype):
        raise TypeError(
            "hypot: complex numbers are not taken.\nWrite instead: bnp.hypot(bnp.abs(x), "
            "bnp.abs(y))."
        )
    x, y = ops.abs(x), ops.abs(y)
    large, small = ops.max(x, y), ops.min(x, y)
    plain = ops.and_(ops.ne(large, const(x, 0)), ops.is_finite(large))
    ratio = ops.div(ops.select(plain, small, const(x, 0)), ops.select(plain, large, const(x, 1)))
    out = ops.mul(large, ops.sqrt(ops.add(const(x, 1), ops.square(ratio))))
    infinite = const(x, math.inf)
    return ops.select(ops.or_(ops.eq(x, infinite), ops.eq(y, infinite)), infinite, out)


hypot = binary(
    "hypot",
    _hypot,
    "Length of the vector (x1, x2), without overflow.",
    ">>> bnp.hypot(bnp.array([3.0, 3e30]), bnp.array([4.0, 4e30]))\nArray([5.e+00, 5.e+30], "
    "dtype=float32)",
    inexact=True,
)


def _scaled(name: str, factor: float, doc: str, example: str) -> Any:
    def scaled(x, /):
        (v,), tag = numbers(name, (x,), inexact=True)
        return wrap(ops.mul(v, const(v, factor)), tag)

    return named(scaled, name, f"{doc}\n\n`x`: real numbers of any shape.\n\n{example}\n")


deg2rad = _scaled(
    "deg2rad",
    math.pi / 180,
    "Degrees as radians.",
    ">>> bnp.deg2rad(bnp.array([180]))\nArray([3.1415927], dtype=float32)",
)
rad2deg = _scaled(
    "rad2deg",
    180 / math.pi,
    "Radians as degrees.",
    ">>> bnp.rad2deg(bnp.array([bnp.pi]))\nArray([180.], dtype=float32)",
)
radians, degrees = deg2rad, rad2deg


def sinc(x: Any, /) -> Any:
    """sin(pi x) / (pi x), and 1 at 0; derivatives are right there too.

    >>> bnp.sinc(bnp.array([0.0, 0.5]))
    Array([1.        , 0.63661975], dtype=float32)
    """
    (v,), tag = numbers("sinc", (x,), inexact=True)
    angle = ops.mul(v, const(v, math.pi))
    # Near 0 the first terms of the series are exact, and so are four derivatives of them.
    near = ops.lt(ops.abs(angle), ops.full(v.shape, 1e-2, dtypes.real_dtype(v.dtype)))
    safe = ops.select(near, const(v, 1), angle)
    s = ops.square(angle)
    series = ops.add(
        const(v, 1), ops.mul(s, ops.add(const(v, -1 / 6), ops.mul(s, const(v, 1 / 120))))
    )
    return wrap(ops.select(near, series, ops.div(ops.sin(safe), safe)), tag)
