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

from bevel.nn import initializers
from bevel.nn.activations import (
    celu,
    elu,
    gelu,
    glu,
    hard_sigmoid,
    hard_silu,
    hard_swish,
    hard_tanh,
    identity,
    leaky_relu,
    log1mexp,
    log_sigmoid,
    log_softmax,
    logmeanexp,
    logsumexp,
    mish,
    one_hot,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    soft_sign,
    softmax,
    softplus,
    sparse_plus,
    sparse_sigmoid,
    squareplus,
    standardize,
    swish,
    tanh,
)
from bevel.nn.conv import Conv
from bevel.nn.dropout import Dropout
from bevel.nn.filters import (
    All,
    Any,
    Everything,
    Not,
    Nothing,
    OfType,
    PathContains,
    PathIn,
    WithTag,
)
from bevel.nn.linear import Embed, Linear, LinearGeneral
from bevel.nn.module import Module
from bevel.nn.normalization import BatchNorm, LayerNorm, RMSNorm
from bevel.nn.optimizer import Optimizer
from bevel.nn.recurrent import RNN, GRUCell, LSTMCell, OptimizedLSTMCell, RNNCellBase, SimpleCell
from bevel.nn.rngs import Rngs, RngStream
from bevel.nn.sequential import Sequential
from bevel.nn.state import State, clone, merge, pop, split, state, update
from bevel.nn.structure import GraphDef
from bevel.nn.train_state import TrainState
from bevel.nn.variables import (
    BatchStat,
    Cache,
    Intermediate,
    OptState,
    Param,
    RngCount,
    RngKey,
    RngState,
    Variable,
)

__all__ = [
    "All",
    "Any",
    "BatchNorm",
    "BatchStat",
    "Cache",
    "Conv",
    "Dropout",
    "Embed",
    "Everything",
    "GRUCell",
    "GraphDef",
    "Intermediate",
    "LSTMCell",
    "LayerNorm",
    "Linear",
    "LinearGeneral",
    "Module",
    "Not",
    "Nothing",
    "OfType",
    "OptState",
    "OptimizedLSTMCell",
    "Optimizer",
    "Param",
    "PathContains",
    "PathIn",
    "RMSNorm",
    "RNN",
    "RNNCellBase",
    "RngCount",
    "RngKey",
    "RngState",
    "RngStream",
    "Rngs",
    "Sequential",
    "SimpleCell",
    "State",
    "TrainState",
    "Variable",
    "WithTag",
    "celu",
    "clone",
    "elu",
    "gelu",
    "glu",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "identity",
    "initializers",
    "leaky_relu",
    "log1mexp",
    "log_sigmoid",
    "log_softmax",
    "logmeanexp",
    "logsumexp",
    "merge",
    "mish",
    "one_hot",
    "pop",
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
    "split",
    "squareplus",
    "standardize",
    "state",
    "swish",
    "tanh",
    "update",
]
