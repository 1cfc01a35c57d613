"""What branches, `and`, `or`, `not` and `in` become: Python's own, unless a traced value
decides; then `lax.cond`.

The functions take the variables that a branch binds and give their new values.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

import bevel.lax as lax
import bevel.numpy as bnp
from bevel.api.flow.failures import fail, raise_of, refuse_caught
from bevel.api.flow.objects import GONE, Entry, Objects, Watch, Watched
from bevel.api.flow.values import (
    Undefined,
    blank,
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
    watched: Watched = (),
    guard: bool = False,
) -> tuple:
    """`if test: ... else: ...`; the new values of the variables `given`.

    A `guard` is what comes after an early exit: all that reads what it binds is guarded, too.
    """
    if not is_traced(test):
        return (yes if test else no)(*values)
    objects = Objects(watched)
    watch = Watch(watched, objects)
    # Each branch is traced once to see which results are arrays on both sides.
    seen = [_seen(body, values, objects, line) for body in (yes, no)]
    watch.check("`if`", line)
    shapes = [s for s in seen if not isinstance(s, Exception)]
    if not shapes:
        raise seen[0]
    # What a branch that raises would bind nobody will ask for.
    (a, changed), (b, others) = shapes[0], shapes[-1]
    plans = [_plan(n, x, y, line, guard) for n, x, y in zip(given, a, b, strict=True)]
    entries = list(changed | others)
    for e in entries:
        x, y = (c[e] if e in c else objects.type_of(e) for c in (changed, others))
        if x is GONE or y is GONE:
            objects.refuse(e, "`if`", line)
        plans.append(_plan(objects.name(e), x, y, line, False))

    def final(body: Callable) -> Callable[[], list[Any]]:
        def go() -> list[Any]:
            try:
                results, new = objects.run(body, *values)
                found = [*results, *[new.get(e, objects.initial(e)) for e in entries]]
            except Exception as e:
                if len(shapes) == 2 or raise_of(e) is None:
                    raise
                fail(raise_of(e).make, raise_of(e).place)
                found = [blank(x) if is_struct(x) else x for x in (*a, *changed.values())]
            return [
                p.fill if p.fill is not None and isinstance(r, Undefined) else r
                for p, r in zip(plans, found, strict=True)
                if p.carried
            ]

        return go

    found = iter(lax.cond(truth(test), final(yes), final(no)))
    results = [next(found) if p.carried else p.value for p in plans]
    if entries:
        objects.write(entries, results[len(given) :])
    return tuple(results[: len(given)])


def _seen(
    body: Callable, values: tuple, objects: Objects, line: str
) -> tuple[list[Any], dict[Entry, Any]] | Exception:
    """What a branch gives (see `peek`) and stores in objects, or the error that it raises."""
    entries: list[Entry] = []

    def run() -> list[Any]:
        results, changed = objects.run(body, *values)
        entries[:] = changed
        return [*results, *changed.values()]

    try:
        found = peek(run)
        n = len(found) - len(entries)
        return found[:n], dict(zip(entries, found[n:], strict=True))
    except RecursionError as e:
        if "a traced value" in str(e):
            raise
        raise RecursionError(
            f"the `if` at {line} has a traced condition, and its branches call the function it is "
            "in again, without an end.\n"
            "Why: both branches are traced, so a recursion that a traced value would end has none."
            "\nWrite instead: a `while` loop, or a depth that is a Python number."
        ) from None
    except Exception as e:
        found = raise_of(e)
        if found is None:
            raise
        refuse_caught(found, line)
        return e


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
            return _Plan(True, fill=blank(other))
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


def within(x: Any, items: Any) -> Any:
    """`x in items`."""
    if isinstance(items, Handle) and (is_traced(items) or is_traced(x)):
        return bnp.any(bnp.equal(items, x))
    known = isinstance(items, list | tuple | set | frozenset | range)
    if not known or not (is_traced(x) or any(map(is_traced, items))):
        return x in items
    found = [truth(r) if is_traced(r) else bool(r) for r in (x == item for item in items)]
    return functools.reduce(bnp.logical_or, found, False)
