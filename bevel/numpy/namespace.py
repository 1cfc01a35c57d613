"""What `bevel.numpy` says of itself as a namespace of the Python array API standard."""

from __future__ import annotations

from typing import Any

import numpy as np

from bevel.core import dtypes
from bevel.numpy.scalars import isdtype
from bevel.xla import client

__array_api_version__ = "2024.12"
_DTYPES = (*dtypes.BOOL, *dtypes.INT, dtypes.float32, dtypes.float64, *dtypes.COMPLEX)


class __array_namespace_info__:
    """Capabilities, devices and dtypes of `bevel.numpy`, as the array API standard asks for them.

    >>> info = bnp.__array_namespace_info__()
    >>> info.default_dtypes()["integral"], info.capabilities()["boolean indexing"]
    (dtype('int32'), True)
    """

    __slots__ = ()

    def capabilities(self) -> dict[str, Any]:
        """What the standard leaves open; shapes that depend on data are for eager code only."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> Any:
        """Where new arrays go."""
        return client.default_device()

    def devices(self) -> list[Any]:
        """The devices arrays can be put on."""
        cpu = client.local_devices("cpu")
        return [*cpu, *[d for d in client.local_devices() if d.platform != "cpu"]]

    def default_dtypes(self, *, device: Any = None) -> dict[str, np.dtype]:
        """The dtypes of new arrays when none is named."""
        return {
            "real floating": dtypes.float32,
            "complex floating": dtypes.complex64,
            "integral": dtypes.int32,
            "indexing": dtypes.int32,
        }

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, np.dtype]:
        """The standard's dtypes by name, of one kind or several if `kind` is given."""
        return {d.name: d for d in _DTYPES if kind is None or isdtype(d, kind)}
