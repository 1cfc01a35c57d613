"""Import time in fresh processes. Goal: at most 2x `import numpy`'s; JAX's is 5x or more."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from bench.harness import Report, peer


def run() -> None:
    modules = ["bevel", "numpy", *[m for m in ("jax", "torch") if peer(m)]]
    start = {m: [] for m in [*modules, ""]}
    for _ in range(9):
        for m in start:
            code = f"import {m}" if m else "pass"
            t0 = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            start[m].append(time.perf_counter() - t0)
    bare = statistics.median(start.pop(""))
    report = Report("import time (the interpreter's own start subtracted)", modules[1:])
    report.row("import", {m: statistics.median(t) - bare for m, t in start.items()})
    report.show()


if __name__ == "__main__":
    run()
