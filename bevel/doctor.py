"""What this installation is and what is wrong with it: `bv.doctor()`, `python -m bevel.doctor`.

The module is itself the function, so that both spellings work (docs/decisions/doctor.md). It looks,
and starts nothing: no client, no GPU. It imports the rest of Bevel only inside `try`, since it is
for installations that are broken.
"""

from __future__ import annotations

import contextlib
import difflib
import glob
import importlib
import os
import platform
import re
import shutil
import subprocess
import sys
import types
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

REQUIRED = {
    "numpy": ("2.0", None),
    "ml_dtypes": ("0.5", None),
    "jaxlib": ("0.10.2", "0.13"),
    "opt_einsum": ("3.4", None),
    "optree": ("0.14", None),
    "rich": ("13", None),
    "safetensors": ("0.5", None),
}
"""The packages Bevel needs: the oldest version, and the first that is too new."""

PYTHON = ("3.11", "3.14")

DRIVERS = {"13": 580, "12": 525}
"""The oldest NVIDIA driver for each CUDA (https://docs.nvidia.com/deploy/cuda-compatibility)."""

JAX_VARIABLES = {
    "JAX_PLATFORMS": "BEVEL_PLATFORMS",
    "JAX_COMPILATION_CACHE_DIR": "BEVEL_COMPILATION_CACHE_DIR",
    "JAX_DISABLE_JIT": "BEVEL_DISABLE_JIT",
    "JAX_DEBUG_NANS": "BEVEL_DEBUG_NANS",
    "JAX_NUM_CPU_DEVICES": "BEVEL_NUM_CPU_DEVICES",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "BEVEL_GPU_PREALLOCATE",
    "XLA_PYTHON_CLIENT_MEM_FRACTION": "BEVEL_GPU_MEMORY_FRACTION",
    "XLA_CLIENT_MEM_FRACTION": "BEVEL_GPU_MEMORY_FRACTION",
}
"""Variables for JAX that Bevel does not read, and its own."""

SHOWN = ("XLA_FLAGS", "NPROC", "PJRT_NPROC", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: `what`, the `fix`, and whether it `prevents` use."""

    what: str
    fix: str
    prevents: bool = False

    def __str__(self) -> str:
        return f"{'ERROR' if self.prevents else 'note'}: {self.what}\n  Do: {self.fix}"


@dataclass
class Report:
    """What `bv.doctor()` found; it prints as text. `ok` tells whether Bevel can be used."""

    versions: dict[str, Any] = field(default_factory=dict)
    devices: dict[str, Any] = field(default_factory=dict)
    gpu: dict[str, Any] = field(default_factory=dict)
    cache: dict[str, Any] = field(default_factory=dict)
    threads: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    SECTIONS = ("versions", "devices", "gpu", "cache", "threads", "memory", "environment")

    @property
    def ok(self) -> bool:
        """Whether nothing that was found prevents use."""
        return not any(p.prevents for p in self.problems)

    def __str__(self) -> str:
        lines = []
        for section in self.SECTIONS:
            lines.append(section)
            rows = getattr(self, section) or {"": "nothing"}
            width = max(map(len, rows))
            lines += [f"  {name:{width}}  {_text(value)}" for name, value in rows.items()]
        found = [str(p) for p in sorted(self.problems, key=lambda p: not p.prevents)]
        return "\n".join([*lines, "", *(found or ["no problems found"])])

    __repr__ = __str__

    def add(self, what: str, fix: str, prevents: bool = False) -> None:
        """Note a problem."""
        self.problems.append(Problem(what, fix, prevents))


def _text(value: Any) -> str:
    if value is None:
        return "not installed"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _size(n: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if n < 1024 or unit == "GiB":
            break
        n /= 1024
    return f"{n:.0f} {unit}" if unit == "bytes" else f"{n:.1f} {unit}"


def _numbers(version: str) -> tuple[int, ...]:
    plain = re.split(r"[^\d.]", version)[0]  # of 0.12.0rc1 or 0.12+local
    return tuple(int(n) for n in re.findall(r"\d+", plain))


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _module(name: str) -> Any:
    """A part of Bevel, if it can be imported."""
    return importlib.import_module(f"bevel.{name}")


# -- parts -----------------------------------------------------------------------------------------


def _versions(report: Report) -> None:
    here = platform.python_version()
    report.versions["bevel"] = _module("version").__version__
    report.versions["Python"] = f"{here} ({sys.executable})"
    report.versions["system"] = f"{platform.system()} {platform.release()} {platform.machine()}"
    if not _numbers(PYTHON[0]) <= _numbers(here) < _numbers(PYTHON[1]):
        report.add(
            f"Python {here} is not one that Bevel was tested with ({PYTHON[0]} up to, not "
            f"including, {PYTHON[1]})",
            f"make an environment with Python {PYTHON[0]} or newer",
            prevents=_numbers(here) < _numbers(PYTHON[0]),
        )
    broken: set[str] = set()
    for name, (oldest, too_new) in REQUIRED.items():
        found = _version(name)
        report.versions[name] = found
        wanted = f"{name}>={oldest}" + (f",<{too_new}" if too_new else "")
        fix = f"{os.path.basename(sys.executable)} -m pip install '{wanted}'"
        if found is None:
            report.add(f"{name} is not installed", fix, prevents=True)
        elif _numbers(found) < _numbers(oldest):
            report.add(f"{name} {found} is too old", fix, prevents=True)
        elif too_new and _numbers(found) >= _numbers(too_new):
            report.add(f"{name} {found} is newer than what Bevel knows", fix, prevents=True)
        elif name == "numpy" or "numpy" not in broken:  # all others need it
            _loads(report, name, found)
            broken |= {name} if "does not load" in report.versions[name] else set()


def _loads(report: Report, name: str, found: str) -> None:
    """Look whether a package that is there can be imported."""
    try:
        if name == "jaxlib":
            _module("xla.bindings").load()
        elif name in ("numpy", "ml_dtypes", "optree"):  # the others are loaded when needed
            importlib.import_module(name)
    except Exception as e:
        report.versions[name] = f"{found}, which does not load"
        report.add(
            f"{name} {found} is installed and cannot be imported: {type(e).__name__}: {e}",
            f"{os.path.basename(sys.executable)} -m pip install --force-reinstall "
            f"'{name}=={found}'",
            prevents=True,
        )


def _devices(report: Report) -> None:
    client = _module("xla.client")
    report.devices["platforms"] = list(client.platforms())
    for name in client.platforms():
        if not client.is_initialized(name):
            report.devices[name] = "not started (it is at the first use of a device)"
            continue
        for device in client.local_devices(name):
            report.devices[f"{name}:{device.id}"] = f"{device.device_kind}{_used(device)}"
    if _module("core.forks").stale:
        report.add(
            "this process was forked from one that used devices, so it cannot use them",
            "multiprocessing.get_context('spawn') or 'forkserver'",
        )


def _used(device: Any) -> str:
    with contextlib.suppress(Exception):
        stats = device.memory_stats() or {}
        if "bytes_limit" in stats:
            used, limit = stats.get("bytes_in_use", 0), stats["bytes_limit"]
            return f", {_size(used)} of {_size(limit)} in use"
    return ""


def _driver() -> str | None:
    """The version of NVIDIA's kernel driver."""
    with contextlib.suppress(OSError), open("/proc/driver/nvidia/version") as f:
        found = re.search(r"Kernel Module.*?(\d+\.\d+(?:\.\d+)?)", f.read())
        return found[1] if found else None
    return None


def _nvidia_smi() -> list[list[str]]:
    """Index, name, memory and driver of each GPU, from NVIDIA's tool where there is one."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = "--query-gpu=index,name,memory.total,memory.used,driver_version"
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        text = subprocess.run(
            [tool, query, "--format=csv,noheader"], capture_output=True, text=True, timeout=3
        ).stdout
        rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines()]
        return [row for row in rows if len(row) == 5]
    return []


def _plugins(report: Report) -> str | None:
    """Note the CUDA plugins that are installed; the CUDA of the one in use."""
    found = {}
    for cuda in DRIVERS:
        parts = {p: _version(f"jax-cuda{cuda}-{p}") for p in ("plugin", "pjrt")}
        if any(parts.values()):
            found[cuda] = parts
            report.gpu[f"CUDA {cuda} plugin"] = parts["plugin"]
            report.gpu[f"CUDA {cuda} PJRT"] = parts["pjrt"]
    if len(found) > 1:
        report.add(
            "plugins for two versions of CUDA are installed, and the first is used: "
            + ", ".join(f"jax-cuda{c}-plugin" for c in found),
            "pip uninstall jax-cuda12-plugin jax-cuda12-pjrt (or those of CUDA 13)",
        )
    return next(iter(found), None)


def _gpu(report: Report) -> None:
    gpus = _nvidia_smi()
    driver = _driver() or (gpus[0][4] if gpus else None)
    if driver:
        report.gpu["driver"] = driver
    for index, name, total, used, _ in gpus:
        report.gpu[f"GPU {index}"] = f"{name}, {used} of {total} in use"
    for path in [] if gpus else sorted(glob.glob("/proc/driver/nvidia/gpus/*/information")):
        with contextlib.suppress(OSError), open(path) as f:
            model = re.search(r"Model:\s*(.*)", f.read())
            report.gpu[f"GPU {len(report.gpu)}"] = model[1] if model else path
    cuda = _plugins(report)
    there = driver is not None or os.path.exists("/dev/nvidiactl")
    jaxlib = _version("jaxlib") or REQUIRED["jaxlib"][0]
    if cuda is None:
        if there:
            fits = next((c for c, oldest in DRIVERS.items() if _major(driver) >= oldest), None)
            report.add(
                "there is an NVIDIA GPU here, and no CUDA plugin, so Bevel uses the CPU",
                f"pip install 'jax-cuda{fits}-plugin[with-cuda]=={jaxlib}'"
                if fits
                else f"update NVIDIA's driver to {min(DRIVERS.values())} or newer",
            )
    else:
        _check_plugin(report, cuda, driver, there, jaxlib)
    if there:
        _visible(report, len(gpus))
    if not report.gpu:
        report.gpu["NVIDIA"] = "no GPU, driver or plugin found"


def _major(driver: str | None) -> int:
    return _numbers(driver)[0] if driver else max(DRIVERS.values())


def _check_plugin(report: Report, cuda: str, driver: str | None, there: bool, jaxlib: str) -> None:
    fix = f"pip install 'jax-cuda{cuda}-plugin[with-cuda]=={jaxlib}'"
    for part in ("plugin", "pjrt"):
        found = report.gpu[f"CUDA {cuda} {'PJRT' if part == 'pjrt' else part}"]
        if found is None:
            report.add(f"jax-cuda{cuda}-{part} is not installed", fix, there)
        elif _numbers(found)[:3] != _numbers(jaxlib)[:3]:
            report.add(f"jax-cuda{cuda}-{part} {found} is not for jaxlib {jaxlib}", fix, there)
    if not there:
        report.add(
            "a CUDA plugin is installed, and no NVIDIA driver is visible, so Bevel uses the CPU",
            "install NVIDIA's driver; in a container, start it with the GPUs (docker run --gpus "
            "all); where no GPU is wanted, nothing",
        )
    elif _major(driver) < DRIVERS[cuda]:
        instead = next((c for c, oldest in DRIVERS.items() if _major(driver) >= oldest), None)
        fix = f"update NVIDIA's driver to {DRIVERS[cuda]} or newer"
        if instead:
            fix += f", or pip install 'jax-cuda{instead}-plugin[with-cuda]=={jaxlib}'"
        report.add(
            f"NVIDIA's driver {driver} is too old for CUDA {cuda}, which needs {DRIVERS[cuda]}",
            f"{fix}; until then, BEVEL_PLATFORMS=cpu",
            prevents=True,
        )


def _visible(report: Report, count: int) -> None:
    text = os.environ.get("CUDA_VISIBLE_DEVICES")
    if text is None:
        return
    first = text.split(",")[0].strip()
    if first in ("", "-1", "NoDevFiles"):
        report.add(
            f"CUDA_VISIBLE_DEVICES={text!r} hides all GPUs",
            "unset CUDA_VISIBLE_DEVICES; to use the CPU on purpose, BEVEL_PLATFORMS=cpu",
        )
    elif count and first.isdigit() and int(first) >= count:
        report.add(
            f"CUDA_VISIBLE_DEVICES={text!r} begins with a GPU that is not there, which hides all; "
            f"there are {count}, counted from 0",
            "correct or unset CUDA_VISIBLE_DEVICES",
        )


def _cache(report: Report) -> None:
    config = _module("core.config")
    folder, limit = (config.get(f"compilation_cache_{n}") for n in ("dir", "max_bytes"))
    if not folder:
        report.cache["folder"] = "off"
        report.add(
            "compiled programs are not kept on disk, so each start compiles anew",
            "unset BEVEL_COMPILATION_CACHE_DIR, or set it to a folder",
        )
        return
    suffix = _module("xla.cache").SUFFIX
    count = total = 0
    with contextlib.suppress(OSError), os.scandir(folder) as files:
        for file in files:
            with contextlib.suppress(OSError):
                if file.name.endswith(suffix):
                    count, total = count + 1, total + file.stat().st_size
    report.cache["folder"] = folder
    report.cache["programs"] = count
    report.cache["size"] = f"{_size(total)} of at most {_size(limit)}"
    nearest = os.path.abspath(folder)
    while not os.path.exists(nearest):
        nearest = os.path.dirname(nearest)
    writable = os.path.isdir(nearest) and os.access(nearest, os.W_OK | os.X_OK)
    report.cache["writable"] = "yes" if writable else "no"
    if not writable:
        report.add(
            f"compiled programs cannot be kept: {nearest} is not a folder that can be written",
            "BEVEL_COMPILATION_CACHE_DIR=<a folder of yours>",
        )
    elif shutil.disk_usage(nearest).free < 64 << 20:
        report.add(
            f"the disk with {nearest} is full, so compiled programs are not kept",
            "free some space, or BEVEL_COMPILATION_CACHE_DIR=<a folder on another disk>",
        )


def _threads(report: Report) -> None:
    machine, config = _module("core.machine"), _module("core.config")
    limit = machine.core_limit()
    report.threads["cores of the machine"] = os.cpu_count()
    report.threads["cores for this process"] = machine.cores()
    report.threads["limit of the cgroup"] = "none" if limit is None else f"{limit:g}"
    chosen = config.get("num_threads")
    report.threads["num_threads"] = "as many as cores" if chosen is None else chosen
    used = _module("xla.client").num_threads()
    if used > machine.cores():
        name = "num_threads" if chosen else "PJRT_NPROC or NPROC"
        report.add(
            f"{name} is {used}, and this process may use {machine.cores()} cores: threads that "
            "wait for each other",
            f"BEVEL_NUM_THREADS={machine.cores()}, or unset it",
        )


def _memory(report: Report) -> None:
    found = _module("core.machine").memory()
    if found is None:
        report.memory["total"] = "unknown on this system"
        return
    total, free = found
    report.memory.update(total=_size(total), free=_size(free))
    if free < 256 << 20:
        report.add(
            f"only {_size(free)} of memory are free", "end other processes, or raise the limit"
        )


def _environment(report: Report) -> None:
    settings = _module("core.config").SETTINGS
    known = {f"BEVEL_{name.upper()}" for name in settings}
    for name, value in sorted(os.environ.items()):
        if name.startswith("BEVEL_"):
            report.environment[name] = value
            if name not in known:
                close = difflib.get_close_matches(name, known, 1)
                hint = f"it is called {close[0]}" if close else "docs/settings.md lists them"
                report.add(f"{name} is set, and Bevel has no such setting", hint)
        elif name in JAX_VARIABLES:
            report.environment[name] = value
            report.add(
                f"{name} is set, which is for JAX and does nothing here",
                f"{JAX_VARIABLES[name]}={value}",
            )
        elif name in SHOWN:
            report.environment[name] = value


def _settings(report: Report) -> None:
    wanted = _module("core.config").get("platforms").lower()
    if ("cuda" in wanted or "gpu" in wanted) and _module("xla.bindings").find_cuda_plugin() is None:
        report.add(
            f"BEVEL_PLATFORMS={wanted} asks for a GPU, and no CUDA plugin is installed",
            "install the plugin (see above), or BEVEL_PLATFORMS=cpu",
            prevents=True,
        )


PARTS = (_versions, _devices, _gpu, _cache, _threads, _memory, _environment, _settings)


def report() -> Report:
    """Look at versions, devices, GPU drivers and plugins, cache, threads, memory and environment.

    It starts no client and raises nothing: what cannot be looked at is among the problems.

    >>> import bevel as bv
    >>> found = bv.doctor()
    >>> found.ok, "jaxlib" in found.versions
    (True, True)
    """
    found = Report()
    for part in PARTS:
        try:
            part(found)
        except Exception as e:
            if not found.ok:  # that is why
                continue
            name = part.__name__.strip("_")
            found.add(
                f"{name} cannot be looked at: {type(e).__name__}: {e}",
                "correct what it names; if it is Bevel itself, please report it",
                prevents=not isinstance(e, OSError),
            )
    unique = dict.fromkeys(found.problems)
    found.problems = list(unique)
    return found


class _Doctor(types.ModuleType):
    """The class of this module, so that it can be called: `bv.doctor()`."""

    def __call__(self) -> Report:
        return report()


sys.modules[__name__].__class__ = _Doctor


if __name__ == "__main__":
    here = report()
    print(here)
    sys.exit(0 if here.ok else 1)
