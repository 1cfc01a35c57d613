"""What the model sees: a depot's recent past, day by day, and the calendar of the seven days ahead.

Counts are taken as `log(1 + orders)`, where a busy and a quiet depot differ by a constant. Each day
is described relative to the depot's own *level* (the mean of its last four weeks), and the model
predicts how far the next seven days will be from their *base*: the median of the same weekday over
the last eight weeks, which a day or two of a broken scanner do not move. Holidays and missing days
are left out of levels and bases, so that one Christmas Monday does not lower the next Mondays.

Every number at day t uses days up to t only; a test changes the future and looks.

NumPy only: this file is also part of the generated `predict.py`.
"""

from dataclasses import dataclass

import numpy as np

HORIZON = 7  # days ahead
LEVEL_WEEKS, BASE_WEEKS = 4, 8
ORDINARY, MINOR, MAJOR = 0, 1, 2  # kinds of day in a holiday calendar


@dataclass(frozen=True)
class Features:
    """Arrays of a fleet of D depots over T days, float32.

    `steps` (D, T, S) is what day t itself says, `ahead` (D, T, 7, A) what is known at the end of
    day t about each of the seven days after it, `base` (D, T, 7) the log counts a forecast starts
    from, `target` and `mask` (D, T, 7) the log counts that came and whether they were observed (and
    the depot was known by then).
    """

    steps: np.ndarray
    ahead: np.ndarray
    base: np.ndarray
    target: np.ndarray
    mask: np.ndarray


def build(orders, dates, calendar):
    """Features of `orders` (D, T), NaN where missing, on `dates` (T,), with a holiday `calendar`.

    A calendar is `(first day, kinds)`: a datetime64[D] and one of ORDINARY, MINOR, MAJOR for it and
    each day after.

    Raises:
        ValueError: the calendar does not cover the dates and the week after them.
    """
    later = np.arange(dates[0], dates[-1] + HORIZON + 1)
    days = describe_days(later, calendar)
    ordinary = days[:, 0] == ORDINARY
    depots, length = orders.shape

    seen = np.isfinite(orders)
    logs = np.log1p(np.where(seen, orders, 0.0))
    plain = seen & ordinary[:length]
    level = _level(logs, seen, plain)

    # Index T + h - 1 of the padded arrays is h days after the last one: a base looks back 7 days or
    # more.
    logs, seen, plain = (np.pad(a, ((0, 0), (0, HORIZON))) for a in (logs, seen, plain))
    plain_logs = np.where(plain, logs, np.nan)
    weekday, weeks = _median(
        np.stack([_lag(plain_logs, 7 * k, np.nan) for k in range(1, BASE_WEEKS + 1)])
    )
    extended = np.pad(level, ((0, 0), (0, HORIZON)), mode="edge")
    base_of_day = np.where(weeks > 0, weekday, _lag(extended, 7))
    surprise = seen * _lag(np.cumsum(seen, axis=1) > 0, 7) * (logs - base_of_day)
    fleet = surprise.sum(0) / np.maximum(seen.sum(0), 1)

    deviation = seen * (logs - extended)
    everywhere = [np.broadcast_to(a, seen.shape) for a in (fleet, *days[:, 1:].T)]
    steps = [deviation, surprise, seen, _lag(deviation, 7), _lag(seen, 7), *everywhere]

    base = np.where(_next(weeks, length) > 0, _next(weekday, length), level[..., None])
    known = [
        base - level[..., None],
        _next(weeks, length) / BASE_WEEKS,
        _next(_lag(surprise, 7), length),
    ]
    known += [np.broadcast_to(_next(a[None], length), base.shape) for a in days[:, 1:].T]
    known_depot = np.cumsum(seen, axis=1)[:, :length, None] >= 7
    arrays = (
        np.stack(steps, -1)[:, :length],
        np.stack(known, -1),
        base,
        _next(logs, length),
        _next(seen, length) & known_depot,
    )
    return Features(*(np.ascontiguousarray(a, np.float32) for a in arrays))


def describe_days(dates, calendar):
    """Features of `dates`, (T, 1 + C) float64: the kind of day, then what the model sees of it."""
    first, kinds = calendar
    index = (dates - first).astype(int)
    if index[0] < 1 or index[-1] >= len(kinds) - 1:
        raise ValueError(
            f"the holiday calendar covers {first} to {first + len(kinds) - 1} and is asked about "
            f"{dates[0]} to {dates[-1]}; export or build it for more years"
        )
    kind = kinds[index]
    weekday = (
        dates.astype("datetime64[D]").astype(int) + 3
    ) % 7  # Monday is 0; 1970-01-01 was a Thursday
    year_day = (dates - dates.astype("datetime64[Y]").astype("datetime64[D]")).astype(int)
    angle = 2 * np.pi * year_day / 365.25
    off = kinds == MAJOR
    before, after = off[index + 1], off[index - 1]
    free = off[index] | (weekday >= 5)
    columns = [
        kind,
        *(weekday == day for day in range(7)),
        kind == MINOR,
        kind == MAJOR,
        before & ~free,
        after & ~free,
        (year_day >= 357) | (year_day == 0),  # the days from Christmas to New Year
        np.sin(angle),
        np.cos(angle),
    ]
    return np.stack([np.asarray(c, np.float64) for c in columns], axis=-1)


def _level(logs, seen, plain):
    """Mean of the last four weeks' plain days; where there is none, the last level there was."""
    window = 7 * LEVEL_WEEKS
    use = np.where(_rolling(plain, window) > 0, plain, seen)
    count = _rolling(use, window)
    mean = _rolling(use * logs, window) / np.maximum(count, 1)
    last = np.maximum.accumulate(np.where(count > 0, np.arange(logs.shape[1]), 0), axis=1)
    return np.take_along_axis(mean, last, axis=1)


def _rolling(values, window):
    total = np.cumsum(np.pad(values * 1.0, ((0, 0), (window, 0))), axis=1)
    return total[:, window:] - total[:, :-window]


def _median(samples):
    """Median over the first axis of what is not NaN (0 where nothing is), and of how many it is."""
    ordered = np.sort(np.nan_to_num(samples, nan=np.inf), axis=0)
    count = np.isfinite(samples).sum(axis=0)
    middle = np.maximum(count - 1, 0) // 2, count // 2
    low, high = (
        np.take_along_axis(ordered, np.minimum(index, len(samples) - 1)[None], 0)[0]
        for index in middle
    )
    return np.where(count > 0, low / 2 + high / 2, 0.0), count


def _lag(values, days, fill=0.0):
    """Values of `days` days before, `fill` where there was no such day."""
    return np.pad(values, ((0, 0), (days, 0)), constant_values=fill)[:, : values.shape[1]]


def _next(values, length):
    """(D, T + 7) to (D, T, 7): for each of the first `length` days, the seven days after it."""
    return np.lib.stride_tricks.sliding_window_view(values[:, 1:], HORIZON, axis=1)[:, :length]
