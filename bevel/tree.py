"""Pytrees, nested containers of leaves: `map`, `flatten`, `leaves`, `reduce`, ...

>>> from bevel.tree import map
>>> map(lambda x: x + 1, {"a": 1, "b": (2, None)})
{'a': 2, 'b': (3, None)}

`bevel.tree_util` has what registers classes and names key paths.
"""

from bevel.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "bevel.core.tree": [
            "all",
            "broadcast",
            "flatten",
            "flatten_with_path",
            "leaves",
            "leaves_with_path",
            "map",
            "map_with_path",
            "reduce",
            "reduce_associative",
            "static",
            "structure",
            "transpose",
            "unflatten",
        ],
    },
)
