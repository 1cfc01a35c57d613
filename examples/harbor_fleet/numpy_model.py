"""The trained model in NumPy alone, as it ships in `predict.py`: `model.py` without dropout.

NumPy and the standard library only.
"""

import numpy as np

from .features import HORIZON, build


def network(weights, steps, ahead):
    """Corrections (N, 7) of windows `steps` (N, T, S) and the days after, `ahead` (N, 7, A)."""
    hidden = weights["first.dense_h.kernel"].shape[0]
    first = np.zeros((len(steps), hidden), np.float32)
    second = np.zeros((len(steps), hidden), np.float32)
    for day in range(steps.shape[1]):
        first = _gru(weights, "first", first, steps[:, day])
        second = _gru(weights, "second", second, first)
    calendar = ahead @ weights["calendar.kernel"]
    state = second @ weights["state.kernel"] + weights["state.bias"]
    mixed = np.maximum(calendar + state.reshape(len(steps), HORIZON, -1), 0.0)
    return (mixed @ weights["output.kernel"] + weights["output.bias"])[..., 0]


def _gru(weights, name, carry, inputs):
    from_inputs = inputs @ weights[f"{name}.dense_i.kernel"] + weights[f"{name}.dense_i.bias"]
    from_carry = carry @ weights[f"{name}.dense_h.kernel"]
    reset_i, update_i, new_i = np.split(from_inputs, 3, axis=-1)
    reset_h, update_h, new_h = np.split(from_carry, 3, axis=-1)
    update = _sigmoid(update_i + update_h)
    new = np.tanh(new_i + _sigmoid(reset_i + reset_h) * new_h)
    return (1 - update) * new + update * carry


def _sigmoid(x):
    return 0.5 * (1 + np.tanh(0.5 * x))


def forecast(known, calendar, window, factors, network):
    """Orders of the seven days after the last one of `known`, (depots, 7).

    Args:
        known: a `Fleet`.
        window: how many days a forecast looks back.
        calendar: holiday calendar `(first day, kinds)`.
        factors: calibration by depot; a depot that is not in it is taken as it is.
        network: from windows (D, window, S) and the days ahead (D, 7, A) to corrections (D, 7).

    Returns:
        Float64, NaN for a depot without one observed day.

    Raises:
        ValueError: too few days are known, or the calendar ends before the days to forecast.
    """
    if len(known.dates) < window:
        raise ValueError(
            f"a forecast looks back {window} days and the file has {len(known.dates)} "
            f"({known.dates[0]} to {known.dates[-1]}). Give a file with at least {window} days."
        )
    features = build(known.orders, known.dates, calendar)
    corrections = network(features.steps[:, -window:], features.ahead[:, -1])
    factor = np.array([factors.get(depot, 1.0) for depot in known.depots])
    orders = (
        np.maximum(np.expm1(features.base[:, -1].astype(np.float64) + corrections), 0.0)
        * factor[:, None]
    )
    return np.where(np.isfinite(known.orders).any(axis=1)[:, None], orders, np.nan)


def forecast_from(weights, known):
    """`forecast` with what `weights.npz` holds."""
    calendar = weights["holidays_first"], weights["holidays_kinds"]
    factors = dict(zip(weights["depots"].tolist(), weights["calibration"].tolist(), strict=True))
    return forecast(
        known,
        calendar,
        int(weights["window"]),
        factors,
        lambda steps, ahead: network(weights, steps, ahead),
    )
