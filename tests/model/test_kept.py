"""What is made of bundled files once is kept as long as it is what would be made again."""

import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hardware.engines import table
from hardware.gpu import gpu_names, load_gpu
from model import kept as module
from model.from_config import spec_from_config
from model.kept import kept
from model.spec import CATALOGUE, catalogue, load_spec
from model.text_file import read_json


@pytest.fixture(autouse=True)
def may_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)


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


@pytest.mark.parametrize("content", [b"", b"short"])
def test_a_damaged_file_makes_it_again(tmp_path: Path, content: bytes) -> None:
    calls, make = counted()
    kept("thing", make, tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(content)
    kept("thing", make, tmp_path)
    path.write_bytes(whole[:-3])
    assert kept("thing", make, tmp_path) == ["made"]
    assert len(calls) == 3
    assert path.read_bytes() == whole


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


def test_what_is_kept_is_what_the_files_say() -> None:
    assert pickle.loads(pickle.dumps(table.vllm())) == table._read()
    for name in gpu_names():
        assert pickle.loads(pickle.dumps(load_gpu(name))) == load_gpu(name)
    for name in catalogue():
        file = CATALOGUE / f"{name}.json"
        fresh = spec_from_config(read_json(file), name)
        assert load_spec(name) == fresh
        assert pickle.loads(pickle.dumps(fresh)) == fresh
