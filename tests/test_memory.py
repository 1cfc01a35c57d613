"""Programs that do not fit: what the error lists, before they run and after. Nothing here is large
in fact: sizes are in terabytes, which fail at once, or the limit is small.
"""

import gc
import re
import types as pytypes
import weakref

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import lax, nn
from bevel.api import constants
from bevel.core import source
from bevel.core.aval import Aval
from bevel.xla import client, needs

UNLIMITED = 1 << 62
N = 1 << 22


def line_of(text):
    """The number of the first line of this file that ends with a mark."""
    with open(__file__) as f:
        return next(i for i, line in enumerate(f, 1) if line.rstrip().endswith(f"# {text}"))


def place(mark, function):
    return f"{__file__}:{line_of(mark)} ({function})"


@bv.jit
def outer(x):
    rows = bnp.arange(N) * x
    table = bnp.multiply(rows[:, None], rows[None])  # table
    return table, table.T @ rows[:, None]  # product


def message(call, *args):
    with pytest.raises(MemoryError) as e:
        call(*args)
    return str(e.value)


def test_a_program_that_cannot_fit_is_not_run():
    text = message(outer, 1.0)
    total = needs.limit(bv.devices()[0])
    first, *rest = text.splitlines()
    assert re.match(
        r"the program of outer was not run, since it cannot fit: it needs \d+\.\d TiB in all: "
        r"arguments 4 bytes, results 64\.0 TiB, temporaries .*; cpu:0 has "
        + re.escape(needs.human(total)),
        first,
    ), first
    assert any(
        re.match(r"  64\.0 TiB( x 2)?  float32\[4194304,4194304\], mul at ", row)
        and row.endswith(place("table", "outer"))
        for row in rest
    ), text
    assert rest[-1].startswith("Write instead: a smaller batch")
    with pytest.raises(MemoryError):
        outer(1.0)  # the second call, too


def test_what_runs_and_fails_names_its_program_where_it_is_read():
    with bv.config(memory_limit_bytes=UNLIMITED):
        other = bv.jit(lambda x: bnp.ones((1000, 1000)) * x)(2.0)
        table, _ = outer(1.0)
        unrelated = bv.jit(lambda x: bnp.ones((1000, 500)) * x)(2.0)
        for use in (np.asarray, bv.block_until_ready, lambda t: t[0, 0].item(), bnp.sum):
            text = message(use, table)
            assert text.startswith("the program of outer ran out of memory: a block of "), text
            assert "results 64.0 TiB" in text and place("table", "outer") in text
            assert "float32[4194304,4194304], `table`" not in text  # it has no memory
            assert "3.8 MiB  float32[1000,1000], `other` of test_what_runs" in text
    assert float(other[0, 0]) == float(unrelated[0, 0]) == 2


def test_values_are_those_that_xla_keeps_with_lines_of_the_user():
    x = bnp.ones((1000, 1000))

    def f(x):
        y = bnp.exp(x) @ x  # exp and dot
        with bv.named_scope("inner"):
            z = bnp.sort(y)  # sort
        return z * 2 + 1

    def scanned(x):
        def body(c, _):
            return bnp.sin(c) @ x, c  # body

        return lax.scan(body, f(x), None, length=4)  # scan

    compiled = bv.jit(scanned).lower(x).compile()
    large = [v for v in needs.values(compiled._executable) if v.nbytes >= 4_000_000]
    found = {v.made for v in large}
    assert {
        f"exp at {place('exp and dot', 'f')}",
        f"sort at {place('sort', 'f')}",
        f"sin at {place('body', 'body')}",
    } <= found, found
    stacked = [v for v in large if v.type == "float32[4,1000,1000]"]
    assert stacked and stacked[0].nbytes == 16_000_000
    assert stacked[0].made.endswith(place("scan", "scanned")) or "(body)" in stacked[0].made
    with bv.config(memory_limit_bytes=10_000_000):
        text = message(bv.jit(scanned), x)
    assert "cpu:0 may use 9.5 MiB (the setting memory_limit_bytes)" in text
    assert "15.3 MiB  float32[4,1000,1000], " in text
    assert "3.8 MiB  float32[1000,1000], `x` of test_values_are" in text
    assert np.asarray(bv.jit(scanned)(x)[1]).shape == (4, 1000, 1000)  # with the limit gone


def test_gradients_of_modules_and_the_advice():
    model = nn.Linear(600, 600, rngs=nn.Rngs(0))
    x = bnp.ones((600, 600))

    def loss(model, x):
        return bnp.tanh(model(bnp.tanh(model(x)))).sum()  # loss

    step = bv.jit(bv.grad(loss))
    with bv.config(memory_limit_bytes=2 << 20):
        text = message(step, model, x)
    assert place("loss", "loss") in text and "`model.kernel` of test_gradients" in text
    assert "the program of " in text and "bv.remat" in text and "x.delete()" in text
    step(model, x)
    donating = bv.jit(lambda x: x + 1, donate_argnums=0)
    with bv.config(memory_limit_bytes=2 << 20):
        donating(bnp.ones((600, 600)))  # in the memory of its argument
        text = message(bv.jit(lambda x: x + 1), bnp.ones((600, 600)))
    assert "donate_argnums for what a call replaces" in text


def test_a_refused_call_changes_nothing():
    total = bv.ref(bnp.zeros((600, 600)))

    @bv.jit(donate_argnums=0)
    def add(x):
        total[...] += x
        return bnp.sort(x * 2)

    add(bnp.ones((600, 600)))
    x = bnp.ones((600, 600))
    with bv.config(memory_limit_bytes=1 << 20):
        assert "the program of " in message(add, x)
    assert not x.is_deleted() and float(total[0, 0]) == 1
    assert float(add(x)[0, 0]) == 2 and float(total[0, 0]) == 2 and x.is_deleted()


def test_an_argument_given_twice_counts_once():
    x = bv.device_put(np.ones((600, 600), np.float32))
    f = bv.jit(lambda a, b, c: a + b * c)
    with bv.config(memory_limit_bytes=4 << 20):
        assert float(f(x, x, x)[0, 0]) == 2
        y, z = x + 0, x + 0
        assert "was not run" in message(f, x, y, z)


def test_eager_programs_are_refused_as_well():
    x = bv.device_put(np.ones((600, 600), np.float32))
    run = bv.jit(lambda x: bnp.sort(x, axis=0))
    with bv.config(memory_limit_bytes=1 << 20):
        assert "the program of <lambda>" in message(run, x)


def test_other_complaints_have_a_message_too():
    e = needs.exhausted("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9e99 bytes")
    assert "the device ran out of memory: a block was refused. XLA says: RESOURCE" in str(e)
    needs.ran.clear()
    e = needs.exhausted("RESOURCE_EXHAUSTED: Out of memory allocating 4398046511104 bytes.")
    assert "a block of 4.0 TiB was refused" in str(e) and "Write instead" in str(e)


def test_limits_of_devices():
    cpu = bv.devices()[0]
    assert needs.limit(cpu) > 1 << 28 and needs.room(cpu) == needs.limit(cpu)
    gpu = pytypes.SimpleNamespace(
        platform="cuda", memory_stats=lambda: {"bytes_limit": 1000, "bytes_in_use": 400}
    )
    mute = pytypes.SimpleNamespace(platform="cuda", memory_stats=lambda: None)
    Device = type("Device", (pytypes.SimpleNamespace,), {"__hash__": object.__hash__})
    gpu, mute = Device(**vars(gpu)), Device(**vars(mute))
    assert (needs.limit(gpu), needs.room(gpu)) == (1000, 600)
    assert needs.limit(mute) is None and needs.room(mute) is None
    with bv.config(memory_limit_bytes=500):
        assert needs.limit(gpu) == 500 and needs.room(gpu) == 100
    with pytest.raises(ValueError, match="memory_limit_bytes"):
        bv.config(memory_limit_bytes="much")
    assert [needs.human(n) for n in (0, 1023, 1024, 1 << 30)] == [
        "0 bytes",
        "1023 bytes",
        "1.0 KiB",
        "1.0 GiB",
    ]


def test_types_of_hlo():
    arrays = needs._arrays("(f32[2,3]{1,0}, s32[], /*index=5*/bf16[4]{0}, pred[7], c64[1], u8[0])")
    assert list(arrays) == [
        ("float32[2,3]", 24),
        ("int32[]", 4),
        ("bfloat16[4]", 8),
        ("bool[7]", 7),
        ("complex64[1]", 8),
        ("uint8[0]", 0),
    ]
    assert list(needs._arrays("f8e4m3fn[5]{0}")) == [("f8e4m3fn[5]", 5)]


def test_spans_name_the_innermost_equation():
    outer_, inner = (source.Source("f.py", n, "f") for n in (1, 2))
    spans = [(3, 5, "add", inner), (1, 9, "while", outer_)]
    lines = ["module {", "  %2 = a", "  %4 = b", "  %20 = c"]
    made = lambda n: needs._made(f"metadata={{source_line={n}}}", lines, spans)  # noqa: E731
    assert [made(n) for n in (2, 3)] == ["while at f.py:1 (f)", "add at f.py:2 (f)"]
    scoped = [
        (0, 1, "dot", source.Source("f.py", n, "f", scope)) for n, scope in ((3, "a"), (4, "a"))
    ]
    scoped += [(0, 1, "dot", source.Source("f.py", 5, "f", "a/b"))]
    named = lambda s: needs._made(f'metadata={{op_name="{s}"}}', lines, spans + scoped)  # noqa: E731
    assert named("a/dot") == "dot at f.py:3 (f) or f.py:4 (f)" and named("") == "by XLA"
    assert named("a/b/dot") == "dot at f.py:5 (f)" and named("a/b/add") == "by XLA"
    assert made(1) == made(4) == made(99) == needs._made("", lines, spans) == "by XLA"


def test_live_arrays():
    x = bnp.ones((500, 700))
    y = bv.jit(lambda x: x + 1)(x)
    model = nn.Linear(400, 500, rngs=nn.Rngs(0))
    bv.jit(lambda m, x: m.kernel.__setitem__(..., x))(model, bnp.zeros((400, 500)))  # in a store
    found = bv.live_arrays()
    for a in (x, y):
        assert sum(a is b for b in found) == 1
    assert any(a.shape == (400, 500) and not np.any(a) for a in found)
    assert {id(a) for a in bv.live_arrays("cpu")} and all(not a.is_deleted() for a in found)
    del found
    y.delete()
    assert not any(a is y for a in bv.live_arrays())
    rows = needs.live()
    assert (1_400_000, "float32[500,700]", "`x` of test_live_arrays") in rows
    assert (800_000, "float32[400,500]", "") not in rows  # smaller ones are not listed
    assert rows == sorted(rows, key=lambda r: -r[0])


# -- arrays that a function closes over


def warned(call, *args):
    with pytest.warns(bv.errors.LargeConstantWarning) as caught:
        call(*args)
    return [str(w.message) for w in caught if w.category is bv.errors.LargeConstantWarning]


def test_a_constant_larger_than_the_memory_is_named():
    table, other = bnp.ones((1000, 300)), np.ones((1000, 400))
    small = bnp.ones(100)

    def rows(i):
        return table[i] + small.sum()  # table row

    def g(i):
        return rows(i).sum() + bnp.take(bnp.asarray(other), i, axis=0).sum()  # other row

    with bv.config(memory_limit_bytes=1 << 20):
        f = bv.jit(g)
        first, second = sorted(warned(f, 3), reverse=True)
        f(4)  # once
        f(5)
        bv.jit(lambda i: small[i])(1)
    assert first.startswith("`table`, float32[1000,300], 1.1 MiB, that jit of g closes over")
    assert f"it is used at {place('table row', 'rows')}" in first
    assert "`other`, float32[1000,400], 1.5 MiB," in second and "table[rows]" in first
    assert place("other row", "g") in second
    bv.jit(g)(1)  # with room, nothing is said


@pytest.mark.parametrize("kind", ["eager", "numpy", "float64", "device", "list"])
def test_constants_are_moved_once_and_are_not_in_the_text(kind, monkeypatch):
    data = np.ones((300, 300), np.float32)
    c = {
        "eager": lambda: bnp.ones((300, 300)),
        "numpy": lambda: data,
        "float64": lambda: data.astype(np.float64),
        "device": lambda: bv.device_put(data),
        "list": lambda: [bnp.ones((150, 300)), bnp.ones((150, 300))],
    }[kind]()
    moved = []
    put = client.put
    monkeypatch.setattr(
        client, "put", lambda a, *r, **k: moved.append(a.nbytes > 9999) or put(a, *r, **k)
    )
    use = lambda x: x @ (bnp.concatenate(c) if kind == "list" else bnp.asarray(c))  # noqa: E731
    inner = bv.jit(use)
    total = bv.ref(bnp.zeros(300))

    def stateful(x):
        total[...] += use(x)

    scan = lambda x: lax.scan(lambda a, _: (bnp.tanh(use(a)), None), x, None, length=3)[0]  # noqa: E731
    programs = [
        use,
        bv.grad(lambda x: use(x).sum()),
        bv.vmap(lambda s: s * use(bnp.ones(300))),
        scan,
        lambda x: inner(inner(x)),
        stateful,
    ]
    for program in programs:
        f = bv.jit(program)
        x = bnp.ones(300)
        text = f.lower(x).as_text()
        assert len(text) < 2000 and "dense_resource" not in text
        moved.clear()
        f(x)
        times = sum(moved)
        f(x), f(x + 1)
        assert times == sum(moved) <= (0 if kind == "device" else 2)


def test_programs_share_the_copy_of_a_large_constant():
    def run():
        table = bnp.arange(600 * 600.0).reshape(600, 600)
        total = bv.ref(bnp.zeros(600))

        @bv.jit
        def stateful(i):
            total[...] = table[i]

        f, g = bv.jit(lambda i: table[i]), bv.jit(lambda i: table[i].sum())
        assert float(f(3)[0]) == 1800 and f(bnp.array([1, 2])).shape == (2, 600)
        g(1), stateful(1)
        traced = [t for h in (f, g, stateful) for traces in h._traces.values() for t in traces]
        copies = {id(t.consts[0].raw) for t in traced}
        assert len(traced) == 4 and len(copies) == 1
        bv.jit(lambda t: t * 2, donate_argnums=0)(table)  # programs keep the copy
        assert table.is_deleted() and float(f(2)[0]) == 1200
        return weakref.ref(traced[0].consts[0].raw)

    copy = run()
    gc.collect()
    assert copy() is None and all(
        ref() is not None for pair in constants._moved.values() for ref in pair
    )


def test_constants_of_an_unlimited_device_are_not_warned_about(monkeypatch, recwarn):
    monkeypatch.setattr(needs, "limit", lambda device: None)
    table = bnp.ones((1000, 300))
    bv.jit(lambda i: table[i])(1)
    assert not [w for w in recwarn if w.category is bv.errors.LargeConstantWarning]
    assert Aval((1000, 300), np.dtype("float32")).nbytes > needs.SMALL


def test_memory_analysis():
    compiled = bv.jit(lambda x: (x @ x).sum()).lower(bnp.ones((100, 100))).compile()
    m = compiled.memory_analysis()
    assert m.argument_size_in_bytes == 40_000 and m.output_size_in_bytes == 4
    assert m.peak_memory_in_bytes >= 40_000 and needs.made(m) >= 4
