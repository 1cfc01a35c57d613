"""Minima of functions of a vector."""

from bevel.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__, {"bevel.scipy.optimize.minimization": ["OptimizeResults", "minimize"]}
)
