"""Differentially private training (Abadi et al., arXiv:1607.00133) on scikit-learn's digits.

    python -m examples.dp_sgd

`vmap(grad(...))` gives the gradient of every example; each is clipped to norm 1, and noise hides
what any one of them adds to the sum. A step takes every training image with probability `rate`
(Poisson sampling), which is what the accountant assumes: its epsilon is that of the subsampled
Gaussian mechanism under adding or removing one image.

A demonstration: the noise is floating-point and its generator not a cryptographic one, and choosing
the settings by looking at the data would cost privacy that is not counted here.
"""

from math import comb, log, log1p

import numpy as np
from sklearn.datasets import load_digits

import bevel as bv
import bevel.numpy as bnp
from bevel import nn, optim


def loss_fn(model, image, label):
    return optim.softmax_cross_entropy_with_integer_labels(model(image), label)


@bv.jit
def step(model, optimizer, rngs, images, labels, taken, noise, expected):
    """One update from the images (N, 64) where `taken` (N,); `expected` is their mean number."""
    grads = bv.vmap(bv.grad(loss_fn), in_axes=(None, 0, 0))(model, images, labels)
    norms = bv.vmap(optim.tree.norm)(grads)
    scale = taken / bnp.maximum(norms, 1.0)  # the clipping norm is 1
    total = bv.tree.map(lambda g: bnp.einsum("n,n...->...", scale, g), grads)
    hidden = optim.tree.add_scale(total, noise, optim.tree.random_like(rngs.noise(), total))
    optimizer.update(optim.tree.scale(1 / expected, hidden))


def epsilon(rate, noise, steps, delta):
    """The epsilon of (epsilon, delta)-privacy after `steps` at sampling `rate` and `noise`.

    Renyi divergence of the subsampled Gaussian at integer orders (Mironov, Talwar and Zhang,
    arXiv:1908.10530, section 3.3), added over the steps, and converted by Balle et al.
    (arXiv:1905.09982, theorem 21).
    """
    bounds = []
    for a in range(2, 129):
        moments = [
            log(comb(a, k)) + (a - k) * log1p(-rate) + k * log(rate) + (k * k - k) / (2 * noise**2)
            for k in range(a + 1)
        ]
        renyi = np.logaddexp.reduce(moments) / (a - 1)
        bounds.append(steps * renyi + log1p(-1 / a) - log(delta * a) / (a - 1))
    return max(0.0, min(bounds))


def sampled(rng, count, rate, most):
    """Rows that a Poisson sample takes, filled up to `most` for one compiled shape, and a mask."""
    rows = np.flatnonzero(rng.random(count) < rate)
    if len(rows) > most:
        raise RuntimeError(f"a sample of {len(rows)} images, where {most} were thought enough")
    return np.pad(rows, (0, most - len(rows))), np.arange(most) < len(rows)


def main(steps=300, rate=0.1, noise=2.0, width=32, delta=1e-4, seed=0):
    """Train with and without privacy, print; returns accuracies on 360 test images, and epsilon."""
    digits = load_digits()
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(digits.target))
    images, labels = digits.data[order] / 16, digits.target[order]
    train, test = (images[360:], labels[360:]), (images[:360], labels[:360])
    expected = rate * len(train[0])
    most = int(expected + 8 * expected**0.5)

    accuracy = {}
    for name, deviation in (("private", noise), ("not private", 0.0)):
        rngs = nn.Rngs(params=seed, noise=seed + 1)
        model = nn.Sequential(
            nn.Linear(64, width, rngs=rngs), nn.tanh, nn.Linear(width, 10, rngs=rngs)
        )
        optimizer = nn.Optimizer(model, optim.sgd(2.0, momentum=0.5))
        for _ in range(steps):
            rows, taken = sampled(rng, len(train[0]), rate, most)
            step(model, optimizer, rngs, train[0][rows], train[1][rows], taken, deviation, expected)
        accuracy[name] = float((model(test[0]).argmax(axis=-1) == test[1]).mean())
    spent = epsilon(rate, noise, steps, delta)
    print(f"{steps} steps, a tenth of {len(train[0])} images each, noise {noise} x clipping norm")
    print(f"epsilon {spent:.2f} at delta {delta}: accuracy {accuracy['private']:.2%}")
    print(f"clipped without noise: accuracy {accuracy['not private']:.2%}")
    return accuracy | {"epsilon": spent}


if __name__ == "__main__":
    main()
