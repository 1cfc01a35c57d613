"""Several threads at once: traces, caches, state, settings, callbacks and the CPU's threads."""

import os
import subprocess
import sys
import textwrap
import threading
import time
import warnings

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import lax, nn, optim, random
from bevel.core import machine
from bevel.core.errors import KeyReuseWarning

THREADS = 8


def together(*works, seconds=60):
    """Run functions in threads that begin at once and change places all the time; their results."""
    results = [None] * len(works)
    errors = []
    barrier = threading.Barrier(len(works))

    def run(i, work):
        barrier.wait()
        try:
            results[i] = work()
        except BaseException as e:
            errors.append(e)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [
            threading.Thread(target=run, args=pair, daemon=True) for pair in enumerate(works)
        ]
        for t in threads:
            t.start()
        end = time.monotonic() + seconds
        for t in threads:
            t.join(max(0, end - time.monotonic()))
        assert not any(t.is_alive() for t in threads), "threads hang"
    finally:
        sys.setswitchinterval(before)
    if errors:
        raise errors[0]
    return results


def run_alone(script, seconds=90, **environment):
    """Run a program in a process of its own with a time limit; what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=seconds,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def mlp():
    return nn.Sequential(
        nn.Linear(4, 8, rngs=nn.Rngs(0)), nn.tanh, nn.Linear(8, 1, rngs=nn.Rngs(1))
    )


X = np.linspace(-1, 1, 32, dtype=np.float32).reshape(8, 4)


# -- traces and caches -----------------------------------------------------------------------------


def test_one_function_traced_by_all_at_once_counts_as_one_trace():
    for _ in range(20):
        f = bv.jit(lambda x: bnp.tanh(x @ x.T).sum(), max_traces=1)
        want = np.tanh(X @ X.T).sum()
        got = together(*[lambda f=f: float(f(X))] * THREADS)
        np.testing.assert_allclose(got, want, rtol=1e-5)
        assert f._cache_size() == 1


def test_a_function_with_an_if_converted_by_all_at_once():
    for i in range(10):

        def f(x):
            if x > 0:
                return x + i  # noqa: B023 (called in this step)
            return x - i  # noqa: B023

        f = bv.jit(f)
        assert together(*[lambda f=f: float(f(1.0))] * THREADS) == [1.0 + i] * THREADS


def test_one_model_traced_by_all_at_once():
    model = mlp()
    want = np.asarray(model(X))
    for _ in range(5):
        works = []
        for i in range(THREADS):
            predict = bv.jit(lambda m, x, i=i: m(x) + i)
            gradient = bv.grad(lambda m, x: (m(x) ** 2).mean())
            works.append(lambda p=predict, i=i: np.asarray(p(model, X)) - i)
            works.append(lambda g=gradient: g(model, X) and np.asarray(model(X)))
        for got in together(*works):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    for cell in bv.api.flat.cells_of(model):
        assert isinstance(np.asarray(cell.value), np.ndarray)


def programs(seed, shared, own):
    """A random composition of transforms, as a function of an array, with what NumPy says.

    `shared` is a layer of all threads and `own` a module of this one; both give what they take.
    """
    draw = np.random.default_rng(seed)
    f, g = lambda x: bnp.sin(x) * 2, lambda x: np.sin(x) * 2
    if draw.integers(2):
        f = bv.vmap(f)
    for kind in draw.integers(0, 7, 4):
        old, ref = f, g
        if kind == 0:
            f = bv.jit(lambda x, old=old: old(x) + x)
            g = lambda x, ref=ref: ref(x) + x
        elif kind == 1:
            both = bv.jit(bv.value_and_grad(lambda y, old=old: old(y).sum()))
            f = lambda x, both=both: both(x)[0] + x
            g = lambda x, ref=ref: ref(x).sum() + x
        elif kind == 2:
            f = lambda x, old=old: lax.scan(lambda c, _: (old(c), None), x, None, length=2)[0]
            g = lambda x, ref=ref: ref(ref(x))
        elif kind == 3:
            f = lambda x, old=old: lax.cond(x.sum() > 1e9, lambda y: y, old, x)
        elif kind == 4:
            f = lambda x, old=old: bv.remat(old)(x) / 2
            g = lambda x, ref=ref: ref(x) / 2
        elif kind == 5:
            f = lambda x, old=old: shared(old(x))
        else:
            f = lambda x, old=old: bv.jit(lambda m, y: m(old(y)))(own, x)
    return f, g


class Same(nn.Module):
    """Gives what it takes, and counts and draws meanwhile."""

    def __init__(self, seed):
        self.calls = nn.Variable(bnp.zeros((), "int32"))
        self.rngs = nn.Rngs(seed)

    def __call__(self, x):
        self.calls.value += 1
        return x + 0 * random.normal(self.rngs(), x.shape)


def test_random_programs_in_all_threads():
    end = time.monotonic() + 4
    shared = nn.Linear(6, 6, rngs=nn.Rngs(0))
    shared.kernel.value = bnp.eye(6)

    def work(seed):
        x, done, own = np.linspace(0, 1, 6, dtype=np.float32), 0, Same(seed)
        with bv.config(key_reuse="error"):
            while time.monotonic() < end or not done:
                f, g = programs(seed := seed + THREADS, shared, own)
                before = int(own.calls.value)
                f(x)
                calls = int(own.calls.value) - before
                for h in (f, bv.jit(f)) if done % 4 == 0 else (f,):
                    np.testing.assert_allclose(h(x), g(x), rtol=1e-4, atol=1e-4)
                    before += calls
                    assert int(own.calls.value) == before + calls
                done += 1
        return done

    done = together(*[lambda i=i: work(i) for i in range(THREADS)])
    assert min(done) > 0 and sum(done) > THREADS


@pytest.mark.parametrize("attempt", range(5))
def test_parts_are_loaded_by_several_threads_at_once(attempt):
    """Without the lock of `core/lazy.py` one attempt in five failed."""
    run_alone("""
        import sys, threading
        sys.setswitchinterval(1e-6)
        import bevel as bv
        works = [
            lambda: bv.numpy.linalg.norm(bv.numpy.ones(3)),
            lambda: bv.nn.Linear(2, 3, rngs=bv.nn.Rngs(0)),
            lambda: bv.random.normal(bv.random.key(0), (2,)),
            lambda: bv.optim.adam(1e-3),
            lambda: bv.lax.scan(lambda c, x: (c + x, c), 0.0, bv.numpy.ones(3)),
            lambda: bv.jit(lambda x: x + 1)(1.0),
            lambda: bv.grad(bv.scipy.special.erf)(1.0),
            lambda: bv.tree.map(lambda x: x, [1]),
            lambda: bv.data.Loader([1, 2], batch_size=1),
            lambda: bv.debug.explain_retraces(),
        ] * 2
        errors, barrier = [], threading.Barrier(len(works))
        def run(work):
            barrier.wait()
            try:
                work()
            except BaseException as e:
                errors.append(e)
        threads = [threading.Thread(target=run, args=(w,)) for w in works]
        [t.start() for t in threads]; [t.join() for t in threads]
        if errors:
            raise errors[0]
    """)


# -- state -----------------------------------------------------------------------------------------


def test_training_different_models_gives_each_what_it_gives_alone():
    def train(i):
        model = mlp()
        optimizer = nn.Optimizer(model, optim.adam(1e-2 * (i + 1)))

        @bv.jit
        def step(model, optimizer, x):
            loss, grads = bv.value_and_grad(lambda m: (m(x) ** 2).mean())(model)
            optimizer.update(grads)
            return loss

        return [float(step(model, optimizer, X)) for _ in range(30)]

    want = [train(i) for i in range(4)]
    np.testing.assert_array_equal(together(*[lambda i=i: train(i) for i in range(4)]), want)


class Counters(nn.Module):
    """Cells of several sizes and dtypes; all count the same steps."""

    def __init__(self):
        self.small = [nn.Variable(bnp.zeros(3)) for _ in range(5)]
        self.large = nn.Variable(bnp.zeros(10_000))
        self.whole = nn.Variable(bnp.zeros((), "int32"))

    def count(self):
        for cell in (*self.small, self.large, self.whole):
            cell.value += 1


def counts(counters):
    cells = (*counters.small, counters.large, counters.whole)
    return {float(v) for c in cells for v in (c.value.min(), c.value.max())}


STEPS = 60


def test_no_step_on_one_model_is_lost():
    counters = Counters()
    step = bv.jit(lambda c: c.count())

    def work():
        for _ in range(STEPS):
            step(counters)

    together(*[work] * THREADS)
    assert counts(counters) == {STEPS * THREADS}


def test_reading_a_model_while_it_is_trained_shows_whole_steps():
    counters, stop = Counters(), []
    step = bv.jit(lambda c: c.count())
    read = bv.jit(lambda c: [v.value.reshape(-1)[0] * 1.0 for v in (*c.small, c.large, c.whole)])

    def train():
        for _ in range(STEPS * 3):
            step(counters)
        stop.append(True)

    def look():
        seen, last = 0, 0
        while not stop or not seen:
            found = {float(v) for v in read(counters)}
            assert len(found) == 1 and min(found) >= last, found
            last, seen = min(found), seen + 1
            assert all(0 <= c <= STEPS * 3 for c in counts(counters))

    together(train, look, look, look)
    assert counts(counters) == {STEPS * 3}


def test_eager_writes_between_compiled_steps_are_not_lost():
    cells = [nn.Variable(bnp.zeros(3)) for _ in range(6)]
    own = nn.Variable(bnp.zeros(3))
    step = bv.jit(lambda *cells: [c.set_value(c.value + 0) for c in cells] and None)
    step(own, *cells)

    def write(cell):
        for i in range(STEPS):
            cell.value = bnp.full(3, i + 1.0)
            assert float(cell.value[0]) == i + 1

    def run():
        for _ in range(STEPS):
            step(own, *cells[:3])

    together(run, run, *[lambda c=c: write(c) for c in cells[3:]])
    assert [float(c.value[0]) for c in cells] == [0, 0, 0, STEPS, STEPS, STEPS]


def test_a_cell_whose_shape_changes_meanwhile():
    cell, stop = nn.Variable(bnp.ones(3)), []

    @bv.jit
    def double(cell):
        cell.value = cell.value * 2
        return cell.value.sum()

    def run():
        try:
            for _ in range(40):
                total = float(double(cell))
                assert total in [n * 2.0**k for n in (3, 4) for k in range(1, 200)], total
        finally:
            stop.append(True)

    def write():
        i = 0
        while len(stop) < 2:
            cell.value = bnp.ones(3 + (i := i + 1) % 2)
            time.sleep(0.0005)

    together(run, run, write)


def test_steps_with_prints_are_not_lost_silently():
    counters, seen = Counters(), []

    @bv.jit
    def step(c):
        c.count()
        bv.io_callback(lambda v: seen.append(float(v)), None, c.whole.value)

    def work():
        lost = 0
        for _ in range(STEPS // 3):
            try:
                step(counters)
            except RuntimeError as e:
                assert "another thread" in str(e), e
                lost += 1
        return STEPS // 3 - lost

    done = sum(together(*[work] * 3))
    bv.effects_barrier()
    assert counts(counters) == {done}


def test_what_a_callback_reads_is_not_kept_for_after_the_step():
    counters = Counters()

    @bv.jit
    def step(c):
        c.count()
        bv.io_callback(lambda v: [float(counters.whole.value)] and None, None, c.whole.value)

    for i in range(3):
        step(counters)
        bv.effects_barrier()
        assert counts(counters) == {i + 1}


def test_random_streams_of_one_model_give_each_thread_other_numbers():
    dropout = nn.Dropout(0.5, rngs=nn.Rngs(dropout=0))
    f = bv.jit(lambda d, x: d(x))
    ones = np.ones(64, np.float32)
    f(dropout, ones)
    masks = together(*[lambda: [np.asarray(f(dropout, ones)).tobytes() for _ in range(20)]] * 4)
    assert len({m for each in masks for m in each}) == 80


def test_a_stream_gives_no_key_twice():
    stream = nn.RngStream(0, tag="dropout")
    draw = lambda: [np.asarray(random.key_data(stream())).tobytes() for _ in range(20)]
    keys = together(*[draw] * THREADS)
    assert len({k for each in keys for k in each}) == 20 * THREADS == int(stream.count)


# -- settings, keys --------------------------------------------------------------------------------


def test_blocks_of_settings_are_of_their_thread():
    shared = bv.config(key_reuse="allow")

    def work(i):
        for _ in range(200):
            with bv.config(key_reuse=("error", "warn")[i % 2], disable_jit=bool(i % 2)):
                with shared:
                    assert bv.config.get("key_reuse") == "allow"
                assert bv.config.get("key_reuse") == ("error", "warn")[i % 2]
                assert bv.config.get("disable_jit") is bool(i % 2)
            assert bv.config.get("key_reuse") == "warn"
            assert bv.config.get("disable_jit") is False

    together(*[lambda i=i: work(i) for i in range(THREADS)])


def test_a_key_drawn_from_by_several_threads_is_reported_to_all_but_one():
    for _ in range(30):
        key = random.key(0)

        def draw(key=key):
            with bv.config(key_reuse="error"):
                try:
                    random.bits(key)
                except bv.errors.KeyReuseError:
                    return 1
            return 0

        assert sum(together(*[draw] * THREADS)) == THREADS - 1


def test_the_cpu_has_the_threads_it_was_given():
    script = """
        import os, time
        import numpy as np
        import bevel as bv, bevel.numpy as bnp
        if {update}:
            bv.config.update("num_threads", {n})
        f = bv.jit(lambda x: bnp.tanh(x @ x) / 1000)
        x = f(bnp.ones((1000, 1000)))
        x.block_until_ready()
        names = [open(f"/proc/self/task/{{t}}/comm").read() for t in os.listdir("/proc/self/task")]
        assert sum("XLAEigen" in name for name in names) == {n}, names
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(5):
            x = f(x)
        x.block_until_ready()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        assert {n} > 1 or cpu < 1.3 * wall, (cpu, wall)
        assert "PJRT_NPROC" not in os.environ
        bv.config.update("num_threads", {n})  # as it is
        try:
            bv.config.update("num_threads", {n} + 1)
        except RuntimeError as e:
            assert "before" in str(e) and "BEVEL_NUM_THREADS" in str(e)
        else:
            raise AssertionError
        assert bv.config.get("num_threads") == {n}
    """
    if not os.path.isdir("/proc/self/task"):
        pytest.skip("the system does not list a process's threads")
    run_alone(textwrap.dedent(script).format(n=1, update=False), BEVEL_NUM_THREADS="1")
    run_alone(textwrap.dedent(script).format(n=3, update=True))


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "many", 10**6])
def test_numbers_of_threads_that_are_none(value):
    with pytest.raises(ValueError, match="num_threads.*whole number"):
        bv.config.update("num_threads", value)


def test_the_number_of_threads_is_not_of_a_block():
    with pytest.raises(ValueError, match=r"(?s)whole process.*config.update\('num_threads', 2\)"):
        bv.config(num_threads=2)


def test_limits_of_containers(tmp_path):
    def write(path, text):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    root = str(tmp_path)
    assert machine.core_limit(root) is None and machine.memory(root) is None
    write("proc/meminfo", "MemTotal: 8192 kB\nMemFree: 100 kB\nMemAvailable: 4096 kB\n")
    assert machine.memory(root) == (8 << 20, 4 << 20)
    write("proc/self/cgroup", "0::/a/b\n")  # version 2
    write("sys/fs/cgroup/a/b/cpu.max", "max 100000\n")
    write("sys/fs/cgroup/a/cpu.max", "150000 100000\n")
    write("sys/fs/cgroup/a/memory.max", "2097152\n")
    write("sys/fs/cgroup/a/b/memory.max", "max\n")
    write("sys/fs/cgroup/a/b/memory.current", "1572864\n")
    write("sys/fs/cgroup/a/b/memory.stat", "anon 1\ninactive_file 524288\n")
    assert machine.core_limit(root) == 1.5 and machine.memory(root) == (2 << 20, 1 << 20)
    write("proc/self/cgroup", "4:memory:/x\n3:cpu,cpuacct:/not/mounted\n")  # version 1
    write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000")
    write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000")
    write("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "9223372036854771712")
    assert machine.core_limit(root) == 0.5 and machine.memory(root) == (8 << 20, 4 << 20)
    write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1")
    assert machine.core_limit(root) is None


# -- callbacks -------------------------------------------------------------------------------------

CALLBACKS = """
import faulthandler
faulthandler.dump_traceback_later(60, exit=True)
import threading
import numpy as np
import bevel as bv, bevel.numpy as bnp
from bevel import lax

SCALAR = bv.ShapeDtypeStruct((), np.float32)
inner = bv.jit(lambda x: bnp.tanh(x @ x.T))

def in_numpy(x):
    return np.float32(x.sum())

def in_eager(x):
    return np.float32(bnp.tanh(bnp.asarray(x)).sum())

def in_program(x):
    return np.float32(np.asarray(inner(bnp.asarray(x))).sum())

def nested(depth):
    if depth == 0:
        return in_program
    g = bv.jit(lambda x: bv.pure_callback(nested(depth - 1), SCALAR, x) + 0 * inner(x).sum())
    return lambda x: np.float32(g(bnp.asarray(x)))

KINDS = [in_numpy, in_eager, in_program]
several = bv.jit(
    lambda x: [bv.pure_callback(c, SCALAR, bnp.tanh(x @ x) * 0 + 1) for c in KINDS * 2]
)
deep = bv.jit(lambda x: bv.pure_callback(nested(3), SCALAR, x))
looped = bv.jit(
    lambda x: lax.scan(
        lambda c, i: (c + bv.pure_callback(in_program, SCALAR, x), None), bnp.float32(0),
        bnp.arange(5),
    )[0]
)
printed = bv.jit(
    lambda x: (
        bv.io_callback(lambda a: in_program(a) and None, None, x, ordered=True),
        bv.debug.print("{}", x[0, 0]),
        bnp.tanh(x),
    )[2]
)
n = 200
x = bnp.ones((n, n))
ones, tanh = float(n * n), n * n * np.tanh(1.0)

def work():
    for _ in range(3):
        y = inner(x)  # not computed yet
        got = [float(v) for v in several(y)]
        np.testing.assert_allclose(got, [ones, tanh, ones] * 2, rtol=1e-5)
        assert float(deep(x)) == ones and float(looped(inner(x))) == 5 * ones
        z = printed(printed(inner(x)))
    z.block_until_ready()
    bv.effects_barrier()

work()
errors = []
def run():
    try:
        work()
    except BaseException as e:
        errors.append(e)
threads = [threading.Thread(target=run) for _ in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
if errors:
    raise errors[0]
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_callbacks_that_call_programs_never_wait_for_ever(threads):
    run_alone(CALLBACKS, BEVEL_NUM_THREADS=str(threads))


def test_what_programs_in_callbacks_may_do():
    donating = bv.jit(lambda a: a * 2, donate_argnums=0)
    model = mlp()
    optimizer = nn.Optimizer(model, optim.adam(1e-2))
    losses, errors = [], []

    @bv.jit
    def step(model, optimizer, x):
        loss, grads = bv.value_and_grad(lambda m: (m(x) ** 2).mean())(model)
        optimizer.update(grads)
        return loss

    def fail(x):
        raise KeyError("inside")

    failing = bv.jit(lambda x: (bv.io_callback(fail, None, x), x + 1)[1])

    def callback(x):
        a = bv.device_put(bnp.asarray(x))
        doubled = donating(a)
        with pytest.raises(bv.errors.DonatedBufferError):
            a.tolist()
        losses.append(float(step(model, optimizer, X)))
        for dtype in ("bfloat16", "bool", "complex64", "float64"):
            y = bv.jit(lambda v: (v, bnp.stack([v, v])))(bnp.asarray([0, 1], dtype))[1]
            assert y.dtype == dtype and y.shape == (2, 2)
        try:
            failing(bnp.float32(1))
            bv.effects_barrier()
        except KeyError as e:
            errors.append(e)
        return np.asarray(doubled)

    f = bv.jit(lambda x: bv.pure_callback(callback, bv.ShapeDtypeStruct((3,), np.float32), x))
    for _ in range(3):
        assert f(bnp.ones(3)).tolist() == [2, 2, 2]
    losses += [float(step(model, optimizer, X)) for _ in range(3)]
    assert (np.diff(losses) < 0).all() and len(losses) == 6 and len(errors) == 3


def test_warnings_are_of_the_right_kind():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        key = random.key(0)
        together(lambda: random.bits(key), lambda: random.bits(key))
    assert [w.category for w in caught] == [KeyReuseWarning]
