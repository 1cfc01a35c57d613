"""`jit`: trace once per signature, compile, and run the compiled program ever after.

The signature of a call is the structure of its arguments, the shape and dtype of every leaf, the
structure of every module among them, static values, and the settings a trace depends on. Whether an
argument is weakly typed belongs to it only if the trace made a difference of it (`WeakIf`). State
cells in the arguments, and those the function reads from its surroundings, are inputs of the
program; those it writes are extra results, written back after the run.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
import types
from collections.abc import Callable, Sequence
from typing import Any

from bevel.api import buckets, constants, donation, retracing
from bevel.api.calls import (
    STALE,
    Bound,
    Call,
    Direct,
    StateChanged,
    read,
    run_program,
)
from bevel.api.flat import (
    check_arguments,
    container_flatten,
    is_single,
    name_of,
    place_of,
    struct_of,
)
from bevel.api.flow.calls import after_conversion, converted
from bevel.api.leaks import report_leaks
from bevel.api.lowered import Lowered
from bevel.api.outside import Outside, outside_of
from bevel.api.traced import Traced
from bevel.control.call import call
from bevel.core import config, forks, tree
from bevel.core.errors import (
    TracerBoolConversionError,
    TracerConversionError,
    TracerIntegerConversionError,
    unanswered,
)
from bevel.core.graph import Graph
from bevel.core.interpreter import EAGER, Tracer, state
from bevel.core.tracebacks import shorten
from bevel.random.keys import Consumed, consume
from bevel.transforms.compile import Program, common_device
from bevel.transforms.vmap import named_axes

_lock = threading.RLock()
"""Held while what jitted functions remember changes; not while they are traced or run."""

forks.renew(globals(), _lock=threading.RLock)


class Jitted:
    """A function that runs as a compiled program; made by `jit`."""

    def __init__(self, fun: Callable[..., Any], options: dict[str, Any]):
        functools.update_wrapper(self, fun)
        self.fun = fun
        self.name = name_of(fun)
        self.what = f"jit of {self.name}"
        self.place = place_of(fun)
        self.keep_unused = options["keep_unused"]
        self.inline = options["inline"]
        self.compiler_options = options["compiler_options"]
        names = parameter_names(fun)
        self.static_names = to_names(options["static_argnames"], options["static_argnums"], names)
        self.static_nums = to_numbers(options["static_argnums"], options["static_argnames"], names)
        self.donate_nums = to_numbers(options["donate_argnums"], options["donate_argnames"], names)
        self.donate_names = to_names(options["donate_argnames"], options["donate_argnums"], names)
        check_arguments(
            fun,
            static_argnums=options["static_argnums"],
            static_argnames=options["static_argnames"],
            donate_argnums=options["donate_argnums"],
            donate_argnames=options["donate_argnames"],
        )
        both = set(self.static_nums) & set(self.donate_nums)
        if both:
            raise ValueError(
                f"jit: arguments {sorted(both)} are both static and donated; a static value has "
                "no buffer"
            )
        self.max_traces = options["max_traces"]
        self.buckets = options["batch_buckets"]
        if self.buckets is not None and (self.donate_nums or self.donate_names):
            raise ValueError(
                "jit: batch_buckets pads the arguments, so it would take a copy's memory for some "
                "batches and the argument's own for others.\n"
                "Write instead: donate_argnums or batch_buckets, not both."
            )
        self._mapping = None if self.buckets is None else buckets.check(fun, self.buckets)
        self._seen: list[retracing.Parts] = []
        self._traceable = fun  # with Python's control flow converted, once a trace needed that
        self._static = bool(self.static_nums or self.static_names)
        self._traces: dict[Any, list[Traced]] = {}
        self._outside: Outside | bool | None = None  # None: not looked yet, False: nothing there
        self._direct: dict[tuple, Direct | Bound | donation.Donating] = {}

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program for these arguments, which is traced and compiled at its first call."""
        if self._mapping is None:
            return self._call(args, kwargs)
        padded = buckets.Padding(self._mapping, self.buckets, args, kwargs)
        return padded.cut(self._call(padded.args, padded.kwargs))

    def _call(self, args: tuple, kwargs: dict[str, Any]) -> Any:
        found = None
        if self._outside and self._outside.changed():
            self._direct.clear()
        if state.current is EAGER and not self._static:
            found = None if kwargs else read(args, None)
            if found is None:
                plain = container_flatten((args, kwargs))
                found = None if plain is None else read(*plain)
            if found is not None:
                direct = self._direct.get(found[2])
                if direct is not None:
                    result = direct.run(found[0], found[1], found[3])
                    if result is not STALE:
                        return result
        if config.get("disable_jit"):
            return self.fun(*args, **kwargs)
        try:
            arguments, traced = self._prepare(args, kwargs)
            if state.current is not EAGER:
                return self._staged(traced, arguments)
            while (result := self._run(traced, arguments, found)) is STALE:
                arguments, traced = self._prepare(args, kwargs)  # a thread has changed state
            return result
        except Exception as e:
            if config.get("traceback_filtering"):
                shorten(e)
            raise

    def _staged(self, traced: Traced, arguments: Call) -> Any:
        """Call as an op of the current interpreter."""
        values = call(
            *traced.consts,
            *[h._v for h in traced.inputs(arguments)],
            graph=traced.graph,
            name=self.name,
        )
        for i in traced.consumed:
            consume(self.name, arguments.handles[i])
        return traced.finish(values, arguments)

    def _run(self, traced: Traced, arguments: Call, found: tuple | None) -> Any:
        """Run now, and keep what the next call with this signature can use."""
        key, owners = (None, ()) if found is None else found[2:]
        constants.warn_of_large(self.fun, self.what, traced, arguments.handles)
        if owners or traced.stateful(arguments):
            direct = self._direct
            try:
                bound = Bound(traced, arguments, owners, lambda _: direct.pop(key, None))
            except StateChanged:
                return STALE
            taking = donation.taking(bound, self.what, traced.given)
            result = taking.run(arguments.handles, None, owners)
            if key is not None and result is not STALE:
                direct[key] = taking
            return result
        donation.check(self.what, traced.given, arguments.handles)
        values = run_program(traced.program, traced.consts, arguments.handles)
        if key is not None:
            device = common_device([h._v for h in arguments.handles] + traced.consts)
            ready = Direct(traced, traced.output_for(arguments), device)
            self._direct[key] = donation.taking(ready, self.what, traced.given)
        for i in traced.consumed:
            consume(self.name, arguments.handles[i])
        donation.take(self.what, traced.given, arguments.handles)
        return traced.finish(values, arguments)

    def program(self, graph: Graph, donated: Sequence[int]) -> Program:
        """A program of a graph, with this function's name and options."""
        return Program(graph, self.name, donated, self.keep_unused, self.compiler_options)

    def _split_static(self, args: tuple, kwargs: dict[str, Any]):
        static_nums = {i % len(args) for i in self.static_nums if -len(args) <= i < len(args)}
        static = tuple([(i, args[i]) for i in sorted(static_nums)])
        static_kw = tuple([(k, v) for k, v in sorted(kwargs.items()) if k in self.static_names])
        for where, value in (*static, *static_kw):
            try:
                hash(value)
            except TypeError:
                raise TypeError(
                    f"{self.what}: static argument {where!r} is of type {type(value).__name__}, "
                    "which is not hashable.\n"
                    "Why: programs are kept by the values of their static arguments.\n"
                    "Write instead: a tuple for a list, a frozen dataclass for an object, or do "
                    "not mark it static."
                ) from None
        dynamic = tuple([a for i, a in enumerate(args) if i not in static_nums])
        dynamic_kw = {k: v for k, v in kwargs.items() if k not in self.static_names}
        return static, static_kw, dynamic, dynamic_kw

    def _prepare(self, args: tuple, kwargs: dict[str, Any]) -> tuple[Call, Traced]:
        """The call, flattened, and the trace for it."""
        while True:
            with contextlib.suppress(StateChanged):
                return self._prepare_once(args, kwargs)

    def _prepare_once(self, args: tuple, kwargs: dict[str, Any]) -> tuple[Call, Traced]:
        static: tuple = ()
        static_kw: tuple = ()
        if self.static_nums or self.static_names:
            static, static_kw, args, kwargs = self._split_static(args, kwargs)
        arguments = Call(self.what, args, kwargs)
        if self._outside is None or (self._outside and self._outside.changed()):
            self._outside = outside_of(self.fun)
        around = self._outside.read() if self._outside else {}
        variables = tuple(around.items())
        key = (arguments.key, static, static_kw, config.trace_key(), named_axes(), variables)
        found = self._known(key, arguments)
        if found is not None:
            return arguments, found

        statics = (*static, *static_kw)
        new = retracing.parts_of(self.fun, args, kwargs, arguments.leaves, statics, key[3:5])
        new |= {f"{name} around it": ("outside", x) for name, x in around.items()}

        def rebuild(args, kwargs):
            args = list(args)
            for i, value in static:
                args.insert(i, value)
            return self._traceable(*args, **kwargs, **dict(static_kw))

        names = [n for n, (kind, _) in new.items() if kind == "array"]
        traced = self._trace(arguments, rebuild, names)
        traced.fits(arguments)  # a trace around this one makes the differences this one made
        if state.current is EAGER:
            report_leaks(traced.builder, traced.graph, self.what)
        if not any(isinstance(c, Tracer) for c in traced.consts):
            with _lock:
                found = self._known(key, arguments)  # made by another thread meanwhile
                if found is not None:
                    return arguments, found
                warns = self._mapping is None
                retracing.note(self.what, self._seen, new, self.max_traces, warns)
                if len(self._seen) == 1 and state.current is EAGER:
                    retracing.note_new(self.what, self.fun, arguments.key)
                self._traces.setdefault(key, []).append(traced)
        return arguments, traced

    def _known(self, key: Any, arguments: Call) -> Traced | None:
        for traced in self._traces.get(key, ()):
            if traced.fits(arguments):
                return traced
        return None

    def _trace(self, arguments: Call, rebuild: Callable[..., Any], names: Sequence[str]) -> Traced:
        """Trace, and once more with Python's control flow converted if it asked traced values
        something (also where an `except` of the user's has taken the error).
        """
        asked, before = unanswered.count, self._traceable
        error = traced = None
        try:
            with Consumed() as consumed:
                traced = Traced(self, self.what, arguments, rebuild, names)
        except (TracerBoolConversionError, TracerIntegerConversionError) as e:
            error = e
        except ValueError as e:  # of NumPy, which was given a traced value to store
            if isinstance(e.__cause__, TracerConversionError):
                raise e.__cause__ from None
            raise
        if error is not None or unanswered.count != asked:
            unanswered.count = asked
            with _lock:  # or another thread has converted it meanwhile
                if self._traceable is before:
                    self._traceable = converted(before, error)
            if self._traceable is not before:
                traced = after_conversion(
                    lambda: Traced(self, self.what, arguments, rebuild, names)
                )
                unanswered.count = asked
                return traced
        consumed.keep()
        return traced

    def donated_leaves(self, arguments: Call) -> dict[int, str]:
        """Which handles of a call are donated, and what they are called."""
        donated = (self.donate_nums, self.donate_names)
        leaves, treedef = arguments.leaves, arguments.treedef
        return donation.donated_leaves(self.fun, leaves, treedef, self.static_nums, *donated)

    def lower(self, *args: Any, **kwargs: Any) -> Lowered:
        """Trace for these arguments and write StableHLO, without compiling or running."""
        arguments, traced = self._prepare(args, kwargs)
        stateful = traced.stateful(arguments)
        program = Bound(traced, arguments).program if stateful else traced.program
        return Lowered(self, traced, program)

    def eval_shape(self, *args: Any, **kwargs: Any) -> Any:
        """Shapes and dtypes of the result, as `bv.eval_shape`."""
        _, traced = self._prepare(args, kwargs)
        avals = traced.graph.out_avals[: len(traced.output.tags)]
        structs = map(struct_of, avals, traced.output.tags)
        return tree.unflatten(traced.output.treedef, list(structs))

    def clear_cache(self) -> None:
        """Forget all traces and programs."""
        self._traces.clear()
        self._direct.clear()
        self._seen.clear()

    def _cache_size(self) -> int:
        return sum(map(len, self._traces.values()))


def parameter_names(fun: Callable[..., Any]) -> list[str]:
    """Names of the positional parameters, as far as they can be known."""
    try:
        parameters = inspect.signature(fun).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def _as_tuple(x: Any) -> tuple:
    if x is None:
        return ()
    return (x,) if isinstance(x, str) or is_single(x) else tuple(x)


def to_numbers(numbers: Any, names: Any, parameters: list[str]) -> tuple[int, ...]:
    """Positions given as numbers, or found from names when only those are given."""
    if numbers is not None:
        return _as_tuple(numbers)
    return tuple(parameters.index(n) for n in _as_tuple(names) if n in parameters)


def to_names(names: Any, numbers: Any, parameters: list[str]) -> tuple[str, ...]:
    """Names given as such, or found from positions when only those are given."""
    if names is not None:
        return _as_tuple(names)
    return tuple(
        parameters[i] for i in _as_tuple(numbers) if -len(parameters) <= i < len(parameters)
    )


def jit(
    fun: Callable[..., Any] | None = None,
    *,
    static_argnums: int | Sequence[int] | None = None,
    static_argnames: str | Sequence[str] | None = None,
    donate_argnums: int | Sequence[int] | None = None,
    donate_argnames: str | Sequence[str] | None = None,
    keep_unused: bool = False,
    inline: bool = False,
    compiler_options: dict[str, Any] | None = None,
    max_traces: int | None = None,
    batch_buckets: buckets.Buckets | None = None,
) -> Any:
    """Compile a function with XLA, once per signature of its arguments.

    The function runs in Python once to be traced; after that only the compiled program runs, so it
    must not depend on anything but its arguments, closed-over arrays and state cells.

    Args:
        fun: takes and returns pytrees of arrays; modules and state cells may be arguments or
            closed over,
            and what it writes into them is written after the run.
        static_argnums: positions of arguments that are Python values; a new value, a new trace.
        static_argnames: names of such arguments.
        donate_argnums: positions of arguments whose memory the results may take; they are gone
            afterwards.
        donate_argnames: names of such arguments.
        keep_unused: keep arguments the program does not use.
        inline: inside other transforms, run the function's ops one by one instead of as one call.
        compiler_options: XLA debug options by name.
        max_traces: raise instead of tracing more often than this. Without it, a function that is
            traced again and again is warned about, with the cause.
        batch_buckets: for a function that `vmap` made: pad the rows to a power of two ("pow2") or
            to one of these sizes, and cut the results, so that batches of any size need few
            programs.

    Raises:
        errors.RetraceError: more than `max_traces` traces; the message says what is new.
        TypeError: an argument is no array and not marked static; the message names it.
        errors.TracerConversionError: the function asks a traced value for its contents.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> f = bv.jit(lambda x: bnp.tanh(x) * 2)
    >>> f(bnp.zeros(2))
    Array([0., 0.], dtype=float32)
    """
    options = dict(
        static_argnums=static_argnums,
        static_argnames=static_argnames,
        donate_argnums=donate_argnums,
        donate_argnames=donate_argnames,
        keep_unused=keep_unused,
        inline=inline,
        compiler_options=compiler_options,
        max_traces=max_traces,
        batch_buckets=batch_buckets,
    )
    if fun is None:
        return lambda f: jit(f, **options)
    if not callable(fun):
        raise TypeError(
            f"jit: expected a function, got {type(fun).__name__}.\n"
            "Write instead: bv.jit(f), not bv.jit(f(x))."
        )
    if not isinstance(fun, types.FunctionType):
        return Jitted(fun, options)
    # The same function with the same options shares its traces and programs.
    made = fun.__dict__.setdefault("__bevel_jitted__", {})
    key = repr(options)
    if key not in made or made[key].fun is not fun:  # another's, copied by functools.wraps
        made[key] = Jitted(fun, options)
    return made[key]
