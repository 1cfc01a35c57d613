"""Loops: `scan`, `while_loop`, `fori_loop`."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from bevel.api.body import Body, body_with_state
from bevel.api.flat import (
    as_handle,
    described,
    flatten_handles,
    is_single,
    tree_text,
    type_name,
)
from bevel.api.naming import cell_name
from bevel.control.bounded_while import bounded_while, chunks, limited
from bevel.control.call import drop, merge, pick
from bevel.control.scan import scan as scan_op
from bevel.control.while_loop import while_loop as while_op
from bevel.core import config, tree
from bevel.core.dtypes import is_integer
from bevel.core.dtypes import promote as promote_dtypes
from bevel.core.graph import Graph, evaluate
from bevel.core.handle import Handle, fresh_tag, is_weak, logical_shape, wrap
from bevel.core.interpreter import Tracer, is_concrete, to_numpy
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
            f"  in:  {tree_text(in_tree, ins)}\n  out: {tree_text(out_tree, outs)}\n"
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
            f"length={length} differ.\n"
            "Why: a step gets one row of each.\n"
            "Write instead: arrays with one leading length (x[:n]); what all steps share goes into "
            "the carry, or around the function."
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
    cond_fun: Callable[[Any], Any],
    body_fun: Callable[[Any], Any],
    init_val: Any,
    *,
    max_steps: int | None = None,
) -> Any:
    """Repeat `val = body_fun(val)` while `cond_fun(val)` holds.

    Reverse mode (`grad`, `vjp`) needs `max_steps`, a bound on the number of steps; forward mode
    (`jvp`, `jacfwd`) does not. The loop still ends when the condition fails, forwards and
    backwards: a large bound costs memory, not steps. Of a loop of at most n steps reverse mode
    keeps sqrt(n) states (of 100 steps, 10; of 10,000, 100), and as many again while it goes
    backwards; the body runs three times for each step instead of once, and then backwards. Arrays
    that are only written, such as a history, do not count as state. Where all steps are made in any
    case, `scan` keeps more and runs the body once.

    If the condition still holds after `max_steps` steps, eager code raises, also under `grad` and
    `vmap`. A compiled program does not, and stops there; so does the function that it
    differentiates. `bv.check(~cond_fun(val), "too few steps")` after the loop raises there, too.

    Source: Griewank and Walther, "Revolve", 2000 (checkpoints); Chen et al., "Training deep nets
        with sublinear memory cost", 2016.

    Args:
        cond_fun: returns a boolean scalar; it must not write state cells.
        body_fun: keeps the structure, shapes and dtypes of its argument. Under `vmap` it runs until
            the last row has ended; rows that have ended keep their values.
        init_val: pytree of arrays, and modules, which come back as themselves.
        max_steps: a positive Python integer, or None for no bound.

    Raises:
        TypeError: the condition is no boolean scalar, the value changes its type, or `max_steps` is
            no Python integer.
        ValueError: `max_steps` is not positive.
        RuntimeError: eagerly, more than `max_steps` steps are needed.

    >>> int(while_loop(lambda v: v < 100, lambda v: v * 3, 1))
    243

    The derivative of Newton's iteration for a root, which is that of the root:

    >>> import bevel as bv
    >>> def root(a):
    ...     going = lambda x: abs(x * x - a) > 1e-5
    ...     return while_loop(going, lambda x: (x + a / x) / 2, a, max_steps=50)
    >>> value, slope = bv.value_and_grad(root)(4.0)
    >>> round(float(value), 4), round(float(slope), 4)
    (2.0, 0.25)
    """
    described("while_loop", cond_fun)
    loop = _Loop(described("while_loop", body_fun), "value")
    return _while(loop, cond_fun, body_fun, init_val, _checked_steps(loop.what, max_steps))


def _checked_steps(what: str, max_steps: Any) -> int | None:
    """A bound on the number of steps, as a Python integer."""
    if max_steps is None:
        return None
    if isinstance(max_steps, bool) or not isinstance(max_steps, int | np.integer):
        found = type_name(max_steps) if isinstance(max_steps, Handle) else repr(max_steps)
        raise TypeError(
            f"{what}: max_steps must be a Python integer, got {found}, at {where(user_source())}.\n"
            "Why: it decides how much memory the program keeps, so it must be known before it "
            "runs.\n"
            "Write instead: max_steps=100; a limit that is computed goes into the condition."
        )
    if not 0 < max_steps < 2**31:
        raise ValueError(
            f"{what}: max_steps must be from 1 to 2**31 - 1, got {max_steps}, at "
            f"{where(user_source())}.\n"
            "Write instead: as many steps as the loop may need, or None for no bound (and no "
            "reverse mode)."
        )
    return int(max_steps)


def _too_short(what: str, max_steps: int | None) -> RuntimeError:
    return RuntimeError(
        f"{what}: after max_steps={max_steps} steps the condition still holds, at "
        f"{where(user_source())}.\n"
        "Write instead: a larger max_steps (memory grows with its square root, time with the steps "
        "made); or, if the loop is meant to stop there, a counter in the value, and `(i < n) &` "
        "in the condition."
    )


def _contents(value: Any) -> np.ndarray | None:
    """What a value holds, all rows of it under `vmap`; None if only a program will know."""
    while isinstance(value, Tracer):
        value = getattr(value, "primal", getattr(value, "value", None))
    return None if value is None else to_numpy(value)


def _while(loop: _Loop, cond_fun, body_fun, init_val, max_steps: int | None = None) -> Any:
    what = loop.what
    arrays, objects = apart(init_val, what)
    if objects is not None:
        new = _while(
            loop,
            lambda v: cond_fun(objects.fill(v)),
            lambda v: objects.strip(body_fun(objects.fill(v))),
            arrays,
            max_steps,
        )
        return objects.fill(new)
    carry, treedef = flatten_handles(init_val, f"{what}: the initial value")
    if config.get("disable_jit"):
        value = init_val
        for step in itertools.count():
            if not cond_fun(value):
                return value
            if step == max_steps:
                raise _too_short(what, max_steps)
            value = body_fun(value)
    while True:
        body = body_with_state(what, lambda *a: body_fun(tree.unflatten(treedef, a)), carry)
        stronger = _strengthen(carry, body.out_avals) if len(body.out_avals) == len(carry) else None
        if stronger is None:
            break
        carry = stronger
    _check_carry(loop, treedef, body.output.treedef, carry, body.out_types)
    test = Body(what, lambda *a: cond_fun(tree.unflatten(treedef, a)), carry, body.carried)
    _check_condition(what, test, cond_fun)
    for part in (test, body):
        part.consume(carry, what)
    start = [h._v for h in (*carry, *_cell_handles(body))]
    values = _run_while(what, test, body, start, max_steps)
    n = len(carry)
    write_cells(body.carried, values[n:], body.forced_tags)
    return body.output.unflatten(values[:n])


def _check_condition(what: str, test: Body, cond_fun: Callable[..., Any]) -> None:
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


def _run_while(
    what: str, test: Body, body: Body, start: Sequence[Any], max_steps: int | None
) -> Sequence[Any]:
    """The last carry of the loop, as values."""
    consts, cond, step = [*test.consts, *body.consts], test.graph, body.graph
    sizes = {"n_cond": len(test.consts), "n_body": len(body.consts)}
    if max_steps is None:
        return while_op(*consts, *start, cond=cond, body=step, **sizes)
    levels = chunks(max_steps)
    counter = []
    if math.prod(levels) > max_steps:
        cond, step = limited(cond, step, **sizes, steps=max_steps)
        counter = [np.asarray(0, np.int32)]
    outs = bounded_while(*consts, *counter, *start, cond=cond, body=step, **sizes, levels=levels)
    values = outs[len(counter) :]
    if all(_contents(v) is not None for v in (*test.consts, *values)):
        going = evaluate(test.graph, [*test.consts, *values])[0]
        if np.any(_contents(going)):
            raise _too_short(what, max_steps)
    return values


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

    With bounds known while tracing it is a `scan`, and differentiable in both modes. With traced
    bounds it is a `while_loop`, in forward mode only; written as one, with `max_steps`, it is
    differentiable in both.

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
