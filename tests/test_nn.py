"""Modules, variables, state, random streams, training; Flax is the oracle where installed."""

import copy
import gc
import operator
import pickle
import weakref

import ml_dtypes
import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import lax, nn, optim, random
from bevel.core import errors
from bevel.nn import structure
from tests.peers import peer


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
    path, _ = bv.tree.leaves_with_path(s)[0]
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
    m.listed = [nn.Cache(1.0), nn.Param(2.0), nn.Cache(3.0)]
    assert nn.pop(m, nn.Cache).flat_state().keys() == {("listed", 0), ("listed", 2)}
    assert len(m.listed) == 1 and type(m.listed[0]) is nn.Param
    m.fixed = (nn.Cache(1.0),)
    with pytest.raises(ValueError, match=r"fixed\[0\] stands in a tuple"):
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
    with pytest.raises(
        ValueError, match=r"for bias has the shape \(3, 4\), and the Linear's has \(4,\)"
    ):
        nn.update(layer, models)
    assert layer.kernel.shape == (2, 4)
    layer = nn.merge(nn.split(layer)[0], models)
    x = bnp.ones((5, 2))
    ys = bv.vmap(lambda m, x: m(x), in_axes=(0, None))(layer, x)
    for i in range(3):
        np.testing.assert_allclose(ys[i], x @ models.kernel[i] + models.bias[i], rtol=1e-5)


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
