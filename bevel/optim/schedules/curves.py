"""Schedules: functions from the step (an integer, counted from 0) to a number, such as a learning
rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import bevel.numpy as bnp
from bevel.numpy.convert import enter
from bevel.optim.base import Schedule


def _positive(name: str, argument: str, value: Any) -> None:
    if not value > 0:
        raise ValueError(
            f"{name}: {argument} is a number of steps and must be positive, got {value!r}.\n"
            "Write instead: how many updates there will be (epochs * batches in an epoch)."
        )


def constant_schedule(value: Any) -> Schedule:
    """Always the same value.

    >>> from bevel import optim
    >>> optim.constant_schedule(0.1)(7)
    0.1
    """
    return lambda count: value


def polynomial_schedule(
    init_value: Any, end_value: Any, power: Any, transition_steps: int, transition_begin: int = 0
) -> Schedule:
    """From `init_value` to `end_value` as a power of the share of steps that are left.

    Args:
        init_value: value before.
        end_value: value after.
        power: 1 is a line.
        transition_steps: how many steps it takes; 0 or less stays at `init_value`.
        transition_begin: the step at which it begins.

    >>> from bevel import optim
    >>> [float(optim.polynomial_schedule(1.0, 0.0, 2, 2)(step)) for step in range(3)]
    [1.0, 0.25, 0.0]
    """
    if transition_steps <= 0:
        return constant_schedule(init_value)
    begin = max(transition_begin, 0)

    def schedule(count: Any) -> Any:
        left = 1 - bnp.clip(enter(count) - begin, 0, transition_steps) / transition_steps
        return (init_value - end_value) * left**power + end_value

    return schedule


def linear_schedule(
    init_value: Any, end_value: Any, transition_steps: int, transition_begin: int = 0
) -> Schedule:
    """A line from `init_value` to `end_value` in `transition_steps` steps.

    >>> from bevel import optim
    >>> [float(optim.linear_schedule(0.0, 1.0, 4)(step)) for step in (0, 1, 4, 9)]
    [0.0, 0.25, 1.0, 1.0]
    """
    return polynomial_schedule(init_value, end_value, 1, transition_steps, transition_begin)


def warmup_constant_schedule(init_value: Any, peak_value: Any, warmup_steps: int) -> Schedule:
    """A line from `init_value` to `peak_value` in `warmup_steps` steps, constant afterwards.

    >>> from bevel import optim
    >>> schedule = optim.warmup_constant_schedule(0.0, 1.0, 4)
    >>> [round(float(schedule(step)), 3) for step in (0, 1, 4, 9)]
    [0.0, 0.25, 1.0, 1.0]
    """
    return linear_schedule(init_value, peak_value, warmup_steps)


def piecewise_constant_schedule(
    init_value: Any, boundaries_and_scales: Mapping[int, float] | None = None
) -> Schedule:
    """`init_value`, multiplied by each scale once its boundary is reached.

    Raises:
        ValueError: a scale is negative.

    >>> from bevel import optim
    >>> schedule = optim.piecewise_constant_schedule(1.0, {2: 0.5, 4: 0.1})
    >>> [round(float(schedule(step)), 3) for step in (1, 2, 4)]
    [1.0, 0.5, 0.05]
    """
    pairs = sorted((boundaries_and_scales or {}).items())
    _check_scales("piecewise_constant_schedule", [s for _, s in pairs])

    def schedule(count: Any) -> Any:
        value = init_value
        for boundary, scale in pairs:
            value = bnp.where(enter(count) < boundary, value, value * scale)
        return value

    return schedule


def _check_scales(name: str, scales: Iterable[float]) -> None:
    if any(s < 0 for s in scales):
        raise ValueError(f"{name}: scales are factors and cannot be negative")


def exponential_decay(
    init_value: Any,
    transition_steps: int,
    decay_rate: float,
    transition_begin: int = 0,
    staircase: bool = False,
    end_value: Any = None,
) -> Schedule:
    """`init_value * decay_rate ** (step / transition_steps)`.

    Args:
        init_value: value at the start.
        transition_steps: steps in which it is multiplied by `decay_rate`; 0 or less stays at
            `init_value`.
        decay_rate: the factor; 0 stays at `init_value`.
        transition_begin: the step at which it begins.
        staircase: change only every `transition_steps` steps.
        end_value: bound: from below if it decays, from above if it grows.

    >>> from bevel import optim
    >>> float(optim.exponential_decay(1.0, 10, 0.5)(20))
    0.25
    """
    if transition_steps <= 0 or decay_rate == 0:
        return constant_schedule(init_value)
    begin = max(transition_begin, 0)
    bound = bnp.maximum if decay_rate < 1 else bnp.minimum

    def schedule(count: Any) -> Any:
        passed = enter(count) - begin
        exponent = passed / transition_steps
        exponent = bnp.floor(exponent) if staircase else exponent
        value = bnp.where(passed <= 0, init_value, init_value * bnp.power(decay_rate, exponent))
        return value if end_value is None else bound(value, end_value)

    return schedule


def cosine_decay_schedule(
    init_value: Any, decay_steps: int, alpha: Any = 0.0, exponent: Any = 1.0
) -> Schedule:
    """Half a cosine from `init_value` to `alpha * init_value` (Loshchilov and Hutter,
    arXiv:1608.03983).

    Args:
        init_value: value at the start.
        decay_steps: steps it takes.
        alpha: share of `init_value` at the end.
        exponent: power of the cosine part.

    Raises:
        ValueError: `decay_steps` is not positive.

    >>> from bevel import optim
    >>> [round(float(optim.cosine_decay_schedule(1.0, 2)(step)), 3) for step in range(3)]
    [1.0, 0.5, 0.0]
    """
    _positive("cosine_decay_schedule", "decay_steps", decay_steps)

    def schedule(count: Any) -> Any:
        share = bnp.minimum(enter(count), decay_steps) / decay_steps
        cosine = 0.5 * (1 + bnp.cos(math.pi * share))
        return init_value * ((1 - alpha) * cosine**exponent + alpha)

    return schedule


def _between(interpolate: str) -> Callable[[Any, Any, Any], Any]:
    if interpolate == "linear":
        return lambda start, end, share: (end - start) * share + start
    if interpolate == "cosine":
        return lambda start, end, share: end + (start - end) / 2 * (bnp.cos(math.pi * share) + 1)
    raise ValueError(
        f"piecewise_interpolate_schedule: interpolate_type is 'linear' or 'cosine', not "
        f"{interpolate!r}"
    )


def piecewise_interpolate_schedule(
    interpolate_type: str, init_value: Any, boundaries_and_scales: Mapping[int, float] | None = None
) -> Schedule:
    """Between the values of `piecewise_constant_schedule`, by lines or half cosines.

    Raises:
        ValueError: an unknown type, or a negative scale.

    >>> from bevel import optim
    >>> float(optim.piecewise_interpolate_schedule("linear", 1.0, {4: 0.0})(1))
    0.75
    """
    between = _between(interpolate_type)
    pairs = sorted((boundaries_and_scales or {}).items())
    _check_scales("piecewise_interpolate_schedule", [s for _, s in pairs])
    bounds = [0, *[b for b, _ in pairs]]

    def schedule(count: Any) -> Any:
        step = enter(count)
        start = value = enter(init_value)
        for (_, scale), low, high in zip(pairs, bounds, bounds[1:], strict=False):
            end = start * scale
            share = (step - low) / max(high - low, 1)
            value = bnp.where(
                step < low, value, bnp.where(step < high, between(start, end, share), end)
            )
            start = end
        return value

    return schedule


def linear_onecycle_schedule(
    transition_steps: int,
    peak_value: Any,
    pct_start: float = 0.3,
    pct_final: float = 0.85,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> Schedule:
    """Up to a peak and down again by lines, then to almost nothing (Smith and Topin,
    arXiv:1708.07120).

    Raises:
        ValueError: `transition_steps` is not positive.

    >>> from bevel import optim
    >>> schedule = optim.linear_onecycle_schedule(20, 1.0)
    >>> [round(float(schedule(step)), 3) for step in (0, 6, 17, 20)]
    [0.04, 1.0, 0.04, 0.0]
    """
    _positive("linear_onecycle_schedule", "transition_steps", transition_steps)
    scales = {
        int(pct_start * transition_steps): div_factor,
        int(pct_final * transition_steps): 1 / div_factor,
        transition_steps: 1 / final_div_factor,
    }
    return piecewise_interpolate_schedule("linear", peak_value / div_factor, scales)


def cosine_onecycle_schedule(
    transition_steps: int,
    peak_value: Any,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> Schedule:
    """Up to a peak and down to almost nothing by half cosines (Smith and Topin, arXiv:1708.07120).

    Raises:
        ValueError: `transition_steps` is not positive.

    >>> from bevel import optim
    >>> schedule = optim.cosine_onecycle_schedule(20, 1.0)
    >>> [round(float(schedule(step)), 3) for step in (0, 6, 13, 20)]
    [0.04, 1.0, 0.5, 0.0]
    """
    _positive("cosine_onecycle_schedule", "transition_steps", transition_steps)
    scales = {
        int(pct_start * transition_steps): div_factor,
        transition_steps: 1 / (div_factor * final_div_factor),
    }
    return piecewise_interpolate_schedule("cosine", peak_value / div_factor, scales)


def join_schedules(schedules: Sequence[Schedule], boundaries: Sequence[int]) -> Schedule:
    """One schedule after the other; each counts its steps from its own boundary.

    Raises:
        ValueError: there is not one boundary less than schedules.

    >>> from bevel import optim
    >>> parts = [optim.constant_schedule(1.0), optim.linear_schedule(0.0, 1.0, 2)]
    >>> schedule = optim.join_schedules(parts, [3])
    >>> [float(schedule(step)) for step in (2, 3, 4)]
    [1.0, 0.0, 0.5]
    """
    if len(boundaries) != len(schedules) - 1:
        raise ValueError(
            f"join_schedules: {len(schedules)} schedules need {len(schedules) - 1} boundaries, got "
            f"{len(boundaries)}"
        )

    def schedule(count: Any) -> Any:
        count = enter(count)
        value = schedules[0](count)
        for boundary, following in zip(boundaries, schedules[1:], strict=True):
            value = bnp.where(count < boundary, value, following(count - boundary))
        return value

    return schedule


def warmup_cosine_decay_schedule(
    init_value: Any,
    peak_value: Any,
    warmup_steps: int,
    decay_steps: int,
    end_value: Any = 0.0,
    exponent: Any = 1.0,
) -> Schedule:
    """A line up to `peak_value`, then half a cosine down to `end_value` at step `decay_steps`.

    Args:
        init_value: value at the start.
        peak_value: value after the warmup.
        warmup_steps: steps of the warmup.
        decay_steps: steps in all, the warmup included.
        end_value: value at the end.
        exponent: power of the cosine part.

    Raises:
        ValueError: `decay_steps` is not larger than `warmup_steps`.

    >>> from bevel import optim
    >>> schedule = optim.warmup_cosine_decay_schedule(0.0, 1.0, 2, 6)
    >>> [round(float(schedule(step)), 3) for step in (0, 1, 2, 4, 6)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    alpha = 0.0 if peak_value == 0 else end_value / peak_value
    decay = cosine_decay_schedule(peak_value, decay_steps - warmup_steps, alpha, exponent)
    return join_schedules(
        [linear_schedule(init_value, peak_value, warmup_steps), decay], [warmup_steps]
    )


def warmup_exponential_decay_schedule(
    init_value: Any,
    peak_value: Any,
    warmup_steps: int,
    transition_steps: int,
    decay_rate: float,
    transition_begin: int = 0,
    staircase: bool = False,
    end_value: Any = None,
) -> Schedule:
    """A line up to `peak_value`, then `exponential_decay` with the other arguments.

    >>> from bevel import optim
    >>> schedule = optim.warmup_exponential_decay_schedule(0.0, 1.0, 2, 4, 0.5)
    >>> [round(float(schedule(step)), 3) for step in (0, 1, 2, 6)]
    [0.0, 0.5, 1.0, 0.5]
    """
    decay = exponential_decay(
        peak_value, transition_steps, decay_rate, transition_begin, staircase, end_value
    )
    return join_schedules(
        [linear_schedule(init_value, peak_value, warmup_steps), decay], [warmup_steps]
    )


def sgdr_schedule(cosine_kwargs: Iterable[Mapping[str, Any]]) -> Schedule:
    """Warm restarts: one `warmup_cosine_decay_schedule` after the other (Loshchilov and Hutter,
    arXiv:1608.03983).

    >>> from bevel import optim
    >>> cycle = {"init_value": 0.0, "peak_value": 1.0, "warmup_steps": 1, "decay_steps": 3}
    >>> [round(float(optim.sgdr_schedule([cycle, cycle])(step)), 3) for step in range(5)]
    [0.0, 1.0, 0.5, 0.0, 1.0]
    """
    cycles = list(cosine_kwargs)
    ends, end = [], 0
    for kwargs in cycles:
        end += kwargs["decay_steps"]
        ends.append(end)
    return join_schedules([warmup_cosine_decay_schedule(**kwargs) for kwargs in cycles], ends[:-1])
