"""`bv.doctor()` and `python -m bevel.doctor`: right about what is there and what is wrong."""

import importlib
import os
import pathlib
import stat
import subprocess
import sys
import time
import tomllib

import pytest

import bevel as bv
from bevel.core import config
from bevel.xla import bindings, client

doctor = importlib.import_module("bevel.doctor")
ROOT = pathlib.Path(__file__).parent.parent


def run(*command, **environment):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("BEVEL_", "JAX_", "XLA_"))}
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={**clean, **environment},
    )
    return done.returncode, done.stdout + done.stderr


def problems(report, *words):
    return [p for p in report.problems if all(w in str(p) for w in words)]


def test_what_it_needs_is_what_the_package_declares():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = set(project["dependencies"])
    wanted = {
        f"{name}>={oldest}" + (f",<{new}" if new else "")
        for name, (oldest, new) in doctor.REQUIRED.items()
    }
    assert wanted == declared
    assert project["requires-python"] == f">={doctor.PYTHON[0]},<{doctor.PYTHON[1]}"
    oldest, new = doctor.REQUIRED["jaxlib"]
    assert (doctor._numbers(oldest), doctor._numbers(new)) == (bindings.OLDEST, bindings.TOO_NEW)


def test_a_report_of_this_installation():
    report = bv.doctor()
    assert report.ok and not problems(report, "ERROR")
    assert report.versions["bevel"] == importlib.import_module("bevel.version").__version__
    assert report.versions["jaxlib"] == bindings.version()
    assert report.threads["cores for this process"] >= 1 and "total" in report.memory
    text = repr(report)
    assert text == str(report) and all(f"\n{s}\n" in f"\n{text}" for s in report.SECTIONS)


def test_the_module_is_the_function_and_starts_nothing():
    start = time.perf_counter()
    code, text = run(
        "-c",
        "import time, bevel as bv, bevel.doctor; from bevel.xla import client\n"
        "import bevel.numpy as bnp; (bnp.ones(3) + 1).sum()\n"
        "start = time.perf_counter(); report = bv.doctor(); took = time.perf_counter() - start\n"
        "assert report.ok and bevel.doctor.report().ok and not client.is_initialized()\n"
        "assert 'not started' in report.devices['cpu'], report\n"
        "bv.devices(); assert 'not started' not in str(bv.doctor().devices)\n"
        "print(took)",
        BEVEL_PLATFORMS="cpu",
    )
    assert code == 0, text
    assert float(text.split()[-1]) < 10 < 60 + start  # under a second where nothing else runs


def test_as_a_program():
    code, text = run("-m", "bevel.doctor")
    assert code == 0 and "no problems found" in text or "note:" in text, text
    code, text = run("-m", "bevel.doctor", BEVEL_PLATFORMS="cuda")
    if bindings.find_cuda_plugin() is None:
        assert code == 1 and "ERROR: BEVEL_PLATFORMS=cuda asks for a GPU" in text, text


def broken(tmp_path, package, version, content):
    """A folder that holds another version of a package, which goes before the installed one."""
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text(content)
    (tmp_path / package / "version.py").write_text(f"__version__ = {version!r}\n")
    info = tmp_path / f"{package}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    return {"PYTHONPATH": str(tmp_path)}


@pytest.mark.parametrize(
    "package, version, content, words",
    [
        ("jaxlib", "0.10.2", "raise ImportError('libfoo.so: not found')", "not found"),
        ("jaxlib", "0.10.2", "", "cannot be imported"),
        ("jaxlib", "0.4.1", "", "0.4.1 is too old"),
        ("jaxlib", "0.14.0", "", "newer than what Bevel knows"),
        ("numpy", "1.26", "", "numpy 1.26 is too old"),
        ("numpy", "2.1.0", "raise RuntimeError('built for another Python')", "another Python"),
        ("optree", "0.20", "raise ImportError('no')", "optree 0.20 is installed and cannot be"),
    ],
)
def test_broken_packages(tmp_path, package, version, content, words):
    code, text = run("-m", "bevel.doctor", **broken(tmp_path, package, version, content))
    assert code == 1 and words in text and "Traceback" not in text, text
    assert f"pip install '{package}" in text or f"--force-reinstall '{package}=={version}'" in text
    if package == "jaxlib":  # what does not need it goes on
        assert "cores of the machine" in text and "total" in text


def test_a_missing_package(monkeypatch):
    installed = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda p: None if p == "jaxlib" else installed(p))
    report = bv.doctor()
    assert not report.ok and report.versions["jaxlib"] is None
    assert "pip install 'jaxlib>=0.10.2,<0.13'" in str(problems(report, "not installed")[0])


def test_a_broken_setting_is_named():
    code, text = run("-m", "bevel.doctor", BEVEL_NUM_THREADS="many")
    assert code == 1 and "BEVEL_NUM_THREADS" in text and "whole number" in text, text


def test_variables(monkeypatch):
    monkeypatch.setenv("BEVEL_NUM_THREAD", "2")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/tmp/x")
    report = bv.doctor()
    assert report.ok and report.environment["XLA_FLAGS"] == "--xla_dump_to=/tmp/x"
    assert problems(report, "BEVEL_NUM_THREAD is set", "BEVEL_NUM_THREADS")
    assert problems(report, "JAX_PLATFORMS", "BEVEL_PLATFORMS=cpu")


def test_threads_beyond_the_cores(monkeypatch):
    monkeypatch.setitem(config._values, "num_threads", 4000)
    assert problems(bv.doctor(), "num_threads is 4000", "BEVEL_NUM_THREADS=")


def test_the_cache_on_disk(tmp_path, monkeypatch):
    monkeypatch.setitem(config._values, "compilation_cache_dir", str(tmp_path / "new"))
    report = bv.doctor()
    assert report.cache["programs"] == 0 and report.cache["writable"] == "yes"
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "a.bevel-xla").write_bytes(b"0" * 2048)
    (tmp_path / "new" / "other").write_bytes(b"0" * 2048)
    report = bv.doctor()
    assert report.cache["programs"] == 1 and report.cache["size"].startswith("2.0 KiB of")
    monkeypatch.setitem(config._values, "compilation_cache_dir", str(tmp_path / "new" / "other"))
    report = bv.doctor()
    assert report.ok and problems(report, "cannot be kept", "BEVEL_COMPILATION_CACHE_DIR")
    monkeypatch.setitem(config._values, "compilation_cache_dir", None)
    assert problems(bv.doctor(), "not kept on disk")


# -- GPUs ------------------------------------------------------------------------------------------


@pytest.fixture
def gpu(tmp_path, monkeypatch):
    """A machine with a GPU, as far as a report looks: a tool, and packages."""

    def make(driver="580.65.06", plugins=(), jaxlib="0.10.2", count=1):
        tool = tmp_path / "nvidia-smi"
        rows = [f"{i}, NVIDIA H100, 81559 MiB, 4 MiB, {driver}" for i in range(count)]
        tool.write_text("#!/bin/sh\n" + "".join(f"echo '{row}'\n" for row in rows))
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
        versions = {"jaxlib": jaxlib, **dict(plugins)}
        installed = doctor._version
        monkeypatch.setattr(
            doctor,
            "_version",
            lambda p: versions.get(p) if "cuda" in p or p in versions else installed(p),
        )
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        return bv.doctor()

    return make


BOTH = {"jax-cuda13-plugin": "0.10.2", "jax-cuda13-pjrt": "0.10.2"}
TWELVE = {"jax-cuda12-plugin": "0.10.2", "jax-cuda12-pjrt": "0.10.2"}

needs_no_driver = pytest.mark.skipif(
    os.path.exists("/proc/driver/nvidia/version"), reason="there is an NVIDIA driver"
)


@needs_no_driver
def test_a_gpu_with_all_it_needs(gpu):
    report = gpu(plugins=BOTH)
    assert report.ok and not problems(report, "CUDA") and not problems(report, "driver")
    assert report.gpu["driver"] == "580.65.06" and "H100" in report.gpu["GPU 0"]
    assert report.gpu["CUDA 13 plugin"] == "0.10.2"


@needs_no_driver
@pytest.mark.parametrize(
    "driver, plugins, ok, words",
    [
        ("580.65.06", {}, True, ["no CUDA plugin", "jax-cuda13-plugin[with-cuda]==0.10.2"]),
        ("535.1", {}, True, ["no CUDA plugin", "jax-cuda12-plugin[with-cuda]==0.10.2"]),
        ("470.1", {}, True, ["no CUDA plugin", "update NVIDIA's driver to 525"]),
        ("550.54", BOTH, False, ["550.54 is too old for CUDA 13", "580", "jax-cuda12-plugin"]),
        ("470.1", TWELVE, False, ["470.1 is too old for CUDA 12", "525"]),
        ("580.1", {**BOTH, "jax-cuda13-plugin": "0.10.0"}, False, ["0.10.0 is not for jaxlib"]),
        ("580.1", {"jax-cuda13-plugin": "0.10.2"}, False, ["jax-cuda13-pjrt is not installed"]),
        ("580.1", {**BOTH, **TWELVE}, True, ["two versions of CUDA", "pip uninstall"]),
    ],
)
def test_drivers_and_plugins(gpu, driver, plugins, ok, words):
    report = gpu(driver=driver, plugins=plugins)
    assert report.ok is ok and problems(report, *words), report


@needs_no_driver
@pytest.mark.parametrize("value, words", [("", "hides all"), ("-1", "hides all"), ("3", "are 2")])
def test_hidden_gpus(gpu, monkeypatch, value, words):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert problems(gpu(plugins=BOTH, count=2), "CUDA_VISIBLE_DEVICES", words)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    assert not problems(gpu(plugins=BOTH, count=2), "CUDA_VISIBLE_DEVICES")


@needs_no_driver
def test_a_plugin_without_a_driver(monkeypatch):
    versions = {"jaxlib": "0.10.2", **BOTH}
    installed = doctor._version
    monkeypatch.setattr(
        doctor, "_version", lambda p: versions.get(p) if "cuda" in p else installed(p)
    )
    monkeypatch.setenv("PATH", "/nowhere")
    report = bv.doctor()
    assert report.ok and problems(report, "no NVIDIA driver is visible", "--gpus all")


class FakeXla:
    """What `bindings.cuda_client` asks of jaxlib."""

    def __init__(self):
        self.made = []

    pjrt_plugin_loaded = pjrt_plugin_initialized = lambda self, name: True

    def generate_pjrt_gpu_plugin_options(self):
        return {"platform_name": "cuda", "preallocate": True, "memory_fraction": 0.9}

    def make_c_api_client(self, name, options):
        self.made.append((name, options))
        return name


def test_a_gpu_client_takes_memory_as_it_needs_it(monkeypatch):
    fake = FakeXla()
    monkeypatch.setattr(bindings, "_jaxlib", lambda: (fake, None))
    monkeypatch.setattr(bindings, "find_cuda_plugin", lambda: ("jax_cuda13_plugin", "library"))
    assert client._make_client("cuda") == "cuda"
    [(name, options)] = fake.made
    assert name == "cuda" and options["preallocate"] is False and options["memory_fraction"] == 0.75
    monkeypatch.setitem(config._values, "gpu_preallocate", True)
    monkeypatch.setitem(config._values, "gpu_memory_fraction", 0.5)
    client._make_client("cuda")
    assert fake.made[1][1]["preallocate"] is True and fake.made[1][1]["memory_fraction"] == 0.5


def test_importing_and_eager_code_start_no_client():
    code, text = run(
        "-c",
        "import sys, bevel as bv, bevel.numpy as bnp\n"
        "from bevel import lax, nn, optim, random\n"
        "x = bnp.ones((3, 3)) @ bnp.ones((3, 3)); y = random.normal(random.key(0), (3,))\n"
        "bv.grad(lambda x: (x ** 2).sum())(y); nn.Linear(3, 2, rngs=nn.Rngs(0))(x)\n"
        "from bevel.xla import client\n"
        "assert not client.is_initialized() and 'jaxlib' not in sys.modules",
    )
    assert code == 0, text
