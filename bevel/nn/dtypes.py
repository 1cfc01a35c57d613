"""The dtype a layer computes in."""

from __future__ import annotations

from typing import Any

import bevel.numpy as bnp
from bevel.core import dtypes
from bevel.numpy.convert import enter


def canonicalize_dtype(*args: Any, dtype: Any = None, inexact: bool = True) -> Any:
    """The dtype given, or the one the arguments promote to (None among them does not count).

    Args:
        args: arrays or None.
        dtype: the answer, if given.
        inexact: the result is to be floating or complex; integers become float32.

    Raises:
        ValueError: `dtype` is integer and `inexact` is asked for.
    """
    if dtype is None:
        found = dtypes.as_dtype(bnp.result_type(*[enter(a) for a in args if a is not None]))
        return (
            found
            if dtypes.is_inexact(found) or not inexact
            else dtypes.promote_types(dtypes.float32, found)
        )
    dtype = dtypes.as_dtype(dtype)
    if inexact and not dtypes.is_inexact(dtype):
        raise ValueError(
            f"a layer computes in floating or complex numbers; dtype={dtype.name} is neither"
        )
    return dtype


def promote_dtype(
    args: tuple[Any, ...], /, *, dtype: Any = None, inexact: bool = True
) -> tuple[Any, ...]:
    """The arguments at one dtype: the one given, or the one they promote to. None stays None.

    >>> import bevel.numpy as bnp
    >>> from bevel.nn.dtypes import promote_dtype
    >>> promote_dtype((bnp.array([1, 2]), None), dtype=None)
    (Array([1., 2.], dtype=float32), None)
    """
    dtype = canonicalize_dtype(*args, dtype=dtype, inexact=inexact)
    return tuple(None if a is None else bnp.asarray(a, dtype) for a in args)
