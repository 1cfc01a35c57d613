"""What a sample of an op is, and helpers to write many of them shortly."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bevel.core import dtypes
from bevel.core.op import Op


@dataclass(frozen=True)
class Sample:
    """One call of an op, crossed by test_ops.py with every transform.

    `grad` are the operands to differentiate (their values must be away from kinks); `tol` is the
    relative and absolute tolerance between the reference and the compiled program (None: by dtype);
    `second_order` also differentiates the derivative. `compare=False` leaves out the comparison of
    results that have no unique value (signs of eigenvectors); their derivatives are then tested on
    paths of their own. `fd_tol` is for finite differences in float64; `unbatched` are operands that
    vmap does not take; `reverse=False` leaves reverse mode out.
    """

    op: Op
    args: tuple[np.ndarray, ...]
    params: dict[str, Any] = field(default_factory=dict)
    grad: tuple[int, ...] = ()
    tol: float | None = None
    second_order: bool = True
    name: str = ""
    compare: bool = True
    fd_tol: float = 1e-5
    unbatched: tuple[int, ...] = ()
    reverse: bool = True

    @property
    def id(self) -> str:
        shapes = ",".join(f"{a.dtype.name}{list(a.shape)}".replace(" ", "") for a in self.args)
        return f"{self.op.name}-{self.name + '-' if self.name else ''}{shapes}"


TOLERANCE = {
    dtypes.float16: 4e-3,
    dtypes.bfloat16: 3e-2,
    dtypes.float32: 2e-5,
    dtypes.float64: 1e-11,
    dtypes.complex64: 5e-5,
    dtypes.complex128: 1e-11,
}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def normal(shape: tuple[int, ...], dtype="float32", seed: int = 0) -> np.ndarray:
    """Normal numbers of any dtype; integers are small and of both signs, bools are coin flips."""
    dtype = dtypes.as_dtype(dtype)
    g = rng(seed)
    kind = dtypes.kind(dtype)
    if kind == "b":
        return np.asarray(g.random(shape) < 0.5)
    if kind == "u":
        return np.asarray(g.integers(0, 9, shape)).astype(dtype)
    if kind == "i":
        return np.asarray(g.integers(-9, 9, shape)).astype(dtype)
    if kind == "c":
        return np.asarray(g.normal(size=shape) + 1j * g.normal(size=shape)).astype(dtype)
    return np.asarray(g.normal(size=shape)).astype(dtype)


def between(
    low: float, high: float, shape: tuple[int, ...], dtype="float32", seed: int = 0
) -> np.ndarray:
    """Uniform numbers in a range (complex: both parts)."""
    dtype = dtypes.as_dtype(dtype)
    g = rng(seed)
    out = g.uniform(low, high, shape)
    if dtypes.is_complex(dtype):
        out = out + 1j * g.uniform(low, high, shape)
    return np.asarray(out).astype(dtype)


def distinct(shape: tuple[int, ...], dtype="float32", seed: int = 0) -> np.ndarray:
    """Numbers no two of which are near each other, in random order: away from the kinks of max and
    sort.
    """
    n = int(np.prod(shape))
    out = rng(seed).permutation(n).reshape(shape) * 0.5 - n / 4 + 0.1
    return np.asarray(out).astype(dtypes.as_dtype(dtype))


def special_floats(dtype) -> np.ndarray:
    """NaN, infinities, signed zeros, the limits of a float dtype, and ordinary numbers."""
    info = dtypes.finfo(dtype)
    top, tiny = float(info.max), float(info.tiny)
    return np.array(
        [
            np.nan,
            np.inf,
            -np.inf,
            0.0,
            -0.0,
            top,
            -top,
            tiny,
            0.5,
            -0.5,
            1.0,
            -1.0,
            1.5,
            2.5,
            -2.5,
            3e2,
            -3e2,
        ]
    ).astype(dtypes.as_dtype(dtype))


def special_ints(dtype) -> np.ndarray:
    """Limits of an integer dtype, zero and ordinary numbers."""
    info = np.iinfo(dtypes.as_dtype(dtype))
    return np.array(
        [info.min, info.max, 0, 1, info.max - 1, info.max // 2, 2, 7], dtypes.as_dtype(dtype)
    )


def pairs(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every value with every value."""
    a, b = np.meshgrid(values, values)
    return a.reshape(-1), b.reshape(-1)
