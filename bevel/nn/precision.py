"""Mixed precision: `Policy`, the dtypes of parameters, computation and results, and `LossScaler`.

>>> import bevel as bv, bevel.numpy as bnp
>>> from bevel import nn, optim
>>> policy = nn.Policy.parse("params=float32,compute=float16,output=float32")
>>> model = nn.Linear(3, 1, rngs=nn.Rngs(0))
>>> optimizer = nn.Optimizer(model, optim.adam(1e-3))
>>> scaler = nn.LossScaler(optim.DynamicLossScale(2.0**10))
>>> @bv.jit
... def step(model, optimizer, scaler, x, y):
...     def loss(model):
...         half, inputs = policy.cast_to_compute((model, x))
...         return scaler.scale(((policy.cast_to_output(half(inputs)) - y) ** 2).mean())
...     return scaler.step(optimizer, bv.grad(loss)(model))
>>> bool(step(model, optimizer, scaler, bnp.ones((4, 3)), bnp.ones((4, 1))))
True
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

import bevel.numpy as bnp
from bevel import lax
from bevel.core import dtypes, tree
from bevel.core.handle import Handle, KeyTag
from bevel.nn.module import Module
from bevel.nn.optimizer import Optimizer
from bevel.nn.structure import build, is_module, structure_of
from bevel.nn.variable import OptState
from bevel.numpy.convert import enter
from bevel.optim.loss_scale import all_finite

_SHORT = {"half": "float16", "full": "float32", "bf16": "bfloat16"}
_SHORT |= {f"f{bits}": f"float{bits}" for bits in (16, 32, 64)}
_FIELDS = {"p": "param_dtype", "c": "compute_dtype", "o": "output_dtype"}
_LONG = {"params": "p", "compute": "c", "output": "o"}


def _is_floating_array(x: Any) -> bool:
    if isinstance(x, Handle):
        return type(x._tag) is not KeyTag and dtypes.is_float(x.dtype)
    return isinstance(x, np.ndarray | np.generic) and dtypes.is_float(x.dtype)


@dataclasses.dataclass(frozen=True)
class Policy:
    """The dtypes of parameters, of the computation with them, and of its results.

    The casts take a pytree of arrays, and change those that are floating; others stay. Of a module
    they make one of the same structure, whose parameters are cast and whose other variables
    (statistics, random streams) are those of the module itself. Gradients go through the casts, so
    those of float32 parameters are float32 (Micikevicius et al., arXiv:1710.03740).

    Args:
        param_dtype: of parameters: what the optimizer updates.
        compute_dtype: of activations, and of parameters where they are used.
        output_dtype: of results.

    Raises:
        ValueError: a dtype is not floating.

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> policy = nn.Policy("float32", "bfloat16", "float32")
    >>> model = nn.Linear(2, 3, rngs=nn.Rngs(0))
    >>> half = policy.cast_to_compute(model)
    >>> half(policy.cast_to_compute(bnp.ones(2))).dtype, model.kernel.dtype
    (dtype(bfloat16), dtype('float32'))
    """

    param_dtype: Any
    compute_dtype: Any
    output_dtype: Any

    def __post_init__(self) -> None:
        """Make dtypes of what names them."""
        for field in dataclasses.fields(self):
            given = getattr(self, field.name)
            dtype = dtypes.as_dtype(_SHORT.get(given, given) if isinstance(given, str) else given)
            if not dtypes.is_float(dtype):
                raise ValueError(f"Policy: {field.name} is a floating dtype, not {dtype.name}")
            object.__setattr__(self, field.name, dtype)

    @classmethod
    def parse(cls, text: str) -> Policy:
        """The policy that a string names.

        It is one dtype for all ("float32", "bf16", "half"), or some of
        "params=...,compute=...,output=..." ("p", "c", "o" for short). Parameters are float32 if
        not named; computation follows them, and results follow it.

        Raises:
            ValueError: another key; the message shows the keys there are.

        >>> from bevel import nn
        >>> print(nn.Policy.parse("c=bf16"))
        params=float32,compute=bfloat16,output=bfloat16
        """
        if "=" not in text:
            return cls(text, text, text)
        given = {}
        for part in text.split(","):
            key, _, dtype = part.partition("=")
            short = _LONG.get(key.strip(), key.strip())
            if short not in _FIELDS:
                raise ValueError(
                    f"Policy.parse: {key.strip()!r} in {text!r} is not params, compute or output.\n"
                    'Write instead: "params=float32,compute=bfloat16,output=float32".'
                )
            given[short] = dtype.strip()
        params = given.get("p", "float32")
        compute = given.get("c", params)
        return cls(params, compute, given.get("o", compute))

    def cast_to_param(self, x: Any) -> Any:
        """The floating arrays of a pytree, and the parameters of modules, at `param_dtype`."""
        return _cast(x, self.param_dtype)

    def cast_to_compute(self, x: Any) -> Any:
        """The floating arrays of a pytree, and the parameters of modules, at `compute_dtype`."""
        return _cast(x, self.compute_dtype)

    def cast_to_output(self, x: Any) -> Any:
        """The floating arrays of a pytree, and the parameters of modules, at `output_dtype`."""
        return _cast(x, self.output_dtype)

    def with_output_dtype(self, output_dtype: Any) -> Policy:
        """The same policy with another dtype of results."""
        return dataclasses.replace(self, output_dtype=output_dtype)

    def __str__(self) -> str:
        return ",".join(f"{k}={getattr(self, _FIELDS[short]).name}" for k, short in _LONG.items())


def _cast(x: Any, dtype: Any) -> Any:
    def one(leaf: Any) -> Any:
        if is_module(leaf):
            found = structure_of(leaf)
            cells = zip(found.paths, found.cells, strict=True)
            contents = {p: one(c._read()) if c.differentiable else c for p, c in cells}
            return build(found.graphdef, contents)[0]
        return enter(leaf).astype(dtype) if _is_floating_array(leaf) else leaf

    return tree.map(one, x)


class LossScaler(Module):
    """A loss scale in variables: scales losses, and steps an optimizer by gradients of them.

    Gradients of float16 computations underflow; those of a loss that is larger do not. A step whose
    gradients are not finite is left out, and the scale is lowered.

    Args:
        loss_scale: `optim.DynamicLossScale(...)` or `optim.StaticLossScale(...)`.

    Raises:
        TypeError: `loss_scale` is none of them.

    >>> import bevel.numpy as bnp
    >>> from bevel import nn, optim
    >>> scaler = nn.LossScaler(optim.DynamicLossScale(8.0))
    >>> scaler.scale(bnp.ones(()))
    Array(8., dtype=float32)
    """

    def __init__(self, loss_scale: Any):
        if not hasattr(loss_scale, "adjust"):
            raise TypeError(
                f"LossScaler: takes a loss scale of bevel.optim, got {type(loss_scale).__name__}.\n"
                "Write instead: nn.LossScaler(optim.DynamicLossScale(2.0**15))."
            )
        self.loss_scale = tree.map(lambda x: OptState(bnp.asarray(x, enter(x).dtype)), loss_scale)

    def _now(self) -> Any:
        return tree.map(lambda v: v.value, self.loss_scale)

    def scale(self, loss: Any) -> Any:
        """The loss, or any pytree of arrays, times the scale."""
        return self._now().scale(loss)

    def step(self, optimizer: Optimizer, grads: Any) -> Any:
        """Update by gradients of a scaled loss, if all are finite, and adjust the scale.

        Args:
            optimizer: what is updated.
            grads: what `bv.grad` of the scaled loss gave.

        Returns:
            Whether the gradients were finite: a boolean scalar.
        """
        now = self._now()
        wide = lambda g: g.astype(dtypes.promote_types(g.dtype, dtypes.float32))  # noqa: E731
        grads = now.unscale(tree.map(wide, grads))
        finite = all_finite(grads)

        def update() -> None:
            optimizer.update(grads)

        lax.cond(finite, update, lambda: None)
        adjusted = tree.leaves(now.adjust(finite))
        for variable, value in zip(tree.leaves(self.loss_scale), adjusted, strict=True):
            variable.value = bnp.asarray(value, variable.dtype)
        return finite
