"""The algorithms of contractions that have names."""

from __future__ import annotations

import enum
from typing import Any

import numpy as np

from bevel.core import dtypes
from bevel.ops.algorithms import FLOAT8, TF32, DotAlgorithm
from bevel.ops.dot import check_precision


def _bfloat16(components: int, products: int) -> DotAlgorithm:
    return DotAlgorithm("bfloat16", "bfloat16", "float32", components, components, products)


class DotAlgorithmPreset(enum.Enum):
    """Algorithms by name: the types of both operands and of the sums, and how many products."""

    DEFAULT = "default"
    ANY_F8_ANY_F8_F32 = DotAlgorithm(FLOAT8, FLOAT8, "float32")
    ANY_F8_ANY_F8_F32_FAST_ACCUM = DotAlgorithm(FLOAT8, FLOAT8, "float32", 1, 1, 1, True)
    ANY_F8_ANY_F8_ANY = DotAlgorithm(FLOAT8, FLOAT8, None)
    ANY_F8_ANY_F8_ANY_FAST_ACCUM = DotAlgorithm(FLOAT8, FLOAT8, None, 1, 1, 1, True)
    F16_F16_F16 = DotAlgorithm("float16", "float16", "float16")
    F16_F16_F32 = DotAlgorithm("float16", "float16", "float32")
    BF16_BF16_BF16 = DotAlgorithm("bfloat16", "bfloat16", "bfloat16")
    BF16_BF16_F32 = _bfloat16(1, 1)
    BF16_BF16_F32_X3 = _bfloat16(2, 3)
    BF16_BF16_F32_X6 = _bfloat16(3, 6)
    BF16_BF16_F32_X9 = _bfloat16(3, 9)
    TF32_TF32_F32 = DotAlgorithm(TF32, TF32, "float32")
    TF32_TF32_F32_X3 = DotAlgorithm(TF32, TF32, "float32", 2, 2, 3)
    F32_F32_F32 = DotAlgorithm("float32", "float32", "float32")
    F64_F64_F64 = DotAlgorithm("float64", "float64", "float64")


def checked_precision(name: str, precision: Any, dtype: np.dtype) -> Any:
    """A precision with presets in place of their names, if it fits operands of a dtype."""
    if isinstance(precision, str):
        precision = DotAlgorithmPreset.__members__.get(precision, precision)
    if isinstance(precision, DotAlgorithmPreset):
        precision = precision.value
    if isinstance(precision, DotAlgorithm):
        if dtypes.kind(dtype) != "f":
            raise TypeError(
                f"lax.{name}: algorithms are for floats, and the operands are {dtype.name}.\n"
                "Write instead: precision=None."
            )
        narrow = FLOAT8 in (precision.lhs_precision_type, precision.rhs_precision_type)
        if narrow and dtype not in dtypes.FLOAT8:
            raise TypeError(
                f"lax.{name}: this algorithm takes operands of 8 bits, not {dtype.name}.\n"
                "Write instead: x.astype('float8_e4m3fn')."
            )
    elif isinstance(precision, str):
        check_precision(name, precision)
    return precision
