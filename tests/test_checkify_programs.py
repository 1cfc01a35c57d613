"""`checkify`: what is no error, random programs, and the ops that hold graphs."""

import importlib
import pkgutil
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bevel as bv
import bevel.control
import bevel.numpy as bnp
from bevel import lax, nn, random
from bevel.core.op import Op
from bevel.debug import checkify
from bevel.debug.checkify import all_checks, index_checks, user_checks
from bevel.scipy import special
from tests.test_programs import STEPS, point, programs

# -- no false alarms -------------------------------------------------------------------------------


def test_modes_say_what_happens_out_of_bounds():
    dims = lax.GatherDimensionNumbers((), (0,), (0,))
    scatter = lax.ScatterDimensionNumbers((), (0,), (0,))

    def f(x, i):
        at = x.at[i]
        column = bnp.reshape(i, (1, 1))
        return (
            [at.get(mode=m) for m in ("clip", "fill", "drop")], at.get(fill_value=0),
            [at.set(0, mode=m) for m in ("clip", "drop")],
            x.at[bnp.stack([i, i])].add(1, mode="drop"),
            [bnp.take(x, i, mode=m) for m in ("clip", "fill", "wrap")],
            bnp.take(x, i, fill_value=0),
            bnp.take_along_axis(x, bnp.stack([i, i]), 0, mode="clip"),
            [lax.gather(x, column, dims, (1,), mode=m) for m in ("clip", "fill")],
            lax.scatter_add(x, column, x[:1], scatter, mode="drop"),
            bv.vmap(lambda j: x.at[j].get(mode="clip"))(bnp.stack([i, i])),
        )  # fmt: skip

    x = bnp.arange(3.0)
    plain = bv.jit(f)(x, 7)
    err, out = bv.jit(checkify.checkify(f, errors=index_checks))(x, 7)
    assert err.get() is None
    bv.tree.map(np.testing.assert_array_equal, out, plain)
    bv.tree.map(np.testing.assert_array_equal, bv.debug.checked(bv.jit(f))(x, 7), plain)
    for wrong in (
        lambda x, i: x.at[i].get(mode="promise_in_bounds"),
        lambda x, i: bnp.take(x, i, mode="raise"),
        lambda x, i: bnp.take_along_axis(x, bnp.stack([i, i]), 0),
        lambda x, i: bnp.put_along_axis(x, bnp.stack([i, i]), 0.0, 0, inplace=False),
        lambda x, i: lax.gather(x, bnp.reshape(i, (1, 1)), dims, (1,)),
        lambda x, i: lax.scatter_add(x, bnp.reshape(i, (1, 1)), x[:1], scatter),
        lambda x, i: bv.vmap(lambda j: lax.dynamic_slice(x, (j,), (2,)))(bnp.stack([i, i * 0])),
        lambda x, i: bv.vmap(lambda j: lax.dynamic_update_slice(x, x[:2], (j,)))(i[None]),
        lambda x, i: x.astype("int8")[i.astype("uint8")],
    ):
        find = checkify.checkify(wrong, errors=index_checks)
        assert re.search("(index|starts at) 7", find(x, bnp.int32(7))[0].get() or "")
        assert find(x, bnp.int32(1))[0].get() is None


def test_functions_that_are_right_raise_no_alarm():
    x, m = bnp.array([0.5, 2.0, 1.0, 2.0]), bnp.array([[2.0, 0.5], [0.5, 1.0]])
    i = bnp.array([3, -1, 0])
    attention = nn.MultiHeadAttention(2, 4, rngs=nn.Rngs(0))
    calls = {
        "sort": lambda x, m, i: (bnp.sort(x), bnp.argsort(-x), bnp.median(x), bnp.partition(x, 2)),
        "unique": lambda x, m, i: bnp.unique(x, size=6, return_inverse=True, return_counts=True),
        "nonzero": lambda x, m, i: (bnp.nonzero(x > 1, size=4), bnp.argwhere(x > 1, size=3)),
        "search": lambda x, m, i: bnp.searchsorted(bnp.sort(x), bnp.array([-1.0, 1.0, 9.0])),
        "bins": lambda x, m, i: (bnp.histogram(x, 3), bnp.bincount(i % 4, length=2)),
        "interp": lambda x, m, i: bnp.interp(bnp.array([-1.0, 1.5, 9.0]), bnp.sort(x), x),
        "repeat": lambda x, m, i: bnp.repeat(x, bnp.array([0, 2, 1, 0]), total_repeat_length=6),
        "update": lambda x, m, i: (x.at[i].add(1.0), x.at[x > 1].set(0.0), m[:, 0], x[i]),
        "delete": lambda x, m, i: (bnp.roll(x, i[0]), bnp.insert(x, 1, 3.0), bnp.diag(m)),
        "statistics": lambda x, m, i: (bnp.quantile(x, 0.3), bnp.nanmean(x), bnp.cov(m)),
        "linalg": lambda x, m, i: (
            bnp.linalg.solve(m, m), bnp.linalg.inv(m), bnp.linalg.eigh(m), bnp.linalg.svd(m),
            bnp.linalg.qr(m), bnp.linalg.det(m), bnp.linalg.cholesky(m), bnp.linalg.lstsq(m, m),
        ),
        "fft": lambda x, m, i: (bnp.fft.fft(x), bnp.fft.irfft(bnp.fft.rfft(x))),
        "convolve": lambda x, m, i: (bnp.convolve(x, x), bnp.cumsum(x), bnp.gradient(x)),
        "special": lambda x, m, i: (
            bnp.sinc(x - 1.0), special.xlogy(x * 0, x * 0), special.logsumexp(x),
            special.gammaln(x),
        ),
        "loops": lambda x, m, i: (
            lax.associative_scan(bnp.add, x), lax.map(bnp.log, x), lax.top_k(x, 2),
            lax.reduce(x, 0.0, lax.add, (0,)),
            lax.reduce_window(x, 0.0, lax.add, (2,), (1,), "SAME"),
        ),
        "random": lambda x, m, i: (
            random.normal(random.key(0), (3,)), random.choice(random.key(0), x, (2,)),
            random.permutation(random.key(0), x), random.categorical(random.key(0), x),
        ),
        "grad": lambda x, m, i: bv.grad(lambda x: bnp.linalg.norm(x) + bnp.sort(x)[-1] * x[i[0]])(
            x
        ),
        "layers": lambda x, m, i: attention(bnp.stack([x, x]).reshape(2, 2, 2).repeat(2, -1)),
    }  # fmt: skip
    for name, f in calls.items():
        err, out = checkify.checkify(f, errors=all_checks)(x, m, i)
        assert err.get() is None, name
        close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
        bv.tree.map(close, out, f(x, m, i))


# -- random programs -------------------------------------------------------------------------------


def with_checks(steps, limit):
    """A program of `tests.test_programs` that checks what its steps make."""

    def f(x, y):
        pool = [x, y]
        for k, (name, i, j) in enumerate(steps):
            new = STEPS[name](pool[i % len(pool)], pool[j % len(pool)])
            if k % 2:
                bv.check((abs(new) < limit).all(), f"step {k} is large")
            else:
                new = new * y[(abs(new).max() * 3 / limit).astype(int)]
            pool.append(new)
        return (bnp.sin(pool[-1]) * bnp.tanh(pool[-2])).sum()

    return f


@settings(max_examples=10)
@given(programs(sorted(STEPS)), st.integers(0, 3), st.sampled_from([0.5, 1.0, 9.0]))
def test_random_programs_fail_where_they_do_op_by_op(steps, seed, limit):
    f = with_checks(steps, limit)
    x, y = point(seed, 2)
    wanted = []
    for a, b in zip(x, y, strict=True):
        try:
            bv.debug.checked(bv.jit(f))(a, b)
            wanted.append(None)
        except (IndexError, bv.errors.CheckError) as e:
            wanted.append(str(e))
    checked = checkify.checkify(f, errors=index_checks | user_checks)
    err, out = checked(x[0], y[0])
    assert err.get() == wanted[0]
    rows = bv.jit(bv.vmap(bv.value_and_grad(lambda *a: checked(*a)[::-1], has_aux=True)))
    (values, errs), grads = rows(x, y)
    assert [bv.tree.map(lambda v, i=i: v[i], errs).get() for i in range(2)] == wanted
    np.testing.assert_allclose(values[0], out, rtol=1e-8, atol=1e-12)
    if wanted == [None, None]:
        np.testing.assert_allclose(grads, bv.vmap(bv.grad(f))(x, y), rtol=1e-8, atol=1e-10)


# -- ops that hold graphs --------------------------------------------------------------------------


def test_every_op_that_holds_a_graph_has_a_rule():
    modules = [
        importlib.import_module(f"bevel.control.{m.name}")
        for m in pkgutil.iter_modules(bevel.control.__path__)
    ]
    ops = {v for m in modules for v in vars(m).values() if isinstance(v, Op)}
    ops = {o for o in ops if o.partial or o.compile_above == -1 or "custom" in o.name}
    assert {op.name for op in ops if op.check is None} == {"custom_vjp_linear"}
    assert len(ops) > 8


def test_solvers_composites_and_bounded_loops():
    def solved(x, i):
        return lax.custom_linear_solve(
            lambda v: v * x, x, lambda f, b: bnp.log(b + i), lambda f, b: b / x
        )

    named = lax.composite(lambda x, i: bnp.log(x + i), name="test.log")

    def bounded(x, i):
        return lax.while_loop(
            lambda s: s[0] < 3, lambda s: (s[0] + 1, bnp.log(s[1])), (0, x + i), max_steps=5
        )

    x = bnp.array([50.0, 60.0])
    for f in (solved, named, bounded):
        g = bv.jit(checkify.checkify(f, errors=all_checks))
        assert g(x, 0.0)[0].get() is None
        bv.tree.map(np.testing.assert_array_equal, g(x, 0.0)[1], bv.jit(f)(x, 0.0))
        assert "made by `log`" in g(x, -70.0)[0].get()
    one = lambda f: lambda x: f(x, 0.0)[1][1].sum()
    grads = bv.grad(one(checkify.checkify(bounded, errors=all_checks)))(x)
    np.testing.assert_allclose(grads, bv.grad(lambda x: bounded(x, 0.0)[1].sum())(x), rtol=1e-5)


def test_loops_whose_rows_stop_at_different_steps():
    x = bnp.array([1.0, 2.0, 3.0])

    def f(n, **options):
        going = lambda s: s[0] < n
        return lax.while_loop(going, lambda s: (s[0] + 1, s[1] + x[s[0]]), (0, 0.0), **options)

    n = bnp.array([1, 3, 2])
    rows = bv.vmap(checkify.checkify(f, errors=index_checks))
    err, out = bv.jit(rows)(n)
    assert err.get() is None and out[1].tolist() == [1.0, 6.0, 3.0]
    assert rows(n + 1)[0].get().startswith("row 1 (1 of 3 rows failed): index 3 is")
    with pytest.raises(bv.errors.Unsupported, match=r"(?s)rows stop.*bv.vmap\(checkify"):
        checkify.checkify(bv.vmap(f), errors=index_checks)(n)
    bounded = checkify.checkify(bv.vmap(lambda n: f(n, max_steps=4)), errors=index_checks)
    assert bounded(n)[0].get() is None and "index 3 is" in bounded(n + 1)[0].get()
    same = checkify.checkify(
        bv.vmap(lambda v: lax.fori_loop(0, 3, lambda i, s: s + x[i], v)), errors=index_checks
    )
    assert same(x)[0].get() is None
