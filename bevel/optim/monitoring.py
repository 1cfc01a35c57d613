"""Transformations that measure updates as they pass, without changing them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from bevel.optim.base import (
    GradientTransformation,
    GradientTransformationExtraArgs,
    chain,
    stateless,
    with_extra_args_support,
)
from bevel.optim.scaling import ema

Measure = Callable[[Any], Any]


class SnapshotState(NamedTuple):
    """What was measured, by name."""

    measurement: dict[str, Any]


class MonitorState(NamedTuple):
    """What was measured, by name, and the states of the measures."""

    measurements: dict[str, Any]
    measure_states: tuple[Any, ...]


def snapshot(measure_name: str, measure: Measure) -> GradientTransformation:
    """Keeps a measure of the updates at this place of a chain in its state.

    >>> from bevel import optim
    >>> tx = optim.chain(optim.snapshot("norm", optim.tree.norm), optim.sgd(0.1))
    >>> _, state = tx.update(bnp.array([3.0, 4.0]), tx.init(bnp.zeros(2)))
    >>> float(optim.tree.get(state, "norm"))
    5.0
    """

    def taken(tree: Any) -> SnapshotState:
        return SnapshotState({measure_name: measure(tree)})

    return GradientTransformation(
        taken, lambda updates, state, params=None: (updates, taken(updates))
    )


def monitor(
    measures: Mapping[str, GradientTransformation | Measure],
) -> GradientTransformationExtraArgs:
    """Keeps measures of the updates in its state.

    Args:
        measures: by name: functions of updates, or transformations whose result is the measure.

    >>> from bevel import optim
    >>> tx = optim.monitor({"size": optim.tree.size})
    >>> tx.update(bnp.zeros(2), tx.init(bnp.zeros(2)))[1].measurements
    {'size': 2}
    """
    txs = {
        name: with_extra_args_support(
            stateless(lambda u, _, m=m: m(u)) if callable(m) else m  # type: ignore[misc]
        )
        for name, m in measures.items()
    }

    def init(params: Any) -> MonitorState:
        return MonitorState({}, tuple(tx.init(params) for tx in txs.values()))

    def update(
        updates: Any, state: Any, params: Any = None, **extra: Any
    ) -> tuple[Any, MonitorState]:
        found, states = {}, []
        for (name, tx), old in zip(txs.items(), state.measure_states, strict=True):
            found[name], new = tx.update(updates, old, params, **extra)
            states.append(new)
        return updates, MonitorState(found, tuple(states))

    return GradientTransformationExtraArgs(init, update)


def measure_with_ema(
    measure: Measure, decay: Any, debias: bool = True, accumulator_dtype: Any = None
) -> GradientTransformationExtraArgs:
    """The moving average of a measure, for `monitor`; other arguments as for `ema`.

    >>> from bevel import optim
    >>> tx = optim.monitor({"norm": optim.measure_with_ema(optim.tree.norm, 0.9)})
    >>> _, state = tx.update(bnp.array([3.0, 4.0]), tx.init(bnp.zeros(2)))
    >>> state.measurements["norm"].round(3)
    Array(5., dtype=float32)
    """
    average = ema(decay, debias, accumulator_dtype)
    return chain(
        stateless(lambda updates, _: measure(updates)),
        average._replace(init=lambda params: average.init(measure(params))),
    )
