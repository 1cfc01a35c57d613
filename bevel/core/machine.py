"""What this process may use of the machine: cores and memory, containers' limits included."""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Iterator

_UNLIMITED = 1 << 60  # cgroup v1 writes a huge number for "no limit"


def _read(path: str) -> str | None:
    with contextlib.suppress(OSError, UnicodeDecodeError), open(path) as f:
        return f.read().strip()
    return None


def _groups(controller: str, root: str) -> Iterator[tuple[bool, str]]:
    """Folders whose limits hold for this process, innermost first, and whether they are cgroup v2.

    Inside a container the path that the kernel gives may not be mounted; then its root is looked
    at, which is the container's own group.
    """
    for line in (_read(f"{root}/proc/self/cgroup") or "").splitlines():
        _, names, path = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        if names:
            base = f"{root}/sys/fs/cgroup/{controller}"
        else:
            hybrid = f"{root}/sys/fs/cgroup/unified"
            base = hybrid if os.path.isdir(hybrid) else f"{root}/sys/fs/cgroup"
        path = path.rstrip("/")
        while True:
            yield not names, base + path
            if not path:
                break
            path = path.rpartition("/")[0]


def core_limit(root: str = "") -> float | None:
    """Cores' worth of time that the process's cgroups (v1 or v2) allow; None if they do not say."""
    found = []
    for second, folder in _groups("cpu", root):
        if second:
            quota, _, period = (_read(f"{folder}/cpu.max") or "max").partition(" ")
        else:
            quota = _read(f"{folder}/cpu.cfs_quota_us") or "-1"
            period = _read(f"{folder}/cpu.cfs_period_us") or ""
        with contextlib.suppress(ValueError):  # "max" is no number
            if int(quota) > 0 and int(period) > 0:
                found.append(int(quota) / int(period))
    return min(found, default=None)


def cores() -> int:
    """Cores that this process may use: those it may run on, at most what its cgroups allow.

    >>> 1 <= cores() <= os.cpu_count()
    True
    """
    if hasattr(os, "sched_getaffinity"):
        seen = len(os.sched_getaffinity(0))
    else:
        seen = os.cpu_count() or 1
    limit = core_limit()
    return seen if limit is None else max(1, min(seen, math.ceil(limit)))


def memory_limit(root: str = "") -> int | None:
    """Bytes that the process's cgroups (v1 or v2) allow; None if they do not say."""
    found = []
    for second, folder in _groups("memory", root):
        text = _read(f"{folder}/{'memory.max' if second else 'memory.limit_in_bytes'}")
        if text and text.isdigit() and int(text) < _UNLIMITED:
            found.append(int(text))
    return min(found, default=None)


def memory_used(root: str = "") -> int | None:
    """Bytes that the process's innermost cgroup uses, without files that are kept in memory only as
    long as there is room; None if it does not say.
    """
    for second, folder in _groups("memory", root):
        text = _read(f"{folder}/{'memory.current' if second else 'memory.usage_in_bytes'}")
        if text and text.isdigit():
            name = "inactive_file" if second else "total_inactive_file"
            kept = re.search(rf"^{name} (\d+)$", _read(f"{folder}/memory.stat") or "", re.M)
            return max(0, int(text) - (int(kept[1]) if kept else 0))
    return None


def memory(root: str = "") -> tuple[int, int] | None:
    """Bytes of memory that this process may use in all, and those still free; None if unknown.

    >>> total, free = memory() or (1, 1)
    >>> 0 < free <= total
    True
    """
    info = dict(re.findall(r"^(\w+):\s+(\d+) kB", _read(f"{root}/proc/meminfo") or "", re.M))
    if "MemTotal" not in info:
        return None
    total = int(info["MemTotal"]) << 10
    free = int(info.get("MemAvailable") or info.get("MemFree") or 0) << 10
    limit, used = memory_limit(root), memory_used(root)
    if limit is not None and limit < total:
        total = limit
        free = min(free, max(0, limit - (used or 0)))
    return total, free
