"""The gradient of a plain unrolled transformer: trace and lower, compile, step.

Goals: trace plus lowering at most half of JAX's; compile linear in depth and at most a quarter of
    JAX's
at depth 12; step faster than JAX's at every depth.
"""

from __future__ import annotations

import os
import statistics
import time
from typing import Any

import numpy as np

import bevel as bv
import bevel.numpy as bnp
from bench.harness import Report, interleaved, peer

D, HEADS, SEQUENCE, BATCH, VOCABULARY = 128, 4, 64, 4, 256
DEPTHS = (2, 6, 12, 24, 48)


def parameters(depth: int) -> dict[str, Any]:
    """Random weights, as NumPy arrays."""
    rng = np.random.default_rng(0)

    def matrix(m: int, n: int) -> np.ndarray:
        return (rng.standard_normal((m, n)) / np.sqrt(m)).astype(np.float32)

    block = lambda: {  # noqa: E731
        "ln1": np.ones(D, np.float32),
        "qkv": matrix(D, 3 * D),
        "out": matrix(D, D),
        "ln2": np.ones(D, np.float32),
        "up": matrix(D, 4 * D),
        "down": matrix(4 * D, D),
    }
    return {
        "embed": matrix(VOCABULARY, D),
        "blocks": [block() for _ in range(depth)],
        "head": matrix(D, VOCABULARY),
    }


def make_loss(xp: Any) -> Any:
    """The same model on either library."""

    def norm(x, scale):
        centered = x - x.mean(axis=-1, keepdims=True)
        return centered / xp.sqrt((centered**2).mean(axis=-1, keepdims=True) + 1e-5) * scale

    def softmax(x):
        e = xp.exp(x - x.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)

    mask = np.tril(np.ones((SEQUENCE, SEQUENCE), bool))

    def attention(p, x):
        q, k, v = xp.split(x @ p["qkv"], 3, axis=-1)
        heads = lambda t: t.reshape(BATCH, SEQUENCE, HEADS, D // HEADS).transpose(0, 2, 1, 3)  # noqa: E731
        q, k, v = heads(q), heads(k), heads(v)
        scores = xp.where(mask, q @ k.transpose(0, 1, 3, 2) / np.float32(np.sqrt(D // HEADS)), -1e9)
        return (softmax(scores) @ v).transpose(0, 2, 1, 3).reshape(BATCH, SEQUENCE, D) @ p["out"]

    def loss(params, tokens, targets):
        x = params["embed"][tokens]
        for p in params["blocks"]:
            x = x + attention(p, norm(x, p["ln1"]))
            x = x + xp.tanh(norm(x, p["ln2"]) @ p["up"]) @ p["down"]
        logits = x @ params["head"]
        shifted = logits - logits.max(axis=-1, keepdims=True)
        log_z = xp.log(xp.exp(shifted).sum(axis=-1))
        picked = xp.take_along_axis(shifted, targets[..., None], axis=-1)[..., 0]
        return (log_z - picked).mean()

    return loss


class Timed:
    """One library's gradient at one depth, with the time of each phase."""

    def __init__(self, library: Any, xp: Any, depth: int):
        rng = np.random.default_rng(1)
        tokens = rng.integers(0, VOCABULARY, (2, BATCH, SEQUENCE)).astype(np.int32)
        to = lambda t: library.tree.map(xp.asarray, t)  # noqa: E731
        args = (to(parameters(depth)), xp.asarray(tokens[0]), xp.asarray(tokens[1]))
        start = time.perf_counter()
        lowered = library.jit(library.grad(make_loss(xp))).lower(*args)
        lowered.as_text()
        self.lower = time.perf_counter() - start
        start = time.perf_counter()
        compiled = lowered.compile()
        self.compile = time.perf_counter() - start
        self.step = lambda: library.block_until_ready(compiled(*args))


def run(depths: tuple[int, ...] = DEPTHS) -> None:
    """Print three rows a depth. JAX's compile is skipped beyond depth BEVEL_BENCH_JAX_DEPTH
    (24).
    """
    jax = peer("jax")
    limit = int(os.environ.get("BEVEL_BENCH_JAX_DEPTH", "24"))
    report = Report(
        "gradient of a plain transformer (d=128, 4 heads, sequence 64, batch 4)",
        ["jax"] if jax else [],
    )
    # One small program each beforehand: neither library's own start counts.
    bv.jit(lambda x: x + 1)(bnp.ones(2)).block_until_ready()
    if jax:
        jax.jit(lambda x: x + 1)(np.ones(2)).block_until_ready()
    for depth in depths:
        with bv.config(compilation_cache_dir=None):
            ours = [Timed(bv, bnp, depth) for _ in range(1)]
        runs = {"bevel": ours}
        if jax and depth <= limit:
            runs["jax"] = [Timed(jax, jax.numpy, depth)]
        for phase in ("lower", "compile"):
            report.row(
                f"depth {depth}: {phase}",
                {n: statistics.median(getattr(t, phase) for t in ts) for n, ts in runs.items()},
            )
        report.row(
            f"depth {depth}: step",
            interleaved({n: ts[0].step for n, ts in runs.items()}, rounds=9, seconds=0.2),
        )
    report.show()


if __name__ == "__main__":
    run()
