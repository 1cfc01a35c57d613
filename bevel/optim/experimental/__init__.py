"""What may still change, as in `optax.experimental`."""

from bevel.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__, {}, modules={"aggregating": "bevel.optim.experimental.aggregating"}
)
