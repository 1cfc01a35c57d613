"""What a program needs of a device's memory, what it makes there and where, and what else is there.

For the errors of programs that do not fit. Everything but `limit` and `ran` takes its time.
"""

from __future__ import annotations

import collections
import functools
import gc
import re
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from bevel.core import config, machine
from bevel.core.aval import Aval
from bevel.core.handle import Handle
from bevel.core.source import where
from bevel.core.variables import held_by, is_array, named_arrays

SHOWN = 6
"""So many values and arrays are listed."""

SMALL = 1 << 20
"""Smaller arrays are not."""

clients: dict[str, Any] = {}
"""The clients of this process, by platform."""

ran: collections.deque[weakref.ref] = collections.deque(maxlen=64)
"""The programs with large results that ran last."""


# -- what there is


@functools.cache
def _total(device: Any) -> int | None:
    if device.platform == "cpu":
        memory = machine.memory()
        return None if memory is None else memory[0]
    return (device.memory_stats() or {}).get("bytes_limit")


def limit(device: Any) -> int | None:
    """Bytes of memory that programs on a device may use: the setting `memory_limit_bytes`, else
    what it has (for the CPU, what the machine and this process's cgroups allow); None if unknown.
    """
    chosen = config.get("memory_limit_bytes")
    return _total(device) if chosen is None else chosen


def room(device: Any) -> int | None:
    """Bytes that something put on a device may take; None if unknown."""
    most = limit(device)
    if most is None or device.platform == "cpu":  # what is put there is in its memory already
        return most
    return max(0, most - (device.memory_stats() or {}).get("bytes_in_use", 0))


def human(nbytes: float) -> str:
    """`1.5 GiB`.

    >>> human(1536 * 2**20), human(12)
    ('1.5 GiB', '12 bytes')
    """
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if nbytes >= 1 << power:
            return f"{nbytes / (1 << power):.1f} {unit}"
    return f"{int(nbytes)} bytes"


# -- what a program makes

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.\-]+ = (\(.*?\)|\S+) ([\w\-]+)\((.*)")
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+[a-z0-9]*)\[([\d,]*)\]")
_DTYPES = {"pred": "bool", "s": "int", "u": "uint", "f": "float", "bf": "bfloat", "c": "complex"}
_NO_MEMORY = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"),
    *("while", "conditional", "call", "opt-barrier"),
}


class Value(NamedTuple):
    """Values that a program keeps in memory: how many such, of how many bytes each."""

    count: int
    nbytes: int
    type: str
    made: str


def _arrays(text: str) -> Iterator[tuple[str, int]]:
    """Types and sizes of the arrays in an HLO type, such as `(f32[2,3]{1,0}, s32[])`."""
    for name, shape in _ARRAY.findall(text):
        letters, bits = re.match(r"([a-z]+)(\d*)", name).groups()
        plain = _DTYPES.get(letters, letters) + bits if letters + bits == name else name
        size = int(np.prod([int(n) for n in shape.split(",") if n], dtype=object))
        yield f"{_DTYPES.get(name, plain)}[{shape}]", size * max(1, int(bits or 8) // 8)


def values(executable: Any) -> list[Value]:
    """What a program keeps in memory while it runs, the largest first, with the user's lines.

    XLA names in its own instructions the line of the StableHLO text that each came from.
    """
    text = executable.text()
    fused = set(re.findall(r" fusion\(.*?calls=%?([\w.\-]+)", text))
    lines = executable.stablehlo().splitlines()
    found: collections.Counter = collections.Counter()
    inside = ""
    for line in text.splitlines():
        head = _COMPUTATION.match(line)
        if head:
            inside = head[2]
        instruction = None if inside in fused else _INSTRUCTION.match(line)
        if instruction and instruction[2] not in _NO_MEMORY:
            made = _made(instruction[3], lines, executable.spans)
            for kind, nbytes in _arrays(instruction[1]):
                found[nbytes, kind, made] += 1
    made = [Value(n, nbytes, kind, at) for (nbytes, kind, at), n in found.items()]
    return sorted(made, key=lambda v: -v.count * v.nbytes)


def _made(metadata: str, lines: Sequence[str], spans: Sequence[tuple]) -> str:
    """Which op made an HLO instruction's result, and where (one of several, in a named scope)."""
    at = re.search(r"source_line=(\d+)", metadata)
    number = (
        re.match(r"\s*%(\d+)", lines[int(at[1]) - 1]) if at and int(at[1]) <= len(lines) else None
    )
    if number:
        around = [s for s in spans if s[0] < int(number[1]) <= s[1]]
        found = [min(around, key=lambda s: s[1] - s[0])] if around else []
    else:
        name = re.search(r'op_name="([^"]*)"', metadata)
        path = name[1] if name else ""
        found = [s for s in spans if s[3].scope and path.endswith(f"{s[3].scope}/{s[2]}")]
        longest = max([len(s[3].scope) for s in found], default=0)
        found = [s for s in found if len(s[3].scope) == longest]
    if not found:
        return "by XLA"
    places = list(dict.fromkeys([where(s[3]) for s in found]))
    more = ", ..." if len(places) > 3 else ""
    return f"{found[0][2]} at {' or '.join(places[:3])}{more}"


# -- what else is there


def held() -> dict[int, tuple[Any, Handle | None]]:
    """Every array of NumPy's or the runtime's that has contents, by id, with a handle on it if
    there is one.
    """
    found: dict[int, tuple[Any, Handle | None]] = {}
    for h in gc.get_objects():
        if isinstance(h, Handle):
            array = held_by(h)
            if is_array(array):
                found.setdefault(id(array), (array, h))
    for raw in [a for c in clients.values() for a in c.live_arrays()]:
        found.setdefault(id(raw), (raw, None))
    return {
        i: (array, h)
        for i, (array, h) in found.items()
        if type(array) is np.ndarray or not array.is_deleted()
    }


def live(but: Sequence[Any] = ()) -> list[tuple[int, str, str]]:
    """The large arrays that exist now, the largest first: bytes, type, who holds them if known."""
    names: dict[int, str] = {}
    for name, function, array in named_arrays():  # the outermost function keeps it
        names[id(array)] = f"`{name}` of {function}"
    found = []
    for i, (array, _) in held().items():
        aval = Aval(array.shape, array.dtype) if type(array) is np.ndarray else array.aval
        if aval.nbytes >= SMALL and not any(array is b for b in but) and _computed(array):
            found.append((aval.nbytes, repr(aval), names.get(i, "")))
    return sorted(found, key=lambda a: -a[0])


def _computed(array: Any) -> bool:
    """Whether an array is not the result of a program that failed."""
    try:
        if type(array) is not np.ndarray and array.is_ready():
            array.block_until_ready()
    except Exception:  # whatever its program failed with
        return False
    return True


# -- errors


def _needs(executable: Any) -> str:
    m = executable.memory_analysis()
    kept = f" ({human(m.alias_size_in_bytes)} in donated memory)" if m.alias_size_in_bytes else ""
    total = made(m) + m.argument_size_in_bytes
    return (
        f"{human(total)} in all: arguments {human(m.argument_size_in_bytes)}, results "
        f"{human(m.output_size_in_bytes)}{kept}, temporaries {human(m.temp_size_in_bytes)}"
    )


def made(analysis: Any) -> int:
    """Bytes that a program takes besides its arguments."""
    a = analysis
    return a.output_size_in_bytes + a.temp_size_in_bytes - a.alias_size_in_bytes


def _listed(title: str, rows: Sequence[str]) -> list[str]:
    return [title, *[f"  {row}" for row in rows[:SHOWN]]] if rows else []


def _has(device: Any) -> str:
    most = limit(device)
    if most is None:
        return ""
    allowed = config.get("memory_limit_bytes") is not None
    return f"; {device} {'may use' if allowed else 'has'} {human(most)}" + (
        " (the setting memory_limit_bytes)" if allowed else ""
    )


def _report(executable: Any, but: Sequence[Any] = ()) -> list[str]:
    """What makes it so large, what else is there, and what to do."""
    lines, advice, total = [], ["a smaller batch"], 0
    if executable is not None:
        large = values(executable)
        rows = [
            f"{human(v.nbytes)}{f' x {v.count}' if v.count > 1 else ''}  {v.type}, {v.made}"
            for v in large
            if v.nbytes * v.count * 100 >= large[0].nbytes * large[0].count
        ]
        lines += _listed("The largest values it makes, and your lines:", rows)
        m = executable.memory_analysis()
        total = made(m) + m.argument_size_in_bytes
        if m.temp_size_in_bytes >= m.output_size_in_bytes:
            advice += [
                "lax.map(f, rows, batch_size=n) for what is done row by row",
                "bv.remat around the parts of a function that is differentiated",
            ]
        if not m.alias_size_in_bytes and m.argument_size_in_bytes * 10 >= total:
            advice += ["donate_argnums for what a call replaces"]
    arrays = live(but)
    rows = [f"{human(n)}  {kind}{name and f', {name}'}" for n, kind, name in arrays]
    lines += _listed("The largest arrays that are alive now:", rows)
    if sum(n for n, *_ in arrays) * 10 >= total:
        advice += ["`del x`, or x.delete(), for arrays that are not needed any more"]
    return [*lines, f"Write instead: {'; '.join(advice)}."]


def refusal(executable: Any, arguments: Sequence[Any], most: int) -> MemoryError | None:
    """The error for a program that cannot fit into `most` bytes; None if it can, after all."""
    once = {id(b): b.aval.nbytes for b in arguments}
    if made(executable.memory_analysis()) + sum(once.values()) <= most:
        return None
    what = f"the program of {executable.name} was not run, since it cannot fit: it needs "
    what += f"{_needs(executable)}{_has(executable.devices[0])}."
    return MemoryError("\n".join([what, *_report(executable)]))


def exhausted(text: str, but: Sequence[Any] = ()) -> MemoryError:
    """The error for XLA's complaint that the memory of a device is used up.

    Results come later than the call; the program is the last one that asks for so much.
    """
    size = re.search(r"allocat\w* ([\d.]+) ?([KMGT]?)i?(?:bytes|B)", text)
    asked = int(float(size[1]) * 1024 ** " KMGT".index(size[2] or " ")) if size else 0
    known = [e for e in (ref() for ref in reversed(ran)) if e is not None]
    fitting = [e for e in known if 0 < asked <= made(e.memory_analysis())]
    executable = next((e for e in fitting if asked in _blocks(e)), next(iter(fitting), None))
    block = f"a block of {human(asked)} was refused" if asked else "a block was refused"
    if executable is None:
        what = f"the device ran out of memory: {block}. XLA says: {text}"
    else:
        what = f"the program of {executable.name} ran out of memory: {block}. It needs "
        what += f"{_needs(executable)}{_has(executable.devices[0])}."
    return MemoryError("\n".join([what, *_report(executable, but)]))


def _blocks(executable: Any) -> set[int]:
    """Sizes of the blocks that a program asks for, but for those of many temporaries."""
    return {executable.memory_analysis().temp_size_in_bytes} | {
        a.nbytes for a in executable.out_avals
    }
