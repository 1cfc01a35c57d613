"""Tracing the functions that control-flow ops hold, with the state cells they touch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from bevel.api.flat import Output, as_handle, cells_of, is_array_like, rewrap, type_text
from bevel.api.naming import cell_name
from bevel.core import tree
from bevel.core.aval import Aval, aval_of
from bevel.core.errors import StateError
from bevel.core.graph import Graph, GraphBuilder, Var
from bevel.core.handle import Handle, fresh_tag, wrap
from bevel.core.interpreter import state
from bevel.core.ref import Cell, Scope
from bevel.core.source import user_source, where
from bevel.random.keys import Consumed, consume, was_consumed


class Body:
    """A user function as a graph.

    Inputs: captured values, then `handles`, then the contents of `carried` cells. Results: those
        of the
    function, then what it leaves in the `forced` cells. `changed` are all cells it wrote;
    `consumed`, the keys it draws from, and `drawn`, which inputs are such: whoever uses the body
    calls `consume`.
    """

    __slots__ = (
        "carried",
        "changed",
        "consts",
        "consumed",
        "drawn",
        "forced_tags",
        "fun",
        "graph",
        "output",
        "what",
    )

    def __init__(
        self,
        what: str,
        fun: Callable[..., Any],
        handles: Sequence[Handle],
        carried: Sequence[Cell] = (),
        forced: Sequence[Cell] = (),
    ):
        builder = GraphBuilder(state.current, what)
        inputs = [builder.input(aval_of(h._v)) for h in handles]
        cell_inputs: dict[Cell, Any] = {}
        wanted = set(carried)

        def lift(cell: Cell, content: Any) -> Any:
            if cell not in wanted:
                return content
            tracer = cell_inputs[cell] = builder.input(aval_of(content._v))
            return wrap(tracer, fresh_tag(content._tag))

        self.what = what
        self.fun = fun
        self.carried = list(carried)
        self.output = Output()
        with Consumed() as self.consumed, builder, Scope(what, lift) as scope:
            for cell in carried:
                scope.capture(cell)
            inner = rewrap(inputs, [h._tag for h in handles])
            result = fun(*inner)
            outs = self.output.flatten(result, what)
            left = [as_handle(c._read(), f"the content of a cell in {what}") for c in forced]
            self.forced_tags = [h._tag for h in left]
            self.drawn = [i for i, h in enumerate(inner) if was_consumed(h)]
        self.changed = list(scope.changed())
        self.graph, self.consts = builder.finish(
            [*inputs, *[cell_inputs[c] for c in carried]], [*outs, *[h._v for h in left]]
        )

    def consume(self, handles: Sequence[Handle], every_step_of: str = "") -> None:
        """The function has been put to use on these inputs: it consumes keys among them, and those
        it closes over (in every step of a loop, if one is named).
        """
        self.consumed.keep(every_step_of)
        for i in self.drawn:
            if i < len(handles):
                consume(self.what, handles[i])

    def refuse_writes(self) -> None:
        """Raise if the function writes state cells."""
        refuse_writes(self.what, self.changed, self.fun)

    @property
    def out_avals(self) -> list[Aval]:
        """Abstract values of the function's own results."""
        return self.graph.out_avals[: len(self.output.tags)]

    @property
    def out_types(self) -> list[str]:
        """Their types as users see them."""
        return list(map(type_text, self.out_avals, self.output.tags))


def refuse_writes(
    what: str, cells: Collection[Cell], fun: Any = None, args: Sequence[Any] = ()
) -> None:
    """Raise StateError if a function wrote any cells that nobody would carry on."""
    if cells:
        names = sorted({cell_name(c, fun, args) for c in cells})
        raise StateError(
            f"{what} writes a state cell ({', '.join(names)}) at {where(user_source())}.\n"
            "Why: it may run any number of times, or never, so what it writes has no meaning.\n"
            "Write instead: return the new value from the function and write it outside."
        )


def with_arrays(
    fun: Callable[..., Any], args: tuple, kwargs: dict[str, Any], what: str
) -> tuple[Callable[..., Any], list[Handle]]:
    """A call as a function of the arrays among its arguments, and those; modules and other leaves
    stay as they are.
    """
    leaves, treedef = tree.flatten((args, kwargs))
    plain = [isinstance(x, Handle) or (cells_of(x) is None and is_array_like(x)) for x in leaves]
    handles = [
        as_handle(x, f"an argument of {what}") for x, p in zip(leaves, plain, strict=True) if p
    ]

    def flat(*hs: Any) -> Any:
        given = iter(hs)
        mixed = [next(given) if p else x for x, p in zip(leaves, plain, strict=True)]
        a, kw = tree.unflatten(treedef, mixed)
        return fun(*a, **kw)

    return flat, handles


def body_with_state(what: str, fun: Callable[..., Any], handles: Sequence[Handle]) -> Body:
    """A body whose written cells are all carried in and out."""
    body = Body(what, fun, handles)
    while set(body.changed) - set(body.carried):
        cells = list(dict.fromkeys([*body.carried, *body.changed]))
        body = Body(what, fun, handles, cells, cells)
    return body


def bodies_with_state(
    what: str, funs: Sequence[Callable[..., Any]], handles: Sequence[Handle]
) -> list[Body]:
    """Bodies over the same inputs that all return the contents of every cell any of them writes."""
    forced: dict[Cell, None] = {}  # in order; a list would ask the cells whether they are equal
    while True:
        bodies = [Body(what, f, handles, forced=list(forced)) for f in funs]
        written = dict.fromkeys(c for b in bodies for c in b.changed)
        if written.keys() <= forced.keys():
            return bodies
        forced |= written


def unify_captured(bodies: Sequence[Body]) -> tuple[list[Any], list[Graph]]:
    """The captured values of all bodies without repeats, and graphs that take all of them first."""
    slots: dict[int, int] = {}
    values: list[Any] = []
    for b in bodies:
        for c in b.consts:
            if id(c) not in slots:
                slots[id(c)] = len(values)
                values.append(c)
    graphs = []
    for b in bodies:
        own = {slots[id(c)]: v for c, v in zip(b.consts, b.graph.inputs, strict=False)}
        first = [own.get(i) or Var(aval_of(c)) for i, c in enumerate(values)]
        graphs.append(Graph(first + b.graph.inputs[len(b.consts) :], b.graph.eqns, b.graph.outputs))
    return values, graphs
