"""The forecaster in examples/harbor_fleet: files, leakage, run folders, resumption, export."""

import csv
import dataclasses
import doctest
import importlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import bevel as bv
from bevel import random
from examples.harbor_fleet import baselines, run
from examples.harbor_fleet.data import DataError, read_csv
from examples.harbor_fleet.evaluate import HELD_OUT, issue_days, rolling_forecasts, score
from examples.harbor_fleet.export import ExportError
from examples.harbor_fleet.features import build
from examples.harbor_fleet.holiday_calendar import us_calendar
from examples.harbor_fleet.main import main
from examples.harbor_fleet.report import write_orders
from examples.harbor_fleet.run_folder import RunFolderError, whole
from examples.harbor_fleet.simulator import simulate
from examples.harbor_fleet.training import WINDOW, Config, Trainer, _best_factor

ROOT = Path(__file__).parent.parent
SMALL = Config(hidden=4, mixed=4, batch=8)


def small_fleet(depots=4, days=230):
    fleet = simulate(seed=3, days=days)
    return dataclasses.replace(
        fleet,
        depots=fleet.depots[:depots],
        cities=fleet.cities[:depots],
        orders=fleet.orders[:depots],
    )


def new_trainer(fleet, config=SMALL):
    return Trainer(config, fleet, fleet.dates[-HELD_OUT - 1], run.calendar_of(fleet))


def leaves(trainer):
    return [
        np.asarray(random.key_data(x) if random.is_key(x) else x)
        for x in bv.tree.leaves(trainer.state())
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A fleet, a trainer after three epochs, and its run folder."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    fleet = small_fleet()
    trainer = new_trainer(fleet)
    trainer.train(3)
    with run.progress_bar() as bar:
        forecasts = run.all_forecasts(trainer, fleet, False, bar)
    run.write(folder, trainer, fleet, "orders.csv", forecasts)
    return fleet, trainer, folder


MODULES = ("evaluate", "holiday_calendar", "model", "simulator")


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings_run(module):
    result = doctest.testmod(importlib.import_module(f"examples.harbor_fleet.{module}"))
    assert result.attempted and not result.failed


# Files


def lines_of(fleet, tmp_path):
    write_orders(tmp_path / "good.csv", fleet)
    return (tmp_path / "good.csv").read_text().splitlines()


def without_city(lines):
    return [",".join(line.split(",")[i] for i in (0, 1, 3)) for line in lines]


def with_row(number, line):
    """The file with a new row of that number, as an editor counts."""
    return lambda lines: [*lines[: number - 1], line, *lines[number - 1 :]]


def with_count(number, text):
    """The file with another count in that row."""
    return lambda lines: [
        line.rpartition(",")[0] + "," + text if row == number else line
        for row, line in enumerate(lines, 1)
    ]


def at_the_end(line):
    return lambda lines: [*lines, line]


BAD_FILES = {
    "missing column": (
        lambda lines: ["date,depot,count", *lines[1:]],
        r"row 1: no column 'orders'.*first row date,depot,orders",
    ),
    "no header": (lambda lines: lines[1:], r"row 1: no column 'date'"),
    "empty": (lambda lines: [], r"row 1: no column"),
    "only a header": (lambda lines: lines[:1], r"no rows.*Add one row"),
    "unparseable date": (with_row(6, "03/04/2023,boston,4"), r"row 6: .*'03/04/2023'.*YYYY-MM-DD"),
    "impossible date": (with_row(6, "2023-02-30,boston,4"), r"row 6: .*'2023-02-30'"),
    "duplicate day": (
        lambda lines: [*lines, lines[8]],
        r"row \d+: depot .* already has .* on row 9.*Keep one",
    ),
    "negative": (with_count(4, "-4"), r"row 4: the count -4 is negative.*empty"),
    "not a number": (with_count(4, "many"), r"row 4: the count 'many'.*digits"),
    "infinite": (with_count(4, "inf"), r"row 4: the count 'inf'"),
    "nan": (with_count(4, "nan"), r"row 4: the count 'nan'.*empty"),
    "thousands comma": (with_count(4, "1,000"), r"row 4: 4 cells where the header has 3.*comma"),
    "no depot": (with_row(3, "2023-04-01,,5"), r"row 3: the depot is empty"),
    "typing error in a year": (
        at_the_end("2203-04-01,boston-x,5"),
        r"row \d+\) to 2203-04-01 \(row \d+\).*year",
    ),
    "no history left": (
        lambda lines: lines[: 4 * 100],
        r"row 400: no history is left after the split.*at least 142 days",
    ),
    "a depot without history": (
        at_the_end("2023-11-16,new-depot,5"),
        r"row \d+: no history is left.*'new-depot'.*Remove its rows",
    ),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_is_named_by_row_and_nothing_is_touched(kind, tmp_path, capsys):
    change, message = BAD_FILES[kind]
    lines = change(without_city(lines_of(small_fleet(), tmp_path)))
    file, out = tmp_path / "bad.csv", tmp_path / "out"
    file.write_text("".join(line + "\n" for line in lines))
    assert main(["train", "--data", str(file), "--out", str(out), "--epochs", "1"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("error: bad.csv")
    assert re.search(message, error), error
    assert not out.exists() and sorted(p.name for p in tmp_path.iterdir()) == [
        "bad.csv",
        "good.csv",
    ]


def test_files_that_cannot_be_read(tmp_path, capsys):
    assert (
        main(["train", "--data", str(tmp_path / "absent.csv"), "--out", str(tmp_path / "o")]) == 2
    )
    assert "absent.csv cannot be read" in capsys.readouterr().err
    (tmp_path / "latin.csv").write_bytes("date,depot,orders\n2023-01-01,köln,3\n".encode("latin-1"))
    with pytest.raises(DataError, match="UTF-8"):
        read_csv(tmp_path / "latin.csv")


def test_a_file_reads_back(tmp_path):
    fleet = small_fleet()
    fleet.orders[1, 7] = 2.5
    write_orders(tmp_path / "a.csv", fleet)
    got = read_csv(tmp_path / "a.csv")
    np.testing.assert_array_equal(got.orders, fleet.orders)
    np.testing.assert_array_equal(got.dates, fleet.dates)
    assert (got.depots, got.cities) == (fleet.depots, fleet.cities)


def test_absent_rows_are_missing_days_and_cities_come_from_names(tmp_path):
    text = "\ufeffDate, depot ,orders\n2023-01-03,b-x,0\n\n2023-01-01,b-y,7\n"
    text += "2023-01-01,b-x,\n2023-01-02,c,1\n"
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    fleet = read_csv(tmp_path / "a.csv")
    assert fleet.depots == ("b-x", "b-y", "c") and fleet.cities == ("b", "b", "c")
    np.testing.assert_array_equal(
        fleet.orders, [[np.nan, np.nan, 0], [7, np.nan, np.nan], [np.nan, 1, np.nan]]
    )
    (tmp_path / "b.csv").write_text("date,depot,orders\n2023-01-03,x,0\n2023-01-03,y,0\n")
    assert read_csv(tmp_path / "b.csv").cities == ("all", "all")


def test_the_simulator_repeats_itself_and_is_a_fleet():
    fleet, again, other = simulate(), simulate(), simulate(seed=1)
    assert fleet.orders.shape == (12, 548) and len(set(fleet.cities)) == 3
    np.testing.assert_array_equal(fleet.orders, again.orders)
    assert not np.array_equal(fleet.orders, other.orders, equal_nan=True)
    assert 20 < np.isnan(fleet.orders).sum() < 500


# Leakage, features, scores


def test_features_never_see_the_future():
    fleet = small_fleet()
    calendar = us_calendar(fleet.dates[0], fleet.dates[-1])
    before = build(fleet.orders, fleet.dates, calendar)
    for day in (60, 150):
        changed = fleet.orders.copy()
        changed[:, day + 1 :] = 10 * changed[:, day + 1 :] + 5
        changed[0, day + 1 : day + 20] = np.nan
        after = build(changed, fleet.dates, calendar)
        for name in ("steps", "ahead", "base"):
            seen = getattr(after, name)[:, : day + 1]
            np.testing.assert_array_equal(getattr(before, name)[:, : day + 1], seen)
        assert not np.array_equal(before.steps, after.steps)
        cut = build(fleet.orders[:, : day + 1], fleet.dates[: day + 1], calendar)
        np.testing.assert_allclose(cut.steps, before.steps[:, : day + 1], atol=1e-5)
        np.testing.assert_allclose(cut.ahead, before.ahead[:, : day + 1], atol=1e-5)


def test_counts_after_an_origin_never_change_its_forecast(trained):
    fleet, trainer, _ = trained
    methods = {
        "model": trainer,
        "naive": baselines.seasonal_naive,
        "mean": baselines.four_week_mean,
    }
    origin = 8
    changed = fleet.orders.copy()
    changed[:, -HELD_OUT + 7 :] = 3 * changed[:, -HELD_OUT + 7 :] + 50
    other = dataclasses.replace(fleet, orders=changed)
    for name, method in methods.items():
        before, _ = rolling_forecasts(method, fleet)
        after, _ = rolling_forecasts(method, other)
        np.testing.assert_array_equal(before[:, : 7 + 7], after[:, : 7 + 7], err_msg=name)
        assert not np.array_equal(before[:, 7 + origin :], after[:, 7 + origin :]), name


def test_training_never_sees_the_held_out_days():
    fleet = small_fleet()
    changed = fleet.orders.copy()
    changed[:, -HELD_OUT:] = 0
    a, b = new_trainer(fleet), new_trainer(dataclasses.replace(fleet, orders=changed))
    a.train(1)
    b.train(1)
    for x, y in zip(leaves(a), leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)
    np.testing.assert_array_equal(a.factors, b.factors)


def test_issue_days_are_a_week_apart_and_end_with_the_last_day():
    fleet = small_fleet()
    days = issue_days(fleet)
    assert [int((d - days[0]).astype(int)) for d in days] == [0, 7, 14, 21, 28, 30]
    assert days[-1] == fleet.dates[-1]


def test_missing_days_and_unknown_depots_do_not_poison_the_features():
    fleet = small_fleet()
    fleet.orders[0] = np.nan
    fleet.orders[1, :100] = np.nan
    fleet.orders[2] = 0
    fleet.orders[3, 60:140] = np.nan
    features = build(fleet.orders, fleet.dates, us_calendar(fleet.dates[0], fleet.dates[-1]))
    for field in dataclasses.fields(features):
        assert np.isfinite(getattr(features, field.name)).all(), field.name
    assert features.mask[0].sum() == 0 and features.mask[1, :100].sum() == 0


def test_a_base_is_the_median_of_the_weekday_without_holidays():
    dates = np.datetime64("2023-10-01") + np.arange(90)
    orders = np.tile(np.arange(10.0, 100.0), (1, 1))
    base = build(orders, dates, us_calendar(dates[0], dates[-1])).base
    day = 80  # 2023-12-20: the Thursdays before the 21st, without Thanksgiving
    past = [orders[0, day + 1 - 7 * k] for k in range(1, 9)]
    past = [
        x for k, x in enumerate(past, 1) if dates[day + 1 - 7 * k] != np.datetime64("2023-11-23")
    ]
    np.testing.assert_allclose(base[0, day, 0], np.median(np.log1p(past)), rtol=1e-6)


def test_a_calendar_that_ends_too_early_says_so():
    fleet = small_fleet()
    with pytest.raises(ValueError, match="holiday calendar covers"):
        build(fleet.orders, fleet.dates, (fleet.dates[0] - 5, np.zeros(100, int)))


def test_scores_of_missing_and_empty_days():
    actual = np.array([[10.0, np.nan, 0.0], [np.nan] * 3, [20.0, 20.0, 20.0]])
    got = score(np.array([[12.0, 5.0, 1.0], [1.0] * 3, [10.0, np.nan, 30.0]]), actual)
    assert got["mape_per_depot"] == [pytest.approx(0.2), None, pytest.approx(0.5)]
    assert got["mape"] == pytest.approx(0.35) and got["days_per_depot"] == [1, 0, 2]
    assert got["wape"] == pytest.approx((2 + 1 + 10 + 10) / 50)
    assert got["bias"] == pytest.approx((2 + 1 - 10 + 10) / 50)
    assert score(actual, np.full((3, 3), np.nan))["mape"] is None


def test_baselines_look_further_back_over_missing_days():
    fleet = small_fleet(depots=2, days=60)
    fleet.orders[0] = np.arange(60)
    fleet.orders[0, 53] = np.nan
    fleet.orders[1] = np.nan
    fleet.orders[1, 59] = 8
    naive, mean = baselines.seasonal_naive(fleet), baselines.four_week_mean(fleet)
    np.testing.assert_array_equal(naive[0], [46, 54, 55, 56, 57, 58, 59])
    np.testing.assert_array_equal(
        mean[0, :2], [np.mean([46, 39, 32, 25]), np.mean([54, 47, 40, 33])]
    )
    np.testing.assert_array_equal(naive[1], [np.nan] * 6 + [8])


@pytest.mark.skipif(not baselines.prophet_installed(), reason="needs prophet")
@pytest.mark.filterwarnings("ignore")
def test_prophet_forecasts_what_it_can():
    fleet = small_fleet(depots=2, days=120)
    fleet.orders[1, 1:] = np.nan
    got = baselines.prophet(fleet)
    assert np.isfinite(got[0]).all() and (got[0] >= 0).all() and np.isnan(got[1]).all()


# Training


def test_six_epochs_are_three_and_three_more(trained, tmp_path):
    fleet, three, folder = trained
    straight = new_trainer(fleet)
    straight.train(6)
    resumed = run.Run(folder).trainer(run.Run(folder).fleet(), "orders.csv")
    assert resumed.epoch == 3
    resumed.train(3)
    for x, y in zip(leaves(straight), leaves(resumed), strict=True):
        np.testing.assert_array_equal(x, y)
    np.testing.assert_array_equal(straight(fleet), resumed(fleet))
    assert not np.array_equal(straight(fleet), three(fleet))


def test_training_learns_and_dropout_differs_by_epoch():
    trainer, losses = new_trainer(small_fleet(), Config(hidden=8, mixed=8, batch=16)), []
    trainer.train(60, lambda _, loss: losses.append(loss))
    assert np.mean(losses[-10:]) < 0.93 * np.mean(losses[:5]), losses


def test_batches_are_the_same_shape_in_every_epoch_and_inside_the_data():
    for depots, days in ((1, WINDOW + 40 + HELD_OUT), (4, 230)):
        trainer = new_trainer(small_fleet(depots, days))
        shapes, seen = set(), set()
        for trainer.epoch in range(20):
            batches = trainer.batches()
            shapes.add(batches.shape)
            seen.add(batches.tobytes())
            assert batches[..., 0].max() < depots and batches[..., 1].min() >= 0
            assert batches[..., 1].max() + WINDOW <= days - HELD_OUT
        assert len(shapes) == 1 and len(seen) > 10


def test_calibration_minimises_the_percentage_error(trained):
    rng = np.random.default_rng(0)
    fitted, actual = rng.uniform(50, 100, 301), rng.uniform(10, 120, 301)
    best = _best_factor(fitted, actual, np.ones(301, bool))

    def error(factor):
        return np.mean(np.abs(factor * fitted - actual) / actual)

    assert error(best) <= min(error(g) for g in np.linspace(0.1, 2, 400))
    assert _best_factor(fitted, actual, np.zeros(301, bool)) == 1.0
    assert trained[1].factors.shape == (4,)


# Run folders


def test_a_run_folder_is_complete(trained):
    fleet, _, folder = trained
    names = {p.name for p in folder.iterdir()}
    expected = {
        "forecasts.csv",
        "metrics.json",
        "report.html",
        "orders.csv",
        "run.json",
        "checkpoint",
    }
    assert names == expected | {"weights.npz", "predict.py", "plot-01-baltimore.png"}
    with open(folder / "forecasts.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * (HELD_OUT + 7)
    assert {row["actual"] for row in rows if row["date"] > str(fleet.dates[-1])} == {""}
    assert all(1 <= int(row["days_ahead"]) <= 7 for row in rows)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert 0 < metrics["methods"]["model"]["mape"] < 1
    assert metrics["export_difference"] < 1e-4
    page = (folder / "report.html").read_text()
    assert all(depot in page for depot in fleet.depots) and "data:image/png" in page
    assert (folder / "plot-01-baltimore.png").read_bytes().startswith(b"\x89PNG")


def test_predict_needs_only_numpy(trained, tmp_path):
    fleet, trainer, folder = trained
    guard = (
        "import sys, runpy\n"
        "class Guard:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('bevel', 'jaxlib', 'holidays', 'examples'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Guard())\n"
        "script = sys.argv[1]; sys.argv = sys.argv[1:]\n"
        "runpy.run_path(script, run_name='__main__')\n"
    )
    command = [sys.executable, "-c", guard, str(folder / "predict.py"), str(folder / "orders.csv")]
    out = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    got = [float(row["forecast"]) for row in csv.DictReader(out.splitlines())]
    np.testing.assert_allclose(np.reshape(got, (4, 7)), trainer(fleet), rtol=1e-3, atol=0.01)
    (tmp_path / "bad.csv").write_text("date,depot,orders\n2023-01-01,a,-1\n")
    command[-1] = str(tmp_path / "bad.csv")
    bad = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert bad.returncode == 2 and "row 2: the count -1 is negative" in bad.stderr


def test_an_export_that_differs_is_not_written(trained, tmp_path, monkeypatch):
    fleet, trainer, _ = trained
    weights = trainer.weights()
    weights["output.bias"] = weights["output.bias"] + 0.01
    monkeypatch.setattr(trainer, "weights", lambda: weights)
    with run.progress_bar() as bar:
        forecasts = run.all_forecasts(trainer, fleet, False, bar)
    with pytest.raises(ExportError, match="differs from the model by 0.01"):
        run.write(tmp_path / "out", trainer, fleet, "x", forecasts)
    assert list(tmp_path.iterdir()) == []


def test_commands_work_from_a_run_folder(trained, tmp_path, capsys):
    fleet, trainer, folder = trained
    assert main(["predict", str(folder), "--out", str(tmp_path / "week.csv")]) == 0
    week = list(csv.DictReader((tmp_path / "week.csv").read_text().splitlines()))
    got = np.reshape([float(row["forecast"]) for row in week], (4, 7))
    np.testing.assert_allclose(got, trainer(fleet), rtol=1e-3, atol=0.01)
    assert main(["evaluate", str(folder), "--no-prophet"]) == 0
    mape = json.loads((folder / "metrics.json").read_text())["methods"]["model"]["mape"]
    assert f"{mape:.1%}" in capsys.readouterr().out
    out = tmp_path / "more"
    assert main(["resume", str(folder), "--epochs", "1", "--no-prophet", "--out", str(out)]) in (
        0,
        3,
    )
    assert json.loads((out / "run.json").read_text())["epochs"] == 4
    assert main(["predict", str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err


def test_days_the_model_was_fitted_on_are_not_scored(trained, tmp_path, capsys):
    fleet, _, folder = trained
    write_orders(tmp_path / "early.csv", fleet.until(fleet.dates[-5]))
    assert main(["evaluate", str(folder), "--data", str(tmp_path / "early.csv")]) == 2
    assert "the model was fitted on days up to" in capsys.readouterr().err


def test_a_model_no_better_than_last_week_has_its_own_exit_code(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Trainer, "__call__", lambda self, known: np.full((4, 7), 1e6))
    write_orders(tmp_path / "a.csv", small_fleet())
    arguments = ["train", "--data", str(tmp_path / "a.csv"), "--epochs", "1", "--no-prophet"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 3
    assert (tmp_path / "out" / "report.html").exists()
    assert "no better than last week" in capsys.readouterr().err


def test_a_folder_with_other_files_is_not_replaced(tmp_path, capsys):
    (tmp_path / "precious.txt").write_text("x")
    assert main(["train", "--out", str(tmp_path)]) == 2
    assert "other files" in capsys.readouterr().err
    assert (tmp_path / "precious.txt").read_text() == "x"
    with pytest.raises(RunFolderError, match="is a file"), whole(tmp_path / "precious.txt"):
        pass


def test_an_earlier_run_is_replaced_whole_or_kept(tmp_path):
    def write(text, fail=False):
        with whole(tmp_path / "run") as folder:
            (folder / "metrics.json").write_text(text)
            (folder / text).write_text("")
            if fail:
                raise OSError("disk full")

    write("one")
    write("two")
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["metrics.json", "two"]
    with pytest.raises(OSError, match="disk full"):
        write("three", fail=True)
    assert (tmp_path / "run" / "metrics.json").read_text() == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_killed_in_the_middle_leaves_no_run_folder(tmp_path):
    code = (
        "import os, signal, sys\n"
        "from examples.harbor_fleet.run_folder import whole\n"
        "with whole(sys.argv[1]) as folder:\n"
        "    (folder / 'metrics.json').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    target = tmp_path / "run"
    killed = subprocess.run([sys.executable, "-c", code, str(target)], cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL and not target.exists()
    assert len(list(tmp_path.iterdir())) == 1
    of_a_living_process = tmp_path / f".run.partial-{os.getppid()}"
    of_a_living_process.mkdir()
    with whole(target) as folder:
        (folder / "metrics.json").write_text("whole")
    assert sorted(tmp_path.iterdir()) == [of_a_living_process, target]


def test_terminated_while_training_leaves_nothing(tmp_path):
    write_orders(tmp_path / "a.csv", small_fleet())
    command = [sys.executable, "-m", "examples.harbor_fleet", "train", "--epochs", "100000"]
    process = subprocess.Popen(
        [*command, "--data", str(tmp_path / "a.csv"), "--out", str(tmp_path / "out")],
        cwd=ROOT, stderr=subprocess.PIPE,
    )  # fmt: skip
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=5)
    process.terminate()
    assert process.wait(timeout=30) == 143
    process.stderr.close()
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]
