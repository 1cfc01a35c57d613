"""Watching ops: what the settings `debug_nans`, `debug_infs` and `debug_bounds` do.

While one of them is on, the outermost interpreter is a `Watch` in place of the eager one, so that
nothing is paid when they are off. A compiled program is then an op like any other, whose results
are looked at; only when they are bad is its graph run again op by op (`Search`), to find the op
that made the first bad value. Checks of bounds run every program op by op from the start.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from bevel.core import config, dtypes, interpreter
from bevel.core.aval import aval_of
from bevel.core.graph import subgraphs
from bevel.core.handle import Handle
from bevel.core.interpreter import EAGER, Eager, Interpreter, run_quietly, state, to_numpy, under
from bevel.core.source import Source, user_source, where

SETTINGS = ("debug_nans", "debug_infs", "debug_bounds")

_ADVICE = {
    "log": "bnp.log(bnp.maximum(x, tiny)), or bnp.log1p(x) for log(1 + x)",
    "sqrt": "bnp.sqrt(bnp.maximum(x, 0)); its derivative at 0 is infinite: add a small number",
    "rsqrt": "lax.rsqrt(x + eps)",
    "div": "x / bnp.where(y == 0, 1, y)",
    "exp": "bnp.exp(x - x.max()), or a log-space form: bnp.logaddexp, scipy.special.logsumexp",
    "pow": "a positive base, or an integer exponent",
}
_SAFE = "bnp.where(ok, f(bnp.where(ok, x, 1)), other), so that f gets a harmless x where not ok"
_WHERE = (
    "a `where` (at {}) ran before it: the value that it does not take is computed and "
    "differentiated all the same, and 0 * inf is NaN in its gradient.\nWrite instead: " + _SAFE
)
_NAN, _INF = "a NaN", "an infinity"


MOVES = frozenset(
    "broadcast_in_dim concatenate convert dynamic_slice dynamic_update_slice gather pad reshape "
    "rev scatter select slice sort split transpose".split()
)
"""Ops that pass values on. A NaN constant that only they see is meant, as in `where(ok, x, nan)`.
"""


class Origin(NamedTuple):
    """The op that made a bad value: its name and line, what it made, of what operands."""

    op: str
    source: Source | None
    out: np.ndarray
    operands: tuple[np.ndarray, ...]


def _holds_graph(params: dict[str, Any]) -> bool:
    return next(subgraphs(params), None) is not None


def _values(op: Any, outs: Any) -> Sequence[Any]:
    return outs if op.multiple else (outs,)


def _backward() -> bool:
    """Whether a transpose rule is running."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename.endswith(
            ("transforms/transpose.py", "transforms\\transpose.py")
        ):
            return True
        frame = frame.f_back
    return False


def described(array: np.ndarray) -> str:
    """A value for a message: its type, and its number or range.

    >>> described(np.array([1, np.nan, 3], np.float32))
    'float32[3] from 1.0 to 3.0, 1 NaN'
    """
    name = str(aval_of(array))
    if array.size == 1:
        return f"{name} = {array.reshape(())[()]}"
    if array.size == 0 or not (dtypes.is_float(array.dtype) or dtypes.is_integer(array.dtype)):
        return name
    if dtypes.is_integer(array.dtype):
        return f"{name} from {array.min()} to {array.max()}"
    wide = array.astype(np.float64)
    finite = wide[np.isfinite(wide)]
    span = f" from {finite.min()} to {finite.max()}" if finite.size else ""
    counts = ((np.isnan(wide).sum(), "NaN"), (np.isinf(wide).sum(), "infinite"))
    return f"{name}{span}" + "".join([f", {n} {what}" for n, what in counts if n])


class Reference(Eager):
    """Runs ops with one result by their reference rules, wherever new arrays live."""

    __slots__ = ()

    def run(self, op, args, params):
        return np.asarray(run_quietly(op.reference, *args, **params))


REFERENCE = Reference(None, "eager evaluation")


def misused(
    op: Any, facts: Sequence[Any], avals: Sequence[Any], params: dict[str, Any], src: Source | None
) -> Exception:
    """The error for an op whose operands are wrong, in the way that its `misuse` found."""
    what, fix = op.misuse.text(facts, avals, params)
    place = f"in `{op.name}` at {where(src)}{_line(src)}"
    return op.misuse.kind(f"{what}, {place}\nWrite instead: {fix}.")


def came_in(name: str, src: Source | None) -> FloatingPointError:
    """The error for a NaN that an op was given and did not make."""
    return FloatingPointError(
        f"{_NAN} came in with an operand of `{name}` at {where(src)}{_line(src)}\n"
        "Why: the data, or a constant, had it already; no op of the program made it.\n"
        "Write instead: bnp.nan_to_num(x), or leave those rows out before."
    )


class Watch(Eager):
    """Runs ops as `Eager` does, and looks at what they take and give."""

    __slots__ = ("bounds", "infs", "nans", "selected")

    def __init__(self, nans: bool, infs: bool, bounds: bool):
        super().__init__(None, "eager evaluation")
        self.nans = nans
        self.infs = infs
        self.bounds = bounds
        self.selected: Source | None = None

    def run(self, op, args, params):
        graph = _holds_graph(params)
        if self.bounds:
            if graph:
                given = [to_numpy(a) for a in args]
                return tuple(run_quietly(op.reference, *given, **params))
            if op.misuse is not None:
                self._check_use(op, args, params)
        outs = EAGER.run(op, args, params)
        if self.nans or self.infs:
            if op.name == "select":
                self.selected = user_source()
            values = [v for v in _values(op, outs) if dtypes.is_inexact(v.dtype)]
            if values and not interpreter.backend.finite(values):
                if graph:
                    self._search(op, args, params, values)
                elif any(map(self.bad, values)):
                    self._report(op, args, params, values)
        return outs

    def as_one(self, name: str, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function of values that makes NaN on the way and leaves it out of its result, as
        drawing by rejection does: only the result, a handle, is looked at.
        """
        with under(EAGER):
            out = fn(*args, **kwargs)
        if isinstance(out, Handle) and (what := self.bad(out._v)) is not None:
            origin = Origin(name, user_source(), to_numpy(out._v), ())
            raise FloatingPointError(_message(what, origin, None, False))
        return out

    def _check_use(self, op: Any, args: Sequence[Any], params: dict[str, Any]) -> None:
        if op.misuse.kind is ZeroDivisionError and not dtypes.is_integer(args[0].dtype):
            return
        avals, looked_at = list(map(aval_of, args)), [to_numpy(a) for a in args[op.misuse.looks]]
        with under(REFERENCE):
            found = op.misuse.find(looked_at, avals, params)
        if found is not None and found[0]:
            raise misused(op, found[1], avals, params, user_source())

    def bad(self, value: Any) -> str | None:
        """What is wrong with a value, if something is."""
        array = to_numpy(value)
        if not dtypes.is_inexact(array.dtype):
            return None
        if self.nans and np.isnan(array).any():
            return _NAN
        return _INF if self.infs and np.isinf(array).any() else None

    def _report(self, op, args, params, values) -> None:
        """Raise for an op that gave bad values; infinities only where it made them."""
        given, src = [to_numpy(a) for a in args], user_source()
        found, what = next((to_numpy(v), w) for v in values if (w := self.bad(v)))
        if not any(map(self.bad, given)):
            origin = Origin(op.name, src, found, tuple(given))
            raise FloatingPointError(_message(what, origin, self.selected, _backward()))
        if what == _NAN and op.name not in MOVES:
            raise came_in(params.get("name", op.name), src)

    def _search(self, op, args, params, values) -> None:
        """Raise for the op that made the bad values which these results are made of.

        A NaN can be made of infinities, so those are looked for in what gave NaN, too.
        """
        search = Search(Watch(True, True, False) if self.infs else self)
        with under(search):
            outs = search.run(op, args, params)
        made = [o for v in outs if (o := search.origins.get(id(v))) is not None]
        for origin in made:
            what = self.bad(origin.out)
            if what is not None:
                raise FloatingPointError(_message(what, origin, search.selected, False))
        if made or not any(map(self.bad, values)):
            return
        if any(map(self.bad, outs)):
            self._report(op, (*args, *outs), params, values)  # it came in, or is a constant
            return
        raise FloatingPointError(
            f"the program called at {where(user_source())} gave a number that is not finite; run "
            "op by op it does not.\n"
            "Why: the compiler orders and fuses operations, which rounds otherwise; a value is "
            "near the limits of its dtype.\n"
            "Write instead: the large or cancelling step in float64 (x.astype(bnp.float64)), or "
            "scaled."
        )


class Search(Eager):
    """Runs an op that holds a graph op by op, and remembers which op each bad value comes from.

    A bad value that nothing needs is not reported: only what the bad results are made of.
    """

    __slots__ = ("found", "kept", "origins", "selected", "watch")

    def __init__(self, watch: Watch):
        super().__init__(None, "eager evaluation")
        self.watch = watch
        self.origins: dict[int, Origin] = {}
        self.found: list[Origin] = []
        self.kept: list[Any] = []  # so that no other value gets the id of one of these
        self.selected: Source | None = None

    def run(self, op, args, params):
        start = len(self.found)
        if _holds_graph(params):
            given = [to_numpy(a) for a in args]
            outs = tuple(run_quietly(op.reference, *given, **params))
        elif op.effect and not op.abstract(*map(aval_of, args), **params):
            return ()  # printed already, when the program ran
        else:
            outs = EAGER.run(op, args, params)
        if op.name == "select":
            self.selected = user_source()
        for value in _values(op, outs):
            if id(value) not in self.origins and self.watch.bad(value):
                self._trace_back(op, args, params, value, self.found[start:])
        return outs

    def _trace_back(self, op, args, params, value: Any, inside: list[Origin]) -> None:
        bad = [a for a in args if self.watch.bad(a)]
        known = [o for a in bad if (o := self.origins.get(id(a))) is not None]
        if inside:
            origin = inside[0]
        elif known:
            origin = known[0]
        elif bad:  # it came in, or is a row of a value seen before
            if not self.found:
                return
            origin = self.found[0]
        elif _holds_graph(params):  # a literal of its graph
            return
        else:
            operands = tuple([to_numpy(a) for a in args])
            origin = Origin(op.name, user_source(), to_numpy(value), operands)
            self.found.append(origin)
        for v in (value, to_numpy(value)):
            self.origins[id(v)] = origin
            self.kept.append(v)


def _line(src: Source | None) -> str:
    text = "" if src is None else linecache.getline(src.file, src.line).strip()
    return f":\n    {text}" if text else ""


def _is_zero_times(origin: Origin) -> bool:
    """Whether it is what the gradient of a branch that is not taken meets: 0 * inf, or 0 / 0."""
    return origin.op in ("mul", "div") and any([(x == 0).any() for x in origin.operands])


def _made(what: str, op: str, src: Source | None, phase: str = "") -> str:
    return f"{what} was made by `{op}`{phase} at {where(src)}{_line(src)}"


def _advice(op: str, src: Source | None) -> Iterator[str]:
    line = _line(src)
    if op == "div" and line and "/" not in line and "div" not in line:
        yield "Why: it belongs to the derivative of that line, which has none where it is singular."
        yield f"Write instead: bnp.sqrt(x + eps) for a square root or a norm at 0, or {_SAFE}."
    elif op in _ADVICE:
        yield f"Write instead: {_ADVICE[op]}."
        yield f"If a `where` leaves this value out, it is computed all the same: {_SAFE}."
    else:
        yield "To look around there: bv.debug.eager(f)(...) under pdb."


def made_nan(op: str, src: Source | None, outs: str, operands: str) -> FloatingPointError:
    """The error for an op that made a NaN of numbers, where only shapes are known."""
    made = f"It made {outs}, of {operands}." if operands else f"It made {outs}."
    return FloatingPointError("\n".join([_made(_NAN, op, src), made, *_advice(op, src)]))


def _lines(what: str, origin: Origin, selected: Source | None, backward: bool) -> Iterator[str]:
    phase = " in the backward pass, by the derivative of the line" if backward else ""
    yield _made(what, origin.op, origin.source, phase)
    operands = ", of " + "; ".join(map(described, origin.operands)) if origin.operands else ""
    yield f"It made {described(origin.out)}{operands}."
    if selected is not None and what == _NAN and _is_zero_times(origin):
        yield f"Why: {_WHERE.format(where(selected))}."
    elif any([dtypes.is_inexact(x.dtype) and np.isinf(x).any() for x in origin.operands]):
        yield "Why: an operand is infinite already. bv.debug.infs() names the line that made it so."
    else:
        yield from _advice(origin.op, origin.source)


def _message(what: str, origin: Origin, selected: Source | None, backward: bool) -> str:
    return "\n".join(_lines(what, origin, selected, backward))


# -- settings --------------------------------------------------------------------------------------


def outermost() -> Interpreter:
    """The interpreter outside every transform, as the settings of this thread want it."""
    flags = [config.get(name) for name in SETTINGS]
    return Watch(*flags) if any(flags) else EAGER


def _changed() -> None:
    if state.current.outer is not None:
        raise RuntimeError(
            f"the settings {', '.join(SETTINGS)} (bv.debug.nans(), infs(), checked(f)) were "
            f"changed inside {state.current.what}, at {where(user_source())}.\n"
            "Why: they look at values, and a function that is being transformed has none.\n"
            "Write instead: put them around the call: with bv.debug.nans(): bv.jit(f)(x), or "
            "bv.debug.checked(bv.jit(f))."
        )
    state.current = outermost()


def install() -> None:
    """Follow the settings from now on, in all threads."""
    interpreter.set_outermost(outermost)
    config.on_change(SETTINGS, _changed)
    if any(map(config.get, SETTINGS)):
        _changed()
