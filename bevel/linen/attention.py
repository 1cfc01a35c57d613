"""Attention in the style of flax.linen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bevel.numpy as bnp
from bevel import lax
from bevel.core import dtypes
from bevel.linen.layers import DenseGeneral, Init, LayerNorm
from bevel.linen.module import Module, compact
from bevel.nn import initializers
from bevel.nn.attention import combine_masks, dot_product_attention
from bevel.nn.checks import mode_of
from bevel.nn.linear import default_kernel_init
from bevel.nn.multi_head import beyond_cache
from bevel.numpy.convert import enter


class MultiHeadDotProductAttention(Module):
    """Attention of several heads between projected inputs (Vaswani et al., arXiv:1706.03762).

    With `decode`, variables in "cache" keep keys and values: `init` with the longest input makes
    them, and each `apply` gives one position.

    Parts: `query`, `key`, `value`, `out` (`DenseGeneral`), `query_ln`, `key_ln`.
    """

    num_heads: int
    dtype: Any = None
    param_dtype: Any = dtypes.float32
    qkv_features: int | None = None
    out_features: int | None = None
    broadcast_dropout: bool = True
    dropout_rate: float = 0.0
    deterministic: bool | None = None
    precision: Any = None
    kernel_init: Init = default_kernel_init
    out_kernel_init: Init | None = None
    bias_init: Init = initializers.zeros
    out_bias_init: Init | None = None
    use_bias: bool = True
    attention_fn: Callable[..., Any] = dot_product_attention
    decode: bool = False
    normalize_qk: bool = False

    @compact
    def __call__(
        self,
        inputs_q: Any,
        inputs_k: Any = None,
        inputs_v: Any = None,
        *,
        mask: Any = None,
        deterministic: bool | None = None,
        dropout_rng: Any = None,
        sow_weights: bool = False,
    ) -> Any:
        """(batch..., T, out_features).

        Args:
            inputs_q: (batch..., T, features).
            inputs_k: (batch..., S, features) (default: `inputs_q`).
            inputs_v: likewise (default: `inputs_k`).
            mask: what takes part; broadcasts against (batch..., heads, T, S).
            deterministic: goes before that of the field.
            dropout_rng: key (default: from the stream "dropout").
            sow_weights: sow the weights into "intermediates".

        Raises:
            ValueError: `inputs_v` without `inputs_k`; the heads do not divide the features; the
                cache is full (a compiled call, which cannot know, gives NaN).
        """
        if inputs_k is None and inputs_v is not None:
            raise ValueError(
                f"{type(self).__name__}: inputs_v is given and inputs_k is not.\n"
                "Write instead: layer(q, kv), in which keys and values come from one input."
            )
        inputs_q = enter(inputs_q)
        inputs_k = inputs_q if inputs_k is None else inputs_k
        inputs_v = inputs_k if inputs_v is None else inputs_v
        width = self.qkv_features or inputs_q.shape[-1]
        if width % self.num_heads:
            raise ValueError(
                f"{type(self).__name__}: num_heads={self.num_heads} must divide {width} features"
            )
        common = dict(
            use_bias=self.use_bias,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            precision=self.precision,
        )
        inner = dict(kernel_init=self.kernel_init, bias_init=self.bias_init, **common)
        query, key, value = (
            DenseGeneral((self.num_heads, width // self.num_heads), name=name, **inner)(x)
            for name, x in (("query", inputs_q), ("key", inputs_k), ("value", inputs_v))
        )
        if self.normalize_qk:
            norm = dict(use_bias=False, dtype=self.dtype, param_dtype=self.param_dtype)
            query = LayerNorm(name="query_ln", **norm)(query)
            key = LayerNorm(name="key_ln", **norm)(key)
        full = None
        if self.decode:
            key, value, mask, full = self._remember(key, value, mask)
        still = self.dropout_rate == 0 or mode_of(
            type(self).__name__, "deterministic", deterministic, self.deterministic
        )
        x = self.attention_fn(
            query,
            key,
            value,
            mask=mask,
            dropout_rng=self.make_rng("dropout")
            if not still and dropout_rng is None
            else dropout_rng,
            dropout_rate=self.dropout_rate,
            broadcast_dropout=self.broadcast_dropout,
            deterministic=still,
            dtype=self.dtype,
            precision=self.precision,
            module=self if sow_weights else None,
        )
        return DenseGeneral(
            self.out_features or inputs_q.shape[-1],
            axis=(-2, -1),
            kernel_init=self.out_kernel_init or self.kernel_init,
            bias_init=self.out_bias_init or self.bias_init,
            name="out",
            **common,
        )(x if full is None else bnp.where(full, bnp.nan, x))

    def _remember(self, key: Any, value: Any, mask: Any) -> tuple[Any, Any, Any, Any]:
        """Keys and values so far with those of this position, the mask of what is there, and what
        `beyond_cache` says.
        """
        filled = self.has_variable("cache", "cached_key")
        keys = self.variable("cache", "cached_key", bnp.zeros, key.shape, key.dtype)
        values = self.variable("cache", "cached_value", bnp.zeros, value.shape, value.dtype)
        index = self.variable("cache", "cache_index", bnp.zeros, (), dtypes.int32)
        if not filled:
            return key, value, mask, None
        *batch, most, heads, depth = keys.value.shape
        if key.shape != (*batch, 1, heads, depth):
            raise ValueError(
                f"{type(self).__name__}: decoding takes one position of {(*batch, 1)} a call, "
                f"and this input has {key.shape[:-2]}.\n"
                "Write instead: x[:, i : i + 1] for position i, or init for this batch."
            )
        here = enter(index.value)
        again = "a new cache, from init with as many positions as are wanted"
        full = beyond_cache(type(self).__name__, here, most, again)
        for cache, new in ((keys, key), (values, value)):
            start = (*(0,) * len(batch), here, 0, 0)
            cache.value = lax.dynamic_update_slice(
                cache.value, new.astype(cache.value.dtype), start
            )
        index.value = here + 1
        seen = bnp.broadcast_to(bnp.arange(most) <= here, (*batch, 1, 1, most))
        return keys.value, values.value, combine_masks(mask, seen, dtype=bool), full


class MultiHeadAttention(MultiHeadDotProductAttention):
    """`MultiHeadDotProductAttention` under its shorter name."""
