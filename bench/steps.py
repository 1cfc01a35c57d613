"""A training step with many small parameters, where the framework's own cost shows.

A narrow MLP with Adam, of 20 and 100 layers. Goals: at most half of the time of JAX's plain pytree
step, a twentieth of `nnx.jit`'s, and a cost that hardly grows with the number of parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import bevel as bv
import bevel.numpy as bnp
from bench.harness import Report, human, interleaved, peer
from bevel import nn, optim

WIDTH, BATCH = 16, 8


def bevel_step(layers: int, x: np.ndarray) -> tuple[Callable[[], Any], Any, tuple]:
    """One step that is waited for, the jitted function, and its arguments."""
    rngs = nn.Rngs(0)
    model = nn.Sequential(
        *[f for _ in range(layers) for f in (nn.Linear(WIDTH, WIDTH, rngs=rngs), bnp.tanh)]
    )
    optimizer = nn.Optimizer(model, optim.adam(1e-3))
    data = bnp.asarray(x)

    @bv.jit
    def step(model, optimizer, x):
        loss, grads = bv.value_and_grad(lambda m: (m(x) ** 2).mean())(model)
        optimizer.update(grads)
        return loss

    args = (model, optimizer, data)
    return lambda: bv.block_until_ready(step(*args)), step, args


def python_seconds(step: Any, args: tuple) -> float:
    """What a call takes without the program: its last results are given again."""
    step(*args)
    bound = next(iter(step._direct.values()))
    values: list[Any] = []
    execute = bound.execute
    bound.execute = lambda a: values or values.extend(execute(a)) or values
    seconds = interleaved({"call": lambda: step(*args)})["call"]
    bound.execute = execute
    return seconds


class Jax:
    """The same model as a list of dicts."""

    def __init__(self, jax: Any, optax: Any, layers: int, x: np.ndarray):
        self.jax, self.optax, self.layers, self.x = jax, optax, layers, jax.numpy.asarray(x)
        self.tx = optax.adam(1e-3)

    def params(self) -> Any:
        """New parameters."""
        jax = self.jax
        keys = jax.random.split(jax.random.key(0), self.layers)
        init = jax.nn.initializers.lecun_normal()
        return [{"w": init(k, (WIDTH, WIDTH)), "b": jax.numpy.zeros(WIDTH)} for k in keys]

    def loss(self, params: Any, x: Any) -> Any:
        """Mean square of the output."""
        for p in params:
            x = self.jax.numpy.tanh(x @ p["w"] + p["b"])
        return (x**2).mean()

    def stepper(self, loss: Callable, params: Any, donate: tuple[int, ...]) -> Callable[[], Any]:
        """A function that makes one step and waits for it."""

        def step(params, state, x):
            value, grads = self.jax.value_and_grad(loss)(params, x)
            updates, state = self.tx.update(grads, state, params)
            return self.optax.apply_updates(params, updates), state, value

        compiled = self.jax.jit(step, donate_argnums=donate)
        held = [params, self.tx.init(params)]

        def run():
            held[0], held[1], value = compiled(*held, self.x)
            value.block_until_ready()

        return run

    def plain(self) -> Callable[[], Any]:
        """Parameters as a pytree, nothing donated."""
        return self.stepper(self.loss, self.params(), ())

    def donated(self) -> Callable[[], Any]:
        """Parameters and moments donated."""
        return self.stepper(self.loss, self.params(), (0, 1))

    def flat(self) -> Callable[[], Any]:
        """All parameters in one vector, donated."""
        vector, unravel = self.jax.flatten_util.ravel_pytree(self.params())
        return self.stepper(lambda v, x: self.loss(unravel(v), x), vector, (0, 1))


def nnx_step(nnx: Any, jax: Any, optax: Any, layers: int, x: np.ndarray) -> Callable[[], Any]:
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(
        *[f for _ in range(layers) for f in (nnx.Linear(WIDTH, WIDTH, rngs=rngs), jax.numpy.tanh)]
    )
    optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
    data = jax.numpy.asarray(x)

    @nnx.jit
    def step(model, optimizer, x):
        loss, grads = nnx.value_and_grad(lambda m: (m(x) ** 2).mean())(model)
        optimizer.update(model, grads)
        return loss

    return lambda: step(model, optimizer, data).block_until_ready()


def run() -> None:
    """Print a row for each number of layers."""
    jax, optax, nnx = peer("jax"), peer("optax"), peer("flax.nnx")
    peers = ["jax", "jax donated", "jax flat"] if jax and optax else []
    report = Report(
        "step of a 16-wide MLP with Adam", peers + (["nnx.jit"] if peers and nnx else [])
    )
    for layers in (20, 100):
        x = np.random.default_rng(0).normal(size=(BATCH, WIDTH)).astype(np.float32)
        ours, step, args = bevel_step(layers, x)
        contenders = {"bevel": ours}
        if peers:
            theirs = Jax(jax, optax, layers, x)
            contenders |= {
                "jax": theirs.plain(),
                "jax donated": theirs.donated(),
                "jax flat": theirs.flat(),
            }
            if nnx:
                contenders["nnx.jit"] = nnx_step(nnx, jax, optax, layers, x)
        report.row(f"{layers} layers", interleaved(contenders))
        print(
            f"{layers} layers: Python of a call {human(python_seconds(step, args))}, fusions "
            f"{step.lower(*args).compile().as_text().count(' fusion(')}"
        )
    report.show()


if __name__ == "__main__":
    run()
