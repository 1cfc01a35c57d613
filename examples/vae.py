"""A variational autoencoder on scikit-learn's digits (Kingma and Welling, arXiv:1312.6114).

    python -m examples.vae

The noise of the reparametrization comes from a random stream that the model owns: the compiled step
advances it as it advances the parameters, and nobody passes keys around.
"""

import numpy as np
from sklearn.datasets import load_digits

import bevel as bv
import bevel.numpy as bnp
from bevel import nn, optim, random


class VAE(nn.Module):
    """Images (N, 64) in [0, 1] to logits of pixels (N, 64), by way of `latent` numbers."""

    def __init__(self, latent, width, rngs):
        self.encoder = nn.Sequential(nn.Linear(64, width, rngs=rngs), nn.relu)
        self.mean = nn.Linear(width, latent, rngs=rngs)
        self.log_variance = nn.Linear(width, latent, rngs=rngs)
        self.decoder = nn.Sequential(
            nn.Linear(latent, width, rngs=rngs), nn.relu, nn.Linear(width, 64, rngs=rngs)
        )
        self.noise = rngs.noise

    def __call__(self, x):
        h = self.encoder(x)
        mean, log_variance = self.mean(h), self.log_variance(h)
        z = mean + bnp.exp(log_variance / 2) * random.normal(self.noise(), mean.shape)
        return self.decoder(z), mean, log_variance


def negative_elbo(model, x):
    """Minus the evidence lower bound in nats an image, its two parts: what the pixels lose
    (Bernoulli), and how far the code's distribution is from the standard normal.
    """
    logits, mean, log_variance = model(x)
    pixels = optim.sigmoid_binary_cross_entropy(logits, x).sum(axis=-1).mean()
    divergence = (bnp.exp(log_variance) + mean**2 - 1 - log_variance).sum(axis=-1).mean() / 2
    return pixels + divergence, (pixels, divergence)


@bv.jit
def step(model, optimizer, x):
    (loss, parts), grads = bv.value_and_grad(negative_elbo, has_aux=True)(model, x)
    optimizer.update(grads)
    return loss, parts


def picture(image):
    """An image (64,) in [0, 1] as eight lines of text."""
    shades = np.array(list(" .:-=+*#%@"))
    return ["".join(row) for row in shades[(np.asarray(image).reshape(8, 8) * 9.99).astype(int)]]


def main(epochs=60, batch=64, latent=8, width=256, seed=0):
    """Train, print new digits; returns nats a test image: before, after, for pixels one by one."""
    rng = np.random.default_rng(seed)
    images = rng.permutation(load_digits().data.astype(np.float32) / 16)
    train, test = images[360:], images[:360]
    model = VAE(latent, width, nn.Rngs(params=seed, noise=seed + 1))
    optimizer = nn.Optimizer(model, optim.adam(2e-3))
    evaluate = bv.jit(negative_elbo)

    before = float(evaluate(model, test)[0])
    for epoch in range(epochs):
        order = rng.permutation(len(train))
        for start in range(0, len(order) - batch + 1, batch):
            step(model, optimizer, train[order[start : start + batch]])
        if (epoch + 1) % max(1, epochs // 6) == 0:
            loss, (pixels, divergence) = evaluate(model, test)
            print(
                f"epoch {epoch + 1:2}  test: {float(loss):.2f} nats an image = pixels "
                f"{float(pixels):.2f} + divergence {float(divergence):.2f}"
            )

    p = train.mean(axis=0).clip(1e-3, 1 - 1e-3)
    alone = -(test * np.log(p) + (1 - test) * np.log(1 - p)).sum(axis=1).mean()
    print(f"each pixel at its own mean: {alone:.2f}")

    codes = random.normal(random.key(seed), (8, latent))
    new = nn.sigmoid(model.decoder(codes))
    print("new digits:")
    for lines in zip(*map(picture, new), strict=True):
        print("  ".join(lines))
    return {"before": before, "after": float(evaluate(model, test)[0]), "alone": float(alone)}


if __name__ == "__main__":
    main()
