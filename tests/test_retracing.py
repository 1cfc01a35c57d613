"""Retraces are explained, and batches of any size can share programs."""

import statistics
import subprocess
import sys
import warnings
from statistics import mean

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import nn, random


def causes(f, *calls):
    with bv.debug.explain_retraces() as seen:
        for args, kwargs in calls:
            f(*args, **kwargs)
    return seen


def call(*args, **kwargs):
    return args, kwargs


def linear(n=2):
    return nn.Linear(n, n, rngs=nn.Rngs(0))


EXPLAINED = {
    "shape": (call(bnp.ones((2, 3))), call(bnp.ones((2, 4))), "the shape of x: float32[2,3], then"),
    "dtype": (
        call(bnp.ones(2)),
        call(bnp.ones(2, "int32")),
        "the dtype of x: float32[2], then int",
    ),
    "inside": (
        call({"a": [1, bnp.ones(2)]}),
        call({"a": [1, bnp.ones(3)]}),
        "the shape of x['a'][1]",
    ),
    "structure": (
        call({"a": 1.0}),
        call({"a": 1.0, "b": 2.0}),
        "structure of the arguments: x['b'] is",
    ),
    "keyword": (call(1.0, y=bnp.ones(2)), call(1.0, y=bnp.ones(3)), "the shape of y"),
    "static": (call(1.0, n=1), call(1.0, n=2), "the value of the static argument n: 1, then 2"),
    "function": (
        call(1.0, n=lambda v: v),
        call(1.0, n=lambda v: v * 2),
        "the value of the static argument n",
    ),
    "module": (call(linear()), call(linear().set_attributes(use_bias=False)), "the structure of x"),
    "state": (
        call(bv.ref(bnp.ones(2))),
        call(bv.ref(bnp.ones(3))),
        "the state in x, Ref 0: float32[2]",
    ),
    "key": (
        call(random.key(0)),
        call(random.key(0, impl="rbg")),
        "of x: key<threefry2x32>[], then",
    ),
}


@pytest.mark.parametrize("name", EXPLAINED)
def test_the_cause_is_named(name, capsys):
    first, second, expected = EXPLAINED[name]
    f = bv.jit(lambda x, y=None, n=0: 1.0, static_argnames="n")
    [text] = causes(f, first, first, second, second)
    assert expected in text, text
    assert "test_retracing.py" in text and "2nd time" in text
    assert text in capsys.readouterr().err


def test_the_nearest_trace_is_compared():
    f = bv.jit(lambda x, y: 1.0)
    seen = causes(f, call(bnp.ones(2), 1), call(bnp.ones(3), 2.5), call(bnp.ones(2), 2.5))
    assert "the shape of x" in seen[1] and "the dtype of y" not in seen[1]


def test_a_new_function_as_static_argument():
    f = bv.jit(lambda x, g: g(x), static_argnums=1)

    def made():
        return lambda v: v

    [text] = causes(f, call(1.0, made()), call(1.0, made()))
    assert "a new function at every call" in text and "define the function once" in text


def test_warnings_come_at_the_sixth_trace_and_its_doubles():
    f = bv.jit(lambda x: x.sum())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for n in range(1, 13):
            f(bnp.ones(n)), f(bnp.ones(n))
    messages = [str(w.message) for w in caught]
    assert len(messages) == 2 and "6th time" in messages[0] and "12th time" in messages[1]
    assert all(w.category is bv.errors.RetraceWarning and w.filename == __file__ for w in caught)


def test_max_traces():
    f = bv.jit(lambda x: x + 1, max_traces=2)
    f(bnp.ones(1)), f(bnp.ones(2)), f(bnp.ones(1))
    for _ in range(2):
        with pytest.raises(bv.errors.RetraceError, match=r"(?s)shape of x.*\[3\].*max_traces=2"):
            f(bnp.ones(3))
    assert f(bnp.ones(2)).tolist() == [2, 2]


def test_failed_traces_do_not_count():
    f = bv.jit(lambda x: bnp.ones(3) + x, max_traces=1)
    for _ in range(3):
        with pytest.raises(TypeError):
            f(bnp.ones(2))
    assert f(1.0).tolist() == [2, 2, 2]


def test_functions_that_are_new_at_every_call():
    with pytest.warns(bv.errors.RetraceWarning, match="(?s)new function at every call.*outside of"):
        for i in range(10):
            bv.jit(lambda x: x + 1)(float(i))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for i in range(12):
            bv.jit(lambda x: x + 1)(bnp.ones(i))


# -- batches -----------------------------------------------------------------------------------


@pytest.mark.parametrize("buckets,most", [("pow2", 5), ([4, 10], 4)])
def test_batches_share_programs_and_rows_are_exact(buckets, most):
    traces = []

    def row(w, x, y, *, z):
        traces.append(1)
        return {"sum": (x * w).sum() + y["a"] + z, "x": x, "w": w, "key": x.dtype == "float32"}

    mapped = bv.vmap(
        row, in_axes=(None, 1, {"a": 0}), out_axes={"sum": 0, "x": -1, "w": None, "key": 0}
    )
    f = bv.jit(mapped, batch_buckets=buckets)
    w = bnp.arange(3.0)
    rng = np.random.default_rng(0)
    for n in (1, 2, 3, 4, 5, 7, 8, 9, 11, 16):
        x, y, z = rng.normal(size=(3, n)), rng.normal(size=n), rng.normal(size=n)
        out = f(w, x, {"a": y}, z=z)
        assert out["sum"].shape == (n,) and out["x"].shape == (3, n) and out["w"].shape == (3,)
        np.testing.assert_allclose(out["x"], x, rtol=1e-6)
        np.testing.assert_allclose(out["sum"], np.arange(3) @ x + y + z, rtol=1e-4, atol=1e-5)
    assert len(traces) <= most


def test_batches_of_keys_and_none():
    f = bv.jit(bv.vmap(lambda k: random.normal(k, (2,))), batch_buckets="pow2")
    keys = random.split(random.key(0), 5)
    eager = bv.vmap(lambda k: random.normal(k, (2,)))(random.clone(keys))
    np.testing.assert_allclose(f(keys), eager, rtol=1e-6)
    g = bv.jit(bv.vmap(lambda x: x + 1), batch_buckets="pow2")
    assert g(bnp.zeros((0, 2))).shape == (0, 2)


def test_a_module_that_all_rows_share():
    model = linear(3)
    f = bv.jit(bv.vmap(lambda m, x: m(x), in_axes=(None, 0)), batch_buckets=[8])
    x = bnp.ones((5, 3))
    np.testing.assert_allclose(f(model, x), model(x), rtol=1e-6)


def test_what_cannot_be_padded_is_refused():
    with pytest.raises(TypeError, match="(?s)vmap made.*Write instead"):
        bv.jit(lambda x: x, batch_buckets="pow2")
    with pytest.raises(ValueError, match="(?s)axis_name='i'.*collectives"):
        bv.jit(bv.vmap(lambda x: bv.lax.psum(x, "i"), axis_name="i"), batch_buckets="pow2")
    for bad in ("pow3", [], [0, 2], 4):
        with pytest.raises(TypeError, match="batch_buckets"):
            bv.jit(bv.vmap(lambda x: x), batch_buckets=bad)
    f = bv.jit(bv.vmap(lambda x, y: x + y), batch_buckets="pow2")
    with pytest.raises(ValueError, match="different sizes"):
        f(bnp.ones(3), bnp.ones(4))
    g = bv.jit(bv.vmap(lambda m: m(bnp.ones(3))), batch_buckets="pow2")
    with pytest.raises(TypeError, match="module"):
        g(linear(3))


def test_timeit_separates_compilation():
    f = bv.jit(lambda x: bnp.tanh(x @ x).sum())
    x = bnp.ones((30, 30))
    report = bv.timeit(f, x, seconds=0.02)
    assert report.runs >= 5
    assert 0 < report.lower_seconds <= report.median_seconds <= report.upper_seconds
    assert report.compile_seconds > report.median_seconds
    assert bv.timeit(f, x, seconds=0.02).compile_seconds < report.compile_seconds
    assert "per call" in repr(report) and "compiling took" in repr(report)


SLOW = """
import bevel as bv, bevel.numpy as bnp
from bevel import lax

f = bv.jit(lambda x: lax.fori_loop(0, 200, lambda i, v: bnp.tanh(v @ v), x))
x = bnp.ones((300, 300)) * 1e-3
ready = lambda y: y._v.raw.is_ready()
f(x).block_until_ready()
"""


def test_timeit_waits_for_each_call():
    code = """
made, running, finished = [], [], []

def g(x):
    finished.extend(map(ready, made[-1:]))
    made.append(f(x))
    running.append(not ready(made[-1]))  # when the call returns
    return made[-1]

bv.timeit(g, x, seconds=0.01)
print(any(running), len(finished) >= 6 and all(finished))
"""
    run = subprocess.run([sys.executable, "-c", SLOW + code], capture_output=True, text=True)
    assert run.stdout.split() == ["True", "True"], run.stderr


def test_timeit_of_a_notebook_waits_for_the_program():
    pytest.importorskip("IPython")
    code = """
from IPython.core.interactiveshell import InteractiveShell

shell, seen = InteractiveShell.instance(), []
shell.push({"bv": bv, "f": f, "x": x, "ready": ready, "seen": seen})
shell.run_line_magic("timeit", "-n1 -r3 -q y = f(x); seen.append(ready(y))")
shell.run_line_magic("timeit", "-n1 -r3 -q seen.append(ready(bv.block_until_ready(f(x))))")
print(False in seen[:3], seen[3:] == [True] * 3)
"""
    run = subprocess.run([sys.executable, "-c", SLOW + code], capture_output=True, text=True)
    assert run.stdout.split() == ["True", "True"], run.stderr


def test_variables_of_one_name_around_several_functions(tmp_path, monkeypatch):
    """A global variable of two modules, and one that two closures have."""
    (tmp_path / "scaling.py").write_text("scale = 2.0\ndef scaled(x):\n    return x * scale\n")
    monkeypatch.syspath_prepend(tmp_path)
    import scaling

    def closure(scale):
        def inner(x):
            return x + scale

        def change(new):
            nonlocal scale
            scale = new

        return inner, change

    (first, change_first), (second, change_second) = closure(1.0), closure(10.0)
    own = {"scaled": scaling.scaled, "scale": 3.0}
    exec("def g(x):\n    return scaled(x) * scale", own)
    f = bv.jit(lambda x: g(x) + first(x) + second(x))
    g = own["g"]
    assert float(f(1.0)) == 6 + 2 + 11
    scaling.scale = 5.0
    assert float(f(1.0)) == 15 + 2 + 11
    own["scale"] = 1.0
    assert float(f(1.0)) == 5 + 2 + 11
    change_first(2.0)
    assert float(f(1.0)) == 5 + 3 + 11
    change_second(20.0)
    assert float(f(1.0)) == 5 + 3 + 21
    assert f._cache_size() == 5
    scaling.scale, own["scale"] = 2.0, 3.0
    change_first(1.0), change_second(10.0)
    assert float(f(1.0)) == 6 + 2 + 11 and f._cache_size() == 5
    scaling.scale = 2  # equal, and of another type
    assert float(f(1.0)) == 6 + 2 + 11 and f._cache_size() == 6


def test_variables_of_installed_packages_are_not_watched():
    from bevel.api.outside import outside_of

    def f(x):
        return statistics.fmean([1.0, 2.0]) * mean([x, x])

    assert outside_of(f) is False
    assert outside_of(lambda x: call(x)).globals[0][1] == ["call"]
