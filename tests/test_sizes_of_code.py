"""Modules and functions are small, as CONTRIBUTING.md promises, and no modules need each other."""

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("model", "hardware", "workloads", "sim", "experiments", "benchmarks")
MOST_OF_A_FILE, MOST_OF_A_FUNCTION = 350, 60


@cache
def parsed() -> dict[Path, ast.Module]:
    """Every file of the rooms."""
    paths = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def too_long(room: str) -> list[str]:
    """Files of a room, tests among them, that are too long."""
    lines = {
        path: path.read_text(encoding="utf-8").count("\n") for path in (ROOT / room).rglob("*.py")
    }
    assert lines
    return [
        f"{path.relative_to(ROOT)}: {count} lines"
        for path, count in sorted(lines.items())
        if count > MOST_OF_A_FILE
    ]


def test_no_file_and_no_function_is_long() -> None:
    assert len(parsed()) > 500
    long = [told for room in (*ROOMS, "tests") for told in too_long(room)]
    for path, tree in parsed().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MOST_OF_A_FUNCTION:
                    long.append(f"{path.relative_to(ROOT)}: {node.name}, {lines} lines")
    assert not long
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert f"no file over {MOST_OF_A_FILE} lines, no function over {MOST_OF_A_FUNCTION}" in page


def test_no_modules_need_each_other() -> None:
    """Neither for types alone, nor in functions: a package's ``__init__`` hands names on."""
    names = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): tree
        for path, tree in parsed().items()
        if path.name != "__init__.py"
    }
    needs: dict[str, set[str]] = {name: set() for name in names}
    for name, tree in names.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                parts = {node.module, *(f"{node.module}.{each.name}" for each in node.names)}
                needs[name] |= parts & names.keys()
            elif isinstance(node, ast.Import):
                needs[name] |= {each.name for each in node.names} & names.keys()
    assert sum(map(len, needs.values())) > 2000
    TopologicalSorter(needs).prepare()  # raises CycleError, which names the modules
