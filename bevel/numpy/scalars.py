"""Dtypes as users write them: `bnp.float32` names a dtype, equals it, and makes arrays of it.

Also the questions one asks about dtypes (`issubdtype`, `promote_types`, `can_cast`, ...) and the
constants.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from bevel.core import dtypes
from bevel.core.handle import KEY_WORDS, Handle, is_weak
from bevel.numpy import convert

e = np.e
euler_gamma = np.euler_gamma
inf = np.inf
nan = np.nan
newaxis = None
pi = np.pi

dtype = np.dtype


class ScalarType:
    """A dtype that can be called: it names the dtype wherever one is asked for, and converts to it.

    >>> float32 = ScalarType("float32")
    >>> float32(2)
    Array(2., dtype=float32)
    >>> float32([1, 2]).dtype == float32, np.dtype(float32)
    (True, dtype('float32'))
    """

    __slots__ = ("__name__", "dtype")

    def __init__(self, name: str):
        self.__name__ = name
        self.dtype = dtypes.as_dtype(name)

    def __call__(self, x: Any = 0) -> Any:
        """An array of this dtype."""
        return convert.enter(x, self.dtype)

    def __eq__(self, other: object) -> bool:
        return self is other or self.dtype == (
            other.dtype if isinstance(other, ScalarType) else other
        )

    def __hash__(self) -> int:
        return hash(self.dtype)

    def __reduce__(self) -> Any:
        return ScalarType, (self.__name__,)

    def __repr__(self) -> str:
        return f"bevel.numpy.{self.__name__}"


bool_ = ScalarType("bool")
int8, int16, int32, int64 = (ScalarType(f"int{n}") for n in (8, 16, 32, 64))
uint8, uint16, uint32, uint64 = (ScalarType(f"uint{n}") for n in (8, 16, 32, 64))
float16, float32, float64 = (ScalarType(f"float{n}") for n in (16, 32, 64))
bfloat16 = ScalarType("bfloat16")
complex64, complex128 = ScalarType("complex64"), ScalarType("complex128")
int_, uint, float_, complex_ = int32, uint32, float32, complex64
single, double, csingle, cdouble = float32, float64, complex64, complex128
for _name in (*dtypes.FLOAT8_NAMES, *dtypes.SMALL_NAMES):
    globals()[_name] = ScalarType(_name)

generic, number, integer, inexact = np.generic, np.number, np.integer, np.inexact
signedinteger, unsignedinteger = np.signedinteger, np.unsignedinteger
floating, complexfloating = np.floating, np.complexfloating
# Families of no array dtype, and the warning NumPy gives for a lost imaginary part.
character, flexible, object_ = np.character, np.flexible, np.object_
ComplexWarning = np.exceptions.ComplexWarning


class KeyDtype:
    """The dtype of an array of random keys.

    >>> KeyDtype("threefry2x32")
    key<threefry2x32>
    """

    __slots__ = ("impl",)

    kind = "V"

    def __init__(self, impl: str):
        self.impl = impl

    @property
    def itemsize(self) -> int:
        """Bytes of one key."""
        return 4 * KEY_WORDS[self.impl]

    @property
    def name(self) -> str:
        """What it prints as."""
        return f"key<{self.impl}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyDtype) and other.impl == self.impl

    def __hash__(self) -> int:
        return hash(("key", self.impl))

    def __reduce__(self) -> Any:
        return KeyDtype, (self.impl,)

    def __repr__(self) -> str:
        return self.name


class prng_key(np.generic):
    """The family of random-key dtypes, for `issubdtype(x.dtype, prng_key)`."""


_ABSTRACT = {
    "b": (np.bool_, generic),
    "i": (signedinteger, integer, number, generic),
    "u": (unsignedinteger, integer, number, generic),
    "f": (floating, inexact, number, generic),
    "c": (complexfloating, inexact, number, generic),
}


def issubdtype(arg1: Any, arg2: Any) -> bool:
    """Whether a dtype belongs to a family (`bnp.floating`, `bnp.integer`, ...) or is a given dtype.

    `arg1` and `arg2`: dtypes, their names, or families; bfloat16 and the float8 types are
    `floating`, int4 is `signedinteger`.

    >>> issubdtype("bfloat16", floating), issubdtype("int8", unsignedinteger)
    (True, False)
    """
    if isinstance(arg1, KeyDtype) or isinstance(arg2, KeyDtype):
        return arg1 == arg2 or (isinstance(arg1, KeyDtype) and arg2 in (prng_key, generic))
    if arg2 is prng_key:
        return False
    family = isinstance(arg2, type) and issubclass(arg2, np.generic) and not _is_concrete(arg2)
    if isinstance(arg1, type) and issubclass(arg1, np.generic) and not _is_concrete(arg1):
        return family and issubclass(arg1, arg2)
    one = dtypes.as_dtype(arg1)
    return arg2 in _ABSTRACT[dtypes.kind(one)] if family else one == dtypes.as_dtype(arg2)


def _is_concrete(family: type) -> bool:
    families = {f for families in _ABSTRACT.values() for f in families} - {np.bool_}
    return family not in families | {character, flexible, object_}


_KINDS = {
    "bool": "b",
    "signed integer": "i",
    "unsigned integer": "u",
    "integral": "iu",
    "real floating": "f",
    "complex floating": "c",
    "numeric": "iufc",
}


def isdtype(dtype: Any, kind: Any) -> bool:
    """Whether a dtype is of a kind: a dtype, one of the array API's names of kinds, or a tuple of
    these.

    Raises:
        ValueError: an unknown kind.

    >>> isdtype("float16", "real floating"), isdtype("int8", ("bool", "complex64"))
    (True, False)
    """
    if isinstance(kind, tuple):
        return any([isdtype(dtype, k) for k in kind])
    if isinstance(kind, str) and kind in _KINDS:
        return dtypes.kind(dtypes.as_dtype(dtype)) in _KINDS[kind]
    try:
        return dtypes.as_dtype(dtype) == dtypes.as_dtype(kind)
    except TypeError:
        raise ValueError(
            f"isdtype: unknown kind {kind!r}: use a dtype, or one of {', '.join(_KINDS)}"
        ) from None


def result_type(*args: Any) -> np.dtype:
    """The dtype that an operation on these operands gives; arrays, dtypes and Python numbers mix.

    Python numbers are weak: they take the dtype of what they meet.

    Raises:
        TypeError: the operands have no common dtype, or there are none.

    >>> result_type(np.int8(1), 2.5), result_type("bfloat16", 3)
    (dtype('float32'), dtype(bfloat16))
    """
    if not args:
        raise TypeError("result_type: needs at least one array or dtype")
    handles = [convert.enter(x) if hasattr(x, "__bevel_array__") else x for x in args]
    if all([isinstance(x, Handle) for x in handles]) and len({x._v.dtype for x in handles}) == 1:
        return np.dtype(handles[0]._v.dtype)
    kinds = [_kind(x) for x in handles]
    return functools.reduce(lambda a, b: a if a == b else dtypes.promote(*a, *b), kinds)[0]


def _kind(x: Any) -> tuple[np.dtype, bool]:
    if isinstance(x, Handle):
        return np.dtype(x._v.dtype), is_weak(x._tag)
    if type(x) in convert.SCALARS:
        return dtypes.as_dtype(type(x)), type(x) is not bool
    if isinstance(x, np.ndarray | np.generic):
        return dtypes.default_dtype(x.dtype), False
    # By identity: the dtype int64 equals the class int.
    return dtypes.as_dtype(x), x is int or x is float or x is complex


def promote_types(a: Any, b: Any) -> np.dtype:
    """The dtype two dtypes promote to.

    Raises:
        TypeError: they have no common dtype (two float8 types).

    >>> promote_types("int32", bfloat16), promote_types("float32", "float64")
    (dtype(bfloat16), dtype('float64'))
    """
    return dtypes.promote_types(a, b)


def can_cast(from_: Any, to: Any, casting: str = "safe") -> bool:
    """Whether a dtype can be cast to another by NumPy's casting rule.

    Raises:
        TypeError: `from_` is a Python number (it has no dtype: name one).

    >>> can_cast("int8", "int32"), can_cast("float32", "int32"), can_cast(bfloat16, float32)
    (True, False, True)
    """
    if type(from_) in convert.SCALARS:
        raise TypeError(
            f"can_cast: {from_!r} is a number, not a dtype; write "
            f"can_cast(bnp.result_type({from_!r}), ...)"
        )
    return np.can_cast(dtypes.as_dtype(from_), dtypes.as_dtype(to), casting)


def finfo(dtype: Any) -> Any:
    """Limits of a floating dtype (`eps`, `max`, `tiny`, ...), as `numpy.finfo`; the extension types
    too.

    `dtype`: a floating or complex dtype, or an array of one.

    >>> float(finfo(bfloat16).eps)
    0.0078125
    """
    return dtypes.finfo(dtype)


def iinfo(dtype: Any) -> Any:
    """Limits of an integer dtype (`min`, `max`, `bits`), as `numpy.iinfo`.

    `dtype`: an integer dtype, or an array of one.

    >>> iinfo(int8).max
    127
    """
    return dtypes.iinfo(dtype)
