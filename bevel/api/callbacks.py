"""Calling ordinary Python from compiled programs: `pure_callback`, `io_callback`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bevel.api.flat import ShapeDtypeStruct, as_handle, described, name_of
from bevel.core import tree
from bevel.core.aval import Aval
from bevel.core.dtypes import default_dtype
from bevel.core.handle import wrap
from bevel.ops import callback as callback_op
from bevel.ops import effect_callback as effect_op
from bevel.ops.host import VECTORIZED


def _announced(result_shape_dtypes: Any, what: str) -> tuple[tuple[Aval, ...], Any]:
    leaves, treedef = tree.flatten(result_shape_dtypes)
    avals = []
    for leaf in leaves:
        if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
            raise TypeError(
                f"{what}: result_shape_dtypes must hold arrays or bv.ShapeDtypeStruct(shape, "
                "dtype), got "
                f"{type(leaf).__name__}.\nWhy: a compiled program must know the types of results "
                "before the call."
            )
        exact = isinstance(leaf, ShapeDtypeStruct)
        avals.append(
            Aval(tuple(leaf.shape), leaf.dtype if exact else default_dtype(np.dtype(leaf.dtype)))
        )
    return tuple(avals), treedef


def _flat_callback(
    fun: Callable[..., Any], in_tree: Any, out_tree: Any, kwargs: dict[str, Any], what: str
):
    def flat(*arrays: np.ndarray) -> tuple[Any, ...]:
        result = fun(*tree.unflatten(in_tree, arrays), **kwargs)
        leaves, structure = tree.flatten(result)
        if structure != out_tree:
            raise TypeError(
                f"{what}: the function returned the structure {structure}, but {out_tree} was "
                "announced"
            )
        return tuple([np.asarray(x) for x in leaves])

    flat.__name__ = flat.__qualname__ = name_of(fun)
    return flat


def _call(op, what, fun, result_shape_dtypes, args, kwargs, vectorized, ordered):
    avals, out_tree = _announced(result_shape_dtypes, what)
    leaves, in_tree = tree.flatten(args)
    handles = [as_handle(x, f"an argument of {what}") for x in leaves]
    flat = _flat_callback(fun, in_tree, out_tree, kwargs, what)
    outs = op(
        *[h._v for h in handles], fn=flat, out_avals=avals, vectorized=vectorized, ordered=ordered
    )
    return tree.unflatten(out_tree, [wrap(o) for o in outs])


def pure_callback(
    callback: Callable[..., Any],
    result_shape_dtypes: Any,
    *args: Any,
    sharding: Any = None,
    vmap_method: str | None = None,
    **kwargs: Any,
) -> Any:
    """Call a Python function of NumPy arrays from any program; it must have no side effects.

    It may be called any number of times, or never if its result is unused.

    Args:
        callback: called with NumPy arrays in the structure of `args`.
        result_shape_dtypes: pytree of `ShapeDtypeStruct`s (or arrays) that says what it returns.
        *args: pytrees of arrays.
        sharding: the device that runs it is chosen by the program; must be None.
        **kwargs: passed to the function as they are.
        vmap_method: how it handles a batch: "sequential" (one call a row), "expand_dims" or
            "broadcast_all" (one call with a leading batch axis).

    Raises:
        TypeError, ValueError: it returned something else than was announced.
        errors.Unsupported: differentiated, or mapped without `vmap_method`.

    >>> import bevel as bv, numpy as np, bevel.numpy as bnp
    >>> f = bv.jit(lambda x: bv.pure_callback(np.sort, bv.ShapeDtypeStruct(x.shape, x.dtype), x))
    >>> f(bnp.array([3., 1., 2.])).tolist()
    [1.0, 2.0, 3.0]
    """
    if sharding is not None:
        raise TypeError(
            "pure_callback: sharding must be None; the callback runs in the process that runs "
            "the program"
        )
    what = described("pure_callback", callback)
    if vmap_method not in (None, *VECTORIZED):
        raise ValueError(
            f"{what}: vmap_method must be one of {', '.join(VECTORIZED)}, or None to refuse vmap, "
            f"got {vmap_method!r}"
        )
    return _call(callback_op, what, callback, result_shape_dtypes, args, kwargs, vmap_method, False)


def io_callback(
    callback: Callable[..., Any],
    result_shape_dtypes: Any,
    *args: Any,
    sharding: Any = None,
    ordered: bool = False,
    **kwargs: Any,
) -> Any:
    """Call a Python function with side effects, exactly once where the program runs.

    Arguments as for `pure_callback`; `ordered` calls keep their order. Under `vmap` it is called
    for each row.

    >>> import bevel as bv
    >>> log = []
    >>> f = bv.jit(lambda x: bv.io_callback(lambda v: log.append(float(v)), None, x))
    >>> f(2.0); bv.effects_barrier(); log
    [2.0]
    """
    if sharding is not None:
        raise TypeError(
            "io_callback: sharding must be None; the callback runs in the process that runs the "
            "program"
        )
    what = described("io_callback", callback)
    return _call(
        effect_op, what, callback, result_shape_dtypes, args, kwargs, "sequential", ordered
    )
