"""Checkpoints: a pytree of arrays in a directory, written whole or not at all, and checked when
read.

A checkpoint holds `arrays-*.safetensors`, which any tool reads, and `manifest.json`: the structure
of the tree, the shape, dtype and SHA-256 of every array. A process that is killed while it saves
leaves the checkpoint that
was there before.

>>> import tempfile, bevel as bv, bevel.numpy as bnp
>>> from bevel import checkpoint, nn
>>> model = nn.Linear(2, 1, rngs=nn.Rngs(0))
>>> with tempfile.TemporaryDirectory() as directory:
...     checkpoint.save(directory + "/best", nn.state(model))
...     nn.update(model, checkpoint.restore(directory + "/best", nn.state(model)))
"""

import sys
import types
from typing import Any

from bevel.api.remat import remat
from bevel.checkpoint.files import CorruptCheckpointError
from bevel.checkpoint.manager import CheckpointManager
from bevel.checkpoint.store import restore, save


class _Checkpoint(types.ModuleType):
    """`bv.checkpoint(f)` is what JAX calls `jax.checkpoint`: rematerialization."""

    def __call__(self, fun: Any = None, **options: Any) -> Any:
        return remat(fun, **options)


sys.modules[__name__].__class__ = _Checkpoint

__all__ = ["CheckpointManager", "CorruptCheckpointError", "restore", "save"]
