"""How elementwise functions are made: each is an op behind promotion, broadcasting and a short cut.

The short cut is the eager case that must cost about as much as NumPy: arrays of one dtype (or a
Python number) in NumPy memory, outside every transform. It calls the op's NumPy reference at once.
Everything else takes the slow path, which also explains what does not fit. Small NumPy-backed
arrays take it even where an accelerator is the default device: they have not been placed there yet.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bevel.core import dtypes
from bevel.core.dtypes import COMPLEX, INT, float32, float64
from bevel.core.handle import WEAK, Handle, wrap
from bevel.core.interpreter import EAGER, quiet, state
from bevel.core.op import Op
from bevel.numpy.arguments import known
from bevel.numpy.convert import is_array_like, numbers

Slow = Callable[..., Any]

FAST_FLOAT = (float32, float64)
FAST_NUMBER = (*INT, *FAST_FLOAT, *COMPLEX)

_SCALARS = {
    "b": frozenset(),
    "i": frozenset((int,)),
    "u": frozenset((int,)),
    "f": frozenset((int, float)),
    "c": frozenset((int, float, complex)),
}
"""Python numbers that NumPy brings to an array's dtype as the promotion lattice does."""

# The slow path follows these outside of `except`: its error has no other as context.
# RuntimeError: the quiet context is in use up the stack.
_REFUSED = (TypeError, ValueError, OverflowError, RuntimeError)

_new = Handle.__new__
_ndarray = np.ndarray
_asarray = np.asarray


def _reference(op: Op, reference: np.ufunc | None) -> np.ufunc:
    found = reference or op.reference
    assert isinstance(found, np.ufunc), f"{op.name}: the short cut needs a ufunc, which broadcasts"
    return found


def quick_unary(
    slow: Slow, op: Op, fast: Sequence[np.dtype], reference: np.ufunc | None = None
) -> Slow:
    """`slow(x)` with the short cut for arrays of the dtypes in `fast`."""
    call, limit, numbered = _reference(op, reference), op.compile_above, {d.num for d in fast}

    def unary(x, /):
        if isinstance(x, Handle) and state.current is EAGER:
            v, tag = x._held, x._tag
            if type(v) is not _ndarray:
                v = known(x._v)
            if (
                type(v) is _ndarray
                and v.dtype.num in numbered
                and (limit is None or v.size <= limit)
                and (tag is None or tag is WEAK)
            ):
                try:
                    out = quiet.run(call, v)
                    result = _new(type(x))
                    result._held = out if type(out) is _ndarray else _asarray(out)
                    result._tag = tag
                    return result
                except _REFUSED:
                    pass  # NumPy refused: `slow` says why
        return slow(x)

    return unary


def quick_method(
    slow: Slow,
    op: Op,
    fast: Sequence[np.dtype],
    reference: np.ufunc | None = None,
    swap: bool = False,
    tagged: bool = True,
) -> Slow:
    """`slow(x1, x2)` with the short cut, for an `x1` that is a handle.

    With `swap` the reference gets its operands the other way round; only if `tagged` can the result
    be weak.
    """
    call, limit = _reference(op, reference), op.compile_above
    scalars_of = {d.num: _SCALARS[dtypes.kind(d)] for d in fast}

    numbered = frozenset(scalars_of) if limit is None and not swap else frozenset()

    def method(x1, x2, /):
        if state.current is EAGER:
            a, tag = x1._held, x1._tag
            if tag is None and type(x2) is type(x1) and x2._tag is None:
                # Two plain arrays of one dtype: what follows, with the fewest questions.
                b = x2._held
                if (
                    type(a) is _ndarray
                    and type(b) is _ndarray
                    and (dtype := a.dtype) is b.dtype
                    and dtype.num in numbered
                ):
                    try:
                        out = quiet.run(call, a, b)
                        result = _new(type(x1))
                        result._held = out if type(out) is _ndarray else _asarray(out)
                        result._tag = None
                        return result
                    except _REFUSED:
                        pass  # NumPy refused: `slow` says why
            if type(a) is not _ndarray:
                a = known(x1._v)
            scalars = scalars_of.get(a.dtype.num) if type(a) is _ndarray else None
            if (
                scalars is not None
                and (limit is None or a.size <= limit)
                and (tag is None or tag is WEAK)
            ):
                if type(x2) is type(x1):
                    b, other = x2._held, x2._tag
                    if type(b) is not _ndarray:
                        b = known(x2._v)
                    quick = (
                        type(b) is _ndarray
                        and b.dtype.num == a.dtype.num
                        and (limit is None or b.size <= limit)
                        and (other is None or other is WEAK)
                    )
                    tag = tag and other
                else:
                    b = x2
                    quick = type(x2) in scalars
                if quick:
                    try:
                        out = quiet.run(call, b, a) if swap else quiet.run(call, a, b)
                        result = _new(type(x1))
                        result._held = out if type(out) is _ndarray else _asarray(out)
                        result._tag = tag if tagged else None
                        return result
                    except _REFUSED:
                        pass  # NumPy refused: `slow` says why
        return slow(x1, x2)

    return method


def quick_binary(
    slow: Slow,
    op: Op,
    fast: Sequence[np.dtype],
    reference: np.ufunc | None = None,
    tagged: bool = True,
) -> Slow:
    """`slow(x1, x2)` with the short cut, for operands of any kind."""
    method = quick_method(slow, op, fast, reference, tagged=tagged)

    def binary(x1, x2, /):
        return method(x1, x2) if isinstance(x1, Handle) else slow(x1, x2)

    return binary


def named(fn: Slow, name: str, doc: str) -> Slow:
    """A generated function with its own name and docstring, as one of the module that asked for
    it.
    """
    module = sys._getframe(1).f_globals["__name__"]
    if module == __name__:
        module = sys._getframe(2).f_globals["__name__"]
    fn.__name__ = fn.__qualname__ = name
    fn.__doc__ = doc
    fn.__module__ = module
    return fn


_INEXACT_RULE = "Integers and bools are computed in float32; other dtypes are kept."
_NUMBER_RULE = "The dtype is kept."
_SAME_RULE = "Operands are broadcast together and promoted; the result has their shape and dtype."
_FLOAT_RULE = (
    "Operands are broadcast together and promoted; integers and bools are computed in float32."
)


def unary(
    name: str,
    op: Op,
    doc: str,
    example: str,
    *,
    inexact: bool = True,
    fast: Sequence[np.dtype] = FAST_FLOAT,
) -> Slow:
    """An elementwise function of one array that is one op."""

    def slow(x):
        (v,), tag = numbers(name, (x,), inexact)
        return wrap(op(v), tag)

    rule = _INEXACT_RULE if inexact else _NUMBER_RULE
    fn = (
        quick_unary(slow, op, fast)
        if isinstance(op.reference, np.ufunc)
        else positional_unary(slow)
    )
    return named(fn, name, f"{doc}\n\n`x`: an array of numbers of any shape. {rule}\n\n{example}\n")


def positional_unary(slow: Slow) -> Slow:
    """A function of one positional argument, without a short cut."""

    def unary(x, /):
        return slow(x)

    return unary


def binary(
    name: str,
    rule: Callable[[Any, Any], Any],
    doc: str,
    example: str,
    *,
    inexact: bool = False,
    quick: Op | None = None,
    fast: Sequence[np.dtype] = FAST_NUMBER,
    reference: np.ufunc | None = None,
) -> Slow:
    """An elementwise function of two arrays: `rule` works on values of one dtype and shape.

    `quick` is the op it is for the dtypes in `fast`.
    """

    def slow(x1, x2, /):
        (a, b), tag = numbers(name, (x1, x2), inexact)
        out = rule(a, b)
        return wrap(out, tag if out.dtype != dtypes.bool_ else None)

    text = f"{doc}\n\n{_FLOAT_RULE if inexact else _SAME_RULE}\n\n{example}\n"
    fn = slow if quick is None else quick_binary(slow, quick, fast, reference)
    return named(fn, name, text)


def operator(
    fn: Slow,
    quick: Op | None = None,
    fast: Sequence[np.dtype] = FAST_NUMBER,
    reference: np.ufunc | None = None,
    reflected: bool = False,
    tagged: bool = True,
) -> Slow:
    """The method of a binary operator: other classes get their turn when `fn` does not know the
    operand.
    """

    def slow(self, other):
        if not is_array_like(other):
            return NotImplemented
        return fn(other, self) if reflected else fn(self, other)

    return (
        slow
        if quick is None
        else quick_method(slow, quick, fast, reference, swap=reflected, tagged=tagged)
    )
