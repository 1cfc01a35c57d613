"""Blocks that change how code inside them runs: `disable_jit`, `named_scope`, the transfer
guards.
"""

from __future__ import annotations

from types import TracebackType

from bevel.core import config
from bevel.core.source import pop_scope, push_scope
from bevel.xla import transfers


def disable_jit(disable: bool = True) -> config.config:
    """Run jitted functions, loops and branches op by op, as plain Python, for a block.

    >>> import bevel as bv
    >>> with bv.disable_jit():
    ...     bv.jit(lambda x: print(float(x)))(2.0)
    2.0
    """
    return config.config(disable_jit=disable)


def transfer_guard(level: str) -> config.config:
    """Say for a block what happens on transfers that the code does not ask for by name.

    Such are a call of a jitted function with NumPy or Python data, and `float(x)`, `print(x)` or
    `np.asarray(x)` of its results; `bv.device_put` and `bv.device_get` are explicit. On the CPU,
    arrays of eager code are on the host already and are not transferred.

    Args:
        level: "allow", "log" (the logger `bevel.transfers` names the lines), "disallow";
            "log_explicit" and "disallow_explicit" count explicit transfers too.

    Raises:
        RuntimeError: in the block, a transfer that is not allowed.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> f = bv.jit(lambda x: x * 2)
    >>> with bv.transfer_guard("disallow"):
    ...     y = bv.device_get(f(bnp.ones(2)))
    """
    return config.config(transfer_guard=level, **dict.fromkeys(transfers.LEVELS.values(), level))


def transfer_guard_host_to_device(level: str) -> config.config:
    """`transfer_guard` for host data that programs and devices are given.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> with bv.transfer_guard_host_to_device("disallow"):
    ...     float(bv.jit(lambda x: x + 1)(bnp.ones(())))
    2.0
    """
    return config.config(transfer_guard_host_to_device=level)


def transfer_guard_device_to_host(level: str) -> config.config:
    """`transfer_guard` for results that are read on the host.

    >>> import bevel as bv
    >>> with bv.transfer_guard_device_to_host("disallow"):
    ...     y = bv.jit(lambda x: x + 1)(1.0)
    """
    return config.config(transfer_guard_device_to_host=level)


def transfer_guard_device_to_device(level: str) -> config.config:
    """`transfer_guard` for copies between devices.

    >>> import bevel as bv
    >>> with bv.transfer_guard_device_to_device("log"):
    ...     y = bv.jit(lambda x: x + 1)(1.0)
    """
    return config.config(transfer_guard_device_to_device=level)


class named_scope:
    """Name the ops of a block in graphs, compiled programs and profiles.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> def f(x):
    ...     with bv.named_scope("norm"):
    ...         return bnp.sqrt(x)
    >>> bv.make_graph(f)(1.0).eqns[0].source.scope
    'norm'
    """

    def __init__(self, name: str):
        if not isinstance(name, str):
            raise TypeError(f"named_scope: the name must be a string, got {type(name).__name__}")
        self.name = name

    def __enter__(self) -> named_scope:
        push_scope(self.name)
        return self

    def __exit__(
        self, kind: type | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        pop_scope()
