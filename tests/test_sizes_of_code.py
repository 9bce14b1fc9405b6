"""Modules and functions are small, as CONTRIBUTING.md promises."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("model", "hardware", "workloads", "sim", "experiments", "benchmarks")
MOST_OF_A_FILE, MOST_OF_A_FUNCTION = 350, 60


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
    paths = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    assert len(paths) > 500
    long = [told for room in (*ROOMS, "tests") for told in too_long(room)]
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MOST_OF_A_FUNCTION:
                    long.append(f"{path.relative_to(ROOT)}: {node.name}, {lines} lines")
    assert not long
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert f"no file over {MOST_OF_A_FILE} lines, no function over {MOST_OF_A_FUNCTION}" in page
