"""Losses of sequences, rankings, sets of embeddings and segmentations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bevel.numpy as bnp
from bevel import lax
from bevel.api.custom import custom_jvp
from bevel.api.vmap import vmap
from bevel.core import dtypes
from bevel.nn.activations import log_softmax, logsumexp, sigmoid, softmax
from bevel.numpy.convert import enter
from bevel.optim.losses.pointwise import cosine_similarity, floats
from bevel.optim.projections import projection_simplex


def _same_shape(name: str, **arrays: Any) -> None:
    shapes = {argument: bnp.shape(x) for argument, x in arrays.items()}
    if len(set(shapes.values())) > 1:
        both = " and ".join(f"{argument} {shape}" for argument, shape in shapes.items())
        raise ValueError(f"{name}: the shapes are the same, but they are {both}")


# -- classes ---------------------------------------------------------------------------------------


@custom_jvp
def _weighted_log_softmax(logits: Any, weights: Any) -> Any:
    return bnp.where(weights != 0, weights * log_softmax(logits, -1), 0)


@_weighted_log_softmax.defjvp
def _weighted_log_softmax_jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
    (logits, weights), (d_logits, d_weights) = primals, tangents
    mean = bnp.sum(d_logits * softmax(logits, -1), axis=-1, keepdims=True)
    slope = weights * (d_logits - mean) + d_weights * log_softmax(logits, -1)
    return _weighted_log_softmax(logits, weights), slope


def safe_softmax_cross_entropy(logits: Any, labels: Any) -> Any:
    """`softmax_cross_entropy` along the last axis where logits may be -inf if their label is 0.

    >>> from bevel import optim
    >>> optim.safe_softmax_cross_entropy([0.0, 0.0, -np.inf], [1.0, 0.0, 0.0]).round(4)
    Array(0.6931, dtype=float32)
    """
    (logits,) = floats("safe_softmax_cross_entropy", logits=logits)
    labels = enter(labels)
    labels = labels if dtypes.is_float(labels.dtype) else labels.astype(logits.dtype)
    return -bnp.sum(_weighted_log_softmax(logits, labels), axis=-1)


def multiclass_sparsemax_loss(scores: Any, labels: Any) -> Any:
    """The loss whose predictions are the scores' projection onto the simplex (Martins and
    Astudillo, "From Softmax to Sparsemax", 2016, arXiv:1602.02068).

    Args:
        scores: (examples, classes).
        labels: (examples,) integers.

    >>> from bevel import optim
    >>> optim.losses.multiclass_sparsemax_loss([[0.0, 0.0], [3.0, 0.0]], [0, 0])
    Array([0.25, 0.  ], dtype=float32)
    """
    (scores,) = floats("multiclass_sparsemax_loss", scores=scores)
    p = vmap(projection_simplex)(scores)
    behind = scores - bnp.take_along_axis(scores, enter(labels)[:, None], axis=-1)
    gain = bnp.sum(bnp.where(p > 0, p * behind, 0), axis=-1)
    return gain + 0.5 * (1.0 - bnp.sum(p * p, axis=-1))


def make_fenchel_young_loss(max_fun: Callable[..., Any]) -> Callable[..., Any]:
    """The loss max_fun(scores) - <targets, scores> (Blondel et al., "Learning with Fenchel-Young
    Losses", 2019, arXiv:1901.02324).

    Args:
        max_fun: from a vector to a number; applied along the last axis.

    Returns:
        A function of scores and targets (..., n), and what else `max_fun` takes.

    >>> from bevel import nn, optim
    >>> loss = optim.losses.make_fenchel_young_loss(nn.logsumexp)
    >>> loss(bnp.zeros((1, 2)), bnp.array([[1.0, 0.0]])).round(4)
    Array([0.6931], dtype=float32)
    """

    def loss(scores: Any, targets: Any, *args: Any, **kwargs: Any) -> Any:
        scores = enter(scores)
        largest = bnp.vectorize(lambda s: max_fun(s, *args, **kwargs), signature="(n)->()")
        return largest(scores) - bnp.sum(bnp.conj(enter(targets)) * scores, axis=-1)

    return loss


def ranking_softmax_loss(
    logits: Any,
    labels: Any,
    *,
    where: Any = None,
    weights: Any = None,
    reduce_fn: Callable[..., Any] | None = bnp.mean,
) -> Any:
    """Softmax cross entropy of a list of items with their relevance (Cao et al., "Learning to
    Rank", 2007, doi:10.1145/1273496.1273513).

    Args:
        logits: (..., items) scores.
        labels: (..., items) relevances.
        where: which items there are.
        weights: of the items.
        reduce_fn: over lists, such as `bnp.mean`; None gives one number a list.

    >>> from bevel import optim
    >>> optim.losses.ranking_softmax_loss(bnp.zeros((1, 2)), bnp.array([[1.0, 0.0]])).round(4)
    Array(0.6931, dtype=float32)
    """
    (logits,) = floats("ranking_softmax_loss", logits=logits)
    labels = enter(labels).astype(logits.dtype)
    if weights is not None:
        labels = labels * weights
    if where is not None:
        labels, logits = bnp.where(where, labels, 0), bnp.where(where, logits, -bnp.inf)
    terms = labels * log_softmax(logits, -1)
    loss = -bnp.sum(terms if where is None else bnp.where(where, terms, 0), axis=-1)
    lists = None if where is None else bnp.any(where, axis=-1)
    if reduce_fn is None:
        return loss if lists is None else bnp.where(lists, loss, 0.0)
    out = reduce_fn(loss, where=lists)
    empty = lists is not None and reduce_fn is bnp.mean
    return bnp.where(bnp.any(lists), out, 0.0) if empty else out


# -- sequences -------------------------------------------------------------------------------------


def _merge(blank: Any, arriving: Any) -> Any:
    """Blank states, where each but the first is also reached from the label before."""
    return bnp.concatenate([blank[:, :1], bnp.logaddexp(blank[:, 1:], arriving)], axis=-1)


def ctc_loss_with_forward_probs(
    logits: Any,
    logit_paddings: Any,
    labels: Any,
    label_paddings: Any,
    *,
    blank_id: int = 0,
    log_epsilon: Any = -1e5,
) -> tuple[Any, Any, Any]:
    """Connectionist temporal classification (Graves et al., 2006, doi:10.1145/1143844.1143891).

    Args:
        logits: (batch, time, classes).
        logit_paddings: (batch, time), 1 where there is no frame.
        labels: (batch, n) integers.
        label_paddings: (batch, n), 1 where there is no label; only at the end.
        blank_id: the class that means "no label".
        log_epsilon: logarithm of what stands for probability 0.

    Returns:
        The loss (batch,), and the logarithms of the forward probabilities of blanks
        (time, batch, n + 1) and of labels (time, batch, n).

    Raises:
        ValueError: the shapes do not fit.

    >>> from bevel import optim
    >>> loss, _, _ = optim.losses.ctc_loss_with_forward_probs(
    ...     bnp.zeros((1, 2, 3)), bnp.zeros((1, 2)), bnp.array([[1]]), bnp.zeros((1, 1))
    ... )
    >>> bnp.exp(-loss).round(4)
    Array([0.3333], dtype=float32)
    """
    name = "ctc_loss_with_forward_probs"
    (logits,) = floats(name, logits=logits)
    labels, padded, over = enter(labels), enter(label_paddings), enter(logit_paddings)
    _same_shape(name, labels=labels, label_paddings=padded)
    if logits.ndim != 3 or labels.ndim != 2 or labels.shape[0] != logits.shape[0]:
        raise ValueError(
            f"{name}: logits are (batch, time, classes) and labels (batch, n), got {logits.shape} "
            f"and {labels.shape}"
        )
    if over.shape != logits.shape[:2]:
        raise ValueError(f"{name}: logit_paddings is {logits.shape[:2]}, got {over.shape}")
    batch, n = labels.shape
    log_p = bnp.swapaxes(log_softmax(logits), 0, 1)
    blank_p = log_p[:, :, blank_id : blank_id + 1]
    label_p = bnp.take_along_axis(
        log_p, bnp.broadcast_to(labels, (log_p.shape[0], batch, n)), axis=-1
    )
    again = bnp.pad((labels[:, :-1] == labels[:, 1:]).astype(logits.dtype), ((0, 0), (0, 1)))

    def frame(before: Any, now: Any) -> tuple[Any, Any]:
        blank, label = before
        blank_p, label_p, over = now
        # A label may follow another one at once, but a repeated one only after a blank.
        ready = _merge(blank, label + log_epsilon * again)
        new_label = bnp.logaddexp(ready[:, :-1], label) + label_p
        new_blank = _merge(blank, label) + blank_p
        after = (
            over * blank + (1.0 - over) * new_blank,
            over * label + (1.0 - over) * new_label,
        )
        return after, after

    impossible = bnp.full((batch, n + 1), log_epsilon, logits.dtype)
    start = (impossible.at[:, 0].set(0.0), impossible[:, :n])
    over = bnp.swapaxes(over, 0, 1)[:, :, None].astype(logits.dtype)
    _, (blank, label) = lax.scan(frame, start, (blank_p, label_p, over))
    final = _merge(blank[-1], label[-1])
    length = n - bnp.sum(padded, axis=1).astype(int)
    loss = -bnp.take_along_axis(final, length[:, None], axis=1)[:, 0]
    return loss, blank.at[-1].set(final), label


def ctc_loss(
    logits: Any,
    logit_paddings: Any,
    labels: Any,
    label_paddings: Any,
    *,
    blank_id: int = 0,
    log_epsilon: Any = -1e5,
) -> Any:
    """The first result of `ctc_loss_with_forward_probs`: one number a sequence.

    >>> from bevel import optim
    >>> two, one = bnp.zeros((1, 2)), bnp.zeros((1, 1))
    >>> optim.ctc_loss(bnp.zeros((1, 2, 3)), two, bnp.array([[1]]), one).round(4)
    Array([1.0986], dtype=float32)
    """
    return ctc_loss_with_forward_probs(
        logits,
        logit_paddings,
        labels,
        label_paddings,
        blank_id=blank_id,
        log_epsilon=log_epsilon,
    )[0]


# -- embeddings ------------------------------------------------------------------------------------


def ntxent(embeddings: Any, labels: Any, temperature: Any = 0.07) -> Any:
    """Contrastive loss of embeddings (Chen et al., "A Simple Framework for Contrastive Learning",
    2020, arXiv:2002.05709): each pair with the same label against all pairs with different ones.

    Args:
        embeddings: (n, features).
        labels: (n,).
        temperature: of the cosine similarities.

    Raises:
        ValueError: the first axes differ.

    >>> from bevel import optim
    >>> optim.losses.ntxent(bnp.eye(4), bnp.array([0, 0, 1, 1])).round(4)
    Array(1.0986, dtype=float32)
    """
    (embeddings,) = floats("ntxent", embeddings=embeddings)
    labels = enter(labels)
    _same_shape("ntxent, first axis", labels=labels, embeddings=embeddings[:, 0])
    eps = float(dtypes.finfo(embeddings.dtype).eps)
    near = cosine_similarity(embeddings[None], embeddings[:, None], epsilon=eps) / temperature
    same = labels[:, None] == labels[None]
    others = logsumexp(near, axis=1, where=~same, keepdims=True)
    positive = same & ~bnp.eye(labels.size, dtype=bool)
    terms = bnp.where(positive, bnp.logaddexp(near, others) - near, 0.0)
    return bnp.sum(terms) / bnp.sum(positive)


# -- segmentation ----------------------------------------------------------------------------------

_REDUCTIONS: dict[str, Callable[[Any], Any]] = {
    "mean": lambda x: bnp.mean(x, axis=-1),
    "sum": lambda x: bnp.sum(x, axis=-1),
    "none": lambda x: x,
}


def dice_loss(
    predictions: Any,
    targets: Any,
    *,
    class_weights: Any = None,
    smooth: Any = 1.0,
    alpha: Any = 0.5,
    beta: Any = 0.5,
    apply_softmax: bool = True,
    reduction: str = "mean",
    ignore_background: bool = False,
    axis: Any = None,
) -> Any:
    """1 - the overlap of predicted and true segments (Milletari et al., "V-Net", 2016,
    arXiv:1606.04797; with weights by Salehi et al., arXiv:1706.05721).

    Args:
        predictions: (batch, ..., classes) logits, or probabilities.
        targets: one-hot, of the same shape; without the last axis if there is one class.
        class_weights: (classes,).
        smooth: added to both sides of the ratio.
        alpha: weight of false positives.
        beta: weight of false negatives.
        apply_softmax: predictions are logits (a sigmoid for one class).
        reduction: over classes: "mean", "sum" or "none".
        ignore_background: leave the first class out.
        axis: of the pixels; by default all but the first and the last.

    Raises:
        ValueError: the shapes do not fit, or no such reduction.

    >>> from bevel import optim
    >>> optim.losses.dice_loss(bnp.zeros((1, 4, 2)), bnp.ones((1, 4, 2))).round(4)
    Array([0.25], dtype=float32)
    """
    p, targets = enter(predictions), enter(targets)
    if p.ndim == targets.ndim - 1:
        p = p[..., None]
    if targets.ndim == p.ndim - 1:
        targets = targets[..., None]
    _same_shape("dice_loss", predictions=p, targets=targets)
    if reduction not in _REDUCTIONS:
        raise ValueError(f"dice_loss: reduction is {', '.join(_REDUCTIONS)}, not {reduction!r}")
    if apply_softmax:
        p = sigmoid(p) if p.shape[-1] == 1 else softmax(p, axis=-1)
    axis = tuple(range(1, p.ndim - 1)) if axis is None else axis
    both, found, true = (bnp.sum(x, axis=axis) for x in (p * targets, p, targets))
    wrong = alpha * (found - both) + beta * (true - both)
    loss = 1.0 - (both + smooth) / (both + wrong + smooth)
    if class_weights is not None:
        loss = loss * enter(class_weights)
    if ignore_background and p.shape[-1] > 1:
        loss = loss[..., 1:]
    return _REDUCTIONS[reduction](loss)


def multiclass_generalized_dice_loss(
    predictions: Any,
    targets: Any,
    *,
    smooth: Any = 1.0,
    apply_softmax: bool = True,
    ignore_background: bool = False,
) -> Any:
    """The mean `dice_loss` with classes weighted by one over their squared frequency (Sudre et al.,
    2017, arXiv:1707.03237).

    >>> from bevel import optim
    >>> x = bnp.eye(2)[None]
    >>> optim.losses.multiclass_generalized_dice_loss(100 * x, x).round(4)
    Array(0., dtype=float32)
    """
    predictions, targets = enter(predictions), enter(targets)
    _same_shape("multiclass_generalized_dice_loss", predictions=predictions, targets=targets)
    rare = 1.0 / (bnp.sum(targets, axis=tuple(range(targets.ndim - 1))) ** 2 + 1e-7)
    each = dice_loss(
        predictions,
        targets,
        class_weights=rare / bnp.sum(rare) * rare.size,
        smooth=smooth,
        apply_softmax=apply_softmax,
        reduction="none",
        ignore_background=ignore_background,
    )
    return bnp.mean(each)


def binary_dice_loss(
    predictions: Any, targets: Any, *, smooth: Any = 1.0, apply_sigmoid: bool = True
) -> Any:
    """`dice_loss` of one class; the last axis may be missing.

    >>> from bevel import optim
    >>> optim.losses.binary_dice_loss(bnp.zeros((1, 4)), bnp.ones((1, 4))).round(4)
    Array([0.25], dtype=float32)
    """
    predictions, targets = enter(predictions), enter(targets)
    if predictions.ndim == targets.ndim and predictions.shape[-1] != 1:
        predictions, targets = predictions[..., None], targets[..., None]
    return dice_loss(predictions, targets, smooth=smooth, apply_softmax=apply_sigmoid)
