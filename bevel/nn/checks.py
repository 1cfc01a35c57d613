"""What layers check before they compute, with messages that name the layer and the fix."""

from __future__ import annotations

from typing import Any

from bevel.core.source import user_source, where
from bevel.numpy.convert import enter


def features_of(layer: str, x: Any, features: int, axis: int = -1) -> Any:
    """The input as an array whose axis has the number of features the layer was made for.

    Raises:
        ValueError: it has another number.
    """
    x = enter(x)
    if x.ndim == 0 or x.shape[axis] != features:
        raise ValueError(
            f"{layer}: the input of shape {tuple(x.shape)} should have {features} features on axis "
            f"{axis}, "
            f"at {where(user_source())}.\n"
            f"Why: the layer was made for {features} input features.\n"
            f"Write instead: an input of shape (..., {features}), or make the layer for "
            f"{x.shape[axis] if x.ndim else 'n'} features."
        )
    return x


def mode_of(layer: str, name: str, *given: bool | None) -> bool:
    """The first that is not None: the argument of the call, then that of the constructor.

    Raises:
        ValueError: none is given.
    """
    for value in given:
        if value is not None:
            return value
    raise ValueError(
        f"{layer}: `{name}` was never set, so the layer does not know whether it is training, at "
        f"{where(user_source())}.\n"
        f"Write instead: model.train() or model.eval() before the call, layer(x, {name}=...), or "
        f"nn.{layer}(..., {name}=...)."
    )
