"""What may import what, and how long a file may be."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST_LINES = 300

# edgert -> compiler -> quant, flashload, targets: a package and those it may import from
ARROWS = {
    "edgert": {"edgert", "compiler", "quant", "flashload", "targets"},
    "compiler": {"compiler", "quant", "flashload", "targets"},
    "quant": {"quant", "targets"},
    "flashload": {"flashload", "targets"},
    "targets": {"targets"},
}
OUTSIDE = {"benchmarks", "examples", "tests", "hatch_build"}  # of the product, which does not know them
BASE = ["edgert", "edgert.runner", "edgert.artifact"]  # what runs where only the base install is


def _files(package: str) -> dict[str, Path]:
    """Module name -> file, of every module of a package."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


FILES = {name: path for package in ARROWS for name, path in _files(package).items()}


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _nodes(tree: ast.AST, when_imported: bool) -> Iterator[ast.AST]:
    """Every node below `tree`; `when_imported` leaves out what importing the module does not run."""
    for node in ast.iter_child_nodes(tree):
        if when_imported and (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _is_for_types(node)):
            continue
        yield node
        yield from _nodes(node, when_imported)


def _imports(module: str, when_imported: bool = False) -> set[str]:
    """The modules that `module` imports by name; `from a import b` counts as a.b where that is a module, else as a."""
    path = FILES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in _nodes(ast.parse(path.read_text(), str(path)), when_imported):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {f"{base}.{a.name}" if f"{base}.{a.name}" in FILES else base for a in node.names}
    return found


def _reached(start: str) -> set[str]:
    """All that importing `start` imports, through modules of this repository and the packages they stand in."""
    seen: set[str] = set()
    open_ = [start]
    while open_:
        module = open_.pop()
        if module in seen:
            continue
        seen.add(module)
        if "." in module:
            open_.append(module.rpartition(".")[0])
        if module in FILES:
            open_.extend(_imports(module, when_imported=True))
    return seen


@pytest.mark.parametrize("package", ARROWS)
def test_imports_follow_the_arrows(package: str) -> None:
    forbidden = (set(ARROWS) | OUTSIDE) - ARROWS[package]
    modules = [name for name in FILES if name.split(".")[0] == package]
    assert modules
    wrong = [f"{m} imports {i}" for m in modules for i in sorted(_imports(m)) if i.split(".")[0] in forbidden]
    assert wrong == []


@pytest.mark.parametrize("module", BASE)
def test_the_base_needs_numpy_alone(module: str) -> None:
    allowed = {"edgert", "flashload", "targets", "numpy"} | sys.stdlib_module_names
    reached = _reached(module)
    assert f"{module.split('.')[0]}.errors" in reached  # so imports are followed
    assert sorted(name for name in reached if name.split(".")[0] not in allowed) == []


def test_importing_the_targets_needs_nothing() -> None:
    assert {name.split(".")[0] for name in _reached("targets")} <= {"targets"} | sys.stdlib_module_names


def test_no_file_is_long() -> None:
    folders = [*ARROWS, "benchmarks", "examples", "tests"]
    files = [p for folder in folders for kind in ("py", "c", "h", "zig") for p in (ROOT / folder).rglob(f"*.{kind}")]
    assert len(files) > len(FILES)
    lengths = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in files}
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}
