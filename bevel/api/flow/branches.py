"""What branches, `and`, `or`, `not` and `assert` become: Python's own, unless a traced value
decides; then `lax.cond`.

The functions take the variables that a branch binds and give their new values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import bevel.lax as lax
import bevel.numpy as bnp
from bevel.api.callbacks import io_callback
from bevel.api.flow.values import (
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
from bevel.core.handle import Handle


def branch(
    test: Any,
    yes: Callable,
    no: Callable,
    values: tuple,
    given: tuple[str, ...],
    line: str,
    watched: Sequence[tuple[str, Any]] = (),
    guard: bool = False,
) -> tuple:
    """`if test: ... else: ...`; the new values of the variables `given`.

    A `guard` is what comes after an early exit: all that reads what it binds is guarded, too.
    """
    if not is_traced(test):
        return (yes if test else no)(*values)
    watch = Watch(watched)
    # Each branch is traced once to see which results are arrays on both sides.
    shapes = [peek(lambda body=body: body(*values)) for body in (yes, no)]
    watch.check("`if`", line)
    plans = [_plan(name, a, b, line, guard) for name, a, b in zip(given, *shapes, strict=True)]

    def final(body: Callable) -> Callable[[], list[Any]]:
        def go() -> list[Any]:
            return [
                p.fill if p.fill is not None and isinstance(r, Undefined) else r
                for p, r in zip(plans, body(*values), strict=True)
                if p.carried
            ]

        return go

    found = iter(lax.cond(truth(test), final(yes), final(no)))
    return tuple([next(found) if p.carried else p.value for p in plans])


class _Plan:
    """What becomes of one variable of a branch: `carried` through `cond`, or `value` as it is."""

    __slots__ = ("carried", "fill", "value")

    def __init__(self, carried: bool, value: Any = None, fill: Any = None):
        self.carried, self.value, self.fill = carried, value, fill


def _plan(name: str, a: Any, b: Any, line: str, guard: bool) -> _Plan:
    if isinstance(a, Undefined) or isinstance(b, Undefined):
        one, other = (a, b) if isinstance(a, Undefined) else (b, a)
        if isinstance(other, Undefined):
            return _Plan(False, one if one.name != name else other)
        if one.name != name:
            one.used()
        if (guard or is_hidden(name)) and is_struct(other):
            return _Plan(True, fill=tree.map(lambda s: bnp.zeros(s.shape, s.dtype), other))
        why = f"only one branch of the `if` at {line} binds it, and which one runs is traced"
        return _Plan(False, Undefined(name, f"{why}: bind it before the `if`"))
    if is_struct(a) and is_struct(b) and _agree(a, b):
        return _Plan(True)
    if a is b or same(a, b):
        return _Plan(False, a)
    what = "the function returns" if is_hidden(name) else f"variable {name!r} is"
    raise TypeError(
        f"the `if` at {line} has a traced condition, and {what} {short(a)} in one branch and "
        f"{short(b)} in the other.\n"
        "Why: both branches become one program (lax.cond), and what they bind or return has one "
        "structure, shape and dtype there.\n"
        "Write instead: give both the same type (.astype, .reshape, a return in both), or decide "
        "by something that is not traced: a shape, or an argument marked static."
    )


def _agree(a: Any, b: Any) -> bool:
    """Whether two trees of types have a common one; a Python number takes the other's dtype."""
    if tree.structure(a) != tree.structure(b):
        return False
    return all(
        x.shape == y.shape and (x.dtype == y.dtype or x.weak or y.weak)
        for x, y in zip(tree.leaves(a), tree.leaves(b), strict=True)
    )


def choice(test: Any, yes: Callable[[], Any], no: Callable[[], Any], line: str) -> Any:
    """`yes() if test else no()`."""
    if not is_traced(test):
        return yes() if test else no()
    [found] = branch(test, lambda: (yes(),), lambda: (no(),), (), ("__bevel_value",), line)
    return found


def both(a: Any, b: Callable[[], Any]) -> Any:
    """`a and b()`."""
    if not is_traced(a):
        return a and b()
    yes, other = truth(a), b()
    if isinstance(other, Handle | bool | np.bool_) and bnp.asarray(other).dtype == bool:
        return bnp.logical_and(yes, other if is_traced(other) else bool(other))
    return choice(yes, lambda: other, lambda: a, "an `and`")


def either(a: Any, b: Callable[[], Any]) -> Any:
    """`a or b()`."""
    if not is_traced(a):
        return a or b()
    yes, other = truth(a), b()
    if isinstance(other, Handle | bool | np.bool_) and bnp.asarray(other).dtype == bool:
        return bnp.logical_or(yes, other if is_traced(other) else bool(other))
    return choice(yes, lambda: a, lambda: other, "an `or`")


def negation(a: Any) -> Any:
    """`not a`."""
    return bnp.logical_not(truth(a)) if is_traced(a) else not a


def check(test: Any, message: Any) -> None:
    """`assert test, message`; a traced one is checked when the program runs."""
    text = message() if callable(message) else None
    if not is_traced(test):
        if not test:
            raise AssertionError(text) if text is not None else AssertionError
        return

    def verify(ok: Any) -> None:
        if not ok:
            raise AssertionError(text if text is not None else "")

    io_callback(verify, None, truth(test))
