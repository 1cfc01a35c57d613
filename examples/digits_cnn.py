"""A small convolutional network on the handwritten digits of scikit-learn (8 x 8 pixels).

    python -m examples.digits_cnn

A module holds its state in cells (parameters, running statistics, dropout's random stream), so that
a compiled step takes the model and the optimizer and advances both.
"""

import numpy as np
from sklearn.datasets import load_digits

import bevel as bv
import bevel.numpy as bnp
from bevel import nn, optim


class CNN(nn.Module):
    """Two convolutions, one pooling, two dense layers: images (N, 8, 8, 1) to logits (N, 10)."""

    def __init__(self, rngs, width=32):
        self.conv1 = nn.Conv(1, width, (3, 3), use_bias=False, rngs=rngs)
        self.norm1 = nn.BatchNorm(width, momentum=0.9, rngs=rngs)
        self.conv2 = nn.Conv(width, 2 * width, (3, 3), use_bias=False, rngs=rngs)
        self.norm2 = nn.BatchNorm(2 * width, momentum=0.9, rngs=rngs)
        self.dropout = nn.Dropout(0.3, rngs=rngs)
        self.hidden = nn.Linear(16 * 2 * width, 64, rngs=rngs)
        self.out = nn.Linear(64, 10, rngs=rngs)

    def __call__(self, x):
        x = nn.relu(self.norm1(self.conv1(x)))
        x = nn.relu(self.norm2(self.conv2(x)))
        x = nn.max_pool(x, (2, 2), (2, 2))
        x = self.dropout(x.reshape(x.shape[0], -1))
        return self.out(nn.relu(self.hidden(x)))


@bv.jit
def step(model, optimizer, images, labels):
    def loss_fn(model):
        logits = model(images)
        return optim.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    loss, grads = bv.value_and_grad(loss_fn)(model)
    optimizer.update(grads)
    return loss


@bv.jit
def predict(model, images):
    return model(images).argmax(axis=-1)


def load(seed=0, test=360):
    """Images (N, 8, 8, 1) from 0 to 1 with labels (N,), shuffled: training pair, test pair."""
    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.target))
    images = (digits.images[order, ..., None] / 16).astype(np.float32)
    labels = digits.target[order].astype(np.int32)
    return (images[test:], labels[test:]), (images[:test], labels[:test])


def batches(images, labels, size, rng):
    """One epoch in random order, without the few images left over."""
    order = rng.permutation(len(images))
    for start in range(0, len(order) - size + 1, size):
        rows = order[start : start + size]
        yield images[rows], labels[rows]


def main(epochs=12, batch=64, width=32, seed=0):
    """Train and print; returns the accuracy on the 360 test images."""
    (images, labels), test = load(seed)
    rng = np.random.default_rng(seed)
    model = CNN(nn.Rngs(params=seed, dropout=seed + 1), width)
    steps = epochs * (len(images) // batch)
    optimizer = nn.Optimizer(model, optim.adamw(optim.cosine_decay_schedule(3e-3, steps)))

    for epoch in range(epochs):
        model.train()
        losses = [step(model, optimizer, *b) for b in batches(images, labels, batch, rng)]
        model.eval()
        accuracy = float((predict(model, test[0]) == test[1]).mean())
        print(f"epoch {epoch + 1:2}  loss {float(bnp.stack(losses).mean()):.4f}  {accuracy:.2%}")
    return accuracy


if __name__ == "__main__":
    main()
