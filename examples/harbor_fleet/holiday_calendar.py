"""US holidays as the features want them: a first day and the kind of every day after it."""

import numpy as np

from .features import MAJOR, MINOR

# Days on which most businesses close; on the other federal holidays about half of them work.
CLOSING = ("New Year", "Memorial Day", "Independence Day", "Labor Day", "Thanksgiving", "Christmas")


def us_calendar(first, last, more_years=1):
    """The calendar `(first day, kinds)` of the years `first` to `last`, one before, some after.

    Needs the `holidays` package.

    >>> start, kinds = us_calendar(np.datetime64("2024-03-01"), np.datetime64("2024-09-30"))
    >>> str(start), int(kinds[(np.datetime64("2024-07-04") - start).astype(int)])
    ('2023-01-01', 2)
    """
    import holidays

    years = range(_year(first) - 1, _year(last) + more_years + 1)
    start, stop = np.datetime64(f"{years[0]}-01-01"), np.datetime64(f"{years[-1] + 1}-01-01")
    kinds = np.zeros((stop - start).astype(int), np.int8)
    for day, name in holidays.US(years=years).items():
        index = (np.datetime64(day) - start).astype(int)
        if 0 <= index < len(kinds):
            kinds[index] = MAJOR if any(word in name for word in CLOSING) else MINOR
    return start, kinds


def _year(day):
    return int(str(day)[:4])
