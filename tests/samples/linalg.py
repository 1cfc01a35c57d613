"""Samples of the ops of linalg.py and spectral.py."""

import numpy as np

from bevel.ops import cholesky, eig, eigh, lu, qr, svd, triangular_solve
from bevel.ops.lapack import FLOATS
from tests.samples.base import Sample, normal

REAL, COMPLEX = "float32", "complex64"
TOL = 3e-4
LOOSE = dict(tol=TOL, fd_tol=1e-4)


def adjoint(x):
    return np.conj(np.swapaxes(x, -1, -2))


def positive(shape, dtype=REAL, seed=0):
    x = normal(shape, dtype, seed)
    return (x @ adjoint(x) + shape[-1] * np.eye(shape[-1])).astype(dtype)


def spread(n, dtype=REAL, seed=0):
    """A Hermitian matrix whose eigenvalues are well apart."""
    q, _ = np.linalg.qr(normal((n, n), dtype, seed))
    return ((q * np.arange(1, n + 1)) @ adjoint(q)).astype(dtype)


def regular(m, n, dtype=REAL, seed=0):
    """A matrix whose singular values are well apart and not small."""
    u, s, v = np.linalg.svd(normal((m, n), dtype, seed), full_matrices=False)
    return ((u * np.arange(2, len(s) + 2)) @ v).astype(dtype)


SHAPES = ((3, 3), (4, 2), (2, 4), (1, 3))
EMPTY = ((0, 0), (3, 0), (0, 2))
BAD = np.stack([np.eye(2), -np.eye(2), np.full((2, 2), np.nan)]).astype(np.float32)


def solves():
    for dtype in (REAL, COMPLEX):
        for left_side in (True, False):
            b = normal((3, 2) if left_side else (2, 3), dtype, 1)
            for lower in (True, False):
                for transpose_a, conjugate_a in (
                    (False, False),
                    (True, False),
                    (True, True),
                    (False, True),
                ):
                    if conjugate_a and dtype == REAL:
                        continue
                    params = dict(
                        left_side=left_side,
                        lower=lower,
                        transpose_a=transpose_a,
                        conjugate_a=conjugate_a,
                        unit_diagonal=lower,
                    )
                    args = (positive((3, 3), dtype), b)
                    # A conjugate is not complex-linear: finite differences do not apply.
                    wrt = (1,) if conjugate_a else (0, 1)
                    name = "-".join(k for k, v in params.items() if v)
                    yield Sample(
                        triangular_solve,
                        args,
                        params,
                        grad=wrt,
                        name=name,
                        second_order=lower,
                        **LOOSE,
                    )
    params = dict(left_side=True, lower=True)
    yield Sample(
        triangular_solve,
        (positive((2, 3, 3)), normal((2, 3, 4))),
        params,
        grad=(0, 1),
        name="batch",
        **LOOSE,
    )
    yield Sample(
        triangular_solve, (np.zeros((0, 0), REAL), np.zeros((0, 2), REAL)), params, name="empty"
    )
    yield Sample(
        triangular_solve, (np.zeros((2, 2), REAL), np.ones((2, 1), REAL)), params, name="singular"
    )
    for dtype in FLOATS:
        yield Sample(
            triangular_solve, (positive((2, 2), dtype), normal((2, 1), dtype)), params, tol=TOL
        )


SAMPLES = [
    *solves(),
    *[
        Sample(cholesky, (positive((3, 3), d),), tol=TOL, grad=(0,) if d in FLOATS[:1] else ())
        for d in FLOATS
    ],
    Sample(cholesky, (positive((2, 2, 2)),), grad=(0,), name="batch", tol=TOL),
    Sample(cholesky, (np.zeros((2, 0, 0), REAL),), name="empty"),
    Sample(cholesky, (BAD[:2],), name="not-positive"),
    *[Sample(lu, (normal((3, 3), d),), tol=TOL) for d in FLOATS],
    *[Sample(lu, (normal(s, d, 3),), grad=(0,), **LOOSE) for s in SHAPES for d in (REAL, COMPLEX)],
    Sample(lu, (normal((2, 3, 3)),), grad=(0,), name="batch", **LOOSE),
    Sample(lu, (normal((2, 2, 4, 3)),), name="batch2", tol=TOL),
    Sample(lu, (np.zeros((2, 2), REAL),), name="singular"),
    *[Sample(lu, (np.zeros(s, REAL),), name="empty") for s in EMPTY],
    *[
        Sample(
            qr, (regular(*s, d),), dict(full_matrices=full), grad=(0,), name=f"full{full}", **LOOSE
        )
        for s in SHAPES
        for d in (REAL, COMPLEX)
        for full in (True, False)
        if not (full and d == COMPLEX and s[0] > s[1])
    ],
    *[Sample(qr, (normal((4, 3), d),), dict(full_matrices=False), tol=TOL) for d in FLOATS],
    *[
        Sample(qr, (np.zeros((2, *s), REAL),), dict(full_matrices=full), name=f"empty{full}")
        for s in EMPTY
        for full in (True, False)
    ],
    *[
        Sample(
            svd,
            (regular(*s, d),),
            dict(full_matrices=False, compute_uv=uv),
            grad=(0,),
            name=f"uv{uv}",
            **LOOSE,
        )
        for s in SHAPES
        for d in (REAL, COMPLEX)
        for uv in (True, False)
        if uv is False or d == REAL
    ],
    Sample(
        svd,
        (regular(3, 3),),
        dict(full_matrices=True, compute_uv=True),
        grad=(0,),
        name="square",
        **LOOSE,
    ),
    Sample(svd, (regular(3, 5),), dict(full_matrices=True, compute_uv=True), name="full", tol=TOL),
    *[
        Sample(svd, (regular(3, 2, d),), dict(full_matrices=True, compute_uv=True), tol=TOL)
        for d in FLOATS
    ],
    *[
        Sample(
            svd,
            (np.zeros((2, *s), REAL),),
            dict(full_matrices=full, compute_uv=uv),
            name=f"empty{full}{uv}",
        )
        for s in EMPTY
        for full in (True, False)
        for uv in (True, False)
    ],
    Sample(svd, (BAD[2:],), dict(full_matrices=True, compute_uv=True), name="nan"),
    *[
        Sample(
            eigh,
            (spread(3, d),),
            dict(lower=lower),
            grad=(0,) if d == REAL else (),
            name=f"lower{lower}",
            **LOOSE,
        )
        for d in (REAL, "float64", COMPLEX, "complex128")
        for lower in (True, False)
    ],
    Sample(
        eigh,
        (np.stack([spread(2), spread(2, seed=1)]),),
        dict(lower=True),
        grad=(0,),
        name="batch",
        **LOOSE,
    ),
    Sample(eigh, (np.zeros((2, 0, 0), REAL),), dict(lower=True), name="empty"),
    Sample(eigh, (BAD[2:],), dict(lower=True), name="nan"),
    *[
        Sample(eig, (normal((3, 3), d),), dict(left=left, right=right), tol=TOL)
        for d in FLOATS
        for left in (True, False)
        for right in (True, False)
    ],
    Sample(
        eig,
        (spread(3) + 0.1 * normal((3, 3)),),
        dict(left=False, right=False),
        grad=(0,),
        name="grad",
        **LOOSE,
    ),
    Sample(
        eig, (spread(3, COMPLEX),), dict(left=False, right=False), grad=(0,), name="grad", **LOOSE
    ),
    *[
        Sample(
            eig,
            (spread(3) + 0.1 * normal((3, 3)),),
            dict(left=left, right=True, enable_eigvec_derivs=True),
            grad=(0,),
            name=f"vectors{left}",
            second_order=False,
            **LOOSE,
        )
        for left in (False, True)
    ],
    Sample(eig, (np.zeros((0, 0), REAL),), dict(left=False, right=True), name="empty"),
]
