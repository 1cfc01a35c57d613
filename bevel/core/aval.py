"""Abstract values: the shape and dtype of an array that may not exist yet."""

from __future__ import annotations

import math

import numpy as np


class Aval:
    """Shape and dtype of a value. Weak types live in the user's handle, never here.

    There is one object for each shape and dtype, so that comparing and hashing cost nothing.
    """

    __slots__ = ("dtype", "shape")
    shape: tuple[int, ...]
    dtype: np.dtype

    weak_type = False
    """What jaxlib asks of the abstract value of its buffers."""

    def __new__(cls, shape: tuple[int, ...], dtype: np.dtype):
        self = _interned.get((shape, dtype))
        if self is None:
            self = object.__new__(cls)
            self.shape = shape
            self.dtype = dtype
            self = _interned.setdefault((shape, dtype), self)
        return self

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
        shape = self.shape if shape is None else tuple(shape)
        return Aval(shape, self.dtype if dtype is None else np.dtype(dtype))

    def __reduce__(self):
        return Aval, (self.shape, self.dtype)

    def __repr__(self) -> str:
        return f"{self.dtype.name}[{','.join(map(str, self.shape))}]"


_interned: dict[tuple[tuple[int, ...], np.dtype], Aval] = {}


def aval_of(value) -> Aval:
    """Abstract value of anything with a shape and a dtype (ndarray, device buffer, tracer)."""
    aval = getattr(value, "aval", None)
    return aval if type(aval) is Aval else Aval(tuple(value.shape), np.dtype(value.dtype))
