"""Data on a device, as a value."""

from __future__ import annotations

from typing import Any

import numpy as np

from bevel.core.aval import Aval


class Buffer:
    """The runtime's own array (`raw`) with the shape and dtype every value has.

    jaxlib's array object has no shape unless `jax` is imported, too, so it is no value by itself.
    """

    __slots__ = ("aval", "given", "host", "raw")

    def __init__(self, raw: Any):
        self.raw = raw
        self.aval: Aval = raw.aval
        self.host: np.ndarray | None = None
        """Its contents, once they have been read."""
        # `given` is set when its memory is given away (`bevel/xla/donation.py`).

    @property
    def shape(self) -> tuple[int, ...]:
        return self.aval.shape

    @property
    def dtype(self) -> np.dtype:
        return self.aval.dtype

    @property
    def ndim(self) -> int:
        return len(self.aval.shape)

    @property
    def size(self) -> int:
        return self.aval.size
