"""`Stack`: layers that are alike, with their parameters stacked, traced as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bevel.api.remat import remat as rematerialize
from bevel.api.vmap import vmap
from bevel.nn import captures
from bevel.nn.axes import Carry
from bevel.nn.module import Module
from bevel.nn.rngs import Rngs
from bevel.nn.scanning import scan
from bevel.nn.structure import build, structure_of


class Stack(Module):
    """n layers in a row, each with variables of its own, compiled as one loop over one layer.

    Variables are those of one layer, each with a leading axis of n: tracing and compiling take the
    time of one layer whatever n. Every layer has its own random keys.

    Args:
        layer: a class or function that makes one layer; it is called once, with `rngs=`.
        n: number of layers.
        args: further arguments of `layer`.
        rngs: streams; each is split over the layers.
        remat: compute intermediate values of a layer again in the backward pass.
        unroll: layers per iteration of the compiled loop.
        kwargs: keyword arguments of `layer`.

    Raises:
        ValueError: `n` is not positive.

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> model = nn.Stack(nn.Linear, 6, 4, 4, rngs=nn.Rngs(0))
    >>> model(bnp.ones((2, 4))).shape, model.layer.kernel.shape
    ((2, 4), (6, 4, 4))
    >>> model[5]
    Linear(bias=Param(float32[4]), in_features=4, kernel=Param(float32[4, 4]), out_features=4)
    """

    def __init__(
        self,
        layer: Callable[..., Any],
        n: int,
        *args: Any,
        rngs: Rngs,
        remat: bool = False,
        unroll: int | bool = 1,
        **kwargs: Any,
    ):
        if n < 1:
            raise ValueError(f"Stack: the number of layers must be positive, not {n}")
        self.n = n
        self.remat = remat
        self.unroll = unroll
        self.layer = vmap(lambda r: layer(*args, rngs=r, **kwargs))(rngs.split(n))

    def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """What the last layer returns; each gets what the one before returned.

        Args:
            x: input of the first layer: a pytree of arrays, whose shapes and dtypes the layers
                keep.
            args: further arguments, the same for all layers.
            kwargs: keyword arguments, the same for all layers.
        """

        def one(layer: Any, x: Any) -> Any:
            return layer(x, *args, **kwargs)

        run = scan(
            captures.through(rematerialize, one) if self.remat else one,
            length=self.n,
            unroll=self.unroll,
            in_axes=(0, Carry),
            out_axes=Carry,
        )
        return run(self.layer, x)

    def __len__(self) -> int:
        return self.n

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, i: int) -> Any:
        """A copy of layer i."""
        found = structure_of(self.layer)
        rows = {p: c._read()[i] for p, c in zip(found.paths, found.cells, strict=True)}
        return build(found.graphdef, rows)[0]
