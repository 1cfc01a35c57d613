"""`tabulate`: a model as a table of its layers, with shapes, sizes and work, from one trace."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from bevel.api.derivatives import vjp
from bevel.api.flat import ShapeDtypeStruct
from bevel.api.graphs import eval_shape, make_graph
from bevel.core import tree
from bevel.core.graph import Eqn, Graph
from bevel.core.handle import Handle
from bevel.core.interpreter import state
from bevel.core.ref import Cell
from bevel.nn.linear import NO_METADATA
from bevel.nn.rngs import RngStream
from bevel.nn.states import clone
from bevel.nn.structure import Path, Structure, path_text
from bevel.nn.variable import RngState

# -- work ------------------------------------------------------------------------------------------

_FREE = set(
    """
    reshape broadcast_in_dim transpose slice concatenate convert gather dynamic_slice
    dynamic_update_slice scatter pad iota select stop_gradient rev copy name bitcast_convert squeeze
    expand_dims optimization_barrier device_put split argmax argmin sort
    """.split()
)


def flops_of(eqns: Sequence[Eqn]) -> int:
    """Floating-point operations of equations: 2 for a product with its sum, 1 for another result.

    A loop counts as often as it is known to run, a branch as its costliest.
    """
    return sum(_flops(e) for e in eqns)


def _flops(e: Eqn) -> int:
    inner = [g for v in e.params.values() for g in _graphs(v)]
    if inner:
        counts = [flops_of(g.eqns) for g in inner]
        return max(counts) if e.op.name == "cond" else sum(counts) * e.params.get("length", 1)
    sizes = [math.prod(o.aval.shape) for o in e.outputs]
    if e.op.name == "dot_general":
        (contracted, _), lhs = e.params["contract"], e.inputs[0].aval.shape
        return 2 * sizes[0] * math.prod(lhs[a] for a in contracted)
    if e.op.name == "conv_general_dilated":
        kernel = e.inputs[1].aval.shape
        return 2 * sizes[0] * math.prod(kernel) // kernel[e.params["dims"].rhs_spec[0]]
    if e.op.name in _FREE or e.outputs[0].aval.dtype.kind in "bui":
        return 0
    if e.op.name.startswith(("reduce_", "cum")):
        return math.prod(e.inputs[0].aval.shape)
    return sum(sizes)


def _graphs(value: Any) -> list[Graph]:
    if isinstance(value, Graph):
        return [value]
    return [v for v in value if isinstance(v, Graph)] if isinstance(value, tuple | list) else []


# -- rows ------------------------------------------------------------------------------------------


@dataclasses.dataclass(eq=False)
class Row:
    """A module in the table.

    `inputs` and `outputs` are trees of shapes and dtypes, None if it was not called; `call` are its
    arguments and keyword arguments likewise, and `variables` its own, by name.
    """

    path: Path
    module: Any
    variables: dict[str, Any]
    inputs: Any = None
    outputs: Any = None
    call: tuple[Any, Any] | None = None
    flops: int | None = None

    @property
    def type(self) -> type:
        """Class of the module."""
        return type(self.module)


def not_a_stream(row: Row) -> bool:
    """Which rows the table has by default: all but those of random streams."""
    return not isinstance(row.module, RngStream)


def _rows(root: Any) -> dict[int, Row]:
    """A row for each module, with its variables: those that are in no module inside it."""
    found = Structure(root)
    rows = {id(m): Row(p, m, {}) for p, m in found.modules}
    by_path = {row.path: row for row in rows.values()}
    for path, cell in zip(found.paths, found.cells, strict=True):
        n = next(n for n in range(len(path), -1, -1) if path[:n] in by_path)
        by_path[path[:n]].variables[path_text(path[n:])] = cell
    return rows


class _Watched:
    """While it lasts, calls of modules are noted in their rows."""

    def __init__(self, rows: dict[int, Row], root: Any, method: str):
        self.rows = rows
        self.order: list[Row] = []
        names = {(c, "__call__") for r in rows.values() for c in r.type.__mro__}
        names |= {(c, method) for c in type(root).__mro__}
        self.methods = {(c, n): vars(c)[n] for c, n in names if n in vars(c) and c is not object}

    def __enter__(self) -> list[Row]:
        for (cls, name), function in self.methods.items():
            setattr(cls, name, self._noting(function))
        return self.order

    def __exit__(self, *exc: Any) -> None:
        for (cls, name), function in self.methods.items():
            setattr(cls, name, function)

    def _noting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def noted(module: Any, *args: Any, **kwargs: Any) -> Any:
            row = self.rows.get(id(module))
            if row is None or row in self.order:  # inside: a call of the parent class's method
                return function(module, *args, **kwargs)
            self.order.append(row)
            row.call = _shapes(args), _shapes(kwargs)
            row.inputs = _single((*row.call[0], row.call[1]) if kwargs else row.call[0])
            builder = state.current
            start = len(builder.eqns)
            out = function(module, *args, **kwargs)
            row.flops = flops_of(builder.eqns[start:]) if state.current is builder else None
            row.outputs = _single(_shapes(out))
            return out

        return noted


def _shapes(x: Any) -> Any:
    def shape(v: Any) -> Any:
        return ShapeDtypeStruct(v.shape, v.dtype) if isinstance(v, Handle) else v

    return tree.map(shape, x)


def _single(x: Any) -> Any:
    return x[0] if isinstance(x, tuple) and len(x) == 1 else x


# -- the table -------------------------------------------------------------------------------------


def tabulate(
    obj: Any,
    *input_args: Any,
    depth: int | None = None,
    method: str = "__call__",
    row_filter: Callable[[Row], bool] = not_a_stream,
    table_kwargs: Mapping[str, Any] = NO_METADATA,
    column_kwargs: Mapping[str, Any] = NO_METADATA,
    console_kwargs: Mapping[str, Any] = NO_METADATA,
    compute_flops: bool = False,
    compute_vjp_flops: bool = False,
    **input_kwargs: Any,
) -> str:
    """A table of a model's layers: path, type, shapes of inputs and outputs, variables and sizes.

    The model is traced once, not run: nothing is computed, and its variables stay as they are.

    Args:
        obj: a module.
        input_args: arguments of the method: arrays or `bv.ShapeDtypeStruct`s.
        depth: how deep to look.
        method: the method to trace.
        row_filter: which rows to show.
        table_kwargs: for `rich.table.Table`.
        column_kwargs: for its columns.
        console_kwargs: for `rich.console.Console`, such as `width`.
        compute_flops: add a column of floating-point operations, counted in the trace: 2 for each
            multiplication with its addition, 1 for each other result. In the body of a loop they
            are those of one step.
        compute_vjp_flops: add a column of those of a call with its gradient, in the parameters
            and inputs, which takes a trace for each layer.
        input_kwargs: keyword arguments of the method.

    >>> import bevel as bv
    >>> from bevel import nn
    >>> rngs = nn.Rngs(0)
    >>> model = nn.Sequential(nn.Linear(8, 4, rngs=rngs), nn.relu, nn.Linear(4, 1, rngs=rngs))
    >>> x = bv.ShapeDtypeStruct((2, 8), "float32")
    >>> lines = nn.tabulate(model, x, console_kwargs={"width": 100}).splitlines()
    >>> lines[-1].strip()
    'Total: 41 (164 B)'
    """
    from rich import box, console, table

    obj = clone(obj)
    rows = _rows(obj)
    watched = _Watched(rows, obj, method)
    with watched as order:
        _trace(getattr(obj, method), input_args, input_kwargs)
    uncalled = [r for r in rows.values() if r not in order and r.variables]
    kinds = sorted({_kind(c) for r in rows.values() for c in r.variables.values()}, key=str)
    shown = [
        r for r in [*order, *uncalled] if row_filter(r) and (depth is None or len(r.path) <= depth)
    ]
    out = table.Table(
        title=f"{type(obj).__name__} Summary",
        **{"box": box.SQUARE, "show_lines": True, "show_footer": True} | dict(table_kwargs),
    )
    heads = ["path", "type", "inputs", "outputs", *(["flops"] if compute_flops else [])]
    heads += ["vjp_flops"] if compute_vjp_flops else []
    for i, head in enumerate(heads):
        out.add_column(head, footer="Total" if i == len(heads) - 1 else "", **column_kwargs)
    for kind in kinds:
        footer = _size(_inside(rows, (), kind))
        out.add_column(kind.__name__, footer=footer, **column_kwargs)
    for r in shown:
        cells = ["/".join(map(str, r.path)), r.type.__name__, _text(r.inputs), _text(r.outputs)]
        cells += [_number(r.flops)] if compute_flops else []
        if compute_vjp_flops:
            cells.append(_number(None if r.call is None else _vjp_flops(r, method)))
        out.add_row(*map(_plain, cells), *[_plain(_column(rows, r, kind)) for kind in kinds])
    out.caption = f"Total: {_size(_inside(rows, (), None))}"
    text = io.StringIO()
    options = {"force_terminal": False, "force_jupyter": False} | dict(console_kwargs)
    console.Console(file=text, **options).print(out)
    return text.getvalue()


def _trace(f: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> None:
    """Trace a call."""
    call, arrays = _over_arrays(f, args, kwargs)
    eval_shape(lambda found: tree.leaves(call(found)), arrays)


def _over_arrays(
    f: Callable[..., Any], args: tuple, kwargs: dict[str, Any]
) -> tuple[Callable[..., Any], dict[int, Any]]:
    """A call as a function of its arrays; what is none (flags, None) stays as it is."""
    leaves, treedef = tree.flatten((args, kwargs))
    arrays = {i: x for i, x in enumerate(leaves) if hasattr(x, "shape") and not isinstance(x, Cell)}

    def call(found: dict[int, Any]) -> Any:
        a, k = tree.unflatten(treedef, [found.get(i, x) for i, x in enumerate(leaves)])
        return f(*a, **k)

    return call, arrays


def _vjp_flops(row: Row, method: str) -> int:
    """Work of a call and of its gradient in the parameters and floating inputs."""
    args, kwargs = row.call or ((), {})
    f = getattr(row.type, "__call__" if row.path else method)
    call, arrays = _over_arrays(f, (row.module, *args), kwargs)
    floats = {i for i, x in arrays.items() if getattr(x.dtype, "kind", "") in ("f", "c")}

    def both(arrays: dict[int, Any]) -> list[Any]:
        rest = {i: x for i, x in arrays.items() if i not in floats}

        def run(module: Any, inputs: dict[int, Any]) -> Any:
            return [y for y in tree.leaves(call(rest | inputs)) if isinstance(y, Handle)]

        inputs = {i: x for i, x in arrays.items() if i in floats}
        ys, pull = vjp(run, row.module, inputs)
        return tree.leaves(pull(ys))

    return flops_of(make_graph(both)(arrays).eqns)


def _number(n: int | None) -> str:
    return "" if n is None else f"{n:,}"


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(text)


def _kind(cell: Any) -> type:
    return RngState if isinstance(cell, RngState) else type(cell)


def _inside(rows: dict[int, Row], path: Path, kind: type | None) -> Iterator[Any]:
    """Contents of the variables of a kind in a module and all inside it."""
    for r in rows.values():
        if r.path[: len(path)] == path:
            yield from (c._read() for c in r.variables.values() if kind in (None, _kind(c)))


def _column(rows: dict[int, Row], row: Row, kind: type) -> str:
    own = {n: c._read() for n, c in row.variables.items() if _kind(c) is kind}
    lines = [f"{n}: {_text(x)}" for n, x in own.items() if kind is not RngState]
    size = _size(_inside(rows, row.path, kind))
    return "\n".join([*lines, "", size] if lines and size else [*lines, size])


def _size(contents: Iterator[Any]) -> str:
    """`41 (164 B)`: number of elements and bytes."""
    arrays = [x for x in contents if isinstance(x, Handle)]
    n = sum(x.size for x in arrays)
    size = float(sum(x._v.size * x._v.dtype.itemsize for x in arrays))
    if not arrays:
        return ""
    for unit in ("B", "KB", "MB"):
        if size < 1000:
            return f"{n:,} ({size:.0f} B)" if unit == "B" else f"{n:,} ({size:.1f} {unit})"
        size /= 1000
    return f"{n:,} ({size:.1f} GB)"


def _text(x: Any) -> str:
    if x is None:
        return ""
    if hasattr(x, "shape") and hasattr(x, "dtype"):
        return f"{x.dtype.name}[{','.join(map(str, x.shape))}]"
    if isinstance(x, Mapping):
        return "\n".join(f"{k}: {_text(v)}" for k, v in x.items())
    if isinstance(x, tuple | list):
        return "\n".join(f"- {_text(v)}" for v in x)
    return str(x)


def display(*objects: Any) -> None:
    """Show modules, states or other objects: folded out in a notebook, in colours in a terminal.

    >>> from bevel import nn
    >>> nn.display(nn.Dropout(0.5))
    Dropout(rate=0.5, rng_collection='dropout')
    """
    try:
        from IPython import get_ipython
        from IPython.display import display as show
    except ImportError:
        get_ipython = lambda: None  # noqa: E731 (no notebook without IPython)
    if get_ipython() is not None:
        show(*objects)
        return
    import rich

    for x in objects:
        rich.print(x)
