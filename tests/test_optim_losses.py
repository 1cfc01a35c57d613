"""The losses of sequences, rankings, embeddings and segments, with gradients, against Optax."""

import warnings

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import optim
from tests.optim_cases import RNG, X, kept_programs
from tests.peers import peer

__all__ = ["kept_programs"]  # a fixture that applies by itself

ONE_HOT = np.eye(5, dtype=np.float32)[RNG.integers(0, 5, size=(3, 7))]
PADS = np.array([[0.0] * 7, [0.0] * 5 + [1.0] * 2, [0.0] * 7], np.float32)
TEXT = np.array([[1, 2, 2], [3, 1, 0], [4, 4, 4]])
TEXT_PADS = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]], np.float32)
CTC = (X, PADS, TEXT, TEXT_PADS)
HIDDEN = np.where(RNG.random((3, 7, 5)) < 0.3, -np.inf, X).astype(np.float32)
SHARES = np.where(np.isinf(HIDDEN), 0, 0.2).astype(np.float32)
PRESENT = RNG.random((3, 7, 5)) < 0.6
PRESENT[0, 0] = False
LOSSES = [
    ("ctc_loss", CTC, {}),
    ("ctc_loss", CTC, {"blank_id": 4}),
    ("safe_softmax_cross_entropy", (X, ONE_HOT), {}),
    ("safe_softmax_cross_entropy", (HIDDEN, SHARES), {}),
    ("convex_kl_divergence", (X, ONE_HOT), {}),
    ("ntxent", (X[0], np.array([0, 0, 1, 1, 2, 2, 2])), {}),
    ("ntxent", (X[0], np.array([0, 0, 1, 1, 0, 0, 1])), {"temperature": 0.5}),
    ("multiclass_sparsemax_loss", (X[0] * 2, np.arange(7) % 5), {}),
    ("ranking_softmax_loss", (X, ONE_HOT), {}),
    ("ranking_softmax_loss", (X, ONE_HOT), {"where": PRESENT, "weights": X[0] ** 2}),
    ("ranking_softmax_loss", (X, ONE_HOT), {"where": PRESENT, "reduce_fn": None}),
    ("dice_loss", (X, ONE_HOT), {}),
    ("dice_loss", (X, ONE_HOT), {"class_weights": X[0, 0] ** 2, "ignore_background": True}),
    ("dice_loss", (X[..., 0], ONE_HOT[..., :1]), {"alpha": 0.3, "beta": 0.7}),
    ("dice_loss", (X, ONE_HOT), {"reduction": "sum", "axis": (0, 1)}),
    ("dice_loss", (ONE_HOT, ONE_HOT[::-1].copy()), {"apply_softmax": False, "reduction": "none"}),
    ("multiclass_generalized_dice_loss", (X, ONE_HOT), {}),
    ("binary_dice_loss", (X[..., 0], ONE_HOT[..., 0]), {"smooth": 0.1}),
]


def value_and_slope(value_and_grad, loss, args, kwargs):
    """The loss, and the gradient of a sum that weights its elements differently."""

    def total(x):
        out = loss(x, *args[1:], **kwargs)
        return (out * (1.0 + np.arange(out.size).reshape(out.shape))).sum(), out

    (_, out), slope = value_and_grad(total, has_aux=True)(args[0])
    return out, slope


@pytest.fixture(scope="module")
def their_losses():
    optax, jax = peer("optax"), peer("jax")

    def run():
        return [
            value_and_slope(jax.value_and_grad, getattr(optax.losses, name), args, kwargs)
            for name, args, kwargs in LOSSES
            if kwargs.get("apply_softmax", True)  # which Optax cannot compile
        ]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = iter(jax.jit(run)())
        return [
            next(found)
            if kwargs.get("apply_softmax", True)
            else (getattr(optax.losses, name)(*args, **kwargs), None)
            for name, args, kwargs in LOSSES
        ]


@pytest.mark.parametrize("i", range(len(LOSSES)), ids=[f"{i} {x[0]}" for i, x in enumerate(LOSSES)])
def test_losses_and_their_gradients_equal_optax(i, their_losses):
    name, args, kwargs = LOSSES[i]
    value, slope = value_and_slope(bv.value_and_grad, getattr(optim.losses, name), args, kwargs)
    np.testing.assert_allclose(value, their_losses[i][0], rtol=2e-5, atol=2e-6)
    if their_losses[i][1] is not None:
        np.testing.assert_allclose(slope, their_losses[i][1], rtol=2e-4, atol=2e-5)


def test_ctc_forward_probabilities_equal_optax():
    optax, jax = peer("optax"), peer("jax")
    want = jax.jit(optax.losses.ctc_loss_with_forward_probs)(*CTC)
    got = optim.losses.ctc_loss_with_forward_probs(*CTC)
    compiled = bv.jit(optim.losses.ctc_loss_with_forward_probs)(*CTC)
    for a, b, c in zip(got, compiled, want, strict=True):
        np.testing.assert_allclose(a, c, rtol=2e-5, atol=1e-4)
        np.testing.assert_allclose(b, c, rtol=2e-5, atol=1e-4)


def test_fenchel_young_losses():
    optax, jax = peer("optax"), peer("jax")
    theirs = optax.losses.make_fenchel_young_loss(jax.nn.logsumexp)(X, ONE_HOT)
    ours = optim.losses.make_fenchel_young_loss(bv.nn.logsumexp)(X, ONE_HOT)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_errors_of_structured_losses():
    with pytest.raises(ValueError, match=r"predictions \(1, 2, 3\) and targets \(1, 2, 2\)"):
        optim.losses.dice_loss(bnp.ones((1, 2, 3)), bnp.ones((1, 2, 2)))
    with pytest.raises(ValueError, match="reduction is mean, sum, none"):
        optim.losses.dice_loss(bnp.ones((1, 2, 3)), bnp.ones((1, 2, 3)), reduction="max")
    with pytest.raises(ValueError, match="same"):
        optim.losses.ntxent(bnp.ones((3, 2)), bnp.arange(2))
    with pytest.raises(ValueError, match=r"logit_paddings is \(3, 7\)"):
        optim.losses.ctc_loss(X, PADS[:, :5], TEXT, TEXT_PADS)
    with pytest.raises(TypeError, match="logits must be floating"):
        optim.losses.ranking_softmax_loss(bnp.arange(3), bnp.arange(3))
