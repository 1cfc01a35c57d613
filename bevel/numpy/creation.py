"""Making arrays: from data, from a number, from a rule.

Data enters at 32 bits unless a dtype is named. Shapes, counts and axes are Python integers.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import bevel.ops as ops
from bevel.core import dtypes, errors, source
from bevel.core.dtypes import as_dtype, float32, int32
from bevel.core.handle import Handle, KeyTag, logical_shape, wrap
from bevel.core.interpreter import Tracer, to_numpy
from bevel.numpy.arguments import axis_of, integer, size_of
from bevel.numpy.convert import astype, enter, numbers, result_type
from bevel.numpy.moves import spread
from bevel.numpy.placing import placed

Shape = tuple[int, ...]
DType = Any

# -- from data -------------------------------------------------------------------------------------


def array(
    object: Any,
    dtype: DType = None,
    copy: bool = True,
    order: str | None = "K",
    ndmin: int = 0,
    *,
    device: Any = None,
) -> Any:
    """An array of the given data: numbers, nested lists, NumPy arrays, anything with `__array__`.

    64-bit data becomes 32-bit unless `dtype` names 64 bits. The data is copied: the array never
    shares memory that can be written. `ndmin`: the least number of axes; new ones come first.

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
    return placed(x, device)


def _entered(x: Any, dtype: DType) -> Handle:
    return enter(x, None if dtype is None else as_dtype(dtype))


def asarray(
    a: Any,
    dtype: DType = None,
    order: str | None = None,
    *,
    copy: bool | None = None,
    device: Any = None,
) -> Any:
    """The data as an array; an array that has the dtype already is returned as it is.

    Raises:
        ValueError: `copy` is False, and only a copy would do.

    >>> x = bnp.ones(3)
    >>> bnp.asarray(x) is x, bnp.asarray([True, False])
    (True, Array([ True, False], dtype=bool))
    """
    if copy is False and not isinstance(a, Handle):
        raise ValueError(
            "asarray: other data always becomes an array by copying; leave copy=False out"
        )
    x = _entered(a, dtype)
    if copy is False and x is not a and x._v is not a._v:
        raise ValueError(
            f"asarray: {a.dtype} becomes {x.dtype} only by copying; leave copy=False out"
        )
    return placed(_copied(x) if copy and x is a else x, device)


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
    return _copied(x) if isinstance(a, Handle) else x


def _copied(x: Handle) -> Any:
    return x if isinstance(x._v, Tracer) else wrap(np.array(to_numpy(x._v)), x._tag)


def frombuffer(buffer: Any, dtype: DType = float, count: int = -1, offset: int = 0) -> Any:
    r"""A 1-d array of the bytes of a buffer (bytes, memoryview, ...).

    >>> bnp.frombuffer(b"\x01\x02\x03", dtype=bnp.uint8)
    Array([1, 2, 3], dtype=uint8)
    """
    return wrap(np.array(np.frombuffer(buffer, as_dtype(dtype), count, offset)))


def fromiter(iter: Any, dtype: DType, count: int = -1) -> Any:
    """A 1-d array of what an iterable yields.

    >>> bnp.fromiter((i * i for i in range(4)), dtype=bnp.int32)
    Array([0, 1, 4, 9], dtype=int32)
    """
    return wrap(np.fromiter(iter, as_dtype(dtype), count))


def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Any:
    """An array of the data of another library's array, through DLPack; the data is copied.

    Raises:
        BufferError: `copy` is False: others could write to the memory of an immutable array.

    >>> bnp.from_dlpack(np.arange(2.0, dtype=np.float32))
    Array([0., 1.], dtype=float32)
    """
    if isinstance(x, Handle):
        return placed(_copied(x) if copy else x, device)
    if copy is False:
        raise BufferError(
            "from_dlpack: the data of another library is always copied; leave copy=False out"
        )
    return placed(wrap(np.array(np.from_dlpack(x))), device)


# -- one number everywhere -------------------------------------------------------------------------


def _filled(shape: Shape, value: Any, dtype: np.dtype) -> Any:
    return wrap(ops.full(shape, value, dtype))


def _dtype(dtype: DType, default: np.dtype = float32) -> np.dtype:
    return default if dtype is None else as_dtype(dtype)


def zeros(shape: Any, dtype: DType = None, *, device: Any = None) -> Any:
    """Zeros, float32 unless a dtype is given.

    >>> bnp.zeros((2, 2), dtype=int)
    Array([[0, 0],
           [0, 0]], dtype=int32)
    """
    return placed(_filled(size_of("zeros", shape), 0, _dtype(dtype)), device)


def ones(shape: Any, dtype: DType = None, *, device: Any = None) -> Any:
    """Ones, float32 unless a dtype is given.

    >>> bnp.ones(3)
    Array([1., 1., 1.], dtype=float32)
    """
    return placed(_filled(size_of("ones", shape), 1, _dtype(dtype)), device)


def empty(shape: Any, dtype: DType = None, *, device: Any = None) -> Any:
    """As `zeros`: arrays are immutable, so there is nothing to leave unset.

    >>> bnp.empty(2)
    Array([0., 0.], dtype=float32)
    """
    return placed(_filled(size_of("empty", shape), 0, _dtype(dtype)), device)


def full(shape: Any, fill_value: Any, dtype: DType = None, *, device: Any = None) -> Any:
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
    return placed(spread(x, shape, tuple(range(lead, len(shape)))), device)


def _like(name: str, a: Any, shape: Any, dtype: DType) -> tuple[Shape, np.dtype, Any]:
    x = enter(a)
    if type(x._tag) is KeyTag:
        raise TypeError(
            f"{name}: random keys have no numbers to be like.\nWrite instead: random.split(key, "
            "shape)."
        )
    shape = logical_shape(x) if shape is None else size_of(name, shape)
    return shape, _dtype(dtype, np.dtype(x._v.dtype)), x._tag if dtype is None else None


def zeros_like(a: Any, dtype: DType = None, shape: Any = None, *, device: Any = None) -> Any:
    """Zeros with the shape and dtype of `a`, or those given.

    >>> bnp.zeros_like(bnp.arange(2))
    Array([0, 0], dtype=int32)
    """
    shape, dtype, tag = _like("zeros_like", a, shape, dtype)
    return placed(wrap(ops.full(shape, 0, dtype), tag), device)


def ones_like(a: Any, dtype: DType = None, shape: Any = None, *, device: Any = None) -> Any:
    """Ones with the shape and dtype of `a`, or those given.

    >>> bnp.ones_like(bnp.arange(2), dtype=float)
    Array([1., 1.], dtype=float32)
    """
    shape, dtype, tag = _like("ones_like", a, shape, dtype)
    return placed(wrap(ops.full(shape, 1, dtype), tag), device)


def empty_like(
    prototype: Any, dtype: DType = None, shape: Any = None, *, device: Any = None
) -> Any:
    """As `zeros_like`.

    >>> bnp.empty_like(bnp.arange(2))
    Array([0, 0], dtype=int32)
    """
    return zeros_like(prototype, dtype, shape, device=device)


def full_like(
    a: Any, fill_value: Any, dtype: DType = None, shape: Any = None, *, device: Any = None
) -> Any:
    """One value (broadcast), with the shape and dtype of `a`, or those given.

    >>> bnp.full_like(bnp.ones(2), 3)
    Array([3., 3.], dtype=float32)
    """
    shape, dtype, _ = _like("full_like", a, shape, dtype)
    return full(shape, fill_value, dtype, device=device)


# -- ranges ----------------------------------------------------------------------------------------


def _static_number(name: str, what: str, x: Any) -> Any:
    """A Python or NumPy number; ranges need their bounds when the program is written."""
    if isinstance(x, Handle):
        if isinstance(x._v, Tracer):
            raise errors.ConcretizationTypeError(
                f"{name}: {what} is a traced {x._v.aval}, at "
                f"{source.where(source.user_source())}.\n"
                "Why: it decides how long the result is, and shapes are part of the program.\n"
                "Write instead: bnp.arange(n) with a Python integer n, then a mask: bnp.arange(n) "
                "< stop."
            )
        x = to_numpy(x._v)[()]
    if np.ndim(x) != 0 or not isinstance(x, int | float | np.number):
        raise TypeError(f"{name}: {what} must be a real number, got {x!r}")
    return x


def _kind_of(parts: Sequence[Any]) -> np.dtype:
    """The dtype numbers promote to; NumPy numbers count at their entry precision."""
    return result_type(
        [
            x if isinstance(x, Handle) or type(x) in (int, float, complex) else enter(x)
            for x in parts
        ]
    )[0]


def arange(
    start: Any, stop: Any = None, step: Any = None, dtype: DType = None, *, device: Any = None
) -> Any:
    """Numbers from `start` (0 if there is one argument) up to but not including `stop`, by `step`.

    int32 for integers, float32 for floats, unless a dtype is given.

    Raises:
        ConcretizationTypeError: a bound is traced; the length must be known.
        OverflowError: an integer does not fit in the dtype.

    >>> bnp.arange(3), bnp.arange(1.0, 2.0, 0.5)
    (Array([0, 1, 2], dtype=int32), Array([1. , 1.5], dtype=float32))
    """
    return placed(_arange(start, stop, step, dtype), device)


def _arange(start: Any, stop: Any, step: Any, dtype: DType) -> Any:
    given = [x for x in (start, stop, step) if x is not None]
    out = _kind_of(given) if dtype is None else as_dtype(dtype)
    if stop is None:
        start, stop = 0, start
    start, stop = _static_number("arange", "start", start), _static_number("arange", "stop", stop)
    step = 1 if step is None else _static_number("arange", "step", step)
    if step == 0:
        raise ValueError("arange: step is 0, so the range never ends")
    if not builtins.all([float(x).is_integer() for x in (start, stop, step)]):
        return wrap(np.arange(start, stop, step, np.float64).astype(out))
    start, stop, step = int(start), int(stop), int(step)
    n = len(range(start, stop, step))
    last = start + builtins.max(n - 1, 0) * step
    if dtypes.is_integer(out) and n:
        for x in (start, last):
            if not np.iinfo(out).min <= x <= np.iinfo(out).max:
                raise OverflowError(
                    f"arange: {x} does not fit in {out.name}.\nWrite instead: bnp.arange(..., "
                    "dtype=bnp.int64)."
                )
    exact = 2**24 if out == float32 else 2**31
    if (
        out not in (int32, dtypes.int64, float32, dtypes.float64)
        or builtins.max(map(builtins.abs, (start, last, step))) >= exact
    ):
        return wrap(np.arange(start, stop, step, np.int64).astype(out))
    count = ops.iota(shape=(n,), dtype=out, axis=0)
    if step != 1:
        count = ops.mul(count, ops.full_like(count, step))
    return wrap(ops.add(count, ops.full_like(count, start)) if start else count)


def linspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: DType = None,
    axis: int = 0,
    *,
    device: Any = None,
) -> Any:
    """`num` numbers at equal distances from `start` to `stop`; with `retstep`, the distance too.

    `start` and `stop` may be arrays, whose axes follow the new one (at `axis`). Floating unless a
    dtype is given; integers are rounded down.

    >>> bnp.linspace(0, 1, 5)
    Array([0.  , 0.25, 0.5 , 0.75, 1.  ], dtype=float32)
    """
    num = integer("linspace", "num", num)
    if num < 0:
        raise ValueError(f"linspace: num={num} is negative")
    points, gap = _linspace(start, stop, num, endpoint, dtype, axis)
    points = placed(points, device)
    return (points, placed(gap, device)) if retstep else points


def _linspace(
    start: Any, stop: Any, num: int, endpoint: bool, dtype: DType, axis: int
) -> tuple[Any, Any]:
    """The numbers and their distance."""
    out = dtypes.float32 if dtype is None else as_dtype(dtype)
    if not isinstance(start, Handle) and not isinstance(
        stop, Handle
    ):  # known: in double precision, rounded once
        inner = _kind_of((start, stop))
        inner = inner if dtypes.is_inexact(inner) else float32
        points, gap = np.linspace(start, stop, num, endpoint, True, axis=axis)
        points = np.floor(points) if dtypes.is_integer(out) else points
        x = np.asarray(points.astype(inner if dtype is None else out))
        return wrap(x), wrap(np.asarray(gap, inner))
    (a, b), _ = numbers("linspace", (start, stop), inexact=True)
    gaps = num - 1 if endpoint else num
    shape = (num, *a.shape)
    t = ops.convert(ops.iota(shape=shape, dtype=int32, axis=0), dtype=dtypes.real_dtype(a.dtype))
    t = ops.convert(ops.div(t, ops.full_like(t, builtins.max(gaps, 1))), dtype=a.dtype)
    dims = tuple(range(1, len(shape)))
    first, last = (ops.broadcast_in_dim(v, shape=shape, dims=dims) for v in (a, b))
    points = ops.add(ops.mul(first, ops.sub(ops.full_like(t, 1), t)), ops.mul(last, t))
    if endpoint and num > 1:
        points = ops.select(ops.eq(t, ops.full_like(t, 1)), last, points)
    points = ops.moveaxis(points, 0, axis_of("linspace", axis, len(shape)))
    if dtype is not None:
        points = ops.floor(points) if dtypes.is_integer(out) else points
        points = ops.convert(points, dtype=out)
    gap = ops.div(ops.sub(b, a), ops.full_like(a, gaps if gaps > 0 else math.nan))
    return wrap(points), wrap(gap)


def logspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    base: Any = 10.0,
    dtype: DType = None,
    axis: int = 0,
) -> Any:
    """`base` to the powers `linspace(start, stop, num)`.

    >>> bnp.logspace(0, 2, 3)
    Array([  1.,  10., 100.], dtype=float32)
    """
    if not builtins.any([isinstance(x, Handle) for x in (start, stop, base)]):
        inner = _kind_of((start, stop, base))
        points = np.logspace(start, stop, num, endpoint, base, axis=axis)
        inner = inner if dtypes.is_inexact(inner) else float32
        return wrap(np.asarray(points.astype(inner if dtype is None else as_dtype(dtype))))
    points = linspace(start, stop, num, endpoint, axis=axis)
    (b, p), _ = numbers("logspace", (base, points), inexact=True)
    out = wrap(ops.pow(b, p))
    return out if dtype is None else astype(out, as_dtype(dtype))


def geomspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, dtype: DType = None, axis: int = 0
) -> Any:
    """`num` numbers with equal quotients from `start` to `stop`, both of one sign and not zero.

    >>> bnp.geomspace(1, 8, 4)
    Array([1., 2., 4., 8.], dtype=float32)
    """
    if not isinstance(start, Handle) and not isinstance(stop, Handle):
        inner = _kind_of((start, stop))
        points = np.geomspace(start, stop, num, endpoint, axis=axis)
        inner = inner if dtypes.is_inexact(inner) else float32
        return wrap(np.asarray(points.astype(inner if dtype is None else as_dtype(dtype))))
    (a, b), _ = numbers("geomspace", (start, stop), inexact=True)
    powers = linspace(0.0, wrap(ops.log(ops.div(b, a))), num, endpoint, axis=axis)
    (p, first), _ = numbers("geomspace", (powers, wrap(a)))
    out = wrap(ops.mul(first, ops.exp(p)))
    return out if dtype is None else astype(out, as_dtype(dtype))
