"""Reductions over sliding windows, and the two ops that max-pooling's derivatives are made of.

`window`, `strides`, `base_dilation` and `window_dilation` have one int for each axis, `padding` one
``(low, high)``, which may be negative. Padding never wins and never counts.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from bevel.core import dtypes
from bevel.core.aval import Aval
from bevel.core.dtypes import FLOAT, NUMBER
from bevel.core.errors import Unsupported as UnsupportedError
from bevel.core.op import Op, Unsupported, linear, rule
from bevel.ops.base import HALF, batch_broadcast, check_dtype
from bevel.ops.reductions import NO_BODY_JVP, ORDERED, check_body, fold, greatest, least
from bevel.ops.shape import pad


def _dilated(n: int, dilation: int) -> int:
    return 0 if n == 0 else (n - 1) * dilation + 1


def window_shape(
    name: str, x: Aval, window, strides, padding, base_dilation, window_dilation
) -> tuple[int, ...]:
    """The number of places of the window along each axis."""
    given = dict(
        window=window,
        strides=strides,
        padding=padding,
        base_dilation=base_dilation,
        window_dilation=window_dilation,
    )
    for what, values in given.items():
        if len(values) != x.ndim:
            raise ValueError(
                f"{name}: {what}={values} needs one entry for each of the {x.ndim} axes of {x}"
            )
        if what != "padding" and any(v < 1 for v in values):
            raise ValueError(f"{name}: {what}={values} must be at least 1 along each axis")
    shape = []
    for n, w, s, (lo, hi), bd, wd in zip(x.shape, *given.values(), strict=True):
        whole, reach = lo + hi + _dilated(n, bd), _dilated(w, wd)
        shape.append(0 if whole <= 0 or reach > whole else (whole - reach) // s + 1)
    return tuple(shape)


def windows(
    x: np.ndarray, fill, window, strides, padding, base_dilation, window_dilation
) -> np.ndarray:
    """A view of shape (*places, *window) of the padded and dilated array."""
    shape = window_shape(
        "windows", Aval(x.shape, x.dtype), window, strides, padding, base_dilation, window_dilation
    )
    if any(lo or hi or bd > 1 for (lo, hi), bd in zip(padding, base_dilation, strict=True)):
        config = tuple(
            [(lo, hi, bd - 1) for (lo, hi), bd in zip(padding, base_dilation, strict=True)]
        )
        x = rule(pad, "reference")(x, np.asarray(fill, x.dtype), config=config)
    if 0 in shape:
        return np.empty((*shape, *window), x.dtype)
    steps = [a * b for a, b in zip(x.strides, strides, strict=True)]
    inner = [a * b for a, b in zip(x.strides, window_dilation, strict=True)]
    return np.lib.stride_tricks.as_strided(x, (*shape, *window), (*steps, *inner))


def _batched(op: Callable) -> Callable:
    """Batch rule of an op over windows: one more axis, on which the window is a point."""

    def batch(
        size, args, batched, *, window, strides, padding, base_dilation, window_dilation, **params
    ):
        args = [batch_broadcast(size, x, b) for x, b in zip(args, batched, strict=True)]
        geometry = dict(
            window=(1, *window),
            strides=(1, *strides),
            padding=((0, 0), *padding),
            base_dilation=(1, *base_dilation),
            window_dilation=(1, *window_dilation),
        )
        return op(*args, **geometry, **params), True

    return batch


_LARGE = 1 << 18
"""Above this size a one-op program beats NumPy by more than it costs to look up; finding the
elements that windows choose is slower, and worth a program 64 times earlier.
"""


class _Slices:
    """The windows of a program's value as one strided slice for each offset in the window.

    XLA's CPU backend runs plain ops on slices many times faster than `reduce_window` and
    `select_and_scatter` (docs/decisions/windows-as-slices.md).
    """

    def __init__(self, b, x: Aval, window, geometry):
        self.b = b
        self.strides, self.dilation = geometry["strides"], geometry["window_dilation"]
        self.low = [low for low, _ in geometry["padding"]]
        self.high = [high for _, high in geometry["padding"]]
        self.base = geometry["base_dilation"]
        self.places = window_shape("window", x, window, **geometry)
        self.offsets = list(np.ndindex(*window))
        sizes = zip(x.shape, self.low, self.high, self.base, strict=True)
        self.padded = tuple([lo + hi + _dilated(n, d) for n, lo, hi, d in sizes])

    def pad(self, v, fill):
        """The value with padding and dilation filled with a number."""
        number = self.b.constant(np.asarray(fill, v.aval.dtype))
        return self.b.pad(v, number, self.low, self.high, [d - 1 for d in self.base])

    def _bounds(self, offset):
        start = [o * d for o, d in zip(offset, self.dilation, strict=True)]
        ends = zip(start, self.places, self.strides, strict=True)
        return start, [s + (n - 1) * t + 1 for s, n, t in ends]

    def take(self, padded, offset):
        """What all windows have at an offset."""
        return self.b.slice(padded, *self._bounds(offset), self.strides)

    def put(self, values, offset):
        """The padded array with values where windows have that offset, and zeros elsewhere."""
        start, stop = self._bounds(offset)
        after = [n - e for n, e in zip(self.padded, stop, strict=True)]
        zero = self.b.constant(np.zeros((), values.aval.dtype))
        return self.b.pad(values, zero, start, after, [s - 1 for s in self.strides])

    def cut(self, padded):
        """The elements of a padded array that are not padding."""
        zero = self.b.constant(np.zeros((), padded.aval.dtype))
        kept = self.b.pad(padded, zero, [-n for n in self.low], [-n for n in self.high])
        return self.b.slice(kept, [0] * len(self.low), kept.aval.shape, self.base)


_FEW = 32
"""Windows of at most so many elements become slices."""


def _lower_window(b, x, start, how: str, window, geometry):
    if b.platform == "cpu" and math.prod(window) <= _FEW and 0 not in b.out.shape:
        slices = _Slices(b, x.aval, window, geometry)
        padded = slices.pad(x, start)
        parts = [slices.take(padded, offset) for offset in slices.offsets]
        return functools.reduce(lambda u, v: b.op(_COMBINE[how], u, v, out=u.aval), parts)
    first = b.constant(np.asarray(start, x.aval.dtype))
    strides, padding, *dilations = [
        geometry[k] for k in ("strides", "padding", "base_dilation", "window_dilation")
    ]
    return b.reduce_window(x, first, how, window, strides, *dilations, padding)


_COMBINE = {"add": "add", "max": "maximum", "min": "minimum"}

# -- sum, max, min --------------------------------------------------------------------------------


def _window_op(
    name: str, how: str, ufunc: np.ufunc, start: Callable, jvp, transpose, allowed
) -> Op:
    wide = HALF if how == "add" else ()

    def abstract(x, *, window, **geometry):
        check_dtype(name, "the operand", x, allowed)
        return Aval(window_shape(name, x, window, **geometry), x.dtype)

    def reference(x, *, window, **geometry):
        first = np.asarray(start(x.dtype), x.dtype)
        view = windows(x, first, window, **geometry)
        dtype = np.dtype(np.float32) if x.dtype in wide else x.dtype
        axes = tuple(range(x.ndim, 2 * x.ndim))
        return ufunc.reduce(view, axes, dtype, initial=first.astype(dtype)[()]).astype(
            x.dtype, copy=False
        )

    def lower(b, x, *, window, **geometry):
        dtype = x.aval.dtype
        x = b.convert(x, dtypes.float32) if dtype in wide else x
        return b.convert(_lower_window(b, x, start(x.aval.dtype), how, window, geometry), dtype)

    op = Op(
        name,
        abstract=abstract,
        reference=reference,
        lower=lower,
        jvp=jvp,
        transpose=transpose,
        batch=lambda size, xs, batched, **params: _batched(op)(size, xs, batched, **params),
        compile_above=_LARGE,
    )
    return op


def _sum_transpose(ct, x, *, window, strides, padding, base_dilation, window_dilation):
    """Each element gets the cotangents of the windows that hold it: another sum over windows."""
    config = []
    for n, m, w, s, (lo, _), bd, wd in zip(
        x.shape, ct.shape, window, strides, padding, base_dilation, window_dilation, strict=True
    ):
        reach = _dilated(w, wd)
        before = reach - 1 - lo
        config.append((before, _dilated(n, bd) + reach - 1 - _dilated(m, s) - before, s - 1))
    padded = pad(ct, np.zeros((), ct.dtype), config=tuple(config))
    ones = (1,) * len(window)
    return reduce_window_sum(
        padded,
        window=window,
        strides=base_dilation,
        padding=((0, 0),) * len(window),
        base_dilation=ones,
        window_dilation=window_dilation,
    )


def _chooser_jvp(select: str):
    return (lambda ctx, t, x, **geometry: select_and_gather_add(t, x, select=select, **geometry),)


_CHOICE = Unsupported("an extreme of windows is not linear")
reduce_window_sum = _window_op(
    "reduce_window_sum", "add", np.add, lambda dtype: 0, linear, _sum_transpose, NUMBER
)
reduce_window_max = _window_op(
    "reduce_window_max", "max", np.maximum, least, _chooser_jvp("max"), _CHOICE, ORDERED
)
reduce_window_min = _window_op(
    "reduce_window_min", "min", np.minimum, greatest, _chooser_jvp("min"), _CHOICE, ORDERED
)

# -- the elements that windows choose -------------------------------------------------------------


def _choice_abstract(name: str, x: Aval, places: Aval | None, t: Aval, window, select, geometry):
    check_dtype(name, "the operand that chooses", x, FLOAT)
    if select not in ("max", "min"):
        raise ValueError(f"{name}: select={select!r} must be 'max' or 'min'")
    if t.dtype != x.dtype:
        raise TypeError(
            f"{name}: the values {t} and the operand that chooses {x} must have one dtype"
        )
    shape = window_shape(name, x, window, **geometry)
    want = x.shape if places is None else shape
    if t.shape != want:
        raise TypeError(
            f"{name}: the values are {t}; for the operand {x} and window={window} their shape "
            f"must be {want}"
        )
    return shape


def _gather_abstract(t, x, *, window, select, **geometry):
    return Aval(
        _choice_abstract("select_and_gather_add", x, None, t, window, select, geometry), x.dtype
    )


def _chosen(x: np.ndarray, window, select: str, geometry) -> np.ndarray:
    """Flat index in its window of the element that each window chooses: the first of equal ones."""
    fill = -math.inf if select == "max" else math.inf
    view = windows(x, fill, window, **geometry)
    places = view.shape[: x.ndim]
    flat = view.reshape(*places, math.prod(window))
    inside = windows(np.ones(x.shape, bool), False, window, **geometry).reshape(flat.shape)
    best = (np.max if select == "max" else np.min)(flat, -1, keepdims=True, initial=fill)
    found = inside & ((flat == best) | np.isnan(flat))
    return np.where(found.any(-1), np.argmax(found, -1), -1)


def _gather_reference(t, x, *, window, select, **geometry):
    index = _chosen(x, window, select, geometry)
    if index.size == 0:
        return np.zeros(index.shape, t.dtype)
    flat = windows(t, 0, window, **geometry).reshape(*index.shape, math.prod(window))
    return np.where(
        index < 0, 0, np.take_along_axis(flat, np.maximum(index, 0)[..., None], -1)[..., 0]
    ).astype(t.dtype)


def _scatter_reference(ct, x, *, window, select, **geometry):
    index = _chosen(x, window, select, geometry)
    numbers = np.arange(1, x.size + 1).reshape(x.shape)
    holds = windows(numbers, 0, window, **geometry)
    flat = holds.reshape(*index.shape, math.prod(window))
    target = np.where(
        index < 0, 0, np.take_along_axis(flat, np.maximum(index, 0)[..., None], -1)[..., 0]
    )
    wide = np.float32 if ct.dtype in HALF else ct.dtype
    out = np.zeros(x.size + 1, wide)
    np.add.at(out, target.reshape(-1), ct.reshape(-1).astype(wide))
    return out[1:].reshape(x.shape).astype(ct.dtype)


def _choose(b, slices: _Slices, x, select: str):
    """Index of the offset that each window chooses, -1 where a window holds only padding."""
    wide = slices.pad(x, -math.inf if select == "max" else math.inf)
    inside = None
    if slices.padded != x.aval.shape:
        inside = slices.pad(b.full(True, Aval(x.aval.shape, np.dtype(bool))), False)
    direction = "GT" if select == "max" else "LT"
    none = b.full(-1, Aval(slices.places, dtypes.int32))
    best, index = slices.take(wide, slices.offsets[0]), none
    for k, offset in enumerate(slices.offsets):
        value = slices.take(wide, offset)
        first = b.compare(index, none, "EQ")
        nan = b.and_(b.compare(value, value, "NE"), b.compare(best, best, "EQ"))
        better = b.or_(b.compare(value, best, direction), nan)
        take = b.or_(first, better)
        if inside is not None:
            take = b.and_(slices.take(inside, offset), take)
        best = b.select(take, value, best)
        index = b.select(take, b.full(k, index.aval), index)
    # Otherwise each of its many uses would compute it again.
    return b.optimization_barrier([index])[0]


def _gather_lower(b, t, x, *, window, select, **geometry):
    if 0 in b.out.shape:
        return b.full(0, b.out)
    slices = _Slices(b, x.aval, window, geometry)
    index, values = _choose(b, slices, x, select), slices.pad(t, 0)
    out = b.full(0, b.out)
    for k, offset in enumerate(slices.offsets):
        chosen = b.compare(index, b.full(k, index.aval), "EQ")
        out = b.select(chosen, slices.take(values, offset), out)
    return out


def _scatter_lower(b, ct, x, *, window, select, **geometry):
    if 0 in ct.aval.shape or 0 in b.out.shape:
        return b.full(0, b.out)
    slices = _Slices(b, x.aval, window, geometry)
    index = _choose(b, slices, x, select)
    dtype = ct.aval.dtype
    wide = b.convert(ct, dtypes.float32) if dtype in HALF else ct
    nothing = b.full(0, wide.aval)
    parts = []
    for k, offset in enumerate(slices.offsets):
        chosen = b.compare(index, b.full(k, index.aval), "EQ")
        parts.append(slices.put(b.select(chosen, wide, nothing), offset))
    return b.convert(slices.cut(functools.reduce(b.add, parts)), dtype)


def _scatter_abstract(ct, x, *, window, select, **geometry):
    _choice_abstract("select_and_scatter_add", x, ct, ct, window, select, geometry)
    return x


_CHOOSER = Unsupported("the operand that chooses carries no derivative")

select_and_gather_add: Op = Op(
    "select_and_gather_add",
    abstract=_gather_abstract,
    reference=_gather_reference,
    lower=_gather_lower,
    jvp=(lambda ctx, t, s, x, **params: select_and_gather_add(t, x, **params), None),
    transpose=lambda ct, t, x, **params: (select_and_scatter_add(ct, x, **params), None),
    batch=lambda size, xs, batched, **params: _batched(select_and_gather_add)(
        size, xs, batched, **params
    ),
    compile_above=_LARGE >> 6,
)
select_and_scatter_add: Op = Op(
    "select_and_scatter_add",
    abstract=_scatter_abstract,
    reference=_scatter_reference,
    lower=_scatter_lower,
    jvp=(lambda ctx, t, ct, x, **params: select_and_scatter_add(t, x, **params), None),
    transpose=lambda ct, s, x, **params: (select_and_gather_add(ct, x, **params), None),
    batch=lambda size, xs, batched, **params: _batched(select_and_scatter_add)(
        size, xs, batched, **params
    ),
    compile_above=_LARGE >> 6,
)

# -- the generic windowed reduction ---------------------------------------------------------------


def _reduce_window_abstract(*args, body, window, **geometry):
    half = len(args) // 2
    check_body("reduce_window", args[:half], args[half:], body)
    shape = window_shape("reduce_window", args[0], window, **geometry)
    return tuple([Aval(shape, x.dtype) for x in args[:half]])


def _reduce_window_reference(*args, body, window, **geometry):
    half = len(args) // 2
    views = [
        windows(x, i, window, **geometry) for x, i in zip(args[:half], args[half:], strict=True)
    ]
    places = views[0].shape[: len(window)]
    flat = [v.reshape(math.prod(places), math.prod(window)).T for v in views]
    return tuple([v.reshape(places) for v in fold(body, flat, args[half:])])


def _reduce_window_lower(b, *args, body, window, strides, padding, base_dilation, window_dilation):
    half = len(args) // 2
    return b.reduce_window_multi(
        args[:half],
        args[half:],
        lambda inner, *vals: tuple(inner.lower(body, vals)),
        window,
        strides,
        base_dilation,
        window_dilation,
        padding,
    )


def _reduce_window_batch(size, args, batched, **params):
    half = len(args) // 2
    if any(batched[half:]):
        raise UnsupportedError(
            "reduce_window: the initial value differs along a vmapped axis. It must be the "
            "identity of the function to reduce with, a constant; combine other values with "
            "the result instead"
        )
    inits = args[half:]

    def apply(*xs, **geometry):
        return reduce_window(*xs, *inits, **geometry)

    outs, _ = _batched(apply)(size, args[:half], batched[:half], **params)
    return outs, (True,) * half


reduce_window = Op(
    "reduce_window",
    abstract=_reduce_window_abstract,
    reference=_reduce_window_reference,
    lower=_reduce_window_lower,
    jvp=NO_BODY_JVP,
    transpose=NO_BODY_JVP,
    batch=_reduce_window_batch,
    multiple=True,
    compile_above=_LARGE,
)
