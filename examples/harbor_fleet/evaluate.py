"""Score forecasts as operations gets them: over the last 30 days, a new 7-day forecast every 7.

A method is a function of a `Fleet`; it is given the fleet cut at the day a forecast is issued, so
that no method can see, or be fitted on, the days it predicts.
"""

import numpy as np

from .features import HORIZON

HELD_OUT = 30  # days


def issue_days(fleet, held_out=HELD_OUT):
    """The last known day of each forecast of held-out days, and of that of the coming week."""
    first = fleet.dates[-1] - held_out
    return [*np.arange(first, fleet.dates[-1], HORIZON), fleet.dates[-1]]


def rolling_forecasts(method, fleet, held_out=HELD_OUT, progress=None):
    """Forecasts by `method`: of the held-out days (depots, held_out), of the next 7 (depots, 7)."""
    parts = []
    for day in issue_days(fleet, held_out):
        parts.append(np.asarray(method(fleet.until(day)), np.float64))
        if progress is not None:
            progress()
    return np.concatenate(parts[:-1], axis=1)[:, :held_out], parts[-1]


def score(forecast, actual):
    """Errors of forecasts (depots, days) where `actual` was observed: a dict of floats and lists.

    `mape` is the mean over depots of `mape_per_depot`, each the mean of |forecast - actual| /
    actual over the depot's observed days with at least one order; `wape` is the sum of all errors
    over the sum of all orders; `bias` the same with the errors' signs. A depot without such a day
    has None, and so has a mean over no depot.

    >>> actual = np.array([[100.0, 10.0], [np.nan, np.nan]])
    >>> score(np.array([[75.0, 12.5], [5.0, 5.0]]), actual)["mape_per_depot"]
    [0.25, None]
    """
    seen = np.isfinite(actual) & np.isfinite(forecast)
    error = np.where(seen, forecast - np.where(seen, actual, 0.0), 0.0)
    counted = seen & (actual > 0)
    share = np.where(counted, np.abs(error) / np.where(counted, actual, 1.0), 0.0)
    days = counted.sum(axis=1)
    per_depot = [float(s / n) if n else None for s, n in zip(share.sum(axis=1), days, strict=True)]
    known = [value for value in per_depot if value is not None]
    total = float(np.where(seen, actual, 0.0).sum())
    return {
        "mape": float(np.mean(known)) if known else None,
        "wape": float(np.abs(error).sum() / total) if total else None,
        "bias": float(error.sum() / total) if total else None,
        "mape_per_depot": per_depot,
        "days_per_depot": days.tolist(),
    }
