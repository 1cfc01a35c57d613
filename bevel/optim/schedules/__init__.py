"""Schedules: functions of the step; and hyperparameters that follow them in the state."""

from bevel.core.lazy import attach

TABLE = {
    "bevel.optim.schedules.curves": [
        "constant_schedule",
        "cosine_decay_schedule",
        "cosine_onecycle_schedule",
        "exponential_decay",
        "join_schedules",
        "linear_onecycle_schedule",
        "linear_schedule",
        "piecewise_constant_schedule",
        "piecewise_interpolate_schedule",
        "polynomial_schedule",
        "sgdr_schedule",
        "warmup_constant_schedule",
        "warmup_cosine_decay_schedule",
        "warmup_exponential_decay_schedule",
    ],
    "bevel.optim.schedules.inject": [
        "InjectHyperparamsState",
        "InjectStatefulHyperparamsState",
        "WrappedSchedule",
        "inject_hyperparams",
        "inject_hyperparams as inject_stateful_hyperparams",
    ],
}
"""Where each schedule is, for `bevel.optim` too."""

__getattr__, __dir__, __all__ = attach(
    __name__, {"bevel.optim.base": ["Schedule", "StatefulSchedule"], **TABLE}
)
