"""The Python array API standard 2024.12: signatures, special values, behaviour by section."""

import inspect
import math
import operator

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as xp

# Names and signatures as the standard has them (`Array.` for methods).
UNARY = """
abs acos acosh asin asinh atan atanh bitwise_invert ceil conj cos cosh exp expm1 floor imag
isfinite isinf isnan log log10 log1p log2 logical_not matrix_transpose negative nonzero positive
real reciprocal round sign signbit sin sinh sqrt square tan tanh trunc unique_all unique_counts
unique_inverse unique_values linalg.det linalg.eigh linalg.eigvalsh linalg.inv
linalg.matrix_transpose linalg.slogdet linalg.svdvals
""".split()
BINARY = """
add atan2 bitwise_and bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor copysign
divide equal floor_divide greater greater_equal hypot less less_equal logaddexp logical_and
logical_or logical_xor matmul maximum minimum multiply nextafter not_equal pow remainder subtract
linalg.matmul linalg.outer linalg.solve
""".split()
METHODS = """
__abs__ __bool__ __complex__ __dlpack_device__ __float__ __index__ __int__ __invert__ __neg__
__pos__
""".split()
OPERATORS = """
__add__ __and__ __floordiv__ __lshift__ __matmul__ __mod__ __mul__ __or__ __pow__ __radd__
__rand__ __rfloordiv__ __rlshift__ __rmatmul__ __rmod__ __rmul__ __ror__ __rpow__ __rrshift__
__rshift__ __rsub__ __rtruediv__ __rxor__ __sub__ __truediv__ __xor__
""".split()
OTHERS = """
__array_namespace_info__()
all(x, /, *, axis=None, keepdims=False)
any(x, /, *, axis=None, keepdims=False)
arange(start, /, stop=None, step=1, *, dtype=None, device=None)
argmax(x, /, *, axis=None, keepdims=False)
argmin(x, /, *, axis=None, keepdims=False)
argsort(x, /, *, axis=-1, descending=False, stable=True)
asarray(obj, /, *, dtype=None, device=None, copy=None)
astype(x, dtype, /, *, copy=True, device=None)
broadcast_arrays(*arrays)
broadcast_shapes(*shapes)
broadcast_to(x, /, shape)
can_cast(from_, to, /)
clip(x, /, min=None, max=None)
concat(arrays, /, *, axis=0)
count_nonzero(x, /, *, axis=None, keepdims=False)
cumulative_prod(x, /, *, axis=None, dtype=None, include_initial=False)
cumulative_sum(x, /, *, axis=None, dtype=None, include_initial=False)
diff(x, /, *, axis=-1, n=1, prepend=None, append=None)
empty(shape, *, dtype=None, device=None)
empty_like(x, /, *, dtype=None, device=None)
expand_dims(x, /, axis)
eye(n_rows, n_cols=None, /, *, k=0, dtype=None, device=None)
finfo(type, /)
flip(x, /, *, axis=None)
from_dlpack(x, /, *, device=None, copy=None)
full(shape, fill_value, *, dtype=None, device=None)
full_like(x, /, fill_value, *, dtype=None, device=None)
iinfo(type, /)
isdtype(dtype, kind)
isin(x1, x2, /, *, invert=False)
linspace(start, stop, /, num, *, dtype=None, device=None, endpoint=True)
max(x, /, *, axis=None, keepdims=False)
mean(x, /, *, axis=None, keepdims=False)
meshgrid(*arrays, indexing='xy')
min(x, /, *, axis=None, keepdims=False)
moveaxis(x, source, destination, /)
ones(shape, *, dtype=None, device=None)
ones_like(x, /, *, dtype=None, device=None)
permute_dims(x, /, axes)
prod(x, /, *, axis=None, dtype=None, keepdims=False)
repeat(x, repeats, /, *, axis=None)
reshape(x, /, shape, *, copy=None)
result_type(*arrays_and_dtypes)
roll(x, /, shift, *, axis=None)
searchsorted(x1, x2, /, *, side='left', sorter=None)
sort(x, /, *, axis=-1, descending=False, stable=True)
squeeze(x, /, axis)
stack(arrays, /, *, axis=0)
std(x, /, *, axis=None, correction=0.0, keepdims=False)
sum(x, /, *, axis=None, dtype=None, keepdims=False)
take(x, indices, /, *, axis=None)
take_along_axis(x, indices, /, *, axis=-1)
tensordot(x1, x2, /, *, axes=2)
tile(x, repetitions, /)
tril(x, /, *, k=0)
triu(x, /, *, k=0)
unstack(x, /, *, axis=0)
var(x, /, *, axis=None, correction=0.0, keepdims=False)
vecdot(x1, x2, /, *, axis=-1)
where(condition, x1, x2, /)
zeros(shape, *, dtype=None, device=None)
zeros_like(x, /, *, dtype=None, device=None)
linalg.cholesky(x, /, *, upper=False)
linalg.cross(x1, x2, /, *, axis=-1)
linalg.diagonal(x, /, *, offset=0)
linalg.matrix_norm(x, /, *, keepdims=False, ord='fro')
linalg.matrix_power(x, n, /)
linalg.matrix_rank(x, /, *, rtol=None)
linalg.pinv(x, /, *, rtol=None)
linalg.qr(x, /, *, mode='reduced')
linalg.svd(x, /, *, full_matrices=True)
linalg.tensordot(x1, x2, /, *, axes=2)
linalg.trace(x, /, *, offset=0, dtype=None)
linalg.vecdot(x1, x2, /, *, axis=-1)
linalg.vector_norm(x, /, *, axis=None, keepdims=False, ord=2)
fft.fft(x, /, *, n=None, axis=-1, norm='backward')
fft.ifft(x, /, *, n=None, axis=-1, norm='backward')
fft.fftn(x, /, *, s=None, axes=None, norm='backward')
fft.ifftn(x, /, *, s=None, axes=None, norm='backward')
fft.rfft(x, /, *, n=None, axis=-1, norm='backward')
fft.irfft(x, /, *, n=None, axis=-1, norm='backward')
fft.rfftn(x, /, *, s=None, axes=None, norm='backward')
fft.irfftn(x, /, *, s=None, axes=None, norm='backward')
fft.hfft(x, /, *, n=None, axis=-1, norm='backward')
fft.ihfft(x, /, *, n=None, axis=-1, norm='backward')
fft.fftfreq(n, /, *, d=1.0, dtype=None, device=None)
fft.rfftfreq(n, /, *, d=1.0, dtype=None, device=None)
fft.fftshift(x, /, *, axes=None)
fft.ifftshift(x, /, *, axes=None)
Array.__array_namespace__(self, /, *, api_version=None)
Array.__dlpack__(self, /, *, stream=None, max_version=None, dl_device=None, copy=None)
Array.__getitem__(self, key, /)
Array.to_device(self, device, /, stream=None)
""".strip().splitlines()

SAME_AS_NONE = ("backward", 1, 0.0)  # defaults that None stands for here


def found(name):
    return operator.attrgetter(name.removeprefix("Array."))(bv.Array if "Array." in name else xp)


def problems(name, signature):
    """What of the standard's signature ours cannot be called with."""
    wanted = inspect.signature(eval(f"lambda {signature}: 0")).parameters.values()
    mine = list(inspect.signature(found(name)).parameters.values())
    plain, keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    at_place = [p for p in mine if p.kind in (inspect.Parameter.POSITIONAL_ONLY, plain)]
    by_name = {p.name: p for p in mine if p.kind in (plain, keyword)}
    star = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in mine)
    out, used = [], set()
    for i, p in enumerate(wanted):
        if p.kind is inspect.Parameter.VAR_POSITIONAL:
            out += [] if star else [f"takes no *{p.name}"]
            continue
        options = []
        if p.kind is not keyword:
            if i >= len(at_place) and not star:
                out.append(f"{p.name} is not at place {i}")
            options += at_place[i : i + 1]
        if p.kind is not inspect.Parameter.POSITIONAL_ONLY and p.name != "self":
            if p.name not in by_name:
                out.append(f"no {p.name}=")
            else:
                options.append(by_name[p.name])
        for q in options:
            used.add(q.name)
            same = q.default == p.default or (q.default is None and p.default in SAME_AS_NONE)
            if p.default is not inspect.Parameter.empty and not same:
                out.append(f"{p.name}={q.default!r}, not {p.default!r}")
    needed = [p for p in mine if p.default is inspect.Parameter.empty and p.kind.value != 2]
    return out + [f"needs {p.name}" for p in needed if p.name not in used and p.kind.value != 4]


def test_signatures():
    table = [(n, "x, /") for n in UNARY] + [(n, "x1, x2, /") for n in BINARY]
    table += [(f"Array.{n}", "self, /") for n in METHODS]
    table += [(f"Array.{n}", "self, other, /") for n in OPERATORS]
    for row in OTHERS:
        name, _, rest = row.partition("(")
        table.append((name, rest[:-1]))
    wrong = {n: p for n, s in table if (p := problems(n, s))}
    assert wrong == {"Array.to_device": ["stream is not at place 2"]}
    assert len(table) > 200
    for name in ("T", "device", "dtype", "mT", "ndim", "shape", "size"):
        assert isinstance(inspect.getattr_static(bv.Array, name), property)
    assert (xp.e, xp.pi, xp.newaxis) == (math.e, math.pi, None)
    assert math.isnan(xp.nan) and xp.inf == math.inf


# -- special values --------------------------------------------------------------------------------

PI = math.pi
INF, NAN = math.inf, math.nan
FINITE = (-3.5, -2.0, -1.0, -0.5, 0.5, 1.0, 2.0, 3.5)
EACH = (*FINITE, 0.0, -0.0, INF, -INF, NAN)


def cases(*pairs):
    return [*pairs, (NAN, NAN)]


def odd(*pairs):
    """Cases that also hold with both signs turned."""
    return cases(*pairs, *[(-a, -b) for a, b in pairs])


UNARY_CASES = {
    "abs": cases((-0.0, 0.0), (-INF, INF), (INF, INF)),
    "acos": cases((2.0, NAN), (-2.0, NAN), (1.0, 0.0), (INF, NAN)),
    "acosh": cases((0.5, NAN), (1.0, 0.0), (INF, INF), (-INF, NAN)),
    "asin": [*odd((0.0, 0.0)), (2.0, NAN), (-2.0, NAN)],
    "asinh": odd((0.0, 0.0), (INF, INF)),
    "atan": odd((0.0, 0.0), (INF, PI / 2)),
    "atanh": [*odd((0.0, 0.0), (1.0, INF)), (2.0, NAN), (-2.0, NAN)],
    "ceil": [*odd((0.0, 0.0), (INF, INF), (2.0, 2.0)), (-0.5, -0.0)],
    "cos": cases((0.0, 1.0), (-0.0, 1.0), (INF, NAN), (-INF, NAN)),
    "cosh": cases((0.0, 1.0), (-0.0, 1.0), (INF, INF), (-INF, INF)),
    "exp": cases((0.0, 1.0), (-0.0, 1.0), (INF, INF), (-INF, 0.0)),
    "expm1": [*cases((0.0, 0.0), (-0.0, -0.0), (INF, INF)), (-INF, -1.0)],
    "floor": odd((0.0, 0.0), (INF, INF), (2.0, 2.0)),
    "log": cases((-1.0, NAN), (0.0, -INF), (-0.0, -INF), (1.0, 0.0), (INF, INF)),
    "log10": cases((-1.0, NAN), (0.0, -INF), (-0.0, -INF), (1.0, 0.0), (INF, INF)),
    "log1p": cases((-2.0, NAN), (-1.0, -INF), (0.0, 0.0), (-0.0, -0.0), (INF, INF)),
    "log2": cases((-1.0, NAN), (0.0, -INF), (-0.0, -INF), (1.0, 0.0), (INF, INF)),
    "negative": odd((0.0, -0.0), (INF, -INF)),
    "reciprocal": odd((0.0, INF), (INF, 0.0)),
    "round": odd((0.0, 0.0), (INF, INF), (0.5, 0.0), (1.5, 2.0), (2.5, 2.0)),
    "sign": odd((0.5, 1.0), (INF, 1.0)),
    "sin": [*odd((0.0, 0.0)), (INF, NAN), (-INF, NAN)],
    "sinh": odd((0.0, 0.0), (INF, INF)),
    "sqrt": cases((-1.0, NAN), (0.0, 0.0), (-0.0, -0.0), (INF, INF)),
    "tan": [*odd((0.0, 0.0)), (INF, NAN), (-INF, NAN)],
    "tanh": odd((0.0, 0.0), (INF, 1.0)),
    "trunc": [*odd((0.0, 0.0), (INF, INF), (2.5, 2.0)), (-0.5, -0.0)],
    "signbit": [(0.0, 0.0), (-0.0, 1.0), (INF, 0.0), (-INF, 1.0), (2.0, 0.0), (-2.0, 1.0)],
    "isfinite": [(v, float(math.isfinite(v))) for v in EACH],
    "isinf": [(v, float(math.isinf(v))) for v in EACH],
    "isnan": [(v, float(math.isnan(v))) for v in EACH],
}


def ieee_divide(a, b):
    with np.errstate(all="ignore"):
        return float(np.float64(a) / np.float64(b))


BOTH = [(a, b) for a in EACH for b in EACH]
NANS = [(a, b, NAN) for a, b in BOTH if math.isnan(a) or math.isnan(b)]
POSITIVE, NEGATIVE = [v for v in FINITE if v > 0], [v for v in FINITE if v < 0]
ATAN2 = [
    *[(a, z, math.copysign(PI / 2, a)) for a in FINITE for z in (0.0, -0.0)],
    *[(z, b, z) for z in (0.0, -0.0) for b in (*POSITIVE, 0.0)],
    *[(z, b, math.copysign(PI, z)) for z in (0.0, -0.0) for b in (*NEGATIVE, -0.0)],
    *[(a, INF, math.copysign(0.0, a)) for a in FINITE],
    *[(a, -INF, math.copysign(PI, a)) for a in FINITE],
    *[(i, b, math.copysign(PI / 2, i)) for i in (INF, -INF) for b in (*FINITE, 0.0, -0.0)],
    *[(i, INF, math.copysign(PI / 4, i)) for i in (INF, -INF)],
    *[(i, -INF, math.copysign(3 * PI / 4, i)) for i in (INF, -INF)],
]
POW = [
    *[(a, z, 1.0) for a in EACH for z in (0.0, -0.0)],
    *[(1.0, b, 1.0) for b in EACH],
    *[(NAN, b, NAN) for b in (*FINITE, INF, -INF)],
    *[(a, NAN, NAN) for a in EACH if a != 1],
    *[(a, INF, INF if abs(a) > 1 else 1.0 if abs(a) == 1 else 0.0) for a in (*FINITE, 0.0)],
    *[(a, -INF, 0.0 if abs(a) > 1 else 1.0 if abs(a) == 1 else INF) for a in (*FINITE, 0.0)],
    *[(INF, b, INF if b > 0 else 0.0) for b in FINITE],
    (-INF, 3.0, -INF), (-INF, 2.0, INF), (-INF, 0.5, INF),
    (-INF, -3.0, -0.0), (-INF, -2.0, 0.0), (-INF, -0.5, 0.0),
    *[(0.0, b, 0.0 if b > 0 else INF) for b in FINITE],
    (-0.0, 3.0, -0.0), (-0.0, 2.0, 0.0), (-0.0, 0.5, 0.0),
    (-0.0, -3.0, -INF), (-0.0, -2.0, INF), (-0.0, -0.5, INF),
    *[(a, b, NAN) for a in NEGATIVE for b in (0.5, -0.5, 3.5)],
]  # fmt: skip
ZERO_OVER = [
    *[(z, b, math.copysign(0.0, z * b)) for z in (0.0, -0.0) for b in FINITE],
    *[(z, y, NAN) for z in (0.0, -0.0) for y in (0.0, -0.0)],
]
BINARY_CASES = {
    "add": [(a, b, a + b) for a, b in BOTH],
    "subtract": [(a, b, a - b) for a, b in BOTH],
    "multiply": [(a, b, a * b) for a, b in BOTH],
    "divide": [(a, b, ieee_divide(a, b)) for a, b in BOTH],
    "atan2": NANS + ATAN2,
    "pow": POW,
    "floor_divide": [
        *NANS,
        *ZERO_OVER,
        *[(i, j, NAN) for i in (INF, -INF) for j in (INF, -INF)],
        *[(a, z, math.copysign(INF, a * math.copysign(1, z))) for a in FINITE for z in (0.0, -0.0)],
        *[(a, i, 0.0 if a * i > 0 else -1.0) for a in FINITE for i in (INF, -INF)],
    ],
    "remainder": [
        *NANS,
        *[(z, b, math.copysign(0.0, b)) for z in (0.0, -0.0) for b in FINITE],
        *[(a, z, NAN) for a in (*FINITE, 0.0, -0.0) for z in (0.0, -0.0)],
        *[(i, b, NAN) for i in (INF, -INF) for b in EACH],
        *[(a, i, a if a * i > 0 else i) for a in FINITE for i in (INF, -INF)],
    ],
    "hypot": [
        *[(i, b, INF) for i in (INF, -INF) for b in EACH],
        *[(a, i, INF) for i in (INF, -INF) for a in EACH],
        *[(z, b, abs(b)) for z in (0.0, -0.0) for b in EACH],
        *[(a, b, NAN) for a, b, _ in NANS if not (math.isinf(a) or math.isinf(b))],
    ],
    "logaddexp": [*NANS, *[(INF, b, INF) for b in EACH if b == b], (-INF, -INF, -INF)],
    "maximum": [*NANS, *[(a, b, max(a, b)) for a, b in BOTH if a == a and b == b and a != b]],
    "minimum": [*NANS, *[(a, b, min(a, b)) for a, b in BOTH if a == a and b == b and a != b]],
    "copysign": [(a, b, math.copysign(a, b)) for a, b in BOTH if b == b],
    "nextafter": [*NANS, *[(a, a, a) for a in EACH if a == a], (0.0, -0.0, -0.0), (-0.0, 0.0, 0.0)],
}  # fmt: skip


def same(name, args, got, want):
    """Equal values, with the sign of zero; NaN is NaN of any sign."""
    got, want = (np.asarray(v, np.float64) for v in (got, want))
    near = np.isclose(got, want, rtol=1e-6, atol=0, equal_nan=True)
    signs = (got != 0) | (np.signbit(got) == np.signbit(want)) | np.isnan(want)
    bad = np.flatnonzero(~(near & signs))
    listed = [(*[float(a[i]) for a in args], float(got[i]), float(want[i])) for i in bad[:8]]
    assert not listed, f"{name}: (operands, got, wanted) {listed}"


@pytest.mark.parametrize("how", ["eager", "compiled"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_special_values(how, dtype):
    tables = {**UNARY_CASES, **BINARY_CASES}
    columns = {n: [np.array(c) for c in zip(*rows, strict=True)] for n, rows in tables.items()}
    operands = {n: [xp.asarray(c, dtype) for c in cs[:-1]] for n, cs in columns.items()}

    def every(operands):
        return {n: getattr(xp, n)(*args) for n, args in operands.items()}

    results = (bv.jit(every) if how == "compiled" else every)(operands)
    for name, (*args, want) in columns.items():
        same(name, args, results[name], want)


def test_operators_have_the_same_special_values():
    for name, op in [("add", operator.add), ("subtract", operator.sub), ("pow", operator.pow),
                     ("multiply", operator.mul), ("divide", operator.truediv),
                     ("floor_divide", operator.floordiv), ("remainder", operator.mod)]:  # fmt: skip
        *args, want = (np.array(c) for c in zip(*BINARY_CASES[name], strict=True))
        same(name, args, op(*[xp.asarray(a) for a in args]), want)
        for value in (2.0, -0.5, 0.0):  # a Python number on either side
            for side in (0, 1):
                rows = [r for r in BINARY_CASES[name] if str(r[side]) == str(value)]
                if rows:
                    other = xp.asarray([r[1 - side] for r in rows])
                    got = op(other, value) if side else op(value, other)
                    same(name, np.array(rows).T[:2], got, [r[2] for r in rows])


# -- the namespace and its dtypes ------------------------------------------------------------------


def test_namespace():
    x = xp.ones(2)
    assert x.__array_namespace__() is xp and x.__array_namespace__(api_version="2024.12") is xp
    with pytest.raises(ValueError, match="2024.12"):
        x.__array_namespace__(api_version="1999.01")
    assert xp.__array_api_version__ == "2024.12"
    info = xp.__array_namespace_info__()
    assert info.capabilities() == {
        "boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64,
    }  # fmt: skip
    assert info.default_device() in info.devices() and x.device == info.default_device()
    assert info.default_dtypes(device=None) == {
        "real floating": xp.float32, "complex floating": xp.complex64,
        "integral": xp.int32, "indexing": xp.int32,
    }  # fmt: skip
    ints = {f"int{n}" for n in (8, 16, 32, 64)}
    assert set(info.dtypes(kind="signed integer")) == ints
    assert set(info.dtypes(kind=("bool", "complex floating"))) == {
        "bool",
        "complex64",
        "complex128",
    }
    assert len(info.dtypes()) == 13
    for name, dtype in info.dtypes().items():
        assert getattr(xp, name) == dtype == xp.empty(0, dtype=dtype).dtype
        assert xp.isdtype(dtype, dtype) and xp.isdtype(dtype, (name, "bool"))


def test_dtypes_and_limits():
    assert xp.finfo(xp.float32).bits == 32 and xp.finfo(xp.ones(1)).dtype == xp.float32
    for field in ("bits", "eps", "max", "min", "smallest_normal"):
        assert isinstance(float(getattr(xp.finfo(xp.complex64), field)), float)
    assert (xp.iinfo(xp.uint8).max, xp.iinfo(xp.arange(2)).bits) == (255, 32)
    assert xp.iinfo(xp.int16).dtype == xp.int16
    for bad in (xp.float32, xp.bool):
        with pytest.raises((TypeError, ValueError)):
            xp.iinfo(bad)
    order = ["int8", "int16", "int32", "int64"]
    for i, a in enumerate(order):
        for j, b in enumerate(order):
            assert xp.result_type(getattr(xp, a), xp.ones(1, dtype=b)) == order[max(i, j)]
    for a, b, c in [("uint8", "int8", "int16"), ("uint8", "int32", "int32"),
                    ("float32", "complex64", "complex64"), ("float64", "complex64", "complex128"),
                    ("float32", "float64", "float64")]:  # fmt: skip
        assert xp.result_type(a, b) == c == xp.result_type(b, a)
    assert xp.result_type(xp.ones(1, dtype="uint8"), 1) == "uint8"
    assert xp.can_cast(xp.int8, xp.int16) and xp.can_cast(xp.ones(1, dtype="int8"), xp.int16)
    assert not xp.can_cast(xp.int16, xp.int8)


# -- creation, devices, exchange -------------------------------------------------------------------


def test_creation_on_a_device():
    here = xp.__array_namespace_info__().default_device()
    like = xp.ones((2, 3), dtype=xp.int8)
    made = [
        xp.zeros(3, device=here), xp.ones((2,), dtype=xp.bool, device=here),
        xp.empty((0, 2), device=here), xp.full((2,), 7, device=here),
        xp.arange(5, device=here), xp.linspace(0, 1, 5, device=here),
        xp.eye(3, 4, k=1, device=here),
        xp.asarray([1, 2], device=here), xp.zeros_like(like, device=here),
        xp.ones_like(like, dtype=xp.float32, device=here), xp.empty_like(like, device=here),
        xp.full_like(like, 3, device=here), xp.astype(like, xp.int32, device=here),
        xp.fft.fftfreq(4, device=here), xp.fft.rfftfreq(4, device=here),
        xp.from_dlpack(np.ones(2), device=here), like.to_device(here), xp.zeros(2, device="cpu"),
    ]  # fmt: skip
    assert all(m.device == here for m in made)
    assert xp.full((2,), True).dtype == xp.bool and xp.full((1,), 1j).dtype == xp.complex64
    assert xp.full((1,), 3).dtype == xp.int32 and xp.full((1,), 3.0).dtype == xp.float32
    assert bv.jit(lambda: xp.zeros(2, device=here))().tolist() == [0, 0]
    with pytest.raises(TypeError, match="device must be"):
        xp.zeros(2, device=3)


def test_asarray_copies_when_told():
    x = xp.ones(2)
    assert xp.asarray(x) is x and xp.asarray(x, copy=False) is x
    y = xp.asarray(x, copy=True)
    assert y is not x and not np.shares_memory(np.asarray(x), np.asarray(y))
    with pytest.raises(ValueError, match="copy=False"):
        xp.asarray(x, dtype=xp.int32, copy=False)
    with pytest.raises(ValueError, match="copy=False"):
        xp.asarray([1, 2], copy=False)
    z = xp.astype(x, xp.float32, copy=False)
    assert z is x and xp.astype(x, xp.int32).dtype == xp.int32
    assert xp.reshape(x, (2, 1), copy=True).shape == (2, 1)


def test_dlpack():
    x = xp.arange(6).reshape(2, 3)
    assert x.__dlpack_device__() == (1, 0)
    for options in ({}, {"max_version": (1, 0)}, {"copy": True}, {"dl_device": (1, 0)}):
        assert "dltensor" in repr(x.__dlpack__(**options))
    assert np.from_dlpack(x).tolist() == x.tolist() == xp.from_dlpack(x, copy=True).tolist()
    own = np.arange(3.0)
    y = xp.from_dlpack(own)
    own[0] = 9
    assert y.tolist() == [0, 1, 2] and y.dtype == xp.float64
    with pytest.raises(BufferError, match="copied"):
        xp.from_dlpack(own, copy=False)


# -- the array object ------------------------------------------------------------------------------


def test_scalars_and_operators():
    assert operator.index(xp.asarray(3)) == 3 and complex(xp.asarray(1 + 2j)) == 1 + 2j
    assert (int(xp.asarray(2.9)), float(xp.asarray(True)), bool(xp.asarray(0))) == (2, 1.0, False)
    for bad in (lambda: int(xp.asarray(1j)), lambda: operator.index(xp.asarray(1.0)),
                lambda: bool(xp.ones(2)), lambda: float(xp.asarray(1j))):  # fmt: skip
        with pytest.raises((TypeError, ValueError)):
            bad()
    x = xp.asarray([1, 2, 3], dtype=xp.uint8)
    y = x
    y += 1
    y *= 2
    y |= 1
    y <<= 1
    assert y.tolist() == [10, 14, 18] and y.dtype == xp.uint8 and x.tolist() == [1, 2, 3]
    m = xp.eye(2)
    m @= xp.asarray([[1.0, 2.0], [3.0, 4.0]])
    m -= 1
    m /= 2
    m **= 2
    m //= 1
    m %= 2
    assert m.shape == (2, 2) and m.dtype == xp.float32
    assert (2 - x).tolist() == [1, 0, 255] and (2**x).tolist() == [2, 4, 8]
    assert (x > 1.5).tolist() == [False, True, True] and (1 == x).tolist() == [True, False, False]
    assert (~x).tolist() == [254, 253, 252] and (-xp.asarray([1])).tolist() == [-1]
    assert (x & 1).tolist() == [1, 0, 1] and (1 << x).tolist() == [2, 4, 8]
    with pytest.raises(TypeError, match="x.at"):
        x[0] = 1


def test_indexing():
    x = xp.arange(24).reshape(2, 3, 4)
    host = np.arange(24).reshape(2, 3, 4)
    rows = xp.asarray([0, 1, 1])
    for index, same in [
        (np.s_[1], None), (np.s_[-1, ..., 2], None), (np.s_[:, None, ::-1], None),
        (np.s_[0, 1:1], None), (np.s_[..., ::2], None), ((rows, 2), ([0, 1, 1], 2)),
        ((rows, xp.asarray([2, 0, 1])), ([0, 1, 1], [2, 0, 1])), (x > 5, host > 5), ((), None),
        ((slice(None), xp.asarray([True, False, True])), (slice(None), [True, False, True])),
    ]:  # fmt: skip
        np.testing.assert_array_equal(np.asarray(x[index]), host[index if same is None else same])
    with pytest.raises(IndexError):
        x[2]


# -- functions, section by section -----------------------------------------------------------------


def test_manipulation():
    x = xp.arange(6).reshape(2, 3)
    assert [v.tolist() for v in xp.unstack(x, axis=1)] == [[0, 3], [1, 4], [2, 5]]
    assert xp.repeat(x, 2, axis=0).shape == (4, 3) and xp.repeat(x, 2).shape == (12,)
    assert xp.repeat(x, xp.asarray([1, 0, 2]), axis=1).tolist() == [[0, 2, 2], [3, 5, 5]]
    assert xp.concat([x, xp.ones((1, 3))]).dtype == xp.float32
    assert xp.concat([x, x], axis=None).shape == (12,) and xp.concat([x], axis=-1).shape == (2, 3)
    assert xp.stack([x, x], axis=-1).shape == (2, 3, 2)
    assert xp.flip(x).tolist() == [[5, 4, 3], [2, 1, 0]]
    assert xp.roll(x, (1, 1), axis=(0, 1)).tolist() == [[5, 3, 4], [2, 0, 1]]
    assert xp.tile(x, (2, 1, 2)).shape == (2, 2, 6) and xp.tile(x, ()).shape == (2, 3)
    assert xp.moveaxis(xp.ones((2, 3, 4)), (0, 1), (-1, -2)).shape == (4, 3, 2)
    assert xp.permute_dims(x, (1, 0)).shape == (3, 2) and xp.expand_dims(x, axis=-1).ndim == 3
    assert [a.shape for a in xp.broadcast_arrays(x, xp.ones((3, 1, 1)))] == [(3, 2, 3)] * 2
    assert xp.broadcast_shapes((2, 1), (3,)) == (2, 3)
    for bad in (
        lambda: xp.squeeze(x, 0),
        lambda: xp.expand_dims(x, axis=5),
        lambda: xp.flip(x, axis=3),
    ):
        with pytest.raises((ValueError, IndexError)):
            bad()


def test_searching_sorting_sets():
    x = xp.asarray([3.0, xp.nan, -0.0, 0.0, xp.nan, 3.0])
    values, indices, inverse, counts = xp.unique_all(x)
    assert xp.isnan(values).tolist()[-2:] == [True, True] and counts.tolist() == [2, 2, 1, 1]
    assert xp.take(values, inverse).shape == (6,) and indices.dtype == xp.int32
    assert xp.unique_counts(x).counts.tolist() == [2, 2, 1, 1]
    assert xp.unique_inverse(xp.asarray([[2, 1], [1, 2]])).inverse_indices.tolist() == [
        [1, 0],
        [0, 1],
    ]
    assert xp.unique_values(xp.asarray([2, 1, 2])).tolist() == [1, 2]
    y = xp.asarray([[3, 1, 2], [1, 1, 0]])
    assert xp.sort(y, descending=True).tolist() == [[3, 2, 1], [1, 1, 0]]
    assert xp.argsort(y, descending=True).tolist() == [[0, 2, 1], [0, 1, 2]]
    assert xp.sort(y, axis=0, stable=False).tolist() == [[1, 1, 0], [3, 1, 2]]
    a = xp.asarray([5, 1, 3])
    found = xp.searchsorted(a, xp.asarray([[0, 1], [3, 9]]), side="right", sorter=xp.argsort(a))
    assert found.tolist() == [[0, 1], [2, 3]] and found.dtype == xp.int32
    assert xp.argmax(y, axis=1, keepdims=True).tolist() == [[0], [0]] and int(xp.argmin(y)) == 5
    assert [i.tolist() for i in xp.nonzero(y)] == [[0, 0, 0, 1, 1], [0, 1, 2, 0, 1]]
    assert int(xp.count_nonzero(x)) == 4
    assert xp.count_nonzero(y, axis=1, keepdims=True).tolist() == [[3], [2]]
    assert xp.where(y > 1, y, 0).tolist() == [[3, 0, 2], [0, 0, 0]]
    assert xp.take_along_axis(y, xp.argsort(y, axis=-1)).tolist() == xp.sort(y).tolist()
    assert xp.take(y, xp.asarray([2, 0]), axis=1).tolist() == [[2, 3], [0, 1]]
    with pytest.raises(ValueError):
        xp.argmax(xp.zeros((0,)))


def test_statistics_and_sums():
    x = xp.asarray([[1, 2], [3, 4]], dtype=xp.int8)
    for name in ("sum", "prod", "cumulative_sum", "cumulative_prod"):
        f = getattr(xp, name)
        assert (
            f(x, axis=1).dtype == xp.int32 and f(xp.astype(x, xp.uint16), axis=0).dtype == xp.uint32
        )
        assert f(x, axis=0, dtype=xp.float32).dtype == xp.float32
    assert xp.cumulative_sum(x, axis=1, include_initial=True).tolist() == [[0, 1, 3], [0, 3, 7]]
    assert xp.cumulative_prod(x, axis=0, include_initial=True).tolist() == [[1, 1], [1, 2], [3, 8]]
    assert xp.cumulative_sum(xp.zeros((0,)), include_initial=True).tolist() == [0]
    assert xp.diff(x, axis=0, prepend=xp.zeros((1, 2), dtype=xp.int8)).tolist() == [[1, 2], [2, 2]]
    assert xp.diff(x, n=1, append=x).shape == (2, 3)
    y = xp.asarray([1.0, 2.0, 4.0])
    assert math.isclose(float(xp.var(y, correction=1)), np.var([1, 2, 4], ddof=1), rel_tol=1e-6)
    assert math.isclose(float(xp.std(y, correction=0.5)), np.std([1, 2, 4], ddof=0.5), rel_tol=1e-6)
    for value in (
        xp.var(y, correction=3),
        xp.mean(xp.zeros((0,))),
        xp.max(xp.asarray([1, xp.nan])),
    ):
        assert not math.isfinite(float(value))
    assert (float(xp.sum(xp.zeros((0,)))), float(xp.prod(xp.zeros((0,))))) == (0, 1)
    assert bool(xp.all(xp.zeros((0,)))) and not bool(xp.any(xp.zeros((0,))))
    assert bool(xp.any(xp.asarray([xp.nan]))) and xp.all(x, axis=(0, 1), keepdims=True).shape == (
        1,
        1,
    )


def test_linear_algebra():
    a = xp.asarray([[4.0, 1.0], [1.0, 3.0]])
    batch = xp.stack([a, 2 * a])
    host = np.asarray(batch)
    la = xp.linalg
    close = lambda got, want: np.testing.assert_allclose(
        np.asarray(got), want, rtol=2e-5, atol=1e-5
    )
    close(la.cholesky(batch, upper=True), np.linalg.cholesky(host).transpose(0, 2, 1))
    close(la.det(batch), np.linalg.det(host))
    close(la.inv(batch) @ batch, np.stack([np.eye(2)] * 2))
    close(la.solve(batch, xp.ones((2, 2, 1))), np.linalg.solve(host, np.ones((2, 2, 1))))
    close(la.solve(a, xp.ones(2)), np.linalg.solve(host[0], np.ones(2)))
    values, vectors = la.eigh(batch)
    close(vectors @ (values[..., None] * vectors.mT), host)
    assert la.eigh(a).eigenvalues.shape == (2,) and la.slogdet(a).logabsdet.shape == ()
    assert la.qr(a, mode="complete").Q.shape == (2, 2) and la.svd(a).S.shape == (2,)
    u, s, vh = la.svd(xp.ones((3, 2)), full_matrices=False)
    assert (u.shape, s.shape, vh.shape) == ((3, 2), (2,), (2, 2))
    close(la.svdvals(a), np.linalg.svd(host[0])[1])
    close(la.matrix_norm(batch, keepdims=True), np.linalg.norm(host, axis=(1, 2), keepdims=True))
    for order in (1, -1, 2, -2, math.inf, -math.inf, "fro", "nuc"):
        close(la.matrix_norm(a, ord=order), np.linalg.norm(host[0], order))
    for order in (0, 1, 2, 3.5, math.inf, -math.inf):
        close(la.vector_norm(batch, axis=(0, 2), ord=order, keepdims=True),
              np.linalg.vector_norm(host, axis=(0, 2), ord=order, keepdims=True))  # fmt: skip
    close(la.matrix_power(a, -2), np.linalg.matrix_power(host[0], -2))
    assert la.matrix_rank(batch, rtol=1e-3).tolist() == [2, 2] and la.pinv(a, rtol=1e-3).shape == (
        2,
        2,
    )
    close(la.diagonal(batch, offset=1), np.diagonal(host, 1, -2, -1))
    close(la.trace(batch, offset=-1, dtype=xp.float64), [1.0, 2.0])
    close(
        la.cross(xp.eye(3), xp.ones((3, 3)), axis=0), np.cross(np.eye(3), np.ones((3, 3)), axis=0)
    )
    close(la.outer(xp.arange(2), xp.arange(3)), np.outer(range(2), range(3)))
    close(xp.vecdot(xp.ones((2, 3)), xp.arange(3)), [3, 3])
    assert int(xp.vecdot(xp.asarray([1j]), xp.asarray([1j])).real) == 1
    close(xp.tensordot(batch, a, axes=((2,), (0,))), np.tensordot(host, host[0], ((2,), (0,))))
    assert xp.matmul(xp.ones(2), batch).shape == (2, 2) and (batch @ xp.ones(2)).shape == (2, 2)


def test_fourier():
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    z = (x + 1j * x[::-1]).astype(np.complex64)
    for name, v in [("fft", z), ("ifft", z), ("rfft", x), ("irfft", z), ("hfft", z), ("ihfft", x)]:
        for norm in ("backward", "ortho", "forward"):
            got = getattr(xp.fft, name)(xp.asarray(v), n=5, axis=0, norm=norm)
            np.testing.assert_allclose(got, getattr(np.fft, name)(v, 5, 0, norm), atol=2e-5)
    for name, v in [("fftn", z), ("ifftn", z), ("rfftn", x), ("irfftn", z)]:
        got = getattr(xp.fft, name)(xp.asarray(v), s=(4, 3), axes=(0, 1), norm="ortho")
        np.testing.assert_allclose(
            got, getattr(np.fft, name)(v, (4, 3), (0, 1), "ortho"), atol=2e-5
        )
    assert xp.fft.fft(xp.asarray(z)).dtype == xp.complex64
    assert xp.fft.fftshift(xp.arange(4), axes=0).tolist() == [2, 3, 0, 1]
    assert xp.fft.rfftfreq(4, d=0.5, dtype=xp.float64).dtype == xp.float64


def test_elementwise_rest():
    x = xp.asarray([-2.5, 0.0, 7.0])
    assert xp.clip(x, min=-1).tolist() == [-1, 0, 7] and xp.clip(x, 0, max=5).tolist() == [0, 0, 5]
    assert xp.clip(x, -1, 1).tolist() == [-1, 0, 1] and xp.clip(x).tolist() == x.tolist()
    assert xp.clip(xp.asarray([1, 2], dtype=xp.int8), 0, 1).dtype == xp.int8
    assert xp.bitwise_left_shift(xp.asarray([1]), 3).tolist() == [8]
    assert xp.bitwise_invert(xp.asarray([True])).tolist() == [False]
    assert xp.floor(xp.asarray([3])).dtype == xp.int32 == xp.round(xp.asarray([3])).dtype
    assert xp.conj(xp.asarray([1 + 2j])).tolist() == [1 - 2j] and xp.real(xp.ones(1)).tolist() == [
        1
    ]
    assert xp.imag(xp.asarray([1 + 2j])).dtype == xp.float32 == xp.abs(xp.asarray([1j])).dtype
    assert xp.sign(xp.asarray([3 + 4j])).tolist()[0] == pytest.approx(0.6 + 0.8j)
    assert xp.reciprocal(xp.asarray([4.0])).tolist() == [0.25]
    compare = {"less": "lt", "less_equal": "le", "greater": "gt", "greater_equal": "ge",
               "equal": "eq", "not_equal": "ne"}  # fmt: skip
    for name, short in compare.items():
        f = getattr(operator, short)
        assert getattr(xp, name)(x, 0.0).tolist() == [f(v, 0.0) for v in x.tolist()]
    both = [(a, b) for a in (False, True) for b in (False, True)]
    a, b = (xp.asarray(c) for c in zip(*both, strict=True))
    assert xp.logical_xor(a, b).tolist() == [p != q for p, q in both]
    assert xp.isin(xp.arange(1, 3), xp.asarray([2]), invert=True).tolist() == [True, False]
    assert xp.meshgrid(xp.arange(2), xp.arange(3), indexing="ij")[0].shape == (2, 3)
    assert xp.tril(xp.ones((2, 2)), k=-1).tolist() == [[0, 0], [1, 0]]
