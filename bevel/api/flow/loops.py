"""What loops become: Python's own, unless a traced value decides; then `lax.while_loop` and
`lax.scan`.

The functions take the variables that a loop binds and give their new values.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import bevel.lax as lax
import bevel.numpy as bnp
from bevel.api.flow.branches import both, branch, negation
from bevel.api.flow.values import (
    Fixed,
    Undefined,
    Watch,
    is_hidden,
    is_struct,
    is_traced,
    peek,
    same,
    short,
    truth,
)
from bevel.core import tree
from bevel.core.errors import TracerConversionError

SCAN_FROM = 17
"""Loops over the rows of an array with at least so many are `lax.scan`, shorter ones unrolled."""


Watched = Sequence[tuple[str, Any]]


def loop(
    test: Callable,
    step: Callable,
    values: tuple,
    names: tuple[str, ...],
    line: str,
    watched: Watched,
) -> tuple:
    """`while test: step`; the variables' values afterwards."""
    while True:
        going = test(*values)
        if is_traced(going):
            return _Loop("while", step, names, line, watched).run(test, values)
        if not going:
            return values
        values = step(*values)


class _Loop:
    """A loop that a traced value controls, over the variables `names`."""

    def __init__(
        self, kind: str, step: Callable, names: tuple[str, ...], line: str, watched: Watched
    ):
        self.kind, self.step, self.names, self.line = kind, step, names, line
        self.watch = Watch(watched)

    def start(self, values: tuple, *items: Any) -> Fixed:
        """The variables before the first step; those not bound yet are zeros of the type that a
        step gives them.
        """
        start = list(values)
        missing = [i for i, v in enumerate(values) if isinstance(v, Undefined)]
        if missing:
            after = peek(lambda: self.step(*items, *values))
            for i in missing:
                if is_struct(after[i]):
                    start[i] = tree.map(lambda s: bnp.zeros(s.shape, s.dtype), after[i])
        return Fixed(start)

    def after(self, fixed: Fixed, *items: Any) -> list[Any]:
        """The arrays among the variables after a step."""
        arrays = []
        results = self.step(*items, *fixed.values)
        self.watch.check(f"`{self.kind}`", self.line)
        for name, dynamic, before, now in zip(
            self.names, fixed.dynamic, fixed.values, results, strict=True
        ):
            if dynamic:
                arrays.append(now)
            elif now is not before and not isinstance(now, Undefined) and not same(now, before):
                raise TypeError(
                    f"the `{self.kind}` at {self.line} is controlled by a traced value, and "
                    f"variable {name!r} changes from {short(before)} to {short(now)} in it.\n"
                    "Why: the loop becomes one program, which carries arrays only.\n"
                    "Write instead: numbers or arrays; lax.scan stacks what each step returns."
                )
        return arrays

    def run(self, test: Callable, values: tuple) -> tuple:
        """As `lax.while_loop`."""
        fixed = self.start(values)

        def going(arrays: list[Any]) -> Any:
            found = test(*fixed.merge(arrays))
            return truth(found) if is_traced(found) else bnp.asarray(bool(found))

        def go(arrays: list[Any]) -> list[Any]:
            return self.after(Fixed(fixed.merge(arrays), fixed.dynamic))

        return tuple(fixed.merge(self.explained(lax.while_loop, going, go, fixed.arrays())))

    def rows(self, values: tuple, over: Any) -> tuple:
        """As `lax.scan` over the rows of an array."""
        fixed = self.start(values, over[0])

        def go(arrays: list[Any], row: Any) -> tuple[list[Any], None]:
            return self.after(Fixed(fixed.merge(arrays), fixed.dynamic), row), None

        return tuple(fixed.merge(self.explained(lax.scan, go, fixed.arrays(), over)[0]))

    def explained(self, make: Callable, *args: Any) -> Any:
        """Make the loop; an error about the type of what it carries names the variables."""
        try:
            return make(*args)
        except TracerConversionError:
            raise
        except TypeError as e:
            shown = ", ".join(n for n in self.names if not is_hidden(n))
            raise TypeError(
                f"{e}\nThis is the `{self.kind}` at {self.line}, which a traced value controls: "
                f"its variables ({shown}) must keep their shapes and dtypes."
            ) from None


class Range:
    """`range` with a traced bound."""

    def __init__(self, *bounds: Any):
        start, stop, step = (0, *bounds, 1) if len(bounds) == 1 else (*bounds, 1)[:3]
        self.start, self.stop, self.step = (bnp.asarray(b) for b in (start, stop, step))


def each(
    over: Any,
    stopped: Callable | None,
    step: Callable,
    values: tuple,
    names: tuple[str, ...],
    line: str,
    watched: Watched,
) -> tuple:
    """`for item in over: step`; the variables' values afterwards."""
    if isinstance(over, Range):
        return _traced_range(over, stopped, step, values, names, line, watched)
    if is_traced(over) and over.ndim and over.shape[0] >= SCAN_FROM and stopped is None:
        return _Loop("for", step, names, line, watched).rows(values, over)
    for item in over:
        end = stopped is not None and stopped(*values)
        if is_traced(end):
            # Some step may have ended the loop: this one runs if none has.
            run = functools.partial(step, item)
            values = branch(negation(end), run, lambda *v: v, values, names, line, watched)
        elif end:
            break
        else:
            values = step(item, *values)
    return values


def _traced_range(over: Range, stopped, step, values, names, line, watched) -> tuple:
    def going(i: Any, *values: Any) -> Any:
        inside = bnp.where(over.step > 0, i < over.stop, i > over.stop)
        return both(inside, lambda: True if stopped is None else negation(stopped(*values)))

    def go(i: Any, *values: Any) -> tuple:
        return (i + over.step, *step(i, *values))

    start = bnp.asarray(over.start, dtype=bnp.result_type(over.start, over.step))
    made = _Loop("for", go, ("__bevel_i", *names), line, watched)
    return made.run(going, (start, *values))[1:]
