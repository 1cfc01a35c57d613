"""Daily orders per depot, read from a CSV file `date,depot,orders`.

A day that is absent from the file, or whose `orders` cell is empty, is *missing*: it is kept as NaN
and masked everywhere, never filled with a number. Everything else that is odd about a file stops
the program with one `DataError` that names the row and says what to do.

NumPy and the standard library only: this file is also part of the generated `predict.py`.
"""

import csv
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

COLUMNS = ("date", "depot", "orders")
LONGEST_SPAN = 15 * 366  # days; a longer file almost always has a typing error in a year


class DataError(ValueError):
    """The user's file cannot be used; the message says which row and what to do about it."""


@dataclass(frozen=True)
class Fleet:
    """Daily orders of a fleet: one row per depot, one column per calendar day without gaps.

    `dates` is datetime64[D] of shape (days,), `orders` float64 of shape (depots, days) with NaN
    where a day is missing, `depots` and `cities` are tuples of names, one per depot; `last_rows`
    says on which row of the file each depot's last day is, for messages.
    """

    dates: np.ndarray
    depots: tuple
    cities: tuple
    orders: np.ndarray
    last_rows: tuple = ()

    def until(self, day):
        """The same fleet as it was known at the end of `day` (a datetime64[D])."""
        known = self.dates <= np.datetime64(day, "D")
        return replace(self, dates=self.dates[known], orders=self.orders[:, known])


def read_csv(path):
    """Read a file with the columns `date,depot,orders` and, if present, `city`, into a `Fleet`.

    Dates are written YYYY-MM-DD and may come in any order; the fleet runs from the first to the
    last of them. The city of a depot is its `city` cell or, without that column, the first word of
    its name ("boston-seaport" is in "boston"); where that would leave every depot alone, all depots
    form one group.

    Raises:
        DataError: the file is absent, empty or not UTF-8 text; a column is missing; a row has a
            date that cannot be read, no depot, a count that is negative or not a number, or a depot
            and day that an earlier row has.
    """
    path = Path(path)
    counts, row_of, cities, dates = {}, {}, {}, {}
    for row, cells in _rows(path):
        where = f"{path.name}, row {row}"
        day = _parse_date(cells["date"], where)
        depot = cells["depot"].strip()
        if not depot:
            raise DataError(f"{where}: the depot is empty. Write the depot's name in every row.")
        if (depot, day) in counts:
            raise DataError(
                f"{where}: depot {depot!r} already has {day} on row {row_of[depot, day]}. "
                "Keep one of the two rows, or add them up, and run again."
            )
        row_of[depot, day] = row
        dates.setdefault(day, row)
        counts[depot, day] = _parse_count(cells["orders"], where)
        city = (cells.get("city") or "").strip()
        if cities.setdefault(depot, city) != city:
            raise DataError(
                f"{where}: depot {depot!r} is in city {city!r} here and in {cities[depot]!r} "
                "before. A depot is in one city: correct the row."
            )
    if not counts:
        raise DataError(f"{path.name} has a header and no rows. Add one row per depot and day.")
    first, last = min(dates), max(dates)
    if (last - first).astype(int) > LONGEST_SPAN:
        raise DataError(
            f"{path.name} runs from {first} (row {dates[first]}) to {last} (row {dates[last]}), "
            f"more than {LONGEST_SPAN // 366} years. Correct the year of the wrong row, or keep "
            "only recent years."
        )
    depots = tuple(sorted(cities))
    days = np.arange(first, last + 1)
    orders = np.full((len(depots), len(days)), np.nan)
    column = {depot: i for i, depot in enumerate(depots)}
    latest = {}
    for (depot, day), count in counts.items():
        orders[column[depot], (day - first).astype(int)] = count
        latest[depot] = max(latest.get(depot, day), day)
    last_rows = tuple(row_of[depot, latest[depot]] for depot in depots)
    return Fleet(days, depots, _cities(depots, cities), orders, last_rows)


def require_history(fleet, name, held_out, history):
    """Refuse a fleet with nothing left to learn from once the last `held_out` days are set aside.

    `history` is the number of days a forecast looks back; a fleet needs twice that before the
    split, and each depot at least one observed week there.

    Raises:
        DataError: too few days in all, or for one depot.
    """
    days = len(fleet.dates)
    needed = held_out + 2 * history
    if days < needed:
        raise DataError(
            f"{name}{_at(max(fleet.last_rows, default=None))}: no history is left after the split. "
            f"The file covers {days} days, from {fleet.dates[0]} to {fleet.dates[-1]}; without the "
            f"last {held_out} it has {max(days - held_out, 0)}, and the model needs "
            f"{2 * history}. Give at least {needed} days."
        )
    observed = np.isfinite(fleet.orders[:, : days - held_out]).sum(axis=1)
    for number, (depot, seen) in enumerate(zip(fleet.depots, observed, strict=True)):
        if seen < 7:
            row = fleet.last_rows[number] if fleet.last_rows else None
            raise DataError(
                f"{name}{_at(row)}: no history is left after the split. Depot {depot!r}, whose "
                f"last row this is, has {seen} counted days before {fleet.dates[-held_out]}, where "
                "the held-out days begin, and needs 7. Remove its rows, or wait until it has more."
            )


def _at(row):
    return "" if row is None else f", row {row}"


def _rows(path):
    """Yield (row number as an editor shows it, cells by column) for every row that is not blank."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            names = [name.strip().lower() for name in next(reader, [])]
            _check_header(names, path)
            for cells in reader:
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) != len(names):
                    raise DataError(
                        f"{path.name}, row {reader.line_num}: {len(cells)} cells where the header "
                        f"has {len(names)}. Write one cell per column; a count is written without "
                        "a thousands comma."
                    )
                yield reader.line_num, dict(zip(names, cells, strict=True))
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}). Give the path of a CSV file."
        ) from None
    except UnicodeDecodeError:
        raise DataError(
            f"{path.name} is not UTF-8 text. Save it as 'CSV UTF-8' and run again."
        ) from None
    except csv.Error as error:
        raise DataError(
            f"{path.name}, row {reader.line_num}: {error}. Save the file as plain CSV."
        ) from None


def _check_header(names, path):
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        found = ",".join(names) or "nothing"
        raise DataError(
            f"{path.name}, row 1: no column {' and no column '.join(map(repr, missing))}; the "
            f"header has {found}. Make the first row {','.join(COLUMNS)}."
        )
    if len(set(names)) != len(names):
        raise DataError(
            f"{path.name}, row 1: a column name appears twice in {','.join(names)}. Rename one of "
            "them."
        )


def _parse_date(text, where):
    text = text.strip()
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        try:
            return np.datetime64(text, "D")
        except ValueError:
            pass
    raise DataError(
        f"{where}: the date {text!r} is not a day. Write it as YYYY-MM-DD, for example 2018-03-31."
    )


def _parse_count(text, where):
    text = text.strip()
    if not text:
        return np.nan
    try:
        count = float(text)
    except ValueError:
        count = np.nan
    if not np.isfinite(count):
        raise DataError(
            f"{where}: the count {text!r} is not a number. Write digits only, or leave the cell "
            "empty if the day was not counted."
        )
    if count < 0:
        raise DataError(
            f"{where}: the count {text} is negative. Write the number of orders, or leave the cell "
            "empty if the day was not counted."
        )
    return count


def _cities(depots, given):
    if any(given[depot] for depot in depots):
        return tuple(given[depot] or "other" for depot in depots)
    words = tuple(re.split(r"[-_/. ]", depot, maxsplit=1)[0] for depot in depots)
    return words if len(set(words)) < len(words) else ("all",) * len(depots)
