"""What the reference says of the classes that a study can name: their rows, in a table."""

import ast
from pathlib import Path

from sim.routers.registry import ROUTERS
from sim.settings.registry import ORDERS, POLICIES

ROOT = Path(__file__).resolve().parents[2]


def class_rows() -> list[tuple[str, str, str]]:
    """Return key, name and meaning of every scheduling policy, queue order and router."""
    tables: tuple[tuple[str, dict[str, type]], ...] = (
        ("engine.scheduler", {**POLICIES}),
        ("engine.order", {**ORDERS}),
        ("cluster.router", {**ROUTERS}),
    )
    return [
        (f"`{key}`", f"`{name}`", _meaning(row))
        for key, rows in tables
        for name, row in rows.items()
    ]


def _meaning(of: type) -> str:
    """The first paragraph of a class's docstring: of its source, as a compiled class has none."""
    source = (ROOT / f"{of.__module__.replace('.', '/')}.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and node.name == of.__name__:
            text = ast.get_docstring(node) or ""
            return " ".join(text.split("\n\n")[0].split())
    raise AssertionError(f"{of.__name__} stands nowhere in {of.__module__}")
