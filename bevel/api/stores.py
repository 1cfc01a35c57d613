"""Stores: contents of state cells in few buffers, which compiled programs take and give back whole.

A program that writes cells would otherwise take and return a buffer for each, at a cost per buffer
that is most of the time of a step with many small parameters. Instead the contents of written cells
move into a `Store`, small ones of a dtype side by side in one buffer. A store is the only owner of
its buffers, so programs write them in place (they are donated). See docs/decisions/stores.md.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Sequence
from sys import getrefcount
from typing import Any, NamedTuple

import numpy as np

from bevel.core import forks, ref
from bevel.core.aval import Aval, aval_of
from bevel.core.graph import Eqn, Graph, Var, live_equations
from bevel.core.handle import Handle, wrap
from bevel.core.interpreter import to_numpy
from bevel.core.ref import Cell, Slot
from bevel.ops.shape import reshape, split
from bevel.transforms.compile import Program
from bevel.transforms.joined import Joiner
from bevel.xla import client

SMALL = 1 << 14
"""Contents of at most so many bytes lie side by side in one buffer."""

FEW = 4
"""Fewer contents of a kind than that share a buffer with other kinds."""

_held_by_fork = False


def _before_fork() -> None:
    """Wait until no store is being written: then all buffers are there in the child."""
    global _held_by_fork
    _held_by_fork = ref.lock.acquire(timeout=forks.PATIENCE)
    client.settle()


def _after_fork() -> None:
    if _held_by_fork:
        ref.lock.release()


forks.at_fork(before=_before_fork, after_in_parent=_after_fork)


class Place(NamedTuple):
    """Where a content lies: a buffer of the store, and from which element on (None: all of it)."""

    buffer: int
    start: int | None


class Store:
    """The contents of cells of one kind, in buffers nobody else holds.

    `departed` are cells that were written from outside since the last look; `lost` counts those
    whose new content no longer fits their place. `buffers` is another list after each change, so
    that who has one has them as they were at one time. `turn` is for programs that call back.
    """

    __slots__ = (
        *("__weakref__", "buffers", "departed", "device", "lost", "places", "seen", "slots"),
        "turn",
    )

    def __init__(self, cells: Sequence[Cell], kinds: dict[Cell, Any], device: Any):
        """Take the contents of these cells, arrays all; those of a kind lie side by side."""
        self.device = device
        self.turn = threading.RLock()
        self.departed: list[Cell] = []
        self.lost = 0
        self.seen: dict[int, Handle] = {}
        contents = {cell: cell._content._v for cell in cells}
        groups: dict[Any, list[Cell]] = {}
        for cell in cells:
            if aval_of(contents[cell]).nbytes <= SMALL:
                groups.setdefault((contents[cell].dtype, kinds[cell]), []).append(cell)
        packs: list[list[Cell]] = []
        mixed: dict[Any, list[Cell]] = {}
        for (dtype, _), group in groups.items():
            if len(group) >= FEW:
                packs.append(group)
            else:
                mixed.setdefault(dtype, []).extend(group)
        packs += [group for group in mixed.values() if len(group) > 1]
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
        found = self.seen.get(index)
        if found is not None:
            return found
        buffer, start = self.places[index]
        if start is not None and client.callbacks_run():
            # Without the lock, which callbacks of what it waits for may need.
            with contextlib.suppress(Exception):  # another thread's program took it
                client.block_until_ready([self.buffers[buffer]])
        with ref.lock:
            found = self.seen.get(index)
            if found is None:
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

    def put(self, new: Sequence[tuple[int, Any]]) -> None:
        """Put the buffers that a program has written in their places."""
        buffers = list(self.buffers)
        for b, raw in new:
            buffers[b] = raw
        self.buffers = buffers

    def restore(self) -> None:
        """Put the contents of departed cells back into their places."""
        with ref.lock:
            changed: dict[int, np.ndarray] = {}
            buffers = list(self.buffers)
            for cell in self.departed:
                content, slot = cell._content, cell._home
                if type(content) is Slot or slot is None or slot.store is not self:
                    continue
                if not fits(content, slot):
                    cell._home = None
                    self.lost += 1
                    continue
                buffer, start = self.places[slot.index]
                if start is None:
                    buffers[buffer] = self._own(content._v)
                else:
                    if buffer not in changed:
                        changed[buffer] = np.array(client.to_numpy(buffers[buffer]))
                    changed[buffer][start : start + slot.aval.size] = _flat(content._v)
                self.seen.pop(slot.index, None)
                cell._content = slot
            for buffer, value in changed.items():
                buffers[buffer] = client.put(value, self.device, owned=True)
            self.buffers = buffers
            self.departed = []  # not earlier: who finds it empty does not wait


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
    inside: list[list[tuple[int, Any, Any]]] = [[] for _ in buffers]
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
    parts: dict[int, list[Any]] = {}
    wholes: dict[tuple[Var, ...], Var] = {}
    for b, places in enumerate(inside):
        if places:
            places.sort(key=lambda p: p[0])
            pieces, parts[b] = _cut(buffers[b], places, before)
            wholes[pieces] = buffers[b]
    joiner = Joiner([*before, *graph.eqns], wholes)
    for b in layout.written:
        if b in parts:
            new[b] = joiner.join(parts[b])
    chosen = set(results.values())
    outputs = [o for i, o in enumerate(graph.outputs) if i not in chosen]
    outputs += [buffers[b] if new[b] is None else new[b] for b in layout.written]

    def renamed(atoms: list) -> list:
        return atoms if whole.keys().isdisjoint(atoms) else [whole.get(a, a) for a in atoms]

    outputs = renamed(outputs)
    eqns = [e.replace(inputs=renamed(e.inputs)) for e in (*before, *graph.eqns, *joiner.eqns)]
    inputs = [*graph.inputs[:first], *own, *buffers]
    return Graph(inputs, live_equations(eqns, outputs), outputs)


def _cut(buffer: Var, places: list, eqns: list[Eqn]) -> tuple[tuple[Var, ...], list[Any]]:
    """Add what cuts a buffer into contents; returns the flat pieces, and for each the new content.

    `places` are start, content and new content (None: it stays) of each cell, in order.
    """
    pieces: list[Var] = []
    news: list[Any] = []
    end = 0
    rest = [(buffer.aval.size, None, None)] if places[-1][0] < buffer.aval.size else []
    cut: list[Eqn] = []
    for start, var, out in [*places, *rest]:
        if start > end:
            pieces.append(Var(buffer.aval.replace(shape=(start - end,))))
            news.append(pieces[-1])
        if var is None:
            break
        pieces.append(Var(buffer.aval.replace(shape=(var.aval.size,))))
        cut.append(Eqn(reshape, [pieces[-1]], [var], {"shape": var.aval.shape}, None))
        news.append(pieces[-1] if out is None else out)
        end = start + var.aval.size
    sizes = tuple([p.aval.size for p in pieces])
    eqns.append(Eqn(split, [buffer], pieces, {"sizes": sizes, "axis": 0}, None))
    eqns.extend(cut)
    return tuple(pieces), news
