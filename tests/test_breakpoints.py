"""`bv.debug.breakpoint`: pdb in eager code, and its commands where a compiled program runs."""

import io
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import lax, random
from bevel.debug.console import Console, Stopped

HERE = pathlib.Path(__file__)


def inner(v):
    tripled = v * 3
    bv.debug.breakpoint()  # stops here
    return tripled


def outer(x):
    parts = {"one": x + 1, "name": "text"}
    key = random.key(0)  # noqa: F841 (keys are no arrays to show)
    return inner(parts["one"])


def driven(monkeypatch, capsys, commands, run):
    """What the console says to these commands, and what the program gives."""
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(commands) + "\n"))
    monkeypatch.setattr(Console, "use_rawinput", False)
    result = run()
    bv.effects_barrier()
    return result, capsys.readouterr().out


RUNS = {
    "jit": lambda: bv.jit(outer)(1.0),
    "grad": lambda: bv.grad(outer)(1.0),
    "jit of grad": lambda: bv.jit(bv.grad(outer))(1.0),
    "scan": lambda: lax.scan(lambda c, r: (outer(c), r), 1.0, bnp.zeros(1))[0],
    "cond": lambda: bv.jit(lambda x: lax.cond(x > 0, outer, lambda v: v, x))(1.0),
    "vmap": lambda: bv.vmap(outer)(bnp.ones(1))[0],
    "if": lambda: bv.jit(lambda x: outer(x) if x > 0 else x)(1.0),
}


@pytest.mark.parametrize("name", RUNS)
def test_the_console_has_the_users_functions_and_values(name, monkeypatch, capsys):
    commands = ["p tripled + 1", "v", "u", "p parts", "x", "c"]
    result, out = driven(monkeypatch, capsys, commands, RUNS[name])
    assert float(result) == {"grad": 3, "jit of grad": 3}.get(name, 6)
    assert f"{HERE}(" in out and "-> bv.debug.breakpoint()  # stops here" in out
    assert "7.0" in out and ")outer()" in out and "-> return inner(parts" in out
    assert re.search(r"'one': array\(2., dtype=float32\), 'name': 'text'", out)
    assert "1.0" in out or "array(1., dtype=float32)" in out


def test_a_stop_for_each_row(monkeypatch, capsys):
    commands = ["p v", "c", "p v", "c"]
    _, out = driven(monkeypatch, capsys, commands, lambda: bv.vmap(inner)(bnp.array([5.0, 7.0])))
    assert "array(5." in out and "array(7." in out


def test_the_commands():
    out = io.StringIO()
    line = next(n for n, t in enumerate(HERE.read_text().splitlines(), 1) if "stops here" in t)
    stack = [
        Stopped(str(HERE), line, "inner", {"np": np}, {"v": np.ones(2)}),
        Stopped(str(HERE), line + 1, "outer", {}, {"x": 1}),
    ]
    console = Console(stack)
    console.stdout = out

    def says(command):
        out.seek(0), out.truncate()
        console.onecmd(command)
        return out.getvalue()

    assert "array([1., 1.])" in says("p v") == says("pp v") == says("v")
    assert says("!w = np.sum(v)") == says("") == "" and "2.0" in says("p w")
    assert says("p w / nothing") == "*** NameError: name 'nothing' is not defined\n"
    assert says("1 +").startswith("*** SyntaxError")
    assert "->     bv.debug.breakpoint()" in says("l")
    assert says("d") == "*** Newest frame\n"
    assert "outer()" in says("up") and says("a") == "x = 1\n"
    assert says("u") == "*** Oldest frame\n" and "inner()" in says("bt")
    assert "inner()" in says("down") and "expression" in says("h")
    assert console.onecmd("c") and console.onecmd("EOF")


def test_quitting_stops_the_program(monkeypatch, capsys):
    with pytest.raises(Exception, match="(?s)") as caught:
        driven(monkeypatch, capsys, ["q"], RUNS["jit"])
    assert "BdbQuit" in repr(caught.value)


def test_breakpoint_is_pdb_in_the_users_frame_when_eager(monkeypatch):
    frames = []
    monkeypatch.setattr("pdb.Pdb.set_trace", lambda self, frame=None: frames.append(frame))

    def f(x):
        inside = x * 2
        bv.debug.breakpoint()
        return inside

    bv.debug.eager(bv.jit(f))(3.0)
    assert frames[0].f_code is f.__code__ and float(frames[0].f_locals["inside"]) == 6


@pytest.mark.parametrize("mode", ["eager", "debug.eager"])
def test_pdb_runs_in_the_users_frames(mode, tmp_path):
    """The real pdb, driven as a person would."""
    script = tmp_path / "script.py"
    script.write_text(
        "import bevel as bv, bevel.numpy as bnp\n"
        "def inner(v):\n    w = v * 3\n    bv.debug.breakpoint()\n    return w\n"
        "def f(x):\n    y = x + 1\n    return inner(y)\n"
        + ("f(bnp.float32(1))\n" if mode == "eager" else "bv.debug.eager(bv.jit(f))(1.0)\n")
    )
    env = {"PYTHONPATH": str(pathlib.Path(bv.__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, str(script)],
        input="p float(w)\nup\np float(y)\nc\n",
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"script.py\([45]\)inner\(\)", done.stdout)  # Python 3.13 stops at the call
    assert "script.py(8)f()" in done.stdout
    assert re.search(r"\(Pdb\) 6.0", done.stdout) and re.search(r"\(Pdb\) 2.0", done.stdout)
