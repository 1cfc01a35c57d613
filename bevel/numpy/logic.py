"""Comparisons, logic and bits, element by element."""

from __future__ import annotations

from typing import Any

import numpy as np

import bevel.ops as ops
from bevel.core import dtypes
from bevel.core.dtypes import INT, UNSIGNED, bool_
from bevel.core.handle import Handle, KeyTag, wrap
from bevel.numpy.arguments import truth
from bevel.numpy.convert import broadcast_values, numbers, promote
from bevel.numpy.elementwise import as_number, is_int
from bevel.numpy.families import FAST_FLOAT, binary, named, quick_binary, unary

FAST_BITS = (bool_, *INT)
FAST_COMPARE = (bool_, *INT, *FAST_FLOAT)


def _lexicographic(op: Any, strict: Any) -> Any:
    """A comparison; complex numbers compare by real part, then by imaginary part, as in NumPy."""

    def rule(x, y):
        if not dtypes.is_complex(x.dtype):
            return op(x, y)
        tied = ops.eq(ops.real(x), ops.real(y))
        return ops.select(tied, op(ops.imag(x), ops.imag(y)), strict(ops.real(x), ops.real(y)))

    return rule


def _compare(name: str, op: Any, doc: str, example: str, strict: Any = None) -> Any:
    rule = op if strict is None else _lexicographic(op, strict)

    def slow(x1, x2, /):
        if strict is None and _is_key(x1) and _is_key(x2):
            return wrap(_same_keys(name, op, x1, x2))
        (a, b), _ = numbers(name, (_within(x1, x2), _within(x2, x1)))
        return wrap(rule(a, b))

    fn = quick_binary(slow, op, FAST_COMPARE, tagged=False)
    text = f"{doc}\n\nOperands are broadcast together and promoted. NaN equals nothing."
    return named(fn, name, f"{text}\n\n>>> bnp.{name}(bnp.array([1, 2, 3]), 2)\n{example}\n")


def _is_key(x: Any) -> bool:
    return isinstance(x, Handle) and type(x._tag) is KeyTag


def _same_keys(name: str, op: Any, x: Handle, y: Handle) -> Any:
    """Keys are equal if all their words are; `op` is eq or ne."""
    words = op(*broadcast_values(name, promote(x, y)[0]))
    join = ops.reduce_and if op is ops.eq else ops.reduce_or
    return join(words, axes=(len(words.shape) - 1,))


def _within(x: Any, other: Any) -> Any:
    """An operand of a comparison, widened if the other is an integer beyond its dtype."""
    if type(other) is int and isinstance(x, Handle) and dtypes.is_integer(x._v.dtype):
        info = np.iinfo(x._v.dtype)
        if not info.min <= other <= info.max and -(2**63) <= other < 2**63:
            return wrap(ops.convert(x._v, dtype=dtypes.int64))
    return x


equal = _compare("equal", ops.eq, "x1 == x2.", "Array([False,  True, False], dtype=bool)")
not_equal = _compare("not_equal", ops.ne, "x1 != x2.", "Array([ True, False,  True], dtype=bool)")
less = _compare("less", ops.lt, "x1 < x2.", "Array([ True, False, False], dtype=bool)", ops.lt)
less_equal = _compare(
    "less_equal", ops.le, "x1 <= x2.", "Array([ True,  True, False], dtype=bool)", ops.lt
)
greater = _compare(
    "greater", ops.gt, "x1 > x2.", "Array([False, False,  True], dtype=bool)", ops.gt
)
greater_equal = _compare(
    "greater_equal", ops.ge, "x1 >= x2.", "Array([False,  True,  True], dtype=bool)", ops.gt
)


def _logical(name: str, op: Any, doc: str, example: str) -> Any:
    def logical(x1, x2, /):
        one, other = (truth(numbers(name, (x,))[0][0]) for x in (x1, x2))
        (a, b), _ = numbers(name, (wrap(one), wrap(other)))
        return wrap(op(a, b))

    text = f"{doc}\n\nNumbers are true unless they are 0; NaN is true. Operands are broadcast."
    call = f">>> bnp.{name}(bnp.array([True, False]), bnp.array([True, True]))"
    quick = quick_binary(logical, op, (bool_,))
    return named(quick, name, f"{text}\n\n{call}\n{example}\n")


logical_and = _logical(
    "logical_and", ops.and_, "Both are true.", "Array([ True, False], dtype=bool)"
)
logical_or = _logical(
    "logical_or", ops.or_, "At least one is true.", "Array([ True,  True], dtype=bool)"
)
logical_xor = _logical(
    "logical_xor", ops.xor, "Exactly one is true.", "Array([False,  True], dtype=bool)"
)


def logical_not(x: Any, /) -> Any:
    """Whether each element is false (zero).

    >>> bnp.logical_not(bnp.array([0.0, 2.0]))
    Array([ True, False], dtype=bool)
    """
    (v,), _ = numbers("logical_not", (x,))
    return wrap(ops.not_(truth(v)))


# -- bits ------------------------------------------------------------------------------------------


def _right_shift(x, y):
    return (
        ops.shift_right_logical(x, y) if x.dtype in UNSIGNED else ops.shift_right_arithmetic(x, y)
    )


def _bits(name: str, rule: Any, doc: str, example: str, quick: Any = None) -> Any:
    def integers_only(x, y):
        if not (is_int(x) or x.dtype == bool_):
            raise TypeError(
                f"{name}: {x.dtype.name} has no bits to combine; it takes integers and bools.\n"
                "Write instead: x.astype(int), or a comparison such as x > 0."
            )
        return rule(x, y)

    call = f">>> bnp.{name}(bnp.array([6, 3]), 2)"
    return binary(name, integers_only, doc, f"{call}\n{example}", quick=quick, fast=FAST_BITS)


bitwise_and = _bits(
    "bitwise_and", ops.and_, "Bits set in both.", "Array([2, 2], dtype=int32)", ops.and_
)
bitwise_or = _bits(
    "bitwise_or", ops.or_, "Bits set in either.", "Array([6, 3], dtype=int32)", ops.or_
)
bitwise_xor = _bits(
    "bitwise_xor", ops.xor, "Bits set in exactly one.", "Array([4, 1], dtype=int32)", ops.xor
)
left_shift = _bits(
    "left_shift",
    lambda x, y: ops.shift_left(as_number(x), as_number(y)),
    "Bits moved up by `x2` places: x1 * 2**x2, wrapping around; 0 from the width on.",
    "Array([24, 12], dtype=int32)",
)
right_shift = _bits(
    "right_shift",
    lambda x, y: _right_shift(as_number(x), as_number(y)),
    "Bits moved down by `x2` places; the sign is kept.",
    "Array([1, 0], dtype=int32)",
)
bitwise_left_shift, bitwise_right_shift = left_shift, right_shift
invert = unary(
    "invert",
    ops.not_,
    "All bits turned round; for bools, *not*.",
    ">>> bnp.invert(bnp.array([0, 5]))\nArray([-1, -6], dtype=int32)",
    inexact=False,
    fast=FAST_BITS,
)
bitwise_not = bitwise_invert = invert


def bitwise_count(x: Any, /) -> Any:
    """Number of bits set in the absolute value, as uint8.

    >>> bnp.bitwise_count(bnp.array([7, -8]))
    Array([3, 1], dtype=uint8)
    """
    (v,), _ = numbers("bitwise_count", (x,))
    return wrap(ops.convert(ops.population_count(ops.abs(as_number(v))), dtype=dtypes.uint8))
