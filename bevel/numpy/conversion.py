"""From a handle to the host: NumPy arrays, Python numbers, text; and the errors when there is
nothing to read.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np

from bevel.core import dtypes, errors, source
from bevel.core.handle import WEAK, Handle, KeyTag, logical_shape, read_only, wrap
from bevel.core.interpreter import Tracer, check_alive, to_numpy
from bevel.numpy.scalars import KeyDtype
from bevel.xla.donation import story


def spec(handle: Handle) -> str:
    """Dtype and shape in the short notation: `float32[3,4]`."""
    dtype = KeyDtype(handle._tag.impl) if type(handle._tag) is KeyTag else np.dtype(handle._v.dtype)
    return f"{dtype.name}[{','.join(map(str, logical_shape(handle)))}]"


_BRANCH = (
    "lax.cond(pred, if_true, if_false, *operands) for a branch, bnp.where(pred, a, b) to choose "
    "between values, lax.while_loop for a loop"
)
_STATIC = (
    "make it static (bv.jit(f, static_argnames=...)), or compute it from shapes, which are known, "
    "with Python (math.prod(x.shape), not bnp)"
)
_INDEX = f"for a shape, an axis or a count, {_STATIC}; bnp.asarray(items)[i] for an index of a list"
_MATH = (
    "bnp.sin(x) for math.sin(x), x.astype(float) for float(x), y = y.at[i].set(x) with y of bnp "
    "for y[i] = x with y of NumPy"
)
_NUMPY = (
    "the function of bevel.numpy with the same name (bnp.sin for np.sin), bnp.asarray(table)[i] "
    "for table[i], y = y.at[i].set(x) with y of bnp for y[i] = x; bv.pure_callback runs NumPy in a "
    "program"
)
_PRINT = 'bv.debug.print("{x}", x=x) to see it; return it from the function to use it outside'

_ASKING = (os.path.join("bevel", "numpy", "conversion.py"), os.path.join("numpy", "array.py"))

# What was wanted: its error, what Python did, and the code to write instead.
_WANTS = {
    "bool": (errors.TracerBoolConversionError, "asked whether it is true", _BRANCH),
    "int": (
        errors.ConcretizationTypeError,
        "asked for it as an int",
        f"x.astype(int) to stay in the program; {_STATIC}",
    ),
    "index": (
        errors.TracerIntegerConversionError,
        "used it as a shape, an axis, a count or a list index",
        _INDEX,
    ),
    "float": (
        errors.ConcretizationTypeError,
        "asked for it as a float",
        f"{_MATH}; {_PRINT}",
    ),
    "complex": (
        errors.ConcretizationTypeError,
        "asked for it as a complex number",
        f"x.astype(complex); {_PRINT}",
    ),
    "array": (errors.TracerArrayConversionError, "gave it to NumPy", _NUMPY),
    "item": (errors.ConcretizationTypeError, "asked for its contents", _PRINT),
    "key": (
        errors.TracerBoolConversionError,
        "used it as a key of a dict, a set or a cache (functools.cache)",
        f"bnp.stack([...])[i] to look up by an integer, no cache; {_BRANCH}",
    ),
}


def _is_in_jit(interp: Any) -> bool:
    """Whether some function around is being jitted."""
    while interp is not None:
        if interp.what.startswith("jit of "):
            return True
        interp = interp.outer
    return False


def _is_users_question() -> bool:
    """Whether it was the user's code that asked, and not Bevel's."""
    frame = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename.endswith(_ASKING):
        frame = frame.f_back
    return frame is not None and not source.is_internal(frame.f_code.co_filename)


def traced_error(handle: Handle, wanted: str) -> Exception:
    """The error for a traced value that Python needs the contents of."""
    value = handle._v
    check_alive(value)
    kind, what, instead = _WANTS[wanted]
    if wanted in ("bool", "index") and _is_users_question():
        errors.unanswered.count += 1
    made = source.origin(value.source)
    if wanted == "bool" and not _is_in_jit(value.interp):
        instead = f"bv.jit around the transforms, which converts `if` and `while`; {instead}"
    return kind(
        f"a traced {spec(handle)}{made} has no contents yet, and Python {what} at "
        f"{source.where(source.user_source())}.\n"
        f"Why: the function is being transformed ({value.interp.what}): it runs on stand-ins, and "
        "values exist only "
        "when the program runs.\n"
        f"Write instead: {instead}."
    )


def host(handle: Handle, wanted: str) -> np.ndarray:
    """The contents as a read-only NumPy array that shares memory where it can.

    Raises:
        errors.TracerConversionError: the value is traced.
        TypeError: the value is a random key.
    """
    value = handle._v
    if type(value) is not np.ndarray:
        if isinstance(value, Tracer):
            raise traced_error(handle, wanted)
        value = to_numpy(value)
    if type(handle._tag) is KeyTag:
        raise TypeError(
            f"a random key ({spec(handle)}) has no value as an array.\n"
            "Write instead: random.key_data(key) for its words, or draw from it: "
            "random.uniform(key, shape)."
        )
    return read_only(value)


def known_bool(handle: Handle) -> Handle:
    """For `if x:` under differentiation: the value itself, since a branch has no derivative."""
    value = handle._v
    while isinstance(value, Tracer) and hasattr(value, "primal"):
        value = value.primal
    return wrap(value, handle._tag)


def scalar(handle: Handle, wanted: str) -> Any:
    """The NumPy scalar in a 0-d array.

    Raises:
        TypeError: the array has axes.
    """
    array = host(handle, wanted)
    if array.ndim:
        raise TypeError(
            f"{wanted}(x): only a 0-d array is a Python number, and this one is {spec(handle)}.\n"
            + (
                "Write instead: x.item(), or x[0]."
                if array.size == 1
                else "Write instead: x[i], or x.tolist()."
            )
        )
    return array[()]


def real_scalar(handle: Handle, wanted: str) -> Any:
    """`scalar`, of a real dtype."""
    found = scalar(handle, wanted)
    if dtypes.is_complex(found.dtype):
        raise TypeError(
            f"{wanted}(x): x is {spec(handle)}.\nWrite instead: x.real, abs(x) or complex(x)."
        )
    return found


def truth_value(handle: Handle) -> bool:
    """What `if x:` means; arrays of other than one element have no truth value."""
    array = host(known_bool(handle), "bool")
    if array.size != 1:
        raise ValueError(
            f"the truth value of {spec(handle)} is ambiguous, at "
            f"{source.where(source.user_source())}: it has "
            f"{array.size} elements.\n"
            "Write instead: x.any() or x.all(); x.size > 0 to ask whether it is empty."
        )
    return bool(array.reshape(())[()])


def python_scalar(x: Any) -> Any:
    """A NumPy scalar as a Python number; bfloat16 and float8 become floats."""
    if dtypes.is_float(x.dtype):
        return float(x)
    return x.item()


def nested_lists(array: np.ndarray) -> Any:
    """`tolist` with Python numbers for every dtype."""
    if dtypes.is_float(array.dtype):
        array = array.astype(np.float64)
    return array.tolist()


# -- text ------------------------------------------------------------------------------------------


def _unreadable(handle: Handle) -> str | None:
    value = handle._v
    if isinstance(value, Tracer):
        name = getattr(value.source, "name", "x")
        name = name if name.isidentifier() else "x"
        made = source.origin(value.source).rstrip(",") or f", in {value.interp.what}"
        if not value.interp.alive:
            return (
                f"Traced<{spec(handle)}>{made}, of {value.interp.what}, which has ended: it has no "
                "value; return it from the function"
            )
        found = known_bool(handle)
        if not isinstance(found._v, Tracer):  # eager differentiation
            return f"Traced<{spec(handle)}>{made}, with the value {text_of(found)}"
        rows = getattr(value, "value", None)
        if type(rows) is np.ndarray:  # eager vmap
            return f"Traced<{spec(handle)}>{made}, a row of {rows}"
        return (
            f"Traced<{spec(handle)}>{made}; its value is known only when "
            f'the program runs: use bv.debug.print("{{{name}}}", {name}={name})'
        )
    if type(value) is not np.ndarray and value.raw.is_deleted():
        return f"Array<{spec(handle)}, deleted: it was {story(value) or 'given away'}>"
    return None


def text_of(handle: Handle) -> str:
    """What `str(x)` gives: NumPy's form."""
    unreadable = _unreadable(handle)
    if unreadable is not None:
        return unreadable
    return repr_of(handle) if type(handle._tag) is KeyTag else str(host(handle, "item"))


def repr_of(handle: Handle) -> str:
    """What `repr(x)` gives: NumPy's form, always with the dtype."""
    unreadable = _unreadable(handle)
    if unreadable is not None:
        return unreadable
    if type(handle._tag) is KeyTag:
        words = np.array2string(to_numpy(handle._v), separator=", ", prefix="Array(words=")
        dtype = KeyDtype(handle._tag.impl)
        return f"Array(words={words}, shape={logical_shape(handle)}, dtype={dtype})"
    array = host(handle, "item")
    end = f"dtype={array.dtype.name}"
    if handle._tag is WEAK:
        end += ", weak_type=True"
    if array.size == 0:
        return (
            f"Array([], {end})" if array.shape == (0,) else f"Array([], shape={array.shape}, {end})"
        )
    body = np.array2string(array, separator=", ", prefix="Array(", suffix=",")
    last = len(body) - body.rfind("\n") if "\n" in body else len("Array(") + len(body)
    gap = (
        " "
        if last + len(end) + 3 <= np.get_printoptions()["linewidth"]
        else "\n" + " " * len("Array(")
    )
    return f"Array({body},{gap}{end})"


def formatted(handle: Handle, format_spec: str) -> str:
    """What an f-string gives: numbers take a format, arrays only the empty one."""
    if not format_spec:
        return text_of(handle)
    if isinstance(handle._v, Tracer):
        return text_of(handle)
    if logical_shape(handle) != () or type(handle._tag) is KeyTag:
        raise TypeError(
            f"the format {format_spec!r} is for one number, and this is {spec(handle)}.\n"
            "Write instead: f'{x}', or with np.printoptions(precision=3) around it."
        )
    return format(python_scalar(scalar(handle, "item")), format_spec)
