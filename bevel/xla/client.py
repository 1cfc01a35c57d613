"""Devices, buffers and executables, as the rest of Bevel sees them.

A buffer is jaxlib's array object, whose `.aval` is a `bevel.core.aval.Aval`. It may not be ready
when it is returned: reading it waits. A device is jaxlib's device object (`.platform`, `.id`,
`.device_kind`).
"""

from __future__ import annotations

import atexit
import collections
import functools
import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from bevel.core import config
from bevel.core.aval import Aval
from bevel.core.handle import set_raw_type
from bevel.xla import bindings, failures, memory, transfers

PLATFORMS = ("cuda", "cpu")
_ALIASES = {"gpu": "cuda"}

_clients: dict[str, Any] = {}
several_devices = False
"""Whether a buffer can be on another device than the next one."""

_lock = threading.RLock()
_kept: memory.KeptMemory | None = None


# -- clients and devices


def _make_client(platform: str):
    if platform == "cpu":
        global _kept
        _kept = memory.keep(config.get("cpu_memory_kept_bytes"))
        return bindings.cpu_client(config.get("num_cpu_devices"))
    return bindings.cuda_client(
        preallocate=config.get("gpu_preallocate"), memory_fraction=config.get("gpu_memory_fraction")
    )


def client(platform: str):
    """Return the process's one client of a platform ("cpu" or "cuda"), made at the first call.

    Raises:
        RuntimeError: the platform cannot be used here; the message says why.
    """
    known = _clients.get(platform)
    if known is None:
        with _lock:
            known = _clients.get(platform)
            if known is None:
                known = _clients[platform] = _start(platform)
                set_raw_type(bindings.buffer_type())
                global several_devices
                several_devices = sum(len(c.local_devices()) for c in _clients.values()) > 1
    return known


def _start(platform: str):
    if platform not in PLATFORMS:
        raise RuntimeError(
            f"unknown platform {platform!r}; Bevel knows {', '.join(PLATFORMS)} (set by "
            f"BEVEL_PLATFORMS or bv.config.update('platforms', 'cpu'))"
        )
    try:
        return _make_client(platform)
    except bindings.JaxlibVersionError:
        raise
    except Exception as e:
        raise RuntimeError(
            f"platform {platform!r} cannot be used: {e}\nTo go without it, set BEVEL_PLATFORMS=cpu."
        ) from e


def is_initialized(platform: str | None = None) -> bool:
    """Tell whether a client exists (of `platform`, or any)."""
    return bool(_clients) if platform is None else platform in _clients


def platforms() -> tuple[str, ...]:
    """Return the platforms in use, the default first: the setting `platforms`, else what is there.

    >>> with config.config(platforms="cpu"):
    ...     platforms()
    ('cpu',)
    """
    return _platforms(config.get("platforms") or "")


@functools.cache
def _platforms(setting: str) -> tuple[str, ...]:
    if setting:
        names = [p.strip().lower() for p in setting.split(",") if p.strip()]
        return tuple(dict.fromkeys(_ALIASES.get(p, p) for p in names))
    return (
        ("cuda", "cpu")
        if os.path.exists("/dev/nvidiactl") and bindings.find_cuda_plugin()
        else ("cpu",)
    )


def devices(platform: str | None = None) -> list:
    """Return all devices of a platform (default: the default one), other processes' included.

    >>> devices("cpu")[0].platform
    'cpu'
    """
    return list(client(_resolve(platform)).devices())


def local_devices(platform: str | None = None) -> list:
    """Return this process's devices of a platform (default: the default platform)."""
    return list(client(_resolve(platform)).local_devices())


def _resolve(platform: str | None) -> str:
    if platform is None:
        return platforms()[0]
    platform = _ALIASES.get(platform, platform)
    if platform not in platforms() and config.get("platforms"):
        raise RuntimeError(
            f"platform {platform!r} is not among those that BEVEL_PLATFORMS (setting "
            f"'platforms') allows: {', '.join(platforms())}"
        )
    return platform


def default_device():
    """Return where new arrays go: the setting `default_device`, else the first local device.

    The setting may be a device or the name of a platform.
    """
    chosen = config.get("default_device")
    if chosen is None:
        return _first_device(platforms()[0])
    return _first_device(_resolve(chosen)) if isinstance(chosen, str) else chosen


@functools.cache
def _first_device(platform: str):
    return client(platform).local_devices()[0]


# -- buffers


def put(array: np.ndarray, device=None, *, owned: bool = False):
    """Return a buffer with a copy of a NumPy array on `device` (default: `default_device()`).

    With `owned`, the caller gives the array away: the CPU may then use its memory as it is, so
    nobody may write to it any more. Any dtype that XLA has; the shape and dtype are kept.

    >>> import numpy as np
    >>> to_numpy(put(np.arange(3, dtype=np.int32))).tolist()
    [0, 1, 2]
    """
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    aval = Aval(array.shape, array.dtype)
    if transfers.on and (device or default_device()).platform != "cpu":
        transfers.guard("host_to_device", aval, "use on the device")
    return bindings.device_put(
        array, aval, default_device() if device is None else device, alias=owned
    )


def copy_to(buffer, device):
    """Return a copy of a buffer on another device."""
    if transfers.on:
        transfers.guard("device_to_device", buffer.aval, f"use on {device}")
    return bindings.copy_to_device(buffer, device)


def to_numpy(buffer) -> np.ndarray:
    """Return a buffer as a read-only ndarray, waiting for it; on the CPU the memory is shared."""
    try:
        if transfers.on:
            with transfers.wait([buffer], device_of(buffer).platform):
                return bindings.buffer_to_numpy(buffer)
        return bindings.buffer_to_numpy(buffer)
    except bindings.runtime_error() as e:
        raise failures.translate(e) from None


def aval_of_buffer(buffer) -> Aval:
    """Return a buffer's shape and dtype."""
    return buffer.aval


def device_of(buffer):
    """Return the device that holds a buffer."""
    return bindings.device_of(buffer)


def is_buffer(value) -> bool:
    """Tell whether `value` is a device buffer (without loading jaxlib)."""
    return bool(_clients) and isinstance(value, bindings.buffer_type())


def container_flatten():
    """Return jaxlib's own flattening of plain containers (see `bindings.container_flatten`)."""
    return bindings.container_flatten()


def block_until_ready(buffers: Sequence) -> None:
    """Wait for buffers; raises what their computation raised."""
    try:
        if transfers.on:
            with transfers.wait(buffers):
                bindings.block_until_ready(buffers)
        else:
            bindings.block_until_ready(buffers)
    except bindings.runtime_error() as e:
        raise failures.translate(e) from None


# -- executables

_MAX_RUNNING = 32
_running: collections.deque = collections.deque()
"""The completion tokens of programs that call back into Python, oldest first."""


def effects_barrier(leave: int = 0) -> None:
    """Wait until at most `leave` programs with callbacks run; raises what a callback raised."""
    while len(_running) > leave:
        token = _running.popleft()
        try:
            token.block_until_ready()
        except bindings.runtime_error() as e:
            raise failures.translate(e) from None


def _execute_watched(loaded, buffers: Sequence):
    """Run a program with callbacks, so that `effects_barrier` and the exit wait for it."""
    if not _running:
        atexit.unregister(effects_barrier)
        atexit.register(effects_barrier)
    results = loaded.execute_sharded(buffers, with_tokens=True)
    _running.append(results.consume_token())
    effects_barrier(leave=_MAX_RUNNING)
    return results


def _execute_counted(execute, kept: memory.KeptMemory, nbytes: int, buffers: Sequence):
    results = execute(buffers)
    kept.count(nbytes)
    return results


def _executor(loaded, callbacks: bool, platform: str):
    """Return what runs a loaded program, with the book-keeping that it needs and no more."""
    execute = functools.partial(_execute_watched, loaded) if callbacks else loaded.execute_sharded
    if _kept is None or platform != "cpu":
        return execute
    stats = loaded.get_compiled_memory_stats()
    nbytes = stats.output_size_in_bytes + stats.temp_size_in_bytes
    if nbytes < memory.LARGE:
        return execute
    return functools.partial(_execute_counted, execute, _kept, nbytes)


def release_memory() -> None:
    """Give the memory that is kept for the next large CPU results back to the system."""
    if _kept is not None:
        _kept.release()


class MemoryAnalysis:
    """Bytes that a compiled program uses on each device: arguments, outputs, temporaries, code."""

    FIELDS = (
        "argument_size_in_bytes",
        "output_size_in_bytes",
        "temp_size_in_bytes",
        "alias_size_in_bytes",
        "generated_code_size_in_bytes",
        "host_argument_size_in_bytes",
        "host_output_size_in_bytes",
        "host_temp_size_in_bytes",
    )
    __slots__ = FIELDS

    def __init__(self, stats):
        for name in self.FIELDS:
            setattr(self, name, int(getattr(stats, name)))

    def __repr__(self):
        return (
            f"MemoryAnalysis({', '.join(f'{name}={getattr(self, name)}' for name in self.FIELDS)})"
        )


class Executable:
    """A compiled program on its devices: ``run(buffers) -> list of buffers``."""

    __slots__ = (
        "out_avals",
        "devices",
        "from_cache",
        "compile_seconds",
        "_execute",
        "_handlers",
        "_loaded",
        "_program",
        "_callbacks",
    )

    def __init__(
        self,
        loaded,
        program: str,
        out_avals: Sequence[Aval],
        devices: Sequence,
        shardings: Sequence | None = None,
        callbacks: Sequence = (),
        from_cache: bool = False,
        compile_seconds: float = 0.0,
    ):
        self.out_avals = tuple(out_avals)
        self.devices = tuple(devices)
        self.from_cache = from_cache
        self.compile_seconds = compile_seconds
        if shardings is None:
            shardings = [bindings.single_device(devices[0])] * len(out_avals)
        self._handlers = [
            bindings.result_handler(a, s) for a, s in zip(out_avals, shardings, strict=True)
        ]
        self._loaded = loaded
        self._execute = _executor(loaded, bool(callbacks), devices[0].platform)
        self._program = program
        self._callbacks = tuple(callbacks)  # XLA holds pointers to them

    def run(self, buffers: Sequence) -> list:
        """Run on buffers of this executable's devices; donated ones are gone afterwards."""
        try:
            return self._execute(buffers).consume_with_handlers(self._handlers)
        except bindings.runtime_error() as e:
            gone = [i for i, b in enumerate(buffers) if b.is_deleted()]
            raise (
                failures.donated(f"argument {gone[0]}") if gone else failures.translate(e)
            ) from None

    def text(self) -> str:
        """Return the program after XLA's optimizations, as HLO text."""
        return "\n\n".join(m.to_string() for m in self._loaded.hlo_modules())

    def stablehlo(self) -> str:
        """Return the StableHLO text that was compiled."""
        return self._program

    def cost_analysis(self) -> dict[str, float]:
        """Return XLA's estimates, such as ``flops`` and ``bytes accessed``."""
        return dict(self._loaded.cost_analysis())

    def memory_analysis(self) -> MemoryAnalysis:
        """Return the bytes of arguments, outputs, temporaries and code on each device."""
        return MemoryAnalysis(self._loaded.get_compiled_memory_stats())

    def serialize(self) -> bytes:
        """Return the compiled program as bytes, for the same jaxlib and CPU.

        Raises:
            ValueError: the program calls back into Python.
        """
        if self._callbacks:
            raise ValueError(
                "this program calls back into Python (debug.print, pure_callback, ...), so its "
                "compiled form cannot be saved; save its StableHLO text, or remove the callbacks"
            )
        return self._loaded.serialize()


def load(
    platform: str,
    data: bytes,
    program: str,
    out_avals: Sequence[Aval],
    devices: Sequence,
    options,
    shardings: Sequence | None = None,
) -> Executable:
    """Return the executable that `Executable.serialize` wrote."""
    bindings.prepare_lapack(program)
    loaded = bindings.deserialize(client(platform), data, devices, options)
    return Executable(loaded, program, out_avals, devices, shardings, from_cache=True)
