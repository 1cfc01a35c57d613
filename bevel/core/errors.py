"""Every error and warning that Bevel defines, in one place. Public as `bevel.errors`."""

from __future__ import annotations

import threading


class BevelError(Exception):
    """Base of the errors that have no fitting built-in class."""


class TracerConversionError(TypeError):
    """A traced value was asked for its concrete contents."""


class TracerBoolConversionError(TracerConversionError):
    """Python asked a traced value whether it is true."""


class TracerIntegerConversionError(TracerConversionError):
    """Python asked a traced value for an integer."""


class TracerArrayConversionError(TracerConversionError):
    """NumPy asked a traced value for its contents."""


class ConcretizationTypeError(TracerConversionError):
    """A traced value stands where a Python value is needed (a shape, an axis, ...)."""


class UnexpectedTracerError(BevelError):
    """A traced value outlived the function call it belongs to."""


class MissingKeyError(KeyError):
    """Nothing has such a name; shown as the text it is, where KeyError shows its repr."""

    def __str__(self) -> str:
        return str(self.args[0]) if len(self.args) == 1 else super().__str__()


class TracerLeakWarning(UserWarning):
    """A traced value was stored where it outlives its function."""


class KeyReuseError(BevelError):
    """A random key was consumed twice."""


class KeyReuseWarning(UserWarning):
    """A random key was consumed twice."""


class RetraceError(BevelError):
    """A jitted function was traced more often than `max_traces` allows."""


class RetraceWarning(UserWarning):
    """A jitted function is traced again and again."""


class ParamMutationError(BevelError):
    """A parameter was written while it is being differentiated."""


class StateError(BevelError):
    """A state cell was used where its trace does not allow it."""


class Float64PromotionWarning(UserWarning):
    """A float64 array met a float32 one and the result is float64."""


class LargeConstantWarning(UserWarning):
    """A compiled function closes over more data than the memory of its device has room for."""


class CheckError(BevelError, ValueError):
    """A condition that the user stated with `bv.check` does not hold."""


class Unsupported(BevelError):
    """An op has no such rule, for the reason given."""


class ShapeError(TypeError, ValueError):
    """Shapes that do not fit: a ValueError as in NumPy and a TypeError as in JAX."""


class DonatedBufferError(BevelError):
    """An array was used after its memory had been donated to a call, or deleted."""


class _Unanswered(threading.local):
    """What this thread's traces could not answer, for those that an `except` of the user's takes.

    `count` is how often Python asked a traced value whether it is true or for an index; `final`,
    an error that must not be lost.
    """

    def __init__(self):
        self.count = 0
        self.final: Exception | None = None


unanswered = _Unanswered()
