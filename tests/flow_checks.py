"""What tests of converted control flow share: cases, and what a program gives or raises."""

import numpy as np

import bevel as bv
import bevel.numpy as bnp


class Cases(list):
    """Functions and the arguments to call them with: a decorator, `@case((1.0,), (2.0,))`."""

    def __call__(self, *arguments):
        def add(f):
            self.append((f, arguments))
            return f

        return add


def given(arguments):
    kinds = {int: "int32", float: "float32"}
    return [bnp.asarray(a, dtype=kinds.get(type(a), "float32")) for a in arguments]


def outcome(run, *arguments):
    """What a program gives, or the class and the text of the error that it raises."""
    try:
        found = run(*arguments)
        bv.effects_barrier()
        return found
    except Exception as e:
        return type(e), str(e)


def is_error(found):
    return isinstance(found, tuple) and isinstance(found[0], type)


def check(fun, samples):
    """Compiled, a function gives or raises what it does in Python."""
    compiled = bv.jit(fun)
    for arguments in samples:
        expected = outcome(fun, *given(arguments))
        got = outcome(compiled, *given(arguments))
        if is_error(expected):
            assert got == expected
            continue
        assert bv.tree.structure(got) == bv.tree.structure(expected), got
        for e, g in zip(bv.tree.leaves(expected), bv.tree.leaves(got), strict=True):
            np.testing.assert_allclose(np.asarray(g), np.asarray(e), rtol=1e-6)
