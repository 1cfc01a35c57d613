"""Clients, executables, lowering and caches, on hand-written programs."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from bevel.core import config
from bevel.core.aval import Aval
from bevel.core.errors import DonatedBufferError
from bevel.core.graph import Eqn, Graph, Lit, Var
from bevel.xla import bindings, cache, client, lower, memory, types
from tests.xla_programs import F32, I32, FakeOp, f32, in_new_process, program, sample


@pytest.fixture
def folder(tmp_path):
    """An empty compilation cache, and nothing remembered in memory."""
    cache.clear_memory()
    with config.config(compilation_cache_dir=str(tmp_path)):
        yield tmp_path
    cache.clear_memory()


# -- versions and laziness


@pytest.mark.parametrize(
    "version", ["0.10.2", "0.11.0", "0.12.0.1", "0.12.5.dev20260101+selfbuilt"]
)
def test_supported_versions(version):
    assert bindings.check_version(version) >= (0, 10, 2)


@pytest.mark.parametrize("version", ["0.4.38", "0.9.0", "0.10.1", "0.13.0", "1.0"])
def test_other_versions_say_what_to_install(version):
    with pytest.raises(
        ImportError, match=rf"(?s)jaxlib {version}.*pip install 'jaxlib>=0.10.2,<0.13'"
    ):
        bindings.check_version(version)


def test_importing_loads_no_jaxlib():
    code = "import sys, bevel.xla.cache; print([m for m in sys.modules if m.startswith('jax')])"
    assert in_new_process(code) == "[]\n"


def test_only_bindings_imports_jaxlib():
    root = os.path.dirname(types.__file__)
    for name in os.listdir(root):
        if name.endswith(".py") and name != "bindings.py":
            with open(os.path.join(root, name)) as f:
                assert "jaxlib import" not in f.read(), name


@pytest.mark.parametrize("first", ["jax", "bevel.xla.cache"])
def test_lives_beside_jax(first):
    pytest.importorskip("jax")
    code = f"""
    import {first}
    import jax, numpy as np
    from bevel.xla import client
    b = client.put(np.ones(3, np.float32))
    client.devices("cpu")
    assert client.to_numpy(b).sum() == 3 and client.device_of(b).platform == "cpu"
    assert float(jax.jit(lambda x: x.sum())(jax.numpy.ones(3))) == 3
    assert float(jax.numpy.linalg.cholesky(4 * jax.numpy.eye(2))[0, 0]) == 2
    """
    in_new_process(code, JAX_PLATFORMS="cpu")


# -- devices and buffers


def test_devices():
    assert client.devices("cpu")[0] == client.default_device()
    assert client.local_devices()[0].platform == "cpu" and client.is_initialized("cpu")
    with pytest.raises(RuntimeError, match=r"tpu.*cpu"), config.config(platforms="tpu"):
        client.devices()
    with pytest.raises(RuntimeError, match="BEVEL_PLATFORMS"), config.config(platforms="cpu"):
        client.devices("cuda")
    with config.config(default_device="cpu"):
        assert client.default_device().platform == "cpu"


def test_a_missing_gpu_says_what_to_install():
    if bindings.find_cuda_plugin():
        pytest.skip("a CUDA plugin is installed")
    with (
        pytest.raises(RuntimeError, match=r"(?s)cuda.*pip install.*BEVEL_PLATFORMS=cpu"),
        config.config(platforms="cuda"),
    ):
        client.devices()


def test_several_cpu_devices():
    code = """
    import numpy as np
    from tests.xla_programs import *
    a, c = client.devices()[:3:2]
    assert len(client.devices()) == 3
    b = client.put(np.arange(3, dtype=np.float32), c)
    assert client.device_of(b) == c
    moved = client.copy_to(b, a)
    assert client.device_of(moved) == a and client.to_numpy(moved).tolist() == [0, 1, 2]
    with config.config(compilation_cache_dir=""):
        exe = cache.compile_lowered(sample(2.0, 3), [c])
    [out] = exe.run([b])
    assert client.device_of(out) == c and client.to_numpy(out).tolist() == [2, 3, 4]
    """
    in_new_process(code, BEVEL_NUM_CPU_DEVICES="3")


@pytest.mark.parametrize("size", [3, 16, 4096])
def test_put_copies_and_results_are_read_only(size):
    x = np.ones(size, np.float32)
    b = client.put(x)
    x[:] = 5
    y = client.to_numpy(b)
    assert y.sum() == size and not y.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        y[0] = 1
    assert (
        client.aval_of_buffer(b) == Aval((size,), F32)
        and client.is_buffer(b)
        and not client.is_buffer(x)
    )


def test_owned_memory_is_shared_and_kept_alive():
    x = np.arange(10**6, dtype=np.float32)
    b = client.put(x, owned=True)
    del x
    np.testing.assert_array_equal(
        client.to_numpy(b)[::1000], np.arange(0, 10**6, 1000, dtype=np.float32)
    )


@pytest.mark.parametrize("dtype", list(types.DTYPE_NAMES), ids=str)
def test_every_dtype_goes_there_and_back(dtype):
    for shape in ((), (0,), (3, 2)):
        x = np.ones(shape, dtype)
        got = client.to_numpy(client.put(x))
        assert got.dtype == dtype and got.shape == shape and got.tobytes() == x.tobytes()


def test_strided_and_byte_swapped_arrays():
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    for y in (x.T, x[::-1, ::2], x.astype(">f4"), np.broadcast_to(x[0], (5, 4))):
        np.testing.assert_array_equal(client.to_numpy(client.put(y)), y)


def test_use_after_donation_is_explained():
    a = Aval((3,), F32)
    exe = cache.compile_lowered(program(lambda b, x: b.sine(x), [a], [a]))
    b = client.put(f32(3))
    b.delete()
    with pytest.raises(DonatedBufferError, match="argument 0.*donate_argnums"):
        exe.run([b])
    with pytest.raises(DonatedBufferError, match="donated"):
        client.to_numpy(b)


# -- whole programs


def graph_of(n=8):
    x, y, z = (Var(Aval((n,), F32)) for _ in range(3))
    eqns = [
        Eqn(
            FakeOp("mul", lambda b, x, y: b.multiply(x, y)),
            [x, Lit(np.full(n, 2, np.float32))],
            [y],
            {},
            None,
        ),
        Eqn(FakeOp("sin", lambda b, x: b.sine(x)), [y], [z], {}, None),
    ]
    return Graph([x, Var(Aval((5,), I32))], eqns, [z, y])


def test_donated_and_dropped_arguments(folder):
    lowered = lower.lower_module(graph_of(), name="my <function>", donated=(0, 1), kept=(0,))
    assert (
        lowered.in_avals == (Aval((8,), F32),)
        and lowered.donated == (0,)
        and "@my__function_" in lowered.text
    )
    exe = cache.compile_lowered(lowered)
    x = f32(8)
    b = client.put(x)
    z, y = exe.run([b])
    np.testing.assert_allclose(client.to_numpy(z), np.sin(2 * x), rtol=1e-5)
    assert b.is_deleted() and exe.memory_analysis().alias_size_in_bytes == 32
    unmatched = lower.lower_module(graph_of(), donated=(1,))
    assert "jax.buffer_donor" in unmatched.text and "tf.aliasing_output" not in unmatched.text
    kept = client.put(x)
    cache.compile_lowered(unmatched).run([kept, client.put(np.zeros(5, np.int32))])
    assert not kept.is_deleted()


def test_executables_describe_themselves(folder):
    a, o = Aval((8, 8), F32), Aval((8, 8), F32)
    exe = cache.compile_lowered(program(lambda b, x: b.dot_general(x, x, ((1,), (0,))), [a], [o]))
    assert exe.cost_analysis()["flops"] >= 2 * 8**3 * 0.9
    memory = exe.memory_analysis()
    assert memory.output_size_in_bytes == 256 and memory.argument_size_in_bytes == 256
    assert (
        "HloModule" in exe.text()
        and "stablehlo.dot_general" in exe.stablehlo()
        and "output_size" in repr(memory)
    )
    again = client.load(
        "cpu",
        exe.serialize(),
        exe.stablehlo(),
        [o],
        exe.devices,
        bindings.compile_options(exe.devices[0]),
    )
    x = f32(8, 8)
    np.testing.assert_allclose(
        client.to_numpy(again.run([client.put(x)])[0]), x @ x, rtol=1e-4, atol=1e-5
    )


def residual(depth, size=2048):
    """x += sin(x) . W, repeated, with each x also squared and summed along rows."""
    op = {
        n: FakeOp(n, r)
        for n, r in {
            "add": lambda b, x, y: b.add(x, y),
            "sin": lambda b, x: b.sine(x),
            "dot_general": lambda b, x, y: b.dot_general(x, y, ((1,), (0,))),
            "mul": lambda b, x, y: b.multiply(x, y),
        }.items()
    }
    rows = size // 32
    x, w = Var(Aval((rows, 32), F32)), Var(Aval((32, 32), F32))
    eqns, v = [], x

    def emit(name, *args):
        out = Var(Aval((rows, 32), F32))
        eqns.append(Eqn(op[name], list(args), [out], {}, None))
        return out

    for _ in range(depth):
        v = emit("add", v, emit("dot_general", emit("sin", v), w))
    return Graph([x, w], eqns, [v])


def test_residual_streams_are_cut_on_the_cpu_only(folder):
    graph = residual(4)
    lowered = lower.lower_module(graph)
    assert (
        lowered.text.count("func.call @cut") == 3 and lowered.text.count("func.func private") == 1
    )
    assert "@cut" not in lower.lower_module(graph, platform="cuda").text
    assert "@cut" not in lower.lower_module(residual(4, 512)).text
    exe = cache.compile_lowered(lowered)
    assert "call(" in exe.text()
    x, w = f32(64, 32), f32(32, 32) / 10
    want = x
    for _ in range(4):
        want = want + np.sin(want) @ w
    [got] = exe.run([client.put(x), client.put(w)])
    np.testing.assert_allclose(client.to_numpy(got), want, rtol=1e-4, atol=1e-4)


def test_elementwise_programs_are_not_cut():
    a = Aval((4096,), F32)
    x, y, z, s = Var(a), Var(a), Var(a), Var(Aval((), F32))
    add, mul = (
        FakeOp("add", lambda b, x, y: b.add(x, y)),
        FakeOp("mul", lambda b, x, y: b.multiply(x, y)),
    )
    total = FakeOp("reduce_sum", lambda b, x: b.reduce(x, "add", (0,)))
    graph = Graph(
        [x],
        [
            Eqn(add, [x, x], [y], {}, None),
            Eqn(mul, [y, y], [z], {}, None),
            Eqn(total, [z], [s], {}, None),
        ],
        [s],
    )
    assert lower.wants_cut(graph) == set()


# -- kept memory


def test_kept_memory_has_a_bound():
    if memory.keep(2**28) is None:
        pytest.skip("not glibc")
    code = """
    from tests.xla_programs import *
    exe = cache.compile_lowered(sample(1.0, 10**6))
    x = client.put(np.zeros(10**6, np.float32))
    many = [exe.run([x]) for _ in range(60)]
    client.block_until_ready([r for [r] in many])
    pin = many[-1]
    del many
    assert client._kept.kept() > 150e6, client._kept.kept()
    for _ in range(40):
        client.block_until_ready(exe.run([x]))
    assert client._kept.kept() <= 64e6, client._kept.kept()
    client.release_memory()
    assert client._kept.kept() < 8e6, client._kept.kept()
    """
    env = {"BEVEL_CPU_MEMORY_KEPT_BYTES": "64000000", "BEVEL_COMPILATION_CACHE_DIR": ""}
    in_new_process(code, **env)


def test_keeping_memory_can_be_off():
    assert memory.keep(0) is None
    code = "from tests.xla_programs import *; client.default_device(); assert client._kept is None"
    in_new_process(code, BEVEL_CPU_MEMORY_KEPT_BYTES="0")


# -- caches


def entries(folder):
    return sorted(p for p in folder.iterdir() if p.name.endswith(cache.SUFFIX))


def check(exe, k=1.0):
    np.testing.assert_array_equal(
        client.to_numpy(exe.run([client.put(np.zeros(4, np.float32))])[0]), np.full(4, k)
    )


def test_memory_then_disk(folder):
    first = cache.compile_lowered(sample())
    assert (
        not first.from_cache
        and cache.compile_lowered(sample()) is first
        and len(entries(folder)) == 1
    )
    cache.clear_memory()
    second = cache.compile_lowered(sample())
    assert second.from_cache and second is not first
    check(second)
    assert not cache.compile_lowered(sample(2.0)).from_cache
    assert not cache.compile_lowered(
        sample(), options={"xla_cpu_enable_fast_math": True}
    ).from_cache
    assert len(entries(folder)) == 3


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "foreign"])
def test_damaged_entries_are_rewritten(folder, damage):
    cache.compile_lowered(sample())
    [path] = entries(folder)
    whole = path.read_bytes()
    if damage == "flip":
        path.write_bytes(whole[:-3] + bytes([whole[-3] ^ 255]) + whole[-2:])
    elif damage == "foreign":  # undamaged, but not an executable
        cache.write_entry(path, b"not an executable", 10**6)
    else:
        path.write_bytes(whole[: len(whole) // 2] if damage == "truncate" else b"")
    cache.clear_memory()
    exe = cache.compile_lowered(sample())
    assert not exe.from_cache
    check(exe)
    cache.clear_memory()
    assert cache.compile_lowered(sample()).from_cache


def test_the_least_recently_used_go(tmp_path):
    paths = [tmp_path / f"{i}{cache.SUFFIX}" for i in range(4)]
    for i, p in enumerate(paths[:3]):
        cache.write_entry(p, bytes(1000), 3500)
        os.utime(p, (i, i))
    stale = tmp_path / "x.tmp"
    stale.write_bytes(b"x")
    os.utime(stale, (0, 0))
    assert cache.read_entry(paths[0]) == bytes(1000)  # used: now the newest
    cache.write_entry(paths[3], bytes(1000), 3500)
    assert [p.exists() for p in paths] == [True, False, True, True] and not stale.exists()
    cache.write_entry(tmp_path / f"huge{cache.SUFFIX}", bytes(5000), 3500)
    assert not (tmp_path / f"huge{cache.SUFFIX}").exists()


def test_a_bad_folder_is_no_error(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    cache.clear_memory()
    for bad in (blocked, blocked / "below", "/proc/nowhere"):
        with config.config(compilation_cache_dir=str(bad)):
            check(cache.compile_lowered(sample(float(len(str(bad))))), float(len(str(bad))))


def test_slow_compiles_only(folder):
    with config.config(compilation_cache_min_compile_secs=1000.0):
        cache.compile_lowered(sample())
    assert entries(folder) == []


def test_programs_with_callbacks_are_never_kept(folder):
    a = Aval((4,), F32)

    def make(k):
        return program(
            lambda b, x: b.host_callback(lambda x: x + np.float32(k), [x], [a]), [a], [a]
        )

    one, two = cache.compile_lowered(make(1)), cache.compile_lowered(make(2))
    check(one, 1)
    check(two, 2)
    assert entries(folder) == []
    with pytest.raises(ValueError, match="cannot be saved"):
        one.serialize()


def test_writers_at_once(folder):
    path = folder / f"same{cache.SUFFIX}"
    contents = [bytes([i]) * 200_000 for i in range(4)]
    seen, stop = [], time.monotonic() + 1.0

    def write(data):
        while time.monotonic() < stop:
            cache.write_entry(path, data, 10**9)

    threads = [threading.Thread(target=write, args=(c,)) for c in contents]
    for t in threads:
        t.start()
    while time.monotonic() < stop:
        data = cache.read_entry(path)
        if data is not None:
            seen.append(data)
    for t in threads:
        t.join()
    assert seen and all(s in contents for s in seen) and not list(folder.glob("*.tmp"))


def test_a_second_process_starts_warm(tmp_path):
    code = "from tests.xla_programs import *; print(cache.compile_lowered(sample(3.0)).from_cache)"
    outs = [in_new_process(code, BEVEL_COMPILATION_CACHE_DIR=str(tmp_path)) for _ in range(2)]
    assert outs == ["False\n", "True\n"]


INTERRUPTED = """
import signal, time
import numpy as np
import bevel as bv, bevel.numpy as bnp

def stop(*_):
    raise KeyboardInterrupt

def large(x):
    for i in range(40):
        x = bnp.tanh(x[: 50 - i] @ bnp.ones((50 - i, 50 - i)))[: 49 - i, : 49 - i]
    return x

bv.config.update("compilation_cache_dir", None)
bv.jit(lambda x: x + 1)(bnp.ones(2)).block_until_ready()
lowered = bv.jit(large).lower(bnp.ones((50, 50)))
signal.signal(signal.SIGALRM, stop)
signal.setitimer(signal.ITIMER_REAL, 0.05)
try:
    lowered.compile()
    time.sleep(1)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_an_interrupted_compilation_leaves_a_sound_process():
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout.strip()) == (0, "interrupted"), done.stderr
