"""What goes around another optimizer: SAM, schedule-free steps, plateaus, complex parameters,
privacy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import bevel.numpy as bnp
from bevel import lax, random
from bevel.core import dtypes
from bevel.core import tree as _tree
from bevel.nn.updates import apply_updates
from bevel.numpy.convert import enter
from bevel.optim import tree
from bevel.optim.aliases import sgd
from bevel.optim.base import (
    GradientTransformation,
    GradientTransformationExtraArgs,
    ScalarOrSchedule,
    chain,
    identity,
    params_of,
    safe_increment,
    stateless,
    with_extra_args_support,
    zero_count,
)
from bevel.optim.clipping import per_example_global_norm_clip
from bevel.optim.moments import scale_by_rms
from bevel.optim.noise import key_from
from bevel.optim.scaling import add_decayed_weights, scale_by_learning_rate, trace
from bevel.optim.schedules.curves import warmup_constant_schedule


class SAMState(NamedTuple):
    """Steps since the last whole one, both optimizers' states, and the parameters to return to."""

    steps_since_sync: Any
    opt_state: Any
    adv_state: Any
    cache: Any


class ScheduleFreeState(NamedTuple):
    """The mix of the parameters, sum of weights, step, largest rate, inner state, and the base."""

    b1: Any
    weight_sum: Any
    step_count: Any
    max_lr: Any
    base_optimizer_state: Any
    z: Any


class ReduceLROnPlateauState(NamedTuple):
    """The factor, the best value, counts of steps without progress and of rest, and the mean."""

    scale: Any
    best_value: Any
    plateau_count: Any
    cooldown_count: Any
    count: Any
    avg_value: Any


class SplitRealAndImaginaryArrays(NamedTuple):
    """A complex array as two real ones."""

    real: Any
    imaginary: Any


class SplitRealAndImaginaryState(NamedTuple):
    """The inner state."""

    inner_state: Any


class DifferentiallyPrivateAggregateState(NamedTuple):
    """The key of the next noise."""

    rng_key: Any


# -- sharpness-aware minimization ------------------------------------------------------------------


def normalize() -> GradientTransformation:
    """Divides updates by their norm as one vector.

    >>> from bevel.optim import contrib
    >>> tx, x = contrib.normalize(), bnp.array([3.0, -4.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([ 0.6, -0.8], dtype=float32)
    """

    def divided(updates: Any, params: Any) -> Any:
        norm = tree.norm(updates)
        return _tree.map(lambda g: g / norm, updates)

    return stateless(divided)


def sam(
    optimizer: GradientTransformation,
    adv_optimizer: GradientTransformation,
    sync_period: int = 2,
    reset_state: bool = True,
    opaque_mode: bool = False,
    batch_axis_name: str | None = None,
) -> GradientTransformationExtraArgs:
    """Steps by the gradient at the worst parameters near by (Foret et al., "Sharpness-Aware
    Minimization", 2020, arXiv:2010.01412).

    Of `sync_period` calls all but the last go uphill with `adv_optimizer`; the last returns and
    steps with `optimizer`. In opaque mode one call does all of it, and takes the gradient:
    `tx.update(grads, state, params, grad_fn=lambda params, i: ...)`.

    Args:
        optimizer: of the parameters.
        adv_optimizer: of the uphill steps, such as `chain(normalize(), sgd(0.05))`.
        sync_period: calls, or gradients, of a whole step.
        reset_state: whether `adv_optimizer` starts afresh after one.
        opaque_mode: whether a call is a whole step.
        batch_axis_name: axis over which gradients of `grad_fn` are averaged.

    Raises:
        ValueError: the period is below 1, or (in update) no `grad_fn` in opaque mode.

    >>> from bevel import optim
    >>> up = optim.chain(optim.contrib.normalize(), optim.sgd(0.1))
    >>> tx, x = optim.contrib.sam(optim.sgd(0.1), up, opaque_mode=True), bnp.array([1.0])
    >>> tx.update(2 * x, tx.init(x), x, grad_fn=lambda x, i: 2 * x)[0].round(3)
    Array([-0.22], dtype=float32)
    """
    if sync_period < 1:
        raise ValueError(f"sam: sync_period is a number of steps, got {sync_period!r}")

    def init(params: Any) -> SAMState:
        return SAMState(
            zero_count(),
            optimizer.init(params),
            adv_optimizer.init(params),
            None if opaque_mode else params,
        )

    def one_call(updates: Any, state: Any, params: Any, grad_fn: Any) -> tuple[Any, SAMState]:
        first = state.steps_since_sync == 0
        last = state.steps_since_sync == sync_period - 1
        up, adv_state = adv_optimizer.update(updates, state.adv_state, params)
        down, opt_state = optimizer.update(updates, state.opt_state, state.cache)
        home = _tree.map(lambda c, p, u: c - p + u, state.cache, params, down)
        again = adv_optimizer.init(params) if reset_state else state.adv_state
        return tree.where(last, home, _tree.map(lambda u: -u, up)), SAMState(
            (state.steps_since_sync + 1) % sync_period,
            tree.where(last, opt_state, state.opt_state),
            tree.where(last, again, adv_state),
            tree.where(first, params, state.cache),
        )

    def whole_step(updates: Any, state: Any, params: Any, grad_fn: Any) -> tuple[Any, SAMState]:
        if grad_fn is None:
            raise ValueError(
                "sam: in opaque mode update needs the gradient.\n"
                "Write instead: tx.update(grads, state, params, "
                "grad_fn=lambda params, i: bv.grad(loss)(params, batch))."
            )
        worst, adv_state = params, state.adv_state
        for i in range(sync_period - 1):
            up, adv_state = adv_optimizer.update(updates, adv_state, worst)
            worst = apply_updates(worst, _tree.map(lambda u: -u, up))
            updates = grad_fn(worst, i)
            if batch_axis_name is not None:
                updates = lax.pmean(updates, batch_axis_name)
        updates, opt_state = optimizer.update(updates, state.opt_state, params)
        adv_state = adv_optimizer.init(params) if reset_state else adv_state
        return updates, SAMState(zero_count(), opt_state, adv_state, None)

    step = whole_step if opaque_mode else one_call

    def update(
        updates: Any,
        state: Any,
        params: Any = None,
        *,
        grad_fn: Callable[[Any, int], Any] | None = None,
        **extra: Any,
    ) -> tuple[Any, SAMState]:
        return step(updates, state, params_of("sam", params), grad_fn)

    return GradientTransformationExtraArgs(init, update)


# -- schedule-free ---------------------------------------------------------------------------------


def schedule_free_eval_params(state: Any, params: Any) -> Any:
    """The parameters to evaluate with, from those that are trained with `schedule_free`.

    Raises:
        ValueError: the state is not that of `schedule_free`.

    >>> from bevel.optim import contrib
    >>> tx, params = contrib.schedule_free_sgd(), bnp.ones(1)
    >>> contrib.schedule_free_eval_params(tx.init(params), params)
    Array([1.], dtype=float32)
    """
    b1, z = getattr(state, "b1", None), getattr(state, "z", None)
    if b1 is None or z is None:
        raise ValueError(
            "schedule_free_eval_params: the state is a ScheduleFreeState, not "
            f"{type(state).__name__}.\nWrite instead: "
            "optim.tree.get(state, 'ScheduleFreeState') for its place in a chain's state."
        )
    return _averaged(params, z, b1)


def _averaged(params: Any, base: Any, b1: Any) -> Any:
    return _tree.map(lambda y, z: (y - (1.0 - b1) * z) / b1, params, base)


def schedule_free(
    base_optimizer: GradientTransformation,
    learning_rate: ScalarOrSchedule,
    b1: Any = 0.9,
    weight_lr_power: Any = 2.0,
    state_dtype: Any = None,
) -> GradientTransformationExtraArgs:
    """Averages parameters in place of a schedule that falls (Defazio et al., "The Road Less
    Scheduled", 2024, arXiv:2405.15682). Evaluate with `schedule_free_eval_params`.

    Args:
        base_optimizer: without momentum, with this learning rate.
        learning_rate: number or schedule.
        b1: how near to the average gradients are taken.
        weight_lr_power: power of the learning rate that weights the average.
        state_dtype: dtype the base is kept at.

    >>> from bevel import optim
    >>> tx, x = optim.contrib.schedule_free(optim.sgd(0.1), 0.1), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.1,  0.2], dtype=float32)
    """
    inner = with_extra_args_support(base_optimizer)

    def init(params: Any) -> ScheduleFreeState:
        dtype = tree.dtype(params, "lowest")
        zero = bnp.zeros((), dtype)
        return ScheduleFreeState(
            bnp.asarray(b1, dtype),
            zero,
            bnp.ones((), dtypes.int32),
            zero,
            inner.init(params),
            tree.cast(_tree.map(bnp.array, params), state_dtype),
        )

    def update(
        updates: Any, state: Any, params: Any = None, **extra: Any
    ) -> tuple[Any, ScheduleFreeState]:
        params = params_of("schedule_free", params)
        rate = learning_rate(state.step_count) if callable(learning_rate) else learning_rate
        largest = bnp.maximum(state.max_lr, bnp.asarray(rate, state.max_lr.dtype))
        weight = largest**weight_lr_power
        total = state.weight_sum + weight
        share = bnp.where(total == 0, 0.0, weight / bnp.where(total == 0, 1.0, total))
        steps, inner_state = inner.update(updates, state.base_optimizer_state, params, **extra)
        z = apply_updates(state.z, steps)

        def move(x: Any, new: Any, y: Any) -> Any:
            x = (1.0 - share) * x + share * new
            return b1 * x + (1.0 - b1) * new - y

        out = _tree.map(move, _averaged(params, state.z, b1), z, params)
        return out, ScheduleFreeState(
            state.b1, total, safe_increment(state.step_count), largest, inner_state, z
        )

    return GradientTransformationExtraArgs(init, update)


def _warmed_up(learning_rate: Any, warmup_steps: int | None) -> ScalarOrSchedule:
    if warmup_steps is None:
        return learning_rate
    return warmup_constant_schedule(0, learning_rate, warmup_steps)


def schedule_free_sgd(
    learning_rate: Any = 1.0,
    warmup_steps: int | None = None,
    b1: Any = 0.9,
    weight_decay: Any = None,
    weight_lr_power: Any = 2.0,
    state_dtype: Any = None,
) -> GradientTransformationExtraArgs:
    """`schedule_free` gradient descent (Defazio et al., arXiv:2405.15682).

    Args:
        learning_rate: number.
        warmup_steps: steps in which it rises from 0, or None.
        b1: as for `schedule_free`.
        weight_decay: strength, or None.
        weight_lr_power: as for `schedule_free`.
        state_dtype: as for `schedule_free`.

    >>> from bevel.optim import contrib
    >>> tx, x = contrib.schedule_free_sgd(0.1), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.1,  0.2], dtype=float32)
    """
    rate = _warmed_up(learning_rate, warmup_steps)
    inner = sgd(rate)
    if weight_decay is not None:
        inner = chain(add_decayed_weights(weight_decay), inner)
    return schedule_free(inner, rate, b1, weight_lr_power, state_dtype)


def schedule_free_adamw(
    learning_rate: Any = 0.0025,
    warmup_steps: int | None = None,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
    weight_decay: Any = 0.0,
    weight_lr_power: Any = 2.0,
    state_dtype: Any = None,
) -> GradientTransformationExtraArgs:
    """`schedule_free` AdamW (Defazio et al., arXiv:2405.15682).

    Args:
        learning_rate: number.
        warmup_steps: steps in which it rises from 0, or None.
        b1: as for `schedule_free`.
        b2: decay of the second moment.
        eps: added to the denominator.
        weight_decay: strength.
        weight_lr_power: as for `schedule_free`.
        state_dtype: as for `schedule_free`.

    >>> from bevel.optim import contrib
    >>> tx, x = contrib.schedule_free_adamw(0.1), bnp.array([1.0, -2.0])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.1,  0.1], dtype=float32)
    """
    rate = _warmed_up(learning_rate, warmup_steps)
    inner = chain(
        scale_by_rms(b2, eps, eps_in_sqrt=False, bias_correction=True),
        add_decayed_weights(weight_decay),
        scale_by_learning_rate(rate),
    )
    return schedule_free(inner, rate, b1, weight_lr_power, state_dtype)


# -- plateaus --------------------------------------------------------------------------------------


def reduce_on_plateau(
    factor: float = 0.1,
    patience: Any = 10,
    rtol: float = 1e-4,
    atol: float = 0.0,
    cooldown: Any = 0,
    accumulation_size: Any = 1,
    min_scale: Any = 0.0,
) -> GradientTransformationExtraArgs:
    """Scales updates down when a value stops to fall, as `torch.optim.lr_scheduler`'s
    ReduceLROnPlateau does.

    `update` takes the value: `tx.update(grads, state, params, value=loss)`.

    Args:
        factor: of a reduction.
        patience: how many values without progress to wait.
        rtol: least progress, relative to the best value.
        atol: least progress.
        cooldown: how many values to ignore after a reduction.
        accumulation_size: how many values are averaged to one.
        min_scale: least scale.

    Raises:
        ValueError: the factor is not between 0 and 1, or the tolerances are not positive.

    >>> from bevel.optim import contrib
    >>> tx = contrib.reduce_on_plateau(0.5, patience=1)
    >>> _, state = tx.update(bnp.ones(1), tx.init(bnp.zeros(1)), value=1.0)
    >>> tx.update(bnp.ones(1), state, value=1.0)[0]
    Array([0.5], dtype=float32)
    """
    if not 0 < factor < 1:
        raise ValueError(f"reduce_on_plateau: factor is between 0 and 1, got {factor}")
    if not 0 <= rtol <= 1 or atol < 0 or rtol == atol == 0:
        raise ValueError(
            "reduce_on_plateau: rtol is between 0 and 1, atol not negative, and one of them "
            f"positive, got rtol={rtol} and atol={atol}"
        )

    def init(params: Any) -> ReduceLROnPlateauState:
        lowest, highest = tree.dtype(params, "lowest"), tree.dtype(params, "highest")
        return ReduceLROnPlateauState(
            bnp.ones((), lowest),
            bnp.array(bnp.inf, highest),
            zero_count(),
            zero_count(),
            zero_count(),
            bnp.zeros((), highest),
        )

    def judged(state: Any, mean: Any) -> ReduceLROnPlateauState:
        """The state after a whole mean."""
        better = mean < (1 - rtol) * state.best_value - atol
        waited = bnp.where(better, 0, safe_increment(state.plateau_count))
        resting = state.cooldown_count > 0
        reduce = ~resting & (waited == patience)
        return ReduceLROnPlateauState(
            bnp.where(
                resting,
                state.scale,
                bnp.maximum(bnp.where(reduce, state.scale * factor, state.scale), min_scale),
            ),
            bnp.where(better, mean, state.best_value),
            bnp.where(resting | reduce, 0, waited),
            bnp.where(resting, state.cooldown_count - 1, bnp.where(reduce, cooldown, 0)),
            zero_count(),
            bnp.zeros_like(mean),
        )

    def update(
        updates: Any, state: Any, params: Any = None, *, value: Any, **extra: Any
    ) -> tuple[Any, ReduceLROnPlateauState]:
        count = safe_increment(state.count)
        mean = (state.count * state.avg_value + bnp.asarray(value, state.avg_value.dtype)) / count
        mean = mean.astype(state.avg_value.dtype)
        new = tree.where(
            count == accumulation_size,
            judged(state, mean),
            state._replace(count=count, avg_value=mean),
        )
        new = tree.cast_like(new, state)
        return tree.scale(new.scale, updates), new

    return GradientTransformationExtraArgs(init, update)


# -- complex parameters ----------------------------------------------------------------------------


def split_real_and_imaginary(inner: GradientTransformation) -> GradientTransformation:
    """A transformation that sees each complex array as two real ones.

    >>> from bevel import optim
    >>> tx, x = optim.contrib.split_real_and_imaginary(optim.adam(0.1)), bnp.array([3 - 4j])
    >>> tx.update(x, tx.init(x), x)[0].round(3)
    Array([-0.1+0.1j], dtype=complex64)
    """

    def split(x: Any) -> Any:
        if dtypes.is_complex(enter(x).dtype):
            return SplitRealAndImaginaryArrays(bnp.real(x), bnp.imag(x))
        return x

    def is_pair(x: Any) -> bool:
        return isinstance(x, SplitRealAndImaginaryArrays)

    def update(
        updates: Any, state: Any, params: Any = None
    ) -> tuple[Any, SplitRealAndImaginaryState]:
        updates, new = inner.update(
            _tree.map(split, updates), state.inner_state, _tree.map(split, params)
        )
        joined = _tree.map(
            lambda x: x.real + 1j * x.imaginary if is_pair(x) else x, updates, is_leaf=is_pair
        )
        return joined, SplitRealAndImaginaryState(new)

    return GradientTransformation(
        lambda params: SplitRealAndImaginaryState(inner.init(_tree.map(split, params))), update
    )


# -- privacy ---------------------------------------------------------------------------------------


def differentially_private_aggregate(
    l2_norm_clip: Any, noise_multiplier: Any, key: Any = None, *, seed: int | None = None
) -> GradientTransformation:
    """The mean over examples of gradients cut to a norm, with noise (Abadi et al., "Deep Learning
    with Differential Privacy", 2016, arXiv:1607.00133).

    Updates are gradients of each example, (examples, ...): `bv.vmap(bv.grad(loss), (None, 0))`.

    Args:
        l2_norm_clip: largest norm of one example's gradients.
        noise_multiplier: standard deviation of the noise, relative to that.
        key: random key, or a seed (0).
        seed: another name for a `key` that is a number.

    Raises:
        ValueError: both key and seed, or (in update) the first axes differ.

    >>> from bevel.optim import contrib
    >>> tx = contrib.differentially_private_aggregate(1.0, 0.0, key=0)
    >>> tx.update(bnp.array([[3.0, 4.0], [0.0, 0.5]]), tx.init(bnp.zeros(2)))[0].round(3)
    Array([0.3 , 0.65], dtype=float32)
    """
    first = key_from("differentially_private_aggregate", key, seed)
    deviation = l2_norm_clip * noise_multiplier

    def update(
        updates: Any, state: Any, params: Any = None
    ) -> tuple[Any, DifferentiallyPrivateAggregateState]:
        leaves, treedef = _tree.flatten(updates)
        examples = leaves[0].shape[0]
        total, _ = per_example_global_norm_clip(leaves, l2_norm_clip)
        keys = random.split(state.rng_key, len(leaves) + 1)
        mean = [
            (g + deviation * random.normal(keys[i + 1], g.shape, g.dtype)) / examples
            for i, g in enumerate(total)
        ]
        return _tree.unflatten(treedef, mean), DifferentiallyPrivateAggregateState(keys[0])

    return GradientTransformation(
        lambda params: DifferentiallyPrivateAggregateState(random.clone(first)), update
    )


def dpsgd(
    learning_rate: ScalarOrSchedule,
    l2_norm_clip: Any,
    noise_multiplier: Any,
    seed: int,
    momentum: Any = None,
    nesterov: bool = False,
) -> GradientTransformationExtraArgs:
    """Differentially private gradient descent (Abadi et al., arXiv:1607.00133), with momentum if
    given; other arguments as for `differentially_private_aggregate`.

    >>> from bevel.optim import contrib
    >>> tx = contrib.dpsgd(0.1, 1.0, 0.0, seed=0)
    >>> tx.update(bnp.array([[3.0, 4.0], [0.0, 0.5]]), tx.init(bnp.zeros(2)))[0].round(3)
    Array([-0.03 , -0.065], dtype=float32)
    """
    return chain(
        differentially_private_aggregate(l2_norm_clip, noise_multiplier, seed=seed),
        identity() if momentum is None else trace(momentum, nesterov),
        scale_by_learning_rate(learning_rate),
    )
