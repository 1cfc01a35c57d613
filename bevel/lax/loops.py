"""Loops: `scan`, `while_loop`, `fori_loop`."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from bevel.api.body import Body, body_with_state
from bevel.api.flat import as_handle, described, flatten_handles, is_single, type_name
from bevel.api.naming import cell_name
from bevel.control.call import drop, merge, pick
from bevel.control.scan import scan as scan_op
from bevel.control.while_loop import while_loop as while_op
from bevel.core import config, tree
from bevel.core.dtypes import is_integer
from bevel.core.dtypes import promote as promote_dtypes
from bevel.core.graph import Graph
from bevel.core.handle import Handle, fresh_tag, is_weak, logical_shape, wrap
from bevel.core.interpreter import is_concrete, to_numpy
from bevel.core.source import user_source, where
from bevel.lax.objects import apart
from bevel.numpy.convert import astype, promote
from bevel.ops import concatenate, reshape
from bevel.ops import slice as slice_


class _Loop(NamedTuple):
    """What messages say of a loop: its name, what it calls its state, and how many leading entries
    of the state are its own, not the user's.
    """

    what: str
    noun: str = "carry"
    own: int = 0


def _check_carry(loop: _Loop, in_tree, out_tree, carry: Sequence[Handle], outs: list[str]) -> None:
    """Refuse a carry whose type changes from step to step."""
    ins = [type_name(h) for h in carry]
    if in_tree == out_tree and ins == outs:
        return
    if loop.own:
        in_tree, out_tree = in_tree.children()[loop.own], out_tree.children()[loop.own]
        ins, outs = ins[loop.own :], outs[loop.own :]
    broken = f"{loop.what}: the {loop.noun} must keep its type, but"
    if in_tree != out_tree:
        raise TypeError(
            f"{broken} the structures differ at {where(user_source())}:\n"
            f"  in:  {in_tree}\n  out: {out_tree}\n"
            f"Write instead: return the {loop.noun} in the structure it came in."
        )
    marked = tree.unflatten(in_tree, list(range(len(ins))))
    paths = [tree.keystr(p) for p, _ in tree.leaves_with_path(marked)]
    wrong = [
        f"  {loop.noun}{p}: {i} in, {o} out\n"
        for p, i, o in zip(paths, ins, outs, strict=True)
        if i != o
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
        if o.dtype != h._v.dtype and is_weak(h._tag):
            h = astype(h, promote_dtypes(np.dtype(h._v.dtype), True, o.dtype, False)[0])
        new.append(h)
    return None if all(a is b for a, b in zip(new, handles, strict=True)) else new


def _cell_handles(body: Body) -> list[Handle]:
    return [c._read() for c in body.carried]


def write_cells(cells: Sequence[Any], values: Sequence[Any], tags: Sequence[Any]) -> None:
    """Leave new contents in state cells."""
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
        init: the first carry. A module in it comes back as itself, with what `f` wrote into it.
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
    arrays, objects = apart(init, what)
    if objects is not None:

        def step(carry: Any, x: Any) -> Any:
            out = f(objects.fill(carry), x)
            pair = isinstance(out, tuple | list) and len(out) == 2
            return (objects.strip(out[0]), out[1]) if pair else out

        left, ys = _scan(loop, step, arrays, xs, length, reverse, unroll)
        return objects.fill(left), ys
    carry, carry_tree = flatten_handles(init, f"{what}: the initial {loop.noun}")
    if apart(xs, what)[1] is not None:
        raise TypeError(
            f"{what}: xs holds a module, at {where(user_source())}.\n"
            "Why: which of its variables have the axis that is looped over is not said.\n"
            "Write instead: nn.scan(f, in_axes=(nn.Carry, 0)), or nn.Stack for layers in a row."
        )
    rows, xs_tree = flatten_handles(xs, f"{what}: xs")
    length = scan_length(what, rows, length)
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
    _check_carry(loop, carry_tree, out_tree, carry, body.out_types[:n])
    body.consume([*carry, *rows], what if length > 1 else "")
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
    write_cells(body.carried, left[n:], body.forced_tags)
    return body.output.unflatten([*left[:n], *values[fixed.count(False) :]])


def _unrolled(what: str, unroll: int | bool, length: int) -> int:
    """How many steps an iteration of the compiled loop makes."""
    if isinstance(unroll, bool):
        return max(1, length) if unroll else 1
    if not is_single(unroll) or unroll < 1:
        raise ValueError(f"{what}: unroll must be a bool or a positive integer, got {unroll!r}")
    return operator.index(unroll)


def scan_length(what: str, rows: Sequence[Handle], length: int | None) -> int:
    """The one leading length of all rows and of `length`; raises ValueError if they differ."""
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


def part_of(v: Any, start: int, stop: int, step: int = 1, axis: int = 0) -> Any:
    """The elements of a value from `start` to `stop` along an axis."""
    starts, limits = [0] * len(v.shape), list(v.shape)
    starts[axis], limits[axis] = start, min(stop, v.shape[axis])
    strides = None if step == 1 else tuple([step if i == axis else 1 for i in range(len(v.shape))])
    return slice_(v, start=tuple(starts), limit=tuple(limits), strides=strides)


def _row(h: Handle, i: int) -> Handle:
    return wrap(reshape(part_of(h._v, i, i + 1), shape=tuple(h._v.shape[1:])), fresh_tag(h._tag))


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
        init_val: pytree of arrays, and modules, which come back as themselves.

    Raises:
        TypeError: the condition is no boolean scalar, or the value changes its type.

    >>> int(while_loop(lambda v: v < 100, lambda v: v * 3, 1))
    243
    """
    described("while_loop", cond_fun)
    return _while(_Loop(described("while_loop", body_fun), "value"), cond_fun, body_fun, init_val)


def _while(loop: _Loop, cond_fun, body_fun, init_val) -> Any:
    what = loop.what
    arrays, objects = apart(init_val, what)
    if objects is not None:
        new = _while(
            loop,
            lambda v: cond_fun(objects.fill(v)),
            lambda v: objects.strip(body_fun(objects.fill(v))),
            arrays,
        )
        return objects.fill(new)
    carry, treedef = flatten_handles(init_val, f"{what}: the initial value")
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
    _check_carry(loop, treedef, body.output.treedef, carry, body.out_types)
    test = Body(what, lambda *a: cond_fun(tree.unflatten(treedef, a)), carry, body.carried)
    if test.changed:
        name = cell_name(test.changed[0], cond_fun)
        raise TypeError(
            f"{what}: the condition writes a state cell ({name}) at "
            f"{where(user_source())}.\nWhy: what is carried on is what the body leaves.\n"
            "Write instead: write it in the body, which runs once a step."
        )
    if len(test.out_avals) != 1 or test.out_avals[0].shape != () or test.out_avals[0].dtype != bool:
        raise TypeError(
            f"{what}: the condition must return one boolean scalar, but it returned "
            f"{[str(a) for a in test.out_avals]} at {where(user_source())}.\n"
            "Write instead: a comparison (`v < 10`), with .any() or .all() if it is an array."
        )
    for part in (test, body):
        part.consume(carry, what)
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
    write_cells(body.carried, values[n:], body.forced_tags)
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
            raise TypeError(f"fori_loop: {name} must be an integer scalar, got {type_name(h)}")
    (lo_v, hi_v), tag = promote(lower, upper)
    if unroll is not None and unroll is not False and unroll != 1:
        raise ValueError("fori_loop: unroll needs bounds that are Python integers")

    def body(carry: Any) -> Any:
        i, end, value = carry
        return i + 1, end, body_fun(i, value)

    init = (wrap(lo_v), wrap(hi_v), init_val)
    return _while(_Loop(what, "value", own=2), lambda c: c[0] < c[1], body, init)[2]
