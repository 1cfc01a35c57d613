"""Bevel: array programs that differentiate, compile, batch and scale.

>>> import bevel as bv, bevel.numpy as bnp
>>> loss = lambda w, x, y: ((x @ w - y) ** 2).mean()
>>> step = bv.jit(bv.grad(loss))
>>> step(bnp.zeros(2), bnp.eye(2), bnp.ones(2))
Array([-1., -1.], dtype=float32)
"""

import importlib

from bevel import debug
from bevel import numpy as numpy
from bevel.api.callbacks import io_callback, pure_callback
from bevel.api.custom import (
    checkpoint_name,
    checkpoint_policies,
    closure_convert,
    custom_gradient,
    custom_jvp,
    custom_vjp,
    remat,
)
from bevel.api.derivatives import (
    grad,
    hessian,
    jacfwd,
    jacrev,
    jvp,
    linear_transpose,
    linearize,
    value_and_grad,
    vjp,
)
from bevel.api.devices import (
    block_until_ready,
    default_backend,
    default_device,
    device_count,
    device_get,
    device_put,
    devices,
    effects_barrier,
    local_device_count,
    local_devices,
    process_count,
    process_index,
)
from bevel.api.graphs import eval_shape, make_graph
from bevel.api.jit import ShapeDtypeStruct, jit
from bevel.api.refs import Ref, ref
from bevel.api.scopes import disable_jit, named_scope
from bevel.api.vmap import vmap
from bevel.core import errors, tree
from bevel.core import tree as tree_util
from bevel.core.config import config
from bevel.numpy.array import Array
from bevel.version import __version__



_LAZY = ("checkpoint", "lax", "nn", "optim", "random")


def __getattr__(name: str):
    """Load the larger parts of the package when they are first used."""
    if name in _LAZY:
        return importlib.import_module(f"bevel.{name}")
    raise AttributeError(f"module 'bevel' has no attribute {name!r}")
