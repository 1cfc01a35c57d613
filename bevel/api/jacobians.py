"""`jacfwd`, `jacrev` and `hessian`: all partial derivatives, by `vmap` over unit vectors."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bevel.api.derivatives import check_inputs, check_outputs, jvp, vjp
from bevel.api.differentiated import Wrt
from bevel.api.flat import as_tuple, described, flatten_handles, is_single, normalize_argnums
from bevel.api.vmap import vmap
from bevel.core import dtypes, tree
from bevel.core.aval import aval_of
from bevel.core.handle import Handle, wrap
from bevel.ops import reshape, transpose
from bevel.ops import slice as slice_


def _basis(handles: Sequence[Handle]) -> list[Handle]:
    """For each array, the unit vectors of the space of all of them, stacked along a new axis 0."""
    total = sum(aval_of(h._v).size for h in handles)
    leaves, start = [], 0
    for h in handles:
        aval = aval_of(h._v)
        block = np.zeros((total, aval.size), aval.dtype)
        block[start + np.arange(aval.size), np.arange(aval.size)] = 1
        leaves.append(wrap(block.reshape(total, *aval.shape)))
        start += aval.size
    return leaves


def _parts(x: Handle, like: Sequence[Handle]) -> list[Any]:
    """The values of axis 0 of `x` cut into the sizes of `like`."""
    v, start, parts = x._v, 0, []
    rest = tuple(v.shape[1:])
    for h in like:
        stop = start + aval_of(h._v).size
        parts.append(slice_(v, start=(start, *[0] * len(rest)), limit=(stop, *rest), strides=None))
        start = stop
    return parts


def _argument_last(part: Any, argument: Handle) -> Handle:
    """(size of the argument, *shape) -> (*shape, *shape of the argument)."""
    shape = tuple(part.shape[1:])
    moved = transpose(part, permutation=(*range(1, len(shape) + 1), 0))
    return wrap(reshape(moved, shape=(*shape, *aval_of(argument._v).shape)))


def _result_first(part: Any, result: Handle) -> Handle:
    """(size of the result, *shape) -> (*shape of the result, *shape)."""
    return wrap(reshape(part, shape=(*aval_of(result._v).shape, *part.shape[1:])))


def _one_or_all(single: bool, trees: Sequence[Any]) -> Any:
    return trees[0] if single else tuple(trees)


def _restricted(
    fun: Callable[..., Any], numbers: Sequence[int], args: tuple, kwargs: dict
) -> Callable[..., Any]:
    """The function of the arguments with these numbers alone."""

    def at(*chosen: Any) -> Any:
        full = list(args)
        for n, x in zip(numbers, chosen, strict=True):
            full[n] = x
        return fun(*full, **kwargs)

    return at


def jacfwd(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
) -> Callable[..., Any]:
    """The Jacobian by forward mode: one pass per input element. Best for few inputs.

    The result has the structure of `fun`'s result with, in place of each leaf, the structure of the
    argument; shapes are (*result shape, *argument shape). For a module it is an `nn.State` of its
    `Param`s.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> bv.jacfwd(lambda x: x**2)(bnp.array([1., 2.]))
    Array([[2., 0.],
           [0., 4.]], dtype=float32)
    """
    what = described("jacfwd", fun)
    single, argnums = is_single(argnums), as_tuple(argnums)

    @functools.wraps(fun)
    def jacobian(*args: Any, **kwargs: Any) -> Any:
        numbers = normalize_argnums(argnums, len(args), what)
        chosen = tuple(args[n] for n in numbers)
        wrt = Wrt(what, fun, args, numbers)
        handles = wrt.primals()
        check_inputs(wrt, what, holomorphic)
        if not holomorphic and any(dtypes.is_complex(h._v.dtype) for h in handles):
            raise TypeError(
                f"{what}: complex inputs have one derivative only if the function is "
                "complex-analytic.\n"
                "Write instead: holomorphic=True if it is, or bv.jvp along the directions you need."
            )
        at = _restricted(fun, numbers, args, kwargs)

        def push(*ts: Any) -> Any:
            return jvp(at, chosen, tuple(wrt.collect(ts)), has_aux)

        axes = (None, 0, None) if has_aux else (None, 0)
        found = vmap(push, out_axes=axes)(*_basis(handles))
        leaves, out_tree = tree.flatten(found[1])
        if holomorphic:
            check_outputs([h._v for h in leaves], what, holomorphic)
        rows = [list(map(_argument_last, _parts(leaf, handles), handles)) for leaf in leaves]
        per_leaf = [_one_or_all(single, wrt.collect(r)) for r in rows]
        result = tree.unflatten(out_tree, per_leaf)
        return (result, found[2]) if has_aux else result

    return jacobian


def jacrev(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
) -> Callable[..., Any]:
    """The Jacobian by reverse mode: one pass per result element. Best for few results.

    Structure and shapes as for `jacfwd`.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> bv.jacrev(lambda x: x.sum())(bnp.ones(2))
    Array([1., 1.], dtype=float32)
    """
    what = described("jacrev", fun)
    single, argnums = is_single(argnums), as_tuple(argnums)

    @functools.wraps(fun)
    def jacobian(*args: Any, **kwargs: Any) -> Any:
        numbers = normalize_argnums(argnums, len(args), what)
        chosen = tuple(args[n] for n in numbers)
        check_inputs(Wrt(what, fun, args, numbers), what, holomorphic)
        at = _restricted(fun, numbers, args, kwargs)
        found = vjp(at, *chosen, has_aux=has_aux)
        outs, out_tree = flatten_handles(found[0], f"a result of {what}")
        check_outputs([h._v for h in outs], what, holomorphic)
        grads = vmap(found[1])(tree.unflatten(out_tree, _basis(outs)))
        leaves, in_tree = tree.flatten(grads)
        parts = [list(map(_result_first, _parts(leaf, outs), outs)) for leaf in leaves]
        per_out = [tree.unflatten(in_tree, list(column)) for column in zip(*parts, strict=True)]
        per_out = [_one_or_all(single, p) for p in per_out]
        result = tree.unflatten(out_tree, per_out)
        return (result, found[2]) if has_aux else result

    return jacobian


def hessian(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
) -> Callable[..., Any]:
    """Second derivatives, as the forward Jacobian of the reverse one.

    Of a function of a module it is a state of states: `h.kernel.bias` has the derivatives by
    `kernel` and then `bias`, of shape (*kernel shape, *bias shape).

    >>> import bevel as bv, bevel.numpy as bnp
    >>> bv.hessian(lambda x: (x**3).sum())(bnp.array([1., 2.]))
    Array([[ 6.,  0.],
           [ 0., 12.]], dtype=float32)
    """
    return jacfwd(jacrev(fun, argnums, has_aux, holomorphic), argnums, has_aux, holomorphic)
