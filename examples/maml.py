"""Model-agnostic meta-learning of sinusoids (Finn, Abbeel and Levine, arXiv:1703.03400).

    python -m examples.maml

A network learns a starting point from which a single gradient step on ten points fits a sinusoid
that it has never seen. The training gradient goes through that step: a gradient of a gradient, for
a batch of tasks at once by `vmap`. Parameters are a plain pytree here: no module is needed.
"""

import bevel as bv
import bevel.numpy as bnp
from bevel import lax, optim, random


def network(params, x):
    """A tanh network: x (N, 1) to (N, 1)."""
    *hidden, (w, b) = params
    for v, c in hidden:
        x = bnp.tanh(x @ v + c)
    return x @ w + b


def init(key, sizes):
    pairs = zip(random.split(key, len(sizes) - 1), sizes, sizes[1:], strict=False)
    return [(random.normal(k, (m, n)) / bnp.sqrt(m), bnp.zeros(n)) for k, m, n in pairs]


def task(key, points=10):
    """Points x, y (2 * points, 1) of A sin(x + p): half to adapt to, half to be judged on."""
    amplitude_key, phase_key, x_key = random.split(key, 3)
    amplitude = random.uniform(amplitude_key, minval=0.5, maxval=2.0)
    phase = random.uniform(phase_key, maxval=bnp.pi)
    x = random.uniform(x_key, (2 * points, 1), minval=-4.0, maxval=4.0)
    return x, amplitude * bnp.sin(x + phase)


def loss_fn(params, x, y):
    return ((network(params, x) - y) ** 2).mean()


def adapt(params, x, y, rate=0.1):
    """Parameters after one gradient step on one task."""
    grads = bv.grad(loss_fn)(params, x, y)
    return bv.tree.map(lambda p, g: p - rate * g, params, grads)


def adapted_loss(params, x, y):
    """Loss on the second half of a task's points after adapting to the first half."""
    half = len(x) // 2
    return loss_fn(adapt(params, x[:half], y[:half]), x[half:], y[half:])


def mean(loss):
    """`loss` over a batch of tasks: x, y (tasks, points, 1)."""
    return lambda params, x, y: bv.vmap(loss, in_axes=(None, 0, 0))(params, x, y).mean()


def train(loss, params, key, iterations, tasks=25):
    """Parameters that Adam finds for the mean of `loss` over random tasks: one compiled program."""
    optimizer = optim.adam(optim.cosine_decay_schedule(3e-3, iterations))

    @bv.jit
    def run(params, key):
        def iteration(carry, key):
            params, state = carry
            grads = bv.grad(mean(loss))(params, *bv.vmap(task)(random.split(key, tasks)))
            updates, state = optimizer.update(grads, state, params)
            return (optim.apply_updates(params, updates), state), None

        start = params, optimizer.init(params)
        return lax.scan(iteration, start, random.split(key, iterations))[0][0]

    return run(params, key)


def main(iterations=3000, width=40, seed=0):
    """Train with and without adapting, judge on new tasks, print; returns four squared errors."""
    init_key, train_key, test_key = random.split(random.key(seed), 3)
    test = bv.vmap(task)(random.split(test_key, 500))
    params = init(init_key, (1, width, width, 1))
    errors = {}
    for name, loss in (("plain", loss_fn), ("meta", adapted_loss)):
        trained = train(loss, params, random.clone(train_key), iterations)
        for steps, judged in ((0, loss_fn), (1, adapted_loss)):
            errors[name, steps] = float(bv.jit(mean(judged))(trained, *test))
    print("squared error on 500 new sinusoids   0 steps   1 step on 10 points")
    print(
        f"trained on all sinusoids at once     {errors['plain', 0]:7.3f}  {errors['plain', 1]:7.3f}"
    )
    print(
        f"trained to adapt (MAML)              {errors['meta', 0]:7.3f}  {errors['meta', 1]:7.3f}"
    )
    return errors


if __name__ == "__main__":
    main()
