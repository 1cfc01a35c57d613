"""Lists, dicts and plain objects that traced branches and loops change in place, and variables that
they share with inner functions.
"""

import dataclasses
import re
import types

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import lax
from tests.flow_checks import Cases, check

HERE = re.escape(__file__.rsplit("/", 1)[1])
case = Cases()


class P:
    """A class with control flow in its constructor and a method that stores."""

    def __init__(self, v):
        if v > 0:
            self.v = v
        else:
            self.v = -v
        self.n = 0

    def step(self, x):
        self.n += 1
        self.v = self.v + x
        return x * 2


@dataclasses.dataclass
class DC:
    a: object
    b: int = 2


@dataclasses.dataclass(slots=True)
class DS:
    a: object
    b: int = 2


@case((3.0,), (-3.0,))
def ctor(x):
    p = P(x)
    return p.v


@case((3.0,), (-3.0,))
def method_in_branch(x):
    p = P(x)
    if x > 0:
        y = p.step(x)
    else:
        y = x
    return y, p.n, p.v


@case((3.0,), (-3.0,))
def method_expr(x):
    p = P(x)
    if x > 0:
        p.step(x)
        p.step(x)
    return p.n, p.v


@case((3.0,), (-3.0,))
def dict_item(x):
    s = {"a": x, "b": x}
    if x > 0:
        s["a"] = x * 2
        s["b"] += 1
    return s


@case((3.0,), (-3.0,))
def list_item(x):
    s = [x, x, 7]
    if x > 0:
        s[0] = x * 2
    else:
        s[1] = 0.0
    return s


@case((3.0,), (-3.0,))
def both_append(x):
    s = []
    if x > 0:
        s.append(x)
    else:
        s.append(-x)
    return s


@case((3.0,), (-3.0,))
def new_key_both(x):
    s = {}
    if x > 0:
        s["k"] = x
    else:
        s["k"] = -x
    return s


@case((3,), (0,))
def loop_list(n):
    s = [0, 1]
    for _ in range(n):
        s[0], s[1] = s[1], s[0] + s[1]
    return s


@case((3,), (0,))
def while_dict(n):
    s = {"i": 0, "t": 1}
    while s["i"] < n:
        s["i"] += 1
        s["t"] = s["t"] * 2
    return s


@case((3,), (0,))
def loop_attr(n):
    p = types.SimpleNamespace(v=1.0, k=3)
    for _ in range(n):
        p.v = p.v * 2 + p.k
    return p.v


@case((3,), (0,))
def loop_method(n):
    p = P(bnp.float32(1.0))
    for _ in range(n):
        p.step(1.0)
    return p.v, p.n


@case(
    (np.arange(20.0),),
)
def rows_dict(xs):
    s = {"m": xs[0], "c": 0}
    for x in xs:
        if x > s["m"]:
            s["m"] = x
            s["c"] += 1
    return s


@case((10,), (3,))
def nested_obj(n):
    s = {"t": 0, "k": [1, 2]}
    for i in range(n):
        if i % 2 == 0:
            s["t"] += i
            s["k"][0] = i
    return s


@case((3.0,), (-3.0,))
def early_return_obj(x):
    s = {"a": 0.0}
    if x > 0:
        s["a"] = x
        return s["a"] * 2
    s["a"] = 5.0
    return s["a"]


@case((3.0,), (-3.0,))
def helper_mutates(x):
    s = {"a": 0.0}

    def put(d, v):
        d["a"] = v

    if x > 0:
        put(s, x)
    return s["a"]


@case((3.0,), (-3.0,))
def string_entry(x):
    s = {"a": 0.0, "name": "n"}
    if x > 0:
        s["a"] = x
        s["name"] = "n"
    return s["a"]


@case((3.0,), (20.0,))
def raise_with_obj(x):
    s = {"a": 0.0}
    if x > 10:
        s["a"] = 3.0
        raise ValueError("big")
    s["a"] += 1
    return s["a"]


@case((3.0,), (-3.0,))
def alias(x):
    s = {"a": 0.0}
    t = s
    if x > 0:
        s["a"] = x
        t["a"] += 1
    return t["a"]


@case((5,), (2,))
def brk_obj(n):
    s = {"a": 0}
    for i in range(n):
        if i == 3:
            break
        s["a"] += i
    return s["a"], i


@case((3.0,), (-3.0,))
def pop_insert(x):
    s = [1.0, 2.0, 3.0]
    if x > 0:
        s.reverse()
    return s


@case((3.0,), (-3.0,))
def dict_update(x):
    s = dict(a=1.0, b=2.0)
    if x > 0:
        s.update(a=x)
    return s


@case((3.0,), (-3.0,))
def dc(x):
    s, t = DC(x), DS(x)
    if x > 0:
        s.a = s.a * 2
        t.a = t.a * 3
        t.b = 5
    else:
        t.b = 6
    n = 0
    while n < 3 and x > 0:
        t.a = t.a + 1
        s.b += 1
        n += 1
    return s.a, t.a, t.b, s.b


@case((3.0,), (-3.0,))
def closure_reads_branch_value(x):
    y = 1.0

    def g():
        return y * 10

    z = 0.0
    if x > 0:
        y = x
        z = g()
    return z, g()


@case((3,), (0,))
def closure_in_loop(n):
    t = 1

    def g():
        return t * 2

    for _ in range(n):
        t = t + 1
        t = g()
    return t, g()


@case((3,), (0,))
def closure_in_condition(n):
    t = 0
    more = lambda: t < n
    while more():
        t = t + 1
    return t


@case((3.0,), (-3.0,))
def two_lambdas(x):
    k = 1.0
    grow, shrink = (lambda v: v * k), (lambda v: v - k)
    if x > 0:
        k = 2.0
        y = grow(x)
    else:
        k = 3.0
        y = shrink(x)
    return y, k, grow(1.0)


@case((3.0,), (-3.0,))
def nested_blocks(x):
    y = 0.0

    def g():
        return y + 1

    i = 0
    while i < 3 and x > 0:
        if i == 1:
            y = g() * 2
            y = g()
        i += 1
        y = g()
    return y


@case((3.0,), (-3.0,))
def parameter_captured(x, k=2.0):
    g = lambda v: v * k
    if x > 0:
        k = k + 1
        x = g(x)
    return x, k


@case((5,), (2,))
def assert_in_loop_with_capture(n):
    t = 0
    g = lambda: t
    while g() < n:
        t += 1
        assert g() < 100, f"t is {t}"
        t = g() + 0
    return t


@case((3.0,), (-3.0,))
def comp_captures(x):
    y = 1.0
    if x > 0:
        y = 5.0
        z = sum([y * i for i in range(3)])
    else:
        z = sum(y * i for i in range(2))
    return z, y


class K:
    def go(self, x):
        y = 1.0
        h = lambda: y
        if x > 0:
            y = x
            return h()
        return h() - 1


@case((3.0,), (-3.0,))
def in_method(x):
    return K().go(x)


@case((3.0,), (-3.0,))
def inner_nonlocal(x):
    n = 0.0

    def bump():
        nonlocal n
        n = n + 1

    if x > 0:
        bump()
        bump()
    return n


@case((3.0,), (-3.0,))
def inner_nonlocal_stored(x):
    n = 0.0

    def bump():
        nonlocal n
        n = n + 1

    if x > 0:
        n = n + 10
        bump()
    return n


@case((3,), (0,))
def inner_nonlocal_loop(k):
    n = 0

    def bump():
        nonlocal n
        n += 2

    for _ in range(k):
        bump()
    return n


@case((3.0,), (-3.0,))
def grad_inside(x):
    w = 2.0

    def loss(v):
        return (v * w) ** 2

    if x > 0:
        w = 3.0
        return bv.grad(loss)(x)
    return loss(x)


@case((3.0,), (-3.0,))
def scan_inside(x):
    s = 1.0

    def body(c, r):
        return c + r * s, r

    if x > 0:
        s = 2.0
    return lax.scan(body, x, bnp.ones(3))[0]


@case((3.0,), (-3.0,))
def recursion_depth(x, n=3):
    def go(v, k):
        if k == 0:
            return v
        if v > 0:
            return go(v * 2, k - 1)
        return go(v - 1, k - 1)

    return go(x, n)


@case((3.0,), (-3.0,))
def two_functions_share(x):
    a = 0.0

    def put(v):
        nonlocal a
        a = v

    def get():
        return a

    put(1.0)
    if x > 0:
        put(x)
    return get()


@pytest.mark.parametrize("fun,samples", case, ids=[f.__name__ for f, _ in case])
def test_compiled_gives_what_python_gives(fun, samples):
    check(fun, samples)


def test_rows_and_gradients():
    def f(x):
        state = {"sum": 0.0, "n": 0}
        while state["n"] < 3:
            if x > 0:
                state["sum"] += x * x
            state["n"] += 1
        return state["sum"]

    xs = bnp.array([2.0, -1.0])
    assert bv.jit(bv.vmap(f))(xs).tolist() == [12.0, 0.0]

    def g(x):
        state = {"y": x}
        if x > 0:
            state["y"] = state["y"] ** 3
        return state["y"]

    assert bv.jit(bv.vmap(bv.grad(g)))(xs).tolist() == [12.0, 1.0]


def refuse_append(x):
    seen = []
    if x > 0:
        seen.append(x)
    return x


def refuse_append_in_loop(x):
    seen = []
    while x > 0:
        seen.append(x)
        x = x - 1
    return x


def refuse_new_key(x):
    seen = {}
    if x > 0:
        seen["x"] = x
    return x


def refuse_deletion(x):
    seen = {"x": x}
    if x > 0:
        del seen["x"]
    return x


def refuse_set(x):
    seen = set()
    if x > 0:
        seen.add(1)
    return x


@pytest.mark.parametrize(
    "f", [refuse_append, refuse_append_in_loop, refuse_new_key, refuse_deletion, refuse_set]
)
def test_what_decides_how_many_entries_there_are(f):
    with pytest.raises(TypeError, match=rf"(?s)seen, a .* is changed in the `.*{HERE}.*lax.scan"):
        bv.jit(f)(1.0)


def test_an_entry_of_two_types():
    @bv.jit
    def f(x):
        state = {"x": x}
        if x > 0:
            state["x"] = bnp.ones(3)
        return state["x"]

    with pytest.raises(TypeError, match=r"(?s)state\['x'\].* is float32\[3\].*float32\[\]"):
        f(1.0)


def test_objects_are_as_they_were_after_an_error():
    kept = {"x": 1.0}

    @bv.jit
    def f(x):
        if x > 0:
            kept["x"] = x
            kept["y"] = x
        return x

    with pytest.raises(TypeError, match="kept, a dict"):
        f(1.0)
    assert kept == {"x": 1.0}
