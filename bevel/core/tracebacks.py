"""Tracebacks without Bevel's own frames, wherever Python shows one.

Shortened where they are shown (`sys.excepthook`, threads, notebooks), since that costs calls
nothing; `jit` also shortens its errors on their way, so that programs that log them see their own
lines.
"""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import Any

from bevel.core import config
from bevel.core.source import is_internal

_NOTE = "(Frames inside Bevel are left out; BEVEL_TRACEBACK_FILTERING=off shows them.)"


def shorten(error: BaseException) -> bool:
    """Take Bevel's frames out of an error's traceback; whether there were any to take out.

    A traceback of nothing but such frames stays as it is.
    """
    frames: list[TracebackType] = []
    hidden = False
    tb = error.__traceback__
    while tb is not None:
        if is_internal(tb.tb_frame.f_code.co_filename):
            hidden = True
        else:
            frames.append(tb)
        tb = tb.tb_next
    if not frames:
        return False
    for a, b in zip(frames, frames[1:], strict=False):
        a.tb_next = b
    frames[-1].tb_next = None
    error.__traceback__ = frames[0]
    return hidden


def _shorten_for_display(error: BaseException | None) -> None:
    """Shorten an error and those it came from; one that does not say itself what to write is
    told where the rest of its traceback is.
    """
    if error is None or not config.get("traceback_filtering"):
        return
    seen: set[int] = set()
    part: BaseException | None = error
    while part is not None and id(part) not in seen:
        seen.add(id(part))
        hidden = shorten(part)
        if hidden and part is error and "Write instead" not in str(error):
            error.add_note(_NOTE)
        part = part.__cause__ or (None if part.__suppress_context__ else part.__context__)


def install() -> None:
    """Shorten the tracebacks of errors that nobody catches, in scripts, threads and notebooks."""
    show, show_in_thread = sys.excepthook, threading.excepthook

    def excepthook(kind: type[BaseException], error: BaseException, tb: Any) -> None:
        _shorten_for_display(error)
        show(kind, error, error.__traceback__ if error is not None else tb)

    def excepthook_of_threads(args: Any) -> None:
        _shorten_for_display(args.exc_value)
        tb = args.exc_value.__traceback__ if args.exc_value is not None else args.exc_traceback
        show_in_thread(threading.ExceptHookArgs((args.exc_type, args.exc_value, tb, args.thread)))

    sys.excepthook, threading.excepthook = excepthook, excepthook_of_threads
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None and not shell.custom_exceptions:

        def in_notebook(shell: Any, kind: Any, error: Any, tb: Any, tb_offset: Any = None) -> None:
            _shorten_for_display(error)
            shell.showtraceback((kind, error, error.__traceback__), tb_offset=tb_offset)

        shell.set_custom_exc((Exception,), in_notebook)
