"""Wrong programs about transforms, loops and pytrees, from the pages of JAX (see
`test_wrong_programs`).
"""

import functools

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import errors, lax, random
from tests.wrong_programs import Programs, run

P = Programs()
X = bnp.arange(4.0)

# -- Frequently asked questions --------------------------------------------------------------------
P.page("https://docs.jax.dev/en/latest/faq.html")

OFFSET = 1.0


@P.gives(7.0)
def changed_global():
    """Use what the global is now."""
    global OFFSET
    OFFSET = 1.0
    f = bv.jit(lambda x: x + OFFSET)
    f(1.0)
    OFFSET = 5.0
    return f(2.0)


class Scaler:
    """A plain class with a jitted method."""

    def __init__(self, x, mul):
        self.x, self.mul = x, mul

    @bv.jit
    def scale(self, y):
        return self.x * y if self.mul else y

    @functools.partial(bv.jit, static_argnums=0)
    def static_scale(self, y):
        return self.x * y if self.mul else y


@P.says(TypeError, "Scaler", "static_argnums", "jit of scale")
def jitted_method_of_a_plain_class():
    """Compile a method."""
    return Scaler(2.0, True).scale(3.0)


@P.says(TypeError, "static argument", "list", "not hashable", "tuple")
def static_list():
    """A static argument that is a list."""
    return bv.jit(lambda x, sizes: x * sizes[0], static_argnums=1)(1.0, [1, 2])


@P.says(ValueError, "static_argnames='lenght'", "length", "no argument")
def misspelt_static_argument():
    """A static argument by a wrong name."""
    return bv.jit(lambda x, length: x, static_argnames="lenght")(1.0, 3)


@P.says(ValueError, "static_argnums=2", "no argument 2", "from 0")
def static_argument_counted_from_one():
    """The second argument."""
    return bv.jit(lambda x, n: x * n, static_argnums=2)(1.0, 3)


@P.says(TypeError, "a result of jit of rows is a generator", "bnp.stack")
def jitted_generator():
    """Rows, one after another."""

    @bv.jit
    def rows(x):
        yield x

    return list(rows(1.0))


@P.says(FloatingPointError, "0 * inf is NaN", "bnp.where(ok, f(bnp.where(ok, x, 1)), other)")
def where_around_a_log():
    """The logarithm where there is one."""

    def log(x):
        return bnp.where(x > 0.0, bnp.log(x), 0.0)

    with bv.debug.nans():
        return bv.jit(bv.grad(log))(0.0)


@P.gives([0.0, 0.0])
def gradient_of_an_order():
    """A step has a gradient of zero; that is right."""
    return bv.vmap(bv.grad(lambda x: (x > 0).astype(float)))(bnp.array([-1.0, 1.0]))


@P.gives(100.0)
def log_of_exp():
    """XLA finds log(exp(x)) = x; eagerly it is inf (both are right to the last bit they can be)."""
    f = lambda x: bnp.log(bnp.exp(x))  # noqa: E731
    assert np.isinf(f(bnp.float32(100)))
    found = bv.jit(f)(100.0)
    return 100.0 if np.isinf(found) else found


@P.says(errors.DonatedBufferError, "donated", "argument `x`")
def donated_array_again():
    """Reuse an array that a call was given."""
    f = bv.jit(lambda x: x + 1, donate_argnums=0)
    x = bv.device_put(bnp.ones(1000))
    f(x)
    return x + 1


# -- Control flow ----------------------------------------------------------------------------------
P.page("https://docs.jax.dev/en/latest/control-flow.html")


@P.says(TypeError, "scan", "int32[]", "float32[]", "carry")
def carry_changes_its_dtype():
    """A sum that starts from an integer array."""
    return lax.scan(lambda c, x: (c + x, None), bnp.int32(0), bnp.ones(3))


@P.gives(3.0)
def carry_from_a_python_number():
    """A sum that starts from 0."""
    return lax.scan(lambda c, x: (c + x, None), 0, bnp.ones(3))[0]


@P.says(TypeError, "scan", "float32[1]", "float32[2]", "carry")
def carry_grows():
    """Collect in the carry."""
    return lax.scan(lambda c, x: (bnp.append(c, x), None), bnp.zeros(1), bnp.ones(3))


@P.says(TypeError, "scan", "pair", "carry")
def body_returns_one_value():
    """A body without outputs."""
    return lax.scan(lambda c, x: c + x, 0.0, bnp.ones(3))


@P.says(TypeError, "scan", "structure", "carry")
def carry_changes_its_structure():
    """A pair comes in, a list goes out."""
    return lax.scan(lambda c, x: ([c[0], c[1]], x), (0.0, 1.0), bnp.ones(3))


@P.says(ValueError, "scan", "3", "4", "xs")
def rows_of_two_lengths():
    """Scan over two arrays."""
    return lax.scan(lambda c, x: (c, x[0] + x[1]), 0.0, (bnp.ones(3), bnp.ones(4)))


@P.says(TypeError, "cond", "float32[2]", "float32[3]")
def branches_of_two_shapes():
    """One of two arrays."""
    return bv.jit(lambda p: lax.cond(p, lambda: bnp.ones(2), lambda: bnp.ones(3)))(True)


@P.says(TypeError, "cond", "float32[] from <lambda>", "None from <lambda>")
def branch_that_returns_nothing():
    """A branch without else."""
    return bv.jit(lambda p, x: lax.cond(p, lambda: x, lambda: None))(True, 1.0)


@P.says(TypeError, "cond", "scalar", "bool[3]")
def condition_that_is_an_array():
    """Choose element by element."""
    return lax.cond(bnp.array([True, False, True]), lambda: 1.0, lambda: 2.0)


@P.says(TypeError, "cond", "true_fun is of type Array", "bnp.where(pred, a, b)")
def branches_that_were_called():
    """Pass values instead of functions."""
    x = bnp.ones(())
    return lax.cond(x > 0, x + 1, x - 1)


@P.gives(3.0)
def switch_beyond_its_branches():
    """The index is moved to the last branch, as documented."""
    return lax.switch(7, [lambda: 1.0, lambda: 2.0, lambda: 3.0])


@P.says(TypeError, "while_loop", "int32[]", "float32[]")
def while_state_changes_its_dtype():
    """Halve an integer array."""
    return lax.while_loop(lambda x: x > 1, lambda x: x / 2, bnp.int32(8))


@P.says(TypeError, "while_loop", "condition", "bool")
def while_condition_is_no_scalar():
    """Until all are small."""
    return lax.while_loop(lambda x: x > 1, lambda x: x / 2, bnp.ones(3) * 8)


@P.says(errors.BevelError, "while", "reverse", "scan")
def gradient_of_a_while_loop():
    """Reverse mode through a loop of unknown length."""
    return bv.grad(lambda x: lax.while_loop(lambda v: v < 10, lambda v: v * x, x))(2.0)


@P.gives(12.0)
def gradient_of_a_loop_of_known_length():
    """Reverse mode through fori_loop."""
    return bv.grad(lambda x: lax.fori_loop(0, 2, lambda i, v: v * x, x))(2.0)


@P.gives([2.0, 1.0])
def if_under_vmap():
    """A branch for each row."""

    def f(x):
        if x > 0:
            return x * 2
        return -x

    return bv.jit(bv.vmap(f))(bnp.array([1.0, -1.0]))


@P.says(errors.TracerBoolConversionError, "vmap of f", "bv.jit around the transforms")
def if_under_vmap_without_jit():
    """A branch for each row, eagerly."""

    def f(x):
        if x > 0:
            return x * 2
        return -x

    return bv.vmap(f)(bnp.array([1.0, -1.0]))


# -- Vectorization, differentiation ----------------------------------------------------------------
P.page("https://docs.jax.dev/en/latest/automatic-vectorization.html")


@P.says(ValueError, "vmap", "different sizes", "x", "3", "4")
def batches_of_two_sizes():
    """Map over both."""
    return bv.vmap(lambda x, y: x + y)(bnp.ones(3), bnp.ones(4))


@P.says(ValueError, "in_axes", "2 entries", "1")
def in_axes_of_wrong_length():
    """An axis too many."""
    return bv.vmap(lambda x: x, in_axes=(0, None))(bnp.ones(3))


@P.says(ValueError, "axis 2", "argument 0 (x) of shape (3,)")
def in_axes_out_of_range():
    """An axis that is not there."""
    return bv.vmap(lambda x: x, in_axes=2)(bnp.ones(3))


@P.says(ValueError, "vmap", "mapped", "axis_size")
def nothing_is_mapped():
    """All arguments are whole."""
    return bv.vmap(lambda x: x, in_axes=None)(bnp.ones(3))


@P.says(ValueError, "argument 1 (s) of shape ()", "in_axes=None")
def scalar_is_mapped():
    """A number for all rows."""
    return bv.vmap(lambda x, s: x * s)(bnp.ones(3), 2.0)


@P.says(ValueError, "out_axes=None", "row to row", "pmean")
def result_for_all_rows():
    """One result that differs."""
    return bv.vmap(lambda x: x, out_axes=None)(bnp.ones(3))


P.page("https://docs.jax.dev/en/latest/automatic-differentiation.html")


@P.says(TypeError, "grad", "scalar", "(4,)", "bv.jacrev")
def gradient_of_a_vector():
    """The derivative of each element."""
    return bv.grad(lambda x: x**2)(X)


@P.says(TypeError, "grad", "argument 0 (x) is int32[]", "x.astype(bnp.float32)")
def gradient_in_an_integer():
    """The derivative at 3."""
    return bv.grad(lambda x: x * 2.0)(bnp.int32(3))


@P.gives(6.0)
def gradient_at_a_python_integer():
    """The derivative at 3."""
    return bv.grad(lambda x: x**2)(3.0)


@P.says(TypeError, "grad", "one scalar", "has_aux=True")
def gradient_of_a_pair():
    """A loss and what else is of interest."""
    return bv.grad(lambda x: (x**2, x))(3.0)


@P.says(TypeError, "grad", "complex", "holomorphic")
def gradient_of_a_complex_function():
    """The derivative of a complex function."""
    return bv.grad(lambda z: z**2)(bnp.complex64(1 + 1j))


@P.says(ValueError, "argnums", "argument number 1", "1 positional")
def argnums_out_of_range():
    """The derivative in an argument that is not there."""
    return bv.grad(lambda x: x, argnums=1)(1.0)


@P.says(TypeError, "grad", "function", "f(x)")
def gradient_of_a_value():
    """grad(f(x)) for grad(f)(x)."""
    return bv.grad(bnp.sin(1.0))


@P.says(TypeError, "jit", "bv.jit(f), not bv.jit(f(x))")
def jit_of_a_value():
    """jit(f(x)) for jit(f)(x)."""
    return bv.jit(bnp.sin(1.0))


@P.says(TypeError, "custom_vjp", "bwd", "2", "1")
def rule_with_too_few_cotangents():
    """A rule that forgets an argument."""

    @bv.custom_vjp
    def f(x, y):
        return x * y

    f.defvjp(lambda x, y: (f(x, y), (x, y)), lambda res, g: (g * res[1],))
    return bv.grad(f)(1.0, 2.0)


@P.says(AttributeError, "f", "defvjp")
def custom_function_without_a_rule():
    """custom_vjp without defvjp."""

    @bv.custom_vjp
    def f(x):
        return x * 2

    return bv.grad(f)(1.0)


@P.says(TypeError, "jvp", "tangent", "float32[3]", "float32[]")
def tangent_of_wrong_shape():
    """A direction of another shape."""
    return bv.jvp(bnp.sin, (bnp.ones(3),), (1.0,))


@P.says(errors.BevelError, "pure_callback", "custom_vjp", "stop_gradient")
def gradient_through_numpy():
    """The derivative of NumPy code."""
    shape = bv.ShapeDtypeStruct((), "float32")
    return bv.grad(lambda x: bv.pure_callback(np.sin, shape, x))(1.0)


# -- Pytrees ---------------------------------------------------------------------------------------
P.page("https://docs.jax.dev/en/latest/pytrees.html#common-pytree-gotchas")


@P.gives([(2,), (3,)])
def shapes_are_trees():
    """The shape of each array: tuples are trees, too, and a map over them would go inside."""
    arrays = [bnp.ones(2), bnp.ones(3)]
    return bv.tree.map(lambda x: x.shape, arrays)


@P.gives([1, 2])
def none_is_no_leaf():
    """None has no leaf, so it can stand for what is not there."""
    return bv.tree.leaves([1, None, 2])


@P.says(ValueError, "structure", "None")
def none_against_a_number():
    """Add a tree with None to one without."""
    return bv.tree.map(lambda a, b: a + b, [1, None], [1, 2])


@P.says(ValueError, "structure", "list", "got (1, 2)")
def list_against_a_tuple():
    """Add two trees of the same leaves."""
    return bv.tree.map(lambda a, b: a + b, [1, 2], (1, 2))


@P.says(TypeError, "result of jit", "Scaler", "array")
def object_as_result():
    """Return an object."""
    return bv.jit(lambda x: Scaler(x, True))(1.0)


@P.says(TypeError, "str", "static")
def string_as_argument():
    """A name as an argument."""
    return bv.jit(lambda x, mode: x)(1.0, "fast")


# -- Random numbers, transfers, shapes -------------------------------------------------------------
P.page("https://docs.jax.dev/en/latest/random-numbers.html")


@P.says(TypeError, "key", "int", "random.key(0)")
def seed_for_a_key():
    """Draw with a seed."""
    return random.normal(0, (3,))


@P.says(TypeError, "key must be a random key", "random.normal(random.key(0), (3,))")
def key_forgotten():
    """Draw without a key."""
    return random.normal((3,))


@P.says(TypeError, "random key", "random.key_data")
def arithmetic_with_a_key():
    """Change the seed by adding to the key."""
    return random.key(0) + 1


@P.says(errors.KeyReuseWarning, "all rows", "random.split(key, n)")
def key_reused_under_vmap():
    """A draw a row from one key."""
    key = random.key(0)
    return bv.vmap(lambda x: x + random.normal(key))(bnp.ones(3))


P.page("https://docs.jax.dev/en/latest/transfer_guard.html")


@P.says(RuntimeError, "host-to-device", "bv.device_put(x)")
def implicit_transfer():
    """NumPy data into a program."""
    f = bv.jit(lambda x: x * 2)
    with bv.transfer_guard("disallow"):
        return f(np.ones(3))


P.page("https://docs.jax.dev/en/latest/notebooks/thinking_in_jax.html")


@P.gives(6)
def product_of_a_traced_shape():
    """np.prod of a shape is known; bnp.prod of it would not be."""
    return bv.jit(lambda x: x.reshape(np.prod(x.shape)))(bnp.ones((2, 3))).size


@P.says(errors.TracerIntegerConversionError, "shape", "math.prod(x.shape)")
def shape_computed_by_bnp():
    """Flatten by a shape that bnp computes."""
    return bv.jit(lambda x: x.reshape(bnp.array(x.shape).prod()))(bnp.ones((2, 3)))


@P.says(errors.RetraceWarning, "new function at every call", "once, outside")
def jit_in_a_loop():
    """A step that is compiled again in each round."""
    for i in range(12):
        bv.jit(lambda x: x * 3)(float(i))


@P.gives([0.0, 1.0, 2.0])
def cell_instead_of_a_side_effect():
    """Count calls in a jitted function."""
    count = bv.ref(0.0)

    @bv.jit
    def f():
        now = count[...]
        count[...] = now + 1
        return now

    return [f(), f(), f()]


@pytest.mark.parametrize("program,promise", P.table)
def test_program(program, promise):
    run(program, promise)
