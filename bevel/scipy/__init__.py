"""Functions of SciPy on `bevel.Array`: differentiable, compilable and batchable.

Names, argument orders and results are those of `scipy`; each part loads when it is first used.
"""

from bevel.core.lazy import attach

_PARTS = (
    "cluster",
    "fft",
    "integrate",
    "interpolate",
    "linalg",
    "ndimage",
    "optimize",
    "signal",
    "sparse",
    "spatial",
    "special",
    "stats",
)

__getattr__, __dir__, __all__ = attach(
    __name__, {}, modules={name: f"bevel.scipy.{name}" for name in _PARTS}
)
