"""Attention: `dot_product_attention`, and the masks that go with it.

Letters of shapes: T queries, S keys and values, N query heads, K key heads, H features a head.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import bevel.numpy as bnp
from bevel import lax, random
from bevel.core import dtypes
from bevel.core.misfit import Fix, Shape, misfit
from bevel.nn.activations import logsumexp, softmax
from bevel.nn.dtypes import promote_dtype
from bevel.nn.variable import Intermediate
from bevel.numpy.convert import enter


def dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    bias: Any = None,
    mask: Any = None,
    broadcast_dropout: bool = True,
    dropout_rng: Any = None,
    dropout_rate: float = 0.0,
    deterministic: bool = False,
    dtype: Any = None,
    precision: Any = None,
    module: Any = None,
    promote_dtype: Callable[..., Any] = promote_dtype,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    query_seq_lengths: Any = None,
    key_value_seq_lengths: Any = None,
    local_window_size: int | tuple[int, int] | None = None,
    implementation: str | None = None,
    return_residual: bool = False,
) -> Any:
    """softmax(query keyᵀ scale + bias) value, head by head (Vaswani et al., arXiv:1706.03762).

    It takes the arguments of `jax.nn.dot_product_attention` and those of
    `flax.nnx.dot_product_attention`, which agree in the first five. The softmax is computed in
    float32. Key heads may be fewer than query heads, as long as they divide them: grouped-query
    attention (Ainslie et al., arXiv:2305.13245).

    Args:
        query: (batch..., T, N, H).
        key: (batch..., S, K, H).
        value: (batch..., S, K, features).
        bias: added to the logits; broadcasts against (batch..., N, T, S).
        mask: what takes part (True or nonzero); broadcasts likewise. A mask to add is a `bias`.
        broadcast_dropout: one draw of dropout for all of a batch and its heads.
        dropout_rng: the key of the draw.
        dropout_rate: share of the weights to drop.
        deterministic: drop none.
        dtype: of the computation (default: what the operands promote to).
        precision: of the products.
        module: a module that keeps the weights as an `Intermediate` "attention_weights"
            (`nn.capture`).
        promote_dtype: brings `(query, key, value)` to one dtype.
        is_causal: query t takes part in keys up to t only.
        scale: of the logits (default: 1 / sqrt(H)).
        query_seq_lengths: (batch...) integers: how many queries count; the rest gives 0.
        key_value_seq_lengths: (batch...) integers: how many keys count.
        local_window_size: how many keys to the left and right of its place a query sees.
        implementation: None or "xla".
        return_residual: return also the logsumexp of the logits (batch..., T, N).

    Returns:
        (batch..., T, N, features).

    Raises:
        ValueError: shapes do not fit; dropout without a key; an unknown implementation.

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> q, kv = bnp.ones((2, 5, 8, 4)), bnp.ones((2, 7, 2, 4))
    >>> nn.dot_product_attention(q, kv, kv, is_causal=True).shape
    (2, 5, 8, 4)
    """
    if implementation not in (None, "xla"):
        raise ValueError(
            f"dot_product_attention: implementation is None or 'xla', not {implementation!r}.\n"
            "Why: XLA itself chooses and fuses the kernels of the device."
        )
    query, key, value = promote_dtype((query, key, value), dtype=dtype)
    _check_shapes(query, key, value)
    wide = dtypes.promote_types(query.dtype, dtypes.float32)
    logits = _grouped("...tkgh,...skh->...kgts", query, key, precision, wide)
    logits = logits * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if bias is not None:
        logits = (logits + enter(bias)).astype(wide)
    here = _allowed(logits, mask, is_causal, query_seq_lengths, key_value_seq_lengths)
    here += _windows(logits, local_window_size)
    if here:
        low = -0.7 * float(dtypes.finfo(dtypes.float32).max)
        logits = bnp.where(_all(here), logits, low)
    logits = logits.astype(dtypes.float32)
    weights = softmax(logits, axis=-1).astype(query.dtype)
    if module is not None:
        module.sow(Intermediate, "attention_weights", weights)
    if dropout_rate > 0 and not deterministic:
        weights = _dropped(weights, dropout_rate, dropout_rng, broadcast_dropout)
    out = _weighted(weights, value, precision)
    if query_seq_lengths is not None:
        lengths = enter(query_seq_lengths)[..., None]
        out = out * (bnp.arange(out.shape[-3]) < lengths)[..., None, None].astype(out.dtype)
    if not return_residual:
        return out
    residual = bnp.swapaxes(logsumexp(logits, axis=-1), -1, -2).astype(query.dtype)
    return out, lax.stop_gradient(residual)


def _fit(query: Shape, key: Shape, value: Shape) -> bool:
    return (
        min(map(len, (query, key, value))) >= 3
        and query[:-3] == key[:-3] == value[:-3]
        and key[-3:-1] == value[-3:-1]
        and query[-1] == key[-1]
        and key[-2] != 0
        and query[-2] % key[-2] == 0
    )


def _check_shapes(query: Any, key: Any, value: Any) -> None:
    given = (query, key, value)
    shapes = [tuple(x.shape) for x in given]
    if _fit(*shapes):
        return
    rank = max(map(len, shapes))
    one = {i: "_[None]" for i, s in enumerate(shapes) if len(s) == rank - 1}
    grown = [(1, *s) if i in one else s for i, s in enumerate(shapes)]
    heads = [(*s[:-1], 1, s[-1]) for s in shapes if len(s) > 1]
    fixes = []
    if one and _fit(*grown):
        first = min(one)
        cause = f"{{{first}}} lacks the batch axis: {{{first}:_[None]}} has shape {grown[first]}"
        fixes = [Fix(cause, one)]
    elif len(heads) == 3 and _fit(*heads):
        cause = f"Without heads they lack an axis: {{0:_[..., None, :]}} has shape {heads[0]}"
        fixes = [Fix(cause, {i: "_[..., None, :]" for i in range(3)})]
    raise misfit(
        "dot_product_attention",
        given,
        "the shapes do not fit: {0} should be (batch..., T, N, H), {1} (batch..., S, K, H) and {2} "
        "(batch..., S, K, features), where K divides N",
        fixes,
        "one batch for all (bnp.broadcast_to), heads before features (x.reshape(*batch, length, "
        "heads, -1))",
        params=("query", "key", "value"),
        words=["the query", "the key", "the value"],
        error=ValueError,
    )


def _grouped(spec: str, query: Any, key: Any, precision: Any, wide: Any) -> Any:
    """Logits (..., N, T, S) from queries (..., T, N, H) and keys (..., S, K, H)."""
    *batch, t, n, h = query.shape
    k = key.shape[-2]
    query = query.reshape(*batch, t, k, n // k, h)
    logits = bnp.einsum(spec, query, key, precision=precision, preferred_element_type=wide)
    return logits.reshape(*batch, n, t, key.shape[-3])


def _weighted(weights: Any, value: Any, precision: Any) -> Any:
    """(..., T, N, features) from weights (..., N, T, S) and values (..., S, K, features)."""
    *batch, n, t, s = weights.shape
    k = value.shape[-2]
    weights = weights.reshape(*batch, k, n // k, t, s)
    out = bnp.einsum("...kgts,...skh->...tkgh", weights, value, precision=precision)
    return out.reshape(*batch, t, n, value.shape[-1])


def _allowed(logits: Any, mask: Any, is_causal: bool, queries: Any, keys: Any) -> list[Any]:
    """The masks that say which logits count, each to broadcast against them."""
    t, s = logits.shape[-2:]
    found = [] if mask is None else [_as_mask(mask)]
    if is_causal:
        found.append(bnp.arange(t)[:, None] >= bnp.arange(s))
    if queries is not None:
        found.append(bnp.arange(t)[:, None] < enter(queries)[..., None, None, None])
    if keys is not None:
        found.append(bnp.arange(s) < enter(keys)[..., None, None, None])
    return found


def _as_mask(mask: Any) -> Any:
    mask = enter(mask)
    return mask if mask.dtype == bool else mask != 0


def _windows(logits: Any, size: int | tuple[int, int] | None) -> list[Any]:
    if size is None:
        return []
    left, right = (size, size) if isinstance(size, int) else size
    t, s = bnp.arange(logits.shape[-2])[:, None], bnp.arange(logits.shape[-1])
    return [(t <= s + left) & (t >= s - right)]


def _all(masks: list[Any]) -> Any:
    first, *others = masks
    for m in others:
        first = first & m
    return first


def _dropped(weights: Any, rate: float, key: Any, broadcast: bool) -> Any:
    if key is None:
        raise ValueError(
            f"dot_product_attention: dropout_rate={rate} without a random key.\n"
            "Write instead: dropout_rng=random.key(0), or deterministic=True."
        )
    shape = (1,) * (weights.ndim - 2) + weights.shape[-2:] if broadcast else weights.shape
    keep = random.bernoulli(key, 1 - rate, shape)
    return weights * (keep.astype(weights.dtype) / bnp.asarray(1 - rate, weights.dtype))


def make_attention_mask(
    query_input: Any,
    key_input: Any,
    pairwise_fn: Callable[[Any, Any], Any] = bnp.multiply,
    extra_batch_dims: int = 0,
    dtype: Any = dtypes.float32,
) -> Any:
    """A mask (batch..., 1, T, S) from what is known of each query (batch..., T) and key (..., S).

    Args:
        query_input: array (batch..., T).
        key_input: array (batch..., S).
        pairwise_fn: what makes the entry of a pair.
        extra_batch_dims: number of axes of length 1 to put first.
        dtype: of the mask.

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> nn.make_attention_mask(bnp.array([1, 1]), bnp.array([1, 0]), dtype=bool)
    Array([[[ True, False],
            [ True, False]]], dtype=bool)
    """
    query_input, key_input = enter(query_input), enter(key_input)
    mask = pairwise_fn(query_input[..., :, None], key_input[..., None, :])
    mask = bnp.expand_dims(mask, -3)
    return bnp.expand_dims(mask, tuple(range(extra_batch_dims))).astype(dtype)


def make_causal_mask(x: Any, extra_batch_dims: int = 0, dtype: Any = dtypes.float32) -> Any:
    """The causal mask (batch..., 1, T, T) for an input (batch..., T), of which the shape counts.

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> nn.make_causal_mask(bnp.zeros(2))
    Array([[[1., 0.],
            [1., 1.]]], dtype=float32)
    """
    x = enter(x)
    places = bnp.broadcast_to(bnp.arange(x.shape[-1]), x.shape)
    return make_attention_mask(places, places, bnp.greater_equal, extra_batch_dims, dtype)


def combine_masks(*masks: Any, dtype: Any = dtypes.float32) -> Any:
    """The masks' logical and; None among them does not count, and of none it is None.

    Raises:
        ValueError: they differ in their number of axes.

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> nn.combine_masks(bnp.array([1, 1, 0]), None, bnp.array([0, 1, 1]), dtype=bool)
    Array([False,  True, False], dtype=bool)
    """
    given = [_as_mask(m) for m in masks if m is not None]
    if not given:
        return None
    if len({m.ndim for m in given}) > 1:
        raise ValueError(
            f"combine_masks: the masks have the shapes {[m.shape for m in given]}; all must have "
            "one number of axes.\n"
            "Write instead: mask[None] or mask[:, None] for the axes that are missing."
        )
    return _all(given).astype(dtype)
