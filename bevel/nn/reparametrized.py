"""Layers around a layer that compute its weights anew in each call: `WeightNorm`, `SpectralNorm`.

The inner layer keeps the weights that are trained; while it runs, its variables show the normalized
ones. Nothing is written into them, so gradients flow through the normalization.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import bevel.numpy as bnp
from bevel import lax
from bevel.core import dtypes
from bevel.core.ref import Cell, Scope, write_back
from bevel.nn import initializers
from bevel.nn.checks import mode_of
from bevel.nn.dtypes import canonicalize_dtype
from bevel.nn.filters import PathContains, to_predicate
from bevel.nn.module import Module
from bevel.nn.rngs import Rngs, param_key
from bevel.nn.structure import path_text, structure_of
from bevel.nn.variable import BatchStat, Param

KERNELS = PathContains("kernel")


def _call_with(contents: Mapping[Cell, Any], layer: Any, *args: Any, **kwargs: Any) -> Any:
    """What the layer returns when these cells show these contents."""
    what = f"the weights of {type(layer).__name__}"
    with Scope(what, lambda cell, content: contents.get(cell, content)) as scope:
        out = layer(*args, **kwargs)
    write_back(scope.changed())
    return out


def _unit(x: Any, axis: Any = None, eps: float = 1e-12) -> Any:
    """An array at length 1 along axes."""
    return x * lax.rsqrt((x * x).sum(axis=axis, keepdims=True) + eps)


def _variables(layer: Any) -> Any:
    found = structure_of(layer)
    return zip(found.paths, found.cells, strict=True)


class WeightNorm(Module):
    """A layer with its weights at length 1 times a learned scale (Salimans and Kingma,
    arXiv:1602.07868).

    Args:
        layer_instance: the layer.
        feature_axes: axes along which weights have a length each; None for one length of all.
        use_scale: have a scale.
        scale_init: its initializer.
        epsilon: added to the squared length.
        dtype: of the weights in use (default: what weight and scale promote to).
        param_dtype: of the scale.
        variable_filter: which variables of the layer.
        rngs: its `params` stream gives the keys.

    Parameters: `scales`, a dict of one (lengths of the feature axes) for each path in the layer.

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> rngs = nn.Rngs(0)
    >>> layer = nn.WeightNorm(nn.Linear(8, 4, use_bias=False, rngs=rngs), rngs=rngs)
    >>> weights = layer(bnp.eye(8))
    >>> (weights**2).sum(0).round(4)
    Array([1., 1., 1., 1.], dtype=float32)
    """

    def __init__(
        self,
        layer_instance: Any,
        *,
        feature_axes: int | Sequence[int] | None = -1,
        use_scale: bool = True,
        scale_init: initializers.Initializer = initializers.ones,
        epsilon: float = 1e-12,
        dtype: Any = None,
        param_dtype: Any = dtypes.float32,
        variable_filter: Any = KERNELS,
        rngs: Rngs,
    ):
        self.layer_instance = layer_instance
        self.feature_axes = () if feature_axes is None else feature_axes
        self.use_scale = use_scale
        self.epsilon = epsilon
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.variable_filter = to_predicate(variable_filter)
        self.scales = {}
        if use_scale:
            for path, cell in self._chosen():
                shape = tuple(cell.shape[a] for a in self._features(cell.ndim))
                self.scales[path_text(path)] = Param(
                    scale_init(param_key(rngs), shape, param_dtype)
                )

    def _chosen(self) -> list[Any]:
        return [(p, c) for p, c in _variables(self.layer_instance) if self.variable_filter(p, c)]

    def _features(self, ndim: int) -> tuple[int, ...]:
        axes = self.feature_axes
        axes = (axes,) if isinstance(axes, int) else tuple(axes)
        return tuple(sorted({a % ndim for a in axes}))

    def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """What the layer returns with normalized weights."""
        contents = {cell: self._normalized(path, cell.value) for path, cell in self._chosen()}
        return _call_with(contents, self.layer_instance, x, *args, **kwargs)

    def _normalized(self, path: Any, weight: Any) -> Any:
        features = self._features(weight.ndim)
        reduced = tuple(i for i in range(weight.ndim) if i not in features)
        y, scale = _unit(weight, reduced, self.epsilon), None
        if self.use_scale:
            shape = [n if i in features else 1 for i, n in enumerate(weight.shape)]
            scale = self.scales[path_text(path)].value
            y = y * scale.reshape(shape)
        return y.astype(canonicalize_dtype(weight, scale, dtype=self.dtype))


class SpectralNorm(Module):
    """A layer with its weights divided by their largest singular value (Miyato et al.,
    arXiv:1802.05957).

    The value is found by power iteration, which goes on from call to call while training.

    Args:
        layer_instance: the layer; weights of more than two axes count as matrices of the last
            axis and all others, and vectors are left alone.
        n_steps: steps of power iteration a call.
        epsilon: added to squared lengths.
        dtype: of the weights in use (default: what weight and statistics promote to).
        param_dtype: of the statistics.
        error_on_non_matrix: refuse weights of more than two axes.
        update_stats: keep the statistics of a call for the next; `model.train()` and
            `model.eval()` set it.
        rngs: its `params` stream gives the keys.

    Statistics (`BatchStat`): `batch_stats`, for each path in the layer `u` (1, features) and
    `sigma` ().

    Raises:
        ValueError: a weight has more than two axes, and `error_on_non_matrix`.

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> rngs = nn.Rngs(0)
    >>> dense = nn.Linear(8, 4, use_bias=False, rngs=rngs)
    >>> weights = nn.SpectralNorm(dense, n_steps=50, rngs=rngs)(bnp.eye(8))
    >>> float(bnp.linalg.norm(weights, 2).round(3))
    1.0
    """

    def __init__(
        self,
        layer_instance: Any,
        *,
        n_steps: int = 1,
        epsilon: float = 1e-12,
        dtype: Any = None,
        param_dtype: Any = dtypes.float32,
        error_on_non_matrix: bool = False,
        update_stats: bool = True,
        rngs: Rngs,
    ):
        self.layer_instance = layer_instance
        self.n_steps = n_steps
        self.epsilon = epsilon
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.error_on_non_matrix = error_on_non_matrix
        # The name that model.train() and model.eval() set.
        self.use_running_average = not update_stats
        self.batch_stats = {}
        for path, cell in self._chosen():
            if cell.ndim > 2 and error_on_non_matrix:
                raise ValueError(
                    f"SpectralNorm: {path_text(path)} has the shape {cell.shape}, which is no "
                    "matrix.\nWrite instead: error_on_non_matrix=False to take all its axes but "
                    "the last as one."
                )
            u = initializers.normal()(param_key(rngs), (1, cell.shape[-1]), param_dtype)
            sigma = bnp.ones((), param_dtype)
            self.batch_stats[path_text(path)] = {"u": BatchStat(u), "sigma": BatchStat(sigma)}

    def _chosen(self) -> list[Any]:
        weights = _variables(self.layer_instance) if self.n_steps > 0 else ()
        return [(p, c) for p, c in weights if isinstance(c, Param) and c.ndim > 1]

    def __call__(self, x: Any, update_stats: bool | None = None, **kwargs: Any) -> Any:
        """What the layer returns with normalized weights.

        Args:
            x: input of the layer.
            update_stats: goes before that of the constructor.
            kwargs: keyword arguments of the layer.
        """
        keep = mode_of("SpectralNorm", "update_stats", update_stats, not self.use_running_average)
        contents = {c: self._normalized(path_text(p), c.value, keep) for p, c in self._chosen()}
        return _call_with(contents, self.layer_instance, x, **kwargs)

    def _normalized(self, name: str, weight: Any, keep: bool) -> Any:
        stats = self.batch_stats[name]
        matrix, u, v = weight.reshape(-1, weight.shape[-1]), stats["u"].value, None
        for _ in range(self.n_steps):
            v = _unit(u @ matrix.T, eps=self.epsilon)
            u = _unit(v @ matrix, eps=self.epsilon)
        u, v = lax.stop_gradient(u), lax.stop_gradient(v)
        sigma = (v @ matrix @ u.T)[0, 0]
        y = (matrix / bnp.where(sigma != 0, sigma, 1)).reshape(weight.shape)
        if keep:
            stats["u"][...] = u
            stats["sigma"][...] = lax.stop_gradient(sigma)
        return y.astype(canonicalize_dtype(y, u, sigma, dtype=self.dtype))
