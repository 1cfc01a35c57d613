"""Recurrent cells in the style of flax.linen, and `RNN` and `Bidirectional`, which run them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bevel.numpy as bnp
from bevel import nn, random
from bevel.core import dtypes
from bevel.linen.layers import Dense, Init
from bevel.linen.module import Module, compact, nowrap
from bevel.nn import initializers
from bevel.nn.activations import sigmoid, tanh
from bevel.nn.linear import default_kernel_init
from bevel.numpy.convert import enter


class RNNCellBase(Module):
    """Base of recurrent cells: `carry, y = cell(carry, x)`.

    A subclass has `features`, `carry_init` and `param_dtype`, and `carries`, the number of arrays
    in its carry.
    """

    num_feature_axes = 1
    carries = 1

    @nowrap
    def initialize_carry(self, rng: Any, input_shape: tuple[int, ...]) -> Any:
        """The carry before the first step: an array (batch..., features), or a tuple of two.

        Args:
            rng: key.
            input_shape: shape of the input of one step, (batch..., in).
        """
        shape = (*input_shape[:-1], self.features)
        if self.carries == 1:
            return self.carry_init(rng, shape, self.param_dtype)
        keys = random.split(rng, self.carries)
        return tuple(self.carry_init(keys[i], shape, self.param_dtype) for i in range(self.carries))

    def _dense(self, name: str, use_bias: bool) -> Dense:
        """The layer of a gate; a name that starts with "h" is on the carry."""
        return Dense(
            self.features,
            use_bias=use_bias,
            kernel_init=self.recurrent_kernel_init if name[0] == "h" else self.kernel_init,
            bias_init=self.bias_init,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=name,
        )


class SimpleCell(RNNCellBase):
    """h' = tanh(W_i x + b_i + W_h h), plus h inside if `residual`.

    Parts: `i` (with bias), `h`.
    """

    features: int
    activation_fn: Callable[[Any], Any] = tanh
    kernel_init: Init = default_kernel_init
    recurrent_kernel_init: Init = initializers.orthogonal()
    bias_init: Init = initializers.zeros
    dtype: Any = None
    param_dtype: Any = dtypes.float32
    carry_init: Init = initializers.zeros
    residual: bool = False

    @compact
    def __call__(self, carry: Any, inputs: Any) -> tuple[Any, Any]:
        """One step: the new carry, and the output, which is the same."""
        h = self._dense("i", True)(inputs) + self._dense("h", False)(carry)
        h = self.activation_fn(h + carry if self.residual else h)
        return h, h


class GRUCell(RNNCellBase):
    """Gated recurrent unit (Cho et al., arXiv:1406.1078); equations as for `nn.GRUCell`.

    Parts: `ir`, `iz`, `in` (with bias), `hr`, `hz`, and `hn` (with bias).
    """

    features: int
    gate_fn: Callable[[Any], Any] = sigmoid
    activation_fn: Callable[[Any], Any] = tanh
    kernel_init: Init = default_kernel_init
    recurrent_kernel_init: Init = initializers.orthogonal()
    bias_init: Init = initializers.zeros
    dtype: Any = None
    param_dtype: Any = dtypes.float32
    carry_init: Init = initializers.zeros

    @compact
    def __call__(self, carry: Any, inputs: Any) -> tuple[Any, Any]:
        """One step: the new carry, and the output, which is the same."""
        r = self.gate_fn(self._dense("ir", True)(inputs) + self._dense("hr", False)(carry))
        z = self.gate_fn(self._dense("iz", True)(inputs) + self._dense("hz", False)(carry))
        n = self._dense("in", True)(inputs) + r * self._dense("hn", True)(carry)
        h = (1 - z) * self.activation_fn(n) + z * carry
        return h, h


class LSTMCell(RNNCellBase):
    """Long short-term memory; the carry is (c, h). Equations as for `nn.LSTMCell`.

    Parts: `ii`, `if`, `ig`, `io`, and `hi`, `hf`, `hg`, `ho` (with bias).
    """

    carries = 2

    features: int
    gate_fn: Callable[[Any], Any] = sigmoid
    activation_fn: Callable[[Any], Any] = tanh
    kernel_init: Init = default_kernel_init
    recurrent_kernel_init: Init = initializers.orthogonal()
    bias_init: Init = initializers.zeros
    dtype: Any = None
    param_dtype: Any = dtypes.float32
    carry_init: Init = initializers.zeros

    @compact
    def __call__(self, carry: tuple[Any, Any], inputs: Any) -> tuple[tuple[Any, Any], Any]:
        """One step: the new carry (c, h), and the output h."""
        c, h = carry
        i, f, g, o = (
            self._dense(f"i{gate}", False)(inputs) + self._dense(f"h{gate}", True)(h)
            for gate in "ifgo"
        )
        c = self.gate_fn(f) * c + self.gate_fn(i) * self.activation_fn(g)
        h = self.gate_fn(o) * self.activation_fn(c)
        return (c, h), h


class OptimizedLSTMCell(LSTMCell):
    """`LSTMCell`: XLA merges the products of its gates as it finds best."""


class _Cell:
    """A cell as `nn.RNN` takes it."""

    def __init__(self, cell: RNNCellBase, key: Any):
        self.cell = cell
        self.num_feature_axes = cell.num_feature_axes
        self.key = key

    def initialize_carry(self, input_shape: tuple[int, ...], _: Any = None) -> Any:
        key = random.key(0) if self.key is None else self.key
        return self.cell.initialize_carry(key, tuple(input_shape))

    def __call__(self, carry: Any, inputs: Any) -> Any:
        return self.cell(carry, inputs)


class RNN(Module):
    """Runs a cell over a sequence with `lax.scan`: `nn.RNN`.

    Variables other than parameters do not change within the sequence.

    >>> import bevel.numpy as bnp
    >>> from bevel import linen, random
    >>> rnn = linen.RNN(linen.GRUCell(4))
    >>> variables = rnn.init(random.key(0), bnp.ones((2, 5, 3)))
    >>> rnn.apply(variables, bnp.ones((2, 5, 3))).shape
    (2, 5, 4)
    """

    cell: RNNCellBase
    time_major: bool = False
    return_carry: bool = False
    reverse: bool = False
    keep_order: bool = False
    unroll: int = 1

    def __call__(self, inputs: Any, *, init_key: Any = None, **options: Any) -> Any:
        """Outputs (batch..., time, features), with the last carry before them if `return_carry`.

        Args:
            inputs: (batch..., time, in), or (time, batch..., in) if `time_major`.
            init_key: key for a carry that is drawn.
            options: `initial_carry`, `seq_lengths`, and any of the fields, as for `nn.RNN`.
        """
        inputs = enter(inputs)
        cell = _Cell(self.cell, init_key)
        if self.is_initializing():
            major = options.get("time_major")
            axis = 0 if (self.time_major if major is None else major) else -2
            first = bnp.take(inputs, 0, axis=axis)
            cell(cell.initialize_carry(first.shape), first)
        rnn = nn.RNN(
            cell,  # type: ignore[arg-type]
            time_major=self.time_major,
            return_carry=self.return_carry,
            reverse=self.reverse,
            keep_order=self.keep_order,
            unroll=self.unroll,
        )
        return rnn(inputs, **options)


class Bidirectional(Module):
    """Two RNNs, one of which reads the sequence from its end: `nn.Bidirectional`."""

    forward_rnn: Any
    backward_rnn: Any
    merge_fn: Callable[[Any, Any], Any] = lambda a, b: bnp.concatenate([a, b], axis=-1)
    time_major: bool = False
    return_carry: bool = False

    def __call__(self, inputs: Any, **options: Any) -> Any:
        """Merged outputs (batch..., time, features), with the carries before them if
        `return_carry`; options as for `nn.Bidirectional`.
        """
        both = nn.Bidirectional(
            self.forward_rnn,
            self.backward_rnn,
            merge_fn=self.merge_fn,
            time_major=self.time_major,
            return_carry=self.return_carry,
        )
        return both(inputs, **options)
