"""Python's control flow as function calls: the source of a function, rewritten.

`if`, `while`, `for`, `break`, `continue`, early `return`, `and`, `or`, `not`, chained comparisons,
conditional expressions, `assert` and calls become calls of the functions of `bevel.api.flow`, which
do what Python does unless a traced value decides. See docs/decisions/python-control-flow.md.
"""

from __future__ import annotations

import ast
import copy
import functools
import itertools
import types
from collections.abc import Iterable, Sequence
from typing import Any

from bevel.api.flow.expressions import rewritten_expression
from bevel.api.flow.pieces import (
    COMPREHENSIONS,
    FLOW,
    SCOPES,
    bind,
    bound_names,
    flow_call,
    function,
    later,
    load,
    parameters,
    question,
    read_names,
    tuple_of,
    walk,
)
from bevel.api.flow.source import CannotRewrite, find, mangle


def rewrite(fn: types.FunctionType, flow: Any) -> types.FunctionType:
    """The function with its control flow rewritten; it shares globals, closure and defaults.

    Raises:
        CannotRewrite: there is no source, or something in it has no such form.
    """
    code = _rewritten_code(fn.__code__, fn.__name__)
    cells = dict(zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True))
    cells[FLOW] = types.CellType(flow)
    closure = tuple([cells[name] for name in code.co_freevars])
    new = types.FunctionType(code, fn.__globals__, fn.__name__, fn.__defaults__, closure)
    new.__kwdefaults__ = fn.__kwdefaults__
    functools.update_wrapper(new, fn)
    del new.__wrapped__
    return new


_made: set[types.CodeType] = set()


def is_rewritten(code: types.CodeType) -> bool:
    """Whether a function's code comes from here."""
    return code in _made


@functools.lru_cache(maxsize=1024)
def _rewritten_code(code: types.CodeType, name: str) -> types.CodeType:
    node = find(code, name)
    mangle(node, code)
    args = node.args
    for a in (*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg):
        if a is not None:
            a.annotation = None
    # Defaults are taken from the function itself.
    args.defaults, args.kw_defaults = [], [None] * len(args.kwonlyargs)
    if isinstance(node, ast.Lambda):
        body = [ast.Return(value=node.body)]
    else:
        body = node.body
    inner = ast.FunctionDef(
        name="__bevel_function",  # its own name is what it is outside: a global, perhaps
        args=args,
        body=_Function(body, code.co_filename, args).statements,
        decorator_list=[],
        returns=None,
        type_params=[],
    )
    outer = ast.FunctionDef(
        name="factory",
        args=parameters([*code.co_freevars, FLOW]),
        body=[ast.copy_location(inner, node)],
        decorator_list=[],
        returns=None,
        type_params=[],
    )
    module = ast.Module(body=[ast.copy_location(outer, node)], type_ignores=[])
    ast.fix_missing_locations(module)
    compiled = compile(module, code.co_filename, "exec", dont_inherit=True)
    factory = next(c for c in compiled.co_consts if isinstance(c, types.CodeType))
    new = next(c for c in factory.co_consts if isinstance(c, types.CodeType))
    return _named(new.replace(co_qualname=code.co_qualname), name)


def _named(code: types.CodeType, name: str) -> types.CodeType:
    """The code, with the user's name for the functions made here, as tracebacks show it."""
    consts = [_named(c, name) if isinstance(c, types.CodeType) else c for c in code.co_consts]
    own = name if code.co_name.startswith("__bevel_") else code.co_name
    new = code.replace(co_name=own, co_consts=tuple(consts))
    _made.add(new)
    return new


def _first_line(new: ast.stmt, old: ast.stmt) -> ast.stmt:
    """A statement made in the place of an old one, all of it at the first line of that: CPython
    says that a call of an attribute is at the attribute's last line.
    """
    made = ast.copy_location(new, old)
    if new is not old:
        made.end_lineno, made.end_col_offset = made.lineno, made.col_offset
    return made


class _Function:
    """The rewritten statements of one function.

    First `break`, `continue` and `return` become flags that the statements after them ask for; then
    branches and loops become functions of the variables they bind.
    """

    def __init__(self, body: list[ast.stmt], file: str, args: ast.arguments):
        self.count = itertools.count()
        self.file = file
        self.first = next((a.arg for a in (*args.posonlyargs, *args.args)), "")
        self.guards: set[ast.stmt] = set()
        self.stops: dict[ast.stmt, set[str]] = {}  # of each loop, the flags that end it
        # What inner functions read may be asked for at any time.
        scopes = [n for n in walk(body, True) if isinstance(n, (*SCOPES, *COMPREHENSIONS))]
        self.captured = read_names(scopes)
        # What functions of the user's read in here must be one variable, in a branch too.
        self.shared = read_names([n for n in scopes if not isinstance(n, COMPREHENSIONS)])
        for n in walk(body, False):
            if isinstance(n, ast.Yield | ast.YieldFrom | ast.Await):
                raise CannotRewrite("it is a generator or a coroutine")
        declared = {
            name
            for n in walk(body, False)
            if isinstance(n, ast.Global | ast.Nonlocal)
            for name in n.names
        }
        self.declared = declared
        # What functions of the user's in here bind, a call of them may change.
        inner = {n for x in walk(scopes, True) if isinstance(x, ast.Nonlocal) for n in x.names}
        own = {a.arg for a in ast.walk(args) if isinstance(a, ast.arg)} | bound_names(body)
        self.rebound = (inner & own) - declared
        self.shared |= self.rebound
        self.done, self.value = self.fresh("returned"), self.fresh("result")
        if not _always_returns(body):
            end = ast.Return(value=ast.Constant(value=None))
            body = [*body, ast.copy_location(end, body[-1])]
        *before, last = body
        if isinstance(last, ast.Return) and not _has(before, ast.Return):
            statements, _ = self.exits(before, None)
            tail = [ast.copy_location(ast.Return(value=self.expression(last.value)), last)]
            live = read_names([last]) | self.captured
            self.statements = [*self.block(statements, live), *tail]
        else:
            statements, _ = self.exits(body, None)
            start = [
                bind(self.done, ast.Constant(value=False)),
                bind(self.value, flow_call("Undefined", ast.Constant(value=self.value))),
            ]
            live = {self.done, self.value} | self.captured
            self.statements = [
                *start,
                *self.block(statements, live),
                ast.Return(value=load(self.value)),
            ]

    def fresh(self, what: str) -> str:
        return f"__bevel_{what}_{next(self.count)}"

    # -- exits as flags

    def exits(self, body: Sequence[ast.stmt], loop: tuple[str, str] | None):
        """The statements without `break`, `continue` and `return`, and the flags they may set."""
        out: list[ast.stmt] = []
        for i, s in enumerate(body):
            true = ast.Constant(value=True)
            if isinstance(s, ast.Return):
                value = s.value or ast.Constant(value=None)
                new = [bind(self.value, value), bind(self.done, true)]
                return [*out, *[ast.copy_location(n, s) for n in new]], {self.done}
            if isinstance(s, ast.Break | ast.Continue):
                flag = loop[isinstance(s, ast.Continue)]
                return [*out, ast.copy_location(bind(flag, true), s)], {flag}
            new, flags = self.exits_of(s, loop)
            out += new
            rest = body[i + 1 :]
            if flags and rest:
                guarded, more = self.exits(rest, loop)
                test = ast.UnaryOp(op=ast.Not(), operand=_any(flags))
                out.append(self.guard(test, guarded, rest[0]))
                return out, flags | more
            if flags:
                return out, flags
        return out, set()

    def guard(self, test: ast.expr, body: list[ast.stmt], where: ast.stmt) -> ast.If:
        """What comes after an early exit, to be run if that was not taken."""
        made = ast.copy_location(ast.If(test=test, body=body, orelse=[]), where)
        self.guards.add(made)
        return made

    def exits_of(self, s: ast.stmt, loop: tuple[str, str] | None):
        if isinstance(s, ast.If):
            s.body, a = self.exits(s.body, loop)
            s.orelse, b = self.exits(s.orelse, loop)
            s.body = s.body or [ast.Pass()]
            return [s], a | b
        if isinstance(s, ast.While | ast.For):
            broken, skipped = self.fresh("broken"), self.fresh("skipped")
            otherwise = s.orelse
            if isinstance(s, ast.While) and any(
                isinstance(n, ast.NamedExpr) for n in ast.walk(s.test)
            ):
                if otherwise:
                    raise CannotRewrite("a `while` with an `else` binds a variable with `:=`")
                leave = ast.If(
                    test=ast.UnaryOp(op=ast.Not(), operand=s.test), body=[ast.Break()], orelse=[]
                )
                s.body = [ast.copy_location(leave, s), *s.body]
                s.test = ast.copy_location(ast.Constant(value=True), s)
            s.body, flags = self.exits(s.body, (broken, skipped))
            s.orelse = []
            false = ast.Constant(value=False)
            if skipped in flags:
                s.body.insert(0, bind(skipped, false))
            stops = self.stops[s] = flags - {skipped}
            new: list[ast.stmt] = [bind(broken, false)] if broken in flags else []
            new = [ast.copy_location(n, s) for n in (*new, s)]
            flags &= {self.done}
            if otherwise:
                otherwise, more = self.exits(otherwise, loop)
                test = (
                    ast.UnaryOp(op=ast.Not(), operand=_any(stops))
                    if stops
                    else ast.Constant(value=True)
                )
                new.append(self.guard(test, otherwise, s))
                flags |= more
            return new, flags
        if isinstance(s, ast.With | ast.Try):
            if _has([s], (ast.Return, ast.Break, ast.Continue)):
                s.body, flags = self.exits(s.body, loop)
                if isinstance(s, ast.Try):
                    flags |= self.exits_of_try(s, flags, loop)
                return [s], flags
        if isinstance(s, ast.Match) and _has([s], (ast.Return, ast.Break, ast.Continue)):
            flags: set[str] = set()
            for case in s.cases:
                case.body, more = self.exits(case.body, loop)
                flags |= more
            return [s], flags
        return [s], set()

    def exits_of_try(self, s: ast.Try, flags: set[str], loop: tuple[str, str] | None) -> set[str]:
        """The same for what follows the body of a `try`, whose exits set `flags`."""
        if _has(s.finalbody, (ast.Return, ast.Break, ast.Continue)):
            raise CannotRewrite("it leaves a `finally` block in the middle")
        found: set[str] = set()
        for h in s.handlers:
            h.body, more = self.exits(h.body, loop)
            found |= more
        if s.orelse:
            orelse, more = self.exits(s.orelse, loop)
            found |= more
            test = ast.UnaryOp(op=ast.Not(), operand=_any(flags)) if flags else None
            s.orelse = orelse if test is None else [self.guard(test, orelse, s.orelse[0])]
        return found

    # -- branches and loops as calls

    def block(self, body: Sequence[ast.stmt], live: set[str]) -> list[ast.stmt]:
        """Statements rewritten, where the names in `live` are read afterwards."""
        out: list[ast.stmt] = []
        for i, s in enumerate(body):
            after = live | read_names(body[i + 1 :])
            out += [_first_line(n, s) for n in self.statement(s, after)]
        return out

    def statement(self, s: ast.stmt, after: set[str]) -> list[ast.stmt]:
        made = getattr(self, f"of_{type(s).__name__}", None)
        return [self.expression(s)] if made is None else made(s, after)

    def of_FunctionDef(self, s: ast.FunctionDef, after: set[str]) -> list[ast.stmt]:
        return [_inner(s, self.file)]

    def of_AsyncFunctionDef(self, s: ast.stmt, after: set[str]) -> list[ast.stmt]:
        return [s]

    def of_ClassDef(self, s: ast.ClassDef, after: set[str]) -> list[ast.stmt]:
        s.body = [_inner(b, self.file) if isinstance(b, ast.FunctionDef) else b for b in s.body]
        return [s]

    def of_With(self, s: ast.With, after: set[str]) -> list[ast.stmt]:
        s.items = [self.expression(i) for i in s.items]
        s.body = self.block(s.body, after)
        return [s]

    def of_Try(self, s: ast.Try, after: set[str]) -> list[ast.stmt]:
        read = after | read_names([*s.handlers, *s.orelse, *s.finalbody])
        s.body = self.block(s.body, read)
        if s.handlers:
            trying = ast.withitem(context_expr=flow_call("Trying", self.place(s)))
            s.body = [ast.copy_location(ast.With(items=[trying], body=s.body), s)]
        for h in s.handlers:
            h.body = self.block(h.body, read)
        s.orelse, s.finalbody = self.block(s.orelse, read), self.block(s.finalbody, read)
        return [s]

    def of_Match(self, s: ast.Match, after: set[str]) -> list[ast.stmt]:
        s.subject = self.expression(s.subject)
        for case in s.cases:
            case.body = self.block(case.body, after)
        return [s]

    def of_Assert(self, s: ast.Assert, after: set[str]) -> list[ast.stmt]:
        message = later(self.expression(s.msg)) if s.msg else ast.Constant(value=None)
        return [ast.Expr(flow_call("check", self.expression(s.test), message, self.place(s)))]

    def of_Raise(self, s: ast.Raise, after: set[str]) -> list[ast.stmt]:
        if s.exc is not None:
            s.exc = flow_call("raised", later(self.expression(s.exc)), self.place(s))
        return [s]

    def expression(self, node: Any) -> Any:
        return rewritten_expression(node, self.file, self.first)

    def state(self, nodes: Sequence[ast.AST], read: set[str], after: set[str]):
        """The variables that statements take, and those of them that are read afterwards."""
        stored = bound_names(nodes)
        if self.rebound and _has(nodes, ast.Call):
            stored |= self.rebound
        if stored & self.declared:
            names = ", ".join(sorted(stored & self.declared))
            raise CannotRewrite(f"a branch or loop binds a global or nonlocal variable ({names})")
        taken = sorted(stored & (read | after))
        return taken, [n for n in taken if n in after]

    def place(self, s: ast.stmt) -> ast.Constant:
        """Where a statement stands, for messages."""
        return ast.Constant(value=f"{self.file}:{s.lineno}")

    def watched(self, nodes: Sequence[ast.AST]) -> ast.Tuple:
        """The objects that statements may change in place (see `objects.Watched`)."""
        found: dict[str, tuple[ast.expr, bool]] = {}

        def add(x: ast.expr, certain: bool) -> None:
            if _is_path(x):
                text = ast.unparse(x)
                found[text] = x, certain or found.get(text, (x, False))[1]

        for n in walk(nodes, False):
            if isinstance(n, ast.Expr) and isinstance(n.value, ast.Call):
                if isinstance(n.value.func, ast.Attribute):
                    add(n.value.func.value, True)
            elif isinstance(n, ast.Attribute | ast.Subscript) and not isinstance(n.ctx, ast.Load):
                add(n.value, True)
            elif isinstance(n, ast.Call):
                owner = [n.func.value] if isinstance(n.func, ast.Attribute) else []
                for x in (*owner, *n.args):
                    add(x, False)
        rows = [
            ast.Tuple(
                elts=[
                    ast.Constant(value=text),
                    flow_call("value", later(x), ast.Constant(value=text)),
                    ast.Constant(value=certain),
                ],
                ctx=ast.Load(),
            )
            for text, (x, certain) in found.items()
        ]
        return ast.Tuple(elts=rows, ctx=ast.Load())

    def values(self, names: Sequence[str]) -> ast.Tuple:
        """The values of variables that may not be bound yet."""
        get = [flow_call("value", later(load(n)), ast.Constant(value=n)) for n in names]
        return ast.Tuple(elts=get, ctx=ast.Load())

    def of_If(self, s: ast.If, after: set[str]) -> list[ast.stmt]:
        both = [*s.body, *s.orelse]
        taken, given = self.state(both, read_names(both), after)
        test = self.expression(s.test)
        yes, no = self.fresh("if"), self.fresh("else")
        call = flow_call(
            "branch",
            test,
            load(yes),
            load(no),
            self.values(taken),
            ast.Constant(value=tuple(given)),
            self.place(s),
            self.watched(both),
            ast.Constant(value=s in self.guards),
        )
        return [
            function(yes, taken, self.block(s.body, after), given, self.shared),
            function(no, taken, self.block(s.orelse, after), given, self.shared),
            self.assign(given, call),
        ]

    def assign(self, names: Sequence[str], call: ast.expr) -> ast.stmt:
        if not names:
            return ast.Expr(value=call)
        return ast.Assign(targets=[tuple_of(names, ast.Store())], value=call)

    def of_For(self, s: Any, after: set[str]) -> list[ast.stmt]:
        stops = sorted(self.stops[s])
        read = read_names([s]) | set(stops)
        targets = [s.target] if isinstance(s, ast.For) else []
        # What a step stores the next one may read.
        taken, _ = self.state([*s.body, *targets], read, after)
        watched = self.watched(s.body)
        body = self.block(s.body, after | read)
        step, test = self.fresh("step"), self.fresh("test")
        names = ast.Constant(value=tuple(taken))
        line = self.place(s)
        stop = later(ast.Constant(value=False)).body if not stops else _any(stops)
        if isinstance(s, ast.While):
            going = ast.BoolOp(
                op=ast.And(), values=[ast.UnaryOp(op=ast.Not(), operand=stop), s.test]
            )
            going = self.expression(going if stops else s.test)
            functions = [
                question(test, taken, going, self.shared),
                function(step, taken, body, taken, self.shared),
            ]
            call = flow_call(
                "loop", load(test), load(step), self.values(taken), names, line, watched
            )
        else:
            item = self.fresh("item")
            target = ast.Assign(targets=[s.target], value=load(item))
            steps = [ast.copy_location(target, s), *body]
            functions = [
                question(test, taken, self.expression(stop), self.shared),
                function(step, [item, *taken], steps, taken, self.shared),
            ]
            stopped = load(test) if stops else ast.Constant(value=None)
            over = self.expression(s.iter)
            call = flow_call(
                "each", over, stopped, load(step), self.values(taken), names, line, watched
            )
        return [*functions, self.assign(taken, call)]

    of_While = of_For


def _is_path(node: ast.expr) -> bool:
    """Whether an expression only looks things up: `a`, `a.b`, `a[0].c`."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        if isinstance(node, ast.Subscript) and not isinstance(node.slice, ast.Constant | ast.Name):
            return False
        node = node.value
    return isinstance(node, ast.Name)


def _any(flags: Iterable[str]) -> ast.expr:
    names = [load(f) for f in sorted(flags)]
    return names[0] if len(names) == 1 else ast.BoolOp(op=ast.Or(), values=names)


def _has(body: Sequence[ast.AST], kind: Any) -> bool:
    return any(isinstance(n, kind) for n in walk(body, False))


def _always_returns(body: Sequence[ast.stmt]) -> bool:
    """Whether the end of these statements is never reached, as far as can be seen."""
    if not body:
        return False
    last = body[-1]
    if isinstance(last, ast.Return | ast.Raise):
        return True
    if isinstance(last, ast.If):
        return _always_returns(last.body) and _always_returns(last.orelse)
    if isinstance(last, ast.With):
        return _always_returns(last.body)
    if isinstance(last, ast.Try):
        paths = [[*last.body, *last.orelse], *[h.body for h in last.handlers]]
        return _always_returns(last.finalbody) or all(map(_always_returns, paths))
    if isinstance(last, ast.Match):
        whole = any(c.guard is None and _takes_all(c.pattern) for c in last.cases)
        return whole and all(_always_returns(c.body) for c in last.cases)
    endless = isinstance(last, ast.While) and isinstance(last.test, ast.Constant)
    return endless and bool(last.test.value) and not _breaks(last.body)


def _takes_all(pattern: ast.pattern) -> bool:
    """Whether a `case` takes everything: `case _`, `case name`."""
    return isinstance(pattern, ast.MatchAs) and pattern.pattern is None


def _inner(s: ast.FunctionDef, file: str) -> ast.FunctionDef:
    """A function inside a function, or a method of a class there, rewritten if it can be."""
    made = copy.deepcopy(s)
    try:
        made.body = _Function(made.body, file, made.args).statements
    except CannotRewrite:
        return s
    return made


def _breaks(body: Sequence[ast.AST]) -> bool:
    """Whether a `break` in these statements ends the loop around them."""
    loops = (ast.While, ast.For)
    inner = [n for n in walk(body, False) if isinstance(n, loops)]
    own = sum(isinstance(n, ast.Break) for n in walk(body, False))
    return own > sum(isinstance(n, ast.Break) for loop in inner for n in walk(loop.body, False))
