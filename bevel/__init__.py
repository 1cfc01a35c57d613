"""Bevel: array programs that differentiate, compile, batch and scale.

>>> import bevel as bv, bevel.numpy as bnp
>>> loss = lambda w, x, y: ((x @ w - y) ** 2).mean()
>>> step = bv.jit(bv.grad(loss))
>>> step(bnp.zeros(2), bnp.eye(2), bnp.ones(2))
Array([-1., -1.], dtype=float32)
"""

from bevel.core.lazy import attach
from bevel.version import __version__ as __version__

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "bevel.api.callbacks": ["io_callback", "pure_callback"],
        "bevel.api.custom": [
            "closure_convert",
            "custom_gradient",
            "custom_jvp",
            "custom_vjp",
        ],
        "bevel.api.derivatives": [
            "grad",
            "jvp",
            "linear_transpose",
            "linearize",
            "value_and_grad",
            "vjp",
        ],
        "bevel.api.devices": [
            "block_until_ready",
            "default_backend",
            "default_device",
            "device_count",
            "device_get",
            "device_put",
            "devices",
            "effects_barrier",
            "live_arrays",
            "local_device_count",
            "local_devices",
            "process_count",
            "process_index",
        ],
        "bevel.api.flat": ["ShapeDtypeStruct"],
        "bevel.api.graphs": ["eval_shape", "make_graph"],
        "bevel.api.jacobians": ["hessian", "jacfwd", "jacrev"],
        "bevel.api.jit": ["jit"],
        "bevel.api.refs": ["Ref", "ref"],
        "bevel.api.remat": ["checkpoint_name", "checkpoint_policies", "remat"],
        "bevel.api.scopes": [
            "disable_jit",
            "named_scope",
            "transfer_guard",
            "transfer_guard_device_to_device",
            "transfer_guard_device_to_host",
            "transfer_guard_host_to_device",
        ],
        "bevel.api.timing": ["timeit"],
        "bevel.api.vmap": ["vmap"],
        "bevel.core.config": ["config"],
        "bevel.debug.checks": ["check"],
        "bevel.numpy.array": ["Array"],
    },
    modules={
        "checkpoint": "bevel.checkpoint",
        "data": "bevel.data",
        "debug": "bevel.debug",
        "doctor": "bevel.doctor",
        "errors": "bevel.core.errors",
        "lax": "bevel.lax",
        "linen": "bevel.linen",
        "nn": "bevel.nn",
        "numpy": "bevel.numpy",
        "optim": "bevel.optim",
        "random": "bevel.random",
        "scipy": "bevel.scipy",
        "tree": "bevel.tree",
        "tree_util": "bevel.tree_util",
    },
)
