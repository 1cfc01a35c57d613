"""Errors show the user's frames, wherever they are shown."""

import logging
import os
import re
import subprocess
import sys
import textwrap

import pytest

import bevel as bv
import bevel.numpy as bnp

PROGRAM = """
import threading
import bevel as bv, bevel.numpy as bnp
from bevel import lax

def wrong(x):
    return x @ bnp.ones((2, 4))

def body(carry, x):
    return carry, wrong(x)

WAYS = {
    "eager": wrong,
    "grad": bv.grad(lambda x: wrong(x).sum()),
    "jit": bv.jit(wrong),
    "vmap": bv.vmap(wrong),
    "scan": lambda x: lax.scan(body, 0.0, x),
    "thread": lambda x: threading.Thread(target=wrong, args=(x,)).start(),
}
"""


def shown(call: str, **settings: str) -> str:
    code = PROGRAM + call
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **settings},
    )
    return run.stderr


@pytest.fixture(scope="module")
def uncaught() -> dict[str, str]:
    """What each way of failing prints, from one process."""
    call = """
import sys
for name, way in WAYS.items():
    print(f"=== {name}", file=sys.stderr)
    try:
        way(bnp.ones((5, 3, 4)))
    except Exception:
        sys.excepthook(*sys.exc_info())
    for t in threading.enumerate():
        if t is not threading.current_thread():
            t.join()
"""
    return {part.split()[0]: part for part in shown(call).split("=== ")[1:]}


@pytest.mark.parametrize("way", ["eager", "grad", "jit", "vmap", "scan", "thread"])
def test_only_frames_of_the_user_are_shown(uncaught, way):
    text = uncaught[way]
    assert "in wrong" in text and "ShapeError" in text
    assert f"bevel{os.sep}" not in text.replace("bevel.core.errors", "")
    assert "During handling" not in text  # NumPy's own error is no news


def test_all_frames_on_demand():
    call = "wrong(bnp.ones((5, 3, 4)))"
    assert f"bevel{os.sep}numpy" in shown(call, BEVEL_TRACEBACK_FILTERING="off")
    assert f"bevel{os.sep}numpy" not in shown(call)


def test_an_error_that_teaches_nothing_says_where_the_frames_are():
    call = "bv.grad(lambda x: 1 // 0)(1.0)"
    text = shown(call)
    assert "ZeroDivisionError" in text and "BEVEL_TRACEBACK_FILTERING=off" in text
    assert "BEVEL_TRACEBACK" not in shown("wrong(bnp.ones((5, 3, 4)))")


def test_what_programs_log_of_jit_is_short(caplog):
    @bv.jit
    def f(x):
        return x + bnp.ones((2, 2))

    try:
        f(bnp.ones(3))
    except TypeError:
        logging.getLogger("test").exception("failed")
    files = [
        line
        for line in caplog.text.splitlines()
        if "File" in line and "test_tracebacks" not in line
    ]
    assert len(files) == 1 and "__call__" in files[0]


def test_causes_are_shortened_too():
    call = """
try:
    wrong(bnp.ones((3, 4)))
except TypeError as e:
    raise RuntimeError("later") from e
"""
    text = shown(textwrap.dedent(call))
    assert "RuntimeError: later" in text and "direct cause" in text
    assert f"bevel{os.sep}numpy" not in text


def test_notebooks():
    ipython = pytest.importorskip("IPython")
    code = f"""
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_cell({PROGRAM!r})
shell.run_cell("WAYS['grad'](bnp.ones((3, 4)))")
shell.run_cell("1 / 0")
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    text = re.sub(r"\x1b\[[0-9;]*m", "", run.stdout + run.stderr)
    assert ipython.__version__ and "ShapeError" in text and "in wrong" in text, text
    assert f"bevel{os.sep}" not in text and "ZeroDivisionError" in text
