"""How exactly an elementary function must be computed."""

from __future__ import annotations

import enum
from typing import Any

import numpy as np

from bevel.core import dtypes
from bevel.core.errors import Unsupported

ULPS = 64
"""Every function that takes an `accuracy` is within this many units in the last place, for normal
results: measured by tests/test_lax_more.py.
"""


class AccuracyMode(enum.Enum):
    """Which implementation of a function is chosen; on the CPU and CUDA there is one of each."""

    HIGHEST = 1
    DEFAULT = 2


class Tolerance:
    """The largest error allowed: absolute, or relative to the result, or in units in its last
    place.

    >>> lax.exp(0.0, accuracy=lax.Tolerance(rtol=1e-5))
    Array(1., dtype=float32, weak_type=True)
    """

    def __init__(self, atol: float = 0.0, rtol: float = 0.0, ulps: int = 0):
        if min(atol, rtol, ulps) < 0 or max(atol, rtol, ulps) == 0:
            raise ValueError(
                f"Tolerance: atol={atol}, rtol={rtol}, ulps={ulps} must not be negative, nor all 0"
            )
        self.atol = atol
        self.rtol = rtol
        self.ulps = ulps

    def __repr__(self) -> str:
        return f"Tolerance(atol={self.atol}, rtol={self.rtol}, ulps={self.ulps})"


def check_accuracy(name: str, accuracy: Any, dtype: np.dtype) -> None:
    """Raise Unsupported unless `name` is computed as exactly as is asked for."""
    if accuracy is None or isinstance(accuracy, AccuracyMode):
        return
    if not isinstance(accuracy, Tolerance):
        raise TypeError(
            f"lax.{name}: accuracy must be None, an AccuracyMode or a Tolerance, got {accuracy!r}"
        )
    eps = float(dtypes.finfo(dtype).eps)
    if accuracy.ulps < ULPS and accuracy.rtol < ULPS * eps:
        raise Unsupported(
            f"lax.{name}: {accuracy} cannot be promised for {dtype.name}.\n"
            f"Why: results are within {ULPS} units in the last place, a relative error of "
            f"{ULPS * eps:.1e}.\n"
            f"Write instead: Tolerance(ulps={ULPS}) or more, a wider dtype, or accuracy=None."
        )
