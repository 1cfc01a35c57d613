"""Names and signatures of `bevel.nn` against flax.nnx and jax.nn; the table of what is missing."""

import inspect
import pathlib
import re
import warnings

import pytest

from bevel import nn
from tests.peers import peer

TABLE = (pathlib.Path(__file__).parent.parent / "docs" / "missing-nn.md").read_text()
MISSING = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", TABLE, re.M))


def public(module):
    """The names a module offers, without its submodules."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = [n for n in dir(module) if not n.startswith("_")]
        return {n for n in names if not inspect.ismodule(getattr(module, n))}


PEERS = ("flax.nnx", "jax.nn")


@pytest.mark.parametrize("name", PEERS)
def test_every_name_is_there_or_in_the_table(name):
    theirs = public(peer(name))
    assert len(theirs) > 30
    lacking = sorted(n for n in theirs if not hasattr(nn, n) and n not in MISSING)
    assert not lacking, f"neither in bevel.nn nor in docs/missing-nn.md: {lacking}"


def test_the_table_is_true():
    there = sorted(n for n in MISSING if hasattr(nn, n))
    assert not there, f"listed as missing, but bevel.nn has them: {there}"
    known = set().union(*(public(peer(name)) for name in PEERS))
    assert set(MISSING) <= known, f"no such names: {sorted(set(MISSING) - known)}"
    assert all(len(reason) > 8 for reason in MISSING.values())


def test_submodules():
    nnx = peer("flax.nnx")
    makers = {
        n for n in public(nnx.initializers) if inspect.isfunction(getattr(nnx.initializers, n))
    }
    assert len(makers) > 15 and makers <= set(dir(nn.initializers))
    own = {
        n
        for n in public(nnx.metrics)
        if getattr(nnx.metrics, n).__module__ == "flax.nnx.training.metrics"
    }
    assert own <= set(dir(nn.metrics))


def test_names_of_the_package_are_whole():
    for name in nn.__all__:
        assert getattr(nn, name) is not None
        assert not name.startswith("_")


# -- signatures ------------------------------------------------------------------------------------

LAYERS = """
    BatchNorm Bidirectional Conv ConvTranspose Dropout EMA Einsum Embed GRUCell GroupNorm
    InstanceNorm LSTMCell LayerNorm Linear LinearGeneral LoRA LoRALinear MultiHeadAttention
    OptimizedLSTMCell Optimizer PReLU RMSNorm RNN RngStream Rngs Sequential SimpleCell
    SpectralNorm WeightNorm
    MultiMetric DiffState StateAxes
""".split()
# Flax's mode, what it has deprecated, and what it takes without using it.
LEFT_OUT = {
    *("graph", "graph_updates", "dot_general_cls", "qkv_dot_general_cls", "out_dot_general_cls"),
    *("out_sharding", "qkv_sharding", "state_axes", "broadcast_rngs", "rngs_collection"),
}
LEFT_OUT_OF = {
    **dict.fromkeys(
        ("GRUCell", "LSTMCell", "OptimizedLSTMCell", "SimpleCell"), {"carry_init", "keep_rngs"}
    ),
    "WeightNorm": {"promote_dtype"},
    "Bidirectional()": {"reverse", "keep_order"},
    "LayerNorm()": set(),
}
OTHER_DEFAULT = {("BatchNorm", "use_running_average"), ("Bidirectional", "rngs"), ("RNN", "rngs")}
FUNCTIONS = """
    avg_pool combine_masks dot_product_attention make_attention_mask make_causal_mask max_pool
    min_pool pool filter_state find_duplicates fork_rngs iter_graph map_state merge_state
    recursive_map replace_by_pure_dict reseed restore_int_paths restore_rngs scan set_metadata
    split_rngs split_state to_flat_state to_pure_dict variable_type_from_name with_attributes
""".split()
NOT_USED = {"scan": {"_split_transpose", "transform_metadata"}, "merge_state": {"cls"}}


def parameters(f):
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {k: p for k, p in inspect.signature(f).parameters.items() if p.kind not in kinds}


def by_place(found):
    places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [k for k, p in found.items() if p.kind in places]


def check(label, ours, theirs, left_out=frozenset()):
    ours, theirs = parameters(ours), parameters(theirs)
    theirs = {k: p for k, p in theirs.items() if k not in LEFT_OUT | left_out}
    assert set(theirs) <= set(ours), f"{label} lacks {sorted(set(theirs) - set(ours))}"
    order = by_place(theirs)
    assert by_place(ours)[: len(order)] == order, f"{label} has another order of arguments"
    for name, p in theirs.items():
        plain = isinstance(p.default, bool | int | float | str)  # None stands for another default
        if plain and (label, name) not in OTHER_DEFAULT:
            assert ours[name].default == p.default, f"{label}: {name} has another default"


@pytest.mark.parametrize("name", LAYERS)
def test_constructors_and_calls_have_the_arguments_of_flax(name):
    ours, theirs = getattr(nn, name), getattr(peer("flax.nnx"), name)
    check(name, ours.__init__, theirs.__init__, LEFT_OUT_OF.get(name, frozenset()))
    if "__call__" in vars(theirs):
        check(name + "()", ours.__call__, theirs.__call__, LEFT_OUT_OF.get(name + "()", set()))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_have_the_arguments_of_flax(name):
    ours, theirs = getattr(nn, name), getattr(peer("flax.nnx"), name)
    check(name, ours, theirs, NOT_USED.get(name, frozenset()))


def test_functions_have_the_arguments_of_jax():
    theirs = peer("jax.nn")
    for name in sorted(public(theirs) & set(nn.__all__)):
        if (
            inspect.isfunction(inspect.unwrap(getattr(theirs, name)))
            and name != "dot_product_attention"
        ):
            check(name, getattr(nn, name), getattr(theirs, name))
    assert set(parameters(theirs.dot_product_attention)) <= set(
        parameters(nn.dot_product_attention)
    )


def test_streams_draw():
    nnx, rngs = peer("flax.nnx"), nn.Rngs(0, noise=1)
    theirs = nnx.Rngs(0, noise=1)
    methods = {n for n in vars(nnx.RngStream) if not n.startswith("_")}
    assert methods <= set(dir(nn.RngStream)) and methods <= set(dir(nn.Rngs))
    for ours, want in ((rngs, theirs), (rngs.noise, theirs.noise)):
        for draw in (
            lambda r: r.normal((2, 3)),
            lambda r: r.randint((4,), 0, 9),
            lambda r: r.lecun_normal()((2, 3)),
        ):
            a, b = draw(ours), draw(want)
            assert a.shape == b.shape and abs(a - b).max() < 1e-5
    assert rngs.broadcast(3).default.key.shape == (3,)
    assert rngs.broadcast({"noise": (2, 2), ...: None}).noise.key.shape == (2, 2)
