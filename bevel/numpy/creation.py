"""Making arrays: from data, from a number, from a rule.

Data enters at 32 bits unless a dtype is named. Shapes, counts and axes are Python integers.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import bevel.ops as ops
from bevel.core import dtypes, errors, source
from bevel.core.dtypes import as_dtype, bool_, float32, int32
from bevel.core.handle import WEAK, Handle, KeyTag, fresh_tag, logical_shape, wrap
from bevel.core.interpreter import Tracer, to_numpy
from bevel.numpy.arguments import axis_of, integer, number, size_of
from bevel.numpy.convert import astype, enter, numbers, promote, result_type
from bevel.numpy.moves import spread

Shape = tuple[int, ...]
DType = Any

# -- from data -----------------------------------------------------------------------------------


def array(object: Any, dtype: DType = None, copy: bool = True, order: str | None = "K", ndmin: int = 0) -> Any:
    """An array of the given data: numbers, nested lists, NumPy arrays, anything with `__array__`.

    64-bit data becomes 32-bit unless `dtype` names 64 bits. The data is copied: the array never shares
    memory that can be written. `ndmin`: the least number of axes; new ones come first.

    Raises:
        TypeError: the data is no array of numbers.
        ValueError: the rows of nested lists have different lengths.
        OverflowError: an integer does not fit in the dtype.

    >>> bnp.array([[1, 2], [3, 4]])
    Array([[1, 2],
           [3, 4]], dtype=int32)
    >>> bnp.array([1, 2], dtype=bnp.float64).dtype
    dtype('float64')
    """
    x = _entered(object, dtype)
    missing = ndmin - len(logical_shape(x))
    if missing > 0:
        shape = (1,) * missing + logical_shape(x)
        x = spread(x, shape, tuple(range(missing, ndmin)))
    return x


def _entered(x: Any, dtype: DType) -> Handle:
    return enter(x, None if dtype is None else as_dtype(dtype))


def asarray(a: Any, dtype: DType = None, order: str | None = None, *, copy: bool | None = None) -> Any:
    """The data as an array; an array that has the dtype already is returned as it is.

    >>> x = bnp.ones(3)
    >>> bnp.asarray(x) is x, bnp.asarray([True, False])
    (True, Array([ True, False], dtype=bool))
    """
    if copy is False and not isinstance(a, Handle):
        raise ValueError("asarray: other data always becomes an array by copying; leave copy=False out")
    return _entered(a, dtype)


def asanyarray(a: Any, dtype: DType = None, order: str | None = None) -> Any:
    """As `asarray`; there are no subclasses of arrays.

    >>> bnp.asanyarray([1.5])
    Array([1.5], dtype=float32)
    """
    return _entered(a, dtype)


def ascontiguousarray(a: Any, dtype: DType = None) -> Any:
    """As `asarray`, with at least one axis; how an array lies in memory is not the user's affair.

    >>> bnp.ascontiguousarray(2.0).shape
    (1,)
    """
    return array(a, dtype, ndmin=1)


def copy(a: Any, order: str | None = None) -> Any:
    """The same contents in memory of their own.

    >>> bnp.copy(bnp.arange(2))
    Array([0, 1], dtype=int32)
    """
    x = enter(a)
    if isinstance(x._v, Tracer) or not isinstance(a, Handle):
        return x
    return wrap(np.array(to_numpy(x._v)), x._tag)


def frombuffer(buffer: Any, dtype: DType = float, count: int = -1, offset: int = 0) -> Any:
    """A 1-d array of the bytes of a buffer (bytes, memoryview, ...).

    >>> bnp.frombuffer(b"\\x01\\x02\\x03", dtype=bnp.uint8)
    Array([1, 2, 3], dtype=uint8)
    """
    return wrap(np.array(np.frombuffer(buffer, as_dtype(dtype), count, offset)))


def fromiter(iter: Any, dtype: DType, count: int = -1) -> Any:
    """A 1-d array of what an iterable yields.

    >>> bnp.fromiter((i * i for i in range(4)), dtype=bnp.int32)
    Array([0, 1, 4, 9], dtype=int32)
    """
    return wrap(np.fromiter(iter, as_dtype(dtype), count))


def fromfunction(function: Callable[..., Any], shape: Any, *, dtype: DType = float, **kwargs: Any) -> Any:
    """What `function(i, j, ...)` gives for the index arrays of a shape.

    >>> bnp.fromfunction(lambda i, j: i + j, (2, 2), dtype=int)
    Array([[0, 1],
           [1, 2]], dtype=int32)
    """
    return function(*unstacked(indices(shape, dtype)), **kwargs)


def unstacked(x: Handle) -> list[Any]:
    """The rows along axis 0."""
    shape = tuple(x._v.shape)
    rows = []
    for i in range(shape[0]):
        start, limit = (i,) + (0,) * (len(shape) - 1), (i + 1, *shape[1:])
        rows.append(wrap(ops.reshape(ops.slice(x._v, start=start, limit=limit, strides=None), shape=shape[1:])))
    return rows


def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Any:
    """An array of the data of another library's array, through DLPack; the data is copied.

    >>> bnp.from_dlpack(np.arange(2.0, dtype=np.float32))
    Array([0., 1.], dtype=float32)
    """
    if isinstance(x, Handle):
        return x
    return wrap(np.array(np.from_dlpack(x)))


# -- one number everywhere -------------------------------------------------------------------------


def _filled(shape: Shape, value: Any, dtype: np.dtype) -> Any:
    return wrap(ops.full(shape, value, dtype))


def _dtype(dtype: DType, default: np.dtype = float32) -> np.dtype:
    return default if dtype is None else as_dtype(dtype)


def zeros(shape: Any, dtype: DType = None) -> Any:
    """Zeros, float32 unless a dtype is given.

    >>> bnp.zeros((2, 2), dtype=int)
    Array([[0, 0],
           [0, 0]], dtype=int32)
    """
    return _filled(size_of("zeros", shape), 0, _dtype(dtype))


def ones(shape: Any, dtype: DType = None) -> Any:
    """Ones, float32 unless a dtype is given.

    >>> bnp.ones(3)
    Array([1., 1., 1.], dtype=float32)
    """
    return _filled(size_of("ones", shape), 1, _dtype(dtype))


def empty(shape: Any, dtype: DType = None) -> Any:
    """As `zeros`: arrays are immutable, so there is nothing to leave unset.

    >>> bnp.empty(2)
    Array([0., 0.], dtype=float32)
    """
    return _filled(size_of("empty", shape), 0, _dtype(dtype))


def full(shape: Any, fill_value: Any, dtype: DType = None) -> Any:
    """An array of one value (broadcast to the shape), at its own dtype unless one is given.

    >>> bnp.full((2,), 7.0, dtype=bnp.float16)
    Array([7., 7.], dtype=float16)
    """
    shape = size_of("full", shape)
    x = _entered(fill_value, dtype)
    old = logical_shape(x)
    lead = len(shape) - len(old)
    if lead < 0 or builtins.any([n not in (1, shape[lead + i]) for i, n in enumerate(old)]):
        raise errors.ShapeError(f"full: a value of shape {old} does not broadcast to {shape}")
    return spread(x, shape, tuple(range(lead, len(shape))))


def _like(name: str, a: Any, shape: Any, dtype: DType) -> tuple[Shape, np.dtype, Any]:
    x = enter(a)
    if type(x._tag) is KeyTag:
        raise TypeError(f"{name}: random keys have no numbers to be like.\nWrite instead: random.split(key, shape).")
    shape = logical_shape(x) if shape is None else size_of(name, shape)
    return shape, _dtype(dtype, np.dtype(x._v.dtype)), x._tag if dtype is None else None


def zeros_like(a: Any, dtype: DType = None, shape: Any = None) -> Any:
    """Zeros with the shape and dtype of `a`, or those given.

    >>> bnp.zeros_like(bnp.arange(2))
    Array([0, 0], dtype=int32)
    """
    shape, dtype, tag = _like("zeros_like", a, shape, dtype)
    return wrap(ops.full(shape, 0, dtype), tag)


def ones_like(a: Any, dtype: DType = None, shape: Any = None) -> Any:
    """Ones with the shape and dtype of `a`, or those given.

    >>> bnp.ones_like(bnp.arange(2), dtype=float)
    Array([1., 1.], dtype=float32)
    """
    shape, dtype, tag = _like("ones_like", a, shape, dtype)
    return wrap(ops.full(shape, 1, dtype), tag)


def empty_like(prototype: Any, dtype: DType = None, shape: Any = None) -> Any:
    """As `zeros_like`.

    >>> bnp.empty_like(bnp.arange(2))
    Array([0, 0], dtype=int32)
    """
    return zeros_like(prototype, dtype, shape)


def full_like(a: Any, fill_value: Any, dtype: DType = None, shape: Any = None) -> Any:
    """One value (broadcast), with the shape and dtype of `a`, or those given.

    >>> bnp.full_like(bnp.ones(2), 3)
    Array([3., 3.], dtype=float32)
    """
    shape, dtype, _ = _like("full_like", a, shape, dtype)
    return full(shape, fill_value, dtype)


# -- ranges --------------------------------------------------------------------------------------


def _static_number(name: str, what: str, x: Any) -> Any:
    """A Python or NumPy number; ranges need their bounds when the program is written."""
    if isinstance(x, Handle):
        if isinstance(x._v, Tracer):
            raise errors.ConcretizationTypeError(
                f"{name}: {what} is a traced {x._v.aval}, at {source.where(source.user_source())}.\n"
                "Why: it decides how long the result is, and shapes are part of the program.\n"
                "Write instead: bnp.arange(n) with a Python integer n, then a mask: bnp.arange(n) < stop."
            )
        x = to_numpy(x._v)[()]
    if np.ndim(x) != 0 or not isinstance(x, int | float | np.number):
        raise TypeError(f"{name}: {what} must be a real number, got {x!r}")
    return x


def _range_dtype(parts: Sequence[Any]) -> np.dtype:
    return result_type([x if isinstance(x, Handle) or type(x) in (int, float) else enter(x) for x in parts])[0]


def arange(start: Any, stop: Any = None, step: Any = None, dtype: DType = None) -> Any:
    """Numbers from `start` (0 if there is one argument) up to but not including `stop`, by `step`.

    int32 for integers, float32 for floats, unless a dtype is given.

    Raises:
        TypeError: a bound is traced; the length must be known.
        OverflowError: an integer does not fit in the dtype.

    >>> bnp.arange(3), bnp.arange(1.0, 2.0, 0.5)
    (Array([0, 1, 2], dtype=int32), Array([1. , 1.5], dtype=float32))
    """
    given = [x for x in (start, stop, step) if x is not None]
    if stop is None:
        start, stop = 0, start
    start, stop = _static_number("arange", "start", start), _static_number("arange", "stop", stop)
    step = 1 if step is None else _static_number("arange", "step", step)
    if step == 0:
        raise ValueError("arange: step is 0, so the range never ends")
    whole = builtins.all([isinstance(x, int | np.integer) for x in (start, stop, step)])
    out = _as_dtype(dtype) if dtype is not None else int32 if whole and _weak(given) else _range_dtype(given)
    if not whole:
        return wrap(np.arange(start, stop, step, np.float64).astype(out))
    start, stop, step = int(start), int(stop), int(step)
    n = len(range(start, stop, step))
    last = start + (n - 1) * step
    if dtypes.is_integer(out) and n:
        info = np.iinfo(out)
        worst = max(start, last, key=builtins.abs)
        if not (info.min <= start <= info.max and info.min <= last <= info.max):
            raise OverflowError(
                f"arange: {worst} does not fit in {out.name}.\nWrite instead: bnp.arange(..., dtype=bnp.int64)."
            )
    if out == bool_:
        return wrap(np.arange(start, stop, step, np.int64).astype(bool))
    count = ops.iota(shape=(n,), dtype=out, axis=0) if n < 2**31 or out.itemsize == 8 else None
    if count is None:
        raise OverflowError(f"arange: {n} numbers; write bnp.arange(..., dtype=bnp.int64)")
    if step != 1:
        count = ops.mul(count, ops.full((n,), step, out)) if _holds(step, out) else _wide(start, stop, step, out)
        if not _holds(step, out):
            return wrap(count)
    return wrap(ops.add(count, ops.full((n,), start, out)) if start else count)


def _as_dtype(dtype: DType) -> np.dtype:
    return as_dtype(dtype)


def _weak(parts: Sequence[Any]) -> bool:
    return builtins.all([type(x) is int for x in parts])


def _holds(step: int, dtype: np.dtype) -> bool:
    return not dtypes.is_integer(dtype) or np.iinfo(dtype).min <= step <= np.iinfo(dtype).max


def _wide(start: int, stop: int, step: int, dtype: np.dtype) -> np.ndarray:
    return np.arange(start, stop, step, np.int64).astype(dtype)
