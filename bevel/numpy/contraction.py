"""Einstein summation: any product of arrays with named axes, as a sequence of `dot_general`s.

The order of the products for three operands and more is `opt_einsum`'s (Smith and Gray 2018,
"opt_einsum - A Python package for optimizing contraction order for einsum-like expressions").
"""

from __future__ import annotations

import functools
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

import bevel.ops as ops
from bevel.core.handle import wrap
from bevel.core.misfit import Fix, axes_text, literal, misfit
from bevel.numpy.arguments import cast, no_out, number
from bevel.numpy.convert import enter, promote
from bevel.numpy.products import contract, precision_of, preferred_of

Path = tuple[tuple[int, ...], ...]


class Direct(NamedTuple):
    """A product of two operands that is one `dot_general` and, if need be, one transpose."""

    contract: tuple[tuple[int, ...], tuple[int, ...]]
    batch: tuple[tuple[int, ...], tuple[int, ...]]
    order: tuple[int, ...] | None


class Plan(NamedTuple):
    """An einsum whose shapes are known: labels of operands and result, sizes, order of the
    products.
    """

    inputs: tuple[str, ...]
    output: str
    sizes: dict[str, int]
    path: Path
    direct: Direct | None


class _Misfit(Exception):
    """Why labels and shapes do not fit, the code that would, and what to write without it."""

    def __init__(self, why: str, instead: str, fixes: Iterable[Fix] = ()):
        super().__init__(why)
        self.why, self.instead, self.fixes = why, instead, list(fixes)


def _letters(subscripts: str, shapes: tuple) -> tuple[list[str], str | None, str]:
    """Labels of each operand with its ellipsis spelled out, those of the result, and the
    ellipsis's.
    """
    left, arrow, right = subscripts.partition("->")
    inputs = left.split(",")
    if len(inputs) != len(shapes):
        why = f"{literal(subscripts)} names {len(inputs)} operands, and {len(shapes)} were given"
        raise _Misfit(why, "one comma-separated term for each operand")
    known = set(subscripts) - set(",.->")
    if bad := [c for c in known if not c.isalpha()]:
        raise ValueError(f"einsum: {bad[0]!r} in {subscripts!r} is no label; labels are letters")
    free = iter([c for c in string.ascii_letters if c not in known])
    widths = [
        len(s) - len(t.replace("...", "")) if "..." in t else 0
        for t, s in zip(inputs, shapes, strict=True)
    ]
    dots = "".join([next(free) for _ in range(max(widths, default=0))])
    spelled = []
    for i, (term, shape, width) in enumerate(zip(inputs, shapes, widths, strict=True)):
        whole = term.replace("...", dots[len(dots) - width :] if width > 0 else "")
        if len(whole) != len(shape) or width < 0 or "." in whole:
            axes = axes_text(len(shape))
            why = f"the term {literal(term)} has {len(whole)} labels, and {{{i}}} {axes}"
            instead = "one letter for each axis, or '...' for the axes not named"
            raise _Misfit(why, instead, _mend_labels(subscripts, shapes))
        spelled.append(whole)
    return spelled, right.replace("...", dots) if arrow else None, dots


def _sizes(subscripts: str, inputs: list[str], shapes: tuple) -> dict[str, int]:
    sizes: dict[str, int] = {}
    owners: dict[str, str] = {}
    for i, (term, shape) in enumerate(zip(inputs, shapes, strict=True)):
        for axis, (label, n) in enumerate(zip(term, shape, strict=True)):
            old = sizes.setdefault(label, n)
            if old != n and 1 not in (old, n):
                why = (
                    f"the label {label!r} stands for {owners[label]}, of size {old}, and for axis "
                    f"{axis} of {{{i}}}, of size {n}"
                )
                instead = "another letter, or operands whose sizes agree"
                raise _Misfit(why, instead, _mend_labels(subscripts, shapes))
            if old == n:
                owners[label] = f"axis {axis} of {{{i}}}"
            sizes[label] = n if old == 1 else old
    return sizes


def _takes(subscripts: str, shapes: tuple) -> bool:
    """Whether shapes fit subscripts."""
    left, _, _ = subscripts.partition("->")
    sizes: dict[str, set[int]] = {}
    terms = left.split(",")
    for term, shape in zip(terms, shapes, strict=False):
        before, dots, after = term.partition("...")
        if len(before + after) > len(shape) or (not dots and len(term) != len(shape)):
            return False
        for label, n in (
            *zip(before, shape, strict=False),
            *zip(reversed(after), reversed(shape), strict=False),
        ):
            sizes.setdefault(label, {1}).add(n)
    return len(terms) == len(shapes) and all([len(s) <= 2 for s in sizes.values()])


def _mend_labels(subscripts: str, shapes: tuple) -> list[Fix]:
    """A term with its last two letters exchanged, or with `...` for the axes it does not name."""
    left, arrow, right = subscripts.partition("->")
    terms = left.split(",")
    for i in reversed(range(len(terms))):
        t = terms[i]
        turned = [*terms[:i], t[:-2] + t[:-3:-1], *terms[i + 1 :]]
        new = ",".join(turned) + arrow + right
        if len(t) > 1 and "." not in t and _takes(new, shapes):
            return [_relabelled(new, f"The axes of {{{i}}} are {turned[i]!r}, not {t!r}")]
    for i in range(len(terms)):
        few = len(terms[i]) < len(shapes[i]) and "." not in subscripts
        dotted = [*terms[:i], f"...{terms[i]}", *terms[i + 1 :]]
        new = ",".join(dotted) + arrow + (f"...{right}" if arrow else "")
        if few and _takes(new, shapes):
            n = len(shapes[i]) - len(terms[i])
            return [_relabelled(new, f"{{{i}}} has {n} more in front (a batch?)")]
    return []


def _relabelled(subscripts: str, cause: str) -> Fix:
    return Fix(cause, settings={"subscripts": (0, repr(subscripts))}, plain=repr(subscripts))


@functools.lru_cache(maxsize=1024)
def _plan(subscripts: str, shapes: tuple, optimize: Any) -> Plan:
    inputs, output, dots = _letters(subscripts, shapes)
    sizes = _sizes(subscripts, inputs, shapes)
    if output is None:
        counts = Counter("".join(inputs))
        once = sorted(c for c in counts if counts[c] == 1 and c not in dots)
        output = dots + "".join(once)
    if missing := [c for c in output if c not in sizes]:
        why = f"the label {literal(missing[0])} of the result {literal(output)} is in no operand"
        raise _Misfit(why, "a result with labels of the operands only")
    if len(set(output)) != len(output):
        raise _Misfit(
            f"the result {literal(output)} names an axis twice", "bnp.diag for a diagonal"
        )
    path = _path(tuple(inputs), output, sizes, optimize)
    return Plan(tuple(inputs), output, sizes, path, _direct(inputs, output, sizes, shapes))


def _direct(inputs: list[str], output: str, sizes: dict[str, int], shapes: tuple) -> Direct | None:
    """The one product that this is, if nothing has to be done to the operands first."""
    if len(inputs) != 2 or any(len(set(term)) != len(term) for term in inputs):
        return None
    if any(
        n != sizes[c]
        for term, s in zip(inputs, shapes, strict=True)
        for c, n in zip(term, s, strict=True)
    ):
        return None
    x, y = inputs
    shared = [c for c in x if c in y]
    summed = [c for c in shared if c not in output]
    if not summed or any(c not in output and c not in shared for c in x + y):
        return None
    batch = [c for c in shared if c in output]
    places = [
        tuple([tuple([t.index(c) for c in some]) for t in inputs]) for some in (summed, batch)
    ]
    made = [*batch, *[c for c in x if c not in shared], *[c for c in y if c not in shared]]
    order = tuple([made.index(c) for c in output])
    return Direct(places[0], places[1], None if order == tuple(range(len(order))) else order)


def _path(inputs: tuple[str, ...], output: str, sizes: dict[str, int], optimize: Any) -> Path:
    n = len(inputs)
    if n <= 2:
        return (tuple(range(n)),)
    if not optimize:
        return tuple([(0, 1)] + [(0, n - 1 - i) for i in range(1, n - 1)])
    if isinstance(optimize, tuple):
        return tuple([tuple(step) for step in optimize if not isinstance(step, str)])
    import opt_einsum

    shapes = [tuple([sizes[c] for c in term]) for term in inputs]
    expression = f"{','.join(inputs)}->{output}"
    kind = "optimal" if optimize is True else optimize
    path, _ = opt_einsum.contract_path(expression, *shapes, shapes=True, optimize=kind)
    return tuple([tuple(step) for step in path])


def _single(x: Any, labels: str, kept: set[str], preferred: Any) -> tuple[Any, str]:
    """One operand with each label once, and without those that nothing else needs."""
    for label in [c for c, count in Counter(labels).items() if count > 1]:
        while labels.count(label) > 1:
            x, labels = _diagonal(x, labels, label)
    if gone := tuple([i for i, c in enumerate(labels) if c not in kept]):
        x = ops.reduce_sum(x if preferred is None else cast(x, preferred), axes=gone)
        labels = "".join([c for c in labels if c in kept])
    return x, labels


def _diagonal(x: Any, labels: str, label: str) -> tuple[Any, str]:
    """Fold two axes with one label into one."""
    i = labels.index(label)
    j = labels.index(label, i + 1)
    order = (i, j, *[k for k in range(len(labels)) if k not in (i, j)])
    x = ops.transpose(x, permutation=order)
    n, rest = x.shape[0], tuple(x.shape[2:])
    flat = ops.reshape(x, shape=(n * n, *rest))
    if n:
        flat = ops.slice(
            flat,
            start=(0,) * flat.ndim,
            limit=tuple(flat.shape),
            strides=(n + 1, *(1,) * len(rest)),
        )
    return flat, label + "".join([labels[k] for k in order[2:]])


def _multiply(x: Any, xl: str, y: Any, yl: str, out: str) -> Any:
    """Elementwise product of operands without a label to sum over."""
    sizes = dict(zip(xl + yl, (*x.shape, *y.shape), strict=True))
    shape = tuple([sizes[c] for c in out])
    both = []
    for value, labels in ((x, xl), (y, yl)):
        order = tuple(sorted(range(len(labels)), key=lambda i, ls=labels: out.index(ls[i])))
        value = (
            value if order == tuple(range(len(order))) else ops.transpose(value, permutation=order)
        )
        dims = tuple(sorted(out.index(c) for c in labels))
        both.append(
            value
            if dims == tuple(range(len(shape)))
            else ops.broadcast_in_dim(value, shape=shape, dims=dims)
        )
    return ops.and_(*both) if x.dtype == np.bool_ else ops.mul(*both)


def _pair(
    x: Any, xl: str, y: Any, yl: str, kept: set[str], order: str, precision: Any, preferred: Any
) -> tuple:
    """Product of two operands, summed over the labels that `kept` lacks."""
    x, xl = _single(x, xl, kept | set(yl), preferred)
    y, yl = _single(y, yl, kept | set(xl), preferred)
    labels = xl + "".join([c for c in yl if c not in xl])
    out = "".join([c for c in labels if c in kept])
    out = order if set(out) == set(order) else out
    if out and all(c in kept for c in labels):
        if preferred is not None:
            x, y = cast(x, preferred), cast(y, preferred)
        return _multiply(x, xl, y, yl, out), out
    if x.dtype != y.dtype:
        x, y = cast(x, preferred), cast(y, preferred)
    return contract(x, tuple(xl), y, tuple(yl), tuple(out), precision, preferred), out


def contract_labels(plan: Plan, values: list[Any], precision: Any, preferred: Any) -> Any:
    """Run a plan on values of one dtype."""
    if plan.direct is not None:
        pairs, batch, order = plan.direct
        out = ops.dot_general(
            *values, contract=pairs, batch=batch, precision=precision, preferred=preferred
        )
        return out if order is None else ops.transpose(out, permutation=order)
    terms = []
    for value, labels in zip(values, plan.inputs, strict=True):
        # An axis of size 1 under a label that is larger elsewhere broadcasts: it drops out.
        thin = tuple([i for i, c in enumerate(labels) if value.shape[i] == 1 != plan.sizes[c]])
        kept = "".join([c for i, c in enumerate(labels) if i not in thin])
        terms.append((ops.squeeze(value, thin) if thin else value, kept))
    for step in plan.path:
        taken = [terms.pop(i) for i in sorted(step, reverse=True)][::-1]
        kept = set(plan.output).union(*[set(labels) for _, labels in terms])
        while len(taken) > 1:
            (x, xl), (y, yl) = taken[:2]
            needed = kept.union(*[set(labels) for _, labels in taken[2:]])
            taken[:2] = [_pair(x, xl, y, yl, needed, plan.output, precision, preferred)]
        terms.append(_single(*taken[0], kept, preferred))
    value, labels = terms[0]
    order = tuple([labels.index(c) for c in plan.output])
    value = value if order == tuple(range(len(order))) else ops.transpose(value, permutation=order)
    return value if preferred is None else cast(value, preferred)


def _interleaved(operands: tuple) -> tuple[str, list[Any]]:
    """`einsum(a, [0, 1], b, [1, 2], [0, 2])` as subscripts and operands."""
    arrays, lists = list(operands[: len(operands) // 2 * 2 : 2]), list(operands[1::2])
    names = sorted(
        {k for ls in (*lists, *operands[2 * len(arrays) :]) for k in ls if k is not Ellipsis}
    )
    letters = dict(zip(names, string.ascii_letters, strict=False))

    def spell(labels: Any) -> str:
        return "".join(["..." if k is Ellipsis else letters[k] for k in labels])

    text = ",".join([spell(ls) for ls in lists])
    return (f"{text}->{spell(operands[-1])}" if len(operands) % 2 else text), arrays


def _parse(subscripts: Any, operands: tuple) -> tuple[str, list[Any]]:
    if not isinstance(subscripts, str):
        return _interleaved((subscripts, *operands))
    return subscripts.replace(" ", ""), list(operands)


def einsum(
    subscripts: Any,
    /,
    *operands: Any,
    out: None = None,
    optimize: Any = "auto",
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Any:
    """Sum of products over named axes: a label in an operand and not in the result is summed over.

    `...` stands for the axes not named, which broadcast. Without `->` the result has the labels
    that occur once, sorted. `optimize` is a strategy of opt_einsum, a path, or False for left to
    right.

    Raises:
        ShapeError: labels and shapes do not fit.

    >>> bnp.einsum("ij,jk->ik", bnp.ones((2, 3)), bnp.ones((3, 4))).shape
    (2, 4)
    >>> bnp.einsum("ii", bnp.array([[1, 2], [3, 4]]))
    Array(5, dtype=int32)
    """
    no_out("einsum", out)
    text, arrays = _parse(subscripts, operands)
    if not arrays:
        raise ValueError("einsum: needs at least one operand")
    for a in arrays:
        number("einsum", a)
    values, tag = promote(*arrays)
    shapes = tuple([tuple(v.shape) for v in values])
    try:
        plan = _plan(text, shapes, tuple(optimize) if isinstance(optimize, list) else optimize)
    except _Misfit as e:
        raise _no_einsum(isinstance(subscripts, str), arrays, e) from None
    preferred = preferred_of(preferred_element_type)
    return wrap(contract_labels(plan, values, precision_of(precision), preferred), tag)


def _no_einsum(spelled: bool, arrays: Sequence[Any], e: _Misfit) -> Exception:
    """The error of operands that do not fit their subscripts."""
    first = 1 if spelled else len(arrays) + 2  # lists of axes between operands: no names
    fixes = e.fixes if spelled else ()
    return misfit("einsum", [enter(x) for x in arrays], e.why, fixes, e.instead, first=first)


def einsum_path(
    subscripts: Any, /, *operands: Any, optimize: Any = "greedy"
) -> tuple[list[Any], str]:
    """The order in which `einsum` would take its products, and a report on its cost.

    >>> path, report = bnp.einsum_path("ij,jk,kl->il", *[bnp.ones((4, 4))] * 3)
    >>> path
    [(0, 1), (0, 1)]
    """
    import opt_einsum

    text, arrays = _parse(subscripts, operands)
    shapes = [tuple(number("einsum_path", a).shape) for a in arrays]
    path, info = opt_einsum.contract_path(text, *shapes, shapes=True, optimize=optimize)
    return list(path), str(info)
