"""Train the forecaster, resume it to the bit, and forecast with it."""

import dataclasses

import numpy as np

import bevel as bv
import bevel.numpy as bnp
from bevel import checkpoint, lax, nn, optim, random

from .features import HORIZON, build
from .model import Forecaster
from .numpy_model import forecast

WINDOW = 56  # days the model looks back
ORIGINS = 28  # of them, the days from which it forecasts while training
SEASON = 45  # days of the year around the forecast ones on which a depot is calibrated
FEWEST = 50  # forecasts that a calibration needs


@dataclasses.dataclass(frozen=True)
class Config:
    """How to train; stored in the run folder, so that `resume` goes on in the same way."""

    seed: int = 0
    hidden: int = 16
    mixed: int = 16
    dropout: float = 0.1
    batch: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1.0
    huber_delta: float = 0.25
    averaging: float = 0.99  # forecasts use a running mean of the weights


class Trainer:
    """A model in training on the days of a fleet up to `last_day`, with all that its future depends
    on.

    Args:
        config: a `Config`.
        fleet: a `Fleet`; days after `last_day` are neither fitted nor looked at.
        last_day: datetime64[D].
        calendar: holiday calendar `(first day, kinds)`.

    `train` runs epochs. After it, the trainer is a method for `evaluate.rolling_forecasts`: called
    with a `Fleet` it forecasts the seven days after its last.
    """

    def __init__(self, config, fleet, last_day, calendar):
        self.config, self.calendar, self.last_day = config, calendar, last_day
        known = fleet.until(last_day)
        self.depots = known.depots
        self.features = build(known.orders, known.dates, calendar)
        sizes = self.features.steps.shape[-1], self.features.ahead.shape[-1]
        shape = {"hidden": config.hidden, "mixed": config.mixed, "dropout": config.dropout}
        self.model = Forecaster(*sizes, **shape, rngs=nn.Rngs(params=config.seed))
        self.average = Forecaster(*sizes, **shape, rngs=nn.Rngs(params=config.seed)).eval()
        self.optimizer = nn.Optimizer(
            self.model, optim.adamw(config.learning_rate, weight_decay=config.weight_decay)
        )
        self.key = random.key(config.seed + 1)
        self.epoch = 0
        self.examples = {
            name: bnp.asarray(values)
            for name, values in (
                ("steps", self.features.steps),
                ("ahead", self.features.ahead),
                ("correction", self.features.target - self.features.base),
                ("mask", self.features.mask),
            )
        }
        self.factors = np.ones(len(self.depots))

    def train(self, epochs, progress=None):
        """Run `epochs` more epochs; `progress(epoch, loss)` is called after each."""
        for _ in range(epochs):
            self.key, epoch_key = random.split(self.key)
            loss = run_epoch(
                self.model,
                self.average,
                self.optimizer,
                self.examples,
                self.batches(),
                epoch_key,
                self.config,
            )
            self.epoch += 1
            if progress is not None:
                progress(self.epoch, float(loss))
        self.factors = self.calibration()

    def batches(self):
        """The epoch's windows: depot and first day, (steps, batch, 2) int32.

        They start every `ORIGINS` days from a random day on. Days and order depend on the seed and
        the epoch alone, so a resumed run sees the same.
        """
        rng = np.random.default_rng((self.config.seed, self.epoch))
        depots, days = self.features.steps.shape[:2]
        last = days - WINDOW
        starts = np.arange(rng.integers(min(ORIGINS, last + 1)), last + 1, ORIGINS)
        pairs = np.meshgrid(np.arange(depots), starts, indexing="ij")
        windows = np.stack(pairs, axis=-1).reshape(-1, 2)
        rng.shuffle(windows)
        # Some days fit one more: the count is the same in every epoch, so that it compiles once.
        fewest = depots * max(1, last // ORIGINS)
        batch = min(self.config.batch, fewest)
        count = fewest // batch
        return windows[: count * batch].reshape(count, batch, 2).astype(np.int32)

    def __call__(self, known):
        """Orders of the seven days after the last one of `known`, (depots, 7)."""
        factors = dict(zip(self.depots, self.factors, strict=True))
        return forecast(known, self.calendar, WINDOW, factors, self.corrections)

    def corrections(self, steps, ahead):
        """Corrections by the trained network, (N, 7), as `numpy_model.network` gives them."""
        return np.asarray(run_average(self.average, steps, ahead[:, None]))[:, 0]

    def calibration(self):
        """A factor per depot, (depots,): it makes percentage errors smallest at this time of year.

        The network fits the median, from which a bad day is as far up as down in log counts. In
        percent of the orders that came it is not: being 50 over 50 costs twice what being 50 under
        100 does. How much lower than the median one should aim depends on the depot and, where the
        weather is in the orders, on the season: the factor is fitted on the training days within
        `SEASON` days of the forecast ones, in any year. It is 1 where orders vary little.
        """
        features, days = self.features, self.features.steps.shape[1]
        ends = np.arange(days, WINDOW - 1, -ORIGINS)
        windows = np.concatenate([features.steps[:, end - WINDOW : end] for end in ends])
        parts = {
            name: np.stack([getattr(features, name)[:, end - ORIGINS : end] for end in ends])
            for name in ("ahead", "base", "target", "mask")
        }
        ahead = np.concatenate(parts["ahead"])
        corrections = np.asarray(run_average(self.average, windows, ahead))
        fitted = np.expm1(parts["base"] + corrections.reshape(parts["base"].shape))
        actual = np.expm1(parts["target"])
        # Days from the middle of the month after the last one, whole years taken off.
        day = ends[:, None, None] + np.arange(1 - ORIGINS, 1)[:, None] + np.arange(HORIZON)
        away = (day - days - 15 + 182) % 365 - 182
        use = (parts["mask"] > 0) & (actual > 0) & (fitted > 0)
        use &= (np.abs(away) <= SEASON)[:, None]
        return np.array(
            [
                _best_factor(fitted[:, depot], actual[:, depot], use[:, depot])
                for depot in range(len(self.depots))
            ]
        )

    def weights(self):
        """The arrays of `weights.npz`: all that `numpy_model.py` needs to forecast."""
        arrays = {
            ".".join(path): np.asarray(w)
            for path, w in nn.state(self.average, nn.Param).flat_state().items()
        }
        first, kinds = self.calendar
        return arrays | {
            "window": np.array(WINDOW),
            "holidays_first": np.array(first),
            "holidays_kinds": kinds,
            "depots": np.array(self.depots),
            "calibration": self.factors,
        }

    def state(self):
        """Everything the next epoch depends on, as a pytree."""
        return {
            "epoch": self.epoch,
            "key": self.key,
            "modules": nn.state((self.model, self.average, self.optimizer)),
        }

    def save(self, path):
        """Write a checkpoint."""
        checkpoint.save(path, self.state())

    def restore(self, path):
        """Go on from a checkpoint of a trainer with the same config and features."""
        saved = checkpoint.restore(path, self.state())
        self.epoch, self.key = int(saved["epoch"]), saved["key"]
        nn.update((self.model, self.average, self.optimizer), saved["modules"])
        self.factors = self.calibration()


@bv.jit(static_argnames="config")
def run_epoch(model, average, optimizer, examples, batches, key, config):
    """One pass over `batches` (steps, batch, 2) in one program; returns the mean loss."""

    def step(key, batch):
        key, dropout_key = random.split(key)
        loss, grads = bv.value_and_grad(batch_loss)(
            model, examples, batch, dropout_key, config.huber_delta
        )
        optimizer.update(grads)
        keep = config.averaging
        mean = bv.tree.map(
            lambda a, w: keep * a + (1 - keep) * w,
            nn.state(average, nn.Param),
            nn.state(model, nn.Param),
        )
        nn.update(average, mean)
        return key, loss

    _, losses = lax.scan(step, key, batches)
    return losses.mean()


def batch_loss(model, examples, batch, key, delta):
    """Mean Huber loss of the observed days, in log counts, over windows `batch` (N, 2) of depot and
    first day.
    """
    depots, days = batch[:, :1], batch[:, 1:] + bnp.arange(WINDOW)
    origins = days[:, -ORIGINS:]
    keys = random.split(key, batch.shape[0])
    corrections = bv.vmap(model)(
        examples["steps"][depots, days], examples["ahead"][depots, origins], keys
    )
    losses = optim.huber_loss(corrections, examples["correction"][depots, origins], delta=delta)
    mask = examples["mask"][depots, origins]
    return (losses * mask).sum() / bnp.maximum(mask.sum(), 1.0)


@bv.jit
def run_average(average, steps, ahead):
    """Corrections of windows `steps` (N, T, S) with `ahead` (N, K, 7, A): (N, K, 7)."""
    return bv.vmap(average)(steps, ahead)


def _best_factor(fitted, actual, use):
    """The g that minimises the sum of |g * fitted - actual| / actual; 1 if too little is to use."""
    if use.sum() < FEWEST:
        return 1.0
    ratio = actual[use] / fitted[use]
    order = np.argsort(ratio)
    weight = np.cumsum(1 / ratio[order])
    return float(ratio[order][np.searchsorted(weight, weight[-1] / 2)])
