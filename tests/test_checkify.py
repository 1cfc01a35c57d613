"""`checkify`: errors as values, next to `jax.experimental.checkify` and `bv.debug.checked`."""

import pathlib
import re
import types

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import lax, nn, random
from bevel.core.aval import aval_of
from bevel.debug import checkify
from bevel.debug.checkify import (
    all_checks,
    div_checks,
    index_checks,
    nan_checks,
    user_checks,
)
from bevel.transforms import checking
from tests.marks import marks_of

HERE = pathlib.Path(__file__).name
at = marks_of(__file__)


BEVEL = types.SimpleNamespace(
    np=bnp, lax=lax, jit=bv.jit, vmap=bv.vmap, grad=bv.grad, remat=bv.remat, check=bv.check,
    custom_jvp=bv.custom_jvp, custom_vjp=bv.custom_vjp, checkify=checkify,
)  # fmt: skip


@pytest.fixture(scope="module")
def peer():
    """The same names in JAX."""
    jax = pytest.importorskip("jax")
    from jax.experimental import checkify as theirs

    return types.SimpleNamespace(
        np=jax.numpy, lax=jax.lax, jit=jax.jit, vmap=jax.vmap, grad=jax.grad, remat=jax.remat,
        check=theirs.check, custom_jvp=jax.custom_jvp, custom_vjp=jax.custom_vjp, checkify=theirs,
    )  # fmt: skip


# -- which calls fail ------------------------------------------------------------------------------


def with_jvp(L):
    @L.custom_jvp
    def f(x):
        return L.np.log(x)

    f.defjvp(lambda ps, ts: (f(*ps), ts[0] / ps[0]))
    return f


def with_vjp(L):
    @L.custom_vjp
    def f(x):
        return L.np.log(x)

    f.defvjp(lambda x: (L.np.log(x), x), lambda x, ct: (ct / x,))
    return f


def scanned(L, reverse=False):
    return lambda x, i: L.lax.scan(lambda c, r: (c + r, L.np.sqrt(c + i)), 0.0, x, reverse=reverse)


def counted(L):
    return lambda x, i: L.lax.fori_loop(0, 3, lambda k, s: s + x[k + i], 0.0)


def looped(L):
    return lambda x, i: L.lax.while_loop(
        lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] + L.np.log(s[1] + i)), (0, 1.0)
    )


def conditioned(L):
    return lambda x, i: L.lax.while_loop(
        lambda k: (x[k] < 2.5) & (k < 6), lambda k: k + 1, L.np.int32(i)
    )


def nested(L):
    def step(c, r):
        inner = L.lax.cond(r > 1, lambda v: L.jit(L.np.log)(v), lambda v: v, c)
        return c - 1.0, inner

    return lambda x, i: L.lax.scan(step, x[0] + i, x)


def through_where(L):
    return lambda x, i: L.grad(lambda v: L.np.where(v > 0, L.np.sqrt(v), 0.0).sum())(x + i)


def stated(L):
    def f(x, i):
        L.check(i > 0, "i is {i}", i=L.np.asarray(i))
        return x * i

    return f


def stated_in_loops(L):
    def step(c, r):
        L.check(c < 4.0, "c is {c}", c=c)
        return c + r, L.lax.cond(c > 1, lambda: c, lambda: r)

    return lambda x, i: L.lax.scan(step, L.np.float32(0) + i, x)


def two(L):
    return lambda x, i: L.np.log(x[i] - 4.0)


# name: the function of (library, (x, i)), a good i and a bad one. x is [1, 2, 3].
PROGRAMS = {
    "index": (lambda L: lambda x, i: x[i], 1, 7),
    "negative index": (lambda L: lambda x, i: x[i], -3, -4),
    "gather": (lambda L: lambda x, i: x[L.np.stack([i, i * 0])], 2, 3),
    "row": (lambda L: lambda x, i: L.np.outer(x, x)[i, 1:], -1, 3),
    "take": (lambda L: lambda x, i: L.np.take(x, i), 2, 9),
    "set": (lambda L: lambda x, i: x.at[i].set(1.0), 2, 3),
    "add": (lambda L: lambda x, i: x.at[L.np.stack([i, i])].add(1.0), 0, 5),
    "slice": (lambda L: lambda x, i: L.lax.dynamic_slice(x, (i,), (2,)), 1, 2),
    "update": (lambda L: lambda x, i: L.lax.dynamic_update_slice(x, x[:2], (i,)), 1, 2),
    "log": (lambda L: lambda x, i: L.np.log(x + i), 0, -2),
    "inf - inf": (lambda L: lambda x, i: L.np.exp(x * i) - L.np.exp(x * i), 1, 100),
    "division": (lambda L: lambda x, i: x / i, 2, 0),
    "0 / 0": (lambda L: lambda x, i: (x * i) / (x * i), 1, 0),
    "floor division": (lambda L: lambda x, i: L.lax.div(i, i * i), 3, 0),
    "moved NaN": (lambda L: lambda x, i: L.np.where(x > i, x, L.np.nan)[::-1], 3, -1),
    "cond": (lambda L: lambda x, i: L.lax.cond(i > 0, L.np.sin, L.np.sqrt, x * i), 1, -1),
    "switch": (
        lambda L: lambda x, i: L.lax.switch(i, [L.np.sin, L.np.sin, lambda v: L.np.log(-v)], x),
        1,
        2,
    ),
    "scan": (scanned, 0.0, -1.5),
    "reverse scan": (lambda L: scanned(L, True), 0.0, -1.5),
    "fori": (counted, 0, 1),
    "while": (looped, 0.0, -2.0),
    "while's condition": (conditioned, 0, 3),
    "nested": (nested, 2.0, 0.0),
    "jit": (lambda L: lambda x, i: L.jit(lambda v: L.np.log(v))(x + i) + 1, 0, -2),
    "remat": (lambda L: lambda x, i: L.remat(lambda v: L.np.arcsin(v))(x / i), 3.0, 2.0),
    "custom_jvp": (lambda L: lambda x, i: with_jvp(L)(x + i), 0.0, -2.0),
    "custom_vjp": (lambda L: lambda x, i: with_vjp(L)(x + i), 0.0, -2.0),
    "grad": (lambda L: lambda x, i: L.grad(lambda v: (v[i] ** 2).sum())(x), 2, 3),
    "backward pass": (through_where, 0.0, -1.0),
    "vmap": (lambda L: lambda x, i: L.vmap(lambda k: x[k + i])(L.np.arange(3)), 0, 1),
    "check": (stated, 1, -1),
    "check in loops": (stated_in_loops, 0.0, 0.5),
    "two": (two, 4, 0),
}  # fmt: skip


def kind_of(message):
    """The class of Bevel's error for one of JAX."""
    for text, kind in (
        ("out-of-bounds", IndexError),
        ("nan generated", FloatingPointError),
        ("division by zero", ZeroDivisionError),
        ("`check` failed", bv.errors.CheckError),
    ):
        if text in (message or ""):
            return kind
    return None


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_same_calls_fail_as_in_jax(name, peer):
    make, *arguments = PROGRAMS[name]
    theirs = peer.jit(peer.checkify.checkify(make(peer), errors=peer.checkify.all_checks))
    f = make(BEVEL)
    x = np.array([1.0, 2.0, 3.0], np.float32)
    plain = bv.jit(f)
    ways = {
        "jit": bv.jit(checkify.checkify(f, errors=all_checks)),
        "of jit": checkify.checkify(plain, errors=all_checks),
    }
    if name in ("index", "log", "scan", "while", "cond", "check"):
        ways["eager"] = checkify.checkify(f, errors=all_checks)
    found = []
    for i in arguments:
        expected = kind_of(theirs(x, i)[0].get())
        for how, way in ways.items():
            err, out = way(x, i)
            error = err.get_exception()
            assert (error and type(error)) is expected, (name, i, how, err.get())
            if error is None:
                assert err.get() is None and err.throw() is None
                bv.tree.map(np.testing.assert_allclose, out, plain(x, i))
            else:
                assert re.search(rf"{HERE}:\d+ ", err.get())
                with pytest.raises(expected, match=re.escape(str(error))):
                    err.throw()
        found.append(expected)
    assert found[0] is None or name == "two"


def test_only_what_is_asked_for_is_looked_for(peer):
    x = np.array([1.0, 2.0, 3.0], np.float32)
    sets = ["user_checks", "index_checks", "nan_checks", "div_checks", "float_checks"]
    for program in ("index", "log", "division", "check"):
        make, _, bad = PROGRAMS[program]
        if program == "check":
            sets = ["user_checks", "all_checks"]
        for name in (*sets, "automatic_checks") if program != "check" else sets:
            theirs = peer.jit(
                peer.checkify.checkify(make(peer), errors=getattr(peer.checkify, name))
            )
            err, _ = checkify.checkify(make(BEVEL), errors=getattr(checkify, name))(x, bad)
            expected = kind_of(theirs(x, bad)[0].get())
            found = err.get_exception()
            assert (found and type(found)) is expected, (program, name)
    assert checkify.float_checks == nan_checks | div_checks
    assert checkify.automatic_checks | user_checks == all_checks


# -- what is said ----------------------------------------------------------------------------------


def picked(x, i):
    return x[i + 1]  # here: picked


def rows_set(x, i):
    return bnp.outer(x, x).at[:, bnp.stack([i, i])].set(0)  # here: rows


def divided(x, i):
    return bnp.arange(3) // i  # here: divided


@pytest.mark.parametrize("f,i", [(picked, 6), (rows_set, 4), (picked, -5), (divided, 0)])
def test_the_message_is_that_of_checked(f, i):
    x, i = bnp.array([1.0, 2.0, 3.0]), bnp.int32(i)
    with pytest.raises((IndexError, ZeroDivisionError)) as e:
        bv.debug.checked(bv.jit(f))(x, i)
    err, _ = bv.jit(checkify.checkify(f, errors=all_checks))(x, i)
    assert err.get() == str(e.value) and "Write instead: " in err.get()
    assert type(err.get_exception()) is type(e.value)


def test_the_message_of_a_nan_has_its_line_shapes_and_advice():
    def f(x):
        return bnp.log(x)  # here: log

    x = bnp.arange(3.0)
    run = bv.jit(checkify.checkify(f, errors=nan_checks))
    text = run(bnp.array([1.0, -1.0, -2.0]))[0].get()
    with bv.debug.nans(), pytest.raises(FloatingPointError) as e:
        f(bnp.array([1.0, -1.0, -2.0]))
    assert text.splitlines()[:2] == str(e.value).splitlines()[:2]
    assert re.search(at("log"), text) and "float32[3] with 2 NaN, of float32[3]" in text
    assert text.splitlines()[3:] == str(e.value).splitlines()[3:]
    text = run(bnp.array([1.0, np.nan]))[0].get()
    assert "a NaN came in with an operand of `log`" in text and "nan_to_num" in text
    for wrong in (
        lambda x, i: bnp.log(x.at[i].get(mode="fill")),
        lambda x, i: bnp.exp(bnp.maximum(bnp.where(x > i, x, bnp.nan), 0.0)),
        lambda x, i: bnp.sin(lax.bitcast_convert_type(i * 0 - 1, "float32")),
        lambda x, i: lax.scan(lambda c, r: (c * r, c), 1.0, bnp.full(3, bnp.nan) * 1.0),
    ):
        err, _ = bv.jit(checkify.checkify(wrong, errors=nan_checks))(x, 7)
        assert "a NaN came in with an operand" in err.get()
    passing = lambda x: (bnp.fmax(x, 1.0), bnp.nanmax(x), bnp.sort(-x), bnp.abs(x)[::-1])
    assert checkify.checkify(passing, errors=nan_checks)(bnp.array([np.nan, 1.0]))[0].get() is None


def test_values_of_all_dtypes_are_shown():
    names = (
        "bool int8 uint8 int16 uint16 int32 uint32 int64 uint64 float16 bfloat16 float32 float64"
    )
    values = [bnp.array([0, 1, 100 if n != "bool" else 1]).astype(n) for n in names.split()]
    values += [bnp.array([1 + 2j, -3j]), bnp.array([[0.5 + 1j]], "complex128"), bnp.zeros((0, 2))]
    values += [bnp.array(2**40 + 1, "int64"), bnp.array(-1, "int8"), bnp.array(1 / 3, "float64")]
    fmt = " ".join(["{}"] * len(values))

    def f(ok, *vs):
        bv.check(ok, fmt + " {name} {x:.2f}", *vs, name="text", x=vs[-1])

    err, _ = bv.jit(checkify.checkify(f))(False, *values)
    expected = (fmt + " text 0.33").format(*[np.asarray(v) for v in values])
    assert err.get().startswith(f"check failed: {expected}, at ")
    with pytest.raises(bv.errors.CheckError) as e:
        f(False, *values)
    assert str(e.value) == err.get()
    words = checking._packed([v._v for v in values])
    for v, back in zip(
        values, checking._unpacked(words, [aval_of(v._v) for v in values]), strict=True
    ):
        assert back.dtype == v.dtype
        np.testing.assert_array_equal(back, v)


def test_an_unknown_number_and_equal_ones():
    message = checking.exception_of(3, np.zeros(16, np.uint32))
    assert "another process" in str(message)
    make = lambda text: checking.Failure(("test", text), (), lambda _: ValueError(text))
    first, again, other = (int(checking.number_of(make(t))) for t in ("a", "a", "b"))
    assert first == again != other and first > 0
    known = dict(checking._failures)
    try:
        taken = checking.zlib.crc32(repr((("test", "c"), ())).encode()) & 0x7FFFFFFF
        checking._failures[taken] = make("d")
        assert int(checking.number_of(make("c"))) == taken + 1
    finally:
        checking._failures.clear()
        checking._failures.update(known)


# -- errors are values -----------------------------------------------------------------------------


def test_rows_have_errors_of_their_own():
    f = checkify.checkify(picked, errors=index_checks)
    x = bnp.arange(3.0)
    for g in (bv.vmap(f, in_axes=(None, 0)), bv.jit(bv.vmap(f, in_axes=(None, 0)))):
        err, out = g(x, bnp.array([0, 4, 1, 8]))
        assert out[:1].tolist() == [1.0] and out[2] == 2
        with pytest.raises(IndexError, match=r"row 1 \(2 of 4 rows failed\): index 5 is out"):
            err.throw()
        assert bv.tree.map(lambda v: v[3], err).get().startswith("index 9 is out of bounds")
        assert bv.tree.map(lambda v: v[2], err).get() is None
    twice = bv.vmap(bv.vmap(f, in_axes=(None, 0)), in_axes=(None, 0))
    assert twice(x, bnp.array([[0, 1], [0, 2]]))[0].get().startswith("row 1, 1 (1 of 4 rows")
    assert bv.vmap(f, in_axes=(None, 0))(x, bnp.zeros(0, int))[0].get() is None


def test_checks_of_rows_are_found_in_the_first_that_fails():
    def f(x, y):
        bv.check(x > y, "{} and {}", x, y)
        return bnp.log(x)

    g = checkify.checkify(bv.vmap(bv.vmap(f, in_axes=(0, None))), errors=user_checks)
    x, y = bnp.array([[3.0, 2.0], [1.0, 5.0]]), bnp.array([1.0, 1.0])
    assert bv.jit(g)(x, y)[0].get().startswith("check failed: 1.0 and 1.0, at ")
    assert g(x + 1, y)[0].get() is None
    unmapped = lambda x: bv.vmap(lambda r: (bv.check(x > 0, "x is {}", x), r)[1])(bnp.arange(2))
    assert checkify.checkify(unmapped)(-1.0)[0].get().startswith("check failed: x is -1.0")


def test_derivatives_of_checked_functions():
    def loss(x, i):
        return (bnp.log(x) * lax.scan(lambda c, r: (c * r, x[i] * r), 1.0, x)[1]).sum()

    checked = checkify.checkify(loss, errors=all_checks)
    x = bnp.array([1.0, 2.0, 3.0])

    def aux(x, i):
        err, out = checked(x, i)
        return out, err

    for wrap in (lambda f: f, bv.jit):
        g, err = wrap(bv.grad(aux, has_aux=True))(x, 1)
        np.testing.assert_allclose(g, bv.grad(loss)(x, 1), rtol=1e-6)
        assert err.get() is None
        assert "index 5 is" in wrap(bv.grad(aux, has_aux=True))(x, 5)[1].get()
        assert "made by `log`" in wrap(bv.grad(aux, has_aux=True))(x - 2, 1)[1].get()
    tangent = bv.jvp(lambda x: checked(x, 1)[1], (x,), (x,))[1]
    np.testing.assert_allclose(tangent, bv.grad(loss)(x, 1) @ x, rtol=1e-6)
    np.testing.assert_allclose(
        bv.hessian(lambda x: aux(x, 1)[0])(x), bv.hessian(loss)(x, 1), rtol=1e-5
    )


@pytest.mark.parametrize("custom", [with_jvp, with_vjp])
def test_derivatives_of_checked_functions_with_rules(custom):
    f = checkify.checkify(lambda x: custom(BEVEL)(x).sum(), errors=nan_checks)
    aux = lambda x: f(x)[::-1]
    x = bnp.array([1.0, 2.0])
    for wrap in (lambda f: f, bv.jit):
        g, err = wrap(bv.grad(aux, has_aux=True))(x)
        assert g.tolist() == [1.0, 0.5] and err.get() is None
        assert "made by `log`" in wrap(bv.grad(aux, has_aux=True))(-x)[1].get()
        rows = wrap(bv.vmap(bv.grad(aux, has_aux=True)))(bnp.stack([x, -x]))
        assert "row 1 (1 of 2 rows failed): a NaN was made by `log`" in rows[1].get()
        inside = wrap(
            checkify.checkify(
                bv.value_and_grad(lambda x: custom(BEVEL)(x).sum()), errors=nan_checks
            )
        )
        assert inside(x)[0].get() is None and "log" in inside(-x)[0].get()


def test_errors_go_through_loops_and_branches():
    f = checkify.checkify(picked, errors=index_checks)
    x = bnp.arange(3.0)

    def step(err, i):
        new, out = f(x, i)
        return lax.cond(err._number != 0, lambda: err, lambda: new), (out, new)

    for wrap in (lambda f: f, bv.jit):
        run = wrap(lambda js: lax.scan(step, checkify.Error(), js))
        err, (_, rows) = run(bnp.array([0, 5, 9]))
        assert err.get().startswith("index 6 is") and rows.get().startswith("row 1 (2 of 3 rows")
        assert run(bnp.array([0, 0, 0]))[0].get() is None
    assert repr(checkify.Error()) == "Error(None)" and "(IndexError: index 6 is" in repr(err)


def test_check_error_raises_or_is_found():
    inner = checkify.checkify(picked, errors=index_checks)

    def f(x, i):
        err, out = inner(x, i)
        checkify.check_error(err)
        return out

    x = bnp.arange(3.0)
    assert f(x, 1) == 2 and bv.jit(f)(x, 1) == 2
    with pytest.raises(IndexError, match="index 4 is"):
        f(x, 3)
    with pytest.raises(IndexError, match="index 4 is"):
        bv.jit(f)(x, 3).block_until_ready()
        bv.effects_barrier()
    with pytest.raises(IndexError, match="index 4 is"):
        bv.vmap(f, in_axes=(None, 0))(x, bnp.array([0, 3])).block_until_ready()
        bv.effects_barrier()
    for g in (checkify.checkify(f), bv.jit(checkify.checkify(bv.jit(f)))):
        assert g(x, 3)[0].get().startswith("index 4 is") and g(x, 0)[0].get() is None
    rows = lambda x, js: checkify.check_error(bv.vmap(inner, in_axes=(None, 0))(x, js)[0])
    assert checkify.checkify(rows)(x, bnp.array([0, 3, 7]))[0].get().startswith("index 4 is")
    seen = []

    def looks(x, i):
        err, out = inner(x, i)
        seen.append(repr(err))
        return err.get()

    with pytest.raises(
        bv.errors.TracerConversionError, match=r"(?s)jit of looks.*throw\(\) outside"
    ):
        bv.jit(looks)(x, 1)
    assert seen == ["Error(traced)"]


def test_state_keys_and_modules():
    total, key = bv.ref(0.0), random.key(0)
    net = nn.Linear(3, 1, rngs=nn.Rngs(0))

    def f(net, x, key):
        total[...] += x.sum()
        return bnp.log(net(x)).sum() + random.normal(key)

    checked = checkify.checkify(f, errors=nan_checks)
    x = net.kernel.value[:, 0]
    assert checked(net, x, random.clone(key))[0].get() is None
    assert "made by `log`" in bv.jit(checked)(net, -x, random.clone(key))[0].get()
    np.testing.assert_allclose(total[...], 0.0, atol=1e-6)
    checked(net, x, key)
    with pytest.warns(bv.errors.KeyReuseWarning):
        random.normal(key)


# -- what it costs ---------------------------------------------------------------------------------


def test_nothing_is_added_where_nothing_can_fail():
    def f(x):
        y = lax.fori_loop(0, 3, lambda i, v: v + x[i], 0.0)
        return lax.cond(y > 0, bnp.sin, bnp.cos, bnp.where(x > 0, x[1], x[:1] / 2))

    x = bnp.arange(3.0)
    graph = bv.make_graph(f)(x)
    assert "\n".join(str(graph).splitlines()[:-1]) == "\n".join(
        str(bv.make_graph(checkify.checkify(f))(x)).splitlines()[:-1]
    )
    many = str(bv.make_graph(checkify.checkify(f, errors=all_checks))(x)).count("\n")
    assert many > str(graph).count("\n")
    fixed = lambda x: x[bnp.array([0, 2])] / 2.0 + x[-1]
    checked = checkify.checkify(fixed, errors=index_checks | div_checks)
    assert str(bv.make_graph(checked)(x)).startswith(
        str(bv.make_graph(fixed)(x)).rsplit("\n", 1)[0]
    )


def test_a_second_call_traces_and_compiles_nothing():
    traces = []

    @bv.jit
    def f(x, i):
        traces.append(1)
        return lax.while_loop(lambda v: v.sum() < x[i], lambda v: v + bnp.log(x), x)

    x = bnp.ones(3)
    checked = checkify.checkify(f, errors=all_checks)
    outer = bv.jit(checked)
    for g in (checked, outer):
        before = len(traces)
        for i in (0, 1, 7):
            g(x, i)
        assert len(traces) <= before + 1
    assert len(traces) <= 2


def test_checks_that_are_not_asked_for_raise_themselves():
    def f(x):
        bv.check(x > 0, "x is {x}", x=x)
        return x

    g = bv.jit(checkify.checkify(f, errors=index_checks))
    assert g(1.0)[0].get() is None
    with pytest.raises(bv.errors.CheckError):
        g(-1.0)[1].block_until_ready()
        bv.effects_barrier()


def test_a_debug_check_is_looked_at_only_here():
    def f(x):
        checkify.debug_check(x > 0, "x is {x}", x=x)
        return x + 1

    for wrap in (lambda f: f, bv.jit, lambda f: bv.vmap(f, axis_size=2, in_axes=None), bv.grad):
        assert (wrap(f)(bnp.float32(-1)) <= 1).all()
    text = bv.jit(bv.vmap(f)).lower(bnp.ones(3)).as_text()
    assert "custom_call" not in text
    assert bv.jit(checkify.checkify(bv.jit(f)))(-1.0)[0].get().startswith("check failed: x is -1.0")
    with pytest.raises(ValueError, match="debug_check: the format string"):
        checkify.debug_check(True, "{y}")


def test_errors_must_be_a_set_of_checks():
    for wrong in ("index_checks", IndexError, {ValueError}, None):
        with pytest.raises(TypeError, match=r"(?s)errors must be a set.*index_checks \|"):
            checkify.checkify(picked, errors=wrong)
    with pytest.raises(TypeError, match="expected a function"):
        checkify.checkify(3)
    assert checkify.checkify(picked).__name__ == "picked"
    assert bv.debug.checkify is checkify and checkify.check is bv.check
    assert nn.checkify is checkify.checkify


def test_the_module_is_the_function():
    err, out = bv.debug.checkify(lambda x: bnp.log(x), errors=checkify.nan_checks)(-1.0)
    assert bnp.isnan(out) and "`log`" in err.get()
    assert bv.debug.checkify.Error().get() is None
