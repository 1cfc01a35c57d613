"""Programs that guides warn about, in tables, and what must become of them: `Programs`."""

import inspect
import re
import traceback
import warnings

import numpy as np
import pytest

import bevel as bv
from bevel.core.source import is_internal


class Programs:
    """A table of programs of one test file.

    Each is a function whose docstring says what its author meant. It `gives` that; or it `says` a
    class and fragments: an error or a warning that has each fragment, names a line of the program
    (or is raised from one) and, unless `fix` is false, has the code to write instead.
    """

    def __init__(self):
        self.table = []

    def page(self, url):
        """The page that the next programs come from."""
        self.url = url

    def gives(self, expected):
        return lambda f: self.add(f, ("gives", expected))

    def says(self, kind, *fragments, fix=True, line=True):
        return lambda f: self.add(f, ("says", kind, fragments, fix, line))

    def add(self, f, promise):
        assert f.__doc__, f"what did the author of {f.__name__} mean?"
        self.table.append(pytest.param(f, promise, id=f.__name__))
        return f


def same(found, expected):
    """Compare trees; an array may be expected as a list."""
    if isinstance(found, bv.Array):
        assert found.shape == np.shape(expected)
        np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-6)
    elif isinstance(expected, list | tuple):
        assert type(found) is type(expected) and len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            same(a, b)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for k in expected:
            same(found[k], expected[k])
    else:
        assert found == expected


def run(f, promise, show=False):
    """Run a program and compare with what is promised."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        error = found = None
        try:
            found = f()
            bv.effects_barrier()
        except Exception as e:
            error = e
    if show:
        print(
            f"== {f.__name__}: {f.__doc__}\n   gives {found!r}"
            if error is None
            else f"== {f.__name__}: {f.__doc__}\n!! {type(error).__name__}: {error}"
        )
        for w in caught:
            print(f"!! {w.category.__name__}: {w.message}")
    if promise[0] == "gives":
        if error is not None:
            raise error
        assert not caught, [str(w.message) for w in caught]
        same(found, promise[1])
        return
    _, kind, fragments, fix, line = promise
    if issubclass(kind, Warning):
        if error is not None:
            raise error
        messages = [str(w.message) for w in caught if issubclass(w.category, kind)]
        assert len(messages) == 1, [str(w.message) for w in caught]
        text = messages[0]
    else:
        assert error is not None, f"no error, but {found!r}"
        if not isinstance(error, kind):
            raise error
        text = "\n".join([str(error), *getattr(error, "__notes__", ())])
    for fragment in fragments:
        assert fragment in text, (fragment, text)
    if fix:
        assert "Write instead: " in text, text
    if line:
        source, first = inspect.getsourcelines(inspect.unwrap(f))
        named = [int(n) for n in re.findall(r"test_wrong_programs\w*\.py:(\d+)", text)]
        named += [] if error is None else [last_line(error)]
        assert any(first <= n < first + len(source) for n in named), text


def last_line(error):
    """The line that a traceback ends with, which does not show Bevel's frames."""
    shown = [
        line
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not is_internal(frame.f_code.co_filename)
    ]
    return shown[-1]
