"""Systems of equations whose matrix is only known as a function."""

from bevel.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__, {}, modules={"linalg": "bevel.scipy.sparse.linalg"}
)
