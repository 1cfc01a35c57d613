"""`map` and `associative_scan`: one function over all rows, in order or in a tree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bevel.api.flat import described, flatten_handles, rewrap, type_name, type_text
from bevel.api.vmap import vmap
from bevel.core import tree
from bevel.core.aval import aval_of
from bevel.core.handle import Handle, fresh_tag, logical_shape, wrap
from bevel.lax.loops import part_of, scan, scan_length
from bevel.ops import concatenate, reshape, rev


def map(f: Callable[[Any], Any], xs: Any, *, batch_size: int | None = None) -> Any:  # noqa: A001 (jax.lax.map)
    """Apply `f` to the rows of `xs` one after the other (`vmap` does them at once, in more memory).

    Args:
        f: over pytrees of arrays.
        xs: pytree of arrays with one leading length.
        batch_size: rows to do at once, by `vmap`.

    >>> import bevel.numpy as bnp
    >>> map(lambda x: x * 2, bnp.arange(3)).tolist()
    [0, 2, 4]
    """
    described("map", f)
    if batch_size is None:
        return scan(lambda _, x: (None, f(x)), None, xs)[1]
    if batch_size < 1:
        raise ValueError(
            f"map: batch_size must be at least 1, got {batch_size}; leave it out for one row at "
            "a time"
        )
    rows, treedef = flatten_handles(xs, "map: xs")
    n = scan_length("map", rows, None)
    size = min(batch_size, n) or 1
    whole = n // size * size

    def batches(h: Handle) -> Handle:
        v = part_of(h._v, 0, whole)
        return wrap(reshape(v, shape=(whole // size, size, *v.shape[1:])), fresh_tag(h._tag))

    g = vmap(f)
    stacked = scan(
        lambda _, x: (None, g(x)), None, tree.unflatten(treedef, [batches(h) for h in rows])
    )[1]
    joined = tree.map(
        lambda y: wrap(reshape(y._v, shape=(whole, *y._v.shape[2:])), fresh_tag(y._tag)), stacked
    )
    if whole == n:
        return joined
    rest = g(
        tree.unflatten(treedef, [wrap(part_of(h._v, whole, n), fresh_tag(h._tag)) for h in rows])
    )
    return tree.map(
        lambda a, b: wrap(concatenate(a._v, b._v, axis=0), fresh_tag(a._tag)), joined, rest
    )


def associative_scan(
    fn: Callable[[Any, Any], Any], elems: Any, reverse: bool = False, axis: int = 0
) -> Any:
    """All prefixes combined by an associative function, in logarithmic depth.

    Source: Blelloch, "Prefix sums and their applications", 1990.

    Args:
        fn: combines two pytrees of arrays elementwise along `axis` (it gets slices of several
            elements).
        elems: pytree of arrays with one length along `axis`.
        reverse: combine from the end.
        axis: the axis to scan along.

    >>> import bevel.numpy as bnp
    >>> associative_scan(lambda a, b: a + b, bnp.arange(5)).tolist()
    [0, 1, 3, 6, 10]
    """
    described("associative_scan", fn)
    handles, treedef = flatten_handles(elems, "associative_scan: elems")
    shapes = [logical_shape(h) for h in handles]
    if not all(-len(s) <= axis < len(s) for s in shapes):
        raise ValueError(
            f"associative_scan: axis {axis} is out of range for leaves of the shapes {shapes}"
        )
    axes = [axis % len(s) for s in shapes]
    sizes = {s[a] for s, a in zip(shapes, axes, strict=True)}
    if len(sizes) != 1:
        raise ValueError(
            f"associative_scan: the leaves have different lengths {sorted(sizes)} along axis {axis}"
        )
    tags = [h._tag for h in handles]

    def part(xs: Sequence[Any], start: int, stop: int, step: int = 1) -> list[Any]:
        return [part_of(x, start, stop, step, a) for x, a in zip(xs, axes, strict=True)]

    def combine(a: Sequence[Any], b: Sequence[Any]) -> list[Any]:
        out = fn(tree.unflatten(treedef, rewrap(a, tags)), tree.unflatten(treedef, rewrap(b, tags)))
        found, structure = flatten_handles(out, "associative_scan: a result of the function")
        given = [type_text(aval_of(x), t) for x, t in zip(b, tags, strict=True)]
        got = [type_name(h) for h in found]
        if structure != treedef or got != given:
            raise TypeError(
                f"associative_scan: the function got {treedef} of {given} and returned "
                f"{structure} of {got}; it must keep structure, shapes and dtypes"
            )
        return [h._v for h in found]

    def scanned(xs: Sequence[Any], n: int) -> Sequence[Any]:
        if n < 2:
            return xs
        odd = scanned(combine(part(xs, 0, n - 1, 2), part(xs, 1, n, 2)), n // 2)
        even = part(xs, 0, 1)
        if n > 2:
            later = combine(part(odd, 0, (n - 1) // 2), part(xs, 2, n, 2))
            even = [concatenate(e, x, axis=a) for e, x, a in zip(even, later, axes, strict=True)]
        return [_interleave(e, o, a, n) for e, o, a in zip(even, odd, axes, strict=True)]

    turn = lambda xs: [rev(x, axes=(a,)) for x, a in zip(xs, axes, strict=True)] if reverse else xs  # noqa: E731
    result = turn(scanned(turn([h._v for h in handles]), sizes.pop()))
    return tree.unflatten(treedef, rewrap(result, tags))


def _interleave(even: Any, odd: Any, axis: int, n: int) -> Any:
    """The n elements even[0], odd[0], even[1], ... along an axis."""
    if n % 2:
        odd = concatenate(odd, part_of(even, n // 2, n // 2 + 1, axis=axis), axis=axis)
    shape = tuple(even.shape)
    before, after = shape[:axis], shape[axis + 1 :]
    pair = [reshape(x, shape=(*before, shape[axis], 1, *after)) for x in (even, odd)]
    both = reshape(concatenate(*pair, axis=axis + 1), shape=(*before, 2 * shape[axis], *after))
    return part_of(both, 0, n, axis=axis)
