"""What tests of derivatives and loops share: numerical derivatives, and looking into graphs."""

from typing import NamedTuple

import numpy as np

import bevel as bv
import bevel.numpy as bnp

F64 = bnp.float64
X = np.array([0.3, -0.7, 1.1])


class Point(NamedTuple):
    """A container with names."""

    x: object
    y: object


def f64(x):
    return bnp.asarray(x, dtype=F64)


def close(found, wanted, tol=1e-6):
    assert bv.tree.structure(found) == bv.tree.structure(wanted), (found, wanted)
    for a, b in zip(bv.tree.leaves(found), bv.tree.leaves(wanted), strict=True):
        assert np.shape(a) == np.shape(b), (np.shape(a), np.shape(b))
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=tol, atol=tol)


def numeric(f, x, h=1e-6):
    """The gradient of a scalar function of one float64 array, by central differences."""
    x = np.asarray(x, np.float64)
    out = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[i] = h
        out[i] = (float(f(f64(x + step))) - float(f(f64(x - step)))) / (2 * h)
    return out


def equations(graph, name=None):
    """All equations of an op (or of all) in a graph and in the graphs it holds."""
    found = []
    for e in graph.eqns:
        if name is None or e.op.name == name:
            found.append(e)
        for p in e.params.values():
            for g in p if isinstance(p, tuple) else (p,):
                if hasattr(g, "eqns"):
                    found += equations(g, name)
    return found


def op_names(graph):
    """The names of all ops of a graph, those in the graphs it holds included."""
    return [e.op.name for e in equations(graph)]


def count(graph, name):
    return len(equations(graph, name))
