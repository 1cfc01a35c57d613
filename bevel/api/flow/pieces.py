"""Pieces of syntax that rewritten functions are made of, and the names that statements use."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from typing import Any

FLOW = "__bevel_flow__"
"""The name of `bevel.api.flow.calls.FLOW` in rewritten functions."""

SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def walk(nodes: Iterable[ast.AST], into_scopes: bool) -> Iterable[ast.AST]:
    """All nodes in some, those inside functions, classes and comprehensions only if asked."""
    stack = list(nodes)
    while stack:
        node = stack.pop()
        yield node
        if into_scopes or not isinstance(node, (*SCOPES, *COMPREHENSIONS)):
            stack.extend(ast.iter_child_nodes(node))


def bound_names(nodes: Iterable[ast.AST]) -> set[str]:
    """Local names that statements bind."""
    found = set()
    for n in walk(nodes, False):
        if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store):
            found.add(n.id)
        elif isinstance(n, ast.FunctionDef | ast.ClassDef):
            found.add(n.name)
        elif isinstance(n, ast.alias):
            found.add((n.asname or n.name).split(".")[0])
        elif isinstance(n, ast.ExceptHandler) and n.name:
            found.add(n.name)
    return found


def read_names(nodes: Iterable[ast.AST]) -> set[str]:
    """Names that statements read, in functions inside them, too."""
    found = {
        n.id for n in walk(nodes, True) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)
    }
    # `x += 1` reads x, though its name is only stored.
    for n in walk(nodes, True):
        if isinstance(n, ast.AugAssign) and isinstance(n.target, ast.Name):
            found.add(n.target.id)
    return found


def load(name: str) -> ast.Name:
    """A variable's value."""
    return ast.Name(id=name, ctx=ast.Load())


def bind(name: str, value: ast.expr) -> ast.Assign:
    """`name = value`."""
    return ast.Assign(targets=[ast.Name(id=name, ctx=ast.Store())], value=value)


def flow_call(function: str, *args: ast.expr) -> ast.Call:
    """A call of one of `FLOW`'s functions."""
    return ast.Call(
        func=ast.Attribute(value=load(FLOW), attr=function, ctx=ast.Load()),
        args=list(args),
        keywords=[],
    )


def later(value: ast.expr) -> ast.Lambda:
    """`lambda: value`."""
    return ast.Lambda(args=parameters([]), body=value)


def parameters(names: Sequence[str]) -> ast.arguments:
    """Parameters of a function."""
    return ast.arguments(
        posonlyargs=[],
        args=[ast.arg(arg=n) for n in names],
        kwonlyargs=[],
        kw_defaults=[],
        defaults=[],
    )


def tuple_of(names: Sequence[str], ctx: Any = None) -> ast.Tuple:
    """A tuple of variables."""
    return ast.Tuple(
        elts=[ast.Name(id=n, ctx=ctx or ast.Load()) for n in names], ctx=ctx or ast.Load()
    )


def function(
    name: str, params: Sequence[str], body: list, outs: Sequence[str], shared: Iterable[str] = ()
) -> ast.FunctionDef:
    """A function that returns the values of variables.

    Those that are `shared` with functions of the user's stay variables of the function around it,
    and get their values there.
    """
    own = [n for n in params if n in shared]
    start: list[ast.stmt] = [ast.Nonlocal(names=own)] if own else []
    start += [bind(n, load(f"__bevel_in_{n}")) for n in own]
    return ast.FunctionDef(
        name=name,
        args=parameters([f"__bevel_in_{n}" if n in own else n for n in params]),
        body=[*start, *body, ast.Return(value=tuple_of(outs))],
        decorator_list=[],
        returns=None,
        type_params=[],
    )


def question(
    name: str, params: Sequence[str], value: ast.expr, shared: Iterable[str] = ()
) -> ast.FunctionDef:
    """A function that returns the value of an expression, and leaves shared variables alone."""
    own = [n for n in params if n in shared]
    made = function(name, params, [bind("__bevel_found", value)], [], own)
    kept = [
        bind(f"__bevel_kept_{n}", flow_call("value", later(load(n)), ast.Constant(value=n)))
        for n in own
    ]
    back = [bind(n, load(f"__bevel_kept_{n}")) for n in own]
    declared, rest = made.body[: bool(own)], made.body[bool(own) : -1]
    made.body = [*declared, *kept, *rest, *back, ast.Return(value=load("__bevel_found"))]
    return made
