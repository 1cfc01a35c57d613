"""Products that a scan does step by step although no step waits for them, done at once.

Where a step multiplies its row of an array by a constant matrix, where it multiplies what it found
by one only to stack the result, and where it adds a product to a running total, the products of all
steps are one product of the stacked rows, before the loop or after it. So the loop of a recurrent
network, and the loop backwards through it, keep one product by the recurrent weights each; the
weights' gradients are one product. See docs/decisions/scan-products.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from bevel.core.graph import Atom, Eqn, Graph, Var, live_equations
from bevel.ops import add, dot_general, reduce_sum, reshape, transpose

MOST_BYTES = 64 << 20
"""Of rows that are stacked for the sake of this."""

MOST_GROWTH = 4
"""Of the bytes of a step's rows, by the rows that are stacked for the sake of this."""


class Plan:
    """A scan's body with fewer products, and what to do before and after the loop.

    `early`: equations whose results, for all steps, are further rows of the new body.
    `stacked`: further stacked results of the new body.
    `late`: for a stacked result's index, the equation that gives it from stacked rows.
    `totals`: for a carry's index, the equations (a product or sum, and changes of its shape) whose
    total over all steps is added to it.
    `carried`: the carries that stay.
    """

    def __init__(self, body: Graph, length: int, n_consts: int, n_carry: int):
        self.source = body
        self.length = length
        self.n_consts, self.n_carry = n_consts, n_carry
        self.consts = set(body.inputs[:n_consts])
        self.rows = set(body.inputs[n_consts + n_carry :])
        self.made = {v: e for e in body.eqns for v in e.outputs}
        self.uses = Counter(a for e in body.eqns for a in e.inputs if type(a) is Var)
        self.uses.update(a for a in body.outputs if type(a) is Var)
        self.ys = body.outputs[n_carry:]
        row_bytes = sum(v.aval.nbytes for v in [*self.rows, *self.ys])
        self.room = min(MOST_BYTES // max(length, 1), MOST_GROWTH * row_bytes)
        self.early: list[Eqn] = []
        self.stacked: list[Var] = []
        self.late: dict[int, Eqn] = {}
        self.totals: dict[int, list[Eqn]] = {}
        if length > 1:
            self._find_late()
            self._find_totals()
            self._find_early()
        self.carried = [i for i in range(n_carry) if i not in self.totals]
        self.body = self._smaller()

    @property
    def empty(self) -> bool:
        return not (self.early or self.late or self.totals)

    # -- finding them

    def _afford(self, *new: Atom) -> bool:
        """Take room for stacking these, unless they are stacked anyway or there is too little."""
        new_rows = [
            v
            for v in dict.fromkeys(new)
            if v not in self.rows and v not in self.ys and v not in self.stacked
        ]
        cost = sum(v.aval.nbytes for v in new_rows)
        if cost > self.room:
            return False
        self.room -= cost
        self.stacked += new_rows
        return True

    def _find_late(self) -> None:
        """Stacked results that are products by a constant."""
        for i, y in enumerate(self.ys):
            e = self.made.get(y)
            if e is None or e.op is not dot_general or self.uses[y] > 1:
                continue
            varying = [a for a in e.inputs if a not in self.consts]
            if len(varying) == 1 and type(varying[0]) is Var and self._afford(varying[0]):
                self.late[i] = e

    def _find_totals(self) -> None:
        """Carries to which every step adds a product of two values that it need not know."""
        body, sums = self.source, []
        for i in range(self.n_carry):
            carry, out = body.inputs[self.n_consts + i], body.outputs[i]
            e = self.made.get(out)
            if e is None or e.op is not add or self.uses[out] > 1 or self.uses[carry] > 1:
                continue
            if carry not in e.inputs or e.inputs[0] is e.inputs[1]:
                continue
            term = e.inputs[e.inputs[0] is carry]
            steps: list[Eqn] = []
            while (found := self.made.get(term)) is not None and self.uses[term] == 1:
                steps.insert(0, found)
                if found.op not in (transpose, reshape):
                    break
                term = found.inputs[0]
            if not steps or any(type(a) is not Var or a in self.consts for a in steps[0].inputs):
                continue
            if steps[0].op is dot_general and self._afford(*steps[0].inputs):
                self.totals[i] = steps
            elif steps[0].op is reduce_sum:
                sums.append((i, steps))
        for i, steps in sums:
            [row] = steps[0].inputs
            if row in self.rows or row in self.stacked or row in self.ys:
                self.totals[i] = steps

    def _find_early(self) -> None:
        """Products of a row by a constant."""
        moved = {e for e in self.late.values()} | {
            s for steps in self.totals.values() for s in steps
        }
        for e in self.source.eqns:
            if e.op is not dot_general or e in moved:
                continue
            rows = [a for a in e.inputs if a in self.rows]
            fixed = [a for a in e.inputs if a in self.consts]
            [out] = e.outputs
            if len(rows) == len(fixed) == 1 and out.aval.nbytes <= self.room:
                self.room -= out.aval.nbytes
                self.early.append(e)

    def _smaller(self) -> Graph:
        body, n = self.source, self.n_consts
        carries = [body.inputs[n + i] for i in self.carried]
        new_rows = [e.outputs[0] for e in self.early]
        ys = [y for i, y in enumerate(self.ys) if i not in self.late]
        outputs = [body.outputs[i] for i in self.carried] + ys + self.stacked
        inputs = body.inputs[:n] + carries + body.inputs[n + self.n_carry :] + new_rows
        eqns = [e for e in body.eqns if e not in self.early]
        return Graph(inputs, live_equations(eqns, outputs), outputs)

    # -- doing them

    def before(self, consts: Sequence[Any], xs: Sequence[Any]) -> list[Any]:
        """The further rows, stacked."""
        at = self._known(consts, xs)
        return [self._all(e, at) for e in self.early]

    def after(
        self, consts: Sequence[Any], carry: Sequence[Any], xs: Sequence[Any], outs: Sequence[Any]
    ) -> list[Any]:
        """The results of the whole scan, from its operands and the smaller loop's results."""
        at = self._known(consts, xs)
        n, n_ys = len(self.carried), len(self.ys) - len(self.late)
        kept = [y for i, y in enumerate(self.ys) if i not in self.late]
        at.update(zip([*kept, *self.stacked], outs[n:], strict=True))
        carried, ys = iter(outs[:n]), iter(outs[n : n + n_ys])
        found = [
            add(c, self._total(self.totals[i], at)) if i in self.totals else next(carried)
            for i, c in enumerate(carry)
        ]
        for i in range(len(self.ys)):
            found.append(self._all(self.late[i], at) if i in self.late else next(ys))
        return found

    def _known(self, consts: Sequence[Any], xs: Sequence[Any]) -> dict[Any, Any]:
        inputs = self.source.inputs
        return {
            **dict(zip(inputs[: self.n_consts], consts, strict=True)),
            **dict(zip(inputs[self.n_consts + self.n_carry :], xs, strict=True)),
        }

    def _all(self, e: Eqn, at: dict[Any, Any]) -> Any:
        """A product by a constant for all steps: time is one more free axis of the other operand,
        and comes first.
        """
        a, b = e.inputs
        contract, batch = e.params["contract"], e.params.get("batch", ((), ()))
        rows_first = a not in self.consts
        shift = (1, 0) if rows_first else (0, 1)
        later = [tuple([i + s for i in side]) for side, s in zip(contract, shift, strict=True)]
        batches = [tuple([i + s for i in side]) for side, s in zip(batch, shift, strict=True)]
        params = {**e.params, "contract": tuple(later), "batch": tuple(batches)}
        out = dot_general(at[a], at[b], **params)
        n_batch = len(batch[0])
        where = n_batch  # of time among the result's axes
        if not rows_first:
            where += a.aval.ndim - len(contract[0]) - n_batch
        order = [where, *[i for i in range(len(out.shape)) if i != where]]
        return out if where == 0 else transpose(out, permutation=tuple(order))

    def _total(self, steps: list[Eqn], at: dict[Any, Any]) -> Any:
        """The total of a product or sum over all steps: time is contracted, too."""
        first, *rest = steps
        args = [at[a] for a in first.inputs]

        def later(axes: Sequence[int]) -> tuple[int, ...]:
            return tuple([i + 1 for i in axes])

        if first.op is reduce_sum:
            out = reduce_sum(*args, axes=(0, *later(first.params["axes"])))
        else:
            contract, batch = first.params["contract"], first.params.get("batch", ((), ()))
            moved = {
                "contract": tuple([(0, *later(side)) for side in contract]),
                "batch": tuple([later(side) for side in batch]),
            }
            out = dot_general(*args, **{**first.params, **moved})
        for e in rest:
            out = e.op(out, **e.params)
        return out


def plan(body: Graph, length: int, n_consts: int, n_carry: int) -> Plan:
    """The plan for a scan, made once."""
    key = ("products", length, n_consts, n_carry)
    return body.cached(key, lambda: Plan(body, length, n_consts, n_carry))
