"""One training epoch of the Harbor Fleet forecaster: Bevel, JAX with Optax, and torch. Goal: faster
than both.

The same windows of the same fleet in batches of the same shapes, the same network, loss, AdamW,
dropout masks per example and running mean of the weights, each written as its users would: Bevel
and JAX run the epoch as one program, torch with its fused GRU.
"""

from __future__ import annotations

import numpy as np

import bevel as bv
from bench.harness import Report, interleaved, peer
from bevel import random
from examples.harbor_fleet.run import calendar_of
from examples.harbor_fleet.simulator import simulate
from examples.harbor_fleet.training import ORIGINS, WINDOW, Config, Trainer, run_epoch

FLEETS = {"12 depots x 548 days": 548, "12 depots x 1096 days": 1096}


def setup(days, config):
    """A trainer and the batches of its first epoch."""
    fleet = simulate(days=days)
    trainer = Trainer(config, fleet, fleet.dates[-31], calendar_of(fleet))
    return trainer, trainer.batches()


def epoch_bevel(trainer, batches):
    """A function that runs one epoch and returns its mean loss."""
    key = random.key(0)
    state = trainer.model, trainer.average, trainer.optimizer

    def epoch():
        with random.allow_key_reuse():
            return bv.block_until_ready(
                run_epoch(*state, trainer.examples, batches, key, trainer.config)
            )

    return epoch


def epoch_jax(jax, optax, trainer, batches):
    """The same in JAX with plain pytrees."""
    jnp, config = jax.numpy, trainer.config
    examples = {name: jnp.asarray(np.asarray(a)) for name, a in trainer.examples.items()}
    weights = {
        n: jnp.asarray(w) for n, w in trainer.weights().items() if n.endswith((".kernel", ".bias"))
    }
    tx = optax.adamw(config.learning_rate, weight_decay=config.weight_decay)

    def cell(weights, name, carry, inputs):
        i = inputs @ weights[f"{name}.dense_i.kernel"] + weights[f"{name}.dense_i.bias"]
        h = carry @ weights[f"{name}.dense_h.kernel"]
        (ri, zi, ni), (rh, zh, nh) = jnp.split(i, 3), jnp.split(h, 3)
        z = jax.nn.sigmoid(zi + zh)
        new = (1 - z) * jnp.tanh(ni + jax.nn.sigmoid(ri + rh) * nh) + z * carry
        return new, new

    def unroll(weights, name, inputs):
        start = jnp.zeros(config.hidden)
        return jax.lax.scan(lambda c, x: cell(weights, name, c, x), start, inputs)[1]

    def dropout(x, key, shape):
        kept = jax.random.bernoulli(key, 1 - config.dropout, shape)
        return jnp.where(kept, x / (1 - config.dropout), 0)

    def network(weights, steps, ahead, key):
        keys = jax.random.split(key, 3)
        hidden = dropout(unroll(weights, "first", steps), keys[0], (1, config.hidden))
        hidden = dropout(unroll(weights, "second", hidden)[-ORIGINS:], keys[1], (1, config.hidden))
        state = (hidden @ weights["state.kernel"] + weights["state.bias"]).reshape(ORIGINS, 7, -1)
        mixed = jax.nn.relu(ahead @ weights["calendar.kernel"] + state)
        mixed = dropout(mixed, keys[2], (1, 1, config.mixed))
        return (mixed @ weights["output.kernel"] + weights["output.bias"])[..., 0]

    def loss_of(weights, batch, key):
        depots, days = batch[:, :1], batch[:, 1:] + jnp.arange(WINDOW)
        origins = days[:, -ORIGINS:]
        keys = jax.random.split(key, batch.shape[0])
        got = jax.vmap(network, (None, 0, 0, 0))(
            weights, examples["steps"][depots, days], examples["ahead"][depots, origins], keys
        )
        losses = optax.huber_loss(
            got, examples["correction"][depots, origins], delta=config.huber_delta
        )
        mask = examples["mask"][depots, origins]
        return (losses * mask).sum() / jnp.maximum(mask.sum(), 1.0)

    @jax.jit
    def run(state, batches, key):
        def step(carry, batch):
            weights, average, opt, key = carry
            key, dropout_key = jax.random.split(key)
            loss, grads = jax.value_and_grad(loss_of)(weights, batch, dropout_key)
            updates, opt = tx.update(grads, opt, weights)
            weights = optax.apply_updates(weights, updates)
            keep = config.averaging
            average = jax.tree.map(lambda a, w: keep * a + (1 - keep) * w, average, weights)
            return (weights, average, opt, key), loss

        carry, losses = jax.lax.scan(step, (*state, key), batches)
        return carry[:3], losses.mean()

    state, key = [(weights, weights, tx.init(weights))], jax.random.key(0)

    def epoch():
        state[0], loss = run(state[0], batches, key)
        return jax.block_until_ready((state[0], loss))[1]

    return epoch


def epoch_torch(torch, trainer, batches):
    """The same in torch, eager, with its own GRU (which has one more bias)."""
    config, f = trainer.config, torch.nn.functional
    examples = {name: torch.from_numpy(np.array(a)) for name, a in trainer.examples.items()}
    sizes = examples["steps"].shape[-1], examples["ahead"].shape[-1]

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.GRU(sizes[0], config.hidden, batch_first=True)
            self.second = torch.nn.GRU(config.hidden, config.hidden, batch_first=True)
            self.state = torch.nn.Linear(config.hidden, 7 * config.mixed)
            self.calendar = torch.nn.Linear(sizes[1], config.mixed, bias=False)
            self.output = torch.nn.Linear(config.mixed, 1)

        def forward(self, steps, ahead):
            def dropout(x, shape):
                return x * f.dropout(torch.ones(shape), config.dropout)

            count = len(steps)
            hidden = dropout(self.first(steps)[0], (count, 1, config.hidden))
            hidden = dropout(self.second(hidden)[0][:, -ORIGINS:], (count, 1, config.hidden))
            state = self.state(hidden).reshape(count, ORIGINS, 7, -1)
            mixed = dropout(f.relu(self.calendar(ahead) + state), (count, 1, 1, config.mixed))
            return self.output(mixed)[..., 0]

    network = Network()
    optimizer = torch.optim.AdamW(
        network.parameters(), config.learning_rate, weight_decay=config.weight_decay
    )
    average = [p.detach().clone() for p in network.parameters()]
    batches = torch.from_numpy(batches).long()

    def epoch():
        losses = []
        for batch in batches:
            depots, days = batch[:, :1], batch[:, 1:] + torch.arange(WINDOW)
            origins = days[:, -ORIGINS:]
            got = network(examples["steps"][depots, days], examples["ahead"][depots, origins])
            wanted, mask = (
                examples["correction"][depots, origins],
                examples["mask"][depots, origins],
            )
            loss = f.huber_loss(got, wanted, reduction="none", delta=config.huber_delta)
            loss = (loss * mask).sum() / mask.sum().clamp(min=1.0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                torch._foreach_lerp_(average, list(network.parameters()), 1 - config.averaging)
            losses.append(loss.detach())
        return torch.stack(losses).mean()

    return epoch


def run() -> None:
    """Time an epoch at each size of fleet."""
    jax, optax, torch = peer("jax"), peer("optax"), peer("torch")
    report = Report(
        "one epoch of the forecaster",
        [n for n, m in (("jax", jax and optax), ("torch", torch)) if m],
    )
    for name, days in FLEETS.items():
        trainer, batches = setup(days, Config())
        epochs = {"bevel": epoch_bevel(trainer, batches)}
        if jax and optax:
            epochs["jax"] = epoch_jax(jax, optax, trainer, batches)
        if torch:
            epochs["torch"] = epoch_torch(torch, trainer, batches)
        losses = {who: float(epoch()) for who, epoch in epochs.items()}
        print(f"{name}: first losses {losses}")
        report.row(f"{name}, {len(batches)} batches", interleaved(epochs))
    report.show()


if __name__ == "__main__":
    run()
