"""What the model has to beat: last week again, the mean of four weeks, and Prophet.

Each takes a `Fleet` as it was known on its last day and returns orders for the seven days after it,
(depots, 7).
"""

import importlib.util
import logging

import numpy as np

from .features import HORIZON


def seasonal_naive(known):
    """The latest observed day of the same weekday; NaN for a weekday that was never observed."""
    return _same_weekdays(known, 1)


def four_week_mean(known):
    """The mean of the same weekday over the last four weeks in which it was observed."""
    return _same_weekdays(known, 4)


def _same_weekdays(known, count):
    forecast = np.full((len(known.depots), HORIZON), np.nan)
    for ahead in range(HORIZON):
        past = known.orders[:, len(known.dates) + ahead - 7 :: -7]  # the same weekday, latest first
        observed = np.isfinite(past)
        use = observed & (np.cumsum(observed, axis=1) <= count)
        total = use.sum(axis=1)
        mean = np.where(use, past, 0.0).sum(axis=1) / np.maximum(total, 1)
        forecast[:, ahead] = np.where(total > 0, mean, np.nan)
    return forecast


def prophet_installed():
    """Whether the optional extra `prophet` is there."""
    return importlib.util.find_spec("prophet") is not None


def prophet(known):
    """Prophet with weekly and yearly seasons and US holidays, fitted afresh on each depot's
    observed days.

    Forecasts below zero are cut at zero. NaN for a depot with fewer than two observed days.
    """
    import pandas

    for name in ("prophet", "prophet.plot", "cmdstanpy"):
        logging.getLogger(
            name
        ).disabled = True  # several lines per fit; a level is set back at import
    from prophet import Prophet

    ahead = known.dates[-1] + np.arange(1, HORIZON + 1)
    future = pandas.DataFrame({"ds": ahead.astype("datetime64[ns]")})
    forecast = np.full((len(known.depots), HORIZON), np.nan)
    for row, orders in enumerate(known.orders):
        observed = np.isfinite(orders)
        if observed.sum() < 2:
            continue
        model = Prophet(
            weekly_seasonality=True,
            yearly_seasonality=True,
            daily_seasonality=False,
            uncertainty_samples=0,
        )
        model.add_country_holidays("US")
        model.fit(
            pandas.DataFrame(
                {"ds": known.dates[observed].astype("datetime64[ns]"), "y": orders[observed]}
            )
        )
        forecast[row] = np.maximum(model.predict(future)["yhat"].to_numpy(), 0.0)
    return forecast
