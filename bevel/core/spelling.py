"""What the user's own source calls the operands of the call that is running.

For messages only: nothing here runs until something has failed. The position of the running
instruction gives the expression in the file; it is taken for the operation that failed only if its
operator or function has that name, and the variables in it have the shapes of the operands.
"""

from __future__ import annotations

import ast
import copy
import functools
import linecache
import sys
from collections.abc import Mapping, Sequence
from types import FrameType, FunctionType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from bevel.core import source
from bevel.core.handle import Handle

Shape = tuple[int, ...]

_KINDS = (ast.BinOp, ast.AugAssign, ast.Compare, ast.Call, ast.Subscript)
_WIDEST = 40
_UNKNOWN = object()

_OPERATORS: dict[type, tuple[str, ...]] = {
    ast.Add: ("add",),
    ast.Sub: ("subtract",),
    ast.Mult: ("multiply",),
    ast.MatMult: ("matmul",),
    ast.Div: ("divide", "true_divide"),
    ast.FloorDiv: ("floor_divide",),
    ast.Mod: ("remainder", "mod"),
    ast.Pow: ("power",),
    ast.LShift: ("left_shift",),
    ast.RShift: ("right_shift",),
    ast.BitAnd: ("bitwise_and",),
    ast.BitOr: ("bitwise_or",),
    ast.BitXor: ("bitwise_xor",),
    ast.Eq: ("equal",),
    ast.NotEq: ("not_equal",),
    ast.Lt: ("less",),
    ast.LtE: ("less_equal",),
    ast.Gt: ("greater",),
    ast.GtE: ("greater_equal",),
}
_MIRRORED: dict[type, str] = {
    ast.Lt: "greater",
    ast.LtE: "greater_equal",
    ast.Gt: "less",
    ast.GtE: "less_equal",
}
_SHARED = (ast.Add, ast.Mult, ast.BitAnd, ast.BitOr, ast.BitXor, ast.Eq, ast.NotEq)


@functools.lru_cache(maxsize=8)
def _expressions(lines: tuple[str, ...]) -> dict[source.Span, Any]:
    """The operations of a file by the positions that the compiler gives their instructions."""
    try:
        tree = ast.parse("".join(lines))
    except (SyntaxError, ValueError):
        return {}
    found: dict[source.Span, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, _KINDS):
            found[node.lineno, node.end_lineno, node.col_offset, node.end_col_offset] = node
            func = getattr(node, "func", None)
            if isinstance(func, ast.Attribute) and func.lineno != func.end_lineno:
                # The call of a method starts at the method where its object is on lines before.
                start = (func.end_col_offset or 0) - len(func.attr)
                found[func.end_lineno, node.end_lineno, start, node.end_col_offset] = node
    return found


def _running(frame: FrameType) -> Any:
    """The operation that a frame is waiting for, as a tree; None if there is no source."""
    span = source.position(frame.f_code, frame.f_lasti)
    lines = tuple(linecache.getlines(frame.f_code.co_filename, frame.f_globals))
    return _expressions(lines).get(span) if lines else None


def _entered(frame: FrameType) -> FrameType | None:
    """The frame of Bevel that a user's frame has called."""
    inner: FrameType | None = None
    each: FrameType | None = sys._getframe(1)
    while each is not None and each is not frame:
        inner, each = each, each.f_back
    return inner


class Spelling(NamedTuple):
    """An operation in the user's source."""

    tree: Any
    operands: tuple[ast.expr, ...]
    names: Mapping[str, Any]

    def whole(self) -> str:
        """The operation as text."""
        return ast.unparse(self.tree)

    def label(self, i: int) -> str:
        """What an operand is called, shortened if it is long."""
        return shortened(self.operands[i])

    def is_operator(self) -> bool:
        """Whether it is an operator rather than a call."""
        return not isinstance(self.tree, ast.Call)

    def takes_attributes(self, i: int) -> bool:
        """Whether an operand may have attributes and an index as arrays do: no list, no number."""
        node = self.operands[i]
        if isinstance(node, ast.List | ast.Tuple | ast.Constant | ast.ListComp):
            return False
        found = _resolved(node, self.names)
        return found is _UNKNOWN or hasattr(type(found), "shape")

    def changed(
        self,
        changes: Mapping[int, str] | None = None,
        callee: str | None = None,
        settings: Mapping[str, tuple[int | None, str]] | None = None,
        swap: bool = False,
    ) -> str | None:
        """The operation with operands, its function or other arguments replaced, as code.

        In a new operand `_` is the old one; a new index is written `[:, _]`. None if it cannot be
        written.
        """
        new: dict[int, Any] = {}
        if swap:
            first, second = self.operands[:2]
            new = {id(first): second, id(second): first}
        for i, template in (changes or {}).items():
            node = self.operands[i]
            if isinstance(node, ast.Subscript) and node not in ast.walk(self.tree):
                return None  # an element of a list that a variable holds
            if not (self.takes_attributes(i) or template.startswith(("bnp.", "["))):
                return None
            made = self._filled(template, {"_": node})
            if made is None:
                return None
            new[id(node)] = made
        tree: Any = copy.deepcopy(self.tree, new)  # the memo puts the new operands in place
        if callee is not None and not self._call(tree, callee):
            return None
        for name, (place, text) in (settings or {}).items():
            self._set(tree, name, place, ast.parse(text, mode="eval").body)
        return untransposed(ast.unparse(tree))

    def _set(self, tree: Any, name: str, place: int | None, value: ast.expr) -> None:
        """Give a call another argument, where it has it now or by name."""
        method = _function(self.tree, self.names)[1]
        if place is not None and place - method < len(tree.args):
            tree.args[place - method] = value
            return
        tree.keywords = [k for k in tree.keywords if k.arg != name]
        tree.keywords.append(ast.keyword(name, value))

    def with_entry(self, i: int, count: int, text: str) -> str | None:
        """The call with another entry of a shape, whether that is one argument or several."""
        place = 1 - _function(self.tree, self.names)[1]
        new = ast.parse(text, mode="eval").body
        args = self.tree.args[place:]
        named = [k.value for k in self.tree.keywords if k.arg in ("shape", "new_sizes")]
        entries = (
            args if len(args) == count > 1 else getattr((args or named or [None])[0], "elts", [])
        )
        if len(entries) != count or any(isinstance(e, ast.Starred) for e in entries):
            return None
        return ast.unparse(copy.deepcopy(self.tree, {id(entries[i]): new}))

    def _call(self, tree: Any, callee: str) -> bool:
        """Let a call be one of another function of the same module."""
        func = tree.func
        if isinstance(func, ast.Attribute):
            module = _resolved(func.value, self.names)
            if isinstance(module, ModuleType) and hasattr(module, callee):
                func.attr = callee
                return True
            return False
        if isinstance(func, ast.Name) and _own_name(self.names.get(callee)) == callee:
            func.id = callee
            return True
        return False

    def rewritten(self, template: str) -> str | None:
        """Other code, with the operands for `_0`, `_1`; None if it cannot be written."""
        if not isinstance(self.tree, ast.expr):
            return None
        for i, operand in enumerate(self.operands):
            repeated = template.count(f"_{i}") > 1
            if repeated and any(isinstance(n, ast.Call) for n in ast.walk(operand)):
                return None
            if f"_{i}." in template and not self.takes_attributes(i):
                return None
        made = self._filled(template, {f"_{i}": x for i, x in enumerate(self.operands)})
        return None if made is None else ast.unparse(made)

    def _filled(self, template: str, holes: Mapping[str, ast.expr]) -> ast.expr | None:
        if template.startswith("bnp."):
            alias = alias_of("bevel.numpy", self.names)
            if alias is None:
                return None
            template = alias + template.removeprefix("bnp")
        index = template.startswith("[")
        made: Any = ast.parse("x" + template if index else template, mode="eval").body
        made = made.slice if index else made
        found = [n for n in ast.walk(made) if isinstance(n, ast.Name) and n.id in holes]
        return copy.deepcopy(made, {id(n): holes[n.id] for n in found})


def untransposed(code: str) -> str:
    """Code without what transposes twice."""
    return code.replace(".mT.mT", "").replace(".T.T", "")


def shortened(node: ast.expr) -> str:
    """An expression as text of at most some forty characters."""
    text = ast.unparse(node)
    if len(text) <= _WIDEST:
        return text
    if isinstance(node, ast.Call):
        func = ast.unparse(node.func)
        if len(func) < _WIDEST:
            return f"{func}(...)"
    return f"{text[: _WIDEST - 3]}..."


def alias_of(module: str, names: Mapping[str, Any]) -> str | None:
    """What a frame calls a module."""
    for name, value in names.items():
        if isinstance(value, ModuleType) and value.__name__ == module and not name.startswith("_"):
            return name
    return None


def _resolved(node: Any, names: Mapping[str, Any]) -> Any:
    """The value of a variable, or of an attribute that no code computes."""
    if isinstance(node, ast.Name):
        return names.get(node.id, _UNKNOWN)
    if isinstance(node, ast.Attribute):
        base = _resolved(node.value, names)
        held = getattr(base, "__dict__", None)
        return held.get(node.attr, _UNKNOWN) if isinstance(held, dict) else _UNKNOWN
    return _UNKNOWN


def _has_shape(node: ast.expr, shape: Shape | None, names: Mapping[str, Any]) -> bool:
    """Whether nothing speaks against an expression being an operand of this shape."""
    if shape is None:
        return True
    if isinstance(node, ast.List | ast.Tuple):
        return shape[:1] == (len(node.elts),)
    found = _resolved(node, names)
    if found is _UNKNOWN:
        return not isinstance(node, ast.Name)
    if isinstance(found, list | tuple):
        return shape[:1] == (len(found),)
    if isinstance(found, int | float | complex):
        return shape == ()
    known = isinstance(found, Handle | np.ndarray) or hasattr(type(found), "__bevel_array__")
    return known and tuple(found.shape) == shape


def _function(call: ast.Call, names: Mapping[str, Any]) -> tuple[str, bool]:
    """Name of the function that is called, and whether it is a method of the first operand."""
    func: Any = call.func
    found = _resolved(func, names)
    if isinstance(func, ast.Attribute):
        method = not isinstance(_resolved(func.value, names), ModuleType | type)
        return (func.attr if method or found is _UNKNOWN else _own_name(found)), method
    return _own_name(found), False


def _own_name(function: Any) -> str:
    """The name of a function of Bevel's; none for what transforms have made of one."""
    if not isinstance(function, FunctionType) or hasattr(function, "__wrapped__"):
        return ""
    return function.__name__ if function.__module__.startswith("bevel.") else ""


def _of_call(
    tree: Any, names: Mapping[str, Any], op: str, params: Sequence[str], listed: int | None
) -> list[ast.expr] | None:
    """The operands of a call: of a function, or of a method with its object as the first."""
    name, method = _function(tree, names)
    if name != op:
        return None
    args: list[ast.expr] = [*([tree.func.value] if method else []), *tree.args]
    if any(isinstance(a, ast.Starred) for a in args):
        return None
    given = {k.arg: k.value for k in tree.keywords}
    args += [given[p] for p in params[len(args) :] if p in given]
    if listed is None:
        return args
    if not args:
        return None
    first = args[0]
    if isinstance(first, ast.List | ast.Tuple):
        return None if any(isinstance(e, ast.Starred) for e in first.elts) else list(first.elts)
    if not isinstance(first, ast.Name | ast.Attribute):
        return None
    found = _resolved(first, names)
    if not isinstance(found, list | tuple) or len(found) != listed:
        return None
    text = ast.unparse(first)
    return [ast.parse(f"{text}[{i}]", mode="eval").body for i in range(listed)]


def _of_operator(
    tree: Any, names: Mapping[str, Any], op: str, entered: FrameType | None
) -> list[ast.expr] | None:
    """The operands of an operator, in the order in which the function got them."""
    kind: type
    if isinstance(tree, ast.Compare):
        if len(tree.ops) > 1:
            return None
        kind, left, right = type(tree.ops[0]), tree.left, tree.comparators[0]
    elif isinstance(tree, ast.AugAssign):
        kind, left, right = type(tree.op), tree.target, tree.value
    else:
        kind, left, right = type(tree.op), tree.left, tree.right
    if op == _MIRRORED.get(kind):
        return [right, left]
    if op not in _OPERATORS.get(kind, ()):
        return None
    if kind in _SHARED and entered is not None:
        # One method serves both sides, with its own operand first: which side was the Array's?
        other = entered.f_locals.get("".join(entered.f_code.co_varnames[1:2]))
        if not isinstance(other, Handle | int | float | complex):
            first, second = _resolved(left, names), _resolved(right, names)
            if first is _UNKNOWN and second is _UNKNOWN:
                return None
            if isinstance(second, Handle) if first is _UNKNOWN else not isinstance(first, Handle):
                return [right, left]
    return [left, right]


def _of_update(tree: Any, op: str) -> list[ast.expr] | None:
    """The values of `x.at[i].set(values)`; or, if the index is what failed, `x` and `i`."""
    place: Any = getattr(tree.func, "value", None)
    base: Any = getattr(place, "value", None)
    if not isinstance(place, ast.Subscript) or getattr(base, "attr", "") != "at":
        return None
    if op == "x[...]":
        return [base.value, place.slice]
    return list(tree.args) if op == f"x.at[...].{tree.func.attr}" else None


def _names(frame: FrameType) -> dict[str, Any]:
    return {**frame.f_globals, **frame.f_locals}


def operands(
    op: str,
    shapes: Sequence[Shape | None],
    *,
    params: Sequence[str] = (),
    listed: bool = False,
    first: int = 0,
) -> Spelling | None:
    """The operation that the user's code is waiting for, with the expressions of its operands.

    Args:
        op: name of the function that failed, without its module.
        shapes: those of its operands; None for one that may have any.
        params: names of the parameters, for operands that are given by name.
        listed: whether the operands are the elements of the first argument.
        first: number of arguments before the operands.

    None if there is no source, or it does not look like this operation.
    """
    frame = user_frame()
    tree = None if frame is None else _running(frame)
    if frame is None or tree is None:
        return None
    names, n = _names(frame), len(shapes)
    found: list[ast.expr] | None = None
    if isinstance(tree, ast.Call):
        found = _of_call(tree, names, op, params, n if listed else None)
        found = found[first:] if found and not listed else found
        found = found or _of_update(tree, op)
    elif isinstance(tree, ast.Subscript):
        found = [tree.value, tree.slice] if op == "x[...]" else None
    else:
        found = _of_operator(tree, names, op, _entered(frame))
    if found is None or len(found) < n:
        return None
    if not all(_has_shape(e, s, names) for e, s in zip(found, shapes, strict=False)):
        return None
    return Spelling(tree, tuple(found[:n]), names)


def layer_input(layer: str, method: str, parameter: str, shape: Shape | None) -> Spelling | None:
    """The call of a method of a layer (an object whose class has this name) with what it is given
    for a parameter: by default ("") the first.
    """
    frame = user_frame()
    tree = None if frame is None else _running(frame)
    inner = None if frame is None else _entered(frame)
    if frame is None or inner is None or not isinstance(tree, ast.Call):
        return None
    code, owner = inner.f_code, inner.f_locals.get("self")
    if type(owner).__name__ != layer or code.co_name != method or len(code.co_varnames) < 2:
        return None
    names, parameter = _names(frame), parameter or code.co_varnames[1]
    given = dict(zip(code.co_varnames[1 : code.co_argcount], tree.args, strict=False))
    given |= {k.arg: k.value for k in tree.keywords if k.arg}
    found = given.get(parameter)
    if found is None or any(isinstance(a, ast.Starred) for a in tree.args):
        return None
    return Spelling(tree, (found,), names) if _has_shape(found, shape, names) else None


def user_frame() -> FrameType | None:
    """The user's frame that is running, unless an equation is being run again."""
    return None if source.is_replaying() else source.user_frame()


def excerpt() -> str:
    """The user's place with the text of its line, to stand after "at"."""
    here = source.user_source()
    if here is None:
        return "an unknown place."
    frame = user_frame()
    tree = None if frame is None else _running(frame)
    last = here.line if tree is None else min(tree.end_lineno, here.line + 3)
    first = here.line if tree is None else min(tree.lineno, here.line)
    named = None if frame is None else frame.f_globals
    lines = linecache.getlines(here.file, named)[first - 1 : max(last, here.line)]
    if not lines:
        return f"{here}."
    if max(map(len, lines)) > 120 and tree is not None:
        lines = [ast.unparse(tree)]
    margin = min([len(x) - len(x.lstrip()) for x in lines if x.strip()], default=0)
    return f"{here}:\n" + "\n".join([f"    {x[margin:].rstrip()}" for x in lines])
