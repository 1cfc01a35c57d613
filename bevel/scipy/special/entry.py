"""How arguments enter a special function: promoted, broadcast, real, and at least float32."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from bevel.core import tree
from bevel.core.dtypes import float32, float64, is_complex, is_float
from bevel.core.handle import wrap
from bevel.core.interpreter import EAGER, state
from bevel.numpy.arguments import cast
from bevel.numpy.convert import numbers, quietly


def elementwise(
    fn: Callable | None = None, *, complex: bool = False, wide: bool = False
) -> Callable:
    """A function of float arrays of one dtype and shape, made into one of anything array-like.

    Integers enter as float32. 16-bit floats are computed in float32 and rounded once; with `wide`
    everything is computed in float64 and rounded once.

    Raises:
        TypeError: an argument is complex, unless `complex` numbers are taken.
    """
    if fn is None:
        return functools.partial(elementwise, complex=complex, wide=wide)
    signature = inspect.signature(fn)
    name = fn.__name__

    @functools.wraps(fn)
    def run(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        values, tag = numbers(name, bound.args, inexact=True)
        dtype = values[0].dtype
        if is_complex(dtype) and not complex:
            raise TypeError(
                f"{name}: takes real numbers, got {dtype.name}.\n"
                "Why: it is implemented on the real line only.\n"
                "Write instead: bnp.real(x), if the imaginary part is zero."
            )
        inner = dtype
        if is_float(dtype):
            inner = float64 if wide else float32 if dtype.itemsize < 4 else dtype
        xs = [wrap(cast(v, inner), tag) for v in values]
        out = quietly(fn, *xs) if state.current is EAGER else fn(*xs)
        return out if inner == dtype else tree.map(lambda y: _at(y, dtype), out)

    return run


def _at(y: Any, dtype: Any) -> Any:
    """A real result at the dtype of the arguments."""
    return y if is_complex(y._v.dtype) else wrap(cast(y._v, dtype), y._tag)
