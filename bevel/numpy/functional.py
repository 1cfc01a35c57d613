"""Functions of functions: over rows, elements, conditions; all of them map over axes as `vmap`
does.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import bevel.ops as ops
from bevel.core.errors import ShapeError
from bevel.core.handle import Handle, fresh_tag, logical_shape, wrap
from bevel.numpy.arguments import axes_of, axis_of, number
from bevel.numpy.convert import enter
from bevel.numpy.manipulation import broadcast_shapes, broadcast_to, expand_dims, moveaxis
from bevel.numpy.moves import reshape_to
from bevel.numpy.selection import where
from bevel.transforms.vmap import Axis, vmap

Shape = tuple[int, ...]


def _over_rows(
    fn: Callable[..., tuple], size: int, args: list[Any], mapped: list[bool]
) -> list[Any]:
    """Results of a function of handles, mapped over axis 0 of some of them; all results have that
    axis.
    """
    tags = [a._tag for a in args]
    kept: list[Any] = []

    def run(*values: Any) -> list[Any]:
        outs = [
            enter(o)
            for o in fn(*[wrap(v, fresh_tag(t)) for v, t in zip(values, tags, strict=True)])
        ]
        kept[:] = [o._tag for o in outs]
        return [o._v for o in outs]

    outs, flags = vmap(run, Axis(size), [a._v for a in args], mapped)
    spread = [
        o
        if f
        else ops.broadcast_in_dim(o, shape=(size, *o.shape), dims=tuple(range(1, len(o.shape) + 1)))
        for o, f in zip(outs, flags, strict=True)
    ]
    return [wrap(o, t) for o, t in zip(spread, kept, strict=True)]


# -- vectorize -----------------------------------------------------------------------------------

_CORE = r"\((\w+(?:,\w+)*)?\)"
_SIGNATURE = re.compile(f"^{_CORE}(?:,{_CORE})*->{_CORE}(?:,{_CORE})*$")


def _parse(signature: str) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    text = signature.replace(" ", "")
    if not _SIGNATURE.match(text):
        raise ValueError(f"vectorize: signature {signature!r} is not of the form '(m,n),(n)->(m)'")
    sides = [re.findall(r"\(([^)]*)\)", side) for side in text.split("->")]
    inputs, outputs = (
        [tuple([d for d in term.split(",") if d]) for term in side] for side in sides
    )
    return inputs, outputs


def _core_sizes(
    name: str, inputs: list[tuple[str, ...]], args: list[Any]
) -> tuple[dict[str, int], list[Shape]]:
    """Sizes of the signature's axes, and the other, leading axes of each argument."""
    sizes: dict[str, int] = {}
    lead = []
    for i, (core, x) in enumerate(zip(inputs, args, strict=True)):
        shape = logical_shape(x)
        if len(shape) < len(core):
            raise ShapeError(
                f"{name}: argument {i} has shape {shape} and the signature asks for axes {core}"
            )
        split = len(shape) - len(core)
        for label, n in zip(core, shape[split:], strict=True):
            fixed = int(label) if label.isdigit() else sizes.setdefault(label, n)
            if fixed != n:
                raise ShapeError(
                    f"{name}: axis {label!r} has size {fixed}, and {n} in argument {i}"
                )
        lead.append(shape[:split])
    return sizes, lead


def _check_results(
    name: str, outs: list[Any], outputs: list[tuple[str, ...]], sizes: dict[str, int]
) -> None:
    if len(outs) != len(outputs):
        raise ValueError(
            f"{name}: the function returned {len(outs)} results and the signature names "
            f"{len(outputs)}"
        )
    for core, out in zip(outputs, outs, strict=True):
        shape = logical_shape(out)[1:]
        wanted = tuple([int(d) if d.isdigit() else sizes.get(d) for d in core])
        if len(shape) != len(wanted) or any(
            w not in (None, n) for w, n in zip(wanted, shape, strict=True)
        ):
            raise ShapeError(
                f"{name}: a result has shape {shape} where the signature says {core}: {wanted}"
            )


def vectorize(
    pyfunc: Callable[..., Any],
    *,
    excluded: Sequence[int | str] | set[int | str] = frozenset(),
    signature: str | None = None,
) -> Callable[..., Any]:
    """A function of elements (or of the axes in `signature`) as one of arrays, broadcasting the
    other axes.

    `signature` is NumPy's: "(m,n),(n)->(m)". Arguments whose position or name is in `excluded` are
    passed as they are. Unlike NumPy's it is compiled, differentiated and batched like any other
    function.

    >>> relu = bnp.vectorize(lambda x: bnp.where(x > 0, x, 0.0))
    >>> relu(bnp.array([[-1.0, 2.0]]))
    Array([[0., 2.]], dtype=float32)
    >>> bnp.vectorize(bnp.dot, signature="(n),(n)->()")(bnp.ones((5, 3)), bnp.ones(3)).shape
    (5,)
    """
    excluded = set(excluded)
    name = f"vectorize({getattr(pyfunc, '__name__', 'function')})"
    parsed = None if signature is None else _parse(signature)

    @functools.wraps(pyfunc)
    def vectorized(*args: Any, **kwargs: Any) -> Any:
        places = [i for i in range(len(args)) if i not in excluded]
        keys = [k for k in kwargs if k not in excluded]
        mapped = [enter(args[i]) for i in places] + [enter(kwargs[k]) for k in keys]
        inputs = [()] * len(mapped) if parsed is None else parsed[0]
        if len(inputs) != len(mapped):
            raise TypeError(
                f"{name}: {len(mapped)} arguments for a signature of {len(inputs)}: {signature}"
            )

        def call(*xs: Any) -> tuple:
            full = list(args)
            for i, x in zip(places, xs, strict=False):
                full[i] = x
            out = pyfunc(*full, **{**kwargs, **dict(zip(keys, xs[len(places) :], strict=True))})
            return out if isinstance(out, tuple) else (out,)

        outs, single = _broadcast_call(
            name, call, mapped, inputs, None if parsed is None else parsed[1]
        )
        return outs[0] if single else tuple(outs)

    return vectorized


def _broadcast_call(
    name: str,
    call: Callable,
    args: list[Any],
    inputs: list[tuple[str, ...]],
    outputs: list[tuple[str, ...]] | None,
) -> tuple[list[Any], bool]:
    """Call a function over the broadcast leading axes of its arguments, as one mapped axis."""
    sizes, lead = _core_sizes(name, inputs, args)
    batch = broadcast_shapes(*lead) if lead else ()
    count = math.prod(batch)
    flat = []
    for x, axes in zip(args, lead, strict=True):
        core = logical_shape(x)[len(axes) :]
        flat.append(reshape_to(broadcast_to(x, (*batch, *core)), (count, *core)) if axes else x)
    single = []

    def run(*xs: Any) -> tuple:
        outs = call(*xs)
        single[:] = [len(outs) == 1]
        return outs

    outs = _over_rows(run, count, flat, [bool(axes) for axes in lead])
    wanted = [()] * len(outs) if outputs is None else outputs
    _check_results(name, outs, wanted, sizes)
    return [reshape_to(o, (*batch, *logical_shape(o)[1:])) for o in outs], single[0]


# -- over axes -----------------------------------------------------------------------------------


def apply_along_axis(
    func1d: Callable[..., Any], axis: int, arr: Any, *args: Any, **kwargs: Any
) -> Any:
    """A function of a vector applied to every one along an axis; the axes of its result take that
    axis's place.

    >>> bnp.apply_along_axis(bnp.sort, 1, bnp.array([[2, 1], [3, 4]]))
    Array([[1, 2],
           [3, 4]], dtype=int32)
    """
    x = enter(arr)
    shape = logical_shape(x)
    axis = axis_of("apply_along_axis", axis, len(shape))
    rest = shape[:axis] + shape[axis + 1 :]
    rows = reshape_to(moveaxis(x, axis, -1), (math.prod(rest), shape[axis]))
    (out,) = _over_rows(
        lambda row: (func1d(row, *args, **kwargs),), math.prod(rest), [rows], [True]
    )
    inner = logical_shape(out)[1:]
    out = reshape_to(out, (*rest, *inner))
    ends = tuple(range(len(rest), len(rest) + len(inner)))
    return moveaxis(out, ends, tuple(range(axis, axis + len(inner))))


def apply_over_axes(func: Callable[[Any, int], Any], a: Any, axes: int | Sequence[int]) -> Any:
    """A function of (array, axis) applied for each axis in turn; axes it reduces stay, with size 1.

    >>> bnp.apply_over_axes(bnp.sum, bnp.ones((2, 3)), (0, 1))
    Array([[6.]], dtype=float32)
    """
    x = enter(a)
    ndim = len(logical_shape(x))
    for axis in axes_of("apply_over_axes", axes if isinstance(axes, int) else tuple(axes), ndim):
        out = enter(func(x, axis))
        if len(logical_shape(out)) == ndim - 1:
            out = expand_dims(out, axis)
        if len(logical_shape(out)) != ndim:
            raise ShapeError(
                f"apply_over_axes: the function made {logical_shape(out)} of {logical_shape(x)}"
            )
        x = out
    return x


def piecewise(x: Any, condlist: Any, funclist: Sequence[Any], *args: Any, **kw: Any) -> Any:
    """For every element, the function (or number) of the last condition that holds; one more is the
    default.

    Every function is computed for all elements. The result has the dtype of `x`.

    >>> x = bnp.array([-1.0, 2.0])
    >>> bnp.piecewise(x, [x < 0, x >= 0], [lambda x: -x, lambda x: 10 * x])
    Array([ 1., 20.], dtype=float32)
    """
    values = enter(x)
    conditions = list(condlist) if isinstance(condlist, tuple | list) else [condlist]
    if isinstance(condlist, Handle | np.ndarray) and len(logical_shape(enter(condlist))) > len(
        logical_shape(values)
    ):
        conditions = list(enter(condlist))
    if conditions and isinstance(conditions[0], bool | np.bool_):
        conditions = [enter(conditions)]
    choices = list(funclist)
    if len(choices) not in (len(conditions), len(conditions) + 1):
        raise ValueError(
            f"piecewise: {len(conditions)} conditions need as many functions or one more, got "
            f"{len(choices)}"
        )
    dtype = np.dtype(number("piecewise", values).dtype)
    default = choices.pop() if len(choices) > len(conditions) else 0

    def computed(choice: Any) -> Any:
        return enter(choice(values, *args, **kw) if callable(choice) else choice, dtype)

    out = broadcast_to(computed(default), logical_shape(values))
    for condition, choice in zip(conditions, choices, strict=True):
        out = where(condition, computed(choice), out)
    return out
