"""Dtypes, their default precision and the promotion lattice.

A dtype is a `numpy.dtype`; the extension types are those of `ml_dtypes`. Python scalars are *weak*:
they take the dtype of what they meet. The lattice is JAX's (published in its type-promotion note),
so an int meeting a float stays at the float's precision, and 64 bits appear only when asked for.
"""

from __future__ import annotations

import functools

import ml_dtypes
import numpy as np

bool_ = np.dtype(np.bool_)
int8, int16, int32, int64 = (np.dtype(f"int{n}") for n in (8, 16, 32, 64))
uint8, uint16, uint32, uint64 = (np.dtype(f"uint{n}") for n in (8, 16, 32, 64))
float16, float32, float64 = (np.dtype(f"float{n}") for n in (16, 32, 64))
bfloat16 = np.dtype(ml_dtypes.bfloat16)
complex64, complex128 = np.dtype(np.complex64), np.dtype(np.complex128)
FLOAT8_NAMES = (
    "float8_e3m4",
    "float8_e4m3",
    "float8_e4m3b11fnuz",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
)
# ml_dtypes has the 1-bit integers from 0.6 on.
SMALL_NAMES = tuple(
    name
    for name in (
        *("float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn"),
        *("int1", "int2", "int4", "uint1", "uint2", "uint4"),
    )
    if hasattr(ml_dtypes, name)
)
FLOAT8 = tuple(np.dtype(getattr(ml_dtypes, name)) for name in FLOAT8_NAMES)
STORAGE = FLOAT8 + tuple(np.dtype(getattr(ml_dtypes, name)) for name in SMALL_NAMES)
"""Dtypes to keep numbers in and to move, index and compare them; there is no arithmetic in them."""

BOOL = (bool_,)
SIGNED = (int8, int16, int32, int64)
UNSIGNED = (uint8, uint16, uint32, uint64)
INT = SIGNED + UNSIGNED
FLOAT = (float16, bfloat16, float32, float64)
COMPLEX = (complex64, complex128)
NUMBER = INT + FLOAT + COMPLEX
ALL = BOOL + NUMBER

_KIND: dict[np.dtype, str] = {
    **dict.fromkeys(BOOL, "b"),
    **dict.fromkeys(SIGNED, "i"),
    **dict.fromkeys(UNSIGNED, "u"),
    **dict.fromkeys(FLOAT, "f"),
    **dict.fromkeys(COMPLEX, "c"),
    **{d: d.name[0] for d in STORAGE},
}


def kind(dtype: np.dtype) -> str:
    """One of b, i, u, f, c; unlike `dtype.kind` it knows bfloat16 and the storage dtypes.

    >>> kind(bfloat16)
    'f'
    """
    try:
        return _KIND[dtype]
    except KeyError:
        raise TypeError(
            f"dtype {dtype} is not an array dtype: use bool, int8-64, uint8-64, float8-64, "
            "bfloat16 or complex64/128"
        ) from None


def is_float(dtype: np.dtype) -> bool:
    """Tell whether a dtype is real floating."""
    return _KIND.get(dtype) == "f"


def is_complex(dtype: np.dtype) -> bool:
    """Tell whether a dtype is complex."""
    return _KIND.get(dtype) == "c"


def is_integer(dtype: np.dtype) -> bool:
    """Tell whether a dtype is a signed or unsigned integer."""
    return _KIND.get(dtype) in ("i", "u")


def is_inexact(dtype: np.dtype) -> bool:
    """Floating or complex: the dtypes that carry derivatives."""
    return _KIND.get(dtype) in ("f", "c")


def real_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype of the real part."""
    return {complex64: float32, complex128: float64}.get(dtype, dtype)


def complex_dtype(dtype: np.dtype) -> np.dtype:
    """The complex dtype of the same precision."""
    return complex128 if dtype in (float64, complex128) else complex64


_NARROW = {int64: int32, uint64: uint32, float64: float32, complex128: complex64}
_PYTHON = {bool: bool_, int: int32, float: float32, complex: complex64}
_BY_NAME = {d.name: d for d in ALL + STORAGE} | {"bool_": bool_}
_BY_NAME |= {t.__name__: d for t, d in _PYTHON.items()}


def default_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype that data of this dtype enters at when none is named (64 bits become 32)."""
    return _NARROW.get(dtype, dtype)


def as_dtype(dtype) -> np.dtype:
    """A `numpy.dtype` from anything that names one; Python's types mean the default precision.

    >>> as_dtype(float), as_dtype("bfloat16")
    (dtype('float32'), dtype(bfloat16))
    """
    if isinstance(dtype, np.dtype):
        result = dtype
    elif isinstance(dtype, str):
        result = _BY_NAME.get(dtype) or np.dtype(dtype)
    elif isinstance(dtype, type):
        result = _PYTHON.get(dtype) or np.dtype(dtype)
    else:
        result = np.dtype(getattr(dtype, "dtype", dtype))
    if result not in _KIND:
        kind(result)
    return result


def python_scalar_dtype(x) -> np.dtype | None:
    """Default dtype of a Python scalar, or None when `x` is not one."""
    return _PYTHON.get(type(x))


# Edges of the lattice, from lower to higher. "i*", "f*", "c*" are the weak types.
_EDGES: dict = {
    bool_: ["i*"],
    "i*": [uint8, int8, *[d for d in STORAGE if _KIND[d] in "iu"]],
    uint8: [int16, uint16],
    uint16: [int32, uint32],
    uint32: [int64, uint64],
    uint64: ["f*"],
    int8: [int16],
    int16: [int32],
    int32: [int64],
    int64: ["f*"],
    "f*": [*[d for d in STORAGE if _KIND[d] == "f"], bfloat16, float16, "c*"],
    bfloat16: [float32],
    float16: [float32],
    float32: [float64, complex64],
    float64: [complex128],
    "c*": [complex64],
    complex64: [complex128],
    complex128: [],
    **{d: [] for d in STORAGE},
}


@functools.cache
def _above(node) -> frozenset:
    out = {node}
    for n in _EDGES[node]:
        out |= _above(n)
    return frozenset(out)


def _node(dtype: np.dtype, weak: bool):
    if not weak:
        return dtype
    k = kind(dtype)
    return {"b": bool_, "i": "i*", "u": "i*", "f": "f*", "c": "c*"}[k]


_WEAK_DTYPE = {"i*": int32, "f*": float32, "c*": complex64}


@functools.cache
def _join(a, b):
    bounds = _above(a) & _above(b)
    least = [n for n in bounds if bounds <= _above(n)]
    if len(least) != 1:
        raise TypeError(
            f"{a} and {b} have no implicit promotion: convert one of them, for example "
            f"x.astype({str(b)!r})"
        )
    return least[0]


@functools.cache
def promote(a: np.dtype, a_weak: bool, b: np.dtype, b_weak: bool) -> tuple[np.dtype, bool]:
    """Result dtype and weakness of two operands."""
    if a == b:
        return a, a_weak and b_weak
    node = _join(_node(a, a_weak), _node(b, b_weak))
    if not isinstance(node, str):
        # int32 with uint32 would need 64 bits, which neither of them asked for.
        asked = node in (a, b) or any(d in _NARROW for d in (a, b))
        return (node if asked else default_dtype(node)), False
    if not (a_weak and b_weak):
        # int64 with uint64, or bool with a weak int: the weak node keeps the widest operand of its
        # kind.
        strong = [d for d, w in ((a, a_weak), (b, b_weak)) if not w and kind(d) != "b"]
        if node == "f*" and strong:
            return float32, True
    widest = [d for d in (a, b) if _node(d, True) == node]
    return (max(widest, key=lambda d: d.itemsize) if widest else _WEAK_DTYPE[node]), True


def promote_types(a, b) -> np.dtype:
    """The dtype two dtypes promote to.

    >>> promote_types("int32", "bfloat16")
    dtype(bfloat16)
    >>> promote_types("float32", "float64")
    dtype('float64')
    """
    return promote(as_dtype(a), False, as_dtype(b), False)[0]


def finfo(dtype):
    """Limits of a floating dtype, as `numpy.finfo`, for the extension types too.

    >>> float(finfo("bfloat16").eps)
    0.0078125
    """
    dtype = as_dtype(dtype)
    return (
        np.finfo(dtype)
        if dtype in (float16, float32, float64, *COMPLEX)
        else ml_dtypes.finfo(dtype)
    )


def iinfo(dtype):
    """Limits of an integer dtype, as `numpy.iinfo`, for the extension types too.

    >>> iinfo("int8").max
    127
    """
    dtype = as_dtype(dtype)
    return np.iinfo(dtype) if dtype.isbuiltin == 1 else ml_dtypes.iinfo(dtype)
