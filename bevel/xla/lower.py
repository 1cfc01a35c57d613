"""From a graph to the text of a whole program."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bevel.core.aval import Aval
from bevel.core.source import Source
from bevel.xla.builder import Builder, Module, Val, function_text
from bevel.xla.types import kind


@dataclass(frozen=True, eq=False)
class Lowered:
    """A program as StableHLO text, before it is compiled.

    `kept` are the indices of the graph's inputs that are its arguments, in order; `donated`, those
    of its arguments whose memory it takes. `name` is the user's, `spans` are its module's.
    """

    text: str
    platform: str
    in_avals: tuple[Aval, ...]
    out_avals: tuple[Aval, ...]
    kept: tuple[int, ...]
    donated: tuple[int, ...]
    host_callbacks: tuple[Callable, ...]
    name: str = "main"
    spans: Sequence[tuple[int, int, str, Source]] = ()


def lower_module(
    graph,
    *,
    name: str = "main",
    platform: str = "cpu",
    donated: Sequence[int] = (),
    kept: Sequence[int] | None = None,
) -> Lowered:
    """Write a graph as a StableHLO module with a public ``@main``.

    `donated` and `kept` are indices of the graph's inputs. Inputs that are not `kept` (default: all
    are) must not be used by the graph; they are no arguments of the program. A donated input's
    memory is given to a result of the same shape and dtype, or to temporaries.
    """
    kept = tuple(range(len(graph.inputs))) if kept is None else tuple(kept)
    in_avals = tuple(graph.inputs[i].aval for i in kept)
    out_avals = tuple(v.aval for v in graph.outputs)
    donated = tuple(place for place, i in enumerate(kept) if i in set(donated))
    module = Module(platform, wants_cut if platform == "cpu" else None)

    def body(b: Builder, *args: Val):
        known = dict(zip(kept, args, strict=True))
        return b.lower(graph, [known.get(i) for i in range(len(graph.inputs))])

    main = function_text(
        module, "main", in_avals, out_avals, body, True, _donations(in_avals, out_avals, donated)
    )
    safe = re.sub(r"\W", "_", name) or "main"
    return Lowered(
        module.text(safe, main),
        platform,
        in_avals,
        out_avals,
        kept,
        donated,
        tuple(module.host_callbacks),
        name,
        module.spans,
    )


def _donations(
    in_avals: Sequence[Aval], out_avals: Sequence[Aval], donated: Sequence[int]
) -> list[str]:
    """Return each argument's attributes: a donated one becomes a free result of its type."""
    free = defaultdict(list)
    for i, aval in reversed(list(enumerate(out_avals))):
        free[aval].append(i)
    attrs = [""] * len(in_avals)
    for i in donated:
        results = free[in_avals[i]]
        attrs[i] = (
            f" {{tf.aliasing_output = {results.pop()} : i32}}"
            if results
            else " {jax.buffer_donor = true}"
        )
    return attrs


# -- where XLA's CPU backend must not fuse (docs/decisions/fusion-cuts.md)

CUT_MIN_ELEMENTS = 1024
CUT_LOOK_AHEAD = 6
_FAR = CUT_LOOK_AHEAD + 1
_OPAQUE = ("dot_", "conv_", "call", "cond", "while", "scan", "custom_", "remat")
_REDUCTIONS = ("reduce_", "arg", "cum")


def wants_cut(graph) -> set[int]:
    """Return the ids of the adds that become calls XLA does not inline (kept with the graph)."""
    return graph.cached("xla.cuts", lambda: _find_cuts(graph))


def _stops_fusion(eqn) -> bool:
    name = eqn.op.name
    if name.startswith(_REDUCTIONS):
        return name != "reduce_precision" and eqn.outputs[0].aval.size > 1
    return name.startswith(_OPAQUE)


def _find_cuts(graph) -> set[int]:
    uses: dict = dict.fromkeys(graph.outputs, 1)
    steps: dict = {}  # from a value to the next contraction or reduction, along its users
    cuts = set()
    for eqn in reversed(graph.eqns):
        ahead = min([steps.get(v, _FAR) for v in eqn.outputs], default=_FAR)
        if eqn.op.name == "add" and ahead <= CUT_LOOK_AHEAD:
            result = eqn.outputs[0]
            large = result.aval.size >= CUT_MIN_ELEMENTS and kind(result.aval.dtype) == "f"
            if large and uses.get(result, 0) > 1:
                cuts.add(id(eqn))
        here = 0 if _stops_fusion(eqn) else ahead + 1
        for atom in eqn.inputs:
            uses[atom] = uses.get(atom, 0) + 1
            steps[atom] = min(here, steps.get(atom, _FAR))
    return cuts
