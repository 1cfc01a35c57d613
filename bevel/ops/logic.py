"""Comparisons, selection, bits and casts.

References are NumPy and mean what XLA means: shifts by the width or more give 0 or the sign, floats
that do not fit an integer become the nearest that does, and NaN becomes 0.
"""

from __future__ import annotations

import numpy as np

from bevel.core import dtypes
from bevel.core.aval import Aval
from bevel.core.dtypes import ALL, BOOL, COMPLEX, FLOAT, INT, STORAGE
from bevel.core.op import Op, Unsupported, is_undefined, zero_tangent
from bevel.ops.base import batch_broadcast, check_dtype, zeros_like
from bevel.ops.families import binary, check_equal, compare, unary

# -- comparisons and selection --------------------------------------------------------------------

eq = compare("eq", np.equal, ALL + STORAGE)
ne = compare("ne", np.not_equal, ALL + STORAGE)
lt = compare("lt", np.less, BOOL + INT + FLOAT)
le = compare("le", np.less_equal, BOOL + INT + FLOAT)
gt = compare("gt", np.greater, BOOL + INT + FLOAT)
ge = compare("ge", np.greater_equal, BOOL + INT + FLOAT)


def _batch_all(op):
    def batch(size, xs, batched, **params):
        return op(
            *[batch_broadcast(size, x, b) for x, b in zip(xs, batched, strict=True)], **params
        ), True

    return batch


def _select_abstract(pred, x, y):
    check_equal("select", ("on_true", "on_false"), (x, y))
    if pred.dtype != bool or pred.shape != x.shape:
        raise TypeError(
            f"select: pred is {pred} and must be bool{list(x.shape)}, of the shape of on_true "
            f"and on_false; write a "
            "comparison such as pred != 0, and broadcast it, or use bnp.where, which does both"
        )
    return x


def _select_transpose(ct, pred, x, y):
    zero = zeros_like(ct)
    return (
        None,
        select(pred, ct, zero) if is_undefined(x) else None,
        select(pred, zero, ct) if is_undefined(y) else None,
    )


select: Op = Op(
    "select",
    abstract=_select_abstract,
    reference=np.where,
    lower=lambda b, pred, x, y: b.select(pred, x, y),
    jvp=(
        None,
        lambda ctx, t, pred, x, y: select(pred, t, zeros_like(t)),
        lambda ctx, t, pred, x, y: select(pred, zeros_like(t), t),
    ),
    transpose=_select_transpose,
    batch=lambda size, xs, batched: _batch_all(select)(size, xs, batched),
)


def _select_n_abstract(which, *cases):
    if not cases:
        raise ValueError("select_n: needs at least one case")
    check_equal("select_n", [f"case {i}" for i in range(len(cases))], cases)
    if which.shape != cases[0].shape or which.dtype not in (dtypes.bool_, dtypes.int32):
        raise TypeError(
            f"select_n: which is {which} and must be int32 or bool, of the shape of the "
            f"cases, {cases[0]}; convert it with which.astype('int32') and broadcast it"
        )
    if which.dtype == bool and len(cases) > 2:
        raise TypeError(
            f"select_n: a bool picks one of two cases, and there are {len(cases)}; give int32 "
            f"indices"
        )
    return cases[0]


def _select_n_reference(which, *cases):
    out = cases[0]
    for i, case in enumerate(cases[1:], 1):
        out = np.where(which >= i, case, out)
    return out


def _select_n_lower(b, which, *cases):
    out = cases[0]
    for i, case in enumerate(cases[1:], 1):
        chosen = (
            which if which.aval.dtype == bool else b.compare(which, b.full(i, which.aval), "GE")
        )
        out = b.select(chosen, case, out)
    return out


def _select_n_jvp(ctx, primals, tangents):
    which, *cases = primals
    out = select_n(*primals)
    if all([t is None for t in tangents]):
        return out, None
    return out, select_n(which, *[zeros_like(out) if t is None else t for t in tangents[1:]])


def _select_n_transpose(ct, which, *cases):
    zero = zeros_like(ct)
    picked = [
        select_n(which, *[ct if j == i else zero for j in range(len(cases))])
        for i in range(len(cases))
    ]
    return (None, *[p if is_undefined(c) else None for p, c in zip(picked, cases, strict=True)])


select_n: Op = Op(
    "select_n",
    abstract=_select_n_abstract,
    reference=_select_n_reference,
    lower=_select_n_lower,
    jvp=_select_n_jvp,
    transpose=_select_n_transpose,
    batch=lambda size, xs, batched: _batch_all(select_n)(size, xs, batched),
)


def _clamp_abstract(low, x, high):
    check_equal("clamp", ("x", "low", "high"), (x, low, high))
    check_dtype("clamp", "x", x, BOOL + INT + FLOAT)
    return x


clamp: Op = Op(
    "clamp",
    abstract=_clamp_abstract,
    reference=lambda low, x, high: np.minimum(np.maximum(x, low), high),
    lower=lambda b, low, x, high: b.clamp(low, x, high),
    jvp=(
        lambda ctx, t, low, x, high: select(and_(gt(low, x), lt(low, high)), t, zeros_like(t)),
        lambda ctx, t, low, x, high: select(and_(gt(x, low), lt(x, high)), t, zeros_like(t)),
        lambda ctx, t, low, x, high: select(lt(high, x), t, zeros_like(t)),
    ),
    transpose=Unsupported("clamp is not linear"),
    batch=lambda size, xs, batched: _batch_all(clamp)(size, xs, batched),
)

# -- bits -----------------------------------------------------------------------------------------

_BITS = Unsupported("bits carry no derivative")


def _as_unsigned(x: np.ndarray) -> np.ndarray:
    return x.view(f"u{x.dtype.itemsize}")


def _clz_reference(x):
    left, out = _as_unsigned(x), np.zeros(x.shape, x.dtype)
    width = 8 * x.dtype.itemsize
    for step in [s for s in (32, 16, 8, 4, 2, 1) if s < width]:
        low = left < (np.ones((), left.dtype) << (width - step))
        out = out + low * x.dtype.type(step)
        left = np.where(low, left << step, left).astype(left.dtype)
    return (out + (left == 0)).astype(x.dtype)


def _bits(name, reference, lower, dtypes=INT, family=binary):
    return family(name, reference, lower, zero_tangent, dtypes, transpose=_BITS)


and_: Op = _bits("and", np.bitwise_and, "and_", BOOL + INT)
or_ = _bits("or", np.bitwise_or, "or_", BOOL + INT)
xor = _bits("xor", np.bitwise_xor, "xor", BOOL + INT)
not_ = _bits("not", np.invert, "not_", BOOL + INT, unary)
# NumPy defines shifts by at least the width (0, or the sign), and so does XLA; negative ones count
# as large.
shift_left = _bits("shift_left", np.left_shift, "shift_left")
shift_right_arithmetic = _bits(
    "shift_right_arithmetic",
    lambda x, y: np.right_shift(
        x.view(f"i{x.dtype.itemsize}"), y.view(f"i{x.dtype.itemsize}")
    ).view(x.dtype),
    "shift_right_arithmetic",
)
shift_right_logical = _bits(
    "shift_right_logical",
    lambda x, y: np.right_shift(_as_unsigned(x), _as_unsigned(y)).view(x.dtype),
    "shift_right_logical",
)
population_count = _bits(
    "population_count",
    lambda x: np.bitwise_count(_as_unsigned(x)).astype(x.dtype),
    "popcnt",
    family=unary,
)
clz = _bits("clz", _clz_reference, "count_leading_zeros", family=unary)

# -- casts ----------------------------------------------------------------------------------------


def _convert_reference(x, *, dtype):
    source, target = dtypes.kind(x.dtype), dtypes.kind(dtype)
    if source == "c" and target != "c":
        if target == "b":
            return x != 0
        x, source = x.real, "f"
    if source == "f" and target in "iu":
        return _saturate(x, dtype)
    if target == "b":
        return x != 0
    return x.astype(dtype)


def _saturate(x, dtype):
    """Float to int: towards zero, NaN is 0, and what does not fit becomes the nearest that does."""
    wide = x if x.dtype == np.float64 else x.astype(np.float32)
    info = dtypes.iinfo(dtype)
    # Exactly the powers of two: the largest int itself may round up to one that does not fit.
    low, high = wide.dtype.type(info.min), wide.dtype.type(2.0 ** (info.bits - (info.min < 0)))
    if wide.size == 0 or (wide.min() >= low and wide.max() < high):  # False if there is a NaN
        return wide.astype(dtype)
    fits = (wide >= low) & (wide < high)
    inside = np.where(fits, wide, 0).astype(dtype)
    limits = np.where(wide >= high, np.asarray(info.max, dtype), np.asarray(info.min, dtype))
    return np.where(fits | np.isnan(wide), inside, limits)


def _convert_abstract(x, *, dtype):
    dtypes.kind(dtype)
    return x if x.dtype == dtype else Aval(x.shape, dtype)


def _convert_lower(b, x, *, dtype):
    if dtypes.kind(dtype) == "b":
        return b.compare(x, b.full(0, x.aval), "NE")
    if x.aval.dtype in COMPLEX and dtype not in COMPLEX:
        x = b.real(x)
    if x.aval.dtype in STORAGE and dtypes.is_float(x.aval.dtype) and dtypes.is_integer(dtype):
        # XLA saturates at the limits of the narrow float: 6 of float4 would be the largest int.
        x = b.convert(x, dtypes.float32)
    return b.convert(x, dtype)


convert: Op = Op(
    "convert",
    abstract=_convert_abstract,
    reference=_convert_reference,
    lower=_convert_lower,
    jvp=(
        lambda ctx, t, x, *, dtype: convert(t, dtype=dtype) if dtypes.is_inexact(dtype) else None,
    ),
    transpose=lambda ct, x, *, dtype: convert(ct, dtype=x.dtype),
    batch=lambda size, x, batched, *, dtype: (convert(x[0], dtype=dtype), True),
)


def _bitcast_abstract(x, *, dtype):
    for d in (x.dtype, dtype):
        if dtypes.kind(d) in "cb" and x.dtype != dtype:
            raise TypeError(
                f"bitcast: {x} to {dtype.name}: the bits of bool and complex numbers are not "
                f"defined"
            )
    have, want = x.dtype.itemsize, dtype.itemsize
    if have >= want:
        return Aval(x.shape if have == want else (*x.shape, have // want), dtype)
    if not x.shape or x.shape[-1] != want // have:
        raise ValueError(
            f"bitcast: {x} to {dtype.name} joins {want // have} elements into one, so the last "
            f"axis must have size "
            f"{want // have}: reshape first, for example x.reshape(-1, {want // have})"
        )
    return Aval(x.shape[:-1], dtype)


def _bitcast_reference(x, *, dtype):
    have, want = x.dtype.itemsize, dtype.itemsize
    if have == want:
        return x.view(dtype)
    shape = (*x.shape, have // want) if have > want else x.shape[:-1]
    return np.ascontiguousarray(x).reshape(-1).view(dtype).reshape(shape)


bitcast: Op = Op(
    "bitcast",
    abstract=_bitcast_abstract,
    reference=_bitcast_reference,
    lower=lambda b, x, *, dtype: b.bitcast(x, b.out),
    jvp=zero_tangent,
    transpose=_BITS,
    batch=lambda size, x, batched, *, dtype: (bitcast(x[0], dtype=dtype), True),
)


def _reduce_precision_abstract(x, *, exponent_bits, mantissa_bits):
    check_dtype("reduce_precision", "x", x, FLOAT)
    if exponent_bits < 1 or mantissa_bits < 0:
        raise ValueError(
            f"reduce_precision: exponent_bits={exponent_bits} must be at least 1 and "
            f"mantissa_bits={mantissa_bits} at least 0"
        )
    return x


_FORMATS = {
    dtypes.float16: (5, 10),
    dtypes.bfloat16: (8, 7),
    dtypes.float32: (8, 23),
    dtypes.float64: (11, 52),
}


def _reduce_precision_reference(x, *, exponent_bits, mantissa_bits):
    exponent, mantissa = _FORMATS[x.dtype]
    bits = _as_unsigned(np.array(x))
    word = bits.dtype.type
    sign_bit = word(1 << (exponent + mantissa))
    if mantissa_bits < mantissa:
        drop = mantissa - mantissa_bits
        half = word((1 << (drop - 1)) - 1)
        bits = (bits + half + ((bits >> word(drop)) & word(1))) & word(
            ~((1 << drop) - 1) & (2 * int(sign_bit) - 1)
        )
    if exponent_bits < exponent:
        bias, least = (1 << (exponent - 1)) - 1, (1 << (exponent_bits - 1)) - 1
        found = bits & word(((1 << exponent) - 1) << mantissa)
        top, bottom = word((bias + least) << mantissa), word((bias - least + 0) << mantissa)
        signs = bits & sign_bit
        infinity = word(((1 << exponent) - 1) << mantissa)
        bits = np.where(found > top, signs | infinity, bits)
        bits = np.where(found <= bottom, signs, bits)
    out = bits.astype(bits.dtype).view(x.dtype)
    return np.where(np.isnan(x), x, out).astype(x.dtype)


reduce_precision: Op = Op(
    "reduce_precision",
    abstract=_reduce_precision_abstract,
    reference=_reduce_precision_reference,
    lower=lambda b, x, **params: b.reduce_precision(x, **params),
    jvp=(lambda ctx, t, x, **params: reduce_precision(t, **params),),
    transpose=lambda ct, x, **params: reduce_precision(ct, **params),
    batch=lambda size, x, batched, **params: (reduce_precision(x[0], **params), True),
)

stop_gradient = unary(
    "stop_gradient",
    lambda x: x,
    lambda b, x: x,
    zero_tangent,
    ALL + STORAGE,
    transpose=Unsupported("stop_gradient carries no derivative"),
)
