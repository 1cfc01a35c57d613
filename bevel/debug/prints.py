"""Looking into programs while they run: `print`, `callback`, `breakpoint`. Works under every
transform.
"""

from __future__ import annotations

import pdb
import string
import sys
from collections.abc import Callable, Sequence
from typing import Any

from bevel.api.callbacks import io_callback
from bevel.api.flat import is_array_like
from bevel.core import tree
from bevel.core.handle import Handle, KeyTag
from bevel.core.interpreter import Tracer
from bevel.core.source import user_frame
from bevel.debug.console import Console, stack_of

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
    arrays, rebuilt = arrays_in(args, kwargs)

    def call(*values: Any) -> None:
        a, kw = rebuilt(values)
        callback(*a, **kw)

    io_callback(call, None, *arrays, ordered=ordered)


def arrays_in(args: tuple, kwargs: dict[str, Any]) -> tuple[list[Any], Callable[..., Any]]:
    """The arrays in arguments, and what gives `(args, kwargs)` with other values in their places.

    Random keys and leaves that are no arrays stay as they are.
    """
    leaves, treedef = tree.flatten((args, kwargs))
    dynamic = [
        is_array_like(x) and not (isinstance(x, Handle) and type(x._tag) is KeyTag) for x in leaves
    ]
    static = [None if d else x for x, d in zip(leaves, dynamic, strict=True)]

    def rebuilt(values: Sequence[Any]) -> Any:
        given = iter(values)
        filled = [next(given) if d else x for x, d in zip(static, dynamic, strict=True)]
        return tree.unflatten(treedef, filled)

    return [x for x, d in zip(leaves, dynamic, strict=True) if d], rebuilt


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

    In eager code this is `pdb` in your own frame. In a traced function a console with pdb's
    commands (p, u, d, l, w, a, c, q) opens when the compiled program gets here, for each row under
    `vmap`: it has your functions, from the one that stopped to the one that called the jitted one,
    and their variables, arrays with their values.
    """
    frame = user_frame()
    if frame is None:
        return
    stack = stack_of(frame)
    traced = [
        {k: v for k, v in f.variables.items() if any(map(_is_traced, tree.leaves(v)))}
        for f in stack
    ]
    if not any(traced):
        pdb.Pdb().set_trace(frame)
        return
    # The program outlives these frames: it keeps texts of traced values that it cannot give.
    known = [
        f._replace(variables={k: repr(v) if k in t else v for k, v in f.variables.items()})
        for f, t in zip(stack, traced, strict=True)
    ]
    given = [{k: v for k, v in t.items() if not _holds_key(v)} for t in traced]

    def console(values: list[dict[str, Any]]) -> None:
        Console(
            [f._replace(variables={**f.variables, **v}) for f, v in zip(known, values, strict=True)]
        ).cmdloop()

    callback(console, given, ordered=True)


def _is_traced(x: Any) -> bool:
    return isinstance(x, Handle) and isinstance(x._v, Tracer)


def _holds_key(x: Any) -> bool:
    return any(isinstance(v, Handle) and type(v._tag) is KeyTag for v in tree.leaves(x))
