"""Normalization layers: `BatchNorm`, `LayerNorm`, `RMSNorm`, `GroupNorm`, `InstanceNorm`.

Statistics are computed in at least float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import bevel.numpy as bnp
from bevel import lax
from bevel.core import dtypes
from bevel.nn import initializers
from bevel.nn.checks import features_of, mode_of
from bevel.nn.dtypes import canonicalize_dtype, promote_dtype
from bevel.nn.linear import NO_METADATA, as_tuple
from bevel.nn.module import Module
from bevel.nn.rngs import Rngs, param_key
from bevel.nn.variable import BatchStat, Param
from bevel.numpy.convert import enter

Axes = int | Sequence[int]


def _axes(axes: Axes, ndim: int) -> tuple[int, ...]:
    return tuple(sorted({a % ndim for a in as_tuple(axes)}))


def _square(x: Any) -> Any:
    return x.real**2 + x.imag**2 if dtypes.is_complex(x.dtype) else x * x


def _statistics(
    x: Any,
    axes: tuple[int, ...],
    dtype: Any,
    *,
    axis_name: Any = None,
    axis_index_groups: Any = None,
    use_mean: bool = True,
    use_fast_variance: bool = True,
    mask: Any = None,
) -> tuple[Any, Any]:
    """Mean and variance over axes (and over a named axis of `vmap`), without those axes.

    The fast variance is E[x²] - E[x]², clipped at 0: one pass over the data, less accurate when the
    mean is large.
    """
    dtype = dtypes.promote_types(x.dtype if dtype is None else dtype, dtypes.float32)
    x = x.astype(dtype)

    def mean_of(*xs: Any) -> list[Any]:
        means = [bnp.mean(v, axes, where=mask) for v in xs]
        if axis_name is None:
            return means
        return list(lax.pmean(bnp.stack(means), axis_name, axis_index_groups=axis_index_groups))

    if not use_mean:
        (var,) = mean_of(_square(x))
        return bnp.zeros_like(var), var
    if use_fast_variance:
        mean, square = mean_of(x, _square(x))
        return mean, bnp.maximum(0.0, square - _square(mean))
    (mean,) = mean_of(x)
    (var,) = mean_of(_square(x - bnp.expand_dims(mean, axes)))
    return mean, var


def _normalize(
    x: Any,
    mean: Any,
    var: Any,
    scale: Any,
    bias: Any,
    axes: tuple[int, ...],
    features: tuple[int, ...],
    layer: Any,
) -> Any:
    """(x - mean) / sqrt(var + epsilon) * scale + bias."""
    stats = [1 if i in axes else n for i, n in enumerate(x.shape)]
    shape = [n if i in features else 1 for i, n in enumerate(x.shape)]
    factor = lax.rsqrt(var.reshape(stats) + layer.epsilon)
    if scale is not None:
        factor = factor * scale.reshape(shape)
    y = (x - mean.reshape(stats)) * factor
    if bias is not None:
        y = y + bias.reshape(shape)
    return y.astype(canonicalize_dtype(x, scale, bias, dtype=layer.dtype))


def _parameter(
    wanted: bool, init: Callable[..., Any], rngs: Rngs, n: int, dtype: Any, metadata: Any
) -> Any:
    return Param(init(param_key(rngs), (n,), dtype), **metadata) if wanted else None


def _value(variable: Any) -> Any:
    return None if variable is None else variable.value


class BatchNorm(Module):
    """Normalizes each feature over the batch while training, by running averages afterwards.

    Ioffe and Szegedy, arXiv:1502.03167. Say which by `model.train()` and `model.eval()`, or by the
    argument `use_running_average` here or in the call.

    Args:
        num_features: length of the feature axis.
        use_running_average: normalize by the running averages, and do not update them.
        axis: the feature axis (or axes).
        momentum: share of the old running average that an update keeps.
        epsilon: added to the variance.
        dtype: of the result (default: what input and parameters promote to).
        param_dtype: dtype of the parameters.
        use_bias, use_scale: have these parameters.
        bias_init, scale_init: initializers.
        axis_name, axis_index_groups: the named axis over which statistics are shared.
        use_fast_variance: E[x²] - E[x]² rather than E[(x - E[x])²].
        promote_dtype: brings the arrays to one dtype.
        rngs: its `params` stream gives the keys.
        bias_metadata, scale_metadata: metadata of the parameters.

    Parameters: `scale`, `bias` (num_features,); statistics (`BatchStat`): `mean`, `var`.

    Raises:
        ValueError: (when called) the mode was never set.

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> layer = nn.BatchNorm(2, momentum=0.5, rngs=nn.Rngs(0))
    >>> y = layer(bnp.array([[0.0, 10.0], [2.0, 30.0]]), use_running_average=False)
    >>> layer.mean.value
    Array([ 0.5, 10. ], dtype=float32)
    """

    def __init__(
        self,
        num_features: int,
        *,
        use_running_average: bool | None = None,
        axis: Axes = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-5,
        dtype: Any = None,
        param_dtype: Any = dtypes.float32,
        use_bias: bool = True,
        use_scale: bool = True,
        bias_init: initializers.Initializer = initializers.zeros,
        scale_init: initializers.Initializer = initializers.ones,
        axis_name: Any = None,
        axis_index_groups: Any = None,
        use_fast_variance: bool = True,
        promote_dtype: Callable[..., Any] = promote_dtype,
        rngs: Rngs,
        bias_metadata: Mapping[str, Any] = NO_METADATA,
        scale_metadata: Mapping[str, Any] = NO_METADATA,
    ):
        self.mean = BatchStat(bnp.zeros(num_features, dtypes.float32))
        self.var = BatchStat(bnp.ones(num_features, dtypes.float32))
        self.scale = _parameter(
            use_scale, scale_init, rngs, num_features, param_dtype, scale_metadata
        )
        self.bias = _parameter(use_bias, bias_init, rngs, num_features, param_dtype, bias_metadata)
        self.num_features = num_features
        self.use_running_average = use_running_average
        self.axis = axis
        self.momentum = momentum
        self.epsilon = epsilon
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.use_bias = use_bias
        self.use_scale = use_scale
        self.axis_name = axis_name
        self.axis_index_groups = axis_index_groups
        self.use_fast_variance = use_fast_variance
        self.promote_dtype = promote_dtype

    def __call__(self, x: Any, use_running_average: bool | None = None, *, mask: Any = None) -> Any:
        """An array of the same shape; updates the running averages unless they are used.

        Args:
            x: (..., num_features ...).
            use_running_average: goes before that of the constructor.
            mask: which elements count in the statistics; broadcasts against `x`.
        """
        running = mode_of(
            "BatchNorm", "use_running_average", use_running_average, self.use_running_average
        )
        if isinstance(self.axis, int):
            x = features_of("BatchNorm", x, self.num_features, self.axis)
        arrays = (x, self.mean.value, self.var.value, _value(self.scale), _value(self.bias))
        x, mean, var, scale, bias = self.promote_dtype(arrays, dtype=self.dtype)
        features = _axes(self.axis, x.ndim)
        reduced = tuple(i for i in range(x.ndim) if i not in features)
        if not running:
            mean, var = _statistics(
                x,
                reduced,
                self.dtype,
                axis_name=self.axis_name,
                axis_index_groups=self.axis_index_groups,
                use_fast_variance=self.use_fast_variance,
                mask=mask,
            )
            for average, new in ((self.mean, mean), (self.var, var)):
                kept = self.momentum * average.value + (1 - self.momentum) * lax.stop_gradient(new)
                average[...] = kept.astype(average.dtype)
        return _normalize(x, mean, var, scale, bias, reduced, features, self)


class LayerNorm(Module):
    """Normalizes each example over its features (Ba et al., arXiv:1607.06450).

    Args:
        num_features: length of the feature axis.
        epsilon: added to the variance.
        dtype, param_dtype, use_bias, use_scale, bias_init, scale_init, axis_name,
        axis_index_groups,
            use_fast_variance, promote_dtype, rngs, bias_metadata, scale_metadata: as for
                `BatchNorm`.
        reduction_axes: axes over which mean and variance are taken.
        feature_axes: axes along which scale and bias vary.

    Parameters: `scale`, `bias` (num_features,).

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> nn.LayerNorm(2, epsilon=0.0, rngs=nn.Rngs(0))(bnp.array([[1.0, 3.0]]))
    Array([[-1.,  1.]], dtype=float32)
    """

    def __init__(
        self,
        num_features: int,
        *,
        epsilon: float = 1e-6,
        dtype: Any = None,
        param_dtype: Any = dtypes.float32,
        use_bias: bool = True,
        use_scale: bool = True,
        bias_init: initializers.Initializer = initializers.zeros,
        scale_init: initializers.Initializer = initializers.ones,
        reduction_axes: Axes = -1,
        feature_axes: Axes = -1,
        axis_name: Any = None,
        axis_index_groups: Any = None,
        use_fast_variance: bool = True,
        promote_dtype: Callable[..., Any] = promote_dtype,
        rngs: Rngs,
        bias_metadata: Mapping[str, Any] = NO_METADATA,
        scale_metadata: Mapping[str, Any] = NO_METADATA,
    ):
        self.scale = _parameter(
            use_scale, scale_init, rngs, num_features, param_dtype, scale_metadata
        )
        self.bias = _parameter(use_bias, bias_init, rngs, num_features, param_dtype, bias_metadata)
        self.num_features = num_features
        self.epsilon = epsilon
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.use_bias = use_bias
        self.use_scale = use_scale
        self.reduction_axes = reduction_axes
        self.feature_axes = feature_axes
        self.axis_name = axis_name
        self.axis_index_groups = axis_index_groups
        self.use_fast_variance = use_fast_variance
        self.promote_dtype = promote_dtype

    def __call__(self, x: Any, *, mask: Any = None) -> Any:
        """An array of the same shape; `mask` says which elements count in the statistics."""
        return _by_example(self, x, mask, use_mean=True)


class RMSNorm(Module):
    """Divides each example by the root mean square of its features (Zhang and Sennrich,
    arXiv:1910.07467).

    Args: as for `LayerNorm`, without those of the bias.

    Parameters: `scale` (num_features,).

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> nn.RMSNorm(2, epsilon=0.0, rngs=nn.Rngs(0))(bnp.array([[3.0, 3.0]]))
    Array([[1., 1.]], dtype=float32)
    """

    def __init__(
        self,
        num_features: int,
        *,
        epsilon: float = 1e-6,
        dtype: Any = None,
        param_dtype: Any = dtypes.float32,
        use_scale: bool = True,
        scale_init: initializers.Initializer = initializers.ones,
        reduction_axes: Axes = -1,
        feature_axes: Axes = -1,
        axis_name: Any = None,
        axis_index_groups: Any = None,
        use_fast_variance: bool = True,
        promote_dtype: Callable[..., Any] = promote_dtype,
        rngs: Rngs,
        scale_metadata: Mapping[str, Any] = NO_METADATA,
    ):
        self.scale = _parameter(
            use_scale, scale_init, rngs, num_features, param_dtype, scale_metadata
        )
        self.bias = None
        self.num_features = num_features
        self.epsilon = epsilon
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.use_scale = use_scale
        self.reduction_axes = reduction_axes
        self.feature_axes = feature_axes
        self.axis_name = axis_name
        self.axis_index_groups = axis_index_groups
        self.use_fast_variance = use_fast_variance
        self.promote_dtype = promote_dtype

    def __call__(self, x: Any, mask: Any = None) -> Any:
        """An array of the same shape; `mask` says which elements count in the statistics."""
        return _by_example(self, x, mask, use_mean=False)


def _by_example(
    layer: Any, x: Any, mask: Any, use_mean: bool, axes: tuple[int, ...] | None = None
) -> Any:
    if isinstance(layer.feature_axes, int):
        x = features_of(type(layer).__name__, x, layer.num_features, layer.feature_axes)
    x, scale, bias = layer.promote_dtype(
        (x, _value(layer.scale), _value(layer.bias)), dtype=layer.dtype
    )
    reduced = _axes(layer.reduction_axes, x.ndim) if axes is None else axes
    mean, var = _statistics(
        x,
        reduced,
        layer.dtype,
        axis_name=layer.axis_name,
        axis_index_groups=layer.axis_index_groups,
        use_mean=use_mean,
        use_fast_variance=layer.use_fast_variance,
        mask=mask,
    )
    return _normalize(x, mean, var, scale, bias, reduced, _axes(layer.feature_axes, x.ndim), layer)


class GroupNorm(Module):
    """Normalizes each example over groups of its features (Wu and He, arXiv:1803.08494).

    Args:
        num_features: length of the feature axis, the last.
        num_groups: number of groups; None if `group_size` is given.
        group_size: features of a group.
        epsilon, dtype, param_dtype, use_bias, use_scale, bias_init, scale_init, axis_name,
        axis_index_groups, use_fast_variance, promote_dtype, rngs, bias_metadata, scale_metadata:
            as for `BatchNorm`.
        reduction_axes: axes over which mean and variance are taken, the feature axis among them
            (default: all but the first).

    Parameters: `scale`, `bias` (num_features,).

    Raises:
        ValueError: both or none of `num_groups` and `group_size` are given, or they do not divide
            the features.

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> nn.GroupNorm(4, num_groups=2, rngs=nn.Rngs(0))(bnp.array([[1.0, 3.0, 5.0, 5.0]])).round(3)
    Array([[-1.,  1.,  0.,  0.]], dtype=float32)
    """

    def __init__(
        self,
        num_features: int,
        num_groups: int | None = 32,
        group_size: int | None = None,
        *,
        epsilon: float = 1e-6,
        dtype: Any = None,
        param_dtype: Any = dtypes.float32,
        use_bias: bool = True,
        use_scale: bool = True,
        bias_init: initializers.Initializer = initializers.zeros,
        scale_init: initializers.Initializer = initializers.ones,
        reduction_axes: Axes | None = None,
        axis_name: Any = None,
        axis_index_groups: Any = None,
        use_fast_variance: bool = True,
        promote_dtype: Callable[..., Any] = promote_dtype,
        rngs: Rngs,
        bias_metadata: Mapping[str, Any] = NO_METADATA,
        scale_metadata: Mapping[str, Any] = NO_METADATA,
    ):
        if (num_groups is None) == (group_size is None):
            raise ValueError(
                "GroupNorm: give either num_groups or group_size.\n"
                "Write instead: nn.GroupNorm(features, num_groups=None, group_size=16, rngs=rngs), "
                "since num_groups is 32 by default."
            )
        part = num_groups if num_groups is not None else group_size
        if not part or part < 1 or num_features % part:
            name = "num_groups" if num_groups is not None else "group_size"
            raise ValueError(f"GroupNorm: {name}={part} does not divide {num_features} features")
        self.num_groups = num_groups if num_groups is not None else num_features // part
        self.group_size = num_features // self.num_groups
        self.scale = _parameter(
            use_scale, scale_init, rngs, num_features, param_dtype, scale_metadata
        )
        self.bias = _parameter(use_bias, bias_init, rngs, num_features, param_dtype, bias_metadata)
        self.num_features = num_features
        self.epsilon = epsilon
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.use_bias = use_bias
        self.use_scale = use_scale
        self.reduction_axes = reduction_axes
        self.axis_name = axis_name
        self.axis_index_groups = axis_index_groups
        self.use_fast_variance = use_fast_variance
        self.promote_dtype = promote_dtype

    def __call__(self, x: Any, *, mask: Any = None) -> Any:
        """An array of the same shape; `mask` says which elements count in the statistics."""
        x = features_of("GroupNorm", x, self.num_features)
        last = x.ndim - 1
        axes = (*range(1, last), last) if self.reduction_axes is None else self.reduction_axes
        reduced = tuple(a for a in _axes(axes, x.ndim) if a != last)
        groups = (self.num_groups, self.group_size)
        if mask is not None:
            mask = bnp.broadcast_to(mask, x.shape).reshape(*x.shape[:-1], *groups)
        x, scale, bias = self.promote_dtype(
            (x, _value(self.scale), _value(self.bias)), dtype=self.dtype
        )
        mean, var = _statistics(
            x.reshape(*x.shape[:-1], *groups),
            (*reduced, last + 1),
            self.dtype,
            axis_name=self.axis_name,
            axis_index_groups=self.axis_index_groups,
            use_fast_variance=self.use_fast_variance,
            mask=mask,
        )
        mean, var = (bnp.repeat(v, self.group_size, axis=-1) for v in (mean, var))
        return _normalize(x, mean, var, scale, bias, reduced, (last,), self)


class InstanceNorm(Module):
    """Normalizes each feature of each example over the other axes (Ulyanov et al.,
    arXiv:1607.08022).

    Args:
        num_features: length of the feature axis.
        epsilon, dtype, param_dtype, use_bias, use_scale, bias_init, scale_init, axis_name,
        axis_index_groups, use_fast_variance, promote_dtype, rngs, bias_metadata, scale_metadata:
            as for `BatchNorm`.
        feature_axes: axes that are not reduced, along which scale and bias vary.

    Parameters: `scale`, `bias` (num_features,).

    Raises:
        ValueError: (when called) the first axis, that of the batch, is a feature axis.

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> nn.InstanceNorm(1, epsilon=0.0, rngs=nn.Rngs(0))(bnp.array([[[1.0], [3.0]]]))[0, :, 0]
    Array([-1.,  1.], dtype=float32)
    """

    def __init__(
        self,
        num_features: int,
        *,
        epsilon: float = 1e-6,
        dtype: Any = None,
        param_dtype: Any = dtypes.float32,
        use_bias: bool = True,
        use_scale: bool = True,
        bias_init: initializers.Initializer = initializers.zeros,
        scale_init: initializers.Initializer = initializers.ones,
        feature_axes: Axes = -1,
        axis_name: Any = None,
        axis_index_groups: Any = None,
        use_fast_variance: bool = True,
        promote_dtype: Callable[..., Any] = promote_dtype,
        rngs: Rngs,
        bias_metadata: Mapping[str, Any] = NO_METADATA,
        scale_metadata: Mapping[str, Any] = NO_METADATA,
    ):
        self.scale = _parameter(
            use_scale, scale_init, rngs, num_features, param_dtype, scale_metadata
        )
        self.bias = _parameter(use_bias, bias_init, rngs, num_features, param_dtype, bias_metadata)
        self.num_features = num_features
        self.epsilon = epsilon
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.use_bias = use_bias
        self.use_scale = use_scale
        self.feature_axes = feature_axes
        self.axis_name = axis_name
        self.axis_index_groups = axis_index_groups
        self.use_fast_variance = use_fast_variance
        self.promote_dtype = promote_dtype

    def __call__(self, x: Any, *, mask: Any = None) -> Any:
        """An array of the same shape; `mask` says which elements count in the statistics."""
        x = enter(x)
        features = _axes(self.feature_axes, x.ndim)
        if 0 in features:
            raise ValueError(
                f"InstanceNorm: feature_axes={self.feature_axes} has the first axis, which is that "
                "of the batch.\nWrite instead: an axis from 1 on, or x[None] if there is no batch."
            )
        return _by_example(
            self,
            x,
            mask,
            use_mean=True,
            axes=tuple(i for i in range(1, x.ndim) if i not in features),
        )
