"""The network: two GRU layers over a depot's recent days, a layer that reads the calendar ahead.

It is written for one depot and one window; `bv.vmap` makes a batch of it. At each of the last K
days of the window it gives a correction, in log counts, to the base of the seven days after that
day, so one window trains K forecasts.
"""

import bevel.numpy as bnp
from bevel import lax, nn, random

from .features import HORIZON


class Forecaster(nn.Module):
    """Corrections to the bases of the next seven days.

    Args:
        step_features, ahead_features: last axes of `Features.steps` and `Features.ahead`.
        hidden: width of each GRU layer.
        mixed: width of the layer where state and calendar meet.
        dropout: share of each layer's units that one example does without while training.
        rngs: its `params` stream draws the weights.

    >>> model = Forecaster(5, 3, hidden=8, mixed=4, dropout=0.1, rngs=nn.Rngs(0)).eval()
    >>> model(bnp.ones((56, 5)), bnp.ones((28, 7, 3))).shape
    (28, 7)
    """

    def __init__(self, step_features, ahead_features, *, hidden, mixed, dropout, rngs):
        self.first = nn.GRUCell(step_features, hidden, rngs=rngs)
        self.second = nn.GRUCell(hidden, hidden, rngs=rngs)
        self.state = nn.Linear(hidden, HORIZON * mixed, rngs=rngs)
        self.calendar = nn.Linear(ahead_features, mixed, use_bias=False, rngs=rngs)
        # Small at first: the untrained model forecasts the base.
        self.output = nn.Linear(mixed, 1, kernel_init=nn.initializers.normal(0.02), rngs=rngs)
        # One mask for all days of a window: a unit that is gone is gone for the whole sequence
        # (Gal, Ghahramani 2016).
        self.dropout = nn.Dropout(dropout, broadcast_dims=(0,))
        self.mixed_dropout = nn.Dropout(dropout, broadcast_dims=(0, 1))

    def __call__(self, steps, ahead, key=None):
        """One depot: `steps` (T, S), `ahead` (K, 7, A), a key while training; returns (K, 7)."""
        keys = (None, None, None) if key is None else random.split(key, 3)
        origins = ahead.shape[0]
        hidden = self.dropout(unroll(self.first, steps), rngs=keys[0])
        hidden = self.dropout(unroll(self.second, hidden)[-origins:], rngs=keys[1])
        state = self.state(hidden).reshape(origins, HORIZON, -1)
        mixed = self.mixed_dropout(nn.relu(self.calendar(ahead) + state), rngs=keys[2])
        return self.output(mixed)[..., 0]


def unroll(cell, inputs):
    """Run a recurrent cell over `inputs` (T, features) from zeros; all its states, (T, hidden)."""
    return lax.scan(cell, bnp.zeros(cell.hidden_features), inputs)[1]
