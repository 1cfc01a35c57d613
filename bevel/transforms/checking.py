"""Checks inside programs: an interpreter that computes, next to what ops give, whether they fail.

An error is one int32, the number of the check that failed first (0: none), and small values for its
message as uint32 words. Ops that hold graphs (`Op.check`) return the error of what is in them as
further results: `checked_graph` gives the graph that does. So an error is an array like any other,
and what is checked can be compiled, mapped over and differentiated.

Messages never enter a program: `Failure`s are numbered by what they say, in a table of the process.
See docs/decisions/checkify.md.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from bevel.core import dtypes, watch
from bevel.core.aval import Aval, aval_of
from bevel.core.graph import INLINE_SIZE, Graph, evaluate, trace_closed
from bevel.core.interpreter import Interpreter, state, under
from bevel.core.op import Misuse, Op, Unsupported
from bevel.core.source import user_source
from bevel.ops import (
    add,
    argmax,
    bitcast,
    broadcast_in_dim,
    concatenate,
    convert,
    dynamic_slice,
    effect_callback,
    gt,
    imag,
    ne,
    pad,
    real,
    reduce_sum,
    reshape,
    select,
    zeros_like,
)
from bevel.ops.host import innermost
from bevel.transforms.vmap import Axis, vmap

Kinds = frozenset[type[Exception]]
"""Which errors are looked for, by their classes."""

_PASSING = watch.MOVES.union(
    "abs all_gather all_to_all bitcast callback ceil clamp complex conj cummax cummin dce_sink "
    "floor imag max min name neg optimization_barrier pmax pmin ppermute real reduce_max "
    "reduce_min reduce_precision reduce_window_max reduce_window_min round scatter_max "
    "scatter_min select_n sign top_k".split()
)
"""Ops that make no NaN of numbers: one in their results came from an operand, or is meant."""


# -- what can fail ---------------------------------------------------------------------------------


class Failure(NamedTuple):
    """What a check says when it fails.

    Args:
        about: what tells it from other failures.
        layout: of the values that its message shows.
        error: the exception, from those values.
    """

    about: tuple[Any, ...]
    layout: tuple[Aval, ...]
    error: Callable[[Sequence[np.ndarray]], Exception]


_failures: dict[int, Failure] = {}


def number_of(failure: Failure) -> np.ndarray:
    """The number of a failure; the same in each process, so that programs are found on disk."""
    text = repr((failure.about, failure.layout))
    number = zlib.crc32(text.encode()) & 0x7FFFFFFF or 1
    while _failures.setdefault(number, failure)[:2] != failure[:2]:
        number = number % 0x7FFFFFFF + 1
    return np.asarray(number, np.int32)


def exception_of(number: int, words: np.ndarray) -> Exception:
    """The exception that an error stands for."""
    failure = _failures.get(number)
    if failure is None:
        return RuntimeError(
            f"check {number} failed, of a program that was traced in another process.\n"
            "Write instead: err.get() where the program runs, which gives the message as text."
        )
    return failure.error(_unpacked(words, failure.layout))


# -- values as words -------------------------------------------------------------------------------


def _wide(dtype: np.dtype) -> np.dtype:
    """The dtype of 32 or 64 bits in which a number of this dtype is kept."""
    wide = {"b": dtypes.uint32, "u": dtypes.uint32, "i": dtypes.int32, "f": dtypes.float32}
    if dtypes.is_complex(dtype):
        return dtypes.float64 if dtype.itemsize == 16 else dtypes.float32
    return dtype if dtype.itemsize in (4, 8) else wide[dtypes.kind(dtype)]


def _packed(values: Sequence[Any]) -> Any:
    """Values as one vector of words; None for none."""
    if not values:
        return None
    parts = []
    for v in values:
        wide = _wide(np.dtype(v.dtype))
        for part in (real(v), imag(v)) if dtypes.is_complex(v.dtype) else (v,):
            part = part if part.dtype == wide else convert(part, dtype=wide)
            words = bitcast(part, dtype=dtypes.uint32) if wide != dtypes.uint32 else part
            parts.append(reshape(words, shape=(aval_of(words).size,)))
    return parts[0] if len(parts) == 1 else concatenate(*parts, axis=0)


def _unpacked(words: np.ndarray, layout: Sequence[Aval]) -> list[np.ndarray]:
    """The values again."""
    words, found = np.ascontiguousarray(words), []
    for aval in layout:
        wide = np.dtype(_wide(aval.dtype))
        n = aval.size * wide.itemsize // 4
        parts = []
        for _ in range(2 if dtypes.is_complex(aval.dtype) else 1):
            parts.append(words[:n].view(wide).reshape(aval.shape))
            words = words[n:]
        value = parts[0] + 1j * parts[1] if len(parts) == 2 else parts[0]
        found.append(value.astype(aval.dtype))
    return found


def widened(words: Any, width: int) -> Any:
    """Words with zeros after them."""
    have = 0 if words is None else words.shape[-1]
    if have == width:
        return words
    if words is None:
        return np.zeros(width, np.uint32)
    return pad(words, np.zeros((), np.uint32), config=((0, width - have, 0),))


# -- errors as values ------------------------------------------------------------------------------

Found = tuple[Any, Any]
"""A number (int32 scalar) and words (a vector, or None)."""


def _width(found: Iterable[Found]) -> int:
    return max([0 if w is None else w.shape[-1] for _, w in found], default=0)


def nothing(width: int) -> list[Any]:
    """No error, as values: its number, and words where there are any."""
    number = np.zeros((), np.int32)
    return [number, np.zeros(width, np.uint32)] if width else [number]


def first(a: Sequence[Any], b: Sequence[Any]) -> list[Any]:
    """The first of two errors, as values of the same width."""
    failed = ne(a[0], zeros_like(a[0]))
    return [select(_spread(failed, x), x, y) for x, y in zip(a, b, strict=True)]


def _spread(flag: Any, like: Any) -> Any:
    shape = tuple(like.shape)
    return broadcast_in_dim(flag, shape=shape, dims=()) if shape else flag


def folded(found: Sequence[Found], width: int | None = None) -> list[Any]:
    """The first of several errors, as values."""
    width = _width(found) if width is None else width
    errors = [[n, widened(w, width)] if width else [n] for n, w in found]
    if not errors:
        return nothing(width)
    return functools.reduce(lambda later, earlier: first(earlier, later), reversed(errors))


def first_row(number: Any, words: Any) -> Found:
    """Of an error for each row (axis 0), that of the first row that has one."""
    n = number.shape[0]
    if n == 0:
        none = nothing(0 if words is None else words.shape[1])
        return none[0], none[1] if len(none) == 2 else None
    bad = convert(ne(number, zeros_like(number)), dtype=dtypes.int32)
    at = argmax(bad, axis=0, index_dtype=dtypes.int32)

    def row(x: Any) -> Any:
        rest = tuple(x.shape[1:])
        starts = (at, *[np.zeros((), np.int32)] * len(rest))
        return reshape(dynamic_slice(x, *starts, sizes=(1, *rest)), shape=rest)

    return row(number), None if words is None else row(words)


class Report:
    """A callback whose only effect is to raise: checks find out whether it would."""

    kind: type[Exception] | None = None
    """The class of its errors; None for any."""

    silent = False
    """Whether it raises nothing where it is not checked."""

    def found(self, values: Sequence[Any]) -> Found:
        """The error that it raises for these values."""
        raise NotImplementedError


def _reported(fn: Any, values: Sequence[Any]) -> Found:
    """The error of a report, which may run for each row."""
    if isinstance(fn, Report):
        return fn.found(values)
    layout: list[bool] = []

    def one(*row: Any) -> list[Any]:
        number, words = _reported(fn.fn, row)
        layout[:] = [words is not None]
        return [number] if words is None else [number, words]

    outs, batched = vmap(one, Axis(fn.size), values, fn.batched)
    if not any(batched):
        return outs[0], outs[1] if layout[0] else None
    rows = [
        o if b else broadcast_in_dim(o, shape=(fn.size, *o.shape), dims=tuple(range(1, 1 + o.ndim)))
        for o, b in zip(outs, batched, strict=True)
    ]
    return first_row(rows[0], rows[1] if layout[0] else None)


def fails(bad: Any, failure: Failure, values: Sequence[Any]) -> Found:
    """The error of one check."""
    number = number_of(failure)
    return select(bad, number, np.zeros((), np.int32)), _packed(values)


# -- the interpreter -------------------------------------------------------------------------------


class Checks(Interpreter):
    """Runs ops, and collects the errors that it looks for in them.

    `clean` holds values that can be NaN only after an error: those that checked ops have made.
    """

    __slots__ = ("clean", "constants", "counts", "found", "kinds")
    first = staticmethod(first)
    nothing = staticmethod(nothing)

    def __init__(
        self, outer: Interpreter, kinds: Kinds, clean: Iterable[Any] = (), what: str = "checkify"
    ):
        super().__init__(outer, what)
        self.kinds = kinds
        self.found: list[Found] = []
        self.clean: dict[int, Any] = {id(v): v for v in clean}
        self.constants: dict[int, Any] = {}
        self.counts: dict[int, Any] = {}

    def run(self, op, args, params):
        saved = state.current
        state.current = self.outer
        try:
            return self._run(op, args, params)
        finally:
            state.current = saved

    def _run(self, op, args, params):
        if op.check is not None:
            return tuple(op.check(self, args, params))
        report = innermost(params["fn"]) if op is effect_callback else None
        if isinstance(report, Report) and (report.kind is None or report.kind in self.kinds):
            self.found.append(_reported(params["fn"], args))
            return ()
        if op.misuse is not None and op.misuse.kind in self.kinds:
            self._look_at_operands(op, op.misuse, args, params)
        outs = op(*args, **params)
        if FloatingPointError in self.kinds:
            self._look_at_results(op, args, params, outs if op.multiple else (outs,))
        if args and not op.multiple:
            self._follow_constant(op, args, params, outs)
        return outs

    def known(self, value: Any) -> np.ndarray | None:
        """The contents of a value that does not depend on the function's arguments."""
        return value if type(value) is np.ndarray else self.constants.get(id(value), (None,))[0]

    def _follow_constant(self, op: Op, args: Sequence[Any], params: dict, out: Any) -> None:
        """Take note of a small result that is known, so that what it cannot fail at is not checked:
        an index that is a constant, say.
        """
        values = [self.known(a) for a in args]
        if any(v is None for v in values) or op.effect or isinstance(op.reference, Unsupported):
            return
        if aval_of(out).size <= INLINE_SIZE and type(out) is not np.ndarray:
            self.constants[id(out)] = (watch.REFERENCE.run(op, values, params), out)

    def _look_at_operands(
        self, op: Op, misuse: Misuse, args: Sequence[Any], params: dict[str, Any]
    ) -> None:
        avals, values = list(map(aval_of, args)), args[misuse.looks]
        constants = [self.known(v) for v in values]
        if all(v is not None for v in constants):
            with under(watch.REFERENCE):
                found = misuse.find(constants, avals, params)
            if found is None or not found[0]:
                return
        found = misuse.find(values, avals, params)
        if found is None:
            return
        src, (bad, facts) = user_source(), found
        layout = tuple(map(aval_of, facts))
        about = (op.name, str(src), tuple(avals), repr(sorted(params.items())))
        error = functools.partial(watch.misused, op, avals=avals, params=params, src=src)
        self.found.append(fails(bad, Failure(about, layout, error), facts))

    # -- NaN

    def is_clean(self, value: Any) -> bool:
        """Whether a value has no NaN as long as nothing has failed."""
        if not dtypes.is_inexact(value.dtype) or id(value) in self.clean:
            return True
        known = self.known(value)
        return known is not None and not np.isnan(known).any()

    def keep_clean(self, values: Iterable[Any]) -> None:
        """Take note of values that can be NaN only after an error."""
        self.clean.update((id(v), v) for v in values)

    def _count(self, value: Any) -> Any:
        """How many NaN are in a value."""
        if id(value) not in self.counts:
            wrong = convert(ne(value, value), dtype=dtypes.int32)
            count = reduce_sum(wrong, axes=tuple(range(len(value.shape))))
            self.counts[id(value)] = (count, value)
        return self.counts[id(value)][0]

    def _total(self, values: Sequence[Any]) -> Any:
        total = self._count(values[0])
        for v in values[1:]:
            total = add(total, self._count(v))
        return total

    def _look_at_results(
        self, op: Op, args: Sequence[Any], params: dict[str, Any], outs: Sequence[Any]
    ) -> None:
        made = [o for o in outs if dtypes.is_inexact(o.dtype)]
        dirty = [a for a in args if not self.is_clean(a)]
        if op.name in _PASSING:
            outside = op.name in ("bitcast", "callback") or params.get("mode") == "fill"
            if not dirty and not outside:
                self.keep_clean(made)
            return
        if not made:
            return
        count = self._total(made)
        bad, src = gt(count, zeros_like(count)), user_source()
        outs_text, operands = ("; ".join(map(str, map(aval_of, vs))) for vs in (outs, args))

        def error(shown: Sequence[np.ndarray]) -> Exception:
            return watch.made_nan(op.name, src, f"{outs_text} with {shown[0]} NaN", operands)

        failure = Failure(("nan", op.name, str(src), outs_text, operands), (aval_of(count),), error)
        number, words = fails(bad, failure, [count])
        if dirty:
            came = Failure(
                ("came in", op.name, str(src)), (), lambda _: watch.came_in(op.name, src)
            )
            given = self._total(dirty)
            from_outside = fails(gt(given, zeros_like(given)), came, [])[0]
            both = first([from_outside], [number])[0]
            number = select(bad, both, zeros_like(both))
        self.found.append((number, words))
        self.keep_clean(made)

    # -- ops that hold graphs

    def graph(self, graph: Graph, args: Sequence[Any], width: int | None = None) -> Checked | None:
        """The graph with the errors in it as further results; None if nothing can fail in it.

        With a `width` the result has words of that width, and is never None.
        """
        return checked_graph(graph, self.kinds, tuple([self.is_clean(a) for a in args]), width)

    def through(self, op: Op, args: Sequence[Any], params: dict[str, Any], field: str) -> Any:
        """Run an op that evaluates one graph on its operands once."""
        inner = self.graph(params[field], args)
        if inner is None:
            return self.plain(op, args, params)
        return self.take(op(*args, **{**params, field: inner.graph}), inner.width, inner.clean)

    def plain(self, op: Op, args: Sequence[Any], params: dict[str, Any]) -> Any:
        """Run an op in whose graphs nothing can fail."""
        outs = op(*args, **params)
        if all(map(self.is_clean, args)):
            self.keep_clean(outs)
        return outs

    def take(self, outs: Sequence[Any], width: int, clean: Sequence[bool]) -> Sequence[Any]:
        """Results without the error after them, which is taken note of."""
        n = len(outs) - len(nothing(width))
        self.found.append((outs[n], outs[n + 1] if width else None))
        self.keep_clean([o for o, c in zip(outs[:n], clean, strict=True) if c])
        return outs[:n]


class Checked(NamedTuple):
    """A graph whose last results are its error; and which of the others can be NaN only with it."""

    graph: Graph
    width: int
    clean: tuple[bool, ...]


def checked_graph(
    graph: Graph, kinds: Kinds, clean: tuple[bool, ...], width: int | None = None
) -> Checked | None:
    """The graph with the errors in it as further results; None if nothing can fail in it.

    `clean` marks inputs that are not NaN; with a `width` there are results in any case.
    """

    def make() -> Checked | None:
        known: dict[str, Any] = {}

        def fn(*args: Any) -> list[Any]:
            inputs = [a for a, c in zip(args, clean, strict=True) if c]
            with Checks(state.current, kinds, inputs) as checks:
                outs = evaluate(graph, args)
            known["width"] = _width(checks.found) if width is None else width
            known["clean"] = tuple(map(checks.is_clean, outs))
            known["none"] = not checks.found and width is None
            return [*outs, *folded(checks.found, known["width"])]

        found = trace_closed(fn, graph.in_avals, "checkify")
        return None if known["none"] else Checked(found, known["width"], known["clean"])

    return graph.cached(("checked", kinds, clean, width), make)
