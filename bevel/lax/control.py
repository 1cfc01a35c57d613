"""Structured control flow: `cond`, `switch`, `while_loop`, `fori_loop`, `scan`, `map`,
`associative_scan`.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from bevel.api.body import Body, bodies_with_state, body_with_state, unify_captured
from bevel.api.flat import as_handle, described, is_single, name_of, rewrap
from bevel.api.vmap import vmap
from bevel.control.call import drop, merge, pick
from bevel.control.cond import cond as cond_op
from bevel.control.scan import scan as scan_op
from bevel.control.while_loop import while_loop as while_op
from bevel.core import config, tree
from bevel.core.aval import aval_of
from bevel.core.dtypes import is_integer
from bevel.core.dtypes import promote as promote_dtypes
from bevel.core.graph import Graph
from bevel.core.handle import WEAK, Handle, fresh_tag, logical_shape, wrap
from bevel.core.interpreter import is_concrete, to_numpy
from bevel.core.source import user_source, where
from bevel.numpy.convert import astype, promote
from bevel.ops import clamp, concatenate, convert, full_like, reshape, rev, zeros_like
from bevel.ops import slice as slice_


def _flatten(value: Any, what: str) -> tuple[list[Handle], Any]:
    leaves, treedef = tree.flatten(value)
    return [as_handle(x, what) for x in leaves], treedef


def _type_name(h: Handle | Any) -> str:
    aval = aval_of(h._v) if isinstance(h, Handle) else h
    return f"{aval}"


class _Loop(NamedTuple):
    """What messages say of a loop: its name, what it calls its state, and how many leading entries
    of the state are its own, not the user's.
    """

    what: str
    noun: str = "carry"
    own: int = 0


def _check_carry(loop: _Loop, in_tree, out_tree, inputs: Sequence[Handle], outs: Any) -> None:
    """Refuse a carry whose type changes from step to step."""
    if in_tree == out_tree and all(aval_of(i._v) == o for i, o in zip(inputs, outs, strict=True)):
        return
    if loop.own:
        in_tree, out_tree = in_tree.children()[loop.own], out_tree.children()[loop.own]
        inputs, outs = inputs[loop.own :], outs[loop.own :]
    broken = f"{loop.what}: the {loop.noun} must keep its type, but"
    if in_tree != out_tree:
        raise TypeError(
            f"{broken} the structures differ at {where(user_source())}:\n"
            f"  in:  {in_tree}\n  out: {out_tree}\n"
            f"Write instead: return the {loop.noun} in the structure it came in."
        )
    marked = tree.unflatten(in_tree, list(range(len(inputs))))
    paths = [tree.keystr(p) for p, _ in tree.leaves_with_path(marked)]
    wrong = [
        f"  {loop.noun}{p}: {_type_name(i)} in, {o} out\n"
        for p, i, o in zip(paths, inputs, outs, strict=True)
        if aval_of(i._v) != o
    ]
    raise TypeError(
        f"{broken} it changes at {where(user_source())}:\n{''.join(wrong)}"
        "Why: the loop is one program, whose state has fixed shapes and dtypes.\n"
        "Write instead: start from the right type (bnp.zeros(shape, dtype)), or .astype the "
        "result back."
    )


def _strengthen(handles: Sequence[Handle], outs: Sequence[Any]) -> list[Handle] | None:
    """Weakly typed initial values promoted with what the body gives; None if nothing changes."""
    new = []
    for h, o in zip(handles, outs, strict=True):
        if h._tag is WEAK and o.dtype != h._v.dtype:
            h = astype(h, promote_dtypes(np.dtype(h._v.dtype), True, o.dtype, False)[0])
        new.append(h)
    return None if all(a is b for a, b in zip(new, handles, strict=True)) else new


def _cell_handles(body: Body) -> list[Handle]:
    return [c._read() for c in body.carried]


def _write_cells(cells: Sequence[Any], values: Sequence[Any], tags: Sequence[Any]) -> None:
    for cell, value, tag in zip(cells, values, tags, strict=True):
        cell._write(wrap(value, fresh_tag(tag)))


def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
) -> tuple[Any, Any]:
    """Loop over the leading axis of `xs`, carrying state: `carry, y = f(carry, x)`; ys are stacked.

    Compiled once whatever the length; differentiable in both modes. State cells that `f` writes are
    carried along.

    Args:
        f: takes and returns pytrees; the carry keeps its structure, shapes and dtypes.
        init: the first carry.
        xs: pytree of arrays with one leading length, or None.
        length: the number of steps, needed when `xs` is None.
        reverse: go from the last row to the first.
        unroll: steps per iteration of the compiled loop; True unrolls all.

    Returns:
        The last carry, and the ys stacked along a new axis 0.

    Raises:
        TypeError: `f` returns no pair, or the carry changes its type; the message names the leaf.
        ValueError: lengths differ.

    >>> import bevel.numpy as bnp
    >>> carry, ys = scan(lambda c, x: (c + x, c), 0.0, bnp.arange(4.0))
    >>> float(carry), ys.tolist()
    (6.0, [0.0, 0.0, 1.0, 3.0])
    """
    return _scan(_Loop(described("scan", f)), f, init, xs, length, reverse, unroll)


def _scan(loop: _Loop, f, init, xs, length, reverse, unroll) -> tuple[Any, Any]:
    what = loop.what
    carry, carry_tree = _flatten(init, f"{what}: the initial {loop.noun}")
    rows, xs_tree = _flatten(xs, f"{what}: xs")
    length = _scan_length(what, rows, length)
    unroll = _unrolled(what, unroll, length)
    if config.get("disable_jit"):
        return _scan_in_python(f, init, rows, xs_tree, length, reverse)
    row_handles = [_row_like(r) for r in rows]

    def flat(*args: Any) -> Any:
        c = tree.unflatten(carry_tree, args[: len(carry)])
        out = f(c, tree.unflatten(xs_tree, args[len(carry) :]))
        if not (isinstance(out, tuple | list) and len(out) == 2):
            raise TypeError(
                f"{what}: the function must return a pair (carry, y), but it returned "
                f"{type(out).__name__}.\n"
                "Write instead: `return carry, None` if there is nothing to stack."
            )
        return tuple(out)

    while True:
        body = body_with_state(what, flat, [*carry, *row_handles])
        out_tree = body.output.treedef.children()[0]
        n = out_tree.num_leaves
        stronger = _strengthen(carry, body.out_avals[:n]) if n == len(carry) else None
        if stronger is None:
            break
        carry = stronger
    _check_carry(loop, carry_tree, out_tree, carry, body.out_avals[:n])
    # The graph's inputs are (captured, carry, rows, cells); the loop's carry is (carry, cells).
    graph, nc, nx, n_out = body.graph, len(body.consts), len(rows), len(body.output.tags)
    i, o = graph.inputs, graph.outputs
    state_in, state_out = i[nc : nc + n] + i[nc + n + nx :], o[:n] + o[n_out:]
    state = [h._v for h in (*carry, *_cell_handles(body))]
    # What every step hands on as it got it is a constant, which reverse mode keeps once, not per
    # step.
    fixed = [a is b for a, b in zip(state_in, state_out, strict=True)]
    inputs = i[:nc] + pick(fixed, state_in) + drop(fixed, state_in) + i[nc + n : nc + n + nx]
    values = scan_op(
        *body.consts,
        *pick(fixed, state),
        *drop(fixed, state),
        *[h._v for h in rows],
        body=Graph(inputs, graph.eqns, drop(fixed, state_out) + o[n:n_out]),
        length=length,
        reverse=bool(reverse),
        unroll=unroll,
        n_consts=nc + sum(fixed),
        n_carry=fixed.count(False),
    )
    left = merge(fixed, pick(fixed, state), values[: fixed.count(False)])
    _write_cells(body.carried, left[n:], body.forced_tags)
    return body.output.unflatten([*left[:n], *values[fixed.count(False) :]])


def _unrolled(what: str, unroll: int | bool, length: int) -> int:
    """How many steps an iteration of the compiled loop makes."""
    if isinstance(unroll, bool):
        return max(1, length) if unroll else 1
    if not is_single(unroll) or unroll < 1:
        raise ValueError(f"{what}: unroll must be a bool or a positive integer, got {unroll!r}")
    return operator.index(unroll)


def _scan_length(what: str, rows: Sequence[Handle], length: int | None) -> int:
    if length is not None and (not is_single(length) or length < 0):
        raise ValueError(f"{what}: length must be a number of steps, got {length!r}")
    sizes = set()
    for r in rows:
        shape = logical_shape(r)
        if not shape:
            raise ValueError(
                f"{what}: xs has a scalar leaf; every leaf needs a leading axis to loop over"
            )
        sizes.add(shape[0])
    if length is not None:
        sizes.add(operator.index(length))
    if len(sizes) != 1:
        if not sizes:
            raise ValueError(f"{what}: give xs, or length= the number of steps")
        raise ValueError(
            f"{what}: the leading lengths of xs {[logical_shape(r)[0] for r in rows]} and "
            f"length={length} differ; "
            "they must be one number"
        )
    return sizes.pop()


def _row_like(h: Handle) -> Handle:
    """A handle with the type of one row (its contents are never read)."""
    v = h._v
    return wrap(np.broadcast_to(np.zeros((), v.dtype), tuple(v.shape[1:])), fresh_tag(h._tag))


def _part(v: Any, start: int, stop: int, step: int = 1, axis: int = 0) -> Any:
    """The elements of a value from `start` to `stop` along an axis."""
    starts, limits = [0] * len(v.shape), list(v.shape)
    starts[axis], limits[axis] = start, min(stop, v.shape[axis])
    strides = None if step == 1 else tuple([step if i == axis else 1 for i in range(len(v.shape))])
    return slice_(v, start=tuple(starts), limit=tuple(limits), strides=strides)


def _row(h: Handle, i: int) -> Handle:
    return wrap(reshape(_part(h._v, i, i + 1), shape=tuple(h._v.shape[1:])), fresh_tag(h._tag))


def _scan_in_python(f, init, rows, xs_tree, length, reverse):
    carry, ys = init, []
    for i in reversed(range(length)) if reverse else range(length):
        carry, y = f(carry, tree.unflatten(xs_tree, [_row(r, i) for r in rows]))
        ys.append(y)
    if reverse:
        ys.reverse()
    if not ys:
        raise ValueError(
            "scan of length 0 under disable_jit: the type of ys is not known without tracing"
        )
    return carry, tree.map(lambda *leaves: _stack([as_handle(x, "scan: y") for x in leaves]), *ys)


def _stack(handles: Sequence[Handle]) -> Handle:
    values, tag = promote(*handles)
    return wrap(concatenate(*[reshape(v, shape=(1, *v.shape)) for v in values], axis=0), tag)


def while_loop(
    cond_fun: Callable[[Any], Any], body_fun: Callable[[Any], Any], init_val: Any
) -> Any:
    """Repeat `val = body_fun(val)` while `cond_fun(val)` holds.

    Forward mode only: reverse mode needs a known number of steps (`scan`, or `fori_loop` with
    Python ints).

    Args:
        cond_fun: returns a boolean scalar; it must not write state cells.
        body_fun: keeps the structure, shapes and dtypes of its argument.
        init_val: pytree of arrays.

    Raises:
        TypeError: the condition is no boolean scalar, or the value changes its type.

    >>> int(while_loop(lambda v: v < 100, lambda v: v * 3, 1))
    243
    """
    described("while_loop", cond_fun)
    return _while(_Loop(described("while_loop", body_fun), "value"), cond_fun, body_fun, init_val)


def _while(loop: _Loop, cond_fun, body_fun, init_val) -> Any:
    what = loop.what
    carry, treedef = _flatten(init_val, f"{what}: the initial value")
    if config.get("disable_jit"):
        value = init_val
        while cond_fun(value):
            value = body_fun(value)
        return value
    while True:
        body = body_with_state(what, lambda *a: body_fun(tree.unflatten(treedef, a)), carry)
        stronger = _strengthen(carry, body.out_avals) if len(body.out_avals) == len(carry) else None
        if stronger is None:
            break
        carry = stronger
    _check_carry(loop, treedef, body.output.treedef, carry, body.out_avals)
    test = Body(what, lambda *a: cond_fun(tree.unflatten(treedef, a)), carry, body.carried)
    if test.changed:
        raise TypeError(
            f"{what}: the condition writes a state cell; write it in the body, which runs once a "
            "step"
        )
    if len(test.out_avals) != 1 or test.out_avals[0].shape != () or test.out_avals[0].dtype != bool:
        raise TypeError(
            f"{what}: the condition must return one boolean scalar, but it returned "
            f"{[str(a) for a in test.out_avals]} at {where(user_source())}.\n"
            "Write instead: a comparison (`v < 10`), with .any() or .all() if it is an array."
        )
    cells = _cell_handles(body)
    values = while_op(
        *test.consts,
        *body.consts,
        *[h._v for h in (*carry, *cells)],
        cond=test.graph,
        body=body.graph,
        n_cond=len(test.consts),
        n_body=len(body.consts),
    )
    n = len(carry)
    _write_cells(body.carried, values[n:], body.forced_tags)
    return body.output.unflatten(values[:n])


def _concrete_int(x: Any) -> int | None:
    """The value of a bound that is known while tracing, or None."""
    if isinstance(x, bool):
        return None
    if isinstance(x, int | np.integer):
        return int(x)
    if (
        isinstance(x, Handle)
        and is_concrete(x._v)
        and is_integer(np.dtype(x._v.dtype))
        and x._v.ndim == 0
    ):
        return int(to_numpy(x._v))
    return None


def fori_loop(
    lower: Any,
    upper: Any,
    body_fun: Callable[[Any, Any], Any],
    init_val: Any,
    *,
    unroll: int | bool | None = None,
) -> Any:
    """`for i in range(lower, upper): val = body_fun(i, val)`.

    With bounds known while tracing it is a `scan`, and differentiable in both modes; with traced
    bounds it is a `while_loop`, in forward mode only.

    Raises:
        TypeError: bounds are no integer scalars, or the value changes its type.

    >>> float(fori_loop(0, 5, lambda i, v: v * 2.0, 1.0))
    32.0
    """
    what = described("fori_loop", body_fun)
    lo, hi = _concrete_int(lower), _concrete_int(upper)
    if lo is not None and hi is not None:
        length = max(hi - lo, 0)

        def step(carry: Any, _: Any) -> Any:
            i, value = carry
            return (i + 1, body_fun(i, value)), None

        start = wrap(np.asarray(lo, np.int32))
        loop = _Loop(what, "value", own=1)
        unroll = 1 if unroll is None else unroll
        return _scan(loop, step, (start, init_val), None, length, False, unroll)[0][1]
    for name, bound in (("lower", lower), ("upper", upper)):
        h = as_handle(bound, f"fori_loop: {name}")
        if logical_shape(h) or not is_integer(np.dtype(h._v.dtype)):
            raise TypeError(f"fori_loop: {name} must be an integer scalar, got {_type_name(h)}")
    (lo_v, hi_v), tag = promote(lower, upper)
    if unroll is not None and unroll is not False and unroll != 1:
        raise ValueError("fori_loop: unroll needs bounds that are Python integers")

    def body(carry: Any) -> Any:
        i, end, value = carry
        return i + 1, end, body_fun(i, value)

    init = (wrap(lo_v), wrap(hi_v), init_val)
    return _while(_Loop(what, "value", own=2), lambda c: c[0] < c[1], body, init)[2]


# -- branches --------------------------------------------------------------------------------------


def _check_branches(what: str, bodies: Sequence[Body], funs: Sequence[Callable[..., Any]]) -> None:
    first = bodies[0]
    for f, b in zip(funs[1:], bodies[1:], strict=True):
        if b.output.treedef != first.output.treedef:
            raise TypeError(
                f"{what}: the branches return different structures at {where(user_source())}:\n"
                f"  {name_of(funs[0])}: {first.output.treedef}\n  {name_of(f)}: "
                f"{b.output.treedef}\n"
                "Write instead: return the same structure from both."
            )
        for k, (x, y) in enumerate(zip(first.out_avals, b.out_avals, strict=True)):
            if x != y:
                raise TypeError(
                    f"{what}: the branches return different types at {where(user_source())}: "
                    f"result {k} is "
                    f"{x} from {name_of(funs[0])} and {y} from {name_of(f)}.\n"
                    "Why: the result of a compiled choice has one shape and dtype.\n"
                    "Write instead: .astype or reshape one of them."
                )


def _common_type(kinds: Sequence[tuple[np.dtype, bool]]) -> np.dtype | None:
    """The dtype all results take: the only one that is not weak, or what weak ones promote to; or
    None.
    """
    strong = {d for d, weak in kinds if not weak}
    if len(strong) > 1 or len({d for d, _ in kinds}) == 1:
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
        _common_type([(b.out_avals[k].dtype, b.output.tags[k] is WEAK) for b in bodies])
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


def _branch(
    what: str, index: Any, funs: Sequence[Callable[..., Any]], operands: Sequence[Any]
) -> Any:
    """Choose by an int32 value; the operands are traced into every branch."""
    handles, treedef = _flatten(tuple(operands), f"{what}: an operand")
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
    consts, graphs = unify_captured(bodies)
    values = cond_op(index, *consts, *[h._v for h in handles], branches=tuple(graphs))
    n = len(bodies[0].output.tags)
    forced = list(dict.fromkeys(c for b in bodies for c in b.changed))
    _write_cells(forced, values[n:], bodies[0].forced_tags)
    tags = [
        None if any(b.output.tags[k] is None for b in bodies) else t
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
    the same structure, shapes and dtypes. With a concrete one the function is simply called.

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
            "cond: write cond(pred, true_fun, false_fun, *operands): the second and third are "
            "functions"
        )
    what = "cond"
    h = as_handle(pred, "cond: the predicate")
    if logical_shape(h) != ():
        raise TypeError(
            f"cond: the predicate must be a scalar, got {_type_name(h)} at "
            f"{where(user_source())}.\n"
            "Write instead: x.any() or x.all(); bnp.where(x, a, b) to choose element by element; "
            "or bv.vmap."
        )
    if is_concrete(h._v):
        return (true_fun if to_numpy(h._v) else false_fun)(*operands)
    index = convert(h._v if h._v.dtype == bool else (h != 0)._v, dtype=np.dtype(np.int32))
    return _branch(what, index, [false_fun, true_fun], operands)


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
        raise TypeError(f"switch: the index must be an integer scalar, got {_type_name(h)}")
    if is_concrete(h._v):
        return branches[int(np.clip(to_numpy(h._v), 0, len(branches) - 1))](*operands)
    if len(branches) == 1:
        return branches[0](*operands)
    last = full_like(h._v, min(len(branches) - 1, int(np.iinfo(h._v.dtype).max)))
    inside = clamp(zeros_like(h._v), h._v, last)
    return _branch("switch", convert(inside, dtype=np.dtype(np.int32)), branches, operands)


# -- made of the others ----------------------------------------------------------------------------


def map(f: Callable[[Any], Any], xs: Any, *, batch_size: int | None = None) -> Any:  # noqa: A001 (jax.lax.map)
    """Apply `f` to the rows of `xs` one after the other (`vmap` does them at once, in more memory).

    Args:
        f: over pytrees of arrays.
        xs: pytree of arrays with one leading length.
        batch_size: rows to do at once, by `vmap`.

    >>> import bevel.numpy as bnp
    >>> map(lambda x: x * 2, bnp.arange(3)).tolist()
    [0, 2, 4]
    """
    if batch_size is None:
        return scan(lambda _, x: (None, f(x)), None, xs)[1]
    if batch_size < 1:
        raise ValueError(
            f"map: batch_size must be at least 1, got {batch_size}; leave it out for one row at "
            "a time"
        )
    rows, treedef = _flatten(xs, "map: xs")
    n = _scan_length("map", rows, None)
    size = min(batch_size, n) or 1
    whole = n // size * size

    def batches(h: Handle) -> Handle:
        v = _part(h._v, 0, whole)
        return wrap(reshape(v, shape=(whole // size, size, *v.shape[1:])), fresh_tag(h._tag))

    g = vmap(f)
    stacked = scan(
        lambda _, x: (None, g(x)), None, tree.unflatten(treedef, [batches(h) for h in rows])
    )[1]
    joined = tree.map(
        lambda y: wrap(reshape(y._v, shape=(whole, *y._v.shape[2:])), fresh_tag(y._tag)), stacked
    )
    if whole == n:
        return joined
    rest = g(
        tree.unflatten(treedef, [wrap(_part(h._v, whole, n), fresh_tag(h._tag)) for h in rows])
    )
    return tree.map(
        lambda a, b: wrap(concatenate(a._v, b._v, axis=0), fresh_tag(a._tag)), joined, rest
    )


def associative_scan(
    fn: Callable[[Any, Any], Any], elems: Any, reverse: bool = False, axis: int = 0
) -> Any:
    """All prefixes combined by an associative function, in logarithmic depth.

    Source: Blelloch, "Prefix sums and their applications", 1990.

    Args:
        fn: combines two pytrees of arrays elementwise along `axis` (it gets slices of several
            elements).
        elems: pytree of arrays with one length along `axis`.
        reverse: combine from the end.
        axis: the axis to scan along.

    >>> import bevel.numpy as bnp
    >>> associative_scan(lambda a, b: a + b, bnp.arange(5)).tolist()
    [0, 1, 3, 6, 10]
    """
    handles, treedef = _flatten(elems, "associative_scan: elems")
    shapes = [logical_shape(h) for h in handles]
    if not all(-len(s) <= axis < len(s) for s in shapes):
        raise ValueError(
            f"associative_scan: axis {axis} is out of range for leaves of the shapes {shapes}"
        )
    axes = [axis % len(s) for s in shapes]
    sizes = {s[a] for s, a in zip(shapes, axes, strict=True)}
    if len(sizes) != 1:
        raise ValueError(
            f"associative_scan: the leaves have different lengths {sorted(sizes)} along axis {axis}"
        )
    tags = [h._tag for h in handles]

    def part(xs: Sequence[Any], start: int, stop: int, step: int = 1) -> list[Any]:
        return [_part(x, start, stop, step, a) for x, a in zip(xs, axes, strict=True)]

    def combine(a: Sequence[Any], b: Sequence[Any]) -> list[Any]:
        out = fn(tree.unflatten(treedef, rewrap(a, tags)), tree.unflatten(treedef, rewrap(b, tags)))
        found, structure = _flatten(out, "associative_scan: a result of the function")
        types = [(tuple(x.shape), x.dtype) for x in b]
        if structure != treedef or [(tuple(h._v.shape), h._v.dtype) for h in found] != types:
            raise TypeError(
                f"associative_scan: the function got {treedef} of {[str(aval_of(x)) for x in b]} "
                "and returned "
                f"{structure} of {[_type_name(h) for h in found]}; it must keep structure, "
                "shapes and dtypes"
            )
        return [h._v for h in found]

    def scanned(xs: Sequence[Any], n: int) -> Sequence[Any]:
        if n < 2:
            return xs
        odd = scanned(combine(part(xs, 0, n - 1, 2), part(xs, 1, n, 2)), n // 2)
        even = part(xs, 0, 1)
        if n > 2:
            later = combine(part(odd, 0, (n - 1) // 2), part(xs, 2, n, 2))
            even = [concatenate(e, x, axis=a) for e, x, a in zip(even, later, axes, strict=True)]
        return [_interleave(e, o, a, n) for e, o, a in zip(even, odd, axes, strict=True)]

    turn = lambda xs: [rev(x, axes=(a,)) for x, a in zip(xs, axes, strict=True)] if reverse else xs  # noqa: E731
    result = turn(scanned(turn([h._v for h in handles]), sizes.pop()))
    return tree.unflatten(treedef, rewrap(result, tags))


def _interleave(even: Any, odd: Any, axis: int, n: int) -> Any:
    """The n elements even[0], odd[0], even[1], ... along an axis."""
    if n % 2:
        odd = concatenate(odd, _part(even, n // 2, n // 2 + 1, axis=axis), axis=axis)
    shape = tuple(even.shape)
    before, after = shape[:axis], shape[axis + 1 :]
    pair = [reshape(x, shape=(*before, shape[axis], 1, *after)) for x in (even, odd)]
    both = reshape(concatenate(*pair, axis=axis + 1), shape=(*before, 2 * shape[axis], *after))
    return _part(both, 0, n, axis=axis)
