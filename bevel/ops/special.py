"""Special functions: error functions, gamma and its relatives, Bessel functions.

References are SciPy's. Where StableHLO has no function, `series.py` computes it, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from bevel.core.dtypes import FLOAT, float64
from bevel.core.errors import Unsupported as UnsupportedError
from bevel.core.op import Op, Unsupported, rule
from bevel.ops import giles, series
from bevel.ops.base import full_like, zeros_like
from bevel.ops.elementwise import add, div, exp, log, log1p, mul, neg, sign, square, sub
from bevel.ops.families import elementwise
from bevel.ops.logic import eq, select

_LARGE = 1 << 16
"""Above this size SciPy takes longer than a one-op program, its look-up included."""


def _scipy(name: str, fix: Callable | None = None) -> Callable:
    """A function of `scipy.special`, computed at least in float32; `fix(out, *xs)` mends its edge
    cases.
    """

    def reference(*xs):
        import scipy.special

        kept = xs[0].dtype
        if kept.itemsize == 2:
            xs = tuple([x.astype(np.float32) for x in xs])
        out = getattr(scipy.special, name)(*xs)
        return np.asarray(out if fix is None else fix(out, *xs)).astype(kept, copy=False)

    return reference


def _double(compute: Callable) -> Callable:
    """A lowering that computes ``compute(xp, eps, *xs)`` in float64 and rounds once."""

    def lower(b, *xs):
        dtype = xs[0].aval.dtype
        wide = [series.Expression(b, b.convert(x, float64)) for x in xs]
        return b.convert(compute(series.Program, series.tolerance(dtype), *wide).val, dtype)

    return lower


def _no_derivative(function: str, operand: str) -> Callable:
    def rule(*_):
        raise UnsupportedError(
            f"{function} has no derivative with respect to {operand} in closed form; "
            f"differentiate with respect to "
            f"another argument, or mark it as constant: lax.stop_gradient({operand})"
        )

    return rule


def _special(name: str, reference: Callable, lower, jvp, operands=("x",)) -> Op:
    return elementwise(
        name,
        operands,
        reference=reference,
        lower=lower,
        jvp=jvp,
        allowed=FLOAT,
        compile_above=_LARGE,
    )


# -- error functions ------------------------------------------------------------------------------


def _gauss(t, x, factor: float):
    return mul(t, mul(full_like(x, factor), exp(neg(square(x)))))


erf = _special(
    "erf",
    _scipy("erf"),
    lambda b, x: b.erf(x),
    (lambda ctx, t, x: _gauss(t, x, 2 / math.sqrt(math.pi)),),
)
erfc = _special(
    "erfc",
    _scipy("erfc"),
    lambda b, x: b.erfc(x),
    (lambda ctx, t, x: _gauss(t, x, -2 / math.sqrt(math.pi)),),
)


def _erf_inv_reference(x):
    if x.dtype == float64:
        return _scipy("erfinv")(x)
    return giles.erf_inv(x.astype(np.float32, copy=False)).astype(x.dtype, copy=False)


erf_inv = _special(
    "erf_inv",
    _erf_inv_reference,
    lambda b, x: b.erf_inv(x),
    (lambda ctx, t, x: mul(t, mul(full_like(x, math.sqrt(math.pi) / 2), exp(square(ctx.out)))),),
)

# -- gamma and its derivatives --------------------------------------------------------------------

lgamma = _special(
    "lgamma",
    _scipy("gammaln", lambda out, x: np.where(x == -np.inf, np.inf, out)),
    lambda b, x: b.lgamma(x),
    (lambda ctx, t, x: mul(t, digamma(x)),),
)


def _digamma_lower(b, x):
    # Versions of XLA disagree at zero: take the limit from the zero's side, as SciPy does.
    pole = b.divide(b.full(-1, x.aval), x)
    return b.select(b.compare(x, b.full(0, x.aval), "EQ"), pole, b.digamma(x))


digamma: Op = _special(
    "digamma",
    _scipy("psi"),
    _digamma_lower,
    (lambda ctx, t, x: mul(t, polygamma(full_like(x, 1), x)),),
)


def _polygamma_reference(m, x):
    import scipy.special

    wide, n = x.astype(np.float64), m.astype(np.float64)
    size = scipy.special.gamma(n + 1) * scipy.special.zeta(n + 1, wide)
    found = np.where(n == 0, rule(digamma, "reference")(wide), np.where(n % 2 == 0, -size, size))
    return np.where((n < 0) | (n != np.floor(n)), np.nan, found).astype(x.dtype)


polygamma: Op = _special(
    "polygamma",
    _polygamma_reference,
    lambda b, m, x: b.polygamma(m, x),
    (
        _no_derivative("polygamma", "m"),
        lambda ctx, t, m, x: mul(t, polygamma(add(m, full_like(m, 1)), x)),
    ),
    ("m", "x"),
)
zeta: Op = _special(
    "zeta",
    _scipy("zeta"),
    lambda b, x, q: b.zeta(x, q),
    (
        _no_derivative("zeta", "x"),
        lambda ctx, t, x, q: mul(t, mul(neg(x), zeta(add(x, full_like(x, 1)), q))),
    ),
    ("x", "q"),
)


def _gamma_density(a, x):
    """Density at `x` of the gamma distribution with shape `a`: the derivative of igamma."""
    return exp(sub(sub(mul(sub(a, full_like(a, 1)), log(x)), x), lgamma(a)))


def _igamma_rules(side: int):
    def signed(t):
        return t if side > 0 else neg(t)

    # d igamma / da at fixed x is minus the density times how a sample moves with a at fixed
    # probability.
    return (
        lambda ctx, t, a, x: signed(
            neg(mul(t, mul(random_gamma_grad(a, x), _gamma_density(a, x))))
        ),
        lambda ctx, t, a, x: signed(mul(t, _gamma_density(a, x))),
    )


igamma = _special(
    "igamma", _scipy("gammainc"), _double(series.igamma), _igamma_rules(1), ("a", "x")
)
igammac = _special(
    "igammac", _scipy("gammaincc"), _double(series.igammac), _igamma_rules(-1), ("a", "x")
)


def _random_gamma_grad_reference(a, x):
    wide = [np.asarray(v, np.float64) for v in (a, x)]
    return np.asarray(series.random_gamma_grad(series.Numpy, 1e-16, *wide)).astype(a.dtype)


random_gamma_grad = _special(
    "random_gamma_grad",
    _random_gamma_grad_reference,
    _double(series.random_gamma_grad),
    Unsupported("it is itself the derivative of a sample, and a second one has no series here"),
    ("a", "x"),
)


def _beta_density(a, b, x):
    one = full_like(x, 1)
    norm = sub(lgamma(add(a, b)), add(lgamma(a), lgamma(b)))
    return exp(add(norm, add(mul(sub(a, one), log(x)), mul(sub(b, one), log1p(neg(x))))))


regularized_incomplete_beta = _special(
    "regularized_incomplete_beta",
    _scipy("betainc"),
    _double(series.betainc),
    (
        _no_derivative("betainc", "a"),
        _no_derivative("betainc", "b"),
        lambda ctx, t, a, b, x: mul(t, _beta_density(a, b, x)),
    ),
    ("a", "b", "x"),
)

# -- Bessel functions -----------------------------------------------------------------------------


def _i1e_jvp(ctx, t, x):
    # i1e(x) / x is 1/2 at zero.
    zero = eq(x, zeros_like(x))
    safe = select(zero, full_like(x, 1), x)
    slope = sub(bessel_i0e(x), mul(ctx.out, add(sign(x), div(full_like(x, 1), safe))))
    return mul(t, select(zero, full_like(x, 0.5), slope))


bessel_i0e = _special(
    "bessel_i0e",
    _scipy("i0e"),
    _double(series.bessel_i0e),
    (lambda ctx, t, x: mul(t, sub(bessel_i1e(x), mul(sign(x), ctx.out))),),
)
bessel_i1e: Op = _special("bessel_i1e", _scipy("i1e"), lambda b, x: b.bessel_i1e(x), (_i1e_jvp,))
