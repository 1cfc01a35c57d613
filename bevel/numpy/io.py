"""Arrays in files, in NumPy's formats `.npy` and `.npz`; extension dtypes (bfloat16, float8)
included.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from bevel.core import dtypes
from bevel.core.errors import MissingKeyError
from bevel.core.handle import Handle, KeyTag, wrap
from bevel.core.interpreter import Tracer
from bevel.numpy.arguments import contents
from bevel.numpy.convert import enter

# NumPy writes extension dtypes as raw bytes and forgets which they were; their names go beside.
_SUFFIX = ".bevel_dtype"


def _refused(name: str, x: Any, why: str) -> TypeError:
    return TypeError(
        f"{name}: cannot write a {type(x).__name__}.\n"
        f"Why: {why}.\n"
        "Write instead: bv.checkpoint.save(path, nn.state(model)) for a model, an optimizer or "
        "any tree of "
        "arrays; bnp.savez(path, a=x, b=y) for several arrays."
    )


def _array(name: str, x: Any) -> np.ndarray:
    """The contents of an array or a number; anything else is refused."""
    if isinstance(x, Handle) and type(x._tag) is KeyTag:
        raise _refused(name, x, "a random key is no number; its words are random.key_data(key)")
    try:
        value = enter(x)._v
    except (TypeError, ValueError) as e:
        raise _refused(name, x, "the file holds one array of numbers") from e
    if isinstance(value, Tracer):
        contents(
            name,
            value,
            "a compiled program cannot write files",
            "return the array and save it outside",
        )
    return contents(name, value, "", "")


def _packed(array: np.ndarray) -> np.ndarray:
    """An array NumPy can write: extension dtypes as unsigned integers of their width."""
    return array if array.dtype.kind != "V" else array.view(f"u{array.dtype.itemsize}")


def save(file: Any, arr: Any) -> None:
    """Write one array to a `.npy` file; the suffix is added if the name has none.

    Raises:
        TypeError: `arr` is no array: a model, a state, a dict.

    >>> import io
    >>> f = io.BytesIO()
    >>> bnp.save(f, bnp.arange(3))
    >>> _ = f.seek(0)
    >>> bnp.load(f)
    Array([0, 1, 2], dtype=int32)
    """
    array = _array("save", arr)
    if array.dtype.kind == "V":
        raise TypeError(
            f"save: the .npy format has no {array.dtype.name}.\n"
            "Write instead: bnp.savez(path, x=x), which keeps it, or bnp.save(path, "
            "x.astype(bnp.float32))."
        )
    np.save(file, array, allow_pickle=False)


def savez(file: Any, *args: Any, **kwds: Any) -> None:
    """Write several arrays to a `.npz` file, by their keywords, or as arr_0, arr_1, ...

    >>> import io
    >>> f = io.BytesIO()
    >>> bnp.savez(f, a=bnp.ones(2), b=bnp.zeros(1))
    >>> _ = f.seek(0)
    >>> sorted(bnp.load(f))
    ['a', 'b']
    """
    _savez(np.savez, "savez", file, args, kwds)


def savez_compressed(file: Any, *args: Any, **kwds: Any) -> None:
    """`savez`, compressed.

    >>> import io
    >>> bnp.savez_compressed(io.BytesIO(), a=bnp.ones(2))
    """
    _savez(np.savez_compressed, "savez_compressed", file, args, kwds)


def _savez(write: Any, name: str, file: Any, args: tuple, kwds: dict[str, Any]) -> None:
    named = {f"arr_{i}": x for i, x in enumerate(args)}
    if both := named.keys() & kwds.keys():
        raise ValueError(
            f"{name}: {sorted(both)[0]!r} names a positional array too; use another keyword"
        )
    arrays: dict[str, np.ndarray] = {}
    for key, x in {**named, **kwds}.items():
        array = _array(name, x)
        arrays[key] = _packed(array)
        if array.dtype.kind == "V":
            arrays[key + _SUFFIX] = np.asarray(array.dtype.name)
    write(file, **arrays)


class NpzFile(Mapping):
    """The arrays of a `.npz` file by name, read when they are asked for."""

    def __init__(self, file: Any):
        self._file = file
        self.files = [k for k in file.files if not k.endswith(_SUFFIX)]

    def __getitem__(self, key: str) -> Any:
        if key not in self.files:
            raise MissingKeyError(f"{key!r} is not in the file; it has {', '.join(self.files)}")
        array = self._file[key]
        if key + _SUFFIX in self._file.files:
            array = array.view(dtypes.as_dtype(str(self._file[key + _SUFFIX])))
        return wrap(array)

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> NpzFile:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"NpzFile({', '.join(self.files)})"


def load(file: Any, *args: Any, **kwargs: Any) -> Any:
    """The array in a `.npy` file, or a mapping of those in a `.npz` file, at the dtypes they were
    written with.

    `file` is a path or an open binary file; other arguments are those of `numpy.load`.

    >>> import io
    >>> f = io.BytesIO()
    >>> bnp.savez(f, a=bnp.ones(2, bnp.bfloat16))
    >>> _ = f.seek(0)
    >>> bnp.load(f)["a"]
    Array([1, 1], dtype=bfloat16)
    """
    found = np.load(os.fspath(file) if isinstance(file, os.PathLike) else file, *args, **kwargs)
    if isinstance(found, np.lib.npyio.NpzFile):
        return NpzFile(found)
    return enter(found, dtypes.as_dtype(found.dtype))


def fromfile(file: Any, dtype: Any = float, count: int = -1, sep: str = "", offset: int = 0) -> Any:
    """The numbers in a file of raw memory or (with `sep`) of text.

    >>> import tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "x")
    >>> np.arange(3, dtype=np.float32).tofile(path)
    >>> bnp.fromfile(path)
    Array([0., 1., 2.], dtype=float32)
    """
    dtype = dtypes.as_dtype(dtype)
    return enter(np.fromfile(file, dtype, count, sep, offset=offset), dtype)


def fromstring(string: str, dtype: Any = float, count: int = -1, *, sep: str) -> Any:
    """The numbers in a text, between separators.

    >>> bnp.fromstring("1 2 3", sep=" ")
    Array([1., 2., 3.], dtype=float32)
    """
    dtype = dtypes.as_dtype(dtype)
    return enter(np.fromstring(string, dtype, count, sep=sep), dtype)
