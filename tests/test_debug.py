"""`bv.debug`: the line that made a NaN, the index out of bounds, the wait for the device."""

import logging
import pathlib
import re
import subprocess
import sys
import threading

import ml_dtypes
import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import lax, nn, optim, random
from bevel.core.aval import aval_of
from bevel.core.interpreter import EAGER, state, to_numpy
from bevel.scipy import special
from bevel.transforms.compile import Program, finite_graph
from bevel.xla import transfers
from tests.marks import marks_of

HERE = pathlib.Path(__file__).name
at = marks_of(__file__)


@pytest.fixture(autouse=True)
def settings_are_restored():
    yield
    assert state.current is EAGER


# -- NaN and infinities ----------------------------------------------------------------------------


def log_twice(x):
    y = bnp.log(x)  # here: log
    return y * 2


def scanned(x):
    def body(c, row):
        c = c - row
        return c, bnp.sqrt(c)  # here: scan

    return lax.scan(body, x, bnp.ones(5))[1].sum()


def nested(x):
    inner = bv.jit(lambda v: bnp.log(v))  # here: nested
    return inner(x) + 1


def looped(x):
    def step(v):
        return bnp.log(v - 1)  # here: looped

    return lax.while_loop(lambda v: v > 0, step, x)


def branched(x):
    return lax.cond(x > 0, lambda v: v, lambda v: bnp.sqrt(v), x)  # here: branched


def counted(x):
    def step(i, v):
        return v / (v - v)  # here: counted

    return lax.fori_loop(0, 3, step, x * 0)


def remat(x):
    return bv.remat(lambda v: bnp.arcsin(v))(x)  # here: remat


@bv.custom_jvp
def custom(x):
    return bnp.log(x)  # here: custom


custom.defjvp(lambda ps, ts: (custom(*ps), ts[0]))


PROGRAMS = {
    "log": (log_twice, -1.0, "log"),
    "scan": (scanned, 3.5, "sqrt"),
    "nested": (nested, -1.0, "log"),
    "looped": (looped, 0.5, "log"),
    "branched": (branched, -2.0, "sqrt"),
    "counted": (counted, 1.0, "div"),
    "remat": (remat, 3.0, "asin"),
    "custom": (custom, -3.0, "log"),
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("how", ["eager", "jit", "vmap", "jit of vmap"])
def test_the_line_that_made_a_nan_is_found(name, how):
    f, x, op = PROGRAMS[name]
    x = bnp.float32(x)
    if "vmap" in how:
        f, x = bv.vmap(f), bnp.stack([x, x])
    f = bv.jit(f) if "jit" in how else f
    with (
        bv.debug.nans(),
        pytest.raises(FloatingPointError, match=rf"(?s)a NaN was made by `{op}` at .*{at(name)}"),
    ):
        f(x)


def through_where(x):
    safe = bnp.where(x > 0, bnp.sqrt(x) * 1.0, 0.0)  # here: where
    return safe.sum()


@pytest.mark.parametrize("wrap", [lambda f: f, bv.jit])
def test_the_gradient_of_a_where_with_an_unused_branch_is_explained(wrap):
    x = bnp.array([0.0, 4.0])
    np.testing.assert_array_equal(bv.grad(through_where)(x), [np.nan, 0.25])
    with bv.debug.nans():
        assert float(wrap(through_where)(x)) == 2.0
        with pytest.raises(FloatingPointError) as e:
            wrap(bv.grad(through_where))(x)
    text = str(e.value)
    assert re.search(at("where"), text) and "0 * inf is NaN" in text
    assert "bnp.where(ok, f(bnp.where(ok, x, 1)), other)" in text
    advised = lambda x: bnp.where(x > 0, bnp.sqrt(bnp.where(x > 0, x, 1)), 0.0).sum()
    with bv.debug.nans():
        np.testing.assert_array_equal(wrap(bv.grad(advised))(x), [0.0, 0.25])


def test_the_backward_pass_is_named_and_operands_are_shown():
    with bv.debug.nans(), pytest.raises(FloatingPointError) as e:
        bv.grad(through_where)(bnp.array([0.0, 4.0]))
    assert "in the backward pass" in str(e.value)
    with bv.debug.nans(), pytest.raises(FloatingPointError) as e:
        bnp.log(bnp.array([1.0, -2.0, 4.0]))
    assert "float32[3] from -2.0 to 4.0" in str(e.value) and "1 NaN" in str(e.value)
    assert "bnp.maximum(x, tiny)" in str(e.value)


def test_a_nan_of_infinities_points_to_them():
    def f(x):
        big = bnp.exp(x)  # here: big
        return bnp.where(big > 0, big, 1) - big

    for wrap in (lambda f: f, bv.jit):
        with bv.debug.nans(), pytest.raises(FloatingPointError, match=r"sub`(?s:.*)debug.infs\(\)"):
            wrap(f)(bnp.float32(200))
        with bv.debug.infs(), pytest.raises(FloatingPointError) as e:
            wrap(f)(bnp.float32(200))
        assert "exp" in str(e.value) and re.search(at("big"), str(e.value))


def test_a_nan_that_nothing_needs_is_not_reported_by_a_program():
    def f(x):
        unused = bnp.where(x > 0, bnp.log(x), 0.0)
        return unused + bnp.sqrt(x - 5)  # here: needed

    assert np.isnan(bv.jit(f)(-1.0))
    with bv.debug.nans():
        assert float(bv.jit(lambda x: bnp.where(x > 0, bnp.log(x), 0.0))(-1.0)) == 0
        with pytest.raises(FloatingPointError, match=at("needed")):
            bv.jit(f)(-1.0)


def test_nans_that_come_in_are_told_from_those_that_are_made():
    with bv.debug.nans():
        with pytest.raises(FloatingPointError, match=r"(?s)came in .*`log_twice`.*nan_to_num"):
            bv.jit(log_twice)(np.nan)
        with pytest.raises(FloatingPointError, match="came in"):
            bnp.array([np.nan, 1.0]) * 2
        assert float(bnp.nanmean(bnp.array([np.nan, 1.0]))) == 1
    assert np.isnan(log_twice(bnp.float32(-1)))


def test_functions_that_give_finite_numbers_make_no_nan_inside():
    x = bnp.array([0.0, 0.5, 3.0])
    clip = optim.clip_by_global_norm(1.0)
    with bv.debug.nans():
        assert np.isnan(bnp.where(x > 1, bnp.nan, x)).sum() == 1
        for f in (bnp.median, bnp.nanmedian, bnp.sinc, special.entr, bnp.linalg.norm, bnp.std):
            assert np.isfinite(f(x)).all()
        assert special.xlogy(x, x)[0] == special.xlog1py(0.0, -1.0) == special.kl_div(0.0, 0.0) == 0
        assert clip.update(x * 0, ())[0].tolist() == [0, 0, 0]
        random.poisson(random.key(0), x * 20)
        random.binomial(random.key(0), 5000, bnp.full(500, 0.3))
        for f in (lambda k: random.gumbel(k, (3,)), bv.jit(lambda k: random.normal(k, (3,)))):
            assert np.isfinite(f(random.key(1))).all()
        with pytest.raises(FloatingPointError, match=f"`weibull_min` at .*{HERE}"):
            random.weibull_min(random.key(0), 1.0, bnp.array([np.nan, 1.0]))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64", "complex64"])
def test_every_inexact_dtype_is_looked_at(dtype):
    x = bnp.zeros(2, dtype)
    for f in (lambda x: x / x, bv.jit(lambda x: (x / x, bnp.arange(3)))):
        with bv.debug.nans(), pytest.raises(FloatingPointError, match="div"):
            f(x)


@pytest.mark.parametrize("wrap", [lambda f: f, bv.jit])
def test_infinities(wrap):
    def f(x):
        masked = bnp.where(x > 0, x, -bnp.inf)
        return masked, bnp.exp(x)  # here: exp

    f = wrap(f)
    with bv.debug.infs():
        assert np.isneginf(f(bnp.float32(-1))[0])  # a constant of the program
        bnp.float32(np.inf) + 1
        with pytest.raises(
            FloatingPointError, match=rf"an infinity was made by `exp`.*{at('exp')}"
        ):
            f(bnp.float32(1000))
        assert np.isnan(wrap(bnp.log)(bnp.float32(-1)))


def test_state_is_not_written_by_a_step_that_failed():
    net = nn.Linear(2, 1, rngs=nn.Rngs(0))
    opt = nn.Optimizer(net, optim.sgd(0.1), wrt=nn.Param)
    before = np.array(net.kernel.value)

    @bv.jit
    def step(net, opt, x):
        grads = bv.grad(lambda n: bnp.log(n(x)).sum())(net)  # here: step
        opt.update(net, grads)
        return net.kernel.value.sum()

    good = bnp.sign(net.kernel.value).reshape(1, 2)
    with bv.debug.nans():
        with pytest.raises(FloatingPointError, match=at("step")):
            step(net, opt, -good * 0)
        np.testing.assert_array_equal(net.kernel.value, before)
        step(net, opt, good)
    after = np.array(net.kernel.value)
    assert (after != before).any()
    step(net, opt, good)
    assert (np.array(net.kernel.value) != after).any()


def test_results_are_the_same_while_watching():
    key = random.key(3)

    def f(x, donated):
        return random.normal(random.clone(key), (3,)) + x, lax.scan(
            lambda c, r: (c + r, c * r), x, donated
        )

    x, rows = bnp.arange(3.0), bnp.ones((4, 3))
    plain = f(x, rows)
    with bv.debug.nans(), bv.debug.infs():
        watched = f(x, rows)
        jitted = bv.jit(f, donate_argnums=1)(x, rows)
    for other in (watched, jitted, bv.debug.checked(bv.jit(f))(x, rows)):
        bv.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), plain, other)
    assert not rows.is_deleted()


def test_callbacks_without_results_run_once(capsys):
    @bv.jit
    def f(x):
        bv.debug.print("x = {}", x)
        return bnp.log(x)

    with bv.debug.nans(), pytest.raises(FloatingPointError):
        f(-1.0)
    bv.effects_barrier()
    assert capsys.readouterr().out.count("x = ") == 1


def test_debug_settings_change_outside_of_traces_only():
    def f(x):
        with bv.debug.nans():
            return x + 1

    with pytest.raises(RuntimeError, match=r"(?s)jit of f.*with bv.debug.nans\(\): bv.jit"):
        bv.jit(f)(1.0)
    assert float(f(1.0)) == 2 and not bv.config.get("debug_nans")
    with pytest.raises(RuntimeError, match="were changed inside jit"):
        bv.jit(lambda x: [bv.config.update("debug_nans", True), x][1])(1.0)
    assert not bv.config.get("debug_nans")
    with bv.debug.nans():
        with bv.debug.nans(False):
            log_twice(bnp.float32(-1))
        with pytest.raises(FloatingPointError):
            log_twice(bnp.float32(-1))


def test_the_setting_holds_in_new_threads_and_blocks_in_their_own():
    seen = {}

    def work(name):
        try:
            seen[name] = float(log_twice(bnp.float32(-1)))
        except FloatingPointError as e:
            seen[name] = e

    def run(name):
        thread = threading.Thread(target=work, args=(name,))
        thread.start()
        thread.join()

    with bv.debug.nans():
        run("block")
    bv.config.update("debug_nans", True)
    try:
        run("process")
        work("here")
    finally:
        bv.config.update("debug_nans", False)
    run("after")
    assert np.isnan(seen["block"]) and np.isnan(seen["after"])
    assert type(seen["process"]) is type(seen["here"]) is FloatingPointError


def test_environment_variables():
    program = (
        "import bevel as bv, bevel.numpy as bnp\n"
        "for f in (lambda: bnp.log(bnp.float32(-1)), lambda: bv.jit(lambda x, i: x[i])(1., 2),\n"
        "          lambda: bv.jit(lambda x, i: x[i])(bnp.arange(3), bnp.int32(7))):\n"
        "    try: print(f())\n"
        "    except (FloatingPointError, IndexError, RuntimeError) as e: print(type(e).__name__)\n"
    )
    env = {
        "BEVEL_DEBUG_NANS": "1",
        "BEVEL_DEBUG_BOUNDS": "1",
        "BEVEL_TRANSFER_GUARD": "disallow",
        "PYTHONPATH": str(pathlib.Path(bv.__file__).parent.parent),
    }
    out = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60
    )
    assert out.stdout.split() == ["FloatingPointError", "RuntimeError", "IndexError"], out.stderr


def test_lowered_and_compiled_functions_are_watched():
    compiled = bv.jit(log_twice).lower(1.0).compile()
    assert np.isnan(compiled(-1.0))
    with bv.debug.nans(), pytest.raises(FloatingPointError, match=at("log")):
        compiled(-1.0)


def test_a_program_finds_out_whether_results_are_finite():
    """What runs on an accelerator."""
    good, small = np.ones((2, 3), np.float32), np.ones((), ml_dtypes.bfloat16)
    graph = finite_graph(tuple(map(aval_of, (good, small))))
    for bad in (1, np.nan, np.inf, -np.inf):
        values = [np.where(np.eye(2, 3) > 0, bad, good).astype(np.float32), small]
        (found,) = Program(graph)(values)
        assert to_numpy(found) == np.isfinite(bad)


# -- bounds ----------------------------------------------------------------------------------------


def summed(x, i):
    def step(k, total):
        return total + x[k + i]  # here: summed

    return lax.fori_loop(0, 2, step, 0.0)


BOUNDS = {
    "scalar": (lambda x, i: x[i], 7, "index 7 .*axis 0 with size 3"),
    "negative": (lambda x, i: x[i], -4, "index -4 .*axis 0 with size 3"),
    "array": (lambda x, i: x[bnp.stack([i, i * 0])], 3, "index 3 "),
    "set": (lambda x, i: x.at[i].set(1), 3, "index 3 "),
    "add": (lambda x, i: x.at[bnp.stack([i, i])].add(1), 5, r"index 5 .*\(2 of them"),
    "slice": (lambda x, i: lax.dynamic_slice(x, (i,), (2,)), 2, "a slice of 2 .* at 2 "),
    "update": (lambda x, i: lax.dynamic_update_slice(x, x[:2], (i,)), 2, "slice of 2 .* at 2 "),
    "vmap": (lambda x, i: bv.vmap(lambda k: x[k])(bnp.stack([i, i * 0])), 4, "index 4 "),
    "grad": (lambda x, i: bv.grad(lambda v: v[i] ** 2)(x), 4, "index 4 "),
    "loop": (summed, 2, "index 3 "),
    "take": (lambda x, i: bnp.take(x, i), 9, "index 9 "),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_out_of_bounds_is_found_in_compiled_code(name):
    f, bad, message = BOUNDS[name]
    x = bnp.array([1.0, 2.0, 3.0])
    jitted = bv.jit(f)
    good = bnp.int32(0 if name != "negative" else -3)
    checked = bv.debug.checked(jitted)
    bv.tree.map(np.testing.assert_allclose, checked(x, good), jitted(x, good))
    with pytest.raises(IndexError, match=rf"(?s){message}.*{HERE}:\d+ "):
        checked(x, bnp.int32(bad))
    jitted(x, bnp.int32(bad))  # not outside


def test_the_line_of_a_wrong_index_in_a_loop():
    with pytest.raises(IndexError, match=at("summed")):
        bv.debug.checked(summed)(bnp.arange(3.0), 2)


@pytest.mark.parametrize("dtype", ["int32", "uint8", "int64"])
def test_integer_division_by_zero(dtype):
    x, zero = bnp.arange(1, 4).astype(dtype), bnp.array([1, 0, 1], dtype)
    for f in (lambda x, y: x // y, lambda x, y: x % y, lax.div):
        checked = bv.debug.checked(bv.jit(f))
        np.testing.assert_array_equal(checked(x, x), f(x, x))
        with pytest.raises(ZeroDivisionError, match=rf"{dtype} .*\(1 of them\).*{HERE}"):
            checked(x, zero)
    assert np.isinf(bv.debug.checked(bv.jit(lambda x: x / 0))(1.0))


def test_checked_goes_around_transforms():
    f = bv.debug.checked(lambda x: x[0])
    with pytest.raises(RuntimeError, match=r"(?s)checked\(.*jit of .*checked\(bv.jit\(f\)\)"):
        bv.jit(lambda x: f(x))(bnp.ones(2))
    assert f.__name__ == "<lambda>"


def test_check_raises_with_its_line():
    def f(x):
        bv.check(x > 0, "got {x} and {}", x * 2, x=x)  # here: check
        return x + 1

    wraps = (lambda f: f, bv.jit, bv.grad, lambda f: bv.jit(bv.grad(f)), bv.debug.checked)
    for wrap in wraps:
        assert float(wrap(f)(2.0)) in (3, 1)
        with pytest.raises(bv.errors.CheckError, match=rf"got -2.0 and -4.0, at .*{at('check')}"):
            float(wrap(f)(-2.0))
            bv.effects_barrier()
    rows = bv.jit(bv.vmap(f))
    assert rows(bnp.array([1.0, 2.0])).tolist() == [2, 3]
    with pytest.raises(ValueError, match="got -1.0"):
        rows(bnp.array([1.0, -1.0])).tolist()
        bv.effects_barrier()
    with pytest.raises(ValueError, match=r"check: the format string '\{y\}'"):
        bv.check(True, "{y}", x=1)
    with pytest.raises(bv.errors.CheckError):
        bv.check(bnp.array([True, False]), "some")


def test_a_program_whose_operations_differ_is_told_apart():
    given = iter([np.nan, 1.0])
    shape = bv.ShapeDtypeStruct((), "float32")
    f = bv.jit(lambda: bv.pure_callback(lambda: np.float32(next(given)), shape))
    with bv.debug.nans(), pytest.raises(FloatingPointError, match="op by op it does not"):
        f()


# -- op by op --------------------------------------------------------------------------------------


def test_eager_runs_everything_as_plain_python():
    seen = []

    @bv.jit
    def f(x):
        def body(c, r):
            seen.append(float(c))
            return c + r, bv.jit(lambda v: (seen.append(v.tolist()), v * 2)[1])(r)

        return lax.scan(body, x, bnp.arange(2.0))

    with pytest.raises(bv.errors.TracerConversionError):
        f(bnp.float32(1))
    seen.clear()
    carry, rows = bv.debug.eager(f)(bnp.float32(1))
    assert seen == [1.0, 0.0, 1.0, 1.0] and float(carry) == 2 and rows.tolist() == [0.0, 2.0]
    with pytest.raises(RuntimeError, match="eager"):
        bv.jit(lambda x: bv.debug.eager(f)(x))(1.0)


# -- waits and transfers ---------------------------------------------------------------------------


def test_each_wait_is_recorded_with_its_line():
    f = bv.jit(lambda x: x * 2)
    ways = [
        float,
        int,
        bool,
        complex,
        np.asarray,
        repr,
        str,
        "{}".format,
        np.mean,
        bv.device_get,
        bv.block_until_ready,
        lambda y: y.item(),
        lambda y: y.tolist(),
        lambda y: y.block_until_ready(),
        lambda y: [1][y.astype(int) * 0],
    ]
    x = bnp.ones(())
    for way in ways:
        y = f(x)
        with bv.debug.host_syncs() as syncs:
            way(y)
        assert len(syncs) == 1 and HERE in syncs[0].where, way
        assert syncs[0].seconds >= 0 and HERE in repr(syncs[0])
    y = f(x)
    with bv.debug.host_syncs() as syncs:
        float(y)
        float(y)  # read already
        f(f(y))
        with bv.debug.host_syncs() as inner:
            float(f(y))
    assert [s.what for s in syncs] == ["float(x)", "float(x)"] and len(inner) == 1
    assert str(syncs[0].aval) == "float32[]"
    float(f(x))
    assert len(syncs) == 2


def test_host_syncs_are_of_this_thread():
    y = bv.jit(lambda x: x * 2)(1.0)
    with bv.debug.host_syncs() as syncs:
        thread = threading.Thread(target=lambda: float(y))
        thread.start()
        thread.join()
    assert syncs == []


def test_transfer_guard():
    f = bv.jit(lambda x, **kw: x * 2)
    x = bnp.ones(2)
    with bv.transfer_guard("disallow"):
        y = f(f(x))
        np.testing.assert_array_equal(bv.device_get(y), [4, 4])
        z = f(bv.device_put(np.ones(2, np.float32)))
        for wrong in (np.ones(2), 1.0, 2):
            with pytest.raises(RuntimeError, match=rf"(?s)host-to-device.*{HERE}.*device_put"):
                f(wrong)
            with pytest.raises(RuntimeError, match="host-to-device"):
                f(x, k=wrong)
        with pytest.raises(RuntimeError, match=rf"(?s)float32\[2\] by print.*{HERE}.*device_get"):
            print(z)
        with bv.transfer_guard("allow"):
            np.asarray(f(np.ones(2)))
        with bv.transfer_guard_device_to_host("allow"):
            z.tolist()
            with pytest.raises(RuntimeError, match="host-to-device"):
                f(1.0)
    with bv.transfer_guard_host_to_device("disallow"):
        float(f(x)[0])
        with pytest.raises(RuntimeError, match="transfer_guard_host_to_device"):
            f(1.0)
    with bv.transfer_guard_device_to_host("disallow_explicit"):
        with pytest.raises(RuntimeError, match="explicit device-to-host"):
            bv.device_get(f(1.0))
    with bv.transfer_guard_device_to_device("disallow"):
        float(f(1.0))
    with pytest.raises(ValueError, match="disallow"):
        bv.transfer_guard("forbid")
    np.asarray(f(np.ones(2)))


def test_transfer_guard_logs(caplog):
    f = bv.jit(lambda x: x * 2)
    with caplog.at_level(logging.WARNING, "bevel.transfers"), bv.transfer_guard("log"):
        float(f(1.0))
    assert {"host-to-device", "device-to-host"} <= set(
        re.findall(r"implicit (\S+) transfer", caplog.text)
    )
    assert HERE in caplog.text


def test_nothing_is_left_switched_on():
    assert not transfers.on and state.current is EAGER


def test_a_jitted_function_of_the_library_has_the_line_of_its_call():
    log = bv.jit(bnp.log)
    log(1.0)
    outer = bv.jit(lambda x: x * log(x))  # here: outer_log
    outer(1.0)
    with bv.debug.nans():
        with pytest.raises(FloatingPointError, match=rf"`log` at .*{at('own_log')}"):
            log(-1.0)  # here: own_log
        with pytest.raises(FloatingPointError, match=rf"`log` at .*{at('outer_log')}"):
            outer(-1.0)
