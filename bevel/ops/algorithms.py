"""Contractions by a given algorithm: what operands are rounded to, and what sums are kept in.

An algorithm is written out: its roundings, and its products as contractions of the narrow types,
so that it gives the same on every platform. Henry, Tang and Heinecke 2019, "Leveraging the bfloat16
artificial intelligence datatype for higher-precision computations", for several components.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bevel.core import dtypes
from bevel.ops.base import zeros_like
from bevel.ops.dot import Algorithm, dot_general
from bevel.ops.elementwise import add, is_finite, sub
from bevel.ops.logic import convert, ne, reduce_precision, select

TF32 = "tf32"
"""A float32 of which products read 10 bits of the mantissa."""

FLOAT8 = "float8"
"""Any of the dtypes of 8 bits, as it is."""


@dataclass(frozen=True)
class DotAlgorithm(Algorithm):
    """How a contraction is computed: operands are rounded to types (or split into several numbers
    of them), multiplied, and summed in a wider type.

    Of the products of components, the `num_primitive_operations` largest are summed.

    >>> algorithm = lax.DotAlgorithm("bfloat16", "bfloat16", "float32")
    >>> lax.dot(bnp.array([1.001]), bnp.array([2.0]), precision=algorithm)
    Array(2., dtype=float32)
    """

    lhs_precision_type: Any
    rhs_precision_type: Any
    accumulation_type: Any
    lhs_component_count: int = 1
    rhs_component_count: int = 1
    num_primitive_operations: int = 1
    allow_imprecise_accumulation: bool = False

    def __post_init__(self):
        counts = self.lhs_component_count, self.rhs_component_count, self.num_primitive_operations
        if min(counts) < 1:
            raise ValueError(f"DotAlgorithm: the counts {counts} must be at least 1")

    def contract(self, x: Any, y: Any, axes: dict[str, Any], out: np.dtype) -> Any:
        """`dot_general` of two values over `axes`, with results at the dtype `out`."""
        sums = out if self.accumulation_type is None else dtypes.as_dtype(self.accumulation_type)
        left = _components(x, self.lhs_precision_type, self.lhs_component_count)
        right = _components(y, self.rhs_precision_type, self.rhs_component_count)
        pairs = sorted([(i + j, i, j) for i in range(len(left)) for j in range(len(right))])
        rest = None
        for _, i, j in reversed(pairs[1 : self.num_primitive_operations]):
            product = self._product(left[i], right[j], axes, sums)
            rest = product if rest is None else add(rest, product)
        total = self._product(left[0], right[0], axes, sums)
        if rest is not None:
            # Infinity times a component of 0 is no number; the product of the largest has it right.
            rest = select(ne(rest, rest), zeros_like(rest), rest)
            total = add(rest, total)
        return _cast(total, out)

    def _product(self, x: Any, y: Any, axes: dict[str, Any], sums: np.dtype) -> Any:
        if x.dtype != y.dtype:
            x, y = _cast(x, sums), _cast(y, sums)
        if sums in dtypes.FLOAT8:
            return _cast(dot_general(x, y, **axes, preferred=dtypes.float32), sums)
        tf32 = TF32 in (self.lhs_precision_type, self.rhs_precision_type)
        precision = "tensorfloat32" if tf32 else "float32" if x.dtype == sums else None
        return dot_general(x, y, **axes, precision=precision, preferred=sums)


def _cast(x: Any, dtype: np.dtype) -> Any:
    return x if x.dtype == dtype else convert(x, dtype=dtype)


def _rounded(x: Any, kind: Any) -> Any:
    if kind == TF32:
        return reduce_precision(_cast(x, dtypes.float32), exponent_bits=8, mantissa_bits=10)
    return x if kind == FLOAT8 else _cast(x, dtypes.as_dtype(kind))


def _components(x: Any, kind: Any, count: int) -> list[Any]:
    """`x` as a sum of `count` numbers of a narrower type, the largest first."""
    parts = [_rounded(x, kind)]
    while len(parts) < count:
        rest = sub(x, _cast(parts[-1], x.dtype))
        x = select(is_finite(parts[-1]), rest, zeros_like(rest))
        parts.append(_rounded(x, kind))
    return parts
