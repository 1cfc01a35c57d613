"""Traced values that outlive their trace are reported when it ends, not when they are used."""

from __future__ import annotations

import gc
import types
import warnings
import weakref
from typing import Any

from bevel.core.errors import TracerLeakWarning
from bevel.core.graph import Graph, GraphBuilder, subgraphs
from bevel.core.handle import Handle
from bevel.core.interpreter import Tracer
from bevel.core.source import user_source, where


def _rules_hold_values(graph: Graph) -> bool:
    """Whether custom rules in a graph close over traced values, which they keep by right."""
    return any(
        (e.params.get("closed") or (0, 0, 0))[2]
        or any(map(_rules_hold_values, subgraphs(e.params)))
        for e in graph.eqns
    )


def report_leaks(builder: weakref.ref[GraphBuilder], graph: Graph, what: str) -> None:
    """Warn if values of a trace that has ended are still held by somebody.

    Every traced value holds its builder, so asking whether that one is alive costs nothing. Cycles
    of garbage hold it too, for a while; only then is the garbage collected.
    """
    for generation in (1, 2):
        if builder() is None:
            return
        gc.collect(generation)
    found = builder()
    tracers = [x for x in gc.get_referrers(found) if isinstance(x, Tracer)] if found else []
    holders = [(x, _holder(x)) for x in tracers]
    held = [(x, holder) for x, holder in holders if holder is not None]
    if not held or _rules_hold_values(graph):
        return
    tracer, holder = held[0]
    here = user_source()
    text = (
        f"{what} has ended, and {holder} still holds a traced {tracer.aval}, made at "
        f"{where(tracer.source)}.\n"
        "Why: it stood for a value of the program while that was traced; it has none now, and "
        "using it is an error.\n"
        "Write instead: return it from the function (`return x, extra`), or keep it in a state "
        "cell (`cell = bv.ref(...); cell[...] = x`)."
    )
    file, line = (here.file, here.line) if here else ("<unknown>", 0)
    warnings.warn_explicit(text, TracerLeakWarning, file, line)


def _holder(tracer: Any) -> str | None:
    """What holds the user's array of a traced value, in words; None if there is no such array."""
    handles = gc.get_referrers(tracer)
    for x in handles:
        if not isinstance(x, Handle):
            continue
        for owner in gc.get_referrers(x):
            if owner is handles or isinstance(owner, types.FrameType):
                continue
            return "a closure" if isinstance(owner, types.CellType) else f"a {type(owner).__name__}"
    return None
