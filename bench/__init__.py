"""Benchmarks: Bevel and its peers side by side in one process, interleaved; medians and ratios."""
