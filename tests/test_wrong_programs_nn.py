"""Wrong programs about modules, optimizers and MLX's habits, from the pages of Flax, Optax, Equinox
and MLX (see `test_wrong_programs`).
"""

import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import errors, nn, optim, random
from tests.wrong_programs import Programs, run

P = Programs()
X = bnp.ones((4, 2))


def linear(rngs=None):
    return nn.Linear(2, 3, rngs=rngs or nn.Rngs(0))


def loss(model, x):
    return (model(x) ** 2).mean()


# -- Flax NNX: basics, randomness ------------------------------------------------------------------
P.page("https://flax.readthedocs.io/en/latest/nnx_basics.html")


@P.says(TypeError, "rngs", "nn.Rngs(0)")
def layer_without_rngs():
    """A layer without a seed."""
    return nn.Linear(2, 3, rngs=None)


@P.says(TypeError, "rngs", "nn.Rngs(0)")
def layer_with_a_key():
    """A key for the layer."""
    return nn.Linear(2, 3, rngs=random.key(0))


@P.says(TypeError, "Linear", "'rngs'", fix=False)
def layer_with_rngs_left_out():
    """A layer as in PyTorch."""
    return nn.Linear(2, 3)


@P.says(AttributeError, "no stream 'dropout'", "dropout=0")
def stream_that_is_missing():
    """Dropout with streams for parameters only."""
    return nn.Dropout(0.5, rngs=nn.Rngs(params=0))


@P.says(ValueError, "float32[4,3]", "made for 2 features", "Linear")
def input_of_another_width():
    """Features that do not fit."""
    return linear()(bnp.ones((4, 3)))


@P.says(AttributeError, "Linear", "kernal", fix=False)
def misspelt_parameter():
    """A parameter by a wrong name."""
    return linear().kernal


class Stack(nn.Module):
    """Layers in a Python list."""

    def __init__(self, rngs):
        self.layers = [nn.Linear(2, 2, rngs=rngs) for _ in range(3)]

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


@P.gives(6)
def modules_in_a_python_list():
    """Layers in a list are found (NNX needs nnx.List)."""
    return len(bv.tree.leaves(nn.state(Stack(nn.Rngs(0)), nn.Param)))


class NoInit(nn.Module):
    """A module that forgets the parent's constructor, which is fine."""

    def __init__(self, rngs):
        self.inner = nn.Linear(2, 2, rngs=rngs)


@P.says(TypeError, "NoInit", "not callable", fix=False)
def module_without_a_call():
    """Call a module that defines no call."""
    return NoInit(nn.Rngs(0))(X)


class Counts(nn.Module):
    """A module that counts its calls in a plain attribute."""

    def __init__(self):
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        return x


class Remembers(nn.Module):
    """A module that keeps its last input in a plain attribute."""

    def __init__(self):
        self.last = None

    def __call__(self, x):
        self.last = x
        return x


@P.says(errors.TracerLeakWarning, "Remembers", "last")
def array_in_a_plain_attribute():
    """Keep the last input."""
    bv.jit(lambda m, x: m(x))(Remembers(), X)


P.page("https://flax.readthedocs.io/en/latest/guides/randomness.html")


@P.says(errors.KeyReuseWarning, "consumed", "random.split")
def one_key_for_two_layers():
    """Noise for two layers."""
    key = random.key(0)
    return [random.normal(key, (2,)) for _ in range(2)]


@P.gives(False)
def dropout_differs_between_calls():
    """Dropout under jit draws anew in each call."""
    drop = nn.Dropout(0.5, rngs=nn.Rngs(0)).train()
    f = bv.jit(lambda d, x: d(x))
    x = bnp.ones(100)
    return bool((f(drop, x) == f(drop, x)).all())


# -- Flax NNX: train and eval, batch norm ----------------------------------------------------------
P.page("https://flax.readthedocs.io/en/latest/migrating/convert_pytorch_to_flax.html")


@P.says(ValueError, "`deterministic` was never set", "model.eval()")
def dropout_without_a_mode():
    """Call before train() or eval()."""
    return nn.Dropout(0.5, rngs=nn.Rngs(0), deterministic=None)(X)


@P.says(ValueError, "`use_running_average` was never set", "model.train()")
def batch_norm_without_a_mode():
    """Call before train() or eval()."""
    return nn.BatchNorm(2, rngs=nn.Rngs(0))(X)


@P.gives([0.1, 0.1])
def batch_statistics_under_jit():
    """The running mean moves in training."""
    norm = nn.BatchNorm(2, momentum=0.9, rngs=nn.Rngs(0)).train()
    bv.jit(lambda m, x: m(x))(norm, X)
    return norm.mean.value


@P.gives([0.0, 0.0])
def batch_statistics_in_eval():
    """The running mean stays in evaluation."""
    norm = nn.BatchNorm(2, momentum=0.9, rngs=nn.Rngs(0)).eval()
    bv.jit(lambda m, x: m(x))(norm, X)
    return norm.mean.value


# -- Flax NNX: transforms --------------------------------------------------------------------------
P.page("https://flax.readthedocs.io/en/latest/guides/transforms.html")


@P.says(errors.ParamMutationError, "kernel", "grad of step", "optimizer.update")
def parameter_written_in_grad():
    """A step by hand inside the loss."""
    model = linear()

    def step(model):
        model.kernel.value -= 0.01
        return loss(model, X)

    return bv.grad(step)(model)


@P.gives(True)
def model_that_a_closure_reads():
    """A step that reads a model from around it sees its newest parameters."""
    model = linear()
    f = bv.jit(lambda x: model(x).sum())
    before = f(X)
    model.kernel.value = model.kernel.value + 1
    return bool(f(X) != before)


@P.gives(True)
def tied_weights():
    """A layer that is used in two places stays one."""

    class Tied(nn.Module):
        def __init__(self, rngs):
            self.a = nn.Linear(2, 2, rngs=rngs)
            self.b = self.a

        def __call__(self, x):
            return self.b(self.a(x))

    model = Tied(nn.Rngs(0))
    optimizer = nn.Optimizer(model, optim.sgd(0.1))

    @bv.jit
    def step(model, optimizer, x):
        optimizer.update(bv.grad(loss)(model, x))

    step(model, optimizer, X)
    return model.a is model.b and bool((model.a.kernel.value == model.b.kernel.value).all())


@P.says(TypeError, "Linear, which holds state", "nn.state")
def module_as_a_result():
    """Return the model from a jitted function."""
    return bv.jit(lambda m: m)(linear())


@P.says(errors.StateError, "all rows share", "in_axes=0")
def state_written_by_rows():
    """Each row writes a variable of one model."""
    model = linear()
    return bv.vmap(lambda x: model.bias.__setitem__(..., x))(bnp.ones((4, 3)))


@P.says(ValueError, "Param m.kernel", "(2, 3)", "in_axes=(None, 0)")
def model_mapped_by_mistake():
    """vmap over rows, and over the model, too."""
    return bv.vmap(lambda m, x: m(x))(linear(), X)


@P.gives(True)
def model_as_a_static_argument():
    """A static model is no constant: a call sees its newest parameters."""
    model = linear()
    f = bv.jit(lambda m, x: m(x).sum(), static_argnums=0)
    before = f(model, X)
    model.kernel.value = model.kernel.value + 1
    return bool(f(model, X) != before)


@P.gives(2.0)
def variables_in_arithmetic():
    """A Variable stands for its array."""
    a = nn.Param(bnp.ones(()))
    return a + a


@P.says(TypeError, "Param", "value")
def parameter_assigned_as_an_array():
    """Write the array over the variable."""
    model = linear()
    model.kernel = bnp.zeros((2, 3))


@P.says(ValueError, "(3, 2)", "(2, 3)", "kernel")
def parameter_of_another_shape():
    """Load a transposed kernel."""
    model = linear()
    nn.update(model, {"kernel": bnp.zeros((3, 2))})


# -- Flax NNX: the optimizer -----------------------------------------------------------------------
P.page("https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/training/optimizer.html")


@P.says(ValueError, "another model", "bias")
def gradients_of_another_model():
    """Update with the gradients of another model."""
    optimizer = nn.Optimizer(linear(), optim.sgd(0.1))
    other = nn.Sequential(linear(), nn.Linear(3, 1, rngs=nn.Rngs(1)))
    optimizer.update(bv.grad(loss)(other, X))


@P.says(TypeError, "Optimizer: tx is of type Linear", "nn.Optimizer(model, ")
def optimizer_with_arguments_exchanged():
    """The optimizer first."""
    return nn.Optimizer(optim.sgd(0.1), linear())


@P.says(TypeError, "the gradients are a Linear", "optimizer.update(grads)")
def optimizer_updated_with_the_model():
    """Update with the model and nothing else."""
    model = linear()
    nn.Optimizer(model, optim.sgd(0.1)).update(model)


@P.says(ValueError, "(4, 3)", "g.mean(0)")
def gradients_of_each_example():
    """Update with the gradients of each row."""
    model = linear()
    optimizer = nn.Optimizer(model, optim.sgd(0.1))
    optimizer.update(bv.vmap(bv.grad(loss), in_axes=(None, 0))(model, X))


# -- Optax -----------------------------------------------------------------------------------------
P.page("https://optax.readthedocs.io/en/latest/getting_started.html")

PARAMS = {"w": bnp.ones(3), "b": bnp.zeros(())}


@P.says(ValueError, "params", "tx.update(grads, state, params)")
def weight_decay_without_parameters():
    """AdamW without the parameters."""
    opt = optim.adamw(1e-3)
    return opt.update(PARAMS, opt.init(PARAMS))


@P.says(ValueError, "structure", "c")
def gradients_of_another_tree():
    """Gradients with another key."""
    opt = optim.adam(1e-3)
    state = opt.init(PARAMS)
    return opt.update({"w": bnp.ones(3), "c": bnp.ones(())}, state, PARAMS)


@P.says(ValueError, "structure", "b")
def updates_of_another_tree():
    """Apply half of the updates."""
    return optim.apply_updates(PARAMS, {"w": bnp.ones(3)})


@P.says(TypeError, "chain", "init and update", "0.1")
def chain_of_a_number():
    """A learning rate in a chain."""
    return optim.chain(optim.clip(1.0), 0.1)


@P.says(TypeError, "learning_rate", "'0.1'", "float(text)")
def learning_rate_as_text():
    """A learning rate from a file."""
    return optim.sgd("0.1").init(PARAMS)


@P.says(ValueError, "decay_steps", "positive")
def schedule_without_steps():
    """A schedule of no steps."""
    return optim.cosine_decay_schedule(0.1, 0)


@P.gives("bfloat16")
def updates_keep_the_dtype_of_parameters():
    """Parameters in half precision stay so."""
    params = bnp.ones(3, dtype="bfloat16")
    return str(optim.apply_updates(params, bnp.ones(3)).dtype)


@P.says(ValueError, "labels is float32[4]", "with_integer_labels(logits, labels.astype(int))")
def labels_for_the_wrong_loss():
    """Integer labels for the loss of probabilities."""
    logits, labels = bnp.ones((4, 3)), bnp.zeros(4)
    return optim.softmax_cross_entropy(logits, labels)


@P.says(TypeError, "labels", "int", "float32")
def labels_as_floats():
    """Labels that are floats."""
    logits, labels = bnp.ones((4, 3)), bnp.zeros(4)
    return optim.softmax_cross_entropy_with_integer_labels(logits, labels)


# -- Equinox ---------------------------------------------------------------------------------------
P.page("https://docs.kidger.site/equinox/faq/")


@P.says(TypeError, "Sequential", "nn.state(model, nn.Param)")
def optimizer_state_of_a_module():
    """optim.init(model)."""
    return optim.adam(1e-3).init(nn.Sequential(linear(), nn.relu))


@P.gives((5, 4, 3))
def batch_axes_of_a_layer():
    """Any batch axes (Equinox: a vmap each)."""
    return linear()(bnp.ones((5, 4, 2))).shape


# -- MLX -------------------------------------------------------------------------------------------
P.page("https://ml-explore.github.io/mlx/build/html/usage/indexing.html")


@P.gives([2.0, 0.0, 1.0])
def repeated_indices_all_count():
    """Add at repeated indices; x[idx] += 1 would count each once."""
    return bnp.zeros(3).at[bnp.array([0, 0, 2])].add(1.0)


@P.gives([2.0, 3.0])
def boolean_mask():
    """Pick by a mask (MLX refuses)."""
    x = bnp.arange(4.0)
    return x[x > 1]


@P.says(IndexError, "index 10", "size 4")
def out_of_bounds_is_no_garbage():
    """Read past the end (MLX: undefined)."""
    return bnp.arange(4)[10]


P.page("https://ml-explore.github.io/mlx/build/html/usage/compile.html")


@P.gives([2.0, 6.0])
def compiled_function_reads_changed_state():
    """A compiled function sees what its state is now (MLX: a constant)."""
    cell = bv.ref(bnp.float32(1.0))
    f = bv.jit(lambda x: x + cell[...])
    first = f(1.0)
    cell[...] = 5.0
    return [first, f(1.0)]


@P.gives(-5.0)
def print_in_a_compiled_function():
    """Printing a placeholder is harmless (MLX: a crash)."""

    @bv.jit
    def f(x):
        z = -x
        assert "argument" not in str(z) and "made at" in str(z)
        return z

    return f(5.0)


@P.says(errors.RetraceWarning, "new function at every call")
def compiling_a_lambda_in_a_loop():
    """A lambda is compiled in each round."""
    for _ in range(12):
        bv.jit(lambda x: bnp.exp(bnp.abs(x)))(1.0)


P.page("https://ml-explore.github.io/mlx/build/html/usage/lazy_evaluation.html")


@P.gives(True)
def values_are_there_at_once():
    """No mx.eval: an array has its value when it is asked for."""
    x = bnp.ones(3)
    for _ in range(3):
        x = x * 2
    return bool(x.sum() == 24)


@pytest.mark.parametrize("program,promise", P.table)
def test_program(program, promise):
    run(program, promise)
