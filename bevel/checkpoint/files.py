"""A checkpoint on disk: NumPy arrays by name and a JSON manifest, put in place by one rename."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bevel.core import dtypes

MANIFEST = "manifest.json"
_FORMAT = "bevel-checkpoint"
_VERSION = 1


class CorruptCheckpointError(ValueError):
    """A checkpoint is damaged: a file is missing, cut or changed."""


def _corrupt(path: Path, what: str) -> CorruptCheckpointError:
    return CorruptCheckpointError(
        f"the checkpoint at {path} is damaged: {what}.\n"
        "Why: a file was changed or cut after it was written (the disk, an interrupted copy).\n"
        "Do: restore an earlier step, or copy the checkpoint again from where it was saved."
    )


def _digest(data: Any) -> str:
    return hashlib.sha256(data).hexdigest()


def _sync(path: Path) -> None:
    """Make what was written to a file or directory survive a power failure."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# safetensors does not know these for NumPy: their bytes are stored as unsigned integers.
_STORED_AS = {
    dtypes.bfloat16: np.uint16,
    **dict.fromkeys(dtypes.STORAGE, np.uint8),
    dtypes.complex64: np.uint64,
    dtypes.complex128: np.uint64,
}


def _to_stored(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, order="C")
    stored = _STORED_AS.get(x.dtype)
    return x if stored is None else x.reshape(-1).view(stored)


def _from_stored(stored: np.ndarray, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    return stored.view(dtype).reshape(shape) if dtype in _STORED_AS else stored.reshape(shape)


def temporary_beside(path: Path) -> Path:
    """A name for a directory next to this one, which shows who is writing it."""
    return path.with_name(f".{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")


def write(path: Path, manifest: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write a checkpoint in place of the one at `path`, if there is one.

    Raises:
        FileExistsError: something else is there.
    """
    if path.is_dir() and (path / MANIFEST).exists():
        _write_into(path, manifest, arrays)
        return
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise FileExistsError(
            f"{path} exists and is no checkpoint, so it is not overwritten. Write instead: another "
            f"path."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        temporary.mkdir()
        _write_into(temporary, manifest, arrays)
        os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync(path.parent)


def _write_into(
    directory: Path, manifest: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> None:
    """Write the arrays under a new name, then let the manifest name them, which is the moment it
    counts.
    """
    from safetensors.numpy import save_file

    data = directory / f"arrays-{secrets.token_hex(4)}.safetensors"
    stored = {name: _to_stored(x) for name, x in arrays.items()}
    save_file(stored, data)
    _sync(data)
    entries = {
        name: {
            "dtype": arrays[name].dtype.name,
            "shape": list(arrays[name].shape),
            "sha256": _digest(x.data),
        }
        for name, x in stored.items()
    }
    body = {
        "format": _FORMAT,
        "version": _VERSION,
        "file": data.name,
        "arrays": entries,
        **manifest,
    }
    text = json.dumps(body, indent=1) + "\n"
    draft = directory / f".{MANIFEST}.tmp"
    draft.write_text(json.dumps({"sha256": _digest(text.encode())}) + "\n" + text)
    _sync(draft)
    os.replace(draft, directory / MANIFEST)
    _sync(directory)
    for old in directory.glob("arrays-*.safetensors"):
        if old.name != data.name:
            with contextlib.suppress(OSError):
                old.unlink()


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of the checkpoint at `path`.

    Raises:
        FileNotFoundError: there is none.
        CorruptCheckpointError: it is damaged.
        ValueError: it was written by a later version of Bevel.
    """
    try:
        raw = (path / MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"there is no checkpoint at {path} (no {MANIFEST})") from None
    first, _, text = raw.partition(b"\n")
    try:
        expected = json.loads(first)["sha256"]
    except (ValueError, KeyError, TypeError):
        raise _corrupt(path, f"{MANIFEST} cannot be read") from None
    if _digest(text) != expected:
        raise _corrupt(path, f"{MANIFEST} does not have the checksum it was written with")
    manifest = json.loads(text)
    if manifest["version"] > _VERSION:
        raise ValueError(
            f"the checkpoint at {path} has format version {manifest['version']}, and this Bevel "
            f"reads up to {_VERSION}: "
            "upgrade Bevel"
        )
    return manifest


def read_arrays(path: Path, manifest: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays that a manifest names, each checked against its checksum.

    Raises:
        CorruptCheckpointError: a file is missing, cut or changed.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    data = path / manifest["file"]
    try:
        stored = load_file(data)
    except FileNotFoundError:
        raise _corrupt(path, f"{data.name} is missing") from None
    except (SafetensorError, ValueError, KeyError) as e:
        raise _corrupt(path, f"{data.name} cannot be read ({e})") from None
    out = {}
    for name, entry in manifest["arrays"].items():
        if name not in stored:
            raise _corrupt(path, f"{data.name} has no array {name!r}")
        if _digest(np.ascontiguousarray(stored[name]).data) != entry["sha256"]:
            raise _corrupt(
                path,
                f"the array {name!r} in {data.name} does not have the checksum it was written with",
            )
        out[name] = _from_stored(
            stored[name], dtypes.as_dtype(entry["dtype"]), tuple(entry["shape"])
        )
    return out
