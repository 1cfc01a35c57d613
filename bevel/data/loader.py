"""`Loader`: batches of a source, in an order that a key and a step determine.

Batch number `step` is a function of the source, the key and the step alone. So where a loader
stands is one integer, whatever runs ahead in other threads, and the batches of several processes
are the parts of one.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from bevel import random
from bevel.api.devices import default_backend, device_put
from bevel.core import config, tree
from bevel.data.sources import source_of
from bevel.numpy.convert import enter
from bevel.xla import client

REMAINDERS = ("drop", "keep", "pad", "error")
_ORDER, _DRAWS = 0, 1  # what a key is for


class Loader:
    """Batches of examples: shuffled, mapped, made ahead in threads, resumed exactly.

    `for batch in loader` gives the batches from where the loader stands to the end of the epoch;
    the next `for` is the next epoch, in another order. After a `break` it goes on with the next
    batch. `state` and `restore` save and set where it stands.

    Args:
        source: an array, or a pytree of arrays with a common leading axis (NumPy, memory maps,
            Bevel); or examples by index: a list, or any object with `__len__` and `__getitem__`,
            whose examples are pytrees that are stacked.
        batch_size: examples in a batch, of all shards together.
        key: a random key for the order of each epoch; None keeps the source's order.
        remainder: what becomes of the last examples if they do not fill a batch: "drop" them,
            "keep" a smaller batch, "pad" it by repeated examples (every batch is then a pair of
            the batch and a boolean mask (batch_size,) of the examples that count), or "error".
        random_map: `random_map(key, batch)`, for augmentation: the key is another for each step
            (and shard), and the same when resumed. Needs `key`.
        map: `map(batch)`, after `random_map`. Both get NumPy arrays and return any pytree of
            arrays; with `prefetch` they run in other threads.
        epochs: how many one `for` runs; None never ends.
        shard: (index, count): this process's part of each batch, such as
            `(bv.process_index(), bv.process_count())`. The parts of all, in order, are the batch
            of one process alone.
        prefetch: batches that are made ahead, and put on the device; 0 makes them when asked.
        workers: threads that make them.
        device: where batches are put (default: where new arrays go).

    Raises:
        TypeError: no source, or `key` is no random key.
        ValueError: an argument does not fit; the message says how.

    >>> import numpy as np
    >>> from bevel import data
    >>> loader = data.Loader(np.arange(5), batch_size=2, remainder="pad")
    >>> for batch, mask in loader:
    ...     print(batch, mask)
    [0 1] [ True  True]
    [2 3] [ True  True]
    [4 4] [ True False]
    """

    def __init__(
        self,
        source: Any,
        *,
        batch_size: int,
        key: Any = None,
        remainder: str = "drop",
        random_map: Callable[[Any, Any], Any] | None = None,
        map: Callable[[Any], Any] | None = None,  # noqa: A002 (the field's name)
        epochs: int | None = 1,
        shard: tuple[int, int] = (0, 1),
        prefetch: int = 0,
        workers: int = 1,
        device: Any = None,
    ):
        self._source = source_of(source)
        self._size = len(self._source)
        self._batch_size = batch_size
        self._key = key
        self._remainder = remainder
        self._random_map = random_map
        self._map = map
        self._epochs = epochs
        self._shard = shard
        self._prefetch = prefetch
        self._workers = workers
        self._device = device
        self._step = 0
        self._run: object = None
        self._orders: dict[int, np.ndarray] = {}
        self._check()
        left = 0 if remainder == "drop" else bool(self._size % batch_size)
        self._steps = self._size // batch_size + left
        self._check_remainder()

    def _check(self) -> None:
        for name, value, least in (
            ("batch_size", self._batch_size, 1),
            ("epochs", 1 if self._epochs is None else self._epochs, 1),
            ("prefetch", self._prefetch, 0),
            ("workers", self._workers, 1),
        ):
            if not hasattr(value, "__index__") or value < least:
                raise ValueError(
                    f"Loader: {name} must be a whole number of at least {least}, got {value!r}"
                )
        if self._key is not None and not random.is_key(self._key):
            raise TypeError(
                f"Loader: key must be a random key, got {type(self._key).__name__}.\n"
                "Write instead: key=random.key(0)."
            )
        if self._random_map is not None and self._key is None:
            raise ValueError("Loader: random_map draws from a key; write key=random.key(0) with it")
        if self._remainder not in REMAINDERS:
            raise ValueError(
                f"Loader: remainder is one of {', '.join(REMAINDERS)}, got {self._remainder!r}"
            )
        index, count = self._shard if isinstance(self._shard, tuple | list) else (-1, 1)
        if not 0 <= index < count or self._batch_size % count:
            raise ValueError(
                f"Loader: shard={self._shard} does not divide a batch of {self._batch_size}.\n"
                "Why: it is (index, count) with index below count, and each shard has an equal "
                "part of every batch; batch_size is that of all together.\n"
                f"Write instead: batch_size={self._batch_size * count} for {self._batch_size} "
                "examples a shard."
            )

    def _check_remainder(self) -> None:
        left = self._size % self._batch_size
        if self._steps == 0:
            raise ValueError(
                f"Loader: there is no batch of {self._batch_size} in {self._size} examples.\n"
                'Write instead: a smaller batch_size, or remainder="pad" or "keep".'
            )
        if left and self._remainder == "error":
            raise ValueError(
                f"Loader: {self._size} examples leave {left} after batches of "
                f'{self._batch_size}, and remainder="error".\n'
                'Write instead: remainder="drop", "keep" or "pad".'
            )
        if left and self._remainder == "keep" and self._shard[1] > 1:
            raise ValueError(
                f'Loader: remainder="keep" would give shards different numbers of the {left} last '
                "examples.\n"
                "Why: processes that compute together need arrays of one shape.\n"
                'Write instead: remainder="pad", whose mask says which examples count, or "drop".'
            )

    # -- where it stands -------------------------------------------------------------------------

    @property
    def step(self) -> int:
        """Number of batches given so far, of all epochs: the number of the next one."""
        return self._step

    @property
    def epoch(self) -> int:
        """The epoch of the next batch."""
        return self._step // self._steps

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch."""
        return self._steps

    def __len__(self) -> int:
        if self._epochs is None:
            raise TypeError(
                "Loader: epochs=None has no length; loader.steps_per_epoch is that of one epoch"
            )
        return self._steps * self._epochs

    def state(self) -> dict[str, Any]:
        """Where the loader stands, to go into a checkpoint: a dict of integers and the key's words.

        Batches that were made ahead do not count: the next one is the first that was not given.
        """
        words = None if self._key is None else np.asarray(random.key_data(self._key))
        return {
            "step": self._step,
            "examples": self._size,
            "batch_size": self._batch_size,
            "steps_per_epoch": self._steps,
            "key": words,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go where a loader of the same source, key and batch size stood.

        The number of shards may be another one.

        Raises:
            ValueError: it was another source, key or batch size, whose batches would be others.

        >>> import numpy as np
        >>> from bevel import data
        >>> first, second = (data.Loader(np.arange(6), batch_size=2) for _ in range(2))
        >>> batch = next(iter(first))
        >>> second.restore(first.state())
        >>> next(iter(second))
        Array([2, 3], dtype=int32)
        """
        mine = self.state()
        for name in ("examples", "batch_size", "steps_per_epoch", "key"):
            if not np.array_equal(np.asarray(state[name]), np.asarray(mine[name])):
                raise ValueError(
                    f"Loader.restore: the state is of a loader with {name}={state[name]}, and this "
                    f"one has {name}={mine[name]}.\n"
                    "Why: its batches are others, so the run would not go on as it was.\n"
                    "Write instead: a loader with the same arguments; to start anew, do not "
                    "restore."
                )
        self._step = int(state["step"])
        self._run = None

    # -- batches ---------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        steps: Any = itertools.count(self._step)
        if self._epochs is not None:
            steps = range(self._step, (self._step // len(self) + 1) * len(self))
        self._run = run = object()
        target = self._target()
        made = (
            self._ahead(steps, target) if self._prefetch else (self._make(s, target) for s in steps)
        )
        return self._given(made, run)

    def _target(self) -> Any:
        """Where batches are put; None leaves them as eager arrays of the CPU."""
        if self._device is not None:
            return self._device
        on_cpu = config.get("default_device") is None and default_backend() == "cpu"
        return None if on_cpu else client.default_device()

    def _given(self, made: Generator[Any], run: object) -> Iterator[Any]:
        """The batches, counted as they are given."""
        with contextlib.closing(made):
            for batch in made:
                if self._run is not run:
                    raise RuntimeError(
                        "Loader: a `for` goes on after another one began, or after `restore`.\n"
                        "Why: a loader stands at one place.\n"
                        "Write instead: a second Loader of the same source, or end the first "
                        "`for`."
                    )
                self._step += 1
                yield batch

    def _ahead(self, steps: Iterator[int], target: Any) -> Generator[Any]:
        """The batches, of which `prefetch` are under way in other threads while one is used."""
        pool, process = ThreadPoolExecutor(self._workers, "bevel-data"), os.getpid()
        waiting: deque[Any] = deque()

        def oldest() -> Any:
            if os.getpid() != process:
                raise RuntimeError(
                    "Loader: a `for` with prefetch goes on in a forked process.\n"
                    "Why: the threads that make its batches stayed with the parent.\n"
                    "Write instead: begin the `for` in the child, or prefetch=0."
                )
            return waiting.popleft().result()

        try:
            for step in steps:
                waiting.append(pool.submit(self._make, step, target))
                if len(waiting) > self._prefetch:
                    yield oldest()
            while waiting:
                yield oldest()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _make(self, step: int, target: Any) -> Any:
        """Batch number `step`."""
        indices, counted = self._indices(step)
        batch = self._source.gather(indices)
        if self._random_map is not None:
            key = self._key_of(_DRAWS, step)
            batch = self._random_map(random.fold_in(key, self._shard[0]), batch)
        if self._map is not None:
            batch = self._map(batch)
        batch = (batch, counted) if self._remainder == "pad" else batch
        return tree.map(enter, batch) if target is None else device_put(batch, target)

    def _key_of(self, use: int, number: int) -> Any:
        return random.fold_in(random.fold_in(self._key, use), number)

    def _indices(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Which examples are this shard's part of a batch, and which of them count."""
        epoch, number = divmod(step, self._steps)
        found = self._order(epoch)[number * self._batch_size : (number + 1) * self._batch_size]
        size = len(found) if self._remainder == "keep" else self._batch_size
        index, count = self._shard
        mine = slice(index * size // count, (index + 1) * size // count)
        return np.resize(found, size)[mine], (np.arange(size) < len(found))[mine]

    def _order(self, epoch: int) -> np.ndarray:
        """The order of the examples in an epoch."""
        epoch = 0 if self._key is None else epoch
        order = self._orders.get(epoch)
        if order is None:
            order = np.arange(self._size)
            if self._key is not None:
                drawn = random.permutation(self._key_of(_ORDER, epoch), self._size)
                order = np.asarray(drawn)
            self._orders = {epoch: order}
        return order
