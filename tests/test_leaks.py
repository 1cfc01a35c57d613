"""A traced value that is stored outside of its function is reported when the trace ends."""

import gc
import warnings

import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import lax, nn, optim, random

STORE = []


def to_list(x):
    STORE.append(x * 2)


def to_dict(x, kept={}):  # noqa: B006 (that is the point)
    kept["x"] = x + 1


class Holder:
    pass


HOLDER = Holder()


def to_attribute(x):
    HOLDER.last = x


@pytest.mark.parametrize(
    "store,held",
    [
        (to_list, r"a list \(the global variable STORE of tests.test_leaks\)"),
        (to_dict, "a dict, as 'x',"),
        (to_attribute, r"the attribute last of a Holder \(the global variable HOLDER of .*\)"),
    ],
)
def test_the_holder_and_the_line_are_named(store, held):
    @bv.jit
    def f(x):
        store(x)
        return x + 1

    pattern = rf"(?s)jit of f has ended, and {held} still holds.*float32\[\].*return x, extra"
    with pytest.warns(bv.errors.TracerLeakWarning, match=pattern) as caught:
        f(1.0)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        f(2.0)  # no trace, no report
    STORE.clear()


class Slots:
    __slots__ = ("last",)


SLOTS = Slots()


def to_global(x):
    global KEPT
    KEPT = x * 2


def to_class(x):
    Holder.last = x * 2


def to_module(x):
    gc.kept = x * 2


def to_slot(x):
    SLOTS.last = x * 2


def to_nested(x):
    STORE.append({"inside": (x * 2,)})


def to_generator(x):
    def numbers():
        yield x
        yield x * 2

    made = numbers()
    next(made)
    STORE.append(made)


def to_lambda(x):
    STORE.append(lambda: x)


def to_exception(x):
    try:
        raise ValueError(x * 2)
    except ValueError as e:
        STORE.append(e)


@pytest.mark.parametrize(
    "store,held",
    [
        (to_global, "the global variable KEPT of tests.test_leaks"),
        (to_class, "the attribute last of the class Holder"),
        (to_module, "the global variable kept of gc"),
        (to_slot, "the attribute last of a Slots (the global variable SLOTS of"),
        (to_nested, "a tuple"),
        (to_generator, "the variable x around numbers"),
        (to_lambda, "the variable x around <lambda>"),
        (to_exception, ""),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_all_holders_are_found(store, held):
    def f(x):
        store(x)
        return x + 1

    with pytest.warns(bv.errors.TracerLeakWarning) as caught:
        bv.jit(f)(1.0)
    assert f"has ended, and {held}" in str(caught[0].message)
    STORE.clear()


def test_where_it_was_made_is_named():
    @bv.jit
    def f(x):
        STORE.append(bnp.sin(x))
        return x

    with pytest.warns(bv.errors.TracerLeakWarning, match=r"made at .*test_leaks.py:\d+ \(f\)"):
        f(1.0)
    STORE.clear()


@bv.custom_vjp
def identity(x):
    return x


identity.defvjp(lambda x: (x, None), lambda _, g: (g,))


def flow(x):
    return x if x > 0 else -x


def scanned(x):
    return lax.scan(lambda c, v: (c * v, c), 1.0, bnp.ones(3) * x)[0]


def drawn(x):
    key, sub = random.split(random.key(0))
    return x + random.normal(sub) + nn.softmax(bnp.ones(2) * x).sum()


CLEAN = [
    bv.grad(bnp.sin),
    bv.hessian(lambda x: (x**3).sum()),
    bv.vmap(bv.grad(lambda x: x * bnp.sin(x))),
    bv.grad(scanned),
    lambda x: lax.cond(x.sum() > 0, lambda: x, lambda: -x),
    flow,
    drawn,
    bv.grad(identity),
    bv.remat(lambda x: bnp.sin(x)),
    lambda x: bv.jit(bnp.sin)(x),
    lambda x: bnp.linalg.norm(bnp.ones((2, 2)) * x),
]


@pytest.mark.parametrize("n", range(len(CLEAN)))
def test_clean_functions_leave_nothing(n):
    x = bnp.ones(3) if n in (1, 2) else 1.0
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            bv.jit(CLEAN[n])(x)
    finally:
        gc.enable()


def test_a_training_step_leaves_nothing():
    rngs = nn.Rngs(0)
    model = nn.Sequential(
        nn.Linear(8, 8, rngs=rngs), nn.Dropout(0.1, rngs=rngs), nn.BatchNorm(8, rngs=rngs)
    ).train()
    attention = nn.MultiHeadAttention(2, 8, 8, rngs=rngs, decode=False)
    optimizer = nn.Optimizer(model, optim.adamw(1e-3))

    @bv.jit
    def step(model, optimizer, x):
        loss, grads = bv.value_and_grad(lambda m: (attention(m(x)) ** 2).mean())(model)
        optimizer.update(grads)
        return loss

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(model, optimizer, bnp.ones((2, 3, 8)))
