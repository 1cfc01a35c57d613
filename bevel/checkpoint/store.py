"""`save` and `restore`: a pytree of arrays, keys and plain values to a checkpoint and back."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bevel import random
from bevel.checkpoint.files import read_arrays, read_manifest, write
from bevel.core import dtypes, tree
from bevel.core.errors import MissingKeyError
from bevel.core.handle import Handle, KeyTag, wrap
from bevel.core.ref import Cell
from bevel.nn.states import State
from bevel.numpy.convert import enter

_PLAIN = (bool, int, float, complex, str)


def _shown(path: tuple[Any, ...]) -> str:
    return tree.keystr(path, simple=True, separator="/") or "the value itself"


# -- leaves ----------------------------------------------------------------------------------------


def _encode_plain(x: Any) -> Any:
    return [x.real, x.imag] if isinstance(x, complex) else x


def _encode(
    leaf: Any, path: tuple[Any, ...], name: str, arrays: dict[str, np.ndarray]
) -> dict[str, Any]:
    """How a leaf is described in the manifest; its array, if it has one, goes into `arrays`."""
    if isinstance(leaf, Cell) or hasattr(leaf, "__bevel_structure__"):
        raise TypeError(
            f"checkpoint.save: {_shown(path)} is a {type(leaf).__name__}, and objects are not "
            f"saved, only their state.\n"
            "Why: a checkpoint holds arrays; the code makes the object.\n"
            "Write instead: checkpoint.save(path, nn.state(model)) or nn.state((model, "
            "optimizer)), and to load, "
            "nn.update(model, checkpoint.restore(path, nn.state(model)))."
        )
    if type(leaf) in _PLAIN:
        return {"kind": type(leaf).__name__, "value": _encode_plain(leaf)}
    if isinstance(leaf, Handle) and type(leaf._tag) is KeyTag:
        arrays[name] = np.asarray(random.key_data(leaf))
        return {"kind": "key", "array": name, "impl": leaf._tag.impl}
    if isinstance(leaf, Handle | np.ndarray | np.generic) or hasattr(leaf, "__array__"):
        array = np.asarray(leaf)
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        dtypes.as_dtype(array.dtype)
        arrays[name] = array
        return {"kind": "array", "array": name}
    raise TypeError(
        f"checkpoint.save: {_shown(path)} is a {type(leaf).__name__}, which cannot be saved.\n"
        "Why: a checkpoint holds arrays, random keys, numbers, strings and None, in dicts, lists, "
        "tuples and states.\n"
        "Write instead: leave it out, or save what it is made from."
    )


_DECODE: dict[str, Callable[[Any], Any]] = {"complex": lambda v: complex(*v)}


def _decode(entry: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
    kind = entry["kind"]
    if kind == "array":
        return wrap(arrays[entry["array"]])
    if kind == "key":
        return random.wrap_key_data(wrap(arrays[entry["array"]]), impl=entry["impl"])
    return _DECODE.get(kind, lambda v: v)(entry["value"])


# -- the structure of the tree ---------------------------------------------------------------------


def _outline(x: Any, number: Any) -> Any:
    """The structure of a tree as JSON, its leaves numbered in order."""
    pairs, treedef = tree.flatten_with_path(x, is_leaf=lambda y: y is not x)
    if x is None:
        return {"none": None}
    if len(pairs) == 1 and pairs[0][1] is x:
        return next(number)
    children = [_outline(child, number) for _, child in pairs]
    if isinstance(x, list) or type(x) is tuple:
        return {type(x).__name__: children}
    keys = [next(iter(vars(p[0]).values())) for p, _ in pairs]
    unsaved = [k for k in keys if not isinstance(k, str | int) or isinstance(k, bool)]
    if unsaved:
        raise TypeError(
            f"checkpoint.save: the key {unsaved[0]!r} of a dict is neither str nor int; use such "
            f"keys"
        )
    return {
        "state" if isinstance(x, State) else "dict": [
            list(pair) for pair in zip(keys, children, strict=True)
        ]
    }


def _rebuild(outline: Any, leaves: list[Any]) -> Any:
    if isinstance(outline, int):
        return leaves[outline]
    ((kind, inside),) = outline.items()
    if kind == "none":
        return None
    if kind in ("list", "tuple"):
        items = [_rebuild(o, leaves) for o in inside]
        return items if kind == "list" else tuple(items)
    mapping = {k: _rebuild(o, leaves) for k, o in inside}
    return State(mapping) if kind == "state" else mapping


def save(path: str | os.PathLike, tree_: Any, /) -> None:
    """Write a pytree to a directory, whole or not at all.

    A checkpoint that is there already is replaced in one step. Arrays keep dtype and bits; random
    keys, Python numbers, strings and None are kept as such.

    Args:
        path: the directory.
        tree_: a pytree; of a module, its state: `nn.state(model)`.

    Raises:
        TypeError: a leaf is a module or something else that cannot be saved; the message names
            its path.
        FileExistsError: there is something at `path` that is no checkpoint.

    >>> import tempfile, bevel.numpy as bnp
    >>> from bevel import checkpoint
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     checkpoint.save(directory + "/a", {"w": bnp.ones(2), "step": 7})
    ...     checkpoint.restore(directory + "/a")
    {'step': 7, 'w': Array([1., 1.], dtype=float32)}
    """
    pairs = tree.leaves_with_path(tree_)
    arrays: dict[str, np.ndarray] = {}
    leaves = []
    for leaf_path, leaf in pairs:
        name = tree.keystr(leaf_path, simple=True, separator="/") or "value"
        while name in arrays:
            name += "'"
        leaves.append({"path": tree.keystr(leaf_path), **_encode(leaf, leaf_path, name, arrays)})
    outline = _outline(tree_, iter(range(len(pairs))))
    write(Path(path), {"structure": outline, "leaves": leaves}, arrays)


def restore(path: str | os.PathLike, like: Any = None, *, partial: bool = False) -> Any:
    """Read a checkpoint, checking all that is read.

    Args:
        path: the directory.
        like: a pytree of the wanted structure, whose arrays (or `bv.ShapeDtypeStruct`s) give
            shapes and dtypes. Without it, the structure that was saved comes back, of dicts, lists,
            tuples and states.
        partial: the checkpoint may have more than `like`.

    Raises:
        FileNotFoundError: there is no checkpoint.
        CorruptCheckpointError: it is damaged.
        KeyError: something in `like` is not in the checkpoint; the message names its path.
        ValueError: a shape, a dtype or a kind differs, or the checkpoint has more; the message
            names the path.

    >>> import tempfile
    >>> from bevel import checkpoint
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     checkpoint.save(directory + "/a", {"w": bnp.ones(2)})
    ...     checkpoint.restore(directory + "/a", {"w": bnp.zeros(2)})
    {'w': Array([1., 1.], dtype=float32)}
    """
    path = Path(path)
    manifest = read_manifest(path)
    arrays = read_arrays(path, manifest)
    if like is None:
        return _rebuild(manifest["structure"], [_decode(e, arrays) for e in manifest["leaves"]])
    saved = {e["path"]: e for e in manifest["leaves"]}
    pairs, treedef = tree.flatten_with_path(like)
    wanted = [tree.keystr(p) for p, _ in pairs]
    _check_paths(path, [p for p, _ in pairs], wanted, saved, partial)
    leaves = [
        _fit(_decode(saved[key], arrays), leaf, _shown(p))
        for key, (p, leaf) in zip(wanted, pairs, strict=True)
    ]
    return tree.unflatten(treedef, leaves)


def _check_paths(
    path: Path, paths: list[Any], wanted: list[str], saved: dict[str, Any], partial: bool
) -> None:
    missing = [_shown(p) for p, key in zip(paths, wanted, strict=True) if key not in saved]
    extra = sorted(set(saved) - set(wanted))
    if missing:
        more = f"\nIt has, besides those asked for: {', '.join(extra[:8])}." if extra else ""
        raise MissingKeyError(
            f"the checkpoint at {path} has no {', '.join(missing[:8])}.{more}\n"
            "Why: it was saved from another structure (a changed model, another optimizer).\n"
            "Write instead: restore with a `like` of the structure that was saved; "
            "checkpoint.restore(path) shows it."
        )
    if extra and not partial:
        raise ValueError(
            f"the checkpoint at {path} also has {', '.join(extra[:8])}, which `like` does not ask "
            f"for.\n"
            "Write instead: partial=True to read only what `like` has."
        )


def _fit(value: Any, like: Any, path: str) -> Any:
    """A restored value in place of a leaf of `like`."""
    if type(like) in _PLAIN:
        if isinstance(value, Handle) and type(value._tag) is not KeyTag and value.ndim == 0:
            return value.item()
        if isinstance(value, Handle):
            raise _mismatch(
                path, f"an array of shape {value.shape}", f"a Python {type(like).__name__}"
            )
        return value
    if type(value) is str:
        raise _mismatch(path, "a string", "an array")
    shape, dtype = (
        tuple(np.shape(like)) if not hasattr(like, "shape") else tuple(like.shape),
        like.dtype,
    )
    if not isinstance(value, Handle):
        value = enter(value, np.dtype(dtype))
    if tuple(value.shape) != shape:
        raise _mismatch(path, f"an array of shape {tuple(value.shape)}", f"one of shape {shape}")
    if str(value.dtype) != str(dtype):
        raise _mismatch(path, f"{value.dtype} numbers", f"{dtype}")
    return value


def _mismatch(path: str, found: str, wanted: str) -> ValueError:
    return ValueError(
        f"checkpoint.restore: {path}: the checkpoint has {found}, and `like` wants {wanted}.\n"
        "Why: it was saved from a model of other sizes or precision.\n"
        "Write instead: make the model as it was when saved; or restore without `like`, convert, "
        "and nn.update it."
    )
