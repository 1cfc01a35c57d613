"""A made-up fleet to try the forecaster on: 12 depots in three cities, 548 days, the same for the
same seed.

Orders have a weekly shape, a year, a trend, holidays, weather that a city shares and that lasts a
few days, spike days (a sale, a strike), single missing days and outages of one to three weeks.
"""

import numpy as np

from .data import Fleet
from .features import MAJOR, MINOR
from .holiday_calendar import us_calendar

FIRST_DAY = np.datetime64("2023-04-01")
DAYS = 548
CITIES = {
    "baltimore": ("canton", "dundalk", "fells-point", "locust-point"),
    "boston": ("allston", "chelsea", "quincy", "seaport"),
    "seattle": ("ballard", "georgetown", "magnolia", "sodo"),
}
WEEK = np.log([1.08, 1.02, 1.0, 1.06, 1.22, 0.86, 0.62])  # Monday to Sunday


def simulate(seed=0, days=DAYS):
    """A `Fleet` of 12 depots over `days` days.

    >>> fleet = simulate(seed=1)
    >>> fleet.orders.shape, fleet.depots[4]
    ((12, 548), 'boston-allston')
    """
    rng = np.random.default_rng(seed)
    dates = FIRST_DAY + np.arange(days)
    depots = tuple(f"{city}-{name}" for city, names in CITIES.items() for name in names)
    cities = tuple(depot.split("-")[0] for depot in depots)
    size = len(depots)

    weekday = (dates.astype(int) + 3) % 7
    first, kinds = us_calendar(dates[0], dates[-1])
    kind = kinds[(dates - first).astype(int)]
    angle = 2 * np.pi * np.arange(days) / 365.25

    logs = rng.uniform(np.log(120), np.log(600), (size, 1))
    logs = logs + rng.normal(0.10, 0.08, (size, 1)) * np.arange(days) / 365.25
    logs = logs + (WEEK + rng.normal(0, 0.05, (size, 7)))[:, weekday]
    logs = logs + rng.uniform(0.08, 0.16, (size, 1)) * np.cos(angle + rng.normal(0, 0.3, (size, 1)))
    logs = logs + np.log(np.select([kind == MAJOR, kind == MINOR], [0.45, 0.88], 1.0))
    logs = logs + np.repeat(_weather(rng, len(CITIES), days), size // len(CITIES), axis=0)
    logs = logs + rng.normal(0, 0.03, (size, days))
    spike = rng.random((size, days)) < 0.004
    logs = logs + np.where(spike, np.log(rng.uniform(1.4, 2.0, (size, days))), 0.0)

    orders = rng.poisson(np.exp(logs)).astype(float)
    orders[rng.random((size, days)) < 0.012] = np.nan
    for depot in rng.choice(size, 4, replace=False):
        start = rng.integers(days)
        orders[depot, start : start + rng.integers(7, 22)] = np.nan
    return Fleet(dates, depots, cities, orders)


def _weather(rng, cities, days, persistence=0.6, spread=0.06):
    shocks = rng.normal(0, spread, (cities, days))
    weather = np.zeros((cities, days))
    for day in range(1, days):
        weather[:, day] = persistence * weather[:, day - 1] + shocks[:, day]
    return weather
