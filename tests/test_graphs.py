"""Graphs: how they print, what the checker refuses; shapes, scopes, callbacks and devices."""

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import lax, ops, random
from bevel.core import config
from bevel.core.aval import Aval
from bevel.core.graph import Eqn, Graph, Lit, Var, check, trace

F32 = np.dtype("float32")
SCALAR, ROW = Aval((), F32), Aval((3,), F32)


def printed(f, *args):
    return repr(bv.make_graph(f)(*args))


def shown(text):
    """A listing written with the indentation of a test."""
    lines = text.strip("\n").split("\n")
    indent = len(lines[0]) - len(lines[0].lstrip())
    return "\n".join(line[indent:] for line in lines).rstrip()


# -- printing --------------------------------------------------------------------------------------


def test_plain_ops():
    assert printed(lambda x, y: (bnp.sin(x) * 2, y.sum(axis=0)), 1.0, np.ones((2, 3))) == shown(
        """
        inputs a:float32[] b:float32[2,3]
          c:float32[] = sin a
          d:float32[] = mul c 2.0
          e:float32[3] = reduce_sum[axes=(0,)] b
        return d e
        """
    )


def test_captured_arrays_come_first_and_small_ones_are_written_out():
    big, small = bnp.arange(100.0), bnp.arange(3.0)
    assert printed(lambda x: (x + big).sum() + (x * small[:1]).sum(), np.float32(1)) == shown(
        """
        inputs a:float32[100] b:float32[]
          c:float32[100] = broadcast_in_dim[shape=(100,) dims=()] b
          d:float32[100] = add c a
          e:float32[] = reduce_sum[axes=(0,)] d
          f:float32[1] = slice[start=(0,) limit=(1,)] float32[3][0.0, 1.0, 2.0]
          g:float32[1] = broadcast_in_dim[shape=(1,) dims=()] b
          h:float32[1] = mul g f
          i:float32[] = reduce_sum[axes=(0,)] h
          j:float32[] = add e i
        return j
        """
    )
    assert "float32[3][0.0, 1.0, 2.0]" in printed(lambda x: x * small, np.ones(3))


def test_calls_and_scopes():
    f = bv.jit(lambda x: bnp.sin(x))
    assert printed(lambda x: f(x) + 1, 1.0) == shown(
        """
        inputs a:float32[]
          b:float32[] = call[graph={
            inputs a:float32[]
              b:float32[] = sin a
            return b
          } name=<lambda>] a
          c:float32[] = add b 1.0
        return c
        """
    )


def test_loops_and_branches():
    assert printed(
        lambda x: lax.scan(lambda c, r: (c + r, c), x, np.ones(4, np.float32))[1], 1.0
    ) == shown(
        """
        inputs a:float32[]
          b:float32[] c:float32[4] = scan[body={
            inputs a:float32[] b:float32[]
              c:float32[] = add a b
            return c a
          } length=4 reverse=False unroll=1 n_consts=0 n_carry=1] a float32[4][1.0, 1.0, 1.0, 1.0]
        return c
        """
    )
    assert printed(lambda p, x: lax.cond(p, lambda x: x, lambda x: -x, x), True, 1.0) == shown(
        """
        inputs a:bool[] b:float32[]
          c:int32[] = convert[dtype=int32] a
          d:float32[] = cond[branches=({
            inputs a:float32[]
              b:float32[] = neg a
            return b
          }, {
            inputs a:float32[]
            return a
          })] c b
        return d
        """
    )
    assert printed(lambda x: lax.while_loop(lambda v: v < 3, lambda v: v * 2, x), 1.0) == shown(
        """
        inputs a:float32[]
          b:float32[] = while_loop[cond={
            inputs a:float32[]
              b:bool[] = lt a 3.0
            return b
          } body={
            inputs a:float32[]
              b:float32[] = mul a 2.0
            return b
          } n_cond=0 n_body=0] a
        return b
        """
    )


def test_derivatives_and_batches():
    assert printed(bv.grad(lambda x: bnp.sin(x) * x), 1.0) == shown(
        """
        inputs a:float32[]
          b:float32[] = sin a
          c:float32[] = cos a
          d:float32[] = mul b 1.0
          e:float32[] = mul 1.0 a
          f:float32[] = mul e c
          g:float32[] = add d f
        return g
        """
    )
    assert printed(bv.vmap(lambda x: x.sum()), np.ones((2, 3))) == shown(
        """
        inputs a:float32[2,3]
          b:float32[2] = reduce_sum[axes=(1,)] a
        return b
        """
    )


def test_custom_rules_remat_and_callbacks():
    f = bv.custom_jvp(bnp.sin)
    f.defjvp(lambda p, t: (f(*p), t[0]))
    text = printed(lambda x: bv.remat(f)(x), 1.0)
    assert "remat[graph={" in text and "custom_jvp_call[graph={" in text and "sin a" in text
    text = printed(
        lambda x: bv.pure_callback(np.sort, bv.ShapeDtypeStruct((3,), "float32"), x), np.ones(3)
    )
    assert "callback[fn=sort " in text and "0x" not in text


def test_names_go_past_z():
    def f(x):
        for _ in range(60):
            x = x + 1
        return x

    text = printed(f, 1.0)
    assert "ba:float32[] = add az 1.0" in text and text.count("\n") == 61


def test_nothing_at_all():
    assert printed(lambda: ()) == "inputs \nreturn "
    assert printed(lambda x: (), 1.0) == "inputs a:float32[]\nreturn "
    assert printed(lambda x: 2.0, 1.0) == "inputs a:float32[]\nreturn 2.0"


# -- checking --------------------------------------------------------------------------------------


def eqn(op, inputs, outputs, **params):
    return Eqn(op, inputs, outputs, params, None)


def test_the_checker_accepts_what_is_traced():
    f = lambda x: lax.scan(lambda c, r: (bnp.sin(c) * r, c), x, bnp.ones(3))[1].sum()
    for g in (
        f,
        bv.grad(f),
        bv.jacfwd(f),
        bv.hessian(f),
        lambda x: bv.vmap(bv.grad(f))(x + bnp.ones(2)),
    ):
        check(bv.make_graph(g)(1.0))


def test_the_checker_refuses_broken_graphs():
    x, y, z = Var(SCALAR), Var(SCALAR), Var(SCALAR)
    good = [eqn(ops.sin, [x], [y]), eqn(ops.mul, [x, y], [z])]
    check(Graph([x], good, [z]))
    cases = {
        "used before it is defined": Graph([x], good[::-1], [z]),
        "a float32\\[\\] variable is used": Graph([], good, [z]),
        "defined twice": Graph([x], [good[0], good[0]], [y]),
        "variable is defined twice": Graph([x, x], [], [x]),
        "used before": Graph([x], [], [y]),
        "mul at None gives": Graph([x], [good[0], eqn(ops.mul, [x, y], [Var(ROW)])], [y]),
        "not a variable": Graph([x], [eqn(ops.sin, [x], [Lit(np.float32(1).reshape(()))])], [x]),
    }
    for message, graph in cases.items():
        with pytest.raises(AssertionError, match=message):
            check(graph)
    with pytest.raises(TypeError, match="shapes must be equal"):
        check(Graph([x], [eqn(ops.mul, [x, Lit(np.ones(3, np.float32))], [y])], [y]))
    with pytest.raises(TypeError, match="dtype"):
        check(Graph([x], [eqn(ops.mul, [x, Lit(np.asarray(1))], [y])], [y]))
    inner = Graph([x], [eqn(ops.sin, [Var(SCALAR)], [y])], [y])
    call = bv.make_graph(bv.jit(bnp.sin))(1.0).eqns[0]
    with pytest.raises(AssertionError, match="used before"):
        check(
            Graph(
                [z], [call.replace(inputs=[z], params={"graph": inner, "name": "f"})], call.outputs
            )
        )
    wide = call.replace(inputs=[z], outputs=[Var(ROW)])
    with pytest.raises(AssertionError, match="call at .* gives .*float32\\[\\]"):
        check(Graph([z], [wide], wide.outputs))


def test_traced_graphs_are_checked_in_tests(monkeypatch):
    assert config.get("check_graphs"), "conftest.py sets it before anything imports bevel"
    avals = iter([ROW])
    monkeypatch.setattr(ops.sin, "abstract", lambda x: next(avals, x))
    with pytest.raises(
        AssertionError, match=r"sin at .*test_graphs.* the graph says \[float32\[3\]\]"
    ):
        trace(lambda x: [ops.sin(x)], [SCALAR], "test")


# -- eval_shape ------------------------------------------------------------------------------------


def test_eval_shape():
    S = bv.ShapeDtypeStruct
    out = bv.eval_shape(
        lambda x, *, k: {"a": (x[:, None] * k, x.sum()), "n": None}, S((4,), "float16"), k=2
    )
    assert out == {"a": (S((4, 1), "float16"), S((), "float16")), "n": None}
    big = S((10**5, 10**5), bnp.float32)
    assert bv.eval_shape(lambda x: x @ x, big) == big and big.size == 10**10 and big.ndim == 2
    assert bv.eval_shape(bv.grad(lambda x: (x**2).sum()), big) == big
    assert bv.eval_shape(bv.vmap(lambda x: x.sum()), S((3, 2), "int8")) == S((3,), "int32")
    assert bv.eval_shape(bv.jit(lambda x: x + 1), 1) == S((), "int32")
    key = bv.eval_shape(random.key, 0)
    assert key.shape == () and key.dtype == random.key(0).dtype
    assert bv.eval_shape(random.split, key) == bv.eval_shape(bv.jit(random.split), random.key(0))
    assert bv.eval_shape(random.split, key).shape == (2,)
    assert bv.eval_shape(lambda k: random.normal(k, (3,)), key) == S((3,), "float32")
    cell = bv.ref(bnp.zeros(2))
    assert bv.eval_shape(lambda c: c.__setitem__(..., c[...] + 1) or c[...] * 2, cell) == S(
        (2,), "float32"
    )
    assert cell[...].tolist() == [0, 0]
    seen = []
    bv.eval_shape(lambda x: bv.debug.callback(seen.append, x), 1.0)
    assert seen == []
    assert S((2,), float) == S([2], "float32") != S((2,), "float64") and hash(S((2,), "int8"))
    with pytest.raises(TypeError, match="str, which is not an array"):
        bv.eval_shape(lambda x: x, "a")
    with pytest.raises((TypeError, ValueError), match=r"\(3,\)"):
        bv.eval_shape(lambda x: x @ np.ones((2, 2)), S((3,), "float32"))


# -- scopes and sources ----------------------------------------------------------------------------


def scopes(graph):
    """Op names with the scopes they are in, those of inner graphs too."""
    out = []
    for e in graph.eqns:
        out.append((e.op.name, e.source.scope if e.source else None))
        for p in e.params.values():
            for g in p if isinstance(p, tuple) else (p,):
                out += scopes(g) if hasattr(g, "eqns") else []
    return out


def test_named_scopes():
    def f(x):
        with bv.named_scope("outer"):
            x = bnp.sin(x)
            with bv.named_scope("inner"):
                x = bnp.tanh(x)
        return bnp.exp(x)

    assert scopes(bv.make_graph(f)(1.0)) == [("sin", "outer"), ("tanh", "outer/inner"), ("exp", "")]
    with pytest.raises(RuntimeError), bv.named_scope("left"):
        raise RuntimeError
    assert scopes(bv.make_graph(bnp.sin)(1.0)) == [("sin", "")]
    with pytest.raises(TypeError, match="must be a string, got int"):
        bv.named_scope(3)
    text = bv.jit(f).lower(1.0).compile().as_text()
    assert "outer" in text


def test_sources_and_scopes_survive_transforms():
    def f(x):
        with bv.named_scope("layer"):
            return bnp.sin(x)

    f_line = f.__code__.co_firstlineno + 2
    ways = (
        bv.grad(f),
        bv.grad(bv.jit(f)),
        bv.grad(lambda x: lax.scan(lambda c, _: (f(c), None), x, None, length=2)[0]),
        bv.grad(bv.remat(f)),
        bv.jit(bv.grad(bv.jit(f))),
    )
    for g in ways:
        graph = bv.make_graph(g)(1.0)
        named = dict(scopes(graph))
        assert named["cos"] == "layer", named
        found = []

        def look(graph, found=found):
            for e in graph.eqns:
                if e.op.name == "cos":
                    found.append(e.source)
                for p in e.params.values():
                    if hasattr(p, "eqns"):
                        look(p)

        look(graph)
        assert {s.line for s in found} == {f_line} and {s.function for s in found} == {"f"}
    batched = bv.make_graph(bv.vmap(bv.jit(f)))(bnp.ones(2))
    assert ("sin", "layer") in scopes(batched)


def test_errors_in_rules_show_the_rule():
    f = bv.custom_vjp(lambda x: x)

    def bwd(_, g):
        return (g + bnp.ones(2) + bnp.ones(3),)

    f.defvjp(lambda x: (x, None), bwd)
    with pytest.raises(
        (TypeError, ValueError), match=rf"test_graphs.py:{bwd.__code__.co_firstlineno + 1} \(bwd\)"
    ):
        bv.grad(bv.jit(lambda x: bnp.sin(f(x))))(1.0)


# -- callbacks -------------------------------------------------------------------------------------


def sort(x):
    return bv.pure_callback(
        np.sort, bv.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="sequential"
    )


X = np.array([[3.0, 1.0], [2.0, 5.0], [9.0, 4.0]], np.float32)


def test_pure_callbacks_everywhere():
    ways = {
        "eager": lambda x: bnp.stack([sort(r) for r in x]),
        "jit": bv.jit(lambda x: bnp.stack([sort(r) for r in x])),
        "vmap": bv.vmap(sort),
        "jit of vmap": bv.jit(bv.vmap(sort)),
        "vmap of jit": bv.vmap(bv.jit(sort)),
        "scan": lambda x: lax.scan(lambda c, r: (c, sort(r)), 0, x)[1],
        "map": lambda x: lax.map(sort, x),
        "cond": bv.jit(lambda x: lax.cond(x.sum() > 0, bv.vmap(sort), lambda x: x, x)),
        "while": lambda x: lax.while_loop(
            lambda s: s[0] < 1, lambda s: (s[0] + 1, bv.vmap(sort)(s[1])), (0, x)
        )[1],
        "remat": bv.remat(bv.vmap(sort)),
    }
    for name, f in ways.items():
        np.testing.assert_array_equal(f(bnp.asarray(X)), np.sort(X), err_msg=name)


def test_callbacks_take_trees():
    S = bv.ShapeDtypeStruct

    def host(p, k, *, scale):
        assert isinstance(p["a"], np.ndarray) and scale == 3
        return {"s": p["a"] * scale, "t": (np.float32(k),)}

    f = bv.jit(
        lambda p: bv.pure_callback(
            host, {"s": S((2,), "float32"), "t": (S((), "float32"),)}, p, 7, scale=3
        )
    )
    out = f({"a": np.ones(2), "b": None})
    assert out["s"].tolist() == [3, 3] and float(out["t"][0]) == 7
    with pytest.raises(TypeError, match="(?s)result_shape_dtypes must hold.*ShapeDtypeStruct"):
        bv.pure_callback(np.sin, 3.0, 1.0)
    with pytest.raises(TypeError, match="returned the structure"):
        bv.pure_callback(lambda x: (x, x), S((), "float32"), 1.0)
    with pytest.raises(ValueError, match=r"(?s)returned shape \(2,\).*float32\[\]"):
        bv.pure_callback(lambda x: np.ones(2, np.float32), S((), "float32"), 1.0)
    with pytest.raises(TypeError, match="returned float64 as result 0, but int32"):
        bv.pure_callback(lambda x: np.float64(1.5), S((), "int32"), 1.0)
    with pytest.raises(TypeError, match="sharding must be None"):
        bv.pure_callback(np.sin, S((), "float32"), 1.0, sharding=1)
    with pytest.raises(ValueError, match="vmap_method must be one of sequential.*got 'no'"):
        bv.pure_callback(np.sin, S((), "float32"), 1.0, vmap_method="no")
    with pytest.raises(bv.errors.Unsupported, match="(?s)under vmap.*sequential"):
        bv.vmap(lambda x: bv.pure_callback(np.sin, S((), "float32"), x))(bnp.ones(2))
    with pytest.raises(bv.errors.Unsupported, match="(?s)custom_jvp or custom_vjp"):
        bv.grad(lambda x: bv.pure_callback(np.sin, S((), "float32"), x))(1.0)


def test_ways_to_batch_a_callback():
    S = bv.ShapeDtypeStruct
    shapes = []

    def host(x, y):
        shapes.append((x.shape, y.shape))
        return x + y

    for method, wanted in (
        ("sequential", [((), ())] * 3),
        ("expand_dims", [((3,), (1,))]),
        ("broadcast_all", [((3,), (3,))]),
    ):
        shapes.clear()
        f = lambda x, y, method=method: bv.pure_callback(
            host, S((), "float32"), x, y, vmap_method=method
        )
        out = bv.vmap(f, in_axes=(0, None))(bnp.arange(3.0), 10.0)
        assert out.tolist() == [10, 11, 12] and shapes == wanted


def test_a_callback_with_a_rule():
    @bv.custom_jvp
    def f(x):
        return bv.pure_callback(
            np.sin, bv.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="expand_dims"
        )

    f.defjvp(lambda p, t: (f(*p), bnp.cos(p[0]) * t[0]))
    for g in (bv.grad(f), bv.jit(bv.grad(f)), bv.grad(bv.jit(f))):
        np.testing.assert_allclose(g(0.5), np.cos(0.5), rtol=1e-6)
    np.testing.assert_allclose(
        bv.vmap(bv.grad(f))(bnp.arange(3.0)), np.cos(np.arange(3.0)), rtol=1e-6
    )
    np.testing.assert_allclose(
        bv.grad(lambda x: lax.scan(lambda c, _: (f(c), None), x, None, length=1)[0])(0.5),
        np.cos(0.5),
        rtol=1e-6,
    )


def collected(f, *args):
    """What a function gives to the log in its second argument."""
    log = []
    out = f(lambda v: log.append(np.asarray(v).tolist()), *args)
    bv.block_until_ready(out)
    bv.effects_barrier()
    return log


def test_io_callbacks():
    f = lambda log, x: (bv.io_callback(log, None, x, ordered=True), x * 2)[1]
    assert collected(f, 1.0) == [1.0]
    assert collected(lambda log, x: bv.jit(lambda x: f(log, x))(x), 1.0) == [1.0]
    assert collected(lambda log, x: bv.vmap(lambda x: f(log, x))(x), bnp.arange(3.0)) == [0, 1, 2]
    scan = lambda log, x: lax.scan(lambda c, r: (c, f(log, r)), 0, x)[1]
    assert collected(scan, bnp.arange(3.0)) == [0, 1, 2]
    assert collected(lambda log, x: bv.jit(lambda x: scan(log, x))(x), bnp.arange(3.0)) == [0, 1, 2]
    count = []
    nxt = bv.jit(
        lambda: bv.io_callback(
            lambda: np.int32(len(count) or count.append(1) or 0), bv.ShapeDtypeStruct((), "int32")
        )
    )
    assert int(nxt()) == 0 and int(nxt()) == 1
    with pytest.raises(bv.errors.Unsupported, match="has an effect and returns values"):
        bv.grad(lambda x: bv.io_callback(lambda v: v, bv.ShapeDtypeStruct((), "float32"), x))(1.0)
    with pytest.raises(TypeError, match="sharding must be None"):
        bv.io_callback(print, None, sharding=1)


def test_debug_callbacks_under_every_transform():
    note = lambda log, x: (bv.debug.callback(log, x), x * x)[1]
    ways = {
        "eager": (lambda log: note(log, 3.0), [3]),
        "jit": (lambda log: bv.jit(lambda x: note(log, x))(3.0), [3]),
        "grad": (lambda log: bv.grad(lambda x: note(log, x))(3.0), [3]),
        "jit of grad": (lambda log: bv.jit(bv.grad(lambda x: note(log, x)))(3.0), [3]),
        "grad of jit": (lambda log: bv.grad(bv.jit(lambda x: note(log, x)))(3.0), [3]),
        "vmap": (lambda log: bv.vmap(lambda x: note(log, x))(bnp.arange(2.0)), [0, 1]),
        "vmap of grad": (
            lambda log: bv.vmap(bv.grad(lambda x: note(log, x)))(bnp.arange(2.0)),
            [0, 1],
        ),
        "scan": (
            lambda log: lax.scan(lambda c, x: (note(log, c) + x, None), 1.0, bnp.arange(3.0)),
            [1, 1, 2],
        ),
        "grad of scan": (
            lambda log: bv.grad(
                lambda x: lax.scan(lambda c, v: (note(log, c) + v, None), x, bnp.arange(3.0))[0]
            )(1.0),
            [1, 1, 2],
        ),
        "hessian": (lambda log: bv.hessian(lambda x: note(log, x))(3.0), [3]),
        "fori": (lambda log: lax.fori_loop(0, 3, lambda i, v: note(log, v) + i, 1.0), [1, 1, 2]),
        "cond": (
            lambda log: bv.jit(lambda p: lax.cond(p, lambda: note(log, 1.0), lambda: 2.0))(True),
            [1],
        ),
        "cond not taken": (
            lambda log: bv.jit(lambda p: lax.cond(p, lambda: note(log, 1.0), lambda: 2.0))(False),
            [],
        ),
        "unused result": (lambda log: bv.jit(lambda x: (note(log, x), 1.0)[1])(3.0), [3]),
        "unused branch result": (
            lambda log: bv.jit(lambda p: (lax.cond(p, lambda: note(log, 1.0), lambda: 2.0), p)[1])(
                True
            ),
            [1],
        ),
        "unused loop": (
            lambda log: bv.jit(lambda x: (lax.fori_loop(0, 2, lambda i, v: note(log, v), x), x)[1])(
                3.0
            ),
            [3, 9],
        ),
    }
    for name, (f, wanted) in ways.items():
        assert collected(f) == wanted, name
    seen = []
    bv.debug.callback(
        lambda *a, **k: seen.append((a, k)), 1, "text", {"x": 2.0}, flag=True, ordered=True
    )
    ((a, k),) = seen
    assert int(a[0]) == 1 and a[1] == "text" and float(a[2]["x"]) == 2 and k["flag"]


def test_debug_print(capsys):
    def out(f, *args):
        bv.block_until_ready(f(*args))
        bv.effects_barrier()
        return capsys.readouterr().out

    show = lambda x: (bv.debug.print("x = {x} and {}", x + 1, x=x), x)[1]
    assert out(show, bnp.float32(2)) == "x = 2.0 and 3.0\n"
    assert out(bv.jit(show), bnp.float32(2)) == "x = 2.0 and 3.0\n"
    assert out(bv.grad(show), 2.0) == "x = 2.0 and 3.0\n"
    assert sorted(out(bv.vmap(show), bnp.arange(2.0)).splitlines()) == [
        "x = 0.0 and 1.0",
        "x = 1.0 and 2.0",
    ]
    assert (
        out(bv.jit(lambda x: bv.debug.print("{:.2f} {a}", x, a=bnp.arange(2))), 1.234)
        == "1.23 [0 1]\n"
    )
    with pytest.raises(
        ValueError, match=r"(?s)'x = \{x\}' uses .*debug\.print\('x = \{x\}', x=x\)"
    ):
        bv.debug.print("x = {x}", y=1)
    with pytest.raises(ValueError, match="uses 2 positional"):
        bv.debug.print("{} {}", 1)


def test_an_error_in_a_callback_reaches_the_user():
    def boom(x):
        raise ZeroDivisionError("in the callback")

    S = bv.ShapeDtypeStruct((), "float32")
    with pytest.raises(ZeroDivisionError, match="in the callback"):
        bv.pure_callback(boom, S, 1.0)
    with pytest.raises(Exception, match="in the callback"):
        bv.block_until_ready(bv.jit(lambda x: bv.pure_callback(boom, S, x))(1.0))


# -- devices ---------------------------------------------------------------------------------------


def test_put_and_get():
    cpu = bv.devices("cpu")[0]
    tree = {"a": bnp.arange(3), "b": (np.ones(2), 1.5)}
    there = bv.device_put(tree, cpu)
    assert (
        there["a"].devices() == {cpu}
        and there["b"][1].weak_type
        and there["b"][0].dtype == bnp.float32
    )
    assert bv.device_put(1.0, "cpu").device == cpu
    back = bv.device_get(there)
    assert (
        isinstance(back["a"], np.ndarray)
        and back["a"].tolist() == [0, 1, 2]
        and back["b"][1] == 1.5
    )
    with pytest.raises(ValueError, match="read-only"):
        back["a"][0] = 1
    assert bv.jit(lambda x: bv.device_put(x, cpu) * 2)(bnp.arange(3)).tolist() == [0, 2, 4]
    np.testing.assert_allclose(bv.grad(lambda x: bv.device_put(x, cpu) ** 2)(3.0), 6.0)
    assert random.is_key(bv.device_put(random.key(0), cpu))
    with pytest.raises(TypeError, match=r"expected a device such as bv\.devices\(\)\[0\], got int"):
        bv.device_put(1.0, 3)
    with pytest.raises(TypeError, match="random.key_data"):
        bv.device_get(random.key(0))
    with pytest.raises(TypeError, match="device_put: a value is a str"):
        bv.device_put("a", cpu)
    with pytest.raises(TypeError, match="test_graphs"):
        bv.jit(lambda x: bv.device_get(x))(1.0)


def test_waiting():
    x = bv.jit(lambda x: x * 2)(bnp.ones(1000))
    assert bv.block_until_ready({"x": x, "name": "n", "none": None})["x"] is x
    assert bv.block_until_ready(3) == 3
    assert float(x.block_until_ready()[0]) == 2
    bv.effects_barrier()
