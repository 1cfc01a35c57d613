"""bevel.scipy.stats against SciPy (values) and JAX (names, derivatives): eager and in compiled
programs.
"""

import functools
import inspect
import math
import types

import numpy as np
import pytest
import scipy.stats as st

import bevel as bv
import bevel.numpy as bnp
from bevel import errors, random
from bevel.scipy import stats
from tests.peers import peer

RNG = np.random.default_rng(0)
X = np.float32([0, 1, -1, 0.5, 2, 7.5, -6, 40, -40, np.nan, *np.linspace(-3.1, 6.1, 20)])
K = np.float32([0, 1, 2, 3, 4, 9, 30, -1, 1.5, np.nan])
Q = np.float32([0, 1, -0.1, 1.1, np.nan, 1e-20, 1e-4, 0.5, 0.9999, *np.linspace(0.07, 0.93, 9)])
# Name, rows of shape parameters, of which some are invalid or at an end of their range.
CONTINUOUS = {
    "beta": [(0.5, 0.7), (1, 1), (2.5, 4), (-1, 2)],
    "cauchy": [()],
    "chi2": [(1,), (2,), (7.5,), (0,)],
    "expon": [()],
    "gamma": [(0.5,), (1,), (6.5,), (-1,)],
    "gennorm": [(0.7,), (1,), (3.5,), (-2,)],
    "gumbel_l": [()],
    "gumbel_r": [()],
    "laplace": [()],
    "logistic": [()],
    "norm": [()],
    "pareto": [(0.5,), (3,), (0,)],
    "t": [(0.8,), (3,), (60,), (np.inf,), (-1,)],
    "truncnorm": [(-1, 2), (-np.inf, 1.5), (2, np.inf), (3, 6), (-6, -2), (2, 1)],
    "uniform": [()],
    "vonmises": [(0.3,), (4,), (60,), (-1,)],
    "wrapcauchy": [(0.3,), (0.9,), (1.5,)],
}
DISCRETE = {
    "bernoulli": [(0.3,), (0,), (1,), (1.2,)],
    "betabinom": [(9, 0.5, 2), (4, 3, 3), (4, -1, 1)],
    "binom": [(9, 0.3), (4, 0), (4, 1), (0, 0.5), (2.5, 0.5)],
    "geom": [(0.3,), (0.97,), (0,)],
    "nbinom": [(2.5, 0.3), (4, 1), (0, 0.5)],
    "poisson": [(0.3,), (0,), (4.5,), (-1,)],
}


def names(law):
    return [n for n in dir(getattr(stats, law)) if n != "entropy"]


def calls(law, shapes):
    """Functions of a law with their arguments: a column of values against a row of parameters, the
    last of which are moved.
    """
    rows = [(*row, 0, 1) for row in shapes] + [(*shapes[0], 0.5, 2)]
    if law in DISCRETE:
        rows = [(*row[:-2], 2 * row[-2]) for row in rows]
    parameters = list(np.float32(rows).T)
    for name in names(law):
        first = Q if name in ("ppf", "isf") else K if law in DISCRETE else X
        yield name, [first[:, None], *parameters]


def agree(law, name, args, got, tol):
    wide = [np.asarray(a, np.float64) for a in args]
    with np.errstate(all="ignore"):
        want = getattr(getattr(st, law), name)(*wide)
    got = np.asarray(got)
    if name.startswith("log"):
        # SciPy's own logarithms of tails end where its probabilities underflow.
        # So do ours in float32; and it forgets NaN above the support.
        want = np.where((want < -85) & (got < -80), got, want)
        with np.errstate(all="ignore"):
            want = np.where(np.isnan(getattr(getattr(st, law), name[3:])(*wide)), np.nan, want)
    atol = 10 * tol if name.startswith("log") else tol / 10 if name in ("ppf", "isf") else 1e-12
    with np.errstate(all="ignore"):
        want = want.astype(got.dtype)
    bad = ~np.isclose(got, want, tol, atol, equal_nan=True)
    where = [np.broadcast_to(a, got.shape)[bad] for a in args]
    assert not bad.any(), f"{law}.{name}{where}: {got[bad]} instead of {want[bad]}"


@pytest.mark.parametrize("law", [*CONTINUOUS, *DISCRETE])
def test_eager_and_compiled_values(law):
    rows = list(calls(law, (CONTINUOUS | DISCRETE)[law]))
    functions = [getattr(getattr(stats, law), name) for name, _ in rows]
    compiled = bv.jit(lambda xs: [f(*x) for f, x in zip(functions, xs, strict=True)])
    outs = compiled([args for _, args in rows])
    for (name, args), function, out in zip(rows, functions, outs, strict=True):
        got = function(*args)
        assert got.dtype == out.dtype == np.float32
        agree(law, name, args, got, 3e-5)
        agree(law, name, args, out, 1e-4)
        got = function(*[bnp.asarray(a, dtype="float64") for a in args])
        assert got.dtype == np.float64
        agree(law, name, args, got, 1e-9)


def theirs(jax, law, name):
    module = getattr(jax.scipy.stats, law)
    return getattr(module, name, None)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [CONTINUOUS, DISCRETE], ids=["continuous", "discrete"])
def test_gradients_are_those_of_jax(kind):
    """Of the functions that JAX has too, with respect to `x` and the real parameters."""
    jax = peer("jax")
    skipped = {"beta": {"cdf", "sf", "logcdf", "logsf"}, "bernoulli": {"cdf", "ppf"}}
    inner, weights = np.float32([0.2, 0.45, 0.7]), np.float32([1, -0.5, 0.3])
    for law, shapes in kind.items():
        # The others are made of these.
        known = [n for n in names(law) if n not in {"pdf", "pmf", "isf", *skipped.get(law, ())}]
        known = [n for n in known if theirs(jax, law, n)]
        first = np.float32([1, 2, 3]) if kind is DISCRETE else inner + (law == "pareto")
        first = np.float32([0, 1, 1]) if law == "bernoulli" else first
        args = [first, *[np.full(3, s, np.float32) for s in shapes[0]]]
        # Counts are not differentiated.
        fixed = 2 if law in ("binom", "betabinom") else 1 if kind is DISCRETE else 0

        def total(pick, moving, known=known, args=args, fixed=fixed):
            full, out = [*args[:fixed], *moving], 0
            for n in known:
                values = [inner, *full[1:]] if n in ("ppf", "isf") else full
                out += (pick(n)(*values) * weights).sum()
            return out

        mine = bv.grad(functools.partial(total, functools.partial(getattr, getattr(stats, law))))
        other = jax.grad(functools.partial(total, functools.partial(theirs, jax, law)))
        for g, w in zip(mine(args[fixed:]), jax.jit(other)(args[fixed:]), strict=True):
            np.testing.assert_allclose(g, w, 2e-3, 2e-4, err_msg=law)


def test_gradients_outside_of_the_support_and_at_its_ends():
    def total(parameters):
        x = bnp.array([-3.0, 0.3, 0.9, 5.0])
        a, b = parameters
        return (
            stats.beta.pdf(x, a, b) + stats.gamma.cdf(x, a) + stats.pareto.sf(x, b)
            + stats.truncnorm.logcdf(x[2], -bnp.inf, b) + stats.uniform.pdf(x, a, b)
            + stats.poisson.pmf(x + 0.5, a) + stats.gennorm.pdf(x, a)
        ).sum()  # fmt: skip

    for g in bv.jit(bv.grad(total))((2.5, 3.5)):
        assert np.isfinite(g)
    slope = bv.vmap(bv.grad(stats.norm.logcdf))(bnp.array([-30.0, 0.0, 30.0]))
    np.testing.assert_allclose(slope, [30.033, 0.79788, 0], 1e-4, 1e-6)


def test_tails_keep_their_digits():
    np.testing.assert_allclose(stats.norm.logsf(20.0), st.norm.logsf(20.0), 1e-6)
    np.testing.assert_allclose(stats.norm.isf(1e-20), st.norm.isf(1e-20), 1e-6)
    np.testing.assert_allclose(stats.cauchy.cdf(-1e8), st.cauchy.cdf(-1e8), 1e-6)
    np.testing.assert_allclose(stats.expon.cdf(1e-10), st.expon.cdf(1e-10), 1e-6)
    np.testing.assert_allclose(stats.gumbel_r.sf(30.0), st.gumbel_r.sf(30.0), 1e-6)
    np.testing.assert_allclose(stats.logistic.logcdf(-90.0), -90, 1e-6)
    np.testing.assert_allclose(stats.t.logpdf(1.0, 1e6), st.norm.logpdf(1.0), 1e-5)
    np.testing.assert_allclose(
        stats.truncnorm.logpdf(21.0, 20, 30), st.truncnorm.logpdf(21, 20, 30), 1e-5
    )
    np.testing.assert_allclose(
        stats.binom.logpmf(500, 1000, 0.5), st.binom.logpmf(500, 1000, 0.5), 1e-4
    )


def test_large_counts_keep_their_digits():
    """Logarithms of gamma functions of this size alone are off by 0.1 in float32."""
    big = np.float32(1e5)
    k = np.round(big + np.sqrt(big) * np.linspace(-4, 4, 9)).astype(np.float32)
    cases = {
        "poisson.logpmf": (k, big),
        "gamma.logpdf": (k, big),
        "chi2.logpdf": (2 * k, 2 * big),
        "binom.logpmf": (k, 3 * big, np.float32(1 / 3)),
        "nbinom.logpmf": (k, big, np.float32(0.5)),
        "beta.logpdf": (k / (3 * big), big, 2 * big),
        "betabinom.logpmf": (k, 3 * big, big, 2 * big),
        "t.logpdf": (k / big, big),
    }

    def run(args):
        return [getattr(getattr(stats, name.split(".")[0]), name.split(".")[1])(*a)
                for name, a in zip(cases, args, strict=True)]  # fmt: skip

    args = list(cases.values())
    slopes = bv.grad(lambda v: sum(out.sum() for out in run(v)))(args)
    for outs in (run(args), bv.jit(run)(args)):
        for (name, a), got, slope in zip(cases.items(), outs, slopes, strict=True):
            law, function = name.split(".")
            reference = getattr(getattr(st, law), function)
            wide = [np.asarray(v, np.float64) for v in a]
            np.testing.assert_allclose(got, reference(*wide), 0, 3e-4, err_msg=name)
            if function == "logpdf":
                step = 1e-4 * wide[0]
                ahead, behind = [reference(wide[0] + s, *wide[1:]) for s in (step, -step)]
                want = (ahead - behind) / (2 * step)
                np.testing.assert_allclose(slope[0], want, 2e-2, 2e-2 * np.abs(want).max())


def test_broadcasting_keywords_and_dtypes():
    x = RNG.normal(size=(4, 1)).astype(np.float32)
    loc = np.float32([0, 1, 2])
    got = stats.norm.pdf(x, scale=2, loc=loc)
    np.testing.assert_allclose(got, st.norm.pdf(x, loc, 2), 1e-5)
    assert stats.norm.cdf(1).dtype == np.float32
    assert stats.gamma.pdf(bnp.asarray(1.0, dtype="float64"), 2.0).dtype == np.float64
    assert stats.gamma.pdf(bnp.asarray(1.0, dtype="bfloat16"), 2.0).dtype == bnp.bfloat16
    assert str(inspect.signature(stats.binom.pmf)) == "(k, n, p, loc=0)"
    assert str(
        inspect.signature(stats.beta.ppf if "ppf" in dir(stats.beta) else stats.beta.cdf)
    ) == ("(x, a, b, loc=0, scale=1)")
    assert stats.norm.logpdf.__doc__.startswith("Logarithm of the density")


def test_poisson_entropy():
    mu = np.float32([0, 1e-3, 0.5, 5, 39, 41, 50, 500, -1, np.nan])
    np.testing.assert_allclose(stats.poisson.entropy(mu), st.poisson.entropy(mu), 2e-5)
    np.testing.assert_allclose(bv.jit(stats.poisson.entropy)(mu), st.poisson.entropy(mu), 1e-4)
    assert stats.poisson.entropy(mu, loc=3).shape == mu.shape


def test_dirichlet_and_multinomial():
    alpha = np.float32([0.7, 2, 3.5])
    x = RNG.dirichlet(alpha, size=5).astype(np.float32).T
    want = st.dirichlet.logpdf(x / x.sum(0, dtype=np.float64), alpha)
    for points in (x, x[:2]):
        np.testing.assert_allclose(stats.dirichlet.logpdf(points, alpha), want, 1e-4, 1e-4)
    np.testing.assert_allclose(bv.jit(stats.dirichlet.pdf)(x, alpha), np.exp(want), 1e-4)
    np.testing.assert_array_equal(stats.dirichlet.pdf([[0.5, 1.2], [0.7, -0.2]], [1.0, 1]), [0, 0])
    assert np.isnan(stats.dirichlet.pdf([0.5, 0.5], [1.0, -1.0]))
    counts, p = np.array([[1, 2, 0], [0, 0, 3], [1, 1, 2]]), np.float32([0.2, 0.5, 0.3])
    want = st.multinomial.logpmf(counts, 3, p.astype(float) / p.astype(float).sum())
    np.testing.assert_allclose(stats.multinomial.logpmf(counts, 3, p), want, 1e-5)
    np.testing.assert_allclose(bv.jit(stats.multinomial.pmf)(counts, 3, p), np.exp(want), 1e-5)
    with pytest.raises(errors.ShapeError, match=r"x\.T if its points are rows"):
        stats.dirichlet.logpdf(x.T, alpha)
    with pytest.raises(TypeError, match="x must be integers, got float32"):
        stats.multinomial.pmf([1.0, 2.0], 3, [0.5, 0.5])


def test_multivariate_normal():
    jax = peer("jax")
    root = RNG.normal(size=(2, 3, 3))
    cov = (root @ root.swapaxes(-1, -2) + 3 * np.eye(3)).astype(np.float32)
    x, mean = RNG.normal(size=(4, 2, 3)).astype(np.float32), np.float32([0.5, -1, 2])
    cases = [
        (x, mean, cov[0]), (x, mean, cov), (x[0, 0], mean, cov), (x, mean, 2.5), (x, 0.5, 2.0),
        (x[0, 0], mean, cov[0]),
    ]  # fmt: skip
    theirs = jax.scipy.stats.multivariate_normal.logpdf
    for args, want in zip(cases, jax.jit(lambda v: [theirs(*a) for a in v])(cases), strict=True):
        got = stats.multivariate_normal.logpdf(*args)
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, 1e-4, 1e-5)
    want = st.multivariate_normal.pdf(x, mean, cov[0].astype(float))
    np.testing.assert_allclose(bv.jit(stats.multivariate_normal.pdf)(x, mean, cov[0]), want, 1e-4)
    mine = bv.grad(lambda m, c: stats.multivariate_normal.logpdf(x, m, c).sum(), (0, 1))
    slope = jax.jit(jax.grad(lambda m, c: theirs(x, m, c).sum(), (0, 1)))
    for g, w in zip(mine(mean, cov[0]), slope(mean, cov[0]), strict=True):
        np.testing.assert_allclose(g, w, 1e-3, 1e-3)
    with pytest.raises(errors.ShapeError, match=r"bnp\.diag\(variances\)"):
        stats.multivariate_normal.pdf(x, mean, np.ones(3, np.float32))
    with pytest.raises(NotImplementedError, match="1e-6"):
        stats.multivariate_normal.pdf(x, mean, cov[0], allow_singular=True)


@pytest.mark.parametrize("d", [1, 2])
def test_kernel_density(d):
    data = RNG.normal(size=(d, 40)).astype(np.float32)
    points, weights = RNG.normal(size=(d, 7)).astype(np.float32), RNG.random(40).astype(np.float32)
    for options in ({}, {"bw_method": "silverman", "weights": weights}, {"bw_method": 0.3}):
        mine, theirs = stats.gaussian_kde(data, **options), st.gaussian_kde(data, **options)
        np.testing.assert_allclose(mine(points), theirs(points), 1e-4)
        np.testing.assert_allclose(mine.logpdf(points), theirs.logpdf(points), 1e-4, 1e-5)
        np.testing.assert_allclose(mine.covariance, theirs.covariance, 1e-5)
        np.testing.assert_allclose(
            mine.integrate_gaussian(np.ones(d), np.eye(d)),
            theirs.integrate_gaussian(np.ones(d), np.eye(d)),
            1e-5,
        )
        np.testing.assert_allclose(mine.integrate_kde(mine), theirs.integrate_kde(theirs), 1e-4)
    if d == 1:
        want = theirs.integrate_box_1d(-0.5, 1)
        np.testing.assert_allclose(mine.integrate_box_1d(-0.5, 1), want, 1e-5)
        np.testing.assert_allclose(mine.integrate_box([-0.5], [1]), want, 1e-5)
    # The estimator is a container: it goes through transforms.
    slope = bv.jit(bv.grad(lambda kde, x: kde.logpdf(x).sum(), 1))(mine, points)
    ahead = [
        stats.gaussian_kde(data, 0.3).logpdf(points + e * np.float32(1e-2)).sum() for e in (1, -1)
    ]
    np.testing.assert_allclose(slope.sum(), (ahead[0] - ahead[1]) / 2e-2, 2e-2)
    drawn = mine.resample(random.key(0), (3000,))
    assert drawn.shape == (d, 3000)
    np.testing.assert_allclose(np.mean(drawn, axis=1), data.mean(1), atol=0.1)
    np.testing.assert_allclose(np.var(drawn, axis=1), 1.09 * data.var(1), rtol=0.15)
    assert mine.resample(random.key(0), (2, 5)).shape == (d, 2, 5)
    callable_method = stats.gaussian_kde(data, lambda kde: kde.neff**-0.5)
    np.testing.assert_allclose(callable_method.covariance / np.cov(data), 1 / 40, 1e-5)


def test_kernel_density_messages():
    with pytest.raises(ValueError, match="several points are needed"):
        stats.gaussian_kde([1.0])
    with pytest.raises(ValueError, match="'scott', 'silverman'"):
        stats.gaussian_kde([1.0, 2], bw_method="wide")
    with pytest.raises(ValueError, match=r"need \(2,\)"):
        stats.gaussian_kde([1.0, 2], weights=[1.0])
    with pytest.raises(TypeError, match="must be real"):
        stats.gaussian_kde([1j, 2])
    plane = stats.gaussian_kde(RNG.normal(size=(2, 9)))
    with pytest.raises(errors.ShapeError, match=r"points\.T"):
        plane(np.zeros((3, 4)))
    with pytest.raises(ValueError, match="1 dimension, not 2"):
        plane.integrate_box_1d(0, 1)
    with pytest.raises(NotImplementedError, match="resample"):
        plane.integrate_box([0, 0], [1, 1])
    with pytest.raises(NotImplementedError, match="bw_method"):
        plane.set_bandwidth(1.0)


def test_mode():
    x = RNG.integers(0, 4, size=(5, 3, 4))
    y = np.float32([[1, 2, np.nan], [np.nan, 2, 1], [np.nan, 0, 1]])
    for a in (x, y):
        for axis in (*range(a.ndim), -1, None):
            for keepdims in (False, True):
                want = st.mode(a, axis=axis, keepdims=keepdims)
                run = lambda v: stats.mode(v, axis=axis, keepdims=keepdims)  # noqa: B023
                for got in (run(a), bv.jit(run)(a)) if axis in (0, None) else (run(a),):
                    np.testing.assert_array_equal(got.mode, want.mode)
                    np.testing.assert_array_equal(got.count, want.count)
                    assert got.count.dtype == np.int32
    assert np.isnan(stats.mode(np.zeros((0, 2))).mode).all()
    with pytest.raises(ValueError, match="nan_policy='omit' is not supported"):
        stats.mode(x, nan_policy="omit")


def test_rankdata():
    x = RNG.integers(0, 4, size=(3, 7)).astype(np.float32)
    x[1, 2] = np.nan
    for method in ("average", "min", "max", "dense", "ordinal"):
        for axis in (0, 1):
            want = st.rankdata(x, method, axis=axis)
            for run in (stats.rankdata, bv.jit(stats.rankdata, static_argnames=("method", "axis"))):
                np.testing.assert_array_equal(run(x, method=method, axis=axis), want)
        np.testing.assert_array_equal(stats.rankdata(x[::2], method), st.rankdata(x[::2], method))
    assert stats.rankdata([]).shape == (0,)
    with pytest.raises(ValueError, match="'average', 'dense'"):
        stats.rankdata(x, "mean")


def test_sem():
    x = RNG.normal(size=(5, 4)).astype(np.float32)
    y = np.where(x > 1, np.nan, x).astype(np.float32)
    for axis in (0, 1, None):
        np.testing.assert_allclose(stats.sem(x, axis, ddof=0), st.sem(x, axis, ddof=0), 1e-5)
        got = stats.sem(y, axis, nan_policy="omit", keepdims=True)
        np.testing.assert_allclose(got, st.sem(y, axis, nan_policy="omit", keepdims=True), 1e-5)
    assert np.isnan(stats.sem(y, None))
    with pytest.raises(ValueError, match="'propagate' or 'omit'"):
        stats.sem(x, nan_policy="raise")


def test_every_public_name_of_jax_is_here():
    jax_stats = peer("jax.scipy.stats")
    missing = []
    for name in [n for n in dir(jax_stats) if not n.startswith("_")]:
        there, here = getattr(jax_stats, name), getattr(stats, name, None)
        if here is None:
            missing.append(name)
        elif isinstance(there, types.ModuleType):
            for function in [n for n in dir(there) if not n.startswith("_")]:
                found = getattr(here, function, None) if function in dir(here) else None
                if found is None:
                    missing.append(f"{name}.{function}")
                    continue
                # The same arguments by position; SciPy's loc and scale may follow.
                known = [*inspect.signature(there.__dict__[function]).parameters]
                own = [*inspect.signature(found).parameters]
                assert len(own) >= len(known) and own[1 : len(known)] == known[1:], found
    assert not missing


def test_unknown_functions_name_the_known_ones():
    with pytest.raises(AttributeError, match="vonmises has no ppf; it has logpdf, pdf"):
        stats.vonmises.ppf(0.5)
    assert math.isclose(float(stats.norm.pdf(0.0)), 0.39894, rel_tol=1e-4)
