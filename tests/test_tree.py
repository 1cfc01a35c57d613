"""`bevel.tree` and `bevel.tree_util`: importable modules with the names of JAX's."""

import functools
import subprocess
import sys

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp

TREE = {"b": [1, (2, None)], "a": {"c": 3}, "d": ()}


def test_they_are_modules():
    code = (
        "from bevel.tree_util import tree_map, Partial\n"
        "from bevel.tree import map\n"
        "import bevel.tree, bevel.tree_util, sys\n"
        "assert tree_map is map is bevel.tree.map and bevel.tree_util.tree_leaves([1]) == [1]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    lazy = "import bevel, sys; assert not {'optree', 'bevel.core.tree'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", lazy], check=True)


def test_jax_has_no_more_names():
    pytest.importorskip("jax")
    import jax.tree
    import jax.tree_util

    for theirs, ours in ((jax.tree, bv.tree), (jax.tree_util, bv.tree_util)):
        names = {n for n in dir(theirs) if not n.startswith("_")} - {"default_registry"}
        assert names <= set(dir(ours)), names - set(dir(ours))
        for name in names:
            assert getattr(ours, name) is not None


def test_values_are_jaxs():
    pytest.importorskip("jax")
    from jax import tree_util as theirs

    ours = bv.tree_util
    for t in (ours, theirs):
        assert t.tree_leaves(TREE) == [3, 1, 2]
        assert t.tree_reduce(lambda a, b: a - b, TREE, 10) == 4
        assert t.tree_broadcast({"a": 1, "b": 2, "d": 0}, TREE) == {
            "a": {"c": 1},
            "b": [2, (2, None)],
            "d": (),
        }
        assert t.tree_reduce_associative(lambda a, b: f"({a}{b})", list("abcde")) == "((ab)(c(de)))"
        assert t.tree_reduce_associative(max, (), identity=7) == 7
        assert t.all_leaves([1, 2.0]) and not t.all_leaves([TREE])
        assert t.is_tree_node(dict) and not t.is_tree_node(np.ndarray)
        assert list(t.flatten_one_level([1, [2]])[0]) == [1, [2]]
        pairs = t.flatten_one_level_with_keys({"x": [1], "y": 2})[0]
        assert [(k.key, v) for k, v in pairs] == [("x", [1]), ("y", 2)]
        structures = [t.tree_structure(v) for v in ([0], TREE)]
        both = t.treedef_tuple(structures)
        assert both == t.tree_structure(([0], TREE)) and t.treedef_children(both) == structures
        assert t.treedef_is_leaf(t.tree_structure(1)) and not t.treedef_is_leaf(both)
        for bad in (
            lambda t=t: t.tree_reduce_associative(max, ()),
            lambda t=t: t.flatten_one_level(1),
        ):
            with pytest.raises((TypeError, ValueError)):
                bad()


def test_partial_goes_through_transforms():
    line = bv.tree_util.Partial(lambda a, x, b=0.0: a * x + b, bnp.float32(3), b=bnp.float32(1))
    assert float(bv.jit(lambda f, x: f(x))(line, 2.0)) == 7
    slopes = bv.grad(lambda f: f(2.0))(line)
    assert float(slopes.args[0]) == 2 and float(slopes.keywords["b"]) == 1
    assert len(bv.tree.leaves(line)) == 2
    assert [bv.tree_util.keystr(p) for p, _ in bv.tree.leaves_with_path(line)] == [
        ".args[0]",
        ".keywords['b']",
    ]
    inner = functools.partial(lambda s, x: f"{s}{x}", "text")
    outer = bv.tree_util.Partial(inner, bnp.ones(2))
    assert len(bv.tree.leaves(outer)) == 1 and outer().startswith("text[")
    assert bv.tree.structure(outer) == bv.tree.structure(bv.tree_util.Partial(inner, 5))


def test_registration():
    import dataclasses

    @bv.tree_util.register_dataclass
    @dataclasses.dataclass
    class Layer:
        w: int
        name: str = bv.tree.static(default="n", metadata={"unit": "m"})

    assert bv.tree.leaves(Layer(3)) == [3] and bv.tree.map(lambda v: v + 1, Layer(3)) == Layer(4)
    assert dataclasses.fields(Layer)[1].metadata == {"unit": "m", "static": True}
