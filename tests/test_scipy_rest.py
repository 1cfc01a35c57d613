"""The parts of bevel.scipy beside linalg, special and stats, against scipy (and JAX where SciPy has
another interface).
"""

import importlib
import subprocess
import sys

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
import bevel.scipy as bs
from tests.scipy_checks import check_compiled, check_eager, check_gradient, near, same, wrong

scipy = pytest.importorskip("scipy")

RNG = np.random.default_rng(0)


def F(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def C(*shape):
    return (F(*shape) + 1j * F(*shape)).astype(np.complex64)


# -- names ---------------------------------------------------------------------------------------

PARTS = {
    "cluster": [],
    "cluster.vq": ["vq"],
    "fft": ["dct", "dctn", "idct", "idctn"],
    "integrate": ["trapezoid"],
    "interpolate": ["RegularGridInterpolator"],
    "linalg": [
        *"block_diag cho_factor cho_solve cholesky circulant companion convolution_matrix".split(),
        *"det dft eigh eigh_tridiagonal expm expm_frechet fiedler fiedler_companion funm".split(),
        *"hadamard hankel helmert hessenberg hilbert inv invhilbert invpascal leslie lu".split(),
        *"lu_factor lu_solve pascal polar qr qr_multiply rsf2csf schur solve".split(),
        *"solve_sylvester solve_triangular sqrtm svd toeplitz".split(),
    ],
    "ndimage": ["map_coordinates"],
    "optimize": ["OptimizeResults", "minimize"],
    "signal": [
        *"convolve convolve2d correlate correlate2d csd detrend fftconvolve istft stft".split(),
        "welch",
    ],
    "sparse": [],
    "sparse.linalg": ["bicgstab", "cg", "gmres"],
    "spatial": [],
    "spatial.transform": ["Rotation", "Slerp"],
}


@pytest.mark.parametrize("part", PARTS)
def test_every_name_is_there_and_documented(part):
    module = importlib.import_module(f"bevel.scipy.{part}")
    for name in PARTS[part]:
        assert getattr(module, name).__doc__, f"bevel.scipy.{part}.{name}"


@pytest.mark.parametrize("part", PARTS)
def test_no_name_of_jax_is_missing(part):
    pytest.importorskip("jax")
    theirs = importlib.import_module(f"jax.scipy.{part}")
    mine = importlib.import_module(f"bevel.scipy.{part}")
    for name in dir(theirs):
        if not name.startswith("_"):
            assert hasattr(mine, name), f"bevel.scipy.{part}.{name}"


def test_parts_load_by_name_alone():
    """In a fresh interpreter, whatever other tests have imported."""
    code = """
import bevel.scipy
assert bevel.scipy.linalg.expm and bevel.scipy.sparse.linalg.cg and bevel.scipy.cluster.vq.vq
import sys
assert "bevel.scipy.signal" not in sys.modules
from bevel.scipy.spatial.transform import Rotation
import bevel.scipy.sparse.linalg
import bevel as bv
assert bv.scipy.optimize.minimize and bv.scipy.signal.stft and "jax" not in sys.modules
assert "scipy" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# -- tables: SciPy sees the same arrays in double precision --------------------------------------

IMAGE, VOLUME = F(5, 6), F(3, 4, 2)
PLACES = [RNG.uniform(-7, 12, 40).astype(np.float32) for _ in range(2)]
NEAR = [RNG.uniform(0, 4, 9).astype(np.float32) for _ in range(2)]
GRID_MODE = {"constant": "grid-constant", "wrap": "grid-wrap"}


def sampled(m, x, *at, order, mode, **options):
    mode = mode if m is bs else GRID_MODE.get(mode, mode)
    return m.ndimage.map_coordinates(x, list(at), order=order, mode=mode, **options)


def vq(m, *xs):
    code, distance = m.cluster.vq.vq(*xs)
    return code, distance


def interpolated(m, grid, values, at, **options):
    options = options if m is bs else dict(options, bounds_error=False)
    return m.interpolate.RegularGridInterpolator(grid, values, **options)(at)


AXES = [np.sort(F(n)) for n in (4, 3)]
INSIDE = np.stack([RNG.uniform(a[0], a[-1], (2, 5)) for a in AXES], -1).astype(np.float32)

SMALL = [
    ("trapezoid'", lambda m, y, x: m.integrate.trapezoid(y, x, axis=0), (F(5, 3), np.sort(F(5)))),
    ("trapezoid-dx", lambda m, y: m.integrate.trapezoid(y, dx=0.5), (F(2, 5),)),
    ("vq'", vq, (F(6, 3), F(4, 3))),
    ("vq-vectors", vq, (F(6), F(4))),
    *[
        (f"map-{order}-{mode}", lambda m, *v, o=order, k=mode: sampled(m, *v, order=o, mode=k), v)
        for mode in ("constant", "nearest", "wrap", "mirror", "reflect")
        for order, v in ((0, (IMAGE, *PLACES)), (1, (IMAGE, *PLACES)))
    ],
    ("map'", lambda m, *v: sampled(m, *v, order=1, mode="nearest"), (IMAGE, *NEAR)),
    (
        "map-cval",
        lambda m, *v: sampled(m, *v, order=1, mode="constant", cval=3.0),
        (VOLUME, *F(3, 2, 5)),
    ),
    (
        "grid-linear'",
        lambda m, x, y, v, at: interpolated(m, (x, y), v, at),
        (*AXES, F(4, 3, 2), INSIDE),
    ),
    (
        "grid-nearest",
        lambda m, x, y, v, at: interpolated(m, (x, y), v, at, method="nearest"),
        (*AXES, F(4, 3), INSIDE),
    ),
    (
        "grid-outside",
        lambda m, x, y, v, at: interpolated(m, (x, y), v, at, fill_value=-1.0),
        (*AXES, F(4, 3), 3 * INSIDE),
    ),
    (
        "grid-extrapolated'",
        lambda m, x, y, v, at: interpolated(m, (x, y), v, at, fill_value=None),
        (*AXES, C(4, 3), 2 * INSIDE),
    ),
    (
        "grid-tuple",
        lambda m, x, y, v, a, b: interpolated(m, (x, y), v, (a, b)),
        (*AXES, F(4, 3), INSIDE[..., 0], INSIDE[:1, :1, 1]),
    ),
    ("dct'", lambda m, x: m.fft.dct(x), (F(2, 5),)),
    *[
        (f"{f}-{t}-{norm}-{n}", lambda m, x, f=f, **o: getattr(m.fft, f)(x, **o), (F(3, 6),), o)
        for f in ("dct", "idct")
        for t in (1, 2, 3, 4)
        for norm, n, o in (
            (None, None, dict(type=t)),
            ("ortho", 4, dict(type=t, norm="ortho", n=4)),
            ("forward", 9, dict(type=t, norm="forward", n=9, axis=0)),
        )
    ],
    ("dct-1-2", lambda m, x: m.fft.dct(x, type=1, norm="ortho"), (F(2),)),
    ("dct-complex", lambda m, x: m.fft.dct(x, 3, norm="ortho"), (C(2, 5),)),
    ("dctn", lambda m, x: m.fft.dctn(x), (F(3, 4, 5),)),
    ("dctn-s", lambda m, x: m.fft.dctn(x, 4, s=[3, 6], norm="ortho"), (F(2, 4, 5),)),
    ("idctn'", lambda m, x: m.fft.idctn(x, axes=(0, 2)), (F(2, 4, 5),)),
    ("idctn-s", lambda m, x: m.fft.idctn(x, 1, s=(3, 6), axes=(2, 0)), (F(2, 4, 5),)),
]
SMALL = [
    (r[0], lambda m, *xs, r=r: r[1](m, *xs, **r[3]), r[2]) if len(r) == 4 else r for r in SMALL
]


SIGNAL, OTHER = F(3, 40), F(3, 40)


def both(name, x, y, **options):
    return lambda m, x, y: getattr(m.signal, name)(x, y, **options), (x, y)


CONVOLUTIONS = [
    (f"{name}-{mode}-{i}", *both(name, x, y, mode=mode))
    for name in ("convolve", "correlate", "fftconvolve")
    for mode in ("full", "same", "valid")
    for i, (x, y) in enumerate(
        [(F(7), F(4)), (C(4), C(7)), (F(5, 6), F(2, 4)), (F(2, 3, 3), F(2, 4, 3))]
    )
]
MATRICES = [
    (f"{name}-{mode}-{boundary}-{i}", *both(name, x, y, mode=mode, boundary=boundary))
    for name in ("convolve2d", "correlate2d")
    for mode in ("full", "same", "valid")
    for i, (boundary, x, y) in enumerate(
        [
            ("fill", C(5, 6), C(2, 3)),
            ("fill", C(3, 2), C(4, 5)),
            ("fill", F(4, 4), F(4, 4)),
            ("wrap", F(5, 6), F(2, 4)),
            ("symm", F(5, 6), F(3, 4)),
        ]
    )
]
SIGNALS = [
    *CONVOLUTIONS,
    *MATRICES,
    ("convolve'", *both("convolve", F(5), F(3), mode="same")),
    ("convolve-fft", *both("convolve", F(5, 3), F(3, 3), method="fft")),
    ("convolve2d-fillvalue", *both("convolve2d", F(4, 5), F(2, 3), fillvalue=2.0)),
    ("fftconvolve'", *both("fftconvolve", F(5, 2), F(3, 2), axes=0)),
    ("fftconvolve-axes", *both("fftconvolve", F(5, 2, 4), F(3, 1, 6), mode="same", axes=[2, 0])),
    ("fftconvolve-one", *both("fftconvolve", F(5, 1), F(1, 1))),
    ("detrend'", lambda m, x: m.signal.detrend(x), (SIGNAL,)),
    ("detrend-constant", lambda m, x: m.signal.detrend(x, 0, "constant"), (SIGNAL,)),
    ("detrend-bp", lambda m, x: m.signal.detrend(x, axis=0, bp=[7, 20]), (C(40, 2),)),
    ("stft'", lambda m, x: m.signal.stft(x, nperseg=8)[2], (F(30),)),
    ("stft-axis", lambda m, x: m.signal.stft(x, 2.0, nperseg=7, axis=0, padded=False), (F(40, 2),)),
    *[
        (
            f"stft-{boundary}",
            lambda m, x, b=boundary: m.signal.stft(
                x, window="hamming", nperseg=9, noverlap=6, nfft=12, boundary=b, detrend="linear"
            ),
            (SIGNAL,),
        )
        for boundary in ("even", "odd", "constant", None)
    ],
    (
        "stft-complex",
        lambda m, x: m.signal.stft(x, window=("kaiser", 3.0), nperseg=8, return_onesided=False),
        (C(30),),
    ),
    (
        "stft-window",
        lambda m, x, w: m.signal.stft(x, window=w, nperseg=5),
        (F(30), abs(F(5))),
    ),
    ("csd'", lambda m, x, y: m.signal.csd(x, y, nperseg=8)[1], (SIGNAL, OTHER)),
    (
        "csd-median",
        lambda m, x, y: m.signal.csd(x, y, 3.0, nperseg=8, average="median", scaling="spectrum"),
        (SIGNAL, OTHER),
    ),
    ("csd-lengths", lambda m, x, y: m.signal.csd(x, y, nperseg=9), (F(40), F(30))),
    ("csd-one-segment", lambda m, x, y: m.signal.csd(x, y), (SIGNAL, OTHER)),
    ("welch'", lambda m, x: m.signal.welch(x, nperseg=8)[1], (SIGNAL,)),
    ("welch-median", lambda m, x: m.signal.welch(x, nperseg=7, average="median"), (SIGNAL,)),
    ("welch-axis", lambda m, x: m.signal.welch(x, nperseg=8, axis=0, nfft=11), (F(40, 2),)),
    ("welch-long", lambda m, x: m.signal.welch(x), (F(600),)),
    (
        "welch-detrend",
        lambda m, x: m.signal.welch(x, nperseg=8, detrend=lambda d: d - d[..., :1]),
        (SIGNAL,),
    ),
    ("istft'", lambda m, z: m.signal.istft(z, nperseg=8)[1], (C(5, 9),)),
    ("istft-odd", lambda m, z: m.signal.istft(z, 2.0, nperseg=9, noverlap=6), (C(5, 9),)),
    ("istft-nfft", lambda m, z: m.signal.istft(z, nperseg=6, nfft=8, boundary=False), (C(5, 9),)),
    (
        "istft-axes",
        lambda m, z: m.signal.istft(z, input_onesided=False, time_axis=0, freq_axis=1)[1],
        (C(9, 8, 2),),
    ),
    ("istft-batch", lambda m, z: m.signal.istft(z, window="blackman")[1], (C(2, 5, 9),)),
]

QUATS = F(6, 4)
ALL_BRANCHES = np.concatenate([QUATS, np.eye(4), 1 - 2 * np.eye(4)])
MATRICES3 = importlib.import_module("scipy.spatial.transform").Rotation.from_quat(ALL_BRANCHES)
MATRICES3 = MATRICES3.as_matrix().astype(np.float32)
SEQS = ("xyz", "zyx", "XYZ", "ZXY", "zxz", "YXY")
ANGLES = RNG.uniform(-1.4, 1.4, (5, 3)).astype(np.float32)


def rotation(m):
    return m.spatial.transform.Rotation


def matrices(r):
    return r.as_matrix()


def euler(m, angles, seq):
    r = rotation(m).from_euler(seq, angles)
    return matrices(r), r.as_euler(seq)


def path(m, times, quats, at):
    start = m.spatial.transform.Slerp
    slerp = (
        start.init(times, rotation(m).from_quat(quats))
        if m is bs
        else start(times, rotation(m).from_quat(quats))
    )
    return matrices(slerp(at))


ROTATIONS = [
    ("matrix'", lambda m, q: matrices(rotation(m).from_quat(q)), (QUATS,)),
    ("quat", lambda m, q: rotation(m).from_quat(q).as_quat(), (QUATS,)),
    ("quat-canonical", lambda m, q: rotation(m).from_quat(q).as_quat(canonical=True), (QUATS,)),
    ("quat-scalar", lambda m, q: rotation(m).from_quat(q).as_quat(scalar_first=True), (QUATS[0],)),
    *[(f"euler-{seq}", lambda m, a, s=seq: euler(m, a, s), (ANGLES,)) for seq in SEQS[:4]],
    *[(f"euler-{seq}", lambda m, a, s=seq: euler(m, a, s), (abs(ANGLES),)) for seq in SEQS[4:]],
    *[
        (
            f"as_euler-{seq}",
            lambda m, q, s=seq: rotation(m).from_quat(q).as_euler(s, True),
            (QUATS,),
        )
        for seq in SEQS
    ],
    ("euler'", lambda m, a: rotation(m).from_euler("zyx", a).as_euler("xyz"), (ANGLES,)),
    (
        "euler-one",
        lambda m, a: matrices(rotation(m).from_euler("y", a, degrees=True)),
        (90 * F(4, 1),),
    ),
    ("euler-two", lambda m, a: matrices(rotation(m).from_euler("XZ", a)), (F(2),)),
    ("rotvec'", lambda m, v: rotation(m).from_rotvec(v).as_rotvec(), (F(4, 3) / 2,)),
    ("rotvec-long", lambda m, v: rotation(m).from_rotvec(v).as_rotvec(), (2 * F(4, 3),)),
    ("rotvec-short", lambda m, v: rotation(m).from_rotvec(v).as_rotvec(True), (1e-3 * F(4, 3),)),
    ("rotvec-degrees", lambda m, v: matrices(rotation(m).from_rotvec(v, True)), (90 * F(3),)),
    ("mrp'", lambda m, v: rotation(m).from_mrp(v).as_mrp(), (F(4, 3) / 4,)),
    ("mrp-long", lambda m, v: rotation(m).from_mrp(v).as_mrp(), (3 * F(4, 3),)),
    (
        "from_matrix",
        lambda m, a: rotation(m).from_matrix(a).as_quat(canonical=True),
        (MATRICES3,),
    ),
    ("apply'", lambda m, q, v: rotation(m).from_quat(q).apply(v), (QUATS, F(3))),
    (
        "apply-inverse",
        lambda m, q, v: rotation(m).from_quat(q).apply(v, inverse=True),
        (F(4), F(5, 3)),
    ),
    (
        "product'",
        lambda m, p, q: matrices(rotation(m).from_quat(p) * rotation(m).from_quat(q).inv()),
        (QUATS, F(4)),
    ),
    ("magnitude'", lambda m, q: rotation(m).from_quat(q).magnitude(), (QUATS,)),
    ("mean", lambda m, q: matrices(rotation(m).from_quat(q).mean()), (QUATS,)),
    (
        "mean-weights",
        lambda m, q, w: matrices(rotation(m).from_quat(q).mean(w)),
        (QUATS, abs(F(6))),
    ),
    (
        "concatenate",
        lambda m, p, q: matrices(
            rotation(m).concatenate([rotation(m).from_quat(p), rotation(m).from_quat(q)])
        ),
        (QUATS, F(4)),
    ),
    ("identity", lambda m: matrices(rotation(m).identity(3)), ()),
    ("part", lambda m, q: matrices(rotation(m).from_quat(q)[1:3]), (QUATS,)),
    ("slerp'", path, (np.arange(6, dtype=np.float32), QUATS, np.float32([0.25, 4.5, 2.75]))),
    ("slerp-one", path, (np.arange(6, dtype=np.float32), QUATS, np.float32(3.0))),
]


class Scipy:
    """SciPy's modules, loaded by name."""

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        if name == "cluster":
            importlib.import_module("scipy.cluster.vq")
        return importlib.import_module(f"scipy.{name}")


REF = Scipy()
TABLE = SMALL + SIGNALS + ROTATIONS


# SciPy's defaults and oddities, which it warns of.
pytestmark = pytest.mark.filterwarnings("ignore:nperseg", "ignore:NOLA")


@pytest.mark.parametrize("row", TABLE, ids=lambda r: r[0])
def test_eager_equals_scipy(row):
    check_eager(row, bs, REF, 1e-4)


def test_compiled_equals_scipy():
    check_compiled(TABLE, bs, REF, 1e-4)


@pytest.mark.parametrize("row", [r for r in TABLE if r[0].endswith("'")], ids=lambda r: r[0])
def test_gradients_equal_finite_differences(row):
    check_gradient(row, bs)


# -- beyond the tables ---------------------------------------------------------------------------


def test_results_have_the_dtype_of_the_arguments():
    signal, image = bs.signal, bnp.eye(4, dtype=bnp.float64)
    for dtype, real in ((bnp.float32, bnp.float32), (bnp.complex128, bnp.float64)):
        x = bnp.ones((4, 8), dtype=dtype)
        assert signal.convolve(x, x).dtype == signal.fftconvolve(x, x).dtype == dtype
        assert signal.detrend(x).dtype == bs.fft.dct(x).dtype == bs.fft.idctn(x).dtype == dtype
        f, t, z = signal.stft(x, nperseg=4, return_onesided=False)
        assert f.dtype == t.dtype == real and z.dtype == (np.zeros(1, dtype) + 0j).dtype
        assert signal.welch(x, nperseg=4, return_onesided=False)[1].dtype == real
        assert signal.istft(z, input_onesided=False)[1].dtype == z.dtype
    for dtype in (bnp.int32, bnp.float16, bnp.float64):
        at = [bnp.array([0.5, 1.0])] * 2
        found = bs.ndimage.map_coordinates(image.astype(dtype), at, order=1)
        assert found.dtype == dtype and found[1] == 1
    half = bnp.ones(8, dtype=bnp.float16)
    assert {v.dtype for v in signal.welch(half, nperseg=4)} == {np.dtype("float32")}
    for solve in (bs.sparse.linalg.cg, bs.sparse.linalg.gmres):
        found, info = solve(2 * bnp.eye(8, dtype=bnp.float16), half)
        assert found.dtype == bnp.float16 and info == 0 and found[0] == 0.5
    assert bs.fft.dct(bnp.arange(4)).dtype == bnp.float32
    assert bs.fft.dct(bnp.ones(4, dtype=bnp.float16)).dtype == bnp.float16
    assert bs.signal.convolve(bnp.arange(3), bnp.arange(2)).dtype == bnp.float32


def test_map_coordinates_rounds_and_counts():
    x, at = bnp.array([0, 1, 4, -3]), [bnp.array([0.5, 1.5, 2.5, 2.75])]
    assert bs.ndimage.map_coordinates(x, at, order=1).tolist() == [1, 3, 1, -1]
    assert bs.ndimage.map_coordinates(x, at, order=0).tolist() == [1, 4, -3, -3]
    assert bs.ndimage.map_coordinates(x, [bnp.array([3, 4])], order=1, cval=7).tolist() == [-3, 7]
    one = bs.ndimage.map_coordinates(bnp.array([5.0]), [bnp.array([-1.2, 3.0])], 1, mode="mirror")
    assert one.tolist() == [5, 5]


def test_interpolator_is_a_pytree_and_takes_descending_axes():
    make = bs.interpolate.RegularGridInterpolator
    x, values = bnp.array([0.0, 1.0, 3.0]), bnp.array([0.0, 10.0, 20.0])
    f = make((x,), values)
    at = bnp.array([[0.25], [2.0], [-1.0]])
    near(bv.jit(lambda f, x: f(x))(f, at), [2.5, 15.0, np.nan], 1e-6, "jit")
    same(make((x[::-1],), values[::-1])(at), f(at), 1e-6, "descending")
    slope = bv.grad(lambda f: f(at[:2]).sum())(f)
    near(slope.values, [0.75, 0.75, 0.5], 1e-6, "gradient")
    assert slope.method == "linear" and bnp.isnan(f(bnp.array([[np.nan]]), method="nearest")[0])
    near(bv.vmap(f)(at[:2]), [[2.5], [15.0]], 1e-6, "vmap")
    wrong(
        ValueError,
        lambda: make((bnp.array([0.0, 2.0, 1.0]),), values),
        lambda: make((x,), values, method="cubic"),
        lambda: make((x, x), values),
        lambda: make((x[:2],), values),
        lambda: make((), values),
        lambda: f(bnp.ones((2, 3))),
    )
    wrong(NotImplementedError, lambda: make((x,), values, bounds_error=True))


def test_what_segments_refuse_and_warn_of():
    x, signal = bnp.ones(16), bs.signal
    with pytest.warns(UserWarning, match="nperseg=32"):
        assert signal.welch(x, nperseg=32)[1].shape == (9,)
    with pytest.warns(UserWarning, match="two-sided"):
        assert signal.welch(x + 0j, nperseg=8)[1].shape == (8,)
    wrong(
        ValueError,
        lambda: signal.stft(x, nperseg=0),
        lambda: signal.stft(x, nperseg=8, noverlap=8),
        lambda: signal.stft(x, nperseg=8, nfft=4),
        lambda: signal.stft(x, window=x[:4], nperseg=8),
        lambda: signal.stft(x, nperseg=8, boundary="round"),
        lambda: signal.stft(x[:0], nperseg=8),
        lambda: signal.welch(x, scaling="x"),
        lambda: signal.welch(x, nperseg=8, average="mode"),
        lambda: signal.istft(x),
        lambda: signal.istft(bnp.ones((3, 4)), time_axis=0, freq_axis=-2),
        lambda: signal.detrend(x, bp=[20]),
        lambda: signal.detrend(x, type="cubic"),
        lambda: signal.convolve(x, bnp.ones((2, 2))),
        lambda: signal.convolve(x, x[:0]),
        lambda: signal.convolve(x, x, mode="half"),
        lambda: signal.convolve(bnp.ones((2, 3)), bnp.ones((3, 2)), mode="valid"),
        lambda: signal.convolve2d(x, x),
        lambda: signal.convolve2d(bnp.eye(2), bnp.eye(2), boundary="round"),
        lambda: signal.fftconvolve(bnp.ones((2, 3)), bnp.ones((3, 3)), axes=1),
        lambda: bs.fft.dct(x, type=5),
        lambda: bs.fft.dct(x, norm="half"),
        lambda: bs.fft.dct(x[:1], type=1),
        lambda: bs.fft.dctn(bnp.eye(2), s=[2, 2], axes=[0]),
        lambda: bs.cluster.vq.vq(bnp.eye(2), bnp.eye(3)),
        lambda: bs.ndimage.map_coordinates(x, [], order=1),
        lambda: bs.ndimage.map_coordinates(x, [x], order=1, mode="grid"),
    )
    wrong(NotImplementedError, lambda: bs.ndimage.map_coordinates(x, [x], order=3))


def test_a_signal_survives_stft_and_istft():
    x = F(2, 50)
    for options in (dict(nperseg=8), dict(nperseg=9, noverlap=6), dict(nperseg=8, nfft=16)):
        z = bs.signal.stft(x, **options)[2]
        times, found = bs.signal.istft(z, **options)
        same(found[:, :50], x, 1e-5, str(options))
        assert times.shape == found.shape[-1:]


def test_sampling_rate_and_window_may_be_traced():
    x, w = F(20), abs(F(8))
    found = bv.jit(lambda x, fs, w: bs.signal.welch(x, fs, w))(x, 2.0, w)
    same(found, REF.signal.welch(x.astype(float), 2.0, w.astype(float)), 1e-5, "welch")
    slope = bv.grad(lambda fs: bs.signal.welch(x, fs, w)[1].sum())(2.0)
    same(slope, -found[1].sum() / 2, 1e-5, "density falls with the rate")


# -- rotations -----------------------------------------------------------------------------------


def test_rotations_are_pytrees():
    R = bs.spatial.transform.Rotation
    r = R.from_quat(QUATS)
    turned = bv.jit(lambda r, v: (r * r.inv(), r.apply(v)))(r, F(3))
    same(turned[0].magnitude(), np.zeros(6), 1e-3, "inverse")
    assert isinstance(turned[0], R) and len(r) == 6 and not r.single and r[0].single
    same(bv.vmap(lambda r: r.as_rotvec())(r), r.as_rotvec(), 1e-6, "vmap")
    slope = bv.grad(lambda r: r.as_matrix()[..., 0, 1].sum())(r)
    assert isinstance(slope, R) and slope.quat.shape == (6, 4)


def test_rotation_vectors_are_differentiable_at_zero():
    R = bs.spatial.transform.Rotation
    for v in (bnp.zeros(3), bnp.array([1e-3, 0.0, 2e-3]), bnp.array([0.3, -0.2, 0.1])):
        same(bv.jacrev(lambda v: R.from_rotvec(v).as_rotvec())(v), np.eye(3), 1e-4, "round trip")
    turn = bv.jacrev(lambda v: R.from_rotvec(v).apply(bnp.array([1.0, 0.0, 0.0])))(bnp.zeros(3))
    near(turn, [[0, 0, 0], [0, 0, 1], [0, -1, 0]], 1e-6, "cross product")


@pytest.mark.parametrize("seq", SEQS)
def test_gimbal_lock_gives_angles_of_the_same_rotation(seq):
    R = bs.spatial.transform.Rotation
    middle = (0, 180) if seq[0] == seq[2] else (90, -90)
    for dtype in (bnp.float32, bnp.float64):
        angles = bnp.array([[30.0, m, 50.0] for m in middle], dtype=dtype)
        r = R.from_euler(seq, angles, degrees=True)
        found = r.as_euler(seq, degrees=True)
        assert found.dtype == dtype and bnp.abs(found[:, 2]).max() == 0
        same(R.from_euler(seq, found, degrees=True).as_matrix(), r.as_matrix(), 2e-3, seq)


def test_random_rotations_have_no_preferred_direction():
    R = bs.spatial.transform.Rotation
    r = R.random(bv.random.key(0), 4000)
    same((r.quat**2).sum(-1), np.ones(4000), 1e-5, "unit")
    assert bnp.abs(r.apply(bnp.array([1.0, 0.0, 0.0])).mean(0)).max() < 0.05
    assert bnp.abs((r.quat[:, :, None] * r.quat[:, None]).mean(0) - bnp.eye(4) / 4).max() < 0.02
    assert R.random(bv.random.key(1)).single


def test_what_rotations_refuse():
    R, S = bs.spatial.transform.Rotation, bs.spatial.transform.Slerp
    one, many = R.identity(), R.identity(3)
    wrong(TypeError, lambda: len(one), lambda: one[0], lambda: S.init(bnp.arange(3), 3))
    wrong(
        ValueError,
        lambda: R.from_euler("xx", bnp.ones(2)),
        lambda: R.from_euler("xY", bnp.ones(2)),
        lambda: R.from_euler("xyzx", bnp.ones(4)),
        lambda: R.from_euler("xyz", bnp.ones(2)),
        lambda: one.as_euler("xy"),
        lambda: R.from_quat(bnp.ones(3)),
        lambda: R.from_matrix(bnp.ones((3, 2))),
        lambda: many.mean(bnp.ones(2)),
        lambda: S.init(bnp.arange(2), many),
        lambda: S.init(bnp.array([0, 2, 1]), many),
        lambda: S.init(bnp.arange(3), many)(bnp.ones((2, 2))),
    )
