"""Rotations in three dimensions, held as unit quaternions (x, y, z, w), and paths between them."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

import bevel.numpy as bnp
from bevel.core import dtypes, tree
from bevel.core.errors import ShapeError
from bevel.numpy.arguments import known
from bevel.random import normal
from bevel.scipy.operands import inexacts


def _dot(x: Any, y: Any) -> Any:
    return (x * y).sum(-1, keepdims=True)


def _normalized(quat: Any) -> Any:
    return quat / bnp.sqrt(_dot(quat, quat))


def _composed(p: Any, q: Any) -> Any:
    """The rotation q followed by p."""
    u, v, a, b = p[..., :3], q[..., :3], p[..., 3:], q[..., 3:]
    return bnp.concatenate([a * v + b * u + bnp.cross(u, v), a * b - _dot(u, v)], axis=-1)


def _axes(name: str, seq: str, most: Sequence[int]) -> tuple[list[int], bool]:
    """The axes that letters stand for, and whether they turn with the body (capital letters)."""
    if len(seq) not in most or not re.fullmatch("[xyz]+|[XYZ]+", seq):
        count = "3" if len(most) == 1 else "1 to 3"
        raise ValueError(
            f"{name}: seq must be {count} letters of 'xyz' (fixed axes) or 'XYZ' (axes of the "
            f"body), got {seq!r}"
        )
    if any(a == b for a, b in zip(seq, seq[1:], strict=False)):
        raise ValueError(f"{name}: seq must not turn about one axis twice in a row, got {seq!r}")
    return ["xyz".index(letter) for letter in seq.lower()], seq.isupper()


def _vectors(name: str, what: str, x: Any, *core: int) -> Any:
    """An array whose last axes have these sizes."""
    (x,) = inexacts(name, x)
    if x.shape[max(0, x.ndim - len(core)) :] != core:
        raise ShapeError(f"{name}: {what} has shape {x.shape}, and its last axes must be {core}")
    return x


@tree.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Rotation:
    """One rotation, or a stack of them along leading axes; a pytree.

    `a * b` is `b` followed by `a`; a stack has a length and indices.

    Args:
        quat: unit quaternions (..., 4), as (x, y, z, w); use `from_quat` for others.

    >>> from bevel.scipy.spatial.transform import Rotation
    >>> r = Rotation.from_euler("z", 90, degrees=True)
    >>> bnp.round(r.apply(bnp.array([1.0, 0.0, 0.0])))
    Array([0., 1., 0.], dtype=float32)
    """

    quat: Any

    @classmethod
    def concatenate(cls, rotations: Sequence[Rotation]) -> Rotation:
        """One stack of several rotations or stacks."""
        return cls(bnp.concatenate([bnp.atleast_2d(r.quat) for r in rotations]))

    @classmethod
    def from_euler(cls, seq: str, angles: Any, degrees: bool = False) -> Rotation:
        """Turns about 1 to 3 axes one after the other.

        `seq`: letters of "xyz" for fixed axes, of "XYZ" for axes of the body. `angles`: (..., n)
        for n axes, or a number for one.
        """
        axes, intrinsic = _axes("Rotation.from_euler", seq, (1, 2, 3))
        angles = bnp.atleast_1d(angles)
        angles = _vectors("Rotation.from_euler", "angles", angles, len(axes))
        half = (bnp.deg2rad(angles) if degrees else angles)[..., None] / 2
        basis = bnp.eye(4, dtype=half.dtype)
        quat = basis[3]
        for i, axis in enumerate(axes):
            turn = bnp.sin(half[..., i, :]) * basis[axis] + bnp.cos(half[..., i, :]) * basis[3]
            quat = _composed(quat, turn) if intrinsic else _composed(turn, quat)
        return cls(quat)

    @classmethod
    def from_matrix(cls, matrix: Any) -> Rotation:
        """Rotation matrices (..., 3, 3), which must be orthogonal, with determinant 1."""
        m = _vectors("Rotation.from_matrix", "matrix", matrix, 3, 3)
        xx, yy, zz = (m[..., i, i] for i in range(3))
        xy, xz, yz = (m[..., i, j] + m[..., j, i] for i, j in ((0, 1), (0, 2), (1, 2)))
        xw, yw, zw = (m[..., j, i] - m[..., i, j] for i, j in ((1, 2), (2, 0), (0, 1)))
        # Each row is the quaternion times four times one of its elements.
        rows = (
            (1 + xx - yy - zz, xy, xz, xw),
            (xy, 1 - xx + yy - zz, yz, yw),
            (xz, yz, 1 - xx - yy + zz, zw),
            (xw, yw, zw, 1 + xx + yy + zz),
        )
        products = bnp.stack([bnp.stack(row, axis=-1) for row in rows], axis=-2)
        best = bnp.argmax(bnp.diagonal(products, 0, -2, -1), axis=-1)[..., None, None]
        return cls(_normalized(bnp.take_along_axis(products, best, axis=-2)[..., 0, :]))

    @classmethod
    def from_mrp(cls, mrp: Any) -> Rotation:
        """Modified Rodrigues parameters (..., 3): axes times the tangent of angle / 4."""
        mrp = _vectors("Rotation.from_mrp", "mrp", mrp, 3)
        square = _dot(mrp, mrp)
        return cls(bnp.concatenate([2 * mrp, 1 - square], axis=-1) / (1 + square))

    @classmethod
    def from_quat(cls, quat: Any) -> Rotation:
        """Quaternions (..., 4) as (x, y, z, w), of any length but 0."""
        return cls(_normalized(_vectors("Rotation.from_quat", "quat", quat, 4)))

    @classmethod
    def from_rotvec(cls, rotvec: Any, degrees: bool = False) -> Rotation:
        """Rotation vectors (..., 3): axes times angles. Differentiable at 0 too."""
        rotvec = _vectors("Rotation.from_rotvec", "rotvec", rotvec, 3)
        rotvec = bnp.deg2rad(rotvec) if degrees else rotvec
        square = _dot(rotvec, rotvec)
        small = square < 1e-3
        half = bnp.sqrt(bnp.where(small, 1, square)) / 2
        series = 0.5 - square / 48 + square**2 / 3840
        scale = bnp.where(small, series, bnp.sin(half) / (2 * half))
        series = 1 - square / 8 + square**2 / 384 - square**3 / 46080
        return cls(bnp.concatenate([scale * rotvec, bnp.where(small, series, bnp.cos(half))], -1))

    @classmethod
    def identity(cls, num: int | None = None, dtype: Any = float) -> Rotation:
        """No rotation, or a stack of `num` of them."""
        one = bnp.array([0.0, 0.0, 0.0, 1.0], dtype=dtype)
        return cls(one if num is None else bnp.broadcast_to(one, (num, 4)))

    @classmethod
    def random(cls, random_key: Any, num: int | None = None) -> Rotation:
        """A rotation drawn uniformly, or a stack of `num` of them."""
        return cls(_normalized(normal(random_key, (4,) if num is None else (num, 4))))

    def __getitem__(self, indexer: Any) -> Rotation:
        if self.single:
            raise TypeError("Rotation: a single rotation has no parts")
        return Rotation(self.quat[indexer])

    def __len__(self) -> int:
        if self.single:
            raise TypeError("Rotation: a single rotation has no length")
        return self.quat.shape[0]

    def __bool__(self) -> bool:
        return True

    def __mul__(self, other: Rotation) -> Rotation:
        return Rotation(_normalized(_composed(self.quat, other.quat)))

    def apply(self, vectors: Any, inverse: bool = False) -> Any:
        """Vectors (..., 3) turned, or turned back; leading axes are broadcast."""
        matrix, vectors = inexacts("Rotation.apply", self.as_matrix(), vectors)
        vectors = _vectors("Rotation.apply", "vectors", vectors, 3)
        return ((matrix.mT if inverse else matrix) * vectors[..., None, :]).sum(-1)

    def as_euler(self, seq: str, degrees: bool = False) -> Any:
        """Angles (..., 3) of turns about three axes; see `from_euler`.

        Where two of them turn about the same line (gimbal lock) the last angle is 0. E. Bernardes
        and S. Viollet, PLoS ONE 17, 2022.
        """
        axes, intrinsic = _axes("Rotation.as_euler", seq, (3,))
        i, j, k = axes[::-1] if intrinsic else axes
        symmetric = i == k
        k = 3 - i - j if symmetric else k
        sign = (i - j) * (j - k) * (k - i) // 2
        x = [self.quat[..., n] for n in range(4)]
        a, b, c, d = x[3], x[i], x[j], sign * x[k]
        if not symmetric:
            a, b, c, d = a - c, b + d, c + a, d - b
        middle = 2 * bnp.arctan2(bnp.hypot(c, d), bnp.hypot(a, b))
        total, difference = bnp.arctan2(b, a), bnp.arctan2(d, c)
        eps = max(1e-7, 8 * float(dtypes.finfo(np.dtype(middle.dtype)).eps))
        none, half = bnp.abs(middle) <= eps, bnp.abs(middle - math.pi) <= eps
        outer = [total - difference, total + difference]
        outer = outer[::-1] if intrinsic else outer
        alone = bnp.where(none, 2 * total, 2 * difference * (1 if intrinsic else -1))
        outer = [bnp.where(none | half, alone, outer[0]), bnp.where(none | half, 0, outer[1])]
        if not symmetric:
            last = 0 if intrinsic else 1
            outer[last] = outer[last] * sign
            middle = middle - math.pi / 2
        angles = bnp.stack([outer[0], middle, outer[1]], axis=-1)
        angles = (angles + math.pi) % (2 * math.pi) - math.pi
        return bnp.rad2deg(angles) if degrees else angles

    def as_matrix(self) -> Any:
        """Rotation matrices (..., 3, 3)."""
        x, y, z, w = (self.quat[..., n] for n in range(4))
        rows = (
            (x * x - y * y - z * z + w * w, 2 * (x * y - z * w), 2 * (x * z + y * w)),
            (2 * (x * y + z * w), y * y - x * x - z * z + w * w, 2 * (y * z - x * w)),
            (2 * (x * z - y * w), 2 * (y * z + x * w), z * z - x * x - y * y + w * w),
        )
        return bnp.stack([bnp.stack(row, axis=-1) for row in rows], axis=-2)

    def as_mrp(self) -> Any:
        """Modified Rodrigues parameters (..., 3), of length at most 1."""
        sign = bnp.where(self.quat[..., 3:] < 0, -1, 1)
        return sign * self.quat[..., :3] / (1 + bnp.abs(self.quat[..., 3:]))

    def as_rotvec(self, degrees: bool = False) -> Any:
        """Rotation vectors (..., 3), of length at most pi. Differentiable at 0 too."""
        quat = bnp.where(self.quat[..., 3:] < 0, -self.quat, self.quat)
        v, w = quat[..., :3], quat[..., 3:]
        square = _dot(v, v)
        small = square < 1e-5
        sine = bnp.sqrt(bnp.where(small, 1, square))
        series = 2 + square / 3 + 3 * square**2 / 20
        scale = bnp.where(small, series, 2 * bnp.arctan2(sine, w) / sine)
        return v * (bnp.rad2deg(scale) if degrees else scale)

    def as_quat(self, canonical: bool = False, scalar_first: bool = False) -> Any:
        """Unit quaternions (..., 4) as (x, y, z, w), or (w, x, y, z) if `scalar_first`.

        Of the two for each rotation, `canonical` gives the one with w > 0 (or, where that is 0, the
        first of x, y and z that is not).
        """
        quat = self.quat
        if canonical:
            lead = quat[..., 2:3]
            for part in (quat[..., 1:2], quat[..., :1], quat[..., 3:]):
                lead = bnp.where(part != 0, part, lead)
            quat = bnp.where(lead < 0, -quat, quat)
        return bnp.roll(quat, 1, axis=-1) if scalar_first else quat

    def inv(self) -> Rotation:
        """The rotation back."""
        return Rotation(self.quat * bnp.array([-1, -1, -1, 1], dtype=self.quat.dtype))

    def magnitude(self) -> Any:
        """Angles, from 0 to pi."""
        v = self.quat[..., :3]
        return 2 * bnp.arctan2(bnp.sqrt(_dot(v, v)), bnp.abs(self.quat[..., 3:]))[..., 0]

    def mean(self, weights: Any = None) -> Rotation:
        """The rotation nearest to those of a stack (n,), with `weights` (n,).

        F. Markley et al., J. Guidance Control Dyn. 30, 2007.
        """
        n = len(self)
        w = bnp.ones(n, dtype=self.quat.dtype) if weights is None else bnp.asarray(weights)
        if w.shape != (n,):
            raise ShapeError(f"Rotation.mean: weights have shape {w.shape} for {n} rotations")
        products = bnp.matmul(self.quat.T * w, self.quat, precision="highest")
        return Rotation(bnp.linalg.eigh(products)[1][:, -1])

    @property
    def single(self) -> bool:
        """Whether this is one rotation, and no stack."""
        return self.quat.ndim == 1


@tree.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Slerp:
    """A path through rotations, that turns at a constant rate between two; a pytree, made by
    `init`.

    Args:
        times: ascending, (n,).
        timedelta: from each to the next.
        rotations: the first n - 1.
        rotvecs: rotation vectors from each to the next.

    >>> from bevel.scipy.spatial.transform import Rotation, Slerp
    >>> path = Slerp.init(bnp.array([0, 1]), Rotation.from_euler("z", bnp.eye(2)[:, :1]))
    >>> bnp.round(path(0.5).as_rotvec()[2], 3)
    Array(0.5, dtype=float32)
    """

    times: Any
    timedelta: Any
    rotations: Rotation
    rotvecs: Any

    @classmethod
    def init(cls, times: Any, rotations: Rotation) -> Slerp:
        """The path that is at a stack of n rotations at n ascending times.

        Raises:
            ShapeError: not as many times as rotations, or fewer than two.
            TypeError: `rotations` are something else.
            ValueError: the times do not ascend.
        """
        if not isinstance(rotations, Rotation):
            raise TypeError(f"Slerp: rotations must be a Rotation, got {type(rotations).__name__}")
        times = bnp.asarray(times).astype(rotations.quat.dtype)
        if rotations.single or len(rotations) < 2 or times.shape != (len(rotations),):
            raise ShapeError(
                f"Slerp: times of shape {times.shape} for quaternions of shape "
                f"{rotations.quat.shape}; there must be n and (n, 4), n at least 2"
            )
        steps = bnp.diff(times)
        at_hand = known(steps._v)
        if at_hand is not None and not np.all(at_hand > 0):
            raise ValueError("Slerp: times must ascend; sort them, and the rotations with them")
        before, after = rotations[:-1], rotations[1:]
        return cls(times, steps, before, (before.inv() * after).as_rotvec())

    def __call__(self, times: Any) -> Rotation:
        """Rotations at times, a number or a vector; outside the path it turns on."""
        at = bnp.asarray(times).astype(self.times.dtype)
        if at.ndim > 1:
            raise ShapeError(
                f"Slerp: times have shape {at.shape}, and must be a number or a vector"
            )
        i = bnp.clip(bnp.searchsorted(self.times, at) - 1, 0, self.timedelta.shape[0] - 1)
        share = (at - self.times[i]) / self.timedelta[i]
        return self.rotations[i] * Rotation.from_rotvec(self.rotvecs[i] * share[..., None])
