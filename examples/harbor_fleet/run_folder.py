"""A run folder appears whole or not at all, also when the program is killed while it writes.

Everything is written into a hidden folder beside the target, which is renamed into place at the
end; where an earlier run is there already, the two change places in one system call (Linux) or two
renames (elsewhere).
"""

import ctypes
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

MARKER = "metrics.json"  # every run folder has it: a folder without one is never replaced


class RunFolderError(ValueError):
    """The folder asked for cannot be written, or is not a run folder."""


def check_target(target):
    """Refuse, before any work, a target that is neither absent nor empty nor an earlier run."""
    target = Path(target)
    if target.is_dir() and any(target.iterdir()) and not (target / MARKER).is_file():
        raise RunFolderError(
            f"{target} is a folder with other files in it. Give a new folder with --out."
        )
    if target.exists() and not target.is_dir():
        raise RunFolderError(f"{target} is a file. Give a folder with --out.")


def open_run(folder):
    """The path of an existing run folder."""
    folder = Path(folder)
    if not (folder / MARKER).is_file():
        raise RunFolderError(
            f"{folder} is not a run folder (no {MARKER} in it). Make one with `train --out "
            f"{folder}`."
        )
    return folder


@contextmanager
def whole(target):
    """A folder to write into; it becomes `target` if the block ends well and is removed if it does
    not.
    """
    target = Path(target).absolute()
    check_target(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target)
    partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
    partial.mkdir()
    try:
        yield partial
        _put_in_place(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _put_in_place(partial, target):
    if not target.exists():
        os.rename(partial, target)
    elif not _exchange(partial, target):
        old = partial.with_suffix(".old")
        os.rename(target, old)
        os.rename(partial, target)
        shutil.rmtree(old, ignore_errors=True)


def _exchange(one, other):
    """Swap two folders in one step where the system can; says whether it did."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None) if os.name == "posix" else None
    if renameat2 is None:
        return False
    here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return renameat2(here, os.fsencode(one), here, os.fsencode(other), swap) == 0


def _remove_leftovers(target):
    """Remove what killed runs left; a folder of a process that still runs is left alone."""
    for left in target.parent.glob(f".{target.name}.partial-*"):
        if not _alive(left.name.rpartition("-")[2]):
            shutil.rmtree(left, ignore_errors=True)


def _alive(process):
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, ValueError):
        return True
    return True
