"""Vector quantization: each observation is replaced by the nearest vector of a code book."""

from __future__ import annotations

from typing import Any

import bevel.numpy as bnp
from bevel.core.errors import ShapeError
from bevel.scipy.operands import inexacts


def vq(obs: Any, code_book: Any, check_finite: bool = True) -> tuple[Any, Any]:
    """The number of the nearest code for each observation (int32), and its Euclidean distance.

    Args:
        obs: (m, n), or (m,) for observations of one number.
        code_book: (k, n), or (k,).
        check_finite: not used.

    Raises:
        ShapeError: neither vectors nor matrices, or observations and codes of different sizes.

    >>> from bevel.scipy.cluster.vq import vq
    >>> vq(bnp.array([1.0, 4.0]), bnp.array([0.0, 5.0]))
    (Array([0, 1], dtype=int32), Array([1., 1.], dtype=float32))
    """
    x, codes = inexacts("vq", obs, code_book)
    if x.ndim not in (1, 2) or x.ndim != codes.ndim or x.shape[1:] != codes.shape[1:]:
        raise ShapeError(
            f"vq: obs has shape {x.shape} and code_book {codes.shape}; they must be (m, n) and "
            "(k, n), or (m,) and (k,)"
        )
    if x.ndim == 1:
        x, codes = x[:, None], codes[:, None]
    code = bnp.argmin(bnp.linalg.norm(x[:, None] - codes, axis=-1), axis=-1)
    return code, bnp.linalg.norm(x - codes[code], axis=-1)
