"""Hamiltonian Monte Carlo for a Bayesian linear regression (Neal, arXiv:1206.1901).

    python -m examples.hmc

The sampler knows a function that gives the log density and nothing else: `grad` drives the leapfrog
steps, `scan` makes chains and `vmap` runs several of them. The posterior of this model is known in
closed form, so that mean and spread of the samples can be checked.
"""

import numpy as np

import bevel as bv
import bevel.numpy as bnp
from bevel import lax, optim, random


def hmc(log_density, start, key, samples, step_size, leapfrogs):
    """A chain of `samples` positions, a pytree with that leading axis, and its acceptance rate."""
    gradient = bv.grad(log_density)

    def leapfrog(_, state):
        q, p = state
        p = optim.tree.add_scale(p, step_size / 2, gradient(q))
        q = optim.tree.add_scale(q, step_size, p)
        return q, optim.tree.add_scale(p, step_size / 2, gradient(q))

    def energy(q, p):
        return optim.tree.vdot(p, p) / 2 - log_density(q)

    def sample(q, key):
        momentum_key, accept_key = random.split(key)
        p = optim.tree.random_like(momentum_key, q)
        new_q, new_p = lax.fori_loop(0, leapfrogs, leapfrog, (q, p))
        change = energy(new_q, new_p) - energy(q, p)
        accepted = bnp.log(random.uniform(accept_key)) < -change
        q = optim.tree.where(accepted, new_q, q)
        return q, (q, accepted)

    _, (chain, accepted) = lax.scan(sample, start, random.split(key, samples))
    return chain, accepted.mean()


def main(samples=4000, warmup=200, chains=8, points=60, noise=0.5, seed=0):
    """Sample, compare with the closed form, print; returns means and deviations of both."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(points, 3)).astype(np.float32)
    y = (x @ [1.0, -2.0, 0.5] + 0.7 + noise * rng.normal(size=points)).astype(np.float32)

    def log_posterior(params):
        """Normal noise of known deviation, and a standard normal prior on weights and bias."""
        residual = (y - x @ params["w"] - params["b"]) / noise
        return -((residual**2).sum() + (params["w"] ** 2).sum() + params["b"] ** 2) / 2

    @bv.jit
    @bv.vmap
    def run(start, key):
        return hmc(log_posterior, start, key, warmup + samples, step_size=0.03, leapfrogs=4)

    start_key, key = random.split(random.key(seed))
    starts = {"w": random.normal(start_key, (chains, 3)), "b": bnp.zeros(chains)}
    draws, acceptance = run(starts, random.split(key, chains))
    kept = bnp.concatenate([draws["w"], draws["b"][..., None]], axis=-1)[:, warmup:]

    # The posterior is normal: precision X'X / noise^2 + 1, mean by its linear system.
    design = np.column_stack([x, np.ones(points)])
    precision = design.T @ design / noise**2 + np.eye(4)
    exact = np.linalg.solve(precision, design.T @ y / noise**2)
    spread = np.sqrt(np.diag(np.linalg.inv(precision)))

    result = {
        "mean": np.asarray(kept.mean(axis=(0, 1))),
        "exact_mean": exact,
        "deviation": np.asarray(kept.std(axis=(0, 1))),
        "exact_deviation": spread,
        "chain_means": np.asarray(kept.mean(axis=1)),
        "acceptance": float(acceptance.mean()),
    }
    print(f"{chains} chains of {samples} samples, {result['acceptance']:.0%} accepted")
    with np.printoptions(precision=4, suppress=True):
        print("posterior mean       ", result["mean"], " closed form", exact)
        print("posterior deviation  ", result["deviation"], " closed form", spread)
    return result


if __name__ == "__main__":
    main()
