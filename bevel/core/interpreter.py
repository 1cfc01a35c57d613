"""The current interpreter: what happens when an op is called.

There is one current interpreter per thread, and each holds its outer one. The outermost evaluates
with NumPy. An interpreter that meets an op none of whose operands are its own hands it outwards.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from bevel.core import source
from bevel.core.aval import Aval
from bevel.core.buffer import Buffer
from bevel.core.errors import UnexpectedTracerError


class Interpreter:
    """Base: `run(op, args, params)` returns a value, or a tuple of values if `op.multiple`."""

    __slots__ = ("alive", "outer", "what")

    outer: Any
    """The interpreter around this one; None for the outermost."""

    def __init__(self, outer: Interpreter | None, what: str):
        self.outer = outer
        self.what = what
        self.alive = True

    def run(self, op, args, params):
        raise NotImplementedError(type(self).__name__)

    def resolve(self, value: Tracer) -> Any:
        """What a traced value from outside stands for here.

        Raises:
            UnexpectedTracerError: it outlived its trace.
        """
        return self.outer.resolve(value)

    def __enter__(self):
        state.current = self
        return self

    def __exit__(self, *exc):
        state.current = self.outer
        self.alive = False


class Tracer:
    """A value that belongs to an interpreter."""

    __slots__ = ("aval", "interp")

    def __init__(self, interp: Interpreter, aval: Aval):
        self.interp = interp
        self.aval = aval

    @property
    def shape(self) -> tuple[int, ...]:
        return self.aval.shape

    @property
    def dtype(self) -> np.dtype:
        return self.aval.dtype

    @property
    def ndim(self) -> int:
        return len(self.aval.shape)

    @property
    def size(self) -> int:
        return self.aval.size

    @property
    def source(self) -> source.Source | None:
        """The user's line that made this value, where the interpreter keeps it."""
        return None

    def __array__(self, dtype=None, copy=None):
        raise UnexpectedTracerError(
            f"internal: a traced {self.aval} was treated as a concrete array"
        )


def leaked(tracer: Tracer) -> UnexpectedTracerError:
    """The error for a traced value that outlived its trace."""
    made = source.origin(tracer.source)
    return UnexpectedTracerError(
        f"a traced {tracer.aval}{made} belongs to {tracer.interp.what}, which has ended.\n"
        "Why: a function that is being transformed stored it outside (in a list, an attribute or "
        "a global) "
        "and it was used after the call, when it has no value.\n"
        f"Used at {source.where(source.user_source())}.\n"
        "Write instead: return it from the function (`return x, extra`), or keep it in a state "
        "cell "
        "(`cell = bv.ref(...); cell[...] = x`)."
    )


class Undefined:
    """Stands for a linear operand in a transpose rule: it has an aval and no value."""

    __slots__ = ("aval",)

    def __init__(self, aval: Aval):
        self.aval = aval

    @property
    def shape(self):
        return self.aval.shape

    @property
    def dtype(self):
        return self.aval.dtype

    @property
    def ndim(self):
        return self.aval.ndim


class NotLinear(Exception):
    """A transpose rule used an operand that has no value: the op is not linear in it."""


def check_alive(value: Any) -> None:
    """Raise if a value belongs to a trace that has ended."""
    if isinstance(value, Tracer) and not value.interp.alive:
        raise leaked(value)


class Backend:
    """What eager evaluation needs from the floors above; installed once by `transforms.compile`."""

    @property
    def accelerator(self) -> bool:
        """Whether new arrays live on a device other than the CPU."""
        return False

    def read(self, raw: Any) -> np.ndarray:
        """The contents of the runtime's array."""
        raise NotImplementedError

    def wants(self, op, args) -> bool:
        """Whether this op runs as a one-op program rather than as NumPy."""
        return False

    def run(self, op, args, params):
        raise NotImplementedError

    def finite(self, values: Sequence[Any]) -> bool:
        """Whether every element of these values is a finite number."""
        return all(bool(np.isfinite(to_numpy(v)).all()) for v in values)


backend = Backend()


def set_backend(new: Backend) -> None:
    """Install what evaluates the ops that NumPy should not."""
    global backend
    backend = new


class _Quiet(threading.local):
    """A context per thread in which NumPy does not warn about overflow and the like.

    Entering a prepared `contextvars.Context` costs 0.1 us; `np.errstate` costs 1.5 us.
    """

    def __init__(self):
        self.run = _quiet_context().run


def _quiet_context() -> contextvars.Context:
    context = contextvars.copy_context()
    context.run(np.seterr, all="ignore")
    return context


quiet = _Quiet()


def run_quietly(fn, /, *args, **kwargs):
    """Call `fn` with NumPy's floating-point warnings off, safe to nest."""
    return _quiet_context().run(fn, *args, **kwargs)


class Eager(Interpreter):
    """The outermost interpreter: NumPy on the CPU, one-op programs where the backend asks for
    them.
    """

    __slots__ = ()

    def run(self, op, args, params):
        plain = op.compile_above is None and not backend.accelerator
        for a in args:
            if type(a) is not np.ndarray:
                plain = False
                if isinstance(a, Tracer):
                    raise leaked(a)
        vals = args
        if not plain:
            if backend.wants(op, args):
                return backend.run(op, args, params)
            vals = [to_numpy(a) for a in args]
        try:
            out = quiet.run(op.reference, *vals, **params)
        except RuntimeError as e:
            if "cannot enter context" not in str(e):
                raise
            out = run_quietly(op.reference, *vals, **params)
        if op.multiple:
            # An op that holds a graph may have run an op of it as a program.
            return tuple([o if type(o) in _VALUES else np.asarray(o) for o in out])
        return out if type(out) is np.ndarray else np.asarray(out)

    def resolve(self, value: Tracer) -> Any:
        check_alive(value)
        return value

    def __exit__(self, *exc):
        state.current = self.outer


class Rebind(Interpreter):
    """Runs ops with other values in the place of traced ones that a function closes over.

    For rules written by users, which run later than the code around them, when the trace that made
    the closed-over values may have ended.
    """

    __slots__ = ("new",)

    def __init__(self, outer: Interpreter, old: Iterable[Any], new: Iterable[Any]):
        super().__init__(outer, outer.what)
        self.new = {id(o): n for o, n in zip(old, new, strict=True)}

    def run(self, op, args, params):
        return run_under(self.outer, op, tuple([self.new.get(id(a), a) for a in args]), params)

    def resolve(self, value: Tracer) -> Any:
        found = self.new.get(id(value))
        return self.outer.resolve(value) if found is None else found


_VALUES = (np.ndarray, Buffer)


def to_numpy(value: Any) -> np.ndarray:
    """The contents of a concrete value."""
    if type(value) is np.ndarray:
        return value
    if isinstance(value, Tracer):
        raise leaked(value)
    if isinstance(value, np.generic):
        return np.asarray(value)
    if type(value) is Undefined:
        raise NotLinear
    if type(value) is not Buffer:
        raise TypeError(f"internal: a {type(value).__name__} is not an array value")
    if value.host is None or value.raw.is_deleted():
        value.host = backend.read(value.raw)
    return value.host


def is_concrete(value: Any) -> bool:
    """Tell whether a value has contents now."""
    return not isinstance(value, Tracer)


class _State(threading.local):
    current: Interpreter

    def __init__(self):
        self.current = _outermost()


EAGER = Eager(None, "eager evaluation")


def _eager() -> Interpreter:
    return EAGER


_outermost: Callable[[], Interpreter] = _eager


def set_outermost(make: Callable[[], Interpreter]) -> None:
    """Install what gives a new thread its outermost interpreter (see `bevel.core.watch`)."""
    global _outermost
    _outermost = make


state = _State()


class under:
    """Make an interpreter current for a block: `with under(interp): ...`."""

    __slots__ = ("interp", "saved")

    def __init__(self, interp: Interpreter):
        self.interp = interp

    def __enter__(self):
        self.saved = state.current
        state.current = self.interp

    def __exit__(self, *exc):
        state.current = self.saved


def run_under(interp: Interpreter, op, args, params):
    """Run one op under another interpreter."""
    saved = state.current
    state.current = interp
    try:
        return interp.run(op, args, params)
    finally:
        state.current = saved
