"""The import rule: a package imports its own floor or lower ones, at module top level, without
cycles.
"""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent / "bevel"
FLOORS = {
    "core": 0,
    "ops": 1,
    "xla": 1,
    "transforms": 2,
    "control": 3,
    "numpy": 4,
    "random": 4,
    "api": 5,
    "lax": 5,
    "scipy": 5,
    "debug": 5,
    "nn": 6,
    "optim": 6,
    "data": 6,
    "linen": 6,
    "checkpoint": 7,
    "export": 7,
}
FILES = sorted(p for p in ROOT.rglob("*.py") if p.parent != ROOT or p.stem in FLOORS)
PEERS = {"jax", "flax", "optax", "torch"}


def package_of(path: pathlib.Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def module_name(path: pathlib.Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(p) for p in ROOT.rglob("*.py")}


def imports(tree: ast.AST):
    """Pairs of a line and a module that the tree imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, a.name) for a in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            for a in node.names:
                full = f"{node.module}.{a.name}"
                yield node.lineno, full if full in MODULES else node.module


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path):
    tree = ast.parse(path.read_text())
    floor = FLOORS[package_of(path)]
    for line, name in imports(tree):
        parts = name.split(".")
        if parts[0] != "bevel":
            continue
        assert len(parts) > 1, f"{path}:{line} imports the whole package"
        target = parts[1]
        assert FLOORS[target] <= floor, (
            f"{path}:{line}: {package_of(path)} imports {name}, a higher floor"
        )
        if {package_of(path), target} == {"ops", "xla"}:
            pytest.fail(f"{path}:{line}: ops and xla never import each other")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_bevel_is_imported_at_the_top_only(path):
    tree = ast.parse(path.read_text())
    top = {id(n) for n in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in top:
            names = [name for _, name in imports(ast.Module([node], []))]
            assert not any(n.split(".")[0] == "bevel" for n in names), f"{path}:{node.lineno}"


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_only_bindings_knows_jaxlib_and_nothing_a_peer(path):
    for line, name in imports(ast.parse(path.read_text())):
        first = name.split(".")[0]
        assert first not in PEERS, f"{path}:{line} imports the peer {first}"
        if first == "jaxlib":
            assert path.relative_to(ROOT).as_posix() == "xla/bindings.py", (
                f"{path}:{line} imports jaxlib"
            )


def test_no_cycles():
    graph = {}
    for path in ROOT.rglob("*.py"):
        found = {name for _, name in imports(ast.parse(path.read_text())) if name in MODULES}
        graph[module_name(path)] = found
    done, active = set(), []

    def visit(name):
        if name in active:
            pytest.fail("import cycle: " + " -> ".join([*active[active.index(name) :], name]))
        if name in done:
            return
        active.append(name)
        for other in graph.get(name, ()):
            visit(other)
        active.pop()
        done.add(name)

    for name in graph:
        visit(name)
