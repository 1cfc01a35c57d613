"""Pytrees under JAX's longer names (`tree_map` is `bevel.tree.map`), key paths and registration.

>>> from bevel.tree_util import tree_map
>>> tree_map(lambda x: x + 1, {"a": 1, "b": (2, None)})
{'a': 2, 'b': (3, None)}
"""

from bevel.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "bevel.core.tree": [
            "DictKey",
            "FlattenedIndexKey",
            "GetAttrKey",
            "KeyEntry",
            "KeyPath",
            "Partial",
            "PyTreeDef",
            "SequenceKey",
            "all_leaves",
            "flatten_one_level",
            "flatten_one_level_with_keys",
            "is_tree_node",
            "keystr",
            "register_dataclass",
            "register_pytree_node",
            "register_pytree_node_class",
            "register_pytree_with_keys",
            "register_pytree_with_keys_class",
            "register_static",
            "treedef_children",
            "treedef_is_leaf",
            "treedef_tuple",
            "all as tree_all",
            "broadcast as tree_broadcast",
            "flatten as tree_flatten",
            "flatten_with_path as tree_flatten_with_path",
            "leaves as tree_leaves",
            "leaves_with_path as tree_leaves_with_path",
            "map as tree_map",
            "map_with_path as tree_map_with_path",
            "reduce as tree_reduce",
            "reduce_associative as tree_reduce_associative",
            "structure as tree_structure",
            "transpose as tree_transpose",
            "unflatten as tree_unflatten",
        ],
    },
)
