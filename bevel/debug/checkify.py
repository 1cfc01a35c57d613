"""Errors as values: `checkify` makes a function that also returns what went wrong in it.

| want | write |
|---|---|
| conditions of your own | `bv.check(x > 0, "x is {x}", x=x)`, found by `checkify(f)` |
| conditions that are looked at only here | `checkify.debug_check` |
| indices out of bounds | `checkify(f, errors=index_checks)` |
| NaN; division by zero | `errors=nan_checks`; `div_checks`; both: `float_checks` |
| all of these | `errors=all_checks`; all but your own: `automatic_checks` |
| to raise, after the program has run | `err.throw()` |

The names are those of `jax.experimental.checkify`, in `from bevel.debug import checkify`. The
module itself is the function, too: `err, y = bv.debug.checkify(f)(x)`.

>>> import bevel as bv, bevel.numpy as bnp
>>> from bevel.debug import checkify
>>> f = bv.jit(checkify.checkify(lambda x, i: x[i], errors=checkify.index_checks))
>>> err, out = f(bnp.arange(3), 7)
>>> try:
...     err.throw()
... except IndexError as e:
...     print(str(e)[:47])
index 7 is out of bounds for axis 0 with size 3
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bevel.api.body import body_with_state, with_arrays
from bevel.api.flat import as_handle, described
from bevel.core import tree
from bevel.core.errors import CheckError, TracerConversionError
from bevel.core.graph import evaluate
from bevel.core.handle import Handle, fresh_tag, wrap
from bevel.core.interpreter import Tracer, state, to_numpy
from bevel.core.source import user_source, where
from bevel.debug.checks import check as check
from bevel.debug.checks import state_claim
from bevel.ops import effect_callback
from bevel.transforms.checking import (
    Checks,
    Found,
    Report,
    exception_of,
    first_row,
    folded,
    widened,
)

user_checks = frozenset({CheckError})
index_checks = frozenset({IndexError})
nan_checks = frozenset({FloatingPointError})
div_checks = frozenset({ZeroDivisionError})
float_checks = nan_checks | div_checks
automatic_checks = float_checks | index_checks
all_checks = automatic_checks | user_checks

WORDS = 16
"""How many words an error has at least, for its message: so that most have one shape."""


class Error:
    """What went wrong in a function of `checkify`: nothing, or the check that failed first.

    A pytree of two arrays, of the same structure for all functions: it can be returned by `jit`,
    stacked by `vmap` and `scan`, carried by a loop and chosen by `cond`. `Error()` is none.

    >>> Error().get() is None
    True
    """

    __slots__ = ("_number", "_words")

    def __init__(self, number: Any = None, words: Any = None):
        self._number = wrap(np.zeros((), np.int32)) if number is None else number
        self._words = wrap(np.zeros(WORDS, np.uint32)) if words is None else words

    def get_exception(self) -> Exception | None:
        """The exception that says what went wrong, or None. Of several rows, the first's."""
        numbers, words = (_values(x) for x in (self._number, self._words))
        failed = np.argwhere(numbers != 0)
        if not len(failed):
            return None
        at = tuple(failed[0].tolist())
        error = exception_of(int(numbers[at]), words[at])
        if at:
            row = ", ".join(map(str, at))
            text = f"row {row} ({len(failed)} of {numbers.size} rows failed): {error}"
            return type(error)(text)
        return error

    def get(self) -> str | None:
        """What went wrong, as text, or None."""
        error = self.get_exception()
        return None if error is None else str(error)

    def throw(self) -> None:
        """Raise, if something went wrong; in a function of `checkify` this becomes its error.

        Raises:
            errors.CheckError: (a ValueError) a condition of `bv.check` did not hold.
            IndexError: an index was out of bounds.
            FloatingPointError: an op gave a NaN.
            ZeroDivisionError: a number was divided by zero.
        """
        check_error(self)

    def __repr__(self) -> str:
        traced = any(
            isinstance(getattr(x, "_v", None), Tracer) for x in (self._number, self._words)
        )
        error = None if traced else self.get_exception()
        if error is None:
            return "Error(traced)" if traced else "Error(None)"
        return f"Error({type(error).__name__}: {str(error).splitlines()[0]})"


tree.register_pytree_node(Error, lambda e: ((e._number, e._words), None), lambda _, xs: Error(*xs))


def _values(x: Any) -> np.ndarray:
    if isinstance(x, Handle):
        if isinstance(x._v, Tracer):
            raise TracerConversionError(
                f"what an Error says is not known in {x._v.interp.what}, at "
                f"{where(user_source())}.\n"
                "Why: it is known when the program has run.\n"
                "Write instead: return the error from the function, and err.throw() outside; or "
                "checkify.check_error(err) here, which raises when the program gets there."
            )
        return to_numpy(x._v)
    return np.asarray(x)


class _Thrown(Report):
    """An error that a program raises."""

    def __call__(self, number: Any, words: Any) -> tuple[()]:
        Error(number, words).throw()
        return ()

    def found(self, values: Sequence[Any]) -> Found:
        number, words = values
        while len(number.shape):
            number, words = first_row(number, words)
        return number, words


def debug_check(pred: Any, msg: str, *args: Any, **kwargs: Any) -> None:
    """`bv.check` for functions of `checkify` only: elsewhere it is not looked at and costs nothing.

    >>> import bevel as bv
    >>> from bevel.debug import checkify
    >>> f = lambda x: checkify.debug_check(x > 0, "x is {}", x)
    >>> f(-1.0), checkify.checkify(f)(-1.0)[0].get()[:23]
    (None, 'check failed: x is -1.0')
    """
    state_claim("debug_check", pred, msg, args, kwargs, silent=True)


def check_error(error: Error) -> None:
    """Raise, if something went wrong: at once, or when the program gets here; in a function of
    `checkify` the error becomes its error. The inverse of `checkify`.

    Raises:
        errors.CheckError, IndexError, FloatingPointError, ZeroDivisionError: see `Error.throw`.

    >>> import bevel as bv
    >>> from bevel.debug import checkify
    >>> inner = checkify.checkify(lambda x: bv.check(x > 0, "x is {}", x))
    >>> def f(x):
    ...     err, _ = inner(x)
    ...     checkify.check_error(err)
    >>> err, _ = bv.jit(checkify.checkify(f))(-1.0)
    >>> err.get()[:24]
    'check failed: x is -1.0,'
    """
    values = [as_handle(x, "an error")._v for x in (error._number, error._words)]
    if state.current.outer is None:
        found = error.get_exception()
        if found is not None:
            raise found
        return
    fn = _Thrown()
    effect_callback(*values, fn=fn, out_avals=(), vectorized="sequential", ordered=False)


def checkify(
    f: Callable[..., Any], errors: frozenset[type[Exception]] = user_checks
) -> Callable[..., tuple[Error, Any]]:
    """A function that returns `(err, f(...))`: what went wrong, as a value, and the result.

    The checks are part of the program: they are compiled with it (`bv.jit(checkify(f))`, or
    `checkify(bv.jit(f))`), and go into loops, branches, jitted and rematerialized functions and
    those with derivatives of their own. The error is that of the check which failed first; the
    program goes on with what it has. `err.throw()` raises it, with the line, the op and its shapes.

    An index is wrong unless a `mode` or `fill_value` says what is to happen out of bounds. A NaN is
    found in the results of every op that can make one, also where a `where` leaves it out. Numbers
    divided by zero are integers or floats.

    Around a `vmap` write `bv.vmap(checkify(f))`, which has an error for each row; in
    `checkify(bv.vmap(f))` the branches of a `cond` that a row does not take may fail, too.
    `checkify(bv.grad(f))` checks both passes. The rules of `custom_jvp` and `custom_vjp` functions
    are checked where the derivative is inside of `f`, and not in `bv.grad(checkify(f))`.

    Args:
        f: over pytrees of arrays, and modules; traced, as in `bv.jit`.
        errors: what to look for: `user_checks` (conditions of `bv.check`), `index_checks`,
            `nan_checks`, `div_checks`, or several of them joined by `|`.

    Raises:
        TypeError: `errors` is no such set.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> from bevel.debug import checkify
    >>> def mean_log(x):
    ...     bv.check(x.size > 0, "x is empty")
    ...     return bnp.log(x).mean()
    >>> f = bv.jit(checkify.checkify(mean_log, errors=checkify.all_checks))
    >>> f(bnp.ones(3))
    (Error(None), Array(0., dtype=float32))
    >>> f(bnp.array([1.0, -1.0]))[0].get()[:27]
    'a NaN was made by `log` at '
    """
    what = described("checkify", f)
    kinds = _checked_kinds(errors)

    @functools.wraps(f)
    def checked(*args: Any, **kwargs: Any) -> tuple[Error, Any]:
        flat, handles = with_arrays(f, args, kwargs, what)
        body = body_with_state(what, flat, handles)
        body.consume(handles)
        inputs = [*handles, *[c._read() for c in body.carried]]
        with Checks(state.current, kinds, what=what) as checks:
            outs = evaluate(body.graph, [*body.consts, *[h._v for h in inputs]])
        number, *words = folded(checks.found)
        words = words[0] if words else None
        width = max(WORDS, 0 if words is None else words.shape[0])
        n = len(body.output.tags)
        for cell, value, tag in zip(body.carried, outs[n:], body.forced_tags, strict=True):
            cell._write(wrap(value, fresh_tag(tag)))
        error = Error(wrap(number), wrap(widened(words, width)))
        return error, body.output.unflatten(outs[:n])

    return checked


def _checked_kinds(errors: Any) -> frozenset[type[Exception]]:
    kinds = frozenset(errors) if isinstance(errors, set | frozenset) else None
    if kinds is None or not kinds <= all_checks:
        raise TypeError(
            f"checkify: errors must be a set of checks, got {errors!r}.\n"
            "Write instead: checkify.user_checks, index_checks, nan_checks, div_checks, or several "
            "of them, as in checkify.index_checks | checkify.nan_checks."
        )
    return kinds


class _Checkify(types.ModuleType):
    """The class of this module, so that `bv.debug.checkify(f)` works besides JAX's spelling (see
    docs/decisions/doctor.md).
    """

    def __call__(
        self, f: Callable[..., Any], errors: frozenset[type[Exception]] = user_checks
    ) -> Callable[..., tuple[Error, Any]]:
        return checkify(f, errors)


sys.modules[__name__].__class__ = _Checkify
