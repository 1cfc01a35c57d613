"""Removal of trends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import bevel.numpy as bnp
from bevel.numpy.arguments import axis_of
from bevel.scipy.operands import inexacts, one_of


def _line(n: int, dtype: Any) -> Any:
    """Orthonormal columns that span the constant and the linear functions of n samples."""
    q, _ = np.linalg.qr(np.stack([np.ones(n), np.arange(n)], -1))
    return bnp.array(q, dtype=dtype)


def detrend(
    data: Any,
    axis: int = -1,
    type: str = "linear",
    bp: int | Sequence[int] | np.ndarray = 0,
    overwrite_data: Any = None,
) -> Any:
    """Data less its mean (`type="constant"`) or its line of least squares ("linear") along an axis.

    `bp` are places at which another line begins; `overwrite_data` is not used.

    Raises:
        ValueError: another `type`, or a place outside the data.

    >>> from bevel.scipy.signal import detrend
    >>> bnp.round(detrend(bnp.array([1.0, 2.0, 4.0]), type="constant") * 3)
    Array([-4., -1.,  5.], dtype=float32)
    """
    one_of("detrend", "type", type, ("linear", "constant"))
    (x,) = inexacts("detrend", data)
    axis = axis_of("detrend", axis, x.ndim)
    if type == "constant":
        return x - x.mean(axis, keepdims=True)
    n = x.shape[axis]
    ends = np.unique(np.r_[0, bp, n])
    if ends[0] < 0 or ends[-1] > n:
        raise ValueError(f"detrend: bp={bp} must lie within 0..{n}, the samples of axis {axis}")
    x = bnp.moveaxis(x, axis, -1)
    parts = []
    for low, high in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        part, line = x[..., low:high], _line(high - low, x.dtype)
        share = bnp.matmul(part, line, precision="highest")
        parts.append(part - bnp.matmul(share, line.T, precision="highest"))
    return bnp.moveaxis(bnp.concatenate(parts, axis=-1) if parts else x, -1, axis)
