"""The command line: train, resume, predict, evaluate.

Exit codes, for cron: 0 all is well; 2 the command or the file is wrong, nothing was written; 3 the run was written, but
its forecasts were no better than last week's numbers; 1 anything else; 130 and 143 when it was interrupted.
"""

import argparse
import dataclasses
import json
import signal
import sys
from pathlib import Path

from . import baselines
from .data import DataError, read_csv, require_history
from .evaluate import HELD_OUT, issue_days, rolling_forecasts
from .export import ExportError, check, pack, predict_source
from .holiday_calendar import us_calendar
from .report import NAMES, Forecasts, write_csv, write_html, write_orders, write_plots
from .run_folder import MARKER, RunFolderError, check_target, open_run, whole
from .simulator import simulate
from .training import WINDOW, Config, Trainer

DEFAULT_OUT = "runs/harbor_fleet"
CALENDAR_YEARS = 10  # how long an exported predict.py knows the holidays
WORSE_THAN_NAIVE = 3


def main(arguments=None):
    """Run a command and return its exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except (DataError, RunFolderError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ExportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130


def _terminate(*_):
    raise SystemExit(143)


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m examples.harbor_fleet", description="Daily orders per depot, seven days ahead."
    )
    commands = parser.add_subparsers(required=True, metavar="train | resume | predict | evaluate")

    def command(name, function, text, run):
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=function)
        if run:
            sub.add_argument("run", type=Path, help="a run folder")
        sub.add_argument("--data", type=Path, help="CSV file date,depot,orders" + (" (default: the run's)" if run else
                         " (default: a simulated fleet)"))
        return sub

    train = command("train", _train, "Train on a file, score on its last 30 days, forecast the next 7.", False)
    train.add_argument("--seed", type=int, default=0)
    resume = command("resume", _resume, "Train a run further and write it anew.", True)
    for sub, epochs, out in ((train, 200, DEFAULT_OUT), (resume, 50, None)):
        sub.add_argument("--epochs", type=_positive, default=epochs, help=f"epochs to train (default: {epochs})")
        sub.add_argument("--out", type=Path, default=out, help=f"run folder to write (default: {out or 'the same'})")
        sub.add_argument("--no-prophet", action="store_true", help="do not compare with Prophet")
    predict = command("predict", _predict, "Forecast the seven days after a file's last.", True)
    predict.add_argument("--out", type=Path, help="CSV file to write (default: the terminal)")
    command("evaluate", _evaluate, "Score a run on the last 30 days of a file.", True).add_argument(
        "--no-prophet", action="store_true", help="do not compare with Prophet"
    )
    return parser


def _positive(text):
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of epochs: write 1, 2, ...")
    return int(text)


def _train(options):
    check_target(options.out)
    fleet, name = _fleet(options.data, options.seed)
    require_history(fleet, name, HELD_OUT, WINDOW)
    trainer = _new_trainer(Config(seed=options.seed), fleet)
    return _train_and_write(trainer, fleet, name, options, options.out)


def _resume(options):
    trainer, fleet, name = _open_trainer(options, evaluating=False)
    out = options.out or options.run
    check_target(out)
    return _train_and_write(trainer, fleet, name, options, out)


def _predict(options):
    trainer, fleet, _ = _open_trainer(options, evaluating=False)
    rows = predict_rows(fleet, trainer(fleet))
    if options.out is None:
        sys.stdout.write(rows)
    else:
        options.out.write_text(rows, encoding="utf-8")
    return 0


def _evaluate(options):
    trainer, fleet, _ = _open_trainer(options, evaluating=True)
    forecasts = _forecasts(trainer, fleet, not options.no_prophet)
    _print_scores(forecasts, fleet)
    return 0


def _fleet(path, seed):
    return (simulate(seed), "the simulated fleet") if path is None else (read_csv(path), path.name)


def _new_trainer(config, fleet, last_day=None):
    last_day = fleet.dates[-HELD_OUT - 1] if last_day is None else last_day
    return Trainer(config, fleet, last_day, us_calendar(fleet.dates[0], fleet.dates[-1], CALENDAR_YEARS))
