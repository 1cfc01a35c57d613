"""Mistakes with modules, and what the messages say: the variable, the place, and what to write."""

import re

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import checkpoint, errors, lax, nn, optim, random
from bevel.core.errors import (
    ParamMutationError,
    StateError,
    TracerLeakWarning,
    UnexpectedTracerError,
)


def net():
    rngs = nn.Rngs(0)
    return nn.Sequential(nn.Linear(2, 2, rngs=rngs), nn.BatchNorm(2, rngs=rngs))


def test_a_mode_that_was_never_set():
    rngs = nn.Rngs(0)
    with pytest.raises(
        ValueError,
        match="`use_running_average` was never set(?s:.*)test_nn_errors(?s:.*)model.train",
    ):
        net()(bnp.ones((3, 2)))
    attention = nn.MultiHeadAttention(1, 2, dropout_rate=0.5, rngs=rngs)
    with pytest.raises(ValueError, match="MultiHeadAttention: `deterministic` was never set"):
        attention(bnp.ones((3, 2)))


def test_a_parameter_written_while_it_is_differentiated():
    model = net()

    def step(m, scale):
        m.layers[0].kernel[...] *= scale
        return m.layers[0](bnp.ones(2)).sum()

    said = r"the Param m.layers\[0\].kernel is written while grad of step(?s:.*)test_nn_errors.py"
    for run in (bv.grad(step), bv.jit(bv.grad(step))):
        with pytest.raises(ParamMutationError, match=said + "(?s:.*)optimizer.update"):
            run(model, 2.0)
    with pytest.raises(ParamMutationError, match="Param layer.bias is written while vjp"):

        def change(layer):
            layer.bias.value = layer.bias * 2
            return layer(bnp.ones(2))

        bv.vjp(change, model.layers[0])
    assert model.layers[0].kernel.shape == (2, 2)


def test_a_variable_written_where_its_value_would_be_lost():
    model, count = net(), bv.ref(0)
    with pytest.raises(StateError, match=r"the Param model.layers\[0\].bias, which all rows share"):
        bv.vmap(lambda x: model.layers[0].bias.__setitem__(..., x))(bnp.ones((3, 2)))
    with pytest.raises(StateError, match=r"BatchStat m\['a'\].layers\[1\].mean, which all rows"):
        bv.vmap(lambda m, x: m["a"].layers[1].mean.__setitem__(..., x), in_axes=(None, 0))(
            {"a": model}, bnp.ones((3, 2))
        )

    def more(x):
        count[...] += 1
        return x < 3

    with pytest.raises(
        TypeError, match="while_loop of <lambda>: the condition writes a state cell .Ref count"
    ):
        lax.while_loop(more, lambda x: x + 1, 0)

    @bv.custom_vjp
    def f(x):
        model.layers[0].bias[...] += x
        return x

    f.defvjp(lambda x: (f(x), None), lambda _, ct: (ct,))
    with pytest.raises(StateError, match=r"writes a state cell \(Param model.layers\[0\].bias\)"):
        f(1.0)


class Remembers(nn.Module):
    def __init__(self):
        self.inner = nn.Linear(2, 2, rngs=nn.Rngs(0))

    def __call__(self, x):
        y = self.inner(x)
        self.inner.seen = nn.Intermediate(y)
        return y


def test_a_variable_made_in_a_compiled_function():
    model = Remembers()
    run = bv.jit(lambda m, x: m(x))
    with pytest.warns(TracerLeakWarning, match="Intermediate still holds"):
        run(model, bnp.ones(2))
    said = (
        r"Intermediate inner.seen holds a traced float32\[2\], made at .*test_nn_errors.py"
        r"(?s:.*)of jit of <lambda>(?s:.*)nn.capture"
    )
    for use in (nn.state, nn.split, lambda m: run(m, bnp.ones(2)), lambda m: bv.grad(m)(m)):
        with pytest.raises(UnexpectedTracerError, match=said):
            use(model)
    del model.inner.seen
    assert set(nn.state(model)) == {"inner"}
    taken = bv.jit(lambda m, x: (m(x), nn.pop(m, nn.Intermediate)))(model, bnp.ones(2))
    np.testing.assert_array_equal(taken[0], taken[1].inner.seen)
    assert set(nn.state(model).inner) == {"bias", "kernel"}
    loose = nn.Intermediate(0.0)
    with pytest.warns(TracerLeakWarning):
        bv.jit(lambda x: setattr(model, "late", nn.Intermediate(x + 1)))(1.0)
    with pytest.raises(UnexpectedTracerError, match="made at(?s:.*)has ended"):
        loose.value = model.late + 1


def test_saving_the_object_and_not_its_state(tmp_path):
    with pytest.raises(TypeError, match=r"Sequential(?s:.*)nn.state\(model\)"):
        checkpoint.save(tmp_path / "a", net())


@pytest.mark.parametrize("rngs", [None, 0, random.key(0)])
def test_no_streams_at_all(rngs):
    for make in (
        lambda: nn.Linear(2, 3, rngs=rngs),
        lambda: nn.BatchNorm(3, rngs=rngs),
        lambda: nn.GRUCell(2, 3, rngs=rngs),
        lambda: nn.MultiHeadAttention(1, 2, rngs=rngs),
    ):
        with pytest.raises(
            TypeError, match=r"rngs is (?s:.*)test_nn_errors(?s:.*)rngs=nn.Rngs\(0\)"
        ):
            make()


def test_a_missing_stream_is_named():
    for make, name in (
        (lambda: nn.Linear(2, 3, rngs=nn.Rngs(dropout=0)), "params"),
        (lambda: nn.Dropout(0.5, rngs=nn.Rngs(params=0)), "dropout"),
        (lambda: nn.RNN(nn.GRUCell(2, 2, rngs=nn.Rngs(0)), rngs=nn.Rngs(params=0)), "carry"),
    ):
        with pytest.raises(AttributeError, match=rf"no stream '{name}'(?s:.*){name}=0"):
            make()


def test_modules_where_arrays_are_wanted():
    model = net()
    for use in (
        lambda: bv.jit(lambda m: m)(model),
        lambda: lax.scan(lambda c, x: (c, model), 0.0, bnp.ones(3)),
        lambda: bv.grad(lambda x: model)(1.0),
    ):
        with pytest.raises(TypeError, match="a Sequential, which holds state(?s:.*)nn.state"):
            use()


def test_names_of_linen_lead_to_those_of_nn():
    for name in ("Dense", "DenseGeneral", "MultiHeadDotProductAttention", "SelfAttention"):
        with pytest.raises(AttributeError, match=rf"attribute '{name}'.\nWrite instead: nn\.\w+"):
            getattr(nn, name)
    assert not hasattr(nn, "compact")
    with pytest.raises(AttributeError, match="did you mean 'Linear'"):
        nn.Linaer  # noqa: B018


def test_gradients_of_each_example_are_no_gradients():
    model = nn.Linear(2, 3, rngs=nn.Rngs(0))
    optimizer = nn.Optimizer(model, optim.sgd(0.1))
    loss = lambda m, x: m(x).sum()  # noqa: E731
    grads = bv.vmap(bv.grad(loss), in_axes=(None, 0))(model, bnp.ones((5, 2)))
    with pytest.raises(
        ValueError, match=r"bias of shape \(3,\) has one of shape \(5, 3\)(?s:.*)g.mean"
    ):
        optimizer.update(grads)
    optimizer.update(bv.tree.map(lambda g: g.mean(0), grads))
    with pytest.raises(ValueError, match="bias of shape(?s:.*)has none among(?s:.*)another model"):
        optimizer.update(nn.State({}))


def test_keys_that_are_missing_are_shown_as_text(tmp_path):
    model = nn.Linear(2, 3, rngs=nn.Rngs(0))
    ema = nn.EMA(model, 0.9)
    np.savez(tmp_path / "a.npz", x=np.ones(2))
    checkpoint.save(tmp_path / "c", {"x": bnp.ones(2)})
    for use, said in (
        (lambda: nn.update(model, {"z": 1.0}), r"^update: there is no variable at z .*\nWrite"),
        (lambda: nn.state(model)["z"], "^the state has no 'z'; it has 'bias', 'kernel'$"),
        (lambda: ema.update(nn.Dropout(0.1)), r"^EMA.update: there is no variable at .*\nWrite"),
        (lambda: bnp.load(tmp_path / "a.npz")["y"], "^'y' is not in the file; it has x$"),
        (lambda: checkpoint.restore(tmp_path / "c", {"y": 1}), r"^the checkpoint at .*\nWrite"),
        (lambda: optim.tree.set({"a": 1}, b=2), "^set: nothing in the tree is called 'b'"),
    ):
        with pytest.raises(KeyError) as found:
            use()
        assert isinstance(found.value, errors.MissingKeyError)
        assert re.search(said, str(found.value), re.DOTALL)
