"""Differentiable physics: throw a ball with drag at a target, and learn a spring from its motion.

    python -m examples.physics

Both integrate equations of motion with `lax.scan` and differentiate the integrator: the first finds
the throw by Newton's method on the Jacobian of the landing point, the second finds stiffness and
damping from a noisy track by gradient descent.
"""

import bevel as bv
import bevel.numpy as bnp
from bevel import lax, optim, random

GRAVITY, DRAG = bnp.array([0.0, 0.0, -9.81]), 0.02  # m/s^2; 1/m


def rk4(derivative, state, dt, steps):
    """States (steps, ...) after each step of the classical Runge-Kutta method."""

    def step(s, _):
        k1 = derivative(s)
        k2 = derivative(s + dt / 2 * k1)
        k3 = derivative(s + dt / 2 * k2)
        k4 = derivative(s + dt * k3)
        s = s + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return s, s

    return lax.scan(step, state, length=steps)[1]


# -- a throw that hits -----------------------------------------------------------------------------


def flight(state):
    """d/dt of position and velocity (2, 3): gravity, and drag that grows with the speed squared."""
    velocity = state[1]
    return bnp.stack([velocity, GRAVITY - DRAG * bnp.linalg.norm(velocity) * velocity])


def landing(velocity, time, steps=100):
    """Where a ball is that was thrown from the origin at `velocity` (3,) after `time` seconds."""
    start = bnp.stack([bnp.zeros(3), velocity])
    return rk4(flight, start, time / steps, steps)[-1, 0]


@bv.jit
def newton(velocity, target, time):
    """A better throw: the Jacobian of the landing point says what to change."""
    miss = landing(velocity, time) - target
    jacobian = bv.jacfwd(landing)(velocity, time)
    return velocity - bnp.linalg.solve(jacobian, miss), bnp.linalg.norm(miss)


def find_throw(target, time=2.0, iterations=8):
    """The velocity (3,) that is at `target` after `time` seconds, and the misses on the way."""
    velocity, misses = target / time, []
    for _ in range(iterations):
        velocity, miss = newton(velocity, target, time)
        misses.append(float(miss))
    return velocity, misses


# -- a spring from its motion ----------------------------------------------------------------------


def track(stiffness, damping, steps, dt=0.05):
    """Positions (steps,) of a unit mass that is let go at 1 m."""

    def derivative(s):
        return bnp.stack([s[1], -stiffness * s[0] - damping * s[1]])

    return rk4(derivative, bnp.array([1.0, 0.0]), dt, steps)[:, 0]


def learn_spring(observed, guess, iterations):
    """Stiffness and damping (2,) that fit observed positions; logs keep them positive."""
    optimizer = optim.adam(optim.cosine_decay_schedule(0.1, iterations))

    def loss(logs):
        return ((track(*bnp.exp(logs), len(observed)) - observed) ** 2).mean()

    @bv.jit
    def fit(logs):
        def step(carry, _):
            logs, state = carry
            value, grads = bv.value_and_grad(loss)(logs)
            updates, state = optimizer.update(grads, state, logs)
            return (optim.apply_updates(logs, updates), state), value

        (logs, _), losses = lax.scan(step, (logs, optimizer.init(logs)), length=iterations)
        return bnp.exp(logs), losses

    return fit(bnp.log(guess))


def main(iterations=300):
    """Solve both and print; returns the last miss (m) and the learned spring (2,)."""
    target = bnp.array([20.0, 5.0, 2.0])
    velocity, misses = find_throw(target)
    print("a throw at (20, 5, 2) m in 2 s; misses in m:", *(f"{m:.1e}" for m in misses))
    print("  velocity", [round(float(v), 3) for v in velocity], "m/s")

    truth = bnp.array([4.0, 0.3])
    noise = 0.02 * random.normal(random.key(0), (200,))
    spring, losses = learn_spring(track(*truth, 200) + noise, bnp.array([2.5, 1.0]), iterations)
    print(f"a spring from 200 noisy positions; squared error {losses[0]:.4f} to {losses[-1]:.5f}")
    print(f"  stiffness {spring[0]:.3f} (true 4), damping {spring[1]:.3f} (true 0.3)")
    return {"miss": misses[-1], "spring": spring, "truth": truth}


if __name__ == "__main__":
    main()
