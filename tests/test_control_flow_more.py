"""More of Python's control flow on traced values: exits, errors, objects, built-ins (see
`test_control_flow`).
"""

import contextlib
import functools
import operator

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from tests.flow_checks import Cases, check, given, is_error, outcome

case = Cases()


def deco(f):
    @functools.wraps(f)
    def wrapper(*a, **k):
        return f(*a, **k) + 1

    return wrapper


@deco
def decorated_helper(x):
    return x if x > 0 else -x


@case((3.0,), (-3.0,))
def return_in_try_finally(x):
    try:
        if x > 0:
            return x * 2
        return x
    finally:
        pass


@case((3.0,), (-3.0,))
def return_in_except(x):
    try:
        y = int("a")
    except ValueError:
        if x > 0:
            return x
        y = 2.0
    return y * x


@case((3.0,), (-3.0,))
def with_suppress(x):
    with contextlib.suppress(KeyError):
        if x > 0:
            x = x * 2
        {}["a"]
    return x


@case((3.0,), (-3.0,))
def comp_inside(x):
    ys = [x * i if x > 0 else x for i in range(3)]
    return sum(ys)


@case((3.0,), (-3.0,))
def dict_comp(x):
    d = {k: (x if x > 0 else v) for k, v in {"a": 1.0, "b": 2.0}.items()}
    return d["a"] + d["b"]


@case((3.0,), (-3.0,))
def genexp(x):
    return sum((x if x > i else 0.0) for i in range(3))


@case((3.0,), (-3.0,))
def closures_with_nonlocal_read(x):
    k = 2.0

    def g(v):
        if v > k:
            return v * k
        return v

    k = 1.0
    return g(x)


@case((3.0,), (-3.0,))
def lambda_default(x):
    fs = [lambda v, i=i: v * i if v > 0 else v - i for i in range(3)]
    return fs[0](x) + fs[1](x) + fs[2](x)


@case((3.0,), (-3.0,))
def calls_decorated(x):
    return decorated_helper(x) * (2 if x > 0 else 1)


@case((3,), (0,))
def while_else(n):
    i = 0
    while i < n:
        i += 1
    else:
        i += 100
    return i


@case((5,), (50,))
def for_else_break(n):
    s = 0
    for i in range(n):
        if i > 10:
            break
        s += i
    else:
        s += 1000
    return s


@case((5,), (50,))
def nested_break_outer(n):
    found = -1
    for i in range(n):
        for j in range(n):
            if i * j == 12:
                found = i
                break
        if found > 0:
            break
    return found


@case((5,), (50,))
def return_in_nested(n):
    for i in range(n):
        for j in range(i):
            if i * j == 12:
                return i, j
    return -1, -1


@case((5,), (7,))
def loop_var_after_break(n):
    for i in range(10):
        if i >= n:
            break
    return i


@case((5.0,), (-7.0,))
def chained_mixed(x):
    if 0 < x < 6 and not (x == 3) or x is None:
        return 1.0
    return 0.0


@case((5.0,), (-7.0,))
def ternary_nested(x):
    return 1 if x > 3 else 2 if x > 0 else 3


@case((5.0,), (-7.0,))
def aug_ops(x):
    y = 1.0
    if x > 0:
        y += x
        y *= 2
        y -= 1
        y /= 3
        y **= 2
    return y


@case((3.0,), (-3.0,))
def tuple_swap(x):
    a, b = x, x + 1
    if x > 0:
        a, b = b, a
    return a * 10 + b


@case((3,), (0,))
def walrus_while(n):
    i = 0
    while (d := n - i) > 0:
        i += 1
    return i + d


@case((3.0,), (-3.0,))
def del_in_branch(x):
    y = x
    if x > 0:
        z = y * 2
        x = z
        del z
    return x


@case((3.0,), (-3.0,))
def import_inside(x):
    import math

    if x > 0:
        import math as m

        return x * m.pi
    return x * math.e


@case((np.array([1.0, 5.0, 2.0]),))
def enumerate_zip(xs):
    best, where = xs[0], 0
    for i, x in enumerate(xs):
        if x > best:
            best, where = x, i
    for a, b in zip(xs, xs[1:], strict=False):
        if a > b:
            best = best + a
    return best, where


@case((np.arange(30.0),))
def enumerate_long(xs):
    best, where = xs[0], 0
    for i, x in enumerate(xs):
        if x > best and x < 10:
            best, where = x, i
    return best, where


@case((3.0,), (-3.0,))
def any_all(x):
    return any([x > 0, x < -10]) and all([x > -5])


@case((3.0,), (-3.0,))
def sorted_call(x):
    return sorted([x, 1.0, 2.0])[0]


@case((3.0,), (-3.0,))
def isinstance_mixed(x):
    if isinstance(x, float) or x > 0:
        return x * 2
    return x


@case((3.0,), (-3.0,))
def bool_call(x):
    if bool(x > 0):
        return x
    return -x


@case((3.0,), (-3.0,))
def flag_var(x):
    positive = x > 0
    big = bool(x > 2)
    if positive and big:
        return x
    return -x


@case((3.0,), (-3.0,))
def varargs(*xs, **kw):
    if xs[0] > 0:
        return xs[0] * 2
    return xs[0]


@case((3.0,), (-3.0,))
def mapped(x):
    return sum(map(lambda v: v if v > 0 else -v, [x, x + 1]))


@case((3.0,), (-3.0,))
def reduce_inside(x):
    return functools.reduce(lambda a, b: a if a > b else b, [x, 1.0, 2.0])


@case((3,), (5,))
def weak_start(n):
    total = 0
    for i in range(n):
        total += i / 2
    return total


@case((3,), (5,))
def weak_start_while(n):
    total, i = 0, 0
    while i < n:
        total = total + 0.5
        i += 1
    return total


@case((3.0,), (-5.0,))
def optional_result(x):
    best = None
    for v in (x, x + 1, x + 2):
        if best is None or v > best:
            best = v
    return best


@case((3.0,), (-5.0,))
def string_flag(x, mode="abs"):
    if mode == "abs" and x < 0:
        x = -x
    elif mode == "sq":
        x = x * x
    return x


@case((3.0,), (-5.0,))
def gen_expr_any(x):
    return 1.0 if any(x > t for t in (1, 2)) else 0.0


@case((10,), (3,))
def two_continues(n):
    t = 0
    for i in range(n):
        if i == 2:
            continue
        if i == 5:
            continue
        t += i
        if t > 20:
            break
    return t


@case((5,), (50,))
def ret_dict_while(n):
    i = 0
    while i < n:
        i += 1
        if i == 12:
            return {"a": i}
    return {"a": -1}


@case((3.0,), (-3.0,))
def swallowed(x):
    try:
        if x > 0:
            y = x * 2
        else:
            y = x * 3
    except Exception:
        y = 100.0
    return y


@case((3,), (7,))
def isin(n):
    if n in (1, 2, 3):
        return 1
    return 0


@case((3,), (7,))
def not_in_list(n):
    return 1 if n not in [1, 2, 3] else 0


@case((3.0,), (20.0,))
def raise_else(x):
    if x < 10:
        y = x * 2
    else:
        raise ValueError("too big")
    return y


@case((3.0,), (20.0,))
def raise_elif(x):
    if x < 5:
        y = x * 2
    elif x < 10:
        y = x * 3
    else:
        raise ValueError("too big")
    return y


@case((3.0,), (20.0,))
def raise_helper(x):
    def check(v):
        if v > 10:
            raise OverflowError("v")
        return v + 1

    return check(x) * 2


@case((3,), (20,))
def raise_in_loop(n):
    t = 0
    for i in range(n):
        if i > 10:
            raise RuntimeError("many")
        t += i
    return t


@case((3.0,), (20.0,))
def raise_unreachable_return(x):
    if x < 10:
        return x
    raise ValueError("too big")


@case((3.0,), (-3.0,))
def class_inside(x):
    class P:
        def __init__(self, v):
            self.v = v

        def get(self):
            if self.v > 0:
                return self.v
            return -self.v

    return P(x).get()


@case((3.0,), (-3.0,))
def dunder_flow(x):
    class P:
        def __init__(self, v):
            self.v = v

        def __add__(self, o):
            if self.v > 0:
                return self.v + o
            return o

        def __getitem__(self, i):
            return self.v if self.v > i else i

    p = P(x)
    return (p + 1.0) + p[0]


@case((3.0,), (-3.0,))
def property_flow(x):
    class P:
        def __init__(self, v):
            self.v = v

        @property
        def a(self):
            return self.v if self.v > 0 else -self.v

    return P(x).a


@case((3.0,), (-3.0,))
def loop_in_branch(x):
    if x > 0:
        for i in range(3):
            x = x + i
    else:
        while x < 0:
            x = x + 1
    return x


@case((3.0,), (-3.0,))
def bool_arith(x):
    return (x > 0) * x + (x <= 0) * 2


@case((np.array([1.0, -2.0, 3.0]),))
def max_of_list(xs):
    return max(xs) + min([x for x in xs])


@case((np.array([1.0, -2.0, 3.0]),))
def max_default(xs):
    return max([x for x in xs], default=0)


@case((3.0,), (-3.0,))
def try_in_loop(x):
    t = 0.0
    for i in range(3):
        try:
            if x > i:
                continue
            t = t + i
        finally:
            t = t + 10
    return t


@case((3.0,), (-3.0,))
def with_return_in_loop(x):
    for i in range(3):
        with bv.named_scope("a"):
            if x > i:
                return x + i
    return x


@case((3.0,), (-3.0,))
def short_circuit(x):
    d = None
    ok = d is not None and d.foo > x
    return x if ok or x > 0 else -x


@case((0.0,), (2.0,))
def guard_div(x):
    return 1 / x if x != 0 and 1 / x < 10 else 0.0


@case((3.0,), (-3.0,))
def while_comp(x):
    while any([x > 10, x < 0]):
        x = x * -0.5
    return x


@case((3.6,), (1.0,))
def round_of(x):
    return round(x)


@pytest.mark.parametrize("fun,samples", case, ids=[f.__name__ for f, _ in case])
def test_compiled_gives_what_python_gives(fun, samples):
    check(fun, samples)


BATCHED = [f for f, samples in case if len(samples[0]) == 1 and np.shape(samples[0][0]) == ()]


@pytest.mark.parametrize("fun", BATCHED[::2], ids=[f.__name__ for f in BATCHED[::2]])
def test_rows_choose_for_themselves(fun):
    samples = [given(s)[0] for f, rows in case if f is fun for s in rows]
    expected = [outcome(fun, s) for s in samples]
    fine = [i for i, e in enumerate(expected) if not is_error(e)]
    rows = bv.jit(bv.vmap(fun))(bnp.stack([samples[i] for i in fine]))
    for k, i in enumerate(fine):
        one = bv.tree.map(operator.itemgetter(k), rows)
        bv.tree.map(
            lambda a, b: np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-6),
            one,
            expected[i],
        )
