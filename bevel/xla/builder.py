"""Writes StableHLO text, one operation a line.

A lowering rule receives a `Builder` and `Val`s and returns `Val`s; it never sees text. A `Module`
is one program: it holds the private functions, which are written once however often they are
called, and the Python functions that the program calls back. A `Builder` writes one body: a
function's, or a region's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bevel.core.aval import Aval
from bevel.core.source import replay
from bevel.xla import types
from bevel.xla.attributes import COMPLEX_OF, REAL_OF, region_text
from bevel.xla.structured import Structured

TOKEN = Aval((), None)
"""What host callbacks hand on, so that they run in program order."""

_types: dict[tuple, str] = {(TOKEN.shape, TOKEN.dtype): "!stablehlo.token"}
_BOOL = np.dtype(bool)


def type_of(aval: Aval) -> str:
    """Return the MLIR tensor type of an abstract value, remembered per shape and dtype."""
    key = (aval.shape, aval.dtype)
    text = _types.get(key)
    if text is None:
        text = _types[key] = types.tensor(*key)
    return text


class Val:
    """A value inside a program: its SSA name, its abstract value and its MLIR type."""

    __slots__ = ("name", "aval", "type")

    def __init__(self, name: str, aval: Aval):
        self.name = name
        self.aval = aval
        self.type = type_of(aval)

    def __repr__(self):
        return f"Val({self.name}: {self.type})"


class Module:
    """One program while it is written.

    `host_callbacks` are the Python functions it calls, in the order of their indices; `effectful`
    names the private functions that take a token and return one, because they hold ordered
    callbacks. `wants_cut`, if given, tells which equations of a graph become calls that XLA must
    not inline (see `lower.py`). `numbers` are the scalar constants by their names.
    """

    def __init__(self, platform: str = "cpu", wants_cut: Callable[[Any], set[int]] | None = None):
        self.platform = platform
        self.wants_cut = wants_cut
        self.functions: list[str] = []
        self.host_callbacks: list[Callable] = []
        self.effectful: set[str] = set()
        self.numbers: dict[str, np.ndarray] = {}
        self.spans: list[tuple[int, int, str, Any]] = []
        """For each equation, after which and up to which number its SSA names go, its op and
        source.
        """
        self._names: dict[Any, str] = {}
        self.last = 0

    def fresh(self) -> str:
        """Return an SSA name that nothing in the module has."""
        self.last += 1
        return f"%{self.last}"

    def define(self, key, prefix: str, write: Callable[[str], str]) -> str:
        """Return the name of the function known as `key`, which ``write(name)`` writes at first."""
        name = self._names.get(key)
        if name is None:
            name = self._names[key] = f"{prefix}_{len(self._names)}"
            self.functions.append(write(name))
        return name

    def text(self, name: str, main: str, attributes: str = "") -> str:
        """Return the whole module, with `main` as the text of its public function."""
        attributes = f" attributes {{{attributes}}}" if attributes else ""
        return "\n".join([f"module @{name}{attributes} {{", main, *self.functions, "}", ""])


def _unary(name: str):
    def method(self, x: Val) -> Val:
        return self.op(name, x, out=x.aval)

    return method


def _binary(name: str):
    def method(self, x: Val, y: Val) -> Val:
        return self.op(name, x, y, out=x.aval)

    return method


class Builder(Structured):
    """Writes one body: of ``@main``, of a private function, or of an operation's region.

    `outs` are the abstract values that the op being lowered must give and `out` is the first of
    them; the driver sets them before each rule runs.
    """

    __slots__ = ("module", "platform", "lines", "outs", "token", "_constants")

    def __init__(self, module: Module, outs: Sequence[Aval] = ()):
        self.module = module
        self.platform = module.platform
        self.lines: list[str] = []
        self.outs = outs
        self.token: Val | None = None  # what the last ordered callback of this body gave
        self._constants: dict[tuple, Val] = {}

    @property
    def out(self) -> Aval:
        """The abstract value of the (first) result of the op being lowered."""
        return self.outs[0]

    # -- the one way to write an operation

    def op(
        self,
        name: str,
        *operands: Val,
        attrs: str = "",
        regions: Sequence[str] = (),
        out: Aval | Sequence[Aval] | None = None,
    ):
        """Write an operation and return its result: a `Val`, or a tuple if `out` is a sequence.

        A `name` without a dot is in the ``stablehlo`` dialect. `attrs` is MLIR attribute text
        without braces; `regions` come from `region`. `out` defaults to `self.out`.
        """
        if "." not in name:
            name = f"stablehlo.{name}"
        if out is None:
            out = self.outs[0]
        single = isinstance(out, Aval)
        module = self.module
        result = module.fresh()
        args = ", ".join([v.name for v in operands])
        ins = ", ".join([v.type for v in operands])
        body = f" ({', '.join(regions)})" if regions else ""
        attrs = f" {{{attrs}}}" if attrs else ""
        if single:
            value = Val(result, out)
            self.lines.append(f'{result} = "{name}"({args}){body}{attrs} : ({ins}) -> {value.type}')
            return value
        return self._write_multi(result, f'"{name}"({args}){body}{attrs} : ({ins})', out)

    def _write_multi(self, result: str, text: str, outs: Sequence[Aval]) -> tuple[Val, ...]:
        if not outs:
            self.lines.append(f"{text} -> ()")
            return ()
        if len(outs) == 1:
            values = (Val(result, outs[0]),)
            self.lines.append(f"{result} = {text} -> {values[0].type}")
            return values
        values = tuple([Val(f"{result}#{i}", aval) for i, aval in enumerate(outs)])
        self.lines.append(
            f"{result}:{len(outs)} = {text} -> ({', '.join([v.type for v in values])})"
        )
        return values

    def region(self, in_avals: Sequence[Aval], fn: Callable) -> str:
        """Write ``fn(builder, *arguments)``, which gives one `Val` or several, as a region."""
        return region_text(*self.body(in_avals, fn))

    def body(self, in_avals: Sequence[Aval], fn: Callable, token: Val | None = None) -> tuple:
        """Run `fn` on a new builder and new arguments; return builder, arguments and results."""
        inner = Builder(self.module, self.outs)
        inner.token = token
        args = [Val(self.module.fresh(), aval) for aval in in_avals]
        return inner, args, as_tuple(fn(inner, *args))

    def ordered(self) -> Val:
        """Return the token to hand to the next ordered callback."""
        return self.token or self.create_token(self.placeholder())

    def placeholder(self) -> Val:
        """Return a token that is not written yet."""
        return Val(self.module.fresh(), TOKEN)

    def create_token(self, token: Val) -> Val:
        """Write the creation of a placeholder token and make it this body's token."""
        self.lines.append(f'{token.name} = "stablehlo.create_token"() : () -> {token.type}')
        self.token = token
        return token

    # -- elementwise

    abs = _unary("abs")
    cbrt = _unary("cbrt")
    ceil = _unary("ceil")
    cosine = _unary("cosine")
    count_leading_zeros = _unary("count_leading_zeros")
    exponential = _unary("exponential")
    exponential_minus_one = _unary("exponential_minus_one")
    floor = _unary("floor")
    log = _unary("log")
    log_plus_one = _unary("log_plus_one")
    logistic = _unary("logistic")
    negate = _unary("negate")
    not_ = _unary("not")
    popcnt = _unary("popcnt")
    round_nearest_afz = _unary("round_nearest_afz")
    round_nearest_even = _unary("round_nearest_even")
    rsqrt = _unary("rsqrt")
    sign = _unary("sign")
    sine = _unary("sine")
    sqrt = _unary("sqrt")
    tan = _unary("tan")
    tanh = _unary("tanh")

    add = _binary("add")
    and_ = _binary("and")
    atan2 = _binary("atan2")
    divide = _binary("divide")
    maximum = _binary("maximum")
    minimum = _binary("minimum")
    multiply = _binary("multiply")
    or_ = _binary("or")
    power = _binary("power")
    remainder = _binary("remainder")
    shift_left = _binary("shift_left")
    shift_right_arithmetic = _binary("shift_right_arithmetic")
    shift_right_logical = _binary("shift_right_logical")
    subtract = _binary("subtract")
    xor = _binary("xor")

    acos = _unary("chlo.acos")
    acosh = _unary("chlo.acosh")
    asin = _unary("chlo.asin")
    asinh = _unary("chlo.asinh")
    atan = _unary("chlo.atan")
    atanh = _unary("chlo.atanh")
    bessel_i1e = _unary("chlo.bessel_i1e")
    cosh = _unary("chlo.cosh")
    digamma = _unary("chlo.digamma")
    erf = _unary("chlo.erf")
    erf_inv = _unary("chlo.erf_inv")
    erfc = _unary("chlo.erfc")
    lgamma = _unary("chlo.lgamma")
    next_after = _binary("chlo.next_after")
    polygamma = _binary("chlo.polygamma")
    sinh = _unary("chlo.sinh")
    square = _unary("chlo.square")
    zeta = _binary("chlo.zeta")

    def real(self, x: Val) -> Val:
        """Return the real part of a complex value (a real one is its own)."""
        part = REAL_OF.get(x.aval.dtype)
        return x if part is None else self.op("real", x, out=x.aval.replace(dtype=part))

    def imag(self, x: Val) -> Val:
        """Return the imaginary part of a complex value (a real one's is zero)."""
        part = REAL_OF.get(x.aval.dtype)
        return (
            self.full(0, x.aval)
            if part is None
            else self.op("imag", x, out=x.aval.replace(dtype=part))
        )

    def complex(self, x: Val, y: Val) -> Val:
        """Return ``x + iy`` of two float32 or float64 values."""
        return self.op("complex", x, y, out=x.aval.replace(dtype=COMPLEX_OF[x.aval.dtype]))

    def complex_abs(self, x: Val) -> Val:
        """Return the magnitude of a complex value, as a real one."""
        return self.op("abs", x, out=x.aval.replace(dtype=REAL_OF[x.aval.dtype]))

    def is_finite(self, x: Val) -> Val:
        """Return whether each float is neither NaN nor infinite."""
        return self.op("is_finite", x, out=x.aval.replace(dtype=_BOOL))

    def reduce_precision(self, x: Val, exponent_bits: int, mantissa_bits: int) -> Val:
        """Round each float to a format with fewer bits, keeping its dtype."""
        attrs = f"exponent_bits = {exponent_bits} : i32, mantissa_bits = {mantissa_bits} : i32"
        return self.op("reduce_precision", x, attrs=attrs, out=x.aval)

    def clamp(self, low: Val, x: Val, high: Val) -> Val:
        """Return ``min(max(x, low), high)``; the bounds have the shape of `x`, or none."""
        return self.op("clamp", low, x, high, out=x.aval)

    def select(self, pred: Val, x: Val, y: Val) -> Val:
        """Return `x` where `pred` and `y` elsewhere; `pred` has their shape, or none."""
        return self.op("select", pred, x, y, out=x.aval)

    def compare(self, x: Val, y: Val, direction: str, total: bool = False) -> Val:
        """Compare elementwise; `direction` is one of EQ, NE, LT, LE, GT, GE.

        `total` orders floats as ``-NaN < -inf < ... < -0 < 0 < ... < inf < NaN``.
        """
        what = types.kind(x.aval.dtype)
        how = {"i1": "UNSIGNED", "ui": "UNSIGNED", "i": "SIGNED"}.get(
            what, "TOTALORDER" if total else "FLOAT"
        )
        attrs = (
            f"comparison_direction = #stablehlo<comparison_direction {direction}>, "
            f"compare_type = #stablehlo<comparison_type {how}>"
        )
        return self.op("compare", x, y, attrs=attrs, out=x.aval.replace(dtype=_BOOL))

    # -- constants, dtypes, barriers

    def constant(self, value, dtype=None) -> Val:
        """Write an array (or number, with its `dtype`) as a constant, once in this body."""
        array = np.asarray(value, dtype)
        key = (array.dtype, array.shape, array.tobytes())
        known = self._constants.get(key)
        if known is None:
            known = self._constants[key] = self._constant(array)
        return known

    def _constant(self, array: np.ndarray) -> Val:
        stored = types.storage_dtype(array.dtype) if array.size > 1 else None
        if stored is not None:
            return self.convert(self._constant(array.astype(stored)), array.dtype)
        value = Val(self.module.fresh(), Aval(array.shape, array.dtype))
        self.lines.append(f"{value.name} = stablehlo.constant {types.dense(array)} : {value.type}")
        if not array.shape:
            self.module.numbers[value.name] = array
        return value

    def known(self, x: Val) -> np.ndarray | None:
        """Return the number of a scalar that was written as a constant, None of any other value."""
        return self.module.numbers.get(x.name)

    def full(self, value, aval: Aval) -> Val:
        """Return one number, repeated to the shape and dtype of `aval`."""
        number = self.constant(np.asarray(value).astype(aval.dtype))
        return self.broadcast_in_dim(number, aval.shape, ()) if aval.shape else number

    def convert(self, x: Val, dtype) -> Val:
        """Convert to a dtype with XLA's rules (a no-op if it has it already)."""
        return (
            x
            if x.aval.dtype == dtype
            else self.op("convert", x, out=x.aval.replace(dtype=np.dtype(dtype)))
        )

    def bitcast(self, x: Val, out: Aval) -> Val:
        """Reinterpret the bits of `x` as `out`; a new width adds or drops a last dimension."""
        return self.op("bitcast_convert", x, out=out)

    def optimization_barrier(self, xs: Sequence[Val]) -> tuple[Val, ...]:
        """Return `xs`, across which XLA moves and fuses nothing."""
        return self.op("optimization_barrier", *xs, out=[x.aval for x in xs])

    # -- functions and calls

    def function(
        self,
        key,
        in_avals: Sequence[Aval],
        out_avals: Sequence[Aval],
        body_fn: Callable,
        prefix: str = "fn",
    ) -> str:
        """Return the name of a private function; one `key` is written once in the module.

        ``body_fn(builder, *arguments)`` returns a `Val` or a tuple of them.
        """

        def write(name: str) -> str:
            return function_text(self.module, name, in_avals, out_avals, body_fn)

        return self.module.define(key, prefix, write)

    def call(
        self, name: str, args: Sequence[Val], out_avals: Sequence[Aval], inlineable: bool = True
    ) -> tuple[Val, ...]:
        """Call a private function; XLA keeps one that is not `inlineable`, as it is."""
        effectful = name in self.module.effectful
        if effectful:
            args, out_avals = [*args, self.ordered()], [*out_avals, TOKEN]
        attrs = "" if inlineable else ' {mhlo.frontend_attributes = {inlineable = "false"}}'
        operands, ins = ", ".join([a.name for a in args]), ", ".join([a.type for a in args])
        text = f"func.call @{name}({operands}){attrs} : ({ins})"
        results = self._write_multi(self.module.fresh(), text, out_avals)
        if effectful:
            *results, self.token = results
        return tuple(results)

    def lower(self, graph, args: Sequence[Val]) -> list[Val]:
        """Write a graph's equations into this body and return the values of its outputs."""
        wants_cut = self.module.wants_cut
        cuts = wants_cut(graph) if wants_cut is not None else ()
        env = dict(zip(graph.inputs, args, strict=True))
        outer = self.outs

        def read(atom) -> Val:
            known = env.get(atom)
            return self._literal(atom) if known is None else known

        with (block := replay()) as written:  # what a rule traces has the line of its equation
            for eqn in graph.eqns:
                source = written.replayed = eqn.source or block.saved
                operands = [read(a) for a in eqn.inputs]
                self.outs = outs = [v.aval for v in eqn.outputs]
                first, number = len(self.lines), self.module.last
                if id(eqn) in cuts:
                    results = self._lower_cut(eqn, operands, outs)
                else:
                    results = as_tuple(eqn.op.lower(self, *operands, **eqn.params))
                if [r.aval for r in results] != outs:
                    raise TypeError(
                        f"the lowering rule of {eqn.op.name} wrote {results}, but its shape rule "
                        f"says {outs}"
                    )
                if source is not None:
                    self.module.spans.append((number, self.module.last, eqn.op.name, source))
                if source is not None and source.scope:
                    place = f" loc({json.dumps(f'{source.scope}/{eqn.op.name}')})"
                    self.lines[first:] = [line + place for line in self.lines[first:]]
                env.update(zip(eqn.outputs, results, strict=True))
        self.outs = outer
        return [read(a) for a in graph.outputs]

    def _literal(self, atom) -> Val:
        value = self.constant(np.asarray(atom.value, atom.aval.dtype))
        return (
            self.broadcast_in_dim(value, atom.aval.shape, ())
            if value.aval.shape != atom.aval.shape
            else value
        )

    def _lower_cut(self, eqn, operands: list[Val], outs: list[Aval]) -> tuple[Val, ...]:
        avals = [v.aval for v in operands]
        key = ("cut", eqn.op.name, tuple(avals), repr(eqn.params))

        def body(b, *vals):
            b.outs = outs
            return eqn.op.lower(b, *vals, **eqn.params)

        name = self.function(key, avals, outs, body, prefix="cut")
        return self.call(name, operands, outs, inlineable=False)


def as_tuple(results) -> tuple[Val, ...]:
    """Return what a rule returned (a `Val`, or a sequence of them) as a tuple."""
    return (results,) if type(results) is Val else tuple(results)


def function_text(
    module: Module,
    name: str,
    in_avals: Sequence[Aval],
    out_avals: Sequence[Aval],
    body_fn: Callable,
    public: bool = False,
    arg_attrs: Sequence[str] = (),
) -> str:
    """Return the text of a function whose body ``body_fn(builder, *arguments)`` writes.

    A private one with ordered callbacks takes a token and returns one besides.
    """
    b = Builder(module, out_avals)
    args = [Val(f"%arg{i}", aval) for i, aval in enumerate(in_avals)]
    token = None if public else Val("%token", TOKEN)
    b.token = token
    results = as_tuple(body_fn(b, *args))
    if [r.aval for r in results] != list(out_avals):
        raise TypeError(f"the body of @{name} gave {results}, but {list(out_avals)} was declared")
    if not public and b.token is not token:
        module.effectful.add(name)
        args, results = [*args, token], (*results, b.token)
    params = ", ".join(
        [f"{a.name}: {a.type}{arg_attrs[i] if arg_attrs else ''}" for i, a in enumerate(args)]
    )
    names, types_ = ", ".join([r.name for r in results]), ", ".join([r.type for r in results])
    end = f"return {names} : {types_}" if results else "return"
    header = f"func.func {'public' if public else 'private'} @{name}({params}) -> ({types_}) {{"
    return "\n".join([header, *b.lines, end, "}"])
