"""Layers that are linear in their input: `Linear`, `LinearGeneral`, `Einsum`, `Embed`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import bevel.numpy as bnp
from bevel import lax
from bevel.core import dtypes
from bevel.nn import initializers
from bevel.nn.checks import features_of
from bevel.nn.dtypes import promote_dtype
from bevel.nn.module import Module
from bevel.nn.rngs import Rngs, param_key
from bevel.nn.variable import Param
from bevel.numpy.convert import enter

NO_METADATA: Mapping[str, Any] = MappingProxyType({})
default_kernel_init = initializers.lecun_normal()
default_embed_init = initializers.variance_scaling(1.0, "fan_in", "normal", out_axis=0)


def as_tuple(x: Any) -> tuple[int, ...]:
    """An int as a tuple of one, a sequence as a tuple."""
    return (x,) if isinstance(x, int) else tuple(x)


class Linear(Module):
    """x @ kernel + bias over the last axis.

    Args:
        in_features, out_features: lengths of the last axis before and after.
        use_bias: add a bias.
        dtype: dtype of the computation (default: what input and parameters promote to).
        param_dtype: dtype of the parameters.
        precision: of the product, as in `lax.dot_general`.
        kernel_init, bias_init: initializers.
        dot_general: the product.
        promote_dtype: brings `(inputs, kernel, bias)` to one dtype.
        preferred_element_type: of the product.
        rngs: its `params` stream gives the keys.
        kernel_metadata, bias_metadata: metadata of the parameters.

    Parameters: `kernel` (in_features, out_features), `bias` (out_features,).

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> layer = nn.Linear(3, 4, rngs=nn.Rngs(0))
    >>> layer(bnp.ones((2, 3))).shape
    (2, 4)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        use_bias: bool = True,
        dtype: Any = None,
        param_dtype: Any = dtypes.float32,
        precision: Any = None,
        kernel_init: initializers.Initializer = default_kernel_init,
        bias_init: initializers.Initializer = initializers.zeros,
        dot_general: Callable[..., Any] = lax.dot_general,
        promote_dtype: Callable[..., Any] = promote_dtype,
        preferred_element_type: Any = None,
        rngs: Rngs,
        kernel_metadata: Mapping[str, Any] = NO_METADATA,
        bias_metadata: Mapping[str, Any] = NO_METADATA,
    ):
        self.kernel = Param(
            kernel_init(param_key(rngs), (in_features, out_features), param_dtype),
            **kernel_metadata,
        )
        self.bias = (
            Param(bias_init(param_key(rngs), (out_features,), param_dtype), **bias_metadata)
            if use_bias
            else None
        )
        self.in_features = in_features
        self.out_features = out_features
        self.use_bias = use_bias
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.precision = precision
        self.dot_general = dot_general
        self.promote_dtype = promote_dtype
        self.preferred_element_type = preferred_element_type

    def __call__(self, inputs: Any) -> Any:
        """(..., in_features) to (..., out_features)."""
        inputs = features_of("Linear", inputs, self.in_features)
        inputs, kernel, bias = self.promote_dtype(
            (inputs, self.kernel.value, _value(self.bias)), dtype=self.dtype
        )
        y = self.dot_general(
            inputs,
            kernel,
            (((inputs.ndim - 1,), (0,)), ((), ())),
            precision=self.precision,
            preferred_element_type=self.preferred_element_type,
        )
        return y if bias is None else y + bias


def _value(variable: Any) -> Any:
    return None if variable is None else variable.value


class LinearGeneral(Module):
    """A linear map from some axes to new ones.

    Args:
        in_features: length(s) of the axes it takes.
        out_features: length(s) of the axes that come last in the result.
        axis: the axes it takes, as many as `in_features`.
        batch_axis: leading axes with a kernel each: their positions and lengths.
        use_bias, dtype, param_dtype, kernel_init, bias_init, precision, promote_dtype, dot_general,
            preferred_element_type, rngs, kernel_metadata, bias_metadata: as for `Linear`.

    Parameters: `kernel` (*batch, *in_features, *out_features), `bias` (*batch, *out_features).

    Raises:
        ValueError: `axis` and `in_features` differ in number, or `batch_axis` is not 0, 1, ...

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> layer = nn.LinearGeneral((2, 3), (4, 5), axis=(1, -1), rngs=nn.Rngs(0))
    >>> layer(bnp.ones((16, 2, 3))).shape
    (16, 4, 5)
    """

    def __init__(
        self,
        in_features: int | Sequence[int],
        out_features: int | Sequence[int],
        *,
        axis: int | Sequence[int] = -1,
        batch_axis: Mapping[int, int] = NO_METADATA,
        use_bias: bool = True,
        dtype: Any = None,
        param_dtype: Any = dtypes.float32,
        kernel_init: initializers.Initializer = default_kernel_init,
        bias_init: initializers.Initializer = initializers.zeros,
        precision: Any = None,
        promote_dtype: Callable[..., Any] = promote_dtype,
        dot_general: Callable[..., Any] = lax.dot_general,
        preferred_element_type: Any = None,
        rngs: Rngs,
        kernel_metadata: Mapping[str, Any] = NO_METADATA,
        bias_metadata: Mapping[str, Any] = NO_METADATA,
    ):
        self.in_features = as_tuple(in_features)
        self.out_features = as_tuple(out_features)
        self.axis = as_tuple(axis)
        self.batch_axis = tuple(sorted(batch_axis))
        if len(self.in_features) != len(self.axis):
            raise ValueError(
                f"LinearGeneral: in_features {self.in_features} and axis {self.axis} must be as "
                f"many: one length an axis"
            )
        if self.batch_axis != tuple(range(len(self.batch_axis))):
            raise ValueError(
                f"LinearGeneral: batch_axis names the leading axes 0, 1, ..., not {self.batch_axis}"
            )
        batch = tuple(batch_axis[a] for a in self.batch_axis)
        fans = math.prod(batch) * math.prod(self.in_features), math.prod(self.out_features)
        kernel = kernel_init(param_key(rngs), fans, param_dtype)
        self.kernel = Param(
            kernel.reshape(*batch, *self.in_features, *self.out_features), **kernel_metadata
        )
        self.bias = None
        if use_bias:
            bias = bias_init(param_key(rngs), (math.prod(batch) * fans[1],), param_dtype)
            self.bias = Param(bias.reshape(*batch, *self.out_features), **bias_metadata)
        self.use_bias = use_bias
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.precision = precision
        self.promote_dtype = promote_dtype
        self.dot_general = dot_general
        self.preferred_element_type = preferred_element_type

    def __call__(self, inputs: Any) -> Any:
        """(*batch, ..., *in_features at `axis`, ...) to (*batch, ..., *out_features)."""
        inputs = enter(inputs)
        axis = tuple(a % inputs.ndim for a in self.axis)
        for a, n in zip(axis, self.in_features, strict=True):
            features_of("LinearGeneral", inputs, n, a)
        n_batch = len(self.batch_axis)
        inputs, kernel, bias = self.promote_dtype(
            (inputs, self.kernel.value, _value(self.bias)), dtype=self.dtype
        )
        contracted = tuple(range(n_batch, n_batch + len(axis)))
        y = self.dot_general(
            inputs,
            kernel,
            ((axis, contracted), (self.batch_axis, self.batch_axis)),
            precision=self.precision,
            preferred_element_type=self.preferred_element_type,
        )
        if bias is None:
            return y
        free = y.ndim - n_batch - len(self.out_features)
        return y + bias.reshape(*bias.shape[:n_batch], *(1,) * free, *self.out_features)


class Einsum(Module):
    """einsum(equation, x, kernel) + bias.

    Args:
        einsum_str: an equation of two operands with "->", such as "nta,hab->nthb"; the second
            operand is the kernel. None if every call gives one.
        kernel_shape: shape of the kernel.
        bias_shape: shape of the bias: the axes of the kernel that the result keeps; None for no
            bias.
        dtype, param_dtype, precision, kernel_init, bias_init, promote_dtype,
        preferred_element_type, rngs, kernel_metadata, bias_metadata: as for `Linear`.
        einsum_op: the product.

    Parameters: `kernel`, `bias`.

    Raises:
        ValueError: the equation is not of two operands, or has no "->".

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> layer = nn.Einsum("nta,hab->nthb", (8, 2, 4), (8, 4), rngs=nn.Rngs(0))
    >>> layer(bnp.ones((16, 11, 2))).shape
    (16, 11, 8, 4)
    """

    def __init__(
        self,
        einsum_str: str | None,
        kernel_shape: Sequence[int],
        bias_shape: Sequence[int] | None = None,
        *,
        dtype: Any = None,
        param_dtype: Any = dtypes.float32,
        precision: Any = None,
        kernel_init: initializers.Initializer = default_kernel_init,
        bias_init: initializers.Initializer = initializers.zeros,
        promote_dtype: Callable[..., Any] = promote_dtype,
        einsum_op: Callable[..., Any] = bnp.einsum,
        preferred_element_type: Any = None,
        rngs: Rngs,
        kernel_metadata: Mapping[str, Any] = NO_METADATA,
        bias_metadata: Mapping[str, Any] = NO_METADATA,
    ):
        self.einsum_str = None if einsum_str is None else _equation(einsum_str)
        self.kernel_shape = tuple(kernel_shape)
        self.bias_shape = None if bias_shape is None else tuple(bias_shape)
        self.kernel = Param(
            kernel_init(param_key(rngs), self.kernel_shape, param_dtype), **kernel_metadata
        )
        self.bias = (
            None
            if self.bias_shape is None
            else Param(bias_init(param_key(rngs), self.bias_shape, param_dtype), **bias_metadata)
        )
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.precision = precision
        self.promote_dtype = promote_dtype
        self.einsum_op = einsum_op
        self.preferred_element_type = preferred_element_type

    def __call__(self, inputs: Any, einsum_str: str | None = None) -> Any:
        """What the equation says; `einsum_str` goes before that of the constructor.

        Raises:
            ValueError: there is no equation, or it does not fit the kernel.
        """
        equation = self.einsum_str if einsum_str is None else _equation(einsum_str)
        if equation is None:
            raise ValueError("Einsum: there is no equation; write nn.Einsum('...i,io->...o', ...)")
        inputs, kernel, bias = self.promote_dtype(
            (enter(inputs), self.kernel.value, _value(self.bias)), dtype=self.dtype
        )
        y = self.einsum_op(
            equation,
            inputs,
            kernel,
            precision=self.precision,
            preferred_element_type=self.preferred_element_type,
        )
        if bias is None:
            return y
        return y + bias.reshape(_kept(equation, kernel.shape, y.ndim))


def _equation(text: str) -> str:
    text = text.replace(" ", "")
    if text.count(",") != 1 or "->" not in text:
        raise ValueError(
            f"Einsum: {text!r} is not an equation of an input and a kernel.\n"
            "Write instead: two operands and '->', such as 'nta,hab->nthb'."
        )
    return text


def _kept(equation: str, kernel_shape: tuple[int, ...], ndim: int) -> list[int]:
    """The shape that puts the kernel's axes that are kept at their places in the result."""
    operands, result = equation.split("->")
    before, dots, after = operands.split(",")[1].partition("...")
    lengths = dict(zip(before, kernel_shape, strict=False))
    lengths |= dict(zip(reversed(after), reversed(kernel_shape), strict=False))
    if dots and len(kernel_shape) != len(before) + len(after):
        raise ValueError("Einsum: with a bias, name all axes of the kernel; '...' is for the input")
    head, dots, tail = result.partition("...")
    free = ndim - len(head) - len(tail) if dots else 0
    sizes = [lengths.get(c, 1) for c in head] + [1] * free + [lengths.get(c, 1) for c in tail]
    return sizes


class Embed(Module):
    """A table of vectors, looked up by integer.

    Args:
        num_embeddings: number of vectors.
        features: their length.
        dtype: of the result (default: that of the table).
        param_dtype: dtype of the table.
        embedding_init: initializer.
        promote_dtype: brings arrays to one dtype.
        rngs: its `params` stream gives the key.
        embedding_metadata: metadata of the parameter.

    Parameters: `embedding` (num_embeddings, features).

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> table = nn.Embed(10, 4, rngs=nn.Rngs(0))
    >>> table(bnp.array([[1, 2, 3]])).shape, table.attend(bnp.ones((2, 4))).shape
    ((1, 3, 4), (2, 10))
    """

    def __init__(
        self,
        num_embeddings: int,
        features: int,
        *,
        dtype: Any = None,
        param_dtype: Any = dtypes.float32,
        embedding_init: initializers.Initializer = default_embed_init,
        promote_dtype: Callable[..., Any] = promote_dtype,
        rngs: Rngs,
        embedding_metadata: Mapping[str, Any] = NO_METADATA,
    ):
        self.embedding = Param(
            embedding_init(param_key(rngs), (num_embeddings, features), param_dtype),
            **embedding_metadata,
        )
        self.num_embeddings = num_embeddings
        self.features = features
        self.dtype = dtype or self.embedding.dtype
        self.param_dtype = param_dtype
        self.promote_dtype = promote_dtype

    def __call__(self, inputs: Any) -> Any:
        """Integers (...,) to vectors (..., features); an index out of range gives NaN, as in
        `bnp.take`.

        Raises:
            ValueError: the input is not of integers.
        """
        inputs = enter(inputs)
        if not dtypes.is_integer(inputs.dtype):
            raise ValueError(
                f"Embed: looks up integers, and the input is {inputs.dtype}. Write instead: "
                f"x.astype(int)"
            )
        (embedding,) = self.promote_dtype((self.embedding.value,), dtype=self.dtype, inexact=False)
        if self.num_embeddings == 1:
            return bnp.broadcast_to(embedding, (*inputs.shape, self.features))
        return bnp.take(embedding, inputs, axis=0, mode="fill")

    def attend(self, query: Any) -> Any:
        """(..., features) to the inner products with all vectors, (..., num_embeddings): the tied
        output layer.
        """
        query = features_of("Embed.attend", query, self.features)
        query, embedding = self.promote_dtype((query, self.embedding.value), dtype=self.dtype)
        return bnp.dot(query, embedding.T)
