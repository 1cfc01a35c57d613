"""Finding the line that is to blame: NaN, infinities, indices out of bounds; and op by op running.

How it works: `bevel.core.watch`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bevel.api.flat import as_handle, name_of
from bevel.core import config
from bevel.core.aval import aval_of
from bevel.core.errors import CheckError
from bevel.core.interpreter import state
from bevel.core.source import Source, user_source, where
from bevel.debug.prints import arrays_in, check_format
from bevel.ops import effect_callback, eq, reduce_or, zeros_like
from bevel.transforms.checking import Failure, Found, Report, fails


def nans(enable: bool = True) -> config.config:
    """Raise FloatingPointError where the first NaN is made, for a block; also the setting
    `debug_nans`.

    The message names the op, its line, what it made and of what. It holds for eager code, forward
    and backward, and for jitted functions, loops and their derivatives: their results are looked
    at, and a program that gives a NaN is run again op by op, to find the op that the bad result
    is made of. So its callbacks that return values run twice.

    In a program only what reaches its results counts; eager code is looked at op by op, so there a
    value that a `where` leaves out counts, too. A constant NaN may be passed on (`where(ok, x,
    nan)`), but not computed with.

    Costs: one look at the results of each op and of each program, and the wait for them; programs
    are compiled once more for this mode, and donate nothing.

    Raises:
        FloatingPointError: in the block, an op made a NaN, or one came in with the data.
        RuntimeError: it was opened inside a function that is being transformed.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> with bv.debug.nans():
    ...     try:
    ...         bv.jit(lambda x: bnp.log(x) * 2)(-1.0)
    ...     except FloatingPointError as e:
    ...         print(str(e)[:25])
    a NaN was made by `log` a
    """
    return config.config(debug_nans=enable)


def infs(enable: bool = True) -> config.config:
    """`nans` for infinities: raise where an op makes one of finite operands; also the setting
    `debug_infs`.

    Infinities that are constants of the program or came with the data are let through.

    Raises:
        FloatingPointError: in the block, an op made an infinity.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> with bv.debug.infs():
    ...     try:
    ...         bnp.exp(bnp.float32(1000))
    ...     except FloatingPointError as e:
    ...         print(str(e)[:29])
    an infinity was made by `exp`
    """
    return config.config(debug_infs=enable)


def _outside(what: str, fun: Callable[..., Any]) -> None:
    """Raise where a function that needs values is called by one that has none."""
    if state.current.outer is not None:
        raise RuntimeError(
            f"{what}({name_of(fun)}) was called inside {state.current.what}, at "
            f"{where(user_source())}.\n"
            "Why: it runs op by op on values, and a function that is being transformed has none.\n"
            f"Write instead: {what}(bv.jit(f)), {what}(bv.grad(f)): around the transforms."
        )


def checked(fun: Callable[..., Any]) -> Callable[..., Any]:
    """`fun`, raising where an index is out of bounds or an integer is divided by zero.

    Compiled code moves an index that is out of bounds to the edge, or drops what is written there,
    and eager code raises only for indices it knows. Here jitted functions, loops and derivatives
    run op by op, and every index and slice is looked at, unless a `mode` or `fill_value` says what
    is to happen out of bounds. For a whole run: the setting `debug_bounds`
    (`BEVEL_DEBUG_BOUNDS=1`). In compiled programs, on a device: `checkify.checkify`.

    Costs: what eager code does, about a microsecond an op and step of a loop on the CPU and tens
    of them on an accelerator, and no fusion.

    Raises:
        IndexError: with the user's line, the index, the axis and its size.
        ZeroDivisionError: with the user's line.
        RuntimeError: it is called inside a function that is being transformed.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> f = bv.jit(lambda x, i: x[i])
    >>> int(f(bnp.arange(3), 7))
    2
    >>> try:
    ...     bv.debug.checked(f)(bnp.arange(3), 7)
    ... except IndexError as e:
    ...     print(str(e)[:47])
    index 7 is out of bounds for axis 0 with size 3
    """

    @functools.wraps(fun)
    def run(*args: Any, **kwargs: Any) -> Any:
        _outside("bv.debug.checked", fun)
        with config.config(debug_bounds=True):
            return fun(*args, **kwargs)

    return run


def check(pred: Any, msg: str, *args: Any, **kwargs: Any) -> None:
    """Raise where a condition does not hold, in eager code and when a compiled program gets here.

    A program calls back into Python for it, each time (per row under `vmap`). As programs run while
    Python goes on, the error appears where a result is read, at `bv.effects_barrier()`, or at the
    end. Under `checkify.checkify` nothing is called: the error is a result.

    Args:
        pred: bool, or an array of them that must all be true.
        msg: what to say, a format string.
        *args: arrays for its fields.
        **kwargs: the same, by name.

    Raises:
        errors.CheckError: (a ValueError) the condition does not hold; with the user's line.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> @bv.jit
    ... def root(x):
    ...     bv.check((x >= 0).all(), "x is negative: {x}", x=x)
    ...     return bnp.sqrt(x)
    >>> try:
    ...     float(root(-1.0))
    ... except bv.errors.CheckError as e:
    ...     print(str(e)[:33])
    check failed: x is negative: -1.0
    """
    state_claim("check", pred, msg, args, kwargs)


def state_claim(
    what: str, pred: Any, msg: str, args: tuple, kwargs: dict[str, Any], silent: bool = False
) -> None:
    """Put a `Claim` into the program."""
    check_format(what, msg, args, kwargs)
    arrays, rebuilt = arrays_in(args, kwargs)
    values = [as_handle(x, f"an argument of {what}")._v for x in (pred, *arrays)]
    claim = Claim(msg, rebuilt, user_source(), silent)
    effect_callback(*values, fn=claim, out_avals=(), vectorized="sequential", ordered=False)


class Claim(Report):
    """A condition that a user stated; as a callback it raises where it does not hold."""

    kind = CheckError

    def __init__(self, msg: str, rebuilt: Callable[..., Any], source: Source | None, silent: bool):
        self.msg = msg
        self.silent = silent
        self.rebuilt = rebuilt
        self.source = source

    def error(self, values: Sequence[Any]) -> Exception:
        """What to raise, from the values for the message's fields."""
        args, kwargs = self.rebuilt(values)
        text = self.msg.format(*args, **kwargs)
        return CheckError(f"check failed: {text}, at {where(self.source)}")

    def __call__(self, holds: Any, *values: Any) -> tuple[()]:
        """Raise, in a program that is not checked."""
        if not self.silent and not np.all(holds):
            raise self.error(values)
        return ()

    def found(self, values: Sequence[Any]) -> Found:
        """The error as a value."""
        holds, *shown = values
        wrong = eq(holds, zeros_like(holds))
        bad = reduce_or(wrong, axes=tuple(range(len(wrong.shape))))
        layout = tuple(map(aval_of, shown))
        about = ("check", self.msg, str(self.source), repr(self.rebuilt([None] * len(shown))))
        return fails(bad, Failure(about, layout, self.error), shown)


def eager(fun: Callable[..., Any]) -> Callable[..., Any]:
    """`fun`, run op by op as plain Python: jitted functions, loops and branches in it too.

    So `pdb`, `print` and a debugger of an editor work in all of it, with values in the variables.
    `grad` and `vmap` in it still run their functions on stand-ins, which print what they are.

    Raises:
        RuntimeError: it is called inside a function that is being transformed.

    >>> import bevel as bv
    >>> bv.debug.eager(bv.jit(lambda x: print(float(x))))(2.0)
    2.0
    """

    @functools.wraps(fun)
    def run(*args: Any, **kwargs: Any) -> Any:
        _outside("bv.debug.eager", fun)
        with config.config(disable_jit=True):
            return fun(*args, **kwargs)

    return run
