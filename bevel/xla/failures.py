"""What goes wrong while a compiled program runs, in the user's terms.

An exception raised in a Python callback crosses XLA's runtime as text only. A `Guard` keeps the
exception itself and sends its number through; `translate` finds it again, wherever the failure
surfaces (results come asynchronously, so often at the first read).
"""

from __future__ import annotations

import itertools
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bevel.core.aval import Aval
from bevel.xla import donation, needs

_MARK = "bevel-callback-failure"
_KEPT = 256
_numbers = itertools.count()
_raised: OrderedDict[int, BaseException] = OrderedDict()


class CallbackFailure(RuntimeError):
    """Carries the number of a callback's exception through XLA's runtime."""


class Guard:
    """A Python callback that checks its results and keeps its exceptions.

    Its arguments are copies, since XLA reuses the memory once the callback has returned. An
    `ordered` one gets a token first and returns it first.
    """

    __slots__ = ("fn", "out_avals", "ordered")

    def __init__(self, fn: Callable, out_avals: Sequence[Aval], ordered: bool = False):
        self.fn = fn
        self.out_avals = tuple(out_avals)
        self.ordered = ordered

    def __call__(self, *args) -> tuple:
        """Call the function on copies; return its checked results."""
        try:
            if not self.ordered:
                return self._checked(self.fn(*[np.array(a) for a in args]))
            token, *args = args
            return (token, *self._checked(self.fn(*[np.array(a) for a in args])))
        except BaseException as e:
            number = next(_numbers)
            _raised[number] = e
            while len(_raised) > _KEPT:
                _raised.popitem(last=False)
            raise CallbackFailure(f"{_MARK}-{number}: {type(e).__name__}: {e}") from None

    def _checked(self, results) -> tuple[np.ndarray, ...]:
        name = getattr(self.fn, "__name__", repr(self.fn))
        arrays = [
            np.asarray(r) for r in (results if isinstance(results, (tuple, list)) else (results,))
        ]
        if len(arrays) != len(self.out_avals):
            raise ValueError(
                f"the callback {name} returned {len(arrays)} arrays, but "
                f"{len(self.out_avals)} were declared: {', '.join(map(repr, self.out_avals))}. "
                f"Return exactly those, or change the declaration"
            )
        for i, (array, aval) in enumerate(zip(arrays, self.out_avals, strict=True)):
            if array.shape != aval.shape or array.dtype != aval.dtype:
                raise ValueError(
                    f"result {i} of the callback {name} is {Aval(array.shape, array.dtype)!r}, but "
                    f"{aval!r} was declared. Return np.asarray(value, np.{aval.dtype.name})"
                    f".reshape({aval.shape}), or change the declaration"
                )
        return tuple(np.require(a, requirements="C") for a in arrays)


def translate(
    error: Exception, arguments: Sequence[Any] = (), read: Sequence[Any] = ()
) -> BaseException:
    """Return what XLA's failure stands for: a callback's exception, or one that explains.

    `arguments` are buffers that were given to a program, `read` those read or waited for.
    """
    text = str(error)
    found = re.search(rf"{_MARK}-(\d+)", text)
    if found and int(found[1]) in _raised:
        return _raised[int(found[1])]
    for i, buffer in enumerate((*arguments, *read)):
        if buffer.is_deleted():
            return donation.used_again(buffer, f"argument {i}" if arguments else "an array")
    if "RESOURCE_EXHAUSTED" in text or "Out of memory" in text:
        return needs.exhausted(text, read)
    if "same call to Execute" in text or "Attempt to donate the same buffer" in text:
        return donation.given_twice(
            "an array is donated in a call that also takes it as another argument, or whose "
            "function closes over it."
        )
    return error
