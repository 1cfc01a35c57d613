"""Elementwise work on many small arrays, done once on all of them side by side.

An optimizer applies the same few operations to each parameter. Where the results are to lie side by
side in one buffer, and the operands do already, one operation on the buffers does for all (see
docs/decisions/stores.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from bevel.core.graph import Atom, Eqn, Lit, Var
from bevel.ops.base import broadcast_in_dim, reshape
from bevel.ops.families import ELEMENTWISE
from bevel.ops.logic import convert, select
from bevel.ops.shape import concatenate

_JOINED = ELEMENTWISE | {convert, select}
_DEEPEST = 100


def _is_elementwise(eqn: Eqn) -> bool:
    if eqn.op not in _JOINED:
        return False
    shape = eqn.outputs[0].aval.shape
    return all(a.aval.shape == shape for a in eqn.inputs)


def _is_fill(eqn: Eqn) -> bool:
    return eqn.op is broadcast_in_dim and eqn.inputs[0].aval.shape == ()


def _source(eqn: Eqn) -> Any:
    """What fills an array everywhere: a scalar variable, or the contents of a literal."""
    atom = eqn.inputs[0]
    return atom if type(atom) is Var else (atom.aval, atom.value.tobytes())


def kinds(eqns: Iterable[Eqn]) -> dict[Var, Any]:
    """For each variable that elementwise operations make, a number that says how: by which
    operations, from what. Two with the same number can be made side by side.
    """
    eqns = list(eqns)
    fills = {e.inputs[0] for e in eqns if _is_fill(e) and type(e.inputs[0]) is Var}
    known: dict[Any, int] = {}
    found: dict[Var, Any] = {}

    def kind(atom: Atom) -> Any:
        if type(atom) is Lit:
            return atom.aval.dtype.name, atom.value.tobytes() if atom.aval.size == 1 else None
        return found.get(atom, atom.aval.dtype.name)

    for e in eqns:
        if len(e.outputs) != 1:
            continue
        out = e.outputs[0]
        if out in fills:
            found[out] = out
        elif e.op is reshape:
            found[out] = kind(e.inputs[0])
        elif _is_fill(e):
            found[out] = kind(e.inputs[0])
        elif _is_elementwise(e):
            key = (e.op, tuple(sorted(e.params.items())), *map(kind, e.inputs))
            found[out] = known.setdefault(key, len(known))
    return found


class Joiner:
    """Makes arrays side by side. `eqns` collects what that takes, after the equations it is given;
    `wholes` are the buffers that were cut, by their pieces.
    """

    def __init__(self, eqns: Iterable[Eqn], wholes: dict[tuple[Var, ...], Var]):
        self.made_by = {v: e for e in eqns for v in e.outputs}
        self.wholes = wholes
        self.eqns: list[Eqn] = []
        self._known: dict[tuple[int, ...], Atom] = {}
        self._keep: list[Sequence[Atom]] = []  # what the keys are the ids of

    def join(self, atoms: Sequence[Atom], depth: int = 0) -> Atom:
        """One flat array with the elements of all, which have one dtype."""
        atoms = [self._peeled(a) for a in atoms]
        whole = self.wholes.get(tuple(atoms))  # type: ignore[arg-type]
        if whole is not None:
            return whole
        key = tuple(map(id, atoms))
        if key not in self._known:
            self._keep.append(atoms)
            eqns = [self.made_by.get(a) if type(a) is Var else None for a in atoms]
            self._known[key] = (
                self._filled(atoms, eqns)
                or self._computed(atoms, eqns, depth)
                or self._concatenated(atoms)
            )
        return self._known[key]

    def _peeled(self, atom: Atom) -> Atom:
        while type(atom) is Var and (e := self.made_by.get(atom)) and e.op is reshape:
            atom = e.inputs[0]
        return atom

    def _add(self, op: Any, inputs: list[Atom], like: Atom, size: int, **params: Any) -> Var:
        out = Var(like.aval.replace(shape=(size,)))
        self.eqns.append(Eqn(op, inputs, [out], params, None))
        return out

    def _filled(self, atoms: Sequence[Atom], eqns: Sequence[Eqn | None]) -> Atom | None:
        """The atoms hold one number everywhere."""
        sources = []
        for a, e in zip(atoms, eqns, strict=True):
            if e is not None and _is_fill(e):
                sources.append((e.inputs[0], _source(e)))
            elif a.aval.shape == ():
                sources.append((a, a if type(a) is Var else (a.aval, a.value.tobytes())))
            else:
                return None
        if any(s[1] != sources[0][1] for s in sources):
            return None
        size = sum([a.aval.size for a in atoms])
        source = sources[0][0]
        return self._add(broadcast_in_dim, [source], source, size, shape=(size,), dims=())

    def _computed(
        self, atoms: Sequence[Atom], eqns: Sequence[Eqn | None], depth: int
    ) -> Atom | None:
        """All are made by the same elementwise operation."""
        first = eqns[0]
        if first is None or depth > _DEEPEST:
            return None
        for e in eqns:
            if e is None or not _is_elementwise(e) or e.op is not first.op:
                return None
            if e.params != first.params:
                return None
            if any(
                a.aval.dtype != b.aval.dtype for a, b in zip(e.inputs, first.inputs, strict=True)
            ):
                return None
        size = sum([a.aval.size for a in atoms])
        columns = zip(*[e.inputs for e in eqns if e is not None], strict=True)
        operands = [self.join(c, depth + 1) for c in columns]
        return self._add(first.op, operands, atoms[0], size, **first.params)

    def _concatenated(self, atoms: Sequence[Atom]) -> Atom:
        flat = [
            a
            if len(a.aval.shape) == 1
            else self._add(reshape, [a], a, a.aval.size, shape=(a.aval.size,))
            for a in atoms
        ]
        if len(flat) == 1:
            return flat[0]
        size = sum([a.aval.size for a in atoms])
        return self._add(concatenate, flat, flat[0], size, axis=0)
