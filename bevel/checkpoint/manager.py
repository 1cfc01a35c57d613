"""`CheckpointManager`: the checkpoints of a run, by step."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from bevel.checkpoint.files import MANIFEST, temporary_beside
from bevel.checkpoint.store import restore, save


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class CheckpointManager:
    """Checkpoints by step in a directory, of which the last few are kept.

    Each step is a checkpoint of its own, `directory/<step>`. What a killed process left half
    written is not seen, and removed when the next manager starts.

    Args:
        directory: where; made if it is not there.
        max_to_keep: how many to keep, the newest; None keeps all.
        keep_period: steps that are multiples of it are kept besides.

    Raises:
        ValueError: `max_to_keep` or `keep_period` is less than 1.

    >>> import tempfile, bevel.numpy as bnp
    >>> from bevel import checkpoint
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     manager = checkpoint.CheckpointManager(directory, max_to_keep=2)
    ...     for step in range(4):
    ...         manager.save(step, {"w": bnp.full(1, step)})
    ...     manager.all_steps(), manager.restore()
    ([2, 3], {'w': Array([3], dtype=int32)})
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        max_to_keep: int | None = None,
        keep_period: int | None = None,
    ):
        for name, value in (("max_to_keep", max_to_keep), ("keep_period", keep_period)):
            if value is not None and value < 1:
                raise ValueError(
                    f"CheckpointManager: {name} is at least 1, or None for no limit; got {value}"
                )
        self.directory = Path(directory)
        self.max_to_keep = max_to_keep
        self.keep_period = keep_period
        self.directory.mkdir(parents=True, exist_ok=True)
        self._clean_up()

    def _clean_up(self) -> None:
        """Remove what processes that are no longer there left half written."""
        for left in self.directory.glob(".*.tmp-*"):
            pid = left.name.rpartition(".tmp-")[2].split("-")[0]
            if pid.isdigit() and not _alive(int(pid)):
                shutil.rmtree(left, ignore_errors=True)

    def _path(self, step: int) -> Path:
        return self.directory / str(step)

    def save(self, step: int, tree: Any) -> None:
        """Save a pytree as a step, then remove those that need not be kept.

        Raises:
            ValueError: the step is no integer of 0 or more.
            TypeError: the tree cannot be saved (see `checkpoint.save`).
        """
        step = int(step)
        if step < 0:
            raise ValueError(f"CheckpointManager.save: steps count from 0, got {step}")
        save(self._path(step), tree)
        if self.max_to_keep is not None:
            for old in self.all_steps()[: -self.max_to_keep]:
                if old != step and not (self.keep_period and old % self.keep_period == 0):
                    self.delete(old)

    def restore(self, step: int | None = None, like: Any = None, *, partial: bool = False) -> Any:
        """The pytree saved as a step, the latest by default; other arguments as for
        `checkpoint.restore`.

        Raises:
            FileNotFoundError: there is no such step.
        """
        if step is None:
            step = self.latest_step()
        if step is None or not (self._path(step) / MANIFEST).exists():
            steps = ", ".join(map(str, self.all_steps())) or "none"
            raise FileNotFoundError(
                f"{self.directory} has no checkpoint of step {step}; it has {steps}"
            )
        return restore(self._path(step), like, partial=partial)

    def all_steps(self) -> list[int]:
        """The steps there are, ascending."""
        found = (
            p for p in self.directory.iterdir() if p.name.isdigit() and (p / MANIFEST).exists()
        )
        return sorted(int(p.name) for p in found)

    def latest_step(self) -> int | None:
        """The newest step, or None."""
        steps = self.all_steps()
        return steps[-1] if steps else None

    def delete(self, step: int) -> None:
        """Remove a step; it is gone in one rename, so that nobody sees it half removed.

        Raises:
            FileNotFoundError: there is no such step.
        """
        doomed = temporary_beside(self._path(step))
        os.replace(self._path(step), doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    def wait_until_finished(self) -> None:
        """Return when all saving is done. Saving is synchronous, so that is at once."""
