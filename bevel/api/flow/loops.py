"""What loops become: Python's own, unless a traced value decides; then `lax.while_loop` and
`lax.scan`.

The functions take the variables that a loop binds and give their new values.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import bevel.lax as lax
import bevel.numpy as bnp
from bevel.api.flow.branches import both, branch, negation
from bevel.api.flow.failures import Step, raise_of
from bevel.api.flow.objects import GONE, Entry, Objects, Watch, Watched
from bevel.api.flow.values import (
    Fixed,
    Undefined,
    blank,
    is_array,
    is_hidden,
    is_struct,
    is_traced,
    peek,
    same,
    short,
    truth,
)
from bevel.core.errors import TracerConversionError, TracerIntegerConversionError
from bevel.core.source import user_source, where

SCAN_FROM = 17
"""Loops over the rows of an array with at least so many are `lax.scan`, shorter ones unrolled."""


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
        self.objects = Objects(watched)
        self.watch = Watch(watched, self.objects)
        self.entries: list[Entry] = []

    def start(self, values: tuple, *items: Any) -> Fixed:
        """The variables before the first step; those not bound yet are zeros of the type that a
        step gives them.
        """
        start = list(values)
        missing = [i for i, v in enumerate(values) if isinstance(v, Undefined)]
        if missing:
            # The other variables are traced there, as they will be in the loop.
            fixed = Fixed(start)
            step = functools.partial(self.objects.run, self.step)
            after = peek(lambda now: step(*items, *fixed.merge(now))[0], fixed.arrays())
            for i in missing:
                start[i] = blank(after[i]) if is_struct(after[i]) else after[i]
        return Fixed(start)

    def carry_entries(self, values: tuple, *items: Any) -> tuple:
        """Make what a step stores in objects variables of the loop; returns all their values."""
        if not self.objects.held:
            return values
        fixed, objects, step = self.start(values, *items), self.objects, self.step
        changed: dict[Entry, Any] = {}

        def look(now: list[Any], stored: list[Any]) -> list[Any]:
            objects.write(arrays, stored)
            changed.clear()
            changed.update(objects.run(step, *items, *fixed.merge(now))[1])
            return list(changed.values())

        # A step may store what was there, a 1 for a 1; but not once that is traced.
        while True:
            arrays = [e for e in self.entries if is_array(objects.initial(e))]
            types = peek(look, fixed.arrays(), list(map(objects.initial, arrays)))
            for e, now in zip(changed, types, strict=True):
                if now is GONE or objects.initial(e) is GONE:
                    objects.refuse(e, f"`{self.kind}`", self.line)
            new = [e for e in changed if e not in self.entries]
            self.entries += new
            if not new:
                break
        if not self.entries:
            return values

        def stored(*args: Any) -> tuple:
            n = len(args) - len(self.entries)
            objects.write(self.entries, args[n:])
            found, changed = objects.run(step, *args[:n])
            for e in changed:
                if e not in self.entries:
                    objects.refuse(e, f"`{self.kind}`", self.line)
            return (*found, *[changed.get(e, objects.initial(e)) for e in self.entries])

        self.step = stored
        self.names = (*self.names, *map(objects.name, self.entries))
        return (*values, *map(objects.initial, self.entries))

    def asking(self, test: Callable) -> Callable:
        """The condition of the loop, which may look into the objects."""
        n = len(self.entries)

        def ask(*values: Any) -> Any:
            now = self.objects.now()  # a `raise` in the body asks, too
            self.objects.write(self.entries, values[len(values) - n :])
            try:
                return test(*values[: len(values) - n])
            finally:
                self.objects.put(now)

        return ask if n else test

    def store(self, values: list[Any]) -> tuple:
        """Write the entries after the loop; the values of the variables."""
        n = len(values) - len(self.entries)
        if self.entries:
            self.objects.write(self.entries, values[n:])
        return tuple(values[:n])

    def after(self, fixed: Fixed, *items: Any) -> list[Any]:
        """The arrays among the variables after a step."""
        arrays = []
        results, changed = self.objects.run(self.step, *items, *fixed.values)
        for e in changed:
            self.objects.refuse(e, f"`{self.kind}`", self.line)
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
        values = self.carry_entries(values)
        test = self.asking(test)
        fixed = self.start(values)

        def going(arrays: list[Any]) -> Any:
            found = test(*fixed.merge(arrays))
            return truth(found) if is_traced(found) else bnp.asarray(bool(found))

        def go(arrays: list[Any]) -> list[Any]:
            with Step(lambda: going(arrays)):
                return self.after(Fixed(fixed.merge(arrays), fixed.dynamic))

        return self.store(fixed.merge(self.explained(lax.while_loop, going, go, fixed.arrays())))

    def rows(self, values: tuple, over: Any) -> tuple:
        """As `lax.scan` over the rows of an array."""
        values = self.carry_entries(values, over[0])
        fixed = self.start(values, over[0])

        def go(arrays: list[Any], row: Any) -> tuple[list[Any], None]:
            return self.after(Fixed(fixed.merge(arrays), fixed.dynamic), row), None

        return self.store(fixed.merge(self.explained(lax.scan, go, fixed.arrays(), over)[0]))

    def explained(self, make: Callable, *args: Any) -> Any:
        """Make the loop; an error about the type of what it carries names the variables."""
        try:
            return make(*args)
        except TracerConversionError:
            raise
        except TypeError as e:
            if f"the `{self.kind}` at {self.line}" in str(e) or raise_of(e) is not None:
                raise
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

    def refused(self, *args: Any) -> Any:
        """Raise the error for what needs to know the numbers."""
        raise TracerIntegerConversionError(
            f"the numbers of a `range` with a traced bound are asked for at "
            f"{where(user_source())}.\n"
            "Why: how many there are is known only when the program runs.\n"
            "Write instead: `for i in range(n):` as a statement of its own, which becomes a loop "
            "of the program; or i = bnp.arange(most), and bnp.where(i < n, ..., 0) for the numbers "
            "that count."
        )

    __iter__ = __len__ = __getitem__ = __reversed__ = __contains__ = __index__ = refused


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
