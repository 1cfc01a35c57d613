"""Looking into programs while they run: `print`, `callback`, `breakpoint`. Works under every
transform.
"""

from __future__ import annotations

import code
import pdb
import string
import sys
from collections.abc import Callable
from typing import Any

from bevel.api.callbacks import io_callback
from bevel.api.flat import is_array_like
from bevel.core import tree
from bevel.core.handle import Handle, KeyTag
from bevel.core.interpreter import Tracer
from bevel.core.source import user_frame, user_source, where

_print = print


def callback(
    callback: Callable[..., Any], *args: Any, ordered: bool = False, **kwargs: Any
) -> None:
    """Call a Python function with the values of arrays, each time the program gets here.

    Args:
        callback: called with NumPy arrays in the structure of the arguments; its result is ignored.
        *args: pytrees of arrays; other leaves are passed as they are.
        **kwargs: the same, by name.
        ordered: keep the order of the calls.

    >>> import bevel as bv
    >>> seen = []
    >>> y = bv.jit(lambda x: (bv.debug.callback(seen.append, x), x)[1])(3)
    >>> bv.effects_barrier(); int(seen[0])
    3
    """
    leaves, treedef = tree.flatten((args, kwargs))
    dynamic = [
        is_array_like(x) and not (isinstance(x, Handle) and type(x._tag) is KeyTag) for x in leaves
    ]

    arrays = [x for x, d in zip(leaves, dynamic, strict=True) if d]
    static = [None if d else x for x, d in zip(leaves, dynamic, strict=True)]

    def call(*values: Any) -> None:
        given = iter(values)
        filled = [next(given) if d else x for x, d in zip(static, dynamic, strict=True)]
        a, kw = tree.unflatten(treedef, filled)
        callback(*a, **kw)

    io_callback(call, None, *arrays, ordered=ordered)


def check_format(what: str, fmt: str, args: tuple, kwargs: dict[str, Any]) -> None:
    """Compare a format string with the arguments before the program runs."""
    fields = [
        f.split(".")[0].split("[")[0]
        for _, f, _, _ in string.Formatter().parse(fmt)
        if f is not None
    ]
    used = {f for f in fields if f and not f.isdigit()}
    missing, unused = sorted(used - set(kwargs)), sorted(set(kwargs) - used)
    n = max(sum(f == "" for f in fields), *[int(f) + 1 for f in fields if f.isdigit()], 0)
    if missing or unused or n != len(args):
        raise ValueError(
            f"{what}: the format string {fmt!r} uses {n} positional values and "
            f"{sorted(used)}, but it got "
            f"{len(args)} positional and {sorted(kwargs)}.\nWrite instead: bv.debug.print('x = "
            f"{{x}}', x=x)."
        )


def print(fmt: str, *args: Any, ordered: bool = False, **kwargs: Any) -> None:  # noqa: A001 (jax.debug.print)
    """Print values when the program runs: `debug.print("x = {x}", x=x)`.

    Under `vmap` it prints once a row; under `grad` once, in the forward pass.

    Raises:
        ValueError, KeyError, IndexError: the format string and the arguments do not fit.

    >>> import bevel as bv
    >>> bv.debug.print("x = {x}, twice {}", 2, x=1)
    x = 1, twice 2
    """
    check_format("debug.print", fmt, args, kwargs)

    def show(*a: Any, **kw: Any) -> None:
        sys.stdout.write(fmt.format(*a, **kw) + "\n")
        sys.stdout.flush()

    callback(show, *args, ordered=ordered, **kwargs)


def breakpoint(*, backend: str | None = None) -> None:  # noqa: A001 (jax.debug.breakpoint)
    """Stop here and look around.

    In eager code this is `pdb` in your own frame. In a traced function a console opens when the
    compiled program gets here; it has the function's local variables, arrays with their values.
    """
    frame = user_frame()
    if frame is None:
        return
    local = dict(frame.f_locals)
    traced = {k: v for k, v in local.items() if isinstance(v, Handle) and isinstance(v._v, Tracer)}
    if not traced:
        pdb.Pdb().set_trace(frame)
        return
    names = ", ".join(sorted(local))
    banner = f"bevel breakpoint at {where(user_source())}\nvariables: {names}\nCtrl-D to continue."

    # The program outlives this frame: it keeps texts of traced values that it cannot give.
    known = {**frame.f_globals, **{k: repr(v) if k in traced else v for k, v in local.items()}}

    def console(values: dict[str, Any]) -> None:
        code.interact(banner, local={**known, **values}, exitmsg="")

    callback(console, {k: v for k, v in traced.items() if type(v._tag) is not KeyTag}, ordered=True)
