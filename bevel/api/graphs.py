"""Looking at what a function does without running it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bevel.api.flat import Output, as_handle, cells_of, described, is_stateful, like, struct_of
from bevel.core import tree
from bevel.core.aval import Aval
from bevel.core.graph import Graph, GraphBuilder, check
from bevel.core.handle import Handle, fresh_tag, wrap
from bevel.core.interpreter import state
from bevel.core.ref import Cell, Scope


def _trace(
    fun: Callable[..., Any], args: tuple, kwargs: dict[str, Any]
) -> tuple[Graph, list[Any], Output, int]:
    what = described("trace", fun)
    leaves, treedef = tree.flatten((args, kwargs))
    stateful = [not isinstance(x, Handle) and cells_of(x) is not None for x in leaves]
    handles = [
        like(x, f"an argument of {what}") for x, s in zip(leaves, stateful, strict=True) if not s
    ]
    builder = GraphBuilder(state.current, what)
    inputs = [builder.input(Aval(tuple(h._v.shape), np.dtype(h._v.dtype))) for h in handles]
    out = Output()
    with builder, Scope(what) as scope:
        traced = iter([wrap(t, fresh_tag(h._tag)) for t, h in zip(inputs, handles, strict=True)])
        mixed = [x if s else next(traced) for x, s in zip(leaves, stateful, strict=True)]
        a, kw = tree.unflatten(treedef, mixed)
        outs = out.flatten(fun(*a, **kw), what, passed=is_stateful)
        made = [c for x in out.others.values() for c in cells_of(x) or () if c not in scope.cells]
        graph, consts = builder.finish(inputs, outs)
    _abstract(made)
    return graph, consts, out, len(consts)


def _abstract(cells: Sequence[Any]) -> None:
    """Leave in cells that were made while tracing the shape and dtype of what is in them."""
    for cell in cells:
        if isinstance(cell._content, Handle):
            h = as_handle(cell._content, "the content of a cell")
            struct = struct_of(Aval(tuple(h._v.shape), np.dtype(h._v.dtype)), h._tag)
            Cell.__init__(cell, struct)


def make_graph(fun: Callable[..., Any]) -> Callable[..., Graph]:
    """A function that returns the graph of `fun` for its arguments, which prints readably.

    Inputs of the graph are the arrays `fun` captures, then the leaves of the arguments.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> bv.make_graph(lambda x: bnp.sin(x) * x)(1.0)
    inputs a:float32[]
      b:float32[] = sin a
      c:float32[] = mul b a
    return c
    """

    @functools.wraps(fun)
    def graph_of(*args: Any, **kwargs: Any) -> Graph:
        graph = _trace(fun, args, kwargs)[0]
        check(graph)
        return graph

    return graph_of


def eval_shape(fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Shapes and dtypes of the results of `fun`, without computing them; cells keep their contents.

    Arguments may be arrays or `ShapeDtypeStruct`s. A module that `fun` makes is returned with
    `ShapeDtypeStruct`s in its variables: the shape of a model that was never initialized.

    >>> import bevel as bv
    >>> bv.eval_shape(lambda x: x @ x, bv.ShapeDtypeStruct((3, 3), "float32"))
    ShapeDtypeStruct(shape=(3, 3), dtype=float32)
    """
    graph, _, out, _ = _trace(fun, args, kwargs)
    leaves = list(map(struct_of, graph.out_avals, out.tags))
    for i, module in out.others.items():
        leaves.insert(i, module)
    return tree.unflatten(out.treedef, leaves)
