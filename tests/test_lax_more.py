"""The rest of bevel.lax and bevel.lax.linalg against JAX: eager and in one compiled program."""

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import errors, lax
from tests.peers import peer

RNG = np.random.default_rng(1)


def F(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def C(*shape):
    return (F(*shape) + 1j * F(*shape)).astype(np.complex64)


def flat(out):
    return [np.asarray(x) for x in (out if isinstance(out, tuple | list) else (out,))]


def upper(n):
    return np.triu(F(n, n)) + 3 * np.eye(n, dtype=np.float32)


def packed(shape, make=F):
    import scipy.linalg

    (raw, taus), _ = scipy.linalg.qr(make(*shape), mode="raw")
    return np.ascontiguousarray(raw), taus


REFLECTORS, COMPLEX_REFLECTORS = packed((4, 3)), packed((4, 3), C)

LINALG = [
    ("hessenberg", lambda m, x: m.hessenberg(x), (F(2, 4, 4),)),
    ("hessenberg-complex", lambda m, x: m.hessenberg(x), (C(3, 3),)),
    ("tridiagonal", lambda m, x: m.tridiagonal(x), (F(2, 4, 4),)),
    ("tridiagonal-upper", lambda m, x: m.tridiagonal(x, lower=False), (C(3, 3),)),
    ("schur", lambda m, x: m.schur(x), (F(4, 4),)),
    ("schur-alone", lambda m, x: m.schur(x, compute_schur_vectors=False), (C(3, 3),)),
    ("householder", lambda m, a, t: m.householder_product(a, t), REFLECTORS),
    ("householder-complex", lambda m, a, t: m.householder_product(a, t), COMPLEX_REFLECTORS),
    ("ormqr", lambda m, a, t, c: m.ormqr(a, t, c), (*REFLECTORS, F(4, 2))),
    (
        "ormqr-right",
        lambda m, a, t, c: m.ormqr(a, t, c, left=False, transpose=True),
        (*COMPLEX_REFLECTORS, C(2, 4)),
    ),
    (
        "tridiagonal_solve",
        lambda m, *v: m.tridiagonal_solve(*v),
        (F(2, 4), F(2, 4) + 5, F(2, 4), F(2, 4, 3)),
    ),
    (
        "tridiagonal_solve-perturbed",
        lambda m, *v: m.tridiagonal_solve(*v, perturb_singular=True),
        (F(3, 5), F(3, 5), F(3, 5), F(3, 5, 2)),
    ),
    ("cholesky_update", lambda m, r, w: m.cholesky_update(r, w), (upper(4), F(4))),
    (
        "symmetric_product",
        lambda m, a, c: m.symmetric_product(a, c, alpha=2.0, beta=0.5, symmetrize_output=True),
        (F(2, 3, 4), np.broadcast_to(np.eye(3, dtype=np.float32), (2, 3, 3))),
    ),
    (
        "pivots",
        lambda m, p: m.lu_pivots_to_permutation(p, 5),
        (np.array([[2, 1, 4], [4, 4, 3]], np.int32),),
    ),
    ("qr-pivoting", lambda m, x: m.qr(x, pivoting=True, full_matrices=False), (F(4, 3),)),
    ("svd-algorithm", lambda m, x: m.svd(x, algorithm=m.SvdAlgorithm.DEFAULT)[1], (F(3, 2),)),
    ("eigh-qr", lambda m, x: m.eigh(x, implementation=m.EighImplementation.QR)[1], (F(3, 3),)),
    ("eig", lambda m, x: m.eig(x, implementation=m.EigImplementation.LAPACK)[0], (F(3, 3),)),
]


def both(table, mine, theirs, tol=3e-4):
    """Every row eagerly and all rows in one program, against the peer's rows."""
    jax = peer("jax")
    args = [a for _, _, xs in table for a in xs]

    def run(module):
        def go(*args):
            rest, outs = iter(args), []
            for _, fn, xs in table:
                out = fn(module, *[next(rest) for _ in xs])
                outs.append(list(out) if isinstance(out, tuple | list) else [out])
            return outs

        return go

    expected = jax.jit(run(theirs))(*args)
    compiled = bv.jit(run(mine))(*args)
    for (name, fn, xs), want, got in zip(table, expected, compiled, strict=True):
        eager = flat(fn(mine, *[bnp.asarray(x) for x in xs]))
        assert len(want) == len(got) == len(eager), name
        for a, b, c in zip(flat(want), flat(got), eager, strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype) == (c.shape, c.dtype), name
            np.testing.assert_allclose(b, a, rtol=tol, atol=tol, err_msg=f"{name} compiled")
            np.testing.assert_allclose(c, a, rtol=tol, atol=tol, err_msg=f"{name} eager")


def test_linalg_equals_jax():
    both(LINALG, lax.linalg, peer("jax.lax.linalg"))


@pytest.mark.parametrize("make", [F, C], ids=["real", "complex"])
def test_qdwh_is_the_polar_decomposition(make):
    import scipy.linalg

    x = make(5, 3)
    u, h, count, converged = lax.linalg.qdwh(bnp.asarray(x))
    want = scipy.linalg.polar(x)
    assert bool(converged) and 1 < int(count) <= 10
    np.testing.assert_allclose(u, want[0], atol=2e-5)
    np.testing.assert_allclose(h, want[1], atol=2e-5)
    padded = np.pad(x, ((0, 2), (0, 1)), constant_values=7)
    u, h, *_ = bv.jit(lambda x, m, n: lax.linalg.qdwh(x, dynamic_shape=(m, n)))(padded, 5, 3)
    np.testing.assert_allclose(np.asarray(u)[:5, :3], want[0], atol=2e-5)
    np.testing.assert_allclose(np.asarray(h)[:3, :3], want[1], atol=2e-5)
    assert int(lax.linalg.qdwh(bnp.asarray(x), max_iterations=2)[2]) == 2
    assert not lax.linalg.qdwh(bnp.asarray(x), max_iterations=1)[3]


def test_reductions_rebuild_the_matrix():
    x = F(5, 5)
    t, q = lax.linalg.schur(bnp.asarray(x))
    np.testing.assert_allclose(q @ t @ q.T, x, atol=1e-5)
    form, taus = lax.linalg.hessenberg(bnp.asarray(x))
    q = np.eye(5, dtype=np.float32)
    inner = lax.linalg.householder_product(form[1:, :-1], taus)
    q[1:, 1:] = np.asarray(inner)
    np.testing.assert_allclose(q @ np.triu(form, -1) @ q.T, x, atol=1e-5)


def test_null_vectors_by_inverse_iteration():
    """A singular matrix, solved twice with nudged pivots, gives what it maps to zero."""
    jlax = peer("jax.lax.linalg")
    n = 8
    d, e = np.full(n, 2, np.float32), np.full(n, -1, np.float32)
    d[[0, -1]] = 1  # the Laplacian of a path, whose null vector is constant
    d[3], e[2], e[3] = 2, -1, -1
    start = np.linspace(1, 2, n, dtype=np.float32)[:, None]

    def run(module, x):
        for _ in range(2):
            x = module.tridiagonal_solve(e, d, e, x, perturb_singular=True)
            x = x / abs(x).max()
        return x

    for got in (
        run(lax.linalg, bnp.asarray(start)),
        bv.jit(lambda x: run(lax.linalg, x))(bnp.asarray(start)),
        run(jlax, start),
    ):
        np.testing.assert_allclose(np.abs(got), np.ones((n, 1)), atol=1e-4)
    zeros = bnp.zeros(4)
    assert bool(bnp.isnan(lax.linalg.tridiagonal_solve(zeros, zeros, zeros, zeros[:, None])).all())
    found = lax.linalg.tridiagonal_solve(
        zeros, zeros, zeros, bnp.ones((4, 1)), perturb_singular=True
    )
    assert bool(bnp.isfinite(found).all())


def test_subsets_and_refusals():
    x = bnp.asarray(F(4, 3))
    u, s, vh = lax.linalg.svd(x, subset_by_index=(0, 2))
    whole = np.linalg.svd(np.asarray(x))
    assert u.shape == (4, 2) and vh.shape == (2, 3)
    np.testing.assert_allclose(s, whole[1][:2], rtol=1e-5)
    v, w = lax.linalg.eigh(x.T @ x, subset_by_index=(1, 3))
    np.testing.assert_allclose(w, whole[1][[1, 0]] ** 2, rtol=1e-4)
    assert v.shape == (3, 2)
    square = x[:3]
    refused = [
        lambda: lax.linalg.svd(x, algorithm=lax.linalg.SvdAlgorithm.POLAR),
        lambda: lax.linalg.eigh(square, implementation=lax.linalg.EighImplementation.QDWH),
        lambda: lax.linalg.eig(square, implementation=lax.linalg.EigImplementation.MAGMA),
        lambda: lax.linalg.qr(x, use_magma=True),
        lambda: lax.linalg.schur(square, sort_eig_vals=True),
        lambda: bv.grad(lambda x: lax.linalg.hessenberg(x)[0].sum())(square),
    ]
    for call in refused:
        with pytest.raises(errors.Unsupported):
            call()
    wrong = [
        lambda: lax.linalg.householder_product(x.T, x[0]),
        lambda: lax.linalg.ormqr(x, x[0], x.T),
        lambda: lax.linalg.tridiagonal_solve(x[0], x[0], x[0], x),
        lambda: lax.linalg.cholesky_update(square, x[:, 0]),
        lambda: lax.linalg.lu_pivots_to_permutation(bnp.arange(3), 2),
        lambda: lax.linalg.svd(x, subset_by_index=(1, 9)),
        lambda: lax.linalg.qdwh(x.T),
    ]
    for call in wrong:
        with pytest.raises(ValueError):
            call()
