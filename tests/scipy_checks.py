"""Tables of SciPy functions: eager and compiled results against SciPy, gradients against finite
differences.

A row is a name, a function of (module, arrays) and its arrays; the module is Bevel's, or SciPy's
for the oracle, which sees double precision. A name that ends in "'" is also differentiated.
"""

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp


def leaves(out):
    return [x for x in bv.tree.leaves(out) if x is not None]


def wide(a):
    """An array in double precision, for the oracle."""
    a = np.asarray(a)
    return a.astype({"f": np.float64, "c": np.complex128}.get(a.dtype.kind, a.dtype))


def array(a):
    return bnp.asarray(a, dtype=a.dtype) if isinstance(a, np.ndarray) else a


def same(found, expected, tol, what):
    found, expected = leaves(found), leaves(expected)
    assert len(found) == len(expected), what
    for f, e in zip(found, expected, strict=True):
        f, e = np.asarray(f), np.asarray(e)
        assert f.shape == e.shape, f"{what}: shapes {f.shape} and {e.shape}"
        np.testing.assert_allclose(
            f, e, rtol=tol, atol=tol * max(1, abs(e).max(initial=0)), err_msg=what
        )


def check_eager(row, mine, theirs, tol=3e-5):
    name, fn, arrays = row
    expected = fn(theirs, *[wide(a) for a in arrays])
    same(fn(mine, *[array(a) for a in arrays]), expected, tol, name)


def check_compiled(rows, mine, theirs, tol=3e-5):
    """All rows in one program."""

    def program(every):
        return [leaves(fn(mine, *xs)) for (_, fn, _), xs in zip(rows, every, strict=True)]

    found = bv.jit(program)([list(arrays) for _, _, arrays in rows])
    for (name, fn, arrays), got in zip(rows, found, strict=True):
        same(got, fn(theirs, *[wide(a) for a in arrays]), tol, f"{name}, compiled")


def check_gradient(row, mine, tol=3e-4):
    """Reverse mode in double precision along a random direction, against a central difference."""
    name, fn, arrays = row
    rng = np.random.default_rng(1)
    xs = [bnp.asarray(wide(a), dtype=wide(a).dtype) for a in arrays]
    wrt = [i for i, x in enumerate(xs) if x.dtype.kind in "fc"]

    def like(x):
        noise = rng.normal(size=x.shape)
        noise = noise + 1j * rng.normal(size=x.shape) if x.dtype.kind == "c" else noise
        return bnp.asarray(noise, dtype=x.dtype)

    outs = [o for o in leaves(fn(mine, *xs)) if o.dtype.kind in "fc"]
    weights = [like(o) for o in outs]

    def loss(*xs):
        outs = [o for o in leaves(fn(mine, *xs)) if o.dtype.kind in "fc"]
        return sum((w * o).real.sum() for w, o in zip(weights, outs, strict=True))

    grads = bv.grad(loss, argnums=tuple(wrt))(*xs)
    directions = {i: like(xs[i]) for i in wrt}
    exact = sum(float((g * directions[i]).real.sum()) for i, g in zip(wrt, grads, strict=True))

    def moved(step):
        return float(loss(*[x + step * directions[i] if i in wrt else x for i, x in enumerate(xs)]))

    step = 1e-6
    slope = (moved(step) - moved(-step)) / (2 * step)
    np.testing.assert_allclose(exact, slope, rtol=tol, atol=tol, err_msg=f"gradient of {name}")
    assert all(g.dtype == xs[i].dtype for i, g in zip(wrt, grads, strict=True))


def near(found, expected, tol, what):
    """One array, where `same` takes a list as several."""
    same(found, np.asarray(expected), tol, what)


def wrong(error, *calls):
    for call in calls:
        with pytest.raises(error):
            call()
