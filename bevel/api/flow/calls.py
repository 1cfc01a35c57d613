"""Converting functions, and what calls in converted functions become."""

from __future__ import annotations

import functools
import inspect
import operator
import os
import pathlib
import sysconfig
import types
from collections.abc import Callable
from typing import Any

import bevel.numpy as bnp
from bevel.api.flow import branches, failures, loops, values
from bevel.api.flow.loops import Range
from bevel.api.flow.source import CannotRewrite
from bevel.api.flow.syntax import is_rewritten, rewrite
from bevel.api.flow.values import is_traced, truth
from bevel.core.errors import (
    TracerBoolConversionError,
    TracerConversionError,
    TracerIntegerConversionError,
    unanswered,
)
from bevel.core.source import is_internal

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
        new = rewritten(fn.func)
        return fn if new is fn.func else functools.partial(new, *fn.args, **fn.keywords)
    if isinstance(fn, types.FunctionType):
        if is_rewritten(fn.__code__):
            return fn
        return rewrite(fn, FLOW) if is_users(fn) else _around(fn)
    own = inspect.getattr_static(type(fn), "__call__", None)
    if isinstance(own, types.FunctionType) and is_users(own):
        new = rewritten(own)
        return fn if new is own else types.MethodType(new, fn)
    return fn


def converted(fn: Any, error: TracerConversionError | None) -> Any:
    """A function whose trace failed because Python asked a traced value for its truth, with its
    control flow rewritten; without an error (the user's function has caught it), if it can be.

    Raises:
        TracerConversionError: the same, if that has been done, or with the reason why it cannot.
    """
    try:
        new = rewritten(fn)
    except CannotRewrite as e:
        if error is None:
            return fn
        text = f"{error}\nPython's own control flow could not be converted: {e}."
        raise type(error)(text).with_traceback(error.__traceback__) from None
    if new is fn and error is not None:
        raise _explained(error)
    return new


def after_conversion(trace: Callable[[], Any]) -> Any:
    """The trace of a converted function.

    Raises:
        TracerConversionError: something in it was not converted; the error says what that may be.
    """
    unanswered.final = None
    try:
        found = trace()
    except (TracerBoolConversionError, TracerIntegerConversionError) as e:
        raise _explained(e) from None
    lost, unanswered.final = unanswered.final, None
    if lost is not None:
        raise lost
    return found


def _explained(error: TracerConversionError) -> TracerConversionError:
    """An error about a question to a traced value that is left in converted code, with the reason
    why it is.
    """
    tb, code = error.__traceback__, None
    while tb is not None:
        if not is_internal(tb.tb_frame.f_code.co_filename):
            code = tb.tb_frame.f_code
        tb = tb.tb_next
    if code is None or "asked whether it is true" not in str(error):
        return error
    if is_rewritten(code):
        why = (
            "Python's own control flow was converted; this is none that can be (a condition in a "
            "comprehension or in a `case`, `:=` in an `and`, `max` with a key, a generator)."
        )
    else:
        why = (
            f"Python's own control flow was converted, but not that of {code.co_name}: only "
            "functions that are called by name are, no operators, properties or library code."
        )
    return type(error)(f"{error}\n{why}").with_traceback(error.__traceback__)


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
    if isinstance(fn, type):
        return functools.partial(_made, fn) if _is_plain_class(fn) else fn
    try:
        if isinstance(fn, types.FunctionType) and not is_users(fn):
            inside = fn.__code__.co_filename.startswith(_HERE)
            return functools.partial(_with_rewritten, _around(fn)) if inside else fn
        return rewritten(fn)
    except CannotRewrite:
        return fn


def _is_plain_class(cls: type) -> bool:
    """Whether making an object calls nothing but an `__init__` of the user's."""
    plain = type(cls) is type and cls.__new__ is object.__new__
    return plain and is_users(cls.__init__)


def _made(cls: type, *args: Any, **kwargs: Any) -> Any:
    """An object of a user's class."""
    try:
        init = rewritten(cls.__init__)
    except CannotRewrite:
        return cls(*args, **kwargs)
    made = object.__new__(cls)
    init(made, *args, **kwargs)
    return made


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
        if items:
            kwargs.pop("default", None)
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


def _truth(fn: Callable, *args: Any) -> Any:
    return truth(args[0]) if len(args) == 1 and is_traced(args[0]) else fn(*args)


def _sorted(fn: Callable, items: Any, /, *, key: Any = None, reverse: bool = False) -> Any:
    items = list(items)
    if key is not None or not any(map(is_traced, items)):
        return fn(items, key=key, reverse=reverse)
    rows = bnp.sort(bnp.stack(items), axis=0)
    return list(rows[::-1] if reverse else rows)


_BUILTINS: dict[Any, Callable] = {
    bool: _truth,
    sorted: _sorted,
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
    within=branches.within,
    check=failures.check,
    raised=failures.raised,
    Trying=failures.Trying,
    loop=loops.loop,
    each=loops.each,
    callee=callee,
)
"""What converted functions call."""
