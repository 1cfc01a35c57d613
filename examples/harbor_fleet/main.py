"""The command line: train, resume, predict, evaluate.

Exit codes, for cron: 0 all is well; 2 the command or the file is wrong, nothing was written; 3 the
run was written, but its forecasts were no better than last week's numbers; 1 anything else; 130 and
143 when it was interrupted or terminated.
"""

import argparse
import sys
from pathlib import Path

from . import run
from .data import DataError, read_csv, require_history
from .evaluate import HELD_OUT
from .export import ExportError
from .report import coming_week_csv, score_lines
from .run_folder import RunFolderError, check_target
from .simulator import simulate
from .training import WINDOW, Config, Trainer

DEFAULT_OUT = Path("runs/harbor_fleet")
WORSE_THAN_NAIVE = 3


def main(arguments=None):
    """Run a command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except (DataError, RunFolderError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (ExportError, OSError) as error:
        print(f"error: {error}; no run folder was written", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m examples.harbor_fleet",
        description="Daily orders per depot, seven days ahead.",
    )
    commands = parser.add_subparsers(required=True, metavar="train | resume | predict | evaluate")

    def command(name, function, text, from_run=True):
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=function)
        if from_run:
            sub.add_argument("run", type=Path, help="a run folder")
        default = "the run's own" if from_run else "a simulated fleet"
        sub.add_argument(
            "--data", type=Path, help=f"CSV file date,depot,orders (default: {default})"
        )
        return sub

    train = command(
        "train", _train, "Train on a file, score on its last 30 days, forecast the next 7.", False
    )
    train.add_argument("--seed", type=_whole, default=0)
    resume = command("resume", _resume, "Train a run further and write it anew.")
    predict = command("predict", _predict, "Forecast the seven days after a file's last.")
    evaluate = command("evaluate", _evaluate, "Score a run on the last 30 days of a file.")
    for sub, epochs, out in ((train, 200, DEFAULT_OUT), (resume, 50, None)):
        sub.add_argument(
            "--epochs", type=_positive, default=epochs, help=f"epochs to train (default: {epochs})"
        )
        sub.add_argument(
            "--out",
            type=Path,
            default=out,
            help=f"run folder to write (default: {out or 'the same'})",
        )
    for sub in (train, resume, evaluate):
        sub.add_argument("--no-prophet", action="store_true", help="do not compare with Prophet")
    predict.add_argument("--out", type=Path, help="CSV file to write (default: the terminal)")
    return parser


def _whole(text):
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number: write 0, 1, 2, ...")
    return int(text)


def _positive(text):
    if _whole(text) == 0:
        raise argparse.ArgumentTypeError("0 epochs train nothing: write 1, 2, ...")
    return int(text)


def _train(options):
    check_target(options.out)
    name = "the simulated fleet" if options.data is None else options.data.name
    fleet = simulate(options.seed) if options.data is None else read_csv(options.data)
    require_history(fleet, name, HELD_OUT, WINDOW)
    trainer = Trainer(
        Config(seed=options.seed), fleet, fleet.dates[-HELD_OUT - 1], run.calendar_of(fleet)
    )
    return _train_and_write(trainer, fleet, name, options, options.out)


def _resume(options):
    saved = run.Run(options.run)
    out = options.out or options.run
    check_target(out)
    fleet, name = (
        saved.fleet(options.data),
        saved.name if options.data is None else options.data.name,
    )
    require_history(fleet, name, HELD_OUT, WINDOW)
    return _train_and_write(saved.trainer(fleet, name), fleet, name, options, out)


def _train_and_write(trainer, fleet, name, options, out):
    with run.progress_bar() as bar:
        task = bar.add_task("training", total=options.epochs, note="compiling")
        trainer.train(
            options.epochs, lambda _, loss: bar.update(task, advance=1, note=f"loss {loss:.4f}")
        )
        forecasts = run.all_forecasts(trainer, fleet, not options.no_prophet, bar)
    run.write(out, trainer, fleet, name, forecasts)
    scores, ratios = forecasts.scores(fleet)
    print("\n".join(score_lines(fleet, scores, ratios)))
    print(f"written to {out}: open {out / 'report.html'}")
    naive = scores["seasonal_naive"]["mape"]
    if naive is not None and not scores["model"]["mape"] < naive:
        print("warning: these forecasts are no better than last week's numbers", file=sys.stderr)
        return WORSE_THAN_NAIVE
    return 0


def _predict(options):
    saved = run.Run(options.run)
    fleet = saved.fleet(options.data)
    text = coming_week_csv(fleet, saved.forecast(fleet))
    if options.out is None:
        sys.stdout.write(text)
    else:
        options.out.write_text(text, encoding="utf-8")
    return 0


def _evaluate(options):
    saved = run.Run(options.run)
    fleet = saved.fleet(options.data)
    saved.require_unseen(fleet, saved.name if options.data is None else options.data.name)
    with run.progress_bar() as bar:
        forecasts = run.all_forecasts(saved.forecast, fleet, not options.no_prophet, bar)
    print("\n".join(score_lines(fleet, *forecasts.scores(fleet))))
    return 0
