"""bevel.scipy.special against SciPy (values) and JAX (derivatives): eager and in compiled
programs.
"""

import math

import numpy as np
import pytest
import scipy.special as sp

import bevel as bv
import bevel.numpy as bnp
from bevel import errors
from bevel.scipy import special
from tests.peers import peer

RNG = np.random.default_rng(0)
EDGES = [0.0, -0.0, 1.0, -1.0, -2.0, -3.0, 0.5, -0.5, 1e-6, -1e-6, np.inf, -np.inf, np.nan]


def line(low, high, n=41, edges=EDGES):
    return np.concatenate([np.asarray(edges), np.linspace(low, high, n)]).astype(np.float32)


def plane(low, high, n=12, edges=EDGES):
    side = line(low, high, n, edges)
    return tuple([v.ravel() for v in np.meshgrid(side, side)])


REAL = line(-9, 9)
WIDE = np.concatenate([REAL, line(-90, 90), np.float32([1e3, -1e3, 1e6, -1e6])])
UNIT = np.float32([0, 1, 0.5, -0.1, 1.1, np.nan, *np.linspace(0.001, 0.999, 41), 1e-30, 1e-6])
PLANE = plane(-7.3, 9)
FINITE = plane(-7.3, 9, 12, [x for x in EDGES if not np.isinf(x)])
# SciPy's sign of infinity at two poles depends on their order.
AT_POLE = [(v <= 0) & (v == np.floor(v)) for v in PLANE]
NO_TWO_POLES = [v[~(AT_POLE[0] & AT_POLE[1])] for v in PLANE]
SOME = plane(0.1, 9, 8, [0.0, 1.0])
COMPLEX = (lambda x, y: (x + 1j * y).astype(np.complex64))(*plane(-6.2, 6.3, 15, [0.0, -2.0]))
ORDERS = np.repeat(np.arange(8.0, dtype=np.float32), 12), np.tile(np.linspace(0, 9, 12), 8)
HYPER = [RNG.uniform(low, high, 200) for low, high in ((-5, 8), (-3, 8), (-3, 8))]
HYPER[0][::7], HYPER[1][::9], HYPER[2][::3] = -2, np.round(HYPER[1][::9]), np.round(HYPER[2][::3])
GAUSS = np.concatenate(
    [RNG.uniform(-1, 1, 150), RNG.uniform(-90, -1, 25), 1 - np.logspace(-1, -7, 25)]
)
BEYOND = np.array(
    [(1, 2, 3, 1), (1, 2, 4, 1), (1, 1, -2, 0.5), (-1, 1, -2, 0.5), (-3, 1, -2, 0.5)]
    + [(1, 2, 3, 1.5), (-2, 2, 3, 1.5), (-2, 2, 3, -3), (1, 2, 0, 0.5), (1, 1, 1, 1.5)]
    + [(1, 1, 2, np.nan), (1, 1, 2, np.inf), (2, 2, 1.5, 1), (1, 2, -2, 0), (7, 6, 4, 2.5)]
    + [(0, 1, 0, 0.5), (2, 1, 1, 2)]
).T
KUMMER = np.array(
    [(1, -2, 0.5), (-1, -2, 0.5), (-2, -2, 0.5), (-3, -2, 0.5), (0, 0, 0.5), (1, 1, 0)]
    + [(1.5, 2.5, 650), (1.5, 2.5, -650), (1, 2, np.nan), (1, 2, np.inf), (0.5, 2, -80)]
).T
DEGREES = RNG.integers(-1, 9, 100), RNG.integers(-9, 9, 100)
ANGLES = RNG.uniform(0, np.pi, 100), RNG.uniform(0, 6.3, 100)

# Name, arguments, relative tolerance, absolute tolerance.
VALUES = [
    ("bernoulli", (40,), 1e-6, 0),
    ("beta", tuple(NO_TWO_POLES), 2e-5, 0),
    ("betainc", (*SOME, np.resize(UNIT, SOME[0].shape)), 2e-5, 0),
    ("betaln", PLANE, 2e-5, 1e-5),
    ("boxcox", plane(-1, 9), 5e-6, 0),
    ("boxcox1p", plane(-1, 9), 5e-6, 0),
    ("comb", FINITE, 1e-5, 0),
    ("dawsn", (WIDE,), 1e-6, 0),
    ("digamma", (WIDE,), 2e-6, 1e-6),
    ("entr", (WIDE,), 1e-6, 0),
    ("erf", (WIDE,), 1e-6, 0),
    ("erfc", (REAL,), 2e-5, 0),
    ("erfcx", (WIDE,), 2e-6, 0),
    ("erfinv", (2 * UNIT - 1,), 1e-5, 0),
    ("exp1", (WIDE,), 1e-6, 1e-36),
    ("expi", (WIDE,), 1e-6, 1e-6),
    ("expit", (WIDE,), 2e-6, 1e-36),
    ("expn", ORDERS, 2e-6, 0),
    ("factorial", (REAL,), 2e-6, 0),
    ("fresnel", (WIDE,), 1e-6, 2e-7),
    ("gamma", (REAL,), 2e-6, 0),
    ("gamma", (COMPLEX,), 2e-5, 0),
    ("gammainc", PLANE, 2e-6, 1e-36),
    ("gammaincc", PLANE, 2e-6, 1e-36),
    ("gammaln", (WIDE[WIDE != -np.inf],), 2e-6, 1e-6),
    ("gammasgn", (WIDE,), 0, 0),
    ("hyp1f1", (HYPER[0], np.abs(HYPER[1]) + 0.1, RNG.uniform(-30, 30, 200)), 2e-5, 0),
    ("hyp1f1", tuple(KUMMER), 1e-6, 1e-30),
    ("hyp2f1", (*HYPER, GAUSS), 1e-6, 0),
    ("hyp2f1", tuple(BEYOND), 1e-6, 0),
    ("i0", (WIDE[np.isfinite(WIDE)],), 2e-6, 0),
    ("i0e", (WIDE,), 1e-6, 0),
    ("i1", (WIDE[np.isfinite(WIDE)],), 2e-6, 0),
    ("i1e", (WIDE,), 1e-6, 0),
    ("kl_div", PLANE, 2e-5, 2e-6),
    ("log_ndtr", (WIDE,), 2e-5, 1e-36),
    ("loggamma", (WIDE[WIDE != -np.inf],), 2e-6, 1e-6),
    ("loggamma", (COMPLEX,), 1e-5, 1e-5),
    ("log_softmax", (np.linspace(-99, 9, 12).astype(np.float32),), 1e-6, 1e-7),
    ("logit", (UNIT,), 1e-6, 0),
    ("logsumexp", (np.float32([3, -np.inf, 99]),), 1e-6, 0),
    ("multigammaln", (np.float32([2, 2.5, 9]), 3), 1e-6, 0),
    ("ndtr", (REAL,), 2e-5, 0),
    ("ndtri", (UNIT,), 1e-6, 0),
    ("owens_t", PLANE, 2e-5, 1e-36),
    ("poch", FINITE, 1e-4, 0),
    ("polygamma", (ORDERS[0], ORDERS[1] + 0.1), 5e-6, 0),
    ("rel_entr", PLANE, 2e-6, 1e-6),
    ("sici", (WIDE,), 1e-6, 1e-6),
    ("softmax", (np.linspace(-99, 9, 12).astype(np.float32),), 1e-6, 0),
    ("spence", (WIDE,), 1e-6, 1e-6),
    ("sph_harm_y", (*DEGREES, *ANGLES), 1e-4, 2e-6),
    ("wofz", (COMPLEX,), 2e-5, 2e-6),
    ("xlog1py", PLANE, 2e-6, 0),
    ("xlogy", PLANE, 2e-6, 0),
    ("zeta", (line(-30, 30),), 2e-5, 1e-7),
    ("zeta", (line(1.1, 9, 41, []), line(0.1, 9, 41, [])), 2e-6, 0),
]
IDS = [f"{i}-{row[0]}" for i, row in enumerate(VALUES)]


def flat(out):
    return [np.asarray(x) for x in (out if isinstance(out, tuple | list) else (out,))]


def single(x):
    return x if isinstance(x, int) or x.dtype.kind in "ic" else x.astype(np.float32)


def wanted(name, args):
    """SciPy's result in double precision, of arguments rounded to single precision."""
    wide = [
        a if isinstance(a, int) or a.dtype.kind == "i" else (a + 0j if a.dtype.kind == "c" else a)
        for a in map(single, args)
    ]
    wide = [
        a if isinstance(a, int) or a.dtype.kind == "i" else a.astype(np.result_type(a, np.float64))
        for a in wide
    ]
    if name == "expn":
        wide[0] = wide[0].astype(int)
    with np.errstate(all="ignore"):
        return flat(getattr(sp, name)(*wide))


def agree(name, got, want, rtol, atol):
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        with np.errstate(all="ignore"):
            w = w.astype(g.dtype)
        if np.iscomplexobj(w):
            finite = np.isfinite(w)
            np.testing.assert_array_equal(np.isfinite(g), finite, err_msg=name)
            far = np.abs(g - w)[finite] - (atol + rtol * np.abs(w[finite]))
            assert np.all(far <= 0), name
        else:
            np.testing.assert_allclose(g, w, rtol, atol + 1e-38, err_msg=name)


@pytest.mark.parametrize("row", VALUES, ids=IDS)
def test_eager_values(row):
    name, args, rtol, atol = row
    got = flat(getattr(special, name)(*[single(a) for a in args]))
    assert all(g.dtype in (np.float32, np.complex64) for g in got)
    agree(name, got, wanted(name, args), rtol, atol)


@pytest.mark.parametrize("start", range(0, len(VALUES), 7))
def test_compiled_values(start):
    rows = [row for row in VALUES[start : start + 7] if row[0] != "bernoulli"]

    @bv.jit
    def program(arrays):
        out = []
        for (name, args, *_), new in zip(rows, arrays, strict=True):
            more = {"n_max": 8} if name == "sph_harm_y" else {}
            new = [a if isinstance(a, int) else n for a, n in zip(args, new, strict=True)]
            out.append(getattr(special, name)(*new, **more))
        return out

    found = program([[single(a) for a in args] for _, args, *_ in rows])
    for (name, args, rtol, atol), out in zip(rows, found, strict=True):
        # XLA flushes subnormal numbers, and its logarithms and gamma functions differ by a bit.
        agree(name, flat(out), wanted(name, args), max(4 * rtol, 1e-6), 4 * atol + 4e-6)


POSITIVE = np.linspace(0.3, 6, 9).astype(np.float32)
OTHER = POSITIVE[::-1].copy() + np.float32(0.17)
INNER = np.linspace(0.05, 0.93, 9).astype(np.float32)
SIGNED = np.linspace(-4.3, 3.9, 9).astype(np.float32)
# Name, arguments, which are differentiated, where JAX's own derivatives are good enough.
SLOPES = [
    ("beta", (POSITIVE, OTHER), (0, 1)),
    ("betainc", (POSITIVE, OTHER, INNER), (2,)),
    ("betaln", (POSITIVE, OTHER), (0, 1)),
    ("boxcox", (POSITIVE, SIGNED), (0, 1)),
    ("boxcox1p", (POSITIVE, SIGNED), (0, 1)),
    ("dawsn", (SIGNED,), (0,)),
    ("digamma", (SIGNED,), (0,)),
    ("entr", (POSITIVE,), (0,)),
    ("erf", (SIGNED,), (0,)),
    ("erfc", (SIGNED,), (0,)),
    ("erfcx", (SIGNED,), (0,)),
    ("erfinv", (INNER,), (0,)),
    ("exp1", (POSITIVE,), (0,)),
    ("expi", (SIGNED,), (0,)),
    ("expit", (SIGNED,), (0,)),
    ("factorial", (POSITIVE,), (0,)),
    ("fresnel", (SIGNED,), (0,)),
    ("gamma", (SIGNED,), (0,)),
    ("gammainc", (POSITIVE, OTHER), (0, 1)),
    ("gammaincc", (POSITIVE, OTHER), (0, 1)),
    ("gammaln", (SIGNED,), (0,)),
    ("hyp1f1", (POSITIVE, OTHER, SIGNED), (0, 1, 2)),
    ("hyp2f1", (POSITIVE, OTHER, POSITIVE + 2, INNER * np.float32(0.8)), (0, 1, 2, 3)),
    ("i0", (SIGNED,), (0,)),
    ("i0e", (SIGNED,), (0,)),
    ("i1", (SIGNED,), (0,)),
    ("i1e", (SIGNED,), (0,)),
    ("kl_div", (POSITIVE, OTHER), (0, 1)),
    ("log_ndtr", (SIGNED,), (0,)),
    ("log_softmax", (SIGNED,), (0,)),
    ("loggamma", (POSITIVE,), (0,)),
    ("logit", (INNER,), (0,)),
    ("logsumexp", (SIGNED,), (0,)),
    ("ndtr", (SIGNED,), (0,)),
    ("ndtri", (INNER,), (0,)),
    ("owens_t", (SIGNED, OTHER), (0, 1)),
    ("poch", (POSITIVE, OTHER), (0, 1)),
    ("rel_entr", (POSITIVE, OTHER), (0, 1)),
    ("sici", (POSITIVE,), (0,)),
    ("softmax", (SIGNED,), (0,)),
    ("spence", (POSITIVE,), (0,)),
    ("xlog1py", (POSITIVE, OTHER), (0, 1)),
    ("xlogy", (POSITIVE, OTHER), (0, 1)),
    ("zeta", (POSITIVE + 1, OTHER), (0, 1)),
]
WEIGHTS = np.cos(np.arange(9)).astype(np.float32)


def weighted(module, xp, rows):
    """The rows summed with weights: one number, so that one gradient serves them all."""

    def run(moving):
        total = 0
        for (name, args, which), new in zip(rows, moving, strict=True):
            full = list(args)
            for i, x in zip(which, new, strict=True):
                full[i] = x
            out = getattr(module, name)(*full)
            total += sum(xp.sum(p * WEIGHTS) for p in (out if isinstance(out, tuple) else (out,)))
        return total

    return run


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("start", range(0, len(SLOPES), 4))
def test_gradients_are_those_of_jax(start):
    jax, rows = peer("jax"), SLOPES[start : start + 4]
    moving = [[args[i] for i in which] for _, args, which in rows]
    theirs = weighted(peer("jax.scipy.special"), jax.numpy, rows)
    want = jax.jit(jax.grad(theirs))(moving)
    mine = bv.grad(weighted(special, bnp, rows))
    for got in (mine(moving), bv.jit(mine)(moving)):
        for (name, _, which), g, w in zip(rows, got, want, strict=True):
            for i, x, y in zip(which, g, w, strict=True):
                # JAX has NaN where intermediate results of it do not exist.
                known = np.isfinite(y)
                x, y = np.asarray(x), np.asarray(y)[known]
                assert np.all(np.isfinite(x)) and known.sum() > 4, name
                scale = 1e-5 * np.abs(y).max()
                np.testing.assert_allclose(x[known], y, 1e-3, scale, err_msg=f"{name} by {i}")


def test_gradients_where_jax_has_none_or_wrong_ones():
    x = np.float32([0.4, 1.7, 3.1])
    h = 1e-5

    def slope(fn, x):
        return (fn(x.astype(float) + h) - fn(x.astype(float) - h)) / (2 * h)

    def check(mine, theirs, x, tol=2e-4):
        got = bv.grad(lambda v: mine(v).sum())(x)
        np.testing.assert_allclose(got, slope(theirs, x), tol)

    check(lambda v: special.zeta(v), sp.zeta, np.float32([-3.5, -0.5, 0.4, 3.2]))
    check(lambda v: special.expn(3, v), lambda v: sp.expn(3, v), x)
    check(lambda v: special.polygamma(2, v), lambda v: sp.polygamma(2, v), x)
    check(lambda v: special.bessel_jn(v, v=2)[2], lambda v: sp.jv(2, v), x)
    check(lambda v: special.bessel_jn(v, v=2)[0], lambda v: sp.jv(0, v), x)
    check(lambda v: special.comb(7.5, v), lambda v: sp.comb(7.5, v), x)
    check(lambda v: special.multigammaln(v + 1, 2), lambda v: sp.multigammaln(v + 1, 2), x)
    check(lambda v: special.hyp2f1(1.5, 2.5, 0.7, v), lambda v: sp.hyp2f1(1.5, 2.5, 0.7, v), -x)
    check(lambda v: special.hyp1f1(v, 0.7, -9.0), lambda v: sp.hyp1f1(v, 0.7, -9.0), x, 1e-3)
    # Where the function is a polynomial, its derivative by a parameter is none.
    a = np.float32([-2, 0.4, 3.5])
    check(lambda v: special.hyp1f1(v, 1.5, -20.0), lambda v: sp.hyp1f1(v, 1.5, -20.0), a)
    check(lambda v: special.hyp1f1(v, 1.5, 9.0), lambda v: sp.hyp1f1(v, 1.5, 9.0), a)
    check(lambda v: special.hyp2f1(v, 1.5, 2.25, -3), lambda v: sp.hyp2f1(v, 1.5, 2.25, -3), a)
    check(lambda v: special.hyp2f1(v, 1.5, 0.5, 0.9), lambda v: sp.hyp2f1(v, 1.5, 0.5, 0.9), a)
    got = bv.grad(lambda v: special.sph_harm_y(4, -3, v, 0.5).real.sum())(x)
    want = slope(lambda v: sp.sph_harm_y(4, -3, v, 0.5).real, x)
    np.testing.assert_allclose(got, want, 2e-4, 1e-4)
    z = 0.7 + 0.4j
    for mine, theirs in ((special.wofz, sp.wofz), (special.loggamma, sp.loggamma)):
        got = bv.jvp(mine, (np.complex64(z),), (np.complex64(1),))[1]
        np.testing.assert_allclose(got, (theirs(z + h) - theirs(z - h)) / (2 * h), 1e-4)


def test_second_derivatives_and_vmap():
    x = np.float32([0.4, 1.7, 3.2])
    second = bv.grad(bv.grad(lambda v: special.gammaln(v) + special.dawsn(v)))
    want = sp.polygamma(1, x) - 2 * sp.dawsn(x) - 2 * x * (1 - 2 * x * sp.dawsn(x))
    np.testing.assert_allclose(bv.vmap(second)(x), want, 1e-4)
    found = bv.jit(bv.vmap(special.hyp2f1, in_axes=(None, None, None, 0)))(1.0, 1.0, 2.0, x - 4)
    np.testing.assert_allclose(found, sp.hyp2f1(1, 1, 2, x - np.float32(4)), 1e-6)


def test_float64_is_exact_to_its_own_precision():
    wide = {"dtype": "float64"}
    x = np.linspace(-4.7, 8.9, 60)
    for name in (
        "gamma",
        "erfcx",
        "dawsn",
        "expi",
        "sici",
        "fresnel",
        "log_ndtr",
        "spence",
        "zeta",
    ):
        for g, w in zip(
            flat(getattr(special, name)(bnp.asarray(x, **wide))),
            flat(getattr(sp, name)(x)),
            strict=True,
        ):
            assert g.dtype == np.float64
            np.testing.assert_allclose(g, w, 2e-12, 1e-13, err_msg=name)
    found = special.hyp2f1(*[bnp.asarray(v, **wide) for v in (1.5, -2.5, 3.2, 0.97)])
    np.testing.assert_allclose(found, sp.hyp2f1(1.5, -2.5, 3.2, 0.97), 1e-12)


def test_half_precision_is_rounded_once():
    x = np.float32([0.3, 1.5, 4.0])
    for dtype in ("bfloat16", "float16"):
        got = special.erfcx(bnp.asarray(x, dtype=dtype))
        assert got.dtype == bnp.dtype(dtype)
        np.testing.assert_allclose(np.asarray(got, np.float32), sp.erfcx(x), 1e-2)
    assert special.gamma(3).dtype == np.float32 and special.gamma([1, 2]).dtype == np.float32


@pytest.mark.parametrize("row", VALUES, ids=IDS)
def test_other_dtypes_empty_arrays_and_vmap(row):
    """Warnings are errors here: nothing of float32 meets the float64 of an argument."""
    name, args, rtol, _ = row
    if name in ("bernoulli", "log_softmax", "softmax", "logsumexp"):
        return
    fn = getattr(special, name)
    arrays = [single(a) for a in args]
    rest = {"n_max": 8} if name == "sph_harm_y" else {}

    def every(step):
        return [a if isinstance(a, int) else a[step] for a in arrays]

    assert flat(fn(*every(slice(0, 0)), **rest))[0].shape == (0,)
    axes = tuple([None if isinstance(a, int) else 0 for a in arrays])
    if None not in axes:
        picked = every(slice(None, None, 7))
        mapped = bv.vmap(lambda *xs: fn(*xs, **rest), axes)(*picked)
        for g, w in zip(flat(mapped), flat(fn(*picked, **rest)), strict=True):
            np.testing.assert_allclose(g, w, max(rtol, 1e-6), 1e-6)
    if not any(np.iscomplexobj(a) for a in arrays) and name != "sph_harm_y":
        for dtype in ("bfloat16", "float16", "float64"):
            wide = [
                a if isinstance(a, int) else bnp.asarray(a, dtype=dtype) for a in every(slice(9))
            ]
            dtypes = {out.dtype for out in flat(fn(*wide))}
            assert dtypes <= {np.dtype(bnp.dtype(dtype)), np.dtype("c8"), np.dtype("c16")}


def test_bessel_rows():
    z = np.concatenate([np.linspace(-30, 30, 41), [0, 1e-6, 1e-30]]).astype(np.float32)
    got = special.bessel_jn(z, v=9, n_iter=70)
    assert got.shape == (10, len(z))
    np.testing.assert_allclose(got, sp.jv(np.arange(10)[:, None], z.astype(float)), 1e-5, 5e-7)
    assert special.bessel_jn(1.5, v=0).shape == (1,)


def test_sums_over_axes():
    jax = peer("jax")
    x = RNG.normal(size=(2, 3, 4)).astype(np.float32)
    b = RNG.normal(size=(3, 1)).astype(np.float32)
    cases = [
        lambda m, x: m.softmax(x, axis=(0, 2)),
        lambda m, x: m.log_softmax(x, axis=1),
        lambda m, x: m.logsumexp(x, axis=(0, -1), keepdims=True),
        lambda m, x: m.logsumexp(x, axis=1, b=b, return_sign=True),
        lambda m, x: m.logsumexp(x, 0, where=x > 0),
    ]
    for case in cases:
        for g, w in zip(flat(case(special, x)), flat(case(jax.scipy.special, x)), strict=True):
            np.testing.assert_allclose(g, w, 1e-5, 1e-6)
    assert float(special.logsumexp([-math.inf, -math.inf])) == -math.inf
    assert special.comb(3, 2, repetition=True) == 6


def test_every_public_name_of_jax_is_here():
    theirs = {n for n in dir(peer("jax.scipy.special")) if not n.startswith("_")}
    assert not theirs - set(special.__all__)
    mentioned = {row[0] for row in VALUES} | {"bessel_jn"}
    assert not set(special.__all__) - mentioned, "functions without a row in VALUES"


def test_messages():
    with pytest.raises(TypeError, match="takes real numbers, got complex64"):
        special.erf(1j)
    with pytest.raises(ValueError, match="less than n_iter=3"):
        special.bessel_jn(1.0, v=4, n_iter=3)
    with pytest.raises(NotImplementedError, match=r"math\.factorial"):
        special.factorial(5, exact=True)
    with pytest.raises(NotImplementedError, match="jacfwd"):
        special.sph_harm_y(1, 0, 0.1, 0.2, diff_n=1)
    with pytest.raises(errors.ConcretizationTypeError, match="n_max=8"):
        bv.jit(lambda n: special.sph_harm_y(n, 0, 0.1, 0.2))(3)
    with pytest.raises(ValueError, match="n must not be negative"):
        special.bernoulli(-1)
    with pytest.raises(ValueError, match="d must be at least 1"):
        special.multigammaln(2.0, 0)
