"""Random programs: all transforms and their compositions agree with the eager reference.

A program is a list of steps over a pool of float64 arrays, all of shape (3,); each step applies a
smooth function, a loop, a branch, a nested jit, remat or custom rule to members of the pool.
"""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import bevel as bv
import bevel.numpy as bnp
from bevel import lax

F64 = bnp.float64


@bv.custom_vjp
def own_rule(x):
    return bnp.sin(x)


own_rule.defvjp(lambda x: (bnp.sin(x), bnp.cos(x)), lambda c, g: (g * c,))


def loop(x, y):
    def step(c, row):
        c = bnp.sin(c) * 0.5 + row * y
        return c, c * row

    carry, ys = lax.scan(step, x, bnp.stack([x, y, x * y]))
    return carry + ys.sum(axis=0)


def counted(x, y):
    return lax.fori_loop(0, 3, lambda i, v: v * 0.5 + bnp.cos(v) * y, x)


def branch(x, y):
    return lax.cond(x.sum() > y.sum(), lambda a, b: a * b, lambda a, b: bnp.sin(a) - b, x, y)


def affine(x, y):
    """Prefixes of the maps z -> x z + y."""
    return lax.associative_scan(lambda p, q: (p[0] * q[0], p[1] * q[0] + q[1]), (x, y))[1]


def chosen(x, y):
    i = bnp.floor(x[0] * 3).astype(int)
    return lax.switch(i, [lambda a: a * y, bnp.sin, lambda a: a - bnp.cos(y)], x)


def within(x, y):
    """A loop in a loop that reads what is around it."""

    def outer(c, row):
        inner = lambda d, r: (bnp.tanh(d * row) + r * y, d)
        d, ys = lax.scan(inner, c, bnp.stack([row, c]), reverse=True)
        return d, ys.sum(axis=0)

    c, ys = lax.scan(outer, x, bnp.stack([x, y]))
    return c + ys.sum(axis=0)


def named(x, y):
    keep = bv.checkpoint_policies.save_only_these_names("h")
    return bv.remat(lambda a: bnp.sin(bv.checkpoint_name(a * y, "h")) * a, policy=keep)(x)


def solved(x, y):
    """(2 + x^2) z = y."""
    times = lambda z: (2.0 + x**2) * z
    return lax.custom_linear_solve(times, y, lambda f, b: b / (2.0 + x**2), symmetric=True)


def mix(x, y):
    m = bnp.outer(x, y)
    return m @ x + bnp.tanh(m).sum(axis=0)


STEPS = {
    "add": lambda x, y: x + y,
    "mul": lambda x, y: x * y,
    "sin": lambda x, y: bnp.sin(x) - y,
    "tanh": lambda x, y: bnp.tanh(x * y),
    "exp": lambda x, y: bnp.exp(-(x**2)) + y,
    "div": lambda x, y: x / (2.0 + y**2),
    "roll": lambda x, y: bnp.concatenate([y[1:], x[:1]]),
    "index": lambda x, y: x.at[1].set(y[0] * y[2]),
    "gather": lambda x, y: x[bnp.array([2, 0, 2])] * y,
    "where": lambda x, y: bnp.where(x > y, x * 2, bnp.sin(y)),
    "cumsum": lambda x, y: bnp.cumsum(x) * y,
    "logsumexp": lambda x, y: bnp.log(bnp.exp(x).sum()) + y,
    "affine": affine,
    "chosen": chosen,
    "within": within,
    "named": named,
    "solved": solved,
    "mix": mix,
    "loop": loop,
    "counted": counted,
    "branch": branch,
    "jit": bv.jit(lambda x, y: bnp.sin(x) * y),
    "remat": bv.remat(lambda x, y: bnp.sin(bnp.sin(x)) * y),
    "vmap": bv.vmap(lambda a, b: bnp.sin(a) * b),
    "grad": lambda x, y: bv.grad(lambda v: (bnp.sin(v) * y).sum())(x),
    "own": lambda x, y: own_rule(x) + y,
}
FORWARD = sorted(set(STEPS) - {"own"})


def program(steps):
    """The scalar function of two arrays that the steps describe."""

    def f(x, y):
        pool = [x, y]
        for name, i, j in steps:
            pool.append(STEPS[name](pool[i % len(pool)], pool[j % len(pool)]))
        return (bnp.sin(pool[-1]) * bnp.tanh(pool[-2])).sum()

    return f


def programs(names):
    step = st.tuples(st.sampled_from(names), st.integers(0, 5), st.integers(0, 5))
    return st.lists(step, min_size=1, max_size=5)


def point(seed, *lead):
    rng = np.random.default_rng(seed)
    return tuple(bnp.asarray(rng.uniform(0.1, 0.9, (*lead, 3)), dtype=F64) for _ in range(2))


def close(a, b, tol=1e-8):
    a, b = np.asarray(a), np.asarray(b)
    np.testing.assert_allclose(a, b, rtol=tol, atol=tol)


@given(programs(sorted(STEPS)), st.integers(0, 3))
def test_compiled_equals_eager(steps, seed):
    f, (x, y) = program(steps), point(seed)
    with bv.disable_jit():
        want = f(x, y)
    close(f(x, y), want)
    close(bv.jit(f)(x, y), want)
    bv.make_graph(f)(x, y)


@given(programs(sorted(STEPS)), st.integers(0, 3))
def test_gradients_agree_however_they_are_asked_for(steps, seed):
    f, (x, y) = program(steps), point(seed)
    gx, gy = bv.grad(f, argnums=(0, 1))(x, y)
    for g in (bv.jit(bv.grad(f, (0, 1))), bv.grad(bv.jit(f), (0, 1)), bv.grad(bv.remat(f), (0, 1))):
        a, b = g(x, y)
        close(a, gx), close(b, gy)
    rng = np.random.default_rng(seed + 10)
    dx, dy = (bnp.asarray(rng.normal(size=3), dtype=F64) for _ in range(2))
    h = 1e-6
    numeric = (f(x + h * dx, y + h * dy) - f(x - h * dx, y - h * dy)) / (2 * h)
    close(gx @ dx + gy @ dy, numeric, 1e-5)


@given(programs(FORWARD), st.integers(0, 3))
def test_forward_and_reverse_agree_to_second_order(steps, seed):
    f, (x, y) = program(steps), point(seed)

    def at(v):
        return f(v, y)

    close(bv.jacfwd(at)(x), bv.grad(at)(x))
    h = bv.hessian(at)(x)
    close(h, h.T, 1e-7)
    close(bv.jacrev(bv.grad(at))(x), h, 1e-7)
    close(bv.jit(bv.jacfwd(bv.jit(bv.grad(at))))(x), h, 1e-7)


@given(programs(sorted(STEPS)), st.integers(0, 3))
def test_vmap_equals_a_loop(steps, seed):
    f, (xs, ys) = program(steps), point(seed, 4)
    close(bv.vmap(f)(xs, ys), np.stack([f(x, y) for x, y in zip(xs, ys, strict=True)]))
    close(bv.vmap(f, in_axes=(None, 0))(xs[0], ys), np.stack([f(xs[0], y) for y in ys]))
    g = bv.grad(f)
    want = np.stack([g(x, ys[0]) for x in xs])
    close(bv.vmap(g, in_axes=(0, None))(xs, ys[0]), want)
    close(bv.jit(bv.vmap(g, in_axes=(0, None)))(xs, ys[0]), want)
    summed = bv.grad(lambda a: bv.vmap(f, in_axes=(0, None))(a, ys[0]).sum())
    close(summed(xs), want)


@settings(max_examples=10)
@given(programs(FORWARD), st.integers(0, 3))
def test_nested_maps_and_third_derivatives(steps, seed):
    f, (x, y) = program(steps), point(seed)

    def along(t):
        return f(x + t * y, y)

    third = bv.grad(bv.grad(bv.grad(along)))
    zero = bnp.zeros((), dtype=F64)
    t = bv.jit(third)(zero)
    close(third(zero), t, 1e-6)
    h = 1e-4
    second = bv.grad(bv.grad(along))
    close((second(zero + h) - second(zero - h)) / (2 * h), t, 1e-3)
    pair = bv.vmap(bv.vmap(f, in_axes=(None, 0)), in_axes=(0, None))
    xs, ys = point(seed, 3)
    close(pair(xs, ys)[1, 2], f(xs[1], ys[2]))
