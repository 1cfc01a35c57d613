"""Losses: one number an example, or an element; take the mean yourself. Names and numbers are those
of Optax.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import bevel.numpy as bnp
from bevel.core import dtypes
from bevel.core.misfit import Change, Fix, Shape, broadcastable, change_of, mend, misfit, transposed
from bevel.core.source import user_source
from bevel.core.source import where as _where
from bevel.nn.activations import log_sigmoid, log_softmax, logsumexp, one_hot, softmax, sparse_plus
from bevel.numpy.convert import enter

Axis = int | Sequence[int] | None


def floats(name: str, **arrays: Any) -> list[Any]:
    """Arrays (or None), refused if they are not floating."""
    out = []
    for argument, x in arrays.items():
        x = None if x is None else enter(x)
        if x is not None and not dtypes.is_float(x.dtype):
            raise TypeError(
                f"{name}: {argument} must be floating, and is {x.dtype}, at "
                f"{_where(user_source())}.\n"
                f"Write instead: {argument}.astype(bnp.float32)."
            )
        out.append(x)
    return out


def _errors(name: str, predictions: Any, targets: Any, same_shape: bool = False) -> Any:
    (predictions,) = floats(name, predictions=predictions)
    if targets is None:
        return predictions
    targets = enter(targets)
    if same_shape and predictions.shape != targets.shape:
        raise misfit(
            name,
            [predictions, targets],
            "predictions and targets need one shape, for broadcasting here is nearly always a "
            "mistake, such as (n, 1) against (n,)",
            _mend_columns(predictions.shape, targets.shape),
            "predictions and targets of one shape",
            params=("predictions", "targets"),
            words=["predictions", "targets"],
            error=ValueError,
        )
    return predictions - targets


def _mend_columns(x: Shape, y: Shape) -> list[Fix]:
    """An axis of size 1 that one operand has at its end, put into the other or dropped."""
    if x == (*y, 1):
        return [change_of(1, Change("_[..., None]", x, "lacks an axis"))]
    if y == (*x, 1):
        return [change_of(1, Change("_[..., 0]", x, "has an axis more"))]
    found = mend([x, y], lambda new: new[0] == new[1], [lambda i, s: transposed(s)])
    return [] if found is None else [found]


# -- regression ------------------------------------------------------------------------------------


def squared_error(predictions: Any, targets: Any = None) -> Any:
    """(predictions - targets)**2, elementwise; without targets, predictions are the errors.

    Raises:
        ValueError: the shapes differ.
        TypeError: predictions are not floating.

    >>> from bevel import optim
    >>> optim.squared_error([1.0, 2.0], [3.0, 2.0])
    Array([4., 0.], dtype=float32)
    """
    return _errors("squared_error", predictions, targets, same_shape=True) ** 2


def l2_loss(predictions: Any, targets: Any = None) -> Any:
    """Half of `squared_error`.

    >>> from bevel import optim
    >>> optim.l2_loss([1.0, 2.0], [3.0, 2.0]).round(3)
    Array([2., 0.], dtype=float32)
    """
    return 0.5 * squared_error(predictions, targets)


def huber_loss(predictions: Any, targets: Any = None, *, delta: Any = 1.0) -> Any:
    """Quadratic for errors up to `delta`, linear beyond (Huber, 1964), elementwise.

    >>> from bevel import optim
    >>> optim.huber_loss([0.5, 3.0], [0.0, 0.0])
    Array([0.125, 2.5  ], dtype=float32)
    """
    size = abs(_errors("huber_loss", predictions, targets))
    quadratic = bnp.minimum(size, delta)
    return 0.5 * quadratic**2 + delta * (size - quadratic)


def log_cosh(predictions: Any, targets: Any = None) -> Any:
    """log(cosh(error)), elementwise: like `l2_loss` for small errors, linear for large ones.

    >>> from bevel import optim
    >>> optim.log_cosh([0.0, 100.0]).round(3)
    Array([ 0.   , 99.307], dtype=float32)
    """
    errors = _errors("log_cosh", predictions, targets)
    return bnp.logaddexp(errors, -errors) - math.log(2.0)


def cosine_similarity(
    predictions: Any, targets: Any, *, epsilon: Any = 0.0, axis: Axis = -1, where: Any = None
) -> Any:
    """The cosine of the angle between vectors along an axis.

    Args:
        predictions: floating array.
        targets: floating array.
        epsilon: least value of the squared norms.
        axis: of the vectors.
        where: mask of the elements that count.

    >>> from bevel import optim
    >>> float(optim.cosine_similarity([1.0, 0.0], [3.0, 0.0]))
    1.0
    """
    a, b = floats("cosine_similarity", predictions=predictions, targets=targets)
    units = []
    for x in (a, b):
        square = bnp.sum(x * x, axis=axis, where=where, keepdims=True)
        units.append(x / bnp.sqrt(bnp.maximum(square, epsilon)))
    return bnp.sum(units[0] * units[1], axis=axis, where=where)


def cosine_distance(
    predictions: Any, targets: Any, *, epsilon: Any = 0.0, axis: Axis = -1, where: Any = None
) -> Any:
    """1 - `cosine_similarity`.

    >>> from bevel import optim
    >>> optim.cosine_distance([[1.0, 0.0]], [[0.0, 3.0]]).round(3)
    Array([1.], dtype=float32)
    """
    return 1.0 - cosine_similarity(predictions, targets, epsilon=epsilon, axis=axis, where=where)


# -- classification --------------------------------------------------------------------------------


def sigmoid_binary_cross_entropy(logits: Any, labels: Any) -> Any:
    """Cross entropy of independent yes-or-no labels (0, 1 or between), elementwise.

    >>> from bevel import optim
    >>> round(float(optim.sigmoid_binary_cross_entropy(0.0, 1.0)), 4)
    0.6931
    """
    (logits,) = floats("sigmoid_binary_cross_entropy", logits=logits)
    labels = enter(labels).astype(logits.dtype)
    return -labels * log_sigmoid(logits) - (1.0 - labels) * log_sigmoid(-logits)


def sigmoid_focal_loss(logits: Any, labels: Any, *, alpha: Any = None, gamma: Any = 2.0) -> Any:
    """Binary cross entropy that counts easy examples less (Lin et al., arXiv:1708.02002),
    elementwise.

    Args:
        logits: floating array.
        labels: 0, 1 or between.
        alpha: weight of the positive class; the other has 1 - alpha.
        gamma: how much less.

    >>> from bevel import optim
    >>> optim.sigmoid_focal_loss([0.0, 3.0], [1.0, 1.0]).round(3)
    Array([0.173, 0.   ], dtype=float32)
    """
    (logits,) = floats("sigmoid_focal_loss", logits=logits)
    labels = enter(labels).astype(logits.dtype)
    both = bnp.stack([log_sigmoid(logits), log_sigmoid(-logits)], axis=-1)
    log_miss = logsumexp(both, axis=-1, b=bnp.stack([1 - labels, labels], axis=-1))
    loss = sigmoid_binary_cross_entropy(logits, labels) * bnp.exp(gamma * log_miss)
    return loss if alpha is None else (alpha * labels + (1.0 - alpha) * (1.0 - labels)) * loss


def _mask(where: Any, logits: Any, axis: Axis) -> Any:
    if where is None or enter(where).ndim == logits.ndim:
        return where
    return bnp.expand_dims(enter(where), axis)


def _no_probabilities(logits: Any, labels: Any, axis: Axis) -> Exception:
    """The error of labels that are no probabilities of classes."""
    fixes = []
    if axis in (-1, logits.ndim - 1) and labels.shape == logits.shape[:-1]:
        number = {} if dtypes.is_integer(labels.dtype) else {1: "_.astype(int)"}
        callee = "softmax_cross_entropy_with_integer_labels"
        fixes = [Fix("{1} looks like one class number an example", number, callee, plain=callee)]
    return misfit(
        "softmax_cross_entropy",
        [logits, labels],
        f"the labels are probabilities, one for each of the {logits.shape} logits",
        fixes,
        "labels of the shape of the logits, such as nn.one_hot(labels, classes)",
        params=("logits", "labels"),
        words=["the array of logits", "the array of labels"],
    )


def softmax_cross_entropy(logits: Any, labels: Any, axis: Axis = -1, where: Any = None) -> Any:
    """Cross entropy between softmax(logits) and label probabilities along an axis.

    Args:
        logits: (..., classes).
        labels: probabilities, of the same shape.
        axis: of the classes.
        where: mask of the classes that count.

    >>> from bevel import optim
    >>> round(float(optim.softmax_cross_entropy([0.0, 0.0], [1.0, 0.0])), 4)
    0.6931
    """
    (logits,) = floats("softmax_cross_entropy", logits=logits)
    where = _mask(where, logits, axis)
    labels = enter(labels)
    if labels.shape != logits.shape and not broadcastable([labels.shape, logits.shape]):
        raise _no_probabilities(logits, labels, axis)
    terms = labels * log_softmax(logits, axis, where)
    return -bnp.sum(terms if where is None else bnp.where(where, terms, 0), axis=axis)


def softmax_cross_entropy_with_integer_labels(
    logits: Any, labels: Any, axis: int | Sequence[int] = -1, where: Any = None
) -> Any:
    """Cross entropy between softmax(logits) and the class named by an integer.

    Args:
        logits: (..., classes).
        labels: (...,) integers.
        axis: of the classes; with several, labels count through them in row-major order.
        where: mask of the classes that count; an example with none has loss 0.

    Raises:
        TypeError: logits are not floating, or labels not integer.
        ValueError: the shapes do not fit.

    >>> from bevel import optim
    >>> losses = optim.softmax_cross_entropy_with_integer_labels([[0.0, 0.0], [0.0, 100.0]], [0, 1])
    >>> [round(x, 4) for x in losses.tolist()]
    [0.6931, 0.0]
    """
    name = "softmax_cross_entropy_with_integer_labels"
    (logits,) = floats(name, logits=logits)
    labels, given = enter(labels), logits
    if not dtypes.is_integer(labels.dtype):
        raise TypeError(
            f"{name}: labels are class numbers (integers), and are {labels.dtype}, at "
            f"{_where(user_source())}.\n"
            "Write instead: labels.astype(int), or softmax_cross_entropy for probabilities."
        )
    where = _mask(where, logits, axis)
    axes = sorted(a % logits.ndim for a in ([axis] if isinstance(axis, int) else axis))
    if len(axes) > 1:
        order = [a % logits.ndim for a in axis]
        rest = [a for a in range(logits.ndim) if a not in axes]
        logits, where = (
            None
            if x is None
            else bnp.transpose(x, (*rest, *order)).reshape(*[x.shape[a] for a in rest], -1)
            for x in (logits, where if where is None else bnp.broadcast_to(where, logits.shape))
        )
        axes = [len(rest)]
    expected = logits.shape[: axes[0]] + logits.shape[axes[0] + 1 :]
    if labels.shape != expected:
        raise _no_classes(name, given, labels, logits.shape, axes[0], expected)
    chosen = bnp.take_along_axis(logits, bnp.expand_dims(labels, axes[0]), axis=axes[0])
    loss = logsumexp(logits, axis=axes[0], where=where) - bnp.squeeze(chosen, axes[0])
    return loss if where is None else bnp.where(bnp.any(where, axis=axes[0]), loss, 0.0)


def _no_classes(
    name: str, logits: Any, labels: Any, shape: Shape, axis: int, expected: Shape
) -> Exception:
    """The error of labels that are not one class number an example."""
    found = []
    if labels.shape == logits.shape and axis == logits.ndim - 1:
        found = [Change("_.argmax(-1)", expected, "looks one-hot")]
    elif labels.shape == (*expected, 1):
        found = [Change("_[..., 0]", expected, "has an axis more")]
    return misfit(
        name,
        [logits, labels],
        f"it takes labels of shape {expected}, one class number for each example of the logits, "
        f"{shape} with classes on axis {axis}",
        [change_of(1, c) for c in found],
        "labels of one class number an example",
        params=("logits", "labels"),
        words=["the array of logits", "the array of labels"],
        error=ValueError,
    )


def poly_loss_cross_entropy(
    logits: Any, labels: Any, *, epsilon: Any = 2.0, axis: Axis = -1, where: Any = None
) -> Any:
    """Softmax cross entropy plus `epsilon` times the probability of the other classes (Leng et al.,
    arXiv:2204.12511).

    >>> from bevel import optim
    >>> optim.poly_loss_cross_entropy([[0.0, 0.0]], [[1.0, 0.0]]).round(3)
    Array([1.693], dtype=float32)
    """
    logits, labels = floats("poly_loss_cross_entropy", logits=logits, labels=labels)
    missed = bnp.sum(labels * (1 - softmax(logits, axis, where)), axis=axis, where=where)
    return softmax_cross_entropy(logits, labels, axis, where) + epsilon * missed


def hinge_loss(predictor_outputs: Any, targets: Any) -> Any:
    """max(0, 1 - output * target) for targets -1 and 1, elementwise.

    >>> from bevel import optim
    >>> optim.hinge_loss([2.0, 0.5], [1.0, -1.0])
    Array([0. , 1.5], dtype=float32)
    """
    return bnp.maximum(0, 1 - enter(predictor_outputs) * enter(targets))


def perceptron_loss(predictor_outputs: Any, targets: Any) -> Any:
    """max(0, -output * target) for targets -1 and 1, elementwise.

    >>> from bevel import optim
    >>> optim.perceptron_loss([2.0, 0.5], [1.0, -1.0]).round(3)
    Array([0. , 0.5], dtype=float32)
    """
    return bnp.maximum(0, -enter(predictor_outputs) * enter(targets))


def sparsemax_loss(logits: Any, labels: Any) -> Any:
    """Binary sparsemax loss for labels 0 and 1 (Martins and Astudillo, arXiv:1602.02068),
    elementwise.

    >>> from bevel import optim
    >>> optim.sparsemax_loss([0.0, 3.0], [1.0, 1.0]).round(3)
    Array([0.25, 0.  ], dtype=float32)
    """
    logits = enter(logits)
    return sparse_plus(bnp.where(enter(labels) != 0, -logits, logits))


def multiclass_hinge_loss(scores: Any, labels: Any) -> Any:
    """The margin of 1 that the labelled class misses against the best other, (..., classes) to
    (...,).

    >>> from bevel import optim
    >>> optim.multiclass_hinge_loss([[2.0, 1.5]], [0]).round(3)
    Array([0.5], dtype=float32)
    """
    scores = enter(scores)
    truth = one_hot(labels, scores.shape[-1])
    return bnp.max(scores + 1.0 - truth, axis=-1) - bnp.sum(scores * truth, axis=-1)


def multiclass_perceptron_loss(scores: Any, labels: Any) -> Any:
    """The best score less that of the labelled class, (..., classes) to (...,).

    >>> from bevel import optim
    >>> optim.multiclass_perceptron_loss([[2.0, 1.5]], [1]).round(3)
    Array([0.5], dtype=float32)
    """
    scores = enter(scores)
    return bnp.max(scores, axis=-1) - bnp.sum(scores * one_hot(labels, scores.shape[-1]), axis=-1)


# -- distributions ---------------------------------------------------------------------------------


def kl_divergence(log_predictions: Any, targets: Any, axis: Axis = -1, where: Any = None) -> Any:
    """The Kullback-Leibler divergence of predicted log-probabilities from target probabilities.

    >>> import math
    >>> from bevel import optim
    >>> round(float(optim.kl_divergence([math.log(0.5), math.log(0.5)], [1.0, 0.0])), 4)
    0.6931
    """
    log_predictions, targets = floats(
        "kl_divergence", log_predictions=log_predictions, targets=targets
    )
    zero = targets == 0
    entropy = bnp.where(zero, 0, bnp.log(bnp.where(zero, 1, targets)))
    return bnp.sum(targets * (entropy - log_predictions), axis=axis, where=where)


def kl_divergence_with_log_targets(
    log_predictions: Any, log_targets: Any, axis: Axis = -1, where: Any = None
) -> Any:
    """`kl_divergence` whose targets are log-probabilities too.

    >>> from bevel import optim
    >>> optim.kl_divergence_with_log_targets([[0.0, 0.0]], [[0.0, 1.0]]).round(3)
    Array([2.718], dtype=float32)
    """
    name = "kl_divergence_with_log_targets"
    log_predictions, log_targets = floats(
        name, log_predictions=log_predictions, log_targets=log_targets
    )
    return bnp.sum(bnp.exp(log_targets) * (log_targets - log_predictions), axis=axis, where=where)


def generalized_kl_divergence(
    log_predictions: Any, targets: Any, axis: Axis = -1, where: Any = None
) -> Any:
    """`kl_divergence` for measures that do not sum to 1: convex in the predictions.

    >>> from bevel import optim
    >>> optim.generalized_kl_divergence([[0.0, 0.0]], [[1.0, 1.0]]).round(3)
    Array([0.], dtype=float32)
    """
    divergence = kl_divergence(log_predictions, targets, axis, where)
    return divergence + bnp.sum(
        bnp.exp(enter(log_predictions)) - enter(targets), axis=axis, where=where
    )


def smooth_labels(labels: Any, alpha: Any, *, axis: Axis = -1, where: Any = None) -> Any:
    """Label probabilities mixed with the uniform ones (Szegedy et al., arXiv:1512.00567).

    >>> from bevel import optim
    >>> optim.smooth_labels([1.0, 0.0], 0.5)
    Array([0.75, 0.25], dtype=float32)
    """
    (labels,) = floats("smooth_labels", labels=labels)
    if where is not None:
        n = bnp.sum(where, axis=axis, keepdims=True)
    else:
        axes = range(labels.ndim) if axis is None else [axis] if isinstance(axis, int) else axis
        n = math.prod(labels.shape[a] for a in axes)
    return (1.0 - alpha) * labels + alpha / n


def triplet_margin_loss(
    anchors: Any,
    positives: Any,
    negatives: Any,
    axis: int = -1,
    norm_degree: Any = 2,
    margin: Any = 1.0,
    eps: Any = 1e-6,
) -> Any:
    """max(0, |anchor - positive| - |anchor - negative| + margin) (Balntas et al., 2016).

    >>> from bevel import optim
    >>> optim.triplet_margin_loss([[0.0]], [[1.0]], [[3.0]]).round(3)
    Array([0.], dtype=float32)
    """
    a, p, n = floats(
        "triplet_margin_loss", anchors=anchors, positives=positives, negatives=negatives
    )

    def distance(x: Any, y: Any) -> Any:
        return (bnp.sum((x - y) ** norm_degree, axis=axis) + eps) ** (1 / norm_degree)

    return bnp.maximum(distance(a, p) - distance(a, n) + margin, 0)
