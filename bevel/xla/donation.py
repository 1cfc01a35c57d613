"""Arrays whose memory was given away, by a call that took it or by `x.delete()`: who did it, where.

A call leaves one small record, shared by all that it took; it becomes text when somebody uses one
of them. See docs/decisions/donation.md.
"""

from __future__ import annotations

import gc
import re
from typing import Any

from bevel.core.buffer import Buffer
from bevel.core.errors import DonatedBufferError
from bevel.core.source import Source, source_of, user_source, user_spot, where
from bevel.core.variables import name_of_array


class Given:
    """One event: what took arrays ("jit of step"; None: `x.delete()`), and the user's line."""

    __slots__ = ("_spot", "by")

    def __init__(self, by: str | None):
        self.by = by
        self._spot = user_spot()

    @property
    def source(self) -> Source | None:
        return source_of(self._spot)


def story(buffer: Buffer) -> str | None:
    """`donated to jit of step (its argument `state`) at file.py:12 (main)`; None if unknown."""
    given, argument = getattr(buffer, "given", (None, None))
    if given is None:
        return None
    if given.by is None:
        return f"deleted (.delete()) at {where(given.source)}"
    return f"donated to {given.by} (its argument `{argument}`) at {where(given.source)}"


def used_again(raw: Any, which: str = "an array") -> DonatedBufferError:
    """The error for the use of an array of the runtime's whose memory is gone."""
    buffers = [b for b in gc.get_referrers(raw) if type(b) is Buffer]
    buffer = next((b for b in buffers if hasattr(b, "given")), None)
    if buffer is None:
        return DonatedBufferError(
            f"{which} was used after its memory had been donated to a compiled function "
            f"(donate_argnums) or deleted. Use that function's result instead, pass a copy, "
            f"or do not donate this argument"
        )
    name = name_of_array(raw)
    given, argument = buffer.given
    what = f"`{name}`, {buffer.aval}," if name else f"a {buffer.aval}"
    text = f"{what} was {story(buffer)}, and used at {where(user_source())}.\n"
    if given.by is None:
        return DonatedBufferError(
            f"{text}Why: delete() gives the memory of an array back at once, also for others that "
            "share it.\n"
            "Write instead: use it before it is deleted, or drop it (`del x`): its memory goes "
            "back when nobody holds it."
        )
    f, role, own = [
        re.match(r"\w*", t)[0] for t in (given.by.rsplit(" ", 1)[-1], argument, name or "")
    ]
    f, whole = f or "f", role == argument
    mine = own if own and "." not in name and whole == (own == name) else role
    copy = f"{mine}.copy()" if whole else f"bv.tree.map(bnp.copy, {mine})"
    return DonatedBufferError(
        f"{text}Why: a donated argument's memory is for the results of that call; it is gone "
        "afterwards, on every device.\n"
        f"Write instead: go on with the result (`{mine} = {f}({mine})`), donate a copy "
        f"(`{f}({copy})`), or leave `{role}` out of donate_argnums."
    )


def given_twice(what: str) -> DonatedBufferError:
    """The error for an array that one call takes and also reads, `what` says how."""
    return DonatedBufferError(
        f"{what}\n"
        "Why: results are written into a donated argument's memory, while the other argument still "
        "reads it.\n"
        "Write instead: a copy for one of the two (`x.copy()`), or donate neither."
    )
