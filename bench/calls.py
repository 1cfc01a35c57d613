"""The cost of calling a compiled function. Goal: no slower than JAX at 1, 10 and 200 arrays."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import bevel as bv
import bevel.numpy as bnp
from bench.harness import Report, interleaved, peer


def ready(f: Callable, *args: Any) -> None:
    bv.block_until_ready(f(*args))


def run() -> None:
    """Print a row for each number of arrays, passed one by one and as a list."""
    jax = peer("jax")

    def jax_ready(f: Callable, *args: Any) -> None:
        jax.block_until_ready(f(*args))

    report = Report("jitted call, n arrays of 8 floats in and out", ["jax"] if jax else [])
    for n in (1, 10, 200):

        def shift(*xs):
            return [x + 1 for x in xs]

        def shift_tree(xs):
            return [x + 1 for x in xs]

        data = [np.full(8, i, np.float32) for i in range(n)]
        ours = [bnp.asarray(d) for d in data]
        f, g = bv.jit(shift), bv.jit(shift_tree)
        flat = {"bevel": partial(ready, f, *ours)}
        nested = {"bevel": partial(ready, g, ours)}
        if jax:
            theirs = [jax.device_put(d) for d in data]
            jf, jg = jax.jit(shift), jax.jit(shift_tree)
            flat["jax"] = partial(jax_ready, jf, *theirs)
            nested["jax"] = partial(jax_ready, jg, theirs)
        report.row(f"{n} positional", interleaved(flat))
        report.row(f"list of {n}", interleaved(nested))
    report.show()


if __name__ == "__main__":
    run()
