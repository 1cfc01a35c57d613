"""Where the host waits for the device."""

from __future__ import annotations

from bevel.xla.transfers import recording


def host_syncs() -> recording:
    """A block that records each wait of this thread for a device, with the user's line.

    A program runs while Python goes on, until something reads its result: `float(x)`, `print(x)`,
    `np.asarray(x)`, `if x:`, `x.item()`, `x.block_until_ready()`, or on the CPU an eager op. In a
    loop each of these keeps the device idle. An array is waited for once: what was read is kept.

    The list has a `Sync` for each, also after the block: `where` (the line), `what` was written,
    `aval` (shape and dtype; None for several arrays), and the `seconds` it took.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> f = bv.jit(lambda x: x * 2)
    >>> with bv.debug.host_syncs() as syncs:
    ...     y = float(f(1.0))
    >>> [(s.what, str(s.aval)) for s in syncs]
    [('float(x)', 'float32[]')]
    """
    return recording()
