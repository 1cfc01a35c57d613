"""`bevel.data`: order, remainders, shards, exact resume, and threads that end."""

import threading
import traceback

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import checkpoint, data, nn, optim, random

N = 23
SOURCE = {"x": np.arange(N * 3, dtype=np.float32).reshape(N, 3), "y": np.arange(N)}


class Squares:
    """A source by index."""

    def __init__(self, n, bad=None):
        self.n, self.bad, self.read = n, bad, []

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        self.read.append(i)
        if i == self.bad:
            raise OSError(f"example {i} cannot be read")
        return {"x": np.full(2, i, np.float32), "square": i * i}


def loader(source=SOURCE, **options):
    return data.Loader(source, **{"batch_size": 4, "key": random.key(3), **options})


def rows(batches):
    return [b["y"].tolist() for b in batches]


def threads():
    return [t for t in threading.enumerate() if t.name.startswith("bevel-data")]


# -- order -----------------------------------------------------------------------------------------


def test_without_a_key_the_order_is_the_source_s():
    found = list(loader(key=None))
    assert rows(found) == [list(range(i, i + 4)) for i in range(0, 20, 4)]
    np.testing.assert_array_equal(found[1]["x"], SOURCE["x"][4:8])
    assert found[0]["x"].dtype == bnp.float32 and found[0]["y"].dtype == bnp.int32


def test_each_epoch_is_a_permutation_of_its_own_and_the_same_in_every_loader():
    first, second = loader(remainder="keep"), loader(remainder="keep", prefetch=3, workers=2)
    epochs = [rows(first) for _ in range(3)]
    assert [rows(second) for _ in range(3)] == epochs
    flat = [sum(e, []) for e in epochs]
    assert all(sorted(e) == list(range(N)) for e in flat)
    assert flat[0] != flat[1] != flat[2] != flat[0]
    assert rows(loader(remainder="keep", key=random.key(4))) != epochs[0]


def test_the_order_is_the_same_on_every_machine():
    # As JAX draws it from the same key. A change breaks the resumption of saved runs.
    assert rows(loader())[0] == [9, 5, 6, 22]


def test_rows_stay_together():
    for batch in loader(remainder="keep"):
        np.testing.assert_array_equal(batch["x"], SOURCE["x"][np.asarray(batch["y"])])


# -- sources ---------------------------------------------------------------------------------------


def test_sources():
    plain = data.Loader(SOURCE["x"], batch_size=5)
    np.testing.assert_array_equal(next(iter(plain)), SOURCE["x"][:5])
    pair = data.Loader((bnp.arange(6), np.ones((6, 2))), batch_size=3)
    assert [b.shape for b in next(iter(pair))] == [(3,), (3, 2)]
    items = next(iter(data.Loader(Squares(9), batch_size=3)))
    assert items["square"].tolist() == [0, 1, 4] and items["x"].shape == (3, 2)
    listed = data.Loader([(1.0, [2, 3]), (4.0, [5, 6])], batch_size=2)
    assert [x.tolist() for x in bv.tree.leaves(next(iter(listed)))] == [[1, 4], [2, 5], [3, 6]]


@pytest.mark.parametrize(
    "source, error, text",
    [
        ({"a": np.ones(3), "b": np.ones(4)}, ValueError, "different numbers of rows"),
        ({"a": 3}, TypeError, "without a leading axis"),
        (iter([1]), TypeError, "is no source"),
        ({}, ValueError, "there are none"),
        (np.ones(0), ValueError, "no batch of 4 in 0"),
    ],
)
def test_what_is_no_source(source, error, text):
    with pytest.raises(error, match=text):
        loader(source)


def test_examples_of_different_shapes():
    ragged = data.Loader([{"t": np.ones(2)}, {"t": np.ones(3)}], batch_size=2)
    with pytest.raises(ValueError, match=r"\['t'\] has different shapes"):
        next(iter(ragged))


# -- remainders ------------------------------------------------------------------------------------


def test_remainders():
    assert [len(r) for r in rows(loader())] == [4] * 5
    assert [len(r) for r in rows(loader(remainder="keep"))] == [4] * 5 + [3]
    padded = list(loader(remainder="pad"))
    assert len(padded) == len(loader(remainder="pad")) == 6
    assert all(b["y"].shape == (4,) and m.dtype == bool for b, m in padded)
    kept = [y for b, m in padded for y in np.asarray(b["y"])[np.asarray(m)]]
    assert sorted(kept) == list(range(N))
    assert [int(m.sum()) for _, m in padded] == [4] * 5 + [3]
    with pytest.raises(ValueError, match="23 examples leave 3"):
        loader(remainder="error")
    assert len(loader(remainder="error", batch_size=23)) == 1
    # A batch may be more than all there is.
    (batch, mask), *rest = loader(remainder="pad", batch_size=50)
    assert not rest and batch["y"].shape == (50,) and int(mask.sum()) == N


@pytest.mark.parametrize(
    "options, text",
    [
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1"),
        ({"batch_size": 24}, "no batch of 24 in 23"),
        ({"remainder": "wrap"}, "one of drop, keep, pad, error"),
        ({"prefetch": -1}, "prefetch must be a whole number of at least 0"),
        ({"epochs": 0}, "epochs must be a whole number of at least 1"),
        ({"shard": (2, 2)}, "does not divide"),
        ({"shard": (0, 3)}, "batch_size=12"),
        ({"shard": 1}, r"shard=1 does not divide"),
        ({"batch_size": 2.0}, "batch_size must be a whole number"),
        ({"shard": (0, 2), "remainder": "keep"}, "different numbers of the 3 last"),
        ({"key": None, "random_map": lambda k, b: b}, "key=random.key"),
    ],
)
def test_arguments_that_do_not_fit(options, text):
    with pytest.raises(ValueError, match=text):
        loader(**options)


def test_a_seed_is_no_key():
    with pytest.raises(TypeError, match=r"key=random.key\(0\)"):
        loader(key=0)


# -- maps ------------------------------------------------------------------------------------------


def noisy(key, batch):
    assert isinstance(batch["x"], np.ndarray)
    return {**batch, "noise": random.normal(key, (len(batch["y"]),))}


def test_maps_and_their_keys():
    options = dict(random_map=noisy, map=lambda b: {**b, "twice": 2 * b["y"]})
    first, second = list(loader(**options)), list(loader(**options, prefetch=2, workers=2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a["noise"], b["noise"])
        assert a["twice"].tolist() == [2 * y for y in a["y"].tolist()]
    assert len({float(b["noise"][0]) for b in first}) == len(first)


def test_a_jitted_map_in_threads():
    double = bv.jit(lambda b: bv.tree.map(lambda x: x + x, b))
    found = rows(loader(key=None, map=double, prefetch=4, workers=3))
    assert found == [[2 * y for y in r] for r in rows(loader(key=None))]


# -- shards ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("remainder", ["drop", "pad"])
def test_the_shards_of_a_batch_are_the_batch(remainder):
    whole = list(loader(remainder=remainder))
    parts = [list(loader(remainder=remainder, shard=(i, 2))) for i in range(2)]
    for batch, *pieces in zip(whole, *parts, strict=True):
        joined = bv.tree.map(lambda *xs: bnp.concatenate(xs), *pieces)
        for a, b in zip(bv.tree.leaves(batch), bv.tree.leaves(joined), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_shard_reads_only_its_own_examples():
    source = Squares(8)
    list(data.Loader(source, batch_size=4, shard=(1, 2)))
    assert source.read == [2, 3, 6, 7]


# -- passes and resume -----------------------------------------------------------------------------


def test_passes():
    three = loader(epochs=3)
    assert len(three) == 15 and three.steps_per_epoch == 5
    assert rows(three) == sum([rows(one) for one in [loader()] * 3], [])
    assert (three.step, three.epoch) == (15, 3)
    endless = loader(epochs=None)
    steps = [b for b, _ in zip(endless, range(12), strict=False)]
    assert len(steps) == 12
    with pytest.raises(TypeError, match="epochs=None has no length"):
        len(endless)


def test_after_a_break_it_goes_on():
    one = loader()
    seen = []
    for batch in one:
        seen.append(batch["y"].tolist())
        if one.step == 2:
            break
    assert seen + rows(one) == rows(loader()) and one.epoch == 1


@pytest.mark.parametrize("prefetch", [0, 3])
@pytest.mark.parametrize("stop", [1, 4, 5, 7, 12])
def test_resume_is_exact(tmp_path, prefetch, stop):
    options = dict(epochs=3, random_map=noisy, prefetch=prefetch)
    every = list(loader(**options))
    one = loader(**options)
    for _ in one:
        if one.step == stop:
            checkpoint.save(tmp_path / "a", {"data": one.state(), "w": bnp.ones(2)})
            break
    two = loader(**{**options, "prefetch": 3 - prefetch})
    like = {"data": two.state(), "w": bnp.zeros(2)}
    for saved in (checkpoint.restore(tmp_path / "a"), checkpoint.restore(tmp_path / "a", like)):
        two.restore(saved["data"])
        rest = list(two)
        assert rows(rest) == rows(every[stop:])
        for a, b in zip(rest, every[stop:], strict=True):
            np.testing.assert_array_equal(a["noise"], b["noise"])


def test_a_training_run_goes_on_as_if_it_had_not_stopped(tmp_path):
    @bv.jit
    def step(model, optimizer, batch, mask):
        def loss(m):
            errors = (m(batch["x"])[:, 0] - batch["y"]) ** 2
            return bnp.where(mask, errors, 0).sum() / mask.sum()

        optimizer.update(bv.grad(loss)(model))

    def start():
        model = nn.Linear(3, 1, rngs=nn.Rngs(0))
        batches = loader(remainder="pad", epochs=3, prefetch=2)
        return model, nn.Optimizer(model, optim.adam(0.1)), batches

    def run(model, optimizer, batches, until=None):
        for batch, mask in batches:
            step(model, optimizer, batch, mask)
            if batches.step == until:
                break
        return np.asarray(model.kernel)

    whole = run(*start())
    model, optimizer, batches = start()
    run(model, optimizer, batches, until=10)
    manager = checkpoint.CheckpointManager(tmp_path)
    manager.save(10, {"model": nn.state((model, optimizer)), "data": batches.state()})
    model, optimizer, batches = start()
    like = {"model": nn.state((model, optimizer)), "data": batches.state()}
    saved = manager.restore(like=like)
    nn.update((model, optimizer), saved["model"])
    batches.restore(saved["data"])
    np.testing.assert_array_equal(run(model, optimizer, batches), whole)
    assert batches.step == 18


def test_resume_in_order_with_another_number_of_shards():
    one = loader(key=None)
    next(iter(one))
    two = loader(key=None, shard=(1, 2))
    two.restore(one.state())
    assert rows(two)[0] == [6, 7]


@pytest.mark.parametrize(
    "other, name",
    [
        ({"key": random.key(9)}, "key"),
        ({"key": None}, "key"),
        ({"batch_size": 5}, "batch_size"),
        ({"remainder": "keep"}, "steps_per_epoch"),
        ({"source": np.arange(24)}, "examples"),
    ],
)
def test_a_state_of_another_loader(other, name):
    with pytest.raises(ValueError, match=f"a loader with {name}="):
        loader(**other).restore(loader().state())


def test_one_place_at_a_time():
    one = loader()
    first = iter(one)
    next(first)
    second = iter(one)
    assert next(second)["y"].tolist() == rows(loader())[1]
    with pytest.raises(RuntimeError, match="a loader stands at one place"):
        next(first)
    one.restore(loader().state())
    with pytest.raises(RuntimeError, match="a loader stands at one place"):
        next(second)


# -- threads ---------------------------------------------------------------------------------------


def test_prefetch_is_bounded_and_ahead():
    source, started = Squares(100), threading.Event()
    ahead = data.Loader(source, batch_size=1, prefetch=3, map=lambda b: (started.set(), b)[1])
    batches = iter(ahead)
    next(batches)
    started.wait(5)
    batches.close()
    assert 1 <= len(source.read) <= 4 and ahead.step == 1


@pytest.mark.parametrize("prefetch", [0, 2])
def test_an_error_comes_to_the_consumer_where_it_happened(prefetch):
    bad = data.Loader(Squares(12, bad=7), batch_size=2, prefetch=prefetch, workers=2)
    seen = []
    with pytest.raises(OSError, match="example 7 cannot be read") as caught:
        for batch in bad:
            seen.append(batch)
    assert len(seen) == bad.step == 3
    frames = traceback.extract_tb(caught.tb)
    assert frames[-1].name == "__getitem__" and frames[-1].filename == __file__
    assert not threads()
    bad._source.items.bad = None
    assert [b["square"].tolist()[0] for b in bad] == [36, 64, 100]


def test_threads_end():
    one = loader(prefetch=2, workers=2, epochs=None)
    for _ in one:
        assert threads()
        break
    assert not threads()
    with pytest.raises(ZeroDivisionError):
        for _ in one:
            1 / 0  # noqa: B018
    assert not threads()
    batches = iter(one)
    next(batches)
    del batches
    assert not threads()
    list(loader(prefetch=50))
    assert not threads()


# -- devices ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefetch", [0, 2])
def test_batches_are_put_on_a_device(prefetch):
    device = bv.devices("cpu")[0]
    batch = next(iter(loader(device=device, prefetch=prefetch)))
    assert batch["x"].device == device
    with bv.default_device(device):
        assert next(iter(loader(prefetch=prefetch)))["x"].device == device
