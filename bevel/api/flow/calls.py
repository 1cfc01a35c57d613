"""Converting functions, and what calls in converted functions become."""

from __future__ import annotations

import functools
import operator
import os
import pathlib
import sysconfig
import types
from collections.abc import Callable
from typing import Any

import bevel.numpy as bnp
from bevel.api.flow import branches, loops, values
from bevel.api.flow.loops import Range
from bevel.api.flow.source import CannotRewrite
from bevel.api.flow.syntax import is_rewritten, rewrite
from bevel.api.flow.values import is_traced, truth
from bevel.core.errors import TracerConversionError

_HERE = str(pathlib.Path(__file__).resolve().parents[2]) + os.sep


@functools.cache
def _libraries() -> tuple[str, ...]:
    kinds = ("stdlib", "platstdlib", "purelib", "platlib")
    return (_HERE, *{sysconfig.get_paths()[k] + os.sep for k in kinds})


def is_users(fn: Any) -> bool:
    """Whether a Python function is the user's: not Bevel's, not a library's."""
    if not isinstance(fn, types.FunctionType):
        return False
    file = fn.__code__.co_filename
    return not file.startswith(_libraries()) and not file.startswith("<frozen")


def rewritten(fn: Any) -> Any:
    """A callable with its control flow rewritten, if it is the user's and can be.

    Raises:
        CannotRewrite: it is the user's, and cannot be.
    """
    if isinstance(fn, types.MethodType):
        new = rewritten(fn.__func__)
        return fn if new is fn.__func__ else types.MethodType(new, fn.__self__)
    if isinstance(fn, functools.partial):
        return functools.partial(rewritten(fn.func), *fn.args, **fn.keywords)
    if isinstance(fn, types.FunctionType):
        if is_rewritten(fn):
            return fn
        return rewrite(fn, FLOW) if is_users(fn) else _around(fn)
    own = getattr(type(fn), "__call__", None)  # noqa: B004 (the function itself is wanted)
    if isinstance(own, types.FunctionType) and is_users(own):
        return types.MethodType(rewritten(own), fn)
    return fn


def converted(fn: Any, error: TracerConversionError) -> Any:
    """A function whose trace failed because Python asked a traced value for its truth, with its
    control flow rewritten.

    Raises:
        TracerConversionError: the same, if that has been done, or with the reason why it cannot.
    """
    try:
        new = rewritten(fn)
    except CannotRewrite as e:
        text = f"{error}\nPython's own control flow could not be converted: {e}."
        raise type(error)(text).with_traceback(error.__traceback__) from None
    if new is fn:
        raise error
    return new


def _around(fn: types.FunctionType) -> types.FunctionType:
    """A transformed function (`bv.grad(f)`) with the user's functions in its closure rewritten."""
    if not fn.__code__.co_filename.startswith(_HERE) or not fn.__closure__:
        return fn
    cells = []
    for cell in fn.__closure__:
        try:
            inner = cell.cell_contents
        except ValueError:
            cells.append(cell)
            continue
        new = (
            rewritten(inner) if isinstance(inner, types.FunctionType | types.MethodType) else inner
        )
        cells.append(cell if new is inner else types.CellType(new))
    if all(a is b for a, b in zip(cells, fn.__closure__, strict=True)):
        return fn
    new = types.FunctionType(
        fn.__code__, fn.__globals__, fn.__name__, fn.__defaults__, tuple(cells)
    )
    new.__kwdefaults__ = fn.__kwdefaults__
    return new


def callee(fn: Any) -> Any:
    """What a rewritten function calls where the source says `fn(...)`."""
    if fn is range:
        return _range
    if fn in _BUILTINS:
        return functools.partial(_BUILTINS[fn], fn)
    try:
        if isinstance(fn, types.FunctionType) and not is_users(fn):
            inside = fn.__code__.co_filename.startswith(_HERE)
            return functools.partial(_with_rewritten, _around(fn)) if inside else fn
        return rewritten(fn)
    except CannotRewrite:
        return fn


def _with_rewritten(fn: Callable, *args: Any, **kwargs: Any) -> Any:
    """Call one of Bevel's functions; the user's functions among its arguments are rewritten."""
    new = [rewritten(a) if isinstance(a, types.FunctionType) else a for a in args]
    named = {k: rewritten(a) if isinstance(a, types.FunctionType) else a for k, a in kwargs.items()}
    return fn(*new, **named)


def _range(*bounds: Any) -> Any:
    return Range(*bounds) if any(map(is_traced, bounds)) else range(*bounds)


def _extreme(compare: Callable) -> Callable:
    def among(fn: Callable, *args: Any, **kwargs: Any) -> Any:
        items = args if len(args) > 1 else list(*args)
        if kwargs or not any(map(is_traced, items)):
            return fn(*args, **kwargs)
        return functools.reduce(lambda a, b: bnp.where(compare(b, a), b, a), items)

    return among


def _all_or_any(one: str) -> Callable:
    def among(fn: Callable, items: Any) -> Any:
        items = list(items)
        if not any(map(is_traced, items)):
            return fn(items)
        found = [truth(x) if is_traced(x) else bool(x) for x in items]
        return functools.reduce(getattr(bnp, one), found)

    return among


_BUILTINS: dict[Any, Callable] = {
    max: _extreme(operator.gt),
    min: _extreme(operator.lt),
    all: _all_or_any("logical_and"),
    any: _all_or_any("logical_or"),
}


FLOW = types.SimpleNamespace(
    Undefined=values.Undefined,
    value=values.value,
    branch=branches.branch,
    choice=branches.choice,
    both=branches.both,
    either=branches.either,
    negation=branches.negation,
    check=branches.check,
    loop=loops.loop,
    each=loops.each,
    callee=callee,
)
"""What converted functions call."""
