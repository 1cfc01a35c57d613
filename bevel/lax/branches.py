"""Branches: `cond` and `switch`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bevel.api.body import Body, bodies_with_state, unify_captured
from bevel.api.flat import as_handle, flatten_handles, name_of, rewrap, tree_text, type_name
from bevel.control.cond import cond as cond_op
from bevel.core import tree
from bevel.core.dtypes import is_integer
from bevel.core.dtypes import promote as promote_dtypes
from bevel.core.handle import KeyTag, is_weak, logical_shape, weak_together
from bevel.core.interpreter import is_concrete, to_numpy
from bevel.core.source import user_source, where
from bevel.lax.loops import write_cells
from bevel.lax.objects import Objects, apart
from bevel.numpy.convert import astype
from bevel.ops import clamp, convert, full_like, zeros_like
from bevel.random.keys import consume


def _kind(x: Any) -> str:
    return "a function" if callable(x) else f"of type {type(x).__name__}"


def _check_branches(what: str, bodies: Sequence[Body], funs: Sequence[Callable[..., Any]]) -> None:
    first = bodies[0]
    for f, b in zip(funs[1:], bodies[1:], strict=True):
        if b.output.treedef != first.output.treedef:
            raise TypeError(
                f"{what}: the branches return different structures at {where(user_source())}:\n"
                f"  {tree_text(first.output.treedef, first.out_types)} from {name_of(funs[0])}\n"
                f"  {tree_text(b.output.treedef, b.out_types)} from {name_of(f)}\n"
                "Write instead: return the same structure from both (a value from each, no None)."
            )
        for k, (x, y) in enumerate(zip(first.out_types, b.out_types, strict=True)):
            if x != y:
                raise TypeError(
                    f"{what}: the branches return different types at {where(user_source())}: "
                    f"result {k} is "
                    f"{x} from {name_of(funs[0])} and {y} from {name_of(f)}.\n"
                    "Why: the result of a compiled choice has one shape and dtype.\n"
                    "Write instead: .astype or reshape one of them."
                )


def _common_type(results: Sequence[tuple[np.dtype, Any]]) -> np.dtype | None:
    """The dtype all results (given as dtypes and tags) take: the only one that is not weak, or what
    weak ones promote to; or None.
    """
    if len({d for d, _ in results}) == 1:
        return None
    kinds = [(d, is_weak(tag)) for d, tag in results]
    strong = {d for d, weak in kinds if not weak}
    if len(strong) > 1:
        return None
    joined = functools.reduce(lambda a, b: promote_dtypes(*a, *b), kinds)[0]
    return joined if not strong or joined in strong else None


def _common_types(
    funs: Sequence[Callable[..., Any]], bodies: Sequence[Body]
) -> list[Callable[..., Any]] | None:
    """Branches that convert weakly typed results to the dtype of the others; None if none is
    needed.
    """
    if len({b.output.treedef for b in bodies}) > 1:
        return None
    targets = [
        _common_type([(b.out_avals[k].dtype, b.output.tags[k]) for b in bodies])
        for k in range(len(bodies[0].out_avals))
    ]
    if not any(targets):
        return None

    def converted(f: Callable[..., Any]) -> Callable[..., Any]:
        def g(*args: Any) -> Any:
            leaves, treedef = tree.flatten(f(*args))
            hs = [as_handle(x, "a branch's result") for x in leaves]
            new = [h if t is None else astype(h, t) for h, t in zip(hs, targets, strict=True)]
            return tree.unflatten(treedef, new)

        g.__name__ = name_of(f)
        return g

    return [converted(f) for f in funs]


def _filled(f: Callable[..., Any], given: Objects, kept: list[Objects | None]) -> Any:
    """The function of the arrays alone; given modules that it returns are put into `kept`."""
    place = len(kept)
    kept.append(None)

    @functools.wraps(f)
    def g(*arrays: Any) -> Any:
        result = f(*given.fill(arrays))
        rest, kept[place] = apart(result, given.what)
        return rest if given.has_all_of(kept[place]) else result  # which is refused as a result

    return g


def _same_modules(what: str, funs: Sequence[Callable[..., Any]], kept: Sequence[Any]) -> Any:
    """The modules in the results of all branches, which must be the same ones."""
    for f, other in zip(funs[1:], kept[1:], strict=True):
        if not (kept[0] is other or (kept[0] is not None and kept[0].same(other))):
            raise TypeError(
                f"{what}: {name_of(funs[0])} and {name_of(f)} return different modules, at "
                f"{where(user_source())}.\n"
                "Why: which module it is must be known before the program runs.\n"
                "Write instead: the same module, or none, from all branches."
            )
    return kept[0]


def choose(
    what: str, index: Any, funs: Sequence[Callable[..., Any]], operands: Sequence[Any]
) -> Any:
    """Choose by an int32 value; the operands are traced into every branch."""
    operands, objects = apart(tuple(operands), f"{what}: an operand")
    if objects is not None:
        kept: list[Objects | None] = []
        found = choose(what, index, [_filled(f, objects, kept) for f in funs], operands)
        modules = _same_modules(what, funs, kept)
        return found if modules is None else modules.fill(found)
    handles, treedef = flatten_handles(tuple(operands), f"{what}: an operand")
    flat = []
    for f in funs:

        def g(*args: Any, f: Callable[..., Any] = f) -> Any:
            return f(*tree.unflatten(treedef, args))

        g.__name__ = name_of(f)
        flat.append(g)
    bodies = bodies_with_state(what, flat, handles)
    converted = _common_types(flat, bodies)
    if converted is not None:
        bodies = bodies_with_state(what, converted, handles)
    _check_branches(what, bodies, funs)
    for i in {i: None for b in bodies for i in b.drawn}:
        consume(what, handles[i])
    for b in bodies:
        b.consumed.keep()
    consts, graphs = unify_captured(bodies)
    values = cond_op(index, *consts, *[h._v for h in handles], branches=tuple(graphs))
    n = len(bodies[0].output.tags)
    forced = list(dict.fromkeys(c for b in bodies for c in b.changed))
    write_cells(forced, values[n:], bodies[0].forced_tags)
    tags = [
        t if type(t) is KeyTag else weak_together([b.output.tags[k] for b in bodies])
        for k, t in enumerate(bodies[0].output.tags)
    ]
    return tree.unflatten(bodies[0].output.treedef, rewrap(values[:n], tags))


def cond(
    pred: Any,
    true_fun: Callable[..., Any],
    false_fun: Callable[..., Any],
    *operands: Any,
    **old: Any,
) -> Any:
    """`true_fun(*operands) if pred else false_fun(*operands)`, where `pred` may be traced.

    With a traced `pred` both functions are traced, and only the chosen one runs; they must return
    the same structure, shapes and dtypes, and of the modules among the operands the same ones. With
    a concrete one the function is simply called.

    Raises:
        TypeError: `pred` is no scalar, or the branches differ in what they return.

    >>> float(cond(True, lambda x: x + 1, lambda x: x - 1, 1.0))
    2.0
    """
    if "operand" in old:
        operands = (old.pop("operand"),)
    if old:
        raise TypeError(
            f"cond: unexpected keyword arguments {sorted(old)}; pass operands by position"
        )
    if not (callable(true_fun) and callable(false_fun)):
        raise TypeError(
            f"cond: true_fun is {_kind(true_fun)} and false_fun is {_kind(false_fun)}; both must "
            "be functions.\n"
            "Write instead: cond(pred, f, g, *operands), with the functions and not their results;"
            " bnp.where(pred, a, b) to choose between values."
        )
    what = "cond"
    h = as_handle(pred, "cond: the predicate")
    if logical_shape(h) != ():
        raise TypeError(
            f"cond: the predicate must be a scalar, got {type_name(h)} at "
            f"{where(user_source())}.\n"
            "Write instead: x.any() or x.all(); bnp.where(x, a, b) to choose element by element; "
            "or bv.vmap."
        )
    if is_concrete(h._v):
        return (true_fun if to_numpy(h._v) else false_fun)(*operands)
    index = convert(h._v if h._v.dtype == bool else (h != 0)._v, dtype=np.dtype(np.int32))
    return choose(what, index, [false_fun, true_fun], operands)


def switch(
    index: Any, branches: Sequence[Callable[..., Any]], *operands: Any, operand: Any = None
) -> Any:
    """`branches[clip(index, 0, len(branches) - 1)](*operands)`, where `index` may be traced.

    Raises:
        TypeError: `index` is no integer scalar, or the branches differ in what they return.
        ValueError: no branches.

    >>> int(switch(1, [lambda x: x, lambda x: x * 10], 4))
    40
    """
    if operand is not None:
        operands = (operand,)
    if callable(branches):
        raise TypeError("switch: branches must be a list of functions; write switch(i, [f, g], x)")
    branches = list(branches)
    if not branches:
        raise ValueError("switch: give at least one branch")
    h = as_handle(index, "switch: the index")
    if logical_shape(h) != () or not is_integer(np.dtype(h._v.dtype)):
        raise TypeError(f"switch: the index must be an integer scalar, got {type_name(h)}")
    if is_concrete(h._v):
        return branches[int(np.clip(to_numpy(h._v), 0, len(branches) - 1))](*operands)
    if len(branches) == 1:
        return branches[0](*operands)
    last = full_like(h._v, min(len(branches) - 1, int(np.iinfo(h._v.dtype).max)))
    inside = clamp(zeros_like(h._v), h._v, last)
    return choose("switch", convert(inside, dtype=np.dtype(np.int32)), branches, operands)
