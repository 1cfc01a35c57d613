"""State cells whose contents lie in stores: nobody can tell but by the time it takes."""

import copy
import gc
import pickle
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bevel as bv
import bevel.numpy as bnp
from bevel import nn, optim, random
from bevel.core.ref import Slot

LARGE = 80  # a square of it is more than lies side by side with others


class Net(nn.Module):
    """Cells of many kinds: small and large, other dtypes, a shared one, a key, no array."""

    def __init__(self):
        self.small = [nn.Param(bnp.full((i + 1,), 0.1 * i)) for i in range(4)]
        self.large = nn.Param(bnp.full((LARGE, LARGE), 0.5))
        self.tied = self.small[2]
        self.scalar = nn.Param(bnp.ones(()))
        self.half = nn.Param(bnp.ones(3, "bfloat16"))
        self.count = nn.Variable(0)
        self.seen = nn.BatchStat(bnp.zeros((2, 0)))
        self.key = nn.RngKey(random.key(3))
        self.cache = nn.Cache(None)


def step(net, x):
    """Writes most of the cells, and reads them all."""
    total = sum([c.value.sum() for c in net.small]) + net.large.value[0, 0] + net.scalar.value
    for c in net.small:
        c[...] = c.value * 0.5 + x
    net.large[...] = net.large.value - 0.25 * x
    net.half[...] = net.half.value * 2
    net.count[...] += 1
    net.scalar.value = net.tied.value.sum()
    if net.cache.value is None:
        net.cache.value = bnp.zeros(2)
    net.cache[...] += x
    return total + net.seen.value.sum() + random.uniform(random.clone(net.key.value))


def look(net):
    """Reads only."""
    return {"small": [c.value * 2 for c in net.small], "large": net.large.value.sum()}


def contents(net):
    return [np.asarray(v, np.float64) for v in bv.tree.leaves(nn.state(net, nn.Not(nn.RngKey)))]


def same(a, b):
    for x, y in zip(contents(a), contents(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-2)


def stored(net):
    return [type(c._content) is Slot for c in bv.api.flat.cells_of(net)]


ACTIONS = {
    "step": lambda net, f, g: f(net, 0.5),
    "look": lambda net, f, g: g(net),
    "set small": lambda net, f, g: setattr(net.small[1], "value", bnp.ones(2)),
    "set shared": lambda net, f, g: net.tied.__setitem__(..., 2.0),
    "set large": lambda net, f, g: setattr(net.large, "value", bnp.ones((LARGE, LARGE))),
    "set part": lambda net, f, g: net.small[3].__setitem__(0, -1.0),
    "other dtype": lambda net, f, g: setattr(net.half, "value", bnp.ones(3, "float32")),
    "other shape": lambda net, f, g: setattr(net.scalar, "value", bnp.ones(2).sum(keepdims=True)),
    "no array": lambda net, f, g: setattr(net.cache, "value", None),
    "swap": lambda net, f, g: setattr(net, "large", nn.Param(net.large.value + 1)),
    "read": lambda net, f, g: contents(net),
}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(sorted(ACTIONS)), min_size=3, max_size=9))
def test_any_use_gives_what_plain_python_gives(actions):
    nets = [Net(), Net()]
    kept = []
    f, g = COMPILED
    for name in actions:
        act = ACTIONS[name]
        for net, compiled, reader in zip(nets, (f, step), (g, look), strict=True):
            act(net, compiled, reader)
            compiled(net, 0.25)
        same(*nets)
        kept.append((nets[0].large.value, np.array(nets[0].large.value)))
    for array, known in kept:  # what was read stays what it was
        np.testing.assert_array_equal(np.asarray(array), known)


COMPILED = (bv.jit(step), bv.jit(look))


def test_contents_move_into_few_buffers():
    net = Net()
    f = bv.jit(lambda net, x: step(net, x))
    f(net, 1.0)
    f(net, 1.0)
    assert sum(stored(net)) >= 8
    bound = next(iter(f._direct.values()))
    assert len(bound.buffers) <= 6  # by kind and dtype
    assert len(f._traces) == 2  # without and with an array in the cache


def test_no_new_trace_for_writes_from_outside():
    net, traces = Net(), []
    net.cache.value = bnp.zeros(2)

    @bv.jit
    def f(net, x):
        traces.append(1)
        return step(net, x)

    for i in range(4):
        net.small[1].value = bnp.full(2, float(i))
        net.large[0, 0] = float(i)
        f(net, np.float32(i))
    assert len(traces) == 1
    np.testing.assert_allclose(np.asarray(net.small[1].value), [4.5, 4.5])


def test_read_arrays_outlive_the_next_step():
    net = Net()
    f = bv.jit(step)
    f(net, 1.0)
    before = [net.large.value, net.small[2].value]
    host = np.asarray(net.large.value)
    known = [np.array(b) for b in before]
    for _ in range(3):
        f(net, 1.0)
    for b, k in zip(before, known, strict=True):
        np.testing.assert_array_equal(np.asarray(b), k)
    np.testing.assert_array_equal(host, known[0])
    assert float(net.large.value[0, 0]) != known[0][0, 0]


def test_copies_are_independent():
    net = Net()
    f = bv.jit(step)
    f(net, 1.0)
    graph, state = nn.split(net)
    others = [copy.deepcopy(net), nn.merge(graph, state), pickle.loads(pickle.dumps(net))]
    known = contents(net)
    f(net, 1.0)
    for other in others:
        for a, b in zip(contents(other), known, strict=True):
            np.testing.assert_array_equal(a, b)
        f(other, 1.0)
        same(net, other)


def test_two_functions_share_cells():
    model = nn.Linear(3, 2, rngs=nn.Rngs(0))
    optimizer = nn.Optimizer(model, optim.adam(0.1))
    x = bnp.ones((4, 3))
    evaluate = bv.jit(lambda m: (m(x) ** 2).sum())
    first = float(evaluate(model))  # compiled before the cells move, and goes on as it is
    traces = []

    @bv.jit
    def train(model, optimizer):
        traces.append(1)
        grads = bv.grad(lambda m: (m(x) ** 2).sum())(model)
        optimizer.update(grads)

    @bv.jit
    def shrink(model):
        model.kernel[...] *= 0.5

    later = bv.jit(lambda m: (m(x) ** 2).sum())
    values = [first]
    for _ in range(3):
        train(model, optimizer)
        shrink(model)
        plain = float((model(x) ** 2).sum())
        np.testing.assert_allclose([float(evaluate(model)), float(later(model))], plain, rtol=1e-5)
        values.append(plain)
    assert values[-1] < values[0]
    assert len(traces) == 1
    assert evaluate._cache_size() == later._cache_size() == 1


def masked_adamw():
    return optim.chain(
        optim.clip_by_global_norm(0.5),
        optim.adamw(
            optim.cosine_decay_schedule(0.1, 10),
            mask=lambda params: bv.tree.map(lambda p: p.ndim > 1, params),
        ),
    )


@pytest.mark.parametrize(
    "make", [lambda: optim.sgd(0.1, momentum=0.9), lambda: optim.adam(0.1), masked_adamw]
)
def test_updates_side_by_side_are_those_of_each_parameter(make):
    def start():
        rngs = nn.Rngs(0)
        layers = [nn.Linear(i, i + 1, rngs=rngs) for i in range(1, 8)]
        model = nn.Sequential(*layers, nn.Linear(8, LARGE, rngs=rngs))
        return model, nn.Optimizer(model, make())

    def step(model, optimizer, x):
        loss, grads = bv.value_and_grad(lambda m: (bnp.tanh(m(x)) ** 2).mean())(model)
        optimizer.update(grads)
        return loss

    x = bnp.ones((2, 1))
    ours, plain = start(), start()
    f = bv.jit(step)
    for _ in range(4):
        np.testing.assert_allclose(float(f(*ours, x)), float(step(*plain, x)), rtol=1e-4)
    for a, b in zip(*[bv.tree.leaves(nn.state(s)) for s in (ours, plain)], strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-3, atol=1e-6)
    lowered = f.lower(*start(), x)
    shapes = [v.aval.shape for e in lowered._program.graph.eqns for v in e.outputs]
    single = sum(s == (7, 8) for s in shapes)  # 25 and more if each parameter were updated alone
    assert single <= 12, lowered.as_text("bevel")


def test_state_is_donated():
    net = Net()
    net.cache.value = bnp.zeros(2)
    memory = bv.jit(step).lower(net, 1.0).compile().memory_analysis()
    assert memory.alias_size_in_bytes >= LARGE * LARGE * 4


def test_dead_objects_leave_nothing_behind():
    f = bv.jit(step)
    net = Net()
    f(net, 1.0)
    f(net, 1.0)
    reference, cell = weakref.ref(net), weakref.ref(net.large)
    assert f._direct
    del net
    gc.collect()
    assert reference() is None and cell() is None and not f._direct


def test_a_model_outlives_its_optimizer_without_the_moments():
    model = nn.Linear(LARGE, LARGE, rngs=nn.Rngs(0))
    optimizer = nn.Optimizer(model, optim.adam(0.1))

    @bv.jit
    def train(model, optimizer):
        optimizer.update(bv.grad(lambda m: m(bnp.ones(LARGE)).sum())(model))

    train(model, optimizer)
    store = optimizer.opt_state[0].mu["kernel"]._content.store
    raw = weakref.ref(store)
    assert store is not model.kernel._content.store
    del store, optimizer
    gc.collect()
    assert raw() is None


def test_cells_as_arguments_and_closed_over():
    total, other = bv.ref(bnp.zeros(3)), bv.ref(bnp.zeros(3))

    @bv.jit
    def add(cell, x):
        cell[...] += x
        other[...] += 2 * x

    for i in range(4):
        add(total, bnp.full(3, float(i)))
    np.testing.assert_array_equal(np.asarray(total.value), [6, 6, 6])
    np.testing.assert_array_equal(np.asarray(other.value), [12, 12, 12])
    reference = weakref.ref(total)
    del total
    gc.collect()
    assert reference() is None


def test_a_failing_callback_leaves_the_state():
    net = bv.ref(bnp.zeros(2))

    def check(x):
        if x[0] > 1:
            raise ValueError("too much")

    @bv.jit
    def f(x):
        net[...] += x
        bv.debug.callback(check, net.value)

    f(1.0)
    with pytest.raises(ValueError, match="too much"):
        for _ in range(3):
            f(1.0)
            bv.effects_barrier()
    assert np.asarray(net.value).tolist() == [1, 1]


def test_other_threads_read_whole_states():
    a, b = bv.ref(bnp.zeros(3)), bv.ref(bnp.zeros(3))
    big = bv.ref(bnp.zeros(100_000))

    @bv.jit
    def f():
        a[...] += 1
        b[...] += 1
        big[...] += 1

    f()
    failures = []
    done = threading.Event()

    def reader():
        try:
            while not done.is_set():
                for cell in (a, b, big):
                    x = np.asarray(cell.value)
                    assert (x == x[0]).all()
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=reader) for _ in range(2)]
    for t in threads:
        t.start()
    for _ in range(200):
        f()
    done.set()
    for t in threads:
        t.join()
    assert not failures
    assert float(a.value[0]) == float(big.value[0]) == 201


def test_contents_that_are_no_arrays_are_looked_at():
    mode = bv.ref("train")
    f = bv.jit(lambda x: x * 2 if mode.value == "train" else x)
    assert float(f(1.0)) == 2
    mode.value = "eval"
    assert float(f(1.0)) == 1
    mode.value = "train"
    assert float(f(1.0)) == 2
    assert f._cache_size() == 2


def test_inside_other_transforms():
    net = bv.ref(bnp.arange(3.0))

    @bv.jit
    def f(x):
        net[...] = net.value * x
        return net.value.sum()

    f(2.0)
    assert type(net._content) is Slot
    value, slope = bv.value_and_grad(lambda x: f(x) ** 2)(2.0)
    assert (float(value), float(slope)) == (144.0, 144.0)
    np.testing.assert_array_equal(np.asarray(net.value), [0, 4, 8])
    f(1.0)
    rows = bv.vmap(lambda x: x * net.value)(bnp.ones(2))
    np.testing.assert_array_equal(np.asarray(rows), [[0, 4, 8]] * 2)
    with pytest.raises(ZeroDivisionError), bv.config(disable_jit=True):
        f(1 / 0)
