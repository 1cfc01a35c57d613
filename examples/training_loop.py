"""The whole training loop: progress bar, metrics, checkpoints and exact resumption.

Stop `python -m examples.training_loop` with Ctrl-C and start it again: it goes on after the last
whole epoch and ends with the very numbers of a run that nobody stopped.
"""

import numpy as np
from rich.progress import Progress
from sklearn.datasets import load_digits

import bevel as bv
from bevel import checkpoint, nn, optim


@bv.jit
def train_step(model, optimizer, metrics, images, labels):
    def loss_fn(model):
        logits = model(images)
        return optim.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), logits

    (loss, logits), grads = bv.value_and_grad(loss_fn, has_aux=True)(model)
    optimizer.update(grads)
    metrics.update(loss=loss, logits=logits, labels=labels)


def main(directory="runs/training_loop", epochs=20, batch=64):
    """Train until `epochs` are done; returns model, optimizer and accuracy on 360 test images."""
    images, labels = load_digits(return_X_y=True)
    images = images / 16
    test, train = slice(0, 360), np.arange(360, len(labels))

    rngs = nn.Rngs(params=0, dropout=1)
    first, last = nn.Linear(64, 128, rngs=rngs), nn.Linear(128, 10, rngs=rngs)
    model = nn.Sequential(first, nn.relu, nn.Dropout(0.2, rngs=rngs), last)
    optimizer = nn.Optimizer(model, optim.adamw(2e-3))
    metrics = nn.MultiMetric(loss=nn.metrics.Average("loss"), accuracy=nn.metrics.Accuracy())

    run = model, optimizer  # all that the next epoch depends on, random streams included
    manager = checkpoint.CheckpointManager(directory, max_to_keep=2)
    if done := manager.latest_step() or 0:
        nn.update(run, manager.restore(done, like=nn.state(run)))

    model.train()
    with Progress() as bar:
        for epoch in bar.track(range(done, epochs), description="training"):
            order = np.random.default_rng(epoch).permutation(train)
            for rows in np.split(order, range(batch, len(order), batch)):
                train_step(model, optimizer, metrics, images[rows], labels[rows])
            seen = metrics.compute()
            bar.console.print(f"epoch {epoch + 1}: loss {seen['loss']:.4f}, {seen['accuracy']:.2%}")
            metrics.reset()
            manager.save(epoch + 1, nn.state(run))
    right = model.eval()(images[test]).argmax(axis=-1) == labels[test]
    print(f"test accuracy {right.mean():.2%}; checkpoints in {directory}")
    return run, float(right.mean())


if __name__ == "__main__":
    main()
