"""Shapes that do not fit: the message has the operands by their names in the source, and the line;
and the code that it says to write instead is run here, with the same variables.
"""

import inspect
import linecache

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import lax, nn, optim
from bevel.core import misfit
from tests import shape_programs
from tests.shape_programs import PROGRAMS


def array(x):
    if isinstance(x, list):
        return [array(item) for item in x]
    return bnp.ones(x) if isinstance(x, tuple) else x


def failure(program, arguments, kind=ValueError):
    """The error of a program, and the variables of its frame."""
    with pytest.raises(kind) as caught:
        program(*arguments.values())
    frames = [t.frame.f_locals for t in caught.traceback if str(t.path) == shape_programs.__file__]
    return str(caught.value), frames[-1]


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_error_names_operands_and_line_and_its_code_works(name):
    program, arguments, code, says, gives, kind = PROGRAMS[name]
    arguments = {k: array(x) for k, x in arguments.items()}
    message, variables = failure(program, arguments, kind)
    for part in says:
        assert part in message, message
    assert f"{shape_programs.__file__}:" in message
    source = inspect.getsource(shape_programs.Classifier if "(__call__)" in message else program)
    assert message.split("):\n    ")[1].split("\n")[0].strip() in source
    written = message.split("\nWrite instead: ")[1]
    if code is None:
        return
    assert written == code, message
    if " += " in code:
        exec(written, vars(shape_programs), variables)
        return
    value = eval(written, vars(shape_programs), variables)
    if gives is not None:
        assert value.shape == gives


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_jitted_program_says_the_same(name):
    program, arguments, *_, kind = PROGRAMS[name]
    arguments = {k: array(x) for k, x in arguments.items()}
    assert failure(bv.jit(program), arguments, kind)[0] == failure(program, arguments, kind)[0]


def said(call, *arguments):
    with pytest.raises(ValueError) as caught:
        call(*arguments)
    return str(caught.value)


X, W, V = bnp.ones((3, 4)), bnp.ones((2, 4)), bnp.ones(3)


def product(x, kernel):
    return (x @ kernel).sum()


def test_every_transform_says_the_same():
    message = said(product, X, W)
    assert "Write instead: x @ kernel.T" in message
    for transform in (bv.jit, bv.grad, bv.checkpoint, lambda f: bv.jit(bv.grad(f))):
        assert said(transform(product), X, W) == message
    assert said(bv.vmap(product), X[None], W[None]) == message
    assert said(lambda: lax.scan(lambda c, row: (c, product(row, W)), 0.0, X[None])) == message


def test_names_in_lambdas_comprehensions_and_converted_code():
    assert "Write instead: X + v[:, None]" in said(lambda: [X + v for v in (V,)])
    assert "Write instead: X @ W.T" in said(lambda: (lambda: X @ W)())

    @bv.jit
    def branches(x, w):
        if x.sum() > 0:  # the source is rewritten for this; what follows keeps its names
            y = x + 1
            z = y @ w
        else:
            z = x[:, :2]
        return z

    message = said(branches, X, W)
    assert "y @ w: y is float32[3,4] and w is float32[2,4]" in message, message
    assert "            z = y @ w" in message or "    z = y @ w" in message
    assert "Write instead: y @ w.T" in message


def test_code_of_a_notebook_and_code_without_source():
    text = "def f(h, kernel):\n    return h @ kernel\n"
    scope = {}
    exec(compile(text, "<cell 1>", "exec"), scope)
    message = said(scope["f"], X, W)
    assert (
        "matmul: the first is float32[3,4] and the second is float32[2,4], at <cell 1>:2" in message
    )
    assert "The second looks transposed: as x.T it has shape (4, 2)." in message
    assert message.endswith("Write instead: x.T, where x is the second")
    linecache.cache["<cell 1>"] = (len(text), None, text.splitlines(True), "<cell 1>")
    assert said(scope["f"], X, W).endswith("Write instead: h @ kernel.T")


def test_a_source_that_has_changed_gives_no_wrong_names():
    text = "def f(h, kernel):\n    return h @ kernel\n"
    scope = {}
    exec(compile(text, "<changed>", "exec"), scope)
    for now in (
        "def f(h, kernel):\n    return h + kernel\n",  # another operation
        "def f(h, kernel):\n    return q @ kernel\n",  # a variable that is not there
        "def f(h, kernel):\n    return kernel @ h\n",  # variables of other shapes
        "def f(h, kernel)\n",
        "\n\n",
    ):
        linecache.cache["<changed>"] = (len(now), None, now.splitlines(True), "<changed>")
        message = said(scope["f"], X, W)
        assert message.startswith("matmul: the first is float32[3,4] and the second"), message
        assert message.endswith("Write instead: x.T, where x is the second")


def test_what_calls_the_operation_in_another_way_has_no_names():
    functions = {
        "matmul: the first is": lambda: list(map(bnp.matmul, [X], [W])),
        "add: the first is": lambda: bv.vmap(bnp.add)(X[None], W[None]),
        "concatenate: array 0 is": lambda: bnp.block([X, W]),
        "matmul: x is float32[3,4] and y": lambda: (lambda x, y: x @ y)(X, W),
    }
    for start, call in functions.items():
        assert said(call).startswith(start if "x is" not in start else "x @ y: x is"), said(call)
    arguments = (X, W)
    assert said(lambda: bnp.matmul(*arguments)).startswith("matmul: the first is")
    stacked = bv.vmap(bnp.matmul)
    assert said(lambda: stacked(X[None] * 1, W[None] * 1)).startswith("matmul: the first is")
    product_of = bnp.matmul
    assert said(lambda: product_of(X, W)).endswith("Write instead: product_of(X, W.T)")


def test_operands_of_an_unknown_side_are_not_named():
    def unknown():
        return np.ones((4, 3))

    def known():
        return X

    message = said(lambda: unknown() + known())
    assert message.startswith("add: the first is float32[3,4] and the second is float32[4,3]")
    assert said(lambda: unknown() - known()).startswith("unknown() - known(): unknown() is")
    assert said(lambda: unknown() < X).endswith("Write instead: unknown().T < X")


def test_long_operands_are_cut_short():
    def a_function_with_quite_a_long_name(x):
        return x

    message = said(lambda: X @ a_function_with_quite_a_long_name(W + 1 - 1 + 1 - 1))
    assert "and a_function_with_quite_a_long_name(...) is float32[2,4]" in message
    message = said(lambda: X @ (W + 1 - 1 + 1 - 1 + 1 - 1 + 1 - 1 + 1 - 1 + 1 - 1))
    assert "and W + 1 - 1 + 1 - 1 + 1 - 1 + 1 - 1 + 1... is float32[2,4]" in message


def test_lists_are_not_asked_for_attributes():
    rows = [[1.0, 2.0, 3.0, 4.0]] * 2
    for call in (lambda: X @ rows, lambda: X @ [[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]]):
        message = said(call)
        assert ".T has" not in message and "Write instead: " in message
        assert "x.T, where x is" not in message or "as x.T it has shape (4, 2)" in message


def test_keys_have_the_shape_that_users_see():
    keys = bv.random.split(bv.random.key(0), 3)
    message = said(lambda: bnp.concatenate([keys, keys[:, None]]))
    assert "[3] and keys[:, None] is key" in message and "[3,1]" in message


def test_nothing_is_looked_up_until_something_fails(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the source was looked for")

    monkeypatch.setattr(misfit, "operands", refuse)
    monkeypatch.setattr(linecache, "getlines", refuse)
    program = bv.jit(lambda x, w, v: bnp.concatenate([x @ w.T + v[:, None], x[:, :2]]).sum())
    assert program(X, W, V) == program(X, W, V)


@pytest.mark.parametrize(
    "shape, whole, code",
    [
        ((8,), (8, 4), "_[:, None]"),
        ((8,), (8, 4, 5), "_[:, None, None]"),
        ((4,), (8, 4, 5), "_[:, None]"),
        ((8, 4), (8, 6, 4), "_[:, None]"),
        ((8, 6), (8, 6, 4), "_[..., None]"),
        ((8, 1), (8, 6, 4), "_[..., None]"),
    ],
)
def test_axes_put_in_make_a_shape_broadcast(shape, whole, code):
    change = next(misfit.aligned(shape, whole))
    assert change.code == code
    made = eval(code, {"_": np.zeros(shape)})
    assert made.shape == change.shape and np.broadcast_shapes(made.shape, whole) == whole


def test_new_axes_are_those_of_numpy():
    for n in range(4):
        for places in ([], [0], [n], [0, n], [n, n], [0, 0], list(range(n + 1))):
            code = misfit.new_axes((2,) * n, places)
            made = eval(f"x{code}", {"x": np.zeros((2,) * n)})
            expected = np.zeros((2,) * n)
            for k, place in enumerate(sorted(places)):
                expected = np.expand_dims(expected, place + k)
            assert made.shape == expected.shape, (n, places, code)


def test_inputs_of_layers_are_named_by_their_parameter():
    layer = nn.MultiHeadAttention(2, 8, in_kv_features=6, decode=False, rngs=nn.Rngs(0))
    q, kv = bnp.ones((2, 5, 8)), bnp.ones((2, 5, 7))
    assert "kv is float32[2,5,7]" in said(lambda: layer(q, kv))
    assert "kv * 1 is float32[2,5,7]" in said(lambda: layer(q * 1, inputs_k=kv * 1))
    assert "the input is float32[2,5,8]" in said(lambda: layer(q * 1))
    linear = nn.Linear(3, 4, rngs=nn.Rngs(0))
    assert said(lambda: linear(inputs=W.T)).startswith("Linear: W.T is float32[4,2]")
    assert said(lambda: nn.Sequential(linear)(W.T)).startswith("Linear: the input is float32[4,2]")


SHAPES = [(), (2,), (3,), (1,), (2, 3), (3, 2), (1, 3), (2, 1), (2, 2, 3), (3, 2, 2), (2, 3, 1, 2)]
TWO = {
    "matmul": lambda a, b: a @ b,
    "dot": lambda a, b: bnp.dot(a, b),
    "inner": lambda a, b: bnp.inner(a, b),
    "matvec": lambda a, b: bnp.matvec(a, b),
    "vecmat": lambda a, b: bnp.vecmat(a, b),
    "vecdot": lambda a, b: bnp.vecdot(a, b),
    "tensordot": lambda a, b: bnp.tensordot(a, b, 1),
    "add": lambda a, b: a + b,
    "where": lambda a, b: bnp.where(a > 0, b, 0.0),
    "concatenate": lambda a, b: bnp.concatenate([a, b]),
    "last": lambda a, b: bnp.concatenate([a, b], axis=-1),
    "append": lambda a, b: bnp.append(a, b, axis=0),
    "stack": lambda a, b: bnp.stack([a, b], axis=-1),
    "vstack": lambda a, b: bnp.vstack([a, b]),
    "hstack": lambda a, b: bnp.hstack([a, b]),
    "dstack": lambda a, b: bnp.dstack([a, b]),
    "column_stack": lambda a, b: bnp.column_stack([a, b]),
    "broadcast_to": lambda a, b: bnp.broadcast_to(a, b.shape),
    "broadcast_arrays": lambda a, b: bnp.broadcast_arrays(a, b),
    "reshape": lambda a, b: a.reshape(b.shape),
    "einsum": lambda a, b: bnp.einsum("ij,jk->ik", a, b),
    "set": lambda a, b: a.at[...].set(b),
    "mask": lambda a, b: a[b > 0],
    "solve": lambda a, b: bnp.linalg.solve(a, b),
    "cross": lambda a, b: bnp.cross(a, b),
    "lax.add": lambda a, b: lax.add(a, b),
    "lax.dot": lambda a, b: lax.dot(a, b),
    "lax.dot_general": lambda a, b: lax.dot_general(a, b, (((0,), (0,)), ((), ()))),
    "lax.concatenate": lambda a, b: lax.concatenate([a, b], 0),
    "squared_error": lambda a, b: optim.squared_error(a, b),
    "cross_entropy": lambda a, b: optim.softmax_cross_entropy(a, b),
    "bincount": lambda a, b: bnp.bincount(a.astype(int), length=3),
    "along": lambda a, b: bnp.take_along_axis(a, b.astype(int) - 1, axis=0),
    "average": lambda a, b: bnp.average(a, weights=b),
}


@pytest.mark.parametrize("name", TWO)
def test_any_code_that_is_written_works(name):
    call, failed, mended = TWO[name], 0, 0
    for s in SHAPES:
        for t in SHAPES:
            a, b = bnp.ones(s), bnp.ones(t)
            try:
                call(a, b)
            except (ValueError, TypeError, IndexError) as e:
                message = str(e)
            else:
                continue
            failed += 1
            code = message.partition("\nWrite instead: ")[2]
            try:
                compile(code, "code", "eval")
            except SyntaxError:
                continue  # words
            if "(" in code or "[" in code or " " in code:
                mended += 1
                try:
                    eval(code, globals(), {"a": a, "b": b})
                except Exception as e:
                    raise AssertionError(f"{s}, {t}: {message}\ngave {e}") from None
    assert failed and (mended or name in ("dstack", "lax.add")), (failed, mended)


def test_arrays_of_many_axes_do_not_keep_the_message_waiting():
    small, large = bnp.ones((2,) * 15 + (3,)), bnp.ones((1,) * 30 + (2,))
    assert said(lambda: small + large).startswith("small + large: small is float32[2,2")
    assert said(lambda: bnp.broadcast_to(small, large.shape)).startswith("broadcast_to: small is")
