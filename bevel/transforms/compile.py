"""From a graph to a running program, and eager ops that run as one-op programs."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bevel import ops
from bevel.core import config, forks, interpreter
from bevel.core.aval import aval_of
from bevel.core.buffer import Buffer
from bevel.core.dtypes import is_complex
from bevel.core.graph import Graph, GraphBuilder, Var, subgraphs, trace_closed
from bevel.core.interpreter import EAGER, Backend, Tracer, leaked, under
from bevel.core.op import Unsupported
from bevel.xla import client
from bevel.xla.cache import compile_lowered
from bevel.xla.client import Executable
from bevel.xla.lower import Lowered, lower_module

EAGER_PROGRAMS = 4096


def common_device(values: Sequence[Any]) -> Any:
    """The device on which a program with these arguments runs.

    NumPy data goes where the device buffers are; without any, to the default device. Buffers on the
    default device follow those on another one.

    Raises:
        ValueError: buffers on several other devices.
    """
    default = None
    chosen = None
    for v in values:
        if type(v) is np.ndarray:
            continue
        if isinstance(v, Tracer):
            raise leaked(v)
        device = client.device_of(v.raw)
        if default is None:
            default = client.default_device()
        if device == default or device == chosen:
            continue
        if chosen is not None:
            raise ValueError(
                f"arguments are on different devices, {chosen} and {device}.\n"
                f"Write instead: bv.device_put(x, bv.devices()[{device.id}]) on the others."
            )
        chosen = device
    return chosen or default or client.default_device()


def to_raw(value: Any, device: Any) -> Any:
    """A value as the runtime's array on a device."""
    if type(value) is np.ndarray:
        return client.put(value, device, owned=True)
    if isinstance(value, Tracer):
        raise leaked(value)
    raw = value.raw
    return raw if client.device_of(raw) == device else client.copy_to(raw, device)


class Program:
    """A graph with its executables, one per device. Arguments and results are values.

    `donated` are indices of inputs whose memory the results may take.
    """

    __slots__ = ("_executables", "_lowered", "donated", "graph", "kept", "name", "options")

    def __init__(
        self,
        graph: Graph,
        name: str = "main",
        donated: Sequence[int] = (),
        keep_unused: bool = False,
        options: dict[str, Any] | None = None,
    ):
        self.graph = graph
        self.name = name
        self.options = options
        used = {a for e in graph.eqns for a in e.inputs if type(a) is Var} | set(graph.outputs)
        self.kept = tuple(i for i, v in enumerate(graph.inputs) if keep_unused or v in used)
        self.donated = tuple(i for i in donated if i in self.kept)
        self._lowered: dict[str, Lowered] = {}
        self._executables: dict[Any, Executable] = {}

    @property
    def compiled(self) -> bool:
        """Whether it has been compiled for some device."""
        return bool(self._executables)

    def lowered(self, platform: str) -> Lowered:
        """The StableHLO program for a platform."""
        if platform not in self._lowered:
            self._lowered[platform] = lower_module(
                self.graph, name=self.name, platform=platform, donated=self.donated, kept=self.kept
            )
        return self._lowered[platform]

    def executable(self, device: Any) -> Executable:
        """The compiled program for a device."""
        found = self._executables.get(device)
        if found is None:
            found = compile_lowered(self.lowered(device.platform), (device,), options=self.options)
            self._executables[device] = found
        return found

    def __call__(self, values: Sequence[Any]) -> list[Any]:
        """Run; results are buffers."""
        used = [values[i] for i in self.kept]
        device = common_device(used)
        return [Buffer(r) for r in self.executable(device).run([to_raw(v, device) for v in used])]


def one_op_graph(op, avals: Sequence[Any], params: dict[str, Any]) -> Graph:
    """The graph that applies one op to inputs of the given avals."""
    builder = GraphBuilder(EAGER, op.name)
    inputs = [builder.input(a) for a in avals]
    with under(builder):
        out = op(*inputs, **params)
    return builder.finish(inputs, out if op.multiple else [out])[0]


def finite_graph(avals: Sequence[Any]) -> Graph:
    """The graph that tells whether all elements of floating-point inputs are finite."""

    def every(*xs):
        found = [ops.reduce_and(ops.is_finite(x), axes=tuple(range(x.ndim))) for x in xs]
        return [functools.reduce(ops.and_, found)]

    with under(EAGER):
        return trace_closed(every, avals, "a search for NaN")


class XLABackend(Backend):
    """Eager evaluation of what NumPy should not do: graphs, accelerator arrays, large slow ops."""

    def __init__(self):
        self._programs: OrderedDict[Any, Program] = OrderedDict()

    @property
    def accelerator(self) -> bool:
        return not forks.stale and client.platforms()[0] != "cpu"

    def read(self, raw: Any) -> np.ndarray:
        return client.to_numpy(raw)

    def finite(self, values: Sequence[Any]) -> bool:
        """For results on an accelerator, a program there finds out and one bool comes back."""
        there = [
            v
            for v in values
            if type(v) is Buffer
            and client.device_of(v.raw).platform != "cpu"
            and not is_complex(v.dtype)
        ]
        if len(there) != len(values):
            return super().finite(values)
        avals = tuple([v.aval for v in there])
        program = self._remembered(
            ("finite", avals), lambda: Program(finite_graph(avals), "all_finite")
        )
        return bool(self.read(program(there)[0].raw))

    def wants(self, op, args) -> bool:
        if isinstance(op.lower, Unsupported) or config.get("disable_jit"):
            return False
        if isinstance(op.reference, Unsupported):
            return True
        elsewhere = self.accelerator
        for a in args:
            if type(a) is Buffer:
                if client.device_of(a.raw).platform != "cpu":
                    return True
                elsewhere = False
        if elsewhere:
            return True
        above = op.compile_above
        return (
            above is not None
            and not forks.stale
            and (above < 0 or any(aval_of(a).size > above for a in args))
        )

    def run(self, op, args, params):
        avals = tuple([aval_of(a) for a in args])
        key = (op, avals, tuple(params.items()))

        def make() -> Program:
            return Program(one_op_graph(op, avals, params), op.name)

        # The program of an op that holds a graph lives as long as that graph.
        graph = next(subgraphs(params), None)
        outs = (self._remembered(key, make) if graph is None else graph.cached(key, make))(args)
        return tuple(outs) if op.multiple else outs[0]

    def _remembered(self, key: Any, make: Callable[[], Program]) -> Program:
        program = self._programs.get(key)
        if program is None:
            program = self._programs[key] = make()
            if len(self._programs) > EAGER_PROGRAMS:
                self._programs.popitem(last=False)
        return program


interpreter.set_backend(XLABackend())
