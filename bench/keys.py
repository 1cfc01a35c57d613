"""Looking for keys that are used twice. Goal: at most 5% of drawing with each key once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bevel as bv
from bench.harness import Report, interleaved
from bevel import random

CALLS = 100


def eager() -> Any:
    """A key is made, split, and drawn from."""
    _, key = random.split(random.key(0))
    return random.normal(key, (3,))


jitted_split = bv.jit(random.split)
jitted_draw = bv.jit(lambda key: random.normal(key, (3,)))


def jitted() -> Any:
    """The same, in two programs that take keys and consume them."""
    _, key = jitted_split(random.key(0))
    return jitted_draw(key)


def run() -> None:
    report = Report(f"{CALLS} times key, split and normal", ["unwatched"])

    def watched(once: Callable[[], Any]) -> None:
        for _ in range(CALLS):
            once()

    def unwatched(once: Callable[[], Any]) -> None:
        with random.allow_key_reuse():
            watched(once)

    for name, once in (("eager", eager), ("jitted", jitted)):
        medians = interleaved(
            {"bevel": lambda f=once: watched(f), "unwatched": lambda f=once: unwatched(f)},
            rounds=30,
        )
        report.row(name, medians)
    report.show()
