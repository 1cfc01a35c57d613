"""Initializers: `init(key, shape, dtype=float32) -> Array`.

`variance_scaling` and its special cases (lecun, glorot or xavier, he or kaiming) keep the size of
signals
through a layer: the variance of a weight is scale / fan, where fan is the number of inputs, of
outputs, or their mean. Names, arguments and numbers are those of `jax.nn.initializers`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import bevel.numpy as bnp
from bevel import random
from bevel.core import dtypes

Initializer = Callable[..., Any]
Axes = int | Sequence[int]


def zeros(key: Any, shape: Sequence[int], dtype: Any = dtypes.float32) -> Any:
    """All zeros; itself an initializer.

    >>> from bevel.nn import initializers
    >>> initializers.zeros(None, (2,))
    Array([0., 0.], dtype=float32)
    """
    return bnp.zeros(shape, dtype)


def ones(key: Any, shape: Sequence[int], dtype: Any = dtypes.float32) -> Any:
    """All ones; itself an initializer.

    >>> from bevel.nn import initializers
    >>> initializers.ones(None, (2,))
    Array([1., 1.], dtype=float32)
    """
    return bnp.ones(shape, dtype)


def zeros_init() -> Initializer:
    """The initializer `zeros`.

    >>> from bevel.nn import initializers
    >>> initializers.zeros_init()(None, (2,))
    Array([0., 0.], dtype=float32)
    """
    return zeros


def ones_init() -> Initializer:
    """The initializer `ones`.

    >>> from bevel.nn import initializers
    >>> initializers.ones_init()(None, (2,))
    Array([1., 1.], dtype=float32)
    """
    return ones


def constant(value: Any, dtype: Any = dtypes.float32) -> Initializer:
    """An initializer that gives one value (a number or an array that broadcasts).

    >>> from bevel.nn import initializers
    >>> initializers.constant(2.5)(None, (2,))
    Array([2.5, 2.5], dtype=float32)
    """

    def init(key: Any, shape: Sequence[int], dtype: Any = dtype) -> Any:
        return bnp.full(shape, value, dtype)

    return init


def uniform(scale: Any = 1e-2, dtype: Any = dtypes.float32) -> Initializer:
    """An initializer uniform in [0, scale).

    >>> from bevel import random
    >>> from bevel.nn import initializers
    >>> initializers.uniform(0.5)(random.key(0), (2, 3)).shape
    (2, 3)
    """

    def init(key: Any, shape: Sequence[int], dtype: Any = dtype) -> Any:
        return random.uniform(key, shape, dtype) * bnp.asarray(scale, dtype)

    return init


def normal(stddev: Any = 1e-2, dtype: Any = dtypes.float32) -> Initializer:
    """An initializer normal with mean 0.

    >>> from bevel import random
    >>> from bevel.nn import initializers
    >>> initializers.normal(0.1)(random.key(0), (2, 3)).shape
    (2, 3)
    """

    def init(key: Any, shape: Sequence[int], dtype: Any = dtype) -> Any:
        return random.normal(key, shape, dtype) * bnp.asarray(stddev, dtype)

    return init


def truncated_normal(
    stddev: Any = 1e-2, dtype: Any = dtypes.float32, lower: float = -2.0, upper: float = 2.0
) -> Initializer:
    """An initializer normal with mean 0, cut at `lower` and `upper` standard deviations (stddev:
    before the cut).

    >>> from bevel import random
    >>> from bevel.nn import initializers
    >>> bool((abs(initializers.truncated_normal(1.0)(random.key(0), (99,))) <= 2).all())
    True
    """

    def init(key: Any, shape: Sequence[int], dtype: Any = dtype) -> Any:
        return random.truncated_normal(key, lower, upper, shape, dtype) * bnp.asarray(stddev, dtype)

    return init


def _product(shape: Sequence[int], axes: Axes) -> int:
    return math.prod(shape[a] for a in ([axes] if isinstance(axes, int) else axes))


def _fans(
    shape: Sequence[int], in_axis: Axes, out_axis: Axes, batch_axis: Axes
) -> tuple[float, float]:
    if len(shape) <= 1:
        raise ValueError(
            f"an initializer that scales by fan-in or fan-out needs at least 2 axes, and got the "
            f"shape {tuple(shape)}.\n"
            "Write instead: initializers.normal, uniform or zeros for vectors."
        )
    fan_in, fan_out = _product(shape, in_axis), _product(shape, out_axis)
    receptive = math.prod(shape) / max(fan_in * fan_out * _product(shape, batch_axis), 1)
    return fan_in * receptive, fan_out * receptive


_TRUNCATION = 0.87962566103423978  # standard deviation of a unit normal cut at two of them


def _complex_normal(key: Any, shape: Sequence[int], dtype: Any, upper: float | None) -> Any:
    """Complex numbers normal in modulus and uniform in direction; `upper` cuts the modulus."""
    real = dtypes.real_dtype(dtype)
    key_r, key_theta = random.split(key)
    if upper is None:
        re, im = (random.normal(k, shape, real) for k in (key_r, key_theta))
        return ((re + 1j * im) / math.sqrt(2)).astype(dtype)
    t = (1 - math.exp(-(upper**2))) * random.uniform(key_r, shape, real)
    r = bnp.sqrt(-bnp.log(1 - t))
    theta = 2 * math.pi * random.uniform(key_theta, shape, real)
    return (r * bnp.exp(1j * theta)).astype(dtype)


def _complex_uniform(key: Any, shape: Sequence[int], dtype: Any) -> Any:
    key_r, key_theta = random.split(key)
    real = dtypes.real_dtype(dtype)
    r = bnp.sqrt(random.uniform(key_r, shape, real))
    theta = 2 * math.pi * random.uniform(key_theta, shape, real)
    return (r * bnp.exp(1j * theta)).astype(dtype)


def _draw(distribution: str, key: Any, shape: Sequence[int], variance: Any, dtype: Any) -> Any:
    stddev = bnp.asarray(bnp.sqrt(variance), dtypes.real_dtype(dtype))
    cplx = dtypes.is_complex(dtype)
    if distribution == "normal":
        return (
            random.normal(key, shape, dtype)
            if not cplx
            else _complex_normal(key, shape, dtype, None)
        ) * stddev
    if distribution == "truncated_normal":
        if cplx:
            return _complex_normal(key, shape, dtype, 2.0) * (
                stddev / bnp.asarray(0.95311164380491208, stddev.dtype)
            )
        drawn = random.truncated_normal(key, -2, 2, shape, dtype)
        return drawn * (stddev / bnp.asarray(_TRUNCATION, dtype))
    if distribution == "uniform":
        if cplx:
            return _complex_uniform(key, shape, dtype) * stddev * math.sqrt(2)
        return random.uniform(key, shape, dtype, -1) * bnp.sqrt(bnp.asarray(3 * variance, dtype))
    raise ValueError(
        f"variance_scaling: the distribution is 'truncated_normal', 'normal' or 'uniform', not "
        f"{distribution!r}"
    )


def variance_scaling(
    scale: Any,
    mode: str,
    distribution: str,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: Any = dtypes.float32,
) -> Initializer:
    """An initializer of variance scale / fan.

    Args:
        scale: factor of the variance.
        mode: "fan_in", "fan_out", "fan_avg" or "fan_geo_avg".
        distribution: "truncated_normal", "normal" or "uniform".
        in_axis: axis or axes of the shape that count inputs.
        out_axis: those that count outputs.
        batch_axis: those that are independent repetitions.
        dtype: where the call names none.

    Raises:
        ValueError: an unknown mode or distribution, or a shape with less than 2 axes.

    >>> from bevel import random
    >>> from bevel.nn import initializers
    >>> init = initializers.variance_scaling(2.0, "fan_in", "truncated_normal")
    >>> abs(float(init(random.key(0), (200, 200)).var()) * 100 - 1) < 0.05
    True
    """

    def init(key: Any, shape: Sequence[int], dtype: Any = dtype) -> Any:
        dtype = dtypes.as_dtype(dtype)
        fan_in, fan_out = _fans(shape, in_axis, out_axis, batch_axis)
        fans = {
            "fan_in": fan_in,
            "fan_out": fan_out,
            "fan_avg": (fan_in + fan_out) / 2,
            "fan_geo_avg": math.sqrt(fan_in * fan_out),
        }
        if mode not in fans:
            raise ValueError(
                f"variance_scaling: the mode is one of {', '.join(fans)}, not {mode!r}"
            )
        variance = bnp.asarray(scale / max(fans[mode], 1e-38), dtypes.real_dtype(dtype))
        return _draw(distribution, key, shape, variance, dtype)

    return init


def _scaled(
    name: str, scale: float, mode: str, distribution: str, source: str
) -> Callable[..., Initializer]:
    def make(
        in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = dtypes.float32
    ) -> Initializer:
        return variance_scaling(scale, mode, distribution, in_axis, out_axis, batch_axis, dtype)

    make.__name__ = make.__qualname__ = name
    make.__doc__ = f"""`variance_scaling({scale}, "{mode}", "{distribution}")`: {source}.

    >>> from bevel import random
    >>> from bevel.nn import initializers
    >>> initializers.{name}()(random.key(0), (4, 3)).shape
    (4, 3)
    """
    return make


_LECUN = "LeCun et al., Efficient BackProp, 1998"
_GLOROT = (
    "Glorot and Bengio, Understanding the difficulty of training deep feedforward networks, 2010"
)
_HE = "He et al., Delving deep into rectifiers, 2015, for layers before a ReLU"
lecun_normal = _scaled("lecun_normal", 1.0, "fan_in", "truncated_normal", _LECUN)
lecun_uniform = _scaled("lecun_uniform", 1.0, "fan_in", "uniform", _LECUN)
glorot_normal = _scaled("glorot_normal", 1.0, "fan_avg", "truncated_normal", _GLOROT)
glorot_uniform = _scaled("glorot_uniform", 1.0, "fan_avg", "uniform", _GLOROT)
he_normal = _scaled("he_normal", 2.0, "fan_in", "truncated_normal", _HE)
he_uniform = _scaled("he_uniform", 2.0, "fan_in", "uniform", _HE)
xavier_normal, xavier_uniform = glorot_normal, glorot_uniform
kaiming_normal, kaiming_uniform = he_normal, he_uniform


def orthogonal(scale: Any = 1.0, column_axis: int = -1, dtype: Any = dtypes.float32) -> Initializer:
    """An initializer of orthogonal matrices, uniformly distributed (Saxe et al., arXiv:1312.6120).

    A shape of more than two axes is a matrix with `column_axis` against all others.

    Raises:
        ValueError: a shape with less than 2 axes.

    >>> import bevel.numpy as bnp
    >>> from bevel import random
    >>> from bevel.nn import initializers
    >>> q = initializers.orthogonal()(random.key(0), (4, 4))
    >>> bool(bnp.allclose(q @ q.T, bnp.eye(4), atol=1e-5))
    True
    """

    def init(key: Any, shape: Sequence[int], dtype: Any = dtype) -> Any:
        if len(shape) < 2:
            raise ValueError(f"orthogonal: the shape needs at least 2 axes, got {tuple(shape)}")
        n_cols = shape[column_axis]
        n_rows = math.prod(shape) // max(n_cols, 1)
        tall = (n_cols, n_rows) if n_rows < n_cols else (n_rows, n_cols)
        a = random.normal(key, tall, dtype)
        q, r = bnp.linalg.qr(a)
        diagonal = bnp.diagonal(r)
        q = q * bnp.expand_dims(diagonal / abs(diagonal), -2)
        if n_rows < n_cols:
            q = q.T
        axis = column_axis % len(shape)
        q = q.reshape((*shape[:axis], *shape[axis + 1 :], n_cols))
        return bnp.asarray(scale, dtype) * bnp.moveaxis(q, -1, axis)

    return init


def delta_orthogonal(
    scale: Any = 1.0, column_axis: int = -1, dtype: Any = dtypes.float32
) -> Initializer:
    """An initializer of convolution kernels that are orthogonal at their centre and zero elsewhere.

    Shapes (spatial..., in, out) with in <= out; Xiao et al., arXiv:1806.05393.

    Raises:
        ValueError: not 3 to 5 axes, or more inputs than outputs.

    >>> from bevel import random
    >>> from bevel.nn import initializers
    >>> initializers.delta_orthogonal()(random.key(0), (3, 2, 4)).shape
    (3, 2, 4)
    """

    def init(key: Any, shape: Sequence[int], dtype: Any = dtype) -> Any:
        if len(shape) not in (3, 4, 5):
            raise ValueError(
                f"delta_orthogonal: the shape has 3, 4 or 5 axes (spatial..., in, out), got "
                f"{tuple(shape)}"
            )
        if shape[-1] < shape[-2]:
            raise ValueError(
                f"delta_orthogonal: a kernel of shape {tuple(shape)} has more inputs than outputs, "
                f"so it cannot be orthogonal"
            )
        matrix = orthogonal(1.0, column_axis, dtype)(key, (shape[-1], shape[-1]))[: shape[-2]]
        centre = tuple((n - 1) // 2 for n in shape[:-2])
        return bnp.zeros(shape, dtype).at[centre].set(bnp.asarray(scale, dtype) * matrix)

    return init
