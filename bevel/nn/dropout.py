"""`Dropout`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import bevel.numpy as bnp
from bevel import random
from bevel.core.handle import Handle
from bevel.core.source import user_source, where
from bevel.nn.checks import mode_of
from bevel.nn.module import Module
from bevel.nn.rngs import Rngs, RngStream
from bevel.numpy.convert import enter


class Dropout(Module):
    """Sets a share of the elements to 0 while training, and scales the rest to keep the mean.

    Srivastava et al., Dropout, JMLR 2014.

    Args:
        rate: the share that is dropped.
        broadcast_dims: axes along which one draw holds for all.
        deterministic: True passes the input through; `model.train()` and `model.eval()` set it.
        rng_collection: name of the stream that gives the keys.
        rngs: the streams; the layer forks one of its own.

    Raises:
        ValueError: (when called) `deterministic` is None everywhere, or there is no random stream.

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> drop = nn.Dropout(0.5, rngs=nn.Rngs(dropout=0))
    >>> sorted(set(drop(bnp.ones(100)).tolist()))
    [0.0, 2.0]
    >>> drop(bnp.ones(3), deterministic=True)
    Array([1., 1., 1.], dtype=float32)
    """

    def __init__(
        self,
        rate: float,
        *,
        broadcast_dims: Sequence[int] = (),
        deterministic: bool | None = False,
        rng_collection: str = "dropout",
        rngs: Rngs | RngStream | None = None,
    ):
        if not 0 <= rate <= 1:
            raise ValueError(
                f"Dropout: rate is the share of elements to drop, between 0 and 1, not {rate}"
            )
        self.rate = rate
        self.broadcast_dims = tuple(broadcast_dims)
        self.deterministic = deterministic
        self.rng_collection = rng_collection
        stream = rngs[rng_collection] if isinstance(rngs, Rngs) else rngs
        self.rngs = stream if stream is None else stream.fork()

    def __call__(self, inputs: Any, *, deterministic: bool | None = None, rngs: Any = None) -> Any:
        """An array of the same shape and dtype.

        Args:
            inputs: array.
            deterministic: goes before that of the constructor.
            rngs: streams, a stream or a key that go before those of the constructor.
        """
        inputs = enter(inputs)
        if mode_of("Dropout", "deterministic", deterministic, self.deterministic) or self.rate == 0:
            return inputs
        if self.rate == 1:
            return bnp.zeros_like(inputs)
        keep = 1 - self.rate
        shape = list(inputs.shape)
        for axis in self.broadcast_dims:
            shape[axis] = 1
        kept = random.bernoulli(self._key(rngs), keep, tuple(shape))
        return bnp.where(kept, inputs / keep, 0).astype(inputs.dtype)

    def _key(self, rngs: Any) -> Any:
        source = self.rngs if rngs is None else rngs
        if isinstance(source, Handle):
            return source
        if source is None:
            raise ValueError(
                f"Dropout: there is no random stream to draw the mask from, at "
                f"{where(user_source())}.\n"
                "Write instead: nn.Dropout(rate, rngs=nn.Rngs(dropout=0)), or layer(x, rngs=rngs)."
            )
        return (source[self.rng_collection] if isinstance(source, Rngs) else source)()
