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
from bevel import nn
from bevel.core import dtypes
from bevel.linen.module import Module, compact, merge_param
from bevel.nn import initializers
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


class Einsum(_Layer):
    """einsum(equation, x, kernel) + bias: `nn.Einsum`.

    Parameters: `kernel` (of `shape`), `bias` (the axes of the kernel that the result keeps).
    """

    shape: Sequence[int]
    einsum_str: str | None = None
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = dtypes.float32
    precision: Any = None
    kernel_init: Init = default_kernel_init
    bias_init: Init = initializers.zeros

    @compact
    def __call__(self, inputs: Any, einsum_str: str | None = None) -> Any:
        """What the equation says; it is given to the constructor or to the call."""
        equation = merge_param("einsum_str", self.einsum_str, einsum_str).replace(" ", "")
        operands, _, result = equation.partition("->")
        sizes = dict(zip(operands.rpartition(",")[2], self.shape, strict=False))
        kept = tuple(sizes[c] for c in result if c in sizes) if self.use_bias else None
        own = ("shape", "einsum_str", "use_bias")
        return self._made(nn.Einsum, equation, self.shape, kept, without=own)(inputs)


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
