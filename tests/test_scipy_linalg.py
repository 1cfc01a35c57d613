"""bevel.scipy.linalg against scipy.linalg."""

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
import bevel.scipy.linalg as sl
from bevel.core.errors import ShapeError, Unsupported
from tests.scipy_checks import check_compiled, check_eager, check_gradient, same

ref = pytest.importorskip("scipy.linalg")

RNG = np.random.default_rng(0)


def F(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def C(*shape):
    return (F(*shape) + 1j * F(*shape)).astype(np.complex64)


def H(x):
    return x.conj().swapaxes(-1, -2)


def spd(*shape, make=F):
    a = make(*shape)
    return (a @ H(a) + shape[-1] * np.eye(shape[-1])).astype(a.dtype)


def up_to_phase(v):
    """Columns without their sign or phase: the projections on each."""
    return v[..., :, None, :] * v.conj()[..., None, :, :]


def eig_parts(out):
    w, v = out
    return w, up_to_phase(v)


ONE4 = np.eye(4, dtype=np.int32)
TRIANGLE = np.triu(F(4, 4)) + 3 * np.eye(4, dtype=np.float32)
NORMAL = (lambda a: a + 4 * np.eye(4, dtype=np.float32))(F(4, 4))
POSITIVE = spd(4, 4)

CASES = [
    ("cholesky'", lambda m, a: m.cholesky(a @ a.T + 4 * ONE4), (F(4, 4),)),
    ("cholesky-lower", lambda m, a: m.cholesky(a, lower=True), (spd(2, 3, 3),)),
    ("cholesky-complex", lambda m, a: m.cholesky(a), (spd(3, 3, make=C),)),
    ("cholesky-one-triangle", lambda m, a: m.cholesky(a), (np.triu(POSITIVE),)),
    ("cho_factor", lambda m, a: np_triangle(m.cho_factor(a, lower=True)[0]), (POSITIVE,)),
    ("cho_solve'", lambda m, a, b: m.cho_solve(m.cho_factor(a @ a.T + ONE4), b), (F(4, 4), F(4))),
    (
        "cho_solve-lower",
        lambda m, a, b: m.cho_solve(m.cho_factor(a, lower=True), b),
        (spd(3, 3, make=C), C(3, 2)),
    ),
    ("lu'", lambda m, a: m.lu(a)[1:], (F(4, 4),)),
    ("lu-tall", lambda m, a: m.lu(a), (F(4, 3),)),
    ("lu-wide", lambda m, a: m.lu(a, permute_l=True), (C(2, 3, 4),)),
    ("lu_factor", lambda m, a: m.lu_factor(a), (F(4, 4),)),
    ("lu_solve'", lambda m, a, b: m.lu_solve(m.lu_factor(a), b), (NORMAL, F(4, 2))),
    ("lu_solve-trans", lambda m, a, b: m.lu_solve(m.lu_factor(a), b, trans=1), (C(4, 4), C(4))),
    ("lu_solve-adjoint'", lambda m, a, b: m.lu_solve(m.lu_factor(a), b, trans=2), (C(4, 4), C(4))),
    ("solve'", lambda m, a, b: m.solve(a, b), (NORMAL, F(4))),
    ("solve-sym", lambda m, a, b: m.solve(a, b, assume_a="sym"), (POSITIVE, F(4, 3))),
    ("solve-pos'", lambda m, a, b: m.solve(a @ a.T, b, assume_a="pos"), (NORMAL, F(4))),
    (
        "solve-pos-lower",
        lambda m, a, b: m.solve(a, b, lower=True, assume_a="pos"),
        (POSITIVE, F(4)),
    ),
    ("solve-her", lambda m, a, b: m.solve(a, b, assume_a="her"), (spd(3, 3, make=C), C(3))),
    ("solve-stack", lambda m, a, b: m.solve(a, b), (spd(2, 3, 3), F(2, 3, 2))),
    ("solve_triangular'", lambda m, a, b: m.solve_triangular(a, b), (TRIANGLE, F(4))),
    (
        "solve_triangular-T",
        lambda m, a, b: m.solve_triangular(a, b, trans="T", lower=True, unit_diagonal=True),
        (F(4, 4) / 4, F(4, 2)),
    ),
    (
        "solve_triangular-C",
        lambda m, a, b: m.solve_triangular(a, b, trans=2),
        (TRIANGLE + 1j * np.triu(F(4, 4)).astype(np.complex64), C(4, 2)),
    ),
    ("inv'", lambda m, a: m.inv(a), (NORMAL,)),
    ("inv-complex", lambda m, a: m.inv(a), (C(3, 3),)),
    ("det'", lambda m, a: m.det(a), (NORMAL,)),
    ("det-complex", lambda m, a: m.det(a), (C(2, 3, 3),)),
    ("svd'", lambda m, a: m.svd(a, compute_uv=False), (F(4, 3),)),
    ("svd-economic", lambda m, a: rebuilt(*m.svd(a, full_matrices=False)), (C(2, 4, 3),)),
    ("svd-shapes", lambda m, a: [abs(x).sum() * 0 for x in m.svd(a)], (F(4, 3),)),
    ("eigh'", lambda m, a: eig_parts(m.eigh(a + a.T)), (F(4, 4),)),
    ("eigh-complex", lambda m, a: eig_parts(m.eigh(a)), (spd(3, 3, make=C),)),
    ("eigh-alone", lambda m, a: m.eigh(a, eigvals_only=True), (spd(2, 3, 3),)),
    ("eigh-b'", lambda m, a, b: eig_parts(m.eigh(a + a.T, b @ b.T + ONE4)), (F(4, 4), F(4, 4))),
    ("eigh-b-2", lambda m, a, b: eig_parts(m.eigh(a, b, type=2)), (spd(3, 3), spd(3, 3))),
    (
        "eigh-b-3",
        lambda m, a, b: eig_parts(m.eigh(a, b, type=3)),
        (spd(3, 3, make=C), spd(3, 3, make=C)),
    ),
    ("eigh_tridiagonal'", lambda m, d, e: eig_parts(m.eigh_tridiagonal(d, e)), (F(5), F(4))),
    (
        "eigh_tridiagonal-select",
        lambda m, d, e: (
            m.eigh_tridiagonal(d, e, True, select="i", select_range=(1, 3))
            if m is not sl
            else m.eigh_tridiagonal(d, e, eigvals_only=True, select="i", select_range=(1, 3))
        ),
        (F(5), F(4)),
    ),
    ("qr-tall", lambda m, a: positive_qr(*m.qr(a, mode="economic")), (F(4, 3),)),
    ("qr-wide", lambda m, a: positive_qr(*m.qr(a)), (C(2, 3, 4),)),
    ("qr'", lambda m, a: positive_qr(*m.qr(a)), (NORMAL,)),
    ("qr-r", lambda m, a: abs(m.qr(a, mode="r")[0]), (F(3, 3),)),
    ("qr-pivoting'", lambda m, a: pivoted(*m.qr(a, mode="economic", pivoting=True)), (F(5, 4),)),
    ("qr-pivoting-complex", lambda m, a: pivoted(*m.qr(a, pivoting=True)), (C(4, 4),)),
    ("qr-r-pivoting", lambda m, a: pivoted(None, *m.qr(a, mode="r", pivoting=True)), (F(3, 4),)),
    ("qr_multiply", lambda m, a, c: m.qr_multiply(a, c), (F(4, 3), F(2, 4))),
    ("qr_multiply-left", lambda m, a, c: m.qr_multiply(a, c, "left"), (F(4, 3), F(3))),
    (
        "qr_multiply-conjugate",
        lambda m, a, c: m.qr_multiply(a, c, conjugate=True, pivoting=True),
        (C(4, 4), C(4)),
    ),
    ("polar'", lambda m, a: m.polar(a), (F(4, 4),)),
    ("polar-tall", lambda m, a: m.polar(a), (C(4, 3),)),
    ("polar-left", lambda m, a: m.polar(a, side="left"), (F(3, 4),)),
    ("hessenberg", lambda m, a: m.hessenberg(a, calc_q=True), (F(4, 4),)),
    ("hessenberg-complex", lambda m, a: m.hessenberg(a), (C(4, 4),)),
    ("schur", lambda m, a: rebuilt_schur(*m.schur(a), 2), (F(4, 4),)),
    ("schur-complex", lambda m, a: rebuilt_schur(*m.schur(a, output="complex")), (C(3, 3),)),
    ("rsf2csf", lambda m, t, z: rebuilt_schur(*m.rsf2csf(t, z)), ref.schur(F(5, 5))),
    ("expm'", lambda m, a: m.expm(a), (F(4, 4),)),
    ("expm-squared'", lambda m, a: m.expm(a), (3 * F(3, 3),)),
    ("expm-complex", lambda m, a: m.expm(a), (C(2, 3, 3),)),
    (
        "expm-triangular",
        lambda m, a: m.expm(a, **({"upper_triangular": True} if m is sl else {})),
        (TRIANGLE / 2,),
    ),
    ("expm_frechet", lambda m, a, e: m.expm_frechet(a, e), (F(3, 3), F(3, 3))),
    (
        "expm_frechet-alone",
        lambda m, a, e: m.expm_frechet(a, e, compute_expm=False),
        (C(3, 3), C(3, 3)),
    ),
    ("sqrtm'", lambda m, a: m.sqrtm(a @ a.T + ONE4) + 0j, (F(4, 4),)),
    ("sqrtm-complex", lambda m, a: m.sqrtm(a), (C(3, 3),)),
    ("sqrtm-negative", lambda m, a: m.sqrtm(a), (F(4, 4),)),
    ("funm", lambda m, a: m.funm(a, lambda x: x**2 + 1) + 0j, (F(4, 4),)),
    ("funm-complex", lambda m, a: m.funm(a, lambda x: x**3), (C(3, 3),)),
    ("solve_sylvester'", lambda m, *v: m.solve_sylvester(*v), (NORMAL, POSITIVE[:3, :3], F(4, 3))),
    ("solve_sylvester-complex'", lambda m, *v: m.solve_sylvester(*v), (C(3, 3), C(2, 2), C(3, 2))),
    (
        "solve_sylvester-eigen'",
        lambda m, *v: m.solve_sylvester(*v, **({"method": "eigen"} if m is sl else {})),
        (NORMAL, POSITIVE[:3, :3], F(4, 3)),
    ),
    ("toeplitz'", lambda m, c, r: m.toeplitz(c, r), (F(3), F(4))),
    ("toeplitz-one", lambda m, c: m.toeplitz(c), (C(3),)),
    ("hankel'", lambda m, c, r: m.hankel(c, r), (F(3), F(4))),
    ("hankel-one", lambda m, c: m.hankel(c), (F(3),)),
    ("circulant", lambda m, c: m.circulant(c), (F(2, 4),)),
    ("leslie", lambda m, f, s: m.leslie(f, s), (F(4), F(3))),
    ("companion'", lambda m, a: m.companion(a), (F(5),)),
    ("companion-stack", lambda m, a: m.companion(a), (F(2, 4),)),
    ("fiedler", lambda m, a: m.fiedler(a), (F(4),)),
    *[
        (f"fiedler_companion-{n}", lambda m, a: m.fiedler_companion(a), (F(n),))
        for n in range(2, 8)
    ],
    *[
        (
            f"convolution_matrix-{mode}-{n}",
            lambda m, a, n=n, k=mode: m.convolution_matrix(a, n, k),
            (F(4),),
        )
        for mode in ("full", "valid", "same")
        for n in (2, 5, 6)
    ],
    ("block_diag'", lambda m, *v: m.block_diag(*v), (F(2, 3), F(1, 1), F(2))),
]


def np_triangle(x):
    """A factor without what SciPy leaves above it."""
    return x * np.tri(x.shape[-1])


def rebuilt(u, s, vh):
    return u @ (s[..., None] * vh), s


def positive_qr(q, r):
    """The factors with a positive diagonal in r, which are unique for the columns that it has."""
    n = min(r.shape[-2:])
    d = r.diagonal(0, -2, -1)
    signs = d / abs(d)
    return q[..., :n] * signs[..., None, :], r[..., :n, :] * H(signs[..., None, :])


def pivoted(q, r, p):
    return (abs(r), p) if q is None else (*positive_qr(q, r), p)


def rebuilt_schur(t, z, size=1):
    """The matrix, that z is unitary, and what lies under the blocks of t."""
    return z @ t @ H(z), z @ H(z), t * np.tri(t.shape[-1], k=-size)


@pytest.mark.parametrize("row", CASES, ids=lambda r: r[0])
def test_eager_equals_scipy(row):
    check_eager(row, sl, ref, 2e-4)


def test_compiled_equals_scipy():
    check_compiled(CASES, sl, ref, 2e-4)


@pytest.mark.parametrize("row", [r for r in CASES if r[0].endswith("'")], ids=lambda r: r[0])
def test_gradients_equal_finite_differences(row):
    check_gradient(row, sl)


SIZES = [
    ("hilbert", (5,), {}),
    ("invhilbert", (6,), {}),
    *[
        (name, (4,), dict(kind=k))
        for name in ("pascal", "invpascal")
        for k in ("symmetric", "lower", "upper")
    ],
    ("helmert", (5,), {}),
    ("helmert", (4,), dict(full=True)),
    ("hadamard", (8,), {}),
    ("hadamard", (4,), dict(dtype=np.complex64)),
    *[("dft", (5,), dict(scale=s)) for s in (None, "sqrtn", "n")],
]


@pytest.mark.parametrize("case", SIZES, ids=lambda c: f"{c[0]}-{c[2]}")
def test_matrices_of_a_size(case):
    name, args, options = case
    found = getattr(sl, name)(*args, **options)
    assert found.dtype in (np.float32, np.int32, np.complex64)
    same(found, getattr(ref, name)(*args, **options), 2e-6, name)
    assert not bnp.isnan(sl.invhilbert(40)).any(), "what is too large is inf"


SQUARE = {
    "cholesky": lambda m, a: m.cholesky(a),
    "lu": lambda m, a: m.lu(a),
    "qr": lambda m, a: m.qr(a),
    "svd": lambda m, a: m.svd(a),
    "eigh": lambda m, a: m.eigh(a),
    "expm": lambda m, a: m.expm(a),
    "sqrtm": lambda m, a: m.sqrtm(a),
    "schur": lambda m, a: m.schur(a),
    "polar": lambda m, a: m.polar(a),
    "inv": lambda m, a: m.inv(a),
    "det": lambda m, a: m.det(a),
    "solve": lambda m, a: m.solve(a, a[0]),
    "sylvester": lambda m, a: m.solve_sylvester(a, a, a),
    "companion": lambda m, a: m.companion(a[0]),
    "toeplitz": lambda m, a: m.toeplitz(a[0]),
    "block_diag": lambda m, a: m.block_diag(a, a[0]),
    "hessenberg": lambda m, a: m.hessenberg(a, calc_q=True),
    "eigh_tridiagonal": lambda m, a: m.eigh_tridiagonal(a[0], a[0, 1:], eigvals_only=True),
}


JAX_REFUSES = {
    ("eigh_tridiagonal", "int32"),
    ("eigh_tridiagonal", "complex64"),
    ("hessenberg", "int32"),
    ("polar", "int32"),
    ("schur", "int32"),
}


@pytest.mark.parametrize("name", SQUARE)
def test_dtypes_and_shapes_equal_jax(name):
    jax = pytest.importorskip("jax")
    theirs = pytest.importorskip("jax.scipy.linalg")
    a = np.array([[4, 1], [1, 3]])
    for dtype in ("int32", "float32", "complex64"):
        if (name, dtype) in JAX_REFUSES:
            continue
        x = a.astype(dtype)
        want = jax.tree.leaves(jax.eval_shape(lambda x: SQUARE[name](theirs, x), x))
        got = bv.tree.leaves(SQUARE[name](sl, bnp.asarray(x)))
        assert [(g.shape, str(g.dtype)) for g in got] == [(w.shape, str(w.dtype)) for w in want]
    half = bnp.asarray(a, dtype=bnp.float16)
    found = bv.tree.leaves(SQUARE[name](sl, half))[-1]
    assert found.dtype == (bnp.complex64 if name == "sqrtm" else bnp.float16)


def test_vmap_equals_a_loop():
    functions = [
        lambda a, b: sl.cho_solve(sl.cho_factor(a), b),
        lambda a, b: sl.lu_solve(sl.lu_factor(a), b, trans=1),
        lambda a, b: sl.solve(a, b, assume_a="pos"),
        lambda a, b: sl.solve_triangular(a, b),
        lambda a, b: sl.expm(a / 4),
        lambda a, b: sl.sqrtm(a),
        lambda a, b: sl.qr(a, pivoting=True),
        lambda a, b: sl.solve_sylvester(a, a, bnp.outer(b, b)),
        lambda a, b: sl.toeplitz(b),
        lambda a, b: sl.polar(a),
    ]
    both = lambda a, b: [f(a, b) for f in functions]
    a, b = bnp.asarray(spd(3, 4, 4)), bnp.asarray(F(3, 4))
    rows = [both(a[i], b[i]) for i in range(3)]
    same(bv.vmap(both)(a, b), bv.tree.map(lambda *x: bnp.stack(x), *rows), 1e-4, "vmap")


def test_stacks_have_any_leading_axes():
    a, b = spd(2, 1, 3, 3), F(3, 3, 2)
    same(sl.solve_triangular(a, b), np.linalg.solve(np.triu(a), b), 1e-5, "triangular")
    same(sl.cho_solve((sl.cholesky(a), False), b), np.linalg.solve(a, b), 1e-4, "cho_solve")
    same(sl.lu_solve(sl.lu_factor(a), b), np.linalg.solve(a, b), 1e-4, "lu_solve")
    same(sl.expm(a), np.stack([ref.expm(x) for x in a.astype(float)]), 1e-4, "expm")
    found = sl.solve_sylvester(a, a[0, 0], b[:1, :, :1] + a)
    same(a @ found + found @ a[0, 0], b[:1, :, :1] + a, 1e-4, "sylvester")
    assert sl.toeplitz(bnp.ones((2, 3)), bnp.ones(4)).shape == (2, 3, 4)


def test_what_has_no_result_is_nan():
    assert bnp.isnan(sl.cholesky(-bnp.eye(2))).any()
    assert bnp.isnan(sl.expm(1e9 * bnp.eye(2))).all()
    assert bnp.isnan(sl.expm(bnp.full((2, 2), bnp.nan))).any()
    assert bnp.isnan(sl.solve_sylvester(bnp.eye(2), -bnp.eye(2), bnp.eye(2))).all()
    assert bnp.isnan(sl.sqrtm(bnp.array([[0.0, 1.0], [0.0, 0.0]]))).any()
    assert not bnp.isnan(sl.sqrtm(bnp.zeros((2, 2)))).any()
    value, error = sl.funm(bnp.diag(bnp.array([1.0, 2.0])), bnp.exp, disp=False)
    assert error < 1e-6 and value.shape == (2, 2)


def test_a_large_matrix_is_squared_often_enough():
    """Every squaring from 0 to 16, of real and complex matrices."""
    a = (lambda x: (x - x.T).astype(np.float32))(F(3, 3))
    a = a / np.linalg.norm(a, 1)
    big = np.stack([a * 2.0**k for k in range(-2, 18)])
    same(sl.expm(big), ref.expm(big.astype(float)), 2e-2, "expm")
    same(
        sl.expm(bnp.asarray(big[:8], dtype=bnp.float64)), ref.expm(big[:8].astype(float)), 1e-12, ""
    )


def test_empty_matrices():
    none = bnp.zeros((0, 0))
    for found in (sl.expm(none), sl.hessenberg(none), sl.cholesky(none), sl.block_diag(none)):
        assert found.shape == (0, 0)
    assert sl.block_diag().shape == (1, 0)
    assert sl.toeplitz(bnp.zeros(0)).shape == (0, 0)
    assert sl.solve_sylvester(none, bnp.eye(2), bnp.zeros((0, 2))).shape == (0, 2)
    assert sl.hilbert(0).shape == sl.pascal(0).shape == (0, 0)


WRONG = [
    (ShapeError, lambda: sl.cholesky(bnp.ones((2, 3)))),
    (ShapeError, lambda: sl.lu(bnp.ones(3))),
    (ShapeError, lambda: sl.cho_solve((bnp.eye(2), True), bnp.ones(3))),
    (ShapeError, lambda: sl.solve_sylvester(bnp.eye(2), bnp.eye(3), bnp.ones((3, 2)))),
    (ShapeError, lambda: sl.expm_frechet(bnp.eye(2), bnp.eye(3))),
    (ShapeError, lambda: sl.qr_multiply(bnp.ones((3, 2)), bnp.ones(2))),
    (ShapeError, lambda: sl.rsf2csf(bnp.eye(2), bnp.eye(3))),
    (ShapeError, lambda: sl.eigh_tridiagonal(bnp.ones(3), bnp.ones(3))),
    (ShapeError, lambda: sl.leslie(bnp.ones(3), bnp.ones(3))),
    (ShapeError, lambda: sl.block_diag(bnp.ones((1, 1, 1)))),
    (ValueError, lambda: sl.qr(bnp.eye(2), mode="raw")),
    (ValueError, lambda: sl.solve(bnp.eye(2), bnp.ones(2), assume_a="banded")),
    (ValueError, lambda: sl.solve_triangular(bnp.eye(2), bnp.ones(2), trans="X")),
    (ValueError, lambda: sl.polar(bnp.eye(2), side="up")),
    (ValueError, lambda: sl.schur(bnp.eye(2), output="r")),
    (ValueError, lambda: sl.eigh(bnp.eye(2), type=4)),
    (ValueError, lambda: sl.eigh_tridiagonal(bnp.ones(2), bnp.ones(1), select="i")),
    (ValueError, lambda: sl.solve_sylvester(*[bnp.eye(2)] * 3, method="lu")),
    (ValueError, lambda: sl.hadamard(6)),
    (ValueError, lambda: sl.pascal(3, kind="left")),
    (ValueError, lambda: sl.dft(3, scale="x")),
    (ValueError, lambda: sl.convolution_matrix(bnp.ones(2), 0)),
    (NotImplementedError, lambda: sl.eigh(bnp.eye(2), eigvals=(0, 1))),
    (NotImplementedError, lambda: sl.eigh_tridiagonal(bnp.ones(2), bnp.ones(1), select="v")),
    (NotImplementedError, lambda: sl.sqrtm(bnp.eye(2), blocksize=2)),
    (Unsupported, lambda: bv.grad(lambda a: sl.schur(a)[0].sum())(bnp.eye(2))),
]


@pytest.mark.parametrize("case", WRONG, ids=range(len(WRONG)))
def test_errors(case):
    with pytest.raises(case[0]):
        case[1]()
