"""Checkpoints: what goes in comes out, whole or not at all, and damage is seen."""

import json
import os
import subprocess
import sys
import textwrap
from typing import NamedTuple

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import checkpoint, nn, optim, random
from bevel.checkpoint import files
from bevel.core import dtypes

ALL_DTYPES = [d.name for d in dtypes.ALL + dtypes.FLOAT8]
SHAPES = [(), (0,), (3,), (2, 0, 4), (2, 3, 4)]


class Pair(NamedTuple):
    first: object
    second: object


@pytest.mark.parametrize("dtype", ALL_DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_dtype_and_shape_bit_for_bit(tmp_path, dtype, shape):
    dtype = dtypes.as_dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    raw = np.random.default_rng(0).integers(0, 2 if dtype == dtypes.bool_ else 256, size, np.uint8)
    array = raw.view(dtype).reshape(shape)
    checkpoint.save(tmp_path / "a", {"x": array})
    for like in (None, {"x": bv.ShapeDtypeStruct(shape, dtype)}):
        got = checkpoint.restore(tmp_path / "a", like)["x"]
        assert isinstance(got, bv.Array) and got.dtype == dtype and got.shape == shape
        assert np.asarray(got).tobytes() == array.tobytes()


def test_special_numbers_and_strided_arrays(tmp_path):
    x = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45, 3.4e38], np.float32)
    checkpoint.save(tmp_path / "a", [x[::-2], np.arange(12).reshape(3, 4).T, x.astype(">f4")])
    got = checkpoint.restore(tmp_path / "a")
    np.testing.assert_array_equal(got[0], x[::-2])
    assert np.signbit(np.asarray(got[0])[1])
    np.testing.assert_array_equal(got[1], np.arange(12).reshape(3, 4).T)
    assert got[1].dtype == np.int64
    np.testing.assert_array_equal(got[2], x)


def test_structures_and_plain_values(tmp_path):
    tree = {
        "numbers": [1, 2.5, True, 1 + 2j, 10**30, float("inf")],
        "text": ("ü/'\n", None, ()),
        3: nn.State({"a": {0: bnp.ones(2)}}),
        "empty": {},
        "a/b": bnp.zeros(1),
        "a": {"b": bnp.ones(1)},
    }
    checkpoint.save(tmp_path / "a", tree)
    got = checkpoint.restore(tmp_path / "a")
    assert got["numbers"] == tree["numbers"] and [type(x) for x in got["numbers"]] == [
        int, float, bool, complex, int, float,
    ]  # fmt: skip
    assert got["text"] == tree["text"] and got["empty"] == {} and type(got[3]) is nn.State
    np.testing.assert_array_equal(got[3]["a"][0], [1, 1])
    assert float(got["a/b"][0]) == 0 and float(got["a"]["b"][0]) == 1
    np.testing.assert_array_equal(checkpoint.restore(tmp_path / "a", tree)[3]["a"][0], [1, 1])
    checkpoint.save(tmp_path / "leaf", bnp.ones(2))
    np.testing.assert_array_equal(checkpoint.restore(tmp_path / "leaf"), [1, 1])
    checkpoint.save(tmp_path / "pair", Pair(bnp.ones(1), (2,)))
    assert checkpoint.restore(tmp_path / "pair")["second"] == (2,)
    assert checkpoint.restore(tmp_path / "pair", Pair(bnp.zeros(1), (0,))).second == (2,)


def test_random_keys(tmp_path):
    keys = random.split(random.key(3), 4)
    checkpoint.save(tmp_path / "a", {"one": random.key(7), "many": keys})
    for like in (None, {"one": random.key(0), "many": random.split(random.key(0), 4)}):
        got = checkpoint.restore(tmp_path / "a", like)
        np.testing.assert_array_equal(random.key_data(got["many"]), random.key_data(keys))
        np.testing.assert_array_equal(
            random.normal(got["one"], (3,)), random.normal(random.key(7), (3,))
        )
    with pytest.raises(ValueError, match=r"many.*\(4,\).*\(3,\)"):
        checkpoint.restore(tmp_path / "a", {"one": random.key(0), "many": random.split(keys[0], 3)})
    with pytest.raises(ValueError, match="one: the checkpoint has key<"):
        checkpoint.restore(tmp_path / "a", {"one": bnp.zeros(()), "many": keys})


def make():
    rngs = nn.Rngs(params=0, dropout=1)
    model = nn.Sequential(
        nn.Linear(4, 8, rngs=rngs),
        nn.BatchNorm(8, use_running_average=False, rngs=rngs),
        nn.Dropout(0.2, rngs=rngs),
        nn.Linear(8, 2, rngs=rngs),
    )
    return model, nn.Optimizer(model, optim.adamw(optim.linear_schedule(1e-2, 0.0, 20)))


def train(model, optimizer, steps):
    @bv.jit
    def step(model, optimizer):
        x = bnp.ones((8, 4)) * bnp.arange(8.0)[:, None]
        grads = bv.grad(lambda m: (m(x) ** 2).mean())(model)
        optimizer.update(grads)

    for _ in range(steps):
        step(model, optimizer)


def bits(state):
    leaves = bv.tree.leaves(state)
    return [np.asarray(random.key_data(x) if random.is_key(x) else x).tobytes() for x in leaves]


def test_training_resumes_bit_for_bit(tmp_path):
    straight = make()
    train(*straight, 6)
    first = make()
    train(*first, 3)
    checkpoint.save(tmp_path / "a", nn.state(first))
    second = make()
    nn.update(second, checkpoint.restore(tmp_path / "a", nn.state(second)))
    train(*second, 3)
    assert bits(nn.state(second)) == bits(nn.state(straight))


def test_objects_are_refused_with_the_right_code(tmp_path):
    model, _ = make()
    with pytest.raises(TypeError, match=r"model is a Sequential(?s:.*)nn\.state\(model\)"):
        checkpoint.save(tmp_path / "a", {"model": model})
    with pytest.raises(TypeError, match="is a Param"):
        checkpoint.save(tmp_path / "a", model.layers[0].kernel)
    with pytest.raises(TypeError, match="f is a function, which cannot be saved"):
        checkpoint.save(tmp_path / "a", {"f": make})
    with pytest.raises(TypeError, match=r"key \(1, 2\) of a dict"):
        checkpoint.save(tmp_path / "a", {(1, 2): bnp.ones(1)})
    with pytest.raises(TypeError, match="dtype"):
        checkpoint.save(tmp_path / "a", np.array(["text"]))
    assert os.listdir(tmp_path) == []


def test_mismatches_name_the_path(tmp_path):
    path = tmp_path / "a"
    checkpoint.save(path, {"layer": {"w": bnp.ones((4, 4))}, "step": 3, "name": "x"})
    full = {"layer": {"w": bnp.ones((4, 4))}, "step": 0, "name": ""}

    def like(**changes):
        return {**full, **changes}

    with pytest.raises(ValueError, match=r"layer/w(?s:.*)\(4, 4\)(?s:.*)\(4, 5\)"):
        checkpoint.restore(path, like(layer={"w": bnp.ones((4, 5))}))
    with pytest.raises(ValueError, match="layer/w.*float32.*bfloat16"):
        checkpoint.restore(path, like(layer={"w": bnp.ones((4, 4), bnp.bfloat16)}))
    with pytest.raises(KeyError, match="has no layer/bias(?s:.*)besides"):
        checkpoint.restore(path, {"layer": {"bias": bnp.ones(4)}})
    with pytest.raises(ValueError, match=r"also has \['name'\](?s:.*)partial=True"):
        checkpoint.restore(path, {"layer": full["layer"], "step": 0})
    part = checkpoint.restore(path, {"layer": full["layer"]}, partial=True)
    assert list(part) == ["layer"]
    with pytest.raises(ValueError, match="name: the checkpoint has a string"):
        checkpoint.restore(path, like(name=bnp.ones(())))
    with pytest.raises(ValueError, match=r"layer/w.*an array of shape \(4, 4\).*Python int"):
        checkpoint.restore(path, like(layer={"w": 1}))
    assert checkpoint.restore(path, like(step=bnp.int8(0)))["step"].dtype == np.int8
    checkpoint.save(path, like(step=bnp.int32(5)))
    assert checkpoint.restore(path, full)["step"] == 5


def test_missing_and_foreign_places(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        checkpoint.restore(tmp_path / "nothing")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError, match="not overwritten"):
        checkpoint.save(tmp_path / "file", {})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not overwritten"):
        checkpoint.save(tmp_path / "full", {})
    with pytest.raises(FileNotFoundError):
        checkpoint.restore(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    checkpoint.save(tmp_path / "empty", {"x": 1})
    checkpoint.save(tmp_path / "deep" / "er", {"x": 1})
    assert checkpoint.restore(tmp_path / "deep" / "er") == {"x": 1}
    assert sorted(os.listdir(tmp_path)) == ["deep", "empty", "file", "full"]


def test_every_flipped_byte_is_seen(tmp_path):
    path = tmp_path / "a"
    checkpoint.save(path, {"w": bnp.arange(4.0), "k": random.key(0), "s": "text"})
    for file in path.iterdir():
        whole = file.read_bytes()
        for i in range(0, len(whole), 7):
            damaged = bytearray(whole)
            damaged[i] ^= 0x55
            file.write_bytes(damaged)
            try:
                got = checkpoint.restore(path)
            except (checkpoint.CorruptCheckpointError, FileNotFoundError):
                continue
            # A byte of the safetensors header that names nothing we use may change unseen.
            assert file.suffix == ".safetensors" and i < 300, (file.name, i)
            np.testing.assert_array_equal(got["w"], np.arange(4.0))
        file.write_bytes(whole[:-1])
        with pytest.raises(checkpoint.CorruptCheckpointError):
            checkpoint.restore(path)
        file.write_bytes(whole)
    assert checkpoint.restore(path)["s"] == "text"
    next(path.glob("arrays-*")).unlink()
    with pytest.raises(checkpoint.CorruptCheckpointError, match="is missing"):
        checkpoint.restore(path)
    assert issubclass(checkpoint.CorruptCheckpointError, ValueError)


def test_a_later_format_is_refused(tmp_path):
    checkpoint.save(tmp_path / "a", {"x": 1})
    manifest = tmp_path / "a" / files.MANIFEST
    body = json.loads(manifest.read_text().split("\n", 1)[1])
    text = json.dumps({**body, "version": 99})
    manifest.write_text(json.dumps({"sha256": files._digest(text.encode())}) + "\n" + text)
    with pytest.raises(ValueError, match="version 99"):
        checkpoint.restore(tmp_path / "a")


@pytest.mark.parametrize("moment", ["save_file", "_sync", "replace"])
@pytest.mark.parametrize("existing", [True, False])
def test_a_failure_while_saving_leaves_what_was_there(tmp_path, monkeypatch, moment, existing):
    path = tmp_path / "a"
    if existing:
        checkpoint.save(path, {"x": 1, "w": bnp.ones(3)})

    def fail(*args, **kwargs):
        raise OSError("no space left on device")

    if moment == "save_file":
        monkeypatch.setattr("safetensors.numpy.save_file", fail)
    elif moment == "replace":
        monkeypatch.setattr(files.os, "replace", fail)
    else:
        monkeypatch.setattr(files, "_sync", fail)
    with pytest.raises(OSError, match="no space"):
        checkpoint.save(path, {"x": 2, "w": bnp.zeros(3)})
    monkeypatch.undo()
    if existing:
        assert checkpoint.restore(path)["x"] == 1
        checkpoint.save(path, {"x": 3})
        assert checkpoint.restore(path) == {"x": 3}
        assert len(list(path.iterdir())) == 2
    else:
        assert os.listdir(tmp_path) == []


def test_the_manager_keeps_the_newest(tmp_path):
    manager = checkpoint.CheckpointManager(tmp_path / "run", max_to_keep=2, keep_period=4)
    assert manager.latest_step() is None and manager.all_steps() == []
    with pytest.raises(FileNotFoundError, match="it has none"):
        manager.restore()
    for step in range(10):
        manager.save(step, {"step": step})
    manager.wait_until_finished()
    assert manager.all_steps() == [0, 4, 8, 9] and manager.restore()["step"] == 9
    assert manager.restore(4, {"step": 0}) == {"step": 4}
    with pytest.raises(FileNotFoundError, match="no checkpoint of step 5; it has 0, 4, 8, 9"):
        manager.restore(5)
    manager.save(9, {"step": -9})
    assert manager.restore()["step"] == -9
    manager.delete(9)
    assert manager.latest_step() == 8
    manager.save(bnp.int32(12), {"step": 12})
    assert manager.latest_step() == 12
    with pytest.raises(ValueError, match="count from 0"):
        manager.save(-1, {})
    with pytest.raises(ValueError, match="max_to_keep"):
        checkpoint.CheckpointManager(tmp_path, max_to_keep=0)


def test_leftovers_of_dead_processes_are_removed(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f".3.tmp-{dead.pid}-abcd").mkdir()
    (tmp_path / f".4.tmp-{os.getpid()}-abcd").mkdir()
    (tmp_path / "5").mkdir()
    manager = checkpoint.CheckpointManager(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [f".4.tmp-{os.getpid()}-abcd", "5"]
    assert manager.all_steps() == []
    manager.save(5, {"x": 1})
    assert manager.all_steps() == [5]


def test_a_kill_at_any_moment_loses_nothing(tmp_path):
    code = """
    import sys
    import numpy as np
    from bevel import checkpoint
    m = checkpoint.CheckpointManager(sys.argv[1], max_to_keep=2)
    for step in range(100_000):
        tree = {"w": np.full((64, 64), float(step), np.float32), "step": step}
        m.save(step, tree)
        checkpoint.save(sys.argv[2], tree)
        print(step, flush=True)
    """
    for attempt in range(3):
        run, best = tmp_path / f"run{attempt}", tmp_path / f"best{attempt}"
        command = [sys.executable, "-c", textwrap.dedent(code), str(run), str(best)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                if int(line) >= 5 + attempt:
                    break
            process.kill()
        manager = checkpoint.CheckpointManager(run)
        latest = manager.latest_step()
        assert latest >= 5 + attempt
        for got, least in ((manager.restore(), latest), (checkpoint.restore(best), 5 + attempt)):
            assert got["step"] >= least
            np.testing.assert_array_equal(got["w"], np.full((64, 64), got["step"], np.float32))
