"""`python -m bench [name ...]`: run all benchmarks, or those named."""

from __future__ import annotations

import importlib
import sys

ALL = ("imports", "eager", "calls", "keys", "steps", "transformer", "forecaster_peers")


def main(names: list[str]) -> None:
    unknown = set(names) - set(ALL)
    if unknown:
        sys.exit(f"unknown benchmark {sorted(unknown)}; there are: {', '.join(ALL)}")
    for name in names or ALL:
        importlib.import_module(f"bench.{name}").run()


if __name__ == "__main__":
    main(sys.argv[1:])
