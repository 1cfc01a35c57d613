"""What calling a traced program takes: arguments flattened, and all that can be looked up ahead."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bevel.api.constants import moved_constant
from bevel.api.flat import Output, as_handle, cells_of, rewrap, signature, structure_key
from bevel.api.stores import Layout, Store
from bevel.core import config, handle, ref, tree
from bevel.core.aval import Aval, aval_of
from bevel.core.buffer import Buffer
from bevel.core.errors import DonatedBufferError
from bevel.core.graph import Graph, subgraphs
from bevel.core.handle import Handle, fresh_tag, tag_key, wrap
from bevel.core.ref import Cell, Slot
from bevel.numpy.array import Array
from bevel.numpy.convert import enter
from bevel.ops.host import callback
from bevel.random.keys import consume
from bevel.transforms.compile import Program, common_device, to_raw
from bevel.transforms.joined import kinds
from bevel.xla import client, transfers


class Call:
    """The arguments of one call, flattened: handles, cells and what the trace depends on
    besides.
    """

    __slots__ = ("cell_keys", "cells", "handles", "key", "leaves", "treedef")

    def __init__(self, what: str, args: tuple, kwargs: dict[str, Any]):
        self.leaves, self.treedef = tree.flatten((args, kwargs))
        self.handles: list[Handle] = []
        cells: dict[Cell, int] = {}
        key: list[Any] = [self.treedef]
        for i, leaf in enumerate(self.leaves):
            inside = None if isinstance(leaf, Handle) else cells_of(leaf)
            if inside is None:
                if transfers.on and not isinstance(leaf, Handle):
                    transfers.host_data(leaf)
                handle = (
                    leaf if isinstance(leaf, Handle) else as_handle(leaf, f"an argument of {what}")
                )
                self.leaves[i] = handle
                self.handles.append(handle)
                key.append(signature(handle))
            else:
                key.append(
                    (structure_key(leaf), tuple([cells.setdefault(c, len(cells)) for c in inside]))
                )
        self.cells = list(cells)
        self.cell_keys = [cell_signature(c, c._seen()) for c in self.cells]
        self.key = (*key, *self.cell_keys)


class StateChanged(RuntimeError):
    """Another thread gave a cell a content of another type between two looks; look again."""


def cell_signature(cell: Cell, content: Any) -> Any:
    """What a trace depends on of a cell and its content (or the slot where it is): its type, or the
    content itself if it is no array.
    """
    if type(content) is Slot:
        return type(cell), (content.aval.shape, content.aval.dtype, None)
    return type(cell), signature(content) if isinstance(content, Handle) else content


def read(leaves: Sequence[Any], structure: Any) -> tuple[Any, Any, Any, Any] | None:
    """Arguments, the runtime's arrays they hold (None if one is in NumPy's hands), the signature,
    and what stands for the structure of each stateful one (see `Bound`); None if a leaf is neither.

    Most of what Bevel adds to the time of a call.
    """
    raw_type = handle.raw_type
    key = [config.trace_key(), structure]
    raws: list[Any] | None = []
    for x in leaves:
        if type(x) is not Array:
            return _read_mixed(leaves, structure)
        held = x._held
        if type(held) is not raw_type:
            if type(held) is np.ndarray:
                raws = None
                key.append(Aval(held.shape, held.dtype))
            elif type(held) is Buffer:
                held = held.raw
            else:
                return None
        if raws is not None:
            raws.append(held)
            key.append(held.aval)
        elif type(held) is not np.ndarray:
            key.append(held.aval)
        if x._tag is not None:
            key.append(tag_key(x._tag))
    return leaves, raws, tuple(key), ()


_DATA = (np.ndarray, bool, int, float, complex)


def _read_mixed(leaves: Sequence[Any], structure: Any) -> tuple[Any, Any, Any, Any] | None:
    handles: list[Any] = []
    owners: list[Any] = []
    marks: list[Any] = []
    for x in leaves:
        mark = None
        if type(x) is Array:
            handles.append(x)
        elif type(x) in _DATA:
            if transfers.on:
                transfers.host_data(x)
            handles.append(enter(x))
        elif isinstance(x, Cell) or hasattr(x, "__bevel_structure__"):
            owner = x if isinstance(x, Cell) else x.__bevel_structure__()
            owners.append(owner)
            mark = id(owner)
        else:
            return None
        marks.append(mark)
    if not owners and len(marks) != len(handles):
        return None
    found = read(handles, (structure, *marks))
    return None if found is None else (handles, *found[1:3], owners)


def rebuilder(output: Output) -> Callable[[list[Any]], Any]:
    """What makes a program's results from what it returned."""
    treedef, tags = output.treedef, output.tags
    if any(t is not None for t in tags):
        return lambda values: tree.unflatten(treedef, rewrap(values, tags))
    if treedef == tree.structure(0):
        return lambda values: Array(values[0])
    if treedef == tree.structure([0] * len(tags)):
        return lambda values: [Array(v) for v in values]
    return lambda values: tree.unflatten(treedef, [Array(v) for v in values])


def moved(h: Handle, device: Any) -> Any:
    """What a handle holds as the runtime's array on a device, where NumPy data stays."""
    value = h._v
    raw = to_raw(value, device)
    if type(value) is np.ndarray:
        h._held = raw
    return raw


def run_program(program: Program, consts: list[Any], handles: Sequence[Handle]) -> list[Any]:
    """Run on handles; NumPy data, theirs and that of constants, is moved to the device once and
    stays there.

    Results are the runtime's arrays, for handles to hold.
    """
    n = len(consts)
    values = [*consts, *[h._v for h in handles]]
    device = common_device([values[i] for i in program.kept])
    raws = []
    for i in program.kept:
        if i >= n:
            raws.append(moved(handles[i - n], device))
        else:
            raws.append(moved_constant(consts[i], device))
            if type(consts[i]) is np.ndarray:
                consts[i] = Buffer(raws[-1])
    return program.executable(device).run(raws)


def calls_back(graph: Graph) -> bool:
    """Whether a program may call into Python while it runs."""
    return any(
        e.op.effect or e.op is callback or any(map(calls_back, subgraphs(e.params)))
        for e in graph.eqns
    )


STALE: Any = object()
"""Returned by `run` when what was looked up no longer holds."""


class Direct:
    """A program without state, with all that calling it on one device takes looked up
    beforehand.
    """

    __slots__ = ("consts", "device", "execute", "kept", "rebuild", "traced")

    def __init__(self, traced: Any, output: Output, device: Any):
        program = traced.program
        self.traced = traced
        self.consts = [c.raw for c in traced.consts]
        self.device = device
        self.execute = program.executable(device).run
        n = len(self.consts)
        everything = len(program.kept) == len(program.graph.inputs)
        self.kept = None if everything else [i - n for i in program.kept if i >= n]
        self.rebuild = rebuilder(output)

    def run(self, handles: Sequence[Handle], raws: list[Any] | None, owners: Sequence[Any]) -> Any:
        """Call with the handles of all argument leaves, and what they hold if it is all of the
        runtime's type.
        """
        if raws is None or (client.several_devices and elsewhere(raws, self.device)):
            values = run_program(self.traced.program, self.traced.consts, handles)
        else:
            if self.kept is not None:
                raws = [raws[i] for i in self.kept]
            values = self.execute([*self.consts, *raws] if self.consts else raws)
        for i in self.traced.consumed:
            consume(self.traced.program.name, handles[i], 3)
        return self.rebuild(values)


def elsewhere(raws: list[Any], device: Any) -> bool:
    """Whether a buffer is not on this device."""
    return any(client.device_of(raw) is not device for raw in raws)


class Bound:
    """A program with state, for the cells of particular objects: `owners`, the structures (or bare
    cells) that stand for the stateful arguments. `forget` is called when one of them dies.

    Contents of the cells it writes are in stores, so a call only looks whether they still are. The
    program is made for the layout of the stores, and shared by objects of the same layout.
    """

    __slots__ = (
        "buffers",
        "consts",
        "device",
        "donates",
        "execute",
        "fixed",
        "kept",
        "owners",
        "places",
        "program",
        "reads",
        "rebuild",
        "stores",
        "traced",
        "writes",
        "written",
    )

    def __init__(
        self,
        traced: Any,
        arguments: Call,
        owners: Sequence[Any] = (),
        forget: Callable[[Any], Any] | None = None,
    ):
        with ref.lock:
            self._bind(traced, arguments)
        self.owners = [weakref.ref(o, forget) for o in owners]

    def _bind(self, traced: Any, arguments: Call) -> None:
        if not traced.fits_cells(arguments):
            raise StateChanged(f"{self.__class__.__name__}: a cell has changed its type")
        graph, first = traced.graph, len(traced.consts) + len(arguments.handles)
        cells = traced.input_cells(arguments)
        for cell in cells:
            if cell._home is not None and type(cell._content) is not Slot:
                cell._home.store.restore()
        self.device = common_device(
            [
                *traced.consts,
                *[h._v for h in arguments.handles],
                *[c._content._v for c in cells if type(c._content) is not Slot],
                *[Buffer(s.buffers[0]) for s in _stores(cells)],
            ]
        )
        results = self._results(traced, arguments, cells, first)
        fresh: dict[type, list[Cell]] = {}
        for i in results:
            if type(cells[i]._content) is not Slot:
                fresh.setdefault(type(cells[i]), []).append(cells[i])
        how = kinds(graph.eqns) if fresh else {}
        made = {cells[i]: how.get(graph.outputs[o]) for i, o in results.items()}
        for group in fresh.values():
            Store(group, made, self.device)
        # A program that only reads, and was compiled before its cells moved, goes on as it is.
        plain = not results and traced.program.compiled
        numbers: dict[tuple[Store, int], int] = {}
        places: list[tuple[int, int | None] | None] = []
        for cell in cells:
            slot = cell._content
            if plain or type(slot) is not Slot or slot.store.device != self.device:
                places.append(None)
                continue
            buffer, start = slot.store.places[slot.index]
            places.append((numbers.setdefault((slot.store, buffer), len(numbers)), start))
        self.buffers = list(numbers)
        written = sorted({p[0] for i in results if (p := places[i]) is not None})
        avals = tuple([s.buffers[b].aval for s, b in self.buffers])
        self.program = traced.stored(Layout(tuple(places), avals, tuple(written)), results)
        self.donates = bool(written) and not traced.calls_back
        self.written: dict[Store, list[tuple[int, int]]] = {}  # buffers, and which outputs
        start = len(graph.outputs) - len(results)
        for position, number in enumerate(written, start):
            store, b = self.buffers[number]
            self.written.setdefault(store, []).append((b, position))
        own = list(dict.fromkeys([s for s, _ in self.buffers]))
        self.stores = [(s, s.lost) for s in own]
        self.places = [(own.index(s), b) for s, b in self.buffers]
        self.reads = [
            (weakref.ref(c), v.aval, tag_key(c._read()._tag))
            for c, v, p in zip(cells, graph.inputs[first:], places, strict=True)
            if p is None
        ]
        n, outputs = len(traced.output.tags), set(results.values())
        self.writes = [
            (weakref.ref(c), tag)
            for j, (c, tag) in enumerate(
                zip(traced.written_cells(arguments), traced.written_tags, strict=True)
            )
            if n + j not in outputs
        ]
        self.fixed = [
            (weakref.ref(c), c._content)
            for c in (*arguments.cells, *traced.captured)
            if not isinstance(c._content, Handle | Slot)
        ]
        self.traced = traced
        self.execute: Callable[[list[Any]], list[Any]] | None = None
        self.consts = [moved_constant(c, self.device) for c in traced.consts]
        traced.consts[:] = [
            Buffer(raw) if type(c) is np.ndarray else c  # it stays there
            for c, raw in zip(traced.consts, self.consts, strict=True)
        ]
        kept = self.program.kept
        self.kept = None if len(kept) == len(self.program.graph.inputs) else kept
        self.rebuild = rebuilder(traced.output_for(arguments))

    def _results(self, traced: Any, arguments: Call, cells: list[Cell], first: int):
        """For each input whose new content can go where the old one is, the output with it."""
        number = {c: i for i, c in enumerate(cells)}
        found: dict[int, int] = {}
        outputs = enumerate(traced.graph.outputs[len(traced.output.tags) :])
        for (j, out), cell, tag in zip(
            outputs, traced.written_cells(arguments), traced.written_tags, strict=True
        ):
            i = number.get(cell)
            if i is None or tag is not None or out.aval != traced.graph.inputs[first + i].aval:
                continue
            content = cell._content
            here = (
                content.store.device == self.device
                if type(content) is Slot
                else content._tag is None
            )
            if here:
                found[i] = len(traced.output.tags) + j
        return found

    def run(self, handles: Sequence[Handle], raws: list[Any] | None, owners: Sequence[Any]) -> Any:
        """Call with the handles of the arguments' arrays, what they hold (None: NumPy's arrays are
        among it), and what stands for the stateful arguments now.
        """
        if not (self.donates or self.writes) or self.traced.calls_back:
            return self._run(handles, raws, owners)
        if client.in_callback():  # what others compute needs the thread that would wait with it
            client.block_until_ready([b for s, _ in self.stores for b in s.buffers])
        with ref.lock:
            return self._run(handles, raws, owners)

    def _run(self, handles: Sequence[Handle], raws: list[Any] | None, owners: Sequence[Any]) -> Any:
        if not self._holds(owners):
            return STALE
        if raws is None:
            raws = [moved(h, self.device) for h in handles]
        elif client.several_devices and elsewhere(raws, self.device):
            return STALE
        args = [*self.consts, *raws]
        if self.reads:
            with ref.lock:  # all as they are at one time
                contents = [reference()._read() for reference, _, _ in self.reads]
            for (_, aval, tag), content in zip(self.reads, contents, strict=True):
                value = content._v if isinstance(content, Handle) else None
                if value is None or aval_of(value) is not aval or tag_key(content._tag) != tag:
                    return STALE
                args.append(moved(content, self.device))
        if self.donates:
            values = self._write(args)
        else:
            values = self._write_with_callbacks(args) if self.written else self._try(args)[0]
        n = len(self.traced.output.tags)
        for (reference, tag), value in zip(self.writes, values[n:], strict=False):
            reference()._write(wrap(value, fresh_tag(tag)))
        for i in self.traced.consumed:
            consume(self.program.name, handles[i], 3)
        return self.rebuild(values[:n])

    def _holds(self, owners: Sequence[Any]) -> bool:
        """Whether these are the objects it is for, with the contents of their cells in place."""
        for known, owner in zip(self.owners, owners, strict=True):
            if known() is not owner:
                return False
        for store, lost in self.stores:
            if store.departed:
                store.restore()
            if store.lost != lost:
                return False
        return all(cell()._content is content for cell, content in self.fixed)

    def _execute(self, args: list[Any], held: list[list[Any]]) -> list[Any]:
        args = args + [held[s][b] for s, b in self.places]
        if self.kept is not None:
            args = [args[i] for i in self.kept]
        if self.execute is None:
            self.execute = self.program.executable(self.device).run
        return self.execute(args)

    def _write(self, args: list[Any]) -> list[Any]:
        """Run, and keep what it has written; nobody else may read or write meanwhile."""
        for store, pairs in self.written.items():
            store.claim([b for b, _ in pairs])
        values = self._execute(args, [s.buffers for s, _ in self.stores])
        for store, pairs in self.written.items():
            store.put([(b, values[position]) for b, position in pairs])
        return values

    def _try(self, args: list[Any]) -> tuple[list[Any], list[list[Any]]]:
        """Run without the lock, again if another thread's program took a buffer first; returns the
        results, and the stores' buffers that it ran with.
        """
        while True:
            held = [s.buffers for s, _ in self.stores]
            try:
                return self._execute(args, held), held
            except DonatedBufferError:
                with ref.lock:  # until that one is done
                    if all(s.buffers is b for (s, _), b in zip(self.stores, held, strict=True)):
                        raise

    def _write_with_callbacks(self, args: list[Any]) -> list[Any]:
        """Run without the lock, which callbacks may need, and look whether that was seen."""
        with contextlib.ExitStack() as turns:
            if not client.in_callback():
                for store in sorted(self.written, key=id):
                    turns.enter_context(store.turn)
            values, held = self._try(args)
            before = {s: b for (s, _), b in zip(self.stores, held, strict=True)}
            with ref.lock:
                if any(store.buffers is not before[store] for store in self.written):
                    raise RuntimeError(
                        f"jit of {self.program.name} calls back into Python, and another thread "
                        "(or its own callback) wrote state that it writes too while it ran, so one "
                        "of the two updates is lost: this one.\n"
                        "Write instead: one lock around the calls that write the same state, or no "
                        "callback (bv.debug.print, bv.io_callback) in this function."
                    )
                for store, pairs in self.written.items():
                    store.seen.clear()  # callbacks may have read
                    store.put([(b, values[position]) for b, position in pairs])
        return values


def _stores(cells: Sequence[Cell]) -> list[Store]:
    return list(dict.fromkeys([c._content.store for c in cells if type(c._content) is Slot]))
