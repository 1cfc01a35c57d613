"""What operations gets to read: forecasts, scores, a plot per city and one page for a manager."""

import base64
import csv
import html
import io
from dataclasses import dataclass

import numpy as np

from .evaluate import HELD_OUT, issue_days, score
from .features import HORIZON

NAMES = {
    "model": "Harbor Fleet model",
    "prophet": "Prophet",
    "four_week_mean": "Mean of 4 weeks",
    "seasonal_naive": "Last week again",
}
SHOWN_DAYS = 84  # days of history in a plot


@dataclass(frozen=True)
class Forecasts:
    """Forecasts of every method: `held_out[name]` (depots, 30) and `coming[name]` (depots, 7)."""

    held_out: dict
    coming: dict

    def scores(self, fleet):
        """Each method's `evaluate.score`, and the model's MAPE divided by each other method's."""
        actual = fleet.orders[:, -HELD_OUT:]
        scores = {name: score(forecast, actual) for name, forecast in self.held_out.items()}
        model = scores["model"]["mape"]
        ratios = {
            name: model / other["mape"]
            for name, other in scores.items()
            if name != "model" and model is not None and other["mape"]
        }
        return scores, ratios


def score_lines(fleet, scores, ratios):
    """The scores as lines of text."""
    first, last = fleet.dates[-HELD_OUT], fleet.dates[-1]
    lines = [
        f"mean error in percent of a day's orders, {first} to {last}, forecasts up to {HORIZON} "
        "days ahead:"
    ]
    for name in NAMES:
        if name in scores:
            ratio = f"   model / this = {ratios[name]:.2f}" if name in ratios else ""
            lines.append(f"  {NAMES[name]:<20}{_percent(scores[name]['mape']):>8}{ratio}")
    return lines


def coming_week_csv(fleet, orders):
    """The forecast of the coming week, (depots, 7), as CSV text."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["depot", "city", "date", "forecast"])
    for depot, city, row in zip(fleet.depots, fleet.cities, orders, strict=True):
        writer.writerows(
            [depot, city, fleet.dates[-1] + 1 + day, _cell(value)] for day, value in enumerate(row)
        )
    return table.getvalue()


def write_orders(path, fleet):
    """The fleet as a CSV file that reads back to the same fleet."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["date", "depot", "city", "orders"])
        for day, date in enumerate(fleet.dates):
            for depot, city, orders in zip(
                fleet.depots, fleet.cities, fleet.orders[:, day], strict=True
            ):
                writer.writerow([date, depot, city, _exact(orders)])


def _exact(count):
    return (
        "" if np.isnan(count) else int(count) if float(count).is_integer() else repr(float(count))
    )


def write_csv(path, fleet, forecasts):
    """A row per depot and day: when it was forecast, what came (if known), the forecasts."""
    issued = issue_days(fleet)
    names = list(forecasts.held_out)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["depot", "city", "issued", "date", "days_ahead", "actual", *names])
        for row, (depot, city) in enumerate(zip(fleet.depots, fleet.cities, strict=True)):
            for day in range(HELD_OUT + HORIZON):
                late = day >= HELD_OUT
                start = issued[-1] if late else issued[day // HORIZON]
                date = issued[0] + 1 + day
                source, column = (
                    (forecasts.coming, day - HELD_OUT) if late else (forecasts.held_out, day)
                )
                actual = np.nan if late else fleet.orders[row, day - HELD_OUT]
                values = [actual, *(source[name][row, column] for name in names)]
                writer.writerow(
                    [depot, city, start, date, (date - start).astype(int), *map(_cell, values)]
                )


def _cell(value):
    return (
        f"{value:.10g}"
        if float(value).is_integer()
        else f"{value:.2f}"
        if np.isfinite(value)
        else ""
    )


def write_plots(folder, fleet, forecasts):
    """A PNG per city, one panel per depot; returns {city: path}."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure

    shown = min(SHOWN_DAYS, len(fleet.dates))
    past, future = fleet.dates[-shown:], fleet.dates[-1] + np.arange(1, HORIZON + 1)
    paths = {}
    for number, city in enumerate(sorted(set(fleet.cities)), 1):
        rows = [row for row, its in enumerate(fleet.cities) if its == city]
        figure = Figure(figsize=(11, 2.4 * len(rows) + 0.6), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
        for panel, row in zip(panels, rows, strict=True):
            panel.plot(
                past, fleet.orders[row, -shown:], color="0.35", marker=".", lw=1, label="orders"
            )
            for name, color in (("prophet", "tab:orange"), ("model", "tab:blue")):
                if name in forecasts.held_out:
                    held = forecasts.held_out[name][row]
                    panel.plot(
                        fleet.dates[-HELD_OUT:], held, color=color, lw=1.3, label=NAMES[name]
                    )
            panel.plot(
                future,
                forecasts.coming["model"][row],
                color="tab:blue",
                ls="--",
                label="coming week",
            )
            panel.axvspan(fleet.dates[-HELD_OUT], fleet.dates[-1], color="0.95", zorder=0)
            panel.set_title(fleet.depots[row], loc="left", fontsize=10)
            panel.set_ylim(bottom=0)
            panel.grid(axis="y", color="0.9")
        locator = AutoDateLocator()
        panels[-1].xaxis.set_major_locator(locator)
        panels[-1].xaxis.set_major_formatter(ConciseDateFormatter(locator))
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=4)
        paths[city] = folder / f"plot-{number:02d}-{_file_name(city)}.png"
        figure.savefig(paths[city], dpi=110)
    return paths


def _file_name(city):
    return "".join(letter if letter.isalnum() else "-" for letter in city)[:60]


def write_html(path, fleet, forecasts, plots):
    """One file with everything in it, to be mailed: the coming week, how good it is, the plots."""
    scores, ratios = forecasts.scores(fleet)
    page = io.StringIO()
    page.write(
        "<!doctype html><html lang=en><meta charset=utf-8>"
        f"<title>Harbor Fleet</title><style>{STYLE}</style>"
    )
    page.write(
        f"<h1>Orders expected, {_day(fleet.dates[-1] + 1)} to "
        f"{_day(fleet.dates[-1] + HORIZON)}</h1>"
    )
    page.write(_summary(scores, ratios))
    page.write(_coming_week(fleet, forecasts.coming["model"]))
    page.write(f"<h2>How good are these numbers?</h2>{_explanation(fleet)}")
    page.write(_score_table(fleet, scores))
    for city, plot in plots.items():
        image = base64.b64encode(plot.read_bytes()).decode()
        title = html.escape(city.title())
        page.write(
            f"<h2>{title}</h2><img alt='Orders and forecasts in {title}' "
            f"src='data:image/png;base64,{image}'>"
        )
    page.write("</html>\n")
    path.write_text(page.getvalue(), encoding="utf-8")


STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}
th,td{padding:.25rem .7rem;text-align:right;border-bottom:1px solid #ddd}
th:first-child,td:first-child{text-align:left}
tr.sum td{font-weight:600;background:#f4f6f8}img{max-width:100%}
"""


def _summary(scores, ratios):
    model = scores["model"]["mape"]
    if model is None:
        return (
            "<p>No day of the last month was observed, so this forecast could not be checked.</p>"
        )
    text = (
        f"<p>Over the last {HELD_OUT} days, forecasts like these were off by <b>{model:.1%}</b> "
        "on an average day and depot"
    )
    others = ", ".join(f"{NAMES[name]} {scores[name]['mape']:.1%}" for name in ratios)
    return text + (f" (to compare: {others})" if others else "") + ".</p>"


def _explanation(fleet):
    first, last = _day(fleet.dates[-HELD_OUT]), _day(fleet.dates[-1])
    return (
        f"<p>The days from {first} to {last} were set aside. For each of them a forecast was made "
        f"up to {HORIZON} days before, without having seen it, and compared with what came. The "
        "figures are the average difference in percent of that day's orders; lower is better. "
        "Days that were not counted are left out. The forecast aims at the smallest percentage, "
        "and so lies a little below the average day where orders vary much.</p>"
    )


def _coming_week(fleet, coming):
    days = fleet.dates[-1] + np.arange(1, HORIZON + 1)
    rows = [_row("th", ["Depot", *(_day(day) for day in days), "Week"])]
    for city in sorted(set(fleet.cities)):
        inside = [row for row, its in enumerate(fleet.cities) if its == city]
        rows += [_row("td", [fleet.depots[row], *_whole(coming[row])]) for row in inside]
        rows.append(
            _row("td", [f"all of {city}", *_whole(np.nansum(coming[inside], axis=0))], "sum")
        )
    rows.append(_row("td", ["Fleet", *_whole(np.nansum(coming, axis=0))], "sum"))
    return f"<table>{''.join(rows)}</table>"


def _whole(orders):
    return [
        f"{value:,.0f}" if np.isfinite(value) else "-" for value in (*orders, np.nansum(orders))
    ]


def _score_table(fleet, scores):
    names = [name for name in NAMES if name in scores]
    rows = [_row("th", ["Depot", "days", *(NAMES[name] for name in names)])]
    for row, depot in enumerate(fleet.depots):
        errors = [_percent(scores[name]["mape_per_depot"][row]) for name in names]
        rows.append(_row("td", [depot, scores["model"]["days_per_depot"][row], *errors]))
    for measure, title in (
        ("mape", "Mean of the depots"),
        ("wape", "All errors / all orders"),
        ("bias", "Too high (+) or low (-)"),
    ):
        rows.append(
            _row("td", [title, "", *(_percent(scores[name][measure]) for name in names)], "sum")
        )
    return f"<table>{''.join(rows)}</table>"


def _percent(value):
    return "-" if value is None else f"{value:.1%}"


def _row(tag, cells, kind=""):
    inside = "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells)
    return f"<tr class='{kind}'>{inside}</tr>" if kind else f"<tr>{inside}</tr>"


def _day(day):
    return day.astype(object).strftime("%a %d %b %Y")
