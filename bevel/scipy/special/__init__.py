"""Special functions with SciPy's names: error functions, gamma and beta functions, integrals,
Bessel and hypergeometric functions, entropies.

They are elementwise over arrays that are broadcast together. Integers enter as float32; functions
of complex numbers say so. Edge cases are SciPy's: poles give infinities or NaN, never errors.
"""

from bevel.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "bevel.scipy.special.bessel": [
            "bessel_jn",
            "i0",
            "i0e",
            "i1",
            "i1e",
            "sph_harm_y",
        ],
        "bevel.scipy.special.elementary": [
            "boxcox",
            "boxcox1p",
            "entr",
            "expit",
            "kl_div",
            "logit",
            "rel_entr",
            "xlog1py",
            "xlogy",
        ],
        "bevel.scipy.special.errors": [
            "dawsn",
            "erf",
            "erfc",
            "erfcx",
            "erfinv",
            "log_ndtr",
            "ndtr",
            "ndtri",
            "owens_t",
            "wofz",
        ],
        "bevel.scipy.special.factorials": [
            "bernoulli",
            "beta",
            "betainc",
            "betaln",
            "comb",
            "digamma",
            "factorial",
            "gamma",
            "gammainc",
            "gammaincc",
            "gammaln",
            "gammasgn",
            "loggamma",
            "multigammaln",
            "poch",
            "polygamma",
            "zeta",
        ],
        "bevel.scipy.special.hypergeometric": [
            "hyp1f1",
            "hyp2f1",
        ],
        "bevel.scipy.special.integrals": [
            "exp1",
            "expi",
            "expn",
            "fresnel",
            "sici",
            "spence",
        ],
        "bevel.scipy.special.sums": [
            "log_softmax",
            "logsumexp",
            "softmax",
        ],
    },
)
