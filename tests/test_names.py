"""Every public name of JAX's array modules is in Bevel, or in docs/missing.md with a reason."""

import enum
import fnmatch
import importlib
import importlib.util
import inspect
import pathlib
import re

import pytest

from tests.peers import peer

TABLE = pathlib.Path(__file__).parent.parent / "docs" / "missing.md"
ROWS = re.findall(r"^\| `jax\.([\w.]+)` \| `(\S+)` \| (.+) \|$", TABLE.read_text(), re.M)


def scipy_modules():
    """jax.scipy with all its public modules; none where JAX is not installed."""
    spec = importlib.util.find_spec("jax")
    if spec is None or spec.origin is None:
        return []
    root = pathlib.Path(spec.origin).parent
    files = [p.relative_to(root).with_suffix("").parts for p in (root / "scipy").rglob("*.py")]
    names = [p[:-1] if p[-1] == "__init__" else p for p in files]
    return sorted({".".join(p) for p in names if not any(n.startswith("_") for n in p)})


MODULES = [
    "numpy",
    "numpy.linalg",
    "numpy.fft",
    "lax",
    "lax.linalg",
    "random",
    "tree",
    *scipy_modules(),
]
WITH_ARGUMENTS = [
    "lax",
    "lax.linalg",
    "numpy.fft",
    *[name for name in scipy_modules() if not name.startswith("scipy.stats.")],
]
"""Modules whose functions take JAX's arguments, by their names (laws of `scipy.stats` take the
place or probability by position).
"""

NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def public(module):
    """Names of a module, and of the members of its enumerations."""
    names = {n for n in dir(module) if not n.startswith("_")}
    kinds = {n: getattr(module, n) for n in names if inspect.isclass(getattr(module, n, None))}
    enums = {n: c.__members__ for n, c in kinds.items() if issubclass(c, enum.Enum)}
    return names | {f"{n}.{member}" for n, members in enums.items() for member in members}


def both(name):
    """A module of JAX and what has its name in Bevel: a module, or one object (`stats.norm`)."""
    first, *rest = name.split(".")
    mine = importlib.import_module(f"bevel.{first}")
    for part in rest:
        mine = getattr(mine, part)
    return peer(f"jax.{name}"), mine


def excused(module, name):
    return any(m == module and fnmatch.fnmatchcase(name, pattern) for m, pattern, _ in ROWS)


def parameters(fn):
    """The names of a function's arguments, None if it is none, has no signature or takes any."""
    if not callable(fn) or inspect.isclass(fn):
        return None
    try:
        found = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in found):
        return None
    return {p.name for p in found if p.kind in NAMED}


def missing_arguments(theirs, mine):
    """`f(argument)` for every argument that a function of JAX takes and ours does not."""
    out = set()
    for name in public(theirs) & public(mine):
        if "." in name:
            continue
        wanted, taken = parameters(getattr(theirs, name)), parameters(getattr(mine, name))
        if wanted is not None and taken is not None:
            out |= {f"{name}({argument})" for argument in wanted - taken}
    return out


@pytest.mark.parametrize("name", MODULES)
def test_no_name_is_missing(name):
    theirs, mine = both(name)
    missing = sorted(n for n in public(theirs) - public(mine) if not excused(name, n))
    assert not missing, f"bevel.{name} lacks {missing}: write them, or say why not in {TABLE.name}"


@pytest.mark.parametrize("name", WITH_ARGUMENTS)
def test_no_argument_is_missing(name):
    missing = sorted(a for a in missing_arguments(*both(name)) if not excused(name, a))
    assert not missing, f"bevel.{name} lacks {missing}: take them, or say why not in {TABLE.name}"


@pytest.mark.parametrize(("module", "pattern", "why"), ROWS, ids=[f"{m}.{p}" for m, p, _ in ROWS])
def test_row_is_true(module, pattern, why):
    """What is listed is in JAX and not in Bevel, and the reason is one."""
    assert module in MODULES and len(why.split()) > 3
    theirs, mine = both(module)
    if "(" in pattern:
        assert fnmatch.filter(missing_arguments(theirs, mine), pattern), "it is taken, or unknown"
        return
    assert fnmatch.filter(public(theirs), pattern), f"jax.{module} has no {pattern}"
    found = fnmatch.filter(public(mine), pattern)
    assert not found, f"bevel.{module} has {found}: remove the row"


def test_every_row_is_read():
    lines = [line for line in TABLE.read_text().splitlines() if line.startswith("| `")]
    assert len(lines) == len(ROWS) > 0
    assert len({row[:2] for row in ROWS}) == len(ROWS)
