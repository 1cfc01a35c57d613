"""Grouping of observations."""

from bevel.core.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, {}, modules={"vq": "bevel.scipy.cluster.vq"})
