"""Arguments that several functions of SciPy take alike."""

from __future__ import annotations

from typing import Any

import numpy as np

from bevel.core import dtypes
from bevel.core.handle import wrap
from bevel.numpy.arguments import cast, number
from bevel.numpy.convert import promote, to_inexact


def inexacts(name: str, *arrays: Any) -> list[Any]:
    """Arrays at one floating or complex dtype, shapes untouched."""
    for a in arrays:
        number(name, a)
    values, _ = promote(*arrays)
    dtype = to_inexact(np.dtype(values[0].dtype))
    return [wrap(cast(v, dtype)) for v in values]


def at_least_single(dtype: Any) -> np.dtype:
    """A floating or complex dtype to compute in: float32 in place of half precision."""
    return dtypes.promote(np.dtype(dtype), False, dtypes.float32, False)[0]


def one_of(name: str, what: str, value: Any, known: Any) -> None:
    """Raise ValueError unless an option has one of the values that are known."""
    if value not in known:
        choices = ", ".join([repr(k) for k in known])
        raise ValueError(f"{name}: {what} must be one of {choices}; got {value!r}")
