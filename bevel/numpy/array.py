"""`Array`: the one array users see, in eager code and inside every transform.

It is a handle: its payload is a NumPy array, a device buffer, or a traced value. It is immutable:
`x += 1` binds a new array, and `x.at[i].set(v)` makes one with changed elements. Operators and
methods are those of NumPy and call the functions of `bevel.numpy`.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

import bevel.ops as ops
from bevel.core import errors, source, tracebacks
from bevel.core.aval import Aval
from bevel.core.dtypes import as_dtype
from bevel.core.handle import Handle, KeyTag, is_weak, set_handle_type, wrap
from bevel.core.interpreter import Tracer, to_numpy
from bevel.numpy import (
    conversion,
    elementwise,
    indexing,
    logic,
    manipulation,
    numerics,
    products,
    reductions,
    resizing,
    scalars,
    selection,
    sorting,
)
from bevel.numpy.convert import astype
from bevel.numpy.families import FAST_FLOAT, operator
from bevel.numpy.placing import placed
from bevel.xla import bindings, client, donation


def _rebuild(contents: np.ndarray, kind: Any) -> Array:
    """The array that was pickled."""
    return Array(contents, KeyTag(kind) if isinstance(kind, str) else kind)


_STANDARDS = ("2021.12", "2022.12", "2023.12", "2024.12")
_power = operator(elementwise.power)


def _squared_or_power(self: Array, other: Any) -> Any:
    return elementwise.square(self) if type(other) is int and other == 2 else _power(self, other)


class Array(Handle):
    """An immutable array of numbers of one dtype, or of random keys.

    Make one with `bnp.array`, `bnp.zeros`, ... Attributes and methods are those of `numpy.ndarray`,
    but for those that write in place.

    >>> x = bnp.array([1.0, 2.0])
    >>> x + 1, x.shape, x.dtype
    (Array([2., 3.], dtype=float32), (2,), dtype('float32'))
    >>> x.at[0].set(5.0)
    Array([5., 2.], dtype=float32)
    """

    __slots__ = ()
    __array_priority__ = 100

    # -- what it is ------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        held = self._held
        shape = held.shape if type(held) is np.ndarray else self._v.shape
        return shape[:-1] if type(self._tag) is KeyTag else shape

    @property
    def dtype(self) -> Any:
        """The `numpy.dtype` of the elements; for random keys `key<...>`."""
        tag, held = self._tag, self._held
        if type(tag) is KeyTag:
            return scalars.KeyDtype(tag.impl)
        return held.dtype if type(held) is np.ndarray else self._v.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        size = 1
        for n in self.shape:
            size *= n
        return size

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * self.itemsize

    @property
    def aval(self) -> Aval:
        """Shape and dtype without contents."""
        return Aval(self.shape, self.dtype)

    @property
    def weak_type(self) -> bool:
        """Whether it came from Python numbers, and so takes the dtype of what it meets."""
        return is_weak(self._tag)

    @property
    def T(self) -> Array:
        """The array with its axes reversed."""
        return manipulation.transpose(self)

    @property
    def mT(self) -> Array:
        """The array with its last two axes exchanged."""
        return manipulation.matrix_transpose(self)

    @property
    def real(self) -> Array:
        """Real part."""
        return numerics.real(self)

    @property
    def imag(self) -> Array:
        """Imaginary part."""
        return numerics.imag(self)

    @property
    def at(self) -> indexing.At:
        """Changed copies: `x.at[index].set(v)`, `add`, `multiply`, `min`, `max`, `apply`, `get`,
        ...

        >>> bnp.zeros(3).at[1].add(2.0)
        Array([0., 2., 0.], dtype=float32)
        """
        return indexing.At(self)

    # -- where it is -----------------------------------------------------------------------------

    def devices(self) -> set[Any]:
        """The devices that hold it; NumPy-backed data counts as on the default device, where it
        will be used.

        >>> len(bnp.ones(3).devices())
        1
        """
        value = self._v
        if isinstance(value, Tracer):
            raise errors.ConcretizationTypeError(
                f"a traced {conversion.spec(self)} is on no device yet.\n"
                "Write instead: ask for the device of the arguments before, or of the results "
                "after the call."
            )
        return {
            client.default_device() if type(value) is np.ndarray else client.device_of(value.raw)
        }

    @property
    def device(self) -> Any:
        """The device that holds it."""
        return next(iter(self.devices()))

    @property
    def sharding(self) -> Any:
        """How it lies over devices."""
        return bindings.single_device(self.device)

    def to_device(self, device: Any, /, *, stream: None = None) -> Array:
        """The array on a device."""
        return placed(self, device)

    def block_until_ready(self) -> Array:
        """Wait until it is computed; raises what its computation raised. Returns itself.

        >>> bnp.ones(2).block_until_ready()
        Array([1., 1.], dtype=float32)
        """
        value = self._v
        if type(value) is not np.ndarray and not isinstance(value, Tracer):
            client.block_until_ready([value.raw])
        return self

    def delete(self) -> None:
        """Give its memory back now, and not when nobody holds it any more. Arrays that share the
        memory are gone as well.

        Raises:
            errors.ConcretizationTypeError: it is a traced value.

        >>> x = bnp.ones(3)
        >>> x.delete()
        >>> x.is_deleted()
        True
        """
        if isinstance(self._v, Tracer):
            raise errors.ConcretizationTypeError(
                f"a traced {conversion.spec(self)} has no memory to give back.\n"
                "Write instead: nothing; a program frees what it no longer needs."
            )
        if not self.is_deleted():
            client.give_up(self, donation.Given(None))

    def is_deleted(self) -> bool:
        """Whether its memory was given away: donated to a jitted call, or by `delete()`."""
        value = self._v
        return (
            type(value) is not np.ndarray
            and not isinstance(value, Tracer)
            and value.raw.is_deleted()
        )

    def __array_namespace__(self, /, *, api_version: str | None = None) -> Any:
        if api_version not in (None, *_STANDARDS):
            raise ValueError(
                f"bevel.numpy has the array API standard of {', '.join(_STANDARDS)}, not of "
                f"{api_version!r}; leave api_version out"
            )
        return sys.modules[__package__]

    # -- to the host -----------------------------------------------------------------------------

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = conversion.host(self, "array")
        if dtype is not None and np.dtype(dtype) != array.dtype:
            if copy is False:
                raise ValueError(
                    f"a {array.dtype.name} array becomes {np.dtype(dtype).name} only by copying"
                )
            return array.astype(dtype)
        return array.copy() if copy else array

    def __buffer__(self, flags: int, /) -> memoryview:
        if flags & 1:
            raise BufferError(
                "an Array cannot be written. Write instead: np.array(x), which is a copy"
            )
        array = conversion.host(self, "array")
        if array.dtype.isbuiltin != 1:
            raise BufferError(f"the buffer protocol has no {array.dtype.name}; use np.asarray(x)")
        return memoryview(array)

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: Any = None,
        dl_device: Any = None,
        copy: Any = None,
    ):
        array = conversion.host(self, "array")
        if (
            copy is False
        ):  # the reader promises to heed the read-only flag, which not every library does
            return array.__dlpack__(max_version=max_version, dl_device=dl_device, copy=False)
        return array.copy().__dlpack__(max_version=max_version, dl_device=dl_device)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def item(self, *index: int) -> Any:
        """The only element, or the one at an index, as a Python number.

        >>> bnp.array([1.5]).item(), bnp.array([[1, 2]]).item(0, 1)
        (1.5, 2)
        """
        array = conversion.host(self, "item")
        if not index and array.size != 1:
            raise ValueError(
                f"item(): {conversion.spec(self)} has {array.size} elements.\nWrite instead: "
                "x.item(i), or x.tolist()."
            )
        if len(index) == 1 and array.ndim != 1:
            array = array.ravel()
        return conversion.python_scalar(array[index] if index else array.reshape(())[()])

    def tolist(self) -> Any:
        """Nested lists of Python numbers.

        >>> bnp.array([[1, 2], [3, 4]]).tolist()
        [[1, 2], [3, 4]]
        """
        return conversion.nested_lists(conversion.host(self, "item"))

    def tobytes(self) -> bytes:
        """The elements' bytes in row-major order."""
        return conversion.host(self, "item").tobytes()

    def __bool__(self) -> builtins.bool:
        return conversion.truth_value(self)

    def __int__(self) -> int:
        return int(conversion.real_scalar(self, "int"))

    def __float__(self) -> float:
        return float(conversion.real_scalar(self, "float"))

    def __complex__(self) -> complex:
        return complex(conversion.scalar(self, "complex"))

    def __index__(self) -> int:
        dtype = self._v.dtype
        if isinstance(self._v, Tracer) and np.dtype(dtype).kind == "b":
            raise conversion.traced_error(self, "bool")
        if type(self._tag) is KeyTag or np.dtype(dtype).kind not in "iu" or self._v.shape != ():
            raise TypeError(
                "an index, an axis or a count must be a 0-d integer array, and this is "
                f"{conversion.spec(self)}.\n"
                "Write instead: int(x) for a number, x.astype(int) for an array of indices."
            )
        return int(conversion.scalar(self, "index"))

    def __reduce__(self) -> Any:
        if isinstance(self._v, Tracer):
            raise conversion.traced_error(self, "item")
        kind = self._tag.impl if type(self._tag) is KeyTag else self._tag
        return _rebuild, (np.array(to_numpy(self._v)), kind)

    def __copy__(self) -> Array:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> Array:
        return self.copy()

    def copy(self) -> Array:
        """The same contents in memory of their own."""
        value = self._v
        if isinstance(value, Tracer):
            return self
        own = (
            value.copy()
            if type(value) is np.ndarray
            else client.copy_to(value.raw, client.device_of(value.raw))
        )
        return Array(own, self._tag)

    def __repr__(self) -> str:
        return conversion.repr_of(self)

    def __str__(self) -> str:
        return conversion.text_of(self)

    def __format__(self, format_spec: str) -> str:
        return conversion.formatted(self, format_spec)

    def __hash__(self) -> int:
        if isinstance(self._v, Tracer):
            raise conversion.traced_error(self, "key")
        raise TypeError(
            f"an Array ({conversion.spec(self)}) is unhashable: `==` compares elements, so it "
            "cannot "
            "be a key of a dict or set, nor a static argument.\n"
            "Write instead: x.tobytes() or x.item() as the key; id(x) to tell objects apart."
        )

    # -- as a sequence ---------------------------------------------------------------------------

    def __len__(self) -> int:
        shape = self.shape
        if not shape:
            raise TypeError("len(x): a 0-d array has no length; x.size is 1")
        return shape[0]

    def __iter__(self) -> Iterator[Array]:
        shape = self.shape
        if not shape:
            raise TypeError(
                "a 0-d array has no rows to iterate over. Write instead: x.item(), or x[None]"
            )
        value = self._v
        if type(value) is np.ndarray and type(self._tag) is not KeyTag:
            return iter([wrap(np.asarray(row), self._tag) for row in value])
        return iter([self[i] for i in range(shape[0])])

    def __contains__(self, x: Any) -> builtins.bool:
        return builtins.bool(reductions.any(logic.equal(self, x)))

    __getitem__ = indexing.getitem

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError(
            "an Array is immutable: x[index] = value would change it for everyone who holds it, at "
            f"{source.where(source.user_source())}.\n"
            "Write instead: x = x.at[index].set(value), x.at[index].add(value) for x[index] += "
            "value; or keep a state cell, cell = bv.ref(x), and write cell[index] = value."
        )

    def __delitem__(self, index: Any) -> None:
        raise TypeError("an Array is immutable.\nWrite instead: bnp.delete(x, index, axis).")

    # -- operators -------------------------------------------------------------------------------

    __add__ = __radd__ = operator(elementwise.add, ops.add)
    __sub__ = operator(elementwise.subtract, ops.sub)
    __rsub__ = operator(elementwise.subtract, ops.sub, reflected=True)
    __mul__ = __rmul__ = operator(elementwise.multiply, ops.mul)
    __truediv__ = operator(elementwise.divide, ops.div, FAST_FLOAT, np.true_divide)
    __rtruediv__ = operator(elementwise.divide, ops.div, FAST_FLOAT, np.true_divide, reflected=True)
    __floordiv__ = operator(elementwise.floor_divide)
    __rfloordiv__ = operator(elementwise.floor_divide, reflected=True)
    __mod__ = operator(elementwise.remainder)
    __rmod__ = operator(elementwise.remainder, reflected=True)
    __divmod__ = operator(elementwise.divmod)
    __rdivmod__ = operator(elementwise.divmod, reflected=True)
    __pow__ = _squared_or_power
    __rpow__ = operator(elementwise.power, reflected=True)
    __matmul__ = operator(products.matmul, ops.dot_general, FAST_FLOAT, np.matmul)
    __rmatmul__ = operator(products.matmul, reflected=True)
    __and__ = __rand__ = operator(logic.bitwise_and, ops.and_, logic.FAST_BITS)
    __or__ = __ror__ = operator(logic.bitwise_or, ops.or_, logic.FAST_BITS)
    __xor__ = __rxor__ = operator(logic.bitwise_xor, ops.xor, logic.FAST_BITS)
    __lshift__ = operator(logic.left_shift)
    __rlshift__ = operator(logic.left_shift, reflected=True)
    __rshift__ = operator(logic.right_shift)
    __rrshift__ = operator(logic.right_shift, reflected=True)
    __eq__ = operator(logic.equal, ops.eq, logic.FAST_COMPARE, tagged=False)
    __ne__ = operator(logic.not_equal, ops.ne, logic.FAST_COMPARE, tagged=False)
    __lt__ = operator(logic.less, ops.lt, logic.FAST_COMPARE, tagged=False)
    __le__ = operator(logic.less_equal, ops.le, logic.FAST_COMPARE, tagged=False)
    __gt__ = operator(logic.greater, ops.gt, logic.FAST_COMPARE, tagged=False)
    __ge__ = operator(logic.greater_equal, ops.ge, logic.FAST_COMPARE, tagged=False)
    __neg__ = elementwise.negative
    __pos__ = elementwise.positive
    __abs__ = elementwise.absolute
    __invert__ = logic.invert

    def __round__(self, ndigits: int | None = None) -> Array:
        return numerics.round(self, ndigits or 0)

    # -- methods: NumPy's functions with the array as first argument -------------------------------

    def astype(self, dtype: Any, copy: builtins.bool = True, *, device: Any = None) -> Array:
        """The array at another dtype; floats become integers by cutting, saturating at the limits.

        >>> bnp.array([1.7, -1.7]).astype(int)
        Array([ 1, -1], dtype=int32)
        """
        return placed(astype(self, as_dtype(dtype)), device)

    def reshape(self, *shape: Any, order: str = "C", copy: builtins.bool | None = None) -> Array:
        """The same elements in another shape, given as a tuple or as arguments; one entry may be
        -1.

        >>> bnp.arange(6).reshape(2, -1).shape
        (2, 3)
        """
        return manipulation.reshape(self, shape[0] if len(shape) == 1 else shape, order)

    def transpose(self, *axes: Any) -> Array:
        """The array with its axes reordered, or reversed if none are given.

        >>> bnp.ones((2, 3, 4)).transpose(0, 2, 1).shape
        (2, 4, 3)
        """
        return manipulation.transpose(self, axes[0] if len(axes) == 1 else axes or None)

    def view(self, dtype: Any) -> Array:
        """The bits of each element read as another dtype of the same width.

        >>> bnp.float32(1).view(bnp.int32)
        Array(1065353216, dtype=int32)
        """
        return wrap(ops.bitcast(self._v, dtype=as_dtype(dtype)))

    ravel = manipulation.ravel
    flatten = manipulation.ravel
    swapaxes = manipulation.swapaxes
    squeeze = manipulation.squeeze
    repeat = resizing.repeat
    take = selection.take
    nonzero = selection.nonzero
    diagonal = selection.diagonal
    trace = products.trace
    dot = products.dot
    choose = selection.choose

    def compress(self, condition: Any, axis: int | None = None, **options: Any) -> Array:
        """The parts along an axis (None: elements) where a condition holds; see `bnp.compress`.

        >>> bnp.arange(3).compress([True, False, True])
        Array([0, 2], dtype=int32)
        """
        return selection.compress(condition, self, axis, **options)

    sort = sorting.sort
    argsort = sorting.argsort
    partition = sorting.partition
    argpartition = sorting.argpartition
    searchsorted = sorting.searchsorted
    sum = reductions.sum
    prod = reductions.prod
    mean = reductions.mean
    var = reductions.var
    std = reductions.std
    max = reductions.max
    min = reductions.min
    ptp = reductions.ptp
    argmax = reductions.argmax
    argmin = reductions.argmin
    all = reductions.all
    any = reductions.any
    cumsum = reductions.cumsum
    cumprod = reductions.cumprod
    clip = numerics.clip
    round = numerics.round
    conj = numerics.conj
    conjugate = numerics.conj


set_handle_type(Array)
tracebacks.install()
