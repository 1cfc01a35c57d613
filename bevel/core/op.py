"""The record of one primitive: all its rules are fields, and calling it runs the current
interpreter.

Rules work on *values* (NumPy arrays, device buffers, tracers), never on the user's `Array` handles.
Operands of a rule have exactly matching dtypes; promotion, weak types and broadcasting are done
above.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from bevel.core import watch
from bevel.core.errors import Unsupported as UnsupportedError
from bevel.core.interpreter import Undefined, state
from bevel.core.source import Source

watch.install()  # its settings hold from the first op on


class Unsupported:
    """A rule that does not exist, and why. Using it raises `errors.Unsupported`."""

    __slots__ = ("why",)

    def __init__(self, why: str):
        self.why = why

    def __repr__(self) -> str:
        return f"Unsupported({self.why!r})"


class _Marker:
    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return self.name


linear = _Marker("linear")
"""jvp rule of an op that is linear in all its operands together: apply it to the tangents."""

multilinear = _Marker("multilinear")
"""jvp rule of an op that is linear in each operand alone (mul, dot_general)."""

zero_tangent = _Marker("zero_tangent")
"""jvp rule of an op whose results carry no derivative (comparisons, integers, sign)."""


class Misuse(NamedTuple):
    """What can be wrong with the operands of an op, such as an index out of bounds.

    - `kind`: the class of the error.
    - `looks`: the operands it depends on.
    - `find(values, avals, params) -> (bad, facts)`: whether something is wrong, a bool scalar, and
      small values for the message, written with ops: it runs on numbers and in programs. None where
      nothing can be. `values` are the operands looked at, `avals` those of all.
    - `text(facts, avals, params) -> (what, fix)`: what is wrong, from the facts as NumPy arrays,
      and what to write instead.
    """

    kind: type[Exception]
    looks: slice
    find: Callable[[Sequence[Any], Sequence[Any], dict[str, Any]], tuple[Any, list[Any]] | None]
    text: Callable[[Sequence[Any], Sequence[Any], dict[str, Any]], tuple[str, str]]


def is_undefined(x: Any) -> bool:
    """Tell whether an operand of a transpose rule is the linear one."""
    return type(x) is Undefined


class Op:
    """One primitive.

    Fields (`x`: operands, `params`: keyword parameters, all hashable):

    - `abstract(*avals, **params)` -> Aval (a tuple of them if `multiple`). Raises
      TypeError/ValueError
      with shapes and the fix for operands that do not fit.
    - `reference(*ndarrays, **params)` -> ndarray (tuple if `multiple`): the meaning, and the eager
      path on CPU.
    - `lower(b, *vals, **params)` -> Val (tuple if `multiple`): StableHLO through the builder `b`;
      `b.out`/`b.outs` are the result avals.
    - `jvp`: `linear`, `multilinear`, `zero_tangent`, `Unsupported`, a tuple with one
      `rule(ctx, t, *x, **params) -> tangent` (or None: no derivative) per operand, or a general
      `rule(ctx, primals, tangents, **params) -> (outs, out_tangents)` where a None tangent is zero.
      In per-operand rules `ctx.out` is the primal result.
    - `transpose(ct, *x, **params)` -> cotangents, one per operand, None for those that are not
      `Undefined`
      (for an op with one operand: the cotangent itself). `ct` is a tuple with possible Nones if
      `multiple`.
    - `batch(size, x, batched, **params)` -> (out, batched_out): the batch axis is always axis 0 of
      a
      batched operand and of a batched result (tuples if `multiple`).
    - `partial(builder, args, unknown, params)` -> outs: partial evaluation of ops that hold graphs.
    - `dce(params, used)` -> (params, indices of operands kept, of results kept): drop unused
      results of
      ops that hold graphs, and the operands that only they need.
    - `collective(axis, x, batched, **params)`: the batch rule over the mapped axis that the op
      names
      (`params["axis_name"]`); `axis` is its size as an int, with its `name`.
    - `misuse`: a `Misuse`, what `bv.debug.checked` and `checkify` report of its operands.
    - `check(checks, args, params)` -> outs: an op that holds graphs, with what goes wrong in them
      found (`bevel/transforms/checking.py`).
    - `effect`: must run even if its results are unused.
    - `compile_above`: eagerly, operands larger than this run as a one-op XLA program (None: never).
    """

    __slots__ = (
        "abstract",
        "batch",
        "check",
        "collective",
        "compile_above",
        "dce",
        "effect",
        "jvp",
        "lower",
        "misuse",
        "multiple",
        "name",
        "partial",
        "reference",
        "transpose",
    )

    def __init__(
        self,
        name: str,
        *,
        abstract: Callable[..., Any],
        reference: Callable[..., Any] | Unsupported,
        lower: Callable[..., Any] | Unsupported,
        jvp: Any,
        transpose: Callable[..., Any] | Unsupported,
        batch: Callable[..., Any] | Unsupported,
        multiple: bool = False,
        effect: bool = False,
        partial: Callable[..., Any] | None = None,
        dce: Callable[..., Any] | None = None,
        compile_above: int | None = None,
        collective: Callable[..., Any] | None = None,
        misuse: Misuse | None = None,
        check: Callable[..., Sequence[Any]] | None = None,
    ):
        self.name = name
        self.abstract = abstract
        self.reference = reference
        self.lower = lower
        self.jvp = jvp
        self.transpose = transpose
        self.batch = batch
        self.multiple = multiple
        self.effect = effect
        self.partial = partial
        self.dce = dce
        self.compile_above = compile_above
        self.collective = collective
        self.misuse = misuse
        self.check = check

    def __call__(self, *args: Any, **params: Any) -> Any:
        return state.current.run(self, args, params)

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self):
        raise TypeError(
            f"op {self.name} is code, not data: it cannot be pickled; save arrays or export the "
            "program"
        )


def rule(op: Op, field: str, src: Source | None = None) -> Callable[..., Any]:
    """A rule of an op; raises `errors.Unsupported` with the reason, and the line if given, when
    there is none.
    """
    found = getattr(op, field)
    if isinstance(found, Unsupported):
        place = "" if src is None else f" (written at {src})"
        raise UnsupportedError(f"{op.name}{place} has no {field} rule: {found.why}")
    return found
