"""Random numbers from explicit keys: the same key gives the same numbers, on every device.

A key is made from a seed, split into as many as are needed, and each is consumed by one draw. The
bits are those of Threefry-2x32 in JAX's partitionable scheme, and so are the numbers.

>>> from bevel import random
>>> key, subkey = random.split(random.key(0))
>>> random.normal(subkey, (2, 3)).shape
(2, 3)
"""

from bevel.core.errors import KeyReuseError, KeyReuseWarning
from bevel.random.choices import categorical, choice, permutation, shuffle
from bevel.random.continuous import (
    cauchy,
    double_sided_maxwell,
    exponential,
    gumbel,
    laplace,
    logistic,
    lognormal,
    maxwell,
    multivariate_normal,
    orthogonal,
    pareto,
    rayleigh,
    triangular,
    wald,
    weibull_min,
)
from bevel.random.discrete import binomial, geometric, multinomial, poisson
from bevel.random.draws import (
    bernoulli,
    bits,
    normal,
    rademacher,
    randint,
    truncated_normal,
    uniform,
)
from bevel.random.gamma import (
    ball,
    beta,
    chisquare,
    dirichlet,
    f,
    gamma,
    generalized_normal,
    loggamma,
    t,
)
from bevel.random.keys import (
    PRNGKey,
    allow_key_reuse,
    clone,
    fold_in,
    is_key,
    key,
    key_data,
    key_dtype,
    key_impl,
    split,
    threefry_2x32,
    wrap_key_data,
)

__all__ = [
    "KeyReuseError",
    "KeyReuseWarning",
    "PRNGKey",
    "allow_key_reuse",
    "ball",
    "bernoulli",
    "beta",
    "binomial",
    "bits",
    "categorical",
    "cauchy",
    "chisquare",
    "choice",
    "clone",
    "dirichlet",
    "double_sided_maxwell",
    "exponential",
    "f",
    "fold_in",
    "gamma",
    "generalized_normal",
    "geometric",
    "gumbel",
    "is_key",
    "key",
    "key_data",
    "key_dtype",
    "key_impl",
    "laplace",
    "loggamma",
    "logistic",
    "lognormal",
    "maxwell",
    "multinomial",
    "multivariate_normal",
    "normal",
    "orthogonal",
    "pareto",
    "permutation",
    "poisson",
    "rademacher",
    "randint",
    "rayleigh",
    "shuffle",
    "split",
    "t",
    "threefry_2x32",
    "triangular",
    "truncated_normal",
    "uniform",
    "wald",
    "weibull_min",
    "wrap_key_data",
]
