"""Linear algebra beyond `bevel.numpy.linalg`, with SciPy's names: solves from factors, structured
matrices, functions of matrices.

Leading axes are a stack of matrices. Arguments that only matter to SciPy (`overwrite_a`,
`check_finite`, `debug`, ...) are taken and not used: arrays are immutable, and compiled code cannot
raise. What has no result gives NaN.
"""

from bevel.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "bevel.scipy.linalg.factors": [
            "cholesky",
            "eigh",
            "eigh_tridiagonal",
            "hessenberg",
            "lu",
            "polar",
            "qr",
            "qr_multiply",
            "rsf2csf",
            "schur",
            "svd",
        ],
        "bevel.scipy.linalg.functions": [
            "expm",
            "expm_frechet",
            "funm",
            "solve_sylvester",
            "sqrtm",
        ],
        "bevel.scipy.linalg.patterns": [
            "block_diag",
            "circulant",
            "companion",
            "convolution_matrix",
            "dft",
            "fiedler",
            "fiedler_companion",
            "hadamard",
            "hankel",
            "helmert",
            "hilbert",
            "invhilbert",
            "invpascal",
            "leslie",
            "pascal",
            "toeplitz",
        ],
        "bevel.scipy.linalg.solves": [
            "cho_factor",
            "cho_solve",
            "det",
            "inv",
            "lu_factor",
            "lu_solve",
            "solve",
            "solve_triangular",
        ],
    },
)
