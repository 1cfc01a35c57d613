"""Keeps the memory of large CPU results for the next ones, within a bound.

XLA's CPU client takes the memory of each result from the C library, which by default maps large
blocks anew and unmaps them when they die; the kernel then clears every page again, at a quarter of
the speed of memory. Here glibc is told to keep them, and to give memory back when more is idle than
the setting `cpu_memory_kept_bytes`. See docs/decisions/cpu-memory.md. Other C libraries are left
alone.
"""

from __future__ import annotations

import ctypes
import os

LARGE = 1 << 20
"""Programs with at least this many bytes of results and temporaries are counted."""

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # of mallopt


class _Mallinfo2(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


class KeptMemory:
    """What glibc keeps for this process, with a bound of `limit` bytes."""

    def __init__(self, libc: ctypes.CDLL, limit: int):
        self.limit = limit
        self._counted = 0
        self._other = 0  # resident memory that malloc knows nothing of: code, mapped files
        self._trim = libc.malloc_trim
        self._info = libc.mallinfo2
        self._info.restype = _Mallinfo2
        self._page = os.sysconf("SC_PAGESIZE")
        limit = min(limit, 2**31 - 1)
        libc.mallopt(_MMAP_THRESHOLD, limit)
        libc.mallopt(_TRIM_THRESHOLD, limit)
        self._other = self._unused()[1]

    def _unused(self) -> tuple[int, int]:
        """Return the bytes malloc has free, and the resident ones it has not given out."""
        info = self._info()
        with open("/proc/self/statm") as f:
            resident = int(f.read().split()[1]) * self._page
        return info.fordblks, max(0, resident - info.uordblks - info.hblkhd)

    def kept(self) -> int:
        """Return about how many bytes of freed memory the process still holds."""
        free, resident = self._unused()
        return min(free, max(0, resident - self._other))

    def release(self) -> None:
        """Give all freed memory back to the system."""
        self._trim(0)
        self._other = self._unused()[1]

    def count(self, nbytes: int) -> None:
        """Note that a program made `nbytes`; look at the bound once this adds up to it."""
        self._counted += nbytes
        if self._counted >= self.limit:
            self._counted = 0
            if self.kept() > self.limit:
                self.release()


def keep(limit: int) -> KeptMemory | None:
    """Let freed memory be kept up to `limit` bytes; None where that is off (0) or not possible."""
    if limit <= 0 or os.name != "posix" or os.uname().sysname != "Linux":
        return None
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):  # not glibc, or older than 2.33
        return None
    return KeptMemory(libc, limit)
