"""The rooms that are compiled: plain enough for the compiler, and run only if they are current."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hardware.compiled import ROOT

PRICES = ("hardware.steps.prices", "hardware.steps.joint_prices")
ROOMS = [
    *(ROOT / f"{name.replace('.', '/')}.py" for name in PRICES),
    *(
        path
        for room in ("engine", "seen", "traffic")
        for path in sorted((ROOT / "sim" / room).rglob("[a-z]*.py"))
    ),
]
LIBRARY = {
    "array", "bisect", "collections", "collections.abc", "dataclasses", "heapq", "math",
    "mypy_extensions", "struct", "typing",
}  # fmt: skip


@pytest.mark.parametrize("path", ROOMS, ids=lambda path: path.name)
def test_it_is_plain_typed_python(path: Path) -> None:
    """No library that a compiler does not see through, nothing untyped, one base for a class."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert {each.name for each in node.names} <= LIBRARY
        if isinstance(node, ast.ImportFrom):
            own = node.module in (*PRICES, "sim.engine") or (node.module or "").startswith(
                ("sim.engine.", "sim.seen.", "sim.traffic.")
            )
            assert own or node.module in LIBRARY
            assert "Any" not in {each.name for each in node.names}
        if isinstance(node, ast.FunctionDef):
            assert node.args.kwarg is None
            assert node.args.vararg is None
        if isinstance(node, ast.ClassDef):
            assert len(node.bases) <= 1
            assert not node.keywords


def copied_rooms(folder: Path) -> None:
    for package in ("hardware", "sim/engine", "sim/seen", "sim/traffic"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__py*"))
    (folder / "sim/__init__.py").touch()


def runs(folder: Path, **environment: str) -> set[str]:
    """How the files end that the rooms are run from, in a fresh process."""
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in ROOMS]
    code = (
        "import sys, importlib; print(*(importlib.import_module(n).__file__ for n in sys.argv[1:]))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, *names],
        cwd=folder, env={**os.environ, "HEADROOM_PURE": "", **environment}, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    return {Path(file).suffix for file in told.stdout.split()}


def test_without_a_note_of_what_was_compiled_the_sources_run(tmp_path: Path) -> None:
    copied_rooms(tmp_path)
    (tmp_path / "hardware/compiled.sha256").unlink(missing_ok=True)
    for path in ROOMS:  # of who knows what
        place = tmp_path / path.relative_to(ROOT)
        shutil.copy(__file__, place.with_name(f"{place.stem}.abi3.so"))
    assert runs(tmp_path) == {".py"}


def test_a_source_that_changed_after_compiling_is_run_itself(tmp_path: Path) -> None:
    if not (ROOT / "hardware/compiled.sha256").is_file():
        pytest.skip("nothing is compiled here")
    copied_rooms(tmp_path)
    for shared in ROOT.glob("headroom__mypyc*"):
        shutil.copy(shared, tmp_path)
    assert runs(tmp_path) <= {".so", ".pyd"}
    assert runs(tmp_path, HEADROOM_PURE="1") == {".py"}
    with (tmp_path / "sim/engine/waiting.py").open("a", encoding="utf-8") as source:
        source.write("# changed\n")
    assert runs(tmp_path) == {".py"}
