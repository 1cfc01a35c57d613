"""Traced values that outlive their trace are reported when it ends, not when they are used."""

from __future__ import annotations

import gc
import sys
import types
import warnings
import weakref
from typing import Any

from bevel.core.errors import TracerLeakWarning
from bevel.core.graph import Graph, GraphBuilder, subgraphs
from bevel.core.handle import Handle
from bevel.core.interpreter import Tracer
from bevel.core.source import origin, user_source


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
        f"{what} has ended, and {holder} still holds a traced "
        f"{tracer.aval}{origin(tracer.source).rstrip(',')}.\n"
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
            if owner is not handles and not isinstance(owner, types.FrameType):
                return _place_in(owner, x)
    return None


def _place_in(owner: Any, x: Any) -> str:
    """In words, which part of an object a value is."""
    if isinstance(owner, types.CellType):
        return _variable_of(owner)
    if not isinstance(owner, dict):
        name = _global_name(owner)
        inside = getattr(owner, "__dict__", {})
        slots = [k for k in getattr(owner, "__slots__", ()) if getattr(owner, k, None) is x]
        found = [*[k for k, v in inside.items() if v is x], *slots]
        what = f"the attribute {found[0]} of " if found else ""
        return f"{what}a {type(owner).__name__}" + (f" ({name})" if name else "")
    key = next((k for k, v in owner.items() if v is x), None)
    name = _global_name(x)
    if name:
        return name
    for whole in gc.get_referrers(owner):
        if getattr(whole, "__dict__", None) is owner:
            return f"the attribute {key} of a {type(whole).__name__}"
        if isinstance(whole, type):
            return f"the attribute {key} of the class {whole.__name__}"
    name = _global_name(owner)
    return f"a dict ({name})" if name else f"a dict, as {key!r},"


def _global_name(x: Any) -> str | None:
    """The global variable of a module that has this value."""
    for owner in gc.get_referrers(x):
        if isinstance(owner, dict) and isinstance(owner.get("__name__"), str):
            module = sys.modules.get(owner["__name__"])
            if getattr(module, "__dict__", None) is owner or "__builtins__" in owner:
                found = next((k for k, v in owner.items() if v is x), None)
                if found is not None:
                    return f"the global variable {found} of {owner['__name__']}"
    return None


def _variable_of(cell: types.CellType) -> str:
    """The variable of a function that a cell is."""
    for closure in gc.get_referrers(cell):
        if isinstance(closure, tuple):
            for fun in gc.get_referrers(closure):
                if isinstance(fun, types.FunctionType) and fun.__closure__ is closure:
                    names = dict(zip(map(id, closure), fun.__code__.co_freevars, strict=True))
                    return f"the variable {names[id(cell)]} around {fun.__name__}"
    return "a closure"
