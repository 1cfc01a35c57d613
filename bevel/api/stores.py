"""Stores: contents of state cells in few buffers, which compiled programs take and give back whole.

A program that writes cells would otherwise take and return a buffer for each, at a cost per buffer
that is most of the time of a step with many small parameters. Instead the contents of written cells
move into a `Store`, small ones of a dtype side by side in one buffer. A store is the only owner of
its buffers, so programs write them in place (they are donated). See docs/decisions/stores.md.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from itertools import groupby
from sys import getrefcount
from typing import Any, NamedTuple

import numpy as np

from bevel.core.aval import Aval, aval_of
from bevel.core.graph import Eqn, Graph, Var
from bevel.core.handle import Handle, wrap
from bevel.core.interpreter import to_numpy
from bevel.core.ref import Cell, Slot
from bevel.ops.shape import concatenate, reshape, split
from bevel.transforms.compile import Program
from bevel.xla import client

SMALL = 1 << 14
"""Contents of at most so many bytes lie side by side in one buffer."""

lock = threading.RLock()
"""Held while buffers of stores are given to a program, so that no other thread reads them."""


class Place(NamedTuple):
    """Where a content lies: a buffer of the store, and from which element on (None: all of it)."""

    buffer: int
    start: int | None


class Store:
    """The contents of cells of one kind, in buffers nobody else holds.

    `departed` are cells that were written from outside since the last look; `lost` counts those
    whose new content no longer fits their place.
    """

    __slots__ = ("__weakref__", "buffers", "departed", "device", "lost", "places", "seen", "slots")

    def __init__(self, cells: Sequence[Cell], device: Any):
        """Take the contents of these cells, arrays all."""
        self.device = device
        self.departed: list[Cell] = []
        self.lost = 0
        self.seen: dict[int, Handle] = {}
        contents = {cell: cell._content._v for cell in cells}
        small = [c for c in cells if aval_of(contents[c]).nbytes <= SMALL]
        small.sort(key=lambda c: contents[c].dtype.name)
        groups = [list(g) for _, g in groupby(small, key=lambda c: contents[c].dtype)]
        packs = [g for g in groups if len(g) > 1]
        packed = {c for g in packs for c in g}
        self.buffers = [self._own(np.concatenate([_flat(contents[c]) for c in g])) for g in packs]
        self.places: list[Place] = []
        self.slots: list[Slot] = []
        for b, group in enumerate(packs):
            start = 0
            for cell in group:
                self._take(cell, aval_of(contents[cell]), Place(b, start))
                start += contents[cell].size
        for cell in cells:
            if cell not in packed:  # one by one, so that no two copies of everything are alive
                value = contents.pop(cell)
                self._take(cell, aval_of(value), Place(len(self.buffers), None))
                self.buffers.append(self._own(value))

    def _take(self, cell: Cell, aval: Aval, place: Place) -> None:
        cell._content = Slot(self, len(self.slots), aval)
        self.slots.append(cell._content)
        self.places.append(place)

    def _own(self, value: Any) -> Any:
        """A buffer with a copy of a value."""
        if type(value) is np.ndarray:
            return client.put(np.array(value), self.device, owned=True)
        if client.device_of(value.raw) != self.device:
            return client.copy_to(value.raw, self.device)
        return copied(value.raw)

    def read(self, index: int) -> Handle:
        """The content at a place; the same handle until a program writes."""
        with lock:
            found = self.seen.get(index)
            if found is None:
                buffer, start = self.places[index]
                raw = self.buffers[buffer]
                if start is None:
                    found = wrap(raw)
                else:
                    aval = self.slots[index].aval
                    part = client.to_numpy(raw)[start : start + aval.size]
                    found = wrap(part.reshape(aval.shape).copy())
                self.seen[index] = found
            return found

    def claim(self, written: Iterable[int]) -> None:
        """Before a program writes these buffers: what readers still hold of them stays theirs."""
        if self.seen:
            lent = {self.places[i].buffer for i in self.seen if self.places[i].start is None}
            self.seen.clear()
            for b in lent.intersection(written):
                if getrefcount(self.buffers[b]) > 2:  # the list's and the call's
                    self.buffers[b] = copied(self.buffers[b])

    def restore(self) -> None:
        """Put the contents of departed cells back into their places."""
        with lock:
            cells, self.departed = self.departed, []
            changed: dict[int, np.ndarray] = {}
            for cell in cells:
                content, slot = cell._content, cell._home
                if type(content) is Slot or slot is None or slot.store is not self:
                    continue
                if not fits(content, slot):
                    cell._home = None
                    self.lost += 1
                    continue
                buffer, start = self.places[slot.index]
                if start is None:
                    self.buffers[buffer] = self._own(content._v)
                else:
                    if buffer not in changed:
                        changed[buffer] = np.array(client.to_numpy(self.buffers[buffer]))
                    changed[buffer][start : start + slot.aval.size] = _flat(content._v)
                self.seen.pop(slot.index, None)
                cell._content = slot
            for buffer, value in changed.items():
                self.buffers[buffer] = client.put(value, self.device, owned=True)


def fits(content: Any, slot: Slot) -> bool:
    """Whether a content is a plain array of a place's type."""
    return isinstance(content, Handle) and content._tag is None and aval_of(content._v) == slot.aval


def _flat(value: Any) -> np.ndarray:
    return to_numpy(value).reshape(-1)


_copies: dict[Aval, Program] = {}


def copied(raw: Any) -> Any:
    """A copy of a buffer on its device."""
    program = _copies.get(raw.aval)
    if program is None:
        var = Var(raw.aval)
        program = _copies[raw.aval] = Program(Graph([var], [], [var]), "copy")
    return program.executable(client.device_of(raw)).run([raw])[0]


class Layout(NamedTuple):
    """Where a program finds its cells' contents: for each of its cell inputs, the number of a
    buffer among those it takes and the start, or None for a content of its own; with the types of
    the buffers, and those it writes.
    """

    places: tuple[tuple[int, int | None] | None, ...]
    avals: tuple[Aval, ...]
    written: tuple[int, ...]


def stored_graph(graph: Graph, layout: Layout, first: int, results: dict[int, int]) -> Graph:
    """The graph with buffers of stores in place of cells.

    Args:
        graph: its inputs from `first` on are contents of cells, its last outputs new ones.
        layout: where they lie.
        first: number of inputs that are none.
        results: for each written cell in a store, by its number, the output with its new content.

    Returns a graph whose inputs are those before `first`, the contents outside stores, then the
    buffers; its outputs are those that are not in `results`, then the written buffers.
    """
    buffers = [Var(a) for a in layout.avals]
    own = []
    inside: list[list[tuple[int, int, Any]]] = [[] for _ in buffers]
    whole: dict[Any, Any] = {}
    new: list[Any] = [None] * len(buffers)
    for i, (var, place) in enumerate(zip(graph.inputs[first:], layout.places, strict=True)):
        out = graph.outputs[results[i]] if i in results else None
        if place is None:
            own.append(var)
        elif place[1] is None:
            whole[var] = buffers[place[0]]
            new[place[0]] = out
        else:
            inside[place[0]].append((place[1], var, out))
    before: list[Eqn] = []
    after: list[Eqn] = []
    for b, parts in enumerate(inside):
        if parts:
            new[b] = _unpack_and_pack(buffers[b], sorted(parts, key=lambda p: p[0]), before, after)
    chosen = set(results.values())
    outputs = [o for i, o in enumerate(graph.outputs) if i not in chosen]
    outputs += [buffers[b] if new[b] is None else new[b] for b in layout.written]

    def renamed(atoms: list) -> list:
        return atoms if whole.keys().isdisjoint(atoms) else [whole.get(a, a) for a in atoms]

    eqns = [e.replace(inputs=renamed(e.inputs)) for e in (*before, *graph.eqns, *after)]
    return Graph([*graph.inputs[:first], *own, *buffers], eqns, renamed(outputs))


def _unpack_and_pack(buffer: Var, parts: list, before: list[Eqn], after: list[Eqn]) -> Var:
    """Add what cuts a buffer into contents to `before`, and what makes the new one to `after`."""
    sizes: list[int] = []
    pieces: list[Any] = []
    news: list[Any] = []
    end = 0

    def piece(size: int, var: Var | None, out: Any) -> None:
        sizes.append(size)
        flat = Var(buffer.aval.replace(shape=(size,)))
        pieces.append(flat)
        if var is not None:
            before.append(Eqn(reshape, [flat], [var], {"shape": var.aval.shape}, None))
        if out is None or out is var:
            news.append(flat)
            return
        new = Var(flat.aval)
        after.append(Eqn(reshape, [out], [new], {"shape": (size,)}, None))
        news.append(new)

    for start, var, out in parts:
        if start > end:
            piece(start - end, None, None)
        piece(var.aval.size, var, out)
        end = start + var.aval.size
    if end < buffer.aval.size:
        piece(buffer.aval.size - end, None, None)
    cut = Eqn(split, [buffer], pieces, {"sizes": tuple(sizes), "axis": 0}, None)
    before.insert(0, cut)
    result = Var(buffer.aval)
    after.append(Eqn(concatenate, news, [result], {"axis": 0}, None))
    return result
