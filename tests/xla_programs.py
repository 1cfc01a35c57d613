"""Hand-written programs for the tests of `bevel.xla`."""

import os
import subprocess
import sys
import textwrap

import numpy as np

from bevel.core import config
from bevel.core.aval import Aval
from bevel.xla import cache, client, lower
from bevel.xla.builder import Builder, Module, function_text

F32, I32 = np.dtype(np.float32), np.dtype(np.int32)
rng = np.random.default_rng(0)


class FakeOp:
    """What the lowering needs of an op."""

    def __init__(self, name, rule):
        self.name = name
        self.lower = rule
        self.effect = False


def f32(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def aval(x):
    return Aval(np.shape(x), np.asarray(x).dtype)


def program(body, ins, outs, platform="cpu"):
    """A lowered program from ``body(builder, *vals)``."""
    module = Module(platform)
    main = function_text(module, "main", ins, outs, body, True)
    n = len(ins)
    return lower.Lowered(
        module.text("test", main),
        platform,
        tuple(ins),
        tuple(outs),
        tuple(range(n)),
        (),
        tuple(module.host_callbacks),
    )


def run(body, *arrays, outs=None):
    """Results of ``body(builder, *vals)``, whose avals a first pass records unless given."""
    ins = [aval(a) for a in arrays]
    if outs is None:
        b = Builder(Module())
        results = body(b, *[b.constant(a) for a in arrays])
        outs = [r.aval for r in (results if isinstance(results, (tuple, list)) else [results])]
    with config.config(compilation_cache_dir=""):
        exe = cache.compile_lowered(program(body, ins, outs))
    return [client.to_numpy(r) for r in exe.run([client.put(np.asarray(a)) for a in arrays])]


def sample(k=1.0, n=4):
    """A program that adds `k` to `n` numbers."""
    a = Aval((n,), F32)
    return program(lambda b, x: b.add(x, b.full(k, a)), [a], [a])


def in_new_process(code, **env):
    """What `code` prints, run by a new Python in the project's root, with more environment."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    command = [sys.executable, "-c", textwrap.dedent(code)]
    out = subprocess.run(
        command, cwd=root, env={**os.environ, **env}, capture_output=True, text=True
    )
    assert out.returncode == 0, out.stderr
    return out.stdout
