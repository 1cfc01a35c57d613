"""Wrong programs from the pages of JAX, and what Bevel makes of them: what their authors meant, or
an error or warning that names the line, says why and shows what to write instead.
"""

import functools
import math

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import errors, lax, random
from tests.wrong_programs import Programs, run

P = Programs()
X = bnp.arange(4.0)

# -- The Sharp Bits --------------------------------------------------------------------------------
P.page("https://docs.jax.dev/en/latest/notebooks/Common_Gotchas_in_JAX.html")

SCALE = 1.0
LAST = None
SEEN = []


@P.says(errors.TracerLeakWarning, "global variable LAST", "float32[]", "return x, extra")
def saves_a_global():
    """Keep the last x for later."""

    @bv.jit
    def f(x):
        global LAST
        LAST = x * 2
        return x

    f(4.0)


@P.says(errors.UnexpectedTracerError, "jit of f", "made at", "Used at")
def uses_what_leaked():
    """Use what a jitted function has stored."""

    @bv.jit
    def f(x):
        SEEN.append(x * 2)
        return x

    try:
        f(4.0)
        return SEEN[0] + 1
    finally:
        SEEN.clear()


@P.gives(25.0)
def state_inside():
    """Count in a dict that the function itself makes."""

    @bv.jit
    def f(x):
        state = {"even": 0, "odd": 0}
        for i in range(5):
            state["even" if i % 2 == 0 else "odd"] += x
        return state["even"] + state["odd"]

    return f(5.0)


@P.gives(45)
def iterator_in_a_loop():
    """Sum the items of an iterator, one a step."""
    items = iter(range(10))
    return bv.jit(lambda x: functools.reduce(lambda a, _: a + next(items), range(10), x))(0)


@P.says(TypeError, "scan", "list_iterator")
def iterator_as_rows():
    """Scan over what an iterator gives."""
    return lax.scan(lambda c, x: (c + x, None), 0.0, iter([1.0, 2.0]))


@P.says(TypeError, "an Array is immutable", "x.at[index].set(value)", "bv.ref(x)")
def item_assignment():
    """Write a row."""
    x = bnp.zeros((3, 3))
    x[1, :] = 1.0


@P.says(TypeError, "immutable", ".at[")
def item_assignment_in_jit():
    """Write an element."""

    @bv.jit
    def f(x):
        x[0] = 1.0
        return x

    return f(bnp.zeros(3))


@P.says(TypeError, "immutable", ".at[")
def augmented_item_assignment():
    """Add to an element."""
    x = bnp.zeros(3)
    x[0] += 1.0


@P.gives([1.0, 1.0, 1.0])
def augmented_assignment_of_a_name():
    """Add to all."""

    @bv.jit
    def f(x):
        x += 1
        return x

    x = bnp.zeros(3)
    y = f(x)
    assert x.tolist() == [0, 0, 0]
    return y


@P.says(IndexError, "index 11", "axis 0", "size 10")
def out_of_bounds_read():
    """Read an element that is not there."""
    return bnp.arange(10)[11]


@P.says(IndexError, "index 11", "size 10")
def out_of_bounds_write():
    """Write an element that is not there."""
    return bnp.arange(10).at[11].add(1)


@P.says(IndexError, "index 11", "size 10", fix=False)
def out_of_bounds_in_a_program():
    """Read an element whose index the program computes."""
    return bv.debug.checked(bv.jit(lambda x, i: x[i + 1]))(bnp.arange(10), 10)


@P.gives(10)
def sum_of_a_list():
    """Sum a list (jax refuses lists)."""
    return bnp.sum([1, 2, 3, 4])


@P.gives(6)
def sum_of_a_permissive_list():
    """Sum a list of arrays."""
    return bv.jit(lambda x: bnp.sum([x, x, x]))(2)


@P.says(errors.KeyReuseWarning, "consumed a second time", "the first was at", "random.split(key)")
def one_key_twice():
    """Two draws."""
    key = random.key(0)
    return random.normal(key), random.normal(key)


@P.says(errors.KeyReuseWarning, "every step", "random.fold_in(key, i)")
def one_key_for_all_steps():
    """A draw a step."""
    key = random.key(0)
    return lax.fori_loop(0, 3, lambda i, t: t + random.uniform(key), 0.0)


@P.gives(12.0)
def if_in_jit():
    """A branch."""

    @bv.jit
    def f(x):
        if x < 3:
            return 3.0 * x**2
        else:
            return -4 * x

    return f(2.0)


@P.gives(3.0)
def loop_to_an_argument():
    """Add the first n."""

    @bv.jit
    def f(x, n):
        y = 0.0
        for i in range(n):
            y = y + x[i]
        return y

    return f(bnp.array([1.0, 2.0, 4.0]), 2)


@P.says(errors.TracerIntegerConversionError, "argument length of jit", "shape", "static")
def shape_from_an_argument():
    """As many ones as asked for."""
    return bv.jit(lambda length, val: bnp.ones((length,)) * val)(5, 4)


@P.says(errors.ConcretizationTypeError, "bool[4]", "bnp.where(mask, x, 0)", "size=n")
def boolean_mask_in_jit():
    """The positive ones."""
    return bv.jit(lambda x: x[x > 0].sum())(X)


@P.says(errors.ConcretizationTypeError, "nonzero", "size=")
def nonzero_in_jit():
    """Where x is positive."""
    return bv.jit(lambda x: bnp.nonzero(x > 0))(X)


@P.says(errors.ConcretizationTypeError, "unique: a traced float32[4]", "bnp.unique(..., size=n)")
def unique_in_jit():
    """The different values."""
    return bv.jit(bnp.unique)(X)


@P.says(errors.ConcretizationTypeError, "slice", "dynamic_slice")
def slice_to_an_argument():
    """The first n."""
    return bv.jit(lambda x, n: x[:n])(X, 2)


@P.says(FloatingPointError, "`div`", "0.0")
def nan_of_a_division():
    """The mean of nothing."""
    with bv.debug.nans():
        bv.jit(lambda x, y: (x + y) / (x - y))(bnp.array([2.0, 0.0]), bnp.array([3.0, 0.0]))


@P.gives("float64")
def double_precision():
    """Numbers of 64 bits."""
    return str(random.uniform(random.key(0), (3,), dtype="float64").dtype)


@P.says(errors.Float64PromotionWarning, "float64 with float32", "astype")
def double_precision_spreads():
    """One constant in double precision."""
    return bnp.float64(0.5) * X


@P.says(OverflowError, "3000000000", "int32", "int64")
def integer_that_does_not_fit():
    """A large number."""
    return bnp.array([3_000_000_000])


@P.gives(255)
def cast_out_of_range():
    """A float too large for its new type; jax: 'implementation defined'."""
    a = bnp.array([300.0]).astype("uint8")[0]
    b = bv.jit(lambda x: x.astype("uint8"))(bnp.array([300.0]))[0]
    assert int(a) == int(b)
    return a


@P.gives(["int32", "float32", "float32"])
def dtypes_of_numbers():
    """A Python number takes the array's type."""
    a = bnp.int32(1) + 1
    b = bnp.int32(1) + 1.0
    c = bnp.float32(1) + 1
    return [str(v.dtype) for v in (a, b, c)]


@P.says(TypeError, "would promote", "astype")
def promotion_when_strict():
    """Mixed types where they are forbidden."""
    with bv.config(numpy_dtype_promotion="strict"):
        bnp.ones(2, dtype="int32") * bnp.ones(2)


@P.gives([1, 4])
def prints_once():
    """A print in a jitted function happens while it is traced."""
    seen = []

    @bv.jit
    def f(x):
        seen.append(str(x))
        return x * x

    out = [f(1), f(2)]
    assert len(seen) == 1 and "debug.print" in seen[0]
    return out


# -- jax.errors ------------------------------------------------------------------------------------
P.page("https://docs.jax.dev/en/latest/errors.html")


@P.says(errors.TracerIntegerConversionError, "axis", "static_argnames")
def traced_axis():
    """The least along an axis."""
    return bv.jit(lambda x, axis: x.min(axis))(X, 0)


@P.says(errors.ConcretizationTypeError, "where", "size=")
def where_with_one_argument():
    """Where x is negative."""
    return bv.jit(lambda x: bnp.where(x < 0))(X)


@P.gives([0, 0, 0, 1])
def boolean_mask_that_is_written():
    """Clip by hand (jax: NonConcreteBooleanIndexError)."""
    return bv.jit(lambda x: x.at[x < 0].set(0))(bnp.arange(-2, 2))


@P.says(errors.TracerArrayConversionError, "argument x", "bnp.sin for np.sin")
def numpy_function_of_a_traced_value():
    """np.sin in a jitted function (jax: TracerArrayConversionError)."""
    return bv.jit(lambda x: np.sin(x))(X)


@P.says(errors.TracerArrayConversionError, "NumPy", "bevel.numpy", "pure_callback")
def numpy_function_without_a_counterpart():
    """np.fromiter, np.busday_count and other functions that want numbers."""
    return bv.jit(lambda x: np.histogram_bin_edges(x, 3))(X)


@P.says(errors.TracerArrayConversionError, "argument i", "bnp.asarray(table)[i]")
def numpy_array_indexed_by_a_traced_value():
    """A table lookup in a NumPy array."""
    table = np.arange(10)
    return bv.jit(lambda i: table[i])(0)


@P.says(errors.TracerIntegerConversionError, "bnp.asarray(items)[i]")
def list_indexed_by_a_traced_value():
    """A table lookup in a list."""
    return bv.jit(lambda i: [1, 2, 3][i])(0)


@P.says(errors.TracerArrayConversionError, "argument x of jit of f", "y.at[i].set(x)")
def rows_written_into_a_numpy_array():
    """Fill a NumPy array in a jitted function."""

    @bv.jit
    def f(x):
        out = np.zeros((2, 4))
        out[0] = x
        return out

    return f(X)


@P.says(errors.ConcretizationTypeError, "argument x of jit of f", "y.at[i].set(x)")
def number_written_into_a_numpy_array():
    """Fill a NumPy array by elements (NumPy: 'setting an array element with a sequence')."""

    @bv.jit
    def f(x):
        out = np.zeros(3)
        out[0] = x
        return out

    return f(1.0)


@P.says(ValueError, "ambiguous", "bool[4]", "x.any()", "bnp.where")
def branch_on_an_array():
    """Choose element by element with `if`."""
    return bv.jit(lambda x: 1.0 if x > 1 else 0.0)(X)


@P.gives([0.0, 0.0, 0.0, 0.0])
def conditional_expression():
    """The smaller one, by its sum."""
    return bv.jit(lambda x, y: x if x.sum() < y.sum() else y)(bnp.ones(4), bnp.zeros(4))


@P.gives([0.0, 0.1, 0.2, 0.3, 0.4])
def flag_as_argument():
    """A flag that is traced."""

    @bv.jit
    def f(x, normalize=True):
        if normalize:
            return x / x.sum()
        return x

    return f(bnp.arange(5.0), True)


@P.gives(0)
def minimum_of_python():
    """min(x, 0)."""
    return bv.jit(lambda x: min(x, 0))(2)


@P.says(errors.ConcretizationTypeError, "asked for it as a float", "bnp.sin(x) for math.sin(x)")
def function_of_math():
    """math.sin of a traced value."""
    return bv.jit(lambda x: math.sin(x))(1.0)


@P.says(errors.ConcretizationTypeError, "as an int", "astype(int)")
def int_of_a_traced_value():
    """Half, rounded down."""
    return bv.jit(lambda x: int(x / 2))(5.0)


@P.says(errors.ConcretizationTypeError, "asked for its contents", "bv.debug.print")
def item_of_a_traced_value():
    """The Python number."""
    return bv.jit(lambda x: x.item())(5.0)


@P.says(errors.TracerBoolConversionError, "key of a dict", "lax.cond")
def dict_indexed_by_a_traced_value():
    """A choice by a dict."""
    return bv.jit(lambda x: {True: 1, False: 2}[x > 0])(1.0)


@P.says(errors.TracerBoolConversionError, "comprehension", "bnp.where")
def condition_in_a_comprehension():
    """The positive ones."""
    return bv.jit(lambda x: [v for v in x if v > 0])(X)


def test_the_table():
    assert len(P.table) > 30


@pytest.mark.parametrize("program,promise", P.table)
def test_program(program, promise):
    run(program, promise)
