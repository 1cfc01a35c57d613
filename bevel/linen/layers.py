"""Layers in the style of flax.linen: fields say what is known before the input, which tells the
rest.

Each makes the layer of `bevel.nn` that computes, whose initializers are `self.param`: so `init`
draws parameters, and `apply` finds them.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import bevel.numpy as bnp
from bevel import lax, nn
from bevel.core import dtypes
from bevel.linen.module import Module, compact
from bevel.nn import initializers
from bevel.nn.attention import combine_masks, dot_product_attention
from bevel.nn.checks import mode_of
from bevel.nn.linear import as_tuple, default_embed_init, default_kernel_init
from bevel.numpy.convert import enter

Init = Callable[..., Any]
Axes = int | Sequence[int]


class _NoStream:
    """In place of `nn.Rngs`: the keys come from the run."""

    def params(self) -> None:
        """No key."""


class _Layer(Module):
    """Base of layers that are one of `bevel.nn`."""

    def _made(
        self,
        kind: Any,
        *sizes: Any,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        without: Sequence[str] = (),
        **options: Any,
    ) -> Any:
        """The layer of `bevel.nn`, with the fields of this module.

        Args:
            kind: its class.
            sizes: its positional arguments.
            shapes: shapes of parameters that it takes flat.
            without: fields that it does not know.
            options: keywords in place of fields.
        """
        left_out = {"parent", "name", "features", "dot_general", *without}
        fields = {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)
            if f.name not in left_out
        }
        for field, value in fields.items():
            if field.endswith("_init"):
                name = field.removesuffix("_init")
                fields[field] = self._initializer(name, value, (shapes or {}).get(name))
        if getattr(self, "dot_general", None) is not None:
            fields["dot_general"] = self.dot_general
        return kind(*sizes, rngs=_NoStream(), **{**fields, **options})

    def _initializer(self, name: str, init: Init, full: tuple[int, ...] | None) -> Init:
        """The parameter as what a layer takes for an initializer."""

        def parameter(_: Any, shape: Any, dtype: Any) -> Any:
            def draw(key: Any, whole: Any) -> Any:
                return init(key, tuple(shape), dtype).reshape(whole)

            return self.param(name, draw, tuple(full or shape)).reshape(tuple(shape))

        return parameter


class Dense(_Layer):
    """x @ kernel + bias over the last axis: `nn.Linear`.

    Parameters: `kernel` (in, features), `bias` (features,).

    >>> import bevel.numpy as bnp
    >>> from bevel import linen, random
    >>> variables = linen.Dense(4).init(random.key(0), bnp.ones((2, 3)))
    >>> linen.Dense(4).apply(variables, bnp.ones((2, 3))).shape
    (2, 4)
    """

    features: int
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = dtypes.float32
    precision: Any = None
    kernel_init: Init = default_kernel_init
    bias_init: Init = initializers.zeros
    dot_general: Any = None

    @compact
    def __call__(self, inputs: Any) -> Any:
        """(..., in) to (..., features)."""
        inputs = enter(inputs)
        return self._made(nn.Linear, inputs.shape[-1], self.features)(inputs)


class DenseGeneral(_Layer):
    """A linear map from some axes to new ones: `nn.LinearGeneral`.

    Parameters: `kernel` (*batch, *in, *features), `bias` (*batch, *features).
    """

    features: int | Sequence[int]
    axis: Axes = -1
    batch_dims: Sequence[int] = ()
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = dtypes.float32
    kernel_init: Init = default_kernel_init
    bias_init: Init = initializers.zeros
    precision: Any = None
    dot_general: Any = None

    @compact
    def __call__(self, inputs: Any) -> Any:
        """(*batch, ..., *in at `axis`, ...) to (*batch, ..., *features)."""
        inputs = enter(inputs)
        sizes, features = tuple(inputs.shape[a] for a in as_tuple(self.axis)), self.features
        batch = {a % inputs.ndim: inputs.shape[a] for a in as_tuple(self.batch_dims)}
        kept = (*(batch[a] for a in sorted(batch)),)
        shapes = {
            "kernel": (*kept, *sizes, *as_tuple(features)),
            "bias": (*kept, *as_tuple(features)),
        }
        layer = self._made(
            nn.LinearGeneral,
            sizes,
            features,
            shapes=shapes,
            without=("batch_dims",),
            batch_axis=batch,
        )
        return layer(inputs)


class Conv(_Layer):
    """Convolution of (batch..., spatial..., in), channels last: `nn.Conv`.

    Parameters: `kernel` (*kernel_size, in / groups, features), `bias` (features,).
    """

    features: int
    kernel_size: Axes
    strides: Any = 1
    padding: Any = "SAME"
    input_dilation: Any = 1
    kernel_dilation: Any = 1
    feature_group_count: int = 1
    use_bias: bool = True
    mask: Any = None
    dtype: Any = None
    param_dtype: Any = dtypes.float32
    precision: Any = None
    kernel_init: Init = default_kernel_init
    bias_init: Init = initializers.zeros

    @compact
    def __call__(self, inputs: Any) -> Any:
        """(batch..., spatial..., in) to (batch..., spatial'..., features)."""
        inputs = enter(inputs)
        return self._made(nn.Conv, inputs.shape[-1], self.features)(inputs)


class ConvTranspose(_Layer):
    """The transpose of a convolution of (batch..., spatial..., in): `nn.ConvTranspose`.

    Parameters: `kernel` (*kernel_size, in, features), with in and features exchanged if
    `transpose_kernel`; `bias` (features,).
    """

    features: int
    kernel_size: Axes
    strides: Any = None
    padding: Any = "SAME"
    kernel_dilation: Any = None
    use_bias: bool = True
    mask: Any = None
    dtype: Any = None
    param_dtype: Any = dtypes.float32
    precision: Any = None
    kernel_init: Init = default_kernel_init
    bias_init: Init = initializers.zeros
    transpose_kernel: bool = False

    @compact
    def __call__(self, inputs: Any) -> Any:
        """(batch..., spatial..., in) to (batch..., spatial'..., features)."""
        inputs = enter(inputs)
        return self._made(nn.ConvTranspose, inputs.shape[-1], self.features)(inputs)


class Embed(_Layer):
    """A table of vectors, looked up by integer: `nn.Embed`.

    Parameters: `embedding` (num_embeddings, features).
    """

    num_embeddings: int
    features: int
    dtype: Any = None
    param_dtype: Any = dtypes.float32
    embedding_init: Init = default_embed_init

    def setup(self) -> None:
        """Make the table, which `__call__` and `attend` share."""
        self.table = self._made(
            nn.Embed, self.num_embeddings, self.features, without=("num_embeddings",)
        )

    def __call__(self, inputs: Any) -> Any:
        """Integers (...,) to vectors (..., features)."""
        return self.table(inputs)

    def attend(self, query: Any) -> Any:
        """(..., features) to the inner products with all vectors, (..., num_embeddings)."""
        return self.table.attend(query)


class _Norm(_Layer):
    """Base of normalization layers, whose parameters run along feature axes."""

    def _of_features(self, kind: Any, x: Any, axes: Axes = -1, **options: Any) -> Any:
        axes = tuple(sorted({a % x.ndim for a in as_tuple(axes)}))
        shape = tuple(x.shape[a] for a in axes)
        shapes = {"scale": shape, "bias": shape}
        return self._made(kind, math.prod(shape), shapes=shapes, **options)


class BatchNorm(_Norm):
    """Normalizes each feature over the batch, or by running averages: `nn.BatchNorm`.

    The averages change if `use_running_average` is False and "batch_stats" is mutable.

    Parameters: `scale`, `bias` (features,); in "batch_stats": `mean`, `var`.
    """

    use_running_average: bool | None = None
    axis: Axes = -1
    momentum: float = 0.99
    epsilon: float = 1e-5
    dtype: Any = None
    param_dtype: Any = dtypes.float32
    use_bias: bool = True
    use_scale: bool = True
    bias_init: Init = initializers.zeros
    scale_init: Init = initializers.ones
    axis_name: Any = None
    axis_index_groups: Any = None
    use_fast_variance: bool = True

    @compact
    def __call__(self, x: Any, use_running_average: bool | None = None, *, mask: Any = None) -> Any:
        """An array of the same shape; `mask` says which elements count in the statistics."""
        x = enter(x)
        running = mode_of(
            "BatchNorm", "use_running_average", use_running_average, self.use_running_average
        )
        features = tuple(sorted({a % x.ndim for a in as_tuple(self.axis)}))
        shape = tuple(x.shape[a] for a in features)
        averages = {
            "mean": self.variable("batch_stats", "mean", bnp.zeros, shape, dtypes.float32),
            "var": self.variable("batch_stats", "var", bnp.ones, shape, dtypes.float32),
        }
        layer = self._of_features(nn.BatchNorm, x, self.axis)
        for name, average in averages.items():
            getattr(layer, name).value = average.value.reshape(math.prod(shape))
        y = layer(x, running, mask=mask)
        if not running and not self.is_initializing():
            for name, average in averages.items():
                average.value = getattr(layer, name).value.reshape(shape)
        return y


class LayerNorm(_Norm):
    """Normalizes each example over its features: `nn.LayerNorm`.

    Parameters: `scale`, `bias`, of the lengths of `feature_axes`.
    """

    epsilon: float = 1e-6
    dtype: Any = None
    param_dtype: Any = dtypes.float32
    use_bias: bool = True
    use_scale: bool = True
    bias_init: Init = initializers.zeros
    scale_init: Init = initializers.ones
    reduction_axes: Axes = -1
    feature_axes: Axes = -1
    axis_name: Any = None
    axis_index_groups: Any = None
    use_fast_variance: bool = True

    @compact
    def __call__(self, x: Any, *, mask: Any = None) -> Any:
        """An array of the same shape; `mask` says which elements count in the statistics."""
        x = enter(x)
        return self._of_features(nn.LayerNorm, x, self.feature_axes)(x, mask=mask)


class RMSNorm(_Norm):
    """Divides each example by the root mean square of its features: `nn.RMSNorm`.

    Parameters: `scale`, of the lengths of `feature_axes`.
    """

    epsilon: float = 1e-6
    dtype: Any = None
    param_dtype: Any = dtypes.float32
    use_scale: bool = True
    scale_init: Init = initializers.ones
    reduction_axes: Axes = -1
    feature_axes: Axes = -1
    axis_name: Any = None
    axis_index_groups: Any = None
    use_fast_variance: bool = True

    @compact
    def __call__(self, x: Any, *, mask: Any = None) -> Any:
        """An array of the same shape; `mask` says which elements count in the statistics."""
        x = enter(x)
        return self._of_features(nn.RMSNorm, x, self.feature_axes)(x, mask=mask)


class GroupNorm(_Norm):
    """Normalizes each example over groups of its features: `nn.GroupNorm`.

    Parameters: `scale`, `bias` (features,).
    """

    num_groups: int | None = 32
    group_size: int | None = None
    epsilon: float = 1e-6
    dtype: Any = None
    param_dtype: Any = dtypes.float32
    use_bias: bool = True
    use_scale: bool = True
    bias_init: Init = initializers.zeros
    scale_init: Init = initializers.ones
    reduction_axes: Axes | None = None
    axis_name: Any = None
    axis_index_groups: Any = None
    use_fast_variance: bool = True

    @compact
    def __call__(self, x: Any, *, mask: Any = None) -> Any:
        """An array of the same shape; `mask` says which elements count in the statistics."""
        x = enter(x)
        return self._of_features(nn.GroupNorm, x)(x, mask=mask)


class InstanceNorm(_Norm):
    """Normalizes each feature of each example over the other axes: `nn.InstanceNorm`.

    Parameters: `scale`, `bias`, of the lengths of `feature_axes`.
    """

    epsilon: float = 1e-6
    dtype: Any = None
    param_dtype: Any = dtypes.float32
    use_bias: bool = True
    use_scale: bool = True
    bias_init: Init = initializers.zeros
    scale_init: Init = initializers.ones
    feature_axes: Axes = -1
    axis_name: Any = None
    axis_index_groups: Any = None
    use_fast_variance: bool = True

    @compact
    def __call__(self, x: Any, *, mask: Any = None) -> Any:
        """An array of the same shape; `mask` says which elements count in the statistics."""
        x = enter(x)
        return self._of_features(nn.InstanceNorm, x, self.feature_axes)(x, mask=mask)


class Dropout(Module):
    """Sets a share of the elements to 0, and scales the rest: `nn.Dropout`.

    The mask is drawn from the stream `rng_collection`: `rngs={"dropout": key}` in `apply`.
    """

    rate: float
    broadcast_dims: Sequence[int] = ()
    deterministic: bool | None = None
    rng_collection: str = "dropout"

    @compact
    def __call__(self, inputs: Any, deterministic: bool | None = None, rng: Any = None) -> Any:
        """An array of the same shape; `rng` is the key of the mask."""
        layer = nn.Dropout(
            self.rate, broadcast_dims=self.broadcast_dims, deterministic=self.deterministic
        )
        stream = functools.partial(self.make_rng, self.rng_collection)
        return layer(inputs, deterministic=deterministic, rngs=stream if rng is None else rng)


class PReLU(Module):
    """x where it is positive, else a learned slope times x: `nn.PReLU`.

    Parameters: `negative_slope` ().
    """

    param_dtype: Any = dtypes.float32
    negative_slope_init: float = 0.01

    @compact
    def __call__(self, inputs: Any) -> Any:
        """An array of the same shape."""
        slope = self.param(
            "negative_slope", lambda _: bnp.asarray(self.negative_slope_init, self.param_dtype)
        )
        return nn.PReLU(slope)(inputs)


class Sequential(Module):
    """Applies callables one after the other: `nn.Sequential`.

    >>> import bevel.numpy as bnp
    >>> from bevel import linen, random
    >>> model = linen.Sequential([linen.Dense(4), linen.relu, linen.Dense(2)])
    >>> sorted(model.init(random.key(0), bnp.ones(3))["params"])
    ['layers_0', 'layers_2']
    """

    layers: Sequence[Callable[..., Any]]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the last callable returns."""
        return nn.Sequential(*self.layers)(*args, **kwargs)


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
            ValueError: `inputs_v` without `inputs_k`; the heads do not divide the features.
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
        if self.decode:
            key, value, mask = self._remember(key, value, mask)
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
        )(x)

    def _remember(self, key: Any, value: Any, mask: Any) -> tuple[Any, Any, Any]:
        """Keys and values so far with those of this position, and the mask of what is there."""
        filled = self.has_variable("cache", "cached_key")
        keys = self.variable("cache", "cached_key", bnp.zeros, key.shape, key.dtype)
        values = self.variable("cache", "cached_value", bnp.zeros, value.shape, value.dtype)
        index = self.variable("cache", "cache_index", bnp.zeros, (), dtypes.int32)
        if not filled:
            return key, value, mask
        *batch, most, heads, depth = keys.value.shape
        if key.shape != (*batch, 1, heads, depth):
            raise ValueError(
                f"{type(self).__name__}: decoding takes one position of {(*batch, 1)} a call, "
                f"and this input has {key.shape[:-2]}.\n"
                "Write instead: x[:, i : i + 1] for position i, or init for this batch."
            )
        here = index.value
        for cache, new in ((keys, key), (values, value)):
            start = (*(0,) * len(batch), here, 0, 0)
            cache.value = lax.dynamic_update_slice(
                cache.value, new.astype(cache.value.dtype), start
            )
        index.value = here + 1
        seen = bnp.broadcast_to(bnp.arange(most) <= here, (*batch, 1, 1, most))
        return keys.value, values.value, combine_masks(mask, seen, dtype=bool)


class MultiHeadAttention(MultiHeadDotProductAttention):
    """`MultiHeadDotProductAttention` under its shorter name."""
