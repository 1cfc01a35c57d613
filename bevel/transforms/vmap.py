"""Vectorization: an interpreter over values with a mapped axis, which is always axis 0."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bevel.core.aval import Aval, aval_of
from bevel.core.graph import Graph, evaluate, subgraphs, trace_closed
from bevel.core.interpreter import Interpreter, Tracer, run_under, state
from bevel.core.op import rule
from bevel.ops import broadcast_in_dim


class Axis(int):
    """The size of a mapped axis, and the name collectives know it by (or None)."""

    name: Any

    def __new__(cls, size: int, name: Any = None):
        self = super().__new__(cls, size)
        self.name = name
        return self


class BatchTracer(Tracer):
    """One row of a value whose axis 0 is mapped."""

    __slots__ = ("value",)

    def __init__(self, interp: Interpreter, value: Any):
        aval = aval_of(value)
        self.interp = interp
        self.aval = Aval(aval.shape[1:], aval.dtype)
        self.value = value

    @property
    def source(self):
        return getattr(self.value, "source", None)


class Batch(Interpreter):
    """Evaluates every op on whole batches."""

    __slots__ = ("axis",)

    def __init__(self, outer: Interpreter, axis: Axis, what: str = "vmap"):
        super().__init__(outer, what)
        self.axis = axis

    def run(self, op, args, params):
        batched = tuple([type(a) is BatchTracer and a.interp is self for a in args])
        name = self.axis.name
        names = name is not None and op.collective is not None and params["axis_name"] == name
        if not names and not any(batched):
            # What a graph computes from the axis alone (its index, say) is batched all the same.
            if name is None or not any(name in g.axis_names for g in subgraphs(params)):
                return run_under(self.outer, op, args, params)
        vals = [a.value if b else a for a, b in zip(args, batched, strict=True)]
        saved = state.current
        state.current = self.outer
        try:
            apply = op.collective if names else rule(op, "batch")
            out, out_batched = apply(self.axis, vals, batched, **params)
        finally:
            state.current = saved
        if not op.multiple:
            return BatchTracer(self, out) if out_batched else out
        return tuple(
            [BatchTracer(self, o) if b else o for o, b in zip(out, out_batched, strict=True)]
        )

    def split(self, value: Any) -> tuple[Any, bool]:
        """The whole batch of a value, and whether it has one."""
        if type(value) is BatchTracer and value.interp is self:
            return value.value, True
        return value, False


def find_axis(name: Any) -> Axis | None:
    """The mapped axis of that name around the current interpreter."""
    interp = state.current
    while interp is not None:
        if isinstance(interp, Batch) and interp.axis.name == name:
            return interp.axis
        interp = interp.outer
    return None


def named_axes() -> tuple[tuple[Any, int], ...]:
    """Names and sizes of all mapped axes in scope; part of the key of every cached trace."""
    found = []
    interp = state.current
    while interp.outer is not None:
        if isinstance(interp, Batch) and interp.axis.name is not None:
            found.append((interp.axis.name, int(interp.axis)))
        interp = interp.outer
    return tuple(found)


def with_batch_axis(value: Any, size: int) -> Any:
    """A value repeated along a new axis 0."""
    aval = aval_of(value)
    return broadcast_in_dim(
        value, shape=(int(size), *aval.shape), dims=tuple(range(1, aval.ndim + 1))
    )


def vmap(
    fn: Callable[..., Sequence[Any]], axis: Axis, args: Sequence[Any], batched: Sequence[bool]
):
    """Results of `fn` mapped over axis 0 of the batched arguments, and which of them are
    batched.
    """
    interp = Batch(state.current, axis)
    with interp:
        outs = fn(*[BatchTracer(interp, a) if b else a for a, b in zip(args, batched, strict=True)])
    pairs = [interp.split(o) for o in outs]
    return [o for o, _ in pairs], [b for _, b in pairs]


def batch_graph(
    graph: Graph, axis: Axis, batched: tuple[bool, ...], force: tuple[bool, ...] | None = None
) -> tuple[Graph, tuple[bool, ...]]:
    """The graph over whole batches and which results are batched (those in `force` always are)."""

    def make():
        mask: list[bool] = []

        def fn(*args):
            outs, out_batched = vmap(lambda *xs: evaluate(graph, xs), axis, args, batched)
            for i, f in enumerate(force or ()):
                if f and not out_batched[i]:
                    outs[i], out_batched[i] = with_batch_axis(outs[i], axis), True
            mask[:] = out_batched
            return outs

        avals = [
            Aval((int(axis), *a.shape), a.dtype) if b else a
            for a, b in zip(graph.in_avals, batched, strict=True)
        ]
        return trace_closed(fn, avals, "vmap"), tuple(mask)

    return graph.cached(("vmap", int(axis), axis.name, batched, force), make)
