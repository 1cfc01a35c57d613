"""Low-rank adaptation: `LoRA`, `LoRALinear` (Hu et al., arXiv:2106.09685)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bevel.core import dtypes
from bevel.nn import initializers
from bevel.nn.checks import features_of
from bevel.nn.dtypes import promote_dtype
from bevel.nn.linear import NO_METADATA, Linear
from bevel.nn.module import Module
from bevel.nn.rngs import Rngs, param_key
from bevel.nn.variable import Param, Variable

default_a_initializer = initializers.he_uniform()


class LoRAParam(Param):
    """A parameter of an adapter: train these alone with `wrt=nn.LoRAParam`."""

    __slots__ = ()


class LoRA(Module):
    """x @ lora_a @ lora_b, plus what a base module makes of x.

    Args:
        in_features: features of the input.
        lora_rank: rank of the adapter.
        out_features: features of the result.
        base_module: a module or function to add to.
        dtype, param_dtype, promote_dtype: as for `Linear`.
        a_initializer, b_initializer: initializers; the adapter starts at 0.
        lora_param_type: class of the parameters.
        rngs: its `params` stream gives the keys.
        a_metadata, b_metadata: metadata of the parameters.

    Parameters: `lora_a` (in_features, lora_rank), `lora_b` (lora_rank, out_features).

    Raises:
        ValueError: the base module cannot be called.

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> base = nn.Linear(3, 4, rngs=nn.Rngs(0))
    >>> adapted = nn.LoRA(3, 2, 4, base_module=base, rngs=nn.Rngs(1))
    >>> x = bnp.ones((5, 3))
    >>> bool((adapted(x) == base(x)).all())
    True
    """

    def __init__(
        self,
        in_features: int,
        lora_rank: int,
        out_features: int,
        *,
        base_module: Any = None,
        dtype: Any = None,
        param_dtype: Any = dtypes.float32,
        a_initializer: initializers.Initializer = default_a_initializer,
        b_initializer: initializers.Initializer = initializers.zeros,
        lora_param_type: type[Variable] = LoRAParam,
        promote_dtype: Callable[..., Any] = promote_dtype,
        rngs: Rngs,
        a_metadata: Mapping[str, Any] = NO_METADATA,
        b_metadata: Mapping[str, Any] = NO_METADATA,
    ):
        if base_module is not None and not callable(base_module):
            raise ValueError(
                f"LoRA: base_module is a {type(base_module).__name__}, which cannot be called"
            )
        self.in_features = in_features
        self.lora_rank = lora_rank
        self.out_features = out_features
        self.base_module = base_module
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.lora_param_type = lora_param_type
        self.promote_dtype = promote_dtype
        self.lora_a = lora_param_type(
            a_initializer(param_key(rngs), (in_features, lora_rank), param_dtype), **a_metadata
        )
        self.lora_b = lora_param_type(
            b_initializer(param_key(rngs), (lora_rank, out_features), param_dtype), **b_metadata
        )

    def __call__(self, x: Any, **kwargs: Any) -> Any:
        """(..., in_features) to (..., out_features); `kwargs` go to the base module."""
        x = features_of("LoRA", x, self.in_features)
        x, a, b = self.promote_dtype((x, self.lora_a.value, self.lora_b.value), dtype=self.dtype)
        out = x @ a @ b
        return out if self.base_module is None else out + self.base_module(x, **kwargs)


class LoRALinear(Linear):
    """A `Linear` with an adapter `lora`; its own parameters stand where those of a `Linear` do.

    Args:
        in_features, out_features: features before and after.
        lora_rank: rank of the adapter.
        lora_dtype, lora_param_dtype, a_initializer, b_initializer, lora_param_type,
        lora_promote_dtype, a_metadata, b_metadata: of the adapter, as for `LoRA`.
        rngs: its `params` stream gives the keys.
        kwargs: as for `Linear`.

    >>> import bevel.numpy as bnp
    >>> from bevel import nn
    >>> layer = nn.LoRALinear(3, 4, lora_rank=2, rngs=nn.Rngs(0))
    >>> layer(bnp.ones((16, 3))).shape, sorted(nn.state(layer, nn.LoRAParam).lora)
    ((16, 4), ['lora_a', 'lora_b'])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        lora_rank: int,
        lora_dtype: Any = None,
        lora_param_dtype: Any = dtypes.float32,
        a_initializer: initializers.Initializer = default_a_initializer,
        b_initializer: initializers.Initializer = initializers.zeros,
        lora_param_type: type[Variable] = LoRAParam,
        lora_promote_dtype: Callable[..., Any] = promote_dtype,
        rngs: Rngs,
        a_metadata: Mapping[str, Any] = NO_METADATA,
        b_metadata: Mapping[str, Any] = NO_METADATA,
        **kwargs: Any,
    ):
        super().__init__(in_features, out_features, rngs=rngs, **kwargs)
        self.lora = LoRA(
            in_features,
            lora_rank,
            out_features,
            dtype=lora_dtype,
            param_dtype=lora_param_dtype,
            a_initializer=a_initializer,
            b_initializer=b_initializer,
            lora_param_type=lora_param_type,
            promote_dtype=lora_promote_dtype,
            rngs=rngs,
            a_metadata=a_metadata,
            b_metadata=b_metadata,
        )

    def __call__(self, x: Any) -> Any:
        """(..., in_features) to (..., out_features)."""
        return super().__call__(x) + self.lora(x)
