"""Hyperparameters kept in the state, where they can be read and changed between steps."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

import bevel.numpy as bnp
from bevel.core import dtypes
from bevel.numpy.array import Array
from bevel.optim import tree
from bevel.optim.base import (
    GradientTransformation,
    GradientTransformationExtraArgs,
    Schedule,
    StatefulSchedule,
    safe_increment,
    widened,
    with_extra_args_support,
    zero_count,
)


class InjectStatefulHyperparamsState(NamedTuple):
    """Step, hyperparameters by name, the states of their schedules, and the inner state."""

    count: Any
    hyperparams: dict[str, Any]
    hyperparams_states: dict[str, Any]
    inner_state: Any


class WrappedScheduleState(NamedTuple):
    """A count of steps."""

    count: Any


class WrappedSchedule:
    """A schedule of the step, as one that keeps a state.

    >>> from bevel import optim
    >>> s = optim.WrappedSchedule(optim.linear_schedule(0.0, 1.0, 4))
    >>> float(s(s.update(s.init())))
    0.25
    """

    def __init__(self, schedule_fn: Schedule):
        self.schedule_fn = schedule_fn

    def init(self) -> WrappedScheduleState:
        """The state at the start."""
        return WrappedScheduleState(zero_count())

    def update(self, state: WrappedScheduleState, **extra_args: Any) -> WrappedScheduleState:
        """The next state."""
        return WrappedScheduleState(safe_increment(state.count))

    def __call__(self, state: WrappedScheduleState, **extra_args: Any) -> Any:
        """The value for a state."""
        return self.schedule_fn(state.count)


def _at(x: Any, dtype: Any) -> Any:
    """A number as an array, floats at this dtype; arrays that have chosen theirs stay."""
    if isinstance(x, Array) and not x.weak_type:
        return x
    found = bnp.asarray(x)
    return found.astype(dtype) if dtypes.is_float(found.dtype) else found


def _scheduled(x: Any, dtype: Any) -> Any:
    x = _at(x, dtype)
    return widened(x, dtype) if dtypes.is_float(x.dtype) else x


def _sorted_arguments(
    arguments: dict[str, Any], static: set[str]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Schedules, numbers and the rest."""
    schedules: dict[str, Any] = {}
    numbers: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for name, value in arguments.items():
        if name in static or isinstance(value, bool):
            rest[name] = value
        elif isinstance(value, StatefulSchedule):
            schedules[name] = value
        elif callable(value):
            schedules[name] = WrappedSchedule(value)
        elif isinstance(value, int | float | Array | np.ndarray):
            numbers[name] = value
        else:
            rest[name] = value
    return schedules, numbers, rest


def inject_hyperparams(
    inner_factory: Callable[..., GradientTransformation],
    static_args: str | Iterable[str] = (),
    hyperparam_dtype: Any = None,
) -> Callable[..., GradientTransformationExtraArgs]:
    """An optimizer's constructor whose numbers and schedules live in the state.

    `state.hyperparams["learning_rate"]` is the value of the last step; what is assigned there holds
    for the next ones.

    Args:
        inner_factory: such as `optim.adam`. Its numeric arguments become arrays, its functions
            schedules.
        static_args: names of arguments to pass on as they are: functions that are no schedules.
        hyperparam_dtype: of the numbers; by default that of the parameters.

    Raises:
        ValueError: the constructor has no such argument.

    >>> from bevel import optim
    >>> tx = optim.inject_hyperparams(optim.sgd)(learning_rate=0.1)
    >>> state = tx.init(bnp.zeros(1))
    >>> state.hyperparams["learning_rate"] = bnp.array(0.5)
    >>> tx.update(bnp.ones(1), state, bnp.zeros(1))[0]
    Array([-0.5], dtype=float32)
    """
    static = {static_args} if isinstance(static_args, str) else set(static_args)
    signature = inspect.signature(inner_factory)
    unknown = static - set(signature.parameters)
    if unknown:
        raise ValueError(
            f"inject_hyperparams: static_args names {sorted(unknown)}, but the arguments are "
            f"{list(signature.parameters)}"
        )

    @functools.wraps(inner_factory)
    def factory(*args: Any, **kwargs: Any) -> GradientTransformationExtraArgs:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        schedules, numbers, rest = _sorted_arguments(bound.arguments, static)

        def dtype_for(params: Any) -> Any:
            return hyperparam_dtype or tree.dtype(params, "highest")

        def init(params: Any) -> InjectStatefulHyperparamsState:
            dtype = dtype_for(params)
            states = {k: s.init() for k, s in schedules.items()}
            values = {k: _at(v, dtype) for k, v in numbers.items()}
            values |= {k: _scheduled(s(states[k]), dtype) for k, s in schedules.items()}
            inner = inner_factory(**rest, **values).init(params)
            return InjectStatefulHyperparamsState(zero_count(), values, states, inner)

        def update(
            updates: Any, state: Any, params: Any = None, **extra: Any
        ) -> tuple[Any, InjectStatefulHyperparamsState]:
            dtype, old = dtype_for(params), state.hyperparams_states
            values = {k: _at(v, dtype) for k, v in state.hyperparams.items()}
            values |= {k: _scheduled(s(old[k], **extra), dtype) for k, s in schedules.items()}
            states = {k: s.update(old[k], **extra) for k, s in schedules.items()}
            inner = with_extra_args_support(inner_factory(**rest, **values))
            updates, new = inner.update(updates, state.inner_state, params, **extra)
            return updates, InjectStatefulHyperparamsState(
                safe_increment(state.count), values, states, new
            )

        return GradientTransformationExtraArgs(init, update)

    return factory


class InjectHyperparamsState(NamedTuple):
    """Step, hyperparameters by name, and the inner state: what older checkpoints hold."""

    count: Any
    hyperparams: dict[str, Any]
    inner_state: Any
