"""`grad` and its family: structures, dtypes, errors; against finite differences, and JAX where it
is installed.
"""

import functools
import math

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import lax, random
from tests.derivative_checks import F64, Point, X, close, f64, numeric, op_names

# -- grad ------------------------------------------------------------------------------------------


def test_argnums_and_structures():
    def f(a, p, b):
        return a**2 * p["x"] + p["y"][0] * b

    args = (2.0, {"x": 3.0, "y": (5.0, 7.0)}, 11.0)
    close(bv.grad(f)(*args), 12.0)
    close(bv.grad(f, 1)(*args), {"x": 4.0, "y": (11.0, 0.0)})
    close(bv.grad(f, -1)(*args), 5.0)
    close(bv.grad(f, (2, 0))(*args), (5.0, 12.0))
    close(bv.grad(f, [1])(*args), ({"x": 4.0, "y": (11.0, 0.0)},))
    close(bv.grad(f, np.int64(2))(*args), 5.0)
    close(bv.grad(f, (0, -2))(*args), (12.0, {"x": 4.0, "y": (11.0, 0.0)}))
    value, (g,) = bv.value_and_grad(f, (0,))(*args)
    assert float(value) == 12 + 55 and float(g) == 12
    found = bv.grad(lambda p: p.x * p.y)(Point(2.0, 3.0))
    assert isinstance(found, Point) and (float(found.x), float(found.y)) == (3.0, 2.0)
    assert bv.grad(lambda t: t[0] ** 2)((3.0, None)) == (6.0, None)


def test_keyword_arguments_and_defaults():
    def f(x, *, scale=2.0, power=2):
        return scale * x**power

    assert float(bv.grad(f)(3.0)) == 12.0
    assert float(bv.grad(f)(3.0, scale=bnp.float32(1), power=3)) == 27.0
    with pytest.raises(ValueError, match="(?s)argument number 0 .* 0 positional.*by position"):
        bv.grad(lambda x: x)(x=1.0)


def test_auxiliary_results():
    def f(x):
        return (x**2).sum(), {"double": 2 * x, "n": 3}

    x = bnp.arange(3.0)
    (value, aux), g = bv.value_and_grad(f, has_aux=True)(x)
    assert float(value) == 5 and aux["double"].tolist() == [0, 2, 4] and int(aux["n"]) == 3
    assert g.tolist() == [0, 2, 4]
    g, aux = bv.grad(f, has_aux=True)(x)
    assert g.tolist() == aux["double"].tolist() == [0, 2, 4]
    ((g1, g2), _) = bv.grad(lambda x, y: (x * y, x), (0, 1), has_aux=True)(2.0, 3.0)
    assert (float(g1), float(g2)) == (3, 2)
    with pytest.raises(TypeError, match="(?s)has_aux.*pair.*return loss, aux"):
        bv.grad(lambda x: x, has_aux=True)(1.0)


def test_auxiliary_data_of_any_kind():
    f = lambda x: (x**2, {"name": "loss", "n": 3, "obj": object, "none": None, "x": x})
    g, aux = bv.grad(f, has_aux=True)(3.0)
    assert float(g) == 6 and aux["name"] == "loss" and aux["obj"] is object and int(aux["n"]) == 3
    (value, (text, x)), g = bv.value_and_grad(lambda x: (x * 2, ("a", x)), has_aux=True)(1.0)
    assert text == "a" and float(x) == 1 and float(g) == 2


def test_what_is_no_function_is_refused():
    for transform in (
        bv.grad,
        bv.value_and_grad,
        bv.jacfwd,
        bv.jacrev,
        bv.hessian,
        bv.remat,
        bv.checkpoint,
    ):
        with pytest.raises(
            TypeError, match=r"expected a function, got Array.*\n.*with the function itself"
        ):
            transform(bnp.sin(1.0))
    for transform in (
        bv.vjp,
        bv.linearize,
        bv.linear_transpose,
        lambda f, x: bv.jvp(f, (x,), (x,)),
    ):
        with pytest.raises(TypeError, match="expected a function, got int"):
            transform(3, 1.0)
    with pytest.raises(TypeError, match="policy must be a function, got 'dots'"):
        bv.remat(bnp.sin, policy="dots")
    with pytest.raises(TypeError, match="random key, which has no derivative"):
        bv.grad(lambda k: 1.0)(random.key(0))
    half = functools.partial(lambda x, y: x, y=1)
    with pytest.raises(TypeError, match="grad of <lambda>: the function must return one scalar"):
        bv.grad(half)(bnp.ones(2))


def test_aux_of_inner_derivatives_can_be_differentiated():
    inner = bv.grad(lambda x: (x**3, x**2), has_aux=True)
    close(bv.grad(lambda x: inner(x)[1])(3.0), 6.0)
    close(bv.grad(lambda x: inner(x)[0])(3.0), 18.0)


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool"])
def test_integers_have_no_gradient_unless_allowed(dtype):
    x = bnp.asarray([1, 0], dtype=dtype)
    f = lambda v: (v * 2.5).sum()
    with pytest.raises(TypeError, match=f"(?s){dtype}.*astype.*allow_int"):
        bv.grad(f)(x)
    g = bv.grad(f, allow_int=True)(x)
    assert g.shape == (2,) and g.dtype == dtype and not np.asarray(g).any()
    a, b = bv.grad(lambda p: p[0] * p[1], allow_int=True)((2.0, 3))
    assert (float(a), int(b)) == (3.0, 0)


def test_results_that_are_no_scalar_are_refused():
    with pytest.raises(TypeError, match=r"(?s)one scalar.*\(3,\).*jacrev"):
        bv.grad(lambda x: x)(bnp.ones(3))
    with pytest.raises(TypeError, match="(?s)one scalar.*has_aux"):
        bv.grad(lambda x: (x, x))(1.0)
    with pytest.raises(TypeError, match="int32"):
        bv.grad(lambda x: (x > 0).astype(int).sum())(bnp.ones(3))
    with pytest.raises(TypeError, match="which is not an array"):
        bv.grad(lambda x: "no")(1.0)
    with pytest.raises(ValueError, match="argument number 2 is out of range"):
        bv.grad(lambda x, y: x, 2)(1.0, 2.0)


def test_constants_and_unused_arguments_have_zero_gradient():
    close(bv.grad(lambda x: 3.0)(1.0), 0.0)
    close(bv.grad(lambda x, y: y)(bnp.ones((2, 0)), 1.0), np.zeros((2, 0)))
    g = bv.grad(lambda x: lax.stop_gradient(x**2) * x)(3.0)
    close(g, 9.0)
    close(
        bv.grad(lambda p: lax.stop_gradient(p)["a"] * p["b"])({"a": 2.0, "b": 3.0}),
        {"a": 0.0, "b": 2.0},
    )
    assert bv.jvp(lambda x: lax.stop_gradient(x), (bnp.ones(2),), (bnp.ones(2),))[1].tolist() == [
        0,
        0,
    ]


def test_third_derivatives_against_differences():
    f = lambda x: bnp.exp(bnp.sin(x) * x).sum()
    first, second = bv.grad(f), bv.grad(lambda x: bv.grad(f)(x).sum())
    third = bv.grad(lambda x: second(x).sum())
    close(first(f64(X)), numeric(f, X), 1e-6)
    close(second(f64(X)), numeric(lambda x: first(x).sum(), X), 1e-6)
    close(third(f64(X)), numeric(lambda x: second(x).sum(), X), 1e-5)


def test_perturbations_are_not_confused():
    # d/dx x * d/dy (x + y) = 1: a classical trap.
    inner = lambda x: bv.grad(lambda y: x + y)(1.0)
    assert float(bv.grad(lambda x: x * inner(x))(2.0)) == 1.0
    _, t = bv.jvp(lambda x: x * bv.jvp(lambda y: x * y, (3.0,), (1.0,))[1], (2.0,), (1.0,))
    assert float(t) == 4.0


def test_nan_inf_and_overflow_pass_through():
    g = bv.grad(lambda x: bnp.log(x).sum())(bnp.array([0.0, np.nan, np.inf]))
    np.testing.assert_array_equal(g, [np.inf, np.nan, 0])
    close(bv.grad(lambda x: bnp.where(x > 0, bnp.sqrt(bnp.where(x > 0, x, 1)), 0))(0.0), 0.0)
    assert np.isinf(bv.grad(lambda x: x**2 * 3e38)(bnp.float32(1e10)))


@pytest.mark.parametrize(
    "dtype", ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]
)
def test_gradients_keep_the_dtype(dtype):
    x = bnp.asarray([0.5, -0.25, 2.0], dtype=dtype)

    def f(v):
        out = bnp.sin(v) * v
        return (out.real if dtype.startswith("complex") else out).sum()

    for g in (bv.grad(f)(x), bv.jit(bv.grad(f))(x)):
        assert g.dtype == dtype and g.shape == (3,)
        v = np.asarray(x).astype("complex128" if dtype.startswith("complex") else "float64")
        wanted = np.cos(v) * v + np.sin(v)
        tol = {"float16": 5e-3, "bfloat16": 5e-2}.get(dtype, 1e-5)
        np.testing.assert_allclose(np.asarray(g).astype(v.dtype), wanted, rtol=tol, atol=tol)
    assert bv.vjp(lambda v: v * 2, x)[1](x)[0].dtype == dtype
    assert bv.jvp(bnp.sin, (x,), (x,))[1].dtype == dtype


def test_mixed_dtypes_each_keep_theirs():
    a, b, c = bnp.ones(2, dtype="float16"), bnp.ones(2), f64([1.0, 2.0])
    with pytest.warns(bv.errors.Float64PromotionWarning):
        g = bv.grad(lambda a, b, c: (a * b * c).sum(), (0, 1, 2))(a, b, c)
    assert [x.dtype for x in g] == [bnp.float16, bnp.float32, F64]
    close(g[2], np.ones(2))


def test_complex_gradients():
    z = bnp.asarray(1 + 2j)
    close(bv.grad(lambda z: (z * bnp.conj(z)).real)(z), 2 - 4j)
    close(bv.grad(lambda z: z**3, holomorphic=True)(z), 3 * (1 + 2j) ** 2)
    with pytest.raises(TypeError, match="(?s)complex64.*holomorphic=True"):
        bv.grad(lambda z: z**2)(z)
    with pytest.raises(TypeError, match="(?s)holomorphic=True needs complex inputs.*float32"):
        bv.grad(lambda z: z + 0j, holomorphic=True)(1.0)
    with pytest.raises(TypeError, match="(?s)holomorphic=True needs complex results.*float32"):
        bv.grad(lambda z: z.real, holomorphic=True)(z)
    close(bv.jacfwd(lambda z: z**2, holomorphic=True)(bnp.asarray([1j, 2.0])), np.diag([2j, 4.0]))
    close(bv.jacrev(lambda z: z**2, holomorphic=True)(bnp.asarray([1j, 2.0])), np.diag([2j, 4.0]))
    with pytest.raises(TypeError, match="complex-analytic"):
        bv.jacrev(lambda x: x * 1j)(bnp.ones(2))
    with pytest.raises(TypeError, match=r"(?s)complex-analytic.*bv\.jvp"):
        bv.jacfwd(lambda z: z.real)(bnp.ones(2) * 1j)


# -- jvp, vjp, linearize, linear_transpose ---------------------------------------------------------


def test_jvp_of_pytrees():
    f = lambda p, b: {"s": bnp.sin(p["a"]) * b, "t": (p["c"],)}
    primals = ({"a": f64(X), "c": f64(2.0)}, f64(3.0))
    tangents = ({"a": f64(X + 1), "c": f64(5.0)}, f64(7.0))
    y, t = bv.jvp(f, primals, tangents)
    close(y, {"s": np.sin(X) * 3, "t": (2.0,)})
    close(t, {"s": np.cos(X) * (X + 1) * 3 + np.sin(X) * 7, "t": (5.0,)})
    y, t, aux = bv.jvp(lambda x: (x**2, {"twice": 2 * x}), (3.0,), (1.0,), has_aux=True)
    assert (float(y), float(t), float(aux["twice"])) == (9, 6, 6)


def test_integer_primals_have_no_tangent():
    y, t = bv.jvp(lambda x, n: x * n, (2.0, 3), (1.0, 0))
    assert (float(y), float(t)) == (6, 3)
    y, t = bv.jvp(lambda x: (x, (x > 0)), (2.0,), (1.0,))
    assert float(t[0]) == 1 and t[1].dtype == bool and not t[1]
    y, pull = bv.vjp(lambda x, n: x * n, 2.0, 3)
    a, b = pull(1.0)
    assert float(a) == 3 and int(b) == 0 and b.dtype == bnp.int32


def test_tangents_must_match():
    x = bnp.ones(3)
    with pytest.raises(TypeError, match=r"tangents must be a tuple.*\(tangent,\)"):
        bv.jvp(bnp.sin, (x,), x)
    with pytest.raises(TypeError, match="structure"):
        bv.jvp(lambda a, b: a, (x, x), (x,))
    with pytest.raises(TypeError, match=r"tangent is float32\[2\], but its value is float32\[3\]"):
        bv.jvp(bnp.sin, (x,), (bnp.ones(2),))
    with pytest.raises(TypeError, match="tangent is int32"):
        bv.jvp(bnp.sin, (x,), (bnp.ones(3, dtype=int),))
    with pytest.raises(TypeError, match="tangent is complex64"):
        bv.jvp(bnp.sin, (x,), (x * 1j,))
    pull = bv.vjp(bnp.sin, x)[1]
    with pytest.raises(TypeError, match=r"cotangent is float32\[\]"):
        pull(bnp.float32(1))
    with pytest.raises(TypeError, match="cotangents have the structure"):
        pull((x,))
    with pytest.raises(TypeError, match="structure"):
        bv.linearize(bnp.sin, x)[1](x, x)
    with pytest.raises(TypeError, match="str"):
        bv.jvp(lambda x: x, ("a",), (1.0,))


def test_numpy_tangents_take_the_dtype_of_the_value():
    x = f64(X)
    y, t = bv.jvp(bnp.sin, (x,), (np.ones(3),))
    assert t.dtype == F64
    close(t, np.cos(X), 1e-15)
    close(bv.vjp(bnp.sin, x)[1](np.array([1, 2, 3])), (np.cos(X) * [1, 2, 3],), 1e-15)
    third = np.array([1 / 3])
    close(bv.jvp(lambda v: v, (f64([1.0]),), (third,))[1], third, 1e-16)
    assert bv.jvp(bnp.sin, (bnp.ones(3, dtype="bfloat16"),), (np.ones(3),))[1].dtype == bnp.bfloat16


def test_vjp():
    y, pull = bv.vjp(lambda p: {"o": p[0] @ p[1]}, (f64(np.eye(2)), f64([1.0, 2.0])))
    close(pull({"o": f64([1.0, 10.0])}), ((np.array([[1.0, 2], [10, 20]]), np.array([1.0, 10])),))
    y, pull, aux = bv.vjp(lambda x: (x**2, x + 1), 3.0, has_aux=True)
    assert (float(y), float(aux), float(pull(1.0)[0])) == (9, 4, 6)
    close(bv.vmap(bv.vjp(bnp.sin, f64(X))[1])(f64(np.eye(3)))[0], np.diag(np.cos(X)))
    assert float(bv.vjp(lambda: 2.0)[0]) == 2.0 and bv.vjp(lambda: 2.0)[1](1.0) == ()


def test_a_pullback_can_be_called_again_and_differentiated():
    y, pull = bv.vjp(lambda x: x**3, 2.0)
    assert [float(pull(c)[0]) for c in (1.0, 2.0, 1.0)] == [12, 24, 12]
    close(bv.grad(lambda c: pull(c)[0])(5.0), 12.0)
    close(bv.jit(pull)(2.0), (24.0,))


def test_linearize():
    seen = []

    def f(x, y):
        seen.append(1)
        return bnp.sin(x) * y, x

    out, lin = bv.linearize(f, f64(X), f64(2.0))
    for scale in (1.0, 2.0):
        close(lin(f64(X) * scale, f64(0.0)), (np.cos(X) * 2 * X * scale, X * scale))
    assert len(seen) == 1
    close(bv.vmap(lin, in_axes=(0, None))(f64(np.eye(3)), f64(0.0))[0], np.diag(np.cos(X) * 2))
    out, lin, aux = bv.linearize(lambda x: (x**2, x * 5), 3.0, has_aux=True)
    assert (float(out), float(lin(1.0)), float(aux)) == (9, 6, 15)
    out, lin = bv.linearize(lambda x, n: x * n, 2.0, 3)
    assert float(lin(1.0, 0)) == 3
    close(bv.grad(lambda x: bv.linearize(bnp.sin, x)[1](1.0))(0.3), -math.sin(0.3))
    assert float(bv.linearize(lambda x: 3.0, 2.0)[1](1.0)) == 0


def test_linearize_runs_the_nonlinear_part_once():
    out, lin = bv.linearize(lambda x: bnp.exp(bnp.sin(x)), f64(X))
    names = op_names(bv.make_graph(lin)(f64(X)))
    assert set(names) == {"mul"}


def test_linear_transpose():
    m = np.arange(6.0).reshape(2, 3)
    t = bv.linear_transpose(lambda x: f64(m) @ x, bv.ShapeDtypeStruct((3,), "float64"))
    close(t(f64([1.0, 10.0])), (m.T @ [1, 10],))
    t = bv.linear_transpose(lambda p: {"s": p["a"] + 2 * p["b"]}, {"a": 1.0, "b": 1.0})
    close(t({"s": 3.0}), ({"a": 3.0, "b": 6.0},))
    t = bv.linear_transpose(lambda x: x * 2, np.zeros(3))
    close(t(np.ones(3)), (np.full(3, 2.0),))
    t = bv.linear_transpose(lambda x, y: y, 1.0, 2.0)
    close(t(5.0), (0.0, 5.0))
    with pytest.raises(bv.errors.Unsupported, match="(?s)test_derivatives.*not linear"):
        bv.linear_transpose(bnp.sin, 1.0)(1.0)
    with pytest.raises(bv.errors.Unsupported, match="linear"):
        bv.linear_transpose(lambda x: x * x, 1.0)(1.0)


# -- jacobians -------------------------------------------------------------------------------------


def test_jacobians_of_arrays():
    m = np.arange(6.0).reshape(2, 3)
    f = lambda x: bnp.sin(f64(m) @ x)
    wanted = np.cos(m @ X)[:, None] * m
    for jac in (bv.jacfwd, bv.jacrev):
        close(jac(f)(f64(X)), wanted)
        close(bv.jit(jac(f))(f64(X)), wanted)
        assert jac(lambda x: x.reshape(3, 1) * x)(f64(X)).shape == (3, 3, 3)
        assert jac(lambda x: x[:0])(f64(X)).shape == (0, 3)
        assert jac(lambda x: bnp.ones(2) * x.sum())(bnp.ones((0, 4))).shape == (2, 0, 4)
        close(jac(lambda x: 3.0)(f64(X)), np.zeros(3))
        with pytest.raises(TypeError, match="int32"):
            jac(lambda x: x * 1.0)(3)


def jacobian_cases():
    f = lambda p, q: {"u": p["a"] * q, "v": [p["b"].sum()]}
    args = (
        {"a": np.array([1.0, 2.0], np.float32), "b": np.ones((2, 2), np.float32)},
        np.float32(3),
    )
    for argnums in (0, 1, (0, 1), (1,), -1):
        yield f, args, argnums


@pytest.mark.parametrize("name", ["jacfwd", "jacrev"])
def test_jacobian_structures(name):
    jac = getattr(bv, name)
    f, args, _ = next(jacobian_cases())
    found = jac(f)(*args)
    assert found["u"]["a"].tolist() == [[3, 0], [0, 3]] and found["u"]["b"].shape == (2, 2, 2)
    assert found["v"][0]["b"].tolist() == [[1, 1], [1, 1]]
    found = jac(f, (1, 0))(*args)
    assert isinstance(found["u"], tuple) and found["u"][0].tolist() == [1, 2]
    found, aux = jac(lambda x: (x**2, {"n": x.sum()}), has_aux=True)(bnp.arange(2.0))
    assert found.tolist() == [[0, 0], [0, 2]] and float(aux["n"]) == 1
    assert isinstance(jac(lambda p: p)(Point(1.0, 2.0)), Point)
    assert float(jac(lambda x, k: x * k)(2.0, k=3.0)) == 3


def test_jacobians_as_in_jax():
    jax = pytest.importorskip("jax")
    for f, args, argnums in jacobian_cases():
        plain = lambda p, q: {"u": p["a"] * q, "v": [p["b"].sum()]}
        for name in ("jacfwd", "jacrev"):
            wanted = jax.tree.map(np.asarray, getattr(jax, name)(plain, argnums)(*args))
            close(getattr(bv, name)(f, argnums)(*args), wanted)


def test_hessians():
    f = lambda p: p["x"] ** 2 * p["y"]
    h = bv.hessian(f)({"x": f64(2.0), "y": f64(3.0)})
    close(h, {"x": {"x": 6.0, "y": 4.0}, "y": {"x": 4.0, "y": 0.0}})
    h = bv.hessian(lambda a, b: (a * b).sum(), (0, 1))(f64([1.0, 2.0]), f64([3.0, 4.0]))
    assert isinstance(h, tuple) and isinstance(h[0], tuple)
    close(h[0][1], np.eye(2))
    h, aux = bv.hessian(lambda x: ((x**3).sum(), x + 1), has_aux=True)(f64(X))
    close(h, np.diag(6 * X))
    close(aux, X + 1)
    g = lambda x: bnp.exp(bnp.sin(x).sum())
    close(bv.hessian(g)(f64(X)), bv.jacrev(bv.grad(g))(f64(X)))
    close(bv.hessian(lambda z: z**3, holomorphic=True)(bnp.asarray(1 + 1j)), 6 * (1 + 1j))


# -- against JAX -----------------------------------------------------------------------------------


def test_low_precision_gradients_as_in_jax():
    jax = pytest.importorskip("jax")
    import jax.numpy as jnp

    def model(np_):
        def f(w, x):
            h = np_.tanh(x @ w)
            return (np_.exp(-(h**2)) * x.sum()).sum()

        return f

    rng = np.random.default_rng(0)
    w, x = rng.normal(size=(4, 4)).astype(np.float32), rng.normal(size=(3, 4)).astype(np.float32)
    for dtype, tol in (("float16", 2e-2), ("bfloat16", 2e-1), ("float32", 1e-5)):
        wanted = jax.grad(model(jnp), (0, 1))(jnp.asarray(w, dtype), jnp.asarray(x, dtype))
        found = bv.jit(bv.grad(model(bnp), (0, 1)))(
            bnp.asarray(w, dtype=dtype), bnp.asarray(x, dtype=dtype)
        )
        for a, b in zip(found, wanted, strict=True):
            assert a.dtype.name == b.dtype.name == dtype
            np.testing.assert_allclose(
                np.asarray(a, np.float32), np.asarray(b, np.float32), rtol=tol, atol=tol
            )


def test_complex_gradients_as_in_jax():
    jax = pytest.importorskip("jax")
    import jax.numpy as jnp

    z = np.array([0.3 + 0.2j, -0.5 + 0.7j], np.complex64)
    for f in (
        lambda n: lambda z: n.abs(n.sin(z) * z).sum(),
        lambda n: lambda z: n.real(n.exp(z) * n.conj(z)).sum(),
        lambda n: lambda z: n.imag(n.log(z)).sum(),
        lambda n: lambda z: (n.fft.fft(z) * z[::-1]).real.sum(),
    ):
        np.testing.assert_allclose(
            bv.grad(f(bnp))(bnp.asarray(z)), jax.grad(f(jnp))(z), rtol=1e-5, atol=1e-5
        )
        _, t = bv.jvp(f(bnp), (bnp.asarray(z),), (bnp.asarray(z * 1j),))
        np.testing.assert_allclose(t, jax.jvp(f(jnp), (z,), (z * 1j,))[1], rtol=1e-5, atol=1e-5)


# -- state and keys --------------------------------------------------------------------------------


def test_cells_under_every_derivative():
    seen = bv.ref(bnp.float32(0))

    def f(x):
        seen[...] = x * 2
        return x**2

    def check(value):
        assert float(seen[...]) == value
        seen[...] = 0.0

    bv.jvp(f, (3.0,), (1.0,)), check(6)
    y, pull = bv.vjp(f, 4.0)
    check(8)
    pull(1.0), check(0)
    y, lin = bv.linearize(f, 5.0)
    check(10)
    lin(1.0), check(0)
    bv.jacfwd(f)(6.0), check(12)
    bv.jacrev(f)(7.0), check(14)
    bv.hessian(f)(8.0), check(16)
    bv.value_and_grad(f)(9.0), check(18)


def test_a_ref_is_differentiated_as_an_argument_and_not_written():
    w = bv.ref(bnp.array([1.0, 2.0]))
    g = bv.grad(lambda w, x: (w[...] ** 2 * x).sum())(w, 3.0)
    assert g.tolist() == [6, 12]

    def bad(w):
        w[...] = w[...] * 2
        return w[...].sum()

    with pytest.raises(bv.errors.ParamMutationError, match="test_derivatives"):
        bv.grad(bad)(w)
    assert w[...].tolist() == [1, 2]


def test_keys_are_not_differentiated():
    f = lambda x, key: x * random.uniform(key)
    key = random.key(0)
    u = float(random.uniform(random.clone(key)))
    close(bv.grad(f)(2.0, key), u)
    y, pull = bv.vjp(f, 2.0, random.key(0))
    close(pull(1.0)[0], u)
