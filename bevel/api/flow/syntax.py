"""Python's control flow as function calls: the source of a function, rewritten.

`if`, `while`, `for`, `break`, `continue`, early `return`, `and`, `or`, `not`, chained comparisons,
conditional expressions, `assert` and calls become calls of the functions of `bevel.api.flow`, which
do what Python does unless a traced value decides. See docs/decisions/python-control-flow.md.
"""

from __future__ import annotations

import ast
import functools
import itertools
import types
from collections.abc import Iterable, Sequence
from typing import Any

from bevel.api.flow.source import CannotRewrite, find, mangle

FLOW = "__bevel_flow__"
"""The name of the module `bevel.api.flow` in rewritten functions."""

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


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


def is_rewritten(fn: types.FunctionType) -> bool:
    """Whether a function's code comes from here."""
    return fn.__code__ in _made


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
        body=_Function(body, code.co_filename).statements,
        decorator_list=[],
        returns=None,
        type_params=[],
    )
    outer = ast.FunctionDef(
        name="factory",
        args=_arguments([*code.co_freevars, FLOW]),
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


# -- names -----------------------------------------------------------------------------------------


def _walk(nodes: Iterable[ast.AST], into_scopes: bool) -> Iterable[ast.AST]:
    stack = list(nodes)
    while stack:
        node = stack.pop()
        yield node
        if into_scopes or not isinstance(node, (*_SCOPES, *_COMPREHENSIONS)):
            stack.extend(ast.iter_child_nodes(node))


def _stored(nodes: Iterable[ast.AST]) -> set[str]:
    """Local names that statements bind."""
    found = set()
    for n in _walk(nodes, False):
        if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store):
            found.add(n.id)
        elif isinstance(n, ast.FunctionDef | ast.ClassDef):
            found.add(n.name)
        elif isinstance(n, ast.alias):
            found.add((n.asname or n.name).split(".")[0])
        elif isinstance(n, ast.ExceptHandler) and n.name:
            found.add(n.name)
    return found


def _loaded(nodes: Iterable[ast.AST]) -> set[str]:
    """Names that statements read, in functions inside them, too."""
    found = {
        n.id for n in _walk(nodes, True) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)
    }
    # `x += 1` reads x, though its name is only stored.
    for n in _walk(nodes, True):
        if isinstance(n, ast.AugAssign) and isinstance(n.target, ast.Name):
            found.add(n.target.id)
    return found


# -- small pieces of syntax ------------------------------------------------------------------------


def _name(name: str) -> ast.Name:
    return ast.Name(id=name, ctx=ast.Load())


def _set(name: str, value: ast.expr) -> ast.Assign:
    return ast.Assign(targets=[ast.Name(id=name, ctx=ast.Store())], value=value)


def _flow(function: str, *args: ast.expr) -> ast.Call:
    return ast.Call(
        func=ast.Attribute(value=_name(FLOW), attr=function, ctx=ast.Load()),
        args=list(args),
        keywords=[],
    )


def _later(value: ast.expr) -> ast.Lambda:
    return ast.Lambda(args=_arguments([]), body=value)


def _arguments(names: Sequence[str]) -> ast.arguments:
    return ast.arguments(
        posonlyargs=[],
        args=[ast.arg(arg=n) for n in names],
        kwonlyargs=[],
        kw_defaults=[],
        defaults=[],
    )


def _tuple(names: Sequence[str], ctx: Any = None) -> ast.Tuple:
    return ast.Tuple(
        elts=[ast.Name(id=n, ctx=ctx or ast.Load()) for n in names], ctx=ctx or ast.Load()
    )


def _function(name: str, params: Sequence[str], body: list, outs: Sequence[str]) -> ast.FunctionDef:
    return ast.FunctionDef(
        name=name,
        args=_arguments(params),
        body=[*body, ast.Return(value=_tuple(outs))],
        decorator_list=[],
        returns=None,
        type_params=[],
    )


# -- statements ------------------------------------------------------------------------------------


class _Function:
    """The rewritten statements of one function.

    First `break`, `continue` and `return` become flags that the statements after them ask for; then
    branches and loops become functions of the variables they bind.
    """

    def __init__(self, body: list[ast.stmt], file: str):
        self.count = itertools.count()
        self.file = file
        self.guards: set[ast.stmt] = set()
        self.stops: dict[ast.stmt, set[str]] = {}  # of each loop, the flags that end it
        # What inner functions read may be asked for at any time.
        scopes = [n for n in _walk(body, True) if isinstance(n, (*_SCOPES, *_COMPREHENSIONS))]
        self.captured = _loaded(scopes)
        for n in _walk(body, False):
            if isinstance(n, ast.Yield | ast.YieldFrom | ast.Await):
                raise CannotRewrite("a generator")
        declared = {
            name
            for n in _walk(body, False)
            if isinstance(n, ast.Global | ast.Nonlocal)
            for name in n.names
        }
        self.declared = declared
        self.done, self.value = self.fresh("returned"), self.fresh("result")
        if not _always_returns(body):
            end = ast.Return(value=ast.Constant(value=None))
            body = [*body, ast.copy_location(end, body[-1])]
        *before, last = body
        if isinstance(last, ast.Return) and not _has(before, ast.Return):
            statements, _ = self.exits(before, None)
            tail = [ast.copy_location(ast.Return(value=self.expression(last.value)), last)]
            live = _loaded([last]) | self.captured
            self.statements = [*self.block(statements, live), *tail]
        else:
            statements, _ = self.exits(body, None)
            start = [
                _set(self.done, ast.Constant(value=False)),
                _set(self.value, _flow("Undefined", ast.Constant(value=self.value))),
            ]
            live = {self.done, self.value} | self.captured
            self.statements = [
                *start,
                *self.block(statements, live),
                ast.Return(value=_name(self.value)),
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
                new = [_set(self.value, value), _set(self.done, true)]
                return [*out, *[ast.copy_location(n, s) for n in new]], {self.done}
            if isinstance(s, ast.Break | ast.Continue):
                flag = loop[isinstance(s, ast.Continue)]
                return [*out, ast.copy_location(_set(flag, true), s)], {flag}
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
            s.body, flags = self.exits(s.body, (broken, skipped))
            s.orelse = []
            false = ast.Constant(value=False)
            if skipped in flags:
                s.body.insert(0, _set(skipped, false))
            stops = self.stops[s] = flags - {skipped}
            new: list[ast.stmt] = [_set(broken, false)] if broken in flags else []
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
                if isinstance(s, ast.Try) and _has(
                    [*s.handlers, *s.orelse, *s.finalbody], (ast.Return, ast.Break, ast.Continue)
                ):
                    raise CannotRewrite("it leaves an `except` or `finally` block in the middle")
                return [s], flags
        if isinstance(s, ast.Match) and _has([s], (ast.Return, ast.Break, ast.Continue)):
            flags: set[str] = set()
            for case in s.cases:
                case.body, more = self.exits(case.body, loop)
                flags |= more
            return [s], flags
        return [s], set()

    # -- branches and loops as calls

    def block(self, body: Sequence[ast.stmt], live: set[str]) -> list[ast.stmt]:
        """Statements rewritten, where the names in `live` are read afterwards."""
        out: list[ast.stmt] = []
        for i, s in enumerate(body):
            after = live | _loaded(body[i + 1 :])
            out += [ast.copy_location(n, s) for n in self.statement(s, after)]
        return out

    def statement(self, s: ast.stmt, after: set[str]) -> list[ast.stmt]:
        if isinstance(s, ast.If):
            return self.branch(s, after)
        if isinstance(s, ast.While | ast.For):
            return self.loop(s, after)
        if isinstance(s, ast.FunctionDef):
            s.body = _Function(s.body, self.file).statements
            return [s]
        if isinstance(s, ast.ClassDef | ast.AsyncFunctionDef):
            return [s]
        if isinstance(s, ast.With):
            s.items = [self.expression(i) for i in s.items]
            s.body = self.block(s.body, after)
            return [s]
        if isinstance(s, ast.Try):
            later = after | _loaded([*s.handlers, *s.orelse, *s.finalbody])
            s.body = self.block(s.body, later)
            for h in s.handlers:
                h.body = self.block(h.body, later)
            s.orelse, s.finalbody = self.block(s.orelse, later), self.block(s.finalbody, later)
            return [s]
        if isinstance(s, ast.Match):
            s.subject = self.expression(s.subject)
            for case in s.cases:
                case.body = self.block(case.body, after)
            return [s]
        if isinstance(s, ast.Assert):
            message = _later(self.expression(s.msg)) if s.msg else ast.Constant(value=None)
            return [ast.Expr(value=_flow("check", self.expression(s.test), message))]
        return [self.expression(s)]

    def expression(self, node: Any) -> Any:
        return None if node is None else _Expressions(self.file).visit(node)

    def state(self, nodes: Sequence[ast.AST], read: set[str], after: set[str]):
        """The variables that statements take, and those of them that are read afterwards."""
        stored = _stored(nodes)
        if stored & self.declared:
            names = ", ".join(sorted(stored & self.declared))
            raise CannotRewrite(f"a branch or loop binds a global or nonlocal variable ({names})")
        taken = sorted(stored & (read | after))
        return taken, [n for n in taken if n in after]

    def place(self, s: ast.stmt) -> ast.Constant:
        """Where a statement stands, for messages."""
        return ast.Constant(value=f"{self.file}:{s.lineno}")

    def watched(self, nodes: Sequence[ast.AST]) -> ast.Tuple:
        """Pairs of text and value of the objects that statements may change in place."""
        found: dict[str, ast.expr] = {}
        for n in _walk(nodes, False):
            owner = None
            if isinstance(n, ast.Expr) and isinstance(n.value, ast.Call):
                owner = n.value.func
            elif isinstance(n, ast.Attribute | ast.Subscript) and not isinstance(n.ctx, ast.Load):
                owner = n
            if isinstance(owner, ast.Attribute | ast.Subscript) and _is_path(owner.value):
                found[ast.unparse(owner.value)] = owner.value
        get = [_flow("value", _later(v), ast.Constant(value=text)) for text, v in found.items()]
        pairs = [
            ast.Tuple(elts=[ast.Constant(value=text), v], ctx=ast.Load())
            for text, v in zip(found, get, strict=True)
        ]
        return ast.Tuple(elts=pairs, ctx=ast.Load())

    def values(self, names: Sequence[str]) -> ast.Tuple:
        """The values of variables that may not be bound yet."""
        get = [_flow("value", _later(_name(n)), ast.Constant(value=n)) for n in names]
        return ast.Tuple(elts=get, ctx=ast.Load())

    def branch(self, s: ast.If, after: set[str]) -> list[ast.stmt]:
        both = [*s.body, *s.orelse]
        taken, given = self.state(both, _loaded(both), after)
        test = self.expression(s.test)
        yes, no = self.fresh("if"), self.fresh("else")
        call = _flow(
            "branch",
            test,
            _name(yes),
            _name(no),
            self.values(taken),
            ast.Constant(value=tuple(given)),
            self.place(s),
            self.watched(both),
            ast.Constant(value=s in self.guards),
        )
        return [
            _function(yes, taken, self.block(s.body, after), given),
            _function(no, taken, self.block(s.orelse, after), given),
            self.assign(given, call),
        ]

    def assign(self, names: Sequence[str], call: ast.expr) -> ast.stmt:
        if not names:
            return ast.Expr(value=call)
        return ast.Assign(targets=[_tuple(names, ast.Store())], value=call)

    def loop(self, s: Any, after: set[str]) -> list[ast.stmt]:
        stops = sorted(self.stops[s])
        read = _loaded([s]) | set(stops)
        targets = [s.target] if isinstance(s, ast.For) else []
        if isinstance(s, ast.While) and any(isinstance(n, ast.NamedExpr) for n in ast.walk(s.test)):
            raise CannotRewrite("the condition of a `while` binds a variable with `:=`")
        # What a step stores the next one may read.
        taken, _ = self.state([*s.body, *targets], read, after)
        watched = self.watched(s.body)
        body = self.block(s.body, after | read)
        step, test = self.fresh("step"), self.fresh("test")
        names = ast.Constant(value=tuple(taken))
        line = self.place(s)
        stop = _later(ast.Constant(value=False)).body if not stops else _any(stops)
        if isinstance(s, ast.While):
            going = ast.BoolOp(
                op=ast.And(), values=[ast.UnaryOp(op=ast.Not(), operand=stop), s.test]
            )
            going = self.expression(going if stops else s.test)
            functions = [
                ast.FunctionDef(
                    name=test,
                    args=_arguments(taken),
                    body=[ast.Return(value=going)],
                    decorator_list=[],
                    returns=None,
                    type_params=[],
                ),
                _function(step, taken, body, taken),
            ]
            call = _flow("loop", _name(test), _name(step), self.values(taken), names, line, watched)
        else:
            item = self.fresh("item")
            bind = ast.Assign(targets=[s.target], value=_name(item))
            functions = [
                ast.FunctionDef(
                    name=test,
                    args=_arguments(taken),
                    body=[ast.Return(value=self.expression(stop))],
                    decorator_list=[],
                    returns=None,
                    type_params=[],
                ),
                _function(step, [item, *taken], [ast.copy_location(bind, s), *body], taken),
            ]
            stopped = _name(test) if stops else ast.Constant(value=None)
            over = self.expression(s.iter)
            call = _flow(
                "each", over, stopped, _name(step), self.values(taken), names, line, watched
            )
        return [*functions, self.assign(taken, call)]


def _is_path(node: ast.expr) -> bool:
    """Whether an expression only looks things up: `a`, `a.b`, `a[0].c`."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        if isinstance(node, ast.Subscript) and not isinstance(node.slice, ast.Constant | ast.Name):
            return False
        node = node.value
    return isinstance(node, ast.Name)


def _any(flags: Iterable[str]) -> ast.expr:
    names = [_name(f) for f in sorted(flags)]
    return names[0] if len(names) == 1 else ast.BoolOp(op=ast.Or(), values=names)


def _has(body: Sequence[ast.AST], kind: Any) -> bool:
    return any(isinstance(n, kind) for n in _walk(body, False))


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
    endless = isinstance(last, ast.While) and isinstance(last.test, ast.Constant)
    return endless and bool(last.test.value) and not _breaks(last.body)


def _breaks(body: Sequence[ast.AST]) -> bool:
    """Whether a `break` in these statements ends the loop around them."""
    loops = (ast.While, ast.For)
    inner = [n for n in _walk(body, False) if isinstance(n, loops)]
    own = sum(isinstance(n, ast.Break) for n in _walk(body, False))
    return own > sum(isinstance(n, ast.Break) for loop in inner for n in _walk(loop.body, False))


# -- expressions -----------------------------------------------------------------------------------


class _Expressions(ast.NodeTransformer):
    """What asks for a truth value inside expressions, and calls."""

    def __init__(self, file: str):
        self.file = file

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
            found = ast.copy_location(_flow(name, v, _later(found)), node)
        return found

    def visit_UnaryOp(self, node):
        self.generic_visit(node)
        return (
            ast.copy_location(_flow("negation", node.operand), node)
            if isinstance(node.op, ast.Not)
            else node
        )

    def visit_Compare(self, node):
        self.generic_visit(node)
        if len(node.ops) == 1:
            return node
        names = [f"__bevel_part_{i}" for i in range(len(node.ops) + 1)]
        # (lambda a: both(a < b(), ...)) would evaluate b twice: each operand is bound once.
        found: ast.expr | None = None
        for i in reversed(range(len(node.ops))):
            one = ast.Compare(
                left=_name(names[i]), ops=[node.ops[i]], comparators=[_name(names[i + 1])]
            )
            rest = one if found is None else _flow("both", one, _later(found))
            bind = ast.Lambda(args=_arguments([names[i + 1]]), body=rest)
            found = ast.Call(func=bind, args=[node.comparators[i]], keywords=[])
        outer = ast.Lambda(args=_arguments([names[0]]), body=found)
        return ast.copy_location(ast.Call(func=outer, args=[node.left], keywords=[]), node)

    def visit_IfExp(self, node):
        if any(isinstance(n, ast.NamedExpr) for n in ast.walk(node)):
            return node
        self.generic_visit(node)
        return ast.copy_location(
            _flow(
                "choice",
                node.test,
                _later(node.body),
                _later(node.orelse),
                ast.Constant(value=f"{self.file}:{node.lineno}"),
            ),
            node,
        )

    def visit_Call(self, node):
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id in ("super", "locals", "globals"):
            return node
        node.func = ast.copy_location(_flow("callee", node.func), node.func)
        return node
