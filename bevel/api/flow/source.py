"""Finding the syntax tree of a function."""

from __future__ import annotations

import ast
import copy
import functools
import linecache
import types
from typing import Any


class CannotRewrite(Exception):
    """Why a function's control flow cannot be rewritten."""


@functools.lru_cache(maxsize=64)
def _module(filename: str, lines: tuple[str, ...]) -> ast.Module:
    return ast.parse("".join(lines), filename)


def find(code: types.CodeType, name: str) -> Any:
    """A fresh syntax tree of the function or lambda that has this code."""
    lines = linecache.getlines(code.co_filename)
    if not lines:
        raise CannotRewrite(f"the source of {name} is not there ({code.co_filename})")
    try:
        module = _module(code.co_filename, tuple(lines))
    except SyntaxError:
        raise CannotRewrite(f"the source of {name} in {code.co_filename} has changed") from None
    wanted = ast.Lambda if name == "<lambda>" else (ast.FunctionDef, ast.AsyncFunctionDef)
    found = [n for n in ast.walk(module) if isinstance(n, wanted) and _fits(n, code)]
    if len(found) > 1 and wanted is ast.Lambda:  # one inside the other
        found = [n for n in found if not any(m is not n for m in ast.walk(n) if m in found)]
    if len(found) != 1:
        raise CannotRewrite(
            f"the source of {name} at {code.co_filename}:{code.co_firstlineno} "
            + ("has changed" if not found else "stands beside another one that looks the same")
        )
    if isinstance(found[0], ast.AsyncFunctionDef):
        raise CannotRewrite(f"{name} is an async function")
    return copy.deepcopy(found[0])


def _fits(node: Any, code: types.CodeType) -> bool:
    first = min([d.lineno for d in getattr(node, "decorator_list", ())] + [node.lineno])
    a = node.args
    names = [x.arg for x in (*a.posonlyargs, *a.args, *a.kwonlyargs)]
    count = code.co_argcount + code.co_kwonlyargcount
    if first != code.co_firstlineno or names != list(code.co_varnames[:count]):
        return False
    if not isinstance(node, ast.Lambda):
        return node.name == code.co_name
    # Lambdas of one line are told apart by where the instructions come from.
    body = node.body
    start, end = (body.lineno, body.col_offset), (body.end_lineno, body.end_col_offset)
    places = [p for p in code.co_positions() if None not in p]
    spans = [((p[0], p[2]), (p[1], p[3])) for p in places]
    return all(start <= a and b <= end for a, b in spans if a < b)


def mangle(node: ast.AST, code: types.CodeType) -> None:
    """Spell private names (`self.__x`) as the compiler does inside a class."""
    *_, cls, _ = ["", *code.co_qualname.split(".")]
    if cls in ("", "<locals>"):
        return
    for n in ast.walk(node):
        for field in ("attr", "id"):
            name = getattr(n, field, "")
            if name.startswith("__") and not name.endswith("__"):
                setattr(n, field, f"_{cls.lstrip('_')}{name}")
