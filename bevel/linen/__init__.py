"""Modules in the style of flax.linen: dataclasses that describe a computation, and variables in
dicts beside them.

The layers are those of `bevel.nn`. Names, shapes and initial values are those of flax.linen, so
parameters saved there can be used here. For new code `bevel.nn` is shorter: its modules hold their
variables.

>>> import bevel as bv, bevel.numpy as bnp
>>> from bevel import linen, random
>>> class MLP(linen.Module):
...     features: int
...     @linen.compact
...     def __call__(self, x):
...         x = linen.relu(linen.Dense(self.features)(x))
...         return linen.Dense(1)(x)
>>> model, x = MLP(8), bnp.ones((2, 3))
>>> params = bv.jit(model.init)(random.key(0), x)["params"]
>>> loss = lambda p: (model.apply({"params": p}, x) ** 2).mean()
>>> bv.jit(bv.grad(loss))(params)["Dense_1"]["bias"].shape
(1,)
"""

from bevel.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "bevel.linen.attention": ["MultiHeadAttention", "MultiHeadDotProductAttention"],
        "bevel.linen.layers": [
            "BatchNorm",
            "Conv",
            "ConvTranspose",
            "Dense",
            "DenseGeneral",
            "Dropout",
            "Einsum",
            "Embed",
            "GroupNorm",
            "InstanceNorm",
            "LayerNorm",
            "PReLU",
            "RMSNorm",
            "Sequential",
        ],
        "bevel.linen.lifted": ["broadcast", "remat as checkpoint", "remat", "scan", "vmap"],
        "bevel.linen.module": ["Module", "Variable", "compact", "merge_param", "nowrap"],
        "bevel.linen.recurrent": [
            "Bidirectional",
            "GRUCell",
            "LSTMCell",
            "OptimizedLSTMCell",
            "RNN",
            "RNNCellBase",
            "SimpleCell",
        ],
        "bevel.nn.activations": [
            "celu",
            "elu",
            "gelu",
            "glu",
            "hard_sigmoid",
            "hard_silu",
            "hard_swish",
            "hard_tanh",
            "leaky_relu",
            "log_sigmoid",
            "log_softmax",
            "logsumexp",
            "one_hot",
            "relu",
            "relu6",
            "selu",
            "sigmoid",
            "silu",
            "soft_sign",
            "softmax",
            "softplus",
            "standardize",
            "swish",
            "tanh",
        ],
        "bevel.nn.attention": [
            "combine_masks",
            "dot_product_attention",
            "make_attention_mask",
            "make_causal_mask",
        ],
        "bevel.nn.initializers": ["ones", "ones_init", "zeros", "zeros_init"],
        "bevel.nn.pooling": ["avg_pool", "max_pool", "pool"],
    },
    modules={"initializers": "bevel.nn.initializers"},
)
