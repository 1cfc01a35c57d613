"""From anything a user passes to a value and a tag: entry conversion and promotion.

Decision 8 lives here: data enters at 32 bits unless a dtype is named, an integer that does not fit
raises, and mixing an explicit float64 with float32 warns once per place.
"""

from __future__ import annotations

import functools
import itertools
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from bevel.core import config, dtypes, source
from bevel.core.errors import Float64PromotionWarning
from bevel.core.handle import WEAK, Handle, KeyTag, WeakIf, is_weak, weak_now, weak_together, wrap
from bevel.core.interpreter import is_concrete, quiet, run_quietly, to_numpy
from bevel.core.misfit import broadcast_reason, mend_broadcast, misfit
from bevel.ops import broadcast_in_dim, concatenate, convert, reshape

SCALARS = (bool, int, float, complex)
_NUMBERS = (int, float, complex)


def quietly(fn: Any, *args: Any) -> Any:
    """Call `fn` without NumPy's floating-point warnings; quick, and safe inside another quiet
    call.
    """
    try:
        return quiet.run(fn, *args)
    except RuntimeError as e:
        if "cannot enter context" not in str(e):
            raise
        return run_quietly(fn, *args)


def _fits(value: int, dtype: np.dtype) -> bool:
    info = dtypes.iinfo(dtype)
    return info.min <= value <= info.max


def _scalar(x: Any, dtype: np.dtype | None) -> np.ndarray:
    """A Python scalar as a 0-d array (cached nowhere: NumPy does it in 0.1 us)."""
    dtype = dtype or dtypes.python_scalar_dtype(x)
    if dtypes.is_integer(dtype) and isinstance(x, int) and not _fits(x, dtype):
        raise OverflowError(
            f"the integer {x} does not fit in {dtype.name} ({dtypes.iinfo(dtype).min} to "
            f"{dtypes.iinfo(dtype).max}), at "
            f"{source.where(source.user_source())}.\n"
            "Why: a Python number takes the dtype of the array it meets, int32 on its own, and "
            "nothing is cut "
            "silently.\n"
            f"Write instead: {_wider(x)}."
        )
    return quietly(np.asarray, x, dtype)


def _wider(x: int) -> str:
    if not -(2**63) <= x < 2**64:
        return f"a float, float({x})"
    name = "int64" if x < 2**63 else "uint64"
    return f"bnp.{name}({x}) for the number, x.astype(bnp.{name}) for an array, or a float"


def _narrow(x: np.ndarray, dtype: np.dtype | None) -> np.ndarray:
    """A private copy of NumPy data at its entry dtype, with the overflow check."""
    target = dtype or dtypes.default_dtype(dtypes.as_dtype(x.dtype))
    if x.dtype == target:
        return np.array(x, target, order="C")
    if dtype is None and dtypes.is_integer(target) and x.size:
        low, high = x.min(), x.max()
        if not (_fits(int(low), target) and _fits(int(high), target)):
            raise OverflowError(
                f"{x.dtype.name} data from {low} to {high} does not fit in {target.name}, the "
                f"default for integers, at {source.where(source.user_source())}.\n"
                "Why: 64-bit numbers appear only by name, and nothing is cut silently.\n"
                f"Write instead: bnp.asarray(x, dtype=bnp.{x.dtype.name})."
            )
    return quietly(np.ndarray.astype, x, target, "C")


def _check_number(x: Any, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind in "OUSMmV" and array.dtype not in dtypes.ALL + dtypes.STORAGE:
        raise TypeError(
            f"{type(x).__name__} cannot become an array: it gives the NumPy dtype {array.dtype}.\n"
            "Why: arrays hold booleans and numbers of one dtype, of at most 64 bits.\n"
            "Write instead: numbers, or (nested) lists of numbers whose rows have the same length."
        )
    return array.astype(array.dtype.newbyteorder("=")) if not array.dtype.isnative else array


def enter(x: Any, dtype: np.dtype | None = None) -> Handle:
    """A handle on anything array-like: handles, state cells, NumPy arrays, Python scalars, nested
    lists.

    Raises:
        TypeError: `x` is nothing an array can be made from.
        OverflowError: an integer does not fit in the default dtype.
    """
    if isinstance(x, Handle):
        return x if dtype is None else astype(x, dtype)
    if type(x) in SCALARS:
        return wrap(_scalar(x, dtype), WEAK if dtype is None and type(x) is not bool else None)
    if isinstance(x, np.ndarray | np.generic):
        return wrap(_narrow(_check_number(x, np.asarray(x)), dtype))
    own = getattr(x, "__bevel_array__", None)
    if own is not None:
        return enter(own(), dtype)
    if isinstance(x, list | tuple | range):
        return _from_sequence(x, dtype)
    if isinstance(x, _NUMBERS):  # IntEnum and the like
        return enter(next(t for t in _NUMBERS if isinstance(x, t))(x), dtype)
    if hasattr(x, "__array__") or isinstance(x, memoryview | bytearray):
        return wrap(_narrow(_check_number(x, np.asarray(x)), dtype))
    if hasattr(x, "__dlpack__"):
        return wrap(_narrow(_check_number(x, np.from_dlpack(x)), dtype))
    raise TypeError(
        f"expected an array or a number, got {type(x).__name__}.\n"
        "Write instead: a bevel or NumPy array, a Python number, or nested lists of numbers."
        + ("\nFor a pytree (dict, module, ...) use bv.tree.map." if isinstance(x, dict) else "")
        + (
            "\nFor a module, nn.state(model, nn.Param) is a tree of its parameters."
            if hasattr(x, "__bevel_structure__")
            else ""
        )
    )


def is_array_like(x: Any) -> bool:
    """Whether an operator takes `x` as an operand (for others, Python asks their class)."""
    return (
        isinstance(x, Handle | np.ndarray | np.generic | list | tuple | int | float | complex)
        or hasattr(x, "__bevel_array__")
        or (hasattr(x, "__array__") and not hasattr(x, "__array_ufunc__"))
    )


def _leaf_types(x: Any) -> set[type]:
    types = set(map(type, x))
    nested = types & {list, tuple, range}
    if nested:
        types -= nested
        for item in x:
            if isinstance(item, list | tuple | range):
                types |= _leaf_types(item)
    return types


def _leaves(x: Any):
    for item in x:
        if isinstance(item, list | tuple | range):
            yield from _leaves(item)
        else:
            yield item


def _from_sequence(x: Any, dtype: np.dtype | None) -> Handle:
    types = _leaf_types(x)
    if types <= {*SCALARS}:  # nothing but Python numbers, however many
        highest = max(types, key=SCALARS.index, default=float)
        found, x = dtypes.as_dtype(highest), _to_ndarray(x)
    else:
        leaves = [enter(leaf) if hasattr(leaf, "__bevel_array__") else leaf for leaf in _leaves(x)]
        handles = [leaf for leaf in leaves if isinstance(leaf, Handle)]
        if any(not is_concrete(h._v) or type(h._tag) is KeyTag for h in handles):
            return _stack_nested(x, dtype)
        found, x = _sequence_dtype(leaves), _to_ndarray(_plain(x))
    if dtype is None and dtypes.is_integer(found) and x.size:
        return wrap(_narrow(x, None if dtypes.default_dtype(x.dtype) == found else found))
    return wrap(quietly(np.ndarray.astype, x, dtype or found))


def _to_ndarray(x: Any) -> np.ndarray:
    try:
        return _check_number(x, np.asarray(x))
    except ValueError as e:
        if "inhomogeneous" not in str(e):
            raise
        raise ValueError(
            "the rows of a nested list have different lengths, so they are no array.\n"
            "Write instead: pad them to one length, or keep a Python list of arrays."
        ) from None


def _plain(x: Any) -> Any:
    if isinstance(x, list | tuple | range):
        return [_plain(item) for item in x]
    if hasattr(x, "__bevel_array__"):
        x = x.__bevel_array__()
    return to_numpy(x._v) if isinstance(x, Handle) else x


def _sequence_dtype(leaves: list[Any]) -> np.dtype:
    """Promotion over the leaves of nested lists."""
    result: tuple[np.dtype, bool] | None = None
    for leaf in leaves:
        if isinstance(leaf, Handle) or type(leaf) in _NUMBERS:
            one = _kind_of(leaf)
        else:
            one = (dtypes.default_dtype(_check_number(leaf, np.asarray(leaf)).dtype), False)
        result = one if result is None or result == one else dtypes.promote(*result, *one)
    return dtypes.float32 if result is None else result[0]


def _stack_nested(x: Any, dtype: np.dtype | None) -> Handle:
    values, tag = promote(*x)
    shapes = {tuple(v.shape) for v in values}
    if len(shapes) != 1:
        raise ValueError(
            f"the rows of a list have different shapes {sorted(shapes)}: pad them to one length, "
            "or keep a Python list of arrays"
        )
    rows = [reshape(v, shape=(1, *v.shape)) for v in values]
    out = wrap(concatenate(*rows, axis=0), tag)
    return out if dtype is None else astype(out, dtype)


def astype(x: Handle, dtype: np.dtype) -> Handle:
    """The handle at another dtype (the same one if it has it already and is not weak)."""
    if np.dtype(x._v.dtype) == dtype:
        return wrap(x._v) if x._tag is WEAK or type(x._tag) is WeakIf else x
    if type(x._tag) is KeyTag:
        raise TypeError(
            "a random key has no numeric dtype: draw numbers from it, or take random.key_data(key)"
        )
    return wrap(convert(x._v, dtype=dtype))


def _kind_of(x: Any) -> tuple[np.dtype, Any]:
    """Dtype and tag of a handle or a Python number."""
    if isinstance(x, Handle):
        return np.dtype(x._v.dtype), x._tag
    return dtypes.python_scalar_dtype(x), WEAK


def result_type(operands: Sequence[Any]) -> tuple[np.dtype, Any]:
    """Promoted dtype of handles and Python numbers, and the tag of the result; with the float64
    warning and the strict setting.
    """
    kinds = [_kind_of(x) for x in operands]
    dtype = kinds[0][0]
    if all([d == dtype for d, _ in kinds]):
        return dtype, weak_together([tag for _, tag in kinds])
    given = list({t: None for _, t in kinds if type(t) is WeakIf})
    if 0 < len(given) <= 4 and config.get("numpy_dtype_promotion") != "strict":
        marks = [given.index(t) if type(t) is WeakIf else t for _, t in kinds]
        which = _weak_when(tuple([(d, m) for (d, _), m in zip(kinds, marks, strict=True)]))
        if which is not None:
            dtype, _ = _fold([(d, weak_now(t)) for d, t in kinds], _mixing)
            return dtype, None if which is False else weak_together([given[i] for i in which])
    dtype, weak = _fold([(d, is_weak(t)) for d, t in kinds], _mixing)
    return dtype, WEAK if weak else None


def _fold(kinds: Iterable[tuple[np.dtype, bool]], mixing: Any = None) -> tuple[np.dtype, bool]:
    """Dtypes and weaknesses promoted from left to right; `mixing` is told of each step between two
    strong dtypes.
    """
    (dtype, weak), *rest = kinds
    for other, other_weak in rest:
        if other != dtype or other_weak != weak:
            joined, joined_weak = dtypes.promote(dtype, weak, other, other_weak)
            if mixing is not None and not (weak or other_weak) and dtype != other:
                mixing(dtype, other, joined)
            dtype, weak = joined, joined_weak
    return dtype, weak


@functools.lru_cache(maxsize=1024)
def _weak_when(kinds: tuple[tuple[np.dtype, Any], ...]) -> Sequence[int] | bool | None:
    """Which of the operands whose tag is open (a number) must be weak for the result to be: False
    if it never is, None if the open ones make a difference to the dtype.
    """
    n = 1 + max([tag for _, tag in kinds if type(tag) is int])
    found = {
        given: _fold([(d, given[t] if type(t) is int else t is WEAK) for d, t in kinds])
        for given in itertools.product((False, True), repeat=n)
    }
    if len({dtype for dtype, _ in found.values()}) > 1:
        return None
    if not any([weak for _, weak in found.values()]):
        return False
    for size in range(n + 1):
        for which in itertools.combinations(range(n), size):
            if all([weak == all([g[i] for i in which]) for g, (_, weak) in found.items()]):
                return which
    return None


_DOUBLE = (dtypes.float64, dtypes.complex128)


def _mixing(a: np.dtype, b: np.dtype, joined: np.dtype) -> None:
    if config.get("numpy_dtype_promotion") == "strict":
        raise TypeError(
            f"{a.name} with {b.name} would promote to {joined.name}, and "
            "config(numpy_dtype_promotion='strict') "
            f"forbids that at {source.where(source.user_source())}.\n"
            f"Write instead: x.astype({joined.name!r}) on the other operand."
        )
    if (
        joined in _DOUBLE
        and (a in _DOUBLE) != (b in _DOUBLE)
        and all(map(dtypes.is_inexact, (a, b)))
    ):
        _warn_float64(a, b, joined)


_warned: set[tuple[str, int]] = set()


def _warn_float64(a: np.dtype, b: np.dtype, joined: np.dtype) -> None:
    here = source.user_source()
    place = (here.file, here.line) if here else ("", 0)
    if place in _warned:
        return
    _warned.add(place)
    message = (
        f"{a.name} with {b.name} gives {joined.name} at {source.where(here)}: twice the memory, "
        "and slow on accelerators.\n"
        f"Write instead: x.astype(bnp.float32) on the {a.name} one, or .astype(bnp.{joined.name}) "
        "on the other, whichever you meant."
    )
    warnings.warn_explicit(message, Float64PromotionWarning, *place)


def operands_of(xs: tuple[Any, ...]) -> list[Any]:
    """Handles, but Python numbers as they are: they are made into arrays once their dtype is
    known.
    """
    return [x if isinstance(x, Handle) or type(x) in _NUMBERS else enter(x) for x in xs]


def value_at(x: Any, dtype: np.dtype) -> Any:
    """The value of a handle or a Python number at a dtype."""
    if not isinstance(x, Handle):
        return _scalar(x, dtype)
    return x._v if x._v.dtype == dtype else convert(x._v, dtype=dtype)


def promote(*xs: Any) -> tuple[list[Any], Any]:
    """Values of the operands at one dtype (shapes untouched), and the tag of the result.

    Random keys are taken if all operands are keys.

    Raises:
        TypeError: a random key among numbers.
        OverflowError: a Python integer does not fit in the dtype.
    """
    operands = operands_of(xs)
    if any(isinstance(x, Handle) and type(x._tag) is KeyTag for x in operands):
        return _promote_keys([enter(x) for x in operands])
    dtype, tag = result_type(operands)
    return [value_at(x, dtype) for x in operands], tag


def to_inexact(dtype: np.dtype) -> np.dtype:
    """The floating or complex dtype in which a function of numbers of this dtype is computed."""
    return dtype if dtypes.is_inexact(dtype) else dtypes.float32


def numbers(name: str, xs: tuple[Any, ...], inexact: bool = False) -> tuple[list[Any], Any]:
    """Operands of an elementwise function: values of one dtype and shape, and the tag of the
    result.

    Raises:
        TypeError: a random key, shapes that do not broadcast.
    """
    operands = operands_of(xs)
    for x in operands:
        if isinstance(x, Handle) and type(x._tag) is KeyTag:
            raise TypeError(
                f"{name}: a random key is not a number, at {source.where(source.user_source())}.\n"
                "Write instead: draw from it (random.normal(key, shape)), or take its words with "
                "random.key_data(key)."
            )
    dtype, tag = result_type(operands)
    if inexact:
        dtype = to_inexact(dtype)
    return broadcast_values(name, [value_at(x, dtype) for x in operands], operands), tag


def _promote_keys(handles: list[Handle]) -> tuple[list[Any], Any]:
    if not all(type(h._tag) is KeyTag for h in handles):
        raise TypeError(
            "a random key cannot be mixed with numbers: draw from it (random.normal(key, shape)), "
            "or take its words with random.key_data(key)"
        )
    impls = {h._tag.impl for h in handles}
    if len(impls) > 1:
        raise TypeError(
            f"keys of different generators ({', '.join(sorted(impls))}) cannot be mixed: make "
            "them with one impl="
        )
    return [h._v for h in handles], handles[0]._tag.fresh()


def broadcast_value(value: Any, shape: tuple[int, ...]) -> Any:
    """A value broadcast to a shape by NumPy's rule."""
    old = tuple(value.shape)
    if old == shape:
        return value
    lead = len(shape) - len(old)
    keep = [i for i, n in enumerate(old) if n == shape[lead + i]]
    if len(keep) != len(old):
        value = reshape(value, shape=tuple([old[i] for i in keep]))
    return broadcast_in_dim(value, shape=shape, dims=tuple([lead + i for i in keep]))


def broadcast_values(op: str, values: list[Any], given: Sequence[Any] = ()) -> list[Any]:
    """Values broadcast against each other; the error names those that were `given`, as handles,
    or says the words that are given for them.
    """
    shapes = [tuple(v.shape) for v in values]
    if shapes.count(shapes[0]) == len(shapes):
        return values
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        raise no_broadcast(op, values, given) from None
    return [broadcast_value(v, shape) for v in values]


def no_broadcast(op: str, values: Sequence[Any], given: Sequence[Any] = ()) -> Exception:
    """The error of values that do not broadcast against each other."""
    pairs = itertools.zip_longest(values, given)
    shown = [x if isinstance(x, Handle) else v for v, x in pairs]
    shapes = [tuple(x.shape) for x in shown]
    return misfit(
        op,
        shown,
        broadcast_reason(shapes),
        mend_broadcast(shapes),
        "operands that are equal along every axis, cut or padded, or of size 1 there",
        words=[x for x in given if isinstance(x, str)],
    )
