"""Python's control flow on traced values: errors of the user's that a program raises, what cannot
be converted and what is said then, functions without a file, and what is around a function.
"""

import linecache
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import lax

HERE = re.escape(__file__.rsplit("/", 1)[1])


def refused(error, *parts):
    return pytest.raises(error, match="(?s)" + ".*".join(parts))


# -- raise and assert ------------------------------------------------------------------------------


class Custom(Exception):
    def __init__(self, value):
        super().__init__(f"bad value {value}")
        self.value = value


def checked(x, limit=10):
    if x > limit:
        raise Custom(float(x))
    return x * 2


def with_text(x):
    if (x > 10).any():
        raise ValueError(f"largest is {x.max():.1f}, of {x.shape[0]}")
    return x.sum()


def asserted(x):
    y = x + 1
    assert y > 0, f"y is {y}"
    return y


@pytest.mark.parametrize(
    "f,good,bad,error,text",
    [
        (checked, 3.0, 20.0, Custom, "bad value 20.0"),
        (with_text, np.ones(3), np.array([1, 99.5]), ValueError, "largest is 99.5, of 2"),
        (asserted, 1.0, -5.0, AssertionError, "y is -4.0"),
    ],
)
def test_errors_have_the_values_and_the_line(f, good, bad, error, text):
    for wrap in (bv.jit, lambda f: bv.jit(bv.value_and_grad(f))):
        g = wrap(f)
        g(good)
        bv.effects_barrier()
        with pytest.raises(error) as caught:
            g(bad)
            bv.effects_barrier()
        assert str(caught.value) == text
        assert re.search(rf"Raised at .*{HERE}:\d+, by a compiled", caught.value.__notes__[0])
    if error is Custom:
        assert caught.value.value == 20.0


def test_only_rows_that_raise_raise():
    rows = bv.jit(bv.vmap(checked))
    assert rows(bnp.array([1.0, 2.0])).tolist() == [2, 4]
    with pytest.raises(Custom, match="30.0"):
        rows(bnp.array([1.0, 30.0]))
        bv.effects_barrier()

    def nested(x):
        if x > 0:
            assert x > 5, "too small"
            return x
        return -x

    assert bv.jit(bv.vmap(nested))(bnp.array([6.0, -2.0])).tolist() == [6, 2]
    bv.effects_barrier()


def test_rows_that_have_left_a_loop_raise_nothing():
    def f(n):
        total = 0
        for i in range(n):
            if i == n:
                raise ValueError("never")
            assert total < 3 or i < 3, "the last step of n = 4"
            total += i
        return total

    rows = bv.jit(bv.vmap(f))
    assert rows(bnp.array([1, 3])).tolist() == [0, 3]
    bv.effects_barrier()
    with pytest.raises(AssertionError, match="n = 4"):
        rows(bnp.array([1, 4]))
        bv.effects_barrier()


def test_effects_of_a_branch_are_those_of_rows_that_take_it(capsys):
    def f(x):
        return lax.cond(x > 0, lambda: bv.debug.print("{x}", x=x), lambda: None)

    bv.vmap(f)(bnp.array([1.0, -1.0, 3.0]))
    bv.effects_barrier()
    assert sorted(capsys.readouterr().out.split()) == ["1.0", "3.0"]


def test_a_traced_error_that_is_to_be_caught_is_refused():
    @bv.jit
    def f(x):
        try:
            if x > 10:
                raise ValueError("too big")
            y = x
        except Exception:
            y = 10.0
        return y

    with refused(bv.errors.TracerBoolConversionError, HERE, "`except`", HERE, "bnp.where"):
        f(1.0)


def test_both_branches_raise():
    @bv.jit
    def f(x):
        if x > 0:
            raise ValueError("one")
        else:
            raise TypeError("other")

    with pytest.raises(ValueError, match="one"):
        f(1.0)


def test_errors_of_shapes_in_a_branch_come_at_once():
    def f(x):
        if x.sum() > 0:
            x = x + bnp.ones(7)
        return x

    with refused(TypeError, r"float32\[7\]"):
        bv.jit(f)(bnp.ones(3))


# -- what is said ----------------------------------------------------------------------------------


def comprehension(x):
    return [v for v in x if v > 0]


def guard(x):
    match x.ndim:
        case 1 if x.sum() > 0:
            return x
        case _:
            return -x


class Vector:
    def __init__(self, v):
        self.v = v

    def __add__(self, other):
        if self.v.sum() > 0:
            return self.v + other
        return other


@pytest.mark.parametrize(
    "f,said",
    [
        (comprehension, "a condition in a comprehension"),
        (guard, "or in a `case`"),
        (lambda x: 1 if (y := x.sum()) > 0 and y < 9 else 2, "`:=` in an `and`"),
        (lambda x: max(x, key=lambda v: -v), "`max` with a key"),
        (
            lambda x: Vector(x) + 1,
            "but not that of __add__: only functions that are called by name",
        ),
    ],
)
def test_why_it_was_not_converted(f, said):
    with refused(bv.errors.TracerBoolConversionError, HERE, "lax.cond", said):
        bv.jit(f)(bnp.ones(3))


@pytest.mark.parametrize(
    "f",
    [
        lambda n: sum(range(n)),
        lambda n: [i for i in range(n)],
        lambda n: list(enumerate(range(n))),
        lambda n: len(range(n)),
        lambda n: range(n)[0],
    ],
)
def test_the_numbers_of_a_traced_range(f):
    with refused(bv.errors.TracerIntegerConversionError, "`range`", HERE, "bnp.arange"):
        bv.jit(f)(3)


def test_a_recursion_without_an_end():
    def fact(n):
        return 1 if n <= 1 else n * fact(n - 1)

    with refused(RecursionError, HERE, "traced condition", "`while` loop"):
        bv.jit(fact)(4)


def test_a_variable_that_a_branch_in_a_loop_binds_first():
    @bv.jit
    def f(n):
        for i in range(n):
            if i == 0:
                first = i
        return first

    with refused(UnboundLocalError, "'first'", HERE, "bind it before the `if`"):
        f(3)


def test_objects_that_are_no_arrays():
    @bv.jit
    def f(x):
        if x > 0:
            act = bnp.sin
        else:
            act = bnp.cos
        return act(x)

    with refused(TypeError, "'act' is a function .sin.", "a function .cos.", "lax.cond"):
        f(1.0)


def test_transforms_without_jit_name_it():
    f = lambda x: x if x > 0 else -x  # noqa: E731
    for run in (
        lambda: bv.vmap(f)(bnp.ones(2)),
        lambda: lax.scan(lambda c, r: (c, f(r)), 0.0, bnp.ones(2)),
        lambda: bv.eval_shape(f, 1.0),
    ):
        with refused(bv.errors.TracerBoolConversionError, "bv.jit around the transforms"):
            run()


# -- functions without a file ----------------------------------------------------------------------


def test_cells_of_a_notebook():
    shell = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell()

    def cell(text):
        done = shell.run_cell(text)
        done.raise_error()
        return done.result

    cell("import bevel as bv, bevel.numpy as bnp")
    abs_ = "@bv.jit\ndef f(x):\n    if x > 0:\n        return x\n    return -x\nfloat(f(-3.0))"
    assert cell(abs_) == 3
    assert cell(abs_.replace("return -x", "return x - 1")) == -4
    assert (
        cell("g = lambda x: x if x > 0 else -x; h = bv.jit(lambda x: g(x) + 1); float(h(-2.))") == 3
    )
    cell("helper = lambda x: x")
    assert cell("K = 2.0\n@bv.jit\ndef k(x):\n    return helper(x) * K\nfloat(k(1.))") == 2
    assert cell("K = 5.0\nfloat(k(1.))") == 5
    assert cell("def helper(x):\n    return x * 10\nfloat(k(1.))") == 50
    with refused(TypeError, r"ipython-input.*:3", r"float32\[2\]", r"float32\[3\]"):
        cell(
            "@bv.jit\ndef bad(x):\n    if x > 0:\n        y = bnp.ones(2)\n    else:\n"
            "        y = bnp.ones(3)\n    return y\nbad(1.0)"
        )


def test_a_program_from_standard_input():
    program = (
        "import bevel as bv\n@bv.jit\ndef f(x):\n    if x > 0:\n        return x\n    return -x\n"
        "try: f(1.0)\nexcept TypeError as e: print(e)\n"
    )
    done = subprocess.run(
        [sys.executable, "-"], input=program, capture_output=True, text=True, timeout=60
    )
    assert "the source of f is not there (<stdin>)" in done.stdout and "lax.cond" in done.stdout


# -- what is around a function ---------------------------------------------------------------------

FACTOR = 1.0
TABLE = bnp.ones(2)
CALLS = 0


def scaled(x):
    return x * FACTOR + TABLE.sum()


def test_globals_that_change(monkeypatch):
    traces = []

    @bv.jit
    def f(x):
        traces.append(1)
        return scaled(x)

    inner = bv.jit(lambda x: f(x) * 2)
    assert [float(f(1.0)), float(f(1.0)), float(inner(1.0))] == [3, 3, 6]
    known = len(traces)
    monkeypatch.setitem(globals(), "FACTOR", 4.0)
    assert [float(f(1.0)), float(f(1.0)), float(inner(1.0))] == [6, 6, 12]
    monkeypatch.setitem(globals(), "TABLE", bnp.zeros(2))
    assert [float(f(1.0)), float(bv.grad(f)(1.0))] == [4, 4]
    monkeypatch.setitem(globals(), "scaled", lambda x: x)
    assert float(f(7.0)) == 7
    monkeypatch.undo()
    most = len(traces)
    assert float(f(1.0)) == 3 and known < most == len(traces)  # that program is still there


def test_what_a_new_helper_reads_is_seen_too(monkeypatch):
    f = bv.jit(lambda x: scaled(x))
    f(1.0)
    monkeypatch.setitem(globals(), "LATER", 2.0)
    monkeypatch.setitem(globals(), "scaled", lambda x: x + LATER)  # noqa: F821
    assert float(f(1.0)) == 3
    monkeypatch.setitem(globals(), "LATER", 5.0)
    assert float(f(1.0)) == 6


def test_variables_of_an_enclosing_function():
    rate = 0.5
    f = bv.jit(bv.vmap(lambda x: x * rate))
    assert f(bnp.ones(1)).tolist() == [0.5]
    rate = 2.0
    assert f(bnp.ones(1)).tolist() == [2.0]
    count = 0

    @bv.jit
    def counts(x):
        nonlocal count
        count += 1
        return x

    [counts(1.0) for _ in range(3)]
    assert count == 1


def test_a_global_that_changes_in_each_call(monkeypatch):
    f = bv.jit(lambda x: x * FACTOR)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for i in range(7):
            monkeypatch.setitem(globals(), "FACTOR", float(i))
            f(1.0)
    [warning] = caught
    assert "the variable FACTOR around it: 4.0, then 5.0" in str(warning.message)
    assert "an argument for what changes" in str(warning.message)


def test_functions_that_write_globals_are_not_traced_for_that():
    def f(x):
        global CALLS
        CALLS += 1
        return x

    g = bv.jit(f)
    before = CALLS
    [g(1.0) for _ in range(3)]
    assert before + 1 == CALLS


def test_arguments_are_named_where_they_are_printed():
    seen = []

    @bv.jit
    def f(x, tree, *, scale):
        seen.extend(map(repr, (x, tree["a"][0], scale, x + 1)))
        return x

    f(bnp.ones(3), {"a": [1.0]}, scale=2)
    place = rf"of jit of f at .*{HERE}:\d+; its value"
    assert re.match(rf"Traced<float32\[3\]>, argument x {place}", seen[0])
    assert 'bv.debug.print("{x}", x=x)' in seen[0]
    assert re.match(rf"Traced<float32\[\]>, argument tree\['a'\]\[0\] {place}", seen[1])
    assert re.match(rf"Traced<int32\[\]>, argument scale {place}", seen[2])
    assert re.match(rf"Traced<float32\[3\]>, made at .*{HERE}:\d+ \(f\); its", seen[3])


def test_what_is_printed_shows_what_is_known():
    seen = []

    def f(x):
        seen.extend([str(x), f"{x * 2}"])
        return (x * x).sum()

    bv.grad(f)(bnp.array([1.0, 2.0])), bv.vmap(f)(bnp.array([3.0, 4.0]))
    assert seen[0] == "Traced<float32[2]>, in grad of f, with the value [1. 2.]"
    assert seen[1].endswith("with the value [2. 4.]")
    assert seen[2:] == [
        "Traced<float32[]>, in vmap of f, a row of [3. 4.]",
        "Traced<float32[]>, in vmap of f, a row of [6. 8.]",
    ]
    kept = []
    with pytest.warns(bv.errors.TracerLeakWarning):
        bv.jit(lambda x: (kept.append(x + 1), x)[1])(1.0)
    assert "has ended: it has no value; return it" in repr(kept[0])


def test_a_source_that_is_in_the_line_cache_only():
    text = "def f(x):\n    while x < 3:\n        x = x + 2\n    return x\n"
    linecache.cache["<made up>"] = (len(text), None, text.splitlines(True), "<made up>")
    scope = {}
    exec(compile(text, "<made up>", "exec"), scope)
    assert float(bv.jit(scope["f"])(0.0)) == 4
