"""`MultiHeadAttention`, and the cache with which it decodes step by step."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import bevel.numpy as bnp
from bevel import lax
from bevel.core import dtypes
from bevel.core.handle import Handle
from bevel.core.interpreter import is_concrete
from bevel.core.source import user_source, where
from bevel.nn import initializers
from bevel.nn.attention import combine_masks, dot_product_attention
from bevel.nn.checks import features_of, mode_of
from bevel.nn.dtypes import promote_dtype
from bevel.nn.linear import NO_METADATA, LinearGeneral, default_kernel_init
from bevel.nn.module import Module
from bevel.nn.normalization import LayerNorm
from bevel.nn.rngs import Rngs
from bevel.nn.variable import Cache


def beyond_cache(what: str, index: Any, most: int, instead: str) -> Any:
    """Whether a cache of `most` positions has none left: None, or a traced boolean if only the
    compiled program knows.

    Raises:
        ValueError: it has none left.
    """
    if not is_concrete(index._v):
        return index >= most
    if int(index) >= most:
        raise ValueError(
            f"{what}: the cache of {most} positions is full, at {where(user_source())}.\n"
            f"Write instead: {instead}."
        )
    return None


class MultiHeadAttention(Module):
    """Attention of several heads between projected inputs (Vaswani et al., arXiv:1706.03762).

    Args:
        num_heads: number of query heads.
        in_features: features of the queries' input.
        qkv_features: features of all heads together (default: `in_features`).
        out_features: features of the result (default: `in_features`).
        num_kv_heads: number of key and value heads, which divides `num_heads` (default: as many).
        in_kv_features: features of the keys' and values' input (default: `in_features`).
        dtype, param_dtype, precision, use_bias: as for `Linear`.
        broadcast_dropout, dropout_rate: as for `dot_product_attention`.
        deterministic: no dropout; `model.train()` and `model.eval()` set it.
        kernel_init, bias_init: initializers of the projections.
        out_kernel_init, out_bias_init: those of the last projection, if others.
        attention_fn: `dot_product_attention` or one of its signature.
        decode: each call gives one position, whose keys and values are kept (`init_cache`).
        normalize_qk: normalize queries and keys by `LayerNorm` (Dehghani et al.,
            arXiv:2302.05442).
        qkv_promote_dtype, out_promote_dtype, ln_promote_dtype: `promote_dtype` of the parts.
        qkv_dot_general, out_dot_general: products of the projections (default:
            `lax.dot_general`).
        rngs: its `params` stream gives the parameters, its `dropout` stream is forked.
        keep_rngs: keep that stream; else give `rngs` in the call.
        kernel_metadata, bias_metadata: metadata of the projections' parameters.
        out_kernel_metadata, out_bias_metadata: those of the last projection, if others.
        query_ln_scale_metadata, key_ln_scale_metadata: those of the normalizations.

    Parts: `query`, `key`, `value`, `out` (`LinearGeneral`), `query_ln`, `key_ln`.

    Raises:
        ValueError: numbers of heads or features do not divide.

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> layer = nn.MultiHeadAttention(4, 16, rngs=nn.Rngs(0))
    >>> layer(bnp.ones((2, 5, 16)), is_causal=True).shape
    (2, 5, 16)
    """

    def __init__(
        self,
        num_heads: int,
        in_features: int,
        qkv_features: int | None = None,
        out_features: int | None = None,
        num_kv_heads: int | None = None,
        in_kv_features: int | None = None,
        *,
        dtype: Any = None,
        param_dtype: Any = dtypes.float32,
        broadcast_dropout: bool = True,
        dropout_rate: float = 0.0,
        deterministic: bool | None = None,
        precision: Any = None,
        kernel_init: initializers.Initializer = default_kernel_init,
        out_kernel_init: initializers.Initializer | None = None,
        bias_init: initializers.Initializer = initializers.zeros,
        out_bias_init: initializers.Initializer | None = None,
        use_bias: bool = True,
        attention_fn: Callable[..., Any] = dot_product_attention,
        decode: bool | None = None,
        normalize_qk: bool = False,
        qkv_promote_dtype: Callable[..., Any] = promote_dtype,
        out_promote_dtype: Callable[..., Any] = promote_dtype,
        ln_promote_dtype: Callable[..., Any] = promote_dtype,
        qkv_dot_general: Callable[..., Any] | None = None,
        out_dot_general: Callable[..., Any] | None = None,
        rngs: Rngs,
        keep_rngs: bool = True,
        kernel_metadata: Mapping[str, Any] = NO_METADATA,
        out_kernel_metadata: Mapping[str, Any] = NO_METADATA,
        bias_metadata: Mapping[str, Any] = NO_METADATA,
        out_bias_metadata: Mapping[str, Any] = NO_METADATA,
        query_ln_scale_metadata: Mapping[str, Any] = NO_METADATA,
        key_ln_scale_metadata: Mapping[str, Any] = NO_METADATA,
    ):
        self.num_heads = num_heads
        self.in_features = in_features
        self.qkv_features = in_features if qkv_features is None else qkv_features
        self.out_features = in_features if out_features is None else out_features
        self.in_kv_features = in_features if in_kv_features is None else in_kv_features
        self.num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        for name, total, part in (
            ("num_kv_heads", num_heads, self.num_kv_heads),
            ("num_heads", self.qkv_features, num_heads),
        ):
            if part < 1 or total % part:
                raise ValueError(
                    f"MultiHeadAttention: {name}={part} must divide "
                    f"{'num_heads' if name == 'num_kv_heads' else 'qkv_features'}={total}"
                )
        self.head_dim = self.qkv_features // num_heads
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.broadcast_dropout = broadcast_dropout
        self.dropout_rate = dropout_rate
        self.deterministic = deterministic
        self.precision = precision
        self.use_bias = use_bias
        self.attention_fn = attention_fn
        self.decode = decode
        self.normalize_qk = normalize_qk
        common = dict(
            dtype=dtype, param_dtype=param_dtype, use_bias=use_bias, precision=precision, rngs=rngs
        )
        project = functools.partial(
            LinearGeneral,
            kernel_init=kernel_init,
            bias_init=bias_init,
            promote_dtype=qkv_promote_dtype,
            dot_general=qkv_dot_general or lax.dot_general,
            kernel_metadata=kernel_metadata,
            bias_metadata=bias_metadata,
            **common,
        )
        self.query = project(in_features, (num_heads, self.head_dim))
        self.key = project(self.in_kv_features, (self.num_kv_heads, self.head_dim))
        self.value = project(self.in_kv_features, (self.num_kv_heads, self.head_dim))
        norm = functools.partial(
            LayerNorm,
            self.head_dim,
            use_bias=False,
            dtype=dtype,
            param_dtype=param_dtype,
            promote_dtype=ln_promote_dtype,
            rngs=rngs,
        )
        self.query_ln = norm(scale_metadata=query_ln_scale_metadata) if normalize_qk else None
        self.key_ln = norm(scale_metadata=key_ln_scale_metadata) if normalize_qk else None
        self.out = LinearGeneral(
            (num_heads, self.head_dim),
            self.out_features,
            axis=(-2, -1),
            kernel_init=out_kernel_init or kernel_init,
            bias_init=out_bias_init or bias_init,
            promote_dtype=out_promote_dtype,
            dot_general=out_dot_general or lax.dot_general,
            kernel_metadata=out_kernel_metadata or kernel_metadata,
            bias_metadata=out_bias_metadata or bias_metadata,
            **common,
        )
        self.rngs = rngs.dropout.fork() if keep_rngs and dropout_rate > 0 else None
        self.cached_key: Cache | None = None
        self.cached_value: Cache | None = None
        self.cache_index: Cache | None = None

    def init_cache(self, input_shape: tuple[int, ...], dtype: Any = dtypes.float32) -> None:
        """Empty caches for keys and values, so that calls with `decode` give one position each.

        Args:
            input_shape: (batch..., most positions, features).
            dtype: of the cache.

        >>> import bevel.numpy as bnp
        >>> from bevel import nn
        >>> layer = nn.MultiHeadAttention(2, 8, decode=True, rngs=nn.Rngs(0))
        >>> layer.init_cache((3, 10, 8))
        >>> layer(bnp.ones((3, 1, 8))).shape, int(layer.cache_index)
        ((3, 1, 8), 1)
        """
        shape = (*input_shape[:-1], self.num_kv_heads, self.head_dim)
        self.cached_key = Cache(bnp.zeros(shape, dtype))
        self.cached_value = Cache(bnp.zeros(shape, dtype))
        self.cache_index = Cache(bnp.zeros((), dtypes.int32))

    def __call__(
        self,
        inputs_q: Any,
        inputs_k: Any = None,
        inputs_v: Any = None,
        *,
        mask: Any = None,
        deterministic: bool | None = None,
        rngs: Any = None,
        sow_weights: bool = False,
        decode: bool | None = None,
        is_causal: bool = False,
    ) -> Any:
        """(batch..., T, out_features).

        Args:
            inputs_q: (batch..., T, in_features).
            inputs_k: (batch..., S, in_kv_features) (default: `inputs_q`).
            inputs_v: likewise (default: `inputs_k`).
            mask: what takes part; broadcasts against (batch..., heads, T, S).
            deterministic: goes before that of the constructor.
            rngs: streams, a stream or a key for dropout; goes before that of the constructor.
            sow_weights: keep the weights as an `Intermediate` (`nn.capture`).
            decode: goes before that of the constructor.
            is_causal: queries do not see later keys; in decoding there are none to see.

        Raises:
            ValueError: `inputs_v` without `inputs_k`; decoding without a cache, with a full one (a
                compiled call, which cannot know, gives NaN), or of more than one position; dropout
                without a stream; the mode was never set.
        """
        if inputs_k is None and inputs_v is not None:
            raise ValueError(
                "MultiHeadAttention: inputs_v is given and inputs_k is not.\n"
                "Write instead: layer(q, kv), in which keys and values come from one input."
            )
        inputs_k = inputs_q if inputs_k is None else inputs_k
        inputs_v = inputs_k if inputs_v is None else inputs_v
        query = self.query(features_of("MultiHeadAttention", inputs_q, self.in_features))
        name, width = "MultiHeadAttention", self.in_kv_features
        key = self.key(features_of(name, inputs_k, width, parameter="inputs_k"))
        value = self.value(features_of(name, inputs_v, width, parameter="inputs_v"))
        if self.query_ln is not None and self.key_ln is not None:
            query, key = self.query_ln(query), self.key_ln(key)
        if decode is None:
            decode = self.decode
        full = None
        if decode:
            key, value, mask, full = self._remember(key, value, mask)
        deterministic = self.dropout_rate == 0 or mode_of(
            "MultiHeadAttention", "deterministic", deterministic, self.deterministic
        )
        x = self.attention_fn(
            query,
            key,
            value,
            mask=mask,
            dropout_rng=None if deterministic else self._dropout_key(rngs),
            dropout_rate=self.dropout_rate,
            broadcast_dropout=self.broadcast_dropout,
            deterministic=deterministic,
            dtype=self.dtype,
            precision=self.precision,
            module=self if sow_weights else None,
            is_causal=is_causal and not decode,
        )
        return self.out(x if full is None else bnp.where(full, bnp.nan, x))

    def _remember(self, key: Any, value: Any, mask: Any) -> tuple[Any, Any, Any, Any]:
        """All keys and values so far, with this position's, the mask of those there are, and what
        `beyond_cache` says.
        """
        if self.cached_key is None or self.cached_value is None or self.cache_index is None:
            raise ValueError(
                f"MultiHeadAttention: decode without a cache, at {where(user_source())}.\n"
                "Write instead: layer.init_cache((batch, most_positions, features)) before the "
                "first call."
            )
        *batch, most, heads, depth = self.cached_key.shape
        if key.shape != (*batch, 1, heads, depth):
            raise ValueError(
                f"MultiHeadAttention: decoding takes one position of {(*batch, 1)} a call, and "
                f"this input has {key.shape[:-2]}, at {where(user_source())}.\n"
                "Write instead: x[:, i : i + 1] for position i, or init_cache for this batch."
            )
        index = self.cache_index.value
        again = "layer.init_cache((batch, most_positions, features)) with more, or to start again"
        full = beyond_cache("MultiHeadAttention", index, most, again)
        start = (*(0,) * len(batch), index, 0, 0)
        for cache, new in ((self.cached_key, key), (self.cached_value, value)):
            cache[...] = lax.dynamic_update_slice(cache.value, new.astype(cache.dtype), start)
        self.cache_index[...] += 1
        here = bnp.broadcast_to(bnp.arange(most) <= index, (*batch, 1, 1, most))
        seen = combine_masks(mask, here, dtype=bool)
        return self.cached_key.value, self.cached_value.value, seen, full

    def _dropout_key(self, rngs: Any) -> Any:
        source = self.rngs if rngs is None else rngs
        if source is None:
            raise ValueError(
                "MultiHeadAttention: there is no random stream to draw the dropout from, at "
                f"{where(user_source())}.\n"
                "Write instead: layer(x, rngs=nn.Rngs(dropout=0)), or keep_rngs=True in the "
                "constructor."
            )
        if isinstance(source, Handle):
            return source
        return (source.dropout if isinstance(source, Rngs) else source)()
