"""What transforms are told of a module's variables: `DiffState`, `StateAxes`, `Carry`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bevel.core.ref import Cell
from bevel.nn.filters import to_predicate
from bevel.nn.structure import path_text, structure_of


class Carry:
    """Marks the argument and the result that `nn.scan` carries from step to step."""


@dataclasses.dataclass(frozen=True)
class DiffState:
    """The variables of one argument to differentiate in, for `argnums` of `bv.grad`.

    Args:
        argnum: number of the argument.
        filter: of its variables.

    >>> import bevel as bv
    >>> from bevel import nn
    >>> layer = nn.Linear(2, 1, rngs=nn.Rngs(0))
    >>> only_bias = nn.DiffState(0, nn.PathContains("bias"))
    >>> bv.grad(lambda m: m([1.0, 2.0]).sum(), argnums=only_bias)(layer)
    State({'bias': Array([1.], dtype=float32)})
    """

    argnum: int
    filter: Any


class StateAxes(Mapping):
    """The axis of each of a module's variables, for `in_axes` and `out_axes` of `bv.vmap` and
    `nn.scan`.

    Args:
        filter_axes: axes by filter, or pairs; each variable has the axis of the first filter that
            takes it. An axis is an int, None for variables that all rows share, or (in `nn.scan`)
            `nn.Carry` for those that go from step to step, which is the same.

    Raises:
        ValueError: (when used) no filter takes a variable.

    >>> import bevel as bv, bevel.numpy as bnp
    >>> from bevel import nn
    >>> axes = nn.StateAxes({nn.PathContains("kernel"): 0, ...: None})
    >>> layer = nn.Linear(2, 1, rngs=nn.Rngs(0))
    >>> layer.kernel.value = bnp.ones((5, 2, 1))
    >>> bv.vmap(lambda m, x: m(x), in_axes=(axes, None))(layer, bnp.ones(2)).shape
    (5, 1)
    """

    def __init__(self, filter_axes: Mapping[Any, Any] | Iterable[tuple[Any, Any]], /):
        pairs = filter_axes.items() if isinstance(filter_axes, Mapping) else filter_axes
        self._pairs = tuple((f, None if a is Carry else a) for f, a in pairs)

    @property
    def filters(self) -> tuple[Any, ...]:
        """The filters."""
        return tuple(f for f, _ in self._pairs)

    @property
    def axes(self) -> tuple[int | None, ...]:
        """The axis of each."""
        return tuple(a for _, a in self._pairs)

    def __getitem__(self, key: Any) -> int | None:
        return dict(self._pairs)[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.filters)

    def __len__(self) -> int:
        return len(self._pairs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StateAxes) and self._pairs == other._pairs

    def __hash__(self) -> int:
        return hash(self._pairs)

    def __repr__(self) -> str:
        return f"StateAxes({dict(self._pairs)})"

    def __bevel_axes__(self, node: Any) -> dict[Cell, int | None]:
        found = structure_of(node)
        rules = [(to_predicate(f), a) for f, a in self._pairs]
        axes = {}
        for path, cell in zip(found.paths, found.cells, strict=True):
            taken = [a for p, a in rules if p(path, cell)][:1]
            if not taken:
                raise ValueError(
                    f"{self!r} has no axis for {path_text(path)}, a {type(cell).__name__}.\n"
                    "Write instead: `...: None` as the last entry, for all that is left."
                )
            axes[cell] = taken[0]
        return axes
