"""Samples of the ops of reflectors.py and banded.py."""

import numpy as np

from bevel.ops import (
    cholesky_update,
    geqrf,
    hessenberg,
    householder_product,
    lu_pivots_to_permutation,
    ormqr,
    pivoted_qr,
    schur,
    tridiagonal,
    tridiagonal_solve,
)
from bevel.ops.lapack import FLOATS
from tests.samples.base import Sample, normal
from tests.samples.linalg import LOOSE, TOL, regular

REAL, COMPLEX = "float32", "complex64"


def reflectors(shape, dtype=REAL, seed=0):
    return geqrf(normal(shape, dtype, seed))


def diagonals(shape, dtype=REAL):
    """Three diagonals of a matrix far from singular."""
    low, middle, up = (normal(shape, dtype, i) for i in range(3))
    return low, (middle + 6).astype(dtype), up


def factor(shape, dtype=REAL):
    return np.triu(normal(shape, dtype)) + (3 * np.eye(shape[-1])).astype(dtype)


SQUARES = [
    Sample(op, args, params, tol=TOL, name=name)
    for op, params in (
        (hessenberg, {}),
        (schur, {}),
        (schur, dict(compute_schur_vectors=False)),
        (tridiagonal, {}),
        (tridiagonal, dict(lower=False)),
    )
    for name, args in (
        *[(d.name, (normal((4, 4), d),)) for d in FLOATS],
        ("batch", (normal((2, 3, 3)),)),
        ("one", (normal((1, 1)),)),
        ("empty", (np.zeros((2, 0, 0), REAL),)),
    )
]

SAMPLES = [
    *SQUARES,
    *[Sample(geqrf, (normal((2, *s), d),), tol=TOL) for s in ((4, 2), (2, 4)) for d in FLOATS],
    Sample(geqrf, (np.zeros((0, 2), REAL),), name="empty"),
    *[
        Sample(
            pivoted_qr,
            (regular(*s, d),),
            dict(full_matrices=full),
            grad=(0,),
            name=f"{full}",
            **LOOSE,
        )
        for s, full in (((3, 3), True), ((4, 2), False), ((2, 4), True), ((2, 4), False))
        for d in (REAL, COMPLEX)
    ],
    Sample(pivoted_qr, (normal((2, 4, 2)),), name="tall", tol=TOL),
    Sample(pivoted_qr, (np.zeros((3, 0), REAL),), name="empty"),
    *[Sample(householder_product, reflectors((4, 3), d), tol=TOL) for d in FLOATS],
    *[
        Sample(
            householder_product,
            (normal((4, 3), d), normal((k,), d, 1)),
            grad=(0, 1),
            name="any",
            **LOOSE,
        )
        for d in (REAL, COMPLEX)
        for k in (2, 3)
    ],
    Sample(householder_product, reflectors((2, 3, 3)), name="batch", tol=TOL),
    Sample(
        householder_product, (normal((3, 2)), np.zeros((0,), REAL)), name="no-reflectors", tol=TOL
    ),
    *[
        Sample(
            ormqr,
            (*reflectors(shape, d), normal((4, 5) if left else (5, 4), d, 1)),
            dict(left=left, transpose=transpose),
            grad=grad,
            name=f"{left}-{transpose}-{len(grad)}",
            second_order=left,
            **LOOSE,
        )
        for d in (REAL, COMPLEX)
        for shape in ((4, 2), (4, 5))
        for left in (True, False)
        for transpose in (True, False)
        for grad in ((2,), (0, 1, 2))
    ],
    Sample(ormqr, (*reflectors((2, 3, 2)), normal((2, 3, 2))), name="batch", tol=TOL),
    Sample(ormqr, (*reflectors((3, 2)), np.zeros((3, 0), REAL)), name="empty"),
    *[
        Sample(
            tridiagonal_solve,
            (*diagonals((n,), d), normal((n, 2), d, 5)),
            grad=(0, 1, 2, 3),
            **LOOSE,
        )
        for d in (REAL, COMPLEX)
        for n in (1, 2, 4)
    ],
    Sample(tridiagonal_solve, (*diagonals((2, 3)), normal((2, 3, 2))), name="batch", tol=TOL),
    Sample(tridiagonal_solve, (*[np.zeros(3, REAL)] * 3, normal((3, 2))), name="singular"),
    *[
        Sample(
            tridiagonal_solve,
            (*args, normal((*args[0].shape, 2), d, 5)),
            dict(perturb_singular=True),
            grad=grad,
            name=name,
            **LOOSE,
        )
        for d in (REAL, COMPLEX, "float64")
        for name, grad, args in (
            ("regular", (0, 1, 2, 3), diagonals((4,), d)),
            ("pivots", (), tuple(normal((6,), d, i) for i in range(3))),
            ("one", (), (np.zeros(1, d),) * 3),
            ("two", (), (np.ones(2, d),) * 3),
            ("batch", (), diagonals((2, 3), d)),
        )
    ],
    Sample(tridiagonal_solve, (*[np.zeros(0, REAL)] * 3, np.zeros((0, 2), REAL)), name="empty"),
    *[
        Sample(cholesky_update, (factor((3, 3), d), normal((3,), d)), grad=(0, 1), **LOOSE)
        for d in (REAL, "float64")
    ],
    Sample(cholesky_update, (factor((2, 3, 3)), normal((2, 3))), name="batch", tol=TOL),
    Sample(cholesky_update, (factor((3, 3)), np.zeros(3, REAL)), name="nothing", tol=TOL),
    Sample(cholesky_update, (np.zeros((0, 0), REAL), np.zeros(0, REAL)), name="empty"),
    Sample(
        lu_pivots_to_permutation,
        (np.array([[2, 1, 3], [1, 3, 2]], np.int32),),
        dict(permutation_size=5),
        unbatched=(0,),
    ),
    Sample(lu_pivots_to_permutation, (np.ones((2,), np.int32),), dict(permutation_size=2)),
    Sample(
        lu_pivots_to_permutation, (np.zeros((0,), np.int32),), dict(permutation_size=2), name="none"
    ),
]
