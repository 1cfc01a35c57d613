"""What layers check before they compute, with messages that name the layer and the fix."""

from __future__ import annotations

import math
from typing import Any

from bevel.core.misfit import Change, Fix, Shape, axes_text, change_of, describe
from bevel.core.source import user_source, where
from bevel.core.spelling import layer_input
from bevel.numpy.convert import enter


def features_of(
    layer: str,
    x: Any,
    features: int,
    axis: int = -1,
    rank: int | None = None,
    parameter: str = "",
) -> Any:
    """The input as an array whose axis has the number of features the layer was made for.

    `rank` is the number of spatial axes that a layer has before its features, and `parameter` the
    one that the input is given for (default: the first).

    Raises:
        ValueError: it has another number of features, or fewer axes.
    """
    x = enter(x)
    if x.ndim <= (rank or 0) or x.shape[axis] != features:
        raise features_error(layer, x, features, axis, rank, parameter)
    return x


_SPACE = {0: "", 1: ", length", 2: ", height, width", 3: ", depth, height, width"}


def features_error(
    layer: str,
    x: Any,
    features: int,
    axis: int,
    rank: int | None,
    parameter: str,
) -> Exception:
    """The error of `features_of`, for an input that a layer was not made for."""
    shape = tuple(x.shape)
    name, _, method = layer.partition(".")
    space = f", after {rank} spatial {'axes' if rank > 1 else 'axis'}" if rank else ""
    has = f"it has {shape[axis]}" if shape else "it has no axes"
    if shape and shape[axis] == features:
        has = f"it has {axes_text(len(shape))}"
    some = "1 feature" if features == 1 else f"{features} features"
    why = f"the layer was made for {some} on axis {axis} of its input{space}, and {has}"
    last = shape[axis] if shape and shape[axis] != features else features
    text = describe(
        layer,
        [x],
        why,
        _mends(shape, features, axis, rank)[:1],
        f"an input of shape (...{_SPACE.get(rank or 0, ', space...')}, {features})"
        + (f", or make the layer for {last} features" if last != features else ""),
        spelled=layer_input(name, method or "__call__", parameter, shape),
        words=["the input"],
    )
    return ValueError(text)


def _mends(shape: Shape, features: int, axis: int, rank: int | None) -> list[Fix]:
    """The usual mistakes: channels first, no channel axis, an image not flattened."""
    if axis != -1 or not shape:
        return []
    n = len(shape)
    found = []
    if rank:
        if n >= rank + 1 and shape[-rank - 1] == features:
            moved = (*shape[: -rank - 1], *shape[-rank:], features)
            code = "_.T" if n == 2 else f"bnp.moveaxis(_, {-rank - 1}, -1)"
            found.append(Change(code, moved, "has its channels first"))
        if features == 1 and n >= rank and shape[-1] != 1:
            found.append(Change("_[..., None]", (*shape, 1), "lacks the axis of channels"))
        return [change_of(0, c) for c in found]
    if n > 1 and math.prod(shape[1:]) == features:
        found.append(
            Change("_.reshape(_.shape[0], -1)", (shape[0], features), "has not been flattened")
        )
    if n == 2 and shape[0] == features:
        found.append(Change("_.T", shape[::-1], "looks transposed"))
    if features == 1:
        found.append(Change("_[..., None]", (*shape, 1), "lacks the axis of features"))
    if n > 2 and features in shape:
        i = n - 1 - shape[::-1].index(features)
        moved = (*shape[:i], *shape[i + 1 :], features)
        found.append(Change(f"bnp.moveaxis(_, {i}, -1)", moved, f"has its features on axis {i}"))
    if math.prod(shape) == features:
        found.append(Change("_.reshape(-1)", (features,), "has not been flattened"))
    return [change_of(0, c) for c in found]


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
