"""Arguments as users write them: axes, shapes and sizes, numbers and their dtypes.

What is wrong with one is said here, with the name of the function it was given to.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

import bevel.ops as ops
from bevel.core import dtypes, interpreter, source
from bevel.core.dtypes import as_dtype, bool_, float32
from bevel.core.errors import ConcretizationTypeError
from bevel.core.handle import Handle, KeyTag, logical_shape
from bevel.core.interpreter import Tracer, to_numpy
from bevel.core.misfit import Fix, misfit
from bevel.numpy.convert import enter

Shape = tuple[int, ...]


def integer(name: str, what: str, value: Any) -> int:
    """A static Python int, or an error that says which argument of which function was not one."""
    if type(value) is int:
        return value
    try:
        return operator.index(value)
    except TypeError as e:
        if (
            isinstance(value, Handle)
            and logical_shape(value) == ()
            and np.dtype(value._v.dtype).kind in "iub"
        ):
            raise
        raise TypeError(
            f"{name}: {what} must be an integer, got {value!r} ({type(value).__name__}).\n"
            "Why: shapes and axes are part of the program, not of its data.\n"
            f"Write instead: {what}=int(...)."
        ) from e


def axis_of(name: str, axis: Any, ndim: int) -> int:
    """A non-negative axis.

    Raises:
        numpy.exceptions.AxisError: (a ValueError and an IndexError) the array has no such axis.
    """
    i = integer(name, "axis", axis)
    if not -ndim <= i < ndim:
        span = f"use {-ndim}..{ndim - 1}" if ndim else "a 0-d array has none, leave `axis` out"
        raise np.exceptions.AxisError(
            f"{name}: axis {i} is out of range for an array with {ndim} axes; {span}"
        )
    return i + ndim if i < 0 else i


def axes_of(name: str, axis: Any, ndim: int) -> Shape:
    """Non-negative axes in the order given; None is all of them.

    Raises:
        numpy.exceptions.AxisError: the array has no such axis.
        ValueError: an axis is named twice.
    """
    if axis is None:
        return tuple(range(ndim))
    if type(axis) is int or not isinstance(axis, tuple | list | np.ndarray | range):
        return (axis_of(name, axis, ndim),)
    axes = tuple([axis_of(name, a, ndim) for a in axis])
    if len(set(axes)) != len(axes):
        raise ValueError(f"{name}: axis={tuple(axis)} names an axis twice")
    return axes


def shape_of(name: str, shape: Any) -> Shape:
    """A tuple of ints from an int or a sequence of them; entries may be negative."""
    if isinstance(shape, tuple | list | range):
        return tuple([integer(name, "every entry of the shape", n) for n in shape])
    if isinstance(shape, np.ndarray) or (isinstance(shape, Handle) and logical_shape(shape) != ()):
        return tuple(
            [integer(name, "every entry of the shape", n) for n in np.asarray(shape).tolist()]
        )
    return (integer(name, "the shape", shape),)


def size_of(name: str, shape: Any) -> Shape:
    """A shape whose entries are all at least 0."""
    result = shape_of(name, shape)
    if result and min(result) < 0:
        raise ValueError(f"{name}: shape {result} has a negative size")
    return result


def number(name: str, x: Any) -> Any:
    """The value of a number-like argument; random keys are refused."""
    handle = x if isinstance(x, Handle) else enter(x)
    if type(handle._tag) is KeyTag:
        raise TypeError(
            f"{name}: a random key is not a number.\n"
            "Why: its words mean nothing to arithmetic.\n"
            "Write instead: random.uniform(key, shape) or another draw; random.key_data(key) "
            "gives the words."
        )
    return handle._v


def known(value: Any) -> np.ndarray | None:
    """The contents of a value if they are at hand without waiting for a device."""
    if type(value) is np.ndarray:
        return value
    if isinstance(value, Tracer) or interpreter.backend.accelerator:
        return None
    return to_numpy(value)


def contents(name: str, value: Any, why: str, instead: str) -> np.ndarray:
    """The contents of a value that decides a shape.

    Raises:
        ConcretizationTypeError: the value is traced.
    """
    if not isinstance(value, Tracer):
        return to_numpy(value)
    made = source.origin(value.source)
    raise ConcretizationTypeError(
        f"{name}: a traced {value.aval}{made} is used at {source.where(source.user_source())}, "
        "where its contents must be known.\n"
        f"Why: {why}.\n"
        f"Write instead: {instead}."
    )


def known_size(name: str, x: Any, size: int | None) -> None:
    """Raise if the contents of a traced array would decide how long a result is.

    Raises:
        ConcretizationTypeError: there is no `size`, and the array is traced.
    """
    value = number(name, x) if size is None else None
    if isinstance(value, Tracer):
        why = "the size of the result depends on the data, and a compiled program has fixed shapes"
        contents(name, value, why, f"bnp.{name}(..., size=n), which fills up or cuts to n")


def no_out(name: str, out: Any) -> None:
    """Refuse NumPy's `out=`."""
    if out is not None:
        raise TypeError(
            f"{name}: arrays are immutable, so there is no `out`; write y = bnp.{name}(...)"
        )


def cast(x: Any, dtype: np.dtype) -> Any:
    """A value at another dtype."""
    return x if x.dtype == dtype else ops.convert(x, dtype=dtype)


def truth(x: Any) -> Any:
    """A value as bool: nonzero is true, NaN too."""
    return cast(x, bool_)


def inexact(x: Any, dtype: Any = None) -> Any:
    """A value at `dtype`, or at float32 if it is an integer."""
    if dtype is not None:
        return cast(x, as_dtype(dtype))
    return x if dtypes.is_inexact(np.dtype(x.dtype)) else cast(x, float32)


def resolve_shape(name: str, x: Handle, old: Shape, new: Shape) -> Shape:
    """`new`, a shape for the elements of a handle of shape `old`, with its -1 worked out.

    Raises:
        ShapeError: the sizes do not agree.
    """
    size, known = math.prod(old), math.prod([n for n in new if n != -1])
    holes = new.count(-1)
    if holes == 1 and known > 0 and size % known == 0:
        return tuple([size // known if n == -1 else n for n in new])
    if holes == 0 and known == size and all(n >= 0 for n in new):
        return new
    rest = "is" if len(new) == 2 else "are"
    why = (
        f"only one entry of {new} can be -1"
        if holes > 1
        else f"its {size} elements do not divide into {known}, which the rest of {new} {rest}"
        if holes
        else f"it has {size} elements, and {new} has {known}"
    )
    raise misfit(
        name,
        [x],
        why,
        _mend_reshape(old, new, not name.startswith("lax.")),
        "a shape with the same number of elements, with -1 for the size to be worked out",
        words=["the array"],
    )


def _mend_reshape(old: Shape, new: Shape, free: bool) -> list[Fix]:
    """-1, where it is `free` to stand for a size, for the first entry it can; or the first axis
    kept.
    """
    size = math.prod(old)
    for i in range(len(new) if -1 not in new else 0):
        rest = math.prod(new[:i] + new[i + 1 :])
        if rest > 0 and size % rest == 0:
            whole = (*new[:i], size // rest, *new[i + 1 :])
            entry = -1 if free else size // rest
            plain = f"{(*new[:i], entry, *new[i + 1 :])}"
            cause = f"With {entry} for {new[i]} it is {whole}"
            return [Fix(cause, entry=(i, len(new), str(entry)), plain=plain)]
    if len(old) > 1 and size:
        kept = (old[0], size // old[0])
        return [Fix(f"With the first axis kept it is {kept}", whole="_0.reshape(_0.shape[0], -1)")]
    return []
