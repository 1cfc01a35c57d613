"""Calls into Python at run time, and the optimization barrier.

`callback` calls a pure function: it may run any number of times, or not at all. `effect_callback`
runs exactly once where the program runs. Both pass NumPy arrays to `fn(*arrays) -> tuple of
arrays`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bevel.core.aval import Aval
from bevel.core.errors import Unsupported as UnsupportedError
from bevel.core.op import Op, Unsupported, is_undefined
from bevel.core.source import replay
from bevel.ops.base import batch_broadcast

VECTORIZED = ("sequential", "expand_dims", "broadcast_all")


def _name(fn: Callable) -> str:
    fn = getattr(fn, "fn", fn)
    return getattr(fn, "__qualname__", None) or repr(fn)


def _checked(
    fn: Callable, out_avals: tuple[Aval, ...], args: tuple[np.ndarray, ...]
) -> tuple[np.ndarray, ...]:
    """Call `fn` and compare what it returned with what was announced."""
    with replay():
        outs = fn(*args)
    outs = tuple(outs) if isinstance(outs, (tuple, list)) else (outs,)
    if len(outs) != len(out_avals):
        raise TypeError(
            f"callback {_name(fn)} returned {len(outs)} arrays, but {len(out_avals)} were "
            "announced: "
            "make the announced results (result_shape_dtypes) match what it returns"
        )
    arrays = []
    for i, (out, aval) in enumerate(zip(outs, out_avals, strict=True)):
        array = np.asarray(out)
        if array.shape != aval.shape:
            raise ValueError(
                f"callback {_name(fn)} returned shape {array.shape} as result {i}, but {aval} was "
                "announced: "
                "make the announced results (result_shape_dtypes) match what it returns"
            )
        if array.dtype != aval.dtype:
            if not np.can_cast(array.dtype, aval.dtype, "same_kind"):
                raise TypeError(
                    f"callback {_name(fn)} returned {array.dtype} as result {i}, but {aval} was "
                    "announced: "
                    f"return x.astype({aval.dtype.name!r}), or announce {array.dtype}"
                )
            array = array.astype(aval.dtype)
        arrays.append(array)
    return tuple(arrays)


@dataclass(frozen=True)
class _Call:
    """`fn` with its results checked, as a program calls it."""

    fn: Callable
    out_avals: tuple[Aval, ...]

    def __call__(self, *args: np.ndarray) -> tuple[np.ndarray, ...]:
        return _checked(self.fn, self.out_avals, args)


@dataclass(frozen=True)
class Rows:
    """`fn` called for each row of its batched operands; results are stacked."""

    fn: Callable
    size: int
    batched: tuple[bool, ...]
    out_avals: tuple[Aval, ...]

    def __call__(self, *args: np.ndarray) -> tuple[np.ndarray, ...]:
        """Call `fn` row by row."""
        stacked = [np.empty((self.size, *a.shape), a.dtype) for a in self.out_avals]
        for i in range(self.size):
            row = tuple([a[i, ...] if b else a for a, b in zip(args, self.batched, strict=True)])
            for whole, part in zip(stacked, _checked(self.fn, self.out_avals, row), strict=True):
                whole[i] = part
        return tuple(stacked)


def innermost(fn: Callable) -> Callable:
    """The function that is called for each row, under all batches.

    One that is `silent` is never called, and not in programs: others than XLA look at it.
    """
    while isinstance(fn, Rows):
        fn = fn.fn
    return fn


def _abstract(*xs: Aval, fn, out_avals, vectorized=None, ordered=False):
    if vectorized is not None and vectorized not in VECTORIZED:
        raise ValueError(
            f"callback: vectorized must be None or one of {', '.join(VECTORIZED)}, got "
            f"{vectorized!r}"
        )
    return out_avals


def _reference(*xs, fn, out_avals, vectorized=None, ordered=False):
    views = []
    for x in xs:
        view = x.view()
        view.flags.writeable = False
        views.append(view)
    return _checked(fn, out_avals, tuple(views))


def _lower(effect: bool):
    def lower(b, *xs, fn, out_avals, vectorized=None, ordered=False):
        if getattr(innermost(fn), "silent", False):
            return ()
        return b.host_callback(_Call(fn, out_avals), xs, out_avals, has_side_effect=effect)

    return lower


def _batch(record: Callable[[], Op]):
    def batch(size, xs, batched, *, fn, out_avals, vectorized=None, ordered=False):
        size = int(size)
        batched = tuple(batched)
        whole = tuple([a.replace(shape=(size, *a.shape)) for a in out_avals])
        params = dict(out_avals=whole, vectorized=vectorized, ordered=ordered)
        if vectorized is None:
            raise UnsupportedError(
                f"callback {_name(fn)} is called under vmap, and how it handles a batch was not "
                "said.\n"
                "Write instead: vmap_method='sequential' (one call per row), 'expand_dims' (one "
                "call; unbatched arguments get a leading axis of size 1) or 'broadcast_all' (one "
                "call; all arguments are batched)."
            )
        if vectorized == "sequential":
            fn = Rows(fn, size, batched, out_avals)
        elif vectorized == "expand_dims":
            xs = [batch_broadcast(1, x, b) for x, b in zip(xs, batched, strict=True)]
        else:
            xs = [batch_broadcast(size, x, b) for x, b in zip(xs, batched, strict=True)]
        return record()(*xs, fn=fn, **params), (True,) * len(out_avals)

    return batch


def _effect_jvp(ctx, primals, tangents, *, fn, out_avals, **params):
    if out_avals:
        raise UnsupportedError(
            f"callback {_name(fn)} has an effect and returns values, so it has no derivative.\n"
            "Write instead: stop_gradient on its arguments, or wrap the call in custom_jvp or "
            "custom_vjp."
        )
    return effect_callback(*primals, fn=fn, out_avals=out_avals, **params), ()


_NO_DERIVATIVE = Unsupported(
    "Bevel cannot see into a Python function (pure_callback).\n"
    "Write instead: a function with custom_jvp or custom_vjp around the call, whose rule may "
    "call back too; or lax.stop_gradient(x) for its argument"
)

callback: Op = Op(
    "callback",
    multiple=True,
    abstract=_abstract,
    reference=_reference,
    lower=_lower(effect=False),
    jvp=_NO_DERIVATIVE,
    transpose=_NO_DERIVATIVE,
    batch=_batch(lambda: callback),
)

effect_callback: Op = Op(
    "effect_callback",
    multiple=True,
    effect=True,
    abstract=_abstract,
    reference=_reference,
    lower=_lower(effect=True),
    jvp=_effect_jvp,
    transpose=_NO_DERIVATIVE,
    batch=_batch(lambda: effect_callback),
)


# -- optimization barrier ------------------------------------------------------------------------


def _barrier_jvp(ctx, primals, tangents):
    through = iter(optimization_barrier(*[t for t in tangents if t is not None]))
    return optimization_barrier(*primals), tuple(
        [None if t is None else next(through) for t in tangents]
    )


def _barrier_transpose(cts, *xs):
    present = [ct for ct in cts if ct is not None]
    through = iter(optimization_barrier(*present))
    passed = [None if ct is None else next(through) for ct in cts]
    return tuple([ct if is_undefined(x) else None for ct, x in zip(passed, xs, strict=True)])


optimization_barrier: Op = Op(
    "optimization_barrier",
    multiple=True,
    abstract=lambda *xs: xs,
    reference=lambda *xs: xs,
    lower=lambda b, *xs: b.optimization_barrier(xs),
    jvp=_barrier_jvp,
    transpose=_barrier_transpose,
    batch=lambda size, xs, batched: (optimization_barrier(*xs), tuple(batched)),
)
