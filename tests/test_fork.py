"""Forked children of a process that uses Bevel: they work or say what to do, and never wait for
ever. Each test is a process of its own, with a time limit.
"""

import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")

COMMON = """
import os, sys, threading, time, traceback, warnings
warnings.simplefilter("ignore")  # Python's own about forks of processes with threads
import numpy as np
import bevel as bv, bevel.numpy as bnp
from bevel import lax, nn, optim, random

f = bv.jit(lambda x: bnp.tanh(x @ x) / 9)
g = bv.jit(lambda x: bv.pure_callback(lambda x: x, bv.ShapeDtypeStruct((3,), "float32"), x))
big, small = bnp.ones((500, 500)), bnp.arange(4.0).reshape(2, 2)
model = nn.Sequential(
    nn.Linear(8, 8, rngs=nn.Rngs(0)), nn.tanh, nn.Linear(8, 1, rngs=nn.Rngs(1))
)
optimizer = nn.Optimizer(model, optim.adam(1e-2))

@bv.jit
def step(model, optimizer, x):
    loss, grads = bv.value_and_grad(lambda m: (m(x) ** 2).mean())(model)
    optimizer.update(grads)
    return loss

def train():
    return step(model, optimizer, bnp.ones((4, 8)))

def fork(child, seconds=20):
    pid = os.fork()
    if pid == 0:
        try:
            child()
        except BaseException:
            traceback.print_exc()
            os._exit(3)
        return True  # and ends as a process does
    end = time.time() + seconds
    while time.time() < end:
        if (found := os.waitpid(pid, os.WNOHANG))[0]:
            assert found[1] == 0, f"the child ended with {found[1]}"
            return False
        time.sleep(0.005)
    os.kill(pid, 9)
    raise SystemExit("the child hangs")

def eager_work():
    assert float((small @ small.T).sum()) == 20
    assert float(bv.grad(lambda x: (x**3).sum())(small)[1, 1]) == 27
    assert random.normal(random.key(0), (3,)).shape == (3,)
    x = bnp.ones((1, 1, 64, 64))
    assert lax.conv_general_dilated(x, x[:, :, :3, :3], (1, 1), "SAME").shape == x.shape
    assert bnp.sort(bnp.ones(300_000)).shape == (300_000,)
"""


def run(script, seconds=60, **environment):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(COMMON) + textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=seconds,
        env={**os.environ, "BEVEL_COMPILATION_CACHE_DIR": "", **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_before_a_device_is_used_a_child_has_its_own():
    run("""
        def child():
            eager_work()
            assert f(small).shape == (2, 2) and np.isfinite(float(train()))
            bv.effects_barrier()
        for _ in range(3):
            if fork(child):
                sys.exit()
        f(small)
    """)


CHILD = """
def child():
    eager_work()
    assert np.isfinite(np.asarray(y)).all() and np.isfinite(float(bnp.sum(y)))
    assert bool(bnp.isfinite(model(bnp.ones((4, 8)))).all())
    for use in (
        lambda: f(small), lambda: f(big), lambda: g(bnp.ones(3)), train, bv.devices,
        lambda: bv.device_put(small), lambda: bv.jit(lambda x: x + 1)(small),
    ):
        try:
            use()
        except RuntimeError as e:
            assert "get_context('spawn')" in str(e) and "disable_jit" in str(e), e
        else:
            raise AssertionError(use)
    with bv.disable_jit():
        assert f(small).shape == (2, 2) and np.isfinite(float(train()))
    bv.effects_barrier()
"""


def test_after_a_device_was_used_a_child_reads_arrays_and_says_what_to_do():
    run(
        CHILD
        + """
train()
g(bnp.ones(3))
for _ in range(8):
    y = f(f(big))  # not computed yet
    if fork(child):
        sys.exit()
assert np.isfinite(float(train()))
"""
    )


def test_while_other_threads_compile_run_and_train():
    run(
        CHILD
        + """
stop = False
def repeat(work):
    while not stop:
        work()
def fresh():
    bv.jit(lambda x: bnp.tanh(x) @ x)(big[:50, :50]).block_until_ready()
y = f(big)
threads = [
    threading.Thread(target=repeat, args=(w,), daemon=True)
    for w in (fresh, train, lambda: f(big), lambda: g(bnp.ones(3)))
]
for t in threads:
    t.start()
for _ in range(8):
    y = f(big)
    if fork(child):
        os._exit(0)
    time.sleep(0.01)
stop = True
for t in threads:
    t.join()
"""
    )


def test_a_child_that_ends_as_a_process_does_ends_well():
    # XLA's client would wait for its threads, or crash, when the interpreter ends.
    run("""
        y = f(big)
        for _ in range(3):
            if fork(lambda: None):
                sys.exit()
    """)


def test_a_fork_inside_a_callback():
    run("""
        def callback(x):
            if fork(eager_work):
                os._exit(0)
            return x
        h = bv.jit(
            lambda x: bv.pure_callback(callback, bv.ShapeDtypeStruct((3,), "float32"), x)
        )
        assert h(bnp.ones(3)).tolist() == [1, 1, 1]
    """)


def test_workers_of_multiprocessing(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(
        textwrap.dedent("""
            import multiprocessing
            import warnings
            warnings.simplefilter("ignore")
            import numpy as np
            import bevel as bv, bevel.numpy as bnp
            f = bv.jit(lambda x: bnp.tanh(x @ x))
            def eager(a):
                return float((a ** 2).sum())
            def jitted(a):
                return np.asarray(f(a))
            if __name__ == "__main__":
                y = f(bnp.ones((8, 8)))
                for method in ("fork", "spawn"):
                    with multiprocessing.get_context(method).Pool(1) as pool:
                        assert pool.map(eager, [y] * 3) == [64.0] * 3
                        try:
                            assert pool.map(jitted, [y])[0].shape == (8, 8) and method == "spawn"
                        except RuntimeError as e:
                            assert "get_context('spawn')" in str(e) and method == "fork", e
        """)
    )
    done = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_loader_that_makes_batches_ahead():
    run("""
        from bevel import data
        batches = iter(data.Loader(np.arange(40), batch_size=4, prefetch=2))
        next(batches)
        def child():
            try:
                list(batches)
            except RuntimeError as e:
                assert "prefetch=0" in str(e)
            else:
                raise AssertionError
            assert len(list(data.Loader(np.arange(8), batch_size=4, prefetch=2))) == 2
        if fork(child):
            os._exit(0)
        assert len(list(batches)) == 9
    """)
