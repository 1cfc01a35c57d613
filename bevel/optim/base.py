"""The contract of gradient transformations, and how they compose.

A transformation is a pair of functions: `init(params) -> state` and
`update(updates, state, params=None, **extra) -> (updates, state)`. Gradients go in as updates; what
comes out of the last one is added to the parameters. Extra arguments (the loss value, ...) reach
every part of a
chain that takes them.

>>> import bevel as bv, bevel.numpy as bnp
>>> from bevel import optim
>>> tx = optim.chain(optim.clip_by_global_norm(1.0), optim.adamw(1e-1))
>>> params = {"w": bnp.ones(3)}
>>> state = tx.init(params)
>>> updates, state = tx.update({"w": bnp.ones(3)}, state, params)
>>> optim.apply_updates(params, updates)["w"].round(4)
Array([0.9, 0.9, 0.9], dtype=float32)
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import bevel.numpy as bnp
from bevel import lax
from bevel.core import dtypes, tree
from bevel.numpy.convert import enter
from bevel.optim.state_search import ParamsPlaceholder

Params = Updates = OptState = Any
Schedule = Callable[[Any], Any]
ScalarOrSchedule = Any
MaskOrFn = Any


class TransformInitFn(Protocol):
    """The `init` of a transformation."""

    def __call__(self, params: Params) -> OptState:
        """The state for these parameters."""


class TransformUpdateFn(Protocol):
    """The `update` of a transformation."""

    def __call__(
        self, updates: Updates, state: OptState, params: Params | None = None
    ) -> tuple[Updates, OptState]:
        """The changed updates, and the next state."""


class TransformUpdateExtraArgsFn(Protocol):
    """The `update` of a transformation that takes extra arguments."""

    def __call__(
        self, updates: Updates, state: OptState, params: Params | None = None, **extra_args: Any
    ) -> tuple[Updates, OptState]:
        """The changed updates, and the next state."""


@runtime_checkable
class StatefulSchedule(Protocol):
    """A schedule that keeps a state, which sees the extra arguments of `update`."""

    def init(self) -> Any:
        """The state at the start."""

    def update(self, state: Any, **extra_args: Any) -> Any:
        """The next state."""

    def __call__(self, state: Any, **extra_args: Any) -> Any:
        """The value for a state."""


class GradientTransformation(NamedTuple):
    """`init(params)` and `update(updates, state, params=None)`."""

    init: TransformInitFn
    update: Callable[..., Any]


class GradientTransformationExtraArgs(GradientTransformation):
    """A transformation whose `update` takes extra keyword arguments, and ignores those it does not
    know.
    """


class EmptyState(NamedTuple):
    """The state of a transformation that has none."""


class MaskedState(NamedTuple):
    """The state of a masked transformation."""

    inner_state: Any


class MaskedNode(NamedTuple):
    """Stands where a mask hides a part of a tree; it has no leaves."""


class PartitionState(NamedTuple):
    """The states of the transformations of a partition, by label."""

    inner_states: Mapping[Any, Any]


def init_empty_state(params: Any) -> EmptyState:
    """The `init` of a transformation without state."""
    return EmptyState()


def params_of(name: str, params: Any) -> Any:
    """The parameters a transformation needs.

    Raises:
        ValueError: they were not passed.
    """
    if params is None:
        raise ValueError(
            f"{name} needs the current parameters, and `params` was not passed.\n"
            "Write instead: updates, state = tx.update(grads, state, params)."
        )
    return params


def widened(x: Any, dtype: Any) -> Any:
    """An array at the dtype that holds its own and this one: float32 numbers beside float64."""
    x = enter(x)
    return x.astype(dtypes.promote_types(x.dtype, dtype))


def zero_count() -> Any:
    """A count of steps at its start."""
    return bnp.zeros((), dtypes.int32)


def safe_increment(count: Any) -> Any:
    """Count + 1, but the largest value of the dtype stays.

    >>> import bevel.numpy as bnp
    >>> from bevel import optim
    >>> int(optim.safe_increment(bnp.int8(127)))
    127

    Raises:
        TypeError: the count is neither integer nor floating.
    """
    count = enter(count)
    if dtypes.is_integer(count.dtype):
        largest = dtypes.iinfo(count.dtype).max
    elif dtypes.is_float(count.dtype):
        largest = float(dtypes.finfo(count.dtype).max)
    else:
        raise TypeError(f"safe_increment: a count is an integer or a float, not {count.dtype}")
    return bnp.where(count < largest, count + 1, count)


def identity() -> GradientTransformation:
    """Passes updates on unchanged.

    >>> from bevel import optim
    >>> tx, x = optim.identity(), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([ 1., -2.], dtype=float32)
    """
    return GradientTransformation(
        init_empty_state, lambda updates, state, params=None: (updates, state)
    )


def stateless(f: Callable[[Any, Any], Any]) -> GradientTransformation:
    """A transformation without state from `f(updates, params) -> updates`.

    >>> import bevel as bv
    >>> from bevel import optim
    >>> tx = optim.stateless(lambda updates, params: bv.tree.map(lambda u: -u, updates))
    >>> tx.update({"a": 1}, tx.init(None))
    ({'a': -1}, EmptyState())
    """
    return GradientTransformation(
        init_empty_state, lambda updates, state, params=None: (f(updates, params), state)
    )


def each(f: Callable[[Any], Any]) -> GradientTransformation:
    """A transformation without state that applies a function to every update."""
    return stateless(lambda updates, params: tree.map(f, updates))


def each_with_param(name: str, f: Callable[[Any, Any], Any]) -> GradientTransformation:
    """`each` of an update and its parameter; `name` is what errors call it."""
    return stateless(lambda updates, params: tree.map(f, updates, params_of(name, params)))


def stateless_with_tree_map(f: Callable[[Any, Any], Any]) -> GradientTransformation:
    """A transformation without state from `f(update, param) -> update`, applied to each array.

    >>> from bevel import optim
    >>> tx, x = optim.stateless_with_tree_map(lambda u, p: u * p), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([1., 4.], dtype=float32)
    """
    return stateless(
        lambda updates, params: (
            tree.map(lambda u: f(u, None), updates)
            if params is None
            else tree.map(f, updates, params)
        )
    )


def set_to_zero() -> GradientTransformation:
    """Makes all updates zero: freezes what it is applied to.

    >>> from bevel import optim
    >>> tx, x = optim.set_to_zero(), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([0., 0.], dtype=float32)
    """
    return stateless(lambda updates, params: tree.map(bnp.zeros_like, updates))


def with_extra_args_support(tx: GradientTransformation) -> GradientTransformationExtraArgs:
    """The same transformation, with an `update` that ignores extra arguments.

    >>> from bevel import optim
    >>> tx, x = optim.with_extra_args_support(optim.scale(2.0)), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x, loss=1.0)[0].round(3)
    Array([ 2., -4.], dtype=float32)
    """
    if isinstance(tx, GradientTransformationExtraArgs):
        return tx
    if hasattr(tx, "gradient_transformation"):  # MultiSteps
        return tx.gradient_transformation()
    return GradientTransformationExtraArgs(
        tx.init, lambda updates, state, params=None, **extra: tx.update(updates, state, params)
    )


def _checked(name: str, tx: Any) -> GradientTransformationExtraArgs:
    if not hasattr(tx, "init") or not hasattr(tx, "update"):
        raise TypeError(
            f"{name}: {tx!r} is no gradient transformation (it has no init and update).\n"
            f"Write instead: {name}(optim.clip(1.0), optim.adam(1e-3)), calling each constructor."
        )
    return with_extra_args_support(tx)


def chain(*args: GradientTransformation) -> GradientTransformationExtraArgs:
    """Transformations one after the other; the state is a tuple of theirs.

    Raises:
        TypeError: an argument is no transformation.
        ValueError: (in update) the state is not that of this chain.

    >>> import bevel.numpy as bnp
    >>> from bevel import optim
    >>> tx = optim.chain(optim.clip(1.0), optim.scale(-2.0))
    >>> tx.update(bnp.array([5.0, 0.5]), tx.init(bnp.zeros(2)))[0]
    Array([-2., -1.], dtype=float32)
    """
    parts = [_checked("chain", tx) for tx in args]

    def init(params: Any) -> tuple[Any, ...]:
        return tuple(tx.init(params) for tx in parts)

    def update(
        updates: Any, state: Any, params: Any = None, **extra: Any
    ) -> tuple[Any, tuple[Any, ...]]:
        if len(state) != len(parts):
            raise ValueError(
                f"chain: the state has {len(state)} parts for {len(parts)} transformations.\n"
                "Write instead: state = tx.init(params) with this very chain."
            )
        new = []
        for tx, old in zip(parts, state, strict=True):
            updates, s = tx.update(updates, old, params, **extra)
            new.append(s)
        return updates, tuple(new)

    return GradientTransformationExtraArgs(init, update)


def named_chain(*args: tuple[str, GradientTransformation]) -> GradientTransformationExtraArgs:
    """`chain` of (name, transformation) pairs; the state is an ordered dict by name.

    Raises:
        ValueError: a name appears twice.

    >>> import bevel.numpy as bnp
    >>> from bevel import optim
    >>> tx = optim.named_chain(("clip", optim.clip(1.0)), ("adam", optim.scale_by_adam()))
    >>> list(tx.init(bnp.zeros(1)))
    ['clip', 'adam']
    """
    names = [name for name, _ in args]
    if len(set(names)) != len(names):
        raise ValueError(f"named_chain: the names must differ, got {names}")
    inner = chain(*[tx for _, tx in args])

    def named(states: Any) -> Any:
        return collections.OrderedDict(zip(names, states, strict=True))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        updates, new = inner.update(updates, tuple(state[n] for n in names), params, **extra)
        return updates, named(new)

    return GradientTransformationExtraArgs(lambda params: named(inner.init(params)), update)


def resolved(choice: Any, like: Any) -> Any:
    """A tree of masks or labels, which may be given as a function of the parameters."""
    leaves = tree.leaves(choice)
    return choice(like) if leaves and callable(leaves[0]) else choice


def masked(
    inner: GradientTransformation, mask: MaskOrFn, *, mask_compatible_extra_args: bool = False
) -> GradientTransformationExtraArgs:
    """A transformation applied to a part of the parameters; the rest of the updates pass unchanged.

    Args:
        inner: the transformation.
        mask: a tree of booleans that is a prefix of the parameters', or a function from
            parameters to one.
        mask_compatible_extra_args: whether extra arguments of the updates' structure are masked.

    >>> import bevel.numpy as bnp
    >>> from bevel import optim
    >>> tx = optim.masked(optim.scale(-1.0), {"w": True, "b": False})
    >>> tx.update({"w": 1.0, "b": 1.0}, tx.init({"w": 0.0, "b": 0.0}))[0]
    {'w': -1.0, 'b': 1.0}
    """
    inner = with_extra_args_support(inner)

    def mask_for(like: Any) -> Any:
        return resolved(mask, like)

    def hide(m: Any, x: Any) -> Any:
        return tree.map(lambda keep, part: part if keep else MaskedNode(), m, x)

    def init(params: Any) -> MaskedState:
        if isinstance(params, ParamsPlaceholder):
            return MaskedState(inner.init(params))
        return MaskedState(inner.init(hide(mask_for(params), params)))

    def update(
        updates: Any, state: Any, params: Any = None, **extra: Any
    ) -> tuple[Any, MaskedState]:
        m = mask_for(updates)
        if mask_compatible_extra_args:
            like = tree.structure(updates)
            extra = {k: hide(m, v) if tree.structure(v) == like else v for k, v in extra.items()}
        shown = None if params is None else hide(m, params)
        new, s = inner.update(hide(m, updates), state.inner_state, shown, **extra)
        chosen = tree.map(lambda keep, changed, old: changed if keep else old, m, new, updates)
        return chosen, MaskedState(s)

    return GradientTransformationExtraArgs(init, update)


def partition(
    transforms: Mapping[Any, GradientTransformation],
    param_labels: Any,
    *,
    mask_compatible_extra_args: bool = False,
) -> GradientTransformationExtraArgs:
    """Another transformation for each group of parameters.

    Args:
        transforms: transformations by label.
        param_labels: a tree of labels that is a prefix of the parameters', or a function from
            parameters to one.
        mask_compatible_extra_args: as for `masked`.

    Raises:
        ValueError: a label has no transformation.

    >>> import bevel.numpy as bnp
    >>> from bevel import optim
    >>> transforms = {"slow": optim.sgd(0.1), "frozen": optim.set_to_zero()}
    >>> tx = optim.partition(transforms, {"w": "slow", "b": "frozen"})
    >>> params = {"w": bnp.ones(1), "b": bnp.ones(1)}
    >>> tx.update(params, tx.init(params), params)[0]
    {'w': Array([-0.1], dtype=float32), 'b': Array([0.], dtype=float32)}
    """

    def parts(like: Any) -> dict[Any, GradientTransformationExtraArgs]:
        labels = param_labels(like) if callable(param_labels) else param_labels
        unknown = set(tree.leaves(labels)) - set(transforms)
        if unknown:
            raise ValueError(
                f"partition: no transformation for the labels {sorted(map(str, unknown))}; there "
                f"are ones for "
                f"{sorted(map(str, transforms))}"
            )
        return {
            k: masked(
                tx,
                tree.map(lambda label, k=k: label == k, labels),
                mask_compatible_extra_args=mask_compatible_extra_args,
            )
            for k, tx in transforms.items()
        }

    def init(params: Any) -> PartitionState:
        return PartitionState({k: tx.init(params) for k, tx in parts(params).items()})

    def update(
        updates: Any, state: Any, params: Any = None, **extra: Any
    ) -> tuple[Any, PartitionState]:
        new = {}
        for k, tx in parts(updates).items():
            updates, new[k] = tx.update(updates, state.inner_states[k], params, **extra)
        return updates, PartitionState(new)

    return GradientTransformationExtraArgs(init, update)


def incremental_update(new_tensors: Any, old_tensors: Any, step_size: Any) -> Any:
    """step_size * new + (1 - step_size) * old: a moving average of parameters.

    >>> from bevel import optim
    >>> optim.incremental_update({"w": 1.0}, {"w": 0.0}, 0.25)
    {'w': 0.25}
    """
    return tree.map(
        lambda new, old: step_size * new + (1 - step_size) * old, new_tensors, old_tensors
    )


def periodic_update(new_tensors: Any, old_tensors: Any, steps: Any, update_period: Any) -> Any:
    """`new` at every `update_period`-th step, else `old`.

    >>> from bevel import optim
    >>> optim.periodic_update({"w": 1.0}, {"w": 0.0}, steps=8, update_period=4)
    {'w': 1.0}
    """
    due = enter(steps) % update_period == 0
    return lax.cond(due, lambda: new_tensors, lambda: old_tensors)
