"""What concerns the program rather than its numbers: code chosen by platform, named parts,
values that must stay computed, and tokens.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from bevel.api.body import Body
from bevel.api.flat import described, flatten_handles, rewrap
from bevel.control.composite import composite as composite_op
from bevel.core import tree
from bevel.core.handle import wrap
from bevel.core.interpreter import is_concrete, to_numpy
from bevel.lax.branches import choose
from bevel.lax.shapes import optimization_barrier
from bevel.numpy.convert import enter
from bevel.ops import dce_sink as sink_op
from bevel.ops import effect_callback, platform_index
from bevel.ops import name as name_op

_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def platform_dependent(
    *args: Any, default: Callable[..., Any] | None = None, **per_platform: Callable[..., Any]
) -> Any:
    """`per_platform[platform](*args)` on the platform that runs the program, `default` elsewhere.

    All functions are traced and must return the same types, but only the one that fits becomes
    part of a program. Names are "cpu", "cuda", "rocm" and "tpu".

    Raises:
        Unsupported: no branch fits the platform, when the program is made for it.

    >>> float(lax.platform_dependent(3.0, cpu=lambda x: x + 1, default=lambda x: x - 1))
    4.0
    """
    for name in per_platform:
        if name not in _PLATFORMS:
            raise ValueError(
                f"platform_dependent: {name!r} is no platform; they are {', '.join(_PLATFORMS)}"
            )
    names: dict[Any, tuple[str, ...]] = {}
    for name, f in per_platform.items():
        names[f] = (*names.get(f, ()), name)
    if default is not None:
        names.pop(default, None)
        names[default] = ()
    if not names:
        raise TypeError("platform_dependent: give at least one function, such as cpu=f or default")
    for f in names:
        described("platform_dependent", f)
    functions = list(names)
    index = platform_index(platforms=tuple(names.values()))
    if is_concrete(index):
        return functions[int(to_numpy(index))](*args)
    return choose("platform_dependent", index, functions, args)


def composite(decomposition: Callable[..., Any], name: str, version: int = 0) -> Callable[..., Any]:
    """A function that programs hold under a `name` and `version`, for compilers that know it.

    Others compile what `decomposition` does. Arrays are positional arguments; keyword arguments are
    attributes: bools, numbers, strings and tuples of them (None: left out). Derivatives and batches
    are those of the decomposition, without the name.

    >>> tangent = lax.composite(lambda x: lax.sin(x) / lax.cos(x), "my.tangent")
    >>> float(tangent(0.0))
    0.0
    """
    described("composite", decomposition)

    @functools.wraps(decomposition)
    def call(*args: Any, **attributes: Any) -> Any:
        for key, value in attributes.items():
            _check_attribute(name, key, value)
        handles, treedef = flatten_handles(args, f"composite {name}: an operand")

        def flat(*leaves: Any) -> Any:
            return decomposition(*tree.unflatten(treedef, leaves), **attributes)

        body = Body(f"composite {name}", flat, handles)
        body.refuse_writes()
        body.consume(handles)
        values = composite_op(
            *body.consts,
            *[h._v for h in handles],
            graph=body.graph,
            name=str(name),
            version=int(version),
            attributes=tuple([(k, v) for k, v in attributes.items() if v is not None]),
        )
        return tree.unflatten(body.output.treedef, rewrap(values, body.output.tags))

    return call


def _check_attribute(name: str, key: str, value: Any) -> None:
    whole = value if isinstance(value, tuple) else (value,)
    if not all(v is None or isinstance(v, bool | int | float | str) for v in whole):
        raise TypeError(
            f"composite {name}: attribute {key}={value!r} must be a bool, number, string or tuple "
            "of them.\nWhy: attributes are text in the program.\n"
            "Write instead: pass arrays by position."
        )


def dce_sink(val: Any, *, prevent_mlir_dce: bool = False) -> None:
    """Count as a use of every array of a tree, so that the graph keeps what computes them.

    With `prevent_mlir_dce` the compiler too must compute them: a callback takes them.

    >>> lax.dce_sink(bnp.ones(3))
    """
    handles, _ = flatten_handles(val, "dce_sink: an operand")
    for h in handles:
        sink_op(h._v)
        if prevent_mlir_dce:
            effect_callback(h._v, fn=_nothing, out_avals=(), vectorized="expand_dims")


def _nothing(*arrays: np.ndarray) -> tuple[()]:
    return ()


def stage(x: Any, /) -> Any:
    """A number, NumPy array or array as an array: where a function is traced, as a traced one.

    >>> lax.stage(1.0)
    Array(1., dtype=float32, weak_type=True)
    """
    h = enter(x)
    return wrap(name_op(h._v, name="stage"), h._tag)


def create_token(_: Any = None) -> Any:
    """A token: a value without meaning that `optimization_barrier` can order computations by.

    Callbacks need none: with `ordered=True` they run in the order in which they are written.

    >>> lax.create_token().shape
    ()
    """
    return wrap(np.zeros((), bool))


def after_all(*operands: Any) -> Any:
    """A token that exists once all the given tokens do.

    >>> lax.after_all(lax.create_token(), lax.create_token()).shape
    ()
    """
    for x in operands:
        h = enter(x)
        if h._v.shape != () or h._v.dtype != bool:
            raise TypeError(f"after_all: operands must be tokens, got an array of {h._v.dtype}")
    return optimization_barrier((create_token(), *operands))[0]
