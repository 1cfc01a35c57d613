"""A function of a large batch, computed in a loop over small ones, with less memory.

A microbatch takes every n-th example, so that a batch that is sharded by its first axis stays so.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import bevel.numpy as bnp
from bevel import lax
from bevel.api.derivatives import value_and_grad
from bevel.api.graphs import eval_shape
from bevel.api.vmap import vmap
from bevel.core import dtypes
from bevel.core import tree as _tree
from bevel.numpy.convert import enter


@dataclasses.dataclass(frozen=True)
class Accumulator:
    """How the results of microbatches are put together.

    `init(shapes) -> carry`, `update(carry, value, index) -> carry`, `finalize(carry) -> result`,
    and `aggregate(values)`, which does the same to results stacked along a first axis.
    """

    init: Callable[[Any], Any]
    update: Callable[[Any, Any, Any], Any]
    finalize: Callable[[Any], Any]
    aggregate: Callable[[Any], Any]


class AccumulationType(enum.Enum):
    """Mean, sum, mean over the microbatches run, or all results along the first axis."""

    MEAN = enum.auto()
    SUM = enum.auto()
    RUNNING_MEAN = enum.auto()
    CONCAT = enum.auto()


class IndividualOutputs(NamedTuple):
    """Of each example: the value, the metrics of its gradient, and what else the function gave."""

    values: Any
    metrics: Any
    aux: Any


def reshape_batch_axis(tree: Any, microbatch_size: int, axis: int = 0) -> Any:
    """Arrays whose batch axis is split into (microbatches, microbatch_size).

    Example i * n + j of n microbatches is the i-th one of microbatch j.

    >>> from bevel.optim import microbatching
    >>> microbatching.reshape_batch_axis(bnp.arange(6), 3)
    Array([[0, 2, 4],
           [1, 3, 5]], dtype=int32)
    """

    def split(x: Any) -> Any:
        x = enter(x)
        shape = (*x.shape[:axis], microbatch_size, -1, *x.shape[axis + 1 :])
        return bnp.swapaxes(x.reshape(shape), axis, axis + 1)

    return _tree.map(split, tree)


def _zeros(value: Any) -> Any:
    return bnp.zeros(value.shape, value.dtype)


def _float_zeros(value: Any) -> Any:
    if not dtypes.is_float(value.dtype) and not dtypes.is_complex(value.dtype):
        raise ValueError(f"microbatch: a mean needs floating results, and one is {value.dtype}")
    return _zeros(value)


def _stacked(x: Any) -> Any:
    return bnp.swapaxes(x, 0, 1).reshape((-1, *x.shape[2:]))


def _accumulator(kind: Any, count: Any) -> Accumulator:
    """Of one array, for `count` microbatches."""
    match kind:
        case Accumulator():
            return kind
        case AccumulationType.SUM:
            return Accumulator(
                _zeros, lambda c, v, i: c + v, lambda c: c, lambda vs: bnp.sum(vs, axis=0)
            )
        case AccumulationType.MEAN:
            return Accumulator(
                _float_zeros,
                lambda c, v, i: c + v,
                lambda c: c / count,
                lambda vs: bnp.mean(vs, axis=0),
            )
        case AccumulationType.RUNNING_MEAN:
            return Accumulator(
                _float_zeros,
                lambda c, v, i: c * (i / (i + 1)) + v * (1 - i / (i + 1)),
                lambda c: c,
                lambda vs: bnp.mean(vs, axis=0),
            )
        case AccumulationType.CONCAT:
            return Accumulator(
                lambda v: bnp.zeros((count, *v.shape), v.dtype),
                lambda c, v, i: c.at[i].set(v),
                _stacked,
                lambda vs: vs,
            )
    raise ValueError(
        f"microbatch: an accumulator is an AccumulationType or an Accumulator, not {kind!r}"
    )


def _composed(kinds: Any, count: Any) -> Accumulator:
    """Of a tree of results, of which `kinds` is a prefix."""

    def part(name: str) -> Callable[..., Any]:
        def one(kind: Any, *values: Any, rest: tuple[Any, ...]) -> Any:
            f = getattr(_accumulator(kind, count), name)
            if isinstance(kind, Accumulator):
                return f(*values, *rest)
            return _tree.map(lambda *xs: f(*xs, *rest), *values)

        def apply(values: tuple[Any, ...], rest: tuple[Any, ...] = ()) -> Any:
            return _tree.map(lambda kind, *vs: one(kind, *vs, rest=rest), kinds, *values)

        return apply

    init, update, finalize, aggregate = map(part, ("init", "update", "finalize", "aggregate"))
    return Accumulator(
        lambda v: init((v,)),
        lambda c, v, i: update((c, v), (i,)),
        lambda c: finalize((c,)),
        lambda vs: aggregate((vs,)),
    )


def microbatch(
    fun: Callable[..., Any],
    argnums: int | Sequence[int],
    microbatch_size: int | None,
    accumulator: Any = AccumulationType.SUM,
    *,
    argnames: str | Sequence[str] = (),
    in_axes: int | Sequence[int] = 0,
    num_real_microbatches: Any = None,
) -> Callable[..., Any]:
    """The function, computed in a loop over parts of its batch.

    Args:
        fun: of arrays with a batch axis.
        argnums: which positional arguments have it.
        microbatch_size: examples in a part; None returns the function itself.
        accumulator: how results are put together: an `AccumulationType`, an `Accumulator`, or a
            tree of them that is a prefix of the result.
        argnames: which keyword arguments have a batch axis.
        in_axes: the batch axis, or one for each of those arguments.
        num_real_microbatches: stop after so many.

    Raises:
        ValueError: (when called) batch sizes differ or cannot be divided.

    >>> from bevel import optim
    >>> f = lambda x: (x**2).sum()
    >>> optim.microbatch(f, 0, microbatch_size=2)(bnp.arange(6.0))
    Array(55., dtype=float32)
    """
    if microbatch_size is None:
        return fun
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    names = (argnames,) if isinstance(argnames, str) else tuple(argnames)
    axes = (in_axes,) * (len(numbers) + len(names)) if isinstance(in_axes, int) else tuple(in_axes)

    def in_parts(*args: Any, **kwargs: Any) -> Any:
        where = dict(zip([*numbers, *names], axes, strict=True))
        every = dict(enumerate(args)) | kwargs
        sizes = {enter(x).shape[a] for k, a in where.items() for x in _tree.leaves(every[k])}
        if len(sizes) != 1 or next(iter(sizes)) % microbatch_size:
            raise ValueError(
                "microbatch: the batch axes have the same size, a multiple of microbatch_size, but "
                f"their sizes are {sorted(sizes)}, and microbatch_size is {microbatch_size}"
            )
        count = sizes.pop() // microbatch_size
        parts = {k: reshape_batch_axis(every[k], microbatch_size, a) for k, a in where.items()}

        def one(index: Any) -> Any:
            now = every | {
                k: _tree.map(lambda x, a=a: bnp.take(x, index, axis=a), parts[k])
                for k, a in where.items()
            }
            return fun(*(now[i] for i in range(len(args))), **{k: now[k] for k in kwargs})

        acc = _composed(accumulator, count)
        start = acc.init(eval_shape(one, 0))
        bound = count if num_real_microbatches is None else num_real_microbatches
        return acc.finalize(
            lax.fori_loop(0, bound, lambda i, carry: acc.update(carry, one(i), i), start)
        )

    return in_parts


def micro_vmap(
    fun: Callable[..., Any],
    in_axes: int | Sequence[int | None] = 0,
    out_axes: Any = 0,
    *,
    microbatch_size: int | None = None,
    vmap_fn: Callable[..., Any] = vmap,
    accumulator: Any = AccumulationType.CONCAT,
    num_real_microbatches: Any = None,
) -> Callable[..., Any]:
    """`bv.vmap` in a loop over parts of the batch; other arguments as for `microbatch`.

    Raises:
        NotImplementedError: `out_axes` is not 0.

    >>> from bevel.optim import microbatching
    >>> microbatching.micro_vmap(lambda x: x**2, microbatch_size=2)(bnp.arange(4.0))
    Array([0., 1., 4., 9.], dtype=float32)
    """
    if out_axes != 0:
        raise NotImplementedError(f"micro_vmap: results lie along axis 0, not out_axes={out_axes}")
    axes = (in_axes,) if isinstance(in_axes, int) else tuple(in_axes)

    def of_part(*args: Any, kwargs: Any) -> Any:
        mapped = vmap_fn(lambda *a: fun(*a[:-1], **a[-1]), (*axes, 0))(*args, kwargs)
        size = _tree.leaves(mapped)[0].shape[0]
        return _composed(accumulator, size).aggregate(mapped)

    looped = microbatch(
        of_part,
        tuple(i for i, a in enumerate(axes) if a is not None),
        microbatch_size,
        accumulator,
        argnames="kwargs",
        in_axes=(*(a for a in axes if a is not None), 0),
        num_real_microbatches=num_real_microbatches,
    )
    return lambda *args, **kwargs: looped(*args, kwargs=kwargs)


def micro_grad(
    fun: Callable[..., Any],
    has_aux: bool = False,
    argnums: int | Sequence[int] = 0,
    *,
    batch_argnums: int | Sequence[int] = 1,
    keep_batch_dim: bool = True,
    microbatch_size: int | None = None,
    accumulator: Any = AccumulationType.SUM,
    transform_fn: Callable[[Any], Any] = lambda x: x,
    metrics_fn: Callable[[Any], Any] = lambda x: None,
    num_real_microbatches: Any = None,
) -> Callable[..., tuple[Any, IndividualOutputs]]:
    """Gradients of each example, transformed, then put together; other arguments as for
    `microbatch`.

    Args:
        fun: loss of one example (or, with `keep_batch_dim`, of a batch of one).
        has_aux: whether it gives a pair of the loss and something else.
        argnums: with respect to what.
        batch_argnums: which arguments have a batch axis, the first.
        keep_batch_dim: whether examples keep a first axis of size 1.
        microbatch_size: examples at a time; None takes all.
        accumulator: how gradients are put together.
        transform_fn: of each example's gradient.
        metrics_fn: of each example's gradient, kept for each example.
        num_real_microbatches: stop after so many.

    >>> from bevel.optim import microbatching
    >>> loss = lambda w, x: ((w * x) ** 2).sum()
    >>> grad, each = microbatching.micro_grad(loss)(bnp.array(1.0), bnp.array([1.0, 2.0]))
    >>> grad, each.values
    (Array(10., dtype=float32), Array([1., 4.], dtype=float32))
    """
    batched = (batch_argnums,) if isinstance(batch_argnums, int) else tuple(batch_argnums)
    loss = fun if has_aux else lambda *args, **kwargs: (fun(*args, **kwargs), None)
    both = value_and_grad(loss, argnums, has_aux=True)

    def of_one(*args: Any, **kwargs: Any) -> tuple[Any, IndividualOutputs]:
        (value, aux), grad = both(*args, **kwargs)
        return transform_fn(grad), IndividualOutputs(value, metrics_fn(grad), aux)

    mapped = micro_vmap(
        of_one,
        [0 if i in batched else None for i in range(max(batched) + 1)],
        accumulator=(accumulator, AccumulationType.CONCAT),
        microbatch_size=microbatch_size,
        num_real_microbatches=num_real_microbatches,
    )
    if not keep_batch_dim:
        return mapped

    def with_axis(*args: Any, **kwargs: Any) -> tuple[Any, IndividualOutputs]:
        wide = [
            _tree.map(lambda x: bnp.expand_dims(x, 1), a) if i in batched else a
            for i, a in enumerate(args)
        ]
        return mapped(*wide, **kwargs)

    return with_axis
