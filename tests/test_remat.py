"""`remat`: what is kept for the backward pass, and what is computed again."""

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import lax
from tests.derivative_checks import F64, X, close, count, f64, numeric

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
