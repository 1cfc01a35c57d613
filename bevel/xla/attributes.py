"""The attributes of StableHLO operations, as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import ml_dtypes
import numpy as np

from bevel.xla.types import kind, scalar

_ALGEBRA = {
    "add": "add",
    "mul": "multiply",
    "max": "maximum",
    "min": "minimum",
    "and": "and",
    "or": "or",
    "xor": "xor",
}
REAL_OF = {
    np.dtype(np.complex64): np.dtype(np.float32),
    np.dtype(np.complex128): np.dtype(np.float64),
}
COMPLEX_OF = {real: cplx for cplx, real in REAL_OF.items()}


def identity(how: str, dtype: np.dtype):
    """Return the number that leaves others unchanged under add, mul, max, min, and, or, xor.

    >>> import numpy as np
    >>> identity("max", np.dtype(np.int8)), identity("min", np.dtype(np.float32))
    (-128, inf)
    """
    what = kind(dtype)
    if how in ("add", "or", "xor"):
        return 0
    if how == "mul":
        return 1
    if what == "i1":
        return how != "max"
    if how == "and":
        return -1 if what == "i" else int(ml_dtypes.iinfo(dtype).max)
    if what == "f":
        top = (
            np.inf
            if dtype.itemsize > 1 or "e5m2" in dtype.name
            else float(ml_dtypes.finfo(dtype).max)
        )
        return -top if how == "max" else top
    info = ml_dtypes.iinfo(dtype)
    return int(info.min) if how == "max" else int(info.max)


def reducer(how: str | Callable) -> Callable:
    """Return a two-argument reducer: `how` itself, or the one that a kind names."""
    if callable(how):
        return how
    return lambda b, x, y: b.op(_ALGEBRA[how], x, y, out=x.aval)


def boolean(flag: bool) -> str:
    """Return ``true`` or ``false``."""
    return "true" if flag else "false"


def listing(values) -> str:
    """Return ``[a, b, ...]``."""
    return f"[{', '.join(map(str, values))}]"


def pairs(rows: Sequence[tuple[int, int]]) -> str:
    """Return the matrix of low and high padding."""
    if not len(rows):
        return "dense<> : tensor<0x2xi64>"
    return f"dense<{listing([listing(row) for row in rows])}> : tensor<{len(rows)}x2xi64>"


def numbers(name: str, fields: dict[str, object]) -> str:
    """Return a ``#stablehlo.name<...>`` attribute, without its empty lists."""
    texts = [
        f"{k} = {v if isinstance(v, int) else listing(v)}"
        for k, v in fields.items()
        if isinstance(v, int) or len(v)
    ]
    return f"#stablehlo.{name}<{', '.join(texts)}>"


def precisions(precision, operands: int = 2) -> str:
    """Return ``, precision_config = [...]`` for None, DEFAULT, HIGH, HIGHEST or a pair of those."""
    if precision is None:
        return ""
    names = (precision,) * operands if isinstance(precision, str) else tuple(precision)
    each = [
        f"#stablehlo<precision {str(getattr(p, 'name', p) or 'DEFAULT').upper()}>" for p in names
    ]
    return f", precision_config = {listing(each)}"


def layout(dims: int, order: Sequence[int] | None) -> str:
    """Return a minor-to-major order, row-major if `order` is None."""
    order = range(dims - 1, -1, -1) if order is None else order
    return f"dense<{listing(order) if dims else ''}> : tensor<{dims}xindex>"


def layouts(avals: Sequence, orders: Sequence | None) -> str:
    """Return the layouts of several arrays."""
    orders = [None] * len(avals) if orders is None else orders
    return listing([layout(len(v.shape), o) for v, o in zip(avals, orders, strict=True)])


def ffi_attr(value) -> str:
    """Return an attribute of a foreign function: bool, int, float, str, NumPy number or flat array.

    >>> import numpy as np
    >>> ffi_attr(np.uint8(76)), ffi_attr(3), ffi_attr("ab"), ffi_attr(np.array([1, 2]))
    ('76 : ui8', '3 : i64', '"ab"', 'array<i64: 1, 2>')
    """
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, (bool, np.bool_)):
        return boolean(value)
    array = np.asarray(value)
    name = (
        ("u" if array.dtype.kind == "u" else "")
        + ("f" if array.dtype.kind == "f" else "i")
        + str(8 * array.itemsize)
    )
    if array.ndim == 0:
        return f"{scalar(array[()], array.dtype)} : {name}"
    items = ", ".join(scalar(v, array.dtype) for v in array)
    return (
        f"array<{name.removeprefix('u')}: {items}>" if items else f"array<{name.removeprefix('u')}>"
    )


def region_text(b, args: Sequence, results: Sequence) -> str:
    """Return the region that holds a finished body."""
    header = f"^bb0({', '.join([f'{a.name}: {a.type}' for a in args])}):\n" if args else ""
    names, ins = ", ".join([r.name for r in results]), ", ".join([r.type for r in results])
    lines = "\n".join([*b.lines, f'"stablehlo.return"({names}) : ({ins}) -> ()'])
    return f"{{\n{header}{lines}\n}}"
