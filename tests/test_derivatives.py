"""`grad` and its family: structures, dtypes, errors; against finite differences, and JAX where it
is installed.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import lax, random

F64 = bnp.float64


class Point(NamedTuple):
    """A container with names."""

    x: object
    y: object


def f64(x):
    return bnp.asarray(x, dtype=F64)


def close(found, wanted, tol=1e-6):
    assert bv.tree.structure(found) == bv.tree.structure(wanted), (found, wanted)
    for a, b in zip(bv.tree.leaves(found), bv.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=tol, atol=tol)


def numeric(f, x, h=1e-6):
    """The gradient of a scalar function of one float64 array, by central differences."""
    x = np.asarray(x, np.float64)
    out = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[i] = h
        out[i] = (float(f(f64(x + step))) - float(f(f64(x - step)))) / (2 * h)
    return out


def op_names(graph):
    """The names of all ops of a graph, those in the graphs it holds included."""
    names = []
    for e in graph.eqns:
        names.append(e.op.name)
        for p in e.params.values():
            for g in p if isinstance(p, tuple) else (p,):
                if hasattr(g, "eqns"):
                    names += op_names(g)
    return names


def count(graph, name):
    return op_names(graph).count(name)


X = np.array([0.3, -0.7, 1.1])


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


# -- custom_jvp ------------------------------------------------------------------------------------


def tripled():
    """sin, whose rule gives three times the derivative."""

    @bv.custom_jvp
    def f(x):
        return bnp.sin(x)

    @f.defjvp
    def rule(primals, tangents):
        (x,), (t,) = primals, tangents
        return f(x), 3 * bnp.cos(x) * t

    return f


UNDER = {
    "plain": lambda f: f,
    "jit": bv.jit,
    "vmap": bv.vmap,
    "scan": lambda f: lambda xs: lax.scan(lambda c, x: (c, f(x)), 0.0, xs)[1],
    "map": lambda f: lambda xs: lax.map(f, xs),
    "remat": bv.remat,
    "cond": lambda f: bv.jit(lambda x: lax.cond(x.sum() > -9, f, bnp.cos, x)),
    "jit of vmap": lambda f: bv.jit(bv.vmap(f)),
    "vmap of jit": lambda f: bv.vmap(bv.jit(f)),
    "vmap of remat": lambda f: bv.vmap(bv.remat(f)),
    "vmap of cond": lambda f: bv.vmap(lambda x: lax.cond(x > -9, f, bnp.cos, x)),
    "scan of vmap": lambda f: (
        lambda xs: lax.scan(lambda c, x: (c, bv.vmap(f)(x)), 0.0, xs[None])[1][0]
    ),
    "loop": lambda f: lambda xs: lax.fori_loop(0, 1, lambda i, x: f(x), xs),
}


@pytest.mark.parametrize("how", UNDER)
def test_custom_jvp_everywhere(how):
    f = UNDER[how](tripled())
    close(f(f64(X)), np.sin(X))
    close(bv.jvp(f, (f64(X),), (f64(X),))[1], 3 * np.cos(X) * X)
    g = lambda x: bv.grad(lambda v: f(v).sum())(x)
    close(g(f64(X)), 3 * np.cos(X))
    close(bv.jit(g)(f64(X)), 3 * np.cos(X))
    second = lambda x: bv.grad(lambda v: g(v).sum())(x)
    close(second(f64(X)), -3 * np.sin(X))
    close(bv.vmap(bv.vmap(tripled()))(f64(X)[None]), np.sin(X)[None])


def test_custom_jvp_of_pytrees_with_static_and_default_arguments():
    @functools.partial(bv.custom_jvp, nondiff_argnums=(0, -1))
    def f(mode, p, q=2.0, n=3):
        return {"out": p["a"] * q * n} if mode == "mul" else {"out": p["a"]}

    calls = []

    @f.defjvp
    def rule(mode, n, primals, tangents):
        calls.append((mode, n, len(primals)))
        (p, q), (tp, tq) = primals, tangents
        return f(mode, p, q, n), {"out": 100 * tp["a"] + tq}

    assert float(f("mul", {"a": 2.0, "b": None})["out"]) == 12
    g = bv.grad(lambda p, q: f("mul", p, q=q, n=5)["out"], (0, 1))({"a": 2.0, "b": None}, 7.0)
    close(g, ({"a": 100.0, "b": None}, 1.0))
    g = bv.grad(lambda p: f("mul", p)["out"])({"a": 2.0, "b": None})
    close(g, {"a": 100.0, "b": None})
    assert calls == [("mul", 5, 2), ("mul", 3, 2)]
    g = bv.custom_jvp(lambda x: x, nondiff_argnums=(3,))
    g.defjvps(None)
    with pytest.raises(ValueError, match=r"nondiff_argnums=\[3\] are out of range for 1"):
        g(1.0)


def test_defjvps():
    @bv.custom_jvp
    def f(x, y, z):
        return x * y, z

    f.defjvps(lambda t, out, x, y, z: (10 * t, 0 * t), None, lambda t, out, x, y, z: (0 * t, t))
    close(
        bv.grad(lambda x, y, z: f(x, y, z)[0] + f(x, y, z)[1], (0, 1, 2))(2.0, 3.0, 4.0),
        (10.0, 0.0, 1.0),
    )
    h = bv.custom_jvp(lambda x: x)
    h.defjvps(None)
    assert float(bv.grad(h)(1.0)) == 0
    h.defjvps(None, None)
    with pytest.raises(TypeError, match="2 rules for 1 differentiable"):
        bv.grad(h)(1.0)
    k = bv.custom_jvp(lambda n, x: x * n, nondiff_argnums=0)
    k.defjvps(lambda t, out, x: 7 * t)
    assert float(bv.grad(lambda x: k(2, x))(1.0)) == 7


def test_custom_jvp_with_integers_and_no_tangent():
    @bv.custom_jvp
    def f(x, n):
        return x * n, n

    f.defjvp(lambda p, t: (f(*p), (t[0] * 50, None)))
    close(bv.grad(lambda x: f(x, 3)[0])(2.0), 50.0)
    y, t = bv.jvp(f, (2.0, 3), (1.0, 0))
    assert float(t[0]) == 50 and t[1].dtype == bnp.int32 and int(t[1]) == 0
    g = bv.custom_jvp(lambda x: x)
    g.defjvp(lambda p, t: (p[0], None))
    assert float(bv.grad(g)(2.0)) == 0


def test_rules_of_custom_jvp_are_checked():
    def with_rule(rule):
        f = bv.custom_jvp(lambda x: (x, x))
        f.defjvp(rule)
        return lambda: bv.jvp(f, (bnp.ones(2),), (bnp.ones(2),))

    with pytest.raises(AttributeError, match=r"no rule yet.*defjvp"):
        bv.custom_jvp(bnp.sin)(1.0)
    with pytest.raises(
        TypeError, match=r"must return \(result, tangent of the result\), not Array"
    ):
        with_rule(lambda p, t: p[0])()
    with pytest.raises(TypeError, match="(?s)jvp rule returns the structure.*as the result"):
        with_rule(lambda p, t: (p[0], t[0]))()
    with pytest.raises(TypeError, match="(?s)gave the tangent structure"):
        with_rule(lambda p, t: ((p[0], p[0]), t[0]))()
    with pytest.raises(TypeError, match=r"tangent float32\[\] for a value float32\[2\]"):
        with_rule(lambda p, t: ((p[0], p[0]), (t[0], 1.0)))()
    with pytest.raises(
        TypeError,
        match=r"returns float32\[3\] as the result, but the function returns float32\[2\]",
    ):
        with_rule(lambda p, t: ((bnp.ones(3), p[0]), (t[0], t[0])))()
    with pytest.raises(TypeError, match="only be passed by keyword"):
        g = bv.custom_jvp(lambda x, *, k=1: x)
        g.defjvps(None)
        g(1.0)


def test_custom_rules_on_methods():
    class Scale:
        def __init__(self, k):
            self.k = k

        @functools.partial(bv.custom_jvp, nondiff_argnums=(0,))
        def f(self, x):
            return x * self.k

        @f.defjvp
        def rule(self, primals, tangents):
            return self.f(primals[0]), tangents[0] * 1000

    assert float(Scale(3.0).f(2.0)) == 6
    assert float(bv.grad(Scale(3.0).f)(2.0)) == 1000


# -- custom_vjp ------------------------------------------------------------------------------------


def own_vjp():
    @bv.custom_vjp
    def f(x):
        return bnp.sin(x)

    f.defvjp(lambda x: (bnp.sin(x), (x, 3)), lambda res, g: (res[1] * bnp.cos(res[0]) * g,))
    return f


@pytest.mark.parametrize("how", UNDER)
def test_custom_vjp_everywhere(how):
    f = UNDER[how](own_vjp())
    close(f(f64(X)), np.sin(X))
    g = lambda x: bv.grad(lambda v: f(v).sum())(x)
    close(g(f64(X)), 3 * np.cos(X))
    close(bv.jit(g)(f64(X)), 3 * np.cos(X))
    close(bv.grad(lambda v: g(v).sum())(f64(X)), -3 * np.sin(X))
    close(bv.jacfwd(g)(f64(X)), np.diag(-3 * np.sin(X)))
    close(bv.jacrev(f)(f64(X)), np.diag(3 * np.cos(X)))


def test_custom_vjp_under_vmap_with_every_choice_of_axes():
    @bv.custom_vjp
    def f(x, y):
        return x * y, y

    f.defvjp(
        lambda x, y: (f(x, y), (x, y)),
        lambda res, g: (10 * g[0] * res[1], 100 * g[0] * res[0] + g[1]),
    )
    xs, ys = f64(X), f64(X + 2)
    for axes in ((0, 0), (0, None), (None, 0)):
        a, b = xs if axes[0] == 0 else xs[0], ys if axes[1] == 0 else ys[0]

        def total(a, b, axes=axes):
            u, v = bv.vmap(f, in_axes=axes)(a, b)
            return u.sum() + v.sum()

        ga, gb = bv.grad(total, (0, 1))(a, b)
        full_a, full_b = np.broadcast_to(a, 3), np.broadcast_to(b, 3)
        wa, wb = 10 * full_b, 100 * full_a + 1
        close((ga, gb), (wa if axes[0] == 0 else wa.sum(), wb if axes[1] == 0 else wb.sum()))
        per_row = bv.vmap(bv.grad(lambda a, b: f(a, b)[0], (0, 1)), in_axes=axes)(a, b)
        close(per_row, (10 * full_b, 100 * full_a))


def test_custom_vjp_cotangents():
    @bv.custom_vjp
    def f(p, n, q=4.0):
        return p["a"] * n * q

    f.defvjp(
        lambda p, n, q: (f(p, n, q), p),
        lambda p, g: ({"a": g * 7, "b": None, "c": None}, None, None),
    )
    p = {"a": 2.0, "b": 3.0, "c": None}
    close(bv.grad(lambda p, q: f(p, 3, q), (0, 1))(p, 5.0), ({"a": 7.0, "b": 0.0, "c": None}, 0.0))
    close(bv.grad(lambda p: f(p, 3))(p), {"a": 7.0, "b": 0.0, "c": None})
    half = bv.custom_vjp(lambda x: x)
    half.defvjp(lambda x: (x, None), lambda _, g: (g.astype(bnp.float32) * 2,))
    assert bv.grad(lambda x: half(x).sum())(bnp.ones(2, dtype="float16")).dtype == bnp.float16


def test_rules_of_custom_vjp_are_checked():
    def with_rules(fwd, bwd):
        f = bv.custom_vjp(lambda x, y: x * y)
        f.defvjp(fwd, bwd)
        return lambda: bv.grad(f)(1.0, 2.0)

    good = lambda x, y: (x * y, None)
    with pytest.raises(AttributeError, match=r"no rules yet.*defvjp"):
        bv.custom_vjp(bnp.sin)(1.0)
    with pytest.raises(TypeError, match=r"fwd must return \(result, residuals\)"):
        with_rules(lambda x, y: x, lambda r, g: (g, g))()
    with pytest.raises(TypeError, match="(?s)fwd returns the structure.*must be equal"):
        with_rules(lambda x, y: ((x, y), None), lambda r, g: (g, g))()
    with pytest.raises(TypeError, match=r"(?s)bwd must return a tuple.*return \(ct,\)"):
        with_rules(good, lambda r, g: g)()
    with pytest.raises(TypeError, match="1 cotangents for 2 differentiable arguments"):
        with_rules(good, lambda r, g: (g,))()
    with pytest.raises(TypeError, match=r"cotangent float32\[2\] for a value float32\[\]"):
        with_rules(good, lambda r, g: (bnp.ones(2), g))()
    with pytest.raises(TypeError, match="complex64"):
        with_rules(good, lambda r, g: (g * 1j, g))()
    with pytest.raises(TypeError, match="cotangent of argument 0 has the structure"):
        f = bv.custom_vjp(lambda p: p[0])
        f.defvjp(lambda p: (p[0], None), lambda r, g: (g,))
        bv.grad(f)((1.0, 2.0))


def test_forward_mode_through_custom_vjp_is_refused():
    f = own_vjp()
    for g in (f, bv.jit(f), lambda x: lax.scan(lambda c, _: (f(c), None), x, None, length=2)[0]):
        with pytest.raises(TypeError, match=r"(?s)custom_vjp.*bv\.custom_jvp"):
            bv.jvp(g, (1.0,), (1.0,))


def test_residuals_of_custom_vjp_may_be_anything():
    f = bv.custom_vjp(lambda x: x**2)
    f.defvjp(lambda x: (x**2, {"x": x, "k": [2, None]}), lambda r, g: (g * r["x"] * r["k"][0],))
    close(bv.grad(f)(3.0), 6.0)
    close(
        bv.grad(lambda x: lax.scan(lambda c, _: (f(c), None), x, None, length=2)[0])(3.0), 4 * 27.0
    )


# -- closures of custom rules ----------------------------------------------------------------------


def scaled(kind, w, in_function):
    """x * w whose rule gives ten times the derivative; only the rule closes over w if not
    `in_function`.
    """
    if kind == "jvp":
        f = bv.custom_jvp(lambda x: (x * w).sum() if in_function else x.sum())
        f.defjvp(
            lambda p, t: ((p[0] * w).sum() if in_function else p[0].sum(), (t[0] * w * 10).sum())
        )
    else:
        f = bv.custom_vjp(lambda x: (x * w).sum() if in_function else x.sum())
        f.defvjp(
            lambda x: ((x * w).sum() if in_function else x.sum(), None), lambda _, g: (g * w * 10,)
        )
    return f


W = np.array([1.0, 2.0, 3.0])


def closure_cases(make):
    """Gradients in x, which are all 10 w, with the function made in different places."""
    grad = lambda w: bv.grad(lambda x: make(w)(x))
    f = lambda x, w: make(w)(x)
    two = f64(np.stack([W, W]))
    yield "eager", lambda x, w: grad(w)(x)
    yield "jit of grad", bv.jit(lambda x, w: grad(w)(x))
    yield "grad of jit", bv.grad(bv.jit(f))
    yield "vmap of grad", lambda x, w: bv.vmap(lambda w: grad(w)(x))(two)[0]
    mapped = lambda x: bv.vmap(lambda w: f(x, w))(two).sum() / 2
    yield "grad of vmap", lambda x, w: bv.grad(mapped)(x)
    yield "grad of remat", bv.grad(bv.remat(f))
    yield (
        "grad of scan",
        bv.grad(lambda x, w: lax.scan(lambda c, v: (c + f(x, v), None), 0.0, two)[0] / 2),
    )
    yield (
        "grad of scan, w from outside",
        bv.grad(
            lambda x, w: lax.scan(lambda c, _: (c + f(x, w), None), 0.0, None, length=2)[0] / 2
        ),
    )
    yield (
        "jit of grad of cond",
        bv.jit(bv.grad(lambda x, w: lax.cond(x[0] > -9, lambda w: f(x, w), lambda w: x.sum(), w))),
    )
    yield (
        "vmap of grad of jit",
        lambda x, w: bv.vmap(bv.grad(bv.jit(f)), in_axes=(None, 0))(x, two)[1],
    )
    yield (
        "grad of jit of vmap",
        bv.grad(bv.jit(lambda x, w: bv.vmap(lambda v: bv.jit(f)(x, v))(two).sum() / 2)),
    )


CLOSURES = [n for n, _ in closure_cases(lambda w: None)]


@pytest.mark.parametrize("in_function", [True, False])
@pytest.mark.parametrize("kind", ["jvp", "vjp"])
@pytest.mark.parametrize("name", CLOSURES)
def test_rules_close_over_traced_values(name, kind, in_function):
    f = dict(closure_cases(lambda w: scaled(kind, w, in_function)))[name]
    close(f(f64(X), f64(W)), 10 * W)


def test_closing_over_what_is_differentiated():
    for kind in ("jvp", "vjp"):
        with pytest.raises(TypeError, match=r"(?s)closes over a value.*stop_gradient"):
            bv.grad(lambda w, kind=kind: scaled(kind, w, True)(f64(X)))(f64(W))
        with pytest.raises(
            TypeError, match=r"(?s)closes over a value.*pass the value as an argument"
        ):
            bv.grad(bv.jit(lambda w, kind=kind: scaled(kind, w, True)(f64(X))))(f64(W))
        held = lambda w, kind=kind: scaled(kind, lax.stop_gradient(w), True)(f64(X) * w)
        close(bv.grad(held)(f64(W)), 10 * W * X)
        # The rule's own scale may depend on w: to first order it is a constant.
        rule_only = lambda w, kind=kind: scaled(kind, w, False)(w)
        close(bv.grad(rule_only)(f64(W)), 10 * W)
        once = bv.grad(rule_only)
        close(bv.grad(lambda w, g=once: g(w).sum())(f64(W)), np.full(3, 10.0))


def test_second_order_through_a_closure():
    f = bv.jit(lambda x, w: scaled("vjp", w, True)(x))
    inner = lambda w: bv.grad(lambda x: f(x, w))(f64(X)).sum()
    close(bv.grad(inner)(f64(W)), np.full(3, 10.0))


def test_rules_may_use_control_flow_on_closed_values():
    def f(x, w):
        g = bv.custom_vjp(lambda x: x * w)

        def bwd(_, ct):
            return (lax.scan(lambda c, _: (c * w, None), ct, None, length=2)[0],)

        g.defvjp(lambda x: (x * w, None), bwd)
        return g(x)

    close(bv.grad(bv.jit(f))(2.0, 3.0), 9.0)
    close(
        bv.grad(lambda x: lax.scan(lambda c, w: (f(c, w), None), x, f64([2.0, 3.0]))[0])(f64(1.0)),
        36.0,
    )


BIG = bnp.asarray(np.linspace(0.5, 2.0, 100), dtype=F64)


def over_large_array(kind, where):
    """x * big with the gradient 3 * big, whose rules find `big` in different places."""
    big = BIG + 0
    array = {"closure": lambda: big, "module": lambda: BIG, "numpy": lambda: np.asarray(BIG)}[where]
    times = lambda x, k: (x * bnp.asarray(array(), dtype=F64) * k).sum()
    if where == "module":
        times = lambda x, k: (x * BIG * k).sum()
    if kind == "jvp":
        f = bv.custom_jvp(lambda x: times(x, 1))
        f.defjvp(lambda p, t: (times(p[0], 1), times(t[0], 3)))
    else:
        f = bv.custom_vjp(lambda x: times(x, 1))
        f.defvjp(
            lambda x: (times(x, 1), None), lambda _, g: (bv.grad(lambda x: times(x, 3))(BIG) * g,)
        )
    return f


@pytest.mark.parametrize("where", ["closure", "module", "numpy"])
@pytest.mark.parametrize("kind", ["jvp", "vjp"])
def test_rules_use_large_arrays(kind, where):
    f = over_large_array(kind, where)
    x, two = BIG * 2, lambda g: lambda x: bv.vmap(g)(bnp.stack([x, x])).sum() / 2
    ways = {
        "eager": f,
        "jit": bv.jit(f),
        "remat": bv.remat(f),
        "scan": lambda x: lax.scan(lambda c, _: (c + f(x), None), f64(0.0), None, length=2)[0] / 2,
        "cond": bv.jit(lambda x: lax.cond(x[0] > -9, f, lambda x: x.sum(), x)),
        "vmap": two(f),
        "vmap of jit": two(bv.jit(f)),
        "jit of vmap": bv.jit(two(f)),
    }
    for name, g in ways.items():
        np.testing.assert_allclose(bv.grad(g)(x), 3 * BIG, err_msg=name)
        np.testing.assert_allclose(bv.jit(bv.grad(g))(x), 3 * BIG, err_msg=name)
    text = bv.make_graph(bv.grad(bv.jit(f)))(x)
    assert ("[...]" in repr(text)) == (where == "numpy"), "only data Bevel cannot see is a literal"


@pytest.mark.filterwarnings("ignore::bevel.core.errors.TracerLeakWarning")  # it does leak
def test_a_rule_that_hides_a_traced_value():
    held = {}

    class Holder:
        def scale(self, g):
            return g * held["w"]

    def loss(x, w):
        f = bv.custom_vjp(lambda x: x)
        held["w"] = w
        f.defvjp(lambda x: (x, None), lambda _, g: (Holder().scale(g),))
        return f(x)

    assert float(bv.jit(bv.grad(loss))(1.0, 5.0)) == 5
    with pytest.raises(bv.errors.UnexpectedTracerError, match="(?s)as an argument|belongs to"):
        bv.grad(bv.jit(loss))(1.0, 5.0)


def test_custom_functions_do_not_write_state():
    cell = bv.ref(0.0)

    def f(x):
        cell[...] = cell[...] + 1
        return x

    for g in (bv.custom_jvp(f), bv.custom_vjp(f)):
        (
            g.defjvps(None)
            if isinstance(g, bv.custom_jvp)
            else g.defvjp(lambda x: (x, None), lambda r, g: (g,))
        )
        for call in (g, bv.jit(g), bv.grad(g)):
            with pytest.raises(
                bv.errors.StateError, match="(?s)writes a state cell.*test_derivatives"
            ):
                call(1.0)
    assert float(cell[...]) == 0


def test_eager_calls_run_plain_python():
    seen = []

    @bv.custom_vjp
    def f(x):
        seen.append(float(x))
        return x

    f.defvjp(lambda x: (x, None), lambda r, g: (g,))
    assert float(f(2)) == 2.0 and seen == [2.0]


# -- custom_gradient, closure_convert --------------------------------------------------------------


@pytest.mark.parametrize("how", UNDER)
def test_custom_gradient_everywhere(how):
    @bv.custom_gradient
    def f(x):
        c = bnp.cos(x)
        return bnp.sin(x), lambda g: 3 * g * c

    g = UNDER[how](f)
    close(g(f64(X)), np.sin(X))
    close(bv.grad(lambda x: g(x).sum())(f64(X)), 3 * np.cos(X))
    close(bv.jit(bv.grad(lambda x: g(x).sum()))(f64(X)), 3 * np.cos(X))


def test_custom_gradient_of_several():
    @bv.custom_gradient
    def f(p, y, *, k=2):
        return {"o": p["a"] * y}, lambda g: ({"a": g["o"] * k}, g["o"] * 100)

    close(bv.grad(lambda p, y: f(p, y, k=5)["o"], (0, 1))({"a": 2.0}, 3.0), ({"a": 5.0}, 100.0))
    assert f.__name__ == "f"


def test_closure_convert():
    def f(x):
        converted, captured = bv.closure_convert(lambda y: {"o": (y * x).sum()}, bnp.ones(3))
        assert len(captured) == 1
        return converted(bnp.ones(3), *captured)["o"], bv.grad(
            lambda c: converted(bnp.ones(3), c)["o"]
        )(*captured)

    y, g = bv.jit(f)(bnp.arange(3.0))
    assert float(y) == 3 and g.tolist() == [1, 1, 1]
    converted, captured = bv.closure_convert(lambda p: p[0] + p[1], (1.0, 2.0))
    assert captured == [] and float(converted((3, 4.0))) == 7
    with pytest.raises(TypeError, match="closure_convert of <lambda>.*converted for"):
        converted(1.0, 2.0)


# -- remat -----------------------------------------------------------------------------------------


def layers(x, n=3):
    for _ in range(n):
        x = bv.checkpoint_name(bnp.sin(x @ bnp.ones((3, 3), dtype=F64) * 0.1), "h")
    return x.sum()


def stacked(graph, name):
    return [e for e in graph.eqns if e.op.name == name]


def test_remat_computes_again():
    x = f64(X)
    want = bv.grad(layers)(x)
    kept = bv.make_graph(bv.grad(layers))(x)
    again = bv.make_graph(bv.grad(bv.remat(layers)))(x)
    assert count(kept, "sin") == 3 - 1 and count(kept, "cos") == 3
    assert count(again, "remat_backward") == 1 and count(again, "cos") == 3
    residuals = [len(e.inputs) for e in again.eqns if e.op.name == "remat_backward"]
    assert residuals == [2]  # x and the cotangent: nothing computed is kept
    for f in (
        bv.remat(layers),
        bv.checkpoint(layers),
        bv.remat(layers, prevent_cse=False),
        bv.jit(bv.remat(layers)),
    ):
        close(bv.grad(f)(x), want)
        close(bv.jit(bv.grad(f))(x), want)
        close(bv.hessian(f)(x), bv.hessian(layers)(x))
    assert (
        count(bv.make_graph(bv.grad(bv.remat(layers, prevent_cse=False)))(x), "remat_backward") == 0
    )


POLICIES = bv.checkpoint_policies


@pytest.mark.parametrize(
    "policy, products, sines",
    [
        # What the backward pass computes again: products need sines, cosines need products.
        (None, 3, 2),
        (POLICIES.nothing_saveable, 3, 2),
        (POLICIES.everything_saveable, 0, 0),
        (POLICIES.dots_saveable, 0, 0),
        (POLICIES.dots_with_no_batch_dims_saveable, 0, 0),
        (POLICIES.save_only_these_names("h"), 3, 0),
        (POLICIES.save_only_these_names("other"), 3, 2),
        (POLICIES.save_any_names_but_these("other"), 3, 0),
        (POLICIES.save_any_names_but_these("h"), 3, 2),
        (
            POLICIES.save_from_both_policies(
                POLICIES.dots_saveable, POLICIES.save_only_these_names("h")
            ),
            0,
            0,
        ),
    ],
)
@pytest.mark.parametrize("inner", ["plain", "jit"])
def test_policies_keep_what_they_say(policy, products, sines, inner):
    f = bv.jit(layers) if inner == "jit" else layers
    f = bv.remat(f, policy=policy)
    close(bv.grad(f)(f64(X)), bv.grad(layers)(f64(X)))
    close(bv.jit(bv.grad(f))(f64(X)), bv.grad(layers)(f64(X)))
    close(bv.vmap(bv.grad(f))(f64(np.stack([X, X + 1])))[0], bv.grad(layers)(f64(X)))
    graph = bv.make_graph(bv.grad(f))(f64(X))
    if policy is POLICIES.everything_saveable:
        return
    (back,) = [e.params["graph"] for e in graph.eqns if e.op.name == "remat_backward"]
    # The backward direction has 3 products of its own.
    assert count(back, "dot_general") == 3 + products and count(back, "sin") == sines


def test_policies_do_not_keep_unneeded_arguments():
    f = bv.remat(
        lambda x: bnp.sin(bv.checkpoint_name(bnp.exp(x), "e")),
        policy=POLICIES.save_only_these_names("e"),
    )
    g = bv.remat(
        lambda x: bnp.sin(bv.checkpoint_name(bnp.cos(x) * 2, "e") * 3),
        policy=lambda op, *a, **p: op.name in ("name", "sin"),
    )
    for h in (f, g):
        graph = bv.make_graph(bv.grad(h))(f64(0.5))
        (back,) = [e for e in graph.eqns if e.op.name == "remat_backward"]
        assert all(len(e.inputs) <= 4 for e in [back])
        close(bv.grad(h)(f64(0.5)), numeric(h, 0.5))


def test_remat_arguments():
    f = bv.remat(lambda x, mode, k=1: x**2 * k if mode == "square" else x, static_argnums=1)
    assert float(bv.grad(f)(3.0, "square")) == 6 and float(bv.grad(f)(3.0, "square", k=2.0)) == 12
    g = bv.remat(lambda x, flag: x**2 if flag else x, static_argnums=(-1,))
    assert float(bv.grad(g)(3.0, True)) == 6 and float(bv.grad(g)(3.0, False)) == 1
    with pytest.raises(bv.errors.TracerBoolConversionError):
        bv.remat(lambda x, flag: x if flag else -x)(1.0, True)
    with pytest.raises(ValueError, match="argument number 4 is out of range"):
        bv.remat(lambda x: x, static_argnums=4)(1.0)
    decorated = bv.remat(policy=POLICIES.dots_saveable)(lambda x: x**2)
    assert float(bv.grad(decorated)(3.0)) == 6
    cell = bv.ref(0.0)

    @bv.remat
    def h(x):
        cell[...] = cell[...] + x
        return x * cell[...]

    assert float(bv.grad(h)(3.0)) == 6 and float(cell[...]) == 3


def test_remat_in_scan_and_nested():
    def f(x, n=4):
        return lax.scan(bv.remat(lambda c, _: (bnp.sin(bnp.sin(c)), None)), x, None, length=n)[
            0
        ].sum()

    plain = lambda x: lax.scan(lambda c, _: (bnp.sin(bnp.sin(c)), None), x, None, length=4)[0].sum()
    close(bv.grad(f)(f64(X)), bv.grad(plain)(f64(X)))
    close(bv.hessian(f)(f64(X)), bv.hessian(plain)(f64(X)))
    deep = bv.remat(lambda x: bv.remat(lambda y: bnp.sin(bnp.exp(y)))(x).sum())
    close(bv.grad(deep)(f64(X)), numeric(deep, X))
    # The loop keeps one array per step, its carry, and not the intermediate sine.
    shapes = [
        o.aval.shape
        for e in bv.make_graph(bv.grad(f))(f64(X)).eqns
        if e.op.name == "scan"
        for o in e.outputs
    ]
    assert shapes.count((4, 3)) == 1


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
