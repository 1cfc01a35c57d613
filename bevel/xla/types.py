"""How dtypes, shapes and numbers are spelled in StableHLO text.

Every number is printed so that it parses back to the same bits: finite floats by their exact
decimal value, NaN and infinities by bit pattern, whole arrays by their bytes.
"""

import functools
import math

import ml_dtypes
import numpy as np

_FLOAT8 = {
    "float8_e3m4": "f8E3M4",
    "float8_e4m3": "f8E4M3",
    "float8_e4m3b11fnuz": "f8E4M3B11FNUZ",
    "float8_e4m3fn": "f8E4M3FN",
    "float8_e4m3fnuz": "f8E4M3FNUZ",
    "float8_e5m2": "f8E5M2",
    "float8_e5m2fnuz": "f8E5M2FNUZ",
    "float8_e8m0fnu": "f8E8M0FNU",
    "float4_e2m1fn": "f4E2M1FN",
}

DTYPE_NAMES: dict[np.dtype, str] = {
    np.dtype(bool): "i1",
    np.dtype(np.float16): "f16",
    np.dtype(ml_dtypes.bfloat16): "bf16",
    np.dtype(np.float32): "f32",
    np.dtype(np.float64): "f64",
    np.dtype(np.complex64): "complex<f32>",
    np.dtype(np.complex128): "complex<f64>",
    **{np.dtype(f"{s}int{n}"): f"{s}i{n}" for s in ("", "u") for n in (8, 16, 32, 64)},
    **{np.dtype(getattr(ml_dtypes, f"{s}int{n}")): f"{s}i{n}" for s in ("", "u") for n in (2, 4)},
    **{np.dtype(getattr(ml_dtypes, k)): v for k, v in _FLOAT8.items()},
}

_PREDICATE = np.dtype(bool)
_SUB_BYTE = {
    dtype for dtype, name in DTYPE_NAMES.items() if name in ("i2", "i4", "ui2", "ui4", "f4E2M1FN")
}


@functools.cache
def kind(dtype: np.dtype) -> str:
    """Return ``"i1"``, ``"i"``, ``"ui"``, ``"f"`` or ``"complex"`` for a dtype, ml_dtypes included.

    >>> import numpy as np
    >>> kind(np.dtype(np.uint8)), kind(np.dtype(np.float16)), kind(np.dtype(bool))
    ('ui', 'f', 'i1')
    """
    name = dtype_name(dtype).removeprefix("b")
    return (
        "i1" if name == "i1" else next(k for k in ("complex", "ui", "i", "f") if name.startswith(k))
    )


@functools.cache
def dtype_name(dtype: np.dtype) -> str:
    """Return the MLIR name of a dtype; TypeError for one that XLA does not have.

    >>> import numpy as np
    >>> dtype_name(np.dtype(np.complex64))
    'complex<f32>'
    """
    name = DTYPE_NAMES.get(np.dtype(dtype))
    if name is None:
        known = ", ".join(str(d) for d in DTYPE_NAMES)
        raise TypeError(
            f"XLA has no dtype {dtype}; convert the array first, with .astype(one of: {known})"
        )
    return name


def tensor(shape: tuple[int, ...], dtype: np.dtype) -> str:
    """Return the MLIR tensor type of a shape and dtype.

    >>> import numpy as np
    >>> tensor((2, 3), np.dtype(np.float32)), tensor((), np.dtype(bool))
    ('tensor<2x3xf32>', 'tensor<i1>')
    """
    return f"tensor<{''.join(f'{d}x' for d in shape)}{dtype_name(dtype)}>"


def integers(values) -> str:
    """Return an ``array<i64: ...>`` attribute.

    >>> integers((1, 2)), integers(())
    ('array<i64: 1, 2>', 'array<i64>')
    """
    return f"array<i64: {', '.join(map(str, values))}>" if len(values) else "array<i64>"


def _real(value, dtype: np.dtype) -> str:
    x = float(value)
    if math.isfinite(x):
        text = repr(x)
        return text if "." in text else text.replace("e", ".0e")
    bits = np.asarray(value, dtype).tobytes()[::-1].hex().upper()
    return f"0x{bits}"


def scalar(value, dtype: np.dtype) -> str:
    """Return the text of one number of ``dtype`` as it stands inside ``dense<...>``.

    >>> import numpy as np
    >>> scalar(1e-5, np.dtype(np.float64)), scalar(np.inf, np.dtype(np.float32))
    ('1.0e-05', '0x7F800000')
    """
    what = kind(dtype)
    if what == "i1":
        return "true" if value else "false"
    if what == "complex":
        part = np.dtype(np.float32 if dtype == np.complex64 else np.float64)
        x = np.asarray(value, dtype)
        return f"({_real(x.real, part)}, {_real(x.imag, part)})"
    if what == "f":
        return _real(np.asarray(value, dtype), dtype)
    return str(int(value))


def storage_dtype(dtype: np.dtype) -> np.dtype | None:
    """Return the dtype as which an array of `dtype` must be written, or None for its own.

    Bools and 2- and 4-bit numbers are packed differently by different MLIR versions.
    """
    if dtype == _PREDICATE:
        return np.dtype(np.uint8)
    if dtype not in _SUB_BYTE:
        return None
    what = kind(dtype)
    return np.dtype(np.float32 if what == "f" else np.uint8 if what == "ui" else np.int8)


def dense(array: np.ndarray) -> str:
    """Return the ``dense<...>`` attribute (without its type) of a byte-sized array.

    >>> import numpy as np
    >>> dense(np.array([1, 2], np.uint8)), dense(np.array(2.5)), dense(np.zeros((0, 3)))
    ('dense<"0x0102">', 'dense<2.5>', 'dense<>')
    """
    if array.size == 0:
        return "dense<>"
    if array.size == 1:
        return f"dense<{scalar(array.reshape(())[()], array.dtype)}>"
    return f'dense<"0x{np.ascontiguousarray(array).tobytes().hex().upper()}">'
