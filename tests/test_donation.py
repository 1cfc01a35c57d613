"""Arrays that were given away: what the error says, and what stays readable."""

import gc
import weakref

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import nn, optim
from bevel.core import interpreter
from bevel.core.errors import DonatedBufferError
from bevel.xla import client


def line_of(text):
    """The number of the first line of this file that ends with a mark."""
    with open(__file__) as f:
        return next(i for i, line in enumerate(f, 1) if line.rstrip().endswith(f"# {text}"))


step = bv.jit(lambda state, batch: (state * 2, batch.sum()), donate_argnums=0)
made = bv.jit(lambda x: x + 1)
KINDS = {
    "NumPy's memory": lambda: bnp.ones((100, 100)),
    "a program's result": lambda: made(bnp.ones((100, 100))),
    "a result that was read": lambda: [r := made(bnp.ones((100, 100))), np.asarray(r)][0],
    "a copy on the device": lambda: bv.device_put(np.ones((100, 100), np.float32)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_donated_array_is_gone_and_says_who_took_it(kind):
    x, batch = KINDS[kind](), bnp.ones(100)
    new, _ = step(x, batch)  # first call
    x, old = KINDS[kind](), x
    newer, total = step(x, batch)  # taken
    assert x.is_deleted() and old.is_deleted() and not batch.is_deleted()
    assert float(total) == 100 and float(new[0, 0]) == float(newer[0, 0]) in (2, 4)
    assert x.shape == (100, 100) and x.dtype == np.float32 and x.nbytes == 40_000
    here = f"{__file__}:{line_of('taken')} (test_a_donated_array_is_gone_and_says_who_took_it)"
    uses = [lambda: x + 1, lambda: np.asarray(x), lambda: float(x[0, 0]), lambda: made(x)]
    uses += [lambda: step(x, batch), lambda: bv.device_put(x), lambda: x.block_until_ready()]
    uses += [x.copy, lambda: step(new, x), lambda: bv.grad(lambda x: (x * x).sum())(x)]
    uses += [lambda: x @ x, x.tolist, lambda: bv.ref(x)[0]]
    for use in uses:
        with pytest.raises(DonatedBufferError) as e:
            use()
        text = str(e.value)
        assert text.startswith(("`x`, float32[100,100], was", "a float32[100,100] was")), text
        assert "donated to jit of <lambda> (its argument `state`) at " + here in text
        assert f", and used at {__file__}:" in text and "Write instead: " in text
        new, _ = step(new + 0, batch)
    assert "deleted: it was donated to jit of <lambda>" in repr(x) and here in str(x)
    assert "`x`" in str(pytest.raises(DonatedBufferError, lambda x: x + 1, x).value)


def test_the_name_is_that_of_the_variable_and_of_the_part_of_the_argument():
    @bv.jit
    def plain(x):
        return x

    def train(state, *, extra):
        return state["w"][0] + extra["e"]

    f = bv.jit(train, donate_argnums=0, donate_argnames="extra")
    state = {"w": [bnp.ones(3), made(bnp.zeros(3))]}
    extra = {"e": made(bnp.ones(3))}
    f(state, extra=extra)
    assert all(a.is_deleted() for a in bv.tree.leaves([state, extra]))  # used by it or not
    alias = state["w"][1]
    cases = [
        (lambda: alias + 1, "`alias`", "state['w'][1]"),
        (lambda: plain(state["w"][0]), "`state['w'][0]`", "state['w'][0]"),
        (lambda: plain(state["w"][1]), "`state['w'][1]`", "state['w'][1]"),
        (lambda: plain(extra["e"]), "`extra['e']`", "extra['e']"),
    ]
    for use, name, argument in cases:
        with pytest.raises(DonatedBufferError) as e:
            use()
        text = str(e.value)
        root = argument.split("[")[0]
        assert f"(`{root} = train({root})`), donate a copy (`train(bv.tree.map(bnp.copy, " in text
        assert f"or leave `{root}` out" in text
        assert text.startswith(name) and f"jit of train (its argument `{argument}`)" in text, text


def test_positions_count_from_the_end_and_static_ones_count():
    f = bv.jit(lambda n, x, y: x * n + y, static_argnums=0, donate_argnums=(-2,))
    x, y = bnp.ones(3), bnp.ones(3)
    f(2, x, y)
    assert x.is_deleted() and not y.is_deleted()
    with pytest.raises(DonatedBufferError, match="its argument `x`"):
        x + 1


def test_donation_of_padded_batches_is_refused():
    with pytest.raises(ValueError, match="batch_buckets pads the arguments"):
        bv.jit(bv.vmap(lambda x: x + 1), batch_buckets="pow2", donate_argnums=0)


def test_what_others_hold_stays_theirs():
    x = made(bnp.ones(1000))
    seen, data = np.asarray(x), np.ones(1000, np.float32)
    y = bnp.ones(1000)
    z = y.reshape(1000)
    f = bv.jit(lambda x: x * 5, donate_argnums=0)
    out = f(x), f(data), f(y), f(bnp.asarray(data))
    assert all(float(o[0]) in (5, 10) for o in out)
    np.testing.assert_array_equal(seen, 2)
    np.testing.assert_array_equal(data, 1)
    f(data)
    assert y.is_deleted()
    if not z.is_deleted():  # memory of its own, or NumPy's that both had
        np.testing.assert_array_equal(np.asarray(z), 1)
    keep = made(bnp.ones(4))
    result = bv.jit(lambda a: (a, a + 1), donate_argnums=0)(keep)
    assert result[0].tolist() == [2] * 4 and keep.is_deleted()  # passed through: a new array


def test_donated_twice_or_read_in_the_same_call():
    f = bv.jit(lambda a, b: a + b, donate_argnums=0)
    g = bv.jit(lambda a, b: a + b, donate_argnums=(0, 1))
    for make in (lambda: bnp.ones(50), lambda: made(bnp.ones(50))):
        for _ in range(2):
            x = make()
            with pytest.raises(DonatedBufferError, match=r"argument `a`, and is also another.*\n"):
                f(x, x)
            with pytest.raises(
                DonatedBufferError,
                match="`x`, float32.50., is donated to jit of "
                "<lambda> twice, as its arguments `a` and `b`, at .*test_donation",
            ):
                g(x, x)
            assert not x.is_deleted() and float(f(x, make())[0]) in (2, 4)
    closed = made(bnp.ones(50))
    h = bv.jit(lambda a: a + closed, donate_argnums=0)
    with pytest.raises(DonatedBufferError, match="closes over"):
        h(closed)


def test_a_constant_that_was_donated():
    w = made(bnp.ones(50))
    f = bv.jit(lambda x: x * w)
    f(bnp.ones(50))
    bv.jit(lambda v: v + 1, donate_argnums=0)(w)
    with pytest.raises(DonatedBufferError, match=r"donated to jit of <lambda> \(its argument `v`"):
        f(bnp.ones(50))


def test_delete():
    for make in (lambda: bnp.ones(7), lambda: made(bnp.ones(7))):
        x = make()
        alias = x
        assert not x.is_deleted() and x.delete() is None
        x.delete()  # again: nothing
        assert x.is_deleted() and alias.is_deleted()
        with pytest.raises(DonatedBufferError) as e:
            x + 1
        text = str(e.value)
        assert "`x`, float32[7], was deleted (.delete()) at " in text and "test_delete" in text
        assert "del x" in text and "deleted: it was deleted" in repr(x)
    with pytest.raises(bv.errors.ConcretizationTypeError, match="traced float32.3. has no memory"):
        bv.jit(lambda x: x.delete())(bnp.ones(3))


def test_donation_inside_of_a_trace_or_a_watch_takes_nothing():
    inner = bv.jit(lambda x: x + 1, donate_argnums=0)
    x = bnp.ones(3)
    assert bv.jit(lambda x: inner(x) + x)(x).tolist() == [3] * 3
    assert bv.vmap(inner)(x).tolist() == [2] * 3 and not x.is_deleted()
    with bv.debug.nans():
        inner(x)
    with bv.disable_jit():
        inner(x)
    assert not x.is_deleted()


def test_contents_taken_out_of_a_model_survive_its_steps():
    model = nn.Linear(200, 200, rngs=nn.Rngs(0))  # the kernel has a buffer of its own
    optimizer = nn.Optimizer(model, optim.sgd(0.1), wrt=nn.Param)

    @bv.jit
    def train(model, optimizer, x):
        grads = bv.grad(lambda m: (m(x) ** 2).mean())(model)
        optimizer.update(model, grads)

    x = bnp.ones((2, 200))
    held = []
    for _ in range(4):
        w, b = model.kernel.value, model.bias.value
        held.append((w, b, np.array(w), np.array(b)))
        train(model, optimizer, x)
    for w, b, kept, bias in held:
        np.testing.assert_array_equal(w, kept)
        np.testing.assert_array_equal(b, bias)
    assert not np.array_equal(held[0][2], held[-1][2])


def test_state_that_was_donated_by_hand():
    model = nn.Linear(200, 3, rngs=nn.Rngs(0))
    run = bv.jit(lambda m, x: m(x))
    run(model, bnp.ones((1, 200)))
    bv.jit(lambda w: w * 2, donate_argnums=0)(model.kernel.value)
    for use in (lambda: run(model, bnp.ones((1, 200))), lambda: model(bnp.ones((1, 200)))):
        with pytest.raises(DonatedBufferError, match=r"its argument `w`\) at .*test_donation.py"):
            use()


def test_a_functional_step_takes_the_state_of_a_model_and_gives_it_back():
    model = nn.Linear(200, 3, rngs=nn.Rngs(0))
    x = bnp.ones((1, 200))

    @bv.jit(donate_argnums=0)
    def train(state, x):
        return bv.tree.map(lambda p: p * 0.5, state)

    @bv.jit
    def scale(model):
        model.kernel.value = model.kernel.value * 4

    before = float(model(x).sum())
    for _ in range(3):
        state = nn.state(model, nn.Param)
        new = train(state, x)
        with pytest.raises(DonatedBufferError, match="jit of .*train"):
            model(x)
        nn.update(model, new)
        scale(model)  # the kernel is in a store now
    np.testing.assert_allclose(float(model(x).sum()), before * 2**3, rtol=1e-5)


def test_stateful_calls_take_their_donated_arguments():
    total = bv.ref(bnp.zeros(3))

    @bv.jit(donate_argnums=0)
    def add(x):
        total[...] += x
        return x * 2

    for _ in range(3):
        x = bnp.ones(3)
        add(x)
        assert x.is_deleted()
    assert total[...].tolist() == [3] * 3
    with pytest.raises(DonatedBufferError, match=r"jit of .*add \(its argument `x`\)"):
        x.tolist()
    with pytest.raises(DonatedBufferError, match=r"its argument `x`"):
        add(x)


def test_a_failed_call_takes_nothing_and_the_record_holds_nothing():
    f = bv.jit(lambda x, n: x.reshape(n), donate_argnums=0, static_argnums=1)
    x = bnp.ones(6)
    with pytest.raises(Exception, match="reshape"):
        f(x, (4,))
    assert not x.is_deleted()

    class Mark:
        pass

    def call(x):
        mark = Mark()
        f(x, (2, 3))
        return weakref.ref(mark)

    mark = call(x)
    gc.collect()
    assert x.is_deleted() and mark() is None  # the code and the line are kept, not the frame


def test_calls_without_donation_do_no_more_than_before():
    """What runs a call is chosen when it is made, so the others have nothing to ask."""
    f, g = bv.jit(lambda x: x + 1), bv.jit(lambda x: x + 1, donate_argnums=0)
    for _ in range(2):
        f(bnp.ones(2)), g(bnp.ones(2))
    assert [type(c).__name__ for c in f._direct.values()] == ["Direct"]
    assert [type(c).__name__ for c in g._direct.values()] == ["Donating"]


def test_memory_of_a_donated_numpy_array_is_let_go():
    x = bnp.ones(1000)
    held = weakref.ref(x._v)
    bv.jit(lambda x, y: y, donate_argnums=0)(x, 1.0)  # not even used by the program
    gc.collect()
    assert x.is_deleted() and held() is None


def test_reading_through_the_client_says_the_same():
    x = made(bnp.ones(5))
    raw = x._v.raw
    x.delete()
    for use in (
        lambda: client.to_numpy(raw),
        lambda: client.block_until_ready([raw]),
        lambda: client.copy_to(raw, bv.devices()[0]),
        lambda: interpreter.to_numpy(x._v),
    ):
        with pytest.raises(DonatedBufferError, match="was deleted"):
            use()
