"""Every example in its small form: what it promises comes out."""

import ast
import contextlib
import io
from pathlib import Path

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import checkpoint, nn, optim, random
from examples import char_gpt, hmc, maml, physics

FOLDER = Path(char_gpt.__file__).parent
FILES = sorted(f for f in FOLDER.glob("*.py") if f.stem != "__init__")


def quiet(main, *args, **kwargs):
    """What `main` returns, and what it printed."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        out = main(*args, **kwargs)
    return out, printed.getvalue()


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_files(file):
    """One screen or two each, explained, listed in the README, with nothing of the peers."""
    source = file.read_text(encoding="utf-8")
    limit = 60 if file.stem == "training_loop" else 120
    assert len(source.splitlines()) < limit
    syntax = ast.parse(source)
    assert f"python -m examples.{file.stem}" in ast.get_docstring(syntax)
    assert f"`{file.name}`" in (FOLDER / "README.md").read_text(encoding="utf-8")
    imported = {
        (getattr(n, "module", None) or n.names[0].name).split(".")[0]
        for n in ast.walk(syntax)
        if isinstance(n, ast.Import | ast.ImportFrom)
    }
    assert imported <= {"bevel", "numpy", "sklearn", "rich", "math", "pathlib"}


def test_digits_cnn():
    pytest.importorskip("sklearn")
    from examples import digits_cnn

    accuracy, _ = quiet(digits_cnn.main, epochs=5, batch=32, width=8)
    assert accuracy > 0.95  # the full run is above 0.98


def test_char_gpt():
    words = np.random.default_rng(0).choice(["every", "step", "has", "a", "reason", "here"], 4000)
    text = "# Bevel\n\n" + " ".join(words)
    small = dict(steps=150, batch=16, context=32, features=32, heads=2, layers=1, text=text)
    result, printed = quiet(char_gpt.main, **small)
    assert result["held_out"] < result["unigram"]
    assert result["difference"] < 1e-4
    assert printed.count("# Bevel") == 2  # both samples go on from the prompt


def test_cached_logits_of_any_prompt():
    """Before training, with several layers, for prompts of several lengths."""
    model = char_gpt.GPT(11, context=9, features=8, heads=2, layers=2, rngs=nn.Rngs(0))
    for length in (1, 5, 9):
        prompt = random.randint(random.key(length), (3, length), 0, 11)
        model.init_cache(batch=3)
        tokens, cached = char_gpt.sample(model, prompt, random.key(1))
        assert np.array_equal(tokens[:, :length], prompt)
        np.testing.assert_allclose(cached, model(tokens), atol=2e-5)


def test_vae():
    pytest.importorskip("sklearn")
    from examples import vae

    result, printed = quiet(vae.main, epochs=12, width=64)
    assert result["after"] < result["alone"] < result["before"]
    assert len(printed.splitlines()[-1]) == 8 * 8 + 7 * 2


def test_maml():
    errors, _ = quiet(maml.main, iterations=300)
    assert errors["meta", 1] < 0.9 * min(errors["meta", 0], errors["plain", 0])
    assert errors["meta", 1] < 0.5 * errors["plain", 1]


def test_maml_gradient():
    """The gradient through the gradient step, against finite differences."""
    params = maml.init(random.key(0), (1, 8, 1))
    x, y = maml.task(random.key(1))
    grads = bv.grad(maml.adapted_loss)(params, x, y)
    direction = optim.tree.random_like(random.key(2), params)
    ahead, behind = (
        maml.adapted_loss(optim.tree.add_scale(params, h, direction), x, y) for h in (1e-2, -1e-2)
    )
    slope = optim.tree.vdot(grads, direction)
    np.testing.assert_allclose((ahead - behind) / 2e-2, slope, rtol=1e-2)
    first_order = bv.grad(maml.loss_fn)(maml.adapt(params, x[:10], y[:10]), x[10:], y[10:])
    assert abs(optim.tree.vdot(first_order, direction) - slope) > 0.05 * abs(slope)


def test_physics():
    result, _ = quiet(physics.main, iterations=100)
    assert result["miss"] < 1e-4  # m, of 20
    np.testing.assert_allclose(result["spring"], result["truth"], rtol=0.01)


def test_physics_integrates():
    """The spring against its closed form; the throw against a parabola where there is no air."""
    stiffness, damping, t = 4.0, 0.3, 0.05 * np.arange(1, 101)
    omega = np.sqrt(stiffness - damping**2 / 4)
    exact = np.exp(-damping * t / 2) * (np.cos(omega * t) + damping / 2 / omega * np.sin(omega * t))
    np.testing.assert_allclose(physics.track(stiffness, damping, 100), exact, atol=1e-5)
    velocity = bnp.array([3.0, 4.0, 5.0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(physics, "DRAG", 0.0)
        fallen = physics.landing(velocity, 2.0)
    np.testing.assert_allclose(fallen, [6.0, 8.0, 10.0 - 9.81 * 2], rtol=1e-5)


def test_hmc():
    result, _ = quiet(hmc.main, samples=500, chains=4)
    off = np.abs(result["mean"] - result["exact_mean"]) / result["exact_deviation"]
    assert off.max() < 0.15  # of a posterior deviation
    np.testing.assert_allclose(result["deviation"], result["exact_deviation"], rtol=0.1)
    assert 0.8 < result["acceptance"] < 1


def test_dp_sgd():
    pytest.importorskip("sklearn")
    from examples import dp_sgd

    result, _ = quiet(dp_sgd.main, steps=100, noise=1.5)
    assert result["private"] > 0.75 and result["not private"] > 0.9
    assert 0 < result["epsilon"] < 5


def test_one_example_moves_the_sum_by_at_most_the_clipping_norm():
    pytest.importorskip("sklearn")
    from examples import dp_sgd

    model = nn.Linear(64, 10, rngs=nn.Rngs(0))
    optimizer = nn.Optimizer(model, optim.sgd(1.0))
    images = 100 * random.normal(random.key(0), (5, 64))
    labels = model(images).argmin(axis=-1)  # far off: every gradient is clipped
    for taken, norm in ((np.zeros(5, bool), 0.0), (np.arange(5) == 3, 1.0)):
        before = nn.state(model, nn.Param)
        dp_sgd.step(model, optimizer, nn.Rngs(noise=1), images, labels, taken, 0.0, 4.0)
        moved = optim.tree.norm(optim.tree.sub(nn.state(model, nn.Param), before))
        np.testing.assert_allclose(moved, norm / 4, rtol=1e-3, atol=1e-7)


def test_epsilon_against_quadrature():
    """The divergence of the subsampled Gaussian, integrated numerically at each order."""
    pytest.importorskip("sklearn")
    from examples import dp_sgd

    x = np.linspace(-60, 140, 400_001)
    for rate, noise, steps, delta in ((0.1, 2.0, 300, 1e-4), (0.02, 1.1, 2000, 1e-5)):
        bounds = []
        for order in range(2, 30):
            ratio = np.logaddexp(np.log1p(-rate), np.log(rate) + (2 * x - 1) / (2 * noise**2))
            density = -((x / noise) ** 2) / 2 - np.log(noise * np.sqrt(2 * np.pi))
            moment = np.exp(order * ratio + density).sum() * (x[1] - x[0])
            renyi = np.log(moment) / (order - 1)
            change = np.log((order - 1) / order) - np.log(delta * order) / (order - 1)
            bounds.append(steps * renyi + change)
        assert np.argmin(bounds) < 27  # the best order is among them
        np.testing.assert_allclose(dp_sgd.epsilon(rate, noise, steps, delta), min(bounds))


class Stopped(BaseException):
    """As Ctrl-C does, it passes `except Exception`."""


def test_training_loop_resumes_to_the_bit(tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    from examples import training_loop

    (whole, accuracy), _ = quiet(training_loop.main, tmp_path / "whole", epochs=4)
    assert accuracy > 0.85

    steps, step = [], training_loop.train_step

    def stops_in_the_third_epoch(*args):
        steps.append(0)
        if len(steps) > 2 * 23 + 5:
            raise Stopped
        return step(*args)

    with monkeypatch.context() as patch:
        patch.setattr(training_loop, "train_step", stops_in_the_third_epoch)
        with pytest.raises(Stopped):
            quiet(training_loop.main, tmp_path / "stopped", epochs=4)
    assert checkpoint.CheckpointManager(tmp_path / "stopped").all_steps() == [1, 2]
    (resumed, _), printed = quiet(training_loop.main, tmp_path / "stopped", epochs=4)
    assert "epoch 3" in printed and "epoch 2" not in printed

    expected, found = nn.state(whole).flat_state(), nn.state(resumed).flat_state()
    assert expected.keys() == found.keys()
    for path, x in expected.items():
        y = found[path]
        x, y = (random.key_data(v) if random.is_key(v) else v for v in (x, y))
        assert np.array_equal(x, y), path
