"""The graph: a straight-line program of ops over typed variables, its builder, printer and
checker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, final

import numpy as np

from bevel.core import config
from bevel.core.aval import Aval, aval_of
from bevel.core.errors import UnexpectedTracerError
from bevel.core.interpreter import (
    Interpreter,
    NotLinear,
    Tracer,
    Undefined,
    state,
    to_numpy,
)
from bevel.core.source import Source, replay, user_source

INLINE_SIZE = 32
"""Concrete arrays up to this many elements are written into the program; larger ones become
inputs.
"""


@final
class Var:
    """A variable: defined once, by an equation or as an input."""

    __slots__ = ("aval",)

    def __init__(self, aval: Aval):
        self.aval = aval


@final
class Lit:
    """A small constant written into the program."""

    __slots__ = ("aval", "value")

    def __init__(self, value: np.ndarray):
        self.value = value
        self.aval = Aval(value.shape, value.dtype)


Atom = Var | Lit


class Eqn:
    """`outputs = op[params](inputs)`, and the user's line that wrote it."""

    __slots__ = ("inputs", "op", "outputs", "params", "source")

    def __init__(
        self, op, inputs: list[Atom], outputs: list[Var], params: dict[str, Any], src: Source | None
    ):
        self.op = op
        self.inputs = inputs
        self.outputs = outputs
        self.params = params
        self.source = src

    def replace(self, **changes: Any) -> Eqn:
        fields = dict(
            op=self.op,
            inputs=self.inputs,
            outputs=self.outputs,
            params=self.params,
            src=self.source,
        )
        return Eqn(**{**fields, **changes})

    @property
    def effect(self) -> bool:
        return self.op.effect or any(g.effect for g in subgraphs(self.params))


class Graph:
    """A closed program: everything it uses is an input, a literal or defined before."""

    __slots__ = ("_cache", "eqns", "inputs", "outputs")

    def __init__(self, inputs: Sequence[Var], eqns: Sequence[Eqn], outputs: Sequence[Atom]):
        self.inputs = list(inputs)
        self.eqns = list(eqns)
        self.outputs = list(outputs)
        self._cache: dict[Any, Any] = {}

    @property
    def in_avals(self) -> list[Aval]:
        return [v.aval for v in self.inputs]

    @property
    def out_avals(self) -> list[Aval]:
        return [v.aval for v in self.outputs]

    @property
    def effect(self) -> bool:
        return self.cached("effect", lambda: any(e.effect for e in self.eqns))

    @property
    def axis_names(self) -> frozenset:
        """Names of the mapped axes that collectives in it, and in the graphs it holds, refer to."""

        def make() -> frozenset:
            own = {e.params["axis_name"] for e in self.eqns if e.op.collective is not None}
            return frozenset(
                own.union(*[g.axis_names for e in self.eqns for g in subgraphs(e.params)])
            )

        return self.cached("axis names", make)

    def cached(self, key: Any, make: Callable[[], Any]) -> Any:
        """A value derived from this graph, computed once (graphs are never changed after they are
        built).
        """
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    def __repr__(self) -> str:
        return to_text(self)


def subgraphs(params: dict[str, Any]) -> Iterator[Graph]:
    """The graphs held by an equation's parameters."""
    for p in params.values():
        if isinstance(p, Graph):
            yield p
        elif isinstance(p, tuple):
            yield from (q for q in p if isinstance(q, Graph))


# -- building ------------------------------------------------------------------------------------


class GraphTracer(Tracer):
    """A value that stands for a variable of a graph under construction."""

    __slots__ = ("_source", "var")

    def __init__(self, interp: GraphBuilder, var: Var, src: Source | None):
        self.interp = interp
        self.aval = var.aval
        self.var = var
        self._source = src

    @property
    def source(self) -> Source | None:
        return self._source


class GraphBuilder(Interpreter):
    """Records every op it is given."""

    __slots__ = ("__weakref__", "const_values", "const_vars", "eqns")

    def __init__(self, outer: Interpreter, what: str):
        super().__init__(outer, what)
        self.eqns: list[Eqn] = []
        self.const_vars: dict[int, Var] = {}
        self.const_values: list[Any] = []

    def input(self, aval: Aval, src: Source | None = None) -> GraphTracer:
        return GraphTracer(self, Var(aval), src)

    def atom(self, value: Any) -> Atom:
        """The variable or literal for a value; one from outside becomes an input of the graph."""
        if isinstance(value, GraphTracer) and value.interp is self:
            return value.var
        if isinstance(value, np.ndarray) and value.size <= INLINE_SIZE:
            return Lit(value)
        if isinstance(value, np.generic):
            return Lit(np.asarray(value))
        value = self.outer.resolve(value)
        if isinstance(value, np.ndarray) and value.size <= INLINE_SIZE:
            return Lit(value)
        var = self.const_vars.get(id(value))
        if var is None:
            if type(value) is Undefined:
                raise NotLinear
            var = self.const_vars[id(value)] = Var(aval_of(value))
            self.const_values.append(value)
        return var

    def record(self, op, args: Sequence[Any], params: dict[str, Any]):
        """Append an equation; returns the tracer(s) of its results."""
        inputs = [self.atom(a) for a in args]
        src = user_source()
        avals = op.abstract(*[i.aval for i in inputs], **params)
        if op.multiple:
            outputs = [Var(a) for a in avals]
            self.eqns.append(Eqn(op, inputs, outputs, params, src))
            return tuple([GraphTracer(self, v, src) for v in outputs])
        out = Var(avals)
        self.eqns.append(Eqn(op, inputs, [out], params, src))
        return GraphTracer(self, out, src)

    run = record

    def finish(
        self, inputs: Sequence[GraphTracer], outputs: Sequence[Any]
    ) -> tuple[Graph, list[Any]]:
        """The graph (inputs: captured values first, then `inputs`) and the captured values it
        uses.
        """
        outs = [self.atom(o) for o in outputs]
        arg_vars = [t.var for t in inputs]
        eqns = live_equations(self.eqns, outs)
        used = {v for e in eqns for v in e.inputs if type(v) is Var} | {
            o for o in outs if type(o) is Var
        }
        pairs = [
            (var, value)
            for var, value in zip(self.const_vars.values(), self.const_values, strict=True)
            if var in used
        ]
        graph = Graph([v for v, _ in pairs] + arg_vars, eqns, outs)
        if config.get("check_graphs"):
            check(graph)
        return graph, [c for _, c in pairs]

    def finish_closed(self, inputs: Sequence[GraphTracer], outputs: Sequence[Any]) -> Graph:
        """The graph of `inputs` alone: captured arrays, whatever their size, become literals.

        For graphs that transforms make of graphs; only a rule that a user wrote captures anything.
        """
        graph, captured = self.finish(inputs, outputs)
        if not captured:
            return graph
        for value in captured:
            if isinstance(value, Tracer):
                raise UnexpectedTracerError(
                    f"a custom derivative rule uses a traced {value.aval} of {value.interp.what} "
                    "that is none of its arguments.\n"
                    "Why: the rule runs where that value no longer exists, and Bevel did not find "
                    "it among the variables that the rule closes over.\n"
                    "Write instead: pass it to the custom function as an argument."
                )
        literals: dict[Atom, Atom] = {
            v: Lit(to_numpy(c)) for v, c in zip(graph.inputs, captured, strict=False)
        }
        eqns = [e.replace(inputs=[literals.get(i, i) for i in e.inputs]) for e in graph.eqns]
        outs = [literals.get(o, o) for o in graph.outputs]
        return Graph(graph.inputs[len(captured) :], eqns, outs)


def live_equations(eqns: Sequence[Eqn], outputs: Sequence[Atom]) -> list[Eqn]:
    """The equations that the outputs or an effect need; unused results of ops with a `dce` rule
    go too.
    """
    live: set[Var] = {o for o in outputs if type(o) is Var}
    kept: list[Eqn] = []
    for eqn in reversed(eqns):
        used = [o in live for o in eqn.outputs]
        if not any(used) and not eqn.effect:
            continue
        if eqn.op.dce is not None and not all(used):
            params, kept_in, kept_out = eqn.op.dce(eqn.params, used)
            eqn = eqn.replace(
                params=params,
                inputs=[eqn.inputs[i] for i in kept_in],
                outputs=[eqn.outputs[i] for i in kept_out],
            )
        live.update(v for v in eqn.inputs if type(v) is Var)
        kept.append(eqn)
    kept.reverse()
    return kept


def trace(
    fn: Callable[..., Sequence[Any]], avals: Sequence[Aval], what: str
) -> tuple[Graph, list[Any]]:
    """Run `fn` on tracers and return the graph of its ops, and the outer values it captured.

    The graph's first inputs are the captured values, then come those of `avals`.
    """
    builder = GraphBuilder(state.current, what)
    with builder:
        inputs = [builder.input(a, None) for a in avals]
        return builder.finish(inputs, fn(*inputs))


def trace_closed(fn: Callable[..., Sequence[Any]], avals: Sequence[Aval], what: str) -> Graph:
    """`trace`, with captured arrays as literals: the graph's inputs are those of `avals`."""
    builder = GraphBuilder(state.current, what)
    with builder:
        inputs = [builder.input(a, None) for a in avals]
        return builder.finish_closed(inputs, fn(*inputs))


def evaluate(graph: Graph, args: Sequence[Any]) -> list[Any]:
    """Run a graph op by op under the current interpreter."""
    env: dict[Var, Any] = dict(zip(graph.inputs, args, strict=True))
    interp = state.current

    def read(atom: Atom):
        return env[atom] if type(atom) is Var else atom.value

    with (block := replay()) as source:
        for eqn in graph.eqns:
            source.replayed = eqn.source or block.saved
            out = interp.run(eqn.op, tuple([read(i) for i in eqn.inputs]), eqn.params)
            if eqn.op.multiple:
                env.update(zip(eqn.outputs, out, strict=True))
            else:
                env[eqn.outputs[0]] = out
    return [read(o) for o in graph.outputs]


# -- printing ------------------------------------------------------------------------------------


def _letters(n: int) -> str:
    out = ""
    n += 1
    while n:
        n, r = divmod(n - 1, 26)
        out = chr(ord("a") + r) + out
    return out


def _literal_text(lit: Lit) -> str:
    if lit.value.size == 1:
        return repr(lit.value.item())
    return f"{lit.aval}{lit.value.tolist() if lit.value.size <= INLINE_SIZE else '[...]'}"


def to_text(graph: Graph, indent: str = "") -> str:
    """A readable listing: inputs, one equation a line, results."""
    names: dict[Var, str] = {}

    def name(atom: Atom) -> str:
        if type(atom) is Lit:
            return _literal_text(atom)
        return names.setdefault(atom, _letters(len(names)))

    def typed(atom: Atom) -> str:
        return f"{name(atom)}:{atom.aval}"

    def show(value: Any) -> str:
        if isinstance(value, Graph):
            return "{\n" + to_text(value, indent + "    ") + f"\n{indent}  }}"
        if isinstance(value, tuple) and any(isinstance(v, Graph) for v in value):
            return "(" + ", ".join(show(v) for v in value) + ")"
        return getattr(value, "__name__", None) or str(value)

    lines = [f"{indent}inputs {' '.join(typed(v) for v in graph.inputs)}"]
    for e in graph.eqns:
        params = " ".join(f"{k}={show(v)}" for k, v in e.params.items() if v is not None)
        left = " ".join(typed(o) for o in e.outputs)
        right = " ".join(name(i) for i in e.inputs)
        lines.append(f"{indent}  {left} = {e.op.name}{f'[{params}]' if params else ''} {right}")
    lines.append(f"{indent}return {' '.join(name(o) for o in graph.outputs)}")
    return "\n".join(lines)


# -- checking ------------------------------------------------------------------------------------


def check(graph: Graph) -> None:
    """Validate scoping and types of a graph and of those inside it; raises AssertionError."""
    scope: set[Var] = set()

    def define(var: Var):
        assert type(var) is Var, f"{var!r} is not a variable"
        assert var not in scope, f"a {var.aval} variable is defined twice in\n{graph}"
        scope.add(var)

    def use(atom: Atom):
        assert type(atom) is Lit or atom in scope, (
            f"a {atom.aval} variable is used before it is defined"
        )

    for v in graph.inputs:
        define(v)
    for eqn in graph.eqns:
        for i in eqn.inputs:
            use(i)
        for sub in subgraphs(eqn.params):
            check(sub)
        avals = eqn.op.abstract(*[i.aval for i in eqn.inputs], **eqn.params)
        avals = list(avals) if eqn.op.multiple else [avals]
        found = [o.aval for o in eqn.outputs]
        assert avals == found, (
            f"{eqn.op.name} at {eqn.source} gives {avals}, the graph says {found}"
        )
        for o in eqn.outputs:
            define(o)
    for result in graph.outputs:
        use(result)
