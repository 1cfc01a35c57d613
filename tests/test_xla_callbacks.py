"""Programs that call native functions and Python."""

import numpy as np
import pytest

from bevel.core.aval import Aval
from bevel.xla import client, types
from tests.xla_programs import F32, I32, aval, f32, in_new_process, run


def test_lapack_with_column_major_layouts():
    a = np.array([[4, 2], [2, 5]], np.float32)
    out = [Aval((2, 2), F32), Aval((), I32)]

    def body(b, a):
        return b.custom_call(
            "lapack_spotrf_ffi",
            [a],
            out,
            {"uplo": np.uint8(ord("L"))},
            operand_layouts=[(0, 1)],
            result_layouts=[(0, 1), ()],
            output_operand_aliases={0: 0},
        )

    factor, info = run(body, a)
    assert info == 0
    np.testing.assert_allclose(np.tril(factor), np.linalg.cholesky(a), rtol=1e-5)


def test_callback_results_and_copies():
    kept = []

    def fn(x):
        kept.append(x)
        return x * 2, x.sum(keepdims=True)

    x = f32(3)
    double, total = run(
        lambda b, x: b.host_callback(fn, [x], [Aval((3,), F32), Aval((1,), F32)]), x
    )
    np.testing.assert_array_equal(double, 2 * x)
    np.testing.assert_allclose(total, [x.sum()], rtol=1e-6)
    assert kept[0].flags.owndata and kept[0].flags.writeable


@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (3,)])
@pytest.mark.parametrize("dtype", ["float32", "bool", "int8", "complex64", "bfloat16", "float64"])
def test_callback_shapes_and_dtypes(shape, dtype):
    dtype = next(d for d in types.DTYPE_NAMES if d.name == dtype)
    x = np.ones(shape, dtype)
    [got] = run(lambda b, x: b.host_callback(lambda a: a, [x], [aval(np.ones(shape, dtype))]), x)
    assert got.dtype == dtype and got.shape == shape and (got == x).all()


class Boom(Exception):
    pass


def test_an_exception_in_a_callback_is_the_users():
    def fn(x):
        raise Boom("from the user")

    with pytest.raises(Boom, match="from the user"):
        run(lambda b, x: b.host_callback(fn, [x], [x.aval]), f32(3))


@pytest.mark.parametrize(
    "fn, match",
    [
        (lambda x: x[:2], r"float32\[2\].*float32\[3\] was declared"),
        (lambda x: x.astype(np.float64), r"float64\[3\].*np\.float32"),
        (lambda x: (x, x), "returned 2 arrays, but 1"),
        (lambda x: None, "object"),
    ],
)
def test_wrong_callback_results_are_refused(fn, match):
    with pytest.raises((ValueError, TypeError), match=f"(?s){match}"):
        run(lambda b, x: b.host_callback(fn, [x], [Aval((3,), F32)]), f32(3))


def test_effects_run_in_program_order():
    seen = []

    def say(b, tag, *vals):
        b.host_callback(
            lambda *a: seen.append((tag, *map(int, a))) or (), list(vals), [], has_side_effect=True
        )

    def body(b, n):
        say(b, "start")

        def step(b, i):
            say(b, "step", i)
            b.case(i, [lambda b: (say(b, "zero"), i)[1], lambda b: i])
            name = b.function("f", [i.aval], [i.aval], lambda b, i: (say(b, "call", i), i)[1])
            b.call(name, [i], [i.aval])
            return b.add(i, b.constant(np.int32(1)))

        (m,) = b.while_([b.constant(np.int32(0))], lambda b, i: b.compare(i, n, "LT"), step)
        say(b, "end", m)
        for i in range(5):
            say(b, i)
        return m

    run(body, np.int32(2), outs=[Aval((), I32)])
    client.effects_barrier()
    steps = [("step", 0), ("zero",), ("call", 0), ("step", 1), ("call", 1)]
    assert seen == [("start",), *steps, ("end", 2), *[(i,) for i in range(5)]]


def test_the_process_waits_for_its_effects():
    code = """
    import numpy as np, time
    from tests.xla_programs import *
    def slow(x):
        time.sleep(0.2)
        print("done", flush=True)
        return ()
    def body(b, x):
        b.host_callback(slow, [x], [], has_side_effect=True)
        return x
    exe = cache.compile_lowered(program(body, [Aval((3,), F32)], [Aval((3,), F32)]))
    exe.run([client.put(np.ones(3, np.float32))])
    """
    assert in_new_process(code) == "done\n"
