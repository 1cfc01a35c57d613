"""Messages about shapes that do not fit: the operands by their names, the line, why, what to write.

A check that failed says when its operands would fit; the usual mistakes (a transposed kernel, an
axis that is missing) are tried on the shapes, and what mends them becomes the code to write.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from bevel.core.errors import ShapeError
from bevel.core.spelling import Spelling, excerpt, operands, untransposed

Shape = tuple[int, ...]
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")
_HOLE = re.compile(r"\b_\b")
_MOST = 1000  # ways to place axes that are tried: arrays of thirty axes exist
_NO_CHANGES: Mapping[int, str] = {}


class Change(NamedTuple):
    """What may be done to an operand: code with `_` for it, its new shape, and what was wrong."""

    code: str
    shape: Shape
    cause: str


class Fix(NamedTuple):
    """What to write instead of an operation.

    Fields:
        cause: what is wrong, with `{0}`, `{1}` for the names of operands.
        changes: new operands, with `_` for the old one.
        callee: another function of the same module.
        settings: other arguments, by the parameter's name: its place (None: by name), and code.
        swap: the first two operands change places.
        whole: code instead of the operation, with `_0`, `_1` for its operands.
        entry: another entry of a shape that is an argument: its place, the length, the code.
        plain: what to say where the source is not there.
        note: a comment after the code.
    """

    cause: str = ""
    changes: Mapping[int, str] = _NO_CHANGES
    callee: str | None = None
    settings: Mapping[str, tuple[int | None, str]] | None = None
    swap: bool = False
    whole: str = ""
    entry: tuple[int, int, str] | None = None
    plain: str = ""
    note: str = ""


# -- changes -------------------------------------------------------------------------------------


def transposed(shape: Shape) -> Iterator[Change]:
    """The last two axes exchanged."""
    if len(shape) >= 2 and shape[-1] != shape[-2]:
        code = "_.T" if len(shape) == 2 else "_.mT"
        yield Change(code, (*shape[:-2], shape[-1], shape[-2]), "looks transposed")


def with_axis(shape: Shape) -> Iterator[Change]:
    """An axis of size 1 more, at the end first."""
    for i in range(len(shape), -1, -1):
        yield Change(f"_{new_axes(shape, [i])}", (*shape[:i], 1, *shape[i:]), "lacks an axis")


def new_axes(shape: Shape, places: Sequence[int]) -> str:
    """The index that puts axes of size 1 before the axes at these places: `[:, None]`."""
    items: list[str] = []
    for i in range(len(shape) + 1):
        items += ["None"] * places.count(i)
        items += [":"] if i < len(shape) else []
    while items and items[-1] == ":":
        items.pop()
    if items.count(":") > 1 and len(shape) in places and set(places) == {len(shape)}:
        items = ["...", *items[len(shape) :]]
    return f"[{', '.join(items)}]" if items else ""


def aligned(shape: Shape, whole: Shape) -> Iterator[Change]:
    """Axes of size 1 put in so that a shape of fewer axes broadcasts to another one."""
    ways = itertools.combinations(range(len(whole)), len(shape))
    for kept in itertools.islice(ways, _MOST):
        pairs = list(zip(shape, kept, strict=True))
        if not shape or not all([n in (1, whole[k]) for n, k in pairs]):
            continue
        inside = range(kept[0], len(whole))  # those in front come by themselves
        places = [sum(k < i for k in kept) for i in inside if i not in kept]
        if places:
            sizes = {k: n for n, k in pairs}
            grown = tuple([sizes.get(i, 1) for i in inside])
            cause = "lacks an axis" if len(places) == 1 else "lacks axes"
            yield Change(f"_{new_axes(shape, places)}", grown, cause)


Maker = Callable[[int, Shape], Iterable[Change]]


def mend(
    shapes: Sequence[Shape], fits: Callable[[list[Shape]], bool], makers: Sequence[Maker]
) -> Fix | None:
    """The first change of one operand that makes shapes fit; the last operand is tried first."""
    for maker in makers:
        for i in reversed(range(len(shapes))):
            for change in maker(i, shapes[i]):
                if fits([*shapes[:i], change.shape, *shapes[i + 1 :]]):
                    return change_of(i, change)
    return None


def change_of(i: int, change: Change) -> Fix:
    """The fix that is a change of one operand."""
    return Fix(
        f"{{{i}}} {change.cause}: {{{i}:{change.code}}} has shape {change.shape}", {i: change.code}
    )


def broadcast_reason(shapes: Sequence[Shape]) -> str:
    """Which axis keeps shapes from broadcasting."""
    width = max(map(len, shapes))
    for axis in range(1, width + 1):
        sizes = {i: s[-axis] for i, s in enumerate(shapes) if len(s) >= axis and s[-axis] != 1}
        if len(set(sizes.values())) > 1:
            i, j = next((i, j) for i in sizes for j in sizes if sizes[i] != sizes[j])
            place = "the last one" if axis == 1 else f"axis -{axis}"
            return (
                f"from the right, axes must be equal or 1, and {place} is {sizes[i]} in {{{i}}} "
                f"and {sizes[j]} in {{{j}}}"
            )
    return "from the right, axes must be equal or 1"


def broadcastable(shapes: Sequence[Shape]) -> bool:
    """Whether shapes broadcast."""
    width = max(map(len, shapes))
    columns = zip(*[(1,) * (width - len(s)) + tuple(s) for s in shapes], strict=True)
    return all(len(set(c) - {1}) <= 1 for c in columns)


def mend_broadcast(shapes: Sequence[Shape]) -> list[Fix]:
    """What makes shapes broadcast: axes put in, an operand transposed, all pairs of two vectors."""
    whole = max(shapes, key=len)

    def with_axes(i: int, shape: Shape) -> Iterator[Change]:
        return aligned(shape, whole)

    found = mend(shapes, broadcastable, [with_axes])
    found = found or _mend_alike(shapes, whole)
    found = found or mend(shapes, broadcastable, [lambda i, s: transposed(s)])
    if found is not None:
        return [found]
    wide = [i for i, s in enumerate(shapes) if s]
    if len(wide) == 2 and len(whole) == 1:
        i, j = wide
        pairs = (*shapes[i], *shapes[j])
        return [Fix("", {i: "_[:, None]"}, note=f"every pair: {pairs}")]
    return []


def _mend_alike(shapes: Sequence[Shape], whole: Shape) -> Fix | None:
    """One change of all operands that have one shape."""
    for shape in dict.fromkeys(shapes):
        alike = [i for i, s in enumerate(shapes) if s == shape]
        for change in aligned(shape, whole):
            if broadcastable([change.shape, *[s for s in shapes if s != shape]]):
                first = change_of(alike[0], change)
                return first._replace(changes={i: change.code for i in alike})
    return None


def mend_broadcast_to(old: Shape, new: Shape) -> list[Fix]:
    """What makes a shape broadcast to another one."""

    def fits(shapes: list[Shape]) -> bool:
        (s,) = shapes
        pairs = zip(s[::-1], new[::-1], strict=False)
        return len(s) <= len(new) and all([n in (1, m) for n, m in pairs])

    found = mend([old], fits, [lambda i, s: aligned(s, new), lambda i, s: transposed(s)])
    return [] if found is None else [found]


# -- messages ------------------------------------------------------------------------------------


def literal(x: Any) -> str:
    """What may hold braces, to stand in a reason or a cause."""
    return repr(x).replace("{", "{{").replace("}", "}}")


def type_text(x: Any) -> str:
    """Shape and dtype of a value or a handle, as in `float32[2,3]`."""
    dtype = x.dtype
    return f"{getattr(dtype, 'name', dtype)}[{','.join(map(str, x.shape))}]"


class _Label(str):
    """The name of an operand in a cause: `{0}`, and `{0:_.T}` for what is made of it."""

    spelled: bool

    def __format__(self, spec: str) -> str:
        if not spec:
            return str(self)
        if not self.spelled:
            return f"as {_HOLE.sub('x', spec)} it"
        simple = self.isidentifier() or self[-1] in ")]" or self.replace(".", "").isidentifier()
        name = str(self) if simple else f"({self})"
        return untransposed(_HOLE.sub(lambda _: name, spec))


def axes_text(n: int) -> str:
    """How many axes there are."""
    return "no axis" if n == 0 else "1 axis" if n == 1 else f"{n} axes"


def ordinal(i: int) -> str:
    """What an operand without a name is called."""
    return f"the {_ORDINALS[i]}" if i < len(_ORDINALS) else f"number {i + 1}"


def _labels(count: int, spelled: Spelling | None, words: Sequence[str]) -> list[_Label]:
    out = []
    for i in range(count):
        plain = words[i] if i < len(words) else ordinal(i)
        label = _Label(plain if spelled is None else spelled.label(i))
        whole = not label.endswith("...")
        label.spelled = spelled is not None and whole and spelled.takes_attributes(i)
        out.append(label)
    return out


def describe(
    op: str,
    given: Sequence[Any],
    why: str,
    fixes: Iterable[Fix] = (),
    otherwise: str = "",
    *,
    spelled: Spelling | None = None,
    words: Sequence[str] = (),
    shown: Sequence[int] | None = None,
) -> str:
    """The message: what the operands are and where, why that does not fit, what to write instead.

    Args:
        op: the function, as users call it.
        given: the operands, values or handles.
        why: with `{0}`, `{1}` for the names of operands.
        fixes: what would fit; the code of at most two is given.
        otherwise: what to write where no fix is known.
        spelled: the operation in the user's source.
        words: what to call operands without names.
        shown: the operands to list, all that have axes if it is None.
    """
    labels = _labels(len(given), spelled, words)
    if shown is None:
        shown = [i for i, x in enumerate(given) if tuple(x.shape)] or range(len(given))
    listed = [f"{labels[i]} is {type_text(given[i])}" for i in shown]
    listed = list(dict.fromkeys(listed))
    text = f"{', '.join(listed[:-1])} and {listed[-1]}" if len(listed) > 1 else listed[0]
    head = op
    if spelled is not None and spelled.is_operator() and len(spelled.whole()) <= 60:
        head = spelled.whole()
    causes, codes = [why.format(*labels)], []
    for fix in list(fixes)[:2]:
        code = _code(fix, spelled, labels)
        if fix.cause and code:
            cause = fix.cause.format(*labels)
            causes.append(cause if spelled is not None else cause[0].upper() + cause[1:])
        codes.append(code)
    instead = "\n   or: ".join([c for c in codes if c]) or otherwise
    return f"{head}: {text}, at {excerpt()}\nWhy: {'. '.join([c for c in causes if c])}." + (
        f"\nWrite instead: {instead}" if instead else ""
    )


def _code(fix: Fix, spelled: Spelling | None, labels: Sequence[_Label]) -> str:
    note = f"  # {fix.note}" if fix.note else ""
    if spelled is not None:
        code = (
            spelled.with_entry(*fix.entry)
            if fix.entry
            else spelled.rewritten(fix.whole)
            if fix.whole
            else spelled.changed(fix.changes, fix.callee, fix.settings, fix.swap)
        )
        if code is not None:
            return code + note
    if fix.plain or fix.note or spelled is not None:
        return fix.plain
    if fix.settings:
        return " and ".join([f"{name}={code}" for name, (_, code) in fix.settings.items()])
    made = [f"{_HOLE.sub('x', code)}, where x is {labels[i]}" for i, code in fix.changes.items()]
    return " and ".join(made) + note if made else ""


def misfit(
    op: str,
    given: Sequence[Any],
    why: str,
    fixes: Iterable[Fix] = (),
    otherwise: str = "",
    *,
    params: Sequence[str] = (),
    listed: bool = False,
    words: Sequence[str] = (),
    shown: Sequence[int] | None = None,
    first: int = 0,
    error: Callable[[str], Exception] = ShapeError,
) -> Exception:
    """The error of an operation whose operands do not fit: see `describe` and `operands`."""
    shapes = [tuple(x.shape) for x in given]
    spelled = operands(op.removeprefix("lax."), shapes, params=params, listed=listed, first=first)
    return error(
        describe(op, given, why, fixes, otherwise, spelled=spelled, words=words, shown=shown)
    )
