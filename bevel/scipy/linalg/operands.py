"""Arguments of matrix functions: one dtype that LAPACK has, and the dtype of results."""

from __future__ import annotations

from typing import Any

import numpy as np

from bevel.core import dtypes
from bevel.core.dtypes import bfloat16, float16, float32
from bevel.core.errors import ShapeError
from bevel.core.handle import wrap
from bevel.numpy.arguments import cast, number
from bevel.numpy.convert import promote, to_inexact


def check_square(name: str, what: str, x: Any) -> None:
    """Raise ShapeError unless the last two axes are those of square matrices."""
    if len(x.shape) < 2 or x.shape[-1] != x.shape[-2]:
        raise ShapeError(
            f"{name}: {what} must hold square matrices on the last two axes, got shape {x.shape}"
        )


def computable(name: str, *arrays: Any) -> tuple[list[Any], np.dtype]:
    """Arrays at one floating or complex dtype (half precision as float32), and the dtype that
    results should have.
    """
    for a in arrays:
        number(name, a)
    values, _ = promote(*arrays)
    dtype = to_inexact(np.dtype(values[0].dtype))
    wide = float32 if dtype in (float16, bfloat16) else dtype
    return [wrap(cast(v, wide)) for v in values], dtype


def matrix(name: str, a: Any, square: bool = False) -> tuple[Any, np.dtype]:
    """One stack of matrices at a dtype that LAPACK has, and the dtype for results.

    Raises:
        ShapeError: fewer than two axes, or not square where it must be.
    """
    (x,), dtype = computable(name, a)
    if square:
        check_square(name, "a", x)
    elif len(x.shape) < 2:
        raise ShapeError(f"{name}: a must be a matrix, or a stack of them; got shape {x.shape}")
    return x, dtype


def back(x: Any, dtype: np.dtype) -> Any:
    """A result at the dtype of the argument; real results at the real part's."""
    real = not dtypes.is_complex(np.dtype(x.dtype))
    return wrap(cast(x._v, dtypes.real_dtype(dtype) if real else dtype))


def adjoint(x: Any) -> Any:
    """Conjugate transposes."""
    return x.conj().mT
