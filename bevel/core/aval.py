"""Abstract values: the shape and dtype of an array that may not exist yet."""

from __future__ import annotations

import math

import numpy as np


class Aval:
    """Shape and dtype of a value. Weak types live in the user's handle, never here."""

    __slots__ = ("_hash", "dtype", "shape")
    weak_type = False  # jaxlib reads it from the avals of its buffers

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype):
        self.shape = shape
        self.dtype = dtype
        self._hash = None

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def replace(self, shape: tuple[int, ...] | None = None, dtype: np.dtype | None = None) -> Aval:
        return Aval(
            self.shape if shape is None else tuple(shape), self.dtype if dtype is None else np.dtype(dtype)
        )

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Aval) and self.shape == other.shape and self.dtype == other.dtype
        )

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash((self.shape, self.dtype))
        return self._hash

    def __reduce__(self):
        return Aval, (self.shape, self.dtype)

    def __repr__(self) -> str:
        return f"{self.dtype.name}[{','.join(map(str, self.shape))}]"


def aval_of(value) -> Aval:
    """Abstract value of anything with a shape and a dtype (ndarray, device buffer, tracer)."""
    aval = getattr(value, "aval", None)
    return aval if type(aval) is Aval else Aval(tuple(value.shape), np.dtype(value.dtype))
