"""Bessel functions of whole order, and spherical harmonics."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

import bevel.numpy as bnp
from bevel import lax
from bevel.api.custom import custom_jvp
from bevel.numpy.arguments import contents, integer, number
from bevel.scipy.special.entry import elementwise


@elementwise
def i0e(x: Any) -> Any:
    """The modified Bessel function of order 0, times exp(-abs(x)).

    >>> from bevel.scipy import special
    >>> special.i0e([0.0])
    Array([1.], dtype=float32)
    """
    return lax.bessel_i0e(x)


@elementwise
def i1e(x: Any) -> Any:
    """The modified Bessel function of order 1, times exp(-abs(x)).

    >>> from bevel.scipy import special
    >>> special.i1e([0.0])
    Array([0.], dtype=float32)
    """
    return lax.bessel_i1e(x)


def _unscaled(x: Any, scaled: Any) -> Any:
    # In halves: the exponential overflows before its product does.
    half = bnp.exp(bnp.abs(x) / 2)
    return half * scaled * half


@elementwise
def i0(x: Any) -> Any:
    """The modified Bessel function of order 0.

    >>> from bevel.scipy import special
    >>> special.i0([0.0])
    Array([1.], dtype=float32)
    """
    return _unscaled(x, lax.bessel_i0e(x))


@elementwise
def i1(x: Any) -> Any:
    """The modified Bessel function of order 1.

    >>> from bevel.scipy import special
    >>> special.i1([0.0])
    Array([0.], dtype=float32)
    """
    return _unscaled(x, lax.bessel_i1e(x))


@functools.partial(custom_jvp, nondiff_argnums=(1, 2))
def _bessel_rows(z: Any, v: int, n_iter: int) -> Any:
    """Orders 0 to `v` on a new first axis, from the ratios of neighbours.

    The ratios are found downwards from order `n_iter`, along with the sum J0 + 2 J2 + 2 J4 + ... =
    1 over the function of each order (J. C. P. Miller's method, without its overflow).
    """

    def step(carry: Any, k: Any) -> Any:
        ratio, total = carry
        gap = 2 * k - z * ratio
        ratio = z / bnp.where(gap == 0, float(bnp.finfo(z.dtype).eps), gap)
        weight = bnp.where(k == 1, 1, bnp.where(k % 2 == 1, 2, 0)).astype(z.dtype)
        return (ratio, weight + ratio * total), ratio

    start = bnp.zeros_like(z), bnp.full_like(z, 2 if n_iter % 2 == 0 else 0)
    orders = bnp.arange(n_iter, 0, -1, dtype=z.dtype)
    (_, total), ratios = lax.scan(step, start, orders)
    rows = bnp.concatenate([(1 / total)[None], ratios[::-1][:v]])
    return bnp.cumprod(rows, axis=0)


@_bessel_rows.defjvp
def _bessel_rows_jvp(v: int, n_iter: int, primals: tuple, tangents: tuple) -> tuple:
    (z,), (t,) = primals, tangents
    rows = _bessel_rows(z, v + 1, n_iter)
    before = bnp.concatenate([-rows[1:2], rows[:v]])
    return rows[:-1], t * (0.5 * (before - rows[1:]))


def bessel_jn(z: Any, *, v: int, n_iter: int = 50) -> Any:
    """Bessel functions of the first kind, of all orders from 0 to `v`.

    Args:
        z: real numbers.
        v: the highest order, an int known in Python.
        n_iter: the order at which the downward recurrence starts; exact results need it well beyond
            the largest abs(z), by about 20.

    Returns: an array of shape `(v + 1, *z.shape)`.

    Raises:
        ValueError: `v` is negative or beyond `n_iter`.

    >>> from bevel.scipy import special
    >>> bnp.round(special.bessel_jn([0.0, 1.0], v=1), 4)
    Array([[1.    , 0.7652],
           [0.    , 0.4401]], dtype=float32)
    """
    v, n_iter = integer("bessel_jn", "v", v), integer("bessel_jn", "n_iter", n_iter)
    if not 0 <= v < n_iter:
        raise ValueError(
            f"bessel_jn: the order v={v} must be at least 0 and less than n_iter={n_iter}.\n"
            "Write instead: a larger n_iter, beyond v and abs(z) by about 20."
        )
    return elementwise(_named(lambda z: _bessel_rows(z, v, n_iter), "bessel_jn"))(z)


def _named(fn: Any, name: str) -> Any:
    fn.__name__ = name
    return fn


# -- spherical harmonics ---------------------------------------------------------------------------


def _legendre(n: Any, m: Any, theta: Any, n_max: int) -> Any:
    """The associated Legendre function of cos(theta) that makes the harmonic's square integrate to
    1, for m >= 0: up the diagonal to degree m, then up the degrees to n.
    """
    cos, sin = bnp.cos(theta), bnp.sin(theta)

    def step(degree: Any, carry: Any) -> Any:
        before, now = carry
        k = bnp.asarray(degree, dtype=theta.dtype)
        diagonal = -bnp.sqrt((2 * k + 1) / (2 * k)) * sin * now
        above = bnp.where(k > m, k * k - m * m, 1)
        lower = bnp.maximum((k - 1) ** 2 - m * m, 0) / (4 * (k - 1) ** 2 - 1)
        lifted = bnp.sqrt((4 * k * k - 1) / above) * (cos * now - bnp.sqrt(lower) * before)
        climbing, rising = k <= m, (k > m) & (k <= n)
        return (
            bnp.where(rising, now, before),
            bnp.where(climbing, diagonal, bnp.where(rising, lifted, now)),
        )

    start = bnp.zeros_like(theta), bnp.full_like(theta, math.sqrt(0.25 / math.pi))
    return lax.fori_loop(1, n_max + 1, step, start)[1]


def sph_harm_y(
    n: Any, m: Any, theta: Any, phi: Any, diff_n: int | None = None, n_max: int | None = None
) -> Any:
    """The spherical harmonic of degree `n` and order `m`, complex, orthonormal on the sphere.

    Args:
        n: degrees, integers of at least 0; the result is 0 for lower ones and for abs(m) > n.
        m: orders, integers.
        theta: polar angles, from 0 to pi.
        phi: azimuths.
        diff_n: not supported; differentiate the function.
        n_max: the highest degree, an int known in Python, needed where `n` is traced; higher
            degrees are taken as this one.

    Raises:
        ConcretizationTypeError: `n` is traced and no `n_max` is given.
        NotImplementedError: `diff_n` is given.

    >>> from bevel.scipy import special
    >>> bnp.round(special.sph_harm_y([0, 1], [0, 0], 0.0, 0.0), 4)
    Array([0.2821+0.j, 0.4886+0.j], dtype=complex64)
    """
    if diff_n:
        raise NotImplementedError(
            f"sph_harm_y: diff_n={diff_n} is not supported.\n"
            "Why: arrays of derivatives are what transforms are for.\n"
            "Write instead: bv.jvp or bv.jacfwd of sph_harm_y with respect to theta and phi."
        )
    if n_max is None:
        degrees: np.ndarray = contents(
            "sph_harm_y",
            number("sph_harm_y", n),
            "the highest degree is the length of a loop",
            "sph_harm_y(n, m, theta, phi, n_max=8), with the highest degree there is",
        )
        n_max = max(int(degrees.max(initial=0)), 0)
    n_max = integer("sph_harm_y", "n_max", n_max)

    @elementwise
    def sph_harm(n: Any, m: Any, theta: Any, phi: Any) -> Any:
        n = bnp.minimum(n, n_max)
        size = bnp.abs(m)
        inside = (size <= n) & (n >= 0)
        row = _legendre(n, bnp.where(inside, size, 0), theta, n_max)
        row = bnp.where(inside, row, 0)
        # A negative order: the conjugate, with the sign of an odd order.
        row = bnp.where((m < 0) & (size % 2 == 1), -row, row)
        return lax.complex(row * bnp.cos(m * phi), row * bnp.sin(m * phi))

    return sph_harm(n, m, theta, phi)
