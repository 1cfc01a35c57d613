"""Products of block-scaled matrices: `scaled_matmul`."""

from __future__ import annotations

from typing import Any

import bevel.numpy as bnp
from bevel.core import dtypes
from bevel.numpy.convert import enter


def scaled_matmul(
    lhs: Any,
    rhs: Any,
    lhs_scales: Any,
    rhs_scales: Any,
    preferred_element_type: Any = dtypes.float32,
) -> Any:
    """The product of matrices whose elements share a scale in blocks of the contracted axis.

    Computed in float32 from the scaled elements.

    Args:
        lhs: (B, M, K), for example float8_e4m3fn.
        rhs: (B, N, K).
        lhs_scales: (B, M, number of blocks), where the blocks divide K.
        rhs_scales: (B, N, number of blocks).
        preferred_element_type: dtype of the result.

    Returns:
        (B, M, N).

    Raises:
        ValueError: shapes do not fit.

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> a, b = bnp.ones((1, 2, 4)), bnp.ones((1, 3, 4))
    >>> nn.scaled_matmul(a, b, bnp.full((1, 2, 2), 0.5), bnp.ones((1, 3, 1)))[0, 0]
    Array([2., 2., 2.], dtype=float32)
    """
    operands = [enter(x) for x in (lhs, rhs, lhs_scales, rhs_scales)]
    shapes = [x.shape for x in operands]
    if any(len(s) != 3 for s in shapes) or len({s[0] for s in shapes}) > 1:
        raise ValueError(f"scaled_matmul: all operands have three axes and one batch, not {shapes}")
    a, b, a_scales, b_scales = shapes
    fits = a[2] == b[2] and a_scales[1] == a[1] and b_scales[1] == b[1]
    if not fits or any(not s[2] or a[2] % s[2] for s in (a_scales, b_scales)):
        raise ValueError(
            f"scaled_matmul: the shapes {shapes} do not fit.\n"
            "Why: lhs is (B, M, K), rhs (B, N, K), and each has a scale for each row and block, "
            "where the number of blocks divides K."
        )
    wide = [x.astype(dtypes.float32) for x in operands]
    a_full, b_full = (
        x * bnp.repeat(s, x.shape[2] // s.shape[2], axis=2)
        for x, s in ((wide[0], wide[2]), (wide[1], wide[3]))
    )
    out = bnp.einsum("bmk,bnk->bmn", a_full, b_full)
    return out.astype(dtypes.as_dtype(preferred_element_type))
