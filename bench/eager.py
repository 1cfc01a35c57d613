"""Eager ops. Goals: small arrays under half of JAX's time and under 3x NumPy's; no compile per
op.
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np

import bevel.numpy as bnp
from bench.harness import Report, interleaved, peer

FIRST_CALLS = """
import time, numpy as np, {module} as xp
x = xp.asarray(np.linspace(0.1, 0.9, 10, dtype=np.float32))
names = ("sin cos tan exp log sqrt tanh sinh cosh arcsin arccos arctan abs negative square floor "
         "ceil sign exp2 log1p expm1 cumsum sum prod max min mean var sort argsort").split()
t0 = time.perf_counter()
for n in names:
    np.asarray(getattr(xp, n)(x))
print(time.perf_counter() - t0)
"""


def first_calls(module: str) -> float:
    """Seconds that the first calls of 30 distinct ops take in a fresh process, imports not
    counted.
    """
    code = FIRST_CALLS.format(module=module)
    return float(
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        ).stdout
    )


def run() -> None:
    jnp, torch = peer("jax.numpy"), peer("torch")
    names = ["numpy", *[n for n, m in (("jax", jnp), ("torch", torch)) if m]]
    report = Report("eager ops, float32", names)
    for size in (10, 1_000, 1_000_000):
        data = np.linspace(0.1, 0.9, size, dtype=np.float32)
        arrays = {"bevel": bnp.asarray(data), "numpy": data}
        libraries = {"bevel": bnp, "numpy": np}
        if jnp:
            arrays["jax"], libraries["jax"] = jnp.asarray(data), jnp
        if torch:
            arrays["torch"], libraries["torch"] = torch.from_numpy(data.copy()), torch

        def wait(name, value):
            return value.block_until_ready() if name == "jax" else value

        report.row(
            f"x + y, {size:,}",
            interleaved({n: lambda n=n, x=x: wait(n, x + x) for n, x in arrays.items()}),
        )
        report.row(
            f"tanh(x*2+1), {size:,}",
            interleaved(
                {
                    n: lambda n=n, x=x, xp=libraries[n]: wait(n, xp.tanh(x * 2 + 1))
                    for n, x in arrays.items()
                }
            ),
        )
    modules = {"bevel": "bevel.numpy", "numpy": "numpy"} | ({"jax": "jax.numpy"} if jnp else {})
    rounds = [{n: first_calls(m) for n, m in modules.items()} for _ in range(3)]
    report.row("first calls of 30 ops", {n: sorted(r[n] for r in rounds)[1] for n in modules})
    report.show()


if __name__ == "__main__":
    run()
