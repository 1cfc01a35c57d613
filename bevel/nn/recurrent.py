"""Recurrent cells, `RNN`, which runs one over a sequence, and `Bidirectional`, which runs two.

A cell is called `carry, y = cell(carry, x)`, one step; `cell.initialize_carry(x.shape)` gives the
carry to start from. Parameters have the names and layouts of `flax.nnx`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import bevel.numpy as bnp
from bevel import random
from bevel.core import dtypes, tree
from bevel.nn import initializers
from bevel.nn.activations import sigmoid, tanh
from bevel.nn.checks import features_error
from bevel.nn.dtypes import promote_dtype
from bevel.nn.linear import NO_METADATA, Linear, default_kernel_init
from bevel.nn.module import Module
from bevel.nn.rngs import Rngs, RngStream
from bevel.nn.scanning import scan
from bevel.numpy.convert import enter


def modified_orthogonal(key: Any, shape: Any, dtype: Any = dtypes.float32) -> Any:
    """`initializers.orthogonal`, drawn in float32 whatever the dtype asked for."""
    return initializers.orthogonal()(key, shape).astype(dtype)


class RNNCellBase(Module):
    """Base of recurrent cells: `carry, y = cell(carry, x)`.

    A subclass has `hidden_features` and `param_dtype`, and `carries`, the number of arrays in its
    carry.
    """

    num_feature_axes = 1
    carries = 1

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: Rngs | RngStream | None = None,
        carry_init: initializers.Initializer = initializers.zeros,
    ) -> Any:
        """The carry before the first step: an array (batch..., hidden_features), or a tuple of two.

        Args:
            input_shape: shape of the input of one step, (batch..., in_features).
            rngs: the `carry` stream gives the keys; zeros need none.
            carry_init: initializer.

        >>> from bevel import nn
        >>> nn.GRUCell(3, 4, rngs=nn.Rngs(0)).initialize_carry((2, 3)).shape
        (2, 4)
        """
        shape = (*input_shape[: -self.num_feature_axes], self.hidden_features)
        stream = rngs.carry if isinstance(rngs, Rngs) else rngs
        if stream is None:
            if carry_init is not initializers.zeros:
                raise ValueError(
                    f"{type(self).__name__}: a carry that is not zeros needs a random stream.\n"
                    "Write instead: cell.initialize_carry(shape, nn.Rngs(carry=0), carry_init)."
                )
            keys = [random.key(0)] * self.carries
        else:
            keys = [stream() for _ in range(self.carries)]
        arrays = tuple(carry_init(k, shape, self.param_dtype) for k in keys)
        return arrays if self.carries > 1 else arrays[0]

    def _linear(
        self,
        part: str,
        features: int,
        out: int,
        use_bias: bool,
        options: Mapping[str, Any],
    ) -> Linear:
        """A layer of the cell; `part` is "" for one on the input, "recurrent_" for one on the
        carry.
        """
        return Linear(
            features,
            out,
            use_bias=use_bias,
            kernel_init=options[f"{part}kernel_init"],
            bias_init=options["bias_init"],
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            promote_dtype=self.promote_dtype,
            rngs=options["rngs"],
            kernel_metadata=options[f"{part}kernel_metadata"],
            bias_metadata=options["bias_metadata"],
        )


class SimpleCell(RNNCellBase):
    """h' = tanh(W_i x + b + W_h h), plus h inside if `residual`.

    Args:
        in_features, hidden_features: lengths of the input and of the carry.
        dtype, param_dtype, promote_dtype: as for `nn.Linear`.
        residual: add the carry before the activation.
        activation_fn: in place of tanh.
        kernel_init, recurrent_kernel_init, bias_init: initializers.
        rngs: its `params` stream gives the keys.
        kernel_metadata, recurrent_kernel_metadata, bias_metadata: metadata of the parameters.

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> cell = nn.SimpleCell(3, 4, rngs=nn.Rngs(0))
    >>> carry, y = cell(cell.initialize_carry((2, 3)), bnp.ones((2, 3)))
    >>> y.shape
    (2, 4)
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        dtype: Any = dtypes.float32,
        param_dtype: Any = dtypes.float32,
        residual: bool = False,
        activation_fn: Callable[[Any], Any] = tanh,
        kernel_init: initializers.Initializer = default_kernel_init,
        recurrent_kernel_init: initializers.Initializer = modified_orthogonal,
        bias_init: initializers.Initializer = initializers.zeros,
        promote_dtype: Callable[..., Any] = promote_dtype,
        rngs: Rngs,
        kernel_metadata: Mapping[str, Any] = NO_METADATA,
        recurrent_kernel_metadata: Mapping[str, Any] = NO_METADATA,
        bias_metadata: Mapping[str, Any] = NO_METADATA,
    ):
        options = dict(locals())
        self.in_features = in_features
        self.hidden_features = hidden_features
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.residual = residual
        self.activation_fn = activation_fn
        self.promote_dtype = promote_dtype
        self.dense_h = self._linear("recurrent_", hidden_features, hidden_features, False, options)
        self.dense_i = self._linear("", in_features, hidden_features, True, options)

    def __call__(self, carry: Any, inputs: Any) -> tuple[Any, Any]:
        """One step: the new carry, and the output, which is the same."""
        h = self.dense_i(inputs) + self.dense_h(carry)
        h = self.activation_fn(h + carry if self.residual else h)
        return h, h


class GRUCell(RNNCellBase):
    """Gated recurrent unit (Cho et al., arXiv:1406.1078).

    r = sigmoid(W_ir x + b_ir + W_hr h), z = sigmoid(W_iz x + b_iz + W_hz h),
    n = tanh(W_in x + b_in + r * (W_hn h)), h' = (1 - z) * n + z * h.

    Args:
        in_features, hidden_features: lengths of the input and of the carry.
        gate_fn, activation_fn: in place of sigmoid and tanh.
        kernel_init, recurrent_kernel_init, bias_init: initializers.
        dtype, param_dtype, promote_dtype: as for `nn.Linear`.
        rngs: its `params` stream gives the keys.
        kernel_metadata, recurrent_kernel_metadata, bias_metadata: metadata of the parameters.

    Parameters: `dense_i` (a `Linear` with bias) and `dense_h`, to 3 * hidden_features: r, z, n.

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> cell = nn.GRUCell(3, 4, rngs=nn.Rngs(0))
    >>> carry, y = cell(cell.initialize_carry((3,)), bnp.ones(3))
    >>> y.shape
    (4,)
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        gate_fn: Callable[[Any], Any] = sigmoid,
        activation_fn: Callable[[Any], Any] = tanh,
        kernel_init: initializers.Initializer = default_kernel_init,
        recurrent_kernel_init: initializers.Initializer = modified_orthogonal,
        bias_init: initializers.Initializer = initializers.zeros,
        dtype: Any = None,
        param_dtype: Any = dtypes.float32,
        promote_dtype: Callable[..., Any] = promote_dtype,
        rngs: Rngs,
        kernel_metadata: Mapping[str, Any] = NO_METADATA,
        recurrent_kernel_metadata: Mapping[str, Any] = NO_METADATA,
        bias_metadata: Mapping[str, Any] = NO_METADATA,
    ):
        options = dict(locals())
        self.in_features = in_features
        self.hidden_features = hidden_features
        self.gate_fn = gate_fn
        self.activation_fn = activation_fn
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.promote_dtype = promote_dtype
        self.dense_i = self._linear("", in_features, 3 * hidden_features, True, options)
        self.dense_h = self._linear(
            "recurrent_", hidden_features, 3 * hidden_features, False, options
        )

    def __call__(self, carry: Any, inputs: Any) -> tuple[Any, Any]:
        """One step: the new carry, and the output, which is the same."""
        h = carry
        x_r, x_z, x_n = bnp.split(self.dense_i(inputs), 3, axis=-1)
        h_r, h_z, h_n = bnp.split(self.dense_h(h), 3, axis=-1)
        r = self.gate_fn(x_r + h_r)
        z = self.gate_fn(x_z + h_z)
        n = self.activation_fn(x_n + r * h_n)
        h = (1 - z) * n + z * h
        return h, h


class LSTMCell(RNNCellBase):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997); the carry is (c, h).

    i, f, o = sigmoid(W_i. x + W_h. h + b_h.), g = tanh(W_ig x + W_hg h + b_hg), c' = f * c + i * g,
    h' = o * tanh(c').

    Args: as for `GRUCell`.

    Parameters: the `Linear`s `ii`, `if_`, `ig`, `io` on the input, and `hi`, `hf`, `hg`, `ho` (with
    bias) on h.

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> cell = nn.LSTMCell(3, 4, rngs=nn.Rngs(0))
    >>> (c, h), y = cell(cell.initialize_carry((2, 3)), bnp.ones((2, 3)))
    >>> y.shape
    (2, 4)
    """

    carries = 2

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        gate_fn: Callable[[Any], Any] = sigmoid,
        activation_fn: Callable[[Any], Any] = tanh,
        kernel_init: initializers.Initializer = default_kernel_init,
        recurrent_kernel_init: initializers.Initializer = modified_orthogonal,
        bias_init: initializers.Initializer = initializers.zeros,
        dtype: Any = None,
        param_dtype: Any = dtypes.float32,
        promote_dtype: Callable[..., Any] = promote_dtype,
        rngs: Rngs,
        kernel_metadata: Mapping[str, Any] = NO_METADATA,
        recurrent_kernel_metadata: Mapping[str, Any] = NO_METADATA,
        bias_metadata: Mapping[str, Any] = NO_METADATA,
    ):
        options = dict(locals())
        self.in_features = in_features
        self.hidden_features = hidden_features
        self.gate_fn = gate_fn
        self.activation_fn = activation_fn
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.promote_dtype = promote_dtype
        for name in ("ii", "if_", "ig", "io"):
            setattr(self, name, self._linear("", in_features, hidden_features, False, options))
        for name in ("hi", "hf", "hg", "ho"):
            setattr(
                self,
                name,
                self._linear("recurrent_", hidden_features, hidden_features, True, options),
            )

    def __call__(self, carry: tuple[Any, Any], inputs: Any) -> tuple[tuple[Any, Any], Any]:
        """One step: the new carry (c, h), and the output h."""
        c, h = carry
        i = self.gate_fn(self.ii(inputs) + self.hi(h))
        f = self.gate_fn(self.if_(inputs) + self.hf(h))
        g = self.activation_fn(self.ig(inputs) + self.hg(h))
        o = self.gate_fn(self.io(inputs) + self.ho(h))
        c = f * c + i * g
        h = o * self.activation_fn(c)
        return (c, h), h


class OptimizedLSTMCell(RNNCellBase):
    """`LSTMCell` with its products in two: faster for hidden sizes up to about 2000.

    Args: as for `GRUCell`.

    Parameters: `dense_i` and `dense_h` (a `Linear` with bias), to 4 * hidden_features: i, f, g, o.

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> cell = nn.OptimizedLSTMCell(3, 4, rngs=nn.Rngs(0))
    >>> (c, h), y = cell(cell.initialize_carry((2, 3)), bnp.ones((2, 3)))
    >>> y.shape
    (2, 4)
    """

    carries = 2

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        gate_fn: Callable[[Any], Any] = sigmoid,
        activation_fn: Callable[[Any], Any] = tanh,
        kernel_init: initializers.Initializer = default_kernel_init,
        recurrent_kernel_init: initializers.Initializer = modified_orthogonal,
        bias_init: initializers.Initializer = initializers.zeros,
        dtype: Any = None,
        param_dtype: Any = dtypes.float32,
        promote_dtype: Callable[..., Any] = promote_dtype,
        rngs: Rngs,
        kernel_metadata: Mapping[str, Any] = NO_METADATA,
        recurrent_kernel_metadata: Mapping[str, Any] = NO_METADATA,
        bias_metadata: Mapping[str, Any] = NO_METADATA,
    ):
        options = dict(locals())
        self.in_features = in_features
        self.hidden_features = hidden_features
        self.gate_fn = gate_fn
        self.activation_fn = activation_fn
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.promote_dtype = promote_dtype
        self.dense_i = self._linear("", in_features, 4 * hidden_features, False, options)
        self.dense_h = self._linear(
            "recurrent_", hidden_features, 4 * hidden_features, True, options
        )

    def __call__(self, carry: tuple[Any, Any], inputs: Any) -> tuple[tuple[Any, Any], Any]:
        """One step: the new carry (c, h), and the output h."""
        c, h = carry
        i, f, g, o = bnp.split(self.dense_i(inputs) + self.dense_h(h), 4, axis=-1)
        c = self.gate_fn(f) * c + self.gate_fn(i) * self.activation_fn(g)
        h = self.gate_fn(o) * self.activation_fn(c)
        return (c, h), h


DENSE_CELLS = (SimpleCell, GRUCell, LSTMCell, OptimizedLSTMCell)


class RNN(Module):
    """Runs a cell over a sequence, as one compiled loop.

    Args:
        cell: the cell.
        time_major: the time axis is 0, before the batch axes; else it is before the features.
        return_carry: return `(carry, outputs)`.
        reverse: run from the last step to the first.
        keep_order: with `reverse`, give the outputs in the order of the inputs.
        unroll: steps of the loop that are compiled as one.
        rngs: streams for a carry that is drawn.

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> rnn = nn.RNN(nn.GRUCell(3, 4, rngs=nn.Rngs(0)))
    >>> rnn(bnp.ones((2, 5, 3))).shape
    (2, 5, 4)
    """

    def __init__(
        self,
        cell: RNNCellBase,
        *,
        time_major: bool = False,
        return_carry: bool = False,
        reverse: bool = False,
        keep_order: bool = False,
        unroll: int = 1,
        rngs: Rngs | RngStream | None = None,
    ):
        self.cell = cell
        self.time_major = time_major
        self.return_carry = return_carry
        self.reverse = reverse
        self.keep_order = keep_order
        self.unroll = unroll
        self.rngs = rngs.carry.fork() if isinstance(rngs, Rngs) else rngs

    def __call__(
        self,
        inputs: Any,
        *,
        initial_carry: Any = None,
        seq_lengths: Any = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
        rngs: Rngs | RngStream | None = None,
    ) -> Any:
        """Outputs (batch..., time, hidden_features), with the last carry before them if
        `return_carry`.

        Args:
            inputs: (batch..., time, features), or (time, batch..., features) if `time_major`.
            initial_carry: the carry to start from (default: that of the cell).
            seq_lengths: (batch...) integers: how many steps count; the carry is the one after
                the last of them, and `reverse` reverses only them.
            return_carry: goes before that of the constructor.
            time_major: likewise.
            reverse: likewise.
            keep_order: likewise.
            rngs: streams for a carry that is drawn.
        """
        return_carry = self.return_carry if return_carry is None else return_carry
        time_major = self.time_major if time_major is None else time_major
        reverse = self.reverse if reverse is None else reverse
        keep_order = self.keep_order if keep_order is None else keep_order
        inputs = enter(inputs)
        time_axis = 0 if time_major else inputs.ndim - self.cell.num_feature_axes - 1
        xs = bnp.moveaxis(inputs, time_axis, 0)
        if reverse:
            xs = flip_sequences(xs, seq_lengths)
        carry = initial_carry
        if carry is None:
            carry = self.cell.initialize_carry(xs.shape[1:], self.rngs if rngs is None else rngs)
        keep_carries = return_carry and seq_lengths is not None

        def step(carry: Any, x: Any) -> tuple[Any, Any]:
            carry, y = self.cell(carry, x)
            return carry, (y, carry if keep_carries else None)

        try:
            carry, (ys, carries) = scan(step, unroll=self.unroll)(carry, xs)
        except ValueError:
            expected = getattr(self.cell, "in_features", None)
            if not isinstance(self.cell, DENSE_CELLS) or inputs.shape[-1] == expected:
                raise
            raise features_error("RNN", inputs, expected, -1, None, "") from None
        if reverse and keep_order:
            ys = flip_sequences(ys, seq_lengths)
        ys = bnp.moveaxis(ys, 0, time_axis)
        if not return_carry:
            return ys
        return (
            carry if not keep_carries else tree.map(lambda c: _at_step(c, seq_lengths), carries)
        ), ys


def _at_step(carries: Any, seq_lengths: Any) -> Any:
    """The carry after the last counting step of each sequence, from (time, batch..., hidden)."""
    last = (enter(seq_lengths) - 1)[None, ..., None]
    return bnp.take_along_axis(carries, last, axis=0)[0]


def flip_sequences(x: Any, seq_lengths: Any = None) -> Any:
    """Reverse axis 0 (time) of (time, batch..., features); of each sequence only the steps that
    count.

    >>> import bevel.numpy as bnp
    >>> from bevel.nn.recurrent import flip_sequences
    >>> x = bnp.array([[1, 4], [2, 5], [0, 6]])[..., None]
    >>> flip_sequences(x, bnp.array([2, 3]))[..., 0]
    Array([[2, 6],
           [1, 5],
           [0, 4]], dtype=int32)
    """
    if seq_lengths is None:
        return bnp.flip(x, axis=0)
    lengths = enter(seq_lengths)
    steps = x.shape[0]
    index = bnp.arange(steps - 1, -1, -1).reshape((steps,) + (1,) * lengths.ndim)
    index = (index + lengths) % steps
    return bnp.take_along_axis(x, index.reshape(index.shape + (1,) * (x.ndim - index.ndim)), axis=0)


def _concatenate(a: Any, b: Any) -> Any:
    return bnp.concatenate([a, b], axis=-1)


class Bidirectional(Module):
    """Two RNNs, one of which reads the sequence from its end, and what they say of each step.

    Args:
        forward_rnn, backward_rnn: the RNNs; both get the direction with the call.
        merge_fn: what makes a step's output of the two (default: concatenates the features).
        time_major: as for `RNN`.
        return_carry: return `((forward carry, backward carry), outputs)`.
        rngs: streams for carries that are drawn.

    Raises:
        ValueError: both RNNs are one object, whose parameters would be shared.

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> rngs = nn.Rngs(0)
    >>> both = nn.Bidirectional(*[nn.RNN(nn.GRUCell(3, 4, rngs=rngs)) for _ in range(2)])
    >>> both(bnp.ones((2, 5, 3))).shape
    (2, 5, 8)
    """

    def __init__(
        self,
        forward_rnn: Any,
        backward_rnn: Any,
        *,
        merge_fn: Callable[[Any, Any], Any] = _concatenate,
        time_major: bool = False,
        return_carry: bool = False,
        rngs: Rngs | RngStream | None = None,
    ):
        if forward_rnn is backward_rnn:
            raise ValueError(
                "Bidirectional: forward_rnn and backward_rnn are one object.\n"
                "Why: both directions would share their parameters.\n"
                "Write instead: two RNNs; to share on purpose, two RNNs around one cell."
            )
        self.forward_rnn = forward_rnn
        self.backward_rnn = backward_rnn
        self.merge_fn = merge_fn
        self.time_major = time_major
        self.return_carry = return_carry
        self.rngs = rngs.carry.fork() if isinstance(rngs, Rngs) else rngs

    def __call__(
        self,
        inputs: Any,
        *,
        initial_carry: tuple[Any, Any] | None = None,
        rngs: Rngs | RngStream | None = None,
        seq_lengths: Any = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
    ) -> Any:
        """Merged outputs (batch..., time, features), with the carries before them if
        `return_carry`.

        Args:
            inputs: as for `RNN`.
            initial_carry: the two carries to start from.
            rngs: streams for carries that are drawn.
            seq_lengths: as for `RNN`.
            return_carry: goes before that of the constructor.
            time_major: likewise.
        """
        options = dict(
            rngs=self.rngs if rngs is None else rngs,
            seq_lengths=seq_lengths,
            return_carry=True,
            time_major=self.time_major if time_major is None else time_major,
        )
        first, last = (None, None) if initial_carry is None else initial_carry
        ahead, out = self.forward_rnn(inputs, initial_carry=first, reverse=False, **options)
        back, out_back = self.backward_rnn(
            inputs, initial_carry=last, reverse=True, keep_order=True, **options
        )
        merged = tree.map(self.merge_fn, out, out_back)
        wanted = self.return_carry if return_carry is None else return_carry
        return ((ahead, back), merged) if wanted else merged
