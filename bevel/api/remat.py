"""Rematerialization: `remat` (also `bv.checkpoint(f)`), its policies, and names they refer to."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from bevel.api.body import body_with_state, with_arrays
from bevel.api.flat import as_handle, as_tuple, described, normalize_argnums
from bevel.control.call import remat as remat_op
from bevel.core import tree
from bevel.core.handle import fresh_tag, wrap
from bevel.ops import name as name_op


class checkpoint_policies:
    """Which results `remat` keeps for the backward pass: `policy(op, *avals, **params) -> bool`."""

    @staticmethod
    def everything_saveable(op: Any, *avals: Any, **params: Any) -> bool:
        """Keep all: as without checkpoint."""
        return True

    @staticmethod
    def nothing_saveable(op: Any, *avals: Any, **params: Any) -> bool:
        """Keep nothing: recompute all (the default)."""
        return False

    @staticmethod
    def dots_saveable(op: Any, *avals: Any, **params: Any) -> bool:
        """Keep the results of matrix products and convolutions."""
        return op.name in ("dot_general", "conv_general_dilated")

    @staticmethod
    def dots_with_no_batch_dims_saveable(op: Any, *avals: Any, **params: Any) -> bool:
        """Keep the results of products without batch axes (those with weights)."""
        return op.name == "dot_general" and not params["batch"][0]

    @staticmethod
    def save_only_these_names(*names: str) -> Callable[..., bool]:
        """Keep values marked with `checkpoint_name(x, name)`."""
        wanted = frozenset(names)
        return lambda op, *avals, **params: op.name == "name" and params["name"] in wanted

    @staticmethod
    def save_any_names_but_these(*names: str) -> Callable[..., bool]:
        """Keep marked values with other names."""
        unwanted = frozenset(names)
        return lambda op, *avals, **params: op.name == "name" and params["name"] not in unwanted

    @staticmethod
    def save_from_both_policies(
        first: Callable[..., bool], second: Callable[..., bool]
    ) -> Callable[..., bool]:
        """Keep what either policy keeps."""
        return lambda op, *avals, **params: (
            first(op, *avals, **params) or second(op, *avals, **params)
        )

    checkpoint_dots = dots_saveable
    checkpoint_dots_with_no_batch_dims = dots_with_no_batch_dims_saveable


def checkpoint_name(x: Any, name: str) -> Any:
    """Mark values so that a `remat` policy can keep them by name.

    >>> import bevel as bv
    >>> float(bv.checkpoint_name(2.0, "hidden"))
    2.0
    """
    leaves, treedef = tree.flatten(x)
    handles = [as_handle(v, "checkpoint_name: a value") for v in leaves]
    return tree.unflatten(
        treedef, [wrap(name_op(h._v, name=name), fresh_tag(h._tag)) for h in handles]
    )


def remat(
    fun: Callable[..., Any] | None = None,
    *,
    policy: Callable[..., bool] | None = None,
    prevent_cse: bool = True,
    static_argnums: int | Sequence[int] = (),
) -> Any:
    """A function whose intermediate values are not kept for the backward pass, but computed again
    there.

    `bv.checkpoint(f)` is the same function under its other name.

    Source: Griewank and Walther, "Revolve", 2000; Chen et al., "Training deep nets with sublinear
        memory
    cost", 2016.

    Args:
        fun: over pytrees of arrays.
        policy: which intermediate results to keep all the same; see `checkpoint_policies`.
        prevent_cse: keep XLA from merging the recomputation with the first computation.
        static_argnums: arguments that are Python values.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> float(bv.grad(bv.remat(lambda x: bnp.sin(bnp.sin(x))))(0.0))
    1.0
    """
    if fun is None:
        return lambda f: remat(
            f, policy=policy, prevent_cse=prevent_cse, static_argnums=static_argnums
        )
    if policy is not None and not callable(policy):
        raise TypeError(
            f"remat: policy must be a function, got {policy!r}.\n"
            "Write instead: one of bv.checkpoint_policies, such as its dots_saveable."
        )
    if policy is checkpoint_policies.nothing_saveable:
        policy = None
    static_argnums = as_tuple(static_argnums)
    what = described("remat", fun)

    @functools.wraps(fun)
    def rematerialized(*args: Any, **kwargs: Any) -> Any:
        if policy is checkpoint_policies.everything_saveable:
            return fun(*args, **kwargs)
        nondiff = normalize_argnums(static_argnums, len(args), what)

        def call(*dynamic: Any, **kw: Any) -> Any:
            rest = iter(dynamic)
            return fun(*[a if i in nondiff else next(rest) for i, a in enumerate(args)], **kw)

        dynamic = tuple([a for i, a in enumerate(args) if i not in nondiff])
        flat, handles = with_arrays(call, dynamic, kwargs, what)
        body = body_with_state(what, flat, handles)
        body.consume(handles)
        cells = [c._read() for c in body.carried]
        values = remat_op(
            *body.consts,
            *[h._v for h in (*handles, *cells)],
            graph=body.graph,
            policy=policy,
            prevent_cse=bool(prevent_cse),
        )
        n = len(body.output.tags)
        for cell, value, tag in zip(body.carried, values[n:], body.forced_tags, strict=True):
            cell._write(wrap(value, fresh_tag(tag)))
        return body.output.unflatten(values[:n])

    return rematerialized
