"""Python's control flow on traced values under `jit`: each function gives what Python gives."""

import functools
import re

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import lax, nn, random
from tests.flow_checks import Cases, given

# Each is called eagerly, where values are known, and compiled, where they are not.
case = Cases()


@case((1.0,), (-2.0,), (0.0,))
def if_elif_else(x):
    if x > 0:
        y = x * 2
    elif x < 0:
        y = -x
    else:
        y = x + 7
    return y + 1


@case((1.0,), (-2.0,))
def no_else(x):
    y = x
    if x < 0:
        y = y * 10
        x += 1
    return x + y


@case((3.0,), (-3.0,), (0.5,))
def early_return(x):
    if x < 0:
        return -x
    if x > 1:
        return x * x
    return x + 100


@case((3.0,), (-3.0,))
def return_in_both(x):
    if x < 0:
        return {"sign": -1.0, "x": (x, x + 1)}
    else:
        return {"sign": 1, "x": (x * 2, x)}


@case((0,), (7,), (100,))
def while_loop(n):
    a, b = 0, 1
    while a < n:
        a, b = b, a + b
    return a


@case((10, 3), (10, 30), (1, 0))
def while_break_continue_else(n, limit):
    i, total, ended = 0, 0, 0
    while i < n:
        i += 1
        if i % 2 == 0:
            continue
        if total > limit:
            break
        total += i
    else:
        ended = 1
    return total, i, ended


@case((5,), (0,), (1,))
def for_range(n):
    total = 0
    for i in range(n):
        total += i * i
    return total


@case((2, 9, 3), (9, 2, -2), (3, 3, 1))
def for_range_steps(a, b, c):
    last = -1
    for i in range(a, b, c):
        last = i + last * 2
    return last


@case((20, 50), (20, 1000))
def for_range_break(n, limit):
    total = 0
    for i in range(n):
        if total > limit:
            break
        if i == 3:
            continue
        total += i
    return total


@case((np.arange(5.0),), (np.arange(40.0),), (np.zeros(3),))
def for_rows(xs):
    total, largest = 0.0, xs[0]
    for x in xs:
        total = total + x
        if x > largest:
            largest = x
    return total, largest


@case((np.arange(5.0),), (np.full(40, 0.25),))
def for_rows_return(xs):
    for x in xs:
        if x > 2:
            return x
    return xs.sum()


@case((4, 5), (0, 3))
def nested_loops(n, m):
    count = 0
    for i in range(n):
        j = 0
        while j < m:
            if (i + j) % 3 == 1:
                count += j
            j += 1
    return count


@case((27,), (1,), (6,))
def collatz(n):
    steps = 0
    while n != 1:
        if n % 2 == 0:
            n = n // 2
        else:
            n = 3 * n + 1
        steps += 1
    return steps


@case((10.0, 3.0), (3.0, 3.0), (48.0, 36.0))
def return_from_while(a, b):
    while True:
        if b == 0:
            return a
        a, b = b, a % b


@case((1.0, 2.0), (2.0, 1.0), (0.0, 5.0))
def boolean_operators(x, y):
    both = x > 0 and y > 0 and x < y
    either = x > 1 or y > 1
    mixed = not (x > 0) or (y > 1 and not either)
    if both or mixed:
        return x
    return y


@case((1.0, 2.0, 3.0), (2.0, 1.0, 3.0), (1.0, 3.0, 2.0))
def chained_comparison(a, b, c):
    return 1 if a < b < c else (2 if a < c <= 3 else 3)


@case((0.0, 5.0), (2.0, 5.0))
def values_of_operators(x, y):
    return (x or y) + (x and y)


@case((1.0,), (-1.0,))
def conditional_expression(x):
    y = x * 2 if x > 0 else 3
    return (y if y > 2 else y + 1) + max(x, 0.5) + min(x, -0.5)


@case((2.0,), (-2.0,))
def nested_function(x):
    def relu(v):
        if v > 0:
            return v
        return 0.0 * v

    scale = lambda v: v * 2 if v > 1 else v * 3
    return relu(x) + scale(x)


def helper(x, limit=3.0):
    while x < limit:
        x = x * 2
    return x


@case((1.0,), (5.0,))
def other_functions(x):
    return helper(x) + helper(x, limit=10.0)


def power(x, n):
    if n == 0:
        return bnp.ones(())
    half = power(x, n // 2)
    if half > 100:
        return half
    return half * half * (x if n % 2 else 1)


@case((3.0,), (0.5,), (20.0,))
def recursion(x):
    return power(x, 5)


@case((1.0,), (-1.0,))
def python_ifs_stay_python(x):
    names = []
    for name in ("a", "b"):
        if x.ndim == 0 and name == "a":
            names.append(name)
    if x > 0:
        x = x + len(names)
    return x


@case((1.0,), (-1.0,))
def tuple_targets_and_walrus(x):
    if (y := x * 2) > 0:
        a, (b, *c) = x, (y, x, x)
    else:
        a, (b, *c) = y, (x, y, y)
    return a + b + sum(c)


@case((5,), (2,))
def bound_in_the_loop(n):
    i = 0
    while i < n:
        square = i * i
        i += 1
    return square


@case((3.0,), (-3.0,))
def with_and_try(x):
    with bv.named_scope("inside"):
        try:
            if x > 0:
                return x * 2
        finally:
            x = x + 1
    return x


@case((3,), (-3,))
def match_statement(x):
    match x.ndim:
        case 0:
            if x > 0:
                return x * 2
            y = x
        case _:
            y = x.sum()
    return y


@case((np.array([3.0, 1.0, 2.0]),), (np.array([0.0, 0.0, 0.0]),))
def built_ins(xs):
    if any(x > 2 for x in xs) and all([x >= 0 for x in xs]):
        return max(xs[0], xs[1], xs[2])
    return min(xs[0], xs[1])


@pytest.mark.parametrize("fun,samples", case, ids=[f.__name__ for f, _ in case])
def test_compiled_gives_what_python_gives(fun, samples):
    compiled = bv.jit(fun)
    for arguments in samples:
        expected, got = fun(*given(arguments)), compiled(*given(arguments))
        assert bv.tree.structure(got) == bv.tree.structure(expected)
        for e, g in zip(bv.tree.leaves(expected), bv.tree.leaves(got), strict=True):
            np.testing.assert_allclose(np.asarray(g), np.asarray(e), rtol=1e-6)


@pytest.mark.parametrize("fun", [if_elif_else, early_return, conditional_expression])
def test_batched_and_differentiated(fun):
    xs = bnp.array([3.0, -3.0, 0.5])
    rows = bv.jit(bv.vmap(fun))(xs)
    slopes = bv.jit(bv.vmap(bv.grad(fun)))(xs)
    for x, row, slope in zip(xs, rows, slopes, strict=True):
        np.testing.assert_allclose(row, fun(x), rtol=1e-6)
        np.testing.assert_allclose(slope, bv.grad(fun)(x), rtol=1e-6)
        np.testing.assert_allclose(slope, bv.grad(bv.jit(fun))(x), rtol=1e-6)


def test_gradient_of_loops_over_rows():
    def f(xs):
        total = 1.0
        for x in xs:
            if x > 1:
                total = total * x
        return total

    xs = bnp.linspace(0.5, 1.5, 30)
    np.testing.assert_allclose(bv.jit(bv.grad(f))(xs), bv.grad(f)(xs), rtol=1e-5)


def test_functions_without_such_code_are_traced_once():
    traces = []

    @bv.jit
    def plain(x):
        traces.append(1)
        return x + 1 if x.ndim else x

    @bv.jit
    def needs(x):
        traces.append(2)
        return x + 1 if x > 0 else x

    plain(1.0)
    assert traces == [1]
    needs(1.0)
    assert traces == [1, 2, 2]
    needs(bnp.float64(1.0))  # converted already
    assert traces == [1, 2, 2, 2]
    needs(2.0)
    assert len(traces) == 4


class Counter(nn.Module):
    def __init__(self):
        self.count = nn.Variable(bnp.zeros((), "int32"))
        self.__limit = 3

    def __call__(self, x):
        if x > 0:
            self.count[...] += 1
        while self.count.value < self.__limit:
            self.count[...] += 1
        return x * self.count.value


def test_methods_and_state():
    module, plain = Counter(), Counter()
    f = bv.jit(lambda m, x: m(x))
    for x in (1.0, -1.0, 2.0, 5.0):
        assert float(f(module, x)) == float(plain(bnp.float32(x)))
        assert int(module.count.value) == int(plain.count.value)
    assert float(bv.jit(plain)(1.0)) == 6


def test_partials_keywords_and_defaults():
    def f(x, *, scale=2.0, offset=1.0):
        return x * scale if x > offset else x - scale

    g = bv.jit(functools.partial(f, scale=3.0))
    assert [float(g(2.0)), float(g(0.0))] == [6.0, -3.0]
    assert float(bv.jit(f)(2.0, scale=5.0)) == 10.0


def test_random_keys_in_branches_and_loops():
    def f(key, x):
        if x > 0:
            y = random.normal(key)
        else:
            y = random.uniform(key)
        for i in range(3):
            if y < 0.5:
                y = y + random.uniform(random.fold_in(random.clone(key), i))
        return y

    g = bv.jit(f)
    for x in (1.0, -1.0):
        expected = f(random.key(4), bnp.float32(x))
        np.testing.assert_allclose(g(random.key(4), x), expected, rtol=1e-6)


def test_inside_lax_functions():
    def body(carry, x):
        if x > 0:
            carry = carry + x
        return carry, carry

    xs = np.array([1, -1, 2], np.float32)
    total, sums = bv.jit(lambda v: lax.scan(body, 0.0, v))(xs)
    assert float(total) == 3 and sums.tolist() == [1, 1, 3]
    assert bv.jit(lambda v: lax.map(lambda x: -x if x < 0 else x, v))(xs).tolist() == [1, 1, 2]


def test_lambdas_on_one_line():
    f, g = bv.jit(lambda x: x if x > 0 else -x), bv.jit(lambda x: 2 * x if x > 0 else x)
    h = bv.jit(lambda x: (lambda x: x if x > 0 else -x)(x) + 1)
    assert [float(f(-1.0)), float(g(-1.0)), float(g(1.0)), float(h(-3.0))] == [1.0, -1.0, 2.0, 4.0]


def test_assertions_are_checked_when_the_program_runs():
    @bv.jit
    def f(x):
        assert x > 0, "must be positive"
        return x * 2

    assert float(f(1.0)) == 2
    bv.effects_barrier()
    with pytest.raises(AssertionError, match="must be positive"):
        f(-1.0)
        bv.effects_barrier()


def test_source_from_a_notebook():
    import linecache

    source = "def f(x):\n    if x > 0:\n        return x\n    return x - 1\n"
    name = "<ipython-input-1-abc>"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    scope = {}
    exec(compile(source, name, "exec"), scope)
    assert float(bv.jit(scope["f"])(-1.0)) == -2


# -- errors ----------------------------------------------------------------------------------------

HERE = re.escape(__file__.rsplit("/", 1)[1])


def refused(error, *parts):
    return pytest.raises(error, match="(?s)" + ".*".join(parts))


def test_branches_of_two_types():
    @bv.jit
    def f(x):
        if x > 0:
            y = bnp.zeros(2)
        else:
            y = bnp.zeros(3)
        return y

    with refused(TypeError, HERE, "'y'", r"float32\[2\]", r"float32\[3\]", "lax.cond"):
        f(1.0)

    @bv.jit
    def g(x):
        if x > 0:
            return x

    with refused(TypeError, HERE, "the function returns", "None", r"float32\[\]"):
        g(1.0)


def test_a_variable_only_one_branch_binds():
    @bv.jit
    def f(x):
        if x > 0:
            y = x
        return y

    with refused(UnboundLocalError, "'y'", HERE, "before the `if`"):
        f(1.0)


def test_a_loop_whose_variable_changes_its_type():
    @bv.jit
    def f(n):
        x = bnp.zeros(1)
        while n > 0:
            x = bnp.concatenate([x, x])
            n = n - 1
        return x

    with refused(TypeError, r"float32\[1\]", r"float32\[2\]", "`while`", HERE, "x"):
        f(3)


@pytest.mark.parametrize("kind", ["list", "dict", "attribute", "loop"])
def test_side_effects_in_a_branch(kind):
    class Holder:
        pass

    def f(x):
        out, table, holder = [], {}, Holder()
        if kind == "list":
            if x > 0:
                out.append(x)
        elif kind == "dict":
            if x > 0:
                table["x"] = x
        elif kind == "attribute":
            if x > 0:
                holder.x = x
        else:
            while x > 0:
                out.append(1)
                x = x - 1
        return x

    with refused(TypeError, "out|table|holder", "changed", HERE, "lax.scan"):
        bv.jit(f)(1.0)


def test_errors_inside_name_the_function_and_the_line():
    @bv.jit
    def scaled(x):
        if x.sum() > 0:
            x = x * bnp.ones(7)
        return x

    with refused(TypeError, r"x is float32\[3\] and .* float32\[7\]", HERE + r":\d+ \(scaled\)"):
        scaled(bnp.ones(3))


def test_no_source():
    scope = {}
    exec("def f(x):\n    return x if x > 0 else -x", scope)
    with refused(bv.errors.TracerBoolConversionError, "lax.cond", "source of f is not there"):
        bv.jit(scope["f"])(1.0)


def test_what_is_no_control_flow_stays_an_error():
    @bv.jit
    def f(x):
        return {True: 1, False: 2}[bool(x > 0)]

    with refused(bv.errors.TracerBoolConversionError, HERE, "lax.cond"):
        f(1.0)

    @bv.jit
    def g(xs):
        return [x for x in xs if x > 0]

    with refused(bv.errors.TracerBoolConversionError, HERE, "lax.cond"):
        g(bnp.ones(3))


def test_generators_and_globals_are_named():
    def numbers(x):
        while x > 0:
            yield x
            x = x - 1

    with refused(bv.errors.TracerBoolConversionError, "generator|lax.cond"):
        bv.jit(lambda x: list(numbers(x)))(1.0)

    count = 0

    def g(x):
        nonlocal count
        if x > 0:
            count = 1
        return x

    with refused(bv.errors.TracerBoolConversionError, "nonlocal", "count"):
        bv.jit(g)(1.0)
    assert count == 0
