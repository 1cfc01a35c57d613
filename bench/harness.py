"""Interleaved timing and a table of medians and ratios."""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

Contender = Callable[[], Any]


def peer(name: str) -> Any:
    """A peer module, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def interleaved(
    contenders: dict[str, Contender], rounds: int = 15, seconds: float = 0.02
) -> dict[str, float]:
    """Median seconds per call of each contender; each round times all of them one after the other.

    The number of calls per timing is chosen so that one takes about `seconds`.
    """
    counts = {}
    for name, run in contenders.items():
        run()
        start = time.perf_counter()
        run()
        once = max(time.perf_counter() - start, 1e-7)
        counts[name] = max(1, int(seconds / once))
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            n = counts[name]
            start = time.perf_counter()
            for _ in range(n):
                run()
            times[name].append((time.perf_counter() - start) / n)
    return {name: statistics.median(t) for name, t in times.items()}


def human(seconds: float) -> str:
    """Seconds with a fitting unit."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


class Report:
    """Rows of medians; ratios are Bevel's time over the peer's, so below 1 is faster."""

    def __init__(self, title: str, peers: list[str]):
        self.peers = peers
        self.table = Table(title=title)
        self.table.add_column("what")
        self.table.add_column("bevel", justify="right")
        for p in peers:
            self.table.add_column(p, justify="right")
            self.table.add_column(f"bevel/{p}", justify="right")

    def row(self, what: str, medians: dict[str, float]) -> None:
        """One line of the table."""
        ours = medians["bevel"]
        cells = [what, human(ours)]
        for p in self.peers:
            theirs = medians.get(p)
            cells += ["-", "-"] if theirs is None else [human(theirs), f"{ours / theirs:.2f}"]
        self.table.add_row(*cells)

    def show(self) -> None:
        """Print the table."""
        Console(width=120).print(self.table)
