"""Arrays that a jitted function closes over: inputs of its program, moved to the device once."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bevel.core import tree
from bevel.core.aval import aval_of
from bevel.core.errors import LargeConstantWarning
from bevel.core.handle import Handle
from bevel.core.source import Source, user_source, where
from bevel.transforms.compile import common_device, to_raw
from bevel.xla import needs

_moved: dict[tuple[int, Any], tuple[weakref.ref, weakref.ref]] = {}
"""By id of a large NumPy array and device: the array and its copy there, while both exist."""


def moved_constant(value: Any, device: Any) -> Any:
    """A constant as the runtime's array on a device; programs share the copy of a large one.

    NumPy arrays in handles never change, so a copy stays right as long as the array exists.
    """
    if type(value) is not np.ndarray or value.nbytes < needs.SMALL:
        return to_raw(value, device)
    key = (id(value), device)
    array, copy = [ref() for ref in _moved.get(key, ())] or (None, None)
    if array is value and copy is not None and not copy.is_deleted():
        return copy
    copy = to_raw(value, device)

    def forget(ref: weakref.ref) -> None:
        if any(ref is known for known in _moved.get(key, ())):
            del _moved[key]

    _moved[key] = (weakref.ref(value, forget), weakref.ref(copy, forget))
    return copy


def warn_of_large(fun: Any, what: str, traced: Any, handles: Sequence[Handle]) -> None:
    """Warn of constants that are not on a device yet, and larger than what is free there.

    Args:
        fun: the user's function.
        what: what it is called in messages.
        traced: its trace; constants that have not been moved are NumPy's arrays.
        handles: the arguments of the call.
    """
    consts, graph = traced.consts, traced.graph
    large = [i for i, c in enumerate(consts) if type(c) is np.ndarray and c.nbytes >= needs.SMALL]
    if not large:
        return
    device = common_device([*[h._v for h in handles], *consts])
    most = needs.room(device)
    for i in large:
        var, value = graph.inputs[i], consts[i]
        if most is None or value.nbytes <= most:
            continue
        used = next((e.source for e in graph.eqns if var in e.inputs), None)
        name = next((n for n, x in _variables(fun) if _holds(x, value)), None)
        shown = f"`{name}`, {aval_of(value)}," if name else f"a {aval_of(value)}"
        here = used or user_source() or Source("<unknown>", 0, "")
        text = (
            f"{shown} {needs.human(value.nbytes)}, that {what} closes over is larger than what "
            f"{device} has room for, {needs.human(most)}; it is used at {where(used)}.\n"
            "Why: an array that a jitted function closes over goes to the device whole, at its "
            "first call, and stays there as long as the function's program.\n"
            "Write instead: make the part that a call needs its argument "
            f"(`f(x, {name or 'table'}[rows])`), or keep it in a smaller dtype (bfloat16, int8)."
        )
        warnings.warn_explicit(text, LargeConstantWarning, here.file, here.line)


def _holds(x: Any, value: np.ndarray) -> bool:
    """Whether a variable's array is the constant, or became it by a change of dtype."""
    if isinstance(x, Handle):
        return x._v is value
    return x is value or (isinstance(x, np.ndarray) and x.shape == value.shape)


def _variables(fun: Any, depth: int = 4) -> Iterator[tuple[str, Any]]:
    """The arrays that a function closes over, or functions that it calls, by their names."""
    fun = getattr(fun, "__wrapped__", fun)
    fun = getattr(fun, "func", fun)
    code = getattr(fun, "__code__", None)
    if code is None or not depth:
        return
    boxes = zip(code.co_freevars, getattr(fun, "__closure__", None) or (), strict=False)
    outside = getattr(fun, "__globals__", {})
    found = [(n, box.cell_contents) for n, box in boxes if _filled(box)]
    found += [(n, outside[n]) for n in code.co_names if n in outside]
    for name, x in found:
        if callable(x) and not isinstance(x, type):
            yield from _variables(x, depth - 1)
        elif isinstance(x, Handle | np.ndarray | dict | list | tuple):
            for path, leaf in tree.leaves_with_path(x):
                yield name + tree.keystr(path), leaf


def _filled(box: Any) -> bool:
    try:
        return box.cell_contents is not box
    except ValueError:  # a variable without a value yet
        return False
