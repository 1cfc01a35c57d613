"""Unusual but legal arguments, found by calling both libraries with them: NumPy is the oracle."""

import operator

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp

HOLES = np.array([3.0, 1, np.nan, 1, -0.0], np.float32)
FALLING = [2, 1, 0]
PARTS = [-2.5, -1.0, 0.5, 0.0, np.inf, -np.inf, np.nan]
HOLED = np.where(np.arange(24).reshape(2, 3, 4) % 7 == 2, np.nan, 1.0).astype(np.float32)


def pairs():
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    ints = np.array([[0, 0, 0, 0], [0, 2, 0, 0], [0, 0, 3, 0]], np.int32)
    return [
        ("var", (x,), {"dtype": "complex64"}),
        ("std", (x, 1), {"dtype": "complex64"}),
        *[
            (f, (np.array([complex(a, b) for a in PARTS for b in PARTS], np.complex64),), {})
            for f in ("log2", "log10", "exp", "sin", "tanh", "sign")
        ],
        ("argwhere", (np.float32(2),), {}),
        ("argwhere", (np.float32(0),), {}),
        ("gradient", (HOLES,), {}),
        ("gradient", (np.where(x == 5, np.inf, x), 2.0), {}),
        ("gradient", (np.float32(2),), {}),
        ("gradient", (HOLES, np.array([0.0, 1, 3, 4, 9], np.float32)), {}),
        ("digitize", (HOLES, FALLING), {}),
        ("digitize", (np.arange(4), FALLING), {"right": True}),
        ("digitize", (np.arange(4), [1, 1, 1]), {}),
        ("cov", (np.zeros(0, np.float32),), {}),
        ("cov", (np.ones((2, 1), np.float32),), {"ddof": 3}),
        *[
            ("trim_zeros", (ints,), {"trim": trim, "axis": axis})
            for trim in ("fb", "f", "B")
            for axis in (None, 0, -1, (0, 1))
        ],
        *[
            (name, (data, q, axis), {"method": "inverted_cdf", "weights": w, "keepdims": keep})
            for name in ("quantile", "nanquantile")
            for data in (x, HOLED)
            for q, axis, w, keep in [
                (np.float32(0.5), None, x % 5, False),
                (np.array([0, 0.25, 1], np.float32), 1, (x + 1) % 3, False),
                (0.3, -1, x % 2 + (x > 20), True),
                (np.array([[0.1, 0.9]], np.float32), (0, 2), x % 3 + 1, True),
            ]
        ],
        ("quantile", (x, 0.3, 1), {"method": "inverted_cdf", "weights": np.array([0, 2, 3])}),
        *[
            ("linalg.norm", (np.zeros(shape, np.float32), order), {"keepdims": keep})
            for shape in ((0, 0), (0, 3), (3, 0), (0,))
            for order in (None, 1, 2, np.inf, *(["fro", "nuc"] if len(shape) == 2 else [0, 3]))
            for keep in (False, True)
        ],
        ("linalg.norm", (np.zeros((2, 0, 3), np.float32), np.inf, 1), {}),
        ("percentile", (x[1, 1], 40), {"method": "inverted_cdf", "weights": [1, 5, 1, 1]}),
        ("nanvar", (HOLED, 2), {"correction": 1}),
        ("nanstd", (HOLED, 1), {"mean": np.nanmean(HOLED, 1, keepdims=True), "keepdims": True}),
        ("cov", (ints,), {"dtype": "float32"}),
        ("corrcoef", (ints + np.eye(3, 4),), {"dtype": "float32"}),
        ("mask_indices", (3, np.triu, 1), {}),
        ("trim_zeros", (0 * ints,), {}),
        ("trim_zeros", (np.array([0, 1, 0, 2, 0]), "b"), {}),
    ]


@pytest.mark.parametrize("i", range(len(pairs())))
def test_numpy_says_the_same(i):
    name, args, kwargs = pairs()[i]
    with np.errstate(all="ignore"), pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *a, **k: None)
        want = operator.attrgetter(name)(np)(*args, **kwargs)
    found = operator.attrgetter(name)(bnp)(*args, **kwargs)
    if not isinstance(want, tuple | list):
        want, found = [want], [found]
    assert len(want) == len(found)
    for a, b in zip(found, want, strict=True):
        b = np.asarray(b)
        assert a.shape == b.shape and np.dtype(a.dtype).kind == b.dtype.kind
        np.testing.assert_allclose(np.asarray(a), b, rtol=1e-5, atol=1e-6)


def test_what_numpy_refuses():
    bools, z = np.array([True, False]), np.array([1j], np.complex64)
    for name, x in [("ediff1d", bools), ("signbit", z), ("frexp", z)]:
        with pytest.raises(TypeError, match=name):
            getattr(bnp, name)(x)


def test_weights_need_a_step():
    with pytest.raises(ValueError, match="inverted_cdf"):
        bnp.quantile(bnp.arange(3), 0.5, weights=bnp.ones(3))
    with pytest.raises(ValueError, match="weights of shape"):
        bnp.quantile(bnp.ones((2, 3)), 0.5, method="inverted_cdf", weights=bnp.ones(2), axis=1)


def test_text_and_methods():
    x = bnp.array([3.14159, 1e-9])
    for f, g in ((bnp.array_repr, np.array_repr), (bnp.array_str, np.array_str)):
        options = {"precision": 2, "suppress_small": True, "max_line_width": 9}
        want = g(np.asarray(x), **options).replace("array", "Array")
        assert f(x, **options).split() == want.split()
    y = bnp.array([3, 1, 2])
    assert int(y.argpartition(1)[1]) == 2 and int(y.partition(1)[1]) == 2
    assert y.compress([True, False, True]).tolist() == [3, 2]
    assert bnp.array([1, 0]).choose([y[:2], y[1:]]).tolist() == [1, 1]
    assert int(bnp.linalg.matrix_rank(bnp.diag(bnp.array([2.0, -1, 0])), hermitian=True)) == 2
    i, j = bv.jit(lambda: bnp.mask_indices(3, bnp.tril, size=7))()
    assert (i.tolist(), j.tolist()) == ([0, 1, 1, 2, 2, 2, 0], [0, 0, 1, 0, 1, 2, 0])
    with pytest.raises(TypeError, match="out"):
        bnp.stack([y, y], out=np.zeros((2, 3)))


def test_bins_that_are_none():
    x = np.array([0.5, np.nan], np.float32)
    for bad in (
        lambda: bnp.digitize(x, [0, 2, 1]),
        lambda: bnp.histogram(x[:1], [1, 0]),
        lambda: bnp.histogram(x, 3),
        lambda: bnp.histogram(x[:1], 3, range=(1, 0)),
        lambda: bnp.histogramdd(x[:1, None], [[0.0, 2, 1]]),
    ):
        with pytest.raises(ValueError, match="rise or fall|must not fall|cannot reach"):
            bad()
    counts, _ = bnp.histogram(x, 2, range=(0, 1))
    assert counts.tolist() == [0, 1]


def test_matrices_without_elements():
    def every(z):
        la, b = bnp.linalg, bnp.zeros((*z.shape[:-1], 2))
        roots = la.cholesky(z), *la.qr(z), *la.svd(z), *la.eigh(z), la.matrix_power(z, -1)
        return la.inv(z), la.det(z), la.solve(z, b), la.pinv(z), la.norm(z, axis=(-2, -1)), *roots

    for shape in ((0, 0), (2, 0, 0)):
        z = bnp.zeros(shape)
        eager, compiled = every(z), bv.jit(every)(z)
        assert [a.shape for a in eager] == [b.shape for b in compiled]
        assert eager[0].shape == shape and eager[1].tolist() == np.ones(shape[:-2]).tolist()
