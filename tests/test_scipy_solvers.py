"""bevel.scipy.sparse.linalg and bevel.scipy.optimize: solutions, minima and their derivatives."""

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
import bevel.scipy as bs
from bevel.core.errors import ShapeError
from tests.scipy_checks import near, same, wrong

RNG = np.random.default_rng(0)


def F(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def C(*shape):
    return (F(*shape) + 1j * F(*shape)).astype(np.complex64)


# -- systems of equations ------------------------------------------------------------------------

SIZE = 6
SYSTEM = F(SIZE, SIZE) + 4 * np.eye(SIZE, dtype=np.float32)
SOLVERS = {
    "cg": {},
    "bicgstab": {},
    "gmres": {},
    "gmres-incremental": dict(solve_method="incremental"),
    "gmres-restart": dict(restart=3),
}


def solver(name):
    fn = getattr(bs.sparse.linalg, name.partition("-")[0])
    return lambda *args, **options: fn(*args, **SOLVERS[name], **options)


def system(name, make=F):
    a = SYSTEM if make is F else SYSTEM + 1j * F(SIZE, SIZE)
    return a @ a.conj().T if name == "cg" else a


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("make", [F, C], ids=["real", "complex"])
def test_solutions_and_their_gradients(name, make):
    """Matrix and function, with and without a preconditioner and a guess, in one program."""
    a, b, guess = system(name, make), make(SIZE), make(SIZE)
    solve = solver(name)
    inverse = np.linalg.inv(a) + 0.02 * (np.eye(SIZE) if name == "cg" else make(SIZE, SIZE))
    inverse = inverse.astype(a.dtype)

    def loss(solution):
        return (solution * bnp.arange(1.0, SIZE + 1).astype(solution.dtype)).real.sum()

    @bv.jit
    def run(a, b, inverse, guess):
        def of(**options):
            return lambda a, b: solve(a, b, tol=4e-6, **options)

        def by_function(a, b):
            return solve(lambda v: bnp.matmul(a, v), b, tol=4e-6)

        found = []
        for fn in (of(), of(M=inverse), of(M=lambda v: inverse @ v, x0=guess), by_function):
            x, info = fn(a, b)
            found.append((x, info, bv.grad(lambda a, b, fn=fn: loss(fn(a, b)[0]), (0, 1))(a, b)))
        return found, bv.grad(lambda a, b: loss(bnp.linalg.solve(a, b)), (0, 1))(a, b)

    found, slopes = run(a, b, inverse, guess)
    for x, info, slope in found:
        assert info == 0
        same(x, np.linalg.solve(a, b), 1e-4, name)
        same(slope, slopes, 1e-3, f"gradient of {name}")


def test_vectors_may_be_pytrees():
    def matvec(x):
        return {"a": 3 * x["a"] + x["b"].sum(), "b": x["a"].sum() + 4 * x["b"]}

    b = {"a": bnp.array([1.0, 2.0]), "b": bnp.ones((2, 2), dtype=bnp.float32)}
    for name in SOLVERS:
        x, info = solver(name)(matvec, b, tol=1e-6)
        same(matvec(x), b, 1e-4, name)
        assert info == 0 and x["b"].shape == (2, 2)


def test_what_did_not_converge_is_told():
    ill = bnp.diag(10.0 ** bnp.arange(6))
    b = bnp.ones(6)
    assert solver("cg")(ill, b, maxiter=2)[1] == 2
    assert solver("bicgstab")(ill, b, maxiter=2)[1] == 2
    assert solver("gmres-restart")(ill, b, maxiter=2)[1] == 2
    assert solver("gmres")(ill, b)[1] == 0
    assert solver("cg")(ill, bnp.full(6, bnp.nan))[1] == -1
    x, info = solver("gmres-incremental")(ill, bnp.zeros(6))
    assert info == 0 and bnp.abs(x).max() == 0
    x, info = solver("cg")(ill, b, x0=1 / bnp.diag(ill), maxiter=0)
    same(x, 1 / np.diag(ill), 1e-6, "the guess is the solution")


def test_solvers_map_over_systems():
    a, b = np.stack([SYSTEM, SYSTEM.T + np.eye(SIZE, dtype=np.float32)]), F(2, SIZE)
    x, info = bv.vmap(lambda a, b: bs.sparse.linalg.bicgstab(a, b, tol=1e-6))(a, b)
    same(x, np.linalg.solve(a, b[..., None])[..., 0], 1e-4, "vmap")
    assert info.tolist() == [0, 0]


def test_what_solvers_refuse():
    cg, eye = bs.sparse.linalg.cg, bnp.eye(2)
    wrong(TypeError, lambda: cg(3.0, bnp.ones(2)), lambda: cg(eye, bnp.ones(2), {"a": 1}))
    wrong(
        ValueError,
        lambda: cg(bnp.ones((2, 3)), bnp.ones(3)),
        lambda: cg(eye, bnp.ones(2), bnp.ones(3)),
        lambda: bs.sparse.linalg.gmres(eye, bnp.ones(2), solve_method="direct"),
    )


# -- minima --------------------------------------------------------------------------------------

QUADRATIC = (lambda a: (a @ a.T + np.eye(5)).astype(np.float32))(F(5, 5))


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def himmelblau(x):
    return (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2


def quadratic(x):
    return 0.5 * x @ (bnp.asarray(QUADRATIC).astype(x.dtype) @ x) - x.sum()


PROBLEMS = [
    (rosenbrock, [-1.2, 1.0], [1.0, 1.0]),
    (rosenbrock, [0.0] * 4, [1.0] * 4),
    (himmelblau, [1.0, 1.0], [3.0, 2.0]),
    (quadratic, [3.0] * 5, np.linalg.solve(QUADRATIC, np.ones(5))),
]


@pytest.mark.parametrize("method", ["BFGS", "l-bfgs"])
def test_minima_in_one_program(method):
    minimize = bs.optimize.minimize
    more = dict(ftol=-1.0) if method == "l-bfgs" else {}

    for dtype, gtol in ((bnp.float32, 1e-4), (bnp.float64, 1e-7)):

        @bv.jit
        def run(starts, gtol=gtol):
            return [
                minimize(f, x, method=method, options=dict(gtol=gtol, **more))
                for (f, _, _), x in zip(PROBLEMS, starts, strict=True)
            ]

        found = run([bnp.array(x, dtype=dtype) for _, x, _ in PROBLEMS])
        for (f, start, want), r in zip(PROBLEMS, found, strict=True):
            assert r.success and r.status == 0 and r.x.dtype == r.jac.dtype == dtype
            assert bnp.abs(r.jac).max() < gtol and r.nit <= r.nfev == r.njev
            near(r.x, want, 20 * gtol, f.__name__)
            same(r.fun, f(r.x), 1e-5, f.__name__)
            assert (r.hess_inv is None) == (method == "l-bfgs")
            assert f(r.x) <= f(bnp.array(start, dtype=dtype))


def test_the_inverse_hessian_of_a_quadratic():
    x0 = bnp.array([3.0, -1.0, 2.0, 0.5, 0.0], dtype=bnp.float64)
    found = bs.optimize.minimize(quadratic, x0, method="bfgs", tol=1e-10)
    same(found.hess_inv, np.linalg.inv(QUADRATIC.astype(float)), 0.05, "inverse Hessian")
    ref = pytest.importorskip("scipy.optimize")
    want = ref.minimize(lambda x: 0.5 * x @ QUADRATIC @ x - x.sum(), np.asarray(x0))
    same(found.x, want.x, 1e-5, "SciPy's minimum")


def test_options_end_a_minimization():
    def run(method, **options):
        return bs.optimize.minimize(rosenbrock, bnp.zeros(2), method=method, options=options)

    first = run("BFGS", maxiter=2)
    assert (int(first.status), int(first.nit), bool(first.success)) == (1, 2, False)
    assert run("BFGS", gtol=1e9).nit == 0 and run("BFGS", norm=2).success
    assert run("l-bfgs", maxiter=2).status == 1
    assert run("l-bfgs", maxfun=3).status == 2
    assert run("l-bfgs", maxgrad=3).status == 3
    assert run("l-bfgs", ftol=1e9).status == 4
    assert run("l-bfgs", maxcor=1, ftol=-1.0).success
    falling = bs.optimize.minimize(lambda x: -x.sum(), bnp.zeros(1), method="BFGS")
    assert falling.status == 5 and not falling.success, "the line never ends"
    nowhere = bs.optimize.minimize(lambda x: (x * bnp.nan).sum(), bnp.ones(1), method="BFGS")
    assert not nowhere.success and nowhere.status != 0


def test_minimize_maps_and_takes_arguments_and_complex_vectors():
    minimize = bs.optimize.minimize
    targets = F(3, 2)
    each = bv.vmap(
        lambda t: minimize(lambda x, t: ((x - t) ** 2).sum(), bnp.zeros(2), (t,), method="BFGS")
    )(targets)
    same(each.x, targets, 1e-5, "vmap")
    assert each.success.all()
    c = bnp.array([1 + 2j, -3j])
    fn = lambda z: (bnp.abs(z - c) ** 2).sum() + (z.real**4).sum()
    found = minimize(fn, bnp.zeros(2, dtype=bnp.complex64), method="l-bfgs")
    assert found.success and found.x.dtype == bnp.complex64
    near(found.x.imag, [2, -3], 1e-4, "complex")
    part = minimize(fn, found.x + 1, method="l-bfgs", options=dict(maxiter=1))
    same(part.jac, bv.grad(fn)(part.x), 1e-4, "the gradient is that of grad")
    wrong(TypeError, lambda: minimize(fn, c, method="BFGS"))
    wrong(TypeError, lambda: minimize(fn, bnp.ones(2), 3.0, method="BFGS"))
    wrong(TypeError, lambda: minimize(fn, bnp.ones(2), method="BFGS", options=dict(xtol=1)))
    wrong(ValueError, lambda: minimize(fn, bnp.ones(2), method="newton"))
    wrong(ShapeError, lambda: minimize(fn, bnp.ones((2, 1)), method="BFGS"))
