"""The console that `debug.breakpoint` opens while a compiled program runs, with pdb's commands."""

from __future__ import annotations

import bdb
import cmd
import contextlib
import linecache
import pprint
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import Any, NamedTuple

from bevel.core.source import is_internal

HELP = """
p expression      its value; pp prints it pretty, and an expression alone does, too
!statement        run it; what it assigns lasts until you continue
u, d              to the calling function, and back
l                 the source around the line
w                 the functions that were called
a                 the variables of the function
c                 go on (so does the end of the input)
q                 stop the program: raises bdb.BdbQuit
"""


class Stopped(NamedTuple):
    """A function of the user's that was being traced, and its variables."""

    file: str
    line: int
    function: str
    scope: dict[str, Any]
    variables: dict[str, Any]


def stack_of(frame: FrameType | None) -> list[Stopped]:
    """The user's functions that were called, innermost first."""
    found = []
    while frame is not None:
        code = frame.f_code
        if not is_internal(code.co_filename):
            scope = {} if frame.f_locals is frame.f_globals else frame.f_globals
            place = (code.co_filename, frame.f_lineno, code.co_name)
            found.append(Stopped(*place, scope, dict(frame.f_locals)))
        frame = frame.f_back
    return found


class Console(cmd.Cmd):
    """Look around in functions whose variables have got the values of this run."""

    prompt = "(bevel) "

    def __init__(self, stack: Sequence[Stopped]):
        super().__init__()
        self.stack = stack
        self.at = 0

    def preloop(self) -> None:
        """Say where it is."""
        self.show(self.at)

    @property
    def here(self) -> Stopped:
        """The function that is looked at."""
        return self.stack[self.at]

    def say(self, text: str) -> None:
        """Print a line."""
        self.stdout.write(text + "\n")

    def show(self, i: int) -> None:
        """The place of a function and its line."""
        f = self.stack[i]
        self.say(f"{'>' if i == self.at else ' '} {f.file}({f.line}){f.function}()")
        self.say(f"-> {linecache.getline(f.file, f.line).strip()}")

    def run(self, text: str, mode: str) -> Any:
        """Evaluate or execute in the function; errors are printed."""
        scope = {**self.here.scope, **self.here.variables}
        try:
            with contextlib.redirect_stdout(self.stdout):
                found = eval(compile(text, "<console>", mode), scope)
        except Exception as e:
            self.say("*** " + traceback.format_exception_only(e)[-1].strip())
            return _FAILED
        before = {**self.here.scope, **self.here.variables, "__builtins__": scope["__builtins__"]}
        new = {k: v for k, v in scope.items() if k not in before or before[k] is not v}
        self.here.variables.update(new)
        return found

    def do_p(self, text: str) -> None:
        """Print a value."""
        found = self.run(text, "eval")
        if found is not _FAILED:
            self.say(repr(found))

    def do_pp(self, text: str) -> None:
        """Print a value pretty."""
        found = self.run(text, "eval")
        if found is not _FAILED:
            self.say(pprint.pformat(found))

    def default(self, line: str) -> None:
        """An expression or a statement."""
        if line == "EOF":
            return
        text = line.removeprefix("!").strip()
        try:
            compile(text, "<console>", "eval")
        except SyntaxError:
            self.run(text, "exec")
        else:
            found = self.run(text, "eval")
            if found is not _FAILED and found is not None:
                self.say(repr(found))

    def emptyline(self) -> bool:
        """Nothing."""
        return False

    def do_u(self, _: str) -> None:
        """To the caller."""
        self.move(1)

    def do_d(self, _: str) -> None:
        """Back to what it called."""
        self.move(-1)

    def move(self, by: int) -> None:
        """To another function."""
        if 0 <= self.at + by < len(self.stack):
            self.at += by
            self.show(self.at)
        else:
            self.say("*** Oldest frame" if by > 0 else "*** Newest frame")

    def do_l(self, _: str) -> None:
        """List the source."""
        f = self.here
        for n in range(max(1, f.line - 5), f.line + 6):
            text = linecache.getline(f.file, n)
            if text:
                self.say(f"{n:4} {'->' if n == f.line else '  '} {text.rstrip()}")

    def do_w(self, _: str) -> None:
        """List the functions."""
        for i in reversed(range(len(self.stack))):
            self.show(i)

    def do_a(self, _: str) -> None:
        """List the variables."""
        for name, value in self.here.variables.items():
            if not name.startswith("__"):
                self.say(f"{name} = {value!r}")

    def do_c(self, _: str) -> bool:
        """Go on."""
        return True

    def do_q(self, _: str) -> None:
        """Stop the program."""
        raise bdb.BdbQuit

    def do_help(self, _: str) -> None:
        """List the commands."""
        self.say(HELP.strip("\n"))

    do_up, do_down, do_list, do_where, do_bt, do_args = do_u, do_d, do_l, do_w, do_w, do_a
    do_cont = do_continue = do_EOF = do_c
    do_quit, do_h = do_q, do_help


_FAILED = object()
