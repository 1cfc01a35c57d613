"""Universal functions: elementwise functions of one or two arrays that also reduce, run, pair and
update.

They are plain functions, so a call costs nothing more; their methods and counts are attributes of
the function, made here in one place. An associative function reduces by halves and runs in
log2(n) steps; any other goes from row to row.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import bevel.ops as ops
from bevel.control.scan import scan
from bevel.core.aval import Aval, aval_of
from bevel.core.dtypes import as_dtype
from bevel.core.errors import ShapeError
from bevel.core.graph import trace
from bevel.core.handle import wrap
from bevel.core.interpreter import EAGER, Tracer, state
from bevel.numpy import elementwise, indexing, logic, reductions
from bevel.numpy.arguments import axes_of, axis_of, cast, no_out, number, truth
from bevel.numpy.convert import broadcast_value, enter
from bevel.numpy.functional import vectorize

_SHORT = 64
"""Up to so many rows, going from row to row outside every transform needs no compiled loop."""


def _rows(x: Any, start: int, stop: int) -> Any:
    rest = tuple(x.shape[1:])
    return ops.slice(x, start=(start, *(0,) * len(rest)), limit=(stop, *rest))


def _row(x: Any, i: int) -> Any:
    return ops.reshape(_rows(x, i, i + 1), shape=tuple(x.shape[1:]))


def _walk(step: Callable[..., Any], first: Any, *xs: Any, keep: bool = False) -> tuple[Any, Any]:
    """`carry = step(carry, *row)` over the rows of values: the last carry, and all if `keep`."""
    n = xs[0].shape[0]
    eager = state.current is EAGER and not any(isinstance(v, Tracer) for v in (first, *xs))
    if n == 0 or (eager and n <= _SHORT):
        carry, kept = first, []
        for i in range(n):
            carry = step(carry, *[_row(x, i) for x in xs])
            kept.append(carry)
        one = (1, *first.shape)
        return carry, keep and ops.concatenate(*[ops.reshape(v, shape=one) for v in kept], axis=0)

    def body(carry: Any, *rows: Any) -> list[Any]:
        out = step(carry, *rows)
        return [out, out] if keep else [out]

    avals = [aval_of(first), *[Aval(tuple(x.shape[1:]), x.dtype) for x in xs]]
    graph, consts = trace(body, avals, "a ufunc's method")
    counts = {"n_consts": len(consts), "n_carry": 1, "length": n}
    outs = scan(*consts, first, *xs, body=graph, reverse=False, unroll=1, **counts)
    return outs[0], outs[1] if keep else None


class _Methods:
    """What a universal function can do beside being called."""

    __slots__ = ("associative", "fn", "identity", "name", "nargs", "nin", "nout", "quick")

    def __init__(self, fn: Callable[..., Any], nin: int, nout: int, **traits: Any):
        self.fn, self.name = fn, fn.__name__
        self.nin, self.nout = operator.index(nin), operator.index(nout)
        self.nargs = self.nin + self.nout
        self.identity = traits.get("identity")
        self.associative = traits.get("associative", False)
        self.quick = traits.get("quick", {})

    def _check(self, method: str, binary: bool = True) -> str:
        if self.nout != 1 or (binary and self.nin != 2):
            wanted = "two arguments" if binary else "one or two arguments"
            raise ValueError(
                f"{self.name}.{method}: only a function of {wanted} with one result has this "
                f"method, and {self.name} takes {self.nin} and gives {self.nout}"
            )
        return f"{self.name}.{method}"

    def _dtype(self, x: Any, dtype: Any) -> np.dtype:
        """The dtype that the function keeps: that of its result for two operands of this one."""
        if dtype is not None:
            return as_dtype(dtype)
        avals = [Aval((), x.dtype)] * self.nin
        graph, _ = trace(lambda *v: [self._apply(*v)], avals, "a ufunc's method")
        return np.dtype(graph.out_avals[0].dtype)

    def _apply(self, *values: Any) -> Any:
        return enter(self.fn(*[wrap(v) for v in values]))._v

    def _join(self, a: Any, b: Any) -> Any:
        """The function of two values, at the dtype of the first."""
        return cast(self._apply(a, b), np.dtype(a.dtype))

    def _start(self, name: str, shape: tuple[int, ...], dtype: np.dtype, initial: Any) -> Any:
        start = self.identity if initial is None else initial
        if start is None:
            raise ValueError(
                f"{name}: {self.name} has no identity to begin with.\n"
                f"Write instead: bnp.{name}(x, initial=...), the result for no elements."
            )
        return broadcast_value(cast(number(name, start), dtype), shape)

    # -- reduce and accumulate -------------------------------------------------------------------

    def reduce(
        self,
        a: Any,
        axis: int | Sequence[int] | None = 0,
        dtype: Any = None,
        out: None = None,
        keepdims: bool = False,
        initial: Any = None,
        where: Any = None,
    ) -> Any:
        """The function of all elements along axes (None: all of them), from the first to the last.

        Raises:
            ValueError: no elements and no identity, or `where` without identity and `initial`.
        """
        name = self._check("reduce")
        no_out(name, out)
        x = number(name, a)
        axes = axes_of(name, axis, len(x.shape))
        quick = self.quick.get("reduce")
        if quick is not None and (dtype is None or self.quick.get("dtype")):
            given = {} if dtype is None else {"dtype": dtype}
            if self.quick.get("initial"):
                return quick(a, axes, keepdims=keepdims, initial=initial, where=where, **given)
            if initial is None:
                return quick(a, axes, keepdims=keepdims, where=where)
        kept = reductions.kept_shape(tuple(x.shape), axes)
        mask = None
        if where is not None:
            mask = broadcast_value(truth(number(name, where)), tuple(x.shape))
            mask = reductions.as_rows(mask, axes)
        x = reductions.as_rows(cast(x, self._dtype(x, dtype)), axes)
        result = wrap(self._reduced(name, x, mask, initial))
        return result.reshape(kept) if keepdims else result

    def _reduced(self, name: str, x: Any, mask: Any, initial: Any) -> Any:
        """Reduce the last axis of a value."""
        last = len(x.shape) - 1
        order = (last, *range(last))
        x = ops.transpose(x, permutation=order)
        dtype, rest = np.dtype(x.dtype), tuple(x.shape[1:])
        begun = mask is not None or initial is not None or x.shape[0] == 0
        start = self._start(name, rest, dtype, initial) if begun else None
        if self.associative:
            if mask is not None:
                unit = start if self.identity is None else self._start(name, rest, dtype, None)
                x = ops.select(
                    ops.transpose(mask, permutation=order), x, broadcast_value(unit, x.shape)
                )
            if x.shape[0] == 0:
                return start
            x = self._halved(x)
            return x if initial is None else self._join(start, x)
        if mask is not None:
            return _walk(
                lambda c, r, m: ops.select(m, self._join(c, r), c),
                start,
                x,
                ops.transpose(mask, permutation=order),
            )[0]
        if start is not None:
            return _walk(self._join, start, x)[0]
        return _walk(self._join, _row(x, 0), _rows(x, 1, x.shape[0]))[0]

    def _halved(self, x: Any) -> Any:
        while (n := x.shape[0]) > 1:
            half = n // 2
            y = self._join(_rows(x, 0, half), _rows(x, half, 2 * half))
            x = ops.concatenate(y, _rows(x, n - 1, n), axis=0) if n % 2 else y
        return _row(x, 0)

    def accumulate(self, a: Any, axis: int = 0, dtype: Any = None, out: None = None) -> Any:
        """The reductions of the first, the first two, ... elements along an axis."""
        name = self._check("accumulate")
        no_out(name, out)
        x = number(name, a)
        axis = axis_of(name, axis, len(x.shape))
        if "accumulate" in self.quick:
            return self.quick["accumulate"](a, axis, dtype=dtype)
        x = cast(x, self._dtype(x, dtype))
        order = (axis, *[i for i in range(len(x.shape)) if i != axis])
        x = ops.transpose(x, permutation=order)
        n = x.shape[0]
        if self.associative:
            step = 1
            while step < n:
                y = self._join(_rows(x, 0, n - step), _rows(x, step, n))
                x = ops.concatenate(_rows(x, 0, step), y, axis=0)
                step *= 2
        elif n > 1:
            rest = _walk(self._join, _row(x, 0), _rows(x, 1, n), keep=True)[1]
            x = ops.concatenate(_rows(x, 0, 1), rest, axis=0)
        return wrap(ops.transpose(x, permutation=tuple(np.argsort(order).tolist())))

    def reduceat(
        self, a: Any, indices: Any, axis: int = 0, dtype: Any = None, out: None = None
    ) -> Any:
        """The reductions of the pieces of an axis that begin at `indices`.

        Piece i ends where piece i + 1 begins, the last at the end; a piece that ends before it
        begins is its first element.
        """
        name = self._check("reduceat")
        no_out(name, out)
        x, at = number(name, a), number(name, indices)
        if len(at.shape) != 1 or np.dtype(at.dtype).kind not in "iu":
            raise TypeError(
                f"{name}: indices must be a one-dimensional array of integers, got "
                f"{np.dtype(at.dtype).name} of shape {tuple(at.shape)}"
            )
        axis = axis_of(name, axis, len(x.shape))
        x = cast(x, self._dtype(x, dtype))
        order = (axis, *[i for i in range(len(x.shape)) if i != axis])
        x, at = ops.transpose(x, permutation=order), cast(at, np.dtype(np.int32))
        n, count = x.shape[0], at.shape[0]
        end = ops.full((1,), n, np.dtype(np.int32))
        ends = ops.concatenate(_rows(at, 1, count), end, axis=0) if count else at
        first = indexing.getitem(wrap(x), wrap(at))._v

        def step(carry: Any, row: Any, place: Any) -> Any:
            places = broadcast_value(place, (count,))
            inside = ops.and_(ops.gt(places, at), ops.lt(places, ends))
            inside = ops.broadcast_in_dim(inside, shape=tuple(carry.shape), dims=(0,))
            return ops.select(inside, self._join(carry, broadcast_value(row, carry.shape)), carry)

        out_, _ = _walk(step, first, x, np.arange(n, dtype=np.int32))
        return wrap(ops.transpose(out_, permutation=tuple(np.argsort(order).tolist())))

    # -- pairs and updates -----------------------------------------------------------------------

    def outer(self, A: Any, B: Any, /) -> Any:
        """The function of every pair of elements: shape `A.shape + B.shape`."""
        self._check("outer")
        A, B = enter(A), enter(B)
        return self.fn(A.reshape((*A.shape, *(1,) * B.ndim)), B)

    def at(self, a: Any, indices: Any, b: Any = None, /, *, inplace: bool = True) -> Any:
        """A copy of `a` in which the function was applied at `indices`, once for every occurrence.

        Raises:
            TypeError: `inplace` is not False: arrays are immutable.
        """
        name = self._check("at", binary=False)
        if inplace:
            raise TypeError(
                f"{name}: arrays are immutable, so nothing is done in place.\n"
                f"Write instead: y = bnp.{name}(a, indices, ..., inplace=False)"
            )
        if (b is None) != (self.nin == 1):
            raise TypeError(
                f"{name}: {self.name} takes {self.nin} operands, so values are "
                + ("missing" if b is None else "not taken")
            )
        x = enter(a)
        if "at" in self.quick and b is not None:
            return getattr(indexing.At(x)[indices], self.quick["at"])(b)
        value = number(name, x)
        shape, size = tuple(value.shape), math.prod(value.shape)
        places = np.arange(size, dtype=np.int32).reshape(shape)
        at = indexing.getitem(wrap(places), indices)._v
        parts = [at]
        if b is not None:
            other = number(name, b)
            try:
                other = broadcast_value(cast(other, np.dtype(value.dtype)), tuple(at.shape))
            except ValueError:
                raise ShapeError(
                    f"{name}: values of shape {tuple(other.shape)} do not broadcast to "
                    f"{tuple(at.shape)}, the shape of a[indices]"
                ) from None
            parts.append(other)
        parts = [ops.reshape(v, shape=(math.prod(at.shape),)) for v in parts]

        def step(carry: Any, place: Any, *others: Any) -> Any:
            old = ops.dynamic_slice(carry, place, sizes=(1,))
            new = self._apply(old, *[ops.reshape(v, shape=(1,)) for v in others])
            return ops.dynamic_update_slice(carry, cast(new, np.dtype(carry.dtype)), place)

        out, _ = _walk(step, ops.reshape(value, shape=(size,)), *parts)
        return wrap(ops.reshape(out, shape=shape))


_ATTRIBUTES = ("nin", "nout", "nargs", "identity")
_METHODS = ("reduce", "accumulate", "reduceat", "outer", "at")


def _with_methods(fn: Callable[..., Any], nin: int, nout: int, **traits: Any) -> Any:
    methods = _Methods(fn, nin, nout, **traits)
    for name in (*_ATTRIBUTES, *_METHODS):
        setattr(fn, name, getattr(methods, name))
    return fn


class _Functions(type):
    def __instancecheck__(cls, x: Any) -> bool:
        return isinstance(getattr(getattr(x, "reduce", None), "__self__", None), _Methods)


class ufunc(metaclass=_Functions):
    """A function of `nin` elements with `nout` results, as a universal function of arrays.

    It has `nin`, `nout`, `nargs`, `identity`, and the methods `reduce`, `accumulate`, `reduceat`,
    `outer` and `at`. `bnp.add` and its like are instances too.

    >>> larger = bnp.ufunc(lambda x, y: bnp.where(x > y, x, y), 2, 1, name="larger")
    >>> larger.reduce(bnp.array([3, 9, 4])), larger.nin, isinstance(bnp.add, bnp.ufunc)
    (Array(9, dtype=int32), 2, True)
    """

    def __new__(
        cls,
        func: Callable[..., Any],
        /,
        nin: int,
        nout: int,
        *,
        name: str | None = None,
        identity: Any = None,
    ) -> Any:
        """Make one."""
        vectorized = vectorize(func)
        name = name or getattr(func, "__name__", "function")

        @functools.wraps(func)
        def call(*args: Any) -> Any:
            if len(args) != nin:
                raise TypeError(f"{name}: takes {nin} arguments, got {len(args)}")
            out = vectorized(*args)
            found = len(out) if isinstance(out, tuple) else 1
            if found != nout:
                raise ValueError(f"{name}: returned {found} results, not {nout}")
            return out

        call.__name__ = call.__qualname__ = name
        return _with_methods(call, nin, nout, identity=identity)


def frompyfunc(
    func: Callable[..., Any], /, nin: int, nout: int, *, identity: Any = None
) -> Callable[..., Any]:
    """A function of `nin` elements, with `nout` results, as a universal function of arrays.

    `identity` is what `reduce` begins with where nothing is selected.

    >>> add = bnp.frompyfunc(lambda x, y: x + y, 2, 1, identity=0)
    >>> add(bnp.ones(2), 1), add.accumulate(bnp.arange(4))
    (Array([2., 2.], dtype=float32), Array([0, 1, 3, 6], dtype=int32))
    """
    return ufunc(func, nin, nout, identity=identity)


_SUMS = {"initial": True, "dtype": True}
_BOUNDS = {"initial": True}
_TABLE: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "add": (
        elementwise,
        0,
        {"reduce": reductions.sum, "accumulate": reductions.cumsum, "at": "add", **_SUMS},
    ),
    "multiply": (
        elementwise,
        1,
        {"reduce": reductions.prod, "accumulate": reductions.cumprod, "at": "multiply", **_SUMS},
    ),
    "maximum": (elementwise, None, {"reduce": reductions.max, "at": "max", **_BOUNDS}),
    "minimum": (elementwise, None, {"reduce": reductions.min, "at": "min", **_BOUNDS}),
    "logaddexp": (elementwise, -math.inf, {}),
    "logaddexp2": (elementwise, -math.inf, {}),
    "logical_and": (logic, True, {"reduce": reductions.all}),
    "logical_or": (logic, False, {"reduce": reductions.any}),
    "logical_xor": (logic, False, {}),
    "bitwise_and": (logic, -1, {}),
    "bitwise_or": (logic, 0, {}),
    "bitwise_xor": (logic, 0, {}),
}
"""Module, identity and quick ways of the associative functions; `initial` and `dtype` say what the
quick `reduce` takes.
"""

for _name, (_module, _identity, _quick) in _TABLE.items():
    _fn = getattr(_module, _name)
    globals()[_name] = _with_methods(_fn, 2, 1, identity=_identity, associative=True, quick=_quick)
subtract = _with_methods(elementwise.subtract, 2, 1, quick={"at": "subtract"})
negative = _with_methods(elementwise.negative, 1, 1)
