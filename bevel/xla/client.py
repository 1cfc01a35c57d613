"""Devices, buffers and executables, as the rest of Bevel sees them.

A buffer is jaxlib's array object, whose `.aval` is a `bevel.core.aval.Aval`. It may not be ready
when it is returned: reading it waits. A device is jaxlib's device object (`.platform`, `.id`,
`.device_kind`).
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import ctypes
import functools
import os
import threading
import time
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from bevel.core import config, forks, machine
from bevel.core.aval import Aval, aval_of
from bevel.core.buffer import Buffer
from bevel.core.handle import Handle, set_raw_type
from bevel.xla import bindings, donation, failures, memory, needs, nested, transfers

PLATFORMS = ("cuda", "cpu")
_ALIASES = {"gpu": "cuda"}

_clients = needs.clients
several_devices = False
"""Whether a buffer can be on another device than the next one."""

_lock = threading.RLock()
_kept: memory.KeptMemory | None = None


# -- clients and devices


def _make_client(platform: str):
    if platform == "cpu":
        global _kept
        _kept = memory.keep(config.get("cpu_memory_kept_bytes"))
        return bindings.cpu_client(config.get("num_cpu_devices"), num_threads())
    return bindings.cuda_client(
        preallocate=config.get("gpu_preallocate"), memory_fraction=config.get("gpu_memory_fraction")
    )


def num_threads() -> int:
    """Return how many threads the CPU client computes with: the setting `num_threads`, else the
    variables that XLA reads, else the cores this process may use.
    """
    chosen = config.get("num_threads")
    for name in bindings.THREADS_VARIABLES:
        if chosen is None and os.environ.get(name, "").isdigit():
            chosen = max(1, int(os.environ[name]))
    return machine.cores() if chosen is None else chosen


_FIXED = {
    "cpu": ("num_threads", "num_cpu_devices"),
    "cuda": ("gpu_preallocate", "gpu_memory_fraction"),
}
"""Settings that a client is made with."""


def _wanted(platform: str) -> dict[str, Any]:
    return {n: num_threads() if n == "num_threads" else config.get(n) for n in _FIXED[platform]}


def _check_fixed() -> None:
    for platform, made in _made_with.items():
        for name, new in _wanted(platform).items():
            if new != made[name]:
                raise RuntimeError(
                    f"{name} cannot become {new!r} any more: the {platform} client has started "
                    f"with {made[name]!r}.\n"
                    "Why: its threads and memory are made at the first use of a device (a compiled "
                    "function, bv.devices(), ...).\n"
                    f"Write instead: bv.config.update({name!r}, {new!r}) before that, such as "
                    f"right after the imports; or set BEVEL_{name.upper()}={new} in the "
                    "environment."
                )


_made_with: dict[str, dict[str, Any]] = {}
config.on_change([name for names in _FIXED.values() for name in names], _check_fixed)


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
                forks.check(f"the platform {platform!r} cannot be used")
                known = _start(platform)
                set_raw_type(bindings.buffer_type())  # before another thread sees the client
                _made_with[platform] = _wanted(platform)
                _clients[platform] = known
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


def settle() -> None:
    """Before a fork: wait a while for what is being computed, so that the child can read it."""
    buffers = [] if nested.depth() else [b for c in _clients.values() for b in c.live_arrays()]
    end = time.monotonic() + forks.PATIENCE
    for buffer in buffers:
        with contextlib.suppress(Exception):  # deleted meanwhile, by another thread
            while not (buffer.is_deleted() or buffer.is_ready()) and time.monotonic() < end:
                time.sleep(0.0005)


def _in_child() -> None:
    if _clients:
        for started in (*_clients.values(), *nested.clients.values()):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(started))  # its end would wait for threads
        _clients.clear()
        nested.clients.clear()
        nested.active[:] = [None]  # so that every run of a program looks whether it may
        _made_with.clear()
        _running.clear()
        _first_device.cache_clear()
        forks.lost_devices()


forks.renew(globals(), _lock=threading.RLock)
forks.at_fork(before=settle, after_in_child=_in_child)


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
    if forks.stale:
        forks.check("an array cannot be put on a device")
    if transfers.on and (device or default_device()).platform != "cpu":
        transfers.guard("host_to_device", aval, "use on the device")
    try:
        return bindings.device_put(
            array, aval, default_device() if device is None else device, alias=owned
        )
    except bindings.runtime_error() as e:
        raise failures.translate(e) from None


def copy_to(buffer, device):
    """Return a copy of a buffer on another device."""
    forks.check("an array cannot be copied to a device")
    if transfers.on:
        transfers.guard("device_to_device", buffer.aval, f"use on {device}")
    if buffer.is_deleted():
        raise donation.used_again(buffer)
    return bindings.copy_to_device(buffer, device)


def give_up(h: Handle, given: donation.Given, argument: str | None = None) -> None:
    """Take an array's memory from its handle, and from all that share it.

    `argument` is the part of a call's arguments that it was ("state['w']").
    """
    value = h._v
    if type(value) is np.ndarray:  # the handle lets go of it; others may hold it
        aval = aval_of(value)
        value = h._held = Buffer(put(np.empty(0, value.dtype)))
        value.aval = aval
    value.host = None
    value.given = (given, argument)
    if not value.raw.is_deleted():
        value.raw.delete()


def to_numpy(buffer) -> np.ndarray:
    """Return a buffer as a read-only ndarray, waiting for it; on the CPU the memory is shared."""
    if forks.stale:
        _check_here([buffer])
    try:
        if transfers.on:
            with transfers.wait([buffer], device_of(buffer).platform):
                return bindings.buffer_to_numpy(buffer)
        return bindings.buffer_to_numpy(buffer)
    except bindings.runtime_error() as e:
        raise failures.translate(e, read=[buffer]) from None


def _check_here(buffers: Sequence) -> None:
    """Raise if these cannot be read in this forked process."""
    for buffer in buffers:
        if not buffer.is_deleted() and (buffer.platform() != "cpu" or not buffer.is_ready()):
            forks.check(f"{buffer.aval}, which is on a device or not computed yet, cannot be read")


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
    if forks.stale:
        _check_here(buffers)
    try:
        if transfers.on:
            with transfers.wait(buffers):
                bindings.block_until_ready(buffers)
        else:
            bindings.block_until_ready(buffers)
    except bindings.runtime_error() as e:
        raise failures.translate(e, read=buffers) from None


# -- executables

_MAX_RUNNING = 32
_running: collections.deque = collections.deque()
"""The completion tokens of programs that call back into Python, oldest first."""


def in_callback() -> bool:
    """Tell whether a program calls this code back (see `bevel.xla.nested`)."""
    return bool(nested.active) and nested.depth() > 0


def callbacks_run() -> bool:
    """Tell whether a program calls Python back now, in some thread."""
    return bool(nested.active) and not forks.stale


def effects_barrier(leave: int = 0) -> None:
    """Wait until at most `leave` programs with callbacks run; raises what a callback raised."""
    if nested.depth():  # those it called have ended, and the one it is in waits for it
        return
    while len(_running) > leave:
        try:
            token = _running.popleft()
        except IndexError:  # another thread was faster
            return
        try:
            token.block_until_ready()
        except bindings.runtime_error() as e:
            raise failures.translate(e) from None


def _execute_watched(loaded, buffers: Sequence):
    """Run a program with callbacks, so that `effects_barrier` and the exit wait for it.

    Its inputs are waited for, since XLA otherwise runs it, and so its callbacks, in one of the
    threads that other programs need.
    """
    bindings.block_until_ready(buffers)
    if not _running:
        atexit.unregister(effects_barrier)
        atexit.register(effects_barrier)
    results = loaded.execute_sharded(buffers, with_tokens=True)
    _running.append(results.consume_token())
    effects_barrier(leave=_MAX_RUNNING)
    return results


class _Large:
    """Runs a program that makes much: refused where it cannot fit, remembered in case it fails."""

    __slots__ = ("execute", "needs", "nbytes", "of")

    def __init__(self, executable: Executable, execute, analysis: MemoryAnalysis):
        self.execute = execute
        self.of = weakref.ref(executable)
        self.nbytes = analysis.output_size_in_bytes + analysis.temp_size_in_bytes
        self.needs = needs.made(analysis) + analysis.argument_size_in_bytes

    def __call__(self, buffers: Sequence):
        of = self.of()
        most = needs.limit(of.devices[0])
        if most is not None and self.needs > most:
            error = needs.refusal(of, buffers, most)
            if error is not None:
                raise error
        needs.ran.append(self.of)
        results = self.execute(buffers)
        if _kept is not None and of.devices[0].platform == "cpu":
            _kept.count(self.nbytes)
        return results


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
        "peak_memory_in_bytes",
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
        "name",
        "spans",
        "__weakref__",
        "_deeper",
        "_execute",
        "_handlers",
        "_loaded",
        "_options",
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
        callbacks: Sequence[nested.Callback] = (),
        from_cache: bool = False,
        compile_seconds: float = 0.0,
        options: dict[str, Any] | None = None,
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
        self._execute = loaded.execute_sharded
        if callbacks:
            self._execute = functools.partial(_execute_watched, loaded)
        analysis = MemoryAnalysis(loaded.get_compiled_memory_stats())
        if analysis.output_size_in_bytes + analysis.temp_size_in_bytes >= memory.LARGE:
            self._execute = _Large(self, self._execute, analysis)
        self._program = program
        self._callbacks = tuple(callbacks)  # XLA holds pointers to them
        self._options = options
        self.name = "main"
        self.spans: Sequence = ()
        self._deeper: dict[int, Executable] = {}

    def run(self, buffers: Sequence) -> list:
        """Run on buffers of this executable's devices; donated ones are gone afterwards."""
        if nested.active:
            forks.check("a compiled program cannot run")
            if (depth := nested.depth()) and self.devices[0].platform == "cpu":
                return self._run_nested(depth, buffers)
        try:
            return self._execute(buffers).consume_with_handlers(self._handlers)
        except bindings.runtime_error() as e:
            raise failures.translate(e, buffers) from None

    def _run_nested(self, depth: int, buffers: Sequence) -> list:
        """Run on the threads of a depth (see `bevel.xla.nested`), on the same memory."""
        if len(self.devices) > 1:
            raise NotImplementedError(
                "a callback (bv.pure_callback, bv.io_callback) cannot run a program that is spread "
                "over several devices; run it outside of the callback"
            )
        if depth not in self._deeper:
            deeper = nested.client(depth, num_threads())
            device = deeper.local_devices()[0]
            callbacks = nested.at_depth([c.fn for c in self._callbacks], depth)
            options = bindings.compile_options(device, self._options)
            loaded = bindings.compile_and_load(deeper, self._program, (device,), options, callbacks)
            self._deeper[depth] = Executable(
                loaded, self._program, self.out_avals, (device,), callbacks=callbacks
            )
        program = self._deeper[depth]
        try:
            given = [bindings.moved(b, program.devices[0]) for b in buffers]
            raw = program._loaded.execute_sharded(given, with_tokens=bool(self._callbacks))
            results = raw.consume_with_handlers(program._handlers)
            if self._callbacks:
                raw.consume_token().block_until_ready()
            for buffer, inside in zip(buffers, given, strict=True):
                if inside.is_deleted():
                    buffer.delete()
            return [bindings.moved(r, self.devices[0]) for r in results]
        except bindings.runtime_error() as e:
            raise failures.translate(e, buffers) from None

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
