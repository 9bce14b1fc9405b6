"""What is made of bundled files once is kept as long as it is what would be made again."""

import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hardware.engines import table
from hardware.gpu import gpu_names, load_gpu
from model import kept as module
from model.from_config import spec_from_config
from model.kept import kept
from model.shape import DecoderSpec
from model.spec import CATALOGUE, catalogue, load_spec
from model.text_file import read_json


@pytest.fixture(autouse=True)
def may_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(module, "are_as_imported", lambda room: True)


def counted() -> tuple[list[int], Callable[[], list[str]]]:
    """What makes something, and how often it was asked to."""
    calls: list[int] = []

    def make() -> list[str]:
        calls.append(1)
        return ["made"]

    return calls, make


def test_a_second_process_finds_what_the_first_one_made(tmp_path: Path) -> None:
    calls, make = counted()
    folder = tmp_path / "not yet there"
    assert kept("thing", make, folder) == kept("thing", make, folder) == ["made"]
    assert len(calls) == 1
    assert [path.suffix for path in folder.iterdir()] == [".kept"]


def test_other_code_makes_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, make = counted()
    kept("thing", make, tmp_path)
    monkeypatch.setattr(module, "_basis", lambda: b"other code\n")
    assert kept("thing", make, tmp_path) == ["made"]
    assert len(calls) == 2
    kept("thing", make, tmp_path)
    assert len(calls) == 2


def test_a_damaged_file_makes_it_again(tmp_path: Path) -> None:
    calls, make = counted()
    kept("thing", make, tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    basis = module._basis()
    unreadable = b"\ncno_such_module\nThing\n."
    damaged = [
        b"", b"short", basis, whole[:-3], whole[:-3] + b"abc", whole.replace(b"made", b"MADE"),
        basis + module._digest(unreadable) + b"\n" + unreadable,
    ]  # fmt: skip
    for number, content in enumerate(damaged):
        path.write_bytes(content)
        assert kept("thing", make, tmp_path) == ["made"]
        assert len(calls) == number + 2
        assert path.read_bytes() == whole


def test_other_shapes_of_classes_make_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def make() -> DecoderSpec:
        asked.append(1)
        return load_spec("opt-125m")

    assert kept("thing", make, tmp_path) == kept("thing", make, tmp_path)
    assert len(asked) == 1
    fields = dict(DecoderSpec.__dataclass_fields__)
    fields["added"] = fields["name"]
    monkeypatch.setattr(DecoderSpec, "__dataclass_fields__", fields)
    kept("thing", make, tmp_path)
    assert len(asked) == 2
    kept("thing", make, tmp_path)
    assert len(asked) == 2


def test_nothing_is_written_where_python_writes_no_byte_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    calls, make = counted()
    kept("thing", make, tmp_path)
    kept("thing", make, tmp_path)
    assert len(calls) == 2
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_costs_the_file_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    calls, make = counted()
    assert kept("thing", make, tmp_path / "file") == ["made"]
    assert len(calls) == 1


WAITING = """
import sys
from model import shape, sources, spec
sources.CLOCKS_NS = 0  # both are of this machine, and Python takes longer to start
print(hasattr(shape.DecoderSpec, "seen"), flush=True)
sys.stdin.readline()
if sys.argv[1:]:
    spec.read_json = None  # nothing is read
print(getattr(spec.load_spec("opt-125m"), "seen", "not there"), flush=True)
"""
"""A process that waits between its imports and its first model."""


def start(root: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Start it on the code in ``root``; byte code may be written."""
    environment = {**os.environ, "PYTHONPATH": str(root), "HEADROOM_PURE": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return subprocess.Popen(
        (sys.executable, "-c", WAITING, *arguments), cwd=root, env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def last_line(process: "subprocess.Popen[str]") -> str:
    told, errors = process.communicate("go on\n")
    assert process.returncode == 0, errors
    return told.splitlines()[-1]


def test_a_process_whose_files_change_meanwhile_leaves_nothing(tmp_path: Path) -> None:
    """It has imported classes that are no longer those of the files."""
    for room in ("model", "hardware"):
        ignored = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(module.ROOT / room, tmp_path / room, ignore=ignored)
    early = start(tmp_path)
    assert early.stdout is not None
    assert early.stdout.readline() == "False\n"
    path = tmp_path / "model" / "shape.py"
    before = path.read_text(encoding="utf-8")
    field = "    max_position_embeddings: int\n"
    assert before.count(field) == 1
    path.write_text(before.replace(field, field + "    seen: int = 7\n"), encoding="utf-8")
    assert last_line(early) == "not there"
    assert not list(tmp_path.rglob("*.kept*"))
    assert last_line(start(tmp_path)) == "7"
    assert [file.name.split(".")[0] for file in tmp_path.rglob("*.kept*")] == ["model-opt-125m"]
    assert last_line(start(tmp_path, "from what is kept")) == "7"
    late = start(tmp_path)
    assert late.stdout is not None
    assert late.stdout.readline() == "True\n"
    path.write_text(before, encoding="utf-8")  # other content, under which nothing was kept
    assert last_line(late) == "7"
    assert last_line(start(tmp_path)) == "not there"
    assert last_line(start(tmp_path, "from what is kept")) == "not there"


AT_ONCE = """
import os, sys
from pathlib import Path
from model.kept import kept
folder = Path(sys.argv[1])
for turn in range(100):
    assert kept("thing", lambda: list(range(20_000)), folder) == list(range(20_000))
    if turn % 3 == int(sys.argv[2]):
        for path in folder.glob("*.kept"):
            path.unlink(missing_ok=True)
"""
KILLED = """
import os, signal, sys
from pathlib import Path
from model import kept
os.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
kept.kept("thing", lambda: ["made"], Path(sys.argv[1]))
"""
FULL = """
import resource, sys
from pathlib import Path
from model.kept import kept
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
assert kept("thing", lambda: ["made"], Path(sys.argv[1])) == ["made"]
"""


def python(code: str, *arguments: object) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "PYTHONPATH": str(module.ROOT)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, cwd=module.ROOT)


def test_processes_at_once_find_whole_files(tmp_path: Path) -> None:
    processes = [python(AT_ONCE, tmp_path, number) for number in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert {path.suffix for path in tmp_path.iterdir()} <= {".kept"}


def test_a_process_killed_while_it_writes_leaves_nothing_that_is_read(tmp_path: Path) -> None:
    assert python(KILLED, tmp_path).wait() == -9
    (left,) = tmp_path.iterdir()
    calls, make = counted()
    assert kept("thing", make, tmp_path) == ["made"]
    assert len(calls) == 1
    (path,) = (each for each in tmp_path.iterdir() if each != left)
    path.unlink()
    os.utime(left, (0, 0))  # nobody writes for so long
    kept("thing", make, tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_costs_the_file_alone(tmp_path: Path) -> None:
    assert python(FULL, tmp_path).wait() == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_costs_the_file_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    calls, make = counted()
    assert kept("thing", make, tmp_path) == kept("thing", make, tmp_path) == ["made"]
    assert len(calls) == 2


def test_what_is_kept_is_what_the_files_say() -> None:
    assert pickle.loads(pickle.dumps(table.vllm())) == table._read()
    for name in gpu_names():
        assert pickle.loads(pickle.dumps(load_gpu(name))) == load_gpu(name)
    for name in catalogue():
        file = CATALOGUE / f"{name}.json"
        fresh = spec_from_config(read_json(file), name)
        assert load_spec(name) == fresh
        assert pickle.loads(pickle.dumps(fresh)) == fresh
