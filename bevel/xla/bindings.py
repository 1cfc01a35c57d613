"""The only file that imports jaxlib: its private API, as the few functions Bevel needs.

Importing this module costs nothing; jaxlib is loaded, and its version checked, by the first call.
Everything here was tried on jaxlib 0.10.2 and 0.12.0; differences between them are settled here.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import importlib.util
import os
import pathlib
import re
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bevel.core import forks

OLDEST, TOO_NEW = (0, 10, 2), (0, 13)

_lock = threading.RLock()
forks.renew(globals(), _lock=threading.RLock)


class JaxlibVersionError(ImportError):
    """jaxlib is missing, or its version is not one that Bevel was tested with."""


def check_version(version: str) -> tuple[int, ...]:
    """Return a supported jaxlib version as integers.

    >>> check_version("0.12.0.1")
    (0, 12, 0, 1)

    Raises:
        JaxlibVersionError: older than 0.10.2, or 0.13 and newer.
    """
    numbers = tuple(int(n) for n in re.findall(r"\d+", re.match(r"[\d.]*", version)[0]))
    if not OLDEST <= numbers < TOO_NEW:
        raise JaxlibVersionError(
            f"jaxlib {version} is installed, and Bevel drives jaxlib's private API, which it knows "
            f"from 0.10.2 up to 0.12. Install one of these: pip install 'jaxlib>=0.10.2,<0.13'"
        )
    return numbers


@functools.cache
def version() -> str:
    """Return the version of the installed jaxlib, which is one that Bevel supports."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        from jaxlib.version import __version__
    except ModuleNotFoundError:
        raise JaxlibVersionError(
            "jaxlib is not installed, and compiling needs it: pip install 'jaxlib>=0.10.2,<0.13'"
        ) from None
    check_version(__version__)
    return __version__


@functools.cache
def _jaxlib():
    """Return jaxlib's modules (xla_client, _jax) after checking its version."""
    with _lock:
        version()
        from jaxlib import _jax, xla_client

        return xla_client, _jax


def load() -> None:
    """Load jaxlib's library and check its version.

    Raises:
        ImportError: it is missing, another version than those that Bevel knows, or broken.
    """
    _jaxlib()


# -- clients


THREADS_VARIABLES = ("PJRT_NPROC", "NPROC")
"""Environment variables with XLA's number of threads, the first that is set counts."""


def cpu_client(num_devices: int, num_threads: int, asynchronous: bool = True):
    """Return a client with `num_devices` CPU devices that compute with `num_threads` threads.

    If it is not `asynchronous`, calling a program also waits for it.
    """
    xc, _ = _jaxlib()
    _register_lapack()
    name = THREADS_VARIABLES[0]
    before = os.environ.get(name)
    os.environ[name] = str(num_threads)  # jaxlib has no argument for it, and reads this one here
    try:
        return xc.make_cpu_client(asynchronous=asynchronous, num_devices=num_devices)
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@functools.cache
def _register_lapack() -> None:
    xc, _jax = _jaxlib()
    _lapack = importlib.import_module("jaxlib.cpu._lapack")
    for name, target in _lapack.registrations().items():
        xc.register_custom_call_target(
            name, target, platform="cpu", api_version=int(name.endswith("_ffi"))
        )


@functools.cache
def _initialize_lapack() -> None:
    importlib.import_module("jaxlib.cpu._lapack").initialize()


def prepare_lapack(text: str) -> None:
    """Load LAPACK if a program calls it: it is SciPy's, and importing that takes half a second."""
    if '"lapack_' in text:
        _initialize_lapack()


CUDA_PLUGINS = ("jax_cuda13_plugin", "jax_cuda12_plugin")


def find_cuda_plugin() -> tuple[str, pathlib.Path] | None:
    """Return the installed CUDA plugin's module name and its PJRT library, or None."""
    for plugin in CUDA_PLUGINS:
        name = plugin.replace("jax_", "xla_").removesuffix("_plugin")
        try:
            spec = importlib.util.find_spec(f"jax_plugins.{name}")
        except ModuleNotFoundError:
            continue
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            library = pathlib.Path(folder) / "xla_cuda_plugin.so"
            if library.exists():
                return plugin, library
    return None


def cuda_client(*, preallocate: bool, memory_fraction: float):
    """Return a client of the machine's NVIDIA GPUs, through the CUDA plugin wheel.

    Raises:
        ImportError: no plugin wheel is installed.
    """
    xc, _ = _jaxlib()
    found = find_cuda_plugin()
    if found is None:
        raise ImportError(
            f"no CUDA plugin is installed for jaxlib {version()}: pip install "
            f"'jax-cuda13-plugin[with-cuda]=={version()}' (CUDA 13; for CUDA 12, jax-cuda12-plugin)"
        )
    plugin, library = found
    if not xc.pjrt_plugin_loaded("cuda"):
        _preload_cuda_libraries()
        c_api = xc.load_pjrt_plugin_dynamically("cuda", str(library))
        _register_cuda_extension(plugin, c_api)
    if not xc.pjrt_plugin_initialized("cuda"):
        xc.initialize_pjrt_plugin("cuda")
    options = {
        **xc.generate_pjrt_gpu_plugin_options(),
        "preallocate": preallocate,
        "memory_fraction": memory_fraction,
    }
    return xc.make_c_api_client("cuda", options)


# The wheels' libraries, by the folder under `nvidia/` that holds them, each after those it needs.
_CUDA_LIBRARIES = (
    (
        "cu13",
        (
            "cudart.so.13",
            "nvrtc.so.13",
            "cublas.so.13",
            "cublasLt.so.13",
            "cupti.so.13",
            "cusparse.so.12",
            "cusolver.so.12",
            "cufft.so.12",
        ),
    ),
    ("cuda_runtime", ("cudart.so.12",)),
    ("cuda_nvrtc", ("nvrtc.so.12",)),
    ("cublas", ("cublas.so.12", "cublasLt.so.12")),
    ("cuda_cupti", ("cupti.so.12",)),
    ("cusparse", ("cusparse.so.12",)),
    ("cusolver", ("cusolver.so.11",)),
    ("cufft", ("cufft.so.11",)),
    ("nccl", ("nccl.so.2",)),
    ("nvshmem", ("nvshmem_host.so.3",)),
    ("cudnn", ("cudnn.so.9",)),
)


def _preload_cuda_libraries() -> None:
    """Load NVIDIA's libraries from their wheels, where installed, so that the plugin finds them."""
    spec = importlib.util.find_spec("nvidia")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        for folder, names in _CUDA_LIBRARIES:
            for name in names:
                path = pathlib.Path(root) / folder / "lib" / f"lib{name}"
                if path.exists():
                    with contextlib.suppress(OSError):
                        ctypes.CDLL(str(path))


def _register_cuda_extension(plugin: str, c_api) -> None:
    """Connect the plugin's custom calls (cuSOLVER, Python callbacks) to the loaded library."""
    xc, _ = _jaxlib()
    extension = importlib.import_module(f"{plugin}.cuda_plugin_extension")
    xc.register_custom_type_handler(
        "CUDA", functools.partial(extension.register_custom_type, c_api)
    )
    xc.register_custom_call_handler(
        "CUDA", functools.partial(extension.register_custom_call_target, c_api)
    )
    for name, type_id in extension.ffi_types().items():
        xc.register_custom_type(name, type_id, platform="CUDA")
    targets = [(name, target, 1) for name, target in extension.ffi_handlers().items()]
    for module in ("gpu_solver", "gpu_linalg", "gpu_sparse"):
        targets += importlib.import_module(f"jaxlib.{module}").registrations()["CUDA"]
    for name, target, api_version in targets:
        xc.register_custom_call_target(name, target, platform="CUDA", api_version=api_version)


# -- buffers


@functools.cache
def _single_device_class():
    xc, _ = _jaxlib()

    class SingleDevice(xc.SingleDeviceSharding):
        """The placement of a whole array on one device, with all that jaxlib asks of it.

        Properties, since `jax`, when a program imports it too, puts its own on jaxlib's base class.
        """

        memory_kind = property(lambda self: None)
        is_fully_replicated = property(lambda self: True)
        is_fully_addressable = property(lambda self: True)
        device_set = property(lambda self: {self._device})
        _device_assignment = property(lambda self: (self._device,))

        def _to_xla_hlo_sharding(self, num_dimensions):
            return xc.HloSharding.replicate()

    return SingleDevice


@functools.cache
def single_device(device):
    """Return the sharding object of a whole array on one device (one object per device)."""
    return _single_device_class()(device)


@functools.cache
def _put_options():
    xc, _jax = _jaxlib()
    return _jax.batched_device_put, xc.HostBufferSemantics


def device_put(array: np.ndarray, aval, device, *, alias: bool):
    """Return a buffer on `device` with the contents of a NumPy array.

    With `alias`, a CPU buffer may share the array's memory, and keeps it alive: nobody may write to
    it.
    """
    put, semantics = _put_options()
    how = semantics.ZERO_COPY if alias else semantics.IMMUTABLE_ONLY_DURING_CALL
    return put(aval, single_device(device), [array], [device], True, False, how, enable_x64=True)


def copy_to_device(buffer, device):
    """Return a copy of a buffer on another device of its client or another client."""
    put, semantics = _put_options()
    return put(
        buffer.aval,
        single_device(device),
        [buffer],
        [device],
        True,
        True,
        semantics.ZERO_COPY,
        enable_x64=True,
    )


def moved(buffer, device):
    """Return the contents of a CPU buffer as one on a device of another CPU client.

    It waits for them, and shares the memory.
    """
    return device_put(buffer_to_numpy(buffer), buffer.aval, device, alias=True)


class _Memory:
    """A CPU buffer as NumPy sees memory, for dtypes that the buffer protocol has no letter for."""

    __slots__ = ("__array_interface__", "buffer")

    def __init__(self, buffer, aval):
        self.buffer = buffer  # the array made from this object keeps it, and so the memory, alive
        self.__array_interface__ = {
            "version": 3,
            "shape": aval.shape,
            "typestr": f"<u{aval.dtype.itemsize}",
            "data": (buffer.unsafe_buffer_pointer(), True),
        }


def buffer_to_numpy(buffer) -> np.ndarray:
    """Return a buffer as a read-only ndarray, waiting for it; on the CPU it shares memory."""
    aval = buffer.aval
    plain, known = aval.dtype.isbuiltin == 1, aval.dtype.name.startswith(("bfloat16", "float8"))
    if buffer.is_deleted() or buffer.platform() != "cpu" or not (plain or known):
        # jaxlib's own way tries to import jax at each call, which costs 0.2 ms where there is none.
        return buffer._single_device_array_to_np_array_did_copy()[0]
    buffer.block_until_ready()
    if aval.size == 0:
        return np.empty(aval.shape, aval.dtype)
    return np.asarray(buffer) if plain else np.asarray(_Memory(buffer, aval)).view(aval.dtype)


def device_of(buffer):
    """Return the device of a buffer that lies on one device."""
    return buffer._sharding._device


def buffer_type() -> type:
    """Return the class of jaxlib's buffers."""
    return _jaxlib()[0].ArrayImpl


def block_until_ready(buffers: Sequence) -> None:
    """Wait until every buffer holds its result; raises what its computation raised."""
    _jaxlib()[1].batched_block_until_ready(list(buffers))


def runtime_error() -> type[Exception]:
    """Return the exception class that XLA's runtime raises."""
    return _jaxlib()[1].JaxRuntimeError


# -- programs


def compile_options(device, overrides: dict | None = None):
    """Return XLA's options for a program on one device, with debug options by name."""
    xc, _ = _jaxlib()
    options = xc.CompileOptions()
    options.device_assignment = xc.DeviceAssignment.create(np.array([[device.id]], np.int32))
    if overrides:
        options.env_option_overrides = list(overrides.items())
    return options


def compile_and_load(
    client, text: str, devices: Sequence, options, host_callbacks: Sequence[Callable] = ()
):
    """Compile StableHLO text for `devices` and return the loaded executable."""
    _, _jax = _jaxlib()
    prepare_lapack(text)
    devices = _jax.DeviceList(tuple(devices))
    if not host_callbacks:
        return _uninterrupted(lambda: client.compile_and_load(text, devices, options))

    def with_callbacks():
        context, ir = _mlir()
        with _lock, context:  # only the overload for parsed modules takes callbacks
            module = ir.Module.parse(text)
            return client.compile_and_load(
                module, devices, options, host_callbacks=list(host_callbacks)
            )

    return _uninterrupted(with_callbacks)


def _uninterrupted(work: Callable[[], Any]) -> Any:
    """Do work of jaxlib's in another thread, and wait for it.

    In the main thread jaxlib would return at once when a signal's handler raises (Ctrl-C), and
    leave threads behind that crash the interpreter at its end. So only the waiting is interrupted,
    and the interpreter waits for the thread when it ends.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    outcome: list[Any] = []
    done = threading.Event()  # an interrupted `Thread.join` takes the thread for ended

    def run() -> None:
        try:
            outcome.extend((work(), None))
        except BaseException as e:
            outcome.extend((None, e))
        done.set()

    threading.Thread(target=run, name="bevel: compile").start()
    done.wait()
    result, error = outcome
    if error is not None:
        raise error
    return result


@functools.cache
def _mlir():
    """Return an MLIR context that knows StableHLO, and MLIR's `ir` module."""
    from jaxlib.mlir import ir
    from jaxlib.mlir._mlir_libs import _jax_mlir_ext
    from jaxlib.mlir.dialects import chlo, sdy, stablehlo

    context = ir.Context()
    context.enable_multithreading(False)  # a thread for each core, to parse a program
    registry = ir.DialectRegistry()
    _jax_mlir_ext.register_dialects(registry)
    context.append_dialect_registry(registry)
    context.load_all_available_dialects()
    for dialect in (chlo, sdy, stablehlo):
        dialect.register_dialect(context)
    return context, ir


def deserialize(client, data: bytes, devices: Sequence, options):
    """Return the loaded executable that `serialize` wrote."""
    return client.deserialize_executable(data, _jaxlib()[1].DeviceList(tuple(devices)), options)


@functools.cache
def container_flatten() -> Callable[[Any], tuple[list[Any], Any]]:
    """Return jaxlib's ``flatten(tree) -> (leaves, hashable structure)``, which knows tuples, lists,
    dicts, None and named tuples only: all else is a leaf.
    """
    _, _jax = _jaxlib()
    return _jax.pytree.PyTreeRegistry().flatten


def result_handler(aval, sharding) -> Any:
    """Return what turns an executable's raw result into a buffer with this aval and sharding."""
    xc, _jax = _jaxlib()
    if check_version(version()) < (0, 12):
        return _jax.array_result_handler(aval, sharding, True, True)
    return _jax.array_result_handler(aval, sharding, True)
