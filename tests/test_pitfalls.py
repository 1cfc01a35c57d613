"""docs/pitfalls.md says what happens: each block of Python runs, and gives the text after it."""

import linecache
import pathlib
import re
import warnings

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import lax, nn, optim, random

DOCUMENT = pathlib.Path(__file__).parent.parent / "docs" / "pitfalls.md"
BLOCKS = re.findall(
    r"^## (.*?)$|^```python\n(.*?)^```\n```text\n(.*?)^```", DOCUMENT.read_text(), re.M | re.S
)


def cases():
    title = ""
    for heading, code, text in BLOCKS:
        title = heading or title
        if code:
            yield pytest.param(code, text, id=f"{title} {len(code)}")


def test_every_block_of_python_says_what_it_gives():
    assert DOCUMENT.read_text().count("```python") == len(list(cases()))


@pytest.mark.parametrize("code,text", list(cases()))
def test_pitfall(code, text, capsys):
    name = f"<pitfall {hash(code)}>"
    linecache.cache[name] = (len(code), None, code.splitlines(True), name)
    scope = {"bv": bv, "bnp": bnp, "np": np, "lax": lax, "nn": nn, "optim": optim, "random": random}
    said = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            exec(compile(code, name, "exec"), scope)
        except Exception as e:
            said.append(f"{type(e).__name__}: {e}")
        bv.effects_barrier()
    said += [f"{w.category.__name__}: {w.message}" for w in caught]
    said.append(capsys.readouterr().out)
    for line in text.splitlines():
        assert any(line in s for s in said), (line, said)
