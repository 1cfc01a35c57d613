"""Probability distributions and statistics with SciPy's names.

A distribution is an object with functions: `norm.logpdf(x, loc=0, scale=1)`, `norm.cdf`, `norm.sf`,
`norm.ppf`, ... They broadcast, differentiate (also with respect to parameters) and compile. Outside
of the support the density is 0; NaN is the answer to invalid parameters.

>>> from bevel.scipy import stats
>>> bnp.round(stats.norm.cdf([-1.0, 0.0, 1.0]), 4)
Array([0.1587, 0.5   , 0.8413], dtype=float32)
>>> stats.expon
<distribution expon: cdf, isf, logcdf, logpdf, logsf, pdf, ppf, sf>
"""

from bevel.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "bevel.scipy.stats.continuous": [
            "beta",
            "cauchy",
            "chi2",
            "expon",
            "gamma",
            "gennorm",
            "gumbel_l",
            "gumbel_r",
            "laplace",
            "logistic",
            "norm",
            "pareto",
            "t",
            "truncnorm",
            "uniform",
            "vonmises",
            "wrapcauchy",
        ],
        "bevel.scipy.stats.density": [
            "gaussian_kde",
        ],
        "bevel.scipy.stats.discrete": [
            "bernoulli",
            "betabinom",
            "binom",
            "geom",
            "nbinom",
            "poisson",
        ],
        "bevel.scipy.stats.joint": [
            "dirichlet",
            "multinomial",
            "multivariate_normal",
        ],
        "bevel.scipy.stats.samples": [
            "ModeResult",
            "mode",
            "rankdata",
            "sem",
        ],
    },
)
