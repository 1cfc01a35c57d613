"""Whether an argument of a jitted function is a Python number or an array is a cause to trace again
only if another program comes of it."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bevel as bv
import bevel.numpy as bnp
from bevel import lax, nn, optim
from bevel.core import tree

ONES = bnp.ones(3)
HALVES = bnp.ones(3, bnp.float16)


def kinds(result):
    leaves = tree.leaves(result)
    return [(str(x.dtype), x.weak_type, np.round(x.astype("float64"), 4).tolist()) for x in leaves]


def counted(fun):
    """A jitted function and the list that grows with each of its traces."""
    traces = []

    def f(*args):
        traces.append(1)
        return fun(*args)

    return bv.jit(f), traces


def fresh(fun):
    """What a program made for these very arguments gives."""
    return lambda *args: kinds(bv.jit(lambda *a: fun(*a))(*args))


def in_a_cell(s):
    cell = bv.ref(bnp.zeros(3))
    cell[1] = s
    cell.value = s * ONES
    return cell.value


SAME = {
    "itself": lambda s: s,
    "arithmetic": lambda s: (ONES * s + 1, s * 2, s / 3, -s, s**2),
    "functions": lambda s: (bnp.exp(s), bnp.maximum(s, ONES), bnp.where(ONES > s, s, 0.0)),
    "integers of another kind": lambda s: bnp.arange(3) * s,
    "joined": lambda s: (bnp.stack([s, s]), bnp.append(ONES, s), lax.add(s, s)),
    "cast": lambda s: (s.astype("float32"), s.astype("float16") * HALVES),
    "cond": lambda s: lax.cond(s > 0, lambda: s, lambda: s * 2),
    "cond of both kinds": lambda s: lax.cond(s > 0, lambda: s, lambda: ONES[0]),
    "scan": lambda s: lax.scan(lambda c, x: (c * s + x, c), s, ONES),
    "while": lambda s: lax.while_loop(lambda c: c < 10, lambda c: c * 2, s),
    "grad": lambda s: bv.value_and_grad(lambda v: bnp.sin(v) * v)(s),
    "jvp": lambda s: bv.jvp(bnp.sin, (s,), (s,)),
    "vmap": lambda s: bv.vmap(lambda x: x * s)(ONES),
    "cell": in_a_cell,
    "jit in jit": lambda s: bv.jit(lambda a, b: (a * b, b))(ONES, s),
    "result type": lambda s: ONES.astype(bnp.result_type(s, ONES)) * s,
}
OTHER = {
    "narrow": lambda s: HALVES * s,
    "narrow carry": lambda s: lax.scan(lambda c, x: (c, x), s * HALVES[0], None, 2)[0],
    "narrow in jit": lambda s: bv.jit(lambda a, b: a * b)(HALVES, s),
    "asked": lambda s: 1.0 * ONES if s.weak_type else ONES,
    "result type": lambda s: HALVES.astype(bnp.result_type(s, HALVES)),
    "narrow after arithmetic": lambda s: (s * 2 + 1) * HALVES,
}
NUMBERS = [2.0, bnp.float32(2), np.float32(2), bnp.asarray(2.0), bnp.asarray([2.0])[0]]


@pytest.mark.parametrize("name", SAME)
def test_one_program_serves_numbers_and_arrays(name):
    expected = [fresh(SAME[name])(s) for s in NUMBERS[:2]]
    for order in (NUMBERS, NUMBERS[::-1]):
        f, traces = counted(SAME[name])
        for s in order + order:
            assert kinds(f(s)) == expected[not bnp.asarray(s).weak_type]
        assert len(traces) == 1 and f._cache_size() == 1


@pytest.mark.parametrize("name", OTHER)
def test_another_program_where_a_dtype_depends_on_it(name):
    expected = [fresh(OTHER[name])(s) for s in NUMBERS[:2]]
    for order in (NUMBERS, NUMBERS[::-1]):
        f, traces = counted(OTHER[name])
        for s in order + order:
            assert kinds(f(s)) == expected[not bnp.asarray(s).weak_type]
        assert len(traces) == 2


def test_the_cause_is_named():
    f = bv.jit(lambda s: HALVES * s)
    with bv.debug.explain_retraces() as seen:
        f(2.0), f(bnp.float32(2))
    assert "the weak type of s: float32[] from a Python number, then float32[]" in seen[0]


def test_only_the_argument_that_matters_counts():
    f, traces = counted(lambda a, b: (HALVES * a, ONES * b))
    for a, b in [(1.0, 1.0), (1.0, ONES[0]), (ONES[0], 1.0), (ONES[0], ONES[0])]:
        assert kinds(f(a, b)) == kinds((HALVES * a, ONES * b))
    assert len(traces) == 2


def test_arrays_with_axes_too():
    f, traces = counted(lambda v: v * 2)
    weak = bnp.full(3, 1.0)
    assert weak.weak_type and not ONES.weak_type
    assert [f(v).weak_type for v in (ONES, weak, ONES)] == [False, True, False]
    assert len(traces) == 1


def test_strict_promotion_asks():
    def f(s):
        return bnp.arange(3) * s

    g, traces = counted(f)
    with bv.config(numpy_dtype_promotion="strict"):
        assert g(2.0).dtype == "float32" and len(traces) == 1
        with pytest.raises(TypeError, match="strict"):
            g(bnp.float32(2))


def test_a_learning_rate_may_be_a_number_or_an_array():
    model = nn.Linear(2, 1, rngs=nn.Rngs(0))
    optimizer = nn.Optimizer(model, optim.sgd(1.0))

    def step(model, optimizer, rate):
        loss, grads = bv.value_and_grad(lambda m: (m(bnp.ones((4, 2))) ** 2).mean())(model)
        optimizer.update(bv.tree.map(lambda g: rate * g, grads))
        return loss

    step, traces = counted(step)
    losses = [float(step(model, optimizer, r)) for r in (0.1, bnp.float32(0.1), 0.1)]
    assert losses[0] > losses[1] > losses[2] and len(traces) == 1


def _binary(op):
    return lambda a, b: op(a, b)


OPS = [
    *map(_binary, (bnp.add, bnp.multiply, bnp.maximum, bnp.hypot)),
    lambda a, b: bnp.where(a > 0, a, b),
    lambda a, b: lax.cond(True, lambda: a * 1, lambda: a * 2) + b,
    lambda a, b: lax.scan(lambda c, _: (c, c), a, None, 2)[0] * b,
    lambda a, b: bv.jit(lambda x, y: x * 2 + y)(a, b),
    lambda a, b: bv.vmap(lambda x: x + b)(bnp.broadcast_to(a, (2, *a.shape)))[0],
    lambda a, b: bv.jvp(lambda v: v * b, (a,), (a,))[1] if a.dtype.kind == "f" else a - b,
]
PLAN = st.lists(
    st.tuples(st.integers(0, len(OPS) - 1), st.integers(0, 99), st.integers(0, 99)),
    min_size=1,
    max_size=4,
)


@settings(max_examples=25, deadline=None)
@given(PLAN, st.sampled_from(["float32", "float16", "int32", "int8", "bfloat16"]))
def test_random_programs(plan, dtype):
    """Results of a jitted function have the dtype, weakness and value they have without jit."""

    def f(a, b):
        values = [bnp.asarray(a), bnp.asarray(b), bnp.ones(2, dtype), bnp.asarray(2), 0.5 * ONES[0]]
        for op, i, j in plan:
            values.append(OPS[op](values[i % len(values)], values[j % len(values)]))
        return values[5:]

    g, traces = counted(f)
    programs = set()
    for a, b in itertools.product((2.0, bnp.float32(2)), (3, bnp.int32(3))):
        expected = f(a, b)
        programs.add(tuple(str(x.dtype) for x in expected))
        for x, y in zip(expected, g(a, b), strict=True):
            assert (x.dtype, x.weak_type, x.shape) == (y.dtype, y.weak_type, y.shape)
            np.testing.assert_allclose(
                np.asarray(x, np.float64), np.asarray(y, np.float64), rtol=2e-2
            )
    assert len(programs) <= len(traces) <= 4
