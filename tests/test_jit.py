"""What a jitted call costs, keeps, refuses and remembers."""

import functools
import gc
import weakref

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import lax, random


def counted(f):
    """`f`, and a list that grows by one each time it is traced."""
    traces = []

    def g(*args, **kwargs):
        traces.append(1)
        return f(*args, **kwargs)

    return g, traces


def test_second_calls_do_not_trace():
    f, traces = counted(lambda x, y: x @ y)
    g = bv.jit(f)
    a, b = bnp.ones((3, 4)), bnp.ones((4, 2))
    first = g(a, b)
    for _ in range(3):
        np.testing.assert_array_equal(g(a, b), first)
        np.testing.assert_array_equal(g(np.ones((3, 4), np.float32), b), first)
        np.testing.assert_array_equal(g(a + 0, b * 1), first)
    assert len(traces) == 1
    g(bnp.ones((5, 4)), b)
    g(bnp.ones((3, 4), dtype=bnp.float64), bnp.ones((4, 2), dtype=bnp.float64))
    assert len(traces) == 3


def test_results_of_compiled_calls_do_not_retrace():
    f, traces = counted(lambda x: bnp.tanh(x) * 2)
    g = bv.jit(f)
    x = bnp.ones(3)
    for _ in range(4):
        x = g(x)
        x = x + 1
    assert len(traces) == 1


def test_pytrees_in_and_out():
    f = bv.jit(lambda p, flag: {"a": (p["x"] + 1, [p["y"] * 2]), "n": None, "flag": flag})
    out = f({"x": bnp.arange(3), "y": 2.0}, True)
    assert out["a"][0].tolist() == [1, 2, 3] and float(out["a"][1][0]) == 4.0 and out["n"] is None
    assert out["flag"].dtype == bnp.bool_


def test_static_arguments():
    f, traces = counted(lambda x, n, mode="sum": x.sum() * n if mode == "sum" else x.max() * n)
    g = bv.jit(f, static_argnums=1, static_argnames="mode")
    x = bnp.arange(4.0)
    assert float(g(x, 2)) == 12 and float(g(x, 3)) == 18 and float(g(x, 2, mode="max")) == 6
    assert float(g(x, 2)) == 12 and len(traces) == 3
    by_name = bv.jit(lambda x, n: x * n, static_argnames="n")
    assert float(by_name(bnp.float32(2), n=4)) == 8 and float(by_name(bnp.float32(2), 4)) == 8
    with pytest.raises(TypeError, match="(?s)hashable.*tuple"):
        g(x, [1, 2])


def test_static_first_argument_of_a_method():
    class Scale:
        def __init__(self, k):
            self.k = k

        @bv.jit
        def free(x):
            return x * 2

        def __call__(self, x):
            return bv.jit(lambda x: x * self.k)(x)

    assert float(Scale(3)(2.0)) == 6.0
    assert float(Scale.free(2.0)) == 4.0


def test_what_is_no_array_is_refused_by_name():
    with pytest.raises(TypeError, match="(?s)str.*static_argnums"):
        bv.jit(lambda x, s: x)(1.0, "text")
    with pytest.raises(TypeError, match="(?s)result of jit of.*object"):
        bv.jit(lambda x: object())(1.0)
    with pytest.raises(TypeError, match="expected a function"):
        bv.jit(3)


def test_closed_over_arrays_are_inputs_when_large():
    big, small = bnp.arange(1000.0), bnp.arange(3.0)
    f = bv.jit(lambda x: (x * big).sum() + small.sum())
    text = f.lower(2.0).as_text()
    assert "tensor<1000xf32>" in text.split("func.func public @main")[1].split("{")[0]
    assert float(f(2.0)) == 2 * 499500 + 3
    assert float(f(3.0)) == 3 * 499500 + 3


def test_nested_jit_inside_other_transforms():
    inner = bv.jit(lambda w, x: bnp.tanh(w * x))
    outer = bv.jit(lambda w, x: inner(w, x) + inner(x, w))
    w, x = bnp.linspace(0.1, 1, 5), bnp.linspace(1, 2, 5)
    np.testing.assert_allclose(outer(w, x), 2 * np.tanh(np.asarray(w) * np.asarray(x)), rtol=1e-6)
    np.testing.assert_allclose(bv.vmap(outer)(w, x), outer(w, x), rtol=1e-6)
    g = bv.vmap(bv.grad(lambda a, b: outer(a, b)), in_axes=(0, 0))(w, x)
    t = np.tanh(np.asarray(w) * np.asarray(x))
    np.testing.assert_allclose(g, 2 * (1 - t * t) * np.asarray(x), rtol=1e-5)


def test_jit_closing_over_an_outer_tracer():
    @bv.jit
    def f(x):
        g = bv.jit(lambda y: y * x)
        return bv.grad(lambda y: g(y))(3.0) + g(2.0)

    assert float(f(5.0)) == 15.0


def test_donated_arguments_are_gone():
    f = bv.jit(lambda x, y: x + y, donate_argnums=0)
    x, y = bnp.ones(1000) + 0, bnp.ones(1000)
    x = bv.jit(lambda v: v * 2)(x)
    out = f(x, y)
    assert float(out[0]) == 3.0 and x.is_deleted() and not y.is_deleted()
    with pytest.raises((bv.errors.DonatedBufferError, RuntimeError)):
        x + 1


def test_unused_arguments_are_dropped_unless_kept():
    def f(x, unused):
        return x * 2

    x, u = bnp.ones(3), bnp.ones(7)
    assert "7xf32" not in bv.jit(f).lower(x, u).as_text()
    assert "7xf32" in bv.jit(f, keep_unused=True).lower(x, u).as_text()
    assert bv.jit(f)(x, u).tolist() == [2, 2, 2]


def test_unused_work_is_not_in_the_program():
    def f(x):
        bnp.linalg.inv(bnp.outer(x, x))
        return x * 2

    text = bv.jit(f).lower(bnp.ones(3)).as_text()
    assert "custom_call" not in text and text.count("stablehlo.") <= 4


def test_lowered_and_compiled():
    lowered = bv.jit(lambda x: bnp.tanh(x @ x)).lower(bnp.ones((8, 8)))
    assert "stablehlo.dot_general" in lowered.as_text() and "dot_general" in lowered.as_text(
        "bevel"
    )
    compiled = lowered.compile()
    assert compiled.cost_analysis()["flops"] > 0
    assert compiled.memory_analysis().output_size_in_bytes == 256
    np.testing.assert_allclose(compiled(bnp.eye(8)), np.tanh(np.eye(8)), rtol=1e-5)
    with pytest.raises(TypeError, match="lowered for"):
        compiled(bnp.eye(9))


def test_eval_shape_runs_nothing():
    out = bv.eval_shape(lambda x: {"a": x @ x.T}, bv.ShapeDtypeStruct((50_000, 3), bnp.float32))
    assert out == {"a": bv.ShapeDtypeStruct((50_000, 50_000), "float32")}


def test_disable_jit_runs_python():
    seen = []

    @bv.jit
    def f(x):
        seen.append(float(x))
        return lax.scan(lambda c, v: (c + v, c), x, bnp.arange(3.0))[0]

    with bv.disable_jit():
        assert float(f(1.0)) == 4.0
    assert seen == [1.0]


def test_settings_are_part_of_the_signature():
    f, traces = counted(lambda a: a @ a)
    g = bv.jit(f)
    x = bnp.ones((4, 4))
    g(x)
    with bv.config(default_matmul_precision="highest"):
        assert g(x).dtype == bnp.float32
    g(x)
    assert len(traces) == 2


def test_weak_results_stay_weak():
    f = bv.jit(lambda: 2.0)
    assert (f() * bnp.ones(2, dtype=bnp.bfloat16)).dtype == bnp.bfloat16
    assert (bv.jit(lambda s: s * 2)(1.5) * bnp.ones(2, dtype=bnp.float16)).dtype == bnp.float16


def test_zero_sized_and_scalar_arguments():
    f = bv.jit(lambda x: (x * 2, x.sum()))
    doubled, total = f(bnp.zeros((0, 3)))
    assert doubled.shape == (0, 3) and float(total) == 0
    assert int(bv.jit(lambda: bnp.asarray(7))()) == 7


# -- cells
# ------------------------------------------------------------------------------------------


def test_cells_closed_over_and_passed_are_written():
    a, b = bv.ref(bnp.zeros(2)), bv.ref(bnp.float32(1))
    f, traces = counted(
        lambda cell, x: (cell.__setitem__(..., cell[...] + x), b.__setitem__(..., b[...] * 2))[0]
    )
    g = bv.jit(f)
    for _ in range(3):
        g(a, 1.0)
    assert a[...].tolist() == [3, 3] and float(b[...]) == 8 and len(traces) == 1
    other = bv.ref(bnp.ones(2))
    g(other, 1.0)
    assert other[...].tolist() == [2, 2] and a[...].tolist() == [3, 3] and len(traces) == 1


def test_a_cell_passed_twice_is_one_cell():
    def f(p, q):
        p[...] = p[...] + 1
        return q[...]

    a = bv.ref(bnp.float32(0))
    assert float(bv.jit(f)(a, a)) == 1.0
    b = bv.ref(bnp.float32(10))
    assert float(bv.jit(f)(a, b)) == 10.0


def test_a_captured_cell_that_changes_its_type_is_traced_again():
    a = bv.ref(bnp.zeros(2))
    f, traces = counted(lambda: a[...].sum())
    g = bv.jit(f)
    assert float(g()) == 0
    a[...] = bnp.ones(2)
    assert float(g()) == 2 and len(traces) == 1
    b = bv.ref(bnp.ones(5))
    h = bv.jit(lambda: b[...] * 2)
    h()
    with pytest.raises((TypeError, ValueError)):
        b[...] = bnp.ones(3)
        assert h().shape == (3,)
        raise ValueError("a cell may change its shape")


def test_cells_in_loops_and_branches():
    total = bv.ref(bnp.float32(0))

    def body(c, x):
        total[...] = total[...] + x
        return c * 2, c

    @bv.jit
    def run(xs, flag):
        lax.scan(body, 1.0, xs)

        def add():
            total[...] = total[...] + 100
            return 0

        lax.cond(flag, add, lambda: 0)
        return lax.while_loop(
            lambda i: i < 3, lambda i: (total.__setitem__(..., total[...] + 1), i + 1)[1], 0
        )

    assert int(run(bnp.arange(4.0), True)) == 3
    assert float(total[...]) == 6 + 100 + 3
    run(bnp.arange(4.0), False)
    assert float(total[...]) == 109 + 9


def test_cells_under_grad_keep_their_values():
    seen = bv.ref(bnp.float32(0))

    def loss(x):
        seen[...] = x * 2
        return x**2

    assert float(bv.grad(loss)(3.0)) == 6.0 and float(seen[...]) == 6.0
    assert float(bv.jit(bv.grad(loss))(4.0)) == 8.0 and float(seen[...]) == 8.0
    with pytest.raises(bv.errors.StateError, match="row"):
        bv.vmap(loss)(bnp.arange(3.0))


def test_an_error_while_tracing_leaves_cells_as_they_were():
    a = bv.ref(bnp.float32(1))

    @bv.jit
    def f(x):
        a[...] = x
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        f(5.0)
    assert float(a[...]) == 1.0


def test_keys_are_arguments_and_results():
    f = bv.jit(lambda k: random.split(k))
    k1, k2 = f(random.key(0))
    want = random.split(random.key(0))
    np.testing.assert_array_equal(random.key_data(k1), random.key_data(want[0]))
    assert random.is_key(k2)


# -- errors
# ------------------------------------------------------------------------------------------


def test_the_same_function_shares_its_programs():
    traces = []

    def f(x, n=1):
        traces.append(n)
        return x * n

    @functools.wraps(f)
    def g(x):
        return x + 1

    assert bv.jit(f) is bv.jit(f) and bv.jit(f) is not bv.jit(f, static_argnames="n")
    assert [float(bv.jit(f)(3.0)) for _ in range(3)] == [3.0] * 3 and traces == [1]
    assert float(bv.jit(f, static_argnames="n")(3.0, n=2)) == 6.0
    assert float(bv.jit(functools.wraps(bv.jit(f))(g))(1.0)) == 2.0
    reference = weakref.ref(f)
    del f, g
    gc.collect()
    assert reference() is None


def test_a_leaked_value_names_its_trace():
    leaked = []
    with pytest.warns(bv.errors.TracerLeakWarning):
        bv.jit(lambda x: (leaked.append(x * 2), x)[1])(1.0)
    with pytest.raises(bv.errors.UnexpectedTracerError, match="(?s)test_jit.py.*jit of"):
        leaked[0] + 1
    with pytest.raises(bv.errors.UnexpectedTracerError):
        bv.jit(lambda x: x + leaked[0])(1.0)


def test_python_asks_a_traced_value():
    with pytest.raises(bv.errors.TracerBoolConversionError, match=r"(?s)test_jit.py.*lax\.cond"):
        bv.jit(lambda x: [1, 2][bool(x > 0)])(1.0)
    with pytest.raises(TypeError, match="test_jit.py"):
        bv.jit(lambda x: np.sin(np.asarray(x)))(1.0)
    with pytest.raises(TypeError, match="test_jit.py"):
        bv.jit(lambda x: bnp.ones(int(x)))(3)


def test_tracebacks_show_the_users_frames():
    @bv.jit
    def f(x):
        return x + bnp.ones((2, 2))

    with pytest.raises(TypeError) as caught:
        f(bnp.ones(3))
    files = [entry.path.name for entry in caught.traceback]
    assert files.count("test_jit.py") == 2 and "graph.py" not in files
