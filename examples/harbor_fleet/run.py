"""A run folder: what a training leaves behind, and what can be done with it later.

forecasts.csv    every forecast of the held-out days beside what came, and the coming week
metrics.json     the scores, per depot and in all
report.html      both for a manager, with the plots in it; plot-*.png are the plots, one per city
orders.csv       the data it was made from
run.json         how it was trained
checkpoint/      model, optimizer, random key and epoch: `resume` goes on to the bit
weights.npz      the model for predict.py, which needs NumPy only
predict.py
"""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np

from . import baselines
from .data import DataError, read_csv
from .evaluate import HELD_OUT, issue_days, rolling_forecasts
from .export import check, pack, predict_source
from .features import build
from .holiday_calendar import us_calendar
from .numpy_model import forecast_from
from .report import Forecasts, write_csv, write_html, write_orders, write_plots
from .run_folder import MARKER, open_run, whole
from .training import WINDOW, Config, Trainer

CALENDAR_YEARS = 10  # how long after the last day of the data an exported model knows the holidays


def calendar_of(fleet):
    """The holiday calendar a model of `fleet` is trained and exported with."""
    return us_calendar(fleet.dates[0], fleet.dates[-1], CALENDAR_YEARS)


def progress_bar():
    """A progress bar on the terminal; prints nothing but its last state where there is none."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}"),
        console=Console(file=sys.stderr),
    )


def all_forecasts(model, fleet, with_prophet, bar):
    """`Forecasts` by the model and by everything it is compared with."""
    methods = {
        "model": model,
        "four_week_mean": baselines.four_week_mean,
        "seasonal_naive": baselines.seasonal_naive,
    }
    note = ""
    if with_prophet and baselines.prophet_installed():
        methods["prophet"] = baselines.prophet
    elif with_prophet:
        note = "no Prophet: pip install prophet"
    task = bar.add_task("forecasting", total=len(methods) * len(issue_days(fleet)), note=note)
    both = {
        name: rolling_forecasts(method, fleet, progress=lambda: bar.advance(task))
        for name, method in methods.items()
    }
    return Forecasts(
        {name: held for name, (held, _) in both.items()},
        {name: week for name, (_, week) in both.items()},
    )


def write(out, trainer, fleet, name, forecasts):
    """Write the run folder `out`, whole or not at all.

    Raises:
        ExportError: the exported model differs from the trained one; nothing is written.
    """
    source, packed = predict_source(), pack(trainer.weights())
    batch = export_batch(trainer, fleet)
    difference = check(source, packed, *batch, trainer.corrections(*batch))
    scores, ratios = forecasts.scores(fleet)
    held_out = {
        "first": str(fleet.dates[-HELD_OUT]),
        "last": str(fleet.dates[-1]),
        "days": HELD_OUT,
    }
    metrics = {
        "held_out": held_out,
        "depots": fleet.depots,
        "methods": scores,
        "model_mape_over": ratios,
        "export_difference": difference,
    }
    settings = {
        "data": name,
        "trained_until": str(trainer.last_day),
        "epochs": trainer.epoch,
        "config": dataclasses.asdict(trainer.config),
    }
    with whole(out) as folder:
        write_orders(folder / "orders.csv", fleet)
        write_csv(folder / "forecasts.csv", fleet, forecasts)
        write_html(folder / "report.html", fleet, forecasts, write_plots(folder, fleet, forecasts))
        (folder / "run.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        trainer.save(folder / "checkpoint")
        (folder / "weights.npz").write_bytes(packed)
        (folder / "predict.py").write_text(source, encoding="utf-8")
        (folder / MARKER).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")


def export_batch(trainer, fleet):
    """Windows over the whole fleet, (N, T, S) and (N, 7, A), as many as a training batch has."""
    features = build(fleet.orders, fleet.dates, trainer.calendar)
    ends = np.linspace(
        WINDOW, len(fleet.dates), max(1, trainer.config.batch // len(fleet.depots))
    ).astype(int)
    steps = np.concatenate([features.steps[:, end - WINDOW : end] for end in ends])
    ahead = np.concatenate([features.ahead[:, end - 1] for end in ends])
    return steps[: trainer.config.batch], ahead[: trainer.config.batch]


class Run:
    """A finished run folder.

    Raises:
        RunFolderError: `folder` is not one.
    """

    def __init__(self, folder):
        self.folder = open_run(folder)
        settings = json.loads((self.folder / "run.json").read_text(encoding="utf-8"))
        self.name = settings["data"]
        self.config = Config(**settings["config"])
        self.trained_until = np.datetime64(settings["trained_until"], "D")
        with np.load(self.folder / "weights.npz") as weights:
            self.weights = {name: weights[name] for name in weights.files}

    def fleet(self, path=None):
        """The fleet in a CSV file, by default the one this run was made from."""
        return read_csv(self.folder / "orders.csv" if path is None else Path(path))

    def forecast(self, known):
        """Orders of the seven days after the last one of `known`, (depots, 7)."""
        try:
            return forecast_from(self.weights, known)
        except ValueError as error:
            raise DataError(str(error)) from None

    def require_unseen(self, fleet, name):
        """Refuse a fleet whose last 30 days the model was fitted on.

        Raises:
              DataError: some were.
        """
        first = fleet.dates[-min(HELD_OUT, len(fleet.dates))]
        if first <= self.trained_until:
            raise DataError(
                f"{name}: its last {HELD_OUT} days begin on {first}, and the model was fitted on "
                f"days up to {self.trained_until}. Scores on them would mean nothing: give a file "
                f"that runs to {self.trained_until + HELD_OUT} or later, or train anew."
            )

    def trainer(self, fleet, name):
        """A `Trainer` on `fleet` that goes on where this run stopped."""
        self.require_unseen(fleet, name)
        trainer = Trainer(self.config, fleet, fleet.dates[-HELD_OUT - 1], calendar_of(fleet))
        trainer.restore(self.folder / "checkpoint")
        return trainer
