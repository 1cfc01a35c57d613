"""Operands of the strict array language: nothing is promoted, and only arrays without axes are
broadcast.

A Python number takes the dtype of the array it meets, if it is of the same kind.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bevel.core import dtypes
from bevel.core.aval import aval_of
from bevel.core.errors import ShapeError
from bevel.core.handle import WEAK, Handle, is_weak, weak_together
from bevel.core.interpreter import Tracer
from bevel.core.misfit import Fix, broadcastable, mend, misfit, transposed
from bevel.core.op import Op
from bevel.core.source import user_source, where
from bevel.core.spelling import operands as operands_of
from bevel.numpy.arguments import cast, number
from bevel.numpy.convert import broadcast_value, enter


def one_dtype(name: str, operands: tuple[Any, ...]) -> tuple[list[Any], Any]:
    """Values of one dtype, and the tag of the result.

    Raises:
        TypeError: the dtypes differ, or an operand is a random key.
    """
    handles = [enter(x) for x in operands]
    values = [number(name, h) for h in handles]
    if len({np.dtype(v.dtype) for v in values}) == 1:
        return values, weak_together([h._tag for h in handles])
    weak = [is_weak(h._tag) for h in handles]
    strong = [np.dtype(v.dtype) for v, w in zip(values, weak, strict=True) if not w]
    dtype = strong[0] if strong else np.dtype(values[0].dtype)
    for v, w in zip(values, weak, strict=True):
        found = np.dtype(v.dtype)
        adapts = w and dtypes.kind(found) == dtypes.kind(dtype)
        if found != dtype and not adapts:
            raise TypeError(
                f"lax.{name}: dtypes {', '.join([str(np.dtype(v.dtype)) for v in values])} differ "
                f"at {where(user_source())}.\n"
                "Why: bevel.lax never promotes.\n"
                f"Write instead: x.astype({dtype.name!r}), or the function of bevel.numpy, "
                "which promotes."
            )
    return [cast(v, dtype) for v in values], None if strong else WEAK


def checked(op: Op, *values: Any, **params: Any) -> Any:
    """Apply an op. Eagerly its shape rule is asked first, which otherwise only programs do: both
    refuse the same operands, in the same words.
    """
    if not any([isinstance(v, Tracer) for v in values]):
        op.abstract(*[aval_of(v) for v in values], **params)
    return op(*values, **params)


def one_shape(name: str, values: list[Any]) -> list[Any]:
    """Values of one shape; those without axes are repeated.

    Raises:
        ShapeError: the shapes differ.
    """
    shapes = [tuple(v.shape) for v in values]
    wide = [s for s in shapes if s]
    if not wide or shapes.count(wide[0]) == len(shapes):
        return values
    if wide.count(wide[0]) != len(wide):
        raise misfit(
            f"lax.{name}",
            values,
            "shapes differ, and bevel.lax broadcasts only arrays without axes",
            _mend_shapes(name, shapes),
            "lax.broadcast_in_dim, or the function of bevel.numpy, which broadcasts",
        )
    return [broadcast_value(v, wide[0]) for v in values]


_BROADCASTING = {
    "add": "add",
    "atan2": "arctan2",
    "div": "divide",
    "eq": "equal",
    "ge": "greater_equal",
    "gt": "greater",
    "le": "less_equal",
    "lt": "less",
    "max": "maximum",
    "min": "minimum",
    "mul": "multiply",
    "ne": "not_equal",
    "pow": "power",
    "sub": "subtract",
}
"""The functions of bevel.numpy that do the same and broadcast."""


def _mend_shapes(name: str, shapes: list[tuple[int, ...]]) -> list[Fix]:
    if len(shapes) != 2 or name not in _BROADCASTING:
        return []
    if broadcastable(shapes):
        return [Fix(whole=f"bnp.{_BROADCASTING[name]}(_0, _1)")]
    found = mend(shapes, lambda new: new[0] == new[1], [lambda i, s: transposed(s)])
    return [] if found is None else [found]


def no_select(given: list[Any]) -> Exception:
    """The error of `select` and `select_n`; `given` is which, and the cases."""
    turned = [given[0], *given[:0:-1]]
    if len(given) == 3 and operands_of("select", [tuple(x.shape) for x in turned]):
        broadcasts = broadcastable([tuple(x.shape) for x in given])
        fixes = [Fix(whole="bnp.where(_0, _1, _2)")] if broadcasts else []
        name, given = "lax.select", turned
    else:
        name, fixes = "lax.select_n", []
    return misfit(
        name,
        given,
        "the cases need one shape, and {0} that shape or no axes",
        fixes,
        "bnp.where and bnp.select, which broadcast",
        words=["the choice", *[f"case {i}" for i in range(len(given) - 1)]],
    )


def strict(name: str, *operands: Any) -> tuple[list[Any], Any]:
    """Values of one dtype and shape, and the tag of the result."""
    values, tag = one_dtype(name, operands)
    return one_shape(name, values), tag


def require(name: str, value: Any, kinds: str, what: str) -> None:
    """Raise TypeError unless the dtype of a value is of one of the kinds (letters of
    `dtypes.kind`).
    """
    if dtypes.kind(np.dtype(value.dtype)) not in kinds:
        raise TypeError(
            f"lax.{name}: takes {what}, got {np.dtype(value.dtype).name} at "
            f"{where(user_source())}.\n"
            "Write instead: x.astype(...), or the function of bevel.numpy, which converts."
        )


def scalar_index(name: str, x: Any) -> Any:
    """An index without axes, as an int32 (or int64) value."""
    value = number(name, x)
    require(name, value, "iu", "an integer index")
    if value.shape != ():
        raise ShapeError(f"lax.{name}: an index must have no axes, got shape {tuple(value.shape)}")
    return value if value.dtype in (dtypes.int32, dtypes.int64) else cast(value, dtypes.int32)


def handle_value(x: Any) -> tuple[Handle, Any]:
    """A handle and its value; random keys pass."""
    handle = enter(x)
    return handle, handle._v
