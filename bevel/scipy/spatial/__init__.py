"""Geometry."""

from bevel.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__, {}, modules={"transform": "bevel.scipy.spatial.transform"}
)
