"""Compiles programs, and remembers them: in this process, and on disk for the next one.

An entry on disk is one file, named by a hash of all that its compiled code depends on and opened by
a hash of its contents. It appears whole or not at all; a damaged one counts as absent and is
written anew. When the folder outgrows its bound, the entries not used for longest go. Nothing that
goes wrong with the folder reaches the user's program.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import pathlib
import platform as host
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence

from bevel.core import config, forks
from bevel.xla import bindings, client, nested
from bevel.xla.client import Executable
from bevel.xla.lower import Lowered

MEMORY_ENTRIES = 1024
STALE_SECONDS = 3600.0
SUFFIX = ".bevel-xla"

_log = logging.getLogger("bevel.xla.cache")
_memory: OrderedDict[tuple, Executable] = OrderedDict()
_lock = threading.Lock()
forks.renew(globals(), _lock=threading.Lock)
_sizes: dict[str, int] = {}


def compile_lowered(
    lowered: Lowered, devices: Sequence | None = None, *, options: dict[str, str] | None = None
) -> Executable:
    """Return the executable of a program on `devices` (default: the default device).

    A program is compiled at most once, except one that calls back into Python: that is compiled
    each time and never written to disk. `options` are XLA's debug options, such as
    ``{"xla_cpu_enable_fast_math": True}``.
    """
    devices = (client.default_device(),) if devices is None else tuple(devices)
    options = dict(options or {})
    if lowered.host_callbacks:
        return _told(_compile(lowered, devices, options), lowered)
    key = (lowered.text, devices, tuple(sorted(options.items())))
    with _lock:
        known = _memory.get(key)
        if known is not None:
            _memory.move_to_end(key)
            return known
    executable = _told(_from_disk_or_compile(lowered, devices, options), lowered)
    with _lock:
        _memory[key] = executable
        while len(_memory) > MEMORY_ENTRIES:
            _memory.popitem(last=False)
    return executable


def _told(executable: Executable, lowered: Lowered) -> Executable:
    """The executable, which knows what messages say of its program."""
    executable.name, executable.spans = lowered.name, lowered.spans
    return executable


def clear_memory() -> None:
    """Forget the executables of this process (those in use live on); the disk is left as it is."""
    with _lock:
        _memory.clear()


def _compile(lowered: Lowered, devices: tuple, options: dict) -> Executable:
    start = time.perf_counter()
    callbacks = nested.at_depth(lowered.host_callbacks, 0)
    loaded = bindings.compile_and_load(
        client.client(lowered.platform),
        lowered.text,
        devices,
        bindings.compile_options(devices[0], options),
        callbacks,
    )
    return Executable(
        loaded,
        lowered.text,
        lowered.out_avals,
        devices,
        callbacks=callbacks,
        compile_seconds=time.perf_counter() - start,
        options=options,
    )


def _from_disk_or_compile(lowered: Lowered, devices: tuple, options: dict) -> Executable:
    folder = config.get("compilation_cache_dir")
    if not folder:
        return _compile(lowered, devices, options)
    path = pathlib.Path(folder) / (disk_key(lowered, devices, options) + SUFFIX)
    data = read_entry(path)
    if data is not None:
        try:
            return client.load(
                lowered.platform,
                data,
                lowered.text,
                lowered.out_avals,
                devices,
                bindings.compile_options(devices[0], options),
            )
        except Exception as e:  # whatever jaxlib raises for bytes it cannot load
            _log.debug("entry %s does not load and is compiled anew: %s", path, e)
    executable = _compile(lowered, devices, options)
    if executable.compile_seconds >= config.get("compilation_cache_min_compile_secs"):
        try:
            write_entry(path, executable.serialize(), config.get("compilation_cache_max_bytes"))
        except Exception as e:  # not every program can be serialized
            _log.debug("program is not kept on disk: %s", e)
    return executable


# -- the folder


@functools.cache
def _cpu_features() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as f:
        lines = [line for line in f if line.startswith(("flags", "Features", "model name"))]
        return "".join(dict.fromkeys(lines))
    return f"{host.machine()} {host.processor()}"


def disk_key(lowered: Lowered, devices: Sequence, options: dict) -> str:
    """Return an entry's name: a hash of the program and all that its code depends on."""
    xla_client = client.client(lowered.platform)
    parts = (
        lowered.text,
        sorted(options.items()),
        bindings.version(),
        lowered.platform,
        xla_client.platform_version,
        [(d.id, d.device_kind) for d in devices],
        xla_client.device_count(),
        os.environ.get("XLA_FLAGS", ""),
        _cpu_features(),
    )
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()


def read_entry(path: pathlib.Path) -> bytes | None:
    """Return an entry's contents, or None if it is absent, unreadable or damaged."""
    try:
        raw = path.read_bytes()
        digest, data = raw[:32], raw[32:]
        if hashlib.sha256(data).digest() != digest:
            _log.debug("entry %s is damaged and is compiled anew", path)
            return None
        os.utime(path)  # eviction goes by the time of last use
        return data
    except OSError:
        return None


def write_entry(path: pathlib.Path, data: bytes, max_bytes: int) -> None:
    """Write an entry atomically, then evict beyond `max_bytes`; never raises OSError."""
    raw = hashlib.sha256(data).digest() + data
    if len(raw) > max_bytes:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(prefix=path.stem, suffix=".tmp", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as f:
                f.write(raw)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        _account(path.parent, len(raw), max_bytes)
    except OSError as e:
        _log.debug("cannot write to the compilation cache %s: %s", path.parent, e)


def _account(folder: pathlib.Path, added: int, max_bytes: int) -> None:
    """Add to the folder's known size; look at the first write, and evict when too large."""
    name = str(folder)
    with _lock:
        _sizes[name] = size = _sizes.get(name, max_bytes) + added
        if size > max_bytes:
            _sizes[name] = _evict(folder, max_bytes)


def _evict(folder: pathlib.Path, max_bytes: int) -> int:
    """Remove the least recently used entries down to 9/10 of the bound; return the size."""
    entries, total, now = [], 0, time.time()
    with os.scandir(folder) as files:
        for file in files:
            with contextlib.suppress(OSError):  # another process may remove it first
                stat = file.stat()
                if file.name.endswith(SUFFIX):
                    entries.append((stat.st_mtime, stat.st_size, file.path))
                    total += stat.st_size
                elif file.name.endswith(".tmp") and now - stat.st_mtime > STALE_SECONDS:
                    os.unlink(file.path)
    if total <= max_bytes:
        return total
    for _, size, path in sorted(entries):
        if total <= 0.9 * max_bytes:
            break
        with contextlib.suppress(OSError):
            os.unlink(path)
        total -= size
    return total
