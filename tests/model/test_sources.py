"""A digest tells what a process imported, not what lies there by now."""

import os
import time
from pathlib import Path

import pytest

from model import sources
from model.sources import are_as_imported, content_digest, sources_digest


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that is as old as this test."""
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    (tmp_path / "room/within").mkdir(parents=True)
    (tmp_path / "room/within/part.py").write_text("A = 1\n", encoding="utf-8")
    (tmp_path / "room/table.yaml").write_text("a: 1\n", encoding="utf-8")
    return tmp_path / "room"


def digest() -> str:
    return sources_digest.__wrapped__("room")


def test_what_is_older_than_the_imports_has_the_digest_of_its_content(
    room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "IMPORTED_NS", time.time_ns() + 3_000_000_000)
    assert are_as_imported("room")
    before = digest()
    assert before == content_digest("room")
    (room / "notes.txt").write_text("no source", encoding="utf-8")
    assert digest() == before
    (room / "table.yaml").rename(room / "other.yaml")
    assert digest() != before


def test_what_changed_since_has_one_that_no_other_process_gets(
    room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.utime(room / "table.yaml", (0, 0))  # as an archive would that is unpacked over it
    os.utime(room / "within/part.py", (0, 0))
    assert not are_as_imported("room")
    ours = digest()
    assert ours != content_digest("room")
    assert ours == digest()
    monkeypatch.setattr(sources, "OF_THIS_PROCESS", b"another")
    assert digest() != ours
