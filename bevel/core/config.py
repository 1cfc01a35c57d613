"""Settings: one table, read by `get`, changed by `update` or for a block by `config(...)`.

Each setting starts from the environment variable `BEVEL_<NAME>` when it is set. A block's settings
are per thread; `update` is for the whole process.
"""

from __future__ import annotations

import operator
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


def _boolean(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError(f"expected true or false, got {text!r}")


def _one_of(*choices: Any) -> Callable[[Any], Any]:
    def check(value):
        value = None if value == "" else value
        if value not in choices:
            raise ValueError(f"expected one of {', '.join(map(repr, choices))}, got {value!r}")
        return value

    return check


GUARDS = ("allow", "log", "disallow", "log_explicit", "disallow_explicit")
"""Levels of the transfer guards."""


def _threads(value: Any) -> int | None:
    if value is None or value == "":
        return None
    try:
        number = int(value) if isinstance(value, str) else operator.index(value)
    except (TypeError, ValueError):
        number = 0
    if isinstance(value, bool) or not 1 <= number <= _MOST_THREADS:
        raise ValueError(f"expected a whole number from 1 to {_MOST_THREADS}, got {value!r}")
    return number


_MOST_THREADS = 4096


@dataclass(frozen=True)
class Setting:
    """One row of the table. One `of_process` cannot be another in a block."""

    default: Any
    parse: Callable[[Any], Any]
    doc: str
    of_process: bool = False


def _bytes(value: Any) -> int | None:
    return None if value is None or value == "" else int(value)


def _default_cache_dir() -> str:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "bevel")


SETTINGS: dict[str, Setting] = {
    "platforms": Setting(
        "", str, "Comma-separated platforms to use, first is the default: cpu, cuda."
    ),
    "num_cpu_devices": Setting(1, int, "Number of CPU devices; fixed once the first one is used."),
    "num_threads": Setting(
        None,
        _threads,
        "Threads that compute on the CPU, fixed once a device is used; None is one for each core "
        "this process may use.",
        of_process=True,
    ),
    "default_device": Setting(None, lambda v: v, "Device on which new arrays are placed."),
    "default_matmul_precision": Setting(
        None,
        _one_of(None, "default", "high", "highest", "bfloat16", "tensorfloat32", "float32"),
        "Precision of float32 products where none is given.",
    ),
    "numpy_dtype_promotion": Setting(
        "standard",
        _one_of("standard", "strict"),
        "strict refuses implicit promotion between arrays.",
    ),
    "key_reuse": Setting(
        "warn",
        _one_of("allow", "warn", "error"),
        "What happens when a random key is consumed twice.",
    ),
    "disable_jit": Setting(False, bool, "Run jitted functions op by op, as plain Python."),
    "debug_nans": Setting(False, bool, "Raise where the first NaN is made (`bv.debug.nans`)."),
    "debug_infs": Setting(False, bool, "Raise where an infinity is made (`bv.debug.infs`)."),
    "debug_bounds": Setting(
        False,
        bool,
        "Run programs op by op; raise where an index is out of bounds or an integer is divided by "
        "zero (`bv.debug.checked`).",
    ),
    "transfer_guard": Setting(
        "allow", _one_of(*GUARDS), "What happens on transfers, where no direction is set."
    ),
    "transfer_guard_host_to_device": Setting(
        None, _one_of(None, *GUARDS), "The same for host data given to programs and devices."
    ),
    "transfer_guard_device_to_host": Setting(
        None, _one_of(None, *GUARDS), "The same for reading results: float(x), print, np.asarray."
    ),
    "transfer_guard_device_to_device": Setting(
        None, _one_of(None, *GUARDS), "The same for copies between devices."
    ),
    "traceback_filtering": Setting(True, bool, "Hide Bevel's own frames from tracebacks."),
    "compilation_cache_dir": Setting(
        _default_cache_dir(), lambda v: v or None, "Where compiled programs are kept; empty is off."
    ),
    "compilation_cache_max_bytes": Setting(2**30, int, "Size at which the oldest programs go."),
    "compilation_cache_min_compile_secs": Setting(
        0.0, float, "Programs that compile faster than this are not written to disk."
    ),
    "cpu_memory_kept_bytes": Setting(
        2**28, int, "Freed memory kept for the next large CPU result; 0 is off."
    ),
    "memory_limit_bytes": Setting(
        None,
        _bytes,
        "Memory of a device that a program may need, or it is not run; None is what there is.",
    ),
    "gpu_preallocate": Setting(False, bool, "Take most of the GPU's memory at first use."),
    "gpu_memory_fraction": Setting(0.75, float, "Share of GPU memory that may be used."),
    "check_graphs": Setting(
        False, bool, "Validate every graph that is built (slow; used by the tests)."
    ),
}


def _from_environment(name: str, setting: Setting) -> Any:
    text = os.environ.get(f"BEVEL_{name.upper()}")
    if text is None:
        return setting.default
    parse = _boolean if setting.parse is bool else setting.parse
    try:
        return parse(text)
    except ValueError as e:
        raise ValueError(f"environment variable BEVEL_{name.upper()}: {e}") from None


_values: dict[str, Any] = {name: _from_environment(name, s) for name, s in SETTINGS.items()}


class _Local(threading.local):
    """A thread's overrides, and those before each open block."""

    def __init__(self):
        self.overrides: dict[str, Any] = {}
        self.saved: list[dict[str, Any]] = []


class _Remembered(threading.local):
    """A thread's `trace_key`, until one of its settings changes."""

    key: tuple | None = None


_local = _Local()
_remembered = _Remembered()


def get(name: str) -> Any:
    """Current value of a setting."""
    overrides = _local.overrides
    if name in overrides:
        return overrides[name]
    return _values[name]


def _checked(name: str, value: Any) -> Any:
    setting = SETTINGS.get(name)
    if setting is None:
        import difflib

        close = difflib.get_close_matches(name, SETTINGS, 1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(SETTINGS)}"
        raise ValueError(f"unknown setting {name!r}{hint}")
    try:
        return setting.parse(value)
    except (ValueError, TypeError) as e:
        raise ValueError(f"setting {name!r}: {e}") from None


def update(name: str, value: Any) -> None:
    """Change a setting for the whole process.

    >>> update("num_cpu_devices", 1)
    """
    global _remembered
    old, _values[name] = _values.get(name), _checked(name, value)
    _remembered = _Remembered()
    try:
        _notify((name,))
    except BaseException:
        _values[name] = old
        raise


_listeners: dict[str, Callable[[], None]] = {}


def on_change(names: Iterable[str], listener: Callable[[], None]) -> None:
    """Call a function whenever one of these settings may have changed, in the thread that did it.

    What it raises undoes the change.
    """
    _listeners.update(dict.fromkeys(names, listener))


def _notify(names: Iterable[str]) -> None:
    for listener in {_listeners[n]: None for n in names if n in _listeners}:
        listener()


TRACED = ("disable_jit", "default_matmul_precision", "numpy_dtype_promotion", "default_device")


def trace_key() -> tuple:
    """The settings a call of a traced program depends on (`TRACED`, in this order), remembered
    until one changes.
    """
    key = _remembered.key
    if key is None:
        remembered = _remembered  # another one if another thread changes a setting now
        key = remembered.key = tuple([get(name) for name in TRACED])
    return key


class config:
    """Settings for a block of code, in this thread.

    >>> with config(key_reuse="allow"):
    ...     get("key_reuse")
    'allow'

    Raises:
        ValueError: unknown setting or value.
    """

    def __init__(self, **settings: Any):
        self._new = {name: _checked(name, value) for name, value in settings.items()}
        for name in settings:
            if SETTINGS[name].of_process:
                raise ValueError(
                    f"setting {name!r} is one for the whole process, not for a block of one "
                    f"thread.\nWrite instead: bv.config.update({name!r}, {settings[name]!r}), "
                    f"before the first use of a device; or set BEVEL_{name.upper()}."
                )

    def __enter__(self) -> config:
        _local.saved.append(_local.overrides)
        _local.overrides = {**_local.overrides, **self._new}
        _remembered.key = None
        try:
            _notify(self._new)
        except BaseException:
            _local.overrides = _local.saved.pop()
            raise
        return self

    def __exit__(self, *exc) -> None:
        _local.overrides = _local.saved.pop()
        _remembered.key = None
        _notify(self._new)

    get = staticmethod(get)
    update = staticmethod(update)


def table() -> str:
    """All settings as a Markdown table (the README and docs print this one)."""
    rows = ["| setting | environment | default | meaning |", "|---|---|---|---|"]
    for name, s in SETTINGS.items():
        default = "`~/.cache/bevel`" if name == "compilation_cache_dir" else f"`{s.default!r}`"
        rows.append(f"| `{name}` | `BEVEL_{name.upper()}` | {default} | {s.doc} |")
    return "\n".join(rows)
