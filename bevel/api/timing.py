"""`timeit`: how long a function takes, with compilation apart and the device waited for."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bevel.api.devices import block_until_ready


@dataclass(frozen=True)
class Timing:
    """Seconds per call: median and spread of `runs` calls, and what the first call took beyond that
    for tracing and compiling.
    """

    median_seconds: float
    lower_seconds: float
    """The lower quartile."""
    upper_seconds: float
    """The upper quartile."""
    compile_seconds: float
    runs: int

    def __repr__(self) -> str:
        spread = f"{_human(self.lower_seconds)} to {_human(self.upper_seconds)}"
        return (
            f"{_human(self.median_seconds)} per call (quartiles {spread}, {self.runs} runs); "
            f"compiling took {_human(self.compile_seconds)}"
        )


def _human(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def timeit(fun: Callable[..., Any], *args: Any, seconds: float = 0.5, **kwargs: Any) -> Timing:
    """Time a function of these arguments; each call is waited for, so that nothing runs unseen.

    State cells that it writes advance with each call. Under `%timeit` of a notebook, write
    `%timeit bv.block_until_ready(f(x))`, which waits as well.

    Args:
        fun: any function, jitted or not.
        *args: its arguments.
        seconds: about how long to measure; at least five calls are made.
        **kwargs: its keyword arguments.

    Returns:
        A `Timing` with `median_seconds`, `lower_seconds`, `upper_seconds`, `compile_seconds` and
        `runs`.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> report = bv.timeit(bv.jit(lambda x: x + 1), bnp.ones(3), seconds=0.01)
    >>> report.compile_seconds > report.median_seconds > 0
    True
    """

    def once() -> float:
        start = time.perf_counter()
        block_until_ready(fun(*args, **kwargs))
        return time.perf_counter() - start

    first = once()
    second = once()
    runs = max(5, min(10_000, int(seconds / max(second, 1e-7))))
    times = [once() for _ in range(runs)]
    lower, median, upper = statistics.quantiles(times, n=4)
    return Timing(median, lower, upper, max(0.0, first - median), runs)
