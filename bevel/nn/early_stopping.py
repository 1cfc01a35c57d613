"""`EarlyStopping`: when a metric has not improved for a while."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import bevel.numpy as bnp
from bevel.core import tree


@tree.register_dataclass
@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """Says when to stop: `stop = stop.update(loss)` after each epoch, then ask `stop.should_stop`.

    It is a pytree, so it goes into checkpoints and through jitted functions.

    Args:
        min_delta: how much lower than the best a metric must be to count as better.
        patience: how many updates in a row may be no better before the next stops.
        best_metric: the best so far.
        patience_count: updates since then.
        should_stop: whether to stop.
        has_improved: whether the last metric was better; the first is, unless it is NaN.

    >>> from bevel import nn
    >>> stop = nn.EarlyStopping(min_delta=1e-3, patience=2)
    >>> for epoch, loss in enumerate([4, 3, 3, 3, 2, 2, 2, 2, 1, 1]):
    ...     stop = stop.update(loss)
    ...     if stop.should_stop:
    ...         break
    >>> epoch, float(stop.best_metric)
    (7, 2.0)
    """

    min_delta: Any = 0.0
    patience: Any = 0
    best_metric: Any = math.inf
    patience_count: Any = 0
    should_stop: Any = False
    has_improved: Any = False

    def update(self, metric: Any) -> EarlyStopping:
        """The state after one more value of the metric, of which less is better."""
        best = bnp.asarray(self.best_metric, bnp.result_type(float, metric))
        better = bnp.isinf(best) | (best - metric > self.min_delta)
        better &= ~bnp.isnan(metric)
        done = bnp.asarray(self.patience_count) >= self.patience
        return self.replace(
            best_metric=bnp.where(better, metric, best),
            patience_count=bnp.where(better, 0, bnp.asarray(self.patience_count) + 1),
            should_stop=bnp.asarray(self.should_stop) | (~better & done),
            has_improved=better,
        )

    def reset(self) -> EarlyStopping:
        """The state before the first update."""
        return EarlyStopping(self.min_delta, self.patience)

    def replace(self, **fields: Any) -> EarlyStopping:
        """The same state with some fields changed."""
        return dataclasses.replace(self, **fields)
