"""Modules, variables, state, random streams, layers; Flax is the oracle of numbers where it is
installed.
"""

import copy
import functools
import gc
import importlib
import operator
import pickle
import warnings
import weakref

import ml_dtypes
import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import lax, nn, optim, random
from bevel.core import errors
from bevel.nn import structure


def peer(name):
    """A peer library, or the test is skipped."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip(name.split(".")[0])
        return importlib.import_module(name)


class Block(nn.Module):
    def __init__(self, n, *, rngs):
        self.linear = nn.Linear(n, n, rngs=rngs)
        self.count = nn.Variable(0)

    def __call__(self, x):
        self.count += 1
        return bnp.tanh(self.linear(x))


class Net(nn.Module):
    def __init__(self, rngs):
        self.blocks = [Block(3, rngs=rngs), Block(3, rngs=rngs)]
        self.heads = {"a": nn.Linear(3, 1, rngs=rngs), "b": nn.Linear(3, 2, rngs=rngs)}
        self.name = "net"

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        return self.heads["a"](x), self.heads["b"](x)


# -- refs and variables ----------------------------------------------------------------------------

BINARY = "add sub mul truediv floordiv mod pow lt le gt ge eq ne".split()


@pytest.mark.parametrize("make", [bv.ref, nn.Variable, nn.Param])
@pytest.mark.parametrize("name", BINARY)
def test_arithmetic_is_that_of_the_value(make, name):
    f = getattr(operator, name)
    x, y = bnp.array([1.0, -2.0, 3.5]), bnp.array([2.0, 4.0, -0.5])
    for a, b in ((make(x), y), (x, make(y)), (make(x), make(y)), (make(x), 2.0), (2.0, make(y))):
        plain = [v.value if hasattr(v, "value") else v for v in (a, b)]
        got = f(a, b)
        assert isinstance(got, bv.Array)
        np.testing.assert_array_equal(got, f(*plain))


def test_unary_indexing_conversion_and_attributes():
    v = nn.Variable(bnp.array([[1, -2], [3, 4]]))
    np.testing.assert_array_equal(-v, [[-1, 2], [-3, -4]])
    np.testing.assert_array_equal(abs(v), [[1, 2], [3, 4]])
    np.testing.assert_array_equal(~v, ~np.array([[1, -2], [3, 4]]))
    np.testing.assert_array_equal(v @ v, np.array([[1, -2], [3, 4]]) @ np.array([[1, -2], [3, 4]]))
    np.testing.assert_array_equal(np.asarray(v), [[1, -2], [3, 4]])
    np.testing.assert_array_equal(np.array([[1, 1], [1, 1]]) + v, [[2, -1], [4, 5]])
    assert v.shape == (2, 2) and v.ndim == 2 and v.size == 4 and v.dtype == np.int32
    assert int(v.sum()) == 6 and len(v) == 2 and [r.tolist() for r in v] == [[1, -2], [3, 4]]
    assert int(v[0, 1]) == -2 and v[...] is v.value
    assert int(bv.ref(3)) == 3 and float(bv.ref(2.5)) == 2.5 and bool(bv.ref(True))
    assert f"{bv.ref(2.0):.1f}" == "2.0" and [10, 20, 30][bv.ref(1)] == 20
    assert "Variable(Array([[ 1, -2]" in repr(v)


def test_in_place_writes_keep_shape_and_dtype():
    v = nn.Variable(bnp.zeros((2, 2), bnp.bfloat16))
    v[...] = 1
    v[0] = bnp.array([5.0, 6.0])
    v[1, 1] += 2
    v *= 2
    assert v.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(np.asarray(v, np.float32), [[10, 12], [2, 6]])
    same = v
    v += 1
    assert same is v
    with pytest.raises(ValueError, match=r"\(3,\) does not fit.*\(2, 2\)(?s:.*)\.value = x"):
        v[...] = bnp.zeros(3)
    count = nn.Variable(0)
    with pytest.raises(TypeError, match="float32 numbers(?s:.*)int32(?s:.*)astype"):
        count[...] = 1.5
    with pytest.raises(TypeError, match="int32"):
        nn.Variable(bnp.zeros(3, bool))[0] = 2
    count.value = bnp.ones(3)
    assert count.shape == (3,)


def test_python_numbers_have_a_lasting_dtype():
    v = nn.Variable(1.0)
    assert not v.value.weak_type and v.dtype == np.float32
    half = nn.Variable(bnp.ones((), bnp.float16))
    half.value = 2
    assert half.dtype == np.float16
    count = nn.Variable(bnp.uint8(3))
    count.value = 0
    assert count.dtype == np.uint8
    count.value = 0.5
    assert count.dtype == np.float32
    with pytest.raises(OverflowError):
        nn.Variable(bnp.uint8(3)).value = 300


def test_what_a_cell_cannot_hold():
    with pytest.raises(TypeError, match="one array, not a dict(?s:.*)tree.map"):
        bv.ref({"a": 1})
    nothing = nn.Cache(None)
    nothing[...] = bnp.ones(2)
    assert nothing.shape == (2,)
    with pytest.raises(TypeError, match="no elements"):
        nn.Cache(None)[0] = 1.0
    with pytest.raises(AttributeError):
        _ = bv.ref(1.0)._secret


def test_a_key_in_a_cell_stays_a_key():
    v = nn.RngKey(random.key(0))
    v[...] = random.key(1)
    with pytest.raises(TypeError, match="random key"):
        v[...] = 3
    assert random.is_key(v.value)


def test_metadata_and_copies():
    p = nn.Param(bnp.ones(2), sharding=("x", None))
    assert p.sharding == ("x", None) and p.has_metadata("sharding")
    assert p.get_metadata() == {"sharding": ("x", None)} and p.get_metadata("no", 7) == 7
    q = p.replace(bnp.zeros(2), scale=3)
    assert type(q) is nn.Param and q.scale == 3 and not p.has_metadata("scale")
    for other in (copy.copy(p), copy.deepcopy(p), pickle.loads(pickle.dumps(p)), p.copy()):
        other[...] = 9
        assert other.sharding == ("x", None) and type(other) is nn.Param
        np.testing.assert_array_equal(p, [1, 1])


def test_refs_in_every_transform():
    total = bv.ref(bnp.zeros(2))

    @bv.jit
    def add(r, x):
        r += x
        total[1] += 1
        return r[0] * 2

    mine = bv.ref(bnp.ones(2))
    assert float(add(mine, 3.0)) == 8 and float(add(mine, 1.0)) == 10
    np.testing.assert_array_equal(total, [0, 2])
    assert add._cache_size() == 1

    w = bv.ref(bnp.array([2.0, 3.0]))
    np.testing.assert_array_equal(bv.grad(lambda r: (r[...] ** 2).sum())(w), [4, 6])
    np.testing.assert_array_equal(bv.vmap(lambda r, x: r * x)(w, bnp.array([10.0, 20.0])), [20, 60])
    count = bv.ref(0)

    def body(c, x):
        count[...] += 1
        return c + x, c

    lax.scan(body, 0.0, bnp.arange(5.0))
    assert int(count) == 5


# -- structure -------------------------------------------------------------------------------------


def test_structure_is_found_once_and_again_only_after_a_change(monkeypatch):
    found = []
    monkeypatch.setattr(
        structure, "_Traversal", lambda s, cls=structure._Traversal: found.append(1) or cls(s)
    )
    model, x = Net(nn.Rngs(0)), bnp.ones(3)
    forward = bv.jit(lambda m, x: m(x)[0])
    for _ in range(4):
        forward(model, x)
        nn.state(model)
    assert len(found) == 1 and forward._cache_size() == 1
    Net(nn.Rngs(1))  # making another model leaves this one known
    forward(model, x)
    assert len(found) == 1
    model.name = "net"  # the same value is no change
    forward(model, x)
    assert len(found) == 1
    model.name = "other"
    forward(model, x)
    assert len(found) == 2 and forward._cache_size() == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.blocks.append(Block(3, rngs=nn.Rngs(7))),
        lambda m: m.blocks.pop(),
        lambda m: m.blocks.reverse(),
        lambda m: m.heads.update(a=nn.Linear(3, 1, use_bias=False, rngs=nn.Rngs(8))),
        lambda m: setattr(m.blocks[0], "linear", nn.Linear(3, 3, use_bias=False, rngs=nn.Rngs(9))),
        lambda m: delattr(m, "name"),
        lambda m: m.blocks[1].linear.kernel.set_metadata(tag="x"),
    ],
)
def test_a_jitted_function_sees_structural_changes(change):
    model, x = Net(nn.Rngs(0)), bnp.ones(3)
    forward = bv.jit(lambda m, x: m(x))
    forward(model, x)
    before = nn.clone(model)
    change(model)
    np.testing.assert_allclose(forward(model, x)[0], model(x)[0], rtol=1e-5)
    np.testing.assert_allclose(forward(before, x)[0], before(x)[0], rtol=1e-5)


def test_objects_of_one_structure_share_a_trace():
    forward = bv.jit(lambda m, x: m(x)[1])
    a, b, x = Net(nn.Rngs(0)), Net(nn.Rngs(1)), bnp.ones(3)
    np.testing.assert_allclose(forward(a, x), nn.clone(a)(x)[1], rtol=1e-5)
    np.testing.assert_allclose(forward(b, x), nn.clone(b)(x)[1], rtol=1e-5)
    np.testing.assert_allclose(forward(nn.clone(b), x), nn.clone(b)(x)[1], rtol=1e-5)
    assert forward._cache_size() == 1
    assert nn.split(a)[0] is nn.split(b)[0] is pickle.loads(pickle.dumps(nn.split(b)[0]))
    assert int(a.blocks[0].count) == 1 and int(b.blocks[1].count) == 1


def test_arrays_as_attributes_are_constants_by_identity():
    class Scaled(nn.Module):
        def __init__(self, x):
            self.x = x

        def __call__(self, y):
            return self.x * y

    f = bv.jit(lambda m, y: m(y))
    m = Scaled(bnp.array([1.0, 2.0]))
    np.testing.assert_array_equal(f(m, 3.0), [3, 6])
    m.x = np.array([5.0, 5.0])
    np.testing.assert_array_equal(f(m, 3.0), [15, 15])
    assert nn.state(m).flat_state() == {}


def test_an_array_in_place_of_a_variable_is_refused():
    layer = nn.Linear(2, 2, rngs=nn.Rngs(0))
    with pytest.raises(TypeError, match=r"kernel is a Param(?s:.*)self\.kernel\.value = x"):
        layer.kernel = bnp.zeros((2, 2))
    layer.kernel = nn.Param(bnp.zeros((2, 2)))
    layer.bias = None
    np.testing.assert_array_equal(layer(bnp.ones(2)), [0, 0])


def test_a_cycle_is_an_error_that_shows_it():
    class Node(nn.Module):
        pass

    a, b = Node(), Node()
    a.child = {"b": b}
    b.parent = a
    with pytest.raises(ValueError, match=r"a cycle: child\.b\.parent is the object itself"):
        nn.state(a)
    c = Node()
    c.a = a
    with pytest.raises(ValueError, match=r"a cycle: a\.child\.b\.parent is a, which"):
        bv.jit(lambda m: 0.0)(c)


def test_what_is_shared_appears_once_and_is_known_by_all_paths():
    class Tied(nn.Module):
        def __init__(self):
            self.a = nn.Linear(2, 2, rngs=nn.Rngs(0))
            self.b = self.a
            self.also = [self.a.kernel]

    m = Tied()
    assert list(nn.state(m).flat_state()) == [("a", "bias"), ("a", "kernel")]
    nn.update(m, {"b": {"bias": [1.0, 2.0]}, "also": {0: bnp.zeros((2, 2))}})
    np.testing.assert_array_equal(m.a.bias, [1, 2])
    np.testing.assert_array_equal(m.a.kernel, np.zeros((2, 2)))
    twin = nn.clone(m)
    assert twin.b is twin.a and twin.also[0] is twin.a.kernel and twin.a is not m.a
    untied = Tied()
    untied.b = nn.Linear(2, 2, rngs=nn.Rngs(0))
    assert nn.split(untied)[0] is not nn.split(m)[0]
    grads = bv.grad(lambda m: (m.a(bnp.ones(2)) + m.b(bnp.ones(2))).sum())(m)
    np.testing.assert_array_equal(grads.a.bias, [2, 2])


def test_a_module_is_freed_at_once():
    model = Net(nn.Rngs(0))
    bv.jit(lambda m: m(bnp.ones(3)))(model)
    kernel = weakref.ref(model.heads["a"].kernel)
    gc.collect()
    gc.disable()
    try:
        del model
        assert kernel() is None
    finally:
        gc.enable()


def test_copies_of_modules():
    m = Net(nn.Rngs(0))
    nn.state(m)
    for other in (copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        other.heads["a"].bias[...] = 5
        assert float(m.heads["a"].bias[0]) == 0
        assert nn.split(other)[0] is nn.split(m)[0]


def test_repr_is_readable():
    text = repr(Net(nn.Rngs(0)))
    assert (
        text.startswith("Net(") and "kernel=Param(float32[3, 3])" in text and "name='net'" in text
    )
    assert all(len(line) <= 100 for line in text.split("\n"))
    shared = nn.Linear(2, 2, rngs=nn.Rngs(0))
    assert "<layers[0]>" in repr(nn.Sequential(shared, shared))


# -- state -----------------------------------------------------------------------------------------


def test_state_is_a_nested_mapping_and_a_pytree():
    s = nn.state(Net(nn.Rngs(0)), nn.Param)
    assert s.blocks[0].linear.kernel.shape == (3, 3)
    assert s["heads"]["b"]["bias"].shape == (2,)
    assert "blocks" in s and len(s) == 2 and list(s) == ["blocks", "heads"]
    doubled = bv.tree.map(lambda a, b: a + b, s, s)
    np.testing.assert_array_equal(doubled.heads.b.kernel, 2 * s.heads.b.kernel)
    path, _ = bv.tree_util.leaves_with_path(s)[0]
    assert bv.tree_util.keystr(path) == "['blocks'][0]['linear']['bias']"
    assert type(bv.jit(lambda s: s)(s)) is nn.State
    with pytest.raises(KeyError, match="'nothing'(?s:.*)'blocks'"):
        s["nothing"]
    with pytest.raises(AttributeError, match="nothing"):
        _ = s.nothing
    again = pickle.loads(pickle.dumps(s))
    np.testing.assert_array_equal(again.heads.b.kernel, s.heads.b.kernel)
    s["heads"]["c"] = {"w": 1}
    assert s.heads.c.w == 1
    del s["blocks"]
    assert s.to_pure_dict()["heads"]["c"] == {"w": 1}


def test_state_operations():
    s = nn.State({"a": {"w": 1, "b": 2}, "c": 3})
    assert s.filter(nn.PathContains("a")).flat_state() == {("a", "b"): 2, ("a", "w"): 1}
    first, rest = s.split(nn.PathContains("w"), ...)
    assert (first | rest).flat_state() == s.flat_state()
    with pytest.raises(ValueError, match="taken by no filter(?s:.*)a.b"):
        s.split(nn.PathContains("w"))
    assert s.map(lambda path, x: (len(path), x)).c == (1, 3)
    assert (s | {"c": 9}).c == 9
    assert repr(nn.State({})) == "State({})"


def test_filters_choose():
    m = Net(nn.Rngs(0))

    def chosen(*filters):
        return ["/".join(map(str, p)) for p in nn.state(m, *filters).flat_state()]

    assert len(chosen(...)) == len(chosen(True)) == len(chosen()) == 10
    assert chosen(None) == chosen(False) == []
    assert len(chosen(nn.Param)) == 8 and len(chosen(nn.Not(nn.Param))) == 2
    assert chosen(nn.All(nn.Param, nn.PathContains("a"))) == ["heads/a/bias", "heads/a/kernel"]
    assert len(chosen(nn.Any(nn.PathContains("a"), nn.PathContains("b")))) == 4
    assert len(chosen([nn.PathContains("a"), nn.PathContains("b")])) == 4
    assert len(chosen(nn.PathContains("kern", exact=False))) == 4
    assert chosen(nn.PathIn(("heads", "a", "bias"))) == ["heads/a/bias"]
    assert len(chosen(lambda path, v: v.ndim == 2)) == 4
    assert len(chosen(nn.OfType(nn.Variable))) == 10
    m.heads["a"].bias.set_metadata(tag="special")
    assert chosen("special") == ["heads/a/bias"]
    params, rest = nn.state(m, nn.Param, ...)
    assert len(params.flat_state()) == 8 and len(rest.flat_state()) == 2
    with pytest.raises(ValueError, match="takes all"):
        nn.state(m, ..., nn.Param)
    with pytest.raises(TypeError, match="no filter"):
        nn.state(m, 3)
    assert nn.Any(nn.Param) == nn.Any(nn.Param) and hash(nn.Not(...)) == hash(nn.Not(...))


def test_split_and_merge_and_their_errors():
    m = Net(nn.Rngs(0))
    graphdef, params, rest = nn.split(m, nn.Param, ...)
    again = nn.merge(graphdef, params, rest)
    np.testing.assert_array_equal(again(bnp.ones(3))[0], nn.clone(m)(bnp.ones(3))[0])
    with pytest.raises(ValueError, match=r"2 variable.*no filter(?s:.*)blocks\[0\]\.count"):
        nn.split(m, nn.Param)
    with pytest.raises(ValueError, match=r"no value for the Variable at blocks\[0\]\.count"):
        nn.merge(graphdef, params)
    with pytest.raises(ValueError, match="no variable at extra"):
        nn.merge(graphdef, params, rest, {"extra": 1})
    assert bv.tree.leaves(graphdef) == []

    @bv.jit
    def forward(graphdef, state, x):
        model = nn.merge(graphdef, state)
        return model(x)[0], nn.state(model)

    y, new = forward(graphdef, nn.state(m), bnp.ones(3))
    assert int(new.blocks[0].count) == 1 and int(m.blocks[0].count) == 0


def test_update_writes_and_names_what_it_cannot():
    m = Net(nn.Rngs(0))
    nn.update(m, {"heads": {"a": {"bias": np.array([4.0])}}}, {"blocks": {1: {"count": 3}}})
    assert float(m.heads["a"].bias[0]) == 4 and int(m.blocks[1].count) == 3
    with pytest.raises(KeyError, match=r"no variable at heads\.z"):
        nn.update(m, {"heads": {"z": {"bias": 1.0}}})
    pair = (m, {"x": nn.Variable(1.0)})
    nn.update(pair, {1: {"x": 2.0}})
    assert float(nn.state(pair)[1].x) == 2
    v = nn.Variable(1.0)
    assert float(nn.state(v)) == 1
    nn.update(v, 3.0)
    assert float(v) == 3


def test_pop_takes_out():
    class Probe(nn.Module):
        def __init__(self):
            self.extra = {"i": nn.Intermediate(1.0), "p": nn.Param(2.0)}
            self.i = nn.Intermediate(3.0)

    m = Probe()
    assert nn.pop(m, nn.Intermediate).flat_state().keys() == {("extra", "i"), ("i",)}
    assert list(nn.state(m).flat_state()) == [("extra", "p")]
    with pytest.raises(ValueError, match="which variables"):
        nn.pop(m)
    m.listed = [nn.Cache(1.0)]
    with pytest.raises(ValueError, match=r"listed\[0\] stands in a list"):
        nn.pop(m, nn.Cache)


def test_modes():
    m = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm(2, rngs=nn.Rngs(0)))
    assert m.eval() is m and m.layers[0].deterministic and m.layers[1].use_running_average
    m.train()
    assert m.layers[0].deterministic is False and m.layers[1].use_running_average is False
    m.set_attributes(nn.Dropout, rate=0.25)
    assert m.layers[0].rate == 0.25
    with pytest.raises(ValueError, match="wrong_name"):
        m.set_attributes(wrong_name=1)
    rngs = nn.Rngs(0)
    assert nn.Sequential(rngs).eval() and "deterministic" not in rngs
    assert [name for name, _ in Net(nn.Rngs(0)).blocks[0].iter_children()] == ["linear"]


# -- random streams --------------------------------------------------------------------------------


def words(key):
    return np.asarray(random.key_data(key))


def test_streams_equal_flax():
    nnx = peer("flax.nnx")
    jax = peer("jax")
    ours, theirs = nn.Rngs(0, dropout=random.key(5)), nnx.Rngs(0, dropout=jax.random.key(5))
    for name in ("params", "dropout", "params", "other"):
        got, want = getattr(ours, name)(), getattr(theirs, name)()
        np.testing.assert_array_equal(words(got), jax.random.key_data(want))
    np.testing.assert_array_equal(words(ours()), jax.random.key_data(theirs()))
    forked, want = ours.fork(), theirs.fork()
    np.testing.assert_array_equal(words(forked.dropout()), jax.random.key_data(want.dropout()))


def test_streams_and_jit():
    rngs = nn.Rngs(params=0, noise=1)
    draw = bv.jit(lambda rngs: random.normal(rngs.noise(), (3,)))
    a, b = draw(rngs), draw(rngs)
    assert not np.array_equal(a, b) and int(rngs.noise.count) == 2 and draw._cache_size() == 1
    saved = nn.state(rngs)
    c = draw(rngs)
    nn.update(rngs, saved)
    np.testing.assert_array_equal(draw(rngs), c)


def test_streams_by_name_and_their_errors():
    rngs = nn.Rngs(params=0)
    with pytest.raises(
        AttributeError, match=r"no stream 'dropout'(?s:.*)nn\.Rngs\(params=..., dropout=0"
    ):
        rngs.dropout()
    with pytest.raises(AttributeError, match="'default'"):
        rngs()
    with pytest.raises(TypeError, match="seed"):
        nn.Rngs(params=1.5)
    assert "params" in rngs and "x" not in rngs and list(rngs) == ["params"] and len(rngs) == 1
    assert list(nn.Rngs({"a": 0}, b=1)) == ["a", "b"]
    np.testing.assert_array_equal(words(nn.Rngs(nn.Rngs(a=3)).a()), words(nn.Rngs(a=3).a()))
    many = nn.Rngs(0).split(4)
    assert many.default.key.shape == (4,) and many.default.count.shape == (4,)
    keys = bv.vmap(lambda r: random.key_data(r()))(many)
    assert len(np.unique(np.asarray(keys), axis=0)) == 4
    np.testing.assert_array_equal(many.default.count, [1, 1, 1, 1])


def test_an_ensemble_by_vmap():
    rngs = nn.Rngs(0).split(3)
    models = bv.vmap(lambda r: nn.state(nn.Linear(2, 4, rngs=r)))(rngs)
    assert models.kernel.shape == (3, 2, 4)
    layer = nn.Linear(2, 4, rngs=nn.Rngs(0))
    nn.update(layer, models)
    x = bnp.ones((5, 2))
    ys = bv.vmap(lambda m, x: m(x), in_axes=(0, None))(layer, x)
    for i in range(3):
        np.testing.assert_allclose(ys[i], x @ models.kernel[i] + models.bias[i], rtol=1e-5)


# -- initializers and activations ------------------------------------------------------------------

INITIALIZERS = {
    "zeros_init": ((), (3, 4)),
    "ones_init": ((), (3, 4)),
    "constant": ((2.5,), (3, 4)),
    "uniform": ((0.5,), (3, 4)),
    "normal": ((0.5,), (3, 4)),
    "truncated_normal": ((0.5,), (3, 4)),
    "lecun_normal": ((), (3, 3, 4, 5)),
    "lecun_uniform": ((), (4, 5)),
    "glorot_normal": ((), (4, 5)),
    "glorot_uniform": ((), (4, 5)),
    "he_normal": ((), (4, 5)),
    "he_uniform": ((), (4, 5)),
    "orthogonal": ((), (3, 7)),
    "delta_orthogonal": ((), (3, 3, 4, 4)),
}


@pytest.mark.parametrize("name", INITIALIZERS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_initializers_equal_jax(name, dtype):
    jax, theirs = peer("jax"), peer("flax.nnx").initializers
    args, shape = INITIALIZERS[name]
    if name.endswith("orthogonal") and dtype == "bfloat16":
        pytest.skip("qr has no bfloat16")
    got = getattr(nn.initializers, name)(*args)(random.key(3), shape, dtype)
    want = getattr(theirs, name)(*args)(jax.random.key(3), shape, jax.numpy.dtype(dtype))
    assert got.dtype.name == dtype and got.shape == shape
    tol = 2e-5 if dtype == "float32" else 2e-2
    np.testing.assert_allclose(
        np.asarray(got, np.float32), np.asarray(want, np.float32), rtol=tol, atol=tol
    )


@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg", "fan_geo_avg"])
@pytest.mark.parametrize("distribution", ["normal", "truncated_normal", "uniform"])
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_variance_scaling(mode, distribution, dtype):
    init = nn.initializers.variance_scaling(2.0, mode, distribution)
    x = np.asarray(init(random.key(0), (200, 100), dtype))
    fan = {"fan_in": 200, "fan_out": 100, "fan_avg": 150, "fan_geo_avg": 20000**0.5}[mode]
    assert x.dtype == np.dtype(dtype)
    np.testing.assert_allclose(x.var() * fan, 2.0, rtol=0.05)


def test_initializer_errors():
    init = nn.initializers
    assert init.xavier_normal is init.glorot_normal and init.kaiming_uniform is init.he_uniform
    with pytest.raises(ValueError, match="at least 2 axes"):
        init.lecun_normal()(random.key(0), (3,))
    with pytest.raises(ValueError, match="mode"):
        init.variance_scaling(1.0, "fan", "normal")(random.key(0), (3, 3))
    with pytest.raises(ValueError, match="distribution"):
        init.variance_scaling(1.0, "fan_in", "cauchy")(random.key(0), (3, 3))
    with pytest.raises(ValueError, match="2 axes"):
        init.orthogonal()(random.key(0), (3,))
    with pytest.raises(ValueError, match="more inputs"):
        init.delta_orthogonal()(random.key(0), (3, 4, 2))


ELEMENTWISE = """
celu elu gelu hard_sigmoid hard_silu hard_tanh identity leaky_relu log_sigmoid mish relu relu6 selu
sigmoid silu soft_sign softplus sparse_plus sparse_sigmoid squareplus tanh
""".split()
POINTS = np.array(
    [-1000.0, -30.0, -3.0, -1.5, -1.0, -0.3, 0.0, 0.4, 1.0, 2.5, 3.5, 30.0, 1000.0], np.float32
)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_activations_and_their_derivatives_equal_jax(name):
    jax = peer("jax")
    ours, theirs = getattr(nn, name), getattr(jax.nn, name)
    np.testing.assert_allclose(ours(POINTS), theirs(POINTS), rtol=2e-5, atol=1e-6)
    got = bv.vmap(bv.grad(ours))(POINTS)
    want = jax.vmap(jax.grad(theirs))(POINTS)
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(bv.jit(ours)(POINTS), theirs(POINTS), rtol=2e-5, atol=1e-6)
    assert ours(bnp.asarray(POINTS, bnp.bfloat16)).dtype == ml_dtypes.bfloat16
    assert np.isnan(float(ours(float("nan"))))
    assert ours(bnp.zeros((0, 2))).shape == (0, 2)


def test_activations_over_an_axis_equal_jax():
    jax = peer("jax")
    x = np.random.default_rng(0).normal(size=(3, 4, 6)).astype(np.float32) * 5
    mask = np.random.default_rng(1).random(x.shape) < 0.7
    mask[..., 0] = True
    cases = [
        *[("softmax", k) for k in ({}, {"axis": 0}, {"axis": (1, 2)}, {"where": mask})],
        *[("log_softmax", k) for k in ({}, {"axis": 1}, {"where": mask})],
        *[("logsumexp", k) for k in ({}, {"axis": 1}, {"axis": (0, 2), "keepdims": True})],
        *[("logsumexp", {"axis": 2, "where": mask}), ("logmeanexp", {"axis": 1})],
        *[("glu", {}), ("glu", {"axis": 1}), ("gelu", {"approximate": False})],
        *[("standardize", {}), ("standardize", {"axis": 1, "where": mask})],
    ]
    for name, kwargs in cases:

        def squares(f, np_, kwargs=kwargs):
            def total(x):
                y = f(x, **kwargs)
                return (np_.where(np_.isfinite(y), y, 0.0) ** 2).sum()

            return total

        ours, theirs = (
            getattr(nn, name),
            jax.jit(functools.partial(getattr(jax.nn, name), **kwargs)),
        )
        what = f"{name} {kwargs}"
        np.testing.assert_allclose(ours(x, **kwargs), theirs(x), rtol=3e-5, atol=1e-6, err_msg=what)
        got = bv.grad(squares(ours, bnp))(x)
        want = jax.jit(jax.grad(squares(getattr(jax.nn, name), jax.numpy)))(x)
        np.testing.assert_allclose(got, want, rtol=3e-4, atol=1e-5, err_msg=what)
    b = np.array([1.0, -2.0, 0.5, 0.0, 3.0, 1.0], np.float32)
    for ours, theirs in zip(
        nn.logsumexp(x, 2, b=b, return_sign=True),
        jax.nn.logsumexp(x, 2, b=b, return_sign=True),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=3e-5)
    assert float(nn.logsumexp(bnp.array([-np.inf, -np.inf]))) == -np.inf
    assert float(nn.logsumexp(bnp.array([np.inf, 1.0]))) == np.inf
    assert np.isnan(float(nn.logsumexp(bnp.array([1.0, 2.0]), b=bnp.array([1.0, -1.0]))))
    with pytest.raises(ValueError, match="odd"):
        nn.glu(bnp.ones(3))


def test_one_hot():
    np.testing.assert_array_equal(
        nn.one_hot([0, 2, 5, -1], 3), [[1, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]]
    )
    np.testing.assert_array_equal(
        nn.one_hot([[0], [1]], 2, axis=0, dtype=bool)[:, 1, 0], [False, True]
    )
    assert nn.one_hot([[0], [1]], 2, axis=1).shape == (2, 2, 1)
    assert nn.one_hot(bnp.zeros(0, int), 3).shape == (0, 3)
    with pytest.raises(TypeError, match="integers"):
        nn.one_hot([0.5], 2)


# -- layers, against Flax --------------------------------------------------------------------------


def same_weights(ours, theirs, seed=0):
    """Random values into both, by Flax's paths; fails if the parameters have other names or
    shapes.
    """
    nnx = peer("flax.nnx")
    flat = dict(nnx.to_flat_state(nnx.state(theirs, nnx.All(nnx.Variable, nnx.Not(nnx.RngState)))))
    mine = nn.state(ours, nn.Not(nn.RngState)).flat_state()
    assert {p: v[...].shape for p, v in flat.items()} == {p: v.shape for p, v in mine.items()}
    rng = np.random.default_rng(seed)
    for path, v in sorted(flat.items(), key=str):
        x = np.abs(rng.normal(size=v[...].shape)).astype(np.float32)
        v[...] = peer("jax.numpy").asarray(x)
        nn.update(ours, nn.State.from_flat_path({path: bnp.asarray(x)}))
    nnx.update(theirs, nnx.from_flat_state(list(flat.items())))


MASK = np.tril(np.ones((3, 2, 2), np.float32))
BN = {"use_running_average": False}
# Class, arguments, keyword arguments, shape of the input; a cell runs in an RNN with the keywords.
LAYERS = {
    "linear": ("Linear", (3, 5), {}, (4, 3)),
    "linear without bias": ("Linear", (3, 5), {"use_bias": False}, (2, 4, 3)),
    "linear general": ("LinearGeneral", ((2, 3), (4, 5)), {"axis": (1, -1)}, (6, 2, 3)),
    "linear general batched": ("LinearGeneral", (3, 5), {"batch_axis": {0: 4}}, (4, 6, 3)),
    "conv": ("Conv", (2, 4, (3, 3)), {}, (2, 6, 5, 2)),
    "conv stride": ("Conv", (2, 4, (3,), 2), {"padding": "VALID"}, (2, 9, 2)),
    "conv groups": ("Conv", (4, 6, (3,)), {"feature_group_count": 2}, (2, 9, 4)),
    "conv dilation": ("Conv", (2, 4, (3,)), {"kernel_dilation": 2}, (2, 9, 2)),
    "conv input dilation": ("Conv", (2, 4, (3,)), {"padding": 1, "input_dilation": 2}, (2, 9, 2)),
    "conv circular": ("Conv", (2, 4, (4, 3)), {"padding": "CIRCULAR"}, (2, 6, 7, 2)),
    "conv reflect": ("Conv", (2, 4, (3, 3)), {"padding": "REFLECT"}, (2, 6, 7, 2)),
    "conv causal": ("Conv", (2, 4, 3), {"padding": "CAUSAL", "kernel_dilation": 2}, (2, 8, 2)),
    "conv padding": ("Conv", (2, 4, (3, 3)), {"padding": (1, (0, 2))}, (2, 6, 7, 2)),
    "conv no batch": ("Conv", (2, 4, (3,)), {}, (9, 2)),
    "conv batches": ("Conv", (2, 4, (3,)), {}, (2, 3, 9, 2)),
    "conv mask": ("Conv", (2, 2, (3,)), {"mask": MASK}, (2, 9, 2)),
    "layer norm": ("LayerNorm", (5,), {}, (4, 5)),
    "layer norm slow": ("LayerNorm", (5,), {"use_fast_variance": False}, (2, 4, 5)),
    "layer norm axes": ("LayerNorm", (5,), {"reduction_axes": (1, 2)}, (2, 4, 5)),
    "rms norm": ("RMSNorm", (5,), {}, (4, 5)),
    "batch norm": ("BatchNorm", (5,), BN, (4, 3, 5)),
    "batch norm axis": ("BatchNorm", (4,), {**BN, "axis": 0}, (4, 3, 5)),
    "batch norm running": ("BatchNorm", (5,), {"use_running_average": True}, (4, 5)),
    "dropout": ("Dropout", (0.4,), {}, (40, 5)),
    "dropout broadcast": ("Dropout", (0.4,), {"broadcast_dims": (1,)}, (40, 5)),
    "gru": ("GRUCell", (3, 4), {}, (2, 6, 3)),
    "lstm": ("LSTMCell", (3, 4), {"time_major": True}, (6, 2, 3)),
    "optimized lstm": ("OptimizedLSTMCell", (3, 4), {"reverse": True}, (2, 6, 3)),
    "simple": ("SimpleCell", (3, 4), {"reverse": True, "keep_order": True}, (2, 6, 3)),
}


def make(lib, name):
    """The layer of a row, of Bevel or Flax, and the shape of its input."""
    cls, args, kwargs, shape = LAYERS[name]
    rngs = lib.Rngs(params=0, dropout=1)
    if cls.endswith("Cell"):
        return lib.RNN(getattr(lib, cls)(*args, rngs=rngs), **kwargs), shape
    return getattr(lib, cls)(*args, **kwargs, rngs=rngs), shape


@pytest.mark.parametrize("name", LAYERS)
def test_layers_equal_flax(name):
    nnx, jnp = peer("flax.nnx"), peer("jax.numpy")
    (ours, shape), (theirs, _) = make(nn, name), make(nnx, name)
    same_weights(ours, theirs)
    x = np.random.default_rng(5).normal(size=shape).astype(np.float32)
    start = nn.clone(ours)

    want = nnx.jit(lambda m, x: m(x))(theirs, jnp.asarray(x))
    np.testing.assert_allclose(ours(x), want, rtol=3e-5, atol=3e-6)
    stats = nn.state(ours, nn.BatchStat).flat_state()
    for path, v in nnx.to_flat_state(nnx.state(theirs, nnx.BatchStat)):
        np.testing.assert_allclose(stats[path], v[...], rtol=1e-5, atol=1e-6, err_msg=str(path))
    compiled = nn.clone(start)
    np.testing.assert_allclose(bv.jit(lambda m, x: m(x))(compiled, x), want, rtol=3e-5, atol=3e-6)
    if not name.startswith("dropout"):  # its stream has moved on
        check_gradients(start, make(nnx, name)[0], x)


def check_gradients(ours, theirs, x):
    nnx, jax = peer("flax.nnx"), peer("jax")
    same_weights(ours, theirs)
    got = bv.grad(lambda m: (m(x) ** 2).mean())(ours).flat_state()
    want = nnx.jit(nnx.grad(lambda m: (m(jax.numpy.asarray(x)) ** 2).mean()))(theirs)
    for path, v in nnx.to_flat_state(want):
        np.testing.assert_allclose(got[path], v[...], rtol=2e-3, atol=2e-5, err_msg=str(path))


def test_initial_parameters_equal_flax():
    nnx = peer("flax.nnx")
    for name in ("linear", "conv", "gru", "lstm", "linear general"):
        want = _params(nnx, make(nnx, name)[0]).flat_state()
        for path, x in nn.state(make(nn, name)[0], nn.Param).flat_state().items():
            np.testing.assert_allclose(
                x, want[path], rtol=1e-4, atol=1e-5, err_msg=f"{name} {path}"
            )


def test_embed_equals_flax():
    nnx, jnp = peer("flax.nnx"), peer("jax.numpy")
    ours, theirs = nn.Embed(7, 4, rngs=nn.Rngs(0)), nnx.Embed(7, 4, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(ours.embedding, theirs.embedding[...], rtol=1e-5)
    ids = np.array([[0, 6, 3], [-1, 2, 9]])
    np.testing.assert_allclose(ours(ids), theirs(jnp.asarray(ids)), rtol=1e-5)
    x = np.ones((2, 4), np.float32)
    np.testing.assert_allclose(ours.attend(x), theirs.attend(jnp.asarray(x)), rtol=1e-5)
    assert nn.Embed(1, 3, rngs=nn.Rngs(0))(ids).shape == (2, 3, 3)
    with pytest.raises(ValueError, match="integers"):
        ours(x)


@pytest.mark.parametrize("time_major", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", ["GRUCell", "LSTMCell"])
def test_rnn_with_lengths_equals_flax(cell, reverse, time_major):
    nnx, jnp = peer("flax.nnx"), peer("jax.numpy")
    options = dict(return_carry=True, reverse=reverse, keep_order=True, time_major=time_major)
    ours = nn.RNN(getattr(nn, cell)(3, 4, rngs=nn.Rngs(0)), **options)
    theirs = nnx.RNN(getattr(nnx, cell)(3, 4, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(0), **options)
    nn.update(ours, _params(nnx, theirs))
    x = (
        np.random.default_rng(0)
        .normal(size=(5, 2, 3) if time_major else (2, 5, 3))
        .astype(np.float32)
    )
    lengths = np.array([3, 5])
    carry, ys = ours(x, seq_lengths=lengths)
    want_carry, want = theirs(jnp.asarray(x), seq_lengths=jnp.asarray(lengths))
    np.testing.assert_allclose(ys, want, rtol=1e-4, atol=1e-5)
    for a, b in zip(bv.tree.leaves(carry), bv.tree.leaves(want_carry), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def _params(nnx, module):
    return nn.State.from_flat_path(
        {p: np.asarray(v[...]) for p, v in nnx.to_flat_state(nnx.state(module, nnx.Param))}
    )


def test_rnn_by_hand_and_state_inside():
    class Counting(nn.GRUCell):
        def __init__(self, *args, rngs):
            super().__init__(*args, rngs=rngs)
            self.steps = nn.Variable(0)

        def __call__(self, carry, x):
            self.steps += 1
            return super().__call__(carry, x)

    cell = Counting(3, 4, rngs=nn.Rngs(0))
    x = random.normal(random.key(0), (2, 5, 3))
    carry, ys = cell.initialize_carry((2, 3)), []
    for t in range(5):
        carry, y = cell(carry, x[:, t])
        ys.append(y)
    np.testing.assert_allclose(nn.RNN(cell)(x), bnp.stack(ys, 1), rtol=1e-5, atol=1e-6)
    assert int(cell.steps) == 10
    last, _ = nn.RNN(cell, return_carry=True)(x)
    np.testing.assert_allclose(last, carry, rtol=1e-5, atol=1e-6)
    start = cell.initialize_carry((2, 3), nn.Rngs(carry=1), nn.initializers.normal(1.0))
    assert float(abs(start).max()) > 0
    with pytest.raises(ValueError, match="random stream"):
        cell.initialize_carry((2, 3), carry_init=nn.initializers.normal(1.0))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_layers_compute_in_the_dtype_asked_for(dtype):
    x = bnp.ones((2, 4))
    rngs = nn.Rngs(0)
    for layer in (
        nn.Linear(4, 3, dtype=dtype, rngs=rngs),
        nn.LayerNorm(4, dtype=dtype, rngs=rngs),
        nn.RMSNorm(4, dtype=dtype, rngs=rngs),
        nn.BatchNorm(4, dtype=dtype, use_running_average=False, rngs=rngs),
    ):
        assert layer(x).dtype.name == dtype
        assert all(p.dtype == np.float32 for p in bv.tree.leaves(nn.state(layer)))
    assert nn.Linear(4, 3, param_dtype=dtype, rngs=rngs).kernel.dtype.name == dtype
    assert nn.Linear(4, 3, rngs=rngs)(bnp.ones((2, 4), int)).dtype == np.float32
    with pytest.raises(ValueError, match="floating"):
        nn.Linear(4, 3, dtype=int, rngs=rngs)(x)


def test_layers_of_empty_batches():
    rngs = nn.Rngs(0)
    assert nn.Linear(3, 2, rngs=rngs)(bnp.ones((0, 3))).shape == (0, 2)
    assert nn.Conv(1, 2, (3,), rngs=rngs)(bnp.ones((0, 5, 1))).shape == (0, 5, 2)
    assert nn.LayerNorm(3, rngs=rngs)(bnp.ones((0, 3))).shape == (0, 3)
    assert nn.Dropout(0.5, rngs=rngs)(bnp.ones((0, 3))).shape == (0, 3)


def test_layer_errors_name_the_layer_and_the_fix():
    rngs = nn.Rngs(0)
    with pytest.raises(
        ValueError, match=r"Linear: the input of shape \(2, 5\)(?s:.*)3 features(?s:.*)test_nn"
    ):
        nn.Linear(3, 4, rngs=rngs)(bnp.ones((2, 5)))
    with pytest.raises(ValueError, match="LayerNorm"):
        nn.LayerNorm(3, rngs=rngs)(bnp.ones((2, 5)))
    with pytest.raises(ValueError, match="Conv: the input"):
        nn.Conv(3, 4, (3,), rngs=rngs)(bnp.ones((2, 5, 2)))
    with pytest.raises(ValueError, match="padding"):
        nn.Conv(3, 4, (3, 3), padding=[1], rngs=rngs)(bnp.ones((2, 5, 5, 3)))
    with pytest.raises(ValueError, match="use_running_average(?s:.*)model.train"):
        nn.BatchNorm(3, rngs=rngs)(bnp.ones((2, 3)))
    with pytest.raises(ValueError, match="`deterministic` was never set"):
        nn.Dropout(0.5, deterministic=None, rngs=rngs)(bnp.ones(3))
    with pytest.raises(ValueError, match="no random stream(?s:.*)rngs="):
        nn.Dropout(0.5)(bnp.ones(3))
    with pytest.raises(ValueError, match="between 0 and 1"):
        nn.Dropout(1.5)
    with pytest.raises(ValueError, match="groups"):
        nn.Conv(3, 4, (3,), feature_group_count=2, rngs=rngs)
    with pytest.raises(ValueError, match=r"mask of shape \(2, 2\)"):
        nn.Conv(3, 4, (3,), mask=np.ones((2, 2)), rngs=rngs)
    with pytest.raises(TypeError, match="item 1 is a int"):
        nn.Sequential(nn.relu, 3)


def test_dropout_edges():
    x = bnp.ones((2, 3), bnp.bfloat16)
    assert nn.Dropout(0.5, rngs=nn.Rngs(0))(x).dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(nn.Dropout(1.0)(bnp.ones(3)), [0, 0, 0])
    np.testing.assert_array_equal(nn.Dropout(0.0)(bnp.ones(3)), [1, 1, 1])
    drop = nn.Dropout(0.5, deterministic=True)
    np.testing.assert_array_equal(drop(bnp.ones(3)), [1, 1, 1])
    a = drop(bnp.ones(50), deterministic=False, rngs=random.key(0))
    b = drop(bnp.ones(50), deterministic=False, rngs=nn.Rngs(dropout=random.key(0)))
    assert not np.array_equal(a, b) and set(a.tolist()) == {0.0, 2.0}


def test_sequential_passes_tuples_and_dicts():
    model = nn.Sequential(lambda x: (x, 2.0), lambda x, y: {"a": x * y}, lambda a: a + 1)
    assert float(model(3.0)) == 7
    assert nn.Sequential()(5) == 5 and nn.Sequential()() is None


# -- training --------------------------------------------------------------------------------------


def loss_of(model):
    a, b = model(bnp.ones((4, 3)))
    return (a**2).mean() + (b**2).mean()


def test_optimizer_equals_optax_and_compiles_once():
    optax, jax = peer("optax"), peer("jax")
    model = Net(nn.Rngs(0))
    optimizer = nn.Optimizer(model, optim.adamw(1e-2))
    graphdef, params, rest = nn.split(model, nn.Param, ...)

    @bv.jit
    def step(model, optimizer):
        loss, grads = bv.value_and_grad(loss_of)(model)
        optimizer.update(grads)
        return loss, grads

    tx = optax.adamw(1e-2)
    theirs = jax.tree.map(np.asarray, params.to_pure_dict())
    state = tx.init(theirs)
    for _ in range(5):
        _, grads = step(model, optimizer)
        updates, state = tx.update(jax.tree.map(np.asarray, grads.to_pure_dict()), state, theirs)
        theirs = optax.apply_updates(theirs, updates)
    assert step._cache_size() == 1 and int(optimizer.step) == 5
    for (path, got), want in zip(
        nn.state(model, nn.Param).flat_state().items(), jax.tree.leaves(theirs), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6, err_msg=str(path))


def test_optimizer_forms_and_filter():
    model, other = Net(nn.Rngs(0)), Net(nn.Rngs(1))
    head = nn.PathContains("heads")
    optimizer = nn.Optimizer(model, optim.sgd(0.1, momentum=0.9), wrt=head)
    before = nn.state(model)
    optimizer.update(bv.grad(loss_of)(model))
    after = nn.state(model, nn.Param)
    np.testing.assert_array_equal(after.blocks[0].linear.kernel, before.blocks[0].linear.kernel)
    assert float(abs(after.heads.a.kernel - before.heads.a.kernel).max()) > 0
    kept = nn.state(model, nn.Param)
    updates = optimizer.update(other, bv.grad(loss_of)(other))
    assert set(updates.flat_state()) == {p for p in kept.flat_state() if p[0] == "heads"}
    np.testing.assert_array_equal(model.heads["a"].kernel, kept.heads.a.kernel)
    assert (
        "model" in nn.state(optimizer) and nn.state((model, optimizer))[1].step.dtype == np.uint32
    )
    with pytest.raises(ValueError, match=r"heads\.a\.bias.* has none"):
        optimizer.update(nn.State({}))
    with pytest.raises(TypeError, match="not an nn.State"):
        optimizer.update({"w": 1})
    with pytest.raises(TypeError, match=r"\(model, grads\)"):
        optimizer.update()
    with pytest.raises(ValueError, match=r"one of shape \(2,\)"):
        grads = bv.grad(loss_of)(model)
        grads["heads"]["a"]["bias"] = bnp.zeros(2)
        optimizer.update(grads)


def test_extra_arguments_reach_the_transformation():
    model = nn.Linear(2, 1, rngs=nn.Rngs(0))
    optimizer = nn.Optimizer(model, optim.polyak_sgd(max_learning_rate=0.5))
    loss, grads = bv.value_and_grad(lambda m: (m(bnp.ones(2)) ** 2).sum())(model)
    optimizer.update(grads, value=loss)
    assert float((model(bnp.ones(2)) ** 2).sum()) < float(loss)


def test_masked_and_scheduled_optimizer_in_jit():
    model = Net(nn.Rngs(0))
    tx = optim.chain(
        optim.masked(
            optim.add_decayed_weights(0.1), lambda p: bv.tree.map(lambda x: x.ndim > 1, p)
        ),
        optim.adam(optim.warmup_cosine_decay_schedule(0.0, 1e-2, 2, 10)),
    )
    optimizer = nn.Optimizer(model, tx)
    step = bv.jit(lambda m, o: o.update(bv.grad(loss_of)(m)) and None)
    first = float(loss_of(model))
    for _ in range(10):
        step(model, optimizer)
    assert float(loss_of(model)) < first and step._cache_size() == 1


def test_a_parameter_written_inside_grad_is_refused():
    model = nn.Linear(2, 1, rngs=nn.Rngs(0))

    def loss(m):
        m.bias[...] = 1.0
        return m(bnp.ones(2)).sum()

    with pytest.raises(errors.ParamMutationError, match="optimizer.update"):
        bv.grad(loss)(model)


def test_train_state_is_a_pytree():
    s = nn.TrainState.create(apply_fn=len, params={"w": bnp.ones(2)}, tx=optim.adam(0.1))
    leaves, treedef = bv.tree.flatten(s)
    assert len(leaves) == 5 and bv.tree.unflatten(treedef, leaves).apply_fn is len
    grown = bv.jit(lambda s: s.apply_gradients(grads={"w": bnp.ones(2)}))(s)
    assert int(grown.step) == 1 and float(grown.params["w"][0]) == pytest.approx(0.9)
    assert grown.replace(step=7).step == 7
