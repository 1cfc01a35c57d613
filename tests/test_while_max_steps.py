"""`lax.while_loop(..., max_steps=n)`: reverse mode through a loop of unknown length."""

import functools
import math
import pathlib

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import lax, nn, random
from bevel.control.bounded_while import chunks
from bevel.debug import checkify

F64 = functools.partial(bnp.asarray, dtype="float64")


def close(found, expected, tol=1e-6):
    for a, b in zip(bv.tree.leaves(found), bv.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=tol, atol=tol)


def numeric(f, x, h=1e-6):
    return (float(f(F64(x + h))) - float(f(F64(x - h)))) / (2 * h)


def wave(x, w, steps=5, n=20):
    """A counted loop whose body closes over `w`."""

    def body(s):
        return s[0] + 1, bnp.sin(s[1]) * w + s[1] * 0.3

    return lax.while_loop(lambda s: s[0] < steps, body, (0, x), max_steps=n)[1]


def wave_in_python(x, w, steps=5):
    for _ in range(steps):
        x = bnp.sin(x) * w + x * 0.3
    return x


def sine(x, steps=3, n=10):
    return wave(x, 1.3, steps, n)


def sine_in_python(x, steps=3):
    return wave_in_python(x, 1.3, steps)


# -- values and gradients --------------------------------------------------------------------------


@pytest.mark.parametrize("n", [5, 6, 7, 16, 100, 1000])
def test_gradients_are_those_of_a_python_loop(n):
    x, w = F64([0.7, -1.2]), F64(0.9)
    f = lambda x, w: wave(x, w, 5, n).sum()
    p = lambda x, w: wave_in_python(x, w).sum()
    expected = bv.value_and_grad(p, (0, 1))(x, w)
    close(bv.jit(bv.value_and_grad(f, (0, 1)))(x, w), expected, 1e-12)
    if n in (7, 16):  # with a counter beside the chunks, and without
        close(f(x, w), expected[0], 1e-12)
        close(bv.value_and_grad(f, (0, 1))(x, w), expected, 1e-12)
        close(bv.grad(bv.jit(f), (0, 1))(x, w), expected[1], 1e-12)


@pytest.mark.parametrize("steps,n", [(0, 1), (0, 9), (1, 1), (1, 2), (2, 2), (3, 3), (9, 9)])
def test_few_steps(steps, n):
    found = bv.jit(bv.value_and_grad(lambda x, w: wave(x, w, steps, n), (0, 1)))(F64(0.7), F64(0.9))
    expected = bv.value_and_grad(lambda x, w: wave_in_python(x, w, steps), (0, 1))
    close(found, expected(F64(0.7), F64(0.9)), 1e-12)


def test_the_number_of_steps_is_data():
    """One program for all of them, whether the number is an argument or follows from the values."""
    g = bv.jit(bv.grad(wave, (0, 1)), static_argnames="n")
    for steps in (0, 1, 7, 19, 20):
        expected = bv.grad(wave_in_python, (0, 1))(F64(0.7), F64(0.9), steps)
        close(g(F64(0.7), F64(0.9), steps, n=20), expected, 1e-10)
    assert g._cache_size() == 1

    def grow(x):
        return lax.while_loop(lambda v: v < 10, lambda v: v * x + 1, x, max_steps=50)

    slope = bv.jit(bv.grad(grow))
    for x in (1.1, 2.3, 9.0, 11.0):
        close(slope(F64(x)), numeric(grow, x), 1e-5)


def test_newton_against_jax():
    jax = pytest.importorskip("jax")

    def root(while_loop, np, a):
        def body(s):
            x, _ = s
            new = x - (x**3 - a * x - 1) / (3 * x**2 - a)
            return new, np.abs(new - x)

        return while_loop(lambda s: s[1] > 1e-5, body, (a + 1.0, a + 1.0))[0]

    a = np.linspace(0.5, 4, 7, dtype=np.float32)
    theirs = jax.vmap(jax.jacfwd(lambda a: root(jax.lax.while_loop, jax.numpy, a)))(a)
    bounded = functools.partial(lax.while_loop, max_steps=64)
    ours = functools.partial(root, bounded, bnp)
    close(bv.jit(bv.vmap(bv.grad(ours)))(a), theirs, 1e-4)
    close(bv.jit(bv.grad(lambda a: bv.vmap(ours)(a).sum()))(a), theirs, 1e-4)


def test_higher_derivatives():
    x, slope = F64(0.7), bv.grad(sine_in_python)
    bend, third = bv.grad(slope), bv.grad(bv.grad(slope))
    for way in (
        bv.grad(bv.grad(sine)),
        bv.jit(bv.grad(bv.jit(bv.grad(sine)))),
        bv.jacrev(bv.jacfwd(sine)),
        bv.jacfwd(bv.grad(sine)),
        bv.hessian(sine),
    ):
        close(way(x), bend(x), 1e-10)
    close(bv.jit(bv.grad(bv.grad(bv.grad(sine))))(x), third(x), 1e-9)
    both = lambda f: bv.hessian(lambda v: f(v[0], v[1]))(F64([0.7, 0.9]))
    close(both(wave), both(wave_in_python), 1e-10)


def test_forward_mode_is_that_of_the_plain_loop():
    x, t = F64(1.4), F64(2.0)
    plain = lambda x: lax.while_loop(lambda v: v < 9, lambda v: v * x + 1, x)
    bound = lambda x: lax.while_loop(lambda v: v < 9, lambda v: v * x + 1, x, max_steps=40)
    close(bv.jvp(bound, (x,), (t,)), bv.jvp(plain, (x,), (t,)), 1e-12)
    close(bv.jit(bv.jacfwd(bound))(x), bv.jacfwd(plain)(x), 1e-12)
    out, linear = bv.linearize(bound, x)
    close((out, linear(t)), bv.jvp(plain, (x,), (t,)), 1e-12)
    close(bv.linear_transpose(linear, x)(t), bv.vjp(bound, x)[1](t), 1e-12)


def test_the_transpose_of_a_linear_loop():
    def eightfold(x):
        double = lambda s: (s[0] + 1, s[1] * 2)
        return lax.while_loop(lambda s: s[0] < 3, double, (0, x), max_steps=7)[1]

    assert float(bv.linear_transpose(eightfold, 1.0)(2.0)[0]) == 16

    def until(x):
        return lax.while_loop(lambda v: v < 9, lambda v: v * 2, x, max_steps=7)

    with pytest.raises(bv.errors.Unsupported, match=r"(?s)test_while_max.*not linear.*bv\.vjp"):
        bv.linear_transpose(until, 1.0)(2.0)


# -- batches ---------------------------------------------------------------------------------------


def test_rows_that_stop_at_different_steps():
    xs, stops = F64([0.7, -1.2, 0.1, 2.0]), bnp.array([3, 0, 8, 1])
    w = F64(0.9)
    rows = [
        bv.value_and_grad(wave_in_python, (0, 1))(x, w, int(n))
        for x, n in zip(xs, stops, strict=True)
    ]
    values, (dx, dw) = bv.tree.map(lambda *v: bnp.stack(v), *rows)
    per_row = bv.vmap(bv.value_and_grad(wave, (0, 1)), (0, None, 0))
    close(bv.jit(per_row)(xs, w, stops), (values, (dx, dw)), 1e-10)
    close(per_row(xs, w, stops), (values, (dx, dw)), 1e-10)

    def total(xs, w):
        return bv.vmap(wave, (0, None, 0))(xs, w, stops).sum()

    close(bv.jit(bv.value_and_grad(total, (0, 1)))(xs, w), (values.sum(), (dx, dw.sum())), 1e-10)
    grid = bv.vmap(bv.vmap(bv.grad(wave), (0, None, None)), (None, None, 0))(xs, w, stops)
    close(grid[bnp.arange(4), bnp.arange(4)], dx, 1e-10)
    twice = bv.vmap(bv.grad(bv.grad(wave)), (0, None, 0))(xs, w, stops)
    close(bv.jit(bv.vmap(bv.jacfwd(bv.grad(wave)), (0, None, 0)))(xs, w, stops), twice, 1e-9)


def test_rows_that_have_ended_put_no_nan_into_gradients():
    """The derivative of the body is infinite where a row has ended: sqrt(0) in each later step."""

    def f(x, w):
        def body(s):
            new = bnp.maximum(s[0] - w, 0.5)
            return new, bnp.sqrt(s[0] - new)

        return sum(lax.while_loop(lambda s: s[0] > 0.5, body, (x, x * 0 + 1), max_steps=30))

    xs, w = F64([0.5, 1.0, 3.0]), F64(0.3)
    rows = np.array([bv.grad(f, (0, 1))(x, w) for x in xs])
    assert np.isfinite(rows).all()
    total = lambda xs, w: bv.vmap(f, (0, None))(xs, w).sum()
    dx, dw = bv.jit(bv.grad(total, (0, 1)))(xs, w)
    close((dx, dw), (rows[:, 0], rows[:, 1].sum()), 1e-10)
    each = bv.jit(bv.grad(lambda xs, ws: bv.vmap(f)(xs, ws).sum(), (0, 1)))(xs, bnp.full(3, w))
    close(each, (rows[:, 0], rows[:, 1]), 1e-10)


def test_rows_that_a_collective_brings_together():
    def f(loop):
        def row(x, steps):
            body = lambda s: (s[0] + 1, s[1] * 0.5 + lax.psum(s[1], "i") * steps)
            return loop(lambda s: s[0] < steps, body, (0, x))[1]

        return lambda x: bv.vmap(row, axis_name="i")(x, bnp.array([1, 3, 0]))

    bounded, plain = f(functools.partial(lax.while_loop, max_steps=4)), f(lax.while_loop)
    x = F64([0.3, -0.8, 2.0])
    close(bounded(x), plain(x), 1e-12)
    close(bv.jit(bv.jacrev(bounded))(x), bv.jit(bv.jacfwd(plain))(x), 1e-12)


def test_an_empty_batch():
    assert bv.vmap(bv.grad(sine))(bnp.zeros(0)).shape == (0,)
    assert bv.vmap(lambda x: wave(x, 1.0, x))(bnp.zeros(0)).shape == (0,)


# -- inside of other transforms --------------------------------------------------------------------


def test_inside_scan_cond_and_remat_and_around_scan():
    def rows(sine):
        def f(x):
            x, ys = lax.scan(lambda c, r: (sine(c * r), sine(c)), x, F64([0.5, 0.7, 0.9]))
            return x + ys.sum()

        return f

    x = F64(0.4)
    expected = bv.grad(rows(sine_in_python))(x)
    close(bv.jit(bv.grad(rows(sine)))(x), expected, 1e-10)
    close(bv.grad(bv.remat(rows(sine)))(x), expected, 1e-10)
    close(bv.jit(bv.grad(bv.remat(sine)))(x), bv.grad(sine_in_python)(x), 1e-10)
    close(bv.jit(bv.jacfwd(bv.grad(rows(sine))))(x), bv.hessian(rows(sine_in_python))(x), 1e-9)

    g = bv.grad(lambda x: lax.cond(x > 0, sine, lambda x: x * 2, x))
    slopes = bnp.stack([bv.grad(sine_in_python)(x), F64(2.0)])
    close(bv.jit(bv.vmap(g))(F64([0.4, -0.4])), slopes, 1e-10)

    def around(x):
        def body(s):
            inner, ys = lax.scan(lambda c, r: (bnp.sin(c) * r, c), sine(s[1]), F64([1.0, 2.0]))
            return s[0] + 1, inner + ys.sum()

        return lax.while_loop(lambda s: s[0] < 2, body, (0, x), max_steps=5)[1]

    def around_in_python(x):
        for _ in range(2):
            a = sine_in_python(x)
            b = bnp.sin(a)
            x = bnp.sin(b) * 2 + a + b
        return x

    close(bv.jit(bv.grad(around))(x), bv.grad(around_in_python)(x), 1e-10)


def test_bodies_with_rules_of_their_own():
    @bv.custom_vjp
    def clipped(x):
        return x * 1.0

    clipped.defvjp(lambda x: (x * 1.0, None), lambda _, g: (bnp.clip(g, -0.7, 0.7),))
    a = F64([[2.0, 0.3], [0.1, 3.0]])

    def step(x, w):
        return clipped(bnp.sin(bnp.linalg.solve(a * w, x))) + bnp.sort(x) * 0.1

    def f(x, w):
        body = lambda s: (s[0] + 1, step(s[1], w))
        return lax.while_loop(lambda s: s[0] < 3, body, (0, x), max_steps=6)[1].sum()

    def python(x, w):
        for _ in range(3):
            x = step(x, w)
        return x.sum()

    x, w = F64([0.7, -1.2]), F64(0.4)
    expected = bv.grad(python, (0, 1))(x, w)
    close(bv.jit(bv.grad(f, (0, 1)))(x, w), expected, 1e-10)
    saving = bv.remat(f, policy=bv.checkpoint_policies.dots_saveable)
    close(bv.jit(bv.grad(saving, (0, 1)))(x, w), expected, 1e-10)


def test_parts_of_the_carry_that_depend_on_x_only_later():
    def f(x):
        body = lambda s: (s[0] + 1, s[2] * 2, bnp.sin(s[3]), s[3] * x + 1, s[4] * 2)
        return lax.while_loop(lambda s: s[0] < 4, body, (0, x * 0, 1.0, 2.0, 3), max_steps=9)[1]

    def python(x):
        a, b, c = x * 0, 1.0, 2.0
        for _ in range(4):
            a, b, c = b * 2, bnp.sin(c), c * x + 1
        return a

    x = F64(0.7)
    close(bv.jit(bv.value_and_grad(f))(x), bv.value_and_grad(python)(x), 1e-6)
    close(bv.jit(bv.grad(bv.grad(f)))(x), bv.grad(bv.grad(python))(x), 1e-6)


def test_modules_keys_cells_and_empty_values():
    layer = nn.Linear(3, 3, rngs=nn.Rngs(0))
    x = bnp.ones((2, 3))

    def carried(layer, x):
        body = lambda s: (s[0] + 1, s[1], bnp.tanh(s[1](s[2])))
        n, same, x = lax.while_loop(lambda s: s[0] < 4, body, (0, layer, x), max_steps=9)
        assert same is layer
        return (x**2).sum()

    def plain(layer, x):
        for _ in range(4):
            x = bnp.tanh(layer(x))
        return (x**2).sum()

    close(bv.jit(bv.grad(carried))(layer, x), bv.grad(plain)(layer, x), 1e-5)

    def noisy(x, key, loop):
        def body(s):
            n, x, key = s
            key, sub = random.split(key)
            return n + 1, bnp.sin(x) * random.uniform(sub) + x, key

        return loop(lambda s: s[0] < 3, body, (0, x, key))[1]

    def python_loop(cond, body, value):
        while bool(cond(value)):
            value = body(value)
        return value

    bounded = functools.partial(lax.while_loop, max_steps=5)
    expected = bv.grad(noisy)(0.7, random.key(3), python_loop)
    close(bv.grad(noisy)(0.7, random.key(3), bounded), expected)

    count = bv.ref(0)

    def counted(x):
        def body(v):
            count[...] += 1
            return v * 1.5

        return lax.while_loop(lambda v: v < 10, body, x, max_steps=8)

    close(bv.value_and_grad(counted)(1.0), (1.5**6, 1.5**6))
    assert int(count[...]) == 6
    assert lax.while_loop(lambda v: False, lambda v: v, (), max_steps=3) == ()
    v = lax.while_loop(lambda v: v[1] < 2, lambda v: ({}, v[1] + 1), ({}, 0), max_steps=3)
    assert v[0] == {} and int(v[1]) == 2
    size = lambda a: abs(lax.while_loop(lambda z: abs(z) < 9, lambda z: z * z + a, a, max_steps=30))
    step = lambda d: float(size(bnp.asarray(0.4 + 0.9j + d, dtype="complex128")))
    g = complex(bv.grad(size)(bnp.asarray(0.4 + 0.9j, dtype="complex128")))
    slopes = [(step(h) - step(-h)) / 2e-6 for h in (1e-6, 1e-6j)]
    np.testing.assert_allclose([abs(g.real), abs(g.imag)], np.abs(slopes), rtol=1e-4)
    assert bv.grad(sine)(bnp.bfloat16(0.4)).dtype == bnp.bfloat16


def test_checks_in_a_body():
    def f(x, steps):
        def body(s):
            bv.check(s[1] < 3, "too large: {v}", v=s[1])
            return s[0] + 1, s[1] * 1.5

        return lax.while_loop(lambda s: s[0] < steps, body, (0, x), max_steps=20)[1]

    steps = bnp.array([2, 9])
    error, slopes = bv.jit(checkify.checkify(bv.vmap(bv.grad(f))))(bnp.ones(2), steps)
    assert "too large: 3.375" in error.get()
    close(slopes, 1.5 ** np.array([2, 9]), 1e-6)
    error, values = bv.jit(checkify.checkify(bv.vmap(f)))(bnp.array([1.0, 0.1]), steps)
    assert error.get() is None  # the row that has ended is not checked again
    close(values, np.array([1.5**2, 0.1 * 1.5**9]))


# -- what it costs ---------------------------------------------------------------------------------

WIDTH = 4096


def kept_states(f, n, *args):
    """The temporary memory of the gradient's program, in states of the loop."""
    g = bv.jit(bv.grad(functools.partial(f, n)))
    return g.lower(*args).compile().memory_analysis().temp_size_in_bytes / (4 * WIDTH)


def test_memory_grows_with_the_square_root_of_the_bound():
    def f(n, x, steps):
        body = lambda s: (s[0] + 1, bnp.sin(s[1]) + s[1])
        return lax.while_loop(lambda s: s[0] < steps, body, (0, x), max_steps=n)[1].sum()

    def by_scan(n, x, steps):
        step = lambda c, _: (bnp.sin(c) + c, None)
        return lax.scan(step, x, length=n)[0].sum()

    x = bnp.linspace(0, 1, WIDTH)
    for n in (100, 1600, 10000):
        # m checkpoints, the k states of one chunk, and a few of the steps at work
        assert sum(chunks(n)) - 2 <= kept_states(f, n, x, 3) <= sum(chunks(n)) + 8
        assert sum(chunks(n)) <= 2 * math.sqrt(n) + 1
    assert kept_states(by_scan, 100, x, 3) >= 99


def test_what_is_only_written_is_no_state():
    def f(n, x, steps):
        def body(s):
            return s[0] + 1, bnp.sin(s[1]) + s[1], s[2].at[s[0]].set(s[1])

        start = (0, x, bnp.zeros((n, WIDTH)))
        _, x, history = lax.while_loop(lambda s: s[0] < steps, body, start, max_steps=n)
        return x.sum() + (history * 0.5).sum()

    x = bnp.linspace(0, 1, WIDTH)
    found = kept_states(f, 100, x, 7)
    assert found < 20 + 5 * 100  # the history and its cotangent, and not ten times the history

    def python(x):
        total = 0.0
        for _ in range(7):
            total, x = total + 0.5 * x.sum(), bnp.sin(x) + x
        return x.sum() + total

    close(bv.jit(bv.grad(functools.partial(f, 25)))(x, 7), bv.grad(python)(x), 1e-5)


def test_steps_are_made_three_times_and_only_those_needed():
    seen = []

    def count(v):
        seen.append(v.shape)
        return np.ones((), np.float32)

    def f(x, steps):
        def body(s):
            one = bv.pure_callback(count, bnp.zeros(()), lax.stop_gradient(s[1]))
            return s[0] + 1, bnp.sin(s[1]) * one

        return lax.while_loop(lambda s: s[0] < steps, body, (0, x), max_steps=10**4)[1]

    value, slope = bv.jit(f), bv.jit(bv.value_and_grad(f))
    for steps in (0, 7, 130):  # no chunk, part of one, two
        seen.clear()
        float(value(0.5, steps))
        assert len(seen) == steps
        seen.clear()
        float(slope(0.5, steps)[1])
        assert len(seen) == 3 * steps


def test_what_a_body_prints_is_printed_once(capsys):
    def f(x):
        def body(v):
            bv.debug.print("at {}", lax.stop_gradient(v))
            return lax.scan(lambda c, _: (bv.debug.print("in"), (c * 2, None))[1], v, length=1)[0]

        return lax.while_loop(lambda v: v < 5, body, x, max_steps=6)

    assert float(bv.jit(bv.grad(f))(1.0)) == 8
    bv.effects_barrier()
    assert capsys.readouterr().out == "at 1.0\nin\nat 2.0\nin\nat 4.0\nin\n"


def test_parts_of_the_carry_that_nothing_needs_are_dropped():
    def f(x):
        body = lambda s: (s[0] + 1, s[1] * 2, bnp.exp(s[2]), s[3] + s[0])
        return lax.while_loop(lambda s: s[3] < 9, body, (0, x, x, 0))[1]

    text = str(bv.make_graph(f)(1.0))
    assert "exp" not in text and "mul" in text and "lt" in text
    assert float(bv.jit(f)(1.0)) == 32


# -- errors ----------------------------------------------------------------------------------------


def test_bounds_that_are_none():
    def loop(n):
        return lax.while_loop(lambda v: v < 3, lambda v: v + 1, 0, max_steps=n)

    for bad, text in ((True, "True"), (2.5, "2.5"), ("4", "'4'"), (bnp.int32(4), r"int32\[\]")):
        with pytest.raises(TypeError, match=f"(?s)max_steps must be a Python integer, got {text}"):
            loop(bad)
    with pytest.raises(TypeError, match=r"(?s)max_steps must be.*got int32\[\].*test_while_max"):
        bv.jit(loop)(4)
    for bad in (0, -3, 2**31):
        with pytest.raises(ValueError, match=f"(?s)max_steps must be from 1 .*got {bad}.*None"):
            loop(bad)
    assert int(loop(np.int64(5))) == int(loop(3)) == int(loop(None)) == 3
    assert int(loop(2**31 - 1)) == 3


def test_a_loop_that_needs_more_steps():
    f = lambda x: lax.while_loop(lambda v: v < 30, lambda v: v * x, x, max_steps=4)
    text = "(?s)after max_steps=4 steps the condition still holds, at .*test_while_max.*larger"
    for way in (f, bv.grad(f), bv.debug.eager(f)):
        with pytest.raises(RuntimeError, match=text):
            way(1.5)
    for way in (f, bv.grad(f)):
        with pytest.raises(RuntimeError, match=text):
            bv.vmap(way)(bnp.array([9.0, 1.5]))
    assert [float(v) for v in bv.jit(bv.value_and_grad(f))(1.5)] == [1.5**5, 5 * 1.5**4]
    f = lambda x: lax.while_loop(lambda v: v < 30, lambda v: v * x, x, max_steps=5)  # 3 times 2
    assert [float(v) for v in bv.jit(bv.value_and_grad(f))(1.5)] == [1.5**6, 6 * 1.5**5]
    with pytest.raises(RuntimeError, match="after max_steps=5"):
        f(1.5)
    assert float(bv.grad(f)(9.0)) == 18 == float(bv.debug.eager(bv.grad(f))(9.0))


def test_reverse_mode_without_a_bound_names_the_line_and_the_rewrite():
    def halvings(x):
        y = x
        while y > 1:  # the line
            y = y / 2
        return y * x

    def powers(x, n):
        for _ in range(n):  # the line
            x = bnp.sin(x)
        return x

    def loop(x, n):
        return lax.fori_loop(0, n, lambda i, v: v * x, x)  # the line

    here = pathlib.Path(__file__).read_text().splitlines()
    for f, args in ((halvings, (9.0,)), (powers, (0.5, 3)), (loop, (0.5, 3))):
        start = f.__code__.co_firstlineno
        line = next(i for i in range(start, start + 9) if "# the line" in here[i - 1])
        for way in (bv.jit(bv.grad(f)), bv.grad(bv.jit(f))):
            with pytest.raises(bv.errors.Unsupported) as e:
                way(*args)
            text = str(e.value)
            assert f"{__file__}:{line} ({f.__name__})" in text
            first = text.split("Write instead: ")[1]
            assert first.startswith("lax.while_loop(cond_fun, body_fun, init_val, max_steps=n)")
            assert "Python `while`" in text and "fori_loop" in text
