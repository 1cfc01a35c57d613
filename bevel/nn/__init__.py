"""Modules with typed state, layers, initializers, activations, and the optimizer that trains them.

>>> import bevel as bv, bevel.numpy as bnp
>>> from bevel import nn, optim
>>> rngs = nn.Rngs(params=0, dropout=1)
>>> first, last = nn.Linear(4, 8, rngs=rngs), nn.Linear(8, 1, rngs=rngs)
>>> model = nn.Sequential(first, nn.relu, nn.Dropout(0.1, rngs=rngs), last)
>>> optimizer = nn.Optimizer(model, optim.adam(1e-2))
>>> @bv.jit
... def step(model, optimizer, x, y):
...     loss, grads = bv.value_and_grad(lambda m: ((m(x) - y) ** 2).mean())(model)
...     optimizer.update(grads)
...     return loss
>>> step(model, optimizer, bnp.ones((16, 4)), bnp.ones((16, 1))).shape
()
"""

from bevel.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "bevel.api.custom": [
            "custom_vjp",
        ],
        "bevel.api.derivatives": [
            "grad",
            "jvp",
            "value_and_grad",
            "vjp",
        ],
        "bevel.api.graphs": [
            "eval_shape",
        ],
        "bevel.api.jit": [
            "jit",
        ],
        "bevel.api.remat": [
            "remat",
        ],
        "bevel.api.vmap": [
            "vmap",
        ],
        "bevel.debug.checkify": ["checkify"],
        "bevel.lax.branches": [
            "cond",
            "switch",
        ],
        "bevel.lax.loops": [
            "fori_loop",
            "while_loop",
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
            "identity",
            "leaky_relu",
            "log1mexp",
            "log_sigmoid",
            "log_softmax",
            "logmeanexp",
            "logsumexp",
            "mish",
            "one_hot",
            "relu",
            "relu6",
            "selu",
            "sigmoid",
            "silu",
            "soft_sign",
            "softmax",
            "softplus",
            "sparse_plus",
            "sparse_sigmoid",
            "squareplus",
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
        "bevel.nn.averaging": [
            "EMA",
        ],
        "bevel.nn.axes": [
            "Carry",
            "DiffState",
            "StateAxes",
        ],
        "bevel.nn.captures": [
            "capture",
        ],
        "bevel.nn.containers": [
            "Dict",
            "List",
            "data",
            "static",
        ],
        "bevel.nn.conv": [
            "Conv",
            "ConvTranspose",
        ],
        "bevel.nn.dropout": [
            "Dropout",
        ],
        "bevel.nn.early_stopping": [
            "EarlyStopping",
        ],
        "bevel.nn.filters": [
            "All",
            "Any",
            "Everything",
            "Not",
            "Nothing",
            "OfType",
            "PathContains",
            "PathIn",
            "WithTag",
        ],
        "bevel.nn.flat_states": [
            "filter_state",
            "from_flat_state",
            "map_state",
            "merge_state",
            "replace_by_pure_dict",
            "restore_int_paths",
            "split_state",
            "to_flat_state",
            "to_pure_dict",
        ],
        "bevel.nn.initializers": [
            "Initializer",
        ],
        "bevel.nn.linear": [
            "Einsum",
            "Embed",
            "Linear",
            "LinearGeneral",
        ],
        "bevel.nn.lora": [
            "LoRA",
            "LoRALinear",
            "LoRAParam",
        ],
        "bevel.nn.metrics": [
            "Metric",
            "MultiMetric",
        ],
        "bevel.nn.module": [
            "Module",
        ],
        "bevel.nn.multi_head": [
            "MultiHeadAttention",
        ],
        "bevel.nn.normalization": [
            "BatchNorm",
            "GroupNorm",
            "InstanceNorm",
            "LayerNorm",
            "RMSNorm",
        ],
        "bevel.nn.optimizer": [
            "Optimizer",
        ],
        "bevel.nn.parametric": [
            "PReLU",
        ],
        "bevel.nn.pooling": [
            "avg_pool",
            "max_pool",
            "min_pool",
            "pool",
        ],
        "bevel.nn.precision": [
            "LossScaler",
            "Policy",
        ],
        "bevel.nn.recurrent": [
            "Bidirectional",
            "GRUCell",
            "LSTMCell",
            "OptimizedLSTMCell",
            "RNN",
            "RNNCellBase",
            "SimpleCell",
        ],
        "bevel.nn.reparametrized": [
            "SpectralNorm",
            "WeightNorm",
        ],
        "bevel.nn.rngs": [
            "RngStream",
            "Rngs",
        ],
        "bevel.nn.scaled": [
            "scaled_matmul",
        ],
        "bevel.nn.scanning": [
            "scan",
        ],
        "bevel.nn.sequential": [
            "Sequential",
        ],
        "bevel.nn.stack": [
            "Stack",
        ],
        "bevel.nn.states": [
            "State",
            "clone",
            "merge",
            "pop",
            "split",
            "state",
            "update",
        ],
        "bevel.nn.streams": [
            "fork_rngs",
            "reseed",
            "restore_rngs",
            "split_rngs",
        ],
        "bevel.nn.structure": [
            "GraphDef",
        ],
        "bevel.nn.tables": [
            "display",
            "tabulate",
        ],
        "bevel.nn.train_state": [
            "TrainState",
        ],
        "bevel.nn.variable": [
            "BatchStat",
            "Cache",
            "Intermediate",
            "OptState",
            "Param",
            "Perturbation",
            "RngCount",
            "RngKey",
            "RngState",
            "Variable",
            "register_variable_name",
            "variable_name_from_type",
            "variable_type_from_name",
        ],
        "bevel.nn.walks": [
            "find_duplicates",
            "graphdef",
            "iter_children",
            "iter_graph",
            "iter_module_children",
            "iter_modules",
            "map_variables as map",
            "recursive_map",
            "set_metadata",
            "variables",
            "with_attributes",
        ],
    },
    modules={"initializers": "bevel.nn.initializers", "metrics": "bevel.nn.metrics"},
    instead={  # of flax.linen
        "Dense": "nn.Linear(in_features, out_features, rngs=rngs), or bevel.linen.Dense",
        "DenseGeneral": "nn.LinearGeneral, or bevel.linen.DenseGeneral",
        "MultiHeadDotProductAttention": "nn.MultiHeadAttention",
        "SelfAttention": "nn.MultiHeadAttention, called with one input",
        "compact": "layers as attributes, made in __init__; or bevel.linen, which has compact",
    },
)
