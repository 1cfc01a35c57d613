"""Reductions, running reductions, windows and sorting, with the names of `jax.lax`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import bevel.ops as ops
from bevel.core import dtypes, tree
from bevel.core.aval import Aval
from bevel.core.errors import Unsupported
from bevel.core.graph import Graph, trace
from bevel.core.handle import wrap
from bevel.core.interpreter import is_concrete, to_numpy
from bevel.lax import elementwise
from bevel.lax.operands import checked, one_dtype, require
from bevel.numpy import elementwise as promoting
from bevel.numpy import logic
from bevel.numpy.arguments import axes_of, axis_of, cast, integer, number
from bevel.numpy.convert import broadcast_value

# -- over axes -----------------------------------------------------------------------------------


def _reduction(name: str, op: Any, doc: str, example: str) -> Callable:
    def reduction(operand: Any, axes: Sequence[int]) -> Any:
        x = number(name, operand)
        places = axes_of(name, tuple(axes), len(x.shape))
        return wrap(checked(op, x, axes=tuple(sorted(places))) if places else x)

    reduction.__name__ = reduction.__qualname__ = name
    call, result = example.split(" -> ")
    reduction.__doc__ = (
        f"{doc} along axes; the dtype is kept.\n\n>>> lax.{name}({call}, (0,))\n{result}\n"
    )
    return reduction


reduce_sum = _reduction(
    "reduce_sum", ops.reduce_sum, "Sum", "bnp.array([2, 3]) -> Array(5, dtype=int32)"
)
reduce_prod = _reduction(
    "reduce_prod", ops.reduce_prod, "Product", "bnp.array([2, 3]) -> Array(6, dtype=int32)"
)
reduce_max = _reduction(
    "reduce_max", ops.reduce_max, "Largest element", "bnp.array([2, 3]) -> Array(3, dtype=int32)"
)
reduce_min = _reduction(
    "reduce_min", ops.reduce_min, "Smallest element", "bnp.array([2, 3]) -> Array(2, dtype=int32)"
)
reduce_and = _reduction(
    "reduce_and",
    ops.reduce_and,
    "Bits set in all elements",
    "bnp.array([2, 3]) -> Array(2, dtype=int32)",
)
reduce_or = _reduction(
    "reduce_or",
    ops.reduce_or,
    "Bits set in any element",
    "bnp.array([2, 3]) -> Array(3, dtype=int32)",
)
reduce_xor = _reduction(
    "reduce_xor",
    ops.reduce_xor,
    "Bits set in an odd number of elements",
    "bnp.array([2, 3]) -> Array(1, dtype=int32)",
)


def argmax(operand: Any, axis: int, index_dtype: Any = dtypes.int32) -> Any:
    """Position of the first largest element (NaN counts as largest) along an axis.

    >>> lax.argmax(bnp.array([1, 3, 3]), 0, bnp.int32)
    Array(1, dtype=int32)
    """
    return _position("argmax", ops.argmax, operand, axis, index_dtype)


def argmin(operand: Any, axis: int, index_dtype: Any = dtypes.int32) -> Any:
    """Position of the first smallest element (NaN counts as smallest) along an axis.

    >>> lax.argmin(bnp.array([1, 3, 1]), 0, bnp.int32)
    Array(0, dtype=int32)
    """
    return _position("argmin", ops.argmin, operand, axis, index_dtype)


def _position(name: str, op: Any, operand: Any, axis: int, index_dtype: Any) -> Any:
    x = number(name, operand)
    axis = axis_of(name, axis, len(x.shape))
    return wrap(checked(op, x, axis=axis, index_dtype=dtypes.as_dtype(index_dtype)))


def _running(name: str, op: Any, doc: str, example: str) -> Callable:
    def running(operand: Any, axis: int = 0, reverse: bool = False) -> Any:
        x = number(name, operand)
        return wrap(checked(op, x, axis=axis_of(name, axis, len(x.shape)), reverse=reverse))

    running.__name__ = running.__qualname__ = name
    call, result = example.split(" -> ")
    running.__doc__ = (
        f"{doc} along an axis, from its end if `reverse`.\n\n>>> lax.{name}({call})\n{result}\n"
    )
    return running


cumsum = _running(
    "cumsum", ops.cumsum, "Running sum", "bnp.array([1, 2]) -> Array([1, 3], dtype=int32)"
)
cumprod = _running(
    "cumprod", ops.cumprod, "Running product", "bnp.array([2, 3]) -> Array([2, 6], dtype=int32)"
)
cummax = _running(
    "cummax", ops.cummax, "Running maximum", "bnp.array([2, 1]) -> Array([2, 2], dtype=int32)"
)
cummin = _running(
    "cummin", ops.cummin, "Running minimum", "bnp.array([2, 3]) -> Array([2, 2], dtype=int32)"
)
cumlogsumexp = _running(
    "cumlogsumexp",
    ops.cumlogsumexp,
    "Logarithm of the running sum of exponentials",
    "bnp.array([0.0, -bnp.inf]) -> Array([0., 0.], dtype=float32)",
)

# -- with a function of the user's ---------------------------------------------------------------

# Functions for which there is an op, with derivatives: the reduction over axes, over windows, how
# to bring in the initial value, and the initial value that changes nothing.
_SUM = ops.reduce_sum, ops.reduce_window_sum, ops.add, lambda d: 0
_PROD = ops.reduce_prod, None, ops.mul, lambda d: 1
_MAX = ops.reduce_max, ops.reduce_window_max, ops.max, lambda d: _edge(d, -1)
_MIN = ops.reduce_min, ops.reduce_window_min, ops.min, lambda d: _edge(d, 1)
_AND = ops.reduce_and, None, ops.and_, lambda d: True if d == dtypes.bool_ else -1
_OR = ops.reduce_or, None, ops.or_, lambda d: 0
_XOR = ops.reduce_xor, None, ops.xor, lambda d: 0
_KNOWN = {
    elementwise.add: _SUM,
    promoting.add: _SUM,
    elementwise.mul: _PROD,
    promoting.multiply: _PROD,
    elementwise.max: _MAX,
    promoting.maximum: _MAX,
    elementwise.min: _MIN,
    promoting.minimum: _MIN,
    elementwise.bitwise_and: _AND,
    logic.bitwise_and: _AND,
    logic.logical_and: _AND,
    elementwise.bitwise_or: _OR,
    logic.bitwise_or: _OR,
    logic.logical_or: _OR,
    elementwise.bitwise_xor: _XOR,
    logic.bitwise_xor: _XOR,
}
_OF_BOOLS = (logic.logical_and, logic.logical_or)


def _edge(dtype: np.dtype, sign: int) -> Any:
    if not dtypes.is_integer(dtype):
        return bool(sign > 0) if dtype == np.bool_ else sign * math.inf
    info = np.iinfo(dtype)
    return info.max if sign > 0 else info.min


def _known(computation: Callable, dtype: np.dtype) -> Any:
    """The row for a function, if there is one for operands of this dtype."""
    if computation in _OF_BOOLS and dtype != np.bool_:
        return None
    try:
        return _KNOWN.get(computation)
    except TypeError:
        return None


def _changes_nothing(init: Any, identity: Any) -> bool:
    return is_concrete(init) and bool(to_numpy(init) == identity)


def _with_init(row: tuple, out: Any, init: Any) -> Any:
    """A result with the initial value brought in, unless it changes nothing."""
    dtype = np.dtype(out.dtype)
    if _changes_nothing(init, np.asarray(row[3](dtype)).astype(dtype)):
        return out
    return row[2](out, broadcast_value(init, tuple(out.shape)))


def _flat(name: str, operands: Any, init_values: Any) -> tuple[list[Any], list[Any], Any]:
    leaves, structure = tree.flatten(operands)
    inits, init_structure = tree.flatten(init_values)
    if structure != init_structure or not leaves:
        raise TypeError(
            f"lax.{name}: operands {structure} and initial values {init_structure} differ"
        )
    pairs = [one_dtype(name, (x, i))[0] for x, i in zip(leaves, inits, strict=True)]
    return [p[0] for p in pairs], [p[1] for p in pairs], structure


def _body(name: str, computation: Callable, values: list[Any], structure: Any) -> Graph:
    """The graph of a function of (accumulators, elements)."""
    half = len(values)

    def run(*xs: Any) -> list[Any]:
        sides = [tree.unflatten(structure, [wrap(x) for x in xs[i : i + half]]) for i in (0, half)]
        return [number(name, leaf) for leaf in tree.flatten(computation(*sides))[0]]

    avals = [Aval((), np.dtype(v.dtype)) for v in values]
    graph, captured = trace(run, avals * 2, name)
    if captured:
        raise Unsupported(
            f"lax.{name}: the function to reduce with uses a traced value from outside.\n"
            "Why: it becomes a program of its own, which sees its arguments only.\n"
            "Write instead: pass the value as one more operand, or use lax.associative_scan or "
            "lax.scan."
        )
    return graph


def reduce(
    operands: Any,
    init_values: Any,
    computation: Callable[[Any, Any], Any],
    dimensions: Sequence[int],
) -> Any:
    """Reduce with an associative function of two values, from an initial value that changes
    nothing.

    `operands` and `init_values` are arrays, or trees of one structure that the function takes and
    returns. Derivatives exist for the functions that have an op: add, mul, max, min, and the
    bitwise ones.

    >>> lax.reduce(bnp.array([1, 2, 3]), 0, lax.add, (0,))
    Array(6, dtype=int32)
    """
    xs, inits, structure = _flat("reduce", operands, init_values)
    axes = tuple(sorted(axes_of("reduce", tuple(dimensions), len(xs[0].shape))))
    row = _known(computation, np.dtype(xs[0].dtype)) if len(xs) == 1 else None
    if row is not None:
        out = checked(row[0], xs[0], axes=axes) if axes else xs[0]
        return tree.unflatten(structure, [wrap(_with_init(row, out, inits[0]))])
    outs = ops.reduce(*xs, *inits, body=_body("reduce", computation, xs, structure), axes=axes)
    return tree.unflatten(structure, [wrap(o) for o in outs])


def padtype_to_pads(
    in_shape: Sequence[int],
    window_shape: Sequence[int],
    window_strides: Sequence[int],
    padding: str,
) -> list[tuple[int, int]]:
    """What "SAME", "SAME_LOWER" or "VALID" padding is, in elements before and after each axis.

    >>> lax.padtype_to_pads((5,), (3,), (2,), "SAME")
    [(1, 1)]
    """
    kind = str(padding).upper()
    if kind not in ("SAME", "SAME_LOWER", "VALID"):
        raise ValueError(
            f"padding must be 'SAME', 'SAME_LOWER', 'VALID' or pairs of ints, got {padding!r}"
        )
    if kind == "VALID":
        return [(0, 0)] * len(in_shape)
    out = []
    for n, window, stride in zip(in_shape, window_shape, window_strides, strict=True):
        total = max(0, (-(-n // stride) - 1) * stride + window - n)
        less, more = total // 2, total - total // 2
        out.append((more, less) if kind == "SAME_LOWER" else (less, more))
    return out


def _geometry(
    x: Any, window: Any, strides: Any, padding: Any, base: Any, dilation: Any
) -> dict[str, Any]:
    """Parameters of a windowed op, one entry for each axis."""
    ndim = len(x.shape)

    def each(what: str, given: Any, default: int | None) -> tuple[int, ...]:
        given = (default,) * ndim if given is None else tuple(given)
        if len(given) != ndim:
            raise ValueError(
                f"lax.reduce_window: {what}={given} needs one entry for each of the {ndim} axes"
            )
        return tuple([integer("reduce_window", what, n) for n in given])

    window, strides = each("window_dimensions", window, None), each("window_strides", strides, 1)
    base, dilation = each("base_dilation", base, 1), each("window_dilation", dilation, 1)
    if isinstance(padding, str):
        reach = [(w - 1) * d + 1 for w, d in zip(window, dilation, strict=True)]
        wide = [0 if n == 0 else (n - 1) * b + 1 for n, b in zip(x.shape, base, strict=True)]
        padding = padtype_to_pads(wide, reach, strides, padding)
    pads = tuple([tuple([integer("reduce_window", "padding", n) for n in p]) for p in padding])
    return dict(
        window=window, strides=strides, padding=pads, base_dilation=base, window_dilation=dilation
    )


def reduce_window(
    operand: Any,
    init_value: Any,
    computation: Callable[[Any, Any], Any],
    window_dimensions: Sequence[int],
    window_strides: Sequence[int] | None = None,
    padding: str | Sequence[tuple[int, int]] = "VALID",
    base_dilation: Sequence[int] | None = None,
    window_dilation: Sequence[int] | None = None,
) -> Any:
    """`reduce` over every place of a sliding window; what lies in the padding is the initial value.

    Derivatives exist for add, max and min.

    >>> lax.reduce_window(bnp.arange(4.0), 0.0, lax.add, (2,), (2,))
    Array([1., 5.], dtype=float32)
    """
    xs, inits, structure = _flat("reduce_window", operand, init_value)
    geometry = _geometry(
        xs[0], window_dimensions, window_strides, padding, base_dilation, window_dilation
    )
    row = _known(computation, np.dtype(xs[0].dtype)) if len(xs) == 1 else None
    if row is not None and row[1] is not None and dtypes.kind(np.dtype(xs[0].dtype)) != "b":
        return tree.unflatten(
            structure, [wrap(_with_init(row, checked(row[1], xs[0], **geometry), inits[0]))]
        )
    body = _body("reduce_window", computation, xs, structure)
    outs = ops.reduce_window(*xs, *inits, body=body, **geometry)
    return tree.unflatten(structure, [wrap(o) for o in outs])


# -- sorting -------------------------------------------------------------------------------------


def sort(operand: Any, dimension: int = -1, is_stable: bool = True, num_keys: int = 1) -> Any:
    """Sort an array along an axis, or several of one shape together, by the first `num_keys` of
    them.

    >>> lax.sort((bnp.array([2, 1]), bnp.array([5, 6])))[1]
    Array([6, 5], dtype=int32)
    """
    several = isinstance(operand, tuple | list)
    values = [number("sort", x) for x in (operand if several else (operand,))]
    if not values:
        raise TypeError("lax.sort: needs at least one array")
    axis = axis_of("sort", dimension, len(values[0].shape))
    outs = ops.sort(*values, axis=axis, num_keys=num_keys, stable=is_stable)
    return tuple([wrap(o) for o in outs]) if several else wrap(outs[0])


def sort_key_val(
    keys: Any, values: Any, dimension: int = -1, is_stable: bool = True
) -> tuple[Any, Any]:
    """Sort keys along an axis, and values with them.

    >>> lax.sort_key_val(bnp.array([2, 1]), bnp.array([5, 6]))
    (Array([1, 2], dtype=int32), Array([6, 5], dtype=int32))
    """
    return sort((keys, values), dimension, is_stable, 1)


def top_k(operand: Any, k: int, *, axis: int = -1) -> tuple[Any, Any]:
    """The k largest elements along an axis, descending, and their int32 positions; ties by
    position.

    >>> lax.top_k(bnp.array([1, 3, 2]), 2)
    (Array([3, 2], dtype=int32), Array([1, 2], dtype=int32))
    """
    x = number("top_k", operand)
    require("top_k", x, "biuf", "real numbers or bools")
    if x.dtype == dtypes.bool_:
        values, places = top_k(wrap(cast(x, dtypes.uint8)), k, axis=axis)
        return wrap(cast(values._v, dtypes.bool_)), places
    ndim = len(x.shape)
    axis = axis_of("top_k", axis, ndim)
    k = integer("top_k", "k", k)
    values, places = checked(ops.top_k, ops.moveaxis(x, axis, ndim - 1), k=k)
    return wrap(ops.moveaxis(values, ndim - 1, axis)), wrap(ops.moveaxis(places, ndim - 1, axis))


def _approximate(name: str, operand: Any, k: int, axis: int, largest: bool) -> tuple[Any, Any]:
    x = number(name, operand)
    require(name, x, "f", "floats")
    if largest:
        return top_k(wrap(x), k, axis=axis)
    values, places = top_k(wrap(ops.neg(x)), k, axis=axis)
    return wrap(ops.neg(values._v)), places


def approx_max_k(
    operand: Any,
    k: int,
    reduction_dimension: int = -1,
    recall_target: float = 0.95,
    reduction_input_size_override: int = -1,
    aggregate_to_topk: bool = True,
) -> tuple[Any, Any]:
    """The k largest floats along an axis and their places, as `top_k`: with a recall of 1, whatever
    is asked for.

    >>> lax.approx_max_k(bnp.array([1.0, 3.0, 2.0]), 2)[0]
    Array([3., 2.], dtype=float32)
    """
    return _approximate("approx_max_k", operand, k, reduction_dimension, True)


def approx_min_k(
    operand: Any,
    k: int,
    reduction_dimension: int = -1,
    recall_target: float = 0.95,
    reduction_input_size_override: int = -1,
    aggregate_to_topk: bool = True,
) -> tuple[Any, Any]:
    """The k smallest floats along an axis, ascending, and their places: with a recall of 1,
    whatever is asked for.

    >>> lax.approx_min_k(bnp.array([1.0, 3.0, 2.0]), 2)[0]
    Array([1., 2.], dtype=float32)
    """
    return _approximate("approx_min_k", operand, k, reduction_dimension, False)
