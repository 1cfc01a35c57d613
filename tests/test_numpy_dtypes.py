"""Storage dtypes, float8 down to integers of 1 bit: ml_dtypes is the oracle."""

import pickle

import ml_dtypes
import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel.core import dtypes

NAMES = [d.name for d in dtypes.STORAGE]
NO_XLA = {"float6_e2m3fn", "float6_e3m2fn", "int1", "uint1"}


@pytest.mark.parametrize("name", NAMES)
def test_they_keep_move_and_compare(name):
    scalar = getattr(bnp, name)
    own = np.dtype(getattr(ml_dtypes, name))
    one = -1 if name == "int1" else 1
    zero = 2 if name == "float8_e8m0fnu" else 0
    x = bnp.asarray([one, one, zero], scalar)
    raw = np.array([one, one, zero], own)
    assert x.dtype == own == scalar and x.itemsize == 1 and type(x) is bv.Array
    assert x.tolist() == raw.tolist() and repr(x).endswith(f"dtype={name})")
    assert (x == x).tolist() == (raw == raw).tolist()
    for found, want in [
        (x[::-1], raw[::-1]),
        (x[bnp.array([2, 0])], raw[[2, 0]]),
        (x.at[0].set(x[2]), [raw[2], raw[1], raw[2]]),
        (bnp.concatenate([x, x]), np.concatenate([raw, raw])),
        (bnp.where(x == x[0], x, x[2]), np.where(raw == raw[0], raw, raw[2])),
        (x.reshape(3, 1).T, raw.reshape(1, 3)),
        (bnp.stack([x, x])[1], raw),
        (pickle.loads(pickle.dumps(x)), raw),
    ]:
        assert found.dtype == own
        assert np.asarray(found).tobytes() == np.asarray(want, own).tobytes()
    assert pickle.loads(pickle.dumps(scalar)) == scalar


@pytest.mark.parametrize("name", [n for n in NAMES if n not in NO_XLA])
def test_conversions_are_the_same_compiled(name):
    floats = bnp.array([-9.0, -1.0, 0.3, 1.4, 9.0, 100.0, bnp.nan])
    if dtypes.is_integer(dtypes.as_dtype(name)):
        floats = floats.at[-1].set(-bnp.inf)
    ints = bnp.arange(-4, 12)

    def convert(floats, ints):
        a, b = floats.astype(name), ints.astype(name)
        return a[::-1], a.astype("float32"), b.astype("float32"), b.astype("int32")

    for eager, compiled in zip(convert(floats, ints), bv.jit(convert)(floats, ints), strict=True):
        assert eager.dtype == compiled.dtype
        np.testing.assert_array_equal(
            np.asarray(eager).astype(np.float32), np.asarray(compiled).astype(np.float32)
        )


def test_integers_saturate_wrap_and_refuse():
    assert bnp.array([-9.0, 9.0, bnp.nan, 1.9]).astype("int4").tolist() == [-8, 7, 0, 1]
    assert bnp.array([-9, 9, 17]).astype("int4").tolist() == [7, -7, 1]
    assert bnp.array([-1, 17]).astype("uint4").tolist() == [15, 1]
    with pytest.raises(OverflowError, match=r"does not fit in int4 \(-8 to 7\)"):
        bnp.asarray(8, "int4")
    assert bnp.iinfo("int2").min == -2 and bnp.iinfo(bnp.uint4).max == 15
    assert bnp.finfo("float4_e2m1fn").max == 6 and bnp.max(bnp.array([1, 5, -3], "int4")) == 5


def test_promotion_is_explicit():
    x = bnp.asarray([1, 2], "int4")
    assert (x + 1).dtype == "int4" and bnp.result_type("float6_e2m3fn", 1.0) == "float6_e2m3fn"
    for a, b in [("int4", "int8"), ("uint2", "int32"), ("float4_e2m1fn", "float32")]:
        with pytest.raises(TypeError, match="no implicit promotion"):
            bnp.promote_types(a, b)
    assert bnp.issubdtype("int4", bnp.signedinteger) and bnp.issubdtype(bnp.uint1, bnp.integer)
    assert bnp.issubdtype("float4_e2m1fn", bnp.floating) and bnp.isdtype("int2", "signed integer")


def test_what_xla_lacks_says_so():
    with pytest.raises(TypeError, match="XLA has no dtype int1"):
        bv.jit(lambda x: x.astype("int1"))(bnp.arange(3))


def test_families_of_no_array():
    assert not bnp.issubdtype("float32", bnp.flexible) and not bnp.issubdtype("int8", bnp.object_)
    assert issubclass(bnp.character, bnp.flexible) and issubclass(bnp.ComplexWarning, Warning)
    with pytest.raises(TypeError):
        bnp.asarray(np.array(["a"]))
