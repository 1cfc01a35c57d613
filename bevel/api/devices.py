"""Devices, and moving and waiting for arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from bevel.api.flat import array_leaves, as_handle
from bevel.core import config, handle, tree
from bevel.core.buffer import Buffer
from bevel.core.handle import Handle, KeyTag, fresh_tag, wrap
from bevel.core.interpreter import Tracer
from bevel.transforms.compile import to_raw
from bevel.xla import client, donation, needs, transfers


def devices(backend: str | None = None) -> list[Any]:
    """All devices of a platform ("cpu", "gpu"; default: the default platform).

    >>> devices("cpu")[0].platform
    'cpu'
    """
    return client.devices(backend)


def local_devices(backend: str | None = None) -> list[Any]:
    """Devices of this process, of a platform.

    >>> len(local_devices("cpu")) >= 1
    True
    """
    return client.local_devices(backend)


def device_count(backend: str | None = None) -> int:
    """Number of devices, of all processes.

    >>> device_count("cpu") >= 1
    True
    """
    return len(devices(backend))


def local_device_count(backend: str | None = None) -> int:
    """Number of this process's devices.

    >>> local_device_count("cpu") >= 1
    True
    """
    return len(local_devices(backend))


def default_backend() -> str:
    """The platform new arrays go to.

    >>> default_backend() in ("cpu", "cuda")
    True
    """
    return client.platforms()[0]


def process_count(backend: str | None = None) -> int:
    """Number of processes that run this program together.

    >>> process_count()
    1
    """
    return max((d.process_index for d in devices(backend)), default=0) + 1


def process_index(backend: str | None = None) -> int:
    """The number of this process among them.

    >>> process_index()
    0
    """
    local = local_devices(backend)
    return local[0].process_index if local else 0


def default_device(device: Any) -> config.config:
    """Place new arrays on a device (or platform) for a block.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> with default_device(bv.devices("cpu")[0]):
    ...     x = bnp.ones(2)
    """
    return config.config(default_device=device)


def device_put(
    x: Any,
    device: Any = None,
    *,
    src: Any = None,
    donate: bool = False,
    may_alias: bool | None = None,
) -> Any:
    """Copies of arrays (a pytree of them) on a device.

    Raises:
        TypeError: `device` is not a device.

    >>> import bevel as bv
    >>> bv.device_put(1.0, bv.devices("cpu")[0]).device.platform
    'cpu'
    """
    target = client.default_device() if device is None else device
    if isinstance(target, str):
        target = client.local_devices(target)[0]
    if not hasattr(target, "platform"):
        raise TypeError(
            f"device_put: expected a device such as bv.devices()[0], got {type(target).__name__}; "
            "shardings come with the scaling part of Bevel"
        )

    def one(leaf: Any) -> Any:
        h = as_handle(leaf, "device_put: a value")
        if h.is_deleted():
            raise donation.used_again(h._v.raw)
        return h if isinstance(h._v, Tracer) else wrap(to_raw(h._v, target), fresh_tag(h._tag))

    with transfers.explicit():
        return tree.map(one, x)


def device_get(x: Any) -> Any:
    """NumPy arrays with the contents of arrays (a pytree of them); read-only, without a copy on
    the CPU.

    >>> import bevel.numpy as bnp
    >>> type(device_get(bnp.ones(2))).__name__
    'ndarray'
    """

    def one(leaf: Any) -> Any:
        h = as_handle(leaf, "device_get: a value")
        if type(h._tag) is KeyTag:
            raise TypeError("device_get: a random key has no NumPy form; take random.key_data(key)")
        return np.asarray(h)

    with transfers.explicit():
        return tree.map(one, x)


def block_until_ready(x: Any) -> Any:
    """Wait until arrays (a pytree of them) are computed; returns them. Other leaves are passed
    over.

    >>> import bevel.numpy as bnp
    >>> block_until_ready(bnp.ones(2)).tolist()
    [1.0, 1.0]
    """
    raw_type = handle.raw_type
    if raw_type is not None:
        raws = []
        for h in array_leaves(x) or tree.leaves(x):
            held = h._held if isinstance(h, Handle) else None
            if type(held) is Buffer:
                held = held.raw
            if type(held) is raw_type:
                raws.append(held)
        client.block_until_ready(raws)
    return x


def live_arrays(platform: str | None = None) -> list[Any]:
    """Every array that takes memory now, of a platform (default: of all); those that share memory
    once. NumPy-backed arrays count as on the default device.

    >>> import bevel.numpy as bnp
    >>> x = bnp.ones((1000, 1000))
    >>> any(a is x for a in live_arrays()), sum(a.nbytes for a in live_arrays()) >= x.nbytes
    (True, True)
    """
    found = [wrap(array) if h is None else h for array, h in needs.held().values()]
    if platform is None:
        return found
    wanted = client.local_devices(platform)[0].platform
    return [a for a in found if a.device.platform == wanted]


def effects_barrier() -> None:
    """Wait until the side effects (prints, io callbacks) of all programs called so far have
    happened.

    >>> effects_barrier()
    """
    client.effects_barrier()
