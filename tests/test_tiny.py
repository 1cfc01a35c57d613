"""A ten-second smoke of everything that matters, on any device."""

import subprocess
import sys

import numpy as np

import bevel as bv
import bevel.numpy as bnp
from bevel import lax, random


def test_eager_compiled_and_differentiated_agree():
    def f(x):
        return (bnp.tanh(x) * x).sum()

    x = bnp.linspace(-1.0, 1.0, 7)
    np.testing.assert_allclose(bv.jit(f)(x), f(x), rtol=1e-6)
    t = np.tanh(np.asarray(x))
    want = t + np.asarray(x) * (1 - t * t)
    np.testing.assert_allclose(bv.grad(f)(x), want, rtol=1e-5)
    np.testing.assert_allclose(bv.jit(bv.grad(bv.jit(f)))(x), want, rtol=1e-5)


def test_vmap_of_scan_and_matmul():
    def run(w, xs):
        return lax.scan(lambda c, x: (bnp.tanh(c @ w + x), c.sum()), bnp.zeros(3), xs)

    w, xs = random.normal(random.key(0), (3, 3)), random.normal(random.key(1), (4, 5, 3))
    carry, ys = bv.jit(bv.vmap(run, in_axes=(None, 0)))(w, xs)
    one, _ = run(w, xs[2])
    assert carry.shape == (4, 3) and ys.shape == (4, 5)
    np.testing.assert_allclose(carry[2], one, rtol=1e-5, atol=1e-6)


def test_linear_algebra_and_sorting_compile():
    a = random.normal(random.key(2), (4, 4))
    spd = a @ a.T + 4 * bnp.eye(4)
    solved = bv.jit(lambda m, b: bnp.linalg.solve(m, b))(spd, bnp.ones(4))
    np.testing.assert_allclose(np.asarray(spd) @ np.asarray(solved), np.ones(4), rtol=1e-4)
    np.testing.assert_array_equal(bv.jit(bnp.sort)(a), np.sort(np.asarray(a)))


def test_state_and_callbacks_under_jit():
    cell = bv.ref(bnp.zeros(()))
    seen = []

    @bv.jit
    def step(x):
        cell[...] = cell[...] + x
        bv.debug.callback(lambda v: seen.append(float(v)), cell[...])

    step(1.0), step(2.0)
    bv.effects_barrier()
    assert float(cell[...]) == 3.0 and sorted(seen) == [1.0, 3.0]


def test_importing_bevel_does_not_import_jaxlib():
    code = "import sys, bevel, bevel.numpy as bnp; x = bnp.tanh(bnp.ones(3)) + 1"
    code += "; assert 'jaxlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
