"""Where an array lies: the argument `device` of the functions that make one."""

from __future__ import annotations

from typing import Any

import numpy as np

from bevel.core.handle import Handle, wrap
from bevel.core.interpreter import Tracer
from bevel.xla import client, transfers


def placed(x: Handle, device: Any) -> Any:
    """The array on a device, or on the first one of a platform; None leaves it where it is.

    Raises:
        TypeError: `device` is neither.
    """
    if device is None:
        return x
    if isinstance(device, str):
        device = client.local_devices(device)[0]
    if not hasattr(device, "platform"):
        raise TypeError(
            f"device must be a device or the name of a platform, got {type(device).__name__}.\n"
            'Write instead: device=bv.devices()[0], device="cpu", or bv.device_put(x, sharding)'
        )
    value = x._v
    if isinstance(value, Tracer):
        return x
    if type(value) is not np.ndarray:
        with transfers.explicit():
            return wrap(client.copy_to(value.raw, device), x._tag)
    if device.platform == "cpu" and device == client.default_device():
        return x  # where NumPy's memory counts as lying
    with transfers.explicit():
        return wrap(client.put(value, device), x._tag)
