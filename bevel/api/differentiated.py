"""The arguments that a function is differentiated in, with the cells of modules among them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from bevel.api.body import refuse_writes
from bevel.api.flat import argument_name, as_handle, as_tuple, cells_of, is_single, rewrap
from bevel.api.naming import cell_name
from bevel.core import tree
from bevel.core.handle import Handle, fresh_tag, wrap
from bevel.core.ref import Cell, Scope


def _chosen(leaf: Any, inside: Sequence[Cell], wanted: Any) -> list[Cell]:
    """The cells of a stateful leaf to differentiate in."""
    if isinstance(leaf, Cell):
        return [leaf]
    if wanted is None:
        return [c for c in inside if c.differentiable]
    return leaf.__bevel_chosen__(wanted)


def _state_of(leaf: Any, contents: dict[Cell, Any]) -> Any:
    """What stands for a stateful leaf in a result: a state of its cells, or a cell's content."""
    return contents[leaf] if isinstance(leaf, Cell) else leaf.__bevel_state__(contents)


def _up_to(treedef: Any, given: Any) -> list[Any]:
    """What a tree has in the places of leaves; None in each for None."""
    return [None] * treedef.num_leaves if given is None else treedef.flatten_up_to(given)


def contents(x: Any) -> Any:
    """A tree with what state cells in it hold now in their places."""
    return tree.map(lambda leaf: leaf._read() if isinstance(leaf, Cell) else leaf, x)


def numbers_and_filters(argnums: Any, wrt: Any) -> tuple[bool, tuple[int, ...], tuple[Any, ...]]:
    """Whether one argument is meant, argument numbers, and the filter of each (`nn.DiffState`)."""
    single = is_single(argnums) or hasattr(argnums, "argnum")
    given = (argnums,) if single else tuple(argnums)
    numbers = as_tuple([getattr(a, "argnum", a) for a in given])
    return single, numbers, tuple([getattr(a, "filter", wrt) for a in given])


class Wrt:
    """The arguments a function is differentiated in: array leaves, and cells of modules among
    them, those that a filter takes or else those that are differentiable.
    """

    def __init__(
        self,
        what: str,
        fun: Callable[..., Any],
        args: tuple,
        argnums: Sequence[int],
        filters: Sequence[Any] = (),
    ):
        self.what = what
        self.fun = fun
        self.args = args
        self.argnums = argnums
        self.trees = []
        self.handles: list[Handle] = []
        cells: dict[Cell, None] = {}
        others: dict[Cell, None] = {}
        for n, wanted in itertools.zip_longest(argnums, filters):
            leaves, treedef = tree.flatten(args[n])
            places: list[Any] = []
            for leaf in leaves:
                inside = None if isinstance(leaf, Handle) else cells_of(leaf)
                if inside is None:
                    places.append(len(self.handles))
                    self.handles.append(as_handle(leaf, f"{what}: {argument_name(fun, n)}"))
                else:
                    chosen = _chosen(leaf, inside, wanted)
                    cells.update(dict.fromkeys(chosen))
                    others.update(dict.fromkeys(inside))
                    places.append((leaf, chosen))
            self.trees.append((n, treedef, places))
        self.cells = list(cells)
        self.constant = [c for c in others if c not in cells]
        self.size = len(self.handles) + len(self.cells)

    def primals(self) -> list[Handle]:
        """Where to differentiate: the array leaves, then the contents of the cells."""
        return [
            *self.handles,
            *[as_handle(c._read(), f"{self.what}: a parameter") for c in self.cells],
        ]

    def name(self, i: int) -> str:
        """What messages call a primal: `argument 0 (x)['a']`."""
        if i >= len(self.handles):
            return cell_name(self.cells[i - len(self.handles)], self.fun, self.args)
        for n, treedef, places in self.trees:
            if i in places:
                marked = tree.unflatten(treedef, list(range(len(places))))
                path = tree.leaves_with_path(marked)[places.index(i)][0]
                return argument_name(self.fun, n) + tree.keystr(path)
        return "an input"

    def run(
        self, fun: Callable[..., Any], values: Sequence[Any], kwargs: dict[str, Any], scope: Scope
    ) -> Any:
        """Call the user's function with these values in place of the differentiated ones."""
        handles = rewrap(values[: len(self.handles)], [h._tag for h in self.handles])
        args = self.arguments(handles)
        with scope:
            for cell, value in zip(self.cells, values[len(self.handles) :], strict=True):
                scope.show(cell, wrap(value, fresh_tag(cell._read()._tag)))
            return contents(fun(*args, **kwargs))

    def run_pure(self, fun: Callable[..., Any], values: Sequence[Any]) -> Any:
        """Likewise, for a function that must not write state cells.

        Raises:
            StateError: it does.
        """
        scope = Scope(self.what)
        result = self.run(fun, values, {}, scope)
        refuse_writes(self.what, scope.changed(), self.fun, self.args)
        return result

    def arguments(self, handles: Sequence[Handle]) -> list[Any]:
        """The arguments with these array leaves."""
        args = list(self.args)
        for n, treedef, places in self.trees:
            leaves = [handles[p] if type(p) is int else p[0] for p in places]
            args[n] = tree.unflatten(treedef, leaves)
        return args

    def collect(self, results: Sequence[Any]) -> list[Any]:
        """One tree a differentiated argument, from results per primal."""
        n = len(self.handles)
        by_cell = dict(zip(self.cells, results[n:], strict=True))
        out = []
        for _, treedef, places in self.trees:
            leaves: list[Any] = []
            for p in places:
                if type(p) is int:
                    leaves.append(results[p])
                else:
                    leaves.append(_state_of(p[0], {c: by_cell[c] for c in p[1]}))
            out.append(tree.unflatten(treedef, leaves))
        return out

    def spread(self, name: str, trees: Sequence[Any]) -> list[Any]:
        """What trees like those of `collect` have for each primal; None where a tree has None in
        the place of a leaf, of all parameters of a module, or of itself.

        Args:
            name: what they are, for messages.
            trees: one per differentiated argument.

        Raises:
            TypeError: another structure, or two things for the one cell that two modules share.
        """
        found: dict[int, Any] = {}
        for k, (n, treedef, places) in enumerate(self.trees):
            try:
                leaves = _up_to(treedef, trees[k])
                parts = [
                    x for p, leaf in zip(places, leaves, strict=True) for x in self._of(p, leaf)
                ]
            except ValueError:
                wanted = self.collect(range(self.size))[k]
                raise TypeError(
                    f"{self.what}: the {name} of argument {n} has the structure "
                    f"{tree.structure(trees[k])}, but it must be that of the value, "
                    f"{tree.structure(wanted)}"
                ) from None
            for i, part in parts:
                if found.setdefault(i, part) is not part:
                    cell = self.cells[i - len(self.handles)]
                    raise TypeError(
                        f"{self.what}: two modules in its arguments share the "
                        f"{cell_name(cell, self.fun, self.args)}, and the {name} of one is not "
                        "that of the other.\n"
                        "Write instead: one argument that holds both modules."
                    )
        return [found[i] for i in range(self.size)]

    def _of(self, place: Any, leaf: Any) -> list[tuple[int, Any]]:
        """Numbers of primals, and what a leaf of such a tree has for each."""
        if type(place) is int:
            return [(place, leaf)]
        module, chosen = place
        every = dict(zip(self.cells, range(len(self.handles), self.size), strict=True))
        numbers = {c: every[c] for c in chosen}
        order, inner = tree.flatten(_state_of(module, numbers))
        return list(zip(order, _up_to(inner, leaf), strict=True))
