"""The trained model in NumPy alone, as it ships in `predict.py`: the same arithmetic as `model.py`, without dropout.

NumPy and the standard library only.
"""

import numpy as np

from .features import HORIZON, build


def network(weights, steps, ahead):
    """Corrections to the base, (N, 7), of N windows `steps` (N, T, S) and the days after them, `ahead` (N, 7, A)."""
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


def forecast(weights, known):
    """Orders of the seven days after the last one of the `Fleet` `known`, (depots, 7), NaN for a depot never seen.

    `weights` is what `weights.npz` holds: the network, the holiday calendar, the length of a window and the
    calibration of each depot that the model was trained on; another depot gets none.
    """
    calendar = (weights["holidays_first"], weights["holidays_kinds"])
    features = build(known.orders, known.dates, calendar)
    window = int(weights["window"])
    if len(known.dates) < window:
        raise ValueError(f"a forecast looks back {window} days and is given {len(known.dates)}")
    corrections = network(weights, features.steps[:, -window:], features.ahead[:, -1])
    factors = dict(zip(weights["depots"].tolist(), weights["calibration"].tolist(), strict=True))
    factor = np.array([factors.get(depot, 1.0) for depot in known.depots])
    orders = np.maximum(np.expm1(features.base[:, -1].astype(np.float64) + corrections), 0.0) * factor[:, None]
    return np.where(np.isfinite(known.orders).any(axis=1)[:, None], orders, np.nan)
