"""Expressions of rewritten functions: what asks for a truth value, and calls."""

from __future__ import annotations

import ast
from typing import Any

from bevel.api.flow.pieces import flow_call, later, load, parameters


def rewritten_expression(node: Any, file: str, first: str = "") -> Any:
    """An expression, or a statement made of them, rewritten.

    Args:
        node: the syntax tree; None is passed on.
        file: the user's file, for messages.
        first: the first parameter of the function it is in, which `super()` means.
    """
    return None if node is None else _Expressions(file, first).visit(node)


class _Expressions(ast.NodeTransformer):
    """What asks for a truth value inside expressions, and calls."""

    def __init__(self, file: str, first: str):
        self.file = file
        self.first = first

    def visit_FunctionDef(self, node):
        return node

    def visit_Lambda(self, node):
        node.body = self.visit(node.body)
        return node

    def visit_BoolOp(self, node):
        if any(isinstance(n, ast.NamedExpr) for n in ast.walk(node)):
            return node
        values = [self.visit(v) for v in node.values]
        name = "both" if isinstance(node.op, ast.And) else "either"
        found = values[-1]
        for v in reversed(values[:-1]):
            found = ast.copy_location(flow_call(name, v, later(found)), node)
        return found

    def visit_UnaryOp(self, node):
        self.generic_visit(node)
        return (
            ast.copy_location(flow_call("negation", node.operand), node)
            if isinstance(node.op, ast.Not)
            else node
        )

    def visit_Compare(self, node):
        self.generic_visit(node)
        if len(node.ops) == 1:
            if not isinstance(node.ops[0], ast.In | ast.NotIn):
                return node
            found = ast.copy_location(flow_call("within", node.left, *node.comparators), node)
            if isinstance(node.ops[0], ast.In):
                return found
            return ast.copy_location(flow_call("negation", found), node)
        names = [f"__bevel_part_{i}" for i in range(len(node.ops) + 1)]
        # (lambda a: both(a < b(), ...)) would evaluate b twice: each operand is bound once.
        found: ast.expr | None = None
        for i in reversed(range(len(node.ops))):
            one = ast.Compare(
                left=load(names[i]), ops=[node.ops[i]], comparators=[load(names[i + 1])]
            )
            rest = one if found is None else flow_call("both", one, later(found))
            bind = ast.Lambda(args=parameters([names[i + 1]]), body=rest)
            found = ast.Call(func=bind, args=[node.comparators[i]], keywords=[])
        outer = ast.Lambda(args=parameters([names[0]]), body=found)
        return ast.copy_location(ast.Call(func=outer, args=[node.left], keywords=[]), node)

    def visit_IfExp(self, node):
        if any(isinstance(n, ast.NamedExpr) for n in ast.walk(node)):
            return node
        self.generic_visit(node)
        return ast.copy_location(
            flow_call(
                "choice",
                node.test,
                later(node.body),
                later(node.orelse),
                ast.Constant(value=f"{self.file}:{node.lineno}"),
            ),
            node,
        )

    def visit_Call(self, node):
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id in ("super", "locals", "globals"):
            if node.func.id == "super" and not node.args and self.first:
                # In a branch or loop it would take the first parameter of the function made of it.
                node.args = [load("__class__"), load(self.first)]
            return node
        node.func = ast.copy_location(flow_call("callee", node.func), node.func)
        return node
