"""States as data, walks over modules, random streams inside them, captures; Flax is the oracle."""

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import nn, random
from tests.peers import peer


def two(lib):
    """A model with a list, a shared layer and streams, in Bevel or Flax."""

    class Net(lib.Module):
        def __init__(self):
            rngs = lib.Rngs(params=0, dropout=1)
            self.linear = lib.Linear(2, 3, rngs=rngs)
            self.parts = lib.List(
                [lib.BatchNorm(3, rngs=rngs), lib.Dropout(0.5, rngs=rngs), self.linear]
            )

    return Net()


# -- states ----------------------------------------------------------------------------------------


def test_states_as_data_equal_flax():
    nnx = peer("flax.nnx")
    ours, theirs = nn.state(two(nn), nn.Param), nnx.state(two(nnx), nnx.Param)
    flat = nn.to_flat_state(ours)
    assert [p for p, _ in flat] == [p for p, _ in nnx.to_flat_state(theirs)]
    for (_, a), (_, b) in zip(flat, nnx.to_flat_state(theirs), strict=True):
        np.testing.assert_allclose(a, b[...], rtol=1e-5)
    again = nn.from_flat_state(flat)
    assert again.flat_state().keys() == ours.flat_state().keys()
    shapes = bv.tree.map(lambda x: x.shape, nn.to_pure_dict(ours))
    assert shapes == nnx.to_pure_dict(nnx.map_state(lambda _, v: v[...].shape, theirs))
    assert (
        nn.to_pure_dict(ours, lambda x: x.ndim)
        == nn.map_state(lambda _, x: x.ndim, ours).to_pure_dict()
    )
    files = {"parts": {"0": {"bias": 7.0}}}
    assert nn.restore_int_paths(files) == nnx.restore_int_paths(files)
    nn.replace_by_pure_dict(ours, files)
    assert ours.parts[0].bias == 7.0 and ours.parts[0].scale.shape == (3,)
    nn.replace_by_pure_dict(ours, {"linear": {"bias": 1.0}}, lambda old, new: old + new)
    np.testing.assert_array_equal(ours.linear.bias, [1, 1, 1])
    with pytest.raises(ValueError, match=r"nothing at parts\['9'\]"):
        nn.replace_by_pure_dict(ours, {"parts": {"9": 1.0}})


def test_parts_of_states():
    state = nn.state(two(nn))
    biases, rest = nn.split_state(state, nn.PathContains("bias"), ...)
    assert set(biases.flat_state()) == {("linear", "bias"), ("parts", 0, "bias")}
    merged = nn.merge_state(biases, rest)
    assert merged.flat_state().keys() == state.flat_state().keys()
    assert nn.filter_state(state, nn.PathContains("bias")).flat_state().keys() == set(
        biases.flat_state()
    )
    assert nn.split_state(state, ...).flat_state().keys() == state.flat_state().keys()
    with pytest.raises(ValueError, match="taken by no filter"):
        nn.split_state(state, nn.PathContains("bias"))
    with pytest.raises(TypeError, match=r"holds arrays(?s:.*)nn.state\(model, nn.Param\)"):
        nn.filter_state(state, nn.Param)
    variables = nn.variables(two(nn))
    assert set(nn.filter_state(variables, nn.BatchStat).flat_state()) == {
        ("parts", 0, "mean"),
        ("parts", 0, "var"),
    }


# -- walks -----------------------------------------------------------------------------------------


def test_walks_equal_flax():
    nnx = peer("flax.nnx")
    ours, theirs = two(nn), two(nnx)
    names = lambda pairs: [(p, type(m).__name__) for p, m in pairs]  # noqa: E731
    own = lambda found: [(p, n) for p, n in found if n not in ("List", "RngStream")]  # noqa: E731
    assert own(names(nn.iter_modules(ours))) == own(names(nnx.iter_modules(theirs)))
    found = [p for p, x in nn.iter_graph(ours) if isinstance(x, nn.Variable)]
    assert found == [p for p, x in nnx.iter_graph(theirs) if isinstance(x, nnx.Variable)]
    assert dict(names(nn.iter_children(ours.linear))) == {"bias": "Param", "kernel": "Param"}
    assert names(nn.iter_module_children(ours)) == [("linear", "Linear")]
    assert nn.find_duplicates(ours) == nnx.find_duplicates(theirs)
    assert nn.find_duplicates(ours, only=nn.Dropout) == []
    assert nn.graphdef(ours) == nn.graphdef(nn.clone(ours))
    params, rest = nn.variables(ours, nn.Param, ...)
    assert params.linear.kernel is ours.linear.kernel and "linear" not in rest
    nn.set_metadata(ours, only=nn.PathContains("kernel"), axes=(None, "model"))
    assert ours.linear.kernel.axes == (None, "model")
    assert not ours.linear.bias.has_metadata("axes")


def test_copies_with_parts_changed():
    model = two(nn)
    twice = nn.map(lambda path, v: v.value * 2 if isinstance(v, nn.Param) else v, model)
    np.testing.assert_array_equal(twice.linear.kernel, 2 * model.linear.kernel)
    assert twice.parts[2] is twice.linear and twice.linear is not model.linear
    assert twice.parts[0].mean is model.parts[0].mean
    seen = []
    swapped = nn.recursive_map(
        lambda p, x: seen.append(p) or (nn.identity if isinstance(x, nn.Dropout) else x), model
    )
    assert swapped.parts[1] is nn.identity and isinstance(model.parts[1], nn.Dropout)
    assert swapped.linear is swapped.parts[2] and swapped.linear.kernel is model.linear.kernel
    assert seen[-1] == () and len(seen) == len(set(seen))
    quiet = nn.with_attributes(model, deterministic=True, use_running_average=True)
    assert quiet.parts[1].deterministic and not model.parts[1].deterministic
    assert quiet.parts[0].use_running_average and quiet.linear.kernel is model.linear.kernel
    some = nn.with_attributes(model, only=nn.BatchNorm, momentum=0.5)
    assert some.parts[0].momentum == 0.5
    with pytest.raises(ValueError, match="nonsense"):
        nn.with_attributes(model, nonsense=1)
    with pytest.raises(ValueError, match="cycle"):
        model.me = model
        nn.find_duplicates(model)


def test_containers_under_the_names_of_flax():
    rngs = nn.Rngs(0)
    d = nn.Dict({"a": nn.Linear(2, 1, rngs=rngs)}, act=nn.relu)
    d["b"] = nn.Linear(1, 1, rngs=rngs)
    del d["act"]
    assert list(d) == ["a", "b"] and d.b is d["b"] and len(d) == 2 and "a" in d
    y = bv.jit(lambda d, x: d["b"](d.a(x)))(d, bnp.ones((3, 2)))
    assert y.shape == (3, 1) and set(nn.state(d)) == {"a", "b"}
    with pytest.raises(KeyError):
        d["c"]
    with pytest.raises(KeyError, match="plain dict"):
        d["items"] = 1
    assert nn.List([1, 2]) == [1, 2] and nn.data(d) is d and nn.static(3) == 3


def test_metadata_is_set_and_removed():
    v = nn.Param(1.0, unit="m")
    assert nn.Param[bv.Array].__origin__ is nn.Param and not v.has_metadata("axes")
    layer = nn.Linear(1, 1, rngs=nn.Rngs(0))
    f = bv.jit(lambda m, x: m(x))
    f(layer, bnp.ones(1))
    layer.bias.set_metadata("axes", (None,))
    f(layer, bnp.ones(1))
    assert f._cache_size() == 2  # metadata belongs to the structure
    layer.bias.del_metadata("axes")
    f(layer, bnp.ones(1))
    assert f._cache_size() == 2
    v.set_metadata({"axes": (0,)})
    v.set_metadata(seen=True)
    assert v.get_metadata() == {"axes": (0,), "seen": True}
    with pytest.raises(KeyError):
        v.del_metadata("unit")
    with pytest.raises(TypeError, match="name=value"):
        v.set_metadata("unit")


def test_names_of_classes_of_variables():
    assert nn.variable_name_from_type(nn.Param) == "params"
    assert nn.variable_type_from_name("batch_stats") is nn.BatchStat

    class Fast(nn.Variable):
        pass

    with pytest.raises(ValueError, match="has no name"):
        nn.variable_name_from_type(Fast)
    assert nn.variable_name_from_type(Fast, allow_register=True) == "fast"
    with pytest.raises(ValueError, match="no class of variables has the name 'slow'"):
        nn.variable_type_from_name("slow")
    slow = nn.variable_type_from_name("slow", base=nn.Param, allow_register=True)
    assert issubclass(slow, nn.Param) and int(slow(3)) == 3
    with pytest.raises(ValueError, match="is that of"):
        nn.register_variable_name("params", Fast)


# -- random streams --------------------------------------------------------------------------------


def words(key):
    return np.asarray(random.key_data(key))


def test_streams_split_and_forked_equal_flax():
    nnx, jax = peer("flax.nnx"), peer("jax")
    theirs_words = lambda k: np.asarray(jax.random.key_data(k))  # noqa: E731
    for options in ({"splits": 3}, {"splits": (2, 2), "only": "dropout"}):
        ours, theirs = nn.Rngs(params=0, dropout=1), nnx.Rngs(params=0, dropout=1)
        before = words(ours.dropout.key.value)
        backups, want = nn.split_rngs(ours, **options), nnx.split_rngs(theirs, **options)
        for name in ("params", "dropout"):
            np.testing.assert_array_equal(
                words(ours[name].key.value), theirs_words(theirs[name].key[...])
            )
            assert ours[name].count.shape == theirs[name].count.shape
        nn.restore_rngs(backups)
        nnx.restore_rngs(want)
        np.testing.assert_array_equal(words(ours.dropout.key.value), before)
        assert int(ours.dropout.count) == int(theirs.dropout.count[...]) == 1
    ours, theirs = nn.Rngs(params=0, dropout=1), nnx.Rngs(params=0, dropout=1)
    nn.fork_rngs(ours, split={"dropout": 4, ...: None})
    theirs = nnx.Rngs(params=theirs.params.fork(), dropout=theirs.dropout.split(4))
    assert ours.params.key.shape == () and ours.dropout.key.shape == (4,)
    for name in ("params", "dropout"):
        want = theirs[name].key[...]
        np.testing.assert_array_equal(words(ours[name].key.value), theirs_words(want))
    forked = nn.Rngs(params=0, dropout=1).split({"dropout": 3, ...: None})
    assert forked.params.key.shape == () and forked.dropout.key.shape == (3,)
    one = nn.Rngs(0)
    nn.split_rngs(one, splits=1, squeeze=True)
    assert one.default.key.shape == ()
    with pytest.raises(ValueError, match="squeeze"):
        nn.split_rngs(one, splits=2, squeeze=True)


def test_streams_split_for_a_call():
    drop = nn.Dropout(0.5, rngs=nn.Rngs(0))
    axes = nn.StateAxes({nn.RngState: 0, ...: None})

    @nn.split_rngs(splits=4)
    @bv.vmap(in_axes=(axes, None))
    def rows(m, x):
        return m(x)

    ys = rows(drop, bnp.ones(50))
    assert len({tuple(y.tolist()) for y in ys}) == 4
    assert drop.rngs.key.shape == () and int(drop.rngs.count) == 1


def test_reseed():
    model = two(nn)
    x = bnp.ones(30)
    nn.reseed(model, dropout=3)
    first = model.parts[1](x)
    nn.reseed(model, dropout=random.key(3), unknown=1)
    np.testing.assert_array_equal(model.parts[1](x), first)
    nn.split_rngs(model, splits=2)
    with pytest.raises(ValueError, match=r"parts\[1\].rngs holds keys of shape \(2,\)"):
        nn.reseed(model, dropout=3)
    nn.reseed(model, policy="match_shape", dropout=3)
    assert model.parts[1].rngs.key.shape == (2,)
    nn.reseed(model, policy=lambda path, key, shape: key, dropout=3)
    assert model.parts[1].rngs.key.shape == ()
    with pytest.raises(ValueError, match="policy"):
        nn.reseed(model, policy="other", dropout=3)


# -- captures --------------------------------------------------------------------------------------


class Inner(nn.Module):
    def __call__(self, x):
        self.sow(nn.Intermediate, "seen", x)
        self.sow(nn.Intermediate, "total", x, lambda a, b: a + b, lambda: 0.0)
        self.sow(nn.Cache, "last", x)
        return 2 * x


class Outer(nn.Module):
    def __init__(self):
        self.inner = Inner()

    def __call__(self, x):
        return self.inner(self.inner(x))

    def once(self, x):
        return self.inner(x)


def test_capture_returns_what_was_sown():
    model = Outer()
    for f in (nn.capture(model, nn.Intermediate), bv.jit(nn.capture(model, nn.Intermediate))):
        y, seen = f(bnp.ones(2))
        np.testing.assert_array_equal(y, [4, 4])
        assert len(seen.inner.seen) == 2 and "last" not in seen.inner
        np.testing.assert_array_equal(seen.inner.seen[1], [2, 2])
        np.testing.assert_array_equal(seen.inner.total, [3, 3])
    assert list(vars(model.inner)) == []
    _, kept, last = nn.capture(model.once, nn.Intermediate, nn.Cache)(3.0)
    assert kept.inner.seen == (3.0,) and last.inner.last == (3.0,)
    _, seen = nn.capture(lambda m, x: m(x) + 1, nn.Intermediate)(model, 1.0)
    assert seen.inner.seen == (1.0, 2.0)
    assert nn.capture(nn.Intermediate)(model)(1.0)[1].inner.total == 3.0
    rows = bv.vmap(nn.capture(model, nn.Intermediate))(bnp.arange(3.0))
    np.testing.assert_array_equal(rows[1].inner.seen[1], [0, 2, 4])
    with pytest.raises(TypeError, match="no module to watch"):
        nn.capture(lambda x: x, nn.Intermediate)(1.0)


def test_sowing_without_a_capture_keeps_it_in_the_module():
    model = Outer()
    model(1.0)
    assert [float(v) for v in model.inner.seen] == [1.0, 2.0] and float(model.inner.total) == 3
    seen = nn.pop(model, nn.Intermediate)
    assert float(seen.inner.seen[1]) == 2 and model.inner.seen == []
    model(5.0)
    assert [float(v) for v in model.inner.seen] == [5.0, 10.0] and len(model.inner.last) == 4
    model.inner.total = nn.Param(0.0)
    with pytest.raises(ValueError, match="sow: Inner.total is a Param"):
        model(1.0)


class Sower(nn.Linear):
    def __call__(self, x):
        self.sow(nn.Intermediate, "before", x)
        return self.perturb("after", bnp.tanh(super().__call__(x)))


def test_captures_of_a_recurrent_cell():
    class Cell(nn.SimpleCell):
        def __call__(self, carry, x):
            self.sow(nn.Intermediate, "hidden", carry)
            return super().__call__(carry, x)

    rnn, x = nn.RNN(Cell(2, 3, rngs=nn.Rngs(0))), bnp.ones((4, 5, 2))
    ys, seen = bv.jit(nn.capture(rnn, nn.Intermediate))(x)
    (hidden,) = seen.cell.hidden
    assert hidden.shape == (5, 4, 3)
    np.testing.assert_allclose(hidden[1:], ys.swapaxes(0, 1)[:-1], rtol=1e-6)


@pytest.mark.parametrize("remat", [False, True])
def test_captures_inside_a_stack(remat):
    model = nn.Sequential(nn.Stack(Sower, 3, 2, 2, rngs=nn.Rngs(0), remat=remat))
    stack, x = model.layers[0], bnp.array([1.0, -0.5])
    inputs = [x]
    for i in range(3):
        inputs.append(bnp.tanh(inputs[-1] @ stack[i].kernel + stack[i].bias))
    for f in (nn.capture(model, nn.Intermediate), bv.jit(nn.capture(model, nn.Intermediate))):
        y, seen = f(x)
        (before,) = seen.layers[0].layer.before
        np.testing.assert_allclose(before, bnp.stack(inputs[:3]), rtol=1e-5)
        np.testing.assert_allclose(y, inputs[3], rtol=1e-5)
    _, zeros = nn.capture(model, nn.Perturbation)(x)
    assert zeros.layers[0].layer.after.shape == (3, 2)
    grads = bv.grad(lambda p: (nn.capture(model, init=p)(x) ** 2).sum())(zeros)
    np.testing.assert_allclose(grads.layers[0].layer.after[2], 2 * inputs[3], rtol=1e-5)
    slope = 1 - inputs[3] ** 2
    want = (2 * inputs[3] * slope) @ stack[2].kernel.value.T
    np.testing.assert_allclose(grads.layers[0].layer.after[1], want, rtol=1e-4)
